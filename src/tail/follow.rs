//! The shell around [`Cursor`](super::cursor::Cursor): asks the agent for bytes and fills the sinks.

use bytes::Bytes;
use proto::http::Client;
use tokio::sync::watch;

use super::agent::{Agent, Fault};
use super::board::{Board, Task, Verdict};
use super::cursor::Place;
use super::look_out::LookOut;
use super::pace::SLOW;
use super::preamble::Preamble;
use super::{Location, Outputs, Phase, Stream, Tailed};
use crate::output::{Sink, Written};

/// Writes the sandbox's stdout and stderr to `outputs` until the task has ended, everything was read, and the sinks have written
/// it.
///
/// Returns early only on [`Phase::Abandon`] or, when the agent stays away after the end, at the limits in the module's text; a
/// reader of our own streams who stalls is waited for. Dropping the future is safe; the sinks then still write what they
/// have. Memory: about 3 MB at most, with both sinks full.
pub async fn follow(client: Client, location: Location, outputs: Outputs, control: watch::Receiver<Phase>) -> Tailed {
    let Outputs { stdout, stderr, reports, wants_pull_progress, from, cut } = outputs;
    let agent = Agent::new(client, &location);
    let board = Board::new(reports, from);
    let sinks = [stdout, stderr];
    let before = [sinks[0].written(), sinks[1].written()];
    let work = async {
        let look_out = LookOut::new(&agent, &board, &location, wants_pull_progress);
        let [stdout, stderr] = Stream::ALL.map(|stream| {
            let preamble = match &cut {
                Some(origin) if from[stream as usize] == 0 => Preamble::new(stream, origin),
                _ => Preamble::none(),
            };
            Follower { agent: &agent, board: &board, sink: &sinks[stream as usize], stream, preamble }.run()
        });
        tokio::join!(look_out.run(control.clone()), stdout, stderr);
        tokio::join!(sinks[0].flush(), sinks[1].flush());
    };
    tokio::select! {
        // What is done is not abandoned.
        biased;
        () = work => {}
        () = abandoned(control.clone()) => {}
    }
    let [stdout, stderr] = Stream::ALL.map(|stream| {
        let done = since(&before[stream as usize], sinks[stream as usize].written());
        board.result(stream, &done)
    });
    Tailed { stdout, stderr }
}

/// Ready when the caller does not want any more.
async fn abandoned(mut control: watch::Receiver<Phase>) {
    loop {
        let phase = *control.borrow_and_update();
        if phase == Phase::Abandon {
            return;
        }
        if control.changed().await.is_err() {
            if phase.is_over() {
                std::future::pending::<()>().await;
            }
            return;
        }
    }
}

/// What a sink has done since it had done `before`.
fn since(before: &Written, now: Written) -> Written {
    Written { written: now.written - before.written, discarded: now.discarded - before.discarded, ..now }
}

/// Follows one file.
struct Follower<'a> {
    agent: &'a Agent,
    board: &'a Board,
    sink: &'a Sink,
    stream: Stream,
    preamble: Preamble,
}

impl Follower<'_> {
    async fn run(mut self) {
        let Self { board, stream, .. } = self;
        let mut news = board.news();
        let mut outage = None;
        loop {
            if self.sink.trouble().is_some() {
                self.sink.discard(board.pass_over(stream));
            }
            let before = board.place(stream);
            let fetched = match board.task(stream) {
                Task::Over => {
                    let held = self.preamble.end();
                    return self.sink.write_until(held, before.offset).await;
                }
                Task::Wait => {
                    news.changed().await.expect("the board outlives its followers");
                    continue;
                }
                Task::Read { path, place, settle } => {
                    if settle {
                        tokio::time::sleep(SLOW).await;
                    }
                    self.read(&path, place).await
                }
                Task::Download { path, place } => self.download(&path, place).await,
            };
            if fetched.is_ok() || board.place(stream) != before {
                board.recovered(&mut outage);
            }
            if let Err(fault) = fetched {
                match board.failed(&mut outage, &fault) {
                    Verdict::TryAfter(pause) => tokio::time::sleep(pause).await,
                    Verdict::GiveUp => board.give_up(stream, fault),
                }
            }
        }
    }

    async fn read(&mut self, path: &[u8], place: Place) -> Result<(), Fault> {
        let read = self.agent.read(path, place.offset).await?;
        if let Some(data) = self.board.answered(self.stream, place, read)? {
            self.pass(data).await;
        }
        Ok(())
    }

    /// Gives the sink what is the task's of the next bytes.
    async fn pass(&mut self, bytes: Bytes) {
        let passed = self.preamble.pass(bytes);
        self.board.cut(self.stream, passed.cut);
        self.sink.write_until(passed.bytes, self.board.place(self.stream).offset).await;
    }

    async fn download(&mut self, path: &[u8], place: Place) -> Result<(), Fault> {
        let result = self.download_rest(path, place).await;
        self.board.download_ended(self.stream, place);
        match result {
            // If it means the file, reading it says the same.
            Err(fault) if !fault.kind.is_of_connection() => {
                self.board.download_refused(self.stream);
                Ok(())
            }
            result => result,
        }
    }

    async fn download_rest(&mut self, path: &[u8], place: Place) -> Result<(), Fault> {
        let mut body = self.agent.download(path).await?;
        let mut position = 0;
        while let Some(chunk) = body.chunk().await? {
            let Some(new) = self.board.downloaded(self.stream, place, &mut position, chunk) else { break };
            self.pass(new).await;
            if self.sink.trouble().is_some() {
                break;
            }
        }
        Ok(())
    }
}
