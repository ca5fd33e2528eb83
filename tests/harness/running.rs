//! One run of the binary: start it, signal it, wait for what it says, and hold it to a deadline.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::LAUNCH_LIMIT;

/// What reads one of the launcher's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Reads at once, to the end.
    Eager,
    /// Does not read until [`Running::read_on`].
    Stalled,
    /// Does not read as long as the launcher runs.
    Absent,
    /// Leaves after that many bytes.
    LeavesAfter(usize),
    /// Leaves when it has read this.
    LeavesAt(&'static str),
}

/// Which of the launcher's streams are on a terminal; its stdin is then, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// Only stderr.
    Stderr,
    /// Both, on the same; what they say is captured as stderr.
    Both,
    /// Both, and its hang-up is the launcher's: it is that of the launcher's own session.
    Controlling,
}

/// A run that has not started yet.
pub(crate) struct Launch {
    command: Command,
    limit: Duration,
    stdout: Reader,
    stderr: Reader,
    terminal: Option<Terminal>,
    stdout_file: Option<PathBuf>,
    stdin: Stdio,
}

impl Launch {
    pub(super) fn new(command: Command) -> Self {
        Self {
            command,
            limit: LAUNCH_LIMIT,
            stdout: Reader::Eager,
            stderr: Reader::Eager,
            terminal: None,
            stdout_file: None,
            stdin: Stdio::null(),
        }
    }

    /// An environment variable of the launcher.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Another limit than [`LAUNCH_LIMIT`].
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Another reader of stdout than [`Reader::Eager`].
    pub(crate) fn stdout(mut self, stdout: Reader) -> Self {
        self.stdout = stdout;
        self
    }

    /// Another reader of stderr, or of the terminal, than [`Reader::Eager`].
    pub(crate) fn stderr(mut self, stderr: Reader) -> Self {
        self.stderr = stderr;
        self
    }

    /// Stdout is appended to a file.
    pub(crate) fn stdout_to(mut self, path: &Path) -> Self {
        self.stdout_file = Some(path.to_owned());
        self
    }

    /// On a terminal of its own, of 80 columns.
    pub(crate) fn terminal(mut self, terminal: Terminal) -> Self {
        self.terminal = Some(terminal);
        self
    }

    /// What the launcher reads, in place of nothing.
    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Runs to the end.
    pub(crate) fn run(self) -> Ended {
        self.start().finish()
    }

    /// Starts it.
    pub(crate) fn start(self) -> Running {
        let Self { mut command, limit, stdout, stderr, terminal, stdout_file, stdin } = self;
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut screen = None;
        if let Some(kind) = terminal {
            let (ours, its) = open_terminal();
            if kind == Terminal::Controlling {
                command = in_own_session(&command);
            }
            command.env("TERM", "xterm").stdin(its.try_clone().unwrap()).stderr(its.try_clone().unwrap());
            match kind {
                Terminal::Stderr => command.stdout(Stdio::piped()),
                Terminal::Both | Terminal::Controlling => command.stdout(its),
            };
            screen = Some(ours);
        }
        if let Some(path) = stdout_file {
            command.stdout(File::options().append(true).create(true).open(path).expect("a file"));
        }
        let started = Instant::now();
        let mut child = command.spawn().expect("the binary starts");
        // It holds the launcher's end of the terminal.
        drop(command);
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("the kernel has pidfd");
        let error_file = screen.unwrap_or_else(|| OwnedFd::from(child.stderr.take().expect("piped")).into());
        let unread_errors = error_file.try_clone().ok().filter(|_| matches!(stderr, Reader::Stalled | Reader::Absent));
        let stdout = match child.stdout.take() {
            Some(pipe) => Capture::start(pipe, stdout),
            None => Capture::start(std::io::empty(), Reader::Eager),
        };
        let stderr = Capture::start(error_file, stderr);
        Running { child, process, stdout, stderr, unread_errors, started, deadline: started + limit }
    }
}

/// Both ends of a terminal: ours, and what the launcher gets.
fn open_terminal() -> (File, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&ours).expect("the terminal is ours");
    unlockpt(&ours).expect("the terminal opens");
    let path = ptsname(&ours, Vec::new()).expect("the terminal has a path");
    let its = rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
    (ours.into(), its.expect("the terminal's other end"))
}

