//! What a real agent says to its executor on the command line, seen from inside of the container and by how it ends.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use proto::mesos::container_info::{self, DockerInfo, docker_info};
use proto::mesos::environment::Variable;
use proto::mesos::{CommandInfo, ContainerInfo, Environment, TaskInfo, TaskState};

use crate::cluster::{Cluster, Master, eventually};
use crate::framework::{Framework, task};
use crate::harness::IMAGE;

const STOP_TIMEOUT: Duration = Duration::from_secs(2);

#[test]
fn the_executor_keeps_to_its_agents_flags() {
    for version in ["1.8.1", "1.11.0"] {
        // Of the grace that the agent gives an executor and the time in which it stops a container, the longer one counts.
        let flags = ["docker_stop_timeout=2secs", "executor_shutdown_grace_period=1ms", "sandbox_directory=/mnt/box"];
        let cluster = Cluster::start(Master::Mesos(version), &flags);
        add_variables_of_a_hook(&cluster);
        let mut framework = Framework::subscribe(cluster.address());
        let script = "trap 'echo no' TERM; echo $OF_HOOK $OF_BOTH $MESOS_SANDBOX; touch /mnt/box/made; echo up; \
                      while :; do sleep 0.1; done";
        let variable = Variable { name: "OF_BOTH".to_owned(), value: Some("task".to_owned()), ..Variable::default() };
        let docker = DockerInfo {
            image: IMAGE.to_owned(),
            network: Some(docker_info::Network::Host as i32),
            ..DockerInfo::default()
        };
        let task = TaskInfo {
            command: Some(CommandInfo {
                value: Some(script.to_owned()),
                environment: Some(Environment { variables: vec![variable] }),
                ..CommandInfo::default()
            }),
            container: Some(Box::new(ContainerInfo {
                r#type: container_info::Type::Docker as i32,
                docker: Some(docker),
                ..ContainerInfo::default()
            })),
            ..task("flags")
        };
        let mut killed = None;
        let offer = framework.offer();
        let statuses = framework.run_and(offer, task, |framework, status| {
            if status.state() == TaskState::TaskRunning && killed.is_none() {
                let is_up = || match cluster.sandbox_stdout() {
                    said if said.ends_with("up\n") => Ok(()),
                    said => Err(said),
                };
                eventually(is_up).unwrap();
                killed = Some(Instant::now());
                framework.kill(&status.task_id);
            }
        });
        let took = killed.expect("it ran").elapsed();
        let last = statuses.last().unwrap();
        assert_eq!(last.state(), TaskState::TaskKilled, "on {version}: {statuses:?}");
        assert!(took >= STOP_TIMEOUT, "on {version} it was killed after {took:?}");
        assert_eq!(cluster.sandbox_stdout(), "hook hook /mnt/box\nup\nno\n", "on {version}");
        assert!(cluster.sandbox().join("made").exists(), "on {version}");
        framework.teardown();
    }
}

/// Such come from modules of an agent; this one has none, so they are added on the way to the executor.
fn add_variables_of_a_hook(cluster: &Cluster) {
    let executor = cluster.root().join("mesos/libexec/mesos-docker-executor");
    let script = format!(
        "#!/bin/bash\nexec -a mesos-docker-executor '{}' \"$@\" '--task_environment={}'\n",
        env!("CARGO_BIN_EXE_launch-container"),
        r#"{"OF_HOOK":"hook","OF_BOTH":"hook"}"#
    );
    // It is a link to the binary itself.
    std::fs::remove_file(&executor).unwrap();
    std::fs::write(&executor, script).unwrap();
    std::fs::set_permissions(&executor, std::fs::Permissions::from_mode(0o755)).unwrap();
}
