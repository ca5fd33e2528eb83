//! Who leads, by the nodes that masters keep in ZooKeeper. PURE: names and data in, addresses out.
//!
//! ```text
//! /mesos/json.info_0000000004   MasterInfo as JSON       0.24 and later
//! /mesos/info_0000000003        MasterInfo as protobuf   0.19 to 0.23
//! /mesos/0000000002             master@10.0.0.1:5050     before 0.19
//! /mesos/log_replicas           the masters' replicated log, no candidate
//! ```
//!
//! The smallest number leads, whatever the label before it: so clusters of two versions agree during an upgrade.

use prost::Message;
use proto::mesos;
use serde::Deserialize;
use url::Url;

use super::address;

/// A master's node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The node's name, without the path.
    pub(super) node: String,
    sequence: i32,
    form: Form,
}

/// How a node's data is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Protobuf,
    Pid,
    Unknown,
}

/// Why a leader's node does not tell where the leader is.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnnouncementError {
    #[error("its name is of no kind that is known here")]
    UnknownForm,
    #[error("it holds no JSON of a MasterInfo: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it holds no MasterInfo: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("it names no address")]
    NoAddress,
}

/// The one of these nodes that leads, if any.
pub(super) fn leader(nodes: &[String]) -> Option<Candidate> {
    nodes.iter().filter_map(|node| Candidate::from_name(node)).min_by_key(|candidate| candidate.sequence)
}

impl Candidate {
    /// `None` for what is no master's node.
    fn from_name(node: &str) -> Option<Self> {
        let mut parts = node.split('_').filter(|part| !part.is_empty());
        let (first, last) = (parts.next()?, parts.next_back());
        let form = match last.map(|_| first) {
            None => Form::Pid,
            Some("json.info") => Form::Json,
            Some("info") => Form::Protobuf,
            Some(_) => Form::Unknown,
        };
        let sequence = last.unwrap_or(first).parse().ok()?;
        Some(Self { node: node.to_owned(), sequence, form })
    }

    /// Where this master can be reached, by its node's data: base addresses in the order to try, at least one.
    pub(super) fn addresses(&self, data: &[u8]) -> Result<Vec<Url>, AnnouncementError> {
        let announcement = match self.form {
            Form::Json => serde_json::from_slice(data)?,
            Form::Protobuf => mesos::MasterInfo::decode(data)?.into(),
            Form::Pid => {
                Announcement { pid: Some(String::from_utf8_lossy(data).into_owned()), ..Announcement::default() }
            }
            Form::Unknown => return Err(AnnouncementError::UnknownForm),
        };
        announcement.addresses()
    }
}

/// The part of MasterInfo that says where a master is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Announcement {
    /// Since 0.24.
    address: Option<Address>,
    pid: Option<String>,
    /// The bytes of an IPv4 address, the first one lowest.
    ip: Option<u32>,
    port: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    hostname: Option<String>,
    ip: Option<String>,
    port: u16,
}

impl From<mesos::MasterInfo> for Announcement {
    fn from(info: mesos::MasterInfo) -> Self {
        let port = |port: i64| u16::try_from(port).unwrap_or(0);
        let address = info.address.map(|address| Address {
            hostname: address.hostname,
            ip: address.ip,
            port: port(address.port.into()),
        });
        Self { address, pid: info.pid, ip: Some(info.ip), port: Some(port(info.port.into())) }
    }
}

impl Announcement {
    fn addresses(&self) -> Result<Vec<Url>, AnnouncementError> {
        let mut addresses: Vec<Url> = Vec::new();
        if let Some(Address { hostname, ip, port }) = &self.address {
            addresses.extend([ip, hostname].into_iter().flatten().filter_map(|host| base_url(host, *port)));
            addresses.dedup();
        }
        if addresses.is_empty() {
            addresses.extend(self.pid.as_deref().and_then(|pid| address::base_url(pid.trim()).ok()));
        }
        if let (true, Some(ip), Some(port)) = (addresses.is_empty(), self.ip, self.port) {
            let [a, b, c, d] = ip.to_le_bytes();
            addresses.extend(base_url(&format!("{a}.{b}.{c}.{d}"), port));
        }
        if addresses.is_empty() { Err(AnnouncementError::NoAddress) } else { Ok(addresses) }
    }
}