/// The same command as the leader of a session whose terminal its stdin is.
fn in_own_session(command: &Command) -> Command {
    let mut session = Command::new("setsid");
    session.arg("--ctty").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => session.env(name, value),
            None => session.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        session.current_dir(directory);
    }
    session
}

/// A run that may still go on; killed when dropped.
pub(crate) struct Running {
    child: Child,
    process: OwnedFd,
    stdout: Arc<Capture>,
    stderr: Arc<Capture>,
    /// The reading end of a stderr that is not read at once.
    unread_errors: Option<File>,
    started: Instant,
    deadline: Instant,
}

impl Running {
    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Any signal.
    pub(crate) fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.process, signal)
            .unwrap_or_else(|error| panic!("cannot signal: {error}\n{}", self.said()));
    }

    /// The launcher's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until stdout has this text.
    pub(crate) fn wait_for_stdout(&self, text: &str) -> Vec<u8> {
        self.wait_for(&self.stdout, "stdout", text)
    }

    /// Waits until stderr has this text.
    pub(crate) fn wait_for_stderr(&self, text: &str) -> Vec<u8> {
        self.wait_for(&self.stderr, "stderr", text)
    }

    /// Waits until the launcher cannot write to its stderr, which nobody reads.
    pub(crate) fn wait_for_full_stderr(&self) {
        let pipe = self.unread_errors.as_ref().expect("a stderr that is not read");
        let capacity = rustix::pipe::fcntl_getpipe_size(pipe).expect("a pipe") as u64;
        // A page at each end may not be used up.
        while rustix::io::ioctl_fionread(pipe).expect("a pipe") + (8 << 10) < capacity {
            assert!(Instant::now() < self.deadline, "stderr never filled; {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts to read what is [`Reader::Stalled`].
    pub(crate) fn read_on(&self) {
        for capture in [&self.stdout, &self.stderr] {
            capture.wake(Reader::Stalled);
        }
    }

    /// Waits for the end of the process and of both streams.
    pub(crate) fn finish(mut self) -> Ended {
        self.read_on();
        let mut poll = [PollFd::new(&self.process, PollFlags::IN)];
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().try_into().unwrap(), tv_nsec: left.subsec_nanos().into() };
        let ready = rustix::event::poll(&mut poll, Some(&timeout)).expect("poll");
        assert!(ready > 0, "still running after {:?}; {}", self.started.elapsed(), self.said());
        let took = self.started.elapsed();
        let status = self.child.wait().expect("it has ended");
        for capture in [&self.stdout, &self.stderr] {
            capture.wake(Reader::Absent);
        }

        // The pipes end with the launcher. Whoever else holds them was left behind by it.
        let deadline = Instant::now() + Duration::from_secs(10);
        for (name, capture) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let closed = capture.wait_until(deadline, |state| state.is_closed);
            assert!(closed, "the launcher has ended, and another process still holds its {name}; {}", self.said());
        }
        let stdout = std::mem::take(&mut self.stdout.state().bytes);
        let stderr = std::mem::take(&mut self.stderr.state().bytes);
        Ended { code: status.code(), signal: status.signal(), stdout, stderr, took }
    }

    /// Sends the signal and waits for the end, a while; never panics, for the way out of a test that has failed.
    pub(super) fn end(mut self, signal: Signal) {
        const LIMIT: Duration = Duration::from_secs(30);
        let _ = pidfd_send_signal(&self.process, signal);
        let deadline = Instant::now() + LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_for(&self, capture: &Capture, name: &str, text: &str) -> Vec<u8> {
        let has_it = |state: &State| find(&state.bytes, text.as_bytes());
        let found = capture.wait_until(self.deadline, |state| has_it(state) || state.is_closed);
        let state = capture.state();
        if found && has_it(&state) {
            return state.bytes.clone();
        }
        drop(state);
        panic!("{name} never had {text:?}; {}", self.said());
    }

    fn said(&self) -> String {
        let text = |capture: &Capture| excerpt(&capture.state().bytes);
        format!("stdout:\n{}\nstderr:\n{}", text(&self.stdout), text(&self.stderr))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A run that is over.
pub(crate) struct Ended {
    /// The exit code; `None` when a signal ended the launcher.
    pub(crate) code: Option<i32>,
    /// The signal that ended the launcher.
    pub(crate) signal: Option<i32>,
    /// Everything on stdout.
    pub(crate) stdout: Vec<u8>,
    /// Everything on stderr.
    pub(crate) stderr: Vec<u8>,
    /// From start to end.
    pub(crate) took: Duration,
}

impl Ended {
    /// Fails with everything that was said when the code is another one.
    #[track_caller]
    pub(crate) fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "signal {:?} after {:?}; {}", self.signal, self.took, self.said());
        self
    }

    /// Exactly these bytes.
    #[track_caller]
    pub(crate) fn expect_stdout(&self, bytes: impl AsRef<[u8]>) -> &Self {
        assert!(self.stdout == bytes.as_ref(), "expected {:?}; {}", excerpt(bytes.as_ref()), self.said());
        self
    }

    /// Exactly these bytes: use `--quiet` where only the task's output counts.
    #[track_caller]
    pub(crate) fn expect_stderr(&self, bytes: impl AsRef<[u8]>) -> &Self {
        assert!(self.stderr == bytes.as_ref(), "expected {:?}; {}", excerpt(bytes.as_ref()), self.said());
        self
    }

    /// Exactly one line on stderr that has all of these words.
    #[track_caller]
    pub(crate) fn expect_one_line(&self, words: &[&str]) -> &Self {
        let text = String::from_utf8_lossy(&self.stderr);
        assert!(text.ends_with('\n') && text.lines().count() == 1, "expected one line; {}", self.said());
        self.expect_words(words)
    }

    /// All of these words on stderr.
    #[track_caller]
    pub(crate) fn expect_words(&self, words: &[&str]) -> &Self {
        let text = String::from_utf8_lossy(&self.stderr);
        for word in words {
            assert!(text.contains(word), "expected {word:?} on stderr; {}", self.said());
        }
        self
    }

    /// Both streams, for a failure's text.
    pub(crate) fn said(&self) -> String {
        format!("code {:?}, stdout:\n{}\nstderr:\n{}", self.code, excerpt(&self.stdout), excerpt(&self.stderr))
    }
}

/// What one pipe has given so far.
struct Capture {
    reader: Reader,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    is_closed: bool,
    may_read: bool,
}

impl Capture {
    fn start(mut pipe: impl Read + Send + 'static, reader: Reader) -> Arc<Self> {
        let may_read = !matches!(reader, Reader::Stalled | Reader::Absent);
        let state = State { may_read, ..State::default() };
        let capture = Arc::new(Self { reader, state: Mutex::new(state), changed: Condvar::new() });
        let filled = Arc::clone(&capture);
        std::thread::spawn(move || {
            filled.wait_until(Instant::now() + LAUNCH_LIMIT * 10, |state| state.may_read);
            let limit = if let Reader::LeavesAfter(limit) = reader { limit } else { usize::MAX };
            let mut total = 0;
            let mut buffer = vec![0; 64 << 10];
            while total < limit {
                let room = buffer.len().min(limit - total);
                // A terminal whose other end is closed is an error.
                let Ok(count) = pipe.read(&mut buffer[..room]) else { break };
                if count == 0 {
                    break;
                }
                total += count;
                let mut state = filled.state();
                state.bytes.extend_from_slice(&buffer[..count]);
                let is_enough = matches!(reader, Reader::LeavesAt(text) if find(&state.bytes, text.as_bytes()));
                drop(state);
                filled.changed.notify_all();
                if is_enough {
                    break;
                }
            }
            drop(pipe);
            filled.state().is_closed = true;
            filled.changed.notify_all();
        });
        capture
    }

    /// Lets one that waits for it read.
    fn wake(&self, reader: Reader) {
        if self.reader == reader {
            self.state().may_read = true;
            self.changed.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Whether the condition came true before the deadline.
    fn wait_until(&self, deadline: Instant, mut condition: impl FnMut(&State) -> bool) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        !self.changed.wait_timeout_while(self.state(), left, |state| !condition(state)).unwrap().1.timed_out()
    }
}

fn find(bytes: &[u8], text: &[u8]) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
}

/// The end of long output; binary bytes escaped.
fn excerpt(bytes: &[u8]) -> String {
    const MOST: usize = 4000;
    let tail = &bytes[bytes.len().saturating_sub(MOST)..];
    let text: String =
        tail.utf8_chunks().map(|chunk| format!("{}{}", chunk.valid(), chunk.invalid().escape_ascii())).collect();
    if tail.len() < bytes.len() { format!("({} bytes, the end of it:) {text}", bytes.len()) } else { text }
}
