//! The host: who we are, what the kernel can count and limit, and room on its disks.

use std::path::Path;

use super::super::finding::Finding;
use super::super::table::bytes;
use crate::docker::About;
use crate::usage::Cgroups;

pub(super) fn look_at_user(found: &mut Vec<Finding>) {
    let uid = rustix::process::geteuid();
    found.push(if uid.is_root() {
        Finding::ok("user", "root")
    } else {
        Finding::warning(
            "user",
            format!(
                "uid {}: what tasks leave in their sandboxes as another user can only be given back through the engine",
                uid.as_raw()
            ),
            "run doctor, and the slave, as root",
        )
    });
}

const CGROUPS: &str = "cgroups";

pub(super) fn look_at_cgroups(about: Option<&About>, found: &mut Vec<Finding>) {
    match Cgroups::of_process(std::process::id()) {
        Some(Cgroups::V1 { cpu, cpuacct, memory, .. }) => {
            found.push(Finding::ok(CGROUPS, "version 1"));
            for (controller, path) in [("cpu", cpu), ("cpuacct", cpuacct), ("memory", memory)] {
                if !path.is_some_and(|path| path.is_dir()) {
                    found.push(Finding::problem(
                        CGROUPS,
                        format!("the controller {controller} is not mounted: it is neither limited nor counted"),
                        format!("boot without cgroup_disable={controller}, and mount it under /sys/fs/cgroup"),
                    ));
                }
            }
        }
        Some(Cgroups::V2 { path }) => {
            let controllers = std::fs::read_to_string(
                path.ancestors().find(|path| path.ends_with("cgroup")).unwrap_or(&path).join("cgroup.controllers"),
            );
            found.push(Finding::ok(CGROUPS, "version 2"));
            let controllers = controllers.unwrap_or_default();
            for controller in
                ["cpu", "memory"].into_iter().filter(|name| !controllers.split_whitespace().any(|has| has == *name))
            {
                found.push(Finding::problem(
                    CGROUPS,
                    format!(
                        "the controller {controller} is not enabled at the root: it is neither limited nor counted"
                    ),
                    format!("boot without cgroup_disable={controller}"),
                ));
            }
        }
        None => found.push(Finding::problem(
            CGROUPS,
            "no control groups can be found: usage cannot be read, and causes of death are not known",
            "mount them under /sys/fs/cgroup; in a container, share the host's",
        )),
    }
    let Some(about) = about else { return };
    let can = about.can_limit;
    let version = about.cgroup_version;
    found
        .push(Finding::ok(CGROUPS, format!("the engine uses version {version} by its driver {}", about.cgroup_driver)));
    if !can.memory {
        found.push(Finding::problem(
            CGROUPS,
            "the engine cannot limit memory: one task can take all of the host's",
            "boot with cgroup_enable=memory",
        ));
    }
    if !can.cpu_shares {
        found.push(Finding::problem(
            CGROUPS,
            "the engine cannot weigh cpus: tasks get no fair share",
            "enable the kernel's cpu controller",
        ));
    }
    if !can.cpu_quota {
        found.push(Finding::warning(
            CGROUPS,
            "the engine cannot limit cpu time: tasks may use idle cpus beyond their share",
            "use a kernel with CONFIG_CFS_BANDWIDTH",
        ));
    }
    if !can.swap {
        found.push(Finding::warning(
            CGROUPS,
            "swap is not counted: where the host has swap, a task may use it beyond its memory limit",
            "boot with swapaccount=1, or run without swap",
        ));
    }
}

pub(super) fn look_at_work_directory(path: &Path, found: &mut Vec<Finding>) {
    const ABOUT: &str = "work_dir";
    let shown = path.display();
    if !path.is_dir() {
        found.push(Finding::problem(
            ABOUT,
            format!("{shown} is not a directory"),
            "give the slave's --work_dir: --work-dir DIRECTORY; the slave makes it at its first start",
        ));
        return;
    }
    let text = shown.to_string();
    let odd = text.contains([':', ' ']).then_some(", with a blank or colon, which is fine for sandboxes");
    found.push(Finding::ok(ABOUT, format!("{shown}{}", odd.unwrap_or_default())));
    if let Ok(system) = rustix::fs::statvfs(path) {
        let flags = system.f_flag;
        if flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            found.push(Finding::problem(ABOUT, format!("{shown} is mounted read-only"), "mount it for writing"));
        }
        if flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
            found.push(Finding::warning(
                ABOUT,
                format!("{shown} is mounted noexec: programs that tasks fetch into their sandboxes cannot be run"),
                "mount it without noexec",
            ));
        }
    }
    look_at_space(ABOUT, path, found);
    look_at_propagation(ABOUT, path, found);
}

pub(super) fn look_at_data_root(path: &Path, found: &mut Vec<Finding>) {
    if path.is_dir() {
        look_at_space("data_root", path, found);
    } else {
        found.push(Finding::ok(
            "data_root",
            format!("the engine's {} is not on this host, or may not be looked at", path.display()),
        ));
    }
}

