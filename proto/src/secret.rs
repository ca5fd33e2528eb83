//! What proves who somebody is, kept from showing itself: `Debug` never tells it, there is no `Display`, and comparing takes
//! as long for a wrong guess as for a right one.

use std::fmt;

use subtle::ConstantTimeEq;

/// A password or a token.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the wire and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is it, without telling by its time how much of a guess is right.
    pub fn is(&self, guess: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(guess).into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Who a framework says it is, and the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The same as in `FrameworkInfo.principal`.
    pub principal: String,
    /// The proof.
    pub secret: Secret,
}

impl Credential {
    /// The part of it that Mesos' Basic authentication cannot take: it splits at colons and wants two parts.
    pub fn part_with_colon(&self) -> Option<&'static str> {
        let parts = [("principal", self.principal.as_str()), ("secret", self.secret.expose())];
        parts.into_iter().find(|(_, text)| text.contains(':')).map(|(part, _)| part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_itself_only_and_never_shown() {
        let secret = Secret::new("canary");
        for (guess, is_right) in
            [("canary", true), ("canarx", false), ("canar", false), ("canary ", false), ("", false)]
        {
            assert_eq!(secret.is(guess.as_bytes()), is_right, "{guess:?}");
        }
        let credential = Credential { principal: "ada".to_owned(), secret };
        assert_eq!(format!("{credential:?}"), r#"Credential { principal: "ada", secret: <redacted> }"#);
    }

    #[test]
    fn a_colon_is_found_on_either_side() {
        let part = |principal: &str, secret: &str| {
            Credential { principal: principal.to_owned(), secret: Secret::new(secret) }.part_with_colon()
        };
        assert_eq!(part("a:b", "c"), Some("principal"));
        assert_eq!(part("a", "b:c"), Some("secret"));
        assert_eq!(part("a", "b"), None);
    }
}
