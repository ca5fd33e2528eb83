//! `containers`: those of this slave that run or have ended and not been waited for.
//!
//! The slave destroys what it does not know of them, so nothing else may be among them. The engine is asked for what only
//! it remembers; when it is away, what is remembered here is the answer, for a failure would keep the slave from starting.

use std::collections::BTreeSet;

use proto::{ecp, mesos};

use super::{Context, Problem, block_on};
use crate::store::ContainerId;

pub(super) fn run(context: &Context<'_>) -> Result<ecp::Containers, Problem> {
    let remembered = context.store.list()?;
    let is_asked_for = |id: &ContainerId| !context.store.container(id).is_forgotten();
    let mut ids: BTreeSet<ContainerId> = remembered.into_iter().map(|(id, _)| id).filter(is_asked_for).collect();
    let known_to_engine =
        block_on(async { Ok(context.engine()?.list_ours(&context.work_directory_label(), None).await?) });
    match known_to_engine {
        Ok(ours) => ids.extend(ours.into_iter().map(|ours| ours.container_id).filter(is_asked_for)),
        Err(problem) => eprintln!("docker-containerizer: only remembered containers are listed: {problem}"),
    }
    let containers = ids.into_iter().map(|id| mesos::ContainerId { value: id.as_str().to_owned(), parent: None });
    Ok(ecp::Containers { containers: containers.collect() })
}
