//! Runs: a task outlives its launcher, is come back to, and is never launched twice, whenever the launcher is killed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::start_cluster;
use crate::harness::{Ended, IMAGE, Launch, Reader, Running, Stage, closed_port, read};

/// Counts its runs in a file, writes the numbers from 1 to 20 within two seconds, and exits with 7.
const COUNTED: &str =
    "echo run >>/files/runs; i=1; while [ $i -le 20 ]; do echo $i; i=$((i+1)); sleep 0.1; done; echo end >&2; exit 7";

/// A stage with a cluster in the foreground.
struct Cluster {
    cluster: Running,
    master: String,
    volume: String,
    stage: Stage,
}

impl Cluster {
    fn start(options: &[&str]) -> Self {
        let stage = Stage::new();
        let (cluster, address) = start_cluster(&stage, options);
        let volume = format!("{}:/files", stage.files().display());
        Self { cluster, master: format!("--master={address}"), volume, stage }
    }

    fn launch(&self, options: &[&str], script: &str) -> Launch {
        let always = [self.master.as_str(), "--cpus=0.1", "--mem=32", "-v", &self.volume];
        self.word(&[&always, options, &[IMAGE, script]].concat())
    }

    /// Journals are the test's own files: they may stay.
    fn word(&self, words: &[&str]) -> Launch {
        self.stage.launcher(words).env("XDG_STATE_HOME", &self.state().display().to_string())
    }

    fn state(&self) -> PathBuf {
        self.stage.files().join("state")
    }

    fn runs(&self) -> usize {
        let path = self.stage.files().join("runs");
        if path.exists() { read(&path).split(|byte| *byte == b'\n').count() - 1 } else { 0 }
    }

    fn end(self) {
        self.cluster.interrupt();
        self.cluster.finish();
    }
}

fn numbers() -> String {
    (1..=20).map(|number| format!("{number}\n")).collect()
}

fn kill(launch: Running) -> Ended {
    launch.signal(Signal::KILL);
    let ended = launch.finish();
    assert_eq!(ended.signal, Some(9), "{}", ended.said());
    ended
}

fn text(ended: &Ended) -> String {
    String::from_utf8(ended.stdout.clone()).unwrap()
}

#[test]
fn a_detached_task_runs_on_and_is_come_back_to() {
    let cluster = Cluster::start(&[]);
    let ended = cluster.launch(&["--detach", "--quiet", "--name=job"], COUNTED).run();
    ended.expect_code(0).expect_stderr("");
    let id = text(&ended).trim_end().to_owned();
    assert!(id.starts_with("job-"), "{id}");
    let listed = cluster.word(&["ps"]).run();
    let line = text(&listed).lines().nth(1).unwrap().to_owned();
    assert!(line.starts_with(&id) && line.contains(" running ") && line.contains(" - "), "{line}");
    let ended = cluster.word(&["attach", "--quiet", "job"]).run();
    ended.expect_code(7).expect_stdout(numbers()).expect_stderr("end\n");
    let again = cluster.word(&["attach", &id]).run();
    again.expect_code(7).expect_stdout("").expect_words(&["has ended before, with code 7"]);
    assert!(text(&cluster.word(&["ps"]).run()).contains("exited 7"));
    assert_eq!(cluster.runs(), 1);
    cluster.end();
}

#[test]
fn a_launcher_that_is_killed_at_any_moment_is_continued_by_the_same_command_line() {
    let cluster = Cluster::start(&[]);
    // From before its first connection to the middle of the output.
    for (number, delay) in [0, 10, 30, 60, 100, 150, 200, 300, 400, 600, 900, 1500].into_iter().enumerate() {
        let run = format!("--run-id=r{number}");
        let launch = cluster.launch(&["--quiet", &run], COUNTED).start();
        std::thread::sleep(Duration::from_millis(delay));
        let before = kill(launch);
        let after = cluster.launch(&["--quiet", &run], COUNTED).run();
        after.expect_code(7);
        assert_joined(&[&before, &after], numbers().as_bytes());
        assert_eq!(cluster.runs(), number + 1, "killed after {delay} ms");
    }
    cluster.end();
}

