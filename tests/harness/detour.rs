//! Another address of a server, where a test can break every connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// For what a test waits for here.
const LIMIT: Duration = Duration::from_secs(30);

/// Passes bytes on until dropped; what is connected breaks then.
pub(crate) struct Detour {
    address: String,
    breaks: watch::Sender<bool>,
    broken: Arc<AtomicUsize>,
    _until_dropped: oneshot::Sender<()>,
}

impl Detour {
    /// To HOST:PORT.
    pub(crate) fn to(server: String) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (breaks, does_break) = watch::channel(false);
        let broken = Arc::<AtomicUsize>::default();
        let (until_dropped, dropped) = oneshot::channel();
        let count = broken.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(TcpListener::from_std(listener).unwrap(), server, does_break, count) => {}
                    _ = dropped => {}
                }
            });
        });
        Self { address, breaks, broken, _until_dropped: until_dropped }
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Breaks what is connected; from now on new connections are closed at once.
    pub(crate) fn break_connections(&self) {
        self.breaks.send_replace(true);
    }

    /// Waits until this many more were.
    pub(crate) fn wait_for_broken(&self, count: usize) {
        let broken = || self.broken.load(Ordering::SeqCst);
        let (wanted, deadline) = (broken() + count, Instant::now() + LIMIT);
        while broken() < wanted {
            assert!(Instant::now() < deadline, "only {} of {wanted} connections were made", broken());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// From now on they are passed on again.
    pub(crate) fn pass(&self) {
        self.breaks.send_replace(false);
    }
}

async fn serve(listener: TcpListener, server: String, breaks: watch::Receiver<bool>, broken: Arc<AtomicUsize>) {
    while let Ok((mut from, _)) = listener.accept().await {
        if *breaks.borrow() {
            drop(from);
            broken.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        let (server, mut breaks) = (server.clone(), breaks.clone());
        tokio::spawn(async move {
            let pass = async {
                let mut to = TcpStream::connect(server).await?;
                tokio::io::copy_bidirectional(&mut from, &mut to).await
            };
            // How a connection ends is of no interest here.
            tokio::select! {
                _ = pass => {}
                _ = breaks.wait_for(|breaks| *breaks) => {}
            }
        });
    }
}
