//! The forms of `--master`.
//!
//! Nothing is looked up but the file of `file://PATH`.

use std::fmt;
use std::str::FromStr;

use url::Url;

use super::ensemble::Ensemble;

/// Where Mesos masters listen unless told otherwise.
const DEFAULT_PORT: u16 = 5050;

/// How the master was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterAddress {
    /// A master and that many agents inside this process.
    Local {
        /// At least one.
        agents: u32,
    },
    /// Masters elsewhere.
    Masters(Masters),
}

/// What leads to the leader; shown without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Masters {
    /// Masters in the order to try; any of them may redirect to the leader. Paths end with a slash.
    Listed(Vec<Url>),
    /// Masters that elect their leader in ZooKeeper.
    Elected(Ensemble),
}

impl From<Url> for Masters {
    fn from(master: Url) -> Self {
        Self::Listed(vec![master])
    }
}

/// `HOST:PORT[,HOST:PORT...]` or `zk://HOST:PORT[,HOST:PORT...]/PATH`.
impl fmt::Display for Masters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed(masters) => f.write_str(&masters.iter().map(host_port).collect::<Vec<_>>().join(",")),
            Self::Elected(ensemble) => ensemble.fmt(f),
        }
    }
}

/// Why a `--master` value is not one.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error(
        "the master's address is empty; give HOST:PORT, http(s)://HOST:PORT, a comma-separated list, zk://HOST:PORT/PATH, or local"
    )]
    Empty,
    /// Not of any form.
    #[error(
        "master address \"{text}\": {why}; give HOST:PORT, http(s)://HOST:PORT, a comma-separated list, zk://HOST:PORT/PATH, or local"
    )]
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
    let malformed = |why: String| AddressError::Malformed { text: without_credentials(text), why };
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
    if let Some(address) = text.strip_prefix("zk://") {
        let ensemble = Ensemble::parse(address).map_err(|why| malformed(why.to_owned()))?;
        return Ok(MasterAddress::Masters(Masters::Elected(ensemble)));
    }
    if let Some(path) = text.strip_prefix("file://") {
        if !may_be_file {
            return Err(malformed("a file may not point to another file".to_owned()));
        }
        let inside =
            std::fs::read_to_string(path).map_err(|source| AddressError::File { path: path.to_owned(), source })?;
        return parse(&inside, false);
    }
    let masters =
        text.split(',').map(|part| base_url(part.trim())).collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    Ok(MasterAddress::Masters(Masters::Listed(masters)))
}

/// A master's address that may hold user and password, or be misspelled around them, fit to be shown: nothing is left of
/// what is before the last `@` but the scheme.
pub(crate) fn without_credentials(address: &str) -> String {
    let Some((before, after)) = address.rsplit_once('@') else { return address.to_owned() };
    // The text of an old libprocess address; no secret.
    if before == "master" {
        return address.to_owned();
    }
    let scheme = before.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| is_scheme(scheme));
    scheme.map_or_else(|| after.to_owned(), |scheme| format!("{scheme}://{after}"))
}

fn is_scheme(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// A master's address with a path that ends with a slash; the error repeats nothing of it.
pub(super) fn base_url(text: &str) -> Result<Url, String> {
    let refused = |why: &str| Err(why.to_owned());
    if text.is_empty() {
        return refused("an entry of the list is empty");
    }
    let (explicit_scheme, with_scheme) = match text.split_once("://") {
        Some(("http" | "https", _)) => (true, text.to_owned()),
        Some(("zk", _)) => return refused("a zk:// address stands alone, its own servers separated by commas"),
        Some(_) => return refused("its scheme is not known"),
        None => (false, format!("http://{}", text.strip_prefix("master@").unwrap_or(text))),
    };
    let mut url = Url::parse(&with_scheme).map_err(|error| error.to_string())?;
    if url.host_str().is_none_or(str::is_empty) {
        return refused("there is no host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refused("credentials do not belong into the address");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refused("a query or fragment makes no sense here");
    }
    if !explicit_scheme && url.path() != "/" {
        return refused("a path needs http:// or https:// before it");
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

#[cfg(test)]
mod tests {
    use super::*;

    fn masters(text: &str) -> Vec<String> {
        match text.parse() {
            Ok(MasterAddress::Masters(Masters::Listed(urls))) => urls.iter().map(Url::to_string).collect(),
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
            ("zk://z1:2181", "path"),
            ("zk://z1:2181,z2:2181/", "path"),
            ("m1:5050,zk://z1:2181/mesos", "alone"),
            ("ZK://z1:2181/mesos", "scheme"),
        ] {
            let said = error(text);
            assert!(said.contains(why) && said.contains("HOST:PORT"), "{text}: {said}");
        }
    }

    #[test]
    fn zookeeper_is_an_address_too_also_in_a_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("zk");
        std::fs::write(&path, "zk://me:canary@z1:2181,z2:2181/mesos\n").expect("written");
        for text in ["zk://z1:2181,z2:2181/mesos/", "zk://me:canary@z1,z2/mesos", &format!("file://{}", path.display())]
        {
            match text.parse() {
                Ok(MasterAddress::Masters(masters @ Masters::Elected(_))) => {
                    assert_eq!(masters.to_string(), "zk://z1:2181,z2:2181/mesos");
                    assert!(!format!("{masters:?}").contains("canary"), "{masters:?}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_password_in_the_address_is_not_repeated() {
        for text in [
            "http://me:canary@m1:5050",
            "http://me:canary,canary@m1:5050",
            "me:canary@m1:port",
            "m1:5050,http://me:canary@m2:5050",
            "zk://me:canary@z1:2181",
            "zk://me:canary@:2181/mesos",
            "zk://me:canary/canary@z1:2181/mesos",
            "zk://me:1/canary@z1:2181/mesos",
            "zk:/me:canary@z1:2181/mesos",
            "ZK://me:canary@z1:2181/mesos",
            "me:canary://@z1:2181/mesos",
        ] {
            let said = error(text);
            assert!(!said.contains("canary"), "{said}");
        }
    }

    #[test]
    fn an_address_is_shown_without_its_credentials() {
        for (text, shown) in [
            ("zk://me:hunter2@z1:2181,z2:2181/mesos", "zk://z1:2181,z2:2181/mesos"),
            ("https://me:p@ss@m1:5050", "https://m1:5050"),
            ("me:hunter2@m1:5050", "m1:5050"),
            ("m1:5050,m2:5050", "m1:5050,m2:5050"),
            ("master@m1:5050", "master@m1:5050"),
            ("local[3]", "local[3]"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }
}
