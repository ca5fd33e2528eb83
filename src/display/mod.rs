//! What happens, shown on stderr: consumers of one stream of [`Update`]s. Nothing here decides anything.
//!
//! ```text
//! Update -> terminal: one line that changes, gone when the task's output starts; failures stay
//!        -> plain:    single lines for a log, none of them with --quiet but failures
//!        -> json:     one object per event (docs/json.md)
//! ```
//!
//! The order of calls: [`Display::new`], then [`Display::handle`] for every update and [`Display::tick`] every
//! [`Display::tick_interval`], at the end [`Display::clear`]. Nothing is drawn but within these calls: there is no thread. Whoever
//! writes the task's first byte reports [`Update::OutputStarted`] right before it.
//!
//! Not one byte goes to stdout: that is the task's. Nothing here waits for whoever reads stderr (`output`).

mod canvas;
mod json;
mod phase;
mod plain;
mod terminal;
mod text;

use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

pub use text::failure_line;
pub(crate) use text::one_line;

use crate::cli::Format;
use crate::job::Job;
use crate::master;
use crate::output::Voice;
use crate::scheduler::Time;
use crate::update::Update;

/// Which of the task's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Shares lines with ours only where both go to the same place.
    Stdout,
    /// Shares lines with ours.
    Stderr,
}

/// Where a display writes, and what else is written there.
pub struct Stderr {
    /// Takes whole lines, and does not make anybody wait.
    pub voice: Voice,
    /// Whether it is a terminal that can move its cursor.
    pub is_terminal: bool,
    /// Whether the task's stdout goes to the same place.
    pub is_stdout_too: bool,
}

impl Stderr {
    /// This process's own, which `voice` speaks on.
    pub fn of_process(voice: Voice) -> Self {
        let can_move = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        let place = |fd| rustix::fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino));
        let stdout = place(rustix::stdio::stdout());
        Self {
            voice,
            is_terminal: can_move && std::io::stderr().is_terminal(),
            is_stdout_too: stdout.is_some() && stdout == place(rustix::stdio::stderr()),
        }
    }
}

/// What a display knows of the launch from the start.
#[derive(Debug, Clone)]
struct Launch {
    /// As given to the scheduler.
    task_id: String,
    /// The task's name.
    name: String,
    /// As the user wrote it.
    image: String,
    /// As the user wrote it, without credentials.
    master: String,
    /// The task's memory limit.
    memory_mb: u64,
    /// The wall clock at [`Time`] zero.
    started_at: SystemTime,
}

impl Launch {
    fn of(job: &Job, started_at: SystemTime) -> Self {
        Self {
            task_id: job.task_id().to_owned(),
            name: job.name.clone(),
            image: job.image.clone(),
            master: master::without_credentials(&job.master),
            memory_mb: job.memory.0,
            started_at,
        }
    }
}

/// One way of showing.
pub struct Display {
    kind: Kind,
    stderr: Stderr,
    /// Whether the task's last byte at the same place was no line end.
    is_mid_line: bool,
    is_ended: bool,
}

enum Kind {
    Terminal(Box<terminal::Terminal>),
    Plain(plain::Plain),
    Json(json::Json),
}

impl Display {
    /// The display that `job` asks for; `started_at` is the wall clock at time zero. With `--format=json`
    /// the first event is written at once.
    pub fn new(job: &Job, stderr: Stderr, started_at: SystemTime) -> Self {
        let launch = Launch::of(job, started_at);
        let messages = job.messages;
        let kind = match messages.format {
            Format::Json => Kind::Json(json::Json::new(launch)),
            // A log written to the same terminal would tear the changing line apart.
            Format::Text if stderr.is_terminal && !messages.is_quiet && messages.verbosity == 0 => {
                Kind::Terminal(Box::new(terminal::Terminal::on_stderr(launch, stderr.voice.clone())))
            }
            Format::Text => Kind::Plain(plain::Plain::new(launch, messages.is_quiet)),
        };
        let mut display = Self { kind, stderr, is_mid_line: false, is_ended: false };
        if let Kind::Json(json) = &mut display.kind {
            let line = json.start();
            display.write_lines(&[line]);
        }
        display
    }

    /// Shows `update`, which happened at `now`. The end of the task removes the changing line and is told once, whoever
    /// reports it again.
    pub fn handle(&mut self, update: &Update, now: Time) {
        if matches!(update, Update::Ended { .. }) && std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        let lines = match &mut self.kind {
            Kind::Terminal(terminal) => terminal.handle(update, now),
            Kind::Plain(plain) => plain.handle(update, now),
            Kind::Json(json) => vec![json.line(update, now)],
        };
        self.write_lines(&lines);
    }

    /// Moves the changing line on to `now`.
    pub fn tick(&mut self, now: Time) {
        if let Kind::Terminal(terminal) = &mut self.kind {
            terminal.draw(now);
        }
    }

