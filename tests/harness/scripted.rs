//! A master and an agent that say what a test writes for them: what real ones of any version say, where these cannot be made to say it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use prost::Message;
use proto::mesos::task_status::{Reason, Source};
use proto::mesos::{Address, AgentId, FrameworkId, Offer, OfferId, TaskId, TaskState, TaskStatus, Url, Value, value};
use proto::recordio;
use proto::resources::Resources;
use proto::scheduler::{Call, Event, call, event};

/// What becomes of the task.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// Of the master and the agent.
    pub(crate) version: &'static str,
    /// The statuses that follow the launch, each with its text.
    pub(crate) statuses: Vec<(TaskState, Option<Reason>, Source, &'static str)>,
    /// The sandbox's stdout and stderr; TASK stands for the task's id.
    pub(crate) output: [&'static str; 2],
}

/// Offers one agent, a1.example, until dropped.
pub(crate) struct Scripted {
    address: String,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    pub(crate) fn start(script: Script) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().unwrap().port();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let world = Arc::new(World { script, port, ..World::default() });
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let (Ok(connection), world) = (connection, Arc::clone(&world)) else { continue };
                // A connection that breaks is the launcher's matter.
                std::thread::spawn(move || drop(world.serve(connection)));
            }
        });
        Self { address: format!("127.0.0.1:{port}"), is_over, thread: Some(thread) }
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Default for Script {
    fn default() -> Self {
        Self { version: "1.11.0", statuses: Vec::new(), output: ["", ""] }
    }
}

#[derive(Default)]
struct World {
    script: Script,
    port: u16,
    /// Of the subscription; and the task, once there is one.
    stream: std::sync::Mutex<Option<TcpStream>>,
    task_id: std::sync::Mutex<String>,
}

impl World {
    fn serve(&self, connection: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(connection.try_clone()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut length = 0;
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if header.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            if target.starts_with("/api/v1/scheduler") {
                let call = Call::decode(body.as_slice()).expect("a call");
                if call.r#type() == call::Type::Subscribe {
                    return self.subscribe(connection);
                }
                answer(&connection, 202, b"")?;
                self.follow(&call)?;
            } else {
                let (status, body) = self.page(&target);
                answer(&connection, status, &body)?;
            }
        }
    }

    fn subscribe(&self, mut connection: TcpStream) -> std::io::Result<()> {
        connection.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\
              Mesos-Stream-Id: 130ae4e3-6b13-4ef4-baa9-9f2e85c3e9af\r\n\r\n",
        )?;
        *self.stream.lock().unwrap() = Some(connection);
        let framework_id = FrameworkId { value: "F".to_owned() };
        let subscribed = event::Subscribed { framework_id, ..event::Subscribed::default() };
        self.say(&Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(subscribed.into()),
            ..Event::default()
        })?;
        let address = Address {
            hostname: Some("127.0.0.1".to_owned()),
            ip: Some("127.0.0.1".to_owned()),
            port: self.port.into(),
        };
        let offer = Offer {
            id: OfferId { value: "O".to_owned() },
            framework_id: FrameworkId { value: "F".to_owned() },
            agent_id: AgentId { value: "S0".to_owned() },
            hostname: "a1.example".to_owned(),
            url: Some(Url { address, path: Some("/slave(1)".to_owned()), ..Url::default() }),
            resources: "cpus:4;mem:1024".parse::<Resources>().unwrap().into(),
            ..Offer::default()
        };
        self.say(&Event {
            r#type: Some(event::Type::Offers.into()),
            offers: Some(event::Offers { offers: vec![offer] }),
            ..Event::default()
        })
    }

    /// After an ACCEPT that launches come the statuses.
    fn follow(&self, call: &Call) -> std::io::Result<()> {
        let operations = call.accept.iter().flat_map(|accept| &accept.operations);
        let Some(task) =
            operations.filter_map(|operation| operation.launch.as_ref()).flat_map(|launch| &launch.task_infos).next()
        else {
            return Ok(());
        };
        task.task_id.value.clone_into(&mut self.task_id.lock().unwrap());
        for (number, (state, reason, source, message)) in (0_u8..).zip(&self.script.statuses) {
            let status = TaskStatus {
                task_id: task.task_id.clone(),
                state: (*state).into(),
                reason: reason.map(Into::into),
                source: Some((*source).into()),
                message: Some((*message).to_owned()),
                agent_id: Some(AgentId { value: "S0".to_owned() }),
                uuid: (*source != Source::Master).then(|| vec![number; 16]),
                ..TaskStatus::default()
            };
            self.say(&Event {
                r#type: Some(event::Type::Update.into()),
                update: Some(event::Update { status }),
                ..Event::default()
            })?;
        }
        Ok(())
    }

    fn say(&self, event: &Event) -> std::io::Result<()> {
        let record = recordio::encode(&event.encode_to_vec());
        let mut stream = self.stream.lock().unwrap();
        let Some(stream) = stream.as_mut() else { return Ok(()) };
        stream.write_all(&[format!("{:x}\r\n", record.len()).as_bytes(), &record, b"\r\n"].concat())
    }

    /// The agent's sandbox, in the form of any version.
    fn page(&self, target: &str) -> (u16, Vec<u8>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let files = [("stdout", self.script.output[0]), ("stderr", self.script.output[1])]
            .map(|(name, text)| (name, text.replace("TASK", &self.task_id.lock().unwrap())));
        match path {
            "/version" => (200, format!(r#"{{"version":"{}"}}"#, self.script.version).into_bytes()),
            "/files/browse" => {
                let entry = |(name, text): &(&str, String)| format!(r#"{{"path":"/x/{name}","size":{}}}"#, text.len());
                (200, format!("[{}]", files.iter().map(entry).collect::<Vec<_>>().join(",")).into_bytes())
            }
            "/files/read" => {
                let text = files.iter().find(|(name, _)| query.contains(name)).map_or("", |(_, text)| text);
                let offset = query.split('&').find_map(|part| part.strip_prefix("offset=")).unwrap_or_default();
                let offset = offset.parse::<usize>().unwrap_or(text.len()).min(text.len());
                let answer = serde_json::json!({"data": text[offset..], "offset": offset});
                (200, answer.to_string().into_bytes())
            }
            _ => (404, Vec::new()),
        }
    }
}

fn answer(mut connection: &TcpStream, status: u16, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
    connection.write_all(&[head.as_bytes(), body].concat())
}
