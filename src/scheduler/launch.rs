//! From `Add` to ACCEPT: which offer a task gets, and what the user is told while there is none.

use std::cmp::Reverse;
use std::sync::Arc;

use proto::mesos::{Attribute, Offer, OfferId, TaskInfo};
use proto::resources::Resources;

use super::connection::State as Connected;
use super::offers::{REFUSE_WHILE_IDLE, REFUSE_WHILE_WAITING, Wish};
use super::placement::{Agent, Terms, Verdict};
use super::reconcile::TaskKey;
use super::record::Record;
use super::shortfall::Explanation;
use super::subscription::Life;
use super::task::{Doubt, Entry, Placement, Step};
use super::{Effect, Scheduler, Task, Time};
use crate::exit::Outcome;
use crate::update::Update;

impl Scheduler {
    pub(super) fn add(&mut self, now: Time, task: Box<Task>, effects: &mut Vec<Effect>) {
        let task_id = task.info.task_id.value.clone();
        let refusal = match (self.connection.state(), &self.life) {
            (Connected::Closed { reason }, _) => Some(reason.clone()),
            (_, Life::Working) => None,
            (_, Life::Leaving { .. } | Life::TearingDown { .. } | Life::Finished) => {
                Some("the launcher is being stopped".to_owned())
            }
        };
        if let Some(reason) = refusal {
            effects.push(Effect::Ended { task_id, outcome: Outcome::Failed(reason) });
            return;
        }
        if self.by_id.contains_key(&task_id) {
            let text = format!("task {task_id:?} was added twice; the second one is ignored");
            effects.push(Effect::Update(Update::Notice(text)));
            return;
        }
        let key = self.next_key;
        self.next_key += 1;
        let shape = self.queue.shape(&task.info.resources, &task.terms);
        let mut entry = Box::new(Entry::new(task, now, shape));
        self.timers.schedule(key, &mut entry);
        self.tasks.insert(key, entry);
        self.by_id.insert(task_id, key);
        self.enqueue(key, shape);
    }

    pub(super) fn enqueue(&mut self, key: TaskKey, shape: super::offers::ShapeId) {
        if self.queue.push(key, shape) {
            self.flow.need_changed();
        }
    }

    pub(super) fn offers(&mut self, now: Time, mut offers: Vec<Offer>, effects: &mut Vec<Effect>) {
        self.flow.offered(now);
        // The best first; those that are alike as they came.
        if offers.len() > 1 {
            offers.sort_by_cached_key(|offer| Reverse(self.queue.score(&Agent::of(offer))));
        }
        let mut declined = Vec::new();
        for offer in offers {
            self.saw_agent(&offer.agent_id.value);
            if let Some(offer_id) = self.offer(now, offer, effects) {
                declined.push(offer_id);
            }
        }
        self.decline(declined, effects);
    }

    /// Gives the offer back if nothing fits.
    fn offer(&mut self, now: Time, mut offer: Offer, effects: &mut Vec<Effect>) -> Option<OfferId> {
        if self.queue.is_empty() {
            return Some(offer.id);
        }
        let mut rest = Resources::from(std::mem::take(&mut offer.resources));
        let offer = Arc::new(offer);
        let mut taken = Vec::new();
        let mut patience_ends = None;
        let (tasks, failed, agent) = (&self.tasks, &self.failed, Agent::of(&offer));
        let is_welcome =
            |key: TaskKey, terms: &Terms| match terms.verdict(&agent, failed.has(now, key, &offer.agent_id.value)) {
                Verdict::Fits => true,
                Verdict::Never(_) => false,
                Verdict::Later(patience, _) => {
                    let until = tasks.get(&key).map_or(now, |entry| entry.waiting_since().unwrap_or(now) + patience);
                    if until > now {
                        patience_ends = Some(patience_ends.map_or(until, |earlier: Time| earlier.min(until)));
                    }
                    until <= now
                }
            };
        self.queue.fill(&mut rest, is_welcome, |key, picked| taken.push((key, picked)));
        if let Some(until) = patience_ends {
            self.flow.patience_ends(until);
        }
        let mut task_infos = Vec::with_capacity(taken.len());
        task_infos.extend(taken.into_iter().filter_map(|(key, picked)| self.place(now, key, picked, &offer, effects)));
        let is_useless = task_infos.is_empty();
        if !is_useless {
            effects.push(self.calls.accept(offer.id.clone(), task_infos, REFUSE_WHILE_WAITING));
            self.flow.filtered();
        }
        let declined = is_useless.then(|| offer.id.clone());
        if !self.queue.is_empty() {
            self.shortfalls.note(offer, rest);
        }
        declined
    }

