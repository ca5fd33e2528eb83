//! A custom executor in a container on a real agent: our executor has no part in it, the agent and the framework have.

use proto::mesos::container_info::{self, DockerInfo, docker_info};
use proto::mesos::{CommandInfo, ContainerInfo, ExecutorId, ExecutorInfo, TaskInfo, TaskState};

use crate::cluster::{Cluster, Master, eventually};
use crate::framework::{Framework, resources, task};
use crate::harness::IMAGE;

#[test]
fn a_custom_executor_in_a_container_speaks_to_the_agent_over_http() {
    let cluster = Cluster::start(Master::Mesos("1.11.0"), &[]);
    let mut framework = Framework::subscribe(cluster.address());
    let docker = DockerInfo {
        image: IMAGE.to_owned(),
        network: Some(docker_info::Network::Host as i32),
        ..DockerInfo::default()
    };
    let executor = framework.executor(ExecutorInfo {
        executor_id: ExecutorId { value: "custom".to_owned() },
        command: Some(CommandInfo { value: Some(include_str!("executor.sh").to_owned()), ..CommandInfo::default() }),
        container: Some(Box::new(ContainerInfo {
            r#type: container_info::Type::Docker as i32,
            docker: Some(docker),
            ..ContainerInfo::default()
        })),
        resources: resources(0.1, 32.0),
        ..ExecutorInfo::default()
    });
    let offer = framework.offer();
    let task = TaskInfo { executor: Some(executor.into()), ..task("of-custom") };
    let statuses = framework.run_and(offer, task, |_, status| {
        if status.state() == TaskState::TaskRunning {
            // The last that an agent does before it only waits for the end: it notes the container's process.
            eventually(|| cluster.files_named("forked.pid").first().map(|_| ()).ok_or("it is not set up".to_owned()))
                .unwrap();
            std::fs::write(cluster.sandbox().join("go"), "").unwrap();
        }
    });
    let states: Vec<TaskState> = statuses.iter().map(|status| status.state()).collect();
    assert_eq!(states, [TaskState::TaskRunning, TaskState::TaskFinished], "{statuses:?}");
    assert!(statuses.iter().all(|status| status.message() == "custom"), "{statuses:?}");
    assert_eq!(cluster.sandbox_stdout(), "custom executor runs of-custom\n");
    framework.teardown();
}
