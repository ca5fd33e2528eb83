//! What happens, as one stream: the scheduler and the shell around it report, displays consume.
//!
//! Nothing here decides anything. Times are durations since the launcher started.

use std::time::Duration;

use proto::mesos::{TaskState, task_status};
use proto::record::TaskRecord;

use crate::exit::Outcome;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Update {
    /// The launcher tries to reach `master`.
    Connecting {
        /// HOST:PORT.
        master: String,
    },
    /// The master accepted the framework.
    Subscribed {
        /// HOST:PORT.
        master: String,
        /// As the master gave it.
        framework_id: String,
        /// Whether the framework was known from an earlier subscription.
        is_again: bool,
    },
    /// The master is gone or silent; the launcher tries again after `retry_in`.
    Disconnected {
        /// What was seen.
        reason: String,
        /// Until the next attempt.
        retry_in: Duration,
    },
    /// No offer fits yet.
    Waiting(Waiting),
    /// An offer was accepted for the task.
    Launching {
        /// The task.
        task_id: String,
        /// The agent that offered.
        agent_id: String,
        /// The agent's host.
        hostname: String,
        /// The agent's attributes, in their order: `rack=a7`.
        attributes: Vec<(String, String)>,
    },
    /// A status update, first of its kind (repeats are not reported).
    Status(Status),
    /// The image is being pulled on the agent.
    Pulling {
        /// Layers complete.
        layers_done: u32,
        /// Layers known.
        layers_total: u32,
        /// Bytes there.
        bytes_done: u64,
        /// Bytes known.
        bytes_total: u64,
    },
    /// The first bytes of the task's output are about to be written.
    OutputStarted,
    /// The task was asked to end.
    Killing {
        /// The task.
        task_id: String,
        /// Why, for a person: "interrupted", "timed out after 10s".
        why: String,
        /// From SIGTERM to SIGKILL.
        grace: Duration,
    },
    /// The task will be launched again; this never counts as a run of it.
    Relaunching {
        /// The task.
        task_id: String,
        /// Why it never ran.
        why: String,
    },
    /// Output that could not be read; said once at the end, per file.
    OutputLost {
        /// "stdout" or "stderr".
        file: &'static str,
        /// Bytes known to be unread; `None` when even the size is unknown.
        bytes: Option<u64>,
        /// What was attempted and why it failed.
        why: String,
    },
    /// Worth knowing, no effect on the result.
    Notice(String),
    /// The end of the task; nothing follows for it.
    Ended {
        /// The task.
        task_id: String,
        /// How.
        outcome: Outcome,
    },
}

/// Why no offer fits, over the offers seen so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Waiting {
    /// Since when the task waits.
    pub waiting_for: Duration,
    /// Agents that offered something.
    pub agents_offered: u32,
    /// Shortages, most frequent first: "mem short by 200 MB on 7 agents (best: a7)".
    pub reasons: Vec<String>,
    /// What may keep every agent from being offered, where none was: "the master has no agents".
    pub hints: Vec<String>,
}

/// A status update as displays need it.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The task.
    pub task_id: String,
    /// Its state.
    pub state: TaskState,
    /// The agent's or executor's own text.
    pub message: Option<String>,
    /// Mesos' reason.
    pub reason: Option<task_status::Reason>,
    /// Who said it.
    pub source: Option<task_status::Source>,
    /// The agent, if known.
    pub agent_id: Option<String>,
    /// Health, where the task is checked.
    pub healthy: Option<bool>,
    /// The container's address, if reported.
    pub ip_address: Option<String>,
    /// The record of our own executor, if it was ours.
    pub record: Option<TaskRecord>,
}
