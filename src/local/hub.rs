//! Where everything of a running cluster meets: the cores of master and agents, the open streams, the verbs on their way.
//!
//! ```text
//! http ----call----> Hub --Input--> Master core --Effect--> stream, or agent
//!                     |   --Input--> Agent core --Effect--> stream, or master, or a verb
//!                     `-- one task per verb; its result is an Input again
//! ```
//!
//! All of it runs on one thread, so the lock is never waited for; it is held for one input and everything that follows from
//! it, and never across an await.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Name;
use proto::{executor, mesos, recordio, scheduler};
use tokio::sync::{Notify, mpsc, oneshot};

use super::access::{Claims, ExecutorTokens};
use super::agent::{self, Agent};
use super::containerizer::{Containerizer, VerbError};
use super::master::{self, AgentDescription, Master, StreamId};
use super::sandbox;
use crate::master::chain;

/// Where real agents put an executor's token.
const EXECUTOR_TOKEN: &str = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN";

/// How messages are written on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Protobuf,
    Json,
}

/// Why a call is refused.
#[derive(Debug)]
pub(super) struct Rejection {
    pub status: u16,
    pub text: String,
}

/// The cluster's shared heart; cheap to pass around as an `Arc`.
pub(super) struct Hub {
    state: Mutex<State>,
    /// Something happened: deadlines may have moved.
    changed: Notify,
    /// Something happened: executors may have gone.
    quieter: Notify,
    containerizer: Containerizer,
    started: Instant,
    /// Whether executors must prove who they are.
    has_executor_tokens: bool,
}

pub(super) struct State {
    pub master: Master,
    pub agents: Vec<Agent>,
    agent_numbers: HashMap<String, usize>,
    streams: HashMap<StreamId, Stream>,
    waits: HashMap<String, oneshot::Sender<()>>,
    pub executor_tokens: ExecutorTokens,
    /// Verbs on their way.
    verbs: usize,
    /// Containers that `destroy` could not end, or that nobody could ask about.
    undestroyed: Vec<String>,
    /// The cluster has ended: nothing happens any more.
    is_closed: bool,
}

struct Stream {
    sender: mpsc::UnboundedSender<Bytes>,
    format: Format,
}

/// What flows between the cores.
enum Work {
    Master(master::Input),
    Agent(usize, agent::Input),
}

/// The records of one stream, as they go to the client; dropping it says that the client has gone.
pub(super) struct Records {
    hub: Arc<Hub>,
    stream: StreamId,
    receiver: mpsc::UnboundedReceiver<Bytes>,
}

