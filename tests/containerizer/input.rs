//! Bad input: one line, exit code 1, nothing left behind.

use crate::slave::Slave;

const VERBS: [&str; 5] = ["launch", "update", "usage", "wait", "destroy"];

fn frame(message: &[u8]) -> Vec<u8> {
    [&u32::try_from(message.len()).unwrap().to_ne_bytes(), message].concat()
}

#[test]
fn a_bad_frame_is_one_line_of_error_for_every_verb() {
    let slave = Slave::new();
    for verb in VERBS {
        for bytes in [
            b"".to_vec(),
            b"ab".to_vec(),
            u32::MAX.to_ne_bytes().to_vec(),
            [&100u32.to_ne_bytes()[..], b"short"].concat(),
            frame(b"\xff\xff\xff\xff"),
            frame(b""),
        ] {
            let ran = slave.raw(verb, &bytes);
            assert!(
                ran.error().starts_with(&format!("docker-containerizer cannot {verb}: ")),
                "{verb} {bytes:?}: {ran:?}"
            );
        }
    }
    assert!(!slave.state().exists());
}

#[test]
fn an_id_that_is_no_file_name_is_refused() {
    let slave = Slave::new();
    for id in ["", ".", "..", "../x", "a/b", "a b", "-x", &"x".repeat(300)] {
        // Field 1 of every message is the container's id, and field 1 of that its value.
        let value = [&[0x0a, 0][..], id.as_bytes()].concat();
        let mut inner = value;
        let mut length = Vec::new();
        prost::encoding::encode_varint(id.len() as u64, &mut length);
        inner.splice(1..2, length);
        let mut message = vec![0x0a];
        prost::encoding::encode_varint(inner.len() as u64, &mut message);
        message.extend(inner);
        for verb in VERBS {
            let ran = slave.raw(verb, &frame(&message));
            assert!(ran.error().contains("is not a container id"), "{verb} {id:?}: {ran:?}");
        }
    }
    assert!(!slave.state().exists());
}

/// A slave 0.19 would keep a task staging for ever whose `launch` fails.
#[test]
fn a_launch_that_cannot_be_is_told_by_wait() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let mut launch = container.custom_executor("true");
    launch.directory = Some("/no/such/sandbox".to_owned());
    let no_executors = container.task("true");
    let nonsense = [("MESOS_SLAVE_PID", "nonsense".to_owned())];
    for (message, variables, reason) in
        [(launch, &[][..], "/no/such/sandbox"), (no_executors, &nonsense, "MESOS_SLAVE_PID")]
    {
        let ran = container.try_launch(&message, variables);
        assert!(ran.code == Some(0) && ran.stderr.contains(reason), "{ran:?}");
        let end = container.wait();
        assert!(end.killed && end.message().contains(reason), "{end:?}");
        assert_eq!(end.state, Some(proto::mesos::TaskState::TaskFailed as i32));
    }
}

#[test]
fn a_launch_that_cannot_be_recorded_fails_only_where_the_slave_hears_it() {
    let slave = Slave::new();
    std::fs::write(slave.state().parent().unwrap(), "in the way").unwrap();
    let container = slave.container("c1");
    let message = container.custom_executor("true");
    let early = container.try_launch(&message, &[]);
    assert!(early.code == Some(0) && early.stderr.contains("cannot write"), "{early:?}");
    let wait = container.start_wait().finish();
    assert_eq!(wait.code, Some(1), "{wait:?}");
    let late = container.try_launch(&message, &[("MESOS_AGENT_ENDPOINT", "127.0.0.1:5051".to_owned())]);
    assert!(late.error().contains("cannot write"), "{late:?}");
}

#[test]
fn a_slave_that_gives_no_work_directory_is_none() {
    let mut slave = Slave::new();
    slave.set("MESOS_WORK_DIRECTORY", "");
    for verb in ["launch", "containers", "recover"] {
        let ran = slave.raw(verb, b"");
        assert!(ran.error().contains("MESOS_WORK_DIRECTORY is not set"), "{verb}: {ran:?}");
    }
}
