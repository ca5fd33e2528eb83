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
//!
//! Rust's own `Stdout` is not used: it looks for line ends in every buffer and fails on a non-blocking terminal.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::journal::Mark;

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
    /// The process's stdout.
    ///
    /// # Errors
    /// No descriptor or no thread can be had.
    pub fn stdout() -> io::Result<Self> {
        Self::new("stdout", rustix::stdio::stdout().try_clone_to_owned()?)
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
        let writer = Writer { fd, is_terminal, inbox, state: Arc::clone(&state), has_begun: false };
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
}

/// The thread's side.
struct Writer {
    fd: OwnedFd,
    /// Asked while it was there: a terminal that has hung up no longer says so.
    is_terminal: bool,
    inbox: mpsc::UnboundedReceiver<Piece>,
    state: Arc<State>,
    /// The first piece has come.
    has_begun: bool,
}

impl Writer {
    fn run(mut self) {
        while let Some(piece) = self.inbox.blocking_recv() {
            match piece {
                Piece::Bytes { bytes, end, room } => {
                    // As many may wait as before this one was begun.
                    drop(room);
                    self.write(&bytes, end);
                }
                Piece::Own(text) => self.say(&text),
                // Who asked may have left.
                Piece::Flush(done) => drop(done.send(())),
            }
        }
    }

    /// Nobody can be told that our own words do not get out; the task's bytes find out for themselves.
    fn say(&self, mut rest: &[u8]) {
        let length = rest.len();
        while !rest.is_empty() {
            let Ok(count) = self.write_some(rest) else { break };
            rest = &rest[count..];
        }
        self.state.own_waiting.fetch_sub(length, Ordering::AcqRel);
    }

