//! Master and agents are stopped and started again under running tasks, which are not disturbed.

use crate::cluster::{Cluster, Master, eventually};
use crate::harness::{IMAGE, LiveRestore, PrivateEngine, Running};
use crate::transcript::Transcript;

const VERSIONS: [&str; 2] = ["1.8.1", "1.11.0"];
const SMALL: [&str; 3] = ["--format=json", "--cpus=0.1", "--mem=32"];

/// Both speak while nobody is there to hear them; one ends then, too.
#[test]
fn tasks_outlive_a_restart_of_master_and_agents_and_what_they_say_meanwhile_is_not_lost() {
    for version in VERSIONS {
        let mut cluster = Cluster::start(Master::Mesos(version), &[]);
        let files = cluster.files("restart");
        let volume = format!("{}:/data", files.display());
        let start = |script: &str| {
            let launch = cluster.launcher(&[&SMALL[..], &["-v", &volume, IMAGE, script]].concat()).start();
            launch.wait_for_stdout("one\n");
            launch.wait_for_stderr("TASK_RUNNING");
            launch
        };
        let speak = "echo one; until [ -e /data/go ]; do sleep 0.1; done; seq 20000; seq 20000 >&2; ";
        let stays =
            start(&format!("{speak} echo >/data/spoken; until [ -e /data/end ]; do sleep 0.1; done; echo two; exit 7"));
        let [container] = cluster.containers().try_into().unwrap();
        let pid = cluster.stage.engine().inspect(&container)["State"]["Pid"].clone();
        let ends = start(&format!("{speak} exit 8"));
        let ending = cluster.containers().into_iter().find(|id| *id != container).unwrap();

        cluster.mesos().stop();
        for launch in [&stays, &ends] {
            launch.wait_for_stderr("\"event\":\"disconnected\"");
        }
        std::fs::write(files.join("go"), "").unwrap();
        let spoken = eventually(|| match &cluster.stage.engine().inspect(&ending)["State"]["Running"] {
            running if *running == false && files.join("spoken").exists() => Ok(()),
            running => Err(format!("the tasks are not there yet, running: {running}")),
        });
        spoken.unwrap();
        cluster.mesos().start_again();
        stays.wait_for_stderr("\"is_again\":true");
        let state = cluster.stage.engine().inspect(&container)["State"].clone();
        assert_eq!((&state["Running"], &state["Pid"]), (&true.into(), &pid), "on {version} it is another process");
        std::fs::write(files.join("end"), "").unwrap();

        let said: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
        for (launch, code, last) in [(stays, 7, "two\n"), (ends, 8, "")] {
            expect_undisturbed(launch, code, &format!("one\n{said}{last}"), said.as_bytes(), version);
        }
    }
}

fn expect_undisturbed(launch: Running, code: i32, stdout: &str, stderr: &[u8], version: &str) {
    let ended = launch.finish();
    ended.expect_code(code).expect_stdout(stdout);
    let transcript = Transcript::of(&ended.stderr);
    assert!(transcript.stderr == stderr, "on {version} stderr is another one: {}", ended.said());
    let path = transcript.path();
    let last = path.iter().rev().take(2).rev().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(last, ["TASK_FAILED", "end exited"], "on {version}: {path:?}");
    assert_eq!(transcript.field("end", "exit_code"), code);
    assert_eq!(transcript.count("launching"), 1, "on {version}: {path:?}");
}

/// As agents have it by default, `--docker_kill_orphans`. That ends every container `mesos-...` of the engine which the agent does
/// not know, so the engine is the test's own, and has one agent.
#[test]
fn a_restarted_agent_finds_its_container_by_name_and_removes_orphans() {
    let engine = PrivateEngine::start(LiveRestore::On);
    let socket = format!("docker_socket={}", engine.socket().display());
    for version in VERSIONS {
        let flags = ["docker_kill_orphans=true", &socket];
        let mut cluster = Cluster::with_agents(1, Master::Mesos(version), &flags);
        let go = cluster.files("orphans");
        let volume = format!("{}:/data", go.display());
        let script = "echo one; until [ -e /data/go ]; do sleep 0.1; done; echo two; exit 7";
        // This engine has no bridge.
        let options = ["--network=none", "-v", &volume, IMAGE, script];
        let launch = cluster.launcher(&[&SMALL[..], &options].concat()).start();
        launch.wait_for_stdout("one\n");
        launch.wait_for_stderr("TASK_RUNNING");
        let own = engine.names();
        assert!(own.starts_with("mesos-") && own.lines().count() == 1, "on {version}: {own}");
        let process = || engine.docker(&["inspect", "--format", "{{.State.Running}} {{.State.Pid}}", &own]);
        let before = process();

        cluster.mesos().stop();
        launch.wait_for_stderr("\"event\":\"disconnected\"");
        let orphan = "mesos-15ad8155-3391-427d-9024-0836a81a7c82";
        engine.docker(&["run", "--detach", "--network=none", "--name", orphan, IMAGE, "sleep", "600"]);
        engine.docker(&["run", "--detach", "--network=none", "--name", "stranger", IMAGE, "sleep", "600"]);
        cluster.mesos().start_again();
        // An agent that is active has recovered.
        let names: Vec<String> = engine.names().lines().map(str::to_owned).collect();
        assert!(!names.contains(&orphan.to_owned()), "on {version} the orphan is there: {names:?}");
        assert!(names.contains(&own) && names.contains(&"stranger".to_owned()), "on {version}: {names:?}");
        assert_eq!(process(), before, "on {version} it is another process");
        launch.wait_for_stderr("\"is_again\":true");

        std::fs::write(go.join("go"), "").unwrap();
        expect_undisturbed(launch, 7, "one\ntwo\n", b"", version);
        let removed = eventually(|| match engine.names() {
            names if names == "stranger" => Ok(()),
            names => Err(format!("containers left: {names}")),
        });
        removed.unwrap();
        engine.docker(&["rm", "--force", "stranger"]);
    }
}
