//! PURE: cuts what Mesos' own executors write into a task's files before it writes anything.
//!
//! ```text
//! bytes --> Looking: lines that are all known are held --the line that ends them--> Following: known lines, once each --> Passing
//!              '--any other byte--> all that was held, Passing                          '--any other byte--> Passing
//! ```
//!
//! | who | where | lines |
//! |---|---|---|
//! | docker executor, Mesos 0.23 to 1.3 | stdout | its flags (0.28: twice), `Registered docker executor on H`, `Starting task T` |
//! | command executor, Mesos 0.19 to 1.3 | stdout | `Registered executor on H` or `Received SUBSCRIBED event` and what follows it, `Starting task T`, `Forked command at P`, `sh -c '...'` |
//! | both, from 1.4 on | stderr | the same in the log's form: `I1023 10:58:31.078027 32370 executor.cpp:120] Starting task T` |
//! | all | stderr | the library's `Version: V` and `Executor registered on agent A`, and before them the fetcher's |
//!
//! H, T and A must be those of this task, and each line must be whole, so no task's own bytes are taken for these by chance; where the
//! line that ends them does not come, nothing is cut. What executors write in the middle or at the end (`Shutting down`,
//! `Command exited with status 0 (pid: 7)`) cannot be told from the task's own output and stays. Our own executor writes nothing.

use bytes::Bytes;

use super::Stream;

/// What the lines of this task's executor name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The agent's host, as the agent calls itself.
    pub hostname: String,
    /// Agent.
    pub agent_id: String,
    /// Task.
    pub task_id: String,
}

/// Passes one file's bytes on, but for such lines at its beginning.
#[derive(Debug)]
pub(super) struct Preamble {
    lines: Vec<Line>,
    stage: Stage,
    /// Bytes that may be cut.
    held: Vec<u8>,
    /// How many of `held` are whole lines that are known.
    whole: usize,
}

/// What became of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// The bytes to pass on.
    pub(super) bytes: Bytes,
    /// How many bytes were cut.
    pub(super) cut: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Only known lines so far.
    Looking,
    /// The line that ends the beginning was there; some may still follow it.
    Following,
    Passing,
}

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// May come before the line that ends the beginning, once or more often.
    Opening,
    /// With it all before it is cut.
    Ending,
    /// May come behind it, once.
    Following,
}

/// One known line.
#[derive(Debug)]
struct Line {
    role: Role,
    parts: Vec<Part>,
    was_seen: bool,
}

#[derive(Debug, Clone)]
enum Part {
    Text(Vec<u8>),
    OneOf(&'static [u8]),
    /// Exactly so many.
    Digits(usize),
    /// One or more of these.
    Some(fn(&u8) -> bool),
    /// Anything that ends with this.
    Until(&'static [u8]),
}

/// Whether a line is one that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    No,
    /// So far.
    Perhaps,
    Yes,
}

/// A container's options are the longest: some thousand bytes. What is longer is the task's.
const LINE_LIMIT: usize = 64 << 10;

/// A fetcher of many files says much. What is more is the task's.
const HELD_LIMIT: usize = 256 << 10;

impl Preamble {
    /// For the file of `stream`.
    pub(super) fn new(stream: Stream, origin: &Origin) -> Self {
        let lines = match stream {
            Stream::Stdout => on_stdout(origin),
            Stream::Stderr => on_stderr(origin),
        };
        Self { lines, stage: Stage::Looking, held: Vec::new(), whole: 0 }
    }

    /// Passes all bytes.
    pub(super) fn none() -> Self {
        Self { lines: Vec::new(), stage: Stage::Passing, held: Vec::new(), whole: 0 }
    }

