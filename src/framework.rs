//! The shell around the scheduler core: the launcher's one `select!`.
//!
//! Every source (the master's stream, answers to calls, signals, the tail, time) becomes one `Happening`; the handler turns
//! it into inputs of the core and performs the effects that come back, in their order. No decision about tasks is made here.
//!
//! When the task is over, the tail reads its output to the end, then the framework is torn down: the sandbox is there as long
//! as somebody reads it. An interrupt skips what is left, step by step: kill with grace, kill now, leave.

mod calls;
mod input;
mod owned;
mod place;
mod signals;

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use proto::http::{Client, ClientOptions, EventStream, HttpError};
use proto::mesos::framework_info::{Capability, capability};
use proto::mesos::{self, TaskState};
use proto::record::TaskRecord;
use proto::scheduler::{Event, call};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use crate::cidfile::CidFile;
use crate::display::{Display, Stream};
use crate::exit::Outcome;
use crate::job::Job;
use crate::journal::{Journal, Note, Runs};
use crate::local::{self, Cluster, LocalError};
use crate::master::{self, AddressError, MasterAddress, Masters, Refusal, Subscription, chain, host_port};
use crate::output::{BeforeFirstWrite, LAST_WORDS_LIMIT, Progress, STALL_LIMIT, Sink, Voice, manners};
use crate::scheduler::{Config, Effect, Input, Scheduler, Survey, Time};
use crate::stdin::Feed;
use crate::tail::{self, FileTailed, Outputs, Phase, Report, Tailed};
use crate::update::Update;

use calls::{Calls, Failure};
use input::TaskInput;
pub use owned::{Owned, Purpose};
pub(crate) use place::{location, origin};
pub use signals::{Received, Signals};

/// How long the last calls (acknowledgement, TEARDOWN) may take once everything else is over.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// The third signal means "now": one round trip to take the framework down, no more.
const LEAVE_LIMIT: Duration = Duration::from_millis(500);

/// As much time as a healthy engine takes to remove a container, so that even then nothing is left; a further signal cuts it short.
const LEAVE_CLUSTER_LIMIT: Duration = Duration::from_secs(5);

/// The first asks the task to end, the second forces it.
const SIGNALS_TO_LEAVE: u32 = 3;

/// How often [`STALL_LIMIT`] is looked at.
const STALL_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// SIGHUP.
const HANG_UP: u8 = 1;

/// Runs the job to its end: everything that was started for it is gone when this returns.
///
/// With `local` as its master, the embedded cluster lives exactly as long as this call.
///
/// `display` speaks on `stderr`, where the task's own stderr goes, too. At the end its last words are waited for, within limits.
pub async fn run(job: Job, display: Display, stderr: Sink) -> Outcome {
    run_with(job, Ownership::ToTake, display, stderr).await
}

/// Goes on with a run, as [`run`] does: the task outlives this call if it is left.
pub async fn run_owned(job: Job, owned: Owned, display: Display, stderr: Sink) -> Outcome {
    run_with(job, Ownership::Taken(Box::new(owned)), display, stderr).await
}

/// Whether the job's run, if it is one, is in our hands.
enum Ownership {
    ToTake,
    Taken(Box<Owned>),
}

async fn run_with(job: Job, ownership: Ownership, display: Display, stderr: Sink) -> Outcome {
    let display = SharedDisplay {
        display: Arc::new(Mutex::new(display)),
        made_way: Arc::new(Once::new()),
        voice: stderr.voice(),
        started: Instant::now(),
    };
    let task_id = job.task_id().to_owned();
    // From here on a signal waits until it can be answered: no embedded cluster is left half-way.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            let outcome = Outcome::Failed(format!("cannot listen for signals: {error}"));
            display.show(&Update::Ended { task_id, outcome: outcome.clone() });
            display.voice.flushed_within(STALL_LIMIT).await;
            return outcome;
        }
    };
    let outcome = launch(job, ownership, &display, stderr, &mut signals).await.unwrap_or_else(Outcome::Failed);
    // Told once: a shell that ran has already done so.
    display.show(&Update::Ended { task_id, outcome: outcome.clone() });
    speak_out(&display.voice, &mut signals).await;
    outcome
}

