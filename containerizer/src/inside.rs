//! A directory that no path leads out of.
//!
//! Each name of a path is opened by itself, relative to the directory before it, and never through a symbolic link: what a
//! task has left in its sandbox, or an archive brings along, cannot send us elsewhere.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, linkat, mkdirat, openat, renameat, symlinkat, unlinkat};

/// The directory, held open.
#[derive(Debug)]
pub(crate) struct Inside {
    root: OwnedFd,
}

impl Inside {
    /// The directory itself may be a symbolic link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: openat(CWD, path, flags, Mode::empty())? })
    }

    /// A directory that is open already.
    pub(crate) fn of(root: OwnedFd) -> Self {
        Self { root }
    }

    /// Opens a regular file for reading.
    pub(crate) fn open_file(&self, path: &Path) -> io::Result<File> {
        let (parent, name) = self.parent(path, Missing::IsAnError)?;
        // Not to wait for somebody at the other end of a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        regular(File::from(openat(&parent, name, flags, Mode::empty())?))
    }

    /// Creates a file in place of whatever has its name, with the directories before it.
    pub(crate) fn create_file(&self, path: &Path, mode: u32) -> io::Result<File> {
        let (parent, name) = self.parent(path, Missing::IsMade)?;
        replace(&parent, name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&parent, name, flags, Mode::from_raw_mode(mode & 0o777))?))
    }

    /// Creates a directory, with those before it; one that is there stays.
    pub(crate) fn create_directory(&self, path: &Path) -> io::Result<()> {
        // It is the parent of whatever is in it.
        self.parent(&path.join("x"), Missing::IsMade).map(drop)
    }

    /// Creates a symbolic link. `target` must not lead out, see [`stays_inside`].
    pub(crate) fn create_link(&self, path: &Path, target: &Path) -> io::Result<()> {
        if !stays_inside(path, target) {
            return Err(io::Error::other(format!("the link {} leads out of the sandbox", path.display())));
        }
        let (parent, name) = self.parent(path, Missing::IsMade)?;
        replace(&parent, name)?;
        Ok(symlinkat(target, &parent, name)?)
    }

    /// Creates another name for a regular file that is here.
    pub(crate) fn create_hard_link(&self, path: &Path, existing: &Path) -> io::Result<()> {
        self.open_file(existing)?;
        let (from, old) = self.parent(existing, Missing::IsAnError)?;
        let (to, new) = self.parent(path, Missing::IsMade)?;
        replace(&to, new)?;
        Ok(linkat(&from, old, &to, new, AtFlags::empty())?)
    }

    /// The names of all that is directly in it.
    pub(crate) fn names(&self) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.root)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(PathBuf::from(std::ffi::OsString::from_vec(name)));
            }
        }
        Ok(names)
    }

    /// Gives a file another name, in place of whatever has it.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (old_parent, old) = self.parent(from, Missing::IsAnError)?;
        let (new_parent, new) = self.parent(to, Missing::IsAnError)?;
        Ok(renameat(&old_parent, old, &new_parent, new)?)
    }

    /// Removes a file.
    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path, Missing::IsAnError)?;
        Ok(unlinkat(&parent, name, AtFlags::empty())?)
    }

    /// The directory that the last name of a path stands in, and that name.
    fn parent<'p>(&self, path: &'p Path, missing: Missing) -> io::Result<(OwnedFd, &'p std::ffi::OsStr)> {
        let outside = || io::Error::other(format!("{} leads out of the sandbox", path.display()));
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(outside()),
            }
        }
        let last = names.pop().ok_or_else(|| io::Error::other("it has no name"))?;
        let mut directory = self.root.try_clone()?;
        for name in names {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            directory = match openat(&directory, name, flags, Mode::empty()) {
                Err(rustix::io::Errno::NOENT) if missing == Missing::IsMade => {
                    match mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    openat(&directory, name, flags, Mode::empty())?
                }
                Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
                    return Err(io::Error::other(format!(
                        "{} leads through something that is no directory",
                        path.display()
                    )));
                }
                opened => opened?,
            };
        }
        Ok((directory, last))
    }
}

/// Whether a symbolic link in the directory leads to a place in it.
///
/// Only `..` at its beginning counts back from where the link stands, which are real directories. A later one could go back
/// from where another link has led.
pub(crate) fn stays_inside(link: &Path, target: &Path) -> bool {
    let is_name = |component: &Component<'_>| matches!(component, Component::Normal(_));
    let depth = link.components().filter(is_name).count().saturating_sub(1);
    let mut backs = 0;
    let mut has_name = false;
    for component in target.components() {
        match component {
            Component::Normal(_) => has_name = true,
            Component::CurDir => {}
            Component::ParentDir if has_name => return false,
            Component::ParentDir => backs += 1,
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    backs <= depth
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    IsMade,
    IsAnError,
}

fn replace(parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn no_path_leads_out() {
        let root = tempfile::tempdir().unwrap();
        let box_path = root.path().join("box");
        std::fs::create_dir(&box_path).unwrap();
        std::fs::write(root.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("..", box_path.join("up")).unwrap();
        std::os::unix::fs::symlink("../secret", box_path.join("link")).unwrap();
        let inside = Inside::open(&box_path).unwrap();
        for path in ["../secret", "/etc/passwd", "up/secret", "a/../../secret", "link", "."] {
            assert!(inside.open_file(Path::new(path)).is_err(), "read {path}");
        }
        for path in ["../new", "/new", "up/new", "a/../../new", "..", ""] {
            assert!(inside.create_file(Path::new(path), 0o644).is_err(), "made {path}");
        }
        // A link that has the name of a new file is replaced and not followed.
        inside.create_file(Path::new("link"), 0o644).unwrap().write_all(b"new").unwrap();
        assert_eq!(std::fs::read(root.path().join("secret")).unwrap(), b"secret");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2);
        inside.create_file(Path::new("a/b/c"), 0o755).unwrap();
        inside.create_directory(Path::new("a/d")).unwrap();
        inside.create_hard_link(Path::new("e/f"), Path::new("a/b/c")).unwrap();
        assert!(box_path.join("a/d").is_dir() && box_path.join("e/f").is_file());
        assert!(inside.create_hard_link(Path::new("g"), Path::new("../secret")).is_err());
    }

    #[test]
    fn links_lead_back_only_over_real_directories() {
        for (link, target, expected) in [
            ("a/b", "../c", true),
            ("a/b", "../../c", false),
            ("b", "..", false),
            ("b", "c/d", true),
            ("b", ".", true),
            ("a/b/c", "../../d/e", true),
            ("a/b", "c/../d", false),
            ("b", "/etc", false),
        ] {
            assert_eq!(stays_inside(Path::new(link), Path::new(target)), expected, "{link} -> {target}");
        }
    }
}
