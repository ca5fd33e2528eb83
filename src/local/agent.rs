//! The embedded agent's core, one per agent. PURE: time and messages in, effects out.
//!
//! It plays a slave of Mesos 1.0.4 with an external containerizer. One executor, from its first task to its end:
//!
//! ```text
//! RunTask -> launch --failed----------------------------------------------.
//!              | succeeded: wait                                          |
//!              v                                                          v
//!         Registering --SUBSCRIBE--> Running ----wait returned------> ended: its live tasks fail,
//!              |                       |                               it moves to the completed ones
//!              | 1 min, killed         | SHUTDOWN, failed update          ^
//!              v                       v                                  |
//!            Terminating --grace over--> destroy --destroyed--------------'
//! ```
//!
//! A task is handed to its executor, and its end to the master, only after the containerizer's `update` with the new
//! resources; `update`s of one container follow each other. All verbs but `launch` wait until `launch` has succeeded.
//! Updates of executors go to the master one at a time per task, see `status_updates`.

mod calls;
mod containers;
mod executor;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proto::executor::{Call, Event, call, event};
use proto::mesos::task_status::{Reason, Source};
use proto::{ecp, mesos};

pub(in crate::local) use executor::Executor;
use executor::{Job, Pending, State};

use super::master::{self, StreamId, is_terminal};
use super::status_updates::{Acknowledged, StatusUpdates};

/// From `launch` to SUBSCRIBE; pulls of images come after it.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an executor without live tasks may take to leave when the cluster shuts down.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Ended executors kept for `/state`, per framework, as in Mesos.
const MAX_COMPLETED_EXECUTORS: usize = 150;
/// Ended frameworks kept for `/state`, as in Mesos.
const MAX_COMPLETED_FRAMEWORKS: usize = 50;

/// What an agent is told once.
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// With the id.
    pub info: mesos::AgentInfo,
    /// K in `slave(K)`.
    pub number: u32,
    /// Where it is reached: an address.
    pub hostname: String,
    /// And the port.
    pub port: u16,
    /// The sandboxes are below this.
    pub work_dir: String,
    /// Where a real agent has its helper programs.
    pub libexec: String,
    /// From SHUTDOWN to `destroy`, where the executor does not say.
    pub shutdown_grace: Duration,
    /// Whether sandboxes and tasks belong to the framework's user; else to this process' user.
    pub switch_user: bool,
    /// Seconds since the epoch at time zero.
    pub epoch_seconds: f64,
    /// Ids of containers and updates are counted up from here.
    pub first_id: u128,
}

/// What the outside tells the agent.
#[derive(Debug)]
pub(super) enum Input {
    /// The master's: run this task.
    RunTask { framework: Arc<mesos::FrameworkInfo>, task: Box<mesos::TaskInfo> },
    /// The master's: end this task.
    KillTask { framework_id: String, task_id: String, kill_policy: Option<mesos::KillPolicy> },
    /// The master's: the scheduler has this update.
    Acknowledge { framework_id: String, task_id: String, uuid: Vec<u8> },
    /// The master's: end this executor.
    ShutdownExecutor { framework_id: String, executor_id: String },
    /// The master's: end all executors of this framework.
    ShutdownFramework { framework_id: String },
    /// The master's: a scheduler says something to its executor.
    Message { framework_id: String, executor_id: String, data: Vec<u8> },
    /// An executor's SUBSCRIBE; the answer is the new stream.
    Subscribe { stream: StreamId, call: Box<Call> },
    /// Any other call of an executor.
    Call(Box<Call>),
    /// The connection of this stream broke.
    Disconnected { stream: StreamId },
    /// `launch` has exited; else why it failed.
    Launched { container_id: String, result: Result<(), String> },
    /// `update` has exited; else why it failed.
    Updated { container_id: String, result: Result<(), String> },
    /// `wait` has exited; else why it failed.
    Waited { container_id: String, result: Result<ecp::Termination, String> },
    /// `destroy` has exited, and `wait` was ended.
    Destroyed { container_id: String },
    /// The cluster ends: let go what is about to leave, destroy the rest.
    Shutdown,
    /// `next_timeout` has passed.
    Tick,
}

