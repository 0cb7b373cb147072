//! When to look at the credentials, how the last look went, and what the health check is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use agent_runtime::{Exit, Failure as _};
use backoff::{Jitter, Policy};
use boot_clock::BootTime;
use vault_client::VaultError;

use crate::BootstrapError;
use crate::deliver::{Delivery, InForce, Refreshed};
use crate::healthcheck::Credential;

/// Between two looks at everything, and so often at least within the life of a secret ID: it is replaced when
/// half of that is over.
const LOOK_EVERY: Duration = Duration::from_mins(1);
const LOOKS_IN_A_LIFE: u32 = 8;

/// Never more often than this, however short the lives.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// Between two attempts while Vault is away: its return is noticed within two seconds.
const RETRY_DELAYS: Policy = match Policy::new(Duration::from_millis(500), Duration::from_secs(2)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

/// Until files that were being written are looked at again.
const MOMENT: Duration = Duration::from_secs(1);

/// What an end that differs by less than this is: the same, told by a clock of whole seconds.
const SAME_END: Duration = Duration::from_secs(2);

/// When to look, and what the last look found.
#[derive(Debug, Default)]
pub(super) struct Looks {
    every: Duration,
    pub(super) due: BootTime,
    pub(super) failures: u32,
    /// The last look was denied everything, with a token that was new then.
    denied: bool,
    pub(super) succeeded: bool,
    pub(super) is_away: bool,
    /// Whose credentials the last look could not see to.
    failed: BTreeSet<String>,
    /// What each delivery put into its directory, as far as it was ever seen to.
    credentials: BTreeMap<String, Credential>,
}

impl Looks {
    /// The first look is due at once.
    pub(super) fn new(lives: impl Iterator<Item = Duration>) -> Self {
        Self { every: look_every(lives), ..Self::default() }
    }

    /// Others are to be looked at from now on.
    pub(super) fn change(&mut self, lives: impl Iterator<Item = Duration>, deliveries: &[Delivery]) {
        self.every = look_every(lives);
        self.credentials.retain(|role, _| deliveries.iter().any(|delivery| delivery.role == *role));
    }

    /// The files are to be looked at again in a moment.
    pub(super) fn soon(&mut self) {
        self.due = self.due.min(BootTime::now() + MOMENT);
    }

    /// Vault does not answer, or is sealed.
    pub(super) fn away(&mut self, error: &VaultError) {
        if std::mem::replace(&mut self.is_away, true) {
            tracing::debug!("Vault is away: {error}");
        } else {
            tracing::warn!("Vault is away, trying again every two seconds: {error}");
        }
        self.retry();
    }

    /// Vault answers; gives whether it was away.
    pub(super) fn back(&mut self) -> bool {
        let was_away = std::mem::take(&mut self.is_away);
        if was_away {
            tracing::info!("Vault is there");
        }
        was_away
    }

    /// Nobody is logged in, so that nobody could look.
    pub(super) fn idle(&mut self) {
        if self.succeeded { self.wait() } else { self.retry() }
    }

    /// Whether this is the first look in a row that was denied everything it asked for.
    pub(super) fn may_have_lapsed(&mut self, results: &[Result<Refreshed, BootstrapError>]) -> bool {
        let is_denied = |result: &Result<_, _>| {
            matches!(result, Err(BootstrapError::Vault { cause: VaultError::Denied { .. }, .. }))
        };
        let denied = results.iter().all(is_denied);
        !std::mem::replace(&mut self.denied, denied) && denied
    }

    /// Takes in what a look at `deliveries` found.
    pub(super) fn settle(
        &mut self,
        deliveries: &[Delivery],
        results: Vec<Result<Refreshed, BootstrapError>>,
    ) {
        let mut failures = Vec::new();
        let before = std::mem::take(&mut self.failed);
        for (delivery, result) in deliveries.iter().zip(results) {
            match result {
                Ok(Refreshed::Good(in_force) | Refreshed::New(in_force)) => {
                    self.note(&delivery.role, &delivery.directory, &in_force);
                }
                Ok(Refreshed::NotAsked) => {}
                Err(error) => {
                    self.failed.insert(delivery.role.clone());
                    failures.push(error);
                }
            }
        }
        if failures.is_empty() {
            if !before.is_empty() {
                tracing::info!("every service's credentials are fresh again");
            }
            (self.succeeded, self.failures) = (true, 0);
            return self.wait();
        }
        for error in &failures {
            let text = agent_runtime::with_causes(error);
            if before == self.failed {
                tracing::debug!("{text}; trying again");
            } else {
                tracing::warn!("{text}; trying again");
            }
        }
        // Vault's return is waited for in seconds; what somebody has to mend, in minutes.
        if failures.iter().any(|error| error.exit() == Exit::Unavailable) {
            self.retry();
        } else {
            self.failures = self.failures.saturating_add(1);
            self.wait();
        }
    }

    /// Whether the last look found, or made, all well.
    pub(super) fn is_well(&self) -> bool {
        self.succeeded && self.failed.is_empty()
    }

    /// What the health check is told: whether all is well, and in a sentence.
    pub(super) fn state(&self, is_logged_in: bool) -> (bool, String) {
        let now = BootTime::now().since_boot().as_secs();
        let ended = self.credentials.iter().filter(|(_, credential)| credential.has_ended(now));
        let ended: Vec<&str> = ended.map(|(role, _)| role.as_str()).collect();
        let failed: Vec<&str> = self.failed.iter().map(String::as_str).collect();
        if !self.succeeded && self.is_away {
            (false, "starting: Vault is away".to_owned())
        } else if !self.succeeded && failed.is_empty() {
            (false, "starting".to_owned())
        } else if !ended.is_empty() {
            (false, format!("the credentials of {} have ended", ended.join(", ")))
        } else if self.is_away {
            (true, "Vault is away; every service's credentials are alive".to_owned())
        } else if !failed.is_empty() {
            (false, format!("the credentials of {} could not be looked after", failed.join(", ")))
        } else if !is_logged_in {
            (false, "not logged in with bootstrap's own credential".to_owned())
        } else {
            (true, "every service's credentials are fresh".to_owned())
        }
    }

    /// What each delivery put into its directory.
    pub(super) const fn credentials(&self) -> &BTreeMap<String, Credential> {
        &self.credentials
    }

    fn wait(&mut self) {
        self.due = BootTime::now() + self.every;
    }

    fn retry(&mut self) {
        self.due = BootTime::now() + RETRY_DELAYS.delay(self.failures, Jitter::draw());
        self.failures = self.failures.saturating_add(1);
    }

    fn note(&mut self, role: &str, directory: &Path, in_force: &InForce) {
        let found = Credential::new(directory, in_force);
        let known = self.credentials.get(role);
        if known.is_none_or(|known| !known.is_same(&found, SAME_END)) {
            self.credentials.insert(role.to_owned(), found);
        }
    }
}

fn look_every(lives: impl Iterator<Item = Duration>) -> Duration {
    // A life of zero is one without an end.
    let shortest = lives.filter(|life| !life.is_zero()).min().unwrap_or(LOOK_EVERY * LOOKS_IN_A_LIFE);
    (shortest / LOOKS_IN_A_LIFE).clamp(LOOK_AT_MOST_EVERY, LOOK_EVERY)
}

#[cfg(test)]
mod tests {
    use secret_file::Attrs;
    use vault_client::RequestLine;

    use super::*;

    fn delivery(role: &str) -> Delivery {
        Delivery {
            mount: String::new(),
            role: role.to_owned(),
            directory: role.into(),
            attrs: Attrs::PRIVATE,
            directory_mode: 0o700,
            previous: None,
        }
    }

    fn good(seconds: u64) -> Refreshed {
        let until = Some(BootTime::now() + Duration::from_secs(seconds));
        Refreshed::Good(InForce { accessor: "a".to_owned(), until })
    }

    fn request() -> RequestLine {
        RequestLine { method: "GET".parse().unwrap(), url: String::new() }
    }

    fn denied() -> Result<Refreshed, BootstrapError> {
        let cause = VaultError::Denied { request: request().into(), messages: Vec::new() };
        Err(BootstrapError::Vault { doing: String::new(), cause })
    }

    fn hourly() -> Looks {
        Looks::new([Duration::from_hours(1)].into_iter())
    }

    fn is_due_within(looks: &Looks, seconds: u64) -> bool {
        looks.due <= BootTime::now() + Duration::from_secs(seconds)
    }

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
        let mut looks = hourly();
        for _ in 0..9 {
            looks.away(&VaultError::Sealed { request: request().into() });
            assert!(is_due_within(&looks, 2));
        }
        assert!(looks.back() && !looks.back());
        looks.settle(&[delivery("chat")], vec![denied()]);
        assert!(!is_due_within(&looks, 50));
        looks.soon();
        assert!(is_due_within(&looks, 1));
    }

    #[test]
    fn an_outage_is_no_illness_until_a_credential_ends() {
        let mut looks = hourly();
        assert_eq!(looks.state(true), (false, "starting".to_owned()));
        looks.settle(&[delivery("chat"), delivery("user")], vec![Ok(good(1000)), Ok(good(1000))]);
        assert!(looks.state(true).0);
        assert!(!looks.state(false).0);
        looks.away(&VaultError::Sealed { request: request().into() });
        assert!(looks.state(false).0);

        looks.settle(&[delivery("chat"), delivery("user")], vec![Ok(good(0)), Ok(good(1000))]);
        assert_eq!(looks.state(false), (false, "the credentials of chat have ended".to_owned()));
        looks.back();
        let new = InForce { accessor: "b".to_owned(), until: None };
        looks.settle(&[delivery("chat"), delivery("user")], vec![Ok(Refreshed::New(new)), denied()]);
        let failed = "the credentials of user could not be looked after".to_owned();
        assert_eq!(looks.state(true), (false, failed));
    }

    #[test]
    fn a_denial_of_everything_is_worth_one_new_login() {
        let mut looks = hourly();
        assert!(!looks.may_have_lapsed(&[Ok(good(1)), denied()]));
        assert!(looks.may_have_lapsed(&[denied(), denied()]));
        assert!(!looks.may_have_lapsed(&[denied(), denied()]));
    }
}
