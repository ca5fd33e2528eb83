//! The core alone: what it says to the agent and to the container's owner, input by input, and under random inputs.

#![allow(clippy::unwrap_used, reason = "tests")]

use lifecycle::{Cause, Command, Event, StdinPart};
use proptest::prelude::*;
use proto::record::TaskRecord;

use super::*;
use crate::executor::checks::Found;

const GRACE: Duration = Duration::from_secs(3);

/// An executor and the time; effects are read as short words.
struct Rig {
    executor: Executor,
    now: Duration,
    effects: Vec<Effect>,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            framework_id: "f".to_owned(),
            executor_id: "e".to_owned(),
            agent_id: "a".to_owned(),
            is_checkpointed: true,
            recovery_timeout: Duration::from_secs(900),
            backoff_max: Duration::from_secs(2),
            kill_grace: GRACE,
            shutdown_grace: GRACE,
            container_id: Some("c".to_owned()),
            pid: Some(7),
            resumed_task: None,
            resumed_owed: None,
            seed: 1,
        };
        change(&mut config);
        let executor = Executor::new(config, at(Duration::ZERO));
        Self { executor, now: Duration::ZERO, effects: Vec::new() }
    }

    fn checkpointed() -> Self {
        Self::new(|_| {})
    }

    /// Subscribed, and the task launched and its STARTING acknowledged.
    fn launched(change: impl FnOnce(&mut Config)) -> Self {
        let mut rig = Self::new(change);
        rig.take(Input::Tick);
        rig.take(subscribed(false));
        rig.take(launch("t"));
        rig.deliver();
        rig
    }

    fn running(change: impl FnOnce(&mut Config)) -> Self {
        let mut rig = Self::launched(change);
        rig.take(started());
        rig.deliver();
        rig
    }

    fn take(&mut self, input: Input) -> Vec<String> {
        let effects = self.executor.handle(at(self.now), input);
        let words = effects.iter().filter(|effect| !matches!(effect, Effect::Task(_))).map(word).collect();
        self.effects.extend(effects);
        words
    }

    fn after(&mut self, pause: Duration) -> Vec<String> {
        self.now += pause;
        self.take(Input::Tick)
    }

    /// Answers and acknowledges what was sent last, as an agent does; what follows from it.
    fn deliver(&mut self) -> Vec<String> {
        let status = self.last_sent();
        let mut words = self.take(Input::Sent);
        words.extend(self.take(acknowledged(&status)));
        words
    }

    fn last_sent(&self) -> TaskStatus {
        let sent = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Send(call) => call.update.clone(),
            _ => None,
        });
        sent.unwrap().status
    }

    fn wait(&mut self) -> Vec<String> {
        self.now = self.executor.next_timeout().unwrap();
        self.take(Input::Tick)
    }
}

fn at(monotonic: Duration) -> Now {
    Now { monotonic, epoch_seconds: 1000.0 + monotonic.as_secs_f64() }
}

fn word(effect: &Effect) -> String {
    let state = |status: &TaskStatus| status.state().as_str_name().trim_start_matches("TASK_").to_owned();
    match effect {
        Effect::Subscribe(call) => {
            let subscribe = call.subscribe.clone().unwrap();
            let tasks: Vec<_> = subscribe.unacknowledged_tasks.iter().map(|task| &*task.task_id.value).collect();
            let updates: Vec<_> = subscribe.unacknowledged_updates.iter().map(|update| state(&update.status)).collect();
            format!("subscribe tasks[{}] updates[{}]", tasks.join(" "), updates.join(" "))
        }
        Effect::Send(call) => match &call.message {
            Some(message) => format!("tell {}", String::from_utf8_lossy(&message.data)),
            None => format!("send {}", state(&call.update.clone().unwrap().status)),
        },
        Effect::Task(task) => format!("task {}", task.task_id.value),
        Effect::Container(Command::Start) => "start".to_owned(),
        Effect::Probe(probe) => format!("probe {:?}", probe.kind),
        Effect::Container(Command::Stop { grace }) => format!("stop {grace:?}"),
        Effect::Container(Command::Signal(number)) => format!("signal {number}"),
        Effect::Container(Command::Stdin(StdinPart::Bytes(bytes))) => format!("input {}", bytes.escape_ascii()),
        Effect::Container(Command::Stdin(StdinPart::End)) => "input ends".to_owned(),
        Effect::Finish(finished) => {
            let status = finished.status.as_ref().map_or("no task".to_owned(), |status| state(status));
            format!("finish {status}{}", if finished.is_acknowledged { "" } else { " unacknowledged" })
        }
    }
}

