//! The cluster's HTTP face: master and agents on one port, as in Mesos' own local cluster.
//!
//! Unknown first path components belong to the master; agent K is below `/slave(K)`; `/files` is one for all agents, and
//! the agent APIs also answer without a prefix, for the first agent. Status codes come in the order in which Mesos checks; who
//! may not use the face is told so before anything else, for every path.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use percent_encoding::percent_decode_str;
use prost::{Message as _, Name};
use proto::{executor, mesos, scheduler};

use super::access::{Access, Claims};
use super::agent;
use super::files::{self, FilesError, Query};
use super::hub::{Format, Hub, Records, Rejection, to_json};
use super::master::{self, StreamId};
use super::sandbox::Sandboxes;
use super::state;
use crate::master::chain;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const STREAM_ID: &str = "Mesos-Stream-Id";
/// Calls are small; a task's environment and data may be large.
const MAX_CALL_BYTES: usize = 64 << 20;

/// What the face needs.
#[derive(Clone)]
pub(super) struct Face {
    pub hub: Arc<Hub>,
    pub sandboxes: Arc<Sandboxes>,
    pub access: Arc<Access>,
}

/// Who sent a request may not use the face.
struct Unauthorized;

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource {
    Scheduler,
    /// Of an agent, by index.
    Executor(usize),
    /// Of an agent, by index.
    Operator(usize),
    Version,
    Health,
    Redirect,
    MasterState,
    Slaves,
    Frameworks,
    Tasks,
    /// Of an agent, by index.
    AgentState(usize),
    /// Of an agent, by index.
    Statistics(usize),
    Read,
    Browse,
    Download,
}

/// The whole face as one service.
pub(super) fn router(face: Face) -> axum::Router {
    axum::Router::new().fallback(answer).with_state(face)
}

async fn answer(State(face): State<Face>, request: Request) -> Response {
    // Clients may send "/slave%281%29/state".
    let path = percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
    let agents = face.hub.state().agents.len();
    let resource = route(&path, agents);
    if !is_for_loopback(request.headers()) {
        return refuse(403, "this cluster answers only at an address of the loopback interface or localhost\n");
    }
    let Ok(claims) = face.admitted(resource, request.headers()) else { return face.unauthorized() };
    let Some(resource) = resource else { return refuse(404, "") };
    let query = Query::parse(request.uri().query());
    match resource {
        Resource::Scheduler => face.scheduler(request).await,
        Resource::Executor(agent) => face.executor(agent, claims, request).await,
        Resource::Operator(agent) => face.operator(agent, request).await,
        Resource::Version => json(&state::version()),
        Resource::Health => StatusCode::OK.into_response(),
        Resource::Redirect => face.redirect(),
        Resource::MasterState => json(&state::master(&face.hub.state().master)),
        Resource::Slaves => json(&state::slaves(&face.hub.state().master)),
        Resource::Frameworks => json(&state::frameworks(&face.hub.state().master)),
        Resource::Tasks => json(&state::tasks(&face.hub.state().master, &query)),
        Resource::AgentState(agent) => json(&state::agent(&face.hub.state().agents[agent])),
        Resource::Statistics(agent) => face.statistics(agent).await,
        Resource::Read => files(files::read(&face.sandboxes, &query)),
        Resource::Browse => files(files::browse(&face.sandboxes, &query)),
        Resource::Download => files(files::download(&face.sandboxes, &query)),
    }
}

