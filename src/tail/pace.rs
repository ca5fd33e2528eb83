//! PURE: when to look at the sandbox again, and when to give up.
//!
//! Mesos pushes no output, so it is found by looking. One look is one listing of the sandbox and shows both files. How soon:
//!
//! | the task | a look every | so its next byte is found within |
//! |---|---|---|
//! | not seen to run yet | 500 ms | 500 ms (it cannot have written much) |
//! | began to run or wrote less than 6 s ago | 100 ms | 100 ms and two round trips: below 150 ms |
//! | silent for longer: *idle* | 500 ms: 2 requests a second | where our executor runs the task: at once, else 500 ms |
//!
//! Both promises (150 ms to the terminal, 2 requests a second when idle) hold together because our executor sends a message when a
//! silent task writes again (`proto::record::ExecutorMessage`), which rings ([`Pace::rang`]). Mesos' own executors do
//! not: there a byte after a long silence waits for the next look.
//!
//! Moments are durations since any fixed one.
//!
//! A slow agent is asked less often: half of the time belongs to it. One that does not answer is asked after 0.1, 0.2, 0.4, ... 2 s.

use std::time::Duration;

/// When to look.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    is_running: bool,
    quick_until: Duration,
    look_started: Duration,
    next_look: Duration,
    /// Somebody rang, and no look began since.
    is_ringing: bool,
}

impl Pace {
    pub(super) fn new(now: Duration) -> Self {
        Self { is_running: false, quick_until: now, look_started: now, next_look: now + SLOW, is_ringing: false }
    }

    /// The task was seen to run, or somebody says that there is output: look now.
    pub(super) fn rang(&mut self, now: Duration) {
        self.is_running = true;
        self.quick_until = now + QUICK_FOR;
        self.is_ringing = true;
        self.next_look = now;
    }

    pub(super) fn next_look(&self) -> Duration {
        self.next_look
    }

    pub(super) fn look_started(&mut self, now: Duration) {
        self.look_started = now;
        self.is_ringing = false;
    }

    /// A look was answered; `has_grown` says whether it showed more bytes than the one before.
    ///
    /// `requests` is what it cost; a look of two requests counts for two.
    pub(super) fn looked(&mut self, now: Duration, has_grown: bool, requests: u32) {
        if has_grown {
            // Output may be seen before TASK_RUNNING is.
            self.is_running = true;
            self.quick_until = now + QUICK_FOR;
        }
        let started = self.look_started;
        let interval = if self.is_running && now < self.quick_until { QUICK } else { SLOW };
        self.look_at((started + interval * requests).max(now + (now - started)));
    }

    /// A look failed and should be tried again after `pause`.
    pub(super) fn failed(&mut self, now: Duration, pause: Duration) {
        self.look_at(now + pause);
    }

    fn look_at(&mut self, next: Duration) {
        // A ring during a look is not answered by it.
        if !self.is_ringing {
            self.next_look = next;
        }
    }
}

/// While something is expected.
pub(super) const QUICK: Duration = Duration::from_millis(100);

/// While nothing is: two requests a second.
pub(super) const SLOW: Duration = Duration::from_millis(500);

/// How long after a sign of life more is expected. A person who watches a task that prints every five seconds sees each line at once.
const QUICK_FOR: Duration = Duration::from_secs(6);

/// A row of failed requests.
#[derive(Debug, Clone)]
pub(super) struct Outage {
    kind: FaultKind,
    since: Duration,
    failures: u32,
    was_told: bool,
}

/// What a failed request says about the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// No connection, no answer in time, a broken or senseless answer, or "not now" (an agent that recovers): later, perhaps.
    Unreachable,
    /// Connections break before TLS begins: a proxy that restarts does that for seconds, an agent that speaks no TLS for ever.
    BrokenOff,
    /// The agent does not know the path, now or any more.
    Missing,
    /// The agent refuses, or has said that there is no such sandbox: it would say the same again.
    Definite,
}

