//! Tells how far a pull is: to the executor, in a file of the sandbox, and, when it takes long, in the sandbox's `stderr`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::record::{PULL_PROGRESS_FILE, PullProgress};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::lifecycle::Event;

/// Takes a line.
pub(crate) type Say = Box<dyn FnMut(&str)>;

/// Takes its file away when the pull is over or given up.
pub(crate) struct Report {
    path: PathBuf,
    events: mpsc::Sender<Event>,
    /// `None` where the sandbox's `stderr` is the task's alone.
    say: Option<Say>,
    latest: Option<PullProgress>,
    image: String,
    next: Instant,
    next_line: Instant,
}

impl Report {
    pub(crate) fn new(sandbox: &Path, image: &str, events: mpsc::Sender<Event>, say: Option<Say>) -> Self {
        let now = Instant::now();
        Self {
            path: sandbox.join(PULL_PROGRESS_FILE),
            events,
            say,
            latest: None,
            image: image.to_owned(),
            next: now,
            next_line: now + LINE_INTERVAL,
        }
    }

    pub(super) fn progress(&mut self, progress: PullProgress) {
        self.latest = Some(progress.clone());
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + PROGRESS_INTERVAL;
        let new = self.path.with_extension("new");
        let bytes = serde_json::to_vec(&progress).expect("plain fields always serialize");
        // Progress that cannot be shown is no reason to stop; neither is an executor that is busy.
        let _ = std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &self.path));
        let _ = self.events.try_send(Event::Pulling(progress));
    }

    /// When [`Report::line`] is due.
    pub(super) fn next_line(&self) -> Instant {
        self.next_line
    }

    pub(super) fn line(&mut self) {
        self.next_line = Instant::now() + LINE_INTERVAL;
        let text = match &self.latest {
            None => format!("pulling {}: waiting for its registry", self.image),
            Some(PullProgress { image, layers_done, layers_total, bytes_done, bytes_total }) => {
                let megabytes = |bytes: &u64| bytes / 1_000_000;
                let (done, total) = (megabytes(bytes_done), megabytes(bytes_total));
                format!("pulling {image}: {layers_done} of {layers_total} layers, {done} of {total} MB")
            }
        };
        self.say(&text);
    }

    pub(super) fn say(&mut self, text: &str) {
        if let Some(say) = &mut self.say {
            say(text);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A display shows a few figures a second.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// A log is read later; and what takes less leaves `stderr` to the task.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn a_pull_is_told_and_its_file_goes_with_it() {
        let sandbox = tempfile::tempdir().unwrap();
        let (events, mut told) = mpsc::channel(1);
        let mut report = Report::new(sandbox.path(), "web", events, None);
        let progress = PullProgress { image: "web".into(), layers_total: 2, ..PullProgress::default() };
        report.progress(progress.clone());
        report.progress(PullProgress::default());
        let written = std::fs::read(sandbox.path().join(PULL_PROGRESS_FILE)).unwrap();
        assert_eq!(serde_json::from_slice::<PullProgress>(&written).unwrap(), progress);
        assert_eq!(told.recv().await, Some(Event::Pulling(progress)));
        drop(report);
        assert_eq!(std::fs::read_dir(sandbox.path()).unwrap().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_pull_has_a_line_every_five_seconds() {
        let sandbox = tempfile::tempdir().unwrap();
        let (events, _told) = mpsc::channel(1);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = lines.clone();
        let say = move |text: &str| heard.lock().unwrap().push(text.to_owned());
        let mut report = Report::new(sandbox.path(), "web:1", events, Some(Box::new(say)));
        let start = Instant::now();
        assert_eq!(report.next_line(), start + LINE_INTERVAL);
        report.line();
        let progress = PullProgress {
            image: "web:1".into(),
            layers_done: 3,
            layers_total: 7,
            bytes_done: 41_500_000,
            bytes_total: 212_000_000,
        };
        report.progress(progress);
        report.line();
        assert_eq!(
            *lines.lock().unwrap(),
            ["pulling web:1: waiting for its registry", "pulling web:1: 3 of 7 layers, 41 of 212 MB"]
        );
    }
}
