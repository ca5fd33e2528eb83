//! What is printed instead of doing anything: help, version, or one line that says what is wrong with the command line.

use clap::error::{ContextKind, ContextValue, ErrorKind};

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
        Self { text: format!("{program}: {message}\n"), is_error: true, code }
    }

    /// What clap has to say, in one line where it is an error.
    pub(crate) fn from_clap(program: &str, code: u8, error: &clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Self::answer(error.render().to_string()),
            _ => Self::usage(program, code, &format!("{}; see {program} --help", one_line(error))),
        }
    }
}

/// clap's first paragraph without its "error: ", and with the word that was probably meant.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let paragraph = text.split("\n\n").next().unwrap_or(text);
    let mut line = paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    if let Some(ContextValue::String(similar)) = error.get(ContextKind::SuggestedArg) {
        line.push_str(&format!("; did you mean {similar}?"));
    }
    line
}
