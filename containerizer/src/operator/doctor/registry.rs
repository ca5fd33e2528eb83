//! Registries: which credentials are configured on this host, and whether the helpers that they name are there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::finding::Finding;
use crate::credentials;
use crate::docker::About;
use crate::environment::Environment;

const ABOUT: &str = "registry";

pub(super) fn look(
    environment: &Environment,
    of_operator: &[PathBuf],
    about: Option<&About>,
    found: &mut Vec<Finding>,
) {
    let home = environment.get("HOME").map(PathBuf::from);
    let docker_config = environment.get("DOCKER_CONFIG").map(PathBuf::from);
    let docker_config = docker_config.or_else(|| Some(home.as_ref()?.join(".docker")));
    let files =
        [docker_config.map(|directory| directory.join("config.json")), home.map(|home| home.join(".dockercfg"))];
    let mut is_any = false;
    for file in of_operator {
        is_any = true;
        if file.exists() {
            look_at_file(file, environment.get("PATH").unwrap_or_default(), found);
        } else {
            found.push(Finding::warning(
                ABOUT,
                format!("{}, which credentials.files names, is not there", file.display()),
                "make it (docker --config DIRECTORY login), or take it out of the configuration",
            ));
        }
    }
    for file in files.into_iter().flatten().filter(|file| file.exists()) {
        is_any = true;
        look_at_file(&file, environment.get("PATH").unwrap_or_default(), found);
    }
    if !is_any {
        found.push(Finding::ok(
            ABOUT,
            "no credentials in this user's home; public images, and what tasks bring along, can be pulled",
        ));
    }
    if let Some(about) = about.filter(|about| !about.registry_mirrors.is_empty()) {
        found.push(Finding::ok(ABOUT, format!("the engine asks first: {}", about.registry_mirrors.join(", "))));
    }
}

fn look_at_file(path: &Path, search_path: &str, found: &mut Vec<Finding>) {
    let shown = path.display();
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) => {
            found.push(Finding::warning(ABOUT, format!("{shown} cannot be read: {error}"), "check its permissions"));
            return;
        }
    };
    let Ok(Value::Object(config)) = serde_json::from_slice(&text) else {
        // Not with the parser's words: they may quote what stands there.
        found.push(Finding::problem(
            ABOUT,
            format!("{shown} is no JSON object"),
            "correct it, or log in again: docker login",
        ));
        return;
    };
    // As it is read when an image is pulled.
    if let Err(error) = credentials::check(path) {
        found.push(Finding::problem(ABOUT, error, "correct it, or log in again: docker login"));
        return;
    }
    let keys = |field: &str| -> Vec<String> {
        config.get(field).and_then(Value::as_object).map(|map| map.keys().cloned().collect()).unwrap_or_default()
    };
    // The older .dockercfg has the registries at its top.
    let is_old = path.file_name().is_some_and(|name| name == ".dockercfg");
    let hosts = if is_old { config.keys().cloned().collect() } else { keys("auths") };
    let hosts = if hosts.is_empty() { "none".to_owned() } else { hosts.join(", ") };
    found.push(Finding::ok(ABOUT, format!("{shown} has credentials for: {hosts}")));
    if fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0) && !is_old_and_empty(&config) {
        found.push(Finding::warning(
            ABOUT,
            format!("others than its owner may read {shown}"),
            format!("chmod 600 {shown}"),
        ));
    }
    let helpers = config.get("credHelpers").and_then(Value::as_object).map(|map| map.values()).into_iter().flatten();
    let mut helpers: Vec<&str> = helpers.chain(config.get("credsStore")).filter_map(Value::as_str).collect();
    helpers.sort_unstable();
    helpers.dedup();
    for helper in helpers {
        let program = format!("docker-credential-{helper}");
        found.push(match find_program(&program, search_path) {
            Some(path) => Finding::ok(ABOUT, format!("credential helper {}", path.display())),
            None => Finding::problem(
                ABOUT,
                format!("{shown} names the credential helper {program}, which is not in PATH"),
                format!("install {program}, or take it out of the file; PATH is the slave's when tasks are launched"),
            ),
        });
    }
}

fn is_old_and_empty(config: &serde_json::Map<String, Value>) -> bool {
    config.is_empty()
}

fn find_program(name: &str, search_path: &str) -> Option<PathBuf> {
    let paths = std::env::split_paths(search_path).map(|directory| directory.join(name));
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    paths.into_iter().find(is_program)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::super::finding::Verdict;
    use super::*;

    fn look_in(home: &Path, path: &str) -> Vec<Finding> {
        let environment = [("HOME", home.to_str().unwrap()), ("PATH", path)].into_iter().collect();
        let mut found = Vec::new();
        look(&environment, &[], None, &mut found);
        found
    }

    #[test]
    fn credentials_are_named_by_their_registries_and_never_shown() {
        let home = tempfile::tempdir().unwrap();
        assert!(look_in(home.path(), "")[0].text.contains("no credentials"));
        fs::create_dir(home.path().join(".docker")).unwrap();
        let config = home.path().join(".docker/config.json");
        let write = |text: &str| {
            fs::write(&config, text).unwrap();
            fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
        };
        write(r#"{"auths": {"r.example": {"auth": "dTpjYW5hcnk="}}, "credHelpers": {"gcr.io": "gcr"}}"#);
        let found = look_in(home.path(), "/no/such/directory");
        assert!(found[0].text.contains("r.example") && found[0].verdict == Verdict::Ok, "{found:?}");
        assert!(found[1].text.contains("docker-credential-gcr") && found[1].verdict == Verdict::Problem, "{found:?}");

        let helper = home.path().join("docker-credential-gcr");
        fs::write(&helper, "").unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(look_in(home.path(), home.path().to_str().unwrap()).iter().all(|f| f.verdict == Verdict::Ok));

        fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
        let found = look_in(home.path(), home.path().to_str().unwrap());
        assert!(found.iter().any(|f| f.verdict == Verdict::Warning && f.text.contains("others")), "{found:?}");

        write("canary{");
        let found = look_in(home.path(), "");
        assert_eq!(found[0].verdict, Verdict::Problem);
        assert!(!format!("{found:?}").contains("canary"));
    }
}
