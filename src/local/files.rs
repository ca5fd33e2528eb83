//! `/files/read`, `/files/browse`, `/files/download`, and the same over the agent API: as Mesos 1.1 and later answer.
//!
//! `data` of `/files/read` carries bytes from 0x80 on as they are, as the original does: the body need not be UTF-8.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use proto::mesos;
use tokio::sync::mpsc;

use super::sandbox::{Found, PathError, Sandboxes, name_of};

/// The most that one read gives: 16 pages.
const MAX_READ_BYTES: u64 = 16 * 4096;
/// How much of a download is read at once. Four such chunks are in memory: one that is read, those that wait, one that is sent.
const DOWNLOAD_CHUNK_BYTES: u64 = 256 << 10;
/// How many read chunks wait for the client.
const DOWNLOAD_CHUNKS_AHEAD: usize = 2;

/// Why a request for files is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    /// 404, 400 or 500.
    #[error(transparent)]
    Path(#[from] PathError),
    /// 400: a parameter is missing or wrong.
    #[error("{0}")]
    Request(String),
    /// 400.
    #[error("Cannot read a directory.")]
    Directory,
    /// 400: a pipe, socket or device.
    #[error("Not a regular file.")]
    NotAFile,
    /// 500.
    #[error("Failed to read {path:?}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl FilesError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Path(PathError::NotFound(_)) => StatusCode::NOT_FOUND,
            Self::Path(PathError::Escapes(_)) | Self::Request(_) | Self::Directory | Self::NotAFile => {
                StatusCode::BAD_REQUEST
            }
            Self::Path(PathError::Failed(..)) | Self::Read { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The parameters of a query, decoded.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        Self(url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn path(&self) -> Result<&str, FilesError> {
        let path = self.find("path").filter(|path| !path.is_empty());
        path.ok_or_else(|| FilesError::Request("Expecting 'path=value' in query.".to_owned()))
    }

    /// -1 when it is not there.
    fn number(&self, name: &str) -> Result<i64, FilesError> {
        let Some(text) = self.find(name) else { return Ok(-1) };
        let number = text.parse().map_err(|_| FilesError::Request(format!("Failed to parse {name} {text:?}")))?;
        if number < -1 {
            return Err(FilesError::Request(format!("Negative {name} provided: {number}")));
        }
        Ok(number)
    }
}

/// Bytes of a file and its size at that moment.
pub(super) struct Contents {
    pub size: u64,
    pub data: Vec<u8>,
}

/// At most 64 KiB from `offset` on; less at the end of the file, or if `length` is less.
pub(super) fn contents(
    sandboxes: &Sandboxes,
    path: &str,
    offset: u64,
    length: Option<u64>,
) -> Result<Contents, FilesError> {
    let (found, metadata) = open_file(sandboxes, path)?;
    let size = metadata.len();
    let length = length.unwrap_or(MAX_READ_BYTES).min(MAX_READ_BYTES).min(size.saturating_sub(offset));
    let mut data = vec![0; usize::try_from(length).unwrap_or_default()];
    let mut filled = 0;
    while filled < data.len() {
        match found.file.read_at(&mut data[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(FilesError::Read { path: path.to_owned(), source }),
        }
    }
    data.truncate(filled);
    Ok(Contents { size, data })
}

/// GET /files/read.
pub(super) fn read(sandboxes: &Sandboxes, query: &Query) -> Result<Response, FilesError> {
    let path = query.path()?;
    let (offset, length) = (query.number("offset")?, query.number("length")?);
    let (offset, data) = match u64::try_from(offset) {
        Ok(offset) => (offset, contents(sandboxes, path, offset, u64::try_from(length).ok())?.data),
        Err(_) => (contents(sandboxes, path, 0, Some(0))?.size, Vec::new()),
    };
    let mut body = Vec::with_capacity(data.len() + data.len() / 8 + 64);
    body.extend_from_slice(b"{\"data\":\"");
    escape(&data, &mut body);
    body.extend_from_slice(format!("\",\"offset\":{offset}}}").as_bytes());
    Ok(json(query, body))
}

/// GET /files/browse.
pub(super) fn browse(sandboxes: &Sandboxes, query: &Query) -> Result<Response, FilesError> {
    let entries: Vec<_> = list(sandboxes, query.path()?)?
        .into_iter()
        .map(|file| {
            let mtime = file.mtime.map(|time| time.nanoseconds / 1_000_000_000).unwrap_or_default();
            serde_json::json!({
                "path": file.path,
                "nlink": file.nlink,
                "size": file.size,
                "mtime": mtime,
                "mode": mode_text(file.mode.unwrap_or_default()),
                "uid": file.uid,
                "gid": file.gid,
            })
        })
        .collect();
    Ok(json(query, serde_json::Value::from(entries).to_string().into_bytes()))
}

/// The entries of a directory by name; none for a file.
pub(super) fn list(sandboxes: &Sandboxes, path: &str) -> Result<Vec<mesos::FileInfo>, FilesError> {
    let found = sandboxes.open(path)?;
    let failed = |source| FilesError::Read { path: path.to_owned(), source };
    if !found.file.metadata().map_err(failed)?.is_dir() {
        return Ok(Vec::new());
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(&found.path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // It may have gone since.
        let Ok(metadata) = entry.metadata() else { continue };
        let path = format!("{}/{}", path.trim_end_matches('/'), entry.file_name().to_string_lossy());
        entries.push(file_info(path, &metadata));
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}

/// GET /files/download: the file as it is, as long as it was when it was opened.
pub(super) fn download(sandboxes: &Sandboxes, query: &Query) -> Result<Response, FilesError> {
    let path = query.path()?;
    let (found, metadata) = open_file(sandboxes, path)?;
    let name = found.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // What a header cannot carry is of no use to a client anyway.
    let name: String = name.chars().filter(|letter| letter.is_ascii_graphic() && !"\"\\;".contains(*letter)).collect();
    let size = metadata.len();
    let (sender, receiver) = mpsc::channel(DOWNLOAD_CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || send_file(&found.file, size, &sender));
    let chunks = futures::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename={name}")),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// Reads ahead of the client, on a thread of its own, into memory that is handed on without a copy.
fn send_file(file: &File, size: u64, sender: &mpsc::Sender<io::Result<Bytes>>) {
    let mut left = size;
    while left > 0 {
        let want = left.min(DOWNLOAD_CHUNK_BYTES);
        let mut chunk = Vec::with_capacity(usize::try_from(want).unwrap_or_default());
        let chunk = match file.take(want).read_to_end(&mut chunk) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")),
            Ok(count) => {
                left -= count as u64;
                Ok(Bytes::from(chunk))
            }
            Err(error) => Err(error),
        };
        let is_last = chunk.is_err();
        // An error to send means that the client has gone.
        if sender.blocking_send(chunk).is_err() || is_last {
            return;
        }
    }
}

fn open_file(sandboxes: &Sandboxes, path: &str) -> Result<(Found, Metadata), FilesError> {
    let found = sandboxes.open(path)?;
    let metadata = found.file.metadata().map_err(|source| FilesError::Read { path: path.to_owned(), source })?;
    if metadata.is_dir() {
        return Err(FilesError::Directory);
    }
    if !metadata.is_file() {
        return Err(FilesError::NotAFile);
    }
    Ok((found, metadata))
}

fn json(query: &Query, body: Vec<u8>) -> Response {
    match query.find("jsonp") {
        None => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Some(function) => {
            let body = [function.as_bytes(), b"(", &body, b");"].concat();
            ([(header::CONTENT_TYPE, "text/javascript")], body).into_response()
        }
    }
}

/// As inside a JSON string, but bytes from 0x80 on stay as they are.
fn escape(data: &[u8], into: &mut Vec<u8>) {
    for &byte in data {
        match byte {
            b'"' => into.extend_from_slice(b"\\\""),
            b'\\' => into.extend_from_slice(b"\\\\"),
            0x08 => into.extend_from_slice(b"\\b"),
            0x0c => into.extend_from_slice(b"\\f"),
            b'\n' => into.extend_from_slice(b"\\n"),
            b'\r' => into.extend_from_slice(b"\\r"),
            b'\t' => into.extend_from_slice(b"\\t"),
            0..0x20 | 0x7f => into.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            0x20..0x7f | 0x80.. => into.push(byte),
        }
    }
}

fn file_info(path: String, metadata: &Metadata) -> mesos::FileInfo {
    let nanoseconds = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
    mesos::FileInfo {
        path,
        nlink: Some(i32::try_from(metadata.nlink()).unwrap_or(i32::MAX)),
        size: Some(metadata.len()),
        mtime: Some(mesos::TimeInfo { nanoseconds }),
        mode: Some(metadata.mode()),
        uid: Some(name_of("/etc/passwd", metadata.uid())),
        gid: Some(name_of("/etc/group", metadata.gid())),
    }
}

/// As `ls -l` shows it.
fn mode_text(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o060_000 => 'b',
        0o020_000 => 'c',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '-',
    };
    let bits = (0..9).map(|at| if mode & (0o400 >> at) == 0 { '-' } else { ['r', 'w', 'x'][at % 3] });
    [kind].into_iter().chain(bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_escaped_as_mesos_does_and_high_bytes_stay() {
        let mut text = Vec::new();
        escape(b"a\"b\\c\n\t\r\x08\x0c\x00\x1f\x7f/\xc3\xa9\xff", &mut text);
        assert_eq!(text, b"a\\\"b\\\\c\\n\\t\\r\\b\\f\\u0000\\u001f\\u007f/\xc3\xa9\xff");
    }

    #[test]
    fn modes_read_like_ls() {
        assert_eq!(mode_text(0o100_644), "-rw-r--r--");
        assert_eq!(mode_text(0o040_755), "drwxr-xr-x");
        assert_eq!(mode_text(0o120_777), "lrwxrwxrwx");
    }

    #[test]
    fn query_numbers_are_checked() {
        let query = Query::parse(Some("path=%2Fa%20b+c&offset=-2&length=x"));
        assert_eq!(query.path().ok(), Some("/a b c"));
        assert!(query.number("offset").is_err());
        assert!(query.number("length").is_err());
        assert_eq!(query.number("missing").ok(), Some(-1));
    }
}
