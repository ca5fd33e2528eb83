//! Where a cluster's masters announce themselves: `zk://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]/PATH`. PURE: no network.
//!
//! The grammar is the one of Mesos' own programs: the path begins at the first slash, the credentials end at the last `@`
//! before it, nothing is percent-encoded. What is kept of user and password is never shown, not even by `Debug`.

use std::fmt;

/// Where ZooKeeper listens unless told otherwise.
const DEFAULT_PORT: u16 = 2181;

/// The servers, and the node below which each master has its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Ensemble {
    credentials: Option<String>,
    servers: Vec<Server>,
    path: String,
}

/// One member of the ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// IPv6 addresses without their brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Ensemble {
    /// Reads what follows `zk://`; the error says what is wrong and repeats nothing of it.
    pub(super) fn parse(address: &str) -> Result<Self, &'static str> {
        let (authority, path) = match address.find('/') {
            Some(slash) => address.split_at(slash),
            None => (address, ""),
        };
        let (credentials, servers) = match authority.rsplit_once('@') {
            Some((credentials, servers)) => (Some(credentials), servers),
            None => (None, authority),
        };
        if credentials.is_some_and(str::is_empty) {
            return Err("there is no USER:PASSWORD before the @");
        }
        let servers = servers.split(',').map(Server::parse).collect::<Result<Vec<_>, _>>()?;
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Err("the path of the masters is missing after the servers, /mesos for example");
        }
        // Such a text is a password with a slash in it, which this grammar cannot express, and not to be shown as a path.
        if path.contains('@') {
            return Err("neither a password with a slash nor a path with an @ can be given");
        }
        if path[1..].split('/').any(|name| matches!(name, "" | "." | "..")) {
            return Err("the path has an empty part, or one of dots");
        }
        Ok(Self { credentials: credentials.map(str::to_owned), servers, path: path.to_owned() })
    }

    /// `USER:PASSWORD`, as ZooKeeper's scheme `digest` wants it.
    pub(super) fn credentials(&self) -> Option<&str> {
        self.credentials.as_deref()
    }

    pub(super) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// `HOST:PORT[,HOST:PORT...]`
    pub(super) fn connect_string(&self) -> String {
        self.servers.iter().map(Server::to_string).collect::<Vec<_>>().join(",")
    }

    /// Begins with a slash and does not end with one.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// As it was given, without user and password.
impl fmt::Display for Ensemble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zk://{}{}", self.connect_string(), self.path)
    }
}

impl fmt::Debug for Ensemble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ensemble")
            .field("credentials", &self.credentials.as_ref().map(|_| "..."))
            .field("servers", &self.servers)
            .field("path", &self.path)
            .finish()
    }
}

impl Server {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, rest))) if rest.is_empty() || rest.starts_with(':') => (host, rest.strip_prefix(':')),
            Some(_) => return Err("a server's IPv6 address is not [ADDRESS]:PORT"),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err("a server has no host");
        }
        let port = match port.map(str::parse) {
            None => DEFAULT_PORT,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return Err("a server's port is not a number from 1 to 65535"),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ensemble(text: &str) -> Ensemble {
        Ensemble::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    #[test]
    fn servers_and_path_are_read() {
        for (text, servers, path) in [
            ("10.0.0.1:2181,10.0.0.2:2181/mesos", "10.0.0.1:2181,10.0.0.2:2181", "/mesos"),
            ("zk1:2182/mesos/prod", "zk1:2182", "/mesos/prod"),
            ("a:2181/mesos/", "a:2181", "/mesos"),
            ("a/mesos", "a:2181", "/mesos"),
            ("[::1]:2182,[fe80::1]/mesos", "[::1]:2182,[fe80::1]:2181", "/mesos"),
        ] {
            let ensemble = ensemble(text);
            assert_eq!((ensemble.connect_string().as_str(), ensemble.path()), (servers, path), "{text}");
            assert_eq!(ensemble.credentials(), None);
        }
    }

    #[test]
    fn credentials_end_at_the_last_at_sign_and_are_taken_as_they_are() {
        for (text, credentials) in [
            ("mesos:s3cret@zk1:2181/mesos", "mesos:s3cret"),
            ("u:p@q@a:2181/m/n", "u:p@q"),
            ("u:a:b,c%40@a:2181/m", "u:a:b,c%40"),
            ("u@a:2181/m", "u"),
        ] {
            assert_eq!(ensemble(text).credentials(), Some(credentials), "{text}");
        }
        let ensemble = ensemble("u:p@q@a:2181/m/n");
        assert_eq!((ensemble.connect_string().as_str(), ensemble.path()), ("a:2181", "/m/n"));
    }

    #[test]
    fn what_names_no_path_or_no_server_is_refused() {
        for (text, why) in [
            ("a:2181,b:2181/", "path"),
            ("a:2181", "path"),
            ("", "host"),
            ("/mesos", "host"),
            ("a:2181,/mesos", "host"),
            (":2181/mesos", "host"),
            ("a:b/mesos", "port"),
            ("a:/mesos", "port"),
            ("a:0/mesos", "port"),
            ("a:65536/mesos", "port"),
            ("::1/mesos", "host"),
            ("[::1/mesos", "IPv6"),
            ("[::1]2181/mesos", "IPv6"),
            ("@a:2181/mesos", "USER:PASSWORD"),
            ("a:2181//mesos", "empty part"),
            ("a:2181//", "empty part"),
            ("a:2181/mesos/../x", "dots"),
        ] {
            let said = Ensemble::parse(text).expect_err(text);
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn a_password_is_neither_shown_nor_mistaken_for_a_path() {
        let ensemble = ensemble("me:canary@a:2181,b:2181/mesos");
        assert_eq!(ensemble.to_string(), "zk://a:2181,b:2181/mesos");
        assert!(!format!("{ensemble:?}").contains("canary"));
        assert!(Ensemble::parse("me:1/canary@a:2181/mesos").expect_err("a slash").contains("slash"));
    }
}
