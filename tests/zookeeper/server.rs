//! A ZooKeeper server of one test's own, and the nodes that masters have in it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use prost::Message;
use proto::mesos;
use rustix::process::{Pid, Signal, kill_process};
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, CreateOptions};

use crate::{LIMIT, within};

/// The script's own limits are shorter; the first start may install packages.
const START_LIMIT: Duration = Duration::from_secs(300);

/// A server of `scripts/zookeeper`; stopped when dropped.
pub(crate) struct ZooKeeper {
    directory: tempfile::TempDir,
    properties: Vec<String>,
    address: String,
    script: Option<Child>,
}

impl ZooKeeper {
    /// With these properties of its process, NAME=VALUE.
    pub(crate) fn start(properties: &[&str]) -> Self {
        let properties = properties.iter().map(|&property| property.to_owned()).collect();
        let directory = tempfile::tempdir().unwrap();
        let mut zookeeper = Self { directory, properties, address: "127.0.0.1:0".to_owned(), script: None };
        zookeeper.start_again();
        zookeeper
    }

    /// After [`ZooKeeper::stop`], at the same address and with the nodes that were not ephemeral.
    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/zookeeper"));
        command
            .arg("--data-dir")
            .arg(self.directory.path())
            .arg("--port")
            .arg(self.address.rsplit(':').next().unwrap());
        let mut script = command
            .args(&self.properties)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script starts");
        let mut output = BufReader::new(script.stdout.take().unwrap());
        self.script = Some(script);
        let (sender, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = output.read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = line.recv_timeout(START_LIMIT).expect("the script says the address");
        self.address = line.trim().to_owned();
        assert!(!self.address.is_empty(), "scripts/zookeeper failed, see above");
    }

    /// Returns when the server is gone.
    pub(crate) fn stop(&mut self) {
        if let Some(mut script) = self.script.take() {
            kill_process(Pid::from_child(&script), Signal::TERM).unwrap();
            assert!(script.wait().unwrap().success() || std::thread::panicking(), "scripts/zookeeper was not well");
        }
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// What `--master` takes, without credentials.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("zk://{}{path}", self.address)
    }

    /// A session, with these credentials.
    pub(crate) async fn client(&self, credentials: Option<&str>) -> Client {
        let mut connector = Client::connector();
        if let Some(credentials) = credentials {
            connector = connector.with_auth("digest", credentials.as_bytes());
        }
        within("a session", connector.connect(&self.address)).await.unwrap()
    }

    /// Until some client waits for a node to change.
    pub(crate) async fn wait_for_watch(&self) {
        // Not `wchs`: it leaves out who waits for children.
        self.wait_until("mntr", |report| report.contains("zk_watch_count") && !report.contains("zk_watch_count\t0\n"))
            .await;
    }

    /// Until there are that many connections, this question's own included.
    pub(crate) async fn wait_for_connections(&self, count: usize) {
        self.wait_until("cons", |report| report.matches("/127.0.0.1:").count() == count).await;
    }

