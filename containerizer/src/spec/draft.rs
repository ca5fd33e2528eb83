//! What a container is put together in before it is a [`Spec`](super::Spec). PURE.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::docker::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountType, NetworkingConfig, PortBinding, RestartPolicy,
    RestartPolicyNameEnum,
};

use crate::config::PullPolicy;

/// The parts that several sources add to: message fields, parameters, the old option list.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) body: ContainerCreateBody,
    pub(super) host: HostConfig,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) labels: HashMap<String, String>,
    pub(super) mounts: Vec<Mount>,
    pub(super) ports: Vec<Port>,
    pub(super) endpoint: Endpoint,
    /// As a parameter has it.
    pub(super) pull: Option<PullPolicy>,
    /// Made before the container is created where they are missing, as Docker does for `-v`.
    pub(super) host_directories: Vec<PathBuf>,
    /// Whether somebody will give it input, whose end then is the container's.
    pub(super) has_stdin: bool,
    /// The sandbox on the host.
    pub(super) sandbox: PathBuf,
    /// The sandbox in the container.
    pub(super) mapped_directory: String,
}

/// A host port that leads into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) host_ip: Option<String>,
    pub(super) host: u16,
    pub(super) container: u16,
    pub(super) protocol: String,
}

/// What the container is in its network.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) aliases: Vec<String>,
    pub(super) links: Vec<String>,
    pub(super) ipv4: Option<String>,
    pub(super) ipv6: Option<String>,
    pub(super) link_local_ips: Vec<String>,
}

impl Endpoint {
    /// Links without a network of one's own are the engine's old kind, and stand elsewhere.
    fn apply(self, network: &str, body: &mut ContainerCreateBody, host: &mut HostConfig) {
        if self == Self::default() {
            return;
        }
        let Self { aliases, links, ipv4, ipv6, link_local_ips } = self;
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
        let is_own = !matches!(network, "bridge" | "default");
        if !is_own {
            host.links = some(links.clone());
        }
        let has_address = ipv4.is_some() || ipv6.is_some() || !link_local_ips.is_empty();
        let settings = EndpointSettings {
            aliases: some(aliases),
            links: some(links).filter(|_| is_own),
            ipam_config: has_address.then(|| EndpointIpamConfig {
                ipv4_address: ipv4,
                ipv6_address: ipv6,
                link_local_ips: some(link_local_ips),
            }),
            ..Default::default()
        };
        if settings != EndpointSettings::default() {
            let endpoints = HashMap::from([(network.to_owned(), settings)]);
            body.networking_config = Some(NetworkingConfig { endpoints_config: Some(endpoints) });
        }
    }
}

impl Draft {
    /// Mounts a directory or file of the host. Mounts and not binds: a bind's text cannot hold a path with a colon.
    pub(super) fn bind(&mut self, host: &Path, container: &str, access: Access, propagation: Option<Propagation>) {
        self.mounts.push(Mount {
            typ: Some(MountType::BIND),
            source: Some(host.to_string_lossy().into_owned()),
            target: Some(container.to_owned()),
            read_only: Some(access == Access::ReadOnly),
            bind_options: propagation
                .map(|propagation| MountBindOptions { propagation: Some(propagation), ..Default::default() }),
            ..Default::default()
        });
    }

    pub(super) fn finish(mut self) -> (ContainerCreateBody, Vec<PathBuf>) {
        self.body.env = Some(self.environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect());
        self.body.labels = Some(self.labels);
        self.body.attach_stdout = Some(true);
        self.body.attach_stderr = Some(true);
        if self.has_stdin {
            self.body.attach_stdin = Some(true);
            self.body.open_stdin = Some(true);
            self.body.stdin_once = Some(true);
        }
        self.host.mounts = Some(self.mounts);
        self.host.auto_remove = Some(false);
        self.host.restart_policy =
            Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None });
        // The sandbox gets every byte; the engine's own copy would only fill its disk.
        self.host.log_config.get_or_insert_with(|| HostConfigLogConfig { typ: Some("none".to_owned()), config: None });
        if !self.ports.is_empty() {
            let bindings = self.host.port_bindings.get_or_insert_with(HashMap::new);
            let exposed = self.body.exposed_ports.get_or_insert_with(Vec::new);
            for Port { host_ip, host, container, protocol } in self.ports {
                let key = format!("{container}/{protocol}");
                let binding = PortBinding { host_ip, host_port: Some(host.to_string()) };
                bindings
                    .entry(key.clone())
                    .or_insert_with(|| Some(Vec::new()))
                    .get_or_insert_with(Vec::new)
                    .push(binding);
                if !exposed.contains(&key) {
                    exposed.push(key);
                }
            }
        }
        let network = self.host.network_mode.clone().unwrap_or_default();
        self.endpoint.apply(&network, &mut self.body, &mut self.host);
        self.body.host_config = Some(self.host);
        (self.body, self.host_directories)
    }
}

/// What a container may do with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    ReadWrite,
    ReadOnly,
}

/// How mounts made later travel between host and container.
pub(super) type Propagation = MountBindOptionsPropagationEnum;
