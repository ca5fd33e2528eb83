//! The updates an executor owes its agent. PURE.
//!
//! An update is owed until the agent acknowledges it. One is in flight at a time and they go out in order, so that an agent
//! never sees a state after the one that follows it, whatever is retried. A new subscription carries everything owed.

use std::collections::VecDeque;

use proto::executor::call;
use proto::mesos::{TaskInfo, TaskState, TaskStatus};

/// What is owed, oldest first.
#[derive(Debug, Default)]
pub(super) struct Updates {
    tasks: Vec<TaskInfo>,
    owed: VecDeque<Owed>,
    in_flight: Option<Vec<u8>>,
    version: u64,
}

#[derive(Debug)]
struct Owed {
    status: TaskStatus,
    was_sent: bool,
}

impl Updates {
    /// A task was accepted; it counts as unacknowledged until one of its updates is acknowledged.
    pub(super) fn add_task(&mut self, task: TaskInfo) {
        self.tasks.push(task);
        self.version += 1;
    }

    /// Owes `status`, which has a uuid.
    pub(super) fn add(&mut self, status: TaskStatus) {
        self.owed.push_back(Owed { status, was_sent: false });
        self.version += 1;
    }

    /// Whether one with this state is owed.
    pub(super) fn has(&self, state: TaskState) -> bool {
        self.owed.iter().any(|owed| owed.status.state() == state)
    }

    /// A terminal one that is owed.
    pub(super) fn terminal(&self) -> Option<&TaskStatus> {
        let is_terminal = |state| {
            !matches!(
                state,
                TaskState::TaskStaging | TaskState::TaskStarting | TaskState::TaskRunning | TaskState::TaskKilling
            )
        };
        self.owed.iter().map(|owed| &owed.status).find(|status| is_terminal(status.state()))
    }

    /// All that is owed, as a subscription carries it.
    pub(super) fn owed(&self) -> call::Subscribe {
        let updates = self.owed.iter().map(|owed| call::Update { status: owed.status.clone() }).collect();
        call::Subscribe { unacknowledged_tasks: self.tasks.clone(), unacknowledged_updates: updates }
    }

    /// Changes with what is owed.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether nothing is owed.
    pub(super) fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// The next one to send, unless one is in flight or everything was sent.
    pub(super) fn take_next(&mut self) -> Option<call::Update> {
        if self.in_flight.is_some() {
            return None;
        }
        let next = self.owed.iter_mut().find(|owed| !owed.was_sent)?;
        next.was_sent = true;
        self.in_flight = next.status.uuid.clone();
        Some(call::Update { status: next.status.clone() })
    }

    /// Whether one was sent and not answered.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The agent took the one in flight; the acknowledgement is still to come.
    pub(super) fn sent(&mut self) {
        self.in_flight = None;
    }

    /// The one in flight was not taken: it is next again.
    pub(super) fn send_failed(&mut self) {
        let Some(uuid) = self.in_flight.take() else { return };
        for owed in self.owed.iter_mut().filter(|owed| owed.status.uuid.as_ref() == Some(&uuid)) {
            owed.was_sent = false;
        }
    }

    /// What a subscription carries; all of it counts as sent.
    pub(super) fn subscribe(&mut self) -> call::Subscribe {
        self.in_flight = None;
        for owed in &mut self.owed {
            owed.was_sent = true;
        }
        self.owed()
    }

    /// Nobody knows what arrived: all of it is owed anew.
    pub(super) fn disconnected(&mut self) {
        self.in_flight = None;
        for owed in &mut self.owed {
            owed.was_sent = false;
        }
    }

    /// The agent has this one; unknown ones (acknowledged twice) are ignored.
    pub(super) fn acknowledge(&mut self, task_id: &str, uuid: &[u8]) {
        let is_it = |owed: &Owed| owed.status.task_id.value == task_id && owed.status.uuid.as_deref() == Some(uuid);
        let Some(index) = self.owed.iter().position(is_it) else { return };
        self.owed.remove(index);
        self.version += 1;
        self.tasks.retain(|task| task.task_id.value != task_id);
    }
}

#[cfg(test)]
mod tests {
    use proto::mesos::TaskId;

    use super::*;

    fn status(uuid: u8) -> TaskStatus {
        TaskStatus {
            task_id: TaskId { value: "t".to_owned() },
            state: TaskState::TaskRunning as i32,
            uuid: Some(vec![uuid; 16]),
            ..TaskStatus::default()
        }
    }

    fn uuid(update: Option<call::Update>) -> Option<u8> {
        update.and_then(|update| update.status.uuid).map(|uuid| uuid[0])
    }

    #[test]
    fn updates_go_out_one_at_a_time_and_in_order() {
        let mut updates = Updates::default();
        updates.add(status(1));
        updates.add(status(2));
        assert_eq!(uuid(updates.take_next()), Some(1));
        assert_eq!(uuid(updates.take_next()), None);
        updates.sent();
        assert_eq!(uuid(updates.take_next()), Some(2));
    }

    #[test]
    fn a_failed_update_is_sent_again_before_the_next() {
        let mut updates = Updates::default();
        updates.add(status(1));
        updates.add(status(2));
        updates.take_next();
        updates.send_failed();
        assert_eq!(uuid(updates.take_next()), Some(1));
    }

    #[test]
    fn an_acknowledgement_that_overtakes_the_answer_does_not_let_a_second_call_out() {
        let mut updates = Updates::default();
        updates.add(status(1));
        updates.add(status(2));
        updates.take_next();
        updates.acknowledge("t", &[1; 16]);
        assert_eq!(uuid(updates.take_next()), None);
        updates.sent();
        assert_eq!(uuid(updates.take_next()), Some(2));
    }

    #[test]
    fn a_subscription_carries_what_is_owed_and_later_updates_follow_it() {
        let mut updates = Updates::default();
        updates.add_task(TaskInfo { task_id: TaskId { value: "t".to_owned() }, ..TaskInfo::default() });
        updates.add(status(1));
        updates.add(status(2));
        let subscribe = updates.subscribe();
        assert_eq!(subscribe.unacknowledged_tasks.len(), 1);
        assert_eq!(subscribe.unacknowledged_updates.len(), 2);
        updates.add(status(3));
        assert_eq!(uuid(updates.take_next()), Some(3));
        updates.disconnected();
        assert_eq!(uuid(updates.take_next()), Some(1));
    }

    #[test]
    fn a_task_counts_as_known_after_its_first_acknowledgement() {
        let mut updates = Updates::default();
        updates.add_task(TaskInfo { task_id: TaskId { value: "t".to_owned() }, ..TaskInfo::default() });
        updates.add(status(1));
        updates.acknowledge("t", &[9; 16]);
        assert_eq!(updates.subscribe().unacknowledged_tasks.len(), 1);
        updates.acknowledge("t", &[1; 16]);
        assert!(updates.subscribe().unacknowledged_tasks.is_empty());
        assert!(updates.is_empty());
    }
}
