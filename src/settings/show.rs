//! `launch-container config`: every option with its value and where that came from, in the form of the configuration file.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use super::{Given, Settings, options};
use crate::cli::{Cli, Stop};
use crate::master;

/// The text for these words of a command line, which may name a profile and any option; IMAGE may be left out.
///
/// # Errors
/// [`Stop`] with what is wrong with the words or the settings.
pub fn config(words: impl IntoIterator<Item = OsString>, settings: &Settings) -> Result<String, Stop> {
    let (matches, given) = Cli::matches_with(words, settings, false)?;
    let command = Cli::built_command();
    let mut text = String::new();
    for arg in options(&command) {
        let Some(long) = arg.get_long() else { continue };
        let found: Vec<&Given> = given.iter().filter(|given| given.option == long).collect();
        let _ = match shown(arg, long, &matches) {
            None => writeln!(text, "# {long} is not set"),
            Some(value) => writeln!(text, "{long} = {value}  # {}", source(arg, &found, &matches)),
        };
    }
    Ok(text)
}

/// The value as TOML, with its secrets hidden.
fn shown(arg: &Arg, long: &str, matches: &ArgMatches) -> Option<String> {
    let id = arg.get_id().as_str();
    match arg.get_action() {
        ArgAction::SetTrue => Some(matches.get_flag(id).to_string()),
        ArgAction::Count => Some(matches.get_count(id).to_string()),
        action => {
            let values = matches.get_raw(id)?;
            let values: Vec<String> = values.map(|value| quoted(&hidden(long, &value.to_string_lossy()))).collect();
            match action {
                ArgAction::Append => Some(format!("[{}]", values.join(", "))),
                _ => values.last().cloned(),
            }
        }
    }
}

fn quoted(text: &str) -> String {
    // What JSON escapes, TOML reads alike.
    serde_json::Value::from(text).to_string()
}

/// Values that may be secrets are not shown; what they are called is.
fn hidden(long: &str, value: &str) -> String {
    match long {
        "master" => master::without_credentials(value),
        "env" | "docker-param" | "log-opt" => match value.split_once('=') {
            Some((key, _)) => format!("{key}=..."),
            None => value.to_owned(),
        },
        _ if long.ends_with("secret") || long.ends_with("password") => "...".to_owned(),
        _ => value.to_owned(),
    }
}

fn source(arg: &Arg, found: &[&Given], matches: &ArgMatches) -> String {
    let mut sources: Vec<String> = Vec::new();
    for given in found {
        let source = given.source.to_string();
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    let id = arg.get_id().as_str();
    let on_line = matches.value_source(id) == Some(ValueSource::CommandLine);
    let count = matches.indices_of(id).map_or(0, Iterator::count);
    match arg.get_action() {
        // What is on the command line comes behind what was found, and the last one counts.
        ArgAction::Append if on_line && count > found.len() => sources.push("command line".to_owned()),
        ArgAction::Append => {}
        _ if on_line && found.is_empty() => return "command line".to_owned(),
        _ => {}
    }
    match matches.value_source(id) {
        Some(ValueSource::EnvVariable) => {
            arg.get_env().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
        }
        _ if !sources.is_empty() => sources.join(", "),
        _ => "default".to_owned(),
    }
}
