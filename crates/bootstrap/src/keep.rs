//! `bootstrap run`: the credentials stay fresh for as long as it runs.
//!
//! Secret IDs live an hour and tokens four at most, so that a stack whose credentials nobody renews stops
//! within four hours. Each look asks the server itself what every service's secret ID is still good for:
//! nothing is judged by a timer, a file's time stamp or this machine's wall clock.
//!
//! Policies and secrets follow the files while there is a root token (`files`). Whatever is wrong with the files, with
//! that token or with an apply, the credentials of the last apply are looked after all the same.

mod files;
mod looks;

use std::convert::Infallible;
use std::time::Duration;

use agent_runtime::{Exit, Failure as _, Shutdown, StatusFile};
use approle_session::{AppRole, Credentials, LoginArgs, Progress, Step};
use boot_clock::BootTime;
use secrecy::SecretString;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use vault_client::{VaultClient, VaultError, approle, sys, token};

use crate::BootstrapError;
use crate::apply::make;
use crate::args::{Prune, Sources, Stack};
use crate::deliver::{self, Delivery};
use crate::desired::Desired;
use crate::healthcheck::Details;
use crate::inputs::Inputs;
use crate::kept::Kept;
use crate::revoke_root::Root;
use crate::{apply, args, lock, own, revoke_root};
use files::{Course, Files, TokenMark};
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

/// Whose token the credentials are looked after by.
enum Hand {
    Own(VaultClient),
    Root(VaultClient),
    /// For one look.
    Previous(VaultClient),
}

impl Hand {
    const fn client(&self) -> &VaultClient {
        match self {
            Self::Own(client) | Self::Root(client) | Self::Previous(client) => client,
        }
    }
}

/// What an attempt to apply the files came to.
enum Applied {
    Done(Desired),
    /// It is tried again by itself.
    NotNow,
    /// It is for somebody to mend, who is told how.
    Impossible(String),
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
        approle: own_session(&client, stack),
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

fn own_session(client: &VaultClient, stack: &Stack) -> AppRole {
    let login = LoginArgs {
        credentials_dir: stack.state_dir.clone(),
        approle_mount: own::MOUNT.to_owned(),
        wait: stack.wait,
    };
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
        if let Err(error) = sys::unsealed(&client, Instant::now() + PATIENCE).await {
            self.looks.away(&error);
            self.away = Some(error);
            return Ok(());
        }
        self.away = None;
        self.looks.back();
        let course = self.tend_files().await?;
        self.look_at_credentials().await;
        if course == Course::LookAgain {
            self.looks.soon();
        }
        Ok(())
    }

    async fn look_at_credentials(&mut self) {
        let Some(hand) = self.hand().await else { return self.looks.idle() };
        let results = deliver::refresh_all(hand.client(), self.deliveries.clone()).await;
        // bootstrap's own is the last one.
        let has_new_own = matches!(results.last(), Some(Ok(refreshed)) if refreshed.is_new());
        if matches!(hand, Hand::Own(_)) && self.looks.may_have_lapsed(&results) {
            // A token that was revoked is denied everything: a new one is worth one attempt.
            self.approle.lapsed();
            return;
        }
        self.looks.settle(&self.deliveries, results);
        if self.revokes_root && matches!(hand, Hand::Own(_)) && self.looks.is_well() && !self.files.differ() {
            self.revoke_root().await;
        }
        if let Hand::Previous(client) = &hand {
            // One that is not revoked ends by its own TTL.
            let _ = token::revoke_self(client, client.soon()).await;
        }
        if !matches!(hand, Hand::Own(_)) && has_new_own {
            // It is logged in with at once.
            self.approle = own_session(&self.client, self.stack);
        }
    }

