//! The driver: carries out what the [`Session`] decides.

use std::hash::RandomState;
use std::time::Duration;

use agent_runtime::{Shutdown, Stopped};
use backoff::Jitter;
use boot_clock::{BootTime, sleep_until};
use secrecy::SecretString;
use vault_client::token::Auth;
use vault_client::{VaultClient, VaultError, approle, sys, token};

use crate::waiting::{Problem, Waiting};
use crate::watch::Watch;
use crate::{Action, Credentials, Event, Lease, LoginArgs, LoginError, Reason, Session, Sink, Step, Timing};

/// Between two looks at the credentials directory: where its changes are told, and where they are not.
const LOOK_EVERY_WATCHED: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a program that is told to stop leaves an action to end by itself, and then the last revocations: it
/// has ten seconds in all.
const GRACE: Duration = Duration::from_secs(3);
const FAREWELL: Duration = Duration::from_secs(2);

/// An AppRole's login, kept alive.
pub struct AppRole {
    client: VaultClient,
    mount: String,
    session: Session,
    fingerprint_key: RandomState,
    credentials: Option<Credentials>,
    token: Option<SecretString>,
    retired: Option<SecretString>,
    /// Requests fail, and that was said.
    in_trouble: bool,
    /// The token is not renewed, and that was said.
    is_declined: bool,
    waiting: Waiting,
    watch: Watch,
    sink: Option<Sink>,
    tally: Tally,
}

/// What an [`AppRole`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Logins that gave a token.
    pub logins: u64,
    /// Renewals that were granted.
    pub renewals: u64,
    /// When the credentials were found that are in the directory now.
    pub credentials: Option<BootTime>,
}

/// What came of an [`AppRole::perform`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is a new token.
    Opened,
    /// The token is the same, or there is none.
    Unchanged,
}

impl AppRole {
    /// A login that is yet to be made, by `client` with the credentials that `args` name.
    #[must_use]
    pub fn new(client: VaultClient, args: &LoginArgs) -> Self {
        let now = BootTime::now();
        let timing = Timing { look_every: LOOK_EVERY, give_up: Some(now + args.wait) };
        Self {
            client,
            mount: args.approle_mount.clone(),
            session: Session::new(timing),
            fingerprint_key: RandomState::new(),
            credentials: None,
            token: None,
            retired: None,
            in_trouble: false,
            is_declined: false,
            waiting: Waiting::begin(now, args.credentials_dir.clone()),
            watch: Watch::default(),
            sink: None,
            tally: Tally::default(),
        }
    }

    /// The same with a sink: its token is taken up again, each new one is written to it, and none is revoked at
    /// the end.
    #[must_use]
    pub fn with_sink(self, sink: Option<Sink>) -> Self {
        let session = if sink.is_some() { self.session.resuming() } else { self.session };
        Self { session, sink, ..self }
    }

