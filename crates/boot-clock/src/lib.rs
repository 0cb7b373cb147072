//! Time since the machine was started, counting suspend, and sleeps measured by it.
//!
//! A token's life goes on while a laptop or a virtual machine sleeps, and wall clocks are set back and
//! forth. Tokio's timers use `CLOCK_MONOTONIC`, which stands still during suspend; `CLOCK_BOOTTIME`
//! (`clock_gettime(2)`) does neither.

use std::ops::{Add, Sub};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

mod timer;

pub use timer::register;

/// An instant: the time since the machine was started, suspended time included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// Reads `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn now() -> Self {
        // Every kernel since 2.6.39 has this clock, and reading it has no other way to fail.
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Self(Duration::ZERO), |time| Self(time.into()))
    }

    /// The instant `since_boot` after the machine was started.
    #[must_use]
    pub const fn at(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// The time since the machine was started.
    #[must_use]
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to here, zero where `earlier` is the later one.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for BootTime {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

/// Sleeps until `when`, at once where that is past. Dropping the future cancels the sleep.
///
/// Wakes on time after a suspend. Where no timer can be had (no file descriptor left), Tokio's own clock
/// takes its place: late after a suspend, but never a spin.
pub async fn sleep_until(when: BootTime) {
    if when <= BootTime::now() {
        return;
    }
    if timer::expiry(when).await.is_err() {
        tokio::time::sleep(when.saturating_since(BootTime::now())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on(future: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
    }

    #[test]
    fn sleeps_until_the_instant_and_not_less() {
        block_on(async {
            let until = BootTime::now() + Duration::from_millis(30);
            sleep_until(until).await;
            assert!(BootTime::now() >= until);
        });
    }

    #[test]
    fn a_past_instant_does_not_wait() {
        block_on(async {
            let long_ago = BootTime::now() - Duration::from_secs(1);
            tokio::select! {
                biased;
                () = sleep_until(long_ago) => {}
                () = std::future::ready(()) => panic!("slept for the past"),
            }
        });
    }

    #[test]
    fn an_instant_beyond_the_clock_is_cancellable() {
        block_on(async {
            tokio::select! {
                () = sleep_until(BootTime::at(Duration::MAX)) => panic!("woke before the end of time"),
                () = sleep_until(BootTime::now() + Duration::from_millis(20)) => {}
            }
        });
    }

    #[test]
    fn arithmetic_saturates() {
        let start = BootTime::at(Duration::from_secs(1));
        assert_eq!(start - Duration::from_secs(5), BootTime::at(Duration::ZERO));
        assert_eq!(start.saturating_since(start + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!((start + Duration::MAX).since_boot(), Duration::MAX);
    }
}
