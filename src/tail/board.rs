//! What the loops of one tail share: how far each file is, whether the task has ended, what goes wrong.
//!
//! A lock, never held over an await, and a bell that says that something on the board has changed.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::agent::Fault;
use super::cursor::{Answer, Cursor, Place, Shrank, Want};
use super::pace::Outage;
use super::{FileTailed, Lost, Report, Stream, files};
use crate::output::{Trouble, Written};

/// The shared state.
#[derive(Debug)]
pub(super) struct Board {
    /// From which all moments are counted.
    began: Instant,
    state: Mutex<State>,
    news: watch::Sender<()>,
    reports: mpsc::UnboundedSender<Report>,
}

#[derive(Debug)]
struct State {
    /// The sandbox, once found; kept, because the path stays readable when the agent has forgotten the executor.
    directory: Option<Vec<u8>>,
    files: [File; 2],
    /// When the terminal update was seen.
    ended: Option<Duration>,
    /// How long at most anything is waited for then.
    patience: Duration,
    /// Outages that go on and that a person was told of.
    outages_told: u32,
}

#[derive(Debug)]
struct File {
    cursor: Cursor,
    /// Bytes given to the sink or passed over.
    fetched: u64,
    /// Bytes that were fetched and are for nobody.
    cut: u64,
    /// Why it was given up.
    given_up: Option<String>,
}

/// What to do for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// Wait for news.
    Wait,
    /// Read; after a while, if `settle`.
    Read { path: Vec<u8>, place: Place, settle: bool },
    /// Download.
    Download { path: Vec<u8>, place: Place },
    /// All is read, or all is given up.
    Over,
}

/// What to do after a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    TryAfter(Duration),
    GiveUp,
}

impl Board {
    pub(super) fn new(reports: mpsc::UnboundedSender<Report>, from: [u64; 2]) -> Self {
        let files = from.map(|offset| File { cursor: Cursor::at(offset), fetched: 0, cut: 0, given_up: None });
        let state = State { directory: None, files, ended: None, patience: Duration::MAX, outages_told: 0 };
        Self { began: Instant::now(), state: Mutex::new(state), news: watch::Sender::new(()), reports }
    }

    /// This moment.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits until `moment`.
    pub(super) async fn sleep_until(&self, moment: Duration) {
        tokio::time::sleep_until(self.began + moment).await;
    }

