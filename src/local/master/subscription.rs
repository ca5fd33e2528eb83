//! Frameworks that come, stay alive, are replaced and go. PURE.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use proto::scheduler::event;
use proto::{mesos, scheduler};

use super::allocator::FrameworkKey;
use super::framework::{Framework, is_terminal};
use super::validation::{self, check_call};
use super::{Effect, MAX_COMPLETED_FRAMEWORKS, StreamId, Turn, of_framework};
use crate::hash::IndexMap;

impl Turn<'_> {
    pub(super) fn subscribe(&mut self, stream: StreamId, call: scheduler::Call) {
        if let Err(why) = check_call(&call) {
            return self.reject(400, format!("Failed to validate Scheduler::Call: {why}"));
        }
        let Some(subscribe) = call.subscribe else {
            return self.reject(400, "Failed to validate Scheduler::Call: SUBSCRIBE expected".to_owned());
        };
        let mut info = subscribe.framework_info;
        let id = info.id.take().map(|id| id.value).unwrap_or_default();
        info.id = Some(mesos::FrameworkId { value: id.clone() });
        if let Err(why) = validation::check_framework(&info) {
            return self.refuse(stream, &why);
        }
        if self.master.removed.contains(&id) {
            return self.refuse(stream, "Framework has been removed");
        }
        let is_suppressed = {
            let roles = validation::roles(&info);
            !roles.is_empty() && roles.iter().all(|role| subscribe.suppressed_roles.iter().any(|other| other == role))
        };
        let key = match self.master.framework_keys.get(&id) {
            Some(&key) => self.fail_over(key, info),
            None => self.add_framework(id, info),
        };
        let Some(framework) = self.master.frameworks.get_mut(&key) else { return };
        framework.stream = Some(stream);
        framework.remove_at = None;
        framework.heartbeat_at = self.now;
        let framework_id = framework.info.id.clone().unwrap_or_default();
        let role = validation::roles(&framework.info).first().copied().unwrap_or("*").to_owned();
        self.master.streams.insert(stream, key);
        self.master.allocator.activate(key, &role, is_suppressed);
        let subscribed = event::Subscribed {
            framework_id,
            heartbeat_interval_seconds: Some(self.master.config.heartbeat_interval.as_secs_f64()),
            master_info: Some(self.master.config.master_info()),
        };
        self.event(
            stream,
            scheduler::Event {
                r#type: Some(event::Type::Subscribed as i32),
                subscribed: Some(Box::new(subscribed)),
                ..Default::default()
            },
        );
        self.send_heartbeats();
    }

    /// The newcomer wins; the old stream, if there is one, is told and closed.
    fn fail_over(&mut self, key: FrameworkKey, info: mesos::FrameworkInfo) -> FrameworkKey {
        self.master.allocator.deactivate(key);
        let Some(framework) = self.master.frameworks.get_mut(&key) else { return key };
        let old = framework.stream.take();
        let (user, checkpoint) = (framework.info.user.clone(), framework.info.checkpoint);
        framework.info = mesos::FrameworkInfo { user, checkpoint, ..info }.into();
        if let Some(old) = old {
            self.refuse(old, "Framework failed over");
        }
        key
    }

    fn add_framework(&mut self, mut id: String, mut info: mesos::FrameworkInfo) -> FrameworkKey {
        let master = &mut *self.master;
        let key = FrameworkKey(master.last_framework);
        master.last_framework += 1;
        if id.is_empty() {
            id = format!("{}-{:04}", master.config.id, key.0);
        }
        info.id = Some(mesos::FrameworkId { value: id.clone() });
        let framework = Framework {
            info: info.into(),
            stream: None,
            registered_at: self.now,
            heartbeat_at: self.now,
            remove_at: None,
            tasks: IndexMap::default(),
            completed: VecDeque::new(),
        };
        master.frameworks.insert(key, framework);
        master.framework_keys.insert(id, key);
        key
    }

    pub(super) fn disconnected(&mut self, stream: StreamId) {
        let Some(key) = self.master.streams.remove(&stream) else { return };
        let Some(framework) = self.master.frameworks.get_mut(&key) else { return };
        if framework.stream != Some(stream) {
            return;
        }
        framework.stream = None;
        framework.remove_at = Some(self.now + Duration::from_secs_f64(framework.info.failover_timeout()));
        self.master.allocator.deactivate(key);
    }

    pub(super) fn tear_down(&mut self, key: FrameworkKey, stream: StreamId) {
        self.master.streams.remove(&stream);
        self.effects.push(Effect::CloseStream { stream });
        self.remove_framework(key);
    }

    /// Its tasks count as killed from now on; nobody is told, the agents end them.
    fn remove_framework(&mut self, key: FrameworkKey) {
        let master = &mut *self.master;
        let Some(mut framework) = master.frameworks.remove(&key) else { return };
        master.allocator.deactivate(key);
        let id = framework.info.id.clone().unwrap_or_default().value;
        let mut agents = BTreeSet::new();
        for (task_id, mut task) in std::mem::take(&mut framework.tasks) {
            agents.insert(task.agent);
            if !is_terminal(task.state) {
                task.state = mesos::TaskState::TaskKilled;
                master.allocator.release(key, task.agent, &task.resources);
                if let Some(agent) = master.agents.get_mut(&task.agent) {
                    agent.tasks.remove(&(key, task_id));
                }
            }
            framework.keep(task);
        }
        for (agent_key, agent) in &mut master.agents {
            let ids: Vec<_> = agent.executors.range(of_framework(key)).map(|(id, _)| id.clone()).collect();
            for executor in ids.iter().filter_map(|id| agent.executors.remove(id)) {
                agents.insert(*agent_key);
                master.allocator.release(key, *agent_key, &executor.resources);
            }
        }
        master.allocator.remove_framework(key);
        for agent in agents {
            if let Some(agent) = master.agents.get(&agent) {
                let agent_id = agent.id().to_owned();
                self.effects.push(Effect::ShutdownFramework { agent_id, framework_id: id.clone() });
            }
        }
        master.framework_keys.remove(&id);
        master.removed.insert(id);
        if master.completed.len() == MAX_COMPLETED_FRAMEWORKS {
            master.completed.pop_front();
        }
        framework.stream = None;
        framework.remove_at = Some(self.now);
        master.completed.push_back(framework);
    }

    pub(super) fn remove_overdue_frameworks(&mut self) {
        let is_overdue = |framework: &Framework| framework.remove_at.is_some_and(|at| at <= self.now);
        let overdue: Vec<_> = self.master.frameworks().filter(|(_, it)| is_overdue(it)).map(|(key, _)| key).collect();
        for key in overdue {
            self.remove_framework(key);
        }
    }

    pub(super) fn send_heartbeats(&mut self) {
        let interval = self.master.config.heartbeat_interval;
        for framework in self.master.frameworks.values_mut() {
            let Some(stream) = framework.stream else { continue };
            if framework.heartbeat_at <= self.now {
                framework.heartbeat_at = self.now + interval;
                let event = scheduler::Event { r#type: Some(event::Type::Heartbeat as i32), ..Default::default() };
                self.effects.push(Effect::Event { stream, event: Box::new(event) });
            }
        }
    }
}
