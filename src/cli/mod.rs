//! The command line of the launcher: `launch-container [OPTIONS] IMAGE [CMD]...`.
//!
//! Spelling and meaning follow `docker run` where it has the same option. Nothing is looked up here (files, environment,
//! users): [`crate::job`] does that. `docs/command-line.md` describes every option; a test compares.

mod access;
mod agent_url;
mod docker;
mod health;
mod output;
pub mod pages;
mod run;
mod usage;
mod values;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use proto::resources::Resources;

use crate::scheduler::Constraint;
use crate::settings::{Given, Settings};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum};

pub use access::AccessOptions;
pub(crate) use agent_url::bracketed;
pub use agent_url::{AgentAddress, AgentUrl};
pub use docker::DockerOptions;
pub use health::Health;
pub use output::OutputOptions;
pub use run::{RUN_VERBS, RunCli, RunVerb, Which};
pub use usage::Stop;
pub(crate) use usage::complaint;
pub(crate) use values::duration as parse_time_span;
pub use values::{Assignment, Cpus, Limit, Megabytes, Mount, Network, Protocol, PublishedPort, Volume};

const CLUSTER: &str = "Cluster";
const ACCESS: &str = "Authentication and TLS";
const RESOURCES: &str = "Resources";
const CONTAINER: &str = "Container";
const LIMITS: &str = "Time limits (plain numbers are seconds; units ms, s, m, h, d as in 1h30m; 0: no limit)";
const RUNS: &str = "Runs and signals (see launch-container ps, attach, logs, wait, kill and inspect)";
const OUTPUT: &str = "Output (of the task; without these its bytes as they are)";
const MESSAGES: &str = "Messages (on stderr)";

/// How the launcher tells what happens, on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people: one line on a terminal that changes, else one line per phase
    #[default]
    Text,
    /// For programs: one JSON object per event
    Json,
}

/// Whose way to run the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Containerizer {
    /// The Docker engine of the agent
    #[default]
    Docker,
    /// The agent's own universal runtime (`--image_providers=docker`)
    Mesos,
}

/// When the agent pulls the image. `never` is not among them: an agent always pulls what it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Pull {
    /// When the agent does not have it
    #[default]
    Missing,
    /// Always
    Always,
}

/// Launches one container on a Mesos cluster, streams its output and exits with its code.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(
    name = "launch-container",
    version,
    override_usage = "launch-container [OPTIONS] IMAGE [CMD]...\n       launch-container local [OPTIONS]\n       \
                      launch-container ps | attach RUN | logs RUN | wait RUN | kill RUN | inspect RUN",
    after_help = after_help(),
    max_term_width = 120,
    args_override_self = true
)]
pub struct Cli {
    /// The master: HOST:PORT, http(s)://HOST:PORT, a comma-separated list of them, zk://HOST:PORT,.../PATH, or
    /// local or local[N] for a cluster of N agents inside this process that lasts as long as the task
    #[arg(long, value_name = "MASTER", env = "MESOS_MASTER", hide_env_values = true, help_heading = CLUSTER)]
    pub master: Option<String>,

    /// Role whose resources are used [default: *]
    #[arg(long, value_name = "ROLE", help_heading = CLUSTER)]
    pub role: Option<String>,

    /// Name of the task [default: from the image]
    #[arg(long, value_name = "NAME", help_heading = CLUSTER)]
    pub name: Option<String>,

    /// Name of the framework [default: launch-container and the task's name]
    #[arg(long, value_name = "NAME", help_heading = CLUSTER)]
    pub framework_name: Option<String>,

    /// Take the task from a file with the JSON of Mesos' TaskInfo, in place of IMAGE, CMD and the options that describe it
    #[arg(long, value_name = "FILE", help_heading = CLUSTER)]
    pub task: Option<PathBuf>,

    /// Take options from this table of the configuration file, too: [profile.NAME]
    #[arg(long, value_name = "NAME", help_heading = CLUSTER)]
    pub profile: Option<String>,

    /// Launch nothing: print the task as JSON on stdout, and on stderr which agents could run it
    #[arg(long, help_heading = CLUSTER)]
    pub dry_run: bool,

    /// Who the launcher is, whom it trusts, and where agents are.
    #[command(flatten)]
    pub access: AccessOptions,

    /// Processors; fractions down to 0.001
    #[arg(long, value_name = "NUMBER", default_value = "1", allow_negative_numbers = true, help_heading = RESOURCES)]
    pub cpus: Cpus,

