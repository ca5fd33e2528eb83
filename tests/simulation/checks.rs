//! What must hold in every story.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use launch_container::exit::Outcome;
use launch_container::scheduler::{Effect, Record, Time};
use launch_container::update::Update;
use proto::scheduler::call;

use crate::agent::Ending;

/// How long the scheduler may keep an offer.
const HOLD_LIMIT: Duration = Duration::from_secs(1);

/// What really became of a task.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Runs that began on an agent.
    pub(crate) started: u32,
    /// Of these, those that an agent took with it when it was shut down, so that they cannot have come to their end.
    pub(crate) shut_down: u32,
    pub(crate) completed: Vec<Ending>,
    /// The agents that it was placed on.
    pub(crate) agents: Vec<String>,
    pub(crate) is_interrupted: bool,
    pub(crate) has_timeout: bool,
    pub(crate) outcome: Option<Outcome>,
}

#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) truths: BTreeMap<String, Truth>,
    /// Since when the scheduler holds which offers.
    held: BTreeMap<String, Time>,
    /// What was placed there may have ended in any way, and nobody can know.
    pub(crate) lost_agents: BTreeSet<String>,
    pub(crate) is_stopped: bool,
    pub(crate) is_finished: bool,
    /// Updates of agents that came with this input, until they are acknowledged.
    unacknowledged: Vec<Vec<u8>>,
    /// Launches that are on disk, by their id on the wire.
    recorded_launches: BTreeSet<String>,
    recorded_statuses: BTreeSet<Vec<u8>>,
}

impl Checks {
    pub(crate) fn truth(&mut self, task_id: &str) -> &mut Truth {
        self.truths.get_mut(task_id).unwrap()
    }

    pub(crate) fn are_all_over(&self) -> bool {
        self.truths.values().all(|truth| truth.outcome.is_some())
    }

    pub(crate) fn offered(&mut self, now: Time, offer_id: &str) {
        self.held.insert(offer_id.to_owned(), now);
    }

    pub(crate) fn disconnected(&mut self) {
        self.held.clear();
    }

    /// An update with a uuid goes in: it must be acknowledged with the effects of this very input.
    pub(crate) fn updated(&mut self, uuid: Vec<u8>) {
        self.unacknowledged.push(uuid);
    }

    pub(crate) fn effects(&mut self, now: Time, effects: &[Effect]) {
        assert!(!self.is_finished || effects.is_empty(), "something follows Finish: {effects:?}");
        for (at, effect) in effects.iter().enumerate() {
            match effect {
                Effect::Call(call) => match call.r#type() {
                    call::Type::Accept | call::Type::Decline => {
                        let accepted = call.accept.iter().flat_map(|accept| &accept.offer_ids);
                        let declined = call.decline.iter().flat_map(|decline| &decline.offer_ids);
                        for id in accepted.chain(declined) {
                            self.held.remove(&id.value);
                        }
                        let operations = call.accept.iter().flat_map(|accept| &accept.operations);
                        for info in operations.flat_map(|operation| &operation.launch.as_ref().unwrap().task_infos) {
                            let wire_id = &info.task_id.value;
                            assert!(self.recorded_launches.contains(wire_id), "{wire_id} is launched without a record");
                        }
                    }
                    call::Type::Acknowledge => {
                        let uuid = &call.acknowledge.as_ref().unwrap().uuid;
                        self.unacknowledged.retain(|other| other != uuid);
                        let is_reported_later = effects[at..]
                            .iter()
                            .any(|later| matches!(later, Effect::Status(status) if status.uuid.as_ref() == Some(uuid)));
                        assert!(!is_reported_later, "an update is acknowledged before it is reported");
                    }
                    _ => {}
                },
                Effect::Ended { task_id, outcome } => self.ended(task_id, outcome),
                Effect::Update(Update::Ended { .. }) => panic!("Update::Ended is the shell's to send"),
                Effect::Disconnect => self.disconnected(),
                Effect::Finish => self.is_finished = true,
                Effect::Placed { task_id, offer, .. } => {
                    self.truth(task_id).agents.push(offer.agent_id.value.clone());
                }
                Effect::Status(status) => {
                    let is_recorded = status.uuid.as_ref().is_none_or(|uuid| self.recorded_statuses.contains(uuid));
                    assert!(is_recorded, "an update is told that is not on disk");
                }
                Effect::Record(Record::Launching { wire_id, .. }) => {
                    assert!(self.recorded_launches.insert(wire_id.clone()), "{wire_id} is launched twice");
                }
                Effect::Record(Record::Status { status }) => {
                    self.recorded_statuses.extend(status.uuid.clone());
                }
                Effect::Subscribe(_)
                | Effect::Update(_)
                | Effect::Record(_)
                | Effect::OutputAgain { .. }
                | Effect::Stdin { .. } => {}
            }
        }
        for (offer, since) in &self.held {
            assert!(now - *since < HOLD_LIMIT, "offer {offer} is held since {since:?}");
        }
    }

    /// An input was handled to its end.
    pub(crate) fn acknowledged(&self) {
        assert!(self.unacknowledged.is_empty(), "an update is not acknowledged");
    }

    pub(crate) fn can_be_killed(&self) -> bool {
        !self.is_stopped
    }

    pub(crate) fn killed(&mut self) {
        self.held.clear();
        self.unacknowledged.clear();
    }

    /// What another launcher knows at its start is what the one before has told.
    pub(crate) fn restored(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Ended { task_id, outcome } => match &self.truth(task_id).outcome {
                    Some(told) => assert_eq!(told, outcome, "task {task_id} has ended otherwise"),
                    // It was on disk, and nobody had been told yet.
                    None => self.ended(task_id, outcome),
                },
                Effect::Placed { wire_task_id, offer, .. } => {
                    assert!(self.recorded_launches.contains(wire_task_id));
                    let task_id = wire_task_id.split('.').next().unwrap();
                    self.truth(task_id).agents.push(offer.agent_id.value.clone());
                }
                Effect::Status(_) => {}
                other => panic!("a restored scheduler begins with {other:?}"),
            }
        }
    }

    fn ended(&mut self, task_id: &str, outcome: &Outcome) {
        let truth = self.truths.get_mut(task_id).unwrap();
        assert_eq!(truth.outcome, None, "task {task_id} ends twice");
        truth.outcome = Some(outcome.clone());
        match outcome {
            Outcome::Exited(code) => {
                assert_eq!(truth.completed, [Ending::Code(*code)], "task {task_id} ends with {outcome:?}");
            }
            Outcome::Signaled(signal) => {
                assert_eq!(truth.completed, [Ending::Signal(*signal)], "task {task_id} ends with {outcome:?}");
            }
            Outcome::Detached => panic!("nobody detaches here"),
            Outcome::Interrupted(_) => assert!(truth.is_interrupted, "nobody interrupted task {task_id}"),
            Outcome::TimedOut(_) => assert!(truth.has_timeout, "task {task_id} has no timeout: {outcome:?}"),
            Outcome::Failed(why) => {
                let is_excused = truth.agents.iter().any(|agent| self.lost_agents.contains(agent));
                assert!(is_excused || self.is_stopped, "task {task_id} fails without a reason: {why}");
            }
        }
    }

    /// At any time.
    pub(crate) fn runs(&self) {
        for (task_id, truth) in &self.truths {
            assert!(truth.completed.len() <= 1, "task {task_id} completed {} times", truth.completed.len());
            let alive = truth.started - truth.shut_down;
            assert!(alive <= 1, "task {task_id} was started {} times", truth.started);
        }
    }
}
