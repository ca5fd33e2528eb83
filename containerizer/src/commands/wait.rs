//! `wait`: how a container ended, when it has. Owns nothing: the slave kills it at will.
//!
//! The slave reads the answer on one of its few worker threads, and freezes when all of them wait. So for a command task,
//! whose end the executor reports, an answer that says nothing is written at once and only the exit of this process waits.
//! For a custom executor the answer is worth waiting for: it does where it finds a free slot, of which there are fewer than
//! threads; else it answers at once, too.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::ecp::Termination;
use proto::mesos::TaskState;
use proto::mesos::task_status::Reason;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, flock};

use super::{Context, Problem, answer, block_on};
use crate::docker::{Engine, Inspection};
use crate::environment::Environment;
use crate::lifecycle::{Cause, Ending, Shortage};
use crate::store::{ContainerId, Ended, StateDirectory};

pub(super) fn run(context: &Context<'_>, id: &ContainerId) -> Result<(), Problem> {
    let directory = context.store.container(id);
    let Some(reader) = directory.read_result_later()? else { return without_memory(context, id) };
    let is_command_task = match directory.state()? {
        Some(state) => state.is_command_task,
        None => crate::spec::is_command_task(&directory.launch()?),
    };
    let slot = if is_command_task || is_over(&directory)? { None } else { Slot::take(context) };
    let answers_at_once = is_command_task || (slot.is_none() && !is_over(&directory)?);
    if answers_at_once {
        answer(&neutral())?;
    } else {
        exit_with_reader();
    }
    let termination = match until_recorded(context, &directory)? {
        Some(ended) => termination(&ended.ending),
        // Nobody could watch it. Without a supervisor a command task has no executor and must not go on.
        None if directory.exists() => block_on(orphan(context, id, is_command_task))?,
        None => termination(&unknown("it was destroyed")),
    };
    if !answers_at_once {
        final_answer(&termination)?;
    }
    if directory.is_last(&reader) {
        context.let_go(id, &directory)?;
    }
    Ok(())
}

/// Waits until no supervisor has anything to do any more; one that was killed gets a successor. `None` when there is no result.
fn until_recorded(context: &Context<'_>, directory: &StateDirectory) -> Result<Option<Ended>, Problem> {
    for _ in 0..SUCCESSORS {
        // It was destroyed meanwhile.
        if !directory.exists() {
            return Ok(None);
        }
        directory.wait_until_released(None)?;
        if directory.is_forgotten() || !directory.needs_supervisor().unwrap_or(true) {
            break;
        }
        if let Err(problem) = context.succeed(directory) {
            tracing::warn!(%problem, "there is no new supervisor");
            break;
        }
    }
    Ok(directory.result().unwrap_or_default())
}

/// After it the slave closes its end of the pipe, which is no reason to leave before the work is done.
fn final_answer(termination: &Termination) -> Result<(), Problem> {
    IS_ANSWERING.store(true, Ordering::SeqCst);
    answer(termination)
}

fn is_over(directory: &StateDirectory) -> Result<bool, Problem> {
    Ok(directory.owner()?.is_none() && directory.result()?.is_some())
}

/// For a container that only the engine remembers.
fn without_memory(context: &Context<'_>, id: &ContainerId) -> Result<(), Problem> {
    let termination = block_on(async {
        let engine = context.engine()?;
        if engine.list_ours(&context.work_directory_label(), Some(id)).await?.is_empty() {
            return Err(Problem::Unknown);
        }
        orphan(context, id, false).await
    })?;
    answer(&termination)
}

/// Sees a container to its end whose supervisor is gone, and removes it.
async fn orphan(context: &Context<'_>, id: &ContainerId, is_command_task: bool) -> Result<Termination, Problem> {
    let engine = context.engine()?;
    let mut last =
        termination(&unknown("its supervisor was killed, and the Docker engine does not know the container"));
    for ours in engine.list_ours(&context.work_directory_label(), Some(id)).await? {
        if !is_command_task {
            last = outlast(&engine, &ours.docker_id).await?;
        }
        engine.remove(&ours.docker_id).await?;
    }
    Ok(last)
}

async fn outlast(engine: &Engine, docker_id: &str) -> Result<Termination, Problem> {
    let found = engine.inspect(docker_id).await?;
    let has_run = |found: &Inspection| found.is_running || found.exit_code.is_some_and(|code| code != 0);
    if !found.as_ref().is_some_and(has_run) {
        let message = "its supervisor was killed, and how the container ended is not known";
        return Ok(termination(&unknown(message)));
    }
    let code = engine.wait(docker_id).await?;
    let cause = Cause::Exited { code: i32::try_from(code).unwrap_or(i32::MAX) };
    Ok(termination(&ending(cause)))
}

fn unknown(message: &str) -> Ending {
    ending(Cause::Unknown { message: message.to_owned() })
}

fn ending(cause: Cause) -> Ending {
    Ending {
        cause,
        was_stopped: false,
        started: None,
        finished_at: 0.0,
        stdout_bytes: None,
        stderr_bytes: None,
        lost_bytes: None,
    }
}

/// Parsed by every slave; says nothing.
fn neutral() -> Termination {
    Termination { killed: false, message: Some(String::new()), status: Some(0), state: None, reasons: Vec::new() }
}

