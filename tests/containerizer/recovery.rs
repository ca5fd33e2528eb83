//! Supervisors that are killed, slaves that are restarted, hosts that are: each container's true end arrives, its output goes on
//! with the next byte, and nothing of anybody else is touched.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use proto::ecp;
use proto::mesos::TaskState;
use sha2::{Digest, Sha256};

use crate::agent::Agent;
use crate::harness::IMAGE;
use crate::slave::{Container, Slave, resources};

fn docker(words: &[&str]) -> String {
    let ran = Command::new("docker").args(words).output().unwrap();
    assert!(ran.status.success(), "docker {words:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} never came about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A task of an agent that lets it outlive its executor.
fn launch_task(container: &Container<'_>, script: &str) -> Agent {
    let message = container.task(script);
    let agent = Agent::new(&message);
    let [slave] = agent.variables();
    container.launch_with(&message, &[slave, ("MESOS_CHECKPOINT", "1".to_owned())]);
    agent
}

#[test]
fn a_running_container_gets_a_successor_and_its_output_goes_on_with_the_next_byte() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let (started, go, gone, end) =
        (container.pipe("started"), container.pipe("go"), container.pipe("gone"), container.pipe("end"));
    container.launch(&container.custom_executor(
        "printf 'a\\000\\377'; printf e >&2; echo > started; read x < go; printf 'b\\n\\nc\\n'; echo f >&2; echo > gone; \
         read x < end; printf d; exit 9",
    ));
    started.read();
    wait_until("the first output", || container.stdout() == b"a\0\xff" && container.stderr() == b"e");
    container.kill_supervisor();
    // Nobody hears this.
    go.write("go");
    gone.read();
    assert_eq!(container.stdout(), b"a\0\xff");
    slave.recover();
    assert_eq!(slave.containers(), [container.id.as_str()]);
    wait_until("what nobody heard", || container.stdout() == b"a\0\xffb\n\nc\n" && container.stderr() == b"ef\n");
    assert!(container.usage().mem_total_bytes() > 0);
    end.write("go");
    assert_eq!(container.wait().status, Some(9 << 8));
    assert_eq!((container.stdout(), container.stderr()), (b"a\0\xffb\n\nc\nd".to_vec(), b"ef\n".to_vec()));
}

#[test]
fn every_byte_arrives_once_however_often_the_supervisor_is_killed() {
    let slave = Slave::new();
    let container = slave.container("c1");
    // Some megabytes, so that each supervisor dies in the midst of it.
    container.launch(&container.custom_executor(
        "for i in 1 2 3 4 5 6 7 8; do head -c 1000003 /dev/urandom | tee -a copy; echo $i >&2; done; exit 4",
    ));
    for part in 1..=6 {
        wait_until("more output", || {
            std::fs::metadata(container.sandbox.join("stdout")).is_ok_and(|f| f.len() > part * 900_000)
        });
        container.kill_supervisor();
        slave.recover();
    }
    assert_eq!(container.wait().status, Some(4 << 8));
    let hash = |name: &str| Sha256::digest(crate::harness::read(&container.sandbox.join(name)));
    assert_eq!(container.stdout().len(), 8 * 1_000_003);
    assert!(hash("copy") == hash("stdout"), "stdout differs");
    assert_eq!(container.stderr(), b"1\n2\n3\n4\n5\n6\n7\n8\n");
}

#[test]
fn a_container_that_ended_while_nobody_watched_has_its_code_and_its_last_words() {
    let slave = Slave::new();
    let (failed, well) = (slave.container("failed"), slave.container("well"));
    for (container, code) in [(&failed, 5), (&well, 0)] {
        let (started, go) = (container.pipe("started"), container.pipe("go"));
        container.launch(&container.custom_executor(&format!("echo > started; read x < go; echo last; exit {code}")));
        started.read();
        container.kill_supervisor();
        go.write("go");
        wait_until("the end", || slave.stage.engine().inspect(&container.name())["State"]["Running"] == false);
    }
    slave.recover();
    let mut both = [failed.id.clone(), well.id.clone()];
    both.sort();
    assert_eq!(slave.containers(), both);
    assert_eq!((failed.wait().status, failed.stdout()), (Some(5 << 8), b"last\n".to_vec()));
    assert_eq!((well.wait().status, well.stdout()), (Some(0), b"last\n".to_vec()));
}

#[test]
fn a_task_outlives_its_supervisor_and_its_agent_hears_the_end() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let go = container.pipe("go");
    let agent = launch_task(&container, "echo before; read x < /mnt/mesos/sandbox/go; echo after; exit 3");
    assert_eq!([agent.status().state(), agent.status().state()], [TaskState::TaskStarting, TaskState::TaskRunning]);
    assert!(agent.subscription().unacknowledged_tasks.is_empty());
    let wait = container.start_wait();
    container.kill_supervisor();
    // Not even a recovery is needed: who waits sees to a successor.
    let again = agent.subscription();
    // What the agent had acknowledged when it was killed; at most the last.
    assert!(again.unacknowledged_updates.len() <= 1, "{again:?}");
    slave.recover();
    go.write("go");
    let (states, last) = agent.states();
    assert_eq!((states.last(), last.message()), (Some(&TaskState::TaskFailed), "Container exited with status 3"));
    assert_eq!(wait.finish().code, Some(0));
    assert_eq!(container.stdout(), b"before\nafter\n");
}

