//! Standard input through real masters and agents, also while they are away.

use std::io::Write;
use std::process::Stdio;

use sha2::{Digest, Sha256};

use crate::cluster::{Cluster, Master};
use crate::harness::IMAGE;

const BYTES: usize = 20 << 20;

/// It is written while master and agents are down.
#[test]
fn input_reaches_the_task_unchanged_through_a_restart_of_master_and_agents() {
    for version in ["1.8.1", "1.11.0"] {
        let mut cluster = Cluster::start(Master::Mesos(version), &[]);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let script = "read word; echo $word; sha256sum; exit 6";
        let words = ["-i", "--format=json", "--cpus=0.1", "--mem=64", IMAGE, script];
        let launch = cluster.launcher(&words).stdin(Stdio::from(reader)).start();
        writer.write_all(b"begin\n").unwrap();
        launch.wait_for_stdout("begin\n");
        let mut bytes = vec![0; BYTES];
        fastrand::Rng::with_seed(11).fill(&mut bytes);
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();

        cluster.mesos().stop();
        launch.wait_for_stderr("\"event\":\"disconnected\"");
        let writing = std::thread::spawn(move || writer.write_all(&bytes));
        cluster.mesos().start_again();
        let ended = launch.finish();
        ended.expect_code(6).expect_stdout(format!("begin\n{digest}  -\n"));
        writing.join().unwrap().unwrap();
    }
}
