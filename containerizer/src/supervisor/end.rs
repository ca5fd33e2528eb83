//! Waiting for a container's end, and for the truth about it, with or without the engine.
//!
//! ```text
//!   engine: wait -----------------------------> its code
//!      | away                                     ^
//!      `-> inspect, again and again --------------'   a code without a time is one that the engine has lost
//!   kernel: the first process' end ------> what its memory group has counted, read before the group is gone
//!                                   `----> the engine has some time left to say the code; then it is not known
//! ```
//!
//! An end that nobody saw is never success.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::Instant;

use super::asks::Asks;
use super::output::Watched;
use crate::docker::{Engine, Inspection};
use crate::lifecycle::{Cause, Shortage};
use crate::memory_events::{MemoryEvents, Verdict};
use crate::process::Process;
use crate::usage::Cgroups;

/// A container that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running<'a> {
    pub(super) engine: &'a Engine,
    pub(super) docker_id: &'a str,
    pub(super) init: Option<&'a Process>,
    pub(super) cgroups: Option<&'a Cgroups>,
    pub(super) stop_signal: &'a str,
}

/// How the engine, or its absence, reported the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Exit {
    /// Its own answer to our waiting.
    Code(i64),
    /// It was away meanwhile, or we were, and it said this later.
    CodeAfterAbsence {
        code: i64,
        /// Whether it knows when that was.
        is_dated: bool,
        /// Whether it was the engine that was away.
        was_engine_away: bool,
    },
    /// It does not know the container any more.
    Removed,
    /// It did not answer, and the container's process is gone.
    EngineGone { error: String },
    /// The host was started anew while the container ran.
    Rebooted,
}

impl Exit {
    /// What the engine said after it was away.
    fn after_its_absence(found: &Inspection) -> Self {
        Self::of(found, true)
    }

    /// What the engine says of an end that we have missed.
    pub(super) fn after_ours(found: &Inspection) -> Self {
        Self::of(found, false)
    }

    fn of(found: &Inspection, was_engine_away: bool) -> Self {
        let code = found.exit_code.unwrap_or(0);
        Self::CodeAfterAbsence { code, is_dated: found.finished_at.is_some(), was_engine_away }
    }
}

/// The end, and what the kernel counted until then.
#[derive(Debug)]
pub(super) struct End {
    pub(super) exit: Exit,
    pub(super) memory: Option<MemoryEvents>,
    /// Whether its output's end was seen, too.
    pub(super) watched: Watched,
    /// When its first process ended, where the kernel has told.
    pub(super) gone_at: Option<Instant>,
}

/// The first process' end.
#[derive(Debug, Clone)]
struct Gone {
    at: Instant,
    memory: Option<MemoryEvents>,
}

