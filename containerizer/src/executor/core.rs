//! The executor's state machine. PURE: inputs and time in, effects out; no clock, no randomness but the seed, no IO.
//!
//! ```text
//! the link                                       the task
//!
//!   waiting <--------------------------.           idle --LAUNCH--> starting --container runs--> running
//!     | retry time                     |             |   (STARTING)    |         (RUNNING)          |
//!     v                                |             |                 |                            |
//!   connecting --refused, broken-------|             `------- KILL, SHUTDOWN, SIGTERM, -------------|
//!     | SUBSCRIBED                     |                    completion time, agent lost             |
//!     v                                |                               v                            |
//!   subscribed --stream ends-----------'                           stopping (KILLING)               |
//!     | (checkpoint=1)                                                 |                            |
//!     | checkpoint=0, recovery timeout, ERROR                          |   container ended          |
//!     v                                                                v                            v
//!   abandoned: nothing more is sent                                reporting (one terminal update) <'
//!                                                                      | acknowledged, or the limit
//!                                                                      v
//!                                                                    done
//! ```
//!
//! The link and the task are independent: a task that ends while the agent is away is reported when it is back. An
//! executor that never got a task goes from `idle` or `stopping` to `done` when its container is gone.
//!
//! Output after a silence is told to the framework ([`ExecutorMessage`]), which then need not wait for its next look: once a
//! second at most, behind every update, only over a link that is up, and once; the framework finds the output anyway.
//!
//! Standard input that the launcher sends comes in order out of `stdin`, which also says what to answer.
//!
//! While the task runs, `checks` says what to try and what to make of the result; a task that is unhealthy for too long is
//! stopped like one that is killed.
//!
//! Grace of a stop, first that is set: the KILL's own kill policy, the task's kill policy, [`Config::kill_grace`]. A
//! shutdown leaves the agent's grace period less two seconds, because the agent destroys the container when it is over.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use proto::executor::{self, call};
use proto::mesos::framework_info::capability;
use proto::mesos::task_status::{Reason, Source};
use proto::mesos::{self, ContainerId, ContainerStatus, DurationInfo, KillPolicy, TaskInfo, TaskState, TaskStatus};
use proto::record::{self, ExecutorMessage, ExecutorNews, LauncherMessage, LauncherOrder};

use super::checks::{CheckKind, Checks, Finding, Probe, Verdict};
use super::environment::Environment;
use super::status::{self, StopReason};
use super::stdin::Stdin;
use super::updates::Updates;
use crate::lifecycle::{self, Ending, Started};

/// What time it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    /// Since the executor started; never goes back.
    pub monotonic: Duration,
    /// Seconds since the epoch, for status timestamps.
    pub epoch_seconds: f64,
}

/// What the executor is told once.
#[derive(Debug, Clone)]
pub struct Config {
    /// Of every call.
    pub framework_id: String,
    /// Of every call and status.
    pub executor_id: String,
    /// Of every status until the agent says otherwise.
    pub agent_id: String,
    /// Whether a lost agent is waited for.
    pub is_checkpointed: bool,
    /// How long a lost agent is waited for.
    pub recovery_timeout: Duration,
    /// Longest pause between two attempts to subscribe.
    pub backoff_max: Duration,
    /// From SIGTERM to SIGKILL where neither the KILL nor the task says.
    pub kill_grace: Duration,
    /// From SIGTERM to SIGKILL at a shutdown.
    pub shutdown_grace: Duration,
    /// Mesos' id of the container, for `container_status`; replaced by the agent's where it tells it.
    pub container_id: Option<String>,
    /// The process to report in `container_status`.
    pub pid: Option<u32>,
    /// The task of an executor that died and that this one continues; its container may run already.
    pub resumed_task: Option<TaskInfo>,
    /// What that executor still owed; `None`: all of the task is to be told.
    pub resumed_owed: Option<call::Subscribe>,
    /// Of update uuids and back-off jitter; must differ between processes.
    pub seed: u64,
}