    /// Makes the task that will be launched with this part of the offer.
    fn place(
        &mut self,
        now: Time,
        key: TaskKey,
        picked: Resources,
        offer: &Arc<Offer>,
        effects: &mut Vec<Effect>,
    ) -> Option<TaskInfo> {
        let wire_id = self.next_wire_id(key)?;
        let entry = self.tasks.get_mut(&key)?;
        let placement = Placement {
            wire_id: wire_id.clone(),
            agent_id: offer.agent_id.value.clone(),
            hostname: offer.hostname.clone(),
            offer_id: offer.id.value.clone(),
            subscription: self.reconcile.subscription(),
            doubt: Doubt::None,
            is_heard: false,
        };
        if let step @ (Step::Ignored(_) | Step::Refused(_)) = entry.accepted(now, placement) {
            tracing::debug!(task = entry.id(), ?step, "not placed");
            return None;
        }
        self.timers.schedule(key, entry);
        let need = std::mem::take(&mut entry.task.info.resources);
        let mut info = entry.task.info.clone();
        entry.task.info.resources = need;
        let task_id = std::mem::replace(&mut info.task_id.value, wire_id.clone());
        info.agent_id = offer.agent_id.clone();
        info.resources = picked.into();
        self.by_wire_id.insert(wire_id.clone(), key);
        match self.by_agent.get_mut(&offer.agent_id.value) {
            Some(keys) => {
                keys.insert(key);
            }
            None => {
                self.by_agent.insert(offer.agent_id.value.clone(), [key].into());
            }
        }
        self.record(effects, || Record::Launching {
            task_id: task_id.clone(),
            wire_id: wire_id.clone(),
            offer: Box::new(Offer::clone(offer)),
        });
        effects.push(Effect::Placed { task_id: task_id.clone(), wire_task_id: wire_id, offer: Arc::clone(offer) });
        effects.push(Effect::Update(Update::Launching {
            task_id,
            agent_id: offer.agent_id.value.clone(),
            hostname: offer.hostname.clone(),
            attributes: offer.attributes.iter().map(|it| (it.name.clone(), attribute(it))).collect(),
        }));
        Some(info)
    }

    /// `ID`, then `ID.2` and so on; never one that is in use, nor one that was given up and may still turn up.
    fn next_wire_id(&self, key: TaskKey) -> Option<String> {
        let entry = self.tasks.get(&key)?;
        let first = (entry.launches == 0).then(|| entry.id().to_owned());
        let later = (entry.launches.max(1) + 1..).map(|launch| format!("{}.{launch}", entry.id()));
        first.into_iter().chain(later).find(|id| !self.by_wire_id.contains_key(id) && !self.abandoned.contains_key(id))
    }

    pub(super) fn decline(&mut self, offer_ids: Vec<OfferId>, effects: &mut Vec<Effect>) {
        if offer_ids.is_empty() {
            return;
        }
        let refuse = match self.wants_offers() {
            true => REFUSE_WHILE_WAITING,
            false => REFUSE_WHILE_IDLE,
        };
        self.flow.filtered();
        effects.push(self.calls.decline(offer_ids, refuse));
    }

    fn wants_offers(&self) -> bool {
        !self.queue.is_empty() || self.reconcile.wants_offers()
    }

    /// REVIVE, SUPPRESS, and the line that says what is missing.
    pub(super) fn settle_offers(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some(wish) = self.flow.settle(now, self.wants_offers(), self.config.can_suppress) {
            match wish {
                Wish::Revive => effects.push(self.calls.revive()),
                Wish::Suppress => effects.push(self.calls.suppress()),
                Wish::Decline(offer_ids) => self.decline(offer_ids, effects),
            }
        }
        match self.first_waiting() {
            Some(since) => {
                self.report.start(now, since);
                let mut report = std::mem::take(&mut self.report);
                let waiting = report.make(now, since, || self.explanation(now).unwrap_or_default());
                self.report = report;
                if let Some(waiting) = waiting {
                    effects.push(Effect::Update(Update::Waiting(waiting)));
                }
            }
            None => {
                self.report.stop();
                self.shortfalls.clear();
            }
        }
    }

