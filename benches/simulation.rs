//! How many tasks a second the scheduler core and the embedded master's core bring from `Add` to their end, joined in memory
//! on one thread under virtual time: every offer, launch, update and acknowledgement, without the network and the agents.
//!
//!   cargo bench --bench simulation [-- TASKS [AGENTS]]     (1000000 on 10000)

#![expect(clippy::print_stdout, reason = "prints its result")]
#![expect(clippy::expect_used, reason = "a bench may panic")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use launch_container::exit::Outcome;
use launch_container::local::master::{self, AgentDescription, Master, StreamId};
use launch_container::scheduler::{Config, Effect, Input, Scheduler, Task, Terms, Time};
use proto::mesos::task_status::Source;
use proto::mesos::{
    Address, AgentId, AgentInfo, CommandInfo, FrameworkInfo, Resource, TaskId, TaskInfo, TaskState, TaskStatus, Url,
    value,
};
use proto::scheduler::call;

/// A task's life: to RUNNING, and to FINISHED.
const STARTS_IN: Duration = Duration::from_millis(50);
const RUNS_FOR: Duration = Duration::from_secs(1);

fn main() {
    // `cargo bench` adds its own words.
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<u32>().ok());
    let tasks = numbers.next().unwrap_or(1_000_000);
    let agents = numbers.next().unwrap_or(10_000);
    let started = Instant::now();
    let mut cluster = Cluster::new(agents);
    cluster.run(tasks);
    let took = started.elapsed().as_secs_f64();
    let rate = f64::from(tasks) / took;
    println!("{tasks} tasks on {agents} agents: {took:.2} s, {rate:.0} tasks/s, {} messages", cluster.messages);
}

/// What is under way; each queue has one delay, so that it is in order of time.
struct Cluster {
    now: Time,
    scheduler: Scheduler,
    master: Master,
    to_scheduler: VecDeque<Input>,
    to_master: VecDeque<master::Input>,
    starting: VecDeque<(Time, TaskStatus)>,
    running: VecDeque<(Time, TaskStatus)>,
    of_master: Vec<master::Effect>,
    framework_id: String,
    uuids: u128,
    ended: u32,
    messages: u64,
}

impl Cluster {
    fn new(agents: u32) -> Self {
        let framework = FrameworkInfo {
            user: "root".to_owned(),
            name: "bench".to_owned(),
            failover_timeout: Some(3600.0),
            ..FrameworkInfo::default()
        };
        let mut master = Master::new(master::Config {
            id: "master".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 5050,
            epoch_seconds: 0.0,
            heartbeat_interval: master::HEARTBEAT_INTERVAL,
        });
        for agent in 0..agents {
            master.handle(Time::ZERO, master::Input::AgentRegistered(Box::new(description(agent))));
        }
        Self {
            now: Time::ZERO,
            scheduler: Scheduler::new(Config {
                framework,
                seed: 1,
                master: "m1:5050".to_owned(),
                can_suppress: true,
                connect_timeout: None,
                reconnect_timeout: None,
                is_recorded: false,
            }),
            master,
            to_scheduler: VecDeque::new(),
            to_master: VecDeque::new(),
            starting: VecDeque::new(),
            running: VecDeque::new(),
            of_master: Vec::new(),
            framework_id: String::new(),
            uuids: 0,
            ended: 0,
            messages: 0,
        }
    }

    fn run(&mut self, tasks: u32) {
        let mut effects = Vec::new();
        for number in 0..tasks {
            self.scheduler.handle_into(self.now, Input::Add(Box::new(task(number))), &mut effects);
            self.perform(&mut effects);
        }
        while self.ended < tasks {
            self.settle(&mut effects);
            self.pass_time(&mut effects);
        }
        self.scheduler.handle_into(self.now, Input::Stop, &mut effects);
        self.perform(&mut effects);
        self.settle(&mut effects);
    }

