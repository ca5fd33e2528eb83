//! Runs the table on one master, a few scenarios at a time, and judges each.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, eventually};
use crate::harness::{Ended, Running, read};
use crate::scenario::{Act, Bytes, Report, Scenario};
use crate::table;
use crate::transcript::Transcript;

/// Two cores start only so many containers well at the same time.
const AT_A_TIME: usize = 3;

/// Time for the longest of them on a machine with other things to do.
const LIMIT: Duration = Duration::from_secs(120);

/// From the start of the task until its port answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// One line of the table, and why it failed if it did.
type Line = (usize, &'static str, Duration, Option<String>);

/// Runs every scenario; the environment variable `SCENARIO` keeps those whose name has that text.
pub(crate) fn all(cluster: &Cluster) {
    let chosen = std::env::var("SCENARIO").unwrap_or_default();
    let scenarios: Vec<_> = table::scenarios().into_iter().filter(|one| one.name.contains(&chosen)).collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((number, scenario)) = take(&scenarios, &next) {
                    let began = Instant::now();
                    let result = catch_unwind(AssertUnwindSafe(|| one(cluster, scenario)));
                    let why = result.unwrap_or_else(|panic| Err(said_in(panic.as_ref()))).err();
                    results.lock().unwrap().push((number, scenario.name, began.elapsed(), why));
                }
            });
        }
    });
    let mut results: Vec<Line> = results.into_inner().unwrap();
    results.sort_by_key(|line| line.0);
    println!("{}", shown(cluster, &results));
    let failed: Vec<_> = results.iter().filter(|line| line.3.is_some()).map(|line| line.1).collect();
    assert!(failed.is_empty(), "on {}: {failed:?}", cluster.master);
}

fn take<'a>(scenarios: &'a [Scenario], next: &AtomicUsize) -> Option<(usize, &'a Scenario)> {
    let number = next.fetch_add(1, Ordering::SeqCst);
    scenarios.get(number).map(|scenario| (number, scenario))
}

fn said_in(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

fn shown(cluster: &Cluster, results: &[Line]) -> String {
    let mut text = format!("{:34} {:>8}\n", "scenario", cluster.master);
    for (_, name, took, why) in results {
        let result = if why.is_none() { "ok" } else { "FAILED" };
        let _ = writeln!(text, "{name:34} {result:>8} {:6.1} s", took.as_secs_f64());
    }
    for (_, name, _, why) in results {
        if let Some(why) = why {
            let _ = writeln!(text, "\n--- {name} on {}\n{why}", cluster.master);
        }
    }
    text
}

/// Launches one scenario and says all that is wrong with it.
fn one(cluster: &Cluster, scenario: &Scenario) -> Result<(), String> {
    let files = cluster.files(scenario.name);
    if let Some((name, bytes)) = &scenario.file {
        fs::write(files.join(name), bytes).unwrap();
    }
    let port = free_offered_port();
    let place = |word: &str| word.replace("{files}", files.to_str().unwrap()).replace("{port}", &port.to_string());
    let report = match scenario.report {
        Report::Json => "--format=json",
        Report::Quiet => "--quiet",
    };
    let mut words: Vec<String> = vec![report.to_owned()];
    words.extend(scenario.options.iter().map(|word| place(word)));
    words.extend(scenario.image.map(str::to_owned));
    words.extend(scenario.cmd.iter().map(|word| place(word)));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let launch = cluster.launcher(&words).limit(LIMIT).start();
    let mut wrong = String::new();
    act(&scenario.act, &launch, port, &mut wrong);
    let ended = launch.finish();
    judge(cluster, scenario, &ended, &files, &mut wrong);
    if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong}{}", ended.said())) }
}

