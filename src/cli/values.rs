//! What the values of the options mean: text to typed value, or why not and what would be accepted.
//!
//! An error here is the part of the line behind `invalid value 'X' for '--OPTION <...>': `. Values that may hold a secret
//! (`--env`, `--docker-param`) are never part of an error and never shown by `Debug`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Pull;

/// A share of processors in thousandths, as fine as Mesos counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpus {
    /// Thousandths of a processor; at least 1.
    pub milli: u32,
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ACCEPTED: &str = "give a number of at least 0.001, such as 2 or 0.5";
        let Ok(cpus) = text.parse::<f64>() else { return Err(format!("not a number; {ACCEPTED}")) };
        if !(0.001..=1_000_000.0).contains(&cpus) {
            return Err(format!("out of range; {ACCEPTED}"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was just checked")]
        let milli = (cpus * 1000.0).round() as u32;
        Ok(Self { milli })
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.milli) / 1000.0)
    }
}

/// An amount of memory or disk in whole MB (1 MB = 1024 * 1024 bytes, as Mesos and `docker run` count).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Megabytes(pub u64);

/// 64 TB. Beyond it, a plain number of bytes was meant: `docker run --memory` counts plain numbers in bytes.
const MEGABYTES_MAX: u64 = 64 << 20;

impl FromStr for Megabytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ACCEPTED: &str = "give a number of MB, or one with a unit b, k, m, g or t, such as 256, 512m or 1.5g";
        let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let Ok(number) = number.parse::<f64>() else { return Err(format!("not an amount; {ACCEPTED}")) };
        let bytes_per_unit: f64 = match unit.trim().to_ascii_lowercase().as_str() {
            "b" => 1.0,
            "k" | "kb" | "kib" => 1024.0,
            "" | "m" | "mb" | "mib" => 1024.0 * 1024.0,
            "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
            "t" | "tb" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            _ => return Err(format!("unknown unit '{unit}'; {ACCEPTED}")),
        };
        let megabytes = (number * bytes_per_unit / (1024.0 * 1024.0)).ceil();
        #[expect(clippy::cast_precision_loss, reason = "the limit is exact in f64")]
        if megabytes > MEGABYTES_MAX as f64 {
            return Err("more than 64 TB; a plain number counts MB, bytes are written with a b".to_owned());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was just checked")]
        Ok(Self(megabytes as u64))
    }
}

impl fmt::Display for Megabytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the engine accepts as a limit, since Docker 20.10.
const MEMORY_MIN: Megabytes = Megabytes(6);

/// What `--mem` takes: at least what the engine accepts.
pub(super) fn memory(text: &str) -> Result<Megabytes, String> {
    let memory = text.parse::<Megabytes>()?;
    if memory < MEMORY_MIN {
        return Err(format!("less than the {MEMORY_MIN} MB that Docker needs; a plain number counts MB"));
    }
    Ok(memory)
}

/// What `--memory` takes: `docker run` counts a plain number in bytes.
pub(super) fn docker_memory(text: &str) -> Result<Megabytes, String> {
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let memory = if is_plain { format!("{text}b").parse()? } else { text.parse::<Megabytes>()? };
    if memory < MEMORY_MIN {
        return Err(format!(
            "less than the {MEMORY_MIN} MB that Docker needs; a plain number counts bytes, as in docker run, with --mem it counts MB"
        ));
    }
    Ok(memory)
}

/// What `--gpus` takes.
pub(super) fn gpus(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(gpus @ 1..) => Ok(gpus),
        _ => Err("give a whole number of at least 1; on Mesos a task has the GPUs it asked for".to_owned()),
    }
}

/// What `--pull` takes.
pub(super) fn pull(text: &str) -> Result<Pull, String> {
    match text {
        "missing" => Ok(Pull::Missing),
        "always" => Ok(Pull::Always),
        "never" => Err("an agent always pulls what it does not have; name the image by a name that no registry has, \
                        and choose agents that have it with --constraint"
            .to_owned()),
        _ => Err("it is missing or always".to_owned()),
    }
}

/// 10 years; what is longer was mistyped, and would overflow the clock.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A time span: `90`, `0.5` (seconds), `10s`, `5m`, `1h30m`, `1h 30m`, `200ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const ACCEPTED: &str = "give seconds or a number with a unit ms, s, m, h or d, such as 90, 10s, 5m or 1h30m";
    let duration = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| format!("out of range; {ACCEPTED}"))?,
        Err(_) => humantime::parse_duration(text).map_err(|_| format!("not a time span; {ACCEPTED}"))?,
    };
    if duration > DURATION_MAX { Err("more than 10 years".to_owned()) } else { Ok(duration) }
}

