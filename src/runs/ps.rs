//! `launch-container ps`: the runs of this user on this machine, as their journals know them.

use std::io::Write;

use serde::Serialize;

use super::{owner, state, text, time};
use crate::cli::Format;
use crate::journal::{Journal, JournalError, Past, RunId, Runs};

#[derive(Debug, Serialize)]
struct Row {
    run: RunId,
    state: String,
    agent: Option<String>,
    begun: String,
    /// The process that owns it.
    owner: Option<i32>,
    image: String,
}

impl Row {
    fn of(runs: &Runs, past: &Past) -> Result<Self, JournalError> {
        Ok(Self {
            run: past.begin.run.clone(),
            state: state(past),
            agent: past.placement().map(|(_, offer)| offer.hostname.clone()),
            begun: time(past.begun_at),
            owner: owner(runs, past)?,
            image: past.begin.image.clone(),
        })
    }
}

/// Prints them, the newest first. A journal that cannot be read has its line, too.
pub(super) fn ps(runs: &Runs, format: Format, mut out: impl Write) -> Result<(), String> {
    let mut pasts: Vec<Result<Past, String>> = Vec::new();
    for run in runs.list().map_err(text)? {
        match Journal::read(runs, &run) {
            Ok(past) => pasts.push(Ok(past)),
            // Nothing but a directory: its launcher was killed before it had written the first line.
            Err(JournalError::Unknown(_)) => {}
            Err(error) => pasts.push(Err(error.to_string())),
        }
    }
    pasts.sort_by_key(|past| std::cmp::Reverse(past.as_ref().map(|past| past.begun_at).unwrap_or_default()));
    let mut rows = Vec::new();
    let mut unreadable = Vec::new();
    for past in pasts {
        match past {
            Ok(past) => rows.push(Row::of(runs, &past).map_err(text)?),
            Err(error) => unreadable.push(error),
        }
    }
    let written = match format {
        Format::Json => json(&rows, &mut out),
        Format::Text => table(&rows, &mut out),
    };
    written.and_then(|()| out.flush()).map_err(|error| format!("cannot write the list of runs: {error}"))?;
    match unreadable.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn json(rows: &[Row], out: &mut impl Write) -> std::io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut *out, row)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn table(rows: &[Row], out: &mut impl Write) -> std::io::Result<()> {
    let head = ["RUN", "STATE", "AGENT", "BEGUN", "OWNER", "IMAGE"].map(str::to_owned);
    let mut lines = vec![head];
    for row in rows {
        let owner = row.owner.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let agent = row.agent.clone().unwrap_or_else(|| "-".to_owned());
        lines.push([row.run.to_string(), row.state.clone(), agent, row.begun.clone(), owner, row.image.clone()]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..5).map(width).collect();
    for line in &lines {
        for (cell, width) in line.iter().zip(&widths) {
            write!(out, "{cell:width$}  ")?;
        }
        writeln!(out, "{}", line[5])?;
    }
    Ok(())
}
