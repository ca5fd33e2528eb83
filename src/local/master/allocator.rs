//! Who is offered what: the free resources of every agent, the offers out on them, and what frameworks refused. PURE.
//!
//! ```text
//!            free of an agent changes              nobody wants it now
//!   (new) ----------------------------> pending ------------------------> idle
//!                                        | ^  a filter expires, revive,     |
//!                                 offer  | `--------------------------------'
//!                                        v
//!                                    offered --accept--> used by a task --released--> pending
//!                                        `-----decline, rescind-------------------->
//! ```
//!
//! All free resources of an agent go to one framework at a time (the part it may use, when roles are reserved): the one
//! with the smallest dominant share, and among equals the one that was offered something longest ago. Nothing here scans
//! all agents, except when a framework comes or revives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::mesos;
use proto::resources::Resources;

use super::Time;
use crate::hash::HashMap;

/// Names an agent inside the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::local) struct AgentKey(pub u32);

/// Names a framework inside the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::local) struct FrameworkKey(pub u32);

/// What Mesos takes when refuse_seconds is missing or negative.
const DEFAULT_REFUSE: Duration = Duration::from_secs(5);
/// A refusal holds at least one allocation interval of Mesos: a scheduler that declines with zero would otherwise be
/// offered the same thing again in the same instant, for ever.
const MIN_REFUSE: Duration = Duration::from_secs(1);
/// Longer refusals are cut, as from Mesos 1.5 on.
const MAX_REFUSE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// An offer has at least this many thousandths of a cpu, or `MIN_MEM_MILLI`.
const MIN_CPUS_MILLI: i64 = 10;
/// 32 MB in thousandths.
const MIN_MEM_MILLI: i64 = 32_000;

/// One offer, as granted and as kept while it is out.
#[derive(Debug, Clone)]
pub(in crate::local) struct Grant {
    /// Its number, never used again.
    pub offer: u64,
    /// Whose.
    pub framework: FrameworkKey,
    /// Of which agent.
    pub agent: AgentKey,
    /// What.
    pub resources: Resources,
}

#[derive(Debug, Default)]
pub(super) struct Allocator {
    sites: BTreeMap<AgentKey, Site>,
    claims: BTreeMap<FrameworkKey, Claim>,
    offers: HashMap<u64, Grant>,
    pending: BTreeSet<AgentKey>,
    idle: BTreeSet<AgentKey>,
    expiries: BTreeSet<(Time, AgentKey, FrameworkKey)>,
    total: Shares,
    last_offer: u64,
}

#[derive(Debug)]
struct Site {
    total: Shares,
    free: Resources,
    offers: BTreeSet<u64>,
    filters: Vec<Filter>,
    is_reserved: bool,
}

#[derive(Debug)]
struct Filter {
    framework: FrameworkKey,
    until: Time,
    /// Offers that ask for no more than this are not made.
    refused: Resources,
}

#[derive(Debug)]
struct Claim {
    role: String,
    is_active: bool,
    is_suppressed: bool,
    held: Shares,
    offers: BTreeSet<u64>,
    filtered: BTreeSet<AgentKey>,
    last_offer: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Shares {
    cpus: i64,
    mem: i64,
}

impl Allocator {
    pub(super) fn add_agent(&mut self, agent: AgentKey, resources: Resources) {
        let total = Shares::of(&resources);
        self.total.add(total);
        let is_reserved = resources.iter().any(|resource| resource.role() != "*");
        let site = Site { total, free: resources, offers: BTreeSet::new(), filters: Vec::new(), is_reserved };
        self.sites.insert(agent, site);
        self.pending.insert(agent);
    }

    /// Forgets the agent; the offers that were out on it come back.
    pub(super) fn remove_agent(&mut self, agent: AgentKey) -> Vec<Grant> {
        let Some(site) = self.sites.remove(&agent) else { return Vec::new() };
        self.total.subtract(site.total);
        self.pending.remove(&agent);
        self.idle.remove(&agent);
        for filter in site.filters {
            self.expiries.remove(&(filter.until, agent, filter.framework));
            if let Some(claim) = self.claims.get_mut(&filter.framework) {
                claim.filtered.remove(&agent);
            }
        }
        site.offers.into_iter().filter_map(|offer| self.forget_offer(offer)).collect()
    }

    /// The framework is connected (again): it may be offered everything.
    pub(super) fn activate(&mut self, framework: FrameworkKey, role: &str, is_suppressed: bool) {
        let claim = self.claims.entry(framework).or_insert_with(|| Claim {
            role: String::new(),
            is_active: true,
            is_suppressed,
            held: Shares::default(),
            offers: BTreeSet::new(),
            filtered: BTreeSet::new(),
            last_offer: 0,
        });
        claim.role = role.to_owned();
        claim.is_active = true;
        claim.is_suppressed = is_suppressed;
        if !is_suppressed {
            self.pending.append(&mut self.idle);
        }
    }

