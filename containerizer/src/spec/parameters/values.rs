//! The forms that options' values have. PURE.

use std::collections::HashMap;
use std::str::FromStr;

use super::super::draft::{Draft, Port};
use crate::config::PullPolicy;
use crate::docker::models::{
    DeviceMapping, DeviceRequest, HostConfigCgroupnsModeEnum, HostConfigLogConfig, ResourcesBlkioWeightDevice,
    ResourcesUlimits, ThrottleDevice,
};

pub(super) fn set<T: FromStr>(place: &mut Option<T>, value: &str) -> Result<(), String> {
    *place = Some(value.parse().map_err(|_| format!("{value:?} is not a number"))?);
    Ok(())
}

pub(super) fn push(place: &mut Option<Vec<String>>, value: &str) -> Result<(), String> {
    place.get_or_insert_default().push(value.to_owned());
    Ok(())
}

pub(super) fn pair(place: &mut Option<HashMap<String, String>>, text: &str) -> Result<(), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    place.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    Ok(())
}

/// As Go reads a boolean, and nothing at all for yes.
pub(super) fn flag_value(text: &str) -> Result<bool, String> {
    match text {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("{other:?} is neither true nor false")),
    }
}

pub(super) fn log(draft: &mut Draft) -> &mut HostConfigLogConfig {
    draft.host.log_config.get_or_insert_default()
}

pub(super) fn environment(draft: &mut Draft, text: &str) -> Result<(), String> {
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
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
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

pub(super) fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

pub(super) fn ulimit(text: &str) -> Result<ResourcesUlimits, String> {
    let wrong = || format!("{text:?} is not NAME=SOFT[:HARD]");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    Ok(ResourcesUlimits { name: Some(name.to_owned()), soft: Some(number(soft)?), hard: Some(number(hard)?) })
}

pub(super) fn device(text: &str) -> Result<DeviceMapping, String> {
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

/// `DEVICE:RATE`
pub(super) fn throttle(text: &str, rate: fn(&str) -> Result<i64, String>) -> Result<ThrottleDevice, String> {
    let (path, number) = device_and(text)?;
    Ok(ThrottleDevice { path: Some(path.to_owned()), rate: Some(rate(number)?) })
}

pub(super) fn weight(text: &str) -> Result<ResourcesBlkioWeightDevice, String> {
    let (path, weight) = device_and(text)?;
    let weight = weight.parse().map_err(|_| format!("{weight:?} is not a number"))?;
    Ok(ResourcesBlkioWeightDevice { path: Some(path.to_owned()), weight: Some(weight) })
}

fn device_and(text: &str) -> Result<(&str, &str), String> {
    let parts = text.rsplit_once(':').filter(|(path, _)| path.starts_with("/dev/"));
    parts.ok_or_else(|| format!("{text:?} is not /dev/NAME:NUMBER"))
}

/// `all`, a number, or key=value pairs as in `"device=0,1"`, `count=2,capabilities=utility`.
pub(super) fn gpus(text: &str) -> Result<DeviceRequest, String> {
    let count = |text: &str| {
        let count = if text == "all" { Ok(-1) } else { text.parse() };
        count.map_err(|_| format!("{text:?} is neither a number nor \"all\""))
    };
    let mut request = DeviceRequest { capabilities: Some(vec![vec!["gpu".to_owned()]]), ..Default::default() };
    if !text.contains('=') {
        request.count = Some(count(text)?);
        return Ok(request);
    }
    let mut last = "";
    for part in text.trim_matches('"').split(',') {
        // What has no key of its own continues a list: `device=0,1`.
        let (key, value) = part.split_once('=').unwrap_or((last, part));
        last = key;
        match key {
            "count" => request.count = Some(count(value)?),
            "driver" => request.driver = Some(value.to_owned()),
            "device" => request.device_ids.get_or_insert_default().push(value.to_owned()),
            "capabilities" => request.capabilities.get_or_insert_default()[0].push(value.to_owned()),
            other => return Err(format!("{other:?} is none of count, device, driver, capabilities")),
        }
    }
    if request.count.is_none() && request.device_ids.is_none() {
        request.count = Some(1);
    }
    Ok(request)
}

pub(super) fn cgroup_namespace(text: &str) -> Result<HostConfigCgroupnsModeEnum, String> {
    match text {
        "host" => Ok(HostConfigCgroupnsModeEnum::HOST),
        "private" => Ok(HostConfigCgroupnsModeEnum::PRIVATE),
        other => Err(format!("{other:?} is neither host nor private")),
    }
}

pub(super) fn pull(text: &str) -> Result<PullPolicy, String> {
    match text {
        "always" => Ok(PullPolicy::Always),
        "missing" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        other => Err(format!("{other:?} is none of always, missing, never")),
    }
}

/// A network's name, or `name=NETWORK,alias=NAME,ip=ADDRESS`.
pub(super) fn network(draft: &mut Draft, text: &str) -> Result<(), String> {
    if !text.contains('=') {
        return set(&mut draft.host.network_mode, text);
    }
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("name", name)) => set(&mut draft.host.network_mode, name)?,
            Some(("alias", alias)) => draft.endpoint.aliases.push(alias.to_owned()),
            Some(("ip", ip)) => draft.endpoint.ipv4 = Some(ip.to_owned()),
            Some(("ip6", ip)) => draft.endpoint.ipv6 = Some(ip.to_owned()),
            Some(("link-local-ip", ip)) => draft.endpoint.link_local_ips.push(ip.to_owned()),
            _ => return Err(format!("{part:?} is none of name=, alias=, ip=, ip6=, link-local-ip=")),
        }
    }
    Ok(())
}

/// The docker command reads a seccomp profile's file on its own machine; here only what the value itself says is there.
pub(super) fn security_option(text: &str) -> Result<String, String> {
    match text.split_once(['=', ':']) {
        Some(("seccomp", profile)) if profile != "unconfined" && !profile.trim_start().starts_with('{') => {
            Err("files of the submitting machine are not here; give seccomp=unconfined or the profile's JSON itself"
                .to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

/// `PORT[/PROTOCOL]`
pub(super) fn exposed(text: &str) -> Result<String, String> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_protocol = matches!(protocol, "tcp" | "udp" | "sctp");
    if is_port && is_protocol {
        Ok(format!("{port}/{protocol}"))
    } else {
        Err(format!("{text:?} is not PORT[/PROTOCOL]"))
    }
}

pub(super) fn port(text: &str) -> Result<Port, String> {
    let wrong = || format!("{text:?} is not [IP:]HOST_PORT:CONTAINER_PORT[/PROTOCOL]");
    let (addresses, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(wrong());
    }
    let (rest, container) = addresses.rsplit_once(':').ok_or_else(wrong)?;
    let (ip, host) = match rest.rsplit_once(':') {
        Some((ip, host)) => (Some(ip.trim_matches(['[', ']']).to_owned()), host),
        None => (None, rest),
    };
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    Ok(Port { host_ip: ip, host: number(host)?, container: number(container)?, protocol: protocol.to_owned() })
}
