//! The shell around [`Cursor`] and [`Pace`]: asks the agent, fills the sinks.
//!
//! Three loops run side by side in one future and share a [`Board`]: one looks out, one follows each file. The board's lock is
//! never held over an await.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use proto::http::Client;
use proto::record::{PULL_PROGRESS_FILE, PullProgress};
use tokio::sync::{mpsc, watch};

use super::agent::{Agent, Fault, Listing};
use super::cursor::{Answer, Cursor, Place, Shrank, Want};
use super::locate::{Found, Locator};
use super::pace::{FaultKind, Outage, Pace, SLOW};
use super::{FileTailed, Location, Lost, Outputs, Phase, Report, Stream, Tailed};
use crate::output::{Sink, Trouble, Written};

/// Writes the sandbox's stdout and stderr to `outputs` until the task has ended and everything was read, and waits until the
/// sinks have written it.
///
/// Returns early only on [`Phase::Abandon`] or, when the agent stays away, after the limits in the module's text. Dropping the future
/// is safe but leaves what the sinks hold to be written. Memory: about 3 MB at most, with both sinks full.
pub async fn follow(
    client: Client,
    location: Location,
    outputs: Outputs,
    mut control: watch::Receiver<Phase>,
) -> Tailed {
    let looking = control.clone();
    let tail = Tail::new(client, &location, outputs);
    tokio::select! {
        // What has ended is not abandoned.
        biased;
        () = tail.run(&location, looking) => {}
        () = abandoned(&mut control) => {}
    }
    tail.result()
}

/// Ready when the caller does not want any more.
async fn abandoned(control: &mut watch::Receiver<Phase>) {
    loop {
        let phase = *control.borrow_and_update();
        if phase == Phase::Abandon {
            return;
        }
        if control.changed().await.is_err() {
            if matches!(phase, Phase::Ended { .. }) {
                std::future::pending::<()>().await;
            }
            return;
        }
    }
}

struct Tail {
    agent: Agent,
    sinks: [Sink; 2],
    /// What the sinks had done before.
    before: [Written; 2],
    reports: mpsc::UnboundedSender<Report>,
    wants_pull_progress: bool,
    board: Mutex<Board>,
    /// The board has changed.
    news: watch::Sender<()>,
}

/// What the loops tell each other.
#[derive(Debug)]
struct Board {
    /// The sandbox, once found.
    directory: Option<Vec<u8>>,
    files: [File; 2],
    /// When the terminal update was seen.
    ended: Option<Instant>,
    /// Outages that a person was told of.
    outages_told: u32,
}

#[derive(Debug)]
struct File {
    cursor: Cursor,
    /// Bytes given to the sink or passed over, at all.
    fetched: u64,
    /// Why it was given up.
    given_up: Option<String>,
}

impl Tail {
    fn new(client: Client, location: &Location, outputs: Outputs) -> Self {
        let Outputs { stdout, stderr, reports, wants_pull_progress } = outputs;
        let file = || File { cursor: Cursor::new(), fetched: 0, given_up: None };
        let board = Board { directory: None, files: [file(), file()], ended: None, outages_told: 0 };
        Self {
            agent: Agent::new(client, location),
            before: [stdout.written(), stderr.written()],
            sinks: [stdout, stderr],
            reports,
            wants_pull_progress,
            board: Mutex::new(board),
            news: watch::Sender::new(()),
        }
    }

    async fn run(&self, location: &Location, control: watch::Receiver<Phase>) {
        let look_out = LookOut::new(self, location);
        tokio::join!(look_out.run(control), self.follow_file(Stream::Stdout), self.follow_file(Stream::Stderr));
        let [stdout, stderr] = &self.sinks;
        tokio::join!(stdout.flush(), stderr.flush());
    }

