//! Signals and input that are passed on to tasks. Only our own executor does that, and says so; any other says nothing, so silence is told.
//! A signal is sent once: who gets it twice may do something twice.

use std::time::Duration;

use proto::mesos::{AgentId, ExecutorId};
use proto::record::{LauncherMessage, LauncherOrder};
use proto::scheduler::call;

use super::task::{Entry, Placement, State};
use super::updates::executor_id;
use super::{Effect, Scheduler, Time};
use crate::update::Update;

/// Two messages through master and agent take milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A signal whose executor has not answered.
#[derive(Debug)]
pub(super) struct Awaited {
    task_id: String,
    number: u8,
    until: Time,
}

impl Scheduler {
    pub(super) fn signal(&mut self, now: Time, task_id: &str, number: u8, effects: &mut Vec<Effect>) {
        if self.running(task_id).is_none() {
            return tell(task_id, number, "it does not run", effects);
        }
        let Some(order) = self.order(task_id, LauncherOrder::Signal(number.into()), Vec::new()) else {
            return tell(task_id, number, "no master is there to pass it on; send it again later", effects);
        };
        effects.push(order);
        self.awaited.push(Awaited { task_id: task_id.to_owned(), number, until: now + ANSWER_LIMIT });
    }

    /// Whether the task's executor can be told anything now.
    pub fn can_reach(&self, task_id: &str) -> bool {
        self.connection.is_subscribed() && self.running(task_id).is_some()
    }

    pub(super) fn send_stdin(
        &mut self,
        task_id: &str,
        offset: u64,
        bytes: Vec<u8>,
        is_last: bool,
        effects: &mut Vec<Effect>,
    ) {
        effects.extend(self.order(task_id, LauncherOrder::Stdin { offset, is_last }, bytes));
    }

    fn running(&self, task_id: &str) -> Option<(&Entry, &Placement)> {
        let entry = self.by_id.get(task_id).and_then(|key| self.tasks.get(key))?;
        matches!(entry.state(), State::Running { .. }).then_some(&**entry).zip(entry.placement())
    }

    /// `None`: its executor cannot be reached.
    fn order(&self, task_id: &str, order: LauncherOrder, payload: Vec<u8>) -> Option<Effect> {
        let (entry, placement) = self.running(task_id).filter(|_| self.connection.is_subscribed())?;
        let message = LauncherMessage { payload, ..LauncherMessage::new(placement.wire_id.clone(), order) };
        Some(self.calls.message(call::Message {
            agent_id: AgentId { value: placement.agent_id.clone() },
            executor_id: ExecutorId { value: executor_id(entry, placement).clone() },
            data: message.to_bytes(),
        }))
    }

    /// The executor has passed it on.
    pub(super) fn signaled(&mut self, task_id: &str, number: i32) {
        let first = self.awaited.iter().position(|it| it.task_id == task_id && i32::from(it.number) == number);
        if let Some(first) = first {
            self.awaited.remove(first);
        }
    }

    pub(super) fn signals_due(&self) -> Option<Time> {
        self.awaited.iter().map(|awaited| awaited.until).min()
    }

    pub(super) fn tick_signals(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let (late, awaited) = std::mem::take(&mut self.awaited).into_iter().partition(|it| it.until <= now);
        self.awaited = awaited;
        for Awaited { task_id, number, .. } in late {
            if self.by_id.contains_key(&task_id) {
                let why = "its executor does not answer; only this project's passes signals on: run docker-containerizer, or \
                           mesos-docker-executor of this project, on the agent";
                tell(&task_id, number, why, effects);
            }
        }
    }
}

fn tell(task_id: &str, number: u8, why: &str, effects: &mut Vec<Effect>) {
    let text = format!("signal {number} may not have reached task {task_id:?}: {why}");
    effects.push(Effect::Update(Update::Notice(text)));
}

