//! What writers that were killed left behind.
//!
//! A lock tells a stray from what another writer is just making: each holds one on its temporary file or its new
//! generation, and the kernel takes it away with the process. Directories themselves are never locked: whoever
//! may read one could then keep its writer waiting.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;

use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::at;
use crate::dir::SecretDir;
use crate::name::{GENERATION, TEMPORARY};

/// Locks what this process has just made. `false`: another one took it for a stray in the instant between, and
/// has removed it or is about to. Without locks in the filesystem nobody clears strays, and it is ours as well.
pub(crate) fn claim(made: &File) -> io::Result<bool> {
    match made.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(false),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(made.metadata()?.nlink() > 0),
    }
}

impl SecretDir {
    /// Removes strays as far as possible. What is in the way of that is in the way of the next write too, which
    /// reports it.
    pub(crate) fn clear_strays(&self) {
        for name in at::list(&self.file).unwrap_or_default() {
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(TEMPORARY) {
                self.clear_temporary(name);
            } else if name.starts_with(GENERATION) {
                self.clear_generation(name);
            }
        }
    }

    fn clear_temporary(&self, name: &str) {
        let Ok(file) = at::open_file(&self.file, name) else { return };
        if file.try_lock().is_ok() {
            let _ = at::unlink(&self.file, name);
        }
    }

    fn clear_generation(&self, name: &str) {
        let Ok(dir) = at::open_dir(&self.file, name) else { return };
        // Asked under the lock: a writer gives it up only once its generation is the current one, and no
        // generation becomes so twice.
        if dir.try_lock().is_ok() && self.current().is_ok_and(|current| current.as_deref() != Some(name)) {
            self.remove_generation(name, &dir);
        }
    }

    pub(crate) fn remove_generation(&self, name: &str, dir: &File) {
        for file in at::list(dir).unwrap_or_default() {
            let _ = unlinkat(dir, file.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
        at::remove_dir(&self.file, name);
    }
}
