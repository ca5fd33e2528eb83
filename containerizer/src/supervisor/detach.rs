//! How the supervisor lets go of the `launch` that started it, and of that one's caller.
//!
//! `launch` starts this same executable with a pipe as its stdout, and gets one line back through it. After that line
//! nothing of the slave is left: own session, no pipe, no descriptor.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Starts a supervisor and waits for its line.
///
/// # Errors
/// The supervisor's own error, or why there is none.
pub(crate) fn start(state_directory: &Path, sandbox: &Path) -> Result<(), StartError> {
    // The kernel's link to this very file: right also when the file was replaced by a newer one meanwhile.
    let mut child = Command::new("/proc/self/exe")
        .arg0(PROGRAM)
        .arg(STATE_DIRECTORY_OPTION)
        .arg(state_directory)
        .current_dir(sandbox)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(StartError::Spawn)?;
    let pipe = child.stdout.take().expect("the pipe was asked for");
    let line = read_line(pipe);
    match line {
        Ok(line) if line == READY => Ok(()),
        Ok(line) if line.is_empty() => {
            let status = child.wait().map_err(StartError::Spawn)?;
            Err(StartError::Vanished { status: status.to_string() })
        }
        Ok(line) => {
            reap(&mut child);
            Err(StartError::Failed { message: line })
        }
        Err(error) => {
            reap(&mut child);
            Err(error)
        }
    }
}

/// Makes this process one of its own: no controlling terminal, no group and no descriptor shared with the slave.
///
/// Must come before anything is opened. A slave 0.19.0 leaves the pipes of its other verbs open in each child; kept open
/// here for a container's life, they would make the slave wait for a verb that died.
pub(super) fn detach() {
    // It fails for a leader of a group, which is already what we want; only when started by hand.
    let _ = rustix::process::setsid();
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one that the list itself was read through is closed by now.
        let _ = nix::unistd::close(descriptor);
    }
}

/// Says the one line to `launch`, and lets go of the pipe.
pub(super) fn tell(outcome: Result<(), &str>) {
    let line = match outcome {
        Ok(()) => format!("{READY}\n"),
        Err(message) => format!("{}\n", message.replace('\n', " ")),
    };
    // A `launch` that was killed meanwhile does not hear it, and the container is looked after all the same.
    let _ = io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush());
    if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

fn read_line(mut pipe: ChildStdout) -> Result<String, StartError> {
    let deadline = Instant::now() + READY_LIMIT;
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("the limit is small");
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(StartError::Silent),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(StartError::Spawn(error.into())),
        }
        let mut buffer = [0; 4096];
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(StartError::Spawn(error)),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

fn reap(child: &mut Child) {
    // Whatever state it is in, it is not to live on.
    let _ = child.kill();
    let _ = child.wait();
}

/// Why there is no supervisor.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum StartError {
    #[error("cannot start its supervisor: {0}")]
    Spawn(#[source] io::Error),
    #[error("{message}")]
    Failed { message: String },
    #[error("its supervisor ended at once ({status})")]
    Vanished { status: String },
    #[error("its supervisor did not come up within {} seconds; is the machine overloaded?", READY_LIMIT.as_secs())]
    Silent,
}

/// By this name, as `argv[0]`, the executable is an executor.
pub const PROGRAM: &str = "docker-executor";
/// With this option an executor is a supervisor.
pub const STATE_DIRECTORY_OPTION: &str = "--state-dir";
const READY: &str = "ready";
/// It takes milliseconds; a machine that swaps may take seconds.
const READY_LIMIT: Duration = Duration::from_secs(20);
