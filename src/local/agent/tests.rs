//! The agent as master, executors and containerizer see it.

use proto::framing;
use proto::mesos::TaskState;
use proto::resources::Resources;

use super::*;

const STREAM: StreamId = StreamId(1);

struct World {
    agent: Agent,
    now: Duration,
}

impl World {
    fn new() -> Self {
        Self { agent: Agent::new(config("S0", "/work")), now: Duration::ZERO }
    }

    fn handle(&mut self, input: Input) -> Vec<Effect> {
        self.agent.handle(self.now, input)
    }

    /// Runs a task and gives the id of its container.
    fn run(&mut self, task: mesos::TaskInfo) -> String {
        let effects = self.handle(run_task(task));
        match &effects[..] {
            [Effect::Launch { launch, .. }] => launch.container_id.value.clone(),
            other => panic!("expected a launch: {other:?}"),
        }
    }

    /// Runs a task whose executor has subscribed and was given it.
    fn run_and_subscribe(&mut self, task: mesos::TaskInfo) -> String {
        let executor = task.executor.as_ref().map_or(&task.task_id.value, |it| &it.executor_id.value).clone();
        let container_id = self.run(task);
        self.launched(&container_id);
        self.subscribe(&executor);
        let effects = self.updated(&container_id);
        assert_eq!(kinds(&effects), [event::Type::Launch]);
        container_id
    }

    fn launched(&mut self, container_id: &str) -> Vec<Effect> {
        self.handle(Input::Launched { container_id: container_id.to_owned(), result: Ok(()) })
    }

    fn updated(&mut self, container_id: &str) -> Vec<Effect> {
        self.handle(Input::Updated { container_id: container_id.to_owned(), result: Ok(()) })
    }

    fn waited(&mut self, container_id: &str, termination: ecp::Termination) -> Vec<Effect> {
        self.handle(Input::Waited { container_id: container_id.to_owned(), result: Ok(termination) })
    }

    fn destroyed(&mut self, container_id: &str) -> Vec<Effect> {
        self.handle(Input::Destroyed { container_id: container_id.to_owned() })
    }

    fn subscribe(&mut self, executor: &str) -> Vec<Effect> {
        let subscribe = Some(call::Subscribe::default());
        let call = Call { subscribe, ..plain(executor, call::Type::Subscribe) };
        self.handle(Input::Subscribe { stream: STREAM, call: Box::new(call) })
    }

    fn tell(&mut self, executor: &str, task: &str, state: TaskState, uuid: u8) -> Vec<Effect> {
        let status = status(task, state, uuid);
        let call = Call { update: Some(call::Update { status }), ..plain(executor, call::Type::Update) };
        self.handle(Input::Call(Box::new(call)))
    }

    fn acknowledge(&mut self, task: &str, uuid: u8) -> Vec<Effect> {
        self.handle(Input::Acknowledge { framework_id: "F".to_owned(), task_id: task.to_owned(), uuid: vec![uuid; 16] })
    }

    fn kill(&mut self, task: &str) -> Vec<Effect> {
        self.handle(Input::KillTask { framework_id: "F".to_owned(), task_id: task.to_owned(), kill_policy: None })
    }
}

fn config(agent_id: &str, work_dir: &str) -> Config {
    Config {
        info: mesos::AgentInfo {
            id: Some(mesos::AgentId { value: agent_id.to_owned() }),
            hostname: "127.0.0.1".to_owned(),
            ..Default::default()
        },
        number: 1,
        hostname: "127.0.0.1".to_owned(),
        port: 5051,
        work_dir: work_dir.to_owned(),
        libexec: "/usr/libexec/mesos".to_owned(),
        shutdown_grace: Duration::from_secs(5),
        switch_user: true,
        epoch_seconds: 1_000_000.0,
        first_id: 0,
    }
}

fn framework() -> mesos::FrameworkInfo {
    mesos::FrameworkInfo {
        user: "root".to_owned(),
        name: "test".to_owned(),
        id: Some(mesos::FrameworkId { value: "F".to_owned() }),
        ..Default::default()
    }
}

fn run_task(task: mesos::TaskInfo) -> Input {
    Input::RunTask { framework: framework().into(), task: Box::new(task) }
}

