//! PURE: what agents, masters and executors say when a task did not end by itself, in plain words and with the next step.
//!
//! ```text
//! message --known dialect--> its words; its step      ("pull access denied ..." -> check the image's name ...)
//!    |  '-unknown----------> the message; the step of the reason, else of the state
//!    '-empty---------------> the words of the reason, else of the state; the same step
//! ```
//!
//! A dialect goes before a reason, because it says more: REASON_CONTAINER_LAUNCH_FAILED is said of an unknown image and of a full disk.
//! The text as it came stays in the `status` event of `--format=json`. `tests/fixtures/messages.jsonl` holds what each generation of
//! Mesos says, and what is made of it.

use std::borrow::Cow;

use proto::mesos::task_status::Reason;
use proto::mesos::{TaskState, TaskStatus};

/// One line: what happened, and what to do about it.
pub(in super::super) fn explain(status: &TaskStatus) -> String {
    // Number 0 is a real reason: only its presence says that there is one.
    let reason = status.reason.and_then(|number| Reason::try_from(number).ok());
    let message = one_line(status.message());
    if let Some((dialect, detail)) = recognise(&message) {
        return match dialect.words {
            Words::Own => format!("{message}; {}", dialect.step),
            Words::Plain(words) if detail.is_empty() => format!("{words}; {}", dialect.step),
            Words::Plain(words) => {
                let image = image_of_pull(&message).filter(|image| !detail.contains(without_tag(image)));
                // What the words end with is named.
                let name = image.filter(|_| words.ends_with("the image")).map(|image| format!(" {image}"));
                format!("{words}{} ({detail}); {}", name.unwrap_or_default(), dialect.step)
            }
        };
    }
    let (words, step) = match reason {
        Some(reason) => of_reason(reason),
        None => of_state(status.state()),
    };
    let what = if message.is_empty() { Cow::Borrowed(words) } else { message };
    format!("{what}; {step}")
}

/// What is worth saying of a code that Mesos' own docker executor reports, which knows only the code of the docker client.
pub(super) fn remark(code: u8) -> Option<String> {
    let why = match code {
        125 => {
            "it may be Docker's own, which then says on stderr why it could not create the container: check the options"
        }
        126 => "it may be Docker's own: the command is there, but could not be started; check that it is executable",
        127 => "it may be Docker's own: the image has no such command; check its spelling, and --entrypoint",
        137 => {
            "SIGKILL, which on this agent also stands for its memory limit: give it more with --mem, or ask who killed it"
        }
        _ => return None,
    };
    Some(format!("the task ended with {code}: {why}"))
}

/// What is worth saying of a signal that ended a task.
pub(super) fn of_signal(signal: u8) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => "see kill -l",
    };
    let step = match signal {
        9 => "give it more memory with --mem, or ask who killed it",
        4 | 6..=8 | 11 | 31 => "it crashed: see its output",
        _ => "ask who sent it",
    };
    format!("the task was ended by signal {signal} ({name}); {step}")
}

/// A way of saying something, known by a part of it.
struct Dialect {
    /// In small letters; all of them are in the message.
    has: &'static [&'static str],
    words: Words,
    step: &'static str,
}

