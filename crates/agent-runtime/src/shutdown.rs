//! The order to stop, as a value.

use boot_clock::{BootTime, sleep_until};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Says whether the program was told to stop (SIGTERM or SIGINT). Clones hear the same order.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// The program was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("told to stop")]
pub struct Stopped;

impl Shutdown {
    /// A shutdown that is ordered by SIGTERM or SIGINT. Must be called on the runtime.
    pub(crate) fn on_signals() -> Self {
        let (order, shutdown) = watch::channel(false);
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        if let (Ok(terminate), Ok(interrupt)) = signals {
            tokio::spawn(listen(terminate, interrupt, order));
        } else {
            // Without handlers the signals keep their default: they end the process.
            tracing::warn!("the signal handlers cannot be installed: a stop will not be orderly");
        }
        Self(shutdown)
    }

    /// Whether the order has been given.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the order.
    pub async fn ordered(&self) {
        let mut order = self.0.clone();
        if order.wait_for(|ordered| *ordered).await.is_err() {
            // Nobody is left to give the order.
            std::future::pending::<()>().await;
        }
    }

    /// Sleeps until `when`, or fails at once when the order is given.
    pub async fn sleep_until(&self, when: BootTime) -> Result<(), Stopped> {
        self.or_stop(sleep_until(when)).await
    }

    /// Drives `work` to its end, or drops it and fails when the order is given.
    pub async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            () = self.ordered() => Err(Stopped),
            done = work => Ok(done),
        }
    }
}

async fn listen(mut terminate: Signal, mut interrupt: Signal, order: watch::Sender<bool>) {
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        order.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_order_ends_a_sleep() {
        let (order, shutdown) = watch::channel(false);
        let shutdown = Shutdown(shutdown);
        assert_eq!(shutdown.sleep_until(BootTime::now() + Duration::from_millis(5)).await, Ok(()));

        order.send_replace(true);
        assert!(shutdown.is_ordered());
        assert_eq!(shutdown.sleep_until(BootTime::at(Duration::MAX)).await, Err(Stopped));
    }
}
