//! Who may use the cluster's face: anybody, or whoever proves to be allowed to.
//!
//! The key opens everything. An executor has a token of its own, made when its container is launched and given to it as real
//! agents do (`MESOS_EXECUTOR_AUTHENTICATION_TOKEN`), which opens its own executor API and nothing else: what runs inside a
//! container must not be able to launch another one. Comparing takes the same time for every guess.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::http::ClientOptions;
use proto::secret::{Credential, Secret};
use uuid::Uuid;

/// What a cluster demands of those who talk to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Access {
    /// Nothing: all users of this machine can launch containers through it.
    #[default]
    Open,
    /// A bearer token.
    Token(Secret),
    /// Basic authentication, as a master with `--credentials` demands it.
    Basic(Credential),
}

impl Access {
    /// A token that nobody can guess.
    pub fn random_token() -> Self {
        Self::Token(random())
    }

    /// How a client shows that it has the key.
    pub fn client_options(&self) -> ClientOptions {
        match self.clone() {
            Self::Open => ClientOptions::default(),
            Self::Token(token) => ClientOptions { bearer_token: Some(token), ..ClientOptions::default() },
            Self::Basic(credential) => ClientOptions { credential: Some(credential), ..ClientOptions::default() },
        }
    }

    pub(super) fn is_open(&self) -> bool {
        *self == Self::Open
    }

    /// Whether a request with these headers comes from somebody who has the key.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Open => true,
            Self::Token(token) => given(headers, "Bearer").is_some_and(|guess| token.is(guess)),
            Self::Basic(Credential { principal, secret }) => {
                let key = Secret::new(STANDARD.encode(format!("{principal}:{}", secret.expose())));
                given(headers, "Basic").is_some_and(|guess| key.is(guess))
            }
        }
    }

    /// The principal that everybody who is admitted has proved to be.
    pub(super) fn principal(&self) -> Option<&str> {
        match self {
            Self::Open | Self::Token(_) => None,
            Self::Basic(credential) => Some(&credential.principal),
        }
    }

    /// What to say to those who are not admitted.
    pub(super) fn challenge(&self) -> &'static str {
        match self {
            Self::Open | Self::Token(_) => "Bearer realm=\"launch-container-local\"",
            Self::Basic(_) => "Basic realm=\"launch-container-local\"",
        }
    }
}

/// Whom an executor's token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    /// By index.
    pub agent: usize,
    pub framework_id: String,
    pub executor_id: String,
    pub container_id: String,
}

/// The tokens of the executors that run.
#[derive(Debug, Default)]
pub(super) struct ExecutorTokens(Vec<(Secret, Claims)>);

impl ExecutorTokens {
    /// Makes the token of one.
    pub(super) fn issue(&mut self, claims: Claims) -> Secret {
        let token = random();
        self.0.push((token.clone(), claims));
        token
    }

    /// Takes back those for which `is_gone` says so.
    pub(super) fn revoke(&mut self, is_gone: impl Fn(&Claims) -> bool) {
        self.0.retain(|(_, claims)| !is_gone(claims));
    }

    /// Who shows one in these headers.
    pub(super) fn bearer(&self, headers: &HeaderMap) -> Option<&Claims> {
        let guess = given(headers, "Bearer")?;
        self.0.iter().find(|(token, _)| token.is(guess)).map(|(_, claims)| claims)
    }
}

/// 244 random bits from the system.
fn random() -> Secret {
    Secret::new(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
}

/// What stands behind the scheme in `Authorization`.
fn given<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a [u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (found, rest) = value.split_at_checked(scheme.len())?;
    found.eq_ignore_ascii_case(scheme.as_bytes()).then(|| rest.strip_prefix(b" ")).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: Option<&str>) -> HeaderMap {
        let value = authorization.map(|text| (header::AUTHORIZATION, text.parse().expect("a header value")));
        value.into_iter().collect()
    }

    fn admitted<'a>(access: &Access, guesses: &[Option<&'a str>]) -> Vec<Option<&'a str>> {
        guesses.iter().copied().filter(|guess| access.admits(&headers(*guess))).collect()
    }

    const GUESSES: [Option<&str>; 8] = [
        None,
        Some("Bearer t0ken"),
        Some("bearer t0ken"),
        Some("Bearer t0kem"),
        Some("Bearer t0ken1"),
        Some("Bearer"),
        Some("Basic YWRhOmNhbmFyeQ=="),
        Some("Basic YWRhOmNhbmFyeQ"),
    ];

    #[test]
    fn only_the_key_opens() {
        assert_eq!(admitted(&Access::Open, &GUESSES), GUESSES);
        let token = Access::Token(Secret::new("t0ken"));
        assert_eq!(admitted(&token, &GUESSES), [Some("Bearer t0ken"), Some("bearer t0ken")]);
        let basic = Access::Basic(Credential { principal: "ada".to_owned(), secret: Secret::new("canary") });
        assert_eq!(admitted(&basic, &GUESSES), [Some("Basic YWRhOmNhbmFyeQ==")]);
    }

    #[test]
    fn tokens_are_long_and_never_the_same_and_never_shown() {
        let (Access::Token(one), Access::Token(other)) = (Access::random_token(), Access::random_token()) else {
            panic!("they are tokens")
        };
        assert_eq!(one.expose().len(), 64);
        assert!(one != other);
        assert!(!format!("{:?}", Access::Token(one.clone())).contains(one.expose()));
    }

    #[test]
    fn an_executors_token_stands_for_it_until_it_is_revoked() {
        let claims = |executor: &str| Claims {
            agent: 0,
            framework_id: "f".to_owned(),
            executor_id: executor.to_owned(),
            container_id: executor.to_owned(),
        };
        let mut tokens = ExecutorTokens::default();
        let of_a = tokens.issue(claims("a"));
        let of_b = tokens.issue(claims("b"));
        let shown = |token: &Secret| headers(Some(&format!("Bearer {}", token.expose())));
        assert_eq!(tokens.bearer(&shown(&of_a)), Some(&claims("a")));
        assert_eq!(tokens.bearer(&shown(&of_b)), Some(&claims("b")));
        assert_eq!(tokens.bearer(&headers(None)), None);
        tokens.revoke(|claims| claims.executor_id == "a");
        assert_eq!(tokens.bearer(&shown(&of_a)), None);
        assert_eq!(tokens.bearer(&shown(&of_b)), Some(&claims("b")));
    }
}
