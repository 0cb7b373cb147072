//! A Vault, the four programs, and the directories that they meet in.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use harness::{Canary, Daemon, Flavour, Outcome, Programs, Vault, VaultOptions, run};

/// How long anything that has to happen may take before a test gives up on it.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Values that must be seen nowhere but where they belong.
pub(crate) const PASSWORD: &str = "canary pa$w0rd \"x\" #1; \\n";
pub(crate) const CHAT_KEY: &str = "canary-chat-5d0c7e";

/// One stack in a directory of its own.
pub(crate) struct Crew {
    pub(crate) vault: Vault,
    pub(crate) programs: Programs,
    dir: tempfile::TempDir,
    /// A command of the test's own prints what it was given.
    prints_secrets: Cell<bool>,
}

impl Crew {
    /// A Vault that was never initialised, and the files of three services.
    pub(crate) fn new() -> Self {
        Self::with(fresh_vault())
    }

    /// The same with this Vault.
    pub(crate) fn with(vault: Vault) -> Self {
        let crew = Self {
            vault,
            programs: Programs::locate(),
            dir: tempfile::Builder::new().prefix("vaultcrew-e2e-").tempdir().expect("a directory"),
            prints_secrets: Cell::new(false),
        };
        for service in ["user", "user_db", "chat"] {
            crew.write_policy(service, &own_secret_policy(service));
        }
        crew.write_env(&format!(
            "USER_DB_USER=user_svc\nUSER_DB_PASSWORD='{PASSWORD}'\nUSER_DB_NAME=users\nUSER_SESSION_HOURS=12\n\
             CHAT_KEY={CHAT_KEY}\n",
        ));
        crew.write("vaultcrew.toml", "");
        crew
    }

    /// The same, initialised, unsealed and applied.
    pub(crate) fn applied() -> Self {
        let crew = Self::new();
        crew.initialise();
        crew.apply().success();
        crew
    }

    /// Initialised and unsealed by `unsealer run`, with a break-glass credential.
    pub(crate) fn with_break_glass(vault: Vault) -> Self {
        let crew = Self::with(vault);
        let mut unsealer = spawn(crew.unsealer("run"));
        unsealer.wait_for_log("the break-glass credential is in", SOON);
        assert_eq!(unsealer.terminate().code(), 0);
        crew
    }

