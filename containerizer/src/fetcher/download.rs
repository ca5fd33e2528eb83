//! Where a URI's bytes come from: http, https, or a file of this host that the task's user may read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::tls::TlsFault;
use reqwest::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{Client, StatusCode};
use rustix::fs::OFlags;

use super::cache::{Cache, Validators};
use super::shown;

/// The file that is written, and how much it may become.
#[derive(Debug)]
pub(super) struct Destination {
    file: File,
    limit: u64,
    left: u64,
}

impl Destination {
    pub(super) fn new(file: File, limit: u64) -> Self {
        Self { file, limit, left: limit }
    }

    /// At its beginning.
    pub(super) fn into_file(mut self) -> Result<File, String> {
        self.file.rewind().map_err(|error| format!("it cannot be read again: {error}"))?;
        Ok(self.file)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(size).ok_or_else(|| {
            format!("it has more than {} bytes; the operator can allow more with fetch.max_file", self.limit)
        })?;
        self.file.write_all(bytes).map_err(|error| format!("it cannot be written: {error}"))
    }
}

/// What a file is called when the task does not say.
pub(super) fn name_of(uri: &str) -> Result<String, String> {
    let path = uri.find(['?', '#']).filter(|_| is_web(uri)).map_or(uri, |end| &uri[..end]);
    let path = path.split_once("://").map_or(path, |(_, place)| place.find('/').map_or("", |slash| &place[slash..]));
    match path.rsplit('/').next().unwrap_or_default() {
        "" | "." | ".." => Err("it names no file; give it an output_file".to_owned()),
        name => Ok(name.to_owned()),
    }
}

/// Gets all of it; from the cache, where its server says that this is still the same.
pub(super) fn get(
    uri: &str,
    destination: &mut Destination,
    silence: Duration,
    cache: Option<&Cache>,
) -> Result<(), String> {
    if is_web(uri) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("it cannot be asked for: {error}"))?;
        return runtime.block_on(from_web(uri, destination, silence, cache));
    }
    let path = match uri.split_once("://") {
        Some((scheme, path)) if scheme.eq_ignore_ascii_case("file") => path.strip_prefix("localhost").unwrap_or(path),
        Some((scheme, _)) => return Err(format!("{scheme}:// is none of http://, https:// and file://")),
        None => uri,
    };
    if !path.starts_with('/') {
        return Err("it is neither an address nor an absolute path".to_owned());
    }
    from_file(Path::new(path), destination)
}

fn is_web(uri: &str) -> bool {
    let scheme = uri.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
}

fn from_file(path: &Path, destination: &mut Destination) -> Result<(), String> {
    let failed = |error: io::Error| format!("it cannot be read: {error}");
    // Not to wait for somebody at the other end of a pipe.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("a flag is small");
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err("it is no file".to_owned());
    }
    copy(&mut file, destination)
}

fn copy(from: &mut impl Read, destination: &mut Destination) -> Result<(), String> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer).map_err(|error| format!("it cannot be read: {error}"))? {
            0 => return Ok(()),
            count => destination.write(&buffer[..count])?,
        }
    }
}

async fn from_web(
    uri: &str,
    destination: &mut Destination,
    silence: Duration,
    cache: Option<&Cache>,
) -> Result<(), String> {
    let failed = |error: reqwest::Error| {
        if error.is_timeout() {
            return format!("nothing has come for {} seconds", silence.as_secs_f64());
        }
        match TlsFault::in_chain(&error) {
            Some(fault @ (TlsFault::UnknownAuthority | TlsFault::NoAuthorities)) => {
                return format!(
                    "{fault}; add the authority to this host's, or have SSL_CERT_FILE in the slave's environment name its file"
                );
            }
            Some(fault) => return fault.to_string(),
            None => {}
        }
        // Without the URI, which may hold secrets.
        chain(&error.without_url())
    };
    let client = client(uri, silence)?;
    let kept = cache.and_then(|cache| cache.find(uri));
    let mut request = client.get(uri);
    if let Some((validators, _)) = &kept {
        let conditions = [(IF_NONE_MATCH, &validators.etag), (IF_MODIFIED_SINCE, &validators.last_modified)];
        for (name, value) in conditions {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
    }
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    if let (StatusCode::NOT_MODIFIED, Some((_, mut file))) = (status, kept) {
        return copy(&mut file, destination);
    }
    if status != StatusCode::OK {
        let from = shown(response.url().as_str());
        let at = if from == shown(uri) { String::new() } else { format!(" by {from}") };
        return Err(format!("it was answered{at} with {status}"));
    }
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let validators = Validators { etag: header(ETAG), last_modified: header(LAST_MODIFIED) };
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        destination.write(&chunk)?;
    }
    if let Some(cache) = cache {
        // The next task fetches it again where it cannot be kept.
        let _ = destination.file.rewind().and_then(|()| cache.keep(uri, &validators, &destination.file));
    }
    Ok(())
}

fn client(uri: &str, silence: Duration) -> Result<Client, String> {
    // An error says that there is one already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || Client::builder().connect_timeout(CONNECT_LIMIT).read_timeout(silence).referer(false);
    match builder().build() {
        Ok(client) => Ok(client),
        // A host without certificates can still fetch what needs none.
        Err(_) if uri.to_ascii_lowercase().starts_with("http://") => {
            let nobody =
                rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                    .with_safe_default_protocol_versions()
                    .expect("ring knows the default versions")
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth();
            builder().tls_backend_preconfigured(nobody).build().map_err(|error| chain(&error))
        }
        Err(error) => Err(format!("TLS is not available: {}", chain(&error))),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let part = source.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = source.source();
    }
    text
}

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_called_as_the_end_of_its_path() {
        for (uri, expected) in [
            ("http://h/a/b.tgz?x=/y", Some("b.tgz")),
            ("https://h:1/a%20b", Some("a%20b")),
            ("file:///a/b c", Some("b c")),
            ("/a/b?c", Some("b?c")),
            ("http://h", None),
            ("http://h/", None),
            ("file:///a/..", None),
        ] {
            assert_eq!(name_of(uri).ok().as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn what_is_no_source_is_named() {
        let directory = tempfile::tempdir().unwrap();
        for (uri, reason) in [
            ("hdfs://h/a", "hdfs:// is none of"),
            ("a/b", "neither an address nor an absolute path"),
            ("file:///no/such/file", "it cannot be read"),
            (directory.path().to_str().unwrap(), "it is no file"),
            ("/dev/zero", "it is no file"),
        ] {
            let mut destination = Destination::new(tempfile::tempfile().unwrap(), 10);
            let error = get(uri, &mut destination, Duration::from_secs(1), None).unwrap_err();
            assert!(error.contains(reason), "{uri}: {error}");
        }
        let big = directory.path().join("big");
        std::fs::write(&big, [0; 11]).unwrap();
        let mut destination = Destination::new(tempfile::tempfile().unwrap(), 10);
        let error = get(big.to_str().unwrap(), &mut destination, Duration::from_secs(1), None).unwrap_err();
        assert!(error.contains("more than 10 bytes") && error.contains("fetch.max_file"), "{error}");
    }
}