fn task(id: &str) -> mesos::TaskInfo {
    let resources: Resources = "cpus:1;mem:64".parse().expect("resources of a test");
    mesos::TaskInfo {
        name: id.to_owned(),
        task_id: mesos::TaskId { value: id.to_owned() },
        agent_id: mesos::AgentId { value: "S0".to_owned() },
        resources: resources.into(),
        command: Some(mesos::CommandInfo { value: Some("true".to_owned()), ..Default::default() }),
        ..Default::default()
    }
}

fn custom_task(id: &str) -> mesos::TaskInfo {
    let resources: Resources = "cpus:0.5;mem:32".parse().expect("resources of a test");
    let command = mesos::CommandInfo { value: Some("./executor".to_owned()), ..Default::default() };
    let executor = mesos::ExecutorInfo {
        executor_id: mesos::ExecutorId { value: "e".to_owned() },
        command: Some(command),
        resources: resources.into(),
        ..Default::default()
    };
    mesos::TaskInfo { command: None, executor: Some(executor.into()), ..task(id) }
}

fn plain(executor: &str, kind: call::Type) -> Call {
    Call {
        executor_id: mesos::ExecutorId { value: executor.to_owned() },
        framework_id: mesos::FrameworkId { value: "F".to_owned() },
        r#type: Some(kind as i32),
        ..Default::default()
    }
}

fn status(task: &str, state: TaskState, uuid: u8) -> mesos::TaskStatus {
    mesos::TaskStatus {
        task_id: mesos::TaskId { value: task.to_owned() },
        state: state as i32,
        source: Some(Source::Executor as i32),
        uuid: Some(vec![uuid; 16]),
        ..Default::default()
    }
}

/// What `wait` says at once of a command task.
fn neutral() -> ecp::Termination {
    ecp::Termination { killed: false, message: Some(String::new()), ..Default::default() }
}

/// The events for executors.
fn kinds(effects: &[Effect]) -> Vec<event::Type> {
    let kind = |effect: &Effect| match effect {
        Effect::Event { event, .. } => Some(event.r#type()),
        _ => None,
    };
    effects.iter().filter_map(kind).collect()
}

/// The updates for the master.
fn told(effects: &[Effect]) -> Vec<mesos::TaskStatus> {
    let status = |effect: &Effect| match effect {
        Effect::Master(input) => match input.as_ref() {
            master::Input::Update { status, .. } => Some(status.as_ref().clone()),
            _ => None,
        },
        _ => None,
    };
    effects.iter().filter_map(status).collect()
}

fn states(effects: &[Effect]) -> Vec<(TaskState, Option<Reason>)> {
    told(effects).iter().map(|status| (status.state(), status.reason.map(|_| status.reason()))).collect()
}

fn has_destroy(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Destroy { .. }))
}

fn updates(effects: &[Effect]) -> Vec<String> {
    let resources = |effect: &Effect| match effect {
        Effect::Update { update, .. } => Some(Resources::from(update.resources.as_slice()).to_string()),
        _ => None,
    };
    effects.iter().filter_map(resources).collect()
}

#[test]
fn command_task_runs_from_launch_to_acknowledged_end() {
    let mut world = World::new();
    let container_id = world.run(task("t"));
    let effects = world.launched(&container_id);
    assert!(matches!(&effects[..], [Effect::Wait { .. }]), "{effects:?}");
    let effects = world.subscribe("t");
    assert_eq!(kinds(&effects), [event::Type::Subscribed]);
    assert_eq!(updates(&effects), ["cpus:1.1;mem:96"], "its executor's and the task's");
    assert_eq!(kinds(&world.updated(&container_id)), [event::Type::Launch]);
    let effects = world.tell("t", "t", TaskState::TaskRunning, 1);
    assert_eq!(kinds(&effects), [event::Type::Acknowledged]);
    assert_eq!(states(&effects), [(TaskState::TaskRunning, None)]);
    let effects = world.tell("t", "t", TaskState::TaskFinished, 2);
    assert_eq!(updates(&effects), ["cpus:0.1;mem:32"], "without the ended task");
    assert_eq!((kinds(&effects), states(&effects)), (Vec::new(), Vec::new()), "only after the update");
    let effects = world.updated(&container_id);
    assert_eq!(kinds(&effects), [event::Type::Acknowledged]);
    assert_eq!(states(&effects), [], "RUNNING is not acknowledged yet");
    assert_eq!(states(&world.acknowledge("t", 1)), [(TaskState::TaskFinished, None)]);
    world.acknowledge("t", 2);
    let effects = world.waited(&container_id, neutral());
    assert!(matches!(&effects[..], [Effect::CloseStream { .. }]), "{effects:?}");
    assert!(world.agent.is_empty());
    assert_eq!(world.agent.next_timeout(), None);
}

