//! The process's own stdout and stderr, written byte for byte and never in the way of anything else.
//!
//! ```text
//! tail --write().await--> channel of a few pieces --> one thread per stream --> write(2) on the descriptor
//! ```
//!
//! - **A slow reader** (a pager, a full pipe) blocks only that thread; the channel fills, `write` waits, and the tail stops
//!   fetching from the agent. Scheduler and display run on. Memory is bounded by [`PIECES`].
//! - **A reader that left** (EPIPE, or EIO from a terminal that hung up) does not end the task: whoever pipes into `head` wants fewer
//!   lines, not a killed job, and the exit code must stay the task's. What follows is counted, not written: [`Trouble::ReaderLeft`].
//! - **A failed write** (ENOSPC, ...) ends the writing for good, so that what is there is a whole prefix: [`Trouble::Failed`].
//!
//! Rust's own `Stdout` is not used: it looks for line ends in every buffer and fails on a non-blocking terminal.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};

/// One of the process's own output streams; clones write to the same stream, in the order of their `write` calls.
#[derive(Debug, Clone)]
pub struct Sink {
    pieces: mpsc::Sender<Piece>,
    state: Arc<State>,
}

/// What became of the bytes given to a [`Sink`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes the descriptor took.
    pub written: u64,
    /// Bytes given to the sink that the descriptor did not take.
    pub discarded: u64,
    /// Why bytes were discarded.
    pub trouble: Option<Trouble>,
}

/// Why a stream takes no more bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The reading end was closed, or the terminal hung up.
    ReaderLeft,
    /// Writing failed: "cannot write stdout: No space left on device (os error 28)".
    Failed(String),
}

/// Called once, on the stream's thread, right before its first byte is written.
pub type BeforeFirstWrite = Box<dyn FnOnce() + Send>;

impl Sink {
    /// The process's stdout.
    ///
    /// # Errors
    /// No descriptor or no thread can be had.
    pub fn stdout(before_first_write: Option<BeforeFirstWrite>) -> io::Result<Self> {
        Self::new("stdout", rustix::stdio::stdout().try_clone_to_owned()?, before_first_write)
    }

    /// The process's stderr.
    ///
    /// # Errors
    /// No descriptor or no thread can be had.
    pub fn stderr(before_first_write: Option<BeforeFirstWrite>) -> io::Result<Self> {
        Self::new("stderr", rustix::stdio::stderr().try_clone_to_owned()?, before_first_write)
    }

    /// A stream called `name` on any descriptor, blocking or not; its flags are left as they are.
    ///
    /// The thread ends, and the descriptor is closed, when the last clone is gone and all pieces are written. Nobody waits for it:
    /// a process that ends without [`Sink::flush`] may lose what a slow reader has not taken.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn new(name: &'static str, fd: OwnedFd, before_first_write: Option<BeforeFirstWrite>) -> io::Result<Self> {
        let (pieces, inbox) = mpsc::channel(PIECES);
        let state = Arc::new(State { name, ..State::default() });
        let writer = Writer { fd, inbox, before_first_write, state: Arc::clone(&state) };
        std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(|| writer.run())?;
        Ok(Self { pieces, state })
    }

    /// Hands `bytes` to the stream; waits while the stream has [`PIECES`] pieces to write. Never fails: what could not be written is
    /// in the answer of [`Sink::flush`]. When the future is dropped before it is ready, nothing of `bytes` will be written.
    pub async fn write(&self, bytes: Bytes) {
        let length = bytes.len() as u64;
        if length == 0 {
            return;
        }
        if self.trouble().is_some() || self.pieces.send(Piece::Bytes(bytes)).await.is_err() {
            self.discard(length);
        }
    }

    /// Counts bytes as discarded that were not even fetched, because of [`Sink::trouble`].
    pub fn discard(&self, count: u64) {
        self.state.discarded.fetch_add(count, Ordering::Relaxed);
    }

    /// Why the stream takes no more bytes, as soon as a write has shown it.
    pub fn trouble(&self) -> Option<Trouble> {
        self.state.trouble.get().cloned()
    }

    /// Waits until everything given to `write` so far was written or discarded, however long the reader takes.
    pub async fn flush(&self) -> Written {
        let (done, is_done) = oneshot::channel();
        if self.pieces.send(Piece::Flush(done)).await.is_ok() {
            let _ = is_done.await;
        }
        self.written()
    }

    /// What became of the bytes so far, without waiting.
    pub fn written(&self) -> Written {
        Written {
            written: self.state.written.load(Ordering::Acquire),
            discarded: self.state.discarded.load(Ordering::Acquire),
            trouble: self.trouble(),
        }
    }

    /// Whether the last byte that was written is no line end.
    pub fn is_mid_line(&self) -> bool {
        self.written().written > 0 && self.state.last_byte.load(Ordering::Acquire) != b'\n'
    }
}

