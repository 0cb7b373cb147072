//! The status file: what `healthcheck` reads, and whoever watches a stack.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use agent_runtime::StatusFile;
use approle_session::{AppRole, Tally};
use boot_clock::BootTime;
use serde::Serialize;

/// How long the status file can be believed: the longest sleep is a look at the credentials directory.
const FRESH_FOR: Duration = Duration::from_mins(3);

/// What is known of the agent, and written whenever it changes.
pub(crate) struct Report(RefCell<Inner>);

struct Inner {
    file: StatusFile,
    details: Details,
    is_open: bool,
    has_rendered: bool,
    expires: Option<BootTime>,
    credentials: Option<BootTime>,
    /// Whether there is a CMD, and whether it runs.
    command: Option<bool>,
    has_run: bool,
}

/// Documented in `docs/approle-agent.md`. Moments are in seconds of Unix time: a time that is left would change with
/// each second, and the file with it.
#[derive(Default, Serialize)]
struct Details {
    /// When the token expires, if it is not renewed; `null` where there is none or it never does.
    token_expires: Option<u64>,
    logins: u64,
    renewals: u64,
    /// When the agent first saw the secret ID that is in the credentials directory.
    secret_id_seen: Option<u64>,
    /// When each output was last written, by its path; only those that this process has written.
    outputs: BTreeMap<PathBuf, u64>,
    /// Reads of the secrets that failed, in a row.
    failures: u32,
    /// How often CMD was started again.
    restarts: u64,
}

impl Report {
    /// Nothing is known yet, and will be within `wait`.
    pub(crate) fn new(file: StatusFile, has_command: bool, wait: Duration) -> Self {
        let report = Self(RefCell::new(Inner {
            file,
            details: Details::default(),
            is_open: false,
            has_rendered: false,
            expires: None,
            credentials: None,
            command: has_command.then_some(false),
            has_run: false,
        }));
        report.0.borrow_mut().write(wait + FRESH_FOR);
        report
    }

    pub(crate) fn session(&self, approle: &AppRole, failures: u32) {
        self.update(|inner| {
            let Tally { logins, renewals, credentials } = approle.tally();
            inner.is_open = approle.client().is_some();
            if inner.expires != approle.expires() {
                inner.expires = approle.expires();
                inner.details.token_expires = inner.expires.and_then(unix);
            }
            if inner.credentials != credentials {
                inner.credentials = credentials;
                inner.details.secret_id_seen = credentials.and_then(unix);
            }
            inner.details.logins = logins;
            inner.details.renewals = renewals;
            inner.details.failures = failures;
        });
    }

    /// The secrets are in their outputs; these were written for that.
    pub(crate) fn rendered(&self, changed: &[PathBuf]) {
        self.update(|inner| {
            inner.has_rendered = true;
            let now = unix(BootTime::now()).unwrap_or_default();
            inner.details.outputs.extend(changed.iter().map(|path| (path.clone(), now)));
        });
    }

    pub(crate) fn command_runs(&self, runs: bool) {
        self.update(|inner| inner.command = Some(runs));
    }

    pub(crate) fn command_started(&self) {
        self.update(|inner| {
            if std::mem::replace(&mut inner.has_run, true) {
                inner.details.restarts += 1;
            }
        });
    }

    pub(crate) fn has_run(&self) -> bool {
        self.0.borrow().has_run
    }

    fn update(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.0.borrow_mut();
        change(&mut inner);
        inner.write(FRESH_FOR);
    }
}

impl Inner {
    fn write(&mut self, fresh_for: Duration) {
        let (is_ready, state) = match (self.is_open, self.has_rendered, self.command) {
            (false, false, _) => (false, "not logged in"),
            (true, false, _) => (false, "logged in, secrets not rendered yet"),
            (_, true, Some(false)) => (false, "secrets rendered, the command does not run"),
            (false, true, _) => (false, "not logged in, the last secrets stay"),
            (true, true, None) => (true, "logged in, secrets rendered"),
            (true, true, Some(true)) => (true, "logged in, secrets rendered, the command runs"),
        };
        self.file.report(is_ready, state, fresh_for, &self.details);
    }
}

/// That moment by the wall clock as it is now; `None` for never.
fn unix(moment: BootTime) -> Option<u64> {
    let (now, wall) = (BootTime::now(), SystemTime::now());
    let then = match moment.saturating_since(now) {
        Duration::ZERO => wall.checked_sub(now.saturating_since(moment)),
        ahead => wall.checked_add(ahead),
    };
    Some(then?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}