enum Words {
    /// The message is plain enough.
    Own,
    /// These, and in brackets what the message adds.
    Plain(&'static str),
}

use Words::{Own, Plain};

const CHECK_IMAGE: &str =
    "check the image's name and tag; a private image needs a login on the agent, or --uri of a .dockercfg";
const LAUNCH_AGAIN: &str = "launch again";
const CHECK_AND_LAUNCH_AGAIN: &str = "it may have run: check what it did, then launch again";
const READ_STDERR: &str = "read the sandbox's stderr and the agent's log";
const READ_LOG: &str = "read the agent's log";

/// In the order in which they are tried: what names a cause goes before what names a place.
#[rustfmt::skip]
const DIALECTS: &[Dialect] = &[
    // Docker's client and engine, by way of the docker containerizer of 0.20 to 1.11 and of the docker executor.
    Dialect { has: &["toomanyrequests"], words: Plain("the registry refuses more pulls for now"), step: "wait, or use a mirror of the image" },
    Dialect { has: &["unauthorized: "], words: Plain("the registry refuses the agent"), step: CHECK_IMAGE },
    Dialect { has: &["no basic auth credentials"], words: Plain("the registry refuses the agent"), step: CHECK_IMAGE },
    Dialect { has: &["no space left on device"], words: Plain("the agent's disk is full"), step: "ask its operator, or choose another agent with --constraint" },
    Dialect { has: &["cannot connect to the docker daemon"], words: Plain("the agent's Docker engine is down"), step: "ask its operator, or choose another agent with --constraint" },
    Dialect { has: &["port is already allocated"], words: Plain("a port of --publish is in use on the agent"), step: "choose another one" },
    Dialect { has: &["pull access denied"], words: Plain("the agent cannot pull the image"), step: CHECK_IMAGE },
    Dialect { has: &["manifest unknown"], words: Plain("the agent cannot pull the image"), step: CHECK_IMAGE },
    Dialect { has: &["manifest for ", " not found"], words: Plain("the agent cannot pull the image"), step: CHECK_IMAGE },
    Dialect { has: &["image ", " not found"], words: Plain("the agent cannot pull the image"), step: CHECK_IMAGE },
    Dialect { has: &["repository ", " not found"], words: Plain("the agent cannot pull the image"), step: CHECK_IMAGE },
    Dialect { has: &["no such image"], words: Plain("the agent does not have the image"), step: CHECK_IMAGE },
    Dialect { has: &["failed to run 'docker", " pull "], words: Plain("the agent cannot pull the image"), step: CHECK_IMAGE },
    Dialect { has: &["failed to pull image"], words: Plain("the agent cannot pull the image"), step: CHECK_IMAGE },
    // The agent, before anything ran.
    Dialect { has: &["failed to fetch all uris"], words: Plain("the agent could not fetch a file of --uri"), step: "check the addresses; the sandbox's stderr says which failed" },
    Dialect { has: &["none of the enabled containerizers"], words: Plain("the agent does not run such containers"), step: "choose another agent with --constraint, or try --containerizer=mesos or docker" },
    Dialect { has: &["no containerizer succeeded"], words: Plain("the agent does not run such containers"), step: "choose another agent with --constraint, or try --containerizer=mesos or docker" },
    Dialect { has: &["failed to get user information for"], words: Plain("the agent does not know the user"), step: "choose with --user one that it knows" },
    Dialect { has: &["failed to chown"], words: Own, step: "choose with --user one that the agent knows" },
    Dialect { has: &["did not register within"], words: Plain("its executor did not report to the agent in time, often because of a slow pull"),
        step: "pull the image there first, or have the agent's --executor_registration_timeout raised" },
    Dialect { has: &["did not re-register within"], words: Plain("its executor did not come back to an agent that had restarted"), step: CHECK_AND_LAUNCH_AGAIN },
    Dialect { has: &["did not reregister within"], words: Plain("its executor did not come back to an agent that had restarted"), step: CHECK_AND_LAUNCH_AGAIN },
    // Limits.
    Dialect { has: &["memory limit exceeded"], words: Plain("it needed more memory than it had"), step: "give it more with --mem" },
    Dialect { has: &["disk usage (", "exceeds quota"], words: Plain("it needed more disk than it had"), step: "give it more with --disk" },
    Dialect { has: &["killed for its memory: "], words: Own, step: "give it more with --mem" },
    // Executors.
    Dialect { has: &["failed to create docker run options"], words: Own, step: "its container asks for what this agent cannot give: see --dry-run" },
    Dialect { has: &["failed to run docker container"], words: Plain("the agent's docker client failed"), step: READ_STDERR },
    Dialect { has: &["docker container run error"], words: Plain("the agent's docker client failed"), step: READ_STDERR },
    Dialect { has: &["failed to get exit status"], words: Plain("it ended, and its agent does not know with which code"), step: "check what it did, then launch again" },
    Dialect { has: &["unable to stop docker container"], words: Own, step: "its container may still run: ask the agent's operator" },
    Dialect { has: &["attempted to run multiple tasks"], words: Own, step: LAUNCH_AGAIN },
    Dialect { has: &["abnormal executor termination"], words: Plain("its executor ended before it, or was never started"), step: READ_STDERR },
    // The master.
    Dialect { has: &["task launched with invalid offers"], words: Plain("the offer was gone before the task came"), step: LAUNCH_AGAIN },
    Dialect { has: &["not authorized to launch as user"], words: Own, step: "choose another one with --user, or ask the cluster's operator for the right" },
    Dialect { has: &["uses more resources"], words: Own, step: "the agent no longer has what it offered: launch again" },
    Dialect { has: &["resources", "is more than available"], words: Own, step: "the agent no longer has what it offered: launch again" },
    Dialect { has: &["is already in use", "task"], words: Own, step: "another task of this id runs: choose another --run-id" },
    Dialect { has: &["has duplicate id"], words: Own, step: "another task of this id runs: choose another --run-id" },
    Dialect { has: &["slave ", " removed"], words: Plain("its agent was lost"), step: CHECK_AND_LAUNCH_AGAIN },
    Dialect { has: &["slave disconnected"], words: Plain("its agent was lost"), step: CHECK_AND_LAUNCH_AGAIN },
];

/// The dialect of a message, and what it says beyond the words for it.
fn recognise(message: &str) -> Option<(&'static Dialect, &str)> {
    let small = message.to_ascii_lowercase();
    let dialect = DIALECTS.iter().find(|dialect| dialect.has.iter().all(|part| small.contains(part)))?;
    Some((dialect, detail(message)))
}

/// The part of a message that names the cause: what a program said on stderr, else what stands behind the last of Mesos' own words.
fn detail(message: &str) -> &str {
    if let Some((_, said)) = message.rsplit_once("stderr='") {
        return said.split("; Container ").next().unwrap_or(said).trim_end_matches(['\'', ' ']);
    }
    let known = [
        "Memory limit exceeded: ",
        "Failed to launch container: ",
        "Failed to run docker container: ",
        "Docker container run error: ",
        "Abnormal executor termination: ",
        "Task launched with invalid offers: ",
        "Failed to get exit status for Command: ",
    ];
    let rest = known.iter().find_map(|words| message.split_once(words).map(|(_, rest)| rest));
    match rest {
        Some(rest) => rest.split("; Container ").next().unwrap_or(rest),
        None if message.ends_with("Abnormal executor termination")
            || message.starts_with("Failed to get exit status") =>
        {
            ""
        }
        None => message,
    }
}

/// The image that the agent's docker client was to pull; what that says on stderr may name only the registry.
fn image_of_pull(message: &str) -> Option<&str> {
    let (_, command) = message.split_once("Failed to run 'docker")?;
    command.split_once('\'')?.0.split_once(" pull ").map(|(_, image)| image)
}

fn without_tag(image: &str) -> &str {
    // A colon before a slash is that of the registry's port.
    image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(image, |(name, _)| name)
}

/// Mesos' messages may go over many lines: the statistics that follow a memory limit are for nobody here.
fn one_line(message: &str) -> Cow<'_, str> {
    let message = message.split("MEMORY STATISTICS").next().unwrap_or_default().trim();
    if message.contains(char::is_control) {
        message
            .split(|c: char| c.is_control() || c == ' ')
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
            .into()
    } else {
        message.into()
    }
}