impl Running<'_> {
    /// Waits for the end, and hastens it as asked.
    pub(super) async fn until_end(self, asks: &mut Asks) -> End {
        let mut gone = match self.init {
            Some(init) => watch_process(init.clone(), self.cgroups.cloned()),
            None => watch::channel(None).1,
        };
        let mut end = std::pin::pin!(self.outlast());
        let mut is_told = false;
        let (exit, watched) = loop {
            let kill_at = asks.kill_at();
            if let Some(kill_at) = kill_at
                && !is_told
                && kill_at > Instant::now()
            {
                is_told = true;
                self.signal(self.stop_signal).await;
            }
            for number in asks.take_signals() {
                self.signal(&number.to_string()).await;
            }
            let gone_at = gone.borrow_and_update().as_ref().map(|gone| gone.at);
            let patience = if asks.is_stop_asked() { STOPPED_PATIENCE } else { ENGINE_ABSENCE_LIMIT };
            let give_up_at = gone_at.map(|at| at + patience);
            let now = Instant::now();
            tokio::select! {
                end = &mut end => break end,
                () = asks.next() => {}
                Ok(()) = gone.changed(), if gone_at.is_none() => {}
                () = tokio::time::sleep_until(give_up_at.unwrap_or(now)), if give_up_at.is_some() => {
                    break (Exit::EngineGone { error: "it did not say how in time".to_owned() }, Watched::Blindly);
                }
                () = tokio::time::sleep_until(kill_at.unwrap_or(now)), if kill_at.is_some() && gone_at.is_none() => {
                    self.signal("SIGKILL").await;
                    asks.killed();
                }
            }
        };
        let told = gone.borrow().as_ref().and_then(|gone| gone.memory);
        let gone_at = gone.borrow().as_ref().map(|gone| gone.at);
        // The engine may have been quicker than the kernel's news.
        End { exit, watched, gone_at, memory: told.or_else(|| self.cgroups.and_then(MemoryEvents::read)) }
    }

    /// Through the engine; without it where it does not take the signal.
    async fn signal(self, signal: &str) {
        let Err(error) = self.engine.signal(self.docker_id, signal).await else { return };
        tracing::error!(%error, signal, "the engine did not signal the container");
        let Some(init) = self.init else { return };
        match signal_number(signal) {
            Some(Signal::KILL) => kill(self.docker_id, init, self.cgroups),
            Some(signal) => {
                init.signal(signal);
            }
            None => {}
        }
    }

    /// Waits for the engine's word through absences of it.
    async fn outlast(self) -> (Exit, Watched) {
        match self.engine.wait(self.docker_id).await {
            Ok(code) => return (Exit::Code(code), Watched::Throughout),
            Err(error) => tracing::warn!(%error, "the engine went away"),
        }
        // What ends while the engine is away says its last words to nobody.
        let mut watched = Watched::Blindly;
        let mut away_since = Instant::now();
        loop {
            let error = match self.engine.inspect(self.docker_id).await {
                Ok(None) => return (Exit::Removed, watched),
                Ok(Some(found)) if !found.is_running => return (Exit::after_its_absence(&found), watched),
                Ok(Some(_)) => {
                    watched = Watched::WithGaps;
                    // Its code is judged by what it says when it has said it.
                    let waited = self.engine.wait(self.docker_id).await;
                    away_since = Instant::now();
                    match waited {
                        Ok(_) => continue,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            tracing::warn!(%error, "the engine is away");
            watched = Watched::Blindly;
            // Where the first process is known, its end counts.
            if self.init.is_none() && away_since.elapsed() > ENGINE_ABSENCE_LIMIT {
                return (Exit::EngineGone { error: error.to_string() }, watched);
            }
            tokio::time::sleep(ENGINE_RETRY).await;
        }
    }
}

/// Tells the end of a process, with what its memory group says at that moment: the engine removes the group soon after. A
/// thread does it, which neither waits for its turn nor is waited for: it ends with the process, or with ours.
fn watch_process(init: Process, cgroups: Option<Cgroups>) -> watch::Receiver<Option<Gone>> {
    let (tell, gone) = watch::channel(None);
    let watching = move || {
        match init.open() {
            Some(descriptor) => {
                while let Err(Errno::INTR) = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None) {}
            }
            // A kernel without descriptors of processes, or it has ended.
            None => {
                while init.is_alive() {
                    std::thread::sleep(PROCESS_LOOK);
                }
            }
        }
        let memory = cgroups.as_ref().and_then(MemoryEvents::read);
        // Whoever does not listen knows the end.
        let _ = tell.send(Some(Gone { at: Instant::now(), memory }));
    };
    if let Err(error) = std::thread::Builder::new().spawn(watching) {
        tracing::error!(%error, "only the engine can tell the container's end");
    }
    gone
}

/// SIGKILL without the engine, to the first process, whose end is that of all in its namespace, and to all of its group.
pub(crate) fn kill(docker_id: &str, init: &Process, cgroups: Option<&Cgroups>) {
    if !init.is_of_this_boot() {
        return;
    }
    init.signal(Signal::KILL);
    if let Some(cgroups) = cgroups {
        cgroups.kill_all(docker_id);
    }
}

fn signal_number(name: &str) -> Option<Signal> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    let known = [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("KILL", Signal::KILL),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("TERM", Signal::TERM),
        ("WINCH", Signal::WINCH),
    ];
    known.into_iter().find(|(known, _)| *known == name).map(|(_, signal)| signal)
}

/// Why it ended, by what engine and kernel say.
pub(super) fn cause(end: &End, inspection: &Inspection, memory_limit_bytes: Option<i64>) -> Cause {
    let code = match &end.exit {
        Exit::Code(code) => *code,
        // An engine that was killed reports 0 for containers that it lost, but does not know when they ended.
        Exit::CodeAfterAbsence { code: 0, is_dated: false, .. } => {
            return unknown("the Docker engine was away when the container ended, and does not know its exit code");
        }
        // So it calls an end that nobody has heard of: the container's shim was killed, too.
        Exit::CodeAfterAbsence { code: UNHEARD, was_engine_away: true, .. } => {
            return unknown(
                "the Docker engine was away when the container ended, and says 255, which it also says where nobody has heard the code",
            );
        }
        Exit::CodeAfterAbsence { code, .. } => *code,
        Exit::Removed => return unknown("the container was removed while it ran, not by its containerizer"),
        Exit::EngineGone { error } => {
            return unknown(&format!("the container ended while the Docker engine was away: {error}"));
        }
        Exit::Rebooted => {
            return unknown("the host was started anew while the container ran, and its exit code is not known");
        }
    };
    let code = i32::try_from(code).unwrap_or(i32::MAX);
    let limit_bytes = memory_limit_bytes.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
    let counted = end.memory.map(|memory| (memory.verdict(), memory.limit_bytes, memory.peak_bytes));
    match (counted, limit_bytes) {
        (Some((Verdict::Enough, ..)), _) => Cause::Exited { code },
        (Some((verdict, limit, peak_bytes)), given) => {
            let shortage = match verdict {
                Verdict::Host => Shortage::Host,
                _ if code == KILLED => Shortage::OwnLimit,
                _ => Shortage::OwnLimitOfChild,
            };
            let limit_bytes = given.or(limit).unwrap_or(0);
            Cause::OutOfMemory { code, limit_bytes, peak_bytes, shortage }
        }
        // The group was gone too soon: the engine has looked, too.
        (None, Some(limit_bytes)) if inspection.is_oom_killed && code != 0 => {
            Cause::OutOfMemory { code, limit_bytes, peak_bytes: None, shortage: Shortage::OwnLimit }
        }
        (None, _) => Cause::Exited { code },
    }
}

