//! What is fuzzed: for each input from outside a function that takes any bytes, and panics where a promise is broken.
//!
//! Two drivers use them: `main.rs` mutates the seeds for a bounded number of rounds, as one of the ordinary tests; `scripts/fuzz`
//! has libFuzzer search for as long as it is told, guided by what the inputs reach. What either finds becomes a test in the
//! lowest layer that shows it, and a seed here.

#![allow(unreachable_pub, reason = "a library for the fuzzers, a module for the tests")]

use std::path::PathBuf;

use containerizer::Environment;
use containerizer::docker_executor_flags::DockerExecutorFlags;
use containerizer::executor::environment::Environment as ExecutorEnvironment;
use containerizer::spec::{self, Limits, Overhead, Placement, Spec};
use containerizer::store::{ContainerId, Ended, State};
use prost::{Message, Name};
use proto::mesos::command_info::ContainerInfo as EarlyContainerInfo;
use proto::mesos::container_info::DockerInfo;
use proto::mesos::{CommandInfo, ContainerInfo, ExecutorInfo, Parameter, TaskInfo};
use proto::record::TaskRecord;
use proto::{compat, ecp, framing, recordio};

use crate::files;

/// One thing that is fuzzed.
pub struct Target {
    /// Also the name of its corpus, and of the program that fuzzes it.
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub run: fn(&[u8]),
    /// Good inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 7] = [
    Target { name: "framing", run: framing, seeds: frames },
    Target { name: "verbs", run: verbs, seeds: messages },
    Target { name: "options", run: options, seeds: option_lines },
    Target { name: "state", run: state, seeds: state_files },
    Target { name: "environment", run: environment, seeds: variables },
    Target { name: "recordio", run: recordio, seeds: streams },
    Target { name: "files", run: agent_files, seeds: answers },
];

/// A slave's frame: what is read is written as it was, and a length that promises too much takes no memory.
pub fn framing(bytes: &[u8]) {
    fn of<M: Message + Name + Default + PartialEq>(mut bytes: &[u8]) {
        let Ok(message) = framing::read::<M>(&mut bytes) else { return };
        let mut frame = Vec::new();
        framing::write(&mut frame, &message).expect("what was read can be written");
        let again: M = framing::read(&mut frame.as_slice()).expect("what was written can be read");
        // Not the messages: a NaN differs from itself.
        assert_eq!(again.encode_to_vec(), message.encode_to_vec());
    }
    of::<ecp::Launch>(bytes);
    of::<ecp::Update>(bytes);
    of::<ecp::Usage>(bytes);
    of::<ecp::Wait>(bytes);
    of::<ecp::Destroy>(bytes);
    of::<ecp::Containers>(bytes);
    of::<ecp::Termination>(bytes);
}

/// Every verb's message, and what a launch makes of it: a container that is told to be ours whatever the task wants.
pub fn verbs(bytes: &[u8]) {
    if let Ok(update) = compat::decode::<ecp::Update>(bytes) {
        // An update that is for nobody may still say impossible amounts.
        if let Some(limits) = Limits::of_update(&update.resources, Overhead::default(), true) {
            check_limits(limits);
        }
        let _ = ContainerId::parse(&update.container_id.value);
    }
    let Ok(launch) = compat::decode::<ecp::Launch>(bytes) else { return };
    let _ = proto::json::to_value("mesos.containerizer.Launch", &launch);
    let Ok(id) = ContainerId::parse(&launch.container_id.value) else { return };
    build(&launch, &id);
}

/// Parameters of a task (`KEY=VALUE`), and the options of old (other lines), as a framework may send them.
pub fn options(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines();
    let (parameters, options): (Vec<&str>, Vec<&str>) =
        lines.partition(|line| line.contains('=') && !line.starts_with('-'));
    let parameters = parameters.iter().filter_map(|line| line.split_once('='));
    let parameters = parameters.map(|(key, value)| Parameter { key: key.into(), value: value.into() }).collect();
    let docker = DockerInfo { image: "web".into(), parameters, ..DockerInfo::default() };
    let early = EarlyContainerInfo { image: "web".into(), options: options.into_iter().map(str::to_owned).collect() };
    let command = CommandInfo { value: Some("true".into()), container: Some(early), ..CommandInfo::default() };
    let launch = |container: Option<ContainerInfo>| ecp::Launch {
        task_info: Some(TaskInfo {
            command: Some(command.clone()),
            container: container.map(Box::new),
            ..TaskInfo::default()
        }),
        executor_info: Some(ExecutorInfo::default()),
        directory: Some("/var/lib/mesos/sandbox".into()),
        ..ecp::Launch::default()
    };
    let id = ContainerId::parse("c1").expect("an id");
    for container in [None, Some(ContainerInfo { docker: Some(docker), ..ContainerInfo::default() })] {
        let mut launch = launch(container);
        launch.container_id.value = "c1".into();
        build(&launch, &id);
    }
}