    /// Until nobody has anything more to say at this moment.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        loop {
            if let Some(input) = self.to_scheduler.pop_front() {
                self.messages += 1;
                self.scheduler.handle_into(self.now, input, effects);
                self.perform(effects);
            } else if let Some(input) = self.to_master.pop_front() {
                self.messages += 1;
                self.master_takes(input);
            } else {
                return;
            }
        }
    }

    fn pass_time(&mut self, effects: &mut Vec<Effect>) {
        let agents = [self.starting.front(), self.running.front()].into_iter().flatten().map(|(at, _)| *at).min();
        let next = [agents, self.scheduler.next_timeout(), self.master.next_timeout()].into_iter().flatten().min();
        self.now = self.now.max(next.expect("there is more to come"));
        while self.starting.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, status)) = self.starting.pop_front() else { break };
            self.running.push_back((self.now + RUNS_FOR, with_state(&status, TaskState::TaskFinished)));
            self.report(status);
        }
        while self.running.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, status)) = self.running.pop_front() else { break };
            self.report(status);
        }
        if self.master.next_timeout().is_some_and(|at| at <= self.now) {
            self.master_takes(master::Input::Tick);
        }
        if self.scheduler.next_timeout().is_some_and(|at| at <= self.now) {
            self.scheduler.handle_into(self.now, Input::Tick, effects);
            self.perform(effects);
        }
    }

    fn report(&mut self, mut status: TaskStatus) {
        self.uuids += 1;
        status.uuid = Some(self.uuids.to_be_bytes().to_vec());
        let framework_id = self.framework_id.clone();
        self.to_master.push_back(master::Input::Update { framework_id, status: Box::new(status) });
    }

    fn perform(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Subscribe(call) => {
                    self.to_scheduler.push_back(Input::Connected { master: "127.0.0.1:5050".to_owned() });
                    self.to_master.push_back(master::Input::Subscribe { stream: StreamId(1), call });
                }
                Effect::Call(call) => {
                    assert_ne!(call.r#type(), call::Type::Reconcile, "nothing is in doubt here");
                    self.to_master.push_back(master::Input::Call { stream: Some(StreamId(1)), call });
                }
                Effect::Ended { outcome, .. } => {
                    assert!(outcome == Outcome::Exited(0), "every task ends well");
                    self.ended += 1;
                }
                Effect::Disconnect
                | Effect::Record(_)
                | Effect::Update(_)
                | Effect::Status(_)
                | Effect::Placed { .. }
                | Effect::OutputAgain { .. }
                | Effect::Stdin { .. }
                | Effect::Finish => {}
            }
        }
    }

    fn master_takes(&mut self, input: master::Input) {
        let mut effects = std::mem::take(&mut self.of_master);
        self.master.handle_into(self.now, input, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                master::Effect::Event { event, .. } => self.to_scheduler.push_back(Input::Event(event)),
                master::Effect::CloseStream { .. } => {
                    let reason = "the master closed the stream".to_owned();
                    self.to_scheduler.push_back(Input::Disconnected { reason, is_fatal: false });
                }
                master::Effect::RunTask { framework, task, .. } => {
                    if self.framework_id.is_empty() {
                        self.framework_id = framework.id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
                    }
                    let status = TaskStatus {
                        task_id: task.task_id,
                        agent_id: Some(task.agent_id),
                        source: Some(Source::Executor.into()),
                        ..TaskStatus::default()
                    };
                    self.starting.push_back((self.now + STARTS_IN, with_state(&status, TaskState::TaskRunning)));
                }
                master::Effect::Reject { status, text } => panic!("{status}: {text}"),
                _ => {}
            }
        }
        self.of_master = effects;
    }
}

fn with_state(status: &TaskStatus, state: TaskState) -> TaskStatus {
    TaskStatus { state: state.into(), ..status.clone() }
}

/// Eight tasks fit.
fn description(number: u32) -> AgentDescription {
    let name = format!("a{number}");
    let hostname = format!("{name}.example");
    let info = AgentInfo {
        hostname: hostname.clone(),
        id: Some(AgentId { value: name }),
        resources: vec![scalar("cpus", 8.0), scalar("mem", 8192.0), scalar("disk", 100_000.0)],
        port: Some(5051),
        ..AgentInfo::default()
    };
    let address = Address { hostname: Some(hostname), ip: None, port: 5051 };
    AgentDescription { info, url: Url { scheme: "http".to_owned(), address, ..Url::default() } }
}

fn task(number: u32) -> Task {
    let id = format!("task-{number}");
    let info = TaskInfo {
        name: id.clone(),
        task_id: TaskId { value: id },
        resources: vec![scalar("cpus", 1.0), scalar("mem", 256.0)],
        command: Some(CommandInfo { value: Some("true".to_owned()), ..CommandInfo::default() }),
        ..TaskInfo::default()
    };
    Task { info, kill_grace: Duration::from_secs(3), run_timeout: None, offer_timeout: None, terms: Terms::default() }
}

fn scalar(name: &str, value: f64) -> Resource {
    Resource {
        name: name.to_owned(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value }),
        ..Resource::default()
    }
}
