use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::unistd::linkat;
use secrecy::{ExposeSecret as _, SecretSlice};

use crate::at::{self, Entry};
use crate::attrs::{Attrs, Changed};
use crate::dir::SecretDir;
use crate::error::{FileError, Operation, failed};
use crate::name::{self, TEMPORARY};
use crate::read;
use crate::stray;

impl SecretDir {
    /// Makes `value` the content of the file `name`, with `attrs`, atomically and durably.
    ///
    /// Readers see the old file or the new one, and the new one never with other attributes. A symbolic link at
    /// `name` is replaced, not followed; a directory, FIFO, socket or device is an error. A file that is right
    /// already is left alone, and synced: whoever wrote it may have been killed before they could.
    ///
    /// An error at the sync of the directory means that the new file is in place and may not outlive a power
    /// cut.
    pub fn replace(&self, name: &str, value: &SecretSlice<u8>, attrs: Attrs) -> Result<Changed, FileError> {
        name::check(self.path(), name)?;
        let path = self.path().join(name);
        self.clear_strays();
        match self.entry(name)? {
            Entry::Other(found) => {
                return Err(FileError::NotRegular { operation: Operation::Write, path, found });
            }
            Entry::Regular => {
                if let Some(file) = open_if_same(&self.file, name, value, attrs) {
                    file.sync_all().map_err(failed(Operation::Sync, &path))?;
                    self.sync()?;
                    return Ok(Changed::No);
                }
            }
            Entry::Absent | Entry::Symlink => {}
        }
        Temporary::write(self, &path, value, attrs)?.rename(name)?;
        self.sync()?;
        Ok(Changed::Yes)
    }

    /// As [`replace`](Self::replace), but whatever is at `name` stays, and is the error
    /// [`FileError::Exists`]. Of several callers at once one succeeds.
    pub fn create_new(&self, name: &str, value: &SecretSlice<u8>, attrs: Attrs) -> Result<(), FileError> {
        name::check(self.path(), name)?;
        let path = self.path().join(name);
        self.clear_strays();
        if self.entry(name)? != Entry::Absent {
            return Err(FileError::Exists { path });
        }
        Temporary::write(self, &path, value, attrs)?.rename_new(name)?;
        self.sync()
    }
}

/// The file, if it is known to have this content and these attributes; an unreadable one is not.
pub(crate) fn open_if_same(dir: &File, name: &str, value: &SecretSlice<u8>, attrs: Attrs) -> Option<File> {
    let file = at::open_file(dir, name).ok()?;
    if !attrs.are_of(&file).ok()? {
        return None;
    }
    let value = value.expose_secret();
    let found = read::bounded(&file, value.len(), value.len()).ok()??;
    (found.expose_secret() == value).then_some(file)
}

/// A complete, synced file under a name that nobody looks at. Removed when dropped, unless it was renamed.
pub(crate) struct Temporary<'a> {
    dir: &'a SecretDir,
    name: String,
    /// What it is to become, for messages.
    path: PathBuf,
    /// Open and locked as long as this lives, so that no other writer takes it for a stray.
    file: File,
    is_renamed: bool,
}

impl<'a> Temporary<'a> {
    pub(crate) fn write(
        dir: &'a SecretDir,
        path: &Path,
        value: &SecretSlice<u8>,
        attrs: Attrs,
    ) -> Result<Self, FileError> {
        let temporary = Self::create(dir, path)?;
        fill(&temporary.file, path, value, attrs)?;
        Ok(temporary)
    }

    /// An empty file that is locked.
    fn create(dir: &'a SecretDir, path: &Path) -> Result<Self, FileError> {
        loop {
            let name = name::fresh(TEMPORARY).map_err(failed(Operation::Create, path))?;
            let file = at::create_file(&dir.file, &name).map_err(failed(Operation::Create, path))?;
            let temporary = Self { dir, name, path: path.to_owned(), file, is_renamed: false };
            if stray::claim(&temporary.file).map_err(failed(Operation::Inspect, path))? {
                return Ok(temporary);
            }
            // Another writer cleared it between its creation and its lock: once more, under another name.
        }
    }

    pub(crate) fn rename(mut self, name: &str) -> Result<(), FileError> {
        let dir = &self.dir.file;
        renameat(dir, self.name.as_str(), dir, name).map_err(failed(Operation::Rename, &self.path))?;
        self.is_renamed = true;
        Ok(())
    }

    pub(crate) fn rename_new(mut self, name: &str) -> Result<(), FileError> {
        match rename_no_replace(&self.dir.file, &self.name, name) {
            Ok(is_renamed) => {
                self.is_renamed = is_renamed;
                Ok(())
            }
            Err(Errno::EEXIST) => Err(FileError::Exists { path: self.path.clone() }),
            Err(errno) => Err(failed(Operation::Rename, &self.path)(errno)),
        }
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.is_renamed {
            // It failed already, and says why; what stays is cleared by the next write.
            let _ = at::unlink(&self.dir.file, &self.name);
        }
    }
}

/// Writes, protects and syncs a new file: nobody but its writer can open it before it is complete.
pub(crate) fn fill(
    mut file: &File,
    path: &Path,
    value: &SecretSlice<u8>,
    attrs: Attrs,
) -> Result<(), FileError> {
    file.write_all(value.expose_secret()).map_err(failed(Operation::Write, path))?;
    protect(file, path, attrs)
}

/// Gives a file to its owner and makes it durable.
pub(crate) fn protect(file: &File, path: &Path, attrs: Attrs) -> Result<(), FileError> {
    // The owner first: the mode must not open the file to the group that it had before.
    attrs.give_owner(file).map_err(failed(Operation::SetOwner, path))?;
    file.set_permissions(attrs.permissions()).map_err(failed(Operation::SetMode, path))?;
    file.sync_all().map_err(failed(Operation::Sync, path))
}

/// `false`: it is now at `new`, and still at `old` too.
#[cfg(target_env = "gnu")]
pub(crate) fn rename_no_replace(dir: &File, old: &str, new: &str) -> nix::Result<bool> {
    use nix::fcntl::{RenameFlags, renameat2};

    match renameat2(dir, old, dir, new, RenameFlags::RENAME_NOREPLACE) {
        // A filesystem or a kernel without that flag.
        Err(Errno::EINVAL | Errno::ENOSYS) => link_no_replace(dir, old, new),
        result => result.map(|()| true),
    }
}

/// nix has no `renameat2` for musl.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn rename_no_replace(dir: &File, old: &str, new: &str) -> nix::Result<bool> {
    link_no_replace(dir, old, new)
}

fn link_no_replace(dir: &File, old: &str, new: &str) -> nix::Result<bool> {
    linkat(dir, old, dir, new, AtFlags::empty()).map(|()| false)
}
