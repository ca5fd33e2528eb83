//! Finds a task's sandbox on its agent.
//!
//! ```text
//! /frameworks/F/executors/E/runs/latest --200--> that is it (Mesos 1.5 and later)
//!   '--404--> /version --1.5 or later--> not there yet
//!               '--older or unknown--> /state: executors[].directory --there--> that is it
//!                                        '--not there--> not there yet
//! ```
//!
//! The directory appears when the agent makes the executor, after TASK_STAGING and before anything runs. Until then a 404 means
//! nothing. `/state` may be several megabytes, so it is asked for with growing pauses and, once the version is known to be
//! 1.5, only after the task has ended: then it tells an agent that has no such sandbox from one that has not found it yet
//! after a restart (503).
//!
//! What was found is kept by the caller: the path stays readable long after the agent has forgotten the executor.

use std::time::Duration;

use serde::Deserialize;

use super::agent::{Agent, Fault, Listing};
use super::files::RawText;
use super::pace::FaultKind;
use super::{Location, Phase};

/// Looks for one sandbox.
#[derive(Debug)]
pub(super) struct Locator {
    framework_id: String,
    executor_id: String,
    /// For a person: "executor E of framework F on agent A".
    whose: String,
    virtual_path: Vec<u8>,
    /// Whether the agent knows virtual paths.
    has_virtual_paths: Option<bool>,
    has_asked_version: bool,
    /// When it was looked for last.
    phase: Phase,
    /// When to ask for the state again; `None` for now.
    next_state: Option<Duration>,
    pause: Duration,
    /// What the state has shown last.
    verdict: FaultKind,
}

/// A sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Any bytes.
    pub(super) directory: Vec<u8>,
    /// What it holds.
    pub(super) listing: Listing,
}

impl Locator {
    pub(super) fn new(location: &Location) -> Self {
        let Location { framework_id, executor_id, agent_id, .. } = location;
        Self {
            framework_id: framework_id.clone(),
            executor_id: executor_id.clone(),
            whose: format!("executor {executor_id} of framework {framework_id} on agent {agent_id}"),
            virtual_path: format!("/frameworks/{framework_id}/executors/{executor_id}/runs/latest").into_bytes(),
            has_virtual_paths: None,
            has_asked_version: false,
            phase: Phase::Waiting,
            next_state: None,
            pause: FIRST_PAUSE,
            verdict: FaultKind::Missing,
        }
    }

    /// Looks once.
    ///
    /// # Errors
    /// [`FaultKind::Missing`] while the sandbox may still appear; [`FaultKind::Definite`] when the task has ended and the agent, being up,
    /// has no such sandbox.
    pub(super) async fn locate(&mut self, agent: &Agent, phase: Phase, now: Duration) -> Result<Found, Fault> {
        let has_ended = phase.is_over();
        if phase != self.phase {
            // Something new is known of the task: its sandbox should be there now.
            (self.phase, self.next_state, self.pause) = (phase, None, FIRST_PAUSE);
        }
        match agent.list(&self.virtual_path).await {
            Err(fault) if fault.kind == FaultKind::Missing => {}
            listing => return Ok(Found { directory: self.virtual_path.clone(), listing: listing? }),
        }
        if !self.has_asked_version {
            match agent.version().await {
                Ok(text) => {
                    self.has_virtual_paths = version_in(&text).map(|version| version >= FIRST_WITH_VIRTUAL_PATHS)
                }
                Err(fault) if fault.kind.is_of_connection() => return Err(fault),
                Err(_) => {}
            }
            self.has_asked_version = true;
        }
        let is_known_to_be_useless = self.has_virtual_paths == Some(true) && !has_ended;
        if is_known_to_be_useless || self.next_state.is_some_and(|next| now < next) {
            return Err(self.none(self.verdict, NOT_KNOWN));
        }
        self.next_state = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.ask_state(agent, has_ended).await
    }

    async fn ask_state(&mut self, agent: &Agent, has_ended: bool) -> Result<Found, Fault> {
        let state = State::parse(&agent.state().await?).map_err(|error| {
            self.none(FaultKind::Unreachable, &format!("cannot be found in the agent's state: {error}"))
        })?;
        let version = state.version();
        self.has_virtual_paths = version.map(|version| version >= FIRST_WITH_VIRTUAL_PATHS).or(self.has_virtual_paths);
        if let Some(RawText(directory)) = state.directory(&self.framework_id, &self.executor_id) {
            return Ok(Found { listing: agent.list(&directory).await?, directory });
        }
        // While it recovers, an agent before 1.0 answers as if it knew nothing; a later one does not answer.
        if has_ended && version.is_some_and(|version| version >= (1, 0)) {
            self.verdict = FaultKind::Definite;
        }
        Err(self.none(self.verdict, NOT_KNOWN))
    }

    fn none(&self, kind: FaultKind, what: &str) -> Fault {
        Fault { kind, why: format!("the sandbox of {} {what}", self.whose) }
    }
}

const NOT_KNOWN: &str = "is not known to the agent";

const FIRST_WITH_VIRTUAL_PATHS: (u32, u32) = (1, 5);

/// Between two looks into the state.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What matters of `/state`.
#[derive(Debug, Deserialize)]
struct State {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    frameworks: Vec<Framework>,
    #[serde(default)]
    completed_frameworks: Vec<Framework>,
}

