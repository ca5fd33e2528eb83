//! What master and agents show of themselves: `/state` and its parts, shaped as Mesos 1.0 does. PURE.

use std::path::PathBuf;
use std::time::Duration;

use proto::agent::response;
use proto::mesos;
use proto::resources::Resources;
use serde_json::{Map, Value, json};

use super::agent::{Agent, Executor, Framework as AgentFramework};
use super::files::Query;
use super::master::{AgentKey, Framework, FrameworkKey, Master, Status, Task};

/// What is played: the last Mesos that knows external containerizers.
pub(super) const VERSION: &str = "1.0.4";
/// `/tasks` without a limit gives this many.
const DEFAULT_TASKS: usize = 100;

/// `/version`.
pub(super) fn version() -> Value {
    json!({ "version": VERSION, "build_user": "launch-container" })
}

/// `/state` of the master.
pub(super) fn master(master: &Master) -> Value {
    let config = master.config();
    let pid = format!("master@{}:{}", config.host, config.port);
    let mut state = json!({
        "version": VERSION,
        "start_time": config.epoch_seconds,
        "elected_time": config.epoch_seconds,
        "id": config.id,
        "pid": pid,
        "hostname": config.host,
        "activated_slaves": master.agents().count(),
        "deactivated_slaves": 0,
        "leader": pid,
        "leader_info": { "id": config.id, "pid": pid, "port": config.port, "hostname": config.host },
        "flags": {},
        "orphan_tasks": [],
        "unregistered_frameworks": [],
    });
    merge(&mut state, slaves(master));
    merge(&mut state, frameworks(master));
    state
}

/// `/slaves`.
pub(super) fn slaves(master: &Master) -> Value {
    let entries: Vec<_> = master
        .agents()
        .map(|(key, agent)| {
            let info = &agent.description.info;
            let total = Resources::from(info.resources.as_slice());
            let port = info.port();
            let process = agent.description.url.path().trim_start_matches('/');
            json!({
                "id": agent.id(),
                "pid": format!("{process}@{}:{port}", info.hostname),
                "hostname": info.hostname,
                "port": port,
                "registered_time": epoch(master, agent.registered_at),
                "resources": resources(&total),
                "used_resources": resources(&used(master, |task, _| task == key, |agent, _| agent == key)),
                "offered_resources": resources(&offered(master, |agent, _| agent == key)),
                "reserved_resources": {},
                "unreserved_resources": resources(&total),
                "attributes": attributes(info),
                "active": true,
                "version": VERSION,
            })
        })
        .collect();
    json!({ "slaves": entries })
}

/// `/frameworks`.
pub(super) fn frameworks(master: &Master) -> Value {
    let live = master.frameworks().map(|(key, framework)| {
        let used = used(master, |_, other| other == key, |_, other| other == key);
        let offered = offered(master, |_, other| other == key);
        framework_entry(master, framework, &used, &offered)
    });
    let nothing = Resources::new();
    let completed = master.completed_frameworks().map(|it| framework_entry(master, it, &nothing, &nothing));
    json!({ "frameworks": live.collect::<Vec<_>>(), "completed_frameworks": completed.collect::<Vec<_>>() })
}

/// `/tasks`: all tasks, in the order of their frameworks and ids.
pub(super) fn tasks(master: &Master, query: &Query) -> Value {
    let number = |name: &str| query.find(name).and_then(|text| text.parse::<usize>().ok());
    let live = master.frameworks().map(|(_, framework)| framework);
    let frameworks = live.chain(master.completed_frameworks());
    let mut all: Vec<_> = frameworks
        .flat_map(|framework| {
            let tasks = framework.tasks.values().chain(&framework.completed);
            tasks.map(|task| task_entry(task, framework_id(&framework.info)))
        })
        .collect();
    if query.find("order") != Some("asc") {
        all.reverse();
    }
    let offset = number("offset").unwrap_or(0);
    let limit = number("limit").unwrap_or(DEFAULT_TASKS);
    json!({ "tasks": all.into_iter().skip(offset).take(limit).collect::<Vec<_>>() })
}

/// `/state` of an agent.
pub(super) fn agent(agent: &Agent) -> Value {
    let config = agent.config();
    let info = &config.info;
    let live: Vec<_> = agent.frameworks().map(agent_framework).collect();
    let completed: Vec<_> = agent.completed_frameworks().map(agent_framework).collect();
    json!({
        "version": VERSION,
        "start_time": config.epoch_seconds,
        "id": info.id.as_ref().map(|id| &id.value),
        "pid": config.pid(),
        "hostname": info.hostname,
        "resources": resources(&Resources::from(info.resources.as_slice())),
        "attributes": attributes(info),
        "master_hostname": config.hostname,
        "flags": { "containerizers": "external", "work_dir": config.work_dir },
        "frameworks": live,
        "completed_frameworks": completed,
    })
}

