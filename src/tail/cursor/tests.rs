//! Bytes that are delivered once, in order, whatever the agent answers.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;

fn read(offset: u64, data: &[u8]) -> files::Read {
    files::Read { data: Bytes::copy_from_slice(data), offset }
}

/// A cursor that has read `offset` bytes of a file and knows of `size`.
fn cursor(offset: u64, size: u64) -> Cursor {
    Cursor { offset, size: Some(size), ..Cursor::at(0) }
}

fn sized(cursor: &mut Cursor, size: u64) -> Option<Shrank> {
    cursor.sized(Some(size), cursor.place())
}

fn answered(cursor: &mut Cursor, offset: u64, data: &[u8]) -> Answer {
    cursor.answered(cursor.place(), read(offset, data))
}

#[test]
fn nothing_is_asked_before_a_listing_shows_bytes() {
    let mut cursor = Cursor::at(0);
    assert_eq!(cursor.want(), Want::More);
    cursor.sized(None, cursor.place());
    assert_eq!((cursor.want(), cursor.missing()), (Want::More, None));
    sized(&mut cursor, 0);
    assert_eq!((cursor.want(), cursor.missing()), (Want::More, Some(0)));
    sized(&mut cursor, 1);
    assert_eq!((cursor.want(), cursor.missing()), (Want::Read(cursor.place()), Some(1)));
}

#[test]
fn offset_moves_by_the_bytes_received() {
    let mut cursor = cursor(5, 20);
    assert_eq!(answered(&mut cursor, 5, b"abc"), Answer::Data("abc".into()));
    assert_eq!(cursor.want(), Want::Read(Place { offset: 8, generation: 0 }));
}

#[test]
fn full_answer_is_followed_by_another_read_without_a_listing() {
    let mut cursor = cursor(0, READ_BYTES);
    answered(&mut cursor, 0, &vec![0; READ_BYTES as usize]);
    assert_eq!(cursor.want(), Want::Read(cursor.place()));
    answered(&mut cursor, READ_BYTES, b"rest");
    assert_eq!(cursor.want(), Want::More);
}

#[test]
fn end_of_file_is_understood_from_old_and_new_agents() {
    let mut old = cursor(5, 7);
    assert_eq!(answered(&mut old, 5, b""), Answer::Dry, "Mesos up to 1.0: the size, which is the offset");
    assert_eq!(old.want(), Want::More);
    let mut new = cursor(5, 7);
    assert_eq!(answered(&mut new, 5, b""), Answer::Dry, "from 1.1: the offset that was asked for");
    assert_eq!(new.want(), Want::More);
}

#[test]
fn shrunken_file_is_seen_in_a_listing_and_in_the_answer_of_an_old_agent() {
    let mut listed = cursor(10, 10);
    assert_eq!(sized(&mut listed, 4), Some(Shrank { from: 10, to: 4 }));
    assert_eq!(listed.want(), Want::Read(Place { offset: 0, generation: 1 }));
    let mut answered_short = cursor(10, 12);
    assert_eq!(answered(&mut answered_short, 4, b""), Answer::Shrank(Shrank { from: 10, to: 4 }));
    assert_eq!(answered_short.want(), Want::Read(Place { offset: 0, generation: 1 }));
}

#[test]
fn listing_from_before_a_read_is_no_truncation() {
    let mut cursor = cursor(0, 10);
    let asked_at = cursor.place();
    answered(&mut cursor, 0, b"more than ten bytes");
    assert_eq!(cursor.sized(Some(10), asked_at), None);
    assert_eq!(cursor.want(), Want::More);
}

#[test]
fn answers_from_before_a_truncation_are_dropped() {
    let mut cursor = cursor(10, 20);
    let before = cursor.place();
    sized(&mut cursor, 4);
    assert_eq!(cursor.answered(before, read(10, b"old")), Answer::Stale);
    assert_eq!(cursor.sized(Some(2), before), None);
    assert_eq!(cursor.downloaded(before, &mut 0, "old".into()), None);
    assert_eq!(cursor.place().offset, 0);
}

