//! Has an image here before its container is created.
//!
//! ```text
//! policy --never, or here already--> done
//!    |
//!    `--> turn: one pull per image and host --mine--> engine --> done, or a named failure
//!                  `-- another's: its progress is ours, and so is its outcome      `--> the local copy, where policy allows
//! ```
//!
//! Dropping the future ends the pull, also at the engine.

mod report;
mod turn;

use std::cell::RefCell;

use proto::record::PullProgress;
use serde::{Deserialize, Serialize};

pub(crate) use self::report::{Report, Say};
use self::turn::Turn;
use crate::config::{Config, PullPolicy};
use crate::credentials::{Credentials, CredentialsError};
use crate::docker::{Engine, EngineError};
use crate::environment::Environment;
use crate::spec::Image;

/// What a pull needs to know.
#[derive(Debug)]
pub(crate) struct Pull<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) environment: &'a Environment,
    pub(crate) config: &'a Config,
    pub(crate) image: &'a Image,
    /// As the task wants it.
    pub(crate) policy: Option<PullPolicy>,
    pub(crate) credentials: Credentials<'a>,
}

impl Pull<'_> {
    /// Sees to it that the image is here.
    pub(crate) async fn provide(&self, report: Report) -> Result<(), PullError> {
        let is_here = self.engine.find_image(self.image).await?.is_some();
        match self.policy() {
            PullPolicy::Missing if is_here => return Ok(()),
            PullPolicy::Never if is_here => return Ok(()),
            PullPolicy::Never => return Err(EngineError::NeverPulled { image: self.image.to_string() }.into()),
            PullPolicy::Missing | PullPolicy::Always => {}
        }
        let report = RefCell::new(report);
        let pulled = {
            let pull = self.in_turn(&report);
            let mut pull = std::pin::pin!(pull);
            loop {
                let next = report.borrow().next_line();
                tokio::select! {
                    pulled = &mut pull => break pulled,
                    () = tokio::time::sleep_until(next) => report.borrow_mut().line(),
                }
            }
        };
        match pulled {
            Err(PullError::Engine(error)) if is_here && is_away(&error) && self.config.pull.fall_back_to_local => {
                tracing::warn!(%error, "the local copy is used");
                report.borrow_mut().say(&format!("{error}; the copy of it that is here is used"));
                Ok(())
            }
            pulled => pulled,
        }
    }

    fn policy(&self) -> PullPolicy {
        match self.config.pull.policy {
            PullPolicy::Never => PullPolicy::Never,
            configured => self.policy.unwrap_or(configured),
        }
    }

    async fn in_turn(&self, report: &RefCell<Report>) -> Result<(), PullError> {
        let progress = |progress: PullProgress| report.borrow_mut().progress(progress);
        match turn::take(self.environment, self.image, progress).await {
            Turn::Others(Outcome::Pulled) => Ok(()),
            Turn::Others(outcome) => Err(outcome.into_error(self.image).into()),
            Turn::Mine(mut mine) => {
                // It may have come between our look and our turn.
                if self.policy() == PullPolicy::Missing && self.engine.find_image(self.image).await?.is_some() {
                    return Ok(());
                }
                let credentials = self.credentials.find(self.image).await?;
                let silence = self.config.pull.silence_limit;
                let pulled = self.engine.pull(self.image, credentials, silence, |now| {
                    mine.note(&now);
                    progress(now);
                });
                let pulled = pulled.await;
                if let Some(outcome) = Outcome::of(&pulled) {
                    mine.finish(&outcome);
                }
                Ok(pulled?)
            }
        }
    }
}

fn is_away(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::RegistryUnreachable { .. } | EngineError::PullStalled { .. } | EngineError::Pull { .. }
    )
}

/// What those who wait for another's pull hear of its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Pulled,
    NotFound { reason: String },
    Unreachable { reason: String },
    Failed { reason: String },
}

impl Outcome {
    /// `None` for what may go better for another: whose credentials differ, or when the engine is back.
    fn of(pulled: &Result<(), EngineError>) -> Option<Self> {
        match pulled {
            Ok(()) => Some(Self::Pulled),
            Err(EngineError::ImageNotFound { reason, .. }) => Some(Self::NotFound { reason: reason.clone() }),
            Err(EngineError::RegistryUnreachable { reason, .. }) => Some(Self::Unreachable { reason: reason.clone() }),
            Err(EngineError::PullStalled { limit, .. }) => {
                Some(Self::Unreachable { reason: format!("nothing has come for {} seconds", limit.as_secs()) })
            }
            Err(EngineError::Pull { reason, .. }) => Some(Self::Failed { reason: reason.clone() }),
            Err(_) => None,
        }
    }

    fn into_error(self, image: &Image) -> EngineError {
        let image = image.to_string();
        match self {
            Self::NotFound { reason } => EngineError::ImageNotFound { image, reason },
            Self::Unreachable { reason } => EngineError::RegistryUnreachable { image, reason },
            Self::Failed { reason } => EngineError::Pull { image, reason },
            Self::Pulled => unreachable!("that is no error"),
        }
    }
}

/// Why an image is not here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}
