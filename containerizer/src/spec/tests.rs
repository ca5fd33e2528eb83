//! From messages of every generation to Docker's create options.

use proto::mesos::command_info;
use serde_json::{Value, json};

use super::limits::MAX_SHARES;
use super::*;

macro_rules! recorded {
    ($name:literal) => {
        recorded(include_bytes!(concat!("../../../tests/fixtures/mesos-1.0.4/ecp/", $name, ".bin")))
    };
}

fn recorded(mut frame: &[u8]) -> Launch {
    proto::framing::read(&mut frame).unwrap()
}

fn spec(launch: &Launch, environment: &Environment) -> Result<Spec, SpecError> {
    Spec::build(launch, environment, &Placement::of_container(&launch.container_id.value))
}

fn slave() -> Environment {
    [
        ("LIBPROCESS_PORT", "5051"),
        ("MESOS_CHECKPOINT", "1"),
        ("MESOS_DIRECTORY", "/var/lib/mesos/s"),
        ("MESOS_SLAVE_PID", "slave(1)@127.0.0.1:5051"),
        ("MESOS_WORK_DIRECTORY", "/var/lib/mesos/"),
        ("PATH", "/bin"),
    ]
    .into_iter()
    .collect()
}

fn build(launch: &Launch) -> Result<Value, String> {
    let spec = spec(launch, &slave()).map_err(|error| error.to_string())?;
    Ok(serde_json::to_value(spec.create).unwrap())
}

fn task(change: impl FnOnce(&mut mesos::TaskInfo)) -> Launch {
    let mut launch = recorded!("launch-full");
    change(launch.task_info.as_mut().unwrap());
    launch
}

fn docker(change: impl FnOnce(&mut DockerInfo)) -> Launch {
    task(|task| change(task.container.as_mut().unwrap().docker.as_mut().unwrap()))
}

const DIRECTORY: &str = "/var/lib/mesos/slaves/07b2913e-f18a-4a7a-ba56-c9d92bdf9114-S0/frameworks/\
                         07b2913e-f18a-4a7a-ba56-c9d92bdf9114-0000/executors";

#[test]
fn a_task_with_everything_becomes_create_options() {
    let launch = recorded!("launch-full");
    let spec = spec(&launch, &slave()).unwrap();
    assert_eq!(spec.pull, Some(PullPolicy::Always));
    assert_eq!(spec.image.to_string(), "busybox:latest");
    assert_eq!(spec.host_directories, [Path::new("/srv/data"), Path::new("/etc")]);
    assert_eq!(
        serde_json::to_value(&spec.create).unwrap(),
        json!({
            "AttachStderr": true,
            "AttachStdout": true,
            "Cmd": ["-c", "id"],
            "Entrypoint": ["/bin/sh"],
            "Env": [
                "MESOS_CONTAINER_NAME=mesos-f8e079b7-00ed-44b8-aac5-7ad1c43ef53f",
                "MESOS_DIRECTORY=/mnt/mesos/sandbox",
                "MESOS_SANDBOX=/mnt/mesos/sandbox",
            ],
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "HostConfig": {
                "AutoRemove": false,
                "CpuShares": 256,
                "Init": true,
                "LogConfig": {"Type": "none"},
                "Memory": 67_108_864,
                "Mounts": [
                    {"ReadOnly": false, "Source": "/srv/data", "Target": "/data", "Type": "bind"},
                    {"ReadOnly": true, "Source": "/etc", "Target": "/conf", "Type": "bind"},
                    {
                        "ReadOnly": false,
                        "Source": format!("{DIRECTORY}/full/runs/f8e079b7-00ed-44b8-aac5-7ad1c43ef53f"),
                        "Target": "/mnt/mesos/sandbox",
                        "Type": "bind"
                    },
                ],
                "NetworkMode": "bridge",
                "PortBindings": {"53/udp": [{"HostPort": "31006"}], "80/tcp": [{"HostPort": "31005"}]},
                "Privileged": true,
                "RestartPolicy": {"Name": "no"},
                "Ulimits": [{"Hard": 1024, "Name": "nofile", "Soft": 1024}],
            },
            "Hostname": "box",
            "Image": "busybox:latest",
            "Labels": {
                "launch-container.agent-id": "07b2913e-f18a-4a7a-ba56-c9d92bdf9114-S0",
                "launch-container.container-id": "f8e079b7-00ed-44b8-aac5-7ad1c43ef53f",
                "launch-container.executor-id": "full",
                "launch-container.framework-id": "07b2913e-f18a-4a7a-ba56-c9d92bdf9114-0000",
                "launch-container.work-directory": "/var/lib/mesos",
                "team": "a",
            },
            "User": "root",
        })
    );
}

