//! The state machine: pure, without clock, socket or chance.

mod life;

use std::time::Duration;

use backoff::{Jitter, Policy};
use boot_clock::BootTime;

use self::life::Token;
use crate::Fingerprint;

/// Between attempts while Vault is away: its return is noticed within two seconds.
const RETRY_DELAYS: Policy = match Policy::new(Duration::from_millis(500), Duration::from_secs(2)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

/// Between looks while there are no credentials.
const LOOK_DELAYS: Policy = match Policy::new(Duration::from_millis(500), Duration::from_secs(5)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

/// A delivery changes its directory in several steps: they are looked at once.
const DELIVERY_TAKES: Duration = Duration::from_millis(100);

/// How long Vault locks a role after five refused logins (its default `lockout_duration`).
const LOCKOUT: Duration = Duration::from_mins(15);

/// How long the session waits, where that is for its user to say.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two looks at the credentials directory; above zero.
    pub look_every: Duration,
    /// When to give up where no token was ever had until then; `None` for never.
    pub give_up: Option<BootTime>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The credentials directory holds these.
    Credentials(Fingerprint),
    /// The credentials directory holds none that can be used.
    NoCredentials,
    /// Something has changed in the credentials directory.
    Noticed,
    /// A login gave a token.
    Opened(Lease),
    /// The token was renewed.
    Renewed(Lease),
    /// Vault refused the credentials at login (400).
    Refused,
    /// Vault denied the login (403): after five refusals it locks the role.
    Denied,
    /// Vault no longer takes the token (403): revoked or expired. Or there was none to resume.
    Lapsed,
    /// Vault takes the token and does not renew it: its role was deleted (500), or it is not made for that (400).
    NotRenewed,
    /// No usable answer, to whatever was asked.
    Unavailable {
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// Vault went out of reach while it was asked something, and is back: no answer will come.
    Unanswered,
    /// The replaced token was revoked, or given up to its own expiry.
    Revoked,
}

/// A token's life as the server granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// From now on; zero for a token that never expires.
    pub ttl: Duration,
    /// Whether it can be renewed; a batch token cannot.
    pub renewable: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Do this, and tell the session what came of it.
    Do(Action),
    /// Nothing until then.
    SleepUntil(BootTime),
    /// No token was had in time.
    Failed(Reason),
}

/// What the session's user does for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the credentials directory.
    ReadCredentials,
    /// Find out what the token of an earlier life is still good for, and go on with it.
    Resume,
    /// Log in with the credentials that were read last.
    Login,
    /// Renew the token.
    Renew,
    /// Revoke the token that the last login replaced.
    Revoke,
}

/// What a session without a token waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Credentials in the directory.
    NoCredentials,
    /// Other credentials: these were refused.
    Refused,
    /// The end of a lockout, or other credentials.
    Denied,
    /// Vault.
    Unavailable,
}

/// An AppRole session: credentials, a token, and what comes next.
#[derive(Clone, Debug)]
pub struct Session {
    timing: Timing,
    credentials: Option<Fingerprint>,
    barred: Option<Barred>,
    token: Option<Token>,
    /// There may be a token of an earlier life.
    resumes: bool,
    /// A replaced token waits to be revoked.
    retired: bool,
    /// Failures in a row, for the backoff.
    failures: u32,
    /// No request before then.
    hold_until: BootTime,
    next_look: BootTime,
    reason: Reason,
}

/// Credentials that must not be tried again.
#[derive(Clone, Copy, Debug)]
struct Barred {
    credentials: Fingerprint,
    /// `None` for ever.
    until: Option<BootTime>,
}

