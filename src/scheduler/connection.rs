//! The connection to the master: when to try, how long to trust silence, when to give up.
//!
//! ```text
//!            start                opened                 SUBSCRIBED
//! idle ----------> connecting ----------> opened ------------------> subscribed
//!                    ^   |   \              |                            |
//!          back-off  |   |    `-- broken, or too slow ---,               |
//!                    |   |                               v               |
//!                    `---|----------------------- disconnected <---------'  broken, or silent for too long
//!                        |                               |
//!                        `--- fatal, or given up --------'---> closed
//! ```
//!
//! It knows nothing of tasks and calls: each function says what follows, the scheduler does it.

use std::time::Duration;

use super::Time;

/// Before 1.0 the master sends heartbeats every 15 s, as ever after, but does not say so.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);

/// Mesos' own guide: five heartbeats missed. For frameworks that the master removes (with their tasks) as soon as the
/// connection ends: there, a needless reconnect is worse than a late one.
const PATIENT_HEARTBEATS: u32 = 5;

/// Where the master keeps the framework for at least this long, reconnecting costs nothing but the offers held.
const SAFE_FAILOVER_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest wait before the first retry; it doubles from there. The master of a blip is back at once.
const FIRST_RETRY: Duration = Duration::from_millis(400);

/// Where doubling ends; Mesos' guide says 15 s.
const LAST_RETRY: Duration = Duration::from_secs(15);

/// A subscription that did not live so long was no success: the back-off goes on, or a master that closes every stream
/// would be asked several times a second.
const STABLE_AFTER: Duration = Duration::from_secs(15);

/// From asking for the stream to its first record. The shell's own limits are shorter; this one guards against a master
/// that takes the connection and then says nothing.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(30);

/// A SUBSCRIBE of ours that was given up may arrive late and take the framework over from the present one. That does not
/// happen often; another launcher with the same id does it again and again.
const TAKEOVERS_FORGIVEN: u32 = 2;

/// After so long, a takeover is forgotten.
const TAKEOVERS_FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// Beyond the failover timeout: the master's clock starts when it notices the break, which may be later than here.
const FAILOVER_MARGIN: Duration = Duration::from_secs(60);

/// How long a launcher that was told nothing else looks for the master that it has lost: as long as the framework is kept.
pub fn usual_reconnect_timeout(failover_timeout: Duration) -> Duration {
    failover_timeout.saturating_add(FAILOVER_MARGIN)
}

/// One connection over its whole life.
#[derive(Debug)]
pub(super) struct Connection {
    state: State,
    failover_timeout: Duration,
    connect_timeout: Option<Duration>,
    reconnect_timeout: Option<Duration>,
    /// Attempts since the last stable subscription.
    attempts: u32,
    give_up: Option<GiveUp>,
    last_reason: String,
    ends_stream_at_teardown: bool,
    takeovers: u32,
    last_takeover: Time,
}

#[derive(Debug, PartialEq)]
pub(super) enum State {
    /// Nothing was tried yet.
    Idle,
    /// Waiting for the next attempt.
    Disconnected { retry_at: Time },
    /// The shell looks for the leader and opens the stream.
    Connecting { since: Time },
    /// The stream is open, SUBSCRIBED has not come yet.
    Opened { since: Time, master: String },
    /// The master sends events and takes calls.
    Subscribed { since: Time, heard_at: Time, silence_limit: Duration },
    /// It will never be tried again.
    Closed { reason: String },
}

#[derive(Debug)]
struct GiveUp {
    at: Time,
    after: Duration,
    was_subscribed: bool,
}

/// What a transition did.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Ask the shell for the stream.
    Subscribe,
    /// The stream, if any, is of no use any more; the next attempt comes after `retry_in`.
    Lost { reason: String, retry_in: Duration },
    /// It is over.
    GaveUp { reason: String },
    /// The input does not belong to this state.
    Ignored(&'static str),
}

