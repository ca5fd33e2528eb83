//! A Docker engine of a test's own, which the test may stop, kill, start again and fill.
//!
//! Its containerd is another process, as on a host with systemd: it outlives a killed dockerd. All that it starts is in one
//! control group, which tells what is left when the test ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::engine::IMAGE;

/// Whether containers outlive the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LiveRestore {
    On,
    Off,
}

/// Runs until dropped.
pub(crate) struct PrivateEngine {
    directory: tempfile::TempDir,
    group: String,
    live_restore: LiveRestore,
    data_root: PathBuf,
    storage_driver: &'static str,
    containerd: Child,
    dockerd: Option<Child>,
}

const LIMIT: Duration = Duration::from_secs(60);

impl PrivateEngine {
    /// With the base image. Needs root, as every engine does.
    pub(crate) fn start(live_restore: LiveRestore) -> Self {
        Self::start_on(live_restore, None, "vfs")
    }

    /// With its data on a disk of the test's, and the storage driver that suits it.
    pub(crate) fn start_on(live_restore: LiveRestore, disk: Option<&Path>, storage_driver: &'static str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test starts a Docker engine; run it as root");
        let directory = tempfile::Builder::new().prefix("launch-container-engine.").tempdir().unwrap();
        let data_root = disk.map_or_else(|| directory.path().join("data"), Path::to_owned);
        let group = directory.path().file_name().unwrap().to_str().unwrap().replace('.', "-");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{}\"\n",
            path("containerd-root"),
            path("containerd-state"),
            path("containerd.sock")
        );
        fs::write(path("containerd.toml"), config).unwrap();
        let containerd =
            start("containerd", &["--config", &path("containerd.toml")], &directory.path().join("containerd.log"));
        let mut engine = Self { directory, group, live_restore, data_root, storage_driver, containerd, dockerd: None };
        let socket = engine.directory.path().join("containerd.sock");
        wait_until("containerd", || socket.exists());
        engine.restart();
        let image = Command::new("docker").args(["save", IMAGE]).output().unwrap();
        assert!(image.status.success(), "{}", String::from_utf8_lossy(&image.stderr));
        let archive = engine.directory.path().join("image.tar");
        fs::write(&archive, image.stdout).unwrap();
        engine.docker(&["load", "--quiet", "--input", archive.to_str().unwrap()]);
        engine
    }

    /// For DOCKER_HOST.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    /// `docker WORDS...` with this engine.
    pub(crate) fn docker(&self, words: &[&str]) -> String {
        let ran = self.command().args(words).output().unwrap();
        assert!(ran.status.success(), "docker {words:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    }

    /// All containers' names, running or not.
    pub(crate) fn names(&self) -> String {
        self.docker(&["ps", "--all", "--format", "{{.Names}}"])
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(self.host());
        command
    }

    /// SIGKILL; containers and containerd stay.
    pub(crate) fn kill(&mut self) {
        let mut dockerd = self.dockerd.take().expect("it runs");
        dockerd.kill().unwrap();
        dockerd.wait().unwrap();
    }

    /// SIGTERM, as a restart of the service does.
    pub(crate) fn shut_down(&mut self) {
        let mut dockerd = self.dockerd.take().expect("it runs");
        kill_process(Pid::from_child(&dockerd), Signal::TERM).unwrap();
        dockerd.wait().unwrap();
    }

    /// Starts it again, and waits until it answers.
    pub(crate) fn restart(&mut self) {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        // What a killed one has left; its pid may be another's by now.
        let _ = fs::remove_file(path("engine.pid"));
        let mut words = vec![
            format!("--host={}", self.host()),
            format!("--data-root={}", self.data_root.display()),
            format!("--exec-root={}", path("exec")),
            format!("--pidfile={}", path("engine.pid")),
            format!("--containerd={}", path("containerd.sock")),
            format!("--cgroup-parent=/{}", self.group),
            format!("--storage-driver={}", self.storage_driver),
        ];
        words.extend(["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"].map(str::to_owned));
        if self.live_restore == LiveRestore::On {
            words.push("--live-restore".to_owned());
        }
        // An engine without a bridge removes the one that is there: the machine's, were it not in a network of its own.
        let mut all = vec!["--net", "--", "dockerd"];
        all.extend(words.iter().map(String::as_str));
        self.dockerd = Some(start("unshare", &all, &self.directory.path().join("engine.log")));
        wait_until("the private engine", || {
            self.command().args(["version"]).output().is_ok_and(|ran| ran.status.success())
        });
    }

    /// SIGSTOP: it takes connections and answers nothing.
    pub(crate) fn hang(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.dockerd.as_ref().expect("it runs")), signal).unwrap();
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if let Some(mut dockerd) = self.dockerd.take() {
            let _ = dockerd.kill();
            let _ = dockerd.wait();
        }
        let _ = self.containerd.kill();
        let _ = self.containerd.wait();
        // Shims have the path among their arguments, containers are in the group.
        super::leftovers::kill(self.directory.path());
        let deadline = Instant::now() + Duration::from_secs(10);
        while !clear_groups(&self.group) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let root = self.directory.path().display().to_string();
        for point in
            mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.starts_with(&root))
        {
            let _ = Command::new("umount").args(["--lazy", point]).output();
        }
    }
}

fn start(program: &str, words: &[&str], log: &Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(log).unwrap();
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("cannot start {program} ({error}); run scripts/provide-docker"))
}

/// Kills all in the groups of this name, and removes the groups; whether none is left.
fn clear_groups(name: &str) -> bool {
    let mut is_clear = true;
    for entry in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        is_clear &= clear_group(&entry.path().join(name));
    }
    is_clear & clear_group(&Path::new("/sys/fs/cgroup").join(name))
}

fn clear_group(group: &Path) -> bool {
    if !group.is_dir() {
        return true;
    }
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            clear_group(&entry.path());
        }
    }
    for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    fs::remove_dir(group).is_ok()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
}
