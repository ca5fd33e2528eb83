//! What a run leaves on disk, so that another launcher can go on where this one was detached or killed.
//!
//! ```text
//! $XDG_STATE_HOME/launch-container/runs/RUN/      0700; ~/.local/state where XDG_STATE_HOME is not set
//!   journal     one JSON object per line, appended and fsynced one by one; a torn last line is ignored
//!   offsets     how much of stdout and stderr was delivered, rewritten after each write; not fsynced: it survives the
//!               launcher, and with the machine goes whoever has read the output
//!   lock        held (flock) by the launcher that owns the run; its text says which one that is
//! ```
//!
//! The format is described in docs/runs.md; what is in the records, and in which order they are written, is decided by the
//! scheduler. No secret is stored: neither the environment of the task, nor credentials in the master's address.

mod directory;
mod entry;
mod lock;
mod offsets;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use directory::{RunId, RunIdError, Runs};
pub use entry::{Begin, Entry, Note, Past, VERSION};
pub use lock::Holder;
pub use offsets::Mark;

use lock::Lock;
use offsets::Offsets;

/// The journal of a run, owned by this process until it is dropped.
#[derive(Debug)]
pub struct Journal {
    run: RunId,
    path: PathBuf,
    file: File,
    offsets: Offsets,
    _lock: Lock,
}

/// Why a run cannot be begun or continued.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Neither `XDG_STATE_HOME` nor `HOME`.
    #[error("cannot keep a journal: neither XDG_STATE_HOME nor HOME is an absolute path; set one")]
    NoHome,
    /// No run has this id, or one that begins like it.
    #[error("no run {0:?} is known on this machine; `launch-container ps` lists them")]
    Unknown(String),
    /// Several runs begin like this.
    #[error("{prefix:?} is the beginning of several runs: {}; write more of it", runs.join(", "))]
    Ambiguous {
        /// As given.
        prefix: String,
        /// Which.
        runs: Vec<String>,
    },
    /// Another launcher owns it.
    #[error(
        "run {run} is in the hands of {holder}; wait for it with `launch-container wait {run}`, or end it with `launch-container kill {run}`"
    )]
    Held {
        /// Which.
        run: RunId,
        /// By whom.
        holder: Holder,
    },
    /// The same id, another task.
    #[error("run {0} was begun with another command line; repeat that one, or choose another --run-id")]
    OtherTask(RunId),
    /// Not what this program writes.
    #[error("cannot read {}: {why}; move it away to begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which line, and what is wrong.
        why: String,
    },
    /// The system refuses.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// "write", ...
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Journal {
    /// Owns the run that begins with `begin`: a new one, or one that was begun before with the same task.
    ///
    /// # Errors
    /// [`JournalError`]; in particular `Held`.
    pub fn begin(runs: &Runs, begin: Begin) -> Result<(Self, Past), JournalError> {
        let directory = runs.create(&begin.run)?;
        let (mut journal, past) = Self::open(&begin.run, directory)?;
        match past {
            Some(past) if past.begin.digest != begin.digest => Err(JournalError::OtherTask(begin.run)),
            Some(past) => Ok((journal, past)),
            None => {
                journal.note(Note::Begin(Box::new(begin.clone())))?;
                // The directory's entry for the file, too.
                sync_directory(journal.path.parent().unwrap_or(Path::new("/")))?;
                Ok((journal, Past::new(begin)))
            }
        }
    }

    /// Owns a run that was begun before.
    ///
    /// # Errors
    /// [`JournalError`]; in particular `Held`.
    pub fn take(runs: &Runs, run: &RunId) -> Result<(Self, Past), JournalError> {
        let (journal, past) = Self::open(run, runs.directory(run))?;
        let past = past.ok_or_else(|| JournalError::Unknown(run.to_string()))?;
        Ok((journal, past))
    }

    /// What is known of a run, whoever owns it.
    ///
    /// # Errors
    /// [`JournalError`]
    pub fn read(runs: &Runs, run: &RunId) -> Result<Past, JournalError> {
        let path = runs.directory(run).join("journal");
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => JournalError::Unknown(run.to_string()),
            _ => failed("read", &path)(source),
        })?;
        let (past, _) = entry::parse(&path, &bytes)?;
        let mut past = past.ok_or_else(|| JournalError::Unknown(run.to_string()))?;
        past.offsets = Offsets::read(&runs.directory(run))?;
        Ok(past)
    }

    /// Who owns a run at this moment.
    ///
    /// # Errors
    /// The lock cannot be looked at.
    pub fn holder(runs: &Runs, run: &RunId) -> Result<Option<Holder>, JournalError> {
        Lock::holder(&runs.directory(run))
    }

    /// Waits until nobody owns the run.
    ///
    /// # Errors
    /// The lock cannot be waited for.
    pub fn wait_until_free(runs: &Runs, run: &RunId) -> Result<(), JournalError> {
        Lock::wait(&runs.directory(run))
    }

    fn open(run: &RunId, directory: PathBuf) -> Result<(Self, Option<Past>), JournalError> {
        let lock = Lock::take(&directory)?.map_err(|holder| JournalError::Held { run: run.clone(), holder })?;
        let path = directory.join("journal");
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        let (mut past, length) = entry::parse(&path, &bytes)?;
        if length < bytes.len() as u64 {
            file.set_len(length).map_err(failed("shorten", &path))?;
        }
        let offsets = Offsets::open(&directory)?;
        if let Some(past) = &mut past {
            past.offsets = offsets.delivered();
        }
        Ok((Self { run: run.clone(), path, file, offsets, _lock: lock }, past))
    }

    /// Which run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Appends an entry. When this returns it is on disk.
    ///
    /// # Errors
    /// The disk does not take it. What was written of it is taken back, or ignored by readers.
    pub fn append(&mut self, entry: Entry) -> Result<(), JournalError> {
        let line = entry::line(entry);
        let length = self.file.metadata().map_err(failed("look at", &self.path))?.len();
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Half a line must not be in front of the next one.
            let _ = self.file.set_len(length);
        }
        written.map_err(failed("write", &self.path))
    }

    /// Appends an entry of the shell's own.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn note(&mut self, note: Note) -> Result<(), JournalError> {
        self.append(Entry::Shell(note))
    }

    /// Where a stream (0 is stdout, 1 is stderr) that goes to `out` notes how much of it was delivered.
    pub fn mark(&self, stream: usize, out: BorrowedFd<'_>) -> Mark {
        self.offsets.mark(stream, out)
    }
}

/// Wraps an error of the system.
fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { what, path, source }
}

fn create_private_directory(path: &Path) -> Result<(), JournalError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))
}

fn sync_directory(path: &Path) -> Result<(), JournalError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("write", path))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
