//! What the options of `docker run` that we have do to the container.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::{IMAGE, Registry, Stage};

#[test]
fn one_word_is_for_the_shell_and_several_are_a_program_with_arguments() {
    let stage = Stage::new();
    stage.local(&[], &["echo $((1 + 2))  and   more"]).run().expect_code(0).expect_stdout("3 and more\n");
    let argv = ["printf", "%s|", "$HOME", "a  b", "", "*", "--master=x", "-e", "it's"];
    stage.local(&[], &argv).run().expect_code(0).expect_stdout("$HOME|a  b||*|--master=x|-e|it's|");
}

#[test]
fn without_a_command_the_image_runs_its_own() {
    let stage = Stage::new();
    stage.local(&["--quiet"], &[]).run().expect_code(0).expect_stdout("").expect_stderr("");
}

#[test]
fn the_environment_is_what_the_options_say() {
    let stage = Stage::new();
    fs::write(stage.files().join("list"), "# a comment\nFROM_FILE=file\nBOTH=file\n").unwrap();
    let options = [
        "-e",
        "A=1=2",
        "--env",
        "LINES_=one\ntwo",
        "-e",
        "INHERITED",
        "-e",
        "BOTH=option",
        "-e",
        "EMPTY=",
        "--env-file",
        "list",
    ];
    let script = "echo \"$A|$LINES_|$INHERITED|$FROM_FILE|$BOTH|${EMPTY-unset}|${NOT_GIVEN-unset}\"";
    let ended = stage.local(&options, &[script]).env("INHERITED", "from outside").env("NOT_GIVEN", "x").run();
    ended.expect_code(0).expect_stdout("1=2|one\ntwo|from outside|file|option||unset\n");
}

#[test]
fn user_and_working_directory_are_what_the_options_say() {
    let stage = Stage::new();
    stage.local(&["-u", "65534:1"], &["id -u; id -g"]).run().expect_code(0).expect_stdout("65534\n1\n");
    stage.local(&["--user=nobody"], &["id -un"]).run().expect_code(0).expect_stdout("nobody\n");
    stage.local(&["-w", "/tmp"], &["pwd"]).run().expect_code(0).expect_stdout("/tmp\n");
}

#[test]
fn an_entrypoint_takes_the_command_as_its_arguments() {
    let stage = Stage::new();
    let ended = stage.local(&["--entrypoint", "/bin/echo"], &["sh", "-c", "exit 3"]).run();
    ended.expect_code(0).expect_stdout("sh -c exit 3\n");
}

#[test]
fn a_volume_is_mounted_and_may_be_read_only() {
    let stage = Stage::new();
    let files = stage.files();
    fs::write(files.join("in"), "from the host").unwrap();
    let volume = format!("{}:/data", files.display());
    stage
        .local(&["-v", &volume], &["cat /data/in; echo hello >/data/out"])
        .run()
        .expect_code(0)
        .expect_stdout("from the host");
    assert_eq!(fs::read(files.join("out")).unwrap(), b"hello\n");
    let ended = stage.local(&["--volume", &format!("{volume}:ro")], &["cat /data/in; echo no >/data/refused"]).run();
    ended.expect_code(1).expect_stdout("from the host").expect_words(&["Read-only"]);
    assert!(!files.join("refused").exists());
}

#[test]
fn options_of_docker_run_reach_the_engine() {
    let stage = Stage::new();
    let mount = format!("--mount=type=bind,source={},target=/data,readonly", stage.files().display());
    fs::write(stage.files().join("in"), "in\n").unwrap();
    let options = [
        "--hostname=inside",
        "--add-host=db:10.1.2.3",
        "--ulimit=nofile=77:88",
        "--tmpfs=/scratch:size=1m",
        "--shm-size=3m",
        "--read-only",
        "--sysctl=net.ipv4.ip_default_ttl=33",
        "--memory=67108864",
        "--cidfile=cid",
        "--rm",
        &mount,
    ];
    let script = "hostname; grep -w db /etc/hosts; ulimit -n; ulimit -Hn; cat /data/in /proc/sys/net/ipv4/ip_default_ttl; \
                  awk '$2 == \"/scratch\" || $2 == \"/dev/shm\" { print $2, $3 }' /proc/mounts; touch /x 2>/dev/null || echo closed";
    let ended = stage.local(&options, &[script]).run();
    ended.expect_code(0);
    let mut lines: Vec<&str> = std::str::from_utf8(&ended.stdout).unwrap().lines().collect();
    lines[6..8].sort_unstable();
    assert_eq!(lines, ["inside", "10.1.2.3\tdb", "77", "88", "in", "33", "/dev/shm tmpfs", "/scratch tmpfs", "closed"]);
    assert_eq!(fs::read_to_string(stage.files().join("cid")).unwrap().len(), 64);
    let again = stage.local(&["--cidfile=cid"], &["true"]).run();
    again.expect_code(125).expect_words(&["--cidfile", "there already"]);
}

