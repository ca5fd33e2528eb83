//! The embedded cluster over its HTTP face, with a stub in place of the containerizer and executors played by the tests.

#![allow(clippy::unwrap_used, reason = "tests")]

mod access;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use launch_container::local::{Access, Cluster, LocalError, Options};
use proto::http::{Client, ClientOptions, EventStream, HttpError};
use proto::mesos::task_status::{Reason, Source};
use proto::mesos::{self, TaskState};
use proto::{executor, scheduler};
use tokio::time::timeout;
use url::Url;

/// Nothing here takes this long, unless it hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// What an agent of these tests has.
const RESOURCES: &str = "cpus:4;mem:1024;ports:[31000-31009]";

/// Keeps a list of its verbs. A container of it lives until somebody writes to its `gate`; `wait` answers at once, as that
/// of a command task does.
const STUB: &str = r#"#!/bin/sh
echo "$1" >> 'DIR/verbs'
case $1 in
recover)
    [ ! -e 'DIR/recover-fails' ] || { echo 'no engine here' >&2; exit 1; } ;;
containers)
    printf '\0\0\0\0' ;;
launch)
    [ ! -e 'DIR/launch-fails' ] || { echo 'no such image' >&2; exit 1; }
    env > environment
    mkfifo gate ;;
wait)
    printf '\4\0\0\0\10\0\22\0'
    read -r line < gate ;;
destroy)
    [ ! -e 'DIR/destroy-fails' ] || exit 1 ;;
esac
"#;

struct Stage {
    dir: tempfile::TempDir,
    cluster: Cluster,
    client: Client,
}

impl Stage {
    async fn new() -> Self {
        Self::with(1, &[]).await
    }

    /// `faults` are the names of files that the stub looks for.
    async fn with(agents: u32, faults: &[&str]) -> Self {
        Self::start(agents, faults, Access::Open, Some(RESOURCES)).await
    }

    async fn with_access(access: Access) -> Self {
        Self::start(1, &[], access, Some(RESOURCES)).await
    }

    async fn start(agents: u32, faults: &[&str], access: Access, resources: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = stub(dir.path());
        for fault in faults {
            fs::write(dir.path().join(fault), "").unwrap();
        }
        let client = Client::new(access.client_options()).unwrap();
        let options = Options {
            agents,
            access,
            resources: resources.map(|text| text.parse().unwrap()),
            containerizer: program,
            work_dir: Some(dir.path().join("work")),
            ..Options::default()
        };
        let cluster = Cluster::start(options).await.unwrap();
        Self { dir, cluster, client }
    }

    fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.cluster.address()).parse().unwrap()
    }

    fn verbs(&self) -> Vec<String> {
        verbs(self.dir.path())
    }

    async fn get(&self, path: &str) -> serde_json::Value {
        let bytes = self.client.get(&self.url(path), 1 << 20).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    async fn subscribe(&self, info: mesos::FrameworkInfo) -> Scheduler {
        let call = scheduler::Call {
            framework_id: info.id.clone(),
            r#type: Some(scheduler::call::Type::Subscribe as i32),
            subscribe: Some(scheduler::call::Subscribe { framework_info: info, ..Default::default() }.into()),
            ..Default::default()
        };
        let url = self.url("/api/v1/scheduler");
        let mut events: EventStream<scheduler::Event> = self.client.subscribe(&url, &call).await.unwrap();
        let event = timeout(LIMIT, events.next()).await.unwrap().unwrap().unwrap();
        let id = event.subscribed.expect("SUBSCRIBED comes first").framework_id;
        Scheduler { url, client: self.client.clone(), events, id }
    }

    async fn subscribe_executor(&self, scheduler: &Scheduler, id: &str) -> Executor {
        let url = self.url("/slave(1)/api/v1/executor");
        let call = executor::Call {
            subscribe: Some(executor::call::Subscribe::default()),
            ..executor_call(scheduler, id, executor::call::Type::Subscribe)
        };
        let mut events: EventStream<executor::Event> = self.client.subscribe(&url, &call).await.unwrap();
        let event = timeout(LIMIT, events.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(event.r#type(), executor::event::Type::Subscribed);
        let framework_id = scheduler.id.clone();
        Executor { url, client: self.client.clone(), events, framework_id, id: id.to_owned() }
    }

    /// The sandbox of the only run of this executor.
    fn sandbox(&self, executor: &str) -> PathBuf {
        let slaves = self.dir.path().join("work/slaves");
        let frameworks = only_entry(&only_entry(&slaves).join("frameworks"));
        frameworks.join("executors").join(executor).join("runs/latest").canonicalize().unwrap()
    }

    /// Launches a task and plays its executor until it was given the task.
    async fn run(&self, scheduler: &mut Scheduler, task: &str) -> Executor {
        scheduler.launch(task).await;
        wait_for(|| self.has_sandbox()).await;
        let mut executor = self.subscribe_executor(scheduler, task).await;
        assert_eq!(executor.next().await.r#type(), executor::event::Type::Launch);
        executor
    }

    fn has_sandbox(&self) -> bool {
        self.verbs().iter().any(|verb| verb == "launch")
    }

    /// Ends the container.
    fn open_gate(&self, executor: &str) {
        let gate = self.sandbox(executor).join("gate");
        // Blocks until `wait` has it open.
        fs::OpenOptions::new().write(true).open(gate).unwrap().write_all(b"\n").unwrap();
    }
}

struct Scheduler {
    url: Url,
    client: Client,
    events: EventStream<scheduler::Event>,
    id: mesos::FrameworkId,
}

impl Scheduler {
    /// The next event that is no heartbeat.
    async fn next(&mut self) -> scheduler::Event {
        loop {
            let event = timeout(LIMIT, self.events.next()).await.expect("an event").unwrap().expect("no end");
            if event.r#type() != scheduler::event::Type::Heartbeat {
                return event;
            }
        }
    }

    async fn offer(&mut self) -> mesos::Offer {
        let event = self.next().await;
        event.offers.unwrap_or_else(|| panic!("expected offers")).offers.remove(0)
    }

    async fn status(&mut self) -> mesos::TaskStatus {
        let event = self.next().await;
        event.update.clone().unwrap_or_else(|| panic!("expected an update: {event:?}")).status
    }

    async fn call(&self, call: scheduler::Call) -> Result<(), HttpError> {
        let call = scheduler::Call { framework_id: Some(self.id.clone()), ..call };
        self.client.post(&self.url, &call, self.events.stream_id()).await
    }

    async fn launch(&mut self, task: &str) {
        let offer = self.offer().await;
        let info = mesos::TaskInfo {
            name: task.to_owned(),
            task_id: mesos::TaskId { value: task.to_owned() },
            agent_id: offer.agent_id.clone(),
            resources: "cpus:1;mem:64".parse::<proto::resources::Resources>().unwrap().into(),
            command: Some(mesos::CommandInfo { value: Some("true".to_owned()), ..Default::default() }),
            ..Default::default()
        };
        let launch = mesos::offer::Operation {
            r#type: Some(mesos::offer::operation::Type::Launch as i32),
            launch: Some(mesos::offer::operation::Launch { task_infos: vec![info] }),
            ..Default::default()
        };
        let accept = scheduler::call::Accept {
            offer_ids: vec![offer.id],
            operations: vec![launch],
            filters: Some(mesos::Filters { refuse_seconds: Some(1000.0) }),
        };
        let kind = Some(scheduler::call::Type::Accept as i32);
        self.call(scheduler::Call { r#type: kind, accept: Some(accept), ..Default::default() }).await.unwrap();
    }

    async fn acknowledge(&self, status: &mesos::TaskStatus) {
        let acknowledge = scheduler::call::Acknowledge {
            agent_id: status.agent_id.clone().unwrap(),
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().unwrap(),
        };
        let kind = Some(scheduler::call::Type::Acknowledge as i32);
        let call = scheduler::Call { r#type: kind, acknowledge: Some(acknowledge), ..Default::default() };
        self.call(call).await.unwrap();
    }

    async fn kill(&self, task: &str) {
        let kill = scheduler::call::Kill { task_id: mesos::TaskId { value: task.to_owned() }, ..Default::default() };
        let kind = Some(scheduler::call::Type::Kill as i32);
        self.call(scheduler::Call { r#type: kind, kill: Some(kill), ..Default::default() }).await.unwrap();
    }

    async fn plain(&self, kind: scheduler::call::Type) -> Result<(), HttpError> {
        self.call(scheduler::Call { r#type: Some(kind as i32), ..Default::default() }).await
    }
}

struct Executor {
    url: Url,
    client: Client,
    events: EventStream<executor::Event>,
    framework_id: mesos::FrameworkId,
    id: String,
}

impl Executor {
    async fn next(&mut self) -> executor::Event {
        timeout(LIMIT, self.events.next()).await.expect("an event").unwrap().expect("no end")
    }

    /// Tells a state and waits until the agent has it.
    async fn tell(&mut self, state: TaskState) {
        let status = mesos::TaskStatus {
            task_id: mesos::TaskId { value: self.id.clone() },
            state: state as i32,
            source: Some(Source::Executor as i32),
            uuid: Some(uuid::Uuid::new_v4().as_bytes().to_vec()),
            message: Some(format!("{state:?}")),
            ..Default::default()
        };
        let call = executor::Call {
            executor_id: mesos::ExecutorId { value: self.id.clone() },
            framework_id: self.framework_id.clone(),
            r#type: Some(executor::call::Type::Update as i32),
            update: Some(executor::call::Update { status: status.clone() }),
            ..Default::default()
        };
        self.client.post(&self.url, &call, None).await.unwrap();
        let acknowledged = self.next().await.acknowledged.expect("ACKNOWLEDGED");
        assert_eq!(Some(acknowledged.uuid), status.uuid);
    }
}

#[tokio::test]
async fn task_runs_from_offer_to_acknowledged_end() {
    let stage = Stage::new().await;
    let mut scheduler = stage.subscribe(info()).await;
    let mut executor = stage.run(&mut scheduler, "t").await;
    assert_eq!(stage.verbs()[..2], ["recover", "containers"]);
    executor.tell(TaskState::TaskRunning).await;
    let running = scheduler.status().await;
    assert_eq!((running.state(), running.source()), (TaskState::TaskRunning, Source::Executor));
    executor.tell(TaskState::TaskFinished).await;
    scheduler.acknowledge(&running).await;
    let finished = scheduler.status().await;
    assert_eq!((finished.state(), finished.message()), (TaskState::TaskFinished, "TaskFinished"));
    scheduler.acknowledge(&finished).await;
    assert_eq!(scheduler.offer().await.hostname, "127.0.0.1", "its resources are free again");
    stage.open_gate("t");
    assert_eq!(timeout(LIMIT, executor.events.next()).await.unwrap().unwrap(), None);
    let updates = stage.verbs().iter().filter(|verb| *verb == "update").count();
    assert_eq!(updates, 2, "at registration and at the end");
    let environment = fs::read_to_string(stage.sandbox("t").join("environment")).unwrap();
    let address = stage.cluster.address();
    assert!(environment.contains(&format!("MESOS_SLAVE_PID=slave(1)@{address}\n")), "{environment}");
    assert!(environment.contains(&format!("MESOS_WORK_DIRECTORY={}\n", stage.dir.path().join("work").display())));
    let verbs = stage.verbs();
    stage.cluster.shutdown().await.unwrap();
    assert!(!verbs.iter().any(|verb| verb == "destroy"), "{verbs:?}");
}

#[tokio::test]
async fn kill_reaches_the_executor() {
    let stage = Stage::new().await;
    let mut scheduler = stage.subscribe(info()).await;
    let mut executor = stage.run(&mut scheduler, "t").await;
    scheduler.kill("t").await;
    let kill = executor.next().await.kill.expect("KILL");
    assert_eq!(kill.task_id.value, "t");
    executor.tell(TaskState::TaskKilled).await;
    assert_eq!(scheduler.status().await.state(), TaskState::TaskKilled);
    stage.open_gate("t");
    stage.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn failed_launch_is_told_as_mesos_tells_it() {
    let stage = Stage::with(1, &["launch-fails"]).await;
    let mut scheduler = stage.subscribe(info()).await;
    scheduler.launch("t").await;
    let status = scheduler.status().await;
    assert_eq!((status.state(), status.reason()), (TaskState::TaskFailed, Reason::ContainerLaunchFailed));
    assert!(status.message().contains("External containerizer failed (status: 256)"), "{}", status.message());
    let stderr = fs::read_to_string(stage.sandbox("t").join("stderr")).unwrap();
    assert_eq!(stderr, "no such image\n");
    stage.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn containerizer_that_does_not_work_is_told() {
    let mut stage = Stage::with(1, &["recover-fails"]).await;
    let error = timeout(LIMIT, stage.cluster.failure()).await.unwrap();
    let text = error.to_string();
    assert!(matches!(error, LocalError::Containerizer { .. }), "{text}");
    assert!(text.contains("recover") && text.contains("no engine here"), "{text}");
    stage.cluster.shutdown().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        containerizer: dir.path().join("missing"),
        work_dir: Some(dir.path().join("work")),
        ..Options::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    let text = timeout(LIMIT, cluster.failure()).await.unwrap().to_string();
    assert!(text.contains("cannot start") && text.contains("missing"), "{text}");
    cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn port_that_is_taken_is_told() {
    let stage = Stage::new().await;
    let port = stage.cluster.address().port();
    let options = Options { port: Some(port), ..Options::default() };
    let error = Cluster::start(options).await.unwrap_err();
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    stage.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn shutdown_destroys_what_runs_and_leaves_nothing() {
    let stage = Stage::new().await;
    let mut scheduler = stage.subscribe(info()).await;
    let _executor = stage.run(&mut scheduler, "t").await;
    let address = stage.cluster.address();
    let dir = stage.dir;
    stage.cluster.shutdown().await.unwrap();
    assert!(verbs(dir.path()).contains(&"destroy".to_owned()));
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(processes_in(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn dropped_cluster_destroys_what_runs() {
    let stage = Stage::new().await;
    let mut scheduler = stage.subscribe(info()).await;
    let _executor = stage.run(&mut scheduler, "t").await;
    let dir = stage.dir;
    drop(stage.cluster);
    assert!(verbs(dir.path()).contains(&"destroy".to_owned()));
    assert_eq!(processes_in(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_destroyed_is_named() {
    let stage = Stage::with(1, &["destroy-fails"]).await;
    let mut scheduler = stage.subscribe(info()).await;
    let _executor = stage.run(&mut scheduler, "t").await;
    let container = stage.sandbox("t").file_name().unwrap().to_string_lossy().into_owned();
    let error = stage.cluster.shutdown().await.unwrap_err();
    assert!(error.to_string().contains(&container), "{error}");
}

#[tokio::test]
async fn framework_whose_connection_breaks_is_gone_with_its_tasks() {
    let stage = Stage::new().await;
    let mut scheduler = stage.subscribe(info()).await;
    let mut executor = stage.run(&mut scheduler, "t").await;
    drop(scheduler);
    assert_eq!(executor.next().await.r#type(), executor::event::Type::Shutdown);
    let frameworks = stage.get("/frameworks").await;
    assert_eq!(frameworks["frameworks"].as_array().map(Vec::len), Some(0));
    assert_eq!(frameworks["completed_frameworks"].as_array().map(Vec::len), Some(1));
    stage.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn teardown_ends_the_stream_and_shuts_executors_down() {
    let stage = Stage::new().await;
    let mut scheduler = stage.subscribe(info()).await;
    let mut executor = stage.run(&mut scheduler, "t").await;
    scheduler.plain(scheduler::call::Type::Teardown).await.unwrap();
    assert_eq!(timeout(LIMIT, scheduler.events.next()).await.unwrap().unwrap(), None);
    assert_eq!(executor.next().await.r#type(), executor::event::Type::Shutdown);
    let error = scheduler.plain(scheduler::call::Type::Revive).await.unwrap_err();
    assert!(matches!(error, HttpError::Status { status, .. } if status == 400), "{error}");
    stage.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn newcomer_takes_the_stream_over() {
    let stage = Stage::new().await;
    let info = mesos::FrameworkInfo { failover_timeout: Some(60.0), ..info() };
    let mut old = stage.subscribe(info.clone()).await;
    let new = stage.subscribe(mesos::FrameworkInfo { id: Some(old.id.clone()), ..info }).await;
    assert_eq!(old.id, new.id);
    loop {
        let event = timeout(LIMIT, old.events.next()).await.unwrap().unwrap().expect("an ERROR before the end");
        if let Some(error) = event.error {
            assert_eq!(error.message, "Framework failed over");
            break;
        }
    }
    assert_eq!(timeout(LIMIT, old.events.next()).await.unwrap().unwrap(), None);
    assert!(old.plain(scheduler::call::Type::Revive).await.is_err());
    new.plain(scheduler::call::Type::Revive).await.unwrap();
    stage.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn sandbox_files_are_served_byte_by_byte() {
    let stage = Stage::new().await;
    let mut scheduler = stage.subscribe(info()).await;
    let _executor = stage.run(&mut scheduler, "t").await;
    let sandbox = stage.sandbox("t");
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    fs::write(sandbox.join("stdout"), &bytes).unwrap();
    let framework = &scheduler.id.value;
    let latest = sandbox.with_file_name("latest");
    let roots = [
        sandbox.display().to_string(),
        latest.display().to_string(),
        format!("/frameworks/{framework}/executors/t/runs/latest"),
    ];
    for root in &roots {
        let path = format!("{root}/stdout");
        let mut download = stage.client.download(&stage.url(&format!("/files/download?path={path}"))).await.unwrap();
        assert_eq!(download.length, Some(200_000));
        let mut got = Vec::new();
        while let Some(chunk) = download.chunk().await.unwrap() {
            got.extend_from_slice(&chunk);
        }
        assert!(got == bytes, "{path}");
        let size = stage.get(&format!("/files/read?path={path}")).await;
        assert_eq!(size, serde_json::json!({ "data": "", "offset": 200_000 }));
        let read = proto::agent::Call {
            r#type: Some(proto::agent::call::Type::ReadFile as i32),
            read_file: Some(proto::agent::call::ReadFile { path, offset: 150_000, length: None }),
            ..Default::default()
        };
        let response: proto::agent::Response = stage.client.ask(&stage.url("/slave(1)/api/v1"), &read).await.unwrap();
        let read = response.read_file.unwrap();
        assert_eq!(read.size, 200_000);
        assert!(read.data == bytes[150_000..]);
    }
    let path = &roots[2];
    let read = |query: &str| get_raw(&stage, &format!("/files/read.json?path={path}/stdout&{query}"));
    assert_eq!(read("offset=126&length=4").1, b"{\"data\":\"~\\u007f\x80\x81\",\"offset\":126}");
    assert_eq!(read("offset=10&length=0").1, b"{\"data\":\"\",\"offset\":10}");
    assert_eq!(read("offset=300000&length=1").1, b"{\"data\":\"\",\"offset\":300000}");
    assert_eq!(read("offset=-1").1, b"{\"data\":\"\",\"offset\":200000}");
    assert_eq!(read("offset=-2").0, 400);
    assert_eq!(read("offset=x").0, 400);
    assert_eq!(read("length=-5").0, 400);
    let status = |path: &str| get_raw(&stage, path).0;
    assert_eq!(status("/files/read"), 400);
    assert_eq!(status(&format!("/files/read?path={path}")), 400, "a directory");
    assert_eq!(status(&format!("/files/read?path={path}/nothing")), 404);
    assert_eq!(status(&format!("/files/read?path={path}/../../../../x")), 400);
    assert_eq!(status("/files/read?path=/etc/passwd"), 404);
    assert_eq!(status(&format!("/files/download?path={path}")), 400);
    assert_eq!(status(&format!("/files/download?path={path}/nothing")), 404);
    assert_eq!(status(&format!("/files/browse?path={path}/nothing")), 404);
    assert_eq!(stage.get(&format!("/files/browse?path={path}/stdout")).await, serde_json::json!([]));
    let listed = stage.get(&format!("/files/browse?path={path}")).await;
    let entry = listed.as_array().unwrap().iter().find(|it| it["path"] == format!("{path}/stdout")).unwrap();
    assert_eq!((&entry["size"], &entry["mode"]), (&serde_json::json!(200_000), &serde_json::json!("-rw-r--r--")));
    stage.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn state_shows_agents_frameworks_and_tasks() {
    let stage = Stage::with(2, &[]).await;
    let mut scheduler = stage.subscribe(info()).await;
    let mut executor = stage.run(&mut scheduler, "t").await;
    executor.tell(TaskState::TaskRunning).await;
    let address = stage.cluster.address();
    let state = stage.get("/master/state").await;
    assert_eq!(state["leader"], format!("master@{address}"));
    assert_eq!(state["slaves"].as_array().map(Vec::len), Some(2));
    let slave = &state["slaves"][0];
    assert_eq!(slave["pid"], format!("slave(1)@{address}"));
    assert_eq!(slave["resources"]["ports"], "[31000-31009]");
    assert_eq!(slave["used_resources"]["cpus"], 1.0);
    let task = &state["frameworks"][0]["tasks"][0];
    assert_eq!((&task["id"], &task["state"]), (&serde_json::json!("t"), &serde_json::json!("TASK_RUNNING")));
    for path in ["/slave(1)/state", "/slave%281%29/state.json"] {
        let state = stage.get(path).await;
        assert_eq!(state["id"], slave["id"], "{path}");
        let executor = &state["frameworks"][0]["executors"][0];
        assert_eq!(executor["directory"], stage.sandbox("t").display().to_string());
        assert_eq!(executor["resources"]["cpus"], 0.1);
        assert_eq!(executor["tasks"][0]["state"], "TASK_RUNNING");
    }
    assert_eq!(stage.get("/tasks").await["tasks"][0]["id"], "t");
    assert_eq!(stage.get("/slaves").await["slaves"].as_array().map(Vec::len), Some(2));
    assert_eq!(stage.get("/version").await["version"], "1.0.4");
    assert_eq!(get_raw(&stage, "/health"), (200, Vec::new()));
    let (status, head, _) = exchange(address, "GET /redirect HTTP/1.1\r\n", &[], b"");
    assert_eq!(status, 307);
    assert!(head.contains(&format!("location: //{address}\r\n")), "{head}");
    stage.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn scheduler_calls_are_refused_in_the_order_of_mesos() {
    let stage = Stage::new().await;
    let address = stage.cluster.address();
    let scheduler = stage.subscribe(info()).await;
    let post = "POST /api/v1/scheduler HTTP/1.1\r\n";
    let protobuf = "Content-Type: application/x-protobuf\r\n";
    let encode = |call: &scheduler::Call| prost::Message::encode_to_vec(call);
    let revive = encode(&scheduler::Call {
        framework_id: Some(scheduler.id.clone()),
        r#type: Some(scheduler::call::Type::Revive as i32),
        ..Default::default()
    });
    let subscribe = encode(&scheduler::Call {
        r#type: Some(scheduler::call::Type::Subscribe as i32),
        subscribe: Some(scheduler::call::Subscribe { framework_info: info(), ..Default::default() }.into()),
        ..Default::default()
    });
    let stream = format!("Mesos-Stream-Id: {}\r\n", scheduler.events.stream_id().unwrap());
    for (line, headers, body, expected) in [
        ("GET /api/v1/scheduler HTTP/1.1\r\n", vec![], &revive, 405),
        (post, vec![], &revive, 400),
        (post, vec![protobuf], &b"garbage".to_vec(), 400),
        (post, vec![protobuf], &Vec::new(), 400),
        (post, vec!["Content-Type: application/x-protobuf; charset=utf-8\r\n"], &revive, 415),
        (post, vec!["Content-Type: text/plain\r\n"], &b"garbage".to_vec(), 415),
        (post, vec![protobuf, "Accept: text/html\r\n"], &subscribe, 406),
        (post, vec![protobuf, stream.as_str()], &subscribe, 400),
        (post, vec![protobuf], &revive, 400),
        (post, vec![protobuf, "Mesos-Stream-Id: nonsense\r\n"], &revive, 400),
        (post, vec![protobuf, stream.as_str()], &revive, 202),
        ("POST /master/api/v1/scheduler HTTP/1.1\r\n", vec![protobuf, stream.as_str()], &revive, 202),
        ("POST /nothing HTTP/1.1\r\n", vec![protobuf], &revive, 404),
    ] {
        let (status, head, body) = exchange(address, line, &headers, body);
        assert_eq!(status, expected, "{line} {headers:?}: {head} {}", String::from_utf8_lossy(&body));
    }
    stage.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn executor_calls_are_refused_in_the_order_of_mesos() {
    let stage = Stage::new().await;
    let address = stage.cluster.address();
    let mut scheduler = stage.subscribe(info()).await;
    let protobuf = "Content-Type: application/x-protobuf\r\n";
    let post = |call: &executor::Call| {
        let body = prost::Message::encode_to_vec(call);
        exchange(address, "POST /slave(1)/api/v1/executor HTTP/1.1\r\n", &[protobuf], &body).0
    };
    let message = |id: &str| executor::Call {
        message: Some(executor::call::Message { data: b"hello".to_vec() }),
        ..executor_call(&scheduler, id, executor::call::Type::Message)
    };
    let (early, heartbeat) = (message("t"), executor_call(&scheduler, "x", executor::call::Type::Heartbeat));
    assert_eq!(post(&early), 400, "unknown framework");
    assert_eq!(post(&executor_call(&scheduler, "t", executor::call::Type::Subscribe)), 400, "no body");
    assert_eq!(post(&heartbeat), 202);
    scheduler.launch("t").await;
    wait_for(|| stage.has_sandbox()).await;
    assert_eq!(post(&early), 403, "not subscribed");
    let _executor = stage.subscribe_executor(&scheduler, "t").await;
    assert_eq!(post(&early), 202);
    let event = scheduler.next().await;
    assert_eq!(event.message.map(|message| message.data), Some(b"hello".to_vec()));
    stage.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn another_framework_may_speak_json() {
    let stage = Stage::new().await;
    let address = stage.cluster.address();
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(LIMIT)).unwrap();
    let body = r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"json","failover_timeout":3600,"capabilities":[{"type":"TASK_KILLING_STATE"}]},"unknown":1}}"#;
    let json = "Content-Type: application/json\r\nAccept: application/json\r\n";
    let head =
        format!("POST /api/v1/scheduler HTTP/1.1\r\nHost: localhost\r\n{json}Content-Length: {}\r\n\r\n", body.len());
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(body.as_bytes()).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("\"OFFERS\"") {
        let count = match connection.read(&mut buffer) {
            // A child of a cluster has ended: its signal may come to this thread.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other.unwrap(),
        };
        assert_ne!(count, 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    assert!(text.contains("content-type: application/json\r\n"), "{text}");
    assert!(text.contains("\"agent_id\":{\"value\":"), "{text}");
    let after = |mark: &str| {
        let start = text.find(mark).unwrap_or_else(|| panic!("no {mark} in {text}")) + mark.len();
        text[start..].split(['"', '\r']).next().unwrap().to_owned()
    };
    let (framework, stream) = (after("\"framework_id\":{\"value\":\""), after("mesos-stream-id: "));
    let (agent, offer) =
        (after("\"agent_id\":{\"value\":\""), after("-0000\"},\"hostname\":\"127.0.0.1\",\"id\":{\"value\":\""));
    let accept = serde_json::json!({
        "framework_id": { "value": framework },
        "type": "ACCEPT",
        "accept": {
            "offer_ids": [{ "value": offer }],
            "operations": [{ "type": "LAUNCH", "launch": { "task_infos": [{
                "name": "t",
                "task_id": { "value": "t" },
                "agent_id": { "value": agent },
                "data": "aGVsbG8=",
                "command": { "value": "true" },
                "resources": [
                    { "name": "cpus", "type": "SCALAR", "scalar": { "value": 1 } },
                    { "name": "mem", "type": "SCALAR", "scalar": { "value": 32 }, "role": "*" },
                ],
            }] } }],
            "filters": { "refuse_seconds": 5.0 },
        },
    });
    let stream = format!("Mesos-Stream-Id: {stream}\r\n");
    let headers = ["Content-Type: application/json\r\n", stream.as_str()];
    let body = accept.to_string();
    let (status, _, answer) = exchange(address, "POST /api/v1/scheduler HTTP/1.1\r\n", &headers, body.as_bytes());
    assert_eq!(status, 202, "{}", String::from_utf8_lossy(&answer));
    wait_for(|| stage.has_sandbox()).await;
    stage.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_agent_has_what_its_host_has_unless_it_is_told_otherwise() {
    let stage = Stage::start(1, &[], Access::Open, None).await;
    let offer = stage.subscribe(info()).await.offer().await;
    let offered = proto::resources::Resources::from(offer.resources);
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert_eq!(offered.scalar("cpus").as_f64(), cpus as f64);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total: f64 = meminfo.split_whitespace().nth(1).unwrap().parse().unwrap();
    let part = offered.scalar("mem").as_f64() / (total / 1024.0);
    assert!((0.49..1.0).contains(&part), "{offered} of {total} kB");
    let disk = rustix::fs::statvfs(stage.dir.path()).unwrap();
    let part = offered.scalar("disk").as_f64() / ((disk.f_blocks * disk.f_frsize) as f64 / f64::from(1 << 20));
    assert!((0.49..1.0).contains(&part), "{offered}");
    assert_eq!(offered.ranges("ports"), [(31000, 32000)]);
    stage.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn private_work_directory_is_removed_and_so_is_that_of_a_killed_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let left = tempfile::Builder::new().prefix("launch-container-local.").tempdir().unwrap();
    fs::write(left.path().join(".lock"), "").unwrap();
    fs::create_dir(left.path().join("slaves")).unwrap();
    let cluster = Cluster::start(Options { containerizer: stub(dir.path()), ..Options::default() }).await.unwrap();
    let url: Url = format!("http://{}/slave(1)/state", cluster.address()).parse().unwrap();
    let client = Client::new(ClientOptions::default()).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&client.get(&url, 1 << 20).await.unwrap()).unwrap();
    let work_dir = PathBuf::from(state["flags"]["work_dir"].as_str().unwrap());
    assert_eq!(fs::metadata(&work_dir).unwrap().permissions().mode() & 0o777, 0o700);
    cluster.shutdown().await.unwrap();
    assert!(!work_dir.exists());
    // Another cluster of this user may have come first, and be at it.
    wait_for(|| !left.path().exists()).await;
}

fn info() -> mesos::FrameworkInfo {
    let user = if rustix::process::geteuid().is_root() { "root" } else { "somebody" };
    mesos::FrameworkInfo { user: user.to_owned(), name: "test".to_owned(), ..Default::default() }
}

fn executor_call(scheduler: &Scheduler, id: &str, kind: executor::call::Type) -> executor::Call {
    executor::Call {
        executor_id: mesos::ExecutorId { value: id.to_owned() },
        framework_id: scheduler.id.clone(),
        r#type: Some(kind as i32),
        ..Default::default()
    }
}

fn stub(dir: &Path) -> PathBuf {
    let (text, path) = (dir.join("stub.text"), dir.join("stub"));
    fs::write(&text, STUB.replace("DIR", &dir.display().to_string())).unwrap();
    fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
    // A file that this process itself had open for writing might be busy: a child of another test may have inherited it.
    assert!(std::process::Command::new("cp").args([&text, &path]).status().unwrap().success());
    path
}

/// What the stub was asked to do; verbs that run side by side come in any order.
fn verbs(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("verbs")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn only_entry(dir: &Path) -> PathBuf {
    let mut entries = fs::read_dir(dir).unwrap();
    let entry = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none(), "{}", dir.display());
    entry
}

/// For what shows only on disk.
async fn wait_for(is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, so).await.expect("in time");
}

/// Command lines of processes that work in the directory.
fn processes_in(dir: &Path) -> Vec<String> {
    let dir = dir.canonicalize().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if cwd.starts_with(&dir) {
            found.push(fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default());
        }
    }
    found
}

fn get_raw(stage: &Stage, path: &str) -> (u16, Vec<u8>) {
    let (status, _, body) = exchange(stage.cluster.address(), &format!("GET {path} HTTP/1.1\r\n"), &[], b"");
    (status, body)
}

/// One exchange on a connection of its own: status, head, body.
fn exchange(address: SocketAddr, line: &str, headers: &[&str], body: &[u8]) -> (u16, String, Vec<u8>) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(LIMIT)).unwrap();
    let fixed = format!("Host: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    let request = [line.as_bytes(), headers.concat().as_bytes(), fixed.as_bytes(), body].concat();
    connection.write_all(&request).unwrap();
    let mut response = Vec::new();
    connection.read_to_end(&mut response).unwrap();
    let end = response.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(response[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, response.split_off(end))
}
