//! What an agent tells an executor through environment variables. Reads none itself: the lookup is passed in.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use proto::secret::Secret;
use url::Url;

/// The agent's words to its executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// MESOS_FRAMEWORK_ID.
    pub framework_id: String,
    /// MESOS_EXECUTOR_ID; the task's id for a command task.
    pub executor_id: String,
    /// MESOS_SLAVE_ID.
    pub agent_id: String,
    /// MESOS_SLAVE_PID.
    pub agent_pid: Pid,
    /// MESOS_CHECKPOINT: whether the agent may be restarted under a running task.
    pub is_checkpointed: bool,
    /// MESOS_RECOVERY_TIMEOUT, 15 minutes unless set: how long a vanished agent is waited for.
    pub recovery_timeout: Duration,
    /// MESOS_SUBSCRIPTION_BACKOFF_MAX, 2 seconds unless set.
    pub subscription_backoff_max: Duration,
    /// MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD, 5 seconds unless set: then the agent destroys the container itself.
    pub shutdown_grace_period: Duration,
    /// MESOS_EXECUTOR_AUTHENTICATION_TOKEN.
    pub token: Option<Secret>,
    /// Whether the agent speaks TLS (LIBPROCESS_SSL_ENABLED, SSL_ENABLED).
    pub is_tls: bool,
    /// Whether the agent takes v1 executor calls as it should: from 0.28 on, which gives itself away by
    /// MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD.
    pub has_v1_api: bool,
    /// LIBPROCESS_IP: where to listen for the agent's messages.
    pub libprocess_ip: Option<IpAddr>,
    /// LIBPROCESS_ADVERTISE_IP: where the agent reaches that.
    pub libprocess_advertise_ip: Option<IpAddr>,
}

impl Environment {
    /// Reads the variables through `lookup`, usually `|name| std::env::var(name).ok()`.
    ///
    /// # Errors
    /// A variable that every agent sets is missing, or one does not read as what it should be.
    pub fn parse(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let required = |name: &'static str| {
            lookup(name).filter(|value| !value.is_empty()).ok_or(EnvironmentError::Missing { name })
        };
        let duration = |name: &'static str, default: Duration| match lookup(name) {
            None => Ok(default),
            Some(value) => parse_duration(&value).ok_or(EnvironmentError::NotADuration { name, value }),
        };
        let flag = |name: &'static str| match lookup(name).as_deref() {
            None | Some("" | "0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(value) => Err(EnvironmentError::NotAFlag { name, value: value.to_owned() }),
        };
        let address = |name: &'static str| match lookup(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => value.parse().map(Some).map_err(|_| EnvironmentError::NotAnAddress { name, value }),
        };
        let pid = required("MESOS_SLAVE_PID")?;
        Ok(Self {
            framework_id: required("MESOS_FRAMEWORK_ID")?,
            executor_id: required("MESOS_EXECUTOR_ID")?,
            agent_id: required("MESOS_SLAVE_ID")?,
            agent_pid: pid.parse().map_err(|_| EnvironmentError::NotAPid { name: "MESOS_SLAVE_PID", value: pid })?,
            is_checkpointed: flag("MESOS_CHECKPOINT")?,
            recovery_timeout: duration("MESOS_RECOVERY_TIMEOUT", Duration::from_secs(15 * 60))?,
            subscription_backoff_max: duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", Duration::from_secs(2))?,
            shutdown_grace_period: duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", Duration::from_secs(5))?,
            token: lookup("MESOS_EXECUTOR_AUTHENTICATION_TOKEN").filter(|token| !token.is_empty()).map(Secret::new),
            is_tls: flag("LIBPROCESS_SSL_ENABLED")? || flag("SSL_ENABLED")?,
            has_v1_api: lookup("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD").is_some(),
            libprocess_ip: address("LIBPROCESS_IP")?,
            libprocess_advertise_ip: address("LIBPROCESS_ADVERTISE_IP")?,
        })
    }

    /// Where the agent takes v1 executor calls.
    pub fn api_url(&self) -> Url {
        let scheme = if self.is_tls { "https" } else { "http" };
        let Pid { id, host, port } = &self.agent_pid;
        Url::parse(&format!("{scheme}://{host}:{port}/{id}/api/v1/executor")).expect("a pid has the parts of a URL")
    }
}

/// A libprocess address: `ID@HOST:PORT`, an IPv6 host in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pid {
    /// Such as `slave(1)`.
    pub id: String,
    /// An address, as it stands in a URL.
    pub host: String,
    /// TCP.
    pub port: u16,
}

impl std::str::FromStr for Pid {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (id, address) = text.split_once('@').ok_or(())?;
        let (host, port) = address.rsplit_once(':').ok_or(())?;
        let is_ipv6 = host.starts_with('[') && host.ends_with(']');
        if id.is_empty() || id.contains(['/', '?', '#', ' ']) || host.is_empty() || (host.contains(':') && !is_ipv6) {
            return Err(());
        }
        let port = port.parse().map_err(|_| ())?;
        Url::parse(&format!("http://{host}:{port}/{id}")).map_err(|_| ())?;
        Ok(Self { id: id.to_owned(), host: host.to_owned(), port })
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}:{}", self.id, self.host, self.port)
    }
}

