//! The embedded cluster behind `--master=local`: one master, N agents on this host, no persistence.
//!
//! ```text
//! Cluster (a thread with a runtime of its own; the rest of the process reaches it over HTTP only)
//!   http     the face on 127.0.0.1: master, agents, /files
//!   hub      where cores, streams and verbs meet
//!   master   PURE core: frameworks, offers, tasks
//!   agent    PURE core: executors, sandboxes, status updates
//!   containerizer, sandbox, files: processes and files
//! ```
//!
//! Every user of the machine reaches the face, so `--master=local` demands a token that only its launcher and, for their own
//! API, its executors have (`access`). `launch-container local` demands what it is told to, by default nothing.
//!
//! Tasks run only through the external containerizer protocol: every verb starts this same executable under the name
//! `docker-containerizer`. Nothing outlives a cluster, unless the process is killed: then its executors notice the broken
//! connection and end their containers, and the next cluster removes the directory.

mod access;
mod agent;
mod containerizer;
mod files;
mod host;
mod http;
mod hub;
pub mod master;
mod sandbox;
mod state;
mod status_updates;
mod work_dir;

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::serve::ListenerExt as _;
use proto::mesos;
use proto::resources::Resources;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

pub use access::Access;
use agent::Agent;
use containerizer::{Containerizer, VerbError};
use hub::Hub;
use master::Master;
use sandbox::Sandboxes;
use work_dir::{WorkDir, WorkDirError};

use crate::master::chain;

/// From SHUTDOWN to `destroy`, as in Mesos.
const EXECUTOR_SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// How long containers may take to be destroyed when the cluster ends: an engine under load needs seconds.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(60);

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many agents, at least one.
    pub agents: u32,
    /// Of the one HTTP face, on 127.0.0.1; `None`: the kernel chooses.
    pub port: Option<u16>,
    /// Of every agent; `None`: the host's cpus, memory and disk, and a share of the ports 31000-32000.
    pub resources: Option<Resources>,
    /// Of the first agent, the second and so on; the last one's are those of all others, too.
    pub attributes: Vec<Vec<mesos::Attribute>>,
    /// Between two HEARTBEAT events; longer than zero.
    pub heartbeat_interval: Duration,
    /// The program to start as `docker-containerizer`; by default this executable.
    pub containerizer: PathBuf,
    /// Holds sandboxes and state, and stays; `None`: a fresh private directory that is removed in the end.
    pub work_dir: Option<PathBuf>,
    /// Who may use the face.
    pub access: Access,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            agents: 1,
            port: None,
            resources: None,
            attributes: vec![],
            heartbeat_interval: master::HEARTBEAT_INTERVAL,
            containerizer: PathBuf::from("/proc/self/exe"),
            work_dir: None,
            access: Access::Open,
        }
    }
}

