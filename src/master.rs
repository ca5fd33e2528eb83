//! From `--master` to the leading master: the forms of the option, elections, redirects, and what the master's version knows.
//!
//! ```text
//! HOST[:PORT]  master@HOST:PORT  http(s)://HOST[:PORT][/PATH]  or several with commas --> redirects --> leader
//! zk://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]/PATH  --> election --> its address ------> redirects --> leader
//! file://PATH  one of these, or local, in a file
//! local  local[N]  started by the framework shell, then like the first
//! ```
//!
//! The procedure of redirects is the one that works from Mesos 0.24 to 1.11: take host and port of a 307, ask `/redirect`
//! after a 503, and try the next of the list otherwise. Nothing here tries again after it has failed: that is the scheduler
//! core's decision.

mod address;
mod election;
mod ensemble;
mod survey;
mod version;
mod zookeeper;

use std::time::Duration;

use proto::http::{Client, EventStream, HttpError, Shown, TlsFault};
use proto::scheduler::{Call, Event};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use crate::advice::{self, Peer};
use version::{SUPPRESS_SINCE, fit};
use zookeeper::{Leader, Session};

pub(crate) use address::without_credentials;
pub use address::{AddressError, MasterAddress, Masters, host_port};
pub use ensemble::Ensemble;
pub use survey::{survey, survey_any};
pub use version::Version;

/// Two masters may point at each other during an election; nobody needs more hops than this.
const MAX_HOPS: usize = 10;

/// `/version` is some hundred bytes, a 0.24 `/state.json` of a large cluster several megabytes.
const MAX_STATE_BYTES: usize = 64 << 20;

/// How long one attempt waits for an election to end. Short, so that the reason for waiting is told soon; the scheduler core
/// tries again.
const LEADER_LIMIT: Duration = Duration::from_secs(1);

/// For all masters of a list together; below the scheduler's own limit for one attempt, which would begin with the first again.
const LIST_LIMIT: Duration = Duration::from_secs(24);

/// A subscription at the leader.
#[derive(Debug)]
pub struct Subscription {
    /// The events.
    pub stream: EventStream<Event>,
    /// The leader's base address.
    pub leader: Url,
    /// What the leader runs; `None` when it does not say.
    pub version: Option<Version>,
}

impl Subscription {
    /// Where calls go.
    pub fn endpoint(&self) -> Url {
        endpoint(&self.leader)
    }

    /// Whether this master knows SUPPRESS; an older one would answer 400 each time.
    pub fn takes_suppress(&self) -> bool {
        self.version.is_none_or(|version| version >= SUPPRESS_SINCE)
    }
}

/// Why there is no subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was attempted, on what, why it failed.
    pub reason: String,
    /// Whether trying again is pointless.
    pub is_fatal: bool,
}

/// Finds the leader and subscribes there.
///
/// FrameworkInfo is cut down to what the leader's version knows: masters before 0.28.1 reject a whole call for one
/// unknown capability. With ZooKeeper, waits for a moment for a leader that can be reached.
///
/// # Errors
/// When no master leads to a subscription; fatal when each one said a final no (401, 403, 400) or is no Mesos, or when
/// ZooKeeper keeps the leader from us.
pub async fn subscribe(client: &Client, masters: &Masters, call: &Call) -> Result<Subscription, Refusal> {
    match masters {
        Masters::Listed(masters) => subscribe_listed(client, masters, call, LIST_LIMIT).await,
        Masters::Elected(ensemble) => subscribe_elected(client, ensemble, call).await,
    }
}

async fn subscribe_listed(
    client: &Client,
    masters: &[Url],
    call: &Call,
    list_limit: Duration,
) -> Result<Subscription, Refusal> {
    let mut refusals = Vec::new();
    // One that is silent must leave time for the others: the caller's patience is for the whole list.
    let limit = list_limit / u32::try_from(masters.len()).unwrap_or(u32::MAX).max(1);
    for master in masters {
        let subscribed = timeout(limit, subscribe_from(client, master, call)).await.map_err(|_| {
            later(format!("the master at {} does not answer within {} ms", host_port(master), limit.as_millis()))
        });
        match subscribed.and_then(|result| result.map_err(Refusal::from)) {
            Ok(subscription) => return Ok(subscription),
            Err(refusal) if refusal.is_fatal && masters.len() == 1 => return Err(refusal),
            Err(refusal) => refusals.push(refusal),
        }
    }
    let is_fatal = refusals.iter().all(|refusal| refusal.is_fatal);
    let reason = refusals.into_iter().map(|refusal| refusal.reason).collect::<Vec<_>>().join("; ");
    Err(Refusal { reason, is_fatal })
}

