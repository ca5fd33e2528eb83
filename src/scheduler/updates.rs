//! What happens to launched tasks: their updates, doubts, questions, kills and ends.

use std::collections::BTreeSet;

use proto::mesos::{AgentId, OfferId, TaskState, TaskStatus, task_status};
use proto::record::{ExecutorMessage, ExecutorNews, TaskRecord};
use proto::scheduler::{Call, call, event};

use super::message;
use super::reconcile::{Proof, TaskKey};
use super::record::Record;
use super::task::{Applied, Doubt, Entry, Placement, State, Step, Then};
use super::{Abandoned, Effect, Scheduler, Time, calls};
use crate::exit::Outcome;
use crate::update::{Status, Update};

impl Scheduler {
    pub(super) fn interrupt(
        &mut self,
        now: Time,
        task_id: &str,
        signal: u8,
        grace: Option<std::time::Duration>,
        effects: &mut Vec<Effect>,
    ) {
        let Some((key, entry)) = self.by_id.get(task_id).and_then(|key| Some((*key, self.tasks.get_mut(key)?))) else {
            return tracing::debug!(task_id, "interrupt for a task that is over or was never added");
        };
        let step = entry.interrupt(now, signal, grace);
        self.act(now, key, step, effects);
    }

    /// A status update: reported if it is news, acknowledged if it asks for it, then followed.
    pub(super) fn update(&mut self, now: Time, status: TaskStatus, effects: &mut Vec<Effect>) {
        if let (Some(agent_id), Some(_)) = (&status.agent_id, &status.uuid) {
            self.saw_agent(&agent_id.value);
        }
        if !self.by_wire_id.contains_key(&status.task_id.value) {
            self.adopt(now, &status, effects);
        }
        let Some(key) = self.by_wire_id.get(&status.task_id.value).copied() else {
            tracing::debug!(task = status.task_id.value, state = ?status.state(), "update for no task of ours");
            return effects.extend(self.acknowledge(&status));
        };
        let acknowledge = self.acknowledge(&status);
        let Some(entry) = self.tasks.get_mut(&key) else { return effects.extend(acknowledge) };
        let proof = entry.placement().map_or(Proof::Nothing, |placement| self.reconcile.proof(placement));
        let step = entry.status(now, &status, proof);
        if matches!(&step, Step::Applied(Applied { then: Then::Relaunch { .. }, .. }))
            && let Some(agent_id) = status.agent_id.as_ref().filter(|_| message::blames_agent(&status))
        {
            self.failed.note(now, key, &agent_id.value);
        }
        match &step {
            Step::Applied(Applied { is_news, then, .. }) => {
                if *is_news {
                    let report = report(entry.id(), &status);
                    if status.uuid.is_some() {
                        self.record(effects, || Record::Status { status: Box::new(status.clone()) });
                    }
                    effects.push(Effect::Status(Box::new(status)));
                    effects.push(Effect::Update(Update::Status(report)));
                }
                match then {
                    Then::Ask | Then::KeepAsking | Then::AwaitAgent => {}
                    Then::Nothing | Then::Relaunch { .. } | Then::Kill { .. } | Then::EndWaiting | Then::End { .. } => {
                        self.reconcile.settled(key)
                    }
                }
            }
            Step::Ignored(_) | Step::Refused(_) => self.reconcile.settled(key),
        }
        effects.extend(acknowledge);
        self.act(now, key, step, effects);
    }

    /// What was unknown because its agent had not joined can be answered now.
    pub(super) fn saw_agent(&mut self, agent_id: &str) {
        if self.reconcile.saw_agent(agent_id) {
            let keys = self.by_agent.get(agent_id).into_iter().flatten();
            self.questions.extend(keys.filter(|key| self.reconcile.awaits_agent(**key)));
        }
    }

    /// After the update's own report. Only updates of agents and executors ask for it.
    fn acknowledge(&self, status: &TaskStatus) -> Option<Effect> {
        let uuid = status.uuid.as_ref().filter(|uuid| !uuid.is_empty())?;
        let agent_id = status.agent_id.clone().or_else(|| {
            let entry = self.tasks.get(self.by_wire_id.get(&status.task_id.value)?)?;
            Some(AgentId { value: entry.placement()?.agent_id.clone() })
        })?;
        Some(self.calls.acknowledge(status.task_id.clone(), agent_id, uuid.clone()))
    }

