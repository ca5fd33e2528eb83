//! Mesos' arithmetic of resources: what an offer holds, what a task needs, and which part of the one serves the other.
//!
//! A resource is an amount (a scalar as cpus and mem, ranges as ports, or a set) under terms: role, reservation, disk,
//! revocable, shared, allocation, provider. Amounts of a name add up only under equal terms; the classic form (`role`
//! and `reservation`) and the refined one (`reservations`) are compared as they are, never translated.
//!
//! [`Resources`] keeps one entry for each name and terms, and no empty ones. Volumes with data, shared resources and
//! whole disks are things rather than amounts: each stays an entry, is held or not, and is removed whole.

mod amount;
mod ranges;
mod scalar;
mod text;

use std::ops::{AddAssign, SubAssign};

pub use scalar::{ParseScalarError, Scalar};
pub use text::ParseResourcesError;

use self::amount::Amount;
use crate::mesos::Resource;
use crate::mesos::resource::disk_info::source;
use crate::mesos::value::{Range, Type};

/// Resources as an offer, a task or an agent has them, in the order in which they came.
///
/// Equal when each contains the other, whatever the order.
#[derive(Debug, Clone, Default)]
pub struct Resources(Vec<Resource>);

/// What an offer lacks; for ranges and sets the amounts count values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// Such as `cpus`.
    pub name: String,
    /// What was asked for.
    pub needed: Scalar,
    /// How much of that can be had.
    pub available: Scalar,
}

impl Resources {
    /// Nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One entry for each name and terms.
    pub fn iter(&self) -> std::slice::Iter<'_, Resource> {
        self.0.iter()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of `other` is here, under the very same terms.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|need| {
            if is_thing(need) {
                let count = |all: &Self| all.0.iter().filter(|one| same_thing(one, need)).count();
                return count(self) >= count(other);
            }
            let have = self.0.iter().find(|have| same_terms(have, need));
            have.is_some_and(|have| Amount::of(have).contains(&Amount::of(need)))
        })
    }

    /// How much there is of a scalar, under all terms together.
    pub fn scalar(&self, name: &str) -> Scalar {
        self.named(name)
            .map(|resource| if is_scalar(resource) { Amount::of(resource).size() } else { Scalar::ZERO })
            .sum()
    }

    /// The values of ranges, under all terms together: inclusive, ascending, with a gap between each two.
    pub fn ranges(&self, name: &str) -> Vec<(u64, u64)> {
        let ranges = self.named(name).filter_map(|resource| resource.ranges.as_ref());
        let all = ranges::normalized(ranges.flat_map(|ranges| ranges.range.iter().copied()).collect());
        all.into_iter().map(|Range { begin, end }| (begin, end)).collect()
    }

    /// Picks enough for `need` from what an offer holds, under whatever terms it is offered.
    ///
    /// The terms of `need` do not matter, its names and amounts do; ranges and sets are met by the very same values.
    /// Reserved resources go first, to leave the others to everybody. Revocable and shared resources, those of a
    /// resource provider, and disks other than the agent's own are never picked: they are not what a task expects. What
    /// is picked keeps the terms of the offer.
    ///
    /// # Errors
    /// All that is short, in the order of `need`.
    pub fn pick(&self, need: &Self) -> Result<Self, Vec<Shortfall>> {
        self.pick_of(need, &[is_usable])
    }

    /// As [`Resources::pick`], but what is revocable may be picked, too, and goes first; of one name never both, which Mesos refuses.
    ///
    /// # Errors
    /// All that is short, in the order of `need`, of what is not revocable.
    pub fn pick_revocable(&self, need: &Self) -> Result<Self, Vec<Shortfall>> {
        self.pick_of(need, &[is_usable_if_revocable, is_usable])
    }

    /// Each name is met by the first kind that has enough of it.
    fn pick_of(&self, need: &Self, kinds: &[fn(&Resource) -> bool]) -> Result<Self, Vec<Shortfall>> {
        let mut picked = Vec::with_capacity(need.0.len());
        let mut shortfalls = Vec::new();
        for (index, wanted) in need.0.iter().enumerate() {
            if need.0[..index].iter().any(|earlier| same_kind(earlier, wanted)) {
                continue;
            }
            let more = need.0[index + 1..].iter().filter(|later| same_kind(later, wanted));
            let wanted_amount = more.fold(Amount::of(wanted), |sum, later| sum.plus(&Amount::of(later)));
            let mut available = None;
            for is_usable in kinds {
                available = self.pick_amount(wanted, &wanted_amount, *is_usable, &mut picked).err();
                if available.is_none() {
                    break;
                }
            }
            if let Some(available) = available {
                let needed = wanted_amount.size();
                shortfalls.push(Shortfall { name: wanted.name.clone(), needed, available });
            }
        }
        if shortfalls.is_empty() { Ok(Self(picked)) } else { Err(shortfalls) }
    }

    /// Adds entries that together have `amount`; if there are not enough, none, and says how much there is.
    fn pick_amount(
        &self,
        kind: &Resource,
        amount: &Amount<'_>,
        is_usable: fn(&Resource) -> bool,
        picked: &mut Vec<Resource>,
    ) -> Result<(), Scalar> {
        let usable = |resource: &&Resource| same_kind(resource, kind) && is_usable(resource);
        let sum = |sum: Amount<'static>, resource: &Resource| sum.plus(&Amount::of(resource));
        let offered = self.0.iter().filter(usable).fold(amount.none().into_owned(), sum);
        if !offered.contains(amount) {
            return Err(offered.common(amount).size());
        }
        let mut missing = amount.clone();
        for reserved in [true, false] {
            for resource in self.0.iter().filter(usable).filter(|resource| is_reserved(resource) == reserved) {
                let part = Amount::of(resource).common(&missing);
                if !part.is_empty() {
                    missing = missing.minus(&part);
                    let mut resource = resource.clone();
                    part.put_into(&mut resource);
                    picked.push(resource);
                }
            }
        }
        Ok(())
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Resource> {
        self.0.iter().filter(move |resource| resource.name == name)
    }

    /// Adds what is in normal form to the entry of the same terms; says whether there is one.
    fn merge(&mut self, resource: &Resource) -> bool {
        let same = |have: &&mut Resource| !is_thing(resource) && same_terms(have, resource);
        let Some(have) = self.0.iter_mut().find(same) else { return false };
        Amount::of(have).plus(&Amount::of(resource)).put_into(have);
        true
    }

    fn subtract(&mut self, resource: &Resource) {
        let thing = is_thing(resource);
        let same = |have: &Resource| if thing { same_thing(have, resource) } else { same_terms(have, resource) };
        let Some(index) = self.0.iter().position(same) else { return };
        let rest = Amount::of(&self.0[index]).minus(&Amount::of(resource));
        if thing || rest.is_empty() {
            self.0.remove(index);
        } else {
            rest.put_into(&mut self.0[index]);
        }
    }
}

