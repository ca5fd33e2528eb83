//! The scheduler core. PURE: events and time in, effects out; no clock, no randomness but the seed, no IO.
//!
//! ```text
//!                        Input                                   Effect
//!  user    Add, Interrupt, Stop ---.                     .---> Subscribe, Disconnect, Call       the master
//!  stream  Connected, Event,        \                   /
//!          Disconnected              >--> Scheduler ---<-----> Status, Placed                    the tail
//!  calls   CallFailed               /                   \
//!  time    Tick (next_timeout) ----'                     `---> Update, Ended, Finish             displays, the shell
//! ```
//!
//! **The connection** (`connection`) is idle, connecting, opened, subscribed, disconnected or closed. It reconnects with
//! a truncated exponential back-off, notices a master that falls silent, and gives up after `connect_timeout` (never
//! subscribed) or `reconnect_timeout` (subscribed before). A refusal by the master (ERROR) closes it for good.
//!
//! **Each task** (`task`) is waiting for an offer, launching, staging, starting, running, killing, lost or ended:
//!
//! ```text
//!  waiting -> launching -> staging -> starting -> running -> ended        forward only, may skip
//!     ^           |           |                      |         ^
//!     `-----------'-----------' never ran            |         |          killing: from launching to lost, on interrupt
//!                 `--> lost <------------------------'---------'          lost: back to where it was, when heard of
//! ```
//!
//! What each input does:
//! - *OFFERS*: each offer takes what fits of the waiting tasks (`offers`) with one ACCEPT, or is declined, at once.
//! - *RESCIND*: no offer is held, so nothing is lost by it; if an ACCEPT is under way, the master answers that with an update.
//! - *UPDATE*: moves the task (older ones and repeats do nothing), is reported, then acknowledged if it has a uuid, in every
//!   state, also when the task is unknown or over. A terminal one ends the task (`message` finds the exit code).
//! - *Doubt about an ACCEPT* (it failed, its offer was invalid, or 15 s of silence): the offer is declined, which keeps a
//!   late copy of the ACCEPT from succeeding, and the master is asked (`reconcile`). The task is launched again, under a new
//!   id on the wire (`ID.2`), only when the answer proves that it never ran. Should the old id be heard of after all, it is
//!   taken back if the task still waits, else killed.
//! - *MESSAGE*: output after a silence or progress of its input, if it is our executor's word on a task of ours that is not
//!   over; ignored otherwise.
//! - *FAILURE*: a notice, and a question to the master about the tasks there.
//! - *SUBSCRIBED again*: explicit reconciliation of all launched tasks, implicit of what else the master knows, repeated with
//!   back-off while a fate is open; kills are sent again.
//! - *Interrupt*: ends a waiting task at once, else KILL, repeated until the end; the second one with grace 0. If nobody
//!   confirms it in time, the task ends with a notice.
//! - *ERROR*: fatal, except that masters before 0.28 may still hold a broken connection, and that a late SUBSCRIBE of our own
//!   may take over once or twice.
//! - *Stop*: TEARDOWN, so that no framework stays behind, then `Finish`. *Leave*: `Finish`, and all runs on.
//!
//! With `is_recorded`, what another scheduler needs to go on comes as `Effect::Record`, always before the call that relies on it.

mod calls;
mod connection;
#[cfg(test)]
mod fixture;
mod launch;
mod message;
mod offers;
mod placement;
mod reconcile;
mod record;
#[cfg(test)]
mod recorded;
mod restore;
mod shortfall;
mod signals;
mod subscription;
mod survey;
mod task;
mod timers;
mod updates;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::mesos;
use proto::record::StdinProgress;
use proto::scheduler;

use self::calls::Calls;
use self::connection::Connection;
pub use self::connection::usual_reconnect_timeout;
use self::offers::{Flow, Queue};
use self::placement::Failed;
use self::reconcile::{Reconcile, TaskKey};
use self::shortfall::{Report, Shortfalls};
use self::subscription::Life;
use self::task::{Entry, Placement};
use self::timers::Timers;
use crate::exit::Outcome;
use crate::hash::HashMap;
use crate::update::Update;

pub use self::record::Record;

pub use self::placement::{Constraint, Terms};
pub use self::survey::{Match, Survey, Surveyed};