/// What a slave makes of it: up to 0.25 `killed` decides between failed and lost, from 0.26 on `state` does.
fn termination(ending: &Ending) -> Termination {
    let exited = |code: i32| format!("Container exited with status {code}");
    let (message, code, killed, reason) = match &ending.cause {
        Cause::Exited { code } => {
            let reason = (*code != 0).then_some(Reason::ExecutorTerminated);
            (exited(*code), *code, ending.was_stopped, reason)
        }
        Cause::OutOfMemory { code, shortage, .. } => {
            let is_own = *shortage != Shortage::Host;
            let reason = if is_own { Reason::ContainerLimitationMemory } else { Reason::ExecutorTerminated };
            // An executor that went well on without the process that was killed has ended well.
            let has_failed = *code != 0;
            (exited(*code), *code, has_failed, has_failed.then_some(reason))
        }
        Cause::NotStarted { message } => (message.clone(), 1, true, Some(Reason::ContainerLaunchFailed)),
        Cause::Unknown { message } => (message.clone(), 1, true, Some(Reason::ExecutorTerminated)),
    };
    let message = ending.remarks().map_or_else(|| message.clone(), |remarks| format!("{remarks}: {message}"));
    Termination {
        killed,
        message: Some(message),
        status: Some(wait_status(code)),
        // An executor that ended well may still have left tasks behind: the slave judges them.
        state: reason.map(|_| TaskState::TaskFailed as i32),
        reasons: reason.into_iter().map(|reason| reason as i32).collect(),
    }
}

/// As wait(2) has it: N << 8 for an exit with N, the signal's number for a death by one.
fn wait_status(code: i32) -> i32 {
    match code {
        129..=192 => code - 128,
        code => (code & 0xff) << 8,
    }
}

/// The right to keep the slave waiting; a kernel's lock, so that it ends with this process.
struct Slot {
    _file: File,
}

impl Slot {
    fn take(context: &Context<'_>) -> Option<Self> {
        let directory = context.work_directory.join("launch-container").join("wait-slots");
        std::fs::create_dir_all(&directory).ok()?;
        let count = slots(context.environment, std::thread::available_parallelism().map_or(1, usize::from));
        (0..count).find_map(|number| Self::try_take(&directory.join(number.to_string())))
    }

    fn try_take(path: &Path) -> Option<Self> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).ok()?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(Self { _file: file })
    }
}

/// A third of the slave's worker threads, at least one.
fn slots(environment: &Environment, cpus: usize) -> usize {
    let set = environment.get("LIBPROCESS_NUM_WORKER_THREADS").and_then(|text| text.parse().ok());
    let workers: usize = set.unwrap_or_else(|| cpus.max(MIN_WORKERS));
    (workers / 3).max(1)
}

/// Ends this process, and with it the claim to its slot, when nobody can hear the answer any more: the slave was restarted.
fn exit_with_reader() {
    std::thread::spawn(|| {
        let stdout = std::io::stdout();
        loop {
            let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
            match poll(&mut fds, None) {
                Ok(_) if IS_ANSWERING.load(Ordering::SeqCst) => return,
                Ok(_) if fds[0].revents().contains(PollFlags::ERR) => std::process::exit(0),
                // Not a pipe: there is nothing to watch.
                Ok(_) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    });
}

static IS_ANSWERING: AtomicBool = AtomicBool::new(false);
/// A supervisor that is killed again and again is somebody's will.
const SUCCESSORS: u32 = 100;
/// What libprocess starts at least.
const MIN_WORKERS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_the_form_of_wait() {
        assert_eq!([0, 1, 3, 255].map(wait_status), [0, 0x100, 0x300, 0xff00]);
        assert_eq!([137, 143].map(wait_status), [9, 15]);
    }

    #[test]
    fn every_end_has_all_that_old_and_new_slaves_need() {
        let of = |cause, was_stopped| termination(&Ending { was_stopped, ..ending(cause) });
        let good = of(Cause::Exited { code: 0 }, false);
        assert_eq!((good.killed, good.state, good.reasons.len()), (false, None, 0));
        let stopped = of(Cause::Exited { code: 143 }, true);
        assert_eq!((stopped.killed, stopped.status), (true, Some(15)));
        let short = |code, shortage| Cause::OutOfMemory { code, limit_bytes: 64 << 20, peak_bytes: None, shortage };
        let starved = of(short(137, Shortage::OwnLimit), false);
        assert_eq!((starved.killed, starved.status), (true, Some(9)));
        assert_eq!(
            starved.message.as_deref(),
            Some("killed: memory limit 64 MB reached: Container exited with status 137")
        );
        assert_eq!(starved.reasons, [Reason::ContainerLimitationMemory as i32]);
        let survived = of(short(0, Shortage::OwnLimitOfChild), false);
        assert_eq!((survived.killed, survived.state, survived.status), (false, None, Some(0)));
        assert!(survived.message().starts_with("a child process was killed"));
        let host = of(short(137, Shortage::Host), false);
        assert_eq!((host.killed, host.reasons), (true, vec![Reason::ExecutorTerminated as i32]));
        let lost = of(Cause::Unknown { message: "nobody knows".into() }, false);
        assert_eq!((lost.killed, lost.state), (true, Some(TaskState::TaskFailed as i32)));
        assert_ne!(lost.status, Some(0));
        let never = of(Cause::NotStarted { message: "no image".into() }, false);
        assert_eq!((never.message.as_deref(), never.state), (Some("no image"), Some(TaskState::TaskFailed as i32)));
    }

    #[test]
    fn a_third_of_the_workers_may_wait() {
        let set: Environment = [("LIBPROCESS_NUM_WORKER_THREADS", "16")].into_iter().collect();
        assert_eq!([slots(&Environment::default(), 2), slots(&Environment::default(), 64), slots(&set, 2)], [2, 21, 5]);
        let set: Environment = [("LIBPROCESS_NUM_WORKER_THREADS", "1")].into_iter().collect();
        assert_eq!(slots(&set, 2), 1);
    }
}
