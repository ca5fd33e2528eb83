//! Updates that come twice, late, or out of order.

use proto::mesos::task_status::Reason;
use proto::mesos::{ExecutorId, ExecutorInfo};
use proto::scheduler::{Event, call::Type};

use super::super::Input;
use super::super::fixture::{Bench, calls, from_master, offer, s, short, status, task};
use super::*;

fn ended(effects: &[Effect]) -> Option<&Outcome> {
    effects.iter().find_map(|effect| match effect {
        Effect::Ended { outcome, .. } => Some(outcome),
        _ => None,
    })
}

fn unknown(task_id: &str) -> TaskStatus {
    from_master(task_id, TaskState::TaskLost, Reason::Reconciliation)
}

fn wire_ids(effects: &[Effect]) -> Vec<String> {
    let launches = calls(effects, Type::Accept).into_iter().flat_map(|call| call.accept.unwrap().operations);
    launches.flat_map(|op| op.launch.unwrap().task_infos).map(|info| info.task_id.value).collect()
}

fn fail(bench: &mut Bench, effects: &[Effect], kind: Type) -> Vec<Effect> {
    let call = calls(effects, kind).remove(0);
    bench.input(Input::CallFailed { call: Box::new(call), reason: "no answer".to_owned() })
}

#[test]
fn an_update_is_reported_then_acknowledged_then_followed() {
    let mut bench = Bench::launched(&[]);
    assert_eq!(short(&bench.update(status("t", TaskState::TaskRunning))), ["status", "Status", "ACKNOWLEDGE"]);
    let effects = bench.update(status("t", TaskState::TaskFinished));
    assert_eq!(short(&effects), ["status", "Status", "ACKNOWLEDGE", "ended t Exited(0)"]);
    let acknowledge = calls(&effects, Type::Acknowledge).remove(0).acknowledge.unwrap();
    assert_eq!((acknowledge.task_id.value.as_str(), acknowledge.agent_id.value.as_str()), ("t", "a"));
    assert_eq!(acknowledge.uuid, [7; 16]);
}

#[test]
fn repeats_late_ones_and_those_for_nobody_are_only_acknowledged() {
    let mut bench = Bench::launched(&[TaskState::TaskRunning]);
    for state in [TaskState::TaskRunning, TaskState::TaskStarting] {
        assert_eq!(short(&bench.update(status("t", state))), ["ACKNOWLEDGE"]);
    }
    bench.update(status("t", TaskState::TaskFinished));
    for state in [TaskState::TaskFinished, TaskState::TaskRunning] {
        assert_eq!(short(&bench.update(status("t", state))), ["ACKNOWLEDGE"]);
    }
    assert_eq!(short(&bench.update(status("nobody's", TaskState::TaskRunning))), ["ACKNOWLEDGE"]);
}

#[test]
fn what_has_no_uuid_is_not_acknowledged() {
    for uuid in [None, Some(Vec::new())] {
        let mut bench = Bench::launched(&[]);
        let effects = bench.update(TaskStatus { uuid, ..status("t", TaskState::TaskRunning) });
        assert_eq!(short(&effects), ["status", "Status"]);
    }
}

#[test]
fn the_report_has_what_displays_need() {
    use proto::mesos::{ContainerStatus, NetworkInfo, network_info::IpAddress};
    let mut bench = Bench::launched(&[]);
    let address = IpAddress { ip_address: Some("172.17.0.2".to_owned()), ..IpAddress::default() };
    let network = NetworkInfo { ip_addresses: vec![address], ..NetworkInfo::default() };
    let record = TaskRecord { version: 1, container: Some("c".to_owned()), ..TaskRecord::default() };
    let effects = bench.update(TaskStatus {
        message: Some(String::new()),
        data: Some(record.to_bytes()),
        container_status: Some(ContainerStatus { network_infos: vec![network], ..ContainerStatus::default() }),
        ..status("t", TaskState::TaskRunning)
    });
    let Effect::Update(Update::Status(report)) = &effects[1] else { panic!("{effects:?}") };
    assert_eq!((report.task_id.as_str(), report.state), ("t", TaskState::TaskRunning));
    assert_eq!((report.message.as_deref(), report.ip_address.as_deref()), (None, Some("172.17.0.2")));
    assert_eq!(report.record, Some(record));
}

