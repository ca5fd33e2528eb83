//! What was fetched before, for URIs whose task allows it: one directory for each user of a slave.
//!
//! Nothing is taken from it without asking: its server says whether the file is still the same one, by the validators that it
//! gave with it. Files of servers that give none are not kept. Each is one file, replaced whole: a line with the validators, then the
//! bytes. When there is no room for a new one, the oldest go.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::inside::Inside;

/// How a server tells whether a file is still the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Validators {
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

impl Validators {
    fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// The directory, which the user that fetches owns.
#[derive(Debug)]
pub(super) struct Cache {
    directory: Inside,
    max_bytes: u64,
}

impl Cache {
    pub(super) fn new(directory: Inside, max_bytes: u64) -> Self {
        Self { directory, max_bytes }
    }

    /// What is kept of a URI, to be read behind its validators.
    pub(super) fn find(&self, uri: &str) -> Option<(Validators, BufReader<File>)> {
        let mut file = BufReader::new(self.directory.open_file(&name(uri)).ok()?);
        let mut line = String::new();
        file.by_ref().take(MAX_LINE_BYTES).read_line(&mut line).ok()?;
        Some((serde_json::from_str(&line).ok()?, file))
    }

    /// Keeps a file, from where it is read on.
    ///
    /// # Errors
    /// It is not kept; the one before it is.
    pub(super) fn keep(&self, uri: &str, validators: &Validators, mut file: &File) -> io::Result<()> {
        let size = file.metadata()?.len();
        if validators.is_empty() || size > self.max_bytes {
            return Ok(());
        }
        self.make_room(size)?;
        let new = PathBuf::from(format!("new-{}", std::process::id()));
        let mut kept = self.directory.create_file(&new, 0o600)?;
        let mut line = serde_json::to_vec(validators).map_err(io::Error::other)?;
        line.push(b'\n');
        kept.write_all(&line)?;
        io::copy(&mut file, &mut kept)?;
        self.directory.rename(&new, &name(uri))
    }

    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for name in self.directory.names()? {
            let metadata = self.directory.open_file(&name)?.metadata()?;
            files.push((metadata.modified()?, metadata.len(), name));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, name) in files {
            if total.saturating_add(bytes) <= self.max_bytes {
                break;
            }
            self.directory.remove_file(&name)?;
            total -= size;
        }
        Ok(())
    }
}

/// The URI may hold secrets, so it does not stand there.
fn name(uri: &str) -> PathBuf {
    let digest = Sha256::digest(uri.as_bytes());
    Path::new(&digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).to_owned()
}

const MAX_LINE_BYTES: u64 = 16 << 10;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn kept(cache: &Cache, uri: &str) -> Option<String> {
        let (_, mut file) = cache.find(uri)?;
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        Some(text)
    }

    fn keep(cache: &Cache, uri: &str, text: &str, etag: Option<&str>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let validators = Validators { etag: etag.map(str::to_owned), last_modified: None };
        cache.keep(uri, &validators, &File::open(file.path()).unwrap()).unwrap();
    }

    #[test]
    fn what_can_be_asked_about_is_kept_and_the_oldest_go() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(Inside::open(directory.path()).unwrap(), 300);
        keep(&cache, "a", "of a", None);
        assert_eq!(kept(&cache, "a"), None);
        keep(&cache, "a", "of a", Some("1"));
        keep(&cache, "a", "of a again", Some("2"));
        assert_eq!(kept(&cache, "a").as_deref(), Some("of a again"));
        assert_eq!(cache.find("a").unwrap().0.etag.as_deref(), Some("2"));
        keep(&cache, "b", &"b".repeat(301), Some("1"));
        assert_eq!(kept(&cache, "b"), None);
        keep(&cache, "b", &"b".repeat(280), Some("1"));
        assert_eq!((kept(&cache, "a"), kept(&cache, "b").map(|text| text.len())), (None, Some(280)));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