fn subscribed(knows_killing: bool) -> Input {
    let mut subscribed = executor::event::Subscribed::default();
    subscribed.agent_info.id = Some(mesos::AgentId { value: "a".to_owned() });
    if knows_killing {
        let kind = Some(capability::Type::TaskKillingState as i32);
        subscribed.framework_info.capabilities = vec![mesos::framework_info::Capability { r#type: kind }];
    }
    Input::Subscribed(Box::new(subscribed))
}

fn task(task_id: &str) -> TaskInfo {
    TaskInfo { task_id: mesos::TaskId { value: task_id.to_owned() }, ..TaskInfo::default() }
}

fn launch(task_id: &str) -> Input {
    Input::Launch(Box::new(task(task_id)))
}

/// With a health check every second, two failures of which are too many.
fn checked(task: TaskInfo) -> TaskInfo {
    let check = mesos::HealthCheck {
        delay_seconds: Some(0.0),
        interval_seconds: Some(1.0),
        grace_period_seconds: Some(0.0),
        consecutive_failures: Some(2),
        command: Some(mesos::CommandInfo { value: Some("true".to_owned()), ..mesos::CommandInfo::default() }),
        ..mesos::HealthCheck::default()
    };
    TaskInfo { health_check: Some(check.into()), ..task }
}

fn probed(kind: CheckKind, code: i32) -> Input {
    Input::Probed { kind, finding: Ok(Found::ExitCode(code)) }
}

fn policy(grace: Duration) -> KillPolicy {
    KillPolicy { grace_period: Some(DurationInfo { nanoseconds: grace.as_nanos() as i64 }) }
}

fn kill(grace: Option<Duration>) -> Input {
    Input::Kill { task_id: "t".to_owned(), kill_policy: grace.map(policy) }
}

fn acknowledged(status: &TaskStatus) -> Input {
    Input::Acknowledged { task_id: status.task_id.value.clone(), uuid: status.uuid.clone().unwrap() }
}

fn started() -> Input {
    let ip_address = Some("172.17.0.2".to_owned());
    Input::Container(Event::Started(Started { ip_address, docker_id: "d".to_owned(), ..Started::default() }))
}

fn ended(cause: Cause, was_stopped: bool) -> Input {
    let started = matches!(cause, Cause::Exited { .. } | Cause::OutOfMemory { .. }).then(Started::default);
    let ending = Ending {
        cause,
        was_stopped,
        started,
        finished_at: 5.0,
        stdout_bytes: Some(1),
        stderr_bytes: Some(2),
        lost_bytes: Some(0),
    };
    Input::Container(Event::Ended(ending))
}

fn exited(code: i32) -> Input {
    ended(Cause::Exited { code }, false)
}

fn stopped() -> Input {
    ended(Cause::Exited { code: 143 }, true)
}

fn lost() -> Input {
    Input::Disconnected { reason: "end of stream".to_owned() }
}

#[test]
fn a_task_is_subscribed_for_started_reported_and_left_after_the_last_acknowledgement() {
    let mut rig = Rig::checkpointed();
    assert_eq!(rig.take(Input::Tick), ["subscribe tasks[] updates[]"]);
    assert!(rig.take(subscribed(false)).is_empty());
    assert_eq!(rig.take(launch("t")), ["start", "send STARTING"]);
    assert!(rig.deliver().is_empty());
    assert_eq!(rig.take(started()), ["send RUNNING"]);
    assert!(rig.deliver().is_empty());
    assert_eq!(rig.take(exited(0)), ["send FINISHED"]);
    assert!(rig.take(Input::Sent).is_empty());
    assert_eq!(rig.take(acknowledged(&rig.last_sent())), ["finish FINISHED"]);
    assert!(rig.take(exited(0)).is_empty());
}

#[test]
fn statuses_carry_what_agents_and_frameworks_need() {
    let mut rig = Rig::launched(|_| {});
    rig.take(started());
    let running = rig.last_sent();
    assert_eq!(running.source(), Source::Executor);
    assert_eq!(running.agent_id.unwrap().value, "a");
    assert_eq!(running.executor_id.unwrap().value, "e");
    assert_eq!(running.timestamp, Some(1000.0));
    let container = running.container_status.unwrap();
    assert_eq!(container.network_infos[0].ip_addresses[0].ip_address.as_deref(), Some("172.17.0.2"));
    assert_eq!(container.container_id.unwrap().value, "c");
    assert_eq!(container.executor_pid, Some(7));
    let uuid = uuid::Uuid::from_slice(&running.uuid.unwrap()).unwrap();
    assert_eq!((uuid.get_version_num(), uuid.get_variant()), (4, uuid::Variant::RFC4122));
    rig.deliver();
    rig.take(exited(3));
    let failed = rig.last_sent();
    assert_eq!(failed.message.as_deref(), Some("Container exited with status 3"));
    assert_eq!(TaskRecord::parse(&failed.data.unwrap()).unwrap().exit_code, Some(3));
}

#[test]
fn a_container_of_a_millisecond_is_still_seen_running() {
    let mut rig = Rig::launched(|_| {});
    assert_eq!(rig.take(exited(0)), ["send RUNNING"]);
    assert_eq!(rig.deliver(), ["send FINISHED"]);
    assert_eq!(rig.deliver(), ["finish FINISHED"]);
}

#[test]
fn a_container_that_failed_before_the_launch_is_reported_at_the_launch() {
    let mut rig = Rig::checkpointed();
    rig.take(Input::Tick);
    rig.take(ended(Cause::NotStarted { message: "no image".to_owned() }, false));
    rig.take(subscribed(false));
    assert_eq!(rig.take(launch("t")), ["send STARTING"]);
    assert_eq!(rig.deliver(), ["send FAILED"]);
    assert_eq!(rig.last_sent().message.as_deref(), Some("no image"));
    assert_eq!(rig.last_sent().reason(), Reason::ContainerLaunchFailed);
    assert_eq!(rig.deliver(), ["finish FAILED"]);
}

#[test]
fn grace_comes_from_the_kill_then_the_task_then_the_default() {
    let short = Duration::from_millis(1500);
    for (kill_policy, task_policy, expected) in [
        (Some(short), Some(GRACE), "stop 1.5s"),
        (None, Some(short), "stop 1.5s"),
        (None, None, "stop 3s"),
        (Some(Duration::ZERO), None, "stop 0ns"),
    ] {
        let mut rig = Rig::checkpointed();
        rig.take(Input::Tick);
        rig.take(subscribed(false));
        let task = TaskInfo { kill_policy: task_policy.map(policy), ..task("t") };
        rig.take(Input::Launch(Box::new(task)));
        rig.take(started());
        assert_eq!(rig.take(kill(kill_policy)), [expected]);
    }
}

#[test]
fn a_killed_task_ends_killed_and_says_killing_only_to_a_framework_that_knows_it() {
    for knows_killing in [false, true] {
        let mut rig = Rig::checkpointed();
        rig.take(Input::Tick);
        rig.take(subscribed(knows_killing));
        rig.take(launch("t"));
        rig.deliver();
        rig.take(started());
        rig.deliver();
        let expected: &[&str] = if knows_killing { &["stop 3s", "send KILLING"] } else { &["stop 3s"] };
        assert_eq!(rig.take(kill(None)), expected);
        if knows_killing {
            rig.deliver();
        }
        assert_eq!(rig.take(stopped()), ["send KILLED"]);
        assert_eq!(rig.last_sent().message.as_deref(), Some("Container exited with status 143"));
    }
}

#[test]
fn a_repeated_kill_passes_through_only_when_it_is_more_urgent() {
    let mut rig = Rig::running(|_| {});
    assert_eq!(rig.take(kill(None)), ["stop 3s"]);
    assert!(rig.take(kill(Some(Duration::from_secs(60)))).is_empty());
    rig.now += Duration::from_secs(1);
    assert!(rig.take(kill(None)).is_empty());
    assert_eq!(rig.take(kill(Some(Duration::from_secs(1)))), ["stop 1s"]);
    assert!(
        rig.take(Input::Kill { task_id: "other".to_owned(), kill_policy: Some(policy(Duration::ZERO)) }).is_empty()
    );
}

#[test]
fn a_kill_before_the_container_runs_ends_killed_without_running() {
    let mut rig = Rig::launched(|_| {});
    assert_eq!(rig.take(kill(None)), ["stop 3s"]);
    assert!(rig.take(started()).is_empty());
    assert_eq!(rig.take(ended(Cause::NotStarted { message: "stopped".to_owned() }, true)), ["send KILLED"]);
}

#[test]
fn the_owner_hears_of_the_task_before_anything_it_shall_do_for_it() {
    let mut rig = Rig::checkpointed();
    rig.take(Input::Tick);
    rig.take(subscribed(false));
    rig.take(launch("t"));
    rig.take(launch("u"));
    let words: Vec<_> = rig.effects.iter().map(word).collect();
    assert_eq!(words, ["subscribe tasks[] updates[]", "task t", "start", "send STARTING"]);
}

#[test]
fn a_kill_before_the_launch_is_remembered() {
    let mut rig = Rig::checkpointed();
    rig.take(Input::Tick);
    rig.take(subscribed(false));
    assert!(rig.take(kill(None)).is_empty());
    assert_eq!(rig.take(launch("t")), ["stop 3s", "send STARTING"]);
}

#[test]
fn an_end_that_beats_the_kill_keeps_its_own_result() {
    let mut rig = Rig::running(|_| {});
    rig.take(kill(None));
    assert_eq!(rig.take(exited(0)), ["send FINISHED"]);
}

#[test]
fn a_second_task_fails_and_does_not_disturb_the_first() {
    let mut rig = Rig::running(|_| {});
    assert_eq!(rig.take(launch("u")), ["send FAILED"]);
    assert_eq!(rig.last_sent().task_id.value, "u");
    rig.deliver();
    assert!(rig.take(launch("t")).is_empty());
    assert_eq!(rig.take(exited(0)), ["send FINISHED"]);
    assert_eq!(rig.deliver(), ["finish FINISHED"]);
}

#[test]
fn a_shutdown_stops_the_container_with_the_shutdown_grace() {
    let mut rig = Rig::running(|config| config.shutdown_grace = Duration::from_secs(8));
    assert_eq!(rig.take(Input::Shutdown), ["stop 8s"]);
    assert_eq!(rig.take(stopped()), ["send KILLED"]);
    assert_eq!(rig.deliver(), ["finish KILLED"]);
}

#[test]
fn an_agent_that_shut_the_executor_down_need_not_acknowledge_its_end() {
    let mut rig = Rig::running(|_| {});
    rig.take(Input::Shutdown);
    rig.take(stopped());
    rig.take(Input::Sent);
    assert_eq!(rig.wait(), ["finish KILLED unacknowledged"]);
    assert_eq!(rig.now, HURRIED_REPORT_LIMIT);
}

#[test]
fn a_shutdown_without_a_task_ends_when_the_container_is_gone() {
    let mut rig = Rig::checkpointed();
    rig.take(Input::Tick);
    rig.take(subscribed(false));
    assert_eq!(rig.take(Input::Shutdown), ["stop 3s"]);
    assert_eq!(rig.take(ended(Cause::NotStarted { message: String::new() }, true)), ["finish no task"]);
}

#[test]
fn a_task_launched_into_a_shutdown_is_killed() {
    let mut rig = Rig::checkpointed();
    rig.take(Input::Tick);
    rig.take(subscribed(false));
    rig.take(Input::Shutdown);
    assert!(rig.take(launch("t")).is_empty());
    assert_eq!(rig.take(ended(Cause::NotStarted { message: String::new() }, true)), ["send KILLED"]);
    assert_eq!(rig.deliver(), ["finish KILLED"]);
}

#[test]
fn an_executor_without_a_task_does_not_stay_for_ever() {
    let mut rig = Rig::checkpointed();
    rig.take(Input::Tick);
    rig.take(subscribed(false));
    assert_eq!(rig.wait(), ["stop 0ns"]);
    assert_eq!(rig.now, LAUNCH_LIMIT);
}

#[test]
fn the_maximum_completion_time_counts_from_running_and_fails_the_task() {
    let mut rig = Rig::checkpointed();
    rig.take(Input::Tick);
    rig.take(subscribed(false));
    let limit = Some(DurationInfo { nanoseconds: 10_000_000_000 });
    rig.take(Input::Launch(Box::new(TaskInfo { max_completion_time: limit, ..task("t") })));
    rig.deliver();
    rig.now += Duration::from_secs(100);
    rig.take(started());
    rig.deliver();
    assert!(rig.after(Duration::from_secs(9)).is_empty());
    assert_eq!(rig.after(Duration::from_secs(1)), ["stop 0ns"]);
    assert_eq!(rig.take(ended(Cause::Exited { code: 137 }, true)), ["send FAILED"]);
    assert_eq!(rig.last_sent().reason(), Reason::MaxCompletionTimeReached);
}

#[test]
fn a_broken_stream_is_opened_again_well_before_a_restarted_agent_gives_up() {
    let mut rig = Rig::running(|_| {});
    rig.take(exited(0));
    for _ in 0..50 {
        let since = rig.now;
        assert!(rig.take(lost()).is_empty());
        assert_eq!(rig.wait(), ["subscribe tasks[] updates[FINISHED]"]);
        assert!(rig.now - since <= BACKOFF_MAX && rig.now - since >= BACKOFF_MIN);
    }
    rig.take(subscribed(false));
    let finished = rig.last_sent();
    assert_eq!(rig.take(acknowledged(&finished)), ["finish FINISHED"]);
}

#[test]
fn unacknowledged_tasks_and_updates_are_carried_in_order() {
    let mut rig = Rig::checkpointed();
    rig.take(Input::Tick);
    rig.take(subscribed(false));
    rig.take(launch("t"));
    rig.take(started());
    rig.take(lost());
    assert_eq!(rig.wait(), ["subscribe tasks[t] updates[STARTING RUNNING]"]);
    rig.take(exited(1));
    assert_eq!(rig.take(subscribed(false)), ["send FAILED"]);
}

#[test]
fn an_agent_that_stays_away_beyond_the_recovery_timeout_ends_the_task() {
    let mut rig = Rig::running(|config| config.recovery_timeout = Duration::from_secs(5));
    rig.take(lost());
    let since = rig.now;
    let mut words = Vec::new();
    while !words.contains(&"stop 3s".to_owned()) {
        words = rig.wait();
        rig.take(lost());
    }
    assert_eq!(rig.now - since, Duration::from_secs(5));
    assert_eq!(rig.take(stopped()), ["finish KILLED unacknowledged"]);
}

#[test]
fn an_end_while_the_agent_is_away_waits_for_it_longer_than_the_report_limit() {
    let mut rig = Rig::running(|_| {});
    rig.take(lost());
    rig.take(exited(0));
    while rig.now < REPORT_LIMIT * 3 {
        let words = rig.wait();
        assert_eq!(words, ["subscribe tasks[] updates[FINISHED]"]);
        rig.take(lost());
    }
    rig.wait();
    rig.take(subscribed(false));
    rig.now += REPORT_LIMIT;
    assert_eq!(rig.take(Input::Tick), ["finish FINISHED unacknowledged"]);
}

#[test]
fn without_checkpoint_a_broken_stream_is_a_shutdown() {
    let mut rig = Rig::running(|config| config.is_checkpointed = false);
    assert_eq!(rig.take(lost()), ["stop 3s"]);
    assert_eq!(rig.executor.next_timeout(), None);
    assert_eq!(rig.take(stopped()), ["finish KILLED unacknowledged"]);
}

#[test]
fn a_first_subscription_is_tried_for_a_minute_whatever_the_checkpoint() {
    let mut rig = Rig::new(|config| config.is_checkpointed = false);
    rig.take(Input::Tick);
    loop {
        rig.take(lost());
        let words = rig.wait();
        if words != ["subscribe tasks[] updates[]"] {
            assert_eq!(words, ["stop 3s"]);
            break;
        }
    }
    assert_eq!(rig.now, FIRST_SUBSCRIPTION_LIMIT);
}

#[test]
fn an_error_of_the_agent_stops_the_container_and_is_told_at_the_end() {
    let mut rig = Rig::running(|_| {});
    assert_eq!(rig.take(Input::Error("go away".to_owned())), ["stop 3s"]);
    assert_eq!(rig.take(stopped()), ["finish KILLED unacknowledged"]);
    let Some(Effect::Finish(finished)) = rig.effects.pop() else { panic!("not finished") };
    assert_eq!(finished.error.as_deref(), Some("go away"));
}

#[test]
fn a_refused_update_is_sent_again_with_growing_pauses() {
    let mut rig = Rig::launched(|_| {});
    rig.take(started());
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let since = rig.now;
        assert!(rig.take(Input::SendFailed { reason: "503".to_owned() }).is_empty());
        assert_eq!(rig.wait(), ["send RUNNING"]);
        pauses.push((rig.now - since).as_millis());
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    assert!(rig.deliver().is_empty());
}

#[test]
fn a_terminal_update_that_nobody_acknowledges_is_waited_for_a_minute() {
    let mut rig = Rig::running(|_| {});
    rig.take(exited(0));
    rig.take(Input::Sent);
    assert_eq!(rig.wait(), ["finish FINISHED unacknowledged"]);
    assert_eq!(rig.now, REPORT_LIMIT);
}

#[test]
fn sigterm_stops_the_container_and_leaves_soon() {
    let mut rig = Rig::running(|_| {});
    assert_eq!(rig.take(Input::Terminate), ["stop 3s"]);
    assert_eq!(rig.take(stopped()), ["send KILLED"]);
    assert_eq!(rig.wait(), ["finish KILLED unacknowledged"]);
    assert_eq!(rig.now, HURRIED_REPORT_LIMIT);
}

#[test]
fn sigterm_while_reporting_to_an_absent_agent_leaves_soon() {
    let mut rig = Rig::running(|_| {});
    rig.take(lost());
    rig.take(exited(0));
    rig.take(Input::Terminate);
    while rig.executor.next_timeout().is_some() {
        rig.wait();
        rig.take(lost());
    }
    assert_eq!(rig.now, HURRIED_REPORT_LIMIT);
}

#[test]
fn a_resumed_task_is_subscribed_for_and_reported_without_a_launch() {
    let mut rig = Rig::new(|config| config.resumed_task = Some(task("t")));
    assert_eq!(rig.take(Input::Tick), ["start", "subscribe tasks[t] updates[]"]);
    rig.take(started());
    assert_eq!(rig.take(subscribed(false)), ["send RUNNING"]);
    assert!(rig.take(launch("t")).is_empty());
    rig.deliver();
    assert_eq!(rig.take(exited(0)), ["send FINISHED"]);
    assert_eq!(rig.deliver(), ["finish FINISHED"]);
}

/// Launched and acknowledged, its container running; what that gave.
fn run(rig: &mut Rig, task: TaskInfo) -> Vec<String> {
    rig.take(Input::Tick);
    rig.take(subscribed(false));
    rig.take(Input::Launch(Box::new(task)));
    rig.deliver();
    rig.take(started())
}

#[test]
fn health_is_told_with_every_change_and_too_many_failures_kill_the_task() {
    let mut rig = Rig::checkpointed();
    assert_eq!(run(&mut rig, checked(task("t"))), ["probe Health", "send RUNNING"]);
    assert_eq!(rig.last_sent().healthy, None);
    rig.deliver();
    assert_eq!(rig.take(probed(CheckKind::Health, 0)), ["send RUNNING"]);
    let status = rig.last_sent();
    assert_eq!((status.healthy, status.reason()), (Some(true), Reason::TaskHealthCheckStatusUpdated));
    assert!(status.container_status.is_some() && status.data.is_none());
    rig.deliver();
    assert_eq!(rig.after(Duration::from_secs(1)), ["probe Health"]);
    assert_eq!(rig.take(probed(CheckKind::Health, 1)), ["send RUNNING"]);
    assert_eq!(rig.last_sent().healthy, Some(false));
    rig.deliver();
    assert_eq!(rig.wait(), ["probe Health"]);
    assert_eq!(rig.take(probed(CheckKind::Health, 1)), ["stop 3s", "send RUNNING"]);
    rig.deliver();
    assert_eq!(rig.take(stopped()), ["send KILLED"]);
    let status = rig.last_sent();
    let why =
        "Health check failed 2 times in a row, because its command exited with 1: Container exited with status 143";
    assert_eq!((status.healthy, status.message.as_deref()), (Some(false), Some(why)));
    assert_eq!(rig.deliver(), ["finish KILLED"]);
}

#[test]
fn an_unhealthy_task_gets_its_own_grace_and_no_probe_follows_a_kill() {
    let mut rig = Rig::checkpointed();
    let own = Some(policy(Duration::from_secs(9)));
    run(&mut rig, checked(TaskInfo { kill_policy: own, ..task("t") }));
    rig.deliver();
    rig.take(probed(CheckKind::Health, 1));
    rig.deliver();
    rig.wait();
    assert_eq!(rig.take(probed(CheckKind::Health, 1)), ["stop 9s", "send RUNNING"]);
    rig.deliver();

    let mut rig = Rig::checkpointed();
    run(&mut rig, checked(task("t")));
    rig.deliver();
    rig.take(kill(None));
    assert!(rig.take(probed(CheckKind::Health, 1)).is_empty(), "its end is under way");
    assert!(rig.after(Duration::from_secs(60)).is_empty());
    rig.take(stopped());
    assert_eq!(rig.last_sent().healthy, None, "health was not the cause");
}

#[test]
fn a_task_that_ends_by_itself_before_it_is_killed_for_its_health_keeps_its_result() {
    let mut rig = Rig::checkpointed();
    run(&mut rig, checked(task("t")));
    rig.deliver();
    rig.take(probed(CheckKind::Health, 1));
    rig.deliver();
    rig.wait();
    rig.take(probed(CheckKind::Health, 1));
    rig.deliver();
    assert_eq!(rig.take(exited(0)), ["send FINISHED"]);
    assert_eq!(rig.last_sent().healthy, None);
}

#[test]
fn a_check_is_in_every_status_and_its_changes_are_told_beside_health() {
    let command = mesos::CommandInfo { value: Some("true".to_owned()), ..mesos::CommandInfo::default() };
    let check = mesos::CheckInfo {
        r#type: Some(mesos::check_info::Type::Command as i32),
        command: Some(mesos::check_info::Command { command }),
        delay_seconds: Some(0.0),
        ..mesos::CheckInfo::default()
    };
    let mut rig = Rig::checkpointed();
    let words = run(&mut rig, checked(TaskInfo { check: Some(check.into()), ..task("t") }));
    assert_eq!(words, ["probe Health", "probe Status", "send RUNNING"]);
    let code = |status: &TaskStatus| status.check_status.unwrap().command.unwrap().exit_code;
    assert_eq!(code(&rig.last_sent()), None);
    rig.deliver();
    rig.take(probed(CheckKind::Health, 0));
    rig.deliver();
    assert_eq!(rig.take(probed(CheckKind::Status, 4)), ["send RUNNING"]);
    let status = rig.last_sent();
    assert_eq!((code(&status), status.healthy), (Some(4), Some(true)));
    assert_eq!(status.reason(), Reason::TaskCheckStatusUpdated);
    rig.deliver();
    rig.take(exited(0));
    assert_eq!(code(&rig.last_sent()), Some(4));
}

/// What the random test may do next; the rest of the world answers as it must.
#[derive(Debug, Clone)]
enum Step {
    Subscribed(bool),
    Disconnected,
    Launch(bool),
    Kill(u8),
    Acknowledge(prop::sample::Index),
    AcknowledgeUnknown,
    Shutdown,
    Error,
    Sent,
    SendFailed,
    Started,
    Ended(i32),
    Probed(i32),
    Terminate,
    Wait,
    Pause(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<bool>().prop_map(Step::Subscribed),
        2 => Just(Step::Disconnected),
        2 => any::<bool>().prop_map(Step::Launch),
        1 => any::<u8>().prop_map(Step::Kill),
        4 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
        1 => Just(Step::AcknowledgeUnknown),
        1 => Just(Step::Shutdown),
        1 => Just(Step::Error),
        4 => Just(Step::Sent),
        1 => Just(Step::SendFailed),
        2 => Just(Step::Started),
        1 => (0..256).prop_map(Step::Ended),
        3 => (0..2).prop_map(Step::Probed),
        1 => Just(Step::Terminate),
        3 => Just(Step::Wait),
        2 => any::<u16>().prop_map(Step::Pause),
    ]
}

/// The agent and the owner as far as they are bound: answers only to what was asked, one end per container.
#[derive(Default)]
struct World {
    is_subscribing: bool,
    is_subscribed: bool,
    is_sending: bool,
    has_task: bool,
    was_told_to_start: bool,
    was_told_to_stop: bool,
    has_started: bool,
    has_ended: bool,
    is_finished: bool,
    /// The task has a health check.
    is_checked: bool,
    probing: Option<CheckKind>,
    /// In the order in which the agent gets them, by subscription or by call; repeats left out.
    seen: Vec<TaskStatus>,
}

impl World {
    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            assert!(!self.is_finished, "an effect after the end: {effect:?}");
            match effect {
                Effect::Subscribe(call) => {
                    (self.is_subscribing, self.is_subscribed, self.is_sending) = (true, false, false);
                    for update in call.subscribe.unwrap().unacknowledged_updates {
                        self.see(update.status);
                    }
                }
                Effect::Send(call) => {
                    assert!(self.is_subscribed && !self.is_sending, "a call nobody can take");
                    self.is_sending = true;
                    self.see(call.update.unwrap().status);
                }
                Effect::Task(task) => {
                    assert!(!self.has_task && !self.was_told_to_start, "a second task for the owner: {task:?}");
                    self.has_task = true;
                }
                Effect::Container(Command::Start) => {
                    assert!(!self.was_told_to_start && !self.was_told_to_stop);
                    self.was_told_to_start = true;
                }
                Effect::Container(Command::Stop { .. }) => self.was_told_to_stop = true,
                Effect::Container(Command::Signal(_) | Command::Stdin(_)) => panic!("nobody signals and sends here"),
                Effect::Probe(probe) => {
                    assert!(self.has_started && self.probing.is_none(), "a second probe of its kind: {probe:?}");
                    self.probing = Some(probe.kind);
                }
                Effect::Finish(_) => self.is_finished = true,
            }
        }
    }

    fn see(&mut self, status: TaskStatus) {
        if !self.seen.contains(&status) {
            self.seen.push(status);
        }
    }

    /// What may happen now, for `step`.
    fn input(&mut self, step: &Step) -> Option<Input> {
        match step {
            Step::Subscribed(knows_killing) if std::mem::take(&mut self.is_subscribing) => {
                self.is_subscribed = true;
                Some(subscribed(*knows_killing))
            }
            Step::Disconnected if self.is_subscribing || self.is_subscribed => {
                (self.is_subscribing, self.is_subscribed, self.is_sending) = (false, false, false);
                Some(lost())
            }
            Step::Launch(is_ours) if self.is_subscribed => {
                let task = task(if *is_ours { "t" } else { "u" });
                Some(Input::Launch(Box::new(if self.is_checked { checked(task) } else { task })))
            }
            Step::Kill(seconds) => Some(kill((*seconds > 9).then_some(Duration::from_secs(*seconds as u64)))),
            Step::Acknowledge(index) if self.is_subscribed && !self.seen.is_empty() => {
                Some(acknowledged(index.get(&self.seen)))
            }
            Step::AcknowledgeUnknown => Some(Input::Acknowledged { task_id: "t".to_owned(), uuid: vec![0; 16] }),
            Step::Shutdown => Some(Input::Shutdown),
            Step::Error => Some(Input::Error("refused".to_owned())),
            Step::Sent if std::mem::take(&mut self.is_sending) => Some(Input::Sent),
            Step::SendFailed if std::mem::take(&mut self.is_sending) => {
                Some(Input::SendFailed { reason: "503".to_owned() })
            }
            Step::Started if self.was_told_to_start && !self.has_ended && !self.has_started => {
                self.has_started = true;
                Some(started())
            }
            Step::Ended(code) if !self.has_ended => {
                self.has_ended = true;
                let message = "no image".to_owned();
                let cause =
                    if self.has_started { Cause::Exited { code: *code } } else { Cause::NotStarted { message } };
                Some(ended(cause, self.was_told_to_stop))
            }
            Step::Probed(code) => {
                let kind = self.probing.take()?;
                Some(Input::Probed { kind, finding: Ok(Found::ExitCode(*code)) })
            }
            Step::Terminate => Some(Input::Terminate),
            _ => None,
        }
    }
}

