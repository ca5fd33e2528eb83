//! The executor on real libprocess messages: an agent of each generation is played by the test.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proto::mesos::{TaskState, TaskStatus};
use proto::record::{ExecutorMessage, ExecutorNews};

use super::*;
use crate::executor::rig::Rig;
use crate::lifecycle::{Command, Event};

/// What changed on the wire between versions.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Version {
    /// Only a User-Agent says who speaks, bodies come in chunks, a connection is opened when there is something to say.
    V0_19,
    /// Both headers; the agent links back at the registration, and looks at the port before.
    V0_28,
    /// As before, but a body has a length.
    V1_11,
}

const VERSIONS: [Version; 3] = [Version::V0_19, Version::V0_28, Version::V1_11];

struct Agent {
    version: Version,
    pid: Pid,
    messages: mpsc::Receiver<Incoming>,
    executor: Option<Pid>,
    link: Option<TcpStream>,
    /// The port, and every connection: all close when the agent goes.
    server: tokio::task::JoinHandle<()>,
}

impl Agent {
    async fn start(version: Version) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pid = format!("slave(1)@{}", listener.local_addr().unwrap()).parse().unwrap();
        let (sender, messages) = mpsc::channel(16);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let sender = sender.clone();
                connections.spawn(async move {
                    let (mut decoder, mut bytes) = (Decoder::default(), [0; 100]);
                    while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                        decoder.push(&bytes[..length]);
                        while let Some(message) = decoder.next_message().unwrap() {
                            let _ = sender.send(message).await;
                        }
                    }
                });
            }
        });
        Self { version, pid, messages, executor: None, link: None, server }
    }

    fn environment(&self, checkpoint: bool) -> Environment {
        let pid = self.pid.to_string();
        let variables = BTreeMap::from([
            ("MESOS_FRAMEWORK_ID", "f"),
            ("MESOS_EXECUTOR_ID", "t"),
            ("MESOS_SLAVE_ID", "a"),
            ("MESOS_SLAVE_PID", &pid),
            ("MESOS_CHECKPOINT", if checkpoint { "1" } else { "0" }),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", "10ms"),
        ]);
        Environment::parse(|name| variables.get(name).map(|value| (*value).to_owned())).unwrap()
    }

    async fn expect<M: Message + Name + Default>(&mut self) -> M {
        let message = self.messages.recv().await.unwrap();
        assert_eq!(message.name, M::full_name());
        self.executor = message.from;
        M::decode(message.body).unwrap()
    }

    async fn say<M: Message + Name>(&mut self, message: &M) {
        let executor = self.executor.clone().unwrap();
        let body = message.encode_to_vec();
        let bytes = if self.version == Version::V0_19 {
            let (name, half) = (M::full_name(), body.len() / 2);
            let head = format!(
                "POST /{}/{name} HTTP/1.0\r\nUser-Agent: libprocess/{}\r\nTransfer-Encoding: chunked\r\n\r\n",
                executor.id, self.pid
            );
            let chunks = [&body[..half], &body[half..]].into_iter().filter(|chunk| !chunk.is_empty());
            let chunks = chunks.map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            [head.into_bytes(), chunks.collect::<Vec<_>>().concat(), b"0\r\n\r\n".to_vec()].concat()
        } else {
            message::encode(&self.pid, &executor, &M::full_name(), &body)
        };
        if self.link.is_none() {
            self.link = Some(self.connect().await);
        }
        self.link.as_mut().unwrap().write_all(&bytes).await.unwrap();
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.executor.as_ref().unwrap().port)).await.unwrap()
    }

    async fn register(&mut self) {
        let register: internal::RegisterExecutorMessage = self.expect().await;
        assert_eq!((&*register.framework_id.value, &*register.executor_id.value), ("f", "t"));
        if self.version != Version::V0_19 {
            drop(self.connect().await);
            self.link = Some(self.connect().await);
        }
        self.say(&internal::ExecutorRegisteredMessage { agent_id: agent_id(), ..Default::default() }).await;
    }

    async fn status(&mut self) -> TaskStatus {
        let message: internal::StatusUpdateMessage = self.expect().await;
        assert_eq!(message.pid, self.executor.as_ref().map(Pid::to_string));
        let update = message.update;
        assert_eq!(update.agent_id, Some(agent_id()));
        assert_eq!((&update.uuid, Some(update.timestamp)), (&update.status.uuid, update.status.timestamp));
        update.status
    }

    async fn acknowledged_status(&mut self) -> TaskState {
        let status = self.status().await;
        self.acknowledge(&status).await;
        status.state()
    }

    async fn acknowledge(&mut self, status: &TaskStatus) {
        let task_id = status.task_id.clone();
        let uuid = status.uuid.clone().unwrap();
        let message = internal::StatusUpdateAcknowledgementMessage { task_id, uuid, ..Default::default() };
        self.say(&message).await;
    }

    async fn run_task(&mut self) {
        let task = mesos::TaskInfo { task_id: task_id(), ..Default::default() };
        self.say(&internal::RunTaskMessage { task, ..Default::default() }).await;
    }

    /// Registered and running, everything acknowledged.
    async fn running(&mut self, checkpoint: bool) -> Rig {
        let mut rig = Rig::start(self.environment(checkpoint));
        self.register().await;
        self.run_task().await;
        assert_eq!(rig.commands.recv().await, Some(Command::Start));
        assert_eq!(self.acknowledged_status().await, TaskState::TaskStarting);
        rig.started().await;
        assert_eq!(self.acknowledged_status().await, TaskState::TaskRunning);
        rig
    }

    /// The agent is gone; another one knows the executor's port from its checkpoint.
    async fn restart(self) -> Self {
        let mut next = Self::start(self.version).await;
        next.executor = self.executor.clone();
        next
    }

    async fn reconnect(&mut self) {
        self.say(&internal::ReconnectExecutorMessage { agent_id: Some(agent_id()) }).await;
    }

    async fn reregistered(&mut self) {
        let message = internal::ExecutorReregisteredMessage { agent_id: agent_id(), ..Default::default() };
        self.say(&message).await;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn agent_id() -> mesos::AgentId {
    mesos::AgentId { value: "a".to_owned() }
}

fn task_id() -> mesos::TaskId {
    mesos::TaskId { value: "t".to_owned() }
}

fn stop(seconds: u64) -> Option<Command> {
    Some(Command::Stop { grace: Duration::from_secs(seconds) })
}

#[tokio::test]
async fn a_task_goes_from_registration_to_acknowledged_end_with_every_version() {
    for version in VERSIONS {
        let mut agent = Agent::start(version).await;
        let rig = agent.running(true).await;
        rig.end(3, false).await;
        let status = agent.status().await;
        assert_eq!(status.message.as_deref(), Some("Container exited with status 3"));
        assert!(!rig.executor.is_finished());
        agent.acknowledge(&status).await;
        assert!(rig.finished().await.is_acknowledged);
    }
}

#[tokio::test]
async fn a_kill_and_a_shutdown_reach_the_owner_with_every_version() {
    for version in VERSIONS {
        let mut agent = Agent::start(version).await;
        let mut rig = agent.running(true).await;
        let grace_period = Some(mesos::DurationInfo { nanoseconds: 9_000_000_000 });
        let kill_policy = Some(mesos::KillPolicy { grace_period });
        agent.say(&internal::KillTaskMessage { task_id: task_id(), kill_policy, framework_id: None }).await;
        assert_eq!(rig.commands.recv().await, stop(9));
        agent.say(&internal::ShutdownExecutorMessage::default()).await;
        assert_eq!(rig.commands.recv().await, stop(3));
        rig.end(143, true).await;
        assert_eq!(agent.acknowledged_status().await, TaskState::TaskKilled);
        assert!(rig.finished().await.is_acknowledged);
    }
}

#[tokio::test]
async fn a_restarted_agent_finds_its_executor_and_gets_what_it_missed_with_every_version() {
    for version in VERSIONS {
        let mut agent = Agent::start(version).await;
        let rig = agent.running(true).await;
        let mut agent = agent.restart().await;
        rig.end(0, false).await;
        agent.reconnect().await;
        let reregister: internal::ReregisterExecutorMessage = agent.expect().await;
        assert!(reregister.tasks.is_empty());
        agent.reregistered().await;
        // The end may have been known before the agent asked, or after.
        let status = match reregister.updates.into_iter().next() {
            Some(update) => update.status,
            None => agent.status().await,
        };
        assert_eq!(status.state(), TaskState::TaskFinished);
        agent.acknowledge(&status).await;
        assert!(rig.finished().await.is_acknowledged);
    }
}

#[tokio::test]
async fn tasks_and_updates_that_nobody_acknowledged_are_carried_to_the_next_agent() {
    let mut agent = Agent::start(Version::V1_11).await;
    let mut rig = Rig::start(agent.environment(true));
    agent.register().await;
    agent.run_task().await;
    assert_eq!(rig.commands.recv().await, Some(Command::Start));
    let starting = agent.status().await;
    let mut agent = agent.restart().await;
    agent.reconnect().await;
    let reregister: internal::ReregisterExecutorMessage = agent.expect().await;
    assert_eq!(reregister.tasks[0].task_id, task_id());
    assert_eq!(reregister.updates[0].status, starting);
    agent.reregistered().await;
    agent.acknowledge(&starting).await;
    rig.started().await;
    assert_eq!(agent.status().await.state(), TaskState::TaskRunning);
}

#[tokio::test]
async fn an_agent_that_asks_twice_is_answered_once() {
    let mut agent = Agent::start(Version::V1_11).await;
    let rig = agent.running(true).await;
    let mut agent = agent.restart().await;
    agent.reconnect().await;
    let _: internal::ReregisterExecutorMessage = agent.expect().await;
    agent.reregistered().await;
    agent.reconnect().await;
    rig.end(0, false).await;
    assert_eq!(agent.acknowledged_status().await, TaskState::TaskFinished);
    assert!(rig.finished().await.is_acknowledged);
}

#[tokio::test]
async fn agents_may_be_restarted_again_and_again() {
    let mut agent = Agent::start(Version::V0_28).await;
    let rig = agent.running(true).await;
    for _ in 0..3 {
        agent = agent.restart().await;
        agent.reconnect().await;
        let _: internal::ReregisterExecutorMessage = agent.expect().await;
        agent.reregistered().await;
    }
    rig.end(0, false).await;
    assert_eq!(agent.acknowledged_status().await, TaskState::TaskFinished);
    assert!(rig.finished().await.is_acknowledged);
}

#[tokio::test]
async fn a_lost_agent_ends_the_task_when_nothing_is_checkpointed() {
    let mut agent = Agent::start(Version::V1_11).await;
    let mut rig = agent.running(false).await;
    drop(agent);
    assert_eq!(rig.commands.recv().await, stop(3));
    rig.end(143, true).await;
    let finished = rig.finished().await;
    assert!(!finished.is_acknowledged);
    assert!(finished.error.unwrap().contains("is lost"));
}

#[tokio::test]
async fn nonsense_at_the_port_disturbs_nobody() {
    let mut agent = Agent::start(Version::V1_11).await;
    let rig = agent.running(true).await;
    for text in ["GET / HTTP/1.1\r\n\r\n", "hello\n", "POST /executor(1)/mesos.internal.Unheard HTTP/1.1\r\n\r\n"] {
        agent.connect().await.write_all(text.as_bytes()).await.unwrap();
    }
    rig.end(0, false).await;
    assert_eq!(agent.acknowledged_status().await, TaskState::TaskFinished);
    assert!(rig.finished().await.is_acknowledged);
}

#[tokio::test]
async fn an_agent_with_tls_is_refused_with_the_way_out() {
    let agent = Agent::start(Version::V1_11).await;
    let environment = Environment { is_tls: true, ..agent.environment(true) };
    let Err(error) = Libprocess::new(&environment, None).await else { panic!("there is no TLS") };
    assert!(error.to_string().contains("HTTP API"), "{error}");
}

#[tokio::test]
async fn output_after_a_silence_is_told_to_the_framework() {
    for version in VERSIONS {
        let mut agent = Agent::start(version).await;
        let rig = agent.running(true).await;
        rig.events.send(Event::OutputAgain).await.unwrap();
        let message: internal::ExecutorToFrameworkMessage = agent.expect().await;
        let ids = [&message.agent_id.value, &message.framework_id.value, &message.executor_id.value];
        assert_eq!(ids, ["a", "f", "t"]);
        assert_eq!(message.data, ExecutorMessage::new("t".to_owned(), ExecutorNews::OutputAgain).to_bytes());
        rig.end(0, false).await;
        assert_eq!(agent.acknowledged_status().await, TaskState::TaskFinished, "the news are not in its way");
        rig.finished().await;
    }
}
