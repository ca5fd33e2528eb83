//! The v1 executor API over HTTP, Mesos 0.28 to 1.11: calls go out, the agent's events and answers come back as inputs.
//!
//! One stream at most is open or being opened, and one call at most is under way, each on a connection of its own. Decides
//! nothing but whether a refusal may pass: an agent that recovers refuses for a while.

use futures::future::BoxFuture;
use proto::executor::{Call, Event, event};
use proto::http::{Client, ClientOptions, EventStream, HttpError};
use url::Url;

use super::core::Input;
use super::environment::Environment;

/// The agent, as its HTTP executor sees it.
pub struct Http {
    client: Client,
    url: Url,
    stream: Stream,
    sending: Option<BoxFuture<'static, Result<(), HttpError>>>,
}

enum Stream {
    Closed,
    Opening(BoxFuture<'static, Result<EventStream<Event>, HttpError>>),
    Open(Box<EventStream<Event>>),
}

impl Http {
    /// Connects nowhere yet.
    ///
    /// # Errors
    /// When there can be no client.
    pub fn new(environment: &Environment) -> Result<Self, HttpError> {
        let bearer_token = environment.token.clone();
        let client = Client::new(ClientOptions { bearer_token, ..ClientOptions::default() })?;
        Ok(Self { client, url: environment.api_url(), stream: Stream::Closed, sending: None })
    }

    /// Starts to open a stream; drops an old one, and a call under way.
    pub(super) fn subscribe(&mut self, call: Call) {
        let (client, url) = (self.client.clone(), self.url.clone());
        self.sending = None;
        self.stream = Stream::Opening(Box::pin(async move { client.subscribe(&url, &call).await }));
    }

    /// Starts to post a call; `next` tells how it went.
    pub(super) fn send(&mut self, call: Call) {
        let (client, url) = (self.client.clone(), self.url.clone());
        self.sending = Some(Box::pin(async move { client.post(&url, &call, None).await }));
    }

    /// The next thing the agent says; waits for ever when nothing is open. Cancel safe.
    pub(super) async fn next(&mut self) -> Input {
        loop {
            let sent = async {
                match &mut self.sending {
                    Some(sending) => sending.await,
                    None => std::future::pending().await,
                }
            };
            let input = tokio::select! {
                result = sent => {
                    self.sending = None;
                    match result {
                        Ok(()) => Some(Input::Sent),
                        Err(error) => Some(Input::SendFailed { reason: error.to_string() }),
                    }
                }
                input = self.stream.next() => input,
            };
            if let Some(Input::Disconnected { .. } | Input::Error(_)) = input {
                self.sending = None;
            }
            if let Some(input) = input {
                return input;
            }
        }
    }
}

impl Stream {
    /// `None` for what an executor of one task has no use for.
    async fn next(&mut self) -> Option<Input> {
        match self {
            Self::Closed => std::future::pending().await,
            Self::Opening(opening) => match opening.await {
                Ok(stream) => {
                    *self = Self::Open(Box::new(stream));
                    None
                }
                Err(error) => Some(self.lost(&error)),
            },
            Self::Open(stream) => match stream.next().await {
                Ok(Some(event)) => input(event),
                Ok(None) => {
                    *self = Self::Closed;
                    Some(Input::Disconnected { reason: "the agent ended its stream of events".to_owned() })
                }
                // The stream itself is whole.
                Err(error @ HttpError::Decode { .. }) => {
                    tracing::warn!(%error, "an event that cannot be read is passed over");
                    None
                }
                Err(error) => Some(self.lost(&error)),
            },
        }
    }

    fn lost(&mut self, error: &HttpError) -> Input {
        *self = Self::Closed;
        let reason = error.to_string();
        if may_pass(error) { Input::Disconnected { reason } } else { Input::Error(reason) }
    }
}

/// Whether another attempt to subscribe may succeed.
fn may_pass(error: &HttpError) -> bool {
    match error {
        // Agents before 1.0.2 answer 400 in early recovery, 404 comes before the routes are there.
        HttpError::Status { status, body, .. } => {
            *status >= 500 || *status == 404 || *status == 400 && body.contains("Framework cannot be found")
        }
        HttpError::Connect { .. } | HttpError::Timeout { .. } | HttpError::Stream { .. } => true,
        HttpError::Options { .. }
        | HttpError::Request { .. }
        | HttpError::Redirect { .. }
        | HttpError::Tls { .. }
        | HttpError::Unauthorized { .. }
        | HttpError::NotMesos { .. }
        | HttpError::TooLarge { .. }
        | HttpError::Decode { .. } => false,
    }
}

fn input(event: Event) -> Option<Input> {
    match event.r#type() {
        event::Type::Subscribed => event.subscribed.map(|subscribed| Input::Subscribed(Box::new(subscribed))),
        event::Type::Launch => event.launch.map(|launch| Input::Launch(Box::new(launch.task))),
        event::Type::Kill => {
            event.kill.map(|kill| Input::Kill { task_id: kill.task_id.value, kill_policy: kill.kill_policy })
        }
        event::Type::Acknowledged => {
            event.acknowledged.map(|it| Input::Acknowledged { task_id: it.task_id.value, uuid: it.uuid })
        }
        event::Type::Message => event.message.map(|message| Input::Message(message.data)),
        event::Type::Shutdown => Some(Input::Shutdown),
        event::Type::Error => event.error.map(|error| Input::Error(format!("the agent says: {}", error.message))),
        // Task groups go to executors that a framework chose for them, never to a command task's.
        event::Type::LaunchGroup | event::Type::Heartbeat | event::Type::Unknown => None,
    }
}
