//! `launch --foreground`: the supervisor in this process, to see what it does.

use std::io;
use std::path::{Path, PathBuf};

use proto::ecp;
use proto::framing::{self, FramingError};

use super::survey::ending_text;
use super::{Answer, OperatorError};
use crate::environment::{Environment, WORK_DIRECTORY};
use crate::store::{ContainerId, ContainerIdError, Store};
use crate::supervisor::{self, SupervisorError};

pub(super) fn run(work_directory: &Path, environment: &Environment) -> Result<Answer, OperatorError> {
    let environment = environment.with(WORK_DIRECTORY, &work_directory.to_string_lossy());
    let message: ecp::Launch = framing::read(&mut io::stdin().lock()).map_err(LaunchError::Message)?;
    let id = ContainerId::parse(&message.container_id.value).map_err(LaunchError::Id)?;
    let sandbox = Path::new(message.directory());
    if !sandbox.is_dir() {
        return Err(LaunchError::NoSandbox { path: sandbox.to_owned() }.into());
    }
    let directory = Store::new(work_directory).create(&id, &message, &environment)?;
    let supervised = supervisor::supervise_in_foreground(directory.path(), environment);
    let ended = directory.result();
    // Nobody will wait for it.
    directory.remove()?;
    supervised.map_err(LaunchError::Supervisor)?;
    let ended =
        ended?.map_or_else(|| "nothing is known of its end".to_owned(), |ended| ending_text(&ended.ending.cause));
    let text = format!("container {id}: {ended}; its output is in {}\n", sandbox.display());
    Ok(Answer { text, notes: Vec::new(), is_fine: true })
}

/// Why nothing is launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("cannot read the launch message on stdin: {}", chain(.0))]
    Message(FramingError),
    #[error(transparent)]
    Id(ContainerIdError),
    #[error("the sandbox {} is not a directory; make it before, as a slave does", path.display())]
    NoSandbox { path: PathBuf },
    #[error(transparent)]
    Supervisor(SupervisorError),
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