/// What a state directory holds, damaged in any way: read or refused, and what is read is written the same.
pub fn state(bytes: &[u8]) {
    fn of<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
        let Ok(value) = serde_json::from_slice::<T>(bytes) else { return };
        let text = serde_json::to_vec(&value).expect("what was read can be written");
        let again: T = serde_json::from_slice(&text).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&again).expect("it was before"), text);
    }
    of::<State>(bytes);
    of::<Ended>(bytes);
    of::<Limits>(bytes);
    of::<Environment>(bytes);
    let _ = ecp::Launch::decode(bytes);
    let _ = TaskRecord::parse(bytes);
}

/// What an agent passes to an executor by its environment and by arguments, one a line.
pub fn environment(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lookup = |name: &str| {
        let mut variables = text.lines().filter_map(|line| line.split_once('='));
        variables.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    };
    if let Ok(environment) = ExecutorEnvironment::parse(lookup) {
        let _ = environment.api_url();
    }
    let _ = DockerExecutorFlags::parse(text.lines().map(Into::into));
    let variables: Environment = text.lines().filter_map(|line| line.split_once('=')).collect();
    let _ = (variables.work_directory(), variables.for_supervisor());
    assert!(variables.for_executor(true).all(|(name, _)| name != "MESOS_CREDENTIAL"), "only what executors need");
}

/// An event stream: the same records however the bytes arrive.
pub fn recordio(bytes: &[u8]) {
    const LIMIT: usize = 1 << 16;
    let decode = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut decoder = recordio::Decoder::new(LIMIT);
        let mut records = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            loop {
                match decoder.next_record() {
                    Ok(Some(record)) => {
                        assert!(record.len() <= LIMIT);
                        records.push(record);
                    }
                    Ok(None) => break,
                    Err(error) => return (records, Some(error.to_string())),
                }
            }
        }
        let end = decoder.finish().err().map(|error| error.to_string());
        (records, end)
    };
    let whole = decode(&mut std::iter::once(bytes));
    assert_eq!(whole, decode(&mut bytes.chunks(1)), "byte by byte");
    assert_eq!(whole, decode(&mut bytes.chunks(7)), "seven bytes at a time");
    let encoded: Vec<u8> = whole.0.iter().flat_map(|record| recordio::encode(record)).collect();
    assert_eq!(decode(&mut std::iter::once(encoded.as_slice())).0, whole.0, "written and read again");
}

