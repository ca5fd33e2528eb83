//! `gc`: removes what nobody can ask for any more, and says what it removes and what it keeps.
//!
//! The slave's own `recover` and `wait` leave nothing behind in the ordinary course of things; this is for what is left when a
//! slave was taken out of service, an engine failed at the wrong moment, or a machine crashed. Whatever has a living
//! supervisor, runs, may still be waited for, or is younger than the grace stays. Only state directories and containers with
//! our labels and this work directory are ever touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::json;

use super::survey::{Container, Standing, Survey, container_id};
use super::{Answer, Format, OperatorError, table};
use crate::docker::{Engine, EngineError};
use crate::environment::Environment;
use crate::store::StoreError;

pub(super) async fn run(
    format: Format,
    work_directory: &Path,
    environment: &Environment,
    is_dry_run: bool,
    grace: Duration,
) -> Result<Answer, OperatorError> {
    let engine = Engine::connect(environment);
    let survey = Survey::make(work_directory, engine.as_ref().map_err(Clone::clone)).await?;
    let now = SystemTime::now();
    let mut lines = Vec::new();
    for container in &survey.containers {
        let decided = decide(container, survey.engine.is_ok(), now, grace);
        let done = match &decided {
            Decision::Remove { .. } if !is_dry_run => Some(remove(container, engine.as_ref().ok()).await),
            _ => None,
        };
        lines.push(Line::new(container.id.clone(), decided, done));
    }
    for path in &survey.leftovers {
        let decided = decide_leftover(path, now, grace);
        let done = match &decided {
            Decision::Remove { .. } if !is_dry_run => Some(remove_leftover(path)),
            _ => None,
        };
        lines.push(Line::new(path.display().to_string(), decided, done));
    }
    let notes =
        survey.engine.as_ref().err().map(|error| {
            format!("containers without supervisor are kept, for it is not known whether they run: {error}")
        });
    let is_fine = lines.iter().all(|line| line.error.is_none());
    let text = match format {
        Format::Text => text(&lines, is_dry_run),
        Format::Json => format!("{:#}\n", json!({ "dry_run": is_dry_run, "decisions": lines })),
    };
    Ok(Answer { text, notes: notes.into_iter().collect(), is_fine })
}

/// What becomes of something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    Keep { why: String },
    Remove { why: &'static str },
}

fn decide(container: &Container, is_engine_there: bool, now: SystemTime, grace: Duration) -> Decision {
    let keep = |why: &str| Decision::Keep { why: why.to_owned() };
    let why = match container.standing() {
        Standing::Preparing | Standing::Running | Standing::Ending => return keep("it has a supervisor"),
        Standing::Unowned => return keep("it runs; the slave's next recovery or wait gives it a new supervisor"),
        Standing::Forgotten if container.at_engine.as_ref().is_some_and(|at_engine| at_engine.is_alive()) => {
            return keep("it runs; the slave destroys it at its next start");
        }
        Standing::Forgotten => "its state directory is gone, and the slave cannot ask for it",
        Standing::Ended if container.has_sandbox() == Some(false) => {
            "it has ended, and the slave has removed its sandbox: nobody will ask how"
        }
        Standing::Ended => return keep("it has ended, and the slave may still ask how"),
        Standing::Lost if !is_engine_there => return keep("the engine does not say whether it runs"),
        Standing::Lost if container.has_sandbox() != Some(false) => {
            return keep("it is over, and the slave's next recovery or wait tells that nobody knows how");
        }
        Standing::Lost => "supervisor, container and sandbox are gone: nobody will ask how it ended",
    };
    match too_young(container.since(), now, grace) {
        Some(why) => Decision::Keep { why },
        None => Decision::Remove { why },
    }
}

fn decide_leftover(path: &Path, now: SystemTime, grace: Duration) -> Decision {
    let changed = fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(now);
    match too_young(changed, now, grace) {
        Some(why) => Decision::Keep { why },
        None => Decision::Remove { why: "an interrupted launch or destroy has left it" },
    }
}

fn too_young(since: SystemTime, now: SystemTime, grace: Duration) -> Option<String> {
    // What seems to come from the future is as young as can be.
    let age = now.duration_since(since).unwrap_or_default();
    let (age_text, grace_text) = (table::span(age.as_secs()), table::span(grace.as_secs()));
    (age < grace).then(|| format!("it is only {age_text} old, and --grace is {grace_text}"))
}

async fn remove(container: &Container, engine: Option<&Engine>) -> Result<(), GcError> {
    // Whoever would start to own it now is kept away.
    let _alone = match &container.remembered {
        Some(remembered) => Some(remembered.directory.lock()?),
        None => None,
    };
    if let (Some(at_engine), Some(engine)) = (&container.at_engine, engine) {
        engine.remove_if_ended(&at_engine.docker_id).await?;
    }
    if let (Some(remembered), Some(_)) = (&container.remembered, container_id(container)) {
        remembered.directory.remove()?;
    }
    Ok(())
}

fn remove_leftover(path: &Path) -> Result<(), GcError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|source| GcError::Leftover { path: path.to_owned(), source })
}

#[derive(Debug, thiserror::Error)]
enum GcError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("cannot remove {}: {source}", path.display())]
    Leftover { path: PathBuf, source: std::io::Error },
}

/// What is said about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    what: String,
    is_removed: bool,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Line {
    fn new(what: String, decision: Decision, done: Option<Result<(), GcError>>) -> Self {
        let (is_removed, why) = match decision {
            Decision::Keep { why } => (false, why),
            Decision::Remove { why } => (true, why.to_owned()),
        };
        let error = done.and_then(Result::err).map(|error| error.to_string());
        Self { what, is_removed: is_removed && error.is_none(), why, error }
    }
}

fn text(lines: &[Line], is_dry_run: bool) -> String {
    let removed = if is_dry_run { "would remove" } else { "removed" };
    let row = |line: &Line| {
        let (word, why) = match (&line.error, line.is_removed) {
            (Some(error), _) => ("FAILED", error.as_str()),
            (None, true) => (removed, line.why.as_str()),
            (None, false) => ("kept", line.why.as_str()),
        };
        vec![word.to_owned(), line.what.clone(), why.to_owned()]
    };
    if lines.is_empty() {
        return "nothing of ours is here\n".to_owned();
    }
    let rows: Vec<_> = lines.iter().map(row).collect();
    let count = lines.iter().filter(|line| line.is_removed).count();
    let table = table::text(&["WHAT BECAME", "OF", "WHY"], &rows);
    format!("{table}{removed} {count} of {}\n", lines.len())
}

#[cfg(test)]
mod tests;