/// As [`duration`], between two things that must not happen at once.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < Duration::from_millis(1) { Err("give at least 1ms, such as 30s".to_owned()) } else { Ok(interval) }
}

/// As [`duration`], where 0 means: no limit.
pub(super) fn limit(text: &str) -> Result<Limit, String> {
    let duration = duration(text)?;
    Ok(Limit((!duration.is_zero()).then_some(duration)))
}

/// A time limit; `None` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Option<Duration>);

/// A directory or file of the agent in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Absolute, on the agent.
    pub host_path: String,
    /// Absolute, in the container.
    pub container_path: String,
    /// Whether the container may not write there.
    pub is_read_only: bool,
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ACCEPTED: &str = "give HOST:CONTAINER or HOST:CONTAINER:ro, such as /data:/data:ro";
        let mut parts = text.split(':');
        let (Some(host_path), Some(container_path), mode, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(format!("not a volume; {ACCEPTED}"));
        };
        let is_read_only = match mode {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(mode) => return Err(format!("unknown mode '{mode}'; it is ro or rw")),
        };
        if !host_path.starts_with('/') {
            return Err(format!(
                "'{host_path}' is not an absolute path on the agent (named volumes cannot be used here); {ACCEPTED}"
            ));
        }
        if !container_path.starts_with('/') || container_path.trim_matches('/').is_empty() {
            return Err(format!("'{container_path}' is not an absolute path below / in the container; {ACCEPTED}"));
        }
        Ok(Self { host_path: host_path.to_owned(), container_path: container_path.to_owned(), is_read_only })
    }
}

/// What `--mount` describes, in the form that every agent understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// `type=bind`: a directory or file of the agent.
    Bind(Volume),
    /// `type=volume`: docker run's `--volume` with the engine's volume, perhaps without a name.
    Volume(String),
    /// `type=tmpfs`: docker run's `--tmpfs`.
    Tmpfs(String),
}

impl FromStr for Mount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut kind, mut source, mut target, mut is_read_only) = ("volume", None, None, false);
        let mut options = Vec::new();
        for field in text.split(',') {
            let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
            let needed = || value.filter(|value| !value.is_empty()).ok_or_else(|| format!("'{key}' has no value"));
            match key {
                "type" => kind = needed()?,
                "source" | "src" => source = Some(needed()?),
                "target" | "dst" | "destination" => target = Some(needed()?),
                "readonly" | "ro" => match value {
                    None | Some("true" | "1") => is_read_only = true,
                    Some("false" | "0") => is_read_only = false,
                    Some(_) => return Err(format!("'{key}' is true or false")),
                },
                "tmpfs-size" => options.push(format!("size={}", needed()?)),
                "tmpfs-mode" => options.push(format!("mode={}", needed()?)),
                "bind-propagation" | "volume-nocopy" | "volume-driver" | "volume-opt" | "volume-label"
                | "consistency" => {
                    return Err(format!("'{key}' cannot travel through Mesos; use --docker-param=volume=..."));
                }
                _ => return Err(format!("unknown key '{key}'; give type, source, target and readonly")),
            }
        }
        let target =
            target.filter(|target| target.starts_with('/')).ok_or("give an absolute target=PATH in the container")?;
        let mode = if is_read_only { ":ro" } else { "" };
        match (kind, source) {
            ("bind", Some(source)) => format!("{source}:{target}{mode}").parse().map(Self::Bind),
            ("bind", None) => Err("a bind mount needs source=PATH on the agent".to_owned()),
            ("volume", source) if source.is_some_and(|source| source.contains(['/', ':'])) => {
                Err("the source of type=volume is a volume's name; give type=bind for a path".to_owned())
            }
            ("volume", Some(source)) => Ok(Self::Volume(format!("{source}:{target}{mode}"))),
            ("volume", None) => Ok(Self::Volume(target.to_owned())),
            ("tmpfs", None) => {
                if is_read_only {
                    options.push("ro".to_owned());
                }
                let options = if options.is_empty() { String::new() } else { format!(":{}", options.join(",")) };
                Ok(Self::Tmpfs(format!("{target}{options}")))
            }
            ("tmpfs", Some(_)) => Err("a tmpfs has no source".to_owned()),
            (kind, _) => Err(format!("unknown type '{kind}'; it is bind, volume or tmpfs")),
        }
    }
}

