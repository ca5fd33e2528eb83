//! What only a cluster of one's own can show: roles, attributes, many launchers at once, a master that goes away.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, Master, eventually};
use crate::harness::{IMAGE, Running};
use crate::transcript::Transcript;

const NEWEST: Master = Master::Mesos("1.11.0");
const SMALL: [&str; 2] = ["--cpus=0.1", "--mem=32"];

#[test]
fn a_role_that_the_master_does_not_allow_is_named() {
    for master in [Master::Mesos("1.8.1"), NEWEST] {
        let cluster = Cluster::start(master, &["roles=web"]);
        let ended = cluster.launcher(&["--role=web", "--quiet", IMAGE, "echo hello"]).run();
        ended.expect_code(0).expect_stdout("hello\n").expect_stderr("");
        let ended = cluster.launcher(&["--role=db", "--quiet", IMAGE, "echo hello"]).run();
        ended.expect_code(125).expect_stdout("").expect_one_line(&["db", "role"]);
    }
}

#[test]
fn thirty_launchers_at_the_same_time_share_two_agents() {
    for master in [Master::Local, NEWEST] {
        let cluster = Cluster::start(master, &[]);
        let launches: Vec<Running> = (0..30)
            .map(|number| {
                let script = format!("echo task {number}; exit {number}");
                cluster.launcher(&["--format=json", SMALL[0], SMALL[1], IMAGE, &script]).start()
            })
            .collect();
        let mut agents = BTreeSet::new();
        for (number, launch) in launches.into_iter().enumerate() {
            let ended = launch.finish();
            ended.expect_code(i32::try_from(number).unwrap()).expect_stdout(format!("task {number}\n"));
            agents.insert(Transcript::of(&ended.stderr).field("launching", "agent_id").to_string());
        }
        assert_eq!(agents.len(), 2, "on {master} only {agents:?} were used");
    }
}

#[test]
fn a_task_waits_while_others_hold_the_resources_and_says_what_is_missing() {
    for master in [Master::Local, Master::Mesos("1.8.1"), NEWEST] {
        let cluster = Cluster::start(master, &[]);
        let files = cluster.files("held");
        let volume = format!("{}:/data", files.display());
        let hold = "echo up; until [ -e /data/go ]; do sleep 0.1; done";
        let holders: Vec<Running> = (0..2)
            .map(|_| cluster.launcher(&["--quiet", "--cpus=4", "--mem=64", "-v", &volume, IMAGE, hold]).start())
            .collect();
        for holder in &holders {
            holder.wait_for_stdout("up");
        }
        let launch = cluster.launcher(&["--format=json", "--cpus=1", "--mem=32", IMAGE, "echo mine"]).start();
        launch.wait_for_stderr("cpus");
        std::fs::write(files.join("go"), "").unwrap();
        for holder in holders {
            holder.finish().expect_code(0).expect_stdout("up\n");
        }
        let ended = launch.finish();
        ended.expect_code(0).expect_stdout("mine\n");
        let transcript = Transcript::of(&ended.stderr);
        let reasons = transcript.field("waiting", "reasons").to_string();
        assert!(transcript.count("waiting") > 0 && ended.said().contains("cpus short by"), "on {master}: {reasons}");
    }
}

#[test]
fn the_attributes_of_the_agent_are_told_with_the_launch() {
    for master in [Master::Mesos("1.8.1"), NEWEST] {
        let cluster = Cluster::start(master, &["attributes=rack:r1;level:2.5;slots:[1-2,5-5]"]);
        let ended = cluster.launcher(&["--format=json", SMALL[0], SMALL[1], IMAGE, "true"]).run();
        let transcript = Transcript::of(&ended.expect_code(0).stderr);
        let attributes = transcript.field("launching", "attributes");
        assert_eq!((&attributes["rack"], &attributes["level"]), (&"r1".into(), &"2.5".into()), "on {master}");
        assert_eq!(attributes["slots"], "[1-2,5-5]", "on {master}");
    }
}

/// The task's end is its executor's work: nobody is left to ask for it, and no agent comes back.
#[test]
fn a_master_that_dies_is_told_and_the_launcher_can_be_left() {
    let mut cluster = Cluster::start(NEWEST, &["recovery_timeout=5secs"]);
    let launch = cluster.launcher(&["--format=json", SMALL[0], SMALL[1], IMAGE, "echo up; sleep 300"]).start();
    launch.wait_for_stdout("up");
    launch.wait_for_stderr("TASK_RUNNING");
    cluster.mesos().stop();
    launch.wait_for_stderr("\"event\":\"disconnected\"");
    launch.interrupt();
    launch.wait_for_stderr("\"event\":\"killing\"");
    launch.interrupt();
    launch.wait_for_stderr("\"grace\":0");
    launch.interrupt();
    launch.finish().expect_code(130).expect_stdout("up\n");

    // Without its agent the executor gives up after the recovery timeout; removing the container would be the agent's work.
    let containers = cluster.containers();
    assert_eq!(containers.len(), 1, "{containers:?}");
    let stopped = eventually(|| {
        let state = &cluster.stage.engine().inspect(&containers[0])["State"];
        if state["Running"] == true { Err(format!("it runs on: {state}")) } else { Ok(()) }
    });
    stopped.unwrap();
    cluster.stage.engine().remove(&containers[0]);
}
