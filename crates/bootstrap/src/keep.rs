//! `bootstrap run`: the credentials stay fresh for as long as it runs.
//!
//! Secret IDs live an hour and tokens four at most, so that a stack whose credentials nobody renews stops
//! within four hours. Each look asks the server itself what every service's secret ID is still good for:
//! nothing is judged by a timer, a file's time stamp or this machine's wall clock (`looks`).
//!
//! Policies and secrets follow the files while there is a root token (`follow`, `files`). Whatever is wrong with the files, with
//! that token or with an apply, the credentials of the last apply are looked after all the same.

mod files;
mod follow;
mod hand;
mod looks;

use std::convert::Infallible;
use std::time::Duration;

use agent_runtime::{Exit, Shutdown, StatusFile};
use approle_session::{AppRole, LoginArgs, Progress, Step};
use boot_clock::BootTime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use vault_client::{VaultClient, VaultError, sys, token};

use crate::BootstrapError;
use crate::args::{Sources, Stack};
use crate::deliver::{self, Delivery};
use crate::desired::Desired;
use crate::healthcheck::Details;
use crate::kept::Kept;
use crate::own::{self, Hands};
use crate::revoke_root::Root;
use crate::{apply, args, revoke_root};
use files::{Course, Files};
use hand::Hand;
use looks::Looks;

/// How long the status file can be believed.
const FRESH_FOR: Duration = Duration::from_mins(3);

/// How long one answer is waited for until Vault counts as away.
const PATIENCE: Duration = Duration::from_secs(5);

/// What keeps the credentials fresh.
struct Keeper<'a> {
    client: VaultClient,
    sources: &'a Sources,
    stack: &'a Stack,
    shutdown: &'a Shutdown,
    kept: Kept,
    deliveries: Vec<Delivery>,
    files: Files,
    approle: AppRole,
    /// Vault's last word while it was away.
    away: Option<VaultError>,
    /// It was told that there is nobody who could look.
    is_idle_told: bool,
    /// The root token is to go.
    revokes_root: bool,
    /// Why it has not, as it was told.
    root_stays: Option<&'static str>,
    looks: Looks,
    status: StatusFile,
}

/// Applies while there is a token for it, and keeps the credentials fresh, until told to stop.
pub(crate) async fn run(
    client: VaultClient,
    sources: &Sources,
    stack: &Stack,
    root: args::Root,
    status: StatusFile,
    shutdown: &Shutdown,
) -> Result<Exit, BootstrapError> {
    let mut hangup = signal(SignalKind::hangup()).ok();
    let mut kept = Kept::open(&stack.state_dir)?;
    if kept.files.is_none() {
        // Without a record there is nothing to keep fresh but what the files declare.
        kept = kept.or_declared(&Desired::load_for(stack, sources)?);
    }
    let mut keeper = Keeper {
        approle: own_session(&client, stack, stack.wait),
        deliveries: kept.deliveries(stack),
        files: Files::new(kept.files.clone()),
        looks: Looks::new(kept.lives().chain([stack.own_secret_id_ttl])),
        away: None,
        is_idle_told: false,
        revokes_root: root.revoke_root_token,
        root_stays: None,
        client,
        sources,
        stack,
        shutdown,
        kept,
        status,
    };
    let ended = keeper.keep(&mut hangup).await;
    keeper.approle.close().await;
    match ended {
        Err(BootstrapError::Stopped(_)) => Ok(Exit::Done),
        other => other.map(|never| match never {}),
    }
}

fn own_session(client: &VaultClient, stack: &Stack, wait: Duration) -> AppRole {
    let login =
        LoginArgs { credentials_dir: stack.state_dir.clone(), approle_mount: own::MOUNT.to_owned(), wait };
    AppRole::new(client.clone(), &login)
}

