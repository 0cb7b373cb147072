//! `bootstrap run`: the credentials stay fresh for as long as it runs.
//!
//! Secret IDs live an hour and tokens four at most, so that a stack whose credentials nobody renews stops
//! within four hours. Each look asks the server itself what every service's secret ID is still good for:
//! nothing is judged by a timer, a file's time stamp or this machine's wall clock.

use std::convert::Infallible;
use std::time::Duration;

use agent_runtime::{Exit, Failure as _, Shutdown, StatusFile};
use approle_session::{AppRole, LoginArgs, LoginError, Progress, Step};
use backoff::{Jitter, Policy};
use boot_clock::BootTime;
use serde::Serialize;
use vault_client::{VaultClient, VaultError};

use crate::BootstrapError;
use crate::apply::{deliver_all, make, token};
use crate::args::{Prune, Sources, Stack};
use crate::deliver::Delivery;
use crate::desired::Desired;
use crate::lock;
use crate::{deliver, own};

/// Between two looks at everything, and so often at least within the life of a secret ID: it is replaced when
/// half of that is over.
const LOOK_EVERY: Duration = Duration::from_mins(1);
const LOOKS_IN_A_LIFE: u32 = 8;

/// Never more often than this, however short the lives.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// Between two attempts while a look fails: Vault's return is noticed within two seconds.
const RETRY_DELAYS: Policy = match Policy::new(Duration::from_millis(500), Duration::from_secs(2)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

/// How long the status file can be believed.
const FRESH_FOR: Duration = Duration::from_mins(3);

/// How the last look went.
#[derive(Debug, Default)]
struct Looks {
    every: Duration,
    due: BootTime,
    failures: u32,
    /// The last look was denied everything, with a token that was new then.
    denied: bool,
    succeeded: bool,
    logged_in: bool,
    services: usize,
}

#[derive(Serialize)]
struct Details {
    services: usize,
    failures: u32,
}

/// Applies once while there is a token for it, then keeps the credentials fresh until told to stop.
pub(crate) async fn run(
    client: VaultClient,
    sources: &Sources,
    stack: &Stack,
    mut status: StatusFile,
    shutdown: &Shutdown,
) -> Result<Exit, BootstrapError> {
    let desired = Desired::load(sources)?;
    let deliveries: Vec<Delivery> = desired.services.iter().map(|service| service.delivery(stack)).collect();
    let lives = desired.services.iter().map(|service| service.role.secret_id_ttl);
    let mut looks = Looks { every: look_every(lives), services: deliveries.len(), ..Looks::default() };
    // Vault and then the first login are waited for without another report.
    looks.report(&mut status, stack.wait * 2 + FRESH_FOR);
    match shutdown.or_stop(Box::pin(apply_once(&client, &desired, stack))).await {
        Ok(applied) => applied?,
        Err(_) => return Ok(Exit::Done),
    }

    let login = LoginArgs {
        credentials_dir: stack.state_dir.clone(),
        approle_mount: own::MOUNT.to_owned(),
        wait: stack.wait,
    };
    let mut approle = AppRole::new(client, &login);
    let kept = match approle.open(shutdown).await {
        Ok(_) => {
            let all = deliveries.into_iter().chain([own::delivery(stack, &desired.mark)]).collect();
            keep(&mut approle, all, &mut looks, &mut status, shutdown).await
        }
        Err(error) => Err(error),
    };
    approle.close().await;
    match kept {
        Err(LoginError::Stopped(_)) => Ok(Exit::Done),
        other => other.map(|never| match never {}).map_err(BootstrapError::OwnLogin),
    }
}

/// Applies where there is a token that may. Without one, and with one that is no longer good, what is in Vault
/// stays as it is, and the credentials are kept fresh all the same.
async fn apply_once(client: &VaultClient, desired: &Desired, stack: &Stack) -> Result<(), BootstrapError> {
    let denied = |error: &BootstrapError| {
        matches!(error, BootstrapError::Vault { cause: VaultError::Denied { .. }, .. })
    };
    let root = match token(stack) {
        Ok(token) => client.with_token(token),
        Err(BootstrapError::NoToken { cause, .. }) if cause.is_not_found() => {
            tracing::info!("there is no root token: policies and secrets stay as they are in Vault");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let _lock = lock::take(stack).await?;
    match make(&root, desired, stack, Prune::default()).await {
        Ok(_) => {
            // The first look tries those again that fail.
            for error in deliver_all(&root, desired, stack).await.failures {
                tracing::warn!("{}", agent_runtime::with_causes(&error));
            }
            Ok(())
        }
        Err(error) if denied(&error) => {
            tracing::warn!(
                "the root token is not taken any more: policies and secrets stay as they are in Vault"
            );
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Goes on until told to stop.
async fn keep(
    approle: &mut AppRole,
    deliveries: Vec<Delivery>,
    looks: &mut Looks,
    status: &mut StatusFile,
    shutdown: &Shutdown,
) -> Result<Infallible, LoginError> {
    loop {
        let now = BootTime::now();
        match approle.next() {
            Step::Do(action) => {
                if approle.perform(action, shutdown).await? == Progress::Opened && looks.failures == 0 {
                    looks.due = now;
                }
            }
            Step::SleepUntil(when) if now < looks.due => {
                approle.wait_until(when.min(looks.due), shutdown).await?;
            }
            Step::SleepUntil(when) => match approle.client() {
                Some(client) => {
                    let results = shutdown.or_stop(deliver::refresh_all(&client, deliveries.clone())).await?;
                    let failures: Vec<_> = results.into_iter().filter_map(Result::err).collect();
                    if looks.may_have_lapsed(&failures, deliveries.len()) {
                        // A token that was revoked is denied everything: a new one is worth one attempt.
                        approle.lapsed();
                    } else {
                        looks.settle(&failures);
                    }
                }
                // The next login makes the look due.
                None => approle.wait_until(when, shutdown).await?,
            },
            Step::Failed(reason) => return Err(approle.failure(reason)),
        }
        looks.logged_in = approle.client().is_some();
        looks.report(status, FRESH_FOR);
    }
}

fn look_every(lives: impl Iterator<Item = Duration>) -> Duration {
    // A life of zero is one without an end.
    let shortest = lives.filter(|life| !life.is_zero()).min().unwrap_or(LOOK_EVERY * LOOKS_IN_A_LIFE);
    (shortest / LOOKS_IN_A_LIFE).clamp(LOOK_AT_MOST_EVERY, LOOK_EVERY)
}

impl Looks {
    /// Whether this is the first look in a row that was denied everything it asked for.
    fn may_have_lapsed(&mut self, failures: &[BootstrapError], asked: usize) -> bool {
        let is_denied = |error: &BootstrapError| {
            matches!(error, BootstrapError::Vault { cause: VaultError::Denied { .. }, .. })
        };
        let denied = failures.len() == asked && failures.iter().all(is_denied);
        !std::mem::replace(&mut self.denied, denied) && denied
    }

    fn settle(&mut self, failures: &[BootstrapError]) {
        let now = BootTime::now();
        if failures.is_empty() {
            if self.failures > 0 {
                tracing::info!("every service's credentials are fresh again");
            }
            self.succeeded = true;
            self.failures = 0;
            self.due = now + self.every;
            return;
        }
        for error in failures {
            let text = agent_runtime::with_causes(error);
            if self.failures == 0 {
                tracing::warn!("{text}; trying again");
            } else {
                tracing::debug!("{text}; trying again");
            }
        }
        // Vault's return is waited for in seconds; what somebody has to mend, in minutes.
        let away = failures.iter().any(|error| error.exit() == Exit::Unavailable);
        let pause = if away { RETRY_DELAYS.delay(self.failures, Jitter::draw()) } else { self.every };
        self.due = now + pause;
        self.failures = self.failures.saturating_add(1);
    }

    fn report(&self, status: &mut StatusFile, fresh_for: Duration) {
        let ready = self.succeeded && self.failures == 0 && self.logged_in;
        let state = if ready {
            "every service's credentials are fresh"
        } else if self.succeeded && !self.logged_in {
            "not logged in with bootstrap's own credential"
        } else if self.succeeded {
            "the last look at the credentials failed"
        } else {
            "starting"
        };
        status.report(ready, state, fresh_for, Details { services: self.services, failures: self.failures });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_a_minute_apart_or_eight_in_a_life() {
        let every = |lives: &[u64]| look_every(lives.iter().map(|life| Duration::from_secs(*life)));
        assert_eq!(every(&[3600, 7200]), LOOK_EVERY);
        assert_eq!(every(&[3600, 80]), Duration::from_secs(10));
        assert_eq!(every(&[3600, 1]), LOOK_AT_MOST_EVERY);
        assert_eq!(every(&[]), LOOK_EVERY);
        assert_eq!(every(&[0]), LOOK_EVERY);
    }

    #[test]
    fn what_is_away_is_tried_again_soon_and_what_is_denied_is_not() {
        let error = |cause| BootstrapError::Vault { doing: String::new(), cause };
        let request =
            || Box::new(vault_client::RequestLine { method: "GET".parse().unwrap(), url: String::new() });
        let mut looks = Looks { every: LOOK_EVERY, ..Looks::default() };
        looks.settle(&[error(VaultError::Sealed { request: request() })]);
        assert!(looks.due <= BootTime::now() + Duration::from_secs(2));
        looks.settle(&[error(VaultError::Denied { request: request(), messages: Vec::new() })]);
        assert!(looks.due > BootTime::now() + Duration::from_secs(50));
        assert_eq!(looks.failures, 2);
    }
}
