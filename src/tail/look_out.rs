//! Looks at the sandbox again and again, and tells the board how much there is to read.
//!
//! It is also where a change of phase arrives, even while a look is on its way: a look that hangs holds up nobody.

use std::pin::pin;
use std::time::Duration;

use proto::record::{PULL_PROGRESS_FILE, PullProgress};
use tokio::sync::watch;

use super::agent::{Agent, Fault};
use super::board::{Board, Verdict};
use super::locate::{Found, Locator};
use super::pace::{FaultKind, GIVEN_UP_PATIENCE, Outage, Pace, SLOW};
use super::{Location, Phase, Report, Stream};

/// Looks until nothing more is to be learned.
pub(super) struct LookOut<'a> {
    board: &'a Board,
    eyes: Eyes<'a>,
    timing: Timing<'a>,
    outage: Option<Outage>,
    /// As they were listed last.
    sizes: [Option<u64>; 2],
    /// As it was reported last.
    pull_progress: Option<PullProgress>,
}

impl<'a> LookOut<'a> {
    pub(super) fn new(agent: &'a Agent, board: &'a Board, location: &Location, wants_pull_progress: bool) -> Self {
        let eyes = Eyes { agent, board, locator: Locator::new(location), wants_pull_progress };
        let timing = Timing { board, phase: Phase::Waiting, pace: Pace::new(board.now()), last_but_one: None };
        Self { board, eyes, timing, outage: None, sizes: [None; 2], pull_progress: None }
    }

    pub(super) async fn run(mut self, mut control: watch::Receiver<Phase>) {
        control.mark_changed();
        while self.board.needs_looks() {
            let next = self.timing.next_look();
            tokio::select! {
                biased;
                phase = next_phase(&mut control) => self.timing.enter(phase),
                () = self.board.sleep_until(next) => self.look(&mut control).await,
            }
        }
    }

    async fn look(&mut self, control: &mut watch::Receiver<Phase>) {
        let started = self.board.now();
        let phase = self.timing.phase;
        let asked_at = Stream::ALL.map(|stream| self.board.place(stream));
        self.timing.pace.look_started(started);
        let seen = {
            let mut looking = pin!(self.eyes.look(phase));
            loop {
                tokio::select! {
                    biased;
                    phase = next_phase(control) => {
                        self.timing.enter(phase);
                        if !self.board.needs_looks() {
                            return;
                        }
                    }
                    seen = &mut looking => break seen,
                }
            }
        };
        match seen {
            Ok(seen) => {
                self.board.recovered(&mut self.outage);
                let sizes = seen.found.listing.sizes;
                self.board.listed(seen.found.directory, sizes, asked_at);
                let has_grown = self.has_grown(sizes);
                self.timing.looked(phase, started, has_grown, seen.found.listing.requests);
                self.report_pull(seen.pull_progress);
            }
            // Before the task runs its sandbox need not be there.
            Err(fault) if fault.kind == FaultKind::Missing && phase == Phase::Waiting => {
                self.timing.pace.looked(self.board.now(), false, 1);
            }
            Err(fault) => match self.board.failed(&mut self.outage, &fault) {
                Verdict::TryAfter(pause) => self.timing.pace.failed(self.board.now(), pause),
                Verdict::GiveUp => self.board.give_up_looking(&fault),
            },
        }
    }

    fn has_grown(&mut self, sizes: [Option<u64>; 2]) -> bool {
        let before = std::mem::replace(&mut self.sizes, sizes);
        sizes.iter().zip(before).any(|(size, before)| size.unwrap_or(0) > before.unwrap_or(0))
    }

    fn report_pull(&mut self, progress: Option<PullProgress>) {
        if let Some(progress) = progress.filter(|progress| self.pull_progress.as_ref() != Some(progress)) {
            self.pull_progress = Some(progress.clone());
            self.board.report(Report::Pulling(progress));
        }
    }
}

/// What a change of phase touches.
struct Timing<'a> {
    board: &'a Board,
    phase: Phase,
    pace: Pace,
    /// When the first of the two last listings was asked for.
    last_but_one: Option<Duration>,
}

impl Timing<'_> {
    fn enter(&mut self, phase: Phase) {
        if self.phase.is_over() {
            return;
        }
        match phase {
            Phase::Waiting | Phase::Abandon => return,
            Phase::Running => {}
            Phase::Ended { stdout_bytes, stderr_bytes } => {
                self.board.ended([stdout_bytes, stderr_bytes], Duration::MAX)
            }
            Phase::GivenUp => self.board.ended([None, None], GIVEN_UP_PATIENCE),
        }
        self.phase = phase;
        self.pace.rang(self.board.now());
    }

    fn next_look(&self) -> Duration {
        let next = self.pace.next_look();
        self.last_but_one.map_or(next, |last_but_one| next.max(last_but_one + SLOW))
    }

    /// A look was answered that was `started` in `phase`.
    fn looked(&mut self, phase: Phase, started: Duration, has_grown: bool, requests: u32) {
        self.pace.looked(self.board.now(), has_grown, requests);
        if !phase.is_over() {
            return;
        }
        match self.last_but_one {
            None => self.last_but_one = Some(started),
            Some(_) => self.board.close(),
        }
    }
}

/// Asks the agent.
struct Eyes<'a> {
    agent: &'a Agent,
    board: &'a Board,
    locator: Locator,
    wants_pull_progress: bool,
}

/// What a look has shown.
struct Seen {
    found: Found,
    pull_progress: Option<PullProgress>,
}

impl Eyes<'_> {
    async fn look(&mut self, phase: Phase) -> Result<Seen, Fault> {
        let found = self.find(phase).await?;
        let mut pull_progress = None;
        if self.wants_pull_progress && phase == Phase::Waiting && found.listing.has_pull_progress {
            let path = [&found.directory[..], b"/", PULL_PROGRESS_FILE.as_bytes()].concat();
            // It is removed when the pull is over, and the next look says more.
            let text = self.agent.read(&path, 0).await.ok();
            pull_progress = text.and_then(|read| serde_json::from_slice(&read.data).ok());
        }
        Ok(Seen { found, pull_progress })
    }

    async fn find(&mut self, phase: Phase) -> Result<Found, Fault> {
        let has_ended = phase.is_over();
        if let Some(directory) = self.board.directory() {
            match self.agent.list(&directory).await {
                // Was it removed, or has the agent not found it yet after a restart?
                Err(fault) if fault.kind == FaultKind::Missing && has_ended => {}
                listing => return Ok(Found { directory, listing: listing? }),
            }
        }
        self.locator.locate(self.agent, phase, self.board.now()).await
    }
}

/// The next phase that the caller sends; never, when it will send none.
async fn next_phase(control: &mut watch::Receiver<Phase>) -> Phase {
    if control.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    *control.borrow_and_update()
}
