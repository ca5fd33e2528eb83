//! The Mesos slaves that run on this host, as the kernel shows them: their flags, and the libmesos they have loaded.

use std::fs;
use std::path::{Path, PathBuf};

/// A process that is a Mesos slave (or agent).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Slave {
    pub(super) pid: u32,
    /// `--work_dir`; its default before 0.29 was /tmp/mesos.
    pub(super) work_directory: Option<PathBuf>,
    /// `--containerizer_path`, a text for a shell.
    pub(super) containerizer_path: Option<String>,
    /// Whether `--containerizers` or `--isolation` names external ones.
    pub(super) is_external: bool,
    /// Such as `1.0.4`.
    pub(super) version: Option<String>,
}

/// All that can be seen: of other users' processes, only root sees everything.
pub(super) fn find() -> Vec<Slave> {
    let mut slaves: Vec<Slave> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let of = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let mut slave = Slave::parse(pid, &of("cmdline"), &of("environ"))?;
            slave.version = library_version(&String::from_utf8_lossy(&of("maps")));
            Some(slave)
        })
        .collect();
    slaves.sort_by_key(|slave| slave.pid);
    slaves
}

impl Slave {
    /// From the contents of /proc/PID/cmdline and environ: zeros end words. A flag wins over its variable, as Mesos has it.
    fn parse(pid: u32, arguments: &[u8], environment: &[u8]) -> Option<Self> {
        let mut words = texts(arguments);
        let program = words.next()?;
        let name = Path::new(&program).file_name()?.to_str()?.trim_start_matches("lt-").to_owned();
        if !matches!(name.as_str(), "mesos-slave" | "mesos-agent") {
            return None;
        }
        let mut slave = Self { pid, ..Self::default() };
        let mut set = |flag: &str, value: &str| match flag {
            "work_dir" => slave.work_directory = Some(PathBuf::from(value)),
            "containerizer_path" => slave.containerizer_path = Some(value.to_owned()),
            "containerizers" | "isolation" => slave.is_external |= value.split(',').any(|kind| kind == "external"),
            _ => {}
        };
        for variable in texts(environment) {
            if let Some((name, value)) = variable.strip_prefix("MESOS_").and_then(|rest| rest.split_once('=')) {
                set(&name.to_ascii_lowercase(), value);
            }
        }
        for word in words {
            if let Some((flag, value)) = word.strip_prefix("--").and_then(|rest| rest.split_once('=')) {
                set(flag, value);
            }
        }
        Some(slave)
    }
}

fn texts(bytes: &[u8]) -> impl Iterator<Item = String> {
    bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
}

/// The library's file carries it: `libmesos-1.0.4.so`.
fn library_version(maps: &str) -> Option<String> {
    let rest = maps.split("/libmesos-").nth(1)?;
    let version = rest.split(".so").next()?;
    version.starts_with(|letter: char| letter.is_ascii_digit()).then(|| version.to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_slave_is_known_by_its_name_and_its_flags_win_over_its_environment() {
        let arguments = b"/usr/sbin/mesos-slave\0--master=m:5050\0--work_dir=/var/lib/mesos\0\
            --containerizer_path=/usr/local/bin/docker-containerizer\0";
        let environment = b"PATH=/bin\0MESOS_WORK_DIR=/elsewhere\0MESOS_CONTAINERIZERS=mesos,external\0";
        let slave = Slave::parse(7, arguments, environment).unwrap();
        assert_eq!(slave.work_directory.as_deref(), Some(Path::new("/var/lib/mesos")));
        assert_eq!(slave.containerizer_path.as_deref(), Some("/usr/local/bin/docker-containerizer"));
        assert!(slave.is_external && slave.pid == 7);
        assert!(!Slave::parse(7, b"mesos-agent\0", b"").unwrap().is_external);
        for other in [&b""[..], b"mesos-master\0", b"vi\0mesos-slave\0", b"\0"] {
            assert_eq!(Slave::parse(7, other, b""), None);
        }
    }

    #[test]
    fn the_loaded_library_tells_the_version() {
        let maps = "7f00-7f01 r-xp 0 08:01 12 /usr/lib/libc.so.6\n7f02-7f03 r-xp 0 08:01 13 /usr/local/lib/libmesos-0.28.3.so\n";
        assert_eq!(library_version(maps).as_deref(), Some("0.28.3"));
        assert_eq!(library_version("/usr/lib/libmesos-x.so"), None);
        assert_eq!(library_version(""), None);
    }
}
