//! A client of Mesos' HTTP APIs: posts calls, asks questions, opens event streams, fetches files.
//!
//! Reports what happened and decides nothing: no retries, no redirects followed, no heartbeats watched. Calls that are
//! awaited one after the other share one connection and so arrive in their order; an event stream has its own.
//!
//! Time limits: [`ClientOptions::call_timeout`] covers a whole call, the wait for the head of a stream or download,
//! and then each piece of a download. An event stream may stay silent for as long as it likes.
//!
//! TLS is set up at the first `https` URL only: reading the system's certificates takes longer than a whole launch.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use prost::{Message, Name};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use url::Url;

use crate::compat;
use crate::framing::MAX_MESSAGE_BYTES;
use crate::recordio::{Decoder, RecordIoError};

/// How a [`Client`] identifies itself and how long it waits.
#[derive(Clone)]
pub struct ClientOptions {
    /// Sent as Basic authorization with every request; replaces a user and password in the URL.
    pub credential: Option<Credential>,
    /// Sent as Bearer authorization with every request, in place of the credential: what an agent gives its executors.
    pub bearer_token: Option<String>,
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// Until a call is answered, connection included.
    pub call_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            credential: None,
            bearer_token: None,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(15),
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("credential", &self.credential)
            .field("bearer_token", &self.bearer_token.as_ref().map(|_| REDACTED))
            .field("connect_timeout", &self.connect_timeout)
            .field("call_timeout", &self.call_timeout)
            .finish()
    }
}

/// Who a framework says it is, and the proof.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The same as in `FrameworkInfo.principal`.
    pub principal: String,
    /// Never shown, not even by `Debug`.
    pub secret: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("principal", &self.principal).field("secret", &REDACTED).finish()
    }
}

