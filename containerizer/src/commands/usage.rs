//! `usage`: what a container uses. The engine is not asked.

use proto::mesos::ResourceStatistics;

use super::{Context, Problem};
use crate::store::ContainerId;
use crate::usage;

pub(super) fn run(context: &Context<'_>, id: &ContainerId) -> Result<ResourceStatistics, Problem> {
    let directory = context.store.container(id);
    if !directory.exists() {
        return Err(Problem::Unknown);
    }
    let state = directory.state()?.unwrap_or_default();
    let limits = directory.limits()?.unwrap_or(state.limits);
    let disk_limit_bytes = state.disk_limit_bytes;
    let statistics = usage::statistics(state.cgroups.as_ref(), state.init.as_ref(), limits);
    Ok(ResourceStatistics { disk_limit_bytes, ..statistics })
}
