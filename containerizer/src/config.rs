//! What the operator decides: one TOML file, single values overridden by the environment. PURE but for [`Config::load`].
//!
//! [`KEYS`] is the whole list: names, defaults and what they mean. The defaults are read from it, `docker-containerizer config`
//! prints it, and docs/containerizer.md is compared with it.
//!
//! A file that is wrong fails `recover`, and with it the start of the slave, and each launch. It never fails `update`, which
//! would cost running tasks their lives.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use crate::environment::Environment;
use crate::spec::Swap;

/// All that can be configured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Of containers.
    pub container: Containers,
    /// Of images that are not here.
    pub pull: Pulls,
    /// Of registries.
    pub credentials: Credentials,
    /// Of what tasks want in their sandboxes.
    pub fetch: Fetches,
    /// The operator's own programs.
    pub hooks: Hooks,
}

/// Of containers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Containers {
    /// Whether the cpus are a limit, too, and not only a weight.
    pub limit_cpus: bool,
    /// Whether a task without port mappings gets each of its ports published.
    pub publish_allocated_ports: bool,
    /// Whether the engine keeps the last of the output, for a supervisor that has to go on with it.
    pub keep_log: bool,
    /// How much swap a task has beside its memory.
    pub swap: SwapPolicy,
    /// Whether a task's disk limits its container's own layer.
    pub limit_disk: DiskPolicy,
}

/// How much swap a task has, unless it says so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwapPolicy {
    /// As much as memory, which is the engine's own rule.
    Same,
    /// None.
    None,
    /// As much as the host has.
    Unlimited,
}

impl From<SwapPolicy> for Swap {
    fn from(policy: SwapPolicy) -> Self {
        match policy {
            SwapPolicy::Same => Self::Same,
            SwapPolicy::None => Self::None,
            SwapPolicy::Unlimited => Self::Unlimited,
        }
    }
}

/// Whether the disk that a task was given limits its container's own layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskPolicy {
    /// Not at all, as with Mesos' own containerizer.
    Never,
    /// Where the engine's storage driver can.
    WherePossible,
    /// Or there is no container.
    Always,
}

/// Of images that are not here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pulls {
    /// When a registry is asked.
    pub policy: PullPolicy,
    /// Whether a local copy does where the registry cannot be reached.
    pub fall_back_to_local: bool,
    /// A pull without any progress for so long is given up.
    #[serde(deserialize_with = "duration")]
    pub silence_limit: Duration,
    /// Whether pulls that take long say so in the sandbox's `stderr`.
    pub progress_in_stderr: bool,
}

/// When a registry is asked for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// When the image is not here.
    Missing,
    /// Before each container.
    Always,
    /// Not at all.
    Never,
}

/// Of registries.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Files in the form of `~/.docker/config.json` or `~/.dockercfg`, the first with an entry for the registry counts.
    pub files: Vec<PathBuf>,
    /// Whether what a task fetches into its sandbox is used for its image.
    pub from_sandbox: bool,
    /// How long a credential helper may take.
    #[serde(deserialize_with = "duration")]
    pub helper_limit: Duration,
}

/// Of what tasks want in their sandboxes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetches {
    /// A download from which nothing comes for so long has failed.
    #[serde(deserialize_with = "duration")]
    pub silence_limit: Duration,
    /// Bytes of one file.
    #[serde(deserialize_with = "size")]
    pub max_file: u64,
    /// Bytes that come out of a task's archives.
    #[serde(deserialize_with = "size")]
    pub max_unpacked: u64,
    /// Files, directories and links that come out of a task's archives.
    pub max_entries: u64,
    /// Bytes that are kept of one user's files, for tasks that allow it.
    #[serde(deserialize_with = "size")]
    pub max_cache: u64,
}

/// The operator's own programs, with their arguments; none where empty.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// Before a container is created.
    pub launch: Vec<String>,
    /// When it has gone.
    pub destroy: Vec<String>,
    /// How long one may take.
    #[serde(deserialize_with = "duration")]
    pub limit: Duration,
}

