//! The whole tail against an agent that behaves and misbehaves as agents do.
//!
//! The clock stands still and moves only in the steps that a test makes, so rates and delays are counted exactly; requests and
//! output go over real sockets.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use proto::http::{Client, ClientOptions};
use proto::record::{PULL_PROGRESS_FILE, PullProgress};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::fake_agent::{FakeAgent, Fault, Mesos, Request};
use super::*;

/// A tail at work between a fake agent and the two ends of its output.
struct Rig {
    agent: FakeAgent,
    control: watch::Sender<Phase>,
    reports: mpsc::UnboundedReceiver<Report>,
    stdout: Reader,
    stderr: Reader,
    sinks: [Sink; 2],
    tailing: JoinHandle<Tailed>,
    /// As long as this blocking task waits, tokio does not move the clock by itself.
    _clock: std::sync::mpsc::Sender<()>,
}

/// The reading end of one of the launcher's streams.
struct Reader {
    stream: UnixStream,
    received: RefCell<Vec<u8>>,
    /// Reads nothing.
    is_stalled: bool,
}

impl Reader {
    fn pair(name: &'static str) -> (Self, Sink) {
        let (reader, writer) = StdUnixStream::pair().unwrap();
        reader.set_nonblocking(true).unwrap();
        let stream = UnixStream::from_std(reader).unwrap();
        let reader = Self { stream, received: RefCell::default(), is_stalled: false };
        (reader, Sink::new(name, writer.into()).unwrap())
    }

