//! The libprocess messages between an agent and its executor, Mesos 0.19 to 1.11: the wire of Mesos' own executors.
//!
//! ```text
//! executor(1)@IP:PORT                                   slave(1)@IP:PORT
//!      | one kept connection, our messages ------------------> |       its loss: the agent is gone
//!      | <------------------ connections that the agent opens, |
//!      |                     its messages, nothing is answered |
//!
//!  unregistered --Register--> registering --Registered--> registered --link lost--> orphaned
//!                                                             ^                         | Reconnect, from the
//!                                                             `------- Reregister ------'  agent started again
//! ```
//!
//! An agent that was started again finds its executors by the port it remembers, and shuts down who speaks first: so an
//! orphan's new subscription waits for the agent's `ReconnectExecutorMessage`, and the port stays open all the time.

mod message;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use prost::{Message, Name};
use proto::executor::{Call, call, event};
use proto::{compat, internal, mesos};
use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::message::{Decoder, Incoming};
use super::core::Input;
use super::environment::{Environment, Pid};

/// The agent, as its libprocess executor sees it.
pub struct Libprocess {
    framework_id: mesos::FrameworkId,
    executor_id: mesos::ExecutorId,
    agent_id: mesos::AgentId,
    agent: Pid,
    own: Pid,
    heard: mpsc::Receiver<Heard>,
    ear: mpsc::Sender<Heard>,
    link: Option<Link>,
    links_opened: u64,
    registered: Option<Box<event::Subscribed>>,
    /// Waits for the agent's reconnection.
    orphan: Option<call::Subscribe>,
    /// The agent asked for a reconnection that the core does not know of yet.
    reconnect: Option<Pid>,
    ready: VecDeque<Input>,
    /// The listener and the links; they end with this.
    background: JoinSet<()>,
}

struct Link {
    number: u64,
    outbox: mpsc::UnboundedSender<Outgoing>,
}

enum Outgoing {
    Registration(Vec<u8>),
    /// Its writing is told.
    Call(Vec<u8>),
    /// Only look whether the agent is still there.
    Look,
}

enum Heard {
    Message(Incoming),
    Written { link: u64 },
    IsAlive { link: u64 },
    Lost { link: u64, reason: String },
}

impl Libprocess {
    /// Opens the port at which the agent will speak; says nothing yet.
    ///
    /// With a `port` it takes the place of an executor that listened there and was killed: the agent knows it, and will ask for
    /// its reconnection there when it is started again.
    ///
    /// # Errors
    /// When no port can be opened, or the agent speaks TLS.
    pub async fn new(environment: &Environment, port: Option<u16>) -> Result<Self, LibprocessError> {
        let agent = environment.agent_pid.clone();
        if environment.is_tls {
            return Err(LibprocessError::Tls { agent });
        }
        let ip = match environment.libprocess_ip {
            Some(ip) => ip,
            None => address_towards(&agent)
                .await
                .map_err(|source| LibprocessError::NoRoute { agent: agent.clone(), source })?,
        };
        let listen = |source| LibprocessError::Listen { ip, source };
        let listener = TcpListener::bind((ip, port.unwrap_or(0))).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let told = SocketAddr::new(environment.libprocess_advertise_ip.unwrap_or(address.ip()), address.port());
        let own = format!("executor(1)@{told}").parse().expect("a socket address is the address of a pid");
        let (ear, heard) = mpsc::channel(HEARD_AT_ONCE);
        let mut background = JoinSet::new();
        background.spawn(listen_to_all(listener, ear.clone()));
        Ok(Self {
            framework_id: mesos::FrameworkId { value: environment.framework_id.clone() },
            executor_id: mesos::ExecutorId { value: environment.executor_id.clone() },
            agent_id: mesos::AgentId { value: environment.agent_id.clone() },
            agent,
            own,
            heard,
            ear,
            link: None,
            links_opened: 0,
            registered: port.map(|_| Box::default()),
            orphan: None,
            reconnect: None,
            ready: VecDeque::new(),
            background,
        })
    }

    /// Where the agent's messages are heard.
    pub(super) fn port(&self) -> u16 {
        self.own.port
    }

    /// Registers; again only when the agent asks for it.
    pub(super) fn subscribe(&mut self, call: Call) {
        let lists = call.subscribe.unwrap_or_default();
        if self.registered.is_none() {
            self.open_link(self.agent.clone());
            let message = internal::RegisterExecutorMessage {
                framework_id: self.framework_id.clone(),
                executor_id: self.executor_id.clone(),
            };
            self.say(&message, Outgoing::Registration);
        } else if let Some(agent) = self.reconnect.take() {
            self.reregister(agent, lists);
        } else {
            self.orphan = Some(lists);
        }
    }

