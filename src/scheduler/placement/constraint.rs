//! One constraint on an agent: `rack==r1`, `rack!=r1`, `rack=~r[12]`, `rack!~r[12]`, `rack in (r1,r2)`, `rack not in (r1,r2)`,
//! `rack exists`, `rack not exists`, `cores>=16`. PURE.
//!
//! A name is that of an attribute, else `hostname`, `region` or `zone`. An attribute is a text, a number, ranges or a set, and an
//! agent may have several of one name: a positive constraint holds if any value does, a negative one if none does, so it also
//! holds where there is no value at all.

use std::fmt;
use std::str::FromStr;

use proto::mesos::{Attribute, value};
use regex_lite::Regex;

use super::Agent;

/// What must hold for an agent.
#[derive(Debug, Clone)]
pub struct Constraint {
    /// As it was written, without superfluous blanks.
    text: String,
    name: String,
    is_negated: bool,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Exists,
    In(Vec<String>),
    Matches(Regex),
    Compared(Comparison, f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Constraint {
    /// Whether the agent may run the task.
    pub fn holds(&self, agent: &Agent<'_>) -> bool {
        let any = match agent.attributes.iter().any(|attribute| attribute.name == self.name) {
            true => agent.attributes.iter().filter(|attribute| attribute.name == self.name).any(|it| self.test.of(it)),
            false => agent.place(&self.name).is_some_and(|place| self.test.of_text(place)),
        };
        any != self.is_negated
    }

    /// What the agent has of the name, for people: `r2`, or `nothing`.
    pub fn found(&self, agent: &Agent<'_>) -> String {
        let values: Vec<String> = agent.attributes.iter().filter(|it| it.name == self.name).map(shown).collect();
        match (values.is_empty(), agent.place(&self.name)) {
            (false, _) => values.join(", "),
            (true, Some(place)) => place.to_owned(),
            (true, None) => "nothing".to_owned(),
        }
    }

    /// The attribute's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Constraint {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Constraint {}

impl Test {
    fn of(&self, attribute: &Attribute) -> bool {
        match attribute.r#type() {
            value::Type::Text => self.of_text(attribute.text.as_ref().map_or("", |text| text.value.as_str())),
            value::Type::Scalar => self.of_number(attribute.scalar.as_ref().map_or(0.0, |scalar| scalar.value)),
            value::Type::Set => attribute.set.iter().flat_map(|set| &set.item).any(|item| self.of_text(item)),
            value::Type::Ranges => {
                let mut ranges = attribute.ranges.iter().flat_map(|ranges| &ranges.range);
                ranges.any(|range| self.of_range(range.begin, range.end))
            }
        }
    }

    fn of_text(&self, text: &str) -> bool {
        match self {
            Self::Exists => true,
            Self::In(values) => values.iter().any(|value| value == text),
            Self::Matches(pattern) => pattern.is_match(text),
            Self::Compared(comparison, limit) => text.parse().is_ok_and(|number| comparison.of(number, *limit)),
        }
    }

    fn of_number(&self, number: f64) -> bool {
        match self {
            Self::Exists => true,
            // As exact as Mesos counts.
            Self::In(values) => {
                values.iter().filter_map(|value| value.parse().ok()).any(|value: f64| (value - number).abs() < 0.0005)
            }
            Self::Matches(pattern) => pattern.is_match(&number.to_string()),
            Self::Compared(comparison, limit) => comparison.of(number, *limit),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "limits are written by people")]
    fn of_range(&self, begin: u64, end: u64) -> bool {
        match self {
            Self::Exists => true,
            Self::In(values) => {
                values.iter().filter_map(|value| value.parse().ok()).any(|value| (begin..=end).contains(&value))
            }
            Self::Matches(pattern) => pattern.is_match(&format!("{begin}-{end}")),
            Self::Compared(comparison, limit) => match comparison {
                Comparison::Less | Comparison::LessOrEqual => comparison.of(begin as f64, *limit),
                Comparison::Greater | Comparison::GreaterOrEqual => comparison.of(end as f64, *limit),
            },
        }
    }
}

impl Comparison {
    fn of(self, number: f64, limit: f64) -> bool {
        match self {
            Self::Less => number < limit,
            Self::LessOrEqual => number <= limit,
            Self::Greater => number > limit,
            Self::GreaterOrEqual => number >= limit,
        }
    }
}

fn shown(attribute: &Attribute) -> String {
    match attribute.r#type() {
        value::Type::Text => attribute.text.as_ref().map_or_else(String::new, |text| text.value.clone()),
        value::Type::Scalar => attribute.scalar.as_ref().map_or_else(String::new, |scalar| scalar.value.to_string()),
        value::Type::Set => {
            let items: Vec<&str> = attribute.set.iter().flat_map(|set| &set.item).map(String::as_str).collect();
            format!("{{{}}}", items.join(","))
        }
        value::Type::Ranges => {
            let ranges = attribute.ranges.iter().flat_map(|ranges| &ranges.range);
            format!("[{}]", ranges.map(|range| format!("{}-{}", range.begin, range.end)).collect::<Vec<_>>().join(","))
        }
    }
}

/// The operators that are signs; a longer one comes before its beginning.
const SIGNS: [&str; 10] = ["==", "!=", "=~", "!~", "<=", ">=", "<", ">", "~", "="];

const ACCEPTED: &str =
    "write it as in rack==r1, rack!=r1, 'rack=~r[12]', 'rack in (r1,r2)', 'rack exists' or 'cores>=16'";

impl FromStr for Constraint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let name_ends = text.find(|c: char| c.is_whitespace() || "=!<>~(".contains(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(name_ends);
        let rest = rest.trim();
        let name = name.strip_prefix('@').unwrap_or(name);
        // What is shown must mean the same when it is read again: one @ at most.
        if name.is_empty() || name.starts_with('@') || rest.is_empty() {
            return Err(format!("not a constraint; {ACCEPTED}"));
        }
        let make = |text: String, is_negated, test| Ok(Self { text, name: name.to_owned(), is_negated, test });
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            let operand = rest[sign.len()..].trim();
            if operand.is_empty() {
                return Err(format!("nothing stands behind {sign}; {ACCEPTED}"));
            }
            let number = || operand.parse::<f64>().ok().filter(|number| number.is_finite());
            let number = || number().ok_or_else(|| format!("'{operand}' behind {sign} is not a number; {ACCEPTED}"));
            let test = match sign {
                "==" | "=" | "!=" => Test::In(vec![operand.to_owned()]),
                // The whole value, as everywhere on Mesos.
                "=~" | "~" | "!~" => match Regex::new(&format!("^(?:{operand})$")) {
                    Ok(pattern) => Test::Matches(pattern),
                    Err(error) => return Err(format!("'{operand}' is not a regular expression: {error}")),
                },
                "<" => Test::Compared(Comparison::Less, number()?),
                "<=" => Test::Compared(Comparison::LessOrEqual, number()?),
                ">" => Test::Compared(Comparison::Greater, number()?),
                _ => Test::Compared(Comparison::GreaterOrEqual, number()?),
            };
            let shown = match sign {
                "=" => "==",
                "~" => "=~",
                sign => sign,
            };
            return make(format!("{name}{shown}{operand}"), sign.starts_with('!'), test);
        }
        let (is_negated, rest) = match rest.strip_prefix("not") {
            Some(rest) if rest.starts_with(char::is_whitespace) => (true, rest.trim_start()),
            _ => (false, rest),
        };
        let not = if is_negated { "not " } else { "" };
        if rest == "exists" {
            return make(format!("{name} {not}exists"), is_negated, Test::Exists);
        }
        let list =
            rest.strip_prefix("in").map(str::trim_start).and_then(|rest| rest.strip_prefix('(')?.strip_suffix(')'));
        let Some(list) = list else { return Err(format!("unknown operator in '{text}'; {ACCEPTED}")) };
        let values: Vec<String> = list.split(',').map(|value| value.trim().to_owned()).collect();
        if values.iter().any(String::is_empty) {
            return Err(format!("the list in '{text}' has an empty value; {ACCEPTED}"));
        }
        make(format!("{name} {not}in ({})", values.join(",")), is_negated, Test::In(values))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use proto::resources::Resources;

    use super::super::fixture::{attribute, domain};
    use super::*;

    fn attributes() -> Vec<Attribute> {
        ["rack:r1", "cores:16", "ports:[31000-32000]", "disks:{ssd,hdd}", "rack:old"].map(attribute).to_vec()
    }

    fn holds(constraint: &str) -> bool {
        let (attributes, domain) = (attributes(), domain("eu", "eu-1"));
        let agent =
            Agent { hostname: "a7.example", attributes: &attributes, domain: Some(&domain), is_in_maintenance: false };
        constraint.parse::<Constraint>().unwrap().holds(&agent)
    }

    #[test]
    fn constraints_are_about_attributes_of_every_type_and_about_the_place() {
        for yes in [
            "rack==r1",
            "rack = r1",
            "rack==old",
            "rack!=r2",
            "rack=~r[12]",
            "rack ~ r.",
            "rack!~x.*",
            "rack in (r1, r2)",
            "rack in(r1)",
            "rack not in (r2,r3)",
            "rack exists",
            "tier not exists",
            "tier!=gold",
            "tier not in (gold)",
            "cores==16",
            "cores==16.0",
            "cores>=16",
            "cores<17",
            "cores in (8,16)",
            "cores=~1.",
            "ports==31500",
            "ports>31999",
            "ports<=31000",
            "disks==ssd",
            "disks=~h.d",
            "hostname==a7.example",
            "@hostname=~a[0-9]+\\..*",
            "region==eu",
            "zone in (eu-1,eu-2)",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in [
            "rack==r2",
            "rack!=r1",
            "rack=~r",
            "rack exists not",
            "rack not exists",
            "tier exists",
            "tier==gold",
            "cores>16",
            "cores==15",
            "cores!=16",
            "ports==30999",
            "ports>32000",
            "disks==nvme",
            "disks!=ssd",
            "hostname!=a7.example",
            "zone==eu-2",
            "rack>3",
        ] {
            assert!(no == "rack exists not" || !holds(no), "{no}");
        }
    }

    #[test]
    fn what_is_no_constraint_is_refused_with_examples() {
        for wrong in [
            "",
            "rack",
            "==r1",
            "rack==",
            "rack exists not",
            "rack is r1",
            "rack in r1",
            "rack in (a,)",
            "cores>many",
            "rack=~(",
        ] {
            let error = wrong.parse::<Constraint>().unwrap_err();
            assert!(!error.is_empty() && error.lines().count() == 1 || wrong == "rack=~(", "{wrong}: {error}");
        }
    }

    #[test]
    fn what_an_agent_has_is_shown() {
        let attributes = attributes();
        let agent = Agent { attributes: &attributes, ..Agent::default() };
        let found = |constraint: &str| constraint.parse::<Constraint>().unwrap().found(&agent);
        assert_eq!(found("rack==r2"), "r1, old");
        assert_eq!(found("ports==1"), "[31000-32000]");
        assert_eq!(found("disks==x"), "{hdd,ssd}");
        assert_eq!(found("tier==gold"), "nothing");
        assert_eq!("rack  =  r1".parse::<Constraint>().unwrap().to_string(), "rack==r1");
    }

    proptest! {
        #[test]
        fn a_constraint_and_its_negation_never_agree(value in "[a-z0-9.]{1,4}", list in prop::collection::vec("[a-z0-9]{1,3}", 1..4)) {
            let list = list.join(",");
            let pairs = [
                (format!("rack=={value}"), format!("rack!={value}")),
                (format!("rack=~{value}"), format!("rack!~{value}")),
                (format!("rack in ({list})"), format!("rack not in ({list})")),
                ("rack exists".to_owned(), "rack not exists".to_owned()),
            ];
            let all = [vec![], vec![attribute(&format!("rack:{value}"))], attributes()];
            for (yes, no) in pairs {
                for attributes in &all {
                    let agent = Agent { attributes, ..Agent::default() };
                    let holds = |text: &str| text.parse::<Constraint>().unwrap().holds(&agent);
                    prop_assert_ne!(holds(&yes), holds(&no), "{} {}", yes, no);
                }
            }
        }

        #[test]
        fn any_text_is_a_constraint_or_an_error_and_what_is_shown_means_the_same(text in "[a-z@ =!~<>(),.0-9]{0,16}") {
            if let Ok(constraint) = text.parse::<Constraint>() {
                prop_assert_eq!(constraint.to_string().parse::<Constraint>(), Ok(constraint));
            }
            let _ = Resources::new();
        }
    }
}
