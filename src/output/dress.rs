//! PURE: what `--timestamps`, `--tag` and `--line-buffer` make of a stream's bytes.
//!
//! Each line gets its beginning with its first byte; a last line without an end has one, too. With whole lines only, a line waits
//! until it ends, but not once [`HELD_BYTES`] of it wait: a line may have any length, the memory for it may not.

/// What to do to a stream's lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Whether each begins with the time.
    pub has_time: bool,
    /// What each begins with.
    pub tag: Option<Vec<u8>>,
    /// Whether only whole ones are written.
    pub is_whole_lines: bool,
}

/// Does it.
#[derive(Debug)]
pub(super) struct Dress {
    shape: Shape,
    is_mid_line: bool,
    /// The beginning of a line that has no end yet.
    held: Vec<u8>,
    /// How many of the task's bytes are in it.
    held_count: usize,
}

/// As in a pipe that nobody reads.
const HELD_BYTES: usize = 64 << 10;

impl Dress {
    /// `None` where nothing is to be done.
    pub(super) fn new(shape: Shape) -> Option<Self> {
        (shape != Shape::default()).then(|| Self { shape, is_mid_line: false, held: Vec::new(), held_count: 0 })
    }

    /// What to write for the next bytes, which came at the time that is written `now`.
    pub(super) fn next(&mut self, bytes: &[u8], now: &str) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.held);
        let mut whole = 0;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            if !self.is_mid_line {
                self.begin(&mut out, now);
            }
            out.extend_from_slice(line);
            self.is_mid_line = line.last() != Some(&b'\n');
            if !self.is_mid_line {
                whole = out.len();
                self.held_count = 0;
            } else {
                self.held_count += line.len();
            }
        }
        if !self.shape.is_whole_lines || out.len() - whole > HELD_BYTES {
            whole = out.len();
            self.held_count = 0;
        }
        self.held = out.split_off(whole);
        out
    }

    /// What waits for the end of its line.
    pub(super) fn end(&mut self) -> Vec<u8> {
        self.held_count = 0;
        std::mem::take(&mut self.held)
    }

    /// How many of the task's bytes wait.
    pub(super) fn held_count(&self) -> usize {
        self.held_count
    }

    fn begin(&self, out: &mut Vec<u8>, now: &str) {
        if self.shape.has_time {
            out.extend_from_slice(now.as_bytes());
            out.push(b' ');
        }
        if let Some(tag) = &self.shape.tag {
            out.extend_from_slice(tag);
            out.push(b'\t');
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn dressed(shape: &Shape, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut dress = Dress::new(shape.clone()).unwrap();
        let mut out: Vec<Vec<u8>> = pieces.iter().map(|piece| dress.next(piece, "12:00")).collect();
        out.push(dress.end());
        out
    }

    fn shape(has_time: bool, tag: Option<&str>, is_whole_lines: bool) -> Shape {
        Shape { has_time, tag: tag.map(|tag| tag.as_bytes().to_vec()), is_whole_lines }
    }

    #[test]
    fn every_line_gets_its_beginning_once() {
        let out = dressed(&shape(true, Some("web"), false), &[b"a", b"b\nc\n", b"\n", b"last"]);
        assert_eq!(out.concat(), b"12:00 web\tab\n12:00 web\tc\n12:00 web\t\n12:00 web\tlast");
        assert_eq!(out[0], b"12:00 web\ta", "a line that has not ended is not held up");
        assert!(Dress::new(Shape::default()).is_none());
    }

    #[test]
    fn whole_lines_wait_for_their_end() {
        let out = dressed(&shape(false, None, true), &[b"a", b"b\nc", b"d\n\ne"]);
        assert_eq!(out, [&b""[..], b"ab\n", b"cd\n\n", b"e"]);
    }

    #[test]
    fn an_endless_line_does_not_fill_the_memory() {
        let mut dress = Dress::new(shape(false, Some("t"), true)).unwrap();
        let piece = [b'x'; 4096];
        let (mut written, mut most) = (0, 0);
        for _ in 0..10_000 {
            written += dress.next(&piece, "").len();
            most = most.max(dress.held.len());
        }
        assert_eq!(written + dress.end().len(), 4096 * 10_000 + 2, "one beginning for the one line");
        assert!(most <= HELD_BYTES + piece.len(), "{most}");
    }

    proptest! {
        #[test]
        fn without_its_beginnings_the_output_is_the_tasks(
            text in prop::collection::vec(prop_oneof![3 => Just(b'\n'), 5 => any::<u8>()], 0..100),
            cuts in prop::collection::vec(1_usize..20, 1..6),
            is_whole_lines in any::<bool>(),
        ) {
            let mut dress = Dress::new(shape(false, Some(""), is_whole_lines)).unwrap();
            let (mut rest, mut out) = (text.as_slice(), Vec::new());
            let mut cuts = cuts.into_iter().cycle();
            while !rest.is_empty() {
                let (piece, left) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                out.extend(dress.next(piece, ""));
                rest = left;
            }
            out.extend(dress.end());
            let bare: Vec<u8> = out
                .split_inclusive(|&byte| byte == b'\n')
                .flat_map(|line| line.strip_prefix(b"\t").expect("a beginning").to_vec())
                .collect();
            prop_assert_eq!(bare, text);
        }

        #[test]
        fn what_waits_is_counted(
            pieces in prop::collection::vec(prop::collection::vec(prop_oneof![1 => Just(b'\n'), 5 => any::<u8>()], 0..30), 0..10),
        ) {
            let mut dress = Dress::new(shape(false, None, true)).unwrap();
            let (mut given, mut written) = (0, 0);
            for piece in pieces {
                given += piece.len();
                written += dress.next(&piece, "").len();
                prop_assert_eq!(given - written, dress.held_count());
            }
        }
    }
}
