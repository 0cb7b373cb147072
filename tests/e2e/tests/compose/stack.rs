//! One stack with a name of its own, from its files to its removal.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::{Canary, Outcome, wait_until};
use serde_json::Value;

use crate::engine::{Container, LABEL, docker, lines, run, secretly_told, told};
use crate::images;

/// How long anything that has to happen may take before a test gives up on it.
pub(crate) const SOON: Duration = Duration::from_mins(2);

/// What projects of tests are called: the process that runs the test comes behind it.
const PROJECTS: &str = "vaultcrew-test-";

/// A stack; what it made is removed with it.
pub(crate) struct Stack {
    pub(crate) project: String,
    /// The directory of `.env` and `vaultcrew.toml`, and of what a test adds.
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
        sweep();
        images::build();
        let dir = tempfile::Builder::new().prefix("vaultcrew-stack-").tempdir().unwrap();
        let mine = fs::metadata(dir.path()).unwrap().uid();
        let uid = if mine == 0 { 1000 } else { mine };
        let project = format!("{PROJECTS}{}-{}", std::process::id(), &harness::random_token()[..6]);
        let files = ["compose.yaml"].iter().chain(overlays).flat_map(|file| ["--file", file]);
        let options = files.chain(profiles.iter().flat_map(|profile| ["--profile", profile]));
        let options = options.map(str::to_owned).collect();
        let stack = Self { project, dir, uid, options, variables: Vec::new() };
        let example = images::repository().join("examples/transcendence");
        stack.write(".env", &fs::read_to_string(example.join(".env.example")).unwrap());
        stack.write("vaultcrew.toml", &fs::read_to_string(example.join("vaultcrew.toml")).unwrap());
        stack.own(stack.dir.path(), 0o700);
        stack
    }

    /// With this variable for Compose.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Makes the volumes and starts everything, as the documentation says it.
    pub(crate) fn start(self) -> Self {
        self.make_volumes();
        self.up();
        self
    }

    pub(crate) fn make_volumes(&self) {
        let mut script = Command::new(images::compose_dir().join("volumes.sh"));
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
        command.current_dir(images::compose_dir());
        prepare(command)
            .env("COMPOSE_PROJECT_NAME", &self.project)
            .env("VAULTCREW_UID", self.uid.to_string())
            .env("VAULTCREW_STACK", self.dir.path())
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
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

    /// A script in Vault's container with root's rights: `$bao` is the server's program. What it prints is off the record.
    #[track_caller]
    pub(crate) fn ask_vault(&self, script: &str) -> String {
        let script = format!(
            "read -r VAULT_TOKEN; export VAULT_TOKEN VAULT_ADDR=http://127.0.0.1:8200; \
             [ ! -e /tls/ca/ca.pem ] || export VAULT_CACERT=/tls/ca/ca.pem VAULT_ADDR=https://127.0.0.1:8200; \
             bao=$(command -v bao || command -v vault); {script}"
        );
        let vault = self.container("vault");
        let mut command = docker(["exec", "--interactive", vault.id(), "sh", "-euc", &script]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), (self.root_token() + "\n").as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{script}: {}\n{}", output.status, self.story());
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the secret of this name holds.
    pub(crate) fn secret(&self, name: &str) -> Value {
        let told = self.ask_vault(&format!("$bao kv get -format=json -mount=secret {name}"));
        serde_json::from_str::<Value>(&told).unwrap()["data"]["data"].clone()
    }

    pub(crate) fn root_token(&self) -> String {
        secretly_told(&mut self.as_root(&[&self.mounted("vault-root")], "cat /vault-root/root-token"))
    }

    /// The option that mounts one of the stack's volumes at `/<name>`.
    pub(crate) fn mounted(&self, volume: &str) -> String {
        format!("--volume={}_{volume}:/{volume}", self.project)
    }

    /// The files of a volume with their content's digests, and with owner and mode.
    pub(crate) fn listing(&self, volume: &str) -> String {
        let script = format!(
            "cd /{volume}; find . -type f | sort | xargs -r stat -c '%n %a %u:%g'; \
                              find . -type f | sort | xargs -r sha256sum"
        );
        told(&mut self.as_root(&[&self.mounted(volume)], &script))
    }

    /// Everything that is secret here: the values of the `.env` file and those that were made up, the key shares, the root
    /// token and the credentials.
    pub(crate) fn canary(&self) -> Canary {
        let mut canary = Canary::default();
        let telling =
            |name: &str| ["PASSWORD", "SECRET", "ENCRYPTION_KEY"].iter().any(|part| name.contains(part));
        for service in ["auth", "kibana", "grafana", "user", "chat", "game", "notification", "elasticsearch"]
        {
            for (name, value) in self.secret(service).as_object().unwrap() {
                if telling(name) {
                    canary.add(name, value.as_str().unwrap());
                }
            }
        }
        let volumes =
            ["vault-keys", "vault-root", "bootstrap", "approle-user", "approle-user_db", "approle-chat"];
        let options: Vec<_> = volumes.map(|volume| self.mounted(volume)).into();
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let script = format!(
            "for file in $(find {} -type f ! -name role_id ! -name accessor ! -name '*.json' ! -name '*.age'); do \
                              echo \"$file $(cat $file)\"; done",
            volumes.map(|name| format!("/{name}")).join(" ")
        );
        let files = secretly_told(&mut self.as_root(&options, &script));
        for (name, value) in lines(&files).into_iter().filter_map(|line| line.split_once(' ')) {
            if value.len() >= 16 {
                canary.add(name, value);
            }
        }
        canary
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

/// What must never be made anew.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Kept {
    keys: String,
    root_token: String,
    cluster: String,
    secrets: String,
}

impl Kept {
    pub(crate) fn of(stack: &Stack) -> Self {
        let status: Value = serde_json::from_str(&stack.ask_vault("$bao status -format=json")).unwrap();
        Self {
            keys: stack.listing("vault-keys"),
            root_token: stack.listing("vault-root"),
            cluster: status["cluster_id"].to_string(),
            secrets: stack.ask_vault(
                "for name in auth user chat_db; do \
                   $bao kv metadata get -format=json -mount=secret $name | grep -v request_id; \
                 done",
            ),
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        remove(&self.project);
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

fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars()
}

/// Removes what tests left that were killed.
fn sweep() {
    let listed = told(&mut docker(["volume", "ls", "--quiet", "--filter", &format!("name={PROJECTS}")]));
    let filter = format!("name={PROJECTS}");
    let networks = told(&mut docker(["network", "ls", "--format={{.Name}}", "--filter", &filter]));
    let mut projects: Vec<_> = lines(&listed)
        .into_iter()
        .chain(lines(&networks))
        .filter_map(|name| name.split('_').next())
        .collect();
    projects.dedup();
    for project in projects {
        let process = project.trim_start_matches(PROJECTS).split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            remove(project);
        }
    }
}

/// Removes everything of one project, whatever state it is in.
fn remove(project: &str) {
    let compose = format!("label=com.docker.compose.project={project}");
    let own = format!("label={LABEL}={project}");
    for filter in [&compose, &own] {
        let listed = told(&mut docker(["container", "ls", "--all", "--quiet", "--filter", filter]));
        if !lines(&listed).is_empty() {
            run(docker(["container", "rm", "--force", "--volumes"]).args(lines(&listed)));
        }
    }
    for kind in ["network", "volume"] {
        let filter = format!("name={project}_");
        let listed = told(&mut docker([kind, "ls", "--format={{.Name}}", "--filter", &filter]));
        if !lines(&listed).is_empty() {
            run(docker([kind, "rm"]).args(lines(&listed)));
        }
    }
}