/// What is said of a reason where there is no message, and what to do.
fn of_reason(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::CommandExecutorFailed | Reason::ExecutorTerminated | Reason::ExecutorUnregistered => {
            ("its executor ended before it", READ_STDERR)
        }
        Reason::FrameworkRemoved => ("the master removed the launcher", LAUNCH_AGAIN),
        Reason::InvalidFrameworkid => ("the agent does not know the launcher", LAUNCH_AGAIN),
        Reason::GcError => ("the agent could not keep the directory of the task from being removed", LAUNCH_AGAIN),
        Reason::InvalidOffers => ("the offer was gone before the task came", LAUNCH_AGAIN),
        Reason::MasterDisconnected => ("the launcher had no master when it launched the task", LAUNCH_AGAIN),
        Reason::ContainerLimitationMemory => ("it needed more memory than it had", "give it more with --mem"),
        Reason::ContainerLimitationDisk => ("it needed more disk than it had", "give it more with --disk"),
        Reason::ContainerLimitation => ("it went over a limit of its container", "ask for more, see --resources"),
        Reason::Reconciliation => ("the master was asked what became of the task", CHECK_AND_LAUNCH_AGAIN),
        Reason::AgentDisconnected | Reason::AgentRemoved | Reason::AgentRestarted | Reason::AgentUnknown => {
            ("its agent was lost", CHECK_AND_LAUNCH_AGAIN)
        }
        Reason::AgentRemovedByOperator | Reason::AgentDraining => {
            ("an operator took its agent out of service", LAUNCH_AGAIN)
        }
        Reason::AgentReregistered => ("its agent came back", "wait, or launch again"),
        Reason::TaskInvalid | Reason::TaskGroupInvalid => {
            ("the master does not accept the task", "see with --dry-run what was asked for, and change it")
        }
        Reason::TaskUnauthorized | Reason::TaskGroupUnauthorized => (
            "the master does not let the launcher run the task",
            "choose another --user or --role, or ask the cluster's operator for the right",
        ),
        Reason::TaskUnknown => ("the cluster does not know the task", CHECK_AND_LAUNCH_AGAIN),
        Reason::ContainerPreempted => ("a task with more right to the resources took them", LAUNCH_AGAIN),
        Reason::ResourcesUnknown => ("the agent no longer has what it offered", LAUNCH_AGAIN),
        Reason::ContainerLaunchFailed => {
            ("the agent could not start its container", "check the image's name and the agent's log")
        }
        Reason::ContainerUpdateFailed => ("the agent could not set the limits of its container", READ_LOG),
        Reason::ExecutorRegistrationTimeout => (
            "its executor did not report to the agent in time, often because of a slow pull",
            "pull the image there first, or have the agent's --executor_registration_timeout raised",
        ),
        Reason::ExecutorReregistrationTimeout => {
            ("its executor did not come back to an agent that had restarted", CHECK_AND_LAUNCH_AGAIN)
        }
        Reason::IoSwitchboardExited => ("the agent's server for its output ended", READ_LOG),
        Reason::TaskCheckStatusUpdated => ("a check of the task tells of a change", READ_STDERR),
        Reason::TaskHealthCheckStatusUpdated => {
            ("a health check of the task tells of a change", "look at --health-cmd")
        }
        Reason::TaskKilledDuringLaunch => ("it was killed before it ran", "ask who did it, or launch again"),
        Reason::MaxCompletionTimeReached => ("it ran longer than its max_completion_time", "allow it more"),
    }
}

