//! `doctor`: looks at everything that a slave's tasks will need of this host, and says for each whether it is well and what to
//! do where it is not.
//!
//! ```text
//! program -> slave -> config -> user -> engine -> cgroups -> disk -> sandbox -> registry -> state
//! ```

mod config;
mod engine;
mod host;
mod program;
mod registry;
mod state;

use std::path::PathBuf;

use super::finding::{Finding, Findings};
use super::slave::Slave;
use super::{Answer, Format, OperatorError};
use crate::docker::Engine;
use crate::environment::Environment;

pub(super) async fn run(
    format: Format,
    work_directory: Result<PathBuf, OperatorError>,
    environment: &Environment,
    slaves: &[Slave],
) -> Answer {
    let mut findings = Findings::default();
    let found = &mut findings.0;
    program::look(found);
    program::look_at_slaves(slaves, found);
    let config = config::look(environment, found);
    host::look_at_user(found);
    let engine = Engine::connect(environment);
    let about = match &engine {
        Ok(engine) => engine.about().await,
        Err(error) => Err(error.clone()),
    };
    engine::look(Engine::address(environment), &about, found);
    // One that has not answered is not asked again.
    let engine = about.as_ref().map_err(Clone::clone).and(engine);
    let about = about.ok();
    host::look_at_cgroups(about.as_ref(), found);
    match &work_directory {
        Ok(work_directory) => host::look_at_work_directory(work_directory, found),
        Err(error) => found.push(Finding::warning(
            "work_dir",
            "which work directory the slave has is not known, so what lies there is not looked at",
            error.to_string(),
        )),
    }
    if let Some(about) = &about {
        host::look_at_data_root(&about.data_root, found);
        if let Some(config) = &config {
            config::look_at_disk_limit(config.container.limit_disk, about, found);
        }
        engine::look_at_its_mounts(Engine::address(environment), found);
    }
    let files = config.as_ref().map_or(&[][..], |config| &config.credentials.files);
    registry::look(environment, files, about.as_ref(), found);
    if let Ok(work_directory) = &work_directory {
        state::look(work_directory, engine.as_ref().map_err(Clone::clone), found).await;
    }
    let text = match format {
        Format::Text => findings.text(),
        Format::Json => findings.json(),
    };
    Answer { text, notes: Vec::new(), is_fine: findings.is_fine() }
}
