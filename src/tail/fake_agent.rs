//! An agent for tests: serves one sandbox over HTTP on loopback, as each generation of Mesos does, and fails when told to.
//!
//! A small server of its own, because it must also do what a proper one never does: cut bodies, say nothing, close.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use url::Url;

use super::Location;

/// Whose manners are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mesos {
    V0_24,
    V0_28,
    V1_0,
    V1_4,
    V1_11,
}

impl Mesos {
    pub(super) const ALL: [Self; 5] = [Self::V0_24, Self::V0_28, Self::V1_0, Self::V1_4, Self::V1_11];

    fn version(self) -> &'static str {
        match self {
            Self::V0_24 => "0.24.2",
            Self::V0_28 => "0.28.3",
            Self::V1_0 => "1.0.4",
            Self::V1_4 => "1.4.3",
            Self::V1_11 => "1.11.0",
        }
    }
}

/// What goes wrong with one answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// Another status.
    Status(u16),
    /// The connection closes after so many bytes of the body.
    Cut(usize),
    /// Nothing ever comes.
    Silence,
    /// The body is something else.
    Garbage,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) at: Instant,
    /// `/files/read`.
    pub(super) route: String,
    /// The last part of the path that is asked for.
    pub(super) file: String,
    pub(super) offset: Option<i64>,
}

/// The agent; the test changes its [`World`] between two steps.
#[derive(Debug, Clone)]
pub(super) struct FakeAgent {
    pub(super) url: Url,
    world: Arc<Mutex<World>>,
}

#[derive(Debug)]
pub(super) struct World {
    mesos: Mesos,
    /// Whether the sandbox is there and served.
    pub(super) has_sandbox: bool,
    /// Whether its executor is left out of the agent's state.
    pub(super) is_forgotten: bool,
    /// The sandbox's files.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Taken by the next requests whose route and file contain the text.
    pub(super) faults: VecDeque<(&'static str, Fault)>,
    /// As long as it is set, nothing is answered otherwise.
    pub(super) outage: Option<Fault>,
    pub(super) requests: Vec<Request>,
    /// Requests that will never be answered, and whose clients still wait.
    pub(super) silenced: usize,
}

const DIRECTORY: &str = "/var/lib/m\u{e9}sos 1/slaves/S/frameworks/F/executors/E/runs/C";
const VIRTUAL: &str = "/frameworks/F/executors/E/runs/latest";

impl FakeAgent {
    pub(super) async fn start(mesos: Mesos) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a port");
        let url = Url::parse(&format!("http://{}", listener.local_addr().expect("it is bound"))).expect("a URL");
        let world = World {
            mesos,
            has_sandbox: true,
            is_forgotten: false,
            files: BTreeMap::from(["stdout", "stderr"].map(|name| (name.to_owned(), vec![]))),
            faults: VecDeque::new(),
            outage: None,
            requests: Vec::new(),
            silenced: 0,
        };
        let agent = Self { url, world: Arc::new(Mutex::new(world)) };
        let serving = agent.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(connection));
            }
        });
        agent
    }

    pub(super) fn location(&self) -> Location {
        Location {
            agents: vec![self.url.clone()],
            may_change_scheme: false,
            process: "/slave(1)".to_owned(),
            agent_id: "A".to_owned(),
            framework_id: "F".to_owned(),
            executor_id: "E".to_owned(),
        }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panicked with it")
    }

    /// The task writes.
    pub(super) fn append(&self, file: &str, bytes: &[u8]) {
        self.world().files.entry(file.to_owned()).or_default().extend_from_slice(bytes);
    }

    async fn serve(self, mut connection: TcpStream) {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match connection.read_u8().await {
                    // The beginning of a TLS handshake, which is no HTTP for an agent either.
                    Ok(0x16) if head.is_empty() => return,
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let head = String::from_utf8(head).expect("clients write ASCII");
            let target = head.split(' ').nth(1).expect("a request line");
            let (answer, fault) = self.world().answer(target);
            let (status, body) = match fault {
                Some(Fault::Silence) => {
                    self.world().silenced += 1;
                    let _ = connection.read_u8().await;
                    self.world().silenced -= 1;
                    return;
                }
                Some(Fault::Status(status)) => (status, b"as told".to_vec()),
                Some(Fault::Garbage) => (200, b"<html>".to_vec()),
                Some(Fault::Cut(_)) | None => answer,
            };
            let mut answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            let upto = match fault {
                Some(Fault::Cut(count)) => count.min(body.len()),
                _ => body.len(),
            };
            answer.extend_from_slice(&body[..upto]);
            if connection.write_all(&answer).await.is_err() || upto < body.len() {
                return;
            }
        }
    }
}

