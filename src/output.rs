//! The process's own stdout and stderr, written byte for byte and never in the way of anything else.
//!
//! ```text
//! tail --write().await--> room for a few pieces --.
//!                                                 >-- one queue --> one thread per stream --> write(2) on the descriptor
//! display, log --Voice, never waits---------------'
//! ```
//!
//! - **A slow reader** (a pager, a full pipe) blocks only that thread; there is no more room, `write` waits, and the tail stops
//!   fetching from the agent. Scheduler and display run on. Memory is bounded by [`PIECES`].
//! - **Our own words** ([`Voice`]) go through the same queue as the task's stderr, so their order is that in which they were said.
//!   Up to [`VOICE_BYTES`] wait for a reader who stalls; what comes beyond is left out, and counted.
//! - **A reader that never comes back** holds the launcher up as long as the task's bytes wait for him, as in any pipe; but once a
//!   signal has asked the launcher to end, only for [`STALL_LIMIT`], and for our own last words at most [`LAST_WORDS_LIMIT`].
//! - **A reader that left** (EPIPE, or EIO from a terminal that hung up) does not end the task: whoever pipes into `head` wants fewer
//!   lines, not a killed job, and the exit code must stay the task's. What follows is counted, not written: [`Trouble::ReaderLeft`].
//! - **A failed write** (ENOSPC, ...) ends the writing for good, so that what is there is a whole prefix: [`Trouble::Failed`].
//! - **What the user wants of a stream** ([`Manner`]) is done by that thread, behind the counting: a file beside gets the bytes as they are,
//!   lines get their beginnings, whole lines wait for their end.
//!
//! Rust's own `Stdout` is not used: it looks for line ends in every buffer and fails on a non-blocking terminal.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::journal::Mark;

mod dress;
mod manner;
mod writer;

pub use dress::Shape;
pub use manner::{Manner, manners};

use writer::Writer;

/// One of the process's own output streams; clones write to the same stream, in the order of their `write` calls.
#[derive(Clone)]
pub struct Sink {
    queue: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
    before_first_write: Option<Arc<Before>>,
    state: Arc<State>,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Sink").field(&self.state).finish()
    }
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
    /// Nobody wants the stream: `--no-stdout`, `--no-stderr`.
    Unwanted,
    /// Writing failed: "cannot write stdout: No space left on device (os error 28)".
    Failed(String),
}

/// Done once, before the stream's first bytes get into its queue.
pub type BeforeFirstWrite = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

struct Before {
    hook: BeforeFirstWrite,
    is_done: OnceCell<()>,
}

impl Sink {
    /// The process's stdout. A pipe is widened, so that writer and reader change places less often.
    ///
    /// # Errors
    /// No descriptor or no thread can be had.
    pub fn stdout() -> io::Result<Self> {
        let fd = rustix::stdio::stdout().try_clone_to_owned()?;
        widen(&fd);
        Self::new("stdout", fd)
    }

    /// The process's stderr.
    ///
    /// # Errors
    /// No descriptor or no thread can be had.
    pub fn stderr() -> io::Result<Self> {
        Self::new("stderr", rustix::stdio::stderr().try_clone_to_owned()?)
    }