#[test]
fn launch_messages_are_those_of_a_real_slave() {
    for name in ["plain", "argv", "entrypoint", "full", "custom"] {
        let path = format!("{}/tests/fixtures/mesos-1.0.4/ecp/launch-{name}.bin", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).expect("a recorded message");
        let recorded: ecp::Launch = framing::read(&mut bytes.as_slice()).expect("a recorded message");
        let agent_id = recorded.agent_id.clone().unwrap_or_default().value;
        let framework_id = recorded.executor_info.as_ref().and_then(|executor| executor.framework_id.clone());
        let mut agent = Agent::new(config(&agent_id, "/var/lib/mesos"));
        let task = recorded.task_info.clone().unwrap_or_else(|| {
            // Of a custom task the slave shows the executor only, with the first task's resources in it.
            let own: Resources = "cpus:0.1;mem:32".parse().expect("resources of a test");
            let of_task: Resources = "cpus:0.25;mem:64".parse().expect("resources of a test");
            let executor =
                mesos::ExecutorInfo { resources: own.into(), ..recorded.executor_info.clone().unwrap_or_default() };
            mesos::TaskInfo {
                command: None,
                executor: Some(executor.into()),
                resources: of_task.into(),
                ..task("custom")
            }
        });
        let framework = mesos::FrameworkInfo { id: framework_id, ..framework() };
        let input = Input::RunTask { framework: framework.into(), task: Box::new(task) };
        let effects = agent.handle(Duration::ZERO, input);
        let [Effect::Launch { launch, .. }] = &effects[..] else { panic!("expected a launch: {effects:?}") };
        let mut launch = launch.as_ref().clone();
        let container_id = std::mem::replace(&mut launch.container_id, recorded.container_id.clone());
        launch.directory = launch.directory.map(|it| it.replace(&container_id.value, &recorded.container_id.value));
        // This agent never recovers.
        launch.checkpoint = recorded.checkpoint;
        assert_eq!(launch, recorded, "{name}");
    }
}

#[test]
fn launch_environment_says_where_the_agent_is_and_that_nothing_is_recovered() {
    let mut world = World::new();
    let task = mesos::TaskInfo {
        kill_policy: Some(mesos::KillPolicy { grace_period: Some(mesos::DurationInfo { nanoseconds: 500_000_000 }) }),
        ..task("t")
    };
    let effects = world.handle(run_task(task));
    let [Effect::Launch { launch, environment }] = &effects[..] else { panic!("expected a launch: {effects:?}") };
    let find = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(find("MESOS_SLAVE_PID"), Some("slave(1)@127.0.0.1:5051"));
    assert_eq!(find("MESOS_AGENT_ENDPOINT"), Some("127.0.0.1:5051"));
    assert_eq!(find("MESOS_FRAMEWORK_ID"), Some("F"));
    assert_eq!(find("MESOS_EXECUTOR_ID"), Some("t"));
    assert_eq!(find("MESOS_SLAVE_ID"), Some("S0"));
    assert_eq!(find("MESOS_DIRECTORY"), launch.directory.as_deref());
    assert_eq!(find("MESOS_CHECKPOINT"), Some("0"));
    assert_eq!(find("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"), Some("5.5secs"));
    assert_eq!(find("MESOS_HTTP_COMMAND_EXECUTOR"), Some("0"));
}

#[test]
fn executor_that_subscribes_before_launch_returns_waits_for_its_task() {
    let mut world = World::new();
    let container_id = world.run(task("t"));
    let effects = world.subscribe("t");
    assert_eq!(kinds(&effects), [event::Type::Subscribed]);
    assert_eq!(updates(&effects), Vec::<String>::new());
    let effects = world.launched(&container_id);
    assert_eq!(updates(&effects).len(), 1);
}

#[test]
fn failed_launch_fails_the_task_with_the_words_of_mesos() {
    let mut world = World::new();
    let container_id = world.run(task("t"));
    let why = "Could not launch container 'c': External containerizer failed (status: 256)";
    let effects = world.handle(Input::Launched { container_id, result: Err(why.to_owned()) });
    assert_eq!(states(&effects), [(TaskState::TaskFailed, Some(Reason::ContainerLaunchFailed))]);
    let expected = format!("Failed to launch container: {why}; Abnormal executor termination");
    assert_eq!(told(&effects)[0].message(), expected);
    assert!(told(&effects)[0].uuid.is_some());
    assert!(world.agent.is_empty());
}

