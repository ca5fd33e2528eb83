//! The words of `docker-containerizer` that people type: `doctor`, `ps`, `inspect`, `gc`, `config`, and `launch --foreground`. A slave's
//! verbs stand alone on their command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use containerizer::operator;

use crate::cli::Stop;
use crate::exit;

/// The first words that belong to this module; `launch`, too, when more follows.
pub const COMMANDS: [&str; 5] = ["doctor", "ps", "inspect", "gc", "config"];

/// Whether the words behind `docker-containerizer` are a person's.
pub(super) fn is_command(words: &[OsString]) -> bool {
    match words {
        [] => false,
        [word] => COMMANDS.iter().any(|command| word == command),
        [word, ..] => word == LAUNCH || COMMANDS.iter().any(|command| word == command),
    }
}

/// A line for each command, indented.
pub(super) fn summary() -> String {
    let command = Operator::command();
    let lines = command.get_subcommands().map(|command| {
        let name = if command.get_name() == LAUNCH { "launch --foreground" } else { command.get_name() };
        format!("  {name:<20} {}\n", command.get_about().map(ToString::to_string).unwrap_or_default())
    });
    lines.collect()
}

/// What an operator asks, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is asked.
    pub command: operator::Command,
    /// How the answer looks.
    pub format: operator::Format,
    /// The slave's, where it is given.
    pub work_directory: Option<PathBuf>,
}

impl Question {
    /// Reads the words behind `docker-containerizer`.
    pub(super) fn parse(words: &[OsString]) -> Result<Self, Stop> {
        let words = std::iter::once(OsString::from(super::CONTAINERIZER)).chain(words.iter().cloned());
        let parsed = Operator::command().try_get_matches_from(words);
        let parsed = parsed.and_then(|mut matches| Operator::from_arg_matches_mut(&mut matches));
        let operator = parsed.map_err(|error| Stop::from_clap(super::CONTAINERIZER, exit::ROLE_USAGE, &error))?;
        let (command, answer) = match operator.command {
            Words::Doctor { answer } => (operator::Command::Doctor, answer),
            Words::Launch { foreground: _, work_dir } => {
                (operator::Command::Launch, AnswerOptions { format: Format::Text, work_dir })
            }
            Words::Ps { answer } => (operator::Command::Ps, answer),
            Words::Inspect { id, work_dir } => {
                (operator::Command::Inspect { id }, AnswerOptions { format: Format::Json, work_dir })
            }
            Words::Config => (operator::Command::Config, AnswerOptions { format: Format::Text, work_dir: None }),
            Words::Gc { dry_run, grace, answer } => (operator::Command::Gc { is_dry_run: dry_run, grace }, answer),
        };
        let format = match answer.format {
            Format::Text => operator::Format::Text,
            Format::Json => operator::Format::Json,
        };
        Ok(Self { command, format, work_directory: answer.work_dir })
    }
}

#[derive(Debug, Parser)]
#[command(name = super::CONTAINERIZER, disable_help_subcommand = true, max_term_width = 120)]
struct Operator {
    #[command(subcommand)]
    command: Words,
}

#[derive(Debug, Subcommand)]
enum Words {
    /// Looks at everything that tasks will need of this host, and says what is wrong and what to do.
    ///
    /// The executable and the slaves that run, the engine, control groups, disks, registries, and what earlier containers have
    /// left. Changes nothing. Exit code 0: nothing keeps tasks from running; 1: something does.
    Doctor {
        #[command(flatten)]
        answer: AnswerOptions,
    },
    /// Launches a container as for a slave, and stays with it: logs to the terminal, Ctrl-C stops it.
    ///
    /// The slave's framed message comes on stdin, and its environment is expected. Without MESOS_SLAVE_PID a command task is
    /// started at once, and nobody is told how it fares. What it writes goes to the sandbox's stdout and stderr, as ever.
    /// LAUNCH_CONTAINER_LOG=debug logs more. At the end nothing is left for `wait`.
    Launch {
        /// Not in a process of its own
        #[arg(long, required = true)]
        foreground: bool,
        #[arg(long, value_name = "DIRECTORY", help = WORK_DIR)]
        work_dir: Option<PathBuf>,
    },
    /// Lists every container of a slave, how it stands, and what it uses.
    Ps {
        #[command(flatten)]
        answer: AnswerOptions,
    },
    /// Prints all that is known of one container, as JSON; values that may be secret are not shown.
    Inspect {
        /// Mesos' id of it, the engine's id or name, or the beginning of one of them
        #[arg(value_name = "ID")]
        id: String,
        #[arg(long, value_name = "DIRECTORY", help = WORK_DIR)]
        work_dir: Option<PathBuf>,
    },
    /// Prints the configuration in force, as a file that would set it, with all that can be set.
    Config,
    /// Removes what nobody can ask for any more, and says what it removes and what it keeps.
    ///
    /// Only state directories of this slave and containers with our labels are ever touched, and of these only what neither
    /// runs nor may still be waited for by the slave. Exit code 1: something could not be removed.
    Gc {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        /// What is younger is kept: seconds, or a number with a unit s, m, h or d
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = crate::cli::parse_time_span)]
        grace: Duration,
        #[command(flatten)]
        answer: AnswerOptions,
    },
}

#[derive(Debug, clap::Args)]
struct AnswerOptions {
    /// How the answer looks
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    format: Format,
    #[arg(long, value_name = "DIRECTORY", help = WORK_DIR)]
    work_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

const LAUNCH: &str = "launch";
const WORK_DIR: &str =
    "The slave's --work_dir [default: MESOS_WORK_DIRECTORY, else that of the one slave that runs on this host]";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn parse(words: &[&str]) -> Result<Question, Stop> {
        Question::parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn every_command_has_its_options() {
        let doctor = parse(&["doctor"]).unwrap();
        assert_eq!(
            doctor,
            Question { command: operator::Command::Doctor, format: operator::Format::Text, work_directory: None }
        );
        let ps = parse(&["ps", "--format=json", "--work-dir", "/w"]).unwrap();
        assert_eq!((ps.format, ps.work_directory), (operator::Format::Json, Some("/w".into())));
        let gc = parse(&["gc", "--dry-run", "--grace=10m"]).unwrap();
        assert_eq!(gc.command, operator::Command::Gc { is_dry_run: true, grace: Duration::from_secs(600) });
        assert_eq!(parse(&["config"]).unwrap().command, operator::Command::Config);
        let gc = parse(&["gc"]).unwrap();
        assert_eq!(gc.command, operator::Command::Gc { is_dry_run: false, grace: Duration::from_secs(3600) });
        assert_eq!(parse(&["launch", "--foreground"]).unwrap().command, operator::Command::Launch);
        assert_eq!(parse(&["inspect", "c1"]).unwrap().command, operator::Command::Inspect { id: "c1".into() });
    }

    #[test]
    fn what_is_wrong_is_one_line() {
        for words in [
            &["inspect"][..],
            &["ps", "x"],
            &["gc", "--grace=soon"],
            &["launch", "--forground"],
            &["launch", "--work-dir=/w"],
            &["doctor", "--format=xml"],
        ] {
            let stop = parse(words).unwrap_err();
            assert_eq!((stop.is_error, stop.code, stop.text.lines().count()), (true, 2, 1), "{words:?}: {}", stop.text);
        }
        assert!(parse(&["gc", "--help"]).unwrap_err().text.contains("--dry-run"));
    }
}