fn look_at_space(about: &'static str, path: &Path, found: &mut Vec<Finding>) {
    match rustix::fs::statvfs(path) {
        Ok(system) => {
            let room = Room {
                free_bytes: system.f_bavail.saturating_mul(system.f_frsize),
                all_bytes: system.f_blocks.saturating_mul(system.f_frsize),
                free_inodes: system.f_favail,
                all_inodes: system.f_files,
            };
            found.push(room.finding(about, path));
        }
        Err(error) => found.push(Finding::warning(
            about,
            format!("how much room is at {} cannot be read: {error}", path.display()),
            "check the permissions",
        )),
    }
}

/// What a file system has left for others than root.
#[derive(Debug, Clone, Copy)]
struct Room {
    free_bytes: u64,
    all_bytes: u64,
    free_inodes: u64,
    /// 0 where they are made as needed.
    all_inodes: u64,
}

impl Room {
    fn finding(self, about: &'static str, path: &Path) -> Finding {
        let percent = |free: u64, all: u64| if all == 0 { 100 } else { u128::from(free) * 100 / u128::from(all) };
        let (space, inodes) = (percent(self.free_bytes, self.all_bytes), percent(self.free_inodes, self.all_inodes));
        let text = format!(
            "{}: {} of {} free ({space}%), {inodes}% of the inodes",
            path.display(),
            bytes(self.free_bytes),
            bytes(self.all_bytes)
        );
        let advice = "make room: docker system df, du -xh --max-depth=2, and the slave's --gc_delay";
        if self.free_bytes < FULL_BYTES || inodes == 0 {
            Finding::problem(about, format!("{text}: full"), advice)
        } else if self.free_bytes < TIGHT_BYTES || space < TIGHT_PERCENT || inodes < TIGHT_PERCENT {
            Finding::warning(about, format!("{text}: nearly full"), advice)
        } else {
            Finding::ok(about, text)
        }
    }
}

fn look_at_propagation(about: &'static str, path: &Path, found: &mut Vec<Finding>) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let Some((point, is_shared)) = mount_of(&mounts, &path) else { return };
    let finding =
        Finding::ok(about, format!("on the mount {point}, which is {}", if is_shared { "shared" } else { "private" }));
    found.push(if is_shared {
        finding
    } else {
        finding.with_advice(format!(
            "volumes with propagation rshared or rslave under it need a shared mount: mount --make-rshared {point}"
        ))
    });
}

/// The mount that a path is on, from the text of /proc/self/mountinfo, and whether mounts on it are seen elsewhere, too.
fn mount_of(mounts: &str, path: &Path) -> Option<(String, bool)> {
    let mounts = mounts.lines().filter_map(|line| {
        let (mount, _) = line.split_once(" - ")?;
        let mut words = mount.split(' ').skip(4);
        let point = words.next()?.replace("\\040", " ");
        let is_shared = words.skip(1).any(|tag| tag.starts_with("shared:"));
        path.starts_with(&point).then_some((point, is_shared))
    });
    // Of two at one place the later one covers the earlier.
    mounts.max_by_key(|(point, _)| point.len())
}

/// Not even logs can be written.
const FULL_BYTES: u64 = 100 << 20;
/// Less than an ordinary image.
const TIGHT_BYTES: u64 = 1 << 30;
const TIGHT_PERCENT: u128 = 5;

#[cfg(test)]
mod tests {
    use super::super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_disk_is_full_or_tight_by_bytes_and_by_inodes() {
        let fine = Room { free_bytes: 50 << 30, all_bytes: 100 << 30, free_inodes: 900, all_inodes: 1000 };
        let of = |room: Room| room.finding("disk", Path::new("/d")).verdict;
        assert_eq!(of(fine), Verdict::Ok);
        assert_eq!(of(Room { free_bytes: 50 << 20, ..fine }), Verdict::Problem);
        assert_eq!(of(Room { free_bytes: 500 << 20, ..fine }), Verdict::Warning);
        assert_eq!(of(Room { free_bytes: 4 << 30, ..fine }), Verdict::Warning);
        assert_eq!(of(Room { free_inodes: 0, ..fine }), Verdict::Problem);
        assert_eq!(of(Room { free_inodes: 10, ..fine }), Verdict::Warning);
        assert_eq!(of(Room { free_inodes: 0, all_inodes: 0, ..fine }), Verdict::Ok);
    }

    #[test]
    fn the_innermost_mount_of_a_path_counts() {
        let mounts = "23 1 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
            30 23 8:2 / /var/lib rw,relatime - ext4 /dev/b rw\n\
            31 23 8:3 / /var/lib/a\\040b rw shared:7 - ext4 /dev/c rw\ngarbage\n";
        let of = |path: &str| mount_of(mounts, Path::new(path));
        assert_eq!(of("/var/lib/mesos"), Some(("/var/lib".to_owned(), false)));
        assert_eq!(of("/var/library"), Some(("/".to_owned(), true)));
        assert_eq!(of("/var/lib/a b/c"), Some(("/var/lib/a b".to_owned(), true)));
        assert_eq!(mount_of("", Path::new("/")), None);
    }

    #[test]
    fn what_the_engine_cannot_limit_is_named() {
        let mut found = Vec::new();
        look_at_cgroups(Some(&About::default()), &mut found);
        let advice: Vec<_> = found.iter().filter_map(|finding| finding.advice.as_deref()).collect();
        for expected in ["cgroup_enable=memory", "swapaccount=1", "CONFIG_CFS_BANDWIDTH"] {
            assert!(advice.iter().any(|advice| advice.contains(expected)), "{expected}: {found:?}");
        }
    }
}
