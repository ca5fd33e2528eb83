//! The `TaskInfo` for a command line, in the shape that the stock docker executor and our containerizer both understand.

use std::path::Path;
use std::time::Duration;

use proto::mesos::command_info::Uri;
use proto::mesos::{
    AgentId, CommandInfo, DurationInfo, Environment, KillPolicy, Label, Labels, Resource, TaskId, TaskInfo,
    environment, value,
};
use proto::record::STDIN_LABEL;
use proto::resources::Resources;

use super::environment::Variables;
use super::{JobError, Surroundings, container};
use crate::cli::{Assignment, Cli, Containerizer, PublishedPort};
use crate::master::chain;

/// Says which version of the launcher made a task.
const VERSION_LABEL: &str = "launch-container.version";

/// Says where the launcher that made a task runs.
const HOST_LABEL: &str = "launch-container.host";

/// Room for the suffix in the 255 bytes of a task id, which is also a directory's name on the agent.
const ID_NAME_MAX: usize = 200;

/// `--name`, or the last component of the image without its tag and digest.
pub(super) fn name(cli: &Cli) -> Result<String, JobError> {
    match &cli.name {
        None => match &cli.task {
            Some(file) => Ok(read_file(file)?.name),
            None if cli.no_image => Ok(program_name(cli)),
            None => check_image(&cli.image).map(|()| image_name(&cli.image).to_owned()),
        },
        Some(name) if name.is_empty() || name.len() > 255 || name.contains(char::is_control) => {
            Err(JobError::Invalid {
                option: "--name",
                value: name.clone(),
                why: "a name has 1 to 255 bytes and no control characters".to_owned(),
            })
        }
        Some(name) => {
            if cli.task.is_none() && !cli.no_image {
                check_image(&cli.image)?;
            }
            Ok(name.clone())
        }
    }
}

/// A task without an image is named after its program.
fn program_name(cli: &Cli) -> String {
    let program = cli.cmd.first().and_then(|word| word.split_whitespace().next()).unwrap_or_default();
    program.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("task").to_owned()
}

/// The whole task but for the agent; its resources are the need.
pub(super) fn info(cli: &Cli, name: &str, surroundings: &Surroundings<'_>) -> Result<TaskInfo, JobError> {
    if let Some(file) = &cli.task {
        return from_file(file, name, cli, surroundings);
    }
    Ok(TaskInfo {
        name: name.to_owned(),
        task_id: TaskId { value: format!("{}-{}", id_name(name), surroundings.suffix) },
        agent_id: AgentId::default(),
        resources: resources(cli)?,
        command: Some(command(cli, surroundings)?),
        container: container::info(cli)?.map(Box::new),
        kill_policy: Some(KillPolicy { grace_period: Some(nanoseconds(cli.kill_grace)) }),
        labels: Some(Labels { labels: labels(cli, surroundings)? }),
        health_check: super::health::check(&cli.health)?.map(Box::new),
        ..Default::default()
    })
}

/// The task that a file describes; its id and its agent are the launch's own.
fn from_file(file: &Path, name: &str, cli: &Cli, surroundings: &Surroundings<'_>) -> Result<TaskInfo, JobError> {
    let wrong = |why: String| JobError::Invalid { option: "--task", value: file.display().to_string(), why };
    let mut info = read_file(file)?;
    if info.resources.is_empty() {
        return Err(wrong("it has no resources; give at least cpus and mem".to_owned()));
    }
    if info.command.is_some() == info.executor.is_some() {
        return Err(wrong("give it either a command or an executor".to_owned()));
    }
    name.clone_into(&mut info.name);
    info.task_id.value = format!("{}-{}", id_name(name), surroundings.suffix);
    info.agent_id = AgentId::default();
    if info.kill_policy.is_none() {
        info.kill_policy = Some(KillPolicy { grace_period: Some(nanoseconds(cli.kill_grace)) });
    }
    info.labels.get_or_insert_default().labels.extend(labels(cli, surroundings)?);
    Ok(info)
}

