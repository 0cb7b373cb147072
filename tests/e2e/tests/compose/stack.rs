//! One stack with a name of its own, from its files to its removal.

mod kept;
mod removal;
mod typed;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::{Outcome, wait_until};

pub(crate) use self::kept::Kept;
use crate::engine::{Container, LABEL, docker, run, told};
use crate::images;

/// How long anything that has to happen may take before a test gives up on it.
pub(crate) const SOON: Duration = Duration::from_mins(2);

/// What projects of tests are called: the process that runs the test comes behind it.
const PROJECTS: &str = "vaultcrew-test-";

/// A stack; what it made is removed with it.
pub(crate) struct Stack {
    pub(crate) project: String,
    /// Laid out as the repository is: `compose/` and `policies/` are copies, and `stack/` is the directory of `.env` and
    /// `vaultcrew.toml`, and of what a test adds.
    dir: tempfile::TempDir,
    uid: u32,
    /// Options of every call of Compose.
    options: Vec<String>,
    /// Variables of every call of Compose.
    variables: Vec<(&'static str, String)>,
}

impl Stack {
    /// The example's files, with these overlays and profiles; nothing is started yet.
    pub(crate) fn new(overlays: &[&str], profiles: &[&str]) -> Self {
        removal::sweep();
        images::build();
        let dir = tempfile::Builder::new().prefix("vaultcrew-stack-").tempdir().unwrap();
        let mine = fs::metadata(dir.path()).unwrap().uid();
        let uid = if mine == 0 { 1000 } else { mine };
        let project = format!("{PROJECTS}{}-{}", std::process::id(), &harness::random_token()[..6]);
        let files = ["compose.yaml"].iter().chain(overlays).flat_map(|file| ["--file", file]);
        let options = files.chain(profiles.iter().flat_map(|profile| ["--profile", profile]));
        let options = options.map(str::to_owned).collect();
        let stack = Self { project, dir, uid, options, variables: Vec::new() };
        for directory in ["compose", "compose/config", "policies"] {
            copy_files(&images::repository().join(directory), &stack.dir.path().join(directory));
        }
        fs::create_dir(stack.path("")).unwrap();
        let example = images::repository().join("examples/transcendence");
        stack.write(".env", &fs::read_to_string(example.join(".env.example")).unwrap());
        stack.write("vaultcrew.toml", &fs::read_to_string(example.join("vaultcrew.toml")).unwrap());
        stack.own(&stack.path(""), 0o700);
        stack
    }

    /// With this variable for Compose.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets this variable for Compose from now on.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.variables.push((name, value.into()));
    }

    /// Makes the volumes and starts everything, as the documentation says it.
    pub(crate) fn start(self) -> Self {
        self.make_volumes();
        self.up();
        self
    }

    pub(crate) fn make_volumes(&self) {
        let mut script = Command::new(self.compose_dir().join("volumes.sh"));
        run(self.prepare(&mut script).args(&self.options)).success();
    }

    /// `docker compose up --wait`, with everything or with these services and what they need.
    #[track_caller]
    pub(crate) fn up_with(&self, services: &[&str]) {
        let up = ["up", "--detach", "--wait", "--wait-timeout", "180", "--quiet-pull"];
        let outcome = run(self.compose(up).args(services));
        assert!(outcome.code() == 0, "{}\n{}", outcome.stderr, self.story());
    }

    #[track_caller]
    pub(crate) fn up(&self) {
        self.up_with(&[]);
    }