    /// Whether there is no token, and nothing but other credentials will change that.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        let is_refused = match self.session.reason() {
            Reason::Refused | Reason::Denied => true,
            // So it begins, before anything was looked for.
            Reason::NoCredentials => self.waiting.has_looked_in_vain(),
            Reason::Unavailable => false,
        };
        is_refused && self.client().is_none()
    }

    /// Whether Vault did not answer to what the session has to ask of it: nobody has to ask for more meanwhile.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        self.session.is_held_back(BootTime::now())
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
                    self.wait_until(when.min(self.waiting.to_be_said()), shutdown).await?;
                    self.waiting.say(BootTime::now(), self.session.reason());
                }
                Step::Failed(reason) => return Err(self.failure(reason)),
            }
        }
    }

    /// A client that speaks with the token, while there is one that has not expired.
    #[must_use]
    pub fn client(&self) -> Option<VaultClient> {
        self.token().map(|token| self.client.with_token(token.clone()))
    }

    /// The token, as [`client`](Self::client) has it.
    #[must_use]
    pub fn token(&self) -> Option<&SecretString> {
        self.token.as_ref().filter(|_| self.session.is_open(BootTime::now()))
    }

    /// What was done so far.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Waits, less long where the credentials directory changes meanwhile: [`next`](Self::next) says what then.
    pub async fn wait_until(&mut self, when: BootTime, shutdown: &Shutdown) -> Result<(), Stopped> {
        if self.watch.begin() {
            // What has changed since the last look was not watched: the next one begins to.
            self.session.handle(BootTime::now(), Event::Noticed, Jitter::NONE);
            return Ok(());
        }
        let noticed = async {
            tokio::select! {
                () = sleep_until(when) => false,
                () = self.watch.changed() => true,
            }
        };
        if shutdown.or_stop(noticed).await? {
            self.session.handle(BootTime::now(), Event::Noticed, Jitter::NONE);
        }
        Ok(())
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
        let event = shutdown.or_stop_after(GRACE, self.answer_to(action)).await?;
        self.session.handle(BootTime::now(), event, Jitter::draw());
        Ok(if matches!(event, Event::Opened(_)) { Progress::Opened } else { Progress::Unchanged })
    }

    /// What comes of it, for as long as that can still come.
    async fn answer_to(&mut self, action: Action) -> Event {
        let client = self.client.clone();
        tokio::select! {
            biased;
            event = self.act(action) => return event,
            () = sys::came_back(&client) => {}
        }
        tracing::info!("Vault was out of reach and is back, asking it again");
        Event::Unanswered
    }

    async fn act(&mut self, action: Action) -> Event {
        match action {
            Action::ReadCredentials => self.read_credentials(),
            Action::Resume => self.resume().await,
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

    /// Revokes what tokens there are, but for one in a sink. One that cannot be revoked now ends by its own TTL.
    pub async fn close(self) {
        let by = tokio::time::Instant::now() + FAREWELL;
        let token = self.token.filter(|_| self.sink.is_none());
        for token in [token, self.retired].into_iter().flatten() {
            revoke(&self.client.with_token(token), by).await;
        }
    }

    fn read_credentials(&mut self) -> Event {
        // Before the look, so that no change falls between the two.
        let is_watched = self.watch.renew(self.waiting.directory());
        self.session.look_every(if is_watched { LOOK_EVERY_WATCHED } else { LOOK_EVERY });
        self.drain_into_sink();
        match Credentials::read(self.waiting.directory()) {
            Ok(found) => {
                let fingerprint = found.fingerprint(&self.fingerprint_key);
                let known = self.credentials.as_ref().map(|known| known.fingerprint(&self.fingerprint_key));
                if known != Some(fingerprint) {
                    self.tally.credentials = Some(BootTime::now());
                }
                self.credentials = Some(found);
                Event::Credentials(fingerprint)
            }
            Err(error) => {
                self.waiting.problem(Problem::Credentials(error));
                Event::NoCredentials
            }
        }
    }

    async fn resume(&mut self) -> Event {
        let Some(token) = self.sink.as_ref().and_then(Sink::token) else { return Event::Lapsed };
        let client = self.client.with_token(token.clone());
        match token::look_up_self(&client, client.soon()).await {
            Ok(life) => {
                tracing::info!(ttl = ?life.ttl, "took the token of the sink up again");
                self.token = Some(token);
                Event::Opened(Lease { ttl: life.ttl, renewable: life.renewable })
            }
            Err(VaultError::Denied { .. }) => {
                tracing::info!("the token of the sink was revoked or has expired");
                Event::Lapsed
            }
            Err(error) => self.unavailable(error),
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
                self.tally.logins += 1;
                (self.in_trouble, self.is_declined) = (false, false);
                tracing::info!(ttl = ?auth.lease_duration, "logged in by AppRole");
                self.drain_into_sink();
                event
            }
            Err(error) => self.judge_login(error),
        }
    }

    fn judge_login(&mut self, error: VaultError) -> Event {
        let event = match &error {
            VaultError::Refused { .. } => Event::Refused,
            VaultError::Denied { .. } => Event::Denied,
            _ => return self.unavailable(error),
        };
        tracing::warn!("the AppRole login failed: {error}");
        self.waiting.problem(Problem::Vault(error));
        event
    }

    async fn renew(&mut self) -> Event {
        let Some(client) = self.client() else { return Event::Lapsed };
        match token::renew_self(&client, client.soon()).await {
            Ok(auth) => {
                self.tally.renewals += 1;
                self.is_declined = false;
                if std::mem::take(&mut self.in_trouble) {
                    tracing::info!("Vault answers again");
                }
                tracing::debug!(ttl = ?auth.lease_duration, "renewed the token");
                Event::Renewed(lease(&auth))
            }
            Err(error @ VaultError::Denied { .. }) => {
                tracing::warn!("the token was revoked or has expired, logging in anew: {error}");
                self.retired = self.token.take();
                Event::Lapsed
            }
            Err(error @ (VaultError::Refused { .. } | VaultError::Unexpected { status: 500, .. })) => {
                // Asked for again until the token ends, where no login takes its place.
                if std::mem::replace(&mut self.is_declined, true) {
                    tracing::debug!("the token is still not renewed: {error}");
                } else {
                    tracing::warn!("the token is not renewed, logging in anew: {error}");
                }
                Event::NotRenewed
            }
            Err(error) => self.unavailable(error),
        }
    }

    /// Says once that it is so; while the first login is waited for, [`open`](Self::open) says it.
    fn unavailable(&mut self, error: VaultError) -> Event {
        let was_open = self.tally.logins > 0;
        if was_open && !std::mem::replace(&mut self.in_trouble, true) {
            tracing::warn!("the token cannot be kept alive now, trying again: {error}");
        } else {
            tracing::debug!("trying again: {error}");
        }
        let retry_after = error.retry_after();
        self.waiting.problem(Problem::Vault(error));
        Event::Unavailable { retry_after }
    }

    /// Writes the token to the sink, where it is not there yet. Until it is, the one before is not revoked: it is
    /// what others have.
    fn drain_into_sink(&mut self) {
        if let (Some(sink), Some(token)) = (&mut self.sink, &self.token)
            && !sink.take(token)
        {
            self.retired = None;
        }
    }

    async fn revoke_retired(&mut self) -> Event {
        if let Some(token) = &self.retired {
            let client = self.client.with_token(token.clone());
            revoke(&client, client.soon()).await;
        }
        self.retired = None;
        Event::Revoked
    }

    /// Why there is no login, after a [`Step::Failed`].
    pub fn failure(&mut self, reason: Reason) -> LoginError {
        self.waiting.failure(reason)
    }
}

async fn revoke(client: &VaultClient, by: tokio::time::Instant) {
    match token::revoke_self(client, by).await {
        // It was dead already (403), or is a batch token, which nobody can revoke (400).
        Ok(()) | Err(VaultError::Denied { .. } | VaultError::Refused { .. }) => {}
        Err(error) => tracing::warn!("the token was not revoked and ends by its own TTL: {error}"),
    }
}

impl std::fmt::Debug for AppRole {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("AppRole").field("directory", &self.waiting.directory()).finish_non_exhaustive()
    }
}

const fn lease(auth: &Auth) -> Lease {
    Lease { ttl: auth.lease_duration, renewable: auth.renewable }
}