    /// An update for a placement that was given up. While its task waits, it gets the placement back; a task that has got
    /// another one, or is over, must not run twice.
    pub(super) fn adopt(&mut self, now: Time, status: &TaskStatus, effects: &mut Vec<Effect>) {
        let wire_id = &status.task_id.value;
        let Some(abandoned) = self.abandoned.get_mut(wire_id) else { return };
        let is_alive = match status.state() {
            TaskState::TaskStaging | TaskState::TaskStarting | TaskState::TaskRunning | TaskState::TaskKilling => true,
            TaskState::TaskFinished | TaskState::TaskFailed | TaskState::TaskKilled => false,
            TaskState::TaskLost
            | TaskState::TaskError
            | TaskState::TaskDropped
            | TaskState::TaskUnreachable
            | TaskState::TaskGone
            | TaskState::TaskGoneByOperator
            | TaskState::TaskUnknown => return,
        };
        let key = abandoned.key;
        let waiting = self.tasks.get_mut(&key).filter(|entry| matches!(entry.state(), State::Waiting { .. }));
        if let Some(entry) = waiting.filter(|_| !abandoned.is_killed) {
            let Some(Abandoned { placement, .. }) = self.abandoned.remove(wire_id) else { return };
            let text = format!("task {:?} was launched after all", entry.id());
            effects.push(Effect::Update(Update::Notice(text)));
            self.queue.remove(key, entry.shape);
            self.by_wire_id.insert(wire_id.clone(), key);
            self.by_agent.entry(placement.agent_id.clone()).or_default().insert(key);
            let step = entry.adopt(placement);
            self.act(now, key, step, effects);
        } else if is_alive {
            abandoned.is_killed = true;
            effects.push(self.calls.kill(wire_id, &abandoned.placement.agent_id, abandoned.kill_grace));
        } else {
            self.abandoned.remove(wire_id);
        }
    }

    /// An executor speaks. Only ours has something to say, and only about the task that is its own.
    pub(super) fn message(&mut self, message: &event::Message, effects: &mut Vec<Effect>) {
        let Some(ExecutorMessage { task_id, news, .. }) = ExecutorMessage::parse(&message.data) else {
            return tracing::debug!(executor = message.executor_id.value, "a message of another kind of executor");
        };
        let entry = self.by_wire_id.get(&task_id).and_then(|key| self.tasks.get(key));
        let placed = entry.and_then(|entry| Some((entry, entry.placement()?)));
        let sender = placed.filter(|(entry, placement)| {
            placement.agent_id == message.agent_id.value && *executor_id(entry, placement) == message.executor_id.value
        });
        let Some((entry, _)) = sender else {
            return tracing::debug!(task_id, "a message about no task of its executor");
        };
        match news {
            ExecutorNews::OutputAgain => effects.push(Effect::OutputAgain { task_id: entry.id().to_owned() }),
            ExecutorNews::Stdin(progress) => {
                effects.push(Effect::Stdin { task_id: entry.id().to_owned(), progress });
            }
            ExecutorNews::Signaled(number) => {
                let task_id = entry.id().to_owned();
                self.signaled(&task_id, number);
            }
        }
    }

    /// An agent is gone, or a custom executor on it has ended: the master knows what became of the tasks.
    pub(super) fn failure(&mut self, failure: &event::Failure, effects: &mut Vec<Effect>) {
        let Some(agent_id) = failure.agent_id.as_ref() else { return };
        if failure.executor_id.is_none() {
            self.reconcile.lost_agent(&agent_id.value);
        }
        let Some(keys) = self.by_agent.get(&agent_id.value) else { return };
        let executor = failure.executor_id.as_ref();
        let mut hostname = None;
        for key in keys {
            let Some(entry) = self.tasks.get(key) else { continue };
            let Some(placement) = entry.placement() else { continue };
            if executor.is_none_or(|executor| executor.value == *executor_id(entry, placement)) {
                self.questions.insert(*key);
                hostname = Some(&placement.hostname);
            }
        }
        let Some(hostname) = hostname else { return };
        let text = match executor {
            None => format!("the master lost agent {hostname}"),
            Some(id) => format!("executor {:?} on {hostname} ended", id.value),
        };
        effects.push(Effect::Update(Update::Notice(text)));
    }

    pub(super) fn call_failed(&mut self, now: Time, call: Call, reason: &str, effects: &mut Vec<Effect>) {
        tracing::debug!(kind = ?call.r#type(), reason, "call failed");
        match call.r#type() {
            call::Type::Accept => self.accept_failed(now, call.accept.unwrap_or_default(), effects),
            call::Type::Decline => self.decline_failed(now, call.decline.unwrap_or_default().offer_ids),
            call::Type::Revive => self.flow.revive_failed(now),
            call::Type::Teardown => self.teardown_failed(now),
            // Offers that come nevertheless are declined for long; KILL and RECONCILE are repeated anyway; an update that
            // was not acknowledged comes again; the rest is not ours.
            call::Type::Suppress
            | call::Type::Kill
            | call::Type::Reconcile
            | call::Type::Acknowledge
            | call::Type::Unknown
            | call::Type::Subscribe
            | call::Type::Shutdown
            | call::Type::Message
            | call::Type::Request
            | call::Type::AcceptInverseOffers
            | call::Type::DeclineInverseOffers
            | call::Type::AcknowledgeOperationStatus
            | call::Type::ReconcileOperations
            | call::Type::UpdateFramework => {}
        }
    }

