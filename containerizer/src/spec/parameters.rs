//! The options of `docker run` that a task can give as `DockerInfo.parameters` or, before Mesos 0.20, as
//! `CommandInfo.container.options`, and where each goes in the engine's API. PURE.
//!
//! One table serves both spellings. What is refused is refused by name, with the reason; what is not in the table is
//! unknown and says so: an option that silently does nothing is worse than a task that fails.

use std::collections::HashMap;
use std::str::FromStr;

use crate::docker::models::{
    DeviceMapping, DeviceRequest, HealthConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, ResourcesUlimits,
};

use super::draft::{Draft, Port};
use super::{SpecError, volumes};

/// Applies one `DockerInfo.parameters` entry.
pub(super) fn apply(draft: &mut Draft, key: &str, value: &str) -> Result<(), SpecError> {
    let key = key.trim_start_matches('-');
    let wrong = |reason: String| SpecError::Parameter { key: key.to_owned(), reason };
    if let Some((_, reason)) = REFUSED.iter().find(|(names, _)| names.contains(&key)) {
        return Err(wrong((*reason).to_owned()));
    }
    let option = OPTIONS.iter().find(|option| option.names.contains(&key));
    let option = option.ok_or_else(|| SpecError::UnknownParameter { key: key.to_owned() })?;
    match option.apply {
        Apply::Text(apply) => apply(draft, value).map_err(wrong),
        Apply::Flag(apply) => {
            let flag = match value {
                "" | "true" | "1" => true,
                "false" | "0" => false,
                other => return Err(wrong(format!("{other:?} is neither true nor false"))),
            };
            apply(draft, flag);
            Ok(())
        }
    }
}

/// Applies a command line's options: `["-v", "/a:/b", "--privileged", "--env=A=b"]`.
pub(super) fn apply_options(draft: &mut Draft, options: &[String]) -> Result<(), SpecError> {
    // A list with a single text may hold several words, as it stood on a shell's command line.
    let mut words = options.iter().flat_map(|text| words(text));
    while let Some(word) = words.next() {
        let (key, attached) = match word.strip_prefix("--") {
            Some(long) => match long.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (long.to_owned(), None),
            },
            None => {
                let Some(letter) = word.strip_prefix('-').and_then(|short| short.chars().next()) else {
                    return Err(SpecError::Parameter { key: word, reason: "it is not an option".to_owned() });
                };
                let rest = &word[1 + letter.len_utf8()..];
                let rest = rest.strip_prefix('=').unwrap_or(rest);
                (letter.to_string(), (!rest.is_empty()).then(|| rest.to_owned()))
            }
        };
        let is_flag = OPTIONS.iter().any(|o| o.names.contains(&key.as_str()) && matches!(o.apply, Apply::Flag(_)));
        let is_refused = REFUSED.iter().any(|(names, _)| names.contains(&key.as_str()));
        let value = match attached {
            Some(value) => value,
            None if is_flag || is_refused => String::new(),
            None => words
                .next()
                .ok_or_else(|| SpecError::Parameter { key: key.clone(), reason: "its value is missing".to_owned() })?,
        };
        apply(draft, &key, &value)?;
    }
    Ok(())
}

/// Each entry of an option list is one word; only an entry that begins with an option and holds blanks is split.
fn words(text: &str) -> Vec<String> {
    if text.starts_with('-') && text.contains(' ') && !text.contains('=') {
        text.split_whitespace().map(str::to_owned).collect()
    } else {
        vec![text.to_owned()]
    }
}

struct RunOption {
    names: &'static [&'static str],
    apply: Apply,
}

enum Apply {
    Text(fn(&mut Draft, &str) -> Result<(), String>),
    Flag(fn(&mut Draft, bool)),
}

const fn text(names: &'static [&'static str], apply: fn(&mut Draft, &str) -> Result<(), String>) -> RunOption {
    RunOption { names, apply: Apply::Text(apply) }
}

const fn flag(names: &'static [&'static str], apply: fn(&mut Draft, bool)) -> RunOption {
    RunOption { names, apply: Apply::Flag(apply) }
}

