//! Calls to the leader, one after the other: the master must see them in the order in which the core made them.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::http::{Client, EventStream};
use proto::scheduler::{Call, Event, call};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use url::Url;

use crate::master::{Subscription, chain};

/// A call that the master did not take, and why.
pub(super) type Failure = (Box<Call>, String);

/// The queue of calls and the task that empties it.
pub(super) struct Calls {
    orders: mpsc::UnboundedSender<Order>,
    failures: mpsc::UnboundedReceiver<Failure>,
    worker: JoinHandle<()>,
    target: Option<Target>,
    /// Counts the subscriptions. A leader that is gone must not hold up the calls to the next one.
    subscription: Arc<AtomicU64>,
}

/// Where calls go while subscribed.
#[derive(Clone)]
struct Target {
    endpoint: Url,
    stream_id: Option<String>,
    takes_suppress: bool,
    subscription: u64,
}

enum Order {
    Post(Target, Box<Call>),
    /// The calls before it need the stream to be open: the master refuses those of a framework that is not subscribed.
    Close(#[expect(dead_code, reason = "held until its turn, then dropped")] Box<EventStream<Event>>),
}

impl Calls {
    /// Must be called within a tokio runtime.
    pub(super) fn new(client: Client) -> Self {
        let (orders, mut inbox) = mpsc::unbounded_channel();
        let (failed, failures) = mpsc::unbounded_channel();
        let subscription = Arc::new(AtomicU64::new(0));
        let newest = Arc::clone(&subscription);
        let worker = tokio::spawn(async move {
            while let Some(order) = inbox.recv().await {
                let Order::Post(target, call) = order else { continue };
                tracing::debug!(call = ?call.r#type(), "posting");
                let result = if target.subscription == newest.load(Ordering::Acquire) {
                    let answer = client.post(&target.endpoint, &*call, target.stream_id.as_deref()).await;
                    answer.map_err(|error| chain(&error))
                } else {
                    Err("the subscription that it was made for is over".to_owned())
                };
                if let Err(reason) = result {
                    tracing::info!(call = ?call.r#type(), reason, "a call failed");
                    // Nobody listens any more once the launch is over.
                    let _ = failed.send((call, reason));
                }
            }
        });
        Self { orders, failures, worker, target: None, subscription }
    }

    /// From here on calls go to this subscription.
    pub(super) fn connect(&mut self, subscription: &Subscription) {
        let number = self.subscription.fetch_add(1, Ordering::AcqRel) + 1;
        self.target = Some(Target {
            subscription: number,
            endpoint: subscription.endpoint(),
            stream_id: subscription.stream.stream_id().map(str::to_owned),
            takes_suppress: subscription.takes_suppress(),
        });
    }

    /// Queues a call. `Err`: there is no subscription to post it to.
    pub(super) fn post(&self, call: Box<Call>) -> Result<(), Failure> {
        match &self.target {
            Some(target) if call.r#type() == call::Type::Suppress && !target.takes_suppress => Ok(()),
            Some(target) => {
                // The worker lives as long as this queue.
                let _ = self.orders.send(Order::Post(target.clone(), call));
                Ok(())
            }
            None => Err((call, "there is no master to send it to".to_owned())),
        }
    }

    /// Ends the subscription, after the calls that were posted before.
    pub(super) fn disconnect(&mut self, stream: Option<EventStream<Event>>) {
        self.target = None;
        if let Some(stream) = stream {
            let _ = self.orders.send(Order::Close(Box::new(stream)));
        }
    }

    /// The next call that failed. Cancel safe.
    pub(super) async fn next_failure(&mut self) -> Failure {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => pending().await,
        }
    }

    /// Waits until everything queued was sent, or `limit` has passed.
    pub(super) async fn flush(self, limit: Duration) {
        drop(self.orders);
        let _ = tokio::time::timeout(limit, self.worker).await;
    }
}
