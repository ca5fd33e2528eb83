//! `destroy`: ends a container and forgets it. May come twice, and for a container that nobody knows.
//!
//! Its supervisor ends it, with the engine or without: an engine that hangs costs seconds. Where there is no supervisor, or none
//! that ends, that is done here.

use std::time::Duration;

use proto::ecp::Launch;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::{Context, Problem, block_on};
use crate::config::Config;
use crate::hooks::Hook;
use crate::store::{ContainerId, StateDirectory};

pub(super) fn run(context: &Context<'_>, id: &ContainerId) -> Result<(), Problem> {
    let directory = context.store.container(id);
    if directory.is_forgotten() {
        // An earlier one has left only the removal to do, and that is being done or comes with the next recovery.
        return Ok(());
    }
    if directory.exists() {
        stop_supervisor(&directory)?;
    }
    let hooked = hooked(&directory);
    context.let_go(id, &directory)?;
    if let Some(launch) = hooked {
        run_hook(context, &launch);
    }
    Ok(())
}

/// Its message, where the supervisor was to run a destroy hook and could not.
fn hooked(directory: &StateDirectory) -> Option<Launch> {
    let state = directory.state().ok().flatten()?;
    state.is_hooked.then(|| directory.launch().ok()).flatten()
}

fn run_hook(context: &Context<'_>, launch: &Launch) {
    let ran = match Config::load(context.environment) {
        Ok(config) => {
            block_on(async { Ok(Hook::Destroy.run(launch, &config).await.map_err(|error| error.to_string())) })
        }
        Err(error) => Ok(Err(error.to_string())),
    };
    let failed = ran.map_err(|problem| problem.to_string()).and_then(|ran| ran);
    if let Err(error) = failed {
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
