//! Why nobody's offer fits: the last offer of each agent against the need of the task that waits first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::mesos::Offer;
use proto::resources::{Resources, Scalar};

use super::Time;
use super::placement::{Agent, Reluctance, Terms, Verdict};
use crate::hash::HashMap;
use crate::update::Waiting;

/// A task that is launched within two seconds needs no explanation.
const FIRST_REPORT: Duration = Duration::from_secs(2);

/// Between two reports that differ.
const REPORT_PAUSE: Duration = Duration::from_secs(1);

/// Between two reports that say the same.
const REPORT_AGAIN: Duration = Duration::from_secs(10);

/// What agents offered and did not suit.
#[derive(Debug, Default)]
pub(super) struct Shortfalls {
    agents: HashMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    /// Without its resources.
    offer: Arc<Offer>,
    /// What was not taken of it.
    offered: Resources,
}

/// Why a task waits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Explanation {
    /// How many agents offered.
    pub(super) agents_offered: u32,
    /// What they lack, most frequent first.
    pub(super) reasons: Vec<String>,
    /// What may keep agents from offering, where none did.
    pub(super) hints: Vec<String>,
}

impl Explanation {
    /// `3 agents offered`.
    pub(super) fn agents(&self) -> String {
        match self.agents_offered {
            1 => "1 agent offered".to_owned(),
            count => format!("{count} agents offered"),
        }
    }
}

/// The smallest lack of one resource, and how many agents lack it.
struct Lack {
    agents: u32,
    least: Scalar,
    best: String,
}

/// Agents that break the same constraint, or are second choice for the same reason, and one of them.
#[derive(Default)]
struct Unsuitable {
    agents: u32,
    example: String,
}

impl Unsuitable {
    /// The example is the first one by name, so that it stays.
    fn add(&mut self, example: String) {
        self.agents += 1;
        if self.example.is_empty() || example < self.example {
            self.example = example;
        }
    }
}

impl Shortfalls {
    /// The last offer of an agent counts; `offered` is what was not taken of it.
    pub(super) fn note(&mut self, offer: Arc<Offer>, offered: Resources) {
        match self.agents.get_mut(&offer.agent_id.value) {
            Some(seen) => *seen = Seen { offer, offered },
            None => drop(self.agents.insert(offer.agent_id.value.clone(), Seen { offer, offered })),
        }
    }

    pub(super) fn clear(&mut self) {
        self.agents.clear();
    }

    /// How many agents offered, and what they lack for the task, most frequent first: an agent that breaks a constraint counts
    /// there only, whatever it has.
    pub(super) fn explain(&self, need: &Resources, terms: &Terms, has_failed: impl Fn(&str) -> bool) -> Explanation {
        let mut lacks: BTreeMap<String, Lack> = BTreeMap::new();
        let mut mismatches: BTreeMap<String, Unsuitable> = BTreeMap::new();
        let mut later: BTreeMap<Reluctance, Unsuitable> = BTreeMap::new();
        for (agent_id, seen) in &self.agents {
            let (agent, hostname) = (Agent::of(&seen.offer), &seen.offer.hostname);
            let reluctance = match terms.verdict(&agent, has_failed(agent_id)) {
                Verdict::Never(constraint) => {
                    let has = format!("{hostname}: {} is {}", constraint.name(), constraint.found(&agent));
                    mismatches.entry(constraint.to_string()).or_default().add(has);
                    continue;
                }
                Verdict::Later(_, reluctance) => Some(reluctance),
                Verdict::Fits => None,
            };
            let Err(shortfalls) = terms.pick(&seen.offered, need) else {
                if let Some(reluctance) = reluctance {
                    later.entry(reluctance).or_default().add(hostname.clone());
                }
                continue;
            };
            for shortfall in shortfalls {
                let least = shortfall.needed - shortfall.available;
                let lack =
                    lacks.entry(shortfall.name).or_insert_with(|| Lack { agents: 0, least, best: hostname.clone() });
                lack.agents += 1;
                if (least, hostname) < (lack.least, &lack.best) {
                    lack.least = least;
                    lack.best.clone_from(hostname);
                }
            }
        }
        let mut reasons: Vec<(u32, String)> = lacks.iter().map(|(name, lack)| (lack.agents, lack.text(name))).collect();
        reasons.extend(mismatches.iter().map(|(constraint, agents)| (agents.agents, agents.text(constraint))));
        reasons.extend(later.iter().map(|(reluctance, agents)| (agents.agents, agents.later(*reluctance))));
        reasons.sort_by_key(|(agents, _)| Reverse(*agents));
        Explanation {
            agents_offered: u32::try_from(self.agents.len()).unwrap_or(u32::MAX),
            reasons: reasons.into_iter().map(|(_, text)| text).collect(),
            hints: Vec::new(),
        }
    }
}

impl Lack {
    fn text(&self, name: &str) -> String {
        let unit = match name {
            "mem" | "disk" => " MB",
            _ => "",
        };
        let Self { agents, least, best } = self;
        match agents {
            1 => format!("{name} short by {least}{unit} on 1 agent ({best})"),
            _ => format!("{name} short by {least}{unit} on {agents} agents (best: {best})"),
        }
    }
}

impl Unsuitable {
    fn text(&self, constraint: &str) -> String {
        let Self { agents, example } = self;
        match agents {
            1 => format!("not {constraint} on 1 agent ({example})"),
            _ => format!("not {constraint} on {agents} agents (such as {example})"),
        }
    }

