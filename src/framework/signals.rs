//! The signals that ask the launcher to end, and those that it passes on to the task.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGHUP, SIGINT and SIGTERM, as a source of events; without those that were ignored when the launcher was started, as by
/// `nohup` and by shells for their background jobs.
#[derive(Debug)]
pub struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hang_up: Option<Signal>,
    seen: u32,
    passed_on: Vec<(u8, Signal)>,
}

/// What `--signal-proxy` passes on: SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM and SIGWINCH. SIGINT and SIGTERM end the task
/// anyway.
const PASSED_ON: [u8; 6] = [1, 3, 10, 12, 14, 28];

/// A signal has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The launcher is asked to end.
    End(u8),
    /// It is for the task.
    PassOn(u8),
}

impl Signals {
    /// From here on these signals do not end the process.
    ///
    /// # Errors
    /// The system refuses a handler, or does not show this process's status.
    pub fn new() -> std::io::Result<Self> {
        let ignored = ignored_signals(&std::fs::read_to_string("/proc/self/status")?);
        let listen = |kind: SignalKind| {
            let is_ignored = ignored >> (kind.as_raw_value() - 1) & 1 == 1;
            if is_ignored { Ok(None) } else { signal(kind).map(Some) }
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            seen: 0,
            passed_on: Vec::new(),
        })
    }

    /// From here on those of `--signal-proxy` are for the task, SIGHUP too.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn pass_on(&mut self) -> std::io::Result<()> {
        self.hang_up = None;
        for number in PASSED_ON {
            self.passed_on.push((number, signal(SignalKind::from_raw(number.into()))?));
        }
        Ok(())
    }

    /// The next one. Cancel safe.
    pub async fn received(&mut self) -> Received {
        let Self { interrupt, terminate, hang_up, seen, passed_on } = self;
        let number = tokio::select! {
            number = any_of(passed_on) => return Received::PassOn(number),
            () = received(interrupt) => 2,
            () = received(terminate) => 15,
            () = received(hang_up) => 1,
        };
        *seen += 1;
        Received::End(number)
    }

    /// The number of the next one that asks to end. Cancel safe.
    pub async fn next(&mut self) -> u8 {
        let number = tokio::select! {
            () = received(&mut self.interrupt) => 2,
            () = received(&mut self.terminate) => 15,
            () = received(&mut self.hang_up) => 1,
        };
        self.seen += 1;
        number
    }

    /// How many have come.
    pub fn seen(&self) -> u32 {
        self.seen
    }
}

async fn any_of(signals: &mut [(u8, Signal)]) -> u8 {
    std::future::poll_fn(|context| {
        for (number, signal) in signals.iter_mut() {
            if signal.poll_recv(context) == std::task::Poll::Ready(Some(())) {
                return std::task::Poll::Ready(*number);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

async fn received(signal: &mut Option<Signal>) {
    let Some(signal) = signal else { return pending().await };
    if signal.recv().await.is_none() {
        pending::<()>().await;
    }
}

/// Bit n-1 for signal n, from the line SigIgn of a process's status; none where there is no such line.
fn ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ignored_is_read_from_the_status() {
        assert_eq!(ignored_signals("Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n"), 0x1001);
        assert_eq!(ignored_signals("Name:\tx\n"), 0);
        assert_eq!(ignored_signals("SigIgn:\tzz\n"), 0);
    }
}
