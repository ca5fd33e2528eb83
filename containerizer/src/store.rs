//! What is remembered of each container while it may still be asked for: one state directory each, under the slave's work
//! directory.
//!
//! ```text
//! WORK_DIRECTORY/launch-container/containers/CONTAINER_ID/     mode 0700
//!     launch             the slave's message, written by `launch`; it may hold secrets
//!     environment.json   what a supervisor needs of the slave's environment
//!     lock               held by the supervisor for its life; its pid is inside
//!     state.json         written by the supervisor: what it owns
//!     output             written by the supervisor: how much of the output the sandbox has
//!     owed, port.json    written by the supervisor: what its agent has not acknowledged, and where it is heard
//!     limits.json        written by `update`, under limits.lock, and read at creation
//!     result.json        written by the supervisor: how it ended
//!     .room-for-result   room that the result finds on a disk that has become full
//!     readers.lock       shared by who waits for the result; the last one removes the directory
//!     forgotten          nobody asks any more; the directory is kept for the container that could not be removed
//! ```
//!
//! Every file is replaced whole. Locks are the kernel's: they vanish with their holder, whatever ended it. A directory
//! appears with everything that `launch` writes or not at all, and disappears at once.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use prost::Message;
use proto::ecp::Launch;
use proto::executor::call::Subscribe as Owed;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::lifecycle::{Ending, Started};
use crate::process::Process;
use crate::spec::{Limits, Overhead, Swap};

/// A slave's id of a container, safe as a file name and as a part of the engine's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks what came over a wire.
    ///
    /// # Errors
    /// It is empty, too long, or not made of letters, digits, `.`, `_` and `-` with a letter or digit first.
    pub fn parse(text: &str) -> Result<Self, ContainerIdError> {
        let is_expected = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let starts_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if !starts_well || text.len() > MAX_ID_BYTES || !text.bytes().all(is_expected) {
            let text = text.chars().take(MAX_ID_BYTES).collect();
            return Err(ContainerIdError { text });
        }
        Ok(Self(text.to_owned()))
    }

    /// As it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A text that is no container's id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{text:?} is not a container id: up to {MAX_ID_BYTES} letters, digits and ._- were expected; is the caller a Mesos slave?"
)]
pub struct ContainerIdError {
    text: String,
}

/// All state directories of one slave.
#[derive(Debug, Clone)]
pub struct Store {
    containers: PathBuf,
}

impl Store {
    /// Touches nothing.
    pub fn new(work_directory: &Path) -> Self {
        Self { containers: work_directory.join("launch-container").join("containers") }
    }

    /// The directory that holds the containers' directories.
    pub fn path(&self) -> &Path {
        &self.containers
    }

    /// A container's directory, which need not exist.
    pub fn container(&self, id: &ContainerId) -> StateDirectory {
        StateDirectory { path: self.containers.join(id.as_str()) }
    }

    /// Makes a container's directory with all that a supervisor needs.
    ///
    /// # Errors
    /// It exists, or the disk does not take it.
    pub fn create(
        &self,
        id: &ContainerId,
        launch: &Launch,
        environment: &Environment,
    ) -> Result<StateDirectory, StoreError> {
        let private = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        private(&self.containers).map_err(|source| StoreError::Write { path: self.containers.clone(), source })?;
        let new = self.temporary("new", id);
        private(&new.path).map_err(|source| StoreError::Write { path: new.path.clone(), source })?;
        let directory = self.container(id);
        let filled = new
            .replace("launch", &launch.encode_to_vec())
            .and_then(|()| new.replace_json("environment.json", &environment.for_supervisor()))
            .and_then(|()| new.replace("lock", b""))
            .and_then(|()| {
                fs::rename(&new.path, &directory.path).map_err(|source| match source.kind() {
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => StoreError::Exists,
                    _ => StoreError::Write { path: directory.path.clone(), source },
                })
            });
        if let Err(error) = filled {
            // What is left would only be cleared away by the next recovery.
            let _ = fs::remove_dir_all(&new.path);
            return Err(error);
        }
        Ok(directory)
    }

    /// All that exist, in no order.
    ///
    /// # Errors
    /// The directory cannot be read; that it is not there is no error.
    pub fn list(&self) -> Result<Vec<(ContainerId, StateDirectory)>, StoreError> {
        let names = self.names()?;
        let ids = names.into_iter().filter_map(|name| ContainerId::parse(&name).ok());
        Ok(ids.map(|id| (id.clone(), self.container(&id))).collect())
    }