    /// `docker compose <arguments>` for this stack.
    pub(crate) fn compose<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&composes()[0]);
        self.prepare(&mut command).args(&self.options).args(arguments);
        command
    }

    fn prepare<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.current_dir(self.compose_dir());
        prepare(command)
            .env("COMPOSE_PROJECT_NAME", &self.project)
            .env("VAULTCREW_UID", self.uid.to_string())
            .env("VAULTCREW_STACK", self.path(""))
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
    }

    /// The directory that commands are given in.
    pub(crate) fn compose_dir(&self) -> PathBuf {
        self.dir.path().join("compose")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("stack").join(name)
    }

    /// A file of the stack's owner, for nobody else to read.
    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
        self.own(&self.path(name), 0o600);
    }

    /// A file that every container may read, in a directory that on the host nobody gets into.
    pub(crate) fn write_for_all(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
        self.own(&self.path(name), 0o444);
    }

    fn own(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        if fs::metadata(path).unwrap().uid() != self.uid {
            chown(path, Some(self.uid), None).unwrap();
        }
    }

    pub(crate) fn containers(&self) -> Vec<Container> {
        Container::all(&self.project)
    }

    #[track_caller]
    pub(crate) fn container(&self, service: &str) -> Container {
        let found = self.containers().into_iter().find(|container| container.service() == service);
        found.unwrap_or_else(|| panic!("{service} has no container\n{}", self.story()))
    }

    /// Waits until every container is well.
    #[track_caller]
    pub(crate) fn wait_until_well(&self) {
        let well = || self.containers().iter().all(Container::is_well);
        assert!(wait_until(SOON, well), "not well again\n{}", self.story());
    }

    /// Waits until each of these was started anew, and everything is well.
    #[track_caller]
    pub(crate) fn wait_until_restarted(&self, before: &[Container]) {
        let restarted = || {
            let now = self.containers();
            before.iter().all(|old| {
                now.iter().any(|new| new.service() == old.service() && new.started_at() != old.started_at())
            }) && now.iter().all(Container::is_well)
        };
        assert!(wait_until(SOON, restarted), "not back\n{}", self.story());
    }

    /// Whether the agent of this service, asked within its container, gets this secret.
    pub(crate) fn reads(&self, service: &str, secret: &str) -> bool {
        self.render(service, secret).code() == 0
    }

    /// `approle-agent render`, within a service's container.
    pub(crate) fn render(&self, service: &str, secret: &str) -> Outcome {
        let render =
            ["/agent/approle-agent", "render", "--wait=5s", "--files-dir=/tmp/read", "--secret", secret];
        self.exec(service, &render)
    }

    /// A command in a service's container, as its user.
    pub(crate) fn exec(&self, service: &str, command: &[&str]) -> Outcome {
        let container = self.container(service);
        run(docker(["exec", container.id()]).args(command))
    }

    /// A script of root's in a container of its own.
    pub(crate) fn as_root(&self, options: &[&str], script: &str) -> Command {
        let label = format!("{LABEL}={}", self.project);
        let mut command = docker(["run", "--rm", "--user=0", "--network=none", "--label", &label]);
        command.args(options).args(["--entrypoint=sh", &images::name("postgres"), "-euc", script]);
        command
    }

    /// Kills these processes of the host where they stand, which restart policies count as a crash.
    pub(crate) fn kill(&self, containers: &[Container]) {
        let pids: Vec<_> = containers.iter().map(|container| container.pid().to_string()).collect();
        told(&mut self.as_root(
            &["--pid=host", "--security-opt=apparmor=unconfined"],
            &format!("kill -9 {}", pids.join(" ")),
        ));
    }

    /// How everything is, and the ends of the logs of what is not well.
    pub(crate) fn story(&self) -> String {
        let tail = |log: String| {
            let lines: Vec<_> = log.lines().collect();
            lines[lines.len().saturating_sub(25)..].join("\n")
        };
        let told = |container: &Container| {
            let log = if container.is_well() { String::new() } else { tail(container.log()) };
            format!("{}\n{log}", container.told())
        };
        self.containers().iter().map(told).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        removal::remove(&self.project);
    }
}

/// Every Compose that there is, the one that everything is run with first.
pub(crate) fn composes() -> Vec<PathBuf> {
    harness::composes().unwrap()
}

/// Sets what is the same for all stacks, and keeps out what the user's shell may say.
pub(crate) fn prepare(command: &mut Command) -> &mut Command {
    for (name, _) in variables() {
        if ["COMPOSE_", "VAULT", "BAO_", "POSTGRES_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let monitoring =
        ["ELASTICSEARCH_IMAGE", "KIBANA_IMAGE", "LOGSTASH_IMAGE", "FILEBEAT_IMAGE", "GRAFANA_IMAGE"];
    let official = |variable: &str, stand_in: &str| {
        let named = variables().find(|(name, _)| name == variable);
        named.map_or_else(|| images::name(stand_in), |(_, value)| value)
    };
    command
        .env("COMPOSE", &composes()[0])
        .env("VAULTCREW_IMAGE_PREFIX", images::PREFIX)
        .env("VAULT_IMAGE", official("VAULTCREW_TEST_VAULT_IMAGE", "vault"))
        .env("POSTGRES_IMAGE", official("VAULTCREW_TEST_POSTGRES_IMAGE", "postgres"))
        .envs(monitoring.map(|variable| (variable, images::name("monitoring"))))
}

/// A directory's files, without what lies deeper, and without the settings that somebody may have left there.
fn copy_files(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        if !entry.file_name().to_string_lossy().starts_with('.') {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars()
}
