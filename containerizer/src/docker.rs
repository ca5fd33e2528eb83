//! The Docker engine: the only module that talks to it (pulls in a file of their own).
//!
//! The rest of the crate needs little of an engine, and all of it is here: have an image, create, attach, start, wait,
//! signal, inspect, limit, remove, list ours, run a program beside its own. Every call has a deadline, named for its reason; only `wait`, `attach`'s
//! stream and a pull that makes progress may take as long as they take.
//!
//! Calls go out without a version in their path, which an engine answers as the newest it knows: this costs no round trip
//! of negotiation, and suits every engine up to the version of the client library's types (1.53), old ones included.

mod about;
mod exec;
mod pull;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bollard::Docker;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error as BollardError;
/// The engine's words for containers, plain data: a `Spec` is made of them.
pub use bollard::models;
use bollard::models::{ContainerCreateBody, ContainerSummaryStateEnum, ContainerUpdateBody};
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, InspectContainerOptions, KillContainerOptions,
    ListContainersOptions, LogsOptions, RemoveContainerOptions, WaitContainerOptions,
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::io::AsyncWrite;

pub use self::about::{About, Labelled, Limiting};
pub use self::pull::DockerCredentials;
use crate::environment::{DOCKER_HOST, Environment};
use crate::spec::{CONTAINER_ID_LABEL, Image, Limits, Swap, WORK_DIRECTORY_LABEL};
use crate::store::ContainerId;

/// The way into a container's standard input.
pub(crate) struct Stdin {
    /// To the container.
    pub(crate) input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Completes when the engine takes no more.
    pub(crate) closed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A way to the engine. Cheap to clone; each call is a connection of its own.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    host: String,
}

impl Engine {
    /// Reads `DOCKER_HOST` (`unix://PATH`, `tcp://HOST:PORT` or `http://HOST:PORT`), else takes the default socket. Nothing is sent.
    ///
    /// # Errors
    /// There is no such socket, or the address is of another kind.
    pub fn connect(environment: &Environment) -> Result<Self, EngineError> {
        let host = environment.get(DOCKER_HOST).unwrap_or(DEFAULT_HOST).to_owned();
        let version = bollard::API_DEFAULT_VERSION;
        let connected = match host.split_once("://") {
            Some(("unix", _)) => Docker::connect_with_unix(&host, LIBRARY_TIMEOUT_SECONDS, version),
            Some(("tcp" | "http", _)) => Docker::connect_with_http(&host, LIBRARY_TIMEOUT_SECONDS, version),
            _ => return Err(EngineError::Host { host }),
        };
        match connected {
            Ok(docker) => Ok(Self { docker, host }),
            Err(error) => Err(classify(&host, "connect", error)),
        }
    }

