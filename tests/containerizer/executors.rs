//! Custom executors, which run inside of their containers: from `launch` to what `wait` says of their end.

use proto::mesos::container_info::docker_info::Network;
use proto::mesos::{self, Parameter, TaskState, Volume, volume};

use crate::slave::{Container, Slave};

fn docker_of(launch: &mut proto::ecp::Launch) -> &mut mesos::container_info::DockerInfo {
    launch.executor_info.as_mut().unwrap().container.as_mut().unwrap().docker.as_mut().unwrap()
}

fn run(container: &Container<'_>, script: &str) -> proto::ecp::Termination {
    container.launch(&container.custom_executor(script));
    container.wait()
}

#[test]
fn output_and_end_of_a_custom_executor_arrive() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let end = run(&container, "printf 'a\\000b'; printf e >&2; exit 3");
    assert_eq!(container.stdout(), b"a\0b");
    assert_eq!(container.stderr(), b"e");
    assert_eq!((end.killed, end.status, end.state), (false, Some(3 << 8), Some(TaskState::TaskFailed as i32)));
    assert_eq!(end.message(), "Container exited with status 3");
}

#[test]
fn a_death_by_signal_has_the_form_of_wait() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let end = run(&container, "kill -9 $$");
    assert_eq!((end.status, end.message()), (Some(9), "Container exited with status 137"));
}

#[test]
fn an_executor_finds_its_sandbox_and_the_slaves_words_and_nothing_else_of_the_slave() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let end = run(&container, "pwd; echo x > made; env | sort; tr '\\0' '\\n' < /proc/1/environ > /dev/null");
    assert_eq!(end.status, Some(0));
    let stdout = String::from_utf8(container.stdout()).unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "/mnt/mesos/sandbox");
    for expected in [
        "LIBPROCESS_PORT=0",
        "LIBPROCESS_IP=127.0.0.1",
        &format!("MESOS_CONTAINER_NAME={}", container.name()),
        "MESOS_DIRECTORY=/mnt/mesos/sandbox",
        &format!("MESOS_EXECUTOR_ID={}", container.id),
        "MESOS_SANDBOX=/mnt/mesos/sandbox",
        "MESOS_SLAVE_PID=slave(1)@127.0.0.1:5051",
    ] {
        assert!(lines.contains(&expected), "{expected} is missing in {stdout}");
    }
    assert!(!stdout.contains("canary") && !stdout.contains("MESOS_WORK_DIRECTORY"), "{stdout}");
    assert_eq!(std::fs::read(container.sandbox.join("made")).unwrap(), b"x\n");
}

#[test]
fn a_sandbox_may_have_colons_and_blanks_in_its_path() {
    let slave = Slave::in_directory("a:b c,d");
    let container = slave.container("c1");
    let end = run(&container, "echo in > /mnt/mesos/sandbox/file; echo out");
    assert_eq!(end.status, Some(0), "{end:?}");
    assert_eq!(container.stdout(), b"out\n");
    assert_eq!(std::fs::read(container.sandbox.join("file")).unwrap(), b"in\n");
}

#[test]
fn volumes_are_mounted_with_their_modes_and_made_where_they_are_missing() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let missing = slave.stage.files().join("not/yet/there");
    let mut launch = container.custom_executor(
        "echo w > /rw/file && ! touch /ro/file 2>/dev/null && ls -d /mnt/mesos/sandbox/under/etc && touch /in/here",
    );
    let volume = |host: &str, inside: &str, mode: volume::Mode| Volume {
        host_path: Some(host.to_owned()),
        container_path: inside.to_owned(),
        mode: mode as i32,
        ..Volume::default()
    };
    launch.executor_info.as_mut().unwrap().container.as_mut().unwrap().volumes = vec![
        volume(missing.to_str().unwrap(), "/rw", volume::Mode::Rw),
        volume(slave.stage.files().to_str().unwrap(), "/ro", volume::Mode::Ro),
        volume("/etc", "under/etc", volume::Mode::Ro),
        volume("own", "/in", volume::Mode::Rw),
    ];
    container.launch(&launch);
    let end = container.wait();
    assert_eq!(end.status, Some(0), "{end:?} {:?}", String::from_utf8_lossy(&container.stderr()));
    assert_eq!(std::fs::read(missing.join("file")).unwrap(), b"w\n");
    assert!(container.sandbox.join("own/here").exists());
}

#[test]
fn parameters_reach_the_container() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let mut launch = container.custom_executor("ulimit -n; id -u; pwd; cat /proc/sys/kernel/hostname; echo $A");
    let docker = docker_of(&mut launch);
    docker.network = Some(Network::None as i32);
    docker.parameters =
        [("ulimit", "nofile=77:88"), ("user", "12:34"), ("workdir", "/tmp"), ("hostname", "box"), ("env", "A=b=c")]
            .map(|(key, value)| Parameter { key: key.to_owned(), value: value.to_owned() })
            .to_vec();
    container.launch(&launch);
    assert_eq!(container.wait().status, Some(0));
    assert_eq!(String::from_utf8(container.stdout()).unwrap(), "77\n12\n/tmp\nbox\nb=c\n");
}