#[test]
fn a_launcher_that_is_killed_again_and_again_delivers_everything_once() {
    let cluster = Cluster::start(&[]);
    // Into a file: there, what was delivered is known to the byte.
    let out = cluster.stage.files().join("out");
    let launch = || cluster.launch(&["--quiet", "--run-id=again"], COUNTED).stdout_to(&out);
    for lines in [1, 4, 7, 10, 13] {
        let launch = launch().start();
        wait_until(|| read(&out).split(|byte| *byte == b'\n').count() > lines);
        kill(launch);
    }
    launch().run().expect_code(7);
    assert_eq!(String::from_utf8(read(&out)).unwrap(), numbers());
    assert_eq!(cluster.runs(), 1);
    cluster.end();
}

#[test]
fn a_launcher_that_is_killed_before_it_has_a_master_or_an_offer_has_launched_nothing() {
    let cluster = Cluster::start(&["--resources=cpus:0.15;mem:256"]);
    let nowhere = format!("--master={}", closed_port());
    let launch = cluster.launch(&[&nowhere, "--run-id=early"], COUNTED).start();
    launch.wait_for_stderr("trying again");
    kill(launch);
    let first = cluster.launch(&["--quiet"], "echo up; sleep 60").start();
    first.wait_for_stdout("up");
    let launch = cluster.launch(&["--run-id=early"], COUNTED).start();
    launch.wait_for_stderr("cpus");
    kill(launch);
    let ended = cluster.word(&["attach", "early"]).run();
    ended.expect_code(125).expect_one_line(&["was never launched", "--run-id=early"]);
    assert_eq!(cluster.runs(), 0);
    first.interrupt();
    first.finish();
    cluster.launch(&["--quiet", "--run-id=early"], COUNTED).run().expect_code(7).expect_stdout(numbers());
    assert_eq!(cluster.runs(), 1);
    cluster.end();
}

