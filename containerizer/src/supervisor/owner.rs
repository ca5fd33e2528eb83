//! The life of one container, from the slave's message to its end.
//!
//! ```text
//!   preparing: fetch -> image (pull) -> create -> attach  Stop, a failure
//!       |                                  `----------------------------> ended (NotStarted)
//!       | Start
//!       v
//!   starting --(no init program: create again without)
//!       |  `-- a failure -----------------------------------------------> ended (NotStarted)
//!       v
//!   running --- Stop: signal, SIGKILL when the grace is over
//!       | the engine says so; or it is away, and comes back or not
//!       v
//!   ended: its output is complete
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::ecp::Launch;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::asks::Asks;
use super::output::{Files, Flow, FlowError, Written};
use crate::config::{Config, ConfigError};
use crate::credentials::Credentials;
use crate::docker::{Engine, EngineError, Inspection};
use crate::environment::Environment;
use crate::fetcher::{self, FetchError};
use crate::hooks::{Hook, HookError};
use crate::lifecycle::{Cause, Ending, Event, Started};
use crate::pull::{Pull, PullError, Report, Say};
use crate::spec::{CONTAINER_ID_LABEL, Placement, Spec, SpecError, WORK_DIRECTORY_LABEL};
use crate::store::{Ended, State, StateDirectory, StoreError};
use crate::usage::Cgroups;

/// Owns one container.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) environment: Environment,
    /// `None` where the agent itself looks after the container: nothing is recorded then, and what the engine says of the
    /// running container is told with its start.
    pub(crate) directory: Option<StateDirectory>,
    pub(crate) placement: Placement,
    pub(crate) launch: Launch,
    pub(crate) files: Files,
    pub(crate) state: State,
    pub(crate) events: mpsc::Sender<Event>,
    /// From then on there may be a container, even where [`State::docker_id`] knows none.
    pub(crate) has_tried_to_create: bool,
}

impl Owner {
    /// Lives through it. The container is still there afterwards if it ever was, see [`State::docker_id`].
    pub(crate) async fn live(&mut self, asks: &mut Asks) -> Ended {
        let lived = match self.try_live(asks).await {
            Ok(lived) => lived,
            Err(failure) => {
                let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
                let message = format!("cannot start the container on {host}: {failure}");
                Lived {
                    cause: Cause::NotStarted { message },
                    started: None,
                    written: Some(Written { is_whole: true, lost_bytes: 0 }),
                }
            }
        };
        let Lived { cause, started, written } = lived;
        let written = written.filter(|written| written.is_whole);
        let sizes = written.and_then(|_| self.files.sizes().ok());
        let ending = Ending {
            cause,
            was_stopped: asks.is_stop_asked(),
            started,
            finished_at: epoch_seconds(),
            stdout_bytes: sizes.map(|(stdout, _)| stdout),
            stderr_bytes: sizes.map(|(_, stderr)| stderr),
            lost_bytes: written.map(|written| written.lost_bytes),
        };
        Ended { version: State::VERSION, ending }
    }

    async fn try_live(&mut self, asks: &mut Asks) -> Result<Lived, Failure> {
        // Where the agent looks after the container, it has decided all this.
        let config = if self.directory.is_some() { Config::load(&self.environment)? } else { Config::defaults() };
        let placement = match self.directory {
            Some(_) => self.placement.clone().configured(&config),
            None => self.placement.clone(),
        };
        let mut spec = Spec::build(&self.launch, &self.environment, &placement)?;
        let engine = Engine::connect(&self.environment)?;
        let prepared = tokio::select! {
            prepared = self.prepare(&engine, &spec, &config) => prepared,
            () = asks.stop() => Err(Failure::Stopped),
        };
        prepared?;
        make_directories(&spec.host_directories)?;
        // From here to the start nothing is abandoned half done: what the engine has created must be known.
        let mut docker_id = self.create(&engine, &mut spec).await?;
        let mut flow = self.attach(&docker_id).await?;
        asks.start_or_stop().await;
        loop {
            if asks.is_stop_asked() {
                return Err(Failure::Stopped);
            }
            match engine.start(&docker_id).await {
                Ok(()) => break,
                Err(EngineError::NoInit) if spec.has_init() => {
                    tracing::warn!("the engine has no init program: the command runs as PID 1");
                    engine.remove(&docker_id).await?;
                    spec.remove_init();
                    docker_id = self.create(&engine, &mut spec).await?;
                    flow = self.attach(&docker_id).await?;
                }
                Err(
                    EngineError::Refused { reason, .. }
                    | EngineError::NotFound { reason, .. }
                    | EngineError::Conflict { reason, .. },
                ) => return Err(Failure::Start { reason: plain(&reason) }),
                Err(error) => return Err(error.into()),
            }
        }
        self.run(&engine, &docker_id, flow, asks).await
    }

