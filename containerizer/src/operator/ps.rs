//! `ps`: every container of a slave, how it stands, and what it uses.

use std::path::Path;
use std::time::SystemTime;

use proto::mesos::ResourceStatistics;
use serde_json::json;

use super::survey::{Container, Survey};
use super::{Answer, Format, OperatorError, table};
use crate::docker::Engine;
use crate::environment::Environment;
use crate::usage;

pub(super) async fn run(
    format: Format,
    work_directory: &Path,
    environment: &Environment,
) -> Result<Answer, OperatorError> {
    let engine = Engine::connect(environment);
    let survey = Survey::make(work_directory, engine.as_ref().map_err(Clone::clone)).await?;
    let notes = survey.engine.as_ref().err().map(|error| format!("only what is remembered is shown: {error}"));
    let text = match format {
        Format::Text => as_table(&survey.containers),
        Format::Json => {
            let containers: Vec<_> = survey.containers.iter().map(as_json).collect();
            let work_directory = work_directory.to_string_lossy();
            format!("{:#}\n", json!({ "work_directory": work_directory, "containers": containers }))
        }
    };
    Ok(Answer { text, notes: notes.into_iter().collect(), is_fine: true })
}

fn as_table(containers: &[Container]) -> String {
    const HEADINGS: [&str; 7] = ["CONTAINER ID", "TASK", "IMAGE", "AGE", "CPU TIME", "MEMORY", "STATE"];
    let now = SystemTime::now();
    let row = |container: &Container| {
        let usage = usage_of(container);
        let seconds = usage.cpus_user_time_secs.zip(usage.cpus_system_time_secs).map(|(user, system)| user + system);
        let memory = match (usage.mem_total_bytes, usage.mem_limit_bytes) {
            (Some(used), Some(limit)) => format!("{} of {}", table::bytes(used), table::bytes(limit)),
            (Some(used), None) => table::bytes(used),
            (None, _) => "-".to_owned(),
        };
        let age = now.duration_since(container.since()).unwrap_or_default();
        vec![
            container.id.clone(),
            one_word(container.task()),
            one_word(container.image()),
            table::span(age.as_secs()),
            seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2}s")),
            memory,
            container.standing_text(),
        ]
    };
    table::text(&HEADINGS, &containers.iter().map(row).collect::<Vec<_>>())
}

fn one_word(text: Option<String>) -> String {
    let text = text.unwrap_or_default();
    // A task may call itself what it likes, also what would disturb a terminal.
    let word: String = text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

fn usage_of(container: &Container) -> ResourceStatistics {
    let Some(remembered) = &container.remembered else { return ResourceStatistics::default() };
    usage::statistics(
        remembered.state.cgroups.as_ref(),
        remembered.state.init.as_ref(),
        remembered.limits.unwrap_or(remembered.state.limits),
    )
}

pub(super) fn as_json(container: &Container) -> serde_json::Value {
    let usage = usage_of(container);
    let remembered = container.remembered.as_ref();
    let at_engine = container.at_engine.as_ref();
    let launched = container.since().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({
        "container_id": container.id,
        "standing": format!("{:?}", container.standing()).to_lowercase(),
        "state": container.standing_text(),
        "task": container.task(),
        "image": container.image(),
        "launched_at": launched.as_secs(),
        "supervisor_pid": remembered.and_then(|remembered| remembered.owner),
        "docker_id": container.docker_id(),
        "docker_status": at_engine.map(|at_engine| at_engine.status.as_str()),
        "cpu_seconds": usage.cpus_user_time_secs.zip(usage.cpus_system_time_secs).map(|(user, system)| user + system),
        "memory_bytes": usage.mem_total_bytes,
        "memory_limit_bytes": usage.mem_limit_bytes,
    })
}
