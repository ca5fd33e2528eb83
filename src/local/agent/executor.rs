//! One run of an executor as the agent sees it, and what the agent makes up for it: ids, sandbox, environment. PURE.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proto::mesos;
use proto::resources::Resources;

use super::Config;
use crate::local::master::{StreamId, Task, is_terminal};

/// Ended tasks kept for `/state`, per executor, as in Mesos.
const MAX_COMPLETED_TASKS: usize = 200;
/// An executor that must stop a task within the task's grace period gets this much longer itself.
const EXECUTOR_OVERHEAD: Duration = Duration::from_secs(5);
/// What the agent adds to a command task for its executor.
const COMMAND_EXECUTOR_RESOURCES: [(&str, f64); 2] = [("cpus", 0.1), ("mem", 32.0)];
/// How much of a command is shown in the executor's name.
const SHOWN_COMMAND_CHARS: usize = 15;

/// One run of an executor, one container.
#[derive(Debug)]
pub(in crate::local) struct Executor {
    /// With the executor's own resources only.
    pub info: mesos::ExecutorInfo,
    /// Made up by the agent for one command task.
    pub is_command: bool,
    /// This run.
    pub container_id: String,
    /// The sandbox.
    pub directory: String,
    /// See `State`.
    pub state: State,
    /// Where its events go, while it is subscribed.
    pub stream: Option<StreamId>,
    /// Tasks that it was not given yet.
    pub queued: Vec<mesos::TaskInfo>,
    /// Tasks that it was given.
    pub launched: BTreeMap<String, Task>,
    /// The last ended ones, oldest first.
    pub completed: VecDeque<Task>,
    /// Whether `launch` has succeeded: all other verbs wait for it.
    pub is_launched: bool,
    /// See `Destroy`.
    pub destroy: Destroy,
    /// What to say of its tasks when it ends, if its container says nothing itself.
    pub pending: Option<Pending>,
    /// What `wait` said, while its container is destroyed nevertheless.
    pub termination: Option<proto::ecp::Termination>,
    /// When it is destroyed unless it has subscribed.
    pub register_by: Option<Duration>,
    /// When it is destroyed unless it has ended.
    pub end_by: Option<Duration>,
    /// Resource updates that the containerizer has still to make; the first may be on its way.
    pub jobs: VecDeque<Job>,
    /// Whether the first job is on its way.
    pub is_updating: bool,
}

/// Where an executor is in its life; when it has ended it is no longer among the agent's executors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum State {
    /// Its container is being started; it has not subscribed yet.
    Registering,
    /// It has subscribed.
    Running,
    /// It was told to end, or its container is being destroyed.
    Terminating,
}

/// How far the destruction of its container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum Destroy {
    /// Not asked for.
    No,
    /// Asked for while `launch` was on its way: follows it.
    Wanted,
    /// `destroy` is on its way.
    Running,
}

/// Why the agent ends an executor.
#[derive(Debug, Clone)]
pub(in crate::local) struct Pending {
    pub state: mesos::TaskState,
    pub reason: mesos::task_status::Reason,
    pub message: String,
}

/// What follows a resource update.
#[derive(Debug)]
pub(in crate::local) enum Job {
    /// Give these tasks, if still queued, to the executor.
    HandOver(Vec<String>),
    /// Pass this terminal status on.
    Forward(Box<mesos::TaskStatus>),
}

impl Executor {
    pub(super) fn new(info: mesos::ExecutorInfo, is_command: bool, container_id: String, directory: String) -> Self {
        Self {
            info,
            is_command,
            container_id,
            directory,
            state: State::Registering,
            stream: None,
            queued: Vec::new(),
            launched: BTreeMap::new(),
            completed: VecDeque::new(),
            is_launched: false,
            destroy: Destroy::No,
            pending: None,
            termination: None,
            register_by: None,
            end_by: None,
            jobs: VecDeque::new(),
            is_updating: false,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.info.executor_id.value
    }

    /// Its own and those of its live tasks.
    pub(super) fn resources(&self) -> Resources {
        let mut all = Resources::from(self.info.resources.as_slice());
        for task in &self.queued {
            all += &Resources::from(task.resources.as_slice());
        }
        for task in self.launched.values() {
            all += &task.resources;
        }
        all
    }

    pub(super) fn has_live_tasks(&self) -> bool {
        !self.queued.is_empty() || !self.launched.is_empty()
    }

    pub(super) fn take_queued(&mut self, task_id: &str) -> Option<mesos::TaskInfo> {
        let at = self.queued.iter().position(|task| task.task_id.value == task_id)?;
        Some(self.queued.remove(at))
    }

    /// Takes over what a status says of a task; an ended task no longer counts.
    pub(super) fn record(&mut self, status: &mesos::TaskStatus) {
        let id = &status.task_id.value;
        if let Some(info) = self.take_queued(id) {
            self.keep_launched(&info);
        }
        let Some(task) = self.launched.get_mut(id) else { return };
        task.record(status);
        if !is_terminal(task.state) {
            return;
        }
        if let Some(task) = self.launched.remove(id) {
            if self.completed.len() == MAX_COMPLETED_TASKS {
                self.completed.pop_front();
            }
            self.completed.push_back(task);
        }
    }

    pub(super) fn keep_launched(&mut self, info: &mesos::TaskInfo) {
        let resources = Resources::from(info.resources.as_slice());
        let task = Task::new(info, crate::local::master::AgentKey(0), resources);
        self.launched.insert(info.task_id.value.clone(), task);
    }

    /// From SHUTDOWN to `destroy`.
    pub(super) fn shutdown_grace(&self, config: &Config) -> Duration {
        let own = self.info.shutdown_grace_period.as_ref();
        own.map_or(config.shutdown_grace, |grace| Duration::from_nanos(grace.nanoseconds.max(0).unsigned_abs()))
    }
}

impl Config {
    pub(in crate::local) fn pid(&self) -> String {
        format!("slave({})@{}:{}", self.number, self.hostname, self.port)
    }

