//! Messages between libprocess processes, as HTTP requests that nobody answers. PURE.
//!
//! ```text
//! POST /executor(1)/mesos.internal.RunTaskMessage HTTP/1.1
//! User-Agent: libprocess/slave(1)@10.0.0.5:5051        sender; until 0.20 the only place for it
//! Libprocess-From: slave(1)@10.0.0.5:5051              sender, since 0.21
//! Content-Length or Transfer-Encoding: chunked         both are in use
//! ```
//!
//! Requests follow each other on a connection that stays open.

use bytes::{Buf, Bytes, BytesMut};
use proto::framing::MAX_MESSAGE_BYTES;

use crate::executor::environment::Pid;

/// A message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Incoming {
    /// The sender.
    pub(super) from: Option<Pid>,
    /// The full name, such as `mesos.internal.RunTaskMessage`.
    pub(super) name: String,
    /// Serialized.
    pub(super) body: Bytes,
}

/// The bytes of a message from one process to another.
pub(super) fn encode(from: &Pid, to: &Pid, name: &str, body: &[u8]) -> Vec<u8> {
    let Pid { id, host, port } = to;
    let length = body.len();
    let mut bytes = format!(
        "POST /{id}/{name} HTTP/1.1\r\n\
         User-Agent: libprocess/{from}\r\n\
         Libprocess-From: {from}\r\n\
         Connection: Keep-Alive\r\n\
         Host: {host}:{port}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Reads the messages of one connection from whatever pieces they come in.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    /// That many bytes of the body are missing.
    Sized {
        head: Head,
        length: usize,
    },
    Chunked {
        head: Head,
        body: BytesMut,
    },
    /// After the last chunk, up to the empty line.
    Trailer {
        head: Head,
        body: BytesMut,
    },
}

#[derive(Debug, Clone)]
struct Head {
    from: Option<Pid>,
    name: String,
}

impl Decoder {
    /// Takes what came.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message; `None` until more comes.
    ///
    /// # Errors
    /// When this is not a libprocess message, or is longer than any may be. The connection is of no more use.
    pub(super) fn next_message(&mut self) -> Result<Option<Incoming>, MessageError> {
        loop {
            match std::mem::take(&mut self.state) {
                State::Head => match self.head()? {
                    Some(state) => self.state = state,
                    None => return Ok(None),
                },
                State::Sized { head, length } if self.buffer.len() >= length => {
                    return Ok(Some(head.with(self.buffer.split_to(length).freeze())));
                }
                state @ State::Sized { .. } => {
                    self.state = state;
                    return Ok(None);
                }
                State::Chunked { head, mut body } => match self.chunk(body.len())? {
                    Some(chunk) if chunk.is_empty() => self.state = State::Trailer { head, body },
                    Some(chunk) => {
                        body.extend_from_slice(&chunk);
                        self.state = State::Chunked { head, body };
                    }
                    None => {
                        self.state = State::Chunked { head, body };
                        return Ok(None);
                    }
                },
                State::Trailer { head, body } => match self.line()? {
                    Some(0) => return Ok(Some(head.with(body.freeze()))),
                    Some(_) => self.state = State::Trailer { head, body },
                    None => {
                        self.state = State::Trailer { head, body };
                        return Ok(None);
                    }
                },
            }
        }
    }

    fn head(&mut self) -> Result<Option<State>, MessageError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let length =
            match request.parse(&self.buffer).map_err(|error| MessageError::NotHttp { why: error.to_string() })? {
                httparse::Status::Complete(length) => length,
                httparse::Status::Partial if self.buffer.len() > MAX_HEAD_BYTES => return Err(MessageError::TooLong),
                httparse::Status::Partial => return Ok(None),
            };
        let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        // The process that is meant needs no look: there is one.
        let Some(name) = path.rsplit('/').next().filter(|name| method == "POST" && !name.is_empty()) else {
            return Err(MessageError::NotAMessage { method: method.to_owned(), path: path.to_owned() });
        };
        let header = |name: &str| {
            let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
        };
        let agent = || header("User-Agent").and_then(|value| value.strip_prefix("libprocess/"));
        let from = header("Libprocess-From").or_else(agent).and_then(|pid| pid.parse().ok());
        let head = Head { from, name: name.to_owned() };
        let is_chunked = header("Transfer-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        let state = if is_chunked {
            State::Chunked { head, body: BytesMut::new() }
        } else {
            let length = header("Content-Length").unwrap_or("0");
            let length =
                length.parse().map_err(|_| MessageError::NotHttp { why: format!("Content-Length: {length}") })?;
            if length > MAX_MESSAGE_BYTES {
                return Err(MessageError::TooLong);
            }
            State::Sized { head, length }
        };
        self.buffer.advance(length);
        Ok(Some(state))
    }

    /// A whole chunk, empty when it is the last.
    fn chunk(&mut self, so_far: usize) -> Result<Option<Bytes>, MessageError> {
        let parsed = httparse::parse_chunk_size(&self.buffer);
        let parsed = parsed.map_err(|_| MessageError::NotHttp { why: "invalid chunk size".to_owned() })?;
        let httparse::Status::Complete((start, size)) = parsed else {
            let is_endless = self.buffer.len() > MAX_HEAD_BYTES;
            return if is_endless { Err(MessageError::TooLong) } else { Ok(None) };
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > MAX_MESSAGE_BYTES || so_far + size > MAX_MESSAGE_BYTES {
            return Err(MessageError::TooLong);
        }
        if size == 0 {
            self.buffer.advance(start);
            return Ok(Some(Bytes::new()));
        }
        let Some(end) = self.buffer.get(start + size..start + size + 2) else { return Ok(None) };
        if end != b"\r\n" {
            return Err(MessageError::NotHttp { why: "a chunk is longer than it says".to_owned() });
        }
        self.buffer.advance(start);
        let chunk = self.buffer.split_to(size).freeze();
        self.buffer.advance(2);
        Ok(Some(chunk))
    }

    /// The length of a line that is passed over.
    fn line(&mut self) -> Result<Option<usize>, MessageError> {
        match self.buffer.windows(2).position(|pair| pair == b"\r\n") {
            Some(length) => {
                self.buffer.advance(length + 2);
                Ok(Some(length))
            }
            None if self.buffer.len() > MAX_HEAD_BYTES => Err(MessageError::TooLong),
            None => Ok(None),
        }
    }
}

impl Head {
    fn with(self, body: Bytes) -> Incoming {
        Incoming { from: self.from, name: self.name, body }
    }
}

/// Why what came is no message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum MessageError {
    #[error("it is not HTTP: {why}")]
    NotHttp { why: String },
    #[error("{method} {path} is not a libprocess message")]
    NotAMessage { method: String, path: String },
    #[error("it is longer than any Mesos message")]
    TooLong,
}

