//! Follows a task's sandbox files to exact bytes.

use url::Url;

/// Where a sandbox is served, and under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Base addresses of the agent in the order to try: by hostname, by ip. Only scheme, host and port.
    pub agents: Vec<Url>,
    /// The agent's process id in paths: "/slave(1)".
    pub process: String,
    /// Agent.
    pub agent_id: String,
    /// Framework.
    pub framework_id: String,
    /// Executor; for a command task the task id.
    pub executor_id: String,
}
