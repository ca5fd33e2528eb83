//! A real master and real agents behind a real nginx that speaks TLS for them.

use crate::cluster::{Cluster, Master};
use crate::harness::{Authority, Detour, Ended, IMAGE, Nginx, nginx};

const SMALL: [&str; 2] = ["--cpus=0.1", "--mem=32"];
const SCRIPT: &str = "seq 1000; exit 6";

const PLAIN: usize = 0;
const PREFIXED: usize = 1;
const EXPIRED: usize = 2;
const OTHER_HOST: usize = 3;
const CLIENTS: usize = 4;

/// The cluster and what stands before it.
struct Rig {
    nginx: Nginx,
    cluster: Cluster,
    ca: Authority,
    other: Authority,
}

impl Rig {
    fn start() -> Self {
        let cluster = Cluster::start(Master::Mesos("1.11.0"), &[]);
        let files = cluster.files("tls");
        let ca = Authority::new(&files, "authority");
        let other = Authority::new(&files, "other-authority");
        let localhost = ca.certify("localhost", &["localhost", "127.0.0.1"], false);
        let server = |certificate: &nginx::Certificate, prefix| nginx::Server {
            certificate: certificate.clone(),
            clients: None,
            users: None,
            prefix,
        };
        let servers = [
            server(&localhost, "/"),
            server(&localhost, "/deep/mesos/"),
            server(&ca.certify("expired", &["localhost"], true), "/"),
            server(&ca.certify("elsewhere", &["elsewhere.example"], false), "/"),
            nginx::Server { clients: Some(ca.file()), ..server(&localhost, "/") },
        ];
        let nginx = Nginx::start(&files.join("nginx"), cluster.address(), &servers);
        Self { nginx, cluster, ca, other }
    }

    fn https(&self, server: usize) -> String {
        format!("https://{}", self.nginx.address(server))
    }

    /// A launch at this address, trusting the rig's authority.
    fn run(&self, master: &str, options: &[&str]) -> Ended {
        let (master, cacert) = (format!("--master={master}"), format!("--cacert={}", self.ca.file()));
        let words = [&[master.as_str(), &cacert, "--quiet"], &SMALL[..], options, &[IMAGE, SCRIPT]].concat();
        self.cluster.stage.launcher(words).run()
    }

    fn succeeds(&self, master: &str, options: &[&str]) {
        let expected: String = (1..=1000).map(|number| format!("{number}\n")).collect();
        self.run(master, options).expect_code(6).expect_stdout(expected).expect_stderr("");
    }

    #[track_caller]
    fn fails(&self, master: &str, options: &[&str], words: &[&str]) {
        self.run(master, options).expect_code(125).expect_stdout("").expect_one_line(words);
    }
}

#[test]
fn a_master_behind_tls_is_reached_and_agents_wherever_they_are() {
    let rig = Rig::start();
    // The agents offer an address without TLS, and no secret would be shown there.
    rig.succeeds(&rig.https(PLAIN), &[]);
    assert!(rig.nginx.requests().contains("POST /api/v1/scheduler 200"), "{}", rig.nginx.requests());
    assert!(!rig.nginx.requests().contains("/files/"), "{}", rig.nginx.requests());

    // All by the proxy, below a path.
    let base = format!("{}/deep/mesos", rig.https(PREFIXED));
    rig.succeeds(&base, &[&format!("--agent-url={base}")]);
    let requests = rig.nginx.requests();
    assert!(requests.contains("POST /deep/mesos/api/v1/scheduler 200"), "{requests}");
    assert!(requests.contains("GET /deep/mesos/files/"), "{requests}");

    // A plain master whose agents are behind TLS.
    rig.succeeds(rig.cluster.address(), &[&format!("--agent-url={}", rig.https(PLAIN))]);
    assert!(rig.nginx.requests().contains("GET /files/"), "{}", rig.nginx.requests());

    let client = rig.ca.certify("client", &[], false);
    let [cert, key] = [format!("--cert={}", client.certificate), format!("--key={}", client.key)];
    let agents = format!("--agent-url={}", rig.https(CLIENTS));
    rig.succeeds(&rig.https(CLIENTS), &[&cert, &key, &agents]);
    let both = [&client.certificate, &client.key].map(|file| std::fs::read_to_string(file).unwrap()).concat();
    let both = rig.cluster.stage.private_file("both.pem", &both);
    rig.succeeds(&rig.https(CLIENTS), &[&format!("--cert={both}"), &agents]);

    // Agents that are said to speak no TLS, and do.
    let agents = format!("--agent-url=http://{}", rig.nginx.address(PLAIN));
    let lost = rig.run(rig.cluster.address(), &[&agents]);
    lost.expect_code(6).expect_stdout("").expect_one_line(&[
        "bytes",
        "stdout",
        &rig.nginx.address(PLAIN),
        "TLS",
        "https://",
    ]);

    // A secret that was given for TLS does not go to an agent without.
    let secret = rig.cluster.stage.private_file("secret", "ada canary");
    let kept = rig.run(&rig.https(PLAIN), &[&format!("--secret-file={secret}")]);
    kept.expect_code(6).expect_stdout("").expect_one_line(&["bytes", "stdout", "TLS", "--agent-url"]);
}

