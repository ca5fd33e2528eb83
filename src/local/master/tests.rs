//! The master as schedulers and agents see it.

use proto::mesos::TaskState;
use proto::mesos::task_status::Reason;
use proto::scheduler::call;

use super::*;

const HOST: &str = "cpus:4;mem:1024;ports:[31000-31009]";

struct World {
    master: Master,
    now: Time,
    last_stream: u128,
}

/// A subscribed framework.
struct Client {
    id: String,
    stream: StreamId,
}

impl World {
    fn new(agents: u32) -> Self {
        let config = Config {
            id: "M".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 5050,
            epoch_seconds: 1_000_000.0,
            heartbeat_interval: HEARTBEAT_INTERVAL,
        };
        let mut world = Self { master: Master::new(config), now: Duration::ZERO, last_stream: 0 };
        for agent in 0..agents {
            world.handle(Input::AgentRegistered(Box::new(agent_of(agent, HOST))));
        }
        world
    }

    fn handle(&mut self, input: Input) -> Vec<Effect> {
        self.master.handle(self.now, input)
    }

    fn subscribe_as(&mut self, info: mesos::FrameworkInfo) -> (StreamId, Vec<Effect>) {
        self.last_stream += 1;
        let stream = StreamId(self.last_stream);
        let call = scheduler::Call {
            framework_id: info.id.clone(),
            r#type: Some(call::Type::Subscribe as i32),
            subscribe: Some(call::Subscribe { framework_info: info, ..Default::default() }.into()),
            ..Default::default()
        };
        (stream, self.handle(Input::Subscribe { stream, call: Box::new(call) }))
    }

    fn subscribe(&mut self, info: mesos::FrameworkInfo) -> (Client, Vec<scheduler::Event>) {
        let (stream, effects) = self.subscribe_as(info);
        let events = events(&effects, stream);
        let id = events[0].subscribed.as_ref().expect("SUBSCRIBED comes first").framework_id.value.clone();
        (Client { id, stream }, events)
    }

    fn call(&mut self, client: &Client, call: scheduler::Call) -> Vec<Effect> {
        let call = scheduler::Call { framework_id: framework_id(&client.id), ..call };
        self.handle(Input::Call { stream: Some(client.stream), call: Box::new(call) })
    }

    fn accept(&mut self, client: &Client, offer: &mesos::Offer, tasks: Vec<mesos::TaskInfo>) -> Vec<Effect> {
        self.call(client, accept_call(&[&offer.id], tasks))
    }

    fn decline(&mut self, client: &Client, offer: &mesos::Offer, refuse_seconds: f64) -> Vec<Effect> {
        let filters = Some(mesos::Filters { refuse_seconds: Some(refuse_seconds) });
        let decline = Some(call::Decline { offer_ids: vec![offer.id.clone()], filters });
        self.call(client, scheduler::Call { decline, ..plain(call::Type::Decline) })
    }

    fn tell(&mut self, client: &Client, task: &str, state: TaskState, uuid: u8) -> Vec<Effect> {
        let status = mesos::TaskStatus {
            task_id: task_id(task),
            state: state as i32,
            agent_id: Some(agent_id(0)),
            uuid: Some(vec![uuid; 16]),
            ..Default::default()
        };
        self.handle(Input::Update { framework_id: client.id.clone(), status: Box::new(status) })
    }

    fn acknowledge(&mut self, client: &Client, task: &str, uuid: u8) -> Vec<Effect> {
        let (agent_id, task_id) = (agent_id(0), task_id(task));
        let acknowledge = Some(call::Acknowledge { agent_id, task_id, uuid: vec![uuid; 16] });
        self.call(client, scheduler::Call { acknowledge, ..plain(call::Type::Acknowledge) })
    }

    fn wait(&mut self, seconds: u64) -> Vec<Effect> {
        let end = self.now + Duration::from_secs(seconds);
        let mut effects = Vec::new();
        while let Some(at) = self.master.next_timeout().filter(|at| *at <= end) {
            self.now = at;
            effects.extend(self.handle(Input::Tick));
        }
        self.now = end;
        effects
    }
}

