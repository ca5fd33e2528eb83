//! Options that are not on the command line: from the environment (`LAUNCH_CONTAINER_<OPTION>`) and from a configuration file.
//!
//! ```text
//! command line  >  environment  >  profile of the file  >  file  >  default
//! ```
//!
//! Every long option is a key. What is found becomes words before those of the command line, so clap checks all of it alike;
//! of an option that may be repeated all values count. Nothing here knows any option by name, but how secrets are hidden.

mod file;
mod show;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};

pub use show::config;

/// What begins the name of every variable.
const PREFIX: &str = "LAUNCH_CONTAINER_";

/// Behind [`PREFIX`], no options of a launch: the profile, and the log of this executable as a containerizer.
const OTHERS: [&str; 2] = ["profile", "log"];

/// Below the user's directory for configurations.
const FILE: &str = "launch-container/config.toml";

/// Everything that may hold options beside the command line.
#[derive(Clone, Default)]
pub struct Settings {
    /// The configuration file, if there is one, with its text.
    file: Option<(PathBuf, String)>,
    /// The whole environment.
    variables: Vec<(String, String)>,
}

impl Settings {
    /// None at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of this process. A file that is not there is none.
    ///
    /// # Errors
    /// The file cannot be read; the text says which, and why.
    pub fn of_process() -> Result<Self, String> {
        let variables: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let path = |name: &str| std::env::var_os(name).filter(|path| Path::new(path).is_absolute()).map(PathBuf::from);
        let directory = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")));
        let file = match directory.map(|directory| directory.join(FILE)) {
            None => None,
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(text) => Some((path, text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(format!("cannot read {}: {error}; correct it or remove it", path.display())),
            },
        };
        Ok(Self { file, variables })
    }

    #[cfg(test)]
    pub(crate) fn of(file: Option<&str>, variables: &[(&str, &str)]) -> Self {
        Self {
            file: file.map(|text| (PathBuf::from("/home/ada/.config/launch-container/config.toml"), text.to_owned())),
            variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    /// The options that are set, in the order in which they count: the last one of an option wins.
    ///
    /// # Errors
    /// One line for the first thing that is wrong, with its place.
    pub(crate) fn given(&self, command: &Command, profile: Option<&str>) -> Result<Vec<Given>, String> {
        let profile_variable = self.variable("profile").map(|(_, value)| value);
        let profile = profile.or(profile_variable.as_deref());
        let mut given = match (&self.file, profile) {
            (Some((path, text)), _) => file::read(path, text, command, profile)?,
            (None, None) => vec![],
            (None, Some(name)) => {
                return Err(format!(
                    "cannot find profile {name:?}: there is no configuration file; write ~/.config/{FILE}"
                ));
            }
        };
        self.check_names(command)?;
        for arg in options(command) {
            let Some(long) = arg.get_long() else { continue };
            let value = self.variable(long);
            if value.is_none() && self.has_own_variable(arg) {
                // clap reads it, but it would come behind the words of the file.
                given.retain(|given| given.option != long);
            }
            let Some((name, text)) = value else { continue };
            let source = Source::Environment(name);
            let values = match arg.get_action() {
                ArgAction::Append => text.lines().map(str::to_owned).collect(),
                _ => vec![text],
            };
            if !matches!(arg.get_action(), ArgAction::Append) {
                given.retain(|given| given.option != long);
            }
            given.extend(values.into_iter().map(|value| Given {
                option: long.to_owned(),
                value,
                source: source.clone(),
            }));
        }
        for one in &given {
            one.check(command)?;
        }
        Ok(given)
    }

    /// A variable that means nothing was meant for something, and the launch would go without it.
    fn check_names(&self, command: &Command) -> Result<(), String> {
        for (name, _) in self.variables.iter().filter(|(_, value)| !value.is_empty()) {
            let Some(option) = name.strip_prefix(PREFIX) else { continue };
            let option = option.to_lowercase().replace('_', "-");
            let is_known = options(command).any(|arg| arg.get_long() == Some(&option));
            if !is_known && !OTHERS.contains(&option.as_str()) {
                let similar = file::similar(command, &option).map(|similar| format!("; did you mean {similar}?"));
                let similar = similar.unwrap_or_else(|| "; unset it".to_owned());
                return Err(format!("{name}: there is no option --{option}{similar}"));
            }
        }
        Ok(())
    }

    /// The value of `LAUNCH_CONTAINER_<OPTION>`, and the variable's name; an empty one is none.
    fn variable(&self, long: &str) -> Option<(String, String)> {
        let name = format!("{PREFIX}{}", long.to_uppercase().replace('-', "_"));
        let (_, value) = self.variables.iter().find(|(variable, value)| *variable == name && !value.is_empty())?;
        Some((name, value.clone()))
    }

    /// Whether the option has another variable (`MESOS_MASTER`), and that is set.
    fn has_own_variable(&self, arg: &Arg) -> bool {
        let own = arg.get_env().and_then(|name| name.to_str());
        own.is_some_and(|own| self.variables.iter().any(|(name, value)| name == own && !value.is_empty()))
    }
}

/// The options that settings may set.
pub(crate) fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version" | "profile"))
}

/// One value of one option.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// The long name.
    pub(crate) option: String,
    /// As text.
    pub(crate) value: String,
    /// Where it was found.
    pub(crate) source: Source,
}

/// Where a value was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The variable's name.
    Environment(String),
    /// A line of the file, counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

impl Given {
    /// As it stands on a command line; a switch that is off is no word.
    pub(crate) fn words(&self, arg: &Arg) -> Result<Vec<OsString>, String> {
        let Self { option, value, .. } = self;
        match arg.get_action() {
            ArgAction::SetTrue => match value.as_str() {
                "true" | "1" | "yes" => Ok(vec![format!("--{option}").into()]),
                "false" | "0" | "no" => Ok(vec![]),
                _ => Err(self.wrong("it is on or off: write true or false")),
            },
            ArgAction::Count => match value.parse::<usize>() {
                Ok(count @ 0..=9) => Ok(vec![format!("--{option}").into(); count]),
                _ => Err(self.wrong("give how many times, 0 to 9")),
            },
            _ => Ok(vec![format!("--{option}={value}").into()]),
        }
    }