impl Hub {
    pub(super) fn new(
        master: Master,
        agents: Vec<Agent>,
        containerizer: Containerizer,
        started: Instant,
        has_executor_tokens: bool,
    ) -> Arc<Self> {
        let ids = agents.iter().map(|agent| agent.config().info.id.clone().unwrap_or_default().value);
        let agent_numbers = ids.enumerate().map(|(number, id)| (id, number)).collect();
        let state = State {
            master,
            agents,
            agent_numbers,
            streams: HashMap::new(),
            waits: HashMap::new(),
            executor_tokens: ExecutorTokens::default(),
            verbs: 0,
            undestroyed: Vec::new(),
            is_closed: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            quieter: Notify::new(),
            containerizer,
            started,
            has_executor_tokens,
        })
    }

    /// For reading only.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // After a panic the books may be incomplete, but what they name must still be destroyed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn containerizer(&self) -> &Containerizer {
        &self.containerizer
    }

    /// # Errors
    ///
    /// The master refuses the call; a framework it refuses gets a stream with an ERROR instead.
    pub(super) fn subscribe_scheduler(
        self: &Arc<Self>,
        call: scheduler::Call,
        format: Format,
    ) -> Result<Records, Rejection> {
        self.open(format, |stream| Work::Master(master::Input::Subscribe { stream, call: Box::new(call) }))
    }

    /// # Errors
    ///
    /// The master refuses the call.
    pub(super) fn call_master(
        self: &Arc<Self>,
        stream: Option<StreamId>,
        call: scheduler::Call,
    ) -> Result<(), Rejection> {
        self.run(Work::Master(master::Input::Call { stream, call: Box::new(call) }))
    }

    /// # Errors
    ///
    /// The agent refuses the call.
    pub(super) fn subscribe_executor(
        self: &Arc<Self>,
        agent: usize,
        call: executor::Call,
        format: Format,
    ) -> Result<Records, Rejection> {
        self.open(format, |stream| Work::Agent(agent, agent::Input::Subscribe { stream, call: Box::new(call) }))
    }

    /// # Errors
    ///
    /// The agent refuses the call.
    pub(super) fn call_agent(self: &Arc<Self>, agent: usize, call: executor::Call) -> Result<(), Rejection> {
        self.run(Work::Agent(agent, agent::Input::Call(Box::new(call))))
    }

    /// Offers what the agents have.
    pub(super) fn register_agents(self: &Arc<Self>) {
        let descriptions: Vec<_> = self.state().agents.iter().map(describe).collect();
        for description in descriptions {
            self.tell(Work::Master(master::Input::AgentRegistered(Box::new(description))));
        }
    }

    /// Calls the cores when their deadlines pass; never returns.
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            let next = {
                let state = self.state();
                let agents = state.agents.iter().filter_map(Agent::next_timeout);
                agents.chain(state.master.next_timeout()).min()
            };
            let pause = next.map(|at| at.saturating_sub(self.started.elapsed()));
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep(pause) => {
                    let agents = self.state().agents.len();
                    self.tell(Work::Master(master::Input::Tick));
                    for agent in 0..agents {
                        self.tell(Work::Agent(agent, agent::Input::Tick));
                    }
                }
            }
        }
    }

    /// Ends all executors and waits for the verbs. What could not be destroyed within `limit` comes back.
    pub(super) async fn shut_down(self: &Arc<Self>, limit: Duration) -> Vec<String> {
        let agents = self.state().agents.len();
        for agent in 0..agents {
            self.tell(Work::Agent(agent, agent::Input::Shutdown));
        }
        let all_gone = async {
            while !self.state().is_quiet() {
                self.quieter.notified().await;
            }
        };
        let is_late = tokio::time::timeout(limit, all_gone).await.is_err();
        let mut state = self.state();
        state.is_closed = true;
        state.streams.clear();
        let mut left = std::mem::take(&mut state.undestroyed);
        if is_late {
            let containers = state.agents.iter().flat_map(|agent| agent.executors());
            left.extend(containers.map(|(_, executor)| executor.container_id.clone()));
        }
        left
    }

    /// Destroys what an earlier cluster in the same work directory left.
    ///
    /// # Errors
    ///
    /// `containers` failed.
    pub(super) async fn destroy_leftovers(&self) -> Result<(), VerbError> {
        for container in self.containerizer.containers().await?.containers {
            let destroyed = self.containerizer.destroy(None, &container.value).await;
            if let Err(error) = destroyed {
                tracing::warn!(container = container.value, error = chain(&error), "cannot destroy a left container");
                self.state().undestroyed.push(container.value);
            }
        }
        Ok(())
    }

    fn open(self: &Arc<Self>, format: Format, work: impl FnOnce(StreamId) -> Work) -> Result<Records, Rejection> {
        let stream = StreamId(uuid::Uuid::new_v4().as_u128());
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state().streams.insert(stream, Stream { sender, format });
        // Made before the call: should it be refused, dropping it clears up.
        let records = Records { hub: Arc::clone(self), stream, receiver };
        self.run(work(stream))?;
        Ok(records)
    }

    fn disconnected(self: &Arc<Self>, stream: StreamId) {
        let agents = {
            let mut state = self.state();
            state.streams.remove(&stream);
            state.agents.len()
        };
        self.tell(Work::Master(master::Input::Disconnected { stream }));
        for agent in 0..agents {
            self.tell(Work::Agent(agent, agent::Input::Disconnected { stream }));
        }
    }

    /// Like `run`, for what cannot be refused.
    fn tell(self: &Arc<Self>, work: Work) {
        // Only calls are refused.
        let _ = self.run(work);
    }

    /// Handles one input and all that follows from it.
    fn run(self: &Arc<Self>, first: Work) -> Result<(), Rejection> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Rejection { status: 503, text: "The embedded cluster is shutting down".to_owned() });
        }
        let now = self.started.elapsed();
        let mut rejection = None;
        let mut queue = VecDeque::from([first]);
        while let Some(work) = queue.pop_front() {
            match work {
                Work::Master(input) => {
                    for effect in state.master.handle(now, input) {
                        if let master::Effect::Reject { status, text } = effect {
                            rejection = Some(Rejection { status, text });
                        } else {
                            state.perform_of_master(effect, &mut queue);
                        }
                    }
                }
                Work::Agent(number, input) => {
                    let Some(agent) = state.agents.get_mut(number) else { continue };
                    for effect in agent.handle(now, input) {
                        if let agent::Effect::Reject { status, text } = effect {
                            rejection = Some(Rejection { status, text });
                        } else {
                            self.perform_of_agent(&mut state, number, effect, &mut queue);
                        }
                    }
                }
            }
        }
        drop(state);
        self.changed.notify_one();
        self.quieter.notify_one();
        rejection.map_or(Ok(()), Err)
    }

    fn perform_of_agent(
        self: &Arc<Self>,
        state: &mut State,
        number: usize,
        effect: agent::Effect,
        queue: &mut VecDeque<Work>,
    ) {
        match effect {
            agent::Effect::Reject { .. } => {}
            agent::Effect::Event { stream, event } => state.send(stream, event.as_ref()),
            agent::Effect::CloseStream { stream } => drop(state.streams.remove(&stream)),
            agent::Effect::Master(input) => queue.push_back(Work::Master(*input)),
            agent::Effect::Launch { launch, mut environment } => {
                if self.has_executor_tokens {
                    environment.push((EXECUTOR_TOKEN.to_owned(), state.issue_token(number, &launch)));
                }
                let hub = Arc::clone(self);
                self.start(state, number, async move {
                    let result = hub.launch(&launch, &environment).await;
                    agent::Input::Launched { container_id: launch.container_id.value, result }
                });
            }
            agent::Effect::Update { directory, update } => {
                let hub = Arc::clone(self);
                self.start(state, number, async move {
                    let result = hub.containerizer.update(Path::new(&directory), &update).await;
                    let result = result.map_err(|error| chain(&error));
                    agent::Input::Updated { container_id: update.container_id.value, result }
                });
            }
            agent::Effect::Wait { directory, container_id } => {
                let (end, ended) = oneshot::channel();
                state.waits.insert(container_id.clone(), end);
                let hub = Arc::clone(self);
                self.start(state, number, async move {
                    let result = hub.containerizer.wait(Path::new(&directory), &container_id, ended).await;
                    hub.state().waits.remove(&container_id);
                    agent::Input::Waited { container_id, result: result.map_err(|error| chain(&error)) }
                });
            }
            agent::Effect::Destroy { directory, container_id } => {
                let hub = Arc::clone(self);
                self.start(state, number, async move {
                    hub.destroy(Path::new(&directory), &container_id).await;
                    agent::Input::Destroyed { container_id }
                });
            }
        }
    }

    async fn destroy(&self, directory: &Path, container_id: &str) {
        let destroyed = self.containerizer.destroy(Some(directory), container_id).await;
        let mut state = self.state();
        if let Err(error) = destroyed {
            tracing::warn!(container = container_id, error = chain(&error), "cannot destroy a container");
            state.undestroyed.push(container_id.to_owned());
        }
        if let Some(wait) = state.waits.remove(container_id) {
            // It may just have ended by itself.
            let _ = wait.send(());
        }
    }

    async fn launch(&self, launch: &proto::ecp::Launch, environment: &[(String, String)]) -> Result<(), String> {
        let user = launch.user.as_deref();
        sandbox::make(Path::new(launch.directory()), user).map_err(|error| chain(&error))?;
        let failed = |error: VerbError| {
            let why = match &error {
                VerbError::Failed { status, .. } => {
                    let raw = std::os::unix::process::ExitStatusExt::into_raw(*status);
                    format!("External containerizer failed (status: {raw})")
                }
                other => chain(other),
            };
            format!("Could not launch container '{}': {why}", launch.container_id.value)
        };
        self.containerizer.launch(launch, environment).await.map_err(failed)
    }

    /// Runs a verb beside everything else; what it gives is the agent's next input.
    fn start(
        self: &Arc<Self>,
        state: &mut State,
        agent: usize,
        verb: impl Future<Output = agent::Input> + Send + 'static,
    ) {
        state.verbs += 1;
        let hub = Arc::clone(self);
        tokio::spawn(async move {
            let input = verb.await;
            hub.state().verbs -= 1;
            hub.tell(Work::Agent(agent, input));
        });
    }
}

