//! Masters, agents and networks that fail in the middle of a launch: the task is not disturbed, runs once, and its output arrives whole.

use std::fs;

use crate::cluster::start_cluster;
use crate::harness::{IMAGE, Launch, Running, Stage, Trick, Weather, Wire, read};
use crate::output::wait_for_file;

/// Counts its runs, says that it is up, and goes on when the test says so.
const STEPS: &str = "echo run >>/files/runs; echo up; touch /files/up; until [ -e /files/go ]; do sleep 0.05; done; \
                     seq 1000; echo done >&2; touch /files/done; exit 7";

/// A cluster that a launcher reaches over wires.
struct Network {
    cluster: Running,
    master: Wire,
    agent: Wire,
    stage: Stage,
}

impl Network {
    /// Heartbeats come every second, so silence is noticed within 1.25 seconds.
    fn start(options: &[&str]) -> Self {
        let stage = Stage::new();
        let (cluster, address) = start_cluster(&stage, &[&["--heartbeat-interval=1s"], options].concat());
        Self { cluster, master: Wire::to(&address), agent: Wire::to(&address), stage }
    }

    fn launch(&self, options: &[&str], script: &str) -> Launch {
        self.launch_at(self.master.address(), options, script)
    }

    fn launch_at(&self, master: &str, options: &[&str], script: &str) -> Launch {
        let (master, agent) = (format!("--master={master}"), format!("--agent-url=http://{}", self.agent.address()));
        let volume = format!("{}:/files", self.stage.files().display());
        let always = [&master, &agent, "--cpus=0.1", "--mem=32", "-v", &volume];
        self.stage
            .launcher([&always, options, &[IMAGE, script]].concat())
            .env("XDG_STATE_HOME", &self.stage.files().join("state").display().to_string())
    }

    fn go(&self) {
        fs::write(self.stage.files().join("go"), "").unwrap();
    }

    fn wait_for(&self, file: &str) {
        wait_for_file(&self.stage, file);
    }

    fn runs(&self) -> usize {
        read(&self.stage.files().join("runs")).split(|byte| *byte == b'\n').count() - 1
    }

    /// The launcher ends as if nothing had been.
    #[track_caller]
    fn expect_undisturbed(&self, launch: Running) {
        let ended = launch.finish();
        let numbers: String = (1..=1000).map(|number| format!("{number}\n")).collect();
        ended.expect_code(7).expect_stdout(format!("up\n{numbers}")).expect_words(&["done\n"]);
        assert_eq!(self.runs(), 1, "{}", ended.said());
    }

    fn end(self) {
        self.cluster.interrupt();
        self.cluster.finish();
    }
}

/// F5.
#[test]
fn a_partition_from_the_master_is_noticed_and_outlived_while_the_task_runs() {
    let network = Network::start(&[]);
    let launch = network.launch(&[], STEPS).start();
    launch.wait_for_stdout("up\n");
    network.master.turn(Weather::Frozen);
    // No connection broke: it is the heartbeat that is missed.
    launch.wait_for_stderr("trying again");
    // The end of the task is told to nobody, too.
    network.go();
    network.wait_for("done");
    network.master.turn(Weather::Open);
    network.expect_undisturbed(launch);
    network.end();
}

/// F5, at the worst moment: nobody knows whether the ACCEPT arrived.
#[test]
fn a_partition_around_the_accept_launches_nothing_twice() {
    let network = Network::start(&[]);
    network.master.play("touch /files/up", Trick::Hold);
    let launch = network.launch(&[], STEPS).start();
    network.master.wait_for_held();
    network.master.turn(Weather::Frozen);
    launch.wait_for_stderr("trying again");
    // It arrives while the launcher is cut off, or has another subscription already.
    network.master.release();
    network.master.turn(Weather::Open);
    launch.wait_for_stdout("up\n");
    network.go();
    network.expect_undisturbed(launch);
    network.end();
}

/// F10: the offer is gone when the ACCEPT comes.
#[test]
fn an_accept_that_is_late_by_a_whole_subscription_launches_nothing() {
    let network = Network::start(&[]);
    network.master.play("touch /files/up", Trick::Hold);
    let launch = network.launch(&[], STEPS).start();
    network.master.wait_for_held();
    network.master.cut();
    launch.wait_for_stderr("trying again");
    launch.wait_for_stdout("up\n");
    network.master.release();
    let answer = network.master.wait_for_late_answer();
    assert!(answer.contains(" 400 "), "{answer}");
    network.go();
    network.expect_undisturbed(launch);
    network.end();
}

/// F9, F10: its offer is used up when the second copy comes, and the master says so.
#[test]
fn an_accept_that_comes_twice_launches_once() {
    let network = Network::start(&[]);
    network.master.play("touch /files/up", Trick::Twice);
    let launch = network.launch(&[], STEPS).start();
    launch.wait_for_stdout("up\n");
    assert!(network.master.has_played());
    network.go();
    network.expect_undisturbed(launch);
    network.end();
}

/// F4: the way to the master leads over another one each time, as after an election.
#[test]
fn three_changes_of_the_leader_in_a_row_do_not_disturb_the_task() {
    let network = Network::start(&[]);
    let behind = network.master.address();
    let ways: Vec<Wire> = (0..4).map(|_| Wire::to(behind)).collect();
    ways[1..].iter().for_each(|way| way.turn(Weather::Gone));
    let list = ways.iter().map(Wire::address).collect::<Vec<_>>().join(",");
    let launch = network.launch_at(&list, &["--verbose"], STEPS).start();
    launch.wait_for_stdout("up\n");
    for change in 1..ways.len() {
        let before = ways[change].connections();
        ways[change].turn(Weather::Open);
        ways[change - 1].turn(Weather::Gone);
        ways[change].wait_for_connections(before);
    }
    network.go();
    network.expect_undisturbed(launch);
    network.end();
}

