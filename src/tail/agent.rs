//! Asks one agent for its files and its state, whatever its version and under whichever address it answers.
//!
//! - **Addresses** are tried in turn until one connects; that one is remembered. Where somebody listens who does not speak http
//!   (or https), the other one is tried at once, if that is allowed.
//! - **Names.** Mesos 0.24 has `/files/read.json` only, from 1.8 on there is `/files/read` only. A 404 may mean the name or the file, so
//!   the first 404 is followed by a read without a path, which an agent that has the name answers with 400.
//! - **Crowded sandboxes.** A listing of thousands of files is not worth two sizes: where it is too long, two reads that ask for
//!   the size only take its place.
//!
//! No retries, no pauses: that is the caller's.

use std::fmt::Display;
use std::sync::Mutex;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use proto::http::{Attempt, Client, Download, HttpError, TlsFault};
use proto::record::PULL_PROGRESS_FILE;
use thiserror::Error;
use url::Url;

use super::cursor::READ_BYTES;
use super::files::{self, DecodeError, Read};
use super::pace::FaultKind;
use super::{Location, Stream};
use crate::advice::{self, Peer};
use crate::master::host_port;

/// One agent.
#[derive(Debug)]
pub(super) struct Agent {
    client: Client,
    addresses: Vec<Url>,
    may_change_scheme: bool,
    /// The agent's process id as a path.
    process: String,
    known: Mutex<Known>,
}

/// What the answers so far have shown.
#[derive(Debug, Default)]
struct Known {
    /// The address that connected.
    address: usize,
    /// Whether agents speak the other of http and https than was expected.
    has_other_scheme: bool,
    form: Option<Form>,
    /// Listings are too long.
    is_crowded: bool,
}

/// How the agent spells its routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `/files/read`: from 0.25 on.
    Plain,
    /// `/files/read.json`: up to 1.7.
    Json,
}

/// What a sandbox holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Listing {
    /// Sizes in the order of [`Stream::ALL`]; `None` where there is no such file.
    pub(super) sizes: [Option<u64>; 2],
    /// Whether the image is being pulled.
    pub(super) has_pull_progress: bool,
    /// Requests that it took.
    pub(super) requests: u32,
}

/// Why a request brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{why}")]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// What was attempted, where, and why it failed.
    pub(super) why: String,
}

impl Agent {
    pub(super) fn new(client: Client, location: &Location) -> Self {
        let Location { agents, may_change_scheme, process, .. } = location;
        Self {
            client,
            addresses: agents.clone(),
            may_change_scheme: *may_change_scheme,
            process: process.clone(),
            known: Mutex::default(),
        }
    }

    /// The sizes of the files in `directory`.
    pub(super) async fn list(&self, directory: &[u8]) -> Result<Listing, Fault> {
        if !self.known().is_crowded {
            let get = |url: Url| async move { self.client.get(&url, MAX_LISTING_BYTES).await }.boxed();
            match self.files("browse", &query(directory, ""), get).await {
                Err(HttpError::TooLarge { .. }) => self.known().is_crowded = true,
                answer => return listing(&decoded(files::decode_browse(&answer?))?),
            }
        }
        let mut listing = Listing { requests: 2, ..Listing::default() };
        for stream in Stream::ALL {
            listing.sizes[stream as usize] = match self.read_at(&stream.path_in(directory), "-1").await {
                Ok(read) => Some(read.offset),
                Err(fault) if fault.kind == FaultKind::Missing => None,
                Err(fault) => return Err(fault),
            };
        }
        Ok(listing)
    }

    /// At most [`READ_BYTES`] of a file from `offset` on.
    pub(super) async fn read(&self, path: &[u8], offset: u64) -> Result<Read, Fault> {
        self.read_at(path, &offset.to_string()).await
    }

    async fn read_at(&self, path: &[u8], offset: &str) -> Result<Read, Fault> {
        let query = query(path, &format!("&offset={offset}&length={READ_BYTES}"));
        let get = |url: Url| async move { self.client.get(&url, MAX_READ_ANSWER_BYTES).await }.boxed();
        decoded(files::decode_read(&self.files("read", &query, get).await?))
    }

