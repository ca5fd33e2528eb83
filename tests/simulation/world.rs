//! One story: the user, the scheduler, the master, the agents, and time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use launch_container::local::master::{self, AgentDescription, Master, StreamId};
use launch_container::scheduler::{self, Config, Effect, Input, Scheduler, Task, Terms, Time};
use proto::mesos::task_status::{Reason, Source};
use proto::mesos::{
    Address, AgentId, AgentInfo, Filters, FrameworkId, FrameworkInfo, Resource, TaskId, TaskInfo, TaskState,
    TaskStatus, Url, value,
};
use proto::scheduler::{Call, Event, call, event};

use crate::agent::{Agent, Run};
use crate::checks::{Checks, Truth};
use crate::network::{Agenda, Client, Faults, Order, Posted, Record, What, latency};

/// No story may take longer: something hangs.
const STORY_LIMIT: Duration = Duration::from_secs(4 * 3600);
const STEPS_LIMIT: u64 = 300_000;

/// From then on, what was broken heals.
const MISFORTUNES_END: Duration = Duration::from_secs(15 * 60);

/// Long enough for every story's longest break.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(3600);

/// When a master calls an agent lost that does not answer: Mesos' five pings of 15 s.
const AGENT_TIMEOUT: Duration = Duration::from_secs(75);

/// When a new master calls an agent lost that does not join it.
const REJOIN_TIMEOUT: Duration = Duration::from_secs(600);

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) steps: u64,
    rng: fastrand::Rng,
    is_told: bool,
    faults: Faults,
    agenda: Agenda,
    scheduler: Scheduler,
    config: Config,
    /// What the launcher has on its disk, with the time of each record.
    journal: Vec<(Time, scheduler::Record)>,
    /// The tasks that the user has given it, in their order.
    added: Vec<String>,
    client: Client,
    master: Master,
    /// Counts fail-overs: what agents have not joined since is unknown to the new master.
    generation: u32,
    /// Whose stream is which connection of the client.
    streams: BTreeMap<StreamId, u64>,
    agents: Vec<Agent>,
    /// What the master believes to run on each agent.
    believed: Vec<BTreeSet<String>>,
    tasks: BTreeMap<String, Task>,
    checks: Checks,
    /// All that the master ever gave: more than one, if the answer to the first SUBSCRIBE was lost.
    framework_ids: BTreeSet<String>,
    is_stopped_early: bool,
}

impl World {
    pub(crate) fn new(seed: u64, is_told: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let faults = if rng.u8(0..10) == 0 { Faults::NONE } else { Faults::of_story(&mut rng) };
        let framework = FrameworkInfo {
            user: "root".to_owned(),
            name: "simulation".to_owned(),
            failover_timeout: Some(FAILOVER_TIMEOUT.as_secs_f64()),
            ..FrameworkInfo::default()
        };
        let config = Config {
            framework,
            seed,
            master: "m1:5050".to_owned(),
            can_suppress: rng.u8(0..5) > 0,
            connect_timeout: None,
            reconnect_timeout: Some(scheduler::usual_reconnect_timeout(FAILOVER_TIMEOUT)),
            is_recorded: true,
        };
        let mut world = Self {
            now: Time::ZERO,
            steps: 0,
            is_told,
            faults,
            agenda: Agenda::default(),
            scheduler: Scheduler::new(config.clone()),
            config,
            journal: Vec::new(),
            added: Vec::new(),
            client: Client::default(),
            master: Master::new(master::Config {
                id: "master".to_owned(),
                host: "127.0.0.1".to_owned(),
                port: 5050,
                epoch_seconds: 0.0,
                heartbeat_interval: master::HEARTBEAT_INTERVAL,
            }),
            generation: 0,
            streams: BTreeMap::new(),
            agents: Vec::new(),
            believed: Vec::new(),
            tasks: BTreeMap::new(),
            checks: Checks::default(),
            framework_ids: BTreeSet::new(),
            is_stopped_early: false,
            rng,
        };
        world.tell(|world| format!("{:?}", world.faults));
        world.make_agents();
        world.make_tasks();
        if world.faults.misfortune > 0 {
            world.next_misfortune();
        }
        world
    }

    fn make_agents(&mut self) {
        for agent in 0..self.rng.usize(1..5) {
            // Everything fits on the first one.
            let (cpus, mem) = match agent {
                0 => (4.0, 4096.0),
                _ => ([0.05, 0.5, 1.0, 3.0][self.rng.usize(0..4)], [33.0, 64.0, 256.0, 1024.0][self.rng.usize(0..4)]),
            };
            self.agents.push(Agent {
                id: format!("a{agent}-0"),
                life: 0,
                is_known: false,
                is_joined: false,
                is_unjoined: false,
                lost_at: None,
                cpus,
                mem,
                runs: BTreeMap::new(),
                doomed: BTreeSet::new(),
                ignored: BTreeSet::new(),
            });
            self.believed.push(BTreeSet::new());
            let at = self.soon(5_000);
            self.agenda.push(at, What::AgentReturns { agent });
        }
    }