#[test]
fn arguments_go_to_the_images_entrypoint_after_the_value() {
    let created = build(&recorded!("launch-argv")).unwrap();
    assert_eq!(created["Cmd"], json!(["/bin/echo", "/bin/echo", "a b", "$HOME", "café"]));
    assert_eq!(created["Entrypoint"], Value::Null);
    assert_eq!(created["HostConfig"]["Init"], Value::Null);
    assert_eq!(created["HostConfig"]["NetworkMode"], "host");
}

#[test]
fn without_value_and_arguments_the_image_runs_its_own_command() {
    let created = build(&recorded!("launch-entrypoint")).unwrap();
    assert_eq!((&created["Cmd"], &created["Entrypoint"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_custom_executor_gets_its_sandbox_and_what_the_slave_tells_executors() {
    let created = build(&recorded!("launch-custom")).unwrap();
    assert_eq!(created["Entrypoint"], json!(["/bin/sh"]));
    assert_eq!(created["Cmd"], json!(["-c", "./my-executor --flag"]));
    assert_eq!(created["WorkingDir"], SANDBOX);
    assert_eq!(created["HostConfig"]["NetworkMode"], "host");
    assert_eq!(created["HostConfig"]["Memory"], 96 << 20);
    assert_eq!(
        created["Env"],
        json!([
            "LIBPROCESS_PORT=0",
            "MESOS_CHECKPOINT=1",
            "MESOS_CONTAINER_NAME=mesos-76797e3e-1237-46d0-ae28-c57bc732016c",
            "MESOS_DIRECTORY=/mnt/mesos/sandbox",
            "MESOS_SANDBOX=/mnt/mesos/sandbox",
            "MESOS_SLAVE_PID=slave(1)@127.0.0.1:5051",
            "X=1",
        ])
    );
}

#[test]
fn a_sandbox_must_be_absolute() {
    for (directory, expected) in [("", "names no sandbox"), ("work/sandbox", "\"work/sandbox\" is not absolute")] {
        let mut launch = task(|_| {});
        launch.directory = Some(directory.to_owned());
        let error = build(&launch).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn without_any_image_the_error_says_where_one_can_be_named() {
    let launch = recorded!("launch-noimage");
    assert_eq!(spec(&launch, &slave()).unwrap_err(), SpecError::NoImage);
    let with_default: Environment = [(DEFAULT_IMAGE, "web:1")].into_iter().collect();
    assert_eq!(spec(&launch, &with_default).unwrap().image.to_string(), "web:1");
}

#[test]
fn the_image_and_options_of_the_early_days_are_understood() {
    let launch = task(|task| {
        task.container = None;
        task.command.as_mut().unwrap().container = Some(command_info::ContainerInfo {
            image: "docker:///r.example:5000/web".to_owned(),
            options: ["-v", "/a b:/b", "--privileged", "-w/x"].map(str::to_owned).to_vec(),
        });
    });
    let launch =
        Launch { executor_info: launch.executor_info.map(|e| mesos::ExecutorInfo { container: None, ..e }), ..launch };
    let created = build(&launch).unwrap();
    assert_eq!(created["Image"], "r.example:5000/web:latest");
    assert_eq!(created["HostConfig"]["NetworkMode"], "bridge");
    assert_eq!(created["HostConfig"]["Privileged"], true);
    assert_eq!(created["HostConfig"]["Mounts"][1]["Source"], "/a b");
    assert_eq!(created["WorkingDir"], "/x");
}

#[test]
fn a_port_outside_of_the_tasks_resources_is_named() {
    let error = build(&docker(|docker| docker.port_mappings[0].host_port = 80)).unwrap_err();
    assert!(error.contains("host port 80") && error.contains("[31005-31006]"), "{error}");
    let error = build(&docker(|docker| docker.port_mappings[0].host_port = 0)).unwrap_err();
    assert!(error.contains("0 is not a port"), "{error}");
    let error = build(&docker(|docker| docker.network = None)).unwrap_err();
    assert!(error.contains("network host"), "{error}");
    let error = build(&docker(|docker| docker.port_mappings[0].protocol = Some("icmp".into()))).unwrap_err();
    assert!(error.contains("icmp"), "{error}");
}

#[test]
fn a_published_port_is_checked_like_a_mapped_one() {
    let published = |value: &str| {
        docker(|docker| docker.parameters = vec![mesos::Parameter { key: "publish".into(), value: value.into() }])
    };
    assert!(build(&published("31006:8080")).is_ok());
    assert!(build(&published("31007:8080")).unwrap_err().contains("31007"));
}

#[test]
fn networks_have_their_rules() {
    let error = build(&docker(|docker| {
        docker.network = Some(Network::Host as i32);
        docker.port_mappings.clear();
    }));
    assert!(error.unwrap_err().contains("hostname"));
    let user = |names: &[&str]| {
        task(|task| {
            let container = task.container.as_mut().unwrap();
            container.docker.as_mut().unwrap().network = Some(Network::User as i32);
            let info = |name: &&str| mesos::NetworkInfo { name: Some((*name).to_owned()), ..Default::default() };
            container.network_infos = names.iter().map(info).collect();
        })
    };
    assert_eq!(build(&user(&["blue"])).unwrap()["HostConfig"]["NetworkMode"], "blue");
    assert!(build(&user(&[])).unwrap_err().contains("network USER"));
}

#[test]
fn volumes_are_found_in_the_sandbox_and_stay_in_it() {
    let volume = |host: Option<&str>, container: &str| {
        task(|task| {
            let volume = &mut task.container.as_mut().unwrap().volumes[0];
            volume.host_path = host.map(str::to_owned);
            container.clone_into(&mut volume.container_path);
        })
    };
    let mount = |launch: &Launch| build(launch).map(|created| created["HostConfig"]["Mounts"][0].clone());
    let sandbox = format!("{DIRECTORY}/full/runs/f8e079b7-00ed-44b8-aac5-7ad1c43ef53f");
    assert_eq!(mount(&volume(Some("./in/a"), "/x")).unwrap()["Source"], format!("{sandbox}/in/a"));
    assert_eq!(mount(&volume(Some("/x"), "out")).unwrap()["Target"], "/mnt/mesos/sandbox/out");
    for (host, container, reason) in [
        (Some("../a"), "/x", "leads out"),
        (Some("a"), "x", "both relative"),
        (None, "/x", "neither a host path"),
        (Some("/a"), "", "no container path"),
    ] {
        let error = mount(&volume(host, container)).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn the_tasks_variables_are_its_own_but_for_what_describes_the_container() {
    let launch = task(|task| {
        let variables = [("A", "1=2\n3"), ("MESOS_SANDBOX", "/elsewhere")];
        let variable = |(name, value): (&str, &str)| mesos::environment::Variable {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..Default::default()
        };
        let variables = variables.map(variable).to_vec();
        task.command.as_mut().unwrap().environment = Some(mesos::Environment { variables });
    });
    let created = build(&launch).unwrap();
    let variables = created["Env"].as_array().unwrap();
    assert!(variables.contains(&json!("A=1=2\n3")) && variables.contains(&json!("MESOS_SANDBOX=/mnt/mesos/sandbox")));
    assert!(!variables.iter().any(|v| v.as_str().unwrap().starts_with("MESOS_SLAVE_PID")), "{variables:?}");
}

#[test]
fn a_name_that_is_no_variable_is_refused() {
    for name in ["", "A=B", "A\0"] {
        let launch = task(|task| {
            let variable = mesos::environment::Variable { name: name.to_owned(), ..Default::default() };
            task.command.as_mut().unwrap().environment = Some(mesos::Environment { variables: vec![variable] });
        });
        assert!(build(&launch).unwrap_err().contains("no variable's name"));
    }
}

#[test]
fn parameters_win_over_what_they_refine() {
    let launch = docker(|docker| {
        docker.parameters = [("user", "7:8"), ("entrypoint", "/bin/ash"), ("init", "false"), ("workdir", "/w")]
            .map(|(key, value)| mesos::Parameter { key: key.into(), value: value.into() })
            .to_vec();
    });
    let created = build(&launch).unwrap();
    assert_eq!(created["User"], "7:8");
    assert_eq!(created["Entrypoint"], json!(["/bin/ash"]));
    assert_eq!(created["HostConfig"]["Init"], false);
    assert_eq!(created["WorkingDir"], "/w");
}

#[test]
fn a_parameter_nobody_knows_is_named() {
    let launch = docker(|docker| docker.parameters[0].key = "lable".to_owned());
    assert!(build(&launch).unwrap_err().contains("\"lable\" is not known"));
}

#[test]
fn limits_have_mesos_minimum_and_leave_out_what_is_not_there() {
    let of = |text: &[(&str, f64)]| {
        let scalar = |(name, value): &(&str, f64)| Resource {
            name: (*name).to_owned(),
            scalar: Some(mesos::value::Scalar { value: *value }),
            ..Default::default()
        };
        Limits::of(&text.iter().map(scalar).collect::<Vec<_>>())
    };
    assert_eq!(of(&[]), Limits::default());
    assert_eq!(
        of(&[("cpus", 0.001), ("mem", 1.0)]),
        Limits { cpu_shares: Some(2), memory_bytes: Some(32 << 20), cpu_quota: None }
    );
    assert_eq!(
        of(&[("cpus", 0.5), ("mem", 64.5)]),
        Limits { cpu_shares: Some(512), memory_bytes: Some(129 << 19), cpu_quota: None }
    );
    assert_eq!(of(&[("cpus", 0.5), ("cpus", 1.0)]).cpu_shares, Some(1536));
    assert_eq!(of(&[("cpus", 1e9)]).cpu_shares, Some(MAX_SHARES));
}

#[test]
fn an_update_leaves_the_executors_share_to_the_executor() {
    let overhead = Overhead::of(&recorded!("launch-plain"));
    let mut frame: &[u8] = include_bytes!("../../../tests/fixtures/mesos-1.0.4/ecp/update.bin");
    let update: proto::ecp::Update = proto::framing::read(&mut frame).unwrap();
    let limits = Limits { cpu_shares: Some(256), memory_bytes: Some(64 << 20), cpu_quota: None };
    assert_eq!(Limits::of_update(&update.resources, overhead, false), Some(limits));
    let limited = Limits { cpu_quota: Some(25_000), ..limits };
    assert_eq!(Limits::of_update(&update.resources, overhead, true), Some(limited));

    let mut executor_only = update.resources;
    executor_only[0].scalar = Some(mesos::value::Scalar { value: 0.1 });
    executor_only[1].scalar = Some(mesos::value::Scalar { value: 32.0 });
    assert_eq!(Limits::of_update(&executor_only, overhead, true), None);
    assert_eq!(Overhead::of(&recorded!("launch-custom")), Overhead::default());
}

#[test]
fn without_mappings_each_allocated_port_is_published() {
    let build = |launch: &Launch, publishes| {
        let placement = Placement { publishes_allocated_ports: publishes, ..Placement::of_container("c") };
        let spec = Spec::build(launch, &slave(), &placement).unwrap();
        serde_json::to_value(spec.create).unwrap()["HostConfig"]["PortBindings"].clone()
    };
    let without = docker(|docker| docker.port_mappings.clear());
    let each = json!({"31005/tcp": [{"HostPort": "31005"}], "31006/tcp": [{"HostPort": "31006"}]});
    assert_eq!((build(&without, true), build(&without, false)), (each, Value::Null));
    let with = docker(|_| ());
    assert_eq!(build(&with, true), build(&with, false));
    let on_host = task(|task| {
        let container = task.container.as_mut().unwrap();
        container.hostname = None;
        let docker = container.docker.as_mut().unwrap();
        docker.network = None;
        docker.port_mappings.clear();
    });
    assert_eq!(build(&on_host, true), Value::Null);
}

#[test]
fn a_network_of_others_has_no_place_of_ones_own() {
    let launch = task(|task| {
        let container = task.container.as_mut().unwrap();
        container.hostname = None;
        let docker = container.docker.as_mut().unwrap();
        docker.network = Some(Network::None as i32);
        docker.port_mappings.clear();
        docker.parameters = vec![mesos::Parameter { key: "network-alias".into(), value: "web".into() }];
    });
    assert!(build(&launch).unwrap_err().contains("a container with network none has no address"));
}

#[test]
fn swap_follows_memory_by_the_operators_rule_unless_the_task_says_how_much() {
    let of = |swap: Swap, parameters: &[(&str, &str)], updated_mib: Option<i64>| {
        let launch = docker(|docker| {
            let parameter =
                |(key, value): &(&str, &str)| mesos::Parameter { key: (*key).into(), value: (*value).into() };
            docker.parameters = parameters.iter().map(parameter).collect();
        });
        let placement = Placement { swap, ..Placement::of_container("c") };
        let mut spec = Spec::build(&launch, &slave(), &placement).unwrap();
        if let Some(mib) = updated_mib {
            let limits = Limits { memory_bytes: Some(mib << 20), ..Limits::default() };
            spec.set_limits(limits);
        }
        let host = spec.create.host_config.unwrap();
        (host.memory.unwrap() >> 20, host.memory_swap.map(|bytes| if bytes < 0 { bytes } else { bytes >> 20 }))
    };
    assert_eq!(of(Swap::Same, &[], None), (64, None), "the engine doubles it");
    assert_eq!(of(Swap::Same, &[], Some(80)), (80, None));
    assert_eq!(of(Swap::None, &[], None), (64, Some(64)));
    assert_eq!(of(Swap::None, &[], Some(80)), (80, Some(80)));
    assert_eq!(of(Swap::Unlimited, &[], Some(80)), (80, Some(-1)));
    assert_eq!(of(Swap::None, &[("memory-swap", "70m")], None), (64, Some(70)));
    assert_eq!(of(Swap::None, &[("memory-swap", "70m")], Some(66)), (66, Some(70)));
    assert_eq!(of(Swap::None, &[("memory-swap", "70m")], Some(80)), (80, Some(80)), "less would be refused");
    assert_eq!(of(Swap::None, &[("memory-swap", "-1")], Some(80)), (80, Some(-1)));
    assert_eq!(of(Swap::None, &[("memory-swap", "0")], None), (64, Some(64)), "0 is none given");
    assert_eq!(Swap::Same.limit_bytes(64), 128);
}

#[test]
fn the_tasks_disk_limits_the_containers_layer_where_the_operator_wants_it() {
    let scalar = |name: &str, value: f64| Resource {
        name: name.to_owned(),
        scalar: Some(mesos::value::Scalar { value }),
        ..Resource::default()
    };
    let of = |disk: DiskPolicy, storage_opt: Option<&str>| {
        let mut launch = task(|task| {
            let volume = Resource { disk: Some(Default::default()), ..scalar("disk", 7.0) };
            task.resources = vec![scalar("mem", 64.0), scalar("disk", 10.0), scalar("disk", 0.5), volume];
        });
        let docker = launch.task_info.as_mut().unwrap().container.as_mut().unwrap().docker.as_mut().unwrap();
        docker.port_mappings.clear();
        docker.parameters = storage_opt
            .iter()
            .map(|value| mesos::Parameter { key: "storage-opt".into(), value: (*value).into() })
            .collect();
        let placement = Placement { disk, ..Placement::of_container("c") };
        Spec::build(&launch, &slave(), &placement).unwrap()
    };
    let size = |spec: &Spec| {
        let options = spec.create.host_config.as_ref().unwrap().storage_opt.as_ref();
        options.and_then(|options| options.get("size").cloned())
    };
    let bytes = 21 << 19;
    assert_eq!(size(&of(DiskPolicy::Never, None)), None);
    for (policy, is_needed) in [(DiskPolicy::WherePossible, false), (DiskPolicy::Always, true)] {
        let mut spec = of(policy, None);
        assert_eq!((size(&spec), spec.disk), (Some(bytes.to_string()), Some(DiskLimit { bytes, is_needed })));
        spec.remove_disk_limit();
        assert_eq!((size(&spec), spec.disk), (None, None));
        // What the task asks for itself is never left out.
        let spec = of(policy, Some("size=1G"));
        assert_eq!((size(&spec).as_deref(), spec.disk), (Some("1G"), None));
    }
    assert_eq!(disk_bytes(&[]), None);
    assert_eq!(disk_bytes(&[scalar("disk", 0.0)]), None);
}
