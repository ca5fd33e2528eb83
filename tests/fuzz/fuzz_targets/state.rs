#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzzed::write_seeds("state"), |bytes: &[u8]| fuzzed::targets::state(bytes));
