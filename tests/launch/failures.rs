//! What cannot work ends with the documented code and one line that says why; nothing is left behind.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use prost::Message as _;
use proto::mesos::FrameworkId;
use proto::recordio;
use proto::scheduler::{Event, event};

use crate::harness::{IMAGE, Server, Stage, closed_port};

const FAILED: i32 = 125;
const TIMED_OUT: i32 = 124;

#[test]
fn an_unknown_image_is_named() {
    let stage = Stage::new();
    let image = "launch-container/no-such-image:1";
    let ended = stage.launcher(["--master=local", "--quiet", image, "true"]).run();
    ended.expect_code(FAILED).expect_stdout("").expect_one_line(&[image]);
}

#[test]
fn an_engine_that_does_not_answer_is_named() {
    let stage = Stage::new();
    for address in ["unix:///nonexistent/docker.sock".to_owned(), format!("tcp://{}", closed_port())] {
        let ended = stage.local(&["--quiet"], &["true"]).env("DOCKER_HOST", &address).run();
        let path = address.split("//").nth(1).unwrap();
        ended.expect_code(FAILED).expect_stdout("").expect_one_line(&["Docker", path]);
    }
}

#[test]
fn a_master_that_is_not_there_is_named() {
    let stage = Stage::new();
    let address = closed_port();
    let options = [&format!("--master={address}"), "--quiet", "--connect-timeout=2s", IMAGE, "true"];
    stage.launcher(options).run().expect_code(FAILED).expect_stdout("").expect_one_line(&[&address]);
}

#[test]
fn a_server_that_is_no_mesos_master_is_told_apart() {
    let stage = Stage::new();
    for (status, body) in
        [("404 Not Found", "no such page"), ("200 OK", "<html>It works!</html>"), ("405 Method Not Allowed", "")]
    {
        let server = Server::answering(status, body);
        let master = format!("--master={}", server.address());
        let ended = stage.launcher([master.as_str(), "--quiet", "--connect-timeout=5s", IMAGE, "true"]).run();
        ended.expect_code(FAILED).expect_stdout("").expect_one_line(&[server.address(), "Mesos"]);
    }
}

#[test]
fn a_server_that_says_nothing_does_not_hang_the_launcher() {
    let stage = Stage::new();
    let server = Server::silent();
    let master = format!("--master={}", server.address());
    let ended = stage.launcher([master.as_str(), "--quiet", "--connect-timeout=2s", IMAGE, "true"]).run();
    ended.expect_code(FAILED).expect_one_line(&[server.address()]);
    assert!(ended.took < Duration::from_secs(15), "{:?}", ended.took);
}

