#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::docker::Labelled;
use crate::lifecycle::{Cause, Ending};
use crate::operator::survey::Remembered;
use crate::store::{Ended, State, StateDirectory};

const HOUR: Duration = Duration::from_secs(3600);

fn at_engine(state: &str, age: Duration) -> Labelled {
    Labelled {
        container_id: "c1".into(),
        work_directory: "/w".into(),
        docker_id: "d1".into(),
        name: "mesos-c1".into(),
        image: "web".into(),
        state: state.into(),
        status: String::new(),
        created: now() - age,
    }
}

fn remembered(sandbox: &Path, owner: Option<u32>, is_over: bool, age: Duration) -> Remembered {
    let ending = Ending {
        cause: Cause::Exited { code: 0 },
        was_stopped: false,
        started: None,
        finished_at: 0.0,
        stdout_bytes: None,
        stderr_bytes: None,
        lost_bytes: None,
    };
    Remembered {
        directory: StateDirectory::at(Path::new("/w/c1")),
        launched: now() - age,
        launch: Some(proto::ecp::Launch { directory: sandbox.to_str().map(str::to_owned), ..Default::default() }),
        state: State::default(),
        limits: None,
        ended: is_over.then_some(Ended { version: State::VERSION, ending }),
        owner,
        damage: Vec::new(),
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + 1_000_000 * HOUR
}

fn is_removed(remembered: Option<Remembered>, at_engine: Option<Labelled>, is_engine_there: bool) -> bool {
    let container = Container { id: "c1".into(), remembered, at_engine };
    matches!(decide(&container, is_engine_there, now(), HOUR), Decision::Remove { .. })
}

#[test]
fn only_what_nobody_can_ask_for_goes() {
    let here = tempfile::tempdir().unwrap();
    let gone = here.path().join("gone");
    let here = here.path();
    let day = 24 * HOUR;
    let running = || Some(at_engine("running", day));
    let exited = || Some(at_engine("exited", day));
    // A living supervisor keeps everything.
    assert!(!is_removed(Some(remembered(&gone, Some(7), false, day)), None, true));
    assert!(!is_removed(Some(remembered(&gone, Some(7), true, day)), exited(), true));
    // It has ended: as long as there is a sandbox the slave may ask.
    assert!(!is_removed(Some(remembered(here, None, true, day)), None, true));
    assert!(is_removed(Some(remembered(&gone, None, true, day)), None, true));
    // Its supervisor was killed.
    assert!(!is_removed(Some(remembered(here, None, false, day)), running(), true));
    assert!(!is_removed(Some(remembered(here, None, false, day)), exited(), true));
    assert!(!is_removed(Some(remembered(here, None, false, day)), None, true));
    assert!(is_removed(Some(remembered(&gone, None, false, day)), exited(), true));
    assert!(is_removed(Some(remembered(&gone, None, false, day)), None, true));
    assert!(!is_removed(Some(remembered(&gone, None, false, day)), None, false));
    // Nobody remembers it.
    assert!(!is_removed(None, running(), true));
    assert!(is_removed(None, exited(), true));
}

#[test]
fn what_is_younger_than_the_grace_stays() {
    let here = tempfile::tempdir().unwrap();
    let young = HOUR - Duration::from_secs(1);
    let gone = here.path().join("gone");
    assert!(!is_removed(Some(remembered(&gone, None, false, young)), None, true));
    assert!(is_removed(Some(remembered(&gone, None, false, HOUR)), None, true));
    assert!(!is_removed(None, Some(at_engine("exited", young)), true));
    assert!(matches!(decide_leftover(here.path(), SystemTime::now(), HOUR), Decision::Keep { .. }));
    assert!(matches!(decide_leftover(here.path(), SystemTime::now() + HOUR, HOUR), Decision::Remove { .. }));
}
