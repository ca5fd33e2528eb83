//! `--dry-run`: what would be launched, and where it could run, without launching it.
//!
//! The task goes to stdout as the JSON of Mesos' `TaskInfo`, fit for `--task`. No framework is subscribed: what agents have is
//! read from the master's state, so the answer is about now, and about everything that is free, whatever the role's share.

use std::io::{self, Write};

use crate::job::Job;

/// The task as JSON. The agent is not known yet, and its id is left out.
///
/// # Errors
/// It cannot be written.
pub fn print_task(job: &Job, mut out: impl Write) -> io::Result<()> {
    let mut task = proto::json::to_value("mesos.TaskInfo", &job.task.info).map_err(io::Error::other)?;
    if let Some(fields) = task.as_object_mut() {
        fields.remove("agent_id");
    }
    serde_json::to_writer_pretty(&mut out, &task)?;
    out.write_all(b"\n")
}
