//! One bootstrap at a time works with a state directory.

use std::fs::{File, TryLockError};
use std::time::Duration;

use boot_clock::{BootTime, sleep_until};
use secret_file::SecretDir;

use crate::BootstrapError;
use crate::args::Stack;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// The lock on the state directory; it ends with this value, and with the process however that ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "it is held, not used")] File);

impl Lock {
    /// Waits for it, as long as for Vault. Makes the directory where it is missing: what cannot be made is told
    /// before anything is done.
    pub(crate) async fn take(stack: &Stack) -> Result<Self, BootstrapError> {
        SecretDir::create(&stack.state_dir, 0o700).map_err(BootstrapError::StateDir)?;
        let directory = File::open(&stack.state_dir)?;
        let until = BootTime::now() + stack.wait;
        let mut is_told = false;
        loop {
            match directory.try_lock() {
                Ok(()) => return Ok(Self(directory)),
                // A file system without locks: check-and-set still guards the secrets.
                Err(TryLockError::Error(error)) => {
                    tracing::warn!("{} cannot be locked ({error})", stack.state_dir.display());
                    return Ok(Self(directory));
                }
                Err(TryLockError::WouldBlock) if BootTime::now() >= until => {
                    return Err(BootstrapError::Locked {
                        directory: stack.state_dir.clone(),
                        wait: stack.wait,
                    });
                }
                Err(TryLockError::WouldBlock) => {}
            }
            if !std::mem::replace(&mut is_told, true) {
                tracing::info!("waiting for another bootstrap that is applying");
            }
            sleep_until((BootTime::now() + PAUSE).min(until)).await;
        }
    }
}
