//! Follows a task's sandbox files to exact bytes: what the task wrote, all of it, once, in order, and nothing else.
//!
//! ```text
//!   control: Phase                                                      reports: Report
//!         |                                                                   ^
//!   look_out: lists the sandbox (locate, pace) -- sizes --> board ------------+
//!                                                           |  ^
//!   follow, once per file: read or download <-- what next --'  '-- bytes (cursor)
//!         |
//!         '--> Sink --> our own stdout, stderr                          in the end: Tailed
//! ```
//!
//! - **Finding output** is one listing per look, whose rhythm and promises are in `pace`. A look is also what sees an outage end.
//! - **Reading** begins at the first byte that is missing, always (`cursor`); each file is read by itself, so a reader of our stdout
//!   who stalls does not hold stderr up. Nothing is fetched before the [`Sink`] has taken what was fetched before it.
//! - **Lines of Mesos' own executors** at a file's beginning are cut (`preamble`).
//! - **The end.** After the terminal update both files are read to the sizes that our executor recorded, with no listing and no
//!   pause; without a record (or when it is proved wrong) to the sizes of two listings half a second apart, because the last
//!   bytes may follow the update.
//! - **Trouble.** While the task runs nothing is given up: an agent that is down is asked until it is back. After the terminal update an
//!   agent that does not answer is waited for 90 seconds, one that answers but does not know the sandbox 10 seconds (it may
//!   have just restarted), one that breaks TLS off the same, one that refuses half a second. What could not be read is then told in [`Tailed`].
//!   Of a task that was given up nothing is waited for longer than a second.
//! - **A reader of our own stream who left** ends the fetching of that file; its bytes are still counted.
//!
//! It must not judge the task: exit codes, displays and the order of things belong to the caller.

mod agent;
mod board;
mod cursor;
#[cfg(test)]
mod fake_agent;
pub mod files;
mod follow;
mod locate;
mod look_out;
mod pace;
mod preamble;
#[cfg(test)]
mod tests;

use proto::record::PullProgress;
use tokio::sync::mpsc;
use url::Url;

use crate::output::Sink;

pub use follow::follow;
pub use preamble::Origin;

/// Where a sandbox is served, and under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Base addresses of the agent in the order to try: by hostname, by ip.
    pub agents: Vec<Url>,
    /// Whether http may stand for https there and the other way round: nothing in the protocol says what an agent speaks.
    pub may_change_scheme: bool,
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
/// Sending [`Phase::Running`] again makes the tail look at the sandbox at once: whoever hears that there is output may ring.
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
    /// The caller has given the task up without knowing its end. What the agent has of it is still read, but an agent that is
    /// away is not waited for.
    GivenUp,
    /// Stop at once, whatever is unread. Dropping the sender before the end means the same.
    Abandon,
}

impl Phase {
    /// Whether nothing is expected of the task any more.
    fn is_over(self) -> bool {
        matches!(self, Self::Ended { .. } | Self::GivenUp)
    }
}

/// Where the output goes.
#[derive(Debug)]
pub struct Outputs {
    /// Takes the bytes of the sandbox's stdout. Nobody else may write to it until the tail is done.
    pub stdout: Sink,
    /// Takes the bytes of the sandbox's stderr.
    pub stderr: Sink,
    /// Takes what is worth telling meanwhile; nobody has to listen.
    pub reports: mpsc::UnboundedSender<Report>,
    /// Whether [`Report::Pulling`] is wanted. It costs requests to the agent while the task waits.
    pub wants_pull_progress: bool,
    /// Where to begin in stdout and stderr: what is before was delivered by another process.
    pub from: [u64; 2],
    /// Whose first lines are to be cut; `None` for all bytes. Nothing is cut behind the beginning of a file.
    pub cut: Option<Origin>,
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
    /// Bytes at the file's beginning that were the executor's, not the task's.
    pub bytes_cut: u64,
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

/// One of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout = 0,
    Stderr = 1,
}

impl Stream {
    const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn path_in(self, directory: &[u8]) -> Vec<u8> {
        [directory, b"/", self.name().as_bytes()].concat()
    }
}
