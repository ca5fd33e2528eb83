//! One line of the table: what is launched, what is done to it, and how it must end.

use rustix::process::Signal;

use crate::cluster::Master;
use crate::harness::IMAGE;

/// What is launched, and what must come of it. In options and words `{files}` is a directory of the scenario's own,
/// `{port}` a port that agents offer.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// `None`: the options describe the task.
    pub(crate) image: Option<&'static str>,
    pub(crate) options: Vec<&'static str>,
    pub(crate) cmd: Vec<&'static str>,
    /// A file in `{files}`.
    pub(crate) file: Option<(&'static str, Vec<u8>)>,
    pub(crate) act: Act,
    pub(crate) report: Report,
    pub(crate) code: i32,
    pub(crate) stdout: Bytes,
    pub(crate) stderr: Bytes,
    /// Between `launching` and the end.
    pub(crate) states: Option<Vec<&'static str>>,
    pub(crate) kind: &'static str,
    /// The same on real Mesos, where it is another one and `docs/masters.md` says why.
    pub(crate) states_of_mesos: Option<Vec<&'static str>>,
    /// Words of the launcher's last line.
    pub(crate) message: Vec<&'static str>,
}

/// How the launcher tells what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// `--format=json`, whose events are compared.
    Json,
    /// `--quiet`, for exact bytes on stderr.
    Quiet,
}

/// What is done while the task runs.
pub(crate) enum Act {
    Nothing,
    /// Each signal once stdout has the text; the first when the task is known to run, the second when it is being killed.
    Signals(Vec<(&'static str, Signal)>),
    /// The text is read from `{port}` once stdout has "up".
    Fetch(&'static str),
}

/// What a stream must have had.
pub(crate) enum Bytes {
    Exactly(Vec<u8>),
    /// So many bytes, the same as in that file of `{files}`.
    AsWritten(usize, &'static str),
    /// These words somewhere.
    Words(Vec<&'static str>),
}

impl Scenario {
    /// A task that says nothing and ends with 0.
    pub(crate) fn new(name: &'static str, cmd: &[&'static str]) -> Self {
        Self {
            name,
            image: Some(IMAGE),
            options: vec!["--cpus=0.1", "--mem=32"],
            cmd: cmd.to_vec(),
            file: None,
            act: Act::Nothing,
            report: Report::Json,
            code: 0,
            stdout: Bytes::Exactly(Vec::new()),
            stderr: Bytes::Exactly(Vec::new()),
            states: None,
            states_of_mesos: None,
            kind: "exited",
            message: Vec::new(),
        }
    }

    pub(crate) fn options(mut self, options: &[&'static str]) -> Self {
        self.options.extend(options);
        self
    }

    /// These options describe the task.
    pub(crate) fn only(mut self, options: &[&'static str]) -> Self {
        self.image = None;
        self.options = options.to_vec();
        self
    }

    pub(crate) fn image(mut self, image: &'static str) -> Self {
        self.image = Some(image);
        self
    }

    pub(crate) fn file(mut self, name: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        self.file = Some((name, bytes.into()));
        self
    }

    /// Sends each signal once stdout has its text.
    pub(crate) fn signals(mut self, signals: &[(&'static str, Signal)]) -> Self {
        self.act = Act::Signals(signals.to_vec());
        self
    }

    pub(crate) fn fetch(mut self, text: &'static str) -> Self {
        self.act = Act::Fetch(text);
        self
    }

    pub(crate) fn quiet(mut self) -> Self {
        self.report = Report::Quiet;
        self
    }

    pub(crate) fn code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn stdout(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdout = Bytes::Exactly(bytes.into());
        self
    }

    pub(crate) fn stdout_as_written(mut self, size: usize, file: &'static str) -> Self {
        self.stdout = Bytes::AsWritten(size, file);
        self
    }

    pub(crate) fn stderr(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stderr = Bytes::Exactly(bytes.into());
        self
    }

    pub(crate) fn stderr_words(mut self, words: &[&'static str]) -> Self {
        self.stderr = Bytes::Words(words.to_vec());
        self
    }

    /// What comes between `launching` and the end.
    pub(crate) fn states(mut self, states: &[&'static str]) -> Self {
        self.states = Some(states.to_vec());
        self
    }

    /// What comes there on real Mesos instead.
    pub(crate) fn states_of_mesos(mut self, states: &[&'static str]) -> Self {
        self.states_of_mesos = Some(states.to_vec());
        self
    }

    /// How it ends when the task does not end by itself, and words of the line that says why.
    pub(crate) fn ends(mut self, kind: &'static str, message: &[&'static str]) -> Self {
        self.kind = kind;
        self.message = message.to_vec();
        self
    }

    /// The words of the transcript, the same on every master unless the table says otherwise.
    pub(crate) fn path(&self, master: Master) -> Vec<String> {
        let usual: &[&str] = match (self.kind, self.code) {
            ("exited", 0) => &["launching", "TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"],
            ("exited" | "signaled", _) => &["launching", "TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"],
            _ => &["launching", "TASK_STARTING", "TASK_RUNNING", "killing", "TASK_KILLING", "TASK_KILLED"],
        };
        let own = if master == Master::Local { None } else { self.states_of_mesos.as_deref() };
        let states = own.or(self.states.as_deref()).unwrap_or(usual);
        let end = format!("end {}", self.kind);
        ["start", "connecting", "subscribed"].iter().chain(states).map(|&word| word.to_owned()).chain([end]).collect()
    }
}
