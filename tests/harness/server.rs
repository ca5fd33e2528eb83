//! A tiny HTTP server that is not a Mesos master: the same answer to everything.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

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

    fn handling(handle: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
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

/// An address of the loopback interface on which nothing listens.
pub(crate) fn closed_port() -> String {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").to_string()
}