/// Talks to masters and agents; a clone is the same client.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    options: ClientOptions,
    plain: reqwest::Client,
    /// Made by the first `https` URL; the text says why it cannot be.
    tls: OnceLock<Result<reqwest::Client, String>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl Client {
    /// Prepares a client; connects nowhere and reads no certificates.
    ///
    /// # Errors
    /// When the credential has a colon, which Mesos cannot tell from the one between principal and secret.
    pub fn new(options: ClientOptions) -> Result<Self, HttpError> {
        if let Some(credential) = &options.credential {
            let part = [("principal", &credential.principal), ("secret", &credential.secret)];
            if let Some((part, _)) = part.into_iter().find(|(_, text)| text.contains(':')) {
                return Err(HttpError::Options { reason: format!("the {part} of a Mesos credential has a colon") });
            }
        }
        let plain = builder(&options)
            .tls_backend_preconfigured(no_tls())
            .build()
            .map_err(|error| HttpError::Options { reason: reason(&error) })?;
        Ok(Self { inner: Arc::new(Inner { options, plain, tls: OnceLock::new() }) })
    }

    /// Posts a call of the scheduler or executor API; `stream_id` goes into `Mesos-Stream-Id`.
    ///
    /// # Errors
    /// When the server cannot be reached or answers anything but success: [`HttpError::Redirect`] from a master that is
    /// not the leader, [`HttpError::Status`] from one that refuses the call.
    pub async fn post<C: Message>(&self, url: &Url, call: &C, stream_id: Option<&str>) -> Result<(), HttpError> {
        let attempt = Attempt::new("post a call to", url);
        let mut request = self.call(&attempt, url, call)?;
        if let Some(stream_id) = stream_id {
            request = request.header(STREAM_ID, stream_id);
        }
        self.limited(&attempt, async {
            let response = send(&attempt, request).await?;
            let accepted = response.status() == StatusCode::ACCEPTED;
            let content_type = content_type(&response);
            // Read to its end, so that the connection can take the next call.
            let body = whole_body(&attempt, response, MAX_IDLE_BODY_BYTES).await;
            if accepted || body?.is_empty() { Ok(()) } else { is_protobuf(&attempt, content_type) }
        })
        .await
    }

    /// Posts a call of the operator API and decodes its answer.
    ///
    /// # Errors
    /// As [`Self::post`], and when the answer is no `R`.
    pub async fn ask<C: Message, R: Message + Name + Default>(&self, url: &Url, call: &C) -> Result<R, HttpError> {
        let attempt = Attempt::new("ask", url);
        let request = self.call(&attempt, url, call)?;
        self.limited(&attempt, async {
            let response = send(&attempt, request).await?;
            is_protobuf(&attempt, content_type(&response))?;
            let body = whole_body(&attempt, response, MAX_MESSAGE_BYTES).await?;
            decode(&attempt, &body)
        })
        .await
    }

    /// Posts SUBSCRIBE; the answer is a stream of events until it is dropped.
    ///
    /// # Errors
    /// As [`Self::post`], and when the answer is not a stream of protobuf.
    pub async fn subscribe<C: Message, E: Message + Name + Default>(
        &self,
        url: &Url,
        call: &C,
    ) -> Result<EventStream<E>, HttpError> {
        let attempt = Attempt::new("subscribe at", url);
        let request = self.call(&attempt, url, call)?;
        let response = self.limited(&attempt, send(&attempt, request)).await?;
        is_protobuf(&attempt, content_type(&response))?;
        let stream_id = response.headers().get(STREAM_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let attempt = Attempt { what: "read events from", ..attempt };
        Ok(EventStream { attempt, response, stream_id, decoder: Decoder::new(MAX_MESSAGE_BYTES), event: PhantomData })
    }

    /// Fetches a whole body of any content type, of at most `max_bytes`.
    ///
    /// # Errors
    /// When the server cannot be reached or does not answer with success, and [`HttpError::TooLarge`].
    pub async fn get(&self, url: &Url, max_bytes: usize) -> Result<Bytes, HttpError> {
        let attempt = Attempt::new("get", url);
        let request = self.request(&attempt, Method::GET, url)?;
        self.limited(&attempt, async {
            let response = send(&attempt, request).await?;
            whole_body(&attempt, response, max_bytes).await.map(Bytes::from)
        })
        .await
    }

    /// Fetches a body of any size, piece by piece.
    ///
    /// # Errors
    /// When the server cannot be reached or does not answer with success.
    pub async fn download(&self, url: &Url) -> Result<Download, HttpError> {
        let attempt = Attempt::new("download", url);
        let request = self.request(&attempt, Method::GET, url)?;
        let response = self.limited(&attempt, send(&attempt, request)).await?;
        Ok(Download { length: response.content_length(), client: self.clone(), attempt, response })
    }

    /// The POST of a message, with the headers that every Mesos since 0.24 takes.
    fn call<C: Message>(&self, attempt: &Attempt, url: &Url, call: &C) -> Result<RequestBuilder, HttpError> {
        // Compared byte by byte; a list in Accept would give JSON.
        let request = self.request(attempt, Method::POST, url)?.header(CONTENT_TYPE, PROTOBUF);
        Ok(request.header(ACCEPT, PROTOBUF).body(call.encode_to_vec()))
    }

    fn request(&self, attempt: &Attempt, method: Method, url: &Url) -> Result<RequestBuilder, HttpError> {
        let client = if url.scheme() == "https" {
            let tls = self.inner.tls.get_or_init(|| tls_client(&self.inner.options));
            tls.as_ref().map_err(|reason| HttpError::Request { attempt: attempt.clone(), reason: reason.clone() })?
        } else {
            &self.inner.plain
        };
        let options = &self.inner.options;
        Ok(match (&options.bearer_token, &options.credential) {
            (Some(token), _) => client.request(method, without_password(url)).bearer_auth(token),
            (None, Some(Credential { principal, secret })) => {
                client.request(method, without_password(url)).basic_auth(principal, Some(secret))
            }
            (None, None) => client.request(method, url.clone()),
        })
    }

    async fn limited<T>(
        &self,
        attempt: &Attempt,
        work: impl Future<Output = Result<T, HttpError>>,
    ) -> Result<T, HttpError> {
        let limit = self.inner.options.call_timeout;
        let timeout = |_| Err(HttpError::Timeout { attempt: attempt.clone(), limit });
        tokio::time::timeout(limit, work).await.unwrap_or_else(timeout)
    }
}

/// The events of a subscription, in order. Dropping it closes the connection.
pub struct EventStream<E> {
    attempt: Attempt,
    response: Response,
    stream_id: Option<String>,
    decoder: Decoder,
    event: PhantomData<fn() -> E>,
}

impl<E> fmt::Debug for EventStream<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("url", &self.attempt.url).field("stream_id", &self.stream_id).finish()
    }
}

