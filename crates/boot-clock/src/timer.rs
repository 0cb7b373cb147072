//! Kernel objects that are awaited: a timer on `CLOCK_BOOTTIME` (`timerfd_create(2)`), and whatever else is a
//! descriptor.
#![allow(unsafe_code, reason = "Tokio registers a foreign file descriptor by an unsafe call alone")]

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
    register(OwnedFd::from(timer))?.readable().await.map(|_| ())
}

/// Registers a descriptor that can be polled with the runtime, to wait until it can be read.
pub fn register(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the owned descriptor is open, moves into the registration, and leaves it only by being closed.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    Ok(registered?)
}
