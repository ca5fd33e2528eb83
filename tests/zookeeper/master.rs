//! A master that knows two questions: its version, and SUBSCRIBE.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prost::Message;
use proto::recordio;
use proto::scheduler::{Event, event};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// What each of them runs.
pub(crate) const VERSION: &str = "1.11.0";

/// What SUBSCRIBE is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A stream: SUBSCRIBED with the master's address as the framework's id, then what it is told to say.
    Stream,
    /// 503, as during recovery.
    NotReady,
    /// 401.
    Unauthorized,
}

/// Serves until dropped; its streams end then.
pub(crate) struct Master {
    address: String,
    words: broadcast::Sender<Vec<u8>>,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    address: String,
    answer: Answer,
    words: broadcast::Sender<Vec<u8>>,
}

impl Master {
    pub(crate) async fn start() -> Self {
        Self::answering(Answer::Stream).await
    }

    pub(crate) async fn answering(answer: Answer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let words = broadcast::Sender::new(16);
        let shared = Shared { address: address.clone(), answer, words: words.clone() };
        let router = Router::new().fallback(handle).with_state(shared);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, words, serving }
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// To all who are subscribed.
    pub(crate) fn say(&self, event: &Event) {
        self.words.send(recordio::encode(&event.encode_to_vec())).unwrap();
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.serving.abort();
        // Tells the streams to end.
        let _ = self.words.send(Vec::new());
    }
}

async fn handle(State(shared): State<Shared>, request: Request) -> Response {
    let Shared { address, answer, words } = shared;
    match (request.uri().path(), answer) {
        ("/version", _) => format!(r#"{{"version":"{VERSION}"}}"#).into_response(),
        ("/api/v1/scheduler", Answer::NotReady) => {
            (StatusCode::SERVICE_UNAVAILABLE, "No leader elected").into_response()
        }
        ("/api/v1/scheduler", Answer::Unauthorized) => StatusCode::UNAUTHORIZED.into_response(),
        ("/api/v1/scheduler", Answer::Stream) => {
            let mut subscribed = event::Subscribed::default();
            subscribed.framework_id.value = address;
            let event = Event {
                r#type: Some(event::Type::Subscribed.into()),
                subscribed: Some(subscribed.into()),
                ..Event::default()
            };
            let first = recordio::encode(&event.encode_to_vec());
            let stream = futures::stream::unfold((Some(first), words.subscribe()), |(first, mut words)| async move {
                let record = match first {
                    Some(first) => first,
                    None => words.recv().await.ok().filter(|record| !record.is_empty())?,
                };
                Some((Ok::<_, std::convert::Infallible>(record), (None, words)))
            });
            ([(header::CONTENT_TYPE, "application/x-protobuf")], Body::from_stream(stream)).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
