//! What a master refuses, in Mesos' words: calls (400), frameworks (an ERROR event) and tasks (TASK_ERROR). PURE.
//!
//! Rules and their order are those of Mesos 1.0 with the later, stricter rules for ids, since ids become directory names
//! on the agent.

use std::collections::BTreeSet;

use proto::mesos;
use proto::scheduler::{Call, call};

/// File systems allow no longer name.
const MAX_ID_BYTES: usize = 255;

/// Whether the call has what its type needs.
///
/// # Errors
///
/// The text for the 400.
pub(in crate::local) fn check_call(call: &Call) -> Result<(), String> {
    let Some(kind) = call.r#type.and_then(|number| call::Type::try_from(number).ok()) else {
        return Err("Expecting 'type' to be present".to_owned());
    };
    if kind == call::Type::Subscribe {
        return check_subscribe(call);
    }
    if call.framework_id.is_none() {
        return Err("Expecting 'framework_id' to be present".to_owned());
    }
    let missing = match kind {
        call::Type::Accept => call.accept.is_none().then_some("accept"),
        call::Type::Decline => call.decline.is_none().then_some("decline"),
        call::Type::Kill => call.kill.is_none().then_some("kill"),
        call::Type::Shutdown => call.shutdown.is_none().then_some("shutdown"),
        call::Type::Acknowledge => call.acknowledge.is_none().then_some("acknowledge"),
        call::Type::Reconcile => call.reconcile.is_none().then_some("reconcile"),
        call::Type::Message => call.message.is_none().then_some("message"),
        call::Type::Request => call.request.is_none().then_some("request"),
        _ => None,
    };
    if let Some(missing) = missing {
        return Err(format!("Expecting '{missing}' to be present"));
    }
    if call.accept.as_ref().is_some_and(|accept| accept.offer_ids.is_empty()) {
        return Err("Expecting 'accept.offer_ids' to be non-empty".to_owned());
    }
    if call.acknowledge.as_ref().is_some_and(|acknowledge| acknowledge.uuid.len() != 16) {
        return Err("Not a valid UUID".to_owned());
    }
    Ok(())
}

fn check_subscribe(call: &Call) -> Result<(), String> {
    let Some(subscribe) = &call.subscribe else {
        return Err("Expecting 'subscribe' to be present".to_owned());
    };
    let id = |id: &Option<mesos::FrameworkId>| id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
    if id(&call.framework_id) != id(&subscribe.framework_info.id) {
        return Err("'framework_id' differs from 'subscribe.framework_info.id'".to_owned());
    }
    Ok(())
}

/// Whether the framework may subscribe.
///
/// # Errors
///
/// The text for the ERROR event.
pub(super) fn check_framework(info: &mesos::FrameworkInfo) -> Result<(), String> {
    for role in roles(info) {
        if let Some(why) = role_fault(role) {
            return Err(format!("Role '{role}' is invalid: {why}"));
        }
    }
    let timeout = info.failover_timeout();
    // 292 years, what 64 bits of nanoseconds hold.
    if !(0.0..=9.2e9).contains(&timeout) {
        return Err(format!("The framework failover_timeout ({timeout}) is invalid"));
    }
    match &info.id {
        Some(id) if !id.value.is_empty() => {
            check_id(&id.value).map_err(|why| format!("Framework ID '{}' {why}", id.value.escape_debug()))
        }
        Some(_) | None => Ok(()),
    }
}

/// The roles of a framework: `roles` with MULTI_ROLE, else `role`.
pub(super) fn roles(info: &mesos::FrameworkInfo) -> Vec<&str> {
    if has_capability(info, mesos::framework_info::capability::Type::MultiRole) {
        info.roles.iter().map(String::as_str).collect()
    } else {
        vec![info.role()]
    }
}

pub(super) fn has_capability(info: &mesos::FrameworkInfo, capability: mesos::framework_info::capability::Type) -> bool {
    info.capabilities.iter().any(|other| other.r#type == Some(capability as i32))
}

fn role_fault(role: &str) -> Option<&'static str> {
    if role.is_empty() {
        return Some("it is empty");
    }
    if role == "." || role == ".." {
        return Some("it is a relative path");
    }
    if role.starts_with('-') {
        return Some("it starts with a dash");
    }
    let is_bad = |letter: char| letter == '/' || letter == '\u{8}' || letter.is_whitespace();
    role.contains(is_bad).then_some("it contains a slash, a backspace or whitespace")
}

/// Whether an id may be used; it becomes a directory name.
///
/// # Errors
///
/// What is wrong with it, to follow the id in a sentence.
pub(super) fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if id.len() > MAX_ID_BYTES {
        return Err(format!("must not be longer than {MAX_ID_BYTES} bytes"));
    }
    if id == "." || id == ".." {
        return Err("must not be '.' or '..'".to_owned());
    }
    if id.contains(|letter: char| letter.is_control() || letter == '/' || letter == '\\') {
        return Err("contains invalid characters".to_owned());
    }
    Ok(())
}

