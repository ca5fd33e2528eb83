//! The container's output on its way into the sandbox: every byte, in order, once, and nothing else.
//!
//! ```text
//! engine: attach stream ------------------------------> sandbox files, beside them the positions (position.rs)
//!           | ends before the container does: the engine was restarted, or this process is not the first
//!           `-> engine: its own bounded log from the beginning, less what the sandbox has, until the container's end
//! ```
//!
//! It has a thread of its own. The engine drops what is not taken within two seconds after a container's end, and a slow
//! disk must not keep the rest of the supervisor from its work, nor the other way round.
//!
//! The engine's log is bounded: what it has thrown away cannot be read again. Then the output goes on with what comes, and is
//! not whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{Stream, StreamExt};
use rustix::fs::OFlags;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::position::{Positions, STDERR, STDOUT};
use crate::docker::{Engine, EngineError, Output};
use crate::environment::Environment;
use crate::lifecycle::Event;

/// The sandbox's `stdout` and `stderr`, open for appending.
#[derive(Debug)]
pub(crate) struct Files {
    stdout: File,
    stderr: File,
}

impl Files {
    /// Creates what is missing. A symbolic link is not followed: the sandbox belongs to the task's user, we may be root.
    pub(super) fn open(sandbox: &Path) -> io::Result<Self> {
        let open = |name| {
            let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).expect("a flag is small");
            let mut options = OpenOptions::new();
            options.create(true).read(true).append(true).mode(0o644).custom_flags(no_follow).open(sandbox.join(name))
        };
        Ok(Self { stdout: open("stdout")?, stderr: open("stderr")? })
    }

    /// Bytes in `stdout` and `stderr` now: what the container wrote, and what the agent wrote there before and beside it.
    ///
    /// # Errors
    /// Also where they are no files: an agent's logger may have given pipes.
    pub(super) fn sizes(&self) -> io::Result<(u64, u64)> {
        let size = |file: &File| match file.metadata()? {
            metadata if metadata.is_file() => Ok(metadata.len()),
            _ => Err(io::Error::other("it is no file")),
        };
        Ok((size(&self.stdout)?, size(&self.stderr)?))
    }

    /// The stdout and stderr of this very process.
    pub(crate) fn of_process() -> io::Result<Self> {
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        Ok(Self { stdout, stderr })
    }

    /// Our own words, a line in `stderr`: only while there is no container.
    pub(super) fn say(&mut self, line: &str) {
        // Nothing depends on it.
        let _ = self.stderr.write_all(format!("docker-containerizer: {line}\n").as_bytes());
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { stdout: self.stdout.try_clone()?, stderr: self.stderr.try_clone()? })
    }
}

/// What became of a container's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// Whether the engine gave it to its end, without a gap.
    pub(super) is_whole: bool,
    /// What the sandbox's disk did not take.
    pub(super) lost_bytes: u64,
}

/// A container's output that is being written.
#[derive(Debug)]
pub(super) struct Flow {
    ended: oneshot::Sender<(Watched, Option<Instant>)>,
    result: oneshot::Receiver<Written>,
}

/// How the container's end was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
    /// By an engine that was there all the time, so that its stream's end was the output's.
    Throughout,
    /// By an engine that was away meanwhile, or while we were away.
    WithGaps,
    /// By nobody: the engine was away then, and nobody took the last output.
    Blindly,
}

/// Where a flow begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// With the first byte of a container that is created and not yet started.
    Attach,
    /// With the first byte that the sandbox does not have, of a container that runs or has ended.
    Resume,
}

