//! One JSON object per event, for programs. `docs/json.md` describes every field; a test compares.
//!
//! Every field of an event is always there, `null` where nothing is known. Fields are only ever added; anything else raises
//! [`SCHEMA`].

use std::collections::BTreeMap;
use std::time::Duration;

use proto::record::TaskRecord;
use serde::Serialize;

use super::Launch;
use crate::exit::{self, Outcome};
use crate::scheduler::Time;
use crate::update::Update;

/// The version of the events, in the first of them.
const SCHEMA: u32 = 1;

/// Text for programs.
pub(super) struct Json {
    launch: Launch,
    sequence: u64,
}

/// What every event has.
#[derive(Serialize)]
struct Envelope<'a> {
    seq: u64,
    time: String,
    elapsed: f64,
    #[serde(flatten)]
    event: Event<'a>,
}

/// The names and fields of the events, as they are written.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Start {
        schema: u32,
        version: &'a str,
        task_id: &'a str,
        name: &'a str,
        image: &'a str,
        master: &'a str,
    },
    Connecting {
        master: &'a str,
    },
    Subscribed {
        master: &'a str,
        framework_id: &'a str,
        is_again: bool,
    },
    Disconnected {
        reason: &'a str,
        retry_in: f64,
    },
    Waiting {
        waiting_for: f64,
        agents_offered: u32,
        reasons: &'a [String],
        hints: &'a [String],
    },
    Launching {
        task_id: &'a str,
        agent_id: &'a str,
        hostname: &'a str,
        attributes: BTreeMap<&'a str, &'a str>,
    },
    Status {
        task_id: &'a str,
        state: &'a str,
        message: Option<&'a str>,
        reason: Option<&'a str>,
        source: Option<&'a str>,
        agent_id: Option<&'a str>,
        healthy: Option<bool>,
        ip_address: Option<&'a str>,
        record: Option<Record<'a>>,
    },
    Pulling {
        layers_done: u32,
        layers_total: u32,
        bytes_done: u64,
        bytes_total: u64,
    },
    OutputStarted {},
    Killing {
        task_id: &'a str,
        why: &'a str,
        grace: f64,
    },
    Relaunching {
        task_id: &'a str,
        why: &'a str,
    },
    OutputLost {
        file: &'a str,
        bytes: Option<u64>,
        why: &'a str,
    },
    Notice {
        text: &'a str,
    },
    End {
        task_id: &'a str,
        kind: &'a str,
        exit_code: Option<u8>,
        signal: Option<u8>,
        launcher_exit_code: u8,
        message: Option<&'a str>,
    },
}

/// What our own executor reports, without the version of its own format.
#[derive(Serialize)]
struct Record<'a> {
    exit_code: Option<i32>,
    signal: Option<i32>,
    oom_killed: bool,
    image_id: Option<&'a str>,
    container: Option<&'a str>,
    started_at: Option<f64>,
    finished_at: Option<f64>,
    error: Option<&'a str>,
    stdout_bytes: Option<u64>,
    stderr_bytes: Option<u64>,
}

impl Json {
    pub(super) fn new(launch: Launch) -> Self {
        Self { launch, sequence: 0 }
    }

    /// The first event.
    pub(super) fn start(&mut self) -> String {
        let launch = self.launch.clone();
        self.write(
            Time::ZERO,
            Event::Start {
                schema: SCHEMA,
                version: env!("CARGO_PKG_VERSION"),
                task_id: &launch.task_id,
                name: &launch.name,
                image: &launch.image,
                master: &launch.master,
            },
        )
    }

    /// The event for `update`, without a line end.
    pub(super) fn line(&mut self, update: &Update, now: Time) -> String {
        self.write(now, event(update))
    }

    fn write(&mut self, now: Time, event: Event<'_>) -> String {
        self.sequence += 1;
        // The wall clock is read once: a jump of it cannot put events out of order.
        let time = humantime::format_rfc3339_millis(self.launch.started_at + now).to_string();
        let envelope = Envelope { seq: self.sequence, time, elapsed: seconds(now), event };
        serde_json::to_string(&envelope).expect("numbers, strings and lists always serialize")
    }
}

