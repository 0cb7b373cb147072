//! The order to stop, as a value.

use std::time::Duration;

use boot_clock::{BootTime, sleep_until};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::{Exit, Failure};

/// Says whether the program was told to stop (SIGTERM or SIGINT). Clones hear the same order.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Option<Stopped>>);

/// The program was told to stop. For a daemon that is its end, for a command that had something to finish a
/// failure: 128 and the signal's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("told to stop by signal {signal}")]
pub struct Stopped {
    signal: u8,
}

impl Failure for Stopped {
    fn exit(&self) -> Exit {
        Exit::Command(128 + self.signal)
    }
}

/// Gives a [`Shutdown`] its order. Dropped without that, it never comes.
#[derive(Debug)]
pub struct Order(watch::Sender<Option<Stopped>>);

impl Order {
    /// Orders the stop, as if by this signal. A second order changes nothing.
    pub fn give(&self, signal: u8) {
        self.0.send_if_modified(|order| {
            let is_first = order.is_none();
            order.get_or_insert(Stopped { signal });
            is_first
        });
    }
}

impl Shutdown {
    /// A shutdown whose order the caller gives.
    #[must_use]
    pub fn ordered_by() -> (Order, Self) {
        let (order, shutdown) = watch::channel(None);
        (Order(order), Self(shutdown))
    }

    /// A shutdown that is ordered by SIGTERM or SIGINT. Must be called on the runtime.
    pub(crate) fn on_signals() -> Self {
        let (order, shutdown) = Self::ordered_by();
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        if let (Ok(terminate), Ok(interrupt)) = signals {
            tokio::spawn(listen(terminate, interrupt, order));
        } else {
            // Without handlers the signals keep their default: they end the process.
            tracing::warn!("the signal handlers cannot be installed: a stop will not be orderly");
        }
        shutdown
    }

    /// A shutdown that is never ordered, for tests.
    #[must_use]
    pub fn never() -> Self {
        Self(watch::channel(None).1)
    }

    /// Whether the order has been given.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits for the order.
    pub async fn ordered(&self) -> Stopped {
        let mut order = self.0.clone();
        let given = order.wait_for(Option::is_some).await.ok().and_then(|stopped| *stopped);
        match given {
            Some(stopped) => stopped,
            // Nobody is left to give the order.
            None => std::future::pending().await,
        }
    }

    /// Sleeps until `when`, or fails at once when the order is given.
    pub async fn sleep_until(&self, when: BootTime) -> Result<(), Stopped> {
        self.or_stop(sleep_until(when)).await
    }

    /// Drives `work` to its end, or drops it and fails when the order is given.
    pub async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        self.or_stop_after(Duration::ZERO, work).await
    }

    /// As [`or_stop`](Self::or_stop), but leaves `work` this long to end by itself once the order is given.
    pub async fn or_stop_after<T>(
        &self,
        grace: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Stopped> {
        let stop = async {
            let stopped = self.ordered().await;
            sleep_until(BootTime::now() + grace).await;
            stopped
        };
        tokio::select! {
            biased;
            stopped = stop => Err(stopped),
            done = work => Ok(done),
        }
    }
}

async fn listen(mut terminate: Signal, mut interrupt: Signal, order: Order) {
    const SIGINT: u8 = 2;
    const SIGTERM: u8 = 15;
    loop {
        let signal = tokio::select! {
            _ = terminate.recv() => SIGTERM,
            _ = interrupt.recv() => SIGINT,
        };
        order.give(signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_order_ends_a_sleep() {
        let (order, shutdown) = Shutdown::ordered_by();
        assert_eq!(shutdown.sleep_until(BootTime::now() + Duration::from_millis(5)).await, Ok(()));

        let stopped = Stopped { signal: 15 };
        order.give(15);
        order.give(2);
        assert!(shutdown.is_ordered());
        assert_eq!(shutdown.sleep_until(BootTime::at(Duration::MAX)).await, Err(stopped));
        assert_eq!(stopped.exit(), Exit::Command(143));
    }

    #[tokio::test]
    async fn what_needs_a_moment_gets_it() {
        let (order, shutdown) = Shutdown::ordered_by();
        order.give(2);
        let short = sleep_until(BootTime::now() + Duration::from_millis(20));
        assert_eq!(shutdown.or_stop_after(Duration::from_secs(5), short).await, Ok(()));
        let endless = std::future::pending::<()>();
        assert!(shutdown.or_stop_after(Duration::from_millis(20), endless).await.is_err());
    }

    #[tokio::test]
    async fn without_an_order_nothing_is_stopped() {
        let shutdown = Shutdown::never();
        assert!(!shutdown.is_ordered());
        assert_eq!(shutdown.sleep_until(BootTime::now() + Duration::from_millis(5)).await, Ok(()));
    }
}