impl AddAssign<&Self> for Resources {
    fn add_assign(&mut self, other: &Self) {
        if self.0.is_empty() {
            return self.0.clone_from(&other.0);
        }
        for resource in &other.0 {
            if !self.merge(resource) {
                self.0.push(resource.clone());
            }
        }
    }
}

impl SubAssign<&Self> for Resources {
    /// Takes away as much of `other` as is here: nothing becomes negative.
    fn sub_assign(&mut self, other: &Self) {
        for resource in &other.0 {
            self.subtract(resource);
        }
    }
}

impl PartialEq for Resources {
    fn eq(&self, other: &Self) -> bool {
        self.contains(other) && other.contains(self)
    }
}

impl Eq for Resources {}

impl FromIterator<Resource> for Resources {
    fn from_iter<I: IntoIterator<Item = Resource>>(resources: I) -> Self {
        let resources = resources.into_iter();
        let mut all = Self(Vec::with_capacity(resources.size_hint().0));
        for mut resource in resources {
            amount::normalize(&mut resource);
            if !Amount::of(&resource).is_empty() && !all.merge(&resource) {
                all.0.push(resource);
            }
        }
        all
    }
}

impl From<Vec<Resource>> for Resources {
    /// Most lists are as they should be, and stay where they are.
    fn from(mut resources: Vec<Resource>) -> Self {
        resources.iter_mut().for_each(amount::normalize);
        resources.retain(|resource| !Amount::of(resource).is_empty());
        let has_same = |(index, later): (usize, &Resource)| {
            !is_thing(later)
                && resources[..index].iter().any(|earlier| !is_thing(earlier) && same_terms(earlier, later))
        };
        if resources.iter().enumerate().any(has_same) { resources.into_iter().collect() } else { Self(resources) }
    }
}

impl From<&[Resource]> for Resources {
    fn from(resources: &[Resource]) -> Self {
        resources.iter().cloned().collect()
    }
}

impl From<Resources> for Vec<Resource> {
    fn from(resources: Resources) -> Self {
        resources.0
    }
}

