//! What the tests of this folder have in common: messages as a master or an agent sends them.

use std::time::Duration;

use proto::mesos::task_status::{Reason, Source};
use proto::mesos::{
    AgentId, FrameworkId, FrameworkInfo, MasterInfo, Offer, OfferId, Resource, TaskId, TaskInfo, TaskState, TaskStatus,
    value,
};
use proto::scheduler::{Call, Event, call, event};

use super::{Config, Effect, Input, Scheduler, Task, Time};

pub(super) const fn s(seconds: u64) -> Time {
    Duration::from_secs(seconds)
}

pub(super) const fn ms(milliseconds: u64) -> Time {
    Duration::from_millis(milliseconds)
}

pub(super) fn scalar(name: &str, value: f64) -> Resource {
    Resource {
        name: name.to_owned(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value }),
        ..Resource::default()
    }
}

pub(super) fn resources(cpus: f64, mem: f64) -> Vec<Resource> {
    vec![scalar("cpus", cpus), scalar("mem", mem)]
}

/// One cpu, 128 MB, 5 s of grace.
pub(super) fn task(id: &str) -> Task {
    let task_id = TaskId { value: id.to_owned() };
    let info = TaskInfo { name: id.to_owned(), task_id, resources: resources(1.0, 128.0), ..TaskInfo::default() };
    Task { info, kill_grace: s(5), run_timeout: None, offer_timeout: None, terms: super::Terms::default() }
}

pub(super) fn offer(id: &str, agent: &str, cpus: f64, mem: f64) -> Offer {
    Offer {
        id: OfferId { value: id.to_owned() },
        framework_id: FrameworkId { value: "F".to_owned() },
        agent_id: AgentId { value: agent.to_owned() },
        hostname: format!("{agent}.example"),
        resources: resources(cpus, mem),
        ..Offer::default()
    }
}

/// As the executor sends it.
pub(super) fn status(task_id: &str, state: TaskState) -> TaskStatus {
    TaskStatus {
        task_id: TaskId { value: task_id.to_owned() },
        state: state.into(),
        agent_id: Some(AgentId { value: "a".to_owned() }),
        source: Some(Source::Executor.into()),
        uuid: Some(vec![7; 16]),
        ..TaskStatus::default()
    }
}

/// As the master itself sends it.
pub(super) fn from_master(task_id: &str, state: TaskState, reason: Reason) -> TaskStatus {
    TaskStatus {
        source: Some(Source::Master.into()),
        reason: Some(reason.into()),
        uuid: None,
        ..status(task_id, state)
    }
}

pub(super) fn config() -> Config {
    Config {
        framework: FrameworkInfo {
            user: "root".to_owned(),
            name: "launch-container".to_owned(),
            failover_timeout: Some(100.0),
            ..FrameworkInfo::default()
        },
        seed: 1,
        master: "m1:5050".to_owned(),
        can_suppress: true,
        connect_timeout: Some(s(30)),
        reconnect_timeout: Some(s(160)),
        is_recorded: false,
    }
}

