//! Ctrl-C, SIGTERM and time limits end the task, keep its last words, and leave nothing behind.

use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::{frameworks, start_cluster};
use crate::harness::{Gate, IMAGE, Registry, Server, Stage};

/// Says "up", and "bye" when it is asked to end.
const POLITE: &str = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done";
/// Says "up", and does not listen.
const STUBBORN: &str = "trap 'echo no' TERM; echo up; while :; do sleep 0.1; done";

#[test]
fn the_first_interrupt_asks_the_task_to_end_and_keeps_its_last_words() {
    let stage = Stage::new();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let launch = stage.local(&[], &[POLITE]).start();
        launch.wait_for_stdout("up");
        launch.signal(signal);
        launch.finish().expect_code(code).expect_stdout("up\nbye\n");
    }
}

#[test]
fn the_grace_period_ends_a_task_that_does_not_listen() {
    let stage = Stage::new();
    let launch = stage.local(&["--kill-grace=1s"], &[STUBBORN]).start();
    launch.wait_for_stdout("up");
    launch.interrupt();
    let ended = launch.finish();
    ended.expect_code(130).expect_stdout("up\nno\n");
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
}

#[test]
fn the_second_interrupt_does_not_wait_for_the_grace_period() {
    let stage = Stage::new();
    let launch = stage.local(&["--kill-grace=1h"], &[STUBBORN]).start();
    launch.wait_for_stdout("up");
    launch.interrupt();
    launch.wait_for_stdout("no");
    launch.interrupt();
    launch.finish().expect_code(130).expect_stdout("up\nno\n");
}

#[test]
fn the_third_interrupt_leaves_at_once() {
    // What runs on is ended by its executor, which sees that its agent is gone.
    let stage = Stage::new().settling_within(Duration::from_secs(30));
    let launch = stage.local(&["--kill-grace=1h", "--format=json"], &[STUBBORN]).start();
    launch.wait_for_stdout("up");
    // One after the other is seen: signals of one kind that are pending at the same time are one signal.
    for seen in [r#""why":"interrupted","grace":3600.0"#, r#""why":"interrupted","grace":0.0"#] {
        launch.interrupt();
        launch.wait_for_stderr(seen);
    }
    launch.interrupt();
    launch.finish().expect_code(130);
}

#[test]
fn a_cluster_that_waits_for_a_silent_engine_can_be_left() {
    // A verb that was asking the engine ends at its own deadline.
    let stage = Stage::new().settling_within(Duration::from_secs(30));
    let engine = Server::silent();
    let engine = format!("tcp://{}", engine.address());
    let launch = stage.local(&["--format=json"], &["true"]).env("DOCKER_HOST", &engine).start();
    launch.wait_for_stderr(r#""event":"subscribed""#);
    launch.interrupt();
    launch.wait_for_stderr(r#""event":"end""#);
    launch.interrupt();
    launch.finish().expect_code(130).expect_stdout("").expect_words(&["left before the cluster", "directory"]);
    // What it left is cleared away by the next one.
    stage.local(&[], &["echo next"]).run().expect_code(0).expect_stdout("next\n");
}

#[test]
fn an_interrupt_before_any_offer_fits_ends_at_once() {
    let stage = Stage::new();
    let launch = stage.local(&["--cpus=1000"], &["true"]).start();
    launch.wait_for_stderr("cpus");
    launch.interrupt();
    let ended = launch.finish();
    ended.expect_code(130).expect_stdout("");
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
}

#[test]
fn an_interrupt_before_an_offer_fits_takes_the_framework_down() {
    let stage = Stage::new();
    let (cluster, address) = start_cluster(&stage, &[]);
    let master = format!("--master={address}");
    let launch = stage.launcher([master.as_str(), "--cpus=1000", IMAGE, "true"]).start();
    launch.wait_for_stderr("cpus");
    assert_eq!(frameworks(&address), 1);
    launch.interrupt();
    launch.finish().expect_code(130).expect_stdout("");
    assert_eq!(frameworks(&address), 0);
    cluster.interrupt();
    cluster.finish();
}

#[test]
fn an_interrupt_while_the_master_does_not_answer_leaves_no_framework() {
    let stage = Stage::new();
    let (cluster, address) = start_cluster(&stage, &[]);
    let gate = Gate::before(&address);
    let master = format!("--master={}", gate.address());
    let launch = stage.launcher([master.as_str(), IMAGE, "true"]).start();
    gate.wait_for_arrival();
    launch.interrupt();
    // Now the master registers a framework whose launcher is on its way out.
    gate.open();
    launch.finish().expect_code(130).expect_stdout("");
    assert_eq!(frameworks(&address), 0);
    cluster.interrupt();
    cluster.finish();
}

#[test]
fn an_interrupt_while_no_master_answers_ends_the_launcher() {
    let stage = Stage::new();
    let (cluster, address) = start_cluster(&stage, &[]);
    let gate = Gate::before(&address);
    let master = format!("--master={}", gate.address());
    let launch = stage.launcher([master.as_str(), IMAGE, "true"]).start();
    gate.wait_for_arrival();
    launch.interrupt();
    launch.finish().expect_code(130).expect_stdout("");
    assert_eq!(frameworks(&address), 0);
    cluster.interrupt();
    cluster.finish();
}

#[test]
fn an_interrupt_during_a_pull_ends_it() {
    let stage = Stage::new();
    let registry = Registry::stalling();
    let launch = stage.launcher(["--master=local", "--kill-grace=1h", &registry.image(), "true"]).start();
    registry.wait_for_pull();
    launch.interrupt();
    launch.finish().expect_code(130).expect_stdout("");
}

#[test]
fn an_interrupt_at_any_moment_of_the_start_leaves_nothing_behind() {
    let stage = Stage::new();
    for delay in [0, 5, 10, 20, 40, 80, 120, 160, 200, 250, 300, 350, 400] {
        let launch = stage.local(&["--kill-grace=0s"], &["sleep 60"]).start();
        std::thread::sleep(Duration::from_millis(delay));
        launch.interrupt();
        let ended = launch.finish();
        // Before it has set up its handlers, the signal just ends it.
        assert!(ended.code == Some(130) || ended.signal == Some(2), "after {delay} ms: {}", ended.said());
        stage.assert_nothing_left();
    }
}

#[test]
fn a_time_limit_ends_the_task() {
    let stage = Stage::new();
    let ended = stage.local(&["--timeout=1s"], &[POLITE]).run();
    ended.expect_code(124).expect_stdout("up\nbye\n").expect_words(&["1s"]);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
}

#[test]
fn a_time_limit_that_is_not_reached_changes_nothing() {
    let stage = Stage::new();
    stage.local(&["--timeout=1h", "--offer-timeout=1h"], &["exit 4"]).run().expect_code(4);
}

#[test]
fn signals_are_passed_on_to_the_task_when_asked_for() {
    const LISTENER: &str = "trap 'echo hup' HUP; trap 'echo usr1' USR1; trap 'echo usr2; exit 9' USR2; echo up; \
                            while :; do sleep 0.1; done";
    let stage = Stage::new();
    let launch = stage.local(&["--signal-proxy", "--quiet"], &[LISTENER]).start();
    launch.wait_for_stdout("up");
    for (signal, word) in [(Signal::USR1, "usr1"), (Signal::HUP, "hup")] {
        launch.signal(signal);
        launch.wait_for_stdout(word);
    }
    launch.signal(Signal::USR2);
    launch.finish().expect_code(9).expect_stdout("up\nusr1\nhup\nusr2\n").expect_stderr("");
}