impl Flow {
    /// From then on everything is written. `events` hears of output after a silence, as long as somebody else holds the channel,
    /// too.
    ///
    /// `positions`: where to note how much, for containers whose output the engine keeps.
    pub(super) async fn start(
        environment: &Environment,
        docker_id: &str,
        files: Files,
        positions: Option<PathBuf>,
        begin: Begin,
        events: mpsc::WeakSender<Event>,
    ) -> Result<Self, FlowError> {
        // Its own connections: those of another runtime would be driven by that one.
        let engine = Engine::connect(environment)?;
        let writer = Writer::new(files, positions, move || tell(&events))?;
        let docker_id = docker_id.to_owned();
        let (attached, is_attached) = oneshot::channel();
        let (finished, result) = oneshot::channel();
        let (ended, is_ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().spawn(move || {
            runtime.block_on(async {
                let stream = match begin {
                    Begin::Resume => None,
                    Begin::Attach => match engine.attach(&docker_id).await {
                        Ok(output) => Some(output),
                        Err(error) => {
                            // Nobody listens when the supervisor has given up, here and below.
                            let _ = attached.send(Err(error));
                            return;
                        }
                    },
                };
                let _ = attached.send(Ok(()));
                let pump = Pump { engine, docker_id, writer };
                let _ = finished.send(pump.run(stream, is_ended).await);
            });
        })?;
        is_attached.await.expect("the thread says how it went")?;
        Ok(Self { ended, result })
    }

    /// What was written, once the container has ended; `None` when the rest does not arrive within the limit.
    /// `gone_at`: when the container's first process ended, where that is known.
    pub(super) async fn finish(self, watched: Watched, gone_at: Option<Instant>, limit: Duration) -> Option<Written> {
        // A pump that is gone has no result either.
        let _ = self.ended.send((watched, gone_at));
        tokio::time::timeout(limit, self.result).await.ok().and_then(Result::ok)
    }
}

/// Why there is no flow.
#[derive(Debug, thiserror::Error)]
pub(super) enum FlowError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("cannot have a thread and a file for its output: {0}")]
    Thread(#[from] io::Error),
}

/// An executor that is busy is told nothing: this is only to save a framework its waiting.
fn tell(events: &mpsc::WeakSender<Event>) {
    if let Some(events) = events.upgrade() {
        let _ = events.try_send(Event::OutputAgain);
    }
}

struct Pump {
    engine: Engine,
    docker_id: String,
    writer: Writer,
}

impl Pump {
    /// Takes streams as long as the container lives.
    async fn run(
        mut self,
        first: Option<impl Stream<Item = Result<Output, EngineError>>>,
        mut ended: oneshot::Receiver<(Watched, Option<Instant>)>,
    ) -> Written {
        let mut is_gapless = match first {
            Some(stream) => self.writer.take(stream).await,
            None => false,
        };
        let stream_ended_at = Instant::now();
        // A stream's end is the container's as a rule, and then the owner tells at once.
        let mut pause = if is_gapless { RETRY } else { Duration::ZERO };
        let (watched, gone_at) = loop {
            tokio::select! {
                biased;
                // An owner that has given up wants no result.
                ended = &mut ended => break ended.unwrap_or((Watched::WithGaps, None)),
                () = tokio::time::sleep(pause) => {}
            }
            pause = RETRY;
            let is_running = self.engine.inspect(&self.docker_id).await;
            if is_running.is_ok_and(|found| found.is_some_and(|found| found.is_running)) {
                is_gapless = false;
                self.go_on().await;
            }
        };
        // A stream that ended before the process did has broken, or the process had closed its output: the log tells. So it
        // does of a container that was gone before its process was known.
        let is_early = self.writer.positions.is_some() && gone_at.is_none_or(|gone_at| stream_ended_at < gone_at);
        if !is_gapless || is_early || watched != Watched::Throughout {
            is_gapless = self.catch_up().await;
        }
        let is_whole = is_gapless && watched != Watched::Blindly;
        Written { is_whole, lost_bytes: self.writer.lost_bytes() }
    }

    /// Follows the container to its end, or the engine's.
    async fn go_on(&mut self) {
        if self.writer.positions.is_some() {
            let followed = self.writer.replay(self.engine.logs(&self.docker_id, true)).await;
            if followed != Replayed::Gap {
                return;
            }
        }
        if let Ok(stream) = self.engine.attach(&self.docker_id).await {
            self.writer.has_gap = true;
            self.writer.take(stream).await;
        }
    }

