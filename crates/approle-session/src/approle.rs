//! The driver: carries out what the [`Session`] decides.

use std::hash::RandomState;
use std::path::PathBuf;
use std::time::Duration;

use agent_runtime::{Exit, Failure, Shutdown, Stopped};
use backoff::Jitter;
use boot_clock::BootTime;
use secrecy::SecretString;
use vault_client::token::Auth;
use vault_client::{VaultClient, VaultError, approle, token};

use crate::{Action, Credentials, CredentialsError, Event, Lease, LoginArgs, Reason, Session, Step, Timing};

/// Between two looks at the credentials directory.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The longest pause between two attempts of one service among many while Vault is away.
const RETRY_EVERY: Duration = Duration::from_secs(15);

/// Between two lines that say what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// What a program that is told to stop leaves an action to end by itself, and then the last revocations: it
/// has ten seconds in all.
const GRACE: Duration = Duration::from_secs(3);
const FAREWELL: Duration = Duration::from_secs(2);

/// An AppRole's login, kept alive.
pub struct AppRole {
    client: VaultClient,
    directory: PathBuf,
    mount: String,
    session: Session,
    fingerprint_key: RandomState,
    credentials: Option<Credentials>,
    token: Option<SecretString>,
    retired: Option<SecretString>,
    problem: Option<Problem>,
    waited: Waited,
}

/// What the last thing that went wrong was.
#[derive(Debug)]
enum Problem {
    Credentials(CredentialsError),
    Vault(VaultError),
}

struct Waited {
    since: BootTime,
    said: BootTime,
}

/// What came of an [`AppRole::perform`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is a new token.
    Opened,
    /// The token is the same, or there is none.
    Unchanged,
}

/// No login within the time there was.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The directory holds no credentials.
    #[error("no AppRole credentials came to {directory} within {waited:?}; bootstrap delivers them there")]
    NoCredentials {
        /// The credentials directory.
        directory: PathBuf,
        /// How long it was waited for.
        waited: Duration,
        /// What was found instead.
        #[source]
        cause: Option<CredentialsError>,
    },
    /// Vault does not take the credentials.
    #[error(
        "Vault refuses the AppRole credentials in {directory}: expired, destroyed or of another Vault; \
         bootstrap delivers new ones (waited {waited:?})"
    )]
    Refused {
        /// The credentials directory.
        directory: PathBuf,
        /// How long other ones were waited for.
        waited: Duration,
        /// Vault's answer.
        #[source]
        cause: Option<VaultError>,
    },
    /// Vault did not answer.
    #[error("no AppRole login within {waited:?}")]
    Unavailable {
        /// How long it was tried.
        waited: Duration,
        /// The last attempt.
        #[source]
        cause: Option<VaultError>,
    },
    /// The program was told to stop before there was a login.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Failure for LoginError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoCredentials { .. } => Exit::Config,
            Self::Refused { .. } => Exit::Denied,
            Self::Unavailable { .. } => Exit::Unavailable,
            Self::Stopped(stopped) => stopped.exit(),
        }
    }
}

impl AppRole {
    /// A login that is yet to be made, by `client` with the credentials that `args` name.
    #[must_use]
    pub fn new(client: VaultClient, args: &LoginArgs) -> Self {
        let now = BootTime::now();
        let give_up = Some(now + args.wait);
        let timing = Timing { look_every: LOOK_EVERY, retry_every: RETRY_EVERY, give_up };
        Self {
            client,
            directory: args.credentials_dir.clone(),
            mount: args.approle_mount.clone(),
            session: Session::new(timing),
            fingerprint_key: RandomState::new(),
            credentials: None,
            token: None,
            retired: None,
            problem: None,
            waited: Waited { since: now, said: now },
        }
    }

    /// The same, with at most this pause between two attempts while Vault is away: for the one whom all others wait
    /// for.
    #[must_use]
    pub fn retrying_every(mut self, pause: Duration) -> Self {
        self.session.timing.retry_every = pause;
        self
    }

