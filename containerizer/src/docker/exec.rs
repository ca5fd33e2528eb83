//! Programs run in a container beside its own, as `docker exec` does.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures::StreamExt;

use super::{Engine, EngineError, LOOK, classify};

impl Engine {
    /// Makes ready to run a program in a running container; gives the engine's id of it.
    ///
    /// # Errors
    /// The engine refuses, or the container does not run.
    pub async fn prepare_program(
        &self,
        container: &str,
        argv: Vec<String>,
        environment: Vec<String>,
    ) -> Result<String, EngineError> {
        let options = CreateExecOptions {
            cmd: Some(argv),
            env: Some(environment),
            // Attached, so that the engine tells when it ends.
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::default()
        };
        let prepared = self.docker.create_exec(container, options);
        Ok(self.call("prepare a program in the container", LOOK, prepared).await?.id)
    }

    /// Runs it to its end and gives its exit code; what it prints goes nowhere. Takes as long as it runs.
    ///
    /// # Errors
    /// The engine cannot run it, or went away.
    pub async fn run_program(&self, id: &str) -> Result<i64, EngineError> {
        const WHAT: &str = "run a program in the container";
        let started = self.call(WHAT, LOOK, self.docker.start_exec(id, None::<StartExecOptions>)).await?;
        if let StartExecResults::Attached { mut output, .. } = started {
            while let Some(piece) = output.next().await {
                piece.map_err(|error| classify(&self.host, WHAT, error))?;
            }
        }
        loop {
            let found = self.call(WHAT, LOOK, self.docker.inspect_exec(id)).await?;
            match found.exit_code {
                Some(code) if found.running != Some(true) => return Ok(code),
                // Its output ends a moment before it does.
                _ => tokio::time::sleep(AFTER_OUTPUT).await,
            }
        }
    }

    /// On the host, of a program that was started, and whether it has ended: what it has started may still be there.
    ///
    /// # Errors
    /// The engine does not say.
    pub async fn pid_of_program(&self, id: &str) -> Result<Option<(u32, bool)>, EngineError> {
        let found = self.call("look for a program in the container", LOOK, self.docker.inspect_exec(id)).await?;
        let pid = found.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
        Ok(pid.map(|pid| (pid, found.running != Some(true))))
    }
}

const AFTER_OUTPUT: Duration = Duration::from_millis(20);
