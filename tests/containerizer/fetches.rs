//! What tasks want in their sandboxes before they start: from the web and from files, unpacked, as the task's user.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use proto::ecp::Launch;
use proto::mesos::command_info::Uri;

use crate::harness::{Authority, Nginx, closed_port, nginx};
use crate::slave::{Container, Slave};

fn uri(value: &str) -> Uri {
    Uri { value: value.to_owned(), ..Uri::default() }
}

fn executor(container: &Container<'_>, script: &str, uris: Vec<Uri>) -> Launch {
    let mut launch = container.custom_executor(script);
    launch.executor_info.as_mut().unwrap().command.as_mut().unwrap().uris = uris;
    launch
}

#[track_caller]
fn failure(container: &Container<'_>, launch: &Launch) -> String {
    container.launch(launch);
    let end = container.wait();
    assert!(end.killed && end.message().starts_with("cannot start the container on "), "{end:?}");
    assert!(!end.message().contains("canary"), "{end:?}");
    end.message().to_owned()
}

/// A web server of a few files, which answers by the end of the path.
struct Web {
    address: String,
    taken: mpsc::Receiver<String>,
}

impl Web {
    fn serving(files: Vec<(&'static str, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, taken) = mpsc::channel();
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let (files, sender) = (files.clone(), sender.clone());
                std::thread::spawn(move || answer(&mut client, &files, &sender));
            }
        });
        Self { address, taken }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn answer(client: &mut TcpStream, files: &[(&'static str, Vec<u8>)], sender: &mpsc::Sender<String>) {
    let mut request = [0; 8 << 10];
    let Ok(count) = client.read(&mut request) else { return };
    let head = String::from_utf8_lossy(&request[..count]).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    let is_known = head.to_ascii_lowercase().contains("if-none-match: \"v1\"");
    let _ = sender.send(if is_known { format!("{path} again") } else { path.clone() });
    let found = files.iter().find(|(name, _)| *name == path);
    let _ = match (path.as_str(), found) {
        ("/moved", _) => write!(
            client,
            "HTTP/1.1 302 Found\r\nLocation: /here.txt\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        ("/kept", _) if is_known => {
            write!(client, "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nConnection: close\r\n\r\n")
        }
        ("/kept", _) => {
            write!(client, "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 4\r\nConnection: close\r\n\r\nkept")
        }
        ("/cut", _) => write!(client, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nhalf"),
        // Nothing more, until the other side has gone.
        ("/silent", _) => client.read_to_end(&mut Vec::new()).map(drop),
        (_, Some((_, bytes))) => {
            write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len())
                .and_then(|()| client.write_all(bytes))
        }
        (_, None) => write!(client, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    };
}

fn tar_gz(files: &Path) -> Vec<u8> {
    let ran = std::process::Command::new("tar").arg("-C").arg(files).args(["-czf", "-", "."]).output().unwrap();
    assert!(ran.status.success());
    ran.stdout
}

#[test]
fn files_come_from_the_web_and_from_the_host_and_are_unpacked() {
    let slave = Slave::new();
    let files = slave.stage.files().join("files");
    std::fs::create_dir_all(files.join("d")).unwrap();
    std::fs::write(files.join("d/packed"), "packed").unwrap();
    let archive = tar_gz(&files);
    let local = slave.stage.files().join("of the host");
    std::fs::write(&local, "host").unwrap();
    let web = Web::serving(vec![
        ("/here.txt", b"here".to_vec()),
        ("/run.sh", b"#!/bin/sh\necho ran $1\n".to_vec()),
        ("/a.tar.gz", archive.clone()),
        ("/b.tgz", archive),
    ]);
    let container = slave.container("c1");
    let script =
        "./run.sh it; for f in here.txt d/packed in/to/it 'of the host'; do cat \"$f\"; echo; done; ls b.tgz moved";
    let uris = vec![
        Uri { executable: Some(true), ..uri(&web.url("/run.sh?token=canary")) },
        uri(&web.url("/here.txt")),
        uri(&web.url("/a.tar.gz")),
        Uri { extract: Some(false), ..uri(&web.url("/b.tgz")) },
        Uri { output_file: Some("in/to/it".to_owned()), cache: Some(true), ..uri(&web.url("/here.txt")) },
        uri(&web.url("/moved")),
        uri(&format!("file://{}", local.display())),
    ];
    container.launch(&executor(&container, script, uris));
    let end = container.wait();
    assert_eq!(end.status, Some(0), "{end:?} {}", String::from_utf8_lossy(&container.stderr()));
    let stdout = String::from_utf8(container.stdout()).unwrap();
    assert_eq!(stdout, "ran it\nhere\npacked\nhere\nhost\nb.tgz\nmoved\n");
    let mode = std::fs::metadata(container.sandbox.join("run.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(container.stderr(), b"");
}

#[test]
fn what_may_be_cached_is_not_sent_again_while_it_is_the_same() {
    let slave = Slave::new();
    let web = Web::serving(vec![]);
    let user = if rustix::process::geteuid().is_root() { Some("nobody") } else { None };
    for expected in ["/kept", "/kept again", "/kept again"] {
        let container = slave.container("c");
        let cached = Uri { cache: Some(true), ..uri(&web.url("/kept")) };
        let mut launch = executor(&container, "cat kept", vec![cached]);
        launch.user = user.map(str::to_owned);
        if user.is_some() {
            std::os::unix::fs::chown(&container.sandbox, Some(65_534), None).unwrap();
        }
        container.launch(&launch);
        assert_eq!((container.wait().status, container.stdout()), (Some(0), b"kept".to_vec()));
        assert_eq!(web.taken.recv_timeout(Duration::from_secs(60)).unwrap(), expected);
    }
    // One that may not be cached is asked for as if nothing were known.
    let container = slave.container("c");
    container.launch(&executor(&container, "cat kept", vec![uri(&web.url("/kept"))]));
    assert_eq!(container.wait().status, Some(0));
    assert_eq!(web.taken.recv_timeout(Duration::from_secs(60)).unwrap(), "/kept");
}

#[test]
fn what_cannot_be_fetched_is_named() {
    let mut slave = Slave::new();
    slave.set("LAUNCH_CONTAINERIZER_FETCH_SILENCE_LIMIT", "500ms");
    slave.set("LAUNCH_CONTAINERIZER_FETCH_MAX_FILE", "100k");
    let web = Web::serving(vec![("/big", vec![0; 200 << 10]), ("/no.tgz", b"no archive".to_vec())]);
    let closed = closed_port();
    for (value, reason) in [
        (web.url("/none?token=canary"), "404 Not Found"),
        (web.url("/cut"), "cannot fetch"),
        (web.url("/silent"), "nothing has come for 0.5 seconds"),
        (web.url("/big"), "more than 102400 bytes"),
        (web.url("/no.tgz"), "it cannot be unpacked"),
        (format!("http://me:canary@{closed}/x"), "onnection refused"),
        ("hdfs://namenode/x".to_owned(), "hdfs:// is none of http://, https:// and file://"),
        ("file:///no/such/file".to_owned(), "No such file"),
        ("relative/x".to_owned(), "neither an address nor an absolute path"),
    ] {
        let container = slave.container("c");
        let message = failure(&container, &executor(&container, "true", vec![uri(&value)]));
        assert!(message.contains("into the sandbox: ") && message.contains(reason), "{value}: {message}");
    }
    let container = slave.container("out");
    let out = Uri { output_file: Some("../out".to_owned()), ..uri(&web.url("/no.tgz")) };
    let message = failure(&container, &executor(&container, "true", vec![out]));
    assert!(message.contains("leads out of the sandbox"), "{message}");
}

/// As a slave does it: the sandbox is the user's.
#[test]
fn the_tasks_user_fetches_and_owns_and_no_one_elses_files_are_read() {
    let slave = Slave::new();
    // Only root can let others do it; else every task is ours.
    let own = rustix::process::geteuid();
    let user = if own.is_root() { 65_534 } else { own.as_raw() };
    let secret = slave.stage.files().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).unwrap();
    let web = Web::serving(vec![("/here.txt", b"here".to_vec())]);
    let prepare = |name: &str, value: &str| {
        let container = slave.container(name);
        std::os::unix::fs::chown(&container.sandbox, Some(user), None).unwrap();
        let mut launch = executor(&container, "cat here.txt", vec![uri(value)]);
        launch.user = Some("nobody".to_owned());
        (container, launch)
    };
    let (container, launch) = prepare("mine", &web.url("/here.txt"));
    container.launch(&launch);
    assert_eq!(container.wait().status, Some(0));
    assert_eq!(container.stdout(), b"here");
    assert_eq!(std::fs::metadata(container.sandbox.join("here.txt")).unwrap().uid(), user);
    let (container, launch) = prepare("others", secret.to_str().unwrap());
    assert!(failure(&container, &launch).contains("Permission denied"));
    let (container, mut launch) = prepare("unknown", &web.url("/here.txt"));
    launch.user = Some("no-such-user".to_owned());
    assert!(failure(&container, &launch).contains("\"no-such-user\" is not known on this host"));
}

#[test]
fn a_destroy_during_the_fetch_ends_it() {
    let slave = Slave::new();
    let web = Web::serving(vec![]);
    let container = slave.container("c1");
    container.launch(&executor(&container, "true", vec![uri(&web.url("/silent"))]));
    assert_eq!(web.taken.recv_timeout(Duration::from_secs(60)).unwrap(), "/silent");
    container.destroy();
    assert!(slave.remembered().is_empty());
}

#[test]
fn hooks_run_before_and_after_a_container() {
    let mut slave = Slave::new();
    let seen = slave.stage.files().join("seen");
    let hook = slave.stage.files().join("hook");
    let script = "#!/bin/sh\necho $LAUNCH_CONTAINERIZER_HOOK $MESOS_CONTAINER_ID $1 $(wc -c | tr -d ' ') >> \"$(dirname $0)/seen\"\n\
                  test -z \"$(docker ps -aq --filter name=$MESOS_CONTAINER_NAME)\"\n";
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["LAUNCH", "DESTROY"] {
        slave.set(&format!("LAUNCH_CONTAINERIZER_HOOKS_{name}"), &format!("[\"{}\", \"word\"]", hook.display()));
    }
    let size = |launch: &Launch| prost::Message::encoded_len(launch);
    let container = slave.container("ends");
    let launch = container.custom_executor("true");
    container.launch(&launch);
    assert_eq!(container.wait().status, Some(0));
    let line = |hook: &str, container: &Container<'_>| format!("{hook} {} word {}\n", container.id, size(&launch));
    let mut expected = line("launch", &container) + &line("destroy", &container);
    assert_eq!(std::fs::read_to_string(&seen).unwrap(), expected);
    // Also when nobody is there to see the end.
    let container = slave.container("kill");
    let started = container.pipe("started");
    let launch = container.custom_executor("echo > started; sleep 1000; true");
    container.launch(&launch);
    started.read();
    container.kill_supervisor();
    container.destroy();
    let line = |hook: &str| format!("{hook} {} word {}\n", container.id, size(&launch));
    expected += &(line("launch") + &line("destroy"));
    assert_eq!(std::fs::read_to_string(&seen).unwrap(), expected);
    slave.set("LAUNCH_CONTAINERIZER_HOOKS_LAUNCH", "[\"/bin/false\"]");
    let container = slave.container("refused");
    assert!(failure(&container, &container.custom_executor("true")).contains("the launch hook \"/bin/false\" failed"));
}

#[test]
fn a_file_behind_tls_is_fetched_from_whom_the_slaves_authorities_vouch_for() {
    let mut slave = Slave::new();
    let files = slave.stage.files();
    let (ours, others) = (Authority::new(&files, "ours"), Authority::new(&files, "others"));
    let web = Web::serving(vec![("/file", b"secret".to_vec())]);
    let server = |name: &str, host: &str, has_expired| nginx::Server {
        certificate: ours.certify(name, &[host], has_expired),
        clients: None,
        users: None,
        prefix: "/",
    };
    let servers =
        [server("good", "localhost", false), server("other", "other.example", false), server("old", "localhost", true)];
    let nginx = Nginx::start(&files.join("nginx"), &web.address, &servers);
    let url = |number: usize| format!("https://{}/file", nginx.address(number));

    slave.set("SSL_CERT_FILE", &ours.file());
    let container = slave.container("trusted");
    container.launch(&executor(&container, "cat file", vec![uri(&url(0))]));
    let end = container.wait();
    assert_eq!((end.status, container.stdout().as_slice()), (Some(0), &b"secret"[..]), "{end:?}");
    for (number, reason) in [(1, "its certificate is for another host"), (2, "its certificate has expired")] {
        let container = slave.container("refused");
        let error = failure(&container, &executor(&container, "true", vec![uri(&url(number))]));
        assert!(error.contains(&format!("cannot fetch {} into the sandbox: {reason}", url(number))), "{error}");
    }
    slave.set("SSL_CERT_FILE", &others.file());
    let container = slave.container("unknown");
    let error = failure(&container, &executor(&container, "true", vec![uri(&url(0))]));
    assert!(error.contains("from an authority that is not trusted here") && error.contains("SSL_CERT_FILE"), "{error}");
}

/// A slave ignores SIGPIPE, which its children inherit; a shell cannot undo that for those that it starts.
#[test]
fn a_slave_that_ignores_sigpipe_leaves_hooks_and_tasks_their_own() {
    let mut slave = Slave::new();
    slave.ignore_sigpipe();
    let hook = slave.stage.files().join("hook");
    let ignored = slave.stage.files().join("ignored");
    std::fs::write(&hook, format!("#!/bin/sh\ngrep SigIgn /proc/self/status > {}\n", ignored.display())).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    slave.set("LAUNCH_CONTAINERIZER_HOOKS_LAUNCH", &format!("[\"{}\"]", hook.display()));
    let container = slave.container("c1");
    container.launch(&container.custom_executor("grep SigIgn /proc/self/status; yes | head -n 1; exit 3"));
    assert_eq!(container.wait().status, Some(3 << 8));
    let mask = |text: &[u8]| {
        let line = std::str::from_utf8(text).unwrap().lines().next().unwrap();
        u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
    };
    const SIGPIPE: u64 = 1 << 12;
    assert_eq!(mask(&std::fs::read(ignored).unwrap()) & SIGPIPE, 0);
    assert_eq!(mask(&container.stdout()) & SIGPIPE, 0);
    assert!(container.stdout().ends_with(b"\ny\n"));
}
