//! The detached process that owns one container from pull to result, and is the Mesos executor of a command task.
//!
//! ```text
//! launch --starts--> supervise: detach, lock, `ready`
//!                      |- owner: prepares at once, starts when asked, stops, tells        (owner.rs)
//!                      |- output: attach stream -> sandbox, on a thread                   (output.rs)
//!                      `- executor::run for a command task: SUBSCRIBE, statuses           (../executor)
//! ```
//!
//! The order at the end: the output is complete; the result is written; the executor tells the agent; the agent has
//! acknowledged; the result is on disk for certain; the container is removed; the lock is released.

mod asks;
mod detach;
mod output;
mod owner;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

pub(crate) use self::asks::Asks;
pub(crate) use self::detach::start;
pub use self::detach::{PROGRAM, STATE_DIRECTORY_OPTION, StartError};
pub(crate) use self::output::Files;
pub(crate) use self::owner::Owner;
use crate::config::Config;
use crate::docker::{Engine, EngineError};
use crate::environment::{Environment, EnvironmentError};
use crate::executor;
use crate::hooks::Hook;
use crate::lifecycle::{Command, Event};
use crate::spec::{self, Overhead, Placement};
use crate::store::{ContainerId, ContainerIdError, Lock, State, StateDirectory, StoreError};

/// Owns the container of a state directory until its end, as a process of its own.
///
/// Says `ready` or one line of error on stdout, then lets go of it. Must be called before anything is opened: all
/// descriptors but the first three are closed.
///
/// # Errors
/// The container cannot be owned; it was not touched. What happens to the container later is no error here.
pub fn supervise(state_directory: &Path) -> Result<(), SupervisorError> {
    detach::detach();
    let environment = Environment::from_process();
    log_to(state_directory, &environment);
    match Supervisor::prepare(state_directory, environment, WithoutAgent::Refuse) {
        Ok(supervisor) => {
            detach::tell(Ok(()));
            supervisor.run();
            Ok(())
        }
        Err(error) => {
            detach::tell(Err(&error.to_string()));
            Err(error)
        }
    }
}

/// The same without letting go of the terminal: logs to stderr, ends when the container has ended, is stopped by SIGINT, too.
///
/// A command task is started although no agent is named; nobody is told how it fares then.
///
/// # Errors
/// The container cannot be owned; it was not touched.
pub(crate) fn supervise_in_foreground(state_directory: &Path, environment: Environment) -> Result<(), SupervisorError> {
    log_to_terminal(&environment);
    let supervisor = Supervisor::prepare(state_directory, environment, WithoutAgent::StartAtOnce)?;
    supervisor.runtime.spawn(terminate_at_interrupt());
    supervisor.run();
    Ok(())
}

async fn terminate_at_interrupt() {
    if let Ok(mut interrupt) = signal(SignalKind::interrupt()) {
        interrupt.recv().await;
        // Everything here knows SIGTERM.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
    }
}

/// What becomes of a command task when the environment names no agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WithoutAgent {
    Refuse,
    StartAtOnce,
}

struct Supervisor {
    runtime: tokio::runtime::Runtime,
    terminate: [Signal; 2],
    /// `None` for a custom executor, which runs in the container.
    executor: Option<executor::environment::Environment>,
    environment: Environment,
    owner: Owner,
    asks: Asks,
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Event>,
    _lock: Lock,
}

