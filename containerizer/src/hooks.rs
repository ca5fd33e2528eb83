//! The operator's own programs: one before a container is created, one when it has gone.
//!
//! A hook gets the slave's `Launch` message on its stdin, as bare protobuf, and what it says in environment variables.
//! Nothing of it stands on the hook's command line. A launch hook that fails keeps the container from being created, and
//! is named as the reason; a destroy hook that fails changes nothing.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use prost::Message;
use proto::ecp::Launch;
use proto::resources::Resources;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::config::Config;
use crate::spec;

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Launch,
    Destroy,
}

impl Hook {
    fn word(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Destroy => "destroy",
        }
    }

    fn words(self, config: &Config) -> &[String] {
        match self {
            Self::Launch => &config.hooks.launch,
            Self::Destroy => &config.hooks.destroy,
        }
    }

    /// Runs it where one is configured, and waits for its end.
    ///
    /// # Errors
    /// It cannot be started, does not end in time, or fails.
    pub(crate) async fn run(self, launch: &Launch, config: &Config) -> Result<(), HookError> {
        let Some((program, arguments)) = self.words(config).split_first() else { return Ok(()) };
        let failed = |reason| HookError { hook: self.word(), program: program.clone(), reason };
        let mut command = Command::new(program);
        command.args(arguments).envs(variables(self, launch)).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        if Path::new(launch.directory()).is_dir() {
            command.current_dir(launch.directory());
        }
        let mut child = command.spawn().map_err(|error| failed(Reason::Spawn(error)))?;
        let mut stdin = child.stdin.take().expect("it was asked for");
        let work = async {
            // One that does not read has its reasons, which its end tells.
            let _ = stdin.write_all(&launch.encode_to_vec()).await;
            drop(stdin);
            child.wait().await
        };
        let limit = config.hooks.limit;
        match tokio::time::timeout(limit, work).await {
            Err(_) => Err(failed(Reason::Timeout(limit))),
            Ok(Err(error)) => Err(failed(Reason::Spawn(error))),
            Ok(Ok(status)) if !status.success() => Err(failed(Reason::Status(status))),
            Ok(Ok(_)) => Ok(()),
        }
    }
}

fn variables(hook: Hook, launch: &Launch) -> Vec<(String, String)> {
    let task = launch.task_info.as_ref();
    let executor = launch.executor_info.as_ref();
    let id = &launch.container_id.value;
    let named = [
        ("LAUNCH_CONTAINERIZER_HOOK", Some(hook.word().to_owned())),
        ("MESOS_CONTAINER_ID", Some(id.clone())),
        ("MESOS_CONTAINER_NAME", Some(spec::Placement::of_container(id).container_name)),
        ("MESOS_DIRECTORY", launch.directory.clone()),
        ("MESOS_EXECUTOR_ID", executor.map(|executor| executor.executor_id.value.clone())),
        ("MESOS_FRAMEWORK_ID", executor.and_then(|executor| Some(executor.framework_id.as_ref()?.value.clone()))),
        ("MESOS_TASK_ID", task.map(|task| task.task_id.value.clone())),
    ];
    let mut variables: Vec<_> = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let resources = match task {
        Some(task) => task.resources.as_slice(),
        None => executor.map_or(&[][..], |executor| executor.resources.as_slice()),
    };
    let ranges = Resources::from(resources).ranges("ports");
    let ports: Vec<String> =
        ranges.into_iter().flat_map(|(begin, end)| begin..=end).map(|port| port.to_string()).collect();
    if let Some(first) = ports.first() {
        variables.push(("PORT".to_owned(), first.clone()));
        variables.push(("PORTS".to_owned(), ports.join(",")));
    }
    variables
        .extend(ports.iter().take(MAX_PORT_VARIABLES).enumerate().map(|(n, port)| (format!("PORT{n}"), port.clone())));
    variables
}

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
#[error("the {hook} hook {program:?} {reason}; its operator knows why (hooks.{hook})")]
pub(crate) struct HookError {
    hook: &'static str,
    program: String,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("cannot be run: {0}")]
    Spawn(std::io::Error),
    #[error("has not ended within {} seconds", .0.as_secs_f64())]
    Timeout(Duration),
    #[error("failed ({0})")]
    Status(ExitStatus),
}

/// An environment has its limits.
const MAX_PORT_VARIABLES: usize = 100;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn launch() -> Launch {
        let mut frame: &[u8] = include_bytes!("../../tests/fixtures/mesos-1.0.4/ecp/launch-full.bin");
        let launch: Launch = proto::framing::read(&mut frame).unwrap();
        Launch { directory: Some("/".to_owned()), ..launch }
    }

    fn config(words: &[&str]) -> Config {
        let mut config = Config::defaults();
        config.hooks.launch = words.iter().map(|word| (*word).to_owned()).collect();
        config
    }

    #[tokio::test]
    async fn a_hook_gets_the_message_and_the_ports() {
        let directory = tempfile::tempdir().unwrap();
        let script = "cat > \"$1/message\"; echo \"$LAUNCH_CONTAINERIZER_HOOK $PORT $PORTS $PORT1\" > \"$1/ports\"";
        let config = config(&["sh", "-c", script, "sh", directory.path().to_str().unwrap()]);
        Hook::Launch.run(&launch(), &config).await.unwrap();
        Hook::Destroy.run(&launch(), &config).await.unwrap();
        assert_eq!(std::fs::read(directory.path().join("message")).unwrap(), launch().encode_to_vec());
        let ports = std::fs::read_to_string(directory.path().join("ports")).unwrap();
        assert_eq!(ports, "launch 31005 31005,31006 31006\n");
    }

    #[tokio::test]
    async fn a_hook_that_fails_is_named() {
        let error = |words: &[&str]| {
            let mut config = config(words);
            config.hooks.limit = Duration::from_millis(200);
            async move { Hook::Launch.run(&launch(), &config).await.unwrap_err().to_string() }
        };
        assert!(error(&["sh", "-c", "exit 3"]).await.contains("the launch hook \"sh\" failed (exit status: 3)"));
        assert!(error(&["/no/such"]).await.contains("the launch hook \"/no/such\" cannot be run"));
        assert!(error(&["sleep", "1000"]).await.contains("has not ended within 0.2 seconds"));
    }
}
