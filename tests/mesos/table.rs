//! The scenarios, in the order in which they are told.

use rustix::process::Signal;

use crate::harness::IMAGE;
use crate::scenario::Scenario;

/// Says "up", and "bye" when it is asked to end.
const POLITE: &str = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done";
/// Says "up", and does not listen.
const STUBBORN: &str = "trap 'echo no' TERM; echo up; while :; do sleep 0.1; done";
/// All bytes, and what breaks those who take bytes for text.
const ODD: &[u8] = b"\xff\xfe half of a character: \xe2\x82 \r\n \x1b[31m \\u00ff \\n \"quoted\" \0\0 no newline";
/// For `nc -e`: takes a request, keeps its first line in a file, answers 404.
const ANSWER: &str = r#"
IFS=$(printf "\r") read -r line rest
echo "$line" >/tmp/line
until [ "${#line}" = 1 ]; do read -r line; done
printf "HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n""#;
const ANSWERS_ONCE: &str = r#"echo "$ANSWER" >/tmp/answer; nc -l -p 8080 -e sh /tmp/answer; cat /tmp/line"#;
/// Says "bye" to the request to end.
const ANSWERS: &str = r#"
trap 'echo bye; exit 3' TERM
echo "$ANSWER" >/tmp/answer
echo up
while :; do nc -l -p 8080 -e sh /tmp/answer & wait $!; done"#;
/// Takes one connection.
const LISTENS_ONCE: &str = "nc -l -p 8080 </dev/null; echo seen";
const FIFTY_MEGABYTES: usize = 50 << 20;

/// All of them.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    all.extend(ends());
    all.extend(output());
    all.extend(container());
    all.extend(failures());
    all.extend(health());
    all.extend(kills());
    all
}

fn ends() -> Vec<Scenario> {
    vec![
        Scenario::new("success", &["echo hello"]).stdout("hello\n"),
        Scenario::new("exit code 1", &["exit 1"]).code(1),
        Scenario::new("exit code 3", &["echo out; exit 3"]).code(3).stdout("out\n"),
        Scenario::new("exit code 124", &["exit 124"]).code(124),
        Scenario::new("exit code 125", &["exit 125"]).code(125),
        Scenario::new("exit code 126", &["exit 126"]).code(126),
        Scenario::new("exit code 127", &["exit 127"]).code(127),
        Scenario::new("exit code 255", &["exit 255"]).code(255),
        Scenario::new("killed by SIGKILL", &["kill -9 $$"]).code(137),
        Scenario::new("killed by SIGTERM", &["kill -TERM $$"]).code(143),
        Scenario::new("killed by SIGSEGV", &["kill -SEGV $$"]).code(139),
        Scenario::new("a task of a millisecond", &["true"]),
        Scenario::new("memory limit", &["tail /dev/zero"]).options(&["--mem=16"]).code(137).ends("signaled", &[]),
    ]
}

fn output() -> Vec<Scenario> {
    vec![
        Scenario::new("no output", &["true"]).quiet(),
        Scenario::new("both streams", &["echo out; echo err >&2; printf more; printf 'no newline' >&2"])
            .quiet()
            .stdout("out\nmore")
            .stderr("err\nno newline"),
        Scenario::new("both streams at once", &["seq 20000 & seq 20000 >&2; wait"])
            .stdout(sequence(20_000))
            .stderr(sequence(20_000)),
        Scenario::new("all bytes", &["cat /data/all; cat /data/all >&2"])
            .options(&["-v", "{files}:/data"])
            .file("all", (0..=u8::MAX).collect::<Vec<_>>())
            .quiet()
            .stdout((0..=u8::MAX).collect::<Vec<_>>())
            .stderr((0..=u8::MAX).collect::<Vec<_>>()),
        Scenario::new("invalid UTF-8, no last newline", &["cat /data/odd; cat /data/odd >&2"])
            .options(&["-v", "{files}:/data"])
            .file("odd", ODD)
            .quiet()
            .stdout(ODD)
            .stderr(ODD),
        Scenario::new("50 MB", &["head -c 52428800 /dev/urandom | tee /data/written"])
            .options(&["-v", "{files}:/data"])
            .stdout_as_written(FIFTY_MEGABYTES, "written"),
    ]
}

