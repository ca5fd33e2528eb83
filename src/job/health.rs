//! The Mesos health check for the options of `docker run`.

use std::num::NonZeroU32;
use std::time::Duration;

use proto::mesos::{CommandInfo, HealthCheck, health_check};

use super::JobError;
use crate::cli::Health;

/// As `docker run` has them; Mesos' own are others.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;

/// `None` without a command to run.
pub(super) fn check(options: &Health) -> Result<Option<HealthCheck>, JobError> {
    let Some(command) = &options.health_cmd else { return Ok(None) };
    super::task::check_not_empty("--health-cmd", command, "give a command of the container's shell")?;
    let interval = options.health_interval.unwrap_or(INTERVAL);
    // For Mesos, too, 0 is no limit.
    let timeout = options.health_timeout.map_or(Some(TIMEOUT), |limit| limit.0).unwrap_or_default();
    Ok(Some(HealthCheck {
        r#type: Some(health_check::Type::Command.into()),
        command: Some(CommandInfo { shell: Some(true), value: Some(command.clone()), ..CommandInfo::default() }),
        // As the engine does, which waits before the first run, too.
        delay_seconds: Some(interval.as_secs_f64()),
        interval_seconds: Some(interval.as_secs_f64()),
        timeout_seconds: Some(timeout.as_secs_f64()),
        consecutive_failures: Some(options.health_retries.map_or(RETRIES, NonZeroU32::get)),
        grace_period_seconds: Some(options.health_start_period.unwrap_or_default().as_secs_f64()),
        ..HealthCheck::default()
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use crate::job::tests::job;

    /// Delay, interval, timeout, failures and grace.
    type Times = (f64, f64, f64, u32, f64);

    fn times(words: &[&str]) -> Times {
        let words = [&["--health-cmd=test -e /up"], words, &["busybox"]].concat();
        let check = job(&words).unwrap().task.info.health_check.unwrap();
        assert_eq!(check.command.as_ref().unwrap().value(), "test -e /up");
        let (delay, interval, timeout) = (check.delay_seconds(), check.interval_seconds(), check.timeout_seconds());
        (delay, interval, timeout, check.consecutive_failures(), check.grace_period_seconds())
    }

    #[test]
    fn times_that_are_not_given_are_those_of_docker_run() {
        assert_eq!(times(&[]), (30.0, 30.0, 30.0, 3, 0.0));
        let words = ["--health-interval=500ms", "--health-timeout=2", "--health-retries=1", "--health-start-period=1m"];
        assert_eq!(times(&words), (0.5, 0.5, 2.0, 1, 60.0));
        assert_eq!(times(&["--health-timeout=0"]).2, 0.0);
    }

    #[test]
    fn without_a_command_there_is_no_check() {
        assert_eq!(job(&["busybox"]).unwrap().task.info.health_check, None);
        let error = job(&["--health-cmd=", "busybox"]).unwrap_err().to_string();
        assert!(error.contains("--health-cmd"), "{error}");
    }
}
