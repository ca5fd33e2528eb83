//! A scheduler that goes on where another one was killed: the records of that one are played to it, in their order, through
//! the same functions that once led to them.
//!
//! What it does not know afterwards is what a broken connection would have kept from it, too, and is found out in the same way:
//! with its first subscription it asks the master about every launched task. An ACCEPT whose record is there may never have been
//! sent; one that was sent comes to nothing once the framework subscribes again, unless the master has taken it before.

use std::sync::Arc;
use std::time::Duration;

use proto::mesos::{FrameworkId, Offer};

use super::calls::Calls;
use super::reconcile::{Proof, Reconcile, TaskKey};
use super::record::Record;
use super::task::{Doubt, Placement, State};
use super::{Config, Effect, Scheduler, Task, Time};

impl Scheduler {
    /// As after these records, each with its age. `is_launchable`: the tasks are whole and may be launched; else one that proves
    /// to have never run ends as failed.
    ///
    /// The effects are what the shell has lost with the process before: `Placed`, `Status` and `Ended`. No call is among them,
    /// and nothing to record: the next input subscribes, with the framework's id.
    pub fn restore(
        config: Config,
        now: Time,
        tasks: Vec<Task>,
        records: &[(Duration, Record)],
        is_launchable: bool,
    ) -> (Self, Vec<Effect>) {
        let is_recorded = config.is_recorded;
        let mut scheduler = Self::new(Config { is_recorded: false, ..config });
        let mut effects = Vec::new();
        for task in tasks {
            scheduler.add(now, Box::new(task), &mut effects);
        }
        scheduler.is_launchable = is_launchable;
        for (age, record) in records {
            scheduler.replay(now, *age, record, &mut effects);
        }
        scheduler.reconcile.disconnected();
        scheduler.questions.clear();
        scheduler.config.is_recorded = is_recorded;
        effects.retain(|effect| matches!(effect, Effect::Placed { .. } | Effect::Status(_) | Effect::Ended { .. }));
        (scheduler, effects)
    }

    fn replay(&mut self, now: Time, age: Duration, record: &Record, effects: &mut Vec<Effect>) {
        match record {
            Record::Subscribed { framework_id, master_id } => {
                self.calls = Calls::new(Some(FrameworkId { value: framework_id.clone() }));
                self.reconcile.subscribed(master_id.as_deref());
            }
            Record::Launching { task_id, wire_id, offer } => {
                let Some(key) = self.waiting(task_id) else { return };
                let Some(entry) = self.tasks.get_mut(&key) else { return };
                let placement = Placement {
                    wire_id: wire_id.clone(),
                    agent_id: offer.agent_id.value.clone(),
                    hostname: offer.hostname.clone(),
                    offer_id: offer.id.value.clone(),
                    subscription: self.reconcile.subscription(),
                    doubt: Doubt::None,
                    is_heard: false,
                };
                entry.accepted(now, placement);
                self.queue.remove(key, entry.shape);
                self.timers.schedule(key, entry);
                self.by_wire_id.insert(wire_id.clone(), key);
                self.by_agent.entry(offer.agent_id.value.clone()).or_default().insert(key);
                let (task_id, wire_task_id) = (task_id.clone(), wire_id.clone());
                effects.push(Effect::Placed { task_id, wire_task_id, offer: Arc::new(Offer::clone(offer)) });
            }
            Record::Status { status } => {
                // The agent repeats its own update until it is acknowledged, so this may be the only copy.
                if !self.by_wire_id.contains_key(&status.task_id.value) {
                    self.adopt(now, status, effects);
                }
                let Some(key) = self.by_wire_id.get(&status.task_id.value).copied() else { return };
                let Some(entry) = self.tasks.get_mut(&key) else { return };
                let step = entry.status(now, status, Proof::Nothing);
                entry.age(now, age);
                effects.push(Effect::Status(status.clone()));
                self.act(now, key, step, effects);
            }
            Record::GivenUp { wire_id } => {
                if let Some(key) = self.by_wire_id.get(wire_id).copied() {
                    self.give_up(now, key);
                }
            }
            Record::Killing { task_id, signal, grace_ms } => {
                let Some(key) = self.by_id.get(task_id).copied() else { return };
                let Some(entry) = self.tasks.get_mut(&key) else { return };
                let step = entry.kill_again(now, *signal, Duration::from_millis(*grace_ms));
                self.act(now, key, step, effects);
            }
            Record::Over { task_id, outcome } => {
                if let Some(key) = self.by_id.get(task_id).copied() {
                    self.end(key, outcome.clone(), true, effects);
                }
            }
            Record::TornDown => {
                self.calls = Calls::new(None);
                self.reconcile = Reconcile::new();
                let placed: Vec<TaskKey> = self.by_wire_id.values().copied().collect();
                placed.into_iter().for_each(|key| self.give_up(now, key));
                self.abandoned.clear();
            }
        }
    }

