//! What a status update or an ERROR event means: how the task ended, and one line for a person with the next step.
//!
//! Mesos has no field for the exit code. Our own executor puts a `TaskRecord` into `TaskStatus.data`; every other executor
//! only says it in words, in one of a few dialects that have been the same since 0.19. TASK_FINISHED always means 0.

use proto::mesos::task_status::Reason;
use proto::mesos::{TaskState, TaskStatus};
use proto::record::TaskRecord;

use crate::exit::Outcome;

mod words;

pub(super) use words::explain;

/// How a task ended, by its terminal update alone. Never `Exited(0)` unless the task is FINISHED.
pub(super) fn outcome(status: &TaskStatus) -> Outcome {
    let record = status.data.as_deref().and_then(TaskRecord::parse);
    let told = record.as_ref().and_then(of_record).or_else(|| of_words(status.message()));
    match (status.state(), told) {
        (TaskState::TaskFinished, None) => Outcome::Exited(0),
        (TaskState::TaskFinished, Some(told)) => told,
        // A task that ended with 0 because somebody stopped it has not done its work.
        (_, Some(told)) if told != Outcome::Exited(0) => told,
        _ => match record.and_then(|record| record.error) {
            Some(error) => Outcome::Failed(error),
            None => Outcome::Failed(explain(status)),
        },
    }
}

fn of_record(record: &TaskRecord) -> Option<Outcome> {
    if let Some(signal) = record.signal.and_then(|signal| u8::try_from(signal).ok()).filter(|signal| *signal > 0) {
        return Some(Outcome::Signaled(signal));
    }
    record.exit_code.and_then(|code| u8::try_from(code).ok()).map(Outcome::Exited)
}

/// The dialects: `Command exited with status N`, `Container exited with status N`, `Docker container run error: Container
/// exited on error: exited with status N`, and each with `terminated with signal TEXT[ (core dumped)]`.
fn of_words(message: &str) -> Option<Outcome> {
    let message = message.trim_end();
    if message.is_empty() {
        return None;
    }
    let of_task = |before: &str| {
        ["Command ", "Container ", "Container exited on error: "].iter().any(|who| before.ends_with(who))
    };
    if let Some((before, code)) = message.rsplit_once("exited with status ") {
        // Of a fetcher or a docker client that failed before the task ran it is said, too.
        return code.parse().ok().filter(|_| of_task(before)).map(Outcome::Exited);
    }
    let (before, text) = message.rsplit_once("terminated with signal ")?;
    let number = signal_number(text.strip_suffix(" (core dumped)").unwrap_or(text)).filter(|_| of_task(before));
    number.map(Outcome::Signaled)
}

/// The number of a signal by glibc's strsignal(3) text, which is all that Mesos' executors send.
fn signal_number(text: &str) -> Option<u8> {
    if let Some(number) = SIGNALS.iter().find(|(_, name)| *name == text).map(|(number, _)| *number) {
        return Some(number);
    }
    if let Some(real_time) = text.strip_prefix("Real-time signal ") {
        // 32 and 33 belong to the C library.
        return real_time.parse::<u8>().ok().filter(|number| *number <= 30).map(|number| 34 + number);
    }
    text.strip_prefix("Unknown signal ")?.parse().ok().filter(|number| (1..=127).contains(number))
}

const SIGNALS: [(u8, &str); 31] = [
    (1, "Hangup"),
    (2, "Interrupt"),
    (3, "Quit"),
    (4, "Illegal instruction"),
    (5, "Trace/breakpoint trap"),
    (6, "Aborted"),
    (7, "Bus error"),
    (8, "Floating point exception"),
    (9, "Killed"),
    (10, "User defined signal 1"),
    (11, "Segmentation fault"),
    (12, "User defined signal 2"),
    (13, "Broken pipe"),
    (14, "Alarm clock"),
    (15, "Terminated"),
    (16, "Stack fault"),
    (17, "Child exited"),
    (18, "Continued"),
    (19, "Stopped (signal)"),
    (20, "Stopped"),
    (21, "Stopped (tty input)"),
    (22, "Stopped (tty output)"),
    (23, "Urgent I/O condition"),
    (24, "CPU time limit exceeded"),
    (25, "File size limit exceeded"),
    (26, "Virtual timer expired"),
    (27, "Profiling timer expired"),
    (28, "Window changed"),
    (29, "I/O possible"),
    (30, "Power failure"),
    (31, "Bad system call"),
];

/// Something that is worth knowing about a code or a signal that passes through; not where our own executor tells it: there the code is
/// known to be the container's, and a kill for memory is told by itself.
pub(super) fn remark(status: &TaskStatus) -> Option<String> {
    let is_docker_client = ["Container exited with", "Docker container run error: "]
        .iter()
        .any(|words| status.message().starts_with(words));
    // No words, no code in them: this is asked for every update.
    if status.message().is_empty() || status.data.as_deref().and_then(TaskRecord::parse).is_some() {
        return None;
    }
    match outcome(status) {
        Outcome::Exited(code) if is_docker_client => words::remark(code),
        Outcome::Signaled(signal) => Some(words::of_signal(signal)),
        _ => None,
    }
}

