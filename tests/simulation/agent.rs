//! An agent with its executors: runs what it is told, reports one update at a time per task until it is acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use launch_container::scheduler::Time;
use proto::mesos::task_status::Source;
use proto::mesos::{AgentId, TaskId, TaskState, TaskStatus};
use proto::record::TaskRecord;

/// How a run of a task ends if it is let alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Code(u8),
    Signal(u8),
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: String,
    /// Messages to an earlier life of the agent are lost.
    pub(crate) life: u32,
    /// Whether it was ever registered.
    pub(crate) is_known: bool,
    /// Whether it is connected with the present master.
    pub(crate) is_joined: bool,
    /// Whether the present master is new and has not met it.
    pub(crate) is_unjoined: bool,
    /// When the master calls it lost, or has done so.
    pub(crate) lost_at: Option<Time>,
    pub(crate) cpus: f64,
    pub(crate) mem: f64,
    /// By the task's id on the wire.
    pub(crate) runs: BTreeMap<String, Run>,
    /// Killed before they came.
    pub(crate) doomed: BTreeSet<String>,
    /// Given up by the master before they came.
    pub(crate) ignored: BTreeSet<String>,
}

/// One run of a task.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) framework_id: String,
    /// What it will do, and after which time.
    pub(crate) script: VecDeque<(Duration, TaskState)>,
    pub(crate) ending: Ending,
    /// Not acknowledged; the first one is on its way.
    pub(crate) updates: VecDeque<TaskStatus>,
    pub(crate) resend_in: Duration,
    pub(crate) is_over: bool,
}

impl Agent {
    pub(crate) fn is_running(&self) -> bool {
        self.runs.values().any(|run| !run.is_over)
    }

    pub(crate) fn has_updates(&self) -> bool {
        self.runs.values().any(|run| !run.updates.is_empty())
    }
}

impl Run {
    pub(crate) fn new(framework_id: String, rng: &mut fastrand::Rng) -> Self {
        let mut script = VecDeque::new();
        let pause = |rng: &mut fastrand::Rng, most: u64| Duration::from_millis(rng.u64(0..most));
        if rng.bool() {
            script.push_back((pause(rng, 200), TaskState::TaskStarting));
        }
        if rng.f64() < 0.9 {
            script.push_back((pause(rng, 2_000), TaskState::TaskRunning));
        }
        let ending = match rng.u8(0..4) {
            0 | 1 => Ending::Code(0),
            2 => Ending::Code(rng.u8(1..)),
            _ => Ending::Signal([1, 2, 6, 9, 11, 15][rng.usize(0..6)]),
        };
        let most = [10, 1_000, 20_000, 120_000][rng.usize(0..4)];
        let state = if ending == Ending::Code(0) { TaskState::TaskFinished } else { TaskState::TaskFailed };
        script.push_back((pause(rng, most), state));
        Self {
            framework_id,
            script,
            ending,
            updates: VecDeque::new(),
            resend_in: Duration::from_secs(1),
            is_over: false,
        }
    }

    /// The update for the next state, in one of the dialects.
    pub(crate) fn status(
        &self,
        agent_id: &str,
        wire_id: &str,
        state: TaskState,
        rng: &mut fastrand::Rng,
    ) -> TaskStatus {
        let mut status = TaskStatus {
            task_id: TaskId { value: wire_id.to_owned() },
            state: state.into(),
            agent_id: Some(AgentId { value: agent_id.to_owned() }),
            source: Some(Source::Executor.into()),
            uuid: Some(rng.u128(..).to_be_bytes().to_vec()),
            ..TaskStatus::default()
        };
        match (state, self.ending) {
            (TaskState::TaskFailed, Ending::Code(code)) => match rng.u8(0..4) {
                0 => status.data = Some(record(Some(code), None)),
                1 => status.message = Some(format!("Command exited with status {code}")),
                2 => status.message = Some(format!("Container exited with status {code}")),
                _ => {
                    let start = "Docker container run error: Container exited on error: exited with status";
                    status.message = Some(format!("{start} {code}"));
                }
            },
            (TaskState::TaskFailed, Ending::Signal(signal)) => match rng.bool() {
                true => status.data = Some(record(Some(128 + signal), Some(signal))),
                false => {
                    let text = match signal {
                        1 => "Hangup",
                        2 => "Interrupt",
                        6 => "Aborted",
                        9 => "Killed",
                        11 => "Segmentation fault (core dumped)",
                        _ => "Terminated",
                    };
                    status.message = Some(format!("Command terminated with signal {text}"));
                }
            },
            (TaskState::TaskKilled, _) if rng.bool() => status.data = Some(record(Some(143), None)),
            _ => {}
        }
        status
    }
}

fn record(exit_code: Option<u8>, signal: Option<u8>) -> Vec<u8> {
    let (exit_code, signal) = (exit_code.map(i32::from), signal.map(i32::from));
    TaskRecord { version: TaskRecord::VERSION, exit_code, signal, ..TaskRecord::default() }.to_bytes()
}
