//! The embedded master's core. PURE: time and messages in, effects out.
//!
//! A framework, from its first SUBSCRIBE:
//!
//! ```text
//!             stream breaks; failover_timeout > 0
//! subscribed <-----------------------------------> disconnected
//!  |   | ^     SUBSCRIBE with the id                    |
//!  |   | |                                              | failover_timeout
//!  |   `-' SUBSCRIBE with the id: the newcomer wins     v
//!  `---- TEARDOWN; stream breaks; failover_timeout 0 > removed (its id is never accepted again)
//! ```
//!
//! A task is launched (handed to its agent at once), takes over the state of every update, and holds its resources until
//! an update says that it ended; it is forgotten when the scheduler acknowledged that one. Updates are forwarded, never
//! stored: the agent repeats them until they are acknowledged. What the master itself says of a task has no uuid.
//!
//! Offers are made as soon as resources are free and somebody wants them, see `allocator`.

mod agents;
mod allocator;
mod calls;
mod framework;
mod subscription;
mod validation;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use proto::resources::Resources;
use proto::scheduler::event;
use proto::{mesos, scheduler};

use crate::hash::HashMap;

pub(in crate::local) use allocator::{AgentKey, FrameworkKey};
use allocator::{Allocator, Grant};
pub(in crate::local) use framework::{Executor, Framework, Status, Task, is_terminal};
pub(in crate::local) use validation::check_call;

/// All versions of Mesos take this.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Removed frameworks kept for `/state`, as in Mesos.
const MAX_COMPLETED_FRAMEWORKS: usize = 50;

/// Time since the master started; monotonic.
pub type Time = Duration;

/// Names one event stream; its text, a UUID, is the `Mesos-Stream-Id` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u128);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

impl FromStr for StreamId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(uuid::Uuid::try_parse(text)?.as_u128()))
    }
}

/// What the master is told once.
#[derive(Debug, Clone)]
pub struct Config {
    /// Prefix of framework and offer ids; a UUID in real masters.
    pub id: String,
    /// Where the master is reached; goes into SUBSCRIBED.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Seconds since the epoch at time zero, for the timestamps of the master's own updates.
    pub epoch_seconds: f64,
    /// Between two HEARTBEAT events; [`HEARTBEAT_INTERVAL`] in real masters.
    pub heartbeat_interval: Duration,
}

/// An agent as it registers.
#[derive(Debug, Clone)]
pub struct AgentDescription {
    /// With id, hostname, port, resources and attributes.
    pub info: mesos::AgentInfo,
    /// Copied into its offers.
    pub url: mesos::Url,
}

/// What the outside tells the master.
#[derive(Debug, Clone)]
pub enum Input {
    /// SUBSCRIBE came in; its answer is the new stream.
    Subscribe {
        /// Chosen by the caller, never used before.
        stream: StreamId,
        /// Of type SUBSCRIBE.
        call: Box<scheduler::Call>,
    },
    /// Any other call.
    Call {
        /// The `Mesos-Stream-Id` that came with it.
        stream: Option<StreamId>,
        /// The call.
        call: Box<scheduler::Call>,
    },
    /// The connection of this stream broke (also fine for streams that are not known any more).
    Disconnected {
        /// Which.
        stream: StreamId,
    },
    /// An agent is ready for tasks.
    AgentRegistered(Box<AgentDescription>),
    /// An agent is gone for good: its offers are rescinded, its tasks lost.
    AgentLost {
        /// Which.
        agent_id: String,
        /// Why, for people: "the agent was shut down".
        reason: String,
    },
    /// A status update of an agent; `status` has task_id, state, agent_id, and a uuid unless it needs no acknowledgement.
    Update {
        /// Whose task.
        framework_id: String,
        /// As it will be forwarded.
        status: Box<mesos::TaskStatus>,
    },
    /// A custom executor's container has ended (its tasks' updates come separately).
    ExecutorExited {
        /// Where.
        agent_id: String,
        /// Whose.
        framework_id: String,
        /// Which.
        executor_id: String,
        /// As wait(2) gives it; -1 when unknown.
        status: i32,
    },
    /// MESSAGE of an executor to its scheduler.
    ExecutorMessage {
        /// Where.
        agent_id: String,
        /// Whose.
        framework_id: String,
        /// Which.
        executor_id: String,
        /// Opaque.
        data: Vec<u8>,
    },
    /// `next_timeout` has passed, or nothing happened.
    Tick,
}