fn is_terminal(status: &TaskStatus) -> bool {
    use TaskState::{TaskFailed, TaskFinished, TaskKilled};
    [TaskFinished, TaskFailed, TaskKilled].contains(&status.state())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_task_has_one_end_nothing_after_it_and_the_executor_leaves(
        steps in prop::collection::vec(step(), 0..60),
        is_checkpointed: bool,
        is_resumed: bool,
        is_checked: bool,
        seed: u64,
    ) {
        let mut rig = Rig::new(|config| {
            (config.is_checkpointed, config.seed) = (is_checkpointed, seed);
            config.resumed_task = is_resumed.then(|| if is_checked { checked(task("t")) } else { task("t") });
        });
        let mut world = World { is_checked, ..World::default() };
        let tick = rig.executor.handle(at(rig.now), Input::Tick);
        world.perform(tick);
        // After the random part the world does its duty: the container ends, the agent answers, time passes.
        let duties = [Step::Subscribed(true), Step::Shutdown, Step::Started, Step::Ended(0), Step::Sent, Step::Wait];
        for step in steps.iter().chain(duties.iter().cycle().take(200)) {
            if world.is_finished {
                break;
            }
            let input = match step {
                Step::Wait => rig.executor.next_timeout().map(|timeout| {
                    rig.now = rig.now.max(timeout);
                    Input::Tick
                }),
                Step::Pause(milliseconds) => {
                    rig.now += Duration::from_millis(u64::from(*milliseconds));
                    Some(Input::Tick)
                }
                step => world.input(step),
            };
            if let Some(input) = input {
                let effects = rig.executor.handle(at(rig.now), input);
                world.perform(effects);
            }
        }
        prop_assert!(world.is_finished, "the executor stays: {:?}", rig.executor);
        prop_assert_eq!(rig.executor.next_timeout(), None);
        for task_id in ["t", "u"] {
            let of_task: Vec<_> = world.seen.iter().filter(|status| status.task_id.value == task_id).collect();
            let ends = of_task.iter().filter(|status| is_terminal(status)).count();
            prop_assert!(ends <= 1, "{ends} ends: {of_task:?}");
            prop_assert!(ends == 0 || is_terminal(of_task[of_task.len() - 1]), "an update after the end: {of_task:?}");
            let rank = |status: &TaskStatus| match status.state() {
                TaskState::TaskStarting => 0,
                TaskState::TaskRunning => 1,
                TaskState::TaskKilling => 2,
                _ => 3,
            };
            let is_in_order = |pair: &[&TaskStatus]| {
                let is_health = pair[1].healthy.is_some() && rank(pair[1]) == 1;
                rank(pair[0]) < rank(pair[1]) || (is_health && rank(pair[0]) == 1)
            };
            prop_assert!(of_task.windows(2).all(is_in_order), "out of order: {of_task:?}");
        }
        let uuids: std::collections::HashSet<_> = world.seen.iter().map(|status| status.uuid.clone()).collect();
        prop_assert_eq!(uuids.len(), world.seen.len());
    }
}

