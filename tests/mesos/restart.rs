//! Master and agents are stopped and started again under a running task, which is not disturbed.

use crate::cluster::{Cluster, Master};
use crate::harness::IMAGE;
use crate::transcript::Transcript;

#[test]
fn a_task_outlives_a_restart_of_master_and_agents() {
    for version in ["1.8.1", "1.11.0"] {
        let mut cluster = Cluster::start(Master::Mesos(version), &[]);
        let files = cluster.files("restart");
        let volume = format!("{}:/data", files.display());
        let script = "echo one; until [ -e /data/go ]; do sleep 0.1; done; echo two; echo err >&2; exit 7";
        let words = ["--format=json", "--cpus=0.1", "--mem=32", "-v", &volume, IMAGE, script];
        let launch = cluster.launcher(&words).start();
        launch.wait_for_stdout("one\n");
        launch.wait_for_stderr("TASK_RUNNING");
        let [container] = cluster.containers().try_into().unwrap();
        let pid = cluster.stage.engine().inspect(&container)["State"]["Pid"].clone();

        cluster.mesos().stop();
        launch.wait_for_stderr("\"event\":\"disconnected\"");
        // What the task says while nobody is there is not lost.
        cluster.mesos().start_again();
        launch.wait_for_stderr("\"is_again\":true");
        let state = cluster.stage.engine().inspect(&container)["State"].clone();
        assert_eq!((&state["Running"], &state["Pid"]), (&true.into(), &pid), "on {version} it is another process");

        std::fs::write(files.join("go"), "").unwrap();
        let ended = launch.finish();
        ended.expect_code(7).expect_stdout("one\ntwo\n");
        let transcript = Transcript::of(&ended.stderr);
        assert_eq!(transcript.stderr, b"err\n", "on {version}");
        let path = transcript.path();
        let last = path.iter().rev().take(2).rev().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(last, ["TASK_FAILED", "end exited"], "on {version}: {path:?}");
        assert_eq!(transcript.field("end", "exit_code"), 7);
        assert_eq!(transcript.count("launching"), 1, "on {version}: {path:?}");
    }
}
