//! `docker run`'s `--mount`, which can say any path, with colons and all. PURE.

use std::path::Path;

use super::draft::Draft;
use super::volumes::{on_host, propagation};
use crate::docker::models::{
    Mount, MountBindOptions, MountTmpfsOptions, MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig,
};

/// Adds `type=bind,source=/a,target=/b,readonly`; a relative source of a bind lies in the sandbox.
pub(super) fn add_option(draft: &mut Draft, text: &str) -> Result<(), String> {
    let mut mount = Mount { typ: Some(MountType::VOLUME), ..Default::default() };
    for field in fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        let flag = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(format!("{key}={other} is neither true nor false")),
        };
        let text = || value.map(str::to_owned).ok_or_else(|| format!("{key} needs a value: {key}=..."));
        match key.to_ascii_lowercase().as_str() {
            "type" => {
                mount.typ = Some(match text()?.as_str() {
                    "bind" => MountType::BIND,
                    "volume" => MountType::VOLUME,
                    "tmpfs" => MountType::TMPFS,
                    other => return Err(format!("type {other:?} is none of bind, volume, tmpfs")),
                });
            }
            "source" | "src" => mount.source = Some(text()?),
            "target" | "dst" | "destination" => mount.target = Some(text()?),
            "readonly" | "ro" => mount.read_only = Some(flag()?),
            // Only on a Mac it ever meant something.
            "consistency" => {}
            "bind-propagation" => {
                let named = text()?;
                let known = propagation(&named).ok_or_else(|| format!("bind-propagation {named:?} is not known"))?;
                bind(&mut mount).propagation = Some(known);
            }
            "bind-nonrecursive" => bind(&mut mount).non_recursive = Some(flag()?),
            "volume-nocopy" => volume(&mut mount).no_copy = Some(flag()?),
            "volume-label" => {
                let pair = text()?;
                let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
                volume(&mut mount).labels.get_or_insert_default().insert(name.to_owned(), value.to_owned());
            }
            "volume-driver" => driver(&mut mount).name = Some(text()?),
            "volume-opt" => {
                let pair = text()?;
                let (name, value) =
                    pair.split_once('=').ok_or_else(|| format!("volume-opt {pair:?} is not KEY=VALUE"))?;
                driver(&mut mount).options.get_or_insert_default().insert(name.to_owned(), value.to_owned());
            }
            "tmpfs-size" => tmpfs(&mut mount).size_bytes = Some(super::bytes(&text()?)?),
            "tmpfs-mode" => {
                let mode = text()?;
                let octal = i64::from_str_radix(&mode, 8).map_err(|_| format!("tmpfs-mode {mode:?} is not octal"))?;
                tmpfs(&mut mount).mode = Some(octal);
            }
            other => return Err(format!("the key {other:?} is not known")),
        }
    }
    let target = mount.target.as_deref().ok_or("it has no target")?;
    if !Path::new(target).is_absolute() {
        return Err(format!("the target {target:?} is not absolute"));
    }
    match (mount.typ, &mount.source) {
        (Some(MountType::BIND), Some(source)) => {
            let host = on_host(draft, Path::new(source)).ok_or("the relative source leads out of the sandbox")?;
            mount.source = Some(host.to_string_lossy().into_owned());
        }
        (Some(MountType::BIND), None) => return Err("a bind needs a source".to_owned()),
        (Some(MountType::TMPFS), Some(_)) => return Err("a tmpfs has no source".to_owned()),
        _ => {}
    }
    draft.mounts.push(mount);
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut MountBindOptions {
    mount.bind_options.get_or_insert_default()
}

fn volume(mount: &mut Mount) -> &mut MountVolumeOptions {
    mount.volume_options.get_or_insert_default()
}

fn driver(mount: &mut Mount) -> &mut MountVolumeOptionsDriverConfig {
    volume(mount).driver_config.get_or_insert_default()
}

fn tmpfs(mount: &mut Mount) -> &mut MountTmpfsOptions {
    mount.tmpfs_options.get_or_insert_default()
}

/// Splits at commas; a field in double quotes may have some, and `""` in it is one quote.
fn fields(text: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    if is_quoted {
        return Err("a quote is not closed".to_owned());
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::*;

    fn mount(text: &str) -> Result<Value, String> {
        let mut draft = Draft { sandbox: PathBuf::from("/s"), ..Draft::default() };
        add_option(&mut draft, text)?;
        Ok(serde_json::to_value(&draft.mounts[0]).unwrap())
    }

    #[test]
    fn a_mount_has_the_forms_of_docker_run() {
        for (text, expected) in [
            (
                "type=bind,source=/a:b,target=/c,readonly",
                json!({"Type": "bind", "Source": "/a:b", "Target": "/c", "ReadOnly": true}),
            ),
            (
                "type=bind,\"src=/a,b\",dst=/c,bind-propagation=rslave,ro=false",
                json!({"Type": "bind", "Source": "/a,b", "Target": "/c", "ReadOnly": false,
                       "BindOptions": {"Propagation": "rslave"}}),
            ),
            ("type=bind,source=in/it,target=/c", json!({"Type": "bind", "Source": "/s/in/it", "Target": "/c"})),
            (
                "source=data,destination=/c,volume-nocopy,volume-driver=d,volume-opt=a=b",
                json!({"Type": "volume", "Source": "data", "Target": "/c",
                       "VolumeOptions": {"NoCopy": true, "DriverConfig": {"Name": "d", "Options": {"a": "b"}}}}),
            ),
            (
                "type=tmpfs,target=/c,tmpfs-size=1m,tmpfs-mode=1770",
                json!({"Type": "tmpfs", "Target": "/c", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}}),
            ),
        ] {
            assert_eq!(mount(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_mount_is_said() {
        for (text, reason) in [
            ("type=npipe,target=/c", "\"npipe\" is none of"),
            ("type=bind,source=/a", "no target"),
            ("type=bind,target=/c", "needs a source"),
            ("type=tmpfs,source=/a,target=/c", "has no source"),
            ("type=bind,source=../a,target=/c", "leads out"),
            ("target=c", "is not absolute"),
            ("target=/c,colour=red", "\"colour\" is not known"),
            ("target=/c,readonly=maybe", "neither true nor false"),
            ("\"target=/c", "not closed"),
        ] {
            let error = mount(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
