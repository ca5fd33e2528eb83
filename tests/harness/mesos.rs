//! A real Apache Mesos: master and agents in one process, with this project's executor on the agents.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::process::Signal;

use super::Stage;
use super::running::{Launch, Running};

/// The first start on a machine fetches and links Mesos; every other one takes four seconds.
const START_LIMIT: Duration = Duration::from_secs(450);

/// The names under which the agent looks for executors in its `launcher_dir`.
const EXECUTORS: [&str; 2] = ["mesos-docker-executor", "mesos-executor"];

/// What every cluster of the tests is started with; a later flag of the same name wins.
const FLAGS: [&str; 7] = [
    "containerizers=docker",
    "resources=cpus:4;mem:2048;disk:2048;ports:[31000-32000]",
    r#"executor_environment_variables={"PATH":"/usr/local/bin:/usr/bin:/bin"}"#,
    // So that no test waits for the next round of offers.
    "allocation_interval=50ms",
    // The agent itself removes ended containers, by default after six hours.
    "docker_remove_delay=0secs",
    // An agent that starts would end every container `mesos-...` of the engine, those of other tests and users too: only
    // for engines of a test's own.
    "docker_kill_orphans=false",
    // Long enough for a test, short enough that one that fails does not leave executors behind for minutes.
    "recovery_timeout=1mins",
];

/// A cluster that runs on a [`Stage`], until it is stopped or dropped.
///
/// What its tasks leave behind is found by the stage, since their sandboxes lie in its directory. When the test fails, the
/// log of master and agents is kept.
pub(crate) struct Mesos {
    version: &'static str,
    process: Option<Running>,
    address: String,
    directory: PathBuf,
    agents: u32,
    flags: Vec<String>,
    _turn: Turn,
}

/// The right to have a cluster, one at a time on this machine whatever runs the tests: an agent that starts inspects every
/// container `mesos-...`, and ends when somebody else removes one of them meanwhile.
pub(crate) struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits for it.
    pub(crate) fn take() -> Self {
        let user = rustix::process::geteuid().as_raw();
        let path = std::env::temp_dir().join(format!("launch-container-cluster-{user}.lock"));
        let lock = File::options().create(true).append(true).open(path).expect("a file");
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("the file can be locked");
        Self { _lock: lock }
    }
}

impl Mesos {
    /// Starts one; `flags` are NAME=VALUE as for `scripts/mesos`.
    pub(crate) fn start(stage: &Stage, version: &'static str, agents: u32, flags: &[&str]) -> Self {
        let turn = Turn::take();
        let directory = stage.root.path().join("mesos");
        let launcher = directory.join("libexec");
        std::fs::create_dir_all(&launcher).unwrap();
        std::fs::create_dir_all(directory.join("tmp")).unwrap();
        for name in EXECUTORS {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_launch-container"), launcher.join(name)).unwrap();
        }
        let flags = FLAGS
            .iter()
            .chain(flags)
            .map(|&flag| flag.to_owned())
            .chain([format!("launcher_dir={}", launcher.display())])
            .collect();
        let mut mesos = Self { version, process: None, address: String::new(), directory, agents, flags, _turn: turn };
        mesos.run(0);
        mesos
    }

    fn run(&mut self, port: u16) {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mesos"));
        command.args([self.version, "--agents", &self.agents.to_string(), "--port", &port.to_string()]);
        command.arg("--work-dir").arg(self.directory.join("work")).arg("--log").arg(self.log());
        command.args(&self.flags).env("TMPDIR", self.directory.join("tmp")).env_remove("MESOS_MASTER");
        let process = Launch::new(command).limit(START_LIMIT).start();
        let said = process.wait_for_stdout("\n");
        let said = String::from_utf8(said).unwrap();
        self.address = said.trim().trim_start_matches("http://").to_owned();
        self.process = Some(process);
    }

    /// HOST:PORT of the master, which is also that of the agents.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Ends master and agents, as a machine that goes down; what they started goes on.
    pub(crate) fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal(Signal::TERM);
            process.finish().expect_code(0);
        }
    }

    /// Starts it again where it was, with what master and agents remember.
    pub(crate) fn start_again(&mut self) {
        let port = self.address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address has a port");
        self.run(port);
    }

    fn log(&self) -> PathBuf {
        self.directory.join("mesos.log")
    }

    fn keep_log(&self) {
        let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "mesos-{}-{}.log",
            self.version,
            std::process::id()
        ));
        match std::fs::copy(self.log(), &kept) {
            Ok(_) => eprintln!("the log of Mesos {} is kept in {}", self.version, kept.display()),
            Err(error) => eprintln!("the log of Mesos {} is lost: {error}", self.version),
        }
    }
}

impl Drop for Mesos {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_log();
            // Not `stop`, which could panic once more; the script ends the cluster and then itself.
            if let Some(process) = self.process.take() {
                process.end(Signal::TERM);
            }
        } else {
            self.stop();
        }
    }
}
