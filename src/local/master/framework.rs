//! What the master remembers of a framework, its tasks and its executors. PURE.

use std::collections::VecDeque;
use std::sync::Arc;

use proto::mesos;
use proto::resources::Resources;

use super::allocator::AgentKey;
use super::{StreamId, Time};
use crate::hash::IndexMap;

/// Ended tasks kept for `/state`, per framework, as in Mesos.
const MAX_COMPLETED_TASKS: usize = 1000;

/// A framework, from its first SUBSCRIBE until it is removed.
#[derive(Debug)]
pub(in crate::local) struct Framework {
    /// With the id.
    pub info: Arc<mesos::FrameworkInfo>,
    /// `None` while disconnected.
    pub stream: Option<StreamId>,
    /// First subscription.
    pub registered_at: Time,
    /// When the next HEARTBEAT is due, while subscribed.
    pub heartbeat_at: Time,
    /// When the framework is removed, while disconnected.
    pub remove_at: Option<Time>,
    /// Live tasks, and ended ones whose end is not acknowledged.
    pub tasks: IndexMap<String, Box<Task>>,
    /// The last ended ones, oldest first.
    pub completed: VecDeque<Box<Task>>,
}

/// A task in the books of master and agent: what they show of it, nothing more.
#[derive(Debug, Clone)]
pub(in crate::local) struct Task {
    pub name: String,
    pub task_id: mesos::TaskId,
    pub agent_id: mesos::AgentId,
    /// Of a custom executor.
    pub executor_id: Option<mesos::ExecutorId>,
    /// Where it runs.
    pub agent: AgentKey,
    /// What it holds until it ends.
    pub resources: Resources,
    /// As last reported.
    pub state: mesos::TaskState,
    /// One per change of state.
    pub statuses: Vec<Status>,
    /// Of the last update.
    pub uuid: Option<Vec<u8>>,
    /// What most tasks do not have.
    pub extras: Option<Box<Extras>>,
}

/// What is kept of a status update.
#[derive(Debug, Clone)]
pub(in crate::local) struct Status {
    pub state: mesos::TaskState,
    pub timestamp: f64,
    pub healthy: Option<bool>,
    pub labels: Option<mesos::Labels>,
    pub container_status: Option<mesos::ContainerStatus>,
}

/// The descriptive parts of a task. Its command is not among them: it may be large and hold secrets.
#[derive(Debug, Clone)]
pub(in crate::local) struct Extras {
    pub user: Option<String>,
    pub container: Option<Box<mesos::ContainerInfo>>,
    pub labels: Option<mesos::Labels>,
    pub discovery: Option<Box<mesos::DiscoveryInfo>>,
}

/// A custom executor on an agent.
#[derive(Debug)]
pub(in crate::local) struct Executor {
    /// As it came with its first task.
    pub info: mesos::ExecutorInfo,
    /// What it holds until it exits.
    pub resources: Resources,
}

impl Framework {
    pub(super) fn complete(&mut self, task_id: &str) {
        if let Some(task) = self.tasks.swap_remove(task_id) {
            self.keep(task);
        }
    }

    pub(super) fn keep(&mut self, task: Box<Task>) {
        if self.completed.len() == MAX_COMPLETED_TASKS {
            self.completed.pop_front();
        }
        self.completed.push_back(task);
    }

    pub(super) fn is_partition_aware(&self) -> bool {
        super::validation::has_capability(&self.info, mesos::framework_info::capability::Type::PartitionAware)
    }

    /// The framework's word for a task that never ran.
    pub(super) fn dropped(&self) -> mesos::TaskState {
        if self.is_partition_aware() { mesos::TaskState::TaskDropped } else { mesos::TaskState::TaskLost }
    }

    /// The framework's word for a task that an agent took with it.
    pub(super) fn gone(&self) -> mesos::TaskState {
        if self.is_partition_aware() { mesos::TaskState::TaskGone } else { mesos::TaskState::TaskLost }
    }

    /// The framework's word for a task that nobody knows.
    pub(super) fn unknown(&self) -> mesos::TaskState {
        if self.is_partition_aware() { mesos::TaskState::TaskUnknown } else { mesos::TaskState::TaskLost }
    }
}

impl Task {
    pub(in crate::local) fn new(info: &mesos::TaskInfo, agent: AgentKey, resources: Resources) -> Self {
        let extras = Extras {
            user: info.command.as_ref().and_then(|command| command.user.clone()),
            container: info.container.clone(),
            labels: info.labels.clone(),
            discovery: info.discovery.clone(),
        };
        let has_extras = extras.user.is_some()
            || extras.container.is_some()
            || extras.labels.is_some()
            || extras.discovery.is_some();
        Self {
            name: info.name.clone(),
            task_id: info.task_id.clone(),
            agent_id: info.agent_id.clone(),
            executor_id: info.executor.as_ref().map(|executor| executor.executor_id.clone()),
            agent,
            resources,
            state: mesos::TaskState::TaskStaging,
            statuses: Vec::new(),
            uuid: None,
            extras: has_extras.then(|| Box::new(extras)),
        }
    }

    /// Takes over what an update says; the end of a task is final.
    pub(in crate::local) fn record(&mut self, status: &mesos::TaskStatus) {
        if is_terminal(self.state) {
            return;
        }
        self.state = status.state();
        self.uuid.clone_from(&status.uuid);
        if self.statuses.last().is_some_and(|last| last.state == self.state) {
            self.statuses.pop();
        }
        self.statuses.push(Status {
            state: self.state,
            timestamp: status.timestamp(),
            healthy: status.healthy,
            labels: status.labels.clone(),
            container_status: status.container_status.clone(),
        });
    }
}

/// Whether nothing follows this state.
pub(in crate::local) fn is_terminal(state: mesos::TaskState) -> bool {
    use mesos::TaskState;
    match state {
        TaskState::TaskFinished
        | TaskState::TaskFailed
        | TaskState::TaskKilled
        | TaskState::TaskLost
        | TaskState::TaskError
        | TaskState::TaskDropped
        | TaskState::TaskGone
        | TaskState::TaskGoneByOperator => true,
        TaskState::TaskStaging
        | TaskState::TaskStarting
        | TaskState::TaskRunning
        | TaskState::TaskKilling
        | TaskState::TaskUnreachable
        | TaskState::TaskUnknown => false,
    }
}
