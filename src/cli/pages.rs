//! What is generated from the definition of the command line beside `--help`: completions for shells, and the man page.

use clap::{Arg, Command, CommandFactory as _, ValueEnum as _};
use clap_complete::Shell;

use super::Cli;
use crate::role::LocalCli;

/// The name that people type.
const PROGRAM: &str = "launch-container";

/// The script that completes for `shell`: bash, zsh or fish.
///
/// # Errors
/// Another shell; the text says which there are.
pub fn completions(shell: &str) -> Result<String, String> {
    let known = [Shell::Bash, Shell::Zsh, Shell::Fish];
    let Some(shell) =
        known.into_iter().find(|known| known.to_possible_value().is_some_and(|value| value.matches(shell, false)))
    else {
        return Err(format!("no completions for {shell:?}; there are some for bash, zsh and fish"));
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut whole(), PROGRAM, &mut script);
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// The page for `man`, in roff.
pub fn man() -> String {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(Cli::command()).manual("launch-container");
    // Writing to memory does not fail.
    let _ = man.render(&mut page);
    String::from_utf8_lossy(&page).into_owned()
}

/// The launcher with the words that may stand in place of options.
fn whole() -> Command {
    Cli::command()
        .disable_help_subcommand(true)
        .subcommand(LocalCli::command().name("local"))
        .subcommand(Command::new("config").about("Show every option's value and where it comes from"))
        .subcommand(
            Command::new("completions")
                .about("Print a script that completes this command line")
                .arg(Arg::new("SHELL").value_parser(["bash", "zsh", "fish"])),
        )
        .subcommand(Command::new("man").about("Print the man page"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::process::Command as Process;

    use super::*;

    #[test]
    fn bash_completes_options_and_words() {
        let script = completions("bash").unwrap();
        let complete = |words: &str, index: u32| {
            let run = format!(
                "{script}\nCOMP_WORDS=({words}); COMP_CWORD={index}; _launch__container launch-container \"${{COMP_WORDS[{index}]}}\" x; \
                 printf '%s\\n' \"${{COMPREPLY[@]}}\""
            );
            let output = Process::new("bash").arg("-c").arg(run).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(complete("launch-container --cap-", 1), "--cap-add\n--cap-drop\n");
        assert!(complete("launch-container comp", 1).contains("completions"));
    }

    #[test]
    fn every_shell_and_the_man_page_know_every_option() {
        let command = Cli::built_command();
        let longs: Vec<&str> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        for shell in ["bash", "zsh", "fish"] {
            let script = completions(shell).unwrap();
            let missing: Vec<_> = longs.iter().filter(|long| !script.contains(**long)).collect();
            assert!(missing.is_empty(), "{shell}: {missing:?}");
        }
        let page = man().replace("\\-", "-");
        let missing: Vec<_> = longs.iter().filter(|long| !page.contains(&format!("--{long}"))).collect();
        assert!(missing.is_empty() && page.contains(".TH"), "{missing:?}");
        assert!(completions("tcsh").unwrap_err().contains("bash, zsh and fish"));
    }
}