    /// Clears away what interrupted verbs have left half made or half removed.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn clear_leftovers(&self) -> Result<(), StoreError> {
        for name in self.names()?.into_iter().filter(|name| name.starts_with('.')) {
            // Another try comes with the next recovery.
            let _ = fs::remove_dir_all(self.containers.join(name));
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let failed = |source| StoreError::Read { path: self.containers.clone(), source };
        let entries = match fs::read_dir(&self.containers) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
        let names: Result<Vec<Option<String>>, _> = names.collect();
        Ok(names.map_err(failed)?.into_iter().flatten().collect())
    }

    /// No container's id begins with a dot.
    fn temporary(&self, why: &str, id: &ContainerId) -> StateDirectory {
        StateDirectory { path: self.containers.join(format!(".{why}-{id}-{}", std::process::id())) }
    }
}

/// One container's state directory.
#[derive(Debug, Clone)]
pub struct StateDirectory {
    path: PathBuf,
}

impl StateDirectory {
    /// As a supervisor is given it.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// The slave's message.
    ///
    /// # Errors
    /// It is not there or damaged.
    pub fn launch(&self) -> Result<Launch, StoreError> {
        let path = self.path.join("launch");
        let bytes = fs::read(&path).map_err(|source| StoreError::Read { path: path.clone(), source })?;
        Launch::decode(bytes.as_slice()).map_err(|source| StoreError::Damaged { path, reason: source.to_string() })
    }

    /// What `launch` kept of the slave's environment.
    ///
    /// # Errors
    /// It is not there or damaged.
    pub fn environment(&self) -> Result<Environment, StoreError> {
        let missing =
            || StoreError::Damaged { path: self.path.join("environment.json"), reason: "it is missing".into() };
        self.read_json("environment.json")?.ok_or_else(missing)
    }

    /// Where the supervisor notes how much of the output the sandbox has.
    pub fn output_positions(&self) -> PathBuf {
        self.path.join("output")
    }

    /// What the executor's agent has not acknowledged; `None` when nothing was noted.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn owed(&self) -> Result<Option<Owed>, StoreError> {
        let path = self.path.join("owed");
        match fs::read(&path) {
            Ok(bytes) => match Owed::decode(bytes.as_slice()) {
                Ok(owed) => Ok(Some(owed)),
                Err(source) => Err(StoreError::Damaged { path, reason: source.to_string() }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }

    /// For the supervisor alone.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn write_owed(&self, owed: &Owed) -> Result<(), StoreError> {
        self.replace("owed", &owed.encode_to_vec())
    }

    /// Where the executor listens for its agent's messages; `None` when it does not, or did not say.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn port(&self) -> Result<Option<u16>, StoreError> {
        self.read_json("port.json")
    }

