//! An amount in thousandths: fixed point as Mesos computes, so that 0.1 + 0.2 is 0.3.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

/// An amount of cpus, megabytes or anything else, exact to a thousandth. Arithmetic saturates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scalar(i64);

impl Scalar {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The nearest thousandth, as Mesos rounds what it is sent; zero for what is no number.
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    pub fn from_f64(value: f64) -> Self {
        Self((value * 1000.0).round() as i64)
    }

    /// As messages carry it.
    #[expect(clippy::cast_precision_loss, reason = "exact up to a million million")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// From thousandths.
    pub const fn from_milli(milli: i64) -> Self {
        Self(milli)
    }

    /// In thousandths.
    pub const fn milli(self) -> i64 {
        self.0
    }

    /// A number of things; saturates.
    pub(super) fn count(count: u64) -> Self {
        Self(i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(1000))
    }
}

impl Add for Scalar {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Scalar {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Scalar {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Scalar {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Scalar {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, thousandths) = (self.0.unsigned_abs() / 1000, self.0.unsigned_abs() % 1000);
        let sign = if self.0 < 0 { "-" } else { "" };
        let text = match thousandths {
            0 => format!("{sign}{whole}"),
            _ => format!("{sign}{whole}.{}", format!("{thousandths:03}").trim_end_matches('0')),
        };
        f.pad(&text)
    }
}

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseScalarError {
    /// Not a number at all.
    #[error("\"{0}\" is not a number")]
    NotANumber(String),
    /// Negative.
    #[error("{0} is negative")]
    Negative(String),
    /// More than nothing, but not a thousandth.
    #[error("{0} is less than 0.001, the smallest amount that Mesos knows")]
    TooSmall(String),
    /// Beyond what a message carries exactly.
    #[error("{0} is too large")]
    TooLarge(String),
}

impl FromStr for Scalar {
    type Err = ParseScalarError;

    /// Reads an amount that someone asks for: zero, or from a thousandth on; further digits are rounded.
    fn from_str(text: &str) -> Result<Self, ParseScalarError> {
        let error = |kind: fn(String) -> ParseScalarError| Err(kind(text.to_owned()));
        // Else "inf", "nan" and "1e3" would pass.
        if !text.chars().all(|c| c.is_ascii_digit() || "+-.".contains(c)) {
            return error(ParseScalarError::NotANumber);
        }
        let Ok(value) = text.parse::<f64>() else { return error(ParseScalarError::NotANumber) };
        let scalar = Self::from_f64(value);
        match scalar {
            _ if value < 0.0 => error(ParseScalarError::Negative),
            Self::ZERO if value > 0.0 => error(ParseScalarError::TooSmall),
            _ if scalar > MAX => error(ParseScalarError::TooLarge),
            _ => Ok(scalar),
        }
    }
}

/// Up to here a double is exact to a thousandth.
const MAX: Scalar = Scalar(1_000_000_000_000_000);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tenth_and_two_tenths_are_three_tenths() {
        let sum = Scalar::from_f64(0.1) + Scalar::from_f64(0.2);
        assert_eq!(sum, Scalar::from_f64(0.3));
        assert_eq!(sum.as_f64(), 0.3);
    }

    #[test]
    fn what_is_finer_than_a_thousandth_is_rounded() {
        assert_eq!(Scalar::from_f64(0.0005).milli(), 1);
        assert_eq!(Scalar::from_f64(0.00049).milli(), 0);
        assert_eq!(Scalar::from_f64(f64::NAN), Scalar::ZERO);
        assert_eq!(Scalar::from_f64(f64::INFINITY) + Scalar::from_milli(1), Scalar::from_milli(i64::MAX));
    }

    #[test]
    fn an_amount_is_shown_without_needless_digits() {
        for (milli, text) in [(500, "0.5"), (128_000, "128"), (1, "0.001"), (-1250, "-1.25"), (0, "0")] {
            assert_eq!(Scalar::from_milli(milli).to_string(), text);
        }
        assert_eq!(format!("{:>5}", Scalar::from_milli(500)), "  0.5");
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused_with_the_reason() {
        for (text, error) in [
            ("", "\"\" is not a number"),
            ("inf", "\"inf\" is not a number"),
            ("1e3", "\"1e3\" is not a number"),
            ("1-", "\"1-\" is not a number"),
            ("-1", "-1 is negative"),
            ("0.0001", "0.0001 is less than 0.001, the smallest amount that Mesos knows"),
            ("10000000000000000000", "10000000000000000000 is too large"),
        ] {
            assert_eq!(text.parse::<Scalar>().unwrap_err().to_string(), error);
        }
    }

    proptest! {
        #[test]
        fn shown_and_read_it_is_the_same(milli in 0..=MAX.0) {
            let scalar = Scalar::from_milli(milli);
            prop_assert_eq!(scalar.to_string().parse::<Scalar>().unwrap(), scalar);
            prop_assert_eq!(Scalar::from_f64(scalar.as_f64()), scalar);
        }
    }
}
