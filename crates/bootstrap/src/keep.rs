//! `bootstrap run`: the credentials stay fresh for as long as it runs.
//!
//! Secret IDs live an hour and tokens four at most, so that a stack whose credentials nobody renews stops
//! within four hours. Each look asks the server itself what every service's secret ID is still good for:
//! nothing is judged by a timer, a file's time stamp or this machine's wall clock.

use std::time::Duration;

use agent_runtime::{Exit, Failure as _, Shutdown, StatusFile, Stopped};
use approle_session::{AppRole, LoginArgs, Progress, Step};
use backoff::{Jitter, Policy};
use boot_clock::BootTime;
use serde::Serialize;
use vault_client::{VaultClient, VaultError};

use crate::BootstrapError;
use crate::apply::{apply, token};
use crate::args::{Sources, Stack};
use crate::concurrent::for_each;
use crate::deliver::Delivery;
use crate::desired::Desired;
use crate::own;

/// How long a replaced secret ID lives on beside the new one.
pub(crate) const OVERLAP: Duration = Duration::from_mins(2);

/// Between two looks at everything.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Between two attempts while a look fails: Vault's return is noticed within two seconds.
const RETRY_DELAYS: Policy = match Policy::new(Duration::from_millis(500), Duration::from_secs(2)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

/// How long the status file can be believed.
const FRESH_FOR: Duration = Duration::from_mins(3);

/// How the last look went.
#[derive(Debug)]
struct Looks {
    due: BootTime,
    failures: u32,
    succeeded: bool,
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
    let mut looks = Looks { due: BootTime::now(), failures: 0, succeeded: false, services: deliveries.len() };
    // Vault and then the first login are waited for without another report.
    looks.report(&mut status, stack.wait * 2 + FRESH_FOR);
    match shutdown.or_stop(apply_once(&client, &desired, stack)).await {
        Ok(applied) => applied?,
        Err(Stopped) => return Ok(Exit::Done),
    }

    let login = LoginArgs {
        credentials_dir: stack.state_dir.clone(),
        approle_mount: own::MOUNT.to_owned(),
        wait: stack.wait,
    };
    let mut approle = AppRole::new(client, &login);
    match shutdown.or_stop(approle.open()).await {
        Ok(opened) => opened.map_err(BootstrapError::OwnLogin)?,
        Err(Stopped) => return Ok(Exit::Done),
    };
    keep(&mut approle, &deliveries, &own::delivery(stack), &mut looks, &mut status, shutdown).await;
    approle.close().await;
    Ok(Exit::Done)
}

/// Applies where there is a token that may. Without one, and with one that is no longer good, what is in Vault
/// stays as it is, and the credentials are kept fresh all the same.
async fn apply_once(client: &VaultClient, desired: &Desired, stack: &Stack) -> Result<(), BootstrapError> {
    let denied = |error: &BootstrapError| {
        matches!(error, BootstrapError::Vault { cause: VaultError::Denied { .. }, .. })
    };
    let applied = match token(stack) {
        Ok(token) => apply(&client.with_token(token), desired, stack).await.map(drop),
        Err(BootstrapError::NoToken { cause, .. }) if cause.is_not_found() => {
            tracing::info!("there is no root token: policies and secrets stay as they are in Vault");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    match applied {
        Err(error) if denied(&error) => {
            tracing::warn!(
                "the root token is not taken any more: policies and secrets stay as they are in Vault"
            );
            Ok(())
        }
        applied => applied,
    }
}

async fn keep(
    approle: &mut AppRole,
    deliveries: &[Delivery],
    own: &Delivery,
    looks: &mut Looks,
    status: &mut StatusFile,
    shutdown: &Shutdown,
) {
    while !shutdown.is_ordered() {
        match approle.next() {
            // An action is driven to its end: a login that is cut off leaves a token that nobody revokes.
            Step::Do(action) => {
                if approle.perform(action).await == Progress::Opened {
                    looks.due = BootTime::now();
                }
            }
            Step::SleepUntil(when) if BootTime::now() < looks.due => {
                if shutdown.sleep_until(when.min(looks.due)).await.is_err() {
                    return;
                }
            }
            Step::SleepUntil(_) => match approle.client() {
                Some(client) => {
                    let result = look(&client, deliveries, own).await;
                    if result.as_ref().is_err_and(is_denied) {
                        approle.lapsed();
                    }
                    looks.settle(result);
                }
                None => looks.due = BootTime::now() + LOOK_EVERY,
            },
            // A session that was open once never gives up.
            Step::Failed(_) => return,
        }
        looks.report(status, FRESH_FOR);
    }
}

/// Looks at every service and at bootstrap's own credential, and delivers where that is due.
async fn look(client: &VaultClient, deliveries: &[Delivery], own: &Delivery) -> Result<(), BootstrapError> {
    let all: Vec<Delivery> = deliveries.iter().chain([own]).cloned().collect();
    for_each(all, |delivery| {
        let client = client.clone();
        async move { delivery.refresh(&client, OVERLAP).await }
    })
    .await
    .map(drop)
}

fn is_denied(error: &BootstrapError) -> bool {
    error.exit() == Exit::Denied
}

impl Looks {
    fn settle(&mut self, result: Result<(), BootstrapError>) {
        let now = BootTime::now();
        match result {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!("every service's credentials are fresh again");
                }
                self.succeeded = true;
                self.failures = 0;
                self.due = now + LOOK_EVERY;
            }
            Err(error) => {
                let text = agent_runtime::with_causes(&error);
                if self.failures == 0 {
                    tracing::warn!("{text}; trying again");
                } else {
                    tracing::debug!("{text}; trying again");
                }
                self.due = now + RETRY_DELAYS.delay(self.failures, Jitter::draw());
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    fn report(&self, status: &mut StatusFile, fresh_for: Duration) {
        let ready = self.succeeded && self.failures == 0;
        let state = if ready {
            "every service's credentials are fresh"
        } else if self.succeeded {
            "the last look at the credentials failed"
        } else {
            "starting"
        };
        status.report(ready, state, fresh_for, Details { services: self.services, failures: self.failures });
    }
}