    /// What may take long, and be given up at any time.
    async fn prepare(&mut self, engine: &Engine, spec: &Spec, config: &Config) -> Result<(), Failure> {
        if self.directory.is_some() {
            // Credentials for the image may come with it.
            fetcher::fetch(&self.launch, config).await?;
        }
        self.have_image(engine, spec, config).await?;
        if self.directory.is_some() && !config.hooks.launch.is_empty() {
            self.state.is_hooked = true;
            self.record()?;
            Hook::Launch.run(&self.launch, config).await?;
        }
        Ok(())
    }

    async fn have_image(&self, engine: &Engine, spec: &Spec, config: &Config) -> Result<(), Failure> {
        let sandbox = Path::new(self.launch.directory());
        let say: Option<Say> = if config.pull.progress_in_stderr && self.directory.is_some() {
            let mut files = self.files.try_clone().map_err(|error| Failure::Sandbox { error })?;
            Some(Box::new(move |line| files.say(line)))
        } else {
            None
        };
        let report = Report::new(sandbox, &spec.image.to_string(), self.events.clone(), say);
        let pull = Pull {
            engine,
            environment: &self.environment,
            config,
            image: &spec.image,
            policy: spec.pull,
            credentials: Credentials { config, environment: &self.environment, sandbox: Some(sandbox) },
        };
        Ok(pull.provide(report).await?)
    }

    async fn create(&mut self, engine: &Engine, spec: &mut Spec) -> Result<String, Failure> {
        // An update that comes now waits for the container that it shall be applied to.
        let held = self.directory.as_ref().map(StateDirectory::hold_limits).transpose()?;
        if let Some((_, Some(limits))) = &held {
            spec.set_limits(*limits);
        }
        self.has_tried_to_create = true;
        let mut created = engine.create(&spec.container_name, spec.create.clone()).await;
        if let Err(EngineError::Conflict { .. }) = &created
            && self.remove_leftover(engine, spec).await?
        {
            created = engine.create(&spec.container_name, spec.create.clone()).await;
        }
        let docker_id = created.map_err(|error| match error {
            EngineError::NotFound { reason, .. } if reason.contains("No such image") => {
                EngineError::ImageNotFound { image: spec.image.to_string(), reason }
            }
            error => error,
        })?;
        self.state.docker_id = Some(docker_id.clone());
        self.state.limits = spec.limits();
        self.state.is_swap_fixed = spec.is_swap_fixed();
        self.record()?;
        drop(held);
        Ok(docker_id)
    }

    fn record(&self) -> Result<(), StoreError> {
        self.directory.as_ref().map_or(Ok(()), |directory| directory.write_state(&self.state))
    }