fn agent_of(number: u32, resources: &str) -> AgentDescription {
    let resources: Resources = resources.parse().expect("resources of a test");
    AgentDescription {
        info: mesos::AgentInfo {
            id: Some(agent_id(number)),
            hostname: format!("host{number}"),
            port: Some(5051),
            resources: resources.into(),
            ..Default::default()
        },
        url: mesos::Url { scheme: "http".to_owned(), path: Some("/slave(1)".to_owned()), ..Default::default() },
    }
}

fn agent_id(number: u32) -> mesos::AgentId {
    mesos::AgentId { value: format!("S{number}") }
}

fn task_id(id: &str) -> mesos::TaskId {
    mesos::TaskId { value: id.to_owned() }
}

fn framework_id(id: &str) -> Option<mesos::FrameworkId> {
    Some(mesos::FrameworkId { value: id.to_owned() })
}

fn info() -> mesos::FrameworkInfo {
    mesos::FrameworkInfo { user: "root".to_owned(), name: "test".to_owned(), ..Default::default() }
}

fn patient_info() -> mesos::FrameworkInfo {
    mesos::FrameworkInfo { failover_timeout: Some(60.0), ..info() }
}

fn partition_aware_info() -> mesos::FrameworkInfo {
    let capability = mesos::framework_info::capability::Type::PartitionAware as i32;
    let capabilities = vec![mesos::framework_info::Capability { r#type: Some(capability) }];
    mesos::FrameworkInfo { capabilities, ..info() }
}

fn task(id: &str, resources: &str) -> mesos::TaskInfo {
    let resources: Resources = resources.parse().expect("resources of a test");
    mesos::TaskInfo {
        name: id.to_owned(),
        task_id: task_id(id),
        agent_id: agent_id(0),
        resources: resources.into(),
        command: Some(mesos::CommandInfo { value: Some("true".to_owned()), ..Default::default() }),
        ..Default::default()
    }
}

fn with_executor(task: mesos::TaskInfo, executor: &str, resources: &str) -> mesos::TaskInfo {
    let resources: Resources = resources.parse().expect("resources of a test");
    let executor = mesos::ExecutorInfo {
        executor_id: mesos::ExecutorId { value: executor.to_owned() },
        command: task.command.clone(),
        resources: resources.into(),
        ..Default::default()
    };
    mesos::TaskInfo { command: None, executor: Some(executor.into()), ..task }
}

fn plain(kind: call::Type) -> scheduler::Call {
    scheduler::Call { r#type: Some(kind as i32), ..Default::default() }
}

fn accept_call(offers: &[&mesos::OfferId], task_infos: Vec<mesos::TaskInfo>) -> scheduler::Call {
    let launch = mesos::offer::Operation {
        r#type: Some(mesos::offer::operation::Type::Launch as i32),
        launch: Some(mesos::offer::operation::Launch { task_infos }),
        ..Default::default()
    };
    let accept = call::Accept {
        offer_ids: offers.iter().map(|id| (*id).clone()).collect(),
        operations: vec![launch],
        filters: None,
    };
    scheduler::Call { accept: Some(accept), ..plain(call::Type::Accept) }
}

fn kill_call(id: &str) -> scheduler::Call {
    let kill = Some(call::Kill { task_id: task_id(id), ..Default::default() });
    scheduler::Call { kill, ..plain(call::Type::Kill) }
}

fn reconcile_call(ids: &[(&str, Option<u32>)]) -> scheduler::Call {
    let tasks =
        ids.iter().map(|(id, agent)| call::reconcile::Task { task_id: task_id(id), agent_id: agent.map(agent_id) });
    scheduler::Call { reconcile: Some(call::Reconcile { tasks: tasks.collect() }), ..plain(call::Type::Reconcile) }
}

fn events(effects: &[Effect], stream: StreamId) -> Vec<scheduler::Event> {
    let of_stream = |effect: &Effect| match effect {
        Effect::Event { stream: other, event } if *other == stream => Some(event.as_ref().clone()),
        _ => None,
    };
    effects.iter().filter_map(of_stream).collect()
}

fn kinds(events: &[scheduler::Event]) -> Vec<event::Type> {
    events.iter().map(scheduler::Event::r#type).collect()
}

fn offers(events: &[scheduler::Event]) -> Vec<mesos::Offer> {
    events.iter().filter_map(|event| event.offers.as_ref()).flat_map(|offers| offers.offers.clone()).collect()
}

fn offers_in(effects: &[Effect], client: &Client) -> Vec<mesos::Offer> {
    offers(&events(effects, client.stream))
}

fn statuses(effects: &[Effect], client: &Client) -> Vec<(String, TaskState, Option<Reason>)> {
    let events = events(effects, client.stream);
    let statuses = events.iter().filter_map(|event| event.update.as_ref()).map(|update| &update.status);
    statuses.map(|it| (it.task_id.value.clone(), it.state(), it.reason.map(|_| it.reason()))).collect()
}

fn run_tasks(effects: &[Effect]) -> Vec<String> {
    let task = |effect: &Effect| match effect {
        Effect::RunTask { task, .. } => Some(task.task_id.value.clone()),
        _ => None,
    };
    effects.iter().filter_map(task).collect()
}

fn amount(offer: &mesos::Offer, name: &str) -> f64 {
    Resources::from(offer.resources.as_slice()).scalar(name).as_f64()
}

fn rejection(effects: &[Effect]) -> Option<u16> {
    match effects {
        [Effect::Reject { status, .. }, ..] => Some(*status),
        _ => None,
    }
}

#[test]
fn subscription_begins_with_subscribed_heartbeat_and_offers() {
    let mut world = World::new(2);
    let (client, events) = world.subscribe(info());
    assert_eq!(kinds(&events), [event::Type::Subscribed, event::Type::Heartbeat, event::Type::Offers]);
    let subscribed = events[0].subscribed.clone().expect("SUBSCRIBED has a body");
    assert_eq!(subscribed.heartbeat_interval_seconds, Some(15.0));
    assert_eq!(client.id, "M-0000");
    let offers = offers(&events);
    assert_eq!(offers.len(), 2);
    assert_eq!(offers[0].agent_id, agent_id(0));
    assert_eq!(offers[0].hostname, "host0");
    assert_eq!(amount(&offers[0], "cpus"), 4.0);
    assert_eq!(offers[0].url.as_ref().map(|url| url.path()), Some("/slave(1)"));
}

#[test]
fn heartbeats_come_every_fifteen_seconds_while_subscribed() {
    let mut world = World::new(0);
    let (client, _) = world.subscribe(info());
    let effects = world.wait(60);
    assert_eq!(kinds(&events(&effects, client.stream)), [event::Type::Heartbeat; 4]);
    world.handle(Input::Disconnected { stream: client.stream });
    assert_eq!(world.wait(60), []);
}

#[test]
fn offers_are_made_when_an_agent_comes() {
    let mut world = World::new(0);
    let (client, events) = world.subscribe(info());
    assert_eq!(offers(&events), []);
    let effects = world.handle(Input::AgentRegistered(Box::new(agent_of(0, HOST))));
    assert_eq!(offers_in(&effects, &client).len(), 1);
}

#[test]
fn offers_are_exclusive() {
    let mut world = World::new(1);
    let (first, events) = world.subscribe(info());
    let offer = offers(&events).remove(0);
    let (second, events) = world.subscribe(info());
    assert_eq!(offers(&events), []);
    // What the first one declines goes to the second one at once.
    let effects = world.decline(&first, &offer, 5.0);
    assert_eq!(offers_in(&effects, &second).len(), 1);
    assert_eq!(offers_in(&effects, &first), []);
}

#[test]
fn framework_with_the_smaller_share_is_offered_first() {
    let mut world = World::new(2);
    let (first, events) = world.subscribe(info());
    let both = offers(&events);
    let (second, _) = world.subscribe(info());
    world.accept(&first, &both[0], vec![task("t", "cpus:4;mem:512")]);
    let effects = world.decline(&first, &both[1], 0.0);
    assert_eq!(offers_in(&effects, &second).len(), 1);
    // Another agent: the first one holds half of a cluster, the second one more, but only as an offer.
    let effects = world.handle(Input::AgentRegistered(Box::new(agent_of(2, "cpus:1;mem:64"))));
    assert_eq!(offers_in(&effects, &first).len() + offers_in(&effects, &second).len(), 1);
}

#[test]
fn accepted_task_goes_to_the_agent_and_the_rest_is_refused_for_a_while() {
    let mut world = World::new(1);
    let (client, events) = world.subscribe(info());
    let effects = world.accept(&client, &offers(&events)[0], vec![task("t", "cpus:1;mem:128;ports:[31000-31000]")]);
    assert_eq!(run_tasks(&effects), ["t"]);
    assert_eq!(offers_in(&effects, &client), []);
    let effects = world.wait(6);
    let rest = offers_in(&effects, &client).remove(0);
    assert_eq!((amount(&rest, "cpus"), amount(&rest, "mem")), (3.0, 896.0));
    assert_eq!(Resources::from(rest.resources).ranges("ports"), [(31001, 31009)]);
}

#[test]
fn ended_task_frees_its_resources_at_once_and_is_forgotten_when_acknowledged() {
    let mut world = World::new(1);
    let (client, events) = world.subscribe(info());
    world.accept(&client, &offers(&events)[0], vec![task("t", "cpus:4;mem:1024")]);
    let effects = world.tell(&client, "t", TaskState::TaskRunning, 1);
    assert_eq!(statuses(&effects, &client), [("t".to_owned(), TaskState::TaskRunning, None)]);
    world.acknowledge(&client, "t", 1);
    let effects = world.tell(&client, "t", TaskState::TaskFinished, 2);
    assert_eq!(amount(&offers_in(&effects, &client)[0], "cpus"), 4.0);
    let effects = world.call(&client, reconcile_call(&[]));
    assert_eq!(statuses(&effects, &client).len(), 1, "known until its end is acknowledged");
    let effects = world.acknowledge(&client, "t", 2);
    assert!(matches!(effects[..], [Effect::Acknowledge { .. }]), "{effects:?}");
    let effects = world.call(&client, reconcile_call(&[]));
    assert_eq!(statuses(&effects, &client), []);
}

#[test]
fn declined_resources_come_back_after_the_filter() {
    for (refuse_seconds, expected) in [(5.0, 5), (-1.0, 5), (0.0, 1), (0.5, 1), (30.0, 30)] {
        let mut world = World::new(1);
        let (client, events) = world.subscribe(info());
        let effects = world.decline(&client, &offers(&events)[0], refuse_seconds);
        assert_eq!(offers_in(&effects, &client), []);
        let mut seconds = 0;
        while offers_in(&world.wait(1), &client).is_empty() {
            seconds += 1;
            assert!(seconds < 60, "no offer came back");
        }
        assert_eq!(seconds + 1, expected, "refuse_seconds {refuse_seconds}");
    }
}

#[test]
fn more_than_was_declined_is_offered_in_spite_of_the_filter() {
    let mut world = World::new(1);
    let (client, events) = world.subscribe(info());
    let mut accept = accept_call(&[&offers(&events)[0].id], vec![task("t", "cpus:1;mem:128")]);
    accept.accept.as_mut().expect("an ACCEPT").filters = Some(mesos::Filters { refuse_seconds: Some(1e6) });
    world.call(&client, accept);
    assert_eq!(offers_in(&world.wait(1000), &client), []);
    let effects = world.tell(&client, "t", TaskState::TaskFailed, 1);
    assert_eq!(amount(&offers_in(&effects, &client)[0], "cpus"), 4.0);
}

#[test]
fn revive_clears_filters_and_suppress_stops_offers() {
    let mut world = World::new(1);
    let (client, events) = world.subscribe(info());
    world.decline(&client, &offers(&events)[0], 1e6);
    let effects = world.call(&client, plain(call::Type::Revive));
    let offer = offers_in(&effects, &client).remove(0);
    world.call(&client, plain(call::Type::Suppress));
    world.decline(&client, &offer, 0.0);
    assert_eq!(offers_in(&world.wait(100), &client), []);
    let effects = world.call(&client, plain(call::Type::Revive));
    assert_eq!(offers_in(&effects, &client).len(), 1);
}

#[test]
fn invalid_offers_lose_the_task() {
    let mut world = World::new(2);
    let (client, events) = world.subscribe(info());
    let offers = offers(&events);
    let lost = |effects: &[Effect], client: &Client, state| {
        let expected = [("t".to_owned(), state, Some(Reason::InvalidOffers))];
        assert_eq!(statuses(effects, client), expected);
        assert_eq!(run_tasks(effects), Vec::<String>::new());
    };
    let tasks = || vec![task("t", "cpus:1;mem:32")];
    let unknown = mesos::OfferId { value: "M-O999".to_owned() };
    lost(&world.call(&client, accept_call(&[&unknown], tasks())), &client, TaskState::TaskLost);
    let twice = accept_call(&[&offers[0].id, &offers[0].id], tasks());
    let effects = world.call(&client, twice);
    lost(&effects, &client, TaskState::TaskLost);
    // The offer named in vain is free again.
    let again = offers_in(&effects, &client).remove(0);
    let two_agents = accept_call(&[&again.id, &offers[1].id], tasks());
    lost(&world.call(&client, two_agents), &client, TaskState::TaskLost);
    let (aware, _) = world.subscribe(partition_aware_info());
    let foreign = accept_call(&[&offers[0].id], tasks());
    lost(&world.call(&aware, foreign), &aware, TaskState::TaskDropped);
}

#[test]
fn master_says_nothing_with_a_uuid_and_everything_with_a_time() {
    let mut world = World::new(1);
    let (client, _) = world.subscribe(info());
    world.now = Duration::from_secs(7);
    let effects = world.call(&client, kill_call("nothing"));
    let event = events(&effects, client.stream).remove(0);
    let status = event.update.expect("an UPDATE").status;
    assert_eq!(status.uuid, None);
    assert_eq!(status.source(), mesos::task_status::Source::Master);
    assert_eq!(status.timestamp, Some(1_000_007.0));
}

#[test]
fn invalid_tasks_are_errors_and_valid_ones_beside_them_run() {
    let mut world = World::new(1);
    let (client, events) = world.subscribe(info());
    let both = mesos::TaskInfo {
        executor: with_executor(task("e", "cpus:1"), "e", "cpus:1").executor,
        ..task("both", "cpus:0.1")
    };
    let mut negative = task("negative", "cpus:1");
    negative.resources[0].scalar = Some(mesos::value::Scalar { value: -1.0 });
    let bad = vec![
        task("a/b", "cpus:0.1"),
        task("", "cpus:0.1"),
        task("..", "cpus:0.1"),
        task(&"x".repeat(256), "cpus:0.1"),
        mesos::TaskInfo { agent_id: agent_id(7), ..task("elsewhere", "cpus:0.1") },
        mesos::TaskInfo { command: None, ..task("nothing", "cpus:0.1") },
        both,
        mesos::TaskInfo { resources: Vec::new(), ..task("free", "cpus:1") },
        negative,
        task("huge", "cpus:5"),
        task("good", "cpus:1"),
        task("good", "cpus:1"),
    ];
    let effects = world.accept(&client, &offers(&events)[0], bad);
    assert_eq!(run_tasks(&effects), ["good"]);
    let statuses = statuses(&effects, &client);
    assert_eq!(statuses.len(), 11);
    for (id, state, reason) in statuses {
        assert_eq!((state, reason), (TaskState::TaskError, Some(Reason::TaskInvalid)), "{id}");
    }
}

#[test]
fn executor_resources_count_once_and_come_back_when_it_exits() {
    let mut world = World::new(1);
    let (client, events) = world.subscribe(info());
    let tasks = ["a", "b"].map(|id| with_executor(task(id, "cpus:1"), "e", "cpus:2;mem:512"));
    let effects = world.accept(&client, &offers(&events)[0], tasks.to_vec());
    assert_eq!(run_tasks(&effects), ["a", "b"]);
    world.tell(&client, "a", TaskState::TaskFinished, 1);
    let effects = world.tell(&client, "b", TaskState::TaskFinished, 2);
    let offers = offers_in(&effects, &client);
    assert_eq!(offers.last().map(|offer| offer.executor_ids.len()), Some(1));
    let exited = Input::ExecutorExited {
        agent_id: "S0".to_owned(),
        framework_id: client.id.clone(),
        executor_id: "e".to_owned(),
        status: 9,
    };
    let effects = world.handle(exited);
    let failure = events_of(&effects, &client, event::Type::Failure).remove(0).failure.expect("a FAILURE");
    assert_eq!((failure.executor_id.map(|id| id.value), failure.status), (Some("e".to_owned()), Some(9)));
    assert_eq!(amount(&offers_in(&effects, &client)[0], "mem"), 512.0);
}

#[test]
fn same_executor_id_with_another_executor_is_an_error() {
    let mut world = World::new(1);
    let (client, events) = world.subscribe(info());
    let first = with_executor(task("a", "cpus:1"), "e", "cpus:1");
    let second = with_executor(task("b", "cpus:1"), "e", "cpus:2");
    let effects = world.accept(&client, &offers(&events)[0], vec![first, second]);
    assert_eq!(run_tasks(&effects), ["a"]);
    assert_eq!(statuses(&effects, &client)[0].1, TaskState::TaskError);
}

#[test]
fn kill_goes_to_the_agent_and_unknown_tasks_are_answered() {
    let mut world = World::new(1);
    let (client, events) = world.subscribe(info());
    world.accept(&client, &offers(&events)[0], vec![task("t", "cpus:1")]);
    let effects = world.call(&client, kill_call("t"));
    assert!(matches!(&effects[..], [Effect::KillTask { task_id, .. }] if task_id == "t"), "{effects:?}");
    let effects = world.call(&client, kill_call("u"));
    assert_eq!(statuses(&effects, &client), [("u".to_owned(), TaskState::TaskLost, Some(Reason::Reconciliation))]);
    let mut elsewhere = kill_call("t");
    elsewhere.kill.as_mut().expect("a KILL").agent_id = Some(agent_id(7));
    assert_eq!(world.call(&client, elsewhere), []);
}

#[test]
fn reconciliation_tells_the_latest_state_or_that_nothing_is_known() {
    let mut world = World::new(1);
    let (client, events) = world.subscribe(partition_aware_info());
    world.accept(&client, &offers(&events)[0], vec![task("a", "cpus:1"), task("b", "cpus:1")]);
    world.tell(&client, "b", TaskState::TaskRunning, 1);
    let effects = world.call(&client, reconcile_call(&[]));
    let known: Vec<_> = statuses(&effects, &client).into_iter().map(|(id, state, _)| (id, state)).collect();
    assert_eq!(known, [("a".to_owned(), TaskState::TaskStaging), ("b".to_owned(), TaskState::TaskRunning)]);
    let effects = world.call(&client, reconcile_call(&[("x", None), ("y", Some(0)), ("z", Some(7))]));
    let unknown: Vec<_> = statuses(&effects, &client).into_iter().map(|(_, state, _)| state).collect();
    assert_eq!(unknown, [TaskState::TaskUnknown, TaskState::TaskGone, TaskState::TaskUnknown]);
}

#[test]
fn newcomer_with_the_same_id_wins() {
    let mut world = World::new(1);
    let (old, events) = world.subscribe(patient_info());
    let offer = offers(&events).remove(0);
    let info = mesos::FrameworkInfo { id: framework_id(&old.id), ..patient_info() };
    let (stream, effects) = world.subscribe_as(info);
    let to_old = super::tests::events(&effects, old.stream);
    assert_eq!(to_old[0].error.as_ref().map(|error| error.message.as_str()), Some("Framework failed over"));
    assert!(effects.contains(&Effect::CloseStream { stream: old.stream }));
    let new = Client { id: old.id.clone(), stream };
    let offered = offers_in(&effects, &new);
    assert_eq!(offered.len(), 1, "the old offer is void and made again");
    assert_ne!(offered[0].id, offer.id);
    // The old stream's end changes nothing, and its id is no longer good.
    assert_eq!(world.handle(Input::Disconnected { stream: old.stream }), []);
    let effects = world.call(&old, plain(call::Type::Revive));
    assert_eq!(rejection(&effects), Some(400));
    assert_eq!(rejection(&world.call(&new, plain(call::Type::Revive))), None);
}

#[test]
fn framework_survives_a_broken_stream_for_its_failover_timeout() {
    let mut world = World::new(1);
    let (client, events) = world.subscribe(patient_info());
    world.accept(&client, &offers(&events)[0], vec![task("t", "cpus:1")]);
    world.handle(Input::Disconnected { stream: client.stream });
    world.wait(59);
    let info = mesos::FrameworkInfo { id: framework_id(&client.id), ..patient_info() };
    let (again, _) = world.subscribe(info.clone());
    assert_eq!(again.id, client.id);
    let effects = world.call(&again, reconcile_call(&[]));
    assert_eq!(statuses(&effects, &again).len(), 1);
    world.handle(Input::Disconnected { stream: again.stream });
    let effects = world.wait(60);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::ShutdownFramework { .. })), "{effects:?}");
    let (stream, effects) = world.subscribe_as(info);
    let events = super::tests::events(&effects, stream);
    assert_eq!(kinds(&events), [event::Type::Error]);
    assert!(effects.contains(&Effect::CloseStream { stream }));
}

#[test]
fn framework_without_failover_timeout_goes_with_its_stream() {
    let mut world = World::new(1);
    let (client, events) = world.subscribe(info());
    world.accept(&client, &offers(&events)[0], vec![task("t", "cpus:1")]);
    let effects = world.handle(Input::Disconnected { stream: client.stream });
    assert!(matches!(&effects[..], [Effect::ShutdownFramework { .. }]), "{effects:?}");
    assert_eq!(rejection(&world.call(&client, plain(call::Type::Revive))), Some(400));
}

#[test]
fn teardown_closes_the_stream_and_frees_everything_without_a_word() {
    let mut world = World::new(1);
    let (client, events) = world.subscribe(patient_info());
    let tasks = vec![task("t", "cpus:1"), with_executor(task("u", "cpus:1"), "e", "cpus:1")];
    world.accept(&client, &offers(&events)[0], tasks);
    let effects = world.call(&client, plain(call::Type::Teardown));
    assert_eq!(super::tests::events(&effects, client.stream), []);
    assert!(effects.contains(&Effect::CloseStream { stream: client.stream }));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::ShutdownFramework { .. })));
    let (_, events) = world.subscribe(info());
    assert_eq!(amount(&offers(&events)[0], "cpus"), 4.0);
    // What comes late from the agent is dropped.
    assert_eq!(world.tell(&client, "t", TaskState::TaskKilled, 1), []);
}