/// Time since the launcher started; monotonic.
pub type Time = Duration;

/// What the scheduler is told once.
#[derive(Debug, Clone)]
pub struct Config {
    /// What to subscribe with, without an id (or with one, to continue).
    pub framework: mesos::FrameworkInfo,
    /// Seeds the jitter of back-offs.
    pub seed: u64,
    /// The master as the user named it, for texts.
    pub master: String,
    /// Whether the master takes SUPPRESS (0.25 and later).
    pub can_suppress: bool,
    /// How long to try before the first subscription, from the first attempt; `None`: for ever.
    pub connect_timeout: Option<Duration>,
    /// How long to look for a master that was lost; `None`: for ever. See [`usual_reconnect_timeout`].
    pub reconnect_timeout: Option<Duration>,
    /// Whether to give [`Effect::Record`].
    pub is_recorded: bool,
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
    /// How long to wait for an offer that fits; again, when a launch came to nothing.
    pub offer_timeout: Option<Duration>,
    /// Where it may run.
    pub terms: Terms,
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
        /// 1, 2 or 15.
        signal: u8,
        /// Overrides the task's own grace.
        grace: Option<Duration>,
    },
    /// Pass this signal on to the task.
    Signal {
        /// The task id given in `Add`.
        task_id: String,
        /// Its number.
        signal: u8,
    },
    /// Pass this part of its standard input on to the task. It is not sent where [`Scheduler::can_reach`] says no.
    Stdin {
        /// The task id given in `Add`.
        task_id: String,
        /// Of the first byte.
        offset: u64,
        /// Perhaps none.
        bytes: Vec<u8>,
        /// Whether there are no more.
        is_last: bool,
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
    /// What the master says about its agents, asked for while nothing is offered.
    Surveyed(Survey),
    /// `next_timeout` has passed, or nothing happened.
    Tick,
    /// End everything: tear the framework down, then `Effect::Finish`.
    Stop,
    /// Go away and leave everything as it is, for somebody else to continue: `Effect::Finish` without TEARDOWN.
    Leave,
}

/// What the shell must do, in this order.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "effects are performed one by one, never stored in numbers")]
pub enum Effect {
    /// Find the leader and open the event stream with this call; drop an old stream first.
    Subscribe(Box<scheduler::Call>),
    /// Close the stream.
    Disconnect,
    /// Remember this, safely, before any effect behind it is performed.
    Record(Record),
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
        /// The accepted offer (resources removed); all tasks that were launched with it share it.
        offer: Arc<mesos::Offer>,
    },
    /// The task's executor says that there is output after a silence, for the tail.
    OutputAgain {
        /// The task id given in `Add`.
        task_id: String,
    },
    /// The task's executor says how far its standard input is.
    Stdin {
        /// The task id given in `Add`.
        task_id: String,
        /// How far.
        progress: StdinProgress,
    },
    /// This task is over. (`Update::Ended` is the shell's to send, once the output is complete.)
    Ended {
        /// The task id given in `Add`.
        task_id: String,
        /// How.
        outcome: Outcome,
    },
    /// Everything is over; the framework is torn down (or cannot be). Calls given before must still be sent.
    Finish,
}

/// The scheduler of one framework with any number of tasks.
///
/// Call `handle` with every input as it happens, and with `Tick` when `next_timeout` has passed; perform the effects in
/// their order. It subscribes at the first input and is done with `Effect::Finish`, which only follows `Input::Stop` and
/// `Input::Leave`.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    chance: fastrand::Rng,
    life: Life,
    connection: Connection,
    calls: Calls,
    /// Boxed: those around one that leaves are moved.
    tasks: BTreeMap<TaskKey, Box<Entry>>,
    next_key: TaskKey,
    by_id: HashMap<String, TaskKey>,
    by_wire_id: HashMap<String, TaskKey>,
    by_agent: HashMap<String, BTreeSet<TaskKey>>,
    /// Placements that were given up without proof that they ended, by their id on the wire.
    abandoned: BTreeMap<String, Abandoned>,
    queue: Queue,
    flow: Flow,
    shortfalls: Shortfalls,
    failed: Failed,
    survey: Option<Survey>,
    report: Report,
    reconcile: Reconcile,
    /// Tasks to ask the master about when the input is handled.
    questions: BTreeSet<TaskKey>,
    timers: Timers,
    is_launchable: bool,
    /// Signals passed on to tasks whose executors have not answered.
    awaited: Vec<signals::Awaited>,
}

