//! A master with two agents, of either kind, and the launcher on it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proto::http::{Client, ClientOptions};
use serde_json::Value;
use url::Url;

use crate::harness::{Launch, Mesos, Running, Stage, Turn};

/// How long what a launch used may still be there after its end: real agents remove a container after they have reported it.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// For tests that start many launchers, one after the other, on one cluster.
const CLUSTER_LIMIT: Duration = Duration::from_secs(480);

/// More than any answer of a test's master.
const MOST_BYTES: usize = 32 << 20;

/// What runs the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Master {
    /// `launch-container local`
    Local,
    /// Apache Mesos of this version.
    Mesos(&'static str),
}

impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.pad("local"),
            Self::Mesos(version) => f.pad(version),
        }
    }
}

enum Process {
    Local { running: Option<Running>, _turn: Turn },
    Mesos(Box<Mesos>),
}

/// A running master with agents. Fields are dropped in their order: the process ends before its stage is looked at.
pub(crate) struct Cluster {
    process: Process,
    pub(crate) master: Master,
    address: String,
    pub(crate) stage: Stage,
}

impl Cluster {
    /// Two agents; `flags` are for real Mesos, and those of agents that `launch-container local` has, too, for both.
    pub(crate) fn start(master: Master, flags: &[&str]) -> Self {
        Self::with_agents(2, master, flags)
    }

    /// Another number of agents.
    pub(crate) fn with_agents(agents: u32, master: Master, flags: &[&str]) -> Self {
        let stage = Stage::new().settling_within(SETTLES_WITHIN);
        let (process, address) = match master {
            Master::Local => {
                let turn = Turn::take();
                let mut options = ["local", "--port=0"].map(str::to_owned).to_vec();
                options.push(format!("--agents={agents}"));
                let of_both =
                    flags.iter().filter(|flag| flag.starts_with("resources=") || flag.starts_with("attributes="));
                options.extend(of_both.map(|flag| format!("--{flag}")));
                if !flags.iter().any(|flag| flag.starts_with("resources=")) {
                    options.push("--resources=cpus:4;mem:2048;disk:2048;ports:[31000-32000]".to_owned());
                }
                let running = stage.launcher(options).limit(CLUSTER_LIMIT).start();
                let said = String::from_utf8(running.wait_for_stdout("\n")).unwrap();
                let address = said.split_whitespace().find_map(|word| word.find("127.0.0.1:").map(|at| &word[at..]));
                let address = address.unwrap_or_else(|| panic!("no address in {said:?}")).to_owned();
                (Process::Local { running: Some(running), _turn: turn }, address)
            }
            Master::Mesos(version) => {
                let mesos = Mesos::start(&stage, version, agents, flags);
                let address = mesos.address().to_owned();
                (Process::Mesos(Box::new(mesos)), address)
            }
        };
        Self { process, master, address, stage }
    }

    /// `launch-container --master=... WORDS...`
    pub(crate) fn launcher(&self, words: &[&str]) -> Launch {
        self.stage.launcher([format!("--master={}", self.address).as_str()].iter().chain(words))
    }

    /// HOST:PORT of the master.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The directory of all that belongs to the cluster.
    pub(crate) fn root(&self) -> PathBuf {
        self.stage.files().parent().expect("it is in the stage's directory").to_owned()
    }

    /// All files of this name below it.
    pub(crate) fn files_named(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        find(&self.root(), name, &mut found);
        found
    }

    /// The one sandbox there is.
    pub(crate) fn sandbox(&self) -> PathBuf {
        let found = self.files_named("stdout");
        let [path] = found.as_slice() else { panic!("sandboxes: {found:?}") };
        path.parent().expect("it is in its sandbox").to_owned()
    }

    /// The stdout of the one sandbox there is.
    pub(crate) fn sandbox_stdout(&self) -> String {
        std::fs::read_to_string(self.sandbox().join("stdout")).unwrap()
    }

    /// The real one.
    pub(crate) fn mesos(&mut self) -> &mut Mesos {
        match &mut self.process {
            Process::Mesos(mesos) => mesos,
            Process::Local { .. } => panic!("this is the embedded master"),
        }
    }

    /// A JSON document of the master.
    pub(crate) fn get(&self, path: &str) -> Value {
        let url: Url = format!("http://{}{path}", self.address).parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let body = runtime.block_on(async {
            Client::new(ClientOptions::default()).unwrap().get(&url, MOST_BYTES).await.expect("the master answers")
        });
        serde_json::from_slice(&body).unwrap()
    }

    /// Whether the master still counts this framework among those that may have tasks.
    pub(crate) fn has_framework(&self, id: &str) -> bool {
        let state = self.get("/state");
        state["frameworks"]
            .as_array()
            .is_some_and(|frameworks| frameworks.iter().any(|framework| framework["id"] == id))
    }

    /// Whether the engine still has this container.
    pub(crate) fn has_container(&self, id: &str) -> bool {
        self.stage.engine().has(id)
    }

    /// A directory for one scenario, mounted into containers.
    pub(crate) fn files(&self, name: &str) -> PathBuf {
        let directory = self.stage.files().join(name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    /// The containers of all its tasks, ended ones too.
    pub(crate) fn containers(&self) -> Vec<String> {
        let files = self.stage.files();
        let root = files.parent().expect("it is in the stage's directory");
        let containers = self.stage.engine().containers_of(root);
        containers.into_iter().filter_map(|container| container.id).collect()
    }

    /// Waits until the agents, which have to be there for that, have removed the containers of all tasks.
    pub(crate) fn settle(&self) -> Result<(), String> {
        eventually(|| match self.containers().as_slice() {
            [] => Ok(()),
            left => Err(format!("containers left: {left:?}")),
        })
    }
}

fn find(directory: &Path, name: &str, found: &mut Vec<PathBuf>) {
    // What is looked through may be removed meanwhile.
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => find(&entry.path(), name, found),
            Ok(kind) if kind.is_file() && entry.file_name() == name => found.push(entry.path()),
            _ => {}
        }
    }
}

/// Tries until it is so, or [`SETTLES_WITHIN`] has passed.
pub(crate) fn eventually(mut condition: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let deadline = Instant::now() + SETTLES_WITHIN;
    loop {
        match condition() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            result => return result,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking()
            && let Err(left) = self.settle()
        {
            panic!("on {}: {left}", self.master);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Local { running, .. } = self
            && let Some(running) = running.take()
            && !std::thread::panicking()
        {
            running.interrupt();
            let ended = running.finish();
            assert!(matches!(ended.code, Some(0 | 130)), "{}", ended.said());
        }
    }
}