/// What the shell must do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The call just given is refused with this HTTP status; the only effect then. No `Reject` means accepted.
    Reject {
        /// 400, 403 or 501.
        status: u16,
        /// For the response's body.
        text: String,
    },
    /// Send this on the stream.
    Event {
        /// Which.
        stream: StreamId,
        /// What.
        event: Box<scheduler::Event>,
    },
    /// End the stream after what was sent.
    CloseStream {
        /// Which.
        stream: StreamId,
    },
    /// Hand a task to its agent.
    RunTask {
        /// Where.
        agent_id: String,
        /// Whose, with the id.
        framework: Arc<mesos::FrameworkInfo>,
        /// With `executor.framework_id` filled in.
        task: Box<mesos::TaskInfo>,
    },
    /// Ask the agent to end a task.
    KillTask {
        /// Where.
        agent_id: String,
        /// Whose.
        framework_id: String,
        /// Which.
        task_id: String,
        /// As in KILL.
        kill_policy: Option<mesos::KillPolicy>,
    },
    /// The scheduler has acknowledged an update of this agent.
    Acknowledge {
        /// Where.
        agent_id: String,
        /// Whose.
        framework_id: String,
        /// Which.
        task_id: String,
        /// Of the update.
        uuid: Vec<u8>,
    },
    /// Ask the agent to shut an executor down.
    ShutdownExecutor {
        /// Where.
        agent_id: String,
        /// Whose.
        framework_id: String,
        /// Which.
        executor_id: String,
    },
    /// The framework is gone: shut down all its executors and drop its updates.
    ShutdownFramework {
        /// Where.
        agent_id: String,
        /// Which.
        framework_id: String,
    },
    /// MESSAGE of a scheduler to its executor.
    MessageExecutor {
        /// Where.
        agent_id: String,
        /// Whose.
        framework_id: String,
        /// Which.
        executor_id: String,
        /// Opaque.
        data: Vec<u8>,
    },
}

/// The master: registry of agents, frameworks, offers and tasks.
#[derive(Debug)]
pub struct Master {
    config: Config,
    agents: BTreeMap<AgentKey, Agent>,
    agent_keys: HashMap<String, AgentKey>,
    frameworks: BTreeMap<FrameworkKey, Framework>,
    framework_keys: HashMap<String, FrameworkKey>,
    streams: HashMap<StreamId, FrameworkKey>,
    removed: HashSet<String>,
    completed: VecDeque<Framework>,
    allocator: Allocator,
    last_agent: u32,
    last_framework: u32,
}

/// A registered agent.
#[derive(Debug)]
pub(in crate::local) struct Agent {
    pub description: AgentDescription,
    pub registered_at: Time,
    /// Tasks that hold resources here.
    pub tasks: BTreeSet<(FrameworkKey, String)>,
    /// Custom executors, by framework and executor id.
    pub executors: BTreeMap<(FrameworkKey, String), Executor>,
}