/// A page whose name was rebound to 127.0.0.1 makes its reader's browser name the page in `Host`. Clients without one are no
/// browsers.
fn is_for_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn route(path: &str, agents: usize) -> Option<Resource> {
    let path = path.strip_prefix('/')?;
    if let Some((agent, rest)) = path.strip_prefix("slave(").and_then(|rest| rest.split_once(")/")) {
        let number: usize = agent.parse().ok()?;
        let agent = number.checked_sub(1).filter(|agent| *agent < agents)?;
        return match rest {
            "api/v1/executor" => Some(Resource::Executor(agent)),
            "api/v1" => Some(Resource::Operator(agent)),
            "state" | "state.json" => Some(Resource::AgentState(agent)),
            "monitor/statistics" | "monitor/statistics.json" => Some(Resource::Statistics(agent)),
            "health" => Some(Resource::Health),
            "version" => Some(Resource::Version),
            _ => None,
        };
    }
    let path = path.strip_prefix("master/").unwrap_or(path);
    match path {
        "api/v1/scheduler" => Some(Resource::Scheduler),
        "api/v1/executor" => Some(Resource::Executor(0)),
        "api/v1" => Some(Resource::Operator(0)),
        "version" => Some(Resource::Version),
        "health" => Some(Resource::Health),
        "redirect" => Some(Resource::Redirect),
        "state" | "state.json" => Some(Resource::MasterState),
        "slaves" => Some(Resource::Slaves),
        "frameworks" => Some(Resource::Frameworks),
        "tasks" | "tasks.json" => Some(Resource::Tasks),
        "monitor/statistics" | "monitor/statistics.json" => Some(Resource::Statistics(0)),
        "files/read" | "files/read.json" => Some(Resource::Read),
        "files/browse" | "files/browse.json" => Some(Resource::Browse),
        "files/download" | "files/download.json" => Some(Resource::Download),
        _ => None,
    }
}

impl Face {
    /// Whether a request may go on, and whose calls it may make; `None`: anybody's.
    fn admitted(&self, resource: Option<Resource>, headers: &HeaderMap) -> Result<Option<Claims>, Unauthorized> {
        if self.access.is_open() {
            return Ok(None);
        }
        // The key itself is none for executors: nobody who has it is one.
        if matches!(resource, Some(Resource::Executor(_))) {
            if let Some(claims) = self.hub.state().executor_tokens.bearer(headers) {
                return Ok(Some(claims.clone()));
            }
        } else if self.access.admits(headers) {
            return Ok(None);
        }
        Err(Unauthorized)
    }

    fn unauthorized(&self) -> Response {
        let challenge = [(header::WWW_AUTHENTICATE, self.access.challenge())];
        (StatusCode::UNAUTHORIZED, challenge, "This cluster is somebody else's").into_response()
    }

