//! Unpacks archives into the sandbox, and nowhere else.
//!
//! Every name goes through [`Inside`]: absolute ones, those with `..`, and links that lead out end the fetch. So does
//! whatever is neither file, directory nor link. What comes out is counted against a budget that all archives of a task
//! share, so that no small file fills a disk.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use tar::EntryType;

use crate::inside::Inside;

/// How a file is packed, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tar(Compression),
    Zip,
    /// A single file.
    File(Compression),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Kind {
    /// `None` where nothing is to be unpacked.
    pub(super) fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        KINDS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, kind)| *kind)
    }
}

/// Longer ends first.
const KINDS: &[(&str, Kind)] = &[
    (".tar.gz", Kind::Tar(Compression::Gzip)),
    (".tgz", Kind::Tar(Compression::Gzip)),
    (".tar.bz2", Kind::Tar(Compression::Bzip2)),
    (".tbz2", Kind::Tar(Compression::Bzip2)),
    (".tar.xz", Kind::Tar(Compression::Xz)),
    (".txz", Kind::Tar(Compression::Xz)),
    (".tar.zst", Kind::Tar(Compression::Zstd)),
    (".tzst", Kind::Tar(Compression::Zstd)),
    (".tar", Kind::Tar(Compression::None)),
    (".zip", Kind::Zip),
    (".gz", Kind::File(Compression::Gzip)),
    (".bz2", Kind::File(Compression::Bzip2)),
    (".xz", Kind::File(Compression::Xz)),
    (".zst", Kind::File(Compression::Zstd)),
];

/// What may still come out of a task's archives.
#[derive(Debug)]
pub(super) struct Budget {
    max_bytes: u64,
    bytes: u64,
    max_entries: u64,
    entries: u64,
}

impl Budget {
    pub(super) fn new(bytes: u64, entries: u64) -> Self {
        Self { max_bytes: bytes, bytes, max_entries: entries, entries }
    }

    fn take_entry(&mut self) -> Result<(), String> {
        let left = self.entries.checked_sub(1);
        self.entries = left.ok_or_else(|| {
            format!(
                "it has more than {} files and directories; the operator can allow more with fetch.max_entries",
                self.max_entries
            )
        })?;
        Ok(())
    }

    fn copy(&mut self, from: &mut impl Read, to: &mut File) -> Result<(), String> {
        let copied = io::copy(&mut from.take(self.bytes.saturating_add(1)), to).map_err(|error| error.to_string())?;
        self.bytes = self.bytes.checked_sub(copied).ok_or_else(|| {
            format!(
                "it unpacks to more than {} bytes; the operator can allow more with fetch.max_unpacked",
                self.max_bytes
            )
        })?;
        Ok(())
    }
}

/// Unpacks `file`, which lies at `path`, into the sandbox.
pub(super) fn unpack(file: File, kind: Kind, path: &Path, sandbox: &Inside, budget: &mut Budget) -> Result<(), String> {
    let unpacked = match kind {
        Kind::Tar(compression) => reader(file, compression).and_then(|reader| tar(reader, sandbox, budget)),
        Kind::Zip => zip(file, sandbox, budget),
        Kind::File(compression) => reader(file, compression).and_then(|mut reader| {
            budget.take_entry()?;
            let mut to = sandbox.create_file(&path.with_extension(""), 0o644).map_err(|error| error.to_string())?;
            budget.copy(&mut reader, &mut to)
        }),
    };
    unpacked.map_err(|reason| format!("it cannot be unpacked: {reason}"))
}

fn reader(file: File, compression: Compression) -> Result<Box<dyn Read>, String> {
    let file = BufReader::with_capacity(BUFFER_BYTES, file);
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(file)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new(file, true)),
        Compression::Zstd => Box::new(Zstd::new(file).map_err(|error| error.to_string())?),
    })
}

/// All frames of a file, one after the other; the library reads one.
struct Zstd {
    frame: Option<StreamingDecoder<BufReader<File>, FrameDecoder>>,
}

