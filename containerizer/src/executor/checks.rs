//! The checks of a running task: when each is due, and what its results mean. PURE.
//!
//! ```text
//! start --delay--> due --> under way --result--> (news for the framework) --interval--> due
//! ```
//!
//! Both kinds follow Mesos' own executors. A **health check** says healthy or not with every failure and with the first
//! success after one; so many failures in a row end the task. Failures within the grace period, counted from the start,
//! do not count before the first success. A **check** (since 1.2) only tells its result, whenever that changes.

use std::time::Duration;

use proto::mesos::network_info::Protocol;
use proto::mesos::{CheckInfo, CheckStatusInfo, CommandInfo, HealthCheck, TaskInfo};
use proto::mesos::{check_info, check_status_info, health_check};

/// One try, to be made in the container or its network.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// For the result.
    pub kind: CheckKind,
    /// How.
    pub attempt: Attempt,
    /// How long it may take; `None`: as long as it likes.
    pub limit: Option<Duration>,
}

/// Which of a task's two checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckKind {
    /// `TaskInfo.health_check`
    Health,
    /// `TaskInfo.check`
    Status,
}

/// How a task is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// A program in the container.
    Command {
        /// The program and its arguments.
        argv: Vec<String>,
        /// On top of the container's own.
        environment: Vec<(String, String)>,
    },
    /// GET in the container's network, redirects followed, certificates not looked at.
    Http {
        /// `http` or `https`.
        scheme: String,
        /// TCP.
        port: u16,
        /// With its slash.
        path: String,
        /// Whether the loopback address is the one of IPv6.
        is_ipv6: bool,
    },
    /// A connection in the container's network.
    Tcp {
        /// TCP.
        port: u16,
        /// Whether the loopback address is the one of IPv6.
        is_ipv6: bool,
    },
    /// The framework did not say enough.
    Impossible {
        /// What is missing.
        why: String,
    },
}

/// What a try found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The program's exit code.
    ExitCode(i32),
    /// The status of the HTTP answer.
    HttpStatus(u16),
    /// Whether somebody listens.
    Listens(bool),
}

/// What a try found, or why it found nothing: no result in time, or no means to look.
pub type Finding = Result<Found, String>;

/// What the framework is to be told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// The task is well, for the first time or again.
    Healthy,
    /// The task is not well.
    Unhealthy {
        /// For people.
        why: String,
        /// Whether that was one time too many.
        is_fatal: bool,
    },
    /// [`Checks::status`] has changed.
    Status,
}

/// The checks of one task; the default has none.
#[derive(Debug, Default)]
pub(super) struct Checks {
    health: Option<Health>,
    status: Option<Status>,
}

#[derive(Debug)]
struct Health {
    schedule: Schedule,
    most_failures: u32,
    failures: u32,
    grace: Duration,
    /// Failures do not count until then, or until the first success.
    grace_until: Option<Duration>,
    is_healthy: Option<bool>,
}

#[derive(Debug)]
struct Status {
    schedule: Schedule,
    last: CheckStatusInfo,
}

#[derive(Debug)]
struct Schedule {
    /// `None` before the start.
    due: Option<Duration>,
    is_under_way: bool,
    delay: Duration,
    interval: Duration,
    probe: Probe,
}

impl Checks {
    /// Of a task whose container does not run yet.
    pub(super) fn new(task: &TaskInfo) -> Self {
        Self { health: task.health_check.as_deref().map(Health::new), status: task.check.as_deref().map(Status::new) }
    }

    /// Its container has just started.
    pub(super) fn start(&mut self, now: Duration) {
        if let Some(health) = &mut self.health {
            health.schedule.start(now);
            health.grace_until = (!health.grace.is_zero()).then(|| now.saturating_add(health.grace));
        }
        if let Some(status) = &mut self.status {
            status.schedule.start(now);
        }
    }

    /// When [`Self::take_due`] has something next.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        [self.health.as_ref().map(|health| &health.schedule), self.status.as_ref().map(|status| &status.schedule)]
            .into_iter()
            .flatten()
            .filter_map(|schedule| schedule.due)
            .min()
    }

    /// What is to be tried now; the next of its kind follows its result.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<Probe> {
        let health = self.health.as_mut().map(|health| &mut health.schedule);
        let status = self.status.as_mut().map(|status| &mut status.schedule);
        let due = |schedule: &mut Schedule| {
            schedule.due.take_if(|due| now >= *due)?;
            schedule.is_under_way = true;
            Some(schedule.probe.clone())
        };
        [health, status].into_iter().flatten().filter_map(due).collect()
    }

    /// Takes a result; one that nobody asked for is ignored.
    pub(super) fn found(&mut self, now: Duration, kind: CheckKind, finding: &Finding) -> Option<Verdict> {
        match kind {
            CheckKind::Health => self.health.as_mut()?.found(now, finding),
            CheckKind::Status => self.status.as_mut()?.found(now, finding),
        }
    }

    /// Whether the task is well, as far as that is known.
    pub(super) fn is_healthy(&self) -> Option<bool> {
        self.health.as_ref().and_then(|health| health.is_healthy)
    }

    /// What the check found last; empty, but there, before the first result.
    pub(super) fn status(&self) -> Option<&CheckStatusInfo> {
        self.status.as_ref().map(|status| &status.last)
    }
}

