//! The `ContainerInfo` for a command line: for the Docker engine of the agent, or for the agent's own runtime.

use std::path::Path;

use proto::mesos::container_info::{self, DockerInfo, MesosInfo, docker_info};
use proto::mesos::image;
use proto::mesos::{ContainerInfo, Image, NetworkInfo, Parameter, Volume, volume};

use super::JobError;
use super::task::check_not_empty;
use crate::cli::{self, Cli, Containerizer, Mount, Network, Pull};
use crate::master::chain;

/// `None`: the task runs without a container of its own making.
pub(super) fn info(cli: &Cli) -> Result<Option<ContainerInfo>, JobError> {
    match cli.containerizer {
        Containerizer::Docker if cli.no_image => Err(JobError::Invalid {
            option: "--no-image",
            value: "true".to_owned(),
            why: "Docker always needs an image; add --containerizer=mesos to run without one".to_owned(),
        }),
        Containerizer::Docker => docker(cli).map(Some),
        Containerizer::Mesos => mesos(cli).map(Some),
    }
}

fn docker(cli: &Cli) -> Result<ContainerInfo, JobError> {
    let name = networks(cli)?;
    let (network, network_infos) = match &name {
        Network::Bridge => (docker_info::Network::Bridge, vec![]),
        Network::Host => (docker_info::Network::Host, vec![]),
        Network::None => (docker_info::Network::None, vec![]),
        Network::Named(name) => (docker_info::Network::User, vec![named_network(name)]),
    };
    if !cli.publish.is_empty() && matches!(name, Network::Host | Network::None) {
        return Err(JobError::Invalid {
            option: "--network",
            value: name.to_string(),
            why: "it has no ports to publish; leave out --publish, or use --network=bridge".to_owned(),
        });
    }
    Ok(ContainerInfo {
        r#type: container_info::Type::Docker.into(),
        volumes: volumes(cli)?,
        hostname: cli.hostname.clone(),
        docker: Some(DockerInfo {
            image: cli.image.clone(),
            // Always said: Mesos' default is HOST.
            network: Some(network.into()),
            port_mappings: cli
                .publish
                .iter()
                .map(|port| docker_info::PortMapping {
                    host_port: port.host_port.into(),
                    container_port: port.container_port.into(),
                    protocol: Some(port.protocol.as_str().to_owned()),
                })
                .collect(),
            privileged: Some(cli.privileged),
            parameters: parameters(cli)?,
            force_pull_image: Some(is_pull_forced(cli)),
            ..Default::default()
        }),
        network_infos,
        ..Default::default()
    })
}

/// The one network of a Docker container.
fn networks(cli: &Cli) -> Result<Network, JobError> {
    match (&cli.network, cli.networks.as_slice()) {
        (None, []) => Ok(Network::Bridge),
        (Some(network), []) => Ok(network.clone()),
        (None, [name]) => {
            name.parse().map_err(|why| JobError::Invalid { option: "--networks", value: name.clone(), why })
        }
        (_, names) => Err(JobError::Invalid {
            option: "--networks",
            value: names.join(","),
            why: "a Docker container joins one network; give one, or use --containerizer=mesos".to_owned(),
        }),
    }
}

fn named_network(name: &str) -> NetworkInfo {
    NetworkInfo { name: Some(name.to_owned()), ..Default::default() }
}

fn is_pull_forced(cli: &Cli) -> bool {
    cli.force_pull || cli.pull == Pull::Always
}

/// The container that the agent makes itself, from a Docker image or from its own file system.
fn mesos(cli: &Cli) -> Result<ContainerInfo, JobError> {
    let engine_only = [
        ("--workdir", cli.workdir.is_some(), "begin the command with cd"),
        ("--privileged", cli.privileged, "the agent's --effective_capabilities decide"),
        ("--docker-param", !cli.docker_param.is_empty(), "there is no docker run"),
        (
            "--publish",
            !cli.publish.is_empty(),
            "without a network of its own the task listens on the port itself; ask for it with --resources=ports:[...]",
        ),
        ("--interactive", cli.interactive, "only this project's executor gives a task input"),
        ("--cidfile", cli.cidfile.is_some(), "there is no container of an engine"),
    ];
    if let Some((option, _, way)) = engine_only.into_iter().find(|(_, is_given, _)| *is_given) {
        return Err(JobError::EngineOnly { option: option.to_owned(), way: way.to_owned() });
    }
    if let Some((name, _)) = cli.docker.0.first() {
        let way = "leave it out, or use --containerizer=docker".to_owned();
        return Err(JobError::EngineOnly { option: format!("--{name}"), way });
    }
    if cli.mount.iter().any(|mount| matches!(mount, Mount::Tmpfs(_) | Mount::Volume(_))) {
        let way = "give type=bind, or use --volumes".to_owned();
        return Err(JobError::EngineOnly { option: "--mount with type=volume or type=tmpfs".to_owned(), way });
    }
    if cli.no_image && cli.cmd.is_empty() && cli.entrypoint.is_none() {
        return Err(JobError::Invalid {
            option: "--no-image",
            value: "true".to_owned(),
            why: "without an image there is no program; give a command".to_owned(),
        });
    }
    let named = match &cli.network {
        None | Some(Network::Host) => None,
        Some(Network::Named(name)) => Some(name),
        Some(network @ (Network::Bridge | Network::None)) => {
            return Err(JobError::Invalid {
                option: "--network",
                value: network.to_string(),
                why: "with --containerizer=mesos it is host, or the name of a CNI network of the agents".to_owned(),
            });
        }
    };
    let image = (!cli.no_image).then(|| Image {
        r#type: image::Type::Docker.into(),
        docker: Some(image::Docker { name: cli.image.clone(), ..Default::default() }),
        cached: Some(!is_pull_forced(cli)),
        ..Default::default()
    });
    Ok(ContainerInfo {
        r#type: container_info::Type::Mesos.into(),
        volumes: volumes(cli)?,
        hostname: cli.hostname.clone(),
        mesos: Some(MesosInfo { image }),
        network_infos: named.into_iter().chain(&cli.networks).map(|name| named_network(name)).collect(),
        ..Default::default()
    })
}

