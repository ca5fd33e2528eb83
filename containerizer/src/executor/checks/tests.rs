//! Checks under virtual time: what is tried when, and what is made of it.

#![allow(clippy::unwrap_used, reason = "tests")]

use proto::mesos::environment::Variable;
use proto::mesos::health_check::{HttpCheckInfo, TcpCheckInfo};

use super::*;

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn command(value: &str) -> CommandInfo {
    CommandInfo { value: Some(value.to_owned()), ..CommandInfo::default() }
}

fn healthy_if(check: HealthCheck) -> Checks {
    let mut checks = Checks::new(&TaskInfo { health_check: Some(check.into()), ..TaskInfo::default() });
    checks.start(at(100));
    checks
}

fn watched_by(check: CheckInfo) -> Checks {
    let mut checks = Checks::new(&TaskInfo { check: Some(check.into()), ..TaskInfo::default() });
    checks.start(at(100));
    checks
}

/// A health check by command with Mesos' own times: delay 15, interval 10, grace 10 seconds, 3 failures.
fn usual() -> HealthCheck {
    HealthCheck { command: Some(command("true")), ..HealthCheck::default() }
}

/// Waits for the next try, and answers it; what the framework is told.
fn next(checks: &mut Checks, finding: Finding) -> (Duration, Option<Verdict>) {
    let now = checks.next_timeout().unwrap();
    let probes = checks.take_due(now);
    assert_eq!(probes.len(), 1);
    (now, checks.found(now, probes[0].kind, &finding))
}

fn exited(code: i32) -> Finding {
    Ok(Found::ExitCode(code))
}

fn unhealthy(why: &str, is_fatal: bool) -> Option<Verdict> {
    Some(Verdict::Unhealthy { why: why.to_owned(), is_fatal })
}

#[test]
fn the_first_try_comes_after_the_delay_and_each_other_one_an_interval_after_the_result() {
    let mut checks = healthy_if(usual());
    assert_eq!(checks.next_timeout(), Some(at(115)));
    assert!(checks.take_due(at(114)).is_empty());
    let probes = checks.take_due(at(115));
    assert_eq!((probes.len(), probes[0].limit), (1, Some(at(20))));
    assert_eq!(checks.next_timeout(), None, "one at a time");
    assert!(checks.take_due(at(130)).is_empty());
    assert_eq!(checks.found(at(118), CheckKind::Health, &exited(0)), Some(Verdict::Healthy));
    assert_eq!(checks.next_timeout(), Some(at(128)));
}

#[test]
fn health_is_news_once_and_each_failure_is_until_there_are_too_many() {
    let mut checks = healthy_if(usual());
    assert_eq!(next(&mut checks, exited(0)), (at(115), Some(Verdict::Healthy)));
    assert_eq!(next(&mut checks, exited(0)).1, None);
    let once = "Health check failed once, because its command exited with 1";
    assert_eq!(next(&mut checks, exited(1)).1, unhealthy(once, false));
    assert_eq!(checks.is_healthy(), Some(false));
    assert_eq!(next(&mut checks, exited(0)).1, Some(Verdict::Healthy));
    assert_eq!(next(&mut checks, exited(1)).1, unhealthy(once, false), "successes start the count anew");
    let twice = "Health check failed 2 times in a row, because its command exited with 2";
    assert_eq!(next(&mut checks, exited(2)).1, unhealthy(twice, false));
    let last = "Health check failed 3 times in a row, because there was no result within 20s";
    assert_eq!(next(&mut checks, Err("there was no result within 20s".to_owned())).1, unhealthy(last, true));
}

