//! What the kernel has counted in a container's memory group: whether somebody was killed for want of memory, and whose want
//! it was.
//!
//! Both generations count the processes of the group that were killed for memory, whoever had too little: the group by its own
//! limit, or the whole host. Whether the group's own limit was reached is counted apart, and decides. (The engine's own flag
//! knows neither, and misses kills of children.)

use std::fs;
use std::path::Path;

use crate::usage::Cgroups;

/// Counted since the container's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryEvents {
    /// Processes that the kernel killed for memory.
    pub(crate) oom_kills: u64,
    /// How often the group's own limit was in the way.
    pub(crate) limit_hits: u64,
    /// The group's limit; `None` without one.
    pub(crate) limit_bytes: Option<u64>,
    /// The most that was ever in use; not known to kernels of the second generation before 5.19.
    pub(crate) peak_bytes: Option<u64>,
}

/// Who had too little memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody.
    Enough,
    /// The container, by its own limit.
    OwnLimit,
    /// The host.
    Host,
}

impl MemoryEvents {
    /// `None` when the group is gone, or does not count kills: kernels before 4.13 do not.
    pub(crate) fn read(cgroups: &Cgroups) -> Option<Self> {
        match cgroups {
            Cgroups::V1 { memory, .. } => Self::read_v1(memory.as_ref()?),
            Cgroups::V2 { path } => Self::read_v2(path),
        }
    }

    fn read_v1(group: &Path) -> Option<Self> {
        let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        let limit_bytes = number("memory.limit_in_bytes").filter(|limit| *limit < NO_LIMIT_BYTES);
        let peak_bytes = number("memory.max_usage_in_bytes");
        // Some kernels do not count there, but a group that was full has reached its limit. One for memory and swap together
        // is a limit, too.
        let was_full = peak_bytes.zip(limit_bytes).is_some_and(|(peak, limit)| peak >= limit - limit / 100);
        let limit_hits = number("memory.failcnt")? + number("memory.memsw.failcnt").unwrap_or(0) + u64::from(was_full);
        Some(Self {
            oom_kills: value(&fs::read_to_string(group.join("memory.oom_control")).ok()?, "oom_kill")?,
            limit_hits,
            limit_bytes,
            peak_bytes,
        })
    }

    fn read_v2(group: &Path) -> Option<Self> {
        let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        let events = fs::read_to_string(group.join("memory.events")).ok()?;
        Some(Self {
            oom_kills: value(&events, "oom_kill")?,
            // Only when nothing could be given back any more; `max` counts every time that something had to.
            limit_hits: value(&events, "oom")?,
            limit_bytes: number("memory.max"),
            peak_bytes: number("memory.peak"),
        })
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match (self.oom_kills, self.limit_hits) {
            (0, _) => Verdict::Enough,
            (_, 0) => Verdict::Host,
            // The host may be short of memory while a container is near its limit now and then.
            _ if self.peak_bytes.zip(self.limit_bytes).is_some_and(|(peak, limit)| peak < limit - limit / 10) => {
                Verdict::Host
            }
            _ => Verdict::OwnLimit,
        }
    }
}

fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).and_then(|value| value.trim().parse().ok())
}

/// The kernel's way to say none: the largest number of whole pages.
const NO_LIMIT_BYTES: u64 = 1 << 62;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Directories with such files, as the kernel wrote them.
    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    fn v1(files: &[(&str, &str)]) -> Option<MemoryEvents> {
        let group = group(files);
        MemoryEvents::read(&Cgroups::V1 {
            cpu: None,
            cpuacct: None,
            memory: Some(group.path().to_owned()),
            blkio: None,
        })
    }

    fn v2(files: &[(&str, &str)]) -> Option<MemoryEvents> {
        let group = group(files);
        MemoryEvents::read(&Cgroups::V2 { path: group.path().to_owned() })
    }

    const OWN_V1: [(&str, &str); 4] = [
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
        ("memory.failcnt", "41\n"),
        ("memory.limit_in_bytes", "67108864\n"),
        ("memory.max_usage_in_bytes", "67108864\n"),
    ];

    #[test]
    fn the_first_generation_tells_the_own_limit_from_the_hosts_want() {
        let own = v1(&OWN_V1).unwrap();
        assert_eq!(
            (own.verdict(), own.limit_bytes, own.peak_bytes),
            (Verdict::OwnLimit, Some(64 << 20), Some(64 << 20))
        );
        let with = |name: &str, text: &'static str| {
            v1(&OWN_V1.map(|(file, old)| if file == name { (file, text) } else { (file, old) })).unwrap()
        };
        // As a kernel 6.18 has it.
        assert_eq!(with("memory.failcnt", "0\n").verdict(), Verdict::OwnLimit);
        assert_eq!(with("memory.max_usage_in_bytes", "9000000\n").verdict(), Verdict::Host);
        assert_eq!(with("memory.oom_control", "under_oom 0\noom_kill 0\n").verdict(), Verdict::Enough);
        assert_eq!(with("memory.limit_in_bytes", "9223372036854771712\n").limit_bytes, None);
    }

    #[test]
    fn a_kernel_that_does_not_count_kills_says_nothing() {
        let old = OWN_V1.map(|(file, text)| (file, if file == "memory.oom_control" { "under_oom 0\n" } else { text }));
        assert_eq!(v1(&old), None);
        assert_eq!(v1(&[]), None);
        assert_eq!(v2(&[]), None);
    }

    #[test]
    fn the_second_generation_tells_the_same() {
        let of = |events: &'static str| {
            v2(&[("memory.events", events), ("memory.max", "67108864\n"), ("memory.peak", "67104768\n")]).unwrap()
        };
        let own = of("low 0\nhigh 0\nmax 57\noom 1\noom_kill 1\noom_group_kill 0\n");
        assert_eq!(
            (own.verdict(), own.limit_bytes, own.peak_bytes),
            (Verdict::OwnLimit, Some(64 << 20), Some(67_104_768))
        );
        assert_eq!(of("low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\n").verdict(), Verdict::Host);
        assert_eq!(of("low 0\nhigh 0\nmax 57\noom 0\noom_kill 0\n").verdict(), Verdict::Enough);
        let unlimited = v2(&[("memory.events", "oom 0\noom_kill 1\n"), ("memory.max", "max\n")]).unwrap();
        assert_eq!((unlimited.verdict(), unlimited.limit_bytes, unlimited.peak_bytes), (Verdict::Host, None, None));
    }
}