impl FaultKind {
    /// Whether it is of the connection, and says nothing of what was asked for.
    pub(super) fn is_of_connection(self) -> bool {
        matches!(self, Self::Unreachable | Self::BrokenOff)
    }
}

impl Outage {
    /// A request failed, as the first or after `before`.
    pub(super) fn after(before: Option<Self>, kind: FaultKind, now: Duration) -> Self {
        match before {
            Some(before) if before.kind == kind => Self { failures: before.failures.saturating_add(1), ..before },
            _ => Self { kind, since: now, failures: 1, was_told: false },
        }
    }

    /// Until the next attempt.
    pub(super) fn pause(&self) -> Duration {
        FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST_PAUSE)
    }

    /// Whether nobody should wait any longer, the task having ended at `ended`, and in no case longer than `most`.
    pub(super) fn is_hopeless(&self, now: Duration, ended: Option<Duration>, most: Duration) -> bool {
        ended.is_some_and(|ended| now.saturating_sub(ended.max(self.since)) >= self.patience().min(most))
    }

    /// Whether it is time to tell a person, which it is once.
    pub(super) fn should_tell(&mut self, now: Duration) -> bool {
        let should = !self.was_told && now.saturating_sub(self.since) >= TELL_AFTER;
        self.was_told |= should;
        should
    }

    /// Whether a person was told.
    pub(super) fn was_told(&self) -> bool {
        self.was_told
    }

    fn patience(&self) -> Duration {
        match self.kind {
            FaultKind::Unreachable => UNREACHABLE_PATIENCE,
            FaultKind::BrokenOff => BROKEN_OFF_PATIENCE,
            FaultKind::Missing => MISSING_PATIENCE,
            FaultKind::Definite => DEFINITE_PATIENCE,
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A restart of the agent that nobody notices takes less.
const TELL_AFTER: Duration = Duration::from_secs(3);

/// A master gives an agent 75 seconds to come back before its tasks are lost; it should find us still waiting.
pub(super) const UNREACHABLE_PATIENCE: Duration = Duration::from_secs(90);

/// An agent that has just restarted serves before it has found its sandboxes again.
pub(super) const MISSING_PATIENCE: Duration = Duration::from_secs(10);

/// A proxy is soon up again, and who has forgotten `--agent-url` should not be kept waiting for long.
const BROKEN_OFF_PATIENCE: Duration = Duration::from_secs(10);

/// Of a task that was given up: a second try, should the first have met a connection that was just breaking.
pub(super) const GIVEN_UP_PATIENCE: Duration = Duration::from_secs(1);

/// Once more is enough.
pub(super) const DEFINITE_PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    /// Any moment.
    fn start() -> Duration {
        Duration::from_secs(1)
    }

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Looks whenever it is time, each answered after `answer`, and returns when they were sent.
    fn looks(pace: &mut Pace, from: Duration, upto: Duration, answer: Duration) -> Vec<Duration> {
        let mut now = from;
        let mut looks = Vec::new();
        loop {
            now = pace.next_look().max(now);
            if now >= upto {
                return looks;
            }
            looks.push(now);
            pace.look_started(now);
            now += answer;
            pace.looked(now, false, 1);
        }
    }

    #[test]
    fn idle_task_costs_two_looks_a_second() {
        let start = start();
        let mut pace = Pace::new(start);
        pace.rang(start);
        looks(&mut pace, start, start + QUICK_FOR + SLOW, millis(3));
        let idle_from = start + QUICK_FOR + SLOW;
        assert_eq!(looks(&mut pace, idle_from, idle_from + Duration::from_secs(60), millis(3)).len(), 120);
    }

    #[test]
    fn waiting_task_costs_two_looks_a_second() {
        let start = start();
        let mut pace = Pace::new(start);
        assert_eq!(looks(&mut pace, start, start + Duration::from_secs(10), millis(3)).len(), 19);
    }

    #[test]
    fn byte_of_a_task_that_was_silent_for_five_seconds_is_found_within_100_ms() {
        let start = start();
        let mut pace = Pace::new(start);
        pace.rang(start);
        let looks = looks(&mut pace, start, start + Duration::from_secs(5), millis(10));
        assert!(looks.windows(2).all(|pair| pair[1] - pair[0] <= QUICK), "{looks:?}");
        assert_eq!(looks[0], start);
    }

    #[test]
    fn output_of_an_idle_task_makes_it_quick_again() {
        let start = start();
        let mut pace = Pace::new(start);
        pace.look_started(start);
        pace.looked(start, true, 1);
        assert_eq!(pace.next_look(), start + QUICK);
    }

    #[test]
    fn ring_is_answered_at_once_even_during_a_look() {
        let start = start();
        let mut pace = Pace::new(start);
        pace.look_started(start);
        pace.rang(start + millis(1));
        pace.looked(start + millis(2), false, 1);
        assert!(pace.next_look() <= start + millis(2));
        pace.look_started(start + millis(2));
        pace.rang(start + millis(3));
        pace.failed(start + millis(4), millis(100));
        assert!(pace.next_look() <= start + millis(4));
    }

    #[test]
    fn ring_after_a_long_silence_is_answered_at_once_and_idle_looks_stay_rare() {
        let start = start();
        let mut pace = Pace::new(start);
        pace.rang(start);
        let silent_until = start + Duration::from_secs(60) + millis(123);
        let before = looks(&mut pace, start, silent_until, millis(3));
        assert!(pace.next_look() - silent_until > QUICK, "a look was due anyway");
        assert!(before.len() < 60 + 2 * 60, "{}", before.len());
        pace.rang(silent_until);
        assert_eq!(pace.next_look(), silent_until);
    }

    #[test]
    fn slow_agent_is_not_asked_all_the_time() {
        let start = start();
        let mut pace = Pace::new(start);
        pace.rang(start);
        let looks = looks(&mut pace, start, start + Duration::from_secs(5), millis(200));
        assert!(looks.windows(2).all(|pair| pair[1] - pair[0] == millis(400)), "{looks:?}");
    }

    #[test]
    fn pauses_double_up_to_two_seconds() {
        let start = start();
        let mut outage = None;
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let next = Outage::after(outage, FaultKind::Unreachable, start);
            pauses.push(next.pause().as_millis());
            outage = Some(next);
        }
        assert_eq!(pauses[..7], [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(pauses[39], 2000);
    }

    #[test]
    fn patience_begins_with_the_end_of_the_task_and_anew_with_another_fault() {
        let start = start();
        let outage = Outage::after(None, FaultKind::Unreachable, start);
        let long_after = start + Duration::from_secs(1000);
        assert!(!outage.is_hopeless(long_after, None, Duration::MAX), "a running task is never given up");
        assert!(!outage.is_hopeless(long_after + millis(89_999), Some(long_after), Duration::MAX));
        assert!(outage.is_hopeless(long_after + millis(90_000), Some(long_after), Duration::MAX));
        let missing = Outage::after(Some(outage.clone()), FaultKind::Missing, long_after);
        assert!(!missing.is_hopeless(long_after + millis(9_999), Some(start), Duration::MAX));
        assert!(missing.is_hopeless(long_after + millis(10_000), Some(start), Duration::MAX));
        let broken_off = Outage::after(None, FaultKind::BrokenOff, start);
        assert!(!broken_off.is_hopeless(long_after + millis(9_999), Some(long_after), Duration::MAX));
        assert!(broken_off.is_hopeless(long_after + millis(10_000), Some(long_after), Duration::MAX));
        assert!(outage.is_hopeless(long_after + millis(1_000), Some(long_after), GIVEN_UP_PATIENCE));
    }

    #[test]
    fn person_is_told_once_per_outage() {
        let start = start();
        let mut outage = Outage::after(None, FaultKind::Unreachable, start);
        assert!(!outage.should_tell(start + millis(2_999)));
        assert!(outage.should_tell(start + millis(3_000)));
        assert!(!outage.should_tell(start + millis(9_000)));
        assert!(Outage::after(Some(outage), FaultKind::Unreachable, start).was_told());
    }
}
