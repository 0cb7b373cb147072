use std::ffi::OsStr;
use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::at::{self, Entry};
use crate::error::{FileError, Operation, failed};
use crate::name;

/// An open directory that holds secrets, and its path for messages.
///
/// Any number of processes may read in one and replace single files at once; a set wants one writer at a time.
/// Give a directory to single files
/// ([`replace`](Self::replace)) or to a set ([`replace_set`](Self::replace_set)), not to both: a set is read from
/// its current generation, whatever lies beside it under the same names.
#[derive(Debug)]
pub struct SecretDir {
    pub(crate) file: File,
    path: PathBuf,
}

/// A directory's lock, until it is dropped or its process ends.
#[derive(Debug)]
pub struct DirLock(#[expect(dead_code, reason = "the lock is the open file's")] File);

impl SecretDir {
    /// Opens a directory. Its last component must not be a symbolic link; those above may be.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let path = trimmed(path);
        match at::open_dir(AT_FDCWD, &path) {
            Ok(file) => Ok(Self { file, path }),
            // With O_DIRECTORY the kernel calls a link "not a directory" too.
            Err(Errno::ENOTDIR) if path.is_symlink() => {
                Err(FileError::Symlink { operation: Operation::Open, path })
            }
            Err(errno) => Err(failed(Operation::Open, &path)(errno)),
        }
    }

    /// Opens a directory, making it with the permission bits `mode`, and those above it with the ones that the
    /// umask leaves, where it is missing. What exists is left as it is. A setgid bit that a new directory has
    /// from its parent stays.
    pub fn create(path: &Path, mode: u32) -> Result<Self, FileError> {
        match Self::open(path) {
            Err(error) if error.is_not_found() => {}
            found => return found,
        }
        let path = trimmed(path);
        let file = make(&path, Some(mode & 0o777))?;
        Ok(Self { file, path })
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its permission bits, with setuid, setgid and sticky: `0o0000..=0o7777`.
    pub fn mode(&self) -> Result<u32, FileError> {
        let found = self.file.metadata().map_err(failed(Operation::Inspect, &self.path))?;
        Ok(found.mode() & 0o7777)
    }

    /// The names in it, sorted, without those that begin with `..`. A name that is not UTF-8 is shown with
    /// replacement characters.
    pub fn names(&self) -> Result<Vec<String>, FileError> {
        let names = at::list(&self.file).map_err(failed(Operation::List, &self.path))?;
        let names = names.iter().map(|name| name.to_string_lossy().into_owned());
        Ok(names.filter(|name| !name.starts_with("..")).collect())
    }

    /// Removes a file durably, a member of a set from its current generation too. `false`: it was not there.
    pub fn remove(&self, name: &str) -> Result<bool, FileError> {
        name::check(&self.path, name)?;
        let path = self.path.join(name);
        if let Entry::Other(found) = self.entry(name)? {
            return Err(FileError::NotRegular { operation: Operation::Remove, path, found });
        }
        if self.is_set_link(name)? {
            self.remove_member(name, &path)?;
        }
        let removed = at::unlink(&self.file, name).map_err(failed(Operation::Remove, &path))?;
        self.sync()?;
        Ok(removed)
    }

    /// Removes an empty directory in this one durably. `false`: it was not there.
    pub fn remove_directory(&self, name: &str) -> Result<bool, FileError> {
        name::check(self.path(), name)?;
        let path = self.path.join(name);
        let removed = match unlinkat(&self.file, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => true,
            Err(Errno::ENOENT) => false,
            Err(errno) => return Err(failed(Operation::Remove, &path)(errno)),
        };
        self.sync()?;
        Ok(removed)
    }

    /// Takes the directory's lock, which one process at a time has; `None` while another one has it.
    ///
    /// Only for a directory that nobody else may enter: whoever can open it can keep the lock from its owner. A
    /// filesystem that has no locks gives it to everybody.
    pub fn try_lock(&self) -> Result<Option<DirLock>, FileError> {
        let file = at::open_dir(&self.file, ".").map_err(failed(Operation::Open, &self.path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(DirLock(file))),
        }
    }

    fn remove_member(&self, name: &str, path: &Path) -> Result<(), FileError> {
        let current = match self.generation() {
            // A link that leads nowhere hides no value.
            Err(error) if error.is_not_found() => None,
            current => current?,
        };
        let Some(current) = current else { return Ok(()) };
        at::unlink(&current.dir, name).map_err(failed(Operation::Remove, path))?;
        at::sync_dir(&current.dir).map_err(failed(Operation::Sync, path))
    }

    pub(crate) fn entry(&self, name: &str) -> Result<Entry, FileError> {
        at::entry(&self.file, name).map_err(failed(Operation::Inspect, &self.path.join(name)))
    }

    /// Whether `name` is the link of a set.
    pub(crate) fn is_set_link(&self, name: &str) -> Result<bool, FileError> {
        let target = at::read_link(&self.file, name);
        let target = target.map_err(failed(Operation::Inspect, &self.path.join(name)))?;
        Ok(target.is_some_and(|target| target == OsStr::new(&name::link_target(name))))
    }

    pub(crate) fn sync(&self) -> Result<(), FileError> {
        at::sync_dir(&self.file).map_err(failed(Operation::Sync, &self.path))
    }
}

/// Without the slash or dot at the end that would make the kernel follow a link before it.
fn trimmed(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Makes one directory and those above it that are missing; `None` leaves the mode to the umask.
fn make(path: &Path, mode: Option<u32>) -> Result<File, FileError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(Operation::Create, path)(Errno::ENOENT));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let parent = match at::open_dir_following(AT_FDCWD, parent) {
        Err(Errno::ENOENT) => make(parent, None)?,
        opened => opened.map_err(failed(Operation::Open, parent))?,
    };
    let is_new = match mkdirat(&parent, name, Mode::from_bits_truncate(mode.unwrap_or(0o777))) {
        // Another process was faster: as if it had been there.
        Err(Errno::EEXIST) => false,
        result => result.map(|()| true).map_err(failed(Operation::Create, path))?,
    };
    let dir = at::open_dir(&parent, name).map_err(failed(Operation::Open, path))?;
    if is_new {
        if let Some(mode) = mode {
            set_mode(&dir, mode).map_err(failed(Operation::SetMode, path))?;
        }
        at::sync_dir(&parent).map_err(failed(Operation::Sync, path))?;
    }
    Ok(dir)
}

/// Undoes what the umask did. Where it did nothing the mode is not touched, since for a process outside of the
/// directory's group that would drop an inherited setgid bit.
fn set_mode(dir: &File, mode: u32) -> io::Result<()> {
    let found = dir.metadata()?.mode();
    if found & 0o777 == mode {
        return Ok(());
    }
    dir.set_permissions(Permissions::from_mode(mode | (found & 0o7000)))
}
