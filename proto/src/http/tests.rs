//! The client against servers that answer, redirect, stall and break off.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{mesos, recordio, scheduler};

/// A port of loopback on which the tests play the server by hand.
struct Server {
    listener: TcpListener,
    url: Url,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/api/v1/scheduler", listener.local_addr().unwrap())).unwrap();
        Self { listener, url }
    }

    async fn accept(&self) -> Connection {
        Connection(self.listener.accept().await.unwrap().0)
    }

    /// Takes one request and answers it.
    async fn answer(&self, answer: impl AsRef<[u8]>) -> (Connection, Request) {
        let mut connection = self.accept().await;
        let request = connection.request().await;
        connection.send(answer).await;
        (connection, request)
    }
}

struct Connection(TcpStream);

struct Request {
    head: String,
    body: Vec<u8>,
}

impl Connection {
    async fn request(&mut self) -> Request {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body).await.unwrap();
        Request { head, body }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn send_chunk(&mut self, bytes: &[u8]) {
        self.send(format!("{:x}\r\n", bytes.len())).await;
        self.send([bytes, b"\r\n"].concat()).await;
    }
}

fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

const TYPED: &str = "Content-Type: application/x-protobuf\r\n";
const STREAM: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-protobuf\r\n\
                      Mesos-Stream-Id: 8c3d\r\n\r\n";

fn client() -> Client {
    Client::new(ClientOptions::default()).unwrap()
}

fn hasty() -> Client {
    let call_timeout = Duration::from_millis(500);
    Client::new(ClientOptions { call_timeout, ..Default::default() }).unwrap()
}

