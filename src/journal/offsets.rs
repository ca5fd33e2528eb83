//! How much of the task's stdout and stderr was delivered, as offsets into the sandbox's files: two lines of 20 digits, each
//! rewritten in place, by one write, right after the bytes were taken by our own stdout or stderr.
//!
//! A launcher that is killed between these two writes has delivered a few bytes more than it says, which the next one repeats;
//! it never has delivered less.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::{JournalError, failed};

/// Digits and a line end.
const LINE: usize = 21;

#[derive(Debug)]
pub(super) struct Offsets {
    file: Arc<File>,
    delivered: [u64; 2],
}

/// Where one stream notes how much was delivered.
#[derive(Debug, Clone)]
pub struct Mark {
    file: Arc<File>,
    stream: usize,
}

impl Offsets {
    pub(super) fn open(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join("offsets");
        let delivered = Self::read(directory)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        let offsets = Self { file: Arc::new(file), delivered };
        for (stream, offset) in delivered.into_iter().enumerate() {
            offsets.mark(stream).store(offset).map_err(failed("write", &path))?;
        }
        Ok(offsets)
    }

    /// Of stdout and stderr.
    pub(super) fn read(directory: &Path) -> Result<[u64; 2], JournalError> {
        let path = directory.join("offsets");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok([0, 0]),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let mut lines = text.lines().map(|line| line.parse().unwrap_or_default());
        Ok([lines.next().unwrap_or_default(), lines.next().unwrap_or_default()])
    }

    /// When they were opened.
    pub(super) fn delivered(&self) -> [u64; 2] {
        self.delivered
    }

    pub(super) fn mark(&self, stream: usize) -> Mark {
        Mark { file: Arc::clone(&self.file), stream }
    }
}

impl Mark {
    /// Everything before this offset was delivered.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn store(&self, offset: u64) -> io::Result<()> {
        self.file.write_all_at(format!("{offset:020}\n").as_bytes(), (self.stream * LINE) as u64)
    }
}
