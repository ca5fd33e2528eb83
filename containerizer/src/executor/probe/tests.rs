//! Probes of this process's own network: what listens, what answers, what does not. Containers are probed in
//! `tests/containerizer`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;

/// Answers each connection with the next of these texts, and holds the ones after them without a word.
fn server(answers: Vec<String>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        let mut answers = answers.into_iter();
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            match answers.next() {
                Some(answer) => {
                    let _ = connection.read(&mut [0; 4096]);
                    let _ = connection.write_all(answer.as_bytes());
                }
                None => held.push(connection),
            }
        }
    });
    port
}

fn answer(status: &str, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n")
}

async fn probe(attempt: Attempt, limit: Duration) -> Finding {
    let probe = Probe { kind: CheckKind::Health, attempt, limit: Some(limit) };
    let (kind, finding) = Prober::new(Environment::default()).probe(Started::default(), probe).await;
    assert_eq!(kind, CheckKind::Health);
    finding
}

fn http(port: u16, path: &str) -> Attempt {
    Attempt::Http { scheme: "http".to_owned(), port, path: path.to_owned(), is_ipv6: false }
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_status_behind_redirects_is_found() {
    let port = server(vec![
        answer("204 No Content", ""),
        answer("503 Service Unavailable", ""),
        answer("302 Found", "Location: /there\r\n"),
        answer("404 Not Found", ""),
    ]);
    for status in [204, 503, 404] {
        assert_eq!(probe(http(port, "/a?b=c"), LONG).await, Ok(Found::HttpStatus(status)));
    }
}

#[tokio::test]
async fn silence_is_no_result() {
    let port = server(vec![]);
    let late = Err("there was no result within 50ms".to_owned());
    assert_eq!(probe(http(port, "/"), Duration::from_millis(50)).await, late);
}

#[tokio::test]
async fn what_listens_is_told_from_what_does_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let tcp = Attempt::Tcp { port, is_ipv6: false };
    assert_eq!(probe(tcp.clone(), LONG).await, Ok(Found::Listens(true)));
    drop(listener);
    assert_eq!(probe(tcp, LONG).await, Ok(Found::Listens(false)));
    let refused = format!("http://127.0.0.1:{port}/ did not answer: connection refused");
    assert_eq!(probe(http(port, "/"), LONG).await, Err(refused));
}

#[tokio::test]
async fn what_cannot_be_tried_says_why() {
    let why = "it does not say what to look at".to_owned();
    assert_eq!(probe(Attempt::Impossible { why: why.clone() }, LONG).await, Err(why));
    let attempt = Attempt::Command { argv: vec!["true".to_owned()], environment: vec![] };
    let nowhere: Environment = [("DOCKER_HOST", "unix:///no/such.sock")].into_iter().collect();
    let probe = Probe { kind: CheckKind::Status, attempt, limit: None };
    let (_, finding) = Prober::new(nowhere).probe(Started::default(), probe).await;
    assert!(finding.unwrap_err().contains("/no/such.sock"));
}

#[test]
fn a_process_of_another_container_is_not_taken_for_one() {
    assert!(!is_of_container(std::process::id(), "0123456789abcdef"));
    assert!(!is_of_container(std::process::id(), ""));
    assert!(is_own(&File::open("/proc/self/ns/net").unwrap()).unwrap());
}
