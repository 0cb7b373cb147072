//! The status file that a daemon keeps, and the health check that reads it.
//!
//! A container image without a shell asks its program for its health by `<program> healthcheck`. The
//! daemon says in the file what it is about and until when that can be believed: a daemon that hangs
//! stops renewing it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boot_clock::BootTime;
use clap::Args;
use secrecy::{ExposeSecret as _, SecretSlice};
use secret_file::{Attrs, FileError, SecretDir};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Exit, Failure};

/// The largest status file that is read.
const MAX_STATUS: usize = 1024 * 1024;

/// Where the status file is.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// File that the daemon keeps its status in and `healthcheck` reads; in a directory of its own, best on
    /// a tmpfs
    #[arg(long, env = "VAULTCREW_STATUS_FILE", value_name = "FILE", hide_env_values = true)]
    #[arg(default_value = "/run/vaultcrew/status.json")]
    status_file: PathBuf,
}

/// What `healthcheck` is asked.
#[derive(Args, Clone, Debug)]
pub struct HealthArgs {
    #[command(flatten)]
    status: StatusArgs,

    /// Ask only whether the daemon is alive, not whether it is ready
    #[arg(long)]
    live: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Status<T> {
    program: String,
    pid: u32,
    /// Whether the program does for others what it is there for.
    ready: bool,
    /// One sentence for people.
    state: String,
    /// `/proc/sys/kernel/random/boot_id`: the boot that `fresh_until` counts from.
    boot_id: String,
    /// Seconds of `CLOCK_BOOTTIME` after which a living daemon would have written again.
    fresh_until: u64,
    #[serde(flatten)]
    details: T,
}

/// A daemon's status file.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    program: &'static str,
    boot_id: String,
    last: Option<(String, BootTime)>,
    failing: bool,
}

impl StatusFile {
    /// The status file of `program`; nothing is written yet.
    #[must_use]
    pub fn new(args: &StatusArgs, program: &'static str) -> Self {
        Self { path: args.status_file.clone(), program, boot_id: boot_id(), last: None, failing: false }
    }

    /// Says how the program is, and that it will say so again within `fresh_for`.
    ///
    /// Writes only when something changed or half of that time is over. A file that cannot be written is
    /// warned of once: the program's work goes on, its health check fails.
    pub fn report<T: Serialize>(&mut self, ready: bool, state: &str, fresh_for: Duration, details: T) {
        let now = BootTime::now();
        let mut status = Status {
            program: self.program.to_owned(),
            pid: std::process::id(),
            ready,
            state: state.to_owned(),
            boot_id: self.boot_id.clone(),
            fresh_until: 0,
            details,
        };
        let content = serde_json::to_string(&status).unwrap_or_default();
        if self.last.as_ref().is_some_and(|(written, renew)| *written == content && now < *renew) {
            return;
        }
        // A second on top: `fresh_until` is in whole ones.
        status.fresh_until = (now + fresh_for).since_boot().as_secs() + 1;
        match self.write(&status) {
            Ok(()) => {
                self.last = Some((content, now + fresh_for / 2));
                self.failing = false;
            }
            Err(error) if self.failing => tracing::debug!("{}", crate::exit::with_causes(&error)),
            Err(error) => {
                tracing::warn!("{}; healthcheck will fail", crate::exit::with_causes(&error));
                self.failing = true;
            }
        }
    }

    fn write<T: Serialize>(&self, status: &Status<T>) -> Result<(), FileError> {
        let (directory, name) = split(&self.path);
        let content = serde_json::to_vec(status).unwrap_or_default();
        let directory = SecretDir::create(directory, 0o755)?;
        directory.replace(name, &SecretSlice::from(content), Attrs::mode(0o644)).map(drop)
    }
}

impl StatusArgs {
    /// What the daemon `program` last said besides how it is; `None` where there is nothing that can be read.
    #[must_use]
    pub fn last_report<T: DeserializeOwned>(&self, program: &str) -> Option<T> {
        let content = secret_file::read_file(&self.status_file, MAX_STATUS).ok()?;
        let status: Status<T> = serde_json::from_slice(content.expose_secret()).ok()?;
        (status.program == program).then_some(status.details)
    }
}

