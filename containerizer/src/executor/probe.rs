//! Looks whether a task is well: runs a program in its container, or connects to it in its network. Decides nothing.
//!
//! Network probes are made from inside the container's network, where also what listens on its loopback address is
//! reached: on a thread that enters the network of the container's first process. Where that is not allowed (an executor
//! without root), the container's own address has to do.

mod program;

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

use super::checks::{Attempt, CheckKind, Finding, Found, Probe};
use crate::docker::{Engine, EngineError};
use crate::environment::Environment;
use crate::lifecycle::Started;

/// Makes probes.
#[derive(Debug, Clone)]
pub struct Prober {
    environment: Environment,
}

impl Prober {
    /// `environment` says where the engine is.
    pub fn new(environment: Environment) -> Self {
        Self { environment }
    }

    /// Makes one, of a container that runs. Ends within its limit, if only just.
    pub(super) async fn probe(self, started: Started, probe: Probe) -> (CheckKind, Finding) {
        let Probe { kind, attempt, limit } = probe;
        let finding = match attempt {
            Attempt::Command { argv, environment } => self.command(&started, argv, environment, limit).await,
            Attempt::Http { scheme, port, path, is_ipv6 } => {
                let get = move |host| {
                    let address = SocketAddr::new(host, port);
                    get(&format!("{scheme}://{address}{path}"), limit)
                };
                in_network(Network::of(&started), is_ipv6, limit, get).await
            }
            Attempt::Tcp { port, is_ipv6 } => {
                let connect = move |host| Ok(connect(SocketAddr::new(host, port), limit));
                in_network(Network::of(&started), is_ipv6, limit, connect).await
            }
            Attempt::Impossible { why } => Err(why),
        };
        (kind, finding)
    }

    async fn command(
        &self,
        started: &Started,
        argv: Vec<String>,
        environment: Vec<(String, String)>,
        limit: Option<Duration>,
    ) -> Finding {
        let text = |error: EngineError| error.to_string();
        let engine = Engine::connect(&self.environment).map_err(text)?;
        let environment = environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let program = engine.prepare_program(&started.docker_id, argv, environment).await.map_err(text)?;
        let Some(code) = limited(limit, engine.run_program(&program)).await else {
            // It would go on beside the next one.
            if let Ok(Some((pid, has_ended))) = engine.pid_of_program(&program).await {
                // With another view of processes, the number means another one.
                program::kill(pid, has_ended, |pid| is_of_container(pid, &started.docker_id));
            }
            return Err(late(limit));
        };
        let code = code.map_err(text)?;
        Ok(Found::ExitCode(i32::try_from(code).unwrap_or(i32::MAX)))
    }
}

/// `None` when it took too long.
async fn limited<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}

fn late(limit: Option<Duration>) -> String {
    format!("there was no result within {:?}", limit.unwrap_or_default())
}

fn is_of_container(pid: u32, docker_id: &str) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    !docker_id.is_empty() && groups.contains(docker_id)
}

/// How a container's network is reached.
#[derive(Debug)]
struct Network {
    /// To be entered; `None` where it is the executor's own, or out of reach.
    name_space: Option<File>,
    /// Where to connect to when nothing was entered: the container's address, if it has one.
    from_outside: Option<IpAddr>,
}

impl Network {
    fn of(started: &Started) -> Self {
        let from_outside = started.ip_address.as_deref().and_then(|address| address.parse().ok());
        let pid = started.pid.filter(|pid| is_of_container(*pid, &started.docker_id));
        let name_space = pid.and_then(|pid| File::open(format!("/proc/{pid}/ns/net")).ok());
        Self { name_space, from_outside }
    }

    /// Moves this thread into it; where to connect to then.
    fn enter(self, is_ipv6: bool) -> IpAddr {
        let loopback = if is_ipv6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
        let is_inside = match &self.name_space {
            Some(name_space) => {
                is_own(name_space).unwrap_or(false)
                    || move_into_link_name_space(name_space.as_fd(), Some(LinkNameSpaceType::Network)).is_ok()
            }
            None => false,
        };
        if is_inside { loopback } else { self.from_outside.unwrap_or(loopback) }
    }
}

fn is_own(name_space: &File) -> io::Result<bool> {
    let (theirs, own) = (name_space.metadata()?, std::fs::metadata("/proc/thread-self/ns/net")?);
    Ok((theirs.dev(), theirs.ino()) == (own.dev(), own.ino()))
}

/// Does blocking work in a network, on a thread of its own: a thread that has entered one does not come back.
async fn in_network(
    network: Network,
    is_ipv6: bool,
    limit: Option<Duration>,
    work: impl FnOnce(IpAddr) -> Finding + Send + 'static,
) -> Finding {
    let (sender, found) = oneshot::channel();
    let thread = std::thread::Builder::new().name("probe".to_owned()).spawn(move || {
        // Nobody waits any more when the limit has passed.
        let _ = sender.send(work(network.enter(is_ipv6)));
    });
    thread.map_err(|error| format!("no thread could be started for it: {error}"))?;
    match limited(limit, found).await {
        Some(Ok(finding)) => finding,
        Some(Err(_)) => Err("its thread ended without a result".to_owned()),
        None => Err(late(limit)),
    }
}

fn connect(address: SocketAddr, limit: Option<Duration>) -> Found {
    let connected = match limit {
        Some(limit) => TcpStream::connect_timeout(&address, limit),
        None => TcpStream::connect(address),
    };
    Found::Listens(connected.is_ok())
}

/// GET, on a runtime of this thread: what it starts stays in this thread's network.
fn get(url: &str, limit: Option<Duration>) -> Finding {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no client could be made for it: {error}"))?;
    runtime.block_on(async {
        // An error says that there is one already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::limited(MOST_REDIRECTS))
            // The certificate names the service, not the loopback address.
            .tls_danger_accept_invalid_certs(true);
        let client = match limit {
            Some(limit) => client.timeout(limit),
            None => client,
        };
        let client = client.build().map_err(|error| format!("no client could be made for it: {error}"))?;
        match client.get(url).send().await {
            Ok(answer) => Ok(Found::HttpStatus(answer.status().as_u16())),
            Err(error) if error.is_timeout() => Err(late(limit)),
            Err(error) => Err(format!("{url} did not answer: {}", root(&error))),
        }
    })
}

fn root(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let text = deepest.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// As curl, with which Mesos' own executors look.
const MOST_REDIRECTS: usize = 50;

#[cfg(test)]
mod tests;