    /// A whole file from its first byte on.
    pub(super) async fn download(&self, path: &[u8]) -> Result<Body, Fault> {
        let download = |url: Url| async move { self.client.download(&url).await }.boxed();
        Ok(Body(self.files("download", &query(path, ""), download).await?))
    }

    /// `/state`: up to several megabytes of JSON.
    pub(super) async fn state(&self) -> Result<Bytes, Fault> {
        let get = |url: Url| async move { self.client.get(&url, MAX_STATE_BYTES).await }.boxed();
        let path = format!("{}/state", self.process);
        if self.known().form != Some(Form::Json) {
            match self.at_any_address(&path, "", &get).await {
                Err(error) if is_missing(&error) => {}
                answer => return Ok(answer?),
            }
        }
        Ok(self.at_any_address(&format!("{path}.json"), "", get).await?)
    }

    /// `/version`: a few bytes of JSON; from 0.26 on, and not from every agent.
    pub(super) async fn version(&self) -> Result<Bytes, Fault> {
        let get = |url: Url| async move { self.client.get(&url, MAX_LISTING_BYTES).await }.boxed();
        Ok(self.at_any_address("/version", "", get).await?)
    }

    /// One of the `/files` routes, in the form that the agent knows.
    async fn files<'a, T>(
        &self,
        route: &str,
        query: &str,
        fetch: impl Fn(Url) -> BoxFuture<'a, Result<T, HttpError>>,
    ) -> Result<T, HttpError> {
        let path = |form| match form {
            Form::Plain => format!("/files/{route}"),
            Form::Json => format!("/files/{route}.json"),
        };
        let form = self.known().form;
        let answer = self.at_any_address(&path(form.unwrap_or(Form::Plain)), query, &fetch).await;
        match (form, answer) {
            (None, Err(error)) if is_missing(&error) => match self.form().await? {
                Form::Plain => Err(error),
                Form::Json => self.at_any_address(&path(Form::Json), query, &fetch).await,
            },
            (None, Ok(answer)) => {
                self.known().form = Some(Form::Plain);
                Ok(answer)
            }
            (_, answer) => answer,
        }
    }

    /// Finds out which form the agent knows.
    async fn form(&self) -> Result<Form, HttpError> {
        let get = |url: Url| async move { self.client.get(&url, MAX_LISTING_BYTES).await }.boxed();
        let form = match self.at_any_address("/files/read", "", get).await {
            Err(error) if is_missing(&error) => Form::Json,
            Ok(_) | Err(HttpError::Status { .. }) => Form::Plain,
            Err(error) => return Err(error),
        };
        self.known().form = Some(form);
        Ok(form)
    }

    /// The answer of the first address that connects, beginning with the last that did.
    async fn at_any_address<'a, T>(
        &self,
        path: &str,
        query: &str,
        fetch: impl Fn(Url) -> BoxFuture<'a, Result<T, HttpError>>,
    ) -> Result<T, HttpError> {
        #[cfg(test)]
        let _in_flight = in_flight::Guard::new();
        let first = self.known().address;
        let mut answer = None;
        for step in 0..self.addresses.len() {
            let address = (first + step) % self.addresses.len();
            let base = &self.addresses[address];
            let mut url = base.clone();
            // A proxy may have the agent below a path of its own.
            url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
            url.set_query((!query.is_empty()).then_some(query));
            match self.by_any_scheme(url, &fetch).await {
                // The first address is the one that a person knows; its error is the one to show.
                Err(error) if is_unreachable(&error) => {
                    answer.get_or_insert(error);
                }
                result => {
                    self.known().address = address;
                    return result;
                }
            }
        }
        // What comes back there may be another version.
        self.known().form = None;
        Err(answer.unwrap_or_else(|| HttpError::Request {
            attempt: Attempt { what: "reach", url: "the agent".to_owned() },
            reason: "none of its addresses is known".to_owned(),
        }))
    }

    /// The answer to `url`, or to the same with the other of http and https.
    async fn by_any_scheme<'a, T>(
        &self,
        url: Url,
        fetch: impl Fn(Url) -> BoxFuture<'a, Result<T, HttpError>>,
    ) -> Result<T, HttpError> {
        let Some(other) = self.may_change_scheme.then(|| with_other_scheme(&url)).flatten() else {
            return fetch(url).await;
        };
        let had_other = self.known().has_other_scheme;
        let (usual, unusual) = if had_other { (other, url) } else { (url, other) };
        let result = fetch(usual).await;
        if !result.as_ref().is_err_and(is_of_another_scheme) {
            return result;
        }
        match fetch(unusual).await {
            // The address as it was says more.
            Err(error) if is_unreachable(&error) || is_of_another_scheme(&error) => result,
            other_result => {
                self.known().has_other_scheme = !had_other;
                other_result
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while it holds the lock")
    }
}

/// A file that is being downloaded.
#[derive(Debug)]
pub(super) struct Body(Download);

impl Body {
    /// The next bytes; `None` after the last.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        #[cfg(test)]
        let _in_flight = in_flight::Guard::new();
        Ok(self.0.chunk().await?)
    }
}

