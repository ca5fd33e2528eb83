//! How a task is ended: kills and time limits. PURE.

use std::time::Duration;

use super::{Applied, Cut, Entry, LOST_LIMIT, State, Step, Then};
use crate::exit::Outcome;
use crate::scheduler::Time;

/// Between the first two KILLs; doubles. One KILL is enough unless it is lost on the way.
const FIRST_KILL_REPEAT: Duration = Duration::from_secs(2);

/// Where doubling ends.
const LAST_KILL_REPEAT: Duration = Duration::from_secs(16);

/// Beyond the grace period: the engine stops the container, the agent resends a lost update after 10 s and again after 20 s.
const KILL_LIMIT: Duration = Duration::from_secs(35);

/// After a forced kill: who asks twice does not want to wait.
const FORCED_KILL_LIMIT: Duration = Duration::from_secs(10);

/// A kill in progress.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::scheduler) struct Kill {
    cause: Cause,
    pub(in crate::scheduler) grace: Duration,
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

impl Kill {
    /// The user's; none when the run timeout has passed.
    pub(in crate::scheduler) fn signal(&self) -> Option<u8> {
        match self.cause {
            Cause::Interrupted(signal) => Some(signal),
            Cause::TimedOut(_) => None,
        }
    }

    /// How the killed task has ended, whatever it says itself.
    pub(super) fn outcome(&self, task_id: &str) -> Outcome {
        match &self.cause {
            Cause::Interrupted(signal) => Outcome::Interrupted(*signal),
            Cause::TimedOut(why) => Outcome::TimedOut(format!("task {task_id:?} {why}; allow more with --timeout")),
        }
    }

    /// For people: "interrupted", "timed out after 10s".
    pub(in crate::scheduler) fn why(&self) -> String {
        match &self.cause {
            Cause::Interrupted(_) => "interrupted".to_owned(),
            Cause::TimedOut(why) => why.clone(),
        }
    }
}

impl Entry {
    /// The user wants it to end; the second time at once.
    pub(in crate::scheduler) fn interrupt(&mut self, now: Time, signal: u8, grace: Option<Duration>) -> Step {
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
    pub(in crate::scheduler) fn kill_again(&mut self, now: Time, signal: Option<u8>, grace: Duration) -> Step {
        let cause = match signal {
            Some(signal) => Cause::Interrupted(signal),
            None => Cause::TimedOut(format!("timed out after {:?}", self.task.run_timeout.unwrap_or_default())),
        };
        self.start_kill(now, cause, grace)
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
    pub(in crate::scheduler) fn due(&self) -> Option<Time> {
        match &self.state {
            State::Waiting { since } => self.task.offer_timeout.map(|timeout| since.saturating_add(timeout)),
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
    pub(in crate::scheduler) fn tick(&mut self, now: Time) -> Step {
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
                let id = &self.task.info.task_id.value;
                let notice = format!("nobody confirms that task {id:?} has ended; it may still run");
                let then = Then::End { outcome: kill.outcome(id), is_confirmed: false };
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