fn revive() -> scheduler::Call {
    scheduler::Call { r#type: Some(scheduler::call::Type::Revive as i32), ..Default::default() }
}

fn heartbeat() -> scheduler::Event {
    scheduler::Event { r#type: Some(scheduler::event::Type::Heartbeat as i32), ..Default::default() }
}

async fn post(client: &Client, url: &Url) -> Result<(), HttpError> {
    client.post(url, &revive(), None).await
}

async fn ask(client: &Client, url: &Url) -> Result<mesos::TaskId, HttpError> {
    client.ask(url, &revive()).await
}

async fn subscribe(client: &Client, url: &Url) -> Result<EventStream<scheduler::Event>, HttpError> {
    client.subscribe(url, &revive()).await
}

/// What a call makes of an answer.
async fn refusal(bytes: impl AsRef<[u8]>) -> HttpError {
    let server = Server::start().await;
    let client = client();
    let (posted, _) = tokio::join!(post(&client, &server.url), server.answer(bytes));
    posted.unwrap_err()
}

#[tokio::test]
async fn a_call_has_the_headers_that_every_mesos_takes_and_no_others() {
    let server = Server::start().await;
    let client = client();
    let call = revive();
    let (posted, (_, request)) =
        tokio::join!(client.post(&server.url, &call, Some("8c3d")), server.answer(answer("202 Accepted", "", "")));
    posted.unwrap();
    assert_eq!(scheduler::Call::decode(request.body.as_slice()).unwrap(), revive());
    let mut lines = request.head.trim_end().lines().collect::<Vec<_>>();
    assert_eq!(lines.remove(0), "POST /api/v1/scheduler HTTP/1.1");
    lines.sort_unstable();
    let host = format!("Host: {}", server.listener.local_addr().unwrap());
    assert_eq!(
        lines,
        [
            "Accept: application/x-protobuf",
            &format!("Content-Length: {}", request.body.len()),
            "Content-Type: application/x-protobuf",
            &host,
            "Mesos-Stream-Id: 8c3d",
        ]
    );
}

#[tokio::test]
async fn calls_one_after_the_other_share_a_connection() {
    let server = Server::start().await;
    let client = client();
    let calls = async {
        post(&client, &server.url).await.unwrap();
        post(&client, &server.url).await.unwrap();
    };
    let answers = async {
        let (mut connection, _) = server.answer(answer("202 Accepted", "", "")).await;
        connection.request().await;
        connection.send(answer("202 Accepted", "", "")).await;
    };
    tokio::join!(calls, answers);
}

#[tokio::test]
async fn a_credential_is_sent_and_never_shown() {
    let server = Server::start().await;
    let credential = Some(Credential { principal: "launcher".into(), secret: Secret::new("s3cret") });
    let client = Client::new(ClientOptions { credential, ..Default::default() }).unwrap();
    let mut url = server.url.clone();
    url.set_username("someone").unwrap();
    url.set_password(Some("hidden")).unwrap();
    let (posted, (_, request)) = tokio::join!(post(&client, &url), server.answer(answer("401 Unauthorized", "", "")));
    let lines = request.head.lines().filter(|line| line.starts_with("Authorization")).collect::<Vec<_>>();
    assert_eq!(lines, ["Authorization: Basic bGF1bmNoZXI6czNjcmV0"]);
    let error = posted.unwrap_err();
    let refused = "it does not accept principal \"launcher\" with this secret (401 Unauthorized)";
    assert_eq!(error.to_string(), format!("cannot post a call to {}: {refused}", server.url));
    for shown in [format!("{error:?}"), format!("{client:?}")] {
        assert!(!shown.contains("s3cret") && !shown.contains("hidden"), "{shown}");
    }
}

#[tokio::test]
async fn a_bearer_token_is_sent_and_never_shown() {
    let server = Server::start().await;
    let client = Client::new(ClientOptions { bearer_token: Some(Secret::new("t0ken")), ..Default::default() }).unwrap();
    let (posted, (_, request)) =
        tokio::join!(post(&client, &server.url), server.answer(answer("202 Accepted", "", "")));
    posted.unwrap();
    assert!(request.head.contains("Authorization: Bearer t0ken\r\n"), "{}", request.head);
    assert!(!format!("{client:?}").contains("t0ken"));
}

#[test]
fn a_credential_with_a_colon_is_refused_without_showing_it() {
    let credential = Some(Credential { principal: "launcher".into(), secret: Secret::new("s3:cret") });
    let error = Client::new(ClientOptions { credential, ..Default::default() }).unwrap_err();
    assert_eq!(error.to_string(), "cannot set up the HTTP client: the secret of a Mesos credential has a colon");
}

#[tokio::test]
async fn a_server_that_is_not_there_refuses_the_connection() {
    let Server { listener, url } = Server::start().await;
    drop(listener);
    let error = post(&client(), &url).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }));
    assert_eq!(error.to_string(), format!("cannot post a call to {url}: connection refused"));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let server = Server::start().await;
    let error = post(&hasty(), &server.url).await.unwrap_err();
    assert!(matches!(error, HttpError::Timeout { .. }));
    assert_eq!(error.to_string(), format!("cannot post a call to {}: no answer within 500ms", server.url));
}

#[tokio::test]
async fn a_redirect_is_reported_as_the_server_wrote_it() {
    let error = refusal(answer("307 Temporary Redirect", "Location: //10.0.0.2:5050\r\n", "")).await;
    assert!(matches!(&error, HttpError::Redirect { location: Some(location), .. } if location == "//10.0.0.2:5050"));
}

#[tokio::test]
async fn a_refusal_has_the_status_and_the_beginning_of_the_body_in_one_line() {
    let body = format!("Failed to\r\n  validate {}", "x".repeat(5000));
    let error = refusal(answer("400 Bad Request", "", body)).await;
    let HttpError::Status { status: 400, body, .. } = &error else { panic!("{error}") };
    assert!(body.starts_with("Failed to validate xxx") && body.len() <= 1024);
    assert!(error.to_string().contains(": it answers 400 Bad Request: Failed to validate xxx"), "{error}");
}

