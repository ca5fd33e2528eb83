//! Who may use a cluster, and who is told 401.

use std::fs;

use launch_container::local::Access;
use proto::http::{Client, EventStream, HttpError};
use proto::secret::{Credential, Secret};
use proto::{executor, mesos, scheduler};
use tokio::time::timeout;

use super::{LIMIT, Stage, executor_call, info, wait_for};

/// Every kind of endpoint, and how it is asked.
const ENDPOINTS: [(&str, bool); 20] = [
    ("/api/v1/scheduler", true),
    ("/master/api/v1/scheduler", true),
    ("/api/v1/executor", true),
    ("/slave(1)/api/v1/executor", true),
    ("/api/v1", true),
    ("/slave(1)/api/v1", true),
    ("/slave%281%29/api/v1", true),
    ("/version", false),
    ("/health", false),
    ("/redirect", false),
    ("/state", false),
    ("/master/state.json", false),
    ("/slaves", false),
    ("/tasks", false),
    ("/slave(1)/state", false),
    ("/slave(1)/monitor/statistics", false),
    ("/files/read?path=/etc/passwd", false),
    ("/files/browse.json?path=/", false),
    ("/files/download?path=/", false),
    ("/no/such/path", false),
];

#[tokio::test]
async fn without_its_key_a_cluster_answers_nothing_but_401() {
    let basic = Credential { principal: "ada".to_owned(), secret: Secret::new("canary") };
    let wrong = Credential { secret: Secret::new("wrong"), ..basic.clone() };
    for access in [Access::random_token(), Access::Basic(basic)] {
        let stage = Stage::with_access(access.clone()).await;
        let wrong_keys = [
            Access::Open.client_options(),
            Access::random_token().client_options(),
            Access::Basic(wrong.clone()).client_options(),
        ];
        for options in wrong_keys {
            let client = Client::new(options).unwrap();
            for (path, is_post) in ENDPOINTS {
                let url = stage.url(path);
                let refused = if is_post {
                    client.post(&url, &scheduler::Call::default(), None).await.unwrap_err()
                } else {
                    client.get(&url, 1 << 20).await.unwrap_err()
                };
                assert!(matches!(refused, HttpError::Unauthorized { .. }), "{path}: {refused}");
            }
        }
        stage.get("/state").await;
        stage.cluster.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn an_executors_token_opens_its_own_api_and_nothing_else() {
    let stage = Stage::with_access(Access::random_token()).await;
    let mut scheduler = stage.subscribe(info()).await;
    scheduler.launch("t").await;
    wait_for(|| stage.has_sandbox()).await;
    wait_for(|| stage.sandbox("t").join("gate").exists()).await;
    let environment = fs::read_to_string(stage.sandbox("t").join("environment")).unwrap();
    let token = environment.lines().find_map(|line| line.strip_prefix("MESOS_EXECUTOR_AUTHENTICATION_TOKEN=")).unwrap();
    let client = Client::new(Access::Token(Secret::new(token)).client_options()).unwrap();
    for (path, is_post) in ENDPOINTS.into_iter().filter(|(path, _)| !path.ends_with("executor")) {
        let refused = if is_post {
            client.post(&stage.url(path), &scheduler::Call::default(), None).await.unwrap_err()
        } else {
            client.get(&stage.url(path), 1 << 20).await.unwrap_err()
        };
        assert!(matches!(refused, HttpError::Unauthorized { .. }), "{path}: {refused}");
    }
    // The key of the cluster is none of an executor.
    let url = stage.url("/slave(1)/api/v1/executor");
    let call = executor::Call {
        subscribe: Some(executor::call::Subscribe::default()),
        ..executor_call(&scheduler, "t", executor::call::Type::Subscribe)
    };
    let refused = stage.client.subscribe::<_, executor::Event>(&url, &call).await.unwrap_err();
    assert!(matches!(refused, HttpError::Unauthorized { .. }), "{refused}");
    let others = executor::Call {
        subscribe: Some(executor::call::Subscribe::default()),
        ..executor_call(&scheduler, "other", executor::call::Type::Subscribe)
    };
    let refused = client.subscribe::<_, executor::Event>(&url, &others).await.unwrap_err();
    assert!(matches!(refused, HttpError::Status { status: 403, .. }), "{refused}");

    let mut events: EventStream<executor::Event> = client.subscribe(&url, &call).await.unwrap();
    let first = timeout(LIMIT, events.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.r#type(), executor::event::Type::Subscribed);
    drop(events);
    stage.open_gate("t");
    stage.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_framework_that_claims_another_principal_than_it_has_proved_is_refused() {
    let basic = Credential { principal: "ada".to_owned(), secret: Secret::new("canary") };
    let stage = Stage::with_access(Access::Basic(basic)).await;
    let subscribe = async |principal: Option<&str>| {
        let framework_info = mesos::FrameworkInfo { principal: principal.map(str::to_owned), ..info() };
        let call = scheduler::Call {
            r#type: Some(scheduler::call::Type::Subscribe as i32),
            subscribe: Some(scheduler::call::Subscribe { framework_info, ..Default::default() }.into()),
            ..Default::default()
        };
        stage.client.subscribe::<_, scheduler::Event>(&stage.url("/api/v1/scheduler"), &call).await
    };
    assert!(matches!(subscribe(Some("bob")).await, Err(HttpError::Status { status: 400, .. })));
    for principal in [None, Some("ada")] {
        subscribe(principal).await.unwrap();
    }
    stage.cluster.shutdown().await.unwrap();
}
