//! What this host has to offer, reckoned as a slave does.

use std::fs;
use std::path::Path;

use proto::mesos;
use proto::resources::Resources;

/// The ports that agents offer.
const PORTS: (u64, u64) = (31000, 32000);
/// What a slave leaves to the host; half of less than twice as much.
const KEPT_MEM_MB: u64 = 1024;
/// What a slave leaves to the host; half of less than twice as much.
const KEPT_DISK_MB: u64 = 5 * 1024;

/// Every agent offers the whole host, but ports only once: what they offer together is the user's to keep in mind.
pub(super) fn resources(work_dir: &Path, agent: u32, agents: u32) -> Resources {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mem = offered(memory_mb(), KEPT_MEM_MB);
    let disk = offered(disk_mb(work_dir), KEPT_DISK_MB);
    let share = (PORTS.1 - PORTS.0 + 1) / u64::from(agents);
    let begin = PORTS.0 + share * u64::from(agent);
    let end = if agent + 1 == agents { PORTS.1 } else { begin + share - 1 };
    let ports = mesos::value::Ranges { range: vec![mesos::value::Range { begin, end }] };
    vec![
        scalar("cpus", cpus as f64),
        scalar("mem", mem as f64),
        scalar("disk", disk as f64),
        mesos::Resource { r#type: mesos::value::Type::Ranges as i32, ranges: Some(ports), ..named("ports") },
    ]
    .into()
}

fn offered(total: u64, kept: u64) -> u64 {
    if total > 2 * kept { total - kept } else { total / 2 }
}

fn memory_mb() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.map_or(0, |kilobytes| kilobytes / 1024)
}

fn disk_mb(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |found| found.f_blocks.saturating_mul(found.f_frsize) >> 20)
}

fn scalar(name: &str, value: f64) -> mesos::Resource {
    mesos::Resource {
        r#type: mesos::value::Type::Scalar as i32,
        scalar: Some(mesos::value::Scalar { value }),
        ..named(name)
    }
}

fn named(name: &str) -> mesos::Resource {
    mesos::Resource { name: name.to_owned(), role: Some("*".to_owned()), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_share_the_ports_without_overlap() {
        let of = |agent, agents| resources(Path::new("/"), agent, agents).ranges("ports");
        assert_eq!(of(0, 1), [(31000, 32000)]);
        assert_eq!([of(0, 3), of(1, 3), of(2, 3)].concat(), [(31000, 31332), (31333, 31665), (31666, 32000)]);
    }

    #[test]
    fn this_host_offers_something() {
        let resources = resources(Path::new("/"), 0, 1);
        assert!(resources.scalar("cpus").as_f64() >= 1.0);
        assert!(resources.scalar("mem").as_f64() > 32.0);
        assert!(resources.scalar("disk").as_f64() > 0.0);
    }
}
