//! Pulls: asks the engine for an image, adds up what it says of the layers, and tells failures apart.

use std::collections::HashMap;
use std::time::Duration;

pub use bollard::auth::DockerCredentials;
use bollard::errors::Error as BollardError;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures::StreamExt;
use proto::record::PullProgress;

use super::{Engine, EngineError, classify, one_line};
use crate::spec::Image;

impl Engine {
    /// Pulls an image from its registry and says how far it is. Dropping the future ends the pull.
    ///
    /// `silence` is how long the engine may say nothing new.
    ///
    /// # Errors
    /// The image is not there, not allowed, or does not arrive.
    pub async fn pull(
        &self,
        image: &Image,
        credentials: Option<DockerCredentials>,
        silence: Duration,
        mut on_progress: impl FnMut(PullProgress),
    ) -> Result<(), EngineError> {
        let options = CreateImageOptions {
            from_image: Some(image.name.clone()),
            tag: Some(image.tag_or_digest().to_owned()),
            ..Default::default()
        };
        let mut lines = std::pin::pin!(self.docker.create_image(Some(options), None, credentials));
        let mut pull = Pull::new(image);
        loop {
            let Ok(line) = tokio::time::timeout(silence, lines.next()).await else {
                return Err(EngineError::PullStalled { image: image.to_string(), limit: silence });
            };
            match line {
                None => return Ok(()),
                Some(Ok(line)) => {
                    if let Some(progress) = pull.advance(line) {
                        on_progress(progress);
                    }
                }
                Some(Err(error)) => return Err(classify_pull(&self.host, image, error)),
            }
        }
    }
}

fn classify_pull(host: &str, image: &Image, error: BollardError) -> EngineError {
    let reason = match &error {
        BollardError::DockerStreamError { error } => one_line(error),
        BollardError::DockerResponseServerError { message, .. } => one_line(message),
        _ => return classify(host, "pull the image", error),
    };
    let image = image.to_string();
    let says = |texts: &[&str]| texts.iter().any(|text| reason.to_ascii_lowercase().contains(text));
    if says(&[
        "unauthorized",
        "access denied",
        "authentication required",
        "no basic auth",
        "denied:",
        "incorrect username",
    ]) {
        EngineError::RegistryAuth { image, reason }
    } else if says(&["manifest unknown", "not found", "does not exist", "name unknown", "no matching manifest"])
        && !says(&["no such host"])
    {
        EngineError::ImageNotFound { image, reason }
    } else if says(UNREACHABLE) {
        EngineError::RegistryUnreachable { image, reason }
    } else {
        EngineError::Pull { image, reason }
    }
}

/// In the engine's words, which are Go's.
const UNREACHABLE: &[&str] = &[
    "no such host",
    "connection refused",
    "connection reset",
    "timeout",
    "deadline exceeded",
    "awaiting headers",
    "network is unreachable",
    "no route to host",
    "server misbehaving",
    "tls:",
    "x509:",
    "server gave http response",
    " eof",
    "service unavailable",
    "bad gateway",
];

/// Adds up a pull's lines.
struct Pull {
    image: String,
    layers: HashMap<String, Layer>,
}

#[derive(Default)]
struct Layer {
    is_done: bool,
    done: u64,
    total: u64,
}

impl Pull {
    fn new(image: &Image) -> Self {
        Self { image: image.to_string(), layers: HashMap::new() }
    }

    /// `None` for a line that is not about a layer.
    fn advance(&mut self, line: CreateImageInfo) -> Option<PullProgress> {
        let (id, status) = (line.id?, line.status?);
        let bytes = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        // The first line has the tag where others have the layer.
        if status.starts_with("Pulling from") {
            return None;
        }
        let layer = self.layers.entry(id).or_default();
        match status.as_str() {
            "Downloading" => {
                let detail = line.progress_detail.unwrap_or_default();
                layer.done = bytes(detail.current);
                layer.total = bytes(detail.total).max(layer.done);
            }
            "Download complete" | "Verifying Checksum" | "Extracting" => layer.done = layer.total,
            "Pull complete" | "Already exists" => {
                layer.done = layer.total;
                layer.is_done = true;
            }
            _ => {}
        }
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Some(PullProgress {
            image: self.image.clone(),
            layers_done: count(self.layers.values().filter(|layer| layer.is_done).count()),
            layers_total: count(self.layers.len()),
            bytes_done: self.layers.values().map(|layer| layer.done).sum(),
            bytes_total: self.layers.values().map(|layer| layer.total).sum(),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    #[test]
    fn failed_pulls_are_told_apart() {
        let image = Image::parse("web:9").unwrap();
        let of = |text: &str| classify_pull("h", &image, BollardError::DockerStreamError { error: text.to_owned() });
        assert!(matches!(of("manifest for web:9 not found: manifest unknown"), EngineError::ImageNotFound { .. }));
        assert!(matches!(
            of("pull access denied for web, repository does not exist or may require 'docker login'"),
            EngineError::RegistryAuth { .. }
        ));
        assert!(matches!(of("toomanyrequests: slow down"), EngineError::Pull { .. }));
        let error = of("Get \"https://r/v2/\": dial tcp: lookup r:\n no such host");
        assert_eq!(
            error.to_string(),
            "image web:9 could not be pulled, its registry cannot be reached: Get \"https://r/v2/\": dial tcp: lookup r: no \
             such host; check the registry and the network, or pull it on this host"
        );
    }

    #[test]
    fn a_pulls_lines_add_up() {
        let mut pull = Pull::new(&Image::parse("web").unwrap());
        let mut line = |id: &str, status: &str, bytes: Option<(i64, i64)>| {
            pull.advance(CreateImageInfo {
                id: Some(id.to_owned()),
                status: Some(status.to_owned()),
                progress_detail: bytes
                    .map(|(current, total)| ProgressDetail { current: Some(current), total: Some(total) }),
                ..Default::default()
            })
        };
        assert_eq!(line("latest", "Pulling from library/web", None), None);
        line("a", "Pulling fs layer", None);
        line("b", "Already exists", None);
        line("a", "Downloading", Some((10, 100)));
        let progress = line("c", "Downloading", Some((5, 50))).unwrap();
        assert_eq!((progress.layers_done, progress.layers_total), (1, 3));
        assert_eq!((progress.bytes_done, progress.bytes_total), (15, 150));
        let progress = line("a", "Pull complete", None).unwrap();
        assert_eq!((progress.layers_done, progress.bytes_done), (2, 105));
    }
}