/// GET_CONTAINERS of an agent.
pub(super) fn containers(agent: &Agent) -> response::GetContainers {
    let container = |(framework_id, executor): (&str, &Executor)| response::get_containers::Container {
        framework_id: Some(mesos::FrameworkId { value: framework_id.to_owned() }),
        executor_id: Some(executor.info.executor_id.clone()),
        executor_name: Some(executor.info.name().to_owned()),
        container_id: mesos::ContainerId { value: executor.container_id.clone(), parent: None },
        container_status: None,
        resource_statistics: None,
    };
    response::GetContainers { containers: agent.executors().map(container).collect() }
}

/// One entry of `/monitor/statistics`, before it was measured.
pub(super) struct Usage {
    pub container_id: String,
    pub directory: PathBuf,
    executor_id: String,
    executor_name: String,
    framework_id: String,
    source: String,
}

impl Usage {
    pub(super) fn of((framework_id, executor): (&str, &Executor)) -> Self {
        Self {
            container_id: executor.container_id.clone(),
            directory: PathBuf::from(&executor.directory),
            executor_id: executor.info.executor_id.value.clone(),
            executor_name: executor.info.name().to_owned(),
            framework_id: framework_id.to_owned(),
            source: executor.info.source().to_owned(),
        }
    }

    pub(super) fn with(&self, statistics: &mesos::ResourceStatistics) -> Value {
        json!({
            "executor_id": self.executor_id,
            "executor_name": self.executor_name,
            "framework_id": self.framework_id,
            "source": self.source,
            "statistics": message(statistics),
        })
    }
}

fn framework_entry(master: &Master, framework: &Framework, used: &Resources, offered: &Resources) -> Value {
    let info = &framework.info;
    let capabilities: Vec<_> = info.capabilities.iter().map(|it| it.r#type().as_str_name()).collect();
    let is_connected = framework.stream.is_some();
    let mut held = used.clone();
    held += offered;
    let live: Vec<_> = framework.tasks.values().map(|task| task_entry(task, framework_id(info))).collect();
    let completed: Vec<_> = framework.completed.iter().map(|task| task_entry(task, framework_id(info))).collect();
    json!({
        "id": framework_id(info),
        "name": info.name,
        "user": info.user,
        "role": info.role(),
        "hostname": info.hostname(),
        "webui_url": info.webui_url(),
        "principal": info.principal,
        "capabilities": capabilities,
        "active": is_connected,
        "connected": is_connected,
        "checkpoint": info.checkpoint(),
        "failover_timeout": info.failover_timeout(),
        "registered_time": epoch(master, framework.registered_at),
        "unregistered_time": framework.remove_at.map_or(0.0, |at| epoch(master, at)),
        "resources": resources(&held),
        "used_resources": resources(used),
        "offered_resources": resources(offered),
        "tasks": live,
        "completed_tasks": completed,
    })
}

fn agent_framework(framework: &AgentFramework) -> Value {
    let info = &framework.info;
    let live: Vec<_> = framework.executors.values().map(|it| executor_entry(it, framework_id(info))).collect();
    let completed: Vec<_> = framework.completed.iter().map(|it| executor_entry(it, framework_id(info))).collect();
    json!({
        "id": framework_id(info),
        "name": info.name,
        "user": info.user,
        "failover_timeout": info.failover_timeout(),
        "checkpoint": info.checkpoint(),
        "role": info.role(),
        "hostname": info.hostname(),
        "executors": live,
        "completed_executors": completed,
    })
}

fn executor_entry(executor: &Executor, framework_id: &str) -> Value {
    let queued = executor.queued.iter().map(|info| {
        let resources = Resources::from(info.resources.as_slice());
        task_entry(&Task::new(info, AgentKey(0), resources), framework_id)
    });
    let live = executor.launched.values().map(|task| task_entry(task, framework_id));
    let completed = executor.completed.iter().map(|task| task_entry(task, framework_id));
    json!({
        "id": executor.info.executor_id.value,
        "name": executor.info.name(),
        "source": executor.info.source(),
        "container": executor.container_id,
        "directory": executor.directory,
        "resources": resources(&Resources::from(executor.info.resources.as_slice())),
        "tasks": live.collect::<Vec<_>>(),
        "queued_tasks": queued.collect::<Vec<_>>(),
        "completed_tasks": completed.collect::<Vec<_>>(),
    })
}

fn task_entry(task: &Task, framework_id: &str) -> Value {
    let statuses: Vec<_> = task.statuses.iter().map(status_entry).collect();
    let mut entry = json!({
        "id": task.task_id.value,
        "name": task.name,
        "framework_id": framework_id,
        "executor_id": task.executor_id.as_ref().map(|id| id.value.as_str()).unwrap_or_default(),
        "slave_id": task.agent_id.value,
        "state": task.state.as_str_name(),
        "resources": resources(&task.resources),
        "statuses": statuses,
    });
    let Some(extras) = &task.extras else { return entry };
    if let Some(user) = &extras.user {
        entry["user"] = json!(user);
    }
    if let Some(labels) = &extras.labels {
        entry["labels"] = json!(label_entries(labels));
    }
    if let Some(container) = &extras.container {
        entry["container"] = message(container.as_ref());
    }
    if let Some(discovery) = &extras.discovery {
        entry["discovery"] = message(discovery.as_ref());
    }
    entry
}

/// Never message, reason or data: real agents do not show them either.
fn status_entry(status: &Status) -> Value {
    let mut entry = json!({ "state": status.state.as_str_name(), "timestamp": status.timestamp });
    if let Some(labels) = &status.labels {
        entry["labels"] = json!(label_entries(labels));
    }
    if let Some(container_status) = &status.container_status {
        entry["container_status"] = message(container_status);
    }
    if let Some(healthy) = status.healthy {
        entry["healthy"] = json!(healthy);
    }
    entry
}

fn label_entries(labels: &mesos::Labels) -> Vec<Value> {
    labels.labels.iter().map(message).collect()
}

/// Numbers for scalars, text for the rest; the four usual scalars are always there.
fn resources(resources: &Resources) -> Value {
    let mut entry = Map::new();
    for name in ["cpus", "mem", "disk", "gpus"] {
        entry.insert(name.to_owned(), json!(resources.scalar(name).as_f64()));
    }
    for resource in resources.iter() {
        let name = &resource.name;
        let value = match resource.r#type() {
            mesos::value::Type::Scalar => json!(resources.scalar(name).as_f64()),
            mesos::value::Type::Ranges => {
                let ranges = resources.ranges(name).into_iter().map(|(begin, end)| format!("{begin}-{end}"));
                json!(format!("[{}]", ranges.collect::<Vec<_>>().join(", ")))
            }
            mesos::value::Type::Set | mesos::value::Type::Text => {
                let items = resource.set.as_ref().map(|set| set.item.join(", ")).unwrap_or_default();
                json!(format!("{{{items}}}"))
            }
        };
        entry.insert(name.clone(), value);
    }
    Value::Object(entry)
}