    /// Fetches one file until nothing more will come or can be had.
    async fn follow_file(&self, stream: Stream) {
        let sink = &self.sinks[stream as usize];
        let mut news = self.news.subscribe();
        let mut outage = None;
        loop {
            if sink.trouble().is_some() {
                self.pass_over(stream);
            }
            let (want, path) = {
                let board = self.board();
                let file = &board.files[stream as usize];
                let path = board.directory.as_ref().map(|directory| stream.path_in(directory));
                if file.given_up.is_some() {
                    return;
                }
                (file.cursor.want(), path)
            };
            let before = self.place(stream);
            let fetched = match (want, path) {
                (Want::Done, _) => return,
                (Want::More, _) | (_, None) => {
                    // The sender is in `self`.
                    let _ = news.changed().await;
                    continue;
                }
                (Want::Read(place), Some(path)) => self.read(stream, place, &path).await,
                (Want::Settle(place), Some(path)) => {
                    tokio::time::sleep(SLOW).await;
                    self.read(stream, place, &path).await
                }
                (Want::Download(place), Some(path)) => self.download(stream, place, &path).await,
            };
            if fetched.is_ok() || self.place(stream) != before {
                self.recovered(&mut outage);
            }
            if let Err(fault) = fetched {
                match self.failed(&mut outage, &fault) {
                    Verdict::TryAfter(pause) => tokio::time::sleep(pause).await,
                    Verdict::GiveUp => self.board().files[stream as usize].given_up = Some(fault.why),
                }
            }
        }
    }

    async fn read(&self, stream: Stream, place: Place, path: &[u8]) -> Result<(), Fault> {
        let read = self.agent.read(path, place.offset).await?;
        let answer = self.board().files[stream as usize].cursor.answered(place, read);
        match answer {
            Answer::Data(data) => {
                self.board().files[stream as usize].fetched += data.len() as u64;
                self.sinks[stream as usize].write(data).await;
            }
            Answer::Shrank(shrank) => self.tell_shrank(stream, shrank),
            Answer::Dry | Answer::Stale => {}
        }
        Ok(())
    }

    async fn download(&self, stream: Stream, place: Place, path: &[u8]) -> Result<(), Fault> {
        let sink = &self.sinks[stream as usize];
        let result = async {
            let mut download = self.agent.download(path).await?;
            let mut position = 0;
            while let Some(chunk) = download.chunk().await? {
                let Some(new) = self.downloaded(stream, place, &mut position, chunk) else { break };
                sink.write(new).await;
                if sink.trouble().is_some() {
                    break;
                }
            }
            Ok(())
        };
        let result = result.await;
        self.board().files[stream as usize].cursor.download_ended(place);
        result
    }

    fn downloaded(
        &self,
        stream: Stream,
        place: Place,
        position: &mut u64,
        chunk: bytes::Bytes,
    ) -> Option<bytes::Bytes> {
        let file = &mut self.board().files[stream as usize];
        let new = file.cursor.downloaded(place, position, chunk)?;
        file.fetched += new.len() as u64;
        Some(new)
    }

    /// Counts what nobody wants to be written instead of fetching it.
    fn pass_over(&self, stream: Stream) {
        let file = &mut self.board().files[stream as usize];
        let count = file.cursor.discard();
        file.fetched += count;
        self.sinks[stream as usize].discard(count);
    }

    /// Notes a failed request.
    fn failed(&self, outage: &mut Option<Outage>, fault: &Fault) -> Verdict {
        let mut board = self.board();
        let now = now();
        let before = outage.take();
        let current = outage.insert(Outage::after(before, fault.kind, now));
        if current.should_tell(now) {
            board.outages_told += 1;
            if board.outages_told == 1 {
                self.report(Report::Notice(format!("{fault}; trying again")));
            }
        }
        if current.is_hopeless(now, board.ended) { Verdict::GiveUp } else { Verdict::TryAfter(current.pause()) }
    }

    /// Notes an answered request.
    fn recovered(&self, outage: &mut Option<Outage>) {
        if outage.take().is_some_and(|outage| outage.was_told()) {
            let mut board = self.board();
            board.outages_told -= 1;
            if board.outages_told == 0 {
                self.report(Report::Notice("the agent serves the task's output again".to_owned()));
            }
        }
    }

    /// The terminal update was seen.
    fn ended(&self, recorded: [Option<u64>; 2]) {
        let mut board = self.board();
        board.ended = Some(now());
        for (file, bytes) in board.files.iter_mut().zip(recorded) {
            file.cursor.ended(bytes);
        }
        drop(board);
        self.news.send_replace(());
    }

    /// Nobody will look any more; what is not known by now will not be read.
    fn give_up(&self, fault: &Fault) {
        let mut board = self.board();
        let has_directory = board.directory.is_some();
        let left = board.files.iter_mut().filter(|file| !has_directory || file.cursor.is_open());
        left.for_each(|file| file.given_up = Some(fault.why.clone()));
        drop(board);
        self.news.send_replace(());
    }

