//! What a task does with every input, in every state.

use proto::mesos::task_status::Reason;

use super::super::fixture::{from_master, s, status, task};
use super::*;

fn placement() -> Placement {
    Placement {
        wire_id: "t".to_owned(),
        agent_id: "a".to_owned(),
        hostname: "a.example".to_owned(),
        offer_id: "o".to_owned(),
        subscription: 1,
        doubt: Doubt::None,
        is_heard: false,
    }
}

fn entry(state: &str) -> Entry {
    let mut entry = Entry::new(Box::new(task("t")), s(0), 0);
    let reach = |entry: &mut Entry, states: &[TaskState]| {
        entry.accepted(s(0), placement());
        for state in states {
            entry.status(s(0), &status("t", *state), Proof::Nothing);
        }
    };
    match state {
        "waiting" => {}
        "launching" => reach(&mut entry, &[]),
        "staging" => {
            reach(&mut entry, &[]);
            entry.status(s(0), &from_master("t", TaskState::TaskStaging, Reason::Reconciliation), Proof::Nothing);
        }
        "starting" => reach(&mut entry, &[TaskState::TaskStarting]),
        "running" => reach(&mut entry, &[TaskState::TaskRunning]),
        "killing" => {
            reach(&mut entry, &[TaskState::TaskRunning]);
            entry.interrupt(s(0), 2, None);
        }
        "lost" => {
            reach(&mut entry, &[TaskState::TaskRunning]);
            entry.unreachable(s(0));
        }
        "ended" => {
            reach(&mut entry, &[]);
            entry.end();
        }
        other => panic!("no state {other}"),
    }
    assert_eq!(name(&entry), state);
    entry
}

fn name(entry: &Entry) -> &'static str {
    match entry.state() {
        State::Waiting { .. } => "waiting",
        State::Launching { .. } => "launching",
        State::Staging { .. } => "staging",
        State::Starting { .. } => "starting",
        State::Running { .. } => "running",
        State::Killing { .. } => "killing",
        State::Lost { .. } => "lost",
        State::Ended => "ended",
    }
}

/// `ignored`, `refused`, what follows, or else the state it is in.
fn result(entry: &Entry, step: &Step) -> &'static str {
    match step {
        Step::Ignored(_) => "ignored",
        Step::Refused(_) => "refused",
        Step::Applied(applied) => match &applied.then {
            Then::Nothing => name(entry),
            Then::Ask => "ask",
            Then::KeepAsking => "lost",
            Then::AwaitAgent => "await",
            Then::Relaunch { .. } => "again",
            Then::Kill { .. } => "kill",
            Then::EndWaiting => "end",
            Then::End { .. } => "end",
        },
    }
}

/// What each update does in each state. `answer-`: an answer to RECONCILE; `?`: one that proves nothing, `~`: that it is
/// over, `!`: that it never ran.
const UPDATES: &str = "
    .               waiting   launching  staging   starting  running   killing   lost      ended
    STAGING         refused   staging    staging   ignored   ignored   ignored   staging   ignored
    STARTING        refused   starting   starting  starting  ignored   ignored   starting  ignored
    RUNNING         refused   running    running   running   running   killing   running   ignored
    KILLING         refused   running    running   running   running   killing   running   ignored
    FINISHED        refused   end        end       end       end       end       end       ignored
    FAILED          refused   end        end       end       end       end       end       ignored
    KILLED          refused   end        end       end       end       end       end       ignored
    answer-failed   refused   lost       lost      lost      lost      end       lost      ignored
    answer-finished refused   end        end       end       end       end       end       ignored
    ERROR           refused   end        end       end       end       end       end       ignored
    LOST            refused   end        end       end       end       end       end       ignored
    invalid-offers  refused   ask        ask       ignored   ignored   ignored   ignored   ignored
    DROPPED         refused   again      again     end       end       end       end       ignored
    at-the-door     refused   again      again     end       end       end       end       ignored
    agent-removed   refused   end        end       end       end       end       end       ignored
    answer-unknown? refused   await      await     await     await     await     await     ignored
    answer-unknown~ refused   await      await     end       end       end       end       ignored
    answer-unknown! refused   again      again     end       end       end       end       ignored
    answer-lost?    refused   await      await     await     await     await     await     ignored
    answer-lost~    refused   await      await     end       end       end       end       ignored
    answer-lost!    refused   again      again     end       end       end       end       ignored
    answer-gone     refused   again      again     end       end       end       end       ignored
    GONE            refused   end        end       end       end       end       end       ignored
    agent-gone      refused   end        end       end       end       end       end       ignored
    GONE_BY_OP      refused   end        end       end       end       end       end       ignored
    UNREACHABLE     refused   lost       lost      lost      lost      end       lost      ignored