#[test]
fn a_dry_run_prints_a_task_that_a_file_can_launch() {
    let stage = Stage::new();
    let printed = stage.local(&["--dry-run", "--label=team=ops", "-eA=b"], &["echo $A; exit 3"]).run();
    printed.expect_code(0).expect_one_line(&["could run on 1 of 1 agent now"]);
    let nowhere = stage.local(&["--dry-run", "--constraint=rack==r1"], &["true"]).run();
    nowhere.expect_code(0).expect_words(&["none of 1 agent now", "not rack==r1 on 1 agent", "rack is nothing"]);
    fs::write(stage.files().join("task.json"), &printed.stdout).unwrap();
    let ended = stage.launcher(["--master=local", "--task=task.json"]).run();
    ended.expect_code(3).expect_stdout("b\n");
    fs::write(stage.files().join("wrong.json"), r#"{"name":"x","comand":{}}"#).unwrap();
    let wrong = stage.launcher(["--master=local", "--task=wrong.json"]).run();
    wrong.expect_code(125).expect_words(&["--task", "comand"]);
}

#[test]
fn options_may_stand_in_the_users_configuration_file() {
    let stage = Stage::new();
    let directory = stage.files().join("config");
    fs::create_dir_all(directory.join("launch-container")).unwrap();
    fs::write(directory.join("launch-container/config.toml"), "master = \"local\"\n[profile.x]\nenv = [\"A=file\"]\n")
        .unwrap();
    let launch =
        stage.launcher(["--profile=x", IMAGE, "echo $A $B"]).env("XDG_CONFIG_HOME", &directory.to_string_lossy());
    launch.env("LAUNCH_CONTAINER_ENV", "B=variable").run().expect_code(0).expect_stdout("file variable\n");
    let shown = stage.launcher(["config"]).env("XDG_CONFIG_HOME", &directory.to_string_lossy()).run();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("config.toml:1"), "{}", shown.said());
}

#[test]
fn what_a_cluster_without_a_fetcher_cannot_do_is_refused() {
    let stage = Stage::new();
    stage.local(&["--uri=http://files/x"], &["true"]).run().expect_code(125).expect_words(&["URIs", "--volume"]);
}

#[test]
fn a_published_port_is_reached_from_the_agent() {
    let stage = Stage::new();
    let port = free_offered_port();
    let publish = format!("{port}:4000");
    let launch = stage.local(&["-p", &publish], &["echo up; nc -l -p 4000 -e echo hello from inside"]).start();
    launch.wait_for_stdout("up");
    assert_eq!(fetch(port), "hello from inside\n");
    launch.finish().expect_code(0);
}

#[test]
fn networks_are_bridge_host_or_none() {
    let stage = Stage::new();
    let interfaces = "ls /sys/class/net | tr '\\n' ' '";
    stage.local(&["--network=none"], &[interfaces]).run().expect_code(0).expect_stdout("lo ");
    stage.local(&[], &["ip -o -4 address show eth0 | wc -l"]).run().expect_code(0).expect_stdout("1\n");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    stage.local(&["--network=host"], &["hostname"]).run().expect_code(0).expect_stdout(host);
}

