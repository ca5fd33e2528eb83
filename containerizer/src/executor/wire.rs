//! The two ways to speak to an agent, behind one face.

use proto::executor::Call;

use super::core::Input;
use super::environment::Environment;
use super::http::Http;
use super::libprocess::{Libprocess, LibprocessError};

/// A connection to an agent, or the means to have one.
pub enum Wire {
    /// The v1 executor API: agents from 0.28 on.
    Http(Box<Http>),
    /// libprocess messages: every agent, and the only way to survive a restart of one from 1.4.2 on that runs Docker
    /// tasks by itself.
    Libprocess(Box<Libprocess>),
}

impl Wire {
    /// HTTP where the agent has it, libprocess messages elsewhere. `port`: where an executor listened that this one continues.
    ///
    /// # Errors
    /// When there are no means to speak to any agent; this one was not asked.
    pub async fn new(environment: &Environment, port: Option<u16>) -> Result<Self, WireError> {
        if environment.has_v1_api { Self::http(environment) } else { Self::libprocess(environment, port).await }
    }

    /// Where the agent's messages are heard; `None` where it only answers.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Http(_) => None,
            Self::Libprocess(libprocess) => Some(libprocess.port()),
        }
    }

    /// HTTP.
    ///
    /// # Errors
    /// As [`Wire::new`].
    pub fn http(environment: &Environment) -> Result<Self, WireError> {
        Ok(Self::Http(Box::new(Http::new(environment)?)))
    }

    /// libprocess messages.
    ///
    /// # Errors
    /// As [`Wire::new`].
    pub async fn libprocess(environment: &Environment, port: Option<u16>) -> Result<Self, WireError> {
        Ok(Self::Libprocess(Box::new(Libprocess::new(environment, port).await?)))
    }

    pub(super) fn subscribe(&mut self, call: Call) {
        match self {
            Self::Http(http) => http.subscribe(call),
            Self::Libprocess(libprocess) => libprocess.subscribe(call),
        }
    }

    pub(super) fn send(&mut self, call: Call) {
        match self {
            Self::Http(http) => http.send(call),
            Self::Libprocess(libprocess) => libprocess.send(call),
        }
    }

    pub(super) async fn next(&mut self) -> Input {
        match self {
            Self::Http(http) => http.next().await,
            Self::Libprocess(libprocess) => libprocess.next().await,
        }
    }
}

/// Why there is no way to speak to an agent.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// There is no HTTP client.
    #[error(transparent)]
    Http(#[from] proto::http::HttpError),
    /// There is no port for the agent's messages.
    #[error(transparent)]
    Libprocess(#[from] LibprocessError),
}
