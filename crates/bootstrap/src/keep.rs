//! `bootstrap run`: the credentials stay fresh for as long as it runs.
//!
//! Secret IDs live an hour and tokens four at most, so that a stack whose credentials nobody renews stops
//! within four hours. Each look asks the server itself what every service's secret ID is still good for:
//! nothing is judged by a timer, a file's time stamp or this machine's wall clock.

use std::convert::Infallible;
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
#[derive(Debug, Default)]
struct Looks {
    due: BootTime,
    failures: u32,
    /// The last look was denied everything, with a token that was new then.
    denied: bool,
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
    let mut looks = Looks { services: deliveries.len(), ..Looks::default() };
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
                if approle.perform(action).await == Progress::Opened && looks.failures == 0 {
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
                    let failures = look(&client, deliveries, own).await;
                    if looks.may_have_lapsed(&failures, deliveries.len() + 1) {
                        // A token that was revoked is denied everything: a new one is worth one attempt.
                        approle.lapsed();
                        continue;
                    }
                    looks.settle(&failures);
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
///
/// One that fails does not hold up the others; gives what failed.
async fn look(client: &VaultClient, deliveries: &[Delivery], own: &Delivery) -> Vec<BootstrapError> {
    let all: Vec<Delivery> = deliveries.iter().chain([own]).cloned().collect();
    let looked = for_each(all, |delivery| {
        let client = client.clone();
        async move { Ok::<_, Infallible>(delivery.refresh(&client, OVERLAP).await) }
    });
    let Ok(results) = looked.await;
    results.into_iter().filter_map(Result::err).collect()
}

impl Looks {
    /// Whether this is the first look in a row that was denied everything it asked for.
    fn may_have_lapsed(&mut self, failures: &[BootstrapError], asked: usize) -> bool {
        let denied = failures.len() == asked && failures.iter().all(|error| error.exit() == Exit::Denied);
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
            self.due = now + LOOK_EVERY;
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
        let pause = if away { RETRY_DELAYS.delay(self.failures, Jitter::draw()) } else { LOOK_EVERY };
        self.due = now + pause;
        self.failures = self.failures.saturating_add(1);
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
