//! The thread that writes one stream's pieces, in their order.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::{NOTED_BYTES, Piece, State, Trouble};

/// The thread's side.
pub(super) struct Writer {
    pub(super) fd: OwnedFd,
    /// Asked while it was there: a terminal that has hung up no longer says so.
    pub(super) is_terminal: bool,
    pub(super) inbox: mpsc::UnboundedReceiver<Piece>,
    pub(super) state: Arc<State>,
    /// The first piece has come.
    pub(super) has_begun: bool,
}

impl Writer {
    pub(super) fn run(mut self) {
        while let Some(piece) = self.inbox.blocking_recv() {
            match piece {
                Piece::Bytes { bytes, end, room } => {
                    // As many may wait as before this one was begun.
                    drop(room);
                    self.write(&bytes, end);
                }
                Piece::Own(text) => self.say(&text),
                // Who asked may have left.
                Piece::Flush(done) => drop(done.send(())),
            }
        }
    }

    /// Nobody can be told that our own words do not get out; the task's bytes find out for themselves.
    fn say(&self, mut rest: &[u8]) {
        let length = rest.len();
        while !rest.is_empty() {
            let Ok(count) = self.write_some(rest) else { break };
            rest = &rest[count..];
        }
        self.state.own_waiting.fetch_sub(length, Ordering::AcqRel);
    }

    fn write(&mut self, mut rest: &[u8], end: Option<u64>) {
        if self.state.trouble.get().is_none() {
            rest = self.without_unnoted(rest, end);
            while !rest.is_empty() {
                match self.write_next(rest) {
                    Ok(count) => {
                        let (taken, left) = rest.split_at(count);
                        if let Some(last) = taken.last() {
                            self.state.last_byte.store(*last, Ordering::Release);
                        }
                        self.state.written.fetch_add(count as u64, Ordering::AcqRel);
                        rest = left;
                        self.note(end, rest.len());
                    }
                    Err(trouble) => {
                        let _ = self.state.trouble.set(trouble);
                        break;
                    }
                }
            }
        }
        self.state.discarded.fetch_add(rest.len() as u64, Ordering::AcqRel);
    }

    /// What of the first piece is to be written, if its beginning is already there.
    fn without_unnoted<'a>(&mut self, rest: &'a [u8], end: Option<u64>) -> &'a [u8] {
        let Some(mark) = self.state.mark.get().filter(|_| !std::mem::replace(&mut self.has_begun, true)) else {
            return rest;
        };
        let Some(left) = rest.strip_prefix(mark.unnoted()) else { return rest };
        let count = rest.len() - left.len();
        self.state.written.fetch_add(count as u64, Ordering::AcqRel);
        self.note(end, left.len());
        left
    }

    /// Where it is noted what was delivered, pieces are small, and none is begun that the reader has no room for: in the middle of
    /// a write that waits, nobody knows how much of it was taken.
    fn write_next(&self, rest: &[u8]) -> Result<usize, Trouble> {
        if self.state.mark.get().is_none() {
            return self.write_some(rest);
        }
        self.wait_for_room()?;
        self.write_some(&rest[..rest.len().min(NOTED_BYTES)])
    }

    /// Not to be able to note it is no reason not to write on: somebody who continues from there repeats some bytes.
    fn note(&self, end: Option<u64>, left: usize) {
        if let (Some(mark), Some(end)) = (self.state.mark.get(), end)
            && let Err(error) = mark.store(end.saturating_sub(left as u64), &self.fd)
        {
            tracing::debug!(%error, "cannot note what was delivered");
        }
    }

    fn write_some(&self, bytes: &[u8]) -> Result<usize, Trouble> {
        loop {
            match rustix::io::write(&self.fd, bytes) {
                Ok(0) => return Err(self.failed("it takes no bytes")),
                Ok(count) => {
                    self.state.taken.fetch_add(count as u64, Ordering::AcqRel);
                    return Ok(count);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_for_room()?,
                Err(Errno::PIPE) => return Err(Trouble::ReaderLeft),
                // It hung up; a disk with this error has lost what was written.
                Err(Errno::IO) if self.is_terminal => return Err(Trouble::ReaderLeft),
                Err(errno) => return Err(self.failed(io::Error::from(errno))),
            }
        }
    }

    /// Somebody else (a parent, a program on the same terminal) made the descriptor non-blocking.
    fn wait_for_room(&self) -> Result<(), Trouble> {
        match poll(&mut [PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::OUT)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(self.failed(io::Error::from(errno))),
        }
    }

    fn failed(&self, why: impl std::fmt::Display) -> Trouble {
        Trouble::Failed(format!("cannot write {}: {why}", self.state.name))
    }
}
