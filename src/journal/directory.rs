//! Where the runs of a user are, and how they are called.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{JournalError, create_private_directory, failed, sync_directory};

/// The name of a run: also the task's id on the wire, and a directory's name here and on the agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// Not the name of a run.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a run id has 1 to 200 letters, digits, '.', '_' and '-', and does not begin with '.' or '-'")]
pub struct RunIdError;

impl RunId {
    /// As a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, RunIdError> {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if text.len() > 200 || !begins_well || !text.chars().all(is_fine) {
            return Err(RunIdError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for RunId {
    type Error = RunIdError;

    fn try_from(text: String) -> Result<Self, RunIdError> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(run: RunId) -> Self {
        run.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The runs of this user on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    directory: PathBuf,
}

impl Runs {
    /// Under `XDG_STATE_HOME`, else under `HOME`.
    ///
    /// # Errors
    /// Neither is an absolute path.
    pub fn of_user() -> Result<Self, JournalError> {
        Self::in_environment(|name| std::env::var_os(name))
    }

    fn in_environment(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, JournalError> {
        let absolute = |name| lookup(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
        Ok(Self { directory: state.ok_or(JournalError::NoHome)?.join("launch-container/runs") })
    }

    /// In any directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(super) fn directory(&self, run: &RunId) -> PathBuf {
        self.directory.join(run.as_str())
    }

    pub(super) fn create(&self, run: &RunId) -> Result<PathBuf, JournalError> {
        let directory = self.directory(run);
        create_private_directory(&directory)?;
        sync_directory(&self.directory)?;
        Ok(directory)
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<RunId>, JournalError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &self.directory)(error)),
        };
        let mut runs = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("read", &self.directory))?;
            if let Some(run) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                runs.push(run);
            }
        }
        runs.sort();
        Ok(runs)
    }

    /// The run with this id, or the only one whose id begins like this.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn find(&self, prefix: &str) -> Result<RunId, JournalError> {
        let mut found: Vec<RunId> =
            self.list()?.into_iter().filter(|run| run.as_str().starts_with(prefix) && !prefix.is_empty()).collect();
        if let Some(exact) = found.iter().find(|run| run.as_str() == prefix) {
            return Ok(exact.clone());
        }
        match found.len() {
            0 => Err(JournalError::Unknown(prefix.to_owned())),
            1 => Ok(found.remove(0)),
            _ => Err(JournalError::Ambiguous {
                prefix: prefix.to_owned(),
                runs: found.iter().map(RunId::to_string).collect(),
            }),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn run_ids_are_safe_as_names_of_files_and_tasks() {
        for good in ["a", "nightly-2026.11.25_1", "0a1b", &"x".repeat(200)] {
            assert_eq!(good.parse::<RunId>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", ".a", "-a", "a/b", "a b", "ä", "a\n", &"x".repeat(201)] {
            assert_eq!(bad.parse::<RunId>(), Err(RunIdError), "{bad:?}");
        }
    }

    #[test]
    fn the_state_directory_is_where_xdg_says() {
        let runs = |state: Option<&str>, home: Option<&str>| {
            let lookup = |name: &str| if name == "HOME" { home } else { state }.map(OsString::from);
            Runs::in_environment(lookup).ok().map(|runs| runs.directory)
        };
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(runs(Some("/s"), Some("/h")), path("/s/launch-container/runs"));
        assert_eq!(runs(Some("relative"), Some("/h")), path("/h/.local/state/launch-container/runs"));
        assert_eq!(runs(None, None), None);
    }

    #[test]
    fn a_run_is_found_by_its_id_or_a_beginning_that_only_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let runs = Runs::in_directory(&directory.path().join("runs"));
        assert!(matches!(runs.find("a"), Err(JournalError::Unknown(_))), "there is not even a directory");
        for run in ["a", "ab", "abc", "xyz"] {
            runs.create(&run.parse().unwrap()).unwrap();
        }
        fs::create_dir(directory.path().join("runs/.hidden")).unwrap();
        assert_eq!(runs.find("x").unwrap().as_str(), "xyz");
        assert_eq!(runs.find("a").unwrap().as_str(), "a", "the whole id goes first");
        for none in ["", "b", ".hidden"] {
            assert!(matches!(runs.find(none), Err(JournalError::Unknown(_))), "{none}");
        }
        runs.create(&"ac".parse().unwrap()).unwrap();
        fs::remove_dir(directory.path().join("runs/a")).unwrap();
        let Err(JournalError::Ambiguous { runs: several, .. }) = runs.find("a") else { panic!("which one?") };
        assert_eq!(several, ["ab", "abc", "ac"]);
    }
}