#[test]
fn an_invalid_offer_is_asked_about_then_the_task_is_launched_again_under_a_new_id() {
    for state in [TaskState::TaskLost, TaskState::TaskDropped, TaskState::TaskError] {
        let mut bench = Bench::launched(&[]);
        let effects = bench.update(from_master("t", state, Reason::InvalidOffers));
        assert_eq!(short(&effects), ["DECLINE", "RECONCILE"], "{state:?}");
        assert_eq!(calls(&effects, Type::Decline)[0].decline.as_ref().unwrap().offer_ids[0].value, "o");
        assert_eq!(short(&bench.update(unknown("t"))), ["Relaunching", "REVIVE"]);
        assert_eq!(wire_ids(&bench.offers(vec![offer("p", "a", 1.0, 128.0)])), ["t.2"]);
        let effects = bench.update(status("t.2", TaskState::TaskFinished));
        assert_eq!(ended(&effects), Some(&Outcome::Exited(0)));
    }
}

#[test]
fn a_second_copy_of_the_accept_does_not_launch_twice() {
    let mut bench = Bench::launched(&[]);
    bench.update(from_master("t", TaskState::TaskLost, Reason::InvalidOffers));
    bench.update(from_master("t", TaskState::TaskStaging, Reason::Reconciliation));
    let effects = bench.update(status("t", TaskState::TaskFinished));
    assert_eq!(ended(&effects), Some(&Outcome::Exited(0)));
}

#[test]
fn a_failed_accept_is_fenced_and_asked_about_until_there_is_an_answer_that_counts() {
    let mut bench = Bench::subscribed([task("t")]);
    let accepted = bench.offers(vec![offer("o", "a", 1.0, 128.0)]);
    let asked = fail(&mut bench, &accepted, Type::Accept);
    assert_eq!(short(&asked), ["DECLINE", "RECONCILE"]);
    // The fence is not known to stand: this answer may be overtaken by the ACCEPT.
    fail(&mut bench, &asked, Type::Decline);
    assert_eq!(short(&bench.update(unknown("t"))), ["REVIVE"]);
    let again = bench.wait(s(3));
    assert!(!calls(&again, Type::Decline).is_empty() && calls(&again, Type::Reconcile).len() == 1);
    assert_eq!(short(&bench.update(unknown("t"))), ["Relaunching", "REVIVE"]);
}

#[test]
fn silence_is_asked_about() {
    let mut bench = Bench::launched(&[]);
    assert!(calls(&bench.wait(s(14)), Type::Reconcile).is_empty());
    assert_eq!(calls(&bench.wait(s(1)), Type::Reconcile).len(), 1);
    bench.update(from_master("t", TaskState::TaskStaging, Reason::Reconciliation));
    assert!(bench.wait(s(600)).is_empty(), "the master knows it");
}

#[test]
fn a_launch_heard_of_after_all_is_taken_back_while_its_task_waits() {
    for (state, is_over) in [(TaskState::TaskRunning, false), (TaskState::TaskFinished, true)] {
        let mut bench = Bench::launched(&[]);
        bench.update(from_master("t", TaskState::TaskLost, Reason::InvalidOffers));
        bench.update(unknown("t"));
        let effects = bench.update(status("t", state));
        assert!(short(&effects).contains(&"Notice".to_owned()), "{effects:?}");
        assert_eq!(ended(&effects).is_some(), is_over);
        let effects = bench.offers(vec![offer("p", "a", 1.0, 128.0)]);
        assert!(calls(&effects, Type::Accept).is_empty(), "it does not run twice");
    }
}

