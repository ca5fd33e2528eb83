//! Which of its three programs this executable is: `argv[0]` or the first word says so, and both spellings give the same value.
//!
//! ```text
//! docker-containerizer VERB      or  launch-container docker-containerizer VERB      on a Mesos slave, started by it
//! docker-containerizer doctor ...                                                    the same by a person: see operator.rs
//! docker-executor ...            or  launch-container docker-executor ...            (also as mesos-docker-executor)
//! launch-container local ...                                                         an embedded cluster in the foreground
//! launch-container ps|attach|logs|wait|kill|inspect ...                               a launch that is kept in a journal
//! launch-container config | completions SHELL | man                                  answers on stdout
//! launch-container ...                                                               everything else: launch a task
//! ```
//!
//! An image with the name of a role is written with its registry or behind `--`.

pub mod operator;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};

use crate::cli::{Cli, RUN_VERBS, RunCli, Stop, pages, parse_time_span};
use crate::exit;
use proto::mesos::Attribute;

use crate::settings::{self, Settings};

/// The verbs of the external containerizer protocol.
pub const VERBS: [&str; 7] = ["launch", "update", "usage", "wait", "destroy", "containers", "recover"];

/// What to be, with everything the command line says about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Role {
    /// Launch one task.
    Launch(Box<Cli>),
    /// Keep an embedded cluster in the foreground.
    Local(LocalCli),
    /// See to a launch that is kept in a journal.
    Run(Box<RunCli>),
    /// One verb of the external containerizer, one of [`VERBS`]; the rest comes on stdin.
    Containerizer(&'static str),
    /// What a person asks the containerizer.
    Operator(operator::Question),
    /// The executor, with its arguments as they are: which ones there are depends on the agent's version.
    Executor(Vec<OsString>),
}

/// Runs a small Mesos master and its agents in this process until interrupted, for launchers and other frameworks.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "launch-container local", version, max_term_width = 120, args_override_self = true)]
pub struct LocalCli {
    /// Port of the master on 127.0.0.1; 0 takes a free one. The address is printed on stdout
    #[arg(long, value_name = "PORT", default_value = "5050")]
    pub port: u16,

    /// Number of agents
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub agents: u32,

    /// What each agent offers, such as 'cpus:4;mem:8192;disk:10240;ports:[31000-32000]' [default: all this host has]
    #[arg(long, value_name = "RESOURCES")]
    pub resources: Option<String>,

    /// Attributes of the agents, such as 'rack:r1;cores:16'; given again, those of the next agent
    #[arg(long, value_name = "ATTRIBUTES", value_parser = attributes)]
    pub attributes: Vec<Attributes>,

    /// Whom the cluster lets in; with --secret-file [default: every user of this machine]
    #[arg(long, value_name = "NAME", requires = "secret_file")]
    pub principal: Option<String>,

    /// File with the principal's secret; without --principal, with both in one line or in JSON
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,

    /// Between two HEARTBEAT events, from which a framework knows that its master is there
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = heartbeat_interval)]
    pub heartbeat_interval: Duration,

    /// Log what the cluster does; twice for every message
    #[arg(long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The attributes of one agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Attributes(pub Vec<Attribute>);

fn heartbeat_interval(text: &str) -> Result<Duration, String> {
    match parse_time_span(text)? {
        Duration::ZERO => Err("frameworks need one now and then".to_owned()),
        interval => Ok(interval),
    }
}

fn attributes(text: &str) -> Result<Attributes, String> {
    proto::attributes::parse(text).map(Attributes)
}

impl Role {
    /// Reads a whole command line, the program's name first, without settings.
    ///
    /// # Errors
    /// [`Stop`] with what to print instead: help, version, or what is wrong.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, Stop> {
        Self::from_args_and(args, || Ok(Settings::none()))
    }

    /// Reads a whole command line, the program's name first; `settings` is asked for when a task is to be launched.
    ///
    /// # Errors
    /// [`Stop`] with what to print instead: help, version, an answer that was asked for, or what is wrong.
    pub fn from_args_and(
        args: impl IntoIterator<Item = OsString>,
        settings: impl FnOnce() -> Result<Settings, String>,
    ) -> Result<Self, Stop> {
        let settings = || settings().map_err(|why| Stop::usage("launch-container", exit::FAILED, &why));
        let mut args = args.into_iter();
        let program = args.next().unwrap_or_default();
        let mut words: Vec<OsString> = args.collect();
        let by_name = Path::new(&program)
            .file_name()
            .and_then(Program::from_word)
            // A subcommand is never a program of its own.
            .filter(|program| matches!(program, Program::Containerizer | Program::Executor));
        let program = by_name.or_else(|| {
            let program = words.first().and_then(|word| Program::from_word(word))?;
            words.remove(0);
            Some(program)
        });
        match program {
            Some(Program::Containerizer) => containerizer(&words),
            Some(Program::Executor) => Ok(Self::Executor(words)),
            Some(Program::Local) => local(words),
            Some(Program::Config) => Err(Stop::answer(settings::config(words, &settings()?)?)),
            Some(Program::Completions) => Err(completions(&words)),
            Some(Program::Man) => Err(man(&words)),
            None if words.first().is_some_and(is_run_verb) => {
                RunCli::parse_words(words).map(|cli| Self::Run(Box::new(cli)))
            }
            None => Cli::parse_with(words, &settings()?).map(|cli| Self::Launch(Box::new(cli))),
        }
    }
}