impl<E: Message + Name + Default> EventStream<E> {
    /// The `Mesos-Stream-Id` that every further call must carry; none before Mesos 0.28 and from agents.
    pub fn stream_id(&self) -> Option<&str> {
        self.stream_id.as_deref()
    }

    /// The next event; `None` once the server has ended the stream between two events.
    ///
    /// Waits without limit. Cancel safe: an event is lost only with the stream.
    ///
    /// # Errors
    /// [`HttpError::Stream`] when the stream breaks, for good; [`HttpError::Decode`] for one event that is none, after
    /// which the next one may be asked for.
    pub async fn next(&mut self) -> Result<Option<E>, HttpError> {
        loop {
            if let Some(record) = self.decoder.next_record().map_err(|error| self.broken(&error))? {
                return decode(&self.attempt, &record).map(Some);
            }
            match self.response.chunk().await.map_err(|error| from_reqwest(&self.attempt, &error))? {
                Some(chunk) => self.decoder.push(&chunk),
                None => return self.decoder.finish().map(|()| None).map_err(|error| self.broken(&error)),
            }
        }
    }

    fn broken(&self, error: &RecordIoError) -> HttpError {
        HttpError::Stream { attempt: self.attempt.clone(), reason: error.to_string() }
    }
}

/// A body that is read as it comes.
pub struct Download {
    /// The length of the body, where the server says it.
    pub length: Option<u64>,
    client: Client,
    attempt: Attempt,
    response: Response,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("url", &self.attempt.url).field("length", &self.length).finish()
    }
}

impl Download {
    /// The next bytes; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// When the connection breaks before the end, or stalls for the client's call timeout.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let Self { client, attempt, response, .. } = self;
        let chunk = async { response.chunk().await.map_err(|error| from_reqwest(attempt, &error)) };
        client.limited(attempt, chunk).await
    }
}

/// What was tried and where, as in "subscribe at http://127.0.0.1:5050/api/v1/scheduler".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// A verb, fit for "cannot ...".
    pub what: &'static str,
    /// Without user and password.
    pub url: String,
}

impl Attempt {
    fn new(what: &'static str, url: &Url) -> Self {
        Self { what, url: without_password(url).into() }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.url)
    }
}