impl Supervisor {
    fn prepare(path: &Path, environment: Environment, without_agent: WithoutAgent) -> Result<Self, SupervisorError> {
        let directory = StateDirectory::at(path);
        let lock = directory.lock()?;
        let launch = directory.launch()?;
        let has_agent = without_agent == WithoutAgent::Refuse || environment.get("MESOS_SLAVE_PID").is_some();
        let is_command_task = spec::is_command_task(&launch) && has_agent;
        let executor = is_command_task
            .then(|| executor::environment::Environment::parse(|name| environment.get(name).map(str::to_owned)))
            .transpose()?;
        let files = Files::open(Path::new(launch.directory())).map_err(SupervisorError::Sandbox)?;
        let state =
            State { version: State::VERSION, is_command_task, overhead: Overhead::of(&launch), ..State::default() };
        directory.write_state(&state)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(SupervisorError::Runtime)?;
        let inside = runtime.enter();
        let terminate = || signal(SignalKind::terminate()).map_err(SupervisorError::Runtime);
        let (commands, asked) = mpsc::channel(COMMANDS);
        let (told, events) = mpsc::channel(EVENTS);
        let asks = Asks::new(asked, Some(terminate()?));
        let terminate = [terminate()?, terminate()?];
        drop(inside);
        let owner = Owner {
            environment: environment.clone(),
            directory: Some(directory),
            placement: Placement::of_container(&launch.container_id.value),
            launch,
            files,
            state,
            events: told,
            has_tried_to_create: false,
        };
        Ok(Self { runtime, terminate, executor, environment, owner, asks, commands, events, _lock: lock })
    }

    fn run(self) {
        let Self { runtime, terminate, executor, environment, owner, asks, commands, events, _lock } = self;
        let [of_executor, of_end] = terminate;
        runtime.block_on(async {
            let mesos = report(executor, commands, events, of_executor);
            let owner = own(owner, asks);
            let mut owner = std::pin::pin!(owner);
            let mut mesos = std::pin::pin!(mesos);
            let owner = tokio::select! {
                owner = &mut owner => {
                    tokio::select! {
                        () = &mut mesos => {}
                        () = hurry(of_end) => tracing::warn!("terminated before the agent acknowledged the end"),
                    }
                    owner
                }
                // An executor that gives up leaves its channel, which stops the container.
                () = &mut mesos => owner.await,
            };
            clear(owner, &environment).await;
        });
    }
}

/// Lives through the container's life and records its end.
async fn own(mut owner: Owner, mut asks: Asks) -> Owner {
    let ended = owner.live(&mut asks).await;
    tracing::info!(?ended, "the container has ended");
    if let Some(Err(error)) = owner.directory.as_ref().map(|directory| directory.write_result(&ended)) {
        tracing::error!(%error, "the result is not recorded");
    }
    // Only an executor that is gone does not take it.
    let _ = owner.events.send(Event::Ended(ended.ending)).await;
    owner
}

/// Is the executor of a command task; for a custom executor, only sees to it that the container starts.
async fn report(
    executor: Option<executor::environment::Environment>,
    commands: mpsc::Sender<Command>,
    mut events: mpsc::Receiver<Event>,
    mut terminate: Signal,
) {
    if let Some(environment) = executor {
        let terminated = async {
            terminate.recv().await;
        };
        match executor::run::run(environment, commands, events, terminated).await {
            Ok(finished) => tracing::info!(?finished, "the executor has finished"),
            Err(error) => tracing::error!(%error, "there is no executor"),
        }
        return;
    }
    // The owner's end of the channel lives as long as this one.
    let _ = commands.send(Command::Start).await;
    while let Some(event) = events.recv().await {
        if matches!(event, Event::Ended(_)) {
            break;
        }
    }
}

/// Completes some time after SIGTERM, whenever that came.
async fn hurry(mut terminate: Signal) {
    terminate.recv().await;
    tokio::time::sleep(TERMINATED_LIMIT).await;
}