    /// The framework cannot be offered anything; its offers are void and its refusals forgotten.
    pub(super) fn deactivate(&mut self, framework: FrameworkKey) {
        self.clear_filters(framework);
        let Some(claim) = self.claims.get_mut(&framework) else { return };
        claim.is_active = false;
        for offer in std::mem::take(&mut claim.offers) {
            if let Some(grant) = self.forget_offer(offer) {
                self.give_back(grant.agent, &grant.resources);
            }
        }
    }

    /// After `deactivate`; what its tasks hold is released one by one.
    pub(super) fn remove_framework(&mut self, framework: FrameworkKey) {
        self.deactivate(framework);
        self.claims.remove(&framework);
    }

    pub(super) fn suppress(&mut self, framework: FrameworkKey) {
        if let Some(claim) = self.claims.get_mut(&framework) {
            claim.is_suppressed = true;
        }
    }

    pub(super) fn revive(&mut self, framework: FrameworkKey) {
        self.clear_filters(framework);
        if let Some(claim) = self.claims.get_mut(&framework) {
            claim.is_suppressed = false;
            self.pending.append(&mut self.idle);
        }
    }

    pub(super) fn offer(&self, offer: u64) -> Option<&Grant> {
        self.offers.get(&offer)
    }

    pub(super) fn offers(&self) -> impl Iterator<Item = &Grant> {
        self.offers.values()
    }

    /// Takes the offer out; its resources stay with the framework until they are released.
    pub(super) fn accept(&mut self, offer: u64) -> Option<Grant> {
        let grant = self.offers.remove(&offer)?;
        if let Some(site) = self.sites.get_mut(&grant.agent) {
            site.offers.remove(&offer);
        }
        if let Some(claim) = self.claims.get_mut(&grant.framework) {
            claim.offers.remove(&offer);
        }
        Some(grant)
    }

    /// What the framework held on the agent is free again.
    pub(super) fn release(&mut self, framework: FrameworkKey, agent: AgentKey, resources: &Resources) {
        if resources.is_empty() {
            return;
        }
        if let Some(claim) = self.claims.get_mut(&framework) {
            claim.held.subtract(Shares::of(resources));
        }
        self.give_back(agent, resources);
    }

    /// Takes the offer out, if it is this framework's.
    pub(super) fn accept_of(&mut self, framework: FrameworkKey, offer: u64) -> Option<Grant> {
        self.offers.get(&offer).filter(|grant| grant.framework == framework)?;
        self.accept(offer)
    }

    /// Like `release`, and the framework does not want this, or less, for a while.
    pub(super) fn refuse(
        &mut self,
        now: Time,
        framework: FrameworkKey,
        agent: AgentKey,
        resources: Resources,
        filters: Option<&mesos::Filters>,
    ) {
        if resources.is_empty() {
            return;
        }
        self.release(framework, agent, &resources);
        let (Some(site), Some(claim)) = (self.sites.get_mut(&agent), self.claims.get_mut(&framework)) else { return };
        let until = now + refuse_for(filters);
        // What asks for less and ends sooner is covered by the new one: repeated refusals do not pile up.
        let expiries = &mut self.expiries;
        site.filters.retain(|old| {
            let is_covered = old.framework == framework && old.until <= until && resources.contains(&old.refused);
            if is_covered {
                expiries.remove(&(old.until, agent, framework));
            }
            !is_covered
        });
        site.filters.push(Filter { framework, until, refused: resources });
        claim.filtered.insert(agent);
        self.expiries.insert((until, agent, framework));
    }

    /// When the next refusal ends.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.expiries.first().map(|(until, _, _)| *until)
    }

    /// Offers whatever can be offered now.
    pub(super) fn allocate(&mut self, now: Time) -> Vec<Grant> {
        self.expire(now);
        let mut grants = Vec::new();
        if self.pending.is_empty() {
            return grants;
        }
        let can_offer = self.claims.values().any(|claim| claim.is_active && !claim.is_suppressed);
        if !can_offer {
            return grants;
        }
        for agent in std::mem::take(&mut self.pending) {
            while let Some(grant) = self.grant(agent) {
                grants.push(grant);
            }
            if self.sites.get(&agent).is_some_and(|site| !site.free.is_empty()) {
                self.idle.insert(agent);
            }
        }
        grants
    }

