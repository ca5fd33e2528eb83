//! What executors say to their agent. PURE.

use proto::executor::{Call, Event, call, event};
use proto::mesos;
use proto::mesos::task_status::{Reason, Source};

use super::executor::{Job, State};
use super::{Effect, StreamId, Turn, is_terminal, master, own_address, shutdown_event};

impl Turn<'_> {
    pub(super) fn subscribe(&mut self, stream: StreamId, call: Call) {
        let (framework_id, executor_id) = (call.framework_id.value, call.executor_id.value);
        if let Err((status, text)) = self.agent.find(&framework_id, &executor_id) {
            return self.effects.push(Effect::Reject { status, text });
        }
        let Some(framework) = self.agent.frameworks.get_mut(&framework_id) else { return };
        let framework_info = framework.info.clone();
        let Some(executor) = framework.executors.get_mut(&executor_id) else { return };
        if executor.state == State::Terminating {
            self.event(stream, shutdown_event());
            return self.effects.push(Effect::CloseStream { stream });
        }
        let old = executor.stream.replace(stream);
        executor.state = State::Running;
        executor.register_by = None;
        let subscribed = event::Subscribed {
            executor_info: executor.info.clone(),
            framework_info,
            agent_info: self.agent.config.info.clone(),
            container_id: Some(mesos::ContainerId { value: executor.container_id.clone(), parent: None }),
        };
        if !executor.queued.is_empty() {
            let queued = executor.queued.iter().map(|task| task.task_id.value.clone()).collect();
            executor.jobs.push_back(Job::HandOver(queued));
        }
        if let Some(old) = old {
            self.effects.push(Effect::CloseStream { stream: old });
        }
        self.event(
            stream,
            Event { r#type: Some(event::Type::Subscribed as i32), subscribed: Some(subscribed), ..Default::default() },
        );
        let call::Subscribe { unacknowledged_tasks, unacknowledged_updates } = call.subscribe.unwrap_or_default();
        for update in unacknowledged_updates {
            self.take_update(&framework_id, &executor_id, update.status);
        }
        self.lose_unseen_tasks(&framework_id, &executor_id, &unacknowledged_tasks);
        self.start_job(&framework_id, &executor_id);
    }

    /// What was sent on a stream that broke, and never arrived, will not be started any more.
    fn lose_unseen_tasks(&mut self, framework_id: &str, executor_id: &str, seen: &[mesos::TaskInfo]) {
        let Some((_, executor)) = self.agent.executor(framework_id, executor_id) else { return };
        let is_unseen = |task: &&master::Task| {
            let is_staging = task.state == mesos::TaskState::TaskStaging;
            is_staging && !seen.iter().any(|other| other.task_id == task.task_id)
        };
        let unseen: Vec<_> = executor.launched.values().filter(is_unseen).map(|it| it.task_id.clone()).collect();
        for task_id in unseen {
            let message = "Task was on its way when the executor's connection broke".to_owned();
            let state = mesos::TaskState::TaskLost;
            self.say(framework_id, &task_id, executor_id, state, Reason::AgentRestarted, message);
        }
    }

    pub(super) fn call(&mut self, call: Call) {
        let kind = call.r#type();
        let (framework_id, executor_id) = (call.framework_id.value, call.executor_id.value);
        if let Err((status, text)) = self.agent.find(&framework_id, &executor_id) {
            return self.effects.push(Effect::Reject { status, text });
        }
        let Some((_, executor)) = self.agent.executor(&framework_id, &executor_id) else { return };
        if executor.state == State::Registering {
            let text = "Executor is not subscribed".to_owned();
            return self.effects.push(Effect::Reject { status: 403, text });
        }
        match (kind, call.update, call.message) {
            (call::Type::Update, Some(update), _) => self.take_update(&framework_id, &executor_id, update.status),
            (call::Type::Message, _, Some(message)) => {
                let agent_id = self.agent.config.agent_id().to_owned();
                let data = message.data;
                let message = master::Input::ExecutorMessage { agent_id, framework_id, executor_id, data };
                self.effects.push(Effect::Master(Box::new(message)));
            }
            _ => {
                let text = format!("The embedded agent does not implement {}", kind.as_str_name());
                self.effects.push(Effect::Reject { status: 501, text });
            }
        }
    }

    /// An executor's own update: completed, recorded, passed on and acknowledged.
    fn take_update(&mut self, framework_id: &str, executor_id: &str, status: mesos::TaskStatus) {
        let config = &self.agent.config;
        if status.agent_id.is_some() && status.agent_id != config.info.id {
            return;
        }
        let timestamp = status.timestamp.or(Some(config.epoch_seconds + self.now.as_secs_f64()));
        let container_status = status.container_status.clone().or_else(|| Some(own_address(&config.hostname)));
        let status = mesos::TaskStatus {
            agent_id: config.info.id.clone(),
            executor_id: Some(mesos::ExecutorId { value: executor_id.to_owned() }),
            source: Some(Source::Executor as i32),
            timestamp,
            container_status,
            ..status
        };
        let Some((_, executor)) = self.agent.executor(framework_id, executor_id) else { return };
        executor.record(&status);
        if is_terminal(status.state()) {
            executor.jobs.push_back(Job::Forward(Box::new(status)));
            return self.start_job(framework_id, executor_id);
        }
        self.pass_on(framework_id, executor_id, status);
    }

    /// To the master, and back to the executor that it is taken care of.
    pub(super) fn pass_on(&mut self, framework_id: &str, executor_id: &str, status: mesos::TaskStatus) {
        let acknowledged =
            event::Acknowledged { task_id: status.task_id.clone(), uuid: status.uuid.clone().unwrap_or_default() };
        self.forward(framework_id, status);
        let executor = self.agent.executor(framework_id, executor_id);
        if let Some(stream) = executor.and_then(|(_, executor)| executor.stream) {
            self.event(
                stream,
                Event {
                    r#type: Some(event::Type::Acknowledged as i32),
                    acknowledged: Some(acknowledged),
                    ..Default::default()
                },
            );
        }
    }

    pub(super) fn disconnected(&mut self, stream: StreamId) {
        // Whether the executor comes back or ends is seen by SUBSCRIBE and by `wait`.
        for framework in self.agent.frameworks.values_mut() {
            for executor in framework.executors.values_mut() {
                if executor.stream == Some(stream) {
                    executor.stream = None;
                }
            }
        }
    }
}
