//! Asks ZooKeeper who leads, and waits for that to change.
//!
//! A [`Session`] lasts as long as one attempt to subscribe. Nobody keeps one while subscribed: the connection to the master
//! says more about the master than ZooKeeper does, and an ensemble that is down must not disturb a task. A leader that is
//! voted out ends its own process, and so the stream of events, after which the next attempt asks again.

use std::time::Duration;

use futures::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;
use zookeeper_client::{Client, Error, OneshotWatcher};

use super::election;
use super::ensemble::{Ensemble, Server};
use super::{Refusal, later};

/// What Mesos' own frameworks ask for: how long the ensemble keeps a session whose client is silent.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// For trying each server once; one that is silent costs 4 s of it.
const OPEN_LIMIT: Duration = Duration::from_secs(9);

/// For asking who leads: two questions, and a failover to another server in between.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// For finding out why no server answers.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// A connection to the ensemble; ends in the background once dropped.
pub(super) struct Session<'a> {
    ensemble: &'a Ensemble,
    client: Client,
}

/// Who leads.
pub(super) enum Leader {
    /// Its base addresses in the order to try.
    At(Vec<Url>),
    /// Nobody that could be asked, and why.
    Nobody(String),
}

/// Comes when what was seen may have changed.
pub(super) struct Change(OneshotWatcher);

impl<'a> Session<'a> {
    /// Opens a session at one of the servers and authenticates there.
    ///
    /// # Errors
    /// Fatal only when the credentials are refused.
    pub(super) async fn open(ensemble: &'a Ensemble) -> Result<Self, Refusal> {
        let mut connector = Client::connector().with_session_timeout(SESSION_TIMEOUT).with_fail_eagerly();
        if let Some(credentials) = ensemble.credentials() {
            connector = connector.with_auth("digest", credentials.as_bytes());
        }
        let servers = ensemble.connect_string();
        let error = match timeout(OPEN_LIMIT, connector.connect(&servers)).await {
            Ok(Ok(client)) => return Ok(Self { ensemble, client }),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        Err(match error {
            Some(Error::AuthFailed) => Refusal {
                reason: format!("ZooKeeper at {servers} does not accept user and password; check them in --master"),
                is_fatal: true,
            },
            Some(Error::NoHosts | Error::Timeout | Error::ConnectionLoss) | None => later(unreachable(ensemble).await),
            Some(other) => later(format!("cannot open a session at ZooKeeper at {servers}: {other}")),
        })
    }

    /// Who leads now, and the end of that.
    ///
    /// # Errors
    /// Fatal only when the masters' nodes may not be read.
    pub(super) async fn leader(&self) -> Result<(Leader, Change), Refusal> {
        let servers = self.ensemble.connect_string();
        match timeout(LOOK_LIMIT, self.look()).await {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(Error::NoAuth)) => Err(Refusal {
                reason: format!(
                    "ZooKeeper at {servers} does not let {} read {}; check user and password in --master",
                    if self.ensemble.credentials().is_some() { "this user" } else { "just anybody" },
                    self.ensemble.path()
                ),
                is_fatal: true,
            }),
            Ok(Err(error)) => Err(later(format!("cannot ask ZooKeeper at {servers} for the leader: {error}"))),
            Err(_) => {
                Err(later(format!("ZooKeeper at {servers} did not say who leads within {} s", LOOK_LIMIT.as_secs())))
            }
        }
    }

    async fn look(&self) -> Result<(Leader, Change), Error> {
        let path = self.ensemble.path();
        let (nodes, change) = loop {
            match self.client.list_and_watch_children(path).await {
                Ok(seen) => break seen,
                Err(Error::NoNode) => {}
                Err(error) => return Err(error),
            }
            // The first master creates the path.
            let (found, change) = self.client.check_and_watch_stat(path).await?;
            if found.is_none() {
                let reason = format!(
                    "there is no {path} in ZooKeeper at {}: either the path is another one, or no master was ever there",
                    self.ensemble.connect_string()
                );
                return Ok((Leader::Nobody(reason), Change(change)));
            }
        };
        let Some(candidate) = election::leader(&nodes) else {
            return Ok((Leader::Nobody(format!("no master leads at {} now", self.ensemble)), Change(change)));
        };
        let leader = match self.client.get_data(&format!("{path}/{}", candidate.node)).await {
            Ok((data, _)) => match candidate.addresses(&data) {
                Ok(addresses) => Leader::At(addresses),
                Err(error) => Leader::Nobody(format!(
                    "the leader's node {} at {} does not tell its address: {error}",
                    candidate.node, self.ensemble
                )),
            },
            // It has gone since the question before: there will be a change.
            Err(Error::NoNode) => Leader::Nobody(format!("the leader at {} has just gone", self.ensemble)),
            Err(error) => return Err(error),
        };
        Ok((leader, Change(change)))
    }
}

impl Change {
    /// Also comes when the session has ended.
    pub(super) async fn happened(self) {
        self.0.changed().await;
    }
}

/// Why no server could be used: the client only says that it found none.
async fn unreachable(ensemble: &Ensemble) -> String {
    let probes = ensemble.servers().iter().map(|server| async move { (server, probe(server).await) });
    let results = join_all(probes).await;
    let reasons = match results.as_slice() {
        [(_, first), rest @ ..] if rest.iter().all(|(_, reason)| reason == first) => first.clone(),
        all => all.iter().map(|(server, reason)| format!("{server}: {reason}")).collect::<Vec<_>>().join(", "),
    };
    format!("cannot reach ZooKeeper at {}: {reasons}; check its address, and that it runs", ensemble.connect_string())
}

async fn probe(server: &Server) -> String {
    match timeout(PROBE_LIMIT, TcpStream::connect((server.host.as_str(), server.port))).await {
        Ok(Ok(_)) => "it takes the connection and does not answer".to_owned(),
        Ok(Err(error)) => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
        Err(_) => "no answer".to_owned(),
    }
}