/// Which transport a published port is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The default.
    Tcp,
    /// `/udp`.
    Udp,
}

impl Protocol {
    /// As Mesos and Docker write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port of the container that is reachable on the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedPort {
    /// On the agent; must be among the `ports` that it offers.
    pub host_port: u16,
    /// In the container.
    pub container_port: u16,
    /// Which transport.
    pub protocol: Protocol,
}

impl FromStr for PublishedPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ACCEPTED: &str = "give HOSTPORT:CONTAINERPORT, such as 31080:80 or 31053:53/udp";
        let (ports, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((_, protocol)) => return Err(format!("unknown protocol '{protocol}'; it is tcp or udp")),
        };
        let mut parts = ports.split(':');
        let (Some(host_port), container_port, None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format!("an address of the agent cannot be chosen on Mesos; {ACCEPTED}"));
        };
        let Some(container_port) = container_port else {
            return Err(format!(
                "the port on the agent is missing, and none is chosen for you; {ACCEPTED}, of the ports that agents offer (31000 to 32000 unless configured otherwise)"
            ));
        };
        let port = |text: &str| match text.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!("'{text}' is not a port of 1 to 65535; {ACCEPTED}")),
        };
        Ok(Self { host_port: port(host_port)?, container_port: port(container_port)?, protocol })
    }
}

/// Which network the container is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The engine's own, with published ports; the default, as in `docker run`.
    Bridge,
    /// The agent's.
    Host,
    /// None but loopback.
    None,
    /// One that was made on the agents with `docker network create`. Mesos 1.0 and later.
    Named(String),
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "bridge" | "default" => Ok(Self::Bridge),
            "host" => Ok(Self::Host),
            "none" => Ok(Self::None),
            _ if text.starts_with("container:") => {
                Err("joining another container is not possible on Mesos; give bridge, host, none or a network's name"
                    .to_owned())
            }
            _ if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') => {
                Err("not a network; give bridge, host, none or a network's name".to_owned())
            }
            _ => Ok(Self::Named(text.to_owned())),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "none",
            Self::Named(name) => name,
        })
    }
}

/// `KEY=VALUE` or `KEY`. The value may be a secret: `Debug` hides it, and reading one never fails, so that clap never
/// shows it; [`crate::job`] says what is wrong with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Before the first `=`; perhaps empty.
    pub key: String,
    /// Behind it; `None` without a `=`.
    pub value: Option<String>,
}

