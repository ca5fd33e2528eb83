//! The thread that writes one stream's pieces, in their order.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::dress::Dress;
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
    /// What is done to lines; known once the first piece has come.
    pub(super) dress: Option<Dress>,
    /// The terminal or pipe gets nothing: nobody wants it there, or its reader left while a file still takes all.
    pub(super) is_mute: bool,
}

impl Writer {
    pub(super) fn run(mut self) {
        while let Some(piece) = self.inbox.blocking_recv() {
            match piece {
                Piece::Bytes { bytes, end, room } => {
                    // As many may wait as before this one was begun.
                    drop(room);
                    let is_first = !std::mem::replace(&mut self.has_begun, true);
                    if is_first {
                        self.begin();
                    }
                    self.write(&bytes, end, is_first);
                }
                Piece::Own(text) => self.say(&text),
                // Who asked may have left.
                Piece::Flush(done) => {
                    self.write_held();
                    let _ = done.send(());
                }
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

    /// By the first piece it is settled what is wanted of the stream.
    fn begin(&mut self) {
        if let Some(manner) = self.state.manner.get() {
            self.dress = Dress::new(manner.shape.clone());
            self.is_mute = manner.is_mute;
        }
    }

    fn write(&mut self, mut rest: &[u8], end: Option<u64>, is_first: bool) {
        if self.state.trouble.get().is_none() {
            if is_first {
                rest = self.without_unnoted(rest, end);
            }
            if let Err(trouble) = self.copy(rest).and_then(|()| self.write_all(&mut rest, end)) {
                let _ = self.state.trouble.set(trouble);
            }
        }
        self.state.discarded.fetch_add(rest.len() as u64, Ordering::AcqRel);
    }

    /// The file that gets the same bytes comes first: it never waits for a reader.
    fn copy(&self, bytes: &[u8]) -> Result<(), Trouble> {
        match self.state.manner.get().and_then(|manner| manner.copy.as_ref()) {
            Some((path, file)) => {
                (&*file).write_all(bytes).map_err(|error| Trouble::Failed(format!("cannot write {path:?}: {error}")))
            }
            None => Ok(()),
        }
    }

    /// Takes from `rest` what was written.
    fn write_all(&mut self, rest: &mut &[u8], end: Option<u64>) -> Result<(), Trouble> {
        while !rest.is_empty() {
            let count = if self.is_mute {
                rest.len()
            } else if self.dress.is_some() {
                rest.len().min(NOTED_BYTES)
            } else {
                match self.write_next(rest) {
                    Ok(count) => count,
                    Err(trouble) => {
                        self.outlive(trouble)?;
                        continue;
                    }
                }
            };
            let (taken, left) = rest.split_at(count);
            if self.dress.is_some() && !self.is_mute {
                self.write_dressed(taken)?;
            } else {
                self.took(taken, taken.len());
            }
            *rest = left;
            let held = self.dress.as_ref().map_or(0, Dress::held_count);
            self.note(end, left.len() + held);
        }
        Ok(())
    }

    fn took(&self, bytes: &[u8], count: usize) {
        if let Some(last) = bytes.last() {
            self.state.last_byte.store(*last, Ordering::Release);
        }
        self.state.written.fetch_add(count as u64, Ordering::AcqRel);
    }

    /// Bytes that wait for the end of their line count as written when they are.
    fn write_dressed(&mut self, taken: &[u8]) -> Result<(), Trouble> {
        let Some(dress) = &mut self.dress else { return Ok(()) };
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let before = dress.held_count();
        let out = dress.next(taken, &now);
        let count = before + taken.len() - dress.held_count();
        if let Err(trouble) = self.write_together(&out) {
            // What was held is lost with it.
            self.state.discarded.fetch_add(before as u64, Ordering::AcqRel);
            self.dress = None;
            return self.outlive(trouble).map(|()| self.took(&[], taken.len()));
        }
        self.took(&out, count);
        Ok(())
    }

    /// The task is over, or our own words follow: what waits for the end of its line is written as it is.
    fn write_held(&mut self) {
        let Some(dress) = self.dress.as_mut().filter(|dress| dress.held_count() > 0) else { return };
        let count = dress.held_count();
        let out = dress.end();
        match self.write_together(&out) {
            Ok(()) => self.took(&out, count),
            Err(trouble) => {
                self.state.discarded.fetch_add(count as u64, Ordering::AcqRel);
                if let Err(trouble) = self.outlive(trouble) {
                    let _ = self.state.trouble.set(trouble);
                }
            }
        }
    }

    /// Whole lines of one stream are not mixed with those of the other where both go to the same place.
    fn write_together(&self, mut rest: &[u8]) -> Result<(), Trouble> {
        let turn = self.state.manner.get().and_then(|manner| manner.turn.as_ref());
        let _turn = turn.map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
        while !rest.is_empty() {
            let count = self.write_some(rest)?;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// A file that takes all outlives the reader of the pipe.
    fn outlive(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        let has_copy = self.state.manner.get().is_some_and(|manner| manner.copy.is_some());
        if trouble != Trouble::ReaderLeft || !has_copy {
            return Err(trouble);
        }
        self.is_mute = true;
        Ok(())
    }

    /// What of the first piece is to be written, if its beginning is already there.
    fn without_unnoted<'a>(&self, rest: &'a [u8], end: Option<u64>) -> &'a [u8] {
        let Some(mark) = self.state.mark.get() else { return rest };
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
