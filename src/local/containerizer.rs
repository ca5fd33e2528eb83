//! Starts the external containerizer, one process per verb, as a slave does: the frame on stdin, which stays open until the
//! process has been reaped; stderr appended to the sandbox's; answers of `wait`, `usage` and `containers` on stdout.
//!
//! Differences to a slave, on purpose: no shell in between, a process group instead of a session (so that a terminal's
//! Ctrl-C does not reach the verbs), and no recursive change of the sandbox' owner at every verb.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use prost::Name;
use proto::framing::{self, FramingError};
use proto::{ecp, mesos};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// What the program believes to be called, whatever its file is.
const NAME: &str = "docker-containerizer";
/// How long a complete answer may be on its way after the process has exited: somebody else may hold the pipe.
const LATE_ANSWER: Duration = Duration::from_secs(1);
/// How much of a verb's stderr is kept where there is no sandbox for it.
const KEPT_STDERR_BYTES: u64 = 4096;

/// The program and what every verb gets.
#[derive(Debug, Clone)]
pub(super) struct Containerizer {
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum VerbError {
    /// It was never started.
    #[error("cannot start `{} {verb}`", .program.display())]
    Start {
        /// Which.
        verb: &'static str,
        /// The file.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The sandbox cannot take its stderr.
    #[error("cannot open {}", .path.display())]
    Stderr {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be waited for.
    #[error("cannot wait for `{verb}`")]
    Reap {
        /// Which.
        verb: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It failed.
    #[error("`{NAME} {verb}` failed ({status}){}", said(.stderr))]
    Failed {
        /// Which.
        verb: &'static str,
        /// As the system tells it.
        status: ExitStatus,
        /// Where there is no sandbox: the last line of its stderr.
        stderr: String,
    },
    /// It exited well without a useful answer.
    #[error("`{verb}` gave no valid answer")]
    Answer {
        /// Which.
        verb: &'static str,
        /// Why.
        source: FramingError,
    },
    /// It was ended because its container was destroyed.
    #[error("`{verb}` was ended")]
    Ended {
        /// Which.
        verb: &'static str,
    },
}

impl Containerizer {
    /// `libexec` is where a slave has its helper programs.
    pub(super) fn new(program: &Path, work_dir: &Path, libexec: &str, port: u16) -> Self {
        // Whoever started us may itself run under Mesos: its variables are not ours to pass on, except the default image.
        let is_ours = |name: &OsString| {
            let name = name.to_string_lossy();
            name == "MESOS_DEFAULT_CONTAINER_IMAGE" || !(name.starts_with("MESOS_") || name.starts_with("LIBPROCESS_"))
        };
        let mut environment: Vec<_> = std::env::vars_os().filter(|(name, _)| is_ours(name)).collect();
        environment.extend([
            ("MESOS_WORK_DIRECTORY".into(), work_dir.into()),
            ("MESOS_LIBEXEC_DIRECTORY".into(), libexec.into()),
            ("LIBPROCESS_IP".into(), "127.0.0.1".into()),
            ("LIBPROCESS_PORT".into(), port.to_string().into()),
            // The launcher shows it in its own way, and what it prints is the task's alone.
            ("LAUNCH_CONTAINERIZER_PULL_PROGRESS_IN_STDERR".into(), "false".into()),
        ]);
        Self { program: program.to_owned(), environment }
    }

    /// # Errors
    ///
    /// The verb failed.
    pub(super) async fn recover(&self) -> Result<(), VerbError> {
        self.without_sandbox("recover").await.map(drop)
    }

    /// # Errors
    ///
    /// The verb failed or gave no answer.
    pub(super) async fn containers(&self) -> Result<ecp::Containers, VerbError> {
        let verb = "containers";
        let answer = self.without_sandbox(verb).await?;
        framing::read(&mut answer.as_slice()).map_err(|source| VerbError::Answer { verb, source })
    }

    /// The sandbox must exist.
    ///
    /// # Errors
    ///
    /// The verb failed.
    pub(super) async fn launch(&self, launch: &ecp::Launch, environment: &[(String, String)]) -> Result<(), VerbError> {
        let directory = Path::new(launch.directory());
        self.silent("launch", Some(directory), launch, environment).await
    }

    /// # Errors
    ///
    /// The verb failed.
    pub(super) async fn update(&self, directory: &Path, update: &ecp::Update) -> Result<(), VerbError> {
        self.silent("update", Some(directory), update, &[]).await
    }

    /// Without a directory for containers that are not known otherwise: nobody reads what the verb says.
    ///
    /// # Errors
    ///
    /// The verb failed.
    pub(super) async fn destroy(&self, directory: Option<&Path>, container_id: &str) -> Result<(), VerbError> {
        self.silent("destroy", directory, &ecp::Destroy { container_id: container(container_id) }, &[]).await
    }

    /// # Errors
    ///
    /// The verb failed or gave no answer.
    pub(super) async fn usage(
        &self,
        directory: &Path,
        container_id: &str,
    ) -> Result<mesos::ResourceStatistics, VerbError> {
        let usage = ecp::Usage { container_id: container(container_id) };
        // Nobody ends `usage` early.
        let (_keep, never) = oneshot::channel();
        self.answering("usage", directory, &usage, never).await
    }

    /// Returns when the container has ended. `end` kills the process and what it started, then this gives `Ended`.
    ///
    /// # Errors
    ///
    /// The verb failed, gave no answer, or was ended.
    pub(super) async fn wait(
        &self,
        directory: &Path,
        container_id: &str,
        end: oneshot::Receiver<()>,
    ) -> Result<ecp::Termination, VerbError> {
        self.answering("wait", directory, &ecp::Wait { container_id: container(container_id) }, end).await
    }

    async fn silent(
        &self,
        verb: &'static str,
        directory: Option<&Path>,
        message: &impl Name,
        environment: &[(String, String)],
    ) -> Result<(), VerbError> {
        let mut command = self.command(verb);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = match directory {
            Some(directory) => self.start_in(verb, command, directory)?,
            None => {
                command.stderr(Stdio::null());
                self.start(verb, command)?
            }
        };
        let stdin = say(&mut child, message).await;
        let status = child.wait().await.map_err(|source| VerbError::Reap { verb, source })?;
        drop(stdin);
        succeeded(verb, status, &[])
    }

    async fn answering<M: Name + Default>(
        &self,
        verb: &'static str,
        directory: &Path,
        message: &impl Name,
        end: oneshot::Receiver<()>,
    ) -> Result<M, VerbError> {
        let mut command = self.command(verb);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = self.start_in(verb, command, directory)?;
        let stdin = say(&mut child, message).await;
        let stdout = child.stdout.take();
        let mut answer = std::pin::pin!(async {
            match stdout {
                Some(stdout) => read_frame(stdout).await,
                None => Vec::new(),
            }
        });
        let mut end = std::pin::pin!(async {
            // A dropped sender is not a wish to end.
            if end.await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        let mut bytes = None;
        let status = loop {
            tokio::select! {
                read = &mut answer, if bytes.is_none() => bytes = Some(read),
                status = child.wait() => break status.map_err(|source| VerbError::Reap { verb, source })?,
                () = &mut end => {
                    kill_group(&child);
                    child.wait().await.map_err(|source| VerbError::Reap { verb, source })?;
                    return Err(VerbError::Ended { verb });
                }
            }
        };
        drop(stdin);
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => tokio::time::timeout(LATE_ANSWER, answer).await.unwrap_or_default(),
        };
        succeeded(verb, status, &[])?;
        framing::read(&mut bytes.as_slice()).map_err(|source| VerbError::Answer { verb, source })
    }

    /// `recover` and `containers`: no message, no sandbox; the whole of stdout comes back.
    async fn without_sandbox(&self, verb: &'static str) -> Result<Vec<u8>, VerbError> {
        let mut command = self.command(verb);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.start(verb, command)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let answer = async {
            match stdout {
                Some(stdout) => read_frame(stdout).await,
                None => Vec::new(),
            }
        };
        let words = async {
            let mut words = Vec::new();
            if let Some(stderr) = stderr {
                // What was read until an error is all there is to tell.
                let _ = stderr.take(KEPT_STDERR_BYTES).read_to_end(&mut words).await;
            }
            words
        };
        let (answer, words, status) = tokio::join!(answer, words, child.wait());
        drop(stdin);
        succeeded(verb, status.map_err(|source| VerbError::Reap { verb, source })?, &words)?;
        Ok(answer)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg0(NAME).arg(verb);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.process_group(0);
        command
    }

    fn start_in(&self, verb: &'static str, mut command: Command, directory: &Path) -> Result<Child, VerbError> {
        let path = directory.join("stderr");
        let stderr = OpenOptions::new().append(true).create(true).mode(0o644).open(&path);
        let stderr = stderr.map_err(|source| VerbError::Stderr { path, source })?;
        command.current_dir(directory).stderr(stderr);
        self.start(verb, command)
    }

    fn start(&self, verb: &'static str, mut command: Command) -> Result<Child, VerbError> {
        command.spawn().map_err(|source| VerbError::Start { verb, program: self.program.clone(), source })
    }
}

/// Writes the frame; the end of the pipe comes back, to be kept open.
async fn say(child: &mut Child, message: &impl Name) -> Option<tokio::process::ChildStdin> {
    let mut frame = Vec::new();
    framing::write(&mut frame, message).expect("writing to memory cannot fail");
    let mut stdin = child.stdin.take()?;
    // A process that does not read to the end says with its exit status why.
    let _ = stdin.write_all(&frame).await;
    Some(stdin)
}

/// The bytes of one frame, or as many as there were.
async fn read_frame(mut pipe: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    let mut filled = 0;
    loop {
        if filled == bytes.len() {
            let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
            if filled > 4 || length == 0 || length > framing::MAX_MESSAGE_BYTES {
                return bytes;
            }
            bytes.resize(4 + length, 0);
        }
        match pipe.read(&mut bytes[filled..]).await {
            Ok(count) if count > 0 => filled += count,
            Ok(_) | Err(_) => {
                bytes.truncate(filled);
                return bytes;
            }
        }
    }
}

fn succeeded(verb: &'static str, status: ExitStatus, stderr: &[u8]) -> Result<(), VerbError> {
    if status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(stderr).trim_end().lines().last().unwrap_or_default().to_owned();
    Err(VerbError::Failed { verb, status, stderr })
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

fn kill_group(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may be gone already.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

fn container(id: &str) -> mesos::ContainerId {
    mesos::ContainerId { value: id.to_owned(), parent: None }
}