/// Why the environment is not one an agent gives.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum EnvironmentError {
    #[error("environment variable {name} is missing; an executor is started by a Mesos agent, which sets it")]
    Missing { name: &'static str },
    #[error("environment variable {name}=\"{value}\" is not a duration such as \"15mins\" or \"1.5secs\"")]
    NotADuration { name: &'static str, value: String },
    #[error("environment variable {name}=\"{value}\" is neither 0 nor 1")]
    NotAFlag { name: &'static str, value: String },
    #[error("environment variable {name}=\"{value}\" is not an IP address")]
    NotAnAddress { name: &'static str, value: String },
    #[error("environment variable {name}=\"{value}\" is not an agent's address such as \"slave(1)@10.0.0.5:5051\"")]
    NotAPid { name: &'static str, value: String },
}

/// Reads a duration as Mesos prints it: a number, perhaps with a fraction, and one of ns, us, ms, secs, mins, hrs, days, weeks.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit_start = text.find(|character: char| character.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_start);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "secs" => 1.0,
        "mins" => 60.0,
        "hrs" => 3600.0,
        "days" => 86_400.0,
        "weeks" => 604_800.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * seconds).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const AGENT: [(&str, &str); 7] = [
        ("MESOS_FRAMEWORK_ID", "f-0000"),
        ("MESOS_EXECUTOR_ID", "web"),
        ("MESOS_SLAVE_ID", "a-S0"),
        ("MESOS_SLAVE_PID", "slave(1)@10.0.0.5:5051"),
        ("MESOS_CHECKPOINT", "1"),
        ("MESOS_RECOVERY_TIMEOUT", "10mins"),
        ("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "secret"),
    ];

    fn parse(changes: &[(&str, Option<&str>)]) -> Result<Environment, EnvironmentError> {
        Environment::parse(|name| {
            let changed = changes.iter().find(|(changed, _)| *changed == name);
            let given = || AGENT.iter().find(|(given, _)| *given == name).map(|(_, value)| *value);
            changed.map_or_else(given, |(_, value)| *value).map(str::to_owned)
        })
    }

    #[test]
    fn what_an_agent_sets_is_read_and_the_rest_has_mesos_defaults() {
        let environment = parse(&[]).unwrap();
        assert_eq!(environment.framework_id, "f-0000");
        assert_eq!(environment.agent_pid.to_string(), "slave(1)@10.0.0.5:5051");
        assert!(environment.is_checkpointed);
        assert_eq!(environment.recovery_timeout, Duration::from_secs(600));
        assert_eq!(environment.subscription_backoff_max, Duration::from_secs(2));
        assert_eq!(environment.shutdown_grace_period, Duration::from_secs(5));
        assert_eq!(environment.api_url().as_str(), "http://10.0.0.5:5051/slave(1)/api/v1/executor");
        assert!(!environment.has_v1_api);
        assert!(parse(&[("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", Some("5secs"))]).unwrap().has_v1_api);
        assert!(!format!("{environment:?}").contains("secret"));
    }

    #[test]
    fn tls_and_ipv6_show_in_the_url() {
        let environment =
            parse(&[("MESOS_SLAVE_PID", Some("slave(2)@[::1]:5052")), ("LIBPROCESS_SSL_ENABLED", Some("true"))]);
        assert_eq!(environment.unwrap().api_url().as_str(), "https://[::1]:5052/slave(2)/api/v1/executor");
    }

    #[test]
    fn every_required_variable_is_named_when_it_is_missing_or_empty() {
        for name in ["MESOS_FRAMEWORK_ID", "MESOS_EXECUTOR_ID", "MESOS_SLAVE_ID", "MESOS_SLAVE_PID"] {
            assert_eq!(parse(&[(name, None)]), Err(EnvironmentError::Missing { name }));
            assert_eq!(parse(&[(name, Some(""))]), Err(EnvironmentError::Missing { name }));
        }
    }

    #[test]
    fn a_malformed_variable_is_named_with_its_value() {
        let error = |name, value| parse(&[(name, Some(value))]).unwrap_err().to_string();
        for pid in
            ["10.0.0.5:5051", "slave(1)@10.0.0.5", "slave(1)@10.0.0.5:70000", "@h:1", "s@::1:2", "a b@h:1", "s@h /:1"]
        {
            assert!(error("MESOS_SLAVE_PID", pid).contains(pid), "{pid}");
        }
        assert!(error("MESOS_RECOVERY_TIMEOUT", "15 minutes").contains("15 minutes"));
        assert!(error("MESOS_CHECKPOINT", "yes").contains("neither 0 nor 1"));
        assert!(error("LIBPROCESS_IP", "here").contains("not an IP address"));
    }

    #[test]
    fn durations_read_as_mesos_prints_them() {
        let table = [
            ("15mins", 900_000_000_000),
            ("1.5secs", 1_500_000_000),
            ("0ns", 0),
            ("250ms", 250_000_000),
            ("7us", 7_000),
            ("2hrs", 7_200_000_000_000),
            ("1days", 86_400_000_000_000),
            ("3weeks", 1_814_400_000_000_000),
        ];
        for (text, nanoseconds) in table {
            assert_eq!(parse_duration(text), Some(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for text in ["", "5", "secs", "-1secs", "5 seconds", "1e400secs", "nansecs", "5s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
