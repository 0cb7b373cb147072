//! One at a time: whoever makes or replaces keys holds the key store's lock.

use std::time::Duration;

use boot_clock::{BootTime, sleep_until};
use secret_file::DirLock;

use crate::key_store::{KeyStore, KeyStoreError};

/// Longer than an initialisation may take.
const PATIENCE: Duration = Duration::from_mins(3);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits until no other unsealer is at work on this store.
pub(crate) async fn exclusively(store: &KeyStore) -> Result<DirLock, KeyStoreError> {
    let end = BootTime::now() + PATIENCE;
    let mut told = false;
    loop {
        if let Some(lock) = store.try_lock()? {
            return Ok(lock);
        }
        if !told {
            tracing::info!("another unsealer is at work on {}: waiting for it", store.path().display());
            told = true;
        }
        if BootTime::now() >= end {
            return Err(KeyStoreError::Busy(store.path().to_owned()));
        }
        sleep_until(BootTime::now() + LOOK_EVERY).await;
    }
}