    fn make_tasks(&mut self) {
        for number in 0..self.rng.usize(1..11) {
            let id = format!("t{number}");
            let (cpus, mem) = ([0.1, 0.5, 1.0, 2.0][self.rng.usize(0..4)], [32.0, 64.0, 512.0][self.rng.usize(0..3)]);
            let seconds = |rng: &mut fastrand::Rng, least, most| Duration::from_secs(rng.u64(least..most));
            let info = TaskInfo {
                name: id.clone(),
                task_id: TaskId { value: id.clone() },
                resources: vec![scalar("cpus", cpus), scalar("mem", mem)],
                command: Some(proto::mesos::CommandInfo::default()),
                ..TaskInfo::default()
            };
            let run_timeout = (self.rng.u8(0..8) == 0).then(|| seconds(&mut self.rng, 1, 60));
            let offer_timeout = (self.rng.u8(0..8) == 0).then(|| seconds(&mut self.rng, 1, 120));
            let task = Task {
                info,
                kill_grace: seconds(&mut self.rng, 0, 10),
                run_timeout,
                offer_timeout,
                terms: Terms::default(),
            };
            let has_timeout = run_timeout.is_some() || offer_timeout.is_some();
            self.checks.truths.insert(id.clone(), Truth { has_timeout, ..Truth::default() });
            self.tasks.insert(id.clone(), task);
            let added = self.soon(10_000);
            self.agenda.push(added, What::UserAdds(id.clone()));
            while self.rng.u8(0..6) == 0 {
                let at = added + self.soon(60_000);
                self.agenda.push(at, What::UserInterrupts(id.clone()));
            }
        }
        if self.rng.u8(0..10) == 0 {
            let at = self.soon(60_000);
            self.agenda.push(at, What::UserStops);
        }
    }

    /// Until everything is over; panics if anything is wrong on the way.
    pub(crate) fn run(&mut self) {
        while !self.checks.are_all_over() && !self.checks.is_stopped {
            self.step();
        }
        self.tell(|world| format!("all over: {:?}", world.checks.truths));
        self.faults = Faults::NONE;
        self.client.cut_until = self.now;
        self.is_stopped_early = self.checks.is_stopped;
        if !self.is_stopped_early {
            self.run_until("the agents have reported all", |world| {
                world.agents.iter().all(|agent| agent.is_joined && !agent.is_running() && !agent.has_updates())
            });
            self.run_for(Duration::from_secs(40));
            self.run_until("the scheduler is subscribed", |world| world.client.stream.is_some());
            self.run_for(Duration::from_secs(10));
            self.check_that_nothing_is_held();
            self.stop();
        }
        let stopped_at = self.now;
        self.run_until("the scheduler has finished", |world| world.checks.is_finished);
        assert!(self.now - stopped_at < Duration::from_secs(2), "it takes too long to stop");
        self.run_until("the last calls are sent", |world| world.client.posted.is_empty() && !world.client.is_calling);
        self.run_for(Duration::from_secs(10));
        if self.framework_ids.len() != 1 || self.is_stopped_early {
            // A master that cannot be told keeps the framework for as long as it was asked to.
            self.run_for(FAILOVER_TIMEOUT + Duration::from_secs(130));
        }
        self.check_that_no_framework_is_left();
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until("the time has passed", |world| world.next_at().is_none_or(|at| at > end));
        self.now = end;
    }

    fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let limit = self.now + STORY_LIMIT;
        while !is_so(self) {
            assert!(self.next_at().is_some_and(|at| at < limit), "waiting in vain until {what}");
            self.step();
        }
    }

    fn next_at(&self) -> Option<Time> {
        let scheduler = self.scheduler.next_timeout().filter(|_| !self.checks.is_finished);
        [self.agenda.next_at(), scheduler, self.master.next_timeout()].into_iter().flatten().min()
    }

    fn step(&mut self) {
        let next = self.next_at().expect("everything hangs: nothing will ever happen");
        self.now = self.now.max(next);
        self.steps += 1;
        assert!(self.now < STORY_LIMIT, "the story does not end");
        assert!(self.steps < STEPS_LIMIT, "there is no rest");
        if self.agenda.next_at().is_some_and(|at| at <= self.now)
            && let Some(what) = self.agenda.pop()
        {
            self.happen(what);
        } else if self.master.next_timeout().is_some_and(|at| at <= self.now) {
            self.master_takes(master::Input::Tick);
        } else {
            self.input(Input::Tick);
        }
        self.checks.runs();
    }

    fn tell(&self, what: impl Fn(&Self) -> String) {
        if self.is_told {
            eprintln!("{:>12.3} {}", self.now.as_secs_f64(), what(self));
        }
    }

    fn soon(&mut self, milliseconds: u64) -> Time {
        self.now + Duration::from_millis(self.rng.u64(0..milliseconds))
    }

    fn later(&mut self) -> Time {
        self.now + latency(&mut self.rng, &self.faults)
    }

    fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.f64() < probability
    }

    fn happen(&mut self, what: What) {
        self.tell(|_| format!("{what:?}"));
        match what {
            What::MasterGetsSubscribe { connection, call } => self.master_gets_subscribe(connection, call),
            What::MasterGetsCall { stream, call, answers } => self.master_gets_call(stream, call, answers),
            What::MasterGetsBreak { stream } => {
                self.master_takes(master::Input::Disconnected { stream });
            }
            What::MasterGetsUpdate { agent, life, framework_id, status } => {
                if self.agents[agent].life == life && self.agents[agent].is_joined {
                    if is_terminal(&status) {
                        self.believed[agent].remove(&status.task_id.value);
                    }
                    self.master_takes(master::Input::Update { framework_id, status });
                }
            }
            What::MasterLosesAgent { agent, life } => self.master_loses_agent(agent, life),
            What::ClientGets { connection, record } => self.client_gets(connection, record),
            What::CallAnswered { number, failure } => self.call_answered(number, failure),
            What::AgentGets { agent, life, order } => {
                if self.agents[agent].life == life {
                    self.agent_gets(agent, order);
                }
            }
            What::TaskSteps { agent, life, wire_id, steps_left } => {
                if self.agents[agent].life == life {
                    self.task_steps(agent, wire_id, steps_left);
                }
            }
            What::AgentResends { agent, life, wire_id, uuid } => {
                if self.agents[agent].life == life {
                    self.agent_resends(agent, wire_id, uuid.as_deref());
                }
            }
            What::AgentJoins { agent, life } => {
                if self.agents[agent].life == life && self.agents[agent].lost_at.is_none() {
                    self.agent_joins(agent);
                }
            }
            What::AgentReturns { agent } => self.agent_returns(agent),
            What::Misfortune => self.misfortune(),
            What::UserAdds(id) => {
                let task = self.tasks[&id].clone();
                self.added.push(id);
                self.input(Input::Add(Box::new(task)));
            }
            What::UserInterrupts(task_id) => {
                let truth = self.checks.truth(&task_id);
                truth.is_interrupted = true;
                self.input(Input::Interrupt { task_id, signal: 2, grace: None });
            }
            What::UserStops if self.checks.is_stopped || self.checks.are_all_over() => {}
            What::UserStops => self.stop(),
        }
    }

    fn stop(&mut self) {
        self.checks.is_stopped = true;
        self.input(Input::Stop);
    }

    // ---- the launcher ----

    fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let effects = self.scheduler.handle(self.now, input);
            let can_be_killed = self.checks.can_be_killed() && self.now < MISFORTUNES_END && !effects.is_empty();
            let is_killed = can_be_killed && self.happens(self.faults.kill);
            let performed = if is_killed { self.rng.usize(0..effects.len()) } else { effects.len() };
            self.checks.effects(self.now, &effects[..performed]);
            for effect in effects.into_iter().take(performed) {
                self.tell(|_| format!("    -> {effect:?}"));
                self.perform(effect, &mut inputs);
            }
            if is_killed {
                return self.kill_launcher();
            }
            self.checks.acknowledged();
        }
    }

    /// Nothing is left of the launcher but its records, the calls that are under way, and what it was asked for. The user starts
    /// another one with the same tasks, except for those whose end they have seen.
    fn kill_launcher(&mut self) {
        self.tell(|_| "the launcher is killed".to_owned());
        self.client.posted.clear();
        self.client.is_calling = false;
        self.client.under_way = None;
        self.disconnect();
        self.checks.killed();
        let is_over = |id: &String| {
            self.journal
                .iter()
                .any(|(_, record)| matches!(record, scheduler::Record::Over { task_id, .. } if task_id == id))
        };
        let is_wanted = |id: &&String| is_over(id) || self.checks.truths[*id].outcome.is_none();
        let tasks = self.added.iter().filter(is_wanted).map(|id| self.tasks[id].clone()).collect();
        let records: Vec<_> = self.journal.iter().map(|(at, record)| (self.now - *at, record.clone())).collect();
        let (scheduler, effects) = Scheduler::restore(self.config.clone(), self.now, tasks, &records, true);
        self.scheduler = scheduler;
        let inputs = &mut VecDeque::new();
        self.checks.restored(&effects);
        effects.into_iter().for_each(|effect| self.perform(effect, inputs));
        assert!(inputs.is_empty(), "nothing is called before it subscribes");
        self.input(Input::Tick);
    }

    fn perform(&mut self, effect: Effect, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::Subscribe(call) => self.subscribe(call),
            Effect::Disconnect => self.disconnect(),
            Effect::Record(record) => self.journal.push((self.now, record)),
            Effect::Call(call) => match self.client.stream {
                Some(stream) => {
                    self.client.posted.push_back(Posted::Call(stream, call));
                    self.post();
                }
                None => inputs.push_back(Input::CallFailed { call, reason: "not connected".to_owned() }),
            },
            Effect::Update(_)
            | Effect::Status(_)
            | Effect::Placed { .. }
            | Effect::OutputAgain { .. }
            | Effect::Stdin { .. }
            | Effect::Ended { .. }
            | Effect::Finish => {}
        }
    }

    fn subscribe(&mut self, call: Box<Call>) {
        self.disconnect();
        let connection = self.client.connection;
        self.client.stream_at = self.now;
        let is_cut = self.client.cut_until > self.now;
        if is_cut || self.happens(self.faults.subscribe) {
            let reason = "no answer".to_owned();
            let at = self.now + Duration::from_millis(self.rng.u64(1..5_000));
            self.agenda.push(at, What::ClientGets { connection, record: Record::Refused { reason } });
            if is_cut || self.rng.bool() {
                return;
            }
            // The master is asked, but its answer does not come back.
            self.client.is_deaf = true;
        }
        let at = self.later();
        self.agenda.push(at, What::MasterGetsSubscribe { connection, call });
    }

    fn disconnect(&mut self) {
        let connection = self.client.connection;
        self.client.connection += 1;
        self.client.is_deaf = false;
        if let Some(stream) = self.client.stream.take() {
            self.client.posted.push_back(Posted::Close(stream));
            self.post();
        } else if let Some((stream, _)) = self.streams.iter().find(|(_, of)| **of == connection) {
            // Its answer is still under way: the master notices when it sends more.
            let stream = *stream;
            let at = self.soon(5_000);
            self.agenda.push(at, What::MasterGetsBreak { stream });
        }
    }

    /// Sends the next call, if none is under way.
    fn post(&mut self) {
        while !self.client.is_calling
            && let Some(posted) = self.client.posted.pop_front()
        {
            let at = self.later();
            match posted {
                Posted::Close(stream) => self.agenda.push(at, What::MasterGetsBreak { stream }),
                Posted::Call(stream, call) => self.send(stream, call, at),
            }
        }
    }

    fn send(&mut self, stream: StreamId, call: Box<Call>, at: Time) {
        self.client.is_calling = true;
        self.client.calls_made += 1;
        self.client.under_way = Some(call.clone());
        let number = self.client.calls_made;
        let stream = Some(stream);
        let fails_at = self.now + Duration::from_millis(self.rng.u64(10..3_000));
        let failure = |reason: &str| What::CallAnswered { number, failure: Some(reason.to_owned()) };
        if self.client.cut_until > self.now {
            return self.agenda.push(fails_at, failure("no answer"));
        }
        if !self.happens(self.faults.call) {
            return self.agenda.push(at, What::MasterGetsCall { stream, call, answers: Some(number) });
        }
        match self.rng.u8(0..5) {
            0 => self.agenda.push(fails_at, failure("lost")),
            1 => self.agenda.push(at, failure("500")),
            2 => {
                self.agenda.push(at.min(fails_at), What::MasterGetsCall { stream, call, answers: None });
                self.agenda.push(fails_at, failure("answer lost"));
            }
            3 => {
                let late = fails_at + Duration::from_millis(self.rng.u64(0..3_000));
                self.agenda.push(late, What::MasterGetsCall { stream, call, answers: None });
                self.agenda.push(fails_at, failure("late"));
            }
            _ => {
                let again = at + Duration::from_millis(self.rng.u64(0..4_000));
                self.agenda.push(at, What::MasterGetsCall { stream, call: call.clone(), answers: Some(number) });
                self.agenda.push(again, What::MasterGetsCall { stream, call, answers: None });
            }
        }
    }

    fn call_answered(&mut self, number: u64, failure: Option<String>) {
        if number != self.client.calls_made || !self.client.is_calling {
            return;
        }
        self.client.is_calling = false;
        let call = self.client.under_way.take().unwrap();
        if let Some(reason) = failure {
            self.input(Input::CallFailed { call, reason });
        }
        self.post();
    }

    fn client_gets(&mut self, connection: u64, record: Record) {
        if connection != self.client.connection || self.checks.is_finished {
            return;
        }
        match record {
            Record::Connected { stream } => {
                self.client.stream = Some(stream);
                self.input(Input::Connected { master: "127.0.0.1:5050".to_owned() });
            }
            Record::Refused { reason } | Record::End { reason } => {
                self.disconnect();
                self.checks.disconnected();
                self.input(Input::Disconnected { reason, is_fatal: false });
            }
            Record::Event(event) => {
                for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
                    self.checks.offered(self.now, &offer.id.value);
                }
                if !self.checks.is_stopped
                    && let Some(uuid) = event.update.as_ref().and_then(|update| update.status.uuid.clone())
                {
                    self.checks.updated(uuid);
                }
                self.input(Input::Event(event));
            }
        }
    }

    // ---- the master ----

    /// The rejection, if it is one.
    fn master_takes(&mut self, input: master::Input) -> Option<String> {
        let mut rejection = None;
        for effect in self.master.handle(self.now, input) {
            match effect {
                master::Effect::Reject { status, text } => rejection = Some(format!("{status}: {text}")),
                master::Effect::Event { stream, event } => self.send_to_client(stream, event),
                master::Effect::CloseStream { stream } => {
                    self.stream(stream, Record::End { reason: "the master closed the stream".to_owned() });
                }
                master::Effect::RunTask { agent_id, framework, task } => {
                    let agent = self.agent(&agent_id);
                    self.believed[agent].insert(task.task_id.value.clone());
                    self.send_to_agent(agent, Order::Run { framework, task });
                }
                master::Effect::KillTask { agent_id, task_id, kill_policy, .. } => {
                    self.send_to_agent(self.agent(&agent_id), Order::Kill { task_id, kill_policy });
                }
                master::Effect::Acknowledge { agent_id, task_id, uuid, .. } => {
                    self.send_to_agent(self.agent(&agent_id), Order::Acknowledge { task_id, uuid });
                }
                master::Effect::ShutdownFramework { agent_id, framework_id } => {
                    self.send_to_agent(self.agent(&agent_id), Order::ShutDown { framework_id });
                }
                master::Effect::ShutdownExecutor { .. } | master::Effect::MessageExecutor { .. } => {}
            }
        }
        rejection
    }

    fn agent(&self, id: &str) -> usize {
        self.agents.iter().position(|agent| agent.id == id).unwrap()
    }

    fn master_gets_subscribe(&mut self, connection: u64, call: Box<Call>) {
        let stream = StreamId(u128::from(connection) << 64 | u128::from(self.steps));
        self.streams.insert(stream, connection);
        if connection != self.client.connection || self.client.is_deaf {
            // Nobody listens at the other end.
            let at = self.soon(5_000);
            self.agenda.push(at, What::MasterGetsBreak { stream });
        }
        self.stream(stream, Record::Connected { stream });
        if let Some(reason) = self.master_takes(master::Input::Subscribe { stream, call }) {
            self.stream(stream, Record::End { reason });
        }
    }

    fn master_gets_call(&mut self, stream: Option<StreamId>, call: Box<Call>, answers: Option<u64>) {
        let failure = match &call.kill {
            Some(kill) if !self.knows(kill.agent_id.as_ref()) => {
                let status = unknown(&kill.task_id, kill.agent_id.as_ref());
                self.send_to_client(stream.unwrap(), Box::new(update(status)));
                None
            }
            _ => self.master_takes(master::Input::Call { stream, call }),
        };
        if let Some(number) = answers {
            let at = self.later();
            self.agenda.push(at, What::CallAnswered { number, failure });
        }
    }

    /// A master that is new does not know what runs on agents that have not joined it.
    fn knows(&self, agent_id: Option<&AgentId>) -> bool {
        let agent = self.agents.iter().find(|agent| agent_id.is_some_and(|id| id.value == agent.id));
        agent.is_none_or(|agent| !agent.is_unjoined)
    }

    fn send_to_client(&mut self, stream: StreamId, mut event: Box<Event>) {
        if let Some(subscribed) = &mut event.subscribed {
            self.framework_ids.insert(subscribed.framework_id.value.clone());
            if let Some(info) = &mut subscribed.master_info {
                info.id = format!("master-{}", self.generation);
            }
        }
        if let Some(update) = &mut event.update
            && update.status.reason == Some(Reason::Reconciliation.into())
            && !self.knows(update.status.agent_id.as_ref())
        {
            update.status = unknown(&update.status.task_id, update.status.agent_id.as_ref());
        }
        if let Some(offers) = &mut event.offers {
            let (known, hidden): (Vec<_>, Vec<_>) =
                std::mem::take(&mut offers.offers).into_iter().partition(|offer| self.knows(Some(&offer.agent_id)));
            offers.offers = known;
            if let Some(first) = hidden.first() {
                let decline = call::Decline {
                    offer_ids: hidden.iter().map(|offer| offer.id.clone()).collect(),
                    filters: Some(Filters { refuse_seconds: Some(1.0) }),
                };
                let call = Call {
                    framework_id: Some(first.framework_id.clone()),
                    r#type: Some(call::Type::Decline.into()),
                    decline: Some(decline),
                    ..Call::default()
                };
                let call = Box::new(call);
                self.agenda.push(self.now, What::MasterGetsCall { stream: Some(stream), call, answers: None });
            }
            if offers.offers.is_empty() {
                return;
            }
        }
        self.stream(stream, Record::Event(event));
    }

    /// Records of one stream arrive in order, or, once it is cut, not at all.
    fn stream(&mut self, stream: StreamId, record: Record) {
        let Some(connection) = self.streams.get(&stream).copied() else { return };
        if connection != self.client.connection || self.client.is_deaf {
            return;
        }
        let at = self.later().max(self.client.stream_at);
        self.client.stream_at = at;
        self.agenda.push(at, What::ClientGets { connection, record });
    }

    fn master_loses_agent(&mut self, agent: usize, life: u32) {
        if self.agents[agent].life != life || self.agents[agent].lost_at != Some(self.now) {
            return;
        }
        self.believed[agent].clear();
        self.agents[agent].is_unjoined = false;
        let agent_id = self.agents[agent].id.clone();
        self.checks.lost_agents.insert(agent_id.clone());
        self.master_takes(master::Input::AgentLost { agent_id, reason: "health check timed out".to_owned() });
    }

    // ---- the agents ----

    fn send_to_agent(&mut self, agent: usize, order: Order) {
        if !self.agents[agent].is_joined {
            return;
        }
        let life = self.agents[agent].life;
        let at = self.later();
        let may_be_lost = matches!(order, Order::Kill { .. } | Order::Acknowledge { .. });
        if may_be_lost && self.happens(self.faults.update) {
            return;
        }
        self.agenda.push(at, What::AgentGets { agent, life, order });
    }

    fn agent_gets(&mut self, agent: usize, order: Order) {
        match order {
            Order::Run { framework, task } => {
                let wire_id = task.task_id.value.clone();
                if self.agents[agent].ignored.contains(&wire_id) {
                    return;
                }
                let mut run = Run::new(framework.id.clone().unwrap_or_default().value, &mut self.rng);
                if self.agents[agent].doomed.remove(&wire_id) {
                    run.script = VecDeque::from([(Duration::ZERO, TaskState::TaskKilled)]);
                } else {
                    self.checks.truth(task_of(&wire_id)).started += 1;
                }
                self.schedule_step(agent, &wire_id, &run);
                self.agents[agent].runs.insert(wire_id, run);
            }
            Order::Kill { task_id, kill_policy } => {
                let grace = kill_policy.and_then(|policy| policy.grace_period).map_or(0, |grace| grace.nanoseconds);
                let takes = Duration::from_nanos(self.rng.u64(0..=u64::try_from(grace).unwrap()));
                let Some(run) = self.agents[agent].runs.get_mut(&task_id) else {
                    self.agents[agent].doomed.insert(task_id);
                    return;
                };
                if run.is_over {
                    return;
                }
                run.script = VecDeque::from([(takes, TaskState::TaskKilled)]);
                if self.rng.bool() {
                    run.script.push_front((Duration::ZERO, TaskState::TaskKilling));
                }
                let run = &self.agents[agent].runs[&task_id];
                schedule_step(&mut self.agenda, self.now, agent, self.agents[agent].life, &task_id, run);
            }
            Order::Acknowledge { task_id, uuid } => {
                let Some(run) = self.agents[agent].runs.get_mut(&task_id) else { return };
                if run.updates.front().is_some_and(|status| status.uuid.as_ref() == Some(&uuid)) {
                    run.updates.pop_front();
                    run.resend_in = Duration::from_secs(1);
                    self.agent_resends(agent, task_id, None);
                }
            }
            Order::ShutDown { framework_id } => {
                self.agents[agent].runs.retain(|_, run| run.framework_id != framework_id);
            }
        }
    }

    fn schedule_step(&mut self, agent: usize, wire_id: &str, run: &Run) {
        schedule_step(&mut self.agenda, self.now, agent, self.agents[agent].life, wire_id, run);
    }

    fn task_steps(&mut self, agent: usize, wire_id: String, steps_left: usize) {
        let agent_id = self.agents[agent].id.clone();
        let Some(run) = self.agents[agent].runs.get_mut(&wire_id) else { return };
        if run.is_over || run.script.len() != steps_left {
            return;
        }
        let Some((_, state)) = run.script.pop_front() else { return };
        let status = run.status(&agent_id, &wire_id, state, &mut self.rng);
        run.is_over = is_terminal(&status);
        run.updates.push_back(status);
        if matches!(state, TaskState::TaskFinished | TaskState::TaskFailed) {
            self.checks.truths.get_mut(task_of(&wire_id)).unwrap().completed.push(run.ending);
        }
        if run.updates.len() == 1 {
            self.agent_resends(agent, wire_id.clone(), None);
        }
        let run = &self.agents[agent].runs[&wire_id];
        schedule_step(&mut self.agenda, self.now, agent, self.agents[agent].life, &wire_id, run);
    }

    /// Sends the first update; `uuid`: only if it still is that one.
    fn agent_resends(&mut self, agent: usize, wire_id: String, uuid: Option<&[u8]>) {
        let life = self.agents[agent].life;
        let Some(run) = self.agents[agent].runs.get_mut(&wire_id) else { return };
        let Some(status) = run.updates.front() else { return };
        if uuid.is_some_and(|uuid| status.uuid.as_deref() != Some(uuid)) {
            return;
        }
        let (status, framework_id) = (status.clone(), run.framework_id.clone());
        let again = self.now + run.resend_in;
        run.resend_in = (run.resend_in * 2).min(Duration::from_secs(30));
        self.agenda.push(again, What::AgentResends { agent, life, wire_id, uuid: status.uuid.clone() });
        let copies = match self.happens(self.faults.update) {
            false => 1,
            true => self.rng.u8(0..3),
        };
        for _ in 0..copies {
            let at = self.later();
            let (framework_id, status) = (framework_id.clone(), Box::new(status.clone()));
            self.agenda.push(at, What::MasterGetsUpdate { agent, life, framework_id, status });
        }
    }

    /// Connected again, with what it runs; the master says what it believed to be there and is not.
    fn agent_joins(&mut self, agent: usize) {
        self.agents[agent].is_joined = true;
        self.agents[agent].is_unjoined = false;
        let missing: Vec<String> = self.believed[agent]
            .iter()
            .filter(|wire_id| !self.agents[agent].runs.contains_key(*wire_id))
            .cloned()
            .collect();
        let agent_id = AgentId { value: self.agents[agent].id.clone() };
        for wire_id in missing {
            self.believed[agent].remove(&wire_id);
            // An order that is still under way comes from a connection that is no more.
            self.agents[agent].ignored.insert(wire_id.clone());
            let status = Box::new(unknown(&TaskId { value: wire_id }, Some(&agent_id)));
            for framework_id in self.framework_ids.clone() {
                self.master_takes(master::Input::Update { framework_id, status: status.clone() });
            }
        }
    }

    /// Its link works (again). If the master has called it lost, it begins a new life without its tasks.
    fn agent_returns(&mut self, agent: usize) {
        let is_new = !self.agents[agent].is_known;
        let is_lost = self.agents[agent].lost_at.is_some_and(|at| at <= self.now);
        self.agents[agent].lost_at = None;
        if !is_new && !is_lost {
            return self.agent_joins(agent);
        }
        if is_lost {
            self.begin_new_life(agent);
        }
        let agent = &mut self.agents[agent];
        agent.is_joined = true;
        agent.is_known = true;
        let id = Some(AgentId { value: agent.id.clone() });
        let hostname = format!("{}.example", agent.id);
        let resources = vec![scalar("cpus", agent.cpus), scalar("mem", agent.mem)];
        let info = AgentInfo { hostname: hostname.clone(), id, resources, port: Some(5051), ..AgentInfo::default() };
        let address = Address { hostname: Some(hostname), ip: None, port: 5051 };
        let url = Url { scheme: "http".to_owned(), address, ..Url::default() };
        self.master_takes(master::Input::AgentRegistered(Box::new(AgentDescription { info, url })));
    }

    fn begin_new_life(&mut self, agent: usize) {
        let lost = std::mem::take(&mut self.agents[agent].runs);
        for (wire_id, run) in lost {
            if !run.is_over {
                self.checks.truth(task_of(&wire_id)).shut_down += 1;
            }
        }
        let agent = &mut self.agents[agent];
        agent.doomed.clear();
        agent.life += 1;
        let name = agent.id.split('-').next().unwrap().to_owned();
        agent.id = format!("{name}-{}", agent.life);
    }

    // ---- misfortunes ----

    fn next_misfortune(&mut self) {
        let at = self.soon(2_000 * self.faults.misfortune);
        self.agenda.push(at, What::Misfortune);
    }

    fn misfortune(&mut self) {
        if self.faults.misfortune == 0 || self.now > MISFORTUNES_END {
            return;
        }
        self.next_misfortune();
        match self.rng.u8(0..5) {
            0 => self.break_stream(),
            1 => self.cut_client_off(),
            2 => self.fail_over(),
            3 => self.cut_agent_off(),
            _ => self.shut_agent_down(),
        }
    }

    /// Both ends notice, each in its own time.
    fn break_stream(&mut self) {
        self.tell(|_| "misfortune: the stream breaks".to_owned());
        let Some(stream) = self.client.stream else { return };
        self.stream(stream, Record::End { reason: "connection reset".to_owned() });
        self.client.is_deaf = true;
        let at = self.soon(5_000);
        self.agenda.push(at, What::MasterGetsBreak { stream });
    }

    /// Nothing comes through for a while, and nobody is told.
    fn cut_client_off(&mut self) {
        self.tell(|_| "misfortune: a partition".to_owned());
        self.client.cut_until = self.now + Duration::from_secs(self.rng.u64(1..90));
        self.client.is_deaf = true;
        if let Some(stream) = self.client.stream {
            let at = self.soon(120_000);
            self.agenda.push(at, What::MasterGetsBreak { stream });
        }
    }

    /// Another master takes over, which the agents join one by one.
    fn fail_over(&mut self) {
        self.tell(|_| "misfortune: another master".to_owned());
        self.generation += 1;
        if let Some(stream) = self.client.stream {
            self.stream(stream, Record::End { reason: "connection reset".to_owned() });
            self.client.is_deaf = true;
        }
        for stream in std::mem::take(&mut self.streams).into_keys() {
            self.master_takes(master::Input::Disconnected { stream });
        }
        for agent in 0..self.agents.len() {
            if self.agents[agent].lost_at.is_some() || !self.agents[agent].is_known {
                continue;
            }
            self.agents[agent].is_joined = false;
            self.agents[agent].is_unjoined = true;
            let life = self.agents[agent].life;
            if self.rng.u8(0..20) > 0 {
                let at = self.soon(40_000);
                self.agenda.push(at, What::AgentJoins { agent, life });
            } else {
                self.lose_agent_at(agent, self.now + REJOIN_TIMEOUT);
            }
        }
    }

    /// For a while; if it is too long, the master calls the agent lost.
    fn cut_agent_off(&mut self) {
        let agent = self.rng.usize(0..self.agents.len());
        if !self.agents[agent].is_joined {
            return;
        }
        self.tell(|world| format!("misfortune: agent {} is cut off", world.agents[agent].id));
        self.agents[agent].is_joined = false;
        let away = Duration::from_millis(self.rng.u64(100..150_000));
        if away > AGENT_TIMEOUT {
            let back_at = self.now + away;
            let life = self.agents[agent].life;
            let lost_at = self.now + AGENT_TIMEOUT;
            self.agents[agent].lost_at = Some(lost_at);
            self.agenda.push(lost_at, What::MasterLosesAgent { agent, life });
            self.agenda.push(back_at, What::AgentReturns { agent });
        } else {
            let life = self.agents[agent].life;
            self.agenda.push(self.now + away, What::AgentJoins { agent, life });
        }
    }

    /// At once and with all its tasks.
    fn shut_agent_down(&mut self) {
        let agent = self.rng.usize(0..self.agents.len());
        if !self.agents[agent].is_joined {
            return;
        }
        self.tell(|world| format!("misfortune: agent {} is shut down", world.agents[agent].id));
        self.agents[agent].is_joined = false;
        for (wire_id, run) in std::mem::take(&mut self.agents[agent].runs) {
            if !run.is_over {
                self.checks.truth(task_of(&wire_id)).shut_down += 1;
            }
        }
        self.lose_agent_at(agent, self.now);
    }

    fn lose_agent_at(&mut self, agent: usize, at: Time) {
        let life = self.agents[agent].life;
        self.agents[agent].lost_at = Some(at);
        self.agenda.push(at, What::MasterLosesAgent { agent, life });
        let back_at = at + Duration::from_millis(self.rng.u64(1..60_000));
        self.agenda.push(back_at, What::AgentReturns { agent });
    }

    // ---- the end ----

    /// Another framework is offered everything: ours holds nothing, and no dead task does.
    fn check_that_nothing_is_held(&mut self) {
        let stream = StreamId(1);
        let info = FrameworkInfo { user: "probe".to_owned(), name: "probe".to_owned(), ..FrameworkInfo::default() };
        let call = Box::new(Call {
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe { framework_info: info, ..call::Subscribe::default() }.into()),
            ..Call::default()
        });
        let effects = self.master.handle(self.now, master::Input::Subscribe { stream, call });
        let events = effects.into_iter().filter_map(|effect| match effect {
            master::Effect::Event { stream: StreamId(1), event } => event.offers,
            _ => None,
        });
        let mut offered: BTreeMap<String, f64> = BTreeMap::new();
        for offer in events.flat_map(|offers| offers.offers) {
            for resource in &offer.resources {
                let amount = resource.scalar.as_ref().unwrap().value;
                *offered.entry(format!("{} {}", offer.agent_id.value, resource.name)).or_default() += amount;
            }
        }
        for agent in &self.agents {
            for (name, amount) in [("cpus", agent.cpus), ("mem", agent.mem)] {
                let name = format!("{} {name}", agent.id);
                assert_eq!(offered.get(&name), Some(&amount), "{name} is held by somebody");
            }
        }
        self.master_takes(master::Input::Disconnected { stream });
    }

    fn check_that_no_framework_is_left(&mut self) {
        for value in self.framework_ids.clone() {
            let call = Box::new(Call {
                framework_id: Some(FrameworkId { value }),
                r#type: Some(call::Type::Revive.into()),
                ..Call::default()
            });
            let rejection = self.master_takes(master::Input::Call { stream: Some(StreamId(0)), call });
            assert_eq!(rejection.as_deref(), Some("400: Framework cannot be found"), "a framework is left");
        }
        assert!(self.agents.iter().all(|agent| !agent.is_joined || !agent.is_running()), "a task is left");
    }
}

