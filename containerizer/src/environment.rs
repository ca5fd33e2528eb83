//! The environment a slave gives to the verbs, and the part of it that an executor in a container gets. PURE but for
//! [`Environment::from_process`].
//!
//! A verb sees the slave's whole environment, and a slave's own options may be there as `MESOS_OPTION`. So nothing is
//! handed on but what an executor needs, by name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Variables by name; `Debug` shows the names only, values may be secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process; what is not UTF-8 is left out.
    pub fn from_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// A variable's value; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The same with one variable set.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut variables = self.0.clone();
        variables.insert(name.to_owned(), value.to_owned());
        Self(variables)
    }

    /// The slave's work directory, under which our state lives.
    ///
    /// # Errors
    /// `MESOS_WORK_DIRECTORY` is not set or not absolute.
    pub fn work_directory(&self) -> Result<PathBuf, EnvironmentError> {
        let path = PathBuf::from(self.get(WORK_DIRECTORY).ok_or(EnvironmentError::NoWorkDirectory)?);
        if path.is_absolute() { Ok(path) } else { Err(EnvironmentError::RelativeWorkDirectory { path }) }
    }

    /// What a custom executor gets of it inside its container, where the sandbox and the ports are other ones: the
    /// executor's own `MESOS_*` variables and `LIBPROCESS_*`.
    ///
    /// From 0.23 on the slave's own port stands in `LIBPROCESS_PORT`, which an executor could not bind: it is 0 here.
    /// The slave's addresses are given only where the container shares its network.
    pub fn for_executor(&self, shares_network: bool) -> impl Iterator<Item = (&str, &str)> {
        let libprocess_port = std::iter::once(("LIBPROCESS_PORT", "0"));
        let handed_on = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let handed_on = handed_on.filter(move |(name, _)| {
            FOR_EXECUTORS.contains(name)
                || name.starts_with("LIBPROCESS_")
                    && !OF_THE_SLAVE_ITSELF.contains(name)
                    && (shares_network || !ADDRESSES.contains(name))
        });
        libprocess_port.chain(handed_on)
    }

    /// With the variables of another one, which win.
    pub fn overlaid_by(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// What a supervisor needs of it, to be kept for one that has to take over.
    pub fn for_supervisor(&self) -> Self {
        let is_needed = |name: &str| {
            FOR_EXECUTORS.contains(&name)
                || name.starts_with("LIBPROCESS_")
                || name.starts_with(crate::config::VARIABLE_PREFIX)
                || matches!(
                    name,
                    WORK_DIRECTORY | DOCKER_HOST | DEFAULT_IMAGE | "SSL_ENABLED" | "PATH" | "HOME" | "DOCKER_CONFIG"
                )
        };
        Self(self.0.iter().filter(|(name, _)| is_needed(name)).map(|(n, v)| (n.clone(), v.clone())).collect())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why the environment is not a slave's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvironmentError {
    /// Not started by a slave.
    #[error(
        "MESOS_WORK_DIRECTORY is not set; a Mesos slave sets it, set it to the slave's --work_dir when you try this by hand"
    )]
    NoWorkDirectory,
    /// Mesos asks for an absolute `--work_dir`.
    #[error("MESOS_WORK_DIRECTORY is {}, which is not an absolute path; give the slave an absolute --work_dir", path.display())]
    RelativeWorkDirectory {
        /// As it was given.
        path: PathBuf,
    },
}

/// The slave's `--work_dir`.
pub const WORK_DIRECTORY: &str = "MESOS_WORK_DIRECTORY";
/// Where the engine listens.
pub const DOCKER_HOST: &str = "DOCKER_HOST";
/// The slave's `--default_container_image`.
pub const DEFAULT_IMAGE: &str = "MESOS_DEFAULT_CONTAINER_IMAGE";

/// Set by slaves of any version for the executor alone. Not here because it is another one inside the container: the
/// sandbox's path `MESOS_DIRECTORY`, and `MESOS_NATIVE_JAVA_LIBRARY`, which images with a libmesos set themselves.
const FOR_EXECUTORS: [&str; 11] = [
    "MESOS_FRAMEWORK_ID",
    "MESOS_EXECUTOR_ID",
    "MESOS_SLAVE_ID",
    "MESOS_SLAVE_PID",
    "MESOS_AGENT_ENDPOINT",
    "MESOS_CHECKPOINT",
    "MESOS_RECOVERY_TIMEOUT",
    "MESOS_SUBSCRIPTION_BACKOFF_MAX",
    "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD",
    "MESOS_HTTP_COMMAND_EXECUTOR",
    "MESOS_EXECUTOR_AUTHENTICATION_TOKEN",
];

const OF_THE_SLAVE_ITSELF: [&str; 3] =
    ["LIBPROCESS_PORT", "LIBPROCESS_ADVERTISE_PORT", "LIBPROCESS_NUM_WORKER_THREADS"];

const ADDRESSES: [&str; 2] = ["LIBPROCESS_IP", "LIBPROCESS_ADVERTISE_IP"];

#[cfg(test)]
mod tests {
    use super::*;

    fn slave() -> Environment {
        [
            ("LIBPROCESS_ADVERTISE_PORT", "5051"),
            ("LIBPROCESS_IP", "10.0.0.5"),
            ("LIBPROCESS_PORT", "5051"),
            ("LIBPROCESS_SSL_ENABLED", "1"),
            ("MESOS_CREDENTIAL", "/etc/secret"),
            ("MESOS_DIRECTORY", "/var/lib/mesos/s"),
            ("MESOS_SLAVE_PID", "slave(1)@10.0.0.5:5051"),
            ("MESOS_WORK_DIRECTORY", "/var/lib/mesos"),
            ("PATH", "/bin"),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn an_executor_gets_its_own_variables_and_a_free_port() {
        let given: Vec<_> = slave().for_executor(true).map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(
            given,
            [
                "LIBPROCESS_PORT=0",
                "LIBPROCESS_IP=10.0.0.5",
                "LIBPROCESS_SSL_ENABLED=1",
                "MESOS_SLAVE_PID=slave(1)@10.0.0.5:5051"
            ]
        );
    }

    #[test]
    fn an_executor_with_its_own_network_does_not_get_the_slaves_address() {
        assert!(slave().for_executor(false).all(|(name, _)| name != "LIBPROCESS_IP"));
    }

    #[test]
    fn values_are_not_debugged() {
        assert!(!format!("{:?}", slave()).contains("secret"));
    }

    #[test]
    fn a_work_directory_must_be_absolute() {
        assert_eq!(slave().work_directory(), Ok(PathBuf::from("/var/lib/mesos")));
        assert_eq!(Environment::default().work_directory(), Err(EnvironmentError::NoWorkDirectory));
        let relative: Environment = [(WORK_DIRECTORY, "var")].into_iter().collect();
        assert!(matches!(relative.work_directory(), Err(EnvironmentError::RelativeWorkDirectory { .. })));
    }
}
