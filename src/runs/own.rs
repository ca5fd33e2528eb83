//! `launch-container attach`, `wait` and `kill`: what has to own the run.

use rustix::process::{Pid, Signal, kill_process};

use super::{job, text};
use crate::cli::Which;
use crate::exit::{self, Outcome};
use crate::framework::{self, Owned, Purpose};
use crate::journal::{Holder, Journal, JournalError, RunId, Runs};
use crate::output::Sink;

/// Takes the run and does with it what is wanted. While somebody else has it, `attach` says who that is, `wait` waits for their
/// end, and `kill` asks them to end it.
pub(super) async fn own(runs: &Runs, which: Which, purpose: Purpose, stderr: Sink) -> Result<Outcome, String> {
    let run = runs.find(&which.run).map_err(text)?;
    loop {
        let (journal, past) = match Journal::take(runs, &run) {
            Ok(taken) => taken,
            Err(JournalError::Held { .. }) if purpose == Purpose::Wait => {
                wait_until_free(runs, &run).await?;
                continue;
            }
            Err(JournalError::Held { holder, .. }) if purpose == Purpose::Kill => {
                ask_to_end(&run, &holder)?;
                wait_until_free(runs, &run).await?;
                continue;
            }
            Err(error) => return Err(error.to_string()),
        };
        if past.end().is_none() && past.is_waiting() {
            return Err(format!(
                "run {run} was never launched; repeat the command line that it was begun with, with --run-id={run}"
            ));
        }
        let (job, display) = job(&past.begin, &which, &stderr).map_err(|error| error.to_string())?;
        return Ok(framework::run_owned(job, Owned::resumed(journal, past, purpose), display, stderr).await);
    }
}

/// Ends the run. Not how the task has ended is the question then, but whether it has.
pub(super) async fn kill(runs: &Runs, which: Which, stderr: Sink) -> Result<u8, String> {
    let run = runs.find(&which.run).map_err(text)?;
    let outcome = own(runs, which, Purpose::Kill, stderr).await?;
    let has_ended = Journal::read(runs, &run).map_err(text)?.end().is_some();
    Ok(if has_ended { 0 } else { exit::code(&outcome) })
}

async fn wait_until_free(runs: &Runs, run: &RunId) -> Result<(), String> {
    let (runs, run) = (runs.clone(), run.clone());
    let waited = tokio::task::spawn_blocking(move || Journal::wait_until_free(&runs, &run)).await;
    waited.map_err(|error| format!("cannot wait for another launcher: {error}"))?.map_err(text)
}

/// The owner ends its task with grace when it is asked to end; it is alive, or it would not hold the lock.
fn ask_to_end(run: &RunId, holder: &Holder) -> Result<(), String> {
    let here = rustix::system::uname();
    let is_here = holder.host.as_deref() == Some(&*here.nodename().to_string_lossy());
    let pid = holder.pid.filter(|_| is_here).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| format!("run {run} is in the hands of {holder}; end it there"))?;
    kill_process(pid, Signal::TERM).map_err(|errno| format!("cannot ask {holder} to end run {run}: {errno}"))
}
