#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzzed::write_seeds("environment"), |bytes: &[u8]| fuzzed::targets::environment(bytes));