    /// Reads what is there now.
    fn drain(&self) {
        let mut bytes = [0; 8192];
        if self.is_stalled {
            return;
        }
        loop {
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return,
                Ok(count) => self.received.borrow_mut().extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// What came since the last time.
    fn take(&self) -> Vec<u8> {
        self.received.take()
    }
}

impl Rig {
    async fn start(mesos: Mesos) -> Self {
        let agent = FakeAgent::start(mesos).await;
        let location = agent.location();
        Self::with(agent, location, true)
    }

    /// The first lines of an executor of Mesos' own on host H are cut, of output that begins there.
    async fn cutting(mesos: Mesos, from: [u64; 2]) -> Self {
        let agent = FakeAgent::start(mesos).await;
        let location = agent.location();
        let origin = Origin { hostname: "H".to_owned(), agent_id: "A".to_owned(), task_id: "E".to_owned() };
        Self::of(agent, location, true, from, Some(origin))
    }

    fn with(agent: FakeAgent, location: Location, wants_pull_progress: bool) -> Self {
        Self::of(agent, location, wants_pull_progress, [0, 0], None)
    }

    fn of(
        agent: FakeAgent,
        location: Location,
        wants_pull_progress: bool,
        from: [u64; 2],
        cut: Option<Origin>,
    ) -> Self {
        let (clock, is_over) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || is_over.recv());
        let (stdout, stdout_sink) = Reader::pair("stdout");
        let (stderr, stderr_sink) = Reader::pair("stderr");
        let (report, reports) = mpsc::unbounded_channel();
        let (control, phases) = watch::channel(Phase::Waiting);
        let sinks = [stdout_sink.clone(), stderr_sink.clone()];
        let outputs =
            Outputs { stdout: stdout_sink, stderr: stderr_sink, reports: report, wants_pull_progress, from, cut };
        let client = Client::new(ClientOptions::default()).unwrap();
        let tailing = tokio::spawn(follow(client, location, outputs, phases));
        Self { agent, control, reports, stdout, stderr, sinks, tailing, _clock: clock }
    }

    async fn running(mesos: Mesos) -> Self {
        let rig = Self::start(mesos).await;
        rig.enter(Phase::Running).await;
        rig
    }

    async fn enter(&self, phase: Phase) {
        self.control.send(phase).unwrap();
        self.settle().await;
    }

    async fn end(&self, stdout_bytes: impl Into<Option<u64>>, stderr_bytes: impl Into<Option<u64>>) {
        self.enter(Phase::Ended { stdout_bytes: stdout_bytes.into(), stderr_bytes: stderr_bytes.into() }).await;
    }

    /// Lets everything happen that happens without time passing.
    async fn settle(&self) {
        let mut requests = usize::MAX;
        loop {
            self.answer().await;
            let now = self.agent.world().requests.len();
            if now == requests {
                return;
            }
            requests = now;
            // What was written may make room for more.
            self.flush().await;
        }
    }

    /// Waits, without time passing, until no request is on its way.
    async fn answer(&self) {
        let mut quiet = 0;
        while quiet < 5 {
            tokio::task::yield_now().await;
            let is_quiet = agent::in_flight::count() <= self.agent.world().silenced;
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
    }

    /// Waits, without time passing, until the threads have written what they have.
    async fn flush(&self) {
        let readers = [&self.stdout, &self.stderr];
        for (sink, reader) in self.sinks.iter().zip(readers).filter(|(_, reader)| !reader.is_stalled) {
            let mut flushing = pin!(sink.flush());
            while (&mut flushing).now_or_never().is_none() {
                reader.drain();
                tokio::task::yield_now().await;
            }
            reader.drain();
        }
    }

    async fn pass(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let left = end - Instant::now();
            let step = if left > Duration::from_secs(5) { COARSE_STEP } else { STEP };
            tokio::time::advance(step.min(left)).await;
            self.settle().await;
        }
    }

    /// Lets time pass until `bytes` have come out on stdout, and nothing else.
    async fn expect_stdout(&self, bytes: &[u8]) {
        for _ in 0..10_000 {
            if self.stdout.received.borrow().len() >= bytes.len() {
                let received = self.stdout.take();
                assert!(received == bytes, "{}", String::from_utf8_lossy(&received));
                return;
            }
            self.pass(STEP).await;
        }
        panic!("only {} of {} bytes came", self.stdout.received.borrow().len(), bytes.len());
    }

    /// Lets time pass until the tail is done; says what came out and how long it took.
    async fn finish(mut self) -> Finished {
        let begun = Instant::now();
        self.settle().await;
        while !self.tailing.is_finished() {
            assert!(begun.elapsed() < Duration::from_secs(300), "the tail does not end");
            let is_short = begun.elapsed() < Duration::from_secs(2);
            self.pass(if is_short { STEP } else { COARSE_STEP }).await;
        }
        let took = begun.elapsed();
        let reports = std::iter::from_fn(|| self.reports.try_recv().ok()).collect();
        let requests = self.requests();
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        Finished { tailed: self.tailing.await.unwrap(), stdout, stderr, took, reports, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.agent.world().requests.clone()
    }

    fn fault(&self, what: &'static str, fault: Fault) {
        self.agent.world().faults.push_back((what, fault));
    }
}

struct Finished {
    tailed: Tailed,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    took: Duration,
    reports: Vec<Report>,
    requests: Vec<Request>,
}

impl Finished {
    fn lost(&self) -> (Option<Lost>, Option<Lost>) {
        (self.tailed.stdout.lost.clone(), self.tailed.stderr.lost.clone())
    }

    fn notices(&self) -> Vec<&str> {
        let notices = self.reports.iter().filter_map(|report| match report {
            Report::Notice(text) => Some(&text[..]),
            Report::Pulling(_) => None,
        });
        notices.collect()
    }
}

/// As exactly as delays are measured.
const STEP: Duration = Duration::from_millis(10);

/// Where nothing is measured.
const COARSE_STEP: Duration = Duration::from_millis(100);

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(length as u64).fill(&mut bytes);
    bytes
}

fn routes(requests: &[Request]) -> Vec<String> {
    requests.iter().map(|request| format!("{} {}", request.route, request.file)).collect()
}

#[tokio::test(start_paused = true)]
async fn every_generation_of_mesos_is_followed_exactly() {
    for mesos in Mesos::ALL {
        let rig = Rig::start(mesos).await;
        rig.agent.world().has_sandbox = false;
        rig.pass(Duration::from_secs(1)).await;
        rig.agent.world().has_sandbox = true;
        rig.enter(Phase::Running).await;
        let (bytes, errors) = (noise(300_000), noise(70_000));
        for (piece, error) in bytes.chunks(45_000).zip(errors.chunks(10_001)) {
            rig.agent.append("stdout", piece);
            rig.agent.append("stderr", error);
            rig.pass(Duration::from_millis(150)).await;
        }
        rig.end(None, None).await;
        let done = rig.finish().await;
        assert!(done.stdout == bytes && done.stderr == errors, "{mesos:?}");
        assert_eq!(done.lost(), (None, None), "{mesos:?}");
        assert_eq!(done.tailed.stdout.bytes_written, 300_000);
        assert!(done.notices().is_empty(), "{:?}", done.notices());
    }
}

#[tokio::test(start_paused = true)]
async fn recorded_sizes_are_read_with_one_request_each_and_no_pause() {
    let rig = Rig::start(Mesos::V1_11).await;
    rig.agent.append("stdout", b"before\nafter\n");
    rig.end(13, 0).await;
    let done = rig.finish().await;
    assert_eq!((done.stdout, done.stderr), (b"before\nafter\n".to_vec(), vec![]));
    assert_eq!(routes(&done.requests), ["/files/browse latest", "/files/read stdout"]);
    assert!(done.took == Duration::ZERO, "{:?}", done.took);
    assert_eq!(done.tailed.stdout, FileTailed { bytes_written: 13, ..FileTailed::default() });
}

#[tokio::test(start_paused = true)]
async fn lines_of_mesos_own_executors_are_cut_and_counted() {
    let stdout = "Registered docker executor on H\nStarting task E\n";
    let stderr = "I0508 18:48:06.216948  7130 exec.cpp:143] Version: 0.28.1\n\
                  I0508 18:48:06.221783  7137 exec.cpp:217] Executor registered on slave A\n";
    for mesos in Mesos::ALL {
        let rig = Rig::cutting(mesos, [0, 0]).await;
        rig.enter(Phase::Running).await;
        // It comes in two pieces, as it may.
        rig.agent.append("stdout", &stdout.as_bytes()[..20]);
        rig.pass(Duration::from_millis(150)).await;
        rig.agent.append("stdout", &stdout.as_bytes()[20..]);
        rig.agent.append("stderr", stderr.as_bytes());
        rig.pass(Duration::from_millis(150)).await;
        let bytes = noise(100_000);
        rig.agent.append("stdout", &bytes);
        rig.end(None, None).await;
        let done = rig.finish().await;
        assert!(done.stdout == bytes && done.stderr.is_empty(), "{mesos:?}");
        assert_eq!(done.lost(), (None, None), "{mesos:?}");
        assert_eq!((done.tailed.stdout.bytes_written, done.tailed.stdout.bytes_cut), (100_000, stdout.len() as u64));
        assert_eq!((done.tailed.stderr.bytes_written, done.tailed.stderr.bytes_cut), (0, stderr.len() as u64));
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_begins_like_such_lines_comes_out_in_the_end() {
    let rig = Rig::cutting(Mesos::V1_11, [0, 0]).await;
    rig.agent.append("stdout", b"Registered docker executor on H\nStarting");
    rig.end(None, None).await;
    let done = rig.finish().await;
    assert_eq!(done.stdout, b"Registered docker executor on H\nStarting");
    assert_eq!((done.lost(), done.tailed.stdout.bytes_cut), ((None, None), 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_cut_of_output_that_goes_on() {
    let text = b"x\nRegistered docker executor on H\nStarting task E\n";
    let rig = Rig::cutting(Mesos::V1_11, [2, 0]).await;
    rig.agent.append("stdout", text);
    rig.end(None, None).await;
    let done = rig.finish().await;
    assert_eq!((done.stdout, done.tailed.stdout.bytes_cut), (text[2..].to_vec(), 0));
}

#[tokio::test(start_paused = true)]
async fn sandbox_of_an_executor_that_the_agent_has_forgotten_is_read_on() {
    for mesos in Mesos::ALL {
        let rig = Rig::running(mesos).await;
        rig.agent.append("stdout", b"before");
        rig.expect_stdout(b"before").await;
        // Too many others have ended on this agent.
        rig.agent.world().is_forgotten = true;
        rig.agent.append("stdout", b"after");
        rig.end(None, None).await;
        let done = rig.finish().await;
        assert_eq!(done.stdout, b"after", "{mesos:?}");
        assert_eq!((done.lost(), done.notices().len()), ((None, None), 0), "{mesos:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn task_without_output_costs_no_request() {
    let rig = Rig::start(Mesos::V1_11).await;
    rig.end(0, 0).await;
    let done = rig.finish().await;
    assert_eq!(routes(&done.requests), [] as [&str; 0]);
    assert_eq!(done.lost(), (None, None));
}

#[tokio::test(start_paused = true)]
async fn sandbox_that_was_found_is_not_listed_again_after_a_recorded_end() {
    let rig = Rig::running(Mesos::V1_0).await;
    let before = rig.requests().len();
    rig.agent.append("stderr", b"e");
    rig.end(0, 1).await;
    let done = rig.finish().await;
    assert_eq!(routes(&done.requests[before..]), ["/files/read stderr"]);
    assert_eq!(done.stderr, b"e");
}

#[tokio::test(start_paused = true)]
async fn hanging_listing_does_not_hold_up_a_recorded_end() {
    let rig = Rig::running(Mesos::V1_11).await;
    rig.fault("browse", Fault::Silence);
    rig.pass(Duration::from_secs(1)).await;
    rig.agent.append("stdout", b"x");
    rig.end(1, 0).await;
    let done = rig.finish().await;
    assert_eq!(done.stdout, b"x");
    assert!(done.took == Duration::ZERO, "{:?}", done.took);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_follow_the_terminal_update_are_read() {
    let rig = Rig::running(Mesos::V1_0).await;
    rig.agent.append("stdout", b"in time, ");
    rig.end(None, None).await;
    rig.pass(Duration::from_millis(400)).await;
    rig.agent.append("stdout", b"late");
    let done = rig.finish().await;
    assert_eq!(done.stdout, b"in time, late");
    assert_eq!(done.lost(), (None, None));
    assert!(done.took <= Duration::from_millis(200), "{:?}", done.took);
}

#[tokio::test(start_paused = true)]
async fn size_that_is_recorded_too_small_is_not_believed() {
    let rig = Rig::running(Mesos::V1_11).await;
    rig.agent.append("stderr", b"the containerizer's line\nthe task's line\n");
    rig.pass(Duration::from_millis(200)).await;
    rig.agent.append("stderr", b"more");
    rig.end(0, 16).await;
    let done = rig.finish().await;
    assert_eq!(done.stderr, b"the containerizer's line\nthe task's line\nmore");
}

#[tokio::test(start_paused = true)]
async fn size_that_is_recorded_too_large_is_told() {
    let rig = Rig::running(Mesos::V1_11).await;
    rig.agent.append("stdout", b"abc");
    rig.end(5, 0).await;
    let done = rig.finish().await;
    assert_eq!(done.stdout, b"abc");
    let lost = done.tailed.stdout.lost.unwrap();
    assert_eq!(lost.bytes, Some(2));
    assert_eq!(lost.why, "the sandbox's stdout ends before the size that the executor recorded");
    assert!(done.took < Duration::from_secs(2), "{:?}", done.took);
}

#[tokio::test(start_paused = true)]
async fn large_backlog_is_downloaded_and_what_follows_is_read() {
    let rig = Rig::start(Mesos::V1_11).await;
    let bytes = noise(5_000_000);
    rig.agent.append("stdout", &bytes[..3]);
    rig.enter(Phase::Running).await;
    rig.expect_stdout(&bytes[..3]).await;
    rig.agent.append("stdout", &bytes[3..]);
    rig.expect_stdout(&bytes[3..]).await;
    rig.agent.append("stdout", b"tail");
    rig.expect_stdout(b"tail").await;
    let requests = rig.requests();
    let count = |route: &str| requests.iter().filter(|request| request.route == route).count();
    assert_eq!(count("/files/download"), 1);
    assert!(count("/files/read") <= 4, "{:?}", routes(&requests));
}

#[tokio::test(start_paused = true)]
async fn agent_that_refuses_downloads_is_read_without_pauses() {
    let rig = Rig::running(Mesos::V1_11).await;
    let bytes = noise(3_000_000);
    rig.fault("download", Fault::Status(403));
    rig.agent.append("stdout", &bytes);
    rig.end(3_000_000, 0).await;
    let done = rig.finish().await;
    assert!(done.stdout == bytes);
    assert!(done.took < Duration::from_millis(500), "{:?}", done.took);
    assert_eq!(done.requests.iter().filter(|request| request.route == "/files/download").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn cut_and_broken_answers_lose_and_repeat_nothing() {
    let rig = Rig::running(Mesos::V1_4).await;
    let bytes = noise(4_000_000);
    rig.fault("download", Fault::Cut(1_500_000));
    rig.fault("download", Fault::Cut(0));
    rig.fault("read stdout", Fault::Cut(40_000));
    rig.fault("read stdout", Fault::Garbage);
    rig.fault("browse", Fault::Cut(10));
    rig.fault("browse", Fault::Status(503));
    rig.agent.append("stdout", &bytes);
    rig.expect_stdout(&bytes).await;
    rig.end(4_000_000, 0).await;
    assert_eq!(rig.finish().await.lost(), (None, None));
}

#[tokio::test(start_paused = true)]
async fn address_that_answers_is_found() {
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let agent = FakeAgent::start(Mesos::V0_24).await;
    let mut location = agent.location();
    location.agents.insert(0, Url::parse(&format!("http://{refused}")).unwrap());
    let rig = Rig::with(agent, location, false);
    rig.agent.append("stdout", b"here");
    rig.enter(Phase::Running).await;
    rig.end(None, None).await;
    let done = rig.finish().await;
    assert_eq!(done.stdout, b"here");
    assert!(done.notices().is_empty());
}

#[tokio::test(start_paused = true)]
async fn agent_without_tls_behind_a_master_with_it_is_read_all_the_same() {
    let agent = FakeAgent::start(Mesos::V1_11).await;
    let mut location = Location { may_change_scheme: true, ..agent.location() };
    location.agents[0].set_scheme("https").unwrap();
    let rig = Rig::with(agent, location, false);
    rig.agent.append("stdout", b"here");
    rig.enter(Phase::Running).await;
    rig.end(4, 0).await;
    let done = rig.finish().await;
    assert_eq!((done.stdout.as_slice(), done.lost()), (&b"here"[..], (None, None)));
    assert!(done.notices().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_by_http_where_it_may_not() {
    let agent = FakeAgent::start(Mesos::V1_11).await;
    let mut location = agent.location();
    location.agents[0].set_scheme("https").unwrap();
    let rig = Rig::with(agent, location, false);
    rig.agent.append("stdout", b"here");
    rig.enter(Phase::Running).await;
    rig.end(4, 0).await;
    let done = rig.finish().await;
    assert!(done.requests.is_empty());
    assert!(done.took < Duration::from_secs(15), "{:?}", done.took);
    let lost = done.tailed.stdout.lost.unwrap();
    assert_eq!(lost.bytes, Some(4));
    assert!(lost.why.contains("broke the TLS handshake off") && lost.why.contains("--agent-url"), "{}", lost.why);
}

#[tokio::test(start_paused = true)]
async fn agent_that_wants_credentials_is_named_with_the_options() {
    let rig = Rig::running(Mesos::V1_11).await;
    rig.agent.append("stdout", b"here");
    rig.agent.world().outage = Some(Fault::Status(401));
    rig.end(4, 0).await;
    let agent = rig.agent.location().agents[0].authority().to_owned();
    let done = rig.finish().await;
    assert!(done.took < Duration::from_secs(5), "{:?}", done.took);
    let lost = done.tailed.stdout.lost.unwrap();
    assert_eq!(lost.bytes, Some(4));
    for word in [agent.as_str(), "401", "--agent-principal", "--agent-secret-file"] {
        assert!(lost.why.contains(word), "{word}: {}", lost.why);
    }
}

#[tokio::test(start_paused = true)]
async fn agent_of_which_no_address_is_known_is_told() {
    let agent = FakeAgent::start(Mesos::V1_11).await;
    let location = Location { agents: vec![], ..agent.location() };
    let rig = Rig::with(agent, location, true);
    rig.end(None, 0).await;
    let why = "cannot reach the agent: none of its addresses is known";
    assert_eq!(rig.finish().await.tailed.stdout.lost, Some(Lost { bytes: None, why: why.to_owned() }));
}

#[tokio::test(start_paused = true)]
async fn agent_that_is_away_while_the_task_runs_is_waited_for() {
    let rig = Rig::running(Mesos::V1_11).await;
    rig.agent.append("stdout", b"one ");
    rig.expect_stdout(b"one ").await;
    rig.agent.world().outage = Some(Fault::Status(503));
    rig.agent.append("stdout", b"two");
    rig.pass(Duration::from_secs(600)).await;
    let requests = rig.requests().len();
    assert!(requests < 400, "{requests} requests");
    rig.agent.world().outage = None;
    rig.expect_stdout(b"two").await;
    rig.end(7, 0).await;
    let done = rig.finish().await;
    let [away, back] = done.notices()[..] else { panic!("{:?}", done.notices()) };
    assert!(away.starts_with("cannot get http://127.0.0.1:"), "{away}");
    assert!(away.ends_with("it answers 503 Service Unavailable: as told; trying again"), "{away}");
    assert_eq!(back, "the agent serves the task's output again");
    assert_eq!(done.lost(), (None, None));
}

#[tokio::test(start_paused = true)]
async fn agent_that_stays_away_after_the_end_is_given_up_and_the_loss_is_counted() {
    let rig = Rig::running(Mesos::V1_11).await;
    rig.agent.append("stdout", b"four");
    rig.expect_stdout(b"four").await;
    rig.agent.world().outage = Some(Fault::Cut(0));
    rig.end(10, None).await;
    let done = rig.finish().await;
    assert!(done.took >= Duration::from_secs(90) && done.took < Duration::from_secs(95), "{:?}", done.took);
    let (Some(stdout), Some(stderr)) = done.lost() else { panic!("{:?}", done.tailed) };
    assert_eq!((stdout.bytes, stderr.bytes), (Some(6), None));
    assert!(stdout.why.starts_with("cannot get http://127.0.0.1:"), "{}", stdout.why);
    assert_eq!(done.tailed.stdout.bytes_written, 4);
    assert_eq!(done.notices().len(), 1, "{:?}", done.notices());
}

#[tokio::test(start_paused = true)]
async fn task_that_was_given_up_is_read_as_far_as_its_agent_serves_it_and_not_waited_for() {
    let rig = Rig::running(Mesos::V1_11).await;
    rig.agent.append("stdout", b"there");
    rig.enter(Phase::GivenUp).await;
    let done = rig.finish().await;
    assert_eq!((done.stdout.as_slice(), done.lost()), (&b"there"[..], (None, None)));

    let rig = Rig::running(Mesos::V1_11).await;
    rig.agent.world().outage = Some(Fault::Cut(0));
    rig.agent.append("stdout", b"gone");
    rig.enter(Phase::GivenUp).await;
    let done = rig.finish().await;
    assert!(done.took < Duration::from_secs(5), "{:?}", done.took);
    assert!(done.tailed.stdout.lost.is_some(), "{:?}", done.tailed);
}

#[tokio::test(start_paused = true)]
async fn agent_that_comes_back_after_the_end_is_read_to_the_end() {
    let rig = Rig::running(Mesos::V1_0).await;
    rig.agent.world().outage = Some(Fault::Silence);
    rig.agent.append("stdout", b"kept");
    rig.end(None, None).await;
    rig.pass(Duration::from_secs(70)).await;
    // It serves before it has found its sandboxes.
    rig.agent.world().outage = None;
    rig.agent.world().has_sandbox = false;
    rig.pass(Duration::from_secs(5)).await;
    rig.agent.world().has_sandbox = true;
    let done = rig.finish().await;
    assert_eq!(done.stdout, b"kept");
    assert_eq!(done.lost(), (None, None));
}

#[tokio::test(start_paused = true)]
async fn sandbox_that_an_agent_never_had_is_soon_given_up() {
    for (mesos, limit) in [(Mesos::V1_11, 2), (Mesos::V1_0, 2), (Mesos::V0_28, 15)] {
        let rig = Rig::start(mesos).await;
        rig.agent.world().has_sandbox = false;
        rig.end(None, None).await;
        let done = rig.finish().await;
        assert!(done.took < Duration::from_secs(limit), "{mesos:?} {:?}", done.took);
        let why = "the sandbox of executor E of framework F on agent A is not known to the agent";
        assert_eq!(done.tailed.stdout.lost, Some(Lost { bytes: None, why: why.to_owned() }));
    }
}

#[tokio::test(start_paused = true)]
async fn refusal_is_soon_given_up_after_the_end() {
    let rig = Rig::running(Mesos::V1_11).await;
    rig.agent.append("stdout", b"x");
    rig.agent.world().outage = Some(Fault::Status(403));
    rig.end(1, 0).await;
    let done = rig.finish().await;
    assert!(done.took < Duration::from_secs(2), "{:?}", done.took);
    let why = done.tailed.stdout.lost.unwrap().why;
    assert!(why.ends_with("it forbids it (403 as told); ask the cluster's operator for the right"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn file_that_shrinks_is_followed_from_its_new_beginning_and_told() {
    for mesos in [Mesos::V1_0, Mesos::V1_11] {
        let rig = Rig::running(mesos).await;
        rig.agent.append("stdout", b"old content");
        rig.expect_stdout(b"old content").await;
        rig.agent.world().files.insert("stdout".to_owned(), b"new".to_vec());
        rig.expect_stdout(b"new").await;
        rig.end(None, None).await;
        let done = rig.finish().await;
        let [notice] = done.notices()[..] else { panic!("{:?}", done.notices()) };
        assert!(notice.starts_with("the sandbox's stdout shrank from 11 bytes to 3"), "{notice}");
        assert_eq!(done.lost(), (None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn stalled_reader_of_one_stream_stops_the_fetching_of_that_stream_only() {
    let mut rig = Rig::running(Mesos::V1_11).await;
    rig.stdout.is_stalled = true;
    let (bytes, errors) = (noise(900_000), noise(900_001));
    rig.agent.append("stdout", &bytes);
    rig.agent.append("stderr", &errors);
    while rig.stderr.received.borrow().len() < errors.len() {
        rig.pass(STEP).await;
    }
    assert!(rig.stderr.take() == errors);
    rig.pass(Duration::from_secs(60)).await;
    let reads = rig.requests().iter().filter(|request| request.file == "stdout").count();
    assert!(reads < 13, "900,000 bytes take 14 reads, and {reads} were made for a socket and a channel");
    rig.stdout.is_stalled = false;
    rig.end(900_000, 900_001).await;
    let done = rig.finish().await;
    assert!(done.stdout == bytes);
    assert_eq!(done.lost(), (None, None));
}

#[tokio::test(start_paused = true)]
async fn reader_that_leaves_ends_the_fetching_and_its_bytes_are_counted() {
    let mut rig = Rig::running(Mesos::V1_11).await;
    rig.agent.append("stdout", b"head\n");
    rig.expect_stdout(b"head\n").await;
    rig.stdout = Reader::pair("stdout").0;
    rig.agent.append("stdout", b"unheard");
    rig.pass(Duration::from_millis(200)).await;
    rig.agent.append("stdout", &noise(3_000_000));
    rig.agent.append("stderr", b"still here");
    let size = rig.agent.world().files["stdout"].len() as u64;
    rig.pass(Duration::from_secs(1)).await;
    rig.end(size, 10).await;
    let done = rig.finish().await;
    assert_eq!(done.stderr, b"still here");
    assert_eq!(done.requests.iter().filter(|request| request.route == "/files/download").count(), 0);
    assert_eq!(
        done.tailed.stdout,
        FileTailed {
            bytes_written: done.tailed.stdout.bytes_written,
            bytes_discarded: size - done.tailed.stdout.bytes_written,
            ..FileTailed::default()
        }
    );
}

#[tokio::test(start_paused = true)]
async fn idle_task_costs_at_most_two_requests_a_second() {
    for mesos in [Mesos::V0_24, Mesos::V1_11] {
        let rig = Rig::running(mesos).await;
        rig.agent.append("stdout", b"ready\n");
        rig.expect_stdout(b"ready\n").await;
        rig.pass(Duration::from_secs(10)).await;
        let before = rig.requests().len();
        rig.pass(Duration::from_secs(60)).await;
        let count = rig.requests().len() - before;
        assert!((110..=120).contains(&count), "{mesos:?}: {count} requests in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn crowded_sandbox_is_followed_at_the_same_price() {
    let rig = Rig::start(Mesos::V1_11).await;
    for number in 0..3000 {
        rig.agent.append(&format!("file-{number}"), b"");
    }
    rig.enter(Phase::Running).await;
    rig.agent.append("stdout", b"found");
    rig.expect_stdout(b"found").await;
    rig.pass(Duration::from_secs(10)).await;
    let before = rig.requests().len();
    rig.pass(Duration::from_secs(60)).await;
    let requests = rig.requests().split_off(before);
    assert!((110..=120).contains(&requests.len()), "{} requests in a minute", requests.len());
    assert!(requests.iter().all(|request| request.route == "/files/read" && request.offset == Some(-1)));
    rig.end(None, None).await;
    assert_eq!(rig.finish().await.lost(), (None, None));
}

/// From when `append` wrote to when the agent was asked for it.
async fn delay(rig: &Rig, act: impl AsyncFnOnce(&Rig)) -> Duration {
    let (written, before) = (Instant::now(), rig.requests().len());
    rig.agent.append("stdout", b"x");
    act(rig).await;
    rig.expect_stdout(b"x").await;
    let requests = rig.requests();
    let read = requests[before..].iter().find(|request| request.route == "/files/read").unwrap();
    read.at - written
}

#[tokio::test(start_paused = true)]
async fn byte_that_follows_five_seconds_of_silence_is_read_within_a_tenth_of_a_second() {
    let rig = Rig::running(Mesos::V1_11).await;
    for phase_of_the_look in [0, 20, 50, 90] {
        rig.pass(Duration::from_millis(5000 + phase_of_the_look)).await;
        let delay = delay(&rig, async |_| {}).await;
        assert!(delay <= Duration::from_millis(100), "{delay:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn byte_of_an_idle_task_is_read_at_once_when_somebody_rings() {
    let rig = Rig::running(Mesos::V1_11).await;
    rig.pass(Duration::from_secs(60)).await;
    let waited = delay(&rig, async |_| {}).await;
    assert!(waited > Duration::ZERO && waited <= Duration::from_millis(500), "{waited:?}");
    rig.pass(Duration::from_secs(60)).await;
    assert_eq!(delay(&rig, async |rig: &Rig| rig.enter(Phase::Running).await).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn output_is_found_before_the_task_is_seen_to_run() {
    let rig = Rig::start(Mesos::V1_11).await;
    for limit in [500, 100] {
        let delay = delay(&rig, async |_| {}).await;
        assert!(delay <= Duration::from_millis(limit) + STEP, "{delay:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pull_progress_is_reported_when_it_changes() {
    let mut rig = Rig::start(Mesos::V1_11).await;
    let progress = |layers_done| PullProgress { image: "busybox".to_owned(), layers_done, ..PullProgress::default() };
    let write = |rig: &Rig, layers_done| {
        let text = serde_json::to_vec(&progress(layers_done)).unwrap();
        rig.agent.world().files.insert(PULL_PROGRESS_FILE.to_owned(), text);
    };
    write(&rig, 1);
    rig.pass(Duration::from_secs(2)).await;
    write(&rig, 2);
    rig.pass(Duration::from_secs(2)).await;
    rig.agent.world().files.remove(PULL_PROGRESS_FILE);
    rig.pass(Duration::from_secs(2)).await;
    let reports: Vec<_> = std::iter::from_fn(|| rig.reports.try_recv().ok()).collect();
    assert_eq!(reports, [1, 2].map(|layers_done| Report::Pulling(progress(layers_done))));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_sandbox_costs_little() {
    for (mesos, states) in [(Mesos::V1_11, 0), (Mesos::V1_0, 8), (Mesos::V0_24, 8)] {
        let rig = Rig::start(mesos).await;
        rig.agent.world().has_sandbox = false;
        rig.pass(Duration::from_secs(20)).await;
        let requests = rig.requests();
        let count = |route: &str| requests.iter().filter(|request| request.route.contains(route)).count();
        assert!(count("browse") <= 40, "{mesos:?}");
        assert!(count("version") == 1 && count("read") == 1, "{mesos:?}");
        assert!(count("state") <= states, "{mesos:?}: the state was asked for {} times", count("state"));
    }
}

#[tokio::test(start_paused = true)]
async fn pull_progress_that_nobody_wants_is_not_read() {
    let agent = FakeAgent::start(Mesos::V1_11).await;
    let location = agent.location();
    let rig = Rig::with(agent, location, false);
    rig.agent.append(PULL_PROGRESS_FILE, b"{}");
    rig.pass(Duration::from_secs(3)).await;
    assert!(rig.requests().iter().all(|request| request.route == "/files/browse"));
}

#[tokio::test(start_paused = true)]
async fn abandoned_tail_returns_at_once_and_says_what_is_unread() {
    let rig = Rig::running(Mesos::V1_11).await;
    rig.agent.append("stdout", b"four");
    rig.expect_stdout(b"four").await;
    rig.agent.append("stdout", b"and six");
    rig.fault("read", Fault::Silence);
    rig.pass(Duration::from_secs(1)).await;
    rig.enter(Phase::Abandon).await;
    let done = rig.finish().await;
    assert!(done.took == Duration::ZERO, "{:?}", done.took);
    let why = "the launcher stopped before it had read the sandbox's stdout to its end";
    assert_eq!(done.tailed.stdout.lost, Some(Lost { bytes: Some(7), why: why.to_owned() }));
    assert_eq!(done.tailed.stderr.lost.unwrap().bytes, None);
}

#[tokio::test(start_paused = true)]
async fn caller_that_goes_away_abandons_a_running_task_but_not_an_ended_one() {
    let mut rig = Rig::running(Mesos::V1_11).await;
    rig.control = watch::Sender::new(Phase::Waiting);
    assert!(rig.finish().await.tailed.stdout.lost.is_some());

    let mut rig = Rig::running(Mesos::V1_11).await;
    rig.agent.append("stdout", b"all");
    rig.control.send(Phase::Ended { stdout_bytes: None, stderr_bytes: None }).unwrap();
    rig.control = watch::Sender::new(Phase::Waiting);
    let done = rig.finish().await;
    assert_eq!(done.stdout, b"all");
    assert_eq!(done.lost(), (None, None));
}

#[tokio::test(start_paused = true)]
async fn missing_file_in_a_sandbox_is_empty() {
    let rig = Rig::running(Mesos::V1_11).await;
    rig.agent.world().files.clear();
    rig.end(None, None).await;
    assert_eq!(rig.finish().await.lost(), (None, None));
}
