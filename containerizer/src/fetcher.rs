//! Fetches a task's URIs into its sandbox before its container is created.
//!
//! The work is done by a process of its own, which is the task's user: what that user may not read is not fetched, and what is
//! written is that user's. It has nothing of the slave's environment, learns of the URIs through a pipe (they may have
//! secrets in them), and ends with us.
//!
//! ```text
//! supervisor --Request--> docker-executor --fetch (as the user, in the sandbox): download -> unpack, see fetcher/
//!            <--Answer---
//! ```

mod cache;
mod child;
mod download;
mod unpack;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use proto::ecp::Launch;
use proto::mesos::command_info::Uri;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

pub use self::child::run;
use crate::config::Config;
use crate::environment::Environment;

/// What the message wants in the sandbox.
pub(crate) fn uris(launch: &Launch) -> &[Uri] {
    let task = launch.task_info.as_ref().and_then(|task| task.command.as_ref());
    let executor = launch.executor_info.as_ref().and_then(|executor| executor.command.as_ref());
    task.or(executor).map_or(&[], |command| command.uris.as_slice())
}

/// Fetches them one after the other. Dropping the future ends it. Makes the sandbox this process's current directory: the
/// user that fetches has a way into the sandbox, but need not have one to it.
///
/// # Errors
/// The first that cannot be had, by its name.
pub(crate) async fn fetch(launch: &Launch, config: &Config, environment: &Environment) -> Result<(), FetchError> {
    let uris = uris(launch);
    if uris.is_empty() {
        return Ok(());
    }
    std::env::set_current_dir(launch.directory()).map_err(FetchError::Spawn)?;
    let limits = Limits {
        silence: config.fetch.silence_limit,
        max_file_bytes: config.fetch.max_file,
        max_unpacked_bytes: config.fetch.max_unpacked,
        max_entries: config.fetch.max_entries,
        max_cache_bytes: config.fetch.max_cache,
    };
    let user = other_user(launch)?;
    let wants_cache = limits.max_cache_bytes > 0 && uris.iter().any(Uri::cache);
    // Without one everything is fetched anew.
    let cache = wants_cache.then(|| cache_directory(environment, user).ok()).flatten();
    let request = Request { items: uris.iter().map(Item::of).collect(), limits, has_cache: cache.is_some() };
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0(crate::supervisor::PROGRAM).arg(OPTION).env_clear();
    for name in ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some((uid, gid)) = user {
        command.gid(gid).uid(uid);
    }
    let mut command = Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    command.stderr(cache.map_or_else(Stdio::null, Stdio::from));
    let mut child = command.spawn().map_err(FetchError::Spawn)?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    let mut line = serde_json::to_vec(&request).expect("plain fields always serialize");
    line.push(b'\n');
    // One that does not read tells why by its end. The pipe stays open: its end means ours.
    let _ = stdin.write_all(&line).await;
    let output = child.wait_with_output().await.map_err(FetchError::Spawn)?;
    drop(stdin);
    match serde_json::from_slice(&output.stdout) {
        Ok(Answer::Done) if output.status.success() => Ok(()),
        Ok(Answer::Failed { uri, reason }) => Err(FetchError::Uri { uri, reason }),
        _ => Err(FetchError::Vanished { status: output.status }),
    }
}

/// The user's directory of what may be used again, made where it is missing.
fn cache_directory(environment: &Environment, user: Option<(u32, u32)>) -> io::Result<File> {
    let work_directory = environment.work_directory().map_err(io::Error::other)?;
    let (uid, gid) = user.unwrap_or((rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
    let path = work_directory.join("launch-container").join("fetch-cache").join(uid.to_string());
    DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    std::os::unix::fs::chown(&path, Some(uid), Some(gid))?;
    File::open(&path)
}

/// The user that the slave made the sandbox for, where that is not us.
fn other_user(launch: &Launch) -> Result<Option<(u32, u32)>, FetchError> {
    let Some(name) = launch.user.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
    let found = nix::unistd::User::from_name(name).map_err(|error| FetchError::Spawn(error.into()))?;
    let user = found.ok_or_else(|| FetchError::User { name: name.to_owned() })?;
    let is_other = rustix::process::geteuid().is_root() && !user.uid.is_root();
    Ok(is_other.then(|| (user.uid.as_raw(), user.gid.as_raw())))
}

/// What the process is asked to do.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    items: Vec<Item>,
    limits: Limits,
    has_cache: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Item {
    uri: String,
    is_executable: bool,
    is_extracted: bool,
    is_cached: bool,
    output_file: Option<String>,
}

impl Item {
    fn of(uri: &Uri) -> Self {
        Self {
            uri: uri.value.clone(),
            is_executable: uri.executable(),
            is_extracted: uri.extract(),
            is_cached: uri.cache(),
            output_file: uri.output_file.clone().filter(|name| !name.is_empty()),
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Limits {
    silence: Duration,
    max_file_bytes: u64,
    max_unpacked_bytes: u64,
    max_entries: u64,
    max_cache_bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done,
    Failed { uri: String, reason: String },
}

/// A URI as it may be shown: without user, password and query, which may be secrets.
fn shown(uri: &str) -> String {
    let end = uri.find(['?', '#']).unwrap_or(uri.len());
    let (bare, rest) = uri.split_at(end);
    let rest = if rest.is_empty() { "" } else { "?..." };
    match bare.split_once("://") {
        Some((scheme, place)) => {
            let (host, path) = place.find('/').map_or((place, ""), |slash| place.split_at(slash));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}{rest}")
        }
        None => format!("{bare}{rest}"),
    }
}

/// Why the sandbox is not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("cannot fetch {uri} into the sandbox: {reason}")]
    Uri { uri: String, reason: String },
    #[error("cannot fetch the task's URIs: its user {name:?} is not known on this host; add it, or name another one")]
    User { name: String },
    #[error("cannot fetch the task's URIs: {0}")]
    Spawn(#[source] io::Error),
    #[error("cannot fetch the task's URIs: the fetching process ended without a word ({status})")]
    Vanished { status: ExitStatus },
}

/// With this option an executor fetches.
pub const OPTION: &str = "--fetch";
/// What a download may need; everything else is the slave's.
const ENVIRONMENT: [&str; 10] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_not_shown() {
        for (uri, expected) in [
            ("https://me:pw@host:1/a/b.tgz?token=t#f", "https://host:1/a/b.tgz?..."),
            ("http://host", "http://host"),
            ("file:///a/b", "file:///a/b"),
            ("/a/b", "/a/b"),
            ("http://me@host/a@b", "http://host/a@b"),
        ] {
            assert_eq!(shown(uri), expected);
        }
    }
}
