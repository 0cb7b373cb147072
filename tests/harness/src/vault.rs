//! A real Vault server.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::error::{Error, Result, or_panic};
use crate::http::Api;
use crate::loopback::free_addresses;
use crate::process::{Home, Process, tail};
use crate::tools::{Flavour, server_command, server_flavour};
use crate::wait::wait_until;

/// How long a server may take to listen, and to become active.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the server keeps its state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Storage {
    /// A single node's own file storage: active a fifth of a second after it was unsealed.
    #[default]
    Local,
    /// Integrated storage, as production has it: active after a second or two.
    Raft,
}

/// How to start a server.
#[derive(Clone, Debug, Default)]
pub struct VaultOptions {
    /// Where the server keeps its state.
    pub storage: Storage,
    /// The directory of configuration, state and log; a temporary one by default.
    pub dir: Option<PathBuf>,
    /// API and cluster address; random free ones by default.
    pub addresses: Option<[SocketAddr; 2]>,
    /// More of the configuration file, such as an `audit` stanza.
    pub configuration: String,
    /// With [`Storage::Raft`]: the address of the node whose cluster this one joins by itself (`retry_join`).
    pub join: Option<String>,
}

/// A running server; killed, and its directory removed, when dropped.
#[derive(Debug)]
pub struct Vault {
    api: Api,
    addresses: [SocketAddr; 2],
    shares: Vec<String>,
    process: Option<Process>,
    // After the process: a directory is removed when nobody writes to it any more.
    home: Home,
}

impl VaultOptions {
    /// Starts the server and waits until it answers: not initialised, or sealed.
    pub fn start(self) -> Result<Vault> {
        let home = Home::open(self.dir.clone(), "vaultcrew-vault-")?;
        let addresses = self.addresses.map_or_else(free_addresses, Ok)?;
        let configuration = self.configuration(home.path(), addresses, server_flavour()?);
        let state = home.path().join("state");
        fs::create_dir_all(&state).map_err(Error::io(format!("make {}", state.display())))?;
        let file = home.path().join("vault.hcl");
        fs::write(&file, configuration).map_err(Error::io(format!("write {}", file.display())))?;
        let mut vault =
            Vault { api: Api::new(addresses[0]), addresses, shares: Vec::new(), process: None, home };
        vault.launch()?;
        Ok(vault)
    }

    fn configuration(&self, home: &Path, [api, cluster]: [SocketAddr; 2], flavour: Flavour) -> String {
        let state = home.join("state");
        let (kind, more) = match (self.storage, flavour) {
            (Storage::Local, Flavour::OpenBao) => ("pebbledb", String::new()),
            (Storage::Local, Flavour::Vault) => ("file", String::new()),
            (Storage::Raft, _) => ("raft", self.raft(cluster)),
        };
        let mut text =
            format!("storage \"{kind}\" {{\n  path = {:?}\n{more}}}\n", state.display().to_string());
        write!(
            text,
            "listener \"tcp\" {{\n  address = \"{api}\"\n  cluster_address = \"{cluster}\"\n  \
             tls_disable = true\n}}\napi_addr = \"http://{api}\"\ncluster_addr = \"https://{cluster}\"\n"
        )
        .expect("a String takes everything");
        if flavour == Flavour::Vault {
            text.push_str("disable_mlock = true\n");
        }
        text + &self.configuration
    }

    /// What the storage stanza of a raft node has besides its path.
    fn raft(&self, cluster: SocketAddr) -> String {
        match &self.join {
            None => "  node_id = \"node-1\"\n  performance_multiplier = 1\n".to_owned(),
            Some(leader) => format!(
                "  node_id = \"node-{cluster}\"\n  performance_multiplier = 1\n  \
                 retry_join {{\n    leader_api_addr = {leader:?}\n  }}\n"
            ),
        }
    }
}

impl Vault {
    /// A fresh server, not initialised, on storage of its own.
    #[track_caller]
    #[must_use]
    pub fn start() -> Self {
        or_panic(VaultOptions::default().start())
    }

    /// A fresh server, initialised with one share, unsealed and active, and its root token: for tests whose
    /// subject is something else.
    #[track_caller]
    #[must_use]
    pub fn start_unsealed() -> (Self, String) {
        let mut vault = Self::start();
        let token = or_panic(vault.initialise());
        (vault, token)
    }

