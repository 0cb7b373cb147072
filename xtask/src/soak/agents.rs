//! The agents: one a service, each behind a network of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::{Api, Daemon, Programs, Proxy};
use serde_json::Value;

use crate::error::{Error, Result};

/// How often an agent looks whether its secret has changed.
pub(super) const REFRESH: Duration = Duration::from_secs(5);

/// One service's agent.
pub(super) struct Agent {
    pub(super) service: String,
    daemon: Daemon,
    network: Proxy,
    dir: PathBuf,
    /// When its token was last revoked by somebody else.
    revoked: Option<Instant>,
}

/// How it fares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fares {
    /// It says that it is ready, and Vault takes the token in its sink.
    Well,
    /// It says that it is not.
    NotReady,
    /// Vault does not take its token.
    WithoutToken,
    /// Vault did not say.
    Unknown,
}

impl Agent {
    pub(super) fn start(programs: &Programs, vault: SocketAddr, dir: &Path, service: &str) -> Result<Self> {
        let network = Proxy::before(vault)?;
        let mut command = programs.approle_agent();
        command.args(["run", "--secret", service, "--env-file", &format!("out/{service}.env")]);
        command.args(["--credentials-dir", &format!("approle/{service}")]);
        command.args(["--token-sink", &format!("run/{service}.token")]);
        command.args(["--status-file", &format!("run/{service}.json")]);
        command.args(["--refresh", &format!("{}s", REFRESH.as_secs())]);
        command.env("VAULT_ADDR", network.addr()).current_dir(dir);
        let daemon = Daemon::spawn(&mut command)?;
        Ok(Self { service: service.to_owned(), daemon, network, dir: dir.to_owned(), revoked: None })
    }

    /// What lies between it and Vault.
    pub(super) const fn network(&self) -> &Proxy {
        &self.network
    }

    pub(super) fn log(&self) -> String {
        self.daemon.log()
    }

    /// The ends of its log, and of what it asked: as many lines of each.
    pub(super) fn last_words(&self, lines: usize) -> String {
        let now = Instant::now();
        let log: Vec<String> = self.log().lines().map(str::to_owned).collect();
        let requests = self.network.requests();
        let first = requests.len().saturating_sub(lines);
        let asked = requests.iter().skip(first).zip(self.network.arrivals(first)).map(|(request, when)| {
            format!("{:.1} s ago: {request}", now.saturating_duration_since(when).as_secs_f64())
        });
        let said = log[log.len().saturating_sub(lines)..].iter().cloned();
        said.chain(asked).map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.daemon.is_running()
    }

    pub(super) fn fares(&self, vault: &Api) -> Fares {
        let read = |end: &str| fs::read_to_string(self.dir.join(format!("run/{}.{end}", self.service)));
        let token = || read("token").unwrap_or_default();
        let takes = |token: &str| {
            let asked = vault.send("GET", "/v1/auth/token/lookup-self", token, &Value::Null);
            asked.ok().and_then(|(status, _)| match status {
                200 => Some(true),
                403 => Some(false),
                _ => None,
            })
        };
        let mut asked = token();
        let mut holds = takes(&asked);
        // One that was replaced in between is revoked.
        while holds == Some(false) && token() != asked {
            asked = token();
            holds = takes(&asked);
        }
        let status = read("json").ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        match holds {
            None => Fares::Unknown,
            Some(false) => Fares::WithoutToken,
            Some(true) if status.is_some_and(|status| status["ready"] == true) => Fares::Well,
            Some(true) => Fares::NotReady,
        }
    }

    /// Revokes its token as an operator does, who knows no more of it than its accessor.
    pub(super) fn revoke_token(&mut self, vault: &Api, root: &str) -> Result<()> {
        let sink = self.dir.join(format!("run/{}.token", self.service));
        let token = fs::read_to_string(&sink).map_err(Error::io(format!("read {}", sink.display())))?;
        let life = vault.send("GET", "/v1/auth/token/lookup-self", &token, &Value::Null);
        // A Vault that is away revokes nothing, and a token that has lapsed is none.
        if let Ok((200, life)) = life {
            let body = serde_json::json!({ "accessor": life["data"]["accessor"] });
            if let Ok((204, _)) = vault.send("POST", "/v1/auth/token/revoke-accessor", root, &body) {
                self.revoked = Some(Instant::now());
            }
        }
        Ok(())
    }

    /// Until when it may not have noticed that its token was revoked: it does when it uses it next.
    pub(super) fn unaware_until(&self) -> Option<Instant> {
        self.revoked.map(|revoked| revoked + REFRESH)
    }
}
