//! Whose fate is open, when to ask the master about them, and what its "unknown" proves.
//!
//! The master answers an explicit RECONCILE for each task: its state, or that it does not know it, or (about agents that
//! it expects back) nothing at all; so the question is repeated with a growing pause until there is an answer that counts.
//!
//! "Unknown" has three meanings, and only one of them allows to launch again:
//! - *Never ran*: the subscription is still the one of the ACCEPT, so that the loss of the agent would have been told before;
//!   or the agent has been seen in this subscription, by an offer or an update, and so has joined with all it runs.
//! - *Over*: the subscription is another one, but the master process still is the one that took the ACCEPT. It would know a
//!   living task; this one never came to life, or was lost with its agent meanwhile.
//! - *Nothing*: the master may be new. It learns from its agents what runs, and one without a registry does not even know
//!   which agents to expect: until they have joined, it calls every task unknown.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::Time;
use super::task::Placement;

/// Number of a task in the order of `Add`.
pub(super) type TaskKey = u64;

/// Between the first question and its first repetition; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// Where doubling ends.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What it means that the master does not know a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Nothing,
    /// It does not run, but may have.
    Over,
    NeverRan,
}

#[derive(Debug)]
pub(super) struct Reconcile {
    open: BTreeSet<TaskKey>,
    unknown: BTreeSet<TaskKey>,
    next_at: Option<Time>,
    pause: Duration,
    /// Counts subscriptions.
    subscription: u32,
    master_id: Option<String>,
    /// The first subscription with this master process.
    master_since: u32,
    /// In this subscription.
    agents_seen: HashSet<String>,
}

impl Reconcile {
    pub(super) fn new() -> Self {
        Self {
            open: BTreeSet::new(),
            unknown: BTreeSet::new(),
            next_at: None,
            pause: FIRST_PAUSE,
            subscription: 0,
            master_id: None,
            master_since: 0,
            agents_seen: HashSet::new(),
        }
    }

    /// A subscription begins; masters say who they are from 1.1.
    pub(super) fn subscribed(&mut self, master_id: Option<&str>) {
        self.subscription += 1;
        self.agents_seen.clear();
        if master_id.is_none() || self.master_id.as_deref() != master_id {
            self.master_since = self.subscription;
            self.master_id = master_id.map(str::to_owned);
        }
    }

    /// The subscription ended: nothing can be asked.
    pub(super) fn disconnected(&mut self) {
        self.next_at = None;
    }

    /// Goes into the placement of what is launched now.
    pub(super) fn subscription(&self) -> u32 {
        self.subscription
    }

    /// The agent has joined this master: it offers, or sends an update. Whether that is new.
    pub(super) fn saw_agent(&mut self, agent_id: &str) -> bool {
        // In the first subscription nothing is left from an earlier one.
        let is_new = self.subscription > 1 && !self.agents_seen.contains(agent_id);
        if is_new {
            self.agents_seen.insert(agent_id.to_owned());
        }
        is_new
    }

    /// The agent has left again, and what it ran with it.
    pub(super) fn lost_agent(&mut self, agent_id: &str) {
        self.agents_seen.remove(agent_id);
    }

    /// Whether the master did not know it when it was asked.
    pub(super) fn awaits_agent(&self, key: TaskKey) -> bool {
        self.unknown.contains(&key)
    }

    /// What it means if the master does not know the task there.
    pub(super) fn proof(&self, placement: &Placement) -> Proof {
        if placement.subscription == self.subscription || self.agents_seen.contains(&placement.agent_id) {
            Proof::NeverRan
        } else if placement.subscription >= self.master_since {
            Proof::Over
        } else {
            Proof::Nothing
        }
    }

    /// Its fate is open; the question was just posted.
    pub(super) fn asked(&mut self, now: Time, key: TaskKey) {
        if self.open.insert(key) || self.next_at.is_none() {
            self.pause = FIRST_PAUSE;
            let next_at = now + FIRST_PAUSE;
            self.next_at = Some(self.next_at.map_or(next_at, |at| at.min(next_at)));
        }
    }

