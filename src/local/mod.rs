//! The embedded cluster behind `--master=local`: one master, N agents on this host, no persistence, no authentication.

pub mod master;
