//! What must be on disk before the call that follows it is sent, so that another scheduler can go on where this one was
//! killed (`restore`). What is not recorded is asked of the master again, or happens again.

use proto::mesos::{Offer, TaskStatus};
use serde::{Deserialize, Serialize};

use super::{Effect, Scheduler};
use crate::exit::Outcome;

/// One thing to remember.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The master accepted the framework.
    Subscribed {
        /// As the master gave it.
        framework_id: String,
        /// Which master process that was; masters say it from 1.1.
        master_id: Option<String>,
    },
    /// The ACCEPT that launches the task will be sent.
    Launching {
        /// The task id given in `Add`.
        task_id: String,
        /// The id on the wire.
        wire_id: String,
        /// The accepted offer (resources removed): which agent, and where it serves the sandbox.
        #[serde(with = "message")]
        offer: Box<Offer>,
    },
    /// A status update that is news and will be acknowledged.
    Status {
        /// Whole.
        #[serde(with = "message")]
        status: Box<TaskStatus>,
    },
    /// The launch is known to have come to nothing; the task waits for another offer.
    GivenUp {
        /// The id on the wire.
        wire_id: String,
    },
    /// KILL will be sent.
    Killing {
        /// The task id given in `Add`.
        task_id: String,
        /// Interrupted by this signal; none: the run timeout passed.
        signal: Option<u8>,
        /// From SIGTERM to SIGKILL.
        grace_ms: u64,
    },
    /// The task is over.
    Over {
        /// The task id given in `Add`.
        task_id: String,
        /// How.
        outcome: Outcome,
    },
    /// The master has taken the framework down: its id is good for nothing any more.
    TornDown,
}

impl Scheduler {
    pub(super) fn record(&self, effects: &mut Vec<Effect>, record: impl FnOnce() -> Record) {
        if self.config.is_recorded {
            effects.push(Effect::Record(record()));
        }
    }
}

/// A message as base64 of its protobuf encoding: unknown fields and odd bytes survive.
mod message {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use prost::Message;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::borrowed_box, reason = "serde gives the field as it is")]
    pub(super) fn serialize<M: Message, S: Serializer>(message: &Box<M>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(message.encode_to_vec()))
    }

    pub(super) fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(from: D) -> Result<Box<M>, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        M::decode(&*bytes).map(Box::new).map_err(D::Error::custom)
    }
}
