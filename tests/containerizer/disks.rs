//! Disks: what a task's disk limits, and what a full one costs, be it the sandbox's, the engine's, or that of what is remembered.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use proto::ecp;
use proto::mesos::{Resource, value};

use crate::faults::{first_process, slave_with, wait_until};
use crate::harness::{LiveRestore, PrivateEngine};
use crate::slave::{Container, Slave, resources};

/// A small disk, mounted until dropped.
struct SmallDisk {
    point: PathBuf,
    directory_of_its_own: Option<tempfile::TempDir>,
}

impl SmallDisk {
    /// At a directory that is there.
    fn mount(point: &Path, size: &str) -> Self {
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], point);
        Self { point: point.to_owned(), directory_of_its_own: None }
    }

    /// With quotas, for an engine.
    fn with_quotas() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (image, point) = (directory.path().join("image"), directory.path().join("disk"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/disk-image");
        let made = Command::new(script).arg(&image).arg("256M").output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::create_dir(&point).unwrap();
        mount(&["-t", "btrfs", "-o", "loop", image.to_str().unwrap()], &point);
        Self { point, directory_of_its_own: Some(directory) }
    }

    /// For an engine, without quotas.
    fn small(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = Self::mount(directory.path(), size);
        disk.directory_of_its_own = Some(directory);
        disk
    }

    fn filler(&self) -> PathBuf {
        self.point.join("filler")
    }

    /// Leaves no room for another byte.
    fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        for piece in [1 << 16, 1] {
            while filler.write_all(&vec![b'x'; piece]).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.point).output();
    }
}

fn mount(words: &[&str], point: &Path) {
    assert!(rustix::process::geteuid().is_root(), "this test mounts a small disk; run it as root");
    let mounted = Command::new("mount").args(words).arg(point).output().unwrap();
    assert!(mounted.status.success(), "{mounted:?}");
}

fn with_disk(mut launch: ecp::Launch, megabytes: f64) -> ecp::Launch {
    launch.executor_info.as_mut().unwrap().resources.push(Resource {
        name: "disk".to_owned(),
        r#type: value::Type::Scalar as i32,
        scalar: Some(value::Scalar { value: megabytes }),
        ..Resource::default()
    });
    launch
}

/// Starts an executor that has written what its layer takes, and gives the limit that `usage` tells and the bytes.
fn written(container: &Container<'_>) -> (Option<u64>, u64) {
    let (started, go) = (container.pipe("started"), container.pipe("go"));
    let script = "head -c 40000000 /dev/zero > /big; echo > started; read x < go; wc -c < /big";
    container.launch(&with_disk(container.custom_executor(script), 16.0));
    started.read();
    first_process(container);
    let limit = container.usage().disk_limit_bytes;
    go.write("go");
    let end = container.wait();
    assert_eq!(end.status, Some(0), "{end:?}");
    (limit, String::from_utf8(container.stdout()).unwrap().trim().parse().unwrap())
}

#[test]
fn a_tasks_disk_limits_its_containers_own_layer_where_the_storage_driver_can() {
    let disk = SmallDisk::with_quotas();
    let engine = PrivateEngine::start_on(LiveRestore::Off, Some(&disk.point), "btrfs");
    for (policy, is_limited) in [("always", true), ("where_possible", true), ("never", false)] {
        let mut slave = slave_with(&engine);
        slave.set("LAUNCH_CONTAINERIZER_CONTAINER_LIMIT_DISK", policy);
        let (limit, bytes) = written(&slave.container("c1"));
        if is_limited {
            assert_eq!(limit, Some(16 << 20), "{policy}");
            // The image counts, too.
            assert!((8_000_000..=16 << 20).contains(&bytes), "{policy}: {bytes}");
        } else {
            assert_eq!((limit, bytes), (None, 40_000_000), "{policy}");
        }
    }
}

#[test]
fn where_the_storage_driver_cannot_limit_the_disk_that_is_said_or_accepted() {
    let disk = SmallDisk::small("64m");
    let engine = PrivateEngine::start_on(LiveRestore::Off, Some(&disk.point), "vfs");
    let mut slave = slave_with(&engine);
    slave.set("LAUNCH_CONTAINERIZER_CONTAINER_LIMIT_DISK", "where_possible");
    assert_eq!(written(&slave.container("c1")), (None, 40_000_000));
    slave.set("LAUNCH_CONTAINERIZER_CONTAINER_LIMIT_DISK", "always");
    let container = slave.container("c2");
    container.launch(&with_disk(container.custom_executor("true"), 16.0));
    let end = container.wait();
    assert!(end.killed && end.message().contains("cannot limit the container's disk"), "{end:?}");
    assert!(end.message().contains("container.limit_disk"), "{end:?}");
    // Without a disk there is nothing to limit.
    let container = slave.container("c3");
    container.launch(&container.custom_executor("true"));
    assert_eq!(container.wait().status, Some(0));
    wait_until("the removal", || engine.names().is_empty());
}