fn attributes(info: &mesos::AgentInfo) -> Value {
    let value = |attribute: &mesos::Attribute| match (&attribute.scalar, &attribute.text) {
        (Some(scalar), _) => json!(scalar.value),
        (_, Some(text)) => json!(text.value),
        (None, None) => Value::Null,
    };
    Value::Object(info.attributes.iter().map(|it| (it.name.clone(), value(it))).collect())
}

/// What live tasks and executors hold, of those that the tests take.
fn used(
    master: &Master,
    takes_task: impl Fn(AgentKey, FrameworkKey) -> bool,
    takes_executor: impl Fn(AgentKey, FrameworkKey) -> bool,
) -> Resources {
    let mut used = Resources::new();
    for (key, framework) in master.frameworks() {
        let live = framework.tasks.values().filter(|task| !super::master::is_terminal(task.state));
        for task in live.filter(|task| takes_task(task.agent, key)) {
            used += &task.resources;
        }
    }
    for (agent_key, agent) in master.agents() {
        for ((framework_key, _), executor) in &agent.executors {
            if takes_executor(agent_key, *framework_key) {
                used += &executor.resources;
            }
        }
    }
    used
}

fn offered(master: &Master, takes: impl Fn(AgentKey, FrameworkKey) -> bool) -> Resources {
    let mut offered = Resources::new();
    for grant in master.offered().filter(|grant| takes(grant.agent, grant.framework)) {
        offered += &grant.resources;
    }
    offered
}

fn message<M: prost::Name>(message: &M) -> Value {
    proto::json::to_value(&M::full_name(), message).expect("every message of ours has JSON")
}

fn framework_id(info: &mesos::FrameworkInfo) -> &str {
    info.id.as_ref().map(|id| id.value.as_str()).unwrap_or_default()
}

fn epoch(master: &Master, at: Duration) -> f64 {
    master.config().epoch_seconds + at.as_secs_f64()
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
