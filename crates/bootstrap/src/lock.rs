//! One bootstrap at a time works with a state directory.

use std::time::Duration;

use boot_clock::{BootTime, sleep_until};
use secret_file::{DirLock, SecretDir};

use crate::BootstrapError;
use crate::args::Stack;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits for the lock on the state directory, as long as for Vault. Makes the directory where it is missing: what
/// cannot be made is told before anything is done.
pub(crate) async fn take(stack: &Stack) -> Result<DirLock, BootstrapError> {
    let until = BootTime::now() + stack.wait;
    let mut is_told = false;
    loop {
        if let Some(lock) = try_take(stack)? {
            return Ok(lock);
        }
        if BootTime::now() >= until {
            return Err(BootstrapError::Locked { directory: stack.state_dir.clone(), wait: stack.wait });
        }
        if !std::mem::replace(&mut is_told, true) {
            tracing::info!("waiting for another bootstrap that is applying");
        }
        sleep_until((BootTime::now() + PAUSE).min(until)).await;
    }
}

/// Takes the lock, if nobody has it.
pub(crate) fn try_take(stack: &Stack) -> Result<Option<DirLock>, BootstrapError> {
    let directory = SecretDir::create(&stack.state_dir, 0o700).map_err(BootstrapError::StateDir)?;
    directory.try_lock().map_err(BootstrapError::StateDir)
}
