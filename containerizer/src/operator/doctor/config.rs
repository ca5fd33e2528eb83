//! The operator's configuration: whether it is understood, and whether this host can do what it asks for.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::finding::Finding;
use crate::config::{CONFIG_FILE, CONFIG_VARIABLE, Config, DiskPolicy};
use crate::docker::About;
use crate::environment::Environment;

const ABOUT: &str = "config";

/// The configuration in force; `None` where it is wrong.
pub(super) fn look(environment: &Environment, found: &mut Vec<Finding>) -> Option<Config> {
    let path = PathBuf::from(environment.get(CONFIG_VARIABLE).unwrap_or(CONFIG_FILE));
    let config = match Config::load(environment) {
        Ok(config) => config,
        Err(error) => {
            found.push(Finding::problem(
                ABOUT,
                error.to_string(),
                "correct it: until then the slave does not start, and every launch fails",
            ));
            return None;
        }
    };
    let Ok(metadata) = fs::metadata(&path) else {
        found.push(Finding::ok(ABOUT, format!("there is no {}: the defaults are in force", path.display())));
        return Some(config);
    };
    found.push(Finding::ok(ABOUT, format!("{} is well", path.display())));
    if metadata.mode() & 0o022 != 0 {
        found.push(Finding::problem(
            ABOUT,
            format!("others than its owner may write to {}, which names programs that are run", path.display()),
            format!("chmod go-w {}", path.display()),
        ));
    }
    Some(config)
}

/// Whether the engine can limit disks, where it is to.
pub(super) fn look_at_disk_limit(policy: DiskPolicy, about: &About, found: &mut Vec<Finding>) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if policy == DiskPolicy::Never || can_limit_disk(&about.storage_driver, &about.data_root, &mounts) {
        return;
    }
    let driver = &about.storage_driver;
    let text =
        format!("container.limit_disk asks for disk limits, which {driver} at {} has not", about.data_root.display());
    let advice =
        "put the engine's data root on xfs mounted with pquota, or use btrfs or zfs; or set container.limit_disk";
    found.push(match policy {
        DiskPolicy::Always => Finding::problem(ABOUT, format!("{text}: tasks with a disk fail"), advice),
        DiskPolicy::Never | DiskPolicy::WherePossible => Finding::warning(ABOUT, text, advice),
    });
}

fn can_limit_disk(driver: &str, data_root: &Path, mounts: &str) -> bool {
    if matches!(driver, "btrfs" | "zfs" | "devicemapper") {
        return true;
    }
    // The others need the file system's quotas. A line is `SOURCE POINT TYPE OPTIONS ...`; of several the longest path counts.
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?, words.next()?))
    });
    let on = mounts.filter(|(point, ..)| data_root.starts_with(point)).max_by_key(|(point, ..)| point.len());
    on.is_some_and(|(_, kind, options)| kind == "xfs" && options.split(',').any(|o| o == "prjquota" || o == "pquota"))
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Verdict;
    use super::*;

    #[test]
    fn only_some_storage_drivers_limit_disks() {
        let mounts = "/dev/a / ext4 rw 0 0\n/dev/b /data xfs rw,attr2,prjquota 0 0\n/dev/c /data/plain xfs rw 0 0\n";
        for (driver, root, expected) in [
            ("btrfs", "/", true),
            ("overlay2", "/var/lib/docker", false),
            ("overlay2", "/data/docker", true),
            ("overlay2", "/data/plain/docker", false),
            ("vfs", "/data", true),
        ] {
            assert_eq!(can_limit_disk(driver, Path::new(root), mounts), expected, "{driver} {root}");
        }
    }

    #[test]
    fn a_limit_that_cannot_be_had_is_told_as_badly_as_it_is_wanted() {
        let about = About { storage_driver: "overlay2".into(), data_root: "/no/such".into(), ..About::default() };
        let verdicts = [DiskPolicy::Never, DiskPolicy::WherePossible, DiskPolicy::Always].map(|policy| {
            let mut found = Vec::new();
            look_at_disk_limit(policy, &about, &mut found);
            found.first().map(|finding| finding.verdict)
        });
        assert_eq!(verdicts, [None, Some(Verdict::Warning), Some(Verdict::Problem)]);
    }
}
