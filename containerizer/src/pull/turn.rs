//! One pull per image and host, however many tasks want it.
//!
//! Who pulls holds the kernel's lock on a file of the host and writes into it how far it is. Who wants the same image reads
//! along, and takes the outcome for its own. When the one who pulls is killed, the lock is free and there is no outcome: the
//! next one pulls.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proto::record::PullProgress;
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::environment::{DOCKER_HOST, Environment};
use crate::spec::Image;

/// Whose pull it is.
#[derive(Debug)]
pub(super) enum Turn {
    Mine(Mine),
    /// Another's, which is over.
    Others(Outcome),
}

/// Waits while another pulls, and passes on how far that is.
pub(super) async fn take(environment: &Environment, image: &Image, on_progress: impl FnMut(PullProgress)) -> Turn {
    let path = directory(environment).map(|directory| directory.join(file_name(environment, image)));
    match path {
        Ok(path) => take_at(&path, on_progress).await,
        Err(error) => {
            tracing::warn!(%error, "others may pull the same image at the same time");
            Turn::Mine(Mine { file: None, path: PathBuf::new(), next: Instant::now() })
        }
    }
}

async fn take_at(path: &Path, mut on_progress: impl FnMut(PullProgress)) -> Turn {
    let mut told = None;
    loop {
        let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).expect("a flag is small");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow);
        let Ok(file) = options.open(path) else {
            return Turn::Mine(Mine { file: None, path: PathBuf::new(), next: Instant::now() });
        };
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if let Some(Note::Progress(progress)) = read(&file)
                && told.as_ref() != Some(&progress)
            {
                told = Some(progress.clone());
                on_progress(progress);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        // It is not there any more when who held it is through.
        let is_through = file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        match read(&file) {
            Some(Note::Outcome(outcome)) if is_through => return Turn::Others(outcome),
            _ if is_through => {}
            _ => return Turn::Mine(Mine { file: Some(file), path: path.to_owned(), next: Instant::now() }),
        }
    }
}

/// The right to pull, until dropped.
#[derive(Debug)]
pub(super) struct Mine {
    /// `None` where nobody else can be told.
    file: Option<File>,
    path: PathBuf,
    next: Instant,
}

impl Mine {
    /// Tells those who wait how far it is.
    pub(super) fn note(&mut self, progress: &PullProgress) {
        if Instant::now() >= self.next {
            self.next = Instant::now() + LOOK_INTERVAL;
            self.write(&Note::Progress(progress.clone()));
        }
    }

    /// Tells those who wait how it went.
    pub(super) fn finish(mut self, outcome: &Outcome) {
        // Who comes from now on asks anew, even should we end here.
        self.unlink();
        self.write(&Note::Outcome(outcome.clone()));
    }

    fn unlink(&mut self) {
        if self.file.is_some() && !self.path.as_os_str().is_empty() {
            let _ = std::fs::remove_file(std::mem::take(&mut self.path));
        }
    }

    fn write(&mut self, note: &Note) {
        let Some(file) = &mut self.file else { return };
        let bytes = serde_json::to_vec(note).expect("plain fields always serialize");
        // Those who wait do without; they see the lock in any case.
        let _ = file.rewind().and_then(|()| file.set_len(0)).and_then(|()| file.write_all(&bytes));
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        self.unlink();
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Note {
    Progress(PullProgress),
    Outcome(Outcome),
}

/// `None` also while it is being written.
fn read(file: &File) -> Option<Note> {
    let mut bytes = vec![0; MAX_NOTE_BYTES];
    let count = file.read_at(&mut bytes, 0).ok()?;
    serde_json::from_slice(&bytes[..count]).ok()
}

/// Ours alone: root's on the whole host, else one of each user.
fn directory(environment: &Environment) -> io::Result<PathBuf> {
    let uid = rustix::process::geteuid();
    let base = if uid.is_root() {
        PathBuf::from("/run")
    } else {
        environment.get("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
    };
    let own = if uid.is_root() { "launch-container".to_owned() } else { format!("launch-container-{}", uid.as_raw()) };
    let path = base.join(own);
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = path.symlink_metadata()?;
    if !metadata.is_dir() || metadata.uid() != uid.as_raw() || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!("{} is not ours alone", path.display())));
    }
    Ok(path)
}

/// One for each image and engine.
fn file_name(environment: &Environment, image: &Image) -> String {
    let key = format!("{} {image}", environment.get(DOCKER_HOST).unwrap_or_default());
    // FNV-1a: the same in every version of this program.
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let readable: String = image.to_string().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("pull-{}-{hash:016x}", &readable[..readable.len().min(100)])
}

const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A reason of the engine's has some hundred bytes.
const MAX_NOTE_BYTES: usize = 64 << 10;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    async fn mine(path: &Path) -> Mine {
        match take_at(path, |_| ()).await {
            Turn::Mine(mine) => mine,
            Turn::Others(outcome) => panic!("{outcome:?}"),
        }
    }

    #[tokio::test]
    async fn who_waits_sees_the_progress_and_has_the_outcome() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let mut first = mine(&path).await;
        let progress = PullProgress { image: "web".into(), layers_done: 1, ..PullProgress::default() };
        first.note(&progress);
        let mut first = Some(first);
        let mut seen = Vec::new();
        let outcome = Outcome::NotFound { reason: "gone".into() };
        let turn = take_at(&path, |progress| {
            seen.push(progress);
            first.take().unwrap().finish(&outcome);
        });
        let Turn::Others(heard) = turn.await else { panic!("a second pull") };
        assert_eq!((heard, seen), (outcome.clone(), vec![progress]));
        // Who comes later asks anew.
        drop(mine(&path).await);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_pull_that_is_given_up_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let mut first = mine(&path).await;
        first.note(&PullProgress::default());
        let mut first = Some(first);
        let turn = take_at(&path, |_| drop(first.take())).await;
        assert!(matches!(turn, Turn::Mine(_)));
    }

    #[test]
    fn each_image_and_engine_has_a_file() {
        let name = |host: &str, image: &str| {
            file_name(&[(DOCKER_HOST, host)].into_iter().collect(), &Image::parse(image).unwrap())
        };
        assert_eq!(name("h", "web"), name("h", "web:latest"));
        assert_ne!(name("h", "web"), name("h", "web:1"));
        assert_ne!(name("h", "web"), name("i", "web"));
        assert!(name("h", "a/".repeat(200).trim_end_matches('/')).len() < 200);
    }
}
