//! How a launch ended, and the exit code that says so: the one table that README, help and tests compare with.
//!
//! The task's own code passes through, so the launcher's few codes can also be a task's; the line on stderr, or the `end`
//! event of `--format=json`, tells them apart.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// How a task, or the launch of it, ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum Outcome {
    /// The task ended by itself with this code.
    Exited(u8),
    /// The task died by this signal (where the agent tells; Docker itself only says 128+n).
    Signaled(u8),
    /// `--timeout` or `--offer-timeout` passed.
    TimedOut(String),
    /// The launcher, the cluster or the agent failed; the text says what, on what, why, and what to do.
    Failed(String),
    /// The user interrupted with this signal (1, 2 or 15) before or while the task ran.
    Interrupted(u8),
    /// The task runs on without a launcher, as `--detach` wants it.
    Detached,
}

/// `--timeout` or `--offer-timeout` passed; as in GNU `timeout`.
pub const TIMED_OUT: u8 = 124;

/// The launcher, the cluster or the agent failed, or the command line is wrong; as in `docker run`.
pub const FAILED: u8 = 125;

/// What `docker-containerizer` and `docker-executor` end with when they are called in a way they do not know.
pub const ROLE_USAGE: u8 = 2;

/// What is added to the number of a signal.
const SIGNAL_BASE: u8 = 128;

/// One line of the table of exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The codes as a person writes them: "124", "128+n".
    pub codes: &'static str,
    /// The `kind` of the `end` event in `--format=json`.
    pub kind: &'static str,
    /// One sentence without a period; Markdown code spans allowed.
    pub meaning: &'static str,
}

/// Every way to end, in the order of [`Outcome`].
pub const TABLE: &[Row] = &[
    Row { codes: "0 to 255", kind: "exited", meaning: "the task ended by itself; its code is passed on unchanged" },
    Row { codes: "128+n", kind: "signaled", meaning: "signal n ended the task: 137 for SIGKILL, 143 for SIGTERM" },
    Row { codes: "124", kind: "timed_out", meaning: "`--timeout` or `--offer-timeout` passed; stderr says which" },
    Row {
        codes: "125",
        kind: "failed",
        meaning: "the launcher, the cluster or the agent failed, an option is wrong, or output of a task that ended with 0 is \
                  missing; stderr says why",
    },
    Row {
        codes: "129, 130, 143",
        kind: "interrupted",
        meaning: "the launcher was interrupted by SIGHUP, SIGINT (Ctrl-C) or SIGTERM and ended the task",
    },
    Row { codes: "0", kind: "detached", meaning: "the task runs on, as `--detach` wants it" },
];

impl Outcome {
    /// The name of this way to end: the `kind` of its row in [`TABLE`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Exited(_) => "exited",
            Self::Signaled(_) => "signaled",
            Self::TimedOut(_) => "timed_out",
            Self::Failed(_) => "failed",
            Self::Interrupted(_) => "interrupted",
            Self::Detached => "detached",
        }
    }
}

/// The exit code of the launcher for `outcome`.
pub fn code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Exited(code) => *code,
        Outcome::Signaled(signal) | Outcome::Interrupted(signal) => SIGNAL_BASE.saturating_add(*signal),
        Outcome::TimedOut(_) => TIMED_OUT,
        Outcome::Failed(_) => FAILED,
        Outcome::Detached => 0,
    }
}

/// The table as Markdown, exactly as it stands in the README.
pub fn markdown_table() -> String {
    let mut text = String::from("| code | kind | meaning |\n|---|---|---|\n");
    for row in TABLE {
        let _ = writeln!(text, "| {} | `{}` | {} |", row.codes, row.kind, row.meaning);
    }
    text
}

/// The table as `--help` shows it: indented by two, without Markdown.
pub fn help_table() -> String {
    let width = TABLE.iter().map(|row| row.codes.len()).max().unwrap_or_default();
    TABLE.iter().fold(String::new(), |mut text, row| {
        let _ = writeln!(text, "  {:width$}  {}", row.codes, row.meaning.replace('`', ""));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_a_task_passes_through() {
        for expected in 0..=u8::MAX {
            assert_eq!(code(&Outcome::Exited(expected)), expected);
        }
    }

    #[test]
    fn signals_are_counted_from_128_and_never_overflow() {
        assert_eq!(code(&Outcome::Signaled(9)), 137);
        assert_eq!(code(&Outcome::Interrupted(2)), 130);
        assert_eq!(code(&Outcome::Interrupted(15)), 143);
        assert_eq!(code(&Outcome::Signaled(200)), 255);
    }

    #[test]
    fn the_table_has_the_code_of_every_outcome() {
        let outcomes = [
            Outcome::Exited(0),
            Outcome::Signaled(9),
            Outcome::TimedOut(String::new()),
            Outcome::Failed(String::new()),
            Outcome::Interrupted(2),
            Outcome::Detached,
        ];
        assert_eq!(TABLE.iter().map(|row| row.kind).collect::<Vec<_>>(), outcomes.each_ref().map(Outcome::kind));
        assert_eq!(TABLE[2].codes, TIMED_OUT.to_string());
        assert_eq!(TABLE[3].codes, FAILED.to_string());
    }

    #[test]
    fn the_markdown_table_has_one_line_per_row() {
        let text = markdown_table();
        assert_eq!(text.lines().count(), TABLE.len() + 2);
        assert!(text.contains("| 128+n | `signaled` |"), "{text}");
    }
}