impl World {
    fn answer(&mut self, target: &str) -> ((u16, Vec<u8>), Option<Fault>) {
        let url = Url::parse("http://agent").and_then(|base| base.join(target)).expect("a target");
        let raw = |name: &str| {
            let pairs = url.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next()
        };
        let path = raw("path").map(|path| percent_decode_str(&path).decode_utf8_lossy().into_owned());
        let number = |name: &str| raw(name).map(|value| value.parse::<i64>().expect("a number"));
        let request = Request {
            at: Instant::now(),
            route: url.path().to_owned(),
            file: path.iter().flat_map(|path| path.rsplit('/')).next().unwrap_or_default().to_owned(),
            offset: number("offset"),
        };
        let text = format!("{} {}", request.route, request.file);
        self.requests.push(request);
        let planned = self.faults.iter().position(|(part, _)| text.contains(part));
        let fault = planned.and_then(|at| self.faults.remove(at)).map(|(_, fault)| fault).or(self.outage);
        (self.proper_answer(url.path(), path, number("offset"), number("length")), fault)
    }

    fn proper_answer(
        &self,
        route: &str,
        path: Option<String>,
        offset: Option<i64>,
        length: Option<i64>,
    ) -> (u16, Vec<u8>) {
        let (plain, is_json) = route.strip_suffix(".json").map_or((route, false), |plain| (plain, true));
        let is_served = if is_json { self.mesos < Mesos::V1_11 } else { self.mesos > Mesos::V0_24 };
        match (plain, path) {
            ("/version", _) if self.mesos >= Mesos::V0_28 && !is_json => {
                (200, format!(r#"{{"build_user":"x","version":"{}"}}"#, self.mesos.version()).into_bytes())
            }
            _ if !is_served => (404, vec![]),
            ("/slave(1)/state", _) => (200, self.state()),
            ("/files/read" | "/files/browse" | "/files/download", None) => (400, b"Expecting 'path=value'.".to_vec()),
            ("/files/read", Some(path)) => self
                .find(&path)
                .map_or((404, vec![]), |bytes| (200, self.read(bytes, offset.unwrap_or(-1), length.unwrap_or(-1)))),
            ("/files/download", Some(path)) => self.find(&path).map_or((404, vec![]), |bytes| (200, bytes.clone())),
            ("/files/browse", Some(path)) if self.is_sandbox(&path) => (200, self.browse(&path)),
            _ => (404, vec![]),
        }
    }

    fn is_sandbox(&self, path: &str) -> bool {
        self.has_sandbox && (path == DIRECTORY || (path == VIRTUAL && self.mesos >= Mesos::V1_11))
    }

    fn find(&self, path: &str) -> Option<&Vec<u8>> {
        let (directory, name) = path.rsplit_once('/')?;
        if self.is_sandbox(directory) { self.files.get(name) } else { None }
    }

    fn read(&self, bytes: &[u8], offset: i64, length: i64) -> Vec<u8> {
        let size = bytes.len() as i64;
        let (from, upto, said) = match offset {
            -1 => (size, size, size),
            _ if offset >= size => (size, size, if self.mesos > Mesos::V1_0 { offset } else { size }),
            _ => {
                let length = if length < 0 { size } else { length };
                (offset, size.min(offset + length.min(65536)), offset)
            }
        };
        let data = self.encode(&bytes[from as usize..upto as usize]);
        [b"{\"data\":\"", &data[..], format!("\",\"offset\":{said}}}").as_bytes()].concat()
    }

    fn encode(&self, data: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        for &byte in data {
            match byte {
                b'"' | b'\\' => text.extend([b'\\', byte]),
                b'\n' => text.extend(b"\\n"),
                ..0x20 => text.extend(format!("\\u{byte:04x}").bytes()),
                _ => text.push(byte),
            }
        }
        text
    }

    fn browse(&self, path: &str) -> Vec<u8> {
        let entries = self.files.iter().map(|(name, bytes)| {
            let size = bytes.len();
            format!(r#"{{"gid":"root","mode":"-rw-r--r--","mtime":1795393106.0,"nlink":1,"path":"{path}/{name}","size":{size},"uid":"root"}}"#)
        });
        format!("[{}]", entries.collect::<Vec<_>>().join(",")).into_bytes()
    }

    fn state(&self) -> Vec<u8> {
        let executor = format!(r#"{{"id":"E","name":"x","directory":"{DIRECTORY}","tasks":[]}}"#);
        let executors = if self.has_sandbox && !self.is_forgotten { &executor[..] } else { "" };
        let version = self.mesos.version();
        format!(r#"{{"version":"{version}","frameworks":[{{"id":"F","executors":[{executors}]}}]}}"#).into_bytes()
    }
}
