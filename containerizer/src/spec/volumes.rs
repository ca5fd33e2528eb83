//! Volumes: those of a `ContainerInfo`, and `docker run`'s `--volume`. PURE.

use std::path::{Component, Path, PathBuf};

use crate::docker::models::{Mount, MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig};
use proto::mesos;
use proto::mesos::volume;

use super::SpecError;
use super::draft::{Access, Draft, Propagation};

/// Adds a `ContainerInfo`'s volume.
///
/// A relative host path lies in the sandbox, a relative container path under the sandbox's mount point; a host path that
/// is not there is made as an empty directory.
pub(super) fn add(draft: &mut Draft, volume: &mesos::Volume, driver: Option<&str>) -> Result<(), SpecError> {
    let wrong = |reason: &str| SpecError::Volume { volume: volume.container_path.clone(), reason: reason.to_owned() };
    let access = match volume.mode() {
        volume::Mode::Rw => Access::ReadWrite,
        volume::Mode::Ro => Access::ReadOnly,
    };
    if volume.container_path.is_empty() {
        return Err(wrong("it has no container path"));
    }
    let is_inside = Path::new(&volume.container_path).is_absolute();
    let target = if is_inside { volume.container_path.clone() } else { under_sandbox(draft, &volume.container_path) };
    if let Some(source) = &volume.source {
        if let Some(named) = &source.docker_volume {
            let options = named.driver_options.iter().flat_map(|options| &options.parameter);
            let options = options.map(|option| (option.key.clone(), option.value.clone())).collect();
            let driver = named.driver.clone().or(driver.map(str::to_owned));
            draft.mounts.push(Mount {
                typ: Some(MountType::VOLUME),
                source: Some(named.name.clone()),
                target: Some(target),
                read_only: Some(access == Access::ReadOnly),
                volume_options: driver.map(|driver| MountVolumeOptions {
                    driver_config: Some(MountVolumeOptionsDriverConfig { name: Some(driver), options: Some(options) }),
                    ..Default::default()
                }),
                ..Default::default()
            });
            return Ok(());
        }
        if volume.host_path.is_none() {
            return Err(wrong(
                "its source is not a host path or a Docker volume, the only ones a Docker container can have",
            ));
        }
    }
    let Some(host_path) = volume.host_path.as_deref().filter(|path| !path.is_empty()) else {
        return Err(wrong("it has neither a host path nor a source"));
    };
    let host = Path::new(host_path);
    if !host.is_absolute() && !is_inside {
        return Err(wrong("host path and container path are both relative; make one absolute"));
    }
    let host = on_host(draft, host).ok_or_else(|| wrong("its relative host path leads out of the sandbox"))?;
    draft.bind(&host, &target, access, None);
    draft.host_directories.push(host);
    Ok(())
}

/// Adds `docker run`'s `--volume=[HOST:]CONTAINER[:OPTIONS]`; a HOST that is not a path is a named volume.
pub(super) fn add_option(draft: &mut Draft, text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return Err("expected [HOST:]CONTAINER[:OPTIONS]".to_owned()),
    };
    if !Path::new(target).is_absolute() {
        return Err(format!("the container path {target:?} is not absolute"));
    }
    let (mut access, mut propagation, mut no_copy) = (Access::ReadWrite, None, None);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rw" => access = Access::ReadWrite,
            "ro" => access = Access::ReadOnly,
            "nocopy" => no_copy = Some(true),
            other => match self::propagation(other) {
                Some(known) => propagation = Some(known),
                None => {
                    return Err(format!(
                        "the volume option {other:?} is not known here; ro, rw, nocopy and propagations are"
                    ));
                }
            },
        }
    }
    match source {
        Some(host) if host.starts_with(['/', '.']) => {
            let host = on_host(draft, Path::new(host)).ok_or("the relative host path leads out of the sandbox")?;
            draft.bind(&host, target, access, propagation);
            draft.host_directories.push(host);
        }
        named => draft.mounts.push(Mount {
            typ: Some(MountType::VOLUME),
            source: named.map(str::to_owned),
            target: Some(target.to_owned()),
            read_only: Some(access == Access::ReadOnly),
            volume_options: no_copy.map(|no_copy| MountVolumeOptions { no_copy: Some(no_copy), ..Default::default() }),
            ..Default::default()
        }),
    }
    Ok(())
}

