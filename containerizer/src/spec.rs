//! From the slave's `Launch` message to what the engine is asked to create. PURE.
//!
//! The **image** is the first that is named by the task's `ContainerInfo`, the executor's, either's `CommandInfo.container`
//! (Mesos before 0.27, with the old list of options), and the slave's `--default_container_image`.
//!
//! The **command** is read as Mesos' own Docker executor reads it, so that a task does the same on both: `shell=true` is
//! `/bin/sh -c VALUE` instead of the image's entrypoint; otherwise value (if any) and then *all* arguments go to the
//! image's entrypoint, and nothing at all runs what the image says. (Where there is no Docker, Mesos takes the arguments
//! for a whole argv that repeats the value. A launcher that wants argv on both sends `value=argv[0], arguments=argv[1..]`.)
//!
//! Shells run under the engine's init process: a shell that is PID 1 would ignore SIGTERM and could not kill itself.
//! Other commands run as the image's author expects, as PID 1, unless the parameter `init` asks for more.
//!
//! **Limits** of a command task are the task's own resources. What Mesos adds for its command executor (0.1 cpus, 32 MB)
//! belongs to our supervisor, which runs outside of the container: [`Overhead`] is kept apart from updates, too.

mod draft;
mod image;
mod limits;
mod mount;
mod parameters;
mod volumes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::container_dns::ContainerDns;
use crate::docker::models::{ContainerCreateBody, HostConfigLogConfig};
use proto::ecp::Launch;
use proto::mesos::container_info::DockerInfo;
use proto::mesos::container_info::docker_info::Network;
use proto::mesos::environment::variable;
use proto::mesos::{self, CommandInfo, ContainerInfo, Resource};
use proto::record;
use proto::resources::Resources;

use self::draft::{Access, Draft, Endpoint, Port};
pub use self::image::{Image, ImageError};
pub use self::limits::{Limits, Overhead, Swap};
use self::limits::{Scalars, cpu_quota, disk_bytes};
pub(crate) use self::parameters::bytes;
pub use self::parameters::{markdown_table, refused_markdown_table};
use crate::config::{Config, DiskPolicy, PullPolicy};
use crate::environment::{DEFAULT_IMAGE, Environment};

/// A container to be created.
#[derive(Debug, Clone)]
pub struct Spec {
    /// What runs.
    pub image: Image,
    /// When its registry is asked for it, where the task says so.
    pub pull: Option<PullPolicy>,
    /// The container's name.
    pub container_name: String,
    /// The engine's own description.
    pub create: ContainerCreateBody,
    /// Directories of the host to be made before, where they are missing.
    pub host_directories: Vec<PathBuf>,
    /// Whether the task says what becomes of its output at the engine.
    pub is_log_chosen: bool,
    /// How swap follows memory.
    pub swap: Swap,
    /// What the container's own layer may grow to, where that is to be limited.
    pub disk: Option<DiskLimit>,
}

