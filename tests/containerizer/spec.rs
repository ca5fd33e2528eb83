//! Everything that a task can ask of its container, on a real engine: both the words of Mesos 0.19 (`CommandInfo.container`)
//! and those since (`ContainerInfo`).

use std::process::Command;
use std::time::{Duration, Instant};

use proto::ecp::{Launch, Termination};
use proto::mesos::container_info::docker_info::{Network, PortMapping};
use proto::mesos::environment::Variable;
use proto::mesos::{self, CommandInfo, ContainerInfo, NetworkInfo, Parameter, command_info};
use serde_json::{Value, json};

use crate::harness::IMAGE;
use crate::slave::{Container, Slave, ports};

/// The executor's container, whose end `wait` tells.
fn container_of(launch: &mut Launch) -> &mut ContainerInfo {
    launch.executor_info.as_mut().unwrap().container.as_mut().unwrap()
}

fn docker_of(launch: &mut Launch) -> &mut mesos::container_info::DockerInfo {
    container_of(launch).docker.as_mut().unwrap()
}

fn command_of(launch: &mut Launch) -> &mut CommandInfo {
    launch.executor_info.as_mut().unwrap().command.as_mut().unwrap()
}

fn parameters(list: &[(&str, &str)]) -> Vec<Parameter> {
    list.iter().map(|(key, value)| Parameter { key: (*key).to_owned(), value: (*value).to_owned() }).collect()
}

/// In the words of 0.19: no ContainerInfo, an image and options in the command.
fn early(launch: &mut Launch, image: &str, options: &[&str]) {
    launch.executor_info.as_mut().unwrap().container = None;
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    command_of(launch).container = Some(command_info::ContainerInfo { image: image.to_owned(), options });
}

/// Launches, waits, and gives the end and stdout.
#[track_caller]
fn run(container: &Container<'_>, launch: &Launch) -> (Termination, String) {
    container.launch(launch);
    let end = container.wait();
    (end, String::from_utf8(container.stdout()).unwrap())
}

#[track_caller]
fn expect(container: &Container<'_>, launch: &Launch, stdout: &str) {
    let (end, found) = run(container, launch);
    assert_eq!((end.status, found.as_str()), (Some(0), stdout), "{end:?}");
}