impl Connection {
    pub(super) fn new(
        failover_timeout_seconds: f64,
        connect_timeout: Option<Duration>,
        reconnect_timeout: Option<Duration>,
        master: &str,
    ) -> Self {
        // What the master does not accept either (negative, infinite) counts as none.
        let failover_timeout = Duration::try_from_secs_f64(failover_timeout_seconds).unwrap_or_default();
        Self {
            state: State::Idle,
            failover_timeout,
            connect_timeout,
            reconnect_timeout,
            attempts: 0,
            give_up: None,
            last_reason: format!("no answer from {master}"),
            ends_stream_at_teardown: false,
            takeovers: 0,
            last_takeover: Time::ZERO,
        }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn is_subscribed(&self) -> bool {
        matches!(self.state, State::Subscribed { .. })
    }

    /// How long the master keeps the framework and its tasks without a connection.
    pub(super) fn failover_timeout(&self) -> Duration {
        self.failover_timeout
    }

    /// Masters from 1.0 do; they are the ones that tell their heartbeat interval.
    pub(super) fn ends_stream_at_teardown(&self) -> bool {
        self.ends_stream_at_teardown
    }

    pub(super) fn start(&mut self, now: Time) -> Step {
        if self.state != State::Idle {
            return Step::Ignored("already started");
        }
        self.give_up =
            self.connect_timeout.map(|after| GiveUp { at: now.saturating_add(after), after, was_subscribed: false });
        self.attempt(now)
    }

    /// `None`: the stream was opened, as asked.
    pub(super) fn opened(&mut self, now: Time, master: String) -> Option<Step> {
        match &self.state {
            State::Connecting { .. } => {
                self.state = State::Opened { since: now, master };
                None
            }
            State::Idle | State::Disconnected { .. } => Some(Step::Ignored("nothing was asked for")),
            State::Opened { .. } | State::Subscribed { .. } => Some(Step::Ignored("already open")),
            State::Closed { .. } => Some(Step::Ignored("closed")),
        }
    }

    /// SUBSCRIBED has come; gives the master's address, or why that is not believed.
    pub(super) fn subscribed(&mut self, now: Time, heartbeat_seconds: Option<f64>) -> Result<String, Step> {
        self.ends_stream_at_teardown = heartbeat_seconds.is_some();
        let heartbeat = heartbeat_seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|interval| !interval.is_zero())
            .unwrap_or(DEFAULT_HEARTBEAT);
        match &mut self.state {
            State::Opened { master, .. } => {
                let master = std::mem::take(master);
                let silence_limit = silence_limit(heartbeat, self.failover_timeout);
                self.state = State::Subscribed { since: now, heard_at: now, silence_limit };
                self.give_up = None;
                Ok(master)
            }
            State::Subscribed { .. } => Err(Step::Ignored("already subscribed")),
            State::Idle | State::Disconnected { .. } | State::Connecting { .. } | State::Closed { .. } => {
                Err(Step::Ignored("there is no stream"))
            }
        }
    }

    /// Any record of the stream is a sign of life.
    pub(super) fn heard(&mut self, now: Time) {
        if let State::Subscribed { heard_at, .. } = &mut self.state {
            *heard_at = now;
        }
    }

    /// The stream could not be opened or has ended. `chance` is 0 to 1.
    pub(super) fn broken(&mut self, now: Time, reason: String, is_fatal: bool, chance: f64) -> Step {
        match self.state {
            State::Idle | State::Disconnected { .. } if !is_fatal => return Step::Ignored("not connected anyway"),
            State::Closed { .. } => return Step::Ignored("closed"),
            State::Subscribed { since, .. } => {
                if now.saturating_sub(since) >= STABLE_AFTER {
                    self.attempts = 0;
                }
                self.give_up = self.reconnect_timeout.map(|after| GiveUp {
                    at: now.saturating_add(after),
                    after,
                    was_subscribed: true,
                });
            }
            State::Idle | State::Disconnected { .. } | State::Connecting { .. } | State::Opened { .. } => {}
        }
        if is_fatal {
            return self.close(reason);
        }
        self.last_reason.clone_from(&reason);
        let retry_in = back_off(self.attempts.saturating_sub(1), chance);
        self.state = State::Disconnected { retry_at: now + retry_in };
        Step::Lost { reason, retry_in }
    }

