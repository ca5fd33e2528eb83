//! The options of `docker run` that a task can give as `DockerInfo.parameters` or, before Mesos 0.20, as
//! `CommandInfo.container.options`, and where each goes in the engine's API. PURE.
//!
//! One table serves both spellings. What is refused is refused by name, with the reason; what is not in the table is
//! unknown and says so: an option that silently does nothing is worse than a task that fails.

mod values;

use std::fmt::Write as _;

use super::draft::{Draft, Endpoint};
use super::{SpecError, mount, volumes};
use crate::docker::models::HealthConfig;
pub(crate) use values::bytes;
use values::{
    cgroup_namespace, device, environment, flag_value, gpus, log, network, pair, port, push, security_option, set,
    throttle, ulimit, weight,
};

/// Applies one `DockerInfo.parameters` entry.
pub(super) fn apply(draft: &mut Draft, key: &str, value: &str) -> Result<(), SpecError> {
    let key = key.trim_start_matches('-');
    let wrong = |reason: String| SpecError::Parameter { key: key.to_owned(), reason };
    if let Some((_, reason)) = REFUSED.iter().find(|(names, _)| names.contains(&key)) {
        return Err(wrong((*reason).to_owned()));
    }
    let option = OPTIONS.iter().find(|option| option.names.contains(&key));
    let option = option.ok_or_else(|| SpecError::UnknownParameter { key: key.to_owned(), near: near(key) })?;
    match option.apply {
        Apply::Text(apply) => apply(draft, value).map_err(wrong),
        Apply::Flag(apply) => flag_value(value).map(|flag| apply(draft, flag)).map_err(wrong),
    }
}

/// Applies a command line's options: `["-v", "/a:/b", "--privileged", "--env=A=b"]`.
pub(super) fn apply_options(draft: &mut Draft, options: &[String]) -> Result<(), SpecError> {
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
        let is_known = OPTIONS.iter().any(|option| option.names.contains(&key.as_str()));
        let value = match attached {
            Some(value) => value,
            // What is refused or unknown says so, and not that its value is missing.
            None if is_flag || !is_known => String::new(),
            None => words
                .next()
                .ok_or_else(|| SpecError::Parameter { key: key.clone(), reason: "its value is missing".to_owned() })?,
        };
        apply(draft, &key, &value)?;
    }
    Ok(())
}

/// Each entry of an option list is one word, as an argument of `docker run` is. But some wrote whole pieces of a command line
/// into one entry: `-v /a:/b`, `--net host --privileged`. There the option ends at its first blank, and what follows is its
/// value, or more options where another one is seen in it.
fn words(text: &str) -> Vec<String> {
    let Some((option, rest)) = text.split_once(' ').filter(|(option, _)| option.starts_with('-')) else {
        return vec![text.to_owned()];
    };
    if option.contains('=') && !rest.trim_start().starts_with('-') {
        // A value with a blank in it: `--env=A=b c`.
        return vec![text.to_owned()];
    }
    let rest = rest.trim();
    if rest.starts_with('-') || rest.contains(" -") {
        return std::iter::once(option).chain(rest.split_whitespace()).map(str::to_owned).collect();
    }
    [option, rest].into_iter().filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The name that was probably meant.
fn near(key: &str) -> Option<&'static str> {
    let all = OPTIONS.iter().flat_map(|option| option.names).chain(REFUSED.iter().flat_map(|(names, _)| *names));
    let ranked = all.filter(|name| name.len() > 1).map(|name| (strsim::jaro_winkler(key, name), *name));
    let best = ranked.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(likeness, _)| *likeness >= LIKELY).map(|(_, name)| name)
}

/// What can be given, for docs/containerizer.md.
pub fn markdown_table() -> String {
    let mut text = "| option | value |\n|---|---|\n".to_owned();
    for option in OPTIONS {
        let _ = writeln!(text, "| {} | {} |", spelled(option.names), option.value.replace('|', "\\|"));
    }
    text
}

/// What cannot be given, for docs/containerizer.md.
pub fn refused_markdown_table() -> String {
    let mut text = "| option | why not |\n|---|---|\n".to_owned();
    for (names, reason) in REFUSED {
        let _ = writeln!(text, "| {} | {reason} |", spelled(names));
    }
    text
}

