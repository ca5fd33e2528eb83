//! PURE: how far one file has been read, and what to ask for next.
//!
//! ```text
//!            sized: there is more              much more, from near the beginning
//!   More ---------------------------> Read --------------------------------------> Download
//!     ^  <--------------------------   | ^  <---------------------------------------'
//!     |   a short answer, all is read  | |  the end of the body, whole or cut
//!     |                                v |
//!     |                              Settle   the record promised bytes that are not there yet
//!     `---- until the task has ended; then, with nothing left: Done
//! ```
//!
//! The offset moves only by bytes that were really received, so whatever breaks on the way, the next request begins at the first
//! byte that is missing. Sizes come from listings and are compared with the offset *at the time of asking*: while the answer
//! travelled, reads may have gone beyond it.
//!
//! A file that is smaller than what was read of it was truncated or replaced. It is then followed from its beginning, and the caller
//! is told. (Bytes that a log rotation moved to `stdout.1` are not looked for.) Mesos up to 1.0 says the size on reads beyond the
//! end, later versions only echo the offset, so mostly the listing shows it.

use bytes::Bytes;

use super::files;

/// One file's position.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    /// The next byte that is wanted.
    offset: u64,
    /// As far as known; `None` while no listing had the file.
    size: Option<u64>,
    end: End,
    /// Counts truncations: an answer to a question from before one says nothing.
    generation: u32,
    /// The last answer was full, so there may be more than `size`.
    may_have_more: bool,
    /// Reads in a row that brought nothing although there should be something.
    dry_reads: u32,
    /// The last download brought nothing.
    is_download_useless: bool,
    /// The agent does not offer downloads.
    is_download_refused: bool,
}

/// When nothing more will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not known.
    Open,
    /// At this byte, says the executor.
    At(u64),
    /// At the size of the last listing, or wherever reading ends before.
    AtSize,
}

/// What to do for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Nothing, until [`Cursor::sized`] tells of more.
    More,
    /// Read at most [`READ_BYTES`].
    Read(Place),
    /// Download the whole file and pass it through [`Cursor::downloaded`].
    Download(Place),
    /// Wait a little, then read: the bytes may be on their way to the file.
    Settle(Place),
    /// Nothing, ever; [`Cursor::missing`] says whether that is good.
    Done,
}

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The first byte that is asked for.
    pub(super) offset: u64,
    generation: u32,
}

/// What an answer meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The next bytes of the file.
    Data(Bytes),
    /// Nothing there.
    Dry,
    /// The file shrank; it is followed from its beginning.
    Shrank(Shrank),
    /// Nothing: it belongs to before a truncation.
    Stale,
    /// Nothing: its bytes begin elsewhere than asked.
    Misplaced,
}

/// A file that is smaller than what was read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shrank {
    /// Bytes that were read.
    pub(super) from: u64,
    /// Bytes that are there.
    pub(super) to: u64,
}

/// All that Mesos gives at once (16 pages of 4 KiB).
pub(super) const READ_BYTES: u64 = 64 << 10;

/// From here on one download is cheaper than many reads: 16 of them take some 60 ms on a real agent.
const DOWNLOAD_MIN_BYTES: u64 = 1 << 20;

/// A download begins at byte 0 always. It brings bytes 6 to 100 times faster than reads do, so it pays even when this many
/// times the wanted bytes come before them. It also bounds the waste: a file that grows faster than reads can follow is
/// downloaded at sizes that grow by a quarter each, all in all five times its length.
const DOWNLOAD_MAX_WASTE: u64 = 4;

/// Two pauses of half a second, as after an end of which no size is known.
const MAX_DRY_READS: u32 = 3;

impl Cursor {
    pub(super) fn new() -> Self {
        Self {
            offset: 0,
            size: None,
            end: End::Open,
            generation: 0,
            may_have_more: false,
            dry_reads: 0,
            is_download_useless: false,
            is_download_refused: false,
        }
    }

    /// Where the next request would begin; to be taken before a listing is asked for.
    pub(super) fn place(&self) -> Place {
        Place { offset: self.offset, generation: self.generation }
    }