    /// How often [`Display::tick`] is wanted; `None`: not now.
    pub fn tick_interval(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Terminal(terminal) if terminal.is_drawn() => Some(terminal::TICK_INTERVAL),
            Kind::Terminal(_) | Kind::Plain(_) | Kind::Json(_) => None,
        }
    }

    /// Whether there may be a changing line, which must be gone from the terminal before anybody else writes there.
    pub fn has_changing_line(&self) -> bool {
        matches!(self.kind, Kind::Terminal(_))
    }

    /// Takes the changing line away for good; also called when the launcher leaves in a hurry.
    pub fn clear(&mut self) {
        if let Kind::Terminal(terminal) = &mut self.kind {
            terminal.clear();
        }
    }

    /// Output of the task was written; `ends_line`: its last byte was a line end. Our next line then begins on a new one.
    pub fn output_written(&mut self, stream: Stream, ends_line: bool) {
        if stream == Stream::Stderr || self.stderr.is_stdout_too {
            self.is_mid_line = !ends_line;
        }
    }

    fn write_lines(&mut self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let mut text = String::new();
        if std::mem::take(&mut self.is_mid_line) {
            text.push('\n');
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        // In one piece, so that lines of other programs do not come between.
        let write = || self.stderr.voice.say(text.as_bytes());
        match &self.kind {
            Kind::Terminal(terminal) => terminal.suspend(write),
            Kind::Plain(_) | Kind::Json(_) => write(),
        }
    }
}

/// One launch as the parts of this module are told of it, from the first attempt to the end.
#[cfg(test)]
mod story {
    use proto::mesos::{TaskState, task_status};
    use proto::record::TaskRecord;

    use super::*;
    use crate::exit::Outcome;
    use crate::update::{Status, Waiting};

    pub(super) const TASK: &str = "busybox-0a1b2c3d";

    pub(super) fn launch() -> Launch {
        Launch {
            task_id: TASK.to_owned(),
            name: "busybox".to_owned(),
            image: "busybox:1.36".to_owned(),
            master: "m1:5050".to_owned(),
            memory_mb: 256,
            started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        }
    }

    pub(super) fn connecting() -> Update {
        Update::Connecting { master: "m2:5050".to_owned() }
    }

    pub(super) fn subscribed(is_again: bool) -> Update {
        Update::Subscribed { master: "m2:5050".to_owned(), framework_id: "f-1".to_owned(), is_again }
    }

    pub(super) fn disconnected(reason: &str) -> Update {
        Update::Disconnected { reason: reason.to_owned(), retry_in: Duration::from_millis(1500) }
    }

    pub(super) fn waiting(seconds: u64, agents_offered: u32, reasons: &[&str]) -> Update {
        let reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
        Update::Waiting(Waiting { waiting_for: Duration::from_secs(seconds), agents_offered, reasons, hints: vec![] })
    }

    pub(super) fn launching() -> Update {
        Update::Launching {
            task_id: TASK.to_owned(),
            agent_id: "s-1".to_owned(),
            hostname: "a7".to_owned(),
            attributes: vec![("rack".to_owned(), "r1".to_owned())],
        }
    }

    pub(super) fn pulling() -> Update {
        Update::Pulling { layers_done: 3, layers_total: 7, bytes_done: 41_234_567, bytes_total: 212_000_000 }
    }

    pub(super) fn status(state: TaskState, record: Option<TaskRecord>) -> Update {
        Update::Status(Status {
            task_id: TASK.to_owned(),
            state,
            message: Some("Container exited with status 137".to_owned()),
            reason: Some(task_status::Reason::ContainerLimitationMemory),
            source: Some(task_status::Source::Executor),
            agent_id: Some("s-1".to_owned()),
            healthy: None,
            ip_address: Some("172.17.0.2".to_owned()),
            record,
        })
    }

    pub(super) fn running() -> Update {
        status(TaskState::TaskRunning, None)
    }

    pub(super) fn out_of_memory() -> Update {
        let record = TaskRecord { version: 1, exit_code: Some(137), oom_killed: true, ..TaskRecord::default() };
        status(TaskState::TaskFailed, Some(record))
    }

    pub(super) fn health(state: TaskState, healthy: bool, message: Option<&str>) -> Update {
        let Update::Status(status) = status(state, None) else { unreachable!() };
        let message = message.map(str::to_owned);
        Update::Status(Status { healthy: Some(healthy), message, reason: None, ..status })
    }

    pub(super) fn killing() -> Update {
        Update::Killing { task_id: TASK.to_owned(), why: "interrupted".to_owned(), grace: Duration::from_secs(10) }
    }

    pub(super) fn relaunching() -> Update {
        Update::Relaunching { task_id: TASK.to_owned(), why: "the offer was withdrawn".to_owned() }
    }

    pub(super) fn output_lost() -> Update {
        Update::OutputLost { file: "stdout", bytes: Some(12), why: "cannot read it from a7: gone".to_owned() }
    }

    pub(super) fn notice() -> Update {
        Update::Notice("the master runs Mesos 0.28.3".to_owned())
    }

    pub(super) fn ended(outcome: Outcome) -> Update {
        Update::Ended { task_id: TASK.to_owned(), outcome }
    }

