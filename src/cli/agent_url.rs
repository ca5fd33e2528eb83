//! `--agent-url`: where agents are reached when it is not at the address they offer.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// A URL with places for what an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentUrl(String);

/// What an agent says of itself.
#[derive(Debug, Clone, Copy)]
pub struct AgentAddress<'a> {
    /// A name or an address.
    pub host: &'a str,
    /// An address.
    pub ip: &'a str,
    /// TCP.
    pub port: i32,
    /// The agent's id.
    pub id: &'a str,
}

impl AgentUrl {
    /// The base address of this agent.
    ///
    /// # Errors
    /// With the URL that is none.
    pub fn of(&self, agent: AgentAddress<'_>) -> Result<Url, String> {
        let AgentAddress { host, ip, port, id } = agent;
        let text = self.0.replace("{host}", &bracketed(host)).replace("{ip}", &bracketed(ip));
        let text = text.replace("{port}", &port.to_string()).replace("{id}", id);
        Url::parse(&text).map_err(|_| text)
    }
}

impl FromStr for AgentUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ACCEPTED: &str =
            "give http(s)://HOST[:PORT][/PATH], in which {host}, {ip}, {port} and {id} stand for the agent's";
        let url = Self(text.to_owned());
        let anybody = AgentAddress { host: "a1.example", ip: "192.0.2.1", port: 5051, id: "S0" };
        let refused = |why: &str| Err(format!("{why}; {ACCEPTED}"));
        let Ok(sample) = url.of(anybody) else { return refused("not a URL") };
        if !matches!(sample.scheme(), "http" | "https") {
            return refused("not a URL of a web server");
        }
        if !sample.username().is_empty() || sample.password().is_some() {
            return refused("credentials do not belong into a URL");
        }
        if sample.query().is_some() || sample.fragment().is_some() {
            return refused("a query or fragment makes no sense here");
        }
        if sample.path().contains("%7B") || sample.host_str().is_some_and(|host| host.contains('{')) {
            return refused("a word in braces is not known");
        }
        Ok(url)
    }
}

impl fmt::Display for AgentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As it stands in a URL.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_says_fills_the_places() {
        let agent = AgentAddress { host: "a1.example", ip: "fe80::1", port: 5055, id: "x-S7" };
        for (text, url) in [
            ("https://{host}:{port}", "https://a1.example:5055/"),
            ("http://{ip}:5051", "http://[fe80::1]:5051/"),
            ("https://proxy/agent/{id}", "https://proxy/agent/x-S7"),
            ("https://proxy:8443/mesos/", "https://proxy:8443/mesos/"),
        ] {
            let found = text.parse::<AgentUrl>().and_then(|template| template.of(agent));
            assert_eq!(found.map(String::from), Ok(url.to_owned()));
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_what_would_be() {
        for (text, why) in [
            ("{host}:{port}", "not a URL"),
            ("proxy", "not a URL"),
            ("ftp://{host}", "web server"),
            ("https://me:canary@{host}", "credentials"),
            ("https://{host}/?path=", "query"),
            ("https://proxy/{agent}", "braces"),
        ] {
            let error = text.parse::<AgentUrl>().expect_err(text);
            assert!(error.contains(why) && error.contains("{host}") && !error.contains("canary"), "{text}: {error}");
        }
    }
}
