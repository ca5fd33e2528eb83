//! The other verbs, on containers that run, have ended, or never were.

use std::process::Command;

use proto::{ecp, mesos};

use crate::agent::Agent;
use crate::slave::{Container, Slave, resources};

/// Launches a custom executor that runs until it is ended, and waits until it runs.
fn launch_lasting(container: &Container<'_>) {
    let started = container.pipe("started");
    container.launch(&container.custom_executor("echo > started; sleep 1000; true"));
    started.read();
}

fn host_config(slave: &Slave, container: &Container<'_>) -> serde_json::Value {
    slave.stage.engine().inspect(&container.name())["HostConfig"].clone()
}

#[test]
fn destroy_ends_the_container_and_may_come_twice() {
    let slave = Slave::new();
    let container = slave.container("c1");
    launch_lasting(&container);
    let wait = container.start_wait();
    container.destroy();
    // Either of them clears away what is left.
    assert_eq!(wait.finish().code, Some(0));
    assert!(slave.remembered().is_empty());
    container.destroy();
    slave.container("never-launched").destroy();
}

#[test]
fn destroy_finds_a_container_whose_supervisor_was_killed() {
    let slave = Slave::new();
    let container = slave.container("c1");
    launch_lasting(&container);
    container.kill_supervisor();
    container.destroy();
}

#[test]
fn destroy_ends_a_task_before_it_starts() {
    let slave = Slave::new();
    let container = slave.container("t1");
    // Nobody is there to launch it: the container is prepared and not started.
    let message = container.task("true");
    container.launch_with(&message, &[("MESOS_SLAVE_PID", "slave(1)@127.0.0.1:1".to_owned())]);
    container.destroy();
}

#[test]
fn swap_follows_memory_as_the_operator_wants_it_at_the_launch_and_with_every_update() {
    for (policy, factor) in [("none", 1), ("same", 2)] {
        let mut slave = Slave::new();
        slave.set("LAUNCH_CONTAINERIZER_CONTAINER_SWAP", policy);
        let container = slave.container("c1");
        launch_lasting(&container);
        for megabytes in [64, 96, 48] {
            container.update(resources(0.5, f64::from(megabytes)));
            let after = host_config(&slave, &container);
            let bytes = u64::try_from(megabytes).unwrap() << 20;
            assert_eq!((&after["Memory"], &after["MemorySwap"]), (&bytes.into(), &(factor * bytes).into()), "{policy}");
        }
        container.destroy();
    }
}

#[test]
fn an_operator_may_do_without_the_engines_log_and_what_is_lost_then_is_said() {
    let mut slave = Slave::new();
    slave.set("LAUNCH_CONTAINERIZER_CONTAINER_KEEP_LOG", "false");
    let container = slave.container("c1");
    let (started, go) = (container.pipe("started"), container.pipe("go"));
    container.launch(&container.custom_executor("echo > started; read x < go; echo late; exit 3"));
    started.read();
    assert_eq!(host_config(&slave, &container)["LogConfig"]["Type"], "none");
    container.kill_supervisor();
    slave.recover();
    go.write("go");
    let end = container.wait();
    assert_eq!((end.status, end.message()), (Some(3 << 8), "bytes lost: not known: Container exited with status 3"));
}

#[test]
fn a_tasks_own_swap_limit_stays_and_an_update_beyond_it_is_no_failure() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let started = container.pipe("started");
    let mut launch = container.custom_executor("echo > started; sleep 1000; true");
    let docker = launch.executor_info.as_mut().unwrap().container.as_mut().unwrap().docker.as_mut().unwrap();
    docker.parameters = vec![mesos::Parameter { key: "memory-swap".into(), value: "80m".into() }];
    container.launch(&launch);
    started.read();
    for (megabytes, both) in [(64, 80), (72, 80), (96, 96), (64, 80)] {
        container.update(resources(0.5, f64::from(megabytes)));
        let after = host_config(&slave, &container);
        let expected = (u64::try_from(megabytes).unwrap() << 20, both << 20u64);
        assert_eq!((&after["Memory"], &after["MemorySwap"]), (&expected.0.into(), &expected.1.into()));
    }
    container.destroy();
}

