//! Where a task's output will be served: what the offer says of the agent, and what the user says of agents.

use proto::mesos;
use url::Url;

use crate::cli::{AgentAddress, bracketed};
use crate::job::Access;
use crate::tail::{Location, Origin};

/// Where agents listen unless the offer says otherwise.
const DEFAULT_AGENT_PORT: i32 = 5051;

/// Where the sandbox of a task launched on this offer will be served.
///
/// Offers always say http. Whoever reaches the master by TLS expects it of agents, too: plain http is tried only where no secret
/// would be shown that way.
pub(crate) fn location(executor_id: &str, offer: &mesos::Offer, access: &Access, is_master_tls: bool) -> Location {
    let url = offer.url.as_ref();
    let port = url.map_or(DEFAULT_AGENT_PORT, |url| url.address.port);
    let host = url.and_then(|url| url.address.hostname.as_deref()).unwrap_or(&offer.hostname);
    let ip = url.and_then(|url| url.address.ip.as_deref()).unwrap_or_default();
    let agents = match &access.agent_url {
        Some(template) => {
            let [host, ip] = [(host, ip), (ip, host)].map(|(one, other)| if one.is_empty() { other } else { one });
            template.of(AgentAddress { host, ip, port, id: &offer.agent_id.value }).into_iter().collect()
        }
        None => {
            let scheme = if is_master_tls { "https" } else { "http" };
            let mut agents: Vec<Url> = Vec::new();
            for host in [host, ip].into_iter().filter(|host| !host.is_empty()) {
                if let Ok(url) = Url::parse(&format!("{scheme}://{}:{port}/", bracketed(host)))
                    && !agents.contains(&url)
                {
                    agents.push(url);
                }
            }
            agents
        }
    };
    Location {
        agents,
        may_change_scheme: access.agent_url.is_none() && !(is_master_tls && access.has_agent_secret()),
        process: url.and_then(|url| url.path.clone()).unwrap_or_else(|| "/slave(1)".to_owned()),
        agent_id: offer.agent_id.value.clone(),
        framework_id: offer.framework_id.value.clone(),
        executor_id: executor_id.to_owned(),
    }
}

/// Whom the lines name that Mesos' own executors write into the output of a task launched on this offer.
pub(crate) fn origin(task_id: &str, offer: &mesos::Offer) -> Origin {
    Origin { hostname: offer.hostname.clone(), agent_id: offer.agent_id.value.clone(), task_id: task_id.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(hostname: &str, ip: &str, path: Option<&str>) -> mesos::Offer {
        let address = mesos::Address { hostname: Some(hostname.to_owned()), ip: Some(ip.to_owned()), port: 5055 };
        mesos::Offer {
            hostname: hostname.to_owned(),
            url: Some(mesos::Url { address, path: path.map(str::to_owned), ..mesos::Url::default() }),
            ..mesos::Offer::default()
        }
    }

    /// Without any options about agents, by a plain connection to the master.
    fn location(executor_id: &str, offer: &mesos::Offer) -> Location {
        super::location(executor_id, offer, &Access::default(), false)
    }

    fn names(location: &Location) -> Vec<&str> {
        location.agents.iter().map(Url::as_str).collect()
    }

    #[test]
    fn the_sandbox_is_looked_for_by_hostname_then_by_ip() {
        let location = location("task", &offer("a1.example", "10.0.0.7", Some("/slave(2)")));
        assert_eq!(names(&location), ["http://a1.example:5055/", "http://10.0.0.7:5055/"]);
        assert_eq!((location.process.as_str(), location.executor_id.as_str()), ("/slave(2)", "task"));
    }

    #[test]
    fn an_agent_named_by_its_ip_is_asked_once() {
        assert_eq!(names(&location("task", &offer("127.0.0.1", "127.0.0.1", None))), ["http://127.0.0.1:5055/"]);
        assert_eq!(names(&location("task", &offer("", "::1", None))), ["http://[::1]:5055/"]);
    }

    #[test]
    fn an_offer_without_url_is_of_an_agent_on_the_default_port() {
        let offer = mesos::Offer { hostname: "a1".to_owned(), ..mesos::Offer::default() };
        assert_eq!(names(&location("task", &offer)), ["http://a1:5051/"]);
    }

    #[test]
    fn agents_are_expected_to_speak_what_the_master_speaks() {
        let offer = offer("a1.example", "10.0.0.7", None);
        let location = |is_master_tls| super::location("task", &offer, &Access::default(), is_master_tls);
        assert_eq!(names(&location(true)), ["https://a1.example:5055/", "https://10.0.0.7:5055/"]);
        assert!(location(true).may_change_scheme && location(false).may_change_scheme);
    }

    #[test]
    fn an_address_that_is_given_is_the_only_one() {
        let offer =
            mesos::Offer { agent_id: mesos::AgentId { value: "x-S7".to_owned() }, ..offer("", "10.0.0.7", None) };
        let given = |template: &str| {
            let mut access = Access::default();
            access.agent_url = template.parse().ok();
            super::location("task", &offer, &access, true)
        };
        assert_eq!(names(&given("https://proxy/agent/{id}")), ["https://proxy/agent/x-S7"]);
        assert_eq!(names(&given("http://{host}:{port}")), ["http://10.0.0.7:5055/"]);
        assert!(!given("http://{host}:{port}").may_change_scheme);
    }
}
