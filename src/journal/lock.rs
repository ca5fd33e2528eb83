//! Who owns a run: a kernel lock, which ends with its process however that ends. The text in the file is for people and for
//! `kill`; it counts only while the lock is held.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{JournalError, failed};

/// How often, and how long, to let others look who owns the run before taking it: two seconds.
const MOST_LOOKS: u32 = 1000;
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// Held as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// The process that owns a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id; none in the moment before it has said so.
    pub pid: Option<i32>,
    /// The machine it runs on.
    pub host: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.host) {
            (Some(pid), Some(host)) => write!(f, "process {pid} on {host}"),
            _ => write!(f, "another process"),
        }
    }
}

impl Lock {
    /// Takes the lock in `directory`, if nobody has it.
    pub(super) fn take(directory: &Path) -> Result<Result<Self, Holder>, JournalError> {
        let path = directory.join("lock");
        let mut file = open(&path)?;
        let mut looks = 0;
        while let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != Errno::WOULDBLOCK {
                return Err(failed("lock", &path)(errno.into()));
            }
            // Whoever only looks has it for a moment, and shares it.
            if flock(&file, FlockOperation::NonBlockingLockShared).is_err() || looks == MOST_LOOKS {
                return Ok(Err(read_holder(&mut file)));
            }
            looks += 1;
            let _ = flock(&file, FlockOperation::Unlock);
            std::thread::sleep(BETWEEN_LOOKS);
        }
        let host = rustix::system::uname();
        let text = format!("{} {}\n", std::process::id(), host.nodename().to_string_lossy());
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(failed("write", &path))?;
        Ok(Ok(Self { _file: file }))
    }

    /// Who has it now.
    pub(super) fn holder(directory: &Path) -> Result<Option<Holder>, JournalError> {
        let path = directory.join("lock");
        let mut file = open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => Ok(Some(read_holder(&mut file))),
            Err(errno) => Err(failed("lock", &path)(errno.into())),
        }
    }

    /// Until nobody has it.
    pub(super) fn wait(directory: &Path) -> Result<(), JournalError> {
        let path = directory.join("lock");
        let file = open(&path)?;
        loop {
            match flock(&file, FlockOperation::LockShared) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("lock", &path)(errno.into())),
            }
        }
    }
}

fn open(path: &Path) -> Result<File, JournalError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(failed("open", path))
}

fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let mut words = text.split_whitespace();
    Holder { pid: words.next().and_then(|word| word.parse().ok()), host: words.next().map(str::to_owned) }
}
