//! What writers that were killed left behind.
//!
//! A lock tells a stray from what another writer is just making: each holds one on its temporary file or its new
//! generation, and the kernel takes it away with the process. Directories themselves are never locked: whoever
//! may read one could then keep its writer waiting.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};
use secrecy::SecretSlice;

use crate::at;
use crate::attrs::Attrs;
use crate::dir::SecretDir;
use crate::error::{FileError, Operation, failed};
use crate::name::{self, GENERATION, TEMPORARY};
use crate::read;
use crate::write::{protect, rename_no_replace};

/// A file that a writer left when it was killed before it had given it its name. Whether it is whole is for its
/// content to say.
#[derive(Debug)]
pub struct Stray<'a> {
    dir: &'a SecretDir,
    name: String,
    /// Locked as long as this lives, so that no writer clears it.
    file: File,
}

/// Locks what this process has just made. `false`: another one took it for a stray in the instant between, and
/// has removed it or is about to. Without locks in the filesystem nobody clears strays, and it is ours as well.
pub(crate) fn claim(made: &File) -> io::Result<bool> {
    match made.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(false),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(made.metadata()?.nlink() > 0),
    }
}

impl Stray<'_> {
    /// Its content, which may be a part of what was meant; an error where that is more than `limit` bytes.
    pub fn read(&self, limit: usize) -> Result<SecretSlice<u8>, FileError> {
        read::content(&self.file, &self.path(), limit)
    }

    /// Gives it this name durably, where there is nothing.
    pub fn rename(self, name: &str, attrs: Attrs) -> Result<(), FileError> {
        name::check(self.dir.path(), name)?;
        let path = self.dir.path().join(name);
        protect(&self.file, &path, attrs)?;
        match rename_no_replace(&self.dir.file, &self.name, name) {
            Ok(true) => {}
            // It has both names now.
            Ok(false) => {
                at::unlink(&self.dir.file, &self.name).map_err(failed(Operation::Remove, &path))?;
            }
            Err(Errno::EEXIST) => return Err(FileError::Exists { path }),
            Err(errno) => return Err(failed(Operation::Rename, &path)(errno)),
        }
        self.dir.sync()
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }
}

impl SecretDir {
    /// The single files that killed writers left here without a name, until the next write clears them.
    pub fn strays(&self) -> Result<Vec<Stray<'_>>, FileError> {
        let names = at::list(&self.file).map_err(failed(Operation::List, self.path()))?;
        let names = names.iter().filter_map(|name| name.to_str().filter(|name| name.starts_with(TEMPORARY)));
        let stray = |name: &str| {
            let file = at::open_file(&self.file, name).ok()?;
            file.try_lock().is_ok().then(|| Stray { dir: self, name: name.to_owned(), file })
        };
        Ok(names.filter_map(stray).collect())
    }

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