/// Whether a task that never ran may fare better on another agent.
pub(super) fn blames_agent(status: &TaskStatus) -> bool {
    let reason = status.reason.and_then(|number| Reason::try_from(number).ok());
    matches!(
        reason,
        Some(
            Reason::AgentDisconnected
                | Reason::AgentRestarted
                | Reason::AgentUnknown
                | Reason::CommandExecutorFailed
                | Reason::ContainerLaunchFailed
                | Reason::ContainerUpdateFailed
                | Reason::ExecutorRegistrationTimeout
                | Reason::ExecutorTerminated
                | Reason::ExecutorUnregistered
                | Reason::GcError
                | Reason::TaskKilledDuringLaunch
        )
    )
}

/// What an ERROR event asks of us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Trying again cannot help; the text says what to do.
    Fatal(String),
    /// The master will change its mind by itself.
    Passing(String),
    /// Another subscription has replaced this one.
    TakenOver(String),
}

/// Whether this ERROR says that the master has taken the framework down.
pub(super) fn is_removed(message: &str) -> bool {
    let words = message.to_ascii_lowercase();
    words.contains("has been removed") || words.contains("framework is completed")
}

/// Sorts the ERROR events of all versions; one that is not known is fatal, because the master ends the stream after any.
pub(super) fn refusal(message: &str, role: &str) -> Refusal {
    let words = message.to_ascii_lowercase();
    let has = |text: &str| words.contains(text);
    // 0.24 to 0.27: the master has not yet noticed that our last connection broke.
    if has("framework is already connected") {
        return Refusal::Passing(format!("the master still holds the connection that broke ({message})"));
    }
    if has("framework failed over") {
        let step = "another launcher took over with the same framework id: let only one use it";
        return Refusal::TakenOver(format!("{message}; {step}"));
    }
    let step = if is_removed(message) {
        "the failover timeout passed or an operator removed the framework, and its tasks were killed: launch again"
            .to_owned()
    } else if has("not authorized to use role") || (has("not present in the master") && has("role")) {
        format!("choose with --role another role than \"{role}\", or ask the cluster's operator to allow it")
    } else if has("role") {
        format!("choose another role than \"{role}\" with --role")
    } else if has("--root_submissions") {
        "the master refuses frameworks of root: choose another user".to_owned()
    } else if has("failover_timeout") {
        "choose a smaller failover timeout".to_owned()
    } else if has("authoriz") || has("authenticat") || has("principal") {
        "check the principal and its secret, and ask the cluster's operator for the right".to_owned()
    } else {
        "read the master's log".to_owned()
    };
    Refusal::Fatal(format!("the master refused the framework: {message}; {step}"))
}

#[cfg(test)]
mod tests {
    use proto::mesos::task_status::Source;

    use super::*;
    use crate::exit;

    fn status(state: TaskState, message: &str) -> TaskStatus {
        TaskStatus { state: state.into(), message: Some(message.to_owned()), ..TaskStatus::default() }
    }

    #[test]
    fn every_code_is_read_from_every_dialect() {
        for code in 1..=255 {
            for dialect in [
                "Command exited with status ",
                "Container exited with status ",
                "Docker container run error: Container exited on error: exited with status ",
            ] {
                let status = status(TaskState::TaskFailed, &format!("{dialect}{code}"));
                assert_eq!(outcome(&status), Outcome::Exited(code), "{dialect}{code}");
            }
        }
    }

    #[test]
    fn every_signal_is_read_from_every_dialect() {
        for (number, text) in SIGNALS {
            for message in [
                format!("Command terminated with signal {text}"),
                format!("Command terminated with signal {text} (core dumped)"),
                format!("Container terminated with signal {text}"),
                format!("Docker container run error: Container exited on error: terminated with signal {text}"),
            ] {
                assert_eq!(outcome(&status(TaskState::TaskFailed, &message)), Outcome::Signaled(number), "{message}");
            }
        }
        assert_eq!(signal_number("Real-time signal 0"), Some(34));
        assert_eq!(signal_number("Unknown signal 33"), Some(33));
        assert_eq!(signal_number("Real-time signal 200"), None);
        assert_eq!(signal_number("Unknown signal 0"), None);
    }

    #[test]
    fn without_a_code_the_state_decides() {
        assert_eq!(outcome(&status(TaskState::TaskFinished, "")), Outcome::Exited(0));
        assert_eq!(outcome(&status(TaskState::TaskFinished, "Command exited with status 0")), Outcome::Exited(0));
        for (state, message) in [
            (TaskState::TaskKilled, ""),
            (TaskState::TaskFailed, "Command exited with status 256"),
            (TaskState::TaskFailed, "Command exited with status"),
            (TaskState::TaskFailed, "terminated with signal Foo"),
        ] {
            let status = status(state, message);
            assert_eq!(outcome(&status), Outcome::Failed(explain(&status)), "{message}");
        }
    }