impl Config {
    /// What follows from the environment; the rest is as for a command task.
    pub fn new(environment: &Environment, seed: u64) -> Self {
        Self {
            framework_id: environment.framework_id.clone(),
            executor_id: environment.executor_id.clone(),
            agent_id: environment.agent_id.clone(),
            is_checkpointed: environment.is_checkpointed,
            recovery_timeout: environment.recovery_timeout,
            backoff_max: environment.subscription_backoff_max,
            kill_grace: DEFAULT_KILL_GRACE,
            shutdown_grace: environment.shutdown_grace_period.saturating_sub(AGENT_SHUTDOWN_MARGIN),
            container_id: None,
            pid: None,
            resumed_task: None,
            resumed_owed: None,
            seed,
        }
    }
}

/// What the outside tells the executor.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The agent accepted the subscription.
    Subscribed(Box<executor::event::Subscribed>),
    /// The subscription was refused in a way that may pass, or its stream broke or ended.
    Disconnected {
        /// What was attempted, on what, why.
        reason: String,
    },
    /// LAUNCH.
    Launch(Box<TaskInfo>),
    /// KILL.
    Kill {
        /// Which task.
        task_id: String,
        /// Since 1.0.
        kill_policy: Option<KillPolicy>,
    },
    /// ACKNOWLEDGED.
    Acknowledged {
        /// Whose update.
        task_id: String,
        /// Which update.
        uuid: Vec<u8>,
    },
    /// SHUTDOWN.
    Shutdown,
    /// ERROR, or an answer that trying again does not change.
    Error(String),
    /// MESSAGE: of our launcher, or of anybody else.
    Message(Vec<u8>),
    /// The agent took the call of the last [`Effect::Send`].
    Sent,
    /// The agent did not take the call of the last [`Effect::Send`]; the stream may still be fine.
    SendFailed {
        /// What was attempted, on what, why.
        reason: String,
    },
    /// The container's owner tells. Exactly one `Ended` must come, also when the owner dies.
    Container(lifecycle::Event),
    /// What came of an [`Effect::Probe`] of this kind.
    Probed {
        /// Which check.
        kind: CheckKind,
        /// What was found.
        finding: Finding,
    },
    /// SIGTERM.
    Terminate,
    /// [`Executor::next_timeout`] has passed, or nothing happened.
    Tick,
}

/// What the shell must do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Open the event stream with this call; drop an old stream and a call under way first.
    Subscribe(Box<executor::Call>),
    /// Post this call, then answer `Sent` or `SendFailed`; no other comes before that answer or a `Subscribe`.
    Send(Box<executor::Call>),
    /// This is the task, for an owner that does not know it yet; comes at most once, before any `Container` for it.
    Task(Box<TaskInfo>),
    /// For the container's owner.
    Container(lifecycle::Command),
    /// Try this on the running container, then answer `Probed`.
    Probe(Box<Probe>),
    /// Leave; nothing follows.
    Finish(Finished),
}

/// What an executor leaves behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The task's terminal status; `None` when no task was launched.
    pub status: Option<Box<TaskStatus>>,
    /// Whether the agent has everything it was owed.
    pub is_acknowledged: bool,
    /// What went wrong on the way, if anything did.
    pub error: Option<String>,
}

/// The state machine: feed [`handle`](Self::handle), do the effects, come back by [`next_timeout`](Self::next_timeout).
#[derive(Debug)]
pub struct Executor {
    config: Config,
    random: fastrand::Rng,
    link: Link,
    /// When a link that is not up is given up.
    give_up_at: Duration,
    subscribed: Option<Box<executor::event::Subscribed>>,
    updates: Updates,
    send_again: Backoff,
    news: News,
    next_news_at: Duration,
    /// Signals that were sent, for the framework to know.
    signaled: VecDeque<i32>,
    /// That of the news in flight.
    signaled_in_flight: Option<i32>,
    /// An answer about standard input is on its way.
    is_stdin_in_flight: bool,
    stdin: Stdin,
    phase: Phase,
    task: Option<Box<TaskInfo>>,
    checks: Checks,
    /// Of the running container, for every update while it runs.
    container_status: Option<ContainerStatus>,
    refused_task_ids: HashSet<String>,
    early_kill: Option<(String, Option<KillPolicy>)>,
    terminal: Option<Box<TaskStatus>>,
    report_limit: Duration,
    error: Option<String>,
    effects: Vec<Effect>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Link {
    Waiting { retry_at: Duration },
    Connecting,
    Subscribed,
    Abandoned,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// No task yet; the container may have failed already.
    Idle { until: Option<Duration>, ended: Option<Box<Ending>> },
    /// The container was told to start.
    Starting,
    /// The container runs, at most until then.
    Running { until: Option<Duration> },
    /// The container was told to stop.
    Stopping { why: StopReason, force_at: Duration },
    /// The terminal update is out.
    Reporting { until: Duration },
    /// Finish was given.
    Done,
}

/// What the framework is still to be told of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    None,
    Waiting,
    InFlight,
}