/// One thing that can be configured.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The table it stands in.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// As TOML.
    pub default: &'static str,
    /// One sentence.
    pub doc: &'static str,
}

impl Key {
    /// The variable that overrides the file.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}_{}", self.section, self.name).to_ascii_uppercase()
    }
}

const fn key(section: &'static str, name: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { section, name, default, doc }
}

/// Everything that can be configured.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("container", "limit_cpus", "false", "whether cpus are a hard limit (CFS quota), too, and not only a weight"),
    key("container", "publish_allocated_ports", "true", "whether a task with a network of its own and without port mappings gets each of its ports published, host port and container port the same"),
    key("container", "keep_log", "true", "whether the engine keeps the last 16 to 32 MB of each container's output, with which it goes on byte for byte when a supervisor was killed; tasks that write very short lines at full speed are slowed by it"),
    key("container", "swap", "\"same\"", "how much swap a task has beside its memory, unless its parameter memory-swap says so: \"same\" (as much as memory, the engine's own rule), \"none\", \"unlimited\""),
    key("container", "limit_disk", "\"never\"", "whether a task's disk limits what its container's own layer may grow to, sandbox and volumes not counted: \"never\", \"where_possible\" (the storage driver can: overlay2 on xfs with pquota, btrfs, zfs), or \"always\" (elsewhere the task fails)"),
    key("pull", "policy", "\"missing\"", "when a registry is asked for an image: \"missing\" here, \"always\", or \"never\"; a task's force_pull_image makes it \"always\" unless it is \"never\""),
    key("pull", "fall_back_to_local", "true", "whether the copy that is here is used when a registry that should be asked cannot be reached"),
    key("pull", "silence_limit", "\"5m\"", "a pull without any progress for so long has failed"),
    key("pull", "progress_in_stderr", "true", "whether a pull of more than 5 seconds says how far it is in the sandbox's stderr, a line every 5 seconds"),
    key("credentials", "files", "[]", "files in the form of Docker's config.json, looked at before those of the slave's user ($DOCKER_CONFIG/config.json, ~/.docker/config.json, ~/.dockercfg)"),
    key("credentials", "from_sandbox", "true", "whether a .dockercfg, .docker/config.json or config.json among a task's URIs is used for its image"),
    key("credentials", "helper_limit", "\"15s\"", "how long a credential helper (docker-credential-NAME) may take"),
    key("fetch", "silence_limit", "\"1m\"", "a download of a task's URI from which nothing comes for so long has failed"),
    key("fetch", "max_file", "\"10g\"", "bytes of one file that a task fetches, at most"),
    key("fetch", "max_unpacked", "\"20g\"", "bytes that come out of a task's archives, at most"),
    key("fetch", "max_entries", "500000", "files, directories and links that come out of a task's archives, at most"),
    key("fetch", "max_cache", "\"2g\"", "bytes of fetched files that are kept for each user, for tasks whose URIs say `cache`; \"0\" keeps none"),
    key("hooks", "launch", "[]", "a program and its arguments, run before a container is created, with the slave's Launch message on stdin; where it fails, the task does"),
    key("hooks", "destroy", "[]", "the same, run when the container has gone, whatever ended it"),
    key("hooks", "limit", "\"10s\"", "how long a hook may take"),
];

impl Config {
    /// Reads the file, if there is one, and the environment.
    ///
    /// # Errors
    /// The file cannot be read, or a value is wrong; the text says which and where.
    pub fn load(environment: &Environment) -> Result<Self, ConfigError> {
        let file = File::read(environment)?;
        Self::of(&file, environment)
    }

    /// What there would be without file and environment.
    pub fn defaults() -> Self {
        Self::of(&File::default(), &Environment::default()).expect("a test reads the defaults")
    }