#[test]
fn lost_agent_takes_its_offers_and_tasks() {
    let mut world = World::new(2);
    let (client, events) = world.subscribe(info());
    let offers = offers(&events);
    world.accept(&client, &offers[0], vec![task("t", "cpus:1")]);
    let lost = |number: u32| Input::AgentLost { agent_id: agent_id(number).value, reason: "a test".to_owned() };
    let effects = world.handle(lost(0));
    assert_eq!(statuses(&effects, &client), [("t".to_owned(), TaskState::TaskLost, Some(Reason::AgentRemoved))]);
    assert_eq!(events_of(&effects, &client, event::Type::Failure).len(), 1);
    let effects = world.handle(lost(1));
    let rescind = events_of(&effects, &client, event::Type::Rescind).remove(0).rescind.expect("a RESCIND");
    assert_eq!(rescind.offer_id, offers[1].id);
    assert_eq!(world.handle(lost(1)), []);
    let effects = world.call(&client, accept_call(&[&offers[1].id], vec![task("u", "cpus:1")]));
    assert_eq!(statuses(&effects, &client)[0].2, Some(Reason::InvalidOffers));
}

#[test]
fn calls_are_refused_in_the_order_of_mesos() {
    let mut world = World::new(0);
    let (client, _) = world.subscribe(patient_info());
    let revive = || scheduler::Call { framework_id: framework_id(&client.id), ..plain(call::Type::Revive) };
    let mut call = |stream, call| rejection(&world.handle(Input::Call { stream, call: Box::new(call) }));
    let stream = Some(client.stream);
    assert_eq!(call(stream, scheduler::Call::default()), Some(400));
    assert_eq!(call(stream, plain(call::Type::Revive)), Some(400), "no framework id");
    assert_eq!(call(stream, scheduler::Call { kill: None, ..kill_call("t") }), Some(400));
    let stranger = scheduler::Call { framework_id: framework_id("other"), ..plain(call::Type::Revive) };
    assert_eq!(call(stream, stranger), Some(400));
    assert_eq!(call(None, revive()), Some(400));
    assert_eq!(call(Some(StreamId(77)), revive()), Some(400));
    let unknown = scheduler::Call { framework_id: framework_id(&client.id), ..plain(call::Type::Unknown) };
    assert_eq!(call(stream, unknown), Some(501));
    assert_eq!(call(stream, revive()), None);
    world.handle(Input::Disconnected { stream: client.stream });
    let effects = world.call(&client, plain(call::Type::Revive));
    assert_eq!(rejection(&effects), Some(403));
}

