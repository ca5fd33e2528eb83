//! Who we are at an image's registry, as `docker login` and credential helpers have it.
//!
//! In this order, the first that knows the registry counts: what the task has fetched into its sandbox, the operator's files,
//! those of the user we run as. Helpers are programs, so only the operator's and the user's files may name them: a task's
//! file that does is no reason to run anything.
//!
//! What is found is never logged, never part of an error, and on no command line.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::config::Config;
use crate::docker::DockerCredentials;
use crate::environment::Environment;
use crate::inside::Inside;
use crate::spec::Image;

/// Where credentials are looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Credentials<'a> {
    pub(crate) config: &'a Config,
    pub(crate) environment: &'a Environment,
    /// `None` where the task has fetched nothing.
    pub(crate) sandbox: Option<&'a Path>,
}

impl Credentials<'_> {
    /// Those for the image's registry; `None` where nobody knows any.
    pub(crate) async fn find(&self, image: &Image) -> Result<Option<DockerCredentials>, CredentialsError> {
        let registry = registry(image);
        if let Some(found) = self.in_sandbox(&registry)? {
            return Ok(Some(found.credentials(&registry)));
        }
        for path in self.files() {
            let Some(file) = read(&path)? else { continue };
            if let Some(helper) = file.helper(&registry)
                && let Some(found) = self.ask(&helper, &registry).await?
            {
                return Ok(Some(found));
            }
            if let Some(found) = file.entry(&registry) {
                return Ok(Some(found.credentials(&registry)));
            }
        }
        Ok(None)
    }

    fn in_sandbox(&self, registry: &str) -> Result<Option<Entry>, CredentialsError> {
        let Some(sandbox) = self.sandbox.filter(|_| self.config.credentials.from_sandbox) else { return Ok(None) };
        let Ok(inside) = Inside::open(sandbox) else { return Ok(None) };
        for name in IN_SANDBOX {
            let opened = match inside.open_file(Path::new(name)) {
                Ok(opened) => opened,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(CredentialsError::Read { path: sandbox.join(name), source }),
            };
            let file = match parse(opened, &sandbox.join(name)) {
                // Anything may be called config.json.
                Err(CredentialsError::Damaged { .. }) if name == "config.json" => continue,
                file => file?,
            };
            if let Some(entry) = file.entry(registry) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = self.config.credentials.files.clone();
        let home = self.environment.get("HOME").map(PathBuf::from);
        let directory = self.environment.get("DOCKER_CONFIG").map(PathBuf::from);
        let directory = directory.or_else(|| home.as_ref().map(|home| home.join(".docker")));
        files.extend(directory.map(|directory| directory.join("config.json")));
        files.extend(home.map(|home| home.join(".dockercfg")));
        files
    }

    /// Asks `docker-credential-NAME get`; `None` when it knows none.
    async fn ask(&self, helper: &str, registry: &str) -> Result<Option<DockerCredentials>, CredentialsError> {
        let failed = |reason: String| CredentialsError::Helper { helper: helper.to_owned(), reason };
        let is_name = !helper.is_empty() && helper.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !is_name {
            return Err(failed("that is no program's name".to_owned()));
        }
        let asked = async {
            let mut child = Command::new(format!("docker-credential-{helper}"))
                .arg("get")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // One that does not read has its reasons, which its end tells.
                let _ = stdin.write_all(server(registry).as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let limit = self.config.credentials.helper_limit;
        let output = match tokio::time::timeout(limit, asked).await {
            Err(_) => return Err(failed(format!("no answer within {} seconds", limit.as_secs_f64()))),
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Ok(Ok(output)) => output,
        };
        if !output.status.success() {
            // The one text that all helpers agree on.
            let is_unknown = String::from_utf8_lossy(&output.stdout).contains("credentials not found");
            return if is_unknown { Ok(None) } else { Err(failed(output.status.to_string())) };
        }
        let answer: Answer =
            serde_json::from_slice(&output.stdout).map_err(|_| failed("its answer is not understood".to_owned()))?;
        let server = Some(server(registry));
        Ok(Some(if answer.username == "<token>" {
            DockerCredentials { identitytoken: Some(answer.secret), serveraddress: server, ..Default::default() }
        } else {
            DockerCredentials {
                username: Some(answer.username),
                password: Some(answer.secret),
                serveraddress: server,
                ..Default::default()
            }
        }))
    }
}

/// A helper's answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The part before the first slash, where it can be a host; else it is the engine's own registry.
fn registry(image: &Image) -> String {
    match image.name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host.to_owned(),
        _ => HUB.to_owned(),
    }
}

/// As a registry is called by those who log in to it.
fn server(registry: &str) -> String {
    if registry == HUB { "https://index.docker.io/v1/".to_owned() } else { registry.to_owned() }
}

/// Both forms of the file: the old one is the inner part of the newer one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    #[serde(default)]
    auths: HashMap<String, Entry>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

impl ConfigFile {
    fn helper(&self, registry: &str) -> Option<String> {
        let own = self.cred_helpers.iter().find(|(key, _)| is_of(key, registry)).map(|(_, helper)| helper);
        own.or(self.creds_store.as_ref()).filter(|helper| !helper.is_empty()).cloned()
    }

    fn entry(&self, registry: &str) -> Option<Entry> {
        let found = self.auths.iter().filter(|(key, _)| is_of(key, registry));
        // Beside a helper there are empty entries, which say that there is something in it.
        found.map(|(_, entry)| entry).find(|entry| !entry.is_empty()).cloned()
    }
}

/// Keys are hosts, or addresses with scheme and path.
fn is_of(key: &str, registry: &str) -> bool {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = bare.split('/').next().unwrap_or_default();
    host == registry || (registry == HUB && ["index.docker.io", "registry-1.docker.io"].contains(&host))
}

#[derive(Clone, Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Entry").finish_non_exhaustive()
    }
}

