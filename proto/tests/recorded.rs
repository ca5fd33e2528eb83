//! What real Mesos 1.0.4 and 1.11.0 wrote is read in full and written in the same way.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use prost::{Message, Name};
use proto::scheduler::Event;
use proto::{ecp, framing, json, recordio};
use serde_json::Value;

const EVENT: &str = "mesos.scheduler.Event";

fn fixture(path: &str) -> Vec<u8> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures")).join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn records(path: &str) -> Vec<bytes::Bytes> {
    let mut decoder = recordio::Decoder::new(1 << 20);
    decoder.push(&fixture(path));
    let records = std::iter::from_fn(|| decoder.next_record().unwrap()).collect();
    decoder.finish().unwrap();
    records
}

/// The two recordings of a version are of two runs of the same tasks, so they are compared task by task and without
/// the ids and times of a run.
#[test]
fn both_spellings_of_a_stream_have_the_same_events() {
    for (version, count) in [("1.0.4", 29), ("1.11.0", 11)] {
        let protobuf = records(&format!("mesos-{version}/scheduler/events.protobuf.recordio"));
        let json = records(&format!("mesos-{version}/scheduler/events.json.recordio"));
        let protobuf = protobuf.into_iter().map(|record| Event::decode(record).unwrap()).collect::<Vec<_>>();
        let json = json.iter().map(|record| json::from_slice(EVENT, record).unwrap()).collect::<Vec<_>>();
        assert_eq!((protobuf.len(), json.len()), (count, count));
        assert_eq!(comparable(protobuf), comparable(json), "{version}");
    }
}

fn comparable(events: Vec<Event>) -> Vec<String> {
    let framework_id = events[0].subscribed.as_ref().unwrap().framework_id.value.clone();
    let run = framework_id.strip_suffix("-0000").unwrap();
    let mut texts = Vec::new();
    for (index, mut event) in events.into_iter().enumerate() {
        // What is offered later depends on which tasks still run.
        if index > 3 && event.offers.is_some() {
            continue;
        }
        let mut task = String::new();
        if let Some(update) = &mut event.update {
            task.clone_from(&update.status.task_id.value);
            assert!(update.status.timestamp.take().is_some());
            assert_eq!(update.status.uuid.take().map(|uuid| uuid.len()), Some(16));
            if let Some(status) = &mut update.status.container_status {
                status.container_id = None;
                // JSON of 1.11 shows the default where protobuf leaves it out.
                let addresses = status.network_infos.iter_mut().flat_map(|network| &mut network.ip_addresses);
                addresses.for_each(|address| address.protocol = Some(address.protocol() as i32));
            }
        }
        if let Some(master) = event.subscribed.as_mut().and_then(|subscribed| subscribed.master_info.as_mut()) {
            // The v1 JSON of 1.11 has no name for the third one and leaves its type out.
            master.capabilities.truncate(2);
        }
        let text = json::to_value(EVENT, &event).unwrap().to_string().replace(run, "RUN");
        texts.push((task, text));
    }
    texts.sort_by(|(a, _), (b, _)| a.cmp(b));
    texts.into_iter().map(|(_, text)| text).collect()
}

#[test]
fn an_event_is_written_in_the_json_that_mesos_writes() {
    for version in ["1.0.4", "1.11.0"] {
        for record in records(&format!("mesos-{version}/scheduler/events.json.recordio")) {
            let recorded: Value = serde_json::from_slice(&record).unwrap();
            let event: Event = json::from_slice(EVENT, &record).unwrap();
            assert_eq!(json::to_value(EVENT, &event).unwrap(), recorded);
        }
    }
}

#[test]
fn what_a_slave_asks_of_its_containerizer_is_read_to_the_last_byte() {
    for launch in ["argv", "custom", "entrypoint", "full", "noimage", "plain"] {
        check::<ecp::Launch>(&format!("launch-{launch}"));
    }
    check::<ecp::Update>("update");
    check::<ecp::Usage>("usage");
    check::<ecp::Wait>("wait");
}

/// Reads a recorded frame and compares it with the recorded text of the message.
fn check<M: Message + Name + Default>(name: &str) {
    let frame = fixture(&format!("mesos-1.0.4/ecp/{name}.bin"));
    let message: M = framing::read(&mut frame.as_slice()).unwrap();

    let mut written = Vec::new();
    framing::write(&mut written, &message).unwrap();
    assert_eq!(written, frame, "{name}: a field got lost or changed");

    let text = String::from_utf8(fixture(&format!("mesos-1.0.4/ecp/{name}.txt"))).unwrap();
    let mut leaves = Vec::new();
    leaves_of_json(&json::to_value(&M::full_name(), &message).unwrap(), "", &mut leaves);
    // JSON goes by name and text by number; the order matters within a repeated field only.
    let mut expected = leaves_of_text(&text);
    leaves.sort_by(|a, b| a.0.cmp(&b.0));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(leaves, expected, "{name}");
}

/// The paths and values of a message in protobuf's text form, in today's names.
fn leaves_of_text(text: &str) -> Vec<(String, String)> {
    let mut path = Vec::new();
    let mut leaves = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_suffix(" {") {
            path.push(name.replace("slave_", "agent_"));
        } else if line == "}" {
            path.pop();
        } else {
            let (name, value) = line.split_once(": ").unwrap();
            path.push(name.replace("slave_", "agent_"));
            leaves.push((path.join("."), unescaped(value.trim_matches('"'))));
            path.pop();
        }
    }
    leaves
}

/// Without backslashes: before a character as it is, or before three octal digits of a byte.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let byte;
        (byte, rest) = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b, c, after @ ..]) => ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after),
            (b'\\', [character, after @ ..]) => (*character, after),
            _ => (first, after),
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).unwrap()
}

fn leaves_of_json(value: &Value, path: &str, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves_of_json(value, &path, leaves);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| leaves_of_json(value, path, leaves)),
        Value::String(text) => leaves.push((path.to_owned(), text.clone())),
        Value::Number(number) => leaves.push((path.to_owned(), number.as_f64().unwrap().to_string())),
        Value::Bool(_) | Value::Null => leaves.push((path.to_owned(), value.to_string())),
    }
}
