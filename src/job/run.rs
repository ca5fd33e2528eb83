//! What of a job goes into a journal, and the job that comes out of one.

use std::fmt::Write as _;
use std::time::Duration;

use prost::Message;
use proto::mesos::{Environment, TaskId, TaskInfo};
use sha2::{Digest, Sha256};

use super::{Access, Job, JobError, Messages};
use crate::cli::{Cli, Megabytes, Which};
use crate::journal::{Begin, RunId, RunIdError, VERSION};
use crate::master;
use crate::scheduler;

/// How long the master keeps the framework of a run whose launcher is gone, unless the user says otherwise.
pub(super) const RUN_FAILOVER_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 3600);

/// A launch that is kept in a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// `--run-id`, or the task's id.
    pub id: RunId,
    /// `--detach`
    pub is_detached: bool,
}

/// Whether the launch is to be kept in a journal.
pub(super) fn is_wanted(cli: &Cli) -> bool {
    cli.run_id.is_some() || cli.detach
}

/// The run that the command line asks for; its id is the task's.
pub(super) fn of(cli: &Cli, info: &mut TaskInfo) -> Result<Option<Run>, JobError> {
    if !is_wanted(cli) {
        return Ok(None);
    }
    if cli.interactive {
        return Err(JobError::InteractiveRun(if cli.detach { "--detach" } else { "--run-id" }));
    }
    if cli.master.as_deref().is_some_and(|master| master == "local" || master.starts_with("local[")) {
        return Err(JobError::LocalRun(if cli.detach { "--detach" } else { "--run-id" }));
    }
    let id = cli.run_id.clone().unwrap_or_else(|| info.task_id.value.clone());
    let id: RunId = id.parse().map_err(|error: RunIdError| JobError::Invalid {
        option: "--run-id",
        value: id.clone(),
        why: error.to_string(),
    })?;
    id.as_str().clone_into(&mut info.task_id.value);
    Ok(Some(Run { id, is_detached: cli.detach }))
}

impl Job {
    /// The beginning of the journal, if there is to be one.
    pub fn begin(&self) -> Option<Begin> {
        let run = self.run.as_ref()?;
        let address = master::without_credentials(&self.master);
        Some(Begin {
            version: VERSION,
            run: run.id.clone(),
            name: self.name.clone(),
            image: self.image.clone(),
            has_credentials: address != self.master,
            master: address,
            framework: Begin::encode_framework(&self.framework),
            digest: digest(&self.task.info),
            kill_grace_ms: milliseconds(self.task.kill_grace),
            run_timeout_ms: self.task.run_timeout.map(milliseconds),
            constraints: self.task.terms.constraints.iter().map(ToString::to_string).collect(),
            preferences: self.task.terms.preferences.iter().map(ToString::to_string).collect(),
            takes_revocable: self.task.terms.takes_revocable,
        })
    }

    /// A job to go on with a run that somebody else has begun. What `which` says of the master goes before the journal.
    ///
    /// # Errors
    /// The journal's address is not enough, or the journal holds no framework.
    pub fn resumed(begin: &Begin, which: &Which) -> Result<Self, JobError> {
        let master = match &which.master {
            Some(master) => master.clone(),
            None if begin.has_credentials => return Err(JobError::MasterNeeded(begin.master.clone())),
            None => begin.master.clone(),
        };
        let framework = begin.decode_framework().ok_or(JobError::NoFramework)?;
        let failover_timeout = Duration::try_from_secs_f64(framework.failover_timeout()).unwrap_or_default();
        let reconnect_timeout = super::reconnect_timeout(which.reconnect_timeout, failover_timeout);
        let task_id = TaskId { value: begin.run.to_string() };
        let info = TaskInfo { name: begin.name.clone(), task_id, ..TaskInfo::default() };
        let task = scheduler::Task {
            info,
            kill_grace: Duration::from_millis(begin.kill_grace_ms),
            run_timeout: begin.run_timeout_ms.map(Duration::from_millis),
            offer_timeout: None,
            terms: terms(begin)?,
        };
        Ok(Self {
            name: begin.name.clone(),
            image: begin.image.clone(),
            memory: Megabytes(0),
            cidfile: None,
            is_dry_run: false,
            is_signal_proxy: which.signal_proxy,
            is_interactive: false,
            task,
            framework,
            access: Access::new(&which.access)?,
            master,
            connect_timeout: which.connect_timeout.0,
            reconnect_timeout,
            output: which.output.clone(),
            messages: Messages { format: which.format, is_quiet: which.quiet, verbosity: which.verbose },
            run: Some(Run { id: begin.run.clone(), is_detached: false }),
        })
    }
}

/// Where the task may run, as its first launcher was told.
fn terms(begin: &Begin) -> Result<scheduler::Terms, JobError> {
    let constraints = |texts: &[String]| {
        let parsed = texts.iter().map(|text| text.parse().map_err(|_| JobError::JournalConstraint(text.clone())));
        parsed.collect::<Result<Vec<scheduler::Constraint>, _>>()
    };
    Ok(scheduler::Terms {
        constraints: constraints(&begin.constraints)?,
        preferences: constraints(&begin.preferences)?,
        takes_revocable: begin.takes_revocable,
    })
}

/// Of what the task is. Labels tell of the launcher, ids of the run; the values of the environment may be secrets, and may
/// change from one time to the next (a token): all these may differ.
fn digest(info: &TaskInfo) -> String {
    let mut info = TaskInfo { labels: None, task_id: TaskId::default(), ..info.clone() };
    if let Some(command) = &mut info.command
        && let Some(Environment { variables }) = &mut command.environment
    {
        variables.iter_mut().for_each(|variable| variable.value = None);
    }
    let hash = Sha256::digest(info.encode_to_vec());
    hash.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use clap::Parser;

    use super::super::tests::job;
    use super::*;
    use crate::cli::{RunCli, RunVerb};

    fn resumed(begin: &Begin) -> Result<Job, JobError> {
        let cli = RunCli::try_parse_from(["launch-container", "attach", "r"]).unwrap();
        let RunVerb::Attach(which) = cli.verb else { panic!("{cli:?}") };
        Job::resumed(begin, &which)
    }

    #[test]
    fn a_run_goes_on_with_the_constraints_that_it_was_begun_with() {
        let words = [
            "--run-id=r",
            "--constraint=rack in (r1, r2)",
            "--constraint=cores>=4",
            "--prefer=ssd exists",
            "--revocable",
        ];
        let first = job(&[&words[..], &["busybox"]].concat()).unwrap();
        let begin = first.begin().unwrap();
        let line = serde_json::to_string(&begin).unwrap();
        let again = resumed(&serde_json::from_str(&line).unwrap()).unwrap();
        assert_eq!((again.task.terms.constraints.len(), again.task.terms.preferences.len()), (2, 1));
        assert_eq!(again.task.terms, first.task.terms);
        let older = job(&["--run-id=r", "busybox"]).unwrap().begin().unwrap();
        assert!(!serde_json::to_string(&older).unwrap().contains("constraints"));
        let newer = Begin { constraints: vec!["rack".to_owned()], ..begin };
        assert!(resumed(&newer).unwrap_err().to_string().contains("\"rack\""));
    }
}
