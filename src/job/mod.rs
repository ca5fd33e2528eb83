//! What is to be launched: the command line with everything looked up, checked, and put into Mesos' words.
//!
//! After this no file, environment variable or user name is read for the launch any more. How each option travels (most as
//! options of the stock docker executor, so that any agent understands them) is decided here and nowhere else.

mod access;
mod container;
mod environment;
mod health;
mod run;
mod task;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use proto::mesos;
use proto::mesos::framework_info::capability;
use proto::resources::Resources;
use thiserror::Error;
use uuid::Uuid;

use crate::cli::{Cli, Format, Limit, Megabytes, OutputOptions};
use crate::scheduler;

pub use access::Access;
pub use environment::EnvironmentError;
pub use run::Run;

/// How long the master keeps a framework and its tasks whose launcher is gone or cut off: a blip, a new leader or a restarted
/// master is survived; a killed launcher leaves its task no longer than this.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(120);

/// One task to launch, and how.
#[derive(Clone)]
pub struct Job {
    /// `--name`, or the image's last component.
    pub name: String,
    /// As given; empty without one.
    pub image: String,
    /// What the task asks for.
    pub memory: Megabytes,
    /// `--cidfile`
    pub cidfile: Option<PathBuf>,
    /// `--dry-run`
    pub is_dry_run: bool,
    /// `--signal-proxy`
    pub is_signal_proxy: bool,
    /// `--interactive`: the task gets our standard input.
    pub is_interactive: bool,
    /// The task; its resources are the need.
    pub task: scheduler::Task,
    /// What to subscribe with; no id and no capabilities yet: those depend on the master's version.
    pub framework: mesos::FrameworkInfo,
    /// `--master` as given; may hold credentials.
    pub master: String,
    /// Who the launcher is to masters and agents, and where the latter are.
    pub access: Access,
    /// How long to try for a master; `None`: for ever.
    pub connect_timeout: Option<Duration>,
    /// How long to look for a master that was lost; `None`: for ever.
    pub reconnect_timeout: Option<Duration>,
    /// Where the task's output goes, and in which shape.
    pub output: OutputOptions,
    /// How to tell what happens.
    pub messages: Messages,
    /// `--run-id`, `--detach`: the launch is kept in a journal.
    pub run: Option<Run>,
}

/// How to tell what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Messages {
    /// `--format`.
    pub format: Format,
    /// `--quiet`.
    pub is_quiet: bool,
    /// `--verbose`, counted.
    pub verbosity: u8,
}

/// What is wrong with a command line that clap can read.
#[derive(Debug, Error)]
pub enum JobError {
    /// Neither `--master` nor `MESOS_MASTER`.
    #[error(
        "no master is given; use --master=HOST:PORT, set MESOS_MASTER, or use --master=local to run on this machine"
    )]
    NoMaster,
    /// Any option with a value that only shows wrong when looked at as a whole.
    #[error("invalid value '{value}' for {option}: {why}")]
    Invalid {
        /// `--name`
        option: &'static str,
        /// As given; never a secret.
        value: String,
        /// Why, and what is accepted.
        why: String,
    },
    /// A file that an option names; nothing of its content is told.
    #[error("invalid value for {option}: {why}")]
    File {
        /// `--secret-file`
        option: &'static str,
        /// Which file, what is wrong with it, and what to do.
        why: String,
    },
    /// `--docker-param` without a proper key or value; the value stays unsaid.
    #[error("invalid --docker-param '{key}': {why}")]
    DockerParam {
        /// Before the `=`.
        key: String,
        /// Why, and what is accepted.
        why: &'static str,
    },
    /// An option of the Docker engine with `--containerizer=mesos`.
    #[error("{option} is not possible with --containerizer=mesos: {way}")]
    EngineOnly {
        /// `--privileged`
        option: String,
        /// What to do instead.
        way: String,
    },
    /// A run to go on with whose master's address has a password.
    #[error("the journal does not hold the password of the master {0}; give the whole address with --master")]
    MasterNeeded(String),
    /// A journal without a framework that can be read.
    #[error("the journal does not say which framework the run belongs to")]
    NoFramework,
    /// A journal with a constraint that cannot be read.
    #[error("the journal has the constraint {0:?}, which this launcher does not understand: use the one that wrote it")]
    JournalConstraint(String),
    /// `--run-id` or `--detach` on the embedded cluster.
    #[error(
        "{0} is not possible with --master=local: that cluster ends with the launcher; keep one running with \
         `launch-container local` and use its address"
    )]
    LocalRun(&'static str),
    /// `--interactive` with a run.
    #[error(
        "--interactive is not possible with {0}: standard input ends with the launcher, and nobody else can go on with it; leave \
         one of them out"
    )]
    InteractiveRun(&'static str),
    /// `--env` or `--env-file`.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
}

