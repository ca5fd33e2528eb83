//! What an agent answers on `/files/read` and `/files/browse`, decoded byte for byte.
//!
//! `{"data":"...","offset":N}` looks like JSON, but `data` carries arbitrary bytes, so a JSON parser that wants Unicode refuses or
//! changes them. How Mesos writes a byte of the file into that string:
//!
//! | byte | Mesos 0.19 to 0.23 | 0.24 to 1.6 | from 1.7 |
//! |---|---|---|---|
//! | `"` `\` | escaped by `\` | same | same |
//! | `/` | `\/` | `\/` | itself |
//! | \b \f \n \r \t | two characters | same | same |
//! | other below 0x20, 0x7f | `\u00XX` | `\u00xx` | `\u00XX`; 0x7f itself |
//! | 0x80 and above | `\u00XX`, one per byte | itself | itself |
//!
//! So `\u00XX` is the byte XX and any other byte is itself, for every version: no Mesos writes `\u00E9` and means the two bytes of an
//! é. `\u0100` and above no Mesos writes at all; should something between us and the agent have re-encoded the text, it means UTF-8.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use thiserror::Error;

/// An answer of `/files/read`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Exactly the file's bytes.
    pub data: Bytes,
    /// Where `data` begins. With empty `data` it is the file's size, or from Mesos 1.1 on the offset that was asked for.
    pub offset: u64,
}

/// Why an answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The text stops or goes wrong here.
    #[error("at byte {position}: {what}")]
    Malformed {
        /// Bytes into the answer.
        position: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// An object, but not this one.
    #[error("it has no \"{0}\"")]
    Lacks(&'static str),
    /// A list that is none.
    #[error("not the expected JSON: {0}")]
    Json(String),
}

/// Decodes an answer of `/files/read`; keys in any order, unknown ones ignored.
///
/// # Errors
/// It is no such answer.
pub fn decode_read(text: &[u8]) -> Result<Read, DecodeError> {
    let mut scanner = Scanner { text, position: 0 };
    let (mut data, mut offset) = (None, None);
    scanner.expect(b'{', "no object")?;
    if !scanner.accept(b'}') {
        loop {
            let key = scanner.string()?;
            scanner.expect(b':', "no colon")?;
            match key.as_slice() {
                b"data" => data = Some(scanner.string()?),
                b"offset" => offset = Some(scanner.count()?),
                _ => scanner.skip_value()?,
            }
            if !scanner.accept(b',') {
                break;
            }
        }
        scanner.expect(b'}', "no end of the object")?;
    }
    scanner.expect_end()?;
    Ok(Read {
        data: data.ok_or(DecodeError::Lacks("data"))?.into(),
        offset: offset.ok_or(DecodeError::Lacks("offset"))?,
    })
}

/// A file in a directory, as `/files/browse` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name without its directory; any bytes.
    pub name: Vec<u8>,
    /// Bytes in the file.
    pub size: u64,
}

/// Decodes an answer of `/files/browse`.
///
/// # Errors
/// It is no such answer.
pub fn decode_browse(text: &[u8]) -> Result<Vec<Entry>, DecodeError> {
    #[derive(Deserialize)]
    struct Listed {
        path: RawText,
        size: f64,
    }
    let listed: Vec<Listed> = serde_json::from_slice(text).map_err(|error| DecodeError::Json(error.to_string()))?;
    let entry = |Listed { path: RawText(mut path), size }: Listed| {
        let name_at = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        // Mesos' older writers know only floating point; sizes are whole and far below 2^53. The cast saturates.
        Entry { name: path.split_off(name_at), size: size as u64 }
    };
    Ok(listed.into_iter().map(entry).collect())
}

/// A JSON string that may hold bytes that are not UTF-8, as paths may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawText(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for RawText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytewise;
        impl<'de> Visitor<'de> for Bytewise {
            type Value = RawText;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a string")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<RawText, E> {
                Ok(RawText(bytes.to_vec()))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawText, E> {
                Ok(RawText(text.as_bytes().to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytewise)
    }
}

/// Walks over JSON without looking into bytes above 0x7f.
struct Scanner<'a> {
    text: &'a [u8],
    position: usize,
}