impl FromStr for Assignment {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value.to_owned())));
        Ok(Self { key: key.to_owned(), value })
    }
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.key, if self.value.is_some() { "=..." } else { "" })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn cpus_are_counted_in_thousandths() {
        assert_eq!("1".parse::<Cpus>().unwrap().milli, 1000);
        assert_eq!("0.001".parse::<Cpus>().unwrap().milli, 1);
        assert_eq!("0.3333".parse::<Cpus>().unwrap().to_string(), "0.333");
        for wrong in ["0", "0.0004", "-1", "nan", "inf", "two", ""] {
            let error = wrong.parse::<Cpus>().unwrap_err();
            assert!(error.contains("at least 0.001"), "{wrong}: {error}");
        }
    }

    #[test]
    fn amounts_are_megabytes_unless_they_have_a_unit_and_round_up() {
        let amounts = [
            ("256", 256),
            ("64m", 64),
            ("1g", 1024),
            ("1.5G", 1536),
            ("2gib", 2048),
            ("1t", 1 << 20),
            ("1048577b", 2),
            ("1k", 1),
            ("0.5", 1),
            ("0", 0),
        ];
        for (text, expected) in amounts {
            assert_eq!(text.parse::<Megabytes>(), Ok(Megabytes(expected)), "{text}");
        }
        for wrong in ["", "m", "1x", "-5", "1.2.3", "1 2"] {
            assert!(wrong.parse::<Megabytes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_given_as_a_plain_number_are_told_apart_from_megabytes() {
        let error = memory("268435456").unwrap_err();
        assert!(error.contains("plain number counts MB"), "{error}");
        assert!(memory("5").is_err());
        assert_eq!(memory("6"), Ok(Megabytes(6)));
    }

    #[test]
    fn time_spans_are_seconds_or_have_units() {
        for (text, millis) in [("90", 90_000), ("0.5", 500), ("0", 0), ("10s", 10_000), ("5m", 300_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        for wrong in ["", "-1", "inf", "nan", "1e99", "ten", "5q", "11years"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(limit("0"), Ok(Limit(None)));
        assert_eq!(limit("0s"), Ok(Limit(None)));
    }

    #[test]
    fn volumes_are_absolute_on_both_sides() {
        let volume = |host_path: &str, container_path: &str, is_read_only| Volume {
            host_path: host_path.to_owned(),
            container_path: container_path.to_owned(),
            is_read_only,
        };
        assert_eq!("/a:/b".parse(), Ok(volume("/a", "/b", false)));
        assert_eq!("/a:/b:rw".parse(), Ok(volume("/a", "/b", false)));
        assert_eq!("/a b:/c:ro".parse(), Ok(volume("/a b", "/c", true)));
        for wrong in ["", "/a", "name:/b", "./a:/b", "/a:b", "/a:/", "/a:/b:z", "/a:/b:ro:x", ":/b", "/a:"] {
            assert!(wrong.parse::<Volume>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn mounts_are_written_as_in_docker_run() {
        let bind = "type=bind,source=/a,target=/b,readonly".parse();
        assert_eq!(bind, Ok(Mount::Bind("/a:/b:ro".parse().unwrap())));
        assert_eq!("source=data,dst=/b".parse(), Ok(Mount::Volume("data:/b".to_owned())));
        assert_eq!("type=volume,dst=/b".parse(), Ok(Mount::Volume("/b".to_owned())));
        let tmpfs = "type=tmpfs,destination=/run,tmpfs-size=64m,tmpfs-mode=1777".parse();
        assert_eq!(tmpfs, Ok(Mount::Tmpfs("/run:size=64m,mode=1777".to_owned())));
        for wrong in [
            "",
            "type=bind,target=/b",
            "type=bind,source=a,target=/b",
            "source=/a,target=/b",
            "type=npipe,target=/b",
            "type=tmpfs,source=x,target=/b",
            "source=a",
            "source=a,target=b",
            "source=a,target=/b,consistency=cached",
            "source=a,target=/b,colour=red",
            "source,target=/b",
        ] {
            assert!(wrong.parse::<Mount>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn memory_in_dockers_spelling_counts_plain_numbers_in_bytes() {
        assert_eq!(docker_memory("268435456"), Ok(Megabytes(256)));
        assert_eq!(docker_memory("512m"), Ok(Megabytes(512)));
        assert!(docker_memory("512").unwrap_err().contains("counts bytes"));
    }

    #[test]
    fn a_published_port_names_both_sides() {
        let port = |host_port, container_port, protocol| PublishedPort { host_port, container_port, protocol };
        assert_eq!("31080:80".parse(), Ok(port(31080, 80, Protocol::Tcp)));
        assert_eq!("31080:80/tcp".parse(), Ok(port(31080, 80, Protocol::Tcp)));
        assert_eq!("31053:53/udp".parse(), Ok(port(31053, 53, Protocol::Udp)));
        let error = |text: &str| text.parse::<PublishedPort>().unwrap_err();
        assert!(error("80").contains("port on the agent is missing"), "{}", error("80"));
        assert!(error("127.0.0.1:31080:80").contains("address of the agent"));
        assert!(error("31080:80/sctp").contains("tcp or udp"));
        for wrong in ["", "x:80", "0:80", "31080:0", "31080:65536", "31080-31090:80-90", ":80"] {
            assert!(wrong.parse::<PublishedPort>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_are_the_three_kinds_or_a_name() {
        assert_eq!("bridge".parse(), Ok(Network::Bridge));
        assert_eq!("default".parse(), Ok(Network::Bridge));
        assert_eq!("host".parse(), Ok(Network::Host));
        assert_eq!("none".parse(), Ok(Network::None));
        assert_eq!("blue".parse(), Ok(Network::Named("blue".to_owned())));
        assert!("container:abc".parse::<Network>().is_err());
        assert!("".parse::<Network>().is_err());
    }

    #[test]
    fn a_value_that_may_be_secret_is_not_in_its_debug_text() {
        let Ok(assignment) = "TOKEN=hunter2=x".parse::<Assignment>();
        assert_eq!((assignment.key.as_str(), assignment.value.as_deref()), ("TOKEN", Some("hunter2=x")));
        assert_eq!(format!("{assignment:?}"), "TOKEN=...");
        let Ok(name_only) = "TOKEN".parse::<Assignment>();
        assert_eq!(format!("{name_only:?}"), "TOKEN");
    }
}
