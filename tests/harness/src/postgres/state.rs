//! The server's state and settings, in files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Postgres;
use super::account::{Account, open_to_others};
use crate::error::{Error, Result, or_panic};

impl Postgres {
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

    /// Makes the cluster where there is none, and writes this start's settings.
    pub(super) fn prepare(&self) -> Result<()> {
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

    pub(super) fn write_configuration(&self) -> Result<()> {
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

    pub(super) fn state_dir(&self) -> PathBuf {
        self.dir().join("data")
    }
}
