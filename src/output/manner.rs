//! What the user wants of the two streams: lines with a beginning, whole lines, a file beside, nothing at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::fstat;

use super::dress::Shape;
use crate::cli::OutputOptions;

/// What to do with one stream's bytes.
#[derive(Debug, Default)]
pub struct Manner {
    /// What is done to its lines.
    pub shape: Shape,
    /// Whether the process's own stream gets nothing.
    pub is_mute: bool,
    /// Takes the bytes as they are.
    pub copy: Option<(PathBuf, File)>,
    /// Taken for each write of whole lines, where the other stream goes to the same place.
    pub turn: Option<Arc<Mutex<()>>>,
}

/// The manners of stdout and stderr of a task called `name`. Makes the directory and the files of `--output-dir`.
///
/// # Errors
/// One of the files has something in it already, or cannot be made; the text says so.
pub fn manners(options: &OutputOptions, name: &str) -> Result<[Manner; 2], String> {
    let streams = ["stdout", "stderr"];
    let copies = match &options.output_dir {
        Some(directory) => copies(directory, streams)?,
        None => [None, None],
    };
    let turn = (options.line_buffer && is_one_place()).then(Arc::<Mutex<()>>::default);
    let is_mute = [options.no_stdout, options.no_stderr];
    let mut manners = streams.into_iter().zip(is_mute).zip(copies).map(|((stream, is_mute), copy)| Manner {
        shape: Shape {
            has_time: options.timestamps,
            tag: options.tag.as_ref().map(|tag| tag.replace("{name}", name).replace("{stream}", stream).into_bytes()),
            is_whole_lines: options.line_buffer,
        },
        is_mute,
        copy,
        turn: turn.clone(),
    });
    let mut next = || manners.next().expect("two streams");
    Ok([next(), next()])
}

type Copies = [Option<(PathBuf, File)>; 2];

/// An empty file is nobody's output: a launch that failed before its task ran leaves such files.
fn copies(directory: &Path, streams: [&str; 2]) -> Result<Copies, String> {
    let failed = |path: &Path, error: io::Error| format!("cannot write --output-dir: {path:?}: {error}");
    fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    let paths = streams.map(|stream| directory.join(stream));
    for path in &paths {
        if fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0 || !metadata.is_file()) {
            return Err(format!(
                "cannot write --output-dir: {path:?} is there already; remove it, or name another directory"
            ));
        }
    }
    let open = |path: PathBuf| {
        let file = OpenOptions::new().append(true).create(true).open(&path).map_err(|error| failed(&path, error))?;
        Ok::<_, String>(Some((path, file)))
    };
    let [stdout, stderr] = paths;
    Ok([open(stdout)?, open(stderr)?])
}

/// Whether stdout and stderr of the process are the same file, pipe or terminal.
fn is_one_place() -> bool {
    let place = |fd: std::os::fd::BorrowedFd<'_>| fstat(fd.as_fd()).ok().map(|stat| (stat.st_dev, stat.st_ino));
    let stdout = place(rustix::stdio::stdout());
    stdout.is_some() && stdout == place(rustix::stdio::stderr())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn files_with_something_in_them_are_never_written() {
        let directory = tempfile::tempdir().unwrap();
        let output_dir = directory.path().join("new/deep");
        let options = OutputOptions { output_dir: Some(output_dir.clone()), ..OutputOptions::default() };
        let [stdout, stderr] = manners(&options, "web").unwrap();
        assert_eq!(stdout.copy.unwrap().0, output_dir.join("stdout"));
        assert_eq!(stderr.copy.unwrap().0, output_dir.join("stderr"));
        assert!(manners(&options, "web").is_ok(), "nothing was written");
        fs::write(output_dir.join("stderr"), "x").unwrap();
        let error = manners(&options, "web").unwrap_err();
        assert!(error.contains("stderr") && error.contains("another directory"), "{error}");
        assert_eq!(fs::read(output_dir.join("stderr")).unwrap(), b"x");
        let options = OutputOptions { output_dir: Some(output_dir.join("stderr/below")), ..OutputOptions::default() };
        assert!(manners(&options, "web").unwrap_err().starts_with("cannot write --output-dir"));
    }

    #[test]
    fn a_tag_names_the_task_and_the_stream() {
        let options = OutputOptions { tag: Some("{name}/{stream}".to_owned()), ..OutputOptions::default() };
        let tags = manners(&options, "web").unwrap().map(|manner| manner.shape.tag.unwrap());
        assert_eq!(tags, [b"web/stdout".to_vec(), b"web/stderr".to_vec()]);
    }
}