/// What is said of a state where there is neither message nor reason, and what to do.
fn of_state(state: TaskState) -> (&'static str, &'static str) {
    match state {
        TaskState::TaskStaging | TaskState::TaskStarting | TaskState::TaskRunning | TaskState::TaskKilling => {
            ("the task is still running", "wait for its end")
        }
        TaskState::TaskFinished => ("the task ended", "see its output"),
        TaskState::TaskFailed => ("the task failed, and its agent does not say why", READ_STDERR),
        TaskState::TaskKilled => ("the task was killed by somebody else", "ask who did it, or launch again"),
        TaskState::TaskError => ("the master refused the task", "see with --dry-run what was asked for, and change it"),
        TaskState::TaskLost => ("the cluster lost the task", CHECK_AND_LAUNCH_AGAIN),
        TaskState::TaskDropped => ("the task was dropped before it ran", LAUNCH_AGAIN),
        TaskState::TaskUnreachable => ("the task's agent cannot be reached", CHECK_AND_LAUNCH_AGAIN),
        TaskState::TaskGone => ("the task's agent came back without it", CHECK_AND_LAUNCH_AGAIN),
        TaskState::TaskGoneByOperator => ("an operator declared the task's agent gone", CHECK_AND_LAUNCH_AGAIN),
        TaskState::TaskUnknown => ("the master does not know the task", CHECK_AND_LAUNCH_AGAIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line is one that a person can act on: it has a step, and is one line.
    fn expect_step(line: &str) {
        let (what, step) = line.rsplit_once("; ").unwrap_or_else(|| panic!("no step: {line}"));
        assert!(!what.is_empty() && step.len() > 8, "{line}");
        assert!(!line.contains(char::is_control) && !line.ends_with('.'), "{line}");
    }

    #[test]
    fn every_reason_and_every_state_has_words_and_a_step() {
        let reasons: Vec<Reason> = (0..=99).filter_map(|number| Reason::try_from(number).ok()).collect();
        assert_eq!(reasons.len(), 35);
        for reason in reasons {
            let mut status = TaskStatus { reason: Some(reason.into()), ..TaskStatus::default() };
            expect_step(&explain(&status));
            status.message = Some("words that nobody knows".to_owned());
            let line = explain(&status);
            expect_step(&line);
            assert!(line.starts_with("words that nobody knows; "), "{line}");
        }
        for state in (0..=99).filter_map(|number| TaskState::try_from(number).ok()) {
            expect_step(&explain(&TaskStatus { state: state.into(), ..TaskStatus::default() }));
        }
    }

    #[test]
    fn messages_of_many_lines_become_one() {
        let status = TaskStatus {
            state: TaskState::TaskFailed.into(),
            message: Some("first\n\n\tsecond\r\nthird \u{1b}[31m\n".to_owned()),
            ..TaskStatus::default()
        };
        assert_eq!(explain(&status), "first second third [31m; read the sandbox's stderr and the agent's log");
    }

    #[test]
    fn only_codes_that_docker_uses_itself_are_remarked_upon() {
        let remarked: Vec<u8> = (0..=255).filter(|code| remark(*code).is_some()).collect();
        assert_eq!(remarked, [125, 126, 127, 137]);
    }
}