    async fn scheduler(&self, request: Request) -> Response {
        let (headers, call) = match receive::<scheduler::Call>(request).await {
            Ok(received) => received,
            Err(refused) => return refused,
        };
        if let Err(why) = master::check_call(&call) {
            return refuse(400, &format!("Failed to validate Scheduler::Call: {why}"));
        }
        if let Some(principal) = self.access.principal()
            && let Some(subscribe) = &call.subscribe
            && subscribe.framework_info.principal.as_ref().is_some_and(|claimed| claimed != principal)
        {
            return refuse(400, &format!("Authenticated principal '{principal}' does not match the framework's"));
        }
        let stream_id = headers.get(STREAM_ID);
        if call.r#type() == scheduler::call::Type::Subscribe {
            let Some(format) = accepted(&headers) else { return not_acceptable() };
            if stream_id.is_some() {
                return refuse(400, "Subscribe calls should not include the 'Mesos-Stream-Id' header");
            }
            return match self.hub.subscribe_scheduler(call, format) {
                Ok(records) => {
                    let stream_id = records.stream_id().to_string();
                    stream(records, format, Some(stream_id))
                }
                Err(rejection) => reject(&rejection),
            };
        }
        // What is no UUID cannot be the id of any stream.
        let unknown = StreamId(0);
        let stream_id = stream_id.map(|text| text.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(unknown));
        accept(self.hub.call_master(stream_id, call))
    }

    async fn executor(&self, agent: usize, claims: Option<Claims>, request: Request) -> Response {
        let (headers, call) = match receive::<executor::Call>(request).await {
            Ok(received) => received,
            Err(refused) => return refused,
        };
        if let Err(why) = agent::check_call(&call) {
            return refuse(400, &format!("Failed to validate Executor::Call: {why}"));
        }
        let is_own = |claims: &Claims| {
            claims.agent == agent
                && claims.framework_id == call.framework_id.value
                && claims.executor_id == call.executor_id.value
        };
        if claims.is_some_and(|claims| !is_own(&claims)) {
            return refuse(403, "The token is not this executor's");
        }
        match call.r#type() {
            executor::call::Type::Subscribe => {
                let Some(format) = accepted(&headers) else { return not_acceptable() };
                match self.hub.subscribe_executor(agent, call, format) {
                    Ok(records) => stream(records, format, None),
                    Err(rejection) => reject(&rejection),
                }
            }
            executor::call::Type::Heartbeat => StatusCode::ACCEPTED.into_response(),
            executor::call::Type::Unknown | executor::call::Type::Update | executor::call::Type::Message => {
                accept(self.hub.call_agent(agent, call))
            }
        }
    }

    async fn operator(&self, agent: usize, request: Request) -> Response {
        use proto::agent::call::Type;
        use proto::agent::response;
        let (headers, call) = match receive::<proto::agent::Call>(request).await {
            Ok(received) => received,
            Err(refused) => return refused,
        };
        let Some(format) = accepted(&headers) else { return not_acceptable() };
        let mut response = proto::agent::Response::default();
        let kind = match (call.r#type(), call.read_file, call.list_files) {
            (Type::GetHealth, _, _) => {
                response.get_health = Some(response::GetHealth { healthy: true });
                response::Type::GetHealth
            }
            (Type::GetVersion, _, _) => {
                let version = state::VERSION.to_owned();
                let version_info = mesos::VersionInfo { version, ..Default::default() };
                response.get_version = Some(response::GetVersion { version_info });
                response::Type::GetVersion
            }
            (Type::ReadFile, Some(read), _) => {
                match files::contents(&self.sandboxes, &read.path, read.offset, read.length) {
                    Ok(files::Contents { size, data }) => {
                        response.read_file = Some(response::ReadFile { size, data });
                        response::Type::ReadFile
                    }
                    Err(error) => return files(Err(error)),
                }
            }
            (Type::ListFiles, _, Some(list)) => match files::list(&self.sandboxes, &list.path) {
                Ok(file_infos) => {
                    response.list_files = Some(response::ListFiles { file_infos });
                    response::Type::ListFiles
                }
                Err(error) => return files(Err(error)),
            },
            (Type::GetContainers, _, _) => {
                response.get_containers = Some(state::containers(&self.hub.state().agents[agent]));
                response::Type::GetContainers
            }
            (Type::ReadFile | Type::ListFiles, _, _) => {
                return refuse(400, "Failed to validate agent::Call: Expecting the call's body to be present");
            }
            (other, _, _) => {
                return refuse(501, &format!("The embedded agent does not implement {}", other.as_str_name()));
            }
        };
        response.r#type = Some(kind as i32);
        match format {
            Format::Protobuf => ([(header::CONTENT_TYPE, PROTOBUF)], response.encode_to_vec()).into_response(),
            Format::Json => ([(header::CONTENT_TYPE, JSON)], to_json(&response)).into_response(),
        }
    }

    fn redirect(&self) -> Response {
        let state = self.hub.state();
        let master = state.master.config();
        let location = format!("//{}:{}", master.host, master.port);
        (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
    }

    async fn statistics(&self, agent: usize) -> Response {
        let executors: Vec<_> = self.hub.state().agents[agent].executors().map(state::Usage::of).collect();
        let mut entries = Vec::new();
        for usage in executors {
            match self.hub.containerizer().usage(&usage.directory, &usage.container_id).await {
                Ok(statistics) => entries.push(usage.with(&statistics)),
                // As a slave does: what cannot be measured is left out.
                Err(error) => tracing::debug!(error = chain(&error), "no usage"),
            }
        }
        json(&entries.into())
    }
}

/// The checks that every POST of a call has in common.
async fn receive<C: Name + Default>(request: Request) -> Result<(HeaderMap, C), Response> {
    if request.method() != Method::POST {
        let allow = [(header::ALLOW, "POST")];
        return Err((StatusCode::METHOD_NOT_ALLOWED, allow).into_response());
    }
    let (parts, body) = request.into_parts();
    let Some(content_type) = parts.headers.get(header::CONTENT_TYPE) else {
        return Err(refuse(400, "Expecting 'Content-Type' to be present"));
    };
    let format = match content_type.as_bytes() {
        kind if kind == PROTOBUF.as_bytes() => Format::Protobuf,
        kind if kind == JSON.as_bytes() => Format::Json,
        _ => return Err(refuse(415, &format!("Expecting 'Content-Type' of {JSON} or {PROTOBUF}"))),
    };
    let body = axum::body::to_bytes(body, MAX_CALL_BYTES).await;
    let body = body.map_err(|error| refuse(400, &format!("Failed to read the body: {}", chain(&error))))?;
    let call = match format {
        Format::Protobuf => proto::compat::decode::<C>(&body).map_err(|error| chain(&error)),
        Format::Json => proto::json::from_slice(&C::full_name(), &body).map_err(|error| chain(&error)),
    };
    let call = call.map_err(|why| refuse(400, &format!("Failed to parse body into Call: {why}")))?;
    Ok((parts.headers, call))
}

