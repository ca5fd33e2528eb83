//! One task, from `Add` to its end. Each input gives a `Step`: what was applied and what follows from it, or why it was not.
//!
//! ```text
//!    Add                accept               STAGING      STARTING     RUNNING
//! ---------> waiting ------------> launching -------> staging ------> starting ------> running      (forward only, may skip)
//!   offer      ^ |                     |                  |              |               |
//!   timeout    | |                     |                  |   UNREACHABLE, or the master does not know it (yet)
//!              | |                     |                  v              v               v
//!              | |                     `------------------------------ lost <------------'
//!              | |                                                     |  ^
//!              `-|-- never ran: dropped, or the cluster proves that it |  `-> back to where it was, when it is heard of
//!                |   does not know it and nothing was ever heard of it |
//!                |                                                     v
//!                |        interrupt, or run timeout:                killing
//!                v                                                     |  terminal, unknown, or no answer for too long
//!              ended <------------------------------------------------'   (and from each state: a terminal update)
//! ```
//!
//! - **waiting**: in the queue for offers. Ends here by interrupt or offer timeout.
//! - **launching**: ACCEPT was posted, nothing was heard. Whether it arrived may be in doubt; then the offer is declined
//!   (which takes it off the table if the ACCEPT has not used it) and the master is asked. Only its answer launches again.
//! - **staging**: the master knows the task; the agent has said nothing.
//! - **starting**, **running**: the agent or the executor reports. From the first RUNNING, the run timeout counts.
//! - **killing**: KILL was sent and is repeated until the end. The outcome is already known: the kill's cause.
//! - **lost**: its agent is cut off, or a new master has not met it. Not over: bounded by `LOST_LIMIT`.
//! - **ended**: over; the scheduler forgets it.

use std::time::Duration;

use proto::mesos::task_status::{Reason, Source};
use proto::mesos::{TaskState, TaskStatus};

use super::offers::ShapeId;
use super::reconcile::Proof;
use super::{Task, Time, message};
use crate::exit::Outcome;

/// After an ACCEPT, the master or the agent says something within milliseconds; else ask.
const LAUNCH_SILENCE: Duration = Duration::from_secs(15);

/// What the master says, word for word, of an ACCEPT that comes when the agent is already gone (0.24 to 1.11). With other
/// words, the same reasons mean that the agent went away with a task that it had been given.
const DROPPED_AT_THE_DOOR: [&str; 4] = ["Agent removed", "Agent disconnected", "Slave removed", "Slave disconnected"];

/// How long a task may be lost. An agent restarted by hand, or by a slow reboot, is back by then.
const LOST_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Between the first two KILLs; doubles. One KILL is enough unless it is lost on the way.
const FIRST_KILL_REPEAT: Duration = Duration::from_secs(2);

/// Where doubling ends.
const LAST_KILL_REPEAT: Duration = Duration::from_secs(16);

/// Beyond the grace period: the engine stops the container, the agent resends a lost update after 10 s and again after 20 s.
const KILL_LIMIT: Duration = Duration::from_secs(35);

/// After a forced kill: who asks twice does not want to wait.
const FORCED_KILL_LIMIT: Duration = Duration::from_secs(10);

/// A task and where it stands.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) task: Box<Task>,
    pub(super) added_at: Time,
    /// How often an offer was accepted for it.
    pub(super) launches: u32,
    /// The deadline that the scheduler has put into its timers.
    pub(super) scheduled: Option<Time>,
    /// Where it waits, see `offers`.
    pub(super) shape: ShapeId,
    state: State,
    run_deadline: Option<Time>,
    last_reported: Option<(TaskState, Option<bool>)>,
}

#[derive(Debug)]
pub(super) enum State {
    /// In the queue since then.
    Waiting { since: Time },
    /// ACCEPT was posted; `ask_at` is when silence becomes suspicious.
    Launching { placement: Placement, ask_at: Option<Time> },
    /// The master knows it.
    Staging { placement: Placement },
    /// The executor prepares it.
    Starting { placement: Placement },
    /// It runs.
    Running { placement: Placement },
    /// It was asked to end.
    Killing { placement: Placement, kill: Kill },
    /// Nobody knows.
    Lost { placement: Placement, since: Time, cause: Cut },
    /// Over; nothing follows.
    Ended,
}

