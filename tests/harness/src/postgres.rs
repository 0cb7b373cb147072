//! A real PostgreSQL server.

mod account;
mod psql;
mod state;

use std::fmt;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use self::account::{Account, reachable_bin};
use crate::error::{Error, Result, or_panic};
use crate::loopback::{free_address, random_token};
use crate::process::{Home, Process, tail};
use crate::settings;
use crate::wait::wait_until;

/// How long the server may take to accept connections.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the server logs then.
const READY: &str = "database system is ready to accept connections";

/// The versions at hand. With `VAULTCREW_POSTGRES_BIN` 16 and 18 mean the one it names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PostgresVersion {
    /// 15: Debian's, with TLS and the contrib modules, which the others lack. `VAULTCREW_POSTGRES15_BIN` names another.
    V15,
    /// 16.
    V16,
    /// 18.
    V18,
}

/// A test of each of these stories for each version at hand, as `story::on_15`: each is a function of the version.
#[macro_export]
macro_rules! on_every_version {
    ($($story:ident),* $(,)?) => {
        $(
            mod $story {
                #[test]
                fn on_15() {
                    super::$story($crate::PostgresVersion::V15);
                }

                #[test]
                fn on_16() {
                    super::$story($crate::PostgresVersion::V16);
                }

                #[test]
                fn on_18() {
                    super::$story($crate::PostgresVersion::V18);
                }
            }
        )*
    };
}

impl fmt::Display for PostgresVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V15 => "15",
            Self::V16 => "16",
            Self::V18 => "18",
        })
    }
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Which.
    pub version: PostgresVersion,
    /// The directory of state, socket and log; a temporary one by default.
    pub dir: Option<PathBuf>,
    /// Its address; a random free one by default.
    pub address: Option<SocketAddr>,
    /// The superuser's password where the state is new; random by default.
    pub password: Option<String>,
    /// More settings, as in `postgresql.conf`: `("log_statement", "all")`.
    pub settings: Vec<(String, String)>,
}

/// A running server; stopped, and its directory removed, when dropped.
///
/// Its superuser is `postgres`, with a password, by SCRAM-SHA-256, over TCP and over the socket in
/// [`Postgres::socket_dir`].
#[derive(Debug)]
pub struct Postgres {
    options: PostgresOptions,
    address: SocketAddr,
    password: String,
    account: Option<Account>,
    bin: PathBuf,
    process: Option<Process>,
    // After the process: a directory is removed when nobody writes to it any more.
    home: Home,
}

impl PostgresOptions {
    /// A fresh server of this version, in a temporary directory, on a random address.
    #[must_use]
    pub fn new(version: PostgresVersion) -> Self {
        Self { version, dir: None, address: None, password: None, settings: Vec::new() }
    }

    /// With one more setting.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server, initialised where its directory is new, and waits until it takes connections.
    pub fn start(self) -> Result<Postgres> {
        let home = Home::open(self.dir.clone(), "vaultcrew-postgres-")?;
        let address = self.address.map_or_else(free_address, Ok)?;
        let password = self.password.clone().unwrap_or_else(random_token);
        let account = Account::for_server()?;
        let bin = reachable_bin(self.version, account, home.path())?;
        let mut postgres = Postgres { options: self, address, password, account, bin, process: None, home };
        postgres.prepare()?;
        postgres.launch()?;
        Ok(postgres)
    }
}

impl Postgres {
    /// A fresh server of this version.
    #[track_caller]
    #[must_use]
    pub fn start(version: PostgresVersion) -> Self {
        or_panic(PostgresOptions::new(version).start())
    }

    /// Changes a setting, as in `postgresql.conf`. It is restarted.
    #[track_caller]
    pub fn set(&mut self, name: &str, value: &str) {
        self.options = self.options.clone().setting(name, value);
        or_panic(self.write_configuration());
        self.restart();
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The superuser's password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The directory of its unix socket.
    #[must_use]
    pub fn socket_dir(&self) -> PathBuf {
        self.dir().join("socket")
    }

    /// The directory of its state, socket and log.
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

    /// Stops it in good order; clients are cut off.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::SIGINT);
        }
    }

    /// Stops it if it runs, and starts it again on the same address and state.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        or_panic(self.launch());
    }

    /// Lets the server outlive this value. Its directory stays if it was given.
    pub fn leave_running(mut self) {
        std::mem::forget(self.process.take());
    }

    fn launch(&mut self) -> Result<()> {
        let path = self.log_file();
        let opening = || Error::io(format!("open {}", path.display()));
        let log = File::options().create(true).append(true).open(&path).map_err(opening())?;
        let before = self.log().len();
        let mut command = self.server_program("postgres");
        command.arg("-D").arg(self.state_dir());
        command.stdout(log.try_clone().map_err(opening())?).stderr(log);
        let mut process = Process::spawn("PostgreSQL", &mut command)?;
        let ready =
            wait_until(PATIENCE, || process.ended().is_some() || self.log()[before..].contains(READY));
        if let Some(status) = process.ended() {
            let (program, status) = (process.name().to_owned(), status.to_string());
            return Err(Error::Ended { program, status, log: tail(&self.log()) });
        }
        if !ready {
            let (program, goal) = (process.name().to_owned(), "accept connections".to_owned());
            return Err(Error::Late { program, goal, limit: PATIENCE, log: tail(&self.log()) });
        }
        self.process = Some(process);
        Ok(())
    }

    /// One of the server's own programs, as the server's account.
    fn server_program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env_clear().env("PATH", settings::search_path()).env("TZ", "UTC").current_dir(self.dir());
        if let Some(account) = self.account {
            account.become_in(&mut command);
        }
        command
    }

    fn log_file(&self) -> PathBuf {
        self.dir().join("postgres.log")
    }
}

impl Drop for Postgres {
    /// At once, but in an order that leaves no shared memory behind.
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::SIGQUIT);
        }
    }
}
