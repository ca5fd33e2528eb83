//! `destroy`: ends a container and forgets it. May come twice, and for a container that nobody knows.

use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::{Context, Problem, block_on};
use crate::config::Config;
use crate::hooks::Hook;
use crate::store::{ContainerId, StateDirectory};

pub(super) fn run(context: &Context<'_>, id: &ContainerId) -> Result<(), Problem> {
    let directory = context.store.container(id);
    let is_removed = directory.exists() && {
        stop_supervisor(&directory)?;
        // What a supervisor recorded of its end tells whether it could remove the container.
        let has_ended = directory.result().is_ok_and(|result| result.is_some());
        has_ended && directory.state().is_ok_and(|state| state.is_some_and(|state| state.docker_id.is_none()))
    };
    if !is_removed {
        block_on(async {
            let engine = context.engine()?;
            for ours in engine.list_ours(&context.work_directory_label(), Some(id)).await? {
                engine.remove(&ours.docker_id).await?;
            }
            hook(context, &directory).await;
            Ok(())
        })?;
    }
    Ok(directory.remove()?)
}

/// Where the supervisor could not run it.
async fn hook(context: &Context<'_>, directory: &StateDirectory) {
    let is_due = directory.state().is_ok_and(|state| state.is_some_and(|state| state.is_hooked));
    let Some(launch) = is_due.then(|| directory.launch().ok()).flatten() else { return };
    let ran = match Config::load(context.environment) {
        Ok(config) => Hook::Destroy.run(&launch, &config).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = ran {
        eprintln!("docker-containerizer: the container is destroyed, but: {error}");
    }
}

/// Has the supervisor end its container and itself, and ends it where it does not.
fn stop_supervisor(directory: &StateDirectory) -> Result<(), Problem> {
    for (signal, limit) in [(Signal::TERM, TERMINATED_LIMIT), (Signal::KILL, KILLED_LIMIT)] {
        let Some(pid) = directory.owner()? else { return Ok(()) };
        send(directory, pid, signal)?;
        if directory.wait_until_released(Some(limit))? {
            return Ok(());
        }
    }
    Ok(())
}

/// Only to the process that holds the lock: pids are used again.
fn send(directory: &StateDirectory, pid: Pid, signal: Signal) -> Result<(), Problem> {
    let sent = match pidfd_open(pid, PidfdFlags::empty()) {
        // It may have ended and been replaced before it was opened.
        Ok(_) if directory.owner()? != Some(pid) => return Ok(()),
        Ok(process) => pidfd_send_signal(process, signal),
        // Kernels before 5.3 have none.
        Err(rustix::io::Errno::NOSYS) => kill_process(pid, signal),
        Err(error) => Err(error),
    };
    match sent {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(Problem::Supervisor { pid: pid.as_raw_nonzero().get(), source: error.into() }),
    }
}

/// The supervisor kills the container, tells the agent and removes the container: each may take some seconds.
const TERMINATED_LIMIT: Duration = Duration::from_secs(20);
const KILLED_LIMIT: Duration = Duration::from_secs(5);