    /// The id of an image that is here; `None` when it is not.
    ///
    /// # Errors
    /// The engine does not say.
    pub async fn find_image(&self, image: &Image) -> Result<Option<String>, EngineError> {
        match self.call("look for the image", LOOK, self.docker.inspect_image(&image.to_string())).await {
            Ok(found) => Ok(Some(found.id.unwrap_or_default())),
            Err(EngineError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a container and gives the engine's id of it.
    ///
    /// # Errors
    /// The engine refuses: `NotFound` when the image is not here, `Conflict` when the name is taken.
    pub async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, EngineError> {
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        Ok(self.call("create the container", CREATE, self.docker.create_container(Some(options), body)).await?.id)
    }

    /// Gives a directory of this host and all in it to `owner` (`UID:GID`), with the image's own `chown`.
    ///
    /// # Errors
    /// The engine cannot, or the image has no `chown`.
    pub async fn give_directory(&self, image: &str, directory: &str, owner: &str) -> Result<(), EngineError> {
        const INSIDE: &str = "/mnt/given";
        let mount = models::Mount {
            target: Some(INSIDE.to_owned()),
            source: Some(directory.to_owned()),
            typ: Some(models::MountType::BIND),
            ..Default::default()
        };
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            user: Some("0:0".to_owned()),
            entrypoint: Some(["chown", "-R", owner, INSIDE].map(str::to_owned).to_vec()),
            cmd: Some(Vec::new()),
            host_config: Some(models::HostConfig {
                mounts: Some(vec![mount]),
                network_mode: Some("none".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let created = self.docker.create_container(None::<CreateContainerOptions>, body);
        let id = self.call("create the container", CREATE, created).await?.id;
        let given = match self.start(&id).await {
            Ok(()) => self.wait(&id).await.map(|_| ()),
            Err(error) => Err(error),
        };
        self.remove(&id).await?;
        given
    }

    /// Connects to the output of a container that is created and not yet started: not one byte is missed.
    ///
    /// # Errors
    /// The engine does not let us.
    pub async fn attach(
        &self,
        id: &str,
    ) -> Result<impl Stream<Item = Result<Output, EngineError>> + use<>, EngineError> {
        let options = AttachContainerOptions { stream: true, stdout: true, stderr: true, ..Default::default() };
        let attached =
            self.call("attach to the container", LOOK, self.docker.attach_container(id, Some(options))).await?;
        Ok(self.output(attached.output))
    }

    /// Connects to the standard input of a container that was made to have one: what is written goes to it, and a shutdown is its
    /// end. The other half ends when the container takes no more.
    ///
    /// # Errors
    /// The engine does not let us.
    pub(crate) async fn attach_stdin(&self, id: &str) -> Result<Stdin, EngineError> {
        let options = AttachContainerOptions { stream: true, stdin: true, ..Default::default() };
        let attached =
            self.call("attach to the container's input", LOOK, self.docker.attach_container(id, Some(options)));
        let AttachContainerResults { output, input } = attached.await?;
        let closed = Box::pin(output.for_each(|_| std::future::ready(())));
        Ok(Stdin { input, closed })
    }

    /// The output from its beginning, as far as the engine keeps it, and with `follow` until the container's end.
    pub fn logs(&self, id: &str, follow: bool) -> impl Stream<Item = Result<Output, EngineError>> + use<> {
        let options =
            LogsOptions { follow, stdout: true, stderr: true, tail: "all".to_owned(), ..LogsOptions::default() };
        self.output(self.docker.logs(id, Some(options)))
    }

    fn output<S>(&self, stream: S) -> impl Stream<Item = Result<Output, EngineError>> + use<S>
    where
        S: Stream<Item = Result<LogOutput, BollardError>>,
    {
        let host = self.host.clone();
        // A terminal's output has no frames. Where there are frames, the library gives one that was cut off as if it were such.
        let mut is_framed = false;
        stream.map(move |output| match output {
            Ok(LogOutput::StdErr { message }) => {
                is_framed = true;
                Ok(Output::Stderr(message))
            }
            Ok(LogOutput::StdOut { message } | LogOutput::StdIn { message }) => {
                is_framed = true;
                Ok(Output::Stdout(message))
            }
            Ok(LogOutput::Console { message }) if is_framed || is_cut_frame(&message) => {
                let reason = "it closed the connection in the midst of the output".to_owned();
                Err(EngineError::Unreachable { host: host.clone(), reason })
            }
            Ok(LogOutput::Console { message }) => Ok(Output::Stdout(message)),
            Err(error) => Err(classify(&host, "read the container's output", error)),
        })
    }

    /// Starts a created container.
    ///
    /// # Errors
    /// The command cannot be run, a mount is not there, a port is taken, and the like, in the engine's words.
    pub async fn start(&self, id: &str) -> Result<(), EngineError> {
        self.call("start the container", START, self.docker.start_container(id, None)).await
    }

    /// Waits for a started container to end; its code. Takes as long as the container runs.
    ///
    /// # Errors
    /// The engine went away, or knows no such container.
    pub async fn wait(&self, id: &str) -> Result<i64, EngineError> {
        let options = WaitContainerOptions { condition: "not-running".to_owned() };
        let mut answers = std::pin::pin!(self.docker.wait_container(id, Some(options)));
        match answers.next().await {
            Some(Ok(answer)) => Ok(answer.status_code),
            // The library reports every code but 0 as an error.
            Some(Err(BollardError::DockerContainerWaitError { code, error })) if error.is_empty() => Ok(code),
            Some(Err(error)) => Err(classify(&self.host, "wait for the container", error)),
            None => {
                Err(EngineError::Unreachable { host: self.host.clone(), reason: "it closed the connection".to_owned() })
            }
        }
    }

    /// Sends a signal; that the container does not run any more is fine.
    ///
    /// # Errors
    /// The engine cannot send it.
    pub async fn signal(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptions { signal: signal.to_owned() };
        match self.call("signal the container", SIGNAL, self.docker.kill_container(id, Some(options))).await {
            Ok(()) | Err(EngineError::NotFound { .. } | EngineError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What the engine knows of a container; `None` when it knows none.
    ///
    /// # Errors
    /// The engine does not say.
    pub async fn inspect(&self, id: &str) -> Result<Option<Inspection>, EngineError> {
        let found = self.docker.inspect_container(id, None::<InspectContainerOptions>);
        let found = match self.call("inspect the container", LOOK, found).await {
            Ok(found) => found,
            Err(EngineError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let state = found.state.unwrap_or_default();
        let addresses = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let config = found.config.unwrap_or_default();
        Ok(Some(Inspection {
            id: found.id.unwrap_or_default(),
            image_id: found.image,
            labels: config.labels.unwrap_or_default(),
            is_running: state.running.unwrap_or(false),
            has_started: state.started_at.as_deref().is_some_and(is_time),
            finished_at: state.finished_at.filter(|time| is_time(time)),
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
            exit_code: state.exit_code,
            is_oom_killed: state.oom_killed.unwrap_or(false),
            error: state.error.filter(|error| !error.is_empty()),
            stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
            ip_address: addresses.into_values().filter_map(|network| network.ip_address).find(|ip| !ip.is_empty()),
        }))
    }

    /// What `docker inspect` prints: a JSON array with one object.
    ///
    /// # Errors
    /// The engine does not say, or knows no such container.
    pub async fn inspection_text(&self, id: &str) -> Result<String, EngineError> {
        let found = self.docker.inspect_container(id, None::<InspectContainerOptions>);
        let found = self.call("inspect the container", LOOK, found).await?;
        Ok(serde_json::to_string(&[found]).expect("what was JSON is JSON"))
    }

    /// Applies limits to a container, running or not.
    ///
    /// # Errors
    /// The engine refuses: `NotFound` or `Conflict` when the container has just ended.
    pub async fn set_limits(&self, id: &str, limits: Limits, swap: Swap) -> Result<(), EngineError> {
        let body = ContainerUpdateBody {
            cpu_shares: limits.cpu_shares,
            memory: limits.memory_bytes,
            // An update that leaves it out leaves it as it was, and may be refused for that.
            memory_swap: limits.memory_bytes.map(|bytes| swap.limit_bytes(bytes)),
            ..Default::default()
        };
        self.call("set the container's limits", LIMIT, self.docker.update_container(id, body)).await
    }

    /// Removes a container with its anonymous volumes, also while it runs; that it is gone is fine.
    ///
    /// # Errors
    /// The engine cannot remove it.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptions { v: true, force: true, ..Default::default() };
        match self.call("remove the container", REMOVE, self.docker.remove_container(id, Some(options))).await {
            Ok(()) | Err(EngineError::NotFound { .. }) => Ok(()),
            // Another removal is under way.
            Err(EngineError::Conflict { reason, .. }) if reason.contains("already in progress") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The containers with our label of one work directory, running or not; of one Mesos id when that is given.
    ///
    /// # Errors
    /// The engine does not say.
    pub async fn list_ours(&self, work_directory: &str, id: Option<&ContainerId>) -> Result<Vec<Ours>, EngineError> {
        let mut labels = vec![format!("{WORK_DIRECTORY_LABEL}={work_directory}")];
        labels.extend(id.map(|id| format!("{CONTAINER_ID_LABEL}={id}")));
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let found = self.call("list containers", LOOK, self.docker.list_containers(Some(options))).await?;
        let ours = found.into_iter().filter_map(|container| {
            let label = container.labels.unwrap_or_default().remove(CONTAINER_ID_LABEL)?;
            let is_running = container.state.is_some_and(|state| state == ContainerSummaryStateEnum::RUNNING);
            Some(Ours { container_id: ContainerId::parse(&label).ok()?, docker_id: container.id?, is_running })
        });
        Ok(ours.collect())
    }

    async fn call<T>(
        &self,
        what: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, BollardError>>,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| classify(&self.host, what, error)),
            Err(_) => Err(EngineError::Timeout { host: self.host.clone(), what, limit }),
        }
    }
}

/// Some bytes of a container's output, in the order of each stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Of its stdout.
    Stdout(Bytes),
    /// Of its stderr.
    Stderr(Bytes),
}

/// What the engine says of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inspection {
    /// The engine's id.
    pub id: String,
    /// The engine's id of the image.
    pub image_id: Option<String>,
    /// All of them, ours among them.
    pub labels: HashMap<String, String>,
    /// Whether it runs now.
    pub is_running: bool,
    /// Whether it runs or ever did.
    pub has_started: bool,
    /// When it ended, RFC 3339 in UTC; `None` before, and when the engine does not know.
    pub finished_at: Option<String>,
    /// Of its first process on the host, while it runs.
    pub pid: Option<u32>,
    /// Of the last run; meaningless before the first.
    pub exit_code: Option<i64>,
    /// Whether the kernel ended a process of it for want of memory.
    pub is_oom_killed: bool,
    /// Why it could not be started.
    pub error: Option<String>,
    /// The signal that asks it to end, where it is not SIGTERM.
    pub stop_signal: Option<String>,
    /// On its first network, where it has one of its own.
    pub ip_address: Option<String>,
}

/// A container of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    /// Mesos' id, from the label.
    pub container_id: ContainerId,
    /// The engine's.
    pub docker_id: String,
    /// Whether it runs now.
    pub is_running: bool,
}

/// Why the engine did not do what it should.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum EngineError {
    #[error(
        "DOCKER_HOST is {host:?}, which is neither unix://PATH nor tcp://HOST:PORT; set one of them, or unset it for the default socket"
    )]
    Host { host: String },
    #[error(
        "cannot reach the Docker engine at {host}: {reason}; is dockerd running? (DOCKER_HOST chooses another engine)"
    )]
    Unreachable { host: String, reason: String },
    #[error(
        "may not use the Docker engine at {host}: permission denied; run the slave as root or as a member of the group docker"
    )]
    Permission { host: String },
    #[error("image {image} was not found: {reason}; check its name, or pull it on this host")]
    ImageNotFound { image: String, reason: String },
    #[error("image {image} may not be pulled: {reason}; check its name, or log in to its registry on this host")]
    RegistryAuth { image: String, reason: String },
    #[error(
        "image {image} could not be pulled, its registry cannot be reached: {reason}; check the registry and the network, \
         or pull it on this host"
    )]
    RegistryUnreachable { image: String, reason: String },
    #[error(
        "image {image} could not be pulled, nothing has come for {} seconds; check the registry and the network, or allow \
         more with pull.silence_limit",
        limit.as_secs()
    )]
    PullStalled { image: String, limit: Duration },
    #[error("image {image} could not be pulled: {reason}; check the registry and the network, or pull it on this host")]
    Pull { image: String, reason: String },
    #[error(
        "image {image} is not here, and images are never pulled; pull it on this host, or allow it with pull.policy"
    )]
    NeverPulled { image: String },
    #[error("the Docker engine cannot {what}: {reason}")]
    NotFound { what: &'static str, reason: String },
    #[error("the Docker engine cannot {what}: {reason}")]
    Conflict { what: &'static str, reason: String },
    #[error("the Docker engine has no init program")]
    NoInit,
    #[error(
        "the Docker engine cannot limit the container's disk: {reason}; leave the limit out (container.limit_disk, the \
         parameter storage-opt), or put its data root where it can: overlay2 on xfs with pquota, btrfs, zfs"
    )]
    NoDiskLimit { reason: String },
    #[error("the Docker engine at {host} did not {what} within {} seconds; is dockerd hanging?", limit.as_secs())]
    Timeout { host: String, what: &'static str, limit: Duration },
    #[error("the Docker engine cannot {what}: {reason}")]
    Refused { what: &'static str, reason: String },
}

/// A frame's head is the stream's number and three zeros.
fn is_cut_frame(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|stream| *stream <= 2) && bytes.iter().skip(1).take(3).all(|byte| *byte == 0)
}

