//! What an owner does first when it is not the first: it looks where the one before it has left the container.
//!
//! ```text
//!   nothing there, nothing started ----> as if it were the first
//!   created ---------------------------> attach, start
//!   running ---------------------------> watch; the output goes on with the next byte
//!   ended, gone, or the host was rebooted -> its end, as far as it is known
//! ```

use tokio::time::Instant;

use super::asks::Asks;
use super::end::{ENGINE_ABSENCE_LIMIT, ENGINE_RETRY, End, Exit, STOPPED_PATIENCE, kill};
use super::output::{Begin, Watched};
use super::owner::{Lived, Owner};
use crate::docker::{Engine, EngineError, Inspection};
use crate::process;
use crate::spec;
use crate::store::ContainerId;

/// What an owner that was killed has left.
pub(super) enum Left {
    /// No container, and none was started.
    Nothing,
    /// A container that was never started.
    Prepared(String),
    /// A container that runs.
    Running(Box<Inspection>),
    /// A container that has ended, or is lost.
    Ended(Exit, Box<Inspection>),
}

impl Owner {
    /// Looks for the container of the owner before us, as long as it takes: while the engine is away, nobody knows.
    pub(super) async fn find_left(&mut self, engine: &Engine, asks: &mut Asks) -> Left {
        self.has_tried_to_create = true;
        let begin = Instant::now();
        loop {
            let patience = if asks.is_stop_asked() { STOPPED_PATIENCE } else { ENGINE_ABSENCE_LIMIT };
            let found = tokio::select! {
                found = tokio::time::timeout(patience, self.try_find_left(engine)) => found,
                () = asks.stop(), if !asks.is_stop_asked() => continue,
            };
            let reason = match found {
                Ok(Ok(left)) => return left,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it does not answer".to_owned(),
            };
            tracing::warn!(reason, "the engine does not say what became of the container");
            let init = self.state.init.as_ref().filter(|init| init.is_alive());
            if asks.is_stop_asked()
                && let (Some(docker_id), Some(init)) = (&self.state.docker_id, init)
            {
                kill(docker_id, init, self.state.cgroups.as_ref());
            }
            if init.is_none() && self.state.has_tried_to_start && begin.elapsed() > patience {
                return Left::Ended(Exit::EngineGone { error: reason }, Box::default());
            }
            tokio::select! {
                () = asks.next() => {}
                () = tokio::time::sleep(ENGINE_RETRY) => {}
            }
        }
    }

    async fn try_find_left(&mut self, engine: &Engine) -> Result<Left, EngineError> {
        let mut found = match &self.state.docker_id {
            Some(docker_id) => engine.inspect(docker_id).await?,
            None => None,
        };
        if found.is_none() {
            // Its creation may not have been recorded. Of several only one can be it; none is left to itself.
            for docker_id in self.list_left(engine).await? {
                let Some(other) = engine.inspect(&docker_id).await? else { continue };
                match &found {
                    None => found = Some(other),
                    Some(_) => engine.remove(&docker_id).await?,
                }
            }
        }
        let Some(found) = found else {
            let is_lost = self.state.has_tried_to_start;
            return Ok(if is_lost { Left::Ended(Exit::Removed, Box::default()) } else { Left::Nothing });
        };
        if self.state.docker_id.as_ref() != Some(&found.id) {
            self.state.docker_id = Some(found.id.clone());
            if self.record().is_err() {
                tracing::error!("the container that was found is not recorded");
            }
        }
        if found.is_running {
            return Ok(Left::Running(Box::new(found)));
        }
        if !found.has_started {
            return Ok(Left::Prepared(found.id));
        }
        let was_rebooted = self.state.init.as_ref().is_some_and(|init| !init.is_of_this_boot());
        let ended_before = found.finished_at.as_deref().and_then(epoch_of).zip(process::boot_time());
        let is_known = ended_before.is_some_and(|(finished, booted)| finished < booted);
        let exit = if was_rebooted && !is_known { Exit::Rebooted } else { Exit::after_ours(&found) };
        Ok(Left::Ended(exit, Box::new(found)))
    }

    async fn list_left(&self, engine: &Engine) -> Result<Vec<String>, EngineError> {
        let work_directory = self.environment.work_directory().unwrap_or_default();
        let Ok(id) = ContainerId::parse(&self.launch.container_id.value) else { return Ok(Vec::new()) };
        let ours = engine.list_ours(&spec::work_directory_label(&work_directory), Some(&id)).await?;
        Ok(ours.into_iter().map(|ours| ours.docker_id).collect())
    }

    /// Goes on with a container that runs.
    pub(super) async fn watch_on(&mut self, engine: &Engine, found: &Inspection, asks: &mut Asks) -> Lived {
        tracing::info!(docker_id = found.id, "the container runs, and has an owner again");
        // A container that is not watched is worse than one whose output is not whole.
        let flow = match self.flow(&found.id, Begin::Resume).await {
            Ok(flow) => Some(flow),
            Err(error) => {
                tracing::error!(%error, "the output does not go on");
                None
            }
        };
        self.watch(engine, found.clone(), flow, asks).await
    }

    /// What is to be said of a container that ended while nobody owned it.
    pub(super) async fn report_end(&mut self, engine: &Engine, exit: Exit, found: &Inspection) -> Lived {
        let started = self.state.started.clone().unwrap_or_default();
        let flow = if found.id.is_empty() { None } else { self.flow(&found.id, Begin::Resume).await.ok() };
        let end = End { exit, memory: None, watched: Watched::WithGaps, gone_at: None };
        self.conclude(engine, end, Some(found.clone()), flow, started).await
    }
}

/// Seconds since the epoch of an RFC 3339 time in UTC, whole ones; `None` for anything else.
fn epoch_of(time: &str) -> Option<f64> {
    let (date, clock) = time.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|number| number.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut clock = clock.get(..8)?.splitn(3, ':').map(|number| number.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Years that begin with March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - DAYS_TO_EPOCH;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) as f64)
}

/// From the first of March of the year 0.
const DAYS_TO_EPOCH: i64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_times_are_read() {
        assert_eq!(epoch_of("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(epoch_of("2024-02-29T12:34:56.789012345Z"), Some(1_709_210_096.0));
        assert_eq!(epoch_of("2026-11-25T10:30:00Z"), Some(1_795_602_600.0));
        assert_eq!(epoch_of("yesterday"), None);
    }
}