    /// Changes whenever [`Self::task`] may say something else than before.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    pub(super) fn report(&self, report: Report) {
        // Nobody has to listen.
        let _ = self.reports.send(report);
    }

    pub(super) fn task(&self, stream: Stream) -> Task {
        let state = self.state();
        let file = &state.files[stream as usize];
        if file.given_up.is_some() {
            return Task::Over;
        }
        let Some(directory) = &state.directory else {
            return if file.cursor.want() == Want::Done { Task::Over } else { Task::Wait };
        };
        let path = stream.path_in(directory);
        match file.cursor.want() {
            Want::More => Task::Wait,
            Want::Read(place) => Task::Read { path, place, settle: false },
            Want::Settle(place) => Task::Read { path, place, settle: true },
            Want::Download(place) => Task::Download { path, place },
            Want::Done => Task::Over,
        }
    }

    pub(super) fn place(&self, stream: Stream) -> Place {
        self.state().files[stream as usize].cursor.place()
    }

    pub(super) fn directory(&self) -> Option<Vec<u8>> {
        self.state().directory.clone()
    }

    /// A listing of `directory` that was asked for at `asked_at` shows these sizes.
    pub(super) fn listed(&self, directory: Vec<u8>, sizes: [Option<u64>; 2], asked_at: [Place; 2]) {
        let mut state = self.state();
        state.directory = Some(directory);
        for stream in Stream::ALL {
            let index = stream as usize;
            if let Some(shrank) = state.files[index].cursor.sized(sizes[index], asked_at[index]) {
                self.report(shrank_notice(stream, shrank));
            }
        }
        self.news.send_replace(());
    }

    /// A read was answered; the bytes that are new, if any.
    pub(super) fn answered(&self, stream: Stream, asked_at: Place, read: files::Read) -> Result<Option<Bytes>, Fault> {
        let file = &mut self.state().files[stream as usize];
        match file.cursor.answered(asked_at, read) {
            Answer::Data(data) => {
                file.fetched += data.len() as u64;
                return Ok(Some(data));
            }
            Answer::Shrank(shrank) => self.report(shrank_notice(stream, shrank)),
            Answer::Dry | Answer::Stale => {}
            Answer::Misplaced => return Err(Fault::senseless("it does not begin at the byte that was asked for")),
        }
        Ok(None)
    }

    /// The part of a download's chunk that is new; `None` when the rest is of no use.
    pub(super) fn downloaded(
        &self,
        stream: Stream,
        asked_at: Place,
        position: &mut u64,
        chunk: Bytes,
    ) -> Option<Bytes> {
        let file = &mut self.state().files[stream as usize];
        let new = file.cursor.downloaded(asked_at, position, chunk)?;
        file.fetched += new.len() as u64;
        Some(new)
    }

    pub(super) fn download_ended(&self, stream: Stream, asked_at: Place) {
        self.state().files[stream as usize].cursor.download_ended(asked_at);
    }

    pub(super) fn download_refused(&self, stream: Stream) {
        self.state().files[stream as usize].cursor.download_refused();
    }

    /// Passes over what is known to be unread because nobody wants it; says how many bytes.
    pub(super) fn pass_over(&self, stream: Stream) -> u64 {
        let file = &mut self.state().files[stream as usize];
        let count = file.cursor.discard();
        file.fetched += count;
        count
    }

    /// So many of the fetched bytes are not given to the sink.
    pub(super) fn cut(&self, stream: Stream, count: u64) {
        let file = &mut self.state().files[stream as usize];
        file.fetched = file.fetched.saturating_sub(count);
        file.cut += count;
    }

    /// The terminal update was seen, or the task was given up; what fails from now on is waited for at most for `patience`.
    pub(super) fn ended(&self, recorded: [Option<u64>; 2], patience: Duration) {
        let mut state = self.state();
        state.ended = Some(self.now());
        state.patience = patience;
        for (file, bytes) in state.files.iter_mut().zip(recorded) {
            file.cursor.ended(bytes);
        }
        self.news.send_replace(());
    }

    /// The last listing was the last word on both files.
    pub(super) fn close(&self) {
        self.state().files.iter_mut().for_each(|file| file.cursor.close());
        self.news.send_replace(());
    }

    /// Whether another look at the sandbox can tell anything.
    pub(super) fn needs_looks(&self) -> bool {
        let state = self.state();
        let needs_looks = |file: &File| {
            let is_lost = state.directory.is_none() && file.cursor.want() != Want::Done;
            file.given_up.is_none() && (file.cursor.is_open() || is_lost)
        };
        state.ended.is_none() || state.files.iter().any(needs_looks)
    }

    /// Nobody will look any more: what is not known by now will not be read.
    pub(super) fn give_up_looking(&self, fault: &Fault) {
        let mut state = self.state();
        let is_lost = state.directory.is_none();
        let left = state.files.iter_mut().filter(|file| is_lost || file.cursor.is_open());
        left.for_each(|file| file.given_up = Some(fault.why.clone()));
        self.news.send_replace(());
    }

    /// Nobody will read this file any more.
    pub(super) fn give_up(&self, stream: Stream, fault: Fault) {
        self.state().files[stream as usize].given_up = Some(fault.why);
    }

    /// Notes a failed request, as the first of an outage or one more.
    pub(super) fn failed(&self, outage: &mut Option<Outage>, fault: &Fault) -> Verdict {
        let now = self.now();
        let mut state = self.state();
        let before = outage.take();
        let outage = outage.insert(Outage::after(before, fault.kind, now));
        if outage.should_tell(now) {
            state.outages_told += 1;
            if state.outages_told == 1 {
                self.report(Report::Notice(format!("{fault}; trying again")));
            }
        }
        if outage.is_hopeless(now, state.ended, state.patience) {
            Verdict::GiveUp
        } else {
            Verdict::TryAfter(outage.pause())
        }
    }

    /// Notes an answered request, which ends an outage.
    pub(super) fn recovered(&self, outage: &mut Option<Outage>) {
        if outage.take().is_some_and(|outage| outage.was_told()) {
            let mut state = self.state();
            state.outages_told -= 1;
            if state.outages_told == 0 {
                self.report(Report::Notice("the agent serves the task's output again".to_owned()));
            }
        }
    }

    /// What became of a file, of which its stream has `done` so much.
    pub(super) fn result(&self, stream: Stream, done: &Written) -> FileTailed {
        let state = self.state();
        let file = &state.files[stream as usize];
        let missing = file.cursor.missing();
        let (bytes_discarded, lost) = match &done.trouble {
            Some(Trouble::Failed(why)) => {
                (0, Some(Lost { bytes: Some(done.discarded + missing.unwrap_or(0)), why: why.clone() }))
            }
            Some(Trouble::ReaderLeft | Trouble::Unwanted) => (done.discarded, None),
            None => {
                // Fetched, but the sink still has it: nobody waited.
                let pending = file.fetched.saturating_sub(done.written + done.discarded);
                let is_complete = !file.cursor.is_open() && missing == Some(0) && pending == 0;
                // Where the end is not known this may not be all, but it is something.
                let bytes = missing.map(|missing| missing + pending).filter(|&bytes| bytes > 0);
                let lost = (!is_complete).then(|| Lost { bytes, why: file.why_unread(stream, pending) });
                (done.discarded, lost)
            }
        };
        FileTailed { bytes_written: done.written, bytes_discarded, bytes_cut: file.cut, lost }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }
}

impl File {
    fn why_unread(&self, stream: Stream, pending: u64) -> String {
        if let Some(why) = &self.given_up {
            return why.clone();
        }
        let name = stream.name();
        if pending == 0 && self.cursor.want() == Want::Done {
            format!("the sandbox's {name} ends before the size that the executor recorded")
        } else {
            format!("the launcher stopped before it had read the sandbox's {name} to its end")
        }
    }
}

fn shrank_notice(stream: Stream, Shrank { from, to }: Shrank) -> Report {
    Report::Notice(format!(
        "the sandbox's {} shrank from {from} bytes to {to}: following it from its beginning; what was written \
         in between and not read is lost",
        stream.name()
    ))
}
