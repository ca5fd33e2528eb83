//! Compares our `.proto` files with Mesos' own: `check-descriptors DIR`, where `DIR/VERSION/*.bin` are serialized
//! `FileDescriptorProto`s. `scripts/check-proto` makes them and calls this.
//!
//! Every field and enum value that we define must be there in at least one version, and must have the same number, type and
//! label in every version that has it. What really changed between versions stands in `KNOWN`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use prost::Message as _;
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
};

/// Packages that Mesos' Python package has: `mesos` and `mesos.containerizer`.
const PACKAGES: [&str; 2] = ["mesos", "mesos.containerizer"];

/// (field, what differs in some versions): each a fact of `messages.md`, none an oversight.
const KNOWN: [(&str, &str); 12] = [
    // Required until some version, optional from then on: we write it always, and read both.
    ("CommandInfo.value", "label"),
    ("Environment.Variable.value", "label"),
    ("ExecutorInfo.command", "label"),
    ("FrameworkInfo.Capability.type", "label"),
    ("Offer.Operation.type", "label"),
    ("Resource.ReservationInfo.principal", "label"),
    ("Resource.DiskInfo.Source.Path.root", "label"),
    ("Resource.DiskInfo.Source.Mount.root", "label"),
    ("containerizer.Termination.message", "label"),
    // HTTP became HTTPCheckInfo in 1.1, with the same first fields.
    ("HealthCheck.http", "type"),
    // String until 0.25, on the wire the same.
    ("Credential.secret", "type"),
    ("Image.appc", "type"),
];

/// Existed until 0.25 only, and the packages up to 0.25 have an empty module for the containerizer.
const NOT_SHIPPED: [&str; 1] = ["containerizer.Termination.killed"];

/// One definition: number, and for fields type and label.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Definition {
    number: i32,
    r#type: String,
    label: String,
}

type Definitions = BTreeMap<String, Definition>;

fn main() -> ExitCode {
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("usage: check-descriptors DIR");
        return ExitCode::from(2);
    };
    let ours = ours();
    let theirs = match read_versions(Path::new(&directory)) {
        Ok(theirs) if !theirs.is_empty() => theirs,
        Ok(_) => return complain(&[format!("{directory} has no VERSION/*.bin")]),
        Err(error) => return complain(&[format!("cannot read {directory}: {error}")]),
    };
    let complaints = compare(&ours, &theirs);
    if !complaints.is_empty() {
        return complain(&complaints);
    }
    let versions: Vec<&str> = theirs.keys().map(String::as_str).collect();
    eprintln!("{} fields and enum values are as in Mesos {}", ours.len(), versions.join(", "));
    ExitCode::SUCCESS
}

fn complain(lines: &[String]) -> ExitCode {
    for line in lines {
        eprintln!("check-descriptors: {line}");
    }
    ExitCode::FAILURE
}

fn compare(ours: &Definitions, theirs: &BTreeMap<String, Definitions>) -> Vec<String> {
    let known: BTreeSet<(&str, &str)> = KNOWN.into_iter().collect();
    let mut complaints = Vec::new();
    for (name, our) in ours {
        let mut is_found = false;
        for (version, definitions) in theirs {
            let Some(their) = definitions.get(name) else { continue };
            is_found = true;
            for (what, ours, theirs) in [
                ("number", our.number.to_string(), their.number.to_string()),
                ("type", our.r#type.clone(), their.r#type.clone()),
                ("label", our.label.clone(), their.label.clone()),
            ] {
                if ours != theirs && !known.contains(&(name.as_str(), what)) {
                    complaints.push(format!("{name}: {what} is {theirs} in Mesos {version}, {ours} here"));
                }
            }
        }
        if !is_found && !NOT_SHIPPED.contains(&name.as_str()) {
            complaints.push(format!("{name} is in none of the versions"));
        }
    }
    complaints
}

fn ours() -> Definitions {
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).expect("build.rs wrote it");
    let mut definitions = Definitions::new();
    for file in set.file.iter().filter(|file| PACKAGES.contains(&file.package())) {
        add_file(file, &mut definitions);
    }
    definitions
}

fn read_versions(directory: &Path) -> std::io::Result<BTreeMap<String, Definitions>> {
    let mut versions = BTreeMap::new();
    for version in fs::read_dir(directory)? {
        let version = version?;
        let mut definitions = Definitions::new();
        for file in fs::read_dir(version.path())? {
            let bytes = fs::read(file?.path())?;
            let file = FileDescriptorProto::decode(&*bytes).map_err(std::io::Error::other)?;
            if PACKAGES.contains(&file.package()) {
                add_file(&file, &mut definitions);
            }
        }
        versions.insert(version.file_name().to_string_lossy().into_owned(), definitions);
    }
    Ok(versions)
}

fn add_file(file: &FileDescriptorProto, definitions: &mut Definitions) {
    let package = file.package().strip_prefix("mesos").unwrap_or_default().trim_start_matches('.').to_owned();
    for message in &file.message_type {
        add_message(&package, message, definitions);
    }
    for values in &file.enum_type {
        add_enum(&package, values, definitions);
    }
}

fn add_message(scope: &str, message: &DescriptorProto, definitions: &mut Definitions) {
    let name = join(scope, message.name());
    for field in &message.field {
        definitions.insert(
            join(&name, field.name()),
            Definition {
                number: field.number(),
                r#type: type_name(field),
                label: field.label().as_str_name().to_lowercase(),
            },
        );
    }
    // The entries of maps are written by the compiler, not by people.
    for nested in message.nested_type.iter().filter(|nested| nested.options.as_ref().is_none_or(|o| !o.map_entry())) {
        add_message(&name, nested, definitions);
    }
    for values in &message.enum_type {
        add_enum(&name, values, definitions);
    }
}

fn add_enum(scope: &str, values: &EnumDescriptorProto, definitions: &mut Definitions) {
    let name = join(scope, values.name());
    for value in &values.value {
        let definition = Definition { number: value.number(), r#type: String::new(), label: String::new() };
        definitions.insert(join(&name, value.name()), definition);
    }
}

/// v0 says slave where v1 says agent; numbers and types are the same.
fn join(scope: &str, name: &str) -> String {
    let name = name.replace("Slave", "Agent").replace("slave", "agent").replace("SLAVE", "AGENT");
    if scope.is_empty() { name } else { format!("{scope}.{name}") }
}

fn type_name(field: &FieldDescriptorProto) -> String {
    match field.type_name() {
        "" => field.r#type().as_str_name().to_lowercase(),
        // A scope may have moved; the last component is what the type is called.
        name => join("", name.rsplit('.').next().unwrap_or_default()),
    }
}