/// What the shell must do, in this order.
#[derive(Debug)]
pub(super) enum Effect {
    /// The call just given is refused with this HTTP status; the only effect then.
    Reject { status: u16, text: String },
    /// Send this on the executor's stream.
    Event { stream: StreamId, event: Box<Event> },
    /// End the stream after what was sent.
    CloseStream { stream: StreamId },
    /// Tell the master.
    Master(Box<master::Input>),
    /// Make the sandbox, run `launch` with this in its environment, then tell `Launched`.
    Launch { launch: Box<ecp::Launch>, environment: Vec<(String, String)> },
    /// Run `update`, then tell `Updated`.
    Update { directory: String, update: Box<ecp::Update> },
    /// Run `wait`, then tell `Waited`.
    Wait { directory: String, container_id: String },
    /// Run `destroy`, end `wait`, then tell `Destroyed` and no longer `Waited`.
    Destroy { directory: String, container_id: String },
}

/// The agent: frameworks, executors, updates on their way.
#[derive(Debug)]
pub(super) struct Agent {
    config: Config,
    frameworks: BTreeMap<String, Framework>,
    completed: VecDeque<Framework>,
    updates: StatusUpdates,
    is_shutting_down: bool,
    next_id: u128,
}

/// A framework that has, or had, executors here.
#[derive(Debug)]
pub(super) struct Framework {
    pub info: mesos::FrameworkInfo,
    pub executors: BTreeMap<String, Executor>,
    /// The last ended ones, oldest first.
    pub completed: VecDeque<Executor>,
    /// The master has removed it: nobody wants to hear of its tasks.
    is_removed: bool,
}

impl Agent {
    pub(super) fn new(config: Config) -> Self {
        let next_id = config.first_id;
        Self {
            config,
            frameworks: BTreeMap::new(),
            completed: VecDeque::new(),
            updates: StatusUpdates::default(),
            is_shutting_down: false,
            next_id,
        }
    }

    /// Takes one input; what must be done comes back in order. `now` never goes backwards.
    pub(super) fn handle(&mut self, now: Duration, input: Input) -> Vec<Effect> {
        let mut turn = Turn { agent: self, now, effects: Vec::new() };
        match input {
            Input::RunTask { framework, task } => turn.run_task(&framework, *task),
            Input::KillTask { framework_id, task_id, kill_policy } => {
                turn.kill_task(&framework_id, &task_id, kill_policy);
            }
            Input::Acknowledge { framework_id, task_id, uuid } => turn.acknowledge(&framework_id, &task_id, &uuid),
            Input::ShutdownExecutor { framework_id, executor_id } => turn.shut_down(&framework_id, &executor_id),
            Input::ShutdownFramework { framework_id } => turn.shut_framework_down(&framework_id),
            Input::Message { framework_id, executor_id, data } => turn.message(&framework_id, &executor_id, data),
            Input::Subscribe { stream, call } => turn.subscribe(stream, *call),
            Input::Call(call) => turn.call(*call),
            Input::Disconnected { stream } => turn.disconnected(stream),
            Input::Launched { container_id, result } => turn.launched(&container_id, result),
            Input::Updated { container_id, result } => turn.updated(&container_id, result),
            Input::Waited { container_id, result } => turn.waited(&container_id, result),
            Input::Destroyed { container_id } => turn.destroyed(&container_id),
            Input::Shutdown => turn.shut_everything_down(),
            Input::Tick => {}
        }
        turn.expire();
        turn.effects
    }

    /// When to call `handle` with `Tick` at the latest.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let executors = self.frameworks.values().flat_map(|framework| framework.executors.values());
        let deadlines = executors.flat_map(|executor| [executor.register_by, executor.end_by]).flatten();
        deadlines.chain(self.updates.next_timeout()).min()
    }

    /// Whether no executor is left.
    pub(super) fn is_empty(&self) -> bool {
        self.frameworks.values().all(|framework| framework.executors.is_empty())
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn frameworks(&self) -> impl Iterator<Item = &Framework> {
        self.frameworks.values()
    }

    pub(super) fn completed_frameworks(&self) -> impl Iterator<Item = &Framework> {
        self.completed.iter()
    }

    /// Executors that have a container, with the id of their framework.
    pub(super) fn executors(&self) -> impl Iterator<Item = (&str, &Executor)> {
        self.frameworks.iter().flat_map(|(id, framework)| framework.executors.values().map(|it| (id.as_str(), it)))
    }
}

/// Whether an executor's call has what its type needs, in Mesos' words.
///
/// # Errors
///
/// The text for the 400.
pub(super) fn check_call(call: &Call) -> Result<(), String> {
    let Some(kind) = call.r#type.and_then(|number| call::Type::try_from(number).ok()) else {
        return Err("Expecting 'type' to be present".to_owned());
    };
    match kind {
        call::Type::Subscribe if call.subscribe.is_none() => Err("Expecting 'subscribe' to be present".to_owned()),
        call::Type::Message if call.message.is_none() => Err("Expecting 'message' to be present".to_owned()),
        call::Type::Update => match &call.update {
            Some(update) => check_update(call, &update.status),
            None => Err("Expecting 'update' to be present".to_owned()),
        },
        call::Type::Unknown | call::Type::Subscribe | call::Type::Message | call::Type::Heartbeat => Ok(()),
    }
}

