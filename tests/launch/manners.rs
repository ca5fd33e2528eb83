//! The shapes in which the task's output comes out, and where it goes.

use std::fs;

use crate::cluster::start_cluster;
use crate::harness::{IMAGE, Reader, Stage, read};
use crate::output::volume;

#[test]
fn lines_have_tags_and_times_and_the_files_beside_are_exact() {
    let stage = Stage::new();
    let options =
        ["--quiet", "--name=web", "--tag={name}/{stream}", "--timestamps", "--line-buffer", "--output-dir=out/new"];
    let script = "printf 'one\\n\\ntwo'; printf 'err\\0\\377\\n' >&2; exit 3";
    let ended = stage.local(&options, &[script]).run();
    ended.expect_code(3);
    let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let dressed = bytes.split_inclusive(|byte| *byte == b'\n');
        dressed
            .map(|line| {
                let blank = line.iter().position(|byte| *byte == b' ').unwrap_or_else(|| panic!("{}", ended.said()));
                let time = std::str::from_utf8(&line[..blank]).unwrap();
                humantime::parse_rfc3339(time).unwrap_or_else(|error| panic!("{time}: {error}"));
                line[blank + 1..].to_vec()
            })
            .collect()
    };
    assert_eq!(lines(&ended.stdout), [&b"web/stdout\tone\n"[..], b"web/stdout\t\n", b"web/stdout\ttwo"]);
    assert_eq!(lines(&ended.stderr), [&b"web/stderr\terr\0\xff\n"[..]]);
    assert_eq!(read(&stage.files().join("out/new/stdout")), b"one\n\ntwo");
    assert_eq!(read(&stage.files().join("out/new/stderr")), b"err\0\xff\n");

    // What is there is nobody's to overwrite.
    let again = stage.local(&options, &["echo other"]).run();
    again.expect_code(125).expect_stdout("").expect_one_line(&["--output-dir", "out/new/stdout", "another directory"]);
    assert_eq!(read(&stage.files().join("out/new/stdout")), b"one\n\ntwo");
}

#[test]
fn what_is_not_wanted_does_not_come_out_and_codes_stay() {
    let stage = Stage::new();
    let script = "echo out; echo err >&2; exit 4";
    let run = |options: &[&str]| stage.local(&[&["--quiet"], options].concat(), &[script]).run();
    run(&["--no-stdout"]).expect_code(4).expect_stdout("").expect_stderr("err\n");
    run(&["--no-stderr"]).expect_code(4).expect_stdout("out\n").expect_stderr("");
    run(&["--no-stdout", "--no-stderr", "--output-dir=d"]).expect_code(4).expect_stdout("").expect_stderr("");
    assert_eq!(read(&stage.files().join("d/stdout")), b"out\n");
    assert_eq!(read(&stage.files().join("d/stderr")), b"err\n");
}

#[test]
fn a_reader_who_leaves_takes_nothing_from_the_files_beside() {
    let stage = Stage::new();
    let options = ["--output-dir=d", "-v", &volume(&stage)];
    let script = "seq 200000 | tee /data/all; exit 5";
    let ended = stage.local(&options, &[script]).stdout(Reader::LeavesAfter(10)).run();
    ended.expect_code(5).expect_stdout("1\n2\n3\n4\n5\n");
    assert!(read(&stage.files().join("d/stdout")) == read(&stage.files().join("all")));
}

#[test]
fn two_streams_on_one_terminal_do_not_mix_within_a_line() {
    let stage = Stage::new();
    let half = |text: &str| format!("for i in $(seq 300); do printf {text}{text}; printf '{text}\\n'; done");
    let script = format!("({}) & ({}) >&2; wait", half("aaa"), half("bbb"));
    let ended = stage.local(&["--quiet", "--line-buffer"], &[&script]).terminal(crate::harness::Terminal::Both).run();
    ended.expect_code(0);
    let text = String::from_utf8(ended.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 600, "{}", ended.said());
    assert!(text.lines().all(|line| line == "aaaaaaaaa" || line == "bbbbbbbbb"), "{}", ended.said());
}

/// Our own executor writes no such lines: the task does, to show what happens to them.
#[test]
fn lines_of_mesos_own_executors_are_cut_unless_all_is_wanted() {
    let stage = Stage::new();
    let (cluster, address) = start_cluster(&stage, &[]);
    let state = stage.files().join("state").display().to_string();
    let launch = |words: &[&str]| stage.launcher(words).env("XDG_STATE_HOME", &state).run();
    let master = format!("--master={address}");
    let run = |id: &str, options: &[&str], script: &str| {
        let id = format!("--run-id={id}");
        launch(&[&[&master, "--quiet", &id], options, &[IMAGE, script]].concat())
    };
    // The host as the agent calls itself.
    let told = run("host", &["--format=json"], "true");
    let said = String::from_utf8_lossy(&told.stderr);
    let host = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let host = host.filter_map(|event| event["hostname"].as_str().map(str::to_owned)).next().unwrap();
    let lines = |id: &str| format!("Registered docker executor on {host}\nStarting task {id}\n");
    let script = |id: &str| format!("printf '{}hello\\n'; exit 6", lines(id).replace('\n', "\\n"));

    run("cut", &[], &script("cut")).expect_code(6).expect_stdout("hello\n").expect_stderr("");
    run("raw", &["--raw"], &script("raw")).expect_code(6).expect_stdout(format!("{}hello\n", lines("raw")));
    run("other", &[], &script("cut")).expect_code(6).expect_stdout(format!("{}hello\n", lines("cut")));

    // Afterwards, too; and all of it is delivered, so nothing is left to come back to.
    launch(&["logs", "cut"]).expect_code(0).expect_stdout("hello\n");
    launch(&["logs", "--raw", "--tag=t", "cut"])
        .expect_code(0)
        .expect_stdout(format!("t\tRegistered docker executor on {host}\nt\tStarting task cut\nt\thello\n"));
    launch(&["attach", "cut"]).expect_code(6).expect_stdout("").expect_words(&["has ended before"]);
    launch(&["logs", "--output-dir=copy", "--no-stdout", "cut"]).expect_code(0).expect_stdout("");
    assert_eq!(fs::read(stage.files().join("copy/stdout")).unwrap(), b"hello\n");
    cluster.interrupt();
    cluster.finish();
}