    /// What to do next.
    pub(super) fn want(&self) -> Want {
        let (goal, place) = (self.goal(), self.place());
        let backlog = goal.saturating_sub(self.offset);
        if backlog == 0 {
            return match self.end {
                End::Open if self.may_have_more => Want::Read(place),
                End::Open => Want::More,
                End::At(_) | End::AtSize => Want::Done,
            };
        }
        if self.dry_reads >= MAX_DRY_READS {
            return Want::Done;
        }
        if self.dry_reads > 0 {
            return Want::Settle(place);
        }
        let pays = backlog >= DOWNLOAD_MIN_BYTES && self.offset <= backlog.saturating_mul(DOWNLOAD_MAX_WASTE);
        if pays && !self.is_download_useless && !self.is_download_refused {
            Want::Download(place)
        } else {
            Want::Read(place)
        }
    }

    /// A listing that was asked for at `asked_at` shows the file with `size`, or not at all.
    pub(super) fn sized(&mut self, size: Option<u64>, asked_at: Place) -> Option<Shrank> {
        if asked_at.generation != self.generation {
            return None;
        }
        let size = match size {
            Some(size) if size < asked_at.offset => return Some(self.restart(size)),
            Some(size) => Some(size.max(self.offset)),
            // Not listed before its first byte, or removed: what was read stays read.
            None if self.offset == 0 => None,
            None => Some(self.offset),
        };
        self.size = size;
        None
    }

    /// A read that was asked for at `asked_at` was answered.
    pub(super) fn answered(&mut self, asked_at: Place, read: files::Read) -> Answer {
        if asked_at != self.place() {
            return Answer::Stale;
        }
        if read.data.is_empty() {
            if read.offset < self.offset {
                return Answer::Shrank(self.restart(read.offset));
            }
            self.dry();
            return Answer::Dry;
        }
        if read.offset != self.offset {
            return Answer::Misplaced;
        }
        self.advance(read.data.len() as u64);
        self.may_have_more = read.data.len() as u64 >= READ_BYTES;
        Answer::Data(read.data)
    }

    /// The part of a download's `chunk` that is new; `position` is where the chunk begins in the file and is moved to its end.
    /// `None` when the file was truncated meanwhile: the rest of the download is of no use.
    pub(super) fn downloaded(&mut self, asked_at: Place, position: &mut u64, mut chunk: Bytes) -> Option<Bytes> {
        if asked_at.generation != self.generation {
            return None;
        }
        let known = self.offset.saturating_sub(*position).min(chunk.len() as u64);
        *position += chunk.len() as u64;
        let new = chunk.split_off(usize::try_from(known).expect("no longer than the chunk"));
        self.advance(new.len() as u64);
        Some(new)
    }

    /// The download is over, whole, cut or failed.
    pub(super) fn download_ended(&mut self, asked_at: Place) {
        if asked_at.generation == self.generation {
            self.is_download_useless = self.offset == asked_at.offset;
            // It was a while ago that the size was seen.
            self.may_have_more = !self.is_download_useless;
        }
    }

    /// The agent does not offer downloads: only read from now on.
    pub(super) fn download_refused(&mut self) {
        self.is_download_refused = true;
    }

    /// The task has ended; its executor says that the file has `bytes`.
    ///
    /// A file that is known to be larger proves the number wrong (somebody else wrote to the file, too); then the end is not known.
    pub(super) fn ended(&mut self, bytes: Option<u64>) {
        match bytes {
            Some(bytes) if bytes >= self.offset.max(self.size.unwrap_or(0)) => self.end = End::At(bytes),
            _ => {}
        }
    }

    /// Whether listings must show where the file ends.
    pub(super) fn is_open(&self) -> bool {
        self.end == End::Open
    }

    /// Nothing will be written any more: the file ends where the last listing says.
    pub(super) fn close(&mut self) {
        if self.end == End::Open {
            self.end = End::AtSize;
        }
    }

    /// Bytes that are known to be unread.
    pub(super) fn missing(&self) -> Option<u64> {
        match (self.end, self.size) {
            (End::Open, None) => None,
            _ => Some(self.goal().saturating_sub(self.offset)),
        }
    }

    /// Passes over all bytes that are known to be there, because nobody wants them; says how many.
    pub(super) fn discard(&mut self) -> u64 {
        let count = self.goal().saturating_sub(self.offset);
        self.advance(count);
        self.may_have_more = false;
        count
    }

    fn goal(&self) -> u64 {
        match self.end {
            End::At(bytes) => bytes,
            End::Open | End::AtSize => self.size.unwrap_or(0),
        }
    }

