//! Command tasks, whose executor the supervisor is: statuses to the agent, bytes to the sandbox.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use proto::ecp::{Launch, Termination};
use proto::mesos::container_info::docker_info::{Network, PortMapping};
use proto::mesos::{Resource, TaskState, value};
use proto::record::TaskRecord;
use sha2::{Digest, Sha256};

use crate::agent::Agent;
use crate::slave::{Container, Slave};

/// Launches a task, and gives its agent.
fn launch(container: &Container<'_>, message: &Launch) -> Agent {
    let agent = Agent::new(message);
    container.launch_with(message, &agent.variables());
    agent
}

fn finish(container: &Container<'_>) {
    let end = container.wait();
    assert_eq!((end.killed, end.message(), end.status), (false, "", Some(0)));
}

/// Connects until somebody inside answers: the engine's own end of a mapped port listens before that.
fn read_from(port: u16) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut bytes = Vec::new();
        let connected = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| stream.read_to_end(&mut bytes));
        if !bytes.is_empty() {
            return bytes;
        }
        assert!(Instant::now() < deadline, "nobody answers at port {port}: {connected:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_task_is_reported_from_start_to_end() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let agent = launch(&container, &container.task("echo out; echo err >&2; exit 3"));
    let (states, last) = agent.states();
    assert_eq!(states, [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFailed]);
    assert_eq!(last.message(), "Container exited with status 3");
    let record = TaskRecord::parse(last.data()).unwrap();
    assert_eq!((record.exit_code, record.stdout_bytes, record.stderr_bytes), (Some(3), Some(4), Some(4)));
    assert!(record.image_id.is_some() && record.container.is_some());
    finish(&container);
    assert_eq!((container.stdout(), container.stderr()), (b"out\n".to_vec(), b"err\n".to_vec()));
}

#[test]
fn wait_answers_at_once_and_ends_with_the_container() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let go = container.pipe("go");
    let agent = launch(&container, &container.task("read x < /mnt/mesos/sandbox/go"));
    assert_eq!([agent.status().state(), agent.status().state()], [TaskState::TaskStarting, TaskState::TaskRunning]);
    let mut wait = container.start_wait();
    let answer: Termination = wait.read_answer();
    assert_eq!((answer.killed, answer.message(), answer.status), (false, "", Some(0)));
    assert!(!wait.has_ended());
    go.write("go");
    assert_eq!(agent.status().state(), TaskState::TaskFinished);
    assert_eq!(wait.finish().code, Some(0));
}

#[test]
fn a_kill_gives_the_task_its_grace() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let started = container.pipe("started");
    let script = "trap 'echo last words; exit 9' TERM; echo > /mnt/mesos/sandbox/started; while :; do sleep 0.1; done";
    let agent = launch(&container, &container.task(script));
    started.read();
    agent.kill(Duration::from_secs(30));
    let (_, last) = agent.states();
    assert_eq!((last.state(), last.message()), (TaskState::TaskKilled, "Container exited with status 9"));
    finish(&container);
    assert_eq!(container.stdout(), b"last words\n");
}

#[test]
fn a_task_that_ignores_sigterm_is_killed_after_its_grace() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let started = container.pipe("started");
    let script = "trap '' TERM; echo > /mnt/mesos/sandbox/started; while :; do sleep 0.1; done";
    let agent = launch(&container, &container.task(script));
    started.read();
    agent.kill(Duration::from_millis(300));
    let (_, last) = agent.states();
    assert_eq!((last.state(), last.message()), (TaskState::TaskKilled, "Container exited with status 137"));
    finish(&container);
}

#[test]
fn a_shell_ends_at_sigterm() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let started = container.pipe("started");
    let agent = launch(&container, &container.task("echo > /mnt/mesos/sandbox/started; sleep 1000; true"));
    started.read();
    agent.kill(Duration::from_secs(60));
    assert_eq!(agent.states().1.message(), "Container exited with status 143");
    finish(&container);
}

