//! How much of the task's stdout and stderr was delivered: two lines of four numbers, each rewritten in place, by one write, right
//! after the bytes were taken by our own stdout or stderr.
//!
//! ```text
//! OFFSET DEVICE INODE POSITION      offset in the sandbox's file; and, where our stream is a regular file, which one, and
//!                                   how far it had been written then (else zeros)
//! ```
//!
//! A launcher that is killed between these two writes has delivered some bytes more than it says. In a regular file they can be
//! found, so the next launcher that appends to it does not repeat them, provided that they are what it would write: the file
//! may have other writers, too. Elsewhere they come again. Less than it says is never delivered.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, SeekFrom, fstat, seek};

use super::{JournalError, failed};

/// Four numbers of 20 digits, three blanks and a line end.
const LINE: usize = 84;

#[derive(Debug)]
pub(super) struct Offsets {
    file: Arc<File>,
    delivered: [Delivered; 2],
}

/// How much of one stream was delivered, and to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Delivered {
    offset: u64,
    /// Device, inode, position.
    place: [u64; 3],
}

/// Where one stream notes how much was delivered.
#[derive(Debug, Clone)]
pub struct Mark {
    file: Arc<File>,
    stream: usize,
    unnoted: Vec<u8>,
}

impl Offsets {
    pub(super) fn open(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join("offsets");
        let delivered = read_both(directory)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        let offsets = Self { file: Arc::new(file), delivered };
        for (stream, delivered) in delivered.iter().enumerate() {
            offsets.bare_mark(stream).write(delivered).map_err(failed("write", &path))?;
        }
        Ok(offsets)
    }

    /// Of stdout and stderr.
    pub(super) fn read(directory: &Path) -> Result<[u64; 2], JournalError> {
        Ok(read_both(directory)?.map(|delivered| delivered.offset))
    }

    /// When they were opened.
    pub(super) fn delivered(&self) -> [u64; 2] {
        self.delivered.map(|delivered| delivered.offset)
    }

    /// For a stream that goes to `out`.
    pub(super) fn mark(&self, stream: usize, out: BorrowedFd<'_>) -> Mark {
        let unnoted = unnoted(&self.delivered[stream], out).unwrap_or_default();
        Mark { unnoted, ..self.bare_mark(stream) }
    }

    fn bare_mark(&self, stream: usize) -> Mark {
        Mark { file: Arc::clone(&self.file), stream, unnoted: Vec::new() }
    }
}

impl Mark {
    /// What stands in the stream behind everything that was noted: perhaps the task's next bytes, perhaps somebody else's.
    pub fn unnoted(&self) -> &[u8] {
        &self.unnoted
    }

    /// Everything before this offset was delivered, and `out` has taken it.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn store(&self, offset: u64, out: impl AsFd) -> io::Result<()> {
        self.write(&Delivered { offset, place: place(out).unwrap_or_default() })
    }

    fn write(&self, delivered: &Delivered) -> io::Result<()> {
        let [device, inode, position] = delivered.place;
        let line = format!("{:020} {device:020} {inode:020} {position:020}\n", delivered.offset);
        self.file.write_all_at(line.as_bytes(), (self.stream * LINE) as u64)
    }
}

/// Device, inode and position of a regular file.
fn place(out: impl AsFd) -> Option<[u64; 3]> {
    let stat = fstat(&out).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    Some([stat.st_dev, stat.st_ino, seek(&out, SeekFrom::Current(0)).ok()?])
}

/// No more than one piece can be unnoted.
fn unnoted(delivered: &Delivered, out: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let [device, inode, position] = delivered.place;
    let stat = fstat(out).ok()?;
    if inode == 0 || (stat.st_dev, stat.st_ino) != (device, inode) {
        return None;
    }
    let length = u64::try_from(stat.st_size).ok()?.checked_sub(position)?;
    let mut bytes = vec![0; usize::try_from(length).ok().filter(|length| *length <= rustix::pipe::PIPE_BUF)?];
    // Our own descriptor is for writing only.
    let file = File::open(format!("/proc/self/fd/{}", out.as_raw_fd())).ok()?;
    file.read_exact_at(&mut bytes, position).ok()?;
    Some(bytes)
}

fn read_both(directory: &Path) -> Result<[Delivered; 2], JournalError> {
    let path = directory.join("offsets");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok([Delivered::default(); 2]),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let mut lines = text.lines().map(|line| {
        let mut numbers = line.split(' ').map(|number| number.parse().unwrap_or_default());
        let mut next = || numbers.next().unwrap_or_default();
        Delivered { offset: next(), place: [next(), next(), next()] }
    });
    Ok([lines.next().unwrap_or_default(), lines.next().unwrap_or_default()])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_a_regular_file_took_unnoted_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let append = || OpenOptions::new().append(true).create(true).open(&path).unwrap();
        let mut out = append();
        out.write_all(b"from before 12345").unwrap();
        let offsets = Offsets::open(directory.path()).unwrap();
        offsets.mark(0, out.as_fd()).store(5, &out).unwrap();
        out.write_all(b"678").unwrap();
        drop(out);
        let offsets = Offsets::open(directory.path()).unwrap();
        let unnoted = |stream, out: File| offsets.mark(stream, out.as_fd()).unnoted().to_vec();
        assert_eq!(offsets.delivered(), [5, 0]);
        assert_eq!(unnoted(0, append()), b"678");
        assert_eq!(unnoted(1, append()), b"", "nothing was noted of the other stream");
        assert_eq!(unnoted(0, tempfile::tempfile().unwrap()), b"", "another file");
        append().write_all(&[b'x'; 5000]).unwrap();
        assert_eq!(unnoted(0, append()), b"", "that is not one piece");
        assert_eq!(unnoted(0, File::create(&path).unwrap()), b"", "it was emptied");
    }

    #[test]
    fn what_a_pipe_took_unnoted_is_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let (_reader, writer) = rustix::pipe::pipe().unwrap();
        let offsets = Offsets::open(directory.path()).unwrap();
        offsets.mark(1, writer.as_fd()).store(7, &writer).unwrap();
        rustix::io::write(&writer, b"more").unwrap();
        let offsets = Offsets::open(directory.path()).unwrap();
        assert_eq!((offsets.delivered(), offsets.mark(1, writer.as_fd()).unnoted()), ([0, 7], &b""[..]));
    }
}
