//! What only a cluster of one's own can show: roles, attributes, many launchers at once, a master that goes away.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, Master, eventually};
use crate::harness::{IMAGE, Running};
use crate::transcript::Transcript;

const OLDEST: Master = Master::Mesos("1.8.1");
const NEWEST: Master = Master::Mesos("1.11.0");
const SMALL: [&str; 2] = ["--cpus=0.1", "--mem=32"];

#[test]
fn a_role_that_the_master_does_not_allow_is_named() {
    for master in [OLDEST, NEWEST] {
        let cluster = Cluster::start(master, &["roles=web"]);
        let ended = cluster.launcher(&["--role=web", "--quiet", IMAGE, "echo hello"]).run();
        ended.expect_code(0).expect_stdout("hello\n").expect_stderr("");
        let ended = cluster.launcher(&["--role=db", "--quiet", IMAGE, "echo hello"]).run();
        ended.expect_code(125).expect_stdout("").expect_one_line(&["db", "role"]);
    }
    // The embedded one allows any.
    let cluster = Cluster::start(Master::Local, &[]);
    let ended = cluster.launcher(&["--role=db", "--quiet", IMAGE, "echo hello"]).run();
    ended.expect_code(0).expect_stdout("hello\n").expect_stderr("");
}

#[test]
fn thirty_launchers_at_the_same_time_share_two_agents() {
    for master in [Master::Local, OLDEST, NEWEST] {
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
    for master in [Master::Local, OLDEST, NEWEST] {
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
fn resources_that_are_reserved_for_a_role_are_offered_to_it_only() {
    for master in [Master::Local, OLDEST, NEWEST] {
        let cluster =
            Cluster::start(master, &["resources=cpus(web):2;mem(web):512;disk(web):512;ports(web):[31000-31100]"]);
        let run = |options: &[&str]| {
            cluster.launcher(&[&SMALL[..], &["--quiet"], options, &[IMAGE, "echo hello"]].concat()).run()
        };
        run(&["--role=web"]).expect_code(0).expect_stdout("hello\n").expect_stderr("");
        run(&["--role=db", "--offer-timeout=2s"]).expect_code(124).expect_stdout("").expect_one_line(&["offer"]);
        run(&["--offer-timeout=2s"]).expect_code(124).expect_stdout("").expect_one_line(&["offer"]);
    }
}

#[test]
fn the_attributes_of_the_agent_are_told_with_the_launch() {
    for master in [Master::Local, OLDEST, NEWEST] {
        let cluster = Cluster::start(master, &["attributes=rack:r1;level:2.5;slots:[1-2,5-5]"]);
        let ended = cluster.launcher(&["--format=json", SMALL[0], SMALL[1], IMAGE, "true"]).run();
        let transcript = Transcript::of(&ended.expect_code(0).stderr);
        let attributes = transcript.field("launching", "attributes");
        assert_eq!((&attributes["rack"], &attributes["level"]), (&"r1".into(), &"2.5".into()), "on {master}");
        assert_eq!(attributes["slots"], "[1-2,5-5]", "on {master}");
    }
}

/// The tasks' end is their executors' work: nobody is left to ask for it, and no agent comes back.
#[test]
fn a_master_that_dies_is_told_and_the_launcher_can_be_left_or_leaves() {
    for master in [OLDEST, NEWEST] {
        let mut cluster = Cluster::start(master, &["recovery_timeout=5secs"]);
        let start = |options: &[&str]| {
            let launch = cluster.launcher(&[&SMALL[..], options, &[IMAGE, "echo up; sleep 300"]].concat()).start();
            launch.wait_for_stdout("up");
            launch
        };
        let patient = start(&["--format=json"]);
        let told = start(&["--format=json", "--reconnect-timeout=2s"]);
        let quiet = start(&["--quiet", "--reconnect-timeout=2s"]);
        for launch in [&patient, &told] {
            launch.wait_for_stderr("TASK_RUNNING");
        }
        let address = cluster.address().to_owned();
        cluster.mesos().stop();

        let lost = ["lost the master for 2s", &address, "connection refused", "the task may still run"];
        quiet.finish().expect_code(125).expect_stdout("up\n").expect_one_line(&lost);
        let ended = told.finish();
        ended.expect_code(125).expect_stdout("up\n");
        let transcript = Transcript::of(&ended.stderr);
        assert!(transcript.count("disconnected") > 0, "on {master}: {}", ended.said());
        assert_eq!(transcript.path().last().map(String::as_str), Some("end failed"), "on {master}: {}", ended.said());
        assert!(lost.iter().all(|words| transcript.message().contains(words)), "on {master}: {}", ended.said());

        patient.wait_for_stderr("\"event\":\"disconnected\"");
        patient.interrupt();
        patient.wait_for_stderr("\"event\":\"killing\"");
        patient.interrupt();
        patient.wait_for_stderr("\"grace\":0");
        patient.interrupt();
        patient.finish().expect_code(130).expect_stdout("up\n");

        // Without their agent executors give up after the recovery timeout; removing the containers would be the agent's work.
        let containers = cluster.containers();
        assert_eq!(containers.len(), 3, "on {master}: {containers:?}");
        for container in &containers {
            let stopped = eventually(|| {
                let state = &cluster.stage.engine().inspect(container)["State"];
                if state["Running"] == true { Err(format!("it runs on: {state}")) } else { Ok(()) }
            });
            stopped.unwrap();
            cluster.stage.engine().remove(container);
        }
    }
}