#[rustfmt::skip]
const OPTIONS: &[RunOption] = &[
    text(&["add-host"], |d, v| push(&mut d.host.extra_hosts, v)),
    text(&["blkio-weight"], |d, v| set(&mut d.host.blkio_weight, v)),
    text(&["cap-add"], |d, v| push(&mut d.host.cap_add, v)),
    text(&["cap-drop"], |d, v| push(&mut d.host.cap_drop, v)),
    text(&["cgroup-parent"], |d, v| set(&mut d.host.cgroup_parent, v)),
    text(&["cgroupns"], |d, v| { d.host.cgroupns_mode = Some(cgroup_namespace(v)?); Ok(()) }),
    text(&["cpu-period"], |d, v| set(&mut d.host.cpu_period, v)),
    text(&["cpu-quota"], |d, v| set(&mut d.host.cpu_quota, v)),
    text(&["cpuset-cpus"], |d, v| set(&mut d.host.cpuset_cpus, v)),
    text(&["cpuset-mems"], |d, v| set(&mut d.host.cpuset_mems, v)),
    text(&["device"], |d, v| { d.host.devices.get_or_insert_default().push(device(v)?); Ok(()) }),
    text(&["device-cgroup-rule"], |d, v| push(&mut d.host.device_cgroup_rules, v)),
    text(&["dns"], |d, v| push(&mut d.host.dns, v)),
    text(&["dns-opt", "dns-option"], |d, v| push(&mut d.host.dns_options, v)),
    text(&["dns-search"], |d, v| push(&mut d.host.dns_search, v)),
    text(&["domainname"], |d, v| set(&mut d.body.domainname, v)),
    text(&["entrypoint"], |d, v| { d.body.entrypoint = Some(vec![v.to_owned()]); Ok(()) }),
    text(&["env", "e"], environment),
    text(&["gpus"], |d, v| { d.host.device_requests.get_or_insert_default().push(gpus(v)?); Ok(()) }),
    text(&["group-add"], |d, v| push(&mut d.host.group_add, v)),
    text(&["hostname", "h"], |d, v| set(&mut d.body.hostname, v)),
    flag(&["init"], |d, v| d.host.init = Some(v)),
    text(&["ipc"], |d, v| set(&mut d.host.ipc_mode, v)),
    text(&["label", "l"], |d, v| { let (k, v) = v.split_once('=').unwrap_or((v, "")); d.labels.insert(k.to_owned(), v.to_owned()); Ok(()) }),
    text(&["log-driver"], |d, v| set(&mut log(d).typ, v)),
    text(&["log-opt"], |d, v| pair(&mut log(d).config, v)),
    text(&["memory-reservation"], |d, v| { d.host.memory_reservation = Some(bytes(v)?); Ok(()) }),
    text(&["memory-swap"], |d, v| { d.host.memory_swap = Some(if v == "-1" { -1 } else { bytes(v)? }); Ok(()) }),
    text(&["memory-swappiness"], |d, v| set(&mut d.host.memory_swappiness, v)),
    text(&["network", "net"], |d, v| set(&mut d.host.network_mode, v)),
    flag(&["oom-kill-disable"], |d, v| d.host.oom_kill_disable = Some(v)),
    flag(&["no-healthcheck"], |d, v| d.body.healthcheck = v.then(no_health_check)),
    text(&["oom-score-adj"], |d, v| set(&mut d.host.oom_score_adj, v)),
    text(&["pid"], |d, v| set(&mut d.host.pid_mode, v)),
    text(&["pids-limit"], |d, v| set(&mut d.host.pids_limit, v)),
    flag(&["privileged"], |d, v| d.host.privileged = Some(v)),
    text(&["publish", "p"], |d, v| { d.ports.push(port(v)?); Ok(()) }),
    flag(&["read-only"], |d, v| d.host.readonly_rootfs = Some(v)),
    text(&["runtime"], |d, v| set(&mut d.host.runtime, v)),
    text(&["security-opt"], |d, v| push(&mut d.host.security_opt, v)),
    text(&["shm-size"], |d, v| { d.host.shm_size = Some(bytes(v)?); Ok(()) }),
    text(&["stop-signal"], |d, v| set(&mut d.body.stop_signal, v)),
    text(&["stop-timeout"], |d, v| set(&mut d.body.stop_timeout, v)),
    text(&["storage-opt"], |d, v| pair(&mut d.host.storage_opt, v)),
    text(&["sysctl"], |d, v| pair(&mut d.host.sysctls, v)),
    text(&["tmpfs"], |d, v| { let (p, o) = v.split_once(':').unwrap_or((v, "")); d.host.tmpfs.get_or_insert_default().insert(p.to_owned(), o.to_owned()); Ok(()) }),
    text(&["ulimit"], |d, v| { d.host.ulimits.get_or_insert_default().push(ulimit(v)?); Ok(()) }),
    text(&["user", "u"], |d, v| set(&mut d.body.user, v)),
    text(&["userns"], |d, v| set(&mut d.host.userns_mode, v)),
    text(&["uts"], |d, v| set(&mut d.host.uts_mode, v)),
    text(&["volume", "v"], volumes::add_option),
    text(&["volume-driver"], |d, v| set(&mut d.host.volume_driver, v)),
    text(&["volumes-from"], |d, v| push(&mut d.host.volumes_from, v)),
    text(&["workdir", "w"], |d, v| set(&mut d.body.working_dir, v)),
];

