//! `--interactive`: what is read from our stdin goes to the task, and the task is ended when it does not get it.

use proto::record::{StdinProgress, TaskRecord};

use super::Shell;
use crate::exit::Outcome;
use crate::scheduler::{Input, Time};
use crate::stdin::{Feed, Part};
use crate::update::Update;

/// The task's standard input, and what the scheduler has told of it meanwhile.
#[derive(Debug, Default)]
pub(super) struct TaskInput {
    pub(super) feed: Feed,
    pub(super) told: Vec<StdinProgress>,
    /// Whether the task has begun to run since the last look.
    pub(super) has_begun: bool,
}

impl Shell {
    /// Acts upon what the scheduler has told.
    pub(super) fn feed_told(&mut self) {
        let Some(input) = &mut self.task_input else { return };
        let (told, has_begun) = (std::mem::take(&mut input.told), std::mem::take(&mut input.has_begun));
        if has_begun {
            self.feed(Feed::run);
        }
        for progress in told {
            self.feed(|feed, now, is_reachable| feed.told(now, is_reachable, progress));
        }
    }

    pub(super) fn feed(&mut self, act: impl FnOnce(&mut Feed, Time, bool) -> Vec<Part>) {
        let now = self.now();
        let task_id = self.job.task_id().to_owned();
        let is_reachable = self.scheduler.can_reach(&task_id);
        let Some(input) = &mut self.task_input else { return };
        let parts = act(&mut input.feed, now, is_reachable);
        let failure = input.feed.failure();
        for Part { offset, bytes, is_last } in parts {
            self.input(Input::Stdin { task_id: task_id.clone(), offset, bytes, is_last });
        }
        if let Some(failure) = failure {
            self.task_input = None;
            self.show(&Update::Notice(format!("{failure}; the task is ended")));
            self.input_failure = Some(failure);
            self.input(Input::Interrupt { task_id, signal: 15, grace: None });
        }
    }

    /// What counts in place of a task's own end when it did not get its input: whatever it said, it said about something else.
    pub(super) fn end_of_input(&mut self, outcome: Outcome) -> Outcome {
        let is_taken = self.record.as_ref().is_some_and(|record: &TaskRecord| record.stdin_bytes.is_some());
        let input = self.task_input.take().filter(|_| self.has_task_run && matches!(outcome, Outcome::Exited(_)));
        let at_end = input.and_then(|input| input.feed.failure_at_end(is_taken));
        self.input_failure.take().or(at_end).map_or(outcome, Outcome::Failed)
    }
}
