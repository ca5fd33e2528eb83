//! How many tasks a second the scheduler core and the embedded master's core bring from `Add` to their end: every offer,
//! launch, update and acknowledgement, under virtual time, without the network and the agents. Each core has a thread of
//! its own, as launcher and master are processes of their own.
//!
//!   cargo bench --bench simulation [-- TASKS [AGENTS]]     (1000000 on 10000)

#![expect(clippy::print_stdout, reason = "prints its result")]
#![expect(clippy::expect_used, reason = "a bench may panic")]

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
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

/// What is measured is the cores, which make a hundred small allocations a task; with glibc's own it takes twice as long.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A task's life: to RUNNING, and to FINISHED.
const STARTS_IN: Duration = Duration::from_millis(50);
const RUNS_FOR: Duration = Duration::from_secs(1);

/// Tasks that an agent has room for. As many again wait.
const FIT: u32 = 8;

/// Messages that go from one thread to the other at once: so few that they are still in the cache there.
const BATCH: usize = 32;

fn main() {
    // `cargo bench` adds its own words.
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<u32>().ok());
    let tasks = numbers.next().unwrap_or(1_000_000);
    let agents = numbers.next().unwrap_or(10_000);
    let started = Instant::now();
    let messages = run(tasks, agents);
    let took = started.elapsed().as_secs_f64();
    let rate = f64::from(tasks) / took;
    println!("{tasks} tasks on {agents} agents: {took:.2} s, {rate:.0} tasks/s, {messages} messages");
}

/// How many messages the master took and sent.
fn run(tasks: u32, agents: u32) -> u64 {
    // The launcher never waits for the cluster to take what it sends, so one bound is enough.
    let (to_launcher, of_cluster) = sync_channel(2);
    let (to_cluster, of_launcher) = channel();
    thread::scope(|scope| {
        let cluster = scope.spawn(move || Cluster::new(agents, to_launcher).run(tasks, &of_launcher));
        Launcher::new(to_cluster).run(tasks, agents * FIT * 2, &of_cluster);
        cluster.join().expect("the cluster ended well")
    })
}

/// From the cluster to the launcher. Time is the cluster's; it goes on when neither side has anything more to say.
struct ToLauncher {
    now: Time,
    inputs: Vec<Input>,
    /// Whether an [`Answer`] is wanted, once all this and all before it is handled.
    is_question: bool,
}

/// From the launcher to the cluster.
struct ToCluster {
    inputs: Vec<master::Input>,
    answer: Option<Answer>,
}

struct Answer {
    next_timeout: Option<Time>,
    ended: u32,
}

/// The scheduler core and its shell.
struct Launcher {
    now: Time,
    scheduler: Scheduler,
    effects: Vec<Effect>,
    cluster: Sender<ToCluster>,
    outgoing: Vec<master::Input>,
    ended: u32,
}