#[test]
fn a_proxy_that_breaks_connections_for_some_seconds_loses_no_output() {
    let rig = Rig::start();
    let detour = Detour::to(rig.nginx.address(PLAIN));
    let (master, cacert) = (format!("--master={}", rig.cluster.address()), format!("--cacert={}", rig.ca.file()));
    let agents = format!("--agent-url=https://{}", detour.address());
    let volume = format!("{}:/data", rig.cluster.files("tls").display());
    let script = "echo up; until [ -e /data/go ]; do sleep 0.1; done; seq 1000; exit 6";
    let options = [master.as_str(), &cacert, &agents, "--format=json", "-v", &volume];
    let launch = rig.cluster.stage.launcher([&options[..], &SMALL, &[IMAGE, script]].concat()).start();
    launch.wait_for_stdout("up\n");
    detour.break_connections();
    std::fs::write(rig.cluster.files("tls").join("go"), "").unwrap();
    launch.wait_for_stderr("TASK_FAILED");
    // Pauses between attempts double from a tenth of a second on: this takes longer than what refuses is given.
    detour.wait_for_broken(5);
    detour.pass();
    let expected: String = (1..=1000).map(|number| format!("{number}\n")).collect();
    launch.finish().expect_code(6).expect_stdout(format!("up\n{expected}"));
}

#[test]
fn what_is_wrong_with_tls_is_said_in_one_line() {
    let rig = Rig::start();
    let at = |server: usize| rig.nginx.address(server);
    rig.fails(&rig.https(EXPIRED), &[], &[&at(EXPIRED), "certificate has expired"]);
    rig.fails(&rig.https(OTHER_HOST), &[], &[&at(OTHER_HOST), "another host", "elsewhere.example"]);
    let other = format!("--cacert={}", rig.other.file());
    rig.fails(&rig.https(PLAIN), &[&other], &[&at(PLAIN), "authority that is not trusted", "--cacert"]);
    rig.fails(&rig.https(CLIENTS), &[], &[&at(CLIENTS), "wants a client certificate", "--cert"]);
    let client = rig.other.certify("client", &[], false);
    let [cert, key] = [format!("--cert={}", client.certificate), format!("--key={}", client.key)];
    rig.fails(&rig.https(CLIENTS), &[&cert, &key], &[&at(CLIENTS), "refuses the client certificate", "--cert"]);
    rig.fails(&format!("http://{}", at(PLAIN)), &[], &[&at(PLAIN), "speaks TLS", "https://"]);
    let quick = "--connect-timeout=3s";
    rig.fails(&format!("https://{}", rig.cluster.address()), &[quick], &[rig.cluster.address(), "TLS", "http://"]);
    rig.fails(
        &format!("{}/elsewhere", rig.https(PREFIXED)),
        &[quick],
        &[&at(PREFIXED), "404", "/elsewhere/api/v1/scheduler"],
    );

    // The system's own authorities do not know ours.
    let master = format!("--master={}", rig.https(PLAIN));
    let ended = rig.cluster.stage.launcher([master.as_str(), "--quiet", IMAGE, "true"]).run();
    ended.expect_code(125).expect_one_line(&[&at(PLAIN), "--cacert"]);
    // They can be named by where OpenSSL looks for them, too.
    let words = [&[master.as_str(), "--quiet"], &SMALL[..], &[IMAGE, "echo hello"]].concat();
    let ended = rig.cluster.stage.launcher(words).env("SSL_CERT_FILE", &rig.ca.file()).run();
    ended.expect_code(0).expect_stdout("hello\n").expect_stderr("");

    let key = rig.other.certify("stranger", &[], false).key;
    let mismatched = [cert.as_str(), &format!("--key={key}")];
    rig.fails(&rig.https(CLIENTS), &mismatched, &["--key", "is not the key of the certificate"]);
}
