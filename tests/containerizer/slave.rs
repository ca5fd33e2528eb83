//! A slave's side of the external containerizer protocol: each verb is a process of `/bin/sh -c`, started in the sandbox with
//! the slave's environment, its message framed on a stdin that stays open until the process has ended.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prost::{Message, Name};
use proto::mesos::container_info::{self, DockerInfo};
use proto::mesos::{self, CommandInfo, ContainerInfo, ExecutorInfo, Resource, TaskInfo, value};
use proto::{ecp, framing};

use crate::harness::{IMAGE, Stage};

/// Long enough for a busy machine, short enough to find what hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// One slave with a work directory of its own. When it is dropped, nothing of its containers may be left.
pub(crate) struct Slave {
    work_directory: PathBuf,
    program: PathBuf,
    /// Shell text before every `launch`.
    before_launch: String,
    /// Shell text before every verb.
    before: &'static str,
    variables: Vec<(String, String)>,
    pub(crate) stage: Stage,
}

impl Slave {
    pub(crate) fn new() -> Self {
        Self::in_directory("work")
    }

    /// With a work directory of that name.
    pub(crate) fn in_directory(name: &str) -> Self {
        let stage = Stage::new();
        let work_directory = stage.files().join(name);
        std::fs::create_dir(&work_directory).unwrap();
        let program = stage.files().join("docker-containerizer");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_launch-container"), &program).unwrap();
        Self { work_directory, program, before_launch: String::new(), before: "", variables: Vec::new(), stage }
    }

    /// Another variable in the slave's own environment.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// From now on every `launch` inherits this file as descriptor 7, open for writing.
    pub(crate) fn leak(&mut self, path: &Path) {
        self.before_launch = format!("exec 7>>{}; ", path.display());
    }

    /// From now on every verb inherits that SIGPIPE is ignored.
    pub(crate) fn ignore_sigpipe(&mut self) {
        self.before = "trap '' PIPE; ";
    }

    /// Where the containerizer remembers its containers.
    pub(crate) fn state(&self) -> PathBuf {
        self.work_directory.join("launch-container/containers")
    }

    /// What it remembers now.
    pub(crate) fn remembered(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.state()) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().into_string().unwrap());
        // What another verb is just removing is remembered by nobody.
        names.filter(|name| !name.starts_with(".gone-")).collect()
    }

    /// A container that was launched before.
    pub(crate) fn known(&self, id: &str) -> Container<'_> {
        let sandbox = self.work_directory.join("slaves/S/frameworks/F/executors").join(id).join("runs").join(id);
        Container { slave: self, id: id.to_owned(), sandbox }
    }

    /// A container with its sandbox, not yet launched. Its id begins with `name` and is that of its executor, too.
    pub(crate) fn container(&self, name: &str) -> Container<'_> {
        // The engine's names are the machine's, and tests run side by side.
        let id = format!("{name}-{}", uuid::Uuid::new_v4());
        let sandbox = self.work_directory.join("slaves/S/frameworks/F/executors").join(&id).join("runs").join(&id);
        std::fs::create_dir_all(&sandbox).unwrap();
        Container { slave: self, id, sandbox }
    }

    pub(crate) fn containers(&self) -> Vec<String> {
        let ran = self.start("containers", None, None, &[]).finish();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        let containers: ecp::Containers = ran.answer();
        containers.containers.into_iter().map(|id| id.value).collect()
    }

    pub(crate) fn recover(&self) {
        let ran = self.start("recover", None, None, &[]).finish();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }

    /// Waits until some `wait` holds a slot.
    pub(crate) fn wait_for_slot(&self) {
        let path = self.work_directory.join("launch-container/wait-slots/0");
        let deadline = Instant::now() + LIMIT;
        let is_taken = || {
            let Ok(slot) = std::fs::File::open(&path) else { return false };
            rustix::fs::flock(&slot, rustix::fs::FlockOperation::NonBlockingLockShared).is_err()
        };
        while !is_taken() {
            assert!(Instant::now() < deadline, "no slot is taken");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Runs a verb with these very bytes on stdin, and end of input after them.
    pub(crate) fn raw(&self, verb: &str, bytes: &[u8]) -> Ran {
        let mut verb = self.start(verb, None, Some(bytes.to_vec()), &[]);
        drop(verb.stdin.take());
        verb.finish()
    }

    fn start(&self, word: &str, sandbox: Option<&Path>, input: Option<Vec<u8>>, variables: &[(&str, String)]) -> Verb {
        let mut command = Command::new("/bin/sh");
        let before = if word == "launch" { self.before_launch.as_str() } else { "" };
        command.arg("-c").arg(format!("{}{before}{} {word}", self.before, self.program.display()));
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("MESOS_WORK_DIRECTORY", &self.work_directory).env("LIBPROCESS_PORT", "5051");
        command.env("LIBPROCESS_IP", "127.0.0.1").env("MESOS_CREDENTIAL", "/etc/mesos/canary-of-the-slave");
        if let Ok(host) = std::env::var("DOCKER_HOST") {
            command.env("DOCKER_HOST", host);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(sandbox.unwrap_or(&self.work_directory));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // What ends before it has read everything has its own error.
        let _ = stdin.write_all(&input.unwrap_or_default());
        Verb { child, stdin: Some(stdin) }
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.remembered(), [""; 0], "state is left behind");
        }
    }
}