    /// Sends an update or a message for the framework; `next` tells how it went.
    pub(super) fn send(&mut self, call: Call) {
        let is_said = if let Some(update) = call.update {
            let message =
                internal::StatusUpdateMessage { update: self.update(update.status), pid: Some(self.own.to_string()) };
            self.say(&message, Outgoing::Call)
        } else if let Some(call::Message { data }) = call.message {
            let message = internal::ExecutorToFrameworkMessage {
                agent_id: self.agent_id.clone(),
                framework_id: self.framework_id.clone(),
                executor_id: self.executor_id.clone(),
                data,
            };
            self.say(&message, Outgoing::Call)
        } else {
            return;
        };
        if !is_said {
            let reason = format!("cannot send an update to {}: no connection", self.agent);
            self.ready.push_back(Input::SendFailed { reason });
        }
    }

    /// The next thing the agent says. Cancel safe.
    pub(super) async fn next(&mut self) -> Input {
        loop {
            if let Some(input) = self.ready.pop_front() {
                return input;
            }
            // Ends with a task of ours, not with the channel: `ear` is kept.
            let Some(heard) = self.heard.recv().await else { return std::future::pending().await };
            if let Some(input) = self.take(heard) {
                return input;
            }
        }
    }

    fn take(&mut self, heard: Heard) -> Option<Input> {
        let current = self.link.as_ref().map(|link| link.number);
        match heard {
            Heard::Message(message) => match self.read(&message) {
                Ok(input) => input,
                Err(error) => {
                    // Anybody may write to this port, and a message that was the agent's is sent again or not missed.
                    tracing::warn!(name = message.name, %error, "a message that cannot be read is passed over");
                    None
                }
            },
            Heard::Written { link } if current == Some(link) => Some(Input::Sent),
            Heard::IsAlive { link } if current == Some(link) => {
                // It asked twice, and was answered the first time.
                self.reconnect = None;
                None
            }
            Heard::Lost { link, reason } if current == Some(link) => {
                self.link = None;
                Some(Input::Disconnected { reason })
            }
            Heard::Written { .. } | Heard::IsAlive { .. } | Heard::Lost { .. } => None,
        }
    }

    fn read(&mut self, message: &Incoming) -> Result<Option<Input>, prost::DecodeError> {
        let Some(name) = message.name.strip_prefix("mesos.internal.") else { return Ok(None) };
        Ok(match name {
            internal::ExecutorRegisteredMessage::NAME => {
                let it: internal::ExecutorRegisteredMessage = compat::decode(&message.body)?;
                let mut subscribed = event::Subscribed {
                    executor_info: it.executor_info,
                    framework_info: it.framework_info,
                    agent_info: it.agent_info,
                    container_id: None,
                };
                subscribed.agent_info.id = Some(it.agent_id);
                self.subscribed(Box::new(subscribed))
            }
            internal::ExecutorReregisteredMessage::NAME => {
                let it: internal::ExecutorReregisteredMessage = compat::decode(&message.body)?;
                self.registered.take().and_then(|mut subscribed| {
                    subscribed.agent_info = mesos::AgentInfo { id: Some(it.agent_id), ..it.agent_info };
                    self.subscribed(subscribed)
                })
            }
            internal::RunTaskMessage::NAME => {
                let it: internal::RunTaskMessage = compat::decode(&message.body)?;
                Some(Input::Launch(Box::new(it.task)))
            }
            internal::KillTaskMessage::NAME => {
                let it: internal::KillTaskMessage = compat::decode(&message.body)?;
                Some(Input::Kill { task_id: it.task_id.value, kill_policy: it.kill_policy })
            }
            internal::StatusUpdateAcknowledgementMessage::NAME => {
                let it: internal::StatusUpdateAcknowledgementMessage = compat::decode(&message.body)?;
                Some(Input::Acknowledged { task_id: it.task_id.value, uuid: it.uuid })
            }
            internal::FrameworkToExecutorMessage::NAME => {
                let it: internal::FrameworkToExecutorMessage = compat::decode(&message.body)?;
                Some(Input::Message(it.data))
            }
            internal::ShutdownExecutorMessage::NAME => Some(Input::Shutdown),
            internal::ReconnectExecutorMessage::NAME => {
                self.on_reconnect(message.from.clone());
                None
            }
            _ => None,
        })
    }

    fn subscribed(&mut self, subscribed: Box<event::Subscribed>) -> Option<Input> {
        self.registered = Some(subscribed.clone());
        self.link.as_ref().map(|_| Input::Subscribed(subscribed))
    }

    fn on_reconnect(&mut self, from: Option<Pid>) {
        let agent = from.unwrap_or_else(|| self.agent.clone());
        if let Some(lists) = self.orphan.take() {
            return self.reregister(agent, lists);
        }
        // Either the core has not asked for a new subscription yet, or the loss of the link was not even noticed.
        self.reconnect = Some(agent);
        if let Some(link) = &self.link {
            let _ = link.outbox.send(Outgoing::Look);
        }
    }