impl Entry {
    fn is_empty(&self) -> bool {
        [&self.auth, &self.username, &self.identitytoken, &self.registrytoken]
            .iter()
            .all(|field| field.as_deref().is_none_or(str::is_empty))
    }

    fn credentials(self, registry: &str) -> DockerCredentials {
        let decoded = self.auth.as_deref().and_then(user_and_password);
        let (username, password) = match decoded {
            Some((username, password)) => (Some(username), Some(password)),
            None => (self.username, self.password),
        };
        DockerCredentials {
            username,
            password,
            identitytoken: self.identitytoken,
            registrytoken: self.registrytoken,
            serveraddress: Some(server(registry)),
            ..Default::default()
        }
    }
}

fn user_and_password(auth: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    // Old clients filled it up with zero bytes.
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// `None` when it is not there.
fn read(path: &Path) -> Result<Option<ConfigFile>, CredentialsError> {
    match File::open(path) {
        Ok(file) => parse(file, path).map(Some),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(CredentialsError::Read { path: path.to_owned(), source }),
    }
}

/// Whether a file is what credentials are read from, for whoever looks before they are needed.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let file = read(path).map_err(|error| error.to_string())?.unwrap_or_default();
    let is_damaged = |auth: &str| !auth.is_empty() && user_and_password(auth).is_none();
    match file.auths.iter().find(|(_, entry)| entry.auth.as_deref().is_some_and(is_damaged)) {
        Some((registry, _)) => {
            Err(format!("{} has credentials for {registry} that are not base64 of USER:PASSWORD", path.display()))
        }
        None => Ok(()),
    }
}

fn parse(file: File, path: &Path) -> Result<ConfigFile, CredentialsError> {
    let mut text = Vec::new();
    file.take(MAX_FILE_BYTES)
        .read_to_end(&mut text)
        .map_err(|source| CredentialsError::Read { path: path.to_owned(), source })?;
    // What is wrong is not repeated, it may be the secret itself.
    let damaged = |error: serde_json::Error| CredentialsError::Damaged {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
    };
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(damaged)?;
    let is_new = ["auths", "credHelpers", "credsStore"].iter().any(|key| json.get(key).is_some());
    if is_new || json.as_object().is_some_and(|object| object.values().any(|value| !value.is_object())) {
        return serde_json::from_value(json).map_err(damaged);
    }
    let auths = serde_json::from_value(json).map_err(damaged)?;
    Ok(ConfigFile { auths, ..ConfigFile::default() })
}

/// Why it is not known who we are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error("cannot read the registry credentials {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the registry credentials {} are not understood (line {line}, column {column}); `docker login` writes such files",
        path.display()
    )]
    Damaged { path: PathBuf, line: usize, column: usize },
    #[error("the credential helper docker-credential-{helper} failed: {reason}; try `docker-credential-{helper} list`")]
    Helper { helper: String, reason: String },
}

