//! Health checks of real containers: in the container, in its network, and what becomes of a task that is not well.

use std::time::{Duration, Instant};

use proto::mesos::container_info::docker_info::Network;
use proto::mesos::health_check::{HttpCheckInfo, TcpCheckInfo};
use proto::mesos::task_status::Reason;
use proto::mesos::{CheckInfo, CommandInfo, HealthCheck, TaskState, TaskStatus, check_info};

use crate::agent::Agent;
use crate::slave::{Container, Slave, shell};

/// A check at once and then ten times a second, with nothing to look at yet.
fn quick() -> HealthCheck {
    HealthCheck {
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.1),
        timeout_seconds: Some(10.0),
        grace_period_seconds: Some(0.0),
        ..HealthCheck::default()
    }
}

fn launch(container: &Container<'_>, script: &str, network: Network, check: HealthCheck) -> Agent {
    let mut message = container.task(script);
    let task = message.task_info.as_mut().unwrap();
    task.health_check = Some(check.into());
    task.container.as_mut().unwrap().docker.as_mut().unwrap().network = Some(network as i32);
    let agent = Agent::new(&message);
    container.launch_with(&message, &agent.variables());
    agent
}

/// The next status with this health; failures before it are as many as they are.
fn wait_for_health(agent: &Agent, healthy: bool) -> TaskStatus {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let status = agent.status();
        assert!(Instant::now() < deadline, "its health stays another one: {status:?}");
        assert!(matches!(status.state(), TaskState::TaskStarting | TaskState::TaskRunning), "{status:?}");
        if status.healthy == Some(healthy) {
            assert_eq!(status.reason(), Reason::TaskHealthCheckStatusUpdated);
            return status;
        }
    }
}

fn end(container: &Container<'_>, agent: &Agent) {
    agent.kill(Duration::ZERO);
    assert_eq!(agent.states().1.state(), TaskState::TaskKilled);
    assert_eq!(container.wait().status, Some(0));
}

#[test]
fn a_command_in_the_container_says_whether_it_is_well() {
    let slave = Slave::new();
    let container = slave.container("t1");
    // Seen only from inside: the file, and the variables of the container and of the check.
    let command = CommandInfo {
        environment: Some(proto::mesos::Environment {
            variables: vec![proto::mesos::environment::Variable {
                name: "WELL".to_owned(),
                value: Some("/tmp/well".to_owned()),
                ..Default::default()
            }],
        }),
        ..shell("test -e $WELL && test -n \"$MESOS_SANDBOX\"")
    };
    let check = HealthCheck { command: Some(command), consecutive_failures: Some(1_000_000), ..quick() };
    let go = container.pipe("go");
    let script = "read x < /mnt/mesos/sandbox/go; touch /tmp/well; sleep 1000";
    let agent = launch(&container, script, Network::Bridge, check);
    let ill = wait_for_health(&agent, false);
    assert!(ill.message().ends_with("its command exited with 1"), "{ill:?}");
    assert!(!ill.container_status.unwrap().network_infos.is_empty());
    go.write("go");
    wait_for_health(&agent, true);
    end(&container, &agent);
    assert_eq!((container.stdout(), container.stderr()), (Vec::new(), Vec::new()), "checks write nowhere");
}

#[test]
fn a_task_that_is_unhealthy_for_too_long_is_killed_with_its_grace_and_the_reason_said() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let check = HealthCheck { command: Some(shell("exit 4")), consecutive_failures: Some(3), ..quick() };
    let script = "trap 'echo last words; exit 9' TERM; while :; do sleep 0.1; done";
    let agent = launch(&container, script, Network::Bridge, check);
    let (states, last) = agent.states();
    let ill = [TaskState::TaskRunning; 4].into_iter();
    let expected: Vec<_> = [TaskState::TaskStarting].into_iter().chain(ill).chain([TaskState::TaskKilled]).collect();
    assert_eq!((states, last.healthy), (expected, Some(false)));
    let why = "Health check failed 3 times in a row, because its command exited with 4: Container exited with status 9";
    assert_eq!(last.message(), why);
    assert_eq!(container.wait().status, Some(0));
    assert_eq!(container.stdout(), b"last words\n");
}