impl Spec {
    /// Reads what a slave of any version asks for.
    ///
    /// # Errors
    /// The message asks for what a container cannot be or have; the text says what and where.
    pub fn build(launch: &Launch, environment: &Environment, placement: &Placement) -> Result<Self, SpecError> {
        let run = Run::of(launch)?;
        let image = run.image(environment)?;
        let container_name = placement.container_name.clone();
        let mapped_directory = placement.mapped_directory.as_str();
        let mut draft = Draft {
            sandbox: PathBuf::from(launch.directory()),
            mapped_directory: mapped_directory.to_owned(),
            ..Default::default()
        };
        draft.body.image = Some(image.to_string());
        draft.labels = labels(launch, environment);
        draft.has_stdin = launch.task_info.as_ref().is_some_and(record::wants_stdin);

        let docker = run.container.and_then(|container| container.docker.as_ref());
        draft.host.network_mode = Some(run.network()?);
        draft.body.hostname = run.container.and_then(|container| container.hostname.clone());
        draft.host.privileged = docker.and_then(|docker| docker.privileged);
        draft.body.user = run.command.user.clone().filter(|user| !user.is_empty());
        if run.is_custom_executor {
            // Executors are commonly fetched into the sandbox and started as ./NAME.
            draft.body.working_dir = Some(mapped_directory.to_owned());
        }
        let limits = run.limits();
        draft.host.cpu_shares = limits.cpu_shares;
        draft.host.memory = limits.memory_bytes;
        draft.host.cpu_quota = run.cpu_quota(placement);
        let volume_driver = docker.and_then(|docker| docker.volume_driver.as_deref());
        for volume in run.container.iter().flat_map(|container| &container.volumes) {
            volumes::add(&mut draft, volume, volume_driver)?;
        }
        let sandbox = draft.sandbox.clone();
        draft.bind(&sandbox, mapped_directory, Access::ReadWrite, None);
        for mapping in docker.iter().flat_map(|docker| &docker.port_mappings) {
            draft.ports.push(port(mapping)?);
        }
        let disk = run.disk_limit(placement);
        draft.host.storage_opt = disk.map(|disk| [(DISK_OPTION.to_owned(), disk.bytes.to_string())].into());
        draft.environment = run.environment()?;
        draft.environment.extend(placement.environment.clone());

        parameters::apply_options(&mut draft, run.options)?;
        for parameter in docker.iter().flat_map(|docker| &docker.parameters) {
            parameters::apply(&mut draft, &parameter.key, &parameter.value)?;
        }

        let network = draft.host.network_mode.clone().unwrap_or_default();
        let has_own_dns =
            draft.host.dns.is_some() || draft.host.dns_search.is_some() || draft.host.dns_options.is_some();
        if let Some(dns) = placement.dns.of_network(&network).filter(|_| !has_own_dns) {
            let some = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
            draft.host.dns = some(&dns.nameservers);
            draft.host.dns_search = some(&dns.search);
            draft.host.dns_options = some(&dns.options);
        }
        if run.is_custom_executor {
            for (name, value) in environment.for_executor(network == "host") {
                draft.environment.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        let ours = [
            ("MESOS_SANDBOX", mapped_directory),
            ("MESOS_DIRECTORY", mapped_directory),
            ("MESOS_CONTAINER_NAME", &container_name),
        ];
        draft.environment.extend(ours.map(|(name, value)| (name.to_owned(), value.to_owned())));
        run.command_line(&mut draft)?;
        let has_own_network = !matches!(network.as_str(), "host" | "none") && !network.starts_with("container:");
        if draft.ports.is_empty() && has_own_network && placement.publishes_allocated_ports {
            draft.ports = run.allocated_ports();
        }
        run.check_ports(&draft.ports, &network)?;
        if draft.endpoint != Endpoint::default() && !has_own_network {
            return Err(SpecError::EndpointOfHost { network });
        }
        if draft.body.hostname.is_some() && network == "host" {
            return Err(SpecError::HostnameOfHost);
        }
        let forced = docker.is_some_and(DockerInfo::force_pull_image).then_some(PullPolicy::Always);
        let pull = draft.pull.or(forced);
        let is_log_chosen = draft.host.log_config.is_some();
        let fixed = draft.host.memory_swap.filter(|bytes| *bytes != 0);
        let swap = fixed.map_or(placement.swap, |bytes| Swap::Fixed { bytes });
        if fixed.is_none() {
            draft.host.memory_swap = memory_swap(draft.host.memory, swap);
        }
        // A parameter of the task wins, and is not to be left out.
        let given = draft.host.storage_opt.as_ref().and_then(|options| options.get(DISK_OPTION));
        let disk = disk.filter(|disk| given.is_some_and(|given| *given == disk.bytes.to_string()));
        let (create, host_directories) = draft.finish();
        Ok(Self { image, pull, container_name, create, host_directories, is_log_chosen, swap, disk })
    }

    /// Whether the engine's init process is to run before the command.
    pub fn has_init(&self) -> bool {
        self.create.host_config.as_ref().and_then(|host| host.init).unwrap_or(false)
    }

    /// Whether somebody will give it input.
    pub fn has_stdin(&self) -> bool {
        self.create.open_stdin.unwrap_or(false)
    }

    /// For engines that were installed without one.
    pub fn remove_init(&mut self) {
        if let Some(host) = &mut self.create.host_config {
            host.init = None;
        }
    }

    /// What the container may use.
    pub fn limits(&self) -> Limits {
        let host = self.create.host_config.as_ref();
        Limits {
            cpu_shares: host.and_then(|host| host.cpu_shares),
            memory_bytes: host.and_then(|host| host.memory),
            cpu_quota: host.and_then(|host| host.cpu_quota),
        }
    }

    /// Has the engine keep the last of the output beside the sandbox, for a supervisor that has to go on with it; whether it
    /// will. It will not where the task says what becomes of its log.
    pub fn keep_log(&mut self) -> bool {
        let Some(host) = self.create.host_config.as_mut().filter(|_| !self.is_log_chosen) else { return false };
        let options = [("max-size", KEPT_LOG_FILE), ("max-file", "2"), ("compress", "false")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        host.log_config = Some(HostConfigLogConfig { typ: Some(KEPT_LOG.to_owned()), config: Some(options) });
        true
    }

    /// For storage drivers that cannot.
    pub fn remove_disk_limit(&mut self) {
        self.disk = None;
        if let Some(options) = self.create.host_config.as_mut().and_then(|host| host.storage_opt.as_mut()) {
            options.remove(DISK_OPTION);
        }
    }

    /// What the container may use from now on: an update can come before the container is there.
    pub fn set_limits(&mut self, limits: Limits) {
        if let Some(host) = &mut self.create.host_config {
            host.cpu_shares = limits.cpu_shares;
            host.memory = limits.memory_bytes;
            host.cpu_quota = limits.cpu_quota.or(host.cpu_quota);
            host.memory_swap = memory_swap(limits.memory_bytes, self.swap).or(host.memory_swap);
        }
    }
}

/// What an agent decides about a container, and not its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The container's name.
    pub container_name: String,
    /// Where the container finds its sandbox; absolute.
    pub mapped_directory: String,
    /// Wins over the task's own variables, as Mesos has it.
    pub environment: BTreeMap<String, String>,
    /// Whether the cpus are a limit, too, and not only a weight.
    pub is_cpu_limited: bool,
    /// Whether a task with a network of its own and without port mappings gets each of its ports published.
    pub publishes_allocated_ports: bool,
    /// Whether the engine keeps the last of the output, unless the task says what becomes of it.
    pub keeps_log: bool,
    /// How swap follows memory, unless the task says how much.
    pub swap: Swap,
    /// Whether the task's disk limits the container's own layer.
    pub disk: DiskPolicy,
    /// For tasks that say nothing of name servers.
    pub dns: ContainerDns,
}

impl Placement {
    /// As this containerizer does it: by this name Mesos' own tools find a container, too.
    pub fn of_container(container_id: &str) -> Self {
        Self {
            container_name: format!("mesos-{container_id}"),
            mapped_directory: SANDBOX.to_owned(),
            environment: BTreeMap::new(),
            is_cpu_limited: false,
            publishes_allocated_ports: false,
            keeps_log: true,
            swap: Swap::Same,
            disk: DiskPolicy::Never,
            dns: ContainerDns::default(),
        }
    }

    /// And as the operator wants it.
    pub fn configured(self, config: &Config) -> Self {
        let container = &config.container;
        Self {
            is_cpu_limited: container.limit_cpus,
            publishes_allocated_ports: container.publish_allocated_ports,
            keeps_log: container.keep_log,
            swap: container.swap.into(),
            disk: container.limit_disk,
            ..self
        }
    }
}

/// What a container's own layer may grow to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskLimit {
    /// All in all.
    pub bytes: u64,
    /// Whether there is to be no container where the storage driver cannot limit it.
    pub is_needed: bool,
}

/// What the engine is told beside a memory limit; nothing where its own rule is ours.
fn memory_swap(memory_bytes: Option<i64>, swap: Swap) -> Option<i64> {
    memory_bytes.filter(|_| swap != Swap::Same).map(|bytes| swap.limit_bytes(bytes))
}

/// Whether the message is for a task whose executor we are; else the executor runs inside the container.
pub fn is_command_task(launch: &Launch) -> bool {
    launch.task_info.is_some()
}

/// Those parts of a launch message that say what runs.
struct Run<'a> {
    is_custom_executor: bool,
    command: &'a CommandInfo,
    container: Option<&'a ContainerInfo>,
    /// The task's image and the executor's, as `CommandInfo.container` of the early days has them.
    early_image: Option<&'a str>,
    options: &'a [String],
    executor_image: Option<&'a str>,
    resources: &'a [Resource],
}

