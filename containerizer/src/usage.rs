//! What a running container uses, read from the kernel's own files without asking the engine.
//!
//! Both generations of control groups are known. A container's groups are found once, through its first process; from
//! then on `usage` only opens the files. A file that is not there leaves its fields out.
//!
//! The network's counters are those of the first process' own network, where it has one. What a container does to disks stands
//! in a field of Mesos 1.4, which older slaves pass over.

mod blkio;
mod network;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use proto::mesos::ResourceStatistics;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::process::Process;
use crate::spec::Limits;

/// Where the kernel counts for a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cgroups {
    /// One directory per controller.
    V1 {
        /// CPU shares and throttling.
        #[serde(default)]
        cpu: Option<PathBuf>,
        /// CPU time.
        #[serde(default)]
        cpuacct: Option<PathBuf>,
        /// Memory.
        #[serde(default)]
        memory: Option<PathBuf>,
        /// Disks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blkio: Option<PathBuf>,
    },
    /// One directory for all.
    V2 {
        /// Of everything.
        path: PathBuf,
    },
}

impl Cgroups {
    /// Finds the groups of a process; `None` when it has ended or the kernel's files cannot be read.
    pub fn of_process(pid: u32) -> Option<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        Self::locate(&groups, &mounts)
    }

    /// From the texts of `/proc/PID/cgroup` and `/proc/self/mountinfo`.
    fn locate(groups: &str, mounts: &str) -> Option<Self> {
        let mut unified = None;
        let mut by_controller = HashMap::new();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(hierarchy), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            if hierarchy == "0" {
                unified = Some(path);
            } else {
                by_controller.extend(controllers.split(',').map(|controller| (controller, path)));
            }
        }
        let mounts: Vec<CgroupMount<'_>> = mounts.lines().filter_map(CgroupMount::parse).collect();
        let v1 = |controller: &str| {
            let path = by_controller.get(controller)?;
            let mount = mounts.iter().find(|m| m.kind == "cgroup" && m.options.split(',').any(|o| o == controller))?;
            mount.directory(path)
        };
        let [cpu, cpuacct, memory, blkio] = ["cpu", "cpuacct", "memory", "blkio"].map(v1);
        if memory.is_some() || cpuacct.is_some() {
            return Some(Self::V1 { cpu, cpuacct, memory, blkio });
        }
        let mount = mounts.iter().find(|mount| mount.kind == "cgroup2")?;
        Some(Self::V2 { path: mount.directory(unified?)? })
    }

    /// What the memory group holds that cannot be given back at once; `None` when it cannot be read.
    pub fn memory_in_use_bytes(&self) -> Option<u64> {
        match self {
            Self::V1 { memory, .. } => number(&memory.as_ref()?.join("memory.usage_in_bytes")),
            Self::V2 { path } => number(&path.join("memory.current")),
        }
    }

    /// SIGKILL to all processes of the container's groups, where these are no others' groups.
    pub(crate) fn kill_all(&self, docker_id: &str) {
        let is_its = |path: &&PathBuf| path.to_string_lossy().contains(docker_id);
        if let Self::V2 { path } = self
            && is_its(&path)
            && fs::write(path.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        for pid in self.processes_directory().filter(is_its).iter().flat_map(|path| pids(path)) {
            if let Some(process) = Process::of(pid) {
                process.signal(Signal::KILL);
            }
        }
    }

    /// Where the container's processes are listed.
    fn processes_directory(&self) -> Option<&PathBuf> {
        match self {
            Self::V1 { cpu, cpuacct, memory, .. } => memory.as_ref().or(cpuacct.as_ref()).or(cpu.as_ref()),
            Self::V2 { path } => Some(path),
        }
    }

    fn read(&self, statistics: &mut ResourceStatistics) {
        if let Some(directory) = self.processes_directory() {
            let count = |name: &str| lines(&directory.join(name)).and_then(|count| u32::try_from(count).ok());
            statistics.processes = count("cgroup.procs");
            statistics.threads = count("tasks").or_else(|| count("cgroup.threads"));
        }
        match self {
            Self::V1 { cpu, cpuacct, memory, blkio } => {
                if let Some(cpuacct) = cpuacct {
                    let stat = pairs(&cpuacct.join("cpuacct.stat"));
                    let seconds = |name| stat.get(name).map(|ticks| *ticks as f64 / TICKS_PER_SECOND);
                    statistics.cpus_user_time_secs = seconds("user");
                    statistics.cpus_system_time_secs = seconds("system");
                }
                if let Some(cpu) = cpu {
                    let stat = pairs(&cpu.join("cpu.stat"));
                    throttling(statistics, &stat, "throttled_time", 1e9);
                    let quota = number(&cpu.join("cpu.cfs_quota_us")).zip(number(&cpu.join("cpu.cfs_period_us")));
                    hard_limit(statistics, quota);
                }
                if let Some(memory) = memory {
                    let stat = pairs(&memory.join("memory.stat"));
                    let of = |name: &str| stat.get(name).copied();
                    statistics.mem_total_bytes = number(&memory.join("memory.usage_in_bytes"));
                    statistics.mem_total_memsw_bytes = number(&memory.join("memory.memsw.usage_in_bytes"));
                    statistics.mem_rss_bytes = of("total_rss");
                    statistics.mem_anon_bytes = of("total_rss");
                    statistics.mem_file_bytes = of("total_cache");
                    statistics.mem_cache_bytes = of("total_cache");
                    statistics.mem_mapped_file_bytes = of("total_mapped_file");
                    statistics.mem_swap_bytes = of("total_swap");
                    statistics.mem_unevictable_bytes = of("total_unevictable");
                    let soft_limit = number(&memory.join("memory.soft_limit_in_bytes"));
                    statistics.mem_soft_limit_bytes = soft_limit.filter(|bytes| *bytes < NO_LIMIT_BYTES);
                }
                statistics.blkio_statistics = blkio.as_deref().and_then(blkio::of_v1);
            }
            Self::V2 { path } => {
                let stat = pairs(&path.join("cpu.stat"));
                let seconds = |name| stat.get(name).map(|micros| *micros as f64 / 1e6);
                statistics.cpus_user_time_secs = seconds("user_usec");
                statistics.cpus_system_time_secs = seconds("system_usec");
                throttling(statistics, &stat, "throttled_usec", 1e6);
                let limit = read(&path.join("cpu.max")).unwrap_or_default();
                let limit = limit.trim().split_once(' ');
                hard_limit(statistics, limit.and_then(|(quota, period)| quota.parse().ok().zip(period.parse().ok())));
                let stat = pairs(&path.join("memory.stat"));
                let of = |name: &str| stat.get(name).copied();
                let swap = number(&path.join("memory.swap.current"));
                let total = number(&path.join("memory.current"));
                statistics.mem_total_bytes = total;
                statistics.mem_total_memsw_bytes = total.zip(swap).map(|(total, swap)| total + swap);
                statistics.mem_rss_bytes = of("anon");
                statistics.mem_anon_bytes = of("anon");
                statistics.mem_file_bytes = of("file");
                statistics.mem_cache_bytes = of("file");
                statistics.mem_mapped_file_bytes = of("file_mapped");
                statistics.mem_swap_bytes = swap;
                statistics.mem_unevictable_bytes = of("unevictable");
                // What the engine's reservation becomes.
                statistics.mem_soft_limit_bytes = number(&path.join("memory.low")).filter(|bytes| *bytes > 0);
                statistics.blkio_statistics = blkio::of_v2(path);
            }
        }
    }
}