impl Health {
    fn new(check: &HealthCheck) -> Self {
        let limit = limit(check.timeout_seconds());
        let probe = Probe { kind: CheckKind::Health, attempt: of_health_check(check), limit };
        Self {
            schedule: Schedule::new(probe, check.delay_seconds(), check.interval_seconds()),
            most_failures: check.consecutive_failures(),
            failures: 0,
            grace: seconds(check.grace_period_seconds()),
            grace_until: None,
            is_healthy: None,
        }
    }

    fn found(&mut self, now: Duration, finding: &Finding) -> Option<Verdict> {
        self.schedule.is_over(now)?;
        let Some(what) = fault(&self.schedule.probe.attempt, finding) else {
            self.grace_until = None;
            self.failures = 0;
            let was_healthy = self.is_healthy.replace(true);
            return (was_healthy != Some(true)).then_some(Verdict::Healthy);
        };
        if self.grace_until.is_some_and(|until| now <= until) {
            return None;
        }
        self.failures += 1;
        self.is_healthy = Some(false);
        let times = if self.failures == 1 { "once".to_owned() } else { format!("{} times in a row", self.failures) };
        let why = format!("Health check failed {times}, because {what}");
        Some(Verdict::Unhealthy { why, is_fatal: self.failures >= self.most_failures })
    }
}

impl Status {
    fn new(check: &CheckInfo) -> Self {
        let limit = limit(check.timeout_seconds());
        let probe = Probe { kind: CheckKind::Status, attempt: of_check(check), limit };
        let schedule = Schedule::new(probe, check.delay_seconds(), check.interval_seconds());
        Self { schedule, last: no_status(check) }
    }

    fn found(&mut self, now: Duration, finding: &Finding) -> Option<Verdict> {
        self.schedule.is_over(now)?;
        let mut status = CheckStatusInfo { r#type: self.last.r#type, ..CheckStatusInfo::default() };
        let found = finding.as_ref().ok();
        match &self.schedule.probe.attempt {
            Attempt::Command { .. } => {
                let exit_code = found.and_then(|found| match found {
                    Found::ExitCode(code) => Some(*code),
                    Found::HttpStatus(_) | Found::Listens(_) => None,
                });
                status.command = Some(check_status_info::Command { exit_code });
            }
            Attempt::Http { .. } => {
                let status_code = found.and_then(|found| match found {
                    Found::HttpStatus(status) => Some(u32::from(*status)),
                    Found::ExitCode(_) | Found::Listens(_) => None,
                });
                status.http = Some(check_status_info::Http { status_code });
            }
            Attempt::Tcp { .. } => {
                let succeeded = found.and_then(|found| match found {
                    Found::Listens(listens) => Some(*listens),
                    Found::ExitCode(_) | Found::HttpStatus(_) => None,
                });
                status.tcp = Some(check_status_info::Tcp { succeeded });
            }
            Attempt::Impossible { .. } => status.clone_from(&self.last),
        }
        if status == self.last {
            return None;
        }
        self.last = status;
        Some(Verdict::Status)
    }
}

impl Schedule {
    fn new(probe: Probe, delay_seconds: f64, interval_seconds: f64) -> Self {
        let (delay, interval) = (seconds(delay_seconds), seconds(interval_seconds));
        Self { due: None, is_under_way: false, delay, interval, probe }
    }

    fn start(&mut self, now: Duration) {
        self.due = Some(now.saturating_add(self.delay));
    }

