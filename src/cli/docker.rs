//! The options of `docker run` that have no field in Mesos' messages, in one table: they travel as they are, as docker parameters.
//!
//! Beside it: what `docker run` knows and Mesos cannot do, each with the Mesos way. An option is never silently dropped.

use std::fmt;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::CONTAINER;

/// The docker parameters of a command line, in the order of the table: `("cap-add", "NET_ADMIN")`, `("init", "true")`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct DockerOptions(pub Vec<(&'static str, String)>);

impl fmt::Debug for DockerOptions {
    /// Without values: that of `--log-opt` may be a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[derive(Clone, Copy)]
enum Kind {
    /// On or off.
    Switch,
    /// The last one counts.
    Value,
    /// Each one counts.
    List,
}

struct DockerOption {
    name: &'static str,
    kind: Kind,
    value_name: &'static str,
    help: &'static str,
    check: fn(&str) -> Result<String, String>,
}

const fn switch(name: &'static str, help: &'static str) -> DockerOption {
    DockerOption { name, kind: Kind::Switch, value_name: "", help, check: any }
}

const fn value(
    name: &'static str,
    value_name: &'static str,
    help: &'static str,
    check: fn(&str) -> Result<String, String>,
) -> DockerOption {
    DockerOption { name, kind: Kind::Value, value_name, help, check }
}

const fn list(
    name: &'static str,
    value_name: &'static str,
    help: &'static str,
    check: fn(&str) -> Result<String, String>,
) -> DockerOption {
    DockerOption { name, kind: Kind::List, value_name, help, check }
}

const TABLE: &[DockerOption] = &[
    list("add-host", "HOST:IP", "Add a line to the container's /etc/hosts", host_and_ip),
    list("cap-add", "CAPABILITY", "Give the container a Linux capability", filled),
    list("cap-drop", "CAPABILITY", "Take a Linux capability from the container", filled),
    value("cgroupns", "MODE", "Cgroup namespace: host or private", cgroup_namespace),
    value("cpuset-cpus", "LIST", "Processors to run on, such as 0-3 or 0,2", filled),
    list("device", "HOST[:CONTAINER][:rwm]", "Give the container a device of the agent", device),
    list("dns", "IP", "Name server", filled),
    list("dns-option", "OPTION", "Option of the resolver", filled),
    list("dns-search", "DOMAIN", "Search domain of the resolver", filled),
    list("group-add", "GROUP", "Another group of the user in the container", filled),
    switch("init", "Run an init in the container that forwards signals and reaps processes"),
    value("ipc", "MODE", "IPC namespace: private, shareable, host or none", filled),
    value("log-driver", "DRIVER", "Logging driver of the engine, beside the sandbox", filled),
    list("log-opt", "KEY=VALUE", "Option of the logging driver", any),
    value("memory-reservation", "AMOUNT", "Soft memory limit, as in 200m", amount),
    value("memory-swap", "AMOUNT", "Limit of memory and swap together; -1: unlimited swap", swap),
    value("oom-score-adj", "NUMBER", "The host's preference to kill the container, -1000 to 1000", oom_score),
    value("pid", "MODE", "PID namespace: host", filled),
    value("pids-limit", "NUMBER", "Limit of processes; -1: unlimited", integer),
    switch("read-only", "Make the container's root file system read-only"),
    value("runtime", "RUNTIME", "Runtime of the engine", filled),
    list("security-opt", "OPTION", "Security option, such as no-new-privileges or seccomp=unconfined", filled),
    value("shm-size", "AMOUNT", "Size of /dev/shm, as in 64m", amount),
    value("stop-signal", "SIGNAL", "Signal that asks the program to end, where it is not SIGTERM", filled),
    list("storage-opt", "KEY=VALUE", "Option of the storage driver", key_and_value),
    list("sysctl", "KEY=VALUE", "Kernel parameter of the container's namespaces", key_and_value),
    list("tmpfs", "DIR[:OPTIONS]", "Mount a file system in memory", directory),
    list("ulimit", "NAME=SOFT[:HARD]", "Limit of the processes in the container", ulimit),
    value("userns", "MODE", "User namespace: host", filled),
    value("uts", "MODE", "UTS namespace: host", filled),
    list("volumes-from", "CONTAINER[:ro]", "Mount the volumes of a container on the agent", filled),
];

impl Args for DockerOptions {
    fn augment_args(command: Command) -> Command {
        TABLE.iter().fold(command, |command, option| {
            let arg = Arg::new(option.name).long(option.name).help(option.help).help_heading(CONTAINER);
            command.arg(
                match option.kind {
                    Kind::Switch => arg.action(ArgAction::SetTrue),
                    Kind::Value => arg.action(ArgAction::Set).value_name(option.value_name).value_parser(option.check),
                    Kind::List => {
                        arg.action(ArgAction::Append).value_name(option.value_name).value_parser(option.check)
                    }
                }
                .allow_negative_numbers(!matches!(option.kind, Kind::Switch)),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for DockerOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut options = Vec::new();
        for DockerOption { name, kind, .. } in TABLE {
            match kind {
                Kind::Switch if matches.get_flag(name) => options.push((*name, "true".to_owned())),
                Kind::Switch => {}
                Kind::Value | Kind::List => {
                    let values = matches.get_many::<String>(name).into_iter().flatten();
                    options.extend(values.map(|value| (*name, value.clone())));
                }
            }
        }
        Ok(Self(options))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Why `docker run`'s option of this name (long, or one letter) cannot be had, and the Mesos way.
pub(super) fn refusal(name: &str) -> Option<String> {
    if let Some((_, why)) = REFUSED.iter().find(|(names, _)| names.contains(&name)) {
        return Some((*why).to_owned());
    }
    BY_PARAMETER.contains(&name).then(|| {
        format!(
            "write --docker-param={name}=VALUE, which agents with Mesos' own Docker containerizer hand to docker run"
        )
    })
}

/// Options of `docker run` with a meaning that Mesos cannot give.
const REFUSED: &[(&[&str], &str)] = &[
    (&["attach", "a"], "the launcher always shows both streams; send one to /dev/null to leave it out"),
    (&["cgroup-parent"], "the agent decides where containers are limited; ask for --cpus and --mem"),
    (
        &["c", "cpu-shares", "cpu-period", "cpu-quota", "cpu-rt-period", "cpu-rt-runtime"],
        "ask for --cpus; the agent makes shares and quota of it",
    ),
    (&["detach-keys"], "a task has no terminal"),
    (&["disable-content-trust"], "the agent's engine decides what it trusts; name the image by its digest"),
    (
        &["kernel-memory", "memory-swappiness", "oom-kill-disable"],
        "the agent enforces the memory limit; ask for enough --mem",
    ),
    (&["label-file"], "give the labels themselves with --label"),
    (
        &["link"],
        "containers of other tasks may be on other agents; use --network with the name of a network that both are on",
    ),
    (
        &["P", "publish-all"],
        "an agent gives a task only ports that it asked for; name them with --publish=HOSTPORT:PORT",
    ),
    (&["platform"], "every agent runs its own platform; choose agents with --constraint"),
    (
        &["restart"],
        "a task that ended has ended; launch it again, or run what must always run under a scheduler for services",
    ),
    (&["t", "tty", "it", "ti"], "a task has no terminal: its stdout and stderr are files in its sandbox"),
];

/// Options of `docker run` that only its own client understands.
const BY_PARAMETER: &[&str] = &[
    "blkio-weight",
    "blkio-weight-device",
    "cpuset-mems",
    "device-cgroup-rule",
    "device-read-bps",
    "device-read-iops",
    "device-write-bps",
    "device-write-iops",
    "domainname",
    "expose",
    "ip",
    "ip6",
    "isolation",
    "link-local-ip",
    "mac-address",
    "network-alias",
    "volume-driver",
];

fn any(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

fn filled(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { any(text) }
}

fn key_and_value(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => any(text),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

fn host_and_ip(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((host, ip)) if !host.is_empty() && !ip.is_empty() => any(text),
        _ => Err("give HOST:IP, such as db:10.0.0.7".to_owned()),
    }
}

fn cgroup_namespace(text: &str) -> Result<String, String> {
    if matches!(text, "host" | "private") { any(text) } else { Err("it is host or private".to_owned()) }
}

fn device(text: &str) -> Result<String, String> {
    if text.starts_with('/') { any(text) } else { Err("give a device of the agent, such as /dev/fuse".to_owned()) }
}

fn directory(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        any(text)
    } else {
        Err("give an absolute path in the container, perhaps with options, such as /run:size=64m".to_owned())
    }
}

fn integer(text: &str) -> Result<String, String> {
    text.parse::<i64>().map_err(|_| "it is not a whole number".to_owned())?;
    any(text)
}

fn oom_score(text: &str) -> Result<String, String> {
    match text.parse::<i32>() {
        Ok(-1000..=1000) => any(text),
        _ => Err("give a whole number from -1000 to 1000".to_owned()),
    }
}

/// Docker's own way to write a number of bytes.
fn amount(text: &str) -> Result<String, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let is_unit = matches!(unit.as_str(), "" | "b" | "k" | "kb" | "m" | "mb" | "g" | "gb" | "t" | "tb");
    if is_unit && digits.parse::<u64>().is_ok() {
        any(text)
    } else {
        Err("give a number of bytes, or one with a unit b, k, m or g, such as 64m".to_owned())
    }
}

fn swap(text: &str) -> Result<String, String> {
    if text == "-1" { any(text) } else { amount(text) }
}

fn ulimit(text: &str) -> Result<String, String> {
    let is_limit = |text: &str| text.parse::<i64>().is_ok_and(|limit| limit >= -1);
    let limits = text.split_once('=').filter(|(name, _)| !name.is_empty()).map(|(_, limits)| limits);
    match limits.map(|limits| limits.split_once(':').unwrap_or((limits, limits))) {
        Some((soft, hard)) if is_limit(soft) && is_limit(hard) => any(text),
        _ => Err("give NAME=SOFT[:HARD], such as nofile=1024:4096".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::Cli;

    fn parse(words: &[&str]) -> Result<Vec<(&'static str, String)>, String> {
        let words = ["--master=m"].iter().chain(words).chain(&["image", "--init"]).map(Into::into);
        Cli::parse_words(words).map(|cli| cli.docker.0).map_err(|stop| stop.text)
    }

    #[test]
    fn options_of_docker_run_are_taken_with_their_spelling() {
        let words = ["--tmpfs=/run", "--cap-add", "NET_ADMIN", "--init", "--cap-add=SYS_TIME", "--pids-limit", "-1"];
        let expected = [
            ("cap-add", "NET_ADMIN"),
            ("cap-add", "SYS_TIME"),
            ("init", "true"),
            ("pids-limit", "-1"),
            ("tmpfs", "/run"),
        ];
        assert_eq!(parse(&words).unwrap(), expected.map(|(name, value)| (name, value.to_owned())));
        assert_eq!(parse(&["--shm-size=1m", "--shm-size=2m"]).unwrap(), [("shm-size", "2m".to_owned())]);
    }

    #[test]
    fn a_value_that_the_engine_would_refuse_is_refused_here() {
        for word in [
            "--add-host=db",
            "--cap-add=",
            "--cgroupns=x",
            "--device=fuse",
            "--memory-swap=-2",
            "--oom-score-adj=1001",
            "--pids-limit=many",
            "--shm-size=64x",
            "--sysctl=x",
            "--tmpfs=run",
            "--ulimit=nofile",
            "--ulimit=nofile=a:b",
        ] {
            let text = parse(&[word]).unwrap_err();
            assert!(text.contains("invalid value") && text.lines().count() == 1, "{word}: {text}");
        }
        for word in
            ["--ulimit=nofile=1:2", "--ulimit=core=-1", "--memory-swap=-1", "--shm-size=64M", "--device=/dev/fuse:r"]
        {
            assert!(parse(&[word]).is_ok(), "{word}");
        }
    }

    #[test]
    fn what_mesos_cannot_do_is_refused_with_its_way() {
        for (word, way) in [
            ("--restart=always", "launch it again"),
            ("-t", "no terminal"),
            ("--tty", "no terminal"),
            ("--link=db", "--network"),
            ("-P", "--publish="),
            ("--cpu-shares=5", "--cpus"),
            ("-c5", "--cpus"),
            ("--cgroup-parent=/x", "the agent decides"),
            ("--ip=10.0.0.1", "--docker-param=ip=VALUE"),
        ] {
            let text = parse(&[word]).unwrap_err();
            assert!(text.contains(way) && text.lines().count() == 1, "{word}: {text}");
        }
    }

    #[test]
    fn the_debug_text_has_no_values() {
        let words = ["--master=m", "--log-opt=splunk-token=hunter2", "image"].map(Into::into);
        let text = format!("{:?}", Cli::parse_words(words).unwrap());
        assert!(text.contains("log-opt") && !text.contains("hunter2"), "{text}");
    }
}