fn spelled(names: &[&str]) -> String {
    let dashed = names.iter().map(|name| if name.len() == 1 { format!("`-{name}`") } else { format!("`--{name}`") });
    dashed.collect::<Vec<_>>().join(", ")
}

struct RunOption {
    names: &'static [&'static str],
    value: &'static str,
    apply: Apply,
}

enum Apply {
    Text(fn(&mut Draft, &str) -> Result<(), String>),
    Flag(fn(&mut Draft, bool)),
}

type ApplyText = fn(&mut Draft, &str) -> Result<(), String>;

const fn text(names: &'static [&'static str], value: &'static str, apply: ApplyText) -> RunOption {
    RunOption { names, value, apply: Apply::Text(apply) }
}

const fn flag(names: &'static [&'static str], apply: fn(&mut Draft, bool)) -> RunOption {
    RunOption { names, value: "`true` (or empty) or `false`", apply: Apply::Flag(apply) }
}

fn endpoint(draft: &mut Draft) -> &mut Endpoint {
    &mut draft.endpoint
}

#[rustfmt::skip]
const OPTIONS: &[RunOption] = &[
    text(&["add-host"], "`NAME:IP`", |d, v| push(&mut d.host.extra_hosts, v)),
    text(&["blkio-weight"], "10 to 1000", |d, v| set(&mut d.host.blkio_weight, v)),
    text(&["blkio-weight-device"], "`DEVICE:WEIGHT`", |d, v| { d.host.blkio_weight_device.get_or_insert_default().push(weight(v)?); Ok(()) }),
    text(&["cap-add"], "capability", |d, v| push(&mut d.host.cap_add, v)),
    text(&["cap-drop"], "capability", |d, v| push(&mut d.host.cap_drop, v)),
    text(&["cgroup-parent"], "path", |d, v| set(&mut d.host.cgroup_parent, v)),
    text(&["cgroupns"], "`host` or `private`", |d, v| { d.host.cgroupns_mode = Some(cgroup_namespace(v)?); Ok(()) }),
    text(&["cpu-period"], "microseconds", |d, v| set(&mut d.host.cpu_period, v)),
    text(&["cpu-quota"], "microseconds", |d, v| set(&mut d.host.cpu_quota, v)),
    text(&["cpu-rt-period"], "microseconds", |d, v| set(&mut d.host.cpu_realtime_period, v)),
    text(&["cpu-rt-runtime"], "microseconds", |d, v| set(&mut d.host.cpu_realtime_runtime, v)),
    text(&["cpuset-cpus"], "`0-3,5`", |d, v| set(&mut d.host.cpuset_cpus, v)),
    text(&["cpuset-mems"], "`0-3,5`", |d, v| set(&mut d.host.cpuset_mems, v)),
    text(&["device"], "`HOST[:CONTAINER][:rwm]`", |d, v| { d.host.devices.get_or_insert_default().push(device(v)?); Ok(()) }),
    text(&["device-cgroup-rule"], "`c 1:3 rwm`", |d, v| push(&mut d.host.device_cgroup_rules, v)),
    text(&["device-read-bps"], "`DEVICE:BYTES`", |d, v| { d.host.blkio_device_read_bps.get_or_insert_default().push(throttle(v, bytes)?); Ok(()) }),
    text(&["device-read-iops"], "`DEVICE:NUMBER`", |d, v| { d.host.blkio_device_read_iops.get_or_insert_default().push(throttle(v, values::number)?); Ok(()) }),
    text(&["device-write-bps"], "`DEVICE:BYTES`", |d, v| { d.host.blkio_device_write_bps.get_or_insert_default().push(throttle(v, bytes)?); Ok(()) }),
    text(&["device-write-iops"], "`DEVICE:NUMBER`", |d, v| { d.host.blkio_device_write_iops.get_or_insert_default().push(throttle(v, values::number)?); Ok(()) }),
    text(&["dns"], "address", |d, v| push(&mut d.host.dns, v)),
    text(&["dns-opt", "dns-option"], "option of resolv.conf", |d, v| push(&mut d.host.dns_options, v)),
    text(&["dns-search"], "domain", |d, v| push(&mut d.host.dns_search, v)),
    text(&["domainname"], "name", |d, v| set(&mut d.body.domainname, v)),
    text(&["entrypoint"], "program; empty for none", |d, v| { d.body.entrypoint = Some(vec![v.to_owned()]); Ok(()) }),
    text(&["env", "e"], "`NAME=VALUE`", environment),
    text(&["expose"], "`PORT[/PROTOCOL]`", |d, v| { let port = values::exposed(v)?; d.body.exposed_ports.get_or_insert_default().push(port); Ok(()) }),
    text(&["gpus"], "`all`, number, or `device=ID,...`", |d, v| { d.host.device_requests.get_or_insert_default().push(gpus(v)?); Ok(()) }),
    text(&["group-add"], "group", |d, v| push(&mut d.host.group_add, v)),
    text(&["hostname", "h"], "name", |d, v| set(&mut d.body.hostname, v)),
    flag(&["init"], |d, v| d.host.init = Some(v)),
    text(&["ip"], "address in a network of one's own", |d, v| set(&mut endpoint(d).ipv4, v)),
    text(&["ip6"], "address in a network of one's own", |d, v| set(&mut endpoint(d).ipv6, v)),
    text(&["ipc"], "`private`, `shareable`, `host`, `container:NAME`", |d, v| set(&mut d.host.ipc_mode, v)),
    text(&["label", "l"], "`KEY=VALUE`", |d, v| { let (k, v) = v.split_once('=').unwrap_or((v, "")); d.labels.insert(k.to_owned(), v.to_owned()); Ok(()) }),
    text(&["link"], "`CONTAINER[:ALIAS]`", |d, v| { endpoint(d).links.push(v.to_owned()); Ok(()) }),
    text(&["link-local-ip"], "address", |d, v| { endpoint(d).link_local_ips.push(v.to_owned()); Ok(()) }),
    text(&["log-driver"], "name; unless given, the engine keeps little: the sandbox has the output", |d, v| set(&mut log(d).typ, v)),
    text(&["log-opt"], "`KEY=VALUE`", |d, v| pair(&mut log(d).config, v)),
    text(&["memory-reservation"], "size", |d, v| { d.host.memory_reservation = Some(bytes(v)?); Ok(()) }),
    text(&["memory-swap"], "size of memory and swap together, or -1; unless given, `container.swap` decides", |d, v| { d.host.memory_swap = Some(if v == "-1" { -1 } else { bytes(v)? }); Ok(()) }),
    text(&["memory-swappiness"], "0 to 100", |d, v| set(&mut d.host.memory_swappiness, v)),
    text(&["mount"], "`type=bind,source=/a,target=/b[,readonly]`, and `volume`, `tmpfs`", mount::add_option),
    text(&["network", "net"], "`bridge`, `host`, `none`, `container:NAME`, or a network's name", network),
    text(&["network-alias", "net-alias"], "name in a network of one's own", |d, v| { endpoint(d).aliases.push(v.to_owned()); Ok(()) }),
    flag(&["no-healthcheck"], |d, v| d.body.healthcheck = v.then(no_health_check)),
    flag(&["oom-kill-disable"], |d, v| d.host.oom_kill_disable = Some(v)),
    text(&["oom-score-adj"], "-1000 to 1000", |d, v| set(&mut d.host.oom_score_adj, v)),
    text(&["pid"], "`host`, `container:NAME`", |d, v| set(&mut d.host.pid_mode, v)),
    text(&["pids-limit"], "number, or -1", |d, v| set(&mut d.host.pids_limit, v)),
    flag(&["privileged"], |d, v| d.host.privileged = Some(v)),
    text(&["publish", "p"], "`[IP:]HOST_PORT:PORT[/PROTOCOL]`, of the task's ports", |d, v| { d.ports.push(port(v)?); Ok(()) }),
    text(&["pull"], "`missing`, `always`, `never`", |d, v| { d.pull = Some(values::pull(v)?); Ok(()) }),
    flag(&["read-only"], |d, v| d.host.readonly_rootfs = Some(v)),
    text(&["runtime"], "name", |d, v| set(&mut d.host.runtime, v)),
    text(&["security-opt"], "`no-new-privileges`, `apparmor=PROFILE`, `label=...`, `seccomp=unconfined` or a profile's JSON", |d, v| push(&mut d.host.security_opt, &security_option(v)?)),
    text(&["shm-size"], "size", |d, v| { d.host.shm_size = Some(bytes(v)?); Ok(()) }),
    text(&["stop-signal"], "name", |d, v| set(&mut d.body.stop_signal, v)),
    text(&["stop-timeout"], "seconds", |d, v| set(&mut d.body.stop_timeout, v)),
    text(&["storage-opt"], "`KEY=VALUE`; for `size`, unless given, `container.limit_disk` decides", |d, v| pair(&mut d.host.storage_opt, v)),
    text(&["sysctl"], "`NAME=VALUE`", |d, v| pair(&mut d.host.sysctls, v)),
    text(&["tmpfs"], "`PATH[:OPTIONS]`", |d, v| { let (p, o) = v.split_once(':').unwrap_or((v, "")); d.host.tmpfs.get_or_insert_default().insert(p.to_owned(), o.to_owned()); Ok(()) }),
    text(&["ulimit"], "`NAME=SOFT[:HARD]`", |d, v| { d.host.ulimits.get_or_insert_default().push(ulimit(v)?); Ok(()) }),
    text(&["user", "u"], "`USER[:GROUP]`", |d, v| set(&mut d.body.user, v)),
    text(&["userns"], "`host`", |d, v| set(&mut d.host.userns_mode, v)),
    text(&["uts"], "`host`", |d, v| set(&mut d.host.uts_mode, v)),
    text(&["volume", "v"], "`[HOST:]PATH[:ro]`; a relative HOST lies in the sandbox", volumes::add_option),
    text(&["volume-driver"], "name", |d, v| set(&mut d.host.volume_driver, v)),
    text(&["volumes-from"], "`CONTAINER[:ro]`", |d, v| push(&mut d.host.volumes_from, v)),
    text(&["workdir", "w"], "path", |d, v| set(&mut d.body.working_dir, v)),
];

