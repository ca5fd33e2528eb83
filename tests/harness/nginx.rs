//! A real nginx, and the certificates that it and its clients show.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustix::process::Signal;

use super::running::{Launch, Running};

/// The first start on a machine installs nginx.
const START_LIMIT: Duration = Duration::from_secs(300);

/// More than every server of a test asks for.
const MOST_SERVERS: usize = 16;

/// An authority of certificates, in a directory of its own.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// Files in PEM form.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    /// The file of its certificate.
    pub(crate) fn file(&self) -> String {
        self.directory.join("ca.pem").to_str().unwrap().to_owned()
    }

    /// A certificate for these names, of a server or a client; one that `has_expired` was valid in 2001.
    pub(crate) fn certify(&self, name: &str, names: &[&str], has_expired: bool) -> Certificate {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if has_expired {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2001, 12, 31));
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |kind: &str, text: String| {
            use std::os::unix::fs::PermissionsExt as _;
            let path = self.directory.join(format!("{name}.{kind}"));
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        Certificate { certificate: file("pem", certificate.pem()), key: file("key", key.serialize_pem()) }
    }
}

/// One `server` of the configuration.
pub(crate) struct Server {
    pub(crate) certificate: Certificate,
    /// The authority of those who are let in; `None`: all.
    pub(crate) clients: Option<String>,
    /// A file of the users who are let in, with a line `NAME:{PLAIN}PASSWORD` for each; `None`: all.
    pub(crate) users: Option<String>,
    /// Before the paths of what is behind it, with a slash at each end.
    pub(crate) prefix: &'static str,
}

/// A running nginx; stopped when dropped.
pub(crate) struct Nginx {
    process: Option<Running>,
    directory: PathBuf,
    ports: Vec<u16>,
}

impl Nginx {
    /// Terminates TLS before `upstream`, HOST:PORT, each server on a port of its own.
    pub(crate) fn start(directory: &Path, upstream: &str, servers: &[Server]) -> Self {
        assert!(servers.len() <= MOST_SERVERS);
        std::fs::create_dir_all(directory).unwrap();
        // All are held at once, so that they differ. Nobody else takes one in the moment until nginx has it, or it says so.
        let listeners: Vec<_> = servers.iter().map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let text = configuration(directory, upstream, servers, &ports);
        std::fs::write(directory.join("nginx.conf"), text).unwrap();
        drop(listeners);
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/nginx"));
        command.arg(directory);
        let process = Launch::new(command).limit(START_LIMIT).start();
        process.wait_for_stdout("ready");
        Self { process: Some(process), directory: directory.to_owned(), ports }
    }

    /// HOST:PORT of a server, by the name in most certificates.
    pub(crate) fn address(&self, server: usize) -> String {
        format!("localhost:{}", self.ports[server])
    }

    /// What clients asked for so far: a line `PORT METHOD PATH STATUS` for each request.
    pub(crate) fn requests(&self) -> String {
        std::fs::read_to_string(self.directory.join("access.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            if std::thread::panicking() {
                eprintln!("{}", std::fs::read_to_string(self.directory.join("error.log")).unwrap_or_default());
                process.end(Signal::TERM);
            } else {
                process.signal(Signal::TERM);
                process.finish().expect_code(0);
            }
        }
    }
}

fn configuration(directory: &Path, upstream: &str, servers: &[Server], ports: &[u16]) -> String {
    let directory = directory.display();
    let mut text = format!(
        "events {{ worker_connections 512; }}\n\
         http {{\n\
         log_format short '$server_port $request_method $request_uri $status';\n\
         access_log {directory}/access.log short;\n\
         proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off; proxy_read_timeout 600s;\n"
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        text += &format!("{kind}_temp_path {directory}/{kind};\n");
    }
    for (server, port) in servers.iter().zip(ports) {
        let Server { certificate: Certificate { certificate, key }, clients, users, prefix } = server;
        let users = users.as_ref().map(|file| format!("auth_basic agents; auth_basic_user_file {file};"));
        let verify = clients.as_ref().map(|file| format!("ssl_client_certificate {file}; ssl_verify_client on;"));
        text += &format!(
            "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; {} {}\n\
             location {prefix} {{ proxy_pass http://{upstream}/; }} }}\n",
            verify.unwrap_or_default(),
            users.unwrap_or_default()
        );
    }
    text + "}\n"
}
