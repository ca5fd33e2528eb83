//! Where the launch stands, as one line that changes with time. PURE.
//!
//! ```text
//! connecting -> waiting -> launching -> starting -> pulling -> running -> (gone)
//!     ^------------'  lost the master: shown until it is back; the phase behind it is kept
//! ```

use proto::mesos::TaskState;

use super::Launch;
use super::text::{clock, kill_after, one_line, soon, waiting_line};
use crate::scheduler::Time;
use crate::update::{Update, Waiting};

/// The state of the changing line.
#[derive(Debug)]
pub(super) struct Progress {
    launch: Launch,
    phase: Phase,
    hostname: String,
    /// Why the master is out of reach, while it is.
    trouble: Option<String>,
}

#[derive(Debug, PartialEq)]
enum Phase {
    /// No master has answered yet.
    Connecting { master: String },
    /// No offer was accepted yet.
    Waiting { since: Time, waiting: Option<Waiting> },
    /// An offer was accepted; the agent has not spoken yet.
    Launching,
    /// The agent prepares the container.
    Starting,
    /// The image is on its way.
    Pulling { layers_done: u32, layers_total: u32, bytes_done: u64, bytes_total: u64 },
    /// The container runs.
    Running { since: Time },
    /// The task was asked to end.
    Killing { since: Time, why: String, kill: String },
}

impl Progress {
    pub(super) fn new(launch: Launch) -> Self {
        let phase = Phase::Connecting { master: launch.master.clone() };
        Self { launch, phase, hostname: String::new(), trouble: None }
    }

    /// Takes in what happened.
    pub(super) fn apply(&mut self, update: &Update, now: Time) {
        match update {
            Update::Connecting { master } => {
                if let Phase::Connecting { master: shown } = &mut self.phase {
                    shown.clone_from(master);
                }
            }
            Update::Subscribed { .. } => {
                self.trouble = None;
                if let Phase::Connecting { .. } = self.phase {
                    self.phase = Phase::Waiting { since: now, waiting: None };
                }
            }
            Update::Disconnected { reason, retry_in } => {
                self.trouble = Some(format!("{reason}; trying again {}", soon(*retry_in)));
            }
            Update::Waiting(waiting) => {
                let since = now.saturating_sub(waiting.waiting_for);
                self.phase = Phase::Waiting { since, waiting: Some(waiting.clone()) };
            }
            Update::Launching { hostname, .. } => {
                self.hostname.clone_from(hostname);
                self.phase = Phase::Launching;
            }
            Update::Status(status) => self.apply_state(status.state, now),
            Update::Pulling { layers_done, layers_total, bytes_done, bytes_total } => {
                if matches!(self.phase, Phase::Launching | Phase::Starting | Phase::Pulling { .. }) {
                    self.phase = Phase::Pulling {
                        layers_done: *layers_done,
                        layers_total: *layers_total,
                        bytes_done: *bytes_done,
                        bytes_total: *bytes_total,
                    };
                }
            }
            Update::Killing { why, grace, .. } => {
                self.phase = Phase::Killing { since: now, why: why.clone(), kill: kill_after(*grace) };
            }
            Update::Relaunching { .. } => self.phase = Phase::Waiting { since: now, waiting: None },
            Update::OutputStarted | Update::OutputLost { .. } | Update::Notice(_) | Update::Ended { .. } => {}
        }
    }

    fn apply_state(&mut self, state: TaskState, now: Time) {
        match state {
            TaskState::TaskStaging | TaskState::TaskStarting => {
                if self.phase == Phase::Launching {
                    self.phase = Phase::Starting;
                }
            }
            TaskState::TaskRunning => {
                if !matches!(self.phase, Phase::Running { .. } | Phase::Killing { .. }) {
                    self.phase = Phase::Running { since: now };
                }
            }
            TaskState::TaskKilling
            | TaskState::TaskFinished
            | TaskState::TaskFailed
            | TaskState::TaskKilled
            | TaskState::TaskError
            | TaskState::TaskLost
            | TaskState::TaskDropped
            | TaskState::TaskUnreachable
            | TaskState::TaskGone
            | TaskState::TaskGoneByOperator
            | TaskState::TaskUnknown => {}
        }
    }