#[test]
fn failures_in_the_grace_period_do_not_count_before_the_first_success() {
    let check = HealthCheck { delay_seconds: Some(0.0), grace_period_seconds: Some(25.0), ..usual() };
    let mut checks = healthy_if(check.clone());
    for second in [100, 110, 120] {
        assert_eq!(next(&mut checks, exited(1)), (at(second), None));
        assert_eq!(checks.is_healthy(), None);
    }
    assert!(
        matches!(next(&mut checks, exited(1)), (now, Some(Verdict::Unhealthy { is_fatal: false, .. })) if now == at(130))
    );

    let mut checks = healthy_if(check);
    assert_eq!(next(&mut checks, exited(0)).1, Some(Verdict::Healthy));
    assert!(matches!(next(&mut checks, exited(1)).1, Some(Verdict::Unhealthy { .. })), "it has been well");

    let mut checks = healthy_if(HealthCheck { delay_seconds: Some(0.0), grace_period_seconds: Some(0.0), ..usual() });
    assert!(matches!(next(&mut checks, exited(1)).1, Some(Verdict::Unhealthy { .. })), "there is no grace");
}

#[test]
fn every_way_to_look_has_its_success_and_its_words() {
    let http = |port| HealthCheck {
        r#type: Some(health_check::Type::Http as i32),
        http: Some(HttpCheckInfo { port, path: Some("/up".to_owned()), ..HttpCheckInfo::default() }),
        ..HealthCheck::default()
    };
    let tcp = HealthCheck { tcp: Some(TcpCheckInfo { port: 81, protocol: None }), ..HealthCheck::default() };
    let table = [
        (http(80), Found::HttpStatus(200), None),
        (http(80), Found::HttpStatus(399), None),
        (http(80), Found::HttpStatus(404), Some("http://:80/up answered 404")),
        (http(80), Found::HttpStatus(199), Some("http://:80/up answered 199")),
        (tcp.clone(), Found::Listens(true), None),
        (tcp, Found::Listens(false), Some("nobody listens on port 81")),
    ];
    for (check, found, fault) in table {
        let news = next(&mut healthy_if(check), Ok(found)).1;
        match (fault, news) {
            (None, Some(Verdict::Healthy)) => {}
            (Some(fault), Some(Verdict::Unhealthy { why, .. })) => assert!(why.ends_with(fault), "{why}"),
            (fault, news) => panic!("{found:?}: expected {fault:?}, got {news:?}"),
        }
    }
}

fn attempt(check: HealthCheck) -> Attempt {
    healthy_if(check).take_due(Duration::MAX).remove(0).attempt
}

#[test]
fn what_to_look_at_is_read_from_old_and_new_messages() {
    let shell = Attempt::Command { argv: ["/bin/sh", "-c", "a b"].map(str::to_owned).to_vec(), environment: vec![] };
    assert_eq!(attempt(HealthCheck { command: Some(command("a b")), ..HealthCheck::default() }), shell);

    let variable = Variable { name: "A".to_owned(), value: Some("1".to_owned()), ..Variable::default() };
    let direct = CommandInfo {
        shell: Some(false),
        arguments: vec!["x".to_owned()],
        environment: Some(proto::mesos::Environment { variables: vec![variable] }),
        ..command("/bin/a")
    };
    let argv = ["/bin/a", "x"].map(str::to_owned).to_vec();
    let expected = Attempt::Command { argv, environment: vec![("A".to_owned(), "1".to_owned())] };
    assert_eq!(attempt(HealthCheck { command: Some(direct), ..HealthCheck::default() }), expected);

    let old = HttpCheckInfo { port: 80, ..HttpCheckInfo::default() };
    let plain = Attempt::Http { scheme: "http".to_owned(), port: 80, path: "/".to_owned(), is_ipv6: false };
    assert_eq!(attempt(HealthCheck { http: Some(old), ..HealthCheck::default() }), plain);

    let new = HttpCheckInfo {
        port: 443,
        scheme: Some("https".to_owned()),
        protocol: Some(Protocol::IPv6 as i32),
        ..HttpCheckInfo::default()
    };
    let secure = Attempt::Http { scheme: "https".to_owned(), port: 443, path: "/".to_owned(), is_ipv6: true };
    assert_eq!(attempt(HealthCheck { http: Some(new), ..HealthCheck::default() }), secure);
}