";

fn update(name: &str) -> (TaskStatus, Proof) {
    let proof = match name.chars().last() {
        Some('!') => Proof::NeverRan,
        Some('~') => Proof::Over,
        _ => Proof::Nothing,
    };
    let own = |state| status("t", state);
    let master = |state, reason| from_master("t", state, reason);
    let status = match name.trim_end_matches(['!', '~', '?']) {
        "STAGING" => master(TaskState::TaskStaging, Reason::Reconciliation),
        "STARTING" => own(TaskState::TaskStarting),
        "RUNNING" => own(TaskState::TaskRunning),
        "KILLING" => own(TaskState::TaskKilling),
        "FINISHED" => own(TaskState::TaskFinished),
        "FAILED" => own(TaskState::TaskFailed),
        "KILLED" => own(TaskState::TaskKilled),
        "answer-failed" => master(TaskState::TaskFailed, Reason::Reconciliation),
        "answer-finished" => master(TaskState::TaskFinished, Reason::Reconciliation),
        "ERROR" => master(TaskState::TaskError, Reason::TaskInvalid),
        "LOST" => own(TaskState::TaskLost),
        "invalid-offers" => master(TaskState::TaskLost, Reason::InvalidOffers),
        "DROPPED" => master(TaskState::TaskDropped, Reason::AgentDisconnected),
        "at-the-door" => TaskStatus {
            message: Some("Agent disconnected".to_owned()),
            ..master(TaskState::TaskLost, Reason::AgentDisconnected)
        },
        "agent-removed" => master(TaskState::TaskLost, Reason::AgentRemoved),
        "answer-unknown" => master(TaskState::TaskUnknown, Reason::Reconciliation),
        "answer-lost" => master(TaskState::TaskLost, Reason::Reconciliation),
        "answer-gone" => master(TaskState::TaskGone, Reason::Reconciliation),
        "GONE" => own(TaskState::TaskGone),
        "agent-gone" => master(TaskState::TaskGone, Reason::AgentRemoved),
        "GONE_BY_OP" => master(TaskState::TaskGoneByOperator, Reason::AgentRemovedByOperator),
        "UNREACHABLE" => master(TaskState::TaskUnreachable, Reason::AgentRemoved),
        other => panic!("no update {other}"),
    };
    (status, proof)
}

#[test]
fn every_update_in_every_state_does_what_the_table_says() {
    let mut rows = UPDATES.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let states = rows.find(|row| !row.is_empty()).unwrap();
    for row in rows.filter(|row| !row.is_empty()) {
        for (state, expected) in states[1..].iter().zip(&row[1..]) {
            let mut entry = entry(state);
            let (status, proof) = update(row[0]);
            let step = entry.status(s(1), &status, proof);
            assert_eq!(result(&entry, &step), *expected, "{} in {state}", row[0]);
        }
    }
}

#[test]
fn every_other_input_in_every_state_does_what_the_table_says() {
    for (state, accepted, accept_failed, interrupt, adopt) in [
        ("waiting", "launching", "ignored", "end", "launching"),
        ("launching", "refused", "ask", "kill", "refused"),
        ("staging", "refused", "ignored", "kill", "refused"),
        ("starting", "refused", "ignored", "kill", "refused"),
        ("running", "refused", "ignored", "kill", "refused"),
        ("killing", "refused", "ask", "kill", "refused"),
        ("lost", "refused", "ask", "kill", "refused"),
        ("ended", "refused", "ignored", "ignored", "refused"),
    ] {
        let check = |input: &str, apply: &dyn Fn(&mut Entry) -> Step, expected: &str| {
            let mut entry = entry(state);
            let step = apply(&mut entry);
            assert_eq!(result(&entry, &step), expected, "{input} in {state}");
        };
        check("accepted", &|entry| entry.accepted(s(1), placement()), accepted);
        check("accept_failed", &Entry::accept_failed, accept_failed);
        check("interrupt", &|entry| entry.interrupt(s(1), 2, None), interrupt);
        check("adopt", &|entry| entry.adopt(placement()), adopt);
    }
}