/// A scheduler and what it has said, in the words of the tests.
pub(super) struct Bench {
    pub(super) scheduler: Scheduler,
    pub(super) now: Time,
    heartbeat_at: Time,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: Config) -> Self {
        Self { scheduler: Scheduler::new(config), now: s(0), heartbeat_at: s(10) }
    }

    /// Subscribed to master `m1` with these tasks.
    pub(super) fn subscribed(tasks: impl IntoIterator<Item = Task>) -> Self {
        let mut bench = Self::new();
        for task in tasks {
            bench.input(Input::Add(Box::new(task)));
        }
        bench.input(Input::Tick);
        bench.subscribe("m1");
        bench
    }

    /// One task `t`, launched on agent `a` with offer `o`, and updated with each of these.
    pub(super) fn launched(states: &[TaskState]) -> Self {
        let mut bench = Self::subscribed([task("t")]);
        bench.offers(vec![offer("o", "a", 1.0, 128.0)]);
        for state in states {
            bench.update(status("t", *state));
        }
        bench
    }

    pub(super) fn input(&mut self, input: Input) -> Vec<Effect> {
        self.scheduler.handle(self.now, input)
    }

    pub(super) fn subscribe(&mut self, master_id: &str) -> Vec<Effect> {
        self.input(Input::Connected { master: "m:5050".to_owned() });
        let subscribed = event::Subscribed {
            framework_id: FrameworkId { value: "F".to_owned() },
            heartbeat_interval_seconds: Some(15.0),
            master_info: Some(MasterInfo { id: master_id.to_owned(), ..MasterInfo::default() }),
        };
        self.event(Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(subscribed.into()),
            ..Event::default()
        })
    }

    /// The stream breaks, and the next attempt reaches this master.
    pub(super) fn resubscribe(&mut self, master_id: &str) -> Vec<Effect> {
        self.input(Input::Disconnected { reason: "reset".to_owned(), is_fatal: false });
        self.now += s(1);
        self.input(Input::Tick);
        self.subscribe(master_id)
    }

    pub(super) fn event(&mut self, event: Event) -> Vec<Effect> {
        self.input(Input::Event(Box::new(event)))
    }

    pub(super) fn heartbeat(&mut self) -> Vec<Effect> {
        self.event(Event { r#type: Some(event::Type::Heartbeat.into()), ..Event::default() })
    }

    pub(super) fn offers(&mut self, offers: Vec<Offer>) -> Vec<Effect> {
        self.event(Event {
            r#type: Some(event::Type::Offers.into()),
            offers: Some(event::Offers { offers }),
            ..Event::default()
        })
    }

    pub(super) fn update(&mut self, status: TaskStatus) -> Vec<Effect> {
        self.event(Event {
            r#type: Some(event::Type::Update.into()),
            update: Some(event::Update { status }),
            ..Event::default()
        })
    }

    pub(super) fn error(&mut self, message: &str) -> Vec<Effect> {
        self.event(Event {
            r#type: Some(event::Type::Error.into()),
            error: Some(event::Error { message: message.to_owned() }),
            ..Event::default()
        })
    }

    pub(super) fn interrupt(&mut self, task_id: &str) -> Vec<Effect> {
        self.input(Input::Interrupt { task_id: task_id.to_owned(), signal: 2, grace: None })
    }

    /// Lets the time pass, with a heartbeat every 10 s.
    pub(super) fn wait(&mut self, time: Time) -> Vec<Effect> {
        let until = self.now + time;
        let mut effects = Vec::new();
        while self.now < until {
            let due = self.scheduler.next_timeout().unwrap_or(until);
            self.now = due.min(self.heartbeat_at).min(until).max(self.now);
            effects.extend(self.input(Input::Tick));
            if self.heartbeat_at <= self.now {
                self.heartbeat_at = self.now + s(10);
                effects.extend(self.heartbeat());
            }
        }
        effects
    }
}

/// The calls of one type among the effects.
pub(super) fn calls(effects: &[Effect], kind: call::Type) -> Vec<Call> {
    let calls = effects.iter().filter_map(|effect| match effect {
        Effect::Call(call) | Effect::Subscribe(call) => Some(call),
        Effect::Disconnect
        | Effect::Record(_)
        | Effect::Update(_)
        | Effect::Status(_)
        | Effect::Placed { .. }
        | Effect::OutputAgain { .. }
        | Effect::Stdin { .. }
        | Effect::Ended { .. }
        | Effect::Finish => None,
    });
    calls.filter(|call| call.r#type() == kind).map(|call| (**call).clone()).collect()
}

/// The effects in short: calls by type, updates by variant, ends with their outcome.
pub(super) fn short(effects: &[Effect]) -> Vec<String> {
    let variant = |debug: String| debug.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
    let name = |effect: &Effect| match effect {
        Effect::Subscribe(_) => "SUBSCRIBE".to_owned(),
        Effect::Call(call) => call.r#type().as_str_name().to_owned(),
        Effect::Update(update) => variant(format!("{update:?}")),
        Effect::Ended { task_id, outcome } => format!("ended {task_id} {outcome:?}"),
        other => variant(format!("{other:?}")).to_lowercase(),
    };
    effects.iter().map(name).collect()
}
