//! Resources as people write them: `cpus:0.5;mem:128;ports(web):[31000-31005];zones:{a,b}`.
//!
//! The form of Mesos' own `--resources`. A single port may stand without its end. Shown are name, role and amount.

use std::fmt;
use std::str::FromStr;

use super::amount::Amount;
use super::{ParseScalarError, Resources, Scalar};
use crate::mesos::value::{self, Range, Type};
use crate::mesos::{Resource, resource};

/// Which resource of a text is malformed, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed resource \"{resource}\": {why}; write it as in \"cpus:0.5;mem:128;ports:[31000-31005]\"")]
pub struct ParseResourcesError {
    resource: String,
    why: String,
}

impl FromStr for Resources {
    type Err = ParseResourcesError;

    fn from_str(text: &str) -> Result<Self, ParseResourcesError> {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        let parse = |part: &str| parse(part).map_err(|why| ParseResourcesError { resource: part.to_owned(), why });
        parts.map(parse).collect()
    }
}

fn parse(part: &str) -> Result<Resource, String> {
    let (name, amount) = part.split_once(':').ok_or("the value is missing")?;
    let (name, role) = match name.trim().split_once('(') {
        None => (name.trim(), "*"),
        Some((name, role)) => {
            (name.trim(), role.strip_suffix(')').ok_or("the role has no closing parenthesis")?.trim())
        }
    };
    for (what, text) in [("name", name), ("role", role)] {
        if text.is_empty() {
            return Err(format!("the {what} is missing"));
        }
        if text.contains(|c: char| c.is_whitespace() || "()[]{},".contains(c)) {
            return Err(format!("\"{text}\" is no {what}"));
        }
    }
    let mut resource = Resource { name: name.to_owned(), role: Some(role.to_owned()), ..Resource::default() };
    let amount = amount.trim();
    if let Some(list) = inside(amount, '[', ']')? {
        resource.r#type = Type::Ranges as i32;
        resource.ranges = Some(value::Ranges { range: list.map(range).collect::<Result<_, _>>()? });
    } else if let Some(list) = inside(amount, '{', '}')? {
        resource.r#type = Type::Set as i32;
        resource.set = Some(value::Set { item: list.map(str::to_owned).collect() });
    } else {
        let scalar = amount.parse::<Scalar>().map_err(|error: ParseScalarError| error.to_string())?;
        resource.r#type = Type::Scalar as i32;
        resource.scalar = Some(value::Scalar { value: scalar.as_f64() });
    }
    Ok(resource)
}

/// The entries of a list in brackets; `None` for a text that does not open with one.
fn inside(text: &str, open: char, close: char) -> Result<Option<impl Iterator<Item = &str>>, String> {
    let Some(rest) = text.strip_prefix(open) else { return Ok(None) };
    let list = rest.strip_suffix(close).ok_or_else(|| format!("the \"{open}\" is not closed"))?;
    Ok(Some(list.split(',').map(str::trim).filter(|entry| !entry.is_empty())))
}

fn range(text: &str) -> Result<Range, String> {
    let (begin, end) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse().map_err(|_| format!("\"{}\" is not a whole number", text.trim()));
    let (begin, end) = (number(begin)?, number(end)?);
    if end < begin {
        return Err(format!("the range {begin}-{end} ends before it begins"));
    }
    Ok(Range { begin, end })
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, resource) in self.iter().enumerate() {
            let semicolon = if index > 0 { ";" } else { "" };
            write!(f, "{semicolon}{}", resource.name)?;
            match role(resource) {
                "*" => {}
                role => write!(f, "({role})")?,
            }
            match Amount::of(resource) {
                Amount::Scalar(scalar) => write!(f, ":{scalar}")?,
                Amount::Ranges(ranges) => {
                    let ranges = ranges.iter().map(|range| format!("{}-{}", range.begin, range.end));
                    write!(f, ":[{}]", ranges.collect::<Vec<_>>().join(", "))?;
                }
                Amount::Set(items) => write!(f, ":{{{}}}", items.join(", "))?,
            }
        }
        Ok(())
    }
}

/// Of the last reservation, in either form.
fn role(resource: &Resource) -> &str {
    resource.reservations.last().map_or(resource.role(), resource::ReservationInfo::role)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<Resources>().unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_shown_in_the_same_form() {
        for text in [
            "",
            "cpus:1",
            "cpus:0.5;mem:128;ports:[31000-31005]",
            "cpus(web):1;cpus:2;zones(web):{a, b}",
            "ports:[1-2, 4-4, 6-18446744073709551615]",
        ] {
            assert_eq!(text.parse::<Resources>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn spaces_order_and_repetition_do_not_matter() {
        let read =
            " mem : 64 ;; cpus(*):1;mem:64; ports:[ 5, 1 - 3,4-4 ]; zones:{b,a,b} ".parse::<Resources>().unwrap();
        assert_eq!(read.to_string(), "mem:128;cpus:1;ports:[1-5];zones:{a, b}");
    }

    #[test]
    fn an_amount_of_nothing_is_left_out() {
        assert!("cpus:0;ports:[];zones:{}".parse::<Resources>().unwrap().is_empty());
    }

    #[test]
    fn a_malformed_resource_is_named_with_the_reason() {
        assert_eq!(
            refusal("mem:1;cpus"),
            "malformed resource \"cpus\": the value is missing; \
             write it as in \"cpus:0.5;mem:128;ports:[31000-31005]\""
        );
        for (text, why) in [
            (":1", "the name is missing"),
            ("cpus():1", "the role is missing"),
            ("cpus(web:1", "the role has no closing parenthesis"),
            ("cp us:1", "\"cp us\" is no name"),
            ("cpus:", "\"\" is not a number"),
            ("cpus:many", "\"many\" is not a number"),
            ("cpus:-1", "-1 is negative"),
            ("ports:[1-2", "the \"[\" is not closed"),
            ("ports:[2-1]", "the range 2-1 ends before it begins"),
            ("ports:[a-b]", "\"a\" is not a whole number"),
            ("ports:[1-2-3]", "\"2-3\" is not a whole number"),
            ("zones:{a", "the \"{\" is not closed"),
        ] {
            assert!(refusal(text).contains(&format!(": {why};")), "{}", refusal(text));
        }
    }
}