/// Where a task was launched.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placement {
    /// The task's id on the wire.
    pub(super) wire_id: String,
    pub(super) agent_id: String,
    pub(super) hostname: String,
    pub(super) offer_id: String,
    /// In which the offer was accepted, see `reconcile`.
    pub(super) subscription: u32,
    pub(super) doubt: Doubt,
    /// Whether the agent or the executor ever reported it. If not, it may be launched again once that is proven safe.
    pub(super) is_heard: bool,
}

/// Whether the ACCEPT may still be on its way when the master says that it does not know the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It was posted, and nobody says that it failed.
    None,
    /// It may arrive late, but a DECLINE of its offer was posted before the question.
    Fenced,
    /// It may arrive late, and the DECLINE may not have arrived either.
    Open,
}

/// Why nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The master does not reach the agent, or has not met it.
    Agent,
    /// The master knows that the task has ended, but not with which code: that comes with the agent's own update, which it
    /// repeats until it is acknowledged.
    Ending,
}

/// A kill in progress.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kill {
    cause: Cause,
    pub(super) grace: Duration,
    is_forced: bool,
    repeat_in: Duration,
    repeat_at: Time,
    give_up_at: Time,
}

#[derive(Debug, Clone, PartialEq)]
enum Cause {
    Interrupted(u8),
    /// "timed out after 10s".
    TimedOut(String),
}

/// What an input did.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Applied(Applied),
    /// Nothing changed, and that is fine.
    Ignored(&'static str),
    /// The input makes no sense in this state.
    Refused(&'static str),
}

#[derive(Debug, PartialEq)]
pub(super) struct Applied {
    /// The update is the first of its kind: report it.
    pub(super) is_news: bool,
    /// Worth telling a person.
    pub(super) notice: Option<String>,
    pub(super) then: Then,
}

#[derive(Debug, PartialEq)]
pub(super) enum Then {
    Nothing,
    /// Ask the master about it now, behind a DECLINE of its offer if there is doubt.
    Ask,
    /// Its agent is cut off: go on asking.
    KeepAsking,
    /// The master does not know it, which proves nothing before its agent has joined: go on asking, and let offers come.
    AwaitAgent,
    /// It never ran: call `relaunch` and queue it again.
    Relaunch {
        why: String,
    },
    /// Send KILL.
    Kill {
        /// Not a mere repeat.
        is_new: bool,
    },
    /// No offer came in time: the scheduler knows what was missing.
    EndWaiting,
    /// Over. If it is not confirmed, it may still run, and must be killed should it ever be heard of.
    End {
        outcome: Outcome,
        is_confirmed: bool,
    },
}

/// What a status update says about a task, before asking what that means in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// STAGING, STARTING, RUNNING, KILLING.
    Alive(TaskState),
    /// Over, by whoever ran it, or refused for good.
    Ended,
    /// Over, says the master when asked: without the code.
    EndedSomehow,
    /// The master dropped the ACCEPT: this copy of it, at least.
    AcceptDropped,
    /// TASK_DROPPED, or the agent was gone when the ACCEPT came.
    NeverRan,
    /// The master lost the agent.
    AgentLost,
    /// Asked, the master does not know the task.
    Unknown,
    /// Asked, the master knows the agent, and the agent does not know the task.
    Gone,
    /// The agent is cut off.
    Unreachable,
}

impl Entry {
    pub(super) fn new(task: Box<Task>, now: Time, shape: ShapeId) -> Self {
        Self {
            task,
            added_at: now,
            launches: 0,
            scheduled: None,
            shape,
            state: State::Waiting { since: now },
            run_deadline: None,
            last_reported: None,
        }
    }