    /// Why the first in the queue waits.
    fn explanation(&self, now: Time) -> Option<Explanation> {
        let (key, shape) = self.queue.first()?;
        self.explain(now, key, shape)
    }

    fn explain(&self, now: Time, key: TaskKey, shape: super::offers::ShapeId) -> Option<Explanation> {
        let (need, terms) = self.queue.need(shape)?;
        let has_failed = |agent_id: &str| self.failed.has(now, key, agent_id);
        let mut explanation = self.shortfalls.explain(need, terms, has_failed);
        if explanation.agents_offered == 0 {
            explanation.hints = self.hints(need);
        }
        Some(explanation)
    }

    /// What may keep every agent from being offered.
    fn hints(&self, need: &Resources) -> Vec<String> {
        self.survey.as_ref().map(|survey| survey.hints(self.config.framework.role(), need)).unwrap_or_default()
    }

    /// Since when the first in the queue waits.
    fn first_waiting(&self) -> Option<Time> {
        let (key, _) = self.queue.first()?;
        self.tasks.get(&key)?.waiting_since()
    }

    /// Why the task ends that has waited for too long.
    pub(super) fn no_offer(&self, now: Time, key: TaskKey, entry: &Entry) -> Outcome {
        let timeout = humantime::format_duration(entry.task.offer_timeout.unwrap_or_default());
        let need = self.queue.need(entry.shape).map(|(need, _)| need.to_string()).unwrap_or_default();
        let what = match self.explain(now, key, entry.shape) {
            _ if !self.connection.is_subscribed() => "no master answers; check --master".to_owned(),
            Some(why) if why.agents_offered > 0 && why.reasons.is_empty() => {
                format!("{}, but the launch did not succeed; see the lines above", why.agents())
            }
            Some(why) if why.agents_offered > 0 => {
                format!(
                    "{}: {}; the task needs {need}: ask for less, or wait for longer",
                    why.agents(),
                    why.reasons.join("; ")
                )
            }
            Some(why) if !why.hints.is_empty() => format!("no agent offered anything: {}", why.hints.join("; ")),
            None | Some(_) => format!(
                "no agent offered anything to role {:?}; check that agents are up and not full, or choose another --role",
                self.config.framework.role()
            ),
        };
        Outcome::TimedOut(format!("no offer for task {:?} within {timeout}: {what}", entry.id()))
    }
}

