//! What real masters 1.0.4 and 1.11.0 sent to a framework, through the core: every offer is answered once, and every update
//! that wants it is acknowledged once.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use prost::Message as _;
use proto::mesos::TaskState;
use proto::recordio::Decoder;
use proto::scheduler::{Event, call};

use super::fixture::{Bench, calls, task};
use super::{Effect, Input};
use crate::exit::Outcome;

const OF_1_0_4: &[u8] = include_bytes!("../../tests/fixtures/mesos-1.0.4/scheduler/events.protobuf.recordio");
const OF_1_11_0: &[u8] = include_bytes!("../../tests/fixtures/mesos-1.11.0/scheduler/events.protobuf.recordio");

fn events(recorded: &[u8]) -> Vec<Event> {
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(recorded);
    std::iter::from_fn(|| decoder.next_record().unwrap()).map(|record| Event::decode(record).unwrap()).collect()
}

#[test]
fn recorded_streams_are_answered_as_their_masters_expect() {
    for (version, recorded) in [("1.0.4", OF_1_0_4), ("1.11.0", OF_1_11_0)] {
        let events = events(recorded);
        let ended = events.iter().filter_map(|event| event.update.as_ref()).map(|update| &update.status);
        let ended = ended.filter(|status| matches!(status.state(), TaskState::TaskFinished | TaskState::TaskFailed));
        let name = ended.map(|status| status.task_id.value.clone()).next().unwrap();

        let mut bench = Bench::new();
        bench.input(Input::Add(Box::new(task(&name))));
        bench.input(Input::Tick);
        bench.input(Input::Connected { master: "m:5050".to_owned() });
        let (mut offered, mut wanted) = (BTreeSet::new(), Vec::new());
        let mut effects = Vec::new();
        for event in events {
            offered.extend(event.offers.iter().flat_map(|offers| &offers.offers).map(|offer| offer.id.value.clone()));
            wanted.extend(event.update.iter().filter_map(|update| update.status.uuid.clone()));
            effects.extend(bench.event(event));
        }

        let accepted = calls(&effects, call::Type::Accept).into_iter().filter_map(|call| call.accept);
        let declined = calls(&effects, call::Type::Decline).into_iter().filter_map(|call| call.decline);
        let accepted: Vec<_> = accepted.flat_map(|accept| accept.offer_ids).map(|id| id.value).collect();
        let declined: Vec<_> = declined.flat_map(|decline| decline.offer_ids).map(|id| id.value).collect();
        assert_eq!(accepted.len(), 1, "on {version} the one task is launched once");
        let answered: Vec<String> = accepted.into_iter().chain(declined).collect();
        assert_eq!(answered.len(), offered.len(), "on {version}: {answered:?}");
        assert_eq!(answered.into_iter().collect::<BTreeSet<_>>(), offered, "on {version}");

        let acknowledged = calls(&effects, call::Type::Acknowledge).into_iter().filter_map(|call| call.acknowledge);
        let acknowledged: Vec<_> = acknowledged.map(|acknowledge| acknowledge.uuid).collect();
        assert_eq!(acknowledged, wanted, "on {version}");

        let ends: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Ended { task_id, outcome } => Some((task_id.as_str(), outcome)),
                _ => None,
            })
            .collect();
        assert!(
            matches!(ends.as_slice(), [(id, Outcome::Exited(_) | Outcome::Signaled(_))] if *id == name),
            "on {version}: {ends:?}"
        );
    }
}