    /// The master says that another stream is the framework's now.
    pub(super) fn taken_over(&mut self, now: Time, reason: String, chance: f64) -> Step {
        if now.saturating_sub(self.last_takeover) > TAKEOVERS_FORGOTTEN_AFTER {
            self.takeovers = 0;
        }
        self.takeovers += 1;
        self.last_takeover = now;
        self.broken(now, reason, self.takeovers > TAKEOVERS_FORGIVEN, chance)
    }

    /// Ends all attempts.
    pub(super) fn close(&mut self, reason: String) -> Step {
        self.state = State::Closed { reason: reason.clone() };
        self.give_up = None;
        Step::GaveUp { reason }
    }

    /// What is due at `now`; `None`: nothing.
    pub(super) fn tick(&mut self, now: Time, chance: f64) -> Option<Step> {
        if let Some(give_up) = self.give_up.take_if(|give_up| give_up.at <= now) {
            let reason = give_up.text(&self.last_reason);
            return Some(self.close(reason));
        }
        match self.state {
            State::Disconnected { retry_at } if retry_at <= now => Some(self.attempt(now)),
            State::Connecting { since } | State::Opened { since, .. } if since + SUBSCRIBE_LIMIT <= now => {
                let reason = format!("the master did not accept the framework within {SUBSCRIBE_LIMIT:?}");
                Some(self.broken(now, reason, false, chance))
            }
            State::Subscribed { heard_at, silence_limit, .. } if heard_at + silence_limit <= now => {
                let reason = format!("no heartbeat from the master for {silence_limit:?}");
                Some(self.broken(now, reason, false, chance))
            }
            State::Idle
            | State::Disconnected { .. }
            | State::Connecting { .. }
            | State::Opened { .. }
            | State::Subscribed { .. }
            | State::Closed { .. } => None,
        }
    }

    /// When to call `tick` at the latest.
    pub(super) fn due(&self) -> Option<Time> {
        let own = match self.state {
            State::Idle | State::Closed { .. } => None,
            State::Disconnected { retry_at } => Some(retry_at),
            State::Connecting { since } | State::Opened { since, .. } => Some(since + SUBSCRIBE_LIMIT),
            State::Subscribed { heard_at, silence_limit, .. } => Some(heard_at + silence_limit),
        };
        own.into_iter().chain(self.give_up.as_ref().map(|give_up| give_up.at)).min()
    }

    fn attempt(&mut self, now: Time) -> Step {
        self.attempts = self.attempts.saturating_add(1);
        self.state = State::Connecting { since: now };
        Step::Subscribe
    }
}

impl GiveUp {
    fn text(&self, last_reason: &str) -> String {
        let after = self.after;
        if self.was_subscribed {
            format!(
                "lost the master for {after:?}: {last_reason}; the task may still run: look for it on the master's page"
            )
        } else {
            format!(
                "cannot subscribe to a Mesos master within {after:?}: {last_reason}; check --master and the network"
            )
        }
    }
}

/// How much silence ends the subscription.
///
/// Where the framework survives a reconnect: one heartbeat missed and a quarter of the interval for its delay, 18.75 s, so
/// that a partition is noticed in less than 20 s. A false alarm costs a reconciliation. Else five heartbeats.
fn silence_limit(heartbeat: Duration, failover_timeout: Duration) -> Duration {
    if failover_timeout >= SAFE_FAILOVER_TIMEOUT {
        heartbeat.saturating_add(heartbeat / 4)
    } else {
        heartbeat.saturating_mul(PATIENT_HEARTBEATS)
    }
}