/// Go's zero time stands for none.
fn is_time(text: &str) -> bool {
    !text.is_empty() && !text.starts_with("0001-")
}

fn classify(host: &str, what: &'static str, error: BollardError) -> EngineError {
    match error {
        BollardError::DockerResponseServerError { status_code, message } => {
            let reason = one_line(&message);
            match status_code {
                404 => EngineError::NotFound { what, reason },
                409 => EngineError::Conflict { what, reason },
                _ if reason.contains("docker-init") => EngineError::NoInit,
                // The words of overlay2, and of the file system's quotas.
                _ if reason.contains("--storage-opt") || reason.contains("enabled quotas") => {
                    EngineError::NoDiskLimit { reason }
                }
                _ => EngineError::Refused { what, reason },
            }
        }
        BollardError::SocketNotFoundError(_) => {
            EngineError::Unreachable { host: host.to_owned(), reason: "there is no such socket".to_owned() }
        }
        error => {
            let host = host.to_owned();
            match io_kind(&error) {
                Some(io::ErrorKind::PermissionDenied) => EngineError::Permission { host },
                Some(io::ErrorKind::ConnectionRefused) => {
                    EngineError::Unreachable { host, reason: "nobody listens there".to_owned() }
                }
                Some(_) => EngineError::Unreachable { host, reason: one_line(&chain(&error)) },
                None => EngineError::Refused { what, reason: one_line(&chain(&error)) },
            }
        }
    }
}

