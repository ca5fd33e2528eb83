//! The directory with sandboxes and the containerizer's state: given by the user and kept, or made and removed.
//!
//! A directory that was made is locked while its cluster lives. One that is not locked was left by a process that was
//! killed: whoever finds it destroys what is still registered there, and removes it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::containerizer::Containerizer;
use crate::master::chain;

/// How the directories that were made are called, up to a random end.
const PREFIX: &str = "launch-container-local.";
/// The file in it that is locked.
const LOCK: &str = ".lock";
/// The same file while it is being made.
const UNNAMED_LOCK: &str = ".lock.new";

/// Why there is no work directory, or why it stays.
#[derive(Debug, thiserror::Error)]
pub enum WorkDirError {
    /// It cannot be made.
    #[error("cannot make {}", .path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be locked.
    #[error("cannot lock {}", .path.display())]
    Lock {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It stays.
    #[error("cannot remove {}; remove it by hand", .path.display())]
    Remove {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A directory that exists.
#[derive(Debug)]
pub(super) struct WorkDir {
    /// Without symbolic links.
    path: PathBuf,
    /// Holds the lock of a directory that will be removed.
    lock: Option<File>,
}

impl WorkDir {
    /// `given` is used as it is, and made if need be; else a private one is made.
    pub(super) fn make(given: Option<&Path>) -> Result<Self, WorkDirError> {
        if let Some(path) = given {
            let made = fs::create_dir_all(path).and_then(|()| path.canonicalize());
            let path = made.map_err(|source| WorkDirError::Make { path: path.to_owned(), source })?;
            return Ok(Self { path, lock: None });
        }
        let parent = std::env::temp_dir();
        let private = Permissions::from_mode(0o700);
        let made = tempfile::Builder::new().prefix(PREFIX).permissions(private).tempdir_in(&parent);
        let made = made.map_err(|source| WorkDirError::Make { path: parent.join(PREFIX), source })?;
        let path = made.path().canonicalize();
        let path = path.map_err(|source| WorkDirError::Make { path: made.path().to_owned(), source })?;
        // Locked before it has its name: whoever sweeps takes a lock file that is free for one of a killed cluster.
        let (lock_path, unnamed) = (path.join(LOCK), path.join(UNNAMED_LOCK));
        let lock = File::create(&unnamed).and_then(|lock| {
            rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            fs::rename(&unnamed, &lock_path)?;
            Ok(lock)
        });
        let lock = lock.map_err(|source| WorkDirError::Lock { path: lock_path, source })?;
        // From here on this is removed as a `WorkDir`.
        let _ = made.keep();
        Ok(Self { path, lock: Some(lock) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what was made.
    pub(super) fn remove(mut self) -> Result<(), WorkDirError> {
        match self.lock.take() {
            // Locked until the end.
            Some(_lock) => clear(&self.path).map_err(|source| WorkDirError::Remove { path: self.path.clone(), source }),
            None => Ok(()),
        }
    }
}

/// For clusters that fail half-way through their start: nobody is there to be told.
impl Drop for WorkDir {
    fn drop(&mut self) {
        if self.lock.is_some() {
            let _ = clear(&self.path);
        }
    }
}

/// Removes the lock last: without it nobody else would ever look at what could not be removed.
fn clear(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != LOCK {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir_all(path)
}

/// Clears away what killed clusters of this user left. Best effort: what cannot be removed stays.
pub(super) async fn sweep(containerizer: &Path, libexec: &str) {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    let user = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user);
        if !is_ours {
            continue;
        }
        // Without a lock file it is just being made.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        if let Err(why) = sweep_one(containerizer, libexec, &entry.path()).await {
            tracing::warn!(path = %entry.path().display(), why, "cannot clear away what a killed cluster left");
        }
    }
}

async fn sweep_one(containerizer: &Path, libexec: &str, work_dir: &Path) -> Result<(), String> {
    // No process of that cluster is left that would use its port.
    let containerizer = Containerizer::new(containerizer, work_dir, libexec, 0);
    let left = containerizer.containers().await.map_err(|error| chain(&error))?;
    for container in left.containers {
        containerizer.destroy(None, &container.value).await.map_err(|error| chain(&error))?;
    }
    clear(work_dir).map_err(|error| error.to_string())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn directory_that_was_made_goes_however_its_cluster_ends() {
        let removed = WorkDir::make(None).unwrap();
        let dropped = WorkDir::make(None).unwrap();
        let paths = [removed.path().to_owned(), dropped.path().to_owned()];
        fs::write(paths[0].join("file"), "").unwrap();
        fs::create_dir_all(paths[1].join("a/b")).unwrap();
        removed.remove().unwrap();
        drop(dropped);
        assert!(paths.iter().all(|path| !path.exists()));
    }

    #[test]
    fn directory_of_the_user_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let given = WorkDir::make(Some(&path)).unwrap();
        given.remove().unwrap();
        assert!(path.exists());
    }
}