impl<'a> Run<'a> {
    fn of(launch: &'a Launch) -> Result<Self, SpecError> {
        let task = launch.task_info.as_ref();
        let executor = launch.executor_info.as_ref();
        if launch.directory().is_empty() {
            return Err(SpecError::NoSandbox);
        }
        // Relative paths of volumes are found from it, and would be found from wherever we happen to be.
        if !Path::new(launch.directory()).is_absolute() {
            return Err(SpecError::RelativeSandbox { path: launch.directory().to_owned() });
        }
        let executor_command = executor.and_then(|executor| executor.command.as_ref());
        let (command, resources) = match task {
            Some(task) => (task.command.as_ref(), &task.resources),
            None => (executor_command, &executor.ok_or(SpecError::NoCommand)?.resources),
        };
        let command = command.ok_or(SpecError::NoCommand)?;
        let executor_container = executor.and_then(|executor| executor.container.as_deref());
        let container = task.and_then(|task| task.container.as_deref()).or(executor_container);
        let early = command.container.as_ref().or(executor_command.and_then(|command| command.container.as_ref()));
        Ok(Self {
            is_custom_executor: task.is_none(),
            command,
            container,
            early_image: early.map(|early| early.image.as_str()),
            options: early.map_or(&[], |early| &early.options),
            executor_image: executor_container.and_then(|c| c.docker.as_ref()).map(|docker| docker.image.as_str()),
            resources,
        })
    }