const REFUSED: &[(&[&str], &str)] = &[
    (&["attach", "a", "interactive", "i"], "a task has no terminal and no input; its output goes to the sandbox"),
    (&["cidfile"], "the containerizer keeps the container's id"),
    (&["cpu-shares", "c", "cpus"], "give the task the cpus instead; its resources set the limit"),
    (&["detach", "d"], "the containerizer stays with the container"),
    (&["env-file", "label-file"], "files of the submitting machine are not here; give the values themselves"),
    (
        &["health-cmd", "health-interval", "health-retries", "health-start-period", "health-timeout"],
        "nobody looks at what the engine finds; give the task a health check instead",
    ),
    (&["memory", "m"], "give the task the mem instead; its resources set the limit"),
    (&["mount"], "use volume or tmpfs"),
    (&["name"], "the container's name is mesos-CONTAINER_ID, by which the slave knows it"),
    (&["publish-all", "P"], "use port mappings of the task's own ports"),
    (&["restart"], "a restarted container would outlive its task; let the framework launch it again"),
    (&["rm"], "the containerizer removes the container when its end is recorded"),
    (&["sig-proxy", "detach-keys"], "a task has no terminal"),
    (&["tty", "t"], "a terminal would mix stdout and stderr"),
];

fn set<T: FromStr>(place: &mut Option<T>, value: &str) -> Result<(), String> {
    *place = Some(value.parse().map_err(|_| format!("{value:?} is not a number"))?);
    Ok(())
}

fn push(place: &mut Option<Vec<String>>, value: &str) -> Result<(), String> {
    place.get_or_insert_default().push(value.to_owned());
    Ok(())
}

fn pair(place: &mut Option<HashMap<String, String>>, text: &str) -> Result<(), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    place.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    Ok(())
}

fn log(draft: &mut Draft) -> &mut HostConfigLogConfig {
    draft.host.log_config.get_or_insert_default()
}

fn environment(draft: &mut Draft, text: &str) -> Result<(), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            draft.environment.insert(name.to_owned(), value.to_owned());
            Ok(())
        }
        // The value itself may be secret, so it is not repeated.
        Some(_) => Err("the variable has no name".to_owned()),
        None => Err(format!("{text:?} has no value; the submitting machine's environment is not here")),
    }
}

/// A size in bytes, or with b, k, m, g, t for powers of 1024.
fn bytes(text: &str) -> Result<i64, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("{text:?} is not a size such as 64m")),
    };
    let number: i64 = digits.parse().map_err(|_| format!("{text:?} is not a size such as 64m"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too large"))
}

fn ulimit(text: &str) -> Result<ResourcesUlimits, String> {
    let wrong = || format!("{text:?} is not NAME=SOFT[:HARD]");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    Ok(ResourcesUlimits { name: Some(name.to_owned()), soft: Some(number(soft)?), hard: Some(number(hard)?) })
}

fn device(text: &str) -> Result<DeviceMapping, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_permissions = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, permissions] if is_permissions(permissions) => (*host, *host, *permissions),
        [host, container] => (*host, *container, "rwm"),
        [host, container, permissions] if is_permissions(permissions) => (*host, *container, *permissions),
        _ => return Err(format!("{text:?} is not HOST[:CONTAINER][:rwm]")),
    };
    Ok(DeviceMapping {
        path_on_host: Some(host.to_owned()),
        path_in_container: Some(container.to_owned()),
        cgroup_permissions: Some(permissions.to_owned()),
    })
}

fn no_health_check() -> HealthConfig {
    HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }
}

fn gpus(text: &str) -> Result<DeviceRequest, String> {
    let count = if text == "all" { Ok(-1) } else { text.parse() };
    let count = count.map_err(|_| format!("{text:?} is neither a number nor \"all\""))?;
    Ok(DeviceRequest { count: Some(count), capabilities: Some(vec![vec!["gpu".to_owned()]]), ..Default::default() })
}

fn cgroup_namespace(text: &str) -> Result<HostConfigCgroupnsModeEnum, String> {
    match text {
        "host" => Ok(HostConfigCgroupnsModeEnum::HOST),
        "private" => Ok(HostConfigCgroupnsModeEnum::PRIVATE),
        other => Err(format!("{other:?} is neither host nor private")),
    }
}

