//! The configuration file: TOML with a key per long option, and tables `[profile.NAME]` of the same keys.

use std::path::Path;

use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Given, Source, options};

/// What the file says, then what its profile says.
pub(super) fn read(path: &Path, text: &str, command: &Command, profile: Option<&str>) -> Result<Vec<Given>, String> {
    let file = File { path, text, command };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        file.wrong(at, error.message())
    })?;
    let mut given = Vec::new();
    let mut profiles = Vec::new();
    for (key, value) in table.get_ref() {
        if key.get_ref() != "profile" {
            file.option(key, value, &mut given)?;
            continue;
        }
        let tables = value.get_ref().as_table().ok_or_else(|| {
            file.wrong(key.span().start, "profile is written as a table: [profile.NAME] on a line of its own")
        })?;
        for (name, value) in tables {
            let table = value.get_ref().as_table().ok_or_else(|| {
                file.wrong(name.span().start, &format!("profile.{} is written as a table", name.get_ref()))
            })?;
            let mut own = Vec::new();
            for (key, value) in table {
                file.option(key, value, &mut own)?;
            }
            profiles.push((name.get_ref().to_string(), own));
        }
    }
    if let Some(wanted) = profile {
        let names = profiles.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let names = if names.is_empty() { "none".to_owned() } else { names };
        let index = profiles.iter().position(|(name, _)| name == wanted);
        let index = index.ok_or_else(|| format!("{} has no profile {wanted:?}; there are: {names}", path.display()))?;
        let own = profiles.swap_remove(index).1;
        given.retain(|file| {
            let may_repeat =
                find(command, &file.option).is_some_and(|arg| matches!(arg.get_action(), ArgAction::Append));
            may_repeat || own.iter().all(|own| own.option != file.option)
        });
        given.extend(own);
    }
    Ok(given)
}

fn find<'a>(command: &'a Command, long: &str) -> Option<&'a Arg> {
    options(command).find(|arg| arg.get_long() == Some(long))
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
    command: &'a Command,
}

impl File<'_> {
    fn option(
        &self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        given: &mut Vec<Given>,
    ) -> Result<(), String> {
        let (name, at) = (key.get_ref(), key.span().start);
        let Some(arg) = find(self.command, name) else {
            let similar =
                similar(self.command, name).map(|similar| format!("; did you mean {similar}?")).unwrap_or_default();
            return Err(self.wrong(at, &format!("unknown option {name:?}{similar}")));
        };
        let values = match value.get_ref() {
            DeValue::Array(values) if matches!(arg.get_action(), ArgAction::Append) => {
                values.iter().map(|value| (value.span().start, text(value.get_ref()))).collect()
            }
            value => vec![(at, text(value))],
        };
        for (at, value) in values {
            let may_repeat = matches!(arg.get_action(), ArgAction::Append);
            let what =
                if may_repeat { "a text, or a list of them" } else { "one value: a text, a number, true or false" };
            let value = value.ok_or_else(|| self.wrong(at, &format!("{name} takes {what}")))?;
            let source = Source::File { path: self.path.to_owned(), line: self.line(at) };
            given.push(Given { option: name.to_string(), value, source });
        }
        Ok(())
    }

    fn wrong(&self, at: usize, why: &str) -> String {
        format!("{}:{}: {why}", self.path.display(), self.line(at))
    }

    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }
}

/// clap knows which option was probably meant.
pub(super) fn similar(command: &Command, name: &str) -> Option<String> {
    let words = ["launch-container".to_owned(), format!("--{name}=x"), "--".to_owned(), "image".to_owned()];
    let error = command.clone().try_get_matches_from(words).err()?;
    match error.get(clap::error::ContextKind::SuggestedArg) {
        Some(clap::error::ContextValue::String(similar)) => Some(similar.clone()),
        _ => None,
    }
}

/// A value as it stands on a command line; lists and tables are none.
fn text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(is_on) => Some(is_on.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
