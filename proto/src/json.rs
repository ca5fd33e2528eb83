//! Any message in Mesos' JSON spelling: field names as in the `.proto` files, enums by name, bytes in base64, numbers of
//! 64 bits as numbers. What is not set is left out; what is not known is skipped.

use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::descriptors;

/// The JSON of a message; `full_name` is that of `M`, such as `mesos.scheduler.Event`.
///
/// # Errors
/// When `full_name` names no message, or not the one that `message` is.
pub fn to_value<M: Message>(full_name: &str, message: &M) -> Result<Value, JsonError> {
    let dynamic = DynamicMessage::decode(descriptor(full_name)?, message.encode_to_vec().as_slice())
        .map_err(|source| JsonError::OtherMessage { full_name: full_name.to_owned(), source })?;
    let options = SerializeOptions::new().stringify_64_bit_integers(false).use_proto_field_name(true);
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|source| JsonError::Write { full_name: full_name.to_owned(), source })
}

/// Reads a message from JSON; `full_name` is that of `M`. Fields and enum names that are not known are skipped.
///
/// # Errors
/// When the text is no JSON, or a value does not fit its field.
pub fn from_slice<M: Message + Default>(full_name: &str, json: &[u8]) -> Result<M, JsonError> {
    read(full_name, json, &DeserializeOptions::new().deny_unknown_fields(false))
}

/// As [`from_slice`], for what a person wrote: a field or enum name that is not known is an error.
///
/// # Errors
/// As those of [`from_slice`].
pub fn from_slice_strict<M: Message + Default>(full_name: &str, json: &[u8]) -> Result<M, JsonError> {
    read(full_name, json, &DeserializeOptions::new())
}

fn read<M: Message + Default>(full_name: &str, json: &[u8], options: &DeserializeOptions) -> Result<M, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    DynamicMessage::deserialize_with_options(descriptor(full_name)?, &mut deserializer, options)
        .and_then(|message| deserializer.end().map(|()| message))
        .map_err(|source| JsonError::Read { full_name: full_name.to_owned(), source })?
        .transcode_to()
        .map_err(|source| JsonError::OtherMessage { full_name: full_name.to_owned(), source })
}

/// Why there is no JSON, or no message in it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what the fields are")]
pub enum JsonError {
    /// Not one of our `.proto` files.
    #[error("there is no message named {full_name}")]
    UnknownMessage { full_name: String },
    /// The type and the name do not belong together.
    #[error("the message is not {full_name}")]
    OtherMessage { full_name: String, source: prost::DecodeError },
    /// Broken JSON, or not that of this message.
    #[error("cannot read {full_name} from JSON")]
    Read { full_name: String, source: serde_json::Error },
    /// The message has what JSON cannot say.
    #[error("cannot write {full_name} as JSON")]
    Write { full_name: String, source: serde_json::Error },
}

fn descriptor(full_name: &str) -> Result<MessageDescriptor, JsonError> {
    descriptors::message(full_name).ok_or_else(|| JsonError::UnknownMessage { full_name: full_name.to_owned() })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::error::Error as _;

    use serde_json::json;

    use super::*;
    use crate::mesos;

    const STATUS: &str = "mesos.TaskStatus";
    const STATISTICS: &str = "mesos.ResourceStatistics";

    fn status() -> mesos::TaskStatus {
        mesos::TaskStatus {
            task_id: mesos::TaskId { value: "t".into() },
            state: mesos::TaskState::TaskStarting as i32,
            uuid: Some(vec![0xff, 0, 1]),
            healthy: Some(false),
            ..Default::default()
        }
    }

    #[test]
    fn a_message_is_spelled_as_mesos_spells_it() {
        let json = json!({"task_id": {"value": "t"}, "state": "TASK_STARTING", "uuid": "/wAB", "healthy": false});
        assert_eq!(to_value(STATUS, &status()).unwrap(), json);
        assert_eq!(from_slice::<mesos::TaskStatus>(STATUS, json.to_string().as_bytes()).unwrap(), status());
    }

    #[test]
    fn numbers_of_64_bits_are_numbers_and_are_read_from_text_as_well() {
        let statistics =
            mesos::ResourceStatistics { timestamp: 1.5, mem_rss_bytes: Some(u64::MAX), ..Default::default() };
        let json = json!({"timestamp": 1.5, "mem_rss_bytes": u64::MAX});
        assert_eq!(to_value(STATISTICS, &statistics).unwrap(), json);
        for json in [json, json!({"timestamp": 1.5, "mem_rss_bytes": "18446744073709551615"})] {
            let read: mesos::ResourceStatistics = from_slice(STATISTICS, json.to_string().as_bytes()).unwrap();
            assert_eq!(read, statistics);
        }
    }

    #[test]
    fn what_a_later_mesos_adds_is_skipped() {
        let json = br#"{"task_id": {"value": "t", "new": [1]}, "state": "TASK_STARTING", "uuid": "/wAB",
                        "healthy": false, "reason": "REASON_OF_TOMORROW", "more": {}}"#;
        assert_eq!(from_slice::<mesos::TaskStatus>(STATUS, json).unwrap(), status());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let read = |json: &[u8]| from_slice::<mesos::TaskStatus>(STATUS, json).unwrap_err();
        assert_eq!(read(b"<html>").to_string(), "cannot read mesos.TaskStatus from JSON");
        assert!(read(b"<html>").source().unwrap().to_string().starts_with("expected value"));
        assert!(matches!(read(b"{\"healthy\": \"maybe\"}"), JsonError::Read { .. }));
        assert!(matches!(read(b"{} {}"), JsonError::Read { .. }));
        assert_eq!(
            to_value("mesos.Nothing", &status()).unwrap_err().to_string(),
            "there is no message named mesos.Nothing"
        );
    }
}
