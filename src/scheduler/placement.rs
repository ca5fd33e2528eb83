//! Which agents a task may run on, and which it had rather run on. PURE.
//!
//! An agent fits, does not fit, or is second choice: that one is taken when nothing better was offered for a while. Second choice are
//! agents that do not have what is preferred, that failed this launch, or that have maintenance ahead.

mod constraint;

use std::time::Duration;

use proto::mesos::{Attribute, DomainInfo, Offer};
use proto::resources::{Resources, Shortfall};

pub use constraint::Constraint;

use super::Time;

/// How long a preferred agent is waited for. Offers come every second.
const PREFER_PATIENCE: Duration = Duration::from_secs(3);

/// How long another agent is waited for than one on which the launch failed, or which has maintenance ahead.
const AVOID_PATIENCE: Duration = Duration::from_secs(10);

/// What a task asks of the place it runs on, beside resources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// All of them must hold.
    pub constraints: Vec<Constraint>,
    /// The more of them hold, the better.
    pub preferences: Vec<Constraint>,
    /// Whether resources will do that the cluster may take back at any time.
    pub takes_revocable: bool,
}

/// What an offer says about its agent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Agent<'a> {
    /// The host.
    pub hostname: &'a str,
    /// As configured on the agent.
    pub attributes: &'a [Attribute],
    /// Where the agent is, since Mesos 1.4.
    pub domain: Option<&'a DomainInfo>,
    /// Whether maintenance is announced for it.
    pub is_in_maintenance: bool,
}

impl<'a> Agent<'a> {
    /// The agent that makes this offer.
    pub fn of(offer: &'a Offer) -> Self {
        Self {
            hostname: &offer.hostname,
            attributes: &offer.attributes,
            domain: offer.domain.as_ref(),
            is_in_maintenance: offer.unavailability.is_some(),
        }
    }

    /// What is no attribute, and still the agent's: its `hostname`, `region` or `zone`.
    fn place(&self, name: &str) -> Option<&'a str> {
        let fault = self.domain.and_then(|domain| domain.fault_domain.as_ref());
        match name {
            "hostname" => Some(self.hostname),
            "region" => fault.map(|fault| fault.region.name.as_str()),
            "zone" => fault.map(|fault| fault.zone.name.as_str()),
            _ => None,
        }
    }
}

/// What becomes of an offer, its resources aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict<'t> {
    Fits,
    /// When the task has waited for that long.
    Later(Duration, Reluctance),
    /// Because of this constraint.
    Never(&'t Constraint),
}

/// Why an agent is second choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reluctance {
    NotPreferred,
    InMaintenance,
    HasFailed,
}

impl Terms {
    /// `has_failed`: a launch of the task failed on this agent a moment ago.
    pub(super) fn verdict(&self, agent: &Agent<'_>, has_failed: bool) -> Verdict<'_> {
        if let Some(broken) = self.constraints.iter().find(|constraint| !constraint.holds(agent)) {
            return Verdict::Never(broken);
        }
        if has_failed {
            return Verdict::Later(AVOID_PATIENCE, Reluctance::HasFailed);
        }
        if agent.is_in_maintenance {
            return Verdict::Later(AVOID_PATIENCE, Reluctance::InMaintenance);
        }
        if self.preferences.iter().all(|preference| preference.holds(agent)) {
            return Verdict::Fits;
        }
        Verdict::Later(PREFER_PATIENCE, Reluctance::NotPreferred)
    }

    /// The task's part of what an agent has.
    pub(super) fn pick(&self, offered: &Resources, need: &Resources) -> Result<Resources, Vec<Shortfall>> {
        if self.takes_revocable { offered.pick_revocable(need) } else { offered.pick(need) }
    }

    /// How many preferences hold.
    pub(super) fn score(&self, agent: &Agent<'_>) -> usize {
        self.preferences.iter().filter(|preference| preference.holds(agent)).count()
    }

    /// What tells one set of terms from another.
    pub(super) fn key(&self) -> Vec<u8> {
        let join = |constraints: &[Constraint]| constraints.iter().map(|it| format!("{it}\0")).collect::<String>();
        let Self { constraints, preferences, takes_revocable } = self;
        format!("{}\n{}\n{takes_revocable}", join(constraints), join(preferences)).into_bytes()
    }
}

/// Agents on which a launch failed, for a while.
#[derive(Debug, Default)]
pub(super) struct Failed(std::collections::BTreeMap<(super::reconcile::TaskKey, String), Time>);

/// How long an agent counts as one that failed: longer than another one is waited for.
const FAILED_FOR: Duration = Duration::from_secs(60);

impl Failed {
    pub(super) fn note(&mut self, now: Time, key: super::reconcile::TaskKey, agent_id: &str) {
        self.0.retain(|_, until| *until > now);
        self.0.insert((key, agent_id.to_owned()), now + FAILED_FOR);
    }

