#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzzed::write_seeds("options"), |bytes: &[u8]| fuzzed::targets::options(bytes));
