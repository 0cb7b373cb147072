//! Who is measured.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Api, Programs};
use serde_json::{Value, json};

use super::server::{Bench, KEYS, SECRET, VALUE};
use crate::error::{Error, Result};

/// A way of getting a service its secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Contender {
    /// Login and read on one new connection, from this process: what the server and the network take.
    Raw,
    /// The same, and revoke-self, as the agent does it.
    RawWithRevoke,
    /// `approle-agent exec`.
    Agent,
    /// The usual entrypoint script.
    Shell,
    /// The server's own agent in exec mode.
    ServersAgent,
}

/// The entrypoint script that the agent replaces.
const SCRIPT: &str = r#"
VAULT_TOKEN=$(curl --silent --fail --request POST \
  --data "{\"role_id\":\"$(cat "$1/role_id")\",\"secret_id\":\"$(cat "$1/secret_id")\"}" \
  "$VAULT_ADDR/v1/auth/approle/login" | jq -r .auth.client_token)
VAULT_RESPONSE=$(curl --silent --fail --header "X-Vault-Token: $VAULT_TOKEN" "$VAULT_ADDR/v1/secret/data/bench")
export BENCH_DB_USER="$(echo "$VAULT_RESPONSE" | jq -r .data.data.BENCH_DB_USER)"
export BENCH_DB_PASSWORD="$(echo "$VAULT_RESPONSE" | jq -r .data.data.BENCH_DB_PASSWORD)"
export BENCH_DB_NAME="$(echo "$VAULT_RESPONSE" | jq -r .data.data.BENCH_DB_NAME)"
shift
exec "$@"
"#;

impl Contender {
    pub(super) const ALL: [Self; 5] =
        [Self::Raw, Self::RawWithRevoke, Self::Agent, Self::Shell, Self::ServersAgent];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw requests: login, read",
            Self::RawWithRevoke => "raw requests: login, read, revoke-self",
            Self::Agent => "approle-agent exec (login, read, revoke-self)",
            Self::Shell => "sh with curl and jq (login, read)",
            Self::ServersAgent => "bao agent, exec mode (login, read)",
        }
    }

    /// Proves that it does what is measured: its command finds the secret.
    pub(super) fn check(self, bench: &Bench, programs: &Programs) -> Result<()> {
        let script = KEYS.map(|key| format!("[ \"${key}\" = {VALUE} ]")).join(" && ");
        self.start(bench, programs, &["/bin/sh", "-c", &script]).map(drop)
    }

    /// How long it takes from its start to the end of a command that does nothing.
    pub(super) fn time(self, bench: &Bench, programs: &Programs) -> Result<Duration> {
        self.start(bench, programs, &["/bin/true"])
    }

    fn start(self, bench: &Bench, programs: &Programs, command: &[&str]) -> Result<Duration> {
        match self {
            Self::Raw => raw(bench, false),
            Self::RawWithRevoke => raw(bench, true),
            Self::Agent => {
                let mut agent = programs.approle_agent();
                agent.args(["exec", "--secret", SECRET, "--credentials-dir"]).arg(bench.credentials());
                timed(agent.arg("--").args(command).env("VAULT_ADDR", bench.vault().addr()))
            }
            Self::Shell => {
                let mut shell = Command::new("sh");
                shell.args(["-c", SCRIPT, "sh"]).arg(bench.credentials()).args(command);
                timed(shell.env("VAULT_ADDR", bench.vault().addr()))
            }
            Self::ServersAgent => {
                let configuration = bench.credentials().join("agent.hcl");
                fs::write(&configuration, agent_configuration(bench, command))
                    .map_err(Error::io(format!("write {}", configuration.display())))?;
                timed(harness::server_command()?.arg("agent").arg("-config").arg(configuration))
            }
        }
    }
}

fn raw(bench: &Bench, revokes: bool) -> Result<Duration> {
    let credentials =
        json!({"role_id": bench.credential("role_id")?, "secret_id": bench.credential("secret_id")?});
    let begin = Instant::now();
    // A new one, as a program that starts has no connection.
    let api = Api::new(bench.vault().addresses()[0]);
    let login = api.expect("POST", "/v1/auth/approle/login", "", &credentials)?;
    let token = login["auth"]["client_token"].as_str().unwrap_or_default();
    api.expect("GET", &format!("/v1/secret/data/{SECRET}"), token, &Value::Null)?;
    if revokes {
        api.expect("POST", "/v1/auth/token/revoke-self", token, &Value::Null)?;
    }
    Ok(begin.elapsed())
}

fn timed(command: &mut Command) -> Result<Duration> {
    let program = command.get_program().display().to_string();
    let begin = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(Error::io(format!("run {program}")))?;
    let time = begin.elapsed();
    if output.status.success() {
        return Ok(time);
    }
    let said = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Err(Error::Failed { doing: format!("measure {program}"), said })
}

fn agent_configuration(bench: &Bench, command: &[&str]) -> String {
    let dir = bench.credentials().display();
    let address = bench.vault().addr();
    let templates = KEYS.map(env_template).concat();
    // A JSON array of strings is a list in HCL too.
    let command = json!(command);
    format!(
        r#"
vault {{ address = "{address}" }}
auto_auth {{
  method "approle" {{
    config = {{
      role_id_file_path = "{dir}/role_id"
      secret_id_file_path = "{dir}/secret_id"
      remove_secret_id_file_after_reading = false
    }}
  }}
}}
{templates}
exec {{
  command = {command}
  restart_on_secret_changes = "never"
}}
"#
    )
}

fn env_template(key: &str) -> String {
    format!(
        r#"
env_template "{key}" {{
  contents = "{{{{ with secret \"secret/data/{SECRET}\" }}}}{{{{ .Data.data.{key} }}}}{{{{ end }}}}"
  error_on_missing_key = true
}}
"#
    )
}