const CONTAINERIZER: &str = "docker-containerizer";

/// A role by its name only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Containerizer,
    Executor,
    Local,
    Config,
    Completions,
    Man,
}

impl Program {
    fn from_word(word: &OsStr) -> Option<Self> {
        match word.to_str()? {
            "docker-containerizer" => Some(Self::Containerizer),
            "docker-executor" | "mesos-docker-executor" => Some(Self::Executor),
            "local" => Some(Self::Local),
            "config" => Some(Self::Config),
            "completions" => Some(Self::Completions),
            "man" => Some(Self::Man),
            _ => None,
        }
    }
}

fn is_run_verb(word: &OsString) -> bool {
    RUN_VERBS.iter().any(|verb| word == verb)
}

fn containerizer(words: &[OsString]) -> Result<Role, Stop> {
    const PROGRAM: &str = CONTAINERIZER;
    let verbs = VERBS.join(", ");
    let commands = operator::COMMANDS.join(", ");
    let usage = |message: String| {
        Stop::usage(PROGRAM, exit::ROLE_USAGE, &format!("{message}; the slave's verbs are {verbs}, yours {commands}"))
    };
    if operator::is_command(words) {
        return operator::Question::parse(words).map(Role::Operator);
    }
    let word = match words {
        [] => return Err(usage("a verb is missing".to_owned())),
        [word] => word.to_string_lossy(),
        [_, surplus, ..] => return Err(usage(format!("unexpected word '{}'", surplus.to_string_lossy()))),
    };
    match &*word {
        "-h" | "--help" => Err(Stop::answer(format!(
            "Runs Mesos tasks in Docker containers, for a Mesos slave 0.19 to 1.0.4 started with\n\
             --containerizers=external --containerizer_path=/path/to/{PROGRAM}\n\n\
             Usage: {PROGRAM} VERB\n       {PROGRAM} COMMAND [OPTIONS]\n\n\
             Verbs, for the slave: {verbs}\n\
             Messages come on stdin and go to stdout as the slave frames them. The engine is found by DOCKER_HOST, else at\n\
             its default socket.\n\n\
             Commands, for you ({PROGRAM} COMMAND --help says more):\n{}\n\
             Exit codes: 0 done, 1 failed (one line on stderr says why) or something is wrong, {} neither verb nor command.\n",
            operator::summary(),
            exit::ROLE_USAGE
        ))),
        "-V" | "--version" => Err(Stop::answer(format!("{PROGRAM} {}\n", env!("CARGO_PKG_VERSION")))),
        word => match VERBS.into_iter().find(|verb| *verb == word) {
            Some(verb) => Ok(Role::Containerizer(verb)),
            None => Err(usage(format!("unknown verb '{word}'"))),
        },
    }
}

fn completions(words: &[OsString]) -> Stop {
    const PROGRAM: &str = "launch-container completions";
    let wrong = |text: &str| Stop::usage(PROGRAM, exit::FAILED, text);
    match words {
        [shell] => match pages::completions(&shell.to_string_lossy()) {
            Ok(script) => Stop::answer(script),
            Err(why) => wrong(&why),
        },
        _ => wrong("name one shell: bash, zsh or fish"),
    }
}

fn man(words: &[OsString]) -> Stop {
    if words.is_empty() {
        Stop::answer(pages::man())
    } else {
        Stop::usage("launch-container man", exit::FAILED, "it takes no words; write it to a file launch-container.1")
    }
}