/// When a refused call is sent again.
#[derive(Debug, Default)]
struct Backoff {
    at: Option<Duration>,
    delay: Duration,
}

impl Executor {
    /// A new executor that subscribes with its first input, usually a `Tick`.
    pub fn new(config: Config, now: Now) -> Self {
        let is_resumed = config.resumed_task.is_some();
        let mut executor = Self {
            random: fastrand::Rng::with_seed(config.seed),
            link: Link::Waiting { retry_at: now.monotonic },
            give_up_at: now.monotonic + if is_resumed { config.recovery_timeout } else { FIRST_SUBSCRIPTION_LIMIT },
            subscribed: None,
            updates: Updates::default(),
            send_again: Backoff::default(),
            news: News::None,
            next_news_at: now.monotonic,
            signaled: VecDeque::new(),
            signaled_in_flight: None,
            is_stdin_in_flight: false,
            stdin: Stdin::none(),
            phase: Phase::Idle { until: None, ended: None },
            task: None,
            checks: Checks::default(),
            container_status: None,
            refused_task_ids: HashSet::new(),
            early_kill: None,
            terminal: None,
            report_limit: REPORT_LIMIT,
            error: None,
            effects: Vec::new(),
            config,
        };
        if let Some(task) = executor.config.resumed_task.take() {
            executor.resume(now, task);
        }
        executor
    }

    fn resume(&mut self, now: Now, task: TaskInfo) {
        match self.config.resumed_owed.take() {
            None => self.updates.add_task(task.clone()),
            Some(owed) => {
                owed.unacknowledged_tasks.into_iter().for_each(|task| self.updates.add_task(task));
                owed.unacknowledged_updates.into_iter().for_each(|update| self.updates.add(update.status));
            }
        }
        self.checks = Checks::new(&task);
        if record::wants_stdin(&task) {
            self.stdin = Stdin::lost();
        }
        self.task = Some(Box::new(task));
        self.terminal = self.updates.terminal().cloned().map(Box::new);
        if self.terminal.is_some() {
            self.phase = Phase::Reporting { until: now.monotonic + self.report_limit };
            return;
        }
        self.phase = Phase::Starting;
        self.effects.push(Effect::Container(lifecycle::Command::Start));
    }

    /// What a successor would have to know, should this one be killed; it changes with every change of [`Executor::owed_version`].
    pub fn owed(&self) -> call::Subscribe {
        self.updates.owed()
    }

    /// Changes with what is owed.
    pub fn owed_version(&self) -> u64 {
        self.updates.version()
    }