/// A master that sends this on the stream of whoever subscribes, and takes every other call.
fn master_that_sends(records: Vec<u8>) -> Server {
    Server::handling(move |connection| {
        let mut request = [0; 64 << 10];
        let count = connection.read(&mut request).unwrap_or(0);
        let request = String::from_utf8_lossy(&request[..count]);
        let answer = match request.lines().next() {
            Some(line) if line.starts_with("GET") => {
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
            _ if request.to_ascii_lowercase().contains("mesos-stream-id: ") => {
                "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nMesos-Stream-Id: s\r\n\r\n",
        };
        let _ = connection.write_all(answer.as_bytes());
        if answer.contains("200") {
            let _ = connection.write_all(&records);
        }
    })
}

#[test]
fn an_event_that_cannot_be_read_is_passed_over() {
    let subscribed = event::Subscribed {
        framework_id: FrameworkId { value: "F".to_owned() },
        heartbeat_interval_seconds: Some(15.0),
        ..event::Subscribed::default()
    };
    let subscribed =
        Event { r#type: Some(event::Type::Subscribed.into()), subscribed: Some(subscribed.into()), ..Event::default() };
    let message = "Framework has been removed".to_owned();
    let error =
        Event { r#type: Some(event::Type::Error.into()), error: Some(event::Error { message }), ..Event::default() };
    let records = [subscribed.encode_to_vec(), b"\xff\xff".to_vec(), error.encode_to_vec()];
    let server = master_that_sends(records.iter().flat_map(|record| recordio::encode(record)).collect());
    let stage = Stage::new();
    let master = format!("--master={}", server.address());
    let ended = stage.launcher([master.as_str(), IMAGE, "true"]).run();
    ended.expect_code(FAILED).expect_words(&["an event is passed over", "Framework has been removed"]);
}

#[test]
fn an_offer_that_never_fits_is_explained() {
    let stage = Stage::new();
    let ended = stage.local(&["--quiet", "--cpus=1000", "--offer-timeout=2s"], &["true"]).run();
    ended.expect_code(TIMED_OUT).expect_stdout("").expect_one_line(&["cpus", "1000"]);
}

#[test]
fn a_port_that_is_not_offered_is_explained() {
    let stage = Stage::new();
    let ended = stage.local(&["--quiet", "-p", "80:80", "--offer-timeout=2s"], &["true"]).run();
    ended.expect_code(TIMED_OUT).expect_stdout("").expect_one_line(&["ports"]);
}

#[test]
fn a_malformed_option_is_named_in_one_line() {
    let stage = Stage::new();
    for (options, words) in [
        (&["--cpus=many"][..], &["--cpus", "many"][..]),
        (&["--mem=5q"], &["--mem", "5q"]),
        (&["--volume=relative:/x"], &["--volume", "relative"]),
        (&["--publish=99999:1"], &["--publish", "99999"]),
        (&["--timeout=soon"], &["--timeout", "soon"]),
        (&["--no-such-option"], &["--no-such-option"]),
        (&["--format=xml"], &["--format", "xml"]),
        (&["--env-file=no-such-file"], &["no-such-file"]),
        (&["--env=", "x"], &["--env"]),
    ] {
        stage.local(options, &["true"]).run().expect_code(FAILED).expect_stdout("").expect_one_line(words);
    }
    stage.launcher(["--master=local"]).run().expect_code(FAILED).expect_one_line(&["IMAGE"]);
    stage.launcher(["--master=local[", IMAGE]).run().expect_code(FAILED).expect_one_line(&["local["]);
    stage.launcher(["--master=", IMAGE]).run().expect_code(FAILED).expect_one_line(&["--master"]);
    stage.launcher([IMAGE, "true"]).run().expect_code(FAILED).expect_one_line(&["--master", "MESOS_MASTER"]);
}

#[test]
fn a_program_that_the_image_does_not_have_is_named() {
    let stage = Stage::new();
    let ended = stage.local(&["--quiet"], &["/bin/no-such-program", "argument"]).run();
    ended.expect_code(FAILED).expect_stdout("").expect_one_line(&["/bin/no-such-program", "check the image"]);
    stage.local(&["--quiet"], &["no-such-command"]).run().expect_code(127).expect_words(&["no-such-command"]);
}

#[test]
fn a_volume_whose_source_is_missing_is_named() {
    let stage = Stage::new();
    let ended = stage.local(&["--quiet", "-v", "/proc/no-such-directory:/data"], &["true"]).run();
    ended.expect_code(FAILED).expect_stdout("").expect_one_line(&["/proc/no-such-directory"]);
}

#[test]
fn a_task_that_outgrows_its_memory_is_told_so() {
    let stage = Stage::new();
    let ended = stage.local(&["--mem=16"], &["tail /dev/zero"]).run();
    ended.expect_code(137).expect_words(&["killed: memory limit", "(peak", "--mem"]);
}

#[test]
fn a_task_that_fits_nowhere_says_why_after_two_seconds_and_at_its_limit() {
    let stage = Stage::new();
    let options = ["--constraint=hostname==elsewhere", "--offer-timeout=4"];
    let ended = stage.local(&options, &["true"]).run();
    ended.expect_code(124).expect_words(&[
        "waiting for an offer",
        "1 agent offered",
        "not hostname==elsewhere on 1 agent",
    ]);
}
