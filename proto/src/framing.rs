//! How a slave and its external containerizer frame the messages they pipe to each other.
//!
//! A frame is the length of the message as four bytes in the byte order of the machine, and then the message; a length
//! of 0 is a message of defaults. The slave keeps its end of the pipe open after a frame, so [`read`] takes exactly one
//! and never waits for the end of the input.

use std::io::{self, Read, Write};

use prost::{Message, Name};

use crate::compat;

/// The longest message that is read or written: far above any real one, and small enough to hold in memory.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Reads one frame, and not a byte beyond it.
///
/// # Errors
/// When the input ends early or cannot be read, when the frame claims more than [`MAX_MESSAGE_BYTES`], and when its
/// bytes are no `M`. Memory is taken as bytes arrive, whatever the frame claims.
pub fn read<M: Message + Name + Default>(reader: &mut impl Read) -> Result<M, FramingError> {
    let message = M::NAME;
    let mut prefix = Vec::with_capacity(PREFIX_BYTES);
    reader
        .take(PREFIX_BYTES as u64)
        .read_to_end(&mut prefix)
        .map_err(|source| FramingError::Read { message, source })?;
    let Ok(prefix) = <[u8; PREFIX_BYTES]>::try_from(prefix.as_slice()) else {
        return Err(match prefix.len() {
            0 => FramingError::NoInput { message },
            got => FramingError::ShortLength { message, got },
        });
    };
    let length = u32::from_ne_bytes(prefix) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(FramingError::TooLong { message, length });
    }
    let mut body = Vec::new();
    reader.take(length as u64).read_to_end(&mut body).map_err(|source| FramingError::Read { message, source })?;
    if body.len() < length {
        return Err(FramingError::ShortBody { message, got: body.len(), length });
    }
    compat::decode(&body).map_err(|source| FramingError::Undecodable { message, length, source })
}

/// Writes one frame with a single write, and flushes.
///
/// # Errors
/// When the message is longer than [`MAX_MESSAGE_BYTES`] or the output does not take it.
pub fn write<M: Message + Name>(writer: &mut impl Write, message: &M) -> Result<(), FramingError> {
    let length = message.encoded_len();
    if length > MAX_MESSAGE_BYTES {
        return Err(FramingError::TooLong { message: M::NAME, length });
    }
    let mut frame = Vec::with_capacity(PREFIX_BYTES + length);
    frame.extend_from_slice(&u32::try_from(length).expect("the limit fits into 32 bits").to_ne_bytes());
    message.encode(&mut frame).expect("a Vec grows as needed");
    writer
        .write_all(&frame)
        .and_then(|()| writer.flush())
        .map_err(|source| FramingError::Write { message: M::NAME, source })
}

/// Why a frame could not be read or written; `message` is the name of the message, such as `Launch`.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what the fields are")]
pub enum FramingError {
    /// Nothing at all: whoever started us is not a slave, or has gone.
    #[error("cannot read a {message} message: the input is empty; a Mesos slave writes the message to stdin")]
    NoInput { message: &'static str },
    /// The input ended within the four bytes of the length.
    #[error("cannot read a {message} message: the input ended after {got} of the 4 bytes of its length")]
    ShortLength { message: &'static str, got: usize },
    /// The input ended within the message.
    #[error("cannot read a {message} message: the input ended after {got} of {length} bytes")]
    ShortBody { message: &'static str, got: usize, length: usize },
    /// More than [`MAX_MESSAGE_BYTES`]; as a rule the input is not framed at all.
    #[error(
        "cannot handle a {message} message of {length} bytes: the limit is {MAX_MESSAGE_BYTES}; \
         if it was read, check that the input is a length of 4 bytes and a protobuf message"
    )]
    TooLong { message: &'static str, length: usize },
    /// All bytes are there and they are no such message.
    #[error("cannot decode {length} bytes as a {message} message")]
    Undecodable { message: &'static str, length: usize, source: prost::DecodeError },
    /// The input failed.
    #[error("cannot read a {message} message")]
    Read { message: &'static str, source: io::Error },
    /// The output failed; a broken pipe when the slave has gone.
    #[error("cannot write a {message} message")]
    Write { message: &'static str, source: io::Error },
}

const PREFIX_BYTES: usize = 4;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ecp, mesos};

    fn wait(id: &str) -> ecp::Wait {
        ecp::Wait { container_id: mesos::ContainerId { value: id.into(), parent: None } }
    }

    fn framed(message: &impl Name) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, message).unwrap();
        bytes
    }

    fn reading(bytes: &[u8]) -> String {
        read::<ecp::Wait>(&mut &bytes[..]).unwrap_err().to_string()
    }

    /// Gives one byte at a time and panics when asked for more than there is, as a pipe that stays open would hang.
    struct OpenPipe<'a>(&'a [u8]);