#[test]
fn what_an_agent_was_owed_is_told_by_the_successor_once() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let go = container.pipe("go");
    let agent = launch_task(&container, "read x < /mnt/mesos/sandbox/go; exit 7");
    agent.subscription();
    assert_eq!([agent.status().state(), agent.status().state()], [TaskState::TaskStarting, TaskState::TaskRunning]);
    agent.acknowledge(false);
    go.write("go");
    let unheard = agent.status();
    assert_eq!(unheard.state(), TaskState::TaskFailed);
    assert!(container.state().join("result.json").exists());
    container.kill_supervisor();
    agent.acknowledge(true);
    slave.recover();
    let owed = agent.subscription().unacknowledged_updates;
    // Perhaps one before it, the acknowledgement of which came too late.
    assert_eq!(owed.last().map(|update| &update.status.uuid), Some(&unheard.uuid));
    let (_, told) = agent.states();
    assert_eq!((&told.uuid, told.message()), (&unheard.uuid, "Container exited with status 7"));
    container.wait_for_supervisor();
    assert_eq!(container.wait().status, Some(0), "the executor has told it");
}

#[test]
fn a_supervisor_that_is_killed_before_it_has_a_container_is_succeeded_by_one_that_makes_it() {
    let mut slave = Slave::new();
    let socket = slave.stage.files().join("engine.sock");
    let hanging = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    slave.set("DOCKER_HOST", &format!("unix://{}", socket.display()));
    let container = slave.container("c1");
    container.launch(&container.custom_executor("echo out; exit 2"));
    // It has asked for the image, and gets no answer.
    let asked = hanging.accept().unwrap();
    container.kill_supervisor();
    drop((asked, hanging));
    std::fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink("/var/run/docker.sock", &socket).unwrap();
    slave.recover();
    assert_eq!(container.wait().status, Some(2 << 8));
    assert_eq!(container.stdout(), b"out\n");
}

#[test]
fn a_supervisor_that_is_killed_before_the_start_is_succeeded_by_one_that_starts_the_container() {
    let slave = Slave::new();
    let container = slave.container("t1");
    let message = container.task("echo out; exit 2");
    let agent = Agent::new(&message);
    // At this address nobody hands it the task.
    container.launch_with(&message, &[("MESOS_SLAVE_PID", "slave(1)@127.0.0.1:1".to_owned())]);
    wait_until("the container", || slave.stage.engine().has(&container.name()));
    container.kill_supervisor();
    let [(_, address)] = agent.variables();
    let path = container.state().join("environment.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("slave(1)@127.0.0.1:1\"", &format!("{address}\""));
    std::fs::write(&path, text).unwrap();
    slave.recover();
    let (_, last) = agent.states();
    assert_eq!(last.message(), "Container exited with status 2");
    container.wait();
    assert_eq!(container.stdout(), b"out\n");
}

