//! What the commonest failures look like, as text and as JSON: `docs/failures.md` holds them, and these tests compare.
//!
//! Where a failure depends on the version of Mesos or of Docker, a master plays it (`Scripted`), so that its words are always the same.

use std::fmt::Write as _;
use std::path::Path;

use proto::mesos::TaskState;
use proto::mesos::task_status::{Reason, Source};
use regex_lite::Regex;
use serde_json::Value;

use crate::cluster::start_cluster;
use crate::harness::{Ended, IMAGE, Script, Scripted, Stage, closed_port};

const DOCUMENT: &str = include_str!("../../docs/failures.md");

/// What lines of the launcher begin with.
const OWN: &str = "launch-container: ";

/// A failure as it stands in the document.
struct Failure {
    title: &'static str,
    /// The command, as people write it.
    shown: &'static str,
    /// Where the master is; `local` for a cluster in the launcher.
    master: String,
    words: Vec<&'static str>,
}

impl Failure {
    /// Runs it twice and compares with the document.
    #[track_caller]
    fn expect(&self, stage: &Stage, code: i32) {
        let run = |format: &str| {
            let words: Vec<String> =
                [format!("--master={}", self.master), format!("--format={format}")].into_iter().collect();
            let ended = stage.launcher(words.iter().map(String::as_str).chain(self.words.iter().copied())).run();
            ended.expect_code(code);
            ended
        };
        let (text, json) = (run("text"), run("json"));
        let mut section = format!("## {}\n\n    {}\n\n```text\n{}```\n\n", self.title, self.shown, self.text(&text));
        let _ = write!(section, "Exit code {code}.\n\n```json\n{}```\n", self.events(&json));
        assert!(DOCUMENT.contains(&section), "docs/failures.md must hold this:\n{section}\n<END>");
    }

    /// What is on stderr, the task's lines first, without the steps that went well: when they come beside the task's output differs
    /// from run to run.
    fn text(&self, ended: &Ended) -> String {
        let steps = ["connected to ", "launching task ", "waiting for an offer "];
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let (own, of_task): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.starts_with(OWN));
        let is_step = |line: &&str| {
            let text = &line[OWN.len()..];
            steps.iter().any(|step| text.starts_with(step))
                || (text.starts_with("task ") && text.contains(" is running"))
        };
        let own = own.into_iter().filter(|line| !is_step(line));
        self.plain(&of_task.into_iter().chain(own).map(|line| format!("{line}\n")).collect::<String>())
    }

    /// Of the events, those that tell of the end, and of them what is the same in each run.
    fn events(&self, ended: &Ended) -> String {
        let fields = [
            "event",
            "state",
            "reason",
            "source",
            "message",
            "text",
            "kind",
            "exit_code",
            "signal",
            "launcher_exit_code",
        ];
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let is_over = |event: &Value| {
            let state = event["state"].as_str().unwrap_or_default();
            let is_last = !["TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING"].contains(&state);
            ["end", "notice"].contains(&event["event"].as_str().unwrap_or_default())
                || (event["event"] == "status" && is_last)
        };
        let lines = events.filter(is_over).map(|event| {
            let kept = fields.iter().filter(|field| event.get(**field).is_some_and(|value| !value.is_null()));
            let kept: Vec<String> = kept.map(|field| format!("\"{field}\":{}", event[*field])).collect();
            format!("{{{}}}\n", kept.join(","))
        });
        self.plain(&lines.collect::<String>())
    }

    /// Without what differs from run to run.
    fn plain(&self, text: &str) -> String {
        let text = text.replace(&self.master, "MASTER");
        let id = Regex::new(r"\b([a-z]+)-[0-9a-f]{8}\b").unwrap().replace_all(&text, "$1-ID").into_owned();
        Regex::new(r"trying again in [0-9.]+s").unwrap().replace_all(&id, "trying again in 0.2s").into_owned()
    }
}

