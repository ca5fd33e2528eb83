//! What a status update says, whoever says it. PURE.

use proto::mesos::task_status::{Reason, Source};
use proto::mesos::{TaskState, TaskStatus};

/// What the master says, word for word, of an ACCEPT that comes when the agent is already gone (0.24 to 1.11). With other
/// words, the same reasons mean that the agent went away with a task that it had been given.
const DROPPED_AT_THE_DOOR: [&str; 4] = ["Agent removed", "Agent disconnected", "Slave removed", "Slave disconnected"];

/// What a status update says about a task, before asking what that means in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// STAGING, STARTING, RUNNING, KILLING.
    Alive(TaskState),
    /// Over, by whoever ran it, or refused for good.
    Ended,
    /// Over, says the master when asked: without the code.
    EndedSomehow,
    /// The master dropped the ACCEPT: this copy of it, at least.
    AcceptDropped,
    /// TASK_DROPPED, or the agent was gone when the ACCEPT came.
    NeverRan,
    /// The master lost the agent.
    AgentLost,
    /// Asked, the master does not know the task.
    Unknown,
    /// Asked, the master knows the agent, and the agent does not know the task.
    Gone,
    /// The agent is cut off.
    Unreachable,
}

impl News {
    pub(super) fn of(status: &TaskStatus) -> Self {
        let reason = status.reason.and_then(|number| Reason::try_from(number).ok());
        let is_answer = matches!(reason, Some(Reason::Reconciliation | Reason::TaskUnknown | Reason::AgentUnknown));
        match status.state() {
            state @ (TaskState::TaskStaging
            | TaskState::TaskStarting
            | TaskState::TaskRunning
            | TaskState::TaskKilling) => Self::Alive(state),
            TaskState::TaskFailed | TaskState::TaskKilled if is_answer && !is_own(status) => Self::EndedSomehow,
            TaskState::TaskFinished | TaskState::TaskFailed | TaskState::TaskKilled | TaskState::TaskGoneByOperator => {
                Self::Ended
            }
            TaskState::TaskUnknown => Self::Unknown,
            TaskState::TaskUnreachable => Self::Unreachable,
            TaskState::TaskGone if is_answer => Self::Gone,
            TaskState::TaskError | TaskState::TaskDropped | TaskState::TaskLost
                if reason == Some(Reason::InvalidOffers) =>
            {
                Self::AcceptDropped
            }
            TaskState::TaskError => Self::Ended,
            TaskState::TaskDropped => Self::NeverRan,
            TaskState::TaskLost if is_answer => Self::Unknown,
            TaskState::TaskLost | TaskState::TaskGone
                if !is_own(status) && matches!(reason, Some(Reason::AgentRemoved | Reason::AgentDisconnected)) =>
            {
                match DROPPED_AT_THE_DOOR.contains(&status.message()) {
                    true => Self::NeverRan,
                    false => Self::AgentLost,
                }
            }
            TaskState::TaskLost | TaskState::TaskGone => Self::Ended,
        }
    }
}

/// Whether the agent or the executor has reported the task, if only to the master.
pub(super) fn is_from_agent(status: &TaskStatus) -> bool {
    is_own(status) || has_run(status.state())
}

/// Whether this update is the agent's or the executor's own; only these carry a uuid.
fn is_own(status: &TaskStatus) -> bool {
    let is_theirs = match status.source.and_then(|number| Source::try_from(number).ok()) {
        Some(Source::Agent | Source::Executor) => true,
        Some(Source::Master) | None => false,
    };
    is_theirs || status.uuid.as_ref().is_some_and(|uuid| !uuid.is_empty())
}

/// Whether a task in this state has been with its agent, whoever says so.
fn has_run(state: TaskState) -> bool {
    match state {
        TaskState::TaskStarting
        | TaskState::TaskRunning
        | TaskState::TaskKilling
        | TaskState::TaskFinished
        | TaskState::TaskFailed
        | TaskState::TaskKilled => true,
        TaskState::TaskStaging
        | TaskState::TaskLost
        | TaskState::TaskError
        | TaskState::TaskDropped
        | TaskState::TaskUnreachable
        | TaskState::TaskGone
        | TaskState::TaskGoneByOperator
        | TaskState::TaskUnknown => false,
    }
}

/// Whether the task cannot run any more after this, or is only believed not to.
pub(super) fn is_certain_end(state: TaskState) -> bool {
    match state {
        TaskState::TaskFinished
        | TaskState::TaskFailed
        | TaskState::TaskKilled
        | TaskState::TaskError
        | TaskState::TaskDropped => true,
        TaskState::TaskStaging
        | TaskState::TaskStarting
        | TaskState::TaskRunning
        | TaskState::TaskKilling
        | TaskState::TaskLost
        | TaskState::TaskUnreachable
        | TaskState::TaskGone
        | TaskState::TaskGoneByOperator
        | TaskState::TaskUnknown => false,
    }
}

/// The order in which a living task's states come.
pub(super) fn rank(state: TaskState) -> u8 {
    match state {
        TaskState::TaskStaging => 1,
        TaskState::TaskStarting => 2,
        TaskState::TaskRunning => 3,
        TaskState::TaskKilling => 4,
        TaskState::TaskFinished
        | TaskState::TaskFailed
        | TaskState::TaskKilled
        | TaskState::TaskLost
        | TaskState::TaskError
        | TaskState::TaskDropped
        | TaskState::TaskUnreachable
        | TaskState::TaskGone
        | TaskState::TaskGoneByOperator
        | TaskState::TaskUnknown => 0,
    }
}