    /// A stream called `name` on any descriptor, blocking or not; its flags are left as they are.
    ///
    /// The thread ends, and the descriptor is closed, when the last clone and the last voice are gone and all pieces are written.
    /// Nobody waits for it: a process that ends without [`Sink::flush`] may lose what a slow reader has not taken.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn new(name: &'static str, fd: OwnedFd) -> io::Result<Self> {
        let (queue, inbox) = mpsc::unbounded_channel();
        let state = Arc::new(State { name, ..State::default() });
        let is_terminal = rustix::termios::isatty(&fd);
        let writer =
            Writer { fd, is_terminal, inbox, state: Arc::clone(&state), has_begun: false, dress: None, is_mute: false };
        std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(|| writer.run())?;
        Ok(Self { queue, room: Arc::new(Semaphore::new(PIECES)), before_first_write: None, state })
    }

    /// The same stream, with something to do before its first bytes. It may be begun twice, if the first `write` is dropped.
    #[must_use]
    pub fn before_first_write(self, hook: BeforeFirstWrite) -> Self {
        Self { before_first_write: Some(Arc::new(Before { hook, is_done: OnceCell::new() })), ..self }
    }

    /// For words of our own on this stream.
    pub fn voice(&self) -> Voice {
        Voice { queue: self.queue.clone(), state: Arc::clone(&self.state) }
    }

    /// Hands `bytes` to the stream; waits while the stream has [`PIECES`] pieces to write. Never fails: what could not be written is
    /// in the answer of [`Sink::flush`]. When the future is dropped before it is ready, nothing of `bytes` will be written.
    pub async fn write(&self, bytes: Bytes) {
        self.send(bytes, None).await;
    }

    /// As [`Sink::write`], and where `bytes` end in the file that they are from: noted in the stream's [`Mark`] as far as they were
    /// taken.
    pub async fn write_until(&self, bytes: Bytes, end: u64) {
        self.send(bytes, Some(end)).await;
    }

    /// From now on, what was delivered is noted there.
    pub fn note_in(&self, mark: Mark) {
        let _ = self.state.mark.set(mark);
    }

    /// From now on, the task's bytes are written in this manner. To be said before the first of them.
    pub fn adopt(&self, manner: Manner) {
        if manner.is_mute && manner.copy.is_none() {
            let _ = self.state.trouble.set(Trouble::Unwanted);
        }
        let _ = self.state.manner.set(manner);
    }

    async fn send(&self, bytes: Bytes, end: Option<u64>) {
        let length = bytes.len() as u64;
        if length == 0 {
            return;
        }
        if self.trouble().is_some() {
            return self.discard(length);
        }
        self.state.asked.fetch_add(length, Ordering::AcqRel);
        if let Some(before) = &self.before_first_write {
            before.is_done.get_or_init(|| (before.hook)()).await;
        }
        let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { return self.discard(length) };
        let last = bytes.last().copied().unwrap_or_default();
        self.state.given.fetch_add(length, Ordering::AcqRel);
        self.state.last_given.store(last, Ordering::Release);
        if self.queue.send(Piece::Bytes { bytes, end, room }).is_err() {
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
        self.voice().flushed().await;
        self.written()
    }

    /// Whether bytes of the task wait for the reader, and how many he took so far; our own words count as well.
    pub fn progress(&self) -> Progress {
        let Written { written, discarded, .. } = self.written();
        Progress {
            is_waiting: self.state.asked.load(Ordering::Acquire) > written + discarded,
            taken: self.state.taken.load(Ordering::Acquire),
        }
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

    /// Bytes of the task given to this stream so far, and whether the last one is no line end: what a [`Voice`] will come behind.
    pub fn given(&self) -> (u64, bool) {
        let given = self.state.given.load(Ordering::Acquire);
        (given, given > 0 && self.state.last_given.load(Ordering::Acquire) != b'\n')
    }
}

/// How far a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whether bytes of the task are left for him.
    pub is_waiting: bool,
    /// All that he took.
    pub taken: u64,
}

/// Says our own words on a stream, in order with the task's bytes. Never waits, never fails.
#[derive(Debug, Clone)]
pub struct Voice {
    queue: mpsc::UnboundedSender<Piece>,
    state: Arc<State>,
}

impl Voice {
    /// Puts `text` into the queue whole, or leaves it out when [`VOICE_BYTES`] wait already.
    pub fn say(&self, text: &[u8]) {
        let waiting = self.state.own_waiting.fetch_add(text.len(), Ordering::AcqRel);
        if waiting + text.len() > VOICE_BYTES {
            self.state.own_waiting.fetch_sub(text.len(), Ordering::AcqRel);
            self.state.left_out.fetch_add(1, Ordering::AcqRel);
            return;
        }
        // The thread lives as long as this sender.
        let _ = self.queue.send(Piece::Own(text.to_vec()));
    }

