//! A network between a launcher and its cluster, with the faults of real ones: packets that vanish, connections that break, requests that
//! are late or come twice, a door that is shut.
//!
//! ```text
//! launcher --> Wire --> master or agent
//!              | Open: passes all
//!              | Frozen: passes nothing and closes nothing, as where every packet is dropped; new connections hang
//!              | Gone: breaks every connection, and new ones at once
//!              ' Saying: the same, but new connections get this answer
//! ```

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::LAUNCH_LIMIT;

/// What becomes of what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Weather {
    Open,
    Frozen,
    Gone,
    /// A status line, "401 Unauthorized".
    Saying(&'static str),
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trick {
    /// It waits for [`Wire::release`], whatever becomes of other connections.
    Hold,
    /// It is passed on twice; the second answer goes nowhere.
    Twice,
}

/// Passes bytes on between this address and another, until dropped.
pub(crate) struct Wire {
    address: String,
    shared: Arc<Shared>,
    _until_dropped: oneshot::Sender<()>,
}

struct Shared {
    behind: String,
    weather: watch::Sender<Weather>,
    /// Counted, so that none is overlooked.
    cuts: watch::Sender<usize>,
    /// For the next request that has these bytes.
    trick: Mutex<Option<(Vec<u8>, Trick)>>,
    /// Whether a request is held.
    is_holding: watch::Sender<bool>,
    is_released: watch::Sender<bool>,
    /// The status line of the answer to the request that was held.
    late_answer: watch::Sender<Option<String>>,
    /// Connections that were made so far.
    connections: watch::Sender<usize>,
}

impl Wire {
    /// To HOST:PORT.
    pub(crate) fn to(behind: &str) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            behind: behind.to_owned(),
            weather: watch::Sender::new(Weather::Open),
            cuts: watch::Sender::new(0),
            trick: Mutex::default(),
            is_holding: watch::Sender::new(false),
            is_released: watch::Sender::new(false),
            late_answer: watch::Sender::new(None),
            connections: watch::Sender::new(0),
        });
        let (until_dropped, dropped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(TcpListener::from_std(listener).unwrap(), serving) => {}
                    _ = dropped => {}
                }
            });
        });
        Self { address, shared, _until_dropped: until_dropped }
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// From now on.
    pub(crate) fn turn(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// Breaks every connection that there is; new ones are made.
    pub(crate) fn cut(&self) {
        self.shared.cuts.send_modify(|count| *count += 1);
    }

    /// Does this to the next request that has this text.
    pub(crate) fn play(&self, text: &str, trick: Trick) {
        *self.shared.trick.lock().unwrap() = Some((text.as_bytes().to_vec(), trick));
    }

    /// Whether the trick was played, or none was ordered.
    pub(crate) fn has_played(&self) -> bool {
        self.shared.trick.lock().unwrap().is_none()
    }

    /// Waits until a request is held.
    pub(crate) fn wait_for_held(&self) {
        wait_for(&self.shared.is_holding, |is_holding| *is_holding);
    }

    /// Lets it go on.
    pub(crate) fn release(&self) {
        self.shared.is_released.send_replace(true);
    }

    /// What the request that was held is answered at last: a status line.
    pub(crate) fn wait_for_late_answer(&self) -> String {
        wait_for(&self.shared.late_answer, Option::is_some);
        self.shared.late_answer.borrow().clone().unwrap_or_default()
    }

    /// How many connections were made so far.
    pub(crate) fn connections(&self) -> usize {
        *self.shared.connections.borrow()
    }

    /// Waits until there were more of them.
    pub(crate) fn wait_for_connections(&self, more_than: usize) {
        wait_for(&self.shared.connections, |count| *count > more_than);
    }
}

fn wait_for<T>(sender: &watch::Sender<T>, is_so: impl Fn(&T) -> bool) {
    let deadline = Instant::now() + LAUNCH_LIMIT;
    while !is_so(&sender.borrow()) {
        assert!(Instant::now() < deadline, "nothing of the kind came over the wire");
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.connections.send_modify(|count| *count += 1);
        tokio::spawn(connect(client, Arc::clone(&shared)));
    }
}

async fn connect(mut client: TcpStream, shared: Arc<Shared>) {
    let weather = shared.weather.borrow().clone();
    match weather {
        Weather::Gone => return,
        Weather::Saying(status) => {
            let mut request = vec![0; 64 << 10];
            let _ = client.read(&mut request).await;
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = client.write_all(answer.as_bytes()).await;
            return;
        }
        Weather::Open | Weather::Frozen => {}
    }
    let mut changes = shared.weather.subscribe();
    if changes.wait_for(|weather| *weather != Weather::Frozen).await.is_err() {
        return;
    }
    let Ok(behind) = TcpStream::connect(&shared.behind).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_behind, to_behind) = behind.into_split();
    let is_held = watch::Sender::new(false);
    tokio::join!(
        pump(from_client, to_behind, &shared, Some(&is_held), is_held.subscribe()),
        pump(from_behind, to_client, &shared, None, is_held.subscribe()),
    );
}

/// One direction of one connection. `is_held`: whether a request of it is; then it breaks for no weather.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Arc<Shared>,
    holds: Option<&watch::Sender<bool>>,
    is_held: watch::Receiver<bool>,
) {
    let mut changes = shared.weather.subscribe();
    let mut cuts = shared.cuts.subscribe();
    let mut bytes = vec![0; 64 << 10];
    loop {
        let weather = changes.borrow_and_update().clone();
        let is_exempt = *is_held.borrow();
        match weather {
            Weather::Gone | Weather::Saying(_) if !is_exempt => return,
            Weather::Frozen if !is_exempt => {
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Weather::Open | Weather::Frozen | Weather::Gone | Weather::Saying(_) => {}
        }
        let count = tokio::select! {
            biased;
            changed = changes.changed() => if changed.is_ok() { continue } else { return },
            cut = cuts.changed() => if cut.is_ok() && *is_held.borrow() { continue } else { return },
            read = from.read(&mut bytes) => match read {
                Ok(count @ 1..) => count,
                _ => return,
            },
        };
        let sent = &bytes[..count];
        if let Some(holds) = holds {
            match shared.trick_for(sent) {
                Some(Trick::Hold) => {
                    holds.send_replace(true);
                    shared.is_holding.send_replace(true);
                    if shared.is_released.subscribe().wait_for(|is_released| *is_released).await.is_err() {
                        return;
                    }
                }
                Some(Trick::Twice) => {
                    let Ok(mut other) = TcpStream::connect(&shared.behind).await else { return };
                    if other.write_all(sent).await.is_err() {
                        return;
                    }
                    tokio::spawn(async move {
                        let _ = tokio::io::copy(&mut other, &mut tokio::io::sink()).await;
                    });
                }
                None => {}
            }
        }
        if holds.is_none() && *is_held.borrow() {
            let line = String::from_utf8_lossy(sent).lines().next().unwrap_or_default().to_owned();
            shared.late_answer.send_replace(Some(line));
        }
        if to.write_all(sent).await.is_err() {
            return;
        }
    }
}

impl Shared {
    fn trick_for(&self, sent: &[u8]) -> Option<Trick> {
        let mut next = self.trick.lock().unwrap();
        let (text, trick) = next.as_ref()?;
        let trick = *trick;
        if !sent.windows(text.len()).any(|window| window == text) {
            return None;
        }
        assert!(sent.starts_with(b"POST"), "the request came in pieces");
        *next = None;
        Some(trick)
    }
}