    /// The next bytes of the file.
    pub(super) fn pass(&mut self, bytes: Bytes) -> Passed {
        if self.stage == Stage::Passing {
            return Passed { bytes, cut: 0 };
        }
        self.held.extend_from_slice(&bytes);
        let mut cut = 0;
        loop {
            let rest = &self.held[self.whole..];
            let (line, is_whole) = match rest.iter().position(|&byte| byte == b'\n') {
                Some(end) => (&rest[..end], true),
                None => (rest, false),
            };
            let fits = |known: &Line| {
                let is_in_turn = match (self.stage, known.role) {
                    (Stage::Following, Role::Opening) | (Stage::Looking, Role::Following) => false,
                    (Stage::Following, _) => !known.was_seen,
                    _ => true,
                };
                is_in_turn && known.fit(line, is_whole) != Fit::No
            };
            let is_bounded = line.len() <= LINE_LIMIT && self.held.len() <= HELD_LIMIT + bytes.len();
            let Some(known) = self.lines.iter_mut().find(|known| fits(known)).filter(|_| is_bounded) else {
                self.stage = Stage::Passing;
                break;
            };
            if !is_whole {
                break;
            }
            known.was_seen = true;
            self.whole += line.len() + 1;
            if known.role == Role::Ending {
                self.stage = Stage::Following;
            }
            if self.stage == Stage::Following {
                cut += self.whole as u64;
                self.held.drain(..self.whole);
                self.whole = 0;
            }
        }
        Passed { bytes: self.release(), cut }
    }

    /// Nothing follows: what is still held is the task's.
    pub(super) fn end(&mut self) -> Bytes {
        self.stage = Stage::Passing;
        self.release()
    }