#[derive(Debug)]
struct Abandoned {
    key: TaskKey,
    placement: Placement,
    kill_grace: Duration,
    is_killed: bool,
}

impl Scheduler {
    /// A scheduler without tasks, not connected.
    pub fn new(config: Config) -> Self {
        let Config { connect_timeout, reconnect_timeout, .. } = config;
        let failover_timeout = config.framework.failover_timeout();
        let connection = Connection::new(failover_timeout, connect_timeout, reconnect_timeout, &config.master);
        Self {
            chance: fastrand::Rng::with_seed(config.seed),
            life: Life::Working,
            connection,
            calls: Calls::new(config.framework.id.clone()),
            tasks: BTreeMap::new(),
            next_key: 0,
            by_id: HashMap::default(),
            by_wire_id: HashMap::default(),
            by_agent: HashMap::default(),
            abandoned: BTreeMap::new(),
            queue: Queue::default(),
            flow: Flow::new(),
            shortfalls: Shortfalls::default(),
            failed: Failed::default(),
            survey: None,
            report: Report::default(),
            reconcile: Reconcile::new(),
            questions: BTreeSet::new(),
            timers: Timers::default(),
            is_launchable: true,
            awaited: Vec::new(),
            config,
        }
    }

    /// Takes one input; what must be done comes back in order. `now` never goes backwards.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.handle_into(now, input, &mut effects);
        effects
    }

    /// As `handle`, appending to the caller's effects.
    pub fn handle_into(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        if self.life == Life::Finished {
            return;
        }
        match input {
            Input::Add(task) => self.add(now, task, effects),
            Input::Interrupt { task_id, signal, grace } => self.interrupt(now, &task_id, signal, grace, effects),
            Input::Signal { task_id, signal } => self.signal(now, &task_id, signal, effects),
            Input::Stdin { task_id, offset, bytes, is_last } => {
                self.send_stdin(&task_id, offset, bytes, is_last, effects);
            }
            Input::Connected { master } => self.opened(now, master),
            Input::Disconnected { reason, is_fatal } => self.broken(now, reason, is_fatal, effects),
            Input::Event(event) => self.event(now, *event, effects),
            Input::CallFailed { call, reason } => self.call_failed(now, *call, &reason, effects),
            Input::Surveyed(survey) => self.survey = Some(survey),
            Input::Tick => {}
            Input::Stop => self.stop(now, effects),
            Input::Leave => self.finish(effects),
        }
        self.tick(now, effects);
        self.settle(now, effects);
    }

    /// When to call `handle` with `Tick` at the latest; `None`: nothing is due.
    pub fn next_timeout(&self) -> Option<Time> {
        match self.life {
            Life::Working => {
                let own = [self.connection.due(), self.timers.due(), self.signals_due()];
                let subscribed = [self.reconcile.due(), self.flow.due(), self.report.due()];
                let subscribed = subscribed.into_iter().filter(|_| self.connection.is_subscribed());
                own.into_iter().chain(subscribed).flatten().min()
            }
            Life::Leaving { until } => Some(until),
            Life::TearingDown { until, repeat_at, .. } => Some(repeat_at.map_or(until, |at| at.min(until))),
            Life::Finished => None,
        }
    }

    /// Everything that is due and has no input of its own.
    fn tick(&mut self, now: Time, effects: &mut Vec<Effect>) {
        match self.life {
            Life::Working => {
                self.tick_connection(now, effects);
                while let Some(key) = self.timers.pop(now, &self.tasks) {
                    self.tick_task(now, key, effects);
                }
                self.timers.prune(&self.tasks);
                self.tick_signals(now, effects);
            }
            Life::Leaving { .. } | Life::TearingDown { .. } => self.tick_stop(now, effects),
            Life::Finished => {}
        }
    }

    /// What follows from the sum of what happened: questions, REVIVE or SUPPRESS, a report.
    fn settle(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.life == Life::Working && self.connection.is_subscribed() {
            self.ask(now, effects);
            self.settle_offers(now, effects);
        }
    }
}