    /// Memory: a plain number counts MB; with a unit b, k, m or g as in 512m or 1.5g
    #[arg(
        long,
        value_name = "MB",
        default_value = "256",
        value_parser = values::memory,
        allow_negative_numbers = true,
        overrides_with = "memory",
        help_heading = RESOURCES
    )]
    pub mem: Megabytes,

    /// As --mem, with docker run's meaning: a plain number counts bytes
    #[arg(
        short,
        long,
        value_name = "BYTES",
        value_parser = values::docker_memory,
        allow_negative_numbers = true,
        overrides_with = "mem",
        help_heading = RESOURCES
    )]
    pub memory: Option<Megabytes>,

    /// Disk space for the sandbox, written as for --mem [default: none asked for]
    #[arg(long, value_name = "MB", allow_negative_numbers = true, help_heading = RESOURCES)]
    pub disk: Option<Megabytes>,

    /// Number of GPUs
    #[arg(long, value_name = "NUMBER", value_parser = values::gpus, help_heading = RESOURCES)]
    pub gpus: Option<u32>,

    /// Resources as Mesos writes them, such as cpus:2;mem:512;gpus:1; each wins over the option of its own
    #[arg(long, value_name = "RESOURCES", help_heading = RESOURCES)]
    pub resources: Option<Resources>,

    /// Make a port of the container reachable on the agent, where it must be among the offered ports; /udp for UDP
    #[arg(short, long, value_name = "HOSTPORT:PORT[/tcp|udp]", help_heading = RESOURCES)]
    pub publish: Vec<PublishedPort>,

    /// Only agents for which this holds: rack==r1, rack!=r1, 'rack=~r[12]', 'rack in (r1,r2)', 'rack exists', 'cores>=16',
    /// on attributes, hostname, region or zone
    #[arg(long, value_name = "CONSTRAINT", help_heading = RESOURCES)]
    pub constraint: Vec<Constraint>,

    /// Rather agents for which this holds, written as for --constraint
    #[arg(long, value_name = "CONSTRAINT", help_heading = RESOURCES)]
    pub prefer: Vec<Constraint>,

    /// Take resources, too, that the cluster may take back at any time, with the task
    #[arg(long, help_heading = RESOURCES)]
    pub revocable: bool,

    /// Set an environment variable; without =VALUE, take it from the launcher's environment
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = CONTAINER)]
    pub env: Vec<Assignment>,

    /// Read environment variables from a file of NAME=VALUE lines; --env wins
    #[arg(long, value_name = "FILE", help_heading = CONTAINER)]
    pub env_file: Vec<PathBuf>,

    /// Mount a directory or file of the agent
    #[arg(short, long, value_name = "HOST:CONTAINER[:ro|rw]", help_heading = CONTAINER)]
    pub volume: Vec<Volume>,

    /// Mount as docker run writes it: type=bind, type=volume or type=tmpfs, with source, target and readonly
    #[arg(long, value_name = "KEY=VALUE,...", help_heading = CONTAINER)]
    pub mount: Vec<Mount>,

    /// Volumes as mesos-execute takes them: a JSON list of Mesos' Volume, or file:///PATH of one
    #[arg(long, value_name = "JSON", help_heading = CONTAINER)]
    pub volumes: Option<String>,

    /// Network: bridge, host, none or the name of one made with docker network create
    /// [default: bridge, with --containerizer=mesos host]
    #[arg(long, visible_alias = "net", value_name = "NETWORK", help_heading = CONTAINER)]
    pub network: Option<Network>,

    /// Networks to join by name, with commas between: several only with --containerizer=mesos
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', help_heading = CONTAINER)]
    pub networks: Vec<String>,

    /// Host name in the container
    #[arg(long, value_name = "NAME", help_heading = CONTAINER)]
    pub hostname: Option<String>,

    /// Label of the task and of its container
    #[arg(short, long, value_name = "KEY[=VALUE]", help_heading = CONTAINER)]
    pub label: Vec<Assignment>,

    /// File that the agent fetches into the task's sandbox before it runs
    #[arg(long, value_name = "URI", help_heading = CONTAINER)]
    pub uri: Vec<String>,

    /// As --uri, several with commas between
    #[arg(long, value_name = "URI,...", value_delimiter = ',', help_heading = CONTAINER)]
    pub uris: Vec<String>,

    /// User in the container: NAME or UID, and perhaps :GROUP [default: the image's]
    #[arg(short, long, value_name = "USER", help_heading = CONTAINER)]
    pub user: Option<String>,

    /// Working directory in the container [default: the image's]
    #[arg(short, long, value_name = "DIR", help_heading = CONTAINER)]
    pub workdir: Option<String>,

    /// Program to run in place of the image's entrypoint; CMD becomes its arguments
    #[arg(long, value_name = "PROGRAM", help_heading = CONTAINER)]
    pub entrypoint: Option<String>,

    /// Give the container all capabilities and devices of the agent
    #[arg(long, help_heading = CONTAINER)]
    pub privileged: bool,

    /// Pull the image even if the agent has it; the same as --pull=always
    #[arg(long, help_heading = CONTAINER)]
    pub force_pull: bool,

    /// When the agent pulls the image: missing or always
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "missing",
        value_parser = values::pull,
        help_heading = CONTAINER
    )]
    pub pull: Pull,

    /// Whose way to run the image: docker, or mesos for the agent's own runtime
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "NAME",
        default_value = "docker",
        help_heading = CONTAINER
    )]
    pub containerizer: Containerizer,

    /// Run in the agent's own file system, with --containerizer=mesos: every word is of CMD
    #[arg(long, help_heading = CONTAINER)]
    pub no_image: bool,

    /// Write the engine's id of the container to a file that must not be there yet
    #[arg(long, value_name = "FILE", help_heading = CONTAINER)]
    pub cidfile: Option<PathBuf>,

    /// Nothing to ask for: the agent always removes the container
    #[arg(long, help_heading = CONTAINER)]
    pub rm: bool,

    /// What docker run knows beside it, as it is.
    #[command(flatten)]
    pub docker: DockerOptions,

    /// Any other option of docker run, by its long name without dashes: cap-add=NET_ADMIN
    #[arg(long, value_name = "KEY=VALUE", help_heading = CONTAINER)]
    pub docker_param: Vec<Assignment>,

    /// Whether the task is looked after while it runs
    #[command(flatten)]
    pub health: Health,

    /// From the request to end (SIGTERM) until SIGKILL, whenever the task is killed
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        value_parser = values::duration,
        allow_negative_numbers = true,
        help_heading = LIMITS
    )]
    pub kill_grace: Duration,

    /// Kill the task when it has run that long, and exit with 124 [default: no limit]
    #[arg(long, visible_alias = "kill-after", value_name = "TIME", value_parser = values::limit,
          allow_negative_numbers = true, help_heading = LIMITS)]
    pub timeout: Option<Limit>,

    /// Give up, with 124, when no offer fits for that long [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = values::limit, allow_negative_numbers = true,
          help_heading = LIMITS)]
    pub offer_timeout: Option<Limit>,

    /// Give up, with 125, when no master accepts the launcher for that long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::limit, allow_negative_numbers = true,
          help_heading = LIMITS)]
    pub connect_timeout: Limit,

    /// Give up, with 125, when the master was lost for that long [default: 1m more than --failover-timeout]
    #[arg(long, value_name = "TIME", value_parser = values::limit, allow_negative_numbers = true,
          help_heading = LIMITS)]
    pub reconnect_timeout: Option<Limit>,

    /// Leave the task once it runs, and print the run's id
    #[arg(short, long, help_heading = RUNS)]
    pub detach: bool,

    /// Keep the launch in a journal under this id: the same command line then goes on with it, whatever became of the
    /// launcher, and never launches it twice
    #[arg(long, value_name = "ID", help_heading = RUNS)]
    pub run_id: Option<String>,

    /// How long the master keeps the task when the launcher is gone [default: 2m; 7d with --run-id or --detach]
    #[arg(long, value_name = "TIME", value_parser = values::limit, allow_negative_numbers = true, help_heading = RUNS)]
    pub failover_timeout: Option<Limit>,

    /// Give the task the launcher's standard input, where this project's executor runs it
    #[arg(short, long, help_heading = CONTAINER)]
    pub interactive: bool,

    /// Pass SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM and SIGWINCH on to the task, where this project's executor runs it
    #[arg(long, help_heading = RUNS)]
    pub signal_proxy: bool,

    /// Where the task's output goes, and in which shape.
    #[command(flatten)]
    pub output: OutputOptions,

    /// Say nothing but why a launch failed
    #[arg(short, long, help_heading = MESSAGES)]
    pub quiet: bool,

    /// text, or json: one object per event, for programs
    #[arg(long, value_enum, hide_possible_values = true, value_name = "FORMAT", default_value = "text", help_heading = MESSAGES)]
    pub format: Format,

    /// Log what the launcher does; twice for every message to and from the cluster
    #[arg(long, action = ArgAction::Count, help_heading = MESSAGES)]
    pub verbose: u8,

    /// Image as docker run takes it
    #[arg(value_name = "IMAGE", default_value = "", hide_default_value = true, required_unless_present_any = ["task", "no_image"])]
    pub image: String,

    /// One word is a command of the image's shell, several are a program and its arguments, none runs the image's
    /// own; options behind IMAGE belong to it
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    pub cmd: Vec<String>,
}

