//! Why nobody's offer fits: the last offer of each agent against the need of the task that waits first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proto::resources::{Resources, Scalar};

use super::Time;
use crate::update::Waiting;

/// A task that is launched within a second needs no explanation.
const FIRST_REPORT: Duration = Duration::from_secs(1);

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
    hostname: String,
    offered: Resources,
}

/// The smallest lack of one resource, and how many agents lack it.
struct Lack {
    agents: u32,
    least: Scalar,
    best: String,
}

impl Shortfalls {
    /// The last offer of an agent counts.
    pub(super) fn note(&mut self, agent_id: String, hostname: String, offered: Resources) {
        self.agents.insert(agent_id, Seen { hostname, offered });
    }

    pub(super) fn clear(&mut self) {
        self.agents.clear();
    }

    /// How many agents offered, and what they lack for `need`, most frequent first.
    pub(super) fn explain(&self, need: &Resources) -> (u32, Vec<String>) {
        let mut lacks: BTreeMap<String, Lack> = BTreeMap::new();
        for seen in self.agents.values() {
            for shortfall in seen.offered.pick(need).err().unwrap_or_default() {
                let least = shortfall.needed - shortfall.available;
                let lack = lacks.entry(shortfall.name).or_insert_with(|| Lack {
                    agents: 0,
                    least,
                    best: seen.hostname.clone(),
                });
                lack.agents += 1;
                if (least, &seen.hostname) < (lack.least, &lack.best) {
                    lack.least = least;
                    lack.best.clone_from(&seen.hostname);
                }
            }
        }
        let mut lacks: Vec<(String, Lack)> = lacks.into_iter().collect();
        lacks.sort_by_key(|(_, lack)| Reverse(lack.agents));
        let agents = u32::try_from(self.agents.len()).unwrap_or(u32::MAX);
        (agents, lacks.iter().map(|(name, lack)| lack.text(name)).collect())
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

/// When the waiting was last reported, and how.
#[derive(Debug, Default)]
pub(super) struct Report {
    next_at: Option<Time>,
    last: Option<(Time, u32, Vec<String>)>,
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
    pub(super) fn make(
        &mut self,
        now: Time,
        since: Time,
        explain: impl FnOnce() -> (u32, Vec<String>),
    ) -> Option<Waiting> {
        if self.next_at.is_none_or(|at| at > now) {
            return None;
        }
        self.next_at = Some(now + REPORT_PAUSE);
        let (agents_offered, reasons) = explain();
        if let Some((at, last_agents, last_reasons)) = &self.last
            && *at + REPORT_AGAIN > now
            && *last_agents == agents_offered
            && *last_reasons == reasons
        {
            return None;
        }
        self.last = Some((now, agents_offered, reasons.clone()));
        Some(Waiting { waiting_for: now.saturating_sub(since), agents_offered, reasons })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{resources, s};
    use super::*;

    fn note(shortfalls: &mut Shortfalls, agent: &str, cpus: f64, mem: f64) {
        shortfalls.note(agent.to_owned(), format!("{agent}.example"), Resources::from(resources(cpus, mem)));
    }

    #[test]
    fn lacks_are_grouped_most_frequent_first_with_the_best_agent() {
        let mut shortfalls = Shortfalls::default();
        for (agent, cpus, mem) in [("a", 0.5, 100.0), ("b", 9.0, 150.0), ("c", 9.0, 20.0)] {
            note(&mut shortfalls, agent, cpus, mem);
        }
        let need = Resources::from(resources(1.0, 200.0));
        let reasons = ["mem short by 50 MB on 3 agents (best: b.example)", "cpus short by 0.5 on 1 agent (a.example)"];
        assert_eq!(shortfalls.explain(&need), (3, reasons.map(str::to_owned).to_vec()));
        note(&mut shortfalls, "a", 8.0, 199.0);
        assert_eq!(shortfalls.explain(&need).1, ["mem short by 1 MB on 3 agents (best: a.example)"]);
        shortfalls.clear();
        assert_eq!(shortfalls.explain(&need), (0, vec![]));
    }

    #[test]
    fn what_no_agent_has_at_all_is_named_too() {
        let mut shortfalls = Shortfalls::default();
        note(&mut shortfalls, "a", 1.0, 100.0);
        let need: Resources = "cpus:1;gpus:2;ports:[8000-8001]".parse().unwrap_or_default();
        let reasons = ["gpus short by 2 on 1 agent (a.example)", "ports short by 2 on 1 agent (a.example)"];
        assert_eq!(shortfalls.explain(&need).1, reasons);
    }

    #[test]
    fn reports_come_on_change_and_at_intervals() {
        let mut report = Report::default();
        assert_eq!(report.due(), None);
        report.start(s(5), s(5));
        let mut times = Vec::new();
        while let Some(at) = report.due().filter(|at| *at <= s(30)) {
            let reasons = if at < s(10) { vec![] } else { vec!["x".to_owned()] };
            if let Some(waiting) = report.make(at, s(5), || (1, reasons)) {
                times.push((at.as_secs(), waiting.waiting_for.as_secs()));
            }
        }
        assert_eq!(times, [(6, 1), (10, 5), (20, 15), (30, 25)]);
        report.stop();
        assert_eq!(report.due(), None);
    }
}
