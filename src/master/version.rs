//! What a master of some version knows.

use std::fmt;
use std::str::FromStr;

use proto::mesos::framework_info::capability;
use proto::scheduler::Call;

/// Major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl FromStr for Version {
    type Err = ();

    /// Suffixes such as `-rc1` or `-dcos` do not count.
    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |part: Option<&str>| {
            let digits: String = part.unwrap_or("0").chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().map_err(|_| ())
        };
        let mut parts = text.trim().split('.');
        Ok(Self(number(parts.next())?, number(parts.next())?, number(parts.next())?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The first version whose masters take SUPPRESS.
pub(super) const SUPPRESS_SINCE: Version = Version(0, 25, 0);

/// The call without what a master of this version does not know; without a version only what is safe everywhere.
pub(super) fn fit(mut call: Call, version: Option<Version>) -> Call {
    if let Some(subscribe) = &mut call.subscribe {
        subscribe.framework_info.capabilities.retain(|capability| {
            let since = match capability.r#type() {
                capability::Type::RevocableResources => Version(0, 23, 0),
                capability::Type::TaskKillingState => Version(0, 28, 0),
                capability::Type::GpuResources => Version(1, 0, 0),
                capability::Type::SharedResources | capability::Type::PartitionAware => Version(1, 1, 0),
                capability::Type::MultiRole => Version(1, 2, 0),
                capability::Type::ReservationRefinement | capability::Type::RegionAware => Version(1, 4, 0),
                capability::Type::Unknown => return false,
            };
            version.is_some_and(|version| version >= since)
        });
    }
    call
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_and_compare() {
        assert_eq!("1.11.0".parse(), Ok(Version(1, 11, 0)));
        assert_eq!("1.0.4-rc1".parse(), Ok(Version(1, 0, 4)));
        assert_eq!("0.28".parse(), Ok(Version(0, 28, 0)));
        assert_eq!("x".parse::<Version>(), Err(()));
        assert!(Version(1, 2, 0) < Version(1, 11, 0));
    }

    #[test]
    fn a_capability_is_only_told_to_a_master_that_knows_it() {
        let mut call = Call { subscribe: Some(Box::default()), ..Call::default() };
        if let Some(subscribe) = &mut call.subscribe {
            for capability in [capability::Type::TaskKillingState, capability::Type::PartitionAware] {
                subscribe
                    .framework_info
                    .capabilities
                    .push(proto::mesos::framework_info::Capability { r#type: Some(capability.into()) });
            }
        }
        let known = |version| fit(call.clone(), version).subscribe.map_or(0, |s| s.framework_info.capabilities.len());
        assert_eq!(known(Some(Version(1, 11, 0))), 2);
        assert_eq!(known(Some(Version(0, 28, 0))), 1);
        assert_eq!(known(Some(Version(0, 27, 0))), 0);
        assert_eq!(known(None), 0);
    }
}
