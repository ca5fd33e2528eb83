//! RecordIO, the framing of Mesos' HTTP event streams: a decimal length, a newline, that many bytes, and so on.
//!
//! ```text
//!   5\nhello0\n11\nhello again
//! ```
//!
//! Does no IO: [`Decoder::push`] what has arrived, in pieces of any size, then call [`Decoder::next_record`] until it
//! has no more. A record may be empty. A broken length is fatal, since nobody can tell where the next one starts.

use bytes::{Buf, Bytes, BytesMut};

/// Finds the records in a stream of bytes.
#[derive(Debug)]
pub struct Decoder {
    max_record_bytes: usize,
    pending: BytesMut,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Within a length: its digits so far are consumed.
    Length { value: usize, digits: usize },
    /// Within a record of this many bytes.
    Record { length: usize },
    /// For good.
    Failed(RecordIoError),
}

impl Decoder {
    /// A decoder that refuses records longer than `max_record_bytes`.
    pub fn new(max_record_bytes: usize) -> Self {
        Self { max_record_bytes, pending: BytesMut::new(), state: State::START }
    }

    /// Takes the next bytes of the stream.
    ///
    /// Holds them until [`Self::next_record`] gives them away: at most one record, its limit, and what was pushed
    /// since the last `None`.
    pub fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Failed(_)) {
            self.pending.extend_from_slice(bytes);
        }
    }

    /// The next whole record; `None` until more is pushed.
    ///
    /// # Errors
    /// When a length is no number or beyond the limit; from then on always.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, RecordIoError> {
        loop {
            let next = match &self.state {
                State::Failed(error) => return Err(error.clone()),
                State::Record { length } if self.pending.len() < *length => return Ok(None),
                State::Record { length } => {
                    let record = self.pending.split_to(*length).freeze();
                    self.state = State::START;
                    return Ok(Some(record));
                }
                State::Length { value, digits } => {
                    let Some(&byte) = self.pending.first() else { return Ok(None) };
                    self.pending.advance(1);
                    after(*value, *digits, byte, self.max_record_bytes)
                }
            };
            self.state = next.unwrap_or_else(|error| {
                self.pending = BytesMut::new();
                State::Failed(error)
            });
        }
    }

    /// Says whether the stream may end here.
    ///
    /// # Errors
    /// When it ends within a record or its length, or has failed before.
    pub fn finish(&self) -> Result<(), RecordIoError> {
        match &self.state {
            State::Failed(error) => Err(error.clone()),
            State::Length { digits: 0, .. } if self.pending.is_empty() => Ok(()),
            State::Length { .. } => Err(RecordIoError::EndsInLength),
            State::Record { length } => Err(RecordIoError::EndsInRecord { got: self.pending.len(), length: *length }),
        }
    }
}

impl State {
    const START: Self = Self::Length { value: 0, digits: 0 };
}

/// The state after one more byte of a length.
fn after(value: usize, digits: usize, byte: u8, limit: usize) -> Result<State, RecordIoError> {
    match byte {
        b'0'..=b'9' if digits == MAX_LENGTH_DIGITS => Err(RecordIoError::EndlessLength),
        b'0'..=b'9' => {
            // Saturated, it is beyond every limit.
            let value = value.saturating_mul(10).saturating_add(usize::from(byte - b'0'));
            Ok(State::Length { value, digits: digits + 1 })
        }
        b'\n' if digits > 0 && value > limit => Err(RecordIoError::TooLong { length: value, limit }),
        b'\n' if digits > 0 => Ok(State::Record { length: value }),
        _ => Err(RecordIoError::NotALength { byte: byte.escape_ascii().to_string() }),
    }
}

/// One record with its length, as a server writes it.
pub fn encode(record: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{}\n", record.len()).into_bytes();
    bytes.extend_from_slice(record);
    bytes
}

/// What is wrong with a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what the fields are")]
pub enum RecordIoError {
    /// Something other than a digit or the newline after at least one.
    #[error("the event stream is broken: found \"{byte}\" where the length of a record should be")]
    NotALength { byte: String },
    /// Digits without end.
    #[error("the event stream is broken: the length of a record has more than {MAX_LENGTH_DIGITS} digits")]
    EndlessLength,
    /// A record beyond the decoder's limit.
    #[error("the event stream has a record of {length} bytes: the limit is {limit}")]
    TooLong { length: usize, limit: usize },
    /// The stream ended within a length.
    #[error("the event stream ended within the length of a record")]
    EndsInLength,
    /// The stream ended within a record.
    #[error("the event stream ended after {got} of the {length} bytes of a record")]
    EndsInRecord { got: usize, length: usize },
}

