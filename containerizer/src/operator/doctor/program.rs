//! This executable, and the slaves that shall start it: a wrong path shows in Mesos as status 127 and nothing else.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::finding::Finding;
use super::super::slave::Slave;

const ABOUT: &str = "program";
const SLAVE: &str = "slave";
const NAME: &str = "docker-containerizer";

pub(super) fn look(found: &mut Vec<Finding>) {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            found.push(Finding::problem(
                ABOUT,
                format!("where this executable lies cannot be read: {error}"),
                "mount /proc: supervisors are started through it",
            ));
            return;
        }
    };
    found.push(program_finding(&program));
}

fn program_finding(program: &Path) -> Finding {
    let shown = program.display();
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("{shown}, version {version}");
    if shown.to_string().ends_with(" (deleted)") {
        return Finding::warning(ABOUT, format!("{text}: replaced while it runs"), "run doctor again");
    }
    let Ok(metadata) = fs::metadata(program) else {
        return Finding::warning(
            ABOUT,
            format!("{text}: it cannot be looked at"),
            "check the permissions of its directory",
        );
    };
    if metadata.mode() & 0o002 != 0 {
        return Finding::warning(
            ABOUT,
            format!("{text}: everybody may change it, and the slave runs it as its own user"),
            format!("chmod o-w {shown}"),
        );
    }
    let beside = program.with_file_name(NAME);
    let name = program.file_name().is_some_and(|name| name == NAME);
    let finding = Finding::ok(ABOUT, text);
    if name || is_same_file(&beside, program) {
        return finding;
    }
    finding.with_advice(format!(
        "under the name {NAME} it needs no further word in --containerizer_path: ln -s {shown} {}",
        beside.display()
    ))
}

pub(super) fn look_at_slaves(slaves: &[Slave], found: &mut Vec<Finding>) {
    if slaves.is_empty() {
        found.push(Finding::ok(SLAVE, "no mesos-slave can be seen on this host now").with_advice(format!(
            "start it with --containerizers=external --containerizer_path=/path/to/{NAME} (0.19: --isolation=external)"
        )));
    }
    for slave in slaves {
        look_at_slave(slave, found);
    }
}

fn look_at_slave(slave: &Slave, found: &mut Vec<Finding>) {
    let version = slave.version.as_deref().unwrap_or("of unknown version");
    let text = format!("Mesos {version}, pid {}", slave.pid);
    if slave.version.as_deref().is_some_and(has_no_external_containerizers) {
        found.push(Finding::warning(
            SLAVE,
            format!("{text}: external containerizers ended with Mesos 1.0"),
            "use --containerizers=docker, and this executable as mesos-docker-executor in --launcher_dir",
        ));
        return;
    }
    if !slave.is_external {
        found.push(Finding::warning(
            SLAVE,
            format!("{text}: it does not use external containerizers"),
            "start it with --containerizers=external (0.19: --isolation=external)",
        ));
        return;
    }
    let Some(command) = &slave.containerizer_path else {
        found.push(Finding::problem(
            SLAVE,
            format!("{text}: it has no --containerizer_path, and ends at the first task"),
            format!("give it --containerizer_path=/path/to/{NAME}"),
        ));
        return;
    };
    found.push(containerizer_finding(&text, command, std::env::current_exe().ok().as_deref()));
}

/// The slave hands the path to a shell as it is: a blank ends it.
fn containerizer_finding(slave: &str, command: &str, program: Option<&Path>) -> Finding {
    let mut words = command.split_whitespace();
    let path = PathBuf::from(words.next().unwrap_or_default());
    let has_more = words.next().is_some();
    let text = format!("{slave}, --containerizer_path={command}");
    if !path.is_file() {
        let why = if has_more && Path::new(command).exists() {
            "a shell splits the path at its blank"
        } else {
            "there is no such file"
        };
        return Finding::problem(
            SLAVE,
            format!("{text}: {why}, so every task fails with status 127"),
            "give the absolute path of this executable, without blanks, and restart the slave",
        );
    }
    if !fs::metadata(&path).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0) {
        return Finding::problem(
            SLAVE,
            format!("{text}: it is not executable"),
            format!("chmod a+x {}", path.display()),
        );
    }
    match program {
        Some(program) if !is_same_file(&path, program) => Finding::warning(
            SLAVE,
            format!("{text}: that is another executable than this one"),
            format!("ask that one: {} doctor", path.display()),
        ),
        _ if path.file_name().is_some_and(|name| name != NAME) && !has_more => Finding::problem(
            SLAVE,
            format!("{text}: under this name it is not a containerizer"),
            format!("give --containerizer_path=\"{} {NAME}\", or make a link named {NAME}", path.display()),
        ),
        _ => Finding::ok(SLAVE, text),
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    id(one).is_some() && id(one) == id(other)
}

fn has_no_external_containerizers(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (major, minor) >= (1, 1)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_path_that_a_slave_cannot_start_is_a_problem() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join(NAME);
        fs::write(&plain, "").unwrap();
        let of = |command: &str| containerizer_finding("s", command, None);
        let missing = of("/no/such/file");
        assert!(missing.verdict == Verdict::Problem && missing.text.contains("status 127"), "{missing:?}");
        let plain = plain.to_str().unwrap();
        assert!(of(plain).text.contains("not executable"));
        fs::set_permissions(plain, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(of(plain).verdict, Verdict::Ok);
        let blank = directory.path().join("a b");
        fs::copy(plain, &blank).unwrap();
        assert!(of(blank.to_str().unwrap()).text.contains("a shell splits the path"));
        let renamed = directory.path().join("launch-container");
        fs::copy(plain, &renamed).unwrap();
        let renamed = renamed.to_str().unwrap();
        assert_eq!(of(renamed).verdict, Verdict::Problem);
        assert_eq!(of(&format!("{renamed} {NAME}")).verdict, Verdict::Ok);
        assert_eq!(containerizer_finding("s", plain, Some(Path::new(renamed))).verdict, Verdict::Warning);
    }

    #[test]
    fn a_slave_is_told_what_it_lacks() {
        let of = |slave: Slave| {
            let mut found = Vec::new();
            look_at_slave(&slave, &mut found);
            found.remove(0)
        };
        let slave = Slave { pid: 1, version: Some("1.0.4".into()), ..Slave::default() };
        assert!(of(slave.clone()).text.contains("does not use external containerizers"));
        let external = Slave { is_external: true, ..slave };
        assert!(of(external.clone()).text.contains("no --containerizer_path"));
        assert!(
            of(Slave { version: Some("1.1.0".into()), ..external }).advice.unwrap().contains("mesos-docker-executor")
        );
    }

    #[test]
    fn a_program_that_others_may_change_is_warned_of() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("launch-container");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o757)).unwrap();
        assert_eq!(program_finding(&path).verdict, Verdict::Warning);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(program_finding(&path).advice.unwrap().contains("ln -s"));
        std::os::unix::fs::symlink(&path, directory.path().join(NAME)).unwrap();
        assert_eq!(program_finding(&path).advice, None);
    }
}
