//! `launch-container logs RUN`: the output that there is, from its beginning. The run stays with whoever has it, and what was
//! delivered of it does not count.

use proto::http::Client;
use tokio::sync::{mpsc, watch};

use super::text;
use crate::cli::Which;
use crate::exit;
use crate::framework::{location, origin};
use crate::job::Access;
use crate::journal::{Journal, Runs};
use crate::master::chain;
use crate::output::{Sink, manners};
use crate::tail::{self, FileTailed, Outputs, Phase};

pub(super) async fn logs(runs: &Runs, which: Which, stderr: Sink) -> Result<u8, String> {
    let run = runs.find(&which.run).map_err(text)?;
    let past = Journal::read(runs, &run).map_err(text)?;
    let Some((task_id, offer)) = past.placement() else {
        return Err(format!("run {run} was never launched, so it has no output"));
    };
    let record = past.end().and_then(|_| past.task_record());
    let (stdout_bytes, stderr_bytes) = record.map_or((None, None), |record| (record.stdout_bytes, record.stderr_bytes));
    let no_sink = |error| format!("cannot write the output of run {run}: {error}");
    let stdout = Sink::stdout().map_err(no_sink)?;
    let [of_stdout, of_stderr] = manners(&which.output, &past.begin.name)?;
    stdout.adopt(of_stdout);
    stderr.adopt(of_stderr);
    let outputs = Outputs {
        stdout,
        stderr,
        reports: mpsc::unbounded_channel().0,
        wants_pull_progress: false,
        from: [0, 0],
        cut: (!which.output.raw).then(|| origin(task_id, offer)),
    };
    let access = Access::new(&which.access).map_err(|error| error.to_string())?;
    let client = Client::new(access.to_agents()).map_err(|error| chain(&error))?;
    let master = which.master.as_ref().unwrap_or(&past.begin.master);
    let location = location(task_id, offer, &access, master.starts_with("https://"));
    // What is there now is all that is wanted, as if the task had ended.
    let (_phase, phases) = watch::channel(Phase::Ended { stdout_bytes, stderr_bytes });
    let tailed = tail::follow(client, location, outputs, phases).await;
    let lost = |name: &str, file: &FileTailed| {
        file.lost.as_ref().map(|lost| format!("cannot read all of the {name} of run {run}: {}", lost.why))
    };
    match lost("stdout", &tailed.stdout).or_else(|| lost("stderr", &tailed.stderr)) {
        Some(error) => Err(error),
        None => Ok(exit::code(&exit::Outcome::Exited(0))),
    }
}