    impl Read for OpenPipe<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (first, rest) = self.0.split_first().expect("no read beyond the frame");
            self.0 = rest;
            buffer[0] = *first;
            Ok(1)
        }
    }

    /// Counts the writes.
    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_frame_is_read_without_a_look_beyond_it() {
        let bytes = framed(&wait("c"));
        assert_eq!(read::<ecp::Wait>(&mut OpenPipe(&bytes)).unwrap(), wait("c"));
    }

    #[test]
    fn an_empty_message_is_a_length_of_zero_and_nothing_more() {
        let bytes = framed(&ecp::Containers::default());
        assert_eq!(bytes, [0; 4]);
        assert_eq!(read::<ecp::Containers>(&mut OpenPipe(&bytes)).unwrap(), ecp::Containers::default());
    }

    #[test]
    fn a_frame_is_one_write() {
        let mut writes = Writes::default();
        write(&mut writes, &wait("c")).unwrap();
        assert_eq!(writes.0, [framed(&wait("c"))]);
    }

    #[test]
    fn no_input_says_where_it_should_come_from() {
        assert_eq!(
            reading(b""),
            "cannot read a Wait message: the input is empty; a Mesos slave writes the message to stdin"
        );
    }

    #[test]
    fn a_length_cut_short_says_how_much_of_it_came() {
        assert_eq!(
            reading(b"\0\0"),
            "cannot read a Wait message: the input ended after 2 of the 4 bytes of its length"
        );
    }

    #[test]
    fn a_body_cut_short_says_how_much_of_it_came() {
        let bytes = framed(&wait("container"));
        assert_eq!(
            reading(&bytes[..bytes.len() - 3]),
            format!(
                "cannot read a Wait message: the input ended after {} of {} bytes",
                bytes.len() - 7,
                bytes.len() - 4
            )
        );
    }

    #[test]
    fn text_in_place_of_a_frame_is_refused_by_its_length() {
        let length = u32::from_ne_bytes(*b"help");
        let text = reading(b"help me");
        assert!(text.starts_with(&format!("cannot handle a Wait message of {length} bytes: the limit is 67108864;")));
    }

    #[test]
    fn a_body_that_is_no_such_message_names_the_message() {
        assert_eq!(
            reading(&[&2u32.to_ne_bytes()[..], b"\x0a\xff"].concat()),
            "cannot decode 2 bytes as a Wait message"
        );
    }

    #[test]
    fn a_launch_of_0_19_is_read() {
        let mut command = Vec::new();
        prost::encoding::encode_key(6, prost::encoding::WireType::LengthDelimited, &mut command);
        command.push(0);
        let executor = [&[0x3a, u8::try_from(command.len()).unwrap()], command.as_slice()].concat();
        let launch = [&[0x1a, u8::try_from(executor.len()).unwrap()], executor.as_slice()].concat();
        let frame = [&u32::try_from(launch.len()).unwrap().to_ne_bytes(), launch.as_slice()].concat();
        let launch: ecp::Launch = read(&mut frame.as_slice()).unwrap();
        assert_eq!(launch.executor_info.unwrap().command, Some(mesos::CommandInfo::default()));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = read::<ecp::Launch>(&mut bytes.as_slice());
        }

        #[test]
        fn a_garbage_body_never_panics(body in prop::collection::vec(any::<u8>(), 0..256)) {
            let frame = [&u32::try_from(body.len()).unwrap().to_ne_bytes(), body.as_slice()].concat();
            let _ = read::<ecp::Launch>(&mut frame.as_slice());
        }

        #[test]
        fn a_frame_comes_back_as_it_went(id in ".*") {
            prop_assert_eq!(read::<ecp::Wait>(&mut framed(&wait(&id)).as_slice()).unwrap(), wait(&id));
        }
    }
}