#[test]
fn a_full_disk_of_the_engine_fails_new_tasks_by_name_and_costs_running_ones_nothing() {
    let disk = SmallDisk::small("32m");
    let engine = PrivateEngine::start_on(LiveRestore::Off, Some(&disk.point), "vfs");
    let slave = slave_with(&engine);
    let running = slave.container("running");
    let (started, go) = (running.pipe("started"), running.pipe("go"));
    running.launch(&running.custom_executor("echo before; echo > started; read x < go; yes | head -c 3000000; exit 5"));
    started.read();
    first_process(&running);
    disk.fill();

    let refused = slave.container("refused");
    refused.launch(&refused.custom_executor("true"));
    let end = refused.wait();
    assert!(end.killed && end.status == Some(1 << 8), "{end:?}");
    assert!(end.message().contains("no space left on device"), "{end:?}");
    assert!(!engine.names().contains(&refused.name()), "{}", engine.names());

    go.write("go");
    let end = running.wait();
    assert_eq!((end.status, end.message()), (Some(5 << 8), "Container exited with status 5"));
    assert_eq!(running.stdout().len(), "before\n".len() + 3_000_000);
    wait_until("the removal", || engine.names().is_empty());

    std::fs::remove_file(disk.filler()).unwrap();
    let again = slave.container("again");
    again.launch(&again.custom_executor("exit 6"));
    assert_eq!(again.wait().status, Some(6 << 8));
    wait_until("the removal", || engine.names().is_empty());
}

#[test]
fn a_full_disk_of_what_is_remembered_fails_new_tasks_by_name_and_loses_no_end() {
    let slave = Slave::new();
    let memory = slave.state().parent().unwrap().to_owned();
    std::fs::create_dir_all(&memory).unwrap();
    let disk = SmallDisk::mount(&memory, "1m");
    let containers = [(slave.container("c0"), 0), (slave.container("c7"), 7)];
    let pipes = containers.each_ref().map(|(container, code)| {
        let (started, go) = (container.pipe("started"), container.pipe("go"));
        container.launch(&container.custom_executor(&format!("echo > started; read x < go; echo end; exit {code}")));
        started.read();
        first_process(container);
        go
    });
    disk.fill();

    let refused = slave.container("refused");
    let ran = refused.try_launch(&refused.custom_executor("true"), &[]);
    // A slave 0.19 would wait for ever; one that can hear it, does.
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("cannot launch") && ran.stderr.contains("No space left on device"), "{}", ran.stderr);
    let endpoint = ("MESOS_AGENT_ENDPOINT", "127.0.0.1:1".to_owned());
    let ran = refused.try_launch(&refused.custom_executor("true"), &[endpoint]);
    assert!(ran.code == Some(1) && ran.stderr.contains("No space left on device"), "{}", ran.stderr);
    assert_eq!(slave.remembered().len(), containers.len());

    for (container, _) in &containers {
        let message = ecp::Update { container_id: container.container_id(), resources: resources(1.0, 96.0) };
        let ran = container.start("update", &message).finish();
        // A failure would have the slave destroy the task.
        assert!(ran.code == Some(0) && ran.stderr.contains("No space left on device"), "{}", ran.stderr);
        assert!(container.usage().mem_total_bytes() > 0);
    }
    for ((container, code), go) in containers.iter().zip(pipes) {
        go.write("go");
        let end = container.wait();
        let expected = format!("Container exited with status {code}");
        assert_eq!((end.status, end.message()), (Some(code << 8), expected.as_str()));
        assert_eq!(container.stdout(), b"end\n");
        assert!(!slave.stage.engine().has(&container.name()));
    }
    assert!(slave.remembered().is_empty());
}

#[test]
fn a_full_sandbox_costs_bytes_and_neither_the_code_nor_the_beginning() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let _disk = SmallDisk::mount(&container.sandbox, "1m");
    container.launch(&container.custom_executor("yes | head -c 3000000; exit 4"));
    let end = container.wait();
    assert_eq!(end.status, Some(4 << 8), "{end:?}");
    let written = container.stdout();
    assert!(written.len() > 500_000 && written.chunks(2).all(|line| line == b"y\n"));
    let lost = 3_000_000 - written.len();
    assert_eq!(end.message(), format!("bytes lost: {lost}: Container exited with status 4"));
}