/// The file of `--task`. What Mesos requires and a launch fills in may be left out.
fn read_file(file: &Path) -> Result<TaskInfo, JobError> {
    let wrong = |why: String| JobError::Invalid { option: "--task", value: file.display().to_string(), why };
    let text = std::fs::read(file).map_err(|error| wrong(format!("cannot read it: {error}")))?;
    let json_error = |error: &dyn std::error::Error| wrong(format!("{}; give the JSON of a TaskInfo", chain(error)));
    let mut value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| json_error(&error))?;
    if let Some(object) = value.as_object_mut() {
        // Mesos' documents spell them with or without an agent; ours comes from the offer.
        for id in ["task_id", "taskId", "agent_id", "agentId", "slave_id", "slaveId"] {
            object.remove(id);
        }
        object.entry("name").or_insert_with(|| "task".into());
        object.insert("task_id".to_owned(), serde_json::json!({"value": ""}));
        object.insert("agent_id".to_owned(), serde_json::json!({"value": ""}));
    }
    let text = value.to_string();
    proto::json::from_slice_strict("mesos.TaskInfo", text.as_bytes()).map_err(|error| json_error(&error))
}

/// What the user gave, then our own.
fn labels(cli: &Cli, surroundings: &Surroundings<'_>) -> Result<Vec<Label>, JobError> {
    let mut labels = Vec::new();
    for Assignment { key, value } in &cli.label {
        check_not_empty("--label", key, "write KEY=VALUE")?;
        labels.push(Label { key: key.clone(), value: value.clone() });
    }
    if cli.interactive {
        labels.push(label(STDIN_LABEL, "1"));
    }
    labels.push(label(VERSION_LABEL, env!("CARGO_PKG_VERSION")));
    labels.push(label(HOST_LABEL, &surroundings.hostname));
    Ok(labels)
}

fn check_image(image: &str) -> Result<(), JobError> {
    let why = if image.is_empty() {
        "it is empty"
    } else if image.starts_with("docker:") || image.contains("://") {
        "it is written without a scheme"
    } else if image.contains(|c: char| c.is_whitespace() || c.is_control()) {
        "it has blanks in it"
    } else if image.starts_with('-') {
        "options stand before IMAGE, and none begins like this"
    } else {
        return Ok(());
    };
    Err(JobError::Invalid {
        option: "IMAGE",
        value: image.to_owned(),
        why: format!("{why}; give an image as docker run takes it, such as busybox:1.36"),
    })
}

fn image_name(image: &str) -> &str {
    let path = image.split('@').next().unwrap_or(image);
    let last = path.rsplit('/').next().unwrap_or(path);
    match last.split(':').next() {
        Some(name) if !name.is_empty() => name,
        _ => "task",
    }
}

/// `name` with only what is safe in a path component that `docker run -v` can carry.
fn id_name(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let id: String = name.chars().map(safe).take(ID_NAME_MAX).collect();
    // "." first would hide the sandbox from ls; "-" first would look like an option.
    let id = id.trim_start_matches(['.', '-']);
    if id.is_empty() { "task".to_owned() } else { id.to_owned() }
}

/// What is asked for; `--resources` wins over the options of the same resources.
fn resources(cli: &Cli) -> Result<Vec<Resource>, JobError> {
    let memory = cli.memory.unwrap_or(cli.mem);
    let mut resources = vec![scalar("cpus", f64::from(cli.cpus.milli) / 1000.0), scalar("mem", megabytes(memory.0))];
    if let Some(disk) = cli.disk.filter(|disk| disk.0 > 0) {
        resources.push(scalar("disk", megabytes(disk.0)));
    }
    if let Some(gpus) = cli.gpus {
        resources.push(scalar("gpus", f64::from(gpus)));
    }
    if !cli.publish.is_empty() {
        resources.push(ports(&cli.publish));
    }
    let Some(text) = &cli.resources else { return Ok(resources) };
    let given = Vec::<Resource>::from(text.clone());
    if given.is_empty() {
        return Err(JobError::Invalid {
            option: "--resources",
            value: String::new(),
            why: "write it as in cpus:0.5;mem:128;ports:[31000-31005]".to_owned(),
        });
    }
    resources.retain(|resource| resource.name == "ports" || given.iter().all(|given| given.name != resource.name));
    for resource in given {
        let resource = Resource { role: Some("*".to_owned()), ..resource };
        match resources.iter_mut().find(|have| have.name == resource.name) {
            // Published ports are needed, too.
            Some(have) => {
                let both = Resources::from(vec![have.clone(), resource]);
                *have = Vec::from(both).into_iter().next().unwrap_or_default();
            }
            None => resources.push(resource),
        }
    }
    Ok(resources)
}

