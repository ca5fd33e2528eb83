//! What earlier containers have left: state without container, container without state, damaged files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::finding::Finding;
use super::super::survey::{Remembered, Standing, Survey};
use crate::docker::{Engine, EngineError};
use crate::store::Store;

const ABOUT: &str = "state";

pub(super) async fn look(work_directory: &Path, engine: Result<&Engine, EngineError>, found: &mut Vec<Finding>) {
    let survey = match Survey::make(work_directory, engine).await {
        Ok(survey) => survey,
        Err(error) => {
            found.push(Finding::problem(ABOUT, error.to_string(), "run doctor as the slave's user (root)"));
            return;
        }
    };
    look_at_permissions(work_directory, found);
    look_at_survey(&survey, work_directory, found);
}

fn look_at_permissions(work_directory: &Path, found: &mut Vec<Finding>) {
    let store = Store::new(work_directory);
    let path = store.path();
    if fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o022 != 0) {
        found.push(Finding::problem(
            ABOUT,
            format!("others than its owner may write to {}", path.display()),
            format!("chmod 700 {}", path.display()),
        ));
    }
}

fn look_at_survey(survey: &Survey, work_directory: &Path, found: &mut Vec<Finding>) {
    let count = |standings: &[Standing]| {
        survey.containers.iter().filter(|container| standings.contains(&container.standing())).count()
    };
    let live = count(&[Standing::Preparing, Standing::Running, Standing::Ending]);
    let ended = count(&[Standing::Ended]);
    found.push(Finding::ok(
        ABOUT,
        format!("{live} containers live, {ended} have ended and the slave may still ask how"),
    ));
    let program = |options: &str| format!("docker-containerizer {options} --work-dir {}", work_directory.display());
    let mut leftover = |number: usize, what: &str, advice: String| {
        if number > 0 {
            found.push(Finding::warning(ABOUT, format!("{number} {what}"), advice));
        }
    };
    leftover(
        count(&[Standing::Unowned]),
        "containers run without supervisor, which was killed",
        "the slave's next recovery or wait gives them a new one; a restart of the slave is enough".to_owned(),
    );
    leftover(
        if survey.engine.is_ok() { count(&[Standing::Lost]) } else { 0 },
        "state directories whose supervisor and container are gone",
        format!("a restart of the slave settles those it knows; {} removes the others", program("gc")),
    );
    leftover(
        count(&[Standing::Forgotten]),
        "containers of ours whose state directory is gone",
        program("gc --dry-run"),
    );
    leftover(survey.leftovers.len(), "half made or half removed state directories", program("gc --dry-run"));
    let remembered = || survey.containers.iter().filter_map(|container| container.remembered.as_ref());
    leftover(
        remembered().filter(|remembered| has_replaced_program(remembered)).count(),
        "supervisors run an executable that has been replaced since",
        "nothing: they go on with the old one until their containers end".to_owned(),
    );
    for damage in remembered().flat_map(|remembered| &remembered.damage) {
        found.push(Finding::problem(
            ABOUT,
            damage.clone(),
            "check the disk; destroying the container, or docker-containerizer gc, removes it",
        ));
    }
    if let Ok(others) = &survey.engine {
        let gone = others.of_other_slaves.iter().filter(|other| !Path::new(&other.work_directory).is_dir());
        let gone: Vec<&str> = gone.map(|other| other.name.as_str()).collect();
        if !gone.is_empty() {
            found.push(Finding::warning(
                ABOUT,
                format!("{} containers belong to slaves whose work directory is gone: {}", gone.len(), gone.join(", ")),
                "if no slave will come back there: docker rm -f, each",
            ));
        }
        let elsewhere = others.of_other_slaves.len() - gone.len();
        found.push(Finding::ok(
            ABOUT,
            format!(
                "{elsewhere} containers of other slaves and {} others are at the engine; they are never touched",
                others.foreign
            ),
        ));
    }
}

/// The kernel marks the link of an executable whose file is gone.
fn has_replaced_program(remembered: &Remembered) -> bool {
    let program = remembered.owner.and_then(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok());
    program.is_some_and(|program| program.to_string_lossy().ends_with(" (deleted)"))
}