    /// Initialises with one share, unseals, waits until active; returns the root token.
    pub fn initialise(&mut self) -> Result<String> {
        let body = json!({"secret_shares": 1, "secret_threshold": 1});
        let answer = self.api.expect("PUT", "/v1/sys/init", "", &body)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.shares = answer["keys_base64"].as_array().into_iter().flatten().map(text).collect();
        self.unseal()?;
        Ok(text(&answer["root_token"]))
    }

    /// Unseals with the shares of [`Vault::initialise`], and waits until active.
    pub fn unseal(&self) -> Result<()> {
        for share in &self.shares {
            self.api.expect("PUT", "/v1/sys/unseal", "", &json!({"key": share}))?;
        }
        self.wait_for_health(200)
    }

    /// Waits until `sys/health` answers with this status: 200 active, 429 standby, 501 not initialised,
    /// 503 sealed.
    pub fn wait_for_health(&self, status: u16) -> Result<()> {
        if wait_until(PATIENCE, || self.health() == Some(status)) {
            return Ok(());
        }
        let goal = format!("answer {status} at sys/health (last: {:?})", self.health());
        Err(Error::Late {
            program: "the Vault server".to_owned(),
            goal,
            limit: PATIENCE,
            log: tail(&self.log()),
        })
    }

    /// The status of `sys/health`; none where nobody answers.
    #[must_use]
    pub fn health(&self) -> Option<u16> {
        self.api.send("GET", "/v1/sys/health", "", &Value::Null).ok().map(|(status, _)| status)
    }

    /// Makes one request: see [`Api::send`]. Panics where there is no answer.
    #[track_caller]
    #[must_use]
    pub fn api(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        or_panic(self.api.send(method, path, token, body))
    }

    /// The server's API, for those who want errors.
    #[must_use]
    pub fn client(&self) -> &Api {
        &self.api
    }

    /// Seals it, as an operator does.
    #[track_caller]
    pub fn seal(&self, token: &str) {
        or_panic(self.api.expect("PUT", "/v1/sys/seal", token, &Value::Null));
        or_panic(self.wait_for_health(503));
    }

    /// Its address as programs take it: `http://127.a.b.c:port`.
    #[must_use]
    pub fn addr(&self) -> String {
        format!("http://{}", self.addresses[0])
    }

    /// API and cluster address.
    #[must_use]
    pub fn addresses(&self) -> [SocketAddr; 2] {
        self.addresses
    }

    /// The directory of its configuration, state and log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.home.path()
    }

    /// Its process; none while stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// All that it has logged, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Has it read its configuration and open its audit files again (SIGHUP).
    pub fn reload(&mut self) {
        if let Some(process) = &mut self.process {
            process.signal(Signal::SIGHUP);
        }
    }

    /// Stops it in good order.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::SIGTERM);
        }
    }

    /// Sends it a signal, if it runs.
    pub fn signal(&mut self, signal: Signal) {
        if let Some(process) = &mut self.process {
            process.signal(signal);
        }
    }

    /// Kills it where it stands.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops it if it runs, and starts it again on the same address and state: sealed, if it was initialised.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        or_panic(self.launch());
    }

    /// Lets the server outlive this value. Its directory stays if it was given.
    pub fn leave_running(mut self) {
        std::mem::forget(self.process.take());
    }

    /// Starts it again on the same address and state, after it was stopped: sealed, if it was initialised.
    pub fn launch(&mut self) -> Result<()> {
        let path = self.log_file();
        let opening = || Error::io(format!("open {}", path.display()));
        let log = File::options().create(true).append(true).open(&path).map_err(opening())?;
        let mut command = server_command()?;
        command.arg("server").arg("-config").arg(self.dir().join("vault.hcl"));
        command.current_dir(self.dir()).stdout(log.try_clone().map_err(opening())?).stderr(log);
        let mut process = Process::spawn("the Vault server", &mut command)?;
        let answers = wait_until(PATIENCE, || process.ended().is_some() || self.health().is_some());
        if let Some(status) = process.ended() {
            let (program, status) = (process.name().to_owned(), status.to_string());
            return Err(Error::Ended { program, status, log: tail(&self.log()) });
        }
        if !answers {
            let (program, goal) = (process.name().to_owned(), "answer".to_owned());
            return Err(Error::Late { program, goal, limit: PATIENCE, log: tail(&self.log()) });
        }
        self.process = Some(process);
        Ok(())
    }

    fn log_file(&self) -> PathBuf {
        self.dir().join("vault.log")
    }
}
