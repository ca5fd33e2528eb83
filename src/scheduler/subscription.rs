//! The scheduler's side of the connection: what follows from its steps, the stream's events, and the end of everything.

use std::time::Duration;

use proto::scheduler::{Event, event};

use super::connection::{State, Step};
use super::message::{self, Refusal};
use super::reconcile::TaskKey;
use super::record::Record;
use super::task::Entry;
use super::{Effect, Scheduler, Time, calls};
use crate::exit::Outcome;
use crate::update::Update;

/// For the SUBSCRIBE that is under way when the user leaves: so that the framework it creates can be torn down.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// From TEARDOWN until the master ends the stream, which shows that it has arrived.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(1);

/// Before a TEARDOWN is repeated that failed.
const TEARDOWN_REPEAT: Duration = Duration::from_millis(200);

/// Tasks per RECONCILE call, for its size: about a megabyte.
const QUESTIONS_PER_CALL: usize = 10_000;

/// Whether `Stop` has come, and how far that is.
#[derive(Debug, PartialEq)]
pub(super) enum Life {
    Working,
    /// Waiting for the subscription that is under way, to tear it down.
    Leaving {
        until: Time,
    },
    /// Waiting for the master to take TEARDOWN, and whether one failed.
    TearingDown {
        until: Time,
        repeat_at: Option<Time>,
        has_failed: bool,
    },
    Finished,
}

impl Scheduler {
    pub(super) fn tick_connection(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if *self.connection.state() == State::Idle {
            let step = self.connection.start(now);
            self.follow(step, effects);
        }
        let chance = self.chance.f64();
        if let Some(step) = self.connection.tick(now, chance) {
            if !matches!(step, Step::Subscribe) {
                effects.push(Effect::Disconnect);
            }
            self.follow(step, effects);
        }
    }

    pub(super) fn opened(&mut self, now: Time, master: String) {
        if let Some(step) = self.connection.opened(now, master) {
            tracing::debug!(?step, "opened");
        }
    }

    pub(super) fn broken(&mut self, now: Time, reason: String, is_fatal: bool, effects: &mut Vec<Effect>) {
        let chance = self.chance.f64();
        let step = self.connection.broken(now, reason, is_fatal, chance);
        match self.life {
            Life::Working => self.follow(step, effects),
            Life::Leaving { .. } => self.finish_without_teardown(effects),
            // This is how the master says that it has torn the framework down.
            Life::TearingDown { has_failed: false, .. } => {
                self.record(effects, || Record::TornDown);
                self.finish(effects);
            }
            Life::TearingDown { has_failed: true, .. } => self.finish_without_teardown(effects),
            Life::Finished => {}
        }
    }

    fn follow(&mut self, step: Step, effects: &mut Vec<Effect>) {
        match step {
            Step::Subscribe => {
                let call = calls::subscribe(&self.config.framework, self.calls.framework_id());
                effects.push(Effect::Subscribe(Box::new(call)));
            }
            Step::Lost { reason, retry_in } => {
                self.disconnected();
                effects.push(Effect::Update(Update::Disconnected { reason, retry_in }));
            }
            Step::GaveUp { reason } => {
                self.disconnected();
                self.end_all(&Outcome::Failed(reason), effects);
            }
            Step::Ignored(why) => tracing::debug!(why, "the connection is unchanged"),
        }
    }

    fn disconnected(&mut self) {
        self.reconcile.disconnected();
        self.report.stop();
        self.questions.clear();
    }

