//! The detached process that owns one container from pull to result, and is the Mesos executor of a command task.
//!
//! ```text
//! launch --starts--> supervise: detach, lock, `ready`
//!                      |- owner: prepares at once, starts when asked, stops, tells        (owner.rs)
//!                      |- output: attach stream -> sandbox, on a thread                   (output.rs)
//!                      |- input: the executor's messages -> the container, if it has input  (input.rs)
//!                      `- executor::run for a command task: SUBSCRIBE, statuses           (../executor)
//! ```
//!
//! The order at the end: the output is complete; the result is written; the executor tells the agent; the agent has
//! acknowledged; the result is on disk for certain; the container is removed; the lock is released. A disk that has become full
//! finds room for the result, which was reserved at the beginning.
//!
//! A supervisor that was killed, at whatever point, has a successor: the same process on the same state directory, started by
//! `recover` or `wait`. It finds what was recorded and what the engine knows, and goes on from there.

mod asks;
mod detach;
mod end;
mod input;
mod output;
mod owner;
mod position;
mod successor;

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
pub(crate) use self::end::kill;
pub(crate) use self::output::Files;
pub(crate) use self::owner::Owner;
use crate::config::Config;
use crate::docker::{Engine, EngineError};
use crate::environment::{Environment, EnvironmentError};
use crate::executor;
use crate::executor::probe::Prober;
use crate::executor::run::{Memory, Note, Resumed};
use crate::hooks::Hook;
use crate::lifecycle::{Command, Event};
use crate::spec::{self, Overhead, Placement};
use crate::store::{ContainerId, ContainerIdError, Ended, Lock, State, StateDirectory, StoreError};