    /// Writes what is missing of a container that has ended; whether nothing is missing then.
    async fn catch_up(&mut self) -> bool {
        if self.writer.positions.is_none() || self.writer.has_gap {
            return false;
        }
        loop {
            match self.writer.replay(self.engine.logs(&self.docker_id, false)).await {
                Replayed::Whole => return true,
                Replayed::Gap => return false,
                Replayed::Broken => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

/// How a replay went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replayed {
    /// The sandbox has all that the engine gave.
    Whole,
    /// The engine does not have all that the sandbox lacks.
    Gap,
    /// The engine went away.
    Broken,
}

struct Writer {
    /// Stdout and stderr.
    files: [SandboxFile; 2],
    positions: Option<Positions>,
    /// Whether something was left out, and nobody knows how much.
    has_gap: bool,
    last_written: Instant,
    /// Called behind the first bytes that are in their file after a [`SILENCE`].
    on_output_again: Box<dyn FnMut() + Send>,
}

impl Writer {
    fn new(
        files: Files,
        positions: Option<PathBuf>,
        on_output_again: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        // Where they are no files, there is nothing to compare with.
        let positions = positions.filter(|_| files.sizes().is_ok());
        let positions = positions.map(|path| Positions::open(&path, [&files.stdout, &files.stderr])).transpose()?;
        let files = [files.stdout, files.stderr].map(|file| SandboxFile { file, lost_bytes: 0 });
        let on_output_again = Box::new(on_output_again);
        Ok(Self { files, positions, has_gap: false, last_written: Instant::now(), on_output_again })
    }

    fn lost_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.lost_bytes).sum()
    }

    /// Writes all of it; whether it came to its end.
    async fn take(&mut self, output: impl Stream<Item = Result<Output, EngineError>>) -> bool {
        let mut output = std::pin::pin!(output);
        while let Some(part) = output.next().await {
            match part {
                Ok(part) => {
                    let (stream, bytes) = of(&part);
                    self.append(stream, bytes);
                }
                Err(error) => {
                    tracing::error!(%error, "the output ended early");
                    return false;
                }
            }
        }
        true
    }

    /// Writes what is new of an output from its beginning.
    async fn replay(&mut self, output: impl Stream<Item = Result<Output, EngineError>>) -> Replayed {
        let Some(before) = self.positions.as_ref().map(|at| [at.written(STDOUT), at.written(STDERR)]) else {
            return Replayed::Gap;
        };
        let mut seen = [0u64; 2];
        let mut output = std::pin::pin!(output);
        while let Some(part) = output.next().await {
            let part = match part {
                Ok(part) => part,
                Err(error) => {
                    tracing::error!(%error, "the output ended early");
                    return Replayed::Broken;
                }
            };
            let (stream, bytes) = of(&part);
            let at = seen[stream];
            seen[stream] += bytes.len() as u64;
            let has = before[stream].saturating_sub(at).min(bytes.len() as u64);
            let (old, new) = bytes.split_at(usize::try_from(has).expect("not more than there is"));
            if !self.is_in_sandbox(stream, at, old) {
                return Replayed::Gap;
            }
            if !new.is_empty() {
                self.append(stream, new);
            }
        }
        let has_all = seen.iter().zip(before).all(|(seen, before)| *seen >= before);
        // Without anything to compare with, nobody knows whether what the engine gave was the beginning.
        let is_sure = before != [0, 0] || seen.iter().sum::<u64>() < KEPT_BYTES;
        if has_all && is_sure { Replayed::Whole } else { Replayed::Gap }
    }

    /// Whether the sandbox has these bytes there. An agent may have written among those of stderr, so only stdout is
    /// certain to be as it was.
    fn is_in_sandbox(&self, stream: usize, at: u64, bytes: &[u8]) -> bool {
        let Some(positions) = self.positions.as_ref().filter(|_| stream == STDOUT) else { return true };
        if bytes.is_empty() || at >= COMPARED_BYTES {
            return true;
        }
        let mut there = vec![0; bytes.len()];
        let read = self.files[stream].file.read_exact_at(&mut there, positions.base(stream) + at);
        // The task itself may have changed its file; that is no reason to write anything twice.
        read.is_err() || there == bytes
    }

    fn append(&mut self, stream: usize, bytes: &[u8]) {
        let was_silent = self.last_written.elapsed() >= SILENCE;
        self.append_noted(stream, bytes);
        if was_silent {
            (self.on_output_again)();
        }
        self.last_written = Instant::now();
    }

    fn append_noted(&mut self, stream: usize, bytes: &[u8]) {
        let file = &mut self.files[stream];
        let Some(positions) = &mut self.positions else { return file.append(bytes) };
        // Lost or written: it is not to be had again. Notes that a full disk does not take cost exactness after a crash.
        let noted = positions.before(stream, &file.file, bytes.len());
        file.append(bytes);
        if let Err(error) = noted.and_then(|()| positions.after(stream, bytes.len())) {
            tracing::error!(%error, "how much was written is not noted");
        }
    }
}

fn of(output: &Output) -> (usize, &[u8]) {
    match output {
        Output::Stdout(bytes) => (STDOUT, bytes),
        Output::Stderr(bytes) => (STDERR, bytes),
    }
}

/// So a task that writes all the time causes no messages, and others one a second at most.
const SILENCE: Duration = Duration::from_secs(1);

struct SandboxFile {
    file: File,
    lost_bytes: u64,
}

impl SandboxFile {
    /// Once the disk did not take something, nothing follows: what is there stays a whole beginning. The output is still
    /// taken from the engine: a full disk must not block the task, whose code says how it ended.
    fn append(&mut self, mut rest: &[u8]) {
        while self.lost_bytes == 0 && !rest.is_empty() {
            match self.file.write(rest) {
                Ok(count) if count > 0 => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    tracing::error!(?result, "the sandbox does not take the output");
                    break;
                }
            }
        }
        self.lost_bytes += rest.len() as u64;
    }
}

