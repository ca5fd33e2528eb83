//! Who waits for an offer, which of them fit into one, and whether the master should send any.
//!
//! Tasks with the same need wait in one line (a *shape*), so that an offer costs as many comparisons as there are shapes,
//! however many tasks wait. No offer is ever held: what does not fit is declined in the same breath.
//!
//! A decline hides from us, for a while, what that agent has, as long as it is not more than what was declined (Mesos
//! filters subsets). So a bigger offer comes at once, whatever the filter; and whenever the need changes, REVIVE drops all
//! filters. When nobody waits, SUPPRESS stops the offers; masters before 0.25 have none, there a long filter does it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use proto::mesos::{OfferId, Resource};
use proto::resources::Resources;

use super::Time;
use super::placement::{Agent, Terms};
use super::reconcile::TaskKey;

/// The filter on what does not fit now: Mesos' own default. Other frameworks get their turn.
pub(super) const REFUSE_WHILE_WAITING: Duration = Duration::from_secs(5);

/// The filter on what comes while nobody waits.
pub(super) const REFUSE_WHILE_IDLE: Duration = Duration::from_secs(3600);

/// While tasks wait and no offer comes at all, REVIVE is repeated: no lost message may starve them.
const REVIVE_AGAIN: Duration = Duration::from_secs(30);

/// Before a call about offers is repeated that failed; doubles.
const FIRST_REPEAT: Duration = Duration::from_millis(500);

/// Where doubling ends.
const LAST_REPEAT: Duration = Duration::from_secs(15);

/// Index of a shape in the queue.
pub(super) type ShapeId = usize;

/// The waiting tasks, in the order of `Add` within each shape and, as far as they fit, across shapes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    shapes: Vec<Shape>,
    by_need: HashMap<Vec<Vec<u8>>, ShapeId>,
    latest: Option<(Vec<Resource>, Terms, ShapeId)>,
    /// The first of each line.
    fronts: BTreeMap<TaskKey, ShapeId>,
}

#[derive(Debug)]
struct Shape {
    need: Resources,
    terms: Terms,
    waiting: BTreeSet<TaskKey>,
}

impl Queue {
    /// Where tasks with this need wait.
    pub(super) fn shape(&mut self, need: &[Resource], terms: &Terms) -> ShapeId {
        // The tasks of a batch come one after the other and are alike.
        if let Some((latest, latest_terms, shape)) = &self.latest
            && latest == need
            && latest_terms == terms
        {
            return *shape;
        }
        let mut key: Vec<Vec<u8>> = need.iter().map(prost::Message::encode_to_vec).collect();
        key.push(terms.key());
        let shape = *self.by_need.entry(key).or_insert_with(|| {
            self.shapes.push(Shape { need: Resources::from(need), terms: terms.clone(), waiting: BTreeSet::new() });
            self.shapes.len() - 1
        });
        self.latest = Some((need.to_vec(), terms.clone(), shape));
        shape
    }

    /// Whether it is the first of its line, which means that offers declined so far may fit.
    pub(super) fn push(&mut self, key: TaskKey, shape: ShapeId) -> bool {
        let Some(line) = self.shapes.get_mut(shape) else { return false };
        let front = line.waiting.first().copied();
        line.waiting.insert(key);
        if front.is_none_or(|front| key < front) {
            if let Some(front) = front {
                self.fronts.remove(&front);
            }
            self.fronts.insert(key, shape);
        }
        front.is_none()
    }

