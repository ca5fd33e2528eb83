//! From `--master` to the leading master: the forms of the option, redirects, and what the master's version knows.
//!
//! Forms: `HOST[:PORT]`, `master@HOST:PORT`, `http(s)://HOST[:PORT][/PATH]`, a comma-separated list of these, `local`,
//! `local[N]`, and `file://PATH` with one of them in the file. The procedure of redirects is the one that works from
//! Mesos 0.24 to 1.11: take host and port of a 307, ask `/redirect` after a 503, and try the next of the list otherwise.

use std::fmt;
use std::str::FromStr;

use proto::http::{Client, EventStream, HttpError};
use proto::mesos::framework_info::capability;
use proto::scheduler::{Call, Event};
use url::Url;

/// Where Mesos masters listen unless told otherwise.
const DEFAULT_PORT: u16 = 5050;

/// Two masters may point at each other during an election; nobody needs more hops than this.
const MAX_HOPS: usize = 10;

/// `/version` is some hundred bytes, a 0.24 `/state.json` of a large cluster several megabytes.
const MAX_STATE_BYTES: usize = 64 << 20;

/// How the master was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterAddress {
    /// A master and that many agents inside this process.
    Local {
        /// At least one.
        agents: u32,
    },
    /// Masters in the order to try; any of them may redirect to the leader. Paths end with a slash.
    Masters(Vec<Url>),
}

/// Why a `--master` value is not one.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error("the master's address is empty; give HOST:PORT, http(s)://HOST:PORT, a comma-separated list, or local")]
    Empty,
    /// Not of any form.
    #[error("master address \"{text}\": {why}; give HOST:PORT, http(s)://HOST:PORT, a comma-separated list, or local")]
    Malformed {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// `local[0]`, `local[x]`, `local[100000]`.
    #[error("master address \"{text}\": local[N] wants a number of agents from 1 to {MAX_LOCAL_AGENTS}")]
    LocalAgents {
        /// What was given.
        text: String,
    },
    /// `file://PATH` cannot be read.
    #[error("cannot read the master's address from {path}: {source}")]
    File {
        /// The path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// More agents than this in one process are a slip of the hand.
const MAX_LOCAL_AGENTS: u32 = 100;

impl FromStr for MasterAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text, true)
    }
}

fn parse(text: &str, may_be_file: bool) -> Result<MasterAddress, AddressError> {
    let text = text.trim();
    let malformed = |why: &str| AddressError::Malformed { text: without_password(text), why: why.to_owned() };
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text == "local" {
        return Ok(MasterAddress::Local { agents: 1 });
    }
    if let Some(count) = text.strip_prefix("local[").and_then(|rest| rest.strip_suffix(']')) {
        return match count.parse() {
            Ok(agents) if (1..=MAX_LOCAL_AGENTS).contains(&agents) => Ok(MasterAddress::Local { agents }),
            _ => Err(AddressError::LocalAgents { text: text.to_owned() }),
        };
    }
    if text.starts_with("zk://") {
        return Err(malformed("this version cannot ask ZooKeeper for the leader; name the masters themselves"));
    }
    if let Some(path) = text.strip_prefix("file://") {
        if !may_be_file {
            return Err(malformed("a file may not point to another file"));
        }
        let inside =
            std::fs::read_to_string(path).map_err(|source| AddressError::File { path: path.to_owned(), source })?;
        return parse(&inside, false);
    }
    let masters = text.split(',').map(|part| base_url(part.trim())).collect::<Result<Vec<_>, _>>()?;
    Ok(MasterAddress::Masters(masters))
}

/// A text that may name user and password, fit for an error.
fn without_password(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &text[..scheme + 3], &text[at + 1..]),
        _ => text.to_owned(),
    }
}

