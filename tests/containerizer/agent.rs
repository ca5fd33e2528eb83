//! An agent in small, for the executor of a command task: hands it the task, collects and acknowledges its statuses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::channel::mpsc as stream;
use prost::Message as _;
use proto::executor::{Call, Event, call, event};
use proto::mesos::{self, TaskInfo, TaskState, TaskStatus};
use proto::recordio;

const LIMIT: Duration = Duration::from_secs(60);

/// Serves one executor on a free port until dropped.
pub(crate) struct Agent {
    port: u16,
    statuses: mpsc::Receiver<TaskStatus>,
    subscriptions: mpsc::Receiver<call::Subscribe>,
    shared: Arc<Shared>,
    _until_dropped: tokio::sync::oneshot::Sender<()>,
}

struct Shared {
    task: TaskInfo,
    statuses: mpsc::Sender<TaskStatus>,
    events: Mutex<Option<stream::UnboundedSender<Result<Bytes, std::io::Error>>>>,
    acknowledges: AtomicBool,
    subscriptions: Mutex<mpsc::Sender<call::Subscribe>>,
}

impl Agent {
    /// For this task.
    pub(crate) fn new(launch: &proto::ecp::Launch) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, statuses) = mpsc::channel();
        let task = launch.task_info.clone().unwrap();
        let (subscribed, subscriptions) = mpsc::channel();
        let shared = Arc::new(Shared {
            task,
            statuses: sender,
            events: Mutex::default(),
            acknowledges: AtomicBool::new(true),
            subscriptions: Mutex::new(subscribed),
        });
        let (until_dropped, dropped) = tokio::sync::oneshot::channel();
        let state = shared.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, state, dropped));
        });
        Self { port, statuses, subscriptions, shared, _until_dropped: until_dropped }
    }

    /// From now on it takes statuses and says nothing, or acknowledges each again.
    pub(crate) fn acknowledge(&self, acknowledges: bool) {
        self.shared.acknowledges.store(acknowledges, Ordering::SeqCst);
    }

    /// The next subscription of an executor.
    pub(crate) fn subscription(&self) -> call::Subscribe {
        self.subscriptions.recv_timeout(LIMIT).expect("an executor subscribes")
    }

    /// What its executor finds in its environment.
    pub(crate) fn variables(&self) -> [(&'static str, String); 1] {
        [("MESOS_SLAVE_PID", format!("slave(1)@127.0.0.1:{}", self.port))]
    }

    /// The next status that the executor sends.
    pub(crate) fn status(&self) -> TaskStatus {
        self.statuses.recv_timeout(LIMIT).expect("the executor sends a status")
    }

    /// The next statuses as far as a terminal one.
    pub(crate) fn states(&self) -> (Vec<TaskState>, TaskStatus) {
        let mut states = Vec::new();
        loop {
            let status = self.status();
            states.push(status.state());
            if !matches!(status.state(), TaskState::TaskStarting | TaskState::TaskRunning | TaskState::TaskKilling) {
                return (states, status);
            }
        }
    }

    pub(crate) fn kill(&self, grace: Duration) {
        let grace_period = mesos::DurationInfo { nanoseconds: i64::try_from(grace.as_nanos()).unwrap() };
        let kill_policy = Some(mesos::KillPolicy { grace_period: Some(grace_period) });
        let kill = event::Kill { task_id: self.shared.task.task_id.clone(), kill_policy };
        self.shared.say(Event { r#type: Some(event::Type::Kill as i32), kill: Some(kill), ..Event::default() });
    }
}

impl Shared {
    fn take(&self, status: TaskStatus) {
        let (task_id, uuid) = (status.task_id.clone(), status.uuid.clone().unwrap_or_default());
        // A test that has seen enough does not listen.
        let _ = self.statuses.send(status);
        if self.acknowledges.load(Ordering::SeqCst) {
            let acknowledged = Some(event::Acknowledged { task_id, uuid });
            self.say(Event { r#type: Some(event::Type::Acknowledged as i32), acknowledged, ..Event::default() });
        }
    }

    fn say(&self, event: Event) {
        let record = recordio::encode(&event.encode_to_vec());
        // An executor that has gone does not listen.
        let _ = self.events.lock().unwrap().as_ref().unwrap().unbounded_send(Ok(record.into()));
    }
}

async fn serve(listener: std::net::TcpListener, state: Arc<Shared>, dropped: tokio::sync::oneshot::Receiver<()>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let router = axum::Router::new().route("/slave(1)/api/v1/executor", axum::routing::post(answer)).with_state(state);
    tokio::select! {
        _ = axum::serve(listener, router) => {}
        _ = dropped => {}
    }
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let call = Call::decode(body).unwrap();
    match call.r#type() {
        call::Type::Subscribe => {
            let (sender, receiver) = stream::unbounded();
            *shared.events.lock().unwrap() = Some(sender);
            let subscribed = Some(event::Subscribed::default());
            shared.say(Event { r#type: Some(event::Type::Subscribed as i32), subscribed, ..Event::default() });
            let subscribe = call.subscribe.unwrap_or_default();
            if subscribe.unacknowledged_tasks.is_empty() {
                // An executor that has the task already ignores it.
                let launch = Some(event::Launch { task: shared.task.clone() });
                shared.say(Event { r#type: Some(event::Type::Launch as i32), launch, ..Event::default() });
            }
            let _ = shared.subscriptions.lock().unwrap().send(subscribe.clone());
            subscribe.unacknowledged_updates.into_iter().for_each(|update| shared.take(update.status));
            ([("content-type", "application/x-protobuf")], Body::from_stream(receiver)).into_response()
        }
        call::Type::Update => {
            shared.take(call.update.unwrap().status);
            StatusCode::ACCEPTED.into_response()
        }
        other => panic!("unexpected call {other:?}"),
    }
}