    pub(super) fn remove(&mut self, key: TaskKey, shape: ShapeId) {
        let Some(line) = self.shapes.get_mut(shape) else { return };
        line.waiting.remove(&key);
        if self.fronts.remove(&key).is_some()
            && let Some(front) = line.waiting.first()
        {
            self.fronts.insert(*front, shape);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fronts.is_empty()
    }

    /// The task that waits first.
    pub(super) fn first(&self) -> Option<(TaskKey, ShapeId)> {
        self.fronts.first_key_value().map(|(key, shape)| (*key, *shape))
    }

    /// What the tasks of this shape need, and on which agents.
    pub(super) fn need(&self, shape: ShapeId) -> Option<(&Resources, &Terms)> {
        self.shapes.get(shape).map(|shape| (&shape.need, &shape.terms))
    }

    /// How well the agent suits the task that waits first.
    pub(super) fn score(&self, agent: &Agent<'_>) -> usize {
        let terms = self.first().and_then(|(_, shape)| self.need(shape));
        terms.map_or(0, |(_, terms)| terms.score(agent))
    }

    /// Takes from `rest` and from the queue what fits together, where the agent is welcome; each task comes with its part.
    pub(super) fn fill(
        &mut self,
        rest: &mut Resources,
        mut is_welcome: impl FnMut(TaskKey, &Terms) -> bool,
        mut take: impl FnMut(TaskKey, Resources),
    ) {
        let order: Vec<ShapeId> = self.fronts.values().copied().collect();
        for id in order {
            let Some(shape) = self.shapes.get_mut(id) else { continue };
            let front = shape.waiting.first().copied();
            while let Some(key) = shape.waiting.first().copied() {
                if !is_welcome(key, &shape.terms) {
                    break;
                }
                let Ok(picked) = shape.terms.pick(rest, &shape.need) else { break };
                *rest -= &picked;
                shape.waiting.remove(&key);
                take(key, picked);
            }
            if front != shape.waiting.first().copied() {
                front.and_then(|front| self.fronts.remove(&front));
                if let Some(front) = shape.waiting.first() {
                    self.fronts.insert(*front, id);
                }
            }
        }
    }
}

/// Whether offers flow, and what must be said again because it may not have arrived.
#[derive(Debug)]
pub(super) struct Flow {
    is_suppressed: bool,
    is_filtered: bool,
    is_need_new: bool,
    /// No offer came for so long that something may be wrong.
    starved_at: Option<Time>,
    /// A REVIVE failed.
    revive_at: Option<Time>,
    /// A DECLINE failed.
    decline_at: Option<Time>,
    declines: Vec<OfferId>,
    /// What was declined as second choice will then do.
    patience_ends: Option<Time>,
    pause: Duration,
}

/// A call that is due.
#[derive(Debug, PartialEq)]
pub(super) enum Wish {
    Revive,
    Suppress,
    Decline(Vec<OfferId>),
}

impl Flow {
    /// As after SUBSCRIBED: offers flow, without filters.
    pub(super) fn new() -> Self {
        Self {
            is_suppressed: false,
            is_filtered: false,
            is_need_new: false,
            starved_at: None,
            revive_at: None,
            decline_at: None,
            declines: Vec::new(),
            patience_ends: None,
            pause: FIRST_REPEAT,
        }
    }

    /// Somebody waits for what nobody waited for before.
    pub(super) fn need_changed(&mut self) {
        self.is_need_new = true;
    }

    /// An offer of an agent that is second choice until then is being declined.
    pub(super) fn patience_ends(&mut self, at: Time) {
        self.patience_ends = Some(self.patience_ends.map_or(at, |earlier| earlier.min(at)));
    }

    /// Offers came: nothing is starved.
    pub(super) fn offered(&mut self, now: Time) {
        self.starved_at = Some(now + REVIVE_AGAIN);
        self.pause = FIRST_REPEAT;
    }

    /// A filter was asked for, by DECLINE or for the rest of an ACCEPT.
    pub(super) fn filtered(&mut self) {
        self.is_filtered = true;
    }

    pub(super) fn revive_failed(&mut self, now: Time) {
        self.is_filtered = true;
        self.revive_at = Some(now + self.next_pause());
    }

    /// The offers are still ours, and useless: say so again.
    pub(super) fn decline_failed(&mut self, now: Time, offer_ids: Vec<OfferId>) {
        self.declines.extend(offer_ids);
        if self.decline_at.is_none() {
            self.decline_at = Some(now + self.next_pause());
        }
    }

    pub(super) fn rescinded(&mut self, offer_id: &OfferId) {
        self.declines.retain(|declined| declined != offer_id);
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LAST_REPEAT);
        pause
    }

    /// What must be said to the master now, given whether any offers are wanted; call it until it says nothing.
    pub(super) fn settle(&mut self, now: Time, is_wanted: bool, can_suppress: bool) -> Option<Wish> {
        if self.decline_at.take_if(|at| *at <= now).is_some() && !self.declines.is_empty() {
            return Some(Wish::Decline(std::mem::take(&mut self.declines)));
        }
        let is_second_choice_welcome = self.patience_ends.take_if(|at| *at <= now).is_some();
        let is_need_new = std::mem::take(&mut self.is_need_new) || is_second_choice_welcome;
        if !is_wanted {
            self.starved_at = None;
            self.revive_at = None;
            self.patience_ends = None;
            if can_suppress && !self.is_suppressed {
                self.is_suppressed = true;
                return Some(Wish::Suppress);
            }
            return None;
        }
        let is_starved = *self.starved_at.get_or_insert(now + REVIVE_AGAIN) <= now;
        let must_repeat = self.revive_at.take_if(|at| *at <= now).is_some();
        if self.is_suppressed || (is_need_new && self.is_filtered) || is_starved || must_repeat {
            self.is_suppressed = false;
            self.is_filtered = false;
            self.starved_at = Some(now + REVIVE_AGAIN);
            self.revive_at = None;
            return Some(Wish::Revive);
        }
        None
    }