#[derive(Debug, Deserialize)]
struct Framework {
    id: RawText,
    #[serde(default)]
    executors: Vec<Executor>,
    #[serde(default)]
    completed_executors: Vec<Executor>,
}

#[derive(Debug, Deserialize)]
struct Executor {
    id: RawText,
    directory: RawText,
}

impl State {
    fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    fn version(&self) -> Option<(u32, u32)> {
        major_minor(self.version.as_deref()?)
    }

    /// The sandbox of an executor: a running one's before an ended one's, and of several the last.
    fn directory(&self, framework_id: &str, executor_id: &str) -> Option<RawText> {
        let frameworks = self.frameworks.iter().chain(&self.completed_frameworks);
        let ours = frameworks.filter(|framework| framework.id.0 == framework_id.as_bytes());
        let mut lists = ours.flat_map(|framework| [&framework.executors, &framework.completed_executors]);
        let is_ours = |executor: &&Executor| executor.id.0 == executor_id.as_bytes();
        lists.find_map(|list| list.iter().rfind(is_ours)).map(|executor| executor.directory.clone())
    }
}

/// The version in an answer of `/version`.
fn version_in(text: &[u8]) -> Option<(u32, u32)> {
    #[derive(Deserialize)]
    struct Version {
        version: String,
    }
    major_minor(&serde_json::from_slice::<Version>(text).ok()?.version)
}

/// The first two numbers of "1.11.0" or "1.5.0-rc1".
fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn recorded(version: &str) -> State {
        let path = format!("{}/tests/fixtures/mesos-{version}/agent/state.json", env!("CARGO_MANIFEST_DIR"));
        State::parse(&std::fs::read(path).unwrap()).unwrap()
    }

    fn directory(json: &str) -> Option<String> {
        let directory = State::parse(json.as_bytes()).unwrap().directory("F", "E")?;
        Some(String::from_utf8(directory.0).unwrap())
    }

    #[test]
    fn sandbox_is_found_in_recorded_states() {
        let old = recorded("1.0.4");
        assert_eq!(old.version(), Some((1, 0)));
        let framework = "07b2913e-f18a-4a7a-ba56-c9d92bdf9114";
        let RawText(found) = old.directory(&format!("{framework}-0000"), "custom-exec").unwrap();
        assert_eq!(
            String::from_utf8(found).unwrap(),
            format!(
                "/var/lib/mesos/slaves/{framework}-S0/frameworks/{framework}-0000/executors/custom-exec/runs/\
                 76797e3e-1237-46d0-ae28-c57bc732016c"
            )
        );
        assert_eq!(old.directory("elsewhere-0000", "custom-exec"), None);
        let new = recorded("1.11.0");
        assert_eq!(new.version(), Some((1, 11)));
        let RawText(found) = new.directory("adc95965-7ac2-4ba1-8f05-cd604f08a224-0000", "argv").unwrap();
        assert!(found.ends_with(b"/runs/21fea7cf-1b6b-438e-8dc1-655f74569c9e"));
    }

    #[test]
    fn running_executor_is_preferred_and_of_several_the_last() {
        let running = r#"{"frameworks":[{"id":"F","executors":[{"id":"E","directory":"/now"}],
            "completed_executors":[{"id":"E","directory":"/then"}]}]}"#;
        assert_eq!(directory(running).as_deref(), Some("/now"));
        let ended = r#"{"frameworks":[{"id":"other","executors":[{"id":"E","directory":"/not"}]}],
            "completed_frameworks":[{"id":"F","completed_executors":[{"id":"E","directory":"/first"},
            {"id":"X","directory":"/not"},{"id":"E","directory":"/last"}]}]}"#;
        assert_eq!(directory(ended).as_deref(), Some("/last"));
        let listed_twice = r#"{"frameworks":[{"id":"F"}],
            "completed_frameworks":[{"id":"F","executors":[{"id":"E","directory":"/there"}]}]}"#;
        assert_eq!(directory(listed_twice).as_deref(), Some("/there"));
        assert_eq!(directory("{}"), None);
    }

    #[test]
    fn state_with_bytes_that_are_not_utf_8_is_read() {
        let text = b"{\"flags\":{\"x\":\"\xff\"},\"frameworks\":[{\"id\":\"F\",\"name\":\"\xfe\",\"executors\":[\
                     {\"id\":\"E\",\"source\":\"\\ud800\",\"directory\":\"\\/w\xff\"}]}]}";
        let state = State::parse(text).unwrap();
        assert_eq!(state.directory("F", "E"), Some(RawText(b"/w\xff".to_vec())));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(version_in(br#"{"build_user":"x","version":"1.11.0"}"#), Some((1, 11)));
        assert_eq!(major_minor("1.5.0-rc1"), Some((1, 5)));
        assert_eq!(major_minor("0.28.2"), Some((0, 28)));
        for text in ["", "x", "1", "1."] {
            assert_eq!(major_minor(text), None, "{text:?}");
        }
        assert!((1, 11) > FIRST_WITH_VIRTUAL_PATHS && (1, 4) < FIRST_WITH_VIRTUAL_PATHS);
    }
}