    fn grant(&mut self, agent: AgentKey) -> Option<Grant> {
        let site = self.sites.get_mut(&agent)?;
        if !is_offerable(&site.free) {
            return None;
        }
        let mut best: Option<(f64, u64, FrameworkKey)> = None;
        for (&framework, claim) in &self.claims {
            if !claim.is_active || claim.is_suppressed {
                continue;
            }
            let rank = (claim.held.dominant(self.total), claim.last_offer);
            let is_better = best.is_none_or(|(share, last, _)| rank < (share, last));
            if is_better && site.can_offer(framework, &claim.role) {
                best = Some((rank.0, rank.1, framework));
            }
        }
        let (_, _, framework) = best?;
        let claim = self.claims.get_mut(&framework)?;
        let resources = site.take(&claim.role);
        self.last_offer += 1;
        let offer = self.last_offer;
        site.offers.insert(offer);
        claim.held.add(Shares::of(&resources));
        claim.offers.insert(offer);
        claim.last_offer = offer;
        let grant = Grant { offer, framework, agent, resources };
        self.offers.insert(offer, grant.clone());
        Some(grant)
    }

    fn forget_offer(&mut self, offer: u64) -> Option<Grant> {
        let grant = self.accept(offer)?;
        if let Some(claim) = self.claims.get_mut(&grant.framework) {
            claim.held.subtract(Shares::of(&grant.resources));
        }
        Some(grant)
    }

    fn give_back(&mut self, agent: AgentKey, resources: &Resources) {
        if let Some(site) = self.sites.get_mut(&agent) {
            site.free += resources;
            self.idle.remove(&agent);
            self.pending.insert(agent);
        }
    }

    fn clear_filters(&mut self, framework: FrameworkKey) {
        let Some(claim) = self.claims.get_mut(&framework) else { return };
        for agent in std::mem::take(&mut claim.filtered) {
            let Some(site) = self.sites.get_mut(&agent) else { continue };
            let expiries = &mut self.expiries;
            site.filters.retain(|filter| {
                if filter.framework == framework {
                    expiries.remove(&(filter.until, agent, framework));
                }
                filter.framework != framework
            });
        }
    }

    fn expire(&mut self, now: Time) {
        while let Some(&(until, agent, framework)) = self.expiries.first() {
            if until > now {
                return;
            }
            self.expiries.pop_first();
            let Some(site) = self.sites.get_mut(&agent) else { continue };
            site.filters.retain(|filter| filter.framework != framework || filter.until > now);
            let is_filtered = site.filters.iter().any(|filter| filter.framework == framework);
            if let Some(claim) = self.claims.get_mut(&framework).filter(|_| !is_filtered) {
                claim.filtered.remove(&agent);
            }
            if self.idle.remove(&agent) {
                self.pending.insert(agent);
            }
        }
    }
}

impl Site {
    fn can_offer(&self, framework: FrameworkKey, role: &str) -> bool {
        if self.is_reserved {
            let part = self.part_for(role);
            return is_offerable(&part) && !self.is_refused(framework, &part);
        }
        !self.is_refused(framework, &self.free)
    }

    fn take(&mut self, role: &str) -> Resources {
        if !self.is_reserved {
            return std::mem::take(&mut self.free);
        }
        let part = self.part_for(role);
        self.free -= &part;
        part
    }

    fn part_for(&self, role: &str) -> Resources {
        let usable = |resource: &&mesos::Resource| resource.role() == "*" || resource.role() == role;
        self.free.iter().filter(usable).cloned().collect()
    }

    fn is_refused(&self, framework: FrameworkKey, resources: &Resources) -> bool {
        self.filters.iter().any(|filter| filter.framework == framework && filter.refused.contains(resources))
    }
}

impl Shares {
    fn of(resources: &Resources) -> Self {
        Self { cpus: resources.scalar("cpus").milli(), mem: resources.scalar("mem").milli() }
    }

    fn add(&mut self, other: Self) {
        self.cpus += other.cpus;
        self.mem += other.mem;
    }

    fn subtract(&mut self, other: Self) {
        self.cpus -= other.cpus;
        self.mem -= other.mem;
    }

    /// The larger of the two fractions of `total`.
    fn dominant(self, total: Self) -> f64 {
        let fraction = |part: i64, whole: i64| if whole > 0 { part as f64 / whole as f64 } else { 0.0 };
        fraction(self.cpus, total.cpus).max(fraction(self.mem, total.mem))
    }
}

fn is_offerable(resources: &Resources) -> bool {
    let shares = Shares::of(resources);
    shares.cpus >= MIN_CPUS_MILLI || shares.mem >= MIN_MEM_MILLI
}

fn refuse_for(filters: Option<&mesos::Filters>) -> Duration {
    let seconds = filters.map_or(DEFAULT_REFUSE.as_secs_f64(), mesos::Filters::refuse_seconds);
    if seconds.is_nan() || seconds < 0.0 {
        return DEFAULT_REFUSE;
    }
    Duration::from_secs_f64(seconds.min(MAX_REFUSE.as_secs_f64())).max(MIN_REFUSE)
}