    /// Takes one input; the effects are to be done in order.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        if self.phase == Phase::Done {
            return Vec::new();
        }
        match input {
            Input::Subscribed(subscribed) => self.on_subscribed(now, subscribed),
            Input::Disconnected { reason } => self.on_disconnected(now, reason),
            Input::Launch(task) => self.on_launch(now, task),
            Input::Kill { task_id, kill_policy } => self.on_kill(now, task_id, kill_policy),
            Input::Acknowledged { task_id, uuid } => self.updates.acknowledge(&task_id, &uuid),
            Input::Shutdown | Input::Terminate => self.on_shutdown(now),
            Input::Error(text) => self.abandon(now, text),
            Input::Message(data) => self.on_message(&data),
            Input::Tick => {}
            Input::Sent if self.news == News::InFlight => {
                self.news = News::None;
                self.signaled_in_flight = None;
                self.is_stdin_in_flight = false;
                self.send_again = Backoff::default();
            }
            Input::SendFailed { .. } if self.news == News::InFlight => self.on_news_refused(now),
            Input::Sent => {
                self.updates.sent();
                self.error = None;
                self.send_again = Backoff::default();
            }
            Input::SendFailed { reason } => {
                self.error = Some(reason);
                self.updates.send_failed();
                self.back_off(now);
            }
            Input::Container(lifecycle::Event::Pulling(_)) => {}
            Input::Container(lifecycle::Event::Started(started)) => self.on_started(now, started),
            Input::Container(lifecycle::Event::OutputAgain) => self.on_output_again(now),
            Input::Container(lifecycle::Event::StdinTaken(bytes)) => self.stdin.taken(bytes),
            Input::Container(lifecycle::Event::StdinOver) => self.stdin.over(),
            Input::Container(lifecycle::Event::StdinLost) => self.stdin.lose(),
            Input::Container(lifecycle::Event::Ended(ending)) => self.on_ended(now, ending),
            Input::Probed { kind, finding } => self.on_probed(now, kind, &finding),
        }
        self.check_timeouts(now);
        self.finish_if_over(now);
        self.send_next(now);
        std::mem::take(&mut self.effects)
    }

    /// When to come back with a `Tick` at the latest, as `Now::monotonic`.
    pub fn next_timeout(&self) -> Option<Duration> {
        let link = match self.link {
            Link::Waiting { retry_at } => Some(retry_at.min(self.give_up_at)),
            Link::Connecting => Some(self.give_up_at),
            Link::Subscribed => self.send_again.at,
            Link::Abandoned => None,
        };
        let task = match &self.phase {
            Phase::Idle { until, .. } => *until,
            Phase::Running { until } => [*until, self.checks.next_timeout()].into_iter().flatten().min(),
            Phase::Reporting { until } => self.is_report_limited().then_some(*until),
            Phase::Starting | Phase::Stopping { .. } => None,
            Phase::Done => return None,
        };
        [link, task].into_iter().flatten().min()
    }

    fn on_subscribed(&mut self, now: Now, subscribed: Box<executor::event::Subscribed>) {
        if self.link == Link::Abandoned {
            return;
        }
        self.link = Link::Subscribed;
        self.subscribed = Some(subscribed);
        self.error = None;
        self.send_again = Backoff::default();
        match &mut self.phase {
            Phase::Idle { until, .. } => *until = Some(now.monotonic + LAUNCH_LIMIT),
            Phase::Reporting { until } => *until = now.monotonic + self.report_limit,
            Phase::Starting | Phase::Running { .. } | Phase::Stopping { .. } | Phase::Done => {}
        }
    }

    fn on_disconnected(&mut self, now: Now, reason: String) {
        match self.link {
            Link::Abandoned | Link::Waiting { .. } => return,
            Link::Subscribed if !self.config.is_checkpointed => return self.abandon(now, reason),
            Link::Subscribed => self.give_up_at = now.monotonic + self.config.recovery_timeout,
            Link::Connecting => {}
        }
        self.updates.disconnected();
        self.news = News::None;
        self.news_again();
        self.error = Some(reason);
        let pause = self.config.backoff_max.min(BACKOFF_MAX).mul_f64(self.random.f64());
        self.link = Link::Waiting { retry_at: now.monotonic + pause.max(BACKOFF_MIN) };
        if let Phase::Idle { until, .. } = &mut self.phase {
            *until = None;
        }
    }

    fn abandon(&mut self, now: Now, why: String) {
        self.link = Link::Abandoned;
        self.error = Some(why);
        self.stop(now, StopReason::Requested, self.config.shutdown_grace);
    }

    fn on_launch(&mut self, now: Now, task: Box<TaskInfo>) {
        if self.task.as_ref().is_some_and(|known| known.task_id == task.task_id) {
            return;
        }
        if self.task.is_some() {
            return self.refuse(now, &task);
        }
        self.updates.add_task((*task).clone());
        self.effects.push(Effect::Task(task.clone()));
        self.checks = Checks::new(&task);
        if record::wants_stdin(&task) {
            self.stdin = Stdin::open();
        }
        self.task = Some(task.clone());
        let Phase::Idle { ended, .. } = &mut self.phase else {
            // A shutdown came first: the end of the container will be this task's end.
            return;
        };
        let ended = ended.take();
        self.phase = Phase::Starting;
        let starting = self.new_status(now, &task.task_id.value, TaskState::TaskStarting);
        self.updates.add(starting);
        if let Some(ending) = ended {
            return self.on_ended(now, *ending);
        }
        match self.early_kill.take().filter(|(task_id, _)| *task_id == task.task_id.value) {
            Some((task_id, kill_policy)) => self.on_kill(now, task_id, kill_policy),
            None => self.effects.push(Effect::Container(lifecycle::Command::Start)),
        }
    }

    fn refuse(&mut self, now: Now, task: &TaskInfo) {
        if !self.refused_task_ids.insert(task.task_id.value.clone()) {
            return;
        }
        self.updates.add_task(task.clone());
        let message = "Attempted to run multiple tasks using a \"docker\" executor".to_owned();
        let failed = self.new_status(now, &task.task_id.value, TaskState::TaskFailed);
        self.updates.add(TaskStatus { message: Some(message), reason: Some(Reason::TaskInvalid as i32), ..failed });
    }

    fn on_kill(&mut self, now: Now, task_id: String, kill_policy: Option<KillPolicy>) {
        let Some(task) = &self.task else {
            self.early_kill = Some((task_id, kill_policy));
            return;
        };
        if task.task_id.value == task_id {
            let grace = grace_period(kill_policy.as_ref())
                .or_else(|| grace_period(task.kill_policy.as_ref()))
                .unwrap_or(self.config.kill_grace);
            self.stop(now, StopReason::Requested, grace);
        }
    }

    fn on_shutdown(&mut self, now: Now) {
        self.report_limit = HURRIED_REPORT_LIMIT;
        if let Phase::Reporting { until } = &mut self.phase {
            *until = (*until).min(now.monotonic + HURRIED_REPORT_LIMIT);
        }
        self.stop(now, StopReason::Requested, self.config.shutdown_grace);
    }

    fn stop(&mut self, now: Now, why: StopReason, grace: Duration) {
        let force_at = now.monotonic + grace;
        match &mut self.phase {
            Phase::Idle { ended: Some(_), .. } => return self.finish(),
            Phase::Stopping { force_at: earlier, .. } if *earlier <= force_at => return,
            Phase::Stopping { force_at: later, .. } => *later = force_at,
            Phase::Idle { .. } => self.phase = Phase::Stopping { why, force_at },
            Phase::Starting | Phase::Running { .. } => {
                self.phase = Phase::Stopping { why, force_at };
                self.report_killing(now);
            }
            Phase::Reporting { .. } | Phase::Done => return,
        }
        self.effects.push(Effect::Container(lifecycle::Command::Stop { grace }));
    }

    fn report_killing(&mut self, now: Now) {
        let capabilities = self.subscribed.iter().flat_map(|subscribed| &subscribed.framework_info.capabilities);
        let knows_killing = capabilities
            .filter_map(|capability| capability.r#type)
            .any(|number| number == capability::Type::TaskKillingState as i32);
        let Some(task) = &self.task else { return };
        if knows_killing {
            let killing = self.new_status(now, &task.task_id.value.clone(), TaskState::TaskKilling);
            self.updates.add(killing);
        }
    }

    fn on_started(&mut self, now: Now, started: Started) {
        if self.phase == Phase::Starting {
            let limit = self.task.as_ref().and_then(|task| task.max_completion_time).and_then(duration);
            self.phase = Phase::Running { until: limit.map(|limit| now.monotonic.saturating_add(limit)) };
            self.checks.start(now.monotonic);
            self.report_running(now, &started);
        }
    }

    fn on_probed(&mut self, now: Now, kind: CheckKind, finding: &Finding) {
        let Phase::Running { .. } = self.phase else { return };
        let Some(verdict) = self.checks.found(now.monotonic, kind, finding) else { return };
        let (reason, message) = match &verdict {
            Verdict::Healthy => (Reason::TaskHealthCheckStatusUpdated, None),
            Verdict::Unhealthy { why, .. } => (Reason::TaskHealthCheckStatusUpdated, Some(why.clone())),
            Verdict::Status => (Reason::TaskCheckStatusUpdated, None),
        };
        let Some(task) = &self.task else { return };
        let running = self.new_status(now, &task.task_id.value.clone(), TaskState::TaskRunning);
        self.updates.add(TaskStatus {
            healthy: self.checks.is_healthy(),
            message,
            // Agents before 1.2 and 1.4 do not know these, and pass on an optional number that they do not know.
            reason: Some(reason as i32),
            container_status: self.container_status.clone(),
            ..running
        });
        if let Verdict::Unhealthy { why, is_fatal: true } = verdict {
            let own = self.task.as_ref().and_then(|task| grace_period(task.kill_policy.as_ref()));
            self.stop(now, StopReason::Unhealthy(why), own.unwrap_or(self.config.kill_grace));
        }
    }

    fn report_running(&mut self, now: Now, started: &Started) {
        let Some(task) = &self.task else { return };
        let told = self.subscribed.as_ref().and_then(|subscribed| subscribed.container_id.clone());
        let configured = || self.config.container_id.clone().map(|value| ContainerId { value, parent: None });
        let container_id = told.or_else(configured);
        let container = status::container_status(task, started, container_id.as_ref(), self.config.pid);
        self.container_status = Some(container);
        // The one before us may have told it. Where it was acknowledged, it is told twice, which says nothing new.
        if self.updates.has(TaskState::TaskRunning) {
            return;
        }
        let running = self.new_status(now, &task.task_id.value.clone(), TaskState::TaskRunning);
        let data = started.inspection.clone().map(String::into_bytes);
        self.updates.add(TaskStatus { container_status: self.container_status.clone(), data, ..running });
    }

    fn on_output_again(&mut self, now: Now) {
        let may_follow = match self.phase {
            Phase::Starting | Phase::Running { .. } | Phase::Stopping { .. } => true,
            Phase::Idle { .. } | Phase::Reporting { .. } | Phase::Done => false,
        };
        let is_due = self.news == News::None && now.monotonic >= self.next_news_at;
        if may_follow && is_due && self.link == Link::Subscribed {
            self.news = News::Waiting;
            self.next_news_at = now.monotonic + NEWS_INTERVAL;
        }
    }

    /// News of the output come again with the next output; that a signal was passed on is said until it is taken.
    fn on_news_refused(&mut self, now: Now) {
        self.news = News::None;
        if self.signaled_in_flight.is_some() || self.is_stdin_in_flight {
            self.news_again();
            self.back_off(now);
        }
    }

    /// What the launcher waits for, and may not have got.
    fn news_again(&mut self) {
        if std::mem::take(&mut self.is_stdin_in_flight) {
            self.stdin.answer_again();
        }
        if let Some(number) = self.signaled_in_flight.take() {
            self.signaled.push_front(number);
        }
    }

    fn back_off(&mut self, now: Now) {
        let delay = (self.send_again.delay * 2).clamp(SEND_AGAIN_MIN, SEND_AGAIN_MAX);
        self.send_again = Backoff { at: Some(now.monotonic + delay), delay };
    }

    fn on_ended(&mut self, now: Now, ending: Ending) {
        if self.news == News::Waiting {
            // The terminal update tells more.
            self.news = News::None;
        }
        match &mut self.phase {
            Phase::Idle { ended, .. } => {
                *ended = Some(Box::new(ending));
                return;
            }
            Phase::Starting => {
                // It ran, if only for a moment, and a task that ran is seen RUNNING.
                if let Some(started) = &ending.started {
                    self.report_running(now, started);
                }
            }
            Phase::Running { .. } | Phase::Stopping { .. } => {}
            Phase::Reporting { .. } | Phase::Done => return,
        }
        let Some(task) = &self.task else { return self.finish() };
        let why = match &self.phase {
            Phase::Stopping { why, .. } => Some(why.clone()),
            _ => None,
        };
        let outcome = status::outcome(&ending, why.as_ref());
        let terminal = TaskStatus {
            message: Some(outcome.message),
            healthy: outcome.healthy,
            reason: outcome.reason.map(|reason| reason as i32),
            data: Some(status::record(&ending, self.stdin.given_bytes()).to_bytes()),
            ..self.new_status(now, &task.task_id.value.clone(), outcome.state)
        };
        self.terminal = Some(Box::new(terminal.clone()));
        self.updates.add(terminal);
        self.phase = Phase::Reporting { until: now.monotonic + self.report_limit };
    }

    fn check_timeouts(&mut self, now: Now) {
        if self.phase == Phase::Done {
            return;
        }
        match self.link {
            Link::Waiting { .. } | Link::Connecting if now.monotonic >= self.give_up_at => {
                let last = self.error.take().unwrap_or_else(|| "it did not answer".to_owned());
                self.abandon(now, format!("the agent was waited for in vain; {last}"));
            }
            Link::Waiting { retry_at } if now.monotonic >= retry_at => {
                self.link = Link::Connecting;
                self.news = News::None;
                let subscribe = self.updates.subscribe();
                let call = self.new_call(call::Type::Subscribe);
                self.effects.push(Effect::Subscribe(Box::new(executor::Call { subscribe: Some(subscribe), ..call })));
            }
            Link::Waiting { .. } | Link::Connecting | Link::Subscribed | Link::Abandoned => {}
        }
        match self.phase {
            Phase::Idle { until: Some(until), .. } if now.monotonic >= until => {
                self.error = Some(format!("the agent gave no task within {LAUNCH_LIMIT:?}"));
                self.stop(now, StopReason::Requested, Duration::ZERO);
            }
            Phase::Running { until: Some(until) } if now.monotonic >= until => {
                let limit = self.task.as_ref().and_then(|task| task.max_completion_time).and_then(duration);
                self.stop(now, StopReason::CompletionTime(limit.unwrap_or_default()), Duration::ZERO);
            }
            Phase::Running { .. } => {
                let due = self.checks.take_due(now.monotonic);
                self.effects.extend(due.into_iter().map(|probe| Effect::Probe(Box::new(probe))));
            }
            _ => {}
        }
    }

    /// Signals and input of the launcher go to its task; what others say is not for us. A task that does not run yet, or is
    /// being stopped, gets none, and nobody is told that it did.
    fn on_message(&mut self, data: &[u8]) {
        let Some(LauncherMessage { task_id, order, payload, .. }) = LauncherMessage::parse(data) else { return };
        let is_ours = self.task.as_ref().is_some_and(|task| task.task_id.value == task_id);
        if !is_ours || !matches!(self.phase, Phase::Running { .. }) {
            return;
        }
        match order {
            LauncherOrder::Signal(number) => {
                self.effects.push(Effect::Container(lifecycle::Command::Signal(number)));
                self.signaled.push_back(number);
            }
            LauncherOrder::Stdin { offset, is_last } => {
                let parts = self.stdin.receive(offset, payload, is_last);
                self.effects.extend(parts.into_iter().map(lifecycle::Command::Stdin).map(Effect::Container));
            }
        }
    }

    fn send_next(&mut self, now: Now) {
        let is_over = self.phase == Phase::Done;
        let is_busy = self.updates.is_in_flight() || self.news == News::InFlight;
        if is_over || is_busy || self.link != Link::Subscribed {
            return;
        }
        if self.send_again.at.is_some_and(|at| now.monotonic < at) {
            return;
        }
        self.send_again.at = None;
        if let Some(update) = self.updates.take_next() {
            let call = self.new_call(call::Type::Update);
            self.effects.push(Effect::Send(Box::new(executor::Call { update: Some(update), ..call })));
        } else if let Some(task) = &self.task {
            self.signaled_in_flight = self.signaled.pop_front();
            let news = match (self.signaled_in_flight, self.news) {
                (Some(number), _) => ExecutorNews::Signaled(number),
                (None, News::Waiting) => ExecutorNews::OutputAgain,
                (None, News::None | News::InFlight) => match self.stdin.take_answer() {
                    Some(progress) => {
                        self.is_stdin_in_flight = true;
                        ExecutorNews::Stdin(progress)
                    }
                    None => return,
                },
            };
            let data = ExecutorMessage::new(task.task_id.value.clone(), news).to_bytes();
            let call = self.new_call(call::Type::Message);
            self.news = News::InFlight;
            let message = Some(call::Message { data });
            self.effects.push(Effect::Send(Box::new(executor::Call { message, ..call })));
        }
    }

    fn finish_if_over(&mut self, now: Now) {
        let Phase::Reporting { until } = self.phase else { return };
        if self.updates.is_empty() || self.link == Link::Abandoned {
            self.finish();
        } else if self.is_report_limited() && now.monotonic >= until {
            self.error = Some("the agent did not acknowledge the terminal update in time".to_owned());
            self.finish();
        }
    }

    /// While the agent is away its recovery timeout counts instead; after a shutdown nothing is waited for that long.
    fn is_report_limited(&self) -> bool {
        self.link == Link::Subscribed || self.report_limit == HURRIED_REPORT_LIMIT
    }

    fn finish(&mut self) {
        self.phase = Phase::Done;
        let is_acknowledged = self.updates.is_empty();
        self.effects.push(Effect::Finish(Finished {
            status: self.terminal.take(),
            is_acknowledged,
            error: self.error.take(),
        }));
    }

    fn new_status(&mut self, now: Now, task_id: &str, state: TaskState) -> TaskStatus {
        let told = self.subscribed.as_ref().and_then(|subscribed| subscribed.agent_info.id.clone());
        let agent_id = told.unwrap_or_else(|| mesos::AgentId { value: self.config.agent_id.clone() });
        let is_ours = self.task.as_ref().is_some_and(|task| task.task_id.value == task_id);
        let uuid = uuid::Builder::from_random_bytes(self.random.u128(..).to_ne_bytes()).into_uuid();
        TaskStatus {
            task_id: mesos::TaskId { value: task_id.to_owned() },
            state: state as i32,
            agent_id: Some(agent_id),
            executor_id: Some(mesos::ExecutorId { value: self.config.executor_id.clone() }),
            source: Some(Source::Executor as i32),
            timestamp: Some(now.epoch_seconds),
            uuid: Some(uuid.as_bytes().to_vec()),
            // A task with a check has one in each of its statuses.
            check_status: self.checks.status().filter(|_| is_ours).cloned(),
            ..TaskStatus::default()
        }
    }

    fn new_call(&self, kind: call::Type) -> executor::Call {
        executor::Call {
            executor_id: mesos::ExecutorId { value: self.config.executor_id.clone() },
            framework_id: mesos::FrameworkId { value: self.config.framework_id.clone() },
            r#type: Some(kind as i32),
            ..executor::Call::default()
        }
    }
}