fn output_again() -> Input {
    Input::Container(Event::OutputAgain)
}

const NEWS: &str = r#"tell {"version":1,"task_id":"t","news":"output_again"}"#;

#[test]
fn output_after_a_silence_is_told_at_once_and_once_a_second_at_most() {
    let mut rig = Rig::running(|_| {});
    assert_eq!(rig.take(output_again()), [NEWS]);
    assert_eq!(rig.take(Input::Sent), [] as [&str; 0]);
    assert_eq!(rig.take(output_again()), [] as [&str; 0]);
    rig.now += Duration::from_millis(999);
    assert_eq!(rig.take(output_again()), [] as [&str; 0]);
    rig.now += Duration::from_millis(1);
    assert_eq!(rig.take(output_again()), [NEWS]);
}

#[test]
fn news_wait_for_the_call_under_way_and_updates_for_the_news() {
    let mut rig = Rig::launched(|_| {});
    assert_eq!(rig.take(started()), ["send RUNNING"]);
    assert_eq!(rig.take(output_again()), [] as [&str; 0]);
    assert_eq!(rig.take(Input::Sent), [NEWS]);
    assert_eq!(rig.take(ended(Cause::Exited { code: 0 }, false)), [] as [&str; 0]);
    assert_eq!(rig.take(Input::Sent), ["send FINISHED"]);
}