    fn image(&self, environment: &Environment) -> Result<Image, SpecError> {
        let docker = self.container.and_then(|container| container.docker.as_ref());
        let named = [docker.map(|docker| docker.image.as_str()), self.executor_image, self.early_image];
        let default = environment.get(DEFAULT_IMAGE);
        let image = named.into_iter().chain([default]).flatten().find(|image| !image.is_empty());
        Ok(Image::parse(image.ok_or(SpecError::NoImage)?)?)
    }

    /// The host's network unless the task says otherwise; but bridge for tasks of the early days, as `docker run` does.
    fn network(&self) -> Result<String, SpecError> {
        let Some(docker) = self.container.and_then(|container| container.docker.as_ref()) else {
            let is_early_task = self.early_image.is_some() && !self.is_custom_executor;
            return Ok(if is_early_task { "bridge" } else { "host" }.to_owned());
        };
        Ok(match docker.network() {
            Network::Host => "host".to_owned(),
            Network::Bridge => "bridge".to_owned(),
            Network::None => "none".to_owned(),
            Network::User => {
                let names = self.container.iter().flat_map(|container| &container.network_infos);
                let names: Vec<_> = names.filter_map(|info| info.name.clone()).collect();
                match names.as_slice() {
                    [name] => name.clone(),
                    _ => return Err(SpecError::UserNetwork { found: names.len() }),
                }
            }
        })
    }

    fn limits(&self) -> Limits {
        Limits::of(self.resources)
    }

    fn disk_limit(&self, placement: &Placement) -> Option<DiskLimit> {
        let is_needed = match placement.disk {
            DiskPolicy::Never => return None,
            DiskPolicy::WherePossible => false,
            DiskPolicy::Always => true,
        };
        disk_bytes(self.resources).map(|bytes| DiskLimit { bytes, is_needed })
    }

    /// Microseconds of cpu time for each tenth of a second, Docker's period.
    fn cpu_quota(&self, placement: &Placement) -> Option<i64> {
        let milli_cpus = Scalars::of(self.resources).cpus.milli();
        let is_limited = placement.is_cpu_limited && milli_cpus > 0;
        is_limited.then(|| cpu_quota(milli_cpus))
    }