    /// One message of one generation of Mesos, and what becomes of it.
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Known {
        versions: String,
        who: String,
        state: String,
        source: Option<String>,
        reason: Option<String>,
        message: String,
        /// What the launcher exits with.
        exit: u8,
        /// What it says, beside the code or instead of one.
        line: Option<String>,
    }

    #[test]
    fn every_known_message_of_every_generation_becomes_its_code_or_its_line() {
        let corpus = include_str!("../../tests/fixtures/messages.jsonl");
        let known: Vec<Known> = corpus
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        assert!(known.len() > 60, "{}", known.len());
        for known in known {
            let status = TaskStatus {
                state: TaskState::from_str_name(&known.state).expect("a state of Mesos'").into(),
                source: known
                    .source
                    .as_deref()
                    .map(|name| Source::from_str_name(name).expect("a source of Mesos'").into()),
                reason: known
                    .reason
                    .as_deref()
                    .map(|name| Reason::from_str_name(name).expect("a reason of Mesos'").into()),
                message: Some(known.message.clone()),
                ..TaskStatus::default()
            };
            let outcome = outcome(&status);
            let line = match &outcome {
                Outcome::Failed(line) => Some(line.clone()),
                _ => remark(&status),
            };
            let whose = format!("{} of {}: {:?}", known.who, known.versions, known.message);
            assert_eq!((exit::code(&outcome), &line), (known.exit, &known.line), "{whose}");
        }
    }

    #[test]
    fn a_code_of_our_own_executor_needs_no_remark() {
        let mut status = status(TaskState::TaskFailed, "Container exited with status 127");
        assert!(remark(&status).is_some_and(|text| text.contains("127") && text.contains("--entrypoint")));
        status.data = Some(TaskRecord { version: 1, exit_code: Some(127), ..TaskRecord::default() }.to_bytes());
        assert_eq!(remark(&status), None);
        // The command executor knows the command's own code.
        status.data = None;
        status.message = Some("Command exited with status 127".to_owned());
        assert_eq!(remark(&status), None);
    }

    #[test]
    fn nothing_but_finished_gives_zero() {
        for state in [TaskState::TaskFailed, TaskState::TaskKilled, TaskState::TaskLost, TaskState::TaskError] {
            let mut status = status(state, "Container exited with status 0");
            assert!(matches!(outcome(&status), Outcome::Failed(_)), "{state:?}");
            status.data = Some(TaskRecord { version: 1, exit_code: Some(0), ..TaskRecord::default() }.to_bytes());
            assert!(matches!(outcome(&status), Outcome::Failed(_)), "{state:?}");
        }
    }

    #[test]
    fn the_record_of_our_own_executor_comes_first() {
        let with = |record: TaskRecord| {
            let mut status = status(TaskState::TaskFailed, "Command exited with status 9");
            status.data = Some(TaskRecord { version: 1, ..record }.to_bytes());
            outcome(&status)
        };
        assert_eq!(with(TaskRecord { exit_code: Some(3), ..TaskRecord::default() }), Outcome::Exited(3));
        let killed = TaskRecord { exit_code: Some(137), signal: Some(9), ..TaskRecord::default() };
        assert_eq!(with(killed), Outcome::Signaled(9));
        assert_eq!(with(TaskRecord { exit_code: Some(137), ..TaskRecord::default() }), Outcome::Exited(137));
        // A code that no process can have is no code; the words are still there.
        assert_eq!(with(TaskRecord { exit_code: Some(-1), ..TaskRecord::default() }), Outcome::Exited(9));

        let mut status = status(TaskState::TaskFailed, "");
        let error = "cannot pull image \"x\": no such image".to_owned();
        status.data = Some(TaskRecord { version: 1, error: Some(error.clone()), ..TaskRecord::default() }.to_bytes());
        assert_eq!(outcome(&status), Outcome::Failed(error));
    }

    #[test]
    fn foreign_data_is_no_record() {
        let mut status = status(TaskState::TaskFailed, "Container exited with status 4");
        for data in [&b"[{\"Id\":\"abc\"}]"[..], b"\xff\xfe", b"", b"{\"version\":99,\"exit_code\":1}"] {
            status.data = Some(data.to_vec());
            assert_eq!(outcome(&status), Outcome::Exited(4));
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (message, step) in [
            ("Role 'x' is not present in the master's --roles", "--role another"),
            ("Not authorized to use role 'x'", "--role another"),
            ("Framework has been removed", "launch again"),
            ("User 'root' is not allowed to run frameworks without --root_submissions set", "another user"),
            ("The framework failover_timeout (-1) is invalid", "smaller failover timeout"),
            ("Authorization failure: no", "principal"),
            ("something new", "master's log"),
        ] {
            let Refusal::Fatal(text) = refusal(message, "x") else { panic!("{message} is fatal") };
            assert!(text.contains(message) && text.contains(step), "{text}");
        }
        assert!(matches!(refusal("Framework is already connected", "*"), Refusal::Passing(_)));
        assert!(matches!(refusal("Framework failed over", "*"), Refusal::TakenOver(text) if text.contains("only one")));
    }
}
