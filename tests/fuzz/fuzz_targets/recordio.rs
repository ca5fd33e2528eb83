#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzzed::write_seeds("recordio"), |bytes: &[u8]| fuzzed::targets::recordio(bytes));