    pub(super) fn agent_id(&self) -> &str {
        self.info.id.as_ref().map(|id| id.value.as_str()).unwrap_or_default()
    }

    pub(super) fn sandbox(&self, framework_id: &str, executor_id: &str, container_id: &str) -> String {
        let (work, agent) = (&self.work_dir, self.agent_id());
        format!("{work}/slaves/{agent}/frameworks/{framework_id}/executors/{executor_id}/runs/{container_id}")
    }

    /// What an agent of Mesos 1.0 makes up for a command task. Our containerizer does not run this command: it runs the
    /// task's own one under an executor of its own.
    pub(super) fn command_executor(&self, framework_id: &str, task: &mesos::TaskInfo) -> mesos::ExecutorInfo {
        let command = task.command.clone().unwrap_or_default();
        let grace = task.kill_policy.as_ref().and_then(|policy| policy.grace_period);
        mesos::ExecutorInfo {
            executor_id: mesos::ExecutorId { value: task.task_id.value.clone() },
            framework_id: Some(mesos::FrameworkId { value: framework_id.to_owned() }),
            name: Some(format!("Command Executor (Task: {}) (Command: {})", task.task_id.value, shown(&command))),
            source: Some(task.task_id.value.clone()),
            container: task.container.clone(),
            labels: task.labels.clone(),
            resources: COMMAND_EXECUTOR_RESOURCES.map(|(name, amount)| scalar(name, amount)).to_vec(),
            shutdown_grace_period: grace.map(|grace| mesos::DurationInfo {
                nanoseconds: grace.nanoseconds.saturating_add(i64::try_from(EXECUTOR_OVERHEAD.as_nanos()).unwrap_or(0)),
            }),
            command: Some(mesos::CommandInfo {
                shell: Some(false),
                value: Some(format!("{}/mesos-executor", self.libexec)),
                arguments: vec!["mesos-executor".to_owned(), format!("--launcher_dir={}", self.libexec)],
                ..command
            }),
            ..Default::default()
        }
    }

    /// What `launch` gets in its environment beside what every verb gets.
    pub(super) fn launch_environment(&self, framework_id: &str, executor: &Executor) -> Vec<(String, String)> {
        let grace = executor.shutdown_grace(self).as_secs_f64();
        [
            ("MESOS_FRAMEWORK_ID", framework_id.to_owned()),
            ("MESOS_EXECUTOR_ID", executor.id().to_owned()),
            ("MESOS_DIRECTORY", executor.directory.clone()),
            ("MESOS_SLAVE_ID", self.agent_id().to_owned()),
            ("MESOS_SLAVE_PID", self.pid()),
            // Nothing comes back after this process: executors shall end with it.
            ("MESOS_CHECKPOINT", "0".to_owned()),
            ("MESOS_AGENT_ENDPOINT", format!("{}:{}", self.hostname, self.port)),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", format!("{grace}secs")),
            ("MESOS_HTTP_COMMAND_EXECUTOR", "0".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

fn shown(command: &mesos::CommandInfo) -> String {
    let Some(value) = &command.value else { return "NO EXECUTABLE".to_owned() };
    if command.shell() {
        return format!("sh -c '{}'", trimmed(value));
    }
    let words = [value].into_iter().chain(&command.arguments).map(String::as_str);
    format!("[{}]", trimmed(&words.collect::<Vec<_>>().join(", ")))
}

fn trimmed(text: &str) -> String {
    if text.chars().count() <= SHOWN_COMMAND_CHARS {
        return text.to_owned();
    }
    let start: String = text.chars().take(SHOWN_COMMAND_CHARS - 3).collect();
    format!("{start}...")
}

fn scalar(name: &str, amount: f64) -> mesos::Resource {
    mesos::Resource {
        name: name.to_owned(),
        r#type: mesos::value::Type::Scalar as i32,
        scalar: Some(mesos::value::Scalar { value: amount }),
        role: Some("*".to_owned()),
        ..Default::default()
    }
}
