//! The targets for libFuzzer's programs.

// Not by the launcher's crate, whose many dependencies would have to be instrumented, too.
#[path = "../../src/tail/files.rs"]
pub mod files;
pub mod targets;

use std::path::Path;

/// Puts the seeds of a target into the corpus directory that FUZZ_CORPUS names, if it does; libFuzzer reads it afterwards.
pub fn write_seeds(name: &str) {
    let Some(directory) = std::env::var_os("FUZZ_CORPUS") else { return };
    let target = targets::TARGETS.iter().find(|target| target.name == name).expect("a target");
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(Path::new(&directory).join(format!("seed-{number}")), seed).expect("the corpus takes the seeds");
    }
}