/// Waits until our last words are out, or until nobody wants them.
async fn speak_out(voice: &Voice, signals: &mut Signals) {
    let limit = match signals.seen() {
        0 => LAST_WORDS_LIMIT,
        1 | 2 => STALL_LIMIT,
        3.. => LEAVE_LIMIT,
    };
    tokio::select! {
        () = voice.flushed_within(limit) => {}
        _ = signals.next() => voice.flushed_within(LEAVE_LIMIT).await,
    }
}

/// `Err`: what kept the scheduler core from beginning at all.
async fn launch(
    job: Job,
    ownership: Ownership,
    display: &SharedDisplay,
    stderr: Sink,
    signals: &mut Signals,
) -> Result<Outcome, String> {
    if job.is_signal_proxy {
        signals.pass_on().map_err(|error| format!("cannot listen for signals: {error}"))?;
    }
    let owned = match ownership {
        Ownership::Taken(owned) => Some(*owned),
        Ownership::ToTake => take(&job)?,
    };
    if let Some((outcome, text)) = owned.as_ref().and_then(Owned::settled) {
        display.show(&Update::Notice(text));
        return Ok(outcome);
    }
    match job.master.parse().map_err(|error: AddressError| chain(&error))? {
        MasterAddress::Masters(masters) => {
            let clients = Clients::new(job.access.to_master(), job.access.to_agents())?;
            Shell::new(job, masters, owned, clients, display, stderr)?.run(signals, None).await
        }
        MasterAddress::Local { agents } => {
            // Every user of the machine reaches the cluster; only this process may use it.
            let access = local::Access::random_token();
            let clients = Clients::new(access.client_options(), access.client_options())?;
            let options = local::Options { agents, access, ..local::Options::default() };
            let mut cluster = Cluster::start(options).await.map_err(|error| chain(&error))?;
            let master = Url::parse(&format!("http://{}/", cluster.address())).expect("a socket address makes a URL");
            let outcome = match Shell::new(job, Masters::from(master), owned, clients, display, stderr) {
                Ok(shell) => shell.run(signals, Some(&mut cluster)).await,
                Err(error) => Err(error),
            };
            shut_down(cluster, signals, display).await;
            outcome
        }
    }
}

/// The run of a job that is to be kept in a journal.
fn take(job: &Job) -> Result<Option<Owned>, String> {
    let (Some(run), Some(begin)) = (&job.run, job.begin()) else { return Ok(None) };
    let taken = Runs::of_user().and_then(|runs| Journal::begin(&runs, begin));
    let (journal, past) = taken.map_err(|error| error.to_string())?;
    let purpose = if run.is_detached { Purpose::Detach } else { Purpose::Follow };
    Ok(Some(Owned::launchable(journal, past, purpose)))
}

/// Who talks to whom: masters and agents may want different credentials.
struct Clients {
    master: Client,
    agents: Client,
}

impl Clients {
    fn new(master: ClientOptions, agents: ClientOptions) -> Result<Self, String> {
        let client = |options| Client::new(options).map_err(|error| chain(&error));
        Ok(Self { master: client(master)?, agents: client(agents)? })
    }
}

/// Takes the embedded cluster down. It may wait for a Docker engine that hangs: the next signal then leaves what is there, and
/// the third one has already said so.
async fn shut_down(mut cluster: Cluster, signals: &mut Signals, display: &SharedDisplay) {
    let limit = (signals.seen() >= SIGNALS_TO_LEAVE).then(|| Instant::now() + LEAVE_CLUSTER_LIMIT);
    let down = tokio::select! {
        result = cluster.go_down() => Some(result),
        _ = signals.next() => None,
        () = sleep_until(limit) => None,
    };
    let left = match down {
        Some(result) => result.err().map(|error| chain(&error)),
        None => {
            let address = cluster.address();
            cluster.abandon();
            Some(format!(
                "left before the cluster at {address} was down; its containers end by themselves, see `docker ps`, and the \
                 next --master=local removes its directory"
            ))
        }
    };
    if let Some(text) = left {
        display.show(&Update::Notice(text));
    }
}