#[test]
fn news_that_the_agent_does_not_take_are_not_repeated() {
    let mut rig = Rig::running(|_| {});
    rig.take(output_again());
    assert_eq!(rig.take(Input::SendFailed { reason: "501".to_owned() }), [] as [&str; 0]);
    assert_eq!(rig.executor.next_timeout(), None);
    assert_eq!(rig.take(ended(Cause::Exited { code: 0 }, false)), ["send FINISHED"]);
}

#[test]
fn news_are_told_to_nobody_while_the_agent_is_away_or_when_the_end_is_told() {
    let mut rig = Rig::running(|_| {});
    rig.take(Input::Disconnected { reason: "gone".to_owned() });
    assert_eq!(rig.take(output_again()), [] as [&str; 0]);
    rig.wait();
    assert_eq!(rig.take(subscribed(false)), [] as [&str; 0]);

    let mut rig = Rig::launched(|_| {});
    rig.take(started());
    rig.take(output_again());
    rig.take(ended(Cause::Exited { code: 0 }, false));
    assert_eq!(rig.take(Input::Sent), ["send FINISHED"]);
    assert_eq!(rig.take(output_again()), [] as [&str; 0]);
}

fn order(task_id: &str, number: i32) -> Input {
    Input::Message(LauncherMessage::new(task_id.to_owned(), LauncherOrder::Signal(number)).to_bytes())
}

