//! Principals and their secrets, read from files: a secret never stands on a command line, which all users can see.
//!
//! With a principal at hand the file holds the secret and nothing else. Otherwise it holds both, in the forms of Mesos' own
//! `--credential`: one line `PRINCIPAL SECRET`, or JSON `{"principal": ..., "secret": ...}`. A last line end is no part of it.
//!
//! As ssh does with keys, a file of one's own that other users may read is refused; who may read the files of somebody else
//! is not for us to judge. Errors tell nothing of what a file holds.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use proto::secret::{Credential, Secret};
use serde::Deserialize;

/// Why a file gives no secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no secret any more.
    #[error("other users may read {0}; make it private: chmod o= {0}", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
    },
    /// It does not hold what it should.
    #[error("{} {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what is accepted.
        what: String,
    },
    /// One that Mesos could not read.
    #[error("the principal \"{principal}\" has a colon, which HTTP authentication cannot carry; use another principal")]
    Colon {
        /// As given.
        principal: String,
    },
}

/// The principal, as given or as it stands in the file, and the secret of the file.
///
/// # Errors
/// The file cannot be read, other users may read it, or it does not hold what it should.
pub fn read(principal: Option<&str>, path: &Path) -> Result<Credential, CredentialError> {
    let wrong = |what: &str| CredentialError::Content { path: path.to_owned(), what: what.to_owned() };
    let mut bytes = Vec::new();
    let file = open_private(path)?;
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| CredentialError::Read { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("does not hold text"))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(wrong("is too long for a secret"));
    }
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(wrong("is empty; it has to hold the secret"));
    }
    let credential = match principal {
        Some(principal) => Credential { principal: principal.to_owned(), secret: Secret::new(text) },
        None => both(text).ok_or_else(|| {
            wrong(
                "does not hold a principal and its secret, as one line PRINCIPAL SECRET or as JSON; name the principal \
                   beside it if it holds only the secret",
            )
        })?,
    };
    if credential.secret.expose().contains(|c: char| c.is_control()) {
        return Err(wrong("holds more than one line, or control characters; it has to hold the secret only"));
    }
    match credential.part_with_colon() {
        Some("secret") => Err(wrong(
            "holds a secret with a colon, which HTTP authentication cannot carry to Mesos; if it holds the principal, too, do \
             not name that beside it",
        )),
        Some(_) => Err(CredentialError::Colon { principal: credential.principal }),
        None => Ok(credential),
    }
}

/// Opens a file that other users of the machine must not be able to read.
///
/// # Errors
/// It cannot be opened, or they are.
pub fn open_private(path: &Path) -> Result<File, CredentialError> {
    let failed = |source| CredentialError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if metadata.is_file() && is_ours && metadata.mode() & OTHERS != 0 {
        return Err(CredentialError::Exposed { path: path.to_owned() });
    }
    Ok(file)
}

fn both(text: &str) -> Option<Credential> {
    #[derive(Deserialize)]
    struct Json {
        principal: String,
        secret: String,
    }
    let (principal, secret) = if text.trim_start().starts_with('{') {
        let Json { principal, secret } = serde_json::from_str(text).ok()?;
        (principal, secret)
    } else {
        let mut words = text.split_whitespace();
        let pair = (words.next()?.to_owned(), words.next()?.to_owned());
        if words.next().is_some() {
            return None;
        }
        pair
    };
    (!principal.is_empty() && !secret.is_empty()).then(|| Credential { principal, secret: Secret::new(secret) })
}

/// What those who are neither the owner nor of its group may do.
const OTHERS: u32 = 0o007;

/// Longer than any secret that fits into a header.
const MAX_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read_text(principal: Option<&str>, text: &str) -> Result<(String, String), String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let credential = read(principal, &path).map_err(|error| error.to_string())?;
        Ok((credential.principal, credential.secret.expose().to_owned()))
    }

    #[test]
    fn with_a_principal_the_file_is_the_secret() {
        for (text, secret) in [
            ("canary", "canary"),
            ("canary\n", "canary"),
            ("canary\r\n", "canary"),
            (" a b ", " a b "),
            ("ada x", "ada x"),
        ] {
            assert_eq!(read_text(Some("ada"), text), Ok(("ada".to_owned(), secret.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn without_one_it_holds_both() {
        for text in [
            "ada canary",
            "ada\tcanary\n",
            r#"{"principal": "ada", "secret": "canary"}"#,
            "{\n\"secret\":\"canary\",\"principal\":\"ada\"\n}\n",
        ] {
            assert_eq!(read_text(None, text), Ok(("ada".to_owned(), "canary".to_owned())), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_without_showing_it() {
        for (principal, text, why) in [
            (Some("ada"), "", "empty"),
            (Some("ada"), "\n", "empty"),
            (Some("ada"), "canary\ncanary\n", "more than one line"),
            (Some("ada"), "cana:ry", "colon"),
            (Some("ada"), r#"{"principal":"ada","secret":"canary"}"#, "do not name"),
            (Some("a:da"), "canary", "\"a:da\" has a colon"),
            (None, "canary", "PRINCIPAL SECRET"),
            (None, "ada canary canary", "PRINCIPAL SECRET"),
            (None, "ada cana:ry", "colon"),
            (None, r#"{"principal":"ada","secret":""}"#, "PRINCIPAL SECRET"),
            (None, r#"{"principal":"ada","canary":"x"}"#, "PRINCIPAL SECRET"),
        ] {
            let said = read_text(principal, text).unwrap_err();
            assert!(said.contains(why) && !said.contains("canary") && !said.contains("cana:ry"), "{text:?}: {said}");
        }
        assert!(read_text(Some("ada"), &"x".repeat(5000)).unwrap_err().contains("too long"));
        assert!(read(None, Path::new("/nonexistent/secret")).unwrap_err().to_string().contains("/nonexistent/secret"));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "canary").unwrap();
        for (mode, is_private) in [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match read(Some("ada"), &path) {
                Ok(_) => assert!(is_private, "{mode:o}"),
                Err(error) => assert!(!is_private && error.to_string().contains("chmod o="), "{mode:o}: {error}"),
            }
        }
    }
}