fn grace_period(policy: Option<&KillPolicy>) -> Option<Duration> {
    policy.and_then(|policy| policy.grace_period).map(|grace| duration(grace).unwrap_or(Duration::ZERO))
}

/// `None` for a negative one.
fn duration(info: DurationInfo) -> Option<Duration> {
    u64::try_from(info.nanoseconds).ok().map(Duration::from_nanos)
}

/// As Mesos' own executor of command tasks.
const DEFAULT_KILL_GRACE: Duration = Duration::from_secs(3);
/// The agent destroys the container when its grace period is over: ours ends before.
const AGENT_SHUTDOWN_MARGIN: Duration = Duration::from_secs(2);
/// An agent gives an executor a minute to register before it destroys it.
const FIRST_SUBSCRIPTION_LIMIT: Duration = Duration::from_secs(60);
/// A task follows the subscription at once; agents before 1.4.2 never tell an executor whose task was killed meanwhile.
const LAUNCH_LIMIT: Duration = Duration::from_secs(5 * 60);
/// A restarted agent waits two seconds for its executors, so the pause between two attempts stays well below.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// A framework that was told looks often for longer than this.
const NEWS_INTERVAL: Duration = Duration::from_secs(1);
const SEND_AGAIN_MIN: Duration = Duration::from_millis(100);
const SEND_AGAIN_MAX: Duration = Duration::from_secs(5);
/// For the acknowledgement of the terminal update; longer than any agent takes to reduce the container's resources.
const REPORT_LIMIT: Duration = Duration::from_secs(60);
/// The same after SHUTDOWN, when an agent whose framework is gone acknowledges nothing, and after SIGTERM, when it waits
/// for the executor's exit without limit.
const HURRIED_REPORT_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