/// Why a program is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// There is no status file that can be read.
    #[error("no status: is the daemon running, with the same --status-file?")]
    Unreadable(#[source] FileError),
    /// It is no status file.
    #[error("{0} is not a status file of this program")]
    Garbled(PathBuf),
    /// The daemon stopped writing it.
    #[error("the status is stale: the daemon has ended or hangs (last state: {0})")]
    Stale(String),
    /// The daemon says that it is not ready.
    #[error("not ready: {0}")]
    NotReady(String),
}

impl Failure for HealthError {
    fn exit(&self) -> Exit {
        Exit::Failed
    }
}

impl HealthArgs {
    /// Whether it is only asked for whether the daemon is alive.
    #[must_use]
    pub fn asks_for_life_only(&self) -> bool {
        self.live
    }

    /// As [`StatusArgs::last_report`].
    #[must_use]
    pub fn last_report<T: DeserializeOwned>(&self, program: &str) -> Option<T> {
        self.status.last_report(program)
    }

    /// Reads the status file; gives the daemon's own sentence about itself where all is well.
    pub fn check(&self, program: &str) -> Result<String, HealthError> {
        let path = &self.status.status_file;
        let garbled = || HealthError::Garbled(path.clone());
        let content = secret_file::read_file(path, MAX_STATUS).map_err(HealthError::Unreadable)?;
        let status: Status<serde_json::Value> =
            serde_json::from_slice(content.expose_secret()).map_err(|_| garbled())?;
        if status.program != program {
            return Err(garbled());
        }
        let fresh = BootTime::at(Duration::from_secs(status.fresh_until)) >= BootTime::now();
        if !fresh || status.boot_id != boot_id() {
            return Err(HealthError::Stale(status.state));
        }
        if !status.ready && !self.live {
            return Err(HealthError::NotReady(status.state));
        }
        Ok(status.state)
    }
}

fn split(path: &Path) -> (&Path, &str) {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    (directory, path.file_name().and_then(|name| name.to_str()).unwrap_or("status.json"))
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(path: &Path, live: bool) -> Result<String, HealthError> {
        HealthArgs { status: StatusArgs { status_file: path.to_owned() }, live }.check("test")
    }

    fn status_in(dir: &tempfile::TempDir) -> (PathBuf, StatusFile) {
        let path = dir.path().join("run/status.json");
        let file = StatusFile::new(&StatusArgs { status_file: path.clone() }, "test");
        (path, file)
    }

    #[test]
    fn tells_ready_from_live_from_stale() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut file) = status_in(&dir);
        assert!(matches!(health(&path, true), Err(HealthError::Unreadable(_))));

        file.report(false, "waiting for Vault", Duration::from_mins(1), ());
        assert!(
            matches!(health(&path, false), Err(HealthError::NotReady(state)) if state == "waiting for Vault")
        );
        assert_eq!(health(&path, true).unwrap(), "waiting for Vault");

        file.report(true, "unsealed", Duration::from_mins(1), ());
        assert_eq!(health(&path, false).unwrap(), "unsealed");
    }

    #[test]
    fn a_status_of_another_boot_or_time_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut file) = status_in(&dir);
        file.boot_id = "another".to_owned();
        file.report(true, "unsealed", Duration::from_mins(1), ());
        assert!(matches!(health(&path, true), Err(HealthError::Stale(_))));

        let past = r#"{"program":"test","pid":1,"ready":true,"state":"s","boot_id":"BOOT","fresh_until":0}"#;
        fs::write(&path, past.replace("BOOT", &boot_id())).unwrap();
        assert!(matches!(health(&path, true), Err(HealthError::Stale(_))));
    }

    #[test]
    fn an_unchanged_status_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut file) = status_in(&dir);
        file.report(true, "unsealed", Duration::from_mins(1), ());
        fs::remove_file(&path).unwrap();
        file.report(true, "unsealed", Duration::from_mins(1), ());
        assert!(!path.exists());
        file.report(true, "sealed", Duration::from_mins(1), ());
        assert!(path.exists());
    }

    #[test]
    fn garbage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        fs::write(&path, "{").unwrap();
        assert!(matches!(health(&path, true), Err(HealthError::Garbled(_))));
    }
}
