//! The command line that an agent gives `mesos-docker-executor`, Mesos 0.23 to 1.11. PURE.
//!
//! Every version has its own set, and Mesos' logging flags on top: what is not known here is passed over. Flags are
//! `--name=value`; booleans also `--name` and `--no-name`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::container_dns::ContainerDns;
use crate::executor::environment::parse_duration;

/// What the agent wants its executor to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerExecutorFlags {
    /// The container's name, to be used as it is: the agent looks for it.
    pub container: String,
    /// The engine's socket.
    pub docker_socket: PathBuf,
    /// The sandbox on this host, perhaps a symbolic link.
    pub sandbox_directory: PathBuf,
    /// The sandbox in the container.
    pub mapped_directory: PathBuf,
    /// Lower bound of the grace of a kill that says none.
    pub stop_timeout: Duration,
    /// Variables from the agent's hooks; they win over the task's own.
    pub task_environment: BTreeMap<String, String>,
    /// Whether the task's cpus are a limit, too, and not only a weight.
    pub cgroups_enable_cfs: bool,
    /// Name servers for containers on a bridge or a user's network, where the task says none.
    pub default_container_dns: Option<ContainerDns>,
}

impl DockerExecutorFlags {
    /// Reads the arguments, the program's name left out.
    ///
    /// # Errors
    /// [`FlagsError::Help`] when help is asked for; otherwise what is missing or malformed.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, FlagsError> {
        let given = Given::new(arguments);
        if given.is_set("help")? {
            return Err(FlagsError::Help);
        }
        let required = |name| given.text(name).ok_or(FlagsError::Missing { name });
        let path = |name, default: &str| PathBuf::from(given.text(name).unwrap_or_else(|| default.to_owned()));
        Ok(Self {
            container: required("container")?,
            docker_socket: path("docker_socket", "/var/run/docker.sock"),
            sandbox_directory: required("sandbox_directory")?.into(),
            mapped_directory: path("mapped_directory", "/mnt/mesos/sandbox"),
            stop_timeout: given.read("stop_timeout", "a duration such as 10secs", parse_duration)?.unwrap_or_default(),
            task_environment: given
                .read("task_environment", "a JSON object of texts", |text| serde_json::from_str(text).ok())?
                .unwrap_or_default(),
            cgroups_enable_cfs: given.is_set("cgroups_enable_cfs")?,
            default_container_dns: given.read(
                "default_container_dns",
                "JSON of Mesos' ContainerDNSInfo",
                ContainerDns::parse,
            )?,
        })
    }

    /// From SIGTERM to SIGKILL where neither the kill nor the task says, for [`crate::executor::core::Config`].
    pub fn kill_grace(&self, shutdown_grace_period: Duration) -> Duration {
        self.stop_timeout.max(shutdown_grace_period)
    }
}

/// The last value of each flag, as given.
struct Given(BTreeMap<String, Option<String>>);

impl Given {
    fn new(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let mut given = BTreeMap::new();
        for argument in arguments {
            // No flag of an agent is anything but text, except for paths that Docker could not take either.
            let argument = argument.to_string_lossy();
            let Some(flag) = argument.strip_prefix("--") else { continue };
            match flag.split_once('=') {
                Some((name, value)) => given.insert(name.to_owned(), Some(value.to_owned())),
                None => match flag.strip_prefix("no-") {
                    Some(name) => given.insert(name.to_owned(), Some("false".to_owned())),
                    None => given.insert(flag.to_owned(), None),
                },
            };
        }
        Self(given)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned().flatten().filter(|value| !value.is_empty())
    }

    fn is_set(&self, name: &'static str) -> Result<bool, FlagsError> {
        match self.0.get(name).map(Option::as_deref) {
            None | Some(Some("false" | "0" | "no")) => Ok(false),
            Some(None | Some("true" | "1" | "yes")) => Ok(true),
            Some(Some(value)) => {
                Err(FlagsError::Malformed { name, value: value.to_owned(), expected: "true or false" })
            }
        }
    }

    fn read<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, FlagsError> {
        let Some(value) = self.text(name) else { return Ok(None) };
        match read(&value) {
            Some(read) => Ok(Some(read)),
            None => Err(FlagsError::Malformed { name, value, expected }),
        }
    }
}

/// Why there are no flags to work with.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum FlagsError {
    /// Print [`USAGE`] on stdout and exit with 0.
    #[error("help is asked for")]
    Help,
    #[error("flag --{name} is missing; mesos-docker-executor is started by a Mesos agent, which gives it")]
    Missing { name: &'static str },
    #[error("flag --{name}={value} is not {expected}")]
    Malformed { name: &'static str, value: String, expected: &'static str },
}

/// What `--help` prints.
pub const USAGE: &str = "\
Usage: mesos-docker-executor --container=NAME --sandbox_directory=PATH [OPTIONS]

