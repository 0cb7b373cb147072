//! The directory that the demonstration plays in, and the servers that live there.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use harness::{Postgres, PostgresOptions, PostgresVersion, Storage, Vault, VaultOptions};
use serde_json::json;

use crate::error::{Error, Result};

/// The example that is played.
const EXAMPLE: &str = "examples/transcendence";

/// The directory, and the addresses that its servers keep from run to run.
pub(super) struct Stage {
    dir: PathBuf,
    temporary: Option<tempfile::TempDir>,
    addresses: [SocketAddr; 3],
    superuser: String,
}

impl Stage {
    /// The directory with what an earlier run left there; a temporary one where none is named. One that is
    /// `kept` stays when this ends.
    pub(super) fn open(named: Option<PathBuf>, kept: bool) -> Result<Self> {
        let (dir, temporary) = if let Some(dir) = named {
            fs::create_dir_all(&dir).map_err(Error::io(format!("make {}", dir.display())))?;
            (dir.canonicalize().map_err(Error::io(format!("look up {}", dir.display())))?, None)
        } else {
            let made = tempfile::Builder::new().prefix("vaultcrew-demo-").tempdir();
            let made = made.map_err(Error::io("make a temporary directory"))?;
            if kept { (made.keep(), None) } else { (made.path().to_owned(), Some(made)) }
        };
        // PostgreSQL may run as another user, who has to get through.
        fs::set_permissions(&dir, Permissions::from_mode(0o711))
            .map_err(Error::io(format!("open {} to other users", dir.display())))?;
        let (dir, temporary) =
            if kept { (temporary.map_or(dir, tempfile::TempDir::keep), None) } else { (dir, temporary) };
        let mut stage =
            Self { addresses: remembered_addresses(&dir)?, superuser: String::new(), dir, temporary };
        stage.superuser = stage.remembered_superuser()?;
        Ok(stage)
    }

    pub(super) fn start_vault(&self) -> Result<Vault> {
        let [api, cluster, _] = self.addresses;
        self.vacant(api)?;
        let options = VaultOptions {
            storage: Storage::Raft,
            dir: Some(self.dir.join("servers/vault")),
            addresses: Some([api, cluster]),
            ..VaultOptions::default()
        };
        Ok(options.start()?)
    }

    pub(super) fn start_postgres(&self) -> Result<Postgres> {
        self.vacant(self.addresses[2])?;
        let servers = self.dir.join("servers");
        // It logs every statement, so that a password in one would be found.
        let options = PostgresOptions {
            dir: Some(servers.join("postgres")),
            address: Some(self.addresses[2]),
            password: Some(self.superuser.clone()),
            ..PostgresOptions::new(PostgresVersion::V18).setting("log_statement", "all")
        };
        Ok(options.start()?)
    }

    /// Lays out what an operator has: `.env`, made from the example, with the databases at this address.
    pub(super) fn prepare(&self, postgres: SocketAddr) -> Result<()> {
        let example = example().join(".env.example");
        let text = fs::read_to_string(&example).map_err(Error::io(format!("read {}", example.display())))?;
        write_private(&self.env_file(), &with_database(&text, postgres))?;
        for dir in [self.rendered(), self.dir.join("run")] {
            fs::create_dir_all(&dir).map_err(Error::io(format!("make {}", dir.display())))?;
        }
        Ok(())
    }