    /// Removes what an earlier attempt has left under the same name, if it is ours.
    async fn remove_leftover(&self, engine: &Engine, spec: &Spec) -> Result<bool, EngineError> {
        let Some(found) = engine.inspect(&spec.container_name).await? else { return Ok(true) };
        let expected = spec.create.labels.as_ref();
        let is_same = |label: &str| found.labels.get(label) == expected.and_then(|labels| labels.get(label));
        let is_ours = is_same(CONTAINER_ID_LABEL) && is_same(WORK_DIRECTORY_LABEL);
        if is_ours && !found.is_running {
            engine.remove(&found.id).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn attach(&self, docker_id: &str) -> Result<Flow, Failure> {
        let files = self.files.try_clone().map_err(|error| Failure::Sandbox { error })?;
        Ok(Flow::attach(&self.environment, docker_id, files, self.events.downgrade()).await?)
    }

    async fn run(&mut self, engine: &Engine, id: &str, flow: Flow, asks: &mut Asks) -> Result<Lived, Failure> {
        let mut started = Started { docker_id: id.to_owned(), started_at: epoch_seconds(), ..Started::default() };
        // What the engine does not say now is not worth the task's end.
        let inspection = engine.inspect(id).await.ok().flatten().unwrap_or_default();
        started.image_id = inspection.image_id;
        started.pid = inspection.pid;
        started.ip_address = inspection.ip_address;
        if self.directory.is_none() {
            started.inspection = engine.inspection_text(id).await.ok();
        }
        self.state.cgroups = inspection.pid.and_then(Cgroups::of_process);
        if let Err(error) = self.record() {
            tracing::error!(%error, "usage will not be known");
        }
        // Only an executor that is gone does not take it, and that is noticed elsewhere.
        let _ = self.events.send(Event::Started(started.clone())).await;

        let stop_signal = inspection.stop_signal.as_deref().unwrap_or("SIGTERM");
        let exit = until_end(engine, id, inspection.pid, stop_signal, asks).await;
        let (written, inspection) = tokio::join!(tokio::time::timeout(OUTPUT_LIMIT, flow.result), engine.inspect(id));
        let written = written.ok().and_then(Result::ok);
        if written.is_none() {
            tracing::error!("the output did not end with the container");
        }
        let inspection = inspection.ok().flatten().unwrap_or_default();
        let cause = cause(exit, &inspection, self.state.limits.memory_bytes);
        Ok(Lived { cause, started: Some(started), written })
    }
}

struct Lived {
    cause: Cause,
    started: Option<Started>,
    /// `None`: the output did not end with the container, and may still be growing.
    written: Option<Written>,
}

/// Why the container never ran.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it was stopped before it started")]
    Stopped,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error(transparent)]
    Flow(#[from] FlowError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{reason}; check the image and the command")]
    Start { reason: String },
    #[error("cannot open stdout and stderr in its sandbox: {error}")]
    Sandbox { error: std::io::Error },
    #[error("cannot make the volume's host directory {}: {error}", path.display())]
    HostDirectory { path: PathBuf, error: std::io::Error },
}

/// How the engine, or its absence, reported the end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exit {
    /// Its own answer to our waiting.
    Code(i64),
    /// It was away meanwhile, and said this when it was back.
    CodeAfterAbsence(i64),
    /// It does not know the container any more.
    Removed,
    /// It did not come back, and the container's process is gone.
    EngineGone { error: EngineError },
}

/// Waits for the end, and hastens it as asked.
async fn until_end(engine: &Engine, id: &str, pid: Option<u32>, stop_signal: &str, asks: &mut Asks) -> Exit {
    let mut end = std::pin::pin!(outlast(engine, id, pid));
    let mut is_told = false;
    loop {
        let kill_at = asks.kill_at();
        if let Some(kill_at) = kill_at
            && !is_told
            && kill_at > Instant::now()
        {
            is_told = true;
            signal(engine, id, stop_signal).await;
        }
        tokio::select! {
            exit = &mut end => return exit,
            () = asks.next() => {}
            () = tokio::time::sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                signal(engine, id, "SIGKILL").await;
                asks.killed();
            }
        }
    }
}

async fn signal(engine: &Engine, id: &str, signal: &str) {
    if let Err(error) = engine.signal(id, signal).await {
        tracing::error!(%error, signal, "the container was not signalled");
    }
}

/// Waits for the end through absences of the engine.
async fn outlast(engine: &Engine, id: &str, pid: Option<u32>) -> Exit {
    match engine.wait(id).await {
        Ok(code) => return Exit::Code(code),
        Err(error) => tracing::warn!(%error, "the engine went away"),
    }
    let mut gone_since = None;
    loop {
        let error = match engine.inspect(id).await {
            Ok(None) => return Exit::Removed,
            Ok(Some(found)) if !found.is_running => return Exit::CodeAfterAbsence(found.exit_code.unwrap_or(0)),
            Ok(Some(_)) => match engine.wait(id).await {
                Ok(code) => return Exit::CodeAfterAbsence(code),
                Err(error) => error,
            },
            Err(error) => error,
        };
        tracing::warn!(%error, "the engine is away");
        let is_alive = pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists());
        if is_alive {
            gone_since = None;
        } else if gone_since.get_or_insert_with(Instant::now).elapsed() > ENGINE_ABSENCE_LIMIT {
            return Exit::EngineGone { error };
        }
        tokio::time::sleep(ENGINE_RETRY).await;
    }
}