    /// The master does not know it, which proves nothing (yet).
    pub(super) fn is_unknown(&mut self, now: Time, key: TaskKey) {
        self.unknown.insert(key);
        self.asked(now, key);
    }

    /// Its fate is known.
    pub(super) fn settled(&mut self, key: TaskKey) {
        self.unknown.remove(&key);
        if self.open.remove(&key) && self.open.is_empty() {
            self.next_at = None;
        }
    }

    /// Offers show which agents have joined: let them come while there are tasks that wait for that.
    pub(super) fn wants_offers(&self) -> bool {
        !self.unknown.is_empty()
    }

    pub(super) fn open_tasks(&self) -> Vec<TaskKey> {
        self.open.iter().copied().collect()
    }

    /// When to call `round` at the latest.
    pub(super) fn due(&self) -> Option<Time> {
        self.next_at
    }

    /// The tasks to ask about now; empty: it is not yet time.
    pub(super) fn round(&mut self, now: Time) -> Vec<TaskKey> {
        if self.next_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        self.next_at = Some(now + self.pause);
        self.open.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::task::Doubt;

    const fn s(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    fn placement(subscription: u32) -> Placement {
        Placement {
            wire_id: "t".to_owned(),
            agent_id: "a".to_owned(),
            hostname: "h".to_owned(),
            offer_id: "o".to_owned(),
            subscription,
            doubt: Doubt::None,
            is_heard: false,
        }
    }

    #[test]
    fn questions_are_repeated_with_growing_pauses_until_settled() {
        let mut reconcile = Reconcile::new();
        assert_eq!(reconcile.due(), None);
        reconcile.asked(s(10), 1);
        let mut times = Vec::new();
        while let Some(due) = reconcile.due().filter(|_| times.len() < 8) {
            assert!(reconcile.round(due - Duration::from_millis(1)).is_empty());
            assert_eq!(reconcile.round(due), [1]);
            times.push(due.as_secs());
        }
        assert_eq!(times, [12, 16, 24, 40, 72, 132, 192, 252]);
        reconcile.asked(s(253), 2);
        reconcile.settled(1);
        assert_eq!(reconcile.round(s(255)), [2]);
        reconcile.settled(2);
        assert_eq!(reconcile.due(), None);
        reconcile.asked(s(500), 3);
        assert_eq!(reconcile.due(), Some(s(502)));
    }

    #[test]
    fn unknown_proves_most_in_the_subscription_of_the_accept_and_least_to_a_new_master() {
        for (before, after, expected) in [
            (Some("m1"), Some("m1"), Proof::Over),
            (Some("m1"), Some("m2"), Proof::Nothing),
            (None, None, Proof::Nothing),
            (Some("m1"), None, Proof::Nothing),
            (None, Some("m2"), Proof::Nothing),
        ] {
            let mut reconcile = Reconcile::new();
            reconcile.subscribed(before);
            let placement = placement(reconcile.subscription());
            assert_eq!(reconcile.proof(&placement), Proof::NeverRan);
            reconcile.saw_agent("a");
            reconcile.subscribed(after);
            assert_eq!(reconcile.proof(&placement), expected, "{before:?} {after:?}");
            reconcile.saw_agent("b");
            assert_eq!(reconcile.proof(&placement), expected);
            reconcile.saw_agent("a");
            assert_eq!(reconcile.proof(&placement), Proof::NeverRan);
            reconcile.lost_agent("a");
            assert_eq!(reconcile.proof(&placement), expected);
        }
    }

    #[test]
    fn offers_are_wanted_while_a_task_is_unknown() {
        let mut reconcile = Reconcile::new();
        reconcile.asked(s(0), 1);
        assert!(!reconcile.wants_offers());
        reconcile.is_unknown(s(1), 1);
        assert!(reconcile.wants_offers());
        reconcile.settled(1);
        assert!(!reconcile.wants_offers());
    }
}
