//! What is printed instead of doing anything: help, version, or one line that says what is wrong with the command line.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::display::one_line;

/// Print this and exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The whole text with its final newline.
    pub text: String,
    /// Help and version go to stdout, errors to stderr.
    pub is_error: bool,
    /// The exit code.
    pub code: u8,
}

impl Stop {
    /// An answer that was asked for.
    pub fn answer(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: false, code: 0 }
    }

    /// A command line that cannot be followed; `program` begins the line.
    pub fn usage(program: &str, code: u8, message: &str) -> Self {
        Self { text: format!("{program}: {}\n", one_line(message)), is_error: true, code }
    }

    /// What clap has to say, in one line where it is an error.
    pub(crate) fn from_clap(program: &str, code: u8, error: &clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Self::answer(error.render().to_string()),
            // These say themselves what is accepted.
            ErrorKind::ValueValidation | ErrorKind::InvalidValue => Self::usage(program, code, &complaint(error)),
            _ => Self::usage(program, code, &format!("{}; see {program} --help", complaint(error))),
        }
    }
}

/// clap's first paragraph without its "error: ", and with the word that was probably meant.
pub(crate) fn complaint(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let paragraph = text.split("\n\n").next().unwrap_or(text);
    // A list of missing arguments follows on lines of its own.
    let mut line = paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    if let Some(ContextValue::String(similar)) = error.get(ContextKind::SuggestedArg) {
        line.push_str(&format!("; did you mean {similar}?"));
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use crate::cli::Cli;

    /// What is printed for these words, which must be wrong.
    fn complaint(words: &[&str]) -> String {
        let stop = Cli::parse_words(words.iter().map(Into::into)).unwrap_err();
        assert!(stop.is_error);
        assert_eq!(stop.code, 125);
        stop.text
    }

    #[test]
    fn a_wrong_command_line_gets_one_line_that_names_option_value_and_what_is_accepted() {
        assert_eq!(
            complaint(&["--cpus=two", "image"]),
            "launch-container: invalid value 'two' for '--cpus <NUMBER>': not a number; give a number of at least 0.001, \
             such as 2 or 0.5\n"
        );
        assert_eq!(
            complaint(&["--mem", "-1", "image"]),
            "launch-container: invalid value '-1' for '--mem <MB>': not an amount; give a number of MB, or one with a unit \
             b, k, m, g or t, such as 256, 512m or 1.5g\n"
        );
        assert_eq!(
            complaint(&["--timeout=soon", "image"]),
            "launch-container: invalid value 'soon' for '--timeout <TIME>': not a time span; give seconds or a number with a \
             unit ms, s, m, h or d, such as 90, 10s, 5m or 1h30m\n"
        );
        assert_eq!(
            complaint(&["--format=xml", "image"]),
            "launch-container: invalid value 'xml' for '--format <FORMAT>' [possible values: text, json]\n"
        );
        assert_eq!(
            complaint(&["--netwrok=host", "image"]),
            "launch-container: unexpected argument '--netwrok' found; did you mean --network?; see launch-container --help\n"
        );
        assert_eq!(
            complaint(&[]),
            "launch-container: the following required arguments were not provided: <IMAGE>; see launch-container --help\n"
        );
    }

    #[test]
    fn a_mistyped_option_does_not_show_the_secret_behind_it() {
        for words in [["--evn=TOKEN=hunter2", "image"], ["--docker-parm=env=hunter2", "image"]] {
            let text = complaint(&words);
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn control_characters_of_a_value_do_not_reach_the_terminal() {
        let text = complaint(&["--cpus=\x1b[2J\n1", "image"]);
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains('\x1b'), "{text:?}");
    }
}