fn event(update: &Update) -> Event<'_> {
    match update {
        Update::Connecting { master } => Event::Connecting { master },
        Update::Subscribed { master, framework_id, is_again } => {
            Event::Subscribed { master, framework_id, is_again: *is_again }
        }
        Update::Disconnected { reason, retry_in } => Event::Disconnected { reason, retry_in: seconds(*retry_in) },
        Update::Waiting(waiting) => Event::Waiting {
            waiting_for: seconds(waiting.waiting_for),
            agents_offered: waiting.agents_offered,
            reasons: &waiting.reasons,
            hints: &waiting.hints,
        },
        Update::Launching { task_id, agent_id, hostname, attributes } => {
            let attributes = attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            Event::Launching { task_id, agent_id, hostname, attributes }
        }
        Update::Status(status) => Event::Status {
            task_id: &status.task_id,
            state: status.state.as_str_name(),
            message: status.message.as_deref(),
            reason: status.reason.map(|reason| reason.as_str_name()),
            source: status.source.map(|source| source.as_str_name()),
            agent_id: status.agent_id.as_deref(),
            healthy: status.healthy,
            ip_address: status.ip_address.as_deref(),
            record: status.record.as_ref().map(record),
        },
        Update::Pulling { layers_done, layers_total, bytes_done, bytes_total } => Event::Pulling {
            layers_done: *layers_done,
            layers_total: *layers_total,
            bytes_done: *bytes_done,
            bytes_total: *bytes_total,
        },
        Update::OutputStarted => Event::OutputStarted {},
        Update::Killing { task_id, why, grace } => Event::Killing { task_id, why, grace: seconds(*grace) },
        Update::Relaunching { task_id, why } => Event::Relaunching { task_id, why },
        Update::OutputLost { file, bytes, why } => Event::OutputLost { file, bytes: *bytes, why },
        Update::Notice(text) => Event::Notice { text },
        Update::Ended { task_id, outcome } => end(task_id, outcome),
    }
}

fn end<'a>(task_id: &'a str, outcome: &'a Outcome) -> Event<'a> {
    let (exit_code, signal, message) = match outcome {
        Outcome::Exited(code) => (Some(*code), None, None),
        Outcome::Detached => (None, None, None),
        Outcome::Signaled(signal) | Outcome::Interrupted(signal) => (None, Some(*signal), None),
        Outcome::TimedOut(why) | Outcome::Failed(why) => (None, None, Some(why.as_str())),
    };
    Event::End { task_id, kind: outcome.kind(), exit_code, signal, launcher_exit_code: exit::code(outcome), message }
}

fn record(record: &TaskRecord) -> Record<'_> {
    Record {
        exit_code: record.exit_code,
        signal: record.signal,
        oom_killed: record.oom_killed,
        image_id: record.image_id.as_deref(),
        container: record.container.as_deref(),
        started_at: record.started_at,
        finished_at: record.finished_at,
        error: record.error.as_deref(),
        stdout_bytes: record.stdout_bytes,
        stderr_bytes: record.stderr_bytes,
    }
}