const REFUSED: &[(&[&str], &str)] = &[
    (
        &["attach", "a", "interactive", "i"],
        "a task has no terminal, input only of launch-container --interactive, and its output goes to the sandbox",
    ),
    (&["cidfile"], "the containerizer keeps the container's id"),
    (&["cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops", "isolation"], "it is for Windows"),
    (&["cpu-shares", "c", "cpus"], "give the task the cpus instead; its resources set the limit"),
    (&["detach", "d"], "the containerizer stays with the container"),
    (&["disable-content-trust"], "the engine's API has no content trust; name the image by its digest"),
    (&["env-file", "label-file"], "files of the submitting machine are not here; give the values themselves"),
    (
        &[
            "health-cmd",
            "health-interval",
            "health-retries",
            "health-start-interval",
            "health-start-period",
            "health-timeout",
        ],
        "nobody looks at what the engine finds; give the task a health check (TaskInfo.health_check), which its executor makes",
    ),
    (&["help", "quiet", "q", "use-api-socket"], "it is for the docker command only"),
    (&["kernel-memory"], "kernels and engines have given it up; the task's mem counts the kernel's memory, too"),
    (
        &["mac-address"],
        "engines before Docker 25 take it in another form than later ones, which this client does not speak",
    ),
    (&["memory", "m"], "give the task the mem instead; its resources set the limit"),
    (&["name"], "the container's name is mesos-CONTAINER_ID, by which the slave knows it"),
    (&["platform"], "the image of this host's own platform is used; name another one by its digest"),
    (&["publish-all", "P"], "use port mappings of the task's own ports"),
    (&["restart"], "a restarted container would outlive its task; let the framework launch it again"),
    (&["rm"], "the containerizer removes the container when its end is recorded"),
    (&["sig-proxy", "detach-keys"], "a task has no terminal"),
    (&["tty", "t"], "a terminal would mix stdout and stderr"),
];

fn no_health_check() -> HealthConfig {
    HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }
}

/// From here on a name is probably a misspelling of the other.
const LIKELY: f64 = 0.85;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
