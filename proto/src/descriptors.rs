//! What our `.proto` files say, at run time: loaded once, at the first use, so that who never needs it never pays.

use std::sync::OnceLock;

use prost_reflect::{DescriptorPool, MessageDescriptor};

/// The descriptor of a message by its full name, such as `mesos.scheduler.Event`.
pub(crate) fn message(full_name: &str) -> Option<MessageDescriptor> {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(DESCRIPTORS).expect("build.rs wrote it with the same library"))
        .get_message_by_name(full_name)
}

/// All `.proto` files as a serialized `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
