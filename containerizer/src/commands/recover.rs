//! `recover`: clears away what nobody can ask for any more. May come at any time, and twice.
//!
//! A state directory whose supervisor lives, or that has a result, is kept: `containers` lists it. One whose supervisor
//! was killed is kept as long as the engine knows its container, and is gone with it.

use std::collections::HashSet;

use super::{Context, Problem, block_on};
use crate::config::Config;

pub(super) fn run(context: &Context<'_>) -> Result<(), Problem> {
    // Better no slave than one whose every launch fails.
    Config::load(context.environment)?;
    context.store.clear_leftovers()?;
    let mut stale = Vec::new();
    for (id, directory) in context.store.list()? {
        let is_owned = directory.owner().is_ok_and(|owner| owner.is_some());
        let has_ended = directory.result().is_ok_and(|result| result.is_some());
        if !is_owned && !has_ended {
            stale.push((id, directory));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    let known = block_on(async { Ok(context.engine()?.list_ours(&context.work_directory_label(), None).await?) });
    let known: HashSet<_> = match known {
        Ok(ours) => ours.into_iter().map(|ours| ours.container_id).collect(),
        Err(problem) => {
            // A slave whose recovery fails does not start.
            eprintln!("docker-containerizer: stale state is kept: {problem}");
            return Ok(());
        }
    };
    for (_, directory) in stale.into_iter().filter(|(id, _)| !known.contains(id)) {
        directory.remove()?;
    }
    Ok(())
}
