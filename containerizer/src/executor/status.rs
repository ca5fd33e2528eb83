//! How a container's life reads as Mesos task statuses. PURE.
//!
//! The end of a message is always Mesos' own wording (`Container exited with status 3`), because that is where frameworks
//! look for the exit code; an explanation stands before it.

use std::time::Duration;

use proto::mesos::network_info::{IpAddress, Protocol};
use proto::mesos::task_status::Reason;
use proto::mesos::{ContainerId, ContainerStatus, NetworkInfo, TaskInfo, TaskState};
use proto::record::TaskRecord;

use crate::lifecycle::{Cause, Ending, Shortage, Started};

/// Why the executor asked for the end of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StopReason {
    /// KILL, SHUTDOWN or SIGTERM.
    Requested,
    /// The task's maximum completion time is over.
    CompletionTime(Duration),
    /// Its health check has failed too often; the text says why.
    Unhealthy(String),
}

/// A terminal state, why, and the words for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) state: TaskState,
    pub(super) reason: Option<Reason>,
    pub(super) message: String,
    /// Said only where health was the cause.
    pub(super) healthy: Option<bool>,
}

impl Outcome {
    fn new(state: TaskState, reason: Option<Reason>, message: String) -> Self {
        Self { state, reason, message, healthy: None }
    }
}

/// The terminal state for `ending`, when the executor had asked for it because of `stop`.
///
/// A container that ended before the request took effect keeps its own result.
pub(super) fn outcome(ending: &Ending, stop: Option<&StopReason>) -> Outcome {
    let message = plain_message(&ending.cause);
    match stop.filter(|_| ending.was_stopped) {
        None => own_outcome(ending),
        Some(StopReason::Requested) => Outcome::new(TaskState::TaskKilled, None, message),
        Some(StopReason::CompletionTime(limit)) => Outcome::new(
            TaskState::TaskFailed,
            Some(Reason::MaxCompletionTimeReached),
            format!("Maximum completion time of {limit:?} reached: {message}"),
        ),
        Some(StopReason::Unhealthy(why)) => {
            Outcome { healthy: Some(false), ..Outcome::new(TaskState::TaskKilled, None, format!("{why}: {message}")) }
        }
    }
}

fn own_outcome(ending: &Ending) -> Outcome {
    let message = told_message(ending);
    match &ending.cause {
        Cause::Exited { code: 0 } | Cause::OutOfMemory { code: 0, .. } => {
            Outcome::new(TaskState::TaskFinished, None, message)
        }
        Cause::Exited { .. } | Cause::Unknown { .. } => Outcome::new(TaskState::TaskFailed, None, message),
        Cause::OutOfMemory { shortage, .. } => {
            // No reason of Mesos' means the host's own want.
            let reason = (*shortage != Shortage::Host).then_some(Reason::ContainerLimitationMemory);
            Outcome::new(TaskState::TaskFailed, reason, message)
        }
        Cause::NotStarted { .. } => Outcome::new(TaskState::TaskFailed, Some(Reason::ContainerLaunchFailed), message),
    }
}

fn told_message(ending: &Ending) -> String {
    let message = plain_message(&ending.cause);
    ending.remarks().map_or_else(|| message.clone(), |remarks| format!("{remarks}: {message}"))
}

fn plain_message(cause: &Cause) -> String {
    match cause {
        Cause::Exited { code } | Cause::OutOfMemory { code, .. } => format!("Container exited with status {code}"),
        Cause::NotStarted { message } | Cause::Unknown { message } => message.clone(),
    }
}

