//! State directories: made whole, locked, removed.

use super::*;

fn id(text: &str) -> ContainerId {
    ContainerId::parse(text).unwrap()
}

fn launch(text: &str) -> Launch {
    let container_id = proto::mesos::ContainerId { value: text.to_owned(), parent: None };
    Launch { container_id, directory: Some("/sandbox".to_owned()), ..Launch::default() }
}

fn store() -> (tempfile::TempDir, Store) {
    let work_directory = tempfile::tempdir().unwrap();
    let store = Store::new(work_directory.path());
    (work_directory, store)
}

fn made(store: &Store) -> StateDirectory {
    store.create(&id("c1"), &launch("c1"), &Environment::default()).unwrap()
}

#[test]
fn an_id_is_a_safe_name_or_none() {
    for text in ["a", "f8e079b7-00ed-44b8-aac5-7ad1c43ef53f", "A.b_c-d"] {
        assert_eq!(id(text).as_str(), text);
    }
    for text in ["", ".", "..", "-a", "_a", "a/b", "a b", "a\0", "ä", &"x".repeat(129)] {
        assert!(ContainerId::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_container_is_remembered_once() {
    let (_work_directory, store) = store();
    let directory = made(&store);
    assert_eq!(directory.launch().unwrap(), launch("c1"));
    let again = store.create(&id("c1"), &launch("c1"), &Environment::default());
    assert!(matches!(again, Err(StoreError::Exists)));
    let ids: Vec<ContainerId> = store.list().unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [id("c1")]);
    directory.remove().unwrap();
    directory.remove().unwrap();
    assert!(store.list().unwrap().is_empty() && store.names().unwrap().is_empty());
}

#[test]
fn a_store_that_was_never_used_is_empty() {
    let (_work_directory, store) = store();
    assert!(store.list().unwrap().is_empty());
    store.clear_leftovers().unwrap();
    assert!(!store.container(&id("c1")).exists());
}

#[test]
fn the_lock_tells_its_owner_and_goes_with_it() {
    let (_work_directory, store) = store();
    let directory = made(&store);
    assert_eq!(directory.owner().unwrap(), None);
    let lock = directory.lock().unwrap();
    let own = rustix::process::Pid::from_raw(i32::try_from(std::process::id()).unwrap());
    assert_eq!(directory.owner().unwrap(), own);
    assert!(matches!(directory.lock(), Err(StoreError::Owned)));
    assert!(!directory.wait_until_released(Some(Duration::from_millis(1))).unwrap());
    drop(lock);
    assert!(directory.wait_until_released(None).unwrap());
    assert_eq!(directory.owner().unwrap(), None);
}

#[test]
fn the_last_reader_removes_the_directory() {
    let (_work_directory, store) = store();
    let directory = made(&store);
    let [first, second] = [(); 2].map(|()| directory.read_result_later().unwrap().unwrap());
    assert!(!directory.is_last(&first));
    assert!(directory.is_last(&second));
    directory.remove().unwrap();
    assert!(directory.read_result_later().unwrap().is_none());
}

#[test]
fn what_is_written_is_read_and_damage_is_named() {
    let (_work_directory, store) = store();
    let directory = made(&store);
    assert_eq!(directory.state().unwrap(), None);
    let limits = Limits { cpu_shares: Some(2), ..Limits::default() };
    let state = State { version: State::VERSION, is_command_task: true, limits, ..State::default() };
    directory.write_state(&state).unwrap();
    assert_eq!(directory.state().unwrap(), Some(state));
    fs::write(directory.path().join("state.json"), "{").unwrap();
    let error = directory.state().unwrap_err().to_string();
    assert!(error.contains("state.json is damaged"), "{error}");
    fs::write(directory.path().join("launch"), [0xff]).unwrap();
    assert!(directory.launch().is_err());
}

#[test]
fn limits_of_the_last_update_are_kept_unless_it_failed() {
    let (_work_directory, store) = store();
    let directory = made(&store);
    let limits = Limits { cpu_shares: Some(512), memory_bytes: Some(1), cpu_quota: None };
    directory.with_limits(|before| Ok::<_, StoreError>((before.or(Some(limits)), ()))).unwrap();
    let failed = directory.with_limits::<(), _>(|before| {
        assert_eq!(before, Some(limits));
        Err(StoreError::Owned)
    });
    assert!(failed.is_err());
    assert_eq!(directory.hold_limits().unwrap().1, Some(limits));
}

#[test]
fn an_update_that_was_killed_is_noted_until_the_next_is_done() {
    let (_work_directory, store) = store();
    let directory = made(&store);
    let limits = Limits { cpu_shares: Some(512), ..Limits::default() };
    let update = |is_applied: bool| {
        let change = |_| directory.begin_update().map(|()| (is_applied.then_some(limits), ()));
        directory.with_limits::<(), StoreError>(change).unwrap();
    };
    update(false);
    assert!(directory.is_update_unfinished());
    update(true);
    assert!(!directory.is_update_unfinished());
    assert_eq!(directory.limits().unwrap(), Some(limits));
}

#[test]
fn a_supervisor_is_needed_until_the_end_is_known_and_told() {
    let (_work_directory, store) = store();
    let directory = made(&store);
    assert!(directory.needs_supervisor().unwrap());
    let cause = crate::lifecycle::Cause::Exited { code: 0 };
    let ending = Ending {
        cause,
        was_stopped: false,
        started: None,
        finished_at: 1.0,
        stdout_bytes: None,
        stderr_bytes: None,
        lost_bytes: None,
    };
    directory.write_result(&Ended { version: State::VERSION, ending }).unwrap();
    assert!(!directory.needs_supervisor().unwrap());
    let update = proto::executor::call::Update::default();
    directory.write_owed(&Owed { unacknowledged_updates: vec![update], ..Owed::default() }).unwrap();
    assert!(directory.needs_supervisor().unwrap());
    directory.write_owed(&Owed::default()).unwrap();
    assert!(!directory.needs_supervisor().unwrap());
}