/// A container's statistics now; of one that does not run, only its limits.
pub fn statistics(cgroups: Option<&Cgroups>, init: Option<&Process>, limits: Limits) -> ResourceStatistics {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut statistics = ResourceStatistics {
        timestamp: now.as_secs_f64(),
        cpus_limit: limits.cpu_shares.map(|shares| shares as f64 / 1024.0),
        mem_limit_bytes: limits.memory_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        ..Default::default()
    };
    if let Some(cgroups) = cgroups {
        cgroups.read(&mut statistics);
    }
    if let Some(init) = init.filter(|init| init.is_alive()) {
        network::read(&mut statistics, Path::new("/proc"), init.pid);
    }
    statistics
}

/// A quota is more of a limit than the weight that Mesos makes of cpus.
fn hard_limit(statistics: &mut ResourceStatistics, quota_and_period: Option<(u64, u64)>) {
    if let Some((quota, period)) = quota_and_period.filter(|(quota, period)| *quota > 0 && *period > 0) {
        statistics.cpus_limit = Some(quota as f64 / period as f64);
    }
}

fn pids(directory: &Path) -> Vec<u32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn lines(path: &Path) -> Option<usize> {
    Some(read(path)?.lines().count())
}

fn throttling(statistics: &mut ResourceStatistics, stat: &HashMap<String, u64>, time: &str, per_second: f64) {
    let count = |name| stat.get(name).and_then(|count| u32::try_from(*count).ok());
    statistics.cpus_nr_periods = count("nr_periods");
    statistics.cpus_nr_throttled = count("nr_throttled");
    statistics.cpus_throttled_time_secs = stat.get(time).map(|time| *time as f64 / per_second);
}

struct CgroupMount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> CgroupMount<'a> {
    /// A line is `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG]... - TYPE SOURCE SUPER_OPTIONS`.
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut system = system.split(' ');
        let (root, point) = (mount.next()?, mount.next()?);
        let (kind, options) = (system.next()?, system.nth(1)?);
        kind.starts_with("cgroup").then_some(Self { root, point, kind, options })
    }

    fn directory(&self, group: &str) -> Option<PathBuf> {
        let inside = Path::new(group).strip_prefix(self.root).ok()?;
        Some(Path::new(self.point).join(inside))
    }
}

fn number(path: &Path) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

