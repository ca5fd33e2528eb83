//! How much of a container's output its sandbox has: kept beside it, so that who takes over goes on with the very next byte.
//!
//! Before each write it is noted how much will be written, after it how much there is. Between the two the file itself tells:
//! what it has grown by. Others append to the sandbox's files, too, so a file's size alone says nothing.
//!
//! The notes need to outlive this process, not the host: a container does not outlive the host either.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Notes about both streams.
#[derive(Debug)]
pub(super) struct Positions {
    file: File,
    notes: [Note; 2],
}

/// One stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Note {
    /// The sandbox file's size before the container's first byte.
    base: u64,
    /// Bytes of the container's stream that are in the sandbox.
    written: u64,
    /// The sandbox file's size then.
    size: u64,
    /// Bytes that are being written from there.
    pending: u64,
}

impl Positions {
    /// Reads what an earlier process has noted about these two files, or begins with nothing written.
    ///
    /// # Errors
    /// The notes cannot be read or written, or a file's size is not known.
    pub(super) fn open(path: &Path, files: [&File; 2]) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut bytes = [0; NOTES_BYTES];
        let is_new = file.metadata()?.len() < NOTES_BYTES as u64;
        if !is_new {
            file.read_exact_at(&mut bytes, 0)?;
        }
        let mut notes = [Note::default(); 2];
        for ((note, bytes), file) in notes.iter_mut().zip(bytes.chunks_exact(NOTE_BYTES)).zip(files) {
            let size = file.metadata()?.len();
            let earlier = Note::from_bytes(bytes);
            let grown = if is_new { 0 } else { size.saturating_sub(earlier.size).min(earlier.pending) };
            let base = if is_new { size } else { earlier.base };
            *note = Note { base, written: earlier.written + grown, size, pending: 0 };
        }
        let positions = Self { file, notes };
        positions.save()?;
        Ok(positions)
    }

    /// Bytes of a stream that need not be written again.
    pub(super) fn written(&self, stream: usize) -> u64 {
        self.notes[stream].written
    }

    /// Where the container's output begins in the stream's file.
    pub(super) fn base(&self, stream: usize) -> u64 {
        self.notes[stream].base
    }

    /// To be told before so many bytes are appended to the stream's file.
    pub(super) fn before(&mut self, stream: usize, file: &File, count: usize) -> io::Result<()> {
        let note = &mut self.notes[stream];
        note.size = file.metadata()?.len();
        note.pending = count as u64;
        self.save()
    }

    /// To be told after so many were.
    pub(super) fn after(&mut self, stream: usize, count: usize) -> io::Result<()> {
        let note = &mut self.notes[stream];
        note.written += count as u64;
        note.size += count as u64;
        note.pending = 0;
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        let mut bytes = [0; NOTES_BYTES];
        for (note, bytes) in self.notes.iter().zip(bytes.chunks_exact_mut(NOTE_BYTES)) {
            bytes.copy_from_slice(&note.to_bytes());
        }
        self.file.write_all_at(&bytes, 0)
    }
}

impl Note {
    fn from_bytes(bytes: &[u8]) -> Self {
        let mut numbers = bytes.chunks_exact(8).map(|bytes| {
            let bytes = bytes.try_into().expect("a chunk has its size");
            u64::from_le_bytes(bytes)
        });
        let mut next = || numbers.next().unwrap_or(0);
        Self { base: next(), written: next(), size: next(), pending: next() }
    }

    fn to_bytes(self) -> [u8; NOTE_BYTES] {
        let mut bytes = [0; NOTE_BYTES];
        for (bytes, number) in bytes.chunks_exact_mut(8).zip([self.base, self.written, self.size, self.pending]) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// Stdout's place among the notes.
pub(super) const STDOUT: usize = 0;
/// Stderr's.
pub(super) const STDERR: usize = 1;
const NOTE_BYTES: usize = 32;
const NOTES_BYTES: usize = 2 * NOTE_BYTES;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;

    use super::*;

    struct Sandbox {
        directory: tempfile::TempDir,
        stdout: File,
        stderr: File,
    }

    impl Sandbox {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let open = |name| OpenOptions::new().create(true).append(true).open(directory.path().join(name)).unwrap();
            let (stdout, stderr) = (open("stdout"), open("stderr"));
            Self { directory, stdout, stderr }
        }

        fn positions(&self) -> Positions {
            Positions::open(&self.directory.path().join("output"), [&self.stdout, &self.stderr]).unwrap()
        }
    }

    #[test]
    fn what_was_written_is_known_to_the_next() {
        let mut sandbox = Sandbox::new();
        sandbox.stderr.write_all(b"fetched\n").unwrap();
        let mut positions = sandbox.positions();
        assert_eq!((positions.written(STDOUT), positions.written(STDERR)), (0, 0));
        for (stream, file, bytes) in
            [(STDOUT, &mut sandbox.stdout, &b"abc"[..]), (STDERR, &mut sandbox.stderr, &b"de"[..])]
        {
            positions.before(stream, file, bytes.len()).unwrap();
            file.write_all(bytes).unwrap();
            positions.after(stream, bytes.len()).unwrap();
        }
        let positions = sandbox.positions();
        assert_eq!((positions.written(STDOUT), positions.written(STDERR)), (3, 2));
        assert_eq!((positions.base(STDOUT), positions.base(STDERR)), (0, 8));
    }

    #[test]
    fn a_write_that_was_cut_short_counts_with_what_arrived() {
        for arrived in 0..=3 {
            let mut sandbox = Sandbox::new();
            let mut positions = sandbox.positions();
            positions.before(STDOUT, &sandbox.stdout, 3).unwrap();
            sandbox.stdout.write_all(&b"abc"[..arrived]).unwrap();
            drop(positions);
            assert_eq!(sandbox.positions().written(STDOUT), arrived as u64);
        }
    }

    #[test]
    fn what_others_append_does_not_count() {
        let mut sandbox = Sandbox::new();
        let mut positions = sandbox.positions();
        sandbox.stderr.write_all(b"the agent says\n").unwrap();
        positions.before(STDERR, &sandbox.stderr, 2).unwrap();
        sandbox.stderr.write_all(b"de").unwrap();
        positions.after(STDERR, 2).unwrap();
        sandbox.stderr.write_all(b"and says\n").unwrap();
        drop(positions);
        assert_eq!(sandbox.positions().written(STDERR), 2);
    }
}