/// Pieces that wait for the thread. A piece is what one read of a socket gave, at most about 400 KB: four of them and the one
/// being written are 2 MB in the worst case and 320 KiB with `/files/read`.
pub const PIECES: usize = 4;

/// The thread calls `poll`, `write` and the hook, which may redraw a display.
const STACK_BYTES: usize = 256 << 10;

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    Flush(oneshot::Sender<()>),
}

#[derive(Debug, Default)]
struct State {
    name: &'static str,
    written: AtomicU64,
    discarded: AtomicU64,
    last_byte: AtomicU8,
    trouble: OnceLock<Trouble>,
}

/// The thread's side.
struct Writer {
    fd: OwnedFd,
    inbox: mpsc::Receiver<Piece>,
    before_first_write: Option<BeforeFirstWrite>,
    state: Arc<State>,
}

impl Writer {
    fn run(mut self) {
        while let Some(piece) = self.inbox.blocking_recv() {
            match piece {
                Piece::Bytes(bytes) => self.write(&bytes),
                // Who asked may have left.
                Piece::Flush(done) => drop(done.send(())),
            }
        }
    }

    fn write(&mut self, mut rest: &[u8]) {
        if self.state.trouble.get().is_none() {
            if let Some(hook) = self.before_first_write.take() {
                hook();
            }
            while !rest.is_empty() {
                match self.write_some(rest) {
                    Ok(count) => {
                        let (taken, left) = rest.split_at(count);
                        if let Some(last) = taken.last() {
                            self.state.last_byte.store(*last, Ordering::Release);
                        }
                        self.state.written.fetch_add(count as u64, Ordering::AcqRel);
                        rest = left;
                    }
                    Err(trouble) => {
                        let _ = self.state.trouble.set(trouble);
                        break;
                    }
                }
            }
        }
        self.state.discarded.fetch_add(rest.len() as u64, Ordering::AcqRel);
    }

    fn write_some(&self, bytes: &[u8]) -> Result<usize, Trouble> {
        loop {
            match rustix::io::write(&self.fd, bytes) {
                Ok(0) => return Err(self.failed("it takes no bytes")),
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_for_room()?,
                Err(Errno::PIPE | Errno::IO) => return Err(Trouble::ReaderLeft),
                Err(errno) => return Err(self.failed(io::Error::from(errno))),
            }
        }
    }

    /// Somebody else (a parent, a program on the same terminal) made the descriptor non-blocking.
    fn wait_for_room(&self) -> Result<(), Trouble> {
        match poll(&mut [PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::OUT)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(self.failed(io::Error::from(errno))),
        }
    }

    fn failed(&self, why: impl std::fmt::Display) -> Trouble {
        Trouble::Failed(format!("cannot write {}: {why}", self.state.name))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::io::{Read, Seek, Write};
    use std::sync::mpsc as std_mpsc;

    use futures::FutureExt;
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    use super::*;

    fn pipe() -> (std::fs::File, OwnedFd) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        (reader.into(), writer)
    }

    fn noise(length: usize) -> Bytes {
        let mut bytes = vec![0; length];
        fastrand::Rng::with_seed(7).fill(&mut bytes);
        bytes.into()
    }

