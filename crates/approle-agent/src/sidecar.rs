//! Staying: the token is kept alive and the rendered secrets current.

use std::convert::Infallible;
use std::time::Duration;

use agent_runtime::{Exit, Shutdown, StatusFile};
use approle_session::{AppRole, LoginError, Progress, Step};
use backoff::{Jitter, Policy};
use boot_clock::BootTime;
use secret_file::Changed;
use serde::Serialize;
use vault_client::{VaultClient, VaultError};

use crate::AgentError;
use crate::args::SecretArgs;
use crate::render::Outputs;
use crate::secrets::Secrets;

/// Between two reads of the secrets, and what chance adds to it so that agents spread out.
const REFRESH_EVERY: Duration = Duration::from_secs(270);
const REFRESH_SPREAD: Duration = Duration::from_secs(30);

/// Between two reads while one failed.
const RETRY_DELAYS: Policy = match Policy::new(Duration::from_secs(1), Duration::from_secs(30)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

/// How long the status file can be believed: the longest sleep is a look at the credentials directory.
const FRESH_FOR: Duration = Duration::from_mins(1);

/// When to read the secrets next, and how that went so far.
#[derive(Default)]
struct Refresh {
    due: BootTime,
    failures: u32,
    /// The last read was denied, with a token that was new then: another login would change nothing.
    denied: bool,
    rendered: bool,
}

#[derive(Serialize)]
struct Details {
    /// Seconds that the token lives on, if it is not renewed.
    token_ttl: u64,
    /// Reads that failed in a row.
    failures: u32,
}

/// Keeps the session open and the outputs current until told to stop, then revokes the token.
pub(crate) async fn stay(
    client: VaultClient,
    args: &SecretArgs,
    outputs: &Outputs,
    mut status: StatusFile,
    shutdown: &Shutdown,
) -> Result<Exit, AgentError> {
    let mut approle = AppRole::new(client, &args.login);
    let mut refresh = Refresh::default();
    // The first login is waited for without another report.
    report(&mut status, &approle, &refresh, args.login.wait + FRESH_FOR);
    let kept = match approle.open(shutdown).await {
        Ok(_) => keep(&mut approle, args, outputs, &mut refresh, &mut status, shutdown).await,
        Err(error) => Err(error),
    };
    approle.close().await;
    match kept {
        Err(LoginError::Stopped(_)) => Ok(Exit::Done),
        other => other.map(|never| match never {}).map_err(AgentError::Login),
    }
}

/// Goes on until told to stop.
async fn keep(
    approle: &mut AppRole,
    args: &SecretArgs,
    outputs: &Outputs,
    refresh: &mut Refresh,
    status: &mut StatusFile,
    shutdown: &Shutdown,
) -> Result<Infallible, LoginError> {
    loop {
        let now = BootTime::now();
        match approle.next() {
            Step::Do(action) => {
                if approle.perform(action, shutdown).await? == Progress::Opened && refresh.failures == 0 {
                    refresh.due = now;
                }
            }
            Step::SleepUntil(when) if now < refresh.due => {
                shutdown.sleep_until(when.min(refresh.due)).await?;
            }
            Step::SleepUntil(when) => match approle.client() {
                Some(client) => {
                    let read = Secrets::read(&client, &args.kv_mount, &args.secrets);
                    let read = shutdown.or_stop(read).await?;
                    let rendered = read.and_then(|secrets| outputs.render(&secrets));
                    if refresh.may_have_lapsed(&rendered) {
                        // A token that was revoked is denied everything: a new one is worth one attempt.
                        approle.lapsed();
                    } else {
                        refresh.settle(rendered);
                    }
                }
                // The next login makes the read due.
                None => shutdown.sleep_until(when).await?,
            },
            Step::Failed(reason) => return Err(approle.failure(reason)),
        }
        report(status, approle, refresh, FRESH_FOR);
    }
}

impl Refresh {
    /// Whether this is the first denial in a row.
    fn may_have_lapsed(&mut self, rendered: &Result<Changed, AgentError>) -> bool {
        let denied = matches!(rendered, Err(AgentError::Read { cause: VaultError::Denied { .. }, .. }));
        !std::mem::replace(&mut self.denied, denied) && denied
    }

    /// Sets the next read. The last good files stay whatever happens.
    fn settle(&mut self, rendered: Result<Changed, AgentError>) {
        let now = BootTime::now();
        match rendered {
            Ok(changed) => {
                if changed == Changed::Yes {
                    tracing::info!("rendered the secrets");
                } else if self.failures > 0 {
                    tracing::info!("the secrets can be read again");
                }
                self.rendered = true;
                self.failures = 0;
                self.due = now + REFRESH_EVERY + Jitter::draw().of(REFRESH_SPREAD);
            }
            Err(error) => {
                let text = agent_runtime::with_causes(&error);
                if self.failures == 0 {
                    tracing::warn!("the secrets stay as they are: {text}");
                } else {
                    tracing::debug!("the secrets stay as they are: {text}");
                }
                self.due = now + RETRY_DELAYS.delay(self.failures, Jitter::draw());
                self.failures = self.failures.saturating_add(1);
            }
        }
    }
}

fn report(status: &mut StatusFile, approle: &AppRole, refresh: &Refresh, fresh_for: Duration) {
    let now = BootTime::now();
    let left = approle.expires().map_or(Duration::ZERO, |expires| expires.saturating_since(now));
    let open = !left.is_zero();
    let state = match (open, refresh.rendered) {
        (true, true) => "logged in, secrets rendered",
        (true, false) => "logged in, secrets not rendered yet",
        (false, true) => "not logged in, the last secrets stay",
        (false, false) => "not logged in",
    };
    // Whole minutes: a status that changes each second would be written each second.
    let details = Details { token_ttl: left.as_secs() / 60 * 60, failures: refresh.failures };
    status.report(open && refresh.rendered, state, fresh_for, details);
}