impl Master {
    /// A master without agents and frameworks.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            agents: BTreeMap::new(),
            agent_keys: HashMap::default(),
            frameworks: BTreeMap::new(),
            framework_keys: HashMap::default(),
            streams: HashMap::default(),
            removed: HashSet::new(),
            completed: VecDeque::new(),
            allocator: Allocator::default(),
            last_agent: 0,
            last_framework: 0,
        }
    }

    /// Takes one input; what must be done comes back in order. `now` never goes backwards.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.handle_into(now, input, &mut effects);
        effects
    }

    /// As `handle`, appending to the caller's effects.
    pub fn handle_into(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        let mut turn = Turn { master: self, now, effects };
        match input {
            Input::Subscribe { stream, call } => turn.subscribe(stream, *call),
            Input::Call { stream, call } => turn.call(stream, call),
            Input::Disconnected { stream } => turn.disconnected(stream),
            Input::AgentRegistered(description) => turn.agent_registered(*description),
            Input::AgentLost { agent_id, reason } => turn.agent_lost(&agent_id, &reason),
            Input::Update { framework_id, status } => turn.update(&framework_id, *status),
            Input::ExecutorExited { agent_id, framework_id, executor_id, status } => {
                turn.executor_exited(&agent_id, &framework_id, &executor_id, status);
            }
            Input::ExecutorMessage { agent_id, framework_id, executor_id, data } => {
                turn.executor_message(agent_id, &framework_id, executor_id, data);
            }
            Input::Tick => {}
        }
        turn.remove_overdue_frameworks();
        turn.send_heartbeats();
        turn.send_offers();
    }

    /// When to call `handle` with `Tick` at the latest; `None`: nothing is due.
    pub fn next_timeout(&self) -> Option<Time> {
        let of_frameworks = self.frameworks.values().filter_map(|framework| match framework.stream {
            Some(_) => Some(framework.heartbeat_at),
            None => framework.remove_at,
        });
        of_frameworks.chain(self.allocator.next_expiry()).min()
    }

    pub(in crate::local) fn config(&self) -> &Config {
        &self.config
    }

    pub(in crate::local) fn agents(&self) -> impl Iterator<Item = (AgentKey, &Agent)> {
        self.agents.iter().map(|(key, agent)| (*key, agent))
    }

    pub(in crate::local) fn frameworks(&self) -> impl Iterator<Item = (FrameworkKey, &Framework)> {
        self.frameworks.iter().map(|(key, framework)| (*key, framework))
    }

    pub(in crate::local) fn completed_frameworks(&self) -> impl Iterator<Item = &Framework> {
        self.completed.iter()
    }

    /// What is out in offers: of an agent, and to a framework.
    pub(in crate::local) fn offered(&self) -> impl Iterator<Item = &Grant> {
        self.allocator.offers()
    }
}

/// The handling of one input.
struct Turn<'a> {
    master: &'a mut Master,
    now: Time,
    effects: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    fn send_offers(&mut self) {
        let mut offers: BTreeMap<FrameworkKey, Vec<mesos::Offer>> = BTreeMap::new();
        let grants = self.master.allocator.allocate(self.now);
        let count = grants.len();
        for grant in grants {
            let framework = grant.framework;
            if let Some(offer) = self.master.describe_offer(grant) {
                offers.entry(framework).or_insert_with(|| Vec::with_capacity(count)).push(offer);
            }
        }
        for (key, offers) in offers {
            let Some(stream) = self.master.frameworks.get(&key).and_then(|framework| framework.stream) else {
                continue;
            };
            self.event(
                stream,
                scheduler::Event {
                    r#type: Some(event::Type::Offers as i32),
                    offers: Some(event::Offers { offers }),
                    ..Default::default()
                },
            );
        }
    }

    fn reject(&mut self, status: u16, text: String) {
        self.effects.push(Effect::Reject { status, text });
    }

    /// ERROR, then the end of the stream.
    fn refuse(&mut self, stream: StreamId, why: &str) {
        self.master.streams.remove(&stream);
        self.event(
            stream,
            scheduler::Event {
                r#type: Some(event::Type::Error as i32),
                error: Some(event::Error { message: why.to_owned() }),
                ..Default::default()
            },
        );
        self.effects.push(Effect::CloseStream { stream });
    }

    fn event(&mut self, stream: StreamId, event: scheduler::Event) {
        self.effects.push(Effect::Event { stream, event: Box::new(event) });
    }

    /// Sends the master's own word on a task: never with a uuid.
    #[expect(clippy::too_many_arguments, reason = "the parts of a status, all different at every caller")]
    fn status(
        &mut self,
        key: FrameworkKey,
        task_id: &mesos::TaskId,
        agent_id: Option<mesos::AgentId>,
        executor_id: Option<mesos::ExecutorId>,
        state: mesos::TaskState,
        reason: Option<mesos::task_status::Reason>,
        message: String,
    ) {
        let Some(stream) = self.master.frameworks.get(&key).and_then(|framework| framework.stream) else { return };
        let status = self.master_status(task_id, agent_id, executor_id, state, reason, message);
        self.event(stream, update_event(status));
    }

    fn master_status(
        &self,
        task_id: &mesos::TaskId,
        agent_id: Option<mesos::AgentId>,
        executor_id: Option<mesos::ExecutorId>,
        state: mesos::TaskState,
        reason: Option<mesos::task_status::Reason>,
        message: String,
    ) -> mesos::TaskStatus {
        mesos::TaskStatus {
            task_id: task_id.clone(),
            state: state as i32,
            message: Some(message),
            agent_id,
            executor_id,
            timestamp: Some(self.master.config.epoch_seconds + self.now.as_secs_f64()),
            source: Some(mesos::task_status::Source::Master as i32),
            reason: reason.map(|reason| reason as i32),
            ..Default::default()
        }
    }
}