impl Cli {
    /// Reads the words behind the program's name, without settings.
    ///
    /// # Errors
    /// [`Stop`] with what to print instead of launching: help, version, or what is wrong.
    pub fn parse_words(words: impl IntoIterator<Item = OsString>) -> Result<Self, Stop> {
        Self::parse_with(words, &Settings::none())
    }

    /// Reads the words behind the program's name; what they leave open is taken from the settings.
    ///
    /// # Errors
    /// [`Stop`] with what to print instead of launching: help, version, or what is wrong.
    pub fn parse_with(words: impl IntoIterator<Item = OsString>, settings: &Settings) -> Result<Self, Stop> {
        let (mut matches, _) = Self::matches_with(words, settings, true)?;
        Self::from_arg_matches_mut(&mut matches).map(Self::without_image).map_err(|error| stop(&error))
    }

    /// As clap sees it, and what of it came from the settings.
    pub(crate) fn matches_with(
        words: impl IntoIterator<Item = OsString>,
        settings: &Settings,
        needs_image: bool,
    ) -> Result<(ArgMatches, Vec<Given>), Stop> {
        let mut command = Self::built_command();
        let mut words: Vec<OsString> = words.into_iter().collect();
        if let Some(name) = words::first_unknown(&command, &words)
            && let Some(why) = docker::refusal(&name)
        {
            let dashes = if name.chars().count() == 1 { "-" } else { "--" };
            let message = format!("docker run's {dashes}{name} cannot be had on Mesos: {why}");
            return Err(Stop::usage("launch-container", crate::exit::FAILED, &message));
        }
        words = words::with_options_ended(&command, words);
        if !needs_image && !words.iter().any(|word| word == "--") {
            words.extend(["--".into(), "image".into()]);
        }
        words.insert(0, OsString::from(command.get_name()));
        let matches = command.try_get_matches_from_mut(&words).map_err(|error| stop(&error))?;
        let matches = task_alone(&command, matches).map_err(|error| stop(&error))?;
        let profile = matches.get_one::<String>("profile").map(String::as_str);
        let wrong = |text: String| Stop::usage("launch-container", crate::exit::FAILED, &text);
        let mut given = settings.given(&command, profile).map_err(wrong)?;
        if given.is_empty() {
            return Ok((matches, given));
        }
        let is_with_task = matches.contains_id("task");
        let mut found = Vec::new();
        given.retain(|given| {
            let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(&given.option)) else {
                return false;
            };
            let is_wanted = !(is_with_task && describes_task(arg));
            // What is wrong with it was told above.
            if is_wanted {
                found.extend(given.words(arg).unwrap_or_default());
            }
            // The command line hides it.
            let is_list = matches!(arg.get_action(), ArgAction::Append);
            is_wanted && (is_list || matches.value_source(arg.get_id().as_str()) != Some(ValueSource::CommandLine))
        });
        words.splice(1..1, found);
        let matches = command.try_get_matches_from_mut(words).map_err(|error| stop(&error))?;
        Ok((matches, given))
    }

    /// The definition of the command line.
    pub(crate) fn built_command() -> clap::Command {
        let mut command = Self::command();
        command.build();
        command
    }

    /// With `--no-image` the first operand is of the command.
    fn without_image(mut self) -> Self {
        if self.no_image && !self.image.is_empty() {
            self.cmd.insert(0, std::mem::take(&mut self.image));
        }
        self
    }
}

