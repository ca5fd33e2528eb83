//! Every container of a slave, from both memories: the state directories, and the engine's containers with our labels.
//!
//! ```text
//! supervisor  result  engine's container      stands as
//! lives       -       none, or not running    Preparing
//! lives       -       running                 Running
//! lives       yes     any                     Ending
//! none        yes     any                     Ended       until the slave has waited for it
//! none        -       running                 Unowned     its supervisor was killed
//! none        -       none, or not running    Lost        the same, and it is over
//! (no state directory)        any             Forgotten
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use proto::ecp::Launch;

use crate::docker::{Engine, EngineError, Labelled};
use crate::lifecycle::Cause;
use crate::spec::{self, Limits};
use crate::store::{ContainerId, Ended, State, StateDirectory, Store, StoreError};

/// All that is known of a slave's containers.
pub(super) struct Survey {
    /// By Mesos' id.
    pub(super) containers: Vec<Container>,
    /// What interrupted verbs have left half made or half removed.
    pub(super) leftovers: Vec<PathBuf>,
    /// What else the engine has.
    pub(super) engine: Result<Others, EngineError>,
}

/// Containers that are not this slave's.
pub(super) struct Others {
    /// Ours, of other work directories.
    pub(super) of_other_slaves: Vec<Labelled>,
    /// How many there are without our labels. They are never touched.
    pub(super) foreign: usize,
}

/// One container.
pub(super) struct Container {
    pub(super) id: String,
    /// `None` when there is no state directory.
    pub(super) remembered: Option<Remembered>,
    /// `None` when the engine knows none, or does not answer.
    pub(super) at_engine: Option<Labelled>,
}

/// What a state directory holds.
pub(super) struct Remembered {
    pub(super) directory: StateDirectory,
    pub(super) launched: SystemTime,
    pub(super) launch: Option<Launch>,
    pub(super) state: State,
    /// Of the last update.
    pub(super) limits: Option<Limits>,
    pub(super) ended: Option<Ended>,
    /// The living supervisor's pid.
    pub(super) owner: Option<u32>,
    /// Files that cannot be read, and why.
    pub(super) damage: Vec<String>,
}

/// See the table of the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Preparing,
    Running,
    Ending,
    Ended,
    Unowned,
    Lost,
    Forgotten,
}

impl Survey {
    /// Looks. What cannot be seen is left out and said.
    ///
    /// # Errors
    /// The state directories cannot be listed.
    pub(super) async fn make(work_directory: &Path, engine: Result<&Engine, EngineError>) -> Result<Self, StoreError> {
        let store = Store::new(work_directory);
        let mut containers: BTreeMap<String, Container> = BTreeMap::new();
        for (id, directory) in store.list()? {
            let id = id.as_str().to_owned();
            let remembered = Some(Remembered::read(directory));
            containers.insert(id.clone(), Container { id, remembered, at_engine: None });
        }
        let listed = match engine {
            Ok(engine) => engine.list_labelled().await,
            Err(error) => Err(error),
        };
        let engine = listed.map(|(labelled, foreign)| {
            let ours = spec::work_directory_label(work_directory);
            let (ours, of_other_slaves): (Vec<_>, Vec<_>) =
                labelled.into_iter().partition(|container| container.work_directory == ours);
            for container in ours {
                let id = container.container_id.clone();
                let known = containers.entry(id.clone());
                known.or_insert(Container { id, remembered: None, at_engine: None }).at_engine = Some(container);
            }
            Others { of_other_slaves, foreign }
        });
        Ok(Self { containers: containers.into_values().collect(), leftovers: leftovers(&store), engine })
    }

    /// By Mesos' id, the engine's id, the name at the engine, or the beginning of one of them.
    pub(super) fn find(&self, id: &str) -> Vec<&Container> {
        let names = |container: &Container| {
            let engine = container.at_engine.as_ref().map(|at_engine| at_engine.docker_id.clone());
            let remembered = container.remembered.as_ref().and_then(|remembered| remembered.state.docker_id.clone());
            [Some(container.id.clone()), Some(format!("mesos-{}", container.id)), engine, remembered]
        };
        let matching = |is_match: &dyn Fn(&str) -> bool| -> Vec<&Container> {
            let all = self.containers.iter();
            all.filter(|container| names(container).into_iter().flatten().any(|name| is_match(&name))).collect()
        };
        let exact = matching(&|name| name == id);
        if exact.is_empty() { matching(&|name| name.starts_with(id)) } else { exact }
    }
}

impl Container {
    pub(super) fn standing(&self) -> Standing {
        let Some(remembered) = &self.remembered else { return Standing::Forgotten };
        let runs = match &self.at_engine {
            Some(at_engine) => at_engine.is_alive(),
            // The engine may be away: then what was noted at its start is all there is.
            None => remembered.has_cgroup(),
        };
        match (remembered.owner.is_some(), remembered.ended.is_some(), runs) {
            (true, true, _) => Standing::Ending,
            (true, false, true) => Standing::Running,
            (true, false, false) => Standing::Preparing,
            (false, true, _) => Standing::Ended,
            (false, false, true) => Standing::Unowned,
            (false, false, false) => Standing::Lost,
        }
    }

