use std::os::fd::AsFd;

use proto::mesos::{AgentId, Offer, OfferId, TaskId};

use super::*;
use crate::exit::Outcome;
use crate::scheduler::Record;

fn begin(digest: &str) -> Begin {
    Begin {
        version: VERSION,
        run: "r".parse().unwrap(),
        name: "job".to_owned(),
        image: "busybox".to_owned(),
        master: "m:5050".to_owned(),
        has_credentials: false,
        framework: Begin::encode_framework(&proto::mesos::FrameworkInfo {
            user: "ada".to_owned(),
            ..Default::default()
        }),
        digest: digest.to_owned(),
        kill_grace_ms: 10_000,
        run_timeout_ms: None,
        constraints: vec!["rack==r1".to_owned()],
        preferences: vec![],
        takes_revocable: false,
    }
}

fn records() -> Vec<Record> {
    let offer = Offer {
        id: OfferId { value: "o".to_owned() },
        agent_id: AgentId { value: "a".to_owned() },
        hostname: "h\n\u{1F600}".to_owned(),
        ..Offer::default()
    };
    let status = proto::mesos::TaskStatus {
        task_id: TaskId { value: "r".to_owned() },
        state: proto::mesos::TaskState::TaskRunning.into(),
        data: Some(vec![0, 255, 10]),
        ..Default::default()
    };
    vec![
        Record::Subscribed { framework_id: "F".to_owned(), master_id: Some("m".to_owned()) },
        Record::Launching { task_id: "r".to_owned(), wire_id: "r".to_owned(), offer: Box::new(offer) },
        Record::Status { status: Box::new(status) },
        Record::GivenUp { wire_id: "r".to_owned() },
        Record::Killing { task_id: "r".to_owned(), signal: Some(2), grace_ms: 5 },
        Record::Over { task_id: "r".to_owned(), outcome: Outcome::Failed("x\ny".to_owned()) },
        Record::TornDown,
    ]
}

#[test]
fn every_record_comes_back_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let runs = Runs::in_directory(directory.path());
    let (mut journal, past) = Journal::begin(&runs, begin("d")).unwrap();
    assert!(past.records.is_empty());
    for record in records() {
        journal.append(Entry::Scheduler(record)).unwrap();
    }
    journal.note(Note::Owned { pid: 7, host: "desk".to_owned() }).unwrap();
    journal.note(Note::Left).unwrap();
    let (_reader, out) = rustix::pipe::pipe().unwrap();
    journal.mark(0, out.as_fd()).store(12, &out).unwrap();
    journal.mark(1, out.as_fd()).store(u64::MAX, &out).unwrap();
    drop(journal);
    let (journal, past) = Journal::take(&runs, &"r".parse().unwrap()).unwrap();
    assert_eq!(past.records.iter().map(|(_, record)| record.clone()).collect::<Vec<_>>(), records());
    assert_eq!((past.begin.clone(), past.offsets, past.is_delivered), (begin("d"), [12, u64::MAX], false));
    assert_eq!(past.begin.decode_framework().unwrap().user, "ada");
    assert_eq!(Journal::read(&runs, journal.run()).unwrap(), past);
}

#[test]
fn whatever_is_cut_off_the_journal_what_is_whole_is_read_and_the_next_line_stands_alone() {
    let directory = tempfile::tempdir().unwrap();
    let runs = Runs::in_directory(directory.path());
    let run: RunId = "r".parse().unwrap();
    let (mut journal, _) = Journal::begin(&runs, begin("d")).unwrap();
    for record in records() {
        journal.append(Entry::Scheduler(record)).unwrap();
    }
    drop(journal);
    let path = runs.directory(&run).join("journal");
    let whole = fs::read(&path).unwrap();
    let ends: Vec<usize> = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let complete = ends.iter().filter(|end| **end <= length).count();
        let (mut journal, past) = Journal::begin(&runs, begin("d")).unwrap();
        assert_eq!(past.records.len(), complete.saturating_sub(1), "cut at {length}");
        journal.append(Entry::Scheduler(Record::TornDown)).unwrap();
        drop(journal);
        let records = Journal::read(&runs, &run).unwrap().records;
        assert_eq!(records.len(), complete.max(1), "cut at {length}, then continued");
        assert_eq!(records.last().unwrap().1, Record::TornDown);
    }
    // A last line with a hole in it, as after a power cut.
    let mut hole = whole.clone();
    let last = ends[ends.len() - 2];
    hole[last + 3..last + 9].fill(0);
    fs::write(&path, &hole).unwrap();
    assert_eq!(Journal::read(&runs, &run).unwrap().records.len(), records().len() - 1);
    // In the middle it is damage.
    let mut hole = whole;
    hole[ends[2] + 3..ends[2] + 9].fill(0);
    fs::write(&path, &hole).unwrap();
    let error = Journal::read(&runs, &run).unwrap_err().to_string();
    assert!(error.contains("line 4") && error.contains("move it away"), "{error}");
}