/// With `--task` the file says what an option would.
fn task_alone(command: &clap::Command, matches: ArgMatches) -> Result<ArgMatches, clap::Error> {
    if !matches.contains_id("task") {
        return Ok(matches);
    }
    let is_given = |arg: &&clap::Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    match command.get_arguments().filter(|arg| describes_task(arg)).find(is_given) {
        None => Ok(matches),
        Some(arg) => {
            let name = arg.get_long().map_or_else(|| arg.get_id().as_str().to_uppercase(), |long| format!("--{long}"));
            let message = format!("{name} is said by the file of --task; change it there");
            Err(clap::Error::raw(ErrorKind::ArgumentConflict, message))
        }
    }
}

/// Whether the option, or IMAGE or CMD, says what the file of `--task` says.
fn describes_task(arg: &clap::Arg) -> bool {
    let is_beside_it =
        matches!(arg.get_id().as_str(), "label" | "cidfile" | "interactive" | "constraint" | "prefer" | "revocable");
    arg.is_positional() || matches!(arg.get_help_heading(), Some(RESOURCES | CONTAINER)) && !is_beside_it
}

fn stop(error: &clap::Error) -> Stop {
    Stop::from_clap("launch-container", crate::exit::FAILED, error)
}

fn after_help() -> String {
    format!(
        "Exit codes:\n{}\n\
         Examples:\n  \
           launch-container --master=local busybox 'echo before; sleep 5; echo after'\n  \
           launch-container --master=m1:5050 --cpus=2 --mem=1g -v /data:/data:ro python:3 python /data/job.py\n\n\
         `launch-container local` keeps a cluster running on this machine for others to use.",
        crate::exit::help_table()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Without the launcher's own MESOS_MASTER, whatever it is where the tests run.
    fn parse(words: &[&str]) -> Cli {
        Cli::parse_words(["--master=m1:5050"].iter().chain(words).map(Into::into)).unwrap()
    }

    #[test]
    fn options_stand_before_the_image_and_what_follows_it_is_the_commands() {
        let cli = parse(&["--cpus", "2", "busybox", "--cpus", "3", "-q", "--", "--help"]);
        assert_eq!(cli.cpus.milli, 2000);
        assert!(!cli.quiet);
        assert_eq!(cli.image, "busybox");
        assert_eq!(cli.cmd, ["--cpus", "3", "-q", "--", "--help"]);
    }

    #[test]
    fn two_dashes_may_stand_before_the_image() {
        let cli = parse(&["-q", "--", "local", "-q"]);
        assert_eq!((cli.quiet, cli.image.as_str(), cli.cmd), (true, "local", vec!["-q".to_owned()]));
    }

    #[test]
    fn an_image_may_be_all_there_is() {
        let cli = parse(&["busybox"]);
        assert_eq!((cli.image.as_str(), cli.cmd.len()), ("busybox", 0));
        assert_eq!((cli.cpus.milli, cli.mem, cli.network), (1000, Megabytes(256), None));
        assert_eq!((cli.kill_grace, cli.connect_timeout.0), (Duration::from_secs(10), Some(Duration::from_secs(30))));
    }

    #[test]
    fn the_last_of_a_repeated_option_wins_and_lists_grow() {
        let cli =
            parse(&["--cpus=1", "--cpus=2", "-e", "A=1", "-eB", "-v/a:/b", "-p", "1:2", "-p", "3:4/udp", "busybox"]);
        assert_eq!(cli.cpus.milli, 2000);
        assert_eq!((cli.env.len(), cli.volume.len(), cli.publish.len()), (2, 1, 2));
    }

    #[test]
    fn every_option_can_be_given_at_once() {
        let cli = parse(&[
            "--name=job",
            "--cpus=0.5",
            "--mem=1g",
            "--disk=10g",
            "-e",
            "A=1",
            "--env-file=f",
            "-v",
            "/a:/b:ro",
            "-p",
            "31080:80",
            "--network=bridge",
            "--user=1000:1000",
            "-w",
            "/srv",
            "--privileged",
            "--entrypoint=/bin/prog",
            "--force-pull",
            "--docker-param=cap-add=NET_ADMIN",
            "--health-cmd=true",
            "--health-interval=1s",
            "--health-timeout=1s",
            "--health-retries=2",
            "--health-start-period=1m",
            "--no-healthcheck",
            "--role=ops",
            "--agent-url=https://{host}:{port}",
            "--principal=ada",
            "--secret-file=s",
            "--agent-principal=bob",
            "--agent-secret-file=t",
            "--cacert=ca.pem",
            "--cert=cert.pem",
            "--key=key.pem",
            "--kill-grace=3",
            "--timeout=1h",
            "--offer-timeout=5m",
            "--connect-timeout=0",
            "--quiet",
            "--format=json",
            "--verbose",
            "--verbose",
            "image",
            "arg",
        ]);
        assert_eq!((cli.mem, cli.disk), (Megabytes(1024), Some(Megabytes(10_240))));
        assert_eq!(cli.timeout, Some(Limit(Some(Duration::from_secs(3600)))));
        assert_eq!(cli.connect_timeout, Limit(None));
        assert_eq!((cli.format, cli.verbose), (Format::Json, 2));
        assert_eq!(cli.docker_param.len(), 1);
    }

    #[test]
    fn with_a_task_file_nothing_else_describes_the_task() {
        let cli = parse(&["--task=t.json", "--label=a=b", "--timeout=5"]);
        assert_eq!((cli.task, cli.image), (Some("t.json".into()), String::new()));
        for words in [&["--task=t.json", "image"][..], &["--task=t.json", "--mem=64"], &["--task=t.json", "--init"]] {
            let text = Cli::parse_words(words.iter().map(Into::into)).unwrap_err().text;
            assert!(text.contains("said by the file of --task") && text.lines().count() == 1, "{text}");
        }
        let text = Cli::parse_words(["--quiet".into()]).unwrap_err().text;
        assert!(text.contains("IMAGE"), "{text}");
    }

    #[test]
    fn the_last_of_mem_and_memory_wins() {
        let memory = |words: &[&str]| {
            let cli = parse(words);
            (cli.mem.0, cli.memory.map(|memory| memory.0))
        };
        assert_eq!(memory(&["--mem=64", "--memory=1g", "image"]).1, Some(1024));
        assert_eq!(memory(&["-m1g", "--mem=64", "image"]), (64, None));
    }

    #[test]
    fn mesos_executes_spellings_are_taken() {
        let cli =
            parse(&["--kill-after=90secs", "--resources=cpus:2;mem:64", "--uris=a,b", "--networks=blue", "image"]);
        assert_eq!(cli.timeout, Some(Limit(Some(Duration::from_secs(90)))));
        assert_eq!((cli.uris.len(), cli.networks.len()), (2, 1));
        assert_eq!(cli.resources.unwrap().to_string(), "cpus:2;mem:64");
    }

    #[test]
    fn debug_of_a_command_line_shows_no_secret() {
        let text = format!("{:?}", parse(&["-e", "TOKEN=hunter2", "--docker-param=env=A=hunter2", "busybox"]));
        assert!(text.contains("TOKEN=...") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn times_of_a_health_check_need_one() {
        for option in ["--health-interval=1s", "--health-timeout=1s", "--health-retries=1", "--health-start-period=1s"]
        {
            let stop = Cli::parse_words([option.into(), "busybox".into()]).unwrap_err();
            assert!(stop.is_error && stop.text.contains("--health-cmd"), "{}", stop.text);
        }
        for option in ["--health-interval=0", "--health-retries=0"] {
            let stop = Cli::parse_words(["--health-cmd=true".into(), option.into(), "busybox".into()]).unwrap_err();
            assert!(stop.is_error, "{option}");
        }
    }

    #[test]
    fn help_and_version_are_answers_on_stdout() {
        for word in ["--help", "-h", "--version", "-V"] {
            let stop = Cli::parse_words([word.into()]).unwrap_err();
            assert_eq!((stop.is_error, stop.code), (false, 0), "{word}");
        }
    }

    #[test]
    fn the_documentation_holds_the_help_as_it_is() {
        let help = Cli::command().term_width(100).render_help().to_string();
        let documentation = include_str!("../../docs/command-line.md");
        let documented = documentation.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        assert!(documented == help, "docs/command-line.md must hold this:\n{help}");
    }

    #[test]
    fn the_documentation_explains_every_option() {
        let documentation = include_str!("../../docs/command-line.md");
        let explained = documentation.split("## Options").nth(1).unwrap();
        let mut command = Cli::command();
        command.build();
        let options = command.get_arguments().filter_map(|arg| arg.get_long());
        let missing: Vec<_> = options.filter(|long| !explained.contains(&format!("`--{long}"))).collect();
        assert!(missing.is_empty(), "docs/command-line.md does not explain {missing:?}");
    }
}
