//! `--interactive`: our standard input becomes that of the task.
//!
//! ```text
//! our stdin -- thread --> Feed (sender: PURE) -- parts --> scheduler -- MESSAGE --> the task's executor --> its container
//!                           ^--------------------------- progress ----------------------'
//! ```
//!
//! Only this project's executor takes it. Nothing of it is read before that executor has answered, and never more than some
//! megabytes before the container has taken what was read earlier.

mod sender;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use proto::record::StdinProgress;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::mpsc;

use crate::scheduler::Time;

pub use sender::{Input, Over, Part, Sender};

/// Our standard input on its way to the task.
#[derive(Debug, Default)]
pub struct Feed {
    sender: Sender,
    /// Started when somebody takes what is read.
    reader: Option<mpsc::Receiver<Read1>>,
    failure: Option<String>,
}

/// What one read has brought; nothing at the end.
type Read1 = io::Result<Vec<u8>>;

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

impl Feed {
    /// What was read next. Waits while nothing may be read. Cancel safe.
    pub async fn read(&mut self) -> io::Result<Vec<u8>> {
        if !self.sender.wants_bytes() {
            return std::future::pending().await;
        }
        match self.reader.get_or_insert_with(start_reader).recv().await {
            Some(read) => read,
            None => Ok(Vec::new()),
        }
    }

    /// Takes what [`Self::read`] has given; what is to be sent comes back.
    pub fn take(&mut self, now: Time, is_reachable: bool, read: io::Result<Vec<u8>>) -> Vec<Part> {
        let input = match read {
            Ok(bytes) if bytes.is_empty() => Input::End,
            Ok(bytes) => Input::Bytes(bytes),
            Err(error) => {
                let why = "give the launcher a file or a pipe that can be read, or leave --interactive out";
                self.failure = Some(format!("cannot read standard input: {error}; {why}"));
                return Vec::new();
            }
        };
        self.handle(now, is_reachable, input)
    }

    /// The task's executor has told how far it is.
    pub fn told(&mut self, now: Time, is_reachable: bool, progress: StdinProgress) -> Vec<Part> {
        self.handle(now, is_reachable, Input::Told(progress))
    }

    /// The task runs.
    pub fn run(&mut self, now: Time, is_reachable: bool) -> Vec<Part> {
        self.handle(now, is_reachable, Input::Running)
    }

    /// [`Self::next_timeout`] has passed.
    pub fn tick(&mut self, now: Time, is_reachable: bool) -> Vec<Part> {
        self.handle(now, is_reachable, Input::Tick)
    }

    /// When to call [`Self::tick`] at the latest.
    pub fn next_timeout(&self) -> Option<Time> {
        self.sender.next_timeout()
    }

    /// Why the task must not go on: it does not get what it was to get.
    pub fn failure(&self) -> Option<String> {
        let failed = match self.sender.over() {
            Some(Over::Silent) => Some(NOT_TAKEN.to_owned()),
            Some(Over::Lost) => Some(LOST.to_owned()),
            Some(Over::Complete | Over::Closed) | None => None,
        };
        failed.or_else(|| self.failure.clone())
    }

    /// Why the end of the task is none that counts, although it has run. `is_taken`: its executor says that the container got
    /// input.
    pub fn failure_at_end(&self, is_taken: bool) -> Option<String> {
        let is_proper = is_taken || matches!(self.sender.over(), Some(Over::Complete | Over::Closed));
        let why = if self.sender.is_flowing() { LOST } else { NOT_TAKEN };
        self.failure().or_else(|| (!is_proper).then(|| why.to_owned()))
    }

    fn handle(&mut self, now: Time, is_reachable: bool, input: Input) -> Vec<Part> {
        self.sender.handle(now, is_reachable, input)
    }
}

/// A thread of its own: a read from a terminal or a pipe may take for ever, and then ends with the process.
fn start_reader() -> mpsc::Receiver<Read1> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let failed = sender.clone();
    let spawned = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut stdin = match rustix::stdio::stdin().as_fd().try_clone_to_owned() {
            Ok(stdin) => File::from(stdin),
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        loop {
            let read = read_some(&mut stdin);
            let is_over = !matches!(&read, Ok(bytes) if !bytes.is_empty());
            // Nobody listens when the launch is over.
            if sender.blocking_send(read).is_err() || is_over {
                return;
            }
        }
    });
    if let Err(error) = spawned {
        // The channel is new and has room.
        let _ = failed.try_send(Err(error));
    }
    receiver
}

fn read_some(stdin: &mut File) -> Read1 {
    let mut bytes = vec![0; READ_BYTES];
    loop {
        match stdin.read(&mut bytes) {
            Ok(length) => {
                bytes.truncate(length);
                return Ok(bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody who has the same pipe wants it so.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(stdin, PollFlags::IN)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
}

const READ_BYTES: usize = 128 << 10;
const READ_AHEAD: usize = 2;
const NOT_TAKEN: &str = "the task's executor takes no standard input; only this project's does: run docker-containerizer, or \
                         mesos-docker-executor of this project and version, on the agent, or leave --interactive out";
const LOST: &str =
    "the task's standard input broke off: its executor or the agent's Docker engine was restarted; launch it again";