impl<'a> IntoIterator for &'a Resources {
    type Item = &'a Resource;
    type IntoIter = std::slice::Iter<'a, Resource>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn same_kind(a: &Resource, b: &Resource) -> bool {
    a.name == b.name && a.r#type == b.r#type
}

/// Whether everything but the amount is equal.
fn same_terms(a: &Resource, b: &Resource) -> bool {
    same_kind(a, b)
        && a.role() == b.role()
        && a.disk == b.disk
        && a.reservation == b.reservation
        && a.revocable.is_some() == b.revocable.is_some()
        && a.shared.is_some() == b.shared.is_some()
        && a.allocation_info == b.allocation_info
        && a.provider_id == b.provider_id
        && a.reservations == b.reservations
}

fn same_thing(a: &Resource, b: &Resource) -> bool {
    same_terms(a, b) && Amount::of(a) == Amount::of(b)
}

/// A volume with data, a shared resource or a whole disk: two of them are never one of twice the size.
fn is_thing(resource: &Resource) -> bool {
    let Some(disk) = &resource.disk else { return resource.shared.is_some() };
    let whole = disk.source.as_ref().is_some_and(|disk| match disk.r#type() {
        source::Type::Mount | source::Type::Block | source::Type::Raw => true,
        source::Type::Unknown | source::Type::Path => false,
    });
    resource.shared.is_some() || disk.persistence.is_some() || whole
}

fn is_usable(resource: &Resource) -> bool {
    resource.revocable.is_none() && is_plain(resource)
}

fn is_usable_if_revocable(resource: &Resource) -> bool {
    resource.revocable.is_some() && is_plain(resource)
}

/// No volume, nothing shared, nothing of a resource provider.
fn is_plain(resource: &Resource) -> bool {
    let own_disk = resource.disk.as_ref().is_none_or(|disk| disk.persistence.is_none() && disk.source.is_none());
    own_disk && resource.shared.is_none() && resource.provider_id.is_none()
}

fn is_reserved(resource: &Resource) -> bool {
    resource.role() != "*" || resource.reservation.is_some() || !resource.reservations.is_empty()
}

