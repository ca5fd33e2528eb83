//! What schedulers ask for once they are subscribed. PURE.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::resources::Resources;
use proto::scheduler::call;
use proto::{mesos, scheduler};

use super::allocator::{AgentKey, FrameworkKey};
use super::framework::{Executor, Task, is_terminal};
use super::validation::{self, check_call};
use super::{Effect, StreamId, Turn, unallocated, update_event};

impl Turn<'_> {
    pub(super) fn call(&mut self, stream: Option<StreamId>, mut call: Box<scheduler::Call>) {
        if let Err(why) = check_call(&call) {
            return self.reject(400, format!("Failed to validate Scheduler::Call: {why}"));
        }
        let id = call.framework_id.as_ref().map(|id| id.value.as_str()).unwrap_or_default();
        let Some(&key) = self.master.framework_keys.get(id) else {
            return self.reject(400, "Framework cannot be found".to_owned());
        };
        let current = self.master.frameworks.get(&key).and_then(|framework| framework.stream);
        let Some(current) = current else {
            return self.reject(403, "Framework is not subscribed".to_owned());
        };
        match stream {
            None => {
                return self.reject(400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header".into());
            }
            Some(stream) if stream != current => {
                let text = "The stream ID included in this request didn't match the stream ID currently associated with framework";
                return self.reject(400, format!("{text} ID '{id}'"));
            }
            Some(_) => {}
        }
        match call.r#type() {
            call::Type::Teardown => self.tear_down(key, current),
            call::Type::Accept => self.accept(key, call.accept.take().unwrap_or_default()),
            call::Type::Decline => self.decline(key, &call.decline.take().unwrap_or_default()),
            call::Type::Revive => self.master.allocator.revive(key),
            call::Type::Suppress => self.master.allocator.suppress(key),
            call::Type::Kill => self.kill(key, call.kill.take().unwrap_or_default()),
            call::Type::Shutdown => self.shut_executor_down(key, call.shutdown.take().unwrap_or_default()),
            call::Type::Acknowledge => self.acknowledge(key, call.acknowledge.take().unwrap_or_default()),
            call::Type::Reconcile => self.reconcile(key, &call.reconcile.take().unwrap_or_default()),
            call::Type::Message => self.message_executor(key, call.message.take().unwrap_or_default()),
            // Nothing here needs hints or maintenance.
            call::Type::Request | call::Type::AcceptInverseOffers | call::Type::DeclineInverseOffers => {}
            call::Type::Unknown
            | call::Type::Subscribe
            | call::Type::AcknowledgeOperationStatus
            | call::Type::ReconcileOperations
            | call::Type::UpdateFramework => {
                let name = call.r#type().as_str_name();
                self.reject(501, format!("The embedded master does not implement {name}"));
            }
        }
    }

    fn accept(&mut self, key: FrameworkKey, accept: call::Accept) {
        let offers: Vec<u64> = accept.offer_ids.iter().map(|id| self.master.offer_number(&id.value)).collect();
        if let Err(why) = self.check_offers(key, &offers, &accept.offer_ids) {
            for offer in offers {
                if let Some(grant) = self.master.allocator.accept_of(key, offer) {
                    self.master.allocator.release(key, grant.agent, &grant.resources);
                }
            }
            let Some(framework) = self.master.frameworks.get(&key) else { return };
            let state = framework.dropped();
            for task in launches(accept.operations) {
                let message = format!("Task launched with invalid offers: {why}");
                let reason = mesos::task_status::Reason::InvalidOffers;
                self.status(key, &task.task_id, Some(task.agent_id), None, state, Some(reason), message);
            }
            return;
        }
        let mut agent = AgentKey(0);
        let mut unused = Resources::new();
        for offer in offers {
            if let Some(grant) = self.master.allocator.accept(offer) {
                agent = grant.agent;
                unused += &grant.resources;
            }
        }
        for operation in accept.operations {
            self.perform(key, agent, operation, &mut unused);
        }
        self.master.allocator.refuse(self.now, key, agent, unused, accept.filters.as_ref());
    }

    fn check_offers(&self, key: FrameworkKey, offers: &[u64], ids: &[mesos::OfferId]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        let mut agent = None;
        for (offer, id) in offers.iter().zip(ids) {
            let Some(grant) = self.master.allocator.offer(*offer) else {
                return Err(format!("Offer {} is no longer valid", id.value));
            };
            if !seen.insert(offer) {
                return Err(format!("Duplicate offer {} in offer list", id.value));
            }
            if grant.framework != key {
                return Err(format!("Offer {} belongs to another framework", id.value));
            }
            if *agent.get_or_insert(grant.agent) != grant.agent {
                return Err(format!("Aggregated offers must belong to one single agent; offer {} does not", id.value));
            }
        }
        Ok(())
    }

    fn perform(
        &mut self,
        key: FrameworkKey,
        agent: AgentKey,
        operation: mesos::offer::Operation,
        unused: &mut Resources,
    ) {
        match operation.r#type() {
            mesos::offer::operation::Type::Launch => {
                for task in operation.launch.unwrap_or_default().task_infos {
                    self.launch(key, agent, task, unused);
                }
            }
            mesos::offer::operation::Type::LaunchGroup => {
                let tasks = operation.launch_group.map(|group| group.task_group.tasks).unwrap_or_default();
                for task in tasks {
                    let message = "Task groups are not supported by the embedded cluster".to_owned();
                    let reason = mesos::task_status::Reason::TaskGroupInvalid;
                    let state = mesos::TaskState::TaskError;
                    self.status(key, &task.task_id, Some(task.agent_id), None, state, Some(reason), message);
                }
            }
            // Nothing here is reserved or persistent: such operations are dropped, as Mesos drops invalid ones.
            _ => {}
        }
    }

    fn launch(&mut self, key: FrameworkKey, agent_key: AgentKey, mut task: mesos::TaskInfo, unused: &mut Resources) {
        let need = match self.check_launch(key, agent_key, &mut task, unused) {
            Ok(need) => need,
            Err(message) => {
                let reason = mesos::task_status::Reason::TaskInvalid;
                let executor_id = task.executor.map(|executor| executor.executor_id);
                let state = mesos::TaskState::TaskError;
                return self.status(key, &task.task_id, Some(task.agent_id), executor_id, state, Some(reason), message);
            }
        };
        *unused -= &need.task;
        let master = &mut *self.master;
        let (Some(agent), Some(framework)) = (master.agents.get_mut(&agent_key), master.frameworks.get_mut(&key))
        else {
            return;
        };
        if let (Some(resources), Some(executor)) = (need.executor, &task.executor) {
            *unused -= &resources;
            let id = (key, executor.executor_id.value.clone());
            agent.executors.insert(id, Executor { info: executor.as_ref().clone(), resources });
        }
        let task_id = task.task_id.value.clone();
        agent.tasks.insert((key, task_id.clone()));
        framework.tasks.insert(task_id, Box::new(Task::new(&task, agent_key, need.task)));
        self.effects.push(Effect::RunTask {
            agent_id: agent.id().to_owned(),
            framework: Arc::clone(&framework.info),
            task: Box::new(task),
        });
    }

    /// What the task takes of `available`; its executor gets the framework's id.
    fn check_launch(
        &self,
        key: FrameworkKey,
        agent_key: AgentKey,
        task: &mut mesos::TaskInfo,
        available: &Resources,
    ) -> Result<Need, String> {
        let (Some(agent), Some(framework)) = (self.master.agents.get(&agent_key), self.master.frameworks.get(&key))
        else {
            return Err("Agent is gone".to_owned());
        };
        let framework_id = framework.info.id.clone().unwrap_or_default();
        validation::check_task(task, agent.id(), &framework_id.value)?;
        if framework.tasks.contains_key(&task.task_id.value) {
            return Err(format!("Task has duplicate ID: {}", task.task_id.value));
        }
        let mut need = Need { task: unallocated(&task.resources), executor: None };
        if let Some(executor) = &mut task.executor {
            executor.framework_id = Some(framework_id);
            match agent.executors.get(&(key, executor.executor_id.value.clone())) {
                Some(known) if known.info != **executor => {
                    let text =
                        "Task has invalid ExecutorInfo (existing ExecutorInfo with same ExecutorID is not compatible)";
                    return Err(format!("{text}: {}", executor.executor_id.value));
                }
                Some(_) => {}
                None => need.executor = Some(unallocated(&executor.resources)),
            }
        }
        let is_enough = match &need.executor {
            None => available.contains(&need.task),
            Some(executor) => {
                let mut all = need.task.clone();
                all += executor;
                available.contains(&all)
            }
        };
        if !is_enough {
            let executor = need.executor.unwrap_or_default();
            let with = if executor.is_empty() { String::new() } else { format!(" (and its executor {executor})") };
            return Err(format!("Task uses more resources {}{with} than available {available}", need.task));
        }
        Ok(need)
    }

    fn decline(&mut self, key: FrameworkKey, decline: &call::Decline) {
        for id in &decline.offer_ids {
            let offer = self.master.offer_number(&id.value);
            if let Some(grant) = self.master.allocator.accept_of(key, offer) {
                let filters = decline.filters.as_ref();
                self.master.allocator.refuse(self.now, key, grant.agent, grant.resources, filters);
            }
        }
    }

    fn kill(&mut self, key: FrameworkKey, kill: call::Kill) {
        let Some(framework) = self.master.frameworks.get(&key) else { return };
        let Some(task) = framework.tasks.get(&kill.task_id.value) else {
            return self.reconcile_task(key, &kill.task_id, kill.agent_id.as_ref());
        };
        let Some(agent) = self.master.agents.get(&task.agent) else { return };
        if kill.agent_id.is_some_and(|id| id.value != agent.id()) {
            return;
        }
        self.effects.push(Effect::KillTask {
            agent_id: agent.id().to_owned(),
            framework_id: framework.info.id.clone().unwrap_or_default().value,
            task_id: kill.task_id.value,
            kill_policy: kill.kill_policy,
        });
    }

    fn shut_executor_down(&mut self, key: FrameworkKey, shutdown: call::Shutdown) {
        if self.master.agent_keys.contains_key(&shutdown.agent_id.value) {
            self.effects.push(Effect::ShutdownExecutor {
                agent_id: shutdown.agent_id.value,
                framework_id: self.master.framework_id(key),
                executor_id: shutdown.executor_id.value,
            });
        }
    }

    fn acknowledge(&mut self, key: FrameworkKey, acknowledge: call::Acknowledge) {
        if !self.master.agent_keys.contains_key(&acknowledge.agent_id.value) {
            return;
        }
        let task_id = acknowledge.task_id.value;
        if let Some(framework) = self.master.frameworks.get_mut(&key) {
            let task = framework.tasks.get(&task_id);
            if task.is_some_and(|task| is_terminal(task.state) && task.uuid.as_ref() == Some(&acknowledge.uuid)) {
                framework.complete(&task_id);
            }
        }
        self.effects.push(Effect::Acknowledge {
            agent_id: acknowledge.agent_id.value,
            framework_id: self.master.framework_id(key),
            task_id,
            uuid: acknowledge.uuid,
        });
    }

    fn reconcile(&mut self, key: FrameworkKey, reconcile: &call::Reconcile) {
        if !reconcile.tasks.is_empty() {
            for task in &reconcile.tasks {
                self.reconcile_task(key, &task.task_id, task.agent_id.as_ref());
            }
            return;
        }
        let Some(framework) = self.master.frameworks.get(&key) else { return };
        let known: Vec<_> = framework.tasks.values().map(|task| task.task_id.clone()).collect();
        for task_id in known {
            self.reconcile_task(key, &task_id, None);
        }
    }

    fn reconcile_task(&mut self, key: FrameworkKey, task_id: &mesos::TaskId, agent_id: Option<&mesos::AgentId>) {
        let Some(framework) = self.master.frameworks.get(&key) else { return };
        let reason = Some(mesos::task_status::Reason::Reconciliation);
        if let Some(task) = framework.tasks.get(&task_id.value) {
            let Some(stream) = framework.stream else { return };
            let last = task.statuses.last();
            let status = mesos::TaskStatus {
                healthy: last.and_then(|last| last.healthy),
                labels: last.and_then(|last| last.labels.clone()),
                container_status: last.and_then(|last| last.container_status.clone()),
                ..self.master_status(
                    task_id,
                    Some(task.agent_id.clone()),
                    task.executor_id.clone(),
                    task.state,
                    reason,
                    "Reconciliation: Latest task state".to_owned(),
                )
            };
            return self.event(stream, update_event(status));
        }
        let is_registered = agent_id.is_some_and(|id| self.master.agent_keys.contains_key(&id.value));
        let (state, message) = if is_registered {
            (framework.gone(), "Reconciliation: Task is unknown to the agent")
        } else {
            (framework.unknown(), "Reconciliation: Task is unknown")
        };
        self.status(key, task_id, agent_id.cloned(), None, state, reason, message.to_owned());
    }

    fn message_executor(&mut self, key: FrameworkKey, message: call::Message) {
        if self.master.agent_keys.contains_key(&message.agent_id.value) {
            self.effects.push(Effect::MessageExecutor {
                agent_id: message.agent_id.value,
                framework_id: self.master.framework_id(key),
                executor_id: message.executor_id.value,
                data: message.data,
            });
        }
    }
}

/// What a task takes of an offer.
struct Need {
    task: Resources,
    /// Of its executor, when it is the first task of it.
    executor: Option<Resources>,
}

fn launches(operations: Vec<mesos::offer::Operation>) -> impl Iterator<Item = mesos::TaskInfo> {
    operations.into_iter().flat_map(|operation| {
        let group = operation.launch_group.map(|group| group.task_group.tasks).unwrap_or_default();
        operation.launch.unwrap_or_default().task_infos.into_iter().chain(group)
    })
}