    /// Whether something of ours waits: then a picture that changes need not be drawn.
    pub fn is_behind(&self) -> bool {
        self.state.own_waiting.load(Ordering::Acquire) > 0
    }

    /// How many texts were left out, once there is room again to say so; then counts anew.
    pub fn take_left_out(&self) -> Option<u64> {
        let has_room = self.state.own_waiting.load(Ordering::Acquire) < VOICE_BYTES / 2;
        let count = if has_room { self.state.left_out.swap(0, Ordering::AcqRel) } else { 0 };
        (count > 0).then_some(count)
    }

    /// Waits until everything given to the stream so far was written or discarded, however long the reader takes.
    pub async fn flushed(&self) {
        let (done, is_done) = oneshot::channel();
        if self.queue.send(Piece::Flush(done)).is_ok() {
            let _ = is_done.await;
        }
    }

    /// As [`Voice::flushed`], but not longer than a reader who takes nothing for `limit` deserves.
    pub async fn flushed_within(&self, limit: Duration) {
        let mut flushed = std::pin::pin!(self.flushed());
        loop {
            let taken = self.state.taken.load(Ordering::Acquire);
            if tokio::time::timeout(limit, &mut flushed).await.is_ok()
                || taken == self.state.taken.load(Ordering::Acquire)
            {
                return;
            }
        }
    }
}

impl io::Write for Voice {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.say(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Pieces that wait for the thread. A piece is what one read of a socket gave, at most about 400 KB: four of them and the one
/// being written are 2 MB in the worst case and 320 KiB with `/files/read`.
pub const PIECES: usize = 4;

/// Words of ours that wait for a reader: more than any launch says that nobody debugs.
pub const VOICE_BYTES: usize = 256 << 10;

/// How long a reader may take nothing of the task's output once a signal has asked the launcher to end.
pub const STALL_LIMIT: Duration = Duration::from_secs(5);

/// How long a reader may take nothing before the launcher's last words are not for him, when no signal hurries.
pub const LAST_WORDS_LIMIT: Duration = Duration::from_secs(60);

/// A pipe that can be written to takes so much at once.
const NOTED_BYTES: usize = rustix::pipe::PIPE_BUF;

/// What the kernel gives anybody; 16 times its default.
const PIPE_BYTES: usize = 1 << 20;

/// The thread calls `poll` and `write`.
const STACK_BYTES: usize = 64 << 10;

#[derive(Debug)]
enum Piece {
    Bytes { bytes: Bytes, end: Option<u64>, room: OwnedSemaphorePermit },
    Own(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

#[derive(Debug, Default)]
struct State {
    name: &'static str,
    written: AtomicU64,
    discarded: AtomicU64,
    last_byte: AtomicU8,
    /// Bytes that were to be written, also those for which there is no room yet.
    asked: AtomicU64,
    /// Bytes that went into the queue, and the last of them.
    given: AtomicU64,
    last_given: AtomicU8,
    /// Bytes that the descriptor took, the task's and ours.
    taken: AtomicU64,
    /// Bytes of ours that wait.
    own_waiting: AtomicUsize,
    /// Texts of ours that found no room.
    left_out: AtomicU64,
    trouble: OnceLock<Trouble>,
    mark: OnceLock<Mark>,
    manner: OnceLock<Manner>,
}

/// Where the kernel allows it, and never to less; what is no pipe stays as it is.
fn widen(fd: &OwnedFd) {
    if rustix::pipe::fcntl_getpipe_size(fd).is_ok_and(|bytes| bytes < PIPE_BYTES) {
        // A user who has many wide pipes gets no more: then it goes on as it is.
        let _ = rustix::pipe::fcntl_setpipe_size(fd, PIPE_BYTES);
    }
}

#[cfg(test)]
mod tests;
