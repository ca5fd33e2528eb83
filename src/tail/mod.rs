//! Follows a task's sandbox files to exact bytes.

mod files;

use proto::record::PullProgress;
use tokio::sync::mpsc;
use url::Url;

use crate::output::Sink;

/// Where a sandbox is served, and under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Base addresses of the agent in the order to try: by hostname, by ip. Only scheme, host and port.
    pub agents: Vec<Url>,
    /// The agent's process id in paths: "/slave(1)".
    pub process: String,
    /// Agent.
    pub agent_id: String,
    /// Framework.
    pub framework_id: String,
    /// Executor; for a command task the task id.
    pub executor_id: String,
}

/// How far the task is, as the scheduler knows it.
///
/// Sending a phase again, also the same one, makes the tail look at the sandbox at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Launched but not seen to run: there may be no sandbox yet.
    Waiting,
    /// TASK_STARTING or TASK_RUNNING was seen.
    Running,
    /// The terminal update was seen. The sizes are those of the record of our own executor, if there is one.
    Ended {
        /// Bytes that the sandbox's stdout holds in the end.
        stdout_bytes: Option<u64>,
        /// Bytes that the sandbox's stderr holds in the end.
        stderr_bytes: Option<u64>,
    },
    /// Stop at once, whatever is unread. Dropping the sender means the same.
    Abandon,
}

/// Where the output goes.
#[derive(Debug)]
pub struct Outputs {
    /// Takes the bytes of the sandbox's stdout.
    pub stdout: Sink,
    /// Takes the bytes of the sandbox's stderr.
    pub stderr: Sink,
    /// Takes what is worth telling meanwhile; nobody has to listen.
    pub reports: mpsc::UnboundedSender<Report>,
    /// Whether [`Report::Pulling`] is wanted. It costs requests to the agent while the task waits.
    pub wants_pull_progress: bool,
}

/// What the tail tells while it follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The agent pulls the task's image; said again whenever it changed.
    Pulling(PullProgress),
    /// For a person: the agent cannot be reached, it can be reached again, a file shrank.
    Notice(String),
}

/// What became of both files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tailed {
    /// The sandbox's stdout.
    pub stdout: FileTailed,
    /// The sandbox's stderr.
    pub stderr: FileTailed,
}

/// What became of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileTailed {
    /// Bytes that our own stream took.
    pub bytes_written: u64,
    /// Bytes that nobody wanted, because the reader of our own stream had left; not an error.
    pub bytes_discarded: u64,
    /// What could not be read or written.
    pub lost: Option<Lost>,
}

/// Output that did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// How much; `None` when even the size is unknown.
    pub bytes: Option<u64>,
    /// What was attempted and why it failed.
    pub why: String,
}