    /// Asks with one of ZooKeeper's four letter words until the answer is right.
    async fn wait_until(&self, word: &str, is_right: impl Fn(&str) -> bool) {
        within(word, async {
            loop {
                let mut connection = TcpStream::connect(&self.address).unwrap();
                connection.set_read_timeout(Some(LIMIT)).unwrap();
                connection.write_all(word.as_bytes()).unwrap();
                let mut report = String::new();
                connection.read_to_string(&mut report).unwrap();
                if is_right(&report) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Who may read a master's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// As Mesos' masters with credentials have it.
    AnyoneReads,
    /// Stricter than Mesos.
    CreatorOnly,
}

/// A master that is about to have a node.
pub(crate) struct Contender {
    label: &'static str,
    data: Vec<u8>,
    credentials: Option<(String, Permission)>,
    mode: CreateMode,
}

/// A node of a master.
pub(crate) struct Contending {
    client: Client,
    node: String,
}

impl Contender {
    /// Mesos 0.24 and later.
    pub(crate) fn json(address: &str) -> Self {
        let (ip, port) = address.split_once(':').unwrap();
        let number = u32::from_le_bytes(ip.parse::<std::net::Ipv4Addr>().unwrap().octets());
        let info = serde_json::json!({
            "address": {"hostname": "master.invalid", "ip": ip, "port": port.parse::<u16>().unwrap()},
            "capabilities": [{"type": "AGENT_UPDATE"}, {"type": "AGENT_DRAINING"}, {"type": "QUOTA_V2"}],
            "hostname": "master.invalid",
            "id": "6ff3e5b4-0d05-4d4d-8cb2-d6dd6a2b0ac8",
            "ip": number,
            "pid": format!("master@{address}"),
            "port": port.parse::<u16>().unwrap(),
            "version": "1.11.0",
        });
        Self::raw("json.info_", &info.to_string().replace('/', r"\/"))
    }

    /// Mesos 0.19 to 0.23.
    pub(crate) fn protobuf(address: &str) -> Self {
        let (ip, port) = address.split_once(':').unwrap();
        let info = mesos::MasterInfo {
            id: "20150101-000000-16777343-5050-1".to_owned(),
            ip: u32::from_le_bytes(ip.parse::<std::net::Ipv4Addr>().unwrap().octets()),
            port: port.parse().unwrap(),
            pid: Some(format!("master@{address}")),
            hostname: Some("master.invalid".to_owned()),
            version: Some("0.23.1".to_owned()),
            ..mesos::MasterInfo::default()
        };
        Self { data: info.encode_to_vec(), ..Self::raw("info_", "") }
    }

    /// Before 0.19.
    pub(crate) fn pid(address: &str) -> Self {
        Self::raw("", &format!("master@{address}"))
    }

    /// Whatever.
    pub(crate) fn raw(label: &'static str, data: &str) -> Self {
        Self { label, data: data.as_bytes().to_vec(), credentials: None, mode: CreateMode::EphemeralSequential }
    }

    /// With credentials, as `--zk=zk://USER:PASSWORD@...` gives them to a master.
    pub(crate) fn by(mut self, credentials: &str, permission: Permission) -> Self {
        self.credentials = Some((credentials.to_owned(), permission));
        self
    }

    /// With a node that does not end with its session, to outlive a restart of the server.
    pub(crate) fn that_stays(mut self) -> Self {
        self.mode = CreateMode::PersistentSequential;
        self
    }

    /// Creates the path, if need be, and the node.
    pub(crate) async fn join(self, zookeeper: &ZooKeeper, path: &str) -> Contending {
        let client = zookeeper.client(self.credentials.as_ref().map(|(credentials, _)| credentials.as_str())).await;
        let everything = AuthId::new("auth", "");
        let creator_only = [Acl::new(zookeeper_client::Permission::ALL, everything.clone())];
        let anyone_reads = [
            Acl::new(zookeeper_client::Permission::READ, AuthId::anyone()),
            Acl::new(zookeeper_client::Permission::ALL, everything),
        ];
        let acls = match self.credentials {
            None => Acls::anyone_all(),
            Some((_, Permission::AnyoneReads)) => Acls::from(&anyone_reads[..]),
            Some((_, Permission::CreatorOnly)) => Acls::from(&creator_only[..]),
        };
        client.mkdir(path, &CreateMode::Persistent.with_acls(acls)).await.unwrap();
        let prefix = format!("{path}/{}", self.label);
        let (_, sequence) = client.create(&prefix, &self.data, &self.mode.with_acls(acls)).await.unwrap();
        Contending { client, node: format!("{prefix}{sequence}") }
    }
}

impl Contending {
    /// Returns when the node is gone.
    pub(crate) async fn leave(self) {
        within("a deletion", self.client.delete(&self.node, None)).await.unwrap();
    }
}

/// A directory as masters without credentials make it.
pub(crate) fn open_directory() -> CreateOptions<'static> {
    CreateMode::Persistent.with_acls(Acls::anyone_all())
}

/// An address on which nothing listens.
pub(crate) fn closed_port() -> String {
    std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).unwrap().to_string()
}