const MAX_HEADERS: usize = 32;
const MAX_HEAD_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn pid(text: &str) -> Pid {
        text.parse().unwrap()
    }

    fn incoming(from: &str, name: &str, body: &'static [u8]) -> Incoming {
        let from = Some(pid(from)).filter(|_| !from.is_empty());
        Incoming { from, name: name.to_owned(), body: Bytes::from_static(body) }
    }

    fn decode_all(decoder: &mut Decoder) -> Vec<Incoming> {
        std::iter::from_fn(|| decoder.next_message().unwrap()).collect()
    }

    /// Of each version: only a User-Agent, and chunks.
    const OLD: &[u8] =
        b"POST /executor(1)/mesos.internal.A HTTP/1.0\r\nUser-Agent: libprocess/slave(1)@10.0.0.5:5051\r\n\
        Connection: Keep-Alive\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX: y\r\n\r\n";
    const NEW: &[u8] =
        b"POST /executor(1)/mesos.internal.B HTTP/1.1\r\nUser-Agent: libprocess/slave(1)@10.0.0.5:5051\r\n\
        Libprocess-From: slave(1)@10.0.0.6:5051\r\nConnection: Keep-Alive\r\nHost: \r\nContent-Length: 2\r\n\r\nxy";
    const EMPTY: &[u8] =
        b"POST /executor(1)/mesos.internal.C HTTP/1.1\r\nUser-Agent: libprocess/slave(1)@10.0.0.5:5051\r\n\
        Connection: Keep-Alive\r\n\r\n";

    fn stream() -> (Vec<u8>, Vec<Incoming>) {
        let expected = vec![
            incoming("slave(1)@10.0.0.5:5051", "mesos.internal.A", b"abcde"),
            incoming("slave(1)@10.0.0.6:5051", "mesos.internal.B", b"xy"),
            incoming("slave(1)@10.0.0.5:5051", "mesos.internal.C", b""),
        ];
        ([OLD, NEW, EMPTY].concat(), expected)
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let (from, to) = (pid("executor(1)@10.0.0.5:4000"), pid("slave(1)@10.0.0.5:5051"));
        let bytes = encode(&from, &to, "mesos.internal.RegisterExecutorMessage", b"body");
        assert!(bytes.starts_with(b"POST /slave(1)/mesos.internal.RegisterExecutorMessage HTTP/1.1\r\n"));
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        let expected = incoming("executor(1)@10.0.0.5:4000", "mesos.internal.RegisterExecutorMessage", b"body");
        assert_eq!(decode_all(&mut decoder), [expected]);
    }

    #[test]
    fn other_requests_and_nonsense_are_refused() {
        for text in [
            "GET /executor(1)/state HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\n\r\n",
            "hello\r\n\r\n",
            "POST /e/m HTTP/1.1\r\nContent-Length: many\r\n\r\n",
            "POST /e/m HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "POST /e/m HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        ] {
            let mut decoder = Decoder::default();
            decoder.push(text.as_bytes());
            assert!(decoder.next_message().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_beyond_any_message_are_refused_before_they_are_stored() {
        for text in [
            "POST /e/m HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n".to_owned(),
            "POST /e/m HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n".to_owned(),
            format!("POST /e/m HTTP/1.1\r\nX: {}", "x".repeat(MAX_HEAD_BYTES)),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(text.as_bytes());
            assert_eq!(decoder.next_message(), Err(MessageError::TooLong));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_split_of_a_stream_gives_the_same_messages(cuts in prop::collection::vec(0usize..700, 0..12)) {
            let (bytes, expected) = stream();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let mut decoder = Decoder::default();
            let mut messages = Vec::new();
            for pair in cuts.windows(2) {
                decoder.push(&bytes[pair[0]..pair[1]]);
                messages.extend(decode_all(&mut decoder));
            }
            prop_assert_eq!(messages, expected);
        }

        #[test]
        fn garbage_is_an_error_or_waited_on_but_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            let _ = decoder.next_message();
        }
    }
}
