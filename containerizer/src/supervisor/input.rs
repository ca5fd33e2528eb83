//! A container's standard input on its way from the executor to the engine.
//!
//! Whatever the container does not take stays where it is: the executor is told of each part that was taken, and lets the
//! launcher send no more than a window beyond that. The engine makes the end of our connection the end of the container's
//! input, so a successor cannot go on with it.

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::docker::{Engine, Stdin};
use crate::lifecycle::{Event, StdinPart};

/// Input that is on its way until this is dropped.
#[derive(Debug)]
pub(super) struct Feeding(JoinHandle<()>);

impl Feeding {
    /// Gives the container all that comes; `events` hears how far it is, as long as somebody else holds the channel, too.
    pub(super) fn start(
        engine: Engine,
        docker_id: String,
        stdin: Stdin,
        given: mpsc::UnboundedReceiver<StdinPart>,
        events: mpsc::WeakSender<Event>,
    ) -> Self {
        Self(tokio::spawn(async move {
            let over = feed(stdin, given, &events).await;
            let event = match over {
                Over::Ended(_) => Event::StdinOver,
                Over::Closed => closed(&engine, &docker_id).await,
            };
            tell(&events, event).await;
            if let Over::Ended(stdin) = over {
                // What the engine has not passed on yet needs the connection.
                stdin.closed.await;
            }
        }))
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why no more was given.
enum Over {
    /// All of it was.
    Ended(Stdin),
    /// The engine took no more.
    Closed,
}

async fn feed(
    mut stdin: Stdin,
    mut given: mpsc::UnboundedReceiver<StdinPart>,
    events: &mpsc::WeakSender<Event>,
) -> Over {
    loop {
        let part = tokio::select! {
            () = &mut stdin.closed => return Over::Closed,
            part = given.recv() => part,
        };
        match part {
            Some(StdinPart::Bytes(bytes)) => {
                let write = async {
                    stdin.input.write_all(&bytes).await?;
                    stdin.input.flush().await
                };
                let written = tokio::select! {
                    () = &mut stdin.closed => return Over::Closed,
                    written = write => written,
                };
                if written.is_err() {
                    return Over::Closed;
                }
                tell(events, Event::StdinTaken(bytes.len() as u64)).await;
            }
            Some(StdinPart::End) => {
                let ended = stdin.input.shutdown().await;
                return if ended.is_ok() { Over::Ended(stdin) } else { Over::Closed };
            }
            // The owner has ended.
            None => std::future::pending().await,
        }
    }
}

/// Whose doing it is that no more is taken. The container closes its input as it likes; an engine that ends does so, too, and is
/// not there then.
async fn closed(engine: &Engine, docker_id: &str) -> Event {
    match engine.inspect(docker_id).await {
        Ok(_) => Event::StdinOver,
        Err(error) => {
            tracing::error!(%error, "the container's input broke off");
            Event::StdinLost
        }
    }
}

async fn tell(events: &mpsc::WeakSender<Event>, event: Event) {
    if let Some(events) = events.upgrade() {
        // Only an executor that is gone does not take it.
        let _ = events.send(event).await;
    }
}