#[test]
fn acknowledgement_needs_sixteen_bytes() {
    let mut world = World::new(1);
    let (client, _) = world.subscribe(info());
    let acknowledge = Some(call::Acknowledge { agent_id: agent_id(0), task_id: task_id("t"), uuid: b"short".to_vec() });
    let effects = world.call(&client, scheduler::Call { acknowledge, ..plain(call::Type::Acknowledge) });
    assert_eq!(rejection(&effects), Some(400));
}

#[test]
fn bad_frameworks_get_an_error_and_no_stream() {
    for bad in [
        mesos::FrameworkInfo { role: Some("a b".to_owned()), ..info() },
        mesos::FrameworkInfo { role: Some("-a".to_owned()), ..info() },
        mesos::FrameworkInfo { failover_timeout: Some(-1.0), ..info() },
        mesos::FrameworkInfo { failover_timeout: Some(f64::NAN), ..info() },
        mesos::FrameworkInfo { id: framework_id("../x"), ..info() },
    ] {
        let mut world = World::new(1);
        let (stream, effects) = world.subscribe_as(bad.clone());
        assert_eq!(kinds(&events(&effects, stream)), [event::Type::Error], "{bad:?}");
        assert!(effects.contains(&Effect::CloseStream { stream }));
    }
}

#[test]
fn framework_id_of_an_earlier_master_is_accepted() {
    let mut world = World::new(0);
    let (client, _) = world.subscribe(mesos::FrameworkInfo { id: framework_id("earlier-0007"), ..info() });
    assert_eq!(client.id, "earlier-0007");
}