#[test]
fn what_cannot_become_a_container_is_told_by_wait() {
    let slave = Slave::new();
    for (id, change, reason) in [
        (
            "image",
            (|docker| docker.image = "launch-container/no-such:1".into()) as fn(&mut mesos::container_info::DockerInfo),
            "launch-container/no-such:1",
        ),
        (
            "parameter",
            |docker| docker.parameters = vec![Parameter { key: "no-such".into(), value: String::new() }],
            "\"no-such\" is not known",
        ),
        (
            "entrypoint",
            |docker| {
                docker.parameters = vec![
                    Parameter { key: "entrypoint".into(), value: "/no/such".into() },
                    Parameter { key: "init".into(), value: "false".into() },
                ]
            },
            "/no/such",
        ),
    ] {
        let container = slave.container(id);
        let mut launch = container.custom_executor("true");
        change(docker_of(&mut launch));
        container.launch(&launch);
        let end = container.wait();
        assert!(end.killed && end.state == Some(TaskState::TaskFailed as i32), "{end:?}");
        assert!(
            end.message().starts_with("cannot start the container on ") && end.message().contains(reason),
            "{end:?}"
        );
        assert!(!end.message().contains('\n'), "{end:?}");
    }
}

#[test]
fn an_engine_that_is_not_there_is_told_by_wait() {
    let mut slave = Slave::new();
    slave.set("DOCKER_HOST", "unix:///no/such/engine.sock");
    let container = slave.container("c1");
    let end = run(&container, "true");
    assert!(end.message().contains("cannot reach the Docker engine at unix:///no/such/engine.sock"), "{end:?}");
    assert!(end.message().contains("is dockerd running?"), "{end:?}");
}

#[test]
fn memory_beyond_the_limit_is_the_named_cause_of_death() {
    let slave = Slave::new();
    let container = slave.container("c1");
    // No swap, else the engine allows as much again.
    let mut launch = container.custom_executor("exec tail /dev/zero");
    docker_of(&mut launch).parameters = vec![Parameter { key: "memory-swap".into(), value: "64m".into() }];
    container.launch(&launch);
    let end = container.wait();
    assert!(end.killed, "{end:?}");
    assert!(end.message().starts_with("killed: memory limit 64 MB reached (peak 6"), "{end:?}");
    assert!(end.message().ends_with(" MB): Container exited with status 137"), "{end:?}");
}

#[test]
fn two_who_wait_hear_the_same() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let go = container.pipe("go");
    container.launch(&container.custom_executor("read x < /mnt/mesos/sandbox/go; exit 5"));
    let (first, second) = (container.start_wait(), container.start_wait());
    go.write("go");
    for wait in [first, second] {
        assert_eq!(wait.finish().answer::<proto::ecp::Termination>().status, Some(5 << 8));
    }
}

#[test]
fn a_wait_that_is_killed_takes_nothing_with_it() {
    let mut slave = Slave::new();
    // The shell is killed; what it had started lives until it has seen the end, too.
    slave.stage.settle_within(std::time::Duration::from_secs(10));
    let container = slave.container("c1");
    let (started, go) = (container.pipe("started"), container.pipe("go"));
    container.launch(&container.custom_executor("echo > started; read x < go; exit 6"));
    started.read();
    let mut wait = container.start_wait();
    wait.kill();
    go.write("go");
    assert_eq!(container.wait().status, Some(6 << 8));
}

#[test]
fn only_a_third_of_the_slaves_threads_are_kept_waiting() {
    let mut slave = Slave::new();
    slave.set("LIBPROCESS_NUM_WORKER_THREADS", "3");
    let (first, second) = (slave.container("c1"), slave.container("c2"));
    let pipes = [&first, &second].map(|container| {
        let pipe = container.pipe("go");
        container.launch(&container.custom_executor("read x < go; exit 7"));
        pipe
    });
    let waits_first = first.start_wait();
    slave.wait_for_slot();
    // The only slot is taken: the second answer comes while its container runs.
    let mut waits_second = second.start_wait();
    let answer: proto::ecp::Termination = waits_second.read_answer();
    assert_eq!((answer.killed, answer.message(), answer.state), (false, "", None));
    assert!(!waits_second.has_ended());
    for pipe in pipes {
        pipe.write("go");
    }
    assert_eq!(waits_first.finish().answer::<proto::ecp::Termination>().status, Some(7 << 8));
    assert_eq!(waits_second.finish().code, Some(0));
}

/// A slave 0.19.0 lets its verbs inherit the pipes of others, and waits for their end.
#[test]
fn a_supervisor_keeps_nothing_open_that_it_inherited() {
    let mut slave = Slave::new();
    let pipe = slave.container("elsewhere").pipe("leaked");
    slave.leak(pipe.path());
    let container = slave.container("c1");
    let reader = std::thread::spawn(move || pipe.read());
    let go = container.pipe("go");
    container.launch(&container.custom_executor("read x < go"));
    // The container waits, and nobody has the pipe open any more.
    assert_eq!(reader.join().unwrap(), "");
    go.write("go");
    assert_eq!(container.wait().status, Some(0));
}
