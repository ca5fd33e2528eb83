//! The verbs of the external containerizer protocol: one file each, and here what they share.
//!
//! A verb is a process: it reads at most one message from stdin, writes at most one to stdout, and its exit code says
//! whether it succeeded. Verbs of one container run side by side; what they must agree on goes through the store's locks.

mod containers;
mod destroy;
mod launch;
mod recover;
mod update;
mod usage;
mod wait;

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::{Message, Name};
use proto::ecp;
use proto::framing::{self, FramingError};

use crate::config::ConfigError;
use crate::docker::{Engine, EngineError};
use crate::environment::{Environment, EnvironmentError};
use crate::spec;
use crate::store::{ContainerId, ContainerIdError, StateDirectory, Store, StoreError};
use crate::supervisor::{self, StartError};

/// What a slave may ask of a containerizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Start a container.
    Launch,
    /// Change what it may use.
    Update,
    /// Say what it uses.
    Usage,
    /// Say how it ends, when it has.
    Wait,
    /// End it.
    Destroy,
    /// Say which there are.
    Containers,
    /// Put things in order after a restart of the slave.
    Recover,
}

impl Verb {
    /// By the word of the protocol.
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Launch, Self::Update, Self::Usage, Self::Wait, Self::Destroy, Self::Containers, Self::Recover];
        all.into_iter().find(|verb| verb.word() == word)
    }

    /// The word of the protocol.
    pub fn word(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Update => "update",
            Self::Usage => "usage",
            Self::Wait => "wait",
            Self::Destroy => "destroy",
            Self::Containers => "containers",
            Self::Recover => "recover",
        }
    }
}

/// Does what the slave asks, with its message on this process's stdin and the answer on its stdout.
///
/// # Errors
/// The verb failed. The text is one line: what was attempted, on what, why, and what to do.
pub fn run(verb: Verb, environment: &Environment) -> Result<(), Error> {
    let context = environment.work_directory().map_err(Problem::from).map(|work_directory| Context {
        environment,
        store: Store::new(&work_directory),
        work_directory,
    });
    let context = context.map_err(|problem| Error { verb, container: None, problem })?;
    let container = |id: &proto::mesos::ContainerId, run: &dyn Fn(&ContainerId) -> Result<(), Problem>| {
        let id = ContainerId::parse(&id.value).map_err(|problem| Error {
            verb,
            container: None,
            problem: problem.into(),
        })?;
        run(&id).map_err(|problem| Error { verb, container: Some(id), problem })
    };
    let no_container = |result: Result<(), Problem>| result.map_err(|problem| Error { verb, container: None, problem });
    match verb {
        Verb::Launch => {
            let message: ecp::Launch = read(verb)?;
            container(&message.container_id, &|id| launch::run(&context, id, &message))
        }
        Verb::Update => {
            let message: ecp::Update = read(verb)?;
            container(&message.container_id, &|id| update::run(&context, id, &message.resources))
        }
        Verb::Usage => {
            let message: ecp::Usage = read(verb)?;
            container(&message.container_id, &|id| answer(&usage::run(&context, id)?))
        }
        Verb::Wait => {
            let message: ecp::Wait = read(verb)?;
            container(&message.container_id, &|id| wait::run(&context, id))
        }
        Verb::Destroy => {
            let message: ecp::Destroy = read(verb)?;
            container(&message.container_id, &|id| destroy::run(&context, id))
        }
        Verb::Containers => no_container(containers::run(&context).and_then(|containers| answer(&containers))),
        Verb::Recover => no_container(recover::run(&context)),
    }
}

/// What every verb has.
struct Context<'a> {
    environment: &'a Environment,
    work_directory: PathBuf,
    store: Store,
}