    /// Another Vault takes the place of this one, and was never initialised.
    pub(crate) fn begin_anew(&mut self) {
        self.vault = fresh_vault();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, content).expect("a file");
    }

    pub(crate) fn write_env(&self, content: &str) {
        self.write_private(".env", content);
    }

    pub(crate) fn write_private(&self, name: &str, content: &str) {
        self.write(name, content);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("a mode");
    }

    pub(crate) fn write_policy(&self, service: &str, content: &str) {
        self.write(&format!("policies/{service}-policy.hcl"), content);
    }

    /// Removes a directory and all that is in it, where it is there.
    pub(crate) fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.exists() {
            fs::remove_dir_all(path).expect("a directory of the test");
        }
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn root_token(&self) -> String {
        self.read("root/root-token")
    }

    fn connected(&self, mut command: Command) -> Command {
        command.env("VAULT_ADDR", self.vault.addr()).current_dir(self.dir.path());
        command
    }

    pub(crate) fn unsealer(&self, subcommand: &str) -> Command {
        let mut command = self.connected(self.programs.unsealer());
        command.arg(subcommand);
        command.args(["--keys-dir", "keys", "--root-token-file", "root/root-token"]);
        if ["run", "status"].contains(&subcommand) {
            command.args(["--status-file", "run/unsealer.json"]);
        }
        command
    }

    pub(crate) fn initialise(&self) {
        run(&mut self.unsealer("init")).success();
        run(&mut self.unsealer("unseal")).success();
        self.vault.wait_for_health(200).expect("an active Vault");
    }

    pub(crate) fn bootstrap(&self, subcommand: &str) -> Command {
        let mut command = self.connected(self.programs.bootstrap());
        command.arg(subcommand);
        if subcommand == "verify" {
            // It asks the services' own credentials alone, and no root token.
            command.args(["--policies-dir", "policies", "--approle-dir", "approle", "--wait", "10s"]);
            return command;
        }
        command.args([
            "--env-file",
            ".env",
            "--policies-dir",
            "policies",
            "--token-file",
            "root/root-token",
            "--approle-dir",
            "approle",
            "--state-dir",
            "state",
            "--wait",
            "10s",
        ]);
        if subcommand == "run" {
            command.args(["--status-file", "run/bootstrap.json"]);
        }
        command
    }

    pub(crate) fn apply(&self) -> Outcome {
        run(&mut self.bootstrap("apply"))
    }

    /// `bootstrap healthcheck` of the `bootstrap run` that there is.
    pub(crate) fn health(&self) -> Outcome {
        let mut command = self.programs.bootstrap();
        command.args(["healthcheck", "--status-file", "run/bootstrap.json"]).current_dir(self.dir.path());
        run(&mut command)
    }

    /// The values in a service's secret; `null` where there is none.
    pub(crate) fn secret(&self, service: &str, token: &str) -> Value {
        self.vault.api("GET", &format!("/v1/secret/data/{service}"), token, &Value::Null).1["data"]["data"]
            .clone()
    }

    /// The status of a login with what lies in a service's directory.
    pub(crate) fn login(&self, service: &str) -> u16 {
        let read = |name: &str| {
            fs::read_to_string(self.path(&format!("approle/{service}/{name}"))).unwrap_or_default()
        };
        let pair = json!({ "role_id": read("role_id"), "secret_id": read("secret_id") });
        self.vault.api("POST", "/v1/auth/approle/login", "", &pair).0
    }

    /// How many of a service's secret IDs live.
    pub(crate) fn living_secret_ids(&self, service: &str, token: &str) -> usize {
        let role = format!("/v1/auth/approle/role/{service}/secret-id");
        let (_, list) = self.vault.api("LIST", &role, token, &Value::Null);
        let accessors = list["data"]["keys"].as_array().cloned().unwrap_or_default();
        let is_alive = |accessor: &&Value| {
            let body = json!({ "secret_id_accessor": accessor });
            self.vault.api("POST", &format!("{role}-accessor/lookup"), token, &body).0 == 200
        };
        accessors.iter().filter(is_alive).count()
    }

    /// `approle-agent <subcommand>` with the credentials of `service`.
    pub(crate) fn agent(&self, subcommand: &str, service: &str) -> Command {
        let mut command = self.connected(self.programs.approle_agent());
        command.arg(subcommand).args(["--credentials-dir", &format!("approle/{service}"), "--wait", "5s"]);
        if subcommand == "run" {
            command.args(["--status-file", &format!("run/{service}.json")]);
        }
        command
    }

    /// For a test whose command shows the secrets that reached it: its outputs are not searched at the end.
    pub(crate) fn prints_secrets(&self) {
        self.prints_secrets.set(true);
    }

    /// Everything that is secret in this stack, as far as it has been made.
    pub(crate) fn canary(&self) -> Canary {
        let mut canary = Canary::new([("USER_DB_PASSWORD", PASSWORD), ("CHAT_KEY", CHAT_KEY)]);
        let files = ["keys", "root", "approle", "state"].map(|name| self.path(name));
        for path in files.iter().flat_map(|path| files_below(path)) {
            // Role IDs and accessors are names, and notes say nothing: no secrets. What a killed writer left is a
            // part of one, and what is in a set is found by its links, which lead nowhere until it is whole.
            let is_under_way =
                path.components().any(|part| part.as_os_str().to_string_lossy().starts_with(".."));
            let no_secrets = ["role_id", "accessor", "init-requested", "rekey-requested", "hold"];
            if !is_under_way && path.exists() && !no_secrets.iter().any(|name| path.ends_with(name)) {
                canary.add(path.display().to_string(), fs::read(&path).expect("a file"));
            }
        }
        canary
    }
}

/// Whatever a test is about: no secret was in an output, an argument or Vault's log.
impl Drop for Crew {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let canary = self.canary();
        assert_eq!(canary.scan("Vault's log", self.vault.log().as_bytes()), None);
        if !self.prints_secrets.get() {
            assert_eq!(canary.scan_runs(), None);
        }
    }
}

fn fresh_vault() -> Vault {
    VaultOptions { configuration: audit_stanza("audit.log"), ..VaultOptions::default() }.start().unwrap()
}

/// What gives OpenBao an audit device; HashiCorp Vault takes none from its configuration.
pub(crate) fn audit_stanza(file: &str) -> String {
    match harness::server_flavour().expect("a server") {
        Flavour::OpenBao => {
            format!("audit \"file\" \"vaultcrew\" {{ options {{ file_path = \"{file}\" }} }}\n")
        }
        Flavour::Vault => String::new(),
    }
}

pub(crate) fn own_secret_policy(service: &str) -> String {
    format!("path \"secret/data/{service}\" {{\n  capabilities = [\"read\"]\n}}\n")
}

pub(crate) fn files_below(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let (directories, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
    files.into_iter().chain(directories.iter().flat_map(|path| files_below(path))).collect()
}

/// Starts a daemon that tells everything.
pub(crate) fn spawn(mut command: Command) -> Daemon {
    harness::spawn(command.env("VAULTCREW_LOG_LEVEL", "debug"))
}
