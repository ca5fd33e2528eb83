//! What our executor and our launcher tell each other beside Mesos' own messages, as versioned JSON.

use serde::{Deserialize, Serialize};

use crate::mesos::TaskInfo;

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
    /// What a want of memory did to it or to a process of it, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
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
    /// Bytes of the task's output that the sandbox does not have; absent when that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_bytes: Option<u64>,
    /// Bytes of standard input that the container was given; absent when it was to have none, or that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_bytes: Option<u64>,
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

/// What our executor says to the framework of its task while it runs, as the data of an executor's MESSAGE:
/// `{"version":1,"task_id":"web","news":"output_again"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorMessage {
    /// Always 1; a reader ignores messages of a version it does not know.
    pub version: u32,
    /// Whose news.
    pub task_id: String,
    /// What happened.
    pub news: ExecutorNews,
}

/// What an [`ExecutorMessage`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutorNews {
    /// The task was silent for a second or longer, and its sandbox has more output now: who follows it should look. Sent
    /// once a second at most, and never again when it gets lost: looking from time to time finds the output, too.
    OutputAgain,
    /// The task was sent the signal that a [`LauncherMessage`] asked for.
    Signaled(i32),
    /// How far standard input is: the answer to every [`LauncherOrder::Stdin`], and told again when there is room for more.
    Stdin(StdinProgress),
}

/// How far the standard input of a task is, as its executor knows it. Offsets count its bytes from the first, and its end as
/// one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdinProgress {
    /// All before this offset has come.
    pub received: u64,
    /// No byte from this offset on is taken yet.
    pub limit: u64,
    /// Whether it goes on.
    pub state: StdinState,
}

/// Whether a task's standard input goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdinState {
    /// It does.
    Open,
    /// The container has all of it, and its end.
    Complete,
    /// The container takes no more of it.
    Closed,
    /// Nobody knows what the container was given: the executor that knew is gone, and its end was the end of the input.
    Lost,
}

impl ExecutorMessage {
    /// The only version so far.
    pub const VERSION: u32 = 1;

    /// These news of this task.
    pub fn new(task_id: String, news: ExecutorNews) -> Self {
        Self { version: Self::VERSION, task_id, news }
    }

    /// JSON, as it goes into the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain fields always serialize")
    }

    /// Reads a message of an executor; `None` for what is not ours: other executors say what they like.
    pub fn parse(data: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(data).ok().filter(|message| message.version == Self::VERSION)
    }
}

/// What our launcher asks of the executor of its task while it runs, as the data of a framework's MESSAGE:
/// `{"version":1,"task_id":"web","order":{"signal":10}}`. Mesos' own executors take no notice of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LauncherMessage {
    /// Always 1; a reader ignores messages of a version it does not know.
    pub version: u32,
    /// Whose executor is meant.
    pub task_id: String,
    /// What to do.
    pub order: LauncherOrder,
    /// What [`LauncherOrder::Stdin`] carries; travels as it is, behind the JSON and a line feed.
    #[serde(skip)]
    pub payload: Vec<u8>,
}

/// What a [`LauncherMessage`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LauncherOrder {
    /// Send the task this signal, by its number; once. Answered by [`ExecutorNews::Signaled`].
    Signal(i32),
    /// A part of the task's standard input, or a question when it is empty. Answered by [`ExecutorNews::Stdin`].
    Stdin {
        /// Of the payload's first byte.
        offset: u64,
        /// Whether the input ends behind the payload.
        is_last: bool,
    },
}

impl LauncherMessage {
    /// The only version so far.
    pub const VERSION: u32 = 1;

    /// This order for this task, without a payload.
    pub fn new(task_id: String, order: LauncherOrder) -> Self {
        Self { version: Self::VERSION, task_id, order, payload: Vec::new() }
    }

    /// JSON, and the payload, as it goes into the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut data = serde_json::to_vec(self).expect("plain fields always serialize");
        if !self.payload.is_empty() {
            data.reserve_exact(self.payload.len() + 1);
            data.push(b'\n');
            data.extend_from_slice(&self.payload);
        }
        data
    }

    /// Reads a message of a framework; `None` for what is not ours.
    pub fn parse(data: &[u8]) -> Option<Self> {
        // JSON of ours has no line feed.
        let end = data.iter().position(|byte| *byte == b'\n');
        let (json, payload) = data.split_at(end.unwrap_or(data.len()));
        let message = serde_json::from_slice::<Self>(json).ok().filter(|message| message.version == Self::VERSION)?;
        Some(Self { payload: payload.get(1..).unwrap_or_default().to_vec(), ..message })
    }
}

/// The label of a task whose container gets its standard input from the launcher; any value.
pub const STDIN_LABEL: &str = "launch-container.stdin";