/// How mounts made later travel, by its name.
pub(super) fn propagation(text: &str) -> Option<Propagation> {
    match text {
        "private" => Some(Propagation::PRIVATE),
        "rprivate" => Some(Propagation::RPRIVATE),
        "shared" => Some(Propagation::SHARED),
        "rshared" => Some(Propagation::RSHARED),
        "slave" => Some(Propagation::SLAVE),
        "rslave" => Some(Propagation::RSLAVE),
        _ => None,
    }
}

fn under_sandbox(draft: &Draft, path: &str) -> String {
    format!("{}/{}", draft.mapped_directory, path.trim_start_matches("./"))
}

/// An absolute path as it is, a relative one under the sandbox; `None` when it would leave the sandbox.
pub(super) fn on_host(draft: &Draft, path: &Path) -> Option<PathBuf> {
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let mut inside = draft.sandbox.clone();
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(inside)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn mount(text: &str) -> Result<Value, String> {
        let mut draft = Draft { sandbox: PathBuf::from("/s"), ..Draft::default() };
        add_option(&mut draft, text)?;
        Ok(serde_json::to_value(&draft.mounts[0]).unwrap())
    }

    #[test]
    fn the_option_has_the_forms_of_docker_run() {
        for (text, expected) in [
            ("/a:/b", json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": false})),
            ("./a:/b:ro", json!({"Type": "bind", "Source": "/s/a", "Target": "/b", "ReadOnly": true})),
            ("data:/b", json!({"Type": "volume", "Source": "data", "Target": "/b", "ReadOnly": false})),
            ("/b", json!({"Type": "volume", "Target": "/b", "ReadOnly": false})),
            (
                "/a:/b:rw,rslave",
                json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": false,
                       "BindOptions": {"Propagation": "rslave"}}),
            ),
            (
                "data:/b:nocopy",
                json!({"Type": "volume", "Source": "data", "Target": "/b", "ReadOnly": false,
                       "VolumeOptions": {"NoCopy": true}}),
            ),
        ] {
            assert_eq!(mount(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_option_is_said() {
        for (text, reason) in [
            ("/a:b", "\"b\" is not absolute"),
            ("/a:/b:z", "\"z\" is not known"),
            ("../a:/b", "leads out"),
            ("a:b:c:d", "[HOST:]CONTAINER"),
        ] {
            assert!(mount(text).unwrap_err().contains(reason), "{text}");
        }
    }

    #[test]
    fn a_named_volume_has_its_driver_and_options() {
        let docker_volume = volume::source::DockerVolume {
            driver: None,
            name: "data".to_owned(),
            driver_options: Some(mesos::Parameters {
                parameter: vec![mesos::Parameter { key: "size".to_owned(), value: "1g".to_owned() }],
            }),
        };
        let volume = mesos::Volume {
            container_path: "/b".to_owned(),
            mode: volume::Mode::Ro as i32,
            source: Some(volume::Source { docker_volume: Some(docker_volume), ..Default::default() }),
            ..Default::default()
        };
        let mut draft = Draft::default();
        add(&mut draft, &volume, Some("rexray")).unwrap();
        assert_eq!(
            serde_json::to_value(&draft.mounts).unwrap(),
            json!([{
                "Type": "volume", "Source": "data", "Target": "/b", "ReadOnly": true,
                "VolumeOptions": {"DriverConfig": {"Name": "rexray", "Options": {"size": "1g"}}}
            }])
        );
    }
}