    /// Whether the last login was refused or denied, and nothing but other credentials will change that.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.client().is_none()
            && matches!(self.session.reason(), Reason::Refused | Reason::Denied | Reason::NoCredentials)
    }

    /// Waits for the first login and gives a client that speaks with its token.
    ///
    /// Whatever comes of it, [`close`](Self::close) is to follow.
    pub async fn open(&mut self, shutdown: &Shutdown) -> Result<VaultClient, LoginError> {
        loop {
            if let Some(client) = self.client() {
                return Ok(client);
            }
            match self.next() {
                Step::Do(action) => {
                    self.perform(action, shutdown).await?;
                }
                Step::SleepUntil(when) => {
                    let say = self.waited.said + SAY_EVERY;
                    shutdown.sleep_until(when.min(say)).await?;
                    self.say_what_is_waited_for();
                }
                Step::Failed(reason) => return Err(self.failure(reason)),
            }
        }
    }

    /// A client that speaks with the token, while there is one that has not expired.
    #[must_use]
    pub fn client(&self) -> Option<VaultClient> {
        let token = self.token.as_ref().filter(|_| self.session.is_open(BootTime::now()))?;
        Some(self.client.with_token(token.clone()))
    }

    /// When the token expires, if it is not renewed.
    #[must_use]
    pub fn expires(&self) -> Option<BootTime> {
        self.session.expires()
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self) -> Step {
        self.session.next(BootTime::now())
    }

    /// Does it. An action is left a moment to end once a stop is ordered: a login that is cut off leaves a
    /// token that nobody revokes.
    pub async fn perform(&mut self, action: Action, shutdown: &Shutdown) -> Result<Progress, Stopped> {
        let event = shutdown.or_stop_after(GRACE, self.act(action)).await?;
        self.session.handle(BootTime::now(), event, Jitter::draw());
        Ok(if matches!(event, Event::Opened(_)) { Progress::Opened } else { Progress::Unchanged })
    }

    async fn act(&mut self, action: Action) -> Event {
        match action {
            Action::ReadCredentials => self.read_credentials(),
            Action::Login => self.log_in().await,
            Action::Renew => self.renew().await,
            Action::Revoke => self.revoke_retired().await,
        }
    }

    /// Tells the session that Vault denied what the token must be allowed: it logs in anew.
    pub fn lapsed(&mut self) {
        self.retired = self.token.take();
        self.session.handle(BootTime::now(), Event::Lapsed, Jitter::NONE);
    }

    /// Revokes what tokens there are. One that cannot be revoked now ends by its own TTL.
    pub async fn close(self) {
        let by = tokio::time::Instant::now() + FAREWELL;
        for token in [self.token, self.retired].into_iter().flatten() {
            if let Err(error) = token::revoke_self(&self.client.with_token(token), by).await {
                tracing::warn!("the token was not revoked and ends by its own TTL: {error}");
            }
        }
    }

    fn read_credentials(&mut self) -> Event {
        match Credentials::read(&self.directory) {
            Ok(found) => {
                let fingerprint = found.fingerprint(&self.fingerprint_key);
                self.credentials = Some(found);
                Event::Credentials(fingerprint)
            }
            Err(error) => {
                self.problem = Some(Problem::Credentials(error));
                Event::NoCredentials
            }
        }
    }

    async fn log_in(&mut self) -> Event {
        // The session asks for a login only after credentials were read.
        let Some(Credentials { role_id, secret_id }) = &self.credentials else { return Event::NoCredentials };
        match approle::login(&self.client, &self.mount, role_id, secret_id, self.client.soon()).await {
            Ok(auth) => {
                let event = Event::Opened(lease(&auth));
                let replaced = self.token.replace(auth.client_token);
                self.retired = replaced.filter(|_| self.session.is_open(BootTime::now()));
                tracing::info!(ttl = ?auth.lease_duration, "logged in by AppRole");
                event
            }
            Err(error) => self.judge_login(error),
        }
    }

    fn judge_login(&mut self, error: VaultError) -> Event {
        let event = match &error {
            VaultError::Refused { .. } => Event::Refused,
            VaultError::Denied { .. } => Event::Denied,
            transient => Event::Unavailable { retry_after: transient.retry_after() },
        };
        match event {
            Event::Refused | Event::Denied => tracing::warn!("the AppRole login failed: {error}"),
            _ => tracing::debug!("the AppRole login failed: {error}"),
        }
        self.problem = Some(Problem::Vault(error));
        event
    }

    async fn renew(&mut self) -> Event {
        let Some(client) = self.client() else { return Event::Lapsed };
        match token::renew_self(&client, client.soon()).await {
            Ok(auth) => {
                tracing::debug!(ttl = ?auth.lease_duration, "renewed the token");
                Event::Renewed(lease(&auth))
            }
            Err(error @ VaultError::Denied { .. }) => {
                tracing::warn!("the token was revoked or has expired, logging in anew: {error}");
                self.retired = self.token.take();
                Event::Lapsed
            }
            Err(error) => {
                tracing::warn!("the token could not be renewed, trying again: {error}");
                let retry_after = error.retry_after();
                self.problem = Some(Problem::Vault(error));
                Event::Unavailable { retry_after }
            }
        }
    }

    async fn revoke_retired(&mut self) -> Event {
        if let Some(token) = self.retired.take() {
            let client = self.client.with_token(token);
            match token::revoke_self(&client, client.soon()).await {
                // It was dead already.
                Ok(()) | Err(VaultError::Denied { .. }) => {}
                Err(error) => {
                    tracing::warn!("the replaced token was not revoked and ends by its own TTL: {error}");
                }
            }
        }
        Event::Revoked
    }

    fn say_what_is_waited_for(&mut self) {
        let now = BootTime::now();
        if now < self.waited.said + SAY_EVERY {
            return;
        }
        self.waited.said = now;
        let waited = now.saturating_since(self.waited.since).as_secs();
        match self.session.reason() {
            Reason::NoCredentials => {
                tracing::info!(
                    "waiting for AppRole credentials in {} ({waited} s)",
                    self.directory.display()
                );
            }
            Reason::Refused | Reason::Denied => {
                tracing::info!(
                    "waiting for other AppRole credentials in {} ({waited} s)",
                    self.directory.display()
                );
            }
            Reason::Unavailable => {
                if let Some(Problem::Vault(error)) = &self.problem {
                    tracing::info!("waiting for Vault ({waited} s): {error}");
                }
            }
        }
    }

    /// Why there is no login, after a [`Step::Failed`].
    pub fn failure(&mut self, reason: Reason) -> LoginError {
        let waited = Duration::from_secs(BootTime::now().saturating_since(self.waited.since).as_secs());
        let directory = self.directory.clone();
        let problem = self.problem.take();
        let vault = |problem| if let Some(Problem::Vault(error)) = problem { Some(error) } else { None };
        match reason {
            Reason::NoCredentials => LoginError::NoCredentials {
                directory,
                waited,
                cause: if let Some(Problem::Credentials(error)) = problem { Some(error) } else { None },
            },
            Reason::Refused | Reason::Denied => {
                LoginError::Refused { directory, waited, cause: vault(problem) }
            }
            Reason::Unavailable => LoginError::Unavailable { waited, cause: vault(problem) },
        }
    }
}

impl std::fmt::Debug for AppRole {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("AppRole").field("directory", &self.directory).finish_non_exhaustive()
    }
}

const fn lease(auth: &Auth) -> Lease {
    Lease { ttl: auth.lease_duration, renewable: auth.renewable }
}