fn container() -> Vec<Scenario> {
    vec![
        Scenario::new("shell", &["echo $((1 + 2))  and   more | tr a-z A-Z"]).stdout("3 AND MORE\n"),
        Scenario::new("argv", &["printf", "%s|", "$HOME", "a  b", "", "*", "it's", "--master=x"])
            .stdout("$HOME|a  b||*|it's|--master=x|"),
        Scenario::new("entrypoint", &["sh", "-c", "exit 3"])
            .options(&["--entrypoint=/bin/echo"])
            .stdout("sh -c exit 3\n"),
        Scenario::new("the image's own command", &[]),
        Scenario::new("environment", &["printf '%s|' \"$A\" \"$LINES_\" \"${EMPTY-unset}\" \"${NOT_GIVEN-unset}\""])
            .options(&["-e", "A=1=2 $HOME 'x'", "-e", "LINES_=one\ntwo", "-e", "EMPTY="])
            .stdout("1=2 $HOME 'x'|one\ntwo||unset|"),
        Scenario::new("user and working directory", &["id -u; pwd"])
            .options(&["-u", "65534:1", "-w", "/tmp"])
            .stdout("65534\n/tmp\n"),
        Scenario::new("volume", &["cat /data/in && echo hello >/data/out && cat /data/out"])
            .options(&["-v", "{files}:/data"])
            .file("in", "from the host\n")
            .stdout("from the host\nhello\n"),
        Scenario::new("read-only volume", &["cat /data/in; echo no >/data/out"])
            .options(&["-v", "{files}:/data:ro"])
            .file("in", "from the host\n")
            .code(1)
            .stdout("from the host\n")
            .stderr_words(&["Read-only"]),
        Scenario::new("published port", &["echo up; nc -l -p 4000 -e echo hello from inside"])
            .options(&["-p", "{port}:4000"])
            .fetch("hello from inside\n")
            .stdout("up\n"),
        Scenario::new("sandbox", &["echo x >$MESOS_SANDBOX/new && cat /mnt/mesos/sandbox/new"]).stdout("x\n"),
        Scenario::new("network none", &["ls /sys/class/net"]).options(&["--network=none"]).stdout("lo\n"),
        Scenario::new("other parameters of Docker", &["hostname"])
            .options(&["--docker-param", "hostname=chosen"])
            .stdout("chosen\n"),
    ]
}

fn failures() -> Vec<Scenario> {
    vec![
        Scenario::new("unknown image", &["true"])
            .image("launch-container/no-such-image:1")
            .code(125)
            .states(&["launching", "TASK_STARTING", "TASK_FAILED"])
            .states_of_mesos(&["launching", "TASK_FAILED"])
            .ends("failed", &["launch-container/no-such-image:1"]),
        Scenario::new("unknown program", &["/bin/no-such-program", "argument"])
            .code(125)
            .states(&["launching", "TASK_STARTING", "TASK_FAILED"])
            .ends("failed", &["/bin/no-such-program"]),
        Scenario::new("offers too small", &["true"])
            .options(&["--cpus=1000", "--offer-timeout=2s"])
            .code(124)
            .states(&[])
            .ends("timed_out", &["cpus", "1000"]),
        Scenario::new("a port that is not offered", &["true"])
            .options(&["-p", "80:80", "--offer-timeout=2s"])
            .code(124)
            .states(&[])
            .ends("timed_out", &["ports"]),
    ]
}

