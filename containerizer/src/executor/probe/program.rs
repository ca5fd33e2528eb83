//! Ends a program that was started in a container, and all that it has started.
//!
//! The engine makes such a program the leader of a session. Its descendants are told by that session, as long as they stay in
//! it, and by their parents. Both are seen from here: the process ids are this host's.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process that is not ended yet.
struct Process {
    pid: u32,
    parent: u32,
    session: u32,
}

/// What has been started while others were being ended is seen in the next round.
const MOST_ROUNDS: u32 = 16;

/// Ends `leader` and what it has started, as far as they are `its` container's. A leader that `has_ended` is not touched: its
/// number may be another's by now, unless there is a session of that number whose leader is gone.
pub(super) fn kill(leader: u32, has_ended: bool, its: impl Fn(u32) -> bool) {
    let mut known = HashSet::from([leader]);
    for _ in 0..MOST_ROUNDS {
        let all = processes();
        if has_ended && all.iter().any(|process| process.pid == leader) {
            return;
        }
        // Children are mostly, but not always, listed behind their parents.
        let mut count = 0;
        while known.len() != count {
            count = known.len();
            known.extend(
                all.iter()
                    .filter(|process| process.session == leader || known.contains(&process.parent))
                    .map(|process| process.pid)
                    .collect::<Vec<_>>(),
            );
        }
        let victims: Vec<u32> =
            all.iter().map(|process| process.pid).filter(|pid| known.contains(pid) && its(*pid)).collect();
        if victims.is_empty() {
            return;
        }
        for pid in victims {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // It may have ended meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            parse(pid, &fs::read_to_string(entry.path().join("stat")).ok()?)
        })
        .collect()
}

/// Reads `/proc/PID/stat`; `None` when the process has ended and only waits to be noticed.
fn parse(pid: u32, stat: &str) -> Option<Process> {
    // The name before may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid, parent, session })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    fn is_there(pid: u32) -> bool {
        processes().iter().any(|process| process.pid == pid)
    }

    /// A session leader, and what it says of its children.
    fn start(script: &str) -> (std::process::Child, Vec<u32>) {
        let mut child = Command::new("setsid").args(["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (child, line.split_whitespace().map(|pid| pid.parse().unwrap()).collect())
    }

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let process = parse(7, "7 (a) b (c)) S 3 5 4 0 -1 4194560").unwrap();
        assert_eq!((process.pid, process.parent, process.session), (7, 3, 4));
        assert!(parse(7, "7 (x) Z 3 5 4 0").is_none() && parse(7, "").is_none());
    }

    #[test]
    fn children_in_the_session_and_children_that_left_it_are_ended_and_nobody_else() {
        let (mut leader, children) = start("sleep 1000 & a=$!; setsid sleep 1000 & echo $a $!; wait");
        let (mut other, _) = start("echo; sleep 1000");
        assert_eq!(children.len(), 2);
        kill(leader.id(), false, |_| true);
        assert!(leader.wait().unwrap().code().is_none());
        assert!(!children.iter().any(|pid| is_there(*pid)), "{children:?}");
        assert!(is_there(other.id()));
        kill(other.id(), false, |_| false);
        assert!(is_there(other.id()), "it is not of the container");
        kill(other.id(), true, |_| true);
        assert!(is_there(other.id()), "the number is another's");
        kill(other.id(), false, |_| true);
        other.wait().unwrap();
    }

    #[test]
    fn what_a_leader_that_has_ended_left_behind_is_ended() {
        let (mut leader, children) = start("sleep 1000 >/dev/null & echo $!");
        leader.wait().unwrap();
        let [child] = children[..] else { panic!("{children:?}") };
        assert!(is_there(child));
        kill(leader.id(), true, |_| true);
        assert!(!is_there(child));
    }
}