impl Keeper<'_> {
    /// Goes on until told to stop.
    async fn keep(&mut self, hangup: &mut Option<Signal>) -> Result<Infallible, BootstrapError> {
        loop {
            self.report();
            if BootTime::now() >= self.looks.due {
                let shutdown = self.shutdown;
                shutdown.or_stop(Box::pin(self.look())).await??;
                continue;
            }
            match self.approle.next() {
                Step::Do(action) => {
                    if self.approle.perform(action, self.shutdown).await? == Progress::Opened {
                        self.looks.due = BootTime::now();
                    }
                }
                Step::SleepUntil(when) => tokio::select! {
                    biased;
                    () = hung_up(hangup) => {
                        tracing::info!("told by SIGHUP to apply the files");
                        self.files.order();
                        self.looks.due = BootTime::now();
                    }
                    slept = self.approle.wait_until(when.min(self.looks.due), self.shutdown) => slept?,
                },
                Step::Failed(reason) => {
                    return Err(match self.away.take() {
                        Some(cause) => BootstrapError::vault("waiting for Vault")(cause),
                        None => BootstrapError::OwnLogin(self.approle.failure(reason)),
                    });
                }
            }
        }
    }

    /// Looks at everything once. An error only where nothing was ever applied.
    async fn look(&mut self) -> Result<(), BootstrapError> {
        let client = self.client.with_timeout(PATIENCE);
        if let Err(error) = sys::active(&client, Instant::now() + PATIENCE).await {
            self.looks.away(&error);
            self.away = Some(error);
            return Ok(());
        }
        self.away = None;
        if self.looks.back() && self.approle.client().is_none() {
            // The next attempt at a login may be two seconds away.
            self.log_in_anew();
        }
        let course = self.tend_files().await?;
        self.look_at_credentials().await;
        if course == Course::LookAgain {
            self.looks.soon();
        }
        Ok(())
    }

    async fn look_at_credentials(&mut self) {
        let Some(hand) = self.hand().await else { return self.looks.idle() };
        let hands = match &hand {
            Hand::Root(client) => Hands::one(client.clone()),
            Hand::Own(client) | Hand::Previous(client) => {
                Hands::of(client.clone(), self.kept.mark(), &self.deliveries).await
            }
        };
        let results = deliver::refresh_all(&hands, self.deliveries.clone()).await;
        // bootstrap's own is the last one.
        let has_new_own = matches!(results.last(), Some(Ok(refreshed)) if refreshed.is_new());
        if matches!(hand, Hand::Own(_)) && self.looks.may_have_lapsed(&results) {
            // A token that was revoked is denied everything: a new one is worth one attempt.
            self.approle.lapsed();
            return;
        }
        let lacks_something = results.iter().any(|result| {
            matches!(
                result,
                Err(BootstrapError::Vault {
                    cause: VaultError::Denied { .. } | VaultError::NotFound { .. },
                    ..
                })
            )
        });
        self.looks.settle(&self.deliveries, results);
        if lacks_something && self.looks.failures == 1 && apply::token(self.stack).is_ok() {
            // A role or a policy that somebody removed, or a restored snapshot does not have: root makes it again.
            self.files.order();
            self.looks.soon();
        }
        if self.revokes_root && matches!(hand, Hand::Own(_)) && self.looks.is_well() && !self.files.differ() {
            self.revoke_root().await;
        }
        if let Hand::Previous(client) = &hand {
            // One that is not revoked ends by its own TTL.
            let _ = token::revoke_self(client, client.soon()).await;
        }
        if !matches!(hand, Hand::Own(_)) && has_new_own {
            self.log_in_anew();
        }
    }

    /// Logs in at once with what lies in the state directory. Whoever was logged in before never gives up.
    fn log_in_anew(&mut self) {
        let wait = if self.looks.succeeded { Duration::MAX } else { self.stack.wait };
        self.approle = own_session(&self.client, self.stack, wait);
    }

    async fn revoke_root(&mut self) {
        let Ok(root) = apply::token(self.stack) else { return };
        let root = self.client.with_token(root);
        match revoke_root::revoke(&root, self.stack).await {
            Ok(Root::Revoked) => self.root_stays = None,
            Ok(Root::Stays(why)) => {
                if self.root_stays.replace(why) != Some(why) {
                    tracing::warn!("the root token stays: {why}");
                }
            }
            // It is tried again after the next look.
            Err(error) => tracing::debug!("{}", agent_runtime::with_causes(&error)),
        }
    }

    fn report(&mut self) {
        let (ready, mut state) = self.looks.state(self.approle.client().is_some());
        if self.files.differ() {
            state.push_str("; the files have changed and are not applied");
        }
        let details = Details {
            services: self.kept.len(),
            failures: self.looks.failures,
            credentials: self.looks.credentials().clone(),
        };
        // An apply may wait for Vault for as long as it is told to.
        let fresh_for = if self.looks.succeeded { FRESH_FOR } else { FRESH_FOR + self.stack.wait };
        self.status.report(ready, &state, fresh_for, details);
    }
}

/// Waits for SIGHUP.
async fn hung_up(hangup: &mut Option<Signal>) {
    let received = match hangup {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if received.is_none() {
        std::future::pending::<()>().await;
    }
}