fn base_url(text: &str) -> Result<Url, AddressError> {
    let malformed = |why: String| AddressError::Malformed { text: without_password(text), why };
    if text.is_empty() {
        return Err(malformed("an entry of the list is empty".to_owned()));
    }
    let (explicit_scheme, with_scheme) = match text.split_once("://") {
        Some(("http" | "https", _)) => (true, text.to_owned()),
        Some((scheme, _)) => return Err(malformed(format!("scheme {scheme}:// is not known"))),
        None => (false, format!("http://{}", text.strip_prefix("master@").unwrap_or(text))),
    };
    let mut url = Url::parse(&with_scheme).map_err(|error| malformed(error.to_string()))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(malformed("there is no host".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(malformed("credentials do not belong into the address".to_owned()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(malformed("a query or fragment makes no sense here".to_owned()));
    }
    if !explicit_scheme && url.path() != "/" {
        return Err(malformed("a path needs http:// or https:// before it".to_owned()));
    }
    // `http://HOST` means port 80 to everybody; only the bare form has Mesos' default.
    if !explicit_scheme && url.port().is_none() && !text.ends_with(":80") {
        let _ = url.set_port(Some(DEFAULT_PORT));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// HOST:PORT, as people name a master.
pub fn host_port(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or("?"), url.port_or_known_default().unwrap_or(DEFAULT_PORT))
}

/// Major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl FromStr for Version {
    type Err = ();

    /// Suffixes such as `-rc1` or `-dcos` do not count.
    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |part: Option<&str>| {
            let digits: String = part.unwrap_or("0").chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().map_err(|_| ())
        };
        let mut parts = text.trim().split('.');
        Ok(Self(number(parts.next())?, number(parts.next())?, number(parts.next())?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The first version whose masters take SUPPRESS.
const SUPPRESS_SINCE: Version = Version(0, 25, 0);

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

/// Finds the leader, starting with `masters` in their order, and subscribes there.
///
/// FrameworkInfo is cut down to what the leader's version knows: masters before 0.28.1 reject a whole call for one
/// unknown capability.
///
/// # Errors
/// When no master of the list leads to a subscription; fatal when one said a final no (401, 403, 400) or is no Mesos.
pub async fn subscribe(client: &Client, masters: &[Url], call: &Call) -> Result<Subscription, Refusal> {
    let mut refusals = Vec::new();
    for master in masters {
        match subscribe_from(client, master, call).await {
            Ok(subscription) => return Ok(subscription),
            Err(refusal) if refusal.is_fatal && masters.len() == 1 => return Err(refusal),
            Err(refusal) => refusals.push(refusal),
        }
    }
    let is_fatal = refusals.iter().all(|refusal| refusal.is_fatal);
    let reason = refusals.into_iter().map(|refusal| refusal.reason).collect::<Vec<_>>().join("; ");
    Err(Refusal { reason, is_fatal })
}

async fn subscribe_from(client: &Client, master: &Url, call: &Call) -> Result<Subscription, Refusal> {
    let mut leader = master.clone();
    for _ in 0..MAX_HOPS {
        let version = ask_version(client, &leader).await?;
        let fitted = fit(call.clone(), version);
        match client.subscribe(&endpoint(&leader), &fitted).await {
            Ok(stream) => return Ok(Subscription { stream, leader, version }),
            Err(error) => match next_hop(client, &leader, error).await? {
                next if next == leader => {
                    return Err(wait(format!("the master at {} redirects to itself", host_port(&leader))));
                }
                next => leader = next,
            },
        }
    }
    Err(wait(format!("more than {MAX_HOPS} redirects, starting at {}", host_port(master))))
}

fn wait(reason: String) -> Refusal {
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
async fn next_hop(client: &Client, asked: &Url, error: HttpError) -> Result<Url, Refusal> {
    let name = host_port(asked);
    match error {
        HttpError::Redirect { location: Some(location), .. } => redirected(asked, &location)
            .ok_or_else(|| wait(format!("the master at {name} redirects to \"{location}\", which is no address"))),
        HttpError::Status { status: 503, body, .. } => {
            let redirect = client.get(&join(asked, "redirect"), MAX_STATE_BYTES).await;
            match redirect {
                Err(HttpError::Redirect { location: Some(location), .. }) => match redirected(asked, &location) {
                    Some(next) if next != *asked => Ok(next),
                    _ => Err(wait(format!("the master at {name} is not ready: {}", one_line(&body)))),
                },
                _ => Err(wait(format!("the master at {name} is not ready: {}", one_line(&body)))),
            }
        }
        HttpError::Status { status: 401, .. } => Err(Refusal {
            reason: format!("the master at {name} wants authentication, or other credentials (401)"),
            is_fatal: true,
        }),
        HttpError::Status { status: 404, .. } => Err(Refusal {
            reason: format!(
                "{name} has no Mesos scheduler API (404 for {}); check that it is a Mesos master, 0.24 or later",
                endpoint(asked).path()
            ),
            is_fatal: false,
        }),
        HttpError::Status { status: status @ (400 | 403 | 405 | 406 | 415 | 501), body, .. } => Err(Refusal {
            reason: format!("the master at {name} refused the subscription ({status}): {}", one_line(&body)),
            is_fatal: true,
        }),
        error @ HttpError::NotMesos { .. } => {
            Err(Refusal { reason: format!("{}; give the address of a Mesos master", chain(&error)), is_fatal: true })
        }
        other => Err(wait(describe(asked, &other))),
    }
}

/// One line for what is no answer of a master.
fn describe(asked: &Url, error: &HttpError) -> String {
    match error {
        HttpError::Connect { reason, .. } => {
            format!("cannot reach the master at {}: {reason}; check its address, and that it runs", host_port(asked))
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
async fn ask_version(client: &Client, master: &Url) -> Result<Option<Version>, Refusal> {
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
                return Err(wait(describe(master, &error)));
            }
            Err(HttpError::Status { status: 404, .. }) => {}
            // Authentication, a redirect to the leader, a master in recovery: what matters is the answer to SUBSCRIBE.
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

/// The call without what a master of this version does not know; without a version only what is safe everywhere.
fn fit(mut call: Call, version: Option<Version>) -> Call {
    if let Some(subscribe) = &mut call.subscribe {
        subscribe.framework_info.capabilities.retain(|capability| {
            let since = match capability.r#type() {
                capability::Type::RevocableResources => Version(0, 23, 0),
                capability::Type::TaskKillingState => Version(0, 28, 0),
                capability::Type::GpuResources => Version(1, 0, 0),
                capability::Type::SharedResources | capability::Type::PartitionAware => Version(1, 1, 0),
                capability::Type::MultiRole => Version(1, 2, 0),
                capability::Type::ReservationRefinement | capability::Type::RegionAware => Version(1, 4, 0),
                capability::Type::Unknown => return false,
            };
            version.is_some_and(|version| version >= since)
        });
    }
    call
}

#[cfg(test)]
mod tests {
    use proto::scheduler::call;

    use super::*;

    fn masters(text: &str) -> Vec<String> {
        match text.parse() {
            Ok(MasterAddress::Masters(urls)) => urls.iter().map(Url::to_string).collect(),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn error(text: &str) -> String {
        text.parse::<MasterAddress>().expect_err(text).to_string()
    }

    #[test]
    fn every_form_of_a_fixed_master_is_understood() {
        for (text, url) in [
            ("m1:5051", "http://m1:5051/"),
            ("m1", "http://m1:5050/"),
            (" m1 ", "http://m1:5050/"),
            ("m1:80", "http://m1/"),
            ("master@10.0.0.1:5050", "http://10.0.0.1:5050/"),
            ("[::1]:5050", "http://[::1]:5050/"),
            ("http://m1:5050", "http://m1:5050/"),
            ("http://m1", "http://m1/"),
            ("https://proxy/mesos", "https://proxy/mesos/"),
            ("https://proxy:8443/mesos/", "https://proxy:8443/mesos/"),
        ] {
            assert_eq!(masters(text), [url], "{text}");
        }
        assert_eq!(masters("m1:5050, m2:5050"), ["http://m1:5050/", "http://m2:5050/"]);
    }

    #[test]
    fn local_takes_a_number_of_agents() {
        assert_eq!("local".parse::<MasterAddress>().ok(), Some(MasterAddress::Local { agents: 1 }));
        assert_eq!("local[3]".parse::<MasterAddress>().ok(), Some(MasterAddress::Local { agents: 3 }));
        for wrong in ["local[0]", "local[x]", "local[]", "local[101]", "local[-1]"] {
            assert!(error(wrong).contains("1 to 100"), "{wrong}");
        }
    }

    #[test]
    fn a_file_holds_another_form() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("master");
        std::fs::write(&path, "m7:5050\n").expect("written");
        assert_eq!(masters(&format!("file://{}", path.display())), ["http://m7:5050/"]);
        std::fs::write(&path, format!("file://{}", path.display())).expect("written");
        assert!(error(&format!("file://{}", path.display())).contains("another file"));
        assert!(error("file:///nonexistent/master").contains("/nonexistent/master"));
    }

    #[test]
    fn what_is_no_address_is_said_with_the_forms_that_are() {
        for (text, why) in [
            ("", "empty"),
            ("m1:port", "port"),
            ("m1:5050/mesos", "http://"),
            ("ftp://m1:5050", "ftp://"),
            ("m1:5050,", "empty"),
            ("http://", "host"),
            ("http://m1:5050/?a=b", "query"),
            ("zk://m1:2181/mesos", "ZooKeeper"),
        ] {
            let said = error(text);
            assert!(said.contains(why) && said.contains("HOST:PORT"), "{text}: {said}");
        }
    }

    #[test]
    fn a_password_in_the_address_is_not_repeated() {
        let said = error("http://me:canary@m1:5050");
        assert!(!said.contains("canary"), "{said}");
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

    #[test]
    fn versions_parse_and_compare() {
        assert_eq!("1.11.0".parse(), Ok(Version(1, 11, 0)));
        assert_eq!("1.0.4-rc1".parse(), Ok(Version(1, 0, 4)));
        assert_eq!("0.28".parse(), Ok(Version(0, 28, 0)));
        assert_eq!("x".parse::<Version>(), Err(()));
        assert!(Version(1, 2, 0) < Version(1, 11, 0));
    }

    #[test]
    fn a_capability_is_only_told_to_a_master_that_knows_it() {
        let mut call = Call { subscribe: Some(call::Subscribe::default()), ..Call::default() };
        if let Some(subscribe) = &mut call.subscribe {
            for capability in [capability::Type::TaskKillingState, capability::Type::PartitionAware] {
                subscribe
                    .framework_info
                    .capabilities
                    .push(proto::mesos::framework_info::Capability { r#type: Some(capability.into()) });
            }
        }
        let known = |version| fit(call.clone(), version).subscribe.map_or(0, |s| s.framework_info.capabilities.len());
        assert_eq!(known(Some(Version(1, 11, 0))), 2);
        assert_eq!(known(Some(Version(0, 28, 0))), 1);
        assert_eq!(known(Some(Version(0, 27, 0))), 0);
        assert_eq!(known(None), 0);
    }
}