    fn environment(&self) -> Result<BTreeMap<String, String>, SpecError> {
        let variables = self.command.environment.iter().flat_map(|environment| &environment.variables);
        variables
            .map(|variable| {
                let name = variable.name.clone();
                if name.is_empty() || name.contains(['=', '\0']) {
                    return Err(SpecError::Variable { name, reason: "that is no variable's name" });
                }
                let value = match (variable.r#type(), &variable.secret) {
                    (variable::Type::Secret, secret) => {
                        let value = secret.as_ref().and_then(|secret| secret.value.as_ref());
                        let value = value.and_then(|value| std::str::from_utf8(&value.data).ok());
                        let reason = "its secret is a reference or not text, which no slave of ours resolves";
                        value.ok_or_else(|| SpecError::Variable { name: name.clone(), reason })?
                    }
                    _ => variable.value(),
                };
                if value.contains('\0') {
                    return Err(SpecError::Variable { name, reason: "its value has a zero byte" });
                }
                Ok((name, value.to_owned()))
            })
            .collect()
    }

    fn command_line(&self, draft: &mut Draft) -> Result<(), SpecError> {
        let value = self.command.value.clone().filter(|value| !value.is_empty());
        if self.command.shell() {
            let value = value.ok_or(SpecError::NoShellText)?;
            draft.body.entrypoint.get_or_insert_with(|| vec!["/bin/sh".to_owned()]);
            draft.body.cmd = Some(vec!["-c".to_owned(), value]);
            draft.host.init.get_or_insert(true);
        } else {
            let words: Vec<String> = value.into_iter().chain(self.command.arguments.iter().cloned()).collect();
            draft.body.cmd = (!words.is_empty()).then_some(words);
        }
        Ok(())
    }

    /// Each of the task's ports leads to the same one inside, as frameworks of the early days expect it.
    fn allocated_ports(&self) -> Vec<Port> {
        let ranges = Resources::from(self.resources).ranges("ports");
        let ports = ranges.into_iter().flat_map(|(begin, end)| begin..=end).filter_map(|port| u16::try_from(port).ok());
        let ports = ports.filter(|port| *port > 0);
        ports.map(|port| Port { host_ip: None, host: port, container: port, protocol: "tcp".to_owned() }).collect()
    }

    fn check_ports(&self, ports: &[Port], network: &str) -> Result<(), SpecError> {
        if let Some(port) = ports.first()
            && (matches!(network, "host" | "none") || network.starts_with("container:"))
        {
            return Err(SpecError::PortsOfHost { port: port.host, network: network.to_owned() });
        }
        let offered = Resources::from(self.resources).ranges("ports");
        for port in ports.iter().map(|port| port.host) {
            if !offered.iter().any(|(begin, end)| (*begin..=*end).contains(&u64::from(port))) {
                let offered =
                    offered.iter().map(|(begin, end)| format!("{begin}-{end}")).collect::<Vec<_>>().join(", ");
                return Err(SpecError::PortNotOffered { port, offered: format!("[{offered}]") });
            }
        }
        Ok(())
    }
}

fn port(mapping: &mesos::container_info::docker_info::PortMapping) -> Result<Port, SpecError> {
    let number = |number: u32| u16::try_from(number).ok().filter(|port| *port > 0);
    let number = |side: u32| number(side).ok_or(SpecError::NoPort { port: side });
    let protocol = mapping.protocol().to_ascii_lowercase();
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(SpecError::Protocol { protocol });
    }
    Ok(Port { host_ip: None, host: number(mapping.host_port)?, container: number(mapping.container_port)?, protocol })
}

