//! The Docker engine as tests need it: what is there, of one stage.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::ContainerSummary;
use bollard::query_parameters::{
    KillContainerOptions, ListContainersOptions, RemoveContainerOptions, RemoveImageOptions, TagImageOptions,
};

/// The base image of all tests; `scripts/base-image` makes it.
pub(crate) const IMAGE: &str = "launch-container/busybox";

/// How long a container may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The group that may use the engine, as the default socket has it.
pub(super) fn group() -> u32 {
    std::fs::metadata("/var/run/docker.sock").expect("the engine's socket").gid()
}

/// A blocking face of the engine.
pub(crate) struct Engine {
    docker: Docker,
    runtime: tokio::runtime::Runtime,
}

impl Engine {
    /// The engine at DOCKER_HOST or the default socket; fails the test when none answers.
    pub(crate) fn connect() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let docker = runtime.block_on(async {
            let docker = Docker::connect_with_defaults()?.with_timeout(Duration::from_secs(30));
            docker.negotiate_version().await
        });
        match docker {
            Ok(docker) => Self { docker, runtime },
            Err(error) => panic!("this test needs a Docker engine ({error}); run scripts/provide-docker"),
        }
    }

    /// Fails the test when the base image is missing.
    pub(crate) fn require_image(&self) {
        if let Err(error) = self.runtime.block_on(self.docker.inspect_image(IMAGE)) {
            panic!("this test needs the image {IMAGE} ({error}); run scripts/base-image");
        }
    }

    /// All containers, ended ones too, whose labels or mounts name `root`.
    pub(crate) fn containers_of(&self, root: &Path) -> Vec<ContainerSummary> {
        let options = ListContainersOptions { all: true, ..Default::default() };
        let all =
            self.runtime.block_on(self.docker.list_containers(Some(options))).expect("the engine lists containers");
        let root = root.to_str().unwrap();
        all.into_iter().filter(|container| serde_json::to_string(container).unwrap().contains(root)).collect()
    }

    /// Whether there is such a container, running or ended.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.runtime.block_on(self.docker.inspect_container(id, None)).is_ok()
    }

    /// What the engine knows of a container.
    pub(crate) fn inspect(&self, id: &str) -> serde_json::Value {
        let found = self.runtime.block_on(self.docker.inspect_container(id, None)).expect("the container is there");
        serde_json::to_value(found).unwrap()
    }

    /// Waits until exactly one container of `root` runs.
    pub(crate) fn wait_for_running(&self, root: &Path) -> String {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            for container in self.containers_of(root) {
                let id = container.id.unwrap();
                if self.inspect(&id)["State"]["Running"] == true {
                    return id;
                }
            }
            assert!(Instant::now() < deadline, "no container of this test runs after {START_LIMIT:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `docker kill --signal=SIGNAL ID`: reaches the container's first process, whatever it thinks of that signal.
    pub(crate) fn kill(&self, id: &str, signal: &str) {
        let options = KillContainerOptions { signal: signal.to_owned() };
        self.runtime.block_on(self.docker.kill_container(id, Some(options))).expect("the container runs");
    }

    /// `docker rm -f ID`
    pub(crate) fn remove(&self, id: &str) {
        let options = RemoveContainerOptions { force: true, ..Default::default() };
        let _ = self.runtime.block_on(self.docker.remove_container(id, Some(options)));
    }

    /// Gives the base image another name, "REPOSITORY:TAG", for as long as the answer lives.
    pub(crate) fn name_base_image<'a>(&'a self, name: &'a str) -> impl Drop + 'a {
        let (repository, tag) = name.rsplit_once(':').expect("a name with a tag");
        let options = TagImageOptions { repo: Some(repository.to_owned()), tag: Some(tag.to_owned()) };
        self.runtime.block_on(self.docker.tag_image(IMAGE, Some(options))).expect("the image gets a name");
        Name { engine: self, name }
    }
}

/// A name of an image that is taken away again.
struct Name<'a> {
    engine: &'a Engine,
    name: &'a str,
}

impl Drop for Name<'_> {
    fn drop(&mut self) {
        let options = None::<RemoveImageOptions>;
        let _ = self.engine.runtime.block_on(self.engine.docker.remove_image(self.name, options, None));
    }
}
