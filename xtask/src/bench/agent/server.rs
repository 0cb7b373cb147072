//! The server that is measured on: one secret, and one AppRole that may read it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use harness::{Storage, Vault, VaultOptions, wait_until};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// The secret, and its keys: those that the entrypoint of a database takes out of Vault.
pub(super) const SECRET: &str = "bench";
pub(super) const KEYS: [&str; 3] = ["BENCH_DB_USER", "BENCH_DB_PASSWORD", "BENCH_DB_NAME"];
/// The value of each.
pub(super) const VALUE: &str = "measured";

/// A server with a secret and delivered credentials.
pub(super) struct Bench {
    vault: Vault,
    dir: tempfile::TempDir,
}

impl Bench {
    pub(super) fn start() -> Result<Self> {
        let mut vault = VaultOptions { storage: Storage::Raft, ..VaultOptions::default() }.start()?;
        let token = vault.initialise()?;
        let api = vault.client();
        let write = |path: &str, body: Value| api.expect("POST", path, &token, &body);
        write("/v1/sys/mounts/secret", json!({"type": "kv", "options": {"version": "2"}}))?;
        write("/v1/sys/auth/approle", json!({"type": "approle"}))?;
        let policy = format!("path \"secret/data/{SECRET}\" {{ capabilities = [\"read\"] }}");
        write("/v1/sys/policies/acl/bench-policy", json!({"policy": policy}))?;
        write("/v1/auth/approle/role/bench", json!({"token_policies": "bench-policy", "token_ttl": "1h"}))?;
        // A new KV v2 mount refuses writes for a moment.
        let body = json!({"data": KEYS.map(|key| (key, VALUE)).into_iter().collect::<HashMap<_, _>>()});
        let path = format!("/v1/secret/data/{SECRET}");
        if !wait_until(Duration::from_secs(10), || write(&path, body.clone()).is_ok()) {
            write(&path, body)?;
        }
        let role_id = api.expect("GET", "/v1/auth/approle/role/bench/role-id", &token, &Value::Null)?;
        let secret_id = write("/v1/auth/approle/role/bench/secret-id", Value::Null)?;

        let dir = tempfile::tempdir().map_err(Error::io("make a temporary directory"))?;
        let bench = Self { vault, dir };
        bench.deliver("role_id", &role_id["data"]["role_id"])?;
        bench.deliver("secret_id", &secret_id["data"]["secret_id"])?;
        Ok(bench)
    }

    pub(super) fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The directory of `role_id` and `secret_id`.
    pub(super) fn credentials(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn credential(&self, name: &str) -> Result<String> {
        let path = self.dir.path().join(name);
        fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))
    }

    fn deliver(&self, name: &str, value: &Value) -> Result<()> {
        let path = self.dir.path().join(name);
        fs::write(&path, value.as_str().unwrap_or_default())
            .map_err(Error::io(format!("write {}", path.display())))
    }
}