#[test]
fn nothing_is_due_before_its_time() {
    for state in ["waiting", "launching", "staging", "starting", "running", "killing", "lost", "ended"] {
        let mut entry = entry(state);
        assert_eq!(entry.tick(s(0)), Step::Ignored("nothing is due"), "{state}");
        assert!(entry.due().is_none_or(|due| due > s(0)), "{state}");
    }
}

#[test]
fn repeats_are_no_news_but_a_change_of_health_is() {
    let mut entry = entry("launching");
    let mut is_news = |state, healthy| {
        let status = TaskStatus { healthy, ..status("t", state) };
        match entry.status(s(1), &status, Proof::Nothing) {
            Step::Applied(applied) => applied.is_news,
            Step::Ignored(_) | Step::Refused(_) => false,
        }
    };
    assert!(is_news(TaskState::TaskStarting, None));
    assert!(is_news(TaskState::TaskRunning, None));
    assert!(!is_news(TaskState::TaskRunning, None));
    assert!(is_news(TaskState::TaskRunning, Some(false)));
    assert!(is_news(TaskState::TaskRunning, Some(true)));
    assert!(!is_news(TaskState::TaskStarting, None));
    assert!(is_news(TaskState::TaskFinished, None));
}

#[test]
fn silence_after_the_accept_is_asked_about_once() {
    let mut entry = entry("launching");
    assert_eq!(entry.due(), Some(LAUNCH_SILENCE));
    assert_eq!(entry.tick(LAUNCH_SILENCE), Step::applied(Then::Ask));
    assert_eq!(entry.due(), None);
}

#[test]
fn a_task_lost_with_its_agent_may_have_run() {
    let mut entry = entry("launching");
    let lost = from_master("t", TaskState::TaskLost, Reason::AgentRemoved);
    let Step::Applied(Applied { then: Then::End { outcome, is_confirmed: false }, .. }) =
        entry.status(s(11), &lost, Proof::NeverRan)
    else {
        panic!("it is over");
    };
    let Outcome::Failed(text) = outcome else { panic!("{outcome:?}") };
    assert!(text.contains("task \"t\" on a.example") && text.contains("may have run"), "{text}");
}

#[test]
fn an_answer_proves_nothing_while_the_accept_may_still_arrive() {
    let mut entry = entry("launching");
    let unknown = from_master("t", TaskState::TaskUnknown, Reason::Reconciliation);
    entry.accept_failed();
    entry.fence_failed();
    assert_eq!(entry.status(s(1), &unknown, Proof::NeverRan), Step::applied(Then::AwaitAgent));
    entry.fenced();
    let step = entry.status(s(1), &unknown, Proof::NeverRan);
    assert_eq!(result(&entry, &step), "again");
}

