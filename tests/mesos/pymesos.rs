//! Another framework's library on the embedded master, and on the real one with the same words.

use std::process::Command;

use crate::cluster::{Cluster, Master};
use crate::harness::IMAGE;

const TOLD: &str = "\
registered True
of-pymesos TASK_STARTING
of-pymesos TASK_RUNNING
of-pymesos TASK_FAILED
Container exited with status 3
";

#[test]
fn a_scheduler_of_pymesos_runs_a_task_on_the_embedded_master_as_on_a_real_one() {
    let root = env!("CARGO_MANIFEST_DIR");
    let installed = Command::new(format!("{root}/scripts/pymesos")).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let packages = String::from_utf8(installed.stdout).unwrap();
    for master in [Master::Local, Master::Mesos("1.11.0")] {
        let cluster = Cluster::start(master, &[]);
        let mut scheduler = Command::new("timeout");
        scheduler.args(["60", "python3", &format!("{root}/tests/mesos/scheduler.py"), cluster.address(), IMAGE]);
        scheduler.env("PYTHONPATH", packages.trim()).env("PYTHONDONTWRITEBYTECODE", "1");
        let ended = scheduler.output().unwrap();
        let said = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert!(ended.status.success() && said.0 == TOLD, "on {master}: {said:?}");
    }
}
