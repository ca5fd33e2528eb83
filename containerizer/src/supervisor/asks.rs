//! What the supervisor is asked to do with its container, from whichever side.

use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::lifecycle::{Command, StdinPart};

/// Gathers the executor's commands and SIGTERM, which means the same as a stop without grace.
#[derive(Debug)]
pub(crate) struct Asks {
    /// `None` once the executor is gone; a container without one is stopped.
    commands: Option<mpsc::Receiver<Command>>,
    /// `None` where a SIGTERM is the executor's alone to act on.
    terminate: Option<Signal>,
    is_start_asked: bool,
    kill_at: Option<Instant>,
    signals: Vec<i32>,
    /// The executor holds a window of it back, so it is bounded.
    input: mpsc::UnboundedSender<StdinPart>,
    given: Option<mpsc::UnboundedReceiver<StdinPart>>,
}

impl Asks {
    pub(crate) fn new(commands: mpsc::Receiver<Command>, terminate: Option<Signal>) -> Self {
        let (input, given) = mpsc::unbounded_channel();
        Self {
            commands: Some(commands),
            terminate,
            is_start_asked: false,
            kill_at: None,
            signals: Vec::new(),
            input,
            given: Some(given),
        }
    }

    /// Waits for the next one and notes it. Cancel safe.
    pub(super) async fn next(&mut self) {
        let command = async {
            match &mut self.commands {
                Some(commands) => commands.recv().await,
                None => std::future::pending().await,
            }
        };
        let terminated = async {
            match &mut self.terminate {
                Some(terminate) => terminate.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = command => match command {
                Some(Command::Start) => self.is_start_asked = true,
                Some(Command::Stop { grace }) => self.stop_within(grace),
                Some(Command::Signal(number)) => self.signals.push(number),
                // For a container that takes none there is nobody at the other end.
                Some(Command::Stdin(part)) => drop(self.input.send(part)),
                None => {
                    self.commands = None;
                    self.stop_within(Duration::ZERO);
                }
            },
            _ = terminated => self.stop_within(Duration::ZERO),
        }
    }

    /// Waits until the container shall not start or not go on. Cancel safe.
    pub(crate) async fn stop(&mut self) {
        while !self.is_stop_asked() {
            self.next().await;
        }
    }

    /// Waits until the container shall start or shall not. Cancel safe.
    pub(super) async fn start_or_stop(&mut self) {
        while !self.is_start_asked && !self.is_stop_asked() {
            self.next().await;
        }
    }

    pub(super) fn is_stop_asked(&self) -> bool {
        self.kill_at.is_some()
    }

    /// When SIGKILL is due, from the first stop on: the shortest grace counts.
    pub(super) fn kill_at(&self) -> Option<Instant> {
        self.kill_at
    }

    /// The signals that are to be sent now, each once.
    pub(super) fn take_signals(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.signals)
    }

    /// What the container is to be given as its standard input; `None` the second time.
    pub(super) fn take_input(&mut self) -> Option<mpsc::UnboundedReceiver<StdinPart>> {
        self.given.take()
    }

    /// SIGKILL was sent; it is due again after a pause, should it get lost.
    pub(super) fn killed(&mut self) {
        self.kill_at = Some(Instant::now() + KILL_AGAIN);
    }

    fn stop_within(&mut self, grace: Duration) {
        let at = Instant::now() + grace.min(LONGEST_GRACE);
        self.kill_at = Some(self.kill_at.map_or(at, |before| before.min(at)));
    }
}

/// The engine may be away, and a process in the kernel's hands may take a while to die.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// Keeps the clock from overflowing.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::signal::unix::{SignalKind, signal};

    use super::*;

    fn asks() -> (mpsc::Sender<Command>, Asks) {
        let (sender, receiver) = mpsc::channel(8);
        (sender, Asks::new(receiver, Some(signal(SignalKind::terminate()).unwrap())))
    }

    #[tokio::test(start_paused = true)]
    async fn the_shortest_grace_wins() {
        let (sender, mut asks) = asks();
        let start = Instant::now();
        for seconds in [10, 3, 7] {
            sender.send(Command::Stop { grace: Duration::from_secs(seconds) }).await.unwrap();
            asks.next().await;
        }
        assert_eq!(asks.kill_at(), Some(start + Duration::from_secs(3)));
    }

    #[tokio::test]
    async fn a_start_is_remembered_while_a_stop_is_waited_for() {
        let (sender, mut asks) = asks();
        sender.send(Command::Start).await.unwrap();
        sender.send(Command::Stop { grace: Duration::ZERO }).await.unwrap();
        asks.stop().await;
        assert!(asks.is_start_asked && asks.is_stop_asked());
    }

    #[tokio::test]
    async fn an_executor_that_is_gone_means_stop() {
        let (sender, mut asks) = asks();
        drop(sender);
        asks.start_or_stop().await;
        assert!(asks.is_stop_asked());
    }
}