/// Owns the container of a state directory until its end, as a process of its own.
///
/// Says `ready` or one line of error on stdout, then lets go of it. Must be called before anything is opened: all
/// descriptors but the first three are closed.
///
/// # Errors
/// The container cannot be owned; it was not touched. What happens to the container later is no error here.
pub fn supervise(state_directory: &Path) -> Result<(), SupervisorError> {
    detach::detach();
    let directory = StateDirectory::at(state_directory);
    if directory.is_forgotten() {
        return remove_forgotten(&directory);
    }
    let prepare = || {
        // A successor is started by another verb, whose environment is not the executor's.
        let environment = Environment::from_process().overlaid_by(directory.environment()?);
        log_to(state_directory, &environment);
        Supervisor::prepare(state_directory, environment, WithoutAgent::Refuse)
    };
    match prepare() {
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

/// For a container that nobody asks for any more and that the engine could not remove: removes it when it can.
fn remove_forgotten(directory: &StateDirectory) -> Result<(), SupervisorError> {
    let prepare = || {
        let lock = directory.lock()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok((lock, directory.environment()?, directory.launch()?, runtime.map_err(SupervisorError::Runtime)?))
    };
    let (_lock, environment, launch, runtime) = prepare().inspect_err(|error: &SupervisorError| {
        detach::tell(Err(&error.to_string()));
    })?;
    detach::tell(Ok(()));
    let id = ContainerId::parse(&launch.container_id.value)?;
    let is_removed = runtime.block_on(async {
        let give_up_at = tokio::time::Instant::now() + FORGOTTEN_LIMIT;
        loop {
            let removed = remove_all(&environment, &id).await;
            let Err(error) = removed else { return true };
            tracing::warn!(%error, "the container is not removed yet");
            if tokio::time::Instant::now() > give_up_at {
                // The next recovery tries again.
                return false;
            }
            tokio::time::sleep(FORGOTTEN_RETRY).await;
        }
    });
    if is_removed {
        directory.remove()?;
    }
    Ok(())
}

/// Removes whatever container the engine has of this id.
async fn remove_all(environment: &Environment, id: &ContainerId) -> Result<(), EngineError> {
    let engine = Engine::connect(environment)?;
    let work_directory = spec::work_directory_label(&environment.work_directory().unwrap_or_default());
    for ours in engine.list_ours(&work_directory, Some(id)).await? {
        engine.remove(&ours.docker_id).await?;
    }
    Ok(())
}

struct Supervisor {
    runtime: tokio::runtime::Runtime,
    terminate: [Signal; 2],
    /// `None` for a custom executor, which runs in the container.
    executor: Option<executor::environment::Environment>,
    environment: Environment,
    owner: Owner,
    /// The end that the supervisor before this one has recorded.
    earlier: Option<Ended>,
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
        let earlier = directory.result()?;
        let left = directory.state()?;
        let is_successor = left.is_some();
        let state = left.unwrap_or_else(|| State {
            version: State::VERSION,
            is_command_task,
            overhead: Overhead::of(&launch),
            ..State::default()
        });
        directory.write_state(&state)?;
        if earlier.is_none() {
            directory.reserve_result()?;
        }
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
            has_tried_to_create: is_successor,
            is_successor,
            is_engine_there: true,
        };
        Ok(Self { runtime, terminate, executor, environment, owner, earlier, asks, commands, events, _lock: lock })
    }

    fn run(self) {
        let Self { runtime, terminate, executor, environment, owner, earlier, asks, commands, events, _lock } = self;
        let [of_executor, of_end] = terminate;
        let memory = executor.as_ref().and(owner.directory.as_ref()).map(|directory| memory(directory, &owner));
        runtime.block_on(async {
            let prober = Prober::new(environment.clone());
            let mesos = report(executor, memory, commands, events, prober, of_executor);
            let owner = own(owner, earlier, asks);
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

/// What the executor that was killed has left, and where this one leaves the same.
fn memory(directory: &StateDirectory, owner: &Owner) -> Memory {
    // Without a task it had nothing to leave, and the agent gives the task anew.
    let owed = directory.owed().unwrap_or_else(|error| {
        tracing::error!(%error, "what the agent was owed is not known");
        None
    });
    let resumed = owed.zip(owner.launch.task_info.clone()).map(|(owed, task)| Resumed { task: Box::new(task), owed });
    let port = directory.port().ok().flatten();
    let directory = directory.clone();
    let note = move |note: Note<'_>| {
        let noted = match note {
            Note::Port(port) => directory.write_port(port),
            Note::Owed(owed) => directory.write_owed(owed),
        };
        if let Err(error) = noted {
            tracing::error!(%error, "a successor will not know what the agent is owed");
        }
    };
    Memory { port, resumed, note: Box::new(note) }
}

/// Lives through the container's life and records its end.
async fn own(mut owner: Owner, earlier: Option<Ended>, mut asks: Asks) -> Owner {
    let ended = match earlier {
        Some(ended) => ended,
        None => {
            let ended = owner.live(&mut asks).await;
            tracing::info!(?ended, "the container has ended");
            if let Some(Err(error)) = owner.directory.as_ref().map(|directory| directory.write_result(&ended)) {
                tracing::error!(%error, "the result is not recorded");
            }
            ended
        }
    };
    // Only an executor that is gone does not take it.
    let _ = owner.events.send(Event::Ended(ended.ending)).await;
    owner
}

/// Is the executor of a command task; for a custom executor, only sees to it that the container starts.
async fn report(
    executor: Option<executor::environment::Environment>,
    memory: Option<Memory>,
    commands: mpsc::Sender<Command>,
    mut events: mpsc::Receiver<Event>,
    prober: Prober,
    mut terminate: Signal,
) {
    if let Some(environment) = executor {
        let terminated = async {
            terminate.recv().await;
        };
        let memory = memory.unwrap_or_default();
        match executor::run::run(environment, memory, commands, events, prober, terminated).await {
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
        // What the engine knows of the end is then all that there is, and stays for whoever asks.
        tracing::error!(%error, "the result is not on disk, so the container stays");
        return;
    }
    if owner.is_engine_there
        && let Err(error) = take_back(&owner, environment).await
    {
        tracing::error!(%error, "what the task left in its sandbox stays root's");
    }
    let removed = async {
        match &owner.state.docker_id {
            Some(docker_id) => Engine::connect(environment)?.remove(docker_id).await,
            None if !owner.has_tried_to_create => Ok(()),
            // A creation that failed for us may have succeeded for the engine.
            None => match ContainerId::parse(&owner.launch.container_id.value) {
                Ok(id) => remove_all(environment, &id).await,
                Err(_) => Ok(()),
            },
        }
    };
    // Whoever waits for our end sees to the removal when an engine that was not there is not back.
    let limit = if owner.is_engine_there { PRESENT_REMOVE_LIMIT } else { ABSENT_REMOVE_LIMIT };
    match tokio::time::timeout(limit, removed).await {
        Ok(Ok(())) => owner.state = State { docker_id: None, cgroups: None, ..owner.state },
        Ok(Err(error)) => tracing::error!(%error, "the container is not removed"),
        Err(_) => tracing::error!("the engine did not remove the container in time"),
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
/// More than the engine's own limit.
const PRESENT_REMOVE_LIMIT: Duration = Duration::from_secs(90);
const ABSENT_REMOVE_LIMIT: Duration = Duration::from_secs(1);
/// An engine that hangs for longer is an operator's matter.
const FORGOTTEN_LIMIT: Duration = Duration::from_secs(60 * 60);
const FORGOTTEN_RETRY: Duration = Duration::from_secs(1);
/// Start, and stops of which each counts for itself.
const COMMANDS: usize = 16;
/// A few; progress that finds no room is left out.
const EVENTS: usize = 16;
/// The executor itself gives up two seconds after SIGTERM; whoever sent it waits for our end.
const TERMINATED_LIMIT: Duration = Duration::from_secs(3);