async fn subscribe_elected(client: &Client, ensemble: &Ensemble, call: &Call) -> Result<Subscription, Refusal> {
    let session = Session::open(ensemble).await?;
    let deadline = Instant::now() + LEADER_LIMIT;
    loop {
        let (leader, change) = session.leader().await?;
        let refusal = match leader {
            Leader::Nobody(reason) => later(reason),
            Leader::At(addresses) => match subscribe_at_any(client, &addresses, call).await {
                Ok(subscription) => return Ok(subscription),
                Err(Miss::Refused(refusal)) => return Err(refusal),
                // The node of a master that has died stays for some seconds.
                Err(Miss::Unreachable(reason)) => later(format!("{reason}; it is the leader by {ensemble}")),
            },
        };
        if Instant::now() >= deadline || timeout_at(deadline, change.happened()).await.is_err() {
            return Err(refusal);
        }
    }
}

/// `addresses` are of the same master: another one is tried only when nobody answers.
async fn subscribe_at_any(client: &Client, addresses: &[Url], call: &Call) -> Result<Subscription, Miss> {
    let mut reasons = Vec::new();
    for address in addresses {
        match subscribe_from(client, address, call).await {
            Err(Miss::Unreachable(reason)) => reasons.push(reason),
            result => return result,
        }
    }
    Err(Miss::Unreachable(reasons.join("; ")))
}

/// Why one address did not lead to a subscription.
enum Miss {
    /// Nobody answers, for this reason.
    Unreachable(String),
    Refused(Refusal),
}

impl From<Refusal> for Miss {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Miss> for Refusal {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Unreachable(reason) => later(format!("{reason}; check its address, and that it runs")),
            Miss::Refused(refusal) => refusal,
        }
    }
}

async fn subscribe_from(client: &Client, master: &Url, call: &Call) -> Result<Subscription, Miss> {
    let mut leader = master.clone();
    for _ in 0..MAX_HOPS {
        let version = ask_version(client, &leader).await?;
        let fitted = fit(call.clone(), version);
        match client.subscribe(&endpoint(&leader), &fitted).await {
            Ok(stream) => return Ok(Subscription { stream, leader, version }),
            Err(error) => match next_hop(client, &leader, error).await? {
                next if next == leader => {
                    return Err(later(format!("the master at {} redirects to itself", host_port(&leader))).into());
                }
                next => leader = next,
            },
        }
    }
    Err(later(format!("more than {MAX_HOPS} redirects, starting at {}", host_port(master))).into())
}

fn later(reason: String) -> Refusal {
    Refusal { reason, is_fatal: false }
}

fn endpoint(base: &Url) -> Url {
    join(base, "api/v1/scheduler")
}

/// `base` always ends with a slash, so the path prefix of a proxy stays.
fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path()));
    url
}

/// Where to go after an answer that was not a subscription.
async fn next_hop(client: &Client, asked: &Url, error: HttpError) -> Result<Url, Miss> {
    let name = host_port(asked);
    let next = match error {
        HttpError::Redirect { location: Some(location), .. } => redirected(asked, &location)
            .ok_or_else(|| later(format!("the master at {name} redirects to \"{location}\", which is no address"))),
        HttpError::Status { status: 503, body, .. } => {
            let redirect = client.get(&join(asked, "redirect"), MAX_STATE_BYTES).await;
            match redirect {
                Err(HttpError::Redirect { location: Some(location), .. }) => match redirected(asked, &location) {
                    Some(next) if next != *asked => Ok(next),
                    _ => Err(later(format!("the master at {name} is not ready: {}", one_line(&body)))),
                },
                _ => Err(later(format!("the master at {name} is not ready: {}", one_line(&body)))),
            }
        }
        HttpError::Unauthorized { shown, .. } => Err(Refusal { reason: unauthorized(&name, &shown), is_fatal: true }),
        HttpError::Tls { fault, .. } => Err(no_tls(&name, &fault)),

        HttpError::Status { status: 404, .. } => Err(Refusal {
            reason: format!(
                "{name} has no Mesos scheduler API (404 for {}); check that it is a Mesos master, 0.24 or later",
                endpoint(asked).path()
            ),
            is_fatal: false,
        }),
        // Every Mesos master takes a POST there, of this type.
        HttpError::Status { status: status @ (405 | 406 | 415 | 501), .. } => Err(Refusal {
            reason: format!(
                "{name} does not answer as a Mesos master ({status}); give the address of one, 0.24 or later"
            ),
            is_fatal: true,
        }),
        HttpError::Status { status: 400, body, .. } => Err(Refusal {
            reason: format!("the Mesos master at {name} refused the subscription (400): {}", one_line(&body)),
            is_fatal: true,
        }),
        HttpError::Status { status: 403, body, .. } => Err(Refusal {
            reason: format!(
                "the Mesos master at {name} refused the subscription (403): {}; {}",
                one_line(&body),
                advice::forbidden()
            ),
            is_fatal: true,
        }),
        error @ HttpError::NotMesos { .. } => {
            Err(Refusal { reason: format!("{}; give the address of a Mesos master", chain(&error)), is_fatal: true })
        }
        error @ (HttpError::Connect { .. } | HttpError::Timeout { .. }) => {
            return Err(Miss::Unreachable(describe(asked, &error)));
        }
        other => Err(later(chain(&other))),
    };
    next.map_err(Miss::Refused)
}

