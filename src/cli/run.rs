//! The command lines about runs: `launch-container ps`, `attach RUN` and so on.

use std::ffi::OsString;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::{AccessOptions, Format, Limit, OutputOptions, Stop, values};

/// The first words that are about runs.
pub const RUN_VERBS: [&str; 6] = ["ps", "attach", "logs", "wait", "kill", "inspect"];

/// A word about runs, with its options.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "launch-container", version, max_term_width = 120, args_override_self = true)]
pub struct RunCli {
    /// Which.
    #[command(subcommand)]
    pub verb: RunVerb,
}

/// What to do with a run.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum RunVerb {
    /// List the runs of this user on this machine: those with --run-id or --detach
    Ps {
        /// text, or json: one object per run
        #[arg(long, value_enum, hide_possible_values = true, value_name = "FORMAT", default_value = "text")]
        format: Format,
    },
    /// Go on with a run: its output from where it was left, and its exit code
    Attach(Which),
    /// Print a run's output from its beginning, as far as there is any
    Logs(Which),
    /// Wait for the end of a run without its output, and exit with its code
    Wait(Which),
    /// End a run: SIGTERM, and SIGKILL after its --kill-grace
    Kill(Which),
    /// Print what the journal knows of a run as JSON
    Inspect {
        /// The run's id, or a beginning that only it has
        #[arg(value_name = "RUN")]
        run: String,
    },
}

/// A run, and how to reach its cluster.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Which {
    /// The master, where it is not that of the launch any more, or its address had a password
    #[arg(long, value_name = "MASTER")]
    pub master: Option<String>,

    /// Who the launcher is, whom it trusts, and where agents are.
    #[command(flatten)]
    pub access: AccessOptions,

    /// Give up, with 125, when no master accepts the launcher for that long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::limit, allow_negative_numbers = true)]
    pub connect_timeout: Limit,

    /// Give up, with 125, when the master was lost for that long [default: 1m more than --failover-timeout]
    #[arg(long, value_name = "TIME", value_parser = values::limit, allow_negative_numbers = true)]
    pub reconnect_timeout: Option<Limit>,

    /// Pass SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM and SIGWINCH on to the task, where this project's executor runs it
    #[arg(long)]
    pub signal_proxy: bool,

    /// Where the task's output goes, and in which shape.
    #[command(flatten)]
    pub output: OutputOptions,

    /// Say nothing but why it failed
    #[arg(short, long)]
    pub quiet: bool,

    /// text, or json: one object per event, for programs
    #[arg(long, value_enum, hide_possible_values = true, value_name = "FORMAT", default_value = "text")]
    pub format: Format,

    /// Log what the launcher does; twice for every message to and from the cluster
    #[arg(long, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// The run's id, or a beginning that only it has
    #[arg(value_name = "RUN")]
    pub run: String,
}

impl RunCli {
    /// Reads the words from the verb on.
    ///
    /// # Errors
    /// [`Stop`] with what to print instead: help, or what is wrong.
    pub fn parse_words(words: Vec<OsString>) -> Result<Self, Stop> {
        let program =
            words.first().map_or_else(String::new, |verb| format!("launch-container {}", verb.to_string_lossy()));
        Self::command()
            .try_get_matches_from(std::iter::once(OsString::from("launch-container")).chain(words))
            .and_then(|mut matches| Self::from_arg_matches_mut(&mut matches))
            .map_err(|error| Stop::from_clap(&program, crate::exit::FAILED, &error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn parse(words: &[&str]) -> Result<RunCli, Stop> {
        RunCli::parse_words(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn every_verb_names_its_run() {
        for verb in RUN_VERBS.into_iter().filter(|verb| *verb != "ps") {
            assert!(parse(&[verb, "x"]).is_ok(), "{verb}");
            let stop = parse(&[verb]).unwrap_err();
            assert!(
                stop.text.contains("<RUN>") && stop.text.contains(&format!("launch-container {verb}")),
                "{}",
                stop.text
            );
            assert_eq!((stop.code, stop.text.lines().count()), (125, 1));
        }
        assert_eq!(parse(&["ps"]).unwrap().verb, RunVerb::Ps { format: Format::Text });
        assert!(parse(&["ps", "x"]).is_err());
    }
}