/// The value as Mesos' own `--attributes` takes it: `a7`, `1.5`, `[1-2,5-5]`.
fn attribute(attribute: &Attribute) -> String {
    let list = |items: Vec<String>| items.join(",");
    match (&attribute.text, &attribute.scalar, &attribute.ranges, &attribute.set) {
        (Some(text), _, _, _) => text.value.clone(),
        (None, Some(scalar), _, _) => scalar.value.to_string(),
        (None, None, Some(ranges), _) => {
            let ranges = ranges.range.iter().map(|range| format!("{}-{}", range.begin, range.end));
            format!("[{}]", list(ranges.collect()))
        }
        (None, None, None, Some(set)) => format!("{{{}}}", list(set.item.clone())),
        (None, None, None, None) => String::new(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proto::scheduler::call::Type;

    use super::super::Input;
    use super::super::fixture::{Bench, calls, config, ms, offer, resources, s, short, status, task};
    use super::*;
    use proto::mesos::TaskState;

    fn refuse_seconds(effects: &[Effect]) -> Vec<f64> {
        let declines = calls(effects, Type::Decline);
        declines.iter().map(|call| call.decline.as_ref().unwrap().filters.unwrap().refuse_seconds()).collect()
    }

    fn waiting(effects: &[Effect]) -> Vec<(u64, u32, Vec<String>)> {
        let reports = effects.iter().filter_map(|effect| match effect {
            Effect::Update(Update::Waiting(waiting)) => Some(waiting),
            _ => None,
        });
        reports.map(|w| (w.waiting_for.as_secs(), w.agents_offered, w.reasons.clone())).collect()
    }

    #[test]
    fn a_task_is_launched_with_its_part_of_the_first_offer_that_fits() {
        let mut bench = Bench::subscribed([task("t")]);
        let effects = bench.offers(vec![offer("o1", "a", 0.5, 999.0), offer("o2", "b", 4.0, 999.0)]);
        assert_eq!(short(&effects), ["placed", "Launching", "ACCEPT", "DECLINE", "SUPPRESS"]);
        let accept = calls(&effects, Type::Accept).remove(0).accept.unwrap();
        assert_eq!(accept.offer_ids[0].value, "o2");
        let info = &accept.operations[0].launch.as_ref().unwrap().task_infos[0];
        assert_eq!((info.task_id.value.as_str(), info.agent_id.value.as_str()), ("t", "b"));
        assert_eq!(Resources::from(info.resources.clone()).to_string(), "cpus:1;mem:128");
        let Effect::Placed { task_id, wire_task_id, offer } = &effects[0] else { panic!("{effects:?}") };
        assert_eq!((task_id.as_str(), wire_task_id.as_str()), ("t", "t"));
        assert_eq!((offer.hostname.as_str(), offer.resources.len()), ("b.example", 0));
    }

    #[test]
    fn several_tasks_share_one_offer_and_one_accept() {
        let mut bench = Bench::subscribed((0..5).map(|n| task(&format!("t{n}"))));
        let effects = bench.offers(vec![offer("o1", "a", 3.0, 999.0), offer("o2", "b", 4.0, 999.0)]);
        let launched: Vec<Vec<String>> = calls(&effects, Type::Accept)
            .iter()
            .map(|call| {
                let launch = call.accept.as_ref().unwrap().operations[0].launch.as_ref().unwrap();
                launch.task_infos.iter().map(|info| info.task_id.value.clone()).collect()
            })
            .collect();
        assert_eq!(launched, [vec!["t0", "t1", "t2"], vec!["t3", "t4"]]);
        assert!(calls(&effects, Type::Decline).is_empty());
    }

    #[test]
    fn a_small_task_does_not_wait_behind_a_big_one() {
        let mut big = task("big");
        big.info.resources = resources(8.0, 128.0);
        let mut bench = Bench::subscribed([big, task("small")]);
        let effects = bench.offers(vec![offer("o", "a", 2.0, 999.0)]);
        assert!(matches!(&effects[0], Effect::Placed { task_id, .. } if task_id == "small"));
        let effects = bench.offers(vec![offer("p", "b", 8.0, 999.0)]);
        assert!(matches!(&effects[0], Effect::Placed { task_id, .. } if task_id == "big"));
    }

    #[test]
    fn ten_minutes_of_small_offers_do_not_keep_a_task_from_the_first_that_fits() {
        let mut bench = Bench::subscribed([task("t")]);
        for n in 0..60 {
            let effects = bench.offers(vec![offer(&format!("o{n}"), "a", 0.5, 999.0)]);
            assert_eq!(refuse_seconds(&effects), [5.0]);
            assert!(calls(&effects, Type::Suppress).is_empty(), "it still waits");
            bench.wait(s(10));
        }
        let effects = bench.offers(vec![offer("fit", "a", 1.0, 999.0)]);
        assert_eq!(calls(&effects, Type::Accept).len(), 1);
    }

    fn with_attribute(offer: Offer, text: &str) -> Offer {
        Offer { attributes: vec![crate::scheduler::placement::fixture::attribute(text)], ..offer }
    }

    fn with_terms(constraint: &str, preference: &str) -> Task {
        let parse = |text: &str| text.parse().into_iter().collect();
        let terms = Terms { constraints: parse(constraint), preferences: parse(preference), takes_revocable: false };
        Task { terms, ..task("t") }
    }

    #[test]
    fn a_constraint_is_never_broken_however_long_the_task_waits() {
        let mut bench = Bench::subscribed([with_terms("rack==r1", "")]);
        for n in 0..20 {
            let effects = bench.offers(vec![with_attribute(offer(&format!("o{n}"), "a", 9.0, 999.0), "rack:r2")]);
            assert!(calls(&effects, Type::Accept).is_empty());
            bench.wait(s(10));
        }
        let effects = bench.offers(vec![with_attribute(offer("p", "b", 9.0, 999.0), "rack:r1")]);
        assert_eq!(calls(&effects, Type::Accept).len(), 1);
    }

    #[test]
    fn what_is_preferred_is_taken_first_and_other_agents_after_a_while() {
        let mut bench = Bench::subscribed([with_terms("", "rack==r1")]);
        let other = |id: &str| with_attribute(offer(id, "a", 9.0, 999.0), "rack:r2");
        let effects = bench.offers(vec![other("o1"), with_attribute(offer("o2", "b", 9.0, 999.0), "rack:r1")]);
        assert_eq!(calls(&effects, Type::Accept)[0].accept.as_ref().unwrap().offer_ids[0].value, "o2");
        let mut bench = Bench::subscribed([with_terms("", "rack==r1")]);
        assert!(calls(&bench.offers(vec![other("o1")]), Type::Accept).is_empty());
        assert_eq!(calls(&bench.wait(s(3)), Type::Revive).len(), 1, "what was declined is wanted now");
        assert_eq!(calls(&bench.offers(vec![other("o2")]), Type::Accept).len(), 1);
    }

    #[test]
    fn an_agent_with_maintenance_ahead_is_second_choice() {
        let ahead = |id: &str| Offer { unavailability: Some(Default::default()), ..offer(id, "a", 9.0, 999.0) };
        let mut bench = Bench::subscribed([task("t")]);
        assert!(calls(&bench.offers(vec![ahead("o1")]), Type::Accept).is_empty());
        let reasons = waiting(&bench.wait(s(2))).remove(0).2;
        assert!(reasons[0].contains("maintenance ahead on 1 agent"), "{reasons:?}");
        bench.wait(s(8));
        assert_eq!(calls(&bench.offers(vec![ahead("o2")]), Type::Accept).len(), 1);
    }

    #[test]
    fn an_agent_that_dropped_the_task_is_second_choice_for_a_while() {
        let mut bench = Bench::subscribed([task("t")]);
        bench.offers(vec![offer("o1", "a", 9.0, 999.0)]);
        let mut dropped = status("t", TaskState::TaskDropped);
        dropped.reason = Some(proto::mesos::task_status::Reason::AgentDisconnected.into());
        bench.update(dropped);
        let effects = bench.offers(vec![offer("o2", "a", 9.0, 999.0)]);
        assert!(calls(&effects, Type::Accept).is_empty(), "{effects:?}");
        let effects = bench.offers(vec![offer("o3", "b", 9.0, 999.0)]);
        assert_eq!(calls(&effects, Type::Accept).len(), 1);
    }

    #[test]
    fn what_the_master_says_about_its_agents_explains_why_none_is_offered() {
        let mut bench = Bench::subscribed([Task { offer_timeout: Some(s(5)), ..task("t") }]);
        bench.input(Input::Surveyed(crate::scheduler::Survey::default()));
        let effects = bench.wait(s(5));
        let hints = effects.iter().find_map(|effect| match effect {
            Effect::Update(Update::Waiting(waiting)) => Some(waiting.hints.clone()),
            _ => None,
        });
        assert!(hints.unwrap()[0].contains("the master has no agents"));
        let text = effects.iter().find_map(|effect| match effect {
            Effect::Ended { outcome: Outcome::TimedOut(text), .. } => Some(text.clone()),
            _ => None,
        });
        assert!(text.unwrap().contains("no agent offered anything: the master has no agents"));
    }

    #[test]
    fn starved_of_offers_it_asks_again() {
        let mut bench = Bench::subscribed([task("t")]);
        let effects = bench.wait(s(95));
        assert_eq!(calls(&effects, Type::Revive).len(), 3);
    }

    #[test]
    fn while_nobody_waits_offers_are_suppressed_and_declined_for_long() {
        let mut bench = Bench::subscribed([]);
        let effects = bench.offers(vec![offer("o", "a", 1.0, 999.0)]);
        assert_eq!(refuse_seconds(&effects), [3600.0]);
        assert_eq!(short(&bench.input(Input::Add(Box::new(task("t"))))), ["REVIVE"]);
        let effects = bench.offers(vec![offer("p", "a", 1.0, 999.0)]);
        assert_eq!(short(&effects), ["placed", "Launching", "ACCEPT", "SUPPRESS"]);
    }

    #[test]
    fn a_master_without_suppress_is_never_asked_for_it() {
        let mut bench = Bench::with(super::super::Config { can_suppress: false, ..config() });
        bench.input(Input::Tick);
        assert_eq!(short(&bench.subscribe("m1")), ["Subscribed"]);
        let effects = bench.offers(vec![offer("o", "a", 1.0, 999.0)]);
        assert_eq!((short(&effects), refuse_seconds(&effects)), (vec!["DECLINE".to_owned()], vec![3600.0]));
        assert_eq!(short(&bench.input(Input::Add(Box::new(task("t"))))), ["REVIVE"]);
    }

    #[test]
    fn offers_are_revived_only_when_the_need_changes() {
        let mut bench = Bench::subscribed([task("t1")]);
        assert!(bench.input(Input::Add(Box::new(task("t2")))).is_empty());
        let mut small = task("small");
        small.info.resources = resources(0.1, 32.0);
        assert!(bench.input(Input::Add(Box::new(small.clone()))).is_empty(), "nothing was declined yet");
        bench.offers(vec![offer("o", "a", 0.2, 64.0)]);
        small.info.task_id.value = "small2".to_owned();
        small.info.resources = resources(0.1, 31.0);
        assert_eq!(short(&bench.input(Input::Add(Box::new(small)))), ["REVIVE"]);
    }

    #[test]
    fn calls_about_offers_that_fail_are_repeated_with_back_off() {
        let mut bench = Bench::subscribed([]);
        let mut effects = bench.input(Input::Add(Box::new(task("t"))));
        for pause in [ms(500), s(1), s(2)] {
            let call = calls(&effects, Type::Revive).remove(0);
            assert!(bench.input(Input::CallFailed { call: Box::new(call), reason: "500".to_owned() }).is_empty());
            assert!(calls(&bench.wait(pause - ms(1)), Type::Revive).is_empty());
            effects = bench.wait(ms(1));
        }
        let declined = bench.offers(vec![offer("o", "a", 0.5, 999.0)]);
        let call = calls(&declined, Type::Decline).remove(0);
        bench.input(Input::CallFailed { call: Box::new(call.clone()), reason: "500".to_owned() });
        assert_eq!(calls(&bench.wait(ms(500)), Type::Decline), [call]);
    }

    #[test]
    fn the_user_is_told_what_is_missing_after_two_seconds_then_on_change_and_every_ten_seconds() {
        let mut bench = Bench::subscribed([task("t")]);
        assert_eq!(waiting(&bench.wait(ms(1999))), []);
        assert_eq!(waiting(&bench.wait(ms(1))), [(2, 0, vec![])]);
        bench.offers(vec![offer("o1", "a", 4.0, 28.0), offer("o2", "b", 0.5, 100.0), offer("o3", "c", 1.0, 120.0)]);
        let reasons =
            vec!["mem short by 8 MB on 3 agents (best: c.example)", "cpus short by 0.5 on 1 agent (b.example)"];
        let reasons: Vec<String> = reasons.into_iter().map(str::to_owned).collect();
        assert_eq!(waiting(&bench.wait(s(5))), [(3, 3, reasons.clone())]);
        assert_eq!(waiting(&bench.wait(s(11))), [(13, 3, reasons)]);
    }

    #[test]
    fn without_a_master_nobody_is_told_what_is_missing() {
        let mut bench = Bench::new();
        bench.input(Input::Add(Box::new(task("t"))));
        assert_eq!(waiting(&bench.wait(s(20))), []);
    }

    #[test]
    fn the_offer_timeout_says_what_was_missing() {
        for (offers, text) in [
            (vec![], "no agent offered anything to role \"*\"; check that agents are up"),
            (
                vec![offer("o", "a", 0.5, 999.0)],
                "1 agent offered: cpus short by 0.5 on 1 agent (a.example); the task needs",
            ),
        ] {
            let mut task = task("t");
            task.offer_timeout = Some(s(60));
            let mut bench = Bench::subscribed([task]);
            bench.offers(offers);
            assert!(bench.wait(ms(59_999)).iter().all(|effect| !matches!(effect, Effect::Ended { .. })));
            let effects = bench.wait(ms(1));
            let outcome = effects.iter().find_map(|effect| match effect {
                Effect::Ended { outcome: Outcome::TimedOut(text), .. } => Some(text),
                _ => None,
            });
            assert!(outcome.unwrap().contains(text), "{outcome:?}");
        }
    }

    #[test]
    fn the_offer_timeout_does_not_count_once_an_offer_fits() {
        let mut task = task("t");
        task.offer_timeout = Some(s(60));
        let mut bench = Bench::subscribed([task]);
        bench.offers(vec![offer("o", "a", 1.0, 128.0)]);
        bench.update(status("t", TaskState::TaskRunning));
        assert!(bench.wait(s(100)).is_empty());
    }

    #[test]
    fn a_task_added_twice_runs_once() {
        let mut bench = Bench::subscribed([task("t")]);
        assert_eq!(short(&bench.input(Input::Add(Box::new(task("t"))))), ["Notice"]);
        let effects = bench.offers(vec![offer("o", "a", 9.0, 9999.0)]);
        assert_eq!(short(&effects), ["placed", "Launching", "ACCEPT", "SUPPRESS"]);
    }
}