fn unauthorized(name: &str, shown: &Shown) -> String {
    let what = match shown {
        Shown::Nothing => "wants credentials".to_owned(),
        Shown::Token => "does not accept the token".to_owned(),
        Shown::Principal(principal) => format!("does not accept principal \"{principal}\" with this secret"),
    };
    format!("the master at {name} {what} (401); {}", advice::unauthorized(Peer::Master, shown))
}

fn no_tls(name: &str, fault: &TlsFault) -> Refusal {
    let advice = advice::tls(Peer::Master, fault).map(|advice| format!("; {advice}")).unwrap_or_default();
    Refusal { reason: format!("cannot reach the master at {name}: {fault}{advice}"), is_fatal: fault.is_final() }
}

/// One line for what is no answer of a master.
fn describe(asked: &Url, error: &HttpError) -> String {
    match error {
        HttpError::Connect { reason, .. } => {
            format!("cannot reach the master at {}: {reason}", host_port(asked))
        }
        HttpError::Timeout { limit, .. } => {
            format!("the master at {} did not answer within {} s", host_port(asked), limit.as_secs())
        }
        other => chain(other),
    }
}

/// An error and its sources, in chain order.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

/// The base address that a Location names: only its host and port count; scheme and path prefix stay those of the request.
fn redirected(asked: &Url, location: &str) -> Option<Url> {
    let target = asked.join(location).ok()?;
    let mut next = asked.clone();
    next.set_host(target.host_str()).ok()?;
    next.set_port(target.port()).ok()?;
    Some(next)
}

