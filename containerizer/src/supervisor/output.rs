//! The container's output on its way into the sandbox: every byte, in order, and nothing else.
//!
//! It has a thread of its own. The engine drops what is not taken within two seconds after a container's end, and a slow
//! disk must not keep the rest of the supervisor from its work, nor the other way round.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use rustix::fs::OFlags;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

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
            OpenOptions::new().create(true).append(true).mode(0o644).custom_flags(no_follow).open(sandbox.join(name))
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
    /// Whether the engine gave it to its end; it does not when it is restarted.
    pub(super) is_whole: bool,
    /// What the sandbox's disk did not take.
    pub(super) lost_bytes: u64,
}

/// A container's output that is being written.
#[derive(Debug)]
pub(super) struct Flow {
    /// Fires at the end of the output.
    pub(super) result: oneshot::Receiver<Written>,
}

impl Flow {
    /// Attaches to a container that is created and not yet started; from then on everything is written.
    ///
    /// `events` hears of output after a silence, as long as somebody else holds the channel, too.
    pub(super) async fn attach(
        environment: &Environment,
        docker_id: &str,
        files: Files,
        events: mpsc::WeakSender<Event>,
    ) -> Result<Self, FlowError> {
        // Its own connections: those of another runtime would be driven by that one.
        let engine = Engine::connect(environment)?;
        let docker_id = docker_id.to_owned();
        let (attached, is_attached) = oneshot::channel();
        let (finished, result) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().spawn(move || {
            runtime.block_on(async {
                match engine.attach(&docker_id).await {
                    Ok(output) => {
                        // Nobody listens when the supervisor has given up, here and below.
                        let _ = attached.send(Ok(()));
                        let _ = finished.send(write(output, files, || tell(&events)).await);
                    }
                    Err(error) => {
                        let _ = attached.send(Err(error));
                    }
                }
            });
        })?;
        is_attached.await.expect("the thread says how it went")?;
        Ok(Self { result })
    }
}

/// Why there is no flow.
#[derive(Debug, thiserror::Error)]
pub(super) enum FlowError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("cannot have a thread for its output: {0}")]
    Thread(#[from] io::Error),
}

/// An executor that is busy is told nothing: this is only to save a framework its waiting.
fn tell(events: &mpsc::WeakSender<Event>) {
    if let Some(events) = events.upgrade() {
        let _ = events.try_send(Event::OutputAgain);
    }
}

/// Calls `on_output_again` behind the first bytes that are in their file after a [`SILENCE`].
async fn write(
    output: impl futures::Stream<Item = Result<Output, EngineError>>,
    files: Files,
    mut on_output_again: impl FnMut(),
) -> Written {
    let mut stdout = SandboxFile { file: files.stdout, lost_bytes: 0 };
    let mut stderr = SandboxFile { file: files.stderr, lost_bytes: 0 };
    let mut is_whole = true;
    let mut output = std::pin::pin!(output);
    let mut last_written = Instant::now();
    while let Some(part) = output.next().await {
        let was_silent = last_written.elapsed() >= SILENCE;
        match part {
            Ok(Output::Stdout(bytes)) => stdout.append(&bytes),
            Ok(Output::Stderr(bytes)) => stderr.append(&bytes),
            Err(error) => {
                tracing::error!(%error, "the output ended early");
                is_whole = false;
                break;
            }
        }
        if was_silent {
            on_output_again();
        }
        last_written = Instant::now();
    }
    Written { is_whole, lost_bytes: stdout.lost_bytes + stderr.lost_bytes }
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
        let written = write(futures::stream::iter(parts), Files::open(sandbox.path()).unwrap(), || {}).await;
        assert_eq!(written, Written { is_whole: true, lost_bytes: 0 });
        assert_eq!(std::fs::read(sandbox.path().join("stdout")).unwrap(), b"a\0\xffb");
        assert_eq!(std::fs::read(sandbox.path().join("stderr")).unwrap(), b"fetched\ne");
    }

    #[tokio::test]
    async fn a_full_disk_costs_bytes_and_nothing_else() {
        let full = || OpenOptions::new().append(true).open("/dev/full").unwrap();
        let parts = [Ok(Output::Stdout(Bytes::from_static(b"abc"))), Ok(Output::Stderr(Bytes::from_static(b"d")))];
        let written = write(futures::stream::iter(parts), Files { stdout: full(), stderr: full() }, || {}).await;
        assert_eq!(written, Written { is_whole: true, lost_bytes: 4 });
    }

    #[tokio::test]
    async fn output_that_the_engine_breaks_off_is_not_whole() {
        let sandbox = tempfile::tempdir().unwrap();
        let parts = [Ok(Output::Stdout(Bytes::from_static(b"a"))), Err(EngineError::NoInit)];
        let written = write(futures::stream::iter(parts), Files::open(sandbox.path()).unwrap(), || {}).await;
        assert_eq!(written, Written { is_whole: false, lost_bytes: 0 });
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
        let mut told = Vec::new();
        let look = || told.push(std::fs::read_to_string(sandbox.path().join("stdout")).unwrap());
        write(parts, Files::open(sandbox.path()).unwrap(), look).await;
        assert_eq!(told, ["abc", "abcde"]);
    }

    #[test]
    fn a_link_in_the_sandbox_is_not_followed() {
        let sandbox = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/motd", sandbox.path().join("stdout")).unwrap();
        assert!(Files::open(sandbox.path()).is_err());
    }
}
