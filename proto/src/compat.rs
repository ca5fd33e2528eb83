//! Decodes what Mesos' own protobuf library takes without complaint and prost refuses.
//!
//! Over eight years Mesos gave some field numbers a second meaning: field 6 of `CommandInfo` is a message in 0.19 and a
//! bool from 0.20 on. To Mesos a field of the wrong wire type is an unknown one, to prost it spoils the whole message.
//! Likewise strings: Mesos hands on bytes that are not UTF-8, such as a Latin-1 environment variable or what a failing
//! command printed. One such string must not make a launcher deaf to the update that carries it.
//!
//! So: decode; only if that fails, walk the bytes beside the descriptor, drop the fields of the wrong wire type, replace
//! what is not UTF-8, and decode again. A message that is broken in any other way stays an error, the first one.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field};
use prost::{DecodeError, Message, Name};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::descriptors;

/// Decodes one message as tolerantly as Mesos does.
pub fn decode<M: Message + Name + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    M::decode(bytes).or_else(|error| {
        let repaired = descriptors::message(&M::full_name()).and_then(|message| repair(bytes, &message, MAX_DEPTH));
        match repaired {
            Some(repaired) => M::decode(repaired.as_slice()),
            None => Err(error),
        }
    })
}

/// The message without what prost cannot read; `None` if it is not a protobuf message at all.
fn repair(mut input: &[u8], message: &MessageDescriptor, depth: u32) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(input.len());
    while !input.is_empty() {
        let start = input;
        let (number, wire_type) = decode_key(&mut input).ok()?;
        let value = if wire_type == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut input).ok()?).ok()?;
            let (value, rest) = input.split_at_checked(length)?;
            input = rest;
            value
        } else {
            skip_field(wire_type, number, &mut input, DecodeContext::default()).ok()?;
            &[]
        };
        let as_it_was = &start[..start.len() - input.len()];

        let Some(field) = message.get_field(number) else {
            output.extend_from_slice(as_it_was);
            continue;
        };
        if !accepts(&field, wire_type) {
            continue;
        }
        match field.kind() {
            Kind::Message(inner) => {
                let inner = repair(value, &inner, depth.checked_sub(1)?)?;
                put(&mut output, number, &inner);
            }
            Kind::String if std::str::from_utf8(value).is_err() => {
                put(&mut output, number, String::from_utf8_lossy(value).as_bytes());
            }
            _ => output.extend_from_slice(as_it_was),
        }
    }
    Some(output)
}

fn accepts(field: &FieldDescriptor, wire_type: WireType) -> bool {
    let declared = field.kind().wire_type();
    // A repeated number may always come packed.
    declared == wire_type || (field.is_list() && wire_type == WireType::LengthDelimited)
}

fn put(output: &mut Vec<u8>, number: u32, value: &[u8]) {
    encode_key(number, WireType::LengthDelimited, output);
    encode_varint(value.len() as u64, output);
    output.extend_from_slice(value);
}

/// As deep as prost itself goes; `ContainerID.parent` could nest without end.
const MAX_DEPTH: u32 = 100;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{ecp, mesos};

    /// A `CommandInfo` as 0.19 writes it: value, user and a HealthCheck in field 6.
    fn command_of_0_19(value: &str) -> Vec<u8> {
        let health_check = mesos::HealthCheck { delay_seconds: Some(15.0), ..Default::default() };
        let mut bytes = mesos::CommandInfo { value: Some(value.into()), ..Default::default() }.encode_to_vec();
        put(&mut bytes, 6, &health_check.encode_to_vec());
        put(&mut bytes, 5, b"root");
        bytes
    }

    fn launch_of_0_19() -> Vec<u8> {
        let id = |text: &str| mesos::TaskId { value: text.into() }.encode_to_vec();
        let mut executor = Vec::new();
        put(&mut executor, 1, &id("e"));
        put(&mut executor, 7, &command_of_0_19("/usr/libexec/mesos/mesos-executor"));
        let mut task = Vec::new();
        put(&mut task, 1, b"task");
        put(&mut task, 2, &id("t"));
        put(&mut task, 3, &id("a"));
        put(&mut task, 5, &executor);
        put(&mut task, 7, &command_of_0_19("echo hi"));
        let mut launch = Vec::new();
        put(&mut launch, 1, &id("c"));
        put(&mut launch, 2, &task);
        put(&mut launch, 3, &executor);
        put(&mut launch, 4, b"/sandbox");
        launch
    }

    #[test]
    fn launch_of_0_19_with_a_health_check_where_shell_is_now_decodes_without_it() {
        let bytes = launch_of_0_19();
        ecp::Launch::decode(bytes.as_slice()).unwrap_err();

        let launch: ecp::Launch = decode(&bytes).unwrap();
        let task = launch.task_info.unwrap();
        let command = task.command.unwrap();
        assert_eq!(command.value.as_deref(), Some("echo hi"));
        assert_eq!(command.user.as_deref(), Some("root"));
        assert_eq!(command.shell, None);
        let inner = task.executor.unwrap().command.unwrap();
        let outer = launch.executor_info.unwrap().command.unwrap();
        assert_eq!(inner.value.as_deref(), Some("/usr/libexec/mesos/mesos-executor"));
        assert_eq!(inner, outer);
        assert_eq!(launch.directory.as_deref(), Some("/sandbox"));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_and_the_rest_of_the_update_arrives() {
        let mut bytes = mesos::TaskStatus {
            task_id: mesos::TaskId { value: "t".into() },
            state: mesos::TaskState::TaskFailed as i32,
            uuid: Some(vec![0xff; 16]),
            ..Default::default()
        }
        .encode_to_vec();
        put(&mut bytes, 4, b"caf\xe9 closed");

        let status: mesos::TaskStatus = decode(&bytes).unwrap();
        assert_eq!(status.message.as_deref(), Some("caf\u{fffd} closed"));
        assert_eq!(status.state(), mesos::TaskState::TaskFailed);
        assert_eq!(status.uuid, Some(vec![0xff; 16]));
    }

    #[test]
    fn a_message_that_is_cut_off_stays_an_error() {
        let bytes = launch_of_0_19();
        decode::<ecp::Launch>(&bytes[..bytes.len() - 1]).unwrap_err();
    }

    #[test]
    fn nesting_without_end_is_an_error_and_not_an_overflow() {
        let mut bytes = Vec::new();
        for _ in 0..10_000 {
            let inner = std::mem::take(&mut bytes);
            put(&mut bytes, 2, &inner);
        }
        decode::<mesos::ContainerId>(&bytes).unwrap_err();
    }

    #[test]
    fn fields_that_nobody_knows_are_kept_out_of_the_way() {
        let mut bytes = launch_of_0_19();
        put(&mut bytes, 1000, b"\xff\xff");
        encode_key(1001, WireType::Varint, &mut bytes);
        encode_varint(7, &mut bytes);
        assert_eq!(decode::<ecp::Launch>(&bytes).unwrap(), decode(&launch_of_0_19()).unwrap());
    }
}
