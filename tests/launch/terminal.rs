//! On a terminal: one line of ours that changes, and is not there any more when the task's bytes are.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Reader, Stage, Terminal};
use crate::output::{volume, wait_for_file};

/// Begins when the test says so.
const GO: &str = "until [ -e /data/go ]; do sleep 0.05; done;";

#[test]
fn the_changing_line_is_gone_when_output_starts() {
    let stage = Stage::new();
    let script = format!("{GO} echo one; echo two >&2; exit 3");
    let launch = stage.local(&["-v", &volume(&stage)], &[&script]).terminal(Terminal::Both).start();
    launch.wait_for_stderr("running on");
    fs::write(stage.files().join("go"), "").unwrap();
    let ended = launch.finish();
    ended.expect_code(3);
    let mut lines = screen(&ended.stderr);
    lines.sort();
    assert_eq!(lines, ["one", "two"], "{}", ended.said());
    let text = String::from_utf8_lossy(&ended.stderr);
    let first = text.find("one\r\n").unwrap().min(text.find("two\r\n").unwrap());
    assert_eq!(text[first..].len(), "one\r\ntwo\r\n".len(), "something comes between or behind; {}", ended.said());
}

#[test]
fn the_changing_line_is_gone_at_the_end_of_a_task_that_says_nothing() {
    let stage = Stage::new();
    let launch = stage.local(&["-v", &volume(&stage)], &[GO.trim_end_matches(';')]).terminal(Terminal::Both).start();
    launch.wait_for_stderr("running on");
    fs::write(stage.files().join("go"), "").unwrap();
    let ended = launch.finish();
    ended.expect_code(0);
    assert_eq!(screen(&ended.stderr), [] as [&str; 0], "{}", ended.said());
}

#[test]
fn stdout_that_goes_elsewhere_has_nothing_of_the_changing_line() {
    let stage = Stage::new();
    let script = format!("{GO} printf 'a\\0\\377b'");
    let launch = stage.local(&["-v", &volume(&stage)], &[&script]).terminal(Terminal::Stderr).start();
    launch.wait_for_stderr("running on");
    fs::write(stage.files().join("go"), "").unwrap();
    let ended = launch.finish();
    ended.expect_code(0).expect_stdout(b"a\0\xffb");
    assert_eq!(screen(&ended.stderr), [] as [&str; 0], "{}", ended.said());
}

#[test]
fn why_a_launch_failed_stays_on_the_terminal() {
    let stage = Stage::new();
    let ended = stage.local(&["--cpus=1000", "--offer-timeout=2s"], &["true"]).terminal(Terminal::Both).run();
    ended.expect_code(124).expect_words(&["waiting for an offer"]);
    let text = screen(&ended.stderr).concat();
    assert!(text.starts_with("launch-container: ") && text.contains("1000"), "{text:?}; {}", ended.said());
}

#[test]
fn a_terminal_that_is_gone_does_not_end_the_task() {
    let stage = Stage::new();
    let script = format!("echo up; {GO} seq 1000; touch /data/after; exit 5");
    let launch = stage.local(&["-v", &volume(&stage)], &[&script]);
    let launch = launch.terminal(Terminal::Both).stderr(Reader::LeavesAt("up")).start();
    launch.wait_for_stderr("up");
    fs::write(stage.files().join("go"), "").unwrap();
    launch.finish().expect_code(5);
    assert!(stage.files().join("after").exists());
}

#[test]
fn a_terminal_that_stands_still_does_not_keep_the_task_from_its_end() {
    let stage = Stage::new();
    let script = "trap 'touch /data/bye; exit 3' TERM; head -c 1048576 /dev/zero; touch /data/written; \
                  while :; do sleep 0.1; done";
    let launch = stage.local(&["-v", &volume(&stage)], &[script]);
    let launch = launch.terminal(Terminal::Both).stderr(Reader::Absent).start();
    wait_for_file(&stage, "written");
    launch.signal(Signal::TERM);
    launch.finish().expect_code(143);
    assert!(stage.files().join("bye").exists());
}

#[test]
fn the_hang_up_of_the_launchers_own_terminal_ends_the_task() {
    let stage = Stage::new();
    let script = "trap 'touch /data/bye; exit 3' TERM; echo up; while :; do sleep 0.1; done";
    let launch = stage.local(&["-v", &volume(&stage)], &[script]);
    let ended = launch.terminal(Terminal::Controlling).stderr(Reader::LeavesAt("up")).run();
    ended.expect_code(129);
    assert!(stage.files().join("bye").exists());
}

/// The README shows one screen after another, as a camera would.
#[test]
fn a_terminal_shows_what_the_readme_shows() {
    let readme = include_str!("../../README.md");
    let recording =
        readme.split("```text\n").find(|block| block.starts_with("$ launch-container")).expect("a recording");
    let recording = recording.split("```").next().unwrap();
    let mut shown = recording.lines();
    let command = shown.next().unwrap();
    let script = command.split('\'').nth(1).expect("a script in quotes");

    let stage = Stage::new();
    let ended = stage.local(&[], &[script]).terminal(Terminal::Both).run();
    ended.expect_code(3);
    // Each picture of the changing line begins with its erasure, and with a sign that turns.
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let pictures = said.split("\r\u{1b}[2K").flat_map(|picture| picture.split("\r\n")).map(plain);
    let mut pictures = pictures.collect::<Vec<_>>().into_iter();
    for line in shown {
        let line = plain(line);
        assert!(pictures.any(|picture| picture == line), "{line:?} does not come in its turn; {}", ended.said());
    }
    assert_eq!(screen(&ended.stderr), ["before", "after"], "{}", ended.said());
}

/// Without the sign that turns.
fn plain(picture: &str) -> String {
    picture.trim_end().trim_start_matches(['|', '/', '-', '\\', ' ']).to_owned()
}

/// What a person sees in the end: lines that are not empty, after all movements of the cursor.
fn screen(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = vec![Vec::new()];
    let (mut row, mut column) = (0, 0);
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\r' => column = 0,
            '\n' => row += 1,
            '\x1b' => {
                assert_eq!(rest.next(), Some('['), "an unknown sequence in {text:?}");
                let mut number = String::new();
                let command = loop {
                    match rest.next() {
                        Some(digit) if digit.is_ascii_digit() => number.push(digit),
                        command => break command,
                    }
                };
                let count: usize = number.parse().unwrap_or(1);
                match command {
                    Some('A') => row -= count,
                    Some('B') => row += count,
                    Some('C') => column += count,
                    Some('D') => column -= count,
                    Some('K') => lines[row].clear(),
                    other => panic!("an unknown command {other:?} in {text:?}"),
                }
            }
            other => {
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = other;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    let lines = lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}