#[test]
fn answer_that_begins_elsewhere_is_refused() {
    let mut cursor = cursor(5, 20);
    assert_eq!(answered(&mut cursor, 4, b"abc"), Answer::Misplaced);
    assert_eq!(cursor.place().offset, 5);
}

#[test]
fn download_is_used_for_a_large_backlog_near_the_beginning_only() {
    const MIB: u64 = 1 << 20;
    assert!(matches!(cursor(0, MIB - 1).want(), Want::Read(_)));
    assert!(matches!(cursor(0, MIB).want(), Want::Download(_)));
    assert!(matches!(cursor(4 * MIB, 5 * MIB).want(), Want::Download(_)));
    assert!(matches!(cursor(5 * MIB, 6 * MIB).want(), Want::Read(_)));
    assert!(matches!(cursor(5 * MIB, u64::MAX).want(), Want::Download(_)));
}

#[test]
fn download_is_skipped_up_to_the_offset() {
    let mut cursor = cursor(4, 3 << 20);
    let (asked_at, mut position) = (cursor.place(), 0);
    let mut chunk = |text: &'static str| cursor.downloaded(asked_at, &mut position, text.into());
    assert_eq!(chunk("012"), Some("".into()));
    assert_eq!(chunk("345"), Some("45".into()));
    assert_eq!(chunk("67"), Some("67".into()));
    assert_eq!(cursor.place().offset, 8);
}

#[test]
fn download_that_brings_nothing_is_followed_by_reads_until_something_came() {
    let mut cursor = cursor(0, 9 << 20);
    cursor.download_ended(cursor.place());
    assert!(matches!(cursor.want(), Want::Read(_)));
    answered(&mut cursor, 0, b"x");
    assert!(matches!(cursor.want(), Want::Download(_)));
}

#[test]
fn agent_without_downloads_is_only_read() {
    let mut cursor = cursor(0, 9 << 20);
    cursor.download_refused();
    answered(&mut cursor, 0, b"x");
    assert!(matches!(cursor.want(), Want::Read(_)));
    sized(&mut cursor, 0);
    sized(&mut cursor, 9 << 20);
    assert!(matches!(cursor.want(), Want::Read(_)));
}

#[test]
fn recorded_size_is_read_to_the_byte_without_any_listing() {
    let mut cursor = Cursor::at(0);
    cursor.ended(Some(3));
    assert!(!cursor.is_open());
    assert_eq!((cursor.want(), cursor.missing()), (Want::Read(cursor.place()), Some(3)));
    answered(&mut cursor, 0, b"abc");
    assert_eq!((cursor.want(), cursor.missing()), (Want::Done, Some(0)));
}

#[test]
fn empty_file_needs_no_request() {
    let mut cursor = Cursor::at(0);
    cursor.ended(Some(0));
    assert_eq!(cursor.want(), Want::Done);
}

#[test]
fn recorded_size_that_is_too_small_is_not_believed() {
    let mut cursor = cursor(0, 4);
    cursor.ended(Some(3));
    assert!(cursor.is_open());
}

#[test]
fn promised_bytes_that_do_not_come_are_waited_for_and_then_counted() {
    let mut cursor = Cursor::at(0);
    cursor.ended(Some(5));
    answered(&mut cursor, 0, b"abc");
    for _ in 0..2 {
        answered(&mut cursor, 3, b"");
        assert_eq!(cursor.want(), Want::Settle(cursor.place()));
    }
    answered(&mut cursor, 3, b"");
    assert_eq!((cursor.want(), cursor.missing()), (Want::Done, Some(2)));
}

#[test]
fn promised_bytes_that_come_late_are_taken() {
    let mut cursor = Cursor::at(0);
    cursor.ended(Some(5));
    answered(&mut cursor, 0, b"");
    answered(&mut cursor, 0, b"abc");
    assert_eq!(cursor.want(), Want::Read(cursor.place()));
    answered(&mut cursor, 3, b"de");
    assert_eq!(cursor.want(), Want::Done);
}

