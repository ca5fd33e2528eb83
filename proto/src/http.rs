//! A client of Mesos' HTTP APIs: posts calls, asks questions, opens event streams, fetches files.
//!
//! Reports what happened and decides nothing: no retries, no redirects followed, no heartbeats watched. Calls that are
//! awaited one after the other share one connection and so arrive in their order; an event stream has its own.
//!
//! Time limits: [`ClientOptions::call_timeout`] covers a whole call, the wait for the head of a stream or download,
//! and then each piece of a download. An event stream may stay silent for as long as it likes.
//!
//! TLS is set up at the first `https` URL only: reading the system's certificates takes longer than a whole launch. Secrets go
//! where the URL says and nowhere else, since no redirect is followed here.

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

use crate::framing::MAX_MESSAGE_BYTES;
use crate::recordio::{Decoder, RecordIoError};
pub use crate::secret::{Credential, Secret};
pub use crate::tls::{TlsFault, TlsOptions};
use crate::{compat, tls};

/// How a [`Client`] identifies itself and how long it waits.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Sent as Basic authorization with every request; replaces a user and password in the URL.
    pub credential: Option<Credential>,
    /// Sent as Bearer authorization with every request, in place of the credential: what an agent gives its executors.
    pub bearer_token: Option<Secret>,
    /// For `https` URLs.
    pub tls: TlsOptions,
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
            tls: TlsOptions::default(),
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(15),
        }
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
    /// Made by the first `https` URL.
    tls: OnceLock<Result<reqwest::Client, TlsFault>>,
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
        if let Some(part) = options.credential.as_ref().and_then(Credential::part_with_colon) {
            return Err(HttpError::Options { reason: format!("the {part} of a Mesos credential has a colon") });
        }
        let plain = builder(&options)
            .tls_backend_preconfigured(tls::none())
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
            let response = self.send(&attempt, request).await?;
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
            let response = self.send(&attempt, request).await?;
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
        let response = self.limited(&attempt, self.send(&attempt, request)).await?;
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
            let response = self.send(&attempt, request).await?;
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
        let response = self.limited(&attempt, self.send(&attempt, request)).await?;
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
            tls.as_ref().map_err(|fault| HttpError::Tls { attempt: attempt.clone(), fault: fault.clone() })?
        } else {
            &self.inner.plain
        };
        let options = &self.inner.options;
        Ok(match (&options.bearer_token, &options.credential) {
            (Some(token), _) => client.request(method, without_password(url)).bearer_auth(token.expose()),
            (None, Some(Credential { principal, secret })) => {
                client.request(method, without_password(url)).basic_auth(principal, Some(secret.expose()))
            }
            (None, None) => client.request(method, url.clone()),
        })
    }

    /// Sends and waits for the head of a successful answer.
    async fn send(&self, attempt: &Attempt, request: RequestBuilder) -> Result<Response, HttpError> {
        let response = request.send().await.map_err(|error| from_reqwest(attempt, &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let attempt = attempt.clone();
        if status.is_redirection() {
            return Err(HttpError::Redirect { attempt, location: header(response.headers(), LOCATION.as_str()) });
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(HttpError::Unauthorized { attempt, shown: self.shown() });
        }
        let (status, body) = (status.as_u16(), one_line(response).await);
        Err(match TlsFault::in_refusal(status, &body) {
            Some(fault) => HttpError::Tls { attempt, fault },
            None => HttpError::Status { attempt, status, body },
        })
    }

    /// What servers are shown.
    fn shown(&self) -> Shown {
        let ClientOptions { credential, bearer_token, .. } = &self.inner.options;
        match (bearer_token, credential) {
            (Some(_), _) => Shown::Token,
            (None, Some(credential)) => Shown::Principal(credential.principal.clone()),
            (None, None) => Shown::Nothing,
        }
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
    /// There is no TLS connection, or the server wants another one.
    #[error("cannot {attempt}: {fault}")]
    Tls { attempt: Attempt, fault: TlsFault },
    /// 401.
    #[error("cannot {attempt}: {shown}")]
    Unauthorized { attempt: Attempt, shown: Shown },
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

/// What a server that refuses us was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// No credentials.
    Nothing,
    /// A bearer token.
    Token,
    /// This principal and its secret.
    Principal(String),
}

/// What is wrong with it: "it wants credentials (401 Unauthorized)".
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("it wants credentials")?,
            Self::Token => f.write_str("it does not accept the token")?,
            Self::Principal(principal) => write!(f, "it does not accept principal \"{principal}\" with this secret")?,
        }
        f.write_str(" (401 Unauthorized)")
    }
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

/// A client that does not have to be told of plain connections.
fn tls_client(options: &ClientOptions) -> Result<reqwest::Client, TlsFault> {
    let config = tls::config(&options.tls)?;
    builder(options).tls_backend_preconfigured(config).build().map_err(|error| TlsFault::Other(reason(&error)))
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
    if let Some(fault) = TlsFault::in_chain(error) {
        HttpError::Tls { attempt, fault }
    } else if error.is_connect() && attempt.url.starts_with("https:") && tls::is_broken_off(error) {
        HttpError::Tls { attempt, fault: TlsFault::BrokenOff }
    } else if error.is_connect() {
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

/// As much of a refusal as anyone reads.
const MAX_ERROR_BODY_BYTES: usize = 1024;

/// An answer that says nothing is empty; a longer one than this is no answer of Mesos'.
const MAX_IDLE_BODY_BYTES: usize = 64 << 10;

/// Of silence, and then between three probes: a dead peer shows after 80 seconds, about when Mesos' own clients give up.
const KEEPALIVE: Duration = Duration::from_secs(20);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
