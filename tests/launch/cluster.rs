//! The embedded cluster: inside the launcher, with several agents, and in the foreground for others.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{IMAGE, LAUNCH_LIMIT, Running, Stage, closed_port};

#[test]
fn a_cluster_in_the_foreground_serves_other_launchers() {
    let stage = Stage::new();
    let (cluster, address) = start_cluster(&stage, &[]);
    for master in [address.clone(), format!("http://{address}"), format!("{},{address}", closed_port())] {
        let ended =
            stage.launcher([format!("--master={master}").as_str(), "--quiet", IMAGE, "echo hello; exit 6"]).run();
        ended.expect_code(6).expect_stdout("hello\n").expect_stderr("");
    }
    let ended = stage.launcher(["--quiet", IMAGE, "echo by environment"]).env("MESOS_MASTER", &address).run();
    ended.expect_code(0).expect_stdout("by environment\n");
    cluster.interrupt();
    let ended = cluster.finish();
    assert!(matches!(ended.code, Some(0 | 130)), "{}", ended.said());
}

#[test]
fn a_cluster_that_ends_takes_its_tasks_with_it() {
    let stage = Stage::new();
    let (cluster, address) = start_cluster(&stage, &[]);
    let options = [&format!("--master={address}"), "--connect-timeout=2s", IMAGE, "echo up; sleep 60"];
    let launch = stage.launcher(options).start();
    launch.wait_for_stdout("up");
    cluster.interrupt();
    cluster.finish();
    let ended = launch.finish();
    // Either the end of the task is still told, or only that of the connection.
    match ended.code {
        Some(137) => ended.expect_stdout("up\n"),
        _ => ended.expect_code(125).expect_words(&[&address]),
    };
}

#[test]
fn several_agents_share_one_host() {
    let stage = Stage::new();
    let ended = stage.launcher(["--master=local[2]", "--quiet", IMAGE, "echo hello; exit 6"]).run();
    ended.expect_code(6).expect_stdout("hello\n").expect_stderr("");
}

#[test]
fn several_launchers_use_one_cluster_at_the_same_time() {
    let stage = Stage::new();
    let (cluster, address) = start_cluster(&stage, &["--agents=3"]);
    let master = format!("--master={address}");
    let launches: Vec<Running> = (0..6)
        .map(|number| {
            let script = format!("echo task {number}; exit {number}");
            stage.launcher([&master, "--quiet", "--cpus=0.1", "--mem=32", IMAGE, &script]).start()
        })
        .collect();
    for (number, launch) in launches.into_iter().enumerate() {
        launch.finish().expect_code(i32::try_from(number).unwrap()).expect_stdout(format!("task {number}\n"));
    }
    cluster.interrupt();
    cluster.finish();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let stage = Stage::new();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let ended = stage.launcher(["local", "--port", &port]).run();
    ended.expect_code(125).expect_stdout("").expect_one_line(&[&port]);
}

/// Whoever can run programs on this machine reaches the cluster of a launcher, and cannot use it.
#[test]
fn the_cluster_of_a_launcher_is_its_own() {
    const TOKEN: &str = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN=";
    let stage = Stage::new();
    let launch =
        stage.local(&["--format=json", "--verbose", "--verbose", "--verbose"], &["env; echo up; sleep 60"]).start();
    let stdout = String::from_utf8(launch.wait_for_stdout("up")).unwrap();
    assert!(!stdout.contains(TOKEN), "{stdout}");
    let said = String::from_utf8(launch.wait_for_stderr("TASK_RUNNING")).unwrap();
    let address = said.rsplit("127.0.0.1:").find_map(|rest| {
        let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (!port.is_empty()).then(|| format!("127.0.0.1:{port}"))
    });
    let address = address.unwrap_or_else(|| panic!("no address in {said}"));

    let foreign = stage.launcher([&format!("--master={address}"), "--quiet", IMAGE, "echo mine"]).run();
    foreign.expect_code(125).expect_stdout("").expect_one_line(&[&address, "401"]);

    // The executor's token is the only one that leaves the launcher, by the environment of its processes.
    let processes = stage.processes();
    let tokens: BTreeSet<&str> = processes
        .iter()
        .flat_map(|process| &process.environment)
        .filter_map(|variable| variable.strip_prefix(TOKEN))
        .collect();
    let token = tokens.first().unwrap_or_else(|| panic!("no token among {} processes", processes.len()));
    assert_eq!((tokens.len(), token.len()), (1, 64), "{tokens:?}");
    assert!(processes.iter().all(|process| !process.arguments.contains(token)));
    let container = stage.engine().inspect(&stage.running_container()).to_string();
    assert!(!container.contains(token), "{container}");

    launch.interrupt();
    let ended = launch.finish();
    assert!(!ended.said().contains(token), "{}", ended.said());
}

