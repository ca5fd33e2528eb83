//! Engines that are killed, that hang, that lose answers: no end is ever taken for another, and no verb
//! waits longer than it says. docs/containerizer-faults.md lists them.

use std::process::Command;
use std::time::{Duration, Instant};

use proto::{ecp, mesos};

use crate::harness::{Fault, LiveRestore, PrivateEngine, Proxy};
use crate::slave::{Container, Slave, resources};

pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} never came about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn state(container: &Container<'_>) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(container.state().join("state.json")).unwrap()).unwrap_or_default()
}

/// Of the container's first process; waits until the supervisor has written it down.
pub(crate) fn first_process(container: &Container<'_>) -> u64 {
    wait_until("the record of the process", || state(container)["init"]["pid"].is_u64());
    state(container)["init"]["pid"].as_u64().unwrap()
}

fn is_alive(pid: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub(crate) fn slave_with(engine: &PrivateEngine) -> Slave {
    let mut slave = Slave::new();
    slave.set("DOCKER_HOST", &engine.host());
    // Whoever has removed a container of a slave that asks no more ends after that.
    slave.stage.settle_within(Duration::from_secs(20));
    slave
}

/// The code itself, or the word that it is not known; never another, and never success.
fn assert_true_or_unknown(end: &ecp::Termination, code: i32) {
    let is_true = end.status == Some(code << 8);
    let is_unknown = end.killed && end.status != Some(0) && end.message().contains("engine");
    assert!(is_true || is_unknown, "expected {code}, or not to be known: {end:?}");
}

#[test]
fn a_code_outlives_an_engine_that_is_killed_and_is_away_at_the_end() {
    let mut engine = PrivateEngine::start(LiveRestore::On);
    let slave = slave_with(&engine);
    let containers = [(slave.container("c0"), 0), (slave.container("c7"), 7)];
    let pipes: Vec<_> = containers
        .iter()
        .map(|(container, code)| {
            let (started, go) = (container.pipe("started"), container.pipe("go"));
            container.launch(
                &container.custom_executor(&format!("echo begin; echo > started; read x < go; echo end; exit {code}")),
            );
            started.read();
            first_process(container);
            go
        })
        .collect();
    engine.kill();
    for ((container, _), go) in containers.iter().zip(pipes) {
        let pid = first_process(container);
        go.write("go");
        wait_until("the end", || !is_alive(pid));
        // Nobody says the code yet, so nobody invents one.
        assert!(!container.state().join("result.json").exists());
    }
    engine.restart();
    for (container, code) in &containers {
        let end = container.wait();
        eprintln!("{code}: {end:?}");
        assert_true_or_unknown(&end, *code);
        // What it said while nobody read is the engine's to lose, and then that is said.
        let is_lost = end.message().starts_with("bytes lost: not known: ") || end.message().contains("engine was away");
        let expected: &[u8] = if is_lost { b"begin\n" } else { b"begin\nend\n" };
        assert_eq!(container.stdout(), expected);
    }
    wait_until("the removal", || engine.names().is_empty());
}

/// The process that has started it, and that alone hears its code.
fn parent(pid: u64) -> rustix::process::Pid {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let number = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    rustix::process::Pid::from_raw(number).unwrap()
}

#[test]
fn an_end_that_neither_engine_nor_shim_has_seen_is_told_as_not_known() {
    let mut engine = PrivateEngine::start(LiveRestore::On);
    let slave = slave_with(&engine);
    let container = slave.container("c0");
    let (started, go) = (container.pipe("started"), container.pipe("go"));
    container.launch(&container.custom_executor("echo > started; read x < go; echo end; exit 0"));
    started.read();
    let pid = first_process(&container);
    let shim = parent(pid);
    let name = std::fs::read_to_string(format!("/proc/{}/comm", shim.as_raw_nonzero())).unwrap();
    assert!(name.starts_with("containerd-shim"), "{name}");
    engine.kill();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    // Without its shim it may end at once, when it writes, or as told.
    if is_alive(pid) {
        let _ = std::fs::OpenOptions::new().read(true).write(true).open(go.path()).map(|mut go| {
            use std::io::Write;
            let _ = go.write_all(b"go\n");
            wait_until("the end", || !is_alive(pid));
        });
    }
    engine.restart();
    let end = container.wait();
    eprintln!("{end:?}");
    // The true code would be 0, which nobody can vouch for.
    assert!(end.killed && end.status != Some(0), "{end:?}");
    assert!(!end.message().is_empty() && !end.message().contains("exited with status 0"), "{end:?}");
    wait_until("the removal", || engine.names().is_empty());
}

#[test]
fn a_container_and_its_output_outlive_an_engine_with_live_restore() {
    let mut engine = PrivateEngine::start(LiveRestore::On);
    let slave = slave_with(&engine);
    let container = slave.container("c1");
    let (started, go, end) = (container.pipe("started"), container.pipe("go"), container.pipe("end"));
    container.launch(&container.custom_executor(
        "printf 'a\\n'; echo > started; read x < go; printf 'b\\n'; read x < end; printf 'c\\000d'; exit 5",
    ));
    started.read();
    first_process(&container);
    for is_killed in [true, false] {
        if is_killed {
            engine.kill();
            // While it is away.
            go.write("go");
        } else {
            engine.shut_down();
        }
        engine.restart();
    }
    wait_until("what was said meanwhile", || container.stdout() == b"a\nb\n");
    end.write("go");
    let ended = container.wait();
    assert_eq!(ended.status, Some(5 << 8), "{ended:?}");
    assert_eq!(container.stdout(), b"a\nb\nc\0d");
    wait_until("the removal", || engine.names().is_empty());
}

#[test]
fn a_container_that_its_engine_takes_along_has_not_ended_well() {
    let mut engine = PrivateEngine::start(LiveRestore::Off);
    let slave = slave_with(&engine);
    let (shut_down, killed) = (slave.container("c1"), slave.container("c2"));
    for container in [&shut_down, &killed] {
        let started = container.pipe("started");
        container.launch(&container.custom_executor("echo > started; sleep 1000; true"));
        started.read();
        first_process(container);
        if container.id == shut_down.id {
            engine.shut_down();
        } else {
            engine.kill();
        }
        engine.restart();
        let end = container.wait();
        eprintln!("{end:?}");
        assert!(end.status.is_some_and(|status| status != 0), "{end:?}");
    }
    wait_until("the removal", || engine.names().is_empty());
}

#[test]
fn an_engine_that_hangs_blocks_no_verb_and_destroy_kills_without_it() {
    let engine = PrivateEngine::start(LiveRestore::On);
    let slave = slave_with(&engine);
    let (watched, unwatched) = (slave.container("c1"), slave.container("c2"));
    let pids = [&watched, &unwatched].map(|container| {
        let started = container.pipe("started");
        container.launch(&container.custom_executor("echo > started; sleep 1000; true"));
        started.read();
        first_process(container)
    });
    unwatched.kill_supervisor();
    engine.hang();
    let within = |limit: u64, what: &str, work: &dyn Fn()| {
        let begin = Instant::now();
        work();
        let took = begin.elapsed();
        eprintln!("{what} took {took:?}");
        assert!(took < Duration::from_secs(limit), "{what} took {took:?}");
    };
    // The limits that docs/containerizer-faults.md names.
    within(5, "usage", &|| assert!(watched.usage().mem_total_bytes() > 0));
    within(10, "update", &|| {
        let message = ecp::Update { container_id: watched.container_id(), resources: resources(1.0, 96.0) };
        assert_eq!(watched.start("update", &message).finish().code, Some(0));
    });
    within(15, "containers", &|| {
        let listed: ecp::Containers = slave.raw("containers", b"").answer();
        assert_eq!(listed.containers.len(), 2);
    });
    within(20, "recover", &|| assert_eq!(slave.raw("recover", b"").code, Some(0)));
    for (container, pid) in [&watched, &unwatched].into_iter().zip(pids) {
        assert!(is_alive(pid));
        within(30, "destroy", &|| container.destroy());
        wait_until("the death", || !is_alive(pid));
    }
    let listed: ecp::Containers = slave.raw("containers", b"").answer();
    assert!(listed.containers.is_empty(), "{listed:?}");
    // A second destroy and a recovery have nothing to add.
    watched.destroy();
    engine.go_on();
    wait_until("the removal", || engine.names().is_empty() && slave.remembered().is_empty());
}

#[test]
fn a_removal_that_was_left_to_itself_is_finished_by_the_next_recovery() {
    let mut engine = PrivateEngine::start(LiveRestore::On);
    let slave = slave_with(&engine);
    let container = slave.container("c1");
    let started = container.pipe("started");
    container.launch(&container.custom_executor("echo > started; sleep 1000; true"));
    started.read();
    let pid = first_process(&container);
    engine.kill();
    container.destroy();
    wait_until("the death", || !is_alive(pid));
    // Whoever waits for the engine is killed, too.
    container.kill_supervisor();
    engine.restart();
    assert!(!engine.names().is_empty());
    slave.recover();
    wait_until("the removal", || engine.names().is_empty() && slave.remembered().is_empty());
}

fn proxied() -> (Slave, Proxy) {
    let mut slave = Slave::new();
    let proxy = Proxy::start(slave.stage.files().join("engine.sock"), "/var/run/docker.sock".as_ref());
    slave.set("DOCKER_HOST", &proxy.host());
    (slave, proxy)
}

#[test]
fn a_creation_whose_answer_is_lost_leaves_no_container() {
    let (slave, proxy) = proxied();
    let container = slave.container("c1");
    proxy.on("POST /containers/create", Fault::LoseReply, 1);
    container.launch(&container.custom_executor("echo ran >> runs"));
    let end = container.wait();
    assert_eq!(proxy.pending(), 0);
    // Either it went on with what was created, or it says that it could not.
    let has_run = container.sandbox.join("runs").exists();
    assert!(has_run == (end.status == Some(0)), "{end:?}");
    assert!(has_run || end.message().contains("cannot reach the Docker engine"), "{end:?}");
    assert!(!slave.stage.engine().has(&container.name()));
}

#[test]
fn what_the_engine_refuses_is_told_in_its_words() {
    let (slave, proxy) = proxied();
    for (id, request) in [("create", "POST /containers/create"), ("start", "/start")] {
        let container = slave.container(id);
        proxy.on(request, Fault::Reply(500, "no space left on device"), 1);
        container.launch(&container.custom_executor("true"));
        let end = container.wait();
        assert!(end.killed && end.message().contains("no space left on device"), "{end:?}");
        assert!(!slave.stage.engine().has(&container.name()));
    }
}

#[test]
fn output_goes_on_where_its_connection_broke() {
    let (slave, proxy) = proxied();
    let container = slave.container("c1");
    let (first, go) = (container.pipe("first"), container.pipe("go"));
    // The head of the answer and some of what follows.
    proxy.on("/attach", Fault::DropAfter(1000), 1);
    container.launch(&container.custom_executor(
        "head -c 500000 /dev/urandom | tee copy; echo > first; read x < go; head -c 1001 /dev/urandom | tee -a copy; exit 3",
    ));
    first.read();
    go.write("go");
    assert_eq!(container.wait().status, Some(3 << 8));
    assert_eq!(proxy.pending(), 0);
    let copy = crate::harness::read(&container.sandbox.join("copy"));
    assert_eq!(copy.len(), 501_001);
    let stdout = container.stdout();
    let same = stdout.iter().zip(&copy).take_while(|(a, b)| a == b).count();
    assert!(stdout == copy, "stdout has {} bytes, and differs after {same}", stdout.len());
}

#[test]
fn a_wait_whose_connection_broke_is_taken_up_again() {
    let (slave, proxy) = proxied();
    let container = slave.container("c1");
    let (started, go) = (container.pipe("started"), container.pipe("go"));
    proxy.on("/wait", Fault::DropAfter(10), 2);
    proxy.on("GET /containers/", Fault::Delay(Duration::from_millis(100)), 3);
    container.launch(&container.custom_executor("echo > started; read x < go; exit 6"));
    started.read();
    wait_until("the broken connections", || proxy.pending() == 0);
    go.write("go");
    assert_eq!(container.wait().status, Some(6 << 8));
}

#[test]
fn a_child_that_dies_of_memory_is_told_from_the_container_itself() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let mut launch = container.custom_executor("tail /dev/zero; exit 5");
    let docker = launch.executor_info.as_mut().unwrap().container.as_mut().unwrap().docker.as_mut().unwrap();
    docker.parameters = vec![mesos::Parameter { key: "memory-swap".into(), value: "64m".into() }];
    container.launch(&launch);
    let end = container.wait();
    assert_eq!(end.status, Some(5 << 8));
    assert!(end.message().starts_with("a child process was killed: memory limit 64 MB reached (peak 6"), "{end:?}");
    assert!(end.message().ends_with(" MB): Container exited with status 5"), "{end:?}");
}

/// A slave does that before every verb of a task with a user.
#[test]
fn a_sandbox_that_is_given_to_its_user_again_and_again_stays_of_use() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let (started, go) = (container.pipe("started"), container.pipe("go"));
    container.launch(&container.custom_executor("echo > started; read x < go; echo out; echo x > made; exit 2"));
    started.read();
    let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(&container.sandbox).output().unwrap();
    assert!(owned.status.success(), "{owned:?}");
    go.write("go");
    assert_eq!(container.wait().status, Some(2 << 8));
    assert_eq!(container.stdout(), b"out\n");
}
