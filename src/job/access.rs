//! How the launcher gets at the cluster: who it is to masters and to agents, whom it trusts, and where agents are.

use std::path::Path;

use proto::http::ClientOptions;
use proto::secret::Credential;
use proto::tls::{Authorities, Identity, Pem, TlsOptions};

use super::JobError;
use crate::cli::{AccessOptions, AgentUrl};
use crate::credentials;

/// What masters and agents are shown, and where the latter are.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `--principal` and `--secret-file`.
    master: Option<Credential>,
    /// `--agent-principal` and `--agent-secret-file`, else as for the master.
    agents: Option<Credential>,
    /// `--cacert`, `--cert`, `--key`.
    tls: TlsOptions,
    /// `--agent-url`.
    pub agent_url: Option<AgentUrl>,
}

impl Access {
    /// Reads the files that are named.
    ///
    /// # Errors
    /// A file that is no use.
    pub fn new(cli: &AccessOptions) -> Result<Self, JobError> {
        let master = credential("--secret-file", cli.principal.as_deref(), cli.secret_file.as_deref())?;
        let agents = match (&cli.agent_principal, &cli.agent_secret_file) {
            (None, None) => master.clone(),
            (principal, Some(file)) => credential("--agent-secret-file", principal.as_deref(), Some(file))?,
            (Some(principal), None) => {
                return Err(JobError::Invalid {
                    option: "--agent-principal",
                    value: principal.clone(),
                    why: "agents want a secret, too; name its file with --agent-secret-file".to_owned(),
                });
            }
        };
        Ok(Self { master, agents, tls: tls(cli)?, agent_url: cli.agent_url.clone() })
    }

    /// The framework's principal, with or without a proof.
    pub(super) fn principal(&self, cli: &AccessOptions) -> Option<String> {
        cli.principal.clone().or_else(|| self.master.as_ref().map(|credential| credential.principal.clone()))
    }

    /// How to talk to masters.
    pub fn to_master(&self) -> ClientOptions {
        ClientOptions { credential: self.master.clone(), tls: self.tls.clone(), ..ClientOptions::default() }
    }

    /// How to talk to agents.
    pub fn to_agents(&self) -> ClientOptions {
        ClientOptions { credential: self.agents.clone(), tls: self.tls.clone(), ..ClientOptions::default() }
    }

    /// Whether agents are shown a secret.
    pub fn has_agent_secret(&self) -> bool {
        self.agents.is_some()
    }
}

fn credential(
    option: &'static str,
    principal: Option<&str>,
    file: Option<&Path>,
) -> Result<Option<Credential>, JobError> {
    let credential = file.map(|file| credentials::read(principal, file)).transpose();
    credential.map_err(|error| JobError::File { option, why: error.to_string() })
}

fn tls(cli: &AccessOptions) -> Result<TlsOptions, JobError> {
    let failed = |option, why: String| JobError::File { option, why };
    let authorities = cli.cacert.as_deref().map(Authorities::read).transpose();
    let authorities = authorities.map_err(|error| failed("--cacert", error.to_string()))?;
    let identity = match &cli.cert {
        None => None,
        Some(certificate) => {
            // Each is opened once: what a pipe holds can be read only once.
            let (option, key) = cli.key.as_ref().map_or(("--cert", certificate), |key| ("--key", key));
            let file = credentials::open_private(key).map_err(|error| failed(option, error.to_string()))?;
            let private = Pem::read_from(key, file).map_err(|error| failed(option, error.to_string()))?;
            let public = (key != certificate).then(|| Pem::read(certificate)).transpose();
            let public = public.map_err(|error| failed("--cert", error.to_string()))?;
            let identity = Identity::new(public.as_ref().unwrap_or(&private), &private);
            Some(identity.map_err(|error| failed(option, error.to_string()))?)
        }
    };
    Ok(TlsOptions { authorities, identity })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::{FileType, Mode};

    use super::super::tests::job;
    use super::*;

    fn secret_file(directory: &tempfile::TempDir, name: &str, text: &str) -> String {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn principals(words: &[&str]) -> (Option<String>, Option<String>, Option<String>) {
        let job = job(&[words, &["busybox"]].concat()).unwrap();
        let principal = |options: ClientOptions| options.credential.map(|credential| credential.principal);
        (job.framework.principal, principal(job.access.to_master()), principal(job.access.to_agents()))
    }

    #[test]
    fn agents_are_shown_what_the_master_is_unless_they_have_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let some = |text: &str| Some(text.to_owned());
        let secret = format!("--secret-file={}", secret_file(&directory, "secret", "canary"));
        let both = format!("--secret-file={}", secret_file(&directory, "both", "eve canary"));
        let agents = format!("--agent-secret-file={}", secret_file(&directory, "agents", "bob canary"));
        assert_eq!(principals(&[]), (None, None, None));
        assert_eq!(principals(&["--principal=ada"]), (some("ada"), None, None));
        assert_eq!(principals(&["--principal=ada", &secret]), (some("ada"), some("ada"), some("ada")));
        assert_eq!(principals(&[&both]), (some("eve"), some("eve"), some("eve")));
        assert_eq!(principals(&[&both, &agents]), (some("eve"), some("eve"), some("bob")));
        assert_eq!(principals(&[&agents]), (None, None, some("bob")));
        let error = job(&["--agent-principal=bob", "busybox"]).unwrap_err().to_string();
        assert!(error.contains("--agent-secret-file"), "{error}");
    }

    #[test]
    fn a_certificate_and_its_key_may_come_through_pipes() {
        let directory = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        // Each is written once: whoever opens it a second time waits for ever.
        let pipe = |name: &str, text: String| {
            let path = directory.path().join(name);
            rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            let shown = path.to_str().unwrap().to_owned();
            std::thread::spawn(move || std::fs::write(path, text));
            shown
        };
        let both = format!("--cert={}", pipe("both", format!("{certificate}{key}")));
        assert!(job(&[&both, "busybox"]).unwrap().access.to_master().tls.identity.is_some());
        let (public, private) = (pipe("certificate", certificate), pipe("key", key));
        let words = [format!("--cert={public}"), format!("--key={private}")];
        assert!(job(&[&words[0], &words[1], "busybox"]).unwrap().access.to_agents().tls.identity.is_some());
    }

    #[test]
    fn a_job_tells_nothing_of_its_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let both = format!("--secret-file={}", secret_file(&directory, "both", "eve canary"));
        let job = job(&[&both, "busybox"]).unwrap();
        let shown = format!("{job:?} {:?} {:?}", job.access, job.access.to_master());
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn a_file_that_is_no_use_is_named_with_its_option() {
        let directory = tempfile::tempdir().unwrap();
        let none = secret_file(&directory, "none", "nothing");
        let open = secret_file(&directory, "open", "nothing");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
        for (words, expected) in [
            (vec![format!("--cacert={none}")], ["--cacert", "no certificate"]),
            (vec!["--cacert=/nonexistent".to_owned()], ["--cacert", "/nonexistent cannot be read"]),
            (vec![format!("--cert={none}")], ["--cert", "no certificate"]),
            (vec![format!("--cert={none}"), format!("--key={open}")], ["--key", "chmod"]),
            (vec![format!("--secret-file={none}")], ["--secret-file", "PRINCIPAL SECRET"]),
            (vec![format!("--agent-secret-file={open}")], ["--agent-secret-file", "chmod"]),
        ] {
            let words: Vec<&str> = words.iter().map(String::as_str).chain(["busybox"]).collect();
            let error = job(&words).unwrap_err().to_string();
            assert!(expected.iter().all(|word| error.contains(word)), "{words:?}: {error}");
        }
    }
}
