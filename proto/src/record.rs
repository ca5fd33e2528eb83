//! What our executor and our launcher tell each other beside Mesos' own messages, as versioned JSON.

use serde::{Deserialize, Serialize};

/// How a task ended, carried in `TaskStatus.data` of its terminal update.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Always 1; a reader ignores records of a version it does not know.
    pub version: u32,
    /// The container's exit code as the engine reports it (128+n for a signal).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the container, where that is known for certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the memory limit ended it.
    #[serde(default)]
    pub oom_killed: bool,
    /// The image's digest id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// The engine's id of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<f64>,
    /// Seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<f64>,
    /// Why the container could not be started or its end is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Bytes written to the sandbox's stdout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_bytes: Option<u64>,
    /// Bytes written to the sandbox's stderr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_bytes: Option<u64>,
}

impl TaskRecord {
    /// The only version so far.
    pub const VERSION: u32 = 1;

    /// JSON, as it goes into `TaskStatus.data`.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain fields always serialize")
    }

    /// Reads `TaskStatus.data`; `None` for what is not a record of ours (Mesos' docker executor puts other JSON there).
    pub fn parse(data: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(data).ok().filter(|record| record.version == Self::VERSION)
    }
}

/// The sandbox file that says how far a pull is; replaced whole, removed when the pull is over.
pub const PULL_PROGRESS_FILE: &str = ".pull-progress.json";

/// How far a pull is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    /// As the task named it.
    pub image: String,
    /// Layers complete.
    pub layers_done: u32,
    /// Layers known so far.
    pub layers_total: u32,
    /// Bytes there.
    pub bytes_done: u64,
    /// Bytes known so far.
    pub bytes_total: u64,
}