fn port(text: &str) -> Result<Port, String> {
    let wrong = || format!("{text:?} is not [IP:]HOST_PORT:CONTAINER_PORT[/PROTOCOL]");
    let (addresses, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (rest, container) = addresses.rsplit_once(':').ok_or_else(wrong)?;
    let (ip, host) = match rest.rsplit_once(':') {
        Some((ip, host)) => (Some(ip.trim_matches(['[', ']']).to_owned()), host),
        None => (None, rest),
    };
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    Ok(Port { host_ip: ip, host: number(host)?, container: number(container)?, protocol: protocol.to_owned() })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn host(options: &[&str]) -> serde_json::Value {
        let mut draft = Draft::default();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        apply_options(&mut draft, &options).unwrap();
        serde_json::to_value(&draft.host).unwrap()
    }

    fn error(options: &[&str]) -> String {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        apply_options(&mut Draft::default(), &options).unwrap_err().to_string()
    }

    #[test]
    fn options_are_read_in_every_spelling_of_docker_run() {
        let expected = json!({"Privileged": true, "ShmSize": 67_108_864});
        for options in [
            ["--privileged", "--shm-size=64m"].as_slice(),
            &["--privileged=true", "--shm-size", "64m"],
            &["--shm-size 64m", "--privileged"],
        ] {
            assert_eq!(host(options), expected, "{options:?}");
        }
        for options in [["-v/a:/b:ro"].as_slice(), &["-v", "/a:/b:ro"], &["-v=/a:/b:ro"], &["--volume=/a:/b:ro"]] {
            let mut draft = Draft::default();
            let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            apply_options(&mut draft, &options).unwrap();
            assert_eq!(
                serde_json::to_value(&draft.mounts).unwrap(),
                json!([{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true}]),
                "{options:?}"
            );
        }
    }

    #[test]
    fn structured_values_arrive_as_the_engine_wants_them() {
        assert_eq!(
            host(&[
                "--ulimit=nofile=1024:2048",
                "--ulimit=core=0",
                "--device=/dev/null:/dev/x:r",
                "--device=/dev/zero",
                "--sysctl=net.core.somaxconn=5",
                "--tmpfs=/run:size=1m",
                "--gpus=all",
                "--log-driver=local",
                "--log-opt=max-size=1m",
            ]),
            json!({
                "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}, {"Name": "core", "Soft": 0, "Hard": 0}],
                "Devices": [
                    {"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"},
                    {"PathOnHost": "/dev/zero", "PathInContainer": "/dev/zero", "CgroupPermissions": "rwm"}
                ],
                "Sysctls": {"net.core.somaxconn": "5"},
                "Tmpfs": {"/run": "size=1m"},
                "DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}],
                "LogConfig": {"Type": "local", "Config": {"max-size": "1m"}},
            })
        );
    }

    #[test]
    fn an_unknown_option_is_named() {
        assert!(error(&["--no-such=1"]).contains("no-such"));
        assert!(error(&["word"]).contains("word"));
        assert!(error(&["--ulimit"]).contains("its value is missing"));
    }

    #[test]
    fn what_would_break_the_supervision_is_refused_with_a_reason() {
        for (option, reason) in
            [("--rm", "removes"), ("--restart=always", "outlive"), ("-t", "stderr"), ("-m=1g", "mem")]
        {
            assert!(error(&[option]).contains(reason), "{option}: {}", error(&[option]));
        }
    }

    #[test]
    fn an_environment_value_is_not_repeated_in_an_error() {
        assert!(!error(&["-e", "=secret"]).contains("secret"));
    }

    #[test]
    fn sizes_have_dockers_units() {
        assert_eq!(bytes("7"), Ok(7));
        assert_eq!(bytes("2K"), Ok(2048));
        assert_eq!(bytes("1g"), Ok(1 << 30));
        assert!(bytes("1x").is_err() && bytes("").is_err() && bytes("9223372036854775807g").is_err());
    }

    #[test]
    fn ports_have_host_and_container_sides() {
        let expected = Port { host_ip: Some("::1".into()), host: 31000, container: 53, protocol: "udp".into() };
        assert_eq!(port("[::1]:31000:53/udp"), Ok(expected));
        assert_eq!(port("31000:80").unwrap().protocol, "tcp");
        assert!(port("80").is_err() && port("0:80").is_err() && port("31000:99999").is_err());
    }

    #[test]
    fn no_name_stands_twice_in_the_table() {
        let mut names: Vec<_> = OPTIONS.iter().flat_map(|o| o.names).chain(REFUSED.iter().flat_map(|r| r.0)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
