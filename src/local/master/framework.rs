//! What the master remembers of a framework, its tasks and its executors. PURE.

use std::collections::{BTreeMap, VecDeque};

use proto::mesos;
use proto::resources::Resources;

use super::allocator::AgentKey;
use super::{StreamId, Time};

/// Ended tasks kept for `/state`, per framework, as in Mesos.
const MAX_COMPLETED_TASKS: usize = 1000;

/// A framework, from its first SUBSCRIBE until it is removed.
#[derive(Debug)]
pub(in crate::local) struct Framework {
    /// With the id.
    pub info: mesos::FrameworkInfo,
    /// `None` while disconnected.
    pub stream: Option<StreamId>,
    /// First subscription.
    pub registered_at: Time,
    /// When the next HEARTBEAT is due, while subscribed.
    pub heartbeat_at: Time,
    /// When the framework is removed, while disconnected.
    pub remove_at: Option<Time>,
    /// Live tasks, and ended ones whose end is not acknowledged.
    pub tasks: BTreeMap<String, Task>,
    /// The last ended ones, oldest first.
    pub completed: VecDeque<Task>,
}

/// A task in the master's books.
#[derive(Debug, Clone)]
pub(in crate::local) struct Task {
    /// Without command and data; with the executor, if it has one of its own.
    pub info: mesos::TaskInfo,
    /// Where it runs.
    pub agent: AgentKey,
    /// What it holds until it ends.
    pub resources: Resources,
    /// As last reported.
    pub state: mesos::TaskState,
    /// Without data, one per change of state.
    pub statuses: Vec<mesos::TaskStatus>,
    /// Of the last update.
    pub uuid: Option<Vec<u8>>,
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
        if let Some(task) = self.tasks.remove(task_id) {
            self.keep(task);
        }
    }

    pub(super) fn keep(&mut self, task: Task) {
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
        // Commands may be large and hold secrets; nobody asks the master for them.
        let info = mesos::TaskInfo {
            name: info.name.clone(),
            task_id: info.task_id.clone(),
            agent_id: info.agent_id.clone(),
            resources: info.resources.clone(),
            executor: info.executor.as_ref().map(|executor| mesos::ExecutorInfo {
                executor_id: executor.executor_id.clone(),
                ..Default::default()
            }),
            container: info.container.clone(),
            labels: info.labels.clone(),
            discovery: info.discovery.clone(),
            command: info
                .command
                .as_ref()
                .map(|command| mesos::CommandInfo { user: command.user.clone(), ..Default::default() }),
            ..Default::default()
        };
        let state = mesos::TaskState::TaskStaging;
        Self { info, agent, resources, state, statuses: Vec::new(), uuid: None }
    }

    /// Takes over what an update says; the end of a task is final.
    pub(in crate::local) fn record(&mut self, status: &mesos::TaskStatus) {
        if is_terminal(self.state) {
            return;
        }
        self.state = status.state();
        self.uuid = status.uuid.clone();
        if self.statuses.last().is_some_and(|last| last.state == status.state) {
            self.statuses.pop();
        }
        self.statuses.push(mesos::TaskStatus { data: None, ..status.clone() });
    }

    pub(in crate::local) fn executor_id(&self) -> Option<&mesos::ExecutorId> {
        self.info.executor.as_ref().map(|executor| &executor.executor_id)
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