fn unknown(message: &str) -> Cause {
    Cause::Unknown { message: message.to_owned() }
}

/// What the engine makes of an end without a code.
const UNHEARD: i64 = 255;
/// What the engine makes of a death by SIGKILL.
const KILLED: i32 = 137;
pub(super) const ENGINE_RETRY: Duration = Duration::from_millis(500);
/// An engine that is restarted is back within seconds.
pub(super) const ENGINE_ABSENCE_LIMIT: Duration = Duration::from_secs(60);
/// Whoever stops a container waits for its end.
pub(super) const STOPPED_PATIENCE: Duration = Duration::from_secs(3);
const PROCESS_LOOK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn of(exit: Exit, memory: Option<MemoryEvents>, inspection: &Inspection, limit: Option<i64>) -> Cause {
        cause(&End { exit, memory, watched: Watched::WithGaps, gone_at: None }, inspection, limit)
    }

    #[test]
    fn the_end_reads_as_the_engine_knows_it() {
        let fine = Inspection::default();
        let after = |code, is_dated| Exit::CodeAfterAbsence { code, is_dated, was_engine_away: true };
        assert_eq!(of(Exit::Code(3), None, &fine, Some(1)), Cause::Exited { code: 3 });
        assert_eq!(of(after(137, false), None, &fine, None), Cause::Exited { code: 137 });
        assert_eq!(of(after(0, true), None, &fine, None), Cause::Exited { code: 0 });
        let ours = Exit::CodeAfterAbsence { code: 255, is_dated: true, was_engine_away: false };
        assert_eq!(of(ours, None, &fine, None), Cause::Exited { code: 255 });
    }

    #[test]
    fn an_end_that_nobody_saw_is_never_success() {
        let lost = Exit::CodeAfterAbsence { code: 0, is_dated: false, was_engine_away: false };
        let unheard = Exit::CodeAfterAbsence { code: 255, is_dated: true, was_engine_away: true };
        for exit in [lost, unheard, Exit::Removed, Exit::Rebooted, Exit::EngineGone { error: "e".into() }] {
            assert!(matches!(of(exit, None, &Inspection::default(), None), Cause::Unknown { .. }));
        }
    }

    #[test]
    fn the_kernels_count_tells_who_ran_out_of_memory() {
        let events = |kills, limit_hits, peak| MemoryEvents {
            oom_kills: kills,
            limit_hits,
            limit_bytes: Some(64),
            peak_bytes: Some(peak),
        };
        let fine = Inspection::default();
        let shortage = |code, events| match of(Exit::Code(code), Some(events), &fine, Some(64)) {
            Cause::OutOfMemory { shortage, peak_bytes: Some(_), limit_bytes: 64, .. } => Some(shortage),
            _ => None,
        };
        assert_eq!(shortage(137, events(1, 3, 64)), Some(Shortage::OwnLimit));
        assert_eq!(shortage(0, events(1, 3, 64)), Some(Shortage::OwnLimitOfChild));
        assert_eq!(shortage(137, events(1, 0, 20)), Some(Shortage::Host));
        // The limit was reached and something was given back: nobody died of it.
        assert_eq!(shortage(137, events(0, 3, 64)), None);
    }

    #[test]
    fn without_the_kernels_count_the_engines_flag_counts() {
        let starved = Inspection { is_oom_killed: true, ..Inspection::default() };
        let shortage = Shortage::OwnLimit;
        let killed = Cause::OutOfMemory { code: 137, limit_bytes: 64, peak_bytes: None, shortage };
        assert_eq!(of(Exit::Code(137), None, &starved, Some(64)), killed);
        assert_eq!(of(Exit::Code(0), None, &starved, Some(64)), Cause::Exited { code: 0 });
    }
}