fn io_kind(error: &BollardError) -> Option<io::ErrorKind> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    match error {
        // The connection broke in the middle of a call.
        BollardError::HyperResponseError { .. } | BollardError::HyperLegacyError { .. } => {
            Some(io::ErrorKind::UnexpectedEof)
        }
        _ => None,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = error.source();
    }
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// Questions that a healthy engine answers in milliseconds, and a busy one in a second or two.
const LOOK: Duration = Duration::from_secs(10);
/// A signal is sent again by who needs it, so it may fail early.
const SIGNAL: Duration = Duration::from_secs(5);
/// A slave forwards a task's terminal status only after `update`.
const LIMIT: Duration = Duration::from_secs(3);
/// Storage drivers copy and mount; slow disks under load were seen to take half a minute.
const CREATE: Duration = Duration::from_secs(60);
/// As creation, and networks and devices are set up, too.
const START: Duration = Duration::from_secs(120);
/// Removing a big writable layer takes long on slow disks.
const REMOVE: Duration = Duration::from_secs(60);
/// The library's own limit, out of the way of those above.
const LIBRARY_TIMEOUT_SECONDS: u64 = 24 * 60 * 60;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn environment(host: &str) -> Environment {
        [(DOCKER_HOST, host)].into_iter().collect()
    }

    #[test]
    fn an_engine_that_is_not_there_is_named_with_the_next_step() {
        let error = Engine::connect(&environment("unix:///no/such.sock")).unwrap_err().to_string();
        assert!(error.contains("unix:///no/such.sock") && error.contains("is dockerd running?"), "{error}");
        let error = Engine::connect(&environment("ssh://me@there")).unwrap_err();
        assert_eq!(error, EngineError::Host { host: "ssh://me@there".to_owned() });
    }

    #[tokio::test]
    async fn an_engine_that_does_not_listen_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let engine = Engine::connect(&environment(&format!("unix://{}", path.display()))).unwrap();
        let error = engine.find_image(&Image::parse("x").unwrap()).await.unwrap_err();
        assert!(
            matches!(&error, EngineError::Unreachable { reason, .. } if reason == "nobody listens there"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_engine_that_closes_the_connection_is_unreachable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let engine = Engine::connect(&environment(&format!("unix://{}", path.display()))).unwrap();
        let accept = async { drop(listener.accept().await) };
        let image = Image::parse("x").unwrap();
        let (error, ()) = tokio::join!(engine.find_image(&image), accept);
        assert!(matches!(error, Err(EngineError::Unreachable { .. })), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_does_not_answer_is_not_waited_for_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        let engine = Engine::connect(&environment(&format!("unix://{}", path.display()))).unwrap();
        let error = engine.signal("x", "SIGKILL").await.unwrap_err();
        assert!(matches!(error, EngineError::Timeout { limit: SIGNAL, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_frame_that_was_cut_off_is_no_output() {
        let engine = Engine::connect(&environment("tcp://127.0.0.1:1")).unwrap();
        let framed = |text: &'static str| Ok(LogOutput::StdOut { message: Bytes::from_static(text.as_bytes()) });
        let console = |text: &'static str| Ok(LogOutput::Console { message: Bytes::from_static(text.as_bytes()) });
        let is_output = async |parts: Vec<Result<LogOutput, BollardError>>| {
            let parts = engine.output(futures::stream::iter(parts)).collect::<Vec<_>>().await;
            parts.into_iter().map(|part| part.is_ok()).collect::<Vec<_>>()
        };
        assert_eq!(is_output(vec![framed("a"), console("\u{1}\0\0\0\0")]).await, [true, false]);
        assert_eq!(is_output(vec![framed("a"), console("bc")]).await, [true, false]);
        assert_eq!(is_output(vec![console("\u{2}\0\0\0\0\0\0\u{3}abc")]).await, [false]);
        assert_eq!(is_output(vec![console("a"), console("b")]).await, [true, true]);
    }
}
