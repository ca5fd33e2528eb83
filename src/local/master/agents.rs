//! What agents tell: that they are there or gone, and how their tasks and executors are. PURE.

use std::collections::{BTreeMap, BTreeSet};

use proto::scheduler::event;
use proto::{mesos, scheduler};

use super::allocator::{AgentKey, Grant};
use super::framework::is_terminal;
use super::{Agent, AgentDescription, Turn, failure_event, unallocated, update_event};

impl Turn<'_> {
    pub(super) fn agent_registered(&mut self, description: AgentDescription) {
        let id = description.info.id.clone().unwrap_or_default().value;
        if self.master.agent_keys.contains_key(&id) {
            return;
        }
        let key = AgentKey(self.master.last_agent);
        self.master.last_agent += 1;
        self.master.allocator.add_agent(key, unallocated(&description.info.resources));
        self.master.agent_keys.insert(id, key);
        let (tasks, executors) = (BTreeSet::new(), BTreeMap::new());
        self.master.agents.insert(key, Agent { description, registered_at: self.now, tasks, executors });
    }

    pub(super) fn agent_lost(&mut self, agent_id: &str, reason: &str) {
        let Some(key) = self.master.agent_keys.remove(agent_id) else { return };
        let Some(agent) = self.master.agents.remove(&key) else { return };
        for Grant { offer, framework, .. } in self.master.allocator.remove_agent(key) {
            let offer_id = self.master.offer_id(offer);
            if let Some(stream) = self.master.frameworks.get(&framework).and_then(|framework| framework.stream) {
                self.event(
                    stream,
                    scheduler::Event {
                        r#type: Some(event::Type::Rescind as i32),
                        rescind: Some(event::Rescind { offer_id }),
                        ..Default::default()
                    },
                );
            }
        }
        for (framework_key, executor) in agent.executors {
            self.master.allocator.release(framework_key.0, key, &executor.resources);
        }
        for (framework_key, task_id) in agent.tasks {
            let Some(framework) = self.master.frameworks.get_mut(&framework_key) else { continue };
            let state = framework.gone();
            let Some(task) = framework.tasks.get_mut(&task_id) else { continue };
            self.master.allocator.release(framework_key, key, &task.resources);
            task.state = state;
            let executor_id = task.executor_id.clone();
            let message = format!("Agent {} removed: {reason}", agent.description.info.hostname);
            let reason = Some(mesos::task_status::Reason::AgentRemoved);
            let agent_id = agent.description.info.id.clone();
            framework.complete(&task_id);
            let task_id = mesos::TaskId { value: task_id };
            self.status(framework_key, &task_id, agent_id, executor_id, state, reason, message);
        }
        // Ended tasks whose end was never acknowledged: the agent that would repeat it is gone.
        for framework in self.master.frameworks.values_mut() {
            framework.tasks.retain(|_, task| task.agent != key);
        }
        let failure = event::Failure { agent_id: agent.description.info.id, ..Default::default() };
        let streams: Vec<_> = self.master.frameworks.values().filter_map(|framework| framework.stream).collect();
        for stream in streams {
            self.event(stream, failure_event(failure.clone()));
        }
    }

    pub(super) fn update(&mut self, framework_id: &str, status: mesos::TaskStatus) {
        let master = &mut *self.master;
        let Some(&key) = master.framework_keys.get(framework_id) else { return };
        let Some(framework) = master.frameworks.get_mut(&key) else { return };
        let agent = status.agent_id.as_ref().and_then(|id| master.agent_keys.get(&id.value));
        let Some(&agent_key) = agent else { return };
        if let Some(task) = framework.tasks.get_mut(&status.task_id.value)
            && !is_terminal(task.state)
        {
            task.record(&status);
            if is_terminal(task.state) {
                master.allocator.release(key, agent_key, &task.resources);
                if let Some(agent) = master.agents.get_mut(&agent_key) {
                    agent.tasks.remove(&(key, status.task_id.value.clone()));
                }
            }
        }
        if let Some(stream) = framework.stream {
            self.event(stream, update_event(status));
        }
    }

    pub(super) fn executor_exited(&mut self, agent_id: &str, framework_id: &str, executor_id: &str, status: i32) {
        let master = &mut *self.master;
        let (Some(&agent_key), Some(&key)) = (master.agent_keys.get(agent_id), master.framework_keys.get(framework_id))
        else {
            return;
        };
        let Some(agent) = master.agents.get_mut(&agent_key) else { return };
        let Some(executor) = agent.executors.remove(&(key, executor_id.to_owned())) else { return };
        master.allocator.release(key, agent_key, &executor.resources);
        let stream = master.frameworks.get(&key).and_then(|framework| framework.stream);
        let failure = event::Failure {
            agent_id: agent.description.info.id.clone(),
            executor_id: Some(executor.info.executor_id),
            status: Some(status),
        };
        if let Some(stream) = stream {
            self.event(stream, failure_event(failure));
        }
    }

    pub(super) fn executor_message(
        &mut self,
        agent_id: String,
        framework_id: &str,
        executor_id: String,
        data: Vec<u8>,
    ) {
        let Some(key) = self.master.framework_keys.get(framework_id) else { return };
        let Some(stream) = self.master.frameworks.get(key).and_then(|framework| framework.stream) else { return };
        let message = event::Message {
            agent_id: mesos::AgentId { value: agent_id },
            executor_id: mesos::ExecutorId { value: executor_id },
            data,
        };
        self.event(
            stream,
            scheduler::Event {
                r#type: Some(event::Type::Message as i32),
                message: Some(message),
                ..Default::default()
            },
        );
    }
}
