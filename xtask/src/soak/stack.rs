//! The stack: Vault, `bootstrap run`, and sixteen services with an agent each.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Api, Daemon, Programs, Vault, VaultOptions, run_within, wait_until};
use serde_json::{Value, json};

use super::agents::Agent;
use crate::error::{Error, Result};
use crate::interrupt;

/// What an outage of Vault is called, whatever kind of outage it is.
pub(super) const VAULT: &str = "Vault";

/// What an outage of the way between the agents and Vault is called.
pub(super) const NETWORK: &str = "the agents' network";

const SERVICES: usize = 16;

/// An hour, four hours, an hour.
const LIVES: &str = "[defaults]\ntoken_ttl = \"15s\"\ntoken_max_ttl = \"60s\"\nsecret_id_ttl = \"15s\"\n";

/// Thirty days, by the same measure, are three hours. Shorter, it is replaced twice in a soak of ten minutes.
const OWN_LIFE: &str = "8m";

/// How long anything may take to come about.
pub(super) const LIMIT: Duration = Duration::from_mins(1);

/// The servers and programs, and the directory that they meet in.
pub(super) struct Stack {
    programs: Programs,
    vault: Vault,
    root: String,
    services: Vec<String>,
    agents: Vec<Agent>,
    bootstrap: Option<Daemon>,
    /// What those that have ended said.
    past_logs: String,
    /// When it was well for the first time.
    began: Instant,
    /// After those who write to it.
    dir: tempfile::TempDir,
}

