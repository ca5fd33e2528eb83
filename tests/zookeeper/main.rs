//! `--master=zk://...` with a real ZooKeeper: its nodes are written as Mesos writes them, and point at tiny masters in here.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../harness/mod.rs"]
mod harness;
mod launcher;
mod master;
mod real;
mod server;

use std::pin::pin;
use std::time::Duration;

use launch_container::master::{MasterAddress, Masters, Refusal, Subscription, host_port, subscribe};
use proto::http::{Client, ClientOptions};
use proto::scheduler::{Call, Event, call, event};

use master::{Answer, Master};
use server::{Contender, Permission, ZooKeeper};

/// For everything that is waited for; generous, since tests share two cores.
const LIMIT: Duration = Duration::from_secs(30);

/// What must not be told.
const PASSWORD: &str = "canary";

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}: nothing after {LIMIT:?}"))
}

/// One attempt.
async fn attempt(address: &str) -> Result<Subscription, Refusal> {
    let MasterAddress::Masters(masters) = address.parse().unwrap() else { panic!("{address}") };
    attempt_at(&masters).await
}

async fn attempt_at(masters: &Masters) -> Result<Subscription, Refusal> {
    let client = Client::new(ClientOptions::default()).unwrap();
    let call = Call { r#type: Some(call::Type::Subscribe.into()), subscribe: Some(Box::default()), ..Call::default() };
    within("an attempt", subscribe(&client, masters, &call)).await
}

/// The refusal of one attempt: one line without the password.
async fn refusal(address: &str) -> Refusal {
    match attempt(address).await {
        Ok(subscription) => panic!("subscribed at {}", subscription.leader),
        Err(refusal) => {
            assert!(!refusal.reason.contains('\n') && !refusal.reason.contains(PASSWORD), "{}", refusal.reason);
            refusal
        }
    }
}

async fn refused_for_now(address: &str, words: &[&str]) {
    expect_words(refusal(address).await, false, words);
}

async fn refused_for_good(address: &str, words: &[&str]) {
    expect_words(refusal(address).await, true, words);
}

#[track_caller]
fn expect_words(refusal: Refusal, is_fatal: bool, words: &[&str]) {
    for word in words {
        assert!(refusal.reason.contains(word), "expected {word:?}: {}", refusal.reason);
    }
    assert_eq!(refusal.is_fatal, is_fatal, "{}", refusal.reason);
}

/// Attempts, as the scheduler core makes them, until one is a subscription at this master.
async fn subscribed_at(master: &Master, address: &str) -> Subscription {
    let mut subscription = within("a subscription", async {
        loop {
            match attempt(address).await {
                Ok(subscription) => break subscription,
                Err(refusal) => assert!(!refusal.is_fatal, "{}", refusal.reason),
            }
        }
    })
    .await;
    assert_eq!(host_port(&subscription.leader), master.address());
    assert_eq!(subscription.version.map(|version| version.to_string()).as_deref(), Some(master::VERSION));
    assert_eq!(next_event(&mut subscription).await.subscribed.unwrap().framework_id.value, master.address());
    subscription
}

async fn next_event(subscription: &mut Subscription) -> Event {
    within("an event", subscription.stream.next()).await.unwrap().expect("the stream goes on")
}

#[tokio::test]
async fn every_generation_of_nodes_leads_to_the_master() {
    let zookeeper = ZooKeeper::start(&[]);
    let master = Master::start().await;
    for (path, contender) in [
        ("/new", Contender::json(master.address())),
        ("/old", Contender::protobuf(master.address())),
        ("/oldest", Contender::pid(master.address())),
        ("/deep/er/path", Contender::json(master.address())),
    ] {
        let _contending = contender.join(&zookeeper, path).await;
        subscribed_at(&master, &zookeeper.url(path)).await;
    }
}

#[tokio::test]
async fn the_first_of_the_masters_leads_and_the_next_when_it_has_gone() {
    let zookeeper = ZooKeeper::start(&[]);
    let (first, second) = (Master::start().await, Master::start().await);
    let url = zookeeper.url("/mesos");
    // What all highly available masters have beside their own nodes.
    zookeeper.client(None).await.mkdir("/mesos/log_replicas/0000000000", &server::open_directory()).await.unwrap();

    let first_contending = Contender::json(first.address()).join(&zookeeper, "/mesos").await;
    let second_contending = Contender::protobuf(second.address()).join(&zookeeper, "/mesos").await;
    let mut subscription = subscribed_at(&first, &url).await;

    // A master that is voted out ends itself.
    first_contending.leave().await;
    drop(first);
    assert!(!matches!(within("the end", subscription.stream.next()).await, Ok(Some(_))));
    subscribed_at(&second, &url).await;

    let third = Master::start().await;
    let _third_contending = Contender::json(third.address()).join(&zookeeper, "/mesos").await;
    subscribed_at(&second, &url).await;
    second_contending.leave().await;
    subscribed_at(&third, &url).await;
}

#[tokio::test]
async fn a_leader_that_vanishes_and_returns_is_found_again() {
    let zookeeper = ZooKeeper::start(&[]);
    let master = Master::start().await;
    let url = zookeeper.url("/mesos");
    refused_for_now(&url, &["no /mesos in ZooKeeper", &zookeeper.address()]).await;
    for _ in 0..2 {
        let contending = Contender::json(master.address()).join(&zookeeper, "/mesos").await;
        subscribed_at(&master, &url).await;
        contending.leave().await;
        refused_for_now(&url, &["no master leads", &url]).await;
    }
    refused_for_now(&zookeeper.url("/masos"), &["no /masos in ZooKeeper"]).await;
}

/// What an attempt waits for it must notice at once, not at the next attempt.
#[tokio::test]
async fn an_attempt_notices_the_election_that_it_waits_for() {
    let zookeeper = ZooKeeper::start(&[]);
    let master = Master::start().await;
    let client = zookeeper.client(None).await;
    for (name, is_there) in [("path", false), ("nodes", true)] {
        // On a machine that is very busy an attempt may end before the master has joined.
        let mut rounds = 0..10;
        loop {
            let path = format!("/{name}{}", rounds.next().expect("one of the attempts has noticed"));
            if is_there {
                client.mkdir(&path, &server::open_directory()).await.unwrap();
            }
            let url = zookeeper.url(&path);
            let mut attempt = pin!(attempt(&url));
            tokio::select! {
                Err(refusal) = &mut attempt => {
                    assert!(!refusal.is_fatal, "{}", refusal.reason);
                    continue;
                }
                () = zookeeper.wait_for_watch() => {}
            }
            let contender = Contender::json(master.address());
            let (attempt, _contending) = tokio::join!(attempt, contender.join(&zookeeper, &path));
            if attempt.is_ok() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_leader_that_cannot_be_used_is_named() {
    let zookeeper = ZooKeeper::start(&[]);
    let dead = server::closed_port();
    let _dead = Contender::json(&dead).join(&zookeeper, "/dead").await;
    let url = zookeeper.url("/dead");
    refused_for_now(&url, &["cannot reach the master at", &dead, "connection refused", "leader", &url]).await;

    let recovering = Master::answering(Answer::NotReady).await;
    let _recovering = Contender::json(recovering.address()).join(&zookeeper, "/recovering").await;
    refused_for_now(&zookeeper.url("/recovering"), &[recovering.address(), "not ready"]).await;

    let strict = Master::answering(Answer::Unauthorized).await;
    let _strict = Contender::json(strict.address()).join(&zookeeper, "/strict").await;
    refused_for_good(&zookeeper.url("/strict"), &[strict.address(), "credentials", "401"]).await;

    for (path, label, data) in
        [("/broken", "json.info_", "{"), ("/unknown", "text.info_", "x"), ("/empty", "info_", "")]
    {
        let _contending = Contender::raw(label, data).join(&zookeeper, path).await;
        refused_for_now(&zookeeper.url(path), &[label, "does not tell its address", path]).await;
    }
}

#[tokio::test]
async fn the_hostname_helps_where_the_ip_cannot_be_reached() {
    let zookeeper = ZooKeeper::start(&[]);
    let master = Master::start().await;
    let (_, port) = master.address().split_once(':').unwrap();
    let info = format!(r#"{{"address":{{"ip":"127.0.0.2","hostname":"127.0.0.1","port":{port}}}}}"#);
    let _contending = Contender::raw("json.info_", &info).join(&zookeeper, "/mesos").await;
    subscribed_at(&master, &zookeeper.url("/mesos")).await;
}

#[tokio::test]
async fn credentials_open_what_is_closed_to_others() {
    let zookeeper = ZooKeeper::start(&[]);
    let master = Master::start().await;
    let me = format!("me:{PASSWORD}:{PASSWORD}@x");
    let url = |credentials: &str, path: &str| zookeeper.url(path).replacen("zk://", &format!("zk://{credentials}@"), 1);

    let closed = Contender::json(master.address()).by(&me, Permission::CreatorOnly);
    let _closed = closed.join(&zookeeper, "/closed").await;
    subscribed_at(&master, &url(&me, "/closed")).await;
    let wrong = format!("me:not-{PASSWORD}");
    for address in [zookeeper.url("/closed"), url(&wrong, "/closed"), url("you", "/closed")] {
        refused_for_good(&address, &["does not let", "/closed", &zookeeper.address(), "--master"]).await;
    }

    // As Mesos does it: whoever wants to know the leader may.
    let open = Contender::json(master.address()).by(&me, Permission::AnyoneReads);
    let _open = open.join(&zookeeper, "/open").await;
    for address in [url(&me, "/open"), url(&wrong, "/open"), zookeeper.url("/open")] {
        subscribed_at(&master, &address).await;
    }
}

#[tokio::test]
async fn credentials_that_zookeeper_does_not_take_are_told() {
    let zookeeper = ZooKeeper::start(&["zookeeper.DigestAuthenticationProvider.enabled=false"]);
    let url = zookeeper.url("/mesos").replacen("zk://", &format!("zk://me:{PASSWORD}@"), 1);
    refused_for_good(&url, &["does not accept user and password", &zookeeper.address()]).await;
}

#[tokio::test]
async fn a_zookeeper_that_is_down_disturbs_no_subscription() {
    let mut zookeeper = ZooKeeper::start(&[]);
    let master = Master::start().await;
    let url = zookeeper.url("/mesos");
    Contender::json(master.address()).that_stays().join(&zookeeper, "/mesos").await;
    let mut subscription = subscribed_at(&master, &url).await;

    zookeeper.stop();
    master.say(&Event { r#type: Some(event::Type::Heartbeat.into()), ..Event::default() });
    assert_eq!(next_event(&mut subscription).await.r#type(), event::Type::Heartbeat);
    refused_for_now(&url, &["cannot reach ZooKeeper at", &zookeeper.address(), "connection refused"]).await;

    zookeeper.start_again();
    subscribed_at(&master, &url).await;
}

#[tokio::test]
async fn one_server_of_the_ensemble_is_enough() {
    let zookeeper = ZooKeeper::start(&[]);
    let master = Master::start().await;
    let _contending = Contender::json(master.address()).join(&zookeeper, "/mesos").await;
    let (dead, alive) = (server::closed_port(), zookeeper.address());
    for servers in [format!("{dead},{alive}"), format!("{alive},{dead}")] {
        subscribed_at(&master, &format!("zk://{servers}/mesos")).await;
    }
}

#[tokio::test]
async fn what_is_no_zookeeper_is_told() {
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let master = Master::start().await;
    for (server, word) in [
        (address.as_str(), "does not answer"),
        (master.address(), "does not answer"),
        ("no-such-host.invalid:2181", "reach"),
    ] {
        refused_for_now(&format!("zk://{server}/mesos"), &["cannot reach ZooKeeper", server, word]).await;
    }
}

#[tokio::test]
async fn the_address_may_come_from_a_file() {
    let zookeeper = ZooKeeper::start(&[]);
    let master = Master::start().await;
    let _contending = Contender::json(master.address()).join(&zookeeper, "/mesos").await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zk");
    std::fs::write(&path, format!("{}\n", zookeeper.url("/mesos"))).unwrap();
    subscribed_at(&master, &format!("file://{}", path.display())).await;
}

/// The framework shell holds one of these and shows it.
#[tokio::test]
async fn masters_can_be_asked_again_and_again() {
    let zookeeper = ZooKeeper::start(&[]);
    let master = Master::start().await;
    let _contending = Contender::json(master.address()).join(&zookeeper, "/mesos").await;
    let MasterAddress::Masters(masters) = zookeeper.url("/mesos").parse().unwrap() else { panic!() };
    assert_eq!(masters.to_string(), zookeeper.url("/mesos"));
    for _ in 0..20 {
        attempt_at(&masters).await.unwrap();
    }
    // The master's, and the one of the question itself.
    zookeeper.wait_for_connections(2).await;
}
