//! Compiles the `.proto` files with protox, in Rust: nobody needs protoc.

use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 6] =
    ["mesos.proto", "scheduler.proto", "executor.proto", "internal.proto", "agent.proto", "ecp.proto"];

fn main() {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."]).unwrap_or_else(|error| panic!("{error:?}"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec()).expect("OUT_DIR is writable");
    prost_build::Config::new()
        .btree_map(["."])
        .enable_type_names()
        .include_file("messages.rs")
        .compile_fds(descriptors)
        .expect("what protox accepts, prost compiles");
}