#[test]
fn messages_pass_in_both_directions() {
    let mut world = World::new(1);
    let (client, _) = world.subscribe(info());
    let message = call::Message {
        agent_id: agent_id(0),
        executor_id: mesos::ExecutorId { value: "e".to_owned() },
        data: b"ping".to_vec(),
    };
    let effects = world.call(&client, scheduler::Call { message: Some(message), ..plain(call::Type::Message) });
    assert!(matches!(&effects[..], [Effect::MessageExecutor { data, .. }] if data == b"ping"), "{effects:?}");
    let effects = world.handle(Input::ExecutorMessage {
        agent_id: "S0".to_owned(),
        framework_id: client.id.clone(),
        executor_id: "e".to_owned(),
        data: b"pong".to_vec(),
    });
    let message = events(&effects, client.stream).remove(0).message.expect("a MESSAGE");
    assert_eq!(message.data, b"pong");
}

#[test]
fn books_are_balanced_after_many_tasks_of_several_frameworks() {
    let mut world = World::new(3);
    let mut clients: Vec<(Client, Vec<mesos::Offer>)> = (0..3)
        .map(|_| {
            let (client, events) = world.subscribe(info());
            let offers = offers(&events);
            (client, offers)
        })
        .collect();
    let mut live = VecDeque::new();
    for turn in 0..2000_u32 {
        let at = (turn as usize * 7) % clients.len();
        let (client, offers) = &mut clients[at];
        let mut effects = Vec::new();
        if let Some(offer) = offers.pop() {
            if turn % 5 == 0 {
                effects = world.decline(client, &offer, f64::from(turn % 3));
            } else {
                let id = format!("t{turn}");
                let task = mesos::TaskInfo { agent_id: offer.agent_id.clone(), ..task(&id, "cpus:0.5;mem:32") };
                effects = world.accept(client, &offer, vec![task]);
                if !run_tasks(&effects).is_empty() {
                    live.push_back((at, id, offer.agent_id.clone()));
                }
            }
        }
        if turn % 2 == 1
            && let Some((owner, id, agent_id)) = live.pop_front()
        {
            let status = mesos::TaskStatus {
                task_id: task_id(&id),
                state: TaskState::TaskFinished as i32,
                agent_id: Some(agent_id),
                uuid: Some(vec![1; 16]),
                ..Default::default()
            };
            let framework_id = clients[owner].0.id.clone();
            effects.extend(world.handle(Input::Update { framework_id, status: Box::new(status) }));
        }
        effects.extend(world.wait(1));
        for (client, offers) in &mut clients {
            offers.extend(offers_in(&effects, client));
        }
    }
    for (client, _) in &clients {
        world.call(client, plain(call::Type::Teardown));
    }
    let (_, events) = world.subscribe(info());
    let offers = offers(&events);
    assert_eq!(offers.len(), 3);
    for offer in offers {
        assert_eq!(Resources::from(offer.resources), HOST.parse().expect("resources of a test"));
    }
}

fn events_of(effects: &[Effect], client: &Client, kind: event::Type) -> Vec<scheduler::Event> {
    events(effects, client.stream).into_iter().filter(|event| event.r#type() == kind).collect()
}
