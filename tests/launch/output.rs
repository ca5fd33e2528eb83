//! What the task writes arrives byte for byte, on the stream it was written to.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::harness::{Reader, Stage, read};

/// Time for 200 MB through every part of the chain, on two busy cores.
const BULK_LIMIT: Duration = Duration::from_secs(180);

#[test]
fn stdout_and_stderr_are_kept_apart() {
    let stage = Stage::new();
    let ended = stage.local(&["--quiet"], &["echo out; echo err >&2; printf more; printf 'no newline' >&2"]).run();
    ended.expect_code(0).expect_stdout("out\nmore").expect_stderr("err\nno newline");
}

#[test]
fn a_hundred_megabytes_on_each_stream_arrive_unchanged() {
    let stage = Stage::new();
    let script =
        "head -c 104857600 /dev/urandom | tee /data/out & head -c 104857600 /dev/urandom | tee /data/err >&2; wait";
    let ended = stage.local(&["--quiet", "-v", &volume(&stage)], &[script]).limit(BULK_LIMIT).run();
    ended.expect_code(0);
    for (name, received) in [("out", &ended.stdout), ("err", &ended.stderr)] {
        let written = read(&stage.files().join(name));
        assert_eq!(written.len(), 104_857_600);
        assert_eq!(received.len(), written.len(), "{name}");
        assert!(Sha256::digest(received) == Sha256::digest(&written), "{name} differs");
    }
}

#[test]
fn bytes_that_are_no_text_arrive_unchanged() {
    let stage = Stage::new();
    let all: Vec<u8> = (0..=255).collect();
    let odd = b"\xff\xfe half of a character: \xe2\x82 \r\n \x1b[31m \\u00ff \\n \"quoted\" \0\0";
    for (name, bytes) in [("all", all.as_slice()), ("odd", odd)] {
        fs::write(stage.files().join(name), bytes).unwrap();
        let script = format!("cat /data/{name}; cat /data/{name} >&2");
        let ended = stage.local(&["--quiet", "-v", &volume(&stage)], &[&script]).run();
        ended.expect_code(0).expect_stdout(bytes).expect_stderr(bytes);
    }
}

#[test]
fn a_line_of_ten_megabytes_is_one_line() {
    let stage = Stage::new();
    let ended = stage.shell("head -c 10485760 /dev/zero | tr '\\0' x");
    ended.expect_code(0);
    assert_eq!(ended.stdout.len(), 10_485_760);
    assert!(ended.stdout.iter().all(|byte| *byte == b'x'));
}

#[test]
fn a_task_that_says_nothing_leaves_stdout_empty() {
    let stage = Stage::new();
    stage.local(&["--quiet"], &["true"]).run().expect_code(0).expect_stdout("").expect_stderr("");
}

#[test]
fn output_is_there_while_the_task_runs() {
    let stage = Stage::new();
    let launch = stage
        .local(&["-v", &volume(&stage)], &["echo one; until [ -e /data/go ]; do sleep 0.05; done; echo two"])
        .start();
    assert_eq!(launch.wait_for_stdout("one\n"), b"one\n");
    fs::write(stage.files().join("go"), "").unwrap();
    launch.finish().expect_code(0).expect_stdout("one\ntwo\n");
}

#[test]
fn output_after_a_silence_is_told_by_the_executor_while_the_task_runs() {
    let stage = Stage::new();
    let script = "sleep 2; echo one; until [ -e /data/go ]; do sleep 0.05; done";
    let launch = stage.local(&["--verbose", "--verbose", "-v", &volume(&stage)], &[script]).start();
    // Looking from time to time would find the output, but never say this.
    launch.wait_for_stderr("the executor tells of output; the tail looks at once");
    launch.wait_for_stdout("one\n");
    fs::write(stage.files().join("go"), "").unwrap();
    launch.finish().expect_code(0).expect_stdout("one\n");
}

#[test]
fn a_reader_that_stalls_loses_nothing_and_costs_no_memory() {
    const SIZE: usize = 64 << 20;
    let stage = Stage::new();
    let script = format!("head -c {SIZE} /dev/urandom | tee /data/out; touch /data/done");
    let launch =
        stage.local(&["--quiet", "-v", &volume(&stage)], &[&script]).stdout(Reader::Stalled).limit(BULK_LIMIT).start();
    // The task is not held up by a reader on the user's machine.
    wait_for_file(&stage, "done");
    let peak = peak_memory_kilobytes(launch.pid());
    assert!(peak < 48 << 10, "the launcher took {peak} kB while nobody read");
    launch.read_on();
    let ended = launch.finish();
    ended.expect_code(0);
    assert!(ended.stdout == read(&stage.files().join("out")), "{} bytes of {SIZE}", ended.stdout.len());
}

#[test]
fn a_reader_that_leaves_does_not_end_the_task() {
    let stage = Stage::new();
    let script = "seq 100000; touch /data/after; exit 5";
    let ended = stage.local(&["-v", &volume(&stage)], &[script]).stdout(Reader::LeavesAfter(10)).run();
    ended.expect_code(5).expect_stdout("1\n2\n3\n4\n5\n");
    assert!(stage.files().join("after").exists());
}

#[test]
fn a_reader_of_stderr_that_never_comes_does_not_keep_the_task_from_its_end() {
    let stage = Stage::new();
    let script = "trap 'touch /data/bye; exit 3' TERM; head -c 1048576 /dev/zero >&2; while :; do sleep 0.1; done";
    for format in ["--format=text", "--format=json"] {
        let launch = stage.local(&[format, "-v", &volume(&stage)], &[script]).stderr(Reader::Absent).start();
        launch.wait_for_full_stderr();
        launch.signal(Signal::TERM);
        launch.finish().expect_code(143).expect_stdout("");
        fs::remove_file(stage.files().join("bye")).expect("the task was asked to end");
        stage.assert_nothing_left();
    }
}

#[test]
fn a_reader_of_stderr_that_comes_back_has_lost_nothing() {
    const SIZE: usize = 1 << 20;
    let stage = Stage::new();
    let script = format!(
        "trap 'echo bye >&2; touch /data/bye; exit 3' TERM; head -c {SIZE} /dev/zero | tr '\\0' Z >&2; \
         while :; do sleep 0.1; done"
    );
    let launch = stage.local(&["-v", &volume(&stage)], &[&script]).stderr(Reader::Stalled).start();
    launch.wait_for_full_stderr();
    launch.signal(Signal::TERM);
    // Nobody has read a byte, and the task is told nevertheless.
    wait_for_file(&stage, "bye");
    launch.read_on();
    let ended = launch.finish();
    ended.expect_code(143).expect_words(&["launch-container: ending the task", "bye\n"]);
    assert_eq!(ended.stderr.iter().filter(|byte| **byte == b'Z').count(), SIZE);
}

pub(crate) fn volume(stage: &Stage) -> String {
    format!("{}:/data", stage.files().display())
}

pub(crate) fn wait_for_file(stage: &Stage, name: &str) {
    let deadline = Instant::now() + BULK_LIMIT;
    while !stage.files().join(name).exists() {
        assert!(Instant::now() < deadline, "the task never wrote {name}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The most memory that a process had so far.
fn peak_memory_kilobytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn output_that_a_full_disk_does_not_take_is_no_success() {
    let stage = Stage::new();
    for (script, code) in [("echo hello", 125), ("echo hello; exit 3", 3)] {
        let ended = stage.local(&["--quiet"], &[script]).stdout_to(Path::new("/dev/full")).run();
        ended.expect_code(code).expect_words(&["6 bytes", "No space left on device"]);
    }
}
