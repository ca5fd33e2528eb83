//! Options in every spelling, and where they go.

use serde_json::json;

use super::super::draft::Port;
use super::values::port;
use super::*;

fn host(options: &[&str]) -> serde_json::Value {
    let mut draft = Draft::default();
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    apply_options(&mut draft, &options).unwrap();
    serde_json::to_value(&draft.host).unwrap()
}

fn error(options: &[&str]) -> String {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    apply_options(&mut Draft::default(), &options).unwrap_err().to_string()
}

#[test]
fn options_are_read_in_every_spelling_of_docker_run() {
    let expected = json!({"Privileged": true, "ShmSize": 67_108_864});
    for options in [
        ["--privileged", "--shm-size=64m"].as_slice(),
        &["--privileged=true", "--shm-size", "64m"],
        &["--shm-size 64m", "--privileged"],
    ] {
        assert_eq!(host(options), expected, "{options:?}");
    }
    for options in [["-v/a:/b:ro"].as_slice(), &["-v", "/a:/b:ro"], &["-v=/a:/b:ro"], &["--volume=/a:/b:ro"]] {
        let mut draft = Draft::default();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        apply_options(&mut draft, &options).unwrap();
        assert_eq!(
            serde_json::to_value(&draft.mounts).unwrap(),
            json!([{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true}]),
            "{options:?}"
        );
    }
}

#[test]
fn structured_values_arrive_as_the_engine_wants_them() {
    assert_eq!(
        host(&[
            "--ulimit=nofile=1024:2048",
            "--ulimit=core=0",
            "--device=/dev/null:/dev/x:r",
            "--device=/dev/zero",
            "--sysctl=net.core.somaxconn=5",
            "--tmpfs=/run:size=1m",
            "--gpus=all",
            "--log-driver=local",
            "--log-opt=max-size=1m",
        ]),
        json!({
            "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}, {"Name": "core", "Soft": 0, "Hard": 0}],
            "Devices": [
                {"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"},
                {"PathOnHost": "/dev/zero", "PathInContainer": "/dev/zero", "CgroupPermissions": "rwm"}
            ],
            "Sysctls": {"net.core.somaxconn": "5"},
            "Tmpfs": {"/run": "size=1m"},
            "DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}],
            "LogConfig": {"Type": "local", "Config": {"max-size": "1m"}},
        })
    );
}

#[test]
fn an_unknown_option_is_named() {
    assert!(error(&["--no-such=1"]).contains("no-such"));
    assert!(error(&["word"]).contains("word"));
    assert!(error(&["--ulimit"]).contains("its value is missing"));
}

#[test]
fn what_would_break_the_supervision_is_refused_with_a_reason() {
    for (option, reason) in [("--rm", "removes"), ("--restart=always", "outlive"), ("-t", "stderr"), ("-m=1g", "mem")] {
        assert!(error(&[option]).contains(reason), "{option}: {}", error(&[option]));
    }
}

#[test]
fn an_environment_value_is_not_repeated_in_an_error() {
    assert!(!error(&["-e", "=secret"]).contains("secret"));
}

#[test]
fn sizes_have_dockers_units() {
    assert_eq!(bytes("7"), Ok(7));
    assert_eq!(bytes("2K"), Ok(2048));
    assert_eq!(bytes("1g"), Ok(1 << 30));
    assert!(bytes("1x").is_err() && bytes("").is_err() && bytes("9223372036854775807g").is_err());
}

#[test]
fn ports_have_host_and_container_sides() {
    let expected = Port { host_ip: Some("::1".into()), host: 31000, container: 53, protocol: "udp".into() };
    assert_eq!(port("[::1]:31000:53/udp"), Ok(expected));
    assert_eq!(port("31000:80").unwrap().protocol, "tcp");
    assert!(port("80").is_err() && port("0:80").is_err() && port("31000:99999").is_err());
}