    fn of(file: &File, environment: &Environment) -> Result<Self, ConfigError> {
        let mut all = file.table.clone();
        for key in KEYS {
            let place = all.entry(key.section).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(section) = place else {
                return Err(file.wrong(format!("{} is a table, write [{}]", key.section, key.section)));
            };
            if let Some(text) = environment.get(&key.variable()) {
                section.insert(key.name.to_owned(), of_variable(key, text)?);
            } else if !section.contains_key(key.name) {
                section.insert(key.name.to_owned(), key.default_value());
            }
        }
        all.try_into().map_err(|error: toml::de::Error| file.wrong(error.message().to_owned()))
    }

    /// All keys with the values in force, as a file that would set them.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn print(environment: &Environment) -> Result<String, ConfigError> {
        let file = File::read(environment)?;
        Self::of(&file, environment)?;
        let mut text = String::new();
        let mut section = "";
        for key in KEYS {
            if key.section != section {
                section = key.section;
                let gap = if text.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{section}]");
            }
            let _ = writeln!(text, "# {}", key.doc);
            let of_file = file.table.get(key.section).and_then(|section| section.get(key.name));
            let (value, origin) = match (environment.get(&key.variable()), of_file) {
                (Some(text), _) => (of_variable(key, text)?.to_string(), format!("  # {}", key.variable())),
                (None, Some(value)) => (value.to_string(), format!("  # default: {}", key.default)),
                (None, None) => (key.default.to_owned(), String::new()),
            };
            let _ = writeln!(text, "{} = {value}{origin}", key.name);
        }
        Ok(text)
    }
}

/// All keys, for docs/containerizer.md.
pub fn markdown_table() -> String {
    let mut text = "| key | default | variable | meaning |\n|---|---|---|---|\n".to_owned();
    for key in KEYS {
        let Key { section, name, default, doc } = key;
        let _ = writeln!(text, "| `{section}.{name}` | `{default}` | `{}` | {doc} |", key.variable());
    }
    text
}

impl Key {
    fn default_value(&self) -> Value {
        one_value(self.default).expect("a test reads the defaults")
    }
}

/// Texts stand in a variable as they are; lists, numbers and booleans as in the file.
fn of_variable(key: &Key, text: &str) -> Result<Value, ConfigError> {
    match key.default_value() {
        Value::String(_) => Ok(Value::String(text.to_owned())),
        default => one_value(text)
            .filter(|value| value.same_type(&default))
            .ok_or_else(|| ConfigError::Variable { variable: key.variable(), expected: default.type_str() }),
    }
}

fn one_value(text: &str) -> Option<Value> {
    format!("v = {text}").parse::<Table>().ok()?.remove("v")
}

/// What the file says.
#[derive(Debug, Default)]
struct File {
    path: PathBuf,
    table: Table,
}

impl File {
    fn read(environment: &Environment) -> Result<Self, ConfigError> {
        let named = environment.get(CONFIG_VARIABLE).map(PathBuf::from);
        let path = named.clone().unwrap_or_else(|| PathBuf::from(CONFIG_FILE));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        Self::parse(&path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
            ConfigError::Wrong { path: path.to_owned(), reason: format!("line {line}: {}", error.message()) }
        })?;
        Ok(Self { path: path.to_owned(), table })
    }

    fn wrong(&self, reason: String) -> ConfigError {
        ConfigError::Wrong { path: self.path.clone(), reason: reason.split_whitespace().collect::<Vec<_>>().join(" ") }
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_millis = match &text[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    let millis = unit_millis.zip(number).and_then(|(unit, number)| number.checked_mul(unit));
    let millis = millis.filter(|millis| *millis > 0);
    millis.map(Duration::from_millis).ok_or_else(|| {
        serde::de::Error::custom(format!("{text:?} is not a time such as \"500ms\", \"30s\", \"5m\" or \"1h\""))
    })
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = crate::spec::bytes(&text).map_err(serde::de::Error::custom)?;
    u64::try_from(bytes).map_err(|_| serde::de::Error::custom(format!("{text:?} is not a size such as \"64m\"")))
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What it says.
    #[error("the configuration {} is wrong: {reason}; `docker-containerizer config` prints what can be set", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Why, with the line where that is known.
        reason: String,
    },
    /// A variable.
    #[error("{variable} must be a TOML {expected}")]
    Variable {
        /// Which.
        variable: String,
        /// Of which type its value must be.
        expected: &'static str,
    },
}