    pub(super) fn at(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    /// A launch without any trouble.
    pub(super) fn good() -> Vec<(Time, Update)> {
        vec![
            (at(0), connecting()),
            (at(0), subscribed(false)),
            (at(1), launching()),
            (at(1), status(TaskState::TaskStarting, None)),
            (at(2), pulling()),
            (at(3), pulling()),
            (at(4), running()),
            (at(5), running()),
            (at(6), Update::OutputStarted),
            (at(9), status(TaskState::TaskFinished, None)),
            (at(9), ended(Outcome::Exited(0))),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs::File;
    use std::io::{Read, Seek};

    use super::story::{at, ended, killing};
    use super::*;
    use crate::cli::Cli;
    use crate::exit::Outcome;
    use crate::output::Sink;

    /// A stderr that can be read again.
    struct Buffer {
        sink: Sink,
        file: File,
    }

    impl Buffer {
        fn text(&self) -> String {
            futures::executor::block_on(self.sink.flush());
            let mut text = String::new();
            (&self.file).rewind().unwrap();
            (&self.file).read_to_string(&mut text).unwrap();
            text
        }
    }

    fn display(words: &[&str]) -> (Display, Buffer) {
        display_at(false, words)
    }

    fn display_at(is_stdout_too: bool, words: &[&str]) -> (Display, Buffer) {
        let words = ["--master=zk://me:hunter2@z1:2181/mesos", "--name=job"].iter().chain(words).map(Into::into);
        let job = Job::new(Cli::parse_words(words).unwrap()).unwrap();
        let file = tempfile::tempfile().unwrap();
        let sink = Sink::new("stderr", file.try_clone().unwrap().into()).unwrap();
        let buffer = Buffer { sink, file };
        let stderr = Stderr { voice: buffer.sink.voice(), is_terminal: false, is_stdout_too };
        (Display::new(&job, stderr, SystemTime::UNIX_EPOCH), buffer)
    }

    #[test]
    fn a_line_of_ours_begins_on_a_new_line_behind_the_tasks_stderr() {
        let (mut display, buffer) = display(&["busybox"]);
        display.output_written(Stream::Stderr, false);
        display.handle(&killing(), at(1));
        display.output_written(Stream::Stderr, true);
        display.output_written(Stream::Stdout, false);
        display.handle(&ended(Outcome::Failed("cannot do it".to_owned())), at(2));
        let expected = "\nlaunch-container: ending the task: interrupted; SIGKILL after 10s\n\
                        launch-container: cannot do it\n";
        assert_eq!(buffer.text(), expected);
    }

    #[test]
    fn a_line_of_ours_begins_on_a_new_line_behind_stdout_where_both_go_to_the_same_place() {
        let (mut display, buffer) = display_at(true, &["busybox"]);
        display.output_written(Stream::Stdout, false);
        display.handle(&ended(Outcome::Failed("cannot do it".to_owned())), at(2));
        assert_eq!(buffer.text(), "\nlaunch-container: cannot do it\n");
    }

    #[test]
    fn quiet_says_only_why_there_is_no_result() {
        let (mut display, buffer) = display(&["--quiet", "busybox"]);
        let good = story::good();
        for (now, update) in &good[..good.len() - 1] {
            display.handle(update, *now);
        }
        for update in [story::notice(), story::disconnected("no answer"), killing(), story::relaunching()] {
            display.handle(&update, at(10));
        }
        assert_eq!(buffer.text(), "");
        display.handle(&story::output_lost(), at(11));
        display.handle(&ended(Outcome::TimedOut("timed out".to_owned())), at(11));
        assert_eq!(buffer.text().lines().count(), 2);
    }

    #[test]
    fn json_begins_with_the_schema_at_once_and_shows_no_credentials() {
        let (mut display, buffer) = display(&["--format=json", "--quiet", "busybox"]);
        assert!(buffer.text().contains("\"schema\":1"), "{}", buffer.text());
        assert!(buffer.text().contains("zk://z1:2181/mesos"), "{}", buffer.text());
        display.handle(&ended(Outcome::Exited(3)), at(1));
        assert_eq!(buffer.text().lines().count(), 2);
        assert!(!buffer.text().contains("hunter2"));
        assert_eq!(display.tick_interval(), None);
    }

    #[test]
    fn a_display_without_a_changing_line_can_be_cleared_and_ticked() {
        let (mut display, buffer) = display(&["busybox"]);
        display.tick(at(1));
        display.clear();
        assert_eq!(buffer.text(), "");
    }

    #[test]
    fn the_end_is_told_once() {
        for format in ["--format=text", "--format=json"] {
            let (mut display, buffer) = display(&[format, "busybox"]);
            let failed = ended(Outcome::Failed("cannot do it".to_owned()));
            display.handle(&failed, at(1));
            display.handle(&failed, at(1));
            assert_eq!(buffer.text().matches("cannot do it").count(), 1, "{}", buffer.text());
        }
    }
}
