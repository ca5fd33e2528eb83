//! The sending end of a task's standard input. PURE.
//!
//! Parts travel in messages that may be lost, doubled or overtaken, through masters and agents that may be away for a while. The
//! task's executor answers each with how far it is ([`StdinProgress`]); what it has not got after a while is sent again.
//!
//! ```text
//!   waiting --Running--> greeting --the first answer--> flowing --> over: complete, closed by the task, or lost
//!                           `--nobody answers-------------------------------> over: silent
//! ```
//!
//! Nothing is read before the first answer. Between two and three windows are held at most, counting what is on its way.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use proto::record::{StdinProgress, StdinState};

use crate::scheduler::Time;

/// What the sender is told.
#[derive(Debug)]
pub enum Input {
    /// The task runs.
    Running,
    /// More of the input.
    Bytes(Vec<u8>),
    /// There is no more.
    End,
    /// Its executor's word.
    Told(StdinProgress),
    /// `next_timeout` has passed.
    Tick,
}

/// Goes to the executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Of the first byte.
    pub offset: u64,
    /// Perhaps none: a question.
    pub bytes: Vec<u8>,
    /// Whether the input ends behind it.
    pub is_last: bool,
}

/// How it came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The container got all of it.
    Complete,
    /// The container takes no more.
    Closed,
    /// The container may have got a part of it, and took that for all.
    Lost,
    /// The task's executor does not answer.
    Silent,
}

/// Feed `handle`, send the parts, come back by `next_timeout`.
#[derive(Debug)]
pub struct Sender {
    state: State,
    /// From `acknowledged` on.
    buffer: BytesMut,
    /// The offset behind the last byte, once that is known.
    end: Option<u64>,
    acknowledged: u64,
    sent: u64,
    limit: u64,
    /// After a silence one part goes first, until something is heard.
    is_probing: bool,
    retry_at: Option<Time>,
    retry_after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Greeting { questions: u32 },
    Flowing,
    Over(Over),
}

impl Sender {
    /// Of a task that does not run yet.
    pub fn new() -> Self {
        Self {
            state: State::Waiting,
            buffer: BytesMut::new(),
            end: None,
            acknowledged: 0,
            sent: 0,
            limit: 0,
            is_probing: false,
            retry_at: None,
            retry_after: RETRY_MIN,
        }
    }

    /// Takes one input; what to send comes back in order. `is_reachable`: whether the executor can be sent anything at all now;
    /// while it cannot, nothing is counted as an attempt.
    pub fn handle(&mut self, now: Time, is_reachable: bool, input: Input) -> Vec<Part> {
        match input {
            Input::Running if self.state == State::Waiting => {
                self.state = State::Greeting { questions: 0 };
                self.retry_at = Some(now);
            }
            Input::Running | Input::Tick => {}
            Input::Bytes(bytes) => self.buffer.extend_from_slice(&bytes),
            Input::End => self.end = Some(self.read()),
            Input::Told(progress) => self.told(now, progress),
        }
        let is_due = self.retry_at.is_some_and(|at| at <= now);
        if !is_reachable {
            if is_due {
                self.retry_at = Some(now + RETRY_MIN);
            }
            return Vec::new();
        }
        match self.state {
            State::Greeting { questions } if is_due && questions == QUESTIONS => {
                self.state = State::Over(Over::Silent);
                Vec::new()
            }
            State::Greeting { questions } if is_due => {
                self.state = State::Greeting { questions: questions + 1 };
                self.retry_at = Some(now + QUESTION_PAUSE);
                vec![Part { offset: 0, bytes: Vec::new(), is_last: false }]
            }
            State::Flowing => self.flow(now, is_due),
            State::Waiting | State::Greeting { .. } | State::Over(_) => Vec::new(),
        }
    }

    /// Whether more of the input may be read.
    pub fn wants_bytes(&self) -> bool {
        self.state == State::Flowing && self.end.is_none() && self.buffer.len() < BUFFER
    }

    /// Whether the executor has answered, and not yet that it is over.
    pub fn is_flowing(&self) -> bool {
        self.state == State::Flowing
    }

