//! The targets for libFuzzer's programs.

// Not by the launcher's crate, whose many dependencies would have to be instrumented, too.
#[path = "../../src/tail/files.rs"]
pub mod files;
pub mod targets;