    fn reregister(&mut self, agent: Pid, lists: call::Subscribe) {
        self.agent = agent.clone();
        self.open_link(agent);
        let message = internal::ReregisterExecutorMessage {
            executor_id: self.executor_id.clone(),
            framework_id: self.framework_id.clone(),
            tasks: lists.unacknowledged_tasks,
            updates: lists.unacknowledged_updates.into_iter().map(|update| self.update(update.status)).collect(),
        };
        self.say(&message, Outgoing::Registration);
    }

    fn update(&self, status: mesos::TaskStatus) -> internal::StatusUpdate {
        internal::StatusUpdate {
            framework_id: self.framework_id.clone(),
            executor_id: Some(self.executor_id.clone()),
            agent_id: Some(status.agent_id.clone().unwrap_or_else(|| self.agent_id.clone())),
            timestamp: status.timestamp.unwrap_or_default(),
            uuid: status.uuid.clone(),
            status,
        }
    }

    fn open_link(&mut self, agent: Pid) {
        self.links_opened += 1;
        let number = self.links_opened;
        let (outbox, outgoing) = mpsc::unbounded_channel();
        self.link = Some(Link { number, outbox });
        let ear = self.ear.clone();
        self.background.spawn(async move {
            let Err(error) = keep_link(number, &agent, outgoing, &ear).await else { return };
            let reason = format!("the connection to the agent {agent} is lost: {error}");
            let _ = ear.send(Heard::Lost { link: number, reason }).await;
        });
        // Links that are over leave their results behind.
        while self.background.try_join_next().is_some() {}
    }

    /// Whether there is a link to say it on.
    fn say<M: Message + Name>(&self, message: &M, outgoing: impl FnOnce(Vec<u8>) -> Outgoing) -> bool {
        let bytes = message::encode(&self.own, &self.agent, &M::full_name(), &message.encode_to_vec());
        self.link.as_ref().is_some_and(|link| link.outbox.send(outgoing(bytes)).is_ok())
    }
}

/// Our own address as the agent's host sees it; nothing is sent.
async fn address_towards(agent: &Pid) -> io::Result<IpAddr> {
    let any = if agent.host.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(format!("{}:{}", agent.host, agent.port)).await?;
    Ok(socket.local_addr()?.ip())
}

/// Writes to the agent and watches for its end. Ends well only when the other end of `outgoing` is dropped.
async fn keep_link(
    number: u64,
    agent: &Pid,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    ear: &mpsc::Sender<Heard>,
) -> io::Result<()> {
    let connect = TcpStream::connect(format!("{}:{}", agent.host, agent.port));
    let mut stream = limited(CONNECT_LIMIT, connect).await?;
    stream.set_nodelay(true)?;
    let mut ignored = [0; 1024];
    loop {
        tokio::select! {
            next = outgoing.recv() => match next {
                None => return Ok(()),
                Some(Outgoing::Registration(bytes)) => limited(WRITE_LIMIT, stream.write_all(&bytes)).await?,
                Some(Outgoing::Call(bytes)) => {
                    limited(WRITE_LIMIT, stream.write_all(&bytes)).await?;
                    let _ = ear.send(Heard::Written { link: number }).await;
                }
                Some(Outgoing::Look) => {
                    // The kernel knows of an agent's death before the runtime has told anyone.
                    match rustix::net::recv(stream.as_fd(), &mut ignored, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
                        Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(_) | Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                    let _ = ear.send(Heard::IsAlive { link: number }).await;
                }
            },
            read = stream.read(&mut ignored) => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

async fn limited<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Takes whatever connections come; an agent opens new ones as it likes, and some only to see that the port is open.
async fn listen_to_all(listener: TcpListener, ear: mpsc::Sender<Heard>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(listen_to_one(stream, ear.clone()));
            }
            // No descriptor is free, or the peer was gone before: others follow.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn listen_to_one(mut stream: TcpStream, ear: mpsc::Sender<Heard>) {
    let mut decoder = Decoder::default();
    let mut bytes = vec![0; READ_BYTES];
    while let Ok(length @ 1..) = stream.read(&mut bytes).await {
        decoder.push(&bytes[..length]);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => {
                    if ear.send(Heard::Message(message)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "what came to the executor's port is not from an agent");
                    return;
                }
            }
        }
    }
}

/// Why there is no port to be an executor at.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum LibprocessError {
    #[error("cannot reach the agent {agent} from any address of this host: {source}; set LIBPROCESS_IP")]
    NoRoute { agent: Pid, source: io::Error },
    #[error("cannot listen on {ip} for the agent's messages: {source}; set LIBPROCESS_IP to an address of this host")]
    Listen { ip: IpAddr, source: io::Error },
    #[error("the agent {agent} speaks TLS, which is only supported on its HTTP API (Mesos 0.28 and later)")]
    Tls { agent: Pid },
}

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// An agent that takes nothing for so long is as good as gone.
const WRITE_LIMIT: Duration = Duration::from_secs(15);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const READ_BYTES: usize = 16 << 10;
/// More wait in the kernel.
const HEARD_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests;