#[cfg(test)]
mod tests {
    use proto::mesos::TaskState;
    use proto::record::{ExecutorMessage, ExecutorNews, StdinProgress, StdinState};
    use proto::scheduler::call::Type;
    use proto::scheduler::{Event, event};

    use super::super::Input;
    use super::super::fixture::{Bench, calls, s, short};
    use super::*;

    fn signal(bench: &mut Bench, signal: u8) -> Vec<Effect> {
        bench.input(Input::Signal { task_id: "t".to_owned(), signal })
    }

    fn answer(bench: &mut Bench, number: i32) -> Vec<Effect> {
        tell_news(bench, ExecutorNews::Signaled(number))
    }

    fn tell_news(bench: &mut Bench, news: ExecutorNews) -> Vec<Effect> {
        let message = event::Message {
            agent_id: AgentId { value: "a".to_owned() },
            executor_id: ExecutorId { value: "t".to_owned() },
            data: ExecutorMessage::new("t".to_owned(), news).to_bytes(),
        };
        bench.event(Event { r#type: Some(event::Type::Message.into()), message: Some(message), ..Event::default() })
    }

    #[test]
    fn a_signal_goes_to_the_executor_of_the_running_task_once() {
        let mut bench = Bench::launched(&[TaskState::TaskRunning]);
        let message = calls(&signal(&mut bench, 10), Type::Message).remove(0).message.unwrap_or_default();
        assert_eq!((message.agent_id.value.as_str(), message.executor_id.value.as_str()), ("a", "t"));
        let order = LauncherMessage::parse(&message.data).map(|message| (message.task_id, message.order));
        assert_eq!(order, Some(("t".to_owned(), LauncherOrder::Signal(10))));
        assert!(answer(&mut bench, 10).is_empty());
        assert!(bench.wait(s(60)).is_empty());
    }

    #[test]
    fn an_executor_that_does_not_answer_is_told_for_each_signal() {
        let mut bench = Bench::launched(&[TaskState::TaskRunning]);
        signal(&mut bench, 10);
        signal(&mut bench, 12);
        answer(&mut bench, 12);
        let effects = bench.wait(s(6));
        let [Effect::Update(Update::Notice(text))] = &effects[..] else { panic!("{effects:?}") };
        assert!(text.contains("signal 10") && text.contains("docker-containerizer"), "{text}");
    }

    #[test]
    fn input_goes_to_the_running_task_and_its_progress_comes_back() {
        let input = || {
            let (task_id, bytes) = ("t".to_owned(), b"a\nb".to_vec());
            Input::Stdin { task_id, offset: 7, bytes, is_last: true }
        };
        let mut bench = Bench::launched(&[TaskState::TaskRunning]);
        let message = calls(&bench.input(input()), Type::Message).remove(0).message.unwrap_or_default();
        let order = LauncherMessage::parse(&message.data).map(|message| (message.order, message.payload));
        assert_eq!(order, Some((LauncherOrder::Stdin { offset: 7, is_last: true }, b"a\nb".to_vec())));
        let progress = StdinProgress { received: 3, limit: 9, state: StdinState::Open };
        let effects = tell_news(&mut bench, ExecutorNews::Stdin(progress));
        assert_eq!(effects, [Effect::Stdin { task_id: "t".to_owned(), progress }]);
        bench.input(Input::Disconnected { reason: "reset".to_owned(), is_fatal: false });
        assert_eq!(bench.input(input()), []);
        assert_eq!(Bench::launched(&[]).input(input()), []);
    }

    #[test]
    fn a_task_that_does_not_run_gets_none() {
        for states in [&[][..], &[TaskState::TaskStarting]] {
            assert_eq!(short(&signal(&mut Bench::launched(states), 1)), ["Notice"]);
        }
        let mut bench = Bench::launched(&[TaskState::TaskRunning]);
        bench.input(Input::Disconnected { reason: "reset".to_owned(), is_fatal: false });
        assert_eq!(short(&signal(&mut bench, 1)), ["Notice"]);
    }
}
