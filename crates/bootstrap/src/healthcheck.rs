//! `bootstrap healthcheck`: what the daemon says, and whether what it delivered is still there and alive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_runtime::{Exit, HealthArgs};
use boot_clock::BootTime;
use ring::digest;
use serde::{Deserialize, Serialize};

use crate::BootstrapError;
use crate::deliver::{self, InForce};
use crate::ledger::hexadecimal;

const PROGRAM: &str = "bootstrap";

/// What the daemon adds to its status.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Details {
    pub(crate) services: usize,
    /// Looks that failed in a row.
    pub(crate) failures: u32,
    /// By role; that of bootstrap itself is among them.
    pub(crate) credentials: BTreeMap<String, Credential>,
}

/// What was delivered to a directory.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Credential {
    directory: PathBuf,
    /// SHA-256 of the accessor: everybody may read a status.
    accessor: String,
    /// When the secret ID ends, in seconds of `CLOCK_BOOTTIME`; `None` for never.
    until: Option<u64>,
}

impl Credential {
    pub(crate) fn new(directory: &Path, in_force: &InForce) -> Self {
        // Only a working directory that is gone makes this fail.
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let until = in_force.until.map(|until| until.since_boot().as_secs());
        Self { directory, accessor: mark(&in_force.accessor), until }
    }

    /// Whether the secret ID is past its life at `now`, in seconds of `CLOCK_BOOTTIME`.
    pub(crate) fn has_ended(&self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Whether `other` is the same, save that its end is told a little otherwise.
    pub(crate) fn is_same(&self, other: &Self, within: Duration) -> bool {
        let same_end = match (self.until, other.until) {
            (Some(one), Some(other)) => one.abs_diff(other) <= within.as_secs(),
            (one, other) => one == other,
        };
        same_end && self.accessor == other.accessor && self.directory == other.directory
    }

    /// What is wrong with it now, if anything is.
    fn fault(&self, now: u64) -> Option<String> {
        let directory = self.directory.display();
        if self.has_ended(now) {
            return Some(format!("the secret ID in {directory} is past its life"));
        }
        match deliver::accessor(&self.directory) {
            Ok(Some(accessor)) if mark(&accessor) == self.accessor => None,
            Ok(Some(_)) => Some(format!("what lies in {directory} is not what was delivered last")),
            Ok(None) => Some(format!("{directory} does not hold what was delivered there")),
            Err(error) => Some(agent_runtime::with_causes(&error)),
        }
    }
}

/// Says how the daemon and what it delivered are.
pub(crate) fn command(health: &HealthArgs) -> Result<Exit, BootstrapError> {
    let state = health.check(PROGRAM)?;
    let details: Option<Details> = health.last_report(PROGRAM).filter(|_| !health.asks_for_life_only());
    let now = BootTime::now().since_boot().as_secs();
    let credentials = details.as_ref().map(|details| &details.credentials).into_iter().flatten();
    let faults: Vec<String> =
        credentials.filter_map(|(role, found)| Some(format!("{role}: {}", found.fault(now)?))).collect();
    if !faults.is_empty() {
        return Err(BootstrapError::Unhealthy(faults));
    }
    let services = details.map_or_else(String::new, |details| format!(" ({} services)", details.services));
    agent_runtime::print(&format!("{state}{services}\n"))?;
    Ok(Exit::Done)
}

fn mark(accessor: &str) -> String {
    hexadecimal(digest::digest(&digest::SHA256, accessor.as_bytes()).as_ref())
}
