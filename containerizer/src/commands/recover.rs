//! `recover`: puts things in order after a restart of the slave. May come at any time, and twice.
//!
//! A container whose supervisor was killed gets a new one, whatever it was at: one that runs is watched again, the end of one
//! that has ended is found out, what an agent was owed is told. What has ended and was told stays for `wait`. A container of
//! ours that nobody remembers is removed when it does not run; one that runs is listed by `containers`, and the slave decides.
//!
//! What goes wrong with one container is no reason to fail: a slave whose recovery fails does not start.

use std::collections::HashSet;
use std::thread;

use super::{Context, Problem, block_on};
use crate::config::Config;
use crate::store::StateDirectory;

pub(super) fn run(context: &Context<'_>) -> Result<(), Problem> {
    // Better no slave than one whose every launch fails.
    Config::load(context.environment)?;
    context.store.clear_leftovers()?;
    let remembered = context.store.list()?;
    let orphaned = remembered.iter().map(|(_, directory)| directory).filter(|directory| needs_successor(directory));
    // Each takes some milliseconds until it is there, most of it waiting.
    thread::scope(|scope| {
        for directory in orphaned {
            scope.spawn(|| {
                if let Err(problem) = context.succeed(directory) {
                    eprintln!("docker-containerizer: nobody watches {}: {problem}", directory.path().display());
                }
            });
        }
    });
    let known: HashSet<_> = remembered.into_iter().map(|(id, _)| id).collect();
    let removed = block_on(async {
        let engine = context.engine()?;
        for ours in engine.list_ours(&context.work_directory_label(), None).await? {
            let is_remembered =
                known.contains(&ours.container_id) || context.store.container(&ours.container_id).exists();
            if !is_remembered && !ours.is_running {
                engine.remove(&ours.docker_id).await?;
            }
        }
        Ok(())
    });
    // An engine that is away has the next recovery's time.
    if let Err(problem) = removed {
        tracing::warn!(%problem, "what nobody remembers is not removed");
    }
    Ok(())
}

fn needs_successor(directory: &StateDirectory) -> bool {
    let is_owned = directory.owner().is_ok_and(|owner| owner.is_some());
    // Where that cannot be read, the new one says why.
    let is_unfinished =
        || directory.is_forgotten() || directory.needs_supervisor().unwrap_or(true) || has_container(directory);
    !is_owned && is_unfinished()
}

/// Whether the container was not removed at its end.
fn has_container(directory: &StateDirectory) -> bool {
    directory.state().is_ok_and(|state| state.is_some_and(|state| state.docker_id.is_some()))
}