/// A container of a slave.
pub(crate) struct Container<'a> {
    slave: &'a Slave,
    pub(crate) id: String,
    pub(crate) sandbox: PathBuf,
}

impl Container<'_> {
    pub(crate) fn container_id(&self) -> mesos::ContainerId {
        mesos::ContainerId { value: self.id.clone(), parent: None }
    }

    /// The message for a custom executor that is this shell command.
    pub(crate) fn custom_executor(&self, script: &str) -> ecp::Launch {
        let executor = ExecutorInfo {
            executor_id: mesos::ExecutorId { value: self.id.clone() },
            framework_id: Some(mesos::FrameworkId { value: "F".to_owned() }),
            command: Some(shell(script)),
            container: Some(docker(IMAGE).into()),
            resources: resources(0.5, 64.0),
            ..ExecutorInfo::default()
        };
        ecp::Launch {
            container_id: self.container_id(),
            executor_info: Some(executor),
            directory: Some(self.sandbox.to_str().unwrap().to_owned()),
            agent_id: Some(mesos::AgentId { value: "S".to_owned() }),
            agent_pid: Some("slave(1)@127.0.0.1:5051".to_owned()),
            checkpoint: Some(true),
            ..ecp::Launch::default()
        }
    }

    /// The message for a task that is this shell command, as a slave 1.0 makes it.
    pub(crate) fn task(&self, script: &str) -> ecp::Launch {
        let mut launch = self.custom_executor("exit 99");
        let task = TaskInfo {
            name: self.id.clone(),
            task_id: mesos::TaskId { value: self.id.clone() },
            command: Some(shell(script)),
            container: Some(docker(IMAGE).into()),
            resources: resources(0.5, 64.0),
            ..TaskInfo::default()
        };
        launch.task_info = Some(task);
        launch.executor_info.as_mut().unwrap().resources = resources(0.6, 96.0);
        launch
    }

    /// Launches and expects success in silence.
    pub(crate) fn launch(&self, message: &ecp::Launch) {
        self.launch_with(message, &[]);
    }

    /// The same with more variables for the executor.
    pub(crate) fn launch_with(&self, message: &ecp::Launch, variables: &[(&str, String)]) {
        let ran = self.try_launch(message, variables);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }

    pub(crate) fn try_launch(&self, message: &ecp::Launch, variables: &[(&str, String)]) -> Ran {
        let mut all = vec![
            ("MESOS_FRAMEWORK_ID", "F".to_owned()),
            ("MESOS_EXECUTOR_ID", self.id.clone()),
            ("MESOS_SLAVE_ID", "S".to_owned()),
            ("MESOS_SLAVE_PID", "slave(1)@127.0.0.1:5051".to_owned()),
            ("MESOS_DIRECTORY", self.sandbox.to_str().unwrap().to_owned()),
            ("MESOS_CHECKPOINT", "0".to_owned()),
            // From 0.28 on; tells the executor to speak HTTP.
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "5secs".to_owned()),
        ];
        all.extend_from_slice(variables);
        self.start_with("launch", message, &all).finish()
    }

    /// Starts another verb with its message.
    pub(crate) fn start(&self, word: &str, message: &impl Name) -> Verb {
        self.start_with(word, message, &[])
    }

    fn start_with(&self, word: &str, message: &impl Name, variables: &[(&str, String)]) -> Verb {
        let mut frame = Vec::new();
        framing::write(&mut frame, message).unwrap();
        self.slave.start(word, Some(&self.sandbox), Some(frame), variables)
    }

    /// Where the containerizer remembers it.
    pub(crate) fn state(&self) -> PathBuf {
        self.slave.state().join(&self.id)
    }

    /// Its name at the engine.
    pub(crate) fn name(&self) -> String {
        format!("mesos-{}", self.id)
    }

    /// SIGKILL to its supervisor; waits until that is gone.
    pub(crate) fn kill_supervisor(&self) {
        let pid = std::fs::read_to_string(self.state().join("lock")).unwrap().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        self.wait_for_supervisor();
    }

    /// Waits until its supervisor has ended, without waiting as the slave does.
    pub(crate) fn wait_for_supervisor(&self) {
        let lock = std::fs::File::open(self.state().join("lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
    }

    pub(crate) fn start_wait(&self) -> Verb {
        self.start("wait", &ecp::Wait { container_id: self.container_id() })
    }

    /// Waits for the end, and gives what `wait` says of it.
    pub(crate) fn wait(&self) -> ecp::Termination {
        let ran = self.start_wait().finish();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        ran.answer()
    }

    pub(crate) fn destroy(&self) {
        let ran = self.start("destroy", &ecp::Destroy { container_id: self.container_id() }).finish();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }

    pub(crate) fn update(&self, resources: Vec<Resource>) {
        let ran = self.start("update", &ecp::Update { container_id: self.container_id(), resources }).finish();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }

    pub(crate) fn usage(&self) -> mesos::ResourceStatistics {
        let ran = self.start("usage", &ecp::Usage { container_id: self.container_id() }).finish();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        ran.answer()
    }

    pub(crate) fn stdout(&self) -> Vec<u8> {
        crate::harness::read(&self.sandbox.join("stdout"))
    }

    pub(crate) fn stderr(&self) -> Vec<u8> {
        crate::harness::read(&self.sandbox.join("stderr"))
    }

    /// A named pipe in the sandbox, for a container to say that it is so far: `echo > NAME`.
    pub(crate) fn pipe(&self, name: &str) -> Pipe {
        let path = self.sandbox.join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        Pipe { path }
    }
}

/// A named pipe that a container writes to.
pub(crate) struct Pipe {
    path: PathBuf,
}

impl Pipe {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until a container has written something, and gives it.
    pub(crate) fn read(&self) -> String {
        let (sender, receiver) = std::sync::mpsc::channel();
        let path = self.path.clone();
        std::thread::spawn(move || sender.send(std::fs::read_to_string(path).unwrap()));
        receiver.recv_timeout(LIMIT).expect("the container gets so far")
    }

    /// Waits until a container reads, and gives it a line.
    pub(crate) fn write(&self, line: &str) {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (path, line) = (self.path.clone(), format!("{line}\n"));
        std::thread::spawn(move || {
            std::fs::write(path, line).unwrap();
            sender.send(())
        });
        receiver.recv_timeout(LIMIT).expect("the container reads");
    }
}

/// A verb that runs.
pub(crate) struct Verb {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Verb {
    /// Reads one answer, as the slave does, while the process may live on.
    pub(crate) fn read_answer<M: Message + Name + Default>(&mut self) -> M {
        framing::read(self.child.stdout.as_mut().unwrap()).unwrap()
    }

    /// Whether it has ended by now.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGKILL, as the slave does to `wait`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Ran {
        let stdout = read_to_end(self.child.stdout.take().unwrap());
        let stderr = read_to_end(self.child.stderr.take().unwrap());
        let status = self.wait_with_limit();
        Ran {
            code: status.code(),
            stdout: stdout.join().unwrap(),
            stderr: String::from_utf8(stderr.join().unwrap()).unwrap(),
        }
    }

    fn wait_with_limit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the verb has not ended after {LIMIT:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn read_to_end(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// A verb that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its answer, which must be all that it wrote.
    pub(crate) fn answer<M: Message + Name + Default>(&self) -> M {
        let mut rest = self.stdout.as_slice();
        let answer = framing::read(&mut rest).unwrap();
        assert_eq!(rest, b"", "nothing follows the answer");
        answer
    }

    /// Its one line of error.
    pub(crate) fn error(&self) -> &str {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.stdout, b"");
        let line = self.stderr.strip_suffix('\n').unwrap_or_else(|| panic!("a line was expected: {self:?}"));
        assert!(!line.is_empty() && !line.contains('\n'), "one line was expected: {self:?}");
        line
    }
}

pub(crate) fn shell(script: &str) -> CommandInfo {
    CommandInfo { value: Some(script.to_owned()), ..CommandInfo::default() }
}

pub(crate) fn docker(image: &str) -> ContainerInfo {
    ContainerInfo {
        r#type: container_info::Type::Docker as i32,
        docker: Some(DockerInfo { image: image.to_owned(), ..DockerInfo::default() }),
        ..ContainerInfo::default()
    }
}

pub(crate) fn resources(cpus: f64, mem: f64) -> Vec<Resource> {
    let scalar = |name: &str, value: f64| Resource {
        name: name.to_owned(),
        r#type: value::Type::Scalar as i32,
        scalar: Some(value::Scalar { value }),
        ..Resource::default()
    };
    vec![scalar("cpus", cpus), scalar("mem", mem)]
}

pub(crate) fn ports(begin: u64, end: u64) -> Resource {
    Resource {
        name: "ports".to_owned(),
        r#type: value::Type::Ranges as i32,
        ranges: Some(value::Ranges { range: vec![value::Range { begin, end }] }),
        ..Resource::default()
    }
}