#[expect(clippy::cast_precision_loss, reason = "the command line takes no more than 2^26")]
fn megabytes(amount: u64) -> f64 {
    amount as f64
}

fn scalar(name: &str, amount: f64) -> Resource {
    Resource {
        name: name.to_owned(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value: amount }),
        role: Some("*".to_owned()),
        ..Default::default()
    }
}

/// Each port once, also when it is published for both TCP and UDP.
fn ports(published: &[PublishedPort]) -> Resource {
    let mut ports: Vec<u64> = published.iter().map(|port| u64::from(port.host_port)).collect();
    ports.sort_unstable();
    ports.dedup();
    let mut range: Vec<value::Range> = Vec::new();
    for port in ports {
        match range.last_mut() {
            Some(last) if last.end + 1 == port => last.end = port,
            _ => range.push(value::Range { begin: port, end: port }),
        }
    }
    Resource {
        name: "ports".to_owned(),
        r#type: value::Type::Ranges.into(),
        ranges: Some(value::Ranges { range }),
        role: Some("*".to_owned()),
        ..Default::default()
    }
}

/// One word is for the image's shell, several are argv, none leaves it to the image. With `--entrypoint` every word is an
/// argument of that program, as in `docker run`.
fn command(cli: &Cli, surroundings: &Surroundings<'_>) -> Result<CommandInfo, JobError> {
    let variables = Variables::read(&cli.env_file, &cli.env, surroundings.lookup)?.into_pairs();
    let environment = (!variables.is_empty()).then(|| Environment {
        variables: variables
            .into_iter()
            .map(|(name, value)| environment::Variable { name, value: Some(value), ..Default::default() })
            .collect(),
    });
    let is_shell = cli.cmd.len() == 1 && cli.entrypoint.is_none();
    let mut words = cli.cmd.iter().cloned();
    let (value, arguments) = match cli.containerizer {
        Containerizer::Docker => (words.next(), words.collect()),
        Containerizer::Mesos if is_shell => (words.next(), vec![]),
        // The agent's own runtime executes `value` with `arguments` from the program's name on.
        Containerizer::Mesos => {
            let program = cli.entrypoint.clone().filter(|program| !program.is_empty());
            let arguments: Vec<String> = program.into_iter().chain(words).collect();
            (arguments.first().cloned(), arguments)
        }
    };
    let uris =
        cli.uri.iter().chain(&cli.uris).map(|value| Uri { value: value.clone(), ..Default::default() }).collect();
    let user = match cli.containerizer {
        Containerizer::Docker => None,
        Containerizer::Mesos => cli.user.clone(),
    };
    Ok(CommandInfo { environment, shell: Some(is_shell), value, arguments, uris, user, ..Default::default() })
}

pub(super) fn check_not_empty(option: &'static str, value: &str, why: &str) -> Result<(), JobError> {
    if value.is_empty() {
        return Err(JobError::Invalid { option, value: value.to_owned(), why: why.to_owned() });
    }
    Ok(())
}

fn nanoseconds(duration: Duration) -> DurationInfo {
    DurationInfo { nanoseconds: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX) }
}