fn schedule_step(agenda: &mut Agenda, now: Time, agent: usize, life: u32, wire_id: &str, run: &Run) {
    if let Some((after, _)) = run.script.front() {
        let (wire_id, steps_left) = (wire_id.to_owned(), run.script.len());
        agenda.push(now + *after, What::TaskSteps { agent, life, wire_id, steps_left });
    }
}

/// `t1.2` is the second launch of `t1`.
fn task_of(wire_id: &str) -> &str {
    wire_id.split('.').next().unwrap()
}

fn is_terminal(status: &TaskStatus) -> bool {
    matches!(status.state(), TaskState::TaskFinished | TaskState::TaskFailed | TaskState::TaskKilled)
}

/// What a master says of a task that it does not know.
fn unknown(task_id: &TaskId, agent_id: Option<&AgentId>) -> TaskStatus {
    TaskStatus {
        task_id: task_id.clone(),
        state: TaskState::TaskLost.into(),
        source: Some(Source::Master.into()),
        reason: Some(Reason::Reconciliation.into()),
        agent_id: agent_id.cloned(),
        ..TaskStatus::default()
    }
}

fn update(status: TaskStatus) -> Event {
    let update = Some(event::Update { status });
    Event { r#type: Some(event::Type::Update.into()), update, ..Event::default() }
}

fn scalar(name: &str, value: f64) -> Resource {
    Resource {
        name: name.to_owned(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value }),
        ..Resource::default()
    }
}
