//! The binary.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use launch_container::role::Role;

fn main() -> ExitCode {
    match Role::from_args(std::env::args_os()) {
        Ok(Role::Containerizer(verb)) => containerize(verb),
        Ok(Role::Executor(arguments)) => execute(&arguments),
        Ok(_) => ExitCode::FAILURE,
        Err(stop) => {
            eprint!("{}", stop.text);
            ExitCode::from(stop.code)
        }
    }
}

/// One verb of the external containerizer protocol. On the good path it says nothing: a slave puts its stderr into the sandbox.
fn containerize(word: &str) -> ExitCode {
    let verb = containerizer::Verb::from_word(word).expect("the role knows the same verbs");
    match containerizer::run(verb, &containerizer::Environment::from_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The executor; with a state directory, one that owns its container.
fn execute(arguments: &[OsString]) -> ExitCode {
    let [option, directory] = arguments else { return ExitCode::FAILURE };
    if option != containerizer::supervisor::STATE_DIRECTORY_OPTION {
        return ExitCode::FAILURE;
    }
    match containerizer::supervise(Path::new(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("docker-executor: {error}");
            ExitCode::FAILURE
        }
    }
}
