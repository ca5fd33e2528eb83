//! The agent's side of reliable status updates: one unacknowledged update per task is out at a time. PURE.
//!
//! ```text
//!            update                    acknowledged, more queued
//! (no task) --------> in flight <--------------------------------.
//!                      |  ^  `----> queue (the task's later ones) |
//!            retry time `--'                                      |
//!                      `------ acknowledged ----------------------'
//!                                    `- nothing queued: idle, or gone when it was the task's end
//! ```
//!
//! An update that is not acknowledged is forwarded again after 10 s, 20 s, ... 10 min, as Mesos does. A second update with
//! the uuid of an earlier one is a repetition by the executor and is dropped.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use proto::mesos::TaskStatus;

use super::master::is_terminal;

/// After the first sending.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// The longest pause between two sendings.
const MAX_RETRY: Duration = Duration::from_secs(600);

/// All updates of one agent that are not acknowledged yet.
#[derive(Debug, Default)]
pub(super) struct StatusUpdates {
    streams: BTreeMap<(String, String), Stream>,
}

/// What came of an acknowledgement.
#[derive(Debug, PartialEq)]
pub(super) enum Acknowledged {
    /// Not the update in flight: late, doubled or foreign.
    Ignored,
    /// The next update of the task is in flight now: forward it.
    Next(Box<TaskStatus>),
    /// Nothing more to send for now.
    Idle,
    /// The task's end is acknowledged; the task is forgotten.
    Finished,
}

#[derive(Debug, Default)]
struct Stream {
    /// The first is in flight.
    queue: VecDeque<TaskStatus>,
    seen: HashSet<Vec<u8>>,
    interval: Duration,
    retry_at: Duration,
}

impl StatusUpdates {
    /// Takes an update over (it must have a uuid); what must be forwarded now comes back.
    pub(super) fn update(&mut self, now: Duration, framework_id: &str, status: TaskStatus) -> Option<TaskStatus> {
        let uuid = status.uuid.clone()?;
        let key = (framework_id.to_owned(), status.task_id.value.clone());
        let stream = self.streams.entry(key).or_default();
        if !stream.seen.insert(uuid) {
            return None;
        }
        stream.queue.push_back(status);
        (stream.queue.len() == 1).then(|| stream.send(now)).flatten()
    }

    /// The scheduler has the update with this uuid.
    pub(super) fn acknowledge(
        &mut self,
        now: Duration,
        framework_id: &str,
        task_id: &str,
        uuid: &[u8],
    ) -> Acknowledged {
        let key = (framework_id.to_owned(), task_id.to_owned());
        let Some(stream) = self.streams.get_mut(&key) else { return Acknowledged::Ignored };
        if stream.queue.front().and_then(|status| status.uuid.as_deref()) != Some(uuid) {
            return Acknowledged::Ignored;
        }
        let was_the_end = stream.queue.pop_front().is_some_and(|status| is_terminal(status.state()));
        if was_the_end {
            self.streams.remove(&key);
            return Acknowledged::Finished;
        }
        match stream.send(now) {
            Some(status) => Acknowledged::Next(Box::new(status)),
            None => Acknowledged::Idle,
        }
    }

    /// The updates whose acknowledgement is overdue: forward them again. With the framework's id.
    pub(super) fn overdue(&mut self, now: Duration) -> Vec<(String, TaskStatus)> {
        let mut overdue = Vec::new();
        for ((framework_id, _), stream) in &mut self.streams {
            let in_flight = stream.queue.front().filter(|_| stream.retry_at <= now);
            if let Some(status) = in_flight {
                overdue.push((framework_id.clone(), status.clone()));
                stream.interval = (stream.interval * 2).min(MAX_RETRY);
                stream.retry_at = now + stream.interval;
            }
        }
        overdue
    }

