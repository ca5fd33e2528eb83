//! What `--format=json` told, apart from what the task wrote to stderr.

use serde_json::Value;

/// The events of one launch, in their order, and the bytes between them.
pub(crate) struct Transcript {
    events: Vec<Value>,
    /// The task's stderr.
    pub(crate) stderr: Vec<u8>,
}

/// Events whose moment depends on how quick the machine is, so that they are no part of a path.
const OF_THE_MOMENT: [&str; 4] = ["waiting", "pulling", "output_started", "notice"];

impl Transcript {
    /// Takes the launcher's stderr apart.
    pub(crate) fn of(stderr: &[u8]) -> Self {
        let (mut events, mut rest) = (Vec::new(), Vec::new());
        for line in stderr.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice::<Value>(line) {
                Ok(event) if line.starts_with(b"{\"seq\":") => events.push(event),
                _ => rest.extend_from_slice(line),
            }
        }
        Self { events, stderr: rest }
    }

    /// One word for each event that has to come, states by their names: `subscribed`, `TASK_RUNNING`, `end exited`.
    pub(crate) fn path(&self) -> Vec<String> {
        let word = |event: &Value| {
            let name = event["event"].as_str().unwrap_or_default();
            match name {
                "status" => Some(event["state"].as_str().unwrap_or_default().to_owned()),
                "end" => Some(format!("end {}", event["kind"].as_str().unwrap_or_default())),
                _ if OF_THE_MOMENT.contains(&name) => None,
                _ => Some(name.to_owned()),
            }
        };
        self.events.iter().filter_map(word).collect()
    }

    /// The first value of this field in an event of this name.
    pub(crate) fn field<'a>(&'a self, event: &str, field: &str) -> &'a Value {
        let values = self.events.iter().filter(|found| found["event"] == event).map(|found| &found[field]);
        values.into_iter().find(|value| !value.is_null()).unwrap_or(&Value::Null)
    }

    /// How many events have this name.
    pub(crate) fn count(&self, event: &str) -> usize {
        self.events.iter().filter(|found| found["event"] == event).count()
    }

    /// Why it ended so.
    pub(crate) fn message(&self) -> &str {
        self.field("end", "message").as_str().unwrap_or_default()
    }

    /// The engine's id of the task's container, if it ever had one.
    pub(crate) fn container(&self) -> Option<&str> {
        self.field("status", "record")["container"].as_str()
    }
}
