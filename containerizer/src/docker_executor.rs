//! `mesos-docker-executor`: the program that a Mesos agent with `--containerizers=docker` starts for each command task.
//!
//! ```text
//! agent --flags, environment--> run
//!                                |- executor core <-- libprocess messages --> agent
//!                                `- own: learns its task from the launch, then lives through one container's life
//!                                        with the same owner as the external containerizer's supervisor
//! ```
//!
//! The agent looks after the container: it finds it by the name it gave, inspects it, stops it when we are gone, and removes
//! it hours later. So it is never removed here. The container's output goes to the stdout and stderr that the agent gave
//! this process, and nothing else does.
//!
//! Always libprocess messages: agents from 1.4.2 on, when they are restarted, give up an executor without an address of
//! its own and stop its container.

use std::ffi::OsString;
use std::time::Duration;

use proto::ecp::Launch;
use proto::mesos::{AgentId, ContainerId, ExecutorId, ExecutorInfo, FrameworkId, TaskInfo};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::config::DiskPolicy;
use crate::docker_executor_flags::{DockerExecutorFlags, FlagsError};
use crate::environment::{DOCKER_HOST, Environment};
use crate::executor::core::{Config, Finished};
use crate::executor::environment::{Environment as ExecutorEnvironment, EnvironmentError};
use crate::executor::probe::Prober;
use crate::executor::run::{Reach, new_seed, run_core};
use crate::executor::wire::{Wire, WireError};
use crate::lifecycle::{Cause, Command, Ending, Event};
use crate::spec::{Placement, Swap};
use crate::store::State;
use crate::supervisor::{Asks, Files, Owner};

/// Is the executor of one task, until the agent has acknowledged its end.
///
/// # Errors
/// [`DockerExecutorError::Flags`] when the command line asks for help or is none; else why no task can be run at all. How a
/// task ends is no error here.
pub fn run(arguments: Vec<OsString>) -> Result<(), DockerExecutorError> {
    let flags = DockerExecutorFlags::parse(arguments)?;
    let process = Environment::from_process();
    let environment = ExecutorEnvironment::parse(|name| process.get(name).map(str::to_owned))?;
    let files = Files::of_process().map_err(DockerExecutorError::Setup)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(DockerExecutorError::Setup)?;
    let finished = runtime.block_on(execute(flags, environment, files))?;
    // A call to an engine that hangs must not hold the exit back.
    runtime.shutdown_background();
    tracing::info!(?finished, "the executor has finished");
    Ok(())
}

async fn execute(
    flags: DockerExecutorFlags,
    environment: ExecutorEnvironment,
    files: Files,
) -> Result<Option<Finished>, DockerExecutorError> {
    let terminate = || signal(SignalKind::terminate()).map_err(DockerExecutorError::Setup);
    let (of_core, of_process) = (terminate()?, terminate()?);
    let wire = Wire::libprocess(&environment, None).await?;
    let config = Config {
        kill_grace: flags.kill_grace(environment.shutdown_grace_period),
        container_id: Some(container_id(&flags.container).to_owned()),
        pid: Some(std::process::id()),
        ..Config::new(&environment, new_seed())
    };
    let (commands, asked) = mpsc::channel(COMMANDS);
    let (events, told) = mpsc::channel(EVENTS);
    let (task, given) = oneshot::channel();
    let mut task = Some(task);
    let on_task = move |info| {
        // The owner waits for it unless it was stopped before, and then it needs none.
        if let Some(task) = task.take() {
            // An owner that is gone is noticed by its closed channels.
            let _ = task.send(info);
        }
    };
    let reach = Reach { wire, prober: Prober::new(engine_environment(&flags)) };
    let core = run_core(config, reach, on_task, |_| {}, commands, told, received(of_core));
    let owner = own(flags, environment, files, given, asked, events);
    let (mut core, mut owner) = (std::pin::pin!(core), std::pin::pin!(owner));
    let mut is_owned = true;
    let mut terminated = std::pin::pin!(overdue(of_process));
    loop {
        tokio::select! {
            finished = &mut core => return Ok(Some(finished)),
            () = &mut owner, if is_owned => is_owned = false,
            () = &mut terminated => return Ok(None),
        }
    }
}

