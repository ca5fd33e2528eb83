//! The task's environment from `--env-file` and `--env`, as `docker run` reads them.
//!
//! Values are secrets: no error holds one, and [`Variables`] shows names only.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cli::Assignment;

/// Variables in the order in which they were first named; a later value replaces an earlier one.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Variables(Vec<(String, String)>);

/// Why the environment cannot be made.
#[derive(Debug, Error)]
pub enum EnvironmentError {
    /// The file is not there or not readable.
    #[error("cannot read --env-file '{path}': {source}; give a readable file of NAME=VALUE lines")]
    FileUnreadable {
        /// As given.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not UTF-8; Mesos carries text only.
    #[error("line {line} of --env-file '{path}' is not UTF-8; Mesos carries only text in the environment")]
    LineNotText {
        /// As given.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// A line has no name, or one with blanks in it.
    #[error(
        "line {line} of --env-file '{path}' has no proper name before its '='; write NAME=VALUE, or NAME to pass it on"
    )]
    LineWithoutName {
        /// As given.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// `--env =x` or `--env ''`.
    #[error("--env number {position} has no name; write --env NAME=VALUE, or --env NAME to pass it on")]
    ArgumentWithoutName {
        /// Counted from 1 among the `--env` options.
        position: usize,
    },
    /// The launcher's own variable is not UTF-8.
    #[error("the variable {name} of this environment is not UTF-8; Mesos carries only text in the environment")]
    ValueNotText {
        /// Its name.
        name: String,
    },
}

impl Variables {
    /// Files first, then `--env`; `lookup` is the launcher's own environment, from which a name without a value is taken. A name
    /// that is not set there is left out.
    pub(super) fn read(
        files: &[PathBuf],
        arguments: &[Assignment],
        lookup: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, EnvironmentError> {
        let mut variables = Self::default();
        for path in files {
            variables.add_file(path, lookup)?;
        }
        for (index, argument) in arguments.iter().enumerate() {
            if argument.key.is_empty() {
                return Err(EnvironmentError::ArgumentWithoutName { position: index + 1 });
            }
            variables.add(&argument.key, argument.value.as_deref(), lookup)?;
        }
        Ok(variables)
    }

    pub(super) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    fn add_file(&mut self, path: &Path, lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<(), EnvironmentError> {
        let shown = path.display().to_string();
        let bytes =
            std::fs::read(path).map_err(|source| EnvironmentError::FileUnreadable { path: shown.clone(), source })?;
        // Files written on Windows begin with a byte order mark.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let number = index + 1;
            let line = std::str::from_utf8(line)
                .map_err(|_| EnvironmentError::LineNotText { path: shown.clone(), line: number })?;
            let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) =
                line.split_once('=').map_or((line.trim_end(), None), |(name, value)| (name, Some(value)));
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(EnvironmentError::LineWithoutName { path: shown, line: number });
            }
            self.add(name, value, lookup)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        name: &str,
        value: Option<&str>,
        lookup: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<(), EnvironmentError> {
        let value = match value {
            Some(value) => value.to_owned(),
            None => match lookup(name) {
                Some(value) => {
                    value.into_string().map_err(|_| EnvironmentError::ValueNotText { name: name.to_owned() })?
                }
                None => return Ok(()),
            },
        };
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn read(file: Option<&[u8]>, arguments: &[&str]) -> Result<Vec<(String, String)>, EnvironmentError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("env");
        let files = file.map(|bytes| {
            std::fs::write(&path, bytes).unwrap();
            path.clone()
        });
        let arguments: Vec<Assignment> = arguments.iter().map(|text| text.parse().unwrap()).collect();
        let lookup = |name: &str| match name {
            "HOME" => Some(OsString::from("/home/ada")),
            "BINARY" => Some(OsString::from_vec(vec![0xff])),
            _ => None,
        };
        Variables::read(&files.into_iter().collect::<Vec<_>>(), &arguments, &lookup).map(Variables::into_pairs)
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_name_without_a_value_is_taken_from_the_launchers_environment() {
        assert_eq!(
            read(None, &["HOME", "A=", "B=x=y"]).unwrap(),
            pairs(&[("HOME", "/home/ada"), ("A", ""), ("B", "x=y")])
        );
        assert_eq!(read(None, &["UNSET"]).unwrap(), pairs(&[]));
    }

    #[test]
    fn a_file_has_comments_blank_lines_names_and_values_taken_as_they_stand() {
        let file = b"\xef\xbb\xbf# comment\n\n  A=1 2\r\nHOME\nQ=\"quoted\"\nEMPTY=\nHASH=a#b\nUNSET\n";
        let expected =
            pairs(&[("A", "1 2"), ("HOME", "/home/ada"), ("Q", "\"quoted\""), ("EMPTY", ""), ("HASH", "a#b")]);
        assert_eq!(read(Some(file), &[]).unwrap(), expected);
    }

    #[test]
    fn later_values_win_and_options_win_over_files() {
        assert_eq!(read(Some(b"A=1\nB=1\nA=2\n"), &["B=3"]).unwrap(), pairs(&[("A", "2"), ("B", "3")]));
    }

    #[test]
    fn errors_name_the_place_and_never_the_value() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let error = Variables::read(&[missing], &[], &|_| None).unwrap_err().to_string();
        assert!(error.contains("--env-file") && error.contains("NAME=VALUE"), "{error}");

        let error = read(Some(b"A=1\nMY NAME=hunter2\n"), &[]).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        let error = read(Some(b"=hunter2"), &[]).unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
        let error = read(Some(b"A=\xff\xfe"), &[]).unwrap_err().to_string();
        assert!(error.contains("UTF-8"), "{error}");
        let error = read(None, &["A=1", "=hunter2"]).unwrap_err().to_string();
        assert!(error.contains("number 2") && !error.contains("hunter2"), "{error}");
        let error = read(None, &["BINARY"]).unwrap_err().to_string();
        assert!(error.contains("BINARY"), "{error}");
    }

    #[test]
    fn debug_shows_names_only() {
        let variables = Variables(vec![("TOKEN".to_owned(), "hunter2".to_owned())]);
        assert_eq!(format!("{variables:?}"), "[\"TOKEN\"]");
    }
}
