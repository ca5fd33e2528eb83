#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzzed::write_seeds("verbs"), |bytes: &[u8]| fuzzed::targets::verbs(bytes));