/// Truncated exponential, between half of the step and the whole, so that launchers do not come back all at once.
fn back_off(failures: u32, chance: f64) -> Duration {
    let step = FIRST_RETRY.saturating_mul(1 << failures.min(16)).min(LAST_RETRY);
    step.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    fn subscribed(failover_timeout: f64) -> Connection {
        let mut connection = Connection::new(failover_timeout, Some(s(30)), Some(s(160)), "m1:5050");
        assert_eq!(connection.start(s(0)), Step::Subscribe);
        assert_eq!(connection.opened(s(0), "m:5050".to_owned()), None);
        assert_eq!(connection.subscribed(s(0), Some(15.0)), Ok("m:5050".to_owned()));
        connection
    }

    /// One connection in each state.
    fn each() -> [(&'static str, Connection); 6] {
        let idle = Connection::new(100.0, None, Some(s(160)), "m1:5050");
        let mut connecting = Connection::new(100.0, None, Some(s(160)), "m1:5050");
        connecting.start(s(0));
        let mut opened = Connection::new(100.0, None, Some(s(160)), "m1:5050");
        opened.start(s(0));
        opened.opened(s(0), "m".to_owned());
        let mut disconnected = subscribed(100.0);
        disconnected.broken(s(1), "x".to_owned(), false, 0.0);
        let mut closed = subscribed(100.0);
        closed.close("y".to_owned());
        [
            ("idle", idle),
            ("connecting", connecting),
            ("opened", opened),
            ("subscribed", subscribed(100.0)),
            ("disconnected", disconnected),
            ("closed", closed),
        ]
    }

    #[test]
    fn every_input_in_every_state_is_applied_or_ignored() {
        for (name, mut connection) in each() {
            let is_applied = connection.start(s(2)) == Step::Subscribe;
            assert_eq!(is_applied, name == "idle", "start in {name}");
        }
        for (name, mut connection) in each() {
            let is_applied = connection.opened(s(2), "m".to_owned()).is_none();
            assert_eq!(is_applied, name == "connecting", "opened in {name}");
        }
        for (name, mut connection) in each() {
            let is_applied = connection.subscribed(s(2), None).is_ok();
            assert_eq!(is_applied, name == "opened", "SUBSCRIBED in {name}");
        }
        for (name, mut connection) in each() {
            let step = connection.broken(s(2), "gone".to_owned(), false, 0.0);
            let is_applied = matches!(step, Step::Lost { .. });
            assert_eq!(is_applied, ["connecting", "opened", "subscribed"].contains(&name), "broken in {name}");
        }
        for (name, mut connection) in each() {
            let step = connection.broken(s(2), "401".to_owned(), true, 0.0);
            let is_applied = step == Step::GaveUp { reason: "401".to_owned() };
            assert_eq!(is_applied, name != "closed", "fatal in {name}");
            assert!(connection.due().is_none(), "nothing is due after the end");
        }
    }

    #[test]
    fn silence_is_noticed_in_less_than_20_s_where_a_reconnect_is_safe() {
        let mut connection = subscribed(60.0);
        connection.heard(s(10));
        assert_eq!(connection.tick(s(28), 0.0), None);
        assert!(matches!(connection.tick(s(29), 0.0), Some(Step::Lost { .. })));
    }

    #[test]
    fn silence_is_trusted_for_five_heartbeats_where_the_master_would_remove_the_framework() {
        let mut connection = subscribed(0.0);
        assert_eq!(connection.tick(s(74), 0.0), None);
        assert!(matches!(connection.tick(s(75), 0.0), Some(Step::Lost { .. })));
    }

    #[test]
    fn strange_heartbeat_intervals_count_as_15_s() {
        for strange in [None, Some(0.0), Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
            let mut connection = Connection::new(0.0, None, Some(s(160)), "m1:5050");
            connection.start(s(0));
            connection.opened(s(0), String::new());
            connection.subscribed(s(0), strange).unwrap();
            assert_eq!(connection.due(), Some(s(75)), "{strange:?}");
        }
    }

    #[test]
    fn back_off_starts_fast_doubles_and_ends_at_15_s() {
        assert_eq!(back_off(0, 0.0), Duration::from_millis(200));
        assert_eq!(back_off(0, 1.0), Duration::from_millis(400));
        assert_eq!(back_off(1, 1.0), Duration::from_millis(800));
        assert_eq!(back_off(6, 1.0), s(15));
        assert_eq!(back_off(u32::MAX, 0.0), Duration::from_millis(7500));
    }

    #[test]
    fn back_off_starts_over_only_after_a_subscription_that_lasted() {
        let mut connection = subscribed(100.0);
        let mut now = s(1);
        let mut waits = Vec::new();
        for _ in 0..4 {
            let Step::Lost { retry_in, .. } = connection.broken(now, "x".to_owned(), false, 1.0) else { panic!() };
            waits.push(retry_in);
            now += retry_in;
            assert_eq!(connection.tick(now, 1.0), Some(Step::Subscribe));
            connection.opened(now, String::new());
            connection.subscribed(now, None).unwrap();
        }
        assert_eq!(waits, [400, 800, 1600, 3200].map(Duration::from_millis));
        let later = connection.broken(now + s(15), "x".to_owned(), false, 1.0);
        assert_eq!(later, Step::Lost { reason: "x".to_owned(), retry_in: Duration::from_millis(400) });
    }

    #[test]
    fn before_the_first_subscription_it_gives_up_after_the_connect_timeout() {
        let mut connection = Connection::new(0.0, Some(s(30)), Some(s(160)), "m1:5050");
        connection.start(s(1));
        connection.broken(s(2), "connection refused".to_owned(), false, 0.0);
        assert_eq!(connection.tick(s(30), 0.0), Some(Step::Subscribe));
        let Some(Step::GaveUp { reason }) = connection.tick(s(31), 0.0) else { panic!("it is over") };
        assert!(reason.contains("within 30s: connection refused; check --master"), "{reason}");
        assert_eq!(connection.tick(s(99), 0.0), None);
    }

    #[test]
    fn after_a_subscription_it_tries_for_the_reconnect_timeout() {
        let mut connection = subscribed(100.0);
        connection.broken(s(10), "reset".to_owned(), false, 0.0);
        let (now, reason) = loop {
            let now = connection.due().unwrap();
            match connection.tick(now, 0.0) {
                Some(Step::GaveUp { reason }) => break (now, reason),
                Some(Step::Subscribe) => {
                    connection.broken(now, "refused".to_owned(), false, 0.0);
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(now, s(170));
        assert!(reason.contains("lost the master for 160s: refused; the task may still run"), "{reason}");
    }

    #[test]
    fn without_a_reconnect_timeout_it_tries_for_ever() {
        let mut connection = subscribed(100.0);
        connection.reconnect_timeout = None;
        connection.broken(s(10), "reset".to_owned(), false, 0.0);
        for attempt in 0..1000 {
            let now = connection.due().unwrap();
            assert_eq!(connection.tick(now, 1.0), Some(Step::Subscribe), "attempt {attempt}");
            connection.broken(now, "refused".to_owned(), false, 1.0);
        }
    }

    #[test]
    fn a_takeover_is_forgiven_twice_in_two_minutes() {
        let mut connection = subscribed(100.0);
        let mut now = s(100);
        let mut take_over = |pause| {
            now += pause;
            let step = connection.taken_over(now, "Framework failed over".to_owned(), 0.0);
            now += s(1);
            connection.tick(now, 0.0);
            connection.opened(now, String::new());
            let _ = connection.subscribed(now, None);
            matches!(step, Step::GaveUp { .. })
        };
        assert_eq!([s(1), s(1), s(130), s(1), s(1)].map(&mut take_over), [false, false, false, false, true]);
    }

    #[test]
    fn a_master_that_opens_the_stream_and_says_nothing_is_left() {
        let mut connection = Connection::new(0.0, None, Some(s(160)), "m1:5050");
        connection.start(s(0));
        connection.opened(s(5), String::new());
        assert_eq!(connection.tick(s(34), 0.0), None);
        assert!(matches!(connection.tick(s(35), 0.0), Some(Step::Lost { .. })));
    }
}