impl From<HttpError> for Fault {
    fn from(error: HttpError) -> Self {
        let kind = match &error {
            HttpError::Status { status: 404, .. } => FaultKind::Missing,
            // 408 and 429 would be a proxy's.
            HttpError::Unauthorized { .. } => FaultKind::Definite,
            HttpError::Tls { fault: TlsFault::BrokenOff, .. } => FaultKind::BrokenOff,
            HttpError::Tls { fault, .. } if fault.is_final() => FaultKind::Definite,
            HttpError::Status { status: 400..=407 | 409..=428 | 501, .. } => FaultKind::Definite,
            _ => FaultKind::Unreachable,
        };
        let from = |attempt: &Attempt| {
            let agent = Url::parse(&attempt.url).map_or_else(|_| attempt.url.clone(), |url| host_port(&url));
            format!("cannot read the task's output from the agent at {agent}")
        };
        let why = match &error {
            HttpError::Unauthorized { attempt, shown } => {
                format!("{}: {shown}; {}", from(attempt), advice::unauthorized(Peer::Agent, shown))
            }
            HttpError::Status { status: 403, attempt, body } => {
                format!("{}: it forbids it (403 {body}); {}", from(attempt), advice::forbidden())
            }
            HttpError::Tls { attempt, fault } => match advice::tls(Peer::Agent, fault) {
                Some(advice) => format!("{}: {fault}; {advice}", from(attempt)),
                None => format!("{}: {fault}", from(attempt)),
            },
            other => other.to_string(),
        };
        Self { kind, why }
    }
}

impl Fault {
    /// An answer that makes no sense may be a broken one; the next may be whole.
    pub(super) fn senseless(what: impl Display) -> Self {
        Self { kind: FaultKind::Unreachable, why: format!("cannot understand the agent's answer: {what}") }
    }
}

/// Nobody is there, or not at this address.
fn is_unreachable(error: &HttpError) -> bool {
    matches!(error, HttpError::Connect { .. } | HttpError::Request { .. })
}

/// Somebody is there who does not speak this scheme: answers nonsense, or nothing.
fn is_of_another_scheme(error: &HttpError) -> bool {
    matches!(
        error,
        HttpError::Stream { .. }
            | HttpError::Tls { fault: TlsFault::NotTls | TlsFault::OnlyTls | TlsFault::BrokenOff, .. }
    )
}

fn with_other_scheme(url: &Url) -> Option<Url> {
    let port = url.port_or_known_default()?;
    let mut other = url.clone();
    other.set_scheme(if url.scheme() == "https" { "http" } else { "https" }).ok()?;
    other.set_port(Some(port)).ok()?;
    Some(other)
}

fn is_missing(error: &HttpError) -> bool {
    matches!(error, HttpError::Status { status: 404, .. })
}

fn decoded<T>(result: Result<T, DecodeError>) -> Result<T, Fault> {
    result.map_err(Fault::senseless)
}