#[tokio::test]
async fn a_web_server_that_is_not_mesos_is_told_apart() {
    let error = refusal(answer("200 OK", "Content-Type: text/html\r\n", "<html>")).await;
    assert!(matches!(&error, HttpError::NotMesos { content_type, .. } if content_type == "text/html"));
    assert!(
        error
            .to_string()
            .ends_with("the answer is text/html, not application/x-protobuf; this is not the API of a Mesos server")
    );

    let server = Server::start().await;
    let client = client();
    let (subscribed, _) = tokio::join!(subscribe(&client, &server.url), server.answer(answer("200 OK", "", "hi")));
    assert!(matches!(subscribed.unwrap_err(), HttpError::NotMesos { .. }));
}

#[tokio::test]
async fn what_does_not_speak_http_breaks_the_connection() {
    let error = refusal("SSH-2.0-OpenSSH\r\n").await;
    assert!(matches!(error, HttpError::Stream { .. }), "{error}");
}

#[tokio::test]
async fn an_empty_answer_of_ok_is_success() {
    let server = Server::start().await;
    let client = client();
    let (posted, _) = tokio::join!(post(&client, &server.url), server.answer(answer("200 OK", "", "")));
    posted.unwrap();
}

#[tokio::test]
async fn an_answer_is_decoded() {
    let server = Server::start().await;
    let client = client();
    let id = mesos::TaskId { value: "t".into() };
    let whole = answer("200 OK", TYPED, id.encode_to_vec());
    let (asked, (mut connection, _)) = tokio::join!(ask(&client, &server.url), server.answer(whole));
    assert_eq!(asked.unwrap(), id);
    let broken = async {
        connection.request().await;
        connection.send(answer("200 OK", TYPED, b"\x0a\x09")).await;
    };
    let (asked, ()) = tokio::join!(ask(&client, &server.url), broken);
    let error = asked.unwrap_err();
    assert!(matches!(error, HttpError::Decode { .. }));
    assert!(error.to_string().contains("2 bytes are no TaskID message: "), "{error}");
}

