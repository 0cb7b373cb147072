//! Waiting for what another process does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// Asks until the condition holds; false when it never did in time, or after [`give_up`].
#[must_use]
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let mut holds = false;
    let _ = wait_patiently(limit, || {
        holds = condition();
        holds || GIVEN_UP.load(Ordering::Relaxed)
    });
    holds
}

/// Ends every wait of this process, now and from now on, as if its time were over: for a task that is
/// interrupted. What was started is still stopped in good order.
pub fn give_up() {
    GIVEN_UP.store(true, Ordering::Relaxed);
}

/// The same as [`wait_until`], whatever happens: for processes that were told to end.
pub(crate) fn wait_patiently(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        pause(Duration::from_millis(5));
    }
}

#[expect(clippy::disallowed_methods, reason = "other processes can only be polled; tests have no shutdown")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