#[test]
fn file_of_unknown_end_is_done_at_the_last_listing() {
    let mut cursor = cursor(0, 2);
    cursor.ended(None);
    assert!(cursor.is_open());
    answered(&mut cursor, 0, b"ab");
    sized(&mut cursor, 3);
    cursor.close();
    assert!(matches!(cursor.want(), Want::Read(_)));
    answered(&mut cursor, 2, b"c");
    assert_eq!((cursor.want(), cursor.missing()), (Want::Done, Some(0)));
}

#[test]
fn file_that_never_was_is_done_at_the_end() {
    let mut cursor = Cursor::at(0);
    cursor.ended(None);
    cursor.close();
    assert_eq!((cursor.want(), cursor.missing()), (Want::Done, Some(0)));
}

#[test]
fn discarded_bytes_are_counted_and_not_asked_for() {
    let mut cursor = cursor(2, 10);
    assert_eq!(cursor.discard(), 8);
    assert_eq!(cursor.want(), Want::More);
    cursor.ended(Some(12));
    assert_eq!(cursor.discard(), 2);
    assert_eq!(cursor.want(), Want::Done);
}

/// What the world does between two requests.
#[derive(Debug, Clone)]
enum Step {
    Grow(usize),
    List,
    /// Serves what the cursor wants, cutting the answer to a share of it.
    Serve(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        prop_oneof![0..2000_usize, 0..3_000_000_usize].prop_map(Step::Grow),
        Just(Step::List),
        any::<prop::sample::Index>().prop_map(Step::Serve),
    ];
    prop::collection::vec(step, 0..60)
}

/// Noise, of which every file is a prefix: a shifted or repeated piece shows.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut noise = vec![0; 16 << 20];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        noise
    })
}

/// Serves what the cursor wants from a file; `share` of the answer arrives. Returns what was received.
fn serve(cursor: &mut Cursor, file: &'static [u8], share: Option<prop::sample::Index>) -> Vec<Bytes> {
    let cut = |length: usize| share.map_or(length, |share| share.index(length + 1));
    match cursor.want() {
        Want::More | Want::Done => vec![],
        Want::Read(place) | Want::Settle(place) => {
            let from = (place.offset as usize).min(file.len());
            let upto = file.len().min(from + READ_BYTES as usize);
            let data = Bytes::from_static(&file[from..from + cut(upto - from)]);
            match cursor.answered(place, files::Read { data, offset: place.offset }) {
                Answer::Data(data) => vec![data],
                _ => vec![],
            }
        }
        Want::Download(place) => {
            let (mut position, mut received) = (0, Vec::new());
            for chunk in file[..cut(file.len())].chunks(100_000) {
                received.push(cursor.downloaded(place, &mut position, Bytes::from_static(chunk)).unwrap());
            }
            cursor.download_ended(place);
            received
        }
    }
}

proptest! {
    #[test]
    fn whatever_breaks_every_byte_arrives_once_and_in_order(steps in steps(), is_recorded: bool) {
        let (mut file, mut received) = (&noise()[..0], 0);
        let mut receive = |pieces: Vec<Bytes>| {
            for piece in pieces {
                assert!(piece == noise()[received..received + piece.len()], "after {received} bytes");
                received += piece.len();
            }
            received
        };
        let mut cursor = Cursor::at(0);
        let mut asked_at = cursor.place();
        for step in steps {
            match step {
                Step::Grow(count) => file = &noise()[..noise().len().min(file.len() + count)],
                Step::List => {
                    // The answer to a question that was asked before the last steps.
                    prop_assert_eq!(cursor.sized(Some(file.len() as u64), asked_at), None);
                    asked_at = cursor.place();
                }
                Step::Serve(share) => { receive(serve(&mut cursor, file, Some(share))); },
            }
        }
        cursor.ended(is_recorded.then_some(file.len() as u64));
        if cursor.is_open() {
            cursor.sized(Some(file.len() as u64), cursor.place());
            cursor.close();
        }
        while cursor.want() != Want::Done {
            receive(serve(&mut cursor, file, None));
        }
        prop_assert_eq!(cursor.missing(), Some(0));
        prop_assert_eq!(receive(vec![]), file.len());
    }
}