/// A file of the kernel, whole. Its size is not told, and the standard library would feel its way with a dozen short reads,
/// each of which costs the kernel as much as the first.
fn read(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut bytes = Vec::with_capacity(READ_BYTES);
    loop {
        let begin = bytes.len();
        bytes.resize(begin + READ_BYTES, 0);
        match file.read(&mut bytes[begin..]) {
            Ok(0) => {
                bytes.truncate(begin);
                return String::from_utf8(bytes).ok();
            }
            Ok(count) => bytes.truncate(begin + count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => bytes.truncate(begin),
            Err(_) => return None,
        }
    }
}

fn pairs(path: &Path) -> HashMap<String, u64> {
    let text = read(path).unwrap_or_default();
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Longer than most; a page, which is what the kernel itself fills at a time.
const READ_BYTES: usize = 4096;
/// The kernel's way to say none: the largest number of whole pages.
const NO_LIMIT_BYTES: u64 = 1 << 62;
/// USER_HZ, which is 100 on every architecture that Docker runs on.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        36 31 0:33 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn groups_of_the_first_generation_are_found_by_controller() {
        let groups =
            "5:blkio:/docker/x\n4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n0::/docker/x\n";
        assert_eq!(
            Cgroups::locate(groups, MOUNTS),
            Some(Cgroups::V1 {
                cpu: Some("/sys/fs/cgroup/cpu,cpuacct/docker/x".into()),
                cpuacct: Some("/sys/fs/cgroup/cpu,cpuacct/docker/x".into()),
                memory: Some("/sys/fs/cgroup/memory/docker/x".into()),
                blkio: Some("/sys/fs/cgroup/blkio/docker/x".into()),
            })
        );
    }

    #[test]
    fn the_group_of_the_second_generation_is_found_under_its_mount() {
        let mounts = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            Cgroups::locate("0::/system.slice/docker-x.scope\n", mounts),
            Some(Cgroups::V2 { path: "/sys/fs/cgroup/system.slice/docker-x.scope".into() })
        );
        assert_eq!(Cgroups::locate("garbage\n", mounts), None);
        assert_eq!(Cgroups::locate("0::/x", ""), None);
    }

    #[test]
    fn both_generations_are_read_into_the_same_fields() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let path = || directory.path().to_owned();
        write("cpuacct.stat", "user 150\nsystem 50\n");
        write("memory.usage_in_bytes", "300\n");
        write(
            "memory.stat",
            "cache 1\ntotal_cache 200\ntotal_rss 100\nanon 100\nfile 200\nfile_mapped 7\ntotal_mapped_file 7\n",
        );
        write(
            "cpu.stat",
            "user_usec 1500000\nsystem_usec 500000\nnr_periods 3\nnr_throttled 2\nthrottled_time 4000000000\nthrottled_usec 4000000\n",
        );
        write("memory.current", "300\n");
        write("cgroup.procs", "7\n8\n");
        write("tasks", "7\n8\n9\n");
        write("blkio.throttle.io_service_bytes", "8:0 Read 1\n8:0 Total 1\nTotal 1\n");
        write("io.stat", "8:0 rbytes=1 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n");
        let limits = Limits { cpu_shares: Some(512), memory_bytes: Some(1 << 30), ..Limits::default() };
        for cgroups in [
            Cgroups::V1 { cpu: Some(path()), cpuacct: Some(path()), memory: Some(path()), blkio: Some(path()) },
            Cgroups::V2 { path: path() },
        ] {
            let statistics = statistics(Some(&cgroups), None, limits);
            assert_eq!((statistics.cpus_user_time_secs, statistics.cpus_system_time_secs), (Some(1.5), Some(0.5)));
            assert_eq!((statistics.cpus_limit, statistics.mem_limit_bytes), (Some(0.5), Some(1 << 30)));
            assert_eq!((statistics.mem_total_bytes, statistics.mem_rss_bytes), (Some(300), Some(100)));
            assert_eq!((statistics.mem_file_bytes, statistics.mem_mapped_file_bytes), (Some(200), Some(7)));
            assert_eq!((statistics.cpus_nr_throttled, statistics.cpus_throttled_time_secs), (Some(2), Some(4.0)));
            assert_eq!((statistics.processes, statistics.threads), (Some(2), Some(3)));
            assert!(statistics.timestamp > 1e9);
            assert_eq!(statistics.blkio_statistics.unwrap().throttling.len(), 1);
            assert_eq!(cgroups.memory_in_use_bytes(), Some(300));
        }
    }

    #[test]
    fn a_quota_is_the_limit_where_there_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let path = directory.path().to_owned();
        let v1 = Cgroups::V1 { cpu: Some(path.clone()), cpuacct: None, memory: None, blkio: None };
        let limits = Limits { cpu_shares: Some(512), ..Limits::default() };
        for (quota, max, expected) in [("150000", "150000 100000", 1.5), ("-1", "max 100000", 0.5)] {
            write("cpu.cfs_quota_us", quota);
            write("cpu.cfs_period_us", "100000");
            write("cpu.max", max);
            for cgroups in [&v1, &Cgroups::V2 { path: path.clone() }] {
                assert_eq!(statistics(Some(cgroups), None, limits).cpus_limit, Some(expected));
            }
        }
    }

    #[test]
    fn a_container_that_does_not_run_has_a_timestamp_and_its_limits() {
        let statistics = statistics(None, None, Limits::default());
        assert!(statistics.timestamp > 1e9 && statistics.mem_total_bytes.is_none());
    }
}