    /// When `overdue` will have something.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.streams.values().filter(|stream| !stream.queue.is_empty()).map(|stream| stream.retry_at).min()
    }

    /// Whether an update of the task waits for its acknowledgement.
    pub(super) fn is_pending(&self, framework_id: &str, task_id: &str) -> bool {
        let key = (framework_id.to_owned(), task_id.to_owned());
        self.streams.get(&key).is_some_and(|stream| !stream.queue.is_empty())
    }

    /// Nobody is left to acknowledge for this framework.
    pub(super) fn forget(&mut self, framework_id: &str) {
        self.streams.retain(|(id, _), _| id != framework_id);
    }
}

impl Stream {
    fn send(&mut self, now: Duration) -> Option<TaskStatus> {
        self.interval = FIRST_RETRY;
        self.retry_at = now + FIRST_RETRY;
        self.queue.front().cloned()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proto::mesos::{TaskId, TaskState};

    use super::*;

    const START: Duration = Duration::ZERO;

    fn status(task: &str, state: TaskState, uuid: u8) -> TaskStatus {
        TaskStatus {
            task_id: TaskId { value: task.to_owned() },
            state: state as i32,
            uuid: Some(vec![uuid; 16]),
            ..Default::default()
        }
    }

    #[test]
    fn second_update_waits_for_the_acknowledgement_of_the_first() {
        let mut updates = StatusUpdates::default();
        let running = status("t", TaskState::TaskRunning, 1);
        let finished = status("t", TaskState::TaskFinished, 2);
        assert_eq!(updates.update(START, "f", running.clone()), Some(running));
        assert_eq!(updates.update(START, "f", finished.clone()), None);
        assert_eq!(updates.acknowledge(START, "f", "t", &[1; 16]), Acknowledged::Next(Box::new(finished)));
        assert_eq!(updates.acknowledge(START, "f", "t", &[2; 16]), Acknowledged::Finished);
        assert!(updates.streams.is_empty());
    }

    #[test]
    fn updates_of_different_tasks_do_not_wait_for_each_other() {
        let mut updates = StatusUpdates::default();
        assert!(updates.update(START, "f", status("a", TaskState::TaskRunning, 1)).is_some());
        assert!(updates.update(START, "f", status("b", TaskState::TaskRunning, 2)).is_some());
        assert!(updates.update(START, "g", status("a", TaskState::TaskRunning, 3)).is_some());
    }

    #[test]
    fn retries_double_from_ten_seconds_to_ten_minutes() {
        let mut updates = StatusUpdates::default();
        updates.update(START, "f", status("t", TaskState::TaskRunning, 1));
        let mut pauses = Vec::new();
        let mut now = START;
        for _ in 0..9 {
            let next = updates.next_timeout().unwrap();
            assert!(updates.overdue(next - Duration::from_millis(1)).is_empty());
            assert_eq!(updates.overdue(next).len(), 1);
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
    }

    #[test]
    fn late_and_doubled_acknowledgements_are_ignored() {
        let mut updates = StatusUpdates::default();
        updates.update(START, "f", status("t", TaskState::TaskRunning, 1));
        assert_eq!(updates.acknowledge(START, "f", "t", &[9; 16]), Acknowledged::Ignored);
        assert_eq!(updates.acknowledge(START, "f", "t", &[1; 16]), Acknowledged::Idle);
        assert_eq!(updates.acknowledge(START, "f", "t", &[1; 16]), Acknowledged::Ignored);
        assert_eq!(updates.next_timeout(), None);
    }

    #[test]
    fn repeated_update_of_an_executor_is_dropped_by_its_uuid() {
        let mut updates = StatusUpdates::default();
        let running = status("t", TaskState::TaskRunning, 1);
        assert!(updates.update(START, "f", running.clone()).is_some());
        assert!(updates.update(START, "f", running.clone()).is_none());
        updates.acknowledge(START, "f", "t", &[1; 16]);
        assert!(updates.update(START, "f", running).is_none());
    }

    #[test]
    fn framework_without_a_scheduler_is_forgotten() {
        let mut updates = StatusUpdates::default();
        updates.update(START, "f", status("t", TaskState::TaskRunning, 1));
        updates.forget("f");
        assert!(!updates.is_pending("f", "t"));
        assert_eq!(updates.next_timeout(), None);
    }
}
