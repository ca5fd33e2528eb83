//! The name servers that an agent has for containers: its flag `--default_container_dns`, JSON of Mesos' `ContainerDNSInfo`. PURE.

use serde::Deserialize;

/// For which networks which name servers are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct ContainerDns {
    #[serde(default)]
    docker: Vec<OfNetwork>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct OfNetwork {
    #[serde(default)]
    network_mode: Mode,
    /// Of a user's network; without it, the entry is for all of them that have none of their own.
    network_name: Option<String>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
enum Mode {
    #[serde(rename = "HOST")]
    Host,
    #[default]
    #[serde(rename = "BRIDGE")]
    Bridge,
    #[serde(rename = "NONE")]
    None,
    #[serde(rename = "USER")]
    User,
}

/// What goes into a container's resolv.conf.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Dns {
    /// Addresses.
    #[serde(default)]
    pub nameservers: Vec<String>,
    /// Domains to search.
    #[serde(default)]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(default)]
    pub options: Vec<String>,
}

impl ContainerDns {
    /// `None` for what is no such JSON.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// For a container on this network, by its name for the engine: `bridge`, or that of a user's network.
    pub fn of_network(&self, network: &str) -> Option<&Dns> {
        let find = |mode: Mode, name: Option<&str>| {
            let found = self.docker.iter().find(|it| it.network_mode == mode && it.network_name.as_deref() == name);
            found.map(|it| &it.dns)
        };
        match network {
            "host" | "none" => None,
            "bridge" | "default" => self.docker.iter().find(|it| it.network_mode == Mode::Bridge).map(|it| &it.dns),
            name => find(Mode::User, Some(name)).or_else(|| find(Mode::User, None)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_its_own_or_the_default() {
        let text = r#"{"mesos": [], "docker": [
            {"network_mode": "BRIDGE", "dns": {"nameservers": ["8.8.8.8"], "search": ["example"], "options": ["ndots:2"]}},
            {"network_mode": "USER", "network_name": "web", "dns": {"nameservers": ["10.0.0.1"]}},
            {"network_mode": "USER", "dns": {"nameservers": ["10.0.0.2"]}}]}"#;
        let dns = ContainerDns::parse(text).unwrap();
        let bridge = dns.of_network("bridge").unwrap();
        assert_eq!((&bridge.nameservers, &bridge.search), (&vec!["8.8.8.8".to_owned()], &vec!["example".to_owned()]));
        assert_eq!(bridge.options, ["ndots:2"]);
        assert_eq!(dns.of_network("web").unwrap().nameservers, ["10.0.0.1"]);
        assert_eq!(dns.of_network("other").unwrap().nameservers, ["10.0.0.2"]);
        assert_eq!((dns.of_network("host"), dns.of_network("none")), (None, None));
        assert_eq!(ContainerDns::parse("10.0.0.1"), None);
        assert_eq!(ContainerDns::default().of_network("bridge"), None);
    }
}