/// The record for `TaskStatus.data` of the terminal update.
pub(super) fn record(ending: &Ending, stdin_bytes: Option<u64>) -> TaskRecord {
    let (exit_code, error) = match &ending.cause {
        Cause::Exited { code } | Cause::OutOfMemory { code, .. } => (Some(*code), None),
        Cause::NotStarted { message } | Cause::Unknown { message } => (None, Some(message.clone())),
    };
    let oom_killed = matches!(ending.cause, Cause::OutOfMemory { shortage: Shortage::OwnLimit, .. });
    let started = ending.started.as_ref();
    TaskRecord {
        version: TaskRecord::VERSION,
        exit_code,
        // 128+n may also be an exit code; only the kernel's own kill for memory is certain.
        signal: (oom_killed && exit_code == Some(137)).then_some(9),
        oom_killed,
        memory: ending.cause.memory_text(),
        image_id: started.and_then(|started| started.image_id.clone()),
        container: started.map(|started| started.docker_id.clone()),
        started_at: started.map(|started| started.started_at),
        finished_at: Some(ending.finished_at),
        error,
        stdout_bytes: ending.stdout_bytes,
        stderr_bytes: ending.stderr_bytes,
        lost_bytes: ending.lost_bytes,
        stdin_bytes,
    }
}

