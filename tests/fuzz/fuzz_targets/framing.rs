#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzzed::write_seeds("framing"), |bytes: &[u8]| fuzzed::targets::framing(bytes));