/// JSON wins where both are accepted, and where nothing is said.
fn accepted(headers: &HeaderMap) -> Option<Format> {
    let Some(accept) = headers.get(header::ACCEPT) else { return Some(Format::Json) };
    let accept = accept.to_str().unwrap_or_default();
    // Media ranges without their parameters.
    let ranges = || accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    let takes = |kind: &str| ranges().any(|range| range == kind || range == "*/*" || range == "application/*");
    if takes(JSON) { Some(Format::Json) } else { takes(PROTOBUF).then_some(Format::Protobuf) }
}

fn stream(records: Records, format: Format, stream_id: Option<String>) -> Response {
    let chunks = futures::stream::unfold(records, async |mut records| {
        let chunk = records.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), records))
    });
    let kind = match format {
        Format::Protobuf => PROTOBUF,
        Format::Json => JSON,
    };
    let mut response = ([(header::CONTENT_TYPE, kind)], Body::from_stream(chunks)).into_response();
    if let Some(id) = stream_id.and_then(|id| id.parse().ok()) {
        response.headers_mut().insert(STREAM_ID, id);
    }
    response
}

fn accept(result: Result<(), Rejection>) -> Response {
    match result {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(rejection) => reject(&rejection),
    }
}

fn reject(rejection: &Rejection) -> Response {
    refuse(rejection.status, &rejection.text)
}

fn refuse(status: u16, text: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, text.to_owned()).into_response()
}

fn not_acceptable() -> Response {
    refuse(406, &format!("Expecting 'Accept' to allow {PROTOBUF} or {JSON}"))
}

fn files(result: Result<Response, FilesError>) -> Response {
    result.unwrap_or_else(|error| (error.status(), format!("{}\n", chain(&error))).into_response())
}

fn json(value: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, JSON)], value.to_string()).into_response()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_loopback_interface_are_answered() {
        let is_answered = |host: &'static str| {
            is_for_loopback(&HeaderMap::from_iter([(header::HOST, axum::http::HeaderValue::from_static(host))]))
        };
        for host in ["127.0.0.1:5050", "127.0.0.2", "localhost:5050", "LOCALHOST", "[::1]:5050"] {
            assert!(is_answered(host), "{host}");
        }
        for host in ["evil.example", "evil.example:5050", "10.0.0.1:5050", "127.0.0.1.evil.example", "", "a b"] {
            assert!(!is_answered(host), "{host}");
        }
        assert!(is_for_loopback(&HeaderMap::new()));
    }

    #[test]
    fn paths_name_master_agents_and_files() {
        for (path, resource) in [
            ("/api/v1/scheduler", Some(Resource::Scheduler)),
            ("/master/api/v1/scheduler", Some(Resource::Scheduler)),
            ("/slave(2)/api/v1/executor", Some(Resource::Executor(1))),
            ("/api/v1/executor", Some(Resource::Executor(0))),
            ("/slave(1)/api/v1", Some(Resource::Operator(0))),
            ("/slave(2)/state", Some(Resource::AgentState(1))),
            ("/master/state.json", Some(Resource::MasterState)),
            ("/files/read.json", Some(Resource::Read)),
            ("/slave(3)/state", None),
            ("/slave(0)/state", None),
            ("/state/", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(route(path, 2), resource, "{path}");
        }
    }

    #[test]
    fn json_wins_where_both_are_accepted() {
        for (accept, format) in [
            (None, Some(Format::Json)),
            (Some("*/*"), Some(Format::Json)),
            (Some("application/x-protobuf"), Some(Format::Protobuf)),
            (Some("application/x-protobuf, application/json"), Some(Format::Json)),
            (Some("application/x-protobuf;q=1, text/html"), Some(Format::Protobuf)),
            (Some("text/html"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(accepted(&headers), format, "{accept:?}");
        }
    }
}