/// What the engine has made of a command task that nobody starts.
fn created(slave: &Slave, change: impl FnOnce(&mut mesos::TaskInfo)) -> Value {
    let container = slave.container("t");
    let mut message = container.task("true");
    message.executor_info.as_mut().unwrap().container = None;
    change(message.task_info.as_mut().unwrap());
    container.launch_with(&message, &[("MESOS_SLAVE_PID", "slave(1)@127.0.0.1:1".to_owned())]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !slave.stage.engine().has(&container.name()) {
        let result = std::fs::read_to_string(container.state().join("result.json"));
        assert!(result.is_err() && Instant::now() < deadline, "no container is created: {result:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let created = slave.stage.engine().inspect(&container.name());
    container.destroy();
    created
}

/// An image of the test's own, removed with it.
struct Image(String);

impl Image {
    fn with(change: &str) -> Self {
        let docker = |words: &[&str]| {
            let ran = Command::new("docker").args(words).output().unwrap();
            assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
            String::from_utf8(ran.stdout).unwrap().trim().to_owned()
        };
        let name = format!("launch-container-test/{}:one", uuid::Uuid::new_v4());
        let container = docker(&["create", IMAGE]);
        docker(&["commit", "--change", change, &container, &name]);
        docker(&["rm", &container]);
        Self(name)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", &self.0]).output();
    }
}

#[test]
fn the_image_is_named_in_every_way() {
    let mut slave = Slave::new();
    slave.set("MESOS_DEFAULT_CONTAINER_IMAGE", IMAGE);
    let urls = [IMAGE.to_owned(), format!("{IMAGE}:latest"), format!("docker:///{IMAGE}"), format!("docker://{IMAGE}")];
    for url in &urls {
        let container = slave.container("new");
        let mut launch = container.custom_executor("echo new");
        docker_of(&mut launch).image.clone_from(url);
        expect(&container, &launch, "new\n");
        let container = slave.container("early");
        let mut launch = container.custom_executor("echo early");
        early(&mut launch, url, &[]);
        expect(&container, &launch, "early\n");
    }
    let container = slave.container("default");
    let mut launch = container.custom_executor("echo default");
    launch.executor_info.as_mut().unwrap().container = None;
    expect(&container, &launch, "default\n");
}

#[test]
fn shell_argv_and_the_images_own_command_run_as_with_mesos() {
    let slave = Slave::new();
    let image = Image::with(r#"ENTRYPOINT ["/bin/echo", "entry"]"#);
    let argv = |value: Option<&str>, arguments: &[&str]| CommandInfo {
        shell: Some(false),
        value: value.map(str::to_owned),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        ..CommandInfo::default()
    };
    let shell = CommandInfo { value: Some("echo shell $0".to_owned()), ..CommandInfo::default() };
    for (name, image, command, stdout) in [
        ("shell", IMAGE, shell.clone(), "shell /bin/sh\n"),
        ("argv", IMAGE, argv(Some("/bin/echo"), &["a b", "$HOME", ""]), "a b $HOME \n"),
        ("own", IMAGE, argv(None, &[]), ""),
        ("entry", &image.0, argv(None, &[]), "entry\n"),
        ("entry-with", &image.0, argv(None, &["x", "y z"]), "entry x y z\n"),
        ("entry-value", &image.0, argv(Some("v"), &["x"]), "entry v x\n"),
        ("entry-shell", &image.0, shell, "shell /bin/sh\n"),
    ] {
        let container = slave.container(name);
        let mut launch = container.custom_executor("");
        docker_of(&mut launch).image = image.to_owned();
        *command_of(&mut launch) = command;
        expect(&container, &launch, stdout);
    }
}

#[test]
fn variables_arrive_with_newlines_and_equals_signs() {
    let slave = Slave::new();
    let container = slave.container("c1");
    let mut launch = container.custom_executor("printf '%s|' \"$A\" \"$B\" \"$EMPTY\" \"${MESOS_CREDENTIAL-unset}\"");
    let variable = |name: &str, value: &str| Variable {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..Variable::default()
    };
    let variables = vec![variable("A", "one\ntwo=2 "), variable("B", "'\"$x`\\é"), variable("EMPTY", "")];
    command_of(&mut launch).environment = Some(mesos::Environment { variables });
    expect(&container, &launch, "one\ntwo=2 |'\"$x`\\é||unset|");
}

#[test]
fn a_user_is_named_by_the_command_or_a_parameter() {
    let slave = Slave::new();
    let container = slave.container("command");
    let mut launch = container.custom_executor("id -u");
    command_of(&mut launch).user = Some("1234".to_owned());
    expect(&container, &launch, "1234\n");
    let container = slave.container("early");
    let mut launch = container.custom_executor("id -u; id -g; pwd; hostname; echo $A");
    early(&mut launch, IMAGE, &["--net bridge", "-u", "12:34", "-w/tmp", "-h", "box", "-e A=b c"]);
    expect(&container, &launch, "12\n34\n/tmp\nbox\nb c\n");
}

#[test]
fn networks_are_the_hosts_a_bridge_none_or_one_by_name() {
    let slave = Slave::new();
    let network = TestNetwork::new();
    let script = "ls /sys/class/net | tr '\\n' ' '; readlink /proc/self/ns/net";
    let mut seen = Vec::new();
    for (name, kind) in
        [("host", Network::Host), ("bridge", Network::Bridge), ("none", Network::None), ("user", Network::User)]
    {
        let container = slave.container(name);
        let mut launch = container.custom_executor(script);
        docker_of(&mut launch).network = Some(kind as i32);
        let info = NetworkInfo { name: Some(network.0.clone()), ..NetworkInfo::default() };
        container_of(&mut launch).network_infos = vec![info];
        let (end, stdout) = run(&container, &launch);
        assert_eq!(end.status, Some(0), "{end:?}");
        let (interfaces, namespace) = stdout.trim().rsplit_once(' ').unwrap();
        seen.push((interfaces.to_owned(), namespace.to_owned()));
    }
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let is_hosts = |index: usize| seen[index].1 == own.to_str().unwrap();
    assert!(is_hosts(0) && !is_hosts(1) && !is_hosts(2) && !is_hosts(3), "{seen:?}");
    assert!(seen[1].0.contains("eth0") && !seen[2].0.contains("eth0") && seen[3].0.contains("eth0"), "{seen:?}");
    // By its name only there are aliases.
    let inspected = created(&slave, |task| {
        let container = task.container.as_mut().unwrap();
        container.network_infos = vec![NetworkInfo { name: Some(network.0.clone()), ..NetworkInfo::default() }];
        let docker = container.docker.as_mut().unwrap();
        docker.network = Some(Network::User as i32);
        docker.parameters = parameters(&[("network-alias", "web")]);
    });
    let aliases = &inspected["NetworkSettings"]["Networks"][&network.0]["Aliases"];
    assert!(aliases.as_array().unwrap().contains(&json!("web")), "{inspected}");
}

/// A network of the test's own, removed with it.
struct TestNetwork(String);

impl TestNetwork {
    fn new() -> Self {
        let name = format!("launch-container-test-{}", uuid::Uuid::new_v4());
        let ran = Command::new("docker").args(["network", "create", &name]).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        Self(name)
    }
}

impl Drop for TestNetwork {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["network", "rm", &self.0]).output();
    }
}

#[test]
fn ports_are_mapped_as_asked_or_published_as_allocated() {
    let slave = Slave::new();
    let bindings = |change: &dyn Fn(&mut mesos::container_info::DockerInfo), network: Network| {
        let inspected = created(&slave, |task| {
            task.resources.push(ports(31_800, 31_801));
            let docker = task.container.as_mut().unwrap().docker.as_mut().unwrap();
            docker.network = Some(network as i32);
            change(docker);
        });
        inspected["HostConfig"]["PortBindings"].as_object().cloned().unwrap_or_default()
    };
    let mapping = |host_port, container_port, protocol: &str| PortMapping {
        host_port,
        container_port,
        protocol: Some(protocol.to_owned()),
    };
    let mapped = bindings(
        &|docker| docker.port_mappings = vec![mapping(31_800, 80, "tcp"), mapping(31_801, 53, "udp")],
        Network::Bridge,
    );
    let at = |port: &str| json!([{"HostIp": "", "HostPort": port}]);
    assert_eq!(Value::Object(mapped), json!({"80/tcp": at("31800"), "53/udp": at("31801")}));
    let allocated = bindings(&|_| (), Network::Bridge);
    assert_eq!(Value::Object(allocated), json!({"31800/tcp": at("31800"), "31801/tcp": at("31801")}));
    assert!(bindings(&|_| (), Network::Host).is_empty());
    let mut quiet = Slave::new();
    quiet.set("LAUNCH_CONTAINERIZER_CONTAINER_PUBLISH_ALLOCATED_PORTS", "false");
    let inspected = created(&quiet, |task| {
        task.resources.push(ports(31_800, 31_801));
        task.container.as_mut().unwrap().docker.as_mut().unwrap().network = Some(Network::Bridge as i32);
    });
    assert!(inspected["HostConfig"]["PortBindings"].as_object().is_none_or(serde_json::Map::is_empty));
}

#[test]
fn parameters_and_options_reach_the_engine() {
    let slave = Slave::new();
    let list = [
        ("add-host", "db:10.0.0.1"),
        ("cap-add", "SYS_NICE"),
        ("cap-drop", "MKNOD"),
        ("cpu-period", "50000"),
        ("cpu-quota", "25000"),
        ("cpuset-cpus", "0"),
        ("device", "/dev/null:/dev/nil:r"),
        ("dns", "10.0.0.2"),
        ("dns-option", "ndots:2"),
        ("dns-search", "example.test"),
        ("domainname", "example.test"),
        ("env", "A=b"),
        ("expose", "8080/udp"),
        ("group-add", "7"),
        ("hostname", "box"),
        ("init", "true"),
        ("ipc", "private"),
        ("label", "team=a"),
        ("log-driver", "json-file"),
        ("log-opt", "max-size=1m"),
        ("memory-reservation", "32m"),
        ("memory-swap", "96m"),
        ("mount", "type=tmpfs,target=/t,tmpfs-size=1m"),
        ("oom-score-adj", "500"),
        ("pid", "host"),
        ("pids-limit", "77"),
        ("privileged", ""),
        ("read-only", "true"),
        ("runtime", "runc"),
        ("security-opt", "no-new-privileges"),
        ("shm-size", "8m"),
        ("stop-signal", "SIGINT"),
        ("stop-timeout", "3"),
        ("sysctl", "net.core.somaxconn=99"),
        ("tmpfs", "/run:size=1m"),
        ("ulimit", "nofile=77:88"),
        ("user", "1:2"),
        ("userns", "host"),
        ("uts", ""),
        ("volume", "inside:/in:ro"),
        ("workdir", "/w"),
    ];
    let new = created(&slave, |task| {
        let docker = task.container.as_mut().unwrap().docker.as_mut().unwrap();
        docker.network = Some(Network::Bridge as i32);
        docker.parameters = parameters(&list);
    });
    let options: Vec<String> = list.iter().map(|(key, value)| format!("--{key}={value}")).collect();
    let early = created(&slave, |task| {
        task.container = None;
        task.command.as_mut().unwrap().container =
            Some(command_info::ContainerInfo { image: IMAGE.to_owned(), options: options.clone() });
    });
    for inspected in [&new, &early] {
        let host = &inspected["HostConfig"];
        let config = &inspected["Config"];
        for (found, expected) in [
            (&host["ExtraHosts"], json!(["db:10.0.0.1"])),
            (&host["CapAdd"], json!(["SYS_NICE"])),
            (&host["CapDrop"], json!(["MKNOD"])),
            (&host["CpuPeriod"], json!(50_000)),
            (&host["CpuQuota"], json!(25_000)),
            (&host["CpusetCpus"], json!("0")),
            (&host["Devices"][0]["PathInContainer"], json!("/dev/nil")),
            (&host["Dns"], json!(["10.0.0.2"])),
            (&host["DnsOptions"], json!(["ndots:2"])),
            (&host["DnsSearch"], json!(["example.test"])),
            (&host["GroupAdd"], json!(["7"])),
            (&host["Init"], json!(true)),
            (&host["IpcMode"], json!("private")),
            (&host["LogConfig"], json!({"Type": "json-file", "Config": {"max-size": "1m"}})),
            (&host["MemoryReservation"], json!(32 << 20)),
            (&host["MemorySwap"], json!(96 << 20)),
            (&host["OomScoreAdj"], json!(500)),
            (&host["PidMode"], json!("host")),
            (&host["PidsLimit"], json!(77)),
            (&host["Privileged"], json!(true)),
            (&host["ReadonlyRootfs"], json!(true)),
            (&host["Runtime"], json!("runc")),
            (&host["SecurityOpt"][0], json!("no-new-privileges")),
            (&host["ShmSize"], json!(8 << 20)),
            (&host["Sysctls"], json!({"net.core.somaxconn": "99"})),
            (&host["Tmpfs"], json!({"/run": "size=1m"})),
            (&host["Ulimits"], json!([{"Name": "nofile", "Soft": 77, "Hard": 88}])),
            (&host["UsernsMode"], json!("host")),
            (&config["Domainname"], json!("example.test")),
            (&config["ExposedPorts"]["8080/udp"], json!({})),
            (&config["Hostname"], json!("box")),
            (&config["Labels"]["team"], json!("a")),
            (&config["StopSignal"], json!("SIGINT")),
            (&config["StopTimeout"], json!(3)),
            (&config["User"], json!("1:2")),
            (&config["WorkingDir"], json!("/w")),
        ] {
            assert_eq!(found, &expected, "in {inspected:#}");
        }
        let mounts = host["Mounts"].as_array().unwrap();
        let has = |kind: &str, target: &str| mounts.iter().any(|m| m["Type"] == kind && m["Target"] == target);
        assert!(has("tmpfs", "/t") && has("volume", "/in") && has("bind", "/mnt/mesos/sandbox"), "{mounts:?}");
        assert!(config["Env"].as_array().unwrap().contains(&json!("A=b")));
    }
    let removed = Command::new("docker").args(["volume", "rm", "inside"]).output().unwrap();
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
}

#[test]
fn privileged_is_a_field_and_an_option() {
    let slave = Slave::new();
    let field = created(&slave, |task| {
        task.container.as_mut().unwrap().docker.as_mut().unwrap().privileged = Some(true);
    });
    assert_eq!(field["HostConfig"]["Privileged"], true);
    let option = created(&slave, |task| {
        task.container = None;
        let options = vec!["-v".to_owned(), "/etc:/b:ro".to_owned(), "--privileged".to_owned()];
        task.command.as_mut().unwrap().container =
            Some(command_info::ContainerInfo { image: format!("docker:///{IMAGE}"), options });
    });
    assert_eq!(option["HostConfig"]["Privileged"], true);
    assert_eq!(option["HostConfig"]["NetworkMode"], "bridge");
}

#[test]
fn what_docker_run_has_and_a_task_cannot_have_is_named_with_the_reason() {
    let slave = Slave::new();
    for (option, reason) in [
        ("restart=always", "would outlive its task"),
        ("rm", "when its end is recorded"),
        ("env-file=/x", "are not here"),
        ("name=mine", "mesos-CONTAINER_ID"),
        ("isolation=hyperv", "for Windows"),
        ("lable=a", "is \"label\" meant?"),
    ] {
        let container = slave.container("c");
        let mut launch = container.custom_executor("true");
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        docker_of(&mut launch).parameters = parameters(&[(key, value)]);
        let (end, _) = run(&container, &launch);
        let name = option.split('=').next().unwrap();
        assert!(
            end.message().contains(&format!("docker parameter {name:?}")) && end.message().contains(reason),
            "{end:?}"
        );
    }
}

#[test]
fn a_configuration_that_is_wrong_is_named_by_recovery_and_by_wait() {
    let mut slave = Slave::new();
    let file = slave.stage.files().join("c.toml");
    std::fs::write(&file, "[pull]\npolice = \"always\"\n").unwrap();
    let printed = slave.raw("config", b"");
    assert!(printed.code == Some(0) && printed.stdout.starts_with(b"[container]\n"), "{printed:?}");
    slave.set("LAUNCH_CONTAINERIZER_CONFIG", file.to_str().unwrap());
    assert!(slave.raw("config", b"").error().contains("police"));
    let ran = slave.raw("recover", b"");
    assert!(ran.error().contains("c.toml") && ran.error().contains("police"), "{ran:?}");
    let container = slave.container("c1");
    let (end, _) = run(&container, &container.custom_executor("true"));
    assert!(end.message().contains("c.toml is wrong"), "{end:?}");
}