/// A healthy engine reports a container's end within milliseconds of its output's.
const RETRY: Duration = Duration::from_millis(500);
/// Of the beginning of stdout, to see whether the engine still has it.
const COMPARED_BYTES: u64 = 64 << 10;
/// What the engine's log holds at least before it throws away its beginning; see `spec`.
const KEPT_BYTES: u64 = crate::spec::KEPT_LOG_BYTES;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn parts_go_to_their_files_behind_what_is_there() {
        let sandbox = tempfile::tempdir().unwrap();
        std::fs::write(sandbox.path().join("stderr"), "fetched\n").unwrap();
        let parts = [
            Ok(Output::Stdout(Bytes::from_static(b"a\0\xff"))),
            Ok(Output::Stderr(Bytes::from_static(b"e"))),
            Ok(Output::Stdout(Bytes::from_static(b"b"))),
        ];
        let mut writer = Writer::new(Files::open(sandbox.path()).unwrap(), None, || {}).unwrap();
        assert!(writer.take(futures::stream::iter(parts)).await);
        assert_eq!(writer.lost_bytes(), 0);
        assert_eq!(std::fs::read(sandbox.path().join("stdout")).unwrap(), b"a\0\xffb");
        assert_eq!(std::fs::read(sandbox.path().join("stderr")).unwrap(), b"fetched\ne");
    }

    #[tokio::test]
    async fn a_full_disk_costs_bytes_and_nothing_else() {
        let full = || OpenOptions::new().append(true).open("/dev/full").unwrap();
        let parts = [Ok(Output::Stdout(Bytes::from_static(b"abc"))), Ok(Output::Stderr(Bytes::from_static(b"d")))];
        let mut writer = Writer::new(Files { stdout: full(), stderr: full() }, None, || {}).unwrap();
        assert!(writer.take(futures::stream::iter(parts)).await);
        assert_eq!(writer.lost_bytes(), 4);
    }

    #[tokio::test]
    async fn output_that_the_engine_breaks_off_is_not_whole() {
        let sandbox = tempfile::tempdir().unwrap();
        let parts = [Ok(Output::Stdout(Bytes::from_static(b"a"))), Err(EngineError::NoInit)];
        let mut writer = Writer::new(Files::open(sandbox.path()).unwrap(), None, || {}).unwrap();
        assert!(!writer.take(futures::stream::iter(parts)).await);
    }

    fn writer(sandbox: &Path) -> Writer {
        Writer::new(Files::open(sandbox).unwrap(), Some(sandbox.join("positions")), || {}).unwrap()
    }

    fn log(parts: &[(usize, &'static str)]) -> impl Stream<Item = Result<Output, EngineError>> {
        let parts = parts.iter().map(|(stream, text)| match *stream {
            STDOUT => Ok(Output::Stdout(Bytes::from_static(text.as_bytes()))),
            _ => Ok(Output::Stderr(Bytes::from_static(text.as_bytes()))),
        });
        futures::stream::iter(parts.collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn a_replay_goes_on_with_the_next_byte_wherever_the_parts_are_cut() {
        let sandbox = tempfile::tempdir().unwrap();
        let text = |name: &str| std::fs::read_to_string(sandbox.path().join(name)).unwrap();
        writer(sandbox.path()).take(log(&[(STDOUT, "abc"), (STDERR, "12"), (STDOUT, "d")])).await;
        let whole = [(STDOUT, "ab"), (STDERR, "1"), (STDERR, "23"), (STDOUT, "cdef"), (STDOUT, "g")];
        for _ in 0..2 {
            assert_eq!(writer(sandbox.path()).replay(log(&whole)).await, Replayed::Whole);
            assert_eq!((text("stdout"), text("stderr")), ("abcdefg".to_owned(), "123".to_owned()));
        }
    }

    #[tokio::test]
    async fn a_log_that_has_lost_its_beginning_is_not_taken_for_the_output() {
        let sandbox = tempfile::tempdir().unwrap();
        writer(sandbox.path()).take(log(&[(STDOUT, "abcd")])).await;
        assert_eq!(writer(sandbox.path()).replay(log(&[(STDOUT, "cdef")])).await, Replayed::Gap);
        assert_eq!(writer(sandbox.path()).replay(log(&[(STDOUT, "ab")])).await, Replayed::Gap);
        assert_eq!(std::fs::read(sandbox.path().join("stdout")).unwrap(), b"abcd");
        let broken = log(&[(STDOUT, "abcd")]).chain(futures::stream::iter([Err(EngineError::NoInit)]));
        assert_eq!(writer(sandbox.path()).replay(broken).await, Replayed::Broken);
    }

    #[tokio::test(start_paused = true)]
    async fn output_after_a_silence_is_told_when_it_is_in_its_file() {
        let sandbox = tempfile::tempdir().unwrap();
        // Each part and the pause before it.
        let parts = [(0, "a"), (999, "b"), (1000, "c"), (1, "d"), (5000, "e")];
        let parts = futures::stream::iter(parts).then(async |(pause, text)| {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            Ok(Output::Stdout(Bytes::from_static(text.as_bytes())))
        });
        let (tell, told) = std::sync::mpsc::channel();
        let path = sandbox.path().join("stdout");
        let look = move || tell.send(std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(Writer::new(Files::open(sandbox.path()).unwrap(), None, look).unwrap().take(parts).await);
        assert_eq!(told.into_iter().collect::<Vec<_>>(), ["abc", "abcde"]);
    }

    #[test]
    fn a_link_in_the_sandbox_is_not_followed() {
        let sandbox = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/motd", sandbox.path().join("stdout")).unwrap();
        assert!(Files::open(sandbox.path()).is_err());
    }
}
