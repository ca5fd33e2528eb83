//! What a container may use: from Mesos' resources to what the engine enforces. PURE.
//!
//! **Swap** follows memory by a rule: as the operator has configured it, unless a parameter of the task says how much. Every
//! update of the memory applies the rule again.
//!
//! **Disk** means the container's own layer, which only some storage drivers can limit. Sandbox and volumes are elsewhere.

use proto::ecp::Launch;
use proto::mesos::Resource;
use proto::resources::{Resources, Scalar};
use serde::{Deserialize, Serialize};

/// What the engine enforces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// 1024 for a cpu, relative to other containers; `None` where the task has no cpus resource.
    pub cpu_shares: Option<i64>,
    /// `None` where the task has no mem resource.
    pub memory_bytes: Option<i64>,
    /// Microseconds of cpu time for each tenth of a second; `None` where cpus are only a weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<i64>,
}

impl Limits {
    /// From Mesos' resources, with the minimum that Docker accepts (2 shares) and that Mesos always grants (32 MB).
    pub fn of(resources: &[Resource]) -> Self {
        Self::of_scalars(Scalars::of(resources))
    }

    /// From a slave's `update`: the whole new set with the executor's share in it. `None` when nothing but that share is
    /// left, as it is when the task has ended.
    pub fn of_update(resources: &[Resource], overhead: Overhead, is_cpu_limited: bool) -> Option<Self> {
        let all = Scalars::of(resources);
        let cpus = all.cpus - Scalar::from_milli(overhead.milli_cpus);
        let mem = all.mem - Scalar::from_milli(overhead.milli_mem);
        let zero = Scalar::from_milli(0);
        (cpus > zero || mem > zero).then(|| {
            let cpu_quota = (is_cpu_limited && cpus > zero).then(|| cpu_quota(cpus.milli()));
            Self { cpu_quota, ..Self::of_scalars(Scalars { cpus, mem }) }
        })
    }

    fn of_scalars(Scalars { cpus, mem }: Scalars) -> Self {
        let shares = cpus.milli().saturating_mul(SHARES_PER_CPU) / 1000;
        let memory = i128::from(mem.milli()) * i128::from(MIB) / 1000;
        let memory = i64::try_from(memory).unwrap_or(i64::MAX);
        Self {
            cpu_shares: (cpus.milli() > 0).then_some(shares.clamp(MIN_SHARES, MAX_SHARES)),
            memory_bytes: (mem.milli() > 0).then_some(memory.max(MIN_MEMORY_BYTES)),
            cpu_quota: None,
        }
    }
}

pub(super) fn cpu_quota(milli_cpus: i64) -> i64 {
    milli_cpus.saturating_mul(PERIOD_MICROSECONDS / 1000).max(MIN_QUOTA_MICROSECONDS)
}

/// What the slave counts for the executor of a command task on top of the task, in thousandths of cpus and MB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overhead {
    milli_cpus: i64,
    milli_mem: i64,
}

impl Overhead {
    /// Nothing for a custom executor, which runs inside of its container.
    pub fn of(launch: &Launch) -> Self {
        let (Some(task), Some(executor)) = (&launch.task_info, &launch.executor_info) else { return Self::default() };
        let (task, both) = (Scalars::of(&task.resources), Scalars::of(&executor.resources));
        Self { milli_cpus: (both.cpus - task.cpus).milli().max(0), milli_mem: (both.mem - task.mem).milli().max(0) }
    }
}

pub(super) struct Scalars {
    pub(super) cpus: Scalar,
    mem: Scalar,
}

impl Scalars {
    pub(super) fn of(resources: &[Resource]) -> Self {
        let resources = Resources::from(resources);
        Self { cpus: resources.scalar("cpus"), mem: resources.scalar("mem") }
    }
}

/// How much memory and swap may be together, for whatever memory limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Swap {
    /// As much swap as memory, which is what the engine makes of a memory limit alone.
    #[default]
    Same,
    /// None.
    None,
    /// As much as the host has.
    Unlimited,
    /// A parameter of the task says so: both together, or -1 for no limit.
    Fixed {
        /// As given.
        bytes: i64,
    },
}

impl Swap {
    /// Memory and swap together, in the engine's form: -1 is no limit.
    pub fn limit_bytes(self, memory_bytes: i64) -> i64 {
        match self {
            Self::Same => memory_bytes.saturating_mul(2),
            Self::None => memory_bytes,
            Self::Unlimited => UNLIMITED,
            Self::Fixed { bytes: UNLIMITED } => UNLIMITED,
            // The engine refuses less than the memory, which an update may have raised.
            Self::Fixed { bytes } => bytes.max(memory_bytes),
        }
    }
}

/// Bytes of the disk that tasks share, which the container's own layer lies on; `None` where the task has none of it. Volumes
/// with data of their own and whole disks are others.
pub(super) fn disk_bytes(resources: &[Resource]) -> Option<u64> {
    let shared = resources.iter().filter(|resource| resource.name == "disk" && resource.disk.is_none());
    let shared: Vec<Resource> = shared.cloned().collect();
    let megabytes = Resources::from(shared.as_slice()).scalar("disk").milli();
    let bytes = i128::from(megabytes) * i128::from(MIB) / 1000;
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

const UNLIMITED: i64 = -1;
const SHARES_PER_CPU: i64 = 1024;
const MIN_SHARES: i64 = 2;
const PERIOD_MICROSECONDS: i64 = 100_000;
const MIN_QUOTA_MICROSECONDS: i64 = 1000;
pub(super) const MAX_SHARES: i64 = 262_144;
const MIB: i64 = 1 << 20;
const MIN_MEMORY_BYTES: i64 = 32 * MIB;