impl Stack {
    /// Starts it all, and waits until it is well. From then on there is no root token for it.
    pub(super) fn start(programs: PathBuf) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("vaultcrew-soak-").tempdir();
        let dir = dir.map_err(Error::io("make a temporary directory"))?;
        let mut vault = VaultOptions::default().start()?;
        let root = vault.initialise()?;
        let services = (1..=SERVICES).map(|number| format!("service-{number:02}")).collect();
        let mut stack = Self {
            programs: Programs::in_dir(programs)?,
            vault,
            root,
            services,
            agents: Vec::new(),
            bootstrap: None,
            past_logs: String::new(),
            began: Instant::now(),
            dir,
        };
        stack.lay_out()?;
        stack.start_bootstrap()?;
        stack.wait_for("bootstrap to be well", Self::bootstrap_is_well)?;
        stack.remove_root_token()?;
        for service in stack.services.clone() {
            let vault = stack.vault.addresses()[0];
            stack.agents.push(Agent::start(&stack.programs, vault, stack.dir.path(), &service)?);
        }
        stack.wait_for("every agent to be well", |stack| {
            stack.services.iter().all(|service| stack.agent_is_well(service))
        })?;
        stack.began = Instant::now();
        Ok(stack)
    }

    /// The files of an operator: services, secrets, and lives of seconds.
    fn lay_out(&self) -> Result<()> {
        let mut env = String::new();
        for service in &self.services {
            // Writing to a String cannot fail.
            let _ = writeln!(env, "{}={}", key(service), first_value(service));
            let policy = format!("path \"secret/data/{service}\" {{\n  capabilities = [\"read\"]\n}}\n");
            self.write(&format!("policies/{service}-policy.hcl"), &policy)?;
        }
        self.write(".env", &env)?;
        self.write("vaultcrew.toml", LIVES)?;
        self.write("root/root-token", &self.root)
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.dir.path().join(name);
        let doing = || Error::io(format!("write {}", path.display()));
        fs::create_dir_all(path.parent().unwrap_or(self.dir.path())).map_err(doing())?;
        fs::write(&path, content).map_err(doing())?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(doing())
    }

    fn remove_root_token(&self) -> Result<()> {
        fs::remove_file(self.dir.path().join("root/root-token"))
            .map_err(Error::io("remove the root token's file"))
    }

    pub(super) fn services(&self) -> &[String] {
        &self.services
    }

    pub(super) fn agents(&self) -> &[Agent] {
        &self.agents
    }

    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn env_file(&self, service: &str) -> PathBuf {
        self.dir.path().join(format!("out/{service}.env"))
    }

    /// Gives a service another secret.
    pub(super) fn write_secret(&self, service: &str, value: &str) -> Result<()> {
        let body = json!({ "data": { key(service): value } });
        self.vault.client().expect("POST", &format!("/v1/secret/data/{service}"), &self.root, &body)?;
        Ok(())
    }

    /// Revokes the token of one agent.
    pub(super) fn revoke_token(&mut self, number: usize) -> Result<()> {
        let count = self.agents.len();
        self.agents[number % count].revoke_token(self.vault.client(), &self.root)
    }

    /// Vault's API.
    pub(super) fn api(&self) -> Api {
        self.vault.client().clone()
    }

    pub(super) fn role_ids(&self) -> Result<Vec<String>> {
        self.services.iter().map(|service| self.delivered(service, "role_id")).collect()
    }

    fn delivered(&self, service: &str, name: &str) -> Result<String> {
        let path = self.dir.path().join("approle").join(service).join(name);
        fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))
    }

    /// Logs in with what was delivered to a service; the status, or none where nobody answers.
    pub(super) fn log_in(&self, service: &str) -> Option<u16> {
        let read = |name| self.delivered(service, name).unwrap_or_default();
        let pair = json!({ "role_id": read("role_id"), "secret_id": read("secret_id") });
        let (status, answer) = self.vault.client().send("POST", "/v1/auth/approle/login", "", &pair).ok()?;
        if let Some(token) = answer["auth"]["client_token"].as_str() {
            // One that stays ends by itself.
            let _ = self.vault.client().send("POST", "/v1/auth/token/revoke-self", token, &Value::Null);
        }
        (status != 503).then_some(status)
    }

    /// How many secret IDs of a role live; none where Vault does not tell.
    pub(super) fn living_secret_ids(&self, service: &str) -> Option<usize> {
        let role = format!("/v1/auth/approle/role/{service}/secret-id");
        let (status, list) = self.vault.client().send("LIST", &role, &self.root, &Value::Null).ok()?;
        let mut living = 0;
        for accessor in list["data"]["keys"].as_array().filter(|_| status == 200)? {
            let body = json!({ "secret_id_accessor": accessor });
            let look_up = format!("{role}-accessor/lookup");
            living +=
                usize::from(self.vault.client().send("POST", &look_up, &self.root, &body).ok()?.0 == 200);
        }
        Some(living)
    }

    /// Whether the service's agent holds a token that is good, and has rendered.
    fn agent_is_well(&self, service: &str) -> bool {
        self.is_well(self.programs.approle_agent(), service)
    }

    fn bootstrap_is_well(&self) -> bool {
        self.is_well(self.programs.bootstrap(), "bootstrap")
    }

    fn is_well(&self, mut command: Command, name: &str) -> bool {
        command
            .args(["healthcheck", "--status-file", &format!("run/{name}.json")])
            .current_dir(self.dir.path());
        run_within(&mut command, LIMIT).is_ok_and(|outcome| outcome.code() == 0)
    }

    /// Starts `bootstrap run`, and does not wait for it.
    pub(super) fn start_bootstrap(&mut self) -> Result<()> {
        let mut command = self.programs.bootstrap();
        command.args([
            "run",
            "--env-file",
            ".env",
            "--policies-dir",
            "policies",
            "--token-file",
            "root/root-token",
        ]);
        command.args(["--approle-dir", "approle", "--state-dir", "state", "--own-secret-id-ttl", OWN_LIFE]);
        command.args(["--status-file", "run/bootstrap.json"]);
        command.env("VAULT_ADDR", self.vault.addr()).current_dir(self.dir.path());
        self.bootstrap = Some(Daemon::spawn(&mut command)?);
        Ok(())
    }

    /// Kills it where it stands, or asks it to end.
    pub(super) fn stop_bootstrap(&mut self, in_good_order: bool) -> Result<()> {
        let Some(mut bootstrap) = self.bootstrap.take() else { return Ok(()) };
        if !bootstrap.is_running() {
            let said = format!("it ended by itself:\n{}", bootstrap.log());
            return Err(Error::Failed { doing: "keep bootstrap running".to_owned(), said });
        }
        self.past_logs.push_str(&bootstrap.log());
        if in_good_order {
            bootstrap.end()?;
        } else {
            bootstrap.kill();
        }
        Ok(())
    }

    pub(super) fn stop_vault(&mut self) {
        self.vault.stop();
    }

    pub(super) fn start_vault(&mut self) -> Result<()> {
        self.vault.launch()?;
        self.unseal()
    }

    pub(super) fn seal(&self) -> Result<()> {
        self.vault.client().expect("PUT", "/v1/sys/seal", &self.root, &Value::Null)?;
        Ok(())
    }

    pub(super) fn unseal(&self) -> Result<()> {
        Ok(self.vault.unseal()?)
    }

    /// What does not become well again by itself, once there is no trouble any more.
    pub(super) fn heals(&mut self) -> Vec<String> {
        let is_well = |stack: &Self| {
            let served =
                |service: &String| stack.log_in(service) == Some(200) && stack.agent_is_well(service);
            stack.bootstrap_is_well() && stack.services.iter().all(served)
        };
        let healed = self.wait_for("everybody to be well in the end", is_well);
        let ended = self
            .agents
            .iter_mut()
            .filter_map(|agent| (!agent.is_running()).then(|| format!("{}: its agent ended", agent.service)));
        ended.chain(healed.err().map(|error| error.to_string())).collect()
    }

    fn wait_for(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> Result<()> {
        if wait_until(LIMIT, || holds(self)) {
            return Ok(());
        }
        interrupt::check()?;
        Err(Error::Failed { doing: format!("wait for {what}"), said: self.logs() })
    }

    /// What the programs did, in numbers.
    pub(super) fn says(&self) -> String {
        let logins: usize =
            self.agents.iter().map(|agent| agent.log().matches("logged in by AppRole").count()).sum();
        let log = self.bootstrap_log();
        let count = |text: &str| log.matches(text).count();
        format!(
            "{} agents logged in {logins} times; bootstrap delivered {} credentials, and destroyed {} replaced ones and \
             {} strays",
            self.agents.len(),
            count("delivered credentials to"),
            count("destroyed a replaced secret ID"),
            count("destroyed a stray secret ID")
        )
    }

    /// The ends of the logs.
    pub(super) fn logs(&self) -> String {
        let agents = self.agents.iter().map(Agent::log);
        let logs: Vec<String> = [self.bootstrap_log()].into_iter().chain(agents).collect();
        let end = |log: &String| {
            log.lines().rev().take(15).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        logs.iter().map(end).collect::<Vec<_>>().join("\n--\n")
    }

    fn bootstrap_log(&self) -> String {
        self.past_logs.clone() + &self.bootstrap.as_ref().map(Daemon::log).unwrap_or_default()
    }
}

/// The one key of a service's secret.
pub(super) fn key(service: &str) -> String {
    format!("{}_KEY", service.to_uppercase().replace('-', "_"))
}

/// The value that it has at first.
pub(super) fn first_value(service: &str) -> String {
    format!("value-of-{service}")
}