/// `None` for what can be no address.
fn base_url(host: &str, port: u16) -> Option<Url> {
    if host.is_empty() || host == "0.0.0.0" || port == 0 {
        return None;
    }
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Url::parse(&format!("http://{host}:{port}/")).ok().filter(|url| url.path() == "/" && url.username().is_empty())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn leading(nodes: &[&str]) -> Option<String> {
        leader(&nodes.iter().map(|&node| node.to_owned()).collect::<Vec<_>>()).map(|candidate| candidate.node)
    }

    fn addresses(node: &str, data: impl AsRef<[u8]>) -> Result<Vec<String>, String> {
        match Candidate::from_name(node).unwrap().addresses(data.as_ref()) {
            Ok(urls) => Ok(urls.iter().map(Url::to_string).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn json(text: &str) -> Result<Vec<String>, String> {
        addresses("json.info_0000000001", text)
    }

    fn info(ip: [u8; 4], pid: Option<&str>, address: Option<mesos::Address>) -> mesos::MasterInfo {
        let (id, ip) = ("20141231-115959-1-5050-1".to_owned(), u32::from_le_bytes(ip));
        mesos::MasterInfo { id, ip, port: 5050, pid: pid.map(str::to_owned), address, ..mesos::MasterInfo::default() }
    }

    #[test]
    fn the_smallest_number_leads_whatever_its_label() {
        for (nodes, leader) in [
            (&["json.info_0000000003", "json.info_0000000010", "log_replicas"][..], Some("json.info_0000000003")),
            (&["info_0000000007", "json.info_0000000006"], Some("json.info_0000000006")),
            (&["0000000001", "json.info_0000000002"], Some("0000000001")),
            (&["json.info_0000000009", "info_0000000010"], Some("json.info_0000000009")),
            (&["_info__0000000002_", "json.info_0000000003"], Some("_info__0000000002_")),
            (&["json.info_-2147483648", "json.info_2147483647"], Some("json.info_-2147483648")),
            (&["other_0000000001", "json.info_0000000002"], Some("other_0000000001")),
            (&["log_replicas"], None),
            (&["", "_", "info", "info_", "json.info_99999999999"], None),
            (&[], None),
        ] {
            assert_eq!(leading(nodes).as_deref(), leader, "{nodes:?}");
        }
    }

    #[test]
    fn a_master_of_today_is_dialled_by_its_address_first_by_ip() {
        let text = r#"{"address":{"hostname":"m1","ip":"10.0.0.1","port":5051},"hostname":"m1","id":"x","ip":16777226,
            "pid":"master@10.0.0.2:5050","port":5050,"version":"1.0.4","capabilities":[{"type":"FROM_THE_FUTURE"}]}"#;
        assert_eq!(json(text).unwrap(), ["http://10.0.0.1:5051/", "http://m1:5051/"]);
        let same = r#"{"address":{"hostname":"10.0.0.1","ip":"10.0.0.1","port":5050}}"#;
        assert_eq!(json(same).unwrap(), ["http://10.0.0.1:5050/"]);
        let named = r#"{"address":{"hostname":"m1","port":5050},"pid":"master@10.0.0.2:5050"}"#;
        assert_eq!(json(named).unwrap(), ["http://m1:5050/"]);
        let six = r#"{"address":{"ip":"fe80::1","port":5050}}"#;
        assert_eq!(json(six).unwrap(), ["http://[fe80::1]:5050/"]);
    }

    #[test]
    fn without_address_the_pid_counts_and_then_the_number() {
        let text = r#"{"id":"x","ip":16777226,"pid":"master@10.0.0.2:5051","port":5050}"#;
        assert_eq!(json(text).unwrap(), ["http://10.0.0.2:5051/"]);
        assert_eq!(json(&text.replace("master@10", r"master@\u0031\u0030")).unwrap(), ["http://10.0.0.2:5051/"]);
        assert_eq!(json(r#"{"ip":16777226,"port":5050}"#).unwrap(), ["http://10.0.0.1:5050/"]);
        assert_eq!(json(r#"{"ip":16777343,"port":5050,"pid":"","address":null}"#).unwrap(), ["http://127.0.0.1:5050/"]);
    }

    #[test]
    fn the_binary_form_is_read_the_same_way() {
        let data = |info: mesos::MasterInfo| info.encode_to_vec();
        let old = info([10, 0, 0, 1], Some("master@10.0.0.3:5052"), None);
        assert_eq!(addresses("info_0000000004", data(old)).unwrap(), ["http://10.0.0.3:5052/"]);
        let oldest = info([10, 0, 0, 1], None, None);
        assert_eq!(addresses("info_0000000004", data(oldest)).unwrap(), ["http://10.0.0.1:5050/"]);
        let address = mesos::Address { hostname: None, ip: Some("10.0.0.9".to_owned()), port: 5059 };
        let new = info([10, 0, 0, 1], Some("master@10.0.0.3:5052"), Some(address));
        assert_eq!(addresses("info_0000000004", data(new)).unwrap(), ["http://10.0.0.9:5059/"]);
    }

    #[test]
    fn a_bare_number_holds_a_pid() {
        assert_eq!(addresses("0000000001", "master@10.0.0.1:5050").unwrap(), ["http://10.0.0.1:5050/"]);
        assert_eq!(addresses("0000000001", "master@m1:5051\n").unwrap(), ["http://m1:5051/"]);
    }

    #[test]
    fn what_tells_no_address_is_an_error_that_says_why() {
        for (node, data, why) in [
            ("json.info_1", "", "JSON"),
            ("json.info_1", "{", "JSON"),
            ("json.info_1", "\"x\"", "JSON"),
            ("json.info_1", "[]", "no address"),
            ("json.info_1", r#"{"ip":-1}"#, "JSON"),
            ("json.info_1", "{}", "no address"),
            ("json.info_1", r#"{"ip":0,"port":5050}"#, "no address"),
            ("json.info_1", r#"{"address":{"ip":"10.0.0.1","port":0}}"#, "no address"),
            ("json.info_1", r#"{"address":{"hostname":"a/b@c","port":5050}}"#, "no address"),
            ("info_1", "\u{1}\u{2}", "MasterInfo"),
            ("info_1", "", "no address"),
            ("1", "", "no address"),
            ("1", "master@", "no address"),
            ("1", "\u{0}\u{1}", "no address"),
            ("other_1", "master@m1:5050", "kind"),
        ] {
            let said = addresses(node, data).expect_err(data);
            assert!(said.contains(why), "{node} {data:?}: {said}");
        }
    }
}