#[test]
fn executor_that_does_not_register_is_destroyed() {
    let mut world = World::new();
    let container_id = world.run(task("t"));
    world.launched(&container_id);
    world.now = Duration::from_secs(59);
    assert!(!has_destroy(&world.handle(Input::Tick)));
    assert_eq!(world.agent.next_timeout(), Some(Duration::from_secs(60)));
    world.now = Duration::from_secs(60);
    assert!(has_destroy(&world.handle(Input::Tick)));
    let effects = world.destroyed(&container_id);
    assert_eq!(states(&effects), [(TaskState::TaskFailed, Some(Reason::ExecutorRegistrationTimeout))]);
    assert_eq!(told(&effects)[0].message(), "Executor did not register within 1mins");
}

#[test]
fn container_that_dies_takes_its_task_and_what_is_left_is_destroyed() {
    let mut world = World::new();
    let container_id = world.run_and_subscribe(task("t"));
    world.tell("t", "t", TaskState::TaskRunning, 1);
    world.acknowledge("t", 1);
    let effects = world.waited(&container_id, neutral());
    assert!(has_destroy(&effects));
    let effects = world.destroyed(&container_id);
    assert_eq!(states(&effects), [(TaskState::TaskFailed, Some(Reason::ExecutorTerminated))]);
    assert_eq!(told(&effects)[0].source(), Source::Agent);
}

