//! `launch`: leaves a supervisor behind that owns the container, and returns at once.
//!
//! What is wrong is no failure of `launch`, whether it is the task (no image, an unknown parameter) or this host (no
//! sandbox, an environment that is no executor's): `wait` tells it as the container's end, with its words, where a slave
//! would only say that its containerizer failed, and a slave 0.19 would keep the task staging for ever.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::ecp;

use super::{Context, Problem};
use crate::lifecycle::{Cause, Ending};
use crate::store::{ContainerId, Ended, State, StateDirectory, StoreError};
use crate::supervisor;

pub(super) fn run(context: &Context<'_>, id: &ContainerId, launch: &ecp::Launch) -> Result<(), Problem> {
    let directory = match context.store.create(id, launch, context.environment) {
        Ok(directory) => directory,
        // The one that runs has its own end.
        Err(StoreError::Exists) => return Err(StoreError::Exists.into()),
        Err(error) => return unless_early(context, id, error.into()),
    };
    let sandbox = Path::new(launch.directory());
    let started = if sandbox.is_dir() {
        supervisor::start(directory.path(), sandbox).map_err(Problem::from)
    } else {
        Err(Problem::NoSandbox { path: sandbox.to_owned() })
    };
    let Err(problem) = started else { return Ok(()) };
    match record(&directory, &problem) {
        Ok(()) => {
            say(id, &problem);
            Ok(())
        }
        Err(_) => {
            // Nothing owns it; what cannot be removed now is by the next recovery.
            let _ = directory.remove();
            unless_early(context, id, problem)
        }
    }
}

/// For `wait`. There is no executor who could tell, so it is not recorded as a command task's.
fn record(directory: &StateDirectory, problem: &Problem) -> Result<(), StoreError> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let ending = Ending {
        cause: Cause::NotStarted { message: format!("cannot start the container on {host}: {problem}") },
        was_stopped: false,
        started: None,
        finished_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        stdout_bytes: None,
        stderr_bytes: None,
        lost_bytes: None,
    };
    directory.write_state(&State { version: State::VERSION, ..State::default() })?;
    directory.write_result(&Ended { version: State::VERSION, ending })
}

/// Where even that cannot be recorded, slaves that may be 0.19 are told that all is well, so that they ask `wait`, which
/// fails. Others hear it at once; from 0.27 on their environment tells them apart.
fn unless_early(context: &Context<'_>, id: &ContainerId, problem: Problem) -> Result<(), Problem> {
    if context.environment.get("MESOS_AGENT_ENDPOINT").is_some() {
        return Err(problem);
    }
    say(id, &problem);
    Ok(())
}

/// Into the sandbox's `stderr`.
fn say(id: &ContainerId, problem: &Problem) {
    eprintln!("docker-containerizer cannot launch {id}: {problem}");
}