#[test]
fn a_launch_heard_of_after_all_is_killed_once_its_task_has_another() {
    let mut bench = Bench::launched(&[]);
    bench.update(from_master("t", TaskState::TaskLost, Reason::InvalidOffers));
    bench.update(unknown("t"));
    bench.offers(vec![offer("p", "a", 1.0, 128.0)]);
    let effects = bench.update(status("t", TaskState::TaskRunning));
    assert_eq!(short(&effects), ["KILL", "ACKNOWLEDGE"]);
    assert_eq!(calls(&effects, Type::Kill)[0].kill.as_ref().unwrap().task_id.value, "t");
    assert_eq!(short(&bench.update(status("t", TaskState::TaskKilled))), ["ACKNOWLEDGE"]);
    let effects = bench.update(status("t.2", TaskState::TaskFinished));
    assert_eq!(ended(&effects), Some(&Outcome::Exited(0)));
}

#[test]
fn a_task_given_up_is_killed_should_it_ever_be_heard_of() {
    let mut bench = Bench::launched(&[TaskState::TaskRunning]);
    let effects = bench.update(from_master("t", TaskState::TaskLost, Reason::AgentRemoved));
    assert!(matches!(ended(&effects), Some(Outcome::Failed(text)) if text.contains("may have run")), "{effects:?}");
    assert_eq!(short(&bench.update(status("t", TaskState::TaskRunning))), ["KILL", "ACKNOWLEDGE"]);
}

#[test]
fn the_failure_of_an_agent_or_executor_is_told_and_asked_about() {
    let failure = |agent: &str, executor: Option<&str>| Event {
        r#type: Some(event::Type::Failure.into()),
        failure: Some(event::Failure {
            agent_id: Some(AgentId { value: agent.to_owned() }),
            executor_id: executor.map(|value| ExecutorId { value: value.to_owned() }),
            status: executor.map(|_| 9),
        }),
        ..Event::default()
    };
    let mut custom = task("t");
    let executor_id = ExecutorId { value: "e".to_owned() };
    custom.info.executor = Some(ExecutorInfo { executor_id, ..ExecutorInfo::default() }.into());
    let mut bench = Bench::subscribed([custom]);
    bench.offers(vec![offer("o", "a", 1.0, 128.0)]);
    assert_eq!(short(&bench.event(failure("other", None))), [""; 0]);
    assert_eq!(short(&bench.event(failure("a", Some("other")))), [""; 0]);
    assert_eq!(short(&bench.event(failure("a", Some("e")))), ["Notice", "RECONCILE"]);
    assert_eq!(short(&bench.event(failure("a", None))), ["Notice", "RECONCILE"]);
}

#[test]
fn an_interrupt_ends_a_waiting_task_at_once_and_kills_a_launched_one() {
    let mut bench = Bench::subscribed([task("t")]);
    assert_eq!(short(&bench.interrupt("t")), ["ended t Interrupted(2)", "SUPPRESS"]);
    assert!(bench.interrupt("t").is_empty(), "it is over");
    for states in [&[][..], &[TaskState::TaskStarting], &[TaskState::TaskRunning]] {
        let mut bench = Bench::launched(states);
        let effects = bench.interrupt("t");
        assert_eq!(short(&effects), ["Killing", "KILL"]);
        let kill = calls(&effects, Type::Kill).remove(0).kill.unwrap();
        assert_eq!(kill.kill_policy.unwrap().grace_period.unwrap().nanoseconds, 5_000_000_000);
        let effects = bench.interrupt("t");
        assert_eq!(short(&effects), ["Killing", "KILL"]);
        let kill = calls(&effects, Type::Kill).remove(0).kill.unwrap();
        assert_eq!(kill.kill_policy.unwrap().grace_period.unwrap().nanoseconds, 0);
        let effects = bench.update(status("t", TaskState::TaskKilled));
        assert_eq!(ended(&effects), Some(&Outcome::Interrupted(2)));
    }
}

#[test]
fn an_interrupt_while_disconnected_is_sent_with_the_next_subscription() {
    let mut bench = Bench::launched(&[TaskState::TaskRunning]);
    bench.input(Input::Disconnected { reason: "reset".to_owned(), is_fatal: false });
    assert_eq!(short(&bench.interrupt("t")), ["Killing"]);
    bench.now += s(1);
    bench.input(Input::Tick);
    let effects = bench.subscribe("m1");
    assert_eq!(calls(&effects, Type::Kill).len(), 1);
}

