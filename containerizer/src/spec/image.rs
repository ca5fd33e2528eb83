//! How an image is named: as Docker does, and with the `docker:///` of early Mesos frameworks. PURE.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An image's name with exactly one tag or digest.
///
/// The engine's pull without a tag would fetch every tag there is, so the usual `latest` is always spelled out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// With the registry where there is one.
    pub name: String,
    /// `latest` unless given; unused beside a digest.
    pub tag: String,
    /// `sha256:...`
    pub digest: Option<String>,
}

impl Image {
    /// Reads `[docker://[/]][REGISTRY/]NAME[:TAG][@DIGEST]`.
    ///
    /// # Errors
    /// It cannot be an image's name.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let bare = ["docker:///", "docker://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
        let wrong = |reason| ImageError { text: text.to_owned(), reason };
        let (tagged, digest) = match bare.split_once('@') {
            Some((tagged, digest)) if digest.contains(':') => (tagged, Some(digest.to_owned())),
            Some(_) => return Err(wrong("after \"@\" a digest like sha256:... is expected")),
            None => (bare, None),
        };
        // A colon before the last slash is that of a registry's port.
        let base_starts = tagged.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match tagged[base_starts..].rfind(':') {
            Some(colon) => (&tagged[..base_starts + colon], &tagged[base_starts + colon + 1..]),
            None => (tagged, "latest"),
        };
        if name.is_empty() || name.ends_with('/') {
            return Err(wrong("the name is empty"));
        }
        if tag.is_empty() {
            return Err(wrong("the tag after \":\" is empty"));
        }
        let is_expected = |c: char| c.is_ascii_alphanumeric() || "-._/:@+[]".contains(c);
        if !bare.chars().all(is_expected) {
            return Err(wrong("names have letters, digits and -._/: only"));
        }
        Ok(Self { name: name.to_owned(), tag: tag.to_owned(), digest })
    }

    /// What the engine's pull takes as its tag: the digest where there is one.
    pub fn tag_or_digest(&self) -> &str {
        self.digest.as_deref().unwrap_or(&self.tag)
    }
}

impl fmt::Display for Image {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            Some(digest) => write!(formatter, "{}@{digest}", self.name),
            None => write!(formatter, "{}:{}", self.name, self.tag),
        }
    }
}

/// Why a text names no image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not an image: {reason}")]
pub struct ImageError {
    text: String,
    reason: &'static str,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_names_one_tag_or_digest() {
        for (text, expected) in [
            ("busybox", "busybox:latest"),
            ("docker:///busybox", "busybox:latest"),
            ("docker://busybox:1.36", "busybox:1.36"),
            ("docker:///r.example:5000/team/web", "r.example:5000/team/web:latest"),
            ("r.example:5000/team/web:2", "r.example:5000/team/web:2"),
            ("web@sha256:0123", "web@sha256:0123"),
            ("web:2@sha256:0123", "web@sha256:0123"),
            ("localhost:5000/web", "localhost:5000/web:latest"),
        ] {
            assert_eq!(Image::parse(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_image_is_named_in_the_error() {
        for text in ["", "docker:///", "web:", ":1", "a/", "we b", "web@x", "a\nb"] {
            let error = Image::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