    pub(super) fn has(&self, now: Time, key: super::reconcile::TaskKey, agent_id: &str) -> bool {
        // Nothing is looked up where nothing failed: this is asked for every offer.
        !self.0.is_empty() && self.0.get(&(key, agent_id.to_owned())).is_some_and(|until| *until > now)
    }
}

/// Attributes and places for tests.
#[cfg(test)]
pub(super) mod fixture {
    use proto::mesos::domain_info::FaultDomain;
    use proto::mesos::domain_info::fault_domain::{RegionInfo, ZoneInfo};
    use proto::mesos::{Attribute, DomainInfo};

    /// `NAME:VALUE` as `--attributes` of an agent takes it.
    pub(crate) fn attribute(text: &str) -> Attribute {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        proto::attributes::attribute(name, value)
    }

    pub(crate) fn domain(region: &str, zone: &str) -> DomainInfo {
        DomainInfo {
            fault_domain: Some(FaultDomain {
                region: RegionInfo { name: region.to_owned() },
                zone: ZoneInfo { name: zone.to_owned() },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::attribute;
    use super::*;

    fn terms(constraints: &[&str], preferences: &[&str]) -> Terms {
        let parse = |texts: &[&str]| texts.iter().filter_map(|text| text.parse().ok()).collect();
        Terms { constraints: parse(constraints), preferences: parse(preferences), takes_revocable: false }
    }

    #[test]
    fn a_broken_constraint_is_final_and_everything_else_a_matter_of_time() {
        let (r1, r2) = ([attribute("rack:r1")], [attribute("rack:r2")]);
        let on = |attributes| Agent { attributes, ..Agent::default() };
        let terms = terms(&["rack exists"], &["rack==r1"]);
        assert_eq!(terms.verdict(&on(&r1), false), Verdict::Fits);
        assert_eq!(terms.verdict(&on(&r2), false), Verdict::Later(PREFER_PATIENCE, Reluctance::NotPreferred));
        assert_eq!(terms.verdict(&on(&r1), true), Verdict::Later(AVOID_PATIENCE, Reluctance::HasFailed));
        let ahead = Agent { is_in_maintenance: true, ..on(&r1) };
        assert_eq!(terms.verdict(&ahead, false), Verdict::Later(AVOID_PATIENCE, Reluctance::InMaintenance));
        assert!(matches!(terms.verdict(&on(&[]), true), Verdict::Never(constraint) if constraint.name() == "rack"));
        assert_eq!((terms.score(&on(&r1)), terms.score(&on(&r2))), (1, 0));
        assert_eq!(Terms::default().verdict(&on(&[]), false), Verdict::Fits);
    }

    #[test]
    fn a_failure_is_forgotten_after_a_while() {
        let mut failed = Failed::default();
        failed.note(Duration::ZERO, 1, "a");
        assert!(failed.has(Duration::from_secs(59), 1, "a"));
        assert!(!failed.has(Duration::from_secs(59), 2, "a") && !failed.has(Duration::from_secs(59), 1, "b"));
        assert!(!failed.has(Duration::from_secs(60), 1, "a"));
    }
}
