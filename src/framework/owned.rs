//! A launch that is a run: owned through its journal, continued from it, and left to others.
//!
//! ```text
//! journal -- records --> Scheduler::restore -- Placed, Status, Ended --> the shell, as if they had just happened
//! scheduler -- Effect::Record --> journal, before the call behind it is sent
//! tail -- offsets --> journal, after the bytes were written
//! ```
//!
//! A launch whose intent cannot be written is not made. When later records cannot be written, the task goes on, and the user
//! hears that nobody else can continue it.

use std::time::Duration;

use proto::mesos::TaskState;

use crate::exit::{self, Outcome};
use crate::journal::{Entry, Journal, JournalError, Note, Past};
use crate::master::chain;
use crate::scheduler::{Config, Effect, Input, Record, Scheduler};
use crate::update::Update;

use super::Shell;

/// A run in the hands of this process.
#[derive(Debug)]
pub struct Owned {
    pub(super) journal: Journal,
    pub(super) past: Past,
    /// Whether the whole task is known, so that it can be launched.
    is_launchable: bool,
    pub(super) purpose: Purpose,
    is_broken: bool,
    /// Why the next ACCEPT must not be sent.
    pub(super) refusal: Option<String>,
}

/// What this process wants of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Its output and its end.
    Follow,
    /// That it runs; then it is left.
    Detach,
    /// Its end only.
    Wait,
    /// That it ends.
    Kill,
}

impl Owned {
    /// The run to begin, or to go on with: its task is known.
    pub fn launchable(journal: Journal, past: Past, purpose: Purpose) -> Self {
        Self { journal, past, is_launchable: true, purpose, is_broken: false, refusal: None }
    }

    /// A run that somebody else has launched: only what the journal says is known.
    pub fn resumed(journal: Journal, past: Past, purpose: Purpose) -> Self {
        Self { is_launchable: false, ..Self::launchable(journal, past, purpose) }
    }

    /// The outcome, if nothing is left to do, and what to say about that.
    pub(super) fn settled(&self) -> Option<(Outcome, String)> {
        let run = self.journal.run();
        let Some((_, outcome)) = self.past.end() else {
            let is_running = self.past.status().is_some_and(|status| status.state() == TaskState::TaskRunning);
            let is_wanted = self.purpose == Purpose::Detach && is_running && !self.past.is_waiting();
            return is_wanted.then(|| (Outcome::Detached, format!("run {run} is running already")));
        };
        let is_done = match self.purpose {
            Purpose::Follow => self.past.is_delivered,
            Purpose::Detach | Purpose::Wait | Purpose::Kill => true,
        };
        let code = exit::code(outcome);
        (is_done && self.past.framework_id().is_none())
            .then(|| (outcome.clone(), format!("run {run} has ended before, with code {code}; nothing is launched")))
    }

    /// Whether the task's output is to be read.
    pub(super) fn wants_output(&self) -> bool {
        self.purpose == Purpose::Follow && !self.past.is_delivered
    }

    /// The scheduler, and what the shell must do before its first input.
    pub(super) fn scheduler(&self, config: Config, task: crate::scheduler::Task) -> (Scheduler, Vec<Effect>) {
        let records = self.past.aged_records();
        let (scheduler, mut effects) =
            Scheduler::restore(config, Duration::ZERO, vec![task], &records, self.is_launchable);
        // A launch that was given up never had output.
        let last = effects.iter().rposition(|effect| matches!(effect, Effect::Placed { .. }));
        let mut index = 0;
        effects.retain(|effect| {
            index += 1;
            !matches!(effect, Effect::Placed { .. }) || Some(index - 1) == last
        });
        (scheduler, effects)
    }

    fn append(&mut self, entry: Entry) -> Result<(), String> {
        if self.is_broken {
            return Ok(());
        }
        self.journal.append(entry).map_err(|error: JournalError| {
            self.is_broken = true;
            chain(&error)
        })
    }
}

impl Shell {
    /// Performs `Effect::Record`.
    pub(super) fn remember(&mut self, record: Record) {
        let Some(owned) = &mut self.owned else { return };
        let is_intent = matches!(record, Record::Launching { .. });
        if owned.is_broken && is_intent {
            owned.refusal = Some("the journal cannot be written".to_owned());
        }
        let Err(text) = owned.append(Entry::Scheduler(record)) else { return };
        if is_intent {
            owned.refusal = Some(text);
        } else {
            self.tell_broken(&text);
        }
    }

    pub(super) fn note(&mut self, note: Note) {
        let Some(owned) = &mut self.owned else { return };
        if let Err(text) = owned.append(Entry::Shell(note)) {
            self.tell_broken(&text);
        }
    }

    fn tell_broken(&mut self, text: &str) {
        self.show(&Update::Notice(format!(
            "{text}; if this launcher ends before the task, no other one can go on with it"
        )));
    }

    /// Whether the task can be left to another launcher.
    pub(super) fn can_be_left(&self) -> bool {
        self.is_placed && self.owned.as_ref().is_some_and(|owned| !owned.is_broken)
    }

    /// Leaves the task to whoever attaches to it.
    pub(super) fn leave(&mut self, outcome: Outcome) {
        self.note(Note::Left);
        self.tail = None;
        self.outcome = Some(outcome);
        if let Some(owned) = &self.owned {
            let text =
                format!("run {0} is left; come back to it with `launch-container attach {0}`", owned.journal.run());
            if owned.purpose != Purpose::Detach {
                self.show(&Update::Notice(text));
            }
        }
        self.input(Input::Leave);
    }
}
