//! The scheduler core. PURE: events and time in, effects out; no clock, no randomness but the seed, no IO.
//!
//! (The state diagram goes here.)

use std::time::Duration;

use proto::mesos;
use proto::scheduler;

use crate::exit::Outcome;
use crate::update::Update;

/// Time since the launcher started; monotonic.
pub type Time = Duration;

/// What the scheduler is told once.
#[derive(Debug, Clone)]
pub struct Config {
    /// What to subscribe with, without an id (or with one, to continue).
    pub framework: mesos::FrameworkInfo,
    /// Seeds the jitter of back-offs and the ids of tasks that are launched again.
    pub seed: u64,
    /// Whether the master takes SUPPRESS (0.25 and later).
    pub can_suppress: bool,
}

/// One task to run.
#[derive(Debug, Clone)]
pub struct Task {
    /// `agent_id` is empty and `resources` is the need (role "*"); both are filled in from the offer.
    pub info: mesos::TaskInfo,
    /// SIGTERM to SIGKILL, when the scheduler kills the task.
    pub kill_grace: Duration,
    /// From RUNNING; then the task is killed and `TimedOut`.
    pub run_timeout: Option<Duration>,
    /// From adding the task until an offer fits.
    pub offer_timeout: Option<Duration>,
}

/// What the outside tells the scheduler.
#[derive(Debug)]
pub enum Input {
    /// Run this task; valid in every state.
    Add(Box<Task>),
    /// End this task: `Interrupted` by that signal. A second one for the same task forces (grace 0).
    Interrupt {
        /// The task id given in `Add`.
        task_id: String,
        /// 2 or 15.
        signal: u8,
        /// Overrides the task's own grace.
        grace: Option<Duration>,
    },
    /// The stream asked for by `Effect::Subscribe` was opened by `master` (HOST:PORT).
    Connected {
        /// HOST:PORT.
        master: String,
    },
    /// The stream could not be opened, broke, or ended. `is_fatal`: trying again is pointless (401, 403, not a master).
    Disconnected {
        /// What was attempted, on what, why.
        reason: String,
        /// Whether to give up.
        is_fatal: bool,
    },
    /// A record of the stream.
    Event(Box<scheduler::Event>),
    /// A call was not accepted by the master (4xx, 5xx or no answer). The stream may still be fine.
    CallFailed {
        /// Which.
        call: Box<scheduler::Call>,
        /// Why.
        reason: String,
    },
    /// `next_timeout` has passed, or nothing happened.
    Tick,
    /// End everything: tear the framework down, then `Effect::Finish`.
    Stop,
}

/// What the shell must do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Find the leader and open the event stream with this call; drop an old stream first.
    Subscribe(Box<scheduler::Call>),
    /// Close the stream.
    Disconnect,
    /// Post this call; calls are sent one after the other.
    Call(Box<scheduler::Call>),
    /// Tell the displays (and record it: an acknowledgement always comes after the update's own report).
    Update(Update),
    /// A status update that places or ends the task, raw, for the tail (agent id, container id); comes before its acknowledgement.
    Status(Box<mesos::TaskStatus>),
    /// Where the task was launched: the offer's host, address and agent id, for the tail.
    Placed {
        /// The task id given in `Add` (a relaunch may use another one on the wire).
        task_id: String,
        /// The id on the wire.
        wire_task_id: String,
        /// The accepted offer (resources removed).
        offer: Box<mesos::Offer>,
    },
    /// This task is over.
    Ended {
        /// The task id given in `Add`.
        task_id: String,
        /// How.
        outcome: Outcome,
    },
    /// Everything is over; the framework is torn down (or cannot be).
    Finish,
}