#[test]
fn privileges_and_other_parameters_of_docker_are_passed_on() {
    let stage = Stage::new();
    let capabilities = "grep CapEff /proc/self/status | cut -f 2";
    let usual = stage.shell(capabilities);
    let all = stage.local(&["--privileged"], &[capabilities]).run();
    // Inside a sandbox the engine may have fewer capabilities than it is asked to give: then it refuses to start anything.
    if !String::from_utf8_lossy(&all.stderr).contains("unable to apply caps") {
        assert!(all.expect_code(0).stdout > usual.expect_code(0).stdout, "{}\n{}", all.said(), usual.said());
    }
    let options = ["--docker-param", "hostname=chosen", "--docker-param=label=purpose=test"];
    stage.local(&options, &["hostname"]).run().expect_code(0).expect_stdout("chosen\n");
}

#[test]
fn limits_reach_the_engine() {
    let stage = Stage::new();
    let launch = stage.local(&["--cpus=0.5", "--mem=64", "--name=limited"], &["echo up; sleep 60"]).start();
    launch.wait_for_stdout("up");
    let container = stage.engine().inspect(&stage.running_container());
    assert_eq!(container["HostConfig"]["Memory"], 64 << 20);
    assert_eq!(container["HostConfig"]["CpuShares"], 512);
    assert_eq!(container["Config"]["Image"].as_str().unwrap().trim_end_matches(":latest"), IMAGE);
    launch.interrupt();
    launch.finish().expect_code(130);
}

#[test]
fn an_image_that_is_there_is_pulled_only_when_that_is_forced() {
    let stage = Stage::new();
    let registry = Registry::stalling();
    let image = registry.image();
    let _named = stage.engine().name_base_image(&image);
    let ended = stage.launcher(["--master=local", "--quiet", &image, "echo here"]).run();
    ended.expect_code(0).expect_stdout("here\n");
    assert!(!registry.is_asked());
    let launch = stage.launcher(["--master=local", "--force-pull", &image, "true"]).start();
    registry.wait_for_pull();
    launch.interrupt();
    launch.finish().expect_code(130).expect_stdout("");
}

#[test]
fn the_sandbox_is_mounted_where_its_variables_say() {
    let stage = Stage::new();
    let script = "echo $MESOS_SANDBOX $MESOS_DIRECTORY; echo x >$MESOS_SANDBOX/new && cat /mnt/mesos/sandbox/new";
    stage.shell(script).expect_code(0).expect_stdout("/mnt/mesos/sandbox /mnt/mesos/sandbox\nx\n");
}

#[test]
fn what_a_task_leaves_in_its_sandbox_is_removed() {
    let stage = Stage::new();
    let script =
        "mkdir -p /mnt/mesos/sandbox/a/b && touch /mnt/mesos/sandbox/a/b/c && chmod 000 /mnt/mesos/sandbox/a/b";
    stage.shell(script).expect_code(0);
}

#[test]
fn a_user_without_root_needs_no_more_than_docker() {
    let stage = Stage::new();
    let ended = stage.local_without_root(&["--quiet"], &["id -u; echo err >&2; exit 3"]).run();
    ended.expect_code(3).expect_stdout("0\n").expect_stderr("err\n");
    stage.assert_nothing_left();
    // In its container the task is root, and what it writes is root's.
    let script = "mkdir -p /mnt/mesos/sandbox/a/b && touch /mnt/mesos/sandbox/a/b/c && chmod 700 /mnt/mesos/sandbox/a";
    stage.local_without_root(&[], &[script]).run().expect_code(0);
}

/// A port that local agents offer and on which nothing listens now.
fn free_offered_port() -> u16 {
    // Tests run in processes of their own, side by side: each starts to look somewhere else.
    let start = 31_000 + (std::process::id() % 900) as u16;
    (start..32_000).find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok()).expect("a free port")
}

fn fetch(port: u16) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut text = String::new();
        // The engine's proxy accepts before the container listens, and then closes without a byte.
        if let Ok(mut connection) = TcpStream::connect(("127.0.0.1", port)) {
            let _ = connection.read_to_string(&mut text);
        }
        if !text.is_empty() {
            return text;
        }
        assert!(Instant::now() < deadline, "port {port} never answered");
        std::thread::sleep(Duration::from_millis(50));
    }
}
