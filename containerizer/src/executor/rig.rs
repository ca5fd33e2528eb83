//! An executor under test, with the container's owner played by the test.

#![allow(clippy::unwrap_used, reason = "tests")]

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::core::{Config, Finished};
use super::environment::Environment;
use super::probe::Prober;
use super::run;
use super::wire::Wire;
use crate::lifecycle::{Cause, Command, Ending, Event, Started};

/// The executor, and the far ends of its channels.
pub(super) struct Rig {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: mpsc::Sender<Event>,
    /// SIGTERM.
    pub(super) terminate: Option<oneshot::Sender<()>>,
    pub(super) executor: JoinHandle<Finished>,
}

impl Rig {
    pub(super) fn start(environment: Environment) -> Self {
        let (to_owner, commands) = mpsc::channel(1);
        let (events, from_owner) = mpsc::channel(1);
        let (terminate, terminated) = oneshot::channel::<()>();
        let terminated = async move {
            if terminated.await.is_err() {
                std::future::pending().await
            }
        };
        let config = Config::new(&environment, run::new_seed());
        let executor = tokio::spawn(async move {
            let wire = Wire::new(&environment, None).await.unwrap();
            let prober = Prober::new(crate::environment::Environment::default());
            run::run_core(config, run::Reach { wire, prober }, |_| {}, |_| {}, to_owner, from_owner, terminated).await
        });
        Self { commands, events, terminate: Some(terminate), executor }
    }

    pub(super) async fn started(&self) {
        self.events.send(Event::Started(Started::default())).await.unwrap();
    }

    pub(super) async fn end(&self, code: i32, was_stopped: bool) {
        let ending = Ending {
            cause: Cause::Exited { code },
            was_stopped,
            started: Some(Started::default()),
            finished_at: 1.0,
            stdout_bytes: None,
            stderr_bytes: None,
            lost_bytes: Some(0),
        };
        self.events.send(Event::Ended(ending)).await.unwrap();
    }

    pub(super) async fn finished(self) -> Finished {
        self.executor.await.unwrap()
    }
}