/// What a job takes from the machine it is made on.
struct Surroundings<'a> {
    /// An environment variable.
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
    user: String,
    hostname: String,
    /// 8 hexadecimal digits that make the task id unique.
    suffix: String,
}

impl Job {
    /// Looks up what `cli` refers to on this machine, and checks it.
    ///
    /// # Errors
    /// [`JobError`] for the first thing that is wrong.
    pub fn new(cli: Cli) -> Result<Self, JobError> {
        let suffix = Uuid::new_v4().simple().to_string();
        Self::in_surroundings(
            cli,
            &Surroundings {
                lookup: &|name| std::env::var_os(name),
                user: current_user(),
                hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
                suffix: suffix[..8].to_owned(),
            },
        )
    }

    fn in_surroundings(cli: Cli, surroundings: &Surroundings<'_>) -> Result<Self, JobError> {
        let master = cli.master.clone().filter(|master| !master.trim().is_empty()).ok_or(JobError::NoMaster)?;
        let name = task::name(&cli)?;
        let mut info = task::info(&cli, &name, surroundings)?;
        let run = run::of(&cli, &mut info)?;
        let task = scheduler::Task {
            info,
            kill_grace: cli.kill_grace,
            run_timeout: cli.timeout.and_then(|limit| limit.0),
            offer_timeout: cli.offer_timeout.and_then(|limit| limit.0),
            terms: scheduler::Terms {
                constraints: cli.constraint.clone(),
                preferences: cli.prefer.clone(),
                takes_revocable: cli.revocable,
            },
        };
        let access = Access::new(&cli.access)?;
        let reconnect_timeout = reconnect_timeout(cli.reconnect_timeout, failover_timeout(&cli));
        let framework =
            mesos::FrameworkInfo { principal: access.principal(&cli.access), ..framework(&cli, &name, surroundings)? };
        Ok(Self {
            framework,
            access,
            run,
            name,
            memory: memory(&task.info),
            image: if cli.task.is_some() { image(&task.info) } else { cli.image },
            cidfile: cli.cidfile,
            is_dry_run: cli.dry_run,
            is_signal_proxy: cli.signal_proxy,
            is_interactive: cli.interactive,
            task,
            master,
            connect_timeout: cli.connect_timeout.0,
            reconnect_timeout,
            output: cli.output,
            messages: Messages { format: cli.format, is_quiet: cli.quiet, verbosity: cli.verbose },
        })
    }

    /// What the framework must say to be offered what the task needs.
    pub fn capabilities(&self) -> Vec<capability::Type> {
        let needs_gpus = self.task.info.resources.iter().any(|resource| resource.name == "gpus");
        let takes_revocable = self.task.terms.takes_revocable;
        let gpus = needs_gpus.then_some(capability::Type::GpuResources);
        gpus.into_iter().chain(takes_revocable.then_some(capability::Type::RevocableResources)).collect()
    }

    /// The id of the task, as given to the scheduler.
    pub fn task_id(&self) -> &str {
        &self.task.info.task_id.value
    }
}