    /// Whether no further look would tell anything.
    fn is_all_known(&self) -> bool {
        let board = self.board();
        board.ended.is_some()
            && board.files.iter().all(|file| {
                let is_known =
                    !file.cursor.is_open() && (board.directory.is_some() || file.cursor.want() == Want::Done);
                is_known || file.given_up.is_some()
            })
    }

    fn tell_shrank(&self, stream: Stream, Shrank { from, to }: Shrank) {
        let name = stream.name();
        self.report(Report::Notice(format!(
            "the sandbox's {name} shrank from {from} bytes to {to}, following it from its new beginning; \
             bytes that were not read before are lost"
        )));
    }

    fn report(&self, report: Report) {
        // Nobody has to listen.
        let _ = self.reports.send(report);
    }

    fn place(&self, stream: Stream) -> Place {
        self.board().files[stream as usize].cursor.place()
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().expect("nothing panics while it holds the lock")
    }

    fn result(&self) -> Tailed {
        let [stdout, stderr] = Stream::ALL.map(|stream| self.file_result(stream));
        Tailed { stdout, stderr }
    }

    fn file_result(&self, stream: Stream) -> FileTailed {
        let board = self.board();
        let file = &board.files[stream as usize];
        let (before, after) = (&self.before[stream as usize], self.sinks[stream as usize].written());
        let (written, discarded) = (after.written - before.written, after.discarded - before.discarded);
        // Fetched, but the sink still has it: the caller did not wait.
        let pending = file.fetched.saturating_sub(written + discarded);
        let missing = file.cursor.missing();
        let is_complete = missing == Some(0) && pending == 0 && !file.cursor.is_open();
        let unread = || {
            let why = file.given_up.clone().unwrap_or_else(|| match board.ended {
                Some(_) if !file.cursor.is_open() && pending == 0 => {
                    format!("the sandbox's {} ends before the size that the executor recorded", stream.name())
                }
                _ => format!("the launcher stopped before it had read the sandbox's {} to its end", stream.name()),
            });
            // Of a file whose end is not known, what is known to be missing may not be all, but it is something.
            let bytes = missing.map(|missing| missing + pending).filter(|&bytes| bytes > 0);
            Lost { bytes, why }
        };
        let (bytes_discarded, lost) = match after.trouble {
            Some(Trouble::Failed(why)) => (0, Some(Lost { bytes: Some(discarded + missing.unwrap_or(0)), why })),
            Some(Trouble::ReaderLeft) => (discarded, None),
            None => (discarded, (!is_complete).then(unread)),
        };
        FileTailed { bytes_written: written, bytes_discarded, lost }
    }
}

/// What to do after a failed request.
enum Verdict {
    TryAfter(Duration),
    GiveUp,
}

/// Looks at the sandbox until nothing more is to be learned from it.
struct LookOut<'a> {
    tail: &'a Tail,
    locator: Locator,
    timing: Timing,
    outage: Option<Outage>,
    /// As they were listed last.
    sizes: [Option<u64>; 2],
    /// As it was reported last.
    pull_progress: Option<PullProgress>,
}

/// What a change of phase touches; it may come while a look is on its way.
struct Timing {
    phase: Phase,
    pace: Pace,
    /// When the first of the two last listings was asked for.
    last_but_one: Option<Instant>,
}

impl<'a> LookOut<'a> {
    fn new(tail: &'a Tail, location: &Location) -> Self {
        let timing = Timing { phase: Phase::Waiting, pace: Pace::new(now()), last_but_one: None };
        let locator = Locator::new(location);
        Self { tail, locator, timing, outage: None, sizes: [None; 2], pull_progress: None }
    }

    async fn run(mut self, mut control: watch::Receiver<Phase>) {
        control.mark_changed();
        while !self.tail.is_all_known() {
            let next = tokio::time::Instant::from_std(self.timing.next_look());
            tokio::select! {
                biased;
                phase = next_phase(&mut control) => self.timing.enter(phase, self.tail),
                () = tokio::time::sleep_until(next) => self.look(&mut control).await,
            }
        }
    }