    /// When to call `settle` at the latest.
    pub(super) fn due(&self) -> Option<Time> {
        [self.starved_at, self.revive_at, self.decline_at, self.patience_ends].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{ms, resources, s};
    use super::*;

    fn fill(queue: &mut Queue, cpus: f64, mem: f64) -> (Vec<TaskKey>, String) {
        let mut rest = Resources::from(resources(cpus, mem));
        let mut taken = Vec::new();
        queue.fill(&mut rest, |_, _| true, |key, _| taken.push(key));
        (taken, rest.to_string())
    }

    #[test]
    fn the_order_of_add_is_kept_within_and_across_needs() {
        let mut queue = Queue::default();
        let small = queue.shape(&resources(1.0, 10.0), &Terms::default());
        let big = queue.shape(&resources(2.0, 20.0), &Terms::default());
        assert_eq!(queue.shape(&resources(1.0, 10.0), &Terms::default()), small);
        assert!(queue.push(1, big));
        assert!(queue.push(2, small));
        assert!(!queue.push(3, small));
        assert!(!queue.push(4, big));
        assert_eq!(queue.first().map(|(key, _)| key), Some(1));
        assert_eq!(fill(&mut queue, 1.0, 100.0), (vec![2], "mem:90".to_owned()));
        assert_eq!(fill(&mut queue, 5.0, 100.0), (vec![1, 4, 3], "mem:50".to_owned()));
        assert!(queue.is_empty());
    }

    #[test]
    fn who_comes_back_gets_the_old_place() {
        let mut queue = Queue::default();
        let shape = queue.shape(&resources(1.0, 10.0), &Terms::default());
        for key in 1..=3 {
            queue.push(key, shape);
        }
        assert_eq!(fill(&mut queue, 1.0, 10.0).0, [1]);
        queue.push(1, shape);
        assert_eq!(queue.first().map(|(key, _)| key), Some(1));
        queue.remove(1, shape);
        assert_eq!(queue.first().map(|(key, _)| key), Some(2));
        queue.remove(3, shape);
        queue.remove(3, shape);
        queue.remove(2, shape);
        assert!(queue.is_empty());
    }

    /// A state in which nothing is asked for until something happens.
    fn settled(is_wanted: bool) -> Flow {
        let mut flow = Flow::new();
        flow.settle(s(0), is_wanted, true);
        assert_eq!(flow.settle(s(0), is_wanted, true), None);
        flow
    }

    #[test]
    fn offers_are_suppressed_once_while_nobody_waits_and_revived_once_when_somebody_does() {
        let mut flow = Flow::new();
        assert_eq!(flow.settle(s(0), false, true), Some(Wish::Suppress));
        assert_eq!(flow.settle(s(0), false, true), None);
        assert_eq!(flow.settle(s(1), true, true), Some(Wish::Revive));
        assert_eq!(flow.settle(s(1), true, true), None);
    }

    #[test]
    fn a_new_need_revives_only_if_something_is_filtered() {
        let mut flow = settled(true);
        flow.need_changed();
        assert_eq!(flow.settle(s(1), true, true), None);
        flow.filtered();
        assert_eq!(flow.settle(s(1), true, true), None);
        flow.need_changed();
        assert_eq!(flow.settle(s(1), true, true), Some(Wish::Revive));
    }

    #[test]
    fn a_revive_that_failed_is_repeated_also_if_offers_come() {
        let mut flow = settled(true);
        flow.revive_failed(s(1));
        assert_eq!(flow.settle(s(1), true, true), None, "not at once: whatever refused it may need time");
        flow.offered(s(1));
        assert_eq!(flow.due(), Some(ms(1500)));
        assert_eq!(flow.settle(ms(1500), true, true), Some(Wish::Revive));
    }

    #[test]
    fn declines_that_failed_are_repeated_together_but_not_of_offers_that_are_void() {
        let id = |value: &str| OfferId { value: value.to_owned() };
        let mut flow = settled(false);
        flow.decline_failed(s(1), vec![id("a"), id("b")]);
        flow.decline_failed(s(1), vec![id("c")]);
        flow.rescinded(&id("b"));
        assert_eq!(flow.settle(ms(1499), false, true), None);
        assert_eq!(flow.settle(ms(1500), false, true), Some(Wish::Decline(vec![id("a"), id("c")])));
        assert_eq!(flow.due(), None);
        flow.decline_failed(s(2), vec![id("d")]);
        flow.rescinded(&id("d"));
        assert_eq!(flow.settle(s(9), false, true), None);
    }
}