impl State {
    /// Whether no executor is left and no verb is on its way.
    fn is_quiet(&self) -> bool {
        self.verbs == 0 && self.agents.iter().all(Agent::is_empty)
    }

    /// The token of the executor of a new container, fit for its environment.
    fn issue_token(&mut self, agent: usize, launch: &proto::ecp::Launch) -> String {
        let Self { agents, executor_tokens, .. } = self;
        executor_tokens.revoke(|claims| {
            let mut executors = agents.get(claims.agent).into_iter().flat_map(Agent::executors);
            !executors.any(|(_, executor)| executor.container_id == claims.container_id)
        });
        let executor = launch.executor_info.clone().unwrap_or_default();
        let claims = Claims {
            agent,
            framework_id: executor.framework_id.unwrap_or_default().value,
            executor_id: executor.executor_id.value,
            container_id: launch.container_id.value.clone(),
        };
        executor_tokens.issue(claims).expose().to_owned()
    }

    fn perform_of_master(&mut self, effect: master::Effect, queue: &mut VecDeque<Work>) {
        use agent::Input;
        use master::Effect;
        let (agent_id, input) = match effect {
            Effect::Reject { .. } => return,
            Effect::Event { stream, event } => return self.send(stream, event.as_ref()),
            Effect::CloseStream { stream } => return drop(self.streams.remove(&stream)),
            Effect::RunTask { agent_id, framework, task } => (agent_id, Input::RunTask { framework, task }),
            Effect::KillTask { agent_id, framework_id, task_id, kill_policy } => {
                (agent_id, Input::KillTask { framework_id, task_id, kill_policy })
            }
            Effect::Acknowledge { agent_id, framework_id, task_id, uuid } => {
                (agent_id, Input::Acknowledge { framework_id, task_id, uuid })
            }
            Effect::ShutdownExecutor { agent_id, framework_id, executor_id } => {
                (agent_id, Input::ShutdownExecutor { framework_id, executor_id })
            }
            Effect::ShutdownFramework { agent_id, framework_id } => {
                (agent_id, Input::ShutdownFramework { framework_id })
            }
            Effect::MessageExecutor { agent_id, framework_id, executor_id, data } => {
                (agent_id, Input::Message { framework_id, executor_id, data })
            }
        };
        if let Some(number) = self.agent_numbers.get(&agent_id) {
            queue.push_back(Work::Agent(*number, input));
        }
    }

