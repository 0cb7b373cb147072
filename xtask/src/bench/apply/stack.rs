//! The files of many services, and a new server for them.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Api, Storage, Vault, VaultOptions, wait_until};
use serde_json::Value;

use crate::error::{Error, Result};

pub(super) const SERVICES: usize = 1000;
pub(super) const KEYS: usize = 5;

/// Where the credentials go: memory, as in a stack, whose volumes for them are tmpfs.
const MEMORY: &str = "/dev/shm";

/// How long a program may take at all.
const PATIENCE: Duration = Duration::from_mins(5);

/// A server, initialised and empty, and a directory with `.env`, `policies` and `root-token`.
pub(super) struct Stack {
    vault: Vault,
    token: String,
    dir: tempfile::TempDir,
    approle: tempfile::TempDir,
}

pub(super) fn service(number: usize) -> String {
    format!("s{number:04}")
}

pub(super) fn policy(number: usize) -> String {
    format!("path \"secret/data/{}\" {{\n  capabilities = [\"read\"]\n}}\n", service(number))
}

/// The keys of a service and their values.
pub(super) fn values(number: usize) -> impl Iterator<Item = (String, Value)> {
    let prefix = service(number).to_uppercase();
    (0..KEYS).map(move |key| {
        (format!("{prefix}_KEY{key}"), format!("value-{key}-of-{number}-to-measure-by").into())
    })
}

impl Stack {
    pub(super) fn start() -> Result<Self> {
        let mut vault = VaultOptions { storage: Storage::Raft, ..VaultOptions::default() }.start()?;
        let token = vault.initialise()?;
        let making = || Error::io("make a temporary directory");
        let dir = tempfile::tempdir().map_err(making())?;
        let memory = Path::new(MEMORY);
        let approle = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let stack = Self { vault, token, dir, approle: approle.map_err(making())? };
        fs::create_dir(stack.dir.path().join("policies")).map_err(making())?;
        let mut env = String::new();
        for number in 0..SERVICES {
            for (key, value) in values(number) {
                // Writing to a String has no error.
                let _ = writeln!(env, "{key}={}", value.as_str().unwrap_or_default());
            }
            stack.write(&format!("policies/{}-policy.hcl", service(number)), &policy(number))?;
        }
        stack.write(".env", &env)?;
        stack.write("root-token", &stack.token)?;
        Ok(stack)
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.dir.path().join(name);
        fs::write(&path, content)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o600)))
            .map_err(Error::io(format!("write {}", path.display())))
    }

    pub(super) fn api(&self) -> Api {
        Api::new(self.address())
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.vault.addresses()[0]
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn approle_dir(&self) -> &Path {
        self.approle.path()
    }

    /// How many entries the server's storage log has: one for every write there ever was.
    pub(super) fn written(&self) -> Result<u64> {
        let answer = self.api().expect("GET", "/v1/sys/leader", &self.token, &Value::Null)?;
        answer["raft_committed_index"].as_u64().ok_or_else(|| Error::Failed {
            doing: "ask the server what it has written".to_owned(),
            said: answer.to_string(),
        })
    }

    /// Runs a program to its end: how long it took, and its peak of resident memory in kB.
    pub(super) fn timed(&self, command: &mut Command) -> Result<(Duration, u64)> {
        let program = command.get_program().display().to_string();
        command.env("VAULT_ADDR", self.vault.addr()).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let running = || Error::io(format!("run {program}"));
        let begin = Instant::now();
        let mut child = command.spawn().map_err(running())?;
        let status = Path::new("/proc").join(child.id().to_string()).join("status");
        let mut peak = 0;
        let ended = wait_until(PATIENCE, || {
            peak = peak_of(&fs::read_to_string(&status).unwrap_or_default()).unwrap_or(peak);
            !matches!(child.try_wait(), Ok(None))
        });
        let time = begin.elapsed();
        if !ended {
            child.kill().map_err(running())?;
        }
        let output = child.wait_with_output().map_err(running())?;
        if output.status.success() {
            return Ok((time, peak));
        }
        let said = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        Err(Error::Failed { doing: format!("measure {program}"), said })
    }
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read() {
        assert_eq!(peak_of("Name:\tx\nVmHWM:\t   15604 kB\nVmRSS:\t 1 kB\n"), Some(15_604));
        assert_eq!(peak_of(""), None);
        assert!(peak_of(&fs::read_to_string("/proc/self/status").unwrap()).unwrap() > 500);
    }
}
