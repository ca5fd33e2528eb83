//! The lines of a journal, and what they say together.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use proto::mesos::{FrameworkInfo, Offer, TaskState, TaskStatus};
use proto::record::TaskRecord;
use serde::{Deserialize, Serialize};

use super::{JournalError, RunId};
use crate::exit::Outcome;
use crate::scheduler::Record;

/// Of the format. A journal with another one is not touched.
pub const VERSION: u32 = 1;

/// One line: when, and what.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// Milliseconds since 1970.
    at: u64,
    #[serde(flatten)]
    entry: Entry,
}

/// What a line says; `record` in the line tells which it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    /// What only the shell around the scheduler knows.
    Shell(Note),
    /// The scheduler's.
    Scheduler(Record),
}

/// What the shell notes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Note {
    /// The first line.
    Begin(Box<Begin>),
    /// A launcher owns the run: the first one, or another.
    Owned {
        /// Its process.
        pid: u32,
        /// Its machine.
        host: String,
    },
    /// The owner left the task running.
    Left,
    /// All output was read and written, or what is missing is lost; the sandbox is not needed any more.
    Delivered {
        /// Bytes of the sandbox's stdout.
        stdout: u64,
        /// Bytes of the sandbox's stderr.
        stderr: u64,
    },
}

/// What a run was begun with, as far as whoever continues it needs it. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// [`VERSION`]
    pub version: u32,
    /// The run; also the id of its task.
    pub run: RunId,
    /// `--name`
    pub name: String,
    /// As given.
    pub image: String,
    /// `--master` without user and password.
    pub master: String,
    /// Whether there were a user and a password, so that `master` is not enough.
    pub has_credentials: bool,
    /// FrameworkInfo without an id, as base64 of its protobuf encoding.
    pub framework: String,
    /// SHA-256 of what the task is, in hexadecimal digits: the same id with another task is a mistake.
    pub digest: String,
    /// `--kill-grace`
    pub kill_grace_ms: u64,
    /// `--timeout`
    pub run_timeout_ms: Option<u64>,
    /// `--constraint`, as written; none in journals of earlier launchers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<String>,
    /// `--prefer`, as written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferences: Vec<String>,
    /// `--revocable`
    #[serde(default)]
    pub takes_revocable: bool,
}

impl Begin {
    /// For the field `framework`.
    pub fn encode_framework(framework: &FrameworkInfo) -> String {
        STANDARD.encode(framework.encode_to_vec())
    }

    /// From the field `framework`.
    pub fn decode_framework(&self) -> Option<FrameworkInfo> {
        FrameworkInfo::decode(&*STANDARD.decode(&self.framework).ok()?).ok()
    }
}

/// What a journal says.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// The first line.
    pub begin: Begin,
    /// When that was, since 1970.
    pub begun_at: Duration,
    /// The scheduler's records, with their times since 1970.
    pub records: Vec<(Duration, Record)>,
    /// Bytes of stdout and stderr that were delivered.
    pub offsets: [u64; 2],
    /// Whether all output is delivered.
    pub is_delivered: bool,
}

impl Past {
    /// Nothing but a beginning.
    pub fn new(begin: Begin) -> Self {
        Self { begin, begun_at: now(), records: Vec::new(), offsets: [0, 0], is_delivered: false }
    }

    /// The records with their ages, as `Scheduler::restore` takes them.
    pub fn aged_records(&self) -> Vec<(Duration, Record)> {
        let now = now();
        self.records.iter().map(|(at, record)| (now.saturating_sub(*at), record.clone())).collect()
    }

    /// How the task ended, and when.
    pub fn end(&self) -> Option<(Duration, &Outcome)> {
        self.records.iter().rev().find_map(|(at, record)| match record {
            Record::Over { outcome, .. } => Some((*at, outcome)),
            _ => None,
        })
    }

    /// Whether nothing is left to do.
    pub fn is_closed(&self) -> bool {
        self.end().is_some() && self.is_delivered && self.framework_id().is_none()
    }

    /// The framework, if the master still knows it.
    pub fn framework_id(&self) -> Option<&str> {
        self.records.iter().rev().find_map(|(_, record)| match record {
            Record::Subscribed { framework_id, .. } => Some(Some(framework_id.as_str())),
            Record::TornDown => Some(None),
            _ => None,
        })?
    }

