//! What the operator of a slave asks: is all well (`doctor`), which containers are there (`ps`), what is known of one
//! (`inspect`), what can go (`gc`), what is configured (`config`); and a launch that can be watched (`launch --foreground`).
//!
//! ```text
//! survey: state directories (store) + containers with our labels (engine) -> every container, and how it stands
//!    |-> ps        |-> inspect        |-> gc        |-> doctor (and the program, the slave, the engine, the host)
//! ```
//!
//! Nothing here changes anything but `gc`, and that only what is ours. What is shown of a task never contains the values of
//! its environment. Every question to the engine has a deadline; without its answers, what is remembered is shown.

mod doctor;
mod finding;
mod gc;
mod inspect;
mod launch;
mod ps;
mod redact;
mod slave;
mod survey;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Config, ConfigError};
use crate::environment::{Environment, EnvironmentError, WORK_DIRECTORY};
use crate::store::StoreError;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Whether this host can do what a slave will ask of it.
    Doctor,
    /// A launch whose supervisor stays in this process; the slave's message comes on stdin.
    Launch,
    /// The configuration in force.
    Config,
    /// Every container of a slave.
    Ps,
    /// All that is known of one container.
    Inspect {
        /// Mesos' id, the engine's, its name at the engine, or the beginning of one of them.
        id: String,
    },
    /// Removal of what nobody can ask for any more.
    Gc {
        /// Say it only.
        is_dry_run: bool,
        /// What is younger stays.
        grace: Duration,
    },
}

/// How the answer looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For stdout, with its final newline.
    pub text: String,
    /// For stderr: what the answer lacks, and why.
    pub notes: Vec<String>,
    /// Whether nothing is wrong with what was asked about.
    pub is_fine: bool,
}

/// Answers an operator. `work_directory` is the slave's; without one it is that of the environment, or of the one slave that runs.
///
/// # Errors
/// There is no answer. The text is one line.
pub fn run(
    command: &Command,
    format: Format,
    work_directory: Option<&Path>,
    environment: &Environment,
) -> Result<Answer, OperatorError> {
    if *command == Command::Config {
        return Ok(Answer { text: Config::print(environment)?, notes: Vec::new(), is_fine: true });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(OperatorError::Runtime)?;
    let slaves = slave::find();
    let work_directory = find_work_directory(work_directory, environment, &slaves);
    if *command == Command::Launch {
        return launch::run(&work_directory?, environment);
    }
    runtime.block_on(async {
        match command {
            Command::Launch | Command::Config => unreachable!("they are answered above"),
            Command::Doctor => Ok(doctor::run(format, work_directory, environment, &slaves).await),
            Command::Ps => ps::run(format, &work_directory?, environment).await,
            Command::Inspect { id } => inspect::run(id, &work_directory?, environment).await,
            Command::Gc { is_dry_run, grace } => {
                gc::run(format, &work_directory?, environment, *is_dry_run, *grace).await
            }
        }
    })
}

fn find_work_directory(
    given: Option<&Path>,
    environment: &Environment,
    slaves: &[slave::Slave],
) -> Result<PathBuf, OperatorError> {
    if let Some(given) = given {
        return std::path::absolute(given)
            .map_err(|source| OperatorError::WorkDirectory { path: given.to_owned(), source });
    }
    if environment.get(WORK_DIRECTORY).is_some() {
        return Ok(environment.work_directory()?);
    }
    let mut running: Vec<&Path> = slaves.iter().filter_map(|slave| slave.work_directory.as_deref()).collect();
    running.sort_unstable();
    running.dedup();
    match running.as_slice() {
        [] => Err(OperatorError::NoSlave),
        [one] => Ok(one.to_path_buf()),
        several => {
            let found = several.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            Err(OperatorError::SeveralSlaves { found })
        }
    }
}

/// Why an operator gets no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum OperatorError {
    #[error(
        "no Mesos slave runs here whose work directory could be taken; give it: --work-dir DIRECTORY, or set {WORK_DIRECTORY}"
    )]
    NoSlave,
    #[error("several Mesos slaves run here ({found}); choose one: --work-dir DIRECTORY")]
    SeveralSlaves { found: String },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error("{} cannot be made an absolute path: {source}", path.display())]
    WorkDirectory { path: PathBuf, source: std::io::Error },
    #[error("{}; may you read the slave's work directory? (root may)", .0)]
    Store(#[from] StoreError),
    #[error("no container {id:?} is known in {}; docker-containerizer ps lists those that are", work_directory.display())]
    NoContainer { id: String, work_directory: PathBuf },
    #[error("{id:?} begins the ids of several containers ({found}); give more of it")]
    SeveralContainers { id: String, found: String },
    #[error(transparent)]
    Launch(#[from] launch::LaunchError),
    #[error("cannot set up: {0}")]
    Runtime(std::io::Error),
}
