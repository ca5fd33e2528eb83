//! What is worth a line of its own, in words for people. PURE.

use std::time::Duration;

use proto::mesos::TaskState;

use super::Launch;
use crate::exit::Outcome;
use crate::scheduler::Time;
use crate::update::{Status, Update, Waiting};

/// What every line of ours begins with.
pub(super) const PREFIX: &str = "launch-container: ";

/// A waiting line is repeated this often when nothing changed: a log then shows that the launcher is alive.
const WAITING_REPEATED_AFTER: Duration = Duration::from_secs(60);

/// A waiting line whose reasons changed is not repeated sooner: offers come every second.
const WAITING_UPDATED_AFTER: Duration = Duration::from_secs(10);

/// Whom a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// A step of the launch; a terminal shows it in the changing line.
    Step,
    /// Trouble that may pass; a terminal shows it in the changing line while there is one.
    Trouble,
    /// Worth knowing; hidden by `--quiet`.
    Notice,
    /// Why there is no result, or not all of it; always said.
    Failure,
}

/// A line without its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) weight: Weight,
    pub(super) text: String,
}

/// Turns updates into lines, each said once.
#[derive(Debug)]
pub(super) struct Narrator {
    launch: Launch,
    hostname: Option<String>,
    is_pull_said: bool,
    is_running_said: bool,
    is_out_of_memory_said: bool,
    is_unhealthy_said: bool,
    /// The message of the end of a task that was killed for its health.
    killed_for_health: Option<String>,
    last_trouble: Option<String>,
    last_waiting: Option<(Time, Vec<String>)>,
}

impl Narrator {
    pub(super) fn new(launch: Launch) -> Self {
        Self {
            launch,
            hostname: None,
            is_pull_said: false,
            is_running_said: false,
            is_out_of_memory_said: false,
            is_unhealthy_said: false,
            killed_for_health: None,
            last_trouble: None,
            last_waiting: None,
        }
    }

    /// The line for `update`, if it is worth one.
    pub(super) fn line(&mut self, update: &Update, now: Time) -> Option<Line> {
        let (weight, text) = match update {
            Update::Connecting { .. } | Update::OutputStarted => return None,
            Update::Subscribed { master, framework_id, is_again } => {
                let was_cut_off = self.last_trouble.take().is_some();
                match is_again {
                    true if was_cut_off => (Weight::Trouble, format!("connected to {master} again")),
                    true => return None,
                    false => (Weight::Step, format!("connected to {master} as framework {framework_id}")),
                }
            }
            Update::Disconnected { reason, retry_in } => {
                // The wait before the next attempt differs each time; the reason is what counts.
                if self.last_trouble.as_deref() == Some(reason) {
                    return None;
                }
                self.last_trouble = Some(reason.clone());
                (Weight::Trouble, format!("{reason}; trying again {}", soon(*retry_in)))
            }
            Update::Waiting(waiting) => {
                if !self.is_waiting_news(waiting, now) {
                    return None;
                }
                self.last_waiting = Some((now, waiting.reasons.clone()));
                (Weight::Step, waiting_line(waiting, waiting.waiting_for))
            }
            Update::Launching { task_id, hostname, .. } => {
                self.hostname = Some(hostname.clone());
                (Weight::Step, format!("launching task {task_id} on {hostname}"))
            }
            Update::Status(status) if status.healthy.is_some() => return self.health(status),
            Update::Status(status) => {
                let is_out_of_memory = status.record.as_ref().is_some_and(|record| record.oom_killed);
                if is_out_of_memory && !std::mem::replace(&mut self.is_out_of_memory_said, true) {
                    let memory = status.record.as_ref().and_then(|record| record.memory.as_deref());
                    let what = match memory {
                        Some(memory) => format!("the task was {memory}"),
                        None => format!("the task used up its memory limit of {} MB", self.launch.memory_mb),
                    };
                    (Weight::Failure, format!("{what}; give it more with --mem"))
                } else if status.state == TaskState::TaskRunning && !std::mem::replace(&mut self.is_running_said, true)
                {
                    (Weight::Step, format!("task {} is running{}", status.task_id, self.on_host()))
                } else {
                    return None;
                }
            }
            Update::Pulling { .. } => {
                if std::mem::replace(&mut self.is_pull_said, true) {
                    return None;
                }
                (Weight::Step, format!("pulling {}{}", self.launch.image, self.on_host()))
            }
            Update::Killing { why, grace, .. } => {
                (Weight::Notice, format!("ending the task: {why}; {}", kill_after(*grace)))
            }
            Update::Relaunching { why, .. } => {
                self.is_pull_said = false;
                self.is_running_said = false;
                (Weight::Notice, format!("launching the task again: {why}"))
            }
            Update::OutputLost { file, bytes, why } => {
                let amount = bytes.map_or("an unknown number of".to_owned(), |bytes| bytes.to_string());
                (Weight::Failure, format!("{amount} bytes of the task's {file} are lost: {why}"))
            }
            Update::Notice(text) => (Weight::Notice, text.clone()),
            Update::Ended { outcome, .. } => match outcome {
                Outcome::Exited(_) | Outcome::Signaled(_) => {
                    let why = self.killed_for_health.take()?;
                    (Weight::Failure, format!("the task was killed because it was not healthy: {why}"))
                }
                Outcome::Interrupted(_) | Outcome::Detached => return None,
                Outcome::TimedOut(why) | Outcome::Failed(why) => (Weight::Failure, why.clone()),
            },
        };
        Some(Line { weight, text: one_line(&text) })
    }