fn one_line(body: &str) -> String {
    body.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The master's version: `/version` from 0.26 on, else the field in the state. `None` when neither says it.
async fn ask_version(client: &Client, master: &Url) -> Result<Option<Version>, Miss> {
    for path in ["version", "state.json", "state"] {
        match client.get(&join(master, path), MAX_STATE_BYTES).await {
            Ok(body) => {
                #[derive(serde::Deserialize)]
                struct Answer {
                    version: String,
                }
                if let Ok(answer) = serde_json::from_slice::<Answer>(&body) {
                    return Ok(answer.version.parse().ok());
                }
            }
            Err(error @ (HttpError::Connect { .. } | HttpError::Timeout { .. })) => {
                return Err(Miss::Unreachable(describe(master, &error)));
            }
            Err(HttpError::Status { status: 404, .. }) => {}
            // Authentication, a redirect to the leader, a master in recovery: what matters is the answer to SUBSCRIBE.
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::http::{StatusCode, header};
    use axum::response::{IntoResponse, Response};
    use axum::routing::{get, post};
    use proto::http::ClientOptions;
    use proto::scheduler::{call, event};

    use super::*;

    /// A server that answers SUBSCRIBE and `/redirect` like this, and knows no version.
    async fn server(
        subscribe: impl Fn() -> Response + Clone + Send + Sync + 'static,
        leader: Option<SocketAddr>,
    ) -> SocketAddr {
        let redirect = move || async move {
            let location = leader.map(|leader| [(header::LOCATION, format!("//{leader}"))]);
            (StatusCode::TEMPORARY_REDIRECT, location.unwrap_or([(header::LOCATION, String::new())]))
        };
        let router = Router::new()
            .route("/api/v1/scheduler", post(move || async move { subscribe() }))
            .route("/redirect", get(redirect));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn accepts() -> Response {
        let subscribed = Event { r#type: Some(event::Type::Subscribed.into()), ..Event::default() };
        let record = proto::recordio::encode(&prost::Message::encode_to_vec(&subscribed));
        ([(header::CONTENT_TYPE, "application/x-protobuf")], record).into_response()
    }

    fn redirects(leader: SocketAddr) -> Response {
        (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, format!("//{leader}/master/api/v1/scheduler"))])
            .into_response()
    }

    async fn subscribe_at(address: SocketAddr) -> Result<Subscription, Refusal> {
        let client = Client::new(ClientOptions::default()).expect("a client");
        subscribe(&client, &Masters::from(url(&address)), &subscribe_call()).await
    }

    fn url(address: &SocketAddr) -> Url {
        Url::parse(&format!("http://{address}/")).expect("a url")
    }

    fn subscribe_call() -> Call {
        Call { r#type: Some(call::Type::Subscribe.into()), subscribe: Some(Box::default()), ..Call::default() }
    }

    #[tokio::test]
    async fn masters_that_say_nothing_leave_time_for_the_next() {
        let silent = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
        let addresses = silent.each_ref().map(|listener| listener.local_addr().expect("an address"));
        let live = server(accepts, None).await;
        let masters: Vec<Url> = addresses.iter().chain([&live]).map(url).collect();
        let client = Client::new(ClientOptions::default()).expect("a client");
        let subscription = subscribe_listed(&client, &masters, &subscribe_call(), Duration::from_secs(9)).await;
        assert_eq!(host_port(&subscription.expect("a subscription").leader), live.to_string());
        let Err(refusal) = subscribe_listed(&client, &masters[..2], &subscribe_call(), Duration::from_millis(2)).await
        else {
            panic!("nobody answered")
        };
        assert!(!refusal.is_fatal && refusal.reason.matches("does not answer within 1 ms").count() == 2, "{refusal:?}");
    }

    #[tokio::test]
    async fn a_redirect_is_followed_to_the_leader() {
        let leader = server(accepts, None).await;
        let other = server(move || redirects(leader), None).await;
        let mut subscription = subscribe_at(other).await.expect("a subscription");
        assert_eq!(host_port(&subscription.leader), leader.to_string());
        let event = subscription.stream.next().await.expect("a stream").expect("an event");
        assert_eq!(event.r#type(), event::Type::Subscribed);
    }

    #[tokio::test]
    async fn a_master_that_is_not_ready_is_asked_for_the_leader() {
        let leader = server(accepts, None).await;
        let unavailable = || (StatusCode::SERVICE_UNAVAILABLE, "Not the leading master").into_response();
        let other = server(unavailable, Some(leader)).await;
        let subscription = subscribe_at(other).await.expect("a subscription");
        assert_eq!(host_port(&subscription.leader), leader.to_string());
    }

    #[tokio::test]
    async fn masters_that_point_at_each_other_are_waited_for() {
        let (sender, receiver) = tokio::sync::watch::channel(None);
        let first = server(move || redirects(receiver.borrow().expect("set below")), None).await;
        let second = server(move || redirects(first), None).await;
        sender.send_replace(Some(second));
        let refusal = subscribe_at(first).await.expect_err("no leader");
        assert!(!refusal.is_fatal && refusal.reason.contains("redirects"), "{refusal:?}");
    }

    #[tokio::test]
    async fn a_final_no_is_told_from_one_that_may_pass() {
        for (status, is_fatal) in
            [(401, true), (403, true), (400, true), (405, true), (503, false), (500, false), (404, false)]
        {
            let answer = move || (StatusCode::from_u16(status).expect("a status"), "because").into_response();
            let address = server(answer, None).await;
            let refusal = subscribe_at(address).await.expect_err("no subscription");
            assert_eq!(refusal.is_fatal, is_fatal, "{status}: {refusal:?}");
            assert!(refusal.reason.contains(&address.to_string()), "{status}: {refusal:?}");
        }
    }

    #[test]
    fn a_redirect_counts_by_host_and_port_only() {
        let asked = Url::parse("https://m1:8443/prefix/").expect("a url");
        for (location, next) in [
            ("//m2:5050", "https://m2:5050/prefix/"),
            ("//m2:5050/master/api/v1/scheduler", "https://m2:5050/prefix/"),
            ("http://m2:5050/x", "https://m2:5050/prefix/"),
        ] {
            assert_eq!(redirected(&asked, location).map(String::from).as_deref(), Some(next));
        }
        assert_eq!(redirected(&asked, "http://["), None);
    }
}