#[test]
fn a_check_that_says_too_little_fails_and_says_so() {
    let typed = |kind: health_check::Type| HealthCheck { r#type: Some(kind as i32), ..HealthCheck::default() };
    let no_port = HttpCheckInfo { port: 70_000, ..HttpCheckInfo::default() };
    let ftp = HttpCheckInfo { port: 21, scheme: Some("ftp".to_owned()), ..HttpCheckInfo::default() };
    for check in [
        HealthCheck::default(),
        typed(health_check::Type::Command),
        typed(health_check::Type::Http),
        typed(health_check::Type::Tcp),
        HealthCheck { command: Some(CommandInfo::default()), ..HealthCheck::default() },
        HealthCheck { http: Some(no_port), ..HealthCheck::default() },
        HealthCheck { http: Some(ftp), ..HealthCheck::default() },
    ] {
        assert!(matches!(attempt(check.clone()), Attempt::Impossible { .. }), "{check:?}");
    }
}

#[test]
fn a_check_tells_its_result_whenever_that_changes() {
    let check = CheckInfo {
        r#type: Some(check_info::Type::Command as i32),
        command: Some(check_info::Command { command: command("true") }),
        delay_seconds: Some(0.0),
        ..CheckInfo::default()
    };
    let mut checks = watched_by(check);
    let code = |checks: &Checks| checks.status().unwrap().command.unwrap().exit_code;
    assert_eq!((checks.status().unwrap().r#type(), code(&checks)), (check_info::Type::Command, None));
    for (finding, news, expected) in [
        (exited(1), Some(Verdict::Status), Some(1)),
        (exited(1), None, Some(1)),
        (exited(0), Some(Verdict::Status), Some(0)),
        (Err("too slow".to_owned()), Some(Verdict::Status), None),
        (Err("too slow".to_owned()), None, None),
    ] {
        assert_eq!(next(&mut checks, finding).1, news);
        assert_eq!(code(&checks), expected);
    }
    assert_eq!(checks.is_healthy(), None, "a check says nothing about health");
}

#[test]
fn checks_by_network_tell_status_and_listener() {
    let http = CheckInfo {
        r#type: Some(check_info::Type::Http as i32),
        http: Some(check_info::Http { port: 80, path: None }),
        ..CheckInfo::default()
    };
    let mut checks = watched_by(http);
    assert_eq!(next(&mut checks, Ok(Found::HttpStatus(503))).1, Some(Verdict::Status));
    assert_eq!(checks.status().unwrap().http.unwrap().status_code, Some(503));

    let kind = Some(check_info::Type::Tcp as i32);
    let tcp = CheckInfo { r#type: kind, tcp: Some(check_info::Tcp { port: 80 }), ..CheckInfo::default() };
    let mut checks = watched_by(tcp);
    assert_eq!(checks.status().unwrap().tcp.unwrap().succeeded, None);
    assert_eq!(next(&mut checks, Ok(Found::Listens(false))).1, Some(Verdict::Status));
    assert_eq!(checks.status().unwrap().tcp.unwrap().succeeded, Some(false));
}

#[test]
fn times_that_make_no_sense_do_no_harm() {
    let check = HealthCheck {
        delay_seconds: Some(-1.0),
        interval_seconds: Some(f64::INFINITY),
        timeout_seconds: Some(0.0),
        grace_period_seconds: Some(f64::NAN),
        ..usual()
    };
    let mut checks = healthy_if(check);
    assert_eq!(checks.next_timeout(), Some(at(100)));
    assert_eq!(checks.take_due(at(100))[0].limit, None);
    assert!(checks.found(at(101), CheckKind::Health, &exited(1)).is_some());
    assert_eq!(checks.next_timeout(), Some(at(101) + LONGEST));
}

#[test]
fn a_result_that_nobody_asked_for_changes_nothing() {
    let mut checks = healthy_if(usual());
    assert_eq!(checks.found(at(101), CheckKind::Health, &exited(1)), None);
    assert_eq!(checks.found(at(101), CheckKind::Status, &exited(1)), None);
    assert_eq!((checks.next_timeout(), checks.is_healthy()), (Some(at(115)), None));
    assert_eq!(Checks::default().next_timeout(), None);
}
