//! Attributes of agents as Mesos writes them: `rack:r1;cores:16;ports:[31000-32000];disks:{ssd,hdd}`.

use crate::mesos::value::{self, Text};
use crate::mesos::{Attribute, Resource};
use crate::resources::Resources;

/// Reads what an agent's `--attributes` takes.
///
/// # Errors
/// Which attribute has no name or no value.
pub fn parse(text: &str) -> Result<Vec<Attribute>, String> {
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| match part.split_once(':') {
            Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => {
                Ok(attribute(name.trim(), value.trim()))
            }
            _ => Err(format!("malformed attribute \"{part}\"; write it as in \"rack:r1;cores:16\"")),
        })
        .collect()
}

/// One attribute; a value that is no number, no ranges and no set is a text.
pub fn attribute(name: &str, value: &str) -> Attribute {
    let mut attribute = Attribute { name: name.to_owned(), ..Attribute::default() };
    match format!("x:{value}")
        .parse::<Resources>()
        .ok()
        .and_then(|parsed| Vec::<Resource>::from(parsed).into_iter().next())
    {
        Some(resource) => {
            attribute.r#type = resource.r#type;
            attribute.scalar = resource.scalar;
            attribute.ranges = resource.ranges;
            attribute.set = resource.set;
        }
        None => {
            attribute.r#type = value::Type::Text.into();
            attribute.text = Some(Text { value: value.to_owned() });
        }
    }
    attribute
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_an_attribute_is_seen_from_its_value() {
        let attributes = parse("rack:r1; cores:16;ports:[1-5];disks:{ssd,hdd};").unwrap();
        let types: Vec<_> = attributes.iter().map(Attribute::r#type).collect();
        assert_eq!(types, [value::Type::Text, value::Type::Scalar, value::Type::Ranges, value::Type::Set]);
        assert_eq!(attributes[0].text.as_ref().unwrap().value, "r1");
        assert!(parse("rack").is_err() && parse(":r1").is_err() && parse("rack:").is_err());
    }
}
