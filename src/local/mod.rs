//! The embedded cluster behind `--master=local`: one master, N agents on this host, no persistence, no authentication.

#[expect(dead_code, reason = "the parts that show the master's state follow")]
pub mod master;