fn health() -> Vec<Scenario> {
    vec![
        Scenario::new("healthy", &["until [ -e /tmp/seen ]; do sleep 0.05; done; echo seen"])
            .options(&["--health-cmd=touch /tmp/seen", "--health-interval=100ms"])
            .quiet()
            .stdout("seen\n"),
        of_file(
            "healthy by HTTP",
            ANSWERS_ONCE,
            r#""type":"HTTP","http":{"port":8080,"path":"/health","statuses":[404]}"#,
        )
        .quiet()
        .stdout("GET /health HTTP/1.1\n"),
        of_file("healthy by TCP", LISTENS_ONCE, r#""type":"TCP","tcp":{"port":8080}"#).quiet().stdout("seen\n"),
        of_file(
            "killed for its answer by HTTP",
            ANSWERS,
            r#""type":"HTTP","http":{"port":8080},"grace_period_seconds":0"#,
        )
        .code(3)
        .stdout("up\nbye\n")
        .states(&KILLED_FOR_ITS_HEALTH),
        of_file("killed for not listening", POLITE, r#""type":"TCP","tcp":{"port":8080},"grace_period_seconds":0"#)
            .code(3)
            .stdout("up\nbye\n")
            .states(&KILLED_FOR_ITS_HEALTH),
        Scenario::new("killed for its health", &[POLITE])
            .options(&["--health-cmd=exit 4", "--health-interval=200ms", "--health-retries=2"])
            .code(3)
            .stdout("up\nbye\n")
            .states(&KILLED_FOR_ITS_HEALTH),
    ]
}

/// The second time it runs it is told not to be healthy.
const KILLED_FOR_ITS_HEALTH: [&str; 6] =
    ["launching", "TASK_STARTING", "TASK_RUNNING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"];

/// A task with a health check for which the launcher has no option; what `check` leaves out is as here.
fn of_file(name: &'static str, script: &str, check: &str) -> Scenario {
    let grace = if check.contains("grace_period_seconds") { "" } else { r#""grace_period_seconds":60,"# };
    let scalar =
        |name: &str, value: f64| serde_json::json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
    let docker = serde_json::json!({"image": IMAGE, "network": "BRIDGE"});
    let times = r#""delay_seconds":0,"interval_seconds":0.2,"timeout_seconds":20,"consecutive_failures":3"#;
    let task = serde_json::json!({
        "name": "checked",
        "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)],
        "command": {"shell": true, "value": script, "environment": {"variables": [{"name": "ANSWER", "value": ANSWER}]}},
        "container": {"type": "DOCKER", "docker": docker},
        "health_check": serde_json::from_str::<serde_json::Value>(&format!("{{{grace}{times},{check}}}")).unwrap(),
    });
    Scenario::new(name, &[]).only(&["--task={files}/task.json"]).file("task.json", task.to_string())
}

fn kills() -> Vec<Scenario> {
    vec![
        Scenario::new("interrupted, with last words", &[POLITE])
            .signals(&[("up", Signal::INT)])
            .code(130)
            .stdout("up\nbye\n")
            .ends("interrupted", &[]),
        Scenario::new("terminated, with last words", &[POLITE])
            .signals(&[("up", Signal::TERM)])
            .code(143)
            .stdout("up\nbye\n")
            .ends("interrupted", &[]),
        Scenario::new("killed after the grace", &[STUBBORN])
            .options(&["--kill-grace=1s"])
            .signals(&[("up", Signal::INT)])
            .code(130)
            .stdout("up\nno\n")
            .ends("interrupted", &[]),
        Scenario::new("interrupted twice", &[STUBBORN])
            .options(&["--kill-grace=1h"])
            .signals(&[("up", Signal::INT), ("no", Signal::INT)])
            .code(130)
            .stdout("up\nno\n")
            .states(&[
                "launching",
                "TASK_STARTING",
                "TASK_RUNNING",
                "killing",
                "TASK_KILLING",
                "killing",
                "TASK_KILLED",
            ])
            .ends("interrupted", &[]),
        Scenario::new("no grace", &[STUBBORN])
            .options(&["--kill-grace=0"])
            .signals(&[("up", Signal::INT)])
            .code(130)
            .stdout("up\n")
            .ends("interrupted", &[]),
        Scenario::new("time limit", &[POLITE])
            .options(&["--timeout=1s"])
            .code(124)
            .stdout("up\nbye\n")
            .ends("timed_out", &["1s"]),
    ]
}

fn sequence(last: u32) -> String {
    (1..=last).map(|number| format!("{number}\n")).collect()
}