    async fn read_to_end(mut file: std::fs::File) -> Vec<u8> {
        tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            file.read_to_end(&mut all).unwrap();
            all
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn bytes_arrive_in_order_and_unchanged() {
        let (reader, writer) = pipe();
        let sink = Sink::new("stdout", writer, None).unwrap();
        let sent = noise(3_000_001);
        let reading = tokio::spawn(read_to_end(reader));
        for piece in sent.chunks(70_001) {
            sink.write(sent.slice_ref(piece)).await;
        }
        assert_eq!(sink.flush().await, Written { written: 3_000_001, discarded: 0, trouble: None });
        drop(sink);
        assert!(reading.await.unwrap() == sent);
    }

    #[tokio::test]
    async fn non_blocking_descriptor_loses_nothing() {
        let (reader, writer) = pipe();
        fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
        let sink = Sink::new("stdout", writer, None).unwrap();
        let sent = noise(1 << 20);
        sink.write(sent.clone()).await;
        let reading = tokio::spawn(read_to_end(reader));
        assert_eq!(sink.flush().await.written, 1 << 20);
        drop(sink);
        assert!(reading.await.unwrap() == sent);
    }

    #[tokio::test]
    async fn stalled_reader_holds_the_writer_back_and_loses_nothing() {
        let (reader, writer) = pipe();
        let sink = Sink::new("stdout", writer, None).unwrap();
        let piece = noise(1 << 20);
        // One piece sticks in the pipe, PIECES wait, and the next call is not ready, however often it is asked.
        for _ in 0..=PIECES {
            sink.write(piece.clone()).await;
        }
        let mut one_too_many = Box::pin(sink.write(piece.clone()));
        for _ in 0..100 {
            assert!(one_too_many.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        assert!(sink.flush().now_or_never().is_none());
        let reading = tokio::spawn(read_to_end(reader));
        one_too_many.await;
        assert_eq!(sink.flush().await.written, (PIECES as u64 + 2) << 20);
        drop(sink);
        assert!(reading.await.unwrap() == piece.repeat(PIECES + 2));
    }

    #[tokio::test]
    async fn reader_that_leaves_is_noticed_and_the_rest_is_counted() {
        let (mut reader, writer) = pipe();
        let sink = Sink::new("stdout", writer, None).unwrap();
        sink.write(Bytes::from_static(b"head")).await;
        let mut head = [0; 4];
        reader.read_exact(&mut head).unwrap();
        drop(reader);
        sink.write(Bytes::from_static(b"12345")).await;
        assert_eq!(sink.flush().await, Written { written: 4, discarded: 5, trouble: Some(Trouble::ReaderLeft) });
        sink.write(Bytes::from_static(b"678")).await;
        sink.discard(2);
        assert_eq!(sink.flush().await, Written { written: 4, discarded: 10, trouble: Some(Trouble::ReaderLeft) });
    }

    #[tokio::test]
    async fn full_disk_is_said_with_what_was_lost() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let sink = Sink::new("stderr", full.into(), None).unwrap();
        sink.write(noise(100)).await;
        sink.write(noise(11)).await;
        let written = sink.flush().await;
        assert_eq!((written.written, written.discarded), (0, 111));
        let Some(Trouble::Failed(why)) = written.trouble else { panic!("{:?}", written.trouble) };
        assert!(why.starts_with("cannot write stderr: No space left on device"), "{why}");
    }

    #[tokio::test]
    async fn hook_runs_once_and_before_the_first_byte() {
        let mut file = tempfile::tempfile().unwrap();
        let mut hooks_own = file.try_clone().unwrap();
        let (called, calls) = std_mpsc::channel();
        let hook = move || {
            hooks_own.write_all(b"<").unwrap();
            called.send(()).unwrap();
        };
        let sink = Sink::new("stdout", file.try_clone().unwrap().into(), Some(Box::new(hook))).unwrap();
        sink.write(Bytes::new()).await;
        sink.flush().await;
        assert!(calls.try_recv().is_err(), "nothing was written yet");
        sink.write(Bytes::from_static(b"a")).await;
        sink.write(Bytes::from_static(b"b")).await;
        sink.flush().await;
        assert_eq!(calls.try_iter().count(), 1);
        assert!(sink.is_mid_line());
        sink.write(Bytes::from_static(b"\n")).await;
        sink.flush().await;
        assert!(!sink.is_mid_line());
        let mut all = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut all).unwrap();
        assert_eq!(all, "<ab\n");
    }

    #[tokio::test]
    async fn descriptor_is_closed_after_the_last_clone() {
        let (reader, writer) = pipe();
        let sink = Sink::new("stdout", writer, None).unwrap();
        let clone = sink.clone();
        drop(sink);
        clone.write(Bytes::from_static(b"x")).await;
        drop(clone);
        assert_eq!(read_to_end(reader).await, b"x", "the pipe ends when its last writer is closed");
    }
}