impl Launcher {
    fn new(cluster: Sender<ToCluster>) -> Self {
        let framework = FrameworkInfo {
            user: "root".to_owned(),
            name: "bench".to_owned(),
            failover_timeout: Some(3600.0),
            ..FrameworkInfo::default()
        };
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
            effects: Vec::new(),
            cluster,
            outgoing: Vec::new(),
            ended: 0,
        }
    }

    /// Keeps as many tasks in the scheduler as there are, or as that.
    fn run(mut self, tasks: u32, most: u32, of_cluster: &Receiver<ToLauncher>) {
        let mut added = 0;
        while let Ok(ToLauncher { now, inputs, is_question }) = of_cluster.recv() {
            self.now = now;
            for input in inputs {
                self.handle(input);
            }
            while added < tasks && added - self.ended < most {
                self.handle(Input::Add(Box::new(task(added))));
                added += 1;
            }
            self.answer(is_question);
        }
    }

    fn answer(&mut self, is_question: bool) {
        if is_question {
            if self.scheduler.next_timeout().is_some_and(|at| at <= self.now) {
                self.handle(Input::Tick);
            }
            self.send(Some(Answer { next_timeout: self.scheduler.next_timeout(), ended: self.ended }));
        } else if !self.outgoing.is_empty() {
            self.send(None);
        }
    }

    fn send(&mut self, answer: Option<Answer>) {
        let inputs = std::mem::take(&mut self.outgoing);
        // A cluster that is gone has panicked, or has seen every task end.
        let _ = self.cluster.send(ToCluster { inputs, answer });
    }

    fn handle(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut effects = std::mem::take(&mut self.effects);
            self.scheduler.handle_into(self.now, input, &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Subscribe(call) => {
                        self.outgoing.push(master::Input::Subscribe { stream: StreamId(1), call });
                        next = Some(Input::Connected { master: "127.0.0.1:5050".to_owned() });
                    }
                    Effect::Call(call) => {
                        assert_ne!(call.r#type(), call::Type::Reconcile, "nothing is in doubt here");
                        self.outgoing.push(master::Input::Call { stream: Some(StreamId(1)), call });
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
            self.effects = effects;
        }
        if self.outgoing.len() >= BATCH {
            self.send(None);
        }
    }
}

/// The master's core, and agents that do nothing but report; each queue has one delay, so that it is in order of time.
struct Cluster {
    now: Time,
    master: Master,
    effects: Vec<master::Effect>,
    launcher: SyncSender<ToLauncher>,
    outgoing: Vec<Input>,
    starting: VecDeque<(Time, TaskStatus)>,
    running: VecDeque<(Time, TaskStatus)>,
    framework_id: String,
    uuids: u128,
    messages: u64,
}

impl Cluster {
    fn new(agents: u32, launcher: SyncSender<ToLauncher>) -> Self {
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
            master,
            effects: Vec::new(),
            launcher,
            outgoing: Vec::new(),
            starting: VecDeque::new(),
            running: VecDeque::new(),
            framework_id: String::new(),
            uuids: 0,
            messages: 0,
        }
    }

    fn run(mut self, tasks: u32, of_launcher: &Receiver<ToCluster>) -> u64 {
        self.send(true);
        // Whether anything was handled since the last question: then there may be more to come.
        let mut is_busy = false;
        loop {
            let ToCluster { inputs, answer } = of_launcher.recv().expect("the launcher goes on while tasks run");
            is_busy |= !inputs.is_empty();
            for input in inputs {
                self.handle(input);
            }
            match answer {
                None => self.send(false),
                Some(_) if is_busy => {
                    self.send(true);
                    is_busy = false;
                }
                Some(answer) if answer.ended == tasks => return self.messages,
                Some(answer) => {
                    self.pass_time(answer.next_timeout, of_launcher);
                    self.send(true);
                }
            }
        }
    }

    fn send(&mut self, is_question: bool) {
        let inputs = std::mem::take(&mut self.outgoing);
        if is_question || !inputs.is_empty() {
            // A launcher that is gone has panicked: its answer will not come.
            let _ = self.launcher.send(ToLauncher { now: self.now, inputs, is_question });
        }
    }

    fn pass_time(&mut self, of_scheduler: Option<Time>, of_launcher: &Receiver<ToCluster>) {
        let agents = [self.starting.front(), self.running.front()].into_iter().flatten().map(|(at, _)| *at).min();
        let next = [agents, of_scheduler, self.master.next_timeout()].into_iter().flatten().min();
        self.now = self.now.max(next.expect("there is more to come"));
        while self.starting.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, status)) = self.starting.pop_front() else { break };
            self.running.push_back((self.now + RUNS_FOR, with_state(&status, TaskState::TaskFinished)));
            self.report(status);
            self.take_what_is_there(of_launcher);
        }
        while self.running.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, status)) = self.running.pop_front() else { break };
            self.report(status);
            self.take_what_is_there(of_launcher);
        }
        if self.master.next_timeout().is_some_and(|at| at <= self.now) {
            self.handle(master::Input::Tick);
        }
    }

    /// While no answer is awaited.
    fn take_what_is_there(&mut self, of_launcher: &Receiver<ToCluster>) {
        while let Ok(ToCluster { inputs, .. }) = of_launcher.try_recv() {
            for input in inputs {
                self.handle(input);
            }
        }
    }

    fn report(&mut self, mut status: TaskStatus) {
        self.uuids += 1;
        status.uuid = Some(self.uuids.to_be_bytes().to_vec());
        let framework_id = self.framework_id.clone();
        self.handle(master::Input::Update { framework_id, status: Box::new(status) });
    }

    fn handle(&mut self, input: master::Input) {
        let mut effects = std::mem::take(&mut self.effects);
        self.messages += 1;
        self.master.handle_into(self.now, input, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                master::Effect::Event { event, .. } => {
                    self.messages += 1;
                    self.outgoing.push(Input::Event(event));
                }
                master::Effect::CloseStream { .. } => {
                    let reason = "the master closed the stream".to_owned();
                    self.outgoing.push(Input::Disconnected { reason, is_fatal: false });
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
                master::Effect::KillTask { .. }
                | master::Effect::Acknowledge { .. }
                | master::Effect::ShutdownExecutor { .. }
                | master::Effect::ShutdownFramework { .. }
                | master::Effect::MessageExecutor { .. } => {}
            }
        }
        self.effects = effects;
        if self.outgoing.len() >= BATCH {
            self.send(false);
        }
    }
}

fn with_state(status: &TaskStatus, state: TaskState) -> TaskStatus {
    TaskStatus { state: state.into(), ..status.clone() }
}

fn description(number: u32) -> AgentDescription {
    let name = format!("a{number}");
    let hostname = format!("{name}.example");
    let info = AgentInfo {
        hostname: hostname.clone(),
        id: Some(AgentId { value: name }),
        resources: vec![scalar("cpus", f64::from(FIT)), scalar("mem", 8192.0), scalar("disk", 100_000.0)],
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
