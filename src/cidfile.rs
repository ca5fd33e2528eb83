//! `--cidfile`: the engine's id of the container in a file, as `docker run` writes it.
//!
//! The file is made at the start, so that a launch whose file is there already ends before it begins, and is taken away
//! again if the agent never tells an id.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use proto::mesos::TaskStatus;
use proto::record::TaskRecord;
use serde::Deserialize;

/// The file, until it is filled.
#[derive(Debug)]
pub struct CidFile {
    path: PathBuf,
    file: Option<File>,
}

impl CidFile {
    /// Makes the file.
    ///
    /// # Errors
    /// It cannot be made, or is there already; the text says so.
    pub fn create(path: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => format!(
                "cannot write --cidfile {:?}: it is there already; remove it if no other container is its own",
                path
            ),
            _ => format!("cannot write --cidfile {path:?}: {error}"),
        };
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    /// Fills the file with the first id that a status tells.
    ///
    /// # Errors
    /// It could not be written; the text says so.
    pub fn learn(&mut self, status: &TaskStatus) -> Result<(), String> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let Some(id) = engine_id(status) else { return Ok(()) };
        let written = file.write_all(id.as_bytes());
        self.file = None;
        written.map_err(|error| format!("cannot write --cidfile {:?}: {error}", self.path))
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // What is left is an empty file, which a next launch would name.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Our executor tells it in its record, Mesos' own docker executor in the text of `docker inspect`.
fn engine_id(status: &TaskStatus) -> Option<String> {
    #[derive(Deserialize)]
    struct Inspected {
        #[serde(rename = "Id")]
        id: String,
    }
    let data = status.data.as_deref()?;
    match TaskRecord::parse(data) {
        Some(record) => record.container,
        None => serde_json::from_slice::<Vec<Inspected>>(data).ok()?.into_iter().next().map(|inspected| inspected.id),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn status(data: &[u8]) -> TaskStatus {
        TaskStatus { data: Some(data.to_vec()), ..Default::default() }
    }

    #[test]
    fn the_first_id_that_any_executor_tells_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let inspect = br#"[{"Id":"abc","Name":"/mesos-x"}]"#.to_vec();
        let record = TaskRecord { version: 1, container: Some("def".to_owned()), ..TaskRecord::default() }.to_bytes();
        for (name, data, expected) in [("stock", inspect, "abc"), ("ours", record, "def")] {
            let path = directory.path().join(name);
            let mut file = CidFile::create(&path).unwrap();
            file.learn(&TaskStatus::default()).unwrap();
            file.learn(&status(b"\xff")).unwrap();
            file.learn(&status(&data)).unwrap();
            file.learn(&status(br#"[{"Id":"later"}]"#)).unwrap();
            drop(file);
            assert_eq!(fs::read_to_string(path).unwrap(), expected);
        }
    }

    #[test]
    fn a_file_that_is_there_is_not_touched_and_an_empty_one_not_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cid");
        drop(CidFile::create(&path).unwrap());
        assert!(!path.exists());
        fs::write(&path, "other").unwrap();
        assert!(CidFile::create(&path).unwrap_err().contains("there already"));
        assert_eq!(fs::read_to_string(path).unwrap(), "other");
    }
}
