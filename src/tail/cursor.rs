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
    /// From this byte on.
    pub(super) fn at(offset: u64) -> Self {
        Self {
            offset,
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
        *self = Self { size: Some(size), end, generation, is_download_refused, ..Self::at(0) };
        Shrank { from, to: size }
    }
}

#[cfg(test)]
mod tests;
