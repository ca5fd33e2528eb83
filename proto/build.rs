//! Compiles the `.proto` files with protox, in Rust: nobody needs protoc.

use std::path::PathBuf;

use prost::Message as _;

/// Large, seldom set, and in messages that are made and moved in numbers: a `Resource` and a `Call` would be a kilobyte each, a `TaskInfo` three.
const BOXED: [&str; 13] = [
    ".mesos.Resource.disk",
    ".mesos.Resource.reservation",
    ".mesos.TaskInfo.executor",
    ".mesos.TaskInfo.container",
    ".mesos.ExecutorInfo.container",
    ".mesos.TaskInfo.health_check",
    ".mesos.TaskInfo.check",
    ".mesos.TaskInfo.discovery",
    ".mesos.Offer.Operation.launch_group",
    ".mesos.scheduler.Call.subscribe",
    ".mesos.scheduler.Call.update_framework",
    ".mesos.scheduler.Event.subscribed",
    ".mesos.scheduler.Event.update_operation_status",
];

const FILES: [&str; 6] =
    ["mesos.proto", "scheduler.proto", "executor.proto", "internal.proto", "agent.proto", "ecp.proto"];

fn main() {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."]).unwrap_or_else(|error| panic!("{error:?}"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec()).expect("OUT_DIR is writable");
    let mut config = prost_build::Config::new();
    for field in BOXED {
        config.boxed(field);
    }
    config
        .btree_map(["."])
        .enable_type_names()
        .include_file("messages.rs")
        .compile_fds(descriptors)
        .expect("what protox accepts, prost compiles");
}
