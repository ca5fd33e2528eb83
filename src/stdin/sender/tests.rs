//! The sender against a receiver that keeps its promises, over a network that keeps none, under virtual time.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const WINDOW: u64 = 1 << 20;

fn s(seconds: u64) -> Time {
    Duration::from_secs(seconds)
}

fn told(received: u64, limit: u64, state: StdinState) -> Input {
    Input::Told(StdinProgress { received, limit, state })
}

fn flowing() -> Sender {
    let mut sender = Sender::new();
    let hello = Part { offset: 0, bytes: Vec::new(), is_last: false };
    assert_eq!(sender.handle(s(0), true, Input::Running), [hello]);
    assert!(!sender.wants_bytes(), "nothing is read before somebody is there to take it");
    assert_eq!(sender.handle(s(0), true, told(0, WINDOW, StdinState::Open)), []);
    assert!(sender.wants_bytes());
    sender
}

#[test]
fn small_parts_go_at_once_and_then_together() {
    let mut sender = flowing();
    let part = |offset, bytes: &[u8], is_last| Part { offset, bytes: bytes.to_vec(), is_last };
    assert_eq!(sender.handle(s(0), true, Input::Bytes(b"a".to_vec())), [part(0, b"a", false)]);
    assert_eq!(sender.handle(s(0), true, Input::Bytes(b"b".to_vec())), []);
    assert_eq!(sender.handle(s(0), true, Input::Bytes(b"c".to_vec())), []);
    assert_eq!(sender.handle(s(0), true, told(1, WINDOW, StdinState::Open)), [part(1, b"bc", false)]);
    assert_eq!(sender.handle(s(0), true, Input::End), [part(3, b"", true)]);
    assert_eq!(sender.handle(s(0), true, told(4, WINDOW, StdinState::Open)), []);
    assert_eq!(sender.over(), None, "the container has not got it yet");
    sender.handle(s(0), true, told(4, WINDOW + 3, StdinState::Complete));
    assert_eq!((sender.over(), sender.next_timeout()), (Some(Over::Complete), None));
}

#[test]
fn an_executor_that_never_answers_is_given_up_but_not_while_it_cannot_be_asked() {
    let mut sender = Sender::new();
    assert_eq!(sender.next_timeout(), None);
    sender.handle(s(0), false, Input::Running);
    let mut now = s(0);
    let mut tick = |sender: &mut Sender, is_reachable| {
        now = now.max(sender.next_timeout().unwrap());
        sender.handle(now, is_reachable, Input::Tick).len()
    };
    for _ in 0..100 {
        assert_eq!(tick(&mut sender, false), 0);
    }
    let asked: Vec<usize> = (0..5).map(|_| tick(&mut sender, true)).collect();
    assert_eq!((asked, sender.over()), (vec![1; 5], None));
    assert_eq!((tick(&mut sender, true), sender.over()), (0, Some(Over::Silent)));
}

#[test]
fn a_container_that_takes_nothing_is_asked_now_and_then_and_holds_the_reading_up() {
    let mut sender = flowing();
    let mut sent = 0;
    while sender.wants_bytes() {
        sent += sender
            .handle(s(1), true, Input::Bytes(vec![0; 100_000]))
            .iter()
            .map(|part| part.bytes.len())
            .sum::<usize>();
    }
    assert!(sent as u64 <= WINDOW && sender.buffer.len() < BUFFER + 100_000, "{sent}");
    sender.handle(s(1), true, told(WINDOW, WINDOW, StdinState::Open));
    let mut now = s(1);
    for _ in 0..10 {
        now = sender.next_timeout().unwrap();
        let question = Part { offset: WINDOW, bytes: Vec::new(), is_last: false };
        assert_eq!(sender.handle(now, true, Input::Tick), [question]);
    }
    assert!(now > s(30), "{now:?}");
    let parts = sender.handle(now, true, told(WINDOW, WINDOW + 5, StdinState::Open));
    assert_eq!(parts.iter().map(|part| (part.offset, part.bytes.len())).collect::<Vec<_>>(), [(WINDOW, 5)]);
}

#[test]
fn a_task_that_closes_its_input_and_one_whose_input_is_lost_end_it() {
    for (state, over) in [(StdinState::Closed, Over::Closed), (StdinState::Lost, Over::Lost)] {
        let mut sender = flowing();
        sender.handle(s(0), true, Input::Bytes(vec![0; 10]));
        assert_eq!(sender.handle(s(0), true, told(0, WINDOW, state)), []);
        assert_eq!((sender.over(), sender.wants_bytes(), sender.next_timeout()), (Some(over), false, None));
    }
}

/// The other end, as simple as can be: what is not next is dropped.
#[derive(Default)]
struct Receiver {
    got: Vec<u8>,
    is_ended: bool,
    taken: u64,
}