    fn release(&mut self) -> Bytes {
        if self.stage == Stage::Passing { std::mem::take(&mut self.held).into() } else { Bytes::new() }
    }
}

impl Line {
    fn fit(&self, line: &[u8], is_whole: bool) -> Fit {
        let mut rest = line;
        for part in &self.parts {
            if rest.is_empty() && !is_whole {
                return Fit::Perhaps;
            }
            rest = match part {
                Part::Text(text) if rest.starts_with(text) => &rest[text.len()..],
                Part::Text(text) if !is_whole && text.starts_with(rest) => return Fit::Perhaps,
                Part::OneOf(bytes) if rest.first().is_some_and(|first| bytes.contains(first)) => &rest[1..],
                Part::Digits(count) if rest.len() >= *count && rest[..*count].iter().all(u8::is_ascii_digit) => {
                    &rest[*count..]
                }
                Part::Digits(count) if !is_whole && rest.len() < *count && rest.iter().all(u8::is_ascii_digit) => {
                    return Fit::Perhaps;
                }
                Part::Some(is_one) if rest.first().is_some_and(is_one) => {
                    let count = rest.iter().take_while(|byte| is_one(byte)).count();
                    &rest[count..]
                }
                Part::Until(_) if !is_whole => return Fit::Perhaps,
                Part::Until(end) if rest.ends_with(end) => &[],
                Part::Text(_) | Part::OneOf(_) | Part::Digits(_) | Part::Some(_) | Part::Until(_) => return Fit::No,
            };
        }
        match (rest.is_empty(), is_whole) {
            (true, true) => Fit::Yes,
            // It may go on with digits, if with anything.
            (true, false) => Fit::Perhaps,
            (false, _) => Fit::No,
        }
    }
}

/// The words of the executors, wherever they stand.
fn said(Origin { hostname, task_id, .. }: &Origin) -> Vec<(Role, Vec<Part>)> {
    let text = |text: &str| Part::Text(text.as_bytes().to_vec());
    vec![
        (Role::Opening, vec![text(&format!("Registered docker executor on {hostname}"))]),
        (Role::Opening, vec![text(&format!("Registered executor on {hostname}"))]),
        (Role::Opening, vec![text("Received SUBSCRIBED event")]),
        (Role::Opening, vec![text(&format!("Subscribed executor on {hostname}"))]),
        (Role::Opening, vec![text("Received LAUNCH event")]),
        (Role::Opening, vec![text(&format!("Task {task_id} has a max completion time of ")), Part::Until(b"s")]),
        (Role::Ending, vec![text(&format!("Starting task {task_id}"))]),
        (Role::Following, vec![text("Forked command at "), Part::Some(u8::is_ascii_digit)]),
        (
            Role::Following,
            vec![text("Running '"), Part::Until(b"mesos-containerizer launch <POSSIBLY-SENSITIVE-DATA>'")],
        ),
    ]
}

fn on_stdout(origin: &Origin) -> Vec<Line> {
    let text = |text: &str| Part::Text(text.as_bytes().to_vec());
    let mut lines = said(origin);
    lines.push((Role::Opening, vec![text("--container=\"mesos-"), Part::Until(b"\"")]));
    lines.push((Role::Opening, vec![text("Executing pre-exec command '"), Part::Until(b"'")]));
    // The task's command itself: a task that prints such a line of its own first, on such an agent, loses it.
    lines.push((Role::Following, vec![text("sh -c '"), Part::Until(b"'")]));
    lines.into_iter().map(|(role, parts)| Line { role, parts, was_seen: false }).collect()
}

fn on_stderr(origin: &Origin) -> Vec<Line> {
    let text = |text: &str| Part::Text(text.as_bytes().to_vec());
    let logged = |file: &str| {
        let space = |byte: &u8| *byte == b' ';
        let two = || Part::Digits(2);
        vec![
            Part::OneOf(b"IW"),
            Part::Digits(4),
            text(" "),
            two(),
            text(":"),
            two(),
            text(":"),
            two(),
            text("."),
            Part::Digits(6),
            Part::Some(space),
            Part::Some(u8::is_ascii_digit),
            text(&format!(" {file}:")),
            Part::Some(u8::is_ascii_digit),
            text("] "),
        ]
    };
    let version = |byte: &u8| byte.is_ascii_alphanumeric() || b".-+~".contains(byte);
    let mut lines = vec![
        (Role::Opening, vec![text("WARNING: Logging before InitGoogleLogging() is written to STDERR")]),
        (Role::Opening, [logged("fetcher.cpp"), vec![Part::Until(b"")]].concat()),
        (Role::Opening, [logged("exec.cpp"), vec![text("Version: "), Part::Some(version)]].concat()),
    ];
    for agent in ["agent", "slave"] {
        let registered = format!("Executor registered on {agent} {}", origin.agent_id);
        lines.push((Role::Ending, [logged("exec.cpp"), vec![text(&registered)]].concat()));
    }
    lines.push((Role::Following, [logged("docker.cpp"), vec![text("Running docker "), Part::Until(b"")]].concat()));
    for (role, parts) in said(origin) {
        // The library's line may have ended the beginning before.
        let role = if role == Role::Ending { Role::Ending } else { Role::Following };
        let parts = [logged("executor.cpp"), parts].concat();
        if role == Role::Following {
            lines.push((Role::Opening, parts.clone()));
        }
        lines.push((role, parts));
    }
    lines.into_iter().map(|(role, parts)| Line { role, parts, was_seen: false }).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn origin() -> Origin {
        Origin { hostname: "10.0.7.91".to_owned(), agent_id: "d54d-S0".to_owned(), task_id: "web-1".to_owned() }
    }

    /// All that comes out, in pieces of these lengths, and how much was cut.
    fn through(stream: Stream, text: &[u8], lengths: &[usize]) -> (Vec<u8>, u64) {
        let mut preamble = Preamble::new(stream, &origin());
        let (mut out, mut cut, mut rest) = (Vec::new(), 0, text);
        let mut lengths = lengths.iter().copied().cycle();
        while !rest.is_empty() {
            let length = lengths.next().unwrap_or(rest.len()).clamp(1, rest.len());
            let (piece, left) = rest.split_at(length);
            let passed = preamble.pass(Bytes::copy_from_slice(piece));
            out.extend_from_slice(&passed.bytes);
            cut += passed.cut;
            rest = left;
        }
        out.extend_from_slice(&preamble.end());
        (out, cut)
    }

    const FLAGS: &str = "--container=\"mesos-d54d-S0.cf1d\" --docker=\"docker\" --stop_timeout=\"0ns\"\n";

    /// What each generation writes before the task does: on which stream, and the text.
    fn beginnings() -> Vec<(Stream, String)> {
        let docker = "Registered docker executor on 10.0.7.91\nStarting task web-1\n";
        let log = |line: &str| format!("I0508 18:48:06.216948  7130 {line}\n");
        let library = log("exec.cpp:143] Version: 0.28.1") + &log("exec.cpp:217] Executor registered on slave d54d-S0");
        let fetcher =
            log("fetcher.cpp:424] Fetcher Info: {\"cache\":\"x\"}") + &log("fetcher.cpp:547] Fetched 'a' to 'b'");
        let new_library =
            log("exec.cpp:162] Version: 1.4.0") + &log("exec.cpp:237] Executor registered on agent d54d-S0");
        let running = log("docker.cpp:815] Running docker -H unix:///var/run/docker.sock run --cpu-shares 102 busybox");
        let new_docker = log("executor.cpp:120] Registered docker executor on 10.0.7.91")
            + &log("executor.cpp:160] Starting task web-1");
        let http =
            "Received SUBSCRIBED event\nSubscribed executor on 10.0.7.91\nReceived LAUNCH event\nStarting task web-1\n";
        let new_http: String = http
            .lines()
            .chain([
                "Running '/usr/libexec/mesos/mesos-containerizer launch <POSSIBLY-SENSITIVE-DATA>'",
                "Forked command at 14",
            ])
            .map(|line| log(&format!("executor.cpp:188] {line}")))
            .collect();
        vec![
            (Stream::Stdout, docker.to_owned()),
            (Stream::Stdout, format!("{FLAGS}{FLAGS}{docker}")),
            (
                Stream::Stdout,
                "Registered executor on 10.0.7.91\nStarting task web-1\nsh -c 'x'\nForked command at 58\n".to_owned(),
            ),
            (
                Stream::Stdout,
                "Registered executor on 10.0.7.91\nStarting task web-1\nForked command at 5\nsh -c 'x'\n".to_owned(),
            ),
            (Stream::Stdout, format!("Executing pre-exec command '{{}}'\n{http}Forked command at 14\n")),
            (Stream::Stderr, library.clone()),
            (Stream::Stderr, fetcher + &library),
            (Stream::Stderr, new_library.clone() + &running),
            (Stream::Stderr, new_library + &new_docker),
            (Stream::Stderr, new_http),
        ]
    }

    #[test]
    fn what_each_generation_writes_first_is_cut_to_the_byte() {
        for (stream, beginning) in beginnings() {
            for task in ["", "x", "hello\nworld\n", "\n\n", "\0\u{fffd}no line end", "Starting task web-2\n"] {
                let text = format!("{beginning}{task}");
                let (out, cut) = through(stream, text.as_bytes(), &[]);
                assert_eq!(String::from_utf8_lossy(&out), task, "behind {beginning:?}");
                assert_eq!(cut, beginning.len() as u64);
            }
        }
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        for text in [
            "Registered docker executor on 10.0.7.92\nStarting task web-1\n",
            "Registered docker executor on 10.0.7.91\nStarting task web-2\n",
            "Registered docker executor on 10.0.7.91\nStarting task web-11\n",
            "Registered docker executor on 10.0.7.91\r\nStarting task web-1\n",
            " Registered docker executor on 10.0.7.91\nStarting task web-1\n",
            "x\nRegistered docker executor on 10.0.7.91\nStarting task web-1\n",
            "Registered docker executor on 10.0.7.91\nStarting task web-1",
            "Registered docker executor on 10.0.7.91\nhello\n",
            "Forked command at 58\n",
            "sh -c 'x'\n",
            FLAGS,
        ] {
            assert_eq!(through(Stream::Stdout, text.as_bytes(), &[]), (text.as_bytes().to_vec(), 0), "{text:?}");
        }
        let other = "I0508 18:48:06.216948  7130 exec.cpp:217] Executor registered on slave d54d-S1\n";
        assert_eq!(through(Stream::Stderr, other.as_bytes(), &[]).0, other.as_bytes());
        // The fetcher's lines alone say why there is no executor.
        let failed = "E0508 18:48:06.216948  7130 fetcher.cpp:100] EXIT with status 1: Failed to fetch 'x'\n";
        let fetching = failed.replace("E0508", "I0508");
        for text in [failed.to_owned(), fetching.clone(), fetching + failed] {
            assert_eq!(through(Stream::Stderr, text.as_bytes(), &[]).0, text.as_bytes());
        }
    }

    #[test]
    fn a_line_that_follows_is_cut_once() {
        let beginning = "Registered executor on 10.0.7.91\nStarting task web-1\nForked command at 58\n";
        let text = format!("{beginning}Forked command at 59\n");
        assert_eq!(through(Stream::Stdout, text.as_bytes(), &[]).0, b"Forked command at 59\n");
    }

    #[test]
    fn a_task_that_writes_no_line_end_is_not_held_beyond_what_is_known() {
        let mut preamble = Preamble::new(Stream::Stdout, &origin());
        assert_eq!(preamble.pass(Bytes::from_static(b"Reg")).bytes, Bytes::new());
        assert_eq!(preamble.pass(Bytes::from_static(b"ret")).bytes, &b"Regret"[..]);
        let endless = vec![b'x'; LINE_LIMIT + 20];
        let text = [b"--container=\"mesos-", &endless[..]].concat();
        assert_eq!(through(Stream::Stdout, &text, &[4096]), (text, 0));
    }

    #[test]
    fn nothing_is_cut_where_nothing_is_known() {
        let mut preamble = Preamble::none();
        let text = Bytes::from_static(b"Registered docker executor on 10.0.7.91\nStarting task web-1\n");
        assert_eq!(preamble.pass(text.clone()), Passed { bytes: text, cut: 0 });
    }

    /// Text that is made of what is known, whole and in pieces, and of anything.
    fn likely_text() -> impl Strategy<Value = Vec<u8>> {
        let known: Vec<Vec<u8>> = beginnings()
            .iter()
            .flat_map(|(_, text)| text.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>())
            .collect();
        let line = prop_oneof![
            4 => prop::sample::select(known.clone()),
            1 => (prop::sample::select(known), any::<prop::sample::Index>()).prop_map(|(line, at)| line[..at.index(line.len())].to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..20),
        ];
        prop::collection::vec(line, 0..8).prop_map(|lines| lines.concat())
    }

    proptest! {
        #[test]
        fn the_same_comes_out_however_the_bytes_arrive(
            text in likely_text(),
            lengths in prop::collection::vec(1_usize..40, 1..8),
            is_stderr in any::<bool>(),
        ) {
            let stream = if is_stderr { Stream::Stderr } else { Stream::Stdout };
            let whole = through(stream, &text, &[]);
            prop_assert_eq!(through(stream, &text, &lengths), whole.clone());
            // What was not cut is the end of the text, unchanged.
            let (out, cut) = whole;
            prop_assert_eq!(&text[usize::try_from(cut).unwrap()..], out.as_slice());
        }

        #[test]
        fn a_task_behind_a_beginning_keeps_every_byte(
            which in any::<prop::sample::Index>(),
            task in prop::collection::vec(any::<u8>(), 0..200),
            lengths in prop::collection::vec(1_usize..40, 1..8),
        ) {
            let all = beginnings();
            let (stream, beginning) = &all[which.index(all.len())];
            let text = [beginning.as_bytes(), &task].concat();
            prop_assert_eq!(through(*stream, &text, &lengths), (task, beginning.len() as u64));
        }
    }
}