Runs one task of a Mesos agent (--containerizers=docker) in a Docker container. Started by the agent, which also sets
the MESOS_* environment.

  --container=NAME             name of the container
  --sandbox_directory=PATH     the task's sandbox on this host
  --mapped_directory=PATH      the sandbox in the container [default: /mnt/mesos/sandbox]
  --docker_socket=PATH         socket of the Docker engine [default: /var/run/docker.sock]
  --stop_timeout=DURATION      least time between SIGTERM and SIGKILL where a task says none [default: 0ns]
  --task_environment=JSON      variables for the task, {\"NAME\": \"value\"}
  --cgroups_enable_cfs=BOOL    whether cpus are a limit, too [default: false]
  --default_container_dns=JSON name servers for containers
  --help                       print this

Other flags of Mesos agents are accepted and have no effect.
";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn parse(arguments: &[&str]) -> Result<DockerExecutorFlags, FlagsError> {
        DockerExecutorFlags::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_of_a_1_11_agent_is_read() {
        let flags = parse(&[
            "--cgroups_enable_cfs=true",
            "--container=mesos-15ad8155-3391-427d-9024-0836a81a7c82",
            "--default_container_dns={\"docker\":[{\"network_mode\":\"BRIDGE\",\"dns\":{\"nameservers\":[\"8.8.8.8\"]}}]}",
            "--docker=docker",
            "--docker_socket=/run/docker.sock",
            "--help=false",
            "--initialize_driver_logging=true",
            "--launcher_dir=/usr/libexec/mesos",
            "--logbufsecs=0",
            "--logging_level=INFO",
            "--mapped_directory=/mnt/box",
            "--quiet=false",
            "--sandbox_directory=/var/lib/mesos/slaves/S0/docker/links/15ad8155",
            "--stop_timeout=10secs",
            "--task_environment={\"A\":\"b=c\"}",
        ]);
        let flags = flags.unwrap();
        assert_eq!(flags.container, "mesos-15ad8155-3391-427d-9024-0836a81a7c82");
        assert_eq!(flags.docker_socket, PathBuf::from("/run/docker.sock"));
        assert_eq!(flags.mapped_directory, PathBuf::from("/mnt/box"));
        assert_eq!(flags.stop_timeout, Duration::from_secs(10));
        assert_eq!(flags.task_environment, BTreeMap::from([("A".to_owned(), "b=c".to_owned())]));
        assert!(flags.cgroups_enable_cfs);
        assert_eq!(flags.default_container_dns.unwrap().of_network("bridge").unwrap().nameservers, ["8.8.8.8"]);
    }

    #[test]
    fn the_command_line_of_a_0_23_agent_leaves_mesos_defaults() {
        let flags =
            parse(&["--container=mesos-S0.c", "--docker=docker", "--sandbox_directory=/s", "--stop_timeout=0ns"]);
        let flags = flags.unwrap();
        assert_eq!(flags.docker_socket, PathBuf::from("/var/run/docker.sock"));
        assert_eq!(flags.mapped_directory, PathBuf::from("/mnt/mesos/sandbox"));
        assert_eq!((flags.stop_timeout, flags.cgroups_enable_cfs), (Duration::ZERO, false));
        assert_eq!(flags.task_environment, BTreeMap::new());
    }

    #[test]
    fn booleans_have_three_spellings_and_the_last_one_counts() {
        let is_limit = |arguments: &[&str]| {
            let all = [&["--container=c", "--sandbox_directory=/s"], arguments].concat();
            parse(&all).map(|flags| flags.cgroups_enable_cfs)
        };
        assert_eq!(is_limit(&["--cgroups_enable_cfs"]), Ok(true));
        assert_eq!(is_limit(&["--cgroups_enable_cfs", "--no-cgroups_enable_cfs"]), Ok(false));
        assert_eq!(is_limit(&["--cgroups_enable_cfs=1", "stray", "--unheard=of", "--of"]), Ok(true));
        assert!(matches!(is_limit(&["--cgroups_enable_cfs=maybe"]), Err(FlagsError::Malformed { .. })));
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        assert_eq!(parse(&["--sandbox_directory=/s"]), Err(FlagsError::Missing { name: "container" }));
        assert_eq!(
            parse(&["--container=c", "--sandbox_directory="]),
            Err(FlagsError::Missing { name: "sandbox_directory" })
        );
        let malformed = |flag| parse(&["--container=c", "--sandbox_directory=/s", flag]).unwrap_err().to_string();
        assert_eq!(malformed("--stop_timeout=5"), "flag --stop_timeout=5 is not a duration such as 10secs");
        assert_eq!(malformed("--task_environment=[]"), "flag --task_environment=[] is not a JSON object of texts");
        assert_eq!(parse(&["--help"]), Err(FlagsError::Help));
    }

    #[test]
    fn the_grace_of_a_kill_is_the_longer_one() {
        let flags = parse(&["--container=c", "--sandbox_directory=/s", "--stop_timeout=7secs"]).unwrap();
        assert_eq!(flags.kill_grace(Duration::from_secs(5)), Duration::from_secs(7));
        assert_eq!(flags.kill_grace(Duration::from_secs(9)), Duration::from_secs(9));
    }
}
