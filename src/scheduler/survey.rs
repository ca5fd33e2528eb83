//! What the master says about its agents (`/slaves`, and `/state.json` of old masters): read to explain why nothing is offered, and for
//! `--dry-run`. PURE: text in, numbers out; the shell fetches it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proto::attributes::attribute;
use proto::mesos::domain_info::FaultDomain;
use proto::mesos::domain_info::fault_domain::{RegionInfo, ZoneInfo};
use proto::mesos::{AgentId, Attribute, DomainInfo, Offer, Resource};
use proto::resources::{Resources, Scalar};
use serde::Deserialize;
use serde_json::Value;

use super::placement::{Agent, Terms, Verdict};
use super::shortfall::Shortfalls;

/// All agents that a master knows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Survey {
    /// In the master's order.
    pub agents: Vec<Surveyed>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Surveyed {
    /// Its host.
    pub hostname: String,
    /// Whether it is connected, and neither draining nor deactivated.
    pub is_active: bool,
    /// Everything it has.
    pub total: Resources,
    /// What no task uses and nobody is offered.
    pub free: Resources,
    /// Its attributes; those that are no numbers, ranges or sets are texts.
    pub attributes: Vec<Attribute>,
    /// Since Mesos 1.4.
    pub domain: Option<DomainInfo>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    slaves: Vec<WireAgent>,
}

#[derive(Deserialize)]
struct WireAgent {
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    active: Option<bool>,
    #[serde(default)]
    deactivated: bool,
    #[serde(default)]
    drain_info: Option<Value>,
    #[serde(default)]
    resources: BTreeMap<String, Value>,
    #[serde(default)]
    used_resources: BTreeMap<String, Value>,
    #[serde(default)]
    offered_resources: BTreeMap<String, Value>,
    #[serde(default)]
    attributes: BTreeMap<String, Value>,
    #[serde(default)]
    domain: Option<WireDomain>,
}

#[derive(Deserialize)]
struct WireDomain {
    fault_domain: Option<WireFaultDomain>,
}

#[derive(Deserialize)]
struct WireFaultDomain {
    region: WireName,
    zone: WireName,
}

#[derive(Deserialize)]
struct WireName {
    name: String,
}

/// Which agents could run a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Match {
    /// How many agents were looked at.
    pub agents: usize,
    /// The hosts of those that could, the preferred ones first.
    pub hostnames: Vec<String>,
    /// Why the others could not, most frequent first.
    pub reasons: Vec<String>,
}

impl Survey {
    /// Which agents have free what a task needs.
    pub fn matching(&self, need: &[Resource], terms: &Terms) -> Match {
        let need = Resources::from(need);
        let mut others = Shortfalls::default();
        let mut fitting = Vec::new();
        let mut inactive = 0;
        for (number, agent) in self.agents.iter().enumerate() {
            if !agent.is_active {
                inactive += 1;
                continue;
            }
            let offer = Offer {
                agent_id: AgentId { value: number.to_string() },
                hostname: agent.hostname.clone(),
                attributes: agent.attributes.clone(),
                domain: agent.domain.clone(),
                ..Offer::default()
            };
            let place = Agent::of(&offer);
            let is_welcome = !matches!(terms.verdict(&place, false), Verdict::Never(_));
            if is_welcome && terms.pick(&agent.free, &need).is_ok() {
                fitting.push((Reverse(terms.score(&place)), agent.hostname.clone()));
            } else {
                others.note(offer.into(), agent.free.clone());
            }
        }
        fitting.sort();
        let mut reasons = others.explain(&need, terms, |_| false).reasons;
        if inactive > 0 {
            reasons.push(format!("{} not active", count(inactive)));
        }
        Match { agents: self.agents.len(), hostnames: fitting.into_iter().map(|(_, name)| name).collect(), reasons }
    }

    /// Reads the answer of `/slaves`, or of `/state.json`.
    ///
    /// # Errors
    /// It is no such answer.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let wire: Wire = serde_json::from_slice(json)?;
        Ok(Self { agents: wire.slaves.into_iter().map(Surveyed::from).collect() })
    }

    /// What may keep every agent from being offered to `role`, for people, the likeliest first.
    pub fn hints(&self, role: &str, need: &Resources) -> Vec<String> {
        let active = self.agents.iter().filter(|agent| agent.is_active).count();
        let with_gpus = self.agents.iter().filter(|agent| agent.total.scalar("gpus") > Scalar::ZERO).count();
        let idle =
            self.agents.iter().filter(|agent| agent.is_active && agent.free.scalar("cpus") > Scalar::ZERO).count();
        let all = self.agents.len();
        if all == 0 {
            return vec!["the master has no agents: start some, and check that they reach it".to_owned()];
        }
        if active == 0 {
            return vec![format!(
                "none of the master's {} is active: they are cut off, draining or deactivated",
                count(all)
            )];
        }
        let mut hints = Vec::new();
        if idle == 0 {
            hints.push(format!(
                "all processors of the master's {} are in use or offered to others: wait",
                count(active)
            ));
        } else {
            hints.push(format!(
                "{} of the master's {} have free processors, but none for role {role:?}: they may be reserved for other roles, or beyond a quota; \
                 choose another --role, or ask the cluster's operator",
                idle,
                count(active)
            ));
        }
        if with_gpus == all && need.scalar("gpus") == Scalar::ZERO {
            hints.push("every agent has GPUs, which Mesos keeps from tasks that ask for none: add --gpus".to_owned());
        }
        hints
    }
}