    /// Whether clap takes the value; what it says gets the place in front.
    fn check(&self, command: &Command) -> Result<(), String> {
        let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(&self.option)) else { return Ok(()) };
        let words = self.words(arg)?;
        let all = std::iter::once(OsString::from("launch-container")).chain(words).chain(["--".into(), "image".into()]);
        match command.clone().try_get_matches_from(all) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{}: {}", self.source, crate::cli::complaint(&error))),
        }
    }

    fn wrong(&self, why: &str) -> String {
        format!("{}: {:?} for {}: {why}", self.source, self.value, self.option)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use crate::cli::Cli;

    use super::*;

    fn parse(settings: &Settings, words: &[&str]) -> Result<Cli, String> {
        Cli::parse_with(words.iter().map(Into::into), settings).map_err(|stop| stop.text)
    }

    const FILE: &str = "master = \"m1:5050\"\ncpus = 0.5\nmem = \"64m\"\nenv = [\"A=file\", \"B=file\"]\nquiet = true\nverbose = 2\n\
                        [profile.big]\nmem = \"8g\"\nenv = [\"C=big\"]\n";

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let environment = [("LAUNCH_CONTAINER_CPUS", "2"), ("LAUNCH_CONTAINER_QUIET", "false")];
        let settings = Settings::of(Some(FILE), &environment);
        let cli = parse(&settings, &["--cpus=3", "image"]).unwrap();
        assert_eq!((cli.cpus.milli, cli.mem.0, cli.quiet, cli.verbose), (3000, 64, false, 2));
        let cli = parse(&settings, &["image", "--cpus=3"]).unwrap();
        assert_eq!((cli.cpus.milli, cli.master.as_deref()), (2000, Some("m1:5050")));
        let cli = parse(&Settings::of(Some(FILE), &[]), &["image"]).unwrap();
        assert_eq!((cli.cpus.milli, cli.quiet), (500, true));
    }

    #[test]
    fn a_profile_wins_over_the_rest_of_the_file_and_lists_grow() {
        let settings = Settings::of(Some(FILE), &[("LAUNCH_CONTAINER_ENV", "D=x\nE=y")]);
        let cli = parse(&settings, &["--profile=big", "-eA=flag", "image"]).unwrap();
        let names: Vec<_> = cli.env.iter().map(|env| env.key.as_str()).collect();
        assert_eq!((cli.mem.0, names), (8192, vec!["A", "B", "C", "D", "E", "A"]));
        let by_variable = Settings::of(Some(FILE), &[("LAUNCH_CONTAINER_PROFILE", "big")]);
        assert_eq!(parse(&by_variable, &["image"]).unwrap().mem.0, 8192);
        assert!(parse(&settings, &["--profile=small", "image"]).unwrap_err().contains("there are: big"));
        assert!(parse(&Settings::none(), &["--profile=big", "image"]).unwrap_err().contains("config.toml"));
    }

    #[test]
    fn the_masters_own_variable_stands_between_ours_and_the_file() {
        // clap itself reads MESOS_MASTER of this process; here only what is put before it is looked at.
        let settings = Settings::of(Some(FILE), &[("MESOS_MASTER", "m2")]);
        let command = Cli::built_command();
        assert!(settings.given(&command, None).unwrap().iter().all(|given| given.option != "master"));
        let settings = Settings::of(Some(FILE), &[("MESOS_MASTER", "m2"), ("LAUNCH_CONTAINER_MASTER", "m3")]);
        assert_eq!(parse(&settings, &["image"]).unwrap().master.as_deref(), Some("m3"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("mem = 64\ncpu = 1", "config.toml:2: unknown option \"cpu\"; did you mean --cpus?"),
            ("\n\nmem = \"many\"", "config.toml:3: invalid value 'many' for '--mem <MB>'"),
            ("quiet = \"maybe\"", "config.toml:1: \"maybe\" for quiet: it is on or off"),
            ("mem = [1, 2]", "config.toml:1: mem takes one value"),
            ("mem = {a = 1}", "config.toml:1: mem takes"),
            ("mem = \n", "config.toml:1: "),
            ("[profile.x]\nfoo = 1", "config.toml:2: unknown option \"foo\""),
            ("[profiles.x]\nmem = 1", "config.toml:1: unknown option \"profiles\""),
            ("profile = 3", "config.toml:1: profile"),
            ("help = true", "config.toml:1: unknown option \"help\""),
        ] {
            let error = parse(&Settings::of(Some(text), &[]), &["image"]).unwrap_err();
            assert!(error.contains(expected) && error.lines().count() == 1, "{text}: {error}");
        }
        for (name, expected) in [
            ("LAUNCH_CONTAINER_CPU", "LAUNCH_CONTAINER_CPU: there is no option --cpu; did you mean --cpus?"),
            ("LAUNCH_CONTAINER_XYZZY", "LAUNCH_CONTAINER_XYZZY: there is no option --xyzzy; unset it"),
            ("LAUNCH_CONTAINER_HELP", "LAUNCH_CONTAINER_HELP: there is no option --help"),
        ] {
            let error = parse(&Settings::of(None, &[(name, "1")]), &["image"]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let others = [
            ("LAUNCH_CONTAINER_LOG", "debug"),
            ("LAUNCH_CONTAINERS", "x"),
            ("LAUNCH_CONTAINER_XYZZY", ""),
            ("LAUNCH_CONTAINER_KILL_GRACE", "2s"),
        ];
        assert!(parse(&Settings::of(None, &others), &["image"]).is_ok());
        let settings = Settings::of(None, &[("LAUNCH_CONTAINER_MEM", "many")]);
        assert!(parse(&settings, &["image"]).unwrap_err().contains("LAUNCH_CONTAINER_MEM: invalid value 'many'"));
    }

    #[test]
    fn a_task_file_is_not_contradicted_by_settings() {
        let settings = Settings::of(Some("mem = 64\ncontainerizer = \"mesos\"\nname = \"x\""), &[]);
        let cli = parse(&settings, &["--task=t.json"]).unwrap();
        assert_eq!((cli.name.as_deref(), cli.mem.0), (Some("x"), 256));
    }

    #[test]
    fn the_configuration_is_shown_with_its_sources_and_without_secrets() {
        let file = "master = \"zk://me:hunter2@z1/mesos\"\nmem = 64\nenv = [\"TOKEN=hunter2\"]\n";
        let settings = Settings::of(Some(file), &[("LAUNCH_CONTAINER_CPUS", "2")]);
        let text = config(["--name=job".into()], &settings).unwrap();
        for line in [
            "master = \"zk://z1/mesos\"  # /home/ada/.config/launch-container/config.toml:1",
            "mem = \"64\"  # /home/ada/.config/launch-container/config.toml:2",
            "env = [\"TOKEN=...\"]  # /home/ada/.config/launch-container/config.toml:3",
            "cpus = \"2\"  # LAUNCH_CONTAINER_CPUS",
            "name = \"job\"  # command line",
            "kill-grace = \"10s\"  # default",
            "# disk is not set",
            "quiet = false  # default",
        ] {
            assert!(text.lines().any(|have| have == line), "no line {line:?} in\n{text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}
