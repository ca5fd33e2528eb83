//! The receiving end of a task's standard input. PURE.
//!
//! The launcher sends parts with their offsets, as messages that may be lost, doubled or overtaken by others. Here they are put in
//! order, each byte once, for a container that takes them at its own pace:
//!
//! ```text
//!   0        taken         received                 limit = taken + WINDOW
//!   |----------|--------------|- - - - gaps - - - - -|
//!    container   on its way      kept until the gap     not taken: the launcher waits, or sends it again
//!                to it           before them is filled
//! ```
//!
//! So no more than a window is held, wherever it is. Every part is answered with where things are, and so is the container's
//! progress, when it makes room for a good deal more.

use std::collections::BTreeMap;

use proto::record::{StdinProgress, StdinState};

use crate::lifecycle::StdinPart;

/// How much may be on its way: at 2 ms through master and agent, 500 MB/s.
pub(super) const WINDOW: u64 = 1 << 20;

/// A task's standard input as far as it has come.
#[derive(Debug)]
pub(super) struct Stdin {
    state: StdinState,
    /// Whether the task was to have any.
    is_wanted: bool,
    received: u64,
    taken: u64,
    /// The offset behind the last byte, once that is known.
    end: Option<u64>,
    is_end_given: bool,
    /// Parts behind a gap, by their offsets.
    early: BTreeMap<u64, Vec<u8>>,
    early_bytes: u64,
    told_limit: u64,
    is_answer_due: bool,
}

impl Stdin {
    /// Of a task that has none.
    pub(super) fn none() -> Self {
        Self { state: StdinState::Closed, is_wanted: false, ..Self::open() }
    }

    /// At its beginning.
    pub(super) fn open() -> Self {
        Self {
            state: StdinState::Open,
            is_wanted: true,
            received: 0,
            taken: 0,
            end: None,
            is_end_given: false,
            early: BTreeMap::new(),
            early_bytes: 0,
            told_limit: 0,
            is_answer_due: false,
        }
    }

    /// Of a task whose executor was another one. The launcher is told unasked: it may have nothing to send.
    pub(super) fn lost() -> Self {
        Self { state: StdinState::Lost, is_answer_due: true, ..Self::open() }
    }

    /// The answer that was taken may not have arrived.
    pub(super) fn answer_again(&mut self) {
        self.is_answer_due = true;
    }

    /// A part has come; what the container is to be given now, in order.
    pub(super) fn receive(&mut self, offset: u64, bytes: Vec<u8>, is_last: bool) -> Vec<StdinPart> {
        self.is_answer_due = true;
        if self.state != StdinState::Open {
            return Vec::new();
        }
        let length = bytes.len() as u64;
        let Some(end) = offset.checked_add(length).filter(|end| *end <= self.limit()) else { return Vec::new() };
        if is_last {
            self.end.get_or_insert(end);
        }
        // What is sent again may be cut another way: of two from one offset, the longer says more.
        let is_more = self.early.get(&offset).is_none_or(|known| known.len() < bytes.len());
        // What fills a gap is never left out, or nothing would go on.
        let has_room = offset <= self.received || self.early_bytes + length <= WINDOW;
        if length > 0 && end > self.received && is_more && has_room {
            let replaced = self.early.insert(offset, bytes).map_or(0, |known| known.len() as u64);
            self.early_bytes += length - replaced;
        }
        self.parts_in_order()
    }

    fn parts_in_order(&mut self) -> Vec<StdinPart> {
        let mut parts = Vec::new();
        while let Some(first) = self.early.first_entry().filter(|first| *first.key() <= self.received) {
            let (offset, mut bytes) = first.remove_entry();
            self.early_bytes -= bytes.len() as u64;
            let known = usize::try_from(self.received - offset).unwrap_or(usize::MAX);
            if known < bytes.len() {
                bytes.drain(..known);
                self.received += bytes.len() as u64;
                parts.push(StdinPart::Bytes(bytes));
            }
        }
        if self.is_received() && !self.is_end_given {
            self.is_end_given = true;
            parts.push(StdinPart::End);
        }
        parts
    }

    /// The container took so many bytes more.
    pub(super) fn taken(&mut self, bytes: u64) {
        self.taken += bytes;
        self.is_answer_due |= self.limit() - self.told_limit >= WINDOW / 4;
    }

    /// The container has got the end, or takes no more.
    pub(super) fn over(&mut self) {
        if self.state == StdinState::Open {
            let is_complete = self.end == Some(self.taken);
            self.state = if is_complete { StdinState::Complete } else { StdinState::Closed };
            self.early.clear();
            self.is_answer_due = true;
        }
    }

