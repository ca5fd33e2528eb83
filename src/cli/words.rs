//! Where the launcher's options end: at the first word that is neither an option nor an option's value.
//!
//! clap would go on reading options behind IMAGE; `docker run`, and so the launcher, leaves them to the command. Which options
//! take a value is asked of the clap definition, so nothing here knows any option by name.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// `words` (without the program's name) with a `--` put before IMAGE, so that clap reads nothing behind it as an option.
/// Words with an unknown option stay as they are: clap then says what is wrong.
pub(super) fn with_options_ended(command: &Command, mut words: Vec<OsString>) -> Vec<OsString> {
    if let Some(index) = first_operand(command, &words) {
        words.insert(index, "--".into());
    }
    words
}

/// The index of IMAGE, if the words before it can be read and do not end the options themselves.
fn first_operand(command: &Command, words: &[OsString]) -> Option<usize> {
    match end(command, words) {
        End::Operand(index) => Some(index),
        End::Unknown(_) | End::Dashes => None,
    }
}

/// The first option that `command` does not know, without its dashes and value: a long name or one letter.
pub(super) fn first_unknown(command: &Command, words: &[OsString]) -> Option<String> {
    match end(command, words) {
        End::Unknown(name) => Some(name),
        End::Operand(_) | End::Dashes => None,
    }
}

/// Where options end.
enum End {
    /// At this word.
    Operand(usize),
    /// At an option that is not known.
    Unknown(String),
    /// At `--`, or with the last word.
    Dashes,
}

fn end(command: &Command, words: &[OsString]) -> End {
    let mut index = 0;
    while let Some(word) = words.get(index) {
        let bytes = word.as_encoded_bytes();
        let takes_next_word = match bytes {
            b"--" => return End::Dashes,
            [b'-', b'-', name @ ..] => long_takes_next_word(command, name),
            [b'-', _, ..] => shorts_take_next_word(command, word),
            _ => return End::Operand(index),
        };
        match takes_next_word {
            Ok(takes_next_word) => index += if takes_next_word { 2 } else { 1 },
            Err(name) => return End::Unknown(name),
        }
    }
    End::Dashes
}

/// Whether the value of `--NAME` is the next word; an unknown name is the error.
fn long_takes_next_word(command: &Command, name: &[u8]) -> Result<bool, String> {
    let (name, has_value) = match name.iter().position(|byte| *byte == b'=') {
        Some(end) => (&name[..end], true),
        None => (name, false),
    };
    let is_name = |long: &str| long.as_bytes() == name;
    let has_name = |arg: &&Arg| {
        arg.get_long().is_some_and(is_name) || arg.get_all_aliases().is_some_and(|all| all.into_iter().any(is_name))
    };
    let arg = command.get_arguments().find(has_name).ok_or_else(|| String::from_utf8_lossy(name).into_owned())?;
    Ok(!has_value && takes_value(arg))
}

/// Whether the last of the options in `-abc` takes the next word; the rest of the word behind an option that takes a value is
/// its value. An unknown letter is the error.
fn shorts_take_next_word(command: &Command, word: &OsStr) -> Result<bool, String> {
    let word = word.to_string_lossy();
    let mut shorts = word.chars().skip(1);
    while let Some(short) = shorts.next() {
        let arg =
            command.get_arguments().find(|arg| arg.get_short() == Some(short)).ok_or_else(|| short.to_string())?;
        if takes_value(arg) {
            return Ok(shorts.next().is_none());
        }
    }
    Ok(false)
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;

    fn ended(words: &[&str]) -> Vec<String> {
        let mut command = Command::new("test")
            .arg(Arg::new("env").short('e').long("env"))
            .arg(Arg::new("quiet").short('q').long("quiet").action(ArgAction::SetTrue));
        command.build();
        with_options_ended(&command, words.iter().map(OsString::from).collect())
            .into_iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn options_end_before_the_first_word_that_is_not_one() {
        assert_eq!(ended(&["image", "-q"]), ["--", "image", "-q"]);
        assert_eq!(ended(&["-q", "image"]), ["-q", "--", "image"]);
        assert_eq!(ended(&["-e", "A=1", "image", "--", "x"]), ["-e", "A=1", "--", "image", "--", "x"]);
        assert_eq!(ended(&["--env", "A=1", "image"]), ["--env", "A=1", "--", "image"]);
        assert_eq!(ended(&["--env=A=1", "image"]), ["--env=A=1", "--", "image"]);
        assert_eq!(ended(&["-eA=1", "image"]), ["-eA=1", "--", "image"]);
        assert_eq!(ended(&["-qe", "A=1", "image"]), ["-qe", "A=1", "--", "image"]);
        assert_eq!(ended(&["-", "x"]), ["--", "-", "x"]);
        assert_eq!(ended(&["", "x"]), ["--", "", "x"]);
    }

    #[test]
    fn words_that_end_the_options_themselves_or_cannot_be_read_stay() {
        assert_eq!(ended(&["-q", "--", "image", "-q"]), ["-q", "--", "image", "-q"]);
        assert_eq!(ended(&["--wrong", "image"]), ["--wrong", "image"]);
        assert_eq!(ended(&["-qz", "image"]), ["-qz", "image"]);
        assert_eq!(ended(&["-e"]), ["-e"]);
        assert_eq!(ended(&[]), [] as [&str; 0]);
    }

    #[test]
    fn help_is_an_option_like_any_other() {
        assert_eq!(ended(&["--help", "image"]), ["--help", "--", "image"]);
        assert_eq!(ended(&["image", "--help"]), ["--", "image", "--help"]);
    }
}