fn label(key: &str, value: &str) -> Label {
    Label { key: key.to_owned(), value: Some(value.to_owned()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proto::mesos::container_info::{self, DockerInfo, docker_info};
    use proto::mesos::volume;

    use super::super::tests::job;
    use super::*;

    fn info(words: &[&str]) -> TaskInfo {
        job(words).unwrap().task.info
    }

    fn docker(words: &[&str]) -> DockerInfo {
        info(words).container.unwrap().docker.unwrap()
    }

    fn parameters(words: &[&str]) -> Vec<(String, String)> {
        docker(words).parameters.into_iter().map(|parameter| (parameter.key, parameter.value)).collect()
    }

    fn error(words: &[&str]) -> String {
        job(words).unwrap_err().to_string()
    }

    #[test]
    fn the_plainest_task_is_a_docker_container_with_one_cpu_and_256_mb() {
        let info = info(&["busybox", "echo before; sleep 5; echo after"]);
        assert_eq!((info.name.as_str(), info.task_id.value.as_str()), ("busybox", "busybox-0a1b2c3d"));
        assert_eq!(info.resources, [scalar("cpus", 1.0), scalar("mem", 256.0)]);
        assert_eq!(info.kill_policy.unwrap().grace_period.unwrap().nanoseconds, 10_000_000_000);
        let labels = info.labels.unwrap().labels;
        assert_eq!(labels, [label(VERSION_LABEL, env!("CARGO_PKG_VERSION")), label(HOST_LABEL, "desk")]);
        let container = info.container.unwrap();
        assert_eq!(container.r#type(), container_info::Type::Docker);
        let docker = container.docker.unwrap();
        assert_eq!((docker.image.as_str(), docker.network()), ("busybox", docker_info::Network::Bridge));
        assert_eq!((docker.privileged, docker.force_pull_image), (Some(false), Some(false)));
        assert!(docker.parameters.is_empty() && docker.port_mappings.is_empty() && container.volumes.is_empty());
        assert_eq!(info.command.unwrap().environment, None);
        assert!(info.executor.is_none());
    }

    #[test]
    fn one_word_is_for_the_shell_several_are_argv_none_is_the_images() {
        let command = |words: &[&str]| {
            let command = info(words).command.unwrap();
            (command.shell, command.value, command.arguments)
        };
        assert_eq!(command(&["busybox", "a b"]), (Some(true), Some("a b".to_owned()), vec![]));
        let several = (Some(false), Some("echo".to_owned()), vec!["a b".to_owned(), "-c".to_owned()]);
        assert_eq!(command(&["busybox", "echo", "a b", "-c"]), several);
        assert_eq!(command(&["busybox"]), (Some(false), None, vec![]));
        assert_eq!(
            command(&["--entrypoint=cat", "busybox", "/etc/hosts"]),
            (Some(false), Some("/etc/hosts".to_owned()), vec![])
        );
        assert_eq!(command(&["--entrypoint=true", "busybox"]), (Some(false), None, vec![]));
    }

    #[test]
    fn what_mesos_has_no_field_for_is_a_docker_option() {
        let words = [
            "-u",
            "1000:50",
            "-w",
            "/srv",
            "--entrypoint=",
            "--docker-param=cap-add=ALL",
            "--docker-param=init=",
            "image",
        ];
        let expected = [("user", "1000:50"), ("workdir", "/srv"), ("entrypoint", ""), ("cap-add", "ALL"), ("init", "")];
        assert_eq!(parameters(&words), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn resources_are_what_was_asked_for_with_every_port_once() {
        let words =
            ["--cpus=0.001", "--mem=1g", "--disk=2g", "-p9:1", "-p7:1", "-p8:1", "-p8:1/udp", "-p20:1", "image"];
        let info = info(&words);
        let [cpus, mem, disk, ports] = &info.resources[..] else { panic!("{:?}", info.resources) };
        assert_eq!((cpus, mem), (&scalar("cpus", 0.001), &scalar("mem", 1024.0)));
        assert_eq!(disk, &scalar("disk", 2048.0));
        assert!(info.resources.iter().all(|resource| resource.role.as_deref() == Some("*")));
        let range = |begin, end| value::Range { begin, end };
        assert_eq!(ports.ranges.as_ref().unwrap().range, [range(7, 9), range(20, 20)]);
        let mappings = info.container.unwrap().docker.unwrap().port_mappings;
        assert_eq!(mappings.len(), 5);
        assert_eq!((mappings[3].host_port, mappings[3].container_port, mappings[3].protocol()), (8, 1, "udp"));
    }

    #[test]
    fn networks_have_mesos_numbers_and_a_named_one_its_name() {
        assert_eq!(docker(&["--network=host", "image"]).network(), docker_info::Network::Host);
        assert_eq!(docker(&["--network=none", "image"]).network(), docker_info::Network::None);
        let container = info(&["--network=blue", "image"]).container.unwrap();
        assert_eq!(container.docker.unwrap().network(), docker_info::Network::User);
        assert_eq!(container.network_infos[0].name.as_deref(), Some("blue"));
        let error = error(&["--network=host", "-p1:2", "image"]);
        assert!(error.contains("--network") && error.contains("--publish"), "{error}");
    }

    #[test]
    fn volumes_environment_and_switches_are_carried() {
        let info =
            info(&["-v/a:/b:ro", "-v/c:/d", "-eA=1", "-eHOME", "-eUNSET", "--privileged", "--force-pull", "image"]);
        let container = info.container.unwrap();
        let volumes: Vec<_> =
            container.volumes.iter().map(|v| (v.host_path(), v.container_path.as_str(), v.mode())).collect();
        assert_eq!(volumes, [("/a", "/b", volume::Mode::Ro), ("/c", "/d", volume::Mode::Rw)]);
        let docker = container.docker.unwrap();
        assert_eq!((docker.privileged, docker.force_pull_image), (Some(true), Some(true)));
        let variables = info.command.unwrap().environment.unwrap().variables;
        let variables: Vec<_> = variables.iter().map(|variable| (variable.name.as_str(), variable.value())).collect();
        assert_eq!(variables, [("A", "1"), ("HOME", "/home/ada")]);
    }

    #[test]
    fn a_task_is_named_after_its_image() {
        let images = [
            ("busybox", "busybox"),
            ("busybox:1.36", "busybox"),
            ("registry:5000/team/app", "app"),
            ("registry:5000/team/app:v1@sha256:0123", "app"),
            ("team/app@sha256:0123", "app"),
            ("a/", "task"),
        ];
        for (image, expected) in images {
            assert_eq!(job(&[image]).unwrap().name, expected, "{image}");
        }
    }

    #[test]
    fn a_task_id_is_a_safe_directory_name_whatever_the_name() {
        let id = |name: &str| job(&["--name", name, "image"]).unwrap().task_id().to_owned();
        assert_eq!(id("Web 1/2:3"), "Web-1-2-3-0a1b2c3d");
        assert_eq!(id("..".repeat(3).as_str()), "task-0a1b2c3d");
        assert_eq!(id(".hidden"), "hidden-0a1b2c3d");
        assert_eq!(id("größe"), "gr--e-0a1b2c3d");
        assert!(id(&"x".repeat(255)).len() <= 255);
    }

    #[test]
    fn what_no_agent_could_run_is_refused_with_the_reason() {
        let cases: [(&[&str], &str); 9] = [
            (&["--name=", "image"], "--name"),
            (&["--name=a\nb", "image"], "--name"),
            (&["docker:///busybox"], "without a scheme"),
            (&["bu sy"], "blanks"),
            (&[""], "empty"),
            (&["--workdir=srv", "image"], "absolute path"),
            (&["--user=", "image"], "--user"),
            (&["--env-file=/nonexistent/env", "image"], "--env-file"),
            (&["--", "-it", "image"], "options stand before IMAGE"),
        ];
        for (words, expected) in cases {
            let error = error(words);
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }

    #[test]
    fn a_wrong_docker_param_is_named_without_its_value() {
        for param in ["--cap-add=hunter2", "=hunter2", "a b=hunter2", "name=hunter2", "init"] {
            let error = error(&[&format!("--docker-param={param}"), "image"]);
            assert!(error.contains("--docker-param") && !error.contains("hunter2"), "{param}: {error}");
        }
    }
}