#[test]
fn no_name_stands_twice_in_the_table() {
    let mut names: Vec<_> = OPTIONS.iter().flat_map(|o| o.names).chain(REFUSED.iter().flat_map(|r| r.0)).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn pieces_of_a_command_line_in_one_entry_are_understood() {
    for (options, expected) in [
        (["--net host"].as_slice(), json!({"NetworkMode": "host"})),
        (&["--net host --privileged"], json!({"NetworkMode": "host", "Privileged": true})),
        (&["--privileged --net=host"], json!({"NetworkMode": "host", "Privileged": true})),
        (&["--cap-add", "SYS_ADMIN"], json!({"CapAdd": ["SYS_ADMIN"]})),
    ] {
        assert_eq!(host(options), expected, "{options:?}");
    }
    for options in [["-e A=b c"].as_slice(), &["-e", "A=b c"], &["-eA=b c"], &["--env=A=b c"], &["--env", "A=b c"]] {
        let mut draft = Draft::default();
        apply_options(&mut draft, &options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>()).unwrap();
        assert_eq!(
            draft.environment.into_iter().collect::<Vec<_>>(),
            [("A".to_owned(), "b c".to_owned())],
            "{options:?}"
        );
    }
}

#[test]
fn a_misspelled_option_is_told_what_was_meant() {
    for (wrong, meant) in [("--lable=a", "label"), ("--cap_add=X", "cap-add"), ("--memory-swp=1g", "memory-swap")] {
        assert!(error(&[wrong]).contains(&format!("is {meant:?} meant?")), "{}", error(&[wrong]));
    }
    assert!(error(&["--zzz=1"]).contains("check its spelling"));
}

#[test]
fn devices_and_limits_have_their_forms() {
    let mut draft = Draft::default();
    let options = [
        "--device-read-bps=/dev/sda:1mb",
        "--device-write-iops=/dev/sda:100",
        "--blkio-weight-device=/dev/sda:300",
        "--gpus=\"device=0,1\"",
        "--expose=80",
        "--expose=53/udp",
        "--pull=never",
        "--security-opt=seccomp={}",
    ];
    apply_options(&mut draft, &options.map(str::to_owned)).unwrap();
    assert_eq!(draft.pull, Some(crate::config::PullPolicy::Never));
    assert_eq!(
        serde_json::to_value(&draft.host).unwrap(),
        json!({
            "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1 << 20}],
            "BlkioDeviceWriteIOps": [{"Path": "/dev/sda", "Rate": 100}],
            "BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 300}],
            "DeviceRequests": [{"DeviceIDs": ["0", "1"], "Capabilities": [["gpu"]]}],
            "SecurityOpt": ["seccomp={}"],
        })
    );
    assert_eq!(
        serde_json::to_value(&draft.body).unwrap(),
        json!({
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        })
    );
    for (wrong, reason) in [
        ("--device-read-bps=sda:1", "is not /dev/NAME:NUMBER"),
        ("--gpus=colour=red", "\"colour\" is none of"),
        ("--health-cmd=true", "TaskInfo.health_check"),
        ("--security-opt=seccomp=/p.json", "profile's JSON itself"),
        ("--pull=often", "none of always"),
        ("--privileged=maybe", "neither true nor false"),
        ("--expose=x", "is not PORT"),
    ] {
        assert!(error(&[wrong]).contains(reason), "{}", error(&[wrong]));
    }
}

#[test]
fn a_place_in_a_network_is_kept_apart_from_the_host_options() {
    let created = |options: &[&str]| {
        let mut draft = Draft::default();
        apply_options(&mut draft, &options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>()).unwrap();
        serde_json::to_value(draft.finish().0).unwrap()
    };
    let expected = json!({"blue": {"Aliases": ["web"], "Links": ["db:d"], "IPAMConfig": {"IPv4Address": "10.1.2.3"}}});
    for options in [
        ["--net=blue", "--network-alias=web", "--ip=10.1.2.3", "--link=db:d"].as_slice(),
        &["--network=name=blue,alias=web,ip=10.1.2.3", "--link", "db:d"],
    ] {
        assert_eq!(created(options)["NetworkingConfig"]["EndpointsConfig"], expected, "{options:?}");
    }
    let on_bridge = created(&["--net=bridge", "--link=db:d"]);
    assert_eq!((&on_bridge["HostConfig"]["Links"], &on_bridge["NetworkingConfig"]), (&json!(["db:d"]), &json!(null)));
}