    fn advance(&mut self, count: u64) {
        self.offset += count;
        self.size = self.size.max(Some(self.offset));
        if count > 0 {
            self.dry_reads = 0;
            self.is_download_useless = false;
        }
    }

    fn dry(&mut self) {
        self.may_have_more = false;
        match self.end {
            // The file shrank after it was listed; the next listing shows it.
            End::Open | End::AtSize => self.size = self.size.map(|_| self.offset),
            End::At(_) => self.dry_reads += 1,
        }
    }

    fn restart(&mut self, size: u64) -> Shrank {
        let from = self.offset;
        let (end, generation, is_download_refused) = (self.end, self.generation + 1, self.is_download_refused);
        *self = Self { size: Some(size), end, generation, is_download_refused, ..Self::new() };
        Shrank { from, to: size }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::OnceLock;

    use proptest::prelude::*;

    use super::*;

    fn read(offset: u64, data: &[u8]) -> files::Read {
        files::Read { data: Bytes::copy_from_slice(data), offset }
    }

    /// A cursor that has read `offset` bytes of a file and knows of `size`.
    fn cursor(offset: u64, size: u64) -> Cursor {
        Cursor { offset, size: Some(size), ..Cursor::new() }
    }

    fn sized(cursor: &mut Cursor, size: u64) -> Option<Shrank> {
        cursor.sized(Some(size), cursor.place())
    }

    fn answered(cursor: &mut Cursor, offset: u64, data: &[u8]) -> Answer {
        cursor.answered(cursor.place(), read(offset, data))
    }

    #[test]
    fn nothing_is_asked_before_a_listing_shows_bytes() {
        let mut cursor = Cursor::new();
        assert_eq!(cursor.want(), Want::More);
        cursor.sized(None, cursor.place());
        assert_eq!((cursor.want(), cursor.missing()), (Want::More, None));
        sized(&mut cursor, 0);
        assert_eq!((cursor.want(), cursor.missing()), (Want::More, Some(0)));
        sized(&mut cursor, 1);
        assert_eq!((cursor.want(), cursor.missing()), (Want::Read(cursor.place()), Some(1)));
    }

    #[test]
    fn offset_moves_by_the_bytes_received() {
        let mut cursor = cursor(5, 20);
        assert_eq!(answered(&mut cursor, 5, b"abc"), Answer::Data("abc".into()));
        assert_eq!(cursor.want(), Want::Read(Place { offset: 8, generation: 0 }));
    }

    #[test]
    fn full_answer_is_followed_by_another_read_without_a_listing() {
        let mut cursor = cursor(0, READ_BYTES);
        answered(&mut cursor, 0, &vec![0; READ_BYTES as usize]);
        assert_eq!(cursor.want(), Want::Read(cursor.place()));
        answered(&mut cursor, READ_BYTES, b"rest");
        assert_eq!(cursor.want(), Want::More);
    }

    #[test]
    fn end_of_file_is_understood_from_old_and_new_agents() {
        let mut old = cursor(5, 7);
        assert_eq!(answered(&mut old, 5, b""), Answer::Dry, "Mesos up to 1.0: the size, which is the offset");
        assert_eq!(old.want(), Want::More);
        let mut new = cursor(5, 7);
        assert_eq!(answered(&mut new, 5, b""), Answer::Dry, "from 1.1: the offset that was asked for");
        assert_eq!(new.want(), Want::More);
    }

    #[test]
    fn shrunken_file_is_seen_in_a_listing_and_in_the_answer_of_an_old_agent() {
        let mut listed = cursor(10, 10);
        assert_eq!(sized(&mut listed, 4), Some(Shrank { from: 10, to: 4 }));
        assert_eq!(listed.want(), Want::Read(Place { offset: 0, generation: 1 }));
        let mut answered_short = cursor(10, 12);
        assert_eq!(answered(&mut answered_short, 4, b""), Answer::Shrank(Shrank { from: 10, to: 4 }));
        assert_eq!(answered_short.want(), Want::Read(Place { offset: 0, generation: 1 }));
    }

    #[test]
    fn listing_from_before_a_read_is_no_truncation() {
        let mut cursor = cursor(0, 10);
        let asked_at = cursor.place();
        answered(&mut cursor, 0, b"more than ten bytes");
        assert_eq!(cursor.sized(Some(10), asked_at), None);
        assert_eq!(cursor.want(), Want::More);
    }

    #[test]
    fn answers_from_before_a_truncation_are_dropped() {
        let mut cursor = cursor(10, 20);
        let before = cursor.place();
        sized(&mut cursor, 4);
        assert_eq!(cursor.answered(before, read(10, b"old")), Answer::Stale);
        assert_eq!(cursor.sized(Some(2), before), None);
        assert_eq!(cursor.downloaded(before, &mut 0, "old".into()), None);
        assert_eq!(cursor.place().offset, 0);
    }

    #[test]
    fn answer_that_begins_elsewhere_is_refused() {
        let mut cursor = cursor(5, 20);
        assert_eq!(answered(&mut cursor, 4, b"abc"), Answer::Misplaced);
        assert_eq!(cursor.place().offset, 5);
    }

    #[test]
    fn download_is_used_for_a_large_backlog_near_the_beginning_only() {
        const MIB: u64 = 1 << 20;
        assert!(matches!(cursor(0, MIB - 1).want(), Want::Read(_)));
        assert!(matches!(cursor(0, MIB).want(), Want::Download(_)));
        assert!(matches!(cursor(4 * MIB, 5 * MIB).want(), Want::Download(_)));
        assert!(matches!(cursor(5 * MIB, 6 * MIB).want(), Want::Read(_)));
        assert!(matches!(cursor(5 * MIB, u64::MAX).want(), Want::Download(_)));
    }

    #[test]
    fn download_is_skipped_up_to_the_offset() {
        let mut cursor = cursor(4, 3 << 20);
        let (asked_at, mut position) = (cursor.place(), 0);
        let mut chunk = |text: &'static str| cursor.downloaded(asked_at, &mut position, text.into());
        assert_eq!(chunk("012"), Some("".into()));
        assert_eq!(chunk("345"), Some("45".into()));
        assert_eq!(chunk("67"), Some("67".into()));
        assert_eq!(cursor.place().offset, 8);
    }

    #[test]
    fn download_that_brings_nothing_is_followed_by_reads_until_something_came() {
        let mut cursor = cursor(0, 9 << 20);
        cursor.download_ended(cursor.place());
        assert!(matches!(cursor.want(), Want::Read(_)));
        answered(&mut cursor, 0, b"x");
        assert!(matches!(cursor.want(), Want::Download(_)));
    }

    #[test]
    fn agent_without_downloads_is_only_read() {
        let mut cursor = cursor(0, 9 << 20);
        cursor.download_refused();
        answered(&mut cursor, 0, b"x");
        assert!(matches!(cursor.want(), Want::Read(_)));
        sized(&mut cursor, 0);
        sized(&mut cursor, 9 << 20);
        assert!(matches!(cursor.want(), Want::Read(_)));
    }

    #[test]
    fn recorded_size_is_read_to_the_byte_without_any_listing() {
        let mut cursor = Cursor::new();
        cursor.ended(Some(3));
        assert!(!cursor.is_open());
        assert_eq!((cursor.want(), cursor.missing()), (Want::Read(cursor.place()), Some(3)));
        answered(&mut cursor, 0, b"abc");
        assert_eq!((cursor.want(), cursor.missing()), (Want::Done, Some(0)));
    }

    #[test]
    fn empty_file_needs_no_request() {
        let mut cursor = Cursor::new();
        cursor.ended(Some(0));
        assert_eq!(cursor.want(), Want::Done);
    }

    #[test]
    fn recorded_size_that_is_too_small_is_not_believed() {
        let mut cursor = cursor(0, 4);
        cursor.ended(Some(3));
        assert!(cursor.is_open());
    }

    #[test]
    fn promised_bytes_that_do_not_come_are_waited_for_and_then_counted() {
        let mut cursor = Cursor::new();
        cursor.ended(Some(5));
        answered(&mut cursor, 0, b"abc");
        for _ in 0..2 {
            answered(&mut cursor, 3, b"");
            assert_eq!(cursor.want(), Want::Settle(cursor.place()));
        }
        answered(&mut cursor, 3, b"");
        assert_eq!((cursor.want(), cursor.missing()), (Want::Done, Some(2)));
    }

    #[test]
    fn promised_bytes_that_come_late_are_taken() {
        let mut cursor = Cursor::new();
        cursor.ended(Some(5));
        answered(&mut cursor, 0, b"");
        answered(&mut cursor, 0, b"abc");
        assert_eq!(cursor.want(), Want::Read(cursor.place()));
        answered(&mut cursor, 3, b"de");
        assert_eq!(cursor.want(), Want::Done);
    }

    #[test]
    fn file_of_unknown_end_is_done_at_the_last_listing() {
        let mut cursor = cursor(0, 2);
        cursor.ended(None);
        assert!(cursor.is_open());
        answered(&mut cursor, 0, b"ab");
        sized(&mut cursor, 3);
        cursor.close();
        assert!(matches!(cursor.want(), Want::Read(_)));
        answered(&mut cursor, 2, b"c");
        assert_eq!((cursor.want(), cursor.missing()), (Want::Done, Some(0)));
    }

    #[test]
    fn file_that_never_was_is_done_at_the_end() {
        let mut cursor = Cursor::new();
        cursor.ended(None);
        cursor.close();
        assert_eq!((cursor.want(), cursor.missing()), (Want::Done, Some(0)));
    }

    #[test]
    fn discarded_bytes_are_counted_and_not_asked_for() {
        let mut cursor = cursor(2, 10);
        assert_eq!(cursor.discard(), 8);
        assert_eq!(cursor.want(), Want::More);
        cursor.ended(Some(12));
        assert_eq!(cursor.discard(), 2);
        assert_eq!(cursor.want(), Want::Done);
    }

    /// What the world does between two requests.
    #[derive(Debug, Clone)]
    enum Step {
        Grow(usize),
        List,
        /// Serves what the cursor wants, cutting the answer to a share of it.
        Serve(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            prop_oneof![0..2000_usize, 0..3_000_000_usize].prop_map(Step::Grow),
            Just(Step::List),
            any::<prop::sample::Index>().prop_map(Step::Serve),
        ];
        prop::collection::vec(step, 0..60)
    }

    /// Noise, of which every file is a prefix: a shifted or repeated piece shows.
    fn noise() -> &'static [u8] {
        static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
        NOISE.get_or_init(|| {
            let mut noise = vec![0; 16 << 20];
            fastrand::Rng::with_seed(1).fill(&mut noise);
            noise
        })
    }