/// Where the file is, unless [`CONFIG_VARIABLE`] names another.
pub const CONFIG_FILE: &str = "/etc/launch-container/containerizer.toml";
/// Names another file, which then must be there.
pub const CONFIG_VARIABLE: &str = "LAUNCH_CONTAINERIZER_CONFIG";
/// Of all variables that configure.
pub const VARIABLE_PREFIX: &str = "LAUNCH_CONTAINERIZER_";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn of(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let file = File::parse(Path::new("/c.toml"), text).map_err(|error| error.to_string())?;
        Config::of(&file, &environment.iter().copied().collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let defaults = Config::defaults();
        assert_eq!(
            (defaults.pull.policy, defaults.pull.silence_limit),
            (PullPolicy::Missing, Duration::from_secs(300))
        );
        let file = "[pull]\npolicy = \"always\"\nsilence_limit = \"90s\"\n[credentials]\nfiles = [\"/a\"]";
        let variables = [
            ("LAUNCH_CONTAINERIZER_PULL_POLICY", "never"),
            ("LAUNCH_CONTAINERIZER_PULL_FALL_BACK_TO_LOCAL", "false"),
            ("LAUNCH_CONTAINERIZER_CREDENTIALS_FILES", "[\"/b\", \"/c\"]"),
        ];
        let config = of(file, &variables).unwrap();
        assert_eq!((config.pull.policy, config.pull.silence_limit), (PullPolicy::Never, Duration::from_secs(90)));
        assert!(!config.pull.fall_back_to_local && config.credentials.from_sandbox);
        assert_eq!(config.credentials.files, [Path::new("/b"), Path::new("/c")]);
    }

    #[test]
    fn what_is_wrong_is_named_in_one_line() {
        for (text, reason) in [
            ("[pull]\npolice = 1", "police"),
            ("[pul]", "pul"),
            ("pull = 1", "[pull]"),
            ("[pull]\npolicy = \"often\"", "often"),
            ("[pull]\nsilence_limit = \"5\"", "\"5\" is not a time"),
            ("[pull]\n\nx = = 1", "line 3"),
        ] {
            let error = of(text, &[]).unwrap_err();
            assert!(error.contains(reason) && error.contains("/c.toml") && !error.contains('\n'), "{error}");
        }
        let error = of("", &[("LAUNCH_CONTAINERIZER_CONTAINER_LIMIT_CPUS", "yes")]).unwrap_err();
        assert!(error.contains("LAUNCH_CONTAINERIZER_CONTAINER_LIMIT_CPUS must be a TOML boolean"), "{error}");
    }

    #[test]
    fn what_is_printed_is_a_file_that_sets_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        std::fs::write(&path, "[pull]\npolicy = \"always\"\n").unwrap();
        let environment: Environment =
            [(CONFIG_VARIABLE, path.to_str().unwrap()), ("LAUNCH_CONTAINERIZER_CONTAINER_LIMIT_CPUS", "true")]
                .into_iter()
                .collect();
        let printed = Config::print(&environment).unwrap();
        assert!(printed.contains("policy = \"always\"  # default: \"missing\""), "{printed}");
        assert!(printed.contains("limit_cpus = true  # LAUNCH_CONTAINERIZER_CONTAINER_LIMIT_CPUS"), "{printed}");
        assert_eq!(of(&printed, &[]).unwrap(), Config::load(&environment).unwrap());
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let error = Config::load(&[(CONFIG_VARIABLE, "/no/such.toml")].into_iter().collect()).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the configuration /no/such.toml"), "{error}");
    }
}