impl Session {
    /// A session that has neither credentials nor a token, and begins by looking for the former.
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self {
            resumes: false,
            timing,
            credentials: None,
            barred: None,
            token: None,
            retired: false,
            failures: 0,
            hold_until: BootTime::default(),
            next_look: BootTime::default(),
            reason: Reason::NoCredentials,
        }
    }

    /// The same session, which first tries to go on with the token of an earlier one.
    #[must_use]
    pub fn resuming(self) -> Self {
        Self { resumes: true, ..self }
    }

    /// How long it is from one look at the credentials directory to the next from now on; above zero. Long where
    /// changes are [noticed](Event::Noticed).
    pub const fn look_every(&mut self, span: Duration) {
        self.timing.look_every = span;
    }

    /// Whether there is a token that has not expired.
    #[must_use]
    pub fn is_open(&self, now: BootTime) -> bool {
        self.token.is_some_and(|token| now < token.expires)
    }

    /// When the token expires, if it is not renewed.
    #[must_use]
    pub fn expires(&self) -> Option<BootTime> {
        self.token.map(|token| token.expires)
    }

    /// Whether something is due that Vault did not answer to, and that is to be asked again.
    #[must_use]
    pub fn is_held_back(&self, now: BootTime) -> bool {
        now < self.hold_until && (self.retired || self.wanted(now).is_some())
    }

    /// What a session without a token waits for.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// What to do at `now`.
    #[must_use]
    pub fn next(&self, now: BootTime) -> Step {
        if self.retired && now >= self.hold_until {
            return Step::Do(Action::Revoke);
        }
        let open = self.is_open(now);
        if !open && self.timing.give_up.is_some_and(|end| now >= end) {
            return Step::Failed(self.reason);
        }
        if now >= self.next_look {
            return Step::Do(Action::ReadCredentials);
        }
        let wanted = self.wanted(now);
        match wanted {
            Some(action) if now >= self.hold_until => Step::Do(action),
            _ => Step::SleepUntil(self.wake_up(now, wanted.is_some() || self.retired)),
        }
    }

    /// The request that is due, if the backoff allows it.
    fn wanted(&self, now: BootTime) -> Option<Action> {
        if self.resumes {
            return Some(Action::Resume);
        }
        let login = self.may_log_in(now).then_some(Action::Login);
        let Some(token) = self.token.filter(|token| now < token.expires) else { return login };
        if login.is_some() && self.credentials != token.opened_with {
            return login;
        }
        if now < token.refresh {
            return None;
        }
        // Where neither renewing nor a new login is possible, the token is used up to its end.
        if token.renewable && !token.declined { Some(Action::Renew) } else { login }
    }

    fn may_log_in(&self, now: BootTime) -> bool {
        self.credentials.is_some_and(|credentials| {
            self.barred.is_none_or(|barred| {
                barred.credentials != credentials || barred.until.is_some_and(|until| now >= until)
            })
        })
    }

    /// The first instant after `now` at which [`next`](Self::next) may say something else. There always is
    /// one: the next look at the credentials is ahead, or it would be due.
    fn wake_up(&self, now: BootTime, waiting_for_backoff: bool) -> BootTime {
        let open = self.token.filter(|_| self.is_open(now));
        [
            waiting_for_backoff.then_some(self.hold_until),
            open.map(|token| if waiting_for_backoff { token.expires } else { token.refresh }),
            self.timing.give_up.filter(|_| open.is_none()),
            self.barred.and_then(|barred| barred.until),
        ]
        .into_iter()
        .flatten()
        .filter(|instant| *instant > now)
        .fold(self.next_look, BootTime::min)
    }

    /// Takes in what happened at `now`. `jitter` spreads renewals and retries.
    pub fn handle(&mut self, now: BootTime, event: Event, jitter: Jitter) {
        match event {
            Event::Credentials(found) => {
                self.next_look = now + self.timing.look_every;
                if self.credentials.replace(found) != Some(found) {
                    // Newly delivered credentials are tried at once.
                    self.settle(now);
                    if self.reason == Reason::NoCredentials {
                        self.reason = Reason::Unavailable;
                    }
                }
            }
            Event::NoCredentials => {
                self.credentials = None;
                self.reason = Reason::NoCredentials;
                // At start everything appears within seconds: look often, then as often as told.
                let soon = LOOK_DELAYS.delay(self.failures, jitter);
                self.next_look = now + soon.min(self.timing.look_every);
                self.failures = self.failures.saturating_add(1);
            }
            Event::Noticed => self.next_look = self.next_look.min(now + DELIVERY_TAKES),
            Event::Opened(lease) => {
                self.retired |= self.is_open(now);
                self.token = Some(Token::granted(now, lease, self.credentials, jitter));
                self.barred = None;
                self.resumes = false;
                // What was open once outlasts every outage.
                self.timing.give_up = None;
                self.settle(now);
            }
            Event::Renewed(lease) => {
                self.token = self.token.map(|token| token.renewed(now, lease, jitter));
                self.settle(now);
            }
            Event::Refused => self.bar(now, None, Reason::Refused),
            Event::Denied => self.bar(now, Some(now + LOCKOUT), Reason::Denied),
            Event::Lapsed => {
                // One login follows at once; should it fail, it is held back like any other. What was denied
                // may be the path and not the token, which then still lives.
                self.retired |= self.is_open(now);
                self.token = None;
                self.resumes = false;
                self.settle(now);
            }
            Event::NotRenewed => {
                let may_log_in = self.may_log_in(now);
                let declined = |token| Token { declined: true, ..token };
                self.token =
                    self.token.map(|token| if may_log_in { declined(token) } else { token.tried_later(now) });
                self.settle(now);
            }
            Event::Unavailable { retry_after } => self.hold_back(now, retry_after, jitter),
            Event::Unanswered => {
                self.failures = 0;
                self.hold_back(now, None, jitter);
            }
            Event::Revoked => self.retired = false,
        }
    }

    fn settle(&mut self, now: BootTime) {
        self.failures = 0;
        self.hold_until = now;
    }

    fn hold_back(&mut self, now: BootTime, retry_after: Option<Duration>, jitter: Jitter) {
        let pause = RETRY_DELAYS.delay(self.failures, jitter);
        self.hold_until = now + pause.max(retry_after.unwrap_or_default());
        self.failures = self.failures.saturating_add(1);
        self.reason = Reason::Unavailable;
    }

    fn bar(&mut self, now: BootTime, until: Option<BootTime>, reason: Reason) {
        // Where the login was to take a renewal's place, the renewal is what is left.
        self.token = self.token.map(|token| if token.declined { token.tried_later(now) } else { token });
        self.barred = self.credentials.map(|credentials| Barred { credentials, until });
        self.reason = reason;
    }
}

#[cfg(test)]
mod tests;