#[test]
fn a_creation_that_was_not_recorded_is_found_by_its_label() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let (started, go) = (container.pipe("started"), container.pipe("go"));
    container.launch(&container.custom_executor("echo > started; read x < go; exit 6"));
    started.read();
    container.kill_supervisor();
    edit_state(&container, |state| state["docker_id"] = serde_json::Value::Null);
    slave.recover();
    go.write("go");
    assert_eq!(container.wait().status, Some(6 << 8));
}

fn edit_state(container: &Container<'_>, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = container.state().join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&crate::harness::read(&path)).unwrap();
    edit(&mut state);
    std::fs::write(&path, state.to_string()).unwrap();
}

#[test]
fn a_container_that_ran_when_its_host_was_started_anew_has_no_known_end() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let started = container.pipe("started");
    container.launch(&container.custom_executor("echo > started; sleep 1000"));
    started.read();
    wait_until("the record", || {
        String::from_utf8_lossy(&crate::harness::read(&container.state().join("state.json"))).contains("boot_id")
    });
    container.kill_supervisor();
    // As the engine has it after a boot: ended, with a code that is none.
    docker(&["kill", "--signal=KILL", &container.name()]);
    wait_until("the end", || slave.stage.engine().inspect(&container.name())["State"]["Running"] == false);
    // The pid is some other process' now, which must not be touched.
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    edit_state(&container, |state| {
        state["init"]["boot_id"] = "of-another-boot".into();
        state["init"]["pid"] = other.id().into();
    });
    slave.recover();
    let end = container.wait();
    assert!(end.killed && end.status != Some(0), "{end:?}");
    assert!(end.message().contains("the host was started anew while the container ran"), "{end:?}");
    assert!(other.try_wait().unwrap().is_none(), "another process was killed");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_container_that_vanished_is_not_begun_again() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let started = container.pipe("started");
    container.launch(&container.custom_executor("echo > started; echo ran >> runs; sleep 1000"));
    started.read();
    container.kill_supervisor();
    slave.stage.engine().remove(&container.name());
    slave.recover();
    let end = container.wait();
    assert!(end.killed && end.message().contains("the container was removed while it ran"), "{end:?}");
    assert_eq!(std::fs::read(container.sandbox.join("runs")).unwrap(), b"ran\n");
}

/// Removes them also when the test fails.
struct Foreign(Vec<String>);

impl Foreign {
    fn create(count: usize) -> Self {
        let prefix = format!("launch-container-foreign-{}", std::process::id());
        let create = |number: usize| {
            let name = format!("{prefix}-{number}");
            // Some look like ours, and are another slave's.
            let label = "--label=launch-container.work-directory=/another/slave";
            let label = if number.is_multiple_of(2) { label } else { "--label=foreign" };
            docker(&["create", "--name", &name, "--network=none", label, IMAGE, "sleep", "1000"]);
            name
        };
        Self((0..count).map(create).collect())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = Command::new("docker").arg("rm").arg("-f").args(&self.0).output();
    }
}

#[test]
fn a_restarted_slave_finds_its_own_and_a_hundred_recoveries_touch_nothing_else() {
    let slave = Slave::new();
    let foreign = Foreign::create(20);
    docker(&["start", &foreign.0[0], &foreign.0[1]]);
    let images = || docker(&["images", "--quiet", "--all", "--no-trunc"]);
    let images_before = images();
    let running: Vec<_> = (0..5).map(|number| slave.container(&format!("running{number}"))).collect();
    let pipes: Vec<_> = running.iter().map(|container| container.pipe("go")).collect();
    for container in &running {
        container.launch(&container.custom_executor("read x < go; exit 3"));
    }
    let ended = [(slave.container("ended0"), 0), (slave.container("ended1"), 11)];
    for (container, code) in &ended {
        container.launch(&container.custom_executor(&format!("exit {code}")));
        container.wait_for_supervisor();
    }
    wait_until("the start", || {
        running.iter().all(|container| {
            slave.stage.engine().has(&container.name())
                && slave.stage.engine().inspect(&container.name())["State"]["Running"] == true
        })
    });
    // A restart of the whole machine's services, say.
    for container in &running {
        container.kill_supervisor();
    }
    let mut own: Vec<String> =
        running.iter().chain(ended.iter().map(|(container, _)| container)).map(|c| c.id.clone()).collect();
    own.sort();
    for _ in 0..100 {
        slave.recover();
        assert_eq!(slave.containers(), own);
    }
    for (container, code) in &ended {
        assert_eq!(container.wait().status, Some(code << 8));
    }
    for (container, pipe) in running.iter().zip(pipes) {
        pipe.write("go");
        assert_eq!(container.wait().status, Some(3 << 8));
    }
    for name in &foreign.0 {
        assert!(slave.stage.engine().has(name), "{name} is gone");
    }
    assert_eq!(docker(&["inspect", "--format={{.State.Running}}", &foreign.0[0], &foreign.0[1]]), "true\ntrue");
    assert_eq!(images(), images_before);
}

