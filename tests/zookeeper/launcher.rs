//! The real binary finds its cluster through ZooKeeper, and keeps the password to itself.

use crate::harness::{IMAGE, Running, Stage};
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