fn labels(launch: &Launch, environment: &Environment) -> std::collections::HashMap<String, String> {
    let work_directory = environment.work_directory().ok();
    let executor = launch.executor_info.as_ref();
    let framework = executor.and_then(|executor| executor.framework_id.as_ref()).map(|id| id.value.clone());
    [
        (CONTAINER_ID_LABEL, Some(launch.container_id.value.clone())),
        (WORK_DIRECTORY_LABEL, work_directory.as_deref().map(work_directory_label)),
        (AGENT_ID_LABEL, launch.agent_id.as_ref().map(|id| id.value.clone())),
        (FRAMEWORK_ID_LABEL, framework),
        (EXECUTOR_ID_LABEL, executor.map(|executor| executor.executor_id.value.clone())),
    ]
    .into_iter()
    .filter_map(|(label, value)| Some((label.to_owned(), value?)))
    .collect()
}

/// A work directory as labels spell it: one spelling whatever slashes the slave's flag has.
pub fn work_directory_label(work_directory: &Path) -> String {
    work_directory.components().collect::<PathBuf>().to_string_lossy().into_owned()
}

/// Why a launch message cannot become a container.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum SpecError {
    #[error("the launch message names no sandbox directory")]
    NoSandbox,
    #[error("the launch message's sandbox directory {path:?} is not absolute; give the slave an absolute --work_dir")]
    RelativeSandbox { path: String },
    #[error("the launch message has no command; give the task a CommandInfo")]
    NoCommand,
    #[error(
        "no image is named by the task's ContainerInfo, the executor's, or CommandInfo.container, and the slave has \
         no --default_container_image; name an image in the task"
    )]
    NoImage,
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(
        "the command is for a shell but has no value; set CommandInfo.value, or shell=false for the image's own command"
    )]
    NoShellText,
    #[error("environment variable {name:?}: {reason}")]
    Variable { name: String, reason: &'static str },
    #[error("docker parameter {key:?}: {reason}")]
    Parameter { key: String, reason: String },
    #[error("docker parameter {key:?} is not known to this containerizer; {}", hint(.near))]
    UnknownParameter { key: String, near: Option<&'static str> },
    #[error("volume {volume:?}: {reason}")]
    Volume { volume: String, reason: String },
    #[error("network USER needs exactly one network_info with a name, and {found} have one")]
    UserNetwork { found: usize },
    #[error("a hostname cannot be set with host network; choose bridge, or leave the hostname out")]
    HostnameOfHost,
    #[error(
        "a container with network {network} has no address, alias or link of its own there; choose another network, or \
         leave these parameters out"
    )]
    EndpointOfHost { network: String },
    #[error("host port {port} cannot be mapped with network {network}; choose bridge, or leave the port mappings out")]
    PortsOfHost { port: u16, network: String },
    #[error("host port {port} is not among the task's ports resources {offered}; map a port that was offered")]
    PortNotOffered { port: u16, offered: String },
    #[error("{port} is not a port; ports are 1 to 65535")]
    NoPort { port: u32 },
    #[error("port protocol {protocol:?} is none of tcp, udp, sctp")]
    Protocol { protocol: String },
}

fn hint(near: &Option<&'static str>) -> String {
    match near {
        Some(near) => format!("is {near:?} meant?"),
        None => "check its spelling, or leave it out".to_owned(),
    }
}

/// Where a container finds its sandbox.
pub const SANDBOX: &str = "/mnt/mesos/sandbox";
/// On every container of ours: Mesos' id of it.
pub const CONTAINER_ID_LABEL: &str = "launch-container.container-id";
/// On every container of ours: which slave's it is, for ids change when a slave starts anew.
pub const WORK_DIRECTORY_LABEL: &str = "launch-container.work-directory";
const AGENT_ID_LABEL: &str = "launch-container.agent-id";
const FRAMEWORK_ID_LABEL: &str = "launch-container.framework-id";
const EXECUTOR_ID_LABEL: &str = "launch-container.executor-id";

/// What storage drivers know it by.
const DISK_OPTION: &str = "size";
/// The engine's own log that keeps bytes as they are.
const KEPT_LOG: &str = "local";
/// Of two files, the older of which is thrown away for a new one.
const KEPT_LOG_FILE: &str = "16m";
/// Output that such a log holds at least, even when each line is a single byte with 40 bytes of the engine's beside it.
pub(crate) const KEPT_LOG_BYTES: u64 = 384 << 10;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