fn is_scalar(resource: &Resource) -> bool {
    resource.r#type == Type::Scalar as i32
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::mesos::resource::{AllocationInfo, DiskInfo, ReservationInfo, RevocableInfo, SharedInfo, disk_info};

    fn resources(text: &str) -> Resources {
        text.parse().unwrap()
    }

    /// The only entry of a text, changed.
    fn changed(text: &str, change: impl FnOnce(&mut Resource)) -> Resource {
        let mut resource = resources(text).0.remove(0);
        change(&mut resource);
        resource
    }

    fn volume(id: &str, size: u32) -> Resource {
        changed(&format!("disk(web):{size}"), |disk| {
            let persistence = Some(disk_info::Persistence { id: id.into(), principal: None });
            disk.disk = Some(DiskInfo { persistence, ..Default::default() }.into());
        })
    }

    #[test]
    fn revocable_resources_are_picked_only_on_request_then_first_and_never_mixed() {
        let revocable = |text| changed(text, |resource| resource.revocable = Some(RevocableInfo::default()));
        let offered = plus("cpus:1;mem:64", [revocable("cpus:4")]);
        let picked = |need: &str, picked: Result<Resources, Vec<Shortfall>>| {
            let picked = picked.unwrap_or_else(|short| panic!("{need}: {short:?}"));
            let is_revocable = |resource: &Resource| (resource.name.clone(), resource.revocable.is_some());
            picked.iter().map(is_revocable).collect::<BTreeSet<_>>()
        };
        let need = resources("cpus:2;mem:64");
        assert!(offered.pick(&need).is_err());
        let expected = BTreeSet::from([("cpus".to_owned(), true), ("mem".to_owned(), false)]);
        assert_eq!(picked("2", offered.pick_revocable(&need)), expected);
        let few = plus("cpus:2", [revocable("cpus:1")]);
        assert_eq!(
            picked("few", few.pick_revocable(&resources("cpus:2"))),
            BTreeSet::from([("cpus".to_owned(), false)])
        );
        assert!(few.pick_revocable(&resources("cpus:3")).is_err(), "never both");
    }

    fn plus(text: &str, more: impl IntoIterator<Item = Resource>) -> Resources {
        resources(text).0.into_iter().chain(more).collect()
    }

    #[test]
    fn amounts_add_up_under_equal_terms_only() {
        let mut sum = resources("cpus:1;cpus(web):1;ports:[1-3]");
        sum += &resources("ports:[4-6];cpus:0.5;mem:10");
        assert_eq!(sum.to_string(), "cpus:1.5;cpus(web):1;ports:[1-6];mem:10");
        assert_eq!(sum.scalar("cpus"), Scalar::from_milli(2500));
        assert_eq!(sum.ranges("ports"), [(1, 6)]);
        assert_eq!(sum.scalar("ports"), Scalar::ZERO);
    }

    #[test]
    fn a_role_that_is_absent_is_the_role_of_everybody() {
        let absent: Resources = [changed("cpus:1", |cpus| cpus.role = None)].into_iter().collect();
        assert_eq!(absent, resources("cpus:1"));
    }

    #[test]
    fn to_take_more_than_there_is_leaves_nothing() {
        let mut rest = resources("cpus:1;ports:[1-5];zones:{a,b}");
        rest -= &resources("cpus:2;mem:1;ports:[4-9];zones:{b,c}");
        assert_eq!(rest.to_string(), "ports:[1-3];zones:{a}");
    }

    #[test]
    fn what_is_under_other_terms_is_not_contained() {
        let have = resources("cpus:2;cpus(web):1");
        assert!(have.contains(&resources("cpus:2;cpus(web):0.5")));
        assert!(!have.contains(&resources("cpus:3")));
        assert!(!have.contains(&resources("cpus(db):1")));
        let allocated =
            changed("cpus:1", |cpus| cpus.allocation_info = Some(AllocationInfo { role: Some("*".into()) }));
        assert!(!have.contains(&[allocated].into_iter().collect()));
    }

    #[test]
    fn volumes_are_held_or_not_and_never_grow() {
        let mut have = plus("disk:5", [volume("a", 10), volume("b", 10), volume("b", 10)]);
        assert_eq!(have.iter().count(), 4);
        assert!(!have.contains(&[volume("a", 5)].into_iter().collect()));
        assert!(!have.contains(&[volume("a", 10), volume("a", 10)].into_iter().collect()));
        have -= &[volume("b", 10)].into_iter().collect();
        assert_eq!(have, plus("disk:5", [volume("a", 10), volume("b", 10)]));
    }

    #[test]
    fn what_a_task_needs_is_picked_from_reserved_resources_first() {
        let offer = resources("cpus:4;cpus(web):1;mem:512;ports(web):[10-12];ports:[20-29]");
        let picked = offer.pick(&resources("cpus:1.5;mem:64;ports:[12-12, 20-21]")).unwrap();
        assert_eq!(picked.to_string(), "cpus(web):1;cpus:0.5;mem:64;ports(web):[12-12];ports:[20-21]");
    }

    #[test]
    fn what_is_picked_keeps_the_terms_of_the_offer() {
        let offered = changed("cpus(web):4", |cpus| {
            cpus.allocation_info = Some(AllocationInfo { role: Some("web".into()) });
            cpus.reservation = Some(ReservationInfo { principal: Some("ops".into()), ..Default::default() }.into());
        });
        let picked = Resources::from(vec![offered.clone()]).pick(&resources("cpus:1")).unwrap();
        let expected = Resource { scalar: Some(crate::mesos::value::Scalar { value: 1.0 }), ..offered };
        assert_eq!(Vec::from(picked), [expected]);
    }

    #[test]
    fn refined_reservations_count_as_reserved() {
        let refined = changed("cpus:1", |cpus| {
            cpus.role = None;
            cpus.reservations = vec![ReservationInfo { role: Some("web".into()), ..Default::default() }];
        });
        let picked = plus("cpus:1", [refined]).pick(&resources("cpus:1")).unwrap();
        assert_eq!(picked.to_string(), "cpus(web):1");
    }

    #[test]
    fn revocable_shared_and_foreign_disks_are_never_picked() {
        let offer = plus(
            "disk:5",
            [
                changed("cpus:4", |cpus| cpus.revocable = Some(RevocableInfo {})),
                changed("mem:4", |mem| mem.shared = Some(SharedInfo {})),
                volume("a", 100),
                changed("disk:100", |disk| {
                    let source = Some(disk_info::Source { r#type: source::Type::Path as i32, ..Default::default() });
                    disk.disk = Some(DiskInfo { source, ..Default::default() }.into());
                }),
            ],
        );
        let short = |name: &str, needed, available| Shortfall {
            name: name.into(),
            needed: Scalar::from_milli(needed),
            available: Scalar::from_milli(available),
        };
        assert_eq!(
            offer.pick(&resources("cpus:1;mem:1;disk:6")).unwrap_err(),
            [short("cpus", 1000, 0), short("mem", 1000, 0), short("disk", 6000, 5000)]
        );
    }

    #[test]
    fn missing_ports_are_counted() {
        let shortfalls = resources("ports:[1-3];cpus:1").pick(&resources("ports:[2-9];cpus:1")).unwrap_err();
        let [Shortfall { name, needed, available }] = &shortfalls[..] else { panic!("{shortfalls:?}") };
        assert_eq!((name.as_str(), needed.to_string(), available.to_string()), ("ports", "8".into(), "2".into()));
    }

    #[test]
    fn amounts_are_rounded_as_mesos_does() {
        let fine = changed("cpus:1", |cpus| cpus.scalar = Some(crate::mesos::value::Scalar { value: 0.100_000_4 }));
        assert_eq!(Resources::from(vec![fine]).to_string(), "cpus:0.1");
    }

    fn any_resource() -> impl Strategy<Value = Resource> {
        let name = prop_oneof![Just("cpus"), Just("mem")];
        let role = prop_oneof![Just("*"), Just("web"), Just("db")];
        let scalar = (name, role.clone(), 1..5000i64)
            .prop_map(|(name, role, milli)| changed(&format!("{name}({role}):{}", Scalar::from_milli(milli)), |_| {}));
        let ports = (role.clone(), prop::collection::btree_set(0..40u64, 1..10)).prop_map(|(role, ports)| {
            let ports = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            changed(&format!("ports({role}):[{ports}]"), |_| {})
        });
        let set = (role, prop::collection::btree_set("[a-f]", 1..4)).prop_map(|(role, items)| {
            changed(&format!("zones({role}):{{{}}}", Vec::from_iter(items).join(",")), |_| {})
        });
        let thing = (prop_oneof![Just("a"), Just("b")], 1..3u32).prop_map(|(id, size)| volume(id, size));
        let revocable = scalar.clone().prop_map(|mut scalar| {
            scalar.revocable = Some(RevocableInfo {});
            scalar
        });
        prop_oneof![4 => scalar, 2 => ports, 1 => set, 1 => thing, 1 => revocable]
    }

    fn any_resources() -> impl Strategy<Value = Resources> {
        prop::collection::vec(any_resource(), 0..8).prop_map(Resources::from)
    }

    /// Of each name the amount under all terms together.
    fn amounts(resources: &Resources) -> BTreeSet<String> {
        let amount = |name: &str| format!("{name} {} {:?}", resources.scalar(name), resources.ranges(name));
        resources.iter().map(|resource| amount(&resource.name)).collect()
    }

    proptest! {
        #[test]
        fn what_is_added_and_taken_away_again_changes_nothing(have in any_resources(), more in any_resources()) {
            // A value that is there already does not come twice, so it would be gone.
            let mut new = more.clone();
            new -= &have.iter().filter(|resource| !is_scalar(resource)).cloned().collect();
            let mut sum = have.clone();
            sum += &new;
            prop_assert!(sum.contains(&have) && sum.contains(&new));
            sum -= &new;
            prop_assert_eq!(sum, have);
        }

        #[test]
        fn what_is_contained_and_taken_away_comes_back(other in any_resources(), part in any_resources()) {
            let mut have = other;
            have += &part;
            let mut rest = have.clone();
            rest -= &part;
            prop_assert!(have.contains(&rest));
            rest += &part;
            prop_assert_eq!(rest, have);
        }

        #[test]
        fn what_is_picked_is_in_the_offer_and_covers_the_need(offer in any_resources(), need in any_resources()) {
            let need = need.iter().filter(|resource| !is_thing(resource)).cloned().collect::<Resources>();
            match offer.pick(&need) {
                Ok(picked) => {
                    prop_assert!(offer.contains(&picked));
                    prop_assert_eq!(amounts(&picked), amounts(&need));
                    prop_assert!(picked.iter().all(is_usable));
                }
                Err(shortfalls) => {
                    prop_assert!(!shortfalls.is_empty());
                    prop_assert!(shortfalls.iter().all(|short| short.available < short.needed));
                }
            }
        }

        #[test]
        fn the_order_does_not_matter(all in prop::collection::vec(any_resource(), 0..8)) {
            let reversed = all.iter().rev().cloned().collect::<Resources>();
            prop_assert_eq!(Resources::from(all), reversed);
        }
    }
}
