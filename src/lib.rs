//! `launch-container`: launches a one-off container on Apache Mesos, streams its output and exits with its code.
//!
//! The map, from the outside in. Arrows are "hands to"; PURE modules know no clock, no network, no files.
//!
//! ```text
//! main -> role -> cli (settings: environment, configuration file) -> Job -> framework <-> scheduler (PURE)      framework: the one select! of the launcher
//!                                  |  `-> master: --master forms -> the leader's address
//!                                  |-> journal: what a run leaves on disk, for whoever continues it
//!                                  |-> tail -> output: sandbox files -> exact bytes on stdout and stderr
//!                                  |-> display: Update stream -> one terminal line, plain lines or json
//!                                  `-> exit: outcome -> exit code
//! runs: ps, attach, logs, wait, kill, inspect: what can be done with a launch that has a journal
//! hash: maps by ids, for scheduler and local
//! stdin: our standard input -> parts (PURE) -> scheduler -> the task's executor
//! cidfile: the engine's id of the container in a file; dry_run: what would be launched
//! credentials: secrets from files, for Job and for local; advice: what to do when a master or agent refuses
//! local: --master=local: master (PURE) + agent + HTTP face, reached over loopback like any other master
//! crate containerizer: what runs on an agent (docker-containerizer, docker-executor)
//! crate proto: what is said on the wire
//! ```

pub(crate) mod advice;
pub mod cidfile;
pub mod cli;
pub mod credentials;
pub mod display;
pub mod dry_run;
pub mod exit;
pub mod framework;
pub(crate) mod hash;
pub mod job;
pub mod journal;
pub mod local;
pub mod master;
pub mod output;
pub mod role;
pub mod runs;
pub mod scheduler;
pub mod settings;
pub mod stdin;
pub mod tail;
pub mod update;