    /// A record of the stream.
    pub(super) fn event(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match self.life {
            Life::Working | Life::Leaving { .. } if event.r#type() == event::Type::Subscribed => {
                if let Some(subscribed) = event.subscribed {
                    self.subscribed(now, *subscribed, effects);
                }
                return;
            }
            Life::Working => {}
            Life::Leaving { .. } | Life::TearingDown { .. } | Life::Finished => return,
        }
        match self.connection.state() {
            State::Opened { .. } if event.r#type() == event::Type::Error => {}
            State::Subscribed { .. } => {}
            State::Opened { .. }
            | State::Idle
            | State::Disconnected { .. }
            | State::Connecting { .. }
            | State::Closed { .. } => {
                tracing::debug!(kind = ?event.r#type(), "an event without a subscription is ignored");
                return;
            }
        }
        self.connection.heard(now);
        match event.r#type() {
            event::Type::Offers => self.offers(now, event.offers.unwrap_or_default().offers, effects),
            // No offer is held; one whose ACCEPT is under way is answered with an update.
            event::Type::Rescind => {
                if let Some(rescind) = event.rescind {
                    self.flow.rescinded(&rescind.offer_id);
                }
            }
            event::Type::Update => {
                if let Some(update) = event.update {
                    self.update(now, update.status, effects);
                }
            }
            event::Type::Message => self.message(&event.message.unwrap_or_default(), effects),
            event::Type::Failure => self.failure(&event.failure.unwrap_or_default(), effects),
            event::Type::Error => self.refused(now, &event.error.unwrap_or_default().message, effects),
            event::Type::Subscribed
            | event::Type::Heartbeat
            | event::Type::InverseOffers
            | event::Type::RescindInverseOffer
            | event::Type::UpdateOperationStatus
            | event::Type::Unknown => {}
        }
    }

    fn subscribed(&mut self, now: Time, event: event::Subscribed, effects: &mut Vec<Effect>) {
        let master = match self.connection.subscribed(now, event.heartbeat_interval_seconds) {
            Ok(master) => master,
            Err(step) => return tracing::debug!(?step, "SUBSCRIBED"),
        };
        let is_again = self.calls.framework_id().is_some();
        let framework_id = event.framework_id.value.clone();
        self.record(effects, || Record::Subscribed {
            framework_id: framework_id.clone(),
            master_id: event.master_info.as_ref().map(|info| info.id.clone()),
        });
        self.calls = calls::Calls::new(Some(event.framework_id));
        if let Life::Leaving { .. } = self.life {
            return self.tear_down(now, effects);
        }
        self.reconcile.subscribed(event.master_info.as_ref().map(|info| info.id.as_str()));
        self.flow = super::offers::Flow::new();
        self.shortfalls.clear();
        effects.push(Effect::Update(Update::Subscribed { master, framework_id, is_again }));
        if is_again {
            self.reconcile_all(now, effects);
        }
    }

    /// After a break: what is ours, and whatever else the master knows of us.
    fn reconcile_all(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut questions = Vec::new();
        let mut killing = Vec::new();
        for (key, entry) in &mut self.tasks {
            entry.resubscribed();
            self.timers.schedule(*key, entry);
            let Some(placement) = entry.placement() else { continue };
            questions.push(calls::question(&placement.wire_id, &placement.agent_id));
            self.reconcile.asked(now, *key);
            if entry.kill().is_some() {
                killing.push(*key);
            }
        }
        for (wire_id, abandoned) in &self.abandoned {
            questions.push(calls::question(wire_id, &abandoned.placement.agent_id));
        }
        for questions in questions.chunks(QUESTIONS_PER_CALL) {
            effects.push(self.calls.reconcile(questions.to_vec()));
        }
        effects.push(self.calls.reconcile(Vec::new()));
        for key in killing {
            self.send_kill(key, effects);
        }
    }

    fn refused(&mut self, now: Time, message: &str, effects: &mut Vec<Effect>) {
        let chance = self.chance.f64();
        let step = match message::refusal(message, self.config.framework.role()) {
            Refusal::Fatal(reason) => self.connection.close(reason),
            Refusal::Passing(reason) => self.connection.broken(now, reason, false, chance),
            Refusal::TakenOver(reason) => self.connection.taken_over(now, reason, chance),
        };
        effects.push(Effect::Disconnect);
        if let Step::GaveUp { reason } = &step
            && message::is_removed(message)
        {
            self.record_removal(reason, effects);
        }
        self.follow(step, effects);
    }

    /// Somebody has taken the framework down, and its tasks with it: there is nothing to go on with.
    fn record_removal(&self, reason: &str, effects: &mut Vec<Effect>) {
        for entry in self.tasks.values().filter(|entry| entry.placement().is_some()) {
            let outcome = entry.outcome(Outcome::Failed(reason.to_owned()));
            self.record(effects, || Record::Over { task_id: entry.id().to_owned(), outcome });
        }
        self.record(effects, || Record::TornDown);
    }

    /// Everything ends, with this unless a kill has decided otherwise.
    fn end_all(&mut self, own: &Outcome, effects: &mut Vec<Effect>) {
        let ends: Vec<(TaskKey, Outcome)> =
            self.tasks.iter().map(|(key, entry)| (*key, Entry::outcome(entry, own.clone()))).collect();
        for (key, outcome) in ends {
            self.end(key, outcome, true, effects);
        }
    }

    pub(super) fn stop(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.life != Life::Working {
            return self.finish(effects);
        }
        let stopped = Outcome::Failed("the launcher was stopped before the task ended".to_owned());
        self.end_all(&stopped, effects);
        match self.connection.state() {
            State::Subscribed { .. } => self.tear_down(now, effects),
            State::Connecting { .. } | State::Opened { .. } => self.life = Life::Leaving { until: now + STOP_LIMIT },
            State::Disconnected { .. } => self.finish_without_teardown(effects),
            State::Idle | State::Closed { .. } => self.finish(effects),
        }
    }

    fn tear_down(&mut self, now: Time, effects: &mut Vec<Effect>) {
        effects.push(self.calls.teardown());
        if self.connection.ends_stream_at_teardown() {
            self.life = Life::TearingDown { until: now + TEARDOWN_LIMIT, repeat_at: None, has_failed: false };
        } else {
            self.finish(effects);
        }
    }

    pub(super) fn teardown_failed(&mut self, now: Time) {
        if let Life::TearingDown { repeat_at, has_failed, .. } = &mut self.life {
            *repeat_at = Some(now + TEARDOWN_REPEAT);
            *has_failed = true;
        }
    }

    pub(super) fn tick_stop(&mut self, now: Time, effects: &mut Vec<Effect>) {
        match &mut self.life {
            Life::Leaving { until } if *until <= now => self.finish_without_teardown(effects),
            Life::TearingDown { until, .. } if *until <= now => self.finish_without_teardown(effects),
            Life::TearingDown { repeat_at, .. } => {
                if repeat_at.take_if(|at| *at <= now).is_some() {
                    effects.push(self.calls.teardown());
                }
            }
            Life::Working | Life::Leaving { .. } | Life::Finished => {}
        }
    }

    fn finish_without_teardown(&mut self, effects: &mut Vec<Effect>) {
        if let Some(id) = self.calls.framework_id() {
            let kept = self.connection.failover_timeout();
            let text =
                format!("the master may not know that framework {} has ended; it removes it after {kept:?}", id.value);
            effects.push(Effect::Update(Update::Notice(text)));
        }
        self.finish(effects);
    }

    pub(super) fn finish(&mut self, effects: &mut Vec<Effect>) {
        self.life = Life::Finished;
        effects.push(Effect::Disconnect);
        effects.push(Effect::Finish);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proto::mesos::task_status::Reason;
    use proto::mesos::{FrameworkId, TaskState};
    use proto::scheduler::call::Type;

    use super::super::fixture::{Bench, calls, config, from_master, ms, offer, s, short, status, task};
    use super::super::{Config, Input};
    use super::*;

    #[test]
    fn the_first_subscribe_has_no_id_and_every_later_one_has_it_twice() {
        let mut bench = Bench::new();
        let effects = bench.input(Input::Add(Box::new(task("t"))));
        let call = calls(&effects, Type::Subscribe).remove(0);
        assert_eq!((call.framework_id, call.subscribe.unwrap().framework_info.id), (None, None));
        assert_eq!(short(&bench.subscribe("m1")), ["Subscribed"]);
        let effects = bench.input(Input::Disconnected { reason: "reset".to_owned(), is_fatal: false });
        assert_eq!(short(&effects), ["Disconnected"]);
        bench.now += s(1);
        let call = calls(&bench.input(Input::Tick), Type::Subscribe).remove(0);
        let id = Some(FrameworkId { value: "F".to_owned() });
        assert_eq!((call.framework_id, call.subscribe.unwrap().framework_info.id), (id.clone(), id));
    }

    #[test]
    fn an_id_given_from_the_start_is_used() {
        let mut config = config();
        config.framework.id = Some(FrameworkId { value: "G".to_owned() });
        let call = calls(&Bench::with(config).input(Input::Tick), Type::Subscribe).remove(0);
        assert_eq!(call.framework_id.unwrap().value, "G");
    }

    #[test]
    fn silence_ends_the_subscription_and_a_new_one_is_tried() {
        let mut bench = Bench::subscribed([task("t")]);
        bench.now = s(18);
        assert!(!short(&bench.input(Input::Tick)).contains(&"disconnect".to_owned()));
        bench.now = s(19);
        assert_eq!(short(&bench.input(Input::Tick)), ["disconnect", "Disconnected"]);
        bench.now = s(20);
        assert_eq!(short(&bench.input(Input::Tick)), ["SUBSCRIBE"]);
    }

    #[test]
    fn after_every_new_subscription_the_master_is_asked_about_each_task_and_about_all() {
        let mut bench = Bench::launched(&[TaskState::TaskRunning]);
        for _ in 0..2 {
            let effects = bench.resubscribe("m1");
            assert_eq!(short(&effects), ["Subscribed", "RECONCILE", "RECONCILE", "SUPPRESS"]);
            let asked: Vec<usize> = calls(&effects, Type::Reconcile)
                .iter()
                .map(|call| call.reconcile.as_ref().unwrap().tasks.len())
                .collect();
            assert_eq!(asked, [1, 0]);
        }
        assert_eq!(calls(&bench.wait(s(6)), Type::Reconcile).len(), 2, "until there is an answer");
        bench.update(from_master("t", TaskState::TaskRunning, Reason::Reconciliation));
        assert!(bench.wait(s(600)).is_empty());
    }

    fn unknown() -> proto::mesos::TaskStatus {
        from_master("t", TaskState::TaskLost, Reason::Reconciliation)
    }

    #[test]
    fn a_new_master_that_does_not_know_the_task_is_believed_once_its_agent_has_joined() {
        for states in [&[][..], &[TaskState::TaskRunning]] {
            let mut bench = Bench::launched(states);
            bench.resubscribe("m2");
            let effects = short(&bench.update(unknown()));
            assert_eq!(effects, ["Notice", "REVIVE"], "offers show which agents have joined");
            bench.offers(vec![offer("p", "b", 1.0, 128.0)]);
            assert!(bench.update(unknown()).is_empty());
            bench.offers(vec![offer("q", "a", 1.0, 128.0)]);
            let effects = short(&bench.update(unknown()));
            if states.is_empty() {
                assert!(effects.contains(&"Relaunching".to_owned()), "{effects:?}");
            } else {
                assert!(effects[0].contains("does not know the task any more"), "{effects:?}");
            }
        }
    }

    #[test]
    fn a_new_master_that_never_meets_the_agent_is_asked_until_a_limit() {
        for states in [&[][..], &[TaskState::TaskRunning]] {
            let mut bench = Bench::launched(states);
            bench.resubscribe("m2");
            bench.update(unknown());
            for _ in 0..19 {
                let effects = bench.wait(s(60));
                assert!(!calls(&effects, Type::Reconcile).is_empty());
                bench.update(unknown());
            }
            let effects = bench.wait(s(60));
            let ended =
                effects.iter().any(|effect| matches!(effect, Effect::Ended { outcome: Outcome::Failed(_), .. }));
            assert!(ended, "{effects:?}");
        }
    }

    #[test]
    fn the_master_that_took_the_accept_is_believed_about_a_task_that_ran() {
        let mut bench = Bench::launched(&[TaskState::TaskRunning]);
        bench.resubscribe("m1");
        let effects = short(&bench.update(unknown()));
        assert!(effects[0].contains("does not know the task any more"), "{effects:?}");
    }

    #[test]
    fn a_launch_in_doubt_is_settled_by_the_next_subscription_and_a_sign_of_the_agent() {
        let mut bench = Bench::launched(&[]);
        bench.resubscribe("m1");
        assert_eq!(short(&bench.update(unknown())), ["Notice", "REVIVE"]);
        bench.offers(vec![offer("p", "a", 1.0, 128.0)]);
        assert_eq!(short(&bench.update(unknown())), ["Relaunching", "REVIVE"]);
    }

    #[test]
    fn a_fatal_end_ends_every_task_and_those_that_come_later() {
        let mut bench = Bench::launched(&[TaskState::TaskRunning]);
        bench.input(Input::Add(Box::new(task("waiting"))));
        let effects = bench.input(Input::Disconnected { reason: "401: who are you".to_owned(), is_fatal: true });
        let ended = ["ended t Failed(\"401: who are you\")", "ended waiting Failed(\"401: who are you\")"];
        assert_eq!(short(&effects), ended);
        let effects = bench.input(Input::Add(Box::new(task("later"))));
        assert_eq!(short(&effects), ["ended later Failed(\"401: who are you\")"]);
        assert_eq!(bench.scheduler.next_timeout(), None);
        assert_eq!(short(&bench.input(Input::Stop)), ["disconnect", "finish"]);
    }

    #[test]
    fn an_error_is_fatal_and_said_in_plain_words() {
        let mut bench = Bench::subscribed([task("t")]);
        let effects = short(&bench.error("Framework has been removed"));
        assert_eq!(effects[0], "disconnect");
        assert!(effects[1].starts_with("ended t Failed") && effects[1].contains("launch again"), "{effects:?}");
        assert_eq!(bench.scheduler.next_timeout(), None, "no retry storm");
    }

    #[test]
    fn a_subscription_can_be_refused_before_it_begins() {
        let mut bench = Bench::new();
        bench.input(Input::Add(Box::new(task("t"))));
        bench.input(Input::Connected { master: "m".to_owned() });
        let effects = short(&bench.error("Not authorized to use role 'x'"));
        assert!(effects[1].contains("--role"), "{effects:?}");
    }

    #[test]
    fn an_old_master_that_still_holds_the_broken_connection_is_tried_again() {
        let mut bench = Bench::launched(&[TaskState::TaskRunning]);
        bench.input(Input::Disconnected { reason: "reset".to_owned(), is_fatal: false });
        bench.now += s(1);
        bench.input(Input::Tick);
        bench.input(Input::Connected { master: "m".to_owned() });
        assert_eq!(short(&bench.error("Framework is already connected")), ["disconnect", "Disconnected"]);
        assert_eq!(short(&bench.wait(s(2))), ["SUBSCRIBE"]);
    }

    #[test]
    fn a_launcher_that_is_taken_over_tries_again_and_does_not_fight() {
        let mut bench = Bench::launched(&[TaskState::TaskRunning]);
        for _ in 0..2 {
            assert_eq!(short(&bench.error("Framework failed over")), ["disconnect", "Disconnected"]);
            bench.wait(s(2));
            bench.subscribe("m1");
        }
        let effects = short(&bench.error("Framework failed over"));
        assert!(effects[1].contains("another launcher took over"), "{effects:?}");
    }

    #[test]
    fn without_a_master_the_task_fails_after_the_connect_timeout() {
        let mut bench = Bench::new();
        bench.input(Input::Add(Box::new(task("t"))));
        let mut effects = Vec::new();
        while bench.now < s(30) {
            bench.input(Input::Disconnected { reason: "m:5050: refused".to_owned(), is_fatal: false });
            effects = bench.wait(ms(500));
        }
        assert!(short(&effects).concat().contains("cannot subscribe to a Mesos master within 30s: m:5050: refused"));
    }

    #[test]
    fn events_without_a_subscription_change_nothing() {
        let mut bench = Bench::new();
        bench.input(Input::Add(Box::new(task("t"))));
        assert!(bench.offers(vec![offer("o", "a", 1.0, 128.0)]).is_empty());
        assert!(bench.update(status("t", TaskState::TaskFinished)).is_empty());
        assert!(bench.error("x").is_empty());
        assert!(bench.heartbeat().is_empty());
    }

    #[test]
    fn stop_tears_down_and_finishes_when_the_master_ends_the_stream() {
        let mut bench = Bench::launched(&[TaskState::TaskRunning]);
        bench.update(status("t", TaskState::TaskFinished));
        assert_eq!(short(&bench.input(Input::Stop)), ["TEARDOWN"]);
        let effects = bench.input(Input::Disconnected { reason: "closed".to_owned(), is_fatal: false });
        assert_eq!(short(&effects), ["disconnect", "finish"]);
        assert!(bench.input(Input::Add(Box::new(task("x")))).is_empty());
        assert_eq!(bench.scheduler.next_timeout(), None);
    }

    #[test]
    fn stop_ends_what_still_runs() {
        let mut bench = Bench::launched(&[TaskState::TaskRunning]);
        let effects = short(&bench.input(Input::Stop));
        assert!(effects[0].contains("the launcher was stopped before the task ended"), "{effects:?}");
        assert_eq!(effects[1], "TEARDOWN");
    }

    #[test]
    fn a_teardown_that_fails_is_repeated_and_the_wait_for_it_is_bounded() {
        let mut bench = Bench::subscribed([]);
        let call = calls(&bench.input(Input::Stop), Type::Teardown).remove(0);
        bench.input(Input::CallFailed { call: Box::new(call), reason: "503".to_owned() });
        bench.now += ms(200);
        assert_eq!(short(&bench.input(Input::Tick)), ["TEARDOWN"]);
        bench.now += ms(800);
        assert_eq!(short(&bench.input(Input::Tick)), ["Notice", "disconnect", "finish"]);
    }

    #[test]
    fn a_teardown_that_nothing_follows_is_told() {
        let mut bench = Bench::subscribed([]);
        assert_eq!(short(&bench.input(Input::Stop)), ["TEARDOWN"]);
        bench.now += ms(999);
        assert!(bench.input(Input::Tick).is_empty());
        bench.now += ms(1);
        assert_eq!(short(&bench.input(Input::Tick)), ["Notice", "disconnect", "finish"]);
    }

    #[test]
    fn a_master_before_1_0_does_not_end_the_stream_and_is_not_waited_for() {
        let mut bench = Bench::new();
        bench.input(Input::Tick);
        bench.input(Input::Connected { master: "m".to_owned() });
        let framework_id = FrameworkId { value: "F".to_owned() };
        let subscribed = event::Subscribed { framework_id, heartbeat_interval_seconds: None, master_info: None };
        bench.event(Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(subscribed.into()),
            ..Event::default()
        });
        assert_eq!(short(&bench.input(Input::Stop)), ["TEARDOWN", "disconnect", "finish"]);
    }

    #[test]
    fn stop_while_subscribing_waits_shortly_for_the_framework_that_it_creates() {
        let mut bench = Bench::new();
        bench.input(Input::Tick);
        assert!(bench.input(Input::Stop).is_empty());
        assert_eq!(short(&bench.subscribe("m1")), ["TEARDOWN"]);

        let mut bench = Bench::new();
        bench.input(Input::Tick);
        bench.input(Input::Stop);
        bench.now = bench.scheduler.next_timeout().unwrap();
        assert_eq!((bench.now, short(&bench.input(Input::Tick))), (s(1), vec!["disconnect".into(), "finish".into()]));
    }

    #[test]
    fn stop_while_disconnected_says_that_the_framework_stays() {
        let mut bench = Bench::subscribed([]);
        bench.input(Input::Disconnected { reason: "reset".to_owned(), is_fatal: false });
        assert_eq!(short(&bench.input(Input::Stop)), ["Notice", "disconnect", "finish"]);
    }

    #[test]
    fn a_second_stop_does_not_wait() {
        let mut bench = Bench::subscribed([]);
        bench.input(Input::Stop);
        assert_eq!(short(&bench.input(Input::Stop)), ["disconnect", "finish"]);
    }

    #[test]
    fn the_same_seed_gives_the_same_back_offs() {
        let waits = |seed| {
            let mut bench = Bench::with(Config { seed, connect_timeout: None, ..config() });
            let mut waits = Vec::new();
            for _ in 0..5 {
                bench.input(Input::Tick);
                bench.input(Input::Disconnected { reason: "x".to_owned(), is_fatal: false });
                bench.now = bench.scheduler.next_timeout().unwrap();
                waits.push(bench.now);
            }
            waits
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }
}