impl fmt::Debug for Job {
    /// Leaves out the task and the master's address: they hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("name", &self.name)
            .field("image", &self.image)
            .field("task_id", &self.task_id())
            .finish_non_exhaustive()
    }
}

fn memory(info: &mesos::TaskInfo) -> Megabytes {
    let milli = Resources::from(info.resources.as_slice()).scalar("mem").milli();
    Megabytes(u64::try_from(milli / 1000).unwrap_or_default())
}

/// The image of a task that came from a file.
fn image(info: &mesos::TaskInfo) -> String {
    let container = info.container.as_ref().or_else(|| info.executor.as_ref()?.container.as_ref());
    let docker = container.and_then(|container| container.docker.as_ref()).map(|docker| docker.image.clone());
    let of_mesos = || Some(container?.mesos.as_ref()?.image.as_ref()?.docker.as_ref()?.name.clone());
    docker.or_else(of_mesos).unwrap_or_default()
}

/// How long the master waits for a launcher that is gone.
fn failover_timeout(cli: &Cli) -> Duration {
    match cli.failover_timeout {
        Some(limit) => limit.0.unwrap_or_default(),
        None if run::is_wanted(cli) => run::RUN_FAILOVER_TIMEOUT,
        None => FAILOVER_TIMEOUT,
    }
}

/// How long a launcher looks for the master that it has lost.
fn reconnect_timeout(given: Option<Limit>, failover_timeout: Duration) -> Option<Duration> {
    given.map_or_else(|| Some(scheduler::usual_reconnect_timeout(failover_timeout)), |limit| limit.0)
}

fn framework(cli: &Cli, name: &str, surroundings: &Surroundings<'_>) -> Result<mesos::FrameworkInfo, JobError> {
    if let Some(role) = &cli.role {
        check_role(role)?;
    }
    Ok(mesos::FrameworkInfo {
        user: surroundings.user.clone(),
        name: cli.framework_name.clone().unwrap_or_else(|| format!("launch-container {name}")),
        failover_timeout: Some(failover_timeout(cli).as_secs_f64()),
        // A task outlives the restart of its agent.
        checkpoint: Some(true),
        role: cli.role.clone(),
        hostname: Some(surroundings.hostname.clone()),
        ..Default::default()
    })
}

/// Mesos 1.0 and later refuse the framework for these; older masters take them and never offer anything.
fn check_role(role: &str) -> Result<(), JobError> {
    let is_part_wrong = |part: &str| part.is_empty() || part == "." || part == ".." || part.starts_with('-');
    if role.split('/').any(is_part_wrong) || role.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(JobError::Invalid {
            option: "--role",
            value: role.to_owned(),
            why: "a role is a word without blanks that does not begin with '-', or several joined by '/'".to_owned(),
        });
    }
    Ok(())
}

/// The name of the user that runs the launcher; agents start the executor as this user when they switch users at all.
fn current_user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    user_in_passwd(&passwd, uid)
        .or_else(|| {
            ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        })
        .unwrap_or_else(|| uid.to_string())
}