/// The display, shared with the sinks of the task's output: it must be out of the way before they begin.
#[derive(Clone)]
struct SharedDisplay {
    display: Arc<Mutex<Display>>,
    /// Output is announced once, whichever stream begins.
    made_way: Arc<Once>,
    /// The display's, on our stderr.
    voice: Voice,
    started: Instant,
}

impl SharedDisplay {
    fn lock(&self) -> MutexGuard<'_, Display> {
        self.display.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, update: &Update) {
        if let Some(count) = self.voice.take_left_out() {
            let text = format!("{count} messages of the launcher are missing here: nobody read its stderr");
            self.lock().handle(&Update::Notice(text), self.started.elapsed());
        }
        self.lock().handle(update, self.started.elapsed());
    }

    fn tick(&self) {
        self.lock().tick(self.started.elapsed());
    }

    fn tick_interval(&self) -> Option<Duration> {
        self.lock().tick_interval()
    }

    /// To be done before a stream's first bytes. On stderr our words are then in front of them in its queue; before stdout may
    /// begin on a terminal, they must be out.
    fn make_way(&self, stream: Stream) -> BeforeFirstWrite {
        let display = self.clone();
        Box::new(move || {
            display.made_way.call_once(|| display.show(&Update::OutputStarted));
            let must_be_out = stream == Stream::Stdout && display.lock().has_changing_line();
            let voice = must_be_out.then(|| display.voice.clone());
            Box::pin(async move {
                if let Some(voice) = voice {
                    voice.flushed().await;
                }
            })
        })
    }
}

/// One thing that the shell waits for.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Happening {
    Signal(Received),
    Stream(Result<Option<Box<Event>>, HttpError>),
    Subscribed(Result<Subscription, Refusal>),
    CallFailed(Failure),
    ClusterFailed(LocalError),
    Tailed(Tailed),
    Report(Report),
    Surveyed(Result<Survey, String>),
    /// Of our standard input.
    Read(std::io::Result<Vec<u8>>),
    CoreTimeout,
    DisplayTick,
    /// Time to see whether anybody still reads our streams.
    StallCheck,
}

/// Everything that one launch holds.
struct Shell {
    job: Job,
    clients: Clients,
    masters: Masters,
    display: SharedDisplay,
    scheduler: Scheduler,
    started: Instant,
    subscribing: Option<Subscribing>,
    /// Where the stream of events comes from.
    leader: Option<Url>,
    surveying: Option<Surveying>,
    stream: Option<EventStream<Event>>,
    calls: Calls,
    stdout: Sink,
    stderr: Sink,
    /// Bytes of the task on our streams when something was shown last.
    shown_behind: [u64; 2],
    /// Whether the leader is reached by TLS.
    is_master_tls: bool,
    tail: Option<RunningTail>,
    record: Option<TaskRecord>,
    cidfile: Option<CidFile>,
    owned: Option<Owned>,
    /// What a restored scheduler has told.
    restored: Vec<Effect>,
    /// Where the next tail begins: behind what was delivered before.
    from: [u64; 2],
    /// Where the present one has begun.
    tail_from: [u64; 2],
    is_placed: bool,
    wants_to_leave: bool,
    /// `--interactive`, as long as it goes on.
    task_input: Option<TaskInput>,
    /// Why the task was ended before its time.
    input_failure: Option<String>,
    has_task_run: bool,
    has_task_ended: bool,
    /// There is no master any more who could tell the task's end.
    is_given_up: bool,
    outcome: Option<Outcome>,
    signals_seen: u32,
    /// Our readers, while a signal waits for them.
    readers: Option<Readers>,
    is_finished: bool,
}

/// How far our readers were when one of them took something last.
struct Readers {
    progress: [Progress; 2],
    since: Instant,
    next_look: Instant,
}

type Surveying = Pin<Box<dyn Future<Output = Result<Survey, String>>>>;

type Subscribing = Pin<Box<dyn Future<Output = Result<Subscription, Refusal>>>>;

/// The tail of the task's sandbox.
struct RunningTail {
    phase: watch::Sender<Phase>,
    reports: mpsc::UnboundedReceiver<Report>,
    /// Makes progress while the shell waits for anything; dropping it ends it.
    following: Pin<Box<dyn Future<Output = Tailed>>>,
}