    /// Serves what the cursor wants from a file; `share` of the answer arrives. Returns what was received.
    fn serve(cursor: &mut Cursor, file: &'static [u8], share: Option<prop::sample::Index>) -> Vec<Bytes> {
        let cut = |length: usize| share.map_or(length, |share| share.index(length + 1));
        match cursor.want() {
            Want::More | Want::Done => vec![],
            Want::Read(place) | Want::Settle(place) => {
                let from = (place.offset as usize).min(file.len());
                let upto = file.len().min(from + READ_BYTES as usize);
                let data = Bytes::from_static(&file[from..from + cut(upto - from)]);
                match cursor.answered(place, files::Read { data, offset: place.offset }) {
                    Answer::Data(data) => vec![data],
                    _ => vec![],
                }
            }
            Want::Download(place) => {
                let (mut position, mut received) = (0, Vec::new());
                for chunk in file[..cut(file.len())].chunks(100_000) {
                    received.push(cursor.downloaded(place, &mut position, Bytes::from_static(chunk)).unwrap());
                }
                cursor.download_ended(place);
                received
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_breaks_every_byte_arrives_once_and_in_order(steps in steps(), is_recorded: bool) {
            let (mut file, mut received) = (&noise()[..0], 0);
            let mut receive = |pieces: Vec<Bytes>| {
                for piece in pieces {
                    assert!(piece == noise()[received..received + piece.len()], "after {received} bytes");
                    received += piece.len();
                }
                received
            };
            let mut cursor = Cursor::new();
            let mut asked_at = cursor.place();
            for step in steps {
                match step {
                    Step::Grow(count) => file = &noise()[..noise().len().min(file.len() + count)],
                    Step::List => {
                        // The answer to a question that was asked before the last steps.
                        prop_assert_eq!(cursor.sized(Some(file.len() as u64), asked_at), None);
                        asked_at = cursor.place();
                    }
                    Step::Serve(share) => { receive(serve(&mut cursor, file, Some(share))); },
                }
            }
            cursor.ended(is_recorded.then_some(file.len() as u64));
            if cursor.is_open() {
                cursor.sized(Some(file.len() as u64), cursor.place());
                cursor.close();
            }
            while cursor.want() != Want::Done {
                receive(serve(&mut cursor, file, None));
            }
            prop_assert_eq!(cursor.missing(), Some(0));
            prop_assert_eq!(receive(vec![]), file.len());
        }
    }
}
