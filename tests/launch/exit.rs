//! The task's exit code is the command's exit code.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::Stage;

#[test]
fn before_and_after_come_as_they_are_said() {
    let stage = Stage::new();
    let launch = stage.local(&[], &["echo before && sleep 2 && echo after"]).start();
    assert_eq!(launch.wait_for_stdout("before"), b"before\n");
    launch.finish().expect_code(0).expect_stdout("before\nafter\n");
}

#[test]
fn the_code_of_the_task_is_the_code_of_the_launcher() {
    let stage = Stage::new();
    stage.shell("exit 7").expect_code(7).expect_stdout("");
    stage.local(&[], &["/bin/false"]).run().expect_code(1);
    stage.local(&[], &["/bin/sh", "-c", "exit 9"]).run().expect_code(9);
}

#[test]
fn all_256_codes_pass_through() {
    let stage = Stage::new();
    in_parallel(256, |code| {
        let ended = stage.local(&["--cpus=0.1", "--mem=32", "--quiet"], &[&format!("exit {code}")]).run();
        ended.expect_code(i32::try_from(code).unwrap()).expect_stdout("");
    });
}

#[test]
fn a_task_that_is_killed_by_a_signal_gives_128_and_the_signal() {
    let stage = Stage::new();
    stage.shell("kill -9 $$").expect_code(137);
    stage.shell("kill -TERM $$").expect_code(143);
    stage.shell("kill -SEGV $$").expect_code(139);
}

#[test]
fn a_first_process_that_is_killed_from_outside_gives_128_and_the_signal() {
    let stage = Stage::new();
    let launch = stage.local(&[], &["echo up; sleep 60"]).start();
    launch.wait_for_stdout("up");
    stage.engine().kill(&stage.running_container(), "SIGKILL");
    launch.finish().expect_code(137).expect_stdout("up\n");
}

#[test]
fn two_hundred_tasks_of_a_few_milliseconds_lose_no_byte() {
    let stage = Stage::new();
    in_parallel(200, |_| {
        stage.local(&["--cpus=0.1", "--mem=32", "--quiet"], &["printf x"]).run().expect_code(0).expect_stdout("x");
    });
}

/// Runs `one` for 0 to `count`, a few at a time; a failure of one fails the test.
fn in_parallel(count: usize, one: impl Fn(usize) + Sync) {
    const WORKERS: usize = 4;
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= count {
                        break;
                    }
                    one(number);
                }
            });
        }
    });
}