    fn health(&mut self, status: &Status) -> Option<Line> {
        let message = status.message.as_deref().map(one_line).unwrap_or_default();
        let text = match (status.state, status.healthy) {
            (TaskState::TaskRunning, Some(false)) if !self.is_unhealthy_said => {
                self.is_unhealthy_said = true;
                if message.is_empty() {
                    "the task is not healthy".to_owned()
                } else {
                    format!("the task is not healthy: {message}")
                }
            }
            (TaskState::TaskRunning, Some(true)) if self.is_unhealthy_said => {
                self.is_unhealthy_said = false;
                "the task is healthy again".to_owned()
            }
            (TaskState::TaskKilled | TaskState::TaskFailed, Some(false)) => {
                self.killed_for_health = Some(message);
                return None;
            }
            _ => return None,
        };
        Some(Line { weight: Weight::Notice, text })
    }

    fn on_host(&self) -> String {
        self.hostname.as_ref().map_or_else(String::new, |hostname| format!(" on {hostname}"))
    }

    fn is_waiting_news(&self, waiting: &Waiting, now: Time) -> bool {
        let Some((said_at, reasons)) = &self.last_waiting else { return true };
        let since = now.saturating_sub(*said_at);
        since >= WAITING_REPEATED_AFTER || (since >= WAITING_UPDATED_AFTER && *reasons != waiting.reasons)
    }
}

/// `launch-container: MESSAGE`, on one line whatever the message holds; without a line end.
pub fn failure_line(message: &str) -> String {
    format!("{PREFIX}{}", one_line(message))
}

/// "waiting for an offer for 0:12: no agent has offered anything".
pub(super) fn waiting_line(waiting: &Waiting, waiting_for: Duration) -> String {
    let agents = match waiting.agents_offered {
        0 => "no agent has offered anything".to_owned(),
        1 => "1 agent offered".to_owned(),
        count => format!("{count} agents offered"),
    };
    let mut text = format!("waiting for an offer for {}: {agents}", clock(waiting_for));
    for reason in waiting.reasons.iter().chain(&waiting.hints) {
        text.push_str("; ");
        text.push_str(reason);
    }
    text
}

/// "0:12", "61:05", "1:02:03".
pub(super) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// "SIGKILL after 10s".
pub(super) fn kill_after(grace: Duration) -> String {
    if grace.is_zero() {
        "SIGKILL at once".to_owned()
    } else {
        format!("SIGKILL after {}", humantime::format_duration(Duration::from_millis(millis(grace))))
    }
}

/// "at once", "in 2s".
pub(super) fn soon(duration: Duration) -> String {
    let tenths = millis(duration) / 100;
    match tenths {
        0 => "at once".to_owned(),
        1..10 => format!("in 0.{tenths}s"),
        _ => format!("in {}", humantime::format_duration(Duration::from_secs(tenths.div_ceil(10)))),
    }
}

/// Messages of agents and engines may have several lines and anything else in them; a terminal must not obey them.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        match line.chars().last() {
            None => {}
            Some(':' | ';' | ',') => line.push(' '),
            Some(_) => line.push_str("; "),
        }
        for c in part.chars() {
            if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
        }
    }
    line
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_message_becomes_one_line_that_a_terminal_does_not_obey() {
        assert_eq!(one_line("plain text: größe"), "plain text: größe");
        assert_eq!(one_line("a:\n  b\r\n\n c\n"), "a: b; c");
        assert_eq!(one_line("\x1b]0;x\x07\tz\u{9b}1m"), "\\u{1b}]0;x\\u{7}\\tz\\u{9b}1m");
        assert_eq!(one_line(" \n"), "");
        assert_eq!(failure_line("a\nb"), "launch-container: a; b");
    }

    #[test]
    fn times_are_short_and_exact_enough() {
        assert_eq!(clock(Duration::from_millis(12_900)), "0:12");
        assert_eq!(clock(Duration::from_secs(3600 + 62)), "1:01:02");
        assert_eq!(soon(Duration::from_millis(50)), "at once");
        assert_eq!(soon(Duration::from_millis(250)), "in 0.2s");
        assert_eq!(soon(Duration::from_millis(1001)), "in 1s");
        assert_eq!(soon(Duration::from_millis(14_200)), "in 15s");
        assert_eq!(kill_after(Duration::ZERO), "SIGKILL at once");
        assert_eq!(kill_after(Duration::from_millis(1500)), "SIGKILL after 1s 500ms");
    }
}
