//! A scheduler as small as one can be, for what the launcher itself never asks of a cluster: one task, on the first offer.

use std::time::{Duration, Instant};

use proto::http::{Client, ClientOptions, EventStream};
use proto::mesos::{
    AgentId, ExecutorInfo, FrameworkId, FrameworkInfo, Offer, Resource, TaskId, TaskInfo, TaskState, TaskStatus, offer,
    value,
};
use proto::scheduler::{Call, Event, call, event};
use tokio::runtime::Runtime;
use url::Url;

/// For a whole task.
const LIMIT: Duration = Duration::from_secs(90);

/// A framework that has subscribed.
pub(crate) struct Framework {
    runtime: Runtime,
    client: Client,
    url: Url,
    events: EventStream<Event>,
    id: FrameworkId,
    deadline: Instant,
}

impl Framework {
    /// Subscribes at HOST:PORT.
    pub(crate) fn subscribe(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url: Url = format!("http://{address}/api/v1/scheduler").parse().unwrap();
        let client = Client::new(ClientOptions::default()).unwrap();
        let info = FrameworkInfo {
            user: "root".to_owned(),
            name: "test".to_owned(),
            // Then the agent's notes can be looked at.
            checkpoint: Some(true),
            ..FrameworkInfo::default()
        };
        let subscribe = call::Subscribe { framework_info: info, ..call::Subscribe::default() };
        let call =
            Call { r#type: Some(call::Type::Subscribe as i32), subscribe: Some(subscribe.into()), ..Call::default() };
        let (events, id) = runtime.block_on(async {
            let mut events: EventStream<Event> = client.subscribe(&url, &call).await.expect("the master accepts");
            let subscribed = events.next().await.unwrap().unwrap().subscribed.expect("SUBSCRIBED comes first");
            (events, subscribed.framework_id)
        });
        Self { runtime, client, url, events, id, deadline: Instant::now() + LIMIT }
    }

    /// The first offer, all of it.
    pub(crate) fn offer(&mut self) -> Offer {
        loop {
            if let Some(offers) = self.event().offers {
                return offers.offers.into_iter().next().expect("an offer");
            }
        }
    }

    /// Accepts an offer for a task, which gets its agent here, and acknowledges every update to the last.
    ///
    /// Whoever looks on may act on each before the next is waited for.
    pub(crate) fn run_and(
        &mut self,
        offer: Offer,
        task: TaskInfo,
        mut look: impl FnMut(&Self, &TaskStatus),
    ) -> Vec<TaskStatus> {
        let task = TaskInfo { agent_id: offer.agent_id.clone(), ..task };
        let launch = offer::Operation {
            r#type: Some(offer::operation::Type::Launch as i32),
            launch: Some(offer::operation::Launch { task_infos: vec![task] }),
            ..offer::Operation::default()
        };
        let accept = call::Accept { offer_ids: vec![offer.id], operations: vec![launch], ..call::Accept::default() };
        self.post(call::Type::Accept, |call| call.accept = Some(accept));
        let mut statuses: Vec<TaskStatus> = Vec::new();
        while statuses.last().is_none_or(|status| !is_terminal(status.state())) {
            let Some(update) = self.event().update else { continue };
            let status = update.status;
            if let Some(uuid) = status.uuid.clone() {
                let agent_id = status.agent_id.clone().unwrap_or_else(AgentId::default);
                let acknowledge = call::Acknowledge { agent_id, task_id: status.task_id.clone(), uuid };
                self.post(call::Type::Acknowledge, |call| call.acknowledge = Some(acknowledge));
            }
            look(self, &status);
            statuses.push(status);
        }
        statuses
    }

    /// Asks for a task's end, and says nothing of how.
    pub(crate) fn kill(&self, task: &TaskId) {
        let kill = call::Kill { task_id: task.clone(), ..call::Kill::default() };
        self.post(call::Type::Kill, |call| call.kill = Some(kill));
    }

    /// For an executor of its own.
    pub(crate) fn executor(&self, executor: ExecutorInfo) -> ExecutorInfo {
        ExecutorInfo { framework_id: Some(self.id.clone()), ..executor }
    }

    /// Ends the framework and all that it has.
    pub(crate) fn teardown(self) {
        self.post(call::Type::Teardown, |_| {});
    }

    fn event(&mut self) -> Event {
        let next = async { tokio::time::timeout_at(self.deadline.into(), self.events.next()).await };
        let event = self.runtime.block_on(next).expect("what is waited for comes in time").unwrap();
        let event = event.expect("the stream goes on");
        assert!(event.r#type() != event::Type::Error, "{event:?}");
        event
    }

    fn post(&self, kind: call::Type, fill: impl FnOnce(&mut Call)) {
        let mut call = Call { framework_id: Some(self.id.clone()), r#type: Some(kind as i32), ..Call::default() };
        fill(&mut call);
        let posted = self.client.post(&self.url, &call, self.events.stream_id());
        self.runtime.block_on(posted).expect("the master takes the call");
    }
}

/// A task of that id with a little of everything.
pub(crate) fn task(id: &str) -> TaskInfo {
    TaskInfo {
        name: id.to_owned(),
        task_id: TaskId { value: id.to_owned() },
        resources: resources(0.1, 32.0),
        ..TaskInfo::default()
    }
}

pub(crate) fn resources(cpus: f64, mem: f64) -> Vec<Resource> {
    let scalar = |name: &str, value: f64| Resource {
        name: name.to_owned(),
        r#type: value::Type::Scalar as i32,
        scalar: Some(value::Scalar { value }),
        ..Resource::default()
    };
    vec![scalar("cpus", cpus), scalar("mem", mem)]
}

fn is_terminal(state: TaskState) -> bool {
    !matches!(state, TaskState::TaskStaging | TaskState::TaskStarting | TaskState::TaskRunning | TaskState::TaskKilling)
}