/// An agent's answers about files; and any bytes of a file, in each spelling that some Mesos has for them.
pub fn agent_files(bytes: &[u8]) {
    let _ = files::decode_browse(bytes);
    let _ = files::decode_read(bytes);
    for escapes_high_bytes in [true, false] {
        let mut text = br#"{"data":""#.to_vec();
        for &byte in bytes {
            match byte {
                b'"' | b'\\' => text.extend([b'\\', byte]),
                0..0x20 => text.extend(format!("\\u00{byte:02x}").bytes()),
                0x80.. if escapes_high_bytes => text.extend(format!("\\u00{byte:02X}").bytes()),
                _ => text.push(byte),
            }
        }
        text.extend(br#"","offset":42}"#);
        let read = files::decode_read(&text).expect("a well-formed answer");
        assert_eq!((&read.data[..], read.offset), (bytes, 42));
    }
}

fn build(launch: &ecp::Launch, id: &ContainerId) {
    let environment: Environment =
        [("MESOS_WORK_DIRECTORY", "/work"), ("MESOS_DEFAULT_CONTAINER_IMAGE", "default")].into_iter().collect();
    let placement = Placement::of_container(id.as_str());
    let Ok(spec) = Spec::build(launch, &environment, &placement) else { return };
    let labels = spec.create.labels.as_ref().expect("ours");
    assert_eq!(labels.get(spec::CONTAINER_ID_LABEL).map(String::as_str), Some(id.as_str()));
    assert_eq!(labels.get(spec::WORK_DIRECTORY_LABEL).map(String::as_str), Some("/work"));
    assert!(spec.host_directories.iter().all(|path| path.is_absolute()), "{:?}", spec.host_directories);
    assert_eq!(spec.container_name, format!("mesos-{id}"));
    check_limits(spec.limits());
    serde_json::to_value(&spec.create).expect("the engine gets JSON");
}

fn check_limits(limits: Limits) {
    assert!(limits.memory_bytes.is_none_or(|bytes| bytes > 0), "{limits:?}");
    assert!(limits.cpu_shares.is_none_or(|shares| (2..=262_144).contains(&shares)), "{limits:?}");
}

fn frames() -> Vec<Vec<u8>> {
    recorded("mesos-1.0.4/ecp", "bin")
}

fn messages() -> Vec<Vec<u8>> {
    frames().into_iter().map(|frame| frame.get(4..).unwrap_or_default().to_vec()).collect()
}

fn option_lines() -> Vec<Vec<u8>> {
    [
        "-v\n/a:/b:ro\n-e\nA=b\n--privileged\n-p\n31000:80\n--cap-add=SYS_TIME\n--name\nx",
        "env=A=b=c\nlabel=a=b\nulimit=nofile=1024:2048\nvolume=/a:/b:rshared\nmemory=512m\ncpu-shares=7\nhostname=h\nuser=u:g\n\
         workdir=/w\nshm-size=1g\ntmpfs=/t:size=64k\ndevice=/dev/null:/dev/n:rwm\ndns=1.1.1.1\nadd-host=a:1.2.3.4\nlog-opt=max-size=1m",
        "mount=type=bind,source=/a,target=/b,readonly\nsecurity-opt=no-new-privileges\nsysctl=net.core.somaxconn=1\ngpus=all\n\
         health-cmd=true\ninit=true\npid=host\nipc=private\ncgroupns=host\nmemory-swap=-1\nrestart=always\nstop-signal=9\nstorage-opt=size=1G",
        "--volume=rel/path:/c --env A=b",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn state_files() -> Vec<Vec<u8>> {
    [
        r#"{"version":1,"is_command_task":true,"overhead":{"milli_cpus":100,"milli_mem":32000},"docker_id":"0123","limits":{"cpu_shares":512,"memory_bytes":67108864},"swap":{"fixed":{"bytes":-1}},"disk_limit_bytes":1048576,"cgroups":{"v1":{"cpu":"/sys/fs/cgroup/cpu/docker/0","cpuacct":null,"memory":"/m"}}}"#,
        r#"{"version":1,"is_command_task":false,"overhead":{"milli_cpus":0,"milli_mem":0},"cgroups":{"v2":{"path":"/sys/fs/cgroup/x"}}}"#,
        r#"{"version":1,"ending":{"cause":{"exited":{"code":137}},"was_stopped":true,"started":{"docker_id":"1","image_id":null,"pid":7,"ip_address":"172.17.0.2","started_at":1.5},"finished_at":2.25,"stdout_bytes":1,"stderr_bytes":0,"lost_bytes":null}}"#,
        r#"{"version":1,"ending":{"cause":{"out_of_memory":{"code":137,"limit_bytes":33554432}},"was_stopped":false,"started":null,"finished_at":0.0,"stdout_bytes":null,"stderr_bytes":null,"lost_bytes":0}}"#,
        r#"{"cpu_shares":2,"memory_bytes":null}"#,
        r#"{"MESOS_SLAVE_PID":"slave(1)@127.0.0.1:5051","PATH":"/bin"}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn variables() -> Vec<Vec<u8>> {
    [
        "MESOS_FRAMEWORK_ID=F\nMESOS_EXECUTOR_ID=e\nMESOS_SLAVE_ID=S\nMESOS_SLAVE_PID=slave(1)@10.0.0.5:5051\nMESOS_CHECKPOINT=1\n\
         MESOS_RECOVERY_TIMEOUT=15mins\nMESOS_SUBSCRIPTION_BACKOFF_MAX=2secs\nMESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=500ms\n\
         LIBPROCESS_IP=10.0.0.5\nLIBPROCESS_SSL_ENABLED=false\nMESOS_CREDENTIAL=/c\nMESOS_WORK_DIRECTORY=/work",
        "--container=c\n--sandbox_directory=/s\n--mapped_directory=/m\n--stop_timeout=10secs\n--task_environment={\"A\":\"b\"}\n\
         --cgroups_enable_cfs\n--no-help\n--docker=docker",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn streams() -> Vec<Vec<u8>> {
    let recorded =
        ["mesos-1.0.4/scheduler", "mesos-1.11.0/scheduler"].into_iter().flat_map(|part| recorded(part, "recordio"));
    // The recordings are long; their first events are what matters here.
    recorded.map(|stream| stream[..stream.len().min(2000)].to_vec()).chain([b"0\n5\nhello".to_vec()]).collect()
}

fn answers() -> Vec<Vec<u8>> {
    recorded("mesos-1.0.4/agent", "json").into_iter().filter(|answer| answer.len() < 4000).collect()
}

/// The recordings of one kind, in the order of their names.
fn recorded(part: &str, extension: &str) -> Vec<Vec<u8>> {
    // `tests/fixtures`, from the package of the tests as from that of the fuzzers.
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let tests = if package.ends_with("tests/fuzz") { package.join("..") } else { package.join("tests") };
    let directory = tests.join("fixtures").join(part);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a recording")).collect()
}