/// F4: nobody answers for a while, and then somebody does.
#[test]
fn a_master_that_is_away_for_a_while_is_waited_for() {
    let network = Network::start(&[]);
    let launch = network.launch(&[], STEPS).start();
    launch.wait_for_stdout("up\n");
    network.master.turn(Weather::Gone);
    launch.wait_for_stderr("trying again");
    network.go();
    network.wait_for("done");
    // Several attempts fail before one succeeds.
    network.master.wait_for_connections(network.master.connections() + 2);
    network.master.turn(Weather::Open);
    network.expect_undisturbed(launch);
    network.end();
}

/// F8: the task ends while nobody can read what it wrote; the launcher waits for it.
#[test]
fn output_is_whole_after_the_way_to_the_agent_was_down_while_the_task_ended() {
    for weather in [Weather::Frozen, Weather::Gone] {
        let network = Network::start(&[]);
        let launch = network.launch(&["--format=json"], STEPS).start();
        launch.wait_for_stdout("up\n");
        network.agent.turn(weather.clone());
        network.go();
        launch.wait_for_stderr("TASK_FAILED");
        if weather == Weather::Gone {
            network.agent.wait_for_connections(network.agent.connections() + 1);
        }
        network.agent.turn(Weather::Open);
        network.expect_undisturbed(launch);
        network.end();
    }
}

/// F8: the connections break again and again, and no byte comes twice or not at all.
#[test]
fn output_goes_on_at_the_byte_where_the_way_to_the_agent_broke() {
    let network = Network::start(&[]);
    let script = "until [ -e /files/go ]; do head -c 100000 /dev/urandom; sleep 0.05; done | tee /files/all";
    let launch = network.launch(&["--quiet"], script).start();
    for _ in 0..10 {
        let before = network.agent.connections();
        network.agent.cut();
        network.agent.wait_for_connections(before);
    }
    network.go();
    let ended = launch.finish();
    ended.expect_code(0).expect_stderr("");
    assert!(ended.stdout == read(&network.stage.files().join("all")), "{} bytes", ended.stdout.len());
    network.end();
}

/// F11.
#[test]
fn a_task_that_no_offer_fits_is_launched_when_one_does() {
    let network = Network::start(&["--resources=cpus:1;mem:256"]);
    let hog = network
        .launch(&["--quiet", "--cpus=0.9"], "touch /files/hog; until [ -e /files/free ]; do sleep 0.05; done")
        .start();
    network.wait_for("hog");
    let launch = network.launch(&["--cpus=0.5"], STEPS).start();
    launch.wait_for_stderr("cpus short by");
    fs::write(network.stage.files().join("free"), "").unwrap();
    hog.finish().expect_code(0);
    network.go();
    network.expect_undisturbed(launch);
    network.end();
}

/// F12: the credentials that were good are not any more.
#[test]
fn authentication_that_is_revoked_ends_the_launch_with_one_line() {
    let network = Network::start(&[]);
    let launch = network.launch(&["--quiet"], "echo up; sleep 60").start();
    launch.wait_for_stdout("up\n");
    network.master.turn(Weather::Saying("401 Unauthorized"));
    let ended = launch.finish();
    ended.expect_code(125).expect_one_line(&[network.master.address(), "401", "--principal", "--secret-file"]);
    network.end();
}

/// F12: somebody else uses the framework's id, then takes it down.
#[test]
fn a_framework_that_is_taken_over_and_removed_says_so() {
    let network = Network::start(&[]);
    let launch = network.launch(&["--format=json", "--run-id=mine"], "echo up; sleep 60").start();
    launch.wait_for_stdout("up\n");
    let said = String::from_utf8(launch.wait_for_stderr("TASK_RUNNING")).unwrap();
    let events = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let id = events.filter_map(|event| event["framework_id"].as_str().map(str::to_owned)).next().unwrap();
    take_over_and_remove(network.master.address(), &id);
    let ended = launch.finish();
    ended.expect_code(125).expect_words(&["another launcher took over", "let only one use it"]);

    let again = network.word(&["attach", "--quiet", "mine"]).run();
    again.expect_code(125).expect_one_line(&["has been removed", "launch again"]);
    network.end();
}

impl Network {
    fn word(&self, words: &[&str]) -> Launch {
        let state = self.stage.files().join("state").display().to_string();
        self.stage.launcher(words).env("XDG_STATE_HOME", &state)
    }
}

/// Another framework subscribes with this id, and tears it down.
fn take_over_and_remove(master: &str, id: &str) {
    use proto::http::{Client, ClientOptions, EventStream};
    use proto::mesos::{FrameworkId, FrameworkInfo};
    use proto::scheduler::{Call, Event, call};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::new(ClientOptions::default()).unwrap();
        let url = format!("http://{master}/api/v1/scheduler").parse().unwrap();
        let id = FrameworkId { value: id.to_owned() };
        let framework_info = FrameworkInfo {
            id: Some(id.clone()),
            user: "ada".to_owned(),
            name: "other".to_owned(),
            ..FrameworkInfo::default()
        };
        let subscribe = Call {
            framework_id: Some(id.clone()),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(Box::new(call::Subscribe { framework_info, ..call::Subscribe::default() })),
            ..Call::default()
        };
        let mut stream: EventStream<Event> = client.subscribe(&url, &subscribe).await.unwrap();
        stream.next().await.unwrap().expect("SUBSCRIBED");
        let teardown = Call { framework_id: Some(id), r#type: Some(call::Type::Teardown.into()), ..Call::default() };
        client.post(&url, &teardown, stream.stream_id()).await.unwrap();
    });
}
