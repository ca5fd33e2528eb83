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

mod kill;
mod news;

use std::time::Duration;

use proto::mesos::{TaskState, TaskStatus};

pub(super) use self::kill::Kill;
use self::news::{News, is_certain_end, is_from_agent, rank};
use super::offers::ShapeId;
use super::reconcile::Proof;
use super::{Task, Time, message};
use crate::exit::Outcome;

/// After an ACCEPT, the master or the agent says something within milliseconds; else ask.
const LAUNCH_SILENCE: Duration = Duration::from_secs(15);

/// How long a task may be lost. An agent restarted by hand, or by a slow reboot, is back by then.
const LOST_LIMIT: Duration = Duration::from_secs(20 * 60);

/// A task and where it stands.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) task: Box<Task>,
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

impl Entry {
    pub(super) fn new(task: Box<Task>, now: Time, shape: ShapeId) -> Self {
        Self {
            task,
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
        self.kill().map_or(own, |kill| kill.outcome(self.id()))
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
            State::Killing { kill, .. } => match proof {
                Proof::Nothing => return Step::applied(Then::AwaitAgent),
                Proof::Over | Proof::NeverRan => {
                    let outcome = kill.outcome(self.id());
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
            State::Killing { placement, kill } => {
                let notice = format!(
                    "agent {} cannot be reached: task {:?} may run until it is back",
                    placement.hostname,
                    self.id()
                );
                let then = Then::End { outcome: kill.outcome(self.id()), is_confirmed: false };
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

    /// The last update was not heard now, but so long ago: that much of the run timeout is gone.
    pub(super) fn age(&mut self, now: Time, age: Duration) {
        if let (Some(deadline), Some(timeout)) = (&mut self.run_deadline, self.task.run_timeout)
            && *deadline == now.saturating_add(timeout)
        {
            *deadline = now.saturating_add(timeout.saturating_sub(age));
        }
    }
}

impl Step {
    fn applied(then: Then) -> Self {
        Self::Applied(Applied { is_news: false, notice: None, then })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
