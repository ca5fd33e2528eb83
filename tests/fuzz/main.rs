//! The bounded part of fuzzing: mutated seeds for every target, the same ones in each run. `scripts/fuzz` searches further.

mod mutate;
mod targets;

use std::panic::AssertUnwindSafe;

use launch_container::tail::files;
use mutate::Mutator;
use targets::TARGETS;

/// A few seconds for all targets in a debug build. FUZZ_ROUNDS in the environment asks for more.
const ROUNDS: u64 = 20_000;

fn fuzz(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let rounds = std::env::var("FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let mut mutator = Mutator::new(seeds.clone());
    let inputs = seeds.into_iter().chain((0..rounds).map(|_| mutator.next_input()));
    for (round, input) in inputs.enumerate() {
        if std::panic::catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            panic!("{name}, round {round}: {}", input.escape_ascii());
        }
    }
}

#[test]
fn a_frame_of_any_bytes_is_read_or_refused() {
    fuzz("framing");
}

#[test]
fn a_verbs_message_of_any_bytes_becomes_our_container_or_an_error() {
    fuzz("verbs");
}

#[test]
fn options_of_any_text_become_our_container_or_an_error() {
    fuzz("options");
}

#[test]
fn a_state_file_of_any_bytes_is_read_or_refused() {
    fuzz("state");
}

#[test]
fn an_environment_of_any_text_is_read_or_refused() {
    fuzz("environment");
}

#[test]
fn an_event_stream_of_any_bytes_has_the_same_records_in_any_pieces() {
    fuzz("recordio");
}

#[test]
fn an_agents_answer_of_any_bytes_is_read_or_refused() {
    fuzz("files");
}

#[test]
fn every_target_has_its_program_and_a_broken_promise_is_noticed() {
    let programs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/fuzz_targets");
    for target in &TARGETS {
        let text = std::fs::read_to_string(programs.join(target.name).with_extension("rs")).unwrap_or_default();
        assert!(text.contains("fuzz_target!"), "tests/fuzz/fuzz_targets/{}.rs is missing", target.name);
    }
    // A record longer than the decoder's limit must never be given out.
    let mut decoder = proto::recordio::Decoder::new(1);
    decoder.push(b"2\nab");
    assert!(decoder.next_record().is_err());
}