fn check_update(call: &Call, status: &mesos::TaskStatus) -> Result<(), String> {
    match &status.uuid {
        None => return Err("Expecting 'uuid' to be present".to_owned()),
        Some(uuid) if uuid.len() != 16 => return Err("Not a valid UUID".to_owned()),
        Some(_) => {}
    }
    if status.executor_id.as_ref().is_some_and(|id| *id != call.executor_id) {
        return Err("ExecutorID in Call does not match ExecutorID in TaskStatus".to_owned());
    }
    if status.source != Some(Source::Executor as i32) {
        return Err("Received Call from executor with a source that is not SOURCE_EXECUTOR".to_owned());
    }
    if status.state() == mesos::TaskState::TaskStaging {
        return Err("Received TASK_STAGING from executor which is not allowed".to_owned());
    }
    Ok(())
}

/// The handling of one input.
struct Turn<'a> {
    agent: &'a mut Agent,
    now: Duration,
    effects: Vec<Effect>,
}

impl Turn<'_> {
    fn run_task(&mut self, info: &mesos::FrameworkInfo, task: mesos::TaskInfo) {
        let framework_id = info.id.clone().unwrap_or_default().value;
        if self.agent.is_shutting_down {
            return;
        }
        let info = mesos::FrameworkInfo { checkpoint: Some(false), ..info.clone() };
        let container_id = self.new_uuid().hyphenated().to_string();
        let config = &self.agent.config;
        let framework = self.agent.frameworks.entry(framework_id.clone()).or_insert_with(|| Framework {
            info: info.clone(),
            executors: BTreeMap::new(),
            completed: VecDeque::new(),
            is_removed: false,
        });
        framework.info = info;
        let executor_id =
            task.executor.as_ref().map_or(&task.task_id.value, |executor| &executor.executor_id.value).clone();
        if let Some(executor) = framework.executors.get_mut(&executor_id) {
            match executor.state {
                State::Registering => executor.queued.push(task),
                State::Running => {
                    executor.jobs.push_back(Job::HandOver(vec![task.task_id.value.clone()]));
                    executor.queued.push(task);
                    self.start_job(&framework_id, &executor_id);
                }
                State::Terminating => {
                    let message = "Executor is terminating".to_owned();
                    let state = mesos::TaskState::TaskLost;
                    self.say(&framework_id, &task.task_id, &executor_id, state, Reason::ExecutorTerminated, message);
                }
            }
            return;
        }
        let is_command = task.executor.is_none();
        let executor_info = match &task.executor {
            Some(executor) => executor.as_ref().clone(),
            None => config.command_executor(&framework_id, &task),
        };
        let command = task.command.as_ref().or_else(|| task.executor.as_ref().and_then(|it| it.command.as_ref()));
        let user = command.and_then(|command| command.user.clone()).unwrap_or_else(|| framework.info.user.clone());
        let directory = config.sandbox(&framework_id, &executor_id, &container_id);
        let mut executor = Executor::new(executor_info, is_command, container_id.clone(), directory.clone());
        executor.register_by = Some(self.now + REGISTRATION_TIMEOUT);
        executor.queued.push(task.clone());
        let launch = ecp::Launch {
            container_id: mesos::ContainerId { value: container_id, parent: None },
            task_info: is_command.then_some(task),
            executor_info: Some(mesos::ExecutorInfo {
                resources: executor.resources().into(),
                ..executor.info.clone()
            }),
            directory: Some(directory),
            user: config.switch_user.then_some(user),
            agent_id: config.info.id.clone(),
            agent_pid: Some(config.pid()),
            checkpoint: Some(false),
        };
        let environment = config.launch_environment(&framework_id, &executor);
        framework.executors.insert(executor_id, executor);
        self.effects.push(Effect::Launch { launch: Box::new(launch), environment });
    }

    fn kill_task(&mut self, framework_id: &str, task_id: &str, kill_policy: Option<mesos::KillPolicy>) {
        let Some(framework) = self.agent.frameworks.get_mut(framework_id) else { return };
        let holds = |executor: &&mut Executor| {
            executor.launched.contains_key(task_id) || executor.queued.iter().any(|it| it.task_id.value == task_id)
        };
        let task = mesos::TaskId { value: task_id.to_owned() };
        let Some(executor) = framework.executors.values_mut().find(holds) else {
            // An end that is on its way, or was just sent, is the better answer.
            let ended = |task: &master::Task| task.task_id.value == task_id;
            let executors = framework.executors.values().chain(&framework.completed);
            let has_ended = executors.flat_map(|it| &it.completed).any(ended);
            if !has_ended && !self.agent.updates.is_pending(framework_id, task_id) {
                let message = "Cannot find executor".to_owned();
                let state = mesos::TaskState::TaskLost;
                self.say(framework_id, &task, task_id, state, Reason::ExecutorTerminated, message);
            }
            return;
        };
        let executor_id = executor.id().to_owned();
        let is_queued = executor.queued.iter().any(|it| it.task_id.value == task_id);
        if is_queued {
            let is_last = executor.queued.len() == 1 && executor.launched.is_empty() && executor.completed.is_empty();
            let message = "Task was killed before its executor was ready".to_owned();
            let state = mesos::TaskState::TaskKilled;
            self.say(framework_id, &task, &executor_id, state, Reason::ExecutorUnregistered, message);
            if is_last {
                self.destroy(framework_id, &executor_id, None);
            }
            return;
        }
        if let Some(stream) = executor.stream {
            let kill = Some(event::Kill { task_id: task, kill_policy });
            self.event(stream, Event { r#type: Some(event::Type::Kill as i32), kill, ..Default::default() });
        }
    }

    fn acknowledge(&mut self, framework_id: &str, task_id: &str, uuid: &[u8]) {
        match self.agent.updates.acknowledge(self.now, framework_id, task_id, uuid) {
            Acknowledged::Next(status) => self.tell_update(framework_id, *status),
            Acknowledged::Ignored | Acknowledged::Idle | Acknowledged::Finished => {}
        }
    }

    fn shut_framework_down(&mut self, framework_id: &str) {
        self.agent.updates.forget(framework_id);
        let Some(framework) = self.agent.frameworks.get_mut(framework_id) else { return };
        framework.is_removed = true;
        for executor_id in framework.executors.keys().cloned().collect::<Vec<_>>() {
            self.shut_down(framework_id, &executor_id);
        }
        self.retire(framework_id);
    }

    /// Asks the executor to end; after its grace period its container is destroyed.
    fn shut_down(&mut self, framework_id: &str, executor_id: &str) {
        let Some((config, executor)) = self.agent.executor(framework_id, executor_id) else { return };
        if executor.state == State::Terminating {
            return;
        }
        executor.state = State::Terminating;
        executor.register_by = None;
        executor.end_by = Some(self.now + executor.shutdown_grace(config));
        if let Some(stream) = executor.stream {
            self.event(stream, shutdown_event());
        }
    }

    fn message(&mut self, framework_id: &str, executor_id: &str, data: Vec<u8>) {
        let Some((_, executor)) = self.agent.executor(framework_id, executor_id) else { return };
        if let Some(stream) = executor.stream {
            let message = Some(event::Message { data });
            self.event(stream, Event { r#type: Some(event::Type::Message as i32), message, ..Default::default() });
        }
    }

    fn shut_everything_down(&mut self) {
        self.agent.is_shutting_down = true;
        let ids: Vec<_> =
            self.agent.executors().map(|(framework, it)| (framework.to_owned(), it.id().to_owned())).collect();
        for (framework_id, executor_id) in ids {
            let Some((_, executor)) = self.agent.executor(&framework_id, &executor_id) else { continue };
            let is_leaving = executor.is_command && !executor.has_live_tasks() && !executor.completed.is_empty();
            if is_leaving {
                let leave_by = self.now + LEAVE_TIMEOUT;
                executor.end_by = Some(executor.end_by.map_or(leave_by, |end_by| end_by.min(leave_by)));
            } else {
                self.destroy(&framework_id, &executor_id, None);
            }
        }
    }

    fn expire(&mut self) {
        let now = self.now;
        let is_due = |deadline: Option<Duration>| deadline.is_some_and(|at| at <= now);
        let due: Vec<_> = self
            .agent
            .executors()
            .filter(|(_, executor)| is_due(executor.register_by) || is_due(executor.end_by))
            .map(|(framework, executor)| (framework.to_owned(), executor.id().to_owned(), executor.register_by))
            .collect();
        for (framework_id, executor_id, register_by) in due {
            let pending = is_due(register_by).then(|| Pending {
                state: mesos::TaskState::TaskFailed,
                reason: Reason::ExecutorRegistrationTimeout,
                message: "Executor did not register within 1mins".to_owned(),
            });
            self.destroy(&framework_id, &executor_id, pending);
        }
        for (framework_id, status) in self.agent.updates.overdue(now) {
            self.tell_update(&framework_id, status);
        }
    }

    /// The agent's own word on a task, recorded and on its way to the master.
    fn say(
        &mut self,
        framework_id: &str,
        task_id: &mesos::TaskId,
        executor_id: &str,
        state: mesos::TaskState,
        reason: Reason,
        message: String,
    ) {
        let uuid = self.new_uuid();
        let config = &self.agent.config;
        let status = mesos::TaskStatus {
            task_id: task_id.clone(),
            state: state as i32,
            message: Some(message),
            agent_id: config.info.id.clone(),
            executor_id: Some(mesos::ExecutorId { value: executor_id.to_owned() }),
            timestamp: Some(config.epoch_seconds + self.now.as_secs_f64()),
            source: Some(Source::Agent as i32),
            reason: Some(reason as i32),
            uuid: Some(uuid.as_bytes().to_vec()),
            container_status: Some(own_address(&config.hostname)),
            ..Default::default()
        };
        if let Some((_, executor)) = self.agent.executor(framework_id, executor_id) {
            executor.record(&status);
        }
        self.forward(framework_id, status);
    }

    fn forward(&mut self, framework_id: &str, status: mesos::TaskStatus) {
        if self.agent.frameworks.get(framework_id).is_none_or(|framework| framework.is_removed) {
            return;
        }
        if let Some(status) = self.agent.updates.update(self.now, framework_id, status) {
            self.tell_update(framework_id, status);
        }
    }

    fn tell_update(&mut self, framework_id: &str, status: mesos::TaskStatus) {
        let input = master::Input::Update { framework_id: framework_id.to_owned(), status: Box::new(status) };
        self.effects.push(Effect::Master(Box::new(input)));
    }

    fn event(&mut self, stream: StreamId, event: Event) {
        self.effects.push(Effect::Event { stream, event: Box::new(event) });
    }

    fn new_uuid(&mut self) -> uuid::Uuid {
        self.agent.next_id = self.agent.next_id.wrapping_add(1);
        uuid::Builder::from_u128(self.agent.next_id).with_version(uuid::Version::Random).into_uuid()
    }
}

impl Agent {
    fn executor(&mut self, framework_id: &str, executor_id: &str) -> Option<(&Config, &mut Executor)> {
        let framework = self.frameworks.get_mut(framework_id)?;
        Some((&self.config, framework.executors.get_mut(executor_id)?))
    }

    /// The framework and executor that run in this container.
    fn ids(&self, container_id: &str) -> Option<(String, String)> {
        let (framework, executor) = self.executors().find(|(_, executor)| executor.container_id == container_id)?;
        Some((framework.to_owned(), executor.id().to_owned()))
    }

    fn find(&self, framework_id: &str, executor_id: &str) -> Result<(), (u16, String)> {
        let framework = self.frameworks.get(framework_id).ok_or((400, "Framework cannot be found".to_owned()))?;
        let executor = framework.executors.get(executor_id);
        executor.map(|_| ()).ok_or((400, "Executor cannot be found".to_owned()))
    }
}

/// What is said of a task whose executor has ended: the container's own word, else the agent's, else the plain fact.
fn end_of_task(
    pending: Option<&Pending>,
    termination: Option<&ecp::Termination>,
) -> (mesos::TaskState, Reason, String) {
    let state = termination.filter(|it| it.state.is_some()).map(ecp::Termination::state);
    let reason = termination.and_then(|termination| termination.reasons().next());
    let words: Vec<&str> = pending
        .map(|pending| pending.message.as_str())
        .into_iter()
        .chain(termination.and_then(|termination| termination.message.as_deref()))
        .collect();
    (
        state.or(pending.map(|it| it.state)).unwrap_or(mesos::TaskState::TaskFailed),
        reason.or(pending.map(|it| it.reason)).unwrap_or(Reason::ExecutorTerminated),
        if words.is_empty() { "Executor terminated".to_owned() } else { words.join("; ") },
    )
}

fn own_address(hostname: &str) -> mesos::ContainerStatus {
    mesos::ContainerStatus {
        network_infos: vec![mesos::NetworkInfo {
            ip_addresses: vec![mesos::network_info::IpAddress {
                ip_address: Some(hostname.to_owned()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn shutdown_event() -> Event {
    Event { r#type: Some(event::Type::Shutdown as i32), ..Default::default() }
}

#[cfg(test)]
mod tests;