#[test]
fn kills_are_repeated_with_back_off_until_the_limit() {
    let mut entry = entry("killing");
    let mut times = Vec::new();
    let end = loop {
        let now = entry.due().unwrap();
        times.push(now.as_secs());
        match entry.tick(now) {
            Step::Applied(Applied { then: Then::Kill { is_new: false }, .. }) => {}
            Step::Applied(end) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(times, [2, 6, 14, 30, 40]);
    assert_eq!(end.then, Then::End { outcome: Outcome::Interrupted(2), is_confirmed: false });
    assert!(end.notice.unwrap().contains("may still run"));
}

#[test]
fn the_second_interrupt_forces_and_the_third_changes_nothing() {
    let mut entry = entry("killing");
    assert_eq!(entry.kill().unwrap().grace, s(5));
    assert_eq!(entry.interrupt(s(1), 15, None), Step::applied(Then::Kill { is_new: true }));
    assert_eq!(entry.kill().unwrap().grace, s(0));
    assert_eq!(entry.interrupt(s(1), 15, None), Step::Ignored("already forced"));
    let step = entry.tick(s(11));
    let Step::Applied(Applied { then: Then::End { outcome, .. }, .. }) = step else { panic!("{step:?}") };
    assert_eq!(outcome, Outcome::Interrupted(2));
}

#[test]
fn a_kill_decides_the_outcome_whatever_the_task_says() {
    for state in [TaskState::TaskFinished, TaskState::TaskFailed, TaskState::TaskKilled, TaskState::TaskLost] {
        let mut entry = entry("killing");
        let step = entry.status(s(1), &status("t", state), Proof::Nothing);
        let Step::Applied(Applied { then: Then::End { outcome, .. }, .. }) = step else { panic!("{step:?}") };
        assert_eq!(outcome, Outcome::Interrupted(2), "{state:?}");
    }
}

#[test]
fn the_run_timeout_counts_from_the_first_running_also_while_lost() {
    let timeout = |state| {
        let mut task = task("t");
        task.run_timeout = Some(s(10));
        let mut entry = Entry::new(Box::new(task), s(0), 0);
        entry.accepted(s(0), placement());
        assert_ne!(entry.due(), Some(s(10)));
        entry.status(s(3), &status("t", TaskState::TaskRunning), Proof::Nothing);
        entry.status(s(4), &TaskStatus { healthy: Some(true), ..status("t", state) }, Proof::Nothing);
        assert_eq!(entry.due(), Some(s(13)), "{state:?}");
        assert_eq!(entry.tick(s(13)), Step::applied(Then::Kill { is_new: true }));
        let step = entry.status(s(14), &status("t", TaskState::TaskKilled), Proof::Nothing);
        let Step::Applied(Applied { then: Then::End { outcome, .. }, .. }) = step else { panic!("{step:?}") };
        let text = "task \"t\" timed out after 10s; allow more with --timeout";
        assert_eq!(outcome, Outcome::TimedOut(text.to_owned()));
    };
    timeout(TaskState::TaskRunning);
    timeout(TaskState::TaskUnreachable);
}

#[test]
fn a_lost_task_ends_after_a_limit_and_says_that_it_may_have_run() {
    let mut entry = entry("lost");
    let step = entry.tick(LOST_LIMIT);
    let Step::Applied(Applied { then: Then::End { outcome: Outcome::Failed(text), .. }, .. }) = step else {
        panic!("{step:?}")
    };
    assert!(text.contains("did not come back within 1200s; the task may have run"), "{text}");
}

#[test]
fn an_end_that_only_the_master_knows_waits_for_the_code() {
    let mut entry = entry("running");
    let answer = from_master("t", TaskState::TaskFailed, Reason::Reconciliation);
    assert_eq!(entry.status(s(1), &answer, Proof::NeverRan), Step::applied(Then::KeepAsking));
    let own =
        TaskStatus { message: Some("Command exited with status 3".to_owned()), ..status("t", TaskState::TaskFailed) };
    let step = entry.status(s(10), &own, Proof::NeverRan);
    let Step::Applied(Applied { then: Then::End { outcome, is_confirmed: true }, .. }) = step else {
        panic!("{step:?}")
    };
    assert_eq!(outcome, Outcome::Exited(3));
}

#[test]
fn what_the_master_knows_to_have_ended_is_never_launched_again() {
    let mut entry = entry("launching");
    entry.status(s(1), &from_master("t", TaskState::TaskFailed, Reason::Reconciliation), Proof::NeverRan);
    let step = entry.status(s(2), &from_master("t", TaskState::TaskLost, Reason::Reconciliation), Proof::NeverRan);
    assert_eq!(result(&entry, &step), "end");
}

#[test]
fn a_lost_task_that_is_heard_of_goes_on() {
    let mut entry = entry("lost");
    let step = entry.status(s(100), &status("t", TaskState::TaskRunning), Proof::Nothing);
    let Step::Applied(Applied { is_news: true, notice: Some(notice), then: Then::Nothing }) = step else {
        panic!("{step:?}")
    };
    assert_eq!(notice, "task \"t\" is back");
    assert_eq!(name(&entry), "running");
}