    /// By whose hand the credentials are looked after. Where bootstrap cannot log in with its own, by root's, or else by
    /// that of the credential before it, which Vault knows again after a snapshot was restored.
    async fn hand(&mut self) -> Option<Hand> {
        if let Some(client) = self.approle.client() {
            self.is_idle_told = false;
            return Some(Hand::Own(client));
        }
        if let Ok(root) = apply::token(self.stack) {
            let root = self.client.with_token(root);
            if matches!(token::is_valid(&root, root.soon()).await, Ok(true)) {
                return Some(Hand::Root(root));
            }
        }
        if !self.approle.is_refused() {
            return None;
        }
        let previous = self.stack.state_dir.join(own::PREVIOUS);
        if let Ok(Credentials { role_id, secret_id }) = Credentials::read(&previous) {
            let client = &self.client;
            if let Ok(auth) = approle::login(client, own::MOUNT, &role_id, &secret_id, client.soon()).await {
                tracing::warn!(
                    "Vault does not know bootstrap's own credential, but the one before it, as after a snapshot was \
                     restored: by that one another is made"
                );
                return Some(Hand::Previous(client.with_token(auth.client_token)));
            }
        }
        if self.looks.succeeded && !std::mem::replace(&mut self.is_idle_told, true) {
            tracing::error!(
                "Vault does not take bootstrap's own credential in {}: nobody replaces the services' credentials, which \
                 end one by one. Run unsealer generate-root: bootstrap then makes another within a minute, or at once \
                 by SIGHUP",
                self.stack.state_dir.display()
            );
        }
        None
    }

    /// Applies the files where they are not what was applied, or somebody ordered it.
    async fn tend_files(&mut self) -> Result<Course, BootstrapError> {
        let now = self.kept.look_at(self.sources);
        let token = apply::token(self.stack);
        let mark: TokenMark = token.as_ref().ok().map(|token| self.kept.digest(token));
        let course = self.files.course(&now, &mark);
        if course != Course::Apply {
            return Ok(course);
        }
        let is_first = self.kept.files.is_none() && !deliver::is_delivered(&self.stack.state_dir);
        match self.apply(token, &now).await {
            Ok(Applied::Done(desired)) => {
                self.files.applied(now.clone());
                self.kept.note(&desired, now, &self.stack.state_dir)?;
                self.deliveries = self.kept.deliveries(self.stack);
                let lives = self.kept.lives().chain([self.stack.own_secret_id_ttl]);
                self.looks.change(lives, &self.deliveries);
            }
            Ok(Applied::NotNow) => {}
            Ok(Applied::Impossible(why)) => {
                tracing::warn!("{why}");
                self.files.told(now, mark);
            }
            Err(error) if is_first && error.exit() != Exit::Unavailable => return Err(error),
            Err(error) if error.exit() == Exit::Unavailable => {
                tracing::debug!("the files are not applied yet: {}", agent_runtime::with_causes(&error));
            }
            Err(error) => {
                tracing::error!(
                    "the files are not applied, and what was applied last is kept fresh until that is mended: {}",
                    agent_runtime::with_causes(&error)
                );
                self.files.told(now, mark);
            }
        }
        Ok(course)
    }

    async fn apply(
        &mut self,
        token: Result<SecretString, BootstrapError>,
        now: &Inputs,
    ) -> Result<Applied, BootstrapError> {
        let desired = Desired::load_for(self.stack, self.sources)?;
        let root = match token {
            Ok(token) => self.client.with_token(token),
            Err(BootstrapError::NoToken { cause, .. }) if cause.is_not_found() => {
                return Ok(Applied::Impossible(self.drift(now, "there is no root token")));
            }
            Err(error) => return Err(error),
        };
        let Some(_lock) = lock::try_take(self.stack)? else {
            tracing::info!("another bootstrap is applying; the files are looked at again when it has ended");
            return Ok(Applied::NotNow);
        };
        match make(&root, &desired, self.stack, Prune::default()).await {
            Ok(_) => Ok(Applied::Done(desired)),
            Err(BootstrapError::Vault { cause: VaultError::Denied { .. }, .. })
                if !token::is_valid(&root, root.soon()).await.unwrap_or(true) =>
            {
                Ok(Applied::Impossible(self.drift(now, "the root token is not taken any more")))
            }
            Err(error) => Err(error),
        }
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

    /// What is not applied, why, and how it would be.
    fn drift(&self, now: &Inputs, why: &str) -> String {
        let changes = self.files.applied.as_ref().map(|applied| now.changes_since(applied));
        match changes {
            Some(changes) if !changes.is_empty() => format!(
                "changed since the last apply, and not applied since {why}: {}. The credentials are kept fresh all the \
                 same. To apply it: unsealer generate-root; it is done within a minute, or at once by SIGHUP; then \
                 unsealer revoke-root",
                changes.join(", ")
            ),
            _ => format!("{why}: policies and secrets stay as they are in Vault"),
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