#[test]
fn a_run_has_one_owner_and_the_second_one_hears_who_that_is() {
    let directory = tempfile::tempdir().unwrap();
    let runs = Runs::in_directory(directory.path());
    let run: RunId = "r".parse().unwrap();
    let (journal, _) = Journal::begin(&runs, begin("d")).unwrap();
    let error = Journal::begin(&runs, begin("d")).unwrap_err();
    let pid = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(&error, JournalError::Held { holder, .. } if holder.pid == Some(pid)), "{error}");
    assert!(error.to_string().contains(&format!("process {pid} on ")), "{error}");
    assert_eq!(Journal::holder(&runs, &run).unwrap().unwrap().pid, Some(pid));
    let waiting = std::thread::spawn({
        let (runs, run) = (runs.clone(), run.clone());
        move || Journal::wait_until_free(&runs, &run)
    });
    drop(journal);
    waiting.join().unwrap().unwrap();
    assert_eq!(Journal::holder(&runs, &run).unwrap(), None);
    assert!(Journal::take(&runs, &run).is_ok());
}

#[test]
fn looking_who_owns_a_run_keeps_nobody_from_taking_it() {
    let directory = tempfile::tempdir().unwrap();
    let runs = Runs::in_directory(directory.path());
    let run: RunId = "r".parse().unwrap();
    drop(Journal::begin(&runs, begin("d")).unwrap());
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                Journal::holder(&runs, &run).unwrap();
            }
        });
        for _ in 0..200 {
            drop(Journal::take(&runs, &run).unwrap());
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn the_same_id_for_another_task_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let runs = Runs::in_directory(directory.path());
    drop(Journal::begin(&runs, begin("d")).unwrap());
    let error = Journal::begin(&runs, begin("e")).unwrap_err();
    assert!(matches!(error, JournalError::OtherTask(_)), "{error}");
    assert!(matches!(
        Journal::take(&runs, &"s".parse().unwrap()),
        Err(JournalError::Io { .. } | JournalError::Unknown(_))
    ));
}

#[test]
fn another_versions_journal_is_left_alone_and_said_to_be_one() {
    let directory = tempfile::tempdir().unwrap();
    let runs = Runs::in_directory(directory.path());
    let run: RunId = "r".parse().unwrap();
    drop(Journal::begin(&runs, begin("d")).unwrap());
    let path = runs.directory(&run).join("journal");
    for other in
        [r#"{"at":1,"record":"begin","version":2,"flavour":"new"}"#, r#"{"at":1,"record":"other","version":9}"#]
    {
        let text = format!("{other}\n{{}}\n");
        fs::write(&path, &text).unwrap();
        let error = Journal::take(&runs, &run).unwrap_err().to_string();
        assert!(error.contains("format version") && error.contains("version 1"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn nobody_else_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let runs = Runs::in_directory(&directory.path().join("a/runs"));
    let (journal, _) = Journal::begin(&runs, begin("d")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let run = runs.directory(journal.run());
    assert_eq!(mode(&run), 0o700);
    for file in ["journal", "offsets", "lock"] {
        assert_eq!(mode(&run.join(file)), 0o600, "{file}");
    }
}