#[test]
fn a_check_that_takes_too_long_has_failed_and_is_ended_with_its_children() {
    let slave = Slave::new();
    let container = slave.container("t1");
    // Its children outlive it in its session and out of it.
    let command = shell("sleep 1000 & setsid sleep 1000 & echo >> /tmp/tries; wait");
    let check = HealthCheck {
        command: Some(command),
        timeout_seconds: Some(0.5),
        consecutive_failures: Some(1_000_000),
        ..quick()
    };
    // With those of earlier tries there would be six of them and more when the third has begun.
    let script = "until [ $(wc -l < /tmp/tries || echo 0) -ge 3 ] 2>/dev/null; do sleep 0.05; done; \
                  until [ $(ps -o args | grep -c '^sleep 1000') = 2 ]; do sleep 0.05; done; echo two; sleep 999";
    let agent = launch(&container, script, Network::Bridge, check);
    let ill = wait_for_health(&agent, false);
    assert!(ill.message().ends_with("there was no result within 500ms"), "{ill:?}");
    let deadline = Instant::now() + Duration::from_secs(60);
    while container.stdout().is_empty() {
        assert!(Instant::now() < deadline, "children of tries that took too long are there");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(container.stdout(), b"two\n");
    end(&container, &agent);
}

/// A server on the container's loopback address alone: only a probe from inside its network reaches it.
fn server(port: u16) -> String {
    format!("mkdir /tmp/www; touch /tmp/www/well; exec httpd -f -p 127.0.0.1:{port} -h /tmp/www")
}

#[test]
fn http_and_tcp_are_tried_in_the_containers_own_network() {
    let http = |port: u16| HealthCheck {
        http: Some(HttpCheckInfo { port: port.into(), path: Some("/well".to_owned()), ..HttpCheckInfo::default() }),
        ..quick()
    };
    let tcp = |port: u16| HealthCheck { tcp: Some(TcpCheckInfo { port: port.into(), protocol: None }), ..quick() };
    // Below the ports that the kernel gives to connections, the prober's own among them.
    let free = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    for (network, port, check) in [
        (Network::Bridge, 80, http(80)),
        (Network::None, 80, tcp(80)),
        (Network::Host, free, http(free)),
        (Network::Bridge, 81, tcp(81)),
    ] {
        let slave = Slave::new();
        let container = slave.container("t1");
        let check = HealthCheck { consecutive_failures: Some(1_000_000), ..check };
        let agent = launch(&container, &server(port), network, check);
        wait_for_health(&agent, true);
        end(&container, &agent);
    }
}

#[test]
fn nobody_listening_makes_a_task_unhealthy() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let tcp = Some(TcpCheckInfo { port: 80, protocol: None });
    let check = HealthCheck { tcp, consecutive_failures: Some(1), ..quick() };
    let agent = launch(&container, "sleep 1000", Network::Bridge, check);
    let (_, last) = agent.states();
    assert_eq!((last.state(), last.healthy), (TaskState::TaskKilled, Some(false)));
    assert!(last.message().contains("nobody listens on port 80"), "{last:?}");
    container.wait();
}

#[test]
fn a_check_tells_its_result_and_nothing_follows_from_it() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let mut message = container.task("sleep 1000");
    message.task_info.as_mut().unwrap().check = Some(Box::new(CheckInfo {
        r#type: Some(check_info::Type::Command as i32),
        command: Some(check_info::Command { command: shell("exit 7") }),
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.1),
        ..CheckInfo::default()
    }));
    let agent = Agent::new(&message);
    container.launch_with(&message, &agent.variables());
    let code = |status: &TaskStatus| status.check_status.unwrap().command.unwrap().exit_code;
    assert_eq!([code(&agent.status()), code(&agent.status())], [None, None]);
    let found = agent.status();
    assert_eq!((code(&found), found.healthy, found.reason()), (Some(7), None, Reason::TaskCheckStatusUpdated));
    end(&container, &agent);
}
