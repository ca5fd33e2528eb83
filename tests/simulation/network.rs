//! The messages under way, and what may happen to them.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use launch_container::local::master::StreamId;
use launch_container::scheduler::Time;
use proto::mesos::{FrameworkInfo, KillPolicy, TaskInfo, TaskStatus};
use proto::scheduler::{Call, Event};

/// How bad the network of this story is.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    /// A message takes seconds.
    pub(crate) slow: f64,
    /// A call does not arrive, arrives without an answer, or arrives twice.
    pub(crate) call: f64,
    /// An update or an acknowledgement is lost or doubled between agent and master.
    pub(crate) update: f64,
    /// A subscription fails or its answer is lost.
    pub(crate) subscribe: f64,
    /// Seconds between two greater misfortunes, on average; 0: never.
    pub(crate) misfortune: u64,
    /// The launcher is killed somewhere in what it does because of one input.
    pub(crate) kill: f64,
}

impl Faults {
    pub(crate) const NONE: Self = Self { slow: 0.0, call: 0.0, update: 0.0, subscribe: 0.0, misfortune: 0, kill: 0.0 };

    pub(crate) fn of_story(rng: &mut fastrand::Rng) -> Self {
        let mut level = |most: f64| if rng.bool() { 0.0 } else { rng.f64() * most };
        Self {
            slow: level(0.2),
            call: level(0.3),
            update: level(0.5),
            subscribe: level(0.5),
            kill: level(0.1),
            misfortune: [0, 5, 30, 200][rng.usize(0..4)],
        }
    }
}

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum What {
    MasterGetsSubscribe {
        connection: u64,
        call: Box<Call>,
    },
    /// `answers`: the number of the call that waits for it.
    MasterGetsCall {
        stream: Option<StreamId>,
        call: Box<Call>,
        answers: Option<u64>,
    },
    MasterGetsBreak {
        stream: StreamId,
    },
    MasterGetsUpdate {
        agent: usize,
        life: u32,
        framework_id: String,
        status: Box<TaskStatus>,
    },
    MasterLosesAgent {
        agent: usize,
        life: u32,
    },
    ClientGets {
        connection: u64,
        record: Record,
    },
    CallAnswered {
        number: u64,
        failure: Option<String>,
    },
    AgentGets {
        agent: usize,
        life: u32,
        order: Order,
    },
    /// The next step of a run's script.
    TaskSteps {
        agent: usize,
        life: u32,
        wire_id: String,
        steps_left: usize,
    },
    AgentResends {
        agent: usize,
        life: u32,
        wire_id: String,
        uuid: Option<Vec<u8>>,
    },
    AgentJoins {
        agent: usize,
        life: u32,
    },
    /// Its link to the master works again.
    AgentReturns {
        agent: usize,
    },
    Misfortune,
    UserAdds(String),
    UserInterrupts(String),
    UserStops,
}

/// What comes out of the client's end of a stream.
#[derive(Debug)]
pub(crate) enum Record {
    Connected { stream: StreamId },
    Refused { reason: String },
    Event(Box<Event>),
    End { reason: String },
}

/// What the master asks of an agent.
#[derive(Debug)]
pub(crate) enum Order {
    Run { framework: Arc<FrameworkInfo>, task: Box<TaskInfo> },
    Kill { task_id: String, kill_policy: Option<KillPolicy> },
    Acknowledge { task_id: String, uuid: Vec<u8> },
    ShutDown { framework_id: String },
}

/// The client's end of the network, as the launcher's shell is.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Counts subscriptions; what comes from an earlier one is not heard.
    pub(crate) connection: u64,
    pub(crate) stream: Option<StreamId>,
    /// When the last record of the stream arrives: streams keep their order.
    pub(crate) stream_at: Time,
    /// Records of this connection are swallowed without a word.
    pub(crate) is_deaf: bool,
    /// Nothing comes through until then.
    pub(crate) cut_until: Time,
    /// One is under way at a time.
    pub(crate) posted: VecDeque<Posted>,
    pub(crate) is_calling: bool,
    pub(crate) under_way: Option<Box<Call>>,
    pub(crate) calls_made: u64,
}

/// In the order in which the scheduler wants it.
#[derive(Debug)]
pub(crate) enum Posted {
    Call(StreamId, Box<Call>),
    Close(StreamId),
}

/// Everything under way, by time, then in the order in which it was sent.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Entry>,
    sent: u64,
}

#[derive(Debug)]
struct Entry {
    at: Time,
    number: u64,
    what: What,
}

impl Agenda {
    pub(crate) fn push(&mut self, at: Time, what: What) {
        self.sent += 1;
        self.heap.push(Entry { at, number: self.sent, what });
    }

    pub(crate) fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub(crate) fn pop(&mut self) -> Option<What> {
        self.heap.pop().map(|entry| entry.what)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// A message's way.
pub(crate) fn latency(rng: &mut fastrand::Rng, faults: &Faults) -> Duration {
    if rng.f64() < faults.slow {
        Duration::from_millis(rng.u64(20..4_000))
    } else {
        Duration::from_millis(rng.u64(1..20))
    }
}
