//! A registry of one test's own, images in it, and things on the way to it that hold up.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::IMAGE;

/// The first start may have to get the package.
const START_LIMIT: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(60);

/// A server of `scripts/registry`; stopped when dropped.
pub(crate) struct Registry {
    address: String,
    script: Child,
    user: Option<String>,
}

impl Registry {
    /// For everybody, or for `NAME:PASSWORD` alone.
    pub(crate) fn start(user: Option<&str>) -> Self {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/registry"));
        command.args(user.map(|user| format!("--user={user}")));
        let mut script = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the script starts");
        let mut output = BufReader::new(script.stdout.take().unwrap());
        let (sender, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = output.read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = line.recv_timeout(START_LIMIT).expect("the script says the address");
        let registry = Self { address: line.trim().to_owned(), script, user: user.map(str::to_owned) };
        assert!(!registry.address.is_empty(), "scripts/registry failed, see above");
        registry
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Puts an image with a layer of its own there, which then is not here any more.
    pub(crate) fn push(&self, name: &str) -> Pushed {
        let name = format!("{}/{name}", self.address);
        let scratch = tempfile::tempdir().unwrap();
        let unique = scratch.path().join("unique");
        let random: Vec<u8> = uuid::Uuid::new_v4().into_bytes().repeat(4096);
        std::fs::write(&unique, random).unwrap();
        let container = docker(&["create", IMAGE, "true"]);
        docker(&["cp", unique.to_str().unwrap(), &format!("{container}:/unique")]);
        docker(&["commit", &container, &name]);
        docker(&["rm", &container]);
        std::fs::write(scratch.path().join("config.json"), self.config_file()).unwrap();
        docker(&["--config", scratch.path().to_str().unwrap(), "push", "--quiet", &name]);
        let digests = docker(&["image", "inspect", "--format", "{{join .RepoDigests \" \"}}", &name]);
        let by_digest = digests.split(' ').find(|digest| digest.starts_with(&self.address)).unwrap().to_owned();
        let pushed = Pushed { name, by_digest };
        pushed.remove_here();
        pushed
    }

    /// What `docker login` would have written.
    pub(crate) fn config_file(&self) -> String {
        use base64::Engine as _;
        let auth = base64::engine::general_purpose::STANDARD.encode(self.user.as_deref().unwrap_or(":"));
        format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.script), Signal::TERM);
        let _ = self.script.wait();
    }
}

/// An image that is there and, unless a test has it pulled, not here.
pub(crate) struct Pushed {
    pub(crate) name: String,
    pub(crate) by_digest: String,
}

impl Pushed {
    pub(crate) fn remove_here(&self) {
        let _ = Command::new("docker").args(["rmi", "--force", &self.name, &self.by_digest]).output();
    }

    /// The same image as if it came from another address.
    pub(crate) fn at(&self, address: &str) -> Self {
        let at = |name: &str| format!("{address}/{}", name.split_once('/').unwrap().1);
        Self { name: at(&self.name), by_digest: at(&self.by_digest) }
    }
}

impl Drop for Pushed {
    fn drop(&mut self) {
        self.remove_here();
    }
}

pub(crate) fn docker(words: &[&str]) -> String {
    let ran = Command::new("docker").args(words).output().unwrap();
    assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

/// A registry's address at which connections are taken, and nothing is said.
pub(crate) struct Silence {
    pub(crate) address: String,
    taken: mpsc::Receiver<TcpStream>,
    kept: Vec<TcpStream>,
}

impl Silence {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, taken) = mpsc::channel();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if sender.send(connection).is_err() {
                    return;
                }
            }
        });
        Self { address, taken, kept: Vec::new() }
    }

    /// Until the engine has come for something.
    pub(crate) fn wait_for_connection(&mut self) {
        self.kept.push(self.taken.recv_timeout(LIMIT).expect("the engine comes"));
    }
}

/// In front of a registry: lets nothing pass before it is opened.
pub(crate) struct Gate {
    pub(crate) address: String,
    state: Arc<GateState>,
}

#[derive(Default)]
struct GateState {
    is_open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn before(registry: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(GateState::default());
        let (registry, shared) = (registry.to_owned(), state.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (registry, shared) = (registry.clone(), shared.clone());
                std::thread::spawn(move || pass(client, &registry, &shared));
            }
        });
        Self { address, state }
    }

    pub(crate) fn open(&self) {
        *self.state.is_open.lock().unwrap() = true;
        self.state.changed.notify_all();
    }
}

fn pass(client: TcpStream, registry: &str, state: &GateState) {
    let is_open = state.is_open.lock().unwrap();
    drop(state.changed.wait_while(is_open, |is_open| !*is_open).unwrap());
    let Ok(server) = TcpStream::connect(registry) else { return };
    let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        let _ = std::io::copy(&mut back_from, &mut back_to);
        let _ = back_to.shutdown(std::net::Shutdown::Both);
    });
    let (mut from, mut to) = (client, server);
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = back.join();
}