    async fn look(&mut self, control: &mut watch::Receiver<Phase>) {
        let tail = self.tail;
        let started = now();
        let asked_at = Stream::ALL.map(|stream| tail.place(stream));
        let phase = self.timing.phase;
        let wants_pull_progress = tail.wants_pull_progress && phase == Phase::Waiting;
        self.timing.pace.look_started(started);
        let seen = {
            let mut work = pin!(look(tail, &mut self.locator, phase, wants_pull_progress));
            loop {
                tokio::select! {
                    biased;
                    phase = next_phase(control) => {
                        self.timing.enter(phase, tail);
                        if tail.is_all_known() {
                            return;
                        }
                    }
                    seen = &mut work => break seen,
                }
            }
        };
        if self.timing.phase != phase {
            self.locator.expect_now();
        }
        match seen {
            Ok(seen) => self.saw(&seen, started, asked_at, phase),
            // Before the task runs its sandbox need not be there.
            Err(fault) if fault.kind == FaultKind::Missing && phase == Phase::Waiting => {
                self.timing.pace.looked(now(), false, 1);
            }
            Err(fault) => match tail.failed(&mut self.outage, &fault) {
                Verdict::TryAfter(pause) => self.timing.pace.failed(now(), pause),
                Verdict::GiveUp => tail.give_up(&fault),
            },
        }
    }

    /// Tells the followers what a look, which began in `phase`, has shown.
    fn saw(&mut self, seen: &Seen, started: Instant, asked_at: [Place; 2], phase: Phase) {
        let tail = self.tail;
        tail.recovered(&mut self.outage);
        let Listing { sizes, requests, .. } = seen.listing;
        for stream in Stream::ALL {
            let index = stream as usize;
            let shrank = tail.board().files[index].cursor.sized(sizes[index], asked_at[index]);
            if let Some(shrank) = shrank {
                tail.tell_shrank(stream, shrank);
            }
        }
        let has_grown = sizes.iter().zip(&self.sizes).any(|(size, before)| size.unwrap_or(0) > before.unwrap_or(0));
        self.sizes = sizes;
        self.timing.pace.looked(now(), has_grown, requests);
        if matches!(phase, Phase::Ended { .. }) {
            match self.timing.last_but_one {
                None => self.timing.last_but_one = Some(started),
                Some(_) => tail.board().files.iter_mut().for_each(|file| file.cursor.close()),
            }
        }
        if let Some(progress) =
            seen.pull_progress.clone().filter(|progress| Some(progress) != self.pull_progress.as_ref())
        {
            self.pull_progress = Some(progress.clone());
            tail.report(Report::Pulling(progress));
        }
        tail.news.send_replace(());
    }
}

impl Timing {
    fn enter(&mut self, phase: Phase, tail: &Tail) {
        if matches!(self.phase, Phase::Ended { .. }) {
            return;
        }
        match phase {
            Phase::Waiting | Phase::Abandon => {}
            Phase::Running => {
                self.phase = phase;
                self.pace.rang(now());
            }
            Phase::Ended { stdout_bytes, stderr_bytes } => {
                self.phase = phase;
                self.pace.rang(now());
                tail.ended([stdout_bytes, stderr_bytes]);
            }
        }
    }

    fn next_look(&self) -> Instant {
        let next = self.pace.next_look();
        self.last_but_one.map_or(next, |last_but_one| next.max(last_but_one + SLOW))
    }
}

/// What a look has shown.
struct Seen {
    listing: Listing,
    pull_progress: Option<PullProgress>,
}

async fn look(tail: &Tail, locator: &mut Locator, phase: Phase, wants_pull_progress: bool) -> Result<Seen, Fault> {
    let has_ended = matches!(phase, Phase::Ended { .. });
    let known = tail.board().directory.clone();
    let listed = match &known {
        Some(directory) => Some(tail.agent.list(directory).await),
        None => None,
    };
    let Found { directory, listing } = match (known, listed) {
        // Is it collected, or has the agent not found it yet after a restart?
        (Some(_), Some(Err(fault))) if fault.kind == FaultKind::Missing && has_ended => {
            locator.locate(&tail.agent, has_ended).await?
        }
        (Some(directory), Some(listing)) => Found { directory, listing: listing? },
        _ => locator.locate(&tail.agent, has_ended).await?,
    };
    let mut pull_progress = None;
    if wants_pull_progress && listing.has_pull_progress {
        let path = [&directory[..], b"/", PULL_PROGRESS_FILE.as_bytes()].concat();
        // It is removed when the pull is over, and the next look says more.
        let text = tail.agent.read(&path, 0).await.ok();
        pull_progress = text.and_then(|read| serde_json::from_slice(&read.data).ok());
    }
    tail.board().directory = Some(directory);
    Ok(Seen { listing, pull_progress })
}

/// The next phase that the caller sends; never, when it will send none.
async fn next_phase(control: &mut watch::Receiver<Phase>) -> Phase {
    if control.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    *control.borrow_and_update()
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
