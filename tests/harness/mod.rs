//! Test support: the real binary on a stage of its own, and nothing left on it afterwards.
//!
//! A [`Stage`] is one test's temporary directory, given to the launcher as `TMPDIR` and `HOME`. What belongs to a test is told
//! by that path: containers that mount or are labelled with it, processes that have it in their environment or arguments,
//! files in it. So tests may run side by side. When a stage is dropped, all of that must be gone.
//!
//! Everything waits with a limit, and a limit that passes fails the test with what the launcher had said until then.
//! Without Docker or the base image a test fails, and says which script provides them.

#![allow(dead_code, unused_imports, reason = "every test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod detour;
mod engine;
mod leftovers;
mod mesos;
pub(crate) mod nginx;
mod private_engine;
mod proxy;
mod running;
mod scripted;
mod server;
mod wire;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) use detour::Detour;
pub(crate) use engine::{Engine, IMAGE};
pub(crate) use mesos::{Mesos, Turn};
pub(crate) use nginx::{Authority, Nginx};
pub(crate) use private_engine::{LiveRestore, PrivateEngine};
pub(crate) use proxy::{Fault, Proxy};
pub(crate) use running::{Ended, Launch, Reader, Running, Terminal};
pub(crate) use scripted::{Script, Scripted};
pub(crate) use server::{Gate, Registry, Server, closed_port};
pub(crate) use wire::{Trick, Weather, Wire};

/// How long a launch may take before the test fails; generous, since tests share two cores.
pub(crate) const LAUNCH_LIMIT: Duration = Duration::from_secs(60);

/// Whom root becomes to be nobody special.
const NOBODY: u32 = 65534;

/// One test's own directory, and what may be left of the test when it ends: nothing.
pub(crate) struct Stage {
    root: tempfile::TempDir,
    engine: Engine,
    /// How long after the launcher's end something may still be there.
    settles_within: Duration,
}

impl Stage {
    /// An empty stage.
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("launch-container-test.").tempdir().expect("a temporary directory");
        for part in ["tmp", "home", "files"] {
            std::fs::create_dir(root.path().join(part)).expect("a directory");
        }
        let engine = Engine::connect();
        engine.require_image();
        Self { root, engine, settles_within: Duration::ZERO }
    }

    /// For launchers that end without waiting for what they started: it must be gone after this time.
    pub(crate) fn settling_within(mut self, limit: Duration) -> Self {
        self.settles_within = limit;
        self
    }

    /// The same for a stage that is in use.
    pub(crate) fn settle_within(&mut self, limit: Duration) {
        self.settles_within = limit;
    }

    /// A directory for the test's own files, which may stay.
    pub(crate) fn files(&self) -> PathBuf {
        self.root.path().join("files")
    }

    /// The launcher's TMPDIR.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.path().join("tmp")
    }

    /// The engine that runs this test's containers.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// `launch-container WORDS...`
    pub(crate) fn launcher<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Launch {
        let mut command = Command::new(env!("CARGO_BIN_EXE_launch-container"));
        command.args(words);
        Launch::new(self.at_home(command))
    }

    /// With the stage's directories, and nothing that the machine or the user may have set.
    fn at_home(&self, mut command: Command) -> Command {
        command.env("TMPDIR", self.temporary()).env("HOME", self.root.path().join("home")).current_dir(self.files());
        for foreign in [
            "MESOS_MASTER",
            "MESOS_PRINCIPAL",
            "MESOS_SECRET_FILE",
            "XDG_RUNTIME_DIR",
            "XDG_STATE_HOME",
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
        ] {
            command.env_remove(foreign);
        }
        for name in std::env::vars_os().map(|(name, _)| name) {
            if name.to_string_lossy().starts_with("LAUNCH_CONTAINER_") {
                command.env_remove(name);
            }
        }
        command.env_remove("RUST_LOG").env_remove("http_proxy").env_remove("HTTP_PROXY").env_remove("ALL_PROXY");
        command
    }

    /// `launch-container --master=local OPTIONS... IMAGE CMD...`
    pub(crate) fn local(&self, options: &[&str], cmd: &[&str]) -> Launch {
        self.launcher(["--master=local"].iter().chain(options).chain(&[IMAGE]).chain(cmd))
    }

    /// `launch-container --master=local IMAGE SCRIPT`, to its end.
    pub(crate) fn shell(&self, script: &str) -> Ended {
        self.local(&[], &[script]).run()
    }

    /// As [`Stage::local`], by a user who is not root and may use Docker.
    pub(crate) fn local_without_root(&self, options: &[&str], cmd: &[&str]) -> Launch {
        if !rustix::process::geteuid().is_root() {
            return self.local(options, cmd);
        }
        // Where the project lies may be closed to others, so the binary comes along.
        let binary = self.root.path().join("launch-container");
        std::fs::copy(env!("CARGO_BIN_EXE_launch-container"), &binary).expect("the binary is copied");
        for path in ["", "tmp", "home", "files"].map(|part| self.root.path().join(part)) {
            std::os::unix::fs::chown(path, Some(NOBODY), None).expect("root may chown");
        }
        let mut command = Command::new("setpriv");
        command.args([
            format!("--reuid={NOBODY}"),
            format!("--regid={}", engine::group()),
            "--clear-groups".to_owned(),
        ]);
        command.arg(binary).arg("--master=local").args(options).arg(IMAGE).args(cmd);
        Launch::new(self.at_home(command))
    }

    /// A file of the test that only its owner may read, and its path.
    pub(crate) fn private_file(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.files().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The command lines and environments of the processes of this stage, as anybody with the right could read them.
    pub(crate) fn processes(&self) -> Vec<leftovers::Process> {
        leftovers::processes_of(self.root.path())
    }

    /// Waits until one container of this stage runs, and returns the engine's id of it.
    pub(crate) fn running_container(&self) -> String {
        self.engine.wait_for_running(self.root.path())
    }

    /// Waits until the containers of this stage are gone, for agents that remove them after the task's end was told.
    pub(crate) fn wait_until_no_container(&self, limit: Duration) {
        let deadline = std::time::Instant::now() + limit;
        while let [left, ..] = self.engine.containers_of(self.root.path()).as_slice() {
            assert!(std::time::Instant::now() < deadline, "there is still the container {left:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Fails when something of this stage is still there.
    pub(crate) fn assert_nothing_left(&self) {
        if let Err(left) = leftovers::wait_until_none(self.root.path(), &self.engine, self.settles_within) {
            panic!("left behind:\n{left}");
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            leftovers::clear(self.root.path(), &self.engine);
        } else if let Err(left) = leftovers::wait_until_none(self.root.path(), &self.engine, self.settles_within) {
            leftovers::clear(self.root.path(), &self.engine);
            panic!("left behind:\n{left}");
        }
    }
}

/// The bytes of a file of the stage.
pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}
