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
//!
//! An owner that is not the first begins where the container is: it goes on preparing one that was never started, watches one
//! that runs, and reports the end of one that has ended. What was started and is gone is not begun again.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::ecp::Launch;
use tokio::sync::mpsc;

use super::asks::Asks;
use super::end::{End, Exit, Running, cause};
use super::input::Feeding;
use super::output::{Begin, Files, Flow, FlowError, Written};
use super::successor::Left;
use crate::config::{Config, ConfigError};
use crate::credentials::Credentials;
use crate::docker::{Engine, EngineError, Inspection, Stdin};
use crate::environment::Environment;
use crate::fetcher::{self, FetchError};
use crate::hooks::{Hook, HookError};
use crate::lifecycle::{Cause, Ending, Event, Started};
use crate::process::Process;
use crate::pull::{Pull, PullError, Report, Say};
use crate::spec::{self, CONTAINER_ID_LABEL, Placement, Spec, SpecError, WORK_DIRECTORY_LABEL};
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
    /// Whether this owner continues one that was killed.
    pub(crate) is_successor: bool,
    /// Whether the engine answered when the container ended.
    pub(crate) is_engine_there: bool,
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
        let engine = Engine::connect(&self.environment)?;
        // A configuration that has become wrong is no matter of a container that runs.
        let left = if self.is_successor { self.find_left(&engine, asks).await } else { Left::Nothing };
        let prepared_id = match left {
            Left::Running(found) => return Ok(self.watch_on(&engine, &found, asks).await),
            Left::Ended(exit, found) => return Ok(self.report_end(&engine, exit, &found).await),
            Left::Prepared(docker_id) => Some(docker_id),
            Left::Nothing => None,
        };
        // Where the agent looks after the container, it has decided all this.
        let config = if self.directory.is_some() { Config::load(&self.environment)? } else { Config::defaults() };
        if self.directory.is_some() {
            self.placement = self.placement.clone().configured(&config);
        }
        let mut spec = Spec::build(&self.launch, &self.environment, &self.placement)?;
        if let Some(docker_id) = prepared_id {
            let flow = self.attach(&docker_id).await?;
            return self.start(&engine, &mut spec, docker_id, flow, asks).await;
        }
        let prepared = tokio::select! {
            prepared = self.prepare(&engine, &spec, &config) => prepared,
            () = asks.stop() => Err(Failure::Stopped),
        };
        prepared?;
        make_directories(&spec.host_directories)?;
        // From here to the start nothing is abandoned half done: what the engine has created must be known.
        let docker_id = self.create(&engine, &mut spec).await?;
        let flow = self.attach(&docker_id).await?;
        self.start(&engine, &mut spec, docker_id, flow, asks).await
    }

    async fn start(
        &mut self,
        engine: &Engine,
        spec: &mut Spec,
        mut docker_id: String,
        mut flow: Flow,
        asks: &mut Asks,
    ) -> Result<Lived, Failure> {
        asks.start_or_stop().await;
        let mut stdin = self.stdin(engine, spec, &docker_id).await?;
        loop {
            if asks.is_stop_asked() {
                return Err(Failure::Stopped);
            }
            if !self.state.has_tried_to_start {
                self.state.has_tried_to_start = true;
                self.record()?;
            }
            match engine.start(&docker_id).await {
                Ok(()) => break,
                Err(EngineError::NoInit) if spec.has_init() => {
                    tracing::warn!("the engine has no init program: the command runs as PID 1");
                    engine.remove(&docker_id).await?;
                    spec.remove_init();
                    docker_id = self.create(engine, spec).await?;
                    flow = self.attach(&docker_id).await?;
                    stdin = self.stdin(engine, spec, &docker_id).await?;
                }
                Err(
                    EngineError::Refused { reason, .. }
                    | EngineError::NotFound { reason, .. }
                    | EngineError::Conflict { reason, .. },
                ) => return Err(Failure::Start { reason: plain(&reason) }),
                Err(error) => return Err(error.into()),
            }
        }
        let given = asks.take_input();
        let feed =
            |(stdin, given)| Feeding::start(engine.clone(), docker_id.clone(), stdin, given, self.events.downgrade());
        let _feeding = stdin.zip(given).map(feed);
        Ok(self.run(engine, &docker_id, flow, asks).await)
    }

    /// What may take long, and be given up at any time.
    async fn prepare(&mut self, engine: &Engine, spec: &Spec, config: &Config) -> Result<(), Failure> {
        if self.directory.is_some() {
            // Credentials for the image may come with it.
            fetcher::fetch(&self.launch, config, &self.environment).await?;
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
        // Where nothing is noted beside the sandbox, nothing could go on after us.
        self.state.is_log_kept = self.directory.is_some() && self.placement.keeps_log && spec.keep_log();
        let mut created = engine.create(&spec.container_name, spec.create.clone()).await;
        if let Err(EngineError::NoDiskLimit { reason }) = &created
            && spec.disk.is_some_and(|disk| !disk.is_needed)
        {
            tracing::warn!(reason, "the container's disk is not limited");
            spec.remove_disk_limit();
            created = engine.create(&spec.container_name, spec.create.clone()).await;
        }
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
        self.state.swap = spec.swap;
        self.state.disk_limit_bytes = spec.disk.map(|disk| disk.bytes);
        self.state.is_cpu_limited = self.placement.is_cpu_limited;
        self.record()?;
        drop(held);
        Ok(docker_id)
    }

    pub(super) fn record(&self) -> Result<(), StoreError> {
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
        self.flow(docker_id, Begin::Attach).await
    }

    /// Of a container that was made to have one.
    async fn stdin(&self, engine: &Engine, spec: &Spec, docker_id: &str) -> Result<Option<Stdin>, EngineError> {
        if spec.has_stdin() { engine.attach_stdin(docker_id).await.map(Some) } else { Ok(None) }
    }

    pub(super) async fn flow(&self, docker_id: &str, begin: Begin) -> Result<Flow, Failure> {
        let files = self.files.try_clone().map_err(|error| Failure::Sandbox { error })?;
        let directory = self.directory.as_ref().filter(|_| self.state.is_log_kept);
        let positions = directory.map(StateDirectory::output_positions);
        let events = self.events.downgrade();
        Ok(Flow::start(&self.environment, docker_id, files, positions, begin, events).await?)
    }

    async fn run(&mut self, engine: &Engine, id: &str, flow: Flow, asks: &mut Asks) -> Lived {
        // What the engine does not say now is not worth the task's end.
        let inspection = engine.inspect(id).await.ok().flatten().unwrap_or_default();
        self.watch(engine, Inspection { id: id.to_owned(), ..inspection }, Some(flow), asks).await
    }

    pub(super) async fn watch(
        &mut self,
        engine: &Engine,
        found: Inspection,
        flow: Option<Flow>,
        asks: &mut Asks,
    ) -> Lived {
        let started_at = self.state.started.as_ref().map_or_else(epoch_seconds, |started| started.started_at);
        let mut started = Started {
            docker_id: found.id.clone(),
            started_at,
            image_id: found.image_id,
            pid: found.pid,
            ip_address: found.ip_address,
            inspection: None,
        };
        if self.directory.is_none() {
            started.inspection = engine.inspection_text(&found.id).await.ok();
        }
        self.state.cgroups = found.pid.and_then(Cgroups::of_process);
        self.state.init = found.pid.and_then(Process::of);
        self.state.started = Some(started.clone());
        if let Err(error) = self.record() {
            tracing::error!(%error, "usage will not be known");
        }
        // Only an executor that is gone does not take it, and that is noticed elsewhere.
        let _ = self.events.send(Event::Started(started.clone())).await;

        let running = Running {
            engine,
            docker_id: &found.id,
            init: self.state.init.as_ref(),
            cgroups: self.state.cgroups.as_ref(),
            stop_signal: found.stop_signal.as_deref().unwrap_or("SIGTERM"),
        };
        let end = running.until_end(asks).await;
        self.conclude(engine, end, None, flow, started).await
    }

    pub(super) async fn conclude(
        &mut self,
        engine: &Engine,
        end: End,
        found: Option<Inspection>,
        flow: Option<Flow>,
        started: Started,
    ) -> Lived {
        self.is_engine_there = !matches!(end.exit, Exit::EngineGone { .. });
        // Of an engine that is not there, nothing more is to be expected.
        let limit = if self.is_engine_there { OUTPUT_LIMIT } else { LAST_OUTPUT_LIMIT };
        let output = async {
            match flow {
                Some(flow) => flow.finish(end.watched, end.gone_at, limit).await,
                None => None,
            }
        };
        let asked = async {
            if found.is_none() && self.is_engine_there {
                engine.inspect(&started.docker_id).await.ok().flatten()
            } else {
                found
            }
        };
        let (written, inspection) = tokio::join!(output, asked);
        if written.is_none() {
            tracing::error!("the output did not end with the container");
        }
        let cause = cause(&end, &inspection.unwrap_or_default(), self.limits().memory_bytes);
        Lived { cause, started: Some(started), written }
    }

    /// Those of the last update that was applied.
    fn limits(&self) -> spec::Limits {
        let updated = self.directory.as_ref().and_then(|directory| directory.limits().ok().flatten());
        updated.unwrap_or(self.state.limits)
    }
}

pub(super) struct Lived {
    cause: Cause,
    started: Option<Started>,
    /// `None`: the output did not end with the container, and may still be growing.
    written: Option<Written>,
}

/// Why the container never ran.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
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
/// What has arrived already.
const LAST_OUTPUT_LIMIT: Duration = Duration::from_millis(500);
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtimes_words_are_kept_and_their_way_is_not() {
        let reason = "failed to create shim: OCI runtime create failed: container_linux.go:367: starting container process \
                      caused: exec: \"nosuch\": executable file not found in $PATH: unknown";
        assert_eq!(plain(reason), "exec: \"nosuch\": executable file not found in $PATH");
        assert_eq!(plain("port is already allocated"), "port is already allocated");
    }
}
