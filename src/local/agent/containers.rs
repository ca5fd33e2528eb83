//! What becomes of the containers of executors: launched, updated, waited for, destroyed. PURE.

use proto::executor::{Event, event};
use proto::mesos::task_status::Reason;
use proto::{ecp, mesos};

use super::executor::{Destroy, Job, Pending, State};
use super::{Effect, MAX_COMPLETED_EXECUTORS, MAX_COMPLETED_FRAMEWORKS, Turn, end_of_task, master};

impl Turn<'_> {
    pub(super) fn launched(&mut self, container_id: &str, result: Result<(), String>) {
        let Some((framework_id, executor_id)) = self.agent.ids(container_id) else { return };
        let Some((_, executor)) = self.agent.executor(&framework_id, &executor_id) else { return };
        if let Err(why) = result {
            let pending = Pending {
                state: mesos::TaskState::TaskFailed,
                reason: Reason::ContainerLaunchFailed,
                message: format!("Failed to launch container: {why}; Abnormal executor termination"),
            };
            executor.pending.get_or_insert(pending);
            return self.end(&framework_id, &executor_id, None);
        }
        executor.is_launched = true;
        let (directory, container_id) = (executor.directory.clone(), container_id.to_owned());
        match executor.destroy {
            Destroy::No | Destroy::Running => self.effects.push(Effect::Wait { directory, container_id }),
            Destroy::Wanted => {
                executor.destroy = Destroy::Running;
                self.effects.push(Effect::Destroy { directory, container_id });
            }
        }
        self.start_job(&framework_id, &executor_id);
    }

    /// Runs the next `update` of the executor's container, if it can run now.
    pub(super) fn start_job(&mut self, framework_id: &str, executor_id: &str) {
        let Some((_, executor)) = self.agent.executor(framework_id, executor_id) else { return };
        if executor.jobs.is_empty() || executor.is_updating || !executor.is_launched {
            return;
        }
        executor.is_updating = true;
        let update = ecp::Update {
            container_id: mesos::ContainerId { value: executor.container_id.clone(), parent: None },
            resources: executor.resources().into(),
        };
        let directory = executor.directory.clone();
        self.effects.push(Effect::Update { directory, update: Box::new(update) });
    }

    pub(super) fn updated(&mut self, container_id: &str, result: Result<(), String>) {
        let Some((framework_id, executor_id)) = self.agent.ids(container_id) else { return };
        let Some((_, executor)) = self.agent.executor(&framework_id, &executor_id) else { return };
        executor.is_updating = false;
        let job = executor.jobs.pop_front();
        match (job, &result) {
            (Some(Job::Forward(status)), _) => self.pass_on(&framework_id, &executor_id, *status),
            (Some(Job::HandOver(tasks)), Ok(())) => self.hand_over(&framework_id, &executor_id, &tasks),
            (Some(Job::HandOver(_)), Err(_)) | (None, _) => {}
        }
        if let Err(why) = result {
            let pending = Pending {
                state: mesos::TaskState::TaskLost,
                reason: Reason::ContainerUpdateFailed,
                message: format!("Failed to update resources for container: {why}"),
            };
            self.destroy(&framework_id, &executor_id, Some(pending));
        }
        self.start_job(&framework_id, &executor_id);
    }

    fn hand_over(&mut self, framework_id: &str, executor_id: &str, tasks: &[String]) {
        for task_id in tasks {
            let Some((_, executor)) = self.agent.executor(framework_id, executor_id) else { return };
            // Without a stream the task stays queued for the next SUBSCRIBE.
            let Some(stream) = executor.stream else { return };
            if executor.state != State::Running {
                return;
            }
            let Some(task) = executor.take_queued(task_id) else { continue };
            executor.keep_launched(&task);
            let launch = Some(event::Launch { task });
            self.event(stream, Event { r#type: Some(event::Type::Launch as i32), launch, ..Default::default() });
        }
    }

    pub(super) fn waited(&mut self, container_id: &str, result: Result<ecp::Termination, String>) {
        let Some((framework_id, executor_id)) = self.agent.ids(container_id) else { return };
        let Some((_, executor)) = self.agent.executor(&framework_id, &executor_id) else { return };
        if executor.destroy == Destroy::Running {
            return;
        }
        match result {
            // A command executor leaves after its task's end: otherwise it died, and what it owned may be left.
            Ok(termination) if executor.is_command && executor.has_live_tasks() => {
                executor.termination = Some(termination);
                self.destroy(&framework_id, &executor_id, None);
            }
            Ok(termination) => self.end(&framework_id, &executor_id, Some(termination)),
            Err(why) => {
                let pending = Pending {
                    state: mesos::TaskState::TaskFailed,
                    reason: Reason::ExecutorTerminated,
                    message: format!("Failed to wait for container: {why}; Abnormal executor termination"),
                };
                // A real agent would leave the container alone until it is restarted; this one has no later.
                self.destroy(&framework_id, &executor_id, Some(pending));
            }
        }
    }

    pub(super) fn destroyed(&mut self, container_id: &str) {
        let Some((framework_id, executor_id)) = self.agent.ids(container_id) else { return };
        let Some((_, executor)) = self.agent.executor(&framework_id, &executor_id) else { return };
        let termination = executor.termination.take();
        self.end(&framework_id, &executor_id, termination);
    }

    /// Ends the container by force; `pending` says why, unless something said so before.
    pub(super) fn destroy(&mut self, framework_id: &str, executor_id: &str, pending: Option<Pending>) {
        let Some((_, executor)) = self.agent.executor(framework_id, executor_id) else { return };
        if executor.pending.is_none() {
            executor.pending = pending;
        }
        executor.state = State::Terminating;
        executor.register_by = None;
        executor.end_by = None;
        if executor.destroy != Destroy::No {
            return;
        }
        if !executor.is_launched {
            executor.destroy = Destroy::Wanted;
            return;
        }
        executor.destroy = Destroy::Running;
        let (directory, container_id) = (executor.directory.clone(), executor.container_id.clone());
        self.effects.push(Effect::Destroy { directory, container_id });
    }

    /// The container is gone: everything that the executor can no longer say is said for it.
    fn end(&mut self, framework_id: &str, executor_id: &str, termination: Option<ecp::Termination>) {
        let Some((_, executor)) = self.agent.executor(framework_id, executor_id) else { return };
        let ended: Vec<_> = executor
            .jobs
            .drain(..)
            .filter_map(|job| match job {
                Job::Forward(status) => Some(status),
                Job::HandOver(_) => None,
            })
            .collect();
        let queued = executor.queued.iter().map(|task| task.task_id.clone());
        let live: Vec<_> = queued.chain(executor.launched.values().map(|it| it.task_id.clone())).collect();
        let pending = executor.pending.clone();
        let status = termination.as_ref().and_then(|termination| termination.status).unwrap_or(-1);
        let (is_command, stream) = (executor.is_command, executor.stream.take());
        for status in ended {
            self.forward(framework_id, *status);
        }
        for task_id in live {
            let (state, reason, message) = end_of_task(pending.as_ref(), termination.as_ref());
            self.say(framework_id, &task_id, executor_id, state, reason, message);
        }
        if let Some(stream) = stream {
            self.effects.push(Effect::CloseStream { stream });
        }
        if !is_command {
            self.effects.push(Effect::Master(Box::new(master::Input::ExecutorExited {
                agent_id: self.agent.config.agent_id().to_owned(),
                framework_id: framework_id.to_owned(),
                executor_id: executor_id.to_owned(),
                status,
            })));
        }
        let Some(framework) = self.agent.frameworks.get_mut(framework_id) else { return };
        if let Some(executor) = framework.executors.remove(executor_id) {
            if framework.completed.len() == MAX_COMPLETED_EXECUTORS {
                framework.completed.pop_front();
            }
            framework.completed.push_back(executor);
        }
        self.retire(framework_id);
    }

    /// A removed framework without executors is history.
    pub(super) fn retire(&mut self, framework_id: &str) {
        let agent = &mut *self.agent;
        if agent.frameworks.get(framework_id).is_none_or(|it| !it.is_removed || !it.executors.is_empty()) {
            return;
        }
        if let Some(framework) = agent.frameworks.remove(framework_id) {
            if agent.completed.len() == MAX_COMPLETED_FRAMEWORKS {
                agent.completed.pop_front();
            }
            agent.completed.push_back(framework);
        }
    }
}
