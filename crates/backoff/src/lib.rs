//! When to try again: a validated [`Policy`] and its pure [`delay`](Policy::delay).
//!
//! The delay doubles from a first value to a ceiling, and half of it is left to chance, so that many
//! programs that lost the same server at the same instant do not come back to it at the same instant.

use std::time::Duration;

/// How long to wait before each attempt. Both ends are above zero, so that no failure path can spin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    first: Duration,
    ceiling: Duration,
}

/// A [`Policy`] that would spin, or whose ceiling lies below its first delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// The first delay is zero.
    #[error("the first delay of a backoff must be above zero")]
    ZeroDelay,
    /// The ceiling is below the first delay.
    #[error("the ceiling of a backoff must not be below its first delay")]
    CeilingBelowFirst,
}

impl Policy {
    /// A policy that begins at `first` and doubles up to `ceiling`.
    pub const fn new(first: Duration, ceiling: Duration) -> Result<Self, InvalidPolicy> {
        if first.is_zero() {
            return Err(InvalidPolicy::ZeroDelay);
        }
        if ceiling.as_nanos() < first.as_nanos() {
            return Err(InvalidPolicy::CeilingBelowFirst);
        }
        Ok(Self { first, ceiling })
    }

    /// The time to wait after failure number `attempt`, counted from 0.
    ///
    /// Between half of `min(first * 2^attempt, ceiling)` and the whole of it.
    #[must_use]
    pub fn delay(&self, attempt: u32, jitter: Jitter) -> Duration {
        let doubled = 1_u32.checked_shl(attempt).and_then(|factor| self.first.checked_mul(factor));
        let whole = doubled.map_or(self.ceiling, |delay| delay.min(self.ceiling));
        whole.mul_f64(f64::midpoint(1.0, jitter.0))
    }
}

/// A number in `0.0..=1.0` drawn by the caller, so that what is computed from it stays a pure function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// The lower end: the shortest delay a policy gives.
    pub const NONE: Self = Self(0.0);

    /// A fixed jitter, for tests; values outside `0.0..=1.0` are clamped into it, NaN counts as 0.
    #[must_use]
    pub fn fixed(value: f64) -> Self {
        Self(if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) })
    }

    /// Draws one from the system's random number generator, or [`Jitter::NONE`] where that has none.
    #[must_use]
    pub fn draw() -> Self {
        getrandom::u32().map_or(Self::NONE, |bits| Self(f64::from(bits) / f64::from(u32::MAX)))
    }

    /// Scales `span` by this jitter.
    #[must_use]
    pub fn of(self, span: Duration) -> Duration {
        span.mul_f64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn refuses_what_would_spin_or_shrink() {
        assert_eq!(Policy::new(Duration::ZERO, SECOND), Err(InvalidPolicy::ZeroDelay));
        assert_eq!(Policy::new(SECOND, SECOND / 2), Err(InvalidPolicy::CeilingBelowFirst));
    }

    #[test]
    fn doubles_up_to_the_ceiling() {
        let policy = Policy::new(SECOND, 10 * SECOND).unwrap();
        let full = Jitter::fixed(1.0);
        let delays: Vec<_> = (0..6).map(|n| policy.delay(n, full).as_secs_f64().round()).collect();
        assert_eq!(delays, [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        assert_eq!(policy.delay(2, Jitter::NONE), 2 * SECOND);
    }

    #[test]
    fn odd_jitters_are_clamped() {
        assert_eq!(Jitter::fixed(f64::NAN), Jitter::NONE);
        assert_eq!(Jitter::fixed(-1.0), Jitter::NONE);
        assert_eq!(Jitter::fixed(2.0).of(SECOND), SECOND);
    }

    proptest! {
        #[test]
        fn every_delay_lies_within_the_policy(
            first in 1_u64..10_000, extra in 0_u64..10_000_000, attempt in any::<u32>(), jitter in any::<f64>(),
        ) {
            let (first, ceiling) = (Duration::from_millis(first), Duration::from_millis(first + extra));
            let delay = Policy::new(first, ceiling).unwrap().delay(attempt, Jitter::fixed(jitter));
            prop_assert!(delay >= first / 2 && delay <= ceiling);
        }

        #[test]
        fn later_attempts_never_wait_less(attempt in 0_u32..64, jitter in 0.0_f64..1.0) {
            let policy = Policy::new(SECOND, 3600 * SECOND).unwrap();
            let jitter = Jitter::fixed(jitter);
            prop_assert!(policy.delay(attempt + 1, jitter) >= policy.delay(attempt, jitter));
        }

        #[test]
        fn drawn_jitters_shorten_and_never_lengthen(_ in 0..100) {
            prop_assert!(Jitter::draw().of(SECOND) <= SECOND);
        }
    }
}
