//! What a test left behind: containers, processes, mounts, files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::engine::Engine;

/// Looks until there is nothing of `root`, or the limit has passed; then says what there is.
pub(super) fn wait_until_none(root: &Path, engine: &Engine, limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    loop {
        let left = find(root, engine);
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(left);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends and removes what there is, after a test that has failed already.
pub(super) fn clear(root: &Path, engine: &Engine) {
    kill(root);
    for container in engine.containers_of(root) {
        engine.remove(&container.id.unwrap_or_default());
    }
}

/// Ends the processes that have the path in their environment or arguments.
pub(super) fn kill(root: &Path) {
    for (pid, _) in processes(root) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// One line for each thing.
fn find(root: &Path, engine: &Engine) -> String {
    let mut left = String::new();
    for container in engine.containers_of(root) {
        let _ = writeln!(left, "container {:?} {:?} {:?}", container.id, container.status, container.command);
    }
    for (pid, command) in processes(root) {
        let _ = writeln!(left, "process {} {command}", pid.as_raw_nonzero());
    }
    for mount in mounts(root) {
        let _ = writeln!(left, "mount {mount}");
    }
    for part in ["tmp", "home"] {
        for file in files(&root.join(part)) {
            let _ = writeln!(left, "file {file}");
        }
    }
    left
}

/// What the kernel shows of a process.
pub(crate) struct Process {
    /// To everybody.
    pub(crate) arguments: String,
    /// To its owner.
    pub(crate) environment: Vec<String>,
}

/// Those that have the path in their environment or arguments.
pub(super) fn processes_of(root: &Path) -> Vec<Process> {
    let part = |pid: Pid, name: &str| {
        let bytes = fs::read(format!("/proc/{}/{name}", pid.as_raw_nonzero())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let process = |(pid, _)| Process {
        arguments: part(pid, "cmdline"),
        environment: part(pid, "environ").split('\0').map(str::to_owned).collect(),
    };
    processes(root).into_iter().map(process).collect()
}

/// Processes that have the path in their environment or arguments. A zombie has neither, so it does not count.
fn processes(root: &Path) -> Vec<(Pid, String)> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw) else { continue };
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if number != own && (contains(&arguments, root) || contains(&environment, root)) {
            found.push((pid, String::from_utf8_lossy(&arguments).replace('\0', " ")));
        }
    }
    found
}

fn mounts(root: &Path) -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mounts").expect("/proc is there");
    all.lines().filter(|line| contains(line.as_bytes(), root)).map(str::to_owned).collect()
}

fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path()));
        }
    }
    found
}

fn contains(bytes: &[u8], root: &Path) -> bool {
    let root = root.as_os_str().as_encoded_bytes();
    bytes.windows(root.len()).any(|window| window == root)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use super::super::Stage;
    use super::*;

    /// A check that cannot fail proves nothing.
    #[test]
    fn a_process_or_file_that_stays_is_noticed() {
        let stage = Stage::new();
        assert_eq!(find(stage.root.path(), stage.engine()), "");

        let file = stage.temporary().join("forgotten");
        fs::write(&file, "x").unwrap();
        assert!(find(stage.root.path(), stage.engine()).contains("tmp/forgotten"));
        fs::remove_file(&file).unwrap();

        let mut cat = Command::new("cat");
        cat.arg("-u").env("TMPDIR", stage.temporary()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = cat.spawn().unwrap();
        // The kernel shows its arguments only when it has begun.
        process.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        process.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert!(find(stage.root.path(), stage.engine()).contains("cat -u"));
        process.kill().unwrap();
        process.wait().unwrap();
    }
}
