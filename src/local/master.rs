//! The embedded master's core. PURE: time and messages in, effects out.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use proto::{mesos, scheduler};

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
        framework: Box<mesos::FrameworkInfo>,
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
    #[expect(dead_code, reason = "being written")]
    config: Config,
}

impl Master {
    /// A master without agents and frameworks.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Takes one input; what must be done comes back in order. `now` never goes backwards.
    pub fn handle(&mut self, _now: Time, _input: Input) -> Vec<Effect> {
        Vec::new()
    }

    /// When to call `handle` with `Tick` at the latest; `None`: nothing is due.
    pub fn next_timeout(&self) -> Option<Time> {
        None
    }
}
