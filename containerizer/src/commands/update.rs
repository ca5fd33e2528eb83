//! `update`: what a container may use from now on.
//!
//! From 0.20 on a terminal status waits for it, and from 0.22 on its failure destroys the container. So it is quick,
//! succeeds for what has just ended, and does not fail for an engine that is away or a disk that is full. What was applied is remembered, and what
//! comes before the container is there is applied at its creation. An update that is killed leaves a note, so that the next one
//! tells the engine even what it may know already.

use proto::mesos::Resource;

use super::{Context, Problem, block_on};
use crate::docker::EngineError;
use crate::spec::Limits;
use crate::store::{ContainerId, State, StateDirectory, StoreError};

pub(super) fn run(context: &Context<'_>, id: &ContainerId, resources: &[Resource]) -> Result<(), Problem> {
    let directory = context.store.container(id);
    match change(context, &directory, resources) {
        // It has ended and was waited for meanwhile.
        Err(_) if !directory.exists() => Ok(()),
        Err(Problem::Store(error @ StoreError::Write { .. })) => {
            // A full disk is no reason to have the task destroyed. The next update tells the engine again.
            eprintln!("docker-containerizer: the new limits of container {id} are not remembered: {error}");
            Ok(())
        }
        changed => changed,
    }
}

fn change(context: &Context<'_>, directory: &StateDirectory, resources: &[Resource]) -> Result<(), Problem> {
    // Without a state it was never launched, or is gone again.
    let Some(state) = directory.state()? else { return Ok(()) };
    let Some(limits) = Limits::of_update(resources, state.overhead, state.is_cpu_limited) else { return Ok(()) };
    directory.with_limits(|before| {
        // The supervisor may have created the container while this waited for its turn.
        let state = directory.state()?.unwrap_or(state);
        let current = before.unwrap_or(state.limits);
        let limits = safe(limits, current, &state);
        let is_applied = match &state.docker_id {
            // After an update that was killed, nobody knows what the engine was told.
            Some(docker_id)
                if (limits != current || directory.is_update_unfinished()) && directory.result()?.is_none() =>
            {
                directory.begin_update()?;
                apply(context, docker_id, limits, &state)?
            }
            // Creation will see to it, or it is too late.
            _ => true,
        };
        Ok((is_applied.then_some(limits), ()))
    })
}

/// Memory is never limited below what is in use: the kernel would kill for it, or refuse.
fn safe(limits: Limits, current: Limits, state: &State) -> Limits {
    let (Some(new), Some(old)) = (limits.memory_bytes, current.memory_bytes) else { return limits };
    let in_use = state.cgroups.as_ref().and_then(|cgroups| cgroups.memory_in_use_bytes());
    let in_use = in_use.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(0);
    if new < old && new < in_use { Limits { memory_bytes: Some(old), ..limits } } else { limits }
}

/// Whether the engine did it, or the container has just ended.
fn apply(context: &Context<'_>, docker_id: &str, limits: Limits, state: &State) -> Result<bool, Problem> {
    let engine = context.engine();
    match block_on(async { Ok(engine?.set_limits(docker_id, limits, state.swap).await?) }) {
        Ok(()) | Err(Problem::Engine(EngineError::NotFound { .. } | EngineError::Conflict { .. })) => Ok(true),
        Err(Problem::Engine(error)) => {
            // The task goes on under its old limits, which is better than to have it destroyed.
            eprintln!("docker-containerizer: the new limits of container {docker_id} are not applied: {error}");
            Ok(false)
        }
        Err(problem) => Err(problem),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::usage::Cgroups;

    #[test]
    fn memory_in_use_is_never_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("memory.current"), "100\n").unwrap();
        let cgroups = Some(Cgroups::V2 { path: directory.path().to_owned() });
        let state = State { cgroups, ..State::default() };
        let of = |bytes| Limits { cpu_shares: Some(2), memory_bytes: Some(bytes), cpu_quota: None };
        assert_eq!(safe(of(99), of(200), &state), of(200));
        assert_eq!(safe(of(100), of(200), &state), of(100));
        assert_eq!(safe(of(99), of(50), &state), of(99));
        assert_eq!(safe(of(99), of(200), &State::default()), of(99));
    }
}