    /// The one under way is over; `None` when none was.
    fn is_over(&mut self, now: Duration) -> Option<()> {
        if !std::mem::take(&mut self.is_under_way) {
            return None;
        }
        self.due = Some(now.saturating_add(self.interval));
        Some(())
    }
}

/// What speaks against health in this finding.
fn fault(attempt: &Attempt, finding: &Finding) -> Option<String> {
    match finding {
        // As Mesos' executors do, which do not look at `statuses` either.
        Ok(Found::ExitCode(0) | Found::HttpStatus(200..=399) | Found::Listens(true)) => None,
        Ok(Found::ExitCode(code)) => Some(format!("its command exited with {code}")),
        Ok(Found::HttpStatus(status)) => Some(format!("{} answered {status}", target(attempt))),
        Ok(Found::Listens(false)) => Some(format!("nobody listens on {}", target(attempt))),
        Err(why) => Some(why.clone()),
    }
}

fn target(attempt: &Attempt) -> String {
    match attempt {
        Attempt::Command { argv, .. } => argv.join(" "),
        Attempt::Http { scheme, port, path, .. } => format!("{scheme}://:{port}{path}"),
        Attempt::Tcp { port, .. } => format!("port {port}"),
        Attempt::Impossible { why } => why.clone(),
    }
}

fn of_health_check(check: &HealthCheck) -> Attempt {
    use health_check::Type;
    // Frameworks of the time before 1.1 say no type.
    let told = check.r#type.and_then(|number| Type::try_from(number).ok()).filter(|told| *told != Type::Unknown);
    let meant = match (&check.command, &check.http, &check.tcp) {
        (Some(_), _, _) => Type::Command,
        (None, Some(_), _) => Type::Http,
        (None, None, Some(_)) => Type::Tcp,
        (None, None, None) => Type::Unknown,
    };
    match (told.unwrap_or(meant), &check.command, &check.http, &check.tcp) {
        (Type::Command, Some(command), _, _) => command_attempt(command),
        (Type::Http, _, Some(http), _) => {
            http_attempt(http.scheme(), http.port, http.path(), http.protocol() == Protocol::IPv6)
        }
        (Type::Tcp, _, _, Some(tcp)) => tcp_attempt(tcp.port, tcp.protocol() == Protocol::IPv6),
        (Type::Unknown | Type::Command | Type::Http | Type::Tcp, _, _, _) => unsaid(),
    }
}

fn of_check(check: &CheckInfo) -> Attempt {
    use check_info::Type;
    match (check.r#type(), &check.command, &check.http, &check.tcp) {
        (Type::Command, Some(command), _, _) => command_attempt(&command.command),
        (Type::Http, _, Some(http), _) => http_attempt("", http.port, http.path(), false),
        (Type::Tcp, _, _, Some(tcp)) => tcp_attempt(tcp.port, false),
        (Type::Unknown | Type::Command | Type::Http | Type::Tcp, _, _, _) => unsaid(),
    }
}

fn unsaid() -> Attempt {
    Attempt::Impossible { why: "it does not say what to look at".to_owned() }
}

fn command_attempt(command: &CommandInfo) -> Attempt {
    let mut argv: Vec<String> = command.value.iter().cloned().collect();
    if command.shell() {
        argv = ["/bin/sh", "-c"].into_iter().map(str::to_owned).chain(argv.into_iter().take(1)).collect();
        if argv.len() < 3 {
            return unsaid();
        }
    } else {
        argv.extend(command.arguments.iter().cloned());
    }
    if argv.is_empty() {
        return unsaid();
    }
    let variables = command.environment.iter().flat_map(|environment| &environment.variables);
    let environment = variables.map(|variable| (variable.name.clone(), variable.value().to_owned())).collect();
    Attempt::Command { argv, environment }
}

fn http_attempt(scheme: &str, port: u32, path: &str, is_ipv6: bool) -> Attempt {
    let scheme = match scheme {
        "" | "http" => "http",
        "https" => "https",
        other => return Attempt::Impossible { why: format!("{other:?} is neither http nor https") },
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    match u16::try_from(port) {
        Ok(port) => Attempt::Http { scheme: scheme.to_owned(), port, path, is_ipv6 },
        Err(_) => Attempt::Impossible { why: format!("there is no port {port}") },
    }
}

fn tcp_attempt(port: u32, is_ipv6: bool) -> Attempt {
    match u16::try_from(port) {
        Ok(port) => Attempt::Tcp { port, is_ipv6 },
        Err(_) => Attempt::Impossible { why: format!("there is no port {port}") },
    }
}

fn no_status(check: &CheckInfo) -> CheckStatusInfo {
    let mut status = CheckStatusInfo { r#type: check.r#type, ..CheckStatusInfo::default() };
    match check.r#type() {
        check_info::Type::Command => status.command = Some(check_status_info::Command::default()),
        check_info::Type::Http => status.http = Some(check_status_info::Http::default()),
        check_info::Type::Tcp => status.tcp = Some(check_status_info::Tcp::default()),
        check_info::Type::Unknown => {}
    }
    status
}

/// Mesos takes 0 for no limit.
fn limit(timeout_seconds: f64) -> Option<Duration> {
    Some(seconds(timeout_seconds)).filter(|limit| !limit.is_zero())
}

fn seconds(seconds: f64) -> Duration {
    // Negative ones and those that are no number mean nothing.
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(LONGEST).min(LONGEST)
}

/// Keeps clocks from overflowing; no task runs for so long.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests;
