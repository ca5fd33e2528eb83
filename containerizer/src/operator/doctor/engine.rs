//! The engine: whether it answers, what it is, and whether it sees the same files as the slave.

use std::fs;
use std::os::unix::net::UnixStream;

use super::super::finding::Finding;
use crate::docker::{About, EngineError};

const ABOUT: &str = "engine";

pub(super) fn look(address: &str, about: &Result<About, EngineError>, found: &mut Vec<Finding>) {
    let about = match about {
        Ok(about) => about,
        Err(error) => {
            found.push(Finding::problem(ABOUT, error.to_string(), advice(error)));
            return;
        }
    };
    let text = format!("Docker {} at {address}, API {}", about.server_version, about.api_version);
    if is_older(&about.api_version, MIN_API) {
        found.push(Finding::problem(
            ABOUT,
            format!("{text}: older than API {}.{}", MIN_API.0, MIN_API.1),
            "install Docker 20.10 or later",
        ));
    } else {
        found.push(Finding::ok(ABOUT, text));
    }
    if address.starts_with("tcp://") || address.starts_with("http://") {
        found.push(Finding::warning(
            ABOUT,
            "it is reached over the network without encryption; whoever reaches that port is root on its host",
            "use the engine of this host by its socket: tasks' sandboxes must be on the engine's own host anyway",
        ));
    }
    if about.has_init {
        found.push(Finding::ok(ABOUT, "it has an init program, under which shell commands run"));
    } else {
        found.push(Finding::warning(
            ABOUT,
            "it has no init program: shells run as PID 1, ignore SIGTERM, and leave zombies",
            "install the package that has docker-init (tini)",
        ));
    }
    let live_restore = Finding::ok(
        ABOUT,
        if about.is_live_restore {
            "live-restore is on: tasks outlive its restart"
        } else {
            "live-restore is off: its restart ends every task"
        },
    );
    found.push(if about.is_live_restore {
        live_restore
    } else {
        live_restore
            .with_advice("\"live-restore\": true in /etc/docker/daemon.json lets tasks outlive a restart of dockerd")
    });
    for option in &about.security_options {
        look_at_option(option, found);
    }
}

fn look_at_option(option: &str, found: &mut Vec<Finding>) {
    if option.starts_with("name=rootless") {
        found.push(Finding::warning(
            ABOUT,
            "it runs without root: limits of cpus and memory, and host networking, may not work",
            "use an engine that root runs",
        ));
    } else if option.starts_with("name=userns") {
        found.push(Finding::warning(
            ABOUT,
            "it maps users (userns-remap): tasks may not be able to write to their sandboxes, which the slave's user owns",
            "give the task the parameter userns=host, or turn userns-remap off",
        ));
    }
}

/// A slave mounts nothing itself, but volumes may be mounted later; an engine in another mount namespace does not see them.
pub(super) fn look_at_its_mounts(address: &str, found: &mut Vec<Finding>) {
    let Some(pid) = server_pid(address) else { return };
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let (ours, its) = (namespace("self"), namespace(&pid.to_string()));
    if ours.is_some() && its.is_some() && ours != its {
        found.push(Finding::warning(
            ABOUT,
            format!("dockerd (pid {pid}) has a mount namespace of its own: what is mounted later, it may not see"),
            "remove MountFlags= and PrivateTmp= from docker.service, or mount before dockerd starts",
        ));
    } else if ours.is_some() && its.is_some() {
        found.push(Finding::ok(ABOUT, "dockerd sees the same mounts as this process"));
    }
}

/// Who listens at the socket, where that is dockerd itself and not who started it.
fn server_pid(address: &str) -> Option<i32> {
    let stream = UnixStream::connect(address.strip_prefix("unix://")?).ok()?;
    let pid = rustix::net::sockopt::socket_peercred(&stream).ok()?.pid.as_raw_nonzero().get();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim() == "dockerd").then_some(pid)
}

fn advice(error: &EngineError) -> String {
    match error {
        EngineError::Host { .. } => "correct DOCKER_HOST in the slave's environment".to_owned(),
        EngineError::Permission { .. } => "start the slave as root, or add its user to the group docker".to_owned(),
        EngineError::Timeout { .. } => {
            "look into dockerd's log (journalctl -u docker) and restart it; running verbs do not hang meanwhile"
                .to_owned()
        }
        _ => "start dockerd (systemctl start docker), or set DOCKER_HOST to where it listens".to_owned(),
    }
}

fn is_older(version: &str, than: (u32, u32)) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < than
}

/// Docker 20.10.
const MIN_API: (u32, u32) = (1, 41);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::super::finding::Verdict;
    use super::*;

    fn look_at(about: Result<About, EngineError>) -> Vec<Finding> {
        let mut found = Vec::new();
        look("unix:///run/x.sock", &about, &mut found);
        found
    }

    #[test]
    fn an_engine_that_does_not_answer_is_one_problem_with_its_way_out() {
        let host = || "unix:///run/x.sock".to_owned();
        let errors = [
            (EngineError::Unreachable { host: host(), reason: "nobody listens there".into() }, "start dockerd"),
            (EngineError::Permission { host: host() }, "group docker"),
            (EngineError::Host { host: "ssh://x".into() }, "DOCKER_HOST"),
            (
                EngineError::Timeout {
                    host: host(),
                    what: "say its version",
                    limit: std::time::Duration::from_secs(5),
                },
                "restart it",
            ),
        ];
        for (error, advice) in errors {
            let found = look_at(Err(error));
            assert_eq!((found.len(), found[0].verdict), (1, Verdict::Problem));
            assert!(found[0].advice.as_deref().unwrap().contains(advice), "{found:?}");
        }
    }

    #[test]
    fn what_an_engine_lacks_is_named() {
        let fine = About {
            server_version: "24.0.5".into(),
            api_version: "1.43".into(),
            has_init: true,
            is_live_restore: true,
            ..About::default()
        };
        assert!(
            look_at(Ok(fine.clone())).iter().all(|finding| finding.verdict == Verdict::Ok && finding.advice.is_none())
        );
        let old = look_at(Ok(About { api_version: "1.40".into(), ..fine.clone() }));
        assert!(old[0].verdict == Verdict::Problem && old[0].text.contains("older than API 1.41"), "{old:?}");
        let odd = look_at(Ok(About {
            has_init: false,
            security_options: vec!["name=seccomp,profile=default".into(), "name=rootless".into(), "name=userns".into()],
            ..fine
        }));
        assert_eq!(odd.iter().filter(|finding| finding.verdict == Verdict::Warning).count(), 3, "{odd:?}");
    }
}