fn act(act: &Act, launch: &Running, port: u16, wrong: &mut String) {
    match act {
        Act::Nothing => {}
        Act::Signals(signals) => {
            for ((text, signal), state) in signals.iter().zip(["TASK_RUNNING", "TASK_KILLING"]) {
                launch.wait_for_stdout(text);
                // Output and states come on ways of their own, and either may be the quicker one.
                launch.wait_for_stderr(state);
                launch.signal(*signal);
            }
        }
        Act::Fetch(expected) => {
            launch.wait_for_stdout("up");
            let fetched = fetch(port);
            if fetched != *expected {
                let _ = writeln!(wrong, "port {port} said {fetched:?}");
            }
        }
    }
}

fn judge(cluster: &Cluster, scenario: &Scenario, ended: &Ended, files: &Path, wrong: &mut String) {
    if ended.code != Some(scenario.code) {
        let _ = writeln!(wrong, "expected code {}", scenario.code);
    }
    compare("stdout", &scenario.stdout, &ended.stdout, files, wrong);
    match scenario.report {
        Report::Quiet => compare("stderr", &scenario.stderr, &ended.stderr, files, wrong),
        Report::Json => {
            let transcript = Transcript::of(&ended.stderr);
            compare("stderr", &scenario.stderr, &transcript.stderr, files, wrong);
            let (path, expected) = (transcript.path(), scenario.path(cluster.master));
            if path != expected {
                let _ = writeln!(wrong, "expected {expected:?}\n     got {path:?}");
            }
            if transcript.count("output_started") > 1 {
                let _ = writeln!(wrong, "the output started more than once");
            }
            for word in scenario.message.iter().filter(|word| !transcript.message().contains(**word)) {
                let _ = writeln!(wrong, "the message has no {word:?}: {:?}", transcript.message());
            }
            if let Err(left) = eventually(|| gone(cluster, &transcript)) {
                let _ = writeln!(wrong, "{left}");
            }
        }
    }
}

fn compare(name: &str, expected: &Bytes, got: &[u8], files: &Path, wrong: &mut String) {
    let is_right = match expected {
        Bytes::Exactly(bytes) => got == bytes.as_slice(),
        Bytes::AsWritten(size, file) => got.len() == *size && got == read(&files.join(file)).as_slice(),
        Bytes::Words(words) => words.iter().all(|word| String::from_utf8_lossy(got).contains(word)),
    };
    if !is_right {
        let _ = writeln!(wrong, "{name} is another one ({} bytes)", got.len());
        if let Bytes::Exactly(bytes) = expected {
            let _ = writeln!(wrong, "expected: {}", bytes[..bytes.len().min(300)].escape_ascii());
        }
    }
}

/// Neither the framework nor the container is there.
fn gone(cluster: &Cluster, transcript: &Transcript) -> Result<(), String> {
    if let Some(id) = transcript.field("subscribed", "framework_id").as_str()
        && cluster.has_framework(id)
    {
        return Err(format!("the master still has the framework {id}"));
    }
    match transcript.container() {
        Some(id) if cluster.has_container(id) => Err(format!("the engine still has the container {id}")),
        Some(_) | None => Ok(()),
    }
}

/// A port that the agents offer and on which nothing listens now; another one for each call.
fn free_offered_port() -> u16 {
    static USED: AtomicUsize = AtomicUsize::new(0);
    // Tests run in processes of their own, side by side: each starts to look somewhere else.
    let start = 31_000 + (std::process::id() as usize * 60 + USED.fetch_add(1, Ordering::SeqCst)) % 900;
    let mut ports = u16::try_from(start).unwrap()..32_000;
    ports.find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok()).expect("a free port")
}

fn fetch(port: u16) -> String {
    let deadline = Instant::now() + ANSWERS_WITHIN;
    loop {
        let mut text = String::new();
        // The engine's proxy accepts before the container listens, and then closes without a byte.
        if let Ok(mut connection) = TcpStream::connect(("127.0.0.1", port)) {
            let _ = connection.read_to_string(&mut text);
        }
        if !text.is_empty() || Instant::now() > deadline {
            return text;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