/// Why a cluster could not be started, or did not end cleanly.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// No directory for sandboxes.
    #[error("cannot use a work directory")]
    WorkDir(#[from] WorkDirError),
    /// Something else listens there.
    #[error("cannot listen on 127.0.0.1:{port}; choose another port")]
    Bind {
        /// 0: any.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// No thread or no runtime.
    #[error("cannot start the embedded cluster's thread")]
    Thread {
        /// Why.
        source: io::Error,
    },
    /// The containerizer does not work here: no offers are made.
    #[error("the embedded agent cannot start: {why}")]
    Containerizer {
        /// What it said.
        why: String,
    },
    /// The thread panicked; what it ran was not destroyed.
    #[error("the embedded cluster has failed; look for containers with `docker ps`")]
    Panicked,
    /// Signals cannot be received.
    #[error("cannot listen for signals")]
    Signals {
        /// Why.
        source: io::Error,
    },
    /// The address cannot be told.
    #[error("cannot print the address")]
    Print {
        /// Why.
        source: io::Error,
    },
    /// A second signal came while it was going down.
    #[error("interrupted before the cluster was down; its containers and its directory may be left: see `docker ps`")]
    Abandoned,
    /// These Mesos containers may still run.
    #[error("cannot destroy {}; see `docker ps` and end them by hand", .containers.join(", "))]
    Leftovers {
        /// Their ids.
        containers: Vec<String>,
    },
}

/// A running cluster. Dropping it shuts it down too, waits for that, and tells nobody what went wrong.
#[derive(Debug)]
pub struct Cluster {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    /// Ends without a value when the containerizer works.
    failure: Option<oneshot::Receiver<LocalError>>,
    ended: Option<oneshot::Receiver<Result<(), LocalError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Starts a cluster. Its face answers from now on; offers come when the containerizer has said that it works, see
    /// `failure`.
    ///
    /// # Errors
    ///
    /// No work directory, no port, or no thread.
    #[expect(clippy::unused_async, reason = "callers need not know that nothing has to be awaited yet")]
    pub async fn start(options: Options) -> Result<Self, LocalError> {
        let work_dir = WorkDir::make(options.work_dir.as_deref())?;
        let port = options.port.unwrap_or(0);
        let bind = |source| LocalError::Bind { port, source };
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| LocalError::Thread { source })?;
        let (stop, stopped) = oneshot::channel();
        let (fail, failure) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let run = move || {
            let result = runtime.block_on(serve(listener, address, &options, &work_dir, fail, stopped));
            // Reads of a stalled download need not be waited for.
            runtime.shutdown_background();
            let removed = work_dir.remove().map_err(LocalError::from);
            // Nobody may be left to hear it.
            let _ = end.send(result.and(removed));
        };
        let thread = std::thread::Builder::new().name("local-cluster".to_owned()).spawn(run);
        let thread = thread.map_err(|source| LocalError::Thread { source })?;
        Ok(Self { address, stop: Some(stop), failure: Some(failure), ended: Some(ended), thread: Some(thread) })
    }

    /// Where master and agents answer.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it is clear that the agents will never offer anything, and says why. Otherwise it never returns.
    /// Cancel safe.
    pub async fn failure(&mut self) -> LocalError {
        if let Some(failure) = &mut self.failure {
            let result = failure.await;
            self.failure = None;
            if let Ok(error) = result {
                return error;
            }
        }
        std::future::pending().await
    }

    /// Destroys whatever still runs, waits for its processes and removes the work directory.
    ///
    /// # Errors
    ///
    /// Something may be left behind; the error names it. Cancel safe, but only to go on with it or to `abandon`.
    pub async fn go_down(&mut self) -> Result<(), LocalError> {
        self.stop = None;
        let result = match self.ended.take() {
            Some(ended) => ended.await.unwrap_or(Err(LocalError::Panicked)),
            None => Ok(()),
        };
        self.join();
        result
    }

    /// `go_down`, for who will not stop waiting.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn shutdown(mut self) -> Result<(), LocalError> {
        self.go_down().await
    }

    /// Waits for nothing more. The process must end now: with it end the containers, and the next cluster of this user
    /// removes the directory.
    pub fn abandon(mut self) {
        self.stop = None;
        self.thread = None;
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic is told by `ended`.
            let _ = thread.join();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Either of them may be gone already; the thread sees the end of `stop`.
        self.stop = None;
        self.join();
    }
}

/// `launch-container local`: runs a cluster until SIGINT, SIGTERM or SIGHUP and prints its address on stdout. A second signal
/// leaves what is not down yet.
///
/// # Errors
///
/// As `Cluster::start`, `failure` and `go_down`.
pub async fn run_foreground(options: Options) -> Result<(), LocalError> {
    let signals = |source| LocalError::Signals { source };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(signals)?;
    let mut signaled = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    };
    let is_open = options.access.is_open();
    let mut cluster = Cluster::start(options).await?;
    if is_open {
        // Whoever has closed stderr does not want to know.
        let _ = writeln!(
            io::stderr(),
            "launch-container: every user of this machine can launch containers through http://{}; demand a password with \
             --principal and --secret-file",
            cluster.address()
        );
    }
    let line = format!("http://{}\n", cluster.address());
    let printed = io::stdout().lock().write_all(line.as_bytes()).and_then(|()| io::stdout().lock().flush());
    let result = match printed {
        Err(source) => Err(LocalError::Print { source }),
        Ok(()) => tokio::select! {
            error = cluster.failure() => Err(error),
            () = signaled() => Ok(()),
        },
    };
    let shut_down = tokio::select! {
        down = cluster.go_down() => Some(down),
        () = signaled() => None,
    };
    match shut_down {
        Some(down) => result.and(down),
        None => {
            cluster.abandon();
            Err(LocalError::Abandoned)
        }
    }
}

