//! What a real slave 1.0.4 wrote, through the real binary: only what belongs to that machine is another one here, which is the
//! sandbox, the container's id and the image.

use prost::{Message, Name};
use proto::ecp::{Launch, Update, Usage, Wait};
use proto::framing;
use proto::mesos::TaskState;

use crate::agent::Agent;
use crate::harness::IMAGE;
use crate::slave::{Container, Slave};

fn recorded<M: Message + Name + Default>(name: &str) -> M {
    let path = format!("{}/tests/fixtures/mesos-1.0.4/ecp/{name}.bin", env!("CARGO_MANIFEST_DIR"));
    framing::read(&mut std::fs::read(path).unwrap().as_slice()).unwrap()
}

fn launch(container: &Container<'_>, name: &str) -> Launch {
    let mut launch: Launch = recorded(name);
    launch.container_id = container.container_id();
    launch.directory = Some(container.sandbox.to_str().unwrap().to_owned());
    let task = launch.task_info.as_mut().unwrap();
    if let Some(docker) = task.container.as_mut().and_then(|container| container.docker.as_mut()) {
        docker.image = IMAGE.to_owned();
        docker.force_pull_image = None;
    }
    launch
}

#[test]
fn the_recorded_messages_of_a_task_are_obeyed_from_launch_to_wait() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let mut message = launch(&container, "launch-plain");
    let go = container.pipe("go");
    let command = message.task_info.as_mut().unwrap().command.as_mut().unwrap();
    // As long as the test needs it.
    command.value = command.value.take().map(|value| value.replace("sleep 1", "read x < /mnt/mesos/sandbox/go"));
    let agent = Agent::new(&message);
    container.launch_with(&message, &agent.variables());
    assert_eq!([agent.status().state(), agent.status().state()], [TaskState::TaskStarting, TaskState::TaskRunning]);

    let update = Update { container_id: container.container_id(), ..recorded("update") };
    let ran = container.start("update", &update).finish();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let mut usage: Usage = recorded("usage");
    usage.container_id = container.container_id();
    let ran = container.start("usage", &usage).finish();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));

    go.write("go");
    let (_, last) = agent.states();
    assert_eq!((last.state(), last.message()), (TaskState::TaskFailed, "Container exited with status 3"));
    let mut wait: Wait = recorded("wait");
    wait.container_id = container.container_id();
    let ran = container.start("wait", &wait).finish();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!((container.stdout(), container.stderr()), (b"before\nafter\n".to_vec(), Vec::new()));
}

#[test]
fn a_recorded_argument_vector_and_an_entrypoint_reach_the_program() {
    for (name, stdout) in [("launch-argv", "/bin/echo a b $HOME café\n"), ("launch-entrypoint", "")] {
        let slave = Slave::new();
        let container = slave.container("t1");
        let message = launch(&container, name);
        let agent = Agent::new(&message);
        container.launch_with(&message, &agent.variables());
        let (states, last) = agent.states();
        assert!(states.contains(&TaskState::TaskRunning) && last.state() == TaskState::TaskFinished, "{last:?}");
        container.wait();
        assert_eq!(String::from_utf8(container.stdout()).unwrap(), stdout, "{name}");
    }
}
