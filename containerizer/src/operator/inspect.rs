//! `inspect ID`: all that is known of one container, as JSON. Values that may be secret are not shown.

use std::path::Path;

use serde_json::{Value, json};

use super::survey::{Container, Survey};
use super::{Answer, OperatorError, ps, redact};
use crate::docker::Engine;
use crate::environment::Environment;
use crate::usage;

pub(super) async fn run(id: &str, work_directory: &Path, environment: &Environment) -> Result<Answer, OperatorError> {
    let engine = Engine::connect(environment);
    let survey = Survey::make(work_directory, engine.as_ref().map_err(Clone::clone)).await?;
    let container = match survey.find(id).as_slice() {
        [] => {
            return Err(OperatorError::NoContainer { id: id.to_owned(), work_directory: work_directory.to_owned() });
        }
        [one] => *one,
        several => {
            let found = several.iter().map(|container| container.id.as_str()).collect::<Vec<_>>().join(", ");
            return Err(OperatorError::SeveralContainers { id: id.to_owned(), found });
        }
    };
    let notes = survey.engine.as_ref().err().map(|error| format!("what the engine knows is not shown: {error}"));
    Ok(Answer { text: format!("{:#}\n", whole(container)), notes: notes.into_iter().collect(), is_fine: true })
}

/// What `ps` shows, and behind it what only this one container is asked for.
fn whole(container: &Container) -> Value {
    let mut whole = ps::as_json(container);
    if let Some(at_engine) = &container.at_engine {
        whole["docker_name"] = json!(at_engine.name);
    }
    if let Some(remembered) = &container.remembered {
        let launch = remembered.launch.as_ref();
        whole["state_directory"] = json!(remembered.directory.path().to_string_lossy());
        whole["sandbox"] = json!(launch.map(|launch| launch.directory()));
        whole["is_command_task"] = json!(launch.map(crate::spec::is_command_task));
        whole["limits_at_creation"] = json!(remembered.state.limits);
        whole["limits_updated"] = json!(remembered.limits);
        whole["cgroups"] = json!(remembered.state.cgroups);
        whole["ending"] = json!(remembered.ended.as_ref().map(|ended| &ended.ending));
        let statistics = usage::statistics(
            remembered.state.cgroups.as_ref(),
            remembered.state.init.as_ref(),
            remembered.limits.unwrap_or(remembered.state.limits),
        );
        whole["usage"] = proto::json::to_value("mesos.ResourceStatistics", &statistics).unwrap_or_default();
        whole["launch"] = launch.map(redact::launch).unwrap_or_default();
        if !remembered.damage.is_empty() {
            whole["damage"] = json!(remembered.damage);
        }
    }
    whole
}