impl Zstd {
    fn new(file: BufReader<File>) -> io::Result<Self> {
        Ok(Self { frame: Some(StreamingDecoder::new(file).map_err(io::Error::other)?) })
    }
}

impl Read for Zstd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(frame) = &mut self.frame else { return Ok(0) };
            let count = frame.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let mut file = self.frame.take().expect("it is there").into_inner();
            if !file.fill_buf()?.is_empty() {
                *self = Self::new(file)?;
            }
        }
    }
}

fn tar(reader: Box<dyn Read>, sandbox: &Inside, budget: &mut Budget) -> Result<(), String> {
    // What the headers take counts, too, with some room: they are read whole.
    let most = budget.bytes.saturating_add(budget.entries.saturating_mul(HEADER_BYTES));
    let mut archive = tar::Archive::new(reader.take(most));
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        let path = entry.path().map_err(|error| error.to_string())?.into_owned();
        let failed = |reason: String| format!("{}: {reason}", path.display());
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        budget.take_entry()?;
        let target = |entry: &tar::Entry<'_, _>| -> Result<PathBuf, String> {
            let name = entry.link_name().map_err(|error| error.to_string())?;
            name.map(std::borrow::Cow::into_owned).ok_or_else(|| "a link without a target".to_owned())
        };
        let made = match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mode = entry.header().mode().unwrap_or(0o644);
                write(sandbox, &path, mode, &mut entry, budget)
            }
            EntryType::Directory => directory(sandbox, &path),
            EntryType::Symlink => {
                target(&entry).and_then(|target| sandbox.create_link(&path, &target).map_err(|error| error.to_string()))
            }
            EntryType::Link => target(&entry)
                .and_then(|target| sandbox.create_hard_link(&path, &target).map_err(|error| error.to_string())),
            _ => Err("it is neither a file, a directory nor a link".to_owned()),
        };
        made.map_err(failed)?;
    }
    Ok(())
}

fn zip(file: File, sandbox: &Inside, budget: &mut Budget) -> Result<(), String> {
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| error.to_string())?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| error.to_string())?;
        let path = PathBuf::from(entry.name().map_err(|error| error.to_string())?.into_owned());
        let failed = |reason: String| format!("{}: {reason}", path.display());
        budget.take_entry()?;
        let mode = entry.unix_mode();
        let made = if entry.is_dir() {
            directory(sandbox, &path)
        } else if entry.is_symlink() {
            let mut target = String::new();
            let read = (&mut entry).take(MAX_PATH_BYTES).read_to_string(&mut target);
            read.and_then(|_| sandbox.create_link(&path, Path::new(&target))).map_err(|error| error.to_string())
        } else if mode.is_none_or(|mode| matches!(mode & 0o170_000, 0 | 0o100_000)) {
            write(sandbox, &path, mode.unwrap_or(0o644), &mut entry, budget)
        } else {
            Err("it is neither a file, a directory nor a link".to_owned())
        };
        made.map_err(failed)?;
    }
    Ok(())
}

/// Without what lets others become its owner; and the owner may always read and replace it.
fn write(sandbox: &Inside, path: &Path, mode: u32, from: &mut impl Read, budget: &mut Budget) -> Result<(), String> {
    let mut to = sandbox.create_file(path, (mode & 0o777) | 0o600).map_err(|error| error.to_string())?;
    budget.copy(from, &mut to)
}

fn directory(sandbox: &Inside, path: &Path) -> Result<(), String> {
    // Many archives begin with the directory they were made of: `./`.
    let is_root = path.components().all(|component| component == std::path::Component::CurDir);
    if is_root { Ok(()) } else { sandbox.create_directory(path).map_err(|error| error.to_string()) }
}

const BUFFER_BYTES: usize = 128 << 10;
/// A header, padding, and a long name.
const HEADER_BYTES: u64 = 8 << 10;
const MAX_PATH_BYTES: u64 = 4096;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