    /// How it ended, once it has.
    pub fn over(&self) -> Option<Over> {
        match self.state {
            State::Over(over) => Some(over),
            State::Waiting | State::Greeting { .. } | State::Flowing => None,
        }
    }

    /// When to call `handle` with `Tick` at the latest.
    pub fn next_timeout(&self) -> Option<Time> {
        self.retry_at.filter(|_| self.over().is_none())
    }

    fn told(&mut self, now: Time, progress: StdinProgress) {
        match self.state {
            State::Greeting { .. } => {
                self.state = State::Flowing;
                self.retry_at = None;
            }
            State::Flowing => {}
            State::Waiting | State::Over(_) => return,
        }
        let over = match progress.state {
            StdinState::Open => None,
            StdinState::Complete => Some(Over::Complete),
            StdinState::Closed => Some(Over::Closed),
            StdinState::Lost => Some(Over::Lost),
        };
        if let Some(over) = over {
            self.state = State::Over(over);
            self.buffer = BytesMut::new();
            return;
        }
        let was = (self.acknowledged, self.limit);
        // What nobody has sent cannot have come.
        let received = progress.received.min(self.end.map_or(self.read(), |end| end + 1));
        if received > self.acknowledged {
            let bytes = usize::try_from(received - self.acknowledged).unwrap_or(usize::MAX);
            self.buffer.advance(bytes.min(self.buffer.len()));
            self.acknowledged = received;
            self.sent = self.sent.max(received);
        }
        self.limit = self.limit.max(progress.limit);
        self.is_probing = false;
        // A task that takes nothing is asked ever less often.
        if (self.acknowledged, self.limit) != was {
            self.retry_after = RETRY_MIN;
        }
        if self.retry_at.is_some() {
            self.retry_at = Some(now + self.retry_after);
        }
    }

    fn flow(&mut self, now: Time, is_due: bool) -> Vec<Part> {
        let mut parts = Vec::new();
        if is_due {
            self.sent = self.acknowledged;
            self.is_probing = true;
            self.retry_after = (self.retry_after * 2).min(RETRY_MAX);
            self.retry_at = None;
            let part = self.next_part().unwrap_or(Part { offset: self.sent, bytes: Vec::new(), is_last: false });
            self.sent_part(&part);
            parts.push(part);
        }
        while !self.is_probing
            && let Some(part) = self.next_part()
        {
            self.sent_part(&part);
            parts.push(part);
        }
        let is_idle = self.buffer.is_empty() && self.end.is_none();
        if is_idle {
            self.retry_at = None;
        } else {
            // Where nothing is on its way, room for more or the end of all is what is waited for.
            self.retry_at.get_or_insert(now + self.retry_after);
        }
        parts
    }

    /// Behind the last byte that was read; wrong once the end is acknowledged, which counts as one.
    fn read(&self) -> u64 {
        self.acknowledged + self.buffer.len() as u64
    }

    fn sent_part(&mut self, part: &Part) {
        self.sent += part.bytes.len() as u64 + u64::from(part.is_last);
    }

    /// A small part waits while others are on their way, for more to go with it.
    fn next_part(&self) -> Option<Part> {
        if self.sent > self.end.unwrap_or(u64::MAX) {
            return None;
        }
        let start = usize::try_from(self.sent - self.acknowledged).unwrap_or(usize::MAX);
        let room = usize::try_from(self.limit.saturating_sub(self.sent)).unwrap_or(usize::MAX);
        let length = (self.buffer.len() - start).min(room).min(PART);
        let is_last = self.end.is_some() && start + length == self.buffer.len();
        let is_small = length < PART && self.end.is_none() && self.sent > self.acknowledged;
        if !is_last && (length == 0 || is_small) {
            return None;
        }
        Some(Part { offset: self.sent, bytes: self.buffer[start..start + length].to_vec(), is_last })
    }
}

/// Small beside what masters take, large beside what surrounds each.
const PART: usize = 128 << 10;
/// What is on its way, and what is read ahead.
const BUFFER: usize = 2 << 20;
/// Two messages through master and agent take milliseconds.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// An executor that says that its task runs answers at once.
const QUESTIONS: u32 = 5;
const QUESTION_PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
