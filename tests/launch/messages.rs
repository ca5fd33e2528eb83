//! What the launcher itself says: on stderr, never on stdout, and as JSON where a program listens.

use crate::harness::Stage;

#[test]
fn help_and_version_are_answers() {
    let stage = Stage::new();
    let help = stage.launcher(["--help"]).run();
    help.expect_code(0).expect_stderr("");
    let text = String::from_utf8(help.stdout).unwrap();
    for word in ["--master", "--publish", "Exit codes", "IMAGE"] {
        assert!(text.contains(word), "{text}");
    }
    let version = stage.launcher(["--version"]).run();
    version.expect_code(0).expect_stdout(format!("launch-container {}\n", env!("CARGO_PKG_VERSION"))).expect_stderr("");
}

#[test]
fn quiet_says_nothing_when_all_goes_well() {
    let stage = Stage::new();
    stage.local(&["--quiet"], &["exit 5"]).run().expect_code(5).expect_stdout("").expect_stderr("");
}

#[test]
fn json_tells_every_event_in_an_object_of_its_own() {
    let stage = Stage::new();
    let ended = stage.local(&["--format=json"], &["echo hello; exit 3"]).run();
    ended.expect_code(3).expect_stdout("hello\n");
    let text = String::from_utf8(ended.stderr.clone()).unwrap();
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    assert!(events.len() > 3 && events.iter().all(serde_json::Value::is_object), "{text}");
    let last = events.last().unwrap().to_string();
    assert!(last.contains("\"exited\"") && last.contains('3'), "{last}");
}

#[test]
fn json_tells_a_launcher_that_failed_from_a_task_that_exits_with_the_same_code() {
    let stage = Stage::new();
    for (options, cmd, kind) in
        [(&[][..], "exit 125", "\"exited\""), (&["--docker-param=no-such-option=1"], "true", "\"failed\"")]
    {
        let options: Vec<&str> = ["--format=json"].into_iter().chain(options.iter().copied()).collect();
        let ended = stage.local(&options, &[cmd]).run();
        ended.expect_code(125);
        let text = String::from_utf8(ended.stderr.clone()).unwrap();
        assert!(text.lines().last().unwrap().contains(kind), "{text}");
    }
}

#[test]
fn the_launcher_says_what_it_waits_for() {
    let stage = Stage::new();
    let launch = stage.local(&["--cpus=1000"], &["true"]).start();
    launch.wait_for_stderr("cpus short by");
    launch.interrupt();
    launch.finish().expect_code(130).expect_stdout("");
}
