//! `launch-container inspect RUN`: everything that the journal knows, as JSON.

use std::io::Write;

use serde_json::json;

use super::{owner, state, text, time};
use crate::exit;
use crate::journal::{Journal, Runs};

/// Prints one object. Its fields are described in docs/runs.md.
pub(super) fn inspect(runs: &Runs, run: &str, mut out: impl Write) -> Result<(), String> {
    let run = runs.find(run).map_err(text)?;
    let past = Journal::read(runs, &run).map_err(text)?;
    let placement = past.placement().map(|(task_id, offer)| {
        json!({
            "task_id": task_id,
            "agent_id": offer.agent_id.value,
            "hostname": offer.hostname,
            "offer_id": offer.id.value,
        })
    });
    let status = past.status().map(|status| {
        json!({
            "state": status.state().as_str_name(),
            "message": status.message,
            "reason": status.reason.map(|_| status.reason().as_str_name()),
        })
    });
    let end = past
        .end()
        .map(|(at, outcome)| json!({ "at": time(at), "kind": outcome.kind(), "exit_code": exit::code(outcome) }));
    let object = json!({
        "run": run,
        "state": state(&past),
        "name": past.begin.name,
        "image": past.begin.image,
        "master": past.begin.master,
        "begun": time(past.begun_at),
        "running_since": past.running_since().map(time),
        "owner": owner(runs, &past).map_err(text)?,
        "framework_id": past.framework_id(),
        "launch": placement,
        "status": status,
        "stdout_delivered": past.offsets[0],
        "stderr_delivered": past.offsets[1],
        "is_delivered": past.is_delivered,
        "end": end,
    });
    serde_json::to_writer_pretty(&mut out, &object)
        .map_err(std::io::Error::from)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(|error| format!("cannot write what is known of run {run}: {error}"))
}
