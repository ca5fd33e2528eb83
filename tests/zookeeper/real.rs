//! A real master in ZooKeeper, written there as masters of either generation do, and its task on a real agent.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::harness::{Detour, IMAGE, Mesos, Running, Stage};
use crate::server::{Contender, ZooKeeper};

const SMALL: [&str; 2] = ["--cpus=0.1", "--mem=32"];

/// Agents remove containers after they have told the end.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// Keeps nodes in ZooKeeper while the test waits for a launcher.
struct Background {
    handle: Handle,
    _until_dropped: oneshot::Sender<()>,
}

impl Background {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (until_dropped, dropped) = oneshot::channel();
        std::thread::spawn(move || runtime.block_on(dropped));
        Self { handle, _until_dropped: until_dropped }
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }
}

#[test]
fn a_real_master_is_found_in_either_generation_of_nodes() {
    let (zookeeper, background, stage) = (ZooKeeper::start(&[]), Background::start(), Stage::new());
    let mesos = Mesos::start(&stage, "1.11.0", 1, &[]);
    let master = format!("--master={}", zookeeper.url("/mesos"));
    for contender in [Contender::json(mesos.address()), Contender::protobuf(mesos.address())] {
        let contending = background.block_on(contender.join(&zookeeper, "/mesos"));
        let words = [&[master.as_str(), "--quiet"], &SMALL[..], &[IMAGE, "echo hello; echo err >&2; exit 6"]].concat();
        stage.launcher(words).run().expect_code(6).expect_stdout("hello\n").expect_stderr("err\n");
        background.block_on(contending.leave());
    }
    stage.wait_until_no_container(SETTLES_WITHIN);
}

/// One master, as its launcher sees it: leads at one address, then at another, goes, and comes back.
#[test]
fn a_task_on_real_mesos_outlives_the_changes_of_its_leader() {
    for version in ["1.8.1", "1.11.0"] {
        let (zookeeper, background, stage) = (ZooKeeper::start(&[]), Background::start(), Stage::new());
        let mut mesos = Mesos::start(&stage, version, 1, &[]);
        let join = |contender: Contender| background.block_on(contender.join(&zookeeper, "/mesos"));
        let files = stage.files();
        let (master, volume) = (format!("--master={}", zookeeper.url("/mesos")), format!("{}:/data", files.display()));
        let script = "echo one; until [ -e /data/go ]; do sleep 0.1; done; seq 1000; echo >/data/spoken; \
                      until [ -e /data/end ]; do sleep 0.1; done; echo two; exit 7";
        let words = [&[master.as_str(), "--format=json"], &SMALL[..], &["-v", &volume, IMAGE, script]].concat();

        // The first leader is dead, and then gone.
        let dead = join(Contender::json(&crate::server::closed_port()));
        let detour = Detour::to(mesos.address().to_owned());
        let first = join(Contender::protobuf(detour.address()));
        let second = join(Contender::json(mesos.address()));
        let launch = stage.launcher(words).start();
        launch.wait_for_stderr("connection refused");
        background.block_on(dead.leave());
        launch.wait_for_stdout("one\n");
        launch.wait_for_stderr("TASK_RUNNING");
        assert_eq!(subscribed_at(&launch), [detour.address()], "with {version}");

        // The next one takes over.
        background.block_on(first.leave());
        drop(detour);
        wait_for(|| subscribed_at(&launch).len() >= 2);
        assert_eq!(subscribed_at(&launch).last().map(String::as_str), Some(mesos.address()), "with {version}");

        // Nobody leads for a while, in which the task speaks.
        background.block_on(second.leave());
        mesos.stop();
        launch.wait_for_stderr("no master leads");
        std::fs::write(files.join("go"), "").unwrap();
        wait_for(|| files.join("spoken").exists());
        mesos.start_again();
        let _third = join(Contender::protobuf(mesos.address()));
        wait_for(|| subscribed_at(&launch).len() >= 3);
        std::fs::write(files.join("end"), "").unwrap();

        let said: String = (1..=1000).map(|number| format!("{number}\n")).collect();
        launch.finish().expect_code(7).expect_stdout(format!("one\n{said}two\n"));
        stage.wait_until_no_container(SETTLES_WITHIN);
    }
}

/// Where the launcher has subscribed, one after the other.
fn subscribed_at(launch: &Running) -> Vec<String> {
    let said = String::from_utf8(launch.wait_for_stderr("")).unwrap();
    let events = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    events
        .filter(|event| event["event"] == "subscribed")
        .map(|event| event["master"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn wait_for(is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + crate::LIMIT;
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "it has not come after {:?}", crate::LIMIT);
        std::thread::sleep(Duration::from_millis(20));
    }
}