fn cause(exit: Exit, inspection: &Inspection, memory_limit_bytes: Option<i64>) -> Cause {
    let code = match exit {
        Exit::Code(code) => code,
        // An engine that was killed and started again reports 0 for containers that it lost, too.
        Exit::CodeAfterAbsence(0) => {
            let message = "the Docker engine was restarted while the container ran, and does not know its exit code";
            return Cause::Unknown { message: message.to_owned() };
        }
        Exit::CodeAfterAbsence(code) => code,
        Exit::Removed => {
            let message = "the container was removed while it ran, not by its containerizer";
            return Cause::Unknown { message: message.to_owned() };
        }
        Exit::EngineGone { error } => {
            return Cause::Unknown {
                message: format!("the container ended while the Docker engine was away: {error}"),
            };
        }
    };
    let code = i32::try_from(code).unwrap_or(i32::MAX);
    match memory_limit_bytes.and_then(|bytes| u64::try_from(bytes).ok()) {
        Some(limit_bytes) if inspection.is_oom_killed && code != 0 => Cause::OutOfMemory { code, limit_bytes },
        _ => Cause::Exited { code },
    }
}

fn make_directories(paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths {
        // It may as well be a file.
        if !path.exists() {
            std::fs::create_dir_all(path).map_err(|error| Failure::HostDirectory { path: path.clone(), error })?;
        }
    }
    Ok(())
}

/// What the container runtime says, without the stations that the message has passed on its way here.
fn plain(reason: &str) -> String {
    let stations = ["starting container process caused: ", "unable to start container process: "];
    let start = stations.iter().filter_map(|station| Some(reason.rfind(station)? + station.len())).max().unwrap_or(0);
    reason[start..].trim_end_matches(": unknown").to_owned()
}

fn epoch_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The output ends with the container; the engine itself waits two seconds for it, and a slow disk may need some more.
const OUTPUT_LIMIT: Duration = Duration::from_secs(30);
const ENGINE_RETRY: Duration = Duration::from_millis(500);
/// An engine that is restarted is back within seconds.
const ENGINE_ABSENCE_LIMIT: Duration = Duration::from_secs(60);
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_reads_as_the_engine_knows_it() {
        let fine = Inspection::default();
        let starved = Inspection { is_oom_killed: true, ..Inspection::default() };
        assert_eq!(cause(Exit::Code(3), &fine, Some(1)), Cause::Exited { code: 3 });
        assert_eq!(cause(Exit::Code(137), &starved, Some(64)), Cause::OutOfMemory { code: 137, limit_bytes: 64 });
        assert_eq!(cause(Exit::Code(0), &starved, Some(64)), Cause::Exited { code: 0 });
        assert_eq!(cause(Exit::CodeAfterAbsence(137), &fine, None), Cause::Exited { code: 137 });
    }

    #[test]
    fn an_end_that_nobody_saw_is_never_success() {
        let error = EngineError::Unreachable { host: "h".into(), reason: "r".into() };
        for exit in [Exit::CodeAfterAbsence(0), Exit::Removed, Exit::EngineGone { error }] {
            assert!(matches!(cause(exit, &Inspection::default(), None), Cause::Unknown { .. }));
        }
    }

    #[test]
    fn the_runtimes_words_are_kept_and_their_way_is_not() {
        let reason = "failed to create shim: OCI runtime create failed: container_linux.go:367: starting container process \
                      caused: exec: \"nosuch\": executable file not found in $PATH: unknown";
        assert_eq!(plain(reason), "exec: \"nosuch\": executable file not found in $PATH");
        assert_eq!(plain("port is already allocated"), "port is already allocated");
    }
}
