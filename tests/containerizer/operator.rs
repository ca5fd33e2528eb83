//! What an operator asks: doctor, ps, inspect, gc, and a launch in the foreground.

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use proto::mesos::environment::Variable;
use serde_json::Value;

use crate::harness::IMAGE;
use crate::slave::{Container, Ran, Slave};

impl Slave {
    /// `docker-containerizer WORDS`
    fn ask(&self, words: &str) -> Ran {
        self.raw(words, b"")
    }

    /// The same with --format=json.
    fn ask_json(&self, words: &str) -> Value {
        let ran = self.ask(&format!("{words} --format=json"));
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }
}

impl Ran {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// Launches a custom executor that runs until it is ended, and waits until its supervisor knows that it runs.
fn launch_lasting(container: &Container<'_>) {
    container.launch(&container.custom_executor("sleep 1000; true"));
    wait_until_running(container);
}

/// The container itself is there a little earlier.
fn wait_until_running(container: &Container<'_>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(container.state().join("state.json")).is_ok_and(|state| state.contains("cgroups")) {
        assert!(Instant::now() < deadline, "{} does not run", container.id);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The findings about one thing.
fn about<'a>(doctor: &'a Value, about: &str) -> Vec<&'a Value> {
    doctor["findings"].as_array().unwrap().iter().filter(|finding| finding["about"] == about).collect()
}

/// The row of one container.
fn row(slave: &Slave, id: &str) -> Value {
    let ps = slave.ask_json("ps");
    let rows = ps["containers"].as_array().unwrap();
    rows.iter().find(|row| row["container_id"] == id).unwrap_or_else(|| panic!("{id} is not in {ps}")).clone()
}

#[test]
fn a_doctor_finds_a_working_engine_well() {
    let slave = Slave::new();
    let doctor = slave.ask_json("doctor");
    for part in
        ["program", "slave", "config", "user", "engine", "cgroups", "work_dir", "data_root", "registry", "state"]
    {
        assert!(!about(&doctor, part).is_empty(), "nothing about {part}: {doctor:#}");
    }
    for part in ["program", "engine", "state"] {
        assert!(about(&doctor, part).iter().all(|finding| finding["verdict"] != "problem"), "{doctor:#}");
    }
    assert!(about(&doctor, "engine")[0]["text"].as_str().unwrap().contains("API 1."), "{doctor:#}");
    let ran = slave.ask("doctor");
    let expected = if doctor["problems"] == 0 { 0 } else { 1 };
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(expected), ""));
    assert!(ran.text().lines().count() >= doctor["findings"].as_array().unwrap().len(), "{}", ran.text());
}

#[test]
fn a_doctor_says_what_to_do_about_an_engine_that_is_away_and_looks_at_the_rest() {
    let mut slave = Slave::new();
    slave.set("DOCKER_HOST", "unix:///no/such/engine.sock");
    let ran = slave.ask("doctor");
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.text().contains("PROBLEM  engine    cannot reach the Docker engine at unix:///no/such"),
        "{}",
        ran.text()
    );
    assert!(ran.text().contains("-> start dockerd") && ran.text().contains("work_dir"), "{}", ran.text());
}

#[test]
fn a_doctor_does_not_wait_for_an_engine_that_hangs() {
    let mut slave = Slave::new();
    let socket = slave.stage.files().join("engine.sock");
    let _listens = UnixListener::bind(&socket).unwrap();
    slave.set("DOCKER_HOST", &format!("unix://{}", socket.display()));
    let doctor = slave.ask_json("doctor");
    let engine = about(&doctor, "engine");
    assert!(engine[0]["text"].as_str().unwrap().contains("is dockerd hanging?"), "{doctor:#}");
    assert!(engine[0]["advice"].as_str().unwrap().contains("restart it"), "{doctor:#}");
}

