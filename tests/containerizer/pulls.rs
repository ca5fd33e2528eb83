//! Images that are not here, or should be asked for: from a real registry, from one that is silent, from none.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use proto::ecp::Launch;
use proto::mesos::TaskState;

use crate::harness::{IMAGE, closed_port};
use crate::registry::{Gate, Pushed, Registry, Silence, docker};
use crate::slave::{Container, Slave};

fn executor(container: &Container<'_>, image: &str) -> Launch {
    let mut launch = container.custom_executor("echo here");
    let executor = launch.executor_info.as_mut().unwrap();
    executor.container.as_mut().unwrap().docker.as_mut().unwrap().image = image.to_owned();
    launch
}

fn forced(mut launch: Launch) -> Launch {
    let executor = launch.executor_info.as_mut().unwrap();
    executor.container.as_mut().unwrap().docker.as_mut().unwrap().force_pull_image = Some(true);
    launch
}

/// Launches, and gives why it did not run.
#[track_caller]
fn failure(container: &Container<'_>, launch: &Launch) -> String {
    container.launch(launch);
    let end = container.wait();
    assert!(end.killed && end.state == Some(TaskState::TaskFailed as i32), "{end:?}");
    end.message().to_owned()
}

#[track_caller]
fn expect_run(container: &Container<'_>, launch: &Launch) {
    container.launch(launch);
    let end = container.wait();
    assert_eq!(end.status, Some(0), "{end:?}");
    assert_eq!(container.stdout(), b"here\n");
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_image_comes_from_its_registry_by_tag_and_by_digest() {
    let slave = Slave::new();
    let registry = Registry::start(None);
    let pushed = registry.push("team/web:1");
    for (name, image) in [
        ("tag", pushed.name.clone()),
        ("url", format!("docker:///{}", pushed.name)),
        ("digest", pushed.by_digest.clone()),
    ] {
        pushed.remove_here();
        let container = slave.container(name);
        expect_run(&container, &executor(&container, &image));
        assert_eq!(container.stderr(), b"", "a quick pull says nothing");
    }
    // What is here is not asked for again, unless the task wants it.
    let container = slave.container("here");
    drop(registry);
    expect_run(&container, &executor(&container, &pushed.by_digest));
}

#[test]
fn what_keeps_an_image_away_is_told_apart() {
    let mut slave = Slave::new();
    let (open, locked) = (Registry::start(None), Registry::start(Some("tester:canary-of-the-registry")));
    let secret = locked.push("web:1");
    let expect = |slave: &Slave, image: &str, words: &[&str]| {
        let container = slave.container("c");
        let message = failure(&container, &executor(&container, image));
        assert!(message.contains(image) && words.iter().all(|word| message.contains(word)), "{message}");
    };
    expect(&slave, &format!("{}/no-such:1", open.address()), &["was not found", "check its name"]);
    expect(&slave, &secret.name, &["may not be pulled", "log in to its registry"]);
    expect(&slave, &format!("{}/web:1", closed_port()), &["its registry cannot be reached", "connection refused"]);
    slave.set("LAUNCH_CONTAINERIZER_PULL_SILENCE_LIMIT", "1s");
    let silence = Silence::start();
    expect(&slave, &format!("{}/web:1", silence.address), &["nothing has come for 1 seconds", "pull.silence_limit"]);
    slave.set("LAUNCH_CONTAINERIZER_PULL_POLICY", "never");
    expect(&slave, &secret.name, &["is not here, and images are never pulled"]);
}

#[test]
fn credentials_come_from_the_sandbox_the_operator_the_user_and_helpers() {
    let registry = Registry::start(Some("tester:canary-of-the-registry"));
    let pushed = registry.push("web:1");
    let run = |prepare: &dyn Fn(&mut Slave, &Path) -> Option<&'static str>| {
        let mut slave = Slave::new();
        slave.set("LAUNCH_CONTAINER_LOG", "trace");
        let files = slave.stage.files();
        let in_sandbox = prepare(&mut slave, &files);
        let container = slave.container("c");
        if let Some(name) = in_sandbox {
            let path = container.sandbox.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, registry.config_file()).unwrap();
        }
        pushed.remove_here();
        container.launch(&executor(&container, &pushed.name));
        container.wait_for_supervisor();
        let log = std::fs::read_to_string(container.state().join("log")).unwrap();
        let end = container.wait();
        assert_eq!(end.status, Some(0), "{end:?}");
        assert!(!log.is_empty() && !log.contains("canary") && !log.contains("dGVzdGVy"), "{log}");
        assert_eq!(container.stderr(), b"");
    };
    for name in [".dockercfg", ".docker/config.json", "config.json"] {
        run(&|_, _| Some(name));
    }
    run(&|slave, files| {
        std::fs::write(files.join("login.json"), registry.config_file()).unwrap();
        slave.set("LAUNCH_CONTAINERIZER_CREDENTIALS_FILES", &format!("[\"{}\"]", files.join("login.json").display()));
        None
    });
    run(&|slave, files| {
        std::fs::create_dir(files.join(".docker")).unwrap();
        std::fs::write(files.join(".docker/config.json"), registry.config_file()).unwrap();
        slave.set("HOME", files.to_str().unwrap());
        None
    });
    run(&|slave, files| {
        let helper = files.join("docker-credential-test");
        let answer = r#"{"ServerURL": "x", "Username": "tester", "Secret": "canary-of-the-registry"}"#;
        let script =
            format!("#!/bin/sh\nread server; test \"$1 $server\" = 'get {}' && echo '{answer}'\n", registry.address());
        std::fs::write(&helper, script).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(
            files.join("config.json"),
            format!(r#"{{"credHelpers": {{"{}": "test"}}}}"#, registry.address()),
        )
        .unwrap();
        slave.set("DOCKER_CONFIG", files.to_str().unwrap());
        slave.set("PATH", &format!("{}:/usr/bin:/bin", files.display()));
        None
    });
}

