//! Sandboxes on disk: made as a slave makes them, and found again by the names under which agents serve them.
//!
//! ```text
//! WORK/slaves/S/frameworks/F/executors/E/runs/C         the sandbox
//! WORK/slaves/S/frameworks/F/executors/E/runs/latest    symbolic link to the last C
//! /frameworks/F/executors/E/runs/latest                 no file: a name, as from Mesos 1.5 on
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

/// Why a sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum SandboxError {
    /// A directory or link.
    #[error("cannot make {}", .path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The user of the task is not known on this host.
    #[error("user {user:?} is not known on this host")]
    UnknownUser {
        /// The name.
        user: String,
    },
    /// It cannot be given to the user.
    #[error("cannot give {} to user {user:?}", .path.display())]
    Own {
        /// Which.
        path: PathBuf,
        /// To whom.
        user: String,
        /// Why.
        source: io::Error,
    },
}

/// Makes the sandbox (mode 0755, owned by `user` or else by this process' user) and points `latest` to it.
///
/// # Errors
///
/// See `SandboxError`.
pub(super) fn make(directory: &Path, user: Option<&str>) -> Result<(), SandboxError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SandboxError::Make { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed(directory))?;
    // The umask may have taken bits away.
    fs::set_permissions(directory, Permissions::from_mode(0o755)).map_err(failed(directory))?;
    if let Some(user) = user {
        let (uid, gid) = lookup_user(user).ok_or_else(|| SandboxError::UnknownUser { user: user.to_owned() })?;
        std::os::unix::fs::chown(directory, Some(uid), Some(gid)).map_err(|source| SandboxError::Own {
            path: directory.to_owned(),
            user: user.to_owned(),
            source,
        })?;
    }
    let (Some(runs), Some(name)) = (directory.parent(), directory.file_name()) else { return Ok(()) };
    let (latest, new) = (runs.join("latest"), runs.join(".latest"));
    match fs::remove_file(&new) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&new)(error)),
    }
    std::os::unix::fs::symlink(name, &new).map_err(failed(&new))?;
    fs::rename(&new, &latest).map_err(failed(&latest))
}

/// Why a path cannot be served, and with which HTTP status.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    /// 404.
    #[error("Failed to find {0:?}")]
    NotFound(String),
    /// 400.
    #[error("{0:?} leaves its sandbox")]
    Escapes(String),
    /// 500.
    #[error("Failed to open {0:?}: {1}")]
    Failed(String, io::ErrorKind),
}

/// A file or directory inside a sandbox.
#[derive(Debug)]
pub(super) struct Found {
    /// Open for reading; a directory too.
    pub file: File,
    /// Without symbolic links.
    pub path: PathBuf,
}

/// Where the sandboxes of a cluster are.
#[derive(Debug, Clone)]
pub(super) struct Sandboxes {
    work_dir: PathBuf,
    agent_ids: Vec<String>,
}

impl Sandboxes {
    pub(super) fn new(work_dir: &Path, agent_ids: Vec<String>) -> Self {
        Self { work_dir: work_dir.to_owned(), agent_ids }
    }

    /// Opens what `path` names, if it is a sandbox or inside one.
    ///
    /// # Errors
    ///
    /// See `PathError`; a symbolic link that leads out of the sandbox is refused, however it got there.
    pub(super) fn open(&self, path: &str) -> Result<Found, PathError> {
        let not_found = || PathError::NotFound(path.to_owned());
        let (root, rest) = self.split(path).ok_or_else(not_found)?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => PathError::NotFound(path.to_owned()),
            kind => PathError::Failed(path.to_owned(), kind),
        };
        let root = root.canonicalize().map_err(failed)?;
        if leaves(&rest) {
            return Err(PathError::Escapes(path.to_owned()));
        }
        let full = root.join(&rest).canonicalize().map_err(failed)?;
        if !full.starts_with(&root) {
            return Err(PathError::Escapes(path.to_owned()));
        }
        // A named pipe must not block us.
        let no_wait = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(no_wait).open(&full).map_err(failed)?;
        // The task may have changed the tree meanwhile: what counts is what was opened.
        let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(failed)?;
        if !opened.starts_with(&root) {
            return Err(PathError::Escapes(path.to_owned()));
        }
        Ok(Found { file, path: full })
    }

    /// The sandbox and the path in it.
    fn split(&self, path: &str) -> Option<(PathBuf, PathBuf)> {
        if let Ok(below) = Path::new(path).strip_prefix(&self.work_dir) {
            let parts: Vec<_> = below.components().collect();
            let names = ["slaves", "", "frameworks", "", "executors", "", "runs", ""];
            return is_like(&parts, &names)
                .then(|| (self.work_dir.join(joined(&parts[..names.len()])), joined(&parts[names.len()..])));
        }
        let below = Path::new(path).strip_prefix("/").ok()?;
        let parts: Vec<_> = below.components().collect();
        let names = ["frameworks", "", "executors", "", "runs", "latest"];
        if !is_like(&parts, &names) {
            return None;
        }
        let (name, rest) = (joined(&parts[..names.len()]), joined(&parts[names.len()..]));
        let roots = self.agent_ids.iter().map(|id| self.work_dir.join("slaves").join(id).join(&name));
        let mut existing = roots.filter(|root| root.exists());
        existing.next().map(|root| (root, rest))
    }
}