    fn send<E: Name>(&mut self, stream: StreamId, event: &E) {
        let Some(Stream { sender, format }) = self.streams.get(&stream) else { return };
        let record = match format {
            Format::Protobuf => event.encode_to_vec(),
            Format::Json => to_json(event),
        };
        // The client may have gone: then `Disconnected` is on its way.
        let _ = sender.send(Bytes::from(recordio::encode(&record)));
    }
}

impl Records {
    pub(super) fn stream_id(&self) -> StreamId {
        self.stream
    }

    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.receiver.recv().await
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.hub.disconnected(self.stream);
    }
}

/// Mesos' JSON; our own messages always have one.
pub(super) fn to_json<M: Name>(message: &M) -> Vec<u8> {
    let value = proto::json::to_value(&M::full_name(), message).expect("every message of ours has JSON");
    value.to_string().into_bytes()
}

fn describe(agent: &Agent) -> AgentDescription {
    let config = agent.config();
    let url = mesos::Url {
        scheme: "http".to_owned(),
        address: mesos::Address {
            hostname: Some(config.hostname.clone()),
            ip: Some(config.hostname.clone()),
            port: i32::from(config.port),
        },
        path: Some(format!("/slave({})", config.number)),
        query: Vec::new(),
        fragment: None,
    };
    AgentDescription { info: config.info.clone(), url }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