    /// The services, by their policies.
    pub(super) fn services(&self) -> Result<Vec<String>> {
        let dir = self.policies();
        let reading = || Error::io(format!("read {}", dir.display()));
        let mut services = Vec::new();
        for entry in fs::read_dir(&dir).map_err(reading())? {
            let name = entry.map_err(reading())?.file_name().to_string_lossy().into_owned();
            services.extend(name.strip_suffix("-policy.hcl").map(str::to_owned));
        }
        services.sort();
        Ok(services)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn env_file(&self) -> PathBuf {
        self.dir.join(".env")
    }

    #[expect(clippy::unused_self, reason = "where things are is the stage's to say")]
    pub(super) fn manifest(&self) -> PathBuf {
        example().join("vaultcrew.toml")
    }

    #[expect(clippy::unused_self, reason = "where things are is the stage's to say")]
    pub(super) fn policies(&self) -> PathBuf {
        workspace().join("policies")
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.dir.join("vault/keys")
    }

    pub(super) fn root_token(&self) -> PathBuf {
        self.dir.join("vault/root/root-token")
    }

    pub(super) fn approle(&self) -> PathBuf {
        self.dir.join("vault/approle")
    }

    pub(super) fn bootstrap_state(&self) -> PathBuf {
        self.dir.join("vault/bootstrap")
    }

    pub(super) fn rendered(&self) -> PathBuf {
        self.dir.join("rendered")
    }

    pub(super) fn status_file(&self, program: &str) -> PathBuf {
        self.dir.join("run").join(format!("{program}.json"))
    }

    pub(super) fn superuser_password(&self) -> PathBuf {
        self.dir.join("superuser-password")
    }

    /// How to use what was left running.
    pub(super) fn usage(&self, vault: &str, postgres: SocketAddr, pids: &[u32]) -> String {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let bao = harness::server().unwrap_or_else(|_| "bao".into());
        let dir = self.dir.display();
        format!(
            "How to use it\n  \
             export VAULT_ADDR={vault} BAO_ADDR={vault}\n  \
             BAO_TOKEN=$(cat {}) {} kv get secret/user\n  \
             PGPASSWORD=$(cat {}) psql -h {} -p {} -U postgres\n\
             To stop it\n  kill {}\n\
             To play again on the same state, after that\n  cargo xtask demo --dir {dir}\n",
            self.root_token().display(),
            bao.display(),
            self.superuser_password().display(),
            postgres.ip(),
            postgres.port(),
            pids.join(" "),
        )
    }

    /// What becomes of the directory.
    pub(super) fn fate(&self) -> String {
        match &self.temporary {
            Some(_) => "the directory is removed".to_owned(),
            None => format!("{} stays", self.dir.display()),
        }
    }

    /// An error where somebody listens at the address already.
    fn vacant(&self, address: SocketAddr) -> Result<()> {
        if TcpStream::connect(address).is_err() {
            return Ok(());
        }
        let said = "it is kept running from an earlier run, whose report says how to stop it".to_owned();
        Err(Error::Failed { doing: format!("play in {}: {address} is taken", self.dir.display()), said })
    }

    fn remembered_superuser(&self) -> Result<String> {
        let file = self.superuser_password();
        if let Ok(password) = fs::read_to_string(&file) {
            return Ok(password);
        }
        let password = harness::random_token();
        write_private(&file, &password)?;
        Ok(password)
    }
}

/// Three addresses: Vault's two, PostgreSQL's one.
fn remembered_addresses(dir: &Path) -> Result<[SocketAddr; 3]> {
    let file = dir.join("addresses.json");
    if let Ok(text) = fs::read_to_string(&file) {
        let parsed = serde_json::from_str::<[String; 3]>(&text).ok();
        let addresses = parsed.and_then(|texts| {
            let [one, two, three] = texts.map(|text| text.parse().ok());
            Some([one?, two?, three?])
        });
        return addresses.ok_or_else(|| Error::Failed {
            doing: format!("use {}", file.display()),
            said: "it does not hold the addresses of an earlier run; remove the directory".to_owned(),
        });
    }
    let addresses = [harness::free_address()?, harness::free_address()?, harness::free_address()?];
    let text = json!(addresses.map(|address| address.to_string())).to_string();
    fs::write(&file, text).map_err(Error::io(format!("write {}", file.display())))?;
    Ok(addresses)
}

/// The `.env` text with every `…_DB_HOST` and `…_DB_PORT` set to the address.
fn with_database(text: &str, address: SocketAddr) -> String {
    let line = |line: &str| match line.split_once('=') {
        Some((key, _)) if key.ends_with("_DB_HOST") => format!("{key}={}\n", address.ip()),
        Some((key, _)) if key.ends_with("_DB_PORT") => format!("{key}={}\n", address.port()),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o600)))
        .map_err(Error::io(format!("write {}", path.display())))
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

fn example() -> PathBuf {
    workspace().join(EXAMPLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_databases_are_where_the_server_is_and_all_else_stays() {
        let env = "# DB\nUSER_DB_HOST=postgres\nUSER_DB_PORT=5432\nUSER_DB_NAME=users\nHOST='a=b'\n";
        let expected = "# DB\nUSER_DB_HOST=127.1.2.3\nUSER_DB_PORT=9\nUSER_DB_NAME=users\nHOST='a=b'\n";
        assert_eq!(with_database(env, "127.1.2.3:9".parse().unwrap()), expected);
    }
}