/// Why a request came to nothing. The texts hold the whole reason; there is no source to add.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what the fields are")]
pub enum HttpError {
    /// The options cannot make a client.
    #[error("cannot set up the HTTP client: {reason}")]
    Options { reason: String },
    /// The request cannot be sent anywhere, for its URL or for want of TLS.
    #[error("cannot {attempt}: {reason}")]
    Request { attempt: Attempt, reason: String },
    /// No connection; the request was not sent.
    #[error("cannot {attempt}: {reason}")]
    Connect { attempt: Attempt, reason: String },
    /// The call may or may not have arrived.
    #[error("cannot {attempt}: no answer within {limit:?}")]
    Timeout { attempt: Attempt, limit: Duration },
    /// From a master that is not the leader. `location` is as the server wrote it, often `//HOST:PORT`.
    #[error("cannot {attempt}: it redirects to {}", location.as_deref().unwrap_or("nowhere"))]
    Redirect { attempt: Attempt, location: Option<String> },
    /// Any other answer than success; `body` is its beginning, in one line.
    #[error("cannot {attempt}: {}", answered(*status, body))]
    Status { attempt: Attempt, status: u16, body: String },
    /// Success, but not in protobuf: something else than Mesos listens there.
    #[error("cannot {attempt}: the answer is {content_type}, not {PROTOBUF}; this is not the API of a Mesos server")]
    NotMesos { attempt: Attempt, content_type: String },
    /// The body was given up.
    #[error("cannot {attempt}: the answer is longer than {limit} bytes")]
    TooLarge { attempt: Attempt, limit: usize },
    /// A whole message arrived and is none.
    #[error("cannot {attempt}: {length} bytes are no {message} message: {reason}")]
    Decode { attempt: Attempt, message: &'static str, length: usize, reason: String },
    /// The connection broke before the end of the answer or stream.
    #[error("cannot {attempt}: {reason}")]
    Stream { attempt: Attempt, reason: String },
}

fn answered(status: u16, body: &str) -> String {
    let phrase = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let mut text = format!("it answers {status}");
    for part in [phrase.unwrap_or_default(), body].into_iter().filter(|part| !part.is_empty()) {
        text.push_str(if text.ends_with(char::is_numeric) { " " } else { ": " });
        text.push_str(part);
    }
    text
}

fn builder(options: &ClientOptions) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        // A master is named by its address; a proxy for the web would only keep the stream from passing.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // In the spelling of Mesos' documents: its early servers keep headers as they come.
        .http1_title_case_headers()
        .connect_timeout(options.connect_timeout)
        .pool_max_idle_per_host(1)
        // Shows a peer that has gone without a word where heartbeats are rare, as on executor streams.
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE)
        .tcp_keepalive_retries(3)
}

/// A TLS configuration that trusts nobody, in place of one that reads certificates; it is never used.
fn no_tls() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

/// A client that trusts what the system trusts.
fn tls_client(options: &ClientOptions) -> Result<reqwest::Client, String> {
    // An error says that there is one already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder(options).build().map_err(|error| format!("TLS is not available: {}", reason(&error)))
}