/// Whether the task's container gets its standard input from the launcher.
pub fn wants_stdin(task: &TaskInfo) -> bool {
    task.labels.iter().flat_map(|labels| &labels.labels).any(|label| label.key == STDIN_LABEL)
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_went() {
        let record = TaskRecord {
            version: TaskRecord::VERSION,
            exit_code: Some(137),
            signal: Some(9),
            oom_killed: true,
            memory: Some("killed".into()),
            image_id: Some("sha256:abc".into()),
            container: Some("f00".into()),
            started_at: Some(1.25),
            finished_at: Some(2.5),
            error: Some("killed".into()),
            stdout_bytes: Some(u64::MAX),
            stderr_bytes: Some(0),
            lost_bytes: Some(3),
            stdin_bytes: Some(9),
        };
        assert_eq!(TaskRecord::parse(&record.to_bytes()), Some(record));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let record = TaskRecord { version: TaskRecord::VERSION, exit_code: Some(0), ..Default::default() };
        assert_eq!(record.to_bytes(), br#"{"version":1,"exit_code":0,"oom_killed":false}"#);
    }

    #[test]
    fn a_field_of_a_later_version_is_skipped() {
        let record = TaskRecord::parse(br#"{"version":1,"exit_code":3,"more":{}}"#).unwrap();
        assert_eq!(record.exit_code, Some(3));
    }

    #[test]
    fn the_data_of_others_is_no_record() {
        for data in
            [&b""[..], b"\xff", b"[]", b"{\"version\":2}", b"[{\"Id\":\"f00\",\"State\":{}}]", b"{\"exit_code\":1}"]
        {
            assert_eq!(TaskRecord::parse(data), None);
        }
    }

    #[test]
    fn news_come_back_as_they_went_and_what_others_say_is_none() {
        let message = ExecutorMessage::new("web".to_owned(), ExecutorNews::OutputAgain);
        assert_eq!(message.to_bytes(), br#"{"version":1,"task_id":"web","news":"output_again"}"#);
        assert_eq!(ExecutorMessage::parse(&message.to_bytes()), Some(message));
        for data in [
            &b""[..],
            b"\xff\0",
            b"{}",
            br#"{"version":2,"task_id":"web","news":"output_again"}"#,
            br#"{"version":1,"task_id":"web","news":"something_new"}"#,
            br#"{"version":1,"news":"output_again"}"#,
        ] {
            assert_eq!(ExecutorMessage::parse(data), None);
        }
    }

    #[test]
    fn orders_come_back_as_they_went_and_what_others_say_is_none() {
        let message = LauncherMessage::new("web".to_owned(), LauncherOrder::Signal(10));
        assert_eq!(message.to_bytes(), br#"{"version":1,"task_id":"web","order":{"signal":10}}"#);
        assert_eq!(LauncherMessage::parse(&message.to_bytes()), Some(message));
        for data in [
            &b""[..],
            b"\xff\0",
            br#"{"version":2,"task_id":"web","order":{"signal":10}}"#,
            br#"{"version":1,"task_id":"web","order":"dance"}"#,
        ] {
            assert_eq!(LauncherMessage::parse(data), None);
        }
        let answer = ExecutorMessage::new("web".to_owned(), ExecutorNews::Signaled(10));
        assert_eq!(answer.to_bytes(), br#"{"version":1,"task_id":"web","news":{"signaled":10}}"#);
        assert_eq!(ExecutorMessage::parse(&answer.to_bytes()), Some(answer));
    }

    #[test]
    fn input_travels_as_it_is() {
        let order = LauncherOrder::Stdin { offset: 7, is_last: true };
        let empty = LauncherMessage::new("web".to_owned(), order);
        assert_eq!(empty.to_bytes(), br#"{"version":1,"task_id":"web","order":{"stdin":{"offset":7,"is_last":true}}}"#);
        for payload in [&b""[..], b"\n", b"a\nb\n", b"\0\xff\n{}"] {
            let message = LauncherMessage { payload: payload.to_vec(), ..empty.clone() };
            assert_eq!(LauncherMessage::parse(&message.to_bytes()), Some(message));
        }
        let progress = StdinProgress { received: 5, limit: 9, state: StdinState::Open };
        let answer = ExecutorMessage::new("web".to_owned(), ExecutorNews::Stdin(progress));
        let json = br#"{"version":1,"task_id":"web","news":{"stdin":{"received":5,"limit":9,"state":"open"}}}"#;
        assert_eq!(answer.to_bytes(), json);
        assert_eq!(ExecutorMessage::parse(json), Some(answer));
    }

    #[test]
    fn pull_progress_comes_back_as_it_went() {
        let progress = PullProgress {
            image: "nginx".into(),
            layers_done: 1,
            layers_total: 5,
            bytes_done: 10,
            bytes_total: 1 << 40,
        };
        let json = serde_json::to_vec(&progress).unwrap();
        assert_eq!(serde_json::from_slice::<PullProgress>(&json).unwrap(), progress);
    }
}
