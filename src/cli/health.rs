//! The options of the health check, spelled as in `docker run`; the agent makes it, not the engine.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;

use super::values::{self, Limit};

const HEALTH: &str = "Health check (none unless --health-cmd is given)";

/// Whether the task is looked after while it runs, and how.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Health {
    /// Command of the container's shell that says with 0 that the task is well; a task that is not is killed
    #[arg(long, value_name = "COMMAND", help_heading = HEALTH)]
    pub health_cmd: Option<String>,

    /// Before the first run of it, and between two [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = values::interval, allow_negative_numbers = true,
          requires = "health_cmd", help_heading = HEALTH)]
    pub health_interval: Option<Duration>,

    /// After that time a run of it has failed [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = values::limit, allow_negative_numbers = true,
          requires = "health_cmd", help_heading = HEALTH)]
    pub health_timeout: Option<Limit>,

    /// So many failures in a row kill the task [default: 3]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, requires = "health_cmd", help_heading = HEALTH)]
    pub health_retries: Option<NonZeroU32>,

    /// From the start of the task until then, failures before the first success do not count [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = values::duration, allow_negative_numbers = true,
          requires = "health_cmd", help_heading = HEALTH)]
    pub health_start_period: Option<Duration>,

    /// Do not let the engine run the health check of the image, which nobody looks at
    #[arg(long, help_heading = HEALTH)]
    pub no_healthcheck: bool,
}