#[test]
fn an_update_changes_the_limits_and_leaves_the_executors_share_out() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let started = container.pipe("started");
    let message = container.task("echo > /mnt/mesos/sandbox/started; sleep 1000");
    let agent = Agent::new(&message);
    container.launch_with(&message, &agent.variables());
    started.read();
    // As at registration: nothing new.
    container.update(resources(0.6, 96.0));
    let before = host_config(&slave, &container);
    assert_eq!((&before["CpuShares"], &before["Memory"]), (&512.into(), &(64u64 << 20).into()));
    // More than the swap limit that the engine made of the first.
    container.update(resources(1.1, 544.0));
    let after = host_config(&slave, &container);
    assert_eq!((&after["CpuShares"], &after["Memory"]), (&1024.into(), &(512u64 << 20).into()));
    container.update(resources(1.1, 96.0));
    assert_eq!(host_config(&slave, &container)["Memory"], 64u64 << 20);
    // The task has ended, says the slave: only the executor's share is left.
    container.update(resources(0.1, 32.0));
    assert_eq!(host_config(&slave, &container)["CpuShares"], 1024);
    container.destroy();
    container.update(resources(0.1, 32.0));
}

#[test]
fn usage_is_read_from_the_kernel() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let busy = container.pipe("busy");
    container.launch(
        &container.custom_executor("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo > busy; sleep 1000"),
    );
    busy.read();
    let usage = container.usage();
    assert!(usage.timestamp > 1e9);
    assert_eq!((usage.cpus_limit, usage.mem_limit_bytes), (Some(0.5), Some(64 << 20)));
    assert!(usage.cpus_user_time_secs() + usage.cpus_system_time_secs() > 0.0, "{usage:?}");
    assert!(usage.mem_total_bytes() > 0 && usage.mem_rss_bytes() > 0, "{usage:?}");
    container.destroy();
    let ran = container.start("usage", &ecp::Usage { container_id: container.container_id() }).finish();
    assert!(ran.error().contains("no such container"), "{ran:?}");
}

#[test]
fn containers_lists_ours_of_this_slave_running_or_not_waited_for() {
    let slave = Slave::new();
    let other = Slave::new();
    let foreign = format!("launch-container-test-{}", std::process::id());
    let created = Command::new("docker").args(["create", "--name", &foreign, crate::harness::IMAGE, "true"]).output();
    assert!(created.unwrap().status.success());

    assert!(slave.containers().is_empty());
    let (running, ended, others) = (slave.container("running"), slave.container("ended"), other.container("others"));
    launch_lasting(&running);
    launch_lasting(&others);
    ended.launch(&ended.custom_executor("exit 4"));
    ended.wait_for_supervisor();
    let both = [ended.id.clone(), running.id.clone()];
    assert_eq!(slave.containers(), both);
    slave.recover();
    assert_eq!(slave.containers(), both);
    assert_eq!(ended.wait().status, Some(4 << 8));
    assert_eq!(slave.containers(), [running.id.as_str()]);
    running.destroy();
    assert!(slave.containers().is_empty());
    assert_eq!(other.containers(), [others.id.as_str()]);
    others.destroy();
    let removed = Command::new("docker").args(["rm", &foreign]).output().unwrap();
    assert!(removed.status.success(), "the foreign container is still there");
}

#[test]
fn a_container_is_launched_once() {
    let slave = Slave::new();
    let container = slave.container("c1");
    launch_lasting(&container);
    let again = container.try_launch(&container.custom_executor("true"), &[]);
    assert!(again.error().contains("it was launched before"), "{again:?}");
    container.destroy();
}

#[test]
fn nobody_knows_a_container_that_was_never_launched() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let container_id: mesos::ContainerId = container.container_id();
    let ran = container.start("wait", &ecp::Wait { container_id: container_id.clone() }).finish();
    assert!(ran.error().contains("no such container"), "{ran:?}");
    container.update(resources(1.0, 64.0));
}

#[test]
fn an_engine_that_is_away_stops_neither_slave_nor_task() {
    let mut slave = Slave::new();
    let id = {
        let container = slave.container("c1");
        launch_lasting(&container);
        container.id
    };
    slave.set("DOCKER_HOST", "unix:///no/such/engine.sock");
    let containers = slave.raw("containers", b"");
    assert_eq!(containers.answer::<ecp::Containers>().containers[0].value, id);
    assert!(containers.code == Some(0) && containers.stderr.contains("is dockerd running?"), "{containers:?}");
    slave.recover();
    let again = slave.known(&id);
    let update = ecp::Update { container_id: again.container_id(), resources: resources(2.0, 128.0) };
    let updated = again.start("update", &update).finish();
    assert!(updated.code == Some(0) && updated.stderr.contains("are not applied"), "{updated:?}");
    assert!(again.usage().mem_total_bytes() > 0);
    // The supervisor has its own way to the engine.
    again.destroy();
}