/// The digits of the largest 64-bit length.
const MAX_LENGTH_DIGITS: usize = 20;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    fn records(decoder: &mut Decoder, chunk: &[u8]) -> Result<Vec<Vec<u8>>, RecordIoError> {
        decoder.push(chunk);
        let mut records = Vec::new();
        while let Some(record) = decoder.next_record()? {
            records.push(record.to_vec());
        }
        Ok(records)
    }

    fn failure(stream: &[u8]) -> RecordIoError {
        records(&mut Decoder::new(100), stream).unwrap_err()
    }

    #[test]
    fn records_come_one_after_the_other_and_may_be_empty() {
        let mut decoder = Decoder::new(100);
        assert_eq!(records(&mut decoder, b"5\nhello0\n3\na\nb").unwrap(), [&b"hello"[..], b"", b"a\nb"]);
        decoder.finish().unwrap();
    }

    #[test]
    fn a_record_is_given_only_when_it_is_whole() {
        let mut decoder = Decoder::new(100);
        assert_eq!(records(&mut decoder, b"1").unwrap(), [b""; 0]);
        assert_eq!(decoder.finish(), Err(RecordIoError::EndsInLength));
        assert_eq!(records(&mut decoder, b"1\nhello").unwrap(), [b""; 0]);
        assert_eq!(decoder.finish(), Err(RecordIoError::EndsInRecord { got: 5, length: 11 }));
        assert_eq!(records(&mut decoder, b" again").unwrap(), [b"hello again"]);
        decoder.finish().unwrap();
    }

    #[test]
    fn what_is_no_number_is_fatal_for_good() {
        let mut decoder = Decoder::new(100);
        let error = records(&mut decoder, b"3\nyes<html>").unwrap_err();
        assert_eq!(error, RecordIoError::NotALength { byte: "<".into() });
        assert_eq!(records(&mut decoder, b"3\nyes").unwrap_err(), error);
        assert_eq!(decoder.finish().unwrap_err(), error);
    }

    #[test]
    fn a_length_has_digits_and_nothing_else() {
        for stream in ["\n", "-1\n", "+1\n", " 1\n", "1\r\n", "0x1\n"] {
            assert!(matches!(failure(stream.as_bytes()), RecordIoError::NotALength { .. }), "{stream:?}");
        }
        assert_eq!(failure(b"101\n"), RecordIoError::TooLong { length: 101, limit: 100 });
        assert_eq!(failure(b"99999999999999999999\n"), RecordIoError::TooLong { length: usize::MAX, limit: 100 });
        assert_eq!(failure(&[b'1'; 21]), RecordIoError::EndlessLength);
        assert_eq!(failure(&[b'0'; 21]), RecordIoError::EndlessLength);
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        let mut decoder = Decoder::new(usize::MAX);
        assert_eq!(records(&mut decoder, b"1000000000000\nx").unwrap(), [b""; 0]);
        assert!(decoder.pending.capacity() < 1000);
    }

    proptest! {
        #[test]
        fn any_split_of_a_stream_gives_the_same_records(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in prop::collection::vec(any::<Index>(), 0..12),
        ) {
            let stream = sent.iter().flat_map(|record| encode(record)).collect::<Vec<_>>();
            let mut cuts = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect::<Vec<_>>();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut decoder = Decoder::new(40);
            let mut got = Vec::new();
            for pair in cuts.windows(2) {
                got.extend(records(&mut decoder, &stream[pair[0]..pair[1]]).unwrap());
            }
            prop_assert_eq!(got, sent);
            prop_assert_eq!(decoder.finish(), Ok(()));
        }

        #[test]
        fn garbage_gives_an_error_or_nothing_and_holds_little(
            chunks in prop::collection::vec(prop::collection::vec(prop_oneof![any::<u8>(), Just(b'1'), Just(b'\n')], 0..30), 0..20),
        ) {
            let mut decoder = Decoder::new(50);
            for chunk in chunks {
                let _ = records(&mut decoder, &chunk);
                prop_assert!(decoder.pending.len() <= 50);
            }
        }
    }
}
