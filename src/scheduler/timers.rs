//! The tasks' deadlines in one heap. A deadline that was moved stays in it and is skipped when it comes up.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::Time;
use super::reconcile::TaskKey;
use super::task::Entry;

#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Time, TaskKey)>>,
}

impl Timers {
    /// Brings the task's deadline up to date; to be called after each change of it.
    pub(super) fn schedule(&mut self, key: TaskKey, entry: &mut Entry) {
        let due = entry.due();
        if due != entry.scheduled {
            entry.scheduled = due;
            if let Some(at) = due {
                self.heap.push(Reverse((at, key)));
            }
        }
    }

    /// The next task whose deadline has passed.
    pub(super) fn pop(&mut self, now: Time, tasks: &BTreeMap<TaskKey, Box<Entry>>) -> Option<TaskKey> {
        while let Some(Reverse((at, key))) = self.heap.peek().copied() {
            if at > now {
                return None;
            }
            self.heap.pop();
            if tasks.get(&key).is_some_and(|entry| entry.scheduled == Some(at)) {
                return Some(key);
            }
        }
        None
    }

    /// Drops what would wake the caller for nothing.
    pub(super) fn prune(&mut self, tasks: &BTreeMap<TaskKey, Box<Entry>>) {
        while let Some(Reverse((at, key))) = self.heap.peek() {
            if tasks.get(key).is_some_and(|entry| entry.scheduled == Some(*at)) {
                return;
            }
            self.heap.pop();
        }
    }

    pub(super) fn due(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}
