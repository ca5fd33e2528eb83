//! A slave's launch message as JSON that may be shown: everything but the values that may be secret. PURE.
//!
//! Names stay, so that an operator sees which variables there are. Hidden are values of environment variables, of parameters
//! and old options that carry such (`env`, `log-opt`, `label` and the like are told by their key), what stands before the
//! `@` and behind the `?` of URIs, and the bytes that a framework passes to its executor.

use proto::ecp::Launch;
use serde_json::{Map, Value};

/// What is shown in place of a value.
pub(super) const HIDDEN: &str = "(hidden)";

/// The message, or why there is no JSON of it.
pub(super) fn launch(launch: &Launch) -> Value {
    match proto::json::to_value("mesos.containerizer.Launch", launch) {
        Ok(mut value) => {
            hide(&mut value);
            value
        }
        Err(error) => Value::String(error.to_string()),
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            hide_fields(fields);
            fields.values_mut().for_each(hide);
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

fn hide_fields(fields: &mut Map<String, Value>) {
    for (name, value) in fields.iter_mut() {
        match (name.as_str(), value) {
            ("variables", Value::Array(variables)) => variables.iter_mut().for_each(hide_variable),
            ("parameters", Value::Array(parameters)) => parameters.iter_mut().for_each(hide_parameter),
            ("options", Value::Array(options)) => hide_options(options),
            ("uris", Value::Array(uris)) => uris.iter_mut().for_each(hide_uri),
            ("data" | "secret" | "config", value) => *value = HIDDEN.into(),
            _ => {}
        }
    }
}

fn hide_variable(variable: &mut Value) {
    if let Some(value) = variable.get_mut("value") {
        *value = HIDDEN.into();
    }
}

fn hide_parameter(parameter: &mut Value) {
    let is_secret = parameter.get("key").and_then(Value::as_str).is_some_and(may_be_secret);
    if let Some(Value::String(text)) = parameter.get_mut("value")
        && is_secret
    {
        *text = name_only(text);
    }
}

/// `-e A=b`, `-eA=b`, `--env=A=b`, `--env A=b`.
fn hide_options(options: &mut [Value]) {
    let mut is_next_secret = false;
    for option in options {
        let Value::String(text) = option else { continue };
        let was_next_secret = std::mem::take(&mut is_next_secret);
        if was_next_secret {
            *text = name_only(text);
        } else if let Some(long) = text.strip_prefix("--") {
            match long.split_once('=') {
                Some((key, value)) if may_be_secret(key) => *text = format!("--{key}={}", name_only(value)),
                Some(_) => {}
                None => is_next_secret = may_be_secret(long),
            }
        } else if let Some(value) = text.strip_prefix("-e") {
            match value.strip_prefix('=').unwrap_or(value) {
                "" => is_next_secret = true,
                value => *text = format!("-e{}", name_only(value)),
            }
        }
    }
}

fn may_be_secret(key: &str) -> bool {
    matches!(key, "e" | "env" | "log-opt" | "label" | "l" | "storage-opt" | "mount" | "volume-opt" | "annotation")
}

/// `NAME=VALUE` without the value.
fn name_only(text: &str) -> String {
    text.split_once('=').map_or_else(|| HIDDEN.to_owned(), |(name, _)| format!("{name}={HIDDEN}"))
}

fn hide_uri(uri: &mut Value) {
    let Some(Value::String(text)) = uri.get_mut("value") else { return };
    if let Some((before, _)) = text.split_once('?') {
        *text = format!("{before}?{HIDDEN}");
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let authority = rest.split('/').next().unwrap_or_default();
        if let Some((user, host)) = authority.rsplit_once('@') {
            *text = format!("{scheme}://{HIDDEN}@{host}{}", &rest[user.len() + 1 + host.len()..]);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proto::mesos::environment::Variable;
    use proto::mesos::{self, CommandInfo, ContainerInfo, ExecutorInfo, Parameter, TaskInfo};

    use super::*;

    const CANARY: &str = "canary";

    #[test]
    fn names_stay_and_values_go_wherever_they_stand() {
        let variable = |name: &str| Variable { name: name.into(), value: Some(CANARY.into()), ..Variable::default() };
        let parameter = |key: &str, value: &str| Parameter { key: key.into(), value: value.into() };
        let uri = |value: &str| mesos::command_info::Uri { value: value.into(), ..Default::default() };
        let option = |text: &str| text.replace("SECRET", CANARY);
        let command = CommandInfo {
            value: Some("run".into()),
            environment: Some(mesos::Environment { variables: vec![variable("TOKEN")] }),
            uris: vec![uri("https://me:canary@host/x?sig=canary"), uri("file:///etc/a@b")],
            container: Some(mesos::command_info::ContainerInfo {
                image: "old".into(),
                options: [
                    "-e",
                    "A=SECRET",
                    "-eB=SECRET",
                    "--env=C=SECRET",
                    "--env",
                    "D=SECRET",
                    "--log-opt=t=SECRET",
                    "-v",
                    "/a:/b",
                ]
                .map(option)
                .to_vec(),
            }),
            ..CommandInfo::default()
        };
        let docker = mesos::container_info::DockerInfo {
            image: "web".into(),
            parameters: vec![
                parameter("env", "P=canary"),
                parameter("cap-add", "SYS_TIME"),
                parameter("log-opt", "splunk-token=canary"),
            ],
            ..Default::default()
        };
        let container = Some(ContainerInfo { docker: Some(docker), ..ContainerInfo::default() }.into());
        let task = TaskInfo {
            name: "t".into(),
            command: Some(command.clone()),
            container,
            data: Some(b"canary".to_vec()),
            ..TaskInfo::default()
        };
        let executor =
            ExecutorInfo { command: Some(command), data: Some(b"canary".to_vec()), ..ExecutorInfo::default() };
        let message = Launch { task_info: Some(task), executor_info: Some(executor), ..Launch::default() };

        let shown = launch(&message);
        let text = shown.to_string();
        assert!(!text.contains(CANARY) && !text.contains("Y2FuYXJ5"), "{text}");
        let task = &shown["task_info"];
        assert_eq!(task["command"]["environment"]["variables"][0]["name"], "TOKEN");
        assert_eq!(task["command"]["uris"][0]["value"], "https://(hidden)@host/x?(hidden)");
        assert_eq!(task["command"]["uris"][1]["value"], "file:///etc/a@b");
        assert_eq!(task["container"]["docker"]["parameters"][0]["value"], "P=(hidden)");
        assert_eq!(task["container"]["docker"]["parameters"][1]["value"], "SYS_TIME");
        let options: Vec<_> =
            task["command"]["container"]["options"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
        assert_eq!(options[..4], ["-e", "A=(hidden)", "-eB=(hidden)", "--env=C=(hidden)"]);
        assert_eq!(options[4..], ["--env", "D=(hidden)", "--log-opt=t=(hidden)", "-v", "/a:/b"]);
        assert_eq!(task["command"]["value"], "run");
    }
}