    /// The last launch: the task's id on the wire, and the offer.
    pub fn placement(&self) -> Option<(&str, &Offer)> {
        self.records.iter().rev().find_map(|(_, record)| match record {
            Record::Launching { wire_id, offer, .. } => Some((wire_id.as_str(), &**offer)),
            _ => None,
        })
    }

    /// Whether the last launch was given up, or there was none.
    pub fn is_waiting(&self) -> bool {
        let last = self.records.iter().rev().find_map(|(_, record)| match record {
            Record::Launching { .. } => Some(false),
            Record::GivenUp { .. } | Record::TornDown => Some(true),
            _ => None,
        });
        last.unwrap_or(true)
    }

    /// The newest status update of the last launch.
    pub fn status(&self) -> Option<&TaskStatus> {
        let (wire_id, _) = self.placement()?;
        self.statuses().rfind(|status| status.task_id.value == wire_id)
    }

    /// When the task was first seen to run.
    pub fn running_since(&self) -> Option<Duration> {
        self.records.iter().find_map(|(at, record)| match record {
            Record::Status { status } if status.state() == TaskState::TaskRunning => Some(*at),
            _ => None,
        })
    }

    /// The record of our own executor, from the last update that has one.
    pub fn task_record(&self) -> Option<TaskRecord> {
        self.statuses().rev().find_map(|status| TaskRecord::parse(status.data.as_deref()?))
    }

    fn statuses(&self) -> impl DoubleEndedIterator<Item = &TaskStatus> {
        self.records.iter().filter_map(|(_, record)| match record {
            Record::Status { status } => Some(&**status),
            _ => None,
        })
    }
}

/// The line for an entry of this moment.
pub(super) fn line(entry: Entry) -> Vec<u8> {
    let at = now().as_millis().try_into().unwrap_or(u64::MAX);
    let mut line = serde_json::to_vec(&Line { at, entry }).expect("maps with string keys and plain values");
    line.push(b'\n');
    line
}

/// What the bytes of a journal say, and how many of them count: a line that was not written to its end does not. `None`: not
/// even the beginning is there.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<(Option<Past>, u64), JournalError> {
    let damaged = |number: usize, why: String| JournalError::Damaged {
        path: path.to_owned(),
        why: format!("line {}: {why}", number + 1),
    };
    let mut past: Option<Past> = None;
    let mut length = 0;
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let is_last = length + line.len() == bytes.len();
        if !line.ends_with(b"\n") {
            break;
        }
        let Line { at, entry } = match serde_json::from_slice(line) {
            Ok(line) => line,
            // After a crash of the machine, blocks of it may be missing.
            Err(_) if is_last => break,
            Err(error) => return Err(damaged(number, version_of(line).unwrap_or_else(|| error.to_string()))),
        };
        let at = Duration::from_millis(at);
        match (&mut past, entry) {
            (None, Entry::Shell(Note::Begin(begin))) if begin.version == VERSION => {
                past = Some(Past { begun_at: at, ..Past::new(*begin) });
            }
            (None, Entry::Shell(Note::Begin(begin))) => return Err(damaged(number, other_version(begin.version))),
            (None, _) => return Err(damaged(number, "it is not the beginning of a run".to_owned())),
            (Some(_), Entry::Shell(Note::Begin(_))) => return Err(damaged(number, "it begins twice".to_owned())),
            (Some(past), Entry::Shell(Note::Delivered { stdout, stderr })) => {
                past.offsets = [stdout, stderr];
                past.is_delivered = true;
            }
            (Some(_), Entry::Shell(Note::Owned { .. } | Note::Left)) => {}
            (Some(past), Entry::Scheduler(record)) => past.records.push((at, record)),
        }
        length += line.len();
    }
    Ok((past, length as u64))
}

/// Another version's beginning may not even be readable.
fn version_of(line: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let version = value.get("version")?.as_u64()?;
    (version != u64::from(VERSION)).then(|| other_version(version.try_into().unwrap_or(u32::MAX)))
}

fn other_version(version: u32) -> String {
    format!(
        "it is of format version {version}, and this launcher knows version {VERSION}: use the launcher that wrote it"
    )
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