/// Sends and waits for the head of a successful answer.
async fn send(attempt: &Attempt, request: RequestBuilder) -> Result<Response, HttpError> {
    let response = request.send().await.map_err(|error| from_reqwest(attempt, &error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let attempt = attempt.clone();
    if status.is_redirection() {
        return Err(HttpError::Redirect { attempt, location: header(response.headers(), LOCATION.as_str()) });
    }
    Err(HttpError::Status { attempt, status: status.as_u16(), body: one_line(response).await })
}

/// The beginning of a body, as it fits into an error; what cannot be read is left out.
async fn one_line(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= MAX_ERROR_BODY_BYTES {
            bytes.truncate(MAX_ERROR_BODY_BYTES);
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

async fn whole_body(attempt: &Attempt, mut response: Response, limit: usize) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| from_reqwest(attempt, &error))? {
        if body.len() + chunk.len() > limit {
            return Err(HttpError::TooLarge { attempt: attempt.clone(), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn content_type(response: &Response) -> Option<String> {
    header(response.headers(), CONTENT_TYPE.as_str())
}

fn is_protobuf(attempt: &Attempt, content_type: Option<String>) -> Result<(), HttpError> {
    let essence = content_type.as_deref().and_then(|value| value.split(';').next()).unwrap_or_default();
    if essence.trim().eq_ignore_ascii_case(PROTOBUF) {
        return Ok(());
    }
    let content_type = content_type.unwrap_or_else(|| "of no content type".to_owned());
    Err(HttpError::NotMesos { attempt: attempt.clone(), content_type })
}

fn decode<M: Message + Name + Default>(attempt: &Attempt, bytes: &[u8]) -> Result<M, HttpError> {
    compat::decode(bytes).map_err(|error| HttpError::Decode {
        attempt: attempt.clone(),
        message: M::NAME,
        length: bytes.len(),
        reason: reason(&error),
    })
}

fn from_reqwest(attempt: &Attempt, error: &reqwest::Error) -> HttpError {
    let attempt = attempt.clone();
    if error.is_connect() {
        let reason = if error.is_timeout() { "no connection in time".to_owned() } else { reason(error) };
        HttpError::Connect { attempt, reason }
    } else if error.is_builder() {
        HttpError::Request { attempt, reason: reason(error) }
    } else {
        HttpError::Stream { attempt, reason: format!("the connection broke: {}", reason(error)) }
    }
}

/// What is at the bottom of an error, in our spelling: "connection refused".
fn reason(error: &dyn Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let text = deepest.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    match (characters.next(), characters.clone().next()) {
        // "Connection", but not "URL".
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => text.to_owned(),
    }
}

fn without_password(url: &Url) -> Url {
    let mut url = url.clone();
    // Fails for URLs that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

const PROTOBUF: &str = "application/x-protobuf";
const STREAM_ID: &str = "Mesos-Stream-Id";
const REDACTED: &str = "<redacted>";

/// As much of a refusal as anyone reads.
const MAX_ERROR_BODY_BYTES: usize = 1024;

/// An answer that says nothing is empty; a longer one than this is no answer of Mesos'.
const MAX_IDLE_BODY_BYTES: usize = 64 << 10;

/// Of silence, and then between three probes: a dead peer shows after 80 seconds, about when Mesos' own clients give up.
const KEEPALIVE: Duration = Duration::from_secs(20);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
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
        let credential = Some(Credential { principal: "launcher".into(), secret: "s3cret".into() });
        let client = Client::new(ClientOptions { credential, ..Default::default() }).unwrap();
        let mut url = server.url.clone();
        url.set_username("someone").unwrap();
        url.set_password(Some("hidden")).unwrap();
        let (posted, (_, request)) =
            tokio::join!(post(&client, &url), server.answer(answer("401 Unauthorized", "", "")));
        let lines = request.head.lines().filter(|line| line.starts_with("Authorization")).collect::<Vec<_>>();
        assert_eq!(lines, ["Authorization: Basic bGF1bmNoZXI6czNjcmV0"]);
        let error = posted.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot post a call to {}: it answers 401 Unauthorized", server.url));
        for shown in [format!("{error:?}"), format!("{client:?}")] {
            assert!(!shown.contains("s3cret") && !shown.contains("hidden"), "{shown}");
        }
    }

    #[tokio::test]
    async fn a_bearer_token_is_sent_and_never_shown() {
        let server = Server::start().await;
        let client = Client::new(ClientOptions { bearer_token: Some("t0ken".into()), ..Default::default() }).unwrap();
        let (posted, (_, request)) =
            tokio::join!(post(&client, &server.url), server.answer(answer("202 Accepted", "", "")));
        posted.unwrap();
        assert!(request.head.contains("Authorization: Bearer t0ken\r\n"), "{}", request.head);
        assert!(!format!("{client:?}").contains("t0ken"));
    }

    #[test]
    fn a_credential_with_a_colon_is_refused_without_showing_it() {
        let credential = Some(Credential { principal: "launcher".into(), secret: "s3:cret".into() });
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
        assert!(
            matches!(&error, HttpError::Redirect { location: Some(location), .. } if location == "//10.0.0.2:5050")
        );
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
            error.to_string().ends_with(
                "the answer is text/html, not application/x-protobuf; this is not the API of a Mesos server"
            )
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
            let (subscribed, (mut connection, _)) =
                tokio::join!(subscribe(&client, &server.url), server.answer(STREAM));
            connection.send_chunk(bytes).await;
            connection.send(close).await;
            drop(connection);
            let error = subscribed.unwrap().next().await.unwrap_err();
            assert!(matches!(error, HttpError::Stream { .. }));
            assert!(
                error.to_string().starts_with(&format!("cannot read events from {}: {text}", server.url)),
                "{error}"
            );
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
        assert!(matches!(error, HttpError::Connect { .. } | HttpError::Request { .. }), "{error:?}");
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
}
