//! How long a token lives, and when it is to be renewed.

use std::time::Duration;

use backoff::Jitter;
use boot_clock::BootTime;

use super::Lease;
use crate::Fingerprint;

/// Between two attempts to renew a token that is about to end, at the least.
const LAST_ATTEMPTS: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) ttl: Duration,
    pub(super) expires: BootTime,
    /// When to renew, or to log in anew where renewing does not help.
    pub(super) refresh: BootTime,
    pub(super) renewable: bool,
    /// The last renewal was declined: a login is to take its place.
    pub(super) declined: bool,
    pub(super) opened_with: Option<Fingerprint>,
}

impl Token {
    pub(super) fn granted(
        now: BootTime,
        lease: Lease,
        opened_with: Option<Fingerprint>,
        jitter: Jitter,
    ) -> Self {
        if lease.ttl.is_zero() {
            let never = BootTime::at(Duration::MAX);
            return Self {
                ttl: lease.ttl,
                expires: never,
                refresh: never,
                renewable: false,
                declined: false,
                opened_with,
            };
        }
        // Between 3/5 and 2/3 of its life: agents that logged in together do not renew together.
        let refresh = now + lease.ttl * 3 / 5 + jitter.of(lease.ttl / 15);
        Self {
            ttl: lease.ttl,
            expires: now + lease.ttl,
            refresh,
            renewable: lease.renewable,
            declined: false,
            opened_with,
        }
    }

    /// The token with its next renewal after half of what is left: few attempts, and the last one near its end.
    pub(super) fn tried_later(self, now: BootTime) -> Self {
        let half = self.expires.saturating_since(now) / 2;
        Self { refresh: now + half.max(LAST_ATTEMPTS), declined: false, ..self }
    }

    /// The token after a renewal. One that was granted less than half of its first life runs against its
    /// role's max TTL: the next refresh is a login, where more renewals would only come quicker and quicker.
    pub(super) fn renewed(self, now: BootTime, lease: Lease, jitter: Jitter) -> Self {
        let capped = !lease.ttl.is_zero() && lease.ttl < self.ttl / 2;
        let token = Self::granted(now, lease, self.opened_with, jitter);
        Self { ttl: self.ttl, renewable: token.renewable && !capped, ..token }
    }
}