/// The cluster's thread, until `stopped` says so (or its sender is gone).
async fn serve(
    listener: std::net::TcpListener,
    address: SocketAddr,
    options: &Options,
    work_dir: &WorkDir,
    fail: oneshot::Sender<LocalError>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), LocalError> {
    let bind = |source| LocalError::Bind { port: address.port(), source };
    let listener = tokio::net::TcpListener::from_std(listener).map_err(bind)?;
    // Small records must not wait for the client's acknowledgement of earlier ones.
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    let (hub, sandboxes) = assemble(address, options, work_dir);
    let face =
        http::Face { hub: Arc::clone(&hub), sandboxes: Arc::new(sandboxes), access: Arc::new(options.access.clone()) };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        // It never fails and never ends by itself.
        let _ = axum::serve(listener, http::router(face)).await;
    });
    tasks.spawn(Arc::clone(&hub).keep_time());
    let starting = tokio::spawn(start_agents(Arc::clone(&hub), fail));
    // The sender is only ever dropped.
    let _ = stopped.await;
    // Its verbs must be reaped; it is done in milliseconds unless the engine hangs.
    let is_late = tokio::time::timeout(SHUTDOWN_LIMIT, starting).await.is_err();
    if is_late {
        tracing::warn!("the containerizer did not answer");
    }
    let containers = hub.shut_down(SHUTDOWN_LIMIT).await;
    tasks.shutdown().await;
    work_dir::sweep(&options.containerizer, &libexec(&options.containerizer)).await;
    if containers.is_empty() { Ok(()) } else { Err(LocalError::Leftovers { containers }) }
}

fn assemble(address: SocketAddr, options: &Options, work_dir: &WorkDir) -> (Arc<Hub>, Sandboxes) {
    let started = Instant::now();
    let epoch_seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let master_id = uuid::Uuid::new_v4().hyphenated().to_string();
    let hostname = address.ip().to_string();
    let libexec = libexec(&options.containerizer);
    let count = options.agents.max(1);
    let agents: Vec<_> = (0..count)
        .map(|number| {
            let resources = options.resources.clone();
            let resources = resources.unwrap_or_else(|| host::resources(work_dir.path(), number, count));
            let info = mesos::AgentInfo {
                id: Some(mesos::AgentId { value: format!("{master_id}-S{number}") }),
                hostname: hostname.clone(),
                port: Some(i32::from(address.port())),
                resources: resources.into(),
                attributes: options
                    .attributes
                    .get(number as usize)
                    .or(options.attributes.last())
                    .cloned()
                    .unwrap_or_default(),
                ..Default::default()
            };
            Agent::new(agent::Config {
                info,
                number: number + 1,
                hostname: hostname.clone(),
                port: address.port(),
                work_dir: work_dir.path().to_string_lossy().into_owned(),
                libexec: libexec.clone(),
                shutdown_grace: EXECUTOR_SHUTDOWN_GRACE,
                // Only root can give sandboxes away.
                switch_user: rustix::process::geteuid().is_root(),
                epoch_seconds,
                first_id: uuid::Uuid::new_v4().as_u128(),
            })
        })
        .collect();
    let ids = agents.iter().map(|agent| agent.config().info.id.clone().unwrap_or_default().value).collect();
    let sandboxes = Sandboxes::new(work_dir.path(), ids);
    let heartbeat_interval = options.heartbeat_interval;
    let config =
        master::Config { id: master_id, host: hostname, port: address.port(), epoch_seconds, heartbeat_interval };
    let containerizer = Containerizer::new(&options.containerizer, work_dir.path(), &libexec, address.port());
    let has_executor_tokens = !options.access.is_open();
    (Hub::new(Master::new(config), agents, containerizer, started, has_executor_tokens), sandboxes)
}

/// What a slave does before it registers: `recover`, then `containers`, whose leftovers are destroyed.
async fn start_agents(hub: Arc<Hub>, fail: oneshot::Sender<LocalError>) {
    let recovered: Result<(), VerbError> = async {
        hub.containerizer().recover().await?;
        hub.destroy_leftovers().await
    }
    .await;
    match recovered {
        Ok(()) => hub.register_agents(),
        Err(error) => {
            // Without a listener the launcher does not care.
            let _ = fail.send(LocalError::Containerizer { why: chain(&error) });
        }
    }
}

/// Where a slave would have its helper programs: beside the containerizer.
fn libexec(containerizer: &Path) -> String {
    let program = containerizer.canonicalize().unwrap_or_else(|_| containerizer.to_owned());
    program.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned()
}