/// Removes the container, when its end is safe on disk.
async fn clear(mut owner: Owner, environment: &Environment) {
    let Some(directory) = owner.directory.clone() else { return };
    if let Err(error) = directory.sync_result() {
        tracing::error!(%error, "the result may be lost with the machine");
    }
    if let Err(error) = take_back(&owner, environment).await {
        tracing::error!(%error, "what the task left in its sandbox stays root's");
    }
    let removed = async {
        let engine = Engine::connect(environment)?;
        match &owner.state.docker_id {
            Some(docker_id) => engine.remove(docker_id).await,
            None if !owner.has_tried_to_create => Ok(()),
            // A creation that failed for us may have succeeded for the engine.
            None => {
                let work_directory = spec::work_directory_label(&environment.work_directory().unwrap_or_default());
                let id = ContainerId::parse(&owner.launch.container_id.value).ok();
                for ours in engine.list_ours(&work_directory, id.as_ref()).await? {
                    engine.remove(&ours.docker_id).await?;
                }
                Ok(())
            }
        }
    };
    match removed.await {
        Ok(()) => owner.state = State { docker_id: None, cgroups: None, ..owner.state },
        Err(error) => tracing::error!(%error, "the container is not removed"),
    }
    if owner.state.is_hooked {
        let config = Config::load(environment);
        match config {
            Ok(config) => {
                if let Err(error) = Hook::Destroy.run(&owner.launch, &config).await {
                    tracing::error!(%error, "the container has gone without it");
                }
            }
            Err(error) => tracing::error!(%error, "there is no destroy hook"),
        }
        owner.state.is_hooked = false;
    }
    if let Err(error) = directory.write_state(&owner.state) {
        tracing::error!(%error, "that the container is gone is not recorded");
    }
}

/// Makes the sandbox's directories removable for an agent that is not root: a task that is root in its container leaves
/// directories of root, and only the engine can give them away.
async fn take_back(owner: &Owner, environment: &Environment) -> Result<(), EngineError> {
    let sandbox = owner.launch.directory();
    let uid = rustix::process::geteuid();
    let is_others = |entry: &std::fs::DirEntry| {
        entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() != uid.as_raw())
    };
    if uid.is_root()
        || !std::fs::read_dir(sandbox).is_ok_and(|entries| entries.flatten().any(|entry| is_others(&entry)))
    {
        return Ok(());
    }
    let engine = Engine::connect(environment)?;
    let Some(docker_id) = &owner.state.docker_id else { return Ok(()) };
    let image = engine.inspect(docker_id).await?.and_then(|inspection| inspection.image_id);
    let Some(image) = image else { return Ok(()) };
    let owner = format!("{}:{}", uid.as_raw(), rustix::process::getegid().as_raw());
    engine.give_directory(&image, sandbox, &owner).await
}

/// Logs into the state directory, when asked to: what the sandbox gets is the task's alone.
fn log_to(path: &Path, environment: &Environment) {
    let Some(level) = environment.get(LOG_VARIABLE) else { return };
    let level =
        tracing::level_filters::LevelFilter::from_str(level).unwrap_or(tracing::level_filters::LevelFilter::INFO);
    if let Ok(file) = std::fs::OpenOptions::new().create(true).append(true).open(path.join("log")) {
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(level).with_writer(Mutex::new(file));
        // There is none before, in a process of its own.
        let _ = tracing::subscriber::set_global_default(subscriber.finish());
    }
}

fn log_to_terminal(environment: &Environment) {
    let level =
        environment.get(LOG_VARIABLE).and_then(|level| tracing::level_filters::LevelFilter::from_str(level).ok());
    let level = level.unwrap_or(tracing::level_filters::LevelFilter::INFO);
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(level).with_writer(std::io::stderr);
    // There is none before, in a process of its own.
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
}

/// Why a container cannot be owned.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum SupervisorError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Id(#[from] ContainerIdError),
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error("the slave's environment is not one for an executor: {0}")]
    Executor(#[from] executor::environment::EnvironmentError),
    #[error("cannot open stdout and stderr in the sandbox: {0}")]
    Sandbox(std::io::Error),
    #[error("cannot set up the supervisor: {0}")]
    Runtime(std::io::Error),
}

/// Set to a level (error, warn, info, debug), makes supervisors write a `log` into their state directories.
pub const LOG_VARIABLE: &str = "LAUNCH_CONTAINER_LOG";
/// Start, and stops of which each counts for itself.
const COMMANDS: usize = 16;
/// A few; progress that finds no room is left out.
const EVENTS: usize = 16;
/// The executor itself gives up two seconds after SIGTERM; whoever sent it waits for our end.
const TERMINATED_LIMIT: Duration = Duration::from_secs(3);