impl Scanner<'_> {
    fn malformed<T>(&self, what: &'static str) -> Result<T, DecodeError> {
        Err(DecodeError::Malformed { position: self.position, what })
    }

    /// The next byte after white space, without taking it.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.text.get(self.position) {
            self.position += 1;
        }
        self.text.get(self.position).copied()
    }

    fn accept(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.position += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), DecodeError> {
        if self.accept(byte) { Ok(()) } else { self.malformed(what) }
    }

    fn expect_end(&mut self) -> Result<(), DecodeError> {
        if self.peek().is_none() { Ok(()) } else { self.malformed("something follows the object") }
    }

    fn string(&mut self) -> Result<Vec<u8>, DecodeError> {
        self.expect(b'"', "no string")?;
        let mut bytes = Vec::new();
        loop {
            let rest = &self.text[self.position..];
            let Some(plain) = rest.iter().position(|&byte| byte == b'"' || byte == b'\\') else {
                self.position = self.text.len();
                return self.malformed("the string does not end");
            };
            bytes.extend_from_slice(&rest[..plain]);
            self.position += plain + 1;
            if rest[plain] == b'"' {
                return Ok(bytes);
            }
            self.escape(&mut bytes)?;
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), DecodeError> {
        let Some(&letter) = self.text.get(self.position) else { return self.malformed("the escape does not end") };
        self.position += 1;
        bytes.push(match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode(bytes),
            _ => return self.malformed("unknown escape"),
        });
        Ok(())
    }

    /// What follows `\u`.
    fn unicode(&mut self, bytes: &mut Vec<u8>) -> Result<(), DecodeError> {
        let code = self.hex4()?;
        if let Ok(byte) = u8::try_from(code) {
            bytes.push(byte);
            return Ok(());
        }
        let mut code = u32::from(code);
        if (0xd800..0xdc00).contains(&code) && self.text[self.position..].starts_with(b"\\u") {
            self.position += 2;
            let low = u32::from(self.hex4()?);
            // Anything but a low surrogate makes a number that is no character.
            code =
                if (0xdc00..0xe000).contains(&low) { 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) } else { code };
        }
        let Some(character) = char::from_u32(code) else { return self.malformed("half a surrogate pair") };
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn hex4(&mut self) -> Result<u16, DecodeError> {
        let digits =
            self.text.get(self.position..self.position + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        // `from_str_radix` alone would take a sign.
        let Some(digits) = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit())) else {
            return self.malformed("no four hexadecimal digits");
        };
        self.position += 4;
        Ok(u16::from_str_radix(digits, 16).expect("four hexadecimal digits fit"))
    }

    /// A number that must be a count: `13`, or `13.0` or `1.3e1` from a writer of floating point.
    fn count(&mut self) -> Result<u64, DecodeError> {
        let Some(number) = self.number() else { return self.malformed("no number") };
        if let Ok(count) = number.parse() {
            return Ok(count);
        }
        match number.parse::<f64>() {
            Ok(float) if float >= 0.0 && float.fract() == 0.0 => Ok(float as u64),
            _ => self.malformed("a number that is no count"),
        }
    }

    fn number(&mut self) -> Option<&str> {
        self.peek()?;
        let rest = &self.text[self.position..];
        let is_in_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let length = rest.iter().position(|byte| !is_in_number(byte)).unwrap_or(rest.len());
        self.position += length;
        (length > 0).then(|| std::str::from_utf8(&rest[..length]).expect("digits and signs are text"))
    }

    /// A value of a key that we do not know: any string, number or word; lists and objects by counting brackets.
    fn skip_value(&mut self) -> Result<(), DecodeError> {
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                Some(b'"') => drop(self.string()?),
                Some(b'[' | b'{') => {
                    depth += 1;
                    self.position += 1;
                }
                Some(b']' | b'}') if depth > 0 => {
                    depth -= 1;
                    self.position += 1;
                }
                Some(b',' | b':') if depth > 0 => self.position += 1,
                Some(byte) if byte.is_ascii_alphanumeric() || byte == b'-' => {
                    let is_in_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
                    self.position += self.text[self.position..].iter().take_while(|byte| is_in_word(byte)).count();
                }
                _ => return self.malformed("no value"),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    /// Who wrote the answer.
    #[derive(Debug, Clone, Copy)]
    enum Writer {
        /// 0.19 to 0.23.
        EscapesAll,
        /// 0.24 to 1.6.
        Jsonify,
        /// From 1.7.
        Rapidjson,
    }

    fn encode(writer: Writer, data: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        for &byte in data {
            match (byte, writer) {
                (b'"' | b'\\', _) | (b'/', Writer::EscapesAll | Writer::Jsonify) => text.extend([b'\\', byte]),
                (0x08, _) => text.extend(b"\\b"),
                (0x0c, _) => text.extend(b"\\f"),
                (b'\n', _) => text.extend(b"\\n"),
                (b'\r', _) => text.extend(b"\\r"),
                (b'\t', _) => text.extend(b"\\t"),
                (..0x20, Writer::EscapesAll | Writer::Rapidjson) | (0x7f.., Writer::EscapesAll) => {
                    text.extend(format!("\\u{byte:04X}").bytes());
                }
                (..0x20 | 0x7f, Writer::Jsonify) => text.extend(format!("\\u{byte:04x}").bytes()),
                _ => text.push(byte),
            }
        }
        text
    }

    fn answer(writer: Writer, data: &[u8], offset: u64, offset_first: bool, space: &str) -> Vec<u8> {
        let data = [&b"\"data\""[..], space.as_bytes(), b":\"", &encode(writer, data), b"\""].concat();
        let offset = format!("\"offset\":{space}{offset}").into_bytes();
        let (first, second) = if offset_first { (offset, data) } else { (data, offset) };
        [&b"{"[..], &first, space.as_bytes(), b",", space.as_bytes(), &second, b"}", space.as_bytes()].concat()
    }

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/fixtures/mesos-1.0.4/agent/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn data(text: &str) -> Result<Vec<u8>, DecodeError> {
        decode_read(&[b"{\"offset\":0,\"data\":\"", text.as_bytes(), b"\"}"].concat()).map(|read| read.data.to_vec())
    }

    fn any_writer() -> impl Strategy<Value = Writer> {
        prop_oneof![Just(Writer::EscapesAll), Just(Writer::Jsonify), Just(Writer::Rapidjson)]
    }

    proptest! {
        #[test]
        fn what_any_mesos_encodes_is_decoded_to_the_same_bytes(
            writer in any_writer(), bytes in prop::collection::vec(any::<u8>(), 0..2000), offset: u64,
            offset_first: bool, space in "[ \t\r\n]{0,3}",
        ) {
            let read = decode_read(&answer(writer, &bytes, offset, offset_first, &space)).unwrap();
            prop_assert_eq!(read, Read { data: bytes.into(), offset });
        }

        #[test]
        fn cut_or_changed_answers_are_refused_or_decoded_but_never_panic(
            writer in any_writer(), bytes in prop::collection::vec(any::<u8>(), 0..200), cut: prop::sample::Index,
            at: prop::sample::Index, with: u8,
        ) {
            let mut text = answer(writer, &bytes, 7, false, "");
            let length = cut.index(text.len());
            prop_assert!(decode_read(&text[..length]).is_err());
            let position = at.index(text.len());
            text[position] = with;
            let _ = decode_read(&text);
            let _ = decode_browse(&text);
        }

        #[test]
        fn garbage_never_panics(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_read(&text);
            let _ = decode_browse(&text);
        }

        #[test]
        fn json_like_garbage_never_panics(text in r#"[\{\}\[\]":,\\u0-9a-fd" ]{0,60}"#) {
            let _ = decode_read(text.as_bytes());
            let _ = decode_read(format!("{{\"x\":{text}").as_bytes());
        }
    }

    #[test]
    fn recorded_answers_of_1_0_4_are_understood() {
        assert_eq!(decode_read(&fixture("files-read.json")), Ok(Read { data: "before\n".into(), offset: 0 }));
        assert_eq!(decode_read(&fixture("files-read-size.json")), Ok(Read { data: Bytes::new(), offset: 13 }));
        let entries = decode_browse(&fixture("files-browse.json")).unwrap();
        let expected = [("stderr", 0), ("stdout", 13)].map(|(name, size)| Entry { name: name.into(), size });
        assert_eq!(entries, expected);
    }

    #[test]
    fn every_byte_may_be_escaped_as_its_number() {
        for byte in 0..=255_u8 {
            assert_eq!(data(&format!("\\u{byte:04x}\\u{byte:04X}")), Ok(vec![byte, byte]));
        }
    }

    #[test]
    fn characters_above_a_byte_become_utf_8() {
        assert_eq!(data("\\u0100\\u20AC\\ud83d\\ude00"), Ok("\u{100}\u{20ac}\u{1f600}".into()));
    }

    #[test]
    fn broken_escapes_are_refused() {
        for text in ["\\ud800", "\\ud800x", "\\ud800\\u0041", "\\udc00", "\\u12", "\\u+123", "\\x", "\\u00g0"] {
            assert!(matches!(data(text), Err(DecodeError::Malformed { .. })), "{text}");
        }
    }

    #[test]
    fn unknown_keys_are_passed_over_and_missing_ones_named() {
        let text = br#"{"more":{"a":[1,-2.5e3,null,"]}",{}]},"data":"x","ok":true,"offset":1.3e1}"#;
        assert_eq!(decode_read(text), Ok(Read { data: "x".into(), offset: 13 }));
        assert_eq!(decode_read(b"{\"data\":\"x\"}"), Err(DecodeError::Lacks("offset")));
        assert_eq!(decode_read(b" { } "), Err(DecodeError::Lacks("data")));
        for text in [&b"{\"offset\":-1,\"data\":\"\"}"[..], b"{\"offset\":0.5,\"data\":\"\"}", b"[]", b"", b"{} x"] {
            assert!(matches!(decode_read(text), Err(DecodeError::Malformed { .. })), "{text:?}");
        }
    }

    #[test]
    fn names_that_are_not_utf_8_are_listed() {
        let text = b"[{\"mode\":\"\xff\",\"path\":\"\\/a\\/b\xff\\u0020c\",\"size\":5.0}]";
        assert_eq!(decode_browse(text).unwrap(), [Entry { name: b"b\xff c".to_vec(), size: 5 }]);
        assert!(matches!(decode_browse(b"{}"), Err(DecodeError::Json(_))));
    }
}