    fn accept_failed(&mut self, now: Time, accept: call::Accept, effects: &mut Vec<Effect>) {
        let launches = accept.operations.into_iter().filter_map(|operation| operation.launch);
        for info in launches.flat_map(|launch| launch.task_infos) {
            let Some(key) = self.by_wire_id.get(&info.task_id.value).copied() else { continue };
            let Some(entry) = self.tasks.get_mut(&key) else { continue };
            let step = entry.accept_failed();
            self.act(now, key, step, effects);
        }
    }

    fn decline_failed(&mut self, now: Time, offer_ids: Vec<OfferId>) {
        if !self.connection.is_subscribed() {
            return;
        }
        let failed: BTreeSet<&str> = offer_ids.iter().map(|id| id.value.as_str()).collect();
        for key in self.reconcile.open_tasks() {
            if let Some(entry) = self.tasks.get_mut(&key)
                && entry.placement().is_some_and(|placement| failed.contains(placement.offer_id.as_str()))
            {
                entry.fence_failed();
            }
        }
        self.flow.decline_failed(now, offer_ids);
    }

    pub(super) fn tick_task(&mut self, now: Time, key: TaskKey, effects: &mut Vec<Effect>) {
        if let Some(entry) = self.tasks.get_mut(&key) {
            let step = entry.tick(now);
            self.act(now, key, step, effects);
        }
    }

    /// Does what follows from a task's step.
    pub(super) fn act(&mut self, now: Time, key: TaskKey, step: Step, effects: &mut Vec<Effect>) {
        match step {
            Step::Applied(applied) => {
                if let Some(notice) = applied.notice {
                    effects.push(Effect::Update(Update::Notice(notice)));
                }
                self.follow_up(now, key, applied.then, effects);
            }
            Step::Ignored(why) => tracing::debug!(key, why, "ignored"),
            Step::Refused(why) => tracing::debug!(key, why, "refused"),
        }
        if let Some(entry) = self.tasks.get_mut(&key) {
            self.timers.schedule(key, entry);
        }
    }

    fn follow_up(&mut self, now: Time, key: TaskKey, then: Then, effects: &mut Vec<Effect>) {
        match then {
            Then::Nothing => {}
            Then::Ask => {
                self.questions.insert(key);
            }
            Then::KeepAsking => self.reconcile.asked(now, key),
            Then::AwaitAgent => self.reconcile.is_unknown(now, key),
            Then::Relaunch { why } => self.relaunch(now, key, why, effects),
            Then::Kill { is_new } => {
                if is_new {
                    self.record_kill(key, effects);
                    self.report_kill(key, effects);
                }
                self.send_kill(key, effects);
            }
            Then::EndWaiting => {
                if let Some(outcome) = self.tasks.get(&key).map(|entry| self.no_offer(now, key, entry)) {
                    self.end(key, outcome, true, effects);
                }
            }
            Then::End { outcome, is_confirmed } => {
                // What was never launched can still be launched: by whoever is asked to go on with it.
                if let Some(entry) = self.tasks.get(&key).filter(|entry| entry.placement().is_some()) {
                    let task_id = entry.id().to_owned();
                    self.record(effects, || Record::Over { task_id, outcome: outcome.clone() });
                }
                self.end(key, outcome, is_confirmed, effects);
            }
        }
    }

    fn record_kill(&self, key: TaskKey, effects: &mut Vec<Effect>) {
        let Some(entry) = self.tasks.get(&key) else { return };
        let Some(kill) = entry.kill() else { return };
        self.record(effects, || Record::Killing {
            task_id: entry.id().to_owned(),
            signal: kill.signal(),
            grace_ms: kill.grace.as_millis().try_into().unwrap_or(u64::MAX),
        });
    }

    fn report_kill(&self, key: TaskKey, effects: &mut Vec<Effect>) {
        let Some(entry) = self.tasks.get(&key) else { return };
        let Some(kill) = entry.kill() else { return };
        effects.push(Effect::Update(Update::Killing {
            task_id: entry.id().to_owned(),
            why: kill.why(),
            grace: kill.grace,
        }));
    }

    /// While disconnected, it waits for the next subscription.
    pub(super) fn send_kill(&self, key: TaskKey, effects: &mut Vec<Effect>) {
        if !self.connection.is_subscribed() {
            return;
        }
        let Some(entry) = self.tasks.get(&key) else { return };
        if let (Some(kill), Some(placement)) = (entry.kill(), entry.placement()) {
            effects.push(self.calls.kill(&placement.wire_id, &placement.agent_id, kill.grace));
        }
    }