impl Shell {
    fn new(
        job: Job,
        masters: Masters,
        owned: Option<Owned>,
        clients: Clients,
        display: &SharedDisplay,
        stderr: Sink,
    ) -> Result<Self, String> {
        let mut framework = job.framework.clone();
        // `master` takes away what the leader's version does not know.
        let always = [capability::Type::TaskKillingState, capability::Type::PartitionAware];
        for known in always.into_iter().chain(job.capabilities()) {
            framework.capabilities.push(Capability { r#type: Some(known.into()) });
        }
        let config = Config {
            framework,
            seed: Uuid::new_v4().as_u64_pair().0,
            master: masters.to_string(),
            can_suppress: true,
            connect_timeout: job.connect_timeout,
            reconnect_timeout: job.reconnect_timeout,
            is_recorded: owned.is_some(),
        };
        let cidfile = job.cidfile.as_deref().map(CidFile::create).transpose()?;
        let no_sink = |error| format!("cannot write the task's output: {error}");
        let stdout = Sink::stdout().map_err(no_sink)?.before_first_write(display.make_way(Stream::Stdout));
        let stderr = stderr.before_first_write(display.make_way(Stream::Stderr));
        if job.output.output_dir.is_some()
            && let Some(owned) = owned.as_ref().filter(|owned| owned.wants_output() && owned.past.offsets != [0, 0])
        {
            let run = owned.journal.run();
            return Err(format!(
                "cannot write --output-dir: output of run {run} was delivered before; get all of it with \
                 `launch-container logs {run} --output-dir=DIR`"
            ));
        }
        let [of_stdout, of_stderr] = manners(&job.output, &job.name)?;
        stdout.adopt(of_stdout);
        stderr.adopt(of_stderr);
        // Of a run that goes on, output may be wanted before any master answers.
        let is_master_tls = owned.is_some() && job.master.starts_with("https://");
        let mut from = [0, 0];
        let (scheduler, restored) = match &owned {
            Some(owned) => {
                if owned.wants_output() {
                    stdout.note_in(owned.journal.mark(0, rustix::stdio::stdout()));
                    stderr.note_in(owned.journal.mark(1, rustix::stdio::stderr()));
                    from = owned.past.offsets;
                }
                owned.scheduler(config, job.task.clone())
            }
            None => {
                let mut scheduler = Scheduler::new(config);
                let effects = scheduler.handle(Time::ZERO, Input::Add(Box::new(job.task.clone())));
                (scheduler, effects)
            }
        };
        Ok(Self {
            calls: Calls::new(clients.master.clone()),
            shown_behind: [0; 2],
            scheduler,
            owned,
            restored,
            from,
            tail_from: [0, 0],
            is_placed: false,
            wants_to_leave: false,
            task_input: job.is_interactive.then(TaskInput::default),
            input_failure: None,
            stdout,
            stderr,
            cidfile,
            job,
            clients,
            masters,
            display: display.clone(),
            started: Instant::now(),
            subscribing: None,
            leader: None,
            surveying: None,
            stream: None,
            is_master_tls,
            tail: None,
            record: None,
            has_task_run: false,
            has_task_ended: false,
            is_given_up: false,
            outcome: None,
            signals_seen: 0,
            readers: None,
            is_finished: false,
        })
    }

    async fn run(mut self, signals: &mut Signals, mut cluster: Option<&mut Cluster>) -> Result<Outcome, String> {
        self.begin();
        while !self.is_finished {
            let happening = self.next(signals, cluster.as_deref_mut()).await;
            if let Some(outcome) = self.handle(happening) {
                self.show_end(&outcome);
                self.calls.flush(LEAVE_LIMIT).await;
                return Ok(outcome);
            }
        }
        let outcome = self.outcome.clone().ok_or("the launcher ended before its task; this is a bug")?;
        self.show_end(&outcome);
        self.calls.flush(FLUSH_LIMIT).await;
        Ok(outcome)
    }

    /// A restored scheduler subscribes first: what it then hears may already be the end.
    fn begin(&mut self) {
        if self.owned.is_some() {
            self.note(Note::Owned { pid: std::process::id(), host: self.job.framework.hostname().to_owned() });
            self.input(Input::Tick);
        }
        let inputs: Vec<Input> =
            std::mem::take(&mut self.restored).into_iter().filter_map(|effect| self.perform(effect)).collect();
        inputs.into_iter().for_each(|input| self.input(input));
        if self.owned.as_ref().is_some_and(|owned| owned.purpose == Purpose::Kill) {
            let task_id = self.job.task_id().to_owned();
            self.input(Input::Interrupt { task_id, signal: 15, grace: None });
        }
    }

    async fn next(&mut self, signals: &mut Signals, cluster: Option<&mut Cluster>) -> Happening {
        let input_timeout = self.task_input.as_ref().and_then(|input| input.feed.next_timeout());
        let timeout = [self.scheduler.next_timeout(), input_timeout].into_iter().flatten().min();
        let timeout = timeout.map(|at| self.started + at);
        let tick = self.display.tick_interval().map(|interval| Instant::now() + interval);
        let stall_check = self.readers.as_ref().map(|readers| readers.next_look);
        let (reports, tail) = match &mut self.tail {
            Some(running) => (Some(&mut running.reports), Some(&mut running.following)),
            None => (None, None),
        };
        tokio::select! {
            biased;
            signal = signals.received() => Happening::Signal(signal),
            event = next_event(self.stream.as_mut()) => Happening::Stream(event),
            subscribed = or_pending(self.subscribing.as_mut()) => Happening::Subscribed(subscribed),
            failure = self.calls.next_failure() => Happening::CallFailed(failure),
            error = cluster_failure(cluster) => Happening::ClusterFailed(error),
            surveyed = or_pending(self.surveying.as_mut()) => Happening::Surveyed(surveyed),
            report = next_report(reports) => Happening::Report(report),
            tailed = or_pending(tail) => Happening::Tailed(tailed),
            read = next_read(self.task_input.as_mut()) => Happening::Read(read),
            () = sleep_until(timeout) => Happening::CoreTimeout,
            () = sleep_until(tick) => Happening::DisplayTick,
            () = sleep_until(stall_check) => Happening::StallCheck,
        }
    }

    /// `Some` only when the launcher must leave at once.
    fn handle(&mut self, happening: Happening) -> Option<Outcome> {
        match happening {
            Happening::Signal(Received::End(number)) => return self.interrupted(number),
            Happening::Signal(Received::PassOn(signal)) => {
                let task_id = self.job.task_id().to_owned();
                self.input(Input::Signal { task_id, signal });
            }
            Happening::Stream(Ok(Some(event))) => {
                tracing::debug!(event = ?event.r#type(), "received");
                self.input(Input::Event(event));
            }
            // The stream itself is whole, and an update comes again until it is acknowledged.
            Happening::Stream(Err(error @ HttpError::Decode { .. })) => {
                self.show(&Update::Notice(format!("an event is passed over: {}", chain(&error))));
            }
            Happening::Stream(end) => {
                self.calls.disconnect(self.stream.take());
                let reason = match end {
                    Err(error) => chain(&error),
                    Ok(_) => "the master closed the stream of events".to_owned(),
                };
                self.input(Input::Disconnected { reason, is_fatal: false });
            }
            Happening::Subscribed(Ok(subscription)) => {
                self.subscribing = None;
                let master = host_port(&subscription.leader);
                tracing::info!(master, version = ?subscription.version, "the stream of events is open");
                self.is_master_tls = subscription.leader.scheme() == "https";
                self.calls.connect(&subscription);
                self.stream = Some(subscription.stream);
                self.leader = Some(subscription.leader);
                self.input(Input::Connected { master });
            }
            Happening::Subscribed(Err(Refusal { reason, is_fatal })) => {
                self.subscribing = None;
                self.input(Input::Disconnected { reason, is_fatal });
            }
            // Its agents will never offer anything: the same as a master that says a final no.
            Happening::ClusterFailed(error) => {
                self.input(Input::Disconnected { reason: chain(&error), is_fatal: true });
            }
            Happening::CallFailed((call, reason)) => self.input(Input::CallFailed { call, reason }),
            Happening::Tailed(tailed) => self.tailed(tailed),
            Happening::Surveyed(surveyed) => self.surveyed(surveyed),
            Happening::Report(Report::Notice(text)) => self.show(&Update::Notice(text)),
            Happening::Report(Report::Pulling(progress)) => self.show(&Update::Pulling {
                layers_done: progress.layers_done,
                layers_total: progress.layers_total,
                bytes_done: progress.bytes_done,
                bytes_total: progress.bytes_total,
            }),
            Happening::Read(read) => self.feed(|feed, now, is_reachable| feed.take(now, is_reachable, read)),
            Happening::CoreTimeout => {
                self.feed(Feed::tick);
                self.input(Input::Tick);
            }
            Happening::DisplayTick => self.display.tick(),
            Happening::StallCheck => self.check_readers(),
        }
        None
    }

    /// First: kill with grace. Second: kill now or, when the task is over, leave output that is still unread. Third: leave,
    /// whatever is left.
    fn interrupted(&mut self, signal: u8) -> Option<Outcome> {
        self.signals_seen += 1;
        // The terminal is gone, but not the wish for the task.
        if signal == HANG_UP && self.can_be_left() {
            self.leave(Outcome::Interrupted(signal));
            return None;
        }
        if self.signals_seen >= SIGNALS_TO_LEAVE && self.can_be_left() {
            self.leave(Outcome::Interrupted(signal));
            return None;
        }
        if self.signals_seen >= SIGNALS_TO_LEAVE {
            self.input(Input::Stop);
            return Some(Outcome::Interrupted(signal));
        }
        if self.outcome.is_none() {
            let task_id = self.job.task_id().to_owned();
            self.input(Input::Interrupt { task_id, signal, grace: None });
        } else if self.signals_seen == 2 {
            self.set_phase(Phase::Abandon);
        }
        self.check_readers();
        None
    }

    /// Once a signal has asked us to end and the task is over, output waits for a reader only while he takes some.
    fn check_readers(&mut self) {
        if self.signals_seen == 0 || self.outcome.is_none() || self.tail.is_none() {
            self.readers = None;
            return;
        }
        let now = Instant::now();
        let progress = [self.stdout.progress(), self.stderr.progress()];
        let stands_still = |readers: &&Readers| readers.progress == progress && progress.iter().any(|it| it.is_waiting);
        let since = self.readers.as_ref().filter(stands_still).map_or(now, |readers| readers.since);
        if now - since >= STALL_LIMIT {
            self.set_phase(Phase::Abandon);
        }
        self.readers = Some(Readers { progress, since, next_look: now + STALL_CHECK_INTERVAL });
    }

    fn tailed(&mut self, tailed: Tailed) {
        self.tail = None;
        // Without a run there is nothing to lose, and often no sandbox; what the agent may have written there was still read.
        // Of a task that may go on nobody expects all.
        if self.has_task_run && !self.is_given_up {
            self.tell_lost("stdout", &tailed.stdout);
            self.tell_lost("stderr", &tailed.stderr);
            self.tell_lost_on_agent();
        }
        let is_all_there = tailed.stdout.lost.is_none() && tailed.stderr.lost.is_none() && !self.is_given_up;
        if is_all_there && self.outcome.is_some() {
            let [stdout, stderr] = self.tail_from;
            let all = |from: u64, file: &FileTailed| from + file.bytes_written + file.bytes_discarded + file.bytes_cut;
            let (stdout, stderr) = (all(stdout, &tailed.stdout), all(stderr, &tailed.stderr));
            self.note(Note::Delivered { stdout, stderr });
        }
        if self.has_task_run
            && self.outcome == Some(Outcome::Exited(0))
            && [&tailed.stdout, &tailed.stderr].iter().any(|file| file.lost.is_some())
        {
            // What follows behind `&&` would go on with half of it.
            let text = "the task ended with 0, but its output is not complete (see above); launch it again".to_owned();
            self.outcome = Some(Outcome::Failed(text));
        }
        if self.outcome.is_some() {
            self.input(Input::Stop);
        }
    }

    /// Shows an update of ours on a line of its own, also behind output that ended in the middle of one.
    fn show(&mut self, update: &Update) {
        // On stderr ours comes behind all that is in its queue; on stdout nobody can say what will have been written by then.
        let written = (self.stdout.written().written, self.stdout.is_mid_line());
        let positions = [(Stream::Stdout, written), (Stream::Stderr, self.stderr.given())];
        for ((stream, (bytes, is_mid_line)), shown_behind) in positions.into_iter().zip(&mut self.shown_behind) {
            if bytes != *shown_behind && is_mid_line {
                self.display.lock().output_written(stream, false);
            }
            *shown_behind = bytes;
        }
        self.display.show(update);
    }

    /// What our executor could not put into the sandbox.
    fn tell_lost_on_agent(&mut self) {
        let text = match self.record.as_ref().map(|record| record.lost_bytes) {
            Some(Some(0)) | None => return,
            Some(Some(bytes)) => {
                format!("{bytes} bytes of the task's output are lost: the agent's disk did not take them")
            }
            Some(None) => "the end of the task's output may be missing: the Docker engine broke it off".to_owned(),
        };
        self.show(&Update::Notice(text));
    }

    fn show_end(&mut self, outcome: &Outcome) {
        let task_id = self.job.task_id().to_owned();
        self.show(&Update::Ended { task_id, outcome: outcome.clone() });
    }

    fn tell_lost(&mut self, file: &'static str, result: &FileTailed) {
        if let Some(lost) = &result.lost {
            self.show(&Update::OutputLost { file, bytes: lost.bytes, why: lost.why.clone() });
        }
    }

    fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.scheduler.handle(self.now(), input) {
                inputs.extend(self.perform(effect));
            }
        }
        self.feed_told();
        if std::mem::take(&mut self.wants_to_leave) {
            self.leave(Outcome::Detached);
        }
    }

    fn now(&self) -> Time {
        self.started.elapsed()
    }

    /// Returns what the core must hear of it at once.
    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Subscribe(call) => {
                self.calls.disconnect(self.stream.take());
                let (client, masters) = (self.clients.master.clone(), self.masters.clone());
                self.show(&Update::Connecting { master: masters.to_string() });
                self.subscribing = Some(Box::pin(async move { master::subscribe(&client, &masters, &call).await }));
            }
            Effect::Disconnect => {
                self.subscribing = None;
                self.calls.disconnect(self.stream.take());
            }
            Effect::Call(call) => {
                if call.r#type() == call::Type::Accept
                    && let Some(why) = self.owned.as_mut().and_then(|owned| owned.refusal.take())
                {
                    self.tail = None;
                    self.outcome = Some(Outcome::Failed(format!("{why}; the task is not launched")));
                    return Some(Input::Stop);
                }
                if let Err((call, reason)) = self.calls.post(call) {
                    return Some(Input::CallFailed { call, reason });
                }
            }
            Effect::Update(update) => {
                self.survey(&update);
                self.show(&update);
            }
            Effect::Status(status) => self.watch_status(&status),
            Effect::Placed { wire_task_id, offer, .. } => {
                self.is_placed = true;
                if self.owned.as_ref().is_none_or(Owned::wants_output) {
                    self.start_tail(&wire_task_id, &offer);
                }
            }
            Effect::OutputAgain { .. } => self.ring(),
            Effect::Stdin { progress, .. } => {
                if let Some(input) = &mut self.task_input {
                    input.told.push(progress);
                }
            }
            Effect::Ended { outcome, .. } => return self.task_ended(outcome),
            Effect::Record(record) => self.remember(record),
            Effect::Finish => self.is_finished = true,
        }
        None
    }

    /// While nothing is offered at all, the master's list of agents may tell why.
    fn survey(&mut self, update: &Update) {
        let is_unexplained = matches!(update, Update::Waiting(waiting) if waiting.agents_offered == 0);
        if let Some(leader) = self.leader.clone().filter(|_| is_unexplained && self.surveying.is_none()) {
            let client = self.clients.master.clone();
            self.surveying = Some(Box::pin(async move { master::survey(&client, &leader).await }));
        }
    }

    fn surveyed(&mut self, surveyed: Result<Survey, String>) {
        self.surveying = None;
        match surveyed {
            Ok(survey) => self.input(Input::Surveyed(survey)),
            Err(reason) => tracing::info!(reason, "no survey of the agents"),
        }
    }

    fn watch_status(&mut self, status: &mesos::TaskStatus) {
        if let Some(Err(text)) = self.cidfile.as_mut().map(|file| file.learn(status)) {
            self.show(&Update::Notice(text));
        }
        if let Some(record) = status.data.as_deref().and_then(TaskRecord::parse) {
            self.record = Some(record);
        }
        let has_code = self.record.as_ref().is_some_and(|record| record.exit_code.is_some());
        self.has_task_ended |= !matches!(
            status.state(),
            TaskState::TaskStaging
                | TaskState::TaskStarting
                | TaskState::TaskRunning
                | TaskState::TaskKilling
                | TaskState::TaskUnreachable
                | TaskState::TaskUnknown
        );
        self.has_task_run |= has_code || matches!(status.state(), TaskState::TaskRunning | TaskState::TaskFinished);
        if matches!(status.state(), TaskState::TaskStarting | TaskState::TaskRunning) {
            self.set_phase(Phase::Running);
        }
        if let Some(input) = &mut self.task_input {
            input.has_begun |= status.state() == TaskState::TaskRunning;
        }
        let is_detached = self.owned.as_ref().is_some_and(|owned| owned.purpose == Purpose::Detach);
        self.wants_to_leave |= is_detached && status.state() == TaskState::TaskRunning;
    }

    fn task_ended(&mut self, outcome: Outcome) -> Option<Input> {
        let outcome = self.end_of_input(outcome);
        // What has kept the task from being launched goes first.
        self.outcome.get_or_insert(outcome);
        if self.tail.is_none() {
            return Some(Input::Stop);
        }
        let (stdout_bytes, stderr_bytes) =
            self.record.as_ref().map_or((None, None), |record| (record.stdout_bytes, record.stderr_bytes));
        self.is_given_up = !self.has_task_ended && self.stream.is_none() && self.subscribing.is_none();
        self.set_phase(if self.is_given_up { Phase::GivenUp } else { Phase::Ended { stdout_bytes, stderr_bytes } });
        self.check_readers();
        None
    }

    /// Somebody says that there is output. After the end all of it is read anyway.
    fn ring(&self) {
        if self.outcome.is_none() {
            tracing::debug!("the executor tells of output; the tail looks at once");
            self.set_phase(Phase::Running);
        }
    }

    fn set_phase(&self, phase: Phase) {
        if let Some(running) = &self.tail {
            running.phase.send_replace(phase);
        }
    }

    /// A relaunched task has a sandbox of its own; the one before never produced output.
    fn start_tail(&mut self, executor_id: &str, offer: &mesos::Offer) {
        self.tail_from = std::mem::take(&mut self.from);
        let (phase, phases) = watch::channel(Phase::Waiting);
        let (sender, reports) = mpsc::unbounded_channel();
        let outputs = Outputs {
            stdout: self.stdout.clone(),
            stderr: self.stderr.clone(),
            reports: sender,
            wants_pull_progress: !self.job.messages.is_quiet,
            from: self.tail_from,
            // A custom executor's words are the task's.
            cut: (!self.job.output.raw && self.job.task.info.executor.is_none()).then(|| origin(executor_id, offer)),
        };
        let following = Box::pin(tail::follow(
            self.clients.agents.clone(),
            location(executor_id, offer, &self.job.access, self.is_master_tls),
            outputs,
            phases,
        ));
        self.tail = Some(RunningTail { phase, reports, following });
    }
}

async fn next_event(stream: Option<&mut EventStream<Event>>) -> Result<Option<Box<Event>>, HttpError> {
    match stream {
        Some(stream) => Ok(stream.next().await?.map(Box::new)),
        None => pending().await,
    }
}

async fn next_read(input: Option<&mut TaskInput>) -> std::io::Result<Vec<u8>> {
    match input {
        Some(input) => input.feed.read().await,
        None => pending().await,
    }
}

async fn cluster_failure(cluster: Option<&mut Cluster>) -> LocalError {
    match cluster {
        Some(cluster) => cluster.failure().await,
        None => pending().await,
    }
}

async fn next_report(reports: Option<&mut mpsc::UnboundedReceiver<Report>>) -> Report {
    match reports {
        Some(reports) => match reports.recv().await {
            Some(report) => report,
            None => pending().await,
        },
        None => pending().await,
    }
}

async fn or_pending<F: Future + Unpin>(future: Option<&mut F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}
