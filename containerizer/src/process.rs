//! A process of this host that is known for certain: pids are used again, and a host may have been started anew.
//!
//! A pid alone is never signalled. With the boot's id and the process' start time beside it, it is known whether it still is
//! the same process; a pidfd then keeps it the same one.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process, for as long as anybody remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// On the host.
    pub pid: u32,
    /// Clock ticks since the boot.
    pub start_time: u64,
    /// Of the kernel that it ran on.
    pub boot_id: String,
}

impl Process {
    /// The process that has this pid now.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, start_time: start_time(pid)?, boot_id: boot_id()? })
    }

    /// Whether it is there; one that has ended and was not waited for yet counts as gone.
    pub fn is_alive(&self) -> bool {
        self.is_of_this_boot() && start_time(self.pid) == Some(self.start_time)
    }

    /// Whether the host has not been started anew since.
    pub fn is_of_this_boot(&self) -> bool {
        boot_id().as_ref() == Some(&self.boot_id)
    }

    /// A descriptor that becomes readable at its end; `None` when it has ended.
    pub fn open(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // What was opened may be a successor; what is the same now cannot become another.
        self.is_alive().then_some(descriptor)
    }

    /// Whether the signal was sent, or the process has ended.
    pub fn signal(&self, signal: Signal) -> bool {
        match self.open() {
            Some(process) => matches!(pidfd_send_signal(process, signal), Ok(()) | Err(rustix::io::Errno::SRCH)),
            None => !self.is_alive(),
        }
    }
}

/// When this host was started, in seconds since the epoch.
pub(crate) fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")).and_then(|seconds| seconds.trim().parse().ok())
}

fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

/// `None` for a process that is not there or has ended.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    parse_start_time(&stat)
}

/// A line is `PID (NAME) STATE PPID ...`, and a name may have blanks and parentheses.
fn parse_start_time(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // The 22nd of all, and the 3rd was the state.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_until_it_ends_and_its_successor_is_another() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.is_alive() && process.open().is_some());
        let successor = Process { start_time: process.start_time + 1, ..process.clone() };
        assert!(!successor.is_alive() && successor.open().is_none());
        // It is another process that has the pid, so nothing is done to it.
        assert!(successor.signal(Signal::KILL) && process.is_alive());
        let of_another_boot = Process { boot_id: "another".to_owned(), ..process.clone() };
        assert!(of_another_boot.signal(Signal::KILL) && process.is_alive());
        assert!(process.signal(Signal::KILL));
        child.wait().unwrap();
        assert!(!process.is_alive() && process.open().is_none() && Process::of(process.pid).is_none());
    }

    #[test]
    fn a_name_with_parentheses_hides_nothing() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        assert_eq!(parse_start_time(stat), Some(4242));
        assert_eq!(parse_start_time(&stat.replace(" S ", " Z ")), None);
        assert_eq!(parse_start_time(""), None);
    }

    #[test]
    fn the_host_was_started_in_the_past() {
        assert!(boot_time().unwrap() > 1e9);
    }
}