/// The rules that need nothing but the task itself.
///
/// # Errors
///
/// The message of the TASK_ERROR.
pub(super) fn check_task(task: &mesos::TaskInfo, agent_id: &str, framework_id: &str) -> Result<(), String> {
    check_id(&task.task_id.value).map_err(|why| format!("TaskID '{}' {why}", task.task_id.value.escape_debug()))?;
    if task.agent_id.value != agent_id {
        return Err(format!("Task uses invalid agent {} while agent {agent_id} is expected", task.agent_id.value));
    }
    if task.command.is_some() == task.executor.is_some() {
        return Err("Task should have at least one (but not both) of CommandInfo or ExecutorInfo present".to_owned());
    }
    if let Some(executor) = &task.executor {
        check_executor(executor, framework_id)?;
    }
    if task.resources.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    check_resources(&task.resources).map_err(|why| format!("Task uses invalid resources: {why}"))?;
    let grace = task.kill_policy.as_ref().and_then(|policy| policy.grace_period.as_ref());
    if grace.is_some_and(|grace| grace.nanoseconds < 0) {
        return Err("Task's 'kill_policy.grace_period' must be non-negative".to_owned());
    }
    if task.max_completion_time.as_ref().is_some_and(|time| time.nanoseconds < 0) {
        return Err("Task's 'max_completion_time' must be non-negative".to_owned());
    }
    // Mesos' agents have a fetcher; without one, a file that is missing would only show in the task.
    if task.command.as_ref().is_some_and(|command| !command.uris.is_empty()) {
        return Err("Task has URIs, and the embedded agents fetch none: mount its files with --volume".to_owned());
    }
    let commands = task.command.iter().chain(task.executor.iter().filter_map(|executor| executor.command.as_ref()));
    for variable in commands.filter_map(|command| command.environment.as_ref()).flat_map(|it| &it.variables) {
        check_variable(variable)?;
    }
    let executor_container = task.executor.iter().filter_map(|executor| executor.container.as_ref());
    for container in task.container.iter().chain(executor_container) {
        if container.r#type() == mesos::container_info::Type::Docker && container.docker.is_none() {
            return Err("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo".to_owned());
        }
    }
    Ok(())
}

fn check_executor(executor: &mesos::ExecutorInfo, framework_id: &str) -> Result<(), String> {
    let id = &executor.executor_id.value;
    check_id(id).map_err(|why| format!("ExecutorID '{}' {why}", id.escape_debug()))?;
    if executor.framework_id.as_ref().is_some_and(|other| other.value != framework_id) {
        return Err(format!("ExecutorInfo has an invalid FrameworkID (Expecting {framework_id})"));
    }
    if executor.command.is_none() {
        return Err("Executor has no command".to_owned());
    }
    check_resources(&executor.resources).map_err(|why| format!("Executor uses invalid resources: {why}"))
}

fn check_variable(variable: &mesos::environment::Variable) -> Result<(), String> {
    let name = &variable.name;
    if variable.r#type() == mesos::environment::variable::Type::Secret {
        return Err(format!("Environment variable '{name}' of type 'SECRET' is not supported"));
    }
    let Some(value) = &variable.value else {
        return Err(format!("Environment variable '{name}' of type 'VALUE' must have a value set"));
    };
    if name.contains('\0') || value.contains('\0') {
        return Err(format!("Environment variable '{}' contains a NUL character", name.escape_debug()));
    }
    Ok(())
}

fn check_resources(resources: &[mesos::Resource]) -> Result<(), String> {
    for resource in resources {
        check_resource(resource).map_err(|why| format!("resource '{}' {why}", resource.name))?;
    }
    Ok(())
}

fn check_resource(resource: &mesos::Resource) -> Result<(), String> {
    match mesos::value::Type::try_from(resource.r#type) {
        Ok(mesos::value::Type::Scalar) => {
            let Some(scalar) = &resource.scalar else { return Err("has no scalar".to_owned()) };
            if !scalar.value.is_finite() || scalar.value < 0.0 {
                return Err(format!("has an invalid amount {}", scalar.value));
            }
            if scalar.value > 0.0 && scalar.value < 0.0005 {
                return Err(format!("has the amount {} which rounds to zero", scalar.value));
            }
            Ok(())
        }
        Ok(mesos::value::Type::Ranges) => {
            let Some(ranges) = &resource.ranges else { return Err("has no ranges".to_owned()) };
            check_ranges(&ranges.range)
        }
        Ok(mesos::value::Type::Set) => {
            let Some(set) = &resource.set else { return Err("has no set".to_owned()) };
            let mut seen = BTreeSet::new();
            match set.item.iter().find(|item| !seen.insert(*item)) {
                Some(item) => Err(format!("has '{item}' twice")),
                None => Ok(()),
            }
        }
        Ok(mesos::value::Type::Text) | Err(_) => Err("is of an unsupported type".to_owned()),
    }
}

fn check_ranges(ranges: &[mesos::value::Range]) -> Result<(), String> {
    let mut sorted: Vec<_> = ranges.iter().map(|range| (range.begin, range.end)).collect();
    sorted.sort_unstable();
    if let Some((begin, end)) = sorted.iter().find(|(begin, end)| begin > end) {
        return Err(format!("has a range that ends before it begins: {begin}-{end}"));
    }
    if sorted.windows(2).any(|pair| pair[0].1 >= pair[1].0) {
        return Err("has overlapping ranges".to_owned());
    }
    Ok(())
}
