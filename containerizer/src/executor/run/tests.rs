//! The executor on a real HTTP wire: an agent in small is played by the test, and so is the container's owner.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::channel::mpsc as stream;
use prost::Message as _;
use proto::executor::{Call, call, event};
use proto::mesos::{self, TaskInfo, TaskState, TaskStatus};
use proto::recordio;
use tokio::task::JoinHandle;

use super::*;
use crate::executor::rig::Rig;

type AgentEvent = proto::executor::Event;
type Events = stream::UnboundedSender<Result<Bytes, std::io::Error>>;

/// An agent that hands every call to the test and says what the test says.
struct Agent {
    port: u16,
    calls: mpsc::UnboundedReceiver<Call>,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    calls: mpsc::UnboundedSender<Call>,
    events: Mutex<Option<Events>>,
    /// Answers to the next calls in place of success.
    refusals: Mutex<VecDeque<(u16, &'static str)>>,
    token: Option<&'static str>,
    is_gone: AtomicBool,
}

impl Agent {
    async fn start(token: Option<&'static str>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, calls) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            calls: sender,
            events: Mutex::default(),
            refusals: Mutex::default(),
            token,
            is_gone: AtomicBool::new(false),
        });
        let route = axum::routing::post(answer);
        let router = axum::Router::new().route("/slave(1)/api/v1/executor", route).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, calls, shared, server }
    }

    fn environment(&self, changes: &[(&str, &str)]) -> Environment {
        let mut variables = BTreeMap::from([
            ("MESOS_FRAMEWORK_ID", "f"),
            ("MESOS_EXECUTOR_ID", "t"),
            ("MESOS_SLAVE_ID", "a"),
            ("MESOS_CHECKPOINT", "1"),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "5secs"),
            ("MESOS_RECOVERY_TIMEOUT", "1mins"),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", "10ms"),
        ]);
        let pid = format!("slave(1)@127.0.0.1:{}", self.port);
        variables.insert("MESOS_SLAVE_PID", &pid);
        variables.extend(changes.iter().copied());
        Environment::parse(|name| variables.get(name).map(|value| (*value).to_owned())).unwrap()
    }

    async fn call(&mut self) -> Call {
        self.calls.recv().await.unwrap()
    }

    async fn subscription(&mut self) -> call::Subscribe {
        let call = self.call().await;
        assert_eq!(
            (call.r#type(), &*call.framework_id.value, &*call.executor_id.value),
            (call::Type::Subscribe, "f", "t")
        );
        call.subscribe.unwrap()
    }

    async fn status(&mut self) -> TaskStatus {
        let call = self.call().await;
        assert_eq!(call.r#type(), call::Type::Update);
        call.update.unwrap().status
    }

    async fn acknowledged_status(&mut self) -> TaskState {
        let status = self.status().await;
        self.acknowledge(&status);
        status.state()
    }

    fn say(&self, kind: event::Type, fill: impl FnOnce(&mut AgentEvent)) {
        let mut event = AgentEvent { r#type: Some(kind as i32), ..AgentEvent::default() };
        fill(&mut event);
        let record = recordio::encode(&event.encode_to_vec());
        self.shared.events.lock().unwrap().as_ref().unwrap().unbounded_send(Ok(record.into())).unwrap();
    }

    fn accept(&self) {
        self.say(event::Type::Subscribed, |event| event.subscribed = Some(event::Subscribed::default()));
    }

    fn launch(&self) {
        let task = TaskInfo { task_id: mesos::TaskId { value: "t".to_owned() }, ..TaskInfo::default() };
        self.say(event::Type::Launch, |event| event.launch = Some(event::Launch { task }));
    }

    fn kill(&self) {
        let task_id = mesos::TaskId { value: "t".to_owned() };
        self.say(event::Type::Kill, |event| event.kill = Some(event::Kill { task_id, kill_policy: None }));
    }

    fn acknowledge(&self, status: &TaskStatus) {
        let acknowledged = event::Acknowledged { task_id: status.task_id.clone(), uuid: status.uuid.clone().unwrap() };
        self.say(event::Type::Acknowledged, |event| event.acknowledged = Some(acknowledged));
    }

    fn refuse_next(&self, status: u16, body: &'static str) {
        self.shared.refusals.lock().unwrap().push_back((status, body));
    }

    fn break_stream(&self) {
        *self.shared.events.lock().unwrap() = None;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The server's connections outlive its listener.
        self.shared.is_gone.store(true, Ordering::Relaxed);
        self.break_stream();
        self.server.abort();
    }
}

async fn answer(State(agent): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let is_allowed = agent.token.is_none_or(|token| headers["authorization"] == *format!("Bearer {token}"));
    if !is_allowed || headers["content-type"] != "application/x-protobuf" {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let call = Call::decode(body).unwrap();
    if agent.is_gone.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let refusal = agent.refusals.lock().unwrap().pop_front();
    let response = match refusal {
        Some((status, text)) => (StatusCode::from_u16(status).unwrap(), text).into_response(),
        None if call.r#type() == call::Type::Subscribe => {
            let (sender, receiver) = stream::unbounded();
            *agent.events.lock().unwrap() = Some(sender);
            ([("content-type", "application/x-protobuf")], Body::from_stream(receiver)).into_response()
        }
        None => StatusCode::ACCEPTED.into_response(),
    };
    let _ = agent.calls.send(call);
    response
}

/// Subscribed and running, everything acknowledged.
async fn running(agent: &mut Agent, changes: &[(&str, &str)]) -> Rig {
    let mut rig = Rig::start(agent.environment(changes));
    agent.subscription().await;
    agent.accept();
    agent.launch();
    assert_eq!(rig.commands.recv().await, Some(Command::Start));
    assert_eq!(agent.acknowledged_status().await, TaskState::TaskStarting);
    rig.started().await;
    assert_eq!(agent.acknowledged_status().await, TaskState::TaskRunning);
    rig
}

#[tokio::test]
async fn a_task_goes_from_subscription_to_acknowledged_end() {
    let mut agent = Agent::start(None).await;
    let rig = running(&mut agent, &[]).await;
    rig.end(3, false).await;
    let status = agent.status().await;
    assert_eq!(status.message.as_deref(), Some("Container exited with status 3"));
    agent.acknowledge(&status);
    let finished = rig.finished().await;
    assert!(finished.is_acknowledged);
    assert_eq!(finished.status.unwrap().state(), TaskState::TaskFailed);
}

#[tokio::test]
async fn the_executor_stays_until_the_terminal_update_is_acknowledged() {
    let mut agent = Agent::start(None).await;
    let rig = running(&mut agent, &[]).await;
    rig.end(0, false).await;
    let status = agent.status().await;
    assert!(!rig.executor.is_finished());
    agent.break_stream();
    let again = agent.subscription().await;
    assert_eq!(again.unacknowledged_updates[0].status, status);
    agent.accept();
    assert!(!rig.executor.is_finished());
    agent.acknowledge(&status);
    assert!(rig.finished().await.is_acknowledged);
}

#[tokio::test]
async fn a_kill_reaches_the_owner_and_ends_killed() {
    let mut agent = Agent::start(None).await;
    let mut rig = running(&mut agent, &[]).await;
    agent.kill();
    assert_eq!(rig.commands.recv().await, Some(Command::Stop { grace: Duration::from_secs(3) }));
    rig.end(143, true).await;
    assert_eq!(agent.acknowledged_status().await, TaskState::TaskKilled);
    assert!(rig.finished().await.is_acknowledged);
}

#[tokio::test]
async fn a_shutdown_leaves_two_seconds_of_the_agents_grace() {
    let mut agent = Agent::start(None).await;
    let mut rig = running(&mut agent, &[("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "12secs")]).await;
    agent.say(event::Type::Shutdown, |_| {});
    assert_eq!(rig.commands.recv().await, Some(Command::Stop { grace: Duration::from_secs(10) }));
    rig.end(0, true).await;
    assert_eq!(agent.acknowledged_status().await, TaskState::TaskKilled);
    assert!(rig.finished().await.is_acknowledged);
}

#[tokio::test]
async fn sigterm_stops_the_container() {
    let mut agent = Agent::start(None).await;
    let mut rig = running(&mut agent, &[]).await;
    rig.terminate.take().unwrap().send(()).unwrap();
    assert_eq!(rig.commands.recv().await, Some(Command::Stop { grace: Duration::from_secs(3) }));
    rig.end(143, true).await;
    assert_eq!(agent.acknowledged_status().await, TaskState::TaskKilled);
    assert!(rig.executor.await.unwrap().is_acknowledged);
}

#[tokio::test]
async fn an_agent_that_recovers_is_asked_again_and_gets_what_it_missed() {
    let mut agent = Agent::start(None).await;
    let rig = running(&mut agent, &[]).await;
    for (status, text) in [(503, "Agent has not finished recovery"), (404, ""), (400, "Framework cannot be found")] {
        agent.refuse_next(status, text);
    }
    agent.break_stream();
    agent.subscription().await;
    rig.end(0, false).await;
    agent.subscription().await;
    agent.subscription().await;
    let subscription = agent.subscription().await;
    agent.accept();
    let status = match subscription.unacknowledged_updates.first() {
        Some(update) => update.status.clone(),
        None => agent.status().await,
    };
    agent.acknowledge(&status);
    assert_eq!(rig.finished().await.status.unwrap().state(), TaskState::TaskFinished);
}

#[tokio::test]
async fn an_update_is_sent_again_when_the_agent_refuses_it_for_now() {
    let mut agent = Agent::start(None).await;
    let rig = running(&mut agent, &[]).await;
    agent.refuse_next(503, "recovering");
    rig.end(0, false).await;
    let first = agent.status().await;
    let second = agent.status().await;
    assert_eq!(first, second);
    agent.acknowledge(&second);
    assert!(rig.finished().await.is_acknowledged);
}

#[tokio::test]
async fn a_lost_agent_ends_the_task_when_nothing_is_checkpointed() {
    let mut agent = Agent::start(None).await;
    let mut rig = running(&mut agent, &[("MESOS_CHECKPOINT", "0")]).await;
    agent.break_stream();
    assert_eq!(rig.commands.recv().await, Some(Command::Stop { grace: Duration::from_secs(3) }));
    rig.end(143, true).await;
    let finished = rig.finished().await;
    assert!(!finished.is_acknowledged);
    assert_eq!(finished.error.as_deref(), Some("the agent ended its stream of events"));
}

#[tokio::test]
async fn a_vanished_agent_is_waited_for_as_long_as_its_recovery_may_take() {
    let mut agent = Agent::start(None).await;
    let mut rig = running(&mut agent, &[("MESOS_RECOVERY_TIMEOUT", "50ms")]).await;
    drop(agent);
    assert_eq!(rig.commands.recv().await, Some(Command::Stop { grace: Duration::from_secs(3) }));
    rig.end(143, true).await;
    let error = rig.finished().await.error.unwrap();
    assert!(error.starts_with("the agent was waited for in vain"), "{error}");
}

#[tokio::test]
async fn the_token_goes_with_every_call_and_a_wrong_one_ends_the_executor() {
    let mut agent = Agent::start(Some("right")).await;
    let rig = running(&mut agent, &[("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "right")]).await;
    rig.end(0, false).await;
    assert_eq!(agent.acknowledged_status().await, TaskState::TaskFinished);
    assert!(rig.finished().await.is_acknowledged);

    let mut rig = Rig::start(agent.environment(&[("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "wrong")]));
    assert!(matches!(rig.commands.recv().await, Some(Command::Stop { .. })));
    drop(rig.events);
    let finished = rig.executor.await.unwrap();
    assert!(finished.error.unwrap().contains("401"));
    assert_eq!(finished.status, None);
}

#[tokio::test]
async fn an_owner_that_goes_without_a_word_is_never_taken_for_success() {
    let mut agent = Agent::start(None).await;
    let rig = running(&mut agent, &[]).await;
    drop(rig.events);
    let status = agent.status().await;
    assert_eq!(status.state(), TaskState::TaskFailed);
    assert!(status.message.as_deref().unwrap().contains("not known"));
    agent.acknowledge(&status);
    assert!(rig.executor.await.unwrap().is_acknowledged);
}