    /// The task, if it waits for an offer.
    fn waiting(&self, task_id: &str) -> Option<TaskKey> {
        let key = *self.by_id.get(task_id)?;
        matches!(self.tasks.get(&key)?.state(), State::Waiting { .. }).then_some(key)
    }

    fn give_up(&mut self, now: Time, key: TaskKey) {
        let Some(entry) = self.tasks.get_mut(&key) else { return };
        let shape = entry.shape;
        if let Some(placement) = entry.relaunch(now) {
            self.abandon(key, placement);
        }
        self.enqueue(key, shape);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proto::mesos::TaskState;
    use proto::scheduler::call::Type;

    use super::super::Input;
    use super::super::fixture::{Bench, calls, config, offer, s, short, status, task};
    use super::*;
    use crate::exit::Outcome;

    /// A bench whose scheduler records, and what it has recorded on the way through these states.
    fn records(task: Task, states: &[TaskState]) -> Vec<Record> {
        let mut bench = Bench::with(Config { is_recorded: true, ..config() });
        let mut effects = bench.input(Input::Add(Box::new(task)));
        effects.extend(bench.subscribe("m1"));
        effects.extend(bench.offers(vec![offer("o", "a", 1.0, 128.0)]));
        for state in states {
            effects.extend(bench.update(status("t", *state)));
        }
        recorded(&effects)
    }

    fn recorded(effects: &[Effect]) -> Vec<Record> {
        let records = effects.iter().filter_map(|effect| match effect {
            Effect::Record(record) => Some(record.clone()),
            _ => None,
        });
        records.collect()
    }

    /// The bench of another launcher, which begins so long after the records.
    fn restored(records: &[Record], age: Duration, task: Task, is_launchable: bool) -> (Bench, Vec<Effect>) {
        let aged: Vec<_> = records.iter().map(|record| (age, record.clone())).collect();
        let config = Config { is_recorded: true, ..config() };
        let (scheduler, effects) = Scheduler::restore(config, s(0), vec![task], &aged, is_launchable);
        let mut bench = Bench::new();
        bench.scheduler = scheduler;
        (bench, effects)
    }

    #[test]
    fn every_call_that_relies_on_a_record_comes_behind_it() {
        let mut bench = Bench::with(Config { is_recorded: true, ..config() });
        bench.input(Input::Add(Box::new(task("t"))));
        assert_eq!(short(&bench.subscribe("m1"))[0], "record");
        let effects = bench.offers(vec![offer("o", "a", 1.0, 128.0)]);
        assert_eq!(short(&effects), ["record", "placed", "Launching", "ACCEPT", "SUPPRESS"]);
        let effects = bench.update(status("t", TaskState::TaskRunning));
        assert_eq!(short(&effects), ["record", "status", "Status", "ACKNOWLEDGE"]);
        assert_eq!(short(&bench.update(status("t", TaskState::TaskRunning))), ["ACKNOWLEDGE"], "no news");
        assert_eq!(short(&bench.interrupt("t")), ["record", "Killing", "KILL"]);
        let effects = short(&bench.update(status("t", TaskState::TaskKilled)));
        assert_eq!(effects, ["record", "status", "Status", "ACKNOWLEDGE", "record", "ended t Interrupted(2)"]);
    }

    #[test]
    fn a_running_task_is_asked_about_and_followed_to_its_end() {
        let records = records(task("t"), &[TaskState::TaskRunning]);
        let (mut bench, effects) = restored(&records, s(60), task("t"), false);
        assert_eq!(short(&effects), ["placed", "status"]);
        let call = calls(&bench.input(Input::Tick), Type::Subscribe).remove(0);
        assert_eq!(call.framework_id.unwrap().value, "F");
        let effects = bench.subscribe("m1");
        assert_eq!(short(&effects), ["record", "Subscribed", "RECONCILE", "RECONCILE", "SUPPRESS"]);
        let effects = short(&bench.update(status("t", TaskState::TaskFinished)));
        assert_eq!(effects.last().unwrap(), "ended t Exited(0)");
    }

    #[test]
    fn an_end_that_was_recorded_needs_no_master() {
        let records = records(task("t"), &[TaskState::TaskRunning, TaskState::TaskFinished]);
        let (_, effects) = restored(&records, s(60), task("t"), false);
        assert_eq!(short(&effects), ["placed", "status", "status", "ended t Exited(0)"]);
        // Killed right behind the update: the same end follows from it.
        let without_end = &records[..records.len() - 1];
        assert!(!matches!(without_end.last(), Some(Record::Over { .. })));
        let (_, effects) = restored(without_end, s(60), task("t"), false);
        assert_eq!(short(&effects).last().unwrap(), "ended t Exited(0)");
    }

    #[test]
    fn an_intent_that_never_became_a_call_is_launched_again_by_who_has_the_task() {
        let records = records(task("t"), &[]);
        for is_launchable in [true, false] {
            let (mut bench, effects) = restored(&records, s(1), task("t"), is_launchable);
            assert_eq!(short(&effects), ["placed"]);
            bench.input(Input::Tick);
            bench.subscribe("m1");
            let unknown = super::super::fixture::from_master(
                "t",
                TaskState::TaskLost,
                proto::mesos::task_status::Reason::Reconciliation,
            );
            // The same master, but another subscription: the agent must have been seen first.
            assert!(!short(&bench.update(unknown.clone())).contains(&"Relaunching".to_owned()));
            bench.offers(vec![offer("p", "a", 0.1, 1.0)]);
            let effects = bench.update(unknown);
            if is_launchable {
                let effects = [effects, bench.offers(vec![offer("q", "a", 1.0, 128.0)])].concat();
                let Some(Record::Launching { wire_id, .. }) = recorded(&effects).pop() else { panic!("{effects:?}") };
                assert_eq!(wire_id, "t.2");
            } else {
                let ends = effects.iter().any(
                    |effect| matches!(effect, Effect::Ended { outcome: Outcome::Failed(why), .. } if why.contains("never ran")),
                );
                assert!(ends, "{effects:?}");
                assert!(
                    !recorded(&effects).iter().any(|record| matches!(record, Record::Over { .. })),
                    "it can be launched"
                );
            }
        }
    }

    #[test]
    fn the_time_that_passed_counts_for_the_run_timeout() {
        let timed = || Task { run_timeout: Some(s(100)), ..task("t") };
        let records = records(timed(), &[TaskState::TaskRunning]);
        for (age, left) in [(s(40), s(60)), (s(200), s(0))] {
            let (mut bench, _) = restored(&records, age, timed(), false);
            bench.input(Input::Tick);
            bench.subscribe("m1");
            bench.update(status("t", TaskState::TaskRunning));
            if left > s(1) {
                assert!(!short(&bench.wait(left - s(1))).contains(&"KILL".to_owned()));
            }
            assert!(short(&bench.wait(s(2))).contains(&"KILL".to_owned()), "{age:?}");
        }
    }

    #[test]
    fn a_kill_goes_on() {
        let mut bench = Bench::with(Config { is_recorded: true, ..config() });
        let mut effects = bench.input(Input::Add(Box::new(task("t"))));
        effects.extend(bench.subscribe("m1"));
        effects.extend(bench.offers(vec![offer("o", "a", 1.0, 128.0)]));
        effects.extend(bench.update(status("t", TaskState::TaskRunning)));
        effects.extend(bench.interrupt("t"));
        let (mut bench, _) = restored(&recorded(&effects), s(1), task("t"), false);
        bench.input(Input::Tick);
        assert!(short(&bench.subscribe("m1")).contains(&"KILL".to_owned()));
        let effects = short(&bench.update(status("t", TaskState::TaskKilled)));
        assert_eq!(effects.last().unwrap(), "ended t Interrupted(2)");
    }

    #[test]
    fn a_framework_that_was_torn_down_is_not_used_again() {
        let mut records = records(task("t"), &[]);
        records.push(Record::TornDown);
        let (mut bench, _) = restored(&records, s(1), task("t"), true);
        let call = calls(&bench.input(Input::Tick), Type::Subscribe).remove(0);
        assert_eq!(call.framework_id, None);
        bench.subscribe("m1");
        let effects = bench.offers(vec![offer("q", "a", 1.0, 128.0)]);
        assert_eq!(calls(&effects, Type::Accept).len(), 1);
    }

    #[test]
    fn leaving_takes_nothing_down() {
        let mut bench = Bench::launched(&[TaskState::TaskRunning]);
        assert_eq!(short(&bench.input(Input::Leave)), ["disconnect", "finish"]);
    }
}