#[test]
fn a_doctor_reads_the_configuration_and_the_credentials_that_it_names() {
    let mut slave = Slave::new();
    let file = |name: &str, text: &str| {
        let path = slave.stage.files().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good.json", r#"{"auths":{"r.example":{"auth":"dTpw"}}}"#);
    let no_json = file("none.json", "canary");
    let damaged = file("damaged.json", r#"{"auths":{"r.example":{"auth":"canary"}}}"#);
    let missing = slave.stage.files().join("missing.json").to_str().unwrap().to_owned();
    let wrong = file("wrong.toml", "[pull]\n\nsilence_limit = \"5\"\n");
    let config = file(
        "right.toml",
        &format!(
            "[credentials]\nfiles = [{good:?}, {no_json:?}, {damaged:?}, {missing:?}]\n[container]\nlimit_disk = \"always\"\n"
        ),
    );

    slave.set("LAUNCH_CONTAINERIZER_CONFIG", &config);
    let doctor = slave.ask_json("doctor");
    assert_eq!(about(&doctor, "config")[0]["verdict"], "ok", "{doctor:#}");
    let registry = about(&doctor, "registry");
    for (path, verdict) in [(&good, "ok"), (&no_json, "problem"), (&damaged, "problem"), (&missing, "warning")] {
        let finding = registry.iter().find(|finding| finding["text"].as_str().unwrap().contains(path.as_str()));
        assert_eq!(
            finding.unwrap_or_else(|| panic!("nothing about {path}: {doctor:#}"))["verdict"],
            verdict,
            "{doctor:#}"
        );
    }
    assert!(!doctor.to_string().contains("canary"), "{doctor:#}");

    slave.set("LAUNCH_CONTAINERIZER_CONFIG", &wrong);
    let ran = slave.ask("doctor");
    assert_eq!(ran.code, Some(1));
    let problem = format!("PROBLEM  config    the configuration {wrong} is wrong: \"5\" is not a time");
    assert!(ran.text().contains(&problem) && ran.text().contains("the slave does not start"), "{}", ran.text());
}

#[test]
fn without_a_work_directory_a_doctor_still_looks_and_the_others_ask_for_it() {
    let mut slave = Slave::new();
    slave.set("MESOS_WORK_DIRECTORY", "");
    let doctor = slave.ask_json("doctor");
    assert_eq!(about(&doctor, "work_dir")[0]["verdict"], "warning", "{doctor:#}");
    let ran = slave.ask("ps");
    assert!(ran.error().contains("--work-dir DIRECTORY"), "{ran:?}");
    let state = slave.state();
    let work = state.ancestors().nth(2).unwrap().display();
    assert_eq!(slave.ask(&format!("ps --work-dir {work}")).code, Some(0));
}

#[test]
fn ps_shows_how_each_container_stands() {
    let slave = Slave::new();
    let (running, ended) = (slave.container("running"), slave.container("ended"));
    launch_lasting(&running);
    ended.launch(&ended.custom_executor("exit 4"));
    ended.wait_for_supervisor();

    let shown = row(&slave, &running.id);
    assert_eq!(shown["standing"], "running");
    assert!(shown["image"].as_str().unwrap().starts_with(IMAGE), "{shown:#}");
    assert!(shown["memory_bytes"].as_u64() > Some(0) && shown["supervisor_pid"].as_u64() > Some(0), "{shown:#}");
    assert_eq!(shown["memory_limit_bytes"], 64 << 20);
    let shown = row(&slave, &ended.id);
    assert_eq!((&shown["standing"], &shown["state"]), (&"ended".into(), &"ended: exited with 4".into()));
    let table = slave.ask("ps");
    let heading = table.text().lines().next().unwrap();
    assert!(heading.starts_with("CONTAINER ID") && heading.ends_with("STATE"), "{heading}");
    assert_eq!(table.text().lines().count(), 3, "{}", table.text());

    running.kill_supervisor();
    assert_eq!(row(&slave, &running.id)["standing"], "unowned");
    ended.wait();
    running.destroy();
    assert_eq!(slave.ask_json("ps")["containers"], serde_json::json!([]));
}

#[test]
fn ps_needs_no_engine_for_what_is_remembered() {
    let mut slave = Slave::new();
    let id = {
        let container = slave.container("c1");
        launch_lasting(&container);
        container.id
    };
    slave.set("DOCKER_HOST", "unix:///no/such/engine.sock");
    assert_eq!(row(&slave, &id)["standing"], "running");
    let ran = slave.ask("ps");
    assert!(ran.code == Some(0) && ran.stderr.contains("only what is remembered is shown"), "{ran:?}");
    let container = slave.known(&id);
    container.destroy();
}

#[test]
fn inspect_tells_everything_but_secrets() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let mut message = container.custom_executor("sleep 1000; true");
    let variable = Variable { name: "TOKEN".into(), value: Some("canary-of-the-task".into()), ..Variable::default() };
    message.executor_info.as_mut().unwrap().command.as_mut().unwrap().environment =
        Some(proto::mesos::Environment { variables: vec![variable] });
    container.launch(&message);
    wait_until_running(&container);

    let by_prefix = slave.ask(&format!("inspect {}", &container.id[..container.id.len() - 3]));
    assert!(!by_prefix.text().contains("canary"), "{}", by_prefix.text());
    let shown: Value = serde_json::from_str(by_prefix.text()).unwrap();
    assert_eq!(shown["container_id"], container.id.as_str());
    assert_eq!(shown["sandbox"], container.sandbox.to_str().unwrap());
    let variables = &shown["launch"]["executor_info"]["command"]["environment"]["variables"];
    assert_eq!((&variables[0]["name"], &variables[0]["value"]), (&"TOKEN".into(), &"(hidden)".into()));
    assert!(shown["usage"]["mem_total_bytes"].as_u64() > Some(0), "{shown:#}");
    for name in [container.name(), shown["docker_id"].as_str().unwrap()[..12].to_owned()] {
        let again: Value = serde_json::from_str(slave.ask(&format!("inspect {name}")).text()).unwrap();
        assert_eq!(again["container_id"], container.id.as_str());
    }
    container.destroy();
    let gone = slave.ask(&format!("inspect {}", container.id));
    assert!(gone.error().contains("ps lists those that are"), "{gone:?}");
}

#[test]
fn gc_removes_only_what_nobody_can_ask_for() {
    let slave = Slave::new();
    let foreign = format!("launch-container-test-operator-{}", std::process::id());
    let created = Command::new("docker").args(["create", "--name", &foreign, IMAGE, "true"]).output().unwrap();
    assert!(created.status.success(), "{created:?}");
    let (running, lost, forgotten) =
        (slave.container("running"), slave.container("lost"), slave.container("forgotten"));
    for container in [&running, &lost, &forgotten] {
        launch_lasting(container);
    }
    // Its supervisor was killed, somebody removed the container, and the slave its sandbox.
    lost.kill_supervisor();
    slave.stage.engine().remove(&lost.name());
    std::fs::remove_dir_all(&lost.sandbox).unwrap();
    // Its supervisor was killed, its state directory is gone, and the container has ended.
    forgotten.kill_supervisor();
    std::fs::remove_dir_all(forgotten.state()).unwrap();
    slave.stage.engine().kill(&forgotten.name(), "KILL");
    let deadline = Instant::now() + Duration::from_secs(60);
    while row(&slave, &forgotten.id)["docker_status"].as_str().unwrap().starts_with("Up") {
        assert!(Instant::now() < deadline, "it does not end");
    }
    std::fs::create_dir(slave.state().join(".new-c2-1")).unwrap();

    let doctor = slave.ask_json("doctor");
    assert_eq!(about(&doctor, "state").iter().filter(|f| f["verdict"] == "warning").count(), 3, "{doctor:#}");

    let removed =
        |answer: &Value| answer["decisions"].as_array().unwrap().iter().filter(|d| d["is_removed"] == true).count();
    let careful = slave.ask_json("gc");
    assert_eq!(removed(&careful), 0, "all are younger than the grace: {careful:#}");
    let dry = slave.ask("gc --dry-run --grace=0s");
    assert!(dry.text().ends_with("would remove 3 of 4\n"), "{}", dry.text());
    assert!(lost.state().exists() && slave.stage.engine().has(&forgotten.name()));

    let done = slave.ask_json("gc --grace=0s");
    assert_eq!(removed(&done), 3, "{done:#}");
    assert_eq!(slave.remembered(), [running.id.as_str()]);
    assert!(!slave.stage.engine().has(&forgotten.name()));
    assert_eq!(row(&slave, &running.id)["standing"], "running");
    running.destroy();
    assert_eq!(slave.ask("gc --grace=0s").text(), "nothing of ours is here\n");
    let removed = Command::new("docker").args(["rm", &foreign]).output().unwrap();
    assert!(removed.status.success(), "the foreign container is still there");
}

#[test]
fn a_launch_in_the_foreground_tells_how_it_ended_and_leaves_nothing() {
    let slave = Slave::new();
    let container = slave.container("c1");
    // No agent is named, so that nobody would hand the task over.
    let ran = container.start("launch --foreground", &container.task("echo hello; exit 3")).finish();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.text().starts_with(&format!("container {}: exited with 3; ", container.id)), "{ran:?}");
    assert!(ran.stderr.contains("INFO"), "{ran:?}");
    assert_eq!(container.stdout(), b"hello\n");
    assert!(slave.remembered().is_empty());
}

#[test]
fn an_interrupt_stops_a_launch_in_the_foreground() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let started = container.pipe("started");
    let verb = container.start("launch --foreground", &container.custom_executor("echo > started; sleep 1000; true"));
    started.read();
    let pid = std::fs::read_to_string(container.state().join("lock")).unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ran = verb.finish();
    assert!(ran.code == Some(0) && ran.text().contains("exited with 1"), "{ran:?}");
}