impl Master {
    fn framework_id(&self, key: FrameworkKey) -> String {
        let id = self.frameworks.get(&key).and_then(|framework| framework.info.id.as_ref());
        id.map(|id| id.value.clone()).unwrap_or_default()
    }

    fn offer_id(&self, offer: u64) -> mesos::OfferId {
        mesos::OfferId { value: format!("{}-O{offer}", self.config.id) }
    }

    /// The reverse of `offer_id`; 0, which no offer has, for foreign ids.
    fn offer_number(&self, id: &str) -> u64 {
        let number = id.strip_prefix(self.config.id.as_str()).and_then(|rest| rest.strip_prefix("-O"));
        // Only the canonical spelling: "+7" and "007" are not offer 7.
        let number = number.filter(|digits| !digits.starts_with(['+', '0']));
        number.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    fn describe_offer(&self, grant: Grant) -> Option<mesos::Offer> {
        let agent = self.agents.get(&grant.agent)?;
        let framework = self.frameworks.get(&grant.framework)?;
        let mut resources: Vec<mesos::Resource> = grant.resources.into();
        let allocation_info =
            validation::has_capability(&framework.info, mesos::framework_info::capability::Type::MultiRole).then(
                || mesos::resource::AllocationInfo {
                    role: Some(framework.info.roles.first().cloned().unwrap_or_else(|| "*".to_owned())),
                },
            );
        if allocation_info.is_some() {
            for resource in &mut resources {
                resource.allocation_info.clone_from(&allocation_info);
            }
        }
        Some(mesos::Offer {
            id: self.offer_id(grant.offer),
            framework_id: framework.info.id.clone()?,
            agent_id: agent.description.info.id.clone()?,
            hostname: agent.description.info.hostname.clone(),
            resources,
            executor_ids: agent
                .executors
                .range(of_framework(grant.framework))
                .map(|(_, it)| it.info.executor_id.clone())
                .collect(),
            attributes: agent.description.info.attributes.clone(),
            url: Some(agent.description.url.clone()),
            allocation_info,
            ..Default::default()
        })
    }
}

impl Agent {
    pub(in crate::local) fn id(&self) -> &str {
        self.description.info.id.as_ref().map(|id| id.value.as_str()).unwrap_or_default()
    }
}

impl Config {
    fn master_info(&self) -> mesos::MasterInfo {
        let octets = self.host.split('.').map_while(|octet| octet.parse::<u8>().ok()).collect::<Vec<_>>();
        let ip = <[u8; 4]>::try_from(octets).unwrap_or_default();
        mesos::MasterInfo {
            id: self.id.clone(),
            // In network byte order, read as a native number.
            ip: u32::from_ne_bytes(ip),
            port: u32::from(self.port),
            pid: Some(format!("master@{}:{}", self.host, self.port)),
            hostname: Some(self.host.clone()),
            address: Some(mesos::Address {
                hostname: Some(self.host.clone()),
                ip: Some(self.host.clone()),
                port: i32::from(self.port),
            }),
            ..Default::default()
        }
    }
}

/// The executors of one framework, in an agent's books.
fn of_framework(key: FrameworkKey) -> std::ops::Range<(FrameworkKey, String)> {
    (key, String::new())..(FrameworkKey(key.0 + 1), String::new())
}

/// The books do not tell for whom resources are allocated: that is always the holder.
fn unallocated(resources: &[mesos::Resource]) -> Resources {
    let plain = resources.iter().map(|resource| mesos::Resource { allocation_info: None, ..resource.clone() });
    plain.collect::<Vec<_>>().into()
}

fn update_event(status: mesos::TaskStatus) -> scheduler::Event {
    let update = Some(event::Update { status });
    scheduler::Event { r#type: Some(event::Type::Update as i32), update, ..Default::default() }
}

fn failure_event(failure: event::Failure) -> scheduler::Event {
    scheduler::Event { r#type: Some(event::Type::Failure as i32), failure: Some(failure), ..Default::default() }
}

#[cfg(test)]
mod tests;
