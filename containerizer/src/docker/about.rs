//! What an operator wants to know of an engine: what it is, what it can, and which containers on it have our labels.
//!
//! Questions have a short deadline: a person waits for the answer.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum};
use bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions};

use super::{DEFAULT_HOST, Engine, EngineError, REMOVE};
use crate::environment::{DOCKER_HOST, Environment};
use crate::spec::{CONTAINER_ID_LABEL, WORK_DIRECTORY_LABEL};

/// An engine's own words about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Of the engine, such as `20.10.24`.
    pub server_version: String,
    /// The newest API version it speaks, such as `1.41`.
    pub api_version: String,
    /// Where images and containers lie, on the engine's host.
    pub data_root: PathBuf,
    /// Such as `overlay2`.
    pub storage_driver: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// What it can limit.
    pub can_limit: Limiting,
    /// Whether containers outlive a restart of it.
    pub is_live_restore: bool,
    /// Whether it has an init program for containers.
    pub has_init: bool,
    /// Such as `name=rootless` or `name=userns`.
    pub security_options: Vec<String>,
    /// Registries that are asked before the public one.
    pub registry_mirrors: Vec<String>,
}

/// What an engine can limit on its host's kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the engine's own list")]
pub struct Limiting {
    /// Memory.
    pub memory: bool,
    /// Memory and swap together.
    pub swap: bool,
    /// Shares of the cpus.
    pub cpu_shares: bool,
    /// A quota of cpu time.
    pub cpu_quota: bool,
}

/// A container with our labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// Mesos' id, as the label has it.
    pub container_id: String,
    /// The slave's work directory, as the label has it.
    pub work_directory: String,
    /// The engine's id.
    pub docker_id: String,
    /// Its name at the engine, without the slash.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// Such as `running` or `exited`.
    pub state: String,
    /// As the engine tells people: `Up 3 minutes`, `Exited (1) 2 hours ago`.
    pub status: String,
    /// When it was created.
    pub created: SystemTime,
}

impl Labelled {
    /// Whether it has a process now.
    pub fn is_alive(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting" | "removing" | "stopping")
    }
}

impl Engine {
    /// The address that [`Engine::connect`] uses.
    pub fn address(environment: &Environment) -> &str {
        environment.get(DOCKER_HOST).unwrap_or(DEFAULT_HOST)
    }

    /// What the engine says about itself.
    ///
    /// # Errors
    /// It does not answer in time, or not well.
    pub async fn about(&self) -> Result<About, EngineError> {
        let version = self.call("say its version", ASKED_BY_A_PERSON, self.docker.version()).await?;
        let info = self.call("say what it can", ASKED_BY_A_PERSON, self.docker.info()).await?;
        Ok(About::new(version.api_version.unwrap_or_default(), info))
    }

    /// All containers with our labels, of whatever work directory, running or not; and how many there are without.
    ///
    /// # Errors
    /// The engine does not say.
    pub async fn list_labelled(&self) -> Result<(Vec<Labelled>, usize), EngineError> {
        let options = ListContainersOptions { all: true, ..Default::default() };
        let listed = self.docker.list_containers(Some(options));
        let all = self.call("list containers", ASKED_BY_A_PERSON, listed).await?;
        let count = all.len();
        let labelled: Vec<Labelled> = all
            .into_iter()
            .filter_map(|container| {
                let mut labels = container.labels.unwrap_or_default();
                let created = container.created.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
                let name = container.names.unwrap_or_default().into_iter().next().unwrap_or_default();
                Some(Labelled {
                    container_id: labels.remove(CONTAINER_ID_LABEL)?,
                    work_directory: labels.remove(WORK_DIRECTORY_LABEL)?,
                    docker_id: container.id?,
                    name: name.trim_start_matches('/').to_owned(),
                    image: container.image.unwrap_or_default(),
                    state: container.state.map(|state| state.to_string()).unwrap_or_default(),
                    status: container.status.unwrap_or_default(),
                    created: SystemTime::UNIX_EPOCH + Duration::from_secs(created),
                })
            })
            .collect();
        let foreign = count - labelled.len();
        Ok((labelled, foreign))
    }

    /// Removes a container that does not run, with its anonymous volumes; that it is gone is fine.
    ///
    /// # Errors
    /// It runs, or the engine cannot remove it.
    pub async fn remove_if_ended(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptions { v: true, ..Default::default() };
        match self.call("remove the container", REMOVE, self.docker.remove_container(id, Some(options))).await {
            Ok(()) | Err(EngineError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl About {
    fn new(api_version: String, info: SystemInfo) -> Self {
        let is = |flag: Option<bool>| flag.unwrap_or(false);
        Self {
            server_version: info.server_version.unwrap_or_default(),
            api_version,
            data_root: info.docker_root_dir.unwrap_or_default().into(),
            storage_driver: info.driver.unwrap_or_default(),
            cgroup_driver: info.cgroup_driver.map(|driver| driver.to_string()).unwrap_or_default(),
            // Engines before 20.10 know only one, and do not say so.
            cgroup_version: if info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_2) { 2 } else { 1 },
            can_limit: Limiting {
                memory: is(info.memory_limit),
                swap: is(info.swap_limit),
                cpu_shares: is(info.cpu_shares),
                cpu_quota: is(info.cpu_cfs_quota),
            },
            is_live_restore: is(info.live_restore_enabled),
            has_init: info.init_binary.is_some_and(|binary| !binary.is_empty()),
            security_options: info.security_options.unwrap_or_default(),
            registry_mirrors: info.registry_config.and_then(|config| config.mirrors).unwrap_or_default(),
        }
    }
}

/// A healthy engine needs milliseconds; who looks into a sick one does not want to wait long.
const ASKED_BY_A_PERSON: Duration = Duration::from_secs(5);
