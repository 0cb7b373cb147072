//! Keeping the token alive and the rendered secrets current.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_runtime::Shutdown;
use approle_session::{AppRole, Progress, Sink, Step};
use backoff::Jitter;
use boot_clock::BootTime;
use tokio::sync::watch;
use vault_client::{VaultClient, sys};

use crate::AgentError;
use crate::args::SecretArgs;
use crate::environment::Environment;
use crate::refresh::{Read, Refresh, Verdict};
use crate::render::{Outputs, Rendering};
use crate::report::Report;
use crate::secrets::Secrets;

/// Between two lines that say what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// A service's secrets, from Vault to its files.
pub(crate) struct Keeper<'a> {
    approle: AppRole,
    args: &'a SecretArgs,
    outputs: &'a Outputs,
    refresh: Refresh,
    /// What a change that has yet to settle made of CMD's environment.
    undelivered: Option<Environment>,
    since: BootTime,
    said: BootTime,
}

impl<'a> Keeper<'a> {
    pub(crate) fn new(
        client: &VaultClient,
        args: &'a SecretArgs,
        outputs: &'a Outputs,
        every: Duration,
    ) -> Result<Self, AgentError> {
        let mut names = BTreeSet::new();
        if let Some(again) = args.secrets.iter().find(|asked| !names.insert(&asked.name)) {
            return Err(AgentError::SameSecret { name: again.name.clone() });
        }
        let now = BootTime::now();
        let sink = args.token_sink.clone().map(|path| Sink::new(path, outputs.attrs()));
        Ok(Self {
            // Every request has a loop here or in the session that sends it again.
            approle: AppRole::new(client.without_retries(), &args.login).with_sink(sink),
            args,
            outputs,
            refresh: Refresh::new(every, now + args.login.wait),
            undelivered: None,
            since: now,
            said: now,
        })
    }

    /// Logs in, reads and renders once. Whatever comes of it, the token is revoked if nobody is to have it.
    pub(crate) async fn once(
        mut self,
        hands_on_token: bool,
        shutdown: &Shutdown,
    ) -> Result<Environment, AgentError> {
        let rendering = self.first(shutdown).await;
        if let (true, Ok(rendering), Some(token)) = (hands_on_token, &rendering, self.approle.token()) {
            return Ok(rendering.environment.clone().with_token(token));
        }
        self.approle.close().await;
        rendering.map(|rendering| rendering.environment)
    }

    async fn first(&mut self, shutdown: &Shutdown) -> Result<Rendering, AgentError> {
        loop {
            let client = self.approle.open(shutdown).await?;
            shutdown.sleep_until(self.refresh.due()).await?;
            let rendered = shutdown.or_stop(self.render(&client)).await?.map(|(rendering, _)| rendering);
            match (self.verdict(&rendered), rendered) {
                (Verdict::LogInAnew, _) => self.approle.lapsed(),
                (Verdict::Deliver, Ok(rendering)) => return Ok(rendering),
                (Verdict::GiveUp, Err(error)) => return Err(error),
                (_, Err(error)) => self.say_what_is_waited_for(&error),
                (_, Ok(_)) => {}
            }
        }
    }

    /// Keeps the session open and the outputs current until told to stop, then revokes the token. What CMD is to
    /// have in its environment goes to `delivered`: at first, and after each change.
    ///
    /// Once there were secrets, nothing but the order to stop ends it.
    pub(crate) async fn keep(
        mut self,
        delivered: watch::Sender<Option<Environment>>,
        report: &Report,
        shutdown: &Shutdown,
    ) -> Result<Infallible, AgentError> {
        let end = match self.approle.open(shutdown).await {
            Ok(_) => self.go_on(&delivered, report, shutdown).await,
            Err(error) => Err(error.into()),
        };
        // CMD may go by what it has while the token is revoked.
        drop(delivered);
        self.approle.close().await;
        end
    }

