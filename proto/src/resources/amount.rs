//! The amount within a resource: how it adds up, whatever the terms.

use std::borrow::Cow;

use super::{Scalar, ranges};
use crate::mesos::Resource;
use crate::mesos::value::{self, Range, Type};

/// Of one resource, or of several of a name. Values are in normal form: ranges as in [`ranges`], items sorted and unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Amount<'a> {
    Scalar(Scalar),
    Ranges(Cow<'a, [Range]>),
    Set(Cow<'a, [String]>),
}

impl<'a> Amount<'a> {
    /// Nothing for a resource without a value of its type, and for text, which no resource may be.
    pub(super) fn of(resource: &'a Resource) -> Self {
        match Type::try_from(resource.r#type) {
            Ok(Type::Ranges) => {
                Self::Ranges(Cow::Borrowed(resource.ranges.as_ref().map_or(&[], |ranges| ranges.range.as_slice())))
            }
            Ok(Type::Set) => Self::Set(Cow::Borrowed(resource.set.as_ref().map_or(&[], |set| set.item.as_slice()))),
            Ok(Type::Scalar | Type::Text) | Err(_) => {
                let scalar = resource.scalar.as_ref().filter(|_| resource.r#type == Type::Scalar as i32);
                Self::Scalar(scalar.map_or(Scalar::ZERO, |scalar| Scalar::from_f64(scalar.value)))
            }
        }
    }

    /// Nothing of the same type.
    pub(super) fn none(&self) -> Self {
        match self {
            Self::Scalar(_) => Self::Scalar(Scalar::ZERO),
            Self::Ranges(_) => Self::Ranges(Cow::Borrowed(&[])),
            Self::Set(_) => Self::Set(Cow::Borrowed(&[])),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(scalar) => *scalar <= Scalar::ZERO,
            Self::Ranges(ranges) => ranges.is_empty(),
            Self::Set(items) => items.is_empty(),
        }
    }

    /// The number itself, or how many values.
    pub(super) fn size(&self) -> Scalar {
        match self {
            Self::Scalar(scalar) => *scalar,
            Self::Ranges(ranges) => Scalar::count(ranges::count(ranges)),
            Self::Set(items) => Scalar::count(items.len() as u64),
        }
    }

    pub(super) fn contains(&self, other: &Amount<'_>) -> bool {
        match (self, other) {
            (Self::Scalar(have), Amount::Scalar(need)) => have >= need,
            (Self::Ranges(have), Amount::Ranges(need)) => ranges::contains(have, need),
            (Self::Set(have), Amount::Set(need)) => need.iter().all(|item| have.binary_search(item).is_ok()),
            (Self::Scalar(_) | Self::Ranges(_) | Self::Set(_), _) => false,
        }
    }

    /// Both together; the first alone where the types differ.
    pub(super) fn plus(&self, other: &Amount<'_>) -> Amount<'static> {
        match (self, other) {
            (Self::Scalar(a), Amount::Scalar(b)) => Amount::Scalar(*a + *b),
            (Self::Ranges(a), Amount::Ranges(b)) => Amount::Ranges(Cow::Owned(ranges::union(a, b))),
            (Self::Set(a), Amount::Set(b)) => Amount::Set(Cow::Owned(sorted([&a[..], &b[..]].concat()))),
            (Self::Scalar(_) | Self::Ranges(_) | Self::Set(_), _) => self.clone().into_owned(),
        }
    }

    /// What the first has beyond the other.
    pub(super) fn minus(&self, other: &Amount<'_>) -> Amount<'static> {
        match (self, other) {
            (Self::Scalar(a), Amount::Scalar(b)) => Amount::Scalar((*a - *b).max(Scalar::ZERO)),
            (Self::Ranges(a), Amount::Ranges(b)) => Amount::Ranges(Cow::Owned(ranges::difference(a, b))),
            (Self::Set(a), Amount::Set(b)) => {
                Amount::Set(a.iter().filter(|item| b.binary_search(item).is_err()).cloned().collect())
            }
            (Self::Scalar(_) | Self::Ranges(_) | Self::Set(_), _) => self.clone().into_owned(),
        }
    }

    /// What both have.
    pub(super) fn common(&self, other: &Amount<'_>) -> Amount<'static> {
        match (self, other) {
            (Self::Scalar(a), Amount::Scalar(b)) => Amount::Scalar(*a.min(b)),
            (Self::Ranges(a), Amount::Ranges(b)) => Amount::Ranges(Cow::Owned(ranges::intersection(a, b))),
            (Self::Set(a), Amount::Set(b)) => {
                Amount::Set(a.iter().filter(|item| b.binary_search(item).is_ok()).cloned().collect())
            }
            (Self::Scalar(_) | Self::Ranges(_) | Self::Set(_), _) => self.none().into_owned(),
        }
    }

    pub(super) fn into_owned(self) -> Amount<'static> {
        match self {
            Self::Scalar(scalar) => Amount::Scalar(scalar),
            Self::Ranges(ranges) => Amount::Ranges(Cow::Owned(ranges.into_owned())),
            Self::Set(items) => Amount::Set(Cow::Owned(items.into_owned())),
        }
    }

    /// Replaces the amount of a resource.
    pub(super) fn put_into(self, resource: &mut Resource) {
        match self {
            Self::Scalar(scalar) => resource.scalar = Some(value::Scalar { value: scalar.as_f64() }),
            Self::Ranges(ranges) => resource.ranges = Some(value::Ranges { range: ranges.into_owned() }),
            Self::Set(items) => resource.set = Some(value::Set { item: items.into_owned() }),
        }
    }
}

/// Puts the amount of a resource from outside into normal form.
pub(super) fn normalize(resource: &mut Resource) {
    if let Some(ranges) = &mut resource.ranges {
        ranges.range = ranges::normalized(std::mem::take(&mut ranges.range));
    }
    if let Some(set) = &mut resource.set {
        set.item = sorted(std::mem::take(&mut set.item));
    }
    if let Some(scalar) = &mut resource.scalar {
        scalar.value = Scalar::from_f64(scalar.value).as_f64();
    }
}

fn sorted(mut items: Vec<String>) -> Vec<String> {
    items.sort_unstable();
    items.dedup();
    items
}
