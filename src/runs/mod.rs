//! The words about runs, each in a file of its own: what `launch-container ps`, `attach`, `logs`, `wait`, `kill` and `inspect` do.
//!
//! `attach`, `wait` and `kill` own the run while they are at it: whoever owns it already goes on undisturbed, since a second
//! subscription would cut it off. `ps`, `inspect` and `logs` only look.

mod inspect;
mod logs;
mod own;
mod ps;

use std::time::SystemTime;

use crate::cli::{RunCli, RunVerb, Which};
use crate::display::{Display, Stderr};
use crate::exit::Outcome;
use crate::framework::Purpose;
use crate::job::{Job, JobError};
use crate::journal::{Begin, Journal, JournalError, Runs};
use crate::output::Sink;

/// Does what the command line says; gives the exit code, or what is wrong.
///
/// # Errors
/// One line for a person.
pub async fn run(cli: RunCli, stderr: Sink) -> Result<u8, String> {
    let runs = Runs::of_user().map_err(|error| error.to_string())?;
    match cli.verb {
        RunVerb::Ps { format } => ps::ps(&runs, format, std::io::stdout()).map(|()| 0),
        RunVerb::Inspect { run } => inspect::inspect(&runs, &run, std::io::stdout()).map(|()| 0),
        RunVerb::Logs(which) => logs::logs(&runs, which, stderr).await,
        RunVerb::Attach(which) => own::own(&runs, which, Purpose::Follow, stderr).await.map(code),
        RunVerb::Wait(which) => own::own(&runs, which, Purpose::Wait, stderr).await.map(code),
        RunVerb::Kill(which) => own::kill(&runs, which, stderr).await,
    }
}

/// How much to log.
pub fn verbosity(cli: &RunCli) -> u8 {
    match &cli.verb {
        RunVerb::Ps { .. } | RunVerb::Inspect { .. } => 0,
        RunVerb::Attach(which) | RunVerb::Logs(which) | RunVerb::Wait(which) | RunVerb::Kill(which) => which.verbose,
    }
}

fn code(outcome: Outcome) -> u8 {
    crate::exit::code(&outcome)
}

/// The job of a run, and the display of what happens to it.
fn job(begin: &Begin, which: &Which, stderr: &Sink) -> Result<(Job, Display), JobError> {
    let job = Job::resumed(begin, which)?;
    let display = Display::new(&job, Stderr::of_process(stderr.voice()), SystemTime::now());
    Ok((job, display))
}

/// Milliseconds since 1970 as people write them, in UTC.
fn time(since_1970: std::time::Duration) -> String {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since_1970).to_string()
}

fn text(error: JournalError) -> String {
    error.to_string()
}

/// What a run is doing, as far as the journal knows.
fn state(past: &crate::journal::Past) -> String {
    if let Some((_, outcome)) = past.end() {
        return match outcome {
            Outcome::Exited(code) => format!("exited {code}"),
            Outcome::Signaled(signal) => format!("signal {signal}"),
            Outcome::TimedOut(_) => "timed out".to_owned(),
            Outcome::Failed(_) => "failed".to_owned(),
            Outcome::Interrupted(_) => "interrupted".to_owned(),
            Outcome::Detached => "detached".to_owned(),
        };
    }
    if past.is_waiting() {
        return "waiting".to_owned();
    }
    match past.status() {
        None => "launching".to_owned(),
        Some(status) => status.state().as_str_name().trim_start_matches("TASK_").to_ascii_lowercase(),
    }
}

/// Whoever has the run at this moment, in the words of `ps`.
fn owner(runs: &Runs, past: &crate::journal::Past) -> Result<Option<i32>, JournalError> {
    Ok(Journal::holder(runs, &past.begin.run)?.map(|holder| holder.pid.unwrap_or_default()))
}