#[test]
fn a_local_copy_does_where_the_registry_is_down_and_that_is_allowed() {
    let mut slave = Slave::new();
    let name = format!("{}/web:1", closed_port());
    let local = Pushed { by_digest: name.clone(), name };
    docker(&["tag", IMAGE, &local.name]);
    let container = slave.container("allowed");
    expect_run(&container, &forced(executor(&container, &local.name)));
    let said = String::from_utf8(container.stderr()).unwrap();
    assert!(said.lines().count() == 1 && said.contains("the copy of it that is here is used"), "{said}");
    slave.set("LAUNCH_CONTAINERIZER_PULL_FALL_BACK_TO_LOCAL", "false");
    let container = slave.container("forbidden");
    let message = failure(&container, &forced(executor(&container, &local.name)));
    assert!(message.contains("its registry cannot be reached"), "{message}");
    // Nobody is asked.
    slave.set("LAUNCH_CONTAINERIZER_PULL_POLICY", "never");
    let container = slave.container("never");
    expect_run(&container, &forced(executor(&container, &local.name)));
}

#[test]
fn a_destroy_during_the_pull_ends_it() {
    let slave = Slave::new();
    let mut silence = Silence::start();
    let container = slave.container("c1");
    container.launch(&executor(&container, &format!("{}/web:1", silence.address)));
    silence.wait_for_connection();
    container.destroy();
    assert!(slave.remembered().is_empty());
}

#[test]
fn a_long_pull_says_so_in_the_sandbox() {
    let slave = Slave::new();
    let mut silence = Silence::start();
    let container = slave.container("c1");
    let image = format!("{}/web:1", silence.address);
    container.launch(&executor(&container, &image));
    silence.wait_for_connection();
    let line = format!("docker-containerizer: pulling {image}: waiting for its registry\n");
    wait_until("a line in stderr", || !container.stderr().is_empty());
    assert_eq!(String::from_utf8(container.stderr()).unwrap(), line);
    container.destroy();
}

#[test]
fn many_tasks_that_want_an_image_pull_it_once() {
    let slave = Slave::new();
    let registry = Registry::start(None);
    let pushed = registry.push("web:1");
    let gate = Gate::before(registry.address());
    let image = pushed.at(&gate.address);
    let begin = docker(&["info", "--format", "{{.SystemTime}}"]);
    let containers = ["a", "b", "c", "d"].map(|name| slave.container(name));
    for container in &containers {
        container.launch(&forced(executor(container, &image.name)));
    }
    // All of them are at it before anything comes.
    for container in &containers {
        let pid = std::fs::read_to_string(container.state().join("lock")).unwrap();
        let is_at_it = || {
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let mut names = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
            names.any(|name| name.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pull-")))
        };
        wait_until("a supervisor at its pull", is_at_it);
    }
    gate.open();
    for container in &containers {
        let end = container.wait();
        assert_eq!((end.status, container.stdout()), (Some(0), b"here\n".to_vec()), "{end:?}");
    }
    let now = docker(&["info", "--format", "{{.SystemTime}}"]);
    let filters = ["--since", &begin, "--until", &now, "--filter", "type=image", "--filter", "event=pull"];
    let pulled = docker(&[&["events", "--format", "{{.Actor.ID}}"][..], &filters].concat());
    assert_eq!(pulled.lines().filter(|id| **id == image.name).count(), 1, "{pulled}");
}