/// Lives through the life of the task's container, once there is a task.
async fn own(
    flags: DockerExecutorFlags,
    environment: ExecutorEnvironment,
    files: Files,
    task: oneshot::Receiver<TaskInfo>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
) {
    let mut asks = Asks::new(commands, None);
    let task = tokio::select! {
        biased;
        task = task => task.ok(),
        () = asks.stop() => None,
    };
    let ending = match task {
        Some(task) => {
            let mut owner = Owner {
                environment: engine_environment(&flags),
                directory: None,
                placement: placement(&flags, &task),
                launch: launch(&flags, &environment, task),
                files,
                state: State::default(),
                events: events.clone(),
                has_tried_to_create: false,
                is_successor: false,
                is_engine_there: true,
            };
            owner.live(&mut asks).await.ending
        }
        None => stopped_without_task(),
    };
    // Only an executor that is gone does not take it.
    let _ = events.send(Event::Ended(ending)).await;
}

fn engine_environment(flags: &DockerExecutorFlags) -> Environment {
    [(DOCKER_HOST, format!("unix://{}", flags.docker_socket.display()))].into_iter().collect()
}

/// The task as a slave would launch it with an external containerizer.
fn launch(flags: &DockerExecutorFlags, environment: &ExecutorEnvironment, mut task: TaskInfo) -> Launch {
    if let Some(command) = &mut task.command {
        // The agent has done these parts: it fetches the URIs as the user, and the container's user is the image's.
        command.user = None;
    }
    if let Some(docker) = task.container.as_mut().and_then(|container| container.docker.as_mut()) {
        // The agent has pulled it.
        docker.force_pull_image = None;
    }
    Launch {
        container_id: ContainerId { value: container_id(&flags.container).to_owned(), parent: None },
        directory: Some(flags.sandbox_directory.to_string_lossy().into_owned()),
        agent_id: Some(AgentId { value: environment.agent_id.clone() }),
        executor_info: Some(ExecutorInfo {
            executor_id: ExecutorId { value: environment.executor_id.clone() },
            framework_id: Some(FrameworkId { value: environment.framework_id.clone() }),
            ..ExecutorInfo::default()
        }),
        task_info: Some(task),
        ..Launch::default()
    }
}

fn placement(flags: &DockerExecutorFlags, task: &TaskInfo) -> Placement {
    let mut environment = flags.task_environment.clone();
    let allocation = task.resources.iter().find_map(|resource| resource.allocation_info.as_ref());
    if let Some(role) = allocation.and_then(|allocation| allocation.role.clone()) {
        environment.insert("MESOS_ALLOCATION_ROLE".to_owned(), role);
    }
    Placement {
        container_name: flags.container.clone(),
        mapped_directory: flags.mapped_directory.to_string_lossy().into_owned(),
        environment,
        is_cpu_limited: flags.cgroups_enable_cfs,
        publishes_allocated_ports: false,
        // As the agent's own executor has it.
        keeps_log: false,
        swap: Swap::Same,
        disk: DiskPolicy::Never,
        dns: flags.default_container_dns.clone().unwrap_or_default(),
    }
}

/// Mesos' id of the container: its name is `mesos-ID`, and `mesos-AGENT.ID` from 0.23 to 1.3.
fn container_id(name: &str) -> &str {
    let id = name.strip_prefix("mesos-").unwrap_or(name);
    id.rsplit_once('.').map_or(id, |(_, id)| id)
}

fn stopped_without_task() -> Ending {
    Ending {
        cause: Cause::NotStarted { message: "the executor was stopped before it got a task".to_owned() },
        was_stopped: true,
        started: None,
        finished_at: 0.0,
        stdout_bytes: None,
        stderr_bytes: None,
        lost_bytes: None,
    }
}