fn volumes(cli: &Cli) -> Result<Vec<Volume>, JobError> {
    let mounted = cli.mount.iter().filter_map(|mount| match mount {
        Mount::Bind(volume) => Some(volume),
        Mount::Volume(_) | Mount::Tmpfs(_) => None,
    });
    let mut volumes: Vec<Volume> = cli.volume.iter().chain(mounted).map(host_volume).collect();
    if let Some(text) = &cli.volumes {
        volumes.extend(volumes_of_json(text)?);
    }
    Ok(volumes)
}

fn host_volume(volume: &cli::Volume) -> Volume {
    Volume {
        container_path: volume.container_path.clone(),
        host_path: Some(volume.host_path.clone()),
        mode: if volume.is_read_only { volume::Mode::Ro } else { volume::Mode::Rw }.into(),
        ..Default::default()
    }
}

/// `--volumes`, as `mesos-execute` takes it.
fn volumes_of_json(given: &str) -> Result<Vec<Volume>, JobError> {
    let wrong = |why: String| JobError::Invalid {
        option: "--volumes",
        value: given.to_owned(),
        why: format!("{why}; give a JSON list of Mesos' Volume, or file:///PATH of one"),
    };
    let text = match given.strip_prefix("file://") {
        Some(path) => {
            std::fs::read_to_string(Path::new(path)).map_err(|error| wrong(format!("cannot read it: {error}")))?
        }
        None => given.to_owned(),
    };
    let list: Vec<serde_json::Value> = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    list.iter()
        .map(|value| proto::json::from_slice_strict("mesos.Volume", value.to_string().as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(chain(&error)))
}

/// What Mesos has no field for travels as an option of `docker run`.
fn parameters(cli: &Cli) -> Result<Vec<Parameter>, JobError> {
    let mut parameters = Vec::new();
    let mut add = |key: &str, value: &str| parameters.push(Parameter { key: key.to_owned(), value: value.to_owned() });
    if let Some(user) = &cli.user {
        check_not_empty("--user", user, "give a name or UID, and perhaps :GROUP")?;
        add("user", user);
    }
    if let Some(workdir) = &cli.workdir {
        if !workdir.starts_with('/') {
            return Err(JobError::Invalid {
                option: "--workdir",
                value: workdir.clone(),
                why: "give an absolute path in the container".to_owned(),
            });
        }
        add("workdir", workdir);
    }
    if let Some(entrypoint) = &cli.entrypoint {
        add("entrypoint", entrypoint);
    }
    for label in &cli.label {
        let value = label.value.as_deref().unwrap_or_default();
        add("label", &format!("{}={value}", label.key));
    }
    if cli.health.no_healthcheck {
        add("no-healthcheck", "true");
    }
    if let Some(gpus) = cli.gpus {
        add("gpus", &gpus.to_string());
    }
    for mount in &cli.mount {
        match mount {
            Mount::Bind(_) => {}
            Mount::Volume(text) => add("volume", text),
            Mount::Tmpfs(text) => add("tmpfs", text),
        }
    }
    for (name, value) in &cli.docker.0 {
        add(name, value);
    }
    for param in &cli.docker_param {
        let wrong = |why| JobError::DockerParam { key: param.key.clone(), why };
        let is_key = |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if param.key.is_empty() || param.key.starts_with('-') || !is_key(&param.key) {
            return Err(wrong("the key is a long option of docker run without its dashes, as in cap-add=NET_ADMIN"));
        }
        if param.key == "name" {
            return Err(wrong("the agent names the container itself; use --name for the task"));
        }
        let value =
            param.value.as_deref().ok_or_else(|| wrong("write KEY=VALUE; a switch is turned on by KEY=true"))?;
        add(&param.key, value);
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proto::mesos::{CommandInfo, TaskInfo};

    use super::super::tests::job;
    use super::*;

    fn info(words: &[&str]) -> TaskInfo {
        job(words).unwrap().task.info
    }

    fn command(words: &[&str]) -> (bool, Option<String>, Vec<String>) {
        let CommandInfo { shell, value, arguments, .. } = info(words).command.unwrap();
        (shell.unwrap(), value, arguments)
    }

    fn error(words: &[&str]) -> String {
        job(words).unwrap_err().to_string()
    }

    #[test]
    fn docker_runs_options_are_parameters_in_their_own_words() {
        let words = ["--init", "--cap-add=ALL", "-lteam=ops", "--gpus=2", "--mount=type=tmpfs,dst=/run", "image"];
        let docker = info(&words).container.unwrap().docker.unwrap();
        let parameters: Vec<_> = docker.parameters.iter().map(|p| (p.key.as_str(), p.value.as_str())).collect();
        let expected = [("label", "team=ops"), ("gpus", "2"), ("tmpfs", "/run"), ("cap-add", "ALL"), ("init", "true")];
        assert_eq!(parameters, expected);
        let task = info(&words);
        assert_eq!(task.labels.unwrap().labels[0].key, "team");
        assert!(task.resources.iter().any(|resource| resource.name == "gpus"));
        assert_eq!(info(&["--hostname=h", "image"]).container.unwrap().hostname.as_deref(), Some("h"));
        for words in [["--pull=always", "image"], ["--force-pull", "image"]] {
            assert_eq!(info(&words).container.unwrap().docker.unwrap().force_pull_image, Some(true));
        }
        let mounted = info(&["--mount=type=bind,src=/a,dst=/b,ro", "image"]).container.unwrap().volumes;
        assert_eq!(mounted, info(&["-v/a:/b:ro", "image"]).container.unwrap().volumes);
    }

    #[test]
    fn the_agents_own_runtime_gets_an_image_and_a_program_with_its_name() {
        let container = info(&["--containerizer=mesos", "--pull=always", "busybox"]).container.unwrap();
        assert_eq!((container.r#type(), container.docker), (container_info::Type::Mesos, None));
        let image = container.mesos.unwrap().image.unwrap();
        assert_eq!((image.docker.unwrap().name.as_str(), image.cached), ("busybox", Some(false)));
        assert_eq!(command(&["--containerizer=mesos", "busybox"]), (false, None, vec![]));
        assert_eq!(command(&["--containerizer=mesos", "busybox", "a b"]), (true, Some("a b".to_owned()), vec![]));
        let several = (false, Some("echo".to_owned()), vec!["echo".to_owned(), "a".to_owned()]);
        assert_eq!(command(&["--containerizer=mesos", "busybox", "echo", "a"]), several);
        assert_eq!(command(&["--containerizer=mesos", "--entrypoint=echo", "busybox", "a"]), several);
        let words = ["--containerizer=mesos", "--networks=blue,green", "busybox"];
        let names: Vec<_> = info(&words).container.unwrap().network_infos.into_iter().filter_map(|n| n.name).collect();
        assert_eq!(names, ["blue", "green"]);
        assert_eq!(info(&["--containerizer=mesos", "-uada", "busybox"]).command.unwrap().user.as_deref(), Some("ada"));
    }

    #[test]
    fn a_task_without_an_image_is_a_command_on_the_agent() {
        let task = info(&["--containerizer=mesos", "--no-image", "/bin/date", "+%s"]);
        assert_eq!((task.name.as_str(), task.container.unwrap().mesos.unwrap().image), ("date", None));
        assert_eq!(task.command.unwrap().arguments, ["/bin/date", "+%s"]);
        assert!(error(&["--no-image", "date"]).contains("--containerizer=mesos"));
        assert!(error(&["--no-image", "--containerizer=mesos"]).contains("give a command"));
    }

    #[test]
    fn what_only_an_engine_can_do_is_refused_for_the_agents_own_runtime() {
        for option in ["--workdir=/x", "--privileged", "--init", "--publish=1:2", "--network=none", "--mount=dst=/x"] {
            let error = error(&["--containerizer=mesos", option, "busybox"]);
            assert!(error.contains("--containerizer"), "{option}: {error}");
        }
    }

    #[test]
    fn volumes_are_read_as_mesos_execute_takes_them() {
        let json = r#"--volumes=[{"container_path":"/b","host_path":"/a","mode":"RO"}]"#;
        let volumes = info(&[json, "busybox"]).container.unwrap().volumes;
        assert_eq!(volumes, info(&["-v/a:/b:ro", "busybox"]).container.unwrap().volumes);
        assert!(error(&["--volumes={}", "busybox"]).contains("JSON list"));
        assert!(error(&[r#"--volumes=[{"container_path":"/b","mod":"RO"}]"#, "busybox"]).contains("mod"));
        assert!(error(&["--volumes=file:///nonexistent", "busybox"]).contains("cannot read"));
    }

    #[test]
    fn a_docker_container_joins_one_network() {
        let named = |words: &[&str]| info(words).container.unwrap().network_infos.remove(0).name.unwrap();
        assert_eq!(named(&["--networks=blue", "image"]), "blue");
        assert_eq!(named(&["--net=blue", "image"]), "blue");
        assert!(error(&["--networks=blue,green", "image"]).contains("one network"));
        assert!(error(&["--networks=blue", "--network=green", "image"]).contains("one network"));
    }
}