impl Context<'_> {
    fn engine(&self) -> Result<Engine, EngineError> {
        Engine::connect(self.environment)
    }

    /// Starts a supervisor for a container whose own was killed; fine when another was quicker.
    fn succeed(&self, directory: &StateDirectory) -> Result<(), Problem> {
        let launch = directory.launch()?;
        match supervisor::start(directory.path(), Path::new(launch.directory())) {
            Ok(()) => Ok(()),
            Err(_) if directory.owner().is_ok_and(|owner| owner.is_some()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes all that is left of a container that nobody asks for any more. Where the engine does not help, what is left
    /// of it is killed and the rest is left to a process of its own, until the engine is back.
    fn let_go(&self, id: &ContainerId, directory: &StateDirectory) -> Result<(), Problem> {
        let state = directory.state().ok().flatten();
        let has_ended = directory.result().is_ok_and(|result| result.is_some());
        // What a supervisor recorded of its end tells whether it could remove the container.
        if has_ended && state.as_ref().is_some_and(|state| state.docker_id.is_none()) {
            return Ok(directory.remove()?);
        }
        let removed = block_on(async {
            let removal = async {
                let engine = self.engine()?;
                for ours in engine.list_ours(&self.work_directory_label(), Some(id)).await? {
                    engine.remove(&ours.docker_id).await?;
                }
                Ok(())
            };
            tokio::time::timeout(REMOVAL_LIMIT, removal).await.map_err(|_| Problem::RemovalTimeout)?
        });
        let Err(problem) = removed else { return Ok(directory.remove()?) };
        let Some(state) = state.filter(|_| directory.exists()) else { return Err(problem) };
        if let (Some(docker_id), Some(init)) = (&state.docker_id, &state.init) {
            supervisor::kill(docker_id, init, state.cgroups.as_ref());
        }
        directory.forget()?;
        self.succeed(directory)
    }

    fn work_directory_label(&self) -> String {
        spec::work_directory_label(&self.work_directory)
    }
}

fn read<M: Message + Name + Default>(verb: Verb) -> Result<M, Error> {
    let read = framing::read(&mut io::stdin().lock());
    read.map_err(|error| Error { verb, container: None, problem: error.into() })
}

fn answer<M: Message + Name>(message: &M) -> Result<(), Problem> {
    Ok(framing::write(&mut io::stdout().lock(), message)?)
}

/// Runs what talks to the engine; verbs that need not talk to it never get here.
fn block_on<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Problem::Runtime)?.block_on(work)
}

/// A verb that failed.
#[derive(Debug)]
pub struct Error {
    verb: Verb,
    container: Option<ContainerId>,
    problem: Problem,
}

impl Error {
    /// Why.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "docker-containerizer cannot {}", self.verb.word())?;
        if let Some(container) = &self.container {
            write!(formatter, " {container}")?;
        }
        write!(formatter, ": {}", self.problem)
    }
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum Problem {
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error("{}", chain(.0))]
    Message(#[from] FramingError),
    #[error(transparent)]
    Id(#[from] ContainerIdError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("no such container is known to this slave; it was never launched, or it has been waited for or destroyed")]
    Unknown,
    #[error("its sandbox {} is not a directory; the slave makes it before it launches", path.display())]
    NoSandbox { path: PathBuf },
    #[error("its supervisor (pid {pid}) cannot be stopped: {source}")]
    Supervisor { pid: i32, source: io::Error },
    #[error(
        "the Docker engine did not remove its container within {} seconds; is dockerd hanging?",
        REMOVAL_LIMIT.as_secs()
    )]
    RemovalTimeout,
    #[error("cannot set up: {0}")]
    Runtime(io::Error),
}

/// A slave waits for `destroy` without a limit of its own; an engine that is there needs a second or two.
const REMOVAL_LIMIT: Duration = Duration::from_secs(8);

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_found_by_its_word() {
        for word in ["launch", "update", "usage", "wait", "destroy", "containers", "recover"] {
            assert_eq!(Verb::from_word(word).map(Verb::word), Some(word));
        }
        assert_eq!(Verb::from_word("observe"), None);
    }

    #[test]
    fn an_error_is_one_line_about_verb_container_and_reason() {
        let error = Error { verb: Verb::Wait, container: ContainerId::parse("c1").ok(), problem: Problem::Unknown };
        assert!(error.to_string().starts_with("docker-containerizer cannot wait c1: no such container is known"));
    }
}