#[test]
fn what_is_wrong_with_a_task_is_its_failures_message() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let mut message = container.task("true");
    let docker = message.task_info.as_mut().unwrap().container.as_mut().unwrap().docker.as_mut().unwrap();
    docker.network = Some(Network::Bridge as i32);
    docker.port_mappings = vec![PortMapping { host_port: 31007, container_port: 80, protocol: None }];
    let (_, last) = launch(&container, &message).states();
    assert_eq!(last.state(), TaskState::TaskFailed);
    assert!(last.message().contains("host port 31007 is not among the task's ports resources []"), "{last:?}");
    finish(&container);
}

#[test]
fn a_mapped_port_leads_into_the_container() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let port = crate::harness::closed_port().rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let mut message = container.task("nc -l -p 80 -e echo hello; sleep 1000");
    let task = message.task_info.as_mut().unwrap();
    task.resources.push(Resource {
        name: "ports".to_owned(),
        r#type: value::Type::Ranges as i32,
        ranges: Some(value::Ranges { range: vec![value::Range { begin: port.into(), end: port.into() }] }),
        ..Resource::default()
    });
    let docker = task.container.as_mut().unwrap().docker.as_mut().unwrap();
    docker.network = Some(Network::Bridge as i32);
    docker.port_mappings = vec![PortMapping { host_port: port.into(), container_port: 80, protocol: None }];
    let agent = launch(&container, &message);
    agent.status();
    let running = agent.status();
    assert!(running.container_status.unwrap().network_infos[0].ip_addresses[0].ip_address().starts_with("172."));
    assert_eq!(read_from(port), b"hello\n");
    agent.kill(Duration::ZERO);
    agent.states();
    finish(&container);
}

#[test]
fn a_hundred_megabytes_on_both_streams_arrive_byte_for_byte() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let script = "cd /mnt/mesos/sandbox; head -c 104857600 /dev/urandom | tee a & head -c 104857600 /dev/urandom | tee b >&2; wait";
    let begin = std::time::Instant::now();
    let (states, last) = launch(&container, &container.task(script)).states();
    eprintln!("200 MB in {:?}", begin.elapsed());
    assert_eq!(states.last(), Some(&TaskState::TaskFinished), "{last:?}");
    finish(&container);
    let hash = |name: &str| Sha256::digest(crate::harness::read(&container.sandbox.join(name)));
    assert_eq!(crate::harness::read(&container.sandbox.join("a")).len(), 104_857_600);
    assert!(hash("a") == hash("stdout"), "stdout differs");
    assert!(hash("b") == hash("stderr"), "stderr differs");
}

#[test]
fn secrets_stand_in_no_command_line_and_no_log_and_nobody_else_may_read_them() {
    let mut slave = Slave::new();
    slave.set("LAUNCH_CONTAINER_LOG", "trace");
    let container = slave.container("t1");
    let started = container.pipe("started");
    let mut message = container.task("echo > /mnt/mesos/sandbox/started; sleep 1000");
    let variable = proto::mesos::environment::Variable {
        name: "SECRET".to_owned(),
        value: Some("first line\ncanary-of-the-task=x".to_owned()),
        ..Default::default()
    };
    message.task_info.as_mut().unwrap().command.as_mut().unwrap().environment =
        Some(proto::mesos::Environment { variables: vec![variable] });
    let agent = launch(&container, &message);
    started.read();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!line.windows(18).any(|window| window == b"canary-of-the-task"), "{}", String::from_utf8_lossy(&line));
    }
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
    };
    let directory = container.state();
    assert_eq!((mode(&directory), mode(&directory.join("launch"))), (0o700, 0o600));
    agent.kill(Duration::ZERO);
    agent.states();
    let log = std::fs::read_to_string(directory.join("log")).unwrap();
    assert!(log.contains("TRACE") || log.contains("INFO"), "{log}");
    assert!(!log.contains("canary"), "{log}");
    assert_eq!((container.stdout(), container.stderr()), (Vec::new(), Vec::new()));
    finish(&container);
}