fn listing(entries: &[files::Entry]) -> Result<Listing, Fault> {
    let size = |name: &str| entries.iter().find(|entry| entry.name == name.as_bytes()).map(|entry| entry.size);
    Ok(Listing {
        sizes: Stream::ALL.map(|stream| size(stream.name())),
        has_pull_progress: size(PULL_PROGRESS_FILE).is_some(),
        requests: 1,
    })
}

/// A query for any path: agents decode `+` as a blank, and a path may hold any byte.
fn query(path: &[u8], rest: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
    format!("path={}{rest}", percent_encode(path, KEPT))
}

/// Some 800 files.
const MAX_LISTING_BYTES: usize = 256 << 10;

/// Every byte of a full answer as `\u00XX`, and the object around it.
const MAX_READ_ANSWER_BYTES: usize = 6 * READ_BYTES as usize + 1024;

/// Ten times what a large agent serves.
const MAX_STATE_BYTES: usize = 32 << 20;

/// Counts the requests that are on their way, so that a test on the same thread can wait for them.
#[cfg(test)]
pub(super) mod in_flight {
    use std::cell::Cell;

    thread_local! {
        static COUNT: Cell<usize> = const { Cell::new(0) };
    }

    pub(in super::super) fn count() -> usize {
        COUNT.get()
    }

    pub(super) struct Guard;

    impl Guard {
        pub(super) fn new() -> Self {
            COUNT.set(COUNT.get() + 1);
            Self
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            COUNT.set(COUNT.get() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::{Read as _, Write as _};
    use std::sync::Arc;

    use proto::http::ClientOptions;
    use proto::tls::{Authorities, TlsOptions};
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    #[test]
    fn paths_are_encoded_to_the_byte() {
        assert_eq!(query(b"/a b/c+d\xff(1)~-._", "&offset=1"), "path=/a%20b/c%2Bd%FF%281%29~-._&offset=1");
    }

    /// Speaks TLS and nothing else, and has an empty sandbox. Gives its address without a scheme, and its certificate.
    fn agent_with_tls_only() -> (String, String) {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        // Else one could be the other's issuer.
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("agent {port}"));
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private).unwrap();
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let session = rustls::ServerConnection::new(config.clone()).unwrap();
                let mut stream = rustls::StreamOwned::new(session, connection.unwrap());
                let mut request = [0; 4096];
                // Who does not speak TLS, or does not trust it, has nothing to ask.
                if stream.read(&mut request).is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]");
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            }
        });
        (format!("localhost:{port}"), certificate.pem())
    }

    #[tokio::test]
    async fn an_agent_with_tls_behind_a_master_without_is_read_if_it_is_trusted_and_else_told() {
        let (address, certificate) = agent_with_tls_only();
        let location = Location {
            agents: vec![format!("http://{address}").parse().unwrap()],
            may_change_scheme: true,
            process: "/slave(1)".to_owned(),
            agent_id: "A".to_owned(),
            framework_id: "F".to_owned(),
            executor_id: "E".to_owned(),
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certificate).unwrap();
        let tls = TlsOptions { authorities: Some(Authorities::read(file.path()).unwrap()), ..TlsOptions::default() };
        let trusting = Client::new(ClientOptions { tls, ..ClientOptions::default() }).unwrap();
        assert_eq!(Agent::new(trusting, &location).list(b"/x").await.unwrap().sizes, [None, None]);

        let other = agent_with_tls_only().1;
        std::fs::write(file.path(), other).unwrap();
        let tls = TlsOptions { authorities: Some(Authorities::read(file.path()).unwrap()), ..TlsOptions::default() };
        let client = Client::new(ClientOptions { tls, ..ClientOptions::default() }).unwrap();
        let fault = Agent::new(client, &location).list(b"/x").await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Definite);
        for word in
            ["cannot read the task's output from the agent at", &address, "authority that is not trusted", "--cacert"]
        {
            assert!(fault.why.contains(word), "{word}: {}", fault.why);
        }
    }
}