const HUB: &str = "docker.io";
/// Where tasks have them, as Mesos and Marathon say it.
const IN_SANDBOX: [&str; 3] = [".docker/config.json", ".dockercfg", "config.json"];
/// Even a file with hundreds of registries is far smaller.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    struct Place {
        directory: tempfile::TempDir,
        config: Config,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            for part in ["home/.docker", "sandbox/.docker"] {
                std::fs::create_dir_all(directory.path().join(part)).unwrap();
            }
            Self { directory, config: Config::defaults() }
        }

        fn write(&self, name: &str, text: &str) -> &Self {
            std::fs::write(self.directory.path().join(name), text).unwrap();
            self
        }

        async fn find(&self, image: &str) -> Result<Option<(String, String)>, String> {
            let home = self.directory.path().join("home");
            let environment: Environment = [("HOME", home.to_str().unwrap())].into_iter().collect();
            let sandbox = self.directory.path().join("sandbox");
            let credentials = Credentials { config: &self.config, environment: &environment, sandbox: Some(&sandbox) };
            let found = credentials.find(&Image::parse(image).unwrap()).await.map_err(|error| error.to_string())?;
            Ok(found.map(|found| {
                (found.username.or(found.identitytoken).unwrap_or_default(), found.password.unwrap_or_default())
            }))
        }
    }

    fn auths(registry: &str, user_and_password: &str) -> String {
        let auth = STANDARD.encode(user_and_password);
        format!(r#"{{"auths": {{"{registry}": {{"auth": "{auth}"}}}}}}"#)
    }

    fn pair(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[tokio::test]
    async fn the_sandbox_comes_first_then_the_operator_then_the_user() {
        let mut place = Place::new();
        assert_eq!(place.find("r.example/web").await.unwrap(), None);
        place.write("home/.docker/config.json", &auths("r.example", "user:u:1"));
        assert_eq!(place.find("r.example/web").await.unwrap(), pair("user", "u:1"));
        place.write("operator.json", &auths("https://r.example/v2/", "operator:o"));
        place.config.credentials.files = vec![place.directory.path().join("operator.json")];
        assert_eq!(place.find("r.example/web").await.unwrap(), pair("operator", "o"));
        let old = format!(r#"{{"r.example": {{"auth": "{}", "email": ""}}}}"#, STANDARD.encode("task:t"));
        place.write("sandbox/.dockercfg", &old);
        assert_eq!(place.find("r.example/web").await.unwrap(), pair("task", "t"));
        assert_eq!(place.find("other.example/web").await.unwrap(), None);
        place.config.credentials.from_sandbox = false;
        assert_eq!(place.find("r.example/web").await.unwrap(), pair("operator", "o"));
    }

    #[tokio::test]
    async fn images_without_a_registry_are_the_hubs() {
        let place = Place::new();
        place.write("home/.docker/config.json", &auths("https://index.docker.io/v1/", "hub:h"));
        for image in ["web", "team/web", "docker.io/team/web"] {
            assert_eq!(place.find(image).await.unwrap(), pair("hub", "h"), "{image}");
        }
        assert_eq!(place.find("localhost/web").await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_damaged_is_named_and_not_repeated() {
        let place = Place::new();
        place.write("sandbox/config.json", "{\"any\": \"thing\"}");
        assert_eq!(place.find("web").await.unwrap(), None);
        place.write("home/.docker/config.json", "{\"auths\": {\"docker.io\": {\"auth\": [\"canary\"]}}}");
        let error = place.find("web").await.unwrap_err();
        assert!(error.contains("home/.docker/config.json") && !error.contains("canary"), "{error}");
    }

    #[tokio::test]
    async fn a_file_of_the_sandbox_leads_nowhere_else_and_names_no_program() {
        let place = Place::new();
        place.write("secret.json", &auths("r.example", "host:h"));
        std::os::unix::fs::symlink(
            place.directory.path().join("secret.json"),
            place.directory.path().join("sandbox/.dockercfg"),
        )
        .unwrap();
        assert!(place.find("r.example/web").await.is_err());
        std::fs::remove_file(place.directory.path().join("sandbox/.dockercfg")).unwrap();
        place.write("sandbox/.docker/config.json", r#"{"credsStore": "no-such-program"}"#);
        assert_eq!(place.find("r.example/web").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_helper_that_is_not_there_is_named() {
        let place = Place::new();
        place.write("home/.docker/config.json", r#"{"credHelpers": {"r.example": "no-such-helper"}}"#);
        let error = place.find("r.example/web").await.unwrap_err();
        assert!(error.contains("docker-credential-no-such-helper failed"), "{error}");
        assert_eq!(place.find("other.example/web").await.unwrap(), None);
        place.write("home/.docker/config.json", r#"{"credsStore": "../evil"}"#);
        assert!(place.find("r.example/web").await.unwrap_err().contains("no program's name"));
    }
}
