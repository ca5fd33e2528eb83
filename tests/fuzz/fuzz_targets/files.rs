#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzzed::write_seeds("files"), |bytes: &[u8]| fuzzed::targets::agent_files(bytes));