#[test]
fn recover_clears_away_what_nobody_can_ask_for() {
    let slave = Slave::new();
    slave.recover();
    let container = slave.container("c1");
    let started = container.pipe("started");
    container.launch(&container.custom_executor("echo > started; sleep 1000"));
    started.read();
    container.kill_supervisor();
    std::fs::create_dir(slave.state().join(".new-c2-1")).unwrap();
    // Its memory is gone, and it runs: the slave must hear of it to decide.
    std::fs::remove_dir_all(container.state()).unwrap();
    slave.recover();
    assert!(slave.remembered().is_empty());
    assert_eq!(slave.containers(), [container.id.as_str()]);
    docker(&["kill", &container.name()]);
    wait_until("the end", || slave.stage.engine().inspect(&container.name())["State"]["Running"] == false);
    slave.recover();
    assert!(slave.containers().is_empty() && !slave.stage.engine().has(&container.name()));
}

#[test]
fn verbs_that_are_killed_at_any_point_are_repaired_by_the_next() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let started = container.pipe("started");
    container.launch(&container.custom_executor("echo > started; sleep 1000"));
    started.read();
    let memory = || slave.stage.engine().inspect(&container.name())["HostConfig"]["Memory"].clone();
    // Each is killed some microseconds later than the one before; an update takes some milliseconds.
    for step in 0..40u64 {
        let megabytes = if step.is_multiple_of(2) { 96.0 } else { 128.0 };
        let update = ecp::Update { container_id: container.container_id(), resources: resources(0.5, megabytes) };
        let mut verb = container.start("update", &update);
        std::thread::sleep(Duration::from_micros(step * 400));
        verb.kill();
        container.start_wait().kill();
        container.start("usage", &ecp::Usage { container_id: container.container_id() }).kill();
    }
    container.update(resources(0.5, 64.0));
    assert_eq!(memory(), 64u64 << 20);
    let mut destroy = container.start("destroy", &ecp::Destroy { container_id: container.container_id() });
    std::thread::sleep(Duration::from_millis(3));
    destroy.kill();
    container.destroy();
    assert!(slave.containers().is_empty() && !slave.stage.engine().has(&container.name()));
}

#[test]
fn limits_are_the_same_after_a_recovery() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let started = container.pipe("started");
    container.launch(&container.custom_executor("echo > started; sleep 1000"));
    started.read();
    container.update(resources(1.5, 128.0));
    container.kill_supervisor();
    // What an update that is killed leaves: the engine knows, and nobody else.
    docker(&["update", "--memory=200m", "--memory-swap=400m", &container.name()]);
    std::fs::write(container.state().join("limits.unfinished"), "").unwrap();
    slave.recover();
    container.update(resources(1.5, 128.0));
    let config = slave.stage.engine().inspect(&container.name())["HostConfig"].clone();
    assert_eq!((&config["CpuShares"], &config["Memory"]), (&1536.into(), &(128u64 << 20).into()));
    assert!(!Path::new(&container.state().join("limits.unfinished")).exists());
    assert_eq!(container.usage().mem_limit_bytes, Some(128 << 20));
    container.destroy();
}