async fn received(mut terminate: Signal) {
    terminate.recv().await;
}

/// Completes some time after SIGTERM, whenever that came.
async fn overdue(mut terminate: Signal) {
    terminate.recv().await;
    tokio::time::sleep(TERMINATED_LIMIT).await;
}

/// Why no task can be run.
#[derive(Debug, thiserror::Error)]
pub enum DockerExecutorError {
    /// The command line; [`FlagsError::Help`] is no failure.
    #[error(transparent)]
    Flags(#[from] FlagsError),
    /// The environment is not an agent's.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The agent could not reach us.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The system refuses what every process gets.
    #[error("cannot set up the executor: {0}")]
    Setup(#[source] std::io::Error),
}

/// Start, and stops of which each counts for itself.
const COMMANDS: usize = 16;
/// A few; progress that finds no room is left out.
const EVENTS: usize = 16;
/// The agent waits for our exit without limit, and then stops the container itself. Long enough for the agent's usual
/// grace period, in which the container is stopped here and its last output is written.
const TERMINATED_LIMIT: Duration = Duration::from_secs(7);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proto::mesos::container_info::DockerInfo;
    use proto::mesos::container_info::docker_info::Network;
    use proto::mesos::environment::Variable;
    use proto::mesos::resource::AllocationInfo;
    use proto::mesos::{self, CommandInfo, ContainerInfo, Parameter, Resource};

    use super::*;
    use crate::spec::Spec;

    fn flags(more: &[&str]) -> DockerExecutorFlags {
        let flags = [&["--container=mesos-c1", "--sandbox_directory=/slave/box", "--docker_socket=/no/such"], more];
        DockerExecutorFlags::parse(flags.concat().iter().map(OsString::from)).unwrap()
    }

    fn agent() -> ExecutorEnvironment {
        let variables = |name: &str| {
            let value = match name {
                "MESOS_FRAMEWORK_ID" => "f",
                "MESOS_EXECUTOR_ID" => "e",
                "MESOS_SLAVE_ID" => "a",
                "MESOS_SLAVE_PID" => "slave(1)@127.0.0.1:5051",
                _ => return None,
            };
            Some(value.to_owned())
        };
        ExecutorEnvironment::parse(variables).unwrap()
    }

    fn task() -> TaskInfo {
        let docker = DockerInfo { image: "web".to_owned(), force_pull_image: Some(true), ..DockerInfo::default() };
        let variable = |name: &str, value: &str| Variable {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..Variable::default()
        };
        TaskInfo {
            command: Some(CommandInfo {
                value: Some("true".to_owned()),
                user: Some("somebody".to_owned()),
                environment: Some(mesos::Environment { variables: vec![variable("A", "task"), variable("B", "task")] }),
                ..CommandInfo::default()
            }),
            container: Some(ContainerInfo { docker: Some(docker), ..ContainerInfo::default() }.into()),
            resources: vec![Resource {
                name: "cpus".to_owned(),
                scalar: Some(mesos::value::Scalar { value: 0.5 }),
                allocation_info: Some(AllocationInfo { role: Some("web".to_owned()) }),
                ..Resource::default()
            }],
            ..TaskInfo::default()
        }
    }

    fn spec(more: &[&str]) -> Spec {
        let flags = flags(more);
        let placement = placement(&flags, &task());
        Spec::build(&launch(&flags, &agent(), task()), &Environment::default(), &placement).unwrap()
    }

    #[test]
    fn the_container_is_as_the_agent_says() {
        let spec = spec(&["--mapped_directory=/mnt/box", "--task_environment={\"A\":\"hook\"}"]);
        assert_eq!(spec.container_name, "mesos-c1");
        assert_eq!(spec.pull, None, "the agent has pulled it");
        assert_eq!(spec.create.user, None, "users of the host need not be known to the image");
        let environment = spec.create.env.unwrap();
        for expected in ["A=hook", "B=task", "MESOS_SANDBOX=/mnt/box", "MESOS_CONTAINER_NAME=mesos-c1"] {
            assert!(environment.iter().any(|variable| variable == expected), "{expected} in {environment:?}");
        }
        assert!(environment.contains(&"MESOS_ALLOCATION_ROLE=web".to_owned()), "{environment:?}");
        assert!(!environment.iter().any(|variable| variable.contains("SLAVE")), "{environment:?}");
        let mounts = spec.create.host_config.unwrap().mounts.unwrap();
        assert_eq!((mounts[0].source.as_deref(), mounts[0].target.as_deref()), (Some("/slave/box"), Some("/mnt/box")));
    }

    #[test]
    fn cpus_are_a_limit_where_the_agent_wants_it() {
        let quota = |more: &[&str]| spec(more).create.host_config.unwrap().cpu_quota;
        assert_eq!(quota(&[]), None);
        assert_eq!(quota(&["--cgroups_enable_cfs=true"]), Some(50_000));
    }

    #[test]
    fn name_servers_are_the_agents_unless_the_task_has_its_own() {
        let flags = flags(&[r#"--default_container_dns={"docker":[{"dns":{"nameservers":["10.0.0.1"]}}]}"#]);
        let dns = |network: Network, parameters: &[(&str, &str)]| {
            let mut task = task();
            let docker = task.container.as_mut().unwrap().docker.as_mut().unwrap();
            docker.network = Some(network as i32);
            let parameter = |(key, value): &(&str, &str)| Parameter { key: (*key).into(), value: (*value).into() };
            docker.parameters = parameters.iter().map(parameter).collect();
            let placement = placement(&flags, &task);
            let spec = Spec::build(&launch(&flags, &agent(), task), &Environment::default(), &placement).unwrap();
            spec.create.host_config.unwrap().dns
        };
        assert_eq!(dns(Network::Bridge, &[]), Some(vec!["10.0.0.1".to_owned()]));
        assert_eq!(dns(Network::Bridge, &[("dns", "10.0.0.9")]), Some(vec!["10.0.0.9".to_owned()]));
        assert_eq!(dns(Network::Bridge, &[("dns-search", "example")]), None);
        assert_eq!(dns(Network::Host, &[]), None);
    }

    #[test]
    fn a_container_of_any_agents_version_has_its_id() {
        assert_eq!(container_id("mesos-15ad-81"), "15ad-81");
        assert_eq!(container_id("mesos-2016-S0.15ad-81"), "15ad-81");
    }

    /// What the owner tells when it hears `commands`, with a task before them or none.
    async fn told(with_task: Option<TaskInfo>, stops: bool) -> Event {
        let (task, given) = oneshot::channel();
        let (commands, asked) = mpsc::channel(1);
        let (events, mut told) = mpsc::channel(1);
        let files = Files::of_process().unwrap();
        let _task = match with_task {
            Some(info) => {
                task.send(info).unwrap();
                None
            }
            None => Some(task),
        };
        if stops {
            commands.send(Command::Stop { grace: Duration::ZERO }).await.unwrap();
        }
        let owner = own(flags(&[]), agent(), files, given, asked, events);
        let (event, ()) = tokio::join!(told.recv(), owner);
        event.unwrap()
    }

    #[tokio::test]
    async fn a_stop_without_a_task_is_answered_by_an_end() {
        let Event::Ended(ending) = told(None, true).await else { panic!("not an end") };
        assert!(ending.was_stopped && matches!(ending.cause, Cause::NotStarted { .. }));
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_fails_the_task() {
        let Event::Ended(ending) = told(Some(task()), false).await else { panic!("not an end") };
        let Cause::NotStarted { message } = ending.cause else { panic!("it started") };
        assert!(message.contains("unix:///no/such"), "{message}");
    }
}
