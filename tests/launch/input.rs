//! `--interactive`: the task reads what the launcher reads, byte for byte, to its end.

use std::fs::{self, File};
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::harness::Stage;

/// Time for 50 MB through every part of the chain, on two busy cores.
const BULK_LIMIT: Duration = Duration::from_secs(180);

#[test]
fn fifty_megabytes_reach_the_task_unchanged() {
    let stage = Stage::new();
    let mut bytes = vec![0; 50 << 20];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    let path = stage.files().join("input");
    fs::write(&path, &bytes).unwrap();
    let launch = stage.local(&["-i", "--quiet"], &["sha256sum; cat | wc -c"]).limit(BULK_LIMIT);
    let ended = launch.stdin(File::open(&path).unwrap()).run();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    ended.expect_code(0).expect_stdout(format!("{digest}  -\n0\n")).expect_stderr("");
}

#[test]
fn input_that_is_empty_ends_at_once() {
    let stage = Stage::new();
    stage.local(&["-i", "--quiet"], &["wc -c; exit 3"]).run().expect_code(3).expect_stdout("0\n").expect_stderr("");
}

#[test]
fn a_task_that_reads_a_part_and_ends_ends_the_launch() {
    let stage = Stage::new();
    let launch = stage.local(&["-i", "--quiet"], &["head -c 100000 | wc -c; exit 4"]);
    let ended = launch.stdin(File::open("/dev/zero").unwrap()).run();
    ended.expect_code(4).expect_stdout("100000\n").expect_stderr("");
}

#[test]
fn a_task_that_closes_its_input_goes_on() {
    let stage = Stage::new();
    let script = "head -c 10 | wc -c; exec <&-; sleep 1; echo closed";
    let ended = stage.local(&["-i", "--quiet"], &["sh", "-c", script]).stdin(File::open("/dev/zero").unwrap()).run();
    ended.expect_code(0).expect_stdout("10\nclosed\n").expect_stderr("");
}

#[test]
fn what_is_typed_is_answered_and_the_task_may_end_before_its_input() {
    let stage = Stage::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let script = "read a; echo got $a; read b; echo and $b; exit 5";
    let running = stage.local(&["-i", "--quiet"], &[script]).stdin(Stdio::from(reader)).start();
    writer.write_all(b"one\n").unwrap();
    running.wait_for_stdout("got one\n");
    writer.write_all(b"two\n").unwrap();
    let ended = running.finish();
    ended.expect_code(5).expect_stdout("got one\nand two\n").expect_stderr("");
    drop(writer);
}

#[test]
fn input_that_cannot_be_read_ends_the_task() {
    let stage = Stage::new();
    let ended = stage.local(&["-i", "--quiet"], &["cat"]).stdin(File::open("/").unwrap()).run();
    ended.expect_code(125);
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(text.contains("cannot read standard input: Is a directory"), "{text}");
}

#[test]
fn input_does_not_go_with_a_run_that_outlives_its_launcher() {
    let stage = Stage::new();
    for option in ["--detach", "--run-id=x"] {
        let ended = stage.local(&["-i", option], &["cat"]).run();
        ended.expect_code(125);
        let text = String::from_utf8_lossy(&ended.stderr);
        assert!(text.contains("--interactive is not possible with --"), "{text}");
    }
}