    fn relaunch(&mut self, now: Time, key: TaskKey, why: String, effects: &mut Vec<Effect>) {
        let Some(entry) = self.tasks.get_mut(&key) else { return };
        let (shape, task_id) = (entry.shape, entry.id().to_owned());
        let relaunched = entry.relaunch(now);
        if let Some(placement) = &relaunched {
            let wire_id = placement.wire_id.clone();
            self.record(effects, || Record::GivenUp { wire_id });
        }
        if let Some(placement) = relaunched {
            self.abandon(key, placement);
        }
        if !self.is_launchable {
            let text =
                format!("task {task_id:?} never ran: {why}; launch it by the command line that it was launched with");
            return self.end(key, Outcome::Failed(text), true, effects);
        }
        effects.push(Effect::Update(Update::Relaunching { task_id, why }));
        self.enqueue(key, shape);
    }

    /// Forgets where the task was, but not that it may still turn up there.
    pub(super) fn abandon(&mut self, key: TaskKey, placement: super::task::Placement) {
        self.forget_placement(key, &placement.wire_id, &placement.agent_id);
        let kill_grace = self.tasks.get(&key).map(|entry| entry.task.kill_grace).unwrap_or_default();
        let wire_id = placement.wire_id.clone();
        self.abandoned.insert(wire_id, Abandoned { key, placement, kill_grace, is_killed: false });
    }

    fn forget_placement(&mut self, key: TaskKey, wire_id: &str, agent_id: &str) {
        self.by_wire_id.remove(wire_id);
        if let Some(keys) = self.by_agent.get_mut(agent_id) {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_agent.remove(agent_id);
            }
        }
    }

    pub(super) fn end(&mut self, key: TaskKey, outcome: Outcome, is_confirmed: bool, effects: &mut Vec<Effect>) {
        let Some(entry) = self.tasks.get_mut(&key) else { return };
        let shape = entry.shape;
        match entry.end() {
            None => self.queue.remove(key, shape),
            Some(placement) if is_confirmed => self.forget_placement(key, &placement.wire_id, &placement.agent_id),
            Some(placement) => self.abandon(key, placement),
        }
        self.reconcile.settled(key);
        self.questions.remove(&key);
        if let Some(entry) = self.tasks.remove(&key) {
            let task_id = entry.task.info.task_id.value;
            self.by_id.remove(&task_id);
            effects.push(Effect::Ended { task_id, outcome });
        }
    }

    /// Asks the master about the tasks whose fate has become or still is open.
    pub(super) fn ask(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut keys = std::mem::take(&mut self.questions);
        for key in &keys {
            self.reconcile.asked(now, *key);
        }
        keys.extend(self.reconcile.round(now));
        if keys.is_empty() {
            return;
        }
        let mut doubtful = BTreeSet::new();
        let mut questions = Vec::new();
        for key in keys {
            let Some(entry) = self.tasks.get_mut(&key) else { continue };
            entry.fenced();
            let Some(placement) = entry.placement() else { continue };
            if placement.doubt != Doubt::None {
                doubtful.insert(placement.offer_id.clone());
            }
            questions.push(calls::question(&placement.wire_id, &placement.agent_id));
        }
        if !doubtful.is_empty() {
            // Without a filter: the task that is launched again may want these very resources.
            let offer_ids = doubtful.into_iter().map(|value| OfferId { value }).collect();
            effects.push(self.calls.decline(offer_ids, std::time::Duration::ZERO));
        }
        if !questions.is_empty() {
            effects.push(self.calls.reconcile(questions));
        }
    }
}

/// The task's own executor; a command task's is named like the task.
pub(super) fn executor_id<'a>(entry: &'a Entry, placement: &'a Placement) -> &'a String {
    entry.task.info.executor.as_ref().map_or(&placement.wire_id, |own| &own.executor_id.value)
}

/// A status update as displays need it.
fn report(task_id: &str, status: &TaskStatus) -> Status {
    let address = status.container_status.iter().flat_map(|container| &container.network_infos).find_map(|network| {
        let listed = network.ip_addresses.iter().find_map(|address| address.ip_address.clone());
        listed.or_else(|| network.ip_address.clone())
    });
    Status {
        task_id: task_id.to_owned(),
        state: status.state(),
        message: status.message.clone().filter(|message| !message.is_empty()),
        reason: status.reason.and_then(|number| task_status::Reason::try_from(number).ok()),
        source: status.source.and_then(|number| task_status::Source::try_from(number).ok()),
        agent_id: status.agent_id.as_ref().map(|id| id.value.clone()),
        healthy: status.healthy,
        ip_address: address,
        record: status.data.as_deref().and_then(TaskRecord::parse),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
