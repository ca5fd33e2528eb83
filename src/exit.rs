//! How a launch ended, and the exit code that says so: the one table that README and tests compare with.

/// How a task, or the launch of it, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The task ended by itself with this code.
    Exited(u8),
    /// The task died by this signal (where the agent tells; Docker itself only says 128+n).
    Signaled(u8),
    /// `--timeout` or `--offer-timeout` passed.
    TimedOut(String),
    /// The launcher, the cluster or the agent failed; the text says what, on what, why, and what to do.
    Failed(String),
    /// The user interrupted with this signal (2 or 15) before or while the task ran.
    Interrupted(u8),
}
