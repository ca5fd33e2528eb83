//! Principals and secrets, as real masters and agents check them.

use std::fs;
use std::path::Path;

use crate::cluster::{Cluster, Master};
use crate::harness::{Authority, Ended, IMAGE, Nginx, nginx};

const SECRET: &str = "c4nary-for-the-master";
const AGENTS_SECRET: &str = "c4nary-for-the-agents";
const SMALL: [&str; 2] = ["--cpus=0.1", "--mem=32"];
/// What must be the same for everybody who may launch.
const SCRIPT: &str = "echo hello; exit 6";

/// Masters and agents read their credentials when they start, so these files come first.
struct Credentials {
    directory: tempfile::TempDir,
}

impl Credentials {
    fn new() -> Self {
        let credentials = Self { directory: tempfile::tempdir().unwrap() };
        credentials.file("master", &list(&[("ada", SECRET), ("bob", AGENTS_SECRET)]));
        credentials.file("agents", &list(&[("bob", AGENTS_SECRET)]));
        credentials
    }

    fn file(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    /// A cluster that checks them: at the scheduler API if `of_frameworks`, and always where masters and agents tell of themselves.
    fn cluster(&self, version: &'static str, of_frameworks: bool) -> Cluster {
        let credentials = format!("credentials=file://{}", self.path("master"));
        let agents = format!("http_credentials=file://{}", self.path("agents"));
        let frameworks = ["authenticate_http_frameworks=true", "http_framework_authenticators=basic"];
        let mut flags = vec![credentials.as_str(), &agents];
        flags.extend(["authenticate_http_readonly=true", "authenticate_http_readwrite=true"]);
        flags.extend(frameworks.iter().filter(|_| of_frameworks));
        Cluster::start(Master::Mesos(version), &flags)
    }
}

fn list(credentials: &[(&str, &str)]) -> String {
    let one = |(principal, secret): &(&str, &str)| serde_json::json!({"principal": principal, "secret": secret});
    serde_json::json!({"credentials": credentials.iter().map(one).collect::<Vec<_>>()}).to_string()
}

#[test]
fn a_master_that_wants_credentials_lets_in_who_has_them() {
    for version in ["1.8.1", "1.11.0"] {
        let credentials = Credentials::new();
        let cluster = credentials.cluster(version, true);
        credentials.file("right", &format!("{SECRET}\n"));
        credentials.file("both", &format!("ada {SECRET}"));
        credentials.file("wrong", "c4nary-that-is-wrong");
        credentials.file("of-agents", AGENTS_SECRET);
        let option = |name: &str, file: &str| format!("--{name}={}", credentials.path(file));
        let run = |options: &[&str]| launched(&cluster, options);

        let right = ["--principal=ada", &option("secret-file", "right")];
        run(&right).expect_code(6).expect_stdout("hello\n").expect_stderr("");
        run(&[&option("secret-file", "both")]).expect_code(6).expect_stdout("hello\n").expect_stderr("");
        let agents = ["--agent-principal=bob", &option("agent-secret-file", "of-agents")];
        run(&[right, agents].concat()).expect_code(6).expect_stdout("hello\n").expect_stderr("");

        let master = cluster.address();
        let missing = run(&[]);
        missing.expect_code(125).expect_stdout("");
        missing.expect_one_line(&[master, "401", "--principal", "--secret-file"]);
        let wrong = run(&["--principal=ada", &option("secret-file", "wrong")]);
        wrong.expect_code(125).expect_stdout("").expect_one_line(&[master, "401", "\"ada\"", "--secret-file"]);
        let unknown = run(&["--principal=eve", &option("secret-file", "right")]);
        unknown.expect_code(125).expect_stdout("").expect_one_line(&[master, "401", "\"eve\""]);

        nothing_shows_a_secret(&cluster, &right);
    }
}

/// The files of the agents in this cluster are open, whatever its flags: nginx before them is not. The task runs all the same, and
/// nobody is left to guess why nothing came of it.
#[test]
fn agents_that_want_credentials_keep_only_the_output_back() {
    let credentials = Credentials::new();
    let cluster = credentials.cluster("1.11.0", false);
    credentials.file("both", &format!("bob {AGENTS_SECRET}"));
    credentials.file("wrong", "c4nary-that-is-wrong");
    credentials.file("of-the-master", SECRET);
    let files = cluster.files("nginx");
    let authority = Authority::new(&files, "authority");
    let server = nginx::Server {
        certificate: authority.certify("localhost", &["localhost"], false),
        clients: None,
        users: Some(cluster.stage.private_file("users", &format!("bob:{{PLAIN}}{AGENTS_SECRET}\n"))),
        prefix: "/",
    };
    let nginx = Nginx::start(&files, cluster.address(), &[server]);
    let agents = nginx.address(0);
    let [url, cacert] = [format!("--agent-url=https://{agents}"), format!("--cacert={}", authority.file())];
    let run = |options: &[&str]| launched(&cluster, &[&[url.as_str(), &cacert], options].concat());
    let option = |name: &str, file: &str| format!("--{name}={}", credentials.path(file));

    let right = option("agent-secret-file", "both");
    run(&[&right]).expect_code(6).expect_stdout("hello\n").expect_stderr("");
    let unread = |options: &[&str], words: &[&str]| {
        let ended = run(options);
        ended.expect_code(6).expect_stdout("");
        let always = ["6 bytes", "stdout", &agents, "401", "--agent-principal", "--agent-secret-file"];
        ended.expect_one_line(&[&always[..], words].concat());
    };
    // A principal without a proof is the master's business only.
    unread(&[], &["wants credentials"]);
    unread(&["--principal=ada"], &["wants credentials"]);
    unread(&["--principal=ada", &option("secret-file", "of-the-master")], &["\"ada\""]);
    unread(&["--agent-principal=bob", &option("agent-secret-file", "wrong")], &["\"bob\""]);
}

fn launched(cluster: &Cluster, options: &[&str]) -> Ended {
    let ended = cluster.launcher(&[&["--quiet"], &SMALL[..], options, &[IMAGE, SCRIPT]].concat()).run();
    assert!(!ended.said().contains("c4nary"), "{}", ended.said());
    ended
}

/// Neither to other users, by the command lines of all processes, nor to those who read what is said.
fn nothing_shows_a_secret(cluster: &Cluster, right: &[&str]) {
    for messages in [&["--verbose", "--verbose", "--verbose"][..], &["--format=json"]] {
        let launch =
            cluster.launcher(&[messages, &SMALL[..], right, &[IMAGE, "env; echo up; sleep 300"]].concat()).start();
        launch.wait_for_stdout("up");
        let shown = fs::read_dir("/proc").unwrap().flatten().find(|process| shows_a_secret(&process.path()));
        assert!(shown.is_none(), "{shown:?}");
        launch.interrupt();
        let ended = launch.finish();
        ended.expect_words(&[cluster.address()]);
        assert!(!ended.said().contains("c4nary"), "{}", ended.said());
    }
}

fn shows_a_secret(process: &Path) -> bool {
    let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
    [SECRET, AGENTS_SECRET].iter().any(|secret| String::from_utf8_lossy(&arguments).contains(secret))
}