    fn later(&self, reluctance: Reluctance) -> String {
        let why = match reluctance {
            Reluctance::NotPreferred => "not what --prefer asks for",
            Reluctance::InMaintenance => "maintenance ahead",
            Reluctance::HasFailed => "the launch failed a moment ago",
        };
        let Self { agents, example } = self;
        match agents {
            1 => format!("{why} on 1 agent ({example}); it will do in a while"),
            _ => format!("{why} on {agents} agents (such as {example}); they will do in a while"),
        }
    }
}

/// When the waiting was last reported, and how.
#[derive(Debug, Default)]
pub(super) struct Report {
    next_at: Option<Time>,
    last: Option<(Time, Explanation)>,
}

impl Report {
    /// Nobody waits, or nobody can be asked.
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }

    /// Somebody has been waiting since then.
    pub(super) fn start(&mut self, now: Time, since: Time) {
        self.next_at.get_or_insert(now.max(since + FIRST_REPORT));
    }

    /// When to call `make` at the latest.
    pub(super) fn due(&self) -> Option<Time> {
        self.next_at
    }

    /// The report that is due at `now`: when it says something new, and else every `REPORT_AGAIN`.
    pub(super) fn make(&mut self, now: Time, since: Time, explain: impl FnOnce() -> Explanation) -> Option<Waiting> {
        if self.next_at.is_none_or(|at| at > now) {
            return None;
        }
        self.next_at = Some(now + REPORT_PAUSE);
        let explanation = explain();
        if let Some((at, last)) = &self.last
            && *at + REPORT_AGAIN > now
            && *last == explanation
        {
            return None;
        }
        self.last = Some((now, explanation.clone()));
        let Explanation { agents_offered, reasons, hints } = explanation;
        Some(Waiting { waiting_for: now.saturating_sub(since), agents_offered, reasons, hints })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{offer, resources, s};
    use super::super::placement::fixture::attribute;
    use super::*;

    fn note(shortfalls: &mut Shortfalls, agent: &str, cpus: f64, mem: f64) {
        shortfalls.note(offer("o", agent, 0.0, 0.0).into(), Resources::from(resources(cpus, mem)));
    }

    fn explain(shortfalls: &Shortfalls, need: &Resources) -> (u32, Vec<String>) {
        let explanation = shortfalls.explain(need, &Terms::default(), |_| false);
        (explanation.agents_offered, explanation.reasons)
    }

    #[test]
    fn lacks_are_grouped_most_frequent_first_with_the_best_agent() {
        let mut shortfalls = Shortfalls::default();
        for (agent, cpus, mem) in [("a", 0.5, 100.0), ("b", 9.0, 150.0), ("c", 9.0, 20.0)] {
            note(&mut shortfalls, agent, cpus, mem);
        }
        let need = Resources::from(resources(1.0, 200.0));
        let reasons = ["mem short by 50 MB on 3 agents (best: b.example)", "cpus short by 0.5 on 1 agent (a.example)"];
        assert_eq!(explain(&shortfalls, &need), (3, reasons.map(str::to_owned).to_vec()));
        note(&mut shortfalls, "a", 8.0, 199.0);
        assert_eq!(explain(&shortfalls, &need).1, ["mem short by 1 MB on 3 agents (best: a.example)"]);
        shortfalls.clear();
        assert_eq!(explain(&shortfalls, &need), (0, vec![]));
    }

    #[test]
    fn what_no_agent_has_at_all_is_named_too() {
        let mut shortfalls = Shortfalls::default();
        note(&mut shortfalls, "a", 1.0, 100.0);
        let need: Resources = "cpus:1;gpus:2;ports:[8000-8001]".parse().unwrap_or_default();
        let reasons = ["gpus short by 2 on 1 agent (a.example)", "ports short by 2 on 1 agent (a.example)"];
        assert_eq!(explain(&shortfalls, &need).1, reasons);
    }

    #[test]
    fn constraints_second_choices_and_lacks_are_told_apart() {
        let mut shortfalls = Shortfalls::default();
        for (agent, attributes, cpus) in
            [("a", "rack:r2", 9.0), ("b", "rack:r3", 0.1), ("c", "rack:r1", 0.5), ("d", "rack:r1", 9.0)]
        {
            let mut offer = offer("o", agent, 0.0, 0.0);
            offer.attributes = vec![attribute(attributes)];
            shortfalls.note(offer.into(), Resources::from(resources(cpus, 100.0)));
        }
        note(&mut shortfalls, "e", 9.0, 9.0);
        let need = Resources::from(resources(1.0, 10.0));
        let parse = |text: &str| text.parse().into_iter().collect();
        let terms = Terms { constraints: parse("rack==r1"), preferences: parse("hostname==z"), takes_revocable: false };
        let explanation = shortfalls.explain(&need, &terms, |agent| agent == "d");
        let reasons = [
            "not rack==r1 on 3 agents (such as a.example: rack is r2)",
            "cpus short by 0.5 on 1 agent (c.example)",
            "the launch failed a moment ago on 1 agent (d.example); it will do in a while",
        ];
        assert_eq!(explanation.reasons, reasons);
    }

    #[test]
    fn reports_come_on_change_and_at_intervals() {
        let mut report = Report::default();
        assert_eq!(report.due(), None);
        report.start(s(5), s(5));
        let mut times = Vec::new();
        while let Some(at) = report.due().filter(|at| *at <= s(30)) {
            let reasons = if at < s(10) { vec![] } else { vec!["x".to_owned()] };
            let explanation = Explanation { agents_offered: 1, reasons, hints: vec![] };
            if let Some(waiting) = report.make(at, s(5), || explanation) {
                times.push((at.as_secs(), waiting.waiting_for.as_secs()));
            }
        }
        assert_eq!(times, [(7, 2), (10, 5), (20, 15), (30, 25)]);
        report.stop();
        assert_eq!(report.due(), None);
    }
}
