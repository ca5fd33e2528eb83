//! What a real slave 1.0.4 wrote, through the real binary: only what belongs to that machine is another one here, which is the
//! sandbox, the container's id and the image.

use prost::{Message, Name};
use proto::ecp::{Launch, Update, Usage, Wait};
use proto::framing;
use proto::mesos::{TaskState, value, volume};

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
    let of_task = launch.task_info.as_mut().and_then(|task| task.container.as_mut());
    let of_executor = launch.executor_info.as_mut().and_then(|executor| executor.container.as_mut());
    for docker in [of_task, of_executor].into_iter().flatten().filter_map(|container| container.docker.as_mut()) {
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

#[test]
fn a_recorded_task_with_everything_gets_everything() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let mut message = launch(&container, "launch-full");
    let go = container.pipe("go");
    let data = slave.stage.files().join("data");
    let ports = free_ports();
    let task = message.task_info.as_mut().unwrap();
    let info = task.container.as_mut().unwrap();
    let docker = info.docker.as_mut().unwrap();
    // Machines that are containers themselves do not let it be.
    assert_eq!(docker.privileged.take(), Some(true));
    for (mapping, port) in docker.port_mappings.iter_mut().zip(ports) {
        mapping.host_port = port.into();
    }
    let offered = task.resources.iter_mut().find_map(|resource| resource.ranges.as_mut()).unwrap();
    offered.range = ports.map(|port| value::Range { begin: port.into(), end: port.into() }).to_vec();
    info.volumes[0].host_path = Some(data.to_str().unwrap().to_owned());
    assert_eq!(info.volumes[1].mode(), volume::Mode::Ro);
    let command = task.command.as_mut().unwrap();
    let more = "hostname; ulimit -n; touch /data/made; touch /conf/no 2>/dev/null || echo 'read only'; cmp /conf/hostname hostname; \
                test -x true && echo executable; read x < go";
    command.value = command.value.take().map(|id| format!("{id} -u; cd $MESOS_SANDBOX; {more}"));
    let agent = Agent::new(&message);
    container.launch_with(&message, &agent.variables());
    assert_eq!(agent.status().state(), TaskState::TaskStarting);
    let running = agent.status();
    assert_eq!(running.state(), TaskState::TaskRunning, "{running:?}");

    let found = slave.stage.engine().inspect(&container.name());
    assert_eq!(found["Config"]["Labels"]["team"], "a");
    let bindings = &found["HostConfig"]["PortBindings"];
    for (inside, port) in ["80/tcp", "53/udp"].into_iter().zip(ports) {
        assert_eq!(bindings[inside][0]["HostPort"], port.to_string(), "{bindings}");
    }
    go.write("go");
    let (_, last) = agent.states();
    assert_eq!(last.state(), TaskState::TaskFinished, "{last:?}");
    container.wait();
    let stdout = String::from_utf8(container.stdout()).unwrap();
    assert_eq!(stdout, "0\nbox\n1024\nread only\nexecutable\n", "{:?}", String::from_utf8_lossy(&container.stderr()));
    assert!(data.join("made").exists());
}

fn free_ports() -> [u16; 2] {
    // Both are held at once, so that they differ.
    let listeners = [(), ()].map(|()| std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap());
    listeners.each_ref().map(|listener| listener.local_addr().unwrap().port())
}

#[test]
fn a_recorded_custom_executor_is_fetched_and_run() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let mut message = launch(&container, "launch-custom");
    let program = slave.stage.files().join("my-executor");
    std::fs::write(&program, "#!/bin/sh\necho \"$0 $* $X $MESOS_EXECUTOR_ID\"\nexit 4\n").unwrap();
    let command = message.executor_info.as_mut().unwrap().command.as_mut().unwrap();
    command.uris[0].value = format!("file://{}", program.display());
    container.launch(&message);
    let end = container.wait();
    assert_eq!((end.status, end.message()), (Some(4 << 8), "Container exited with status 4"));
    let expected = format!("./my-executor --flag 1 {}\n", container.id);
    assert_eq!(String::from_utf8(container.stdout()).unwrap(), expected, "{:?}", container.stderr());
}

#[test]
fn a_recorded_task_without_an_image_is_told_why_or_gets_the_slaves_default() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let message = launch(&container, "launch-noimage");
    let agent = Agent::new(&message);
    container.launch_with(&message, &agent.variables());
    let (states, last) = agent.states();
    assert_eq!(last.state(), TaskState::TaskFailed, "{states:?}");
    assert!(last.message().contains("name an image in the task"), "{last:?}");
    container.wait();

    let mut slave = Slave::new();
    slave.set("MESOS_DEFAULT_CONTAINER_IMAGE", IMAGE);
    let container = slave.container("t1");
    let message = launch(&container, "launch-noimage");
    let agent = Agent::new(&message);
    container.launch_with(&message, &agent.variables());
    assert_eq!(agent.states().1.state(), TaskState::TaskFinished);
    container.wait();
}