    /// As given in `Add`.
    pub(super) fn id(&self) -> &str {
        &self.task.info.task_id.value
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn placement(&self) -> Option<&Placement> {
        match &self.state {
            State::Waiting { .. } | State::Ended => None,
            State::Launching { placement, .. }
            | State::Staging { placement }
            | State::Starting { placement }
            | State::Running { placement }
            | State::Killing { placement, .. }
            | State::Lost { placement, .. } => Some(placement),
        }
    }

    fn placement_mut(&mut self) -> Option<&mut Placement> {
        match &mut self.state {
            State::Waiting { .. } | State::Ended => None,
            State::Launching { placement, .. }
            | State::Staging { placement }
            | State::Starting { placement }
            | State::Running { placement }
            | State::Killing { placement, .. }
            | State::Lost { placement, .. } => Some(placement),
        }
    }

    pub(super) fn kill(&self) -> Option<&Kill> {
        match &self.state {
            State::Killing { kill, .. } => Some(kill),
            State::Waiting { .. }
            | State::Launching { .. }
            | State::Staging { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Lost { .. }
            | State::Ended => None,
        }
    }

    /// An offer was accepted for it.
    pub(super) fn accepted(&mut self, now: Time, placement: Placement) -> Step {
        match self.state {
            State::Waiting { .. } => {
                self.launches += 1;
                self.state = State::Launching { placement, ask_at: Some(now + LAUNCH_SILENCE) };
                Step::applied(Then::Nothing)
            }
            State::Launching { .. }
            | State::Staging { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Killing { .. }
            | State::Lost { .. } => Step::Refused("it has an offer"),
            State::Ended => Step::Refused("it is over"),
        }
    }

    /// Since when it waits for an offer, if it does.
    pub(super) fn waiting_since(&self) -> Option<Time> {
        match self.state {
            State::Waiting { since } => Some(since),
            State::Launching { .. }
            | State::Staging { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Killing { .. }
            | State::Lost { .. }
            | State::Ended => None,
        }
    }

    /// Back to waiting; gives the placement that came to nothing.
    pub(super) fn relaunch(&mut self, now: Time) -> Option<Placement> {
        self.run_deadline = None;
        self.last_reported = None;
        self.replace(State::Waiting { since: now })
    }

    /// A placement that was given up for never having run is heard of after all, before the task got another.
    pub(super) fn adopt(&mut self, placement: Placement) -> Step {
        match self.state {
            State::Waiting { .. } => {
                self.state = State::Launching { placement, ask_at: None };
                Step::applied(Then::Nothing)
            }
            State::Launching { .. }
            | State::Staging { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Killing { .. }
            | State::Lost { .. } => Step::Refused("it has another placement"),
            State::Ended => Step::Refused("it is over"),
        }
    }

    /// The end, whatever came before; gives the placement.
    pub(super) fn end(&mut self) -> Option<Placement> {
        self.replace(State::Ended)
    }

    fn replace(&mut self, next: State) -> Option<Placement> {
        match std::mem::replace(&mut self.state, next) {
            State::Waiting { .. } | State::Ended => None,
            State::Launching { placement, .. }
            | State::Staging { placement }
            | State::Starting { placement }
            | State::Running { placement }
            | State::Killing { placement, .. }
            | State::Lost { placement, .. } => Some(placement),
        }
    }

    /// The outcome when nothing else is known: a kill's cause goes first.
    pub(super) fn outcome(&self, own: Outcome) -> Outcome {
        match self.kill() {
            Some(Kill { cause: Cause::Interrupted(signal), .. }) => Outcome::Interrupted(*signal),
            Some(Kill { cause: Cause::TimedOut(why), .. }) => {
                Outcome::TimedOut(format!("task {:?} {why}; allow more with --timeout", self.id()))
            }
            None => own,
        }
    }

    /// `Failed`, naming the task and its agent.
    fn failed(&self, what: &str) -> Outcome {
        Outcome::Failed(match self.placement() {
            Some(placement) => format!("task {:?} on {}: {what}", self.id(), placement.hostname),
            None => format!("task {:?}: {what}", self.id()),
        })
    }

    /// A status update for its present placement. `proof`: what it means if it says that the task is unknown.
    pub(super) fn status(&mut self, now: Time, status: &TaskStatus, proof: Proof) -> Step {
        let news = News::of(status);
        let was_heard = self.placement().is_some_and(|placement| placement.is_heard);
        if is_from_agent(status)
            && let Some(placement) = self.placement_mut()
        {
            placement.is_heard = true;
        }
        match news {
            News::Alive(state) => self.alive(now, state, status.healthy),
            News::Ended => self.over(status),
            News::EndedSomehow => self.over_somehow(now, status),
            News::AcceptDropped => self.accept_dropped(was_heard),
            News::NeverRan => self.never_ran(status, was_heard),
            News::AgentLost => self.agent_lost(status),
            News::Unknown => self.unknown(now, proof, was_heard),
            News::Gone => self.unknown(now, Proof::NeverRan, was_heard),
            News::Unreachable => self.unreachable(now),
        }
    }

    fn alive(&mut self, now: Time, state: TaskState, healthy: Option<bool>) -> Step {
        let known = match &self.state {
            State::Waiting { .. } => return Step::Refused("it has no placement"),
            State::Ended => return Step::Ignored("it is over"),
            State::Launching { .. } => 0,
            State::Staging { .. } => 1,
            State::Starting { .. } => 2,
            State::Running { .. } => 3,
            State::Killing { .. } => self.last_reported.map_or(0, |(reported, _)| rank(reported)),
            State::Lost { .. } => 0,
        };
        if rank(state) < known {
            return Step::Ignored("older than what is known");
        }
        let was_lost = matches!(self.state, State::Lost { cause: Cut::Agent, .. });
        if !matches!(self.state, State::Killing { .. })
            && let Some(placement) = self.replace(State::Ended)
        {
            self.state = match rank(state) {
                0 | 1 => State::Staging { placement },
                2 => State::Starting { placement },
                _ => State::Running { placement },
            };
        }
        if rank(state) >= 3 && self.run_deadline.is_none() {
            self.run_deadline = self.task.run_timeout.map(|timeout| now.saturating_add(timeout));
        }
        let is_news = self.is_news(state, healthy);
        let notice = was_lost.then(|| format!("task {:?} is back", self.id()));
        Step::Applied(Applied { is_news, notice, then: Then::Nothing })
    }

    fn is_news(&mut self, state: TaskState, healthy: Option<bool>) -> bool {
        let is_news = self.last_reported != Some((state, healthy));
        self.last_reported = Some((state, healthy));
        is_news
    }

    fn over(&mut self, status: &TaskStatus) -> Step {
        match &self.state {
            State::Waiting { .. } => return Step::Refused("it has no placement"),
            State::Ended => return Step::Ignored("it is over"),
            State::Launching { .. }
            | State::Staging { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Killing { .. }
            | State::Lost { .. } => {}
        }
        let own = match message::outcome(status) {
            Outcome::Failed(what) => self.failed(&what),
            own @ (Outcome::Exited(_)
            | Outcome::Signaled(_)
            | Outcome::TimedOut(_)
            | Outcome::Interrupted(_)
            | Outcome::Detached) => own,
        };
        let notice = self.kill().is_none().then(|| message::remark(status)).flatten();
        let then = Then::End { outcome: self.outcome(own), is_confirmed: is_certain_end(status.state()) };
        Step::Applied(Applied { is_news: true, notice, then })
    }

    /// A kill's outcome needs no code; else the agent's own update will tell.
    fn over_somehow(&mut self, now: Time, status: &TaskStatus) -> Step {
        match &self.state {
            State::Waiting { .. } => Step::Refused("it has no placement"),
            State::Ended => Step::Ignored("it is over"),
            State::Killing { .. } => self.over(status),
            State::Lost { cause: Cut::Ending, .. } => Step::applied(Then::KeepAsking),
            State::Launching { .. }
            | State::Staging { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Lost { cause: Cut::Agent, .. } => {
                self.lose(now, Cut::Ending);
                Step::applied(Then::KeepAsking)
            }
        }
    }

    /// A second copy of the ACCEPT is dropped like this, too, while the task of the first one lives: so ask.
    fn accept_dropped(&mut self, was_heard: bool) -> Step {
        if was_heard {
            return Step::Ignored("it was launched by an earlier copy of the ACCEPT");
        }
        match &self.state {
            State::Launching { .. } | State::Staging { .. } | State::Killing { .. } | State::Lost { .. } => {
                self.doubt()
            }
            State::Starting { .. } | State::Running { .. } => {
                Step::Ignored("it was launched by an earlier copy of the ACCEPT")
            }
            State::Waiting { .. } => Step::Refused("it has no placement"),
            State::Ended => Step::Ignored("it is over"),
        }
    }

    /// The ACCEPT may not have arrived: nobody knows, so ask.
    pub(super) fn accept_failed(&mut self) -> Step {
        match &self.state {
            State::Launching { .. } | State::Killing { .. } | State::Lost { .. } => self.doubt(),
            State::Staging { .. } | State::Starting { .. } | State::Running { .. } => Step::Ignored("it has arrived"),
            State::Waiting { .. } => Step::Ignored("it was given up before"),
            State::Ended => Step::Ignored("it is over"),
        }
    }

    fn doubt(&mut self) -> Step {
        if let Some(placement) = self.placement_mut() {
            placement.doubt = Doubt::Fenced;
        }
        if let State::Launching { ask_at, .. } = &mut self.state {
            *ask_at = None;
        }
        Step::applied(Then::Ask)
    }

    /// The DECLINE that stands between a doubtful ACCEPT and the question about it may not have arrived.
    pub(super) fn fence_failed(&mut self) {
        if let Some(placement) = self.placement_mut()
            && placement.doubt == Doubt::Fenced
        {
            placement.doubt = Doubt::Open;
        }
    }

    /// The DECLINE was posted (again), just before the question.
    pub(super) fn fenced(&mut self) {
        if let Some(placement) = self.placement_mut()
            && placement.doubt == Doubt::Open
        {
            placement.doubt = Doubt::Fenced;
        }
    }

    /// A new subscription ends all offers of the one before: an ACCEPT that is still on its way comes to nothing.
    pub(super) fn resubscribed(&mut self) {
        if let Some(placement) = self.placement_mut() {
            placement.doubt = Doubt::None;
        }
        if let State::Launching { ask_at, .. } = &mut self.state {
            *ask_at = None;
        }
    }

    fn never_ran(&mut self, status: &TaskStatus, was_heard: bool) -> Step {
        match &self.state {
            State::Waiting { .. } => Step::Refused("it has no placement"),
            State::Ended => Step::Ignored("it is over"),
            State::Killing { .. } => self.over(status),
            State::Launching { .. }
            | State::Staging { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Lost { .. } => {
                if was_heard {
                    self.over(status)
                } else {
                    Step::applied(Then::Relaunch { why: message::explain(status) })
                }
            }
        }
    }

    fn agent_lost(&mut self, status: &TaskStatus) -> Step {
        match &self.state {
            State::Waiting { .. } => return Step::Refused("it has no placement"),
            State::Ended => return Step::Ignored("it is over"),
            State::Launching { .. }
            | State::Staging { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Killing { .. }
            | State::Lost { .. } => {}
        }
        let notice = self.kill().is_some().then(|| format!("task {:?} was lost with its agent", self.id()));
        let outcome = self.outcome(self.failed(&message::explain(status)));
        Step::Applied(Applied { is_news: true, notice, then: Then::End { outcome, is_confirmed: false } })
    }

    fn unknown(&mut self, now: Time, proof: Proof, was_heard: bool) -> Step {
        let is_doubtful = self.placement().is_some_and(|placement| placement.doubt == Doubt::Open);
        let proof = if is_doubtful && !was_heard { Proof::Nothing } else { proof };
        match &self.state {
            State::Waiting { .. } => return Step::Refused("it has no placement"),
            State::Ended => return Step::Ignored("it is over"),
            State::Killing { .. } => match proof {
                Proof::Nothing => return Step::applied(Then::AwaitAgent),
                Proof::Over | Proof::NeverRan => {
                    let outcome = self.outcome(Outcome::Interrupted(0));
                    return Step::applied(Then::End { outcome, is_confirmed: false });
                }
            },
            State::Launching { .. }
            | State::Staging { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Lost { .. } => {}
        }
        match (proof, was_heard) {
            (Proof::NeverRan, false) => {
                Step::applied(Then::Relaunch { why: "the launch never reached its agent".to_owned() })
            }
            (Proof::NeverRan | Proof::Over, true) => {
                let outcome = self.failed(
                    "the cluster does not know the task any more, nor how it ended; \
                     check what it did, then launch again",
                );
                Step::applied(Then::End { outcome, is_confirmed: false })
            }
            (Proof::Over, false) | (Proof::Nothing, _) => self.await_agent(now, is_doubtful),
        }
    }

    fn await_agent(&mut self, now: Time, is_doubtful: bool) -> Step {
        if matches!(self.state, State::Lost { .. }) {
            return Step::applied(Then::AwaitAgent);
        }
        let newcomer = self.placement().filter(|_| !is_doubtful);
        let notice = newcomer.map(|placement| {
            let (id, host) = (self.id(), &placement.hostname);
            format!("the master does not know task {id:?}; waiting for a sign of agent {host}")
        });
        self.lose(now, Cut::Agent);
        Step::Applied(Applied { is_news: false, notice, then: Then::AwaitAgent })
    }

    fn unreachable(&mut self, now: Time) -> Step {
        match &self.state {
            State::Waiting { .. } => return Step::Refused("it has no placement"),
            State::Ended => return Step::Ignored("it is over"),
            State::Lost { .. } => {
                let is_news = self.is_news(TaskState::TaskUnreachable, None);
                return Step::Applied(Applied { is_news, notice: None, then: Then::KeepAsking });
            }
            // The agent will be told to end the task when it is back, because the framework is gone by then.
            State::Killing { placement, .. } => {
                let notice = format!(
                    "agent {} cannot be reached: task {:?} may run until it is back",
                    placement.hostname,
                    self.id()
                );
                let then = Then::End { outcome: self.outcome(Outcome::Interrupted(0)), is_confirmed: false };
                return Step::Applied(Applied { is_news: true, notice: Some(notice), then });
            }
            State::Launching { .. } | State::Staging { .. } | State::Starting { .. } | State::Running { .. } => {}
        }
        let notice = self.placement().map(|placement| {
            format!(
                "agent {} of task {:?} cannot be reached; waiting up to {LOST_LIMIT:?} for it",
                placement.hostname,
                self.id()
            )
        });
        self.lose(now, Cut::Agent);
        let is_news = self.is_news(TaskState::TaskUnreachable, None);
        Step::Applied(Applied { is_news, notice, then: Then::KeepAsking })
    }

    fn lose(&mut self, now: Time, cause: Cut) {
        if let Some(placement) = self.replace(State::Ended) {
            self.state = State::Lost { placement, since: now, cause };
        }
    }

    /// The user wants it to end; the second time at once.
    pub(super) fn interrupt(&mut self, now: Time, signal: u8, grace: Option<Duration>) -> Step {
        match &mut self.state {
            State::Waiting { .. } => {
                Step::applied(Then::End { outcome: Outcome::Interrupted(signal), is_confirmed: true })
            }
            State::Killing { kill, .. } if kill.is_forced => Step::Ignored("already forced"),
            State::Killing { kill, .. } => {
                kill.is_forced = true;
                kill.grace = Duration::ZERO;
                kill.repeat_in = FIRST_KILL_REPEAT;
                kill.repeat_at = now + FIRST_KILL_REPEAT;
                kill.give_up_at = now + FORCED_KILL_LIMIT;
                Step::applied(Then::Kill { is_new: true })
            }
            State::Launching { .. }
            | State::Staging { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Lost { .. } => {
                let grace = grace.unwrap_or(self.task.kill_grace);
                self.start_kill(now, Cause::Interrupted(signal), grace)
            }
            State::Ended => Step::Ignored("it is over"),
        }
    }

    /// A kill that was begun before the scheduler was restored.
    pub(super) fn kill_again(&mut self, now: Time, signal: Option<u8>, grace: Duration) -> Step {
        let cause = match signal {
            Some(signal) => Cause::Interrupted(signal),
            None => Cause::TimedOut(format!("timed out after {:?}", self.task.run_timeout.unwrap_or_default())),
        };
        self.start_kill(now, cause, grace)
    }

    /// The last update was not heard now, but so long ago: that much of the run timeout is gone.
    pub(super) fn age(&mut self, now: Time, age: Duration) {
        if let (Some(deadline), Some(timeout)) = (&mut self.run_deadline, self.task.run_timeout)
            && *deadline == now.saturating_add(timeout)
        {
            *deadline = now.saturating_add(timeout.saturating_sub(age));
        }
    }

    fn start_kill(&mut self, now: Time, cause: Cause, grace: Duration) -> Step {
        let Some(placement) = self.replace(State::Ended) else { return Step::Refused("it has no placement") };
        let kill = Kill {
            cause,
            grace,
            is_forced: grace.is_zero(),
            repeat_in: FIRST_KILL_REPEAT,
            repeat_at: now + FIRST_KILL_REPEAT,
            give_up_at: now.saturating_add(grace).saturating_add(KILL_LIMIT),
        };
        self.state = State::Killing { placement, kill };
        Step::applied(Then::Kill { is_new: true })
    }

    /// When to call `tick` at the latest.
    pub(super) fn due(&self) -> Option<Time> {
        match &self.state {
            State::Waiting { .. } => self.task.offer_timeout.map(|timeout| self.added_at.saturating_add(timeout)),
            State::Launching { ask_at, .. } => *ask_at,
            State::Staging { .. } | State::Starting { .. } | State::Ended => None,
            State::Running { .. } => self.run_deadline,
            State::Killing { kill, .. } => Some(kill.repeat_at.min(kill.give_up_at)),
            State::Lost { since, .. } => {
                Some(self.run_deadline.unwrap_or(Time::MAX).min(since.saturating_add(LOST_LIMIT)))
            }
        }
    }

    /// `due` has passed.
    pub(super) fn tick(&mut self, now: Time) -> Step {
        if self.due().is_none_or(|due| due > now) {
            return Step::Ignored("nothing is due");
        }
        match &mut self.state {
            State::Waiting { .. } => Step::applied(Then::EndWaiting),
            State::Launching { ask_at, .. } => {
                *ask_at = None;
                Step::applied(Then::Ask)
            }
            State::Staging { .. } | State::Starting { .. } | State::Ended => Step::Ignored("nothing is due"),
            State::Running { .. } => self.run_timed_out(now),
            State::Killing { kill, .. } if kill.give_up_at <= now => {
                let notice = format!("nobody confirms that task {:?} has ended; it may still run", self.id());
                let then = Then::End { outcome: self.outcome(Outcome::Interrupted(0)), is_confirmed: false };
                Step::Applied(Applied { is_news: false, notice: Some(notice), then })
            }
            State::Killing { kill, .. } => {
                kill.repeat_in = (kill.repeat_in * 2).min(LAST_KILL_REPEAT);
                kill.repeat_at = now + kill.repeat_in;
                Step::applied(Then::Kill { is_new: false })
            }
            State::Lost { .. } if self.run_deadline.is_some_and(|deadline| deadline <= now) => self.run_timed_out(now),
            State::Lost { cause, .. } => {
                let what = match cause {
                    Cut::Agent => "its agent did not come back",
                    Cut::Ending => "the task has ended, but its agent did not report how",
                };
                let outcome = self.failed(&format!(
                    "{what} within {LOST_LIMIT:?}; the task may have run: check what it did, then launch again"
                ));
                Step::applied(Then::End { outcome, is_confirmed: false })
            }
        }
    }

    fn run_timed_out(&mut self, now: Time) -> Step {
        let timeout = self.task.run_timeout.unwrap_or_default();
        let grace = self.task.kill_grace;
        self.start_kill(now, Cause::TimedOut(format!("timed out after {timeout:?}")), grace)
    }
}

impl Kill {
    /// The user's; none when the run timeout has passed.
    pub(super) fn signal(&self) -> Option<u8> {
        match self.cause {
            Cause::Interrupted(signal) => Some(signal),
            Cause::TimedOut(_) => None,
        }
    }

    /// For people: "interrupted", "timed out after 10s".
    pub(super) fn why(&self) -> String {
        match &self.cause {
            Cause::Interrupted(_) => "interrupted".to_owned(),
            Cause::TimedOut(why) => why.clone(),
        }
    }
}

impl Step {
    fn applied(then: Then) -> Self {
        Self::Applied(Applied { is_news: false, notice: None, then })
    }
}

impl News {
    fn of(status: &TaskStatus) -> Self {
        let reason = status.reason.and_then(|number| Reason::try_from(number).ok());
        let is_answer = matches!(reason, Some(Reason::Reconciliation | Reason::TaskUnknown | Reason::AgentUnknown));
        match status.state() {
            state @ (TaskState::TaskStaging
            | TaskState::TaskStarting
            | TaskState::TaskRunning
            | TaskState::TaskKilling) => Self::Alive(state),
            TaskState::TaskFailed | TaskState::TaskKilled if is_answer && !is_own(status) => Self::EndedSomehow,
            TaskState::TaskFinished | TaskState::TaskFailed | TaskState::TaskKilled | TaskState::TaskGoneByOperator => {
                Self::Ended
            }
            TaskState::TaskUnknown => Self::Unknown,
            TaskState::TaskUnreachable => Self::Unreachable,
            TaskState::TaskGone if is_answer => Self::Gone,
            TaskState::TaskError | TaskState::TaskDropped | TaskState::TaskLost
                if reason == Some(Reason::InvalidOffers) =>
            {
                Self::AcceptDropped
            }
            TaskState::TaskError => Self::Ended,
            TaskState::TaskDropped => Self::NeverRan,
            TaskState::TaskLost if is_answer => Self::Unknown,
            TaskState::TaskLost | TaskState::TaskGone
                if !is_own(status) && matches!(reason, Some(Reason::AgentRemoved | Reason::AgentDisconnected)) =>
            {
                match DROPPED_AT_THE_DOOR.contains(&status.message()) {
                    true => Self::NeverRan,
                    false => Self::AgentLost,
                }
            }
            TaskState::TaskLost | TaskState::TaskGone => Self::Ended,
        }
    }
}

/// Whether the agent or the executor has reported the task, if only to the master.
fn is_from_agent(status: &TaskStatus) -> bool {
    is_own(status) || has_run(status.state())
}

/// Whether this update is the agent's or the executor's own; only these carry a uuid.
fn is_own(status: &TaskStatus) -> bool {
    let is_theirs = match status.source.and_then(|number| Source::try_from(number).ok()) {
        Some(Source::Agent | Source::Executor) => true,
        Some(Source::Master) | None => false,
    };
    is_theirs || status.uuid.as_ref().is_some_and(|uuid| !uuid.is_empty())
}

/// Whether a task in this state has been with its agent, whoever says so.
fn has_run(state: TaskState) -> bool {
    match state {
        TaskState::TaskStarting
        | TaskState::TaskRunning
        | TaskState::TaskKilling
        | TaskState::TaskFinished
        | TaskState::TaskFailed
        | TaskState::TaskKilled => true,
        TaskState::TaskStaging
        | TaskState::TaskLost
        | TaskState::TaskError
        | TaskState::TaskDropped
        | TaskState::TaskUnreachable
        | TaskState::TaskGone
        | TaskState::TaskGoneByOperator
        | TaskState::TaskUnknown => false,
    }
}

/// Whether the task cannot run any more after this, or is only believed not to.
fn is_certain_end(state: TaskState) -> bool {
    match state {
        TaskState::TaskFinished
        | TaskState::TaskFailed
        | TaskState::TaskKilled
        | TaskState::TaskError
        | TaskState::TaskDropped => true,
        TaskState::TaskStaging
        | TaskState::TaskStarting
        | TaskState::TaskRunning
        | TaskState::TaskKilling
        | TaskState::TaskLost
        | TaskState::TaskUnreachable
        | TaskState::TaskGone
        | TaskState::TaskGoneByOperator
        | TaskState::TaskUnknown => false,
    }
}

/// The order in which a living task's states come.
fn rank(state: TaskState) -> u8 {
    match state {
        TaskState::TaskStaging => 1,
        TaskState::TaskStarting => 2,
        TaskState::TaskRunning => 3,
        TaskState::TaskKilling => 4,
        TaskState::TaskFinished
        | TaskState::TaskFailed
        | TaskState::TaskKilled
        | TaskState::TaskLost
        | TaskState::TaskError
        | TaskState::TaskDropped
        | TaskState::TaskUnreachable
        | TaskState::TaskGone
        | TaskState::TaskGoneByOperator
        | TaskState::TaskUnknown => 0,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
