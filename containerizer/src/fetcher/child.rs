//! The process that fetches: reads its [`Request`], works through it, says how it went.

use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::cache::Cache;
use super::download::{self, Destination};
use super::unpack::{self, Budget, Kind};
use super::{Answer, Item, Request, shown};
use crate::inside::Inside;

/// Fetches into the current directory what is asked for on stdin, and answers on stdout. Whether all is there.
pub fn run() -> bool {
    // An archive whose headers lie about their size must not take the host's memory. Where it cannot be set, it is higher.
    let limit = Rlimit { current: Some(MAX_MEMORY_BYTES), maximum: Some(MAX_MEMORY_BYTES) };
    let _ = setrlimit(Resource::As, limit);
    let mut line = String::new();
    let request = io::stdin().lock().read_line(&mut line).ok().and_then(|_| serde_json::from_str(&line).ok());
    let Some(request) = request else { return false };
    end_with_parent();
    let answer = match fetch_all(&request) {
        Ok(()) => Answer::Done,
        Err((uri, reason)) => Answer::Failed { uri, reason: one_line(&reason) },
    };
    let bytes = serde_json::to_vec(&answer).expect("plain fields always serialize");
    let told = io::stdout().write_all(&bytes).and_then(|()| io::stdout().flush());
    told.is_ok() && matches!(answer, Answer::Done)
}

fn fetch_all(request: &Request) -> Result<(), (String, String)> {
    let mut budget = Budget::new(request.limits.max_unpacked_bytes, request.limits.max_entries);
    for item in &request.items {
        fetch(item, request, &mut budget).map_err(|reason| (shown(&item.uri), reason))?;
    }
    Ok(())
}

fn fetch(item: &Item, request: &Request, budget: &mut Budget) -> Result<(), String> {
    let sandbox = Inside::open(Path::new(".")).map_err(|error| format!("the sandbox cannot be opened: {error}"))?;
    let name = match &item.output_file {
        Some(name) => name.clone(),
        None => download::name_of(&item.uri)?,
    };
    let path = Path::new(&name);
    let mode = if item.is_executable { 0o755 } else { 0o644 };
    let file = sandbox.create_file(path, mode).map_err(|error| format!("{name:?} cannot be written: {error}"))?;
    let mut destination = Destination::new(file, request.limits.max_file_bytes);
    let cache = if item.is_cached && request.has_cache { cache(request) } else { None };
    download::get(&item.uri, &mut destination, request.limits.silence, cache.as_ref())?;
    // One that is to be run is taken as it is, as Mesos has it.
    if item.is_executable || !item.is_extracted {
        return Ok(());
    }
    let Some(kind) = Kind::of(&name) else { return Ok(()) };
    unpack::unpack(destination.into_file()?, kind, path, &sandbox, budget)
}

/// Nothing is ever said on stderr, so the directory came that way: the user has no other way to it.
fn cache(request: &Request) -> Option<Cache> {
    let directory = io::stderr().as_fd().try_clone_to_owned().ok()?;
    Some(Cache::new(Inside::of(directory), request.limits.max_cache_bytes))
}

/// The other end of our stdin is the supervisor's, and closes when that is killed.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Compressed streams have windows of up to some hundred MB; threads and libraries take the rest.
const MAX_MEMORY_BYTES: u64 = 2 << 30;
