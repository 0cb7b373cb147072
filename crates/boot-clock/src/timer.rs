//! One kernel timer on `CLOCK_BOOTTIME`, awaited (`timerfd_create(2)`).
#![allow(
    unsafe_code,
    reason = "Tokio registers a foreign file descriptor by an unsafe call alone; the only one in the house"
)]

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::BootTime;

/// Waits until the clock has reached `when`.
pub(crate) async fn expiry(when: BootTime) -> io::Result<()> {
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
    let at = Expiration::OneShot(TimeSpec::from_duration(when.since_boot()));
    timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
    // SAFETY: the owned descriptor is open, moves into the registration, and leaves it only by being closed.
    let registered = unsafe { AsyncFd::register_with_interest(OwnedFd::from(timer), Interest::READABLE) };
    registered?.readable().await.map(|_| ())
}