#[test]
fn a_signal_of_the_launcher_reaches_the_running_task_once_and_is_confirmed() {
    let mut rig = Rig::running(|_| {});
    let confirmed = r#"tell {"version":1,"task_id":"t","news":{"signaled":10}}"#;
    assert_eq!(rig.take(order("t", 10)), ["signal 10", confirmed]);
    assert_eq!(rig.take(order("t", 12)), ["signal 12"], "one call at a time");
    assert_eq!(rig.take(Input::Sent), [r#"tell {"version":1,"task_id":"t","news":{"signaled":12}}"#]);
    assert_eq!(rig.take(Input::Sent), [] as [&str; 0]);
    assert_eq!(rig.take(order("t", 10)), ["signal 10", confirmed]);
    assert_eq!(rig.take(Input::SendFailed { reason: "503".to_owned() }), [] as [&str; 0], "not at once");
    assert_eq!(rig.wait(), [confirmed], "what was refused is said again");
    rig.take(Input::Disconnected { reason: "gone".to_owned() });
    rig.wait();
    assert_eq!(rig.take(subscribed(false)), [confirmed], "and what was lost on the way");
    assert_eq!(rig.take(Input::Sent), [] as [&str; 0]);
    for foreign in [order("u", 10), Input::Message(b"\xff".to_vec()), Input::Message(Vec::new())] {
        assert_eq!(rig.take(foreign), [] as [&str; 0]);
    }
    assert_eq!(Rig::launched(|_| {}).take(order("t", 10)), [] as [&str; 0], "it does not run yet");
}

fn input(offset: u64, bytes: &[u8], is_last: bool) -> Input {
    let order = LauncherOrder::Stdin { offset, is_last };
    Input::Message(
        LauncherMessage { payload: bytes.to_vec(), ..LauncherMessage::new("t".to_owned(), order) }.to_bytes(),
    )
}

fn reader() -> TaskInfo {
    let label = mesos::Label { key: record::STDIN_LABEL.to_owned(), value: None };
    TaskInfo {
        task_id: mesos::TaskId { value: "t".to_owned() },
        labels: Some(mesos::Labels { labels: vec![label] }),
        ..TaskInfo::default()
    }
}

fn progress(received: u64, limit: u64, state: &str) -> String {
    let it = format!(r#"{{"received":{received},"limit":{limit},"state":"{state}"}}"#);
    format!(r#"tell {{"version":1,"task_id":"t","news":{{"stdin":{it}}}}}"#)
}

#[test]
fn input_reaches_the_running_task_in_order_and_is_answered() {
    let mut rig = Rig::new(|_| {});
    rig.take(Input::Tick);
    rig.take(subscribed(false));
    rig.take(Input::Launch(Box::new(reader())));
    rig.deliver();
    assert_eq!(rig.take(input(0, b"", false)), [] as [&str; 0], "it does not run yet");
    rig.take(started());
    rig.deliver();
    let window = 1 << 20;
    assert_eq!(rig.take(input(0, b"", false)), [progress(0, window, "open")]);
    assert_eq!(rig.take(input(2, b"c", true)), [] as [&str; 0], "one call at a time");
    assert_eq!(rig.take(input(0, b"ab", false)), ["input ab", "input c", "input ends"]);
    assert_eq!(rig.take(Input::Sent), [progress(4, window, "open")]);
    rig.take(Input::Sent);
    assert_eq!(rig.take(Input::Container(Event::StdinTaken(3))), [] as [&str; 0]);
    assert_eq!(rig.take(Input::Container(Event::StdinOver)), [progress(4, window + 3, "complete")]);
    rig.take(Input::Sent);
    rig.take(ended(Cause::Exited { code: 0 }, false));
    let data = rig.last_sent().data.unwrap();
    assert_eq!(TaskRecord::parse(&data).unwrap().stdin_bytes, Some(3));
}

#[test]
fn a_task_without_input_and_one_of_a_dead_executor_take_none() {
    let mut rig = Rig::running(|_| {});
    assert_eq!(rig.take(input(0, b"ab", false)), [progress(0, 1 << 20, "closed")]);
    let mut rig = Rig::new(|config| config.resumed_task = Some(reader()));
    rig.take(Input::Tick);
    let lost = [progress(0, 1 << 20, "lost")];
    assert_eq!(rig.take(subscribed(false)), lost, "unasked: the launcher may have nothing to send");
    assert_eq!(rig.take(Input::SendFailed { reason: "503".to_owned() }), [] as [&str; 0]);
    assert_eq!(rig.wait(), lost, "and again when it was refused");
    rig.take(Input::Sent);
    rig.take(started());
    rig.deliver();
    assert_eq!(rig.take(input(0, b"ab", false)), lost);
}