    fn write(&mut self, mut rest: &[u8], end: Option<u64>) {
        if self.state.trouble.get().is_none() {
            rest = self.without_unnoted(rest, end);
            while !rest.is_empty() {
                match self.write_next(rest) {
                    Ok(count) => {
                        let (taken, left) = rest.split_at(count);
                        if let Some(last) = taken.last() {
                            self.state.last_byte.store(*last, Ordering::Release);
                        }
                        self.state.written.fetch_add(count as u64, Ordering::AcqRel);
                        rest = left;
                        self.note(end, rest.len());
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

    /// What of the first piece is to be written, if its beginning is already there.
    fn without_unnoted<'a>(&mut self, rest: &'a [u8], end: Option<u64>) -> &'a [u8] {
        let Some(mark) = self.state.mark.get().filter(|_| !std::mem::replace(&mut self.has_begun, true)) else {
            return rest;
        };
        let Some(left) = rest.strip_prefix(mark.unnoted()) else { return rest };
        let count = rest.len() - left.len();
        self.state.written.fetch_add(count as u64, Ordering::AcqRel);
        self.note(end, left.len());
        left
    }

    /// Where it is noted what was delivered, pieces are small, and none is begun that the reader has no room for: in the middle of
    /// a write that waits, nobody knows how much of it was taken.
    fn write_next(&self, rest: &[u8]) -> Result<usize, Trouble> {
        if self.state.mark.get().is_none() {
            return self.write_some(rest);
        }
        self.wait_for_room()?;
        self.write_some(&rest[..rest.len().min(NOTED_BYTES)])
    }

    /// Not to be able to note it is no reason not to write on: somebody who continues from there repeats some bytes.
    fn note(&self, end: Option<u64>, left: usize) {
        if let (Some(mark), Some(end)) = (self.state.mark.get(), end)
            && let Err(error) = mark.store(end.saturating_sub(left as u64), &self.fd)
        {
            tracing::debug!(%error, "cannot note what was delivered");
        }
    }

    fn write_some(&self, bytes: &[u8]) -> Result<usize, Trouble> {
        loop {
            match rustix::io::write(&self.fd, bytes) {
                Ok(0) => return Err(self.failed("it takes no bytes")),
                Ok(count) => {
                    self.state.taken.fetch_add(count as u64, Ordering::AcqRel);
                    return Ok(count);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_for_room()?,
                Err(Errno::PIPE) => return Err(Trouble::ReaderLeft),
                // It hung up; a disk with this error has lost what was written.
                Err(Errno::IO) if self.is_terminal => return Err(Trouble::ReaderLeft),
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

    use std::io::{Read, Seek};
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
    async fn a_disk_that_breaks_is_no_reader_who_left() {
        // Nothing is mapped at the beginning of a process's memory: the kernel answers EIO.
        let broken = std::fs::File::options().write(true).open("/proc/self/mem").unwrap();
        let sink = Sink::new("stdout", broken.into()).unwrap();
        sink.write(Bytes::from_static(b"lost")).await;
        sink.flush().await;
        let Some(Trouble::Failed(why)) = sink.written().trouble else { panic!("{:?}", sink.written()) };
        assert!(why.starts_with("cannot write stdout: Input/output error"), "{why}");
    }

    #[tokio::test]
    async fn bytes_arrive_in_order_and_unchanged() {
        let (reader, writer) = pipe();
        let sink = Sink::new("stdout", writer).unwrap();
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
        let sink = Sink::new("stdout", writer).unwrap();
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
        let sink = Sink::new("stdout", writer).unwrap();
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
        let sink = Sink::new("stdout", writer).unwrap();
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
        let sink = Sink::new("stderr", full.into()).unwrap();
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
        let (called, calls) = std_mpsc::channel();
        let sink = Sink::new("stdout", file.try_clone().unwrap().into()).unwrap();
        let voice = sink.voice();
        let hook = move || {
            voice.say(b"<");
            called.send(()).unwrap();
            std::future::ready(()).boxed()
        };
        let sink = sink.before_first_write(Box::new(hook));
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
        let sink = Sink::new("stdout", writer).unwrap();
        let clone = sink.clone();
        drop(sink);
        clone.write(Bytes::from_static(b"x")).await;
        let voice = clone.voice();
        drop(clone);
        voice.say(b"y");
        drop(voice);
        assert_eq!(read_to_end(reader).await, b"xy", "the pipe ends when its last writer is closed");
    }

    #[tokio::test]
    async fn own_words_never_wait_and_arrive_in_order_when_the_reader_is_back() {
        let (reader, writer) = pipe();
        let sink = Sink::new("stderr", writer).unwrap();
        let voice = sink.voice();
        let bytes = noise(1 << 20);
        sink.write(bytes.clone()).await;
        voice.say(b"[one]");
        sink.write(Bytes::from_static(b"more")).await;
        assert_eq!(sink.given(), ((1 << 20) + 4, true));
        voice.say(b"[two]");
        assert!(voice.is_behind());
        assert!(sink.progress().is_waiting);
        let reading = tokio::spawn(read_to_end(reader));
        assert_eq!(sink.flush().await, Written { written: (1 << 20) + 4, discarded: 0, trouble: None });
        assert!(!voice.is_behind());
        assert_eq!(sink.progress(), Progress { is_waiting: false, taken: (1 << 20) + 14 });
        drop((sink, voice));
        assert!(reading.await.unwrap() == [&bytes[..], b"[one]more[two]"].concat());
    }

    #[tokio::test]
    async fn bytes_that_wait_for_their_turn_wait_for_the_reader() {
        let (_reader, writer) = pipe();
        let sink = Sink::new("stdout", writer).unwrap();
        let sink = sink.before_first_write(Box::new(|| std::future::pending().boxed()));
        assert!(!sink.progress().is_waiting);
        assert!(sink.write(Bytes::from_static(b"x")).now_or_never().is_none());
        assert!(sink.progress().is_waiting);
    }

    #[tokio::test]
    async fn own_words_beyond_the_limit_are_left_out_whole_and_counted() {
        let (reader, writer) = pipe();
        let sink = Sink::new("stderr", writer).unwrap();
        let voice = sink.voice();
        // Sticks in the pipe, so that all words wait.
        sink.write(noise(1 << 20)).await;
        let word = [b'w'; 1000];
        let fit = VOICE_BYTES / word.len();
        for _ in 0..fit + 3 {
            voice.say(&word);
        }
        assert_eq!(voice.take_left_out(), None, "there is no room to say so");
        let reading = tokio::spawn(read_to_end(reader));
        voice.flushed().await;
        assert_eq!(voice.take_left_out(), Some(3));
        assert_eq!(voice.take_left_out(), None);
        drop((sink, voice));
        assert_eq!(reading.await.unwrap().len(), (1 << 20) + fit * word.len());
    }

    #[tokio::test]
    async fn last_words_are_given_up_when_the_reader_takes_nothing() {
        let (reader, writer) = pipe();
        let sink = Sink::new("stderr", writer).unwrap();
        sink.write(noise(1 << 20)).await;
        let voice = sink.voice();
        voice.say(b"last");
        voice.flushed_within(Duration::from_millis(100)).await;
        assert!(voice.is_behind());
        let reading = tokio::spawn(read_to_end(reader));
        voice.flushed_within(Duration::from_secs(60)).await;
        assert!(!voice.is_behind());
        drop((sink, voice));
        assert!(reading.await.unwrap().ends_with(b"last"));
    }

    #[tokio::test]
    async fn own_words_that_fail_are_no_trouble_of_the_tasks_bytes() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let sink = Sink::new("stderr", full.into()).unwrap();
        sink.voice().say(b"x");
        assert_eq!(sink.flush().await, Written { written: 0, discarded: 0, trouble: None });
    }
}