#[test]
fn a_cluster_in_the_foreground_lets_in_whom_it_is_told_to() {
    let stage = Stage::new();
    let secret = stage.private_file("secret", "canary\n");
    let both = stage.private_file("both", r#"{"principal": "ada", "secret": "canary"}"#);
    let wrong = stage.private_file("wrong", "wr0ng");
    let (cluster, address) = start_cluster(&stage, &["--principal=ada", &format!("--secret-file={secret}")]);
    let master = format!("--master={address}");
    let run = |words: &[&str]| {
        let words = [&[master.as_str(), "--quiet"], words, &[IMAGE, "echo hello; exit 6"]].concat();
        stage.launcher(words).run()
    };
    let right = format!("--secret-file={secret}");
    run(&["--principal=ada", &right]).expect_code(6).expect_stdout("hello\n").expect_stderr("");
    run(&[&format!("--secret-file={both}")]).expect_code(6).expect_stdout("hello\n").expect_stderr("");
    let missing = run(&[]);
    missing.expect_code(125).expect_stdout("").expect_one_line(&[&address, "401", "--principal", "--secret-file"]);
    let refused = run(&["--principal=ada", &format!("--secret-file={wrong}")]);
    refused.expect_code(125).expect_one_line(&[&address, "\"ada\"", "401", "--secret-file"]);
    let refused = run(&["--principal=eve", &right]);
    refused.expect_code(125).expect_one_line(&[&address, "\"eve\"", "401"]);

    cluster.interrupt();
    let ended = cluster.finish();
    ended.expect_stderr("");
    assert!(!ended.said().contains("canary"), "{}", ended.said());
}

/// Three agents of different racks, sizes and disks.
const ATTRIBUTES: [&str; 3] = [
    "--attributes=rack:r1;cores:16;disks:{hdd}",
    "--attributes=rack:r2;cores:4;disks:{ssd,hdd}",
    "--attributes=rack:r3;cores:8",
];

#[test]
fn constraints_choose_the_agent() {
    let stage = Stage::new();
    let (cluster, address) = start_cluster(&stage, &[&["--agents=3"], &ATTRIBUTES[..]].concat());
    let master = format!("--master={address}");
    let rack = |constraints: &[&str]| {
        let words = [&[master.as_str(), "--format=json"], constraints, &[IMAGE, "true"]].concat();
        let ended = stage.launcher(words).run();
        ended.expect_code(0);
        let said = String::from_utf8(ended.stderr).unwrap();
        let events = said.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let launching =
            events.filter(|event| event["event"] == "launching").map(|event| event["attributes"]["rack"].clone());
        launching.map(|rack| rack.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (constraints, expected) in [
        (&["--constraint=rack==r2"][..], "r2"),
        (&["--constraint=rack!=r1", "--constraint=cores>4"], "r3"),
        (&["--constraint=rack=~r[13]", "--constraint=cores>=16"], "r1"),
        (&["--constraint=rack!~r[12]"], "r3"),
        (&["--constraint=rack in (r2,r9)"], "r2"),
        (&["--constraint=rack not in (r1,r2)"], "r3"),
        (&["--constraint=disks==ssd"], "r2"),
        (&["--constraint=disks not exists"], "r3"),
        (&["--constraint=disks exists", "--prefer=cores>10"], "r1"),
        (&["--prefer=rack==r3"], "r3"),
        (&["--prefer=rack==r9", "--constraint=cores<5"], "r2"),
    ] {
        assert_eq!(rack(constraints), [expected], "{constraints:?}");
    }
    // What no agent has is waited for, and told.
    let words =
        [master.as_str(), "--constraint=rack==r1", "--constraint=cores<16", "--offer-timeout=3s", IMAGE, "true"];
    stage
        .launcher(words)
        .run()
        .expect_code(124)
        .expect_stdout("")
        .expect_words(&["3 agents offered", "not rack==r1 on 2 agents"]);
    cluster.interrupt();
    cluster.finish();
}

#[test]
fn an_open_cluster_says_so() {
    let stage = Stage::new();
    let (cluster, address) = start_cluster(&stage, &[]);
    cluster.interrupt();
    cluster.finish().expect_one_line(&["every user of this machine", &address, "--secret-file"]);
}

/// `launch-container local` on a free port, and its address as HOST:PORT.
pub(crate) fn start_cluster(stage: &Stage, options: &[&str]) -> (Running, String) {
    let cluster = stage.launcher(["local", "--port=0"].iter().chain(options)).limit(LAUNCH_LIMIT * 5).start();
    let said = String::from_utf8(cluster.wait_for_stdout("\n")).unwrap();
    let address = said.split_whitespace().find_map(|word| word.find("127.0.0.1:").map(|at| word[at..].to_owned()));
    let address = address.unwrap_or_else(|| panic!("no address in {said:?}"));
    (cluster, address.trim_end_matches(|last: char| !last.is_ascii_digit()).to_owned())
}

/// How many frameworks the master at this address has.
pub(crate) fn frameworks(address: &str) -> usize {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /state HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let state: serde_json::Value = serde_json::from_str(body).unwrap();
    state["frameworks"].as_array().unwrap().len()
}