#[test]
fn termination_says_state_reason_and_message() {
    let mut world = World::new();
    let container_id = world.run_and_subscribe(custom_task("t"));
    let termination = ecp::Termination {
        killed: true,
        message: Some("Memory limit exceeded".to_owned()),
        status: Some(9),
        state: Some(TaskState::TaskFailed as i32),
        reasons: vec![Reason::ContainerLimitationMemory as i32],
    };
    let effects = world.waited(&container_id, termination);
    assert_eq!(states(&effects), [(TaskState::TaskFailed, Some(Reason::ContainerLimitationMemory))]);
    assert_eq!(told(&effects)[0].message(), "Memory limit exceeded");
    let exited = effects.iter().find_map(|effect| match effect {
        Effect::Master(input) => match input.as_ref() {
            master::Input::ExecutorExited { status, .. } => Some(*status),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(exited, Some(9));
}

#[test]
fn failed_wait_destroys_the_container() {
    let mut world = World::new();
    let container_id = world.run_and_subscribe(task("t"));
    let effects = world.handle(Input::Waited { container_id: container_id.clone(), result: Err("no".to_owned()) });
    assert!(has_destroy(&effects));
    let effects = world.destroyed(&container_id);
    assert_eq!(states(&effects), [(TaskState::TaskFailed, Some(Reason::ExecutorTerminated))]);
}

#[test]
fn failed_update_destroys_the_container_and_a_terminal_status_passes_nevertheless() {
    let mut world = World::new();
    let container_id = world.run_and_subscribe(task("t"));
    world.tell("t", "t", TaskState::TaskFinished, 1);
    let effects = world.handle(Input::Updated { container_id: container_id.clone(), result: Err("no".to_owned()) });
    assert_eq!(states(&effects), [(TaskState::TaskFinished, None)]);
    assert!(has_destroy(&effects));
    let mut world = World::new();
    let container_id = world.run(task("t"));
    world.launched(&container_id);
    world.subscribe("t");
    let effects = world.handle(Input::Updated { container_id: container_id.clone(), result: Err("no".to_owned()) });
    assert_eq!(kinds(&effects), [], "the task is not handed over");
    assert!(has_destroy(&effects));
    let effects = world.destroyed(&container_id);
    assert_eq!(states(&effects), [(TaskState::TaskLost, Some(Reason::ContainerUpdateFailed))]);
}

#[test]
fn kill_reaches_a_running_executor() {
    let mut world = World::new();
    world.run_and_subscribe(task("t"));
    assert_eq!(kinds(&world.kill("t")), [event::Type::Kill]);
    assert_eq!(kinds(&world.kill("t")), [event::Type::Kill], "again, if asked again");
}

#[test]
fn kill_before_registration_ends_the_task_and_its_container() {
    let mut world = World::new();
    let container_id = world.run(task("t"));
    let effects = world.kill("t");
    assert_eq!(states(&effects), [(TaskState::TaskKilled, Some(Reason::ExecutorUnregistered))]);
    assert!(!has_destroy(&effects), "launch is on its way");
    // An executor that comes now is sent away.
    assert_eq!(kinds(&world.subscribe("t")), [event::Type::Shutdown]);
    assert!(has_destroy(&world.launched(&container_id)));
    assert_eq!(states(&world.destroyed(&container_id)), []);
    assert!(world.agent.is_empty());
}

#[test]
fn kill_of_an_unknown_task_is_answered_but_not_of_an_ended_one() {
    let mut world = World::new();
    let container_id = world.run_and_subscribe(task("t"));
    assert_eq!(states(&world.kill("u")), [(TaskState::TaskLost, Some(Reason::ExecutorTerminated))]);
    world.tell("t", "t", TaskState::TaskFinished, 1);
    assert_eq!(states(&world.kill("t")), []);
    world.updated(&container_id);
    world.waited(&container_id, neutral());
    assert_eq!(states(&world.kill("t")), []);
}

#[test]
fn second_task_of_a_custom_executor_needs_no_second_container() {
    let mut world = World::new();
    let container_id = world.run_and_subscribe(custom_task("a"));
    let effects = world.handle(run_task(custom_task("b")));
    assert_eq!(updates(&effects), ["cpus:2.5;mem:160"]);
    assert_eq!(kinds(&world.updated(&container_id)), [event::Type::Launch]);
    world.tell("e", "a", TaskState::TaskFinished, 1);
    world.updated(&container_id);
    let effects = world.waited(&container_id, neutral());
    assert_eq!(told(&effects).iter().map(|it| it.task_id.value.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn shutdown_of_a_framework_gives_executors_their_grace_and_no_update_more() {
    let mut world = World::new();
    let container_id = world.run_and_subscribe(task("t"));
    let effects = world.handle(Input::ShutdownFramework { framework_id: "F".to_owned() });
    assert_eq!(kinds(&effects), [event::Type::Shutdown]);
    let effects = world.tell("t", "t", TaskState::TaskKilled, 1);
    assert_eq!(updates(&effects).len(), 1);
    let effects = world.updated(&container_id);
    assert_eq!((kinds(&effects), states(&effects)), (vec![event::Type::Acknowledged], Vec::new()));
    world.now = Duration::from_secs(5);
    assert!(has_destroy(&world.handle(Input::Tick)), "it did not leave within its grace period");
    world.destroyed(&container_id);
    assert_eq!(world.agent.frameworks().count(), 0);
    assert_eq!(world.agent.completed_frameworks().count(), 1);
}

#[test]
fn broken_connection_is_replaced_and_what_never_arrived_is_lost() {
    let mut world = World::new();
    world.run_and_subscribe(task("t"));
    world.handle(Input::Disconnected { stream: STREAM });
    let unacknowledged = status("t", TaskState::TaskStarting, 1);
    let subscribe = call::Subscribe {
        unacknowledged_tasks: vec![task("t")],
        unacknowledged_updates: vec![call::Update { status: unacknowledged }],
    };
    let call = Call { subscribe: Some(subscribe), ..plain("t", call::Type::Subscribe) };
    let effects = world.handle(Input::Subscribe { stream: StreamId(2), call: Box::new(call) });
    assert_eq!(kinds(&effects), [event::Type::Subscribed, event::Type::Acknowledged]);
    assert_eq!(states(&effects), [(TaskState::TaskStarting, None)]);
    let mut world = World::new();
    world.run_and_subscribe(task("t"));
    let effects = world.subscribe("t");
    assert_eq!(states(&effects), [(TaskState::TaskLost, Some(Reason::AgentRestarted))]);
}

#[test]
fn executors_are_refused_as_mesos_refuses_them() {
    let mut world = World::new();
    world.run(task("t"));
    let rejection = |effects: &[Effect]| match effects {
        [Effect::Reject { status, text }] => (*status, text.clone()),
        other => panic!("expected a rejection: {other:?}"),
    };
    let foreign =
        Call { framework_id: mesos::FrameworkId { value: "G".to_owned() }, ..plain("t", call::Type::Subscribe) };
    let effects = world.handle(Input::Subscribe { stream: STREAM, call: Box::new(foreign) });
    assert_eq!(rejection(&effects), (400, "Framework cannot be found".to_owned()));
    assert_eq!(rejection(&world.subscribe("u")), (400, "Executor cannot be found".to_owned()));
    let effects = world.tell("t", "t", TaskState::TaskRunning, 1);
    assert_eq!(rejection(&effects), (403, "Executor is not subscribed".to_owned()));
}

#[test]
fn message_of_an_executor_goes_to_the_master_and_only_of_one_that_has_subscribed() {
    let mut world = World::new();
    world.run_and_subscribe(task("t"));
    let say = |executor: &str| {
        let message = Some(call::Message { data: b"\xffnews".to_vec() });
        Input::Call(Box::new(Call { message, ..plain(executor, call::Type::Message) }))
    };
    let effects = world.handle(say("t"));
    let [Effect::Master(message)] = &effects[..] else { panic!("{effects:?}") };
    let master::Input::ExecutorMessage { agent_id, framework_id, executor_id, data } = &**message else {
        panic!("{message:?}")
    };
    assert_eq!([agent_id, framework_id, executor_id], ["S0", "F", "t"]);
    assert_eq!(data, b"\xffnews");
    world.run(task("early"));
    for executor in ["early", "nobody"] {
        let effects = world.handle(say(executor));
        assert!(matches!(&effects[..], [Effect::Reject { .. }]), "{effects:?}");
    }
}

#[test]
fn updates_of_executors_are_checked() {
    let call = |status| Call { update: Some(call::Update { status }), ..plain("t", call::Type::Update) };
    let good = status("t", TaskState::TaskRunning, 1);
    assert_eq!(check_call(&call(good.clone())), Ok(()));
    for bad in [
        mesos::TaskStatus { uuid: None, ..good.clone() },
        mesos::TaskStatus { uuid: Some(b"short".to_vec()), ..good.clone() },
        mesos::TaskStatus { source: Some(Source::Agent as i32), ..good.clone() },
        mesos::TaskStatus { state: TaskState::TaskStaging as i32, ..good.clone() },
        mesos::TaskStatus { executor_id: Some(mesos::ExecutorId { value: "u".to_owned() }), ..good.clone() },
    ] {
        assert!(check_call(&call(bad.clone())).is_err(), "{bad:?}");
    }
    assert!(check_call(&plain("t", call::Type::Update)).is_err());
    assert!(check_call(&plain("t", call::Type::Subscribe)).is_err());
    assert!(check_call(&Call { r#type: None, ..plain("t", call::Type::Subscribe) }).is_err());
}

#[test]
fn updates_are_completed_and_repeated_until_acknowledged() {
    let mut world = World::new();
    world.run_and_subscribe(task("t"));
    let effects = world.tell("t", "t", TaskState::TaskRunning, 1);
    let status = told(&effects).remove(0);
    assert_eq!(status.agent_id.as_ref().map(|id| id.value.as_str()), Some("S0"));
    assert_eq!(status.executor_id.as_ref().map(|id| id.value.as_str()), Some("t"));
    assert_eq!(status.timestamp, Some(1_000_000.0));
    assert!(status.container_status.is_some());
    world.now = Duration::from_secs(10);
    assert_eq!(told(&world.handle(Input::Tick)), [status]);
    world.acknowledge("t", 1);
    world.now = Duration::from_secs(100);
    assert_eq!(told(&world.handle(Input::Tick)), []);
}

#[test]
fn end_of_the_cluster_destroys_what_runs_and_lets_go_what_leaves() {
    let mut world = World::new();
    let running = world.run_and_subscribe(task("running"));
    let leaving = world.run_and_subscribe(task("leaving"));
    world.tell("leaving", "leaving", TaskState::TaskFinished, 1);
    world.updated(&leaving);
    world.handle(Input::Disconnected { stream: STREAM });
    let launching = world.run(task("launching"));
    let effects = world.handle(Input::Shutdown);
    let destroyed: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Destroy { container_id, .. } => Some(container_id.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(destroyed, [running.as_str()]);
    assert!(has_destroy(&world.launched(&launching)));
    world.destroyed(&running);
    world.destroyed(&launching);
    assert!(!world.agent.is_empty());
    world.now = Duration::from_secs(2);
    assert!(has_destroy(&world.handle(Input::Tick)), "it did not leave in time");
    world.destroyed(&leaving);
    assert!(world.agent.is_empty());
    assert!(world.handle(run_task(task("late"))).is_empty());
}