#[test]
fn a_kill_that_nobody_answers_ends_the_task_with_a_notice() {
    let mut bench = Bench::launched(&[TaskState::TaskRunning]);
    bench.interrupt("t");
    let effects = bench.wait(s(40));
    assert_eq!(calls(&effects, Type::Kill).len(), 4);
    assert_eq!(ended(&effects), Some(&Outcome::Interrupted(2)));
    assert!(short(&effects).contains(&"Notice".to_owned()));
}

#[test]
fn a_task_over_its_time_is_killed_and_timed_out() {
    let mut task = task("t");
    task.run_timeout = Some(s(10));
    let mut bench = Bench::subscribed([task]);
    bench.offers(vec![offer("o", "a", 1.0, 128.0)]);
    bench.update(status("t", TaskState::TaskRunning));
    assert_eq!(short(&bench.wait(s(10))), ["Killing", "KILL"]);
    let effects = bench.update(status("t", TaskState::TaskKilled));
    assert!(matches!(ended(&effects), Some(Outcome::TimedOut(_))), "{effects:?}");
}

#[test]
fn an_unreachable_task_is_asked_about_until_it_returns() {
    let mut bench = Bench::launched(&[TaskState::TaskRunning]);
    let effects = bench.update(from_master("t", TaskState::TaskUnreachable, Reason::AgentRemoved));
    assert_eq!(short(&effects), ["status", "Status", "Notice"]);
    assert_eq!(calls(&bench.wait(s(62)), Type::Reconcile).len(), 5);
    let effects = bench.update(from_master("t", TaskState::TaskRunning, Reason::Reconciliation));
    assert_eq!(short(&effects), ["status", "Status", "Notice"]);
    assert!(bench.wait(s(600)).is_empty());
}

fn message(agent: &str, executor: &str, data: &[u8]) -> Event {
    let message = event::Message {
        agent_id: AgentId { value: agent.to_owned() },
        executor_id: ExecutorId { value: executor.to_owned() },
        data: data.to_vec(),
    };
    Event { r#type: Some(event::Type::Message.into()), message: Some(message), ..Event::default() }
}

fn output_again(task_id: &str) -> Vec<u8> {
    ExecutorMessage::new(task_id.to_owned(), ExecutorNews::OutputAgain).to_bytes()
}

#[test]
fn output_is_told_by_the_executor_of_the_task_and_by_nobody_else() {
    let mut bench = Bench::launched(&[TaskState::TaskRunning]);
    let again = [Effect::OutputAgain { task_id: "t".to_owned() }];
    assert_eq!(bench.event(message("a", "t", &output_again("t"))), again);
    for foreign in [
        message("b", "t", &output_again("t")),
        message("a", "other", &output_again("t")),
        message("a", "t", &output_again("other")),
        message("a", "t", b"\xff"),
        message("a", "t", b""),
        message("a", "t", br#"{"version":2,"task_id":"t","news":"output_again"}"#),
        Event { message: None, ..message("a", "t", b"") },
    ] {
        assert_eq!(bench.event(foreign), []);
    }
    bench.update(status("t", TaskState::TaskFinished));
    assert_eq!(bench.event(message("a", "t", &output_again("t"))), [], "it is over");
}

#[test]
fn output_is_told_of_the_task_as_it_was_added_also_after_a_relaunch() {
    let mut bench = Bench::launched(&[]);
    bench.update(from_master("t", TaskState::TaskLost, Reason::InvalidOffers));
    bench.update(unknown("t"));
    let effects = bench.offers(vec![offer("p", "a", 1.0, 128.0)]);
    let wire_id = wire_ids(&effects).remove(0);
    assert_ne!(wire_id, "t");
    let effects = bench.event(message("a", &wire_id, &output_again(&wire_id)));
    assert_eq!(effects, [Effect::OutputAgain { task_id: "t".to_owned() }]);
}
