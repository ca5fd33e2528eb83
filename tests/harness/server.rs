//! Tiny servers: one that is not a Mesos master, a way to one that is closed for a while, a registry that stalls.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::LAUNCH_LIMIT;

/// Serves until dropped, on a free port of the loopback address.
pub(crate) struct Server {
    address: String,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers every request with this status line ("200 OK") and body, and closes the connection.
    pub(crate) fn answering(status: &str, body: &str) -> Self {
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        Self::handling(move |connection| {
            let mut request = [0; 64 << 10];
            let _ = connection.read(&mut request);
            let _ = connection.write_all(answer.as_bytes());
        })
    }

    /// Accepts connections and never says anything.
    pub(crate) fn silent() -> Self {
        Self::handling(|connection| {
            let _ = connection.read_to_end(&mut Vec::new());
        })
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Each connection in a thread of its own.
    pub(crate) fn handling(handle: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().unwrap().to_string();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let handle = Arc::new(handle);
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(mut connection) = connection else { continue };
                let handle = Arc::clone(&handle);
                std::thread::spawn(move || {
                    let _ = connection.set_read_timeout(Some(Duration::from_secs(60)));
                    handle(&mut connection);
                });
            }
        });
        Self { address, is_over, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A way to a master that lets no SUBSCRIBE pass until it is opened.
pub(crate) struct Gate {
    server: Server,
    has_arrived: Arc<Flag>,
    is_open: Arc<Flag>,
}

impl Gate {
    /// In front of the master at this address, closed.
    pub(crate) fn before(master: &str) -> Self {
        let (has_arrived, is_open) = (Arc::<Flag>::default(), Arc::<Flag>::default());
        let (arrived, open, master) = (Arc::clone(&has_arrived), Arc::clone(&is_open), master.to_owned());
        let server = Server::handling(move |connection| {
            let Ok(mut behind) = TcpStream::connect(&master) else { return };
            let answers = (behind.try_clone(), connection.try_clone());
            let (Ok(mut from), Ok(mut to)) = answers else { return };
            let answering = std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            let mut bytes = vec![0; 64 << 10];
            while let Ok(count @ 1..) = connection.read(&mut bytes) {
                if bytes.starts_with(b"POST") {
                    arrived.raise();
                    open.wait();
                }
                if behind.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            let _ = behind.shutdown(Shutdown::Both);
            let _ = answering.join();
        });
        Self { server, has_arrived, is_open }
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        self.server.address()
    }

    /// Waits until a SUBSCRIBE stands before it.
    pub(crate) fn wait_for_arrival(&self) {
        self.has_arrived.wait();
    }

    /// Lets everything pass from now on.
    pub(crate) fn open(&self) {
        self.is_open.raise();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Whoever stands before it goes home.
        self.open();
    }
}

/// A registry that knows an image and never says what is in it.
pub(crate) struct Registry {
    server: Server,
    is_asked: Arc<Flag>,
}

impl Registry {
    /// Serves until dropped. An engine takes a registry on the loopback address without TLS.
    pub(crate) fn stalling() -> Self {
        let is_asked = Arc::<Flag>::default();
        let asked = Arc::clone(&is_asked);
        let server = Server::handling(move |connection| {
            let mut request = [0; 16 << 10];
            let count = connection.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..count]);
            if request.contains("/manifests/") {
                asked.raise();
                let _ = connection.read_to_end(&mut Vec::new());
            } else if request.starts_with("GET /v2/") {
                let answer = "HTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\n\
                              Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
                let _ = connection.write_all(answer.as_bytes());
            }
        });
        Self { server, is_asked }
    }

    /// The name of the image.
    pub(crate) fn image(&self) -> String {
        format!("{}/stalls:1", self.server.address())
    }

    /// Whether somebody has tried to pull it.
    pub(crate) fn is_asked(&self) -> bool {
        *self.is_asked.is_raised.lock().unwrap()
    }

    /// Waits until somebody pulls it.
    pub(crate) fn wait_for_pull(&self) {
        self.is_asked.wait();
    }
}

/// Is raised once.
#[derive(Default)]
struct Flag {
    is_raised: Mutex<bool>,
    changed: Condvar,
}

impl Flag {
    fn raise(&self) {
        *self.is_raised.lock().unwrap() = true;
        self.changed.notify_all();
    }

    /// Waits, with a limit that fails a test.
    fn wait(&self) {
        let is_raised = self.is_raised.lock().unwrap();
        let (is_raised, _) = self.changed.wait_timeout_while(is_raised, LAUNCH_LIMIT, |is_raised| !*is_raised).unwrap();
        assert!(*is_raised, "it did not come within {LAUNCH_LIMIT:?}");
    }
}

/// An address of the loopback interface on which nothing listens.
pub(crate) fn closed_port() -> String {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").to_string()
}
