//! The real binary finds its cluster through ZooKeeper, and keeps the password to itself.

use std::collections::VecDeque;

use crate::harness::{IMAGE, Running, Stage, Weather, Wire};
use crate::server::{Contender, Permission, ZooKeeper};

const FAILED: i32 = 125;

#[test]
fn a_task_runs_on_the_cluster_that_leads() {
    let zookeeper = ZooKeeper::start(&[]);
    let stage = Stage::new();
    let (cluster, address) = start_cluster(&stage);
    register(&zookeeper, Contender::json(&address));

    let url = zookeeper.url("/mesos").replacen("zk://", "zk://me:canary@", 1);
    let file = stage.files().join("master");
    std::fs::write(&file, &url).unwrap();
    for master in [url.clone(), format!("file://{}", file.display())] {
        let ended =
            stage.launcher([format!("--master={master}").as_str(), "--quiet", IMAGE, "echo hello; exit 6"]).run();
        ended.expect_code(6).expect_stdout("hello\n").expect_stderr("");
    }
    let ended =
        stage.launcher(["--verbose", "--verbose", "--verbose", IMAGE, "echo hello"]).env("MESOS_MASTER", &url).run();
    ended.expect_code(0).expect_stdout("hello\n").expect_words(&[&address]);
    assert!(!ended.said().contains("canary"), "{}", ended.said());

    cluster.interrupt();
    cluster.finish();
}

#[test]
fn what_keeps_the_leader_from_us_is_said_in_one_line() {
    let zookeeper = ZooKeeper::start(&[]);
    let stage = Stage::new();
    let run = |master: &str| {
        let master = format!("--master={master}");
        stage.launcher([master.as_str(), "--quiet", "--connect-timeout=3s", IMAGE, "true"]).run()
    };
    let url = zookeeper.url("/mesos");
    run(&url).expect_code(FAILED).expect_stdout("").expect_one_line(&["no /mesos in ZooKeeper", &zookeeper.address()]);

    register(&zookeeper, Contender::json("127.0.0.1:1").by("me:right", Permission::CreatorOnly));
    let ended = run(&url.replacen("zk://", "zk://me:canary@", 1));
    ended.expect_code(FAILED).expect_stdout("").expect_one_line(&["does not let", "/mesos"]);
    assert!(!ended.said().contains("canary"), "{}", ended.said());

    let ended = run("zk://me:canary@127.0.0.1:2181");
    ended.expect_code(FAILED).expect_one_line(&["zk://127.0.0.1:2181", "path"]);
    assert!(!ended.said().contains("canary"), "{}", ended.said());
}

/// F4: masters are voted out one after the other while a task runs; behind all of them is one cluster, as after real elections.
#[test]
fn three_elections_in_a_row_do_not_disturb_a_task() {
    let zookeeper = ZooKeeper::start(&[]);
    let stage = Stage::new();
    let (cluster, address) = start_cluster(&stage);
    let masters: Vec<Wire> = (0..4).map(|_| Wire::to(&address)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut contending: VecDeque<_> = masters
        .iter()
        .map(|master| runtime.block_on(Contender::json(master.address()).join(&zookeeper, "/mesos")))
        .collect();
    let volume = format!("{}:/files", stage.files().display());
    let script = "echo run >>/files/runs; echo up; until [ -e /files/go ]; do sleep 0.05; done; seq 1000; exit 7";
    let url = format!("--master={}", zookeeper.url("/mesos"));
    let launch = stage.launcher([url.as_str(), "-v", &volume, IMAGE, script]).start();
    launch.wait_for_stdout("up\n");
    for pair in masters.windows(2) {
        let before = pair[1].connections();
        // A master that is voted out ends itself.
        runtime.block_on(contending.pop_front().unwrap().leave());
        pair[0].turn(Weather::Gone);
        pair[1].wait_for_connections(before);
    }
    std::fs::write(stage.files().join("go"), "").unwrap();
    let ended = launch.finish();
    let numbers: String = (1..=1000).map(|number| format!("{number}\n")).collect();
    ended.expect_code(7).expect_stdout(format!("up\n{numbers}"));
    assert_eq!(crate::harness::read(&stage.files().join("runs")), b"run\n", "{}", ended.said());
    cluster.interrupt();
    cluster.finish();
}

/// For as long as the server lives: nothing here keeps a session.
fn register(zookeeper: &ZooKeeper, contender: Contender) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(contender.that_stays().join(zookeeper, "/mesos"));
}

/// `launch-container local` on a free port, and its address as HOST:PORT.
fn start_cluster(stage: &Stage) -> (Running, String) {
    let cluster = stage.launcher(["local", "--port=0"]).start();
    let said = String::from_utf8(cluster.wait_for_stdout("\n")).unwrap();
    let address = said.split_whitespace().find_map(|word| word.find("127.0.0.1:").map(|at| word[at..].to_owned()));
    let address = address.unwrap_or_else(|| panic!("no address in {said:?}"));
    (cluster, address.trim_end_matches(|last: char| !last.is_ascii_digit()).to_owned())
}
