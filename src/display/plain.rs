//! Single lines for a log or a script: the steps of a launch and what went wrong.

use super::Launch;
use super::text::{Narrator, PREFIX, Weight};
use crate::scheduler::Time;
use crate::update::Update;

/// Text where stderr is not a terminal.
pub(super) struct Plain {
    narrator: Narrator,
    is_quiet: bool,
}

impl Plain {
    pub(super) fn new(launch: Launch, is_quiet: bool) -> Self {
        Self { narrator: Narrator::new(launch), is_quiet }
    }

    /// The lines to write.
    pub(super) fn handle(&mut self, update: &Update, now: Time) -> Vec<String> {
        let line = self.narrator.line(update, now).filter(|line| !self.is_quiet || line.weight == Weight::Failure);
        line.map(|line| format!("{PREFIX}{}", line.text)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proto::mesos::TaskState;

    use super::super::story::{self, at};
    use super::*;
    use crate::exit::Outcome;

    fn lines(story: &[(Time, Update)]) -> Vec<String> {
        let mut plain = Plain::new(story::launch(), false);
        story.iter().flat_map(|(now, update)| plain.handle(update, *now)).collect()
    }

    #[test]
    fn a_good_launch_is_one_line_for_each_step() {
        let expected = [
            "launch-container: connected to m2:5050 as framework f-1",
            "launch-container: launching task busybox-0a1b2c3d on a7",
            "launch-container: pulling busybox:1.36 on a7",
            "launch-container: task busybox-0a1b2c3d is running on a7",
        ];
        assert_eq!(lines(&story::good()), expected);
    }

    #[test]
    fn a_lost_master_is_said_once_and_so_is_its_return() {
        let story = [
            (at(0), story::disconnected("cannot reach m2:5050: connection refused")),
            (at(1), story::connecting()),
            (at(2), story::disconnected("cannot reach m2:5050: connection refused")),
            (at(3), story::subscribed(false)),
            (at(4), story::disconnected("m2:5050 closed the stream")),
            (at(5), story::subscribed(true)),
            (at(6), story::subscribed(true)),
        ];
        let expected = [
            "launch-container: cannot reach m2:5050: connection refused; trying again in 2s",
            "launch-container: connected to m2:5050 as framework f-1",
            "launch-container: m2:5050 closed the stream; trying again in 2s",
            "launch-container: connected to m2:5050 again",
        ];
        assert_eq!(lines(&story), expected);
    }

    #[test]
    fn waiting_is_said_at_once_when_its_reasons_change_and_every_minute() {
        let mem = "mem short by 200 MB on 7 agents (best: a7)";
        let story = [
            (at(2), story::waiting(2, 0, &[])),
            (at(3), story::waiting(3, 7, &[mem])),
            (at(12), story::waiting(12, 7, &[mem])),
            (at(40), story::waiting(40, 7, &[mem])),
            (at(72), story::waiting(72, 1, &[mem, "cpus short by 1 on 1 agent (best: a2)"])),
            (at(131), story::waiting(131, 1, &[mem, "cpus short by 1 on 1 agent (best: a2)"])),
            (at(3732), story::waiting(3732, 1, &[])),
        ];
        let expected = [
            "launch-container: waiting for an offer for 0:02: no agent has offered anything".to_owned(),
            format!("launch-container: waiting for an offer for 0:12: 7 agents offered; {mem}"),
            format!(
                "launch-container: waiting for an offer for 1:12: 1 agent offered; {mem}; cpus short by 1 on 1 agent (best: a2)"
            ),
            "launch-container: waiting for an offer for 1:02:12: 1 agent offered".to_owned(),
        ];
        assert_eq!(lines(&story), expected);
    }

    #[test]
    fn a_task_launched_again_tells_its_steps_again() {
        let story = [
            (at(1), story::launching()),
            (at(2), story::relaunching()),
            (at(3), story::launching()),
            (at(4), story::running()),
        ];
        let expected = [
            "launch-container: launching task busybox-0a1b2c3d on a7",
            "launch-container: launching the task again: the offer was withdrawn",
            "launch-container: launching task busybox-0a1b2c3d on a7",
            "launch-container: task busybox-0a1b2c3d is running on a7",
        ];
        assert_eq!(lines(&story), expected);
    }

    #[test]
    fn a_used_up_memory_limit_is_said_once() {
        let story = [
            (at(1), story::out_of_memory()),
            (at(2), story::out_of_memory()),
            (at(2), story::ended(Outcome::Exited(137))),
        ];
        let expected = ["launch-container: the task used up its memory limit of 256 MB; give it more with --mem"];
        assert_eq!(lines(&story), expected);
    }

    #[test]
    fn health_is_said_when_it_changes_and_as_the_cause_of_an_end() {
        let ill = "Health check failed once, because x";
        let end = "Health check failed 3 times in a row, because x: Container exited with status 143";
        let story = [
            (at(1), story::running()),
            (at(2), story::health(TaskState::TaskRunning, true, None)),
            (at(3), story::health(TaskState::TaskRunning, false, Some(ill))),
            (at(4), story::health(TaskState::TaskRunning, true, None)),
            (at(5), story::health(TaskState::TaskRunning, false, None)),
            (at(6), story::health(TaskState::TaskKilled, false, Some(end))),
            (at(7), story::ended(Outcome::Exited(143))),
        ];
        let expected = [
            "launch-container: task busybox-0a1b2c3d is running".to_owned(),
            format!("launch-container: the task is not healthy: {ill}"),
            "launch-container: the task is healthy again".to_owned(),
            "launch-container: the task is not healthy".to_owned(),
            format!("launch-container: the task was killed because it was not healthy: {end}"),
        ];
        assert_eq!(lines(&story), expected);
        let failed = [story[5].clone(), (at(7), story::ended(Outcome::Failed("why".to_owned())))];
        assert_eq!(lines(&failed), ["launch-container: why"], "said once");
    }

    #[test]
    fn an_end_needs_words_only_where_the_code_does_not_say_it() {
        for outcome in [Outcome::Exited(3), Outcome::Signaled(9), Outcome::Interrupted(2)] {
            assert_eq!(lines(&[(at(1), story::ended(outcome))]), [] as [&str; 0]);
        }
        let failed = Outcome::Failed("cannot pull busybox on a7:\n  no such host\n\x1b[31m".to_owned());
        let expected = ["launch-container: cannot pull busybox on a7: no such host; \\u{1b}[31m"];
        assert_eq!(lines(&[(at(1), story::ended(failed))]), expected);
    }

    #[test]
    fn lost_output_is_said_with_its_size_and_reason() {
        let unknown = Update::OutputLost { file: "stderr", bytes: None, why: "the agent is gone".to_owned() };
        let expected = [
            "launch-container: 12 bytes of the task's stdout are lost: cannot read it from a7: gone",
            "launch-container: an unknown number of bytes of the task's stderr are lost: the agent is gone",
        ];
        assert_eq!(lines(&[(at(1), story::output_lost()), (at(1), unknown)]), expected);
    }
}
