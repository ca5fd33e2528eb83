//! What the README says is so: its commands exist and parse, its options are all there are, its table is the code's.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::CommandFactory;
use launch_container::cli::Cli;
use launch_container::exit;
use launch_container::role::Role;

const README: &str = include_str!("../README.md");

#[test]
fn the_table_of_exit_codes_is_the_one_of_the_code() {
    assert!(README.contains(&exit::markdown_table()), "README.md needs this table:\n{}", exit::markdown_table());
}

#[test]
fn every_script_that_is_named_can_be_run() {
    let scripts: BTreeSet<&str> = README
        .split(|letter: char| !(letter.is_ascii_alphanumeric() || "/-_.".contains(letter)))
        .filter(|word| word.strip_prefix("scripts/").is_some_and(|name| !name.is_empty()))
        .map(|word| word.trim_end_matches('.'))
        .collect();
    assert!(scripts.contains("scripts/quickstart") && scripts.contains("scripts/test"), "{scripts:?}");
    for script in scripts {
        let metadata = fs::metadata(root().join(script)).unwrap_or_else(|error| panic!("{script}: {error}"));
        assert!(metadata.permissions().mode() & 0o111 == 0o111, "{script} is not executable");
    }
}

#[test]
fn ci_runs_what_people_are_told_to_run() {
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert_eq!(ci.lines().filter(|line| line.contains("exec ")).count(), 1);
    assert!(ci.contains("/scripts/test\""), "{ci}");
}

#[test]
fn every_launch_that_is_shown_parses() {
    let mut shown = 0;
    for line in README.lines().filter_map(|line| line.strip_prefix("    ")) {
        let line = line.strip_prefix("$ ").unwrap_or(line);
        if !line.starts_with("launch-container ") || line.contains("[OPTIONS]") || line.contains("IMAGE") {
            continue;
        }
        shown += 1;
        let words: Vec<OsString> = first_command(line).into_iter().map(OsString::from).collect();
        match Role::from_args(words) {
            Ok(Role::Launch(cli)) => assert!(cli.master.is_some(), "no --master: {line}"),
            Ok(_) => {}
            Err(stop) => panic!("{line}\n{}", stop.text),
        }
    }
    assert!(shown >= 5, "only {shown} examples found");
}

#[test]
fn the_options_are_all_there_are() {
    let section = README.split("\n## ").find(|section| section.starts_with("Options\n")).expect("a section on options");
    let named: BTreeSet<String> = words_of(section)
        .filter_map(|word| word.strip_prefix("--"))
        .filter(|name| !name.starts_with('-'))
        .map(str::to_owned)
        .collect();
    let command = Cli::command();
    let known: BTreeSet<String> =
        command.get_arguments().filter_map(|option| option.get_long()).map(str::to_owned).collect();
    let answers = BTreeSet::from(["help".to_owned(), "version".to_owned()]);
    assert_eq!(named.difference(&answers).collect::<Vec<_>>(), known.difference(&answers).collect::<Vec<_>>());
}

#[test]
fn what_the_containerizer_takes_is_described_as_it_is() {
    let document = fs::read_to_string(root().join("docs/containerizer.md")).unwrap();
    for table in [
        containerizer::config::markdown_table(),
        containerizer::spec::markdown_table(),
        containerizer::spec::refused_markdown_table(),
    ] {
        assert!(document.contains(&table), "docs/containerizer.md needs this table:\n{table}");
    }
}

#[test]
fn every_test_that_the_tables_name_is_there() {
    let mut sources = String::new();
    for folder in ["src", "containerizer/src", "proto/src", "tests"] {
        read_sources(&root().join(folder), &mut sources);
    }
    // In which column the tests stand, and how many there are at least.
    for (document, column, least) in
        [("docs/containerizer-features.md", 2, 30), ("docs/features.md", 2, 30), ("docs/faults.md", 3, 30)]
    {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let mut named = 0;
        let is_row =
            |line: &&str| line.starts_with("| ") && !line.starts_with("| feature") && !line.starts_with("| fault |");
        for line in text.lines().filter(is_row) {
            let shown_by = line.split('|').nth(column).unwrap_or_default().trim();
            assert!(!shown_by.is_empty(), "{document}: {line}");
            for test in shown_by.split('`').skip(1).step_by(2) {
                assert!(sources.contains(&format!("fn {test}(")), "{document}: {test} is no test: {line}");
                named += 1;
            }
        }
        assert!(named > least, "{document}: only {named} tests are named");
    }
}

#[test]
fn every_fault_that_the_launcher_has_to_survive_is_listed() {
    let faults = fs::read_to_string(root().join("docs/faults.md")).unwrap();
    for number in (1..=12).chain([22, 23, 27, 29]) {
        assert!(faults.contains(&format!("\n| F{number} ")), "docs/faults.md lacks F{number}");
    }
}

fn read_sources(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            read_sources(&entry.path(), sources);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(entry.path()).unwrap());
        }
    }
}

#[test]
fn every_file_that_is_linked_is_there() {
    for document in ["README.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !link.starts_with("https://") && !link.starts_with('#') {
                assert!(root().join(link).exists(), "{document} links {link}");
            }
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands between blanks, quotes and other marks; options keep their dashes.
fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-')).filter(|word| !word.is_empty())
}

/// The words of a line's first command as a shell reads them: quotes, and an end at `;`, `&`, `|` or ` #`.
fn first_command(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ';' | '&' | '|') => break,
            (None, '#') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}
