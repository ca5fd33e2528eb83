//! The shell around the executor's core: one `select!` feeds it, its effects are performed. Decides nothing.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use proto::executor::call::Subscribe;
use proto::mesos::TaskInfo;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::core::{Config, Effect, Executor, Finished, Input, Now};
use super::environment::Environment;
use super::probe::Prober;
use super::wire::{Wire, WireError};
use crate::lifecycle::{Cause, Command, Ending, Event, Started};

/// What outlives an executor that is killed, and lets another go on in its place.
pub struct Memory {
    /// Where the one before listened for its agent; that is where the agent looks for it.
    pub port: Option<u16>,
    /// What the one before was at; `None` for the first, and for one that had not got its task.
    pub resumed: Option<Resumed>,
    /// Hears what the next would have to know, before anything follows from it.
    pub note: Box<dyn FnMut(Note<'_>)>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { port: None, resumed: None, note: Box::new(|_| {}) }
    }
}

/// An executor's task, and what its agent had not acknowledged.
#[derive(Debug, Clone)]
pub struct Resumed {
    /// The only one.
    pub task: Box<TaskInfo>,
    /// As a subscription carries it.
    pub owed: Subscribe,
}

/// What the next executor would have to know.
#[derive(Debug, Clone, Copy)]
pub enum Note<'a> {
    /// Where this one listens for its agent.
    Port(u16),
    /// All that its agent has not acknowledged.
    Owed(&'a Subscribe),
}

/// Is the executor of a command task until its end is acknowledged by the agent.
///
/// The container's owner takes `commands` and answers with `events`; after its `Event::Ended` it may go. One that goes
/// without counts as an end that nobody knows. `prober` looks whether the task is well. `terminate` completes on SIGTERM.
///
/// # Errors
/// When there can be no connection to any agent. An agent that refuses or vanishes is no error here: see [`Finished`].
pub async fn run(
    environment: Environment,
    memory: Memory,
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Event>,
    prober: Prober,
    terminate: impl Future<Output = ()>,
) -> Result<Finished, ExecutorError> {
    let Memory { port, resumed, mut note } = memory;
    let (resumed_task, resumed_owed) = resumed.map(|resumed| (*resumed.task, resumed.owed)).unzip();
    let own = Config::new(&environment, new_seed());
    let config = Config { pid: Some(std::process::id()), resumed_task, resumed_owed, ..own };
    let wire = Wire::new(&environment, port).await?;
    if let Some(port) = wire.port() {
        note(Note::Port(port));
    }
    Ok(run_core(config, Reach { wire, prober }, |_| {}, |owed| note(Note::Owed(owed)), commands, events, terminate)
        .await)
}

/// Whom the executor reaches, and how.
pub struct Reach {
    /// The agent.
    pub wire: Wire,
    /// The running container, for its checks.
    pub prober: Prober,
}

/// As [`run`], with all that can be configured, and with the wire chosen.
///
/// `on_task` hears the task once, before `Command::Start` or a stop because of a kill: for an owner that does not know its
/// container from elsewhere. `on_owed` hears what the agent has not acknowledged whenever that changes, before anything
/// follows from it. A `Command::Stop` may come without any task; it is answered by an end, too.
pub async fn run_core(
    config: Config,
    reach: Reach,
    mut on_task: impl FnMut(TaskInfo),
    mut on_owed: impl FnMut(&Subscribe),
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Event>,
    terminate: impl Future<Output = ()>,
) -> Finished {
    let Reach { mut wire, prober } = reach;
    let since = Instant::now();
    let now = || Now { monotonic: since.elapsed(), epoch_seconds: epoch_seconds() };
    let mut executor = Executor::new(config, now());
    let mut owner = Owner { commands, events: Some(events), waiting: VecDeque::new(), started: None };
    let mut probes = FuturesUnordered::new();
    let mut terminate = std::pin::pin!(terminate);
    let mut is_terminated = false;
    let mut input = Input::Tick;
    let mut told_version = 0;
    loop {
        let effects = executor.handle(now(), input);
        if executor.owed_version() != told_version {
            told_version = executor.owed_version();
            on_owed(&executor.owed());
        }
        for effect in effects {
            match effect {
                Effect::Subscribe(call) => wire.subscribe(*call),
                Effect::Send(call) => wire.send(*call),
                Effect::Task(task) => on_task(*task),
                Effect::Container(command) => owner.waiting.push_back(command),
                Effect::Probe(probe) => {
                    let started = owner.started.clone().unwrap_or_default();
                    probes.push(prober.clone().probe(started, *probe));
                }
                Effect::Finish(finished) => return finished,
            }
        }
        let timeout = executor.next_timeout();
        input = tokio::select! {
            input = wire.next() => input,
            event = owner.next() => Input::Container(event),
            Some((kind, finding)) = probes.next(), if !probes.is_empty() => Input::Probed { kind, finding },
            () = &mut terminate, if !is_terminated => {
                is_terminated = true;
                Input::Terminate
            }
            () = tokio::time::sleep_until(since + timeout.unwrap_or(FAR)), if timeout.is_some() => Input::Tick,
        };
    }
}

/// A seed that no other process has.
pub fn new_seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

/// The container's owner, behind its channels.
struct Owner {
    commands: mpsc::Sender<Command>,
    /// `None` after the end.
    events: Option<mpsc::Receiver<Event>>,
    waiting: VecDeque<Command>,
    started: Option<Started>,
}

impl Owner {
    /// The next event, while commands are handed over as room is made for them. Cancel safe.
    async fn next(&mut self) -> Event {
        let Some(events) = &mut self.events else { return std::future::pending().await };
        loop {
            tokio::select! {
                Ok(room) = self.commands.reserve(), if !self.waiting.is_empty() => {
                    if let Some(command) = self.waiting.pop_front() {
                        room.send(command);
                    }
                }
                event = events.recv() => {
                    let event = event.unwrap_or_else(|| Event::Ended(lost(self.started.take())));
                    match &event {
                        Event::Pulling(_) | Event::OutputAgain | Event::StdinTaken(_) | Event::StdinOver | Event::StdinLost => {}
                        Event::Started(started) => self.started = Some(started.clone()),
                        Event::Ended(_) => self.events = None,
                    }
                    return event;
                }
            }
        }
    }
}

fn lost(started: Option<Started>) -> Ending {
    let message = "the end of the container is not known: its supervisor stopped watching it".to_owned();
    Ending {
        cause: Cause::Unknown { message },
        was_stopped: false,
        started,
        finished_at: epoch_seconds(),
        stdout_bytes: None,
        stderr_bytes: None,
        lost_bytes: None,
    }
}

fn epoch_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Why there was no executor.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// There are no means to speak to an agent.
    #[error("cannot be an executor: {0}")]
    Wire(#[from] WireError),
}

/// Stands for no timeout; never waited for.
const FAR: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests;