/// Whether the parts begin with these names; "" stands for any.
fn is_like(parts: &[Component<'_>], names: &[&str]) -> bool {
    let matches = |part: &Component<'_>, name: &&str| match part {
        Component::Normal(part) => name.is_empty() || part == name,
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => false,
    };
    parts.len() >= names.len() && parts.iter().zip(names).all(|(part, name)| matches(part, name))
}

fn joined(parts: &[Component<'_>]) -> PathBuf {
    parts.iter().collect()
}

/// Whether the path, as text, goes above where it starts.
fn leaves(path: &Path) -> bool {
    let mut depth = 0_i32;
    path.components().any(|part| {
        depth += match part {
            Component::Normal(_) => 1,
            Component::ParentDir => -1,
            Component::Prefix(_) | Component::RootDir | Component::CurDir => 0,
        };
        depth < 0
    })
}

/// uid and primary gid, by name or number.
pub(super) fn lookup_user(user: &str) -> Option<(u32, u32)> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let ids = |fields: &[&str]| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?));
    let mut found = fields.filter(|fields| fields.first() == Some(&user) || fields.get(2) == Some(&user));
    found.find_map(|fields| ids(&fields))
}

/// The name behind a number, in /etc/passwd or /etc/group; the number's text if there is none.
pub(super) fn name_of(file: &str, id: u32) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let id = id.to_string();
    let of_id = |line: &&str| line.split(':').nth(2) == Some(id.as_str());
    let name = text.lines().find(of_id).and_then(|line| line.split(':').next());
    name.map_or(id.clone(), str::to_owned)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Read as _;

    use super::*;

    struct Place {
        _dir: tempfile::TempDir,
        work: PathBuf,
        run: PathBuf,
        sandboxes: Sandboxes,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        let run = work.join("slaves/S0/frameworks/F/executors/E/runs/C");
        make(&run, None).unwrap();
        fs::write(run.join("stdout"), "out").unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        let sandboxes = Sandboxes::new(&work, vec!["S0".to_owned(), "S1".to_owned()]);
        Place { _dir: dir, work, run, sandboxes }
    }

    fn read(place: &Place, path: &str) -> Result<String, PathError> {
        let mut text = String::new();
        place.sandboxes.open(path)?.file.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn file_is_found_by_real_latest_and_virtual_path() {
        let place = place();
        let work = place.work.to_str().unwrap();
        for path in [
            format!("{work}/slaves/S0/frameworks/F/executors/E/runs/C/stdout"),
            format!("{work}/slaves/S0/frameworks/F/executors/E/runs/latest/stdout"),
            "/frameworks/F/executors/E/runs/latest/stdout".to_owned(),
            "/frameworks/F/executors/E/runs/latest/./x/../stdout".to_owned(),
        ] {
            fs::create_dir_all(place.run.join("x")).unwrap();
            assert_eq!(read(&place, &path).as_deref(), Ok("out"), "{path}");
        }
    }

    #[test]
    fn what_is_not_in_a_sandbox_is_not_found() {
        let place = place();
        let work = place.work.to_str().unwrap();
        for path in [
            "",
            "stdout",
            "/etc/passwd",
            work,
            &format!("{work}/slaves/S0/frameworks/F/executors/E/runs"),
            &format!("{work}/slaves/S0/frameworks/F/executors/E/runs/D/stdout"),
            &format!("{work}/slaves/../slaves/S0/frameworks/F/executors/E/runs/C/stdout"),
            "/frameworks/F/executors/E/runs/C/stdout",
            "/frameworks/G/executors/E/runs/latest/stdout",
            "/frameworks/F/executors/E/runs/latest/nothing",
            "/frameworks/F/executors/E/runs/latest/stdout/deeper",
        ] {
            assert_eq!(read(&place, path), Err(PathError::NotFound(path.to_owned())), "{path}");
        }
    }

    #[test]
    fn ways_out_of_a_sandbox_are_refused() {
        let place = place();
        std::os::unix::fs::symlink("../../../../../../../../../secret", place.run.join("relative")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", place.run.join("absolute")).unwrap();
        std::os::unix::fs::symlink("/etc", place.run.join("directory")).unwrap();
        std::os::unix::fs::symlink("stdout", place.run.join("inside")).unwrap();
        for name in ["relative", "absolute", "directory/passwd", "../C/stdout", "../../../E/runs/C/stdout"] {
            let path = format!("/frameworks/F/executors/E/runs/latest/{name}");
            assert_eq!(read(&place, &path), Err(PathError::Escapes(path.clone())), "{path}");
        }
        assert_eq!(read(&place, "/frameworks/F/executors/E/runs/latest/inside").as_deref(), Ok("out"));
    }

    #[test]
    fn latest_follows_the_last_run() {
        let place = place();
        let next = place.run.with_file_name("D");
        make(&next, None).unwrap();
        fs::write(next.join("stdout"), "next").unwrap();
        assert_eq!(read(&place, "/frameworks/F/executors/E/runs/latest/stdout").as_deref(), Ok("next"));
        assert_eq!(fs::metadata(&next).unwrap().permissions().mode() & 0o7777, 0o755);
    }

    #[test]
    fn unknown_user_gets_no_sandbox() {
        let dir = tempfile::tempdir().unwrap();
        let error = make(&dir.path().join("C"), Some("nobody-has-this-name")).unwrap_err();
        assert!(matches!(error, SandboxError::UnknownUser { .. }), "{error}");
    }
}