    /// The standing in words, with how it ended.
    pub(super) fn standing_text(&self) -> String {
        let ending = || {
            let ended = self.remembered.as_ref().and_then(|remembered| remembered.ended.as_ref());
            ended.map(|ended| ending_text(&ended.ending.cause)).unwrap_or_default()
        };
        match self.standing() {
            Standing::Preparing => "preparing".to_owned(),
            Standing::Running => "running".to_owned(),
            Standing::Ending => format!("ending: {}", ending()),
            Standing::Ended => format!("ended: {}", ending()),
            Standing::Unowned => "running without supervisor".to_owned(),
            Standing::Lost => "lost: supervisor and container are gone".to_owned(),
            Standing::Forgotten => {
                let state = self.at_engine.as_ref().map(|at_engine| at_engine.state.as_str()).unwrap_or_default();
                format!("{state}, without state directory")
            }
        }
    }

    /// When it was launched, as far as that is known.
    pub(super) fn since(&self) -> SystemTime {
        let at_engine = self.at_engine.as_ref().map(|at_engine| at_engine.created);
        self.remembered.as_ref().map(|remembered| remembered.launched).or(at_engine).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// As the task asked for it.
    pub(super) fn image(&self) -> Option<String> {
        let launch = self.remembered.as_ref().and_then(|remembered| remembered.launch.as_ref());
        let named = launch.and_then(|launch| {
            let of_task = launch.task_info.as_ref().and_then(|task| task.container.as_deref());
            let of_executor = launch.executor_info.as_ref().and_then(|executor| executor.container.as_deref());
            let docker = of_task.or(of_executor)?.docker.as_ref()?;
            (!docker.image.is_empty()).then(|| docker.image.clone())
        });
        self.at_engine.as_ref().map(|at_engine| at_engine.image.clone()).or(named)
    }

    /// The task's name of a command task, the executor's id of a custom executor.
    pub(super) fn task(&self) -> Option<String> {
        let launch = self.remembered.as_ref()?.launch.as_ref()?;
        let task = launch.task_info.as_ref().map(|task| task.name.clone());
        task.or_else(|| Some(launch.executor_info.as_ref()?.executor_id.value.clone()))
    }

    /// The engine's id.
    pub(super) fn docker_id(&self) -> Option<&str> {
        let at_engine = self.at_engine.as_ref().map(|at_engine| at_engine.docker_id.as_str());
        at_engine.or_else(|| self.remembered.as_ref()?.state.docker_id.as_deref())
    }

    /// Whether whoever asks for it is surely gone: a slave that still knows it has its sandbox.
    pub(super) fn has_sandbox(&self) -> Option<bool> {
        let launch = self.remembered.as_ref()?.launch.as_ref()?;
        Some(Path::new(launch.directory()).is_dir())
    }
}

impl Remembered {
    fn read(directory: StateDirectory) -> Self {
        let mut damage = Vec::new();
        let launch = kept(directory.launch(), &mut damage);
        let state = kept(directory.state(), &mut damage).flatten().unwrap_or_default();
        let limits = kept(directory.limits(), &mut damage).flatten();
        let ended = kept(directory.result(), &mut damage).flatten();
        let owner = kept(directory.owner(), &mut damage).flatten();
        let owner = owner.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
        let metadata = fs::metadata(directory.path().join("launch")).or_else(|_| fs::metadata(directory.path()));
        let launched = metadata.and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { directory, launched, launch, state, limits, ended, owner, damage }
    }

    fn has_cgroup(&self) -> bool {
        self.state.cgroups.as_ref().is_some_and(|cgroups| cgroups.memory_in_use_bytes().is_some())
    }
}

fn kept<T>(read: Result<T, StoreError>, damage: &mut Vec<String>) -> Option<T> {
    read.inspect_err(|error| damage.push(error.to_string())).ok()
}

fn leftovers(store: &Store) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.path()).into_iter().flatten().flatten();
    let half_done = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"."));
    let mut paths: Vec<PathBuf> = half_done.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

/// How a container ended, in a few words.
pub(super) fn ending_text(cause: &Cause) -> String {
    match cause {
        Cause::Exited { code } => format!("exited with {code}"),
        Cause::OutOfMemory { limit_bytes, .. } => format!("memory limit of {} MB reached", limit_bytes >> 20),
        Cause::NotStarted { message } | Cause::Unknown { message } => message.clone(),
    }
}

/// What came from a label is taken for an id only when it is one.
pub(super) fn container_id(container: &Container) -> Option<ContainerId> {
    ContainerId::parse(&container.id).ok()
}