/// On a cluster in the launcher.
fn local(title: &'static str, shown: &'static str, words: &[&'static str]) -> Failure {
    Failure { title, shown, master: "local".to_owned(), words: words.to_vec() }
}

/// On a master that plays it.
fn played(scripted: &Scripted, title: &'static str, shown: &'static str, words: &[&'static str]) -> Failure {
    Failure { title, shown, master: scripted.address().to_owned(), words: words.to_vec() }
}

#[test]
fn an_unknown_image_on_a_real_agent() {
    let message = "Failed to launch container: Failed to run 'docker -H unix:///var/run/docker.sock pull nosuch:1': exited \
                   with status 1; stderr='Error response from daemon: pull access denied for nosuch, repository does not \
                   exist or may require 'docker login': denied: requested access to the resource is denied\n'";
    let scripted = Scripted::start(Script {
        statuses: vec![(TaskState::TaskFailed, Some(Reason::ContainerLaunchFailed), Source::Agent, message)],
        ..Script::default()
    });
    played(&scripted, "Unknown image", "launch-container --master=MASTER nosuch:1 true", &["nosuch:1", "true"])
        .expect(&Stage::new(), 125);
}

#[test]
fn a_command_that_is_not_found() {
    local("Command not found", "launch-container --master=local busybox no-such-command", &[IMAGE, "no-such-command"])
        .expect(&Stage::new(), 127);
}

#[test]
fn a_command_that_is_not_found_by_mesos_own_executor() {
    let scripted = Scripted::start(Script {
        statuses: vec![
            (TaskState::TaskRunning, None, Source::Executor, ""),
            (TaskState::TaskFailed, None, Source::Executor, "Container exited with status 127"),
        ],
        output: [
            "Registered docker executor on a1.example\nStarting task TASK\n",
            "docker: Error response from daemon: OCI runtime create failed: exec: \"/bin/nosuch\": no such file or directory.\n",
        ],
        version: "1.0.4",
    });
    let shown = "launch-container --master=MASTER busybox /bin/nosuch argument";
    played(
        &scripted,
        "Command not found, on an agent with Mesos' own executor",
        shown,
        &["busybox", "/bin/nosuch", "argument"],
    )
    .expect(&Stage::new(), 127);
}

#[test]
fn a_task_that_fails() {
    let words = [IMAGE, "echo cannot open /data >&2; exit 3"];
    let shown = "launch-container --master=local busybox 'echo cannot open /data >&2; exit 3'";
    local("A task that fails", shown, &words).expect(&Stage::new(), 3);
}

#[test]
fn a_task_that_is_killed() {
    let scripted = Scripted::start(Script {
        statuses: vec![
            (TaskState::TaskRunning, None, Source::Executor, ""),
            (TaskState::TaskFailed, None, Source::Executor, "Command terminated with signal Killed"),
        ],
        ..Script::default()
    });
    let shown = "launch-container --master=MASTER --containerizer=mesos --no-image 'kill -9 $$'";
    played(&scripted, "A task that a signal ended", shown, &["--containerizer=mesos", "--no-image", "kill -9 $$"])
        .expect(&Stage::new(), 137);
}

#[test]
fn a_task_without_enough_memory() {
    let shown = "launch-container --master=local --mem=16 busybox 'tail /dev/zero'";
    let stage = Stage::new();
    let failure = local("Out of memory", shown, &["--mem=16", IMAGE, "tail /dev/zero"]);
    // How much it had at most depends on the kernel.
    let peak =
        |text: &str| Regex::new(r"\(peak [0-9.]+ MB\)").unwrap().replace_all(text, "(peak 16.0 MB)").into_owned();
    let run = |format| stage.local(&["--mem=16", format], &["tail /dev/zero"]).run();
    let (text, json) = (run("--format=text"), run("--format=json"));
    text.expect_code(137);
    json.expect_code(137);
    let mut section = format!("## {}\n\n    {shown}\n\n```text\n{}```\n\n", failure.title, peak(&failure.text(&text)));
    let _ = write!(section, "Exit code 137.\n\n```json\n{}```\n", peak(&failure.events(&json)));
    assert!(DOCUMENT.contains(&section), "docs/failures.md must hold this:\n{section}\n<END>");
}

#[test]
fn a_task_that_no_offer_fits() {
    let words = ["--cpus=1000", "--offer-timeout=3s", IMAGE, "true"];
    let shown = "launch-container --master=MASTER --cpus=1000 --offer-timeout=3s busybox true";
    let stage = Stage::new();
    let (cluster, address) = start_cluster(&stage, &["--resources=cpus:4;mem:1024"]);
    Failure { title: "No offer fits", shown, master: address, words: words.to_vec() }.expect(&stage, 124);
    cluster.interrupt();
    cluster.finish();
}

#[test]
fn no_master() {
    let shown = "launch-container --master=MASTER --quiet --connect-timeout=1s busybox true";
    let failure = Failure {
        title: "No master",
        shown,
        master: closed_port(),
        words: vec!["--quiet", "--connect-timeout=1s", "busybox", "true"],
    };
    failure.expect(&Stage::new(), 125);
}

#[test]
fn wrong_credentials() {
    let stage = Stage::new();
    let right = stage.private_file("secret", "right");
    stage.private_file("wrong", "wrong");
    let (cluster, address) = start_cluster(&stage, &["--principal=ada", &format!("--secret-file={right}")]);
    let shown = "launch-container --master=MASTER --principal=ada --secret-file=wrong busybox true";
    let words = vec!["--principal=ada", "--secret-file=wrong", "busybox", "true"];
    Failure { title: "Wrong credentials", shown, master: address, words }.expect(&stage, 125);
    cluster.interrupt();
    cluster.finish();
}

#[test]
fn a_task_that_runs_for_too_long() {
    let shown = "launch-container --master=local --timeout=1s --kill-grace=0 busybox 'sleep 60'";
    local("Timed out", shown, &["--timeout=1s", "--kill-grace=0", IMAGE, "sleep 60"]).expect(&Stage::new(), 124);
}

#[test]
fn an_agent_that_is_lost() {
    let scripted = Scripted::start(Script {
        version: "1.0.4",
        statuses: vec![
            (TaskState::TaskRunning, None, Source::Executor, ""),
            (
                TaskState::TaskLost,
                Some(Reason::AgentRemoved),
                Source::Master,
                "Slave a1.example removed: health check timed out",
            ),
        ],
        output: ["", ""],
    });
    let shown = "launch-container --master=MASTER busybox 'sleep 60'";
    played(&scripted, "Agent lost", shown, &["busybox", "sleep 60"]).expect(&Stage::new(), 125);
}

#[test]
fn every_failure_of_the_document_is_one_of_these() {
    let source =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/launch/transcripts.rs")).unwrap();
    let titles: Vec<&str> = DOCUMENT.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert!(titles.len() >= 10, "{titles:?}");
    for title in titles {
        assert!(source.contains(&format!("\"{title}\"")), "{title}");
    }
}