impl Receiver {
    fn receive(&mut self, part: &Part) {
        let next = self.got.len() as u64;
        let end = part.offset + part.bytes.len() as u64;
        assert!(end <= self.limit(), "beyond the window");
        if part.offset <= next && end >= next && !self.is_ended {
            self.got.extend_from_slice(&part.bytes[usize::try_from(next - part.offset).unwrap()..]);
            self.is_ended = part.is_last;
        }
    }

    fn limit(&self) -> u64 {
        self.taken + 300_000
    }

    fn progress(&self) -> StdinProgress {
        let is_complete = self.is_ended && self.taken == self.got.len() as u64;
        StdinProgress {
            received: self.got.len() as u64 + u64::from(self.is_ended),
            limit: self.limit(),
            state: if is_complete { StdinState::Complete } else { StdinState::Open },
        }
    }
}

enum Mail {
    Part(Part),
    Told(StdinProgress),
    Taken,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A third of all messages is lost, a tenth doubled, and each takes its own time.
    #[test]
    fn every_byte_arrives_once_and_in_order(seed: u64, length in 0usize..1_500_000, read in 1usize..200_000) {
        let mut chance = fastrand::Rng::with_seed(seed);
        let data: Vec<u8> = (0..length).map(|_| chance.u8(..)).collect();
        let (mut sender, mut receiver) = (Sender::new(), Receiver::default());
        let mut mail: BTreeMap<(Time, u64), Mail> = BTreeMap::new();
        let (mut now, mut number, mut offset, mut is_read) = (Time::ZERO, 0, 0, false);
        let mut input = Some(Input::Running);
        for step in 0.. {
            prop_assert!(step < 100_000, "it does not come to an end");
            prop_assert!(sender.buffer.len() <= BUFFER + read);
            let is_reachable = chance.u8(..) < 230;
            let next = match input.take() {
                Some(input) => input,
                None if sender.wants_bytes() && !is_read => {
                    let end = (offset + read).min(length);
                    let bytes = data[offset..end].to_vec();
                    is_read = offset == end;
                    offset = end;
                    if is_read { Input::End } else { Input::Bytes(bytes) }
                }
                None => {
                    let due = mail.first_key_value().map(|((at, _), _)| *at);
                    let Some(at) = [due, sender.next_timeout()].into_iter().flatten().min() else { break };
                    now = now.max(at);
                    match mail.first_entry().filter(|entry| entry.key().0 <= now).map(|entry| entry.remove()) {
                        Some(Mail::Told(progress)) => Input::Told(progress),
                        Some(Mail::Part(part)) => {
                            receiver.receive(&part);
                            number += 1;
                            mail.insert((now + Duration::from_millis(chance.u64(0..50)), number), Mail::Taken);
                            if chance.u8(..) < 170 {
                                number += 1;
                                let at = now + Duration::from_millis(chance.u64(0..100));
                                mail.insert((at, number), Mail::Told(receiver.progress()));
                            }
                            continue;
                        }
                        Some(Mail::Taken) => {
                            receiver.taken = receiver.got.len() as u64;
                            continue;
                        }
                        None => Input::Tick,
                    }
                }
            };
            for part in sender.handle(now, is_reachable, next) {
                let copies = match chance.u8(..) { 0..80 => 0, 80..110 => 2, _ => 1 };
                for _ in 0..copies {
                    number += 1;
                    mail.insert((now + Duration::from_millis(chance.u64(0..100)), number), Mail::Part(part.clone()));
                }
            }
            if sender.over() == Some(Over::Silent) {
                // Five questions may all get lost.
                return Ok(());
            }
        }
        prop_assert_eq!(sender.over(), Some(Over::Complete));
        prop_assert!(receiver.got == data);
    }
}

/// A container that reads nothing costs ever fewer messages, although each is answered.
#[test]
fn answers_without_news_do_not_hasten_the_next_question() {
    let mut sender = Sender::new();
    let told = |received| Input::Told(StdinProgress { received, limit: 4, state: StdinState::Open });
    sender.handle(Time::ZERO, true, Input::Running);
    sender.handle(Time::ZERO, true, told(0));
    sender.handle(Time::ZERO, true, Input::Bytes(b"abcdefgh".to_vec()));
    sender.handle(Time::ZERO, true, told(4));
    let mut pauses = Vec::new();
    let mut now = Time::ZERO;
    for _ in 0..4 {
        let at = sender.next_timeout().unwrap();
        pauses.push((at - now).as_secs());
        now = at;
        sender.handle(now, true, Input::Tick);
        sender.handle(now, true, told(4));
    }
    assert_eq!(pauses, [1, 2, 4, 5]);
}