    /// Nobody knows what the container has got.
    pub(super) fn lose(&mut self) {
        if self.state == StdinState::Open {
            self.state = StdinState::Lost;
            self.is_answer_due = true;
        }
    }

    /// What to tell the launcher, if there is anything new.
    pub(super) fn take_answer(&mut self) -> Option<StdinProgress> {
        if !std::mem::take(&mut self.is_answer_due) {
            return None;
        }
        self.told_limit = self.limit();
        let received = self.received + u64::from(self.is_received());
        Some(StdinProgress { received, limit: self.told_limit, state: self.state })
    }

    /// How much the container was given, where that is known.
    pub(super) fn given_bytes(&self) -> Option<u64> {
        (self.is_wanted && self.state != StdinState::Lost).then_some(self.taken)
    }

    fn is_received(&self) -> bool {
        self.end == Some(self.received)
    }

    fn limit(&self) -> u64 {
        self.taken + WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> StdinPart {
        StdinPart::Bytes(text.as_bytes().to_vec())
    }

    fn answer(stdin: &mut Stdin) -> Option<(u64, u64, StdinState)> {
        stdin.take_answer().map(|it| (it.received, it.limit, it.state))
    }

    #[test]
    fn parts_are_put_in_order_and_each_byte_counts_once() {
        let mut stdin = Stdin::open();
        assert_eq!(stdin.receive(3, b"def".to_vec(), false), []);
        assert_eq!(answer(&mut stdin), Some((0, WINDOW, StdinState::Open)));
        assert_eq!(stdin.receive(0, b"abcd".to_vec(), false), [bytes("abcd"), bytes("ef")]);
        assert_eq!(stdin.receive(0, b"abcdef".to_vec(), false), []);
        assert_eq!(stdin.receive(4, b"efg".to_vec(), true), [bytes("g"), StdinPart::End]);
        assert_eq!(stdin.receive(7, Vec::new(), true), []);
        assert_eq!(answer(&mut stdin), Some((8, WINDOW, StdinState::Open)));
        stdin.taken(7);
        assert_eq!(answer(&mut stdin), None);
        stdin.over();
        assert_eq!(answer(&mut stdin), Some((8, WINDOW + 7, StdinState::Complete)));
        assert_eq!(stdin.given_bytes(), Some(7));
    }

    #[test]
    fn an_end_that_comes_early_waits_for_what_is_before_it() {
        let mut stdin = Stdin::open();
        assert_eq!(stdin.receive(2, Vec::new(), true), []);
        assert_eq!(stdin.receive(0, b"ab".to_vec(), false), [bytes("ab"), StdinPart::End]);
        let mut empty = Stdin::open();
        assert_eq!(empty.receive(0, Vec::new(), true), [StdinPart::End]);
    }

    #[test]
    fn what_is_beyond_the_window_is_not_held() {
        let mut stdin = Stdin::open();
        let full = vec![7; usize::try_from(WINDOW).expect("it is small")];
        assert_eq!(stdin.receive(1, full.clone(), false), []);
        assert_eq!(stdin.receive(u64::MAX, b"x".to_vec(), false), []);
        assert_eq!(stdin.receive(0, full.clone(), false), [StdinPart::Bytes(full)]);
        assert_eq!(stdin.receive(WINDOW, b"x".to_vec(), false), []);
        assert_eq!(answer(&mut stdin), Some((WINDOW, WINDOW, StdinState::Open)));
        stdin.taken(WINDOW / 4 - 1);
        assert_eq!(answer(&mut stdin), None);
        stdin.taken(1);
        assert_eq!(answer(&mut stdin), Some((WINDOW, WINDOW / 4 * 5, StdinState::Open)));
        assert_eq!(stdin.receive(WINDOW, b"x".to_vec(), false), [bytes("x")]);
    }

    #[test]
    fn a_container_that_takes_no_more_and_one_that_has_none_are_told() {
        let mut stdin = Stdin::open();
        stdin.receive(0, b"abc".to_vec(), true);
        stdin.taken(1);
        stdin.over();
        assert_eq!(answer(&mut stdin), Some((4, WINDOW + 1, StdinState::Closed)));
        assert_eq!((stdin.receive(3, Vec::new(), true), stdin.given_bytes()), (vec![], Some(1)));
        for (mut stdin, state) in [(Stdin::none(), StdinState::Closed), (Stdin::lost(), StdinState::Lost)] {
            assert_eq!(stdin.receive(0, b"abc".to_vec(), true), []);
            assert_eq!(answer(&mut stdin), Some((0, WINDOW, state)));
            assert_eq!(stdin.given_bytes(), None);
        }
    }
}