#[tokio::test]
async fn events_arrive_across_chunk_borders_until_the_stream_ends() {
    let server = Server::start().await;
    let client = client();
    let (subscribed, (mut connection, _)) = tokio::join!(subscribe(&client, &server.url), server.answer(STREAM));
    let mut events = subscribed.unwrap();
    assert_eq!(events.stream_id(), Some("8c3d"));

    let record = recordio::encode(&heartbeat().encode_to_vec());
    connection.send_chunk(&record[..1]).await;
    // The event is not there yet: to stop waiting for it must not lose what has come of it.
    for _ in 0..100 {
        tokio::select! {
            biased;
            event = events.next() => panic!("{event:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    connection.send_chunk(&[&record[1..], &record].concat()).await;
    assert_eq!(events.next().await.unwrap(), Some(heartbeat()));
    assert_eq!(events.next().await.unwrap(), Some(heartbeat()));
    connection.send("0\r\n\r\n").await;
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_subscription_outlives_the_call_timeout() {
    let server = Server::start().await;
    let client = hasty();
    let (subscribed, (mut connection, _)) = tokio::join!(subscribe(&client, &server.url), server.answer(STREAM));
    let mut events = subscribed.unwrap();
    tokio::time::timeout(Duration::from_millis(1500), events.next()).await.unwrap_err();
    connection.send_chunk(&recordio::encode(&heartbeat().encode_to_vec())).await;
    assert_eq!(events.next().await.unwrap(), Some(heartbeat()));
}

#[tokio::test]
async fn a_broken_stream_says_how_it_broke() {
    for (bytes, close, text) in [
        (&b"3\nab"[..], "0\r\n\r\n", "the event stream ended after 2 of the 3 bytes of a record"),
        (b"<html>", "", "the event stream is broken: found \"<\" where the length of a record should be"),
        (b"3\nab", "", "the connection broke: "),
    ] {
        let server = Server::start().await;
        let client = client();
        let (subscribed, (mut connection, _)) = tokio::join!(subscribe(&client, &server.url), server.answer(STREAM));
        connection.send_chunk(bytes).await;
        connection.send(close).await;
        drop(connection);
        let error = subscribed.unwrap().next().await.unwrap_err();
        assert!(matches!(error, HttpError::Stream { .. }));
        assert!(error.to_string().starts_with(&format!("cannot read events from {}: {text}", server.url)), "{error}");
    }
}

#[tokio::test]
async fn one_event_that_is_none_does_not_end_the_stream() {
    let server = Server::start().await;
    let client = client();
    let (subscribed, (mut connection, _)) = tokio::join!(subscribe(&client, &server.url), server.answer(STREAM));
    let mut events = subscribed.unwrap();
    connection.send_chunk(&recordio::encode(b"\xff")).await;
    connection.send_chunk(&recordio::encode(&heartbeat().encode_to_vec())).await;
    assert!(matches!(events.next().await.unwrap_err(), HttpError::Decode { message: "Event", .. }));
    assert_eq!(events.next().await.unwrap(), Some(heartbeat()));
}

#[tokio::test]
async fn a_body_is_fetched_up_to_its_limit() {
    let server = Server::start().await;
    let client = client();
    let body = answer("200 OK", "Connection: close\r\n", "0123456789");
    let (got, (_, request)) = tokio::join!(client.get(&server.url, 10), server.answer(&body));
    assert_eq!(got.unwrap(), "0123456789");
    assert!(request.head.starts_with("GET "));
    let (got, _) = tokio::join!(client.get(&server.url, 9), server.answer(&body));
    assert!(matches!(got.unwrap_err(), HttpError::TooLarge { limit: 9, .. }));
}

#[tokio::test]
async fn a_download_comes_in_pieces_and_shows_when_it_stalls() {
    let server = Server::start().await;
    let client = hasty();
    let (download, (mut connection, _)) =
        tokio::join!(client.download(&server.url), server.answer("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"));
    let mut download = download.unwrap();
    assert_eq!(download.length, Some(6));
    connection.send("abc").await;
    assert_eq!(download.chunk().await.unwrap().unwrap(), "abc");
    assert!(matches!(download.chunk().await.unwrap_err(), HttpError::Timeout { .. }));
    connection.send("def").await;
    assert_eq!(download.chunk().await.unwrap().unwrap(), "def");
    assert_eq!(download.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_download_cut_short_is_an_error() {
    let server = Server::start().await;
    let client = client();
    let (download, (connection, _)) =
        tokio::join!(client.download(&server.url), server.answer("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"));
    drop(connection);
    assert!(matches!(download.unwrap().chunk().await.unwrap_err(), HttpError::Stream { .. }));
}

#[tokio::test]
async fn tls_towards_a_server_without_it_is_an_error() {
    let server = Server::start().await;
    let mut url = server.url.clone();
    url.set_scheme("https").unwrap();
    let client = client();
    let plain = async {
        server.accept().await.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    };
    let (posted, ()) = tokio::join!(post(&client, &url), plain);
    let error = posted.unwrap_err();
    // The connection may be reset before its bytes are read, as the server never reads what TLS said.
    assert!(matches!(error, HttpError::Tls { fault: TlsFault::NotTls, .. } | HttpError::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn a_url_of_another_kind_cannot_be_asked() {
    let url = Url::parse("ftp://127.0.0.1/").unwrap();
    let error = client().get(&url, 1).await.unwrap_err();
    assert!(matches!(error, HttpError::Request { .. }), "{error:?}");
}

/// The environment of a running test must not change, so the test runs itself with another one.
#[tokio::test]
async fn proxies_of_the_environment_are_not_used() {
    let name = "http::tests::proxies_of_the_environment_are_not_used";
    if std::env::var_os("HTTP_PROXY").is_none() {
        let Server { listener, url } = Server::start().await;
        drop(listener);
        let mut again = tokio::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", name]).env("HTTP_PROXY", url.as_str()).env("ALL_PROXY", url.as_str());
        let output = again.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let server = Server::start().await;
    let client = client();
    let (got, _) = tokio::join!(client.get(&server.url, 10), server.answer(answer("200 OK", "", "direct")));
    assert_eq!(got.unwrap(), "direct");
}
