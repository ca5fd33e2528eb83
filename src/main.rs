//! One executable, three programs: its name or its first word says which.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use containerizer::docker_executor::{self, DockerExecutorError};
use containerizer::docker_executor_flags::{FlagsError, USAGE};
use containerizer::{Environment, Verb, fetcher, supervisor};
use launch_container::cli::{Cli, RunCli, Stop};
use launch_container::display::{Display, Stderr, failure_line};
use launch_container::exit::Outcome;
use launch_container::job::Job;
use launch_container::output::Sink;
use launch_container::role::operator::Question;
use launch_container::role::{LocalCli, Role};
use launch_container::settings::Settings;
use launch_container::{credentials, dry_run, exit, framework, local, runs};
use tracing::Level;

fn main() -> ExitCode {
    match Role::from_args_and(std::env::args_os(), Settings::of_process) {
        Ok(Role::Launch(cli)) => launch(*cli),
        Ok(Role::Local(cli)) => keep_cluster(&cli),
        Ok(Role::Run(cli)) => see_to_run(*cli),
        Ok(Role::Containerizer(verb)) => containerize(verb),
        Ok(Role::Operator(question)) => answer_operator(&question),
        Ok(Role::Executor(arguments)) => execute(arguments),
        Err(stop) => answer(&stop),
    }
}

fn launch(cli: Cli) -> ExitCode {
    let job = match Job::new(cli) {
        Ok(job) => job,
        Err(error) => return fail(&error.to_string()),
    };
    if job.is_dry_run {
        return rehearse(&job);
    }
    let stderr = match Sink::stderr() {
        Ok(stderr) => stderr,
        Err(error) => return fail(&format!("cannot write the task's output: {error}")),
    };
    let voice = stderr.voice();
    log(job.messages.verbosity, move || voice.clone());
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(failure) => return failure,
    };
    let run = job.run.clone();
    let display = Display::new(&job, Stderr::of_process(stderr.voice()), SystemTime::now());
    let outcome = runtime.block_on(framework::run(job, display, stderr));
    if let (Outcome::Detached, Some(run)) = (&outcome, run) {
        say(std::io::stdout(), &format!("{}\n", run.id));
    }
    // A thread that is stuck in a name lookup or in a write nobody reads must not hold the exit code back.
    runtime.shutdown_background();
    ExitCode::from(exit::code(&outcome))
}

/// `--dry-run`.
fn rehearse(job: &Job) -> ExitCode {
    log(job.messages.verbosity, std::io::stderr);
    if let Err(error) = dry_run::print_task(job, std::io::stdout().lock()) {
        return fail(&format!("cannot print the task: {error}"));
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(failure) => return failure,
    };
    match runtime.block_on(dry_run::places(job)) {
        Ok(line) => {
            say(std::io::stderr(), &format!("{}\n", failure_line(&line)));
            ExitCode::SUCCESS
        }
        Err(why) => fail(&why),
    }
}

fn see_to_run(cli: RunCli) -> ExitCode {
    let stderr = match Sink::stderr() {
        Ok(stderr) => stderr,
        Err(error) => return fail(&format!("cannot write the task's output: {error}")),
    };
    let voice = stderr.voice();
    log(runs::verbosity(&cli), move || voice.clone());
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(failure) => return failure,
    };
    let result = runtime.block_on(runs::run(cli, stderr));
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error),
    }
}

fn keep_cluster(cli: &LocalCli) -> ExitCode {
    log(cli.verbose, std::io::stderr);
    let resources = match cli.resources.as_deref().map(str::parse).transpose() {
        Ok(resources) => resources,
        Err(error) => return fail(&format!("invalid value for --resources: {error}")),
    };
    let access = match &cli.secret_file {
        None => local::Access::Open,
        Some(file) => match credentials::read(cli.principal.as_deref(), file) {
            Ok(credential) => local::Access::Basic(credential),
            Err(error) => return fail(&format!("invalid value for --secret-file: {error}")),
        },
    };
    let options = local::Options {
        access,
        agents: cli.agents,
        port: Some(cli.port),
        resources,
        heartbeat_interval: cli.heartbeat_interval,
        attributes: cli.attributes.iter().map(|one| one.0.clone()).collect(),
        ..local::Options::default()
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(failure) => return failure,
    };
    match runtime.block_on(local::run_foreground(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&launch_container::master::chain(&error)),
    }
}

/// One verb of the external containerizer protocol. On the good path it says nothing: a slave puts its stderr into the sandbox.
fn containerize(word: &str) -> ExitCode {
    let verb = Verb::from_word(word).expect("the role knows the same verbs");
    match containerizer::run(verb, &Environment::from_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(std::io::stderr(), &format!("{error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Answers a person, on stdout; on stderr what the answer lacks.
fn answer_operator(question: &Question) -> ExitCode {
    let environment = Environment::from_process();
    let work_directory = question.work_directory.as_deref();
    match containerizer::operator::run(&question.command, question.format, work_directory, &environment) {
        Ok(answer) => {
            for note in &answer.notes {
                say(std::io::stderr(), &format!("docker-containerizer: {note}\n"));
            }
            say(std::io::stdout(), &answer.text);
            if answer.is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            say(std::io::stderr(), &format!("docker-containerizer: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// The executor. With a state directory it was started by `docker-containerizer launch` and owns that container; otherwise
/// by an agent, as its `mesos-docker-executor`.
fn execute(arguments: Vec<OsString>) -> ExitCode {
    let result = match arguments.as_slice() {
        [option, directory] if option == supervisor::STATE_DIRECTORY_OPTION => {
            containerizer::supervise(Path::new(directory)).map_err(|error| error.to_string())
        }
        // Whoever started it hears why through a pipe.
        [option] if option == fetcher::OPTION => {
            return if fetcher::run() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        _ => match docker_executor::run(arguments) {
            Err(DockerExecutorError::Flags(FlagsError::Help)) => {
                say(std::io::stdout(), USAGE);
                Ok(())
            }
            Err(DockerExecutorError::Flags(error)) => Err(format!("{error}\n\n{}", USAGE.trim_end())),
            outcome => outcome.map_err(|error| error.to_string()),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(std::io::stderr(), &format!("docker-executor: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// One thread is enough: nothing here computes for long, and every program starts in a millisecond.
fn runtime() -> Result<tokio::runtime::Runtime, ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| fail(&format!("cannot start: {error}")))
}

fn fail(message: &str) -> ExitCode {
    say(std::io::stderr(), &format!("{}\n", failure_line(message)));
    ExitCode::from(exit::FAILED)
}

fn answer(stop: &Stop) -> ExitCode {
    if stop.is_error {
        say(std::io::stderr(), &stop.text);
    } else {
        say(std::io::stdout(), &stop.text);
    }
    ExitCode::from(stop.code)
}

/// The exit code tells as much to whoever has closed the stream.
fn say(mut stream: impl Write, text: &str) {
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

fn log<W: Write>(verbosity: u8, writer: impl Fn() -> W + Send + Sync + 'static) {
    let level = match verbosity {
        0 => return,
        1 => Level::INFO,
        2 => Level::DEBUG,
        3.. => Level::TRACE,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(writer).with_ansi(false).init();
}