#[test]
fn a_launcher_that_is_killed_after_the_end_of_its_task_has_its_output_and_code_delivered() {
    const LONG: &str =
        "echo run >>/files/runs; head -c 3000000 /dev/zero | tr '\\0' x; echo done >>/files/done; exit 5";
    let cluster = Cluster::start(&[]);
    let launch = cluster.launch(&["--quiet", "--run-id=late"], LONG).stdout(Reader::Stalled).start();
    wait_for(&cluster.stage.files().join("done"));
    let journal = cluster.state().join("launch-container/runs/late/journal");
    wait_until(|| std::fs::read_to_string(&journal).is_ok_and(|text| text.contains(r#""record":"over""#)));
    let before = kill(launch);
    assert!(before.stdout.len() < 3_000_000);
    let after = cluster.word(&["attach", "--quiet", "late"]).run();
    after.expect_code(5);
    assert_joined(&[&before, &after], &[b'x'; 3_000_000]);
    assert_eq!(cluster.runs(), 1);
    cluster.launch(&["--run-id=late"], LONG).run().expect_code(5).expect_stdout("").expect_words(&["ended before"]);
    cluster.end();
}

#[test]
fn a_run_has_one_launcher_and_the_second_hears_which_one_that_is() {
    let cluster = Cluster::start(&[]);
    let first = cluster.launch(&["--quiet", "--run-id=one"], COUNTED).start();
    first.wait_for_stdout("1\n");
    let pid = first.pid().to_string();
    for second in [cluster.launch(&["--run-id=one"], COUNTED), cluster.word(&["attach", "one"])] {
        second.run().expect_code(125).expect_one_line(&[
            "run one is in the hands of",
            &pid,
            "launch-container wait one",
        ]);
    }
    assert!(text(&cluster.word(&["ps"]).run()).contains(&pid));
    let waiting = cluster.word(&["wait", "one"]).start();
    cluster.launch(&["--run-id=one"], "echo other").run().expect_code(125);
    first.finish().expect_code(7).expect_stdout(numbers());
    waiting.finish().expect_code(7).expect_stdout("");
    let other = cluster.launch(&["--run-id=one"], "echo other").run();
    other.expect_code(125).expect_one_line(&["another command line"]);
    assert_eq!(cluster.runs(), 1);
    cluster.end();
}

#[test]
fn a_hang_up_or_a_third_interrupt_leaves_a_run_to_be_come_back_to() {
    let cluster = Cluster::start(&[]);
    let launch = cluster.launch(&["--run-id=left"], COUNTED).start();
    launch.wait_for_stdout("3\n");
    launch.signal(Signal::HUP);
    let before = launch.finish();
    before.expect_code(129).expect_words(&["launch-container attach left"]);
    let after = cluster.word(&["attach", "--quiet", "left"]).run();
    after.expect_code(7);
    assert_joined(&[&before, &after], numbers().as_bytes());

    const STUBBORN: &str = "trap 'echo no' TERM; echo up; while :; do sleep 0.1; done";
    let launch = cluster.launch(&["--run-id=stubborn", "--kill-grace=1h"], STUBBORN).start();
    launch.wait_for_stdout("up");
    launch.interrupt();
    launch.wait_for_stderr("ending the task");
    for _ in 0..2 {
        // Signals of one kind that are pending at the same time are one signal.
        std::thread::sleep(Duration::from_millis(50));
        launch.interrupt();
    }
    launch.finish().expect_code(130);
    // The second one had no grace.
    cluster.word(&["wait", "--quiet", "stubborn"]).run().expect_code(130);
    cluster.end();
}

#[test]
fn a_run_is_ended_by_its_id_whoever_has_it() {
    const SLEEPER: &str = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done";
    let cluster = Cluster::start(&[]);
    cluster.launch(&["--detach", "--run-id=alone"], SLEEPER).run().expect_code(0).expect_stdout("alone\n");
    cluster.word(&["kill", "--quiet", "alone"]).run().expect_code(0).expect_stdout("").expect_stderr("");
    cluster.word(&["logs", "alone"]).run().expect_code(0).expect_stdout("up\nbye\n");
    let launch = cluster.launch(&["--quiet", "--run-id=held"], SLEEPER).start();
    launch.wait_for_stdout("up");
    cluster.word(&["kill", "held"]).run().expect_code(0);
    launch.finish().expect_code(143).expect_stdout("up\nbye\n");
    let inspected = cluster.word(&["inspect", "held"]).run();
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["end"]["kind"], "interrupted");
    assert_eq!((&inspected["stdout_delivered"], &inspected["is_delivered"]), (&7.into(), &true.into()));
    cluster.end();
}

#[test]
fn the_logs_of_a_running_task_are_read_without_taking_it_from_anybody() {
    let cluster = Cluster::start(&[]);
    let launch = cluster.launch(&["--quiet", "--run-id=read"], COUNTED).start();
    launch.wait_for_stdout("5\n");
    let logs = cluster.word(&["logs", "read"]).run();
    logs.expect_code(0);
    assert!(numbers().starts_with(&text(&logs)) && logs.stdout.len() >= 10, "{}", logs.said());
    launch.finish().expect_code(7).expect_stdout(numbers());
    cluster.end();
}

#[test]
fn what_cannot_be_a_run_is_refused() {
    let stage = Stage::new();
    for option in ["--detach", "--run-id=x"] {
        let name = option.split('=').next().unwrap();
        stage.local(&[option], &["true"]).run().expect_code(125).expect_one_line(&[name, "launch-container local"]);
    }
    let options = ["--master=127.0.0.1:1", "--run-id=../x", IMAGE];
    stage.launcher(options).run().expect_code(125).expect_one_line(&["--run-id", "../x"]);
    for word in ["attach", "logs", "wait", "kill", "inspect"] {
        stage.launcher([word, "nothing"]).run().expect_code(125).expect_one_line(&["nothing", "launch-container ps"]);
    }
    stage.launcher(["ps"]).run().expect_code(0);
}

/// What several launchers have delivered is the whole. At each seam a few bytes may come twice, if the launcher was killed between
/// writing them into a pipe and noting that; nothing is missing.
fn assert_joined(parts: &[&Ended], whole: &[u8]) {
    let mut joined = parts[0].stdout.clone();
    for part in &parts[1..] {
        let next = &part.stdout;
        let surplus = (joined.len() + next.len()).saturating_sub(whole.len());
        assert!(surplus <= rustix::pipe::PIPE_BUF, "{surplus} bytes came twice; {}", part.said());
        assert_eq!(
            joined[joined.len() - surplus..],
            next[..surplus],
            "what came twice is not the same; {}",
            part.said()
        );
        joined.extend_from_slice(&next[surplus..]);
    }
    assert!(joined == whole, "{}", parts[parts.len() - 1].said());
}

fn wait_for(path: &Path) {
    wait_until(|| path.exists());
}

/// Nothing else tells of a change in a file.
fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "it never happens");
        std::thread::sleep(Duration::from_millis(20));
    }
}