/// Seconds, exact to the millisecond.
fn seconds(duration: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
    let millis = duration.as_millis() as f64;
    millis / 1000.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use proto::mesos::TaskState;
    use serde_json::Value;

    use super::super::story::{self, at};
    use super::*;

    const DOCUMENTATION: &str = include_str!("../../docs/json.md");

    /// One update of every kind: a new one does not compile before it is named here.
    fn samples() -> Vec<Update> {
        let samples = vec![
            story::connecting(),
            story::subscribed(false),
            story::disconnected("no answer"),
            story::waiting(2, 1, &["mem short by 200 MB on 1 agent (best: a7)"]),
            story::launching(),
            story::out_of_memory(),
            story::pulling(),
            Update::OutputStarted,
            story::killing(),
            story::relaunching(),
            story::output_lost(),
            story::notice(),
            story::ended(Outcome::Exited(0)),
        ];
        let kinds = samples.iter().map(|update| match update {
            Update::Connecting { .. } => 0,
            Update::Subscribed { .. } => 1,
            Update::Disconnected { .. } => 2,
            Update::Waiting(_) => 3,
            Update::Launching { .. } => 4,
            Update::Status(_) => 5,
            Update::Pulling { .. } => 6,
            Update::OutputStarted => 7,
            Update::Killing { .. } => 8,
            Update::Relaunching { .. } => 9,
            Update::OutputLost { .. } => 10,
            Update::Notice(_) => 11,
            Update::Ended { .. } => 12,
        });
        assert_eq!(kinds.collect::<BTreeSet<_>>(), (0..13).collect());
        samples
    }

    fn parse(line: &str) -> Value {
        assert!(!line.contains('\n'), "{line}");
        serde_json::from_str(line).unwrap()
    }

    fn end_event(outcome: Outcome) -> Value {
        let mut event = parse(&Json::new(story::launch()).line(&story::ended(outcome), at(1)));
        let fields = event.as_object_mut().unwrap();
        for envelope in ["seq", "time", "elapsed", "event", "task_id"] {
            assert!(fields.remove(envelope).is_some(), "{envelope}");
        }
        event
    }

    fn keys(value: &Value) -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    }

    /// The first column of the table in the section "### `NAME`".
    fn documented_fields(name: &str) -> BTreeSet<String> {
        let section = DOCUMENTATION.split(&format!("### `{name}`\n")).nth(1);
        let section = section.unwrap_or_else(|| panic!("docs/json.md has no section on `{name}`"));
        let section = section.split("\n#").next().unwrap();
        let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        cells.map(str::to_owned).collect()
    }

    #[test]
    fn every_event_and_every_field_is_documented_and_nothing_else() {
        let mut json = Json::new(story::launch());
        let mut lines = vec![json.start()];
        lines.extend(samples().iter().map(|update| json.line(update, at(1))));

        let envelope = documented_fields("every event");
        assert_eq!(envelope, ["seq", "time", "elapsed", "event"].map(str::to_owned).into());
        let mut events = BTreeMap::new();
        for line in &lines {
            let event = parse(line);
            let name = event["event"].as_str().unwrap().to_owned();
            let fields: BTreeSet<String> = keys(&event).difference(&envelope).cloned().collect();
            assert_eq!(fields, documented_fields(&name), "fields of `{name}`");
            if name == "status" {
                assert_eq!(keys(&event["record"]), documented_fields("record"));
            }
            events.insert(name, ());
        }
        let sections = DOCUMENTATION.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
        let documented: BTreeSet<_> = sections.filter(|name| !["every event", "record"].contains(name)).collect();
        assert_eq!(documented, events.keys().map(String::as_str).collect());
    }

    #[test]
    fn the_documented_exit_kinds_are_those_of_the_table() {
        for row in exit::TABLE {
            assert!(DOCUMENTATION.contains(&format!("| `{}` |", row.kind)), "{} is not in docs/json.md", row.kind);
        }
        assert!(DOCUMENTATION.contains(&format!("schema version is {SCHEMA}")));
    }

    #[test]
    fn a_good_launch_is_told_event_by_event() {
        let mut json = Json::new(story::launch());
        let mut lines = vec![json.start()];
        lines.extend(story::good().iter().map(|(now, update)| json.line(update, *now)));
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            lines[0],
            format!(
                r#"{{"seq":1,"time":"2023-11-14T22:13:20.000Z","elapsed":0.0,"event":"start","schema":1,"version":"{version}","task_id":"busybox-0a1b2c3d","name":"busybox","image":"busybox:1.36","master":"m1:5050"}}"#
            )
        );
        assert_eq!(
            lines[3],
            r#"{"seq":4,"time":"2023-11-14T22:13:21.000Z","elapsed":1.0,"event":"launching","task_id":"busybox-0a1b2c3d","agent_id":"s-1","hostname":"a7","attributes":{"rack":"r1"}}"#
        );
        assert_eq!(lines[9], r#"{"seq":10,"time":"2023-11-14T22:13:26.000Z","elapsed":6.0,"event":"output_started"}"#);
        let names: Vec<_> = lines.iter().map(|line| parse(line)["event"].as_str().unwrap().to_owned()).collect();
        assert_eq!(
            names,
            [
                "start",
                "connecting",
                "subscribed",
                "launching",
                "status",
                "pulling",
                "pulling",
                "status",
                "status",
                "output_started",
                "status",
                "end"
            ]
        );
        let numbers: Vec<_> = lines.iter().map(|line| parse(line)["seq"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    }

    #[test]
    fn the_end_event_tells_outcomes_with_the_same_exit_code_apart() {
        let expected =
            |kind: &str, exit_code: Option<u8>, signal: Option<u8>, launcher_exit_code: u8, message: Option<&str>| {
                serde_json::json!({
                    "kind": kind, "exit_code": exit_code, "signal": signal,
                    "launcher_exit_code": launcher_exit_code, "message": message
                })
            };
        assert_eq!(end_event(Outcome::Exited(125)), expected("exited", Some(125), None, 125, None));
        assert_eq!(end_event(Outcome::Failed("no".to_owned())), expected("failed", None, None, 125, Some("no")));
        assert_eq!(end_event(Outcome::Exited(124)), expected("exited", Some(124), None, 124, None));
        assert_eq!(
            end_event(Outcome::TimedOut("late".to_owned())),
            expected("timed_out", None, None, 124, Some("late"))
        );
        assert_eq!(end_event(Outcome::Signaled(2)), expected("signaled", None, Some(2), 130, None));
        assert_eq!(end_event(Outcome::Interrupted(2)), expected("interrupted", None, Some(2), 130, None));
    }

    #[test]
    fn states_reasons_and_sources_have_mesos_names() {
        let event = parse(&Json::new(story::launch()).line(&story::out_of_memory(), at(1)));
        assert_eq!(event["state"], "TASK_FAILED");
        assert_eq!(event["reason"], "REASON_CONTAINER_LIMITATION_MEMORY");
        assert_eq!(event["source"], "SOURCE_EXECUTOR");
        assert_eq!(event["healthy"], Value::Null);
        assert_eq!((&event["record"]["exit_code"], &event["record"]["error"]), (&Value::from(137), &Value::Null));
        let event = parse(&Json::new(story::launch()).line(&story::status(TaskState::TaskRunning, None), at(1)));
        assert_eq!(event["record"], Value::Null);
    }

    #[test]
    fn any_text_of_a_cluster_stays_inside_its_string() {
        let notice = Update::Notice("a \"quoted\"\nline\x1b[31m".to_owned());
        let event = parse(&Json::new(story::launch()).line(&notice, at(1)));
        assert_eq!(event["text"], "a \"quoted\"\nline\x1b[31m");
    }
}