/// `1 agent`, `3 agents`.
fn count(agents: usize) -> String {
    if agents == 1 { "1 agent".to_owned() } else { format!("{agents} agents") }
}

impl From<WireAgent> for Surveyed {
    fn from(wire: WireAgent) -> Self {
        let total = resources(&wire.resources);
        let mut free = total.clone();
        free -= &resources(&wire.used_resources);
        free -= &resources(&wire.offered_resources);
        Self {
            hostname: wire.hostname,
            is_active: wire.active.unwrap_or(true) && !wire.deactivated && wire.drain_info.is_none(),
            total,
            free,
            attributes: wire.attributes.iter().map(|(name, value)| attribute(name, &text(value))).collect(),
            domain: wire.domain.and_then(|domain| domain.fault_domain).map(|fault| DomainInfo {
                fault_domain: Some(FaultDomain {
                    region: RegionInfo { name: fault.region.name },
                    zone: ZoneInfo { name: fault.zone.name },
                }),
            }),
        }
    }
}

/// Numbers are scalars, `"[1-5]"` are ranges, `"{a,b}"` is a set; what is neither is left out.
fn resources(fields: &BTreeMap<String, Value>) -> Resources {
    fields.iter().filter_map(|(name, value)| resource(name, &text(value))).collect()
}

fn resource(name: &str, text: &str) -> Option<Resource> {
    let parsed: Resources = format!("{name}:{text}").parse().ok()?;
    Vec::from(parsed).into_iter().next()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const SLAVES: &str = r#"{"slaves":[
        {"hostname":"a1","active":true,"resources":{"cpus":4.0,"mem":1024.0,"ports":"[31000-32000]"},
         "used_resources":{"cpus":1.0,"mem":1000.0,"ports":"[31000-31000]"},"offered_resources":{"cpus":0.5},
         "attributes":{"rack":"r1","cores":16.0},"domain":{"fault_domain":{"region":{"name":"eu"},"zone":{"name":"eu-1"}}}},
        {"hostname":"a2","active":false,"resources":{"cpus":4.0}}]}"#;

    #[test]
    fn what_is_free_is_what_nobody_uses_and_nobody_was_offered() {
        let survey = Survey::parse(SLAVES.as_bytes()).unwrap();
        let [a1, a2] = survey.agents.as_slice() else { panic!("{survey:?}") };
        assert_eq!(a1.free.to_string(), "cpus:2.5;mem:24;ports:[31001-32000]");
        assert_eq!((a1.is_active, a2.is_active), (true, false));
        assert_eq!(a1.attributes.len(), 2);
        assert!(a1.attributes.iter().any(|attribute| attribute.name == "cores" && attribute.scalar.is_some()));
        assert_eq!(a1.domain.as_ref().unwrap().fault_domain.as_ref().unwrap().zone.name, "eu-1");
        assert!(Survey::parse(b"{}").unwrap().agents.is_empty());
        assert!(Survey::parse(b"<html>").is_err());
    }

    #[test]
    fn a_survey_tells_where_a_task_could_run() {
        let survey = Survey::parse(SLAVES.as_bytes()).unwrap();
        let matching = |need: &str, constraint: &str| {
            let terms = Terms { constraints: constraint.parse().into_iter().collect(), ..Terms::default() };
            survey.matching(&Vec::from(need.parse::<Resources>().unwrap()), &terms)
        };
        assert_eq!(matching("cpus:2", "zone==eu-1").hostnames, ["a1"]);
        let none = matching("cpus:3", "");
        assert_eq!((none.agents, none.hostnames.len()), (2, 0));
        assert_eq!(none.reasons, ["cpus short by 0.5 on 1 agent (a1)", "1 agent not active"]);
        assert_eq!(matching("cpus:1", "rack==r2").reasons[0], "not rack==r2 on 1 agent (a1: rack is r1)");
    }

    #[test]
    fn hints_tell_why_nothing_is_offered() {
        let need: Resources = "cpus:1".parse().unwrap();
        let hints = |slaves: &str| Survey::parse(slaves.as_bytes()).unwrap().hints("ops", &need).join(" | ");
        for (slaves, expected) in [
            (r#"{"slaves":[]}"#, "no agents"),
            (r#"{"slaves":[{"active":false}]}"#, "none of the master's 1 agent is active"),
            (r#"{"slaves":[{"active":true,"drain_info":{},"resources":{"cpus":1}}]}"#, "draining"),
            (r#"{"slaves":[{"resources":{"cpus":1},"used_resources":{"cpus":1}}]}"#, "in use or offered to others"),
            (SLAVES, "1 of the master's 1 agent have free processors, but none for role \"ops\""),
            (r#"{"slaves":[{"resources":{"cpus":1,"gpus":2}}]}"#, "add --gpus"),
        ] {
            assert!(hints(slaves).contains(expected), "{slaves}: {}", hints(slaves));
        }
    }
}
