//! `launch`: leaves a supervisor behind that owns the container, and returns at once.
//!
//! What is wrong with the task itself (no image, an unknown parameter) is no failure of `launch`: the supervisor tells it
//! as the task's end, with its words, where a slave would only say that its containerizer failed. A slave 0.19 would even
//! keep the task staging for ever.

use std::path::Path;

use proto::ecp;

use super::{Context, Problem};
use crate::store::ContainerId;
use crate::supervisor;

pub(super) fn run(context: &Context<'_>, id: &ContainerId, launch: &ecp::Launch) -> Result<(), Problem> {
    let sandbox = Path::new(launch.directory());
    if !sandbox.is_dir() {
        return Err(Problem::NoSandbox { path: sandbox.to_owned() });
    }
    let directory = context.store.create(id, launch, context.environment)?;
    supervisor::start(directory.path(), sandbox).map_err(|error| {
        // Nothing owns it; what cannot be removed now is by the next recovery.
        let _ = directory.remove();
        error.into()
    })
}
