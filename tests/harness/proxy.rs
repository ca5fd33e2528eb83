//! A proxy on the engine's socket, which does to chosen requests what a broken engine or network does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// What becomes of a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It is passed on later.
    Delay(Duration),
    /// It is passed on, and the connection is closed when so many bytes of the answer have come back.
    DropAfter(usize),
    /// It is passed on and done, and the answer is lost.
    LoseReply,
    /// It is not passed on; this status and message are the answer.
    Reply(u16, &'static str),
}

#[derive(Debug)]
struct Rule {
    /// Of the request's first line.
    has: &'static str,
    fault: Fault,
    times: usize,
}

/// Passes everything on that no rule is for.
pub(crate) struct Proxy {
    path: PathBuf,
    rules: Arc<Mutex<Vec<Rule>>>,
    _until_dropped: tokio::sync::oneshot::Sender<()>,
}

impl Proxy {
    /// Listens at `path` for the engine at `engine`.
    pub(crate) fn start(path: PathBuf, engine: &Path) -> Self {
        let rules = Arc::<Mutex<Vec<Rule>>>::default();
        let (until_dropped, dropped) = tokio::sync::oneshot::channel();
        let (shared, engine, at) = (rules.clone(), engine.to_owned(), path.clone());
        let listener = std::os::unix::net::UnixListener::bind(&at).unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(UnixListener::from_std(listener).unwrap(), engine, shared) => {}
                    _ = dropped => {}
                }
            });
        });
        Self { path, rules, _until_dropped: until_dropped }
    }

    /// For DOCKER_HOST.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Does this to the next `times` requests whose first line has that text.
    pub(crate) fn on(&self, has: &'static str, fault: Fault, times: usize) {
        self.rules.lock().unwrap().push(Rule { has, fault, times });
    }

    /// How many faults are still to come.
    pub(crate) fn pending(&self) -> usize {
        self.rules.lock().unwrap().iter().map(|rule| rule.times).sum()
    }
}

async fn serve(listener: UnixListener, engine: PathBuf, rules: Arc<Mutex<Vec<Rule>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (engine, rules) = (engine.clone(), rules.clone());
        tokio::spawn(async move {
            // A connection that breaks is what this is for.
            let _ = pass(stream, &engine, &rules).await;
        });
    }
}

async fn pass(mut client: UnixStream, engine: &Path, rules: &Mutex<Vec<Rule>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(2).any(|end| end == b"\r\n") {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
    let fault = {
        let mut rules = rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| rule.times > 0 && line.contains(rule.has));
        rule.map(|rule| {
            rule.times -= 1;
            rule.fault.clone()
        })
    };
    if let Some(Fault::Reply(status, message)) = fault {
        let body = format!("{{\"message\":\"{message}\"}}");
        let head = format!(
            "HTTP/1.1 {status} Fault\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        client.write_all(head.as_bytes()).await?;
        return client.write_all(body.as_bytes()).await;
    }
    if let Some(Fault::Delay(pause)) = fault {
        tokio::time::sleep(pause).await;
    }
    let mut server = UnixStream::connect(engine).await?;
    server.write_all(&request).await?;
    let allowed = match fault {
        Some(Fault::DropAfter(bytes)) => bytes,
        Some(Fault::LoseReply) => 0,
        _ => {
            tokio::io::copy_bidirectional(&mut client, &mut server).await?;
            return Ok(());
        }
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let upwards = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let (mut passed, mut buffer) = (0, vec![0; 4096]);
    loop {
        let count = from_server.read(&mut buffer).await?;
        let rest = allowed - passed;
        // An answer that is lost was given: the request is done.
        to_client.write_all(&buffer[..count.min(rest)]).await?;
        passed += count.min(rest);
        if count == 0 || passed == allowed {
            break;
        }
    }
    upwards.abort();
    Ok(())
}