/// `container_status` of a running task: its address, in the task's own network entry where it names one.
pub(super) fn container_status(
    task: &TaskInfo,
    started: &Started,
    container_id: Option<&ContainerId>,
    executor_pid: Option<u32>,
) -> ContainerStatus {
    let asked = task.container.as_ref().and_then(|container| container.network_infos.first());
    let mut network = asked.cloned().unwrap_or_default();
    if let Some(address) = &started.ip_address {
        let protocol = if address.contains(':') { Protocol::IPv6 } else { Protocol::IPv4 };
        network.ip_addresses = vec![IpAddress { protocol: Some(protocol as i32), ip_address: Some(address.clone()) }];
    }
    let network_infos = if network == NetworkInfo::default() { Vec::new() } else { vec![network] };
    ContainerStatus { network_infos, executor_pid, container_id: container_id.cloned(), cgroup_info: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(cause: Cause, was_stopped: bool) -> Ending {
        Ending {
            cause,
            was_stopped,
            started: None,
            finished_at: 2.0,
            stdout_bytes: Some(3),
            stderr_bytes: Some(4),
            lost_bytes: Some(0),
        }
    }

    fn read(cause: Cause, stop: Option<&StopReason>, was_stopped: bool) -> (TaskState, Option<Reason>, String) {
        let outcome = outcome(&ending(cause, was_stopped), stop);
        (outcome.state, outcome.reason, outcome.message)
    }

    #[test]
    fn every_cause_has_its_state_reason_and_words() {
        let short =
            |code, shortage| Cause::OutOfMemory { code, limit_bytes: 256 << 20, peak_bytes: Some(256 << 20), shortage };
        let oom = |code| short(code, Shortage::OwnLimit);
        let lost = || Cause::Unknown { message: "the engine lost the exit code".to_owned() };
        let absent = || Cause::NotStarted { message: "image \"x\" not found".to_owned() };
        let requested = Some(&StopReason::Requested);
        let limit = StopReason::CompletionTime(Duration::from_secs(10));
        let limit = Some(&limit);
        let ill = StopReason::Unhealthy("Health check failed once, because of x".to_owned());
        let ill = Some(&ill);
        #[rustfmt::skip]
        let table = [
            (Cause::Exited { code: 0 }, None, false, TaskState::TaskFinished, None, "Container exited with status 0"),
            (Cause::Exited { code: 3 }, None, false, TaskState::TaskFailed, None, "Container exited with status 3"),
            (Cause::Exited { code: 143 }, requested, true, TaskState::TaskKilled, None, "Container exited with status 143"),
            (Cause::Exited { code: 0 }, requested, true, TaskState::TaskKilled, None, "Container exited with status 0"),
            (Cause::Exited { code: 0 }, requested, false, TaskState::TaskFinished, None, "Container exited with status 0"),
            (Cause::Exited { code: 9 }, requested, false, TaskState::TaskFailed, None, "Container exited with status 9"),
            (Cause::Exited { code: 137 }, limit, true, TaskState::TaskFailed, Some(Reason::MaxCompletionTimeReached),
                "Maximum completion time of 10s reached: Container exited with status 137"),
            (Cause::Exited { code: 137 }, ill, true, TaskState::TaskKilled, None,
                "Health check failed once, because of x: Container exited with status 137"),
            (Cause::Exited { code: 5 }, ill, false, TaskState::TaskFailed, None, "Container exited with status 5"),
            (oom(137), None, false, TaskState::TaskFailed, Some(Reason::ContainerLimitationMemory),
                "killed: memory limit 256 MB reached (peak 256.0 MB): Container exited with status 137"),
            (short(0, Shortage::OwnLimitOfChild), None, false, TaskState::TaskFinished, None,
                "a child process was killed: memory limit 256 MB reached (peak 256.0 MB): Container exited with status 0"),
            (short(137, Shortage::Host), None, false, TaskState::TaskFailed, None,
                "killed: the host ran out of memory, memory limit 256 MB not reached (peak 256.0 MB): Container exited with status 137"),
            (absent(), None, false, TaskState::TaskFailed, Some(Reason::ContainerLaunchFailed), "image \"x\" not found"),
            (absent(), requested, true, TaskState::TaskKilled, None, "image \"x\" not found"),
            (lost(), None, false, TaskState::TaskFailed, None, "the engine lost the exit code"),
            (lost(), requested, true, TaskState::TaskKilled, None, "the engine lost the exit code"),
        ];
        for (cause, stop, was_stopped, state, reason, message) in table {
            assert_eq!(read(cause.clone(), stop, was_stopped), (state, reason, message.to_owned()), "{cause:?}");
        }
    }

    #[test]
    fn lost_bytes_stand_before_mesos_words() {
        let ending = Ending { lost_bytes: Some(7), ..ending(Cause::Exited { code: 3 }, false) };
        assert_eq!(outcome(&ending, None).message, "bytes lost: 7: Container exited with status 3");
    }

    #[test]
    fn the_record_tells_a_signal_only_where_it_is_certain() {
        let killed = record(&ending(Cause::Exited { code: 137 }, false), None);
        assert_eq!((killed.exit_code, killed.signal, killed.oom_killed), (Some(137), None, false));
        let cause = Cause::OutOfMemory { code: 137, limit_bytes: 1, peak_bytes: None, shortage: Shortage::OwnLimit };
        let oom = record(&ending(cause, false), None);
        assert_eq!((oom.exit_code, oom.signal, oom.oom_killed), (Some(137), Some(9), true));
        assert_eq!(oom.memory.as_deref(), Some("killed: memory limit 1 bytes reached"));
    }

    #[test]
    fn the_record_of_an_unknown_end_has_no_exit_code() {
        let lost = record(&ending(Cause::Unknown { message: "why".to_owned() }, false), None);
        assert_eq!((lost.exit_code, lost.error.as_deref()), (None, Some("why")));
        assert_eq!((lost.stdout_bytes, lost.stderr_bytes, lost.finished_at), (Some(3), Some(4), Some(2.0)));
    }

    #[test]
    fn the_address_is_reported_in_the_network_the_task_asked_for() {
        let mut task = TaskInfo::default();
        let started = Started { ip_address: Some("172.17.0.2".to_owned()), ..Started::default() };
        let address = |status: &ContainerStatus| status.network_infos[0].ip_addresses[0].ip_address.clone();
        let plain = container_status(&task, &started, None, Some(7));
        assert_eq!((address(&plain), plain.executor_pid), (started.ip_address.clone(), Some(7)));
        let network_infos = vec![NetworkInfo { name: Some("web".to_owned()), ..NetworkInfo::default() }];
        task.container =
            Some(proto::mesos::ContainerInfo { network_infos, ..proto::mesos::ContainerInfo::default() }.into());
        let named = container_status(&task, &started, None, None);
        assert_eq!((address(&named), named.network_infos[0].name.as_deref()), (started.ip_address, Some("web")));
        assert!(container_status(&TaskInfo::default(), &Started::default(), None, None).network_infos.is_empty());
    }
}