    /// What to show at `now`.
    pub(super) fn line(&self, now: Time) -> String {
        let for_since = |since: Time| clock(now.saturating_sub(since));
        let host = &self.hostname;
        let line = match (&self.trouble, &self.phase) {
            (Some(trouble), _) => trouble.clone(),
            (None, Phase::Connecting { master }) => format!("connecting to {master}"),
            (None, Phase::Waiting { since, waiting: None }) => {
                format!("waiting for an offer for {}", for_since(*since))
            }
            (None, Phase::Waiting { since, waiting: Some(waiting) }) => {
                waiting_line(waiting, now.saturating_sub(*since))
            }
            (None, Phase::Launching) => format!("launching on {host}"),
            (None, Phase::Starting) => format!("starting on {host}"),
            (None, Phase::Pulling { layers_done, layers_total, bytes_done, bytes_total }) => {
                let mut text = format!("pulling {} on {host}", self.launch.image);
                if *layers_total > 0 {
                    text.push_str(&format!(": {layers_done}/{layers_total} layers"));
                }
                if *bytes_total > 0 {
                    text.push_str(&format!(", {}/{} MB", decimal_mb(*bytes_done), decimal_mb(*bytes_total)));
                }
                text
            }
            (None, Phase::Running { since }) => format!("running on {host} for {}", for_since(*since)),
            (None, Phase::Killing { since, why, kill }) => {
                format!("ending the task for {}: {why}; {kill}", for_since(*since))
            }
        };
        one_line(&line)
    }
}

/// Millions of bytes, as Docker counts what it pulls; one decimal below 10.
fn decimal_mb(bytes: u64) -> String {
    let tenths = bytes.div_ceil(100_000);
    if tenths < 100 { format!("{}.{}", tenths / 10, tenths % 10) } else { (tenths / 10).to_string() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::story::{self, at};
    use super::*;

    /// What is shown half a second after each update.
    fn shown(story: &[(Time, Update)]) -> Vec<String> {
        let mut progress = Progress::new(story::launch());
        let show = |(now, update): &(Time, Update)| {
            progress.apply(update, *now);
            progress.line(*now + Duration::from_millis(500))
        };
        story.iter().map(show).collect()
    }

    #[test]
    fn before_anything_happens_the_master_as_given_is_shown() {
        assert_eq!(Progress::new(story::launch()).line(at(0)), "connecting to m1:5050");
    }

    #[test]
    fn a_good_launch_goes_through_all_phases() {
        let expected = [
            "connecting to m2:5050",
            "waiting for an offer for 0:00",
            "launching on a7",
            "starting on a7",
            "pulling busybox:1.36 on a7: 3/7 layers, 41/212 MB",
            "pulling busybox:1.36 on a7: 3/7 layers, 41/212 MB",
            "running on a7 for 0:00",
            "running on a7 for 0:01",
        ];
        assert_eq!(shown(&story::good())[..8], expected);
    }

    #[test]
    fn waiting_counts_on_from_its_beginning() {
        let mut progress = Progress::new(story::launch());
        progress.apply(&story::waiting(12, 3, &["mem short by 200 MB on 3 agents (best: a7)"]), at(15));
        let expected = "waiting for an offer for 1:12: 3 agents offered; mem short by 200 MB on 3 agents (best: a7)";
        assert_eq!(progress.line(at(75)), expected);
    }

    #[test]
    fn a_lost_master_is_shown_until_it_is_back_and_the_phase_goes_on() {
        let story = [
            (at(0), story::launching()),
            (at(1), story::running()),
            (at(5), story::disconnected("m2:5050 closed the stream")),
            (at(6), story::connecting()),
            (at(7), story::subscribed(true)),
        ];
        let expected = [
            "m2:5050 closed the stream; trying again in 2s",
            "m2:5050 closed the stream; trying again in 2s",
            "running on a7 for 0:06",
        ];
        assert_eq!(shown(&story)[2..], expected);
    }

    #[test]
    fn a_late_pull_report_does_not_hide_that_the_task_runs() {
        let story = [(at(0), story::launching()), (at(1), story::running()), (at(2), story::pulling())];
        assert_eq!(shown(&story)[2], "running on a7 for 0:01");
    }

    #[test]
    fn a_killed_task_stays_in_that_phase_whatever_is_reported() {
        let story = [(at(0), story::launching()), (at(1), story::killing()), (at(4), story::running())];
        assert_eq!(shown(&story)[2], "ending the task for 0:03: interrupted; SIGKILL after 10s");
    }

    #[test]
    fn a_pull_without_known_sizes_says_only_that_it_goes_on() {
        let unknown = Update::Pulling { layers_done: 0, layers_total: 0, bytes_done: 0, bytes_total: 0 };
        let small = Update::Pulling { layers_done: 0, layers_total: 1, bytes_done: 120_000, bytes_total: 2_260_000 };
        let story = [(at(0), story::launching()), (at(1), unknown), (at(2), small)];
        assert_eq!(
            shown(&story)[1..],
            ["pulling busybox:1.36 on a7", "pulling busybox:1.36 on a7: 0/1 layers, 0.2/2.3 MB"]
        );
    }
}