    /// For the supervisor alone.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn write_port(&self, port: u16) -> Result<(), StoreError> {
        self.replace_json("port.json", &port)
    }

    /// Notes that nobody asks for the container any more, and that only its removal is still to be done.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn forget(&self) -> Result<(), StoreError> {
        self.replace("forgotten", b"")
    }

    /// Whether only the container's removal is still to be done.
    pub fn is_forgotten(&self) -> bool {
        self.path.join("forgotten").exists()
    }

    /// What the supervisor owns; `None` before it has said so.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn state(&self) -> Result<Option<State>, StoreError> {
        self.read_json("state.json")
    }

    /// For the supervisor alone.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn write_state(&self, state: &State) -> Result<(), StoreError> {
        self.replace_json("state.json", state)
    }

    /// How the container ended; `None` before.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn result(&self) -> Result<Option<Ended>, StoreError> {
        self.read_json("result.json")
    }

    /// For the supervisor alone: sees to it that there will be room for the result, whatever becomes of the disk.
    ///
    /// # Errors
    /// The disk is full already.
    pub fn reserve_result(&self) -> Result<(), StoreError> {
        let path = self.path.join(ROOM_FOR_RESULT);
        let opened = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path);
        let reserved = opened.and_then(|mut file| {
            match fallocate(&file, FallocateFlags::empty(), 0, RESULT_BYTES as u64) {
                // Not every file system can.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.write_all(&[0; RESULT_BYTES]),
                allocated => Ok(allocated?),
            }
        });
        reserved.map_err(|source| StoreError::Write { path, source })
    }

    /// For the supervisor alone; without waiting for the disk, see [`Self::sync_result`].
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn write_result(&self, result: &Ended) -> Result<(), StoreError> {
        let Err(error) = self.replace_json("result.json", result) else {
            // It is of no more use, and nothing depends on its going.
            let _ = fs::remove_file(self.path.join(ROOM_FOR_RESULT));
            return Ok(());
        };
        let bytes = serde_json::to_vec(result).expect("plain fields always serialize");
        let room = self.path.join(ROOM_FOR_RESULT);
        if bytes.len() > RESULT_BYTES {
            return Err(error);
        }
        let written = OpenOptions::new().write(true).open(&room).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.set_len(bytes.len() as u64)?;
            fs::rename(&room, self.path.join("result.json"))
        });
        written.map_err(|_| error)
    }

    /// Waits until the result would survive a crash of the machine: from then on the engine's own memory of the end may go.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync_result(&self) -> Result<(), StoreError> {
        let path = self.path.join("result.json");
        let failed = |source| StoreError::Write { path: path.clone(), source };
        File::open(&path).and_then(|file| file.sync_all()).map_err(failed)?;
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(failed)
    }

    /// Takes the supervisor's lock for as long as the returned value lives, and notes the holder's pid.
    ///
    /// # Errors
    /// The lock cannot be had: another supervisor owns the container.
    pub fn lock(&self) -> Result<Lock, StoreError> {
        let mut file = self.open_lock()?;
        // Others look at the lock for a moment only, but a blocking call would wait for a supervisor's whole life.
        for attempt in 1.. {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if attempt < LOCK_ATTEMPTS => std::thread::sleep(LOCK_PAUSE),
                Err(_) => return Err(StoreError::Owned),
            }
        }
        let written = file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        written.map_err(|source| StoreError::Write { path: self.path.join("lock"), source })?;
        Ok(Lock { _file: file })
    }

    /// The pid of the living supervisor; `None` when there is none.
    ///
    /// # Errors
    /// The lock cannot be looked at.
    pub fn owner(&self) -> Result<Option<rustix::process::Pid>, StoreError> {
        let mut file = self.open_lock()?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(|source| self.unreadable("lock", source))?;
                Ok(text.parse().ok().and_then(rustix::process::Pid::from_raw))
            }
            Err(error) => Err(self.unreadable("lock", error.into())),
        }
    }

    /// Keeps the directory in place for a reader until [`Self::is_last`]; `None` when there is no directory.
    ///
    /// # Errors
    /// The disk does not take the lock's file.
    pub fn read_result_later(&self) -> Result<Option<Reader>, StoreError> {
        let path = self.path.join("readers.lock");
        let failed = |source| StoreError::Write { path: path.clone(), source };
        let file = match OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        flock(&file, FlockOperation::LockShared).map_err(|error| failed(error.into()))?;
        Ok(Some(Reader { file }))
    }

    /// Waits until no supervisor owns the container, at most for `limit`; whether that came about.
    ///
    /// # Errors
    /// The lock cannot be waited for.
    pub fn wait_until_released(&self, limit: Option<Duration>) -> Result<bool, StoreError> {
        let file = self.open_lock()?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(self.unreadable("lock", error.into())),
        }
        let wait = move || loop {
            match flock(&file, FlockOperation::LockShared) {
                Ok(()) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error)),
            }
        };
        let is_released = match limit {
            None => wait(),
            Some(limit) => {
                // The kernel's lock has no deadline; a thread that is still waiting ends with the process.
                let (sender, receiver) = mpsc::channel();
                std::thread::spawn(move || sender.send(wait()));
                receiver.recv_timeout(limit).unwrap_or(Ok(false))
            }
        };
        is_released.map_err(|source| self.unreadable("lock", source))
    }

    /// Whether the directory has no other reader, so that this one has to remove it.
    pub fn is_last(&self, reader: &Reader) -> bool {
        let is_last = || flock(&reader.file, FlockOperation::NonBlockingLockExclusive).is_ok();
        // Of two readers who see each other, the first lets go and the second finds itself alone.
        is_last() || (flock(&reader.file, FlockOperation::Unlock).is_ok() && is_last())
    }

    /// Whether a supervisor has still something to do for the container, or a successor when it was killed: an end is to come
    /// or to be told.
    ///
    /// # Errors
    /// What is noted cannot be read.
    pub fn needs_supervisor(&self) -> Result<bool, StoreError> {
        let is_owed = |owed: Owed| !owed.unacknowledged_updates.is_empty();
        Ok(self.result()?.is_none() || self.owed()?.is_some_and(is_owed))
    }

    /// Removes the directory with everything in it; that it is gone already is fine.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self) -> Result<(), StoreError> {
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Ok(()) };
        let gone = parent.join(format!(".gone-{}-{}", name.to_string_lossy(), std::process::id()));
        let moved = fs::rename(&self.path, &gone).and_then(|()| fs::remove_dir_all(&gone));
        match moved {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StoreError::Write { path: self.path.clone(), source }),
        }
    }

    /// Runs `change` with the limits of the last update, alone; what it returns is remembered.
    ///
    /// # Errors
    /// Those of the disk and of `change`.
    pub fn with_limits<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(Option<Limits>) -> Result<(Option<Limits>, T), E>,
    ) -> Result<T, E> {
        let _alone = self.lock_limits()?;
        let before: Option<Limits> = self.read_json("limits.json")?;
        let (after, value) = change(before)?;
        if let Some(after) = after {
            if before != Some(after) {
                self.replace_json("limits.json", &after)?;
            }
            let note = self.path.join(UNFINISHED_UPDATE);
            if let Err(source) = fs::remove_file(&note)
                && source.kind() != io::ErrorKind::NotFound
            {
                return Err(StoreError::Write { path: note, source }.into());
            }
        }
        Ok(value)
    }

    /// Notes, within [`Self::with_limits`], that the engine is about to be told; the note goes when the limits are remembered.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn begin_update(&self) -> Result<(), StoreError> {
        self.replace(UNFINISHED_UPDATE, b"")
    }

    /// Whether an update was killed or failed after the engine may have been told.
    pub fn is_update_unfinished(&self) -> bool {
        self.path.join(UNFINISHED_UPDATE).exists()
    }

    /// The limits of the last update; `None` when there was none.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn limits(&self) -> Result<Option<Limits>, StoreError> {
        self.read_json("limits.json")
    }

    /// Keeps updates out while a container is being created, and gives the limits of the last one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn hold_limits(&self) -> Result<(LimitsLock, Option<Limits>), StoreError> {
        let lock = self.lock_limits()?;
        Ok((lock, self.read_json("limits.json")?))
    }

    fn lock_limits(&self) -> Result<LimitsLock, StoreError> {
        let path = self.path.join("limits.lock");
        let failed = |source| StoreError::Write { path: path.clone(), source };
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        Ok(LimitsLock { _file: file })
    }

    fn open_lock(&self) -> Result<File, StoreError> {
        let path = self.path.join("lock");
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        opened.map_err(|source| StoreError::Read { path, source })
    }

    fn unreadable(&self, name: &str, source: io::Error) -> StoreError {
        StoreError::Read { path: self.path.join(name), source }
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(StoreError::Damaged { path, reason: error.to_string() }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }

    fn replace_json(&self, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(value).expect("plain fields always serialize");
        self.replace(name, &bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path.join(name);
        let new = self.path.join(format!(".{name}-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let written = options.create(true).truncate(true).write(true).mode(0o600).open(&new);
        let written = written.and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&new, &path));
        written.map_err(|source| StoreError::Write { path, source })
    }
}

/// What a supervisor owns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Always [`State::VERSION`].
    pub version: u32,
    /// Whether the supervisor is the Mesos executor, too.
    pub is_command_task: bool,
    /// What the slave's updates count for the executor.
    pub overhead: Overhead,
    /// The engine's id, from creation to removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_id: Option<String>,
    /// As the engine was last told by the supervisor.
    #[serde(default)]
    pub limits: Limits,
    /// How swap follows memory.
    #[serde(default)]
    pub swap: Swap,
    /// What the container's own layer may grow to, where the storage driver limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_limit_bytes: Option<u64>,
    /// Whether cpus are a limit, too, and not only a weight.
    #[serde(default)]
    pub is_cpu_limited: bool,
    /// Whether the engine keeps the last of the output.
    #[serde(default)]
    pub is_log_kept: bool,
    /// Whether the engine was asked to start the container: then what is gone is lost, and is not begun again.
    #[serde(default)]
    pub has_tried_to_start: bool,
    /// What is known since it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Started>,
    /// Its first process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Process>,
    /// Whether the operator's launch hook ran, and a destroy hook is to follow.
    #[serde(default)]
    pub is_hooked: bool,
    /// Where the running container's usage is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroups: Option<crate::usage::Cgroups>,
}

impl State {
    /// The only one so far.
    pub const VERSION: u32 = 1;
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Always [`State::VERSION`].
    pub version: u32,
    /// For `wait`.
    pub ending: Ending,
}

/// The supervisor's lock.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Somebody who will read the result.
#[derive(Debug)]
pub struct Reader {
    file: File,
}

/// Keeps updates of limits out.
#[derive(Debug)]
pub struct LimitsLock {
    _file: File,
}

/// Why the store does not do what it should.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum StoreError {
    #[error("it was launched before; destroy it first")]
    Exists,
    #[error("another supervisor owns it")]
    Owned,
    #[error("cannot write {}: {source}; check the disk and the permissions", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
}

const ROOM_FOR_RESULT: &str = ".room-for-result";
/// The longest message is a line of an engine's, a runtime's or a registry's words.
const RESULT_BYTES: usize = 16 << 10;
const UNFINISHED_UPDATE: &str = "limits.unfinished";
/// Mesos' ids are UUIDs of 36; the engine's names and file names bear 200 and some.
const MAX_ID_BYTES: usize = 128;
/// Together half a second: looks at a lock take microseconds.
const LOCK_ATTEMPTS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