    async fn go_on(
        &mut self,
        delivered: &watch::Sender<Option<Environment>>,
        report: &Report,
        shutdown: &Shutdown,
    ) -> Result<Infallible, AgentError> {
        loop {
            report.session(&self.approle, self.refresh.failures());
            let now = BootTime::now();
            match self.approle.next() {
                Step::Do(action) => {
                    if self.approle.perform(action, shutdown).await? == Progress::Opened {
                        self.refresh.logged_in(now);
                    }
                }
                Step::SleepUntil(when) => match self.approle.client() {
                    // Two that ask one after the other, each ever later, are twice as many requests.
                    Some(_) if self.approle.is_held_back() => {
                        self.approle.wait_until(when, shutdown).await?;
                    }
                    Some(client) if self.refresh.due() <= now => {
                        let rendered = shutdown.or_stop(self.render(&client)).await?;
                        self.settle(rendered, delivered, report)?;
                    }
                    Some(_) => self.approle.wait_until(when.min(self.refresh.due()), shutdown).await?,
                    // The next login makes the read due.
                    None => self.approle.wait_until(when, shutdown).await?,
                },
                Step::Failed(reason) => return Err(self.approle.failure(reason).into()),
            }
        }
    }

    /// Reads and writes. Gives what was made, and which outputs changed by it.
    async fn render(&self, client: &VaultClient) -> Result<(Rendering, Vec<PathBuf>), AgentError> {
        let secrets = tokio::select! {
            biased;
            read = Secrets::read(client, &self.args.kv_mount, &self.args.secrets) => read?,
            () = sys::came_back(client) => return Err(AgentError::Unanswered),
        };
        let rendering = self.outputs.make(&Arc::new(secrets))?;
        let changed = rendering.write()?;
        Ok((rendering, changed))
    }

    fn verdict(&mut self, rendered: &Result<Rendering, AgentError>) -> Verdict {
        let read = match rendered {
            Ok(rendering) => Read::Rendered(rendering.fingerprint),
            Err(error) => error.as_read(),
        };
        self.refresh.handle(BootTime::now(), read, Jitter::draw())
    }

    /// Says what is new, and no more than that. The last good files stay whatever happens.
    fn settle(
        &mut self,
        rendered: Result<(Rendering, Vec<PathBuf>), AgentError>,
        delivered: &watch::Sender<Option<Environment>>,
        report: &Report,
    ) -> Result<(), AgentError> {
        let (had_failed, had_rendered) = (self.refresh.failures() > 0, self.refresh.has_rendered());
        let rendered = rendered.map(|(rendering, changed)| {
            if !changed.is_empty() || !had_rendered {
                tracing::info!(files = changed.len(), "rendered the secrets");
            } else if had_failed {
                tracing::info!("the secrets can be read again");
            }
            report.rendered(&changed);
            rendering
        });
        let verdict = self.verdict(&rendered);
        match rendered {
            Ok(rendering) => self.undelivered = Some(rendering.environment),
            Err(error) if verdict == Verdict::GiveUp => return Err(error),
            Err(_) if verdict == Verdict::LogInAnew => self.approle.lapsed(),
            Err(error) if !had_rendered => self.say_what_is_waited_for(&error),
            Err(error) => {
                let text = agent_runtime::with_causes(&error);
                if had_failed {
                    tracing::debug!("the secrets stay as they are: {text}");
                } else {
                    tracing::warn!("the secrets stay as they are: {text}");
                }
            }
        }
        if verdict == Verdict::Deliver {
            delivered.send_replace(self.undelivered.take());
        } else if self.refresh.is_settled() {
            self.undelivered = None;
        }
        Ok(())
    }

    fn say_what_is_waited_for(&mut self, error: &AgentError) {
        let now = BootTime::now();
        if now < self.said + SAY_EVERY {
            return;
        }
        self.said = now;
        let waited = now.saturating_since(self.since).as_secs();
        tracing::info!("waiting ({waited} s): {}", agent_runtime::with_causes(error));
    }
}
