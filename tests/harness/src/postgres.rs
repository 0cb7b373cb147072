//! A real PostgreSQL server.

mod account;

use std::fmt;
use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use self::account::{Account, open_to_others, reachable_bin};
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

    /// Has it ask those who come over TCP for TLS, with this certificate and key in PEM. It is restarted.
    #[track_caller]
    pub fn use_tls(&mut self, certificate: &str, key: &str) {
        let own = |name: &str, content: &str| {
            let path = self.state_dir().join(name);
            fs::write(&path, content).expect("a file in the server's directory");
            fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
            if let Some(account) = self.account {
                or_panic(account.own(&path));
            }
        };
        own("server.crt", certificate);
        own("server.key", key);
        self.set("ssl", "on");
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

    /// `psql`, about to run SQL over TCP as this user: it prints rows unaligned and without headings.
    #[must_use]
    pub fn psql_command(&self, user: &str, password: &str, database: &str, sql: &str) -> Command {
        let mut command = Command::new(self.bin.join("psql"));
        command
            .env_clear()
            .env("PATH", settings::search_path())
            .env("PGPASSWORD", password)
            // As an argument, one with `=` in it would be taken for a connection string.
            .env("PGDATABASE", database)
            .env("PGCONNECT_TIMEOUT", "10")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", user, "-c", sql])
            .args(["-h", &self.address.ip().to_string(), "-p", &self.address.port().to_string()])
            .stdin(Stdio::null());
        command
    }

    /// Runs SQL over TCP as this user: what `psql` printed, or its errors.
    pub fn psql(&self, user: &str, password: &str, database: &str, sql: &str) -> Result<String, String> {
        let mut command = self.psql_command(user, password, database, sql);
        let output = command.output().map_err(|error| format!("cannot run psql: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs SQL as the superuser; panics with the server's words where it fails.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        match self.psql("postgres", &self.password, database, sql) {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {error}"),
        }
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

    /// Makes the cluster where there is none, and writes this start's settings.
    fn prepare(&self) -> Result<()> {
        let data = self.state_dir();
        for dir in [self.dir(), &data, &self.socket_dir()] {
            fs::create_dir_all(dir).map_err(Error::io(format!("make {}", dir.display())))?;
        }
        if let Some(account) = self.account {
            open_to_others(self.dir())?;
            account.own(&data)?;
            account.own(&self.socket_dir())?;
        }
        if !data.join("PG_VERSION").exists() {
            self.initdb(&data)?;
        }
        self.write_configuration()
    }

    fn write_configuration(&self) -> Result<()> {
        let overrides = self.state_dir().join("vaultcrew.conf");
        fs::write(&overrides, self.configuration())
            .map_err(Error::io(format!("write {}", overrides.display())))?;
        if let Some(account) = self.account {
            account.own(&overrides)?;
        }
        Ok(())
    }

    fn initdb(&self, data: &Path) -> Result<()> {
        let password_file = self.dir().join("superuser");
        fs::write(&password_file, &self.password)
            .map_err(Error::io(format!("write {}", password_file.display())))?;
        if let Some(account) = self.account {
            account.own(&password_file)?;
        }
        let output = self
            .server_program("initdb")
            .args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "--auth=scram-sha-256"])
            .arg("--pwfile")
            .arg(&password_file)
            .arg("-D")
            .arg(data)
            .output()
            .map_err(|cause| self.unreachable_or(cause))?;
        let _ = fs::remove_file(&password_file);
        if !output.status.success() {
            let (program, status) = ("initdb".to_owned(), output.status.to_string());
            return Err(Error::Ended {
                program,
                status,
                log: String::from_utf8_lossy(&output.stderr).into(),
            });
        }
        let main = data.join("postgresql.conf");
        fs::read_to_string(&main)
            .and_then(|text| fs::write(&main, text + "\ninclude = 'vaultcrew.conf'\n"))
            .map_err(Error::io(format!("extend {}", main.display())))
    }

    /// What it means that a program of the server's account does not even start.
    fn unreachable_or(&self, cause: std::io::Error) -> Error {
        let program = format!("run initdb in {}", self.dir().display());
        match self.account {
            Some(Account { uid, .. }) if cause.kind() == std::io::ErrorKind::PermissionDenied => Error::Io {
                doing: format!(
                    "{program}: uid {uid}, whom it runs as, must get through all directories above"
                ),
                cause,
            },
            _ => Error::Io { doing: program, cause },
        }
    }

    fn configuration(&self) -> String {
        // A unix socket's path holds at most 107 bytes.
        let socket = self.socket_dir().display().to_string();
        let socket = if socket.len() < 85 { socket } else { String::new() };
        let fixed = [
            ("listen_addresses", self.address.ip().to_string()),
            ("port", self.address.port().to_string()),
            ("unix_socket_directories", socket),
            ("shared_buffers", "16MB".to_owned()),
            ("fsync", "off".to_owned()),
            ("synchronous_commit", "off".to_owned()),
            ("full_page_writes", "off".to_owned()),
        ];
        let more = self.options.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let line = |(name, value): (&str, String)| format!("{name} = '{}'\n", value.replace('\'', "''"));
        fixed.into_iter().chain(more).map(line).collect()
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

    fn state_dir(&self) -> PathBuf {
        self.dir().join("data")
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
