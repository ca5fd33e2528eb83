//! A container from the outside: what its owner can be told, what it tells, and why it ended. PURE.
//!
//! The owner (`supervisor`) prepares at once: image, create, attach. It starts the container only when told, so that a task
//! that is killed before its agent hands it over never runs.
//!
//! ```text
//! preparing --Start--> starting --> running --> ended
//!     `----------- Stop, or a failure ------------^
//! ```

use std::time::Duration;

use proto::record::PullProgress;
use serde::{Deserialize, Serialize};

/// What the owner of a container is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Start it as soon as it is prepared.
    Start,
    /// SIGTERM (or the container's own stop signal), then SIGKILL after `grace`. May be repeated: the shortest grace wins.
    Stop {
        /// From now.
        grace: Duration,
    },
    /// This signal, by its number, once; only to a container that runs.
    Signal(i32),
    /// The next part of its standard input, for a container that was made to have one.
    Stdin(StdinPart),
}

/// A part of a container's standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StdinPart {
    /// The next bytes.
    Bytes(Vec<u8>),
    /// There are no more.
    End,
}

/// What the owner of a container tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The image is on its way.
    Pulling(PullProgress),
    /// The container runs.
    Started(Started),
    /// Output is in the sandbox after a silence of a second or longer.
    OutputAgain,
    /// The container took so many bytes more of its standard input.
    StdinTaken(u64),
    /// The container has got the end of its standard input, or takes no more of it.
    StdinOver,
    /// The engine went away with the container's standard input: what the container has got of it, and its end, came from nobody.
    StdinLost,
    /// The container is gone, or never came; its output is complete in the sandbox. Nothing follows.
    Ended(Ending),
}

/// What is known of a running container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Started {
    /// The engine's id.
    pub docker_id: String,
    /// The engine's id of the image.
    pub image_id: Option<String>,
    /// Of its first process, on the host.
    pub pid: Option<u32>,
    /// Its address, where it has one of its own.
    pub ip_address: Option<String>,
    /// Seconds since the epoch.
    pub started_at: f64,
    /// What `docker inspect` prints, where the owner was asked for it.
    #[serde(skip)]
    pub inspection: Option<String>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// Why.
    pub cause: Cause,
    /// Whether `Command::Stop` came before the end.
    pub was_stopped: bool,
    /// What was known while it ran; `None` when it never ran.
    pub started: Option<Started>,
    /// Seconds since the epoch.
    pub finished_at: f64,
    /// Bytes in the sandbox's stdout; `None`: not known, so that a reader must look for himself.
    pub stdout_bytes: Option<u64>,
    /// Bytes in the sandbox's stderr.
    pub stderr_bytes: Option<u64>,
    /// Bytes of output that did not get into the sandbox; `None`: not known.
    pub lost_bytes: Option<u64>,
}

impl Ending {
    /// What happened beside the end, in a few words for a user: a want of memory, output that the sandbox does not have.
    pub fn remarks(&self) -> Option<String> {
        let lost = match self.lost_bytes {
            Some(0) => None,
            Some(bytes) => Some(format!("bytes lost: {bytes}")),
            // Where not even the end is known, that says it all.
            None => {
                let is_known = matches!(self.cause, Cause::Exited { .. } | Cause::OutOfMemory { .. });
                self.started.as_ref().filter(|_| is_known).map(|_| "bytes lost: not known".to_owned())
            }
        };
        let remarks: Vec<String> = self.cause.memory_text().into_iter().chain(lost).collect();
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }
}

/// Why a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// By itself or by a signal, as the engine reports it: 0 to 255, 128+n for signal n.
    Exited {
        /// The engine's exit code.
        code: i32,
    },
    /// The kernel ended it, or a process of it, for want of memory.
    OutOfMemory {
        /// The engine's exit code.
        code: i32,
        /// The limit in bytes; 0 without one.
        limit_bytes: u64,
        /// The most that was in use, where the kernel tells.
        #[serde(default)]
        peak_bytes: Option<u64>,
        /// Whose want.
        #[serde(default)]
        shortage: Shortage,
    },
    /// It never ran; the text says what was attempted, on what, why, and what to do.
    NotStarted {
        /// For `TaskStatus.message`.
        message: String,
    },
    /// It ended, and nobody knows how: never taken for success.
    Unknown {
        /// For `TaskStatus.message`.
        message: String,
    },
}

impl Cause {
    /// What a want of memory did, in a few words for a user; `None` for another cause.
    pub fn memory_text(&self) -> Option<String> {
        let Self::OutOfMemory { limit_bytes, peak_bytes, shortage, .. } = self else { return None };
        let peak = peak_bytes.map(|bytes| format!(" (peak {:.1} MB)", bytes as f64 / MEGABYTE as f64));
        let peak = peak.unwrap_or_default();
        let limit = if limit_bytes.is_multiple_of(MEGABYTE) {
            format!("{} MB", limit_bytes / MEGABYTE)
        } else {
            format!("{limit_bytes} bytes")
        };
        Some(match shortage {
            Shortage::OwnLimit => format!("killed: memory limit {limit} reached{peak}"),
            Shortage::OwnLimitOfChild => format!("a child process was killed: memory limit {limit} reached{peak}"),
            Shortage::Host if *limit_bytes == 0 => format!("killed: the host ran out of memory{peak}"),
            Shortage::Host => format!("killed: the host ran out of memory, memory limit {limit} not reached{peak}"),
        })
    }
}

/// Who had too little memory, and who died of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shortage {
    /// The container reached its limit and was killed.
    #[default]
    OwnLimit,
    /// It reached its limit, and a process of it was killed that was not the one whose code is the container's.
    OwnLimitOfChild,
    /// The host had no memory left, and the kernel chose this container.
    Host,
}

const MEGABYTE: u64 = 1 << 20;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn three_wants_of_memory_have_three_lines() {
        let text = |limit_bytes, peak_bytes, shortage| {
            Cause::OutOfMemory { code: 137, limit_bytes, peak_bytes, shortage }.memory_text().unwrap()
        };
        let peak = Some((256 << 20) - 100_000);
        assert_eq!(text(256 << 20, peak, Shortage::OwnLimit), "killed: memory limit 256 MB reached (peak 255.9 MB)");
        assert_eq!(
            text(256 << 20, peak, Shortage::OwnLimitOfChild),
            "a child process was killed: memory limit 256 MB reached (peak 255.9 MB)"
        );
        assert_eq!(
            text(256 << 20, Some(100 << 20), Shortage::Host),
            "killed: the host ran out of memory, memory limit 256 MB not reached (peak 100.0 MB)"
        );
        assert_eq!(text(0, None, Shortage::Host), "killed: the host ran out of memory");
        assert_eq!(text(1, None, Shortage::OwnLimit), "killed: memory limit 1 bytes reached");
        assert_eq!(Cause::Exited { code: 137 }.memory_text(), None);
    }
}