fn local(words: Vec<OsString>) -> Result<Role, Stop> {
    const PROGRAM: &str = "launch-container local";
    LocalCli::command()
        .try_get_matches_from(std::iter::once(OsString::from(PROGRAM)).chain(words))
        .and_then(|mut matches| LocalCli::from_arg_matches_mut(&mut matches))
        .map(Role::Local)
        .map_err(|error| Stop::from_clap(PROGRAM, exit::FAILED, &error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn role(args: &[&str]) -> Result<Role, Stop> {
        Role::from_args(args.iter().map(OsString::from))
    }

    #[test]
    fn name_and_first_word_give_the_same_role() {
        for verb in VERBS {
            let by_name = role(&["/opt/mesos/docker-containerizer", verb]).unwrap();
            assert_eq!(by_name, Role::Containerizer(verb));
            assert_eq!(by_name, role(&["launch-container", "docker-containerizer", verb]).unwrap());
        }
        for name in ["docker-executor", "mesos-docker-executor"] {
            let by_name = role(&[&format!("/usr/libexec/{name}"), "--container=x", "--help"]).unwrap();
            assert_eq!(by_name, Role::Executor(vec!["--container=x".into(), "--help".into()]));
            assert_eq!(by_name, role(&["./launch-container", name, "--container=x", "--help"]).unwrap());
        }
    }

    #[test]
    fn everything_else_is_a_launch() {
        let args = ["launch-container", "--master=local", "busybox", "docker-executor"];
        let Role::Launch(cli) = role(&args).unwrap() else { panic!("not a launch") };
        assert_eq!((cli.image.as_str(), cli.cmd), ("busybox", vec!["docker-executor".to_owned()]));
        let Role::Launch(cli) = role(&["launch-container", "--", "local"]).unwrap() else { panic!("not a launch") };
        assert_eq!(cli.image, "local");
    }

    #[test]
    fn the_name_of_a_renamed_executable_does_not_matter() {
        assert!(matches!(role(&["/tmp/local", "busybox"]), Ok(Role::Launch(_))));
        assert!(role(&[]).unwrap_err().is_error);
    }

    #[test]
    fn a_local_cluster_has_a_port_agents_and_resources() {
        let Role::Local(cli) = role(&["launch-container", "local"]).unwrap() else { panic!("not local") };
        assert_eq!((cli.port, cli.agents, cli.resources), (5050, 1, None));
        let args = ["launch-container", "local", "--port=0", "--agents", "3", "--resources=cpus:4"];
        let Role::Local(cli) = role(&args).unwrap() else { panic!("not local") };
        assert_eq!((cli.port, cli.agents, cli.resources.as_deref()), (0, 3, Some("cpus:4")));
    }

    #[test]
    fn answers_about_the_command_line_are_printed() {
        for (words, expected) in
            [(&["config"][..], "cpus = \"1\"  # default"), (&["completions", "fish"], "-l cap-add"), (&["man"], ".TH")]
        {
            let stop = role(&[&["launch-container"], words].concat()).unwrap_err();
            assert!(!stop.is_error && stop.text.contains(expected), "{}", stop.text);
        }
        for words in [&["completions"][..], &["completions", "tcsh"], &["man", "x"], &["config", "--cpu"]] {
            let stop = role(&[&["launch-container"], words].concat()).unwrap_err();
            assert_eq!((stop.is_error, stop.code, stop.text.lines().count()), (true, 125, 1), "{words:?}");
        }
    }

    #[test]
    fn a_wrong_call_of_a_role_is_one_line_with_what_is_right() {
        for words in
            [&["docker-containerizer"][..], &["docker-containerizer", "lunch"], &["docker-containerizer", "wait", "x"]]
        {
            let stop = role(words).unwrap_err();
            assert_eq!((stop.is_error, stop.code, stop.text.lines().count()), (true, 2, 1), "{words:?}");
            assert!(stop.text.contains("launch, update, usage, wait, destroy, containers, recover"), "{}", stop.text);
            assert!(stop.text.contains("doctor, ps, inspect, gc"), "{}", stop.text);
        }
        let stop = role(&["launch-container", "local", "--agents=0"]).unwrap_err();
        assert_eq!((stop.is_error, stop.code), (true, 125));
        assert!(stop.text.starts_with("launch-container local: invalid value '0'"), "{}", stop.text);
    }

    #[test]
    fn every_program_answers_help_and_version() {
        for word in operator::COMMANDS {
            let stop = role(&["docker-containerizer", word, "--help"]).unwrap_err();
            assert!(!stop.is_error && stop.text.contains("Usage: docker-containerizer"), "{}", stop.text);
        }
        for program in [&["launch-container"][..], &["launch-container", "local"], &["docker-containerizer"]] {
            for word in ["--help", "--version"] {
                let stop = role(&[program, &[word]].concat()).unwrap_err();
                assert_eq!((stop.is_error, stop.code), (false, 0), "{program:?} {word}");
                assert!(stop.text.ends_with('\n'), "{program:?} {word}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_command_line_gives_a_role_or_one_text_and_never_a_panic(
            args in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..6), 0..6),
            options in proptest::collection::vec(proptest::sample::select(vec!["--cpus", "-e", "--", "-qv", "--mem=1", "x", "-"]), 0..6),
        ) {
            use std::os::unix::ffi::OsStringExt;
            let words = options.into_iter().map(OsString::from).chain(args.into_iter().map(OsString::from_vec));
            if let Err(stop) = Role::from_args(std::iter::once("launch-container".into()).chain(words)) {
                assert!(!stop.text.is_empty() && stop.text.ends_with('\n'));
                assert!(!stop.is_error || (stop.code == 125 && stop.text.lines().count() == 1), "{stop:?}");
            }
        }

        #[test]
        fn what_stands_behind_the_image_reaches_the_command_unchanged(
            cmd in proptest::collection::vec("(--?[a-z]{0,8}(=[a-z ]{0,4})?|[ -~]{0,8})", 0..6),
        ) {
            let words = ["launch-container", "--master=m", "-e", "A", "image"].map(str::to_owned).into_iter().chain(cmd.clone());
            let Ok(Role::Launch(cli)) = Role::from_args(words.map(OsString::from)) else { panic!("not a launch") };
            assert_eq!(cli.cmd, cmd);
        }
    }
}