fn user_in_passwd(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The job for these words behind `--master=m1:5050`, on a machine where only HOME is set.
    pub(super) fn job(words: &[&str]) -> Result<Job, JobError> {
        let cli = Cli::parse_words(["--master=m1:5050"].iter().chain(words).map(Into::into)).unwrap();
        let lookup = |name: &str| (name == "HOME").then(|| OsString::from("/home/ada"));
        Job::in_surroundings(
            cli,
            &Surroundings {
                lookup: &lookup,
                user: "ada".to_owned(),
                hostname: "desk".to_owned(),
                suffix: "0a1b2c3d".to_owned(),
            },
        )
    }

    #[test]
    fn the_framework_is_the_users_and_survives_a_blip() {
        let framework = job(&["--role=ops/batch", "busybox"]).unwrap().framework;
        assert_eq!((framework.user.as_str(), framework.hostname.as_deref()), ("ada", Some("desk")));
        assert_eq!(framework.name, "launch-container busybox");
        assert_eq!(framework.role.as_deref(), Some("ops/batch"));
        assert_eq!(framework.failover_timeout, Some(120.0));
        assert!(framework.id.is_none() && framework.capabilities.is_empty());
        assert_eq!(job(&["busybox"]).unwrap().framework.role, None);
    }

    #[test]
    fn limits_of_time_reach_the_scheduler_and_zero_is_none() {
        let job_with = job(&["--timeout=90", "--offer-timeout=5m", "--kill-grace=0", "busybox"]).unwrap();
        assert_eq!(job_with.task.run_timeout, Some(Duration::from_secs(90)));
        assert_eq!(job_with.task.offer_timeout, Some(Duration::from_secs(300)));
        assert_eq!(job_with.task.kill_grace, Duration::ZERO);
        let job_without = job(&["--timeout=0", "--connect-timeout=0", "busybox"]).unwrap();
        assert_eq!((job_without.task.run_timeout, job_without.connect_timeout), (None, None));
        assert_eq!(job_without.task.offer_timeout, None);
        let seconds = |words: &[&str]| {
            let job = job(&[words, &["busybox"]].concat()).unwrap();
            job.reconnect_timeout.map(|timeout| timeout.as_secs())
        };
        assert_eq!(seconds(&[]), Some(180), "as long as the task is kept, and a minute");
        assert_eq!(seconds(&["--failover-timeout=5"]), Some(65));
        assert_eq!(seconds(&["--failover-timeout=5", "--reconnect-timeout=3"]), Some(3));
        assert_eq!(seconds(&["--reconnect-timeout=0"]), None);
    }

    #[test]
    fn a_launch_without_a_master_says_how_to_name_one() {
        let cli =
            Cli { master: Some(" ".to_owned()), ..Cli::parse_words(["--master=x".into(), "busybox".into()]).unwrap() };
        let error = Job::new(cli).unwrap_err().to_string();
        assert!(error.contains("MESOS_MASTER") && error.contains("--master=local"), "{error}");
    }

    #[test]
    fn roles_that_a_master_would_refuse_are_refused_here() {
        for role in ["", ".", "..", "-x", "a b", "a//b", "a/..", "a\tb"] {
            let error = job(&[&format!("--role={role}"), "busybox"]).unwrap_err().to_string();
            assert!(error.contains("--role"), "{role}: {error}");
        }
        for role in ["*", "ops", "ops/batch", "a-b_c"] {
            assert!(job(&[&format!("--role={role}"), "busybox"]).is_ok(), "{role}");
        }
    }

    #[test]
    fn a_jobs_debug_text_has_no_secret() {
        let text = format!("{:?}", job(&["-e", "TOKEN=hunter2", "busybox"]).unwrap());
        assert!(text.contains("busybox-0a1b2c3d") && !text.contains("hunter2") && !text.contains("m1"), "{text}");
    }

    #[test]
    fn two_jobs_never_share_a_task_id() {
        let cli = Cli::parse_words(["--master=x".into(), "busybox".into()]).unwrap();
        let ids = [Job::new(cli.clone()).unwrap(), Job::new(cli).unwrap()].map(|job| job.task_id().to_owned());
        assert_ne!(ids[0], ids[1]);
        assert!(ids.iter().all(|id| id.len() == "busybox-".len() + 8), "{ids:?}");
    }

    #[test]
    fn a_user_is_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nada:x:1000:1000:Ada:/home/ada:/bin/sh\n";
        assert_eq!(user_in_passwd(passwd, 1000).as_deref(), Some("ada"));
        assert_eq!(user_in_passwd(passwd, 0).as_deref(), Some("root"));
        assert_eq!(user_in_passwd(passwd, 1), None);
    }
}
