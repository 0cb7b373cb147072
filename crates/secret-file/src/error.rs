use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// Why a file could not be written or read. The system's own word, where there is one, is the source.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {operation} {}{}", path.display(), advice(cause))]
    Io {
        /// What was being done.
        operation: Operation,
        /// The file or directory as the caller named it, also where a temporary file beside it was meant.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// There is something at the name that is neither a regular file nor a link to be replaced.
    #[error("cannot {operation} {}: it is {found}, not a regular file; move it away", path.display())]
    NotRegular {
        /// What was being done.
        operation: Operation,
        /// What is in the way.
        path: PathBuf,
        /// "a directory", "a FIFO", …
        found: &'static str,
    },
    /// The last part of the path is a symbolic link, and where it leads is not for its maker to say.
    #[error("cannot {operation} {}: it is a symbolic link, which is not followed here; name what it leads to",
        path.display())]
    Symlink {
        /// What was being done.
        operation: Operation,
        /// The link.
        path: PathBuf,
    },
    /// `create_new` overwrites nothing.
    #[error("cannot create {}: it exists, and is not overwritten", path.display())]
    Exists {
        /// What exists.
        path: PathBuf,
    },
    /// More bytes than anything that belongs there has.
    #[error("cannot read {}: it is larger than {limit} bytes; is it the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The caller's bound, in bytes.
        limit: usize,
    },
    /// Nothing in it, or nothing but the newline at its end.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is not text.
    #[error("{} is not UTF-8 text; is it the right file?", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// A name that this crate will not use in a directory.
    #[error("{name:?} cannot name a file in {}: {why}", path.display())]
    BadName {
        /// The directory.
        path: PathBuf,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// `..data` is there, but as nothing that `replace_set` or Kubernetes makes.
    #[error("{} is not a link to a directory beside it whose name begins with \"..\"; move it away",
        path.display())]
    NotASet {
        /// The `..data` of the directory.
        path: PathBuf,
    },
    /// Each time the set was being read, its writer replaced it.
    #[error("cannot read the files in {} as one set: it is replaced faster than it can be read", path.display())]
    Unsettled {
        /// The directory.
        path: PathBuf,
    },
    /// The disk gave back something else than it was given.
    #[error("what was written to {} reads back otherwise; keep no secret on this filesystem", path.display())]
    NotReadBack {
        /// The directory.
        path: PathBuf,
    },
}

/// What was being done when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operation {
    Open,
    Inspect,
    List,
    Read,
    Create,
    Write,
    SetOwner,
    SetMode,
    Sync,
    Rename,
    Link,
    Remove,
}

impl FileError {
    /// The file or directory is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.errno() == Some(Errno::ENOENT)
    }

    /// There is a file already, where a new one was to be made.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::Exists { .. })
    }

    /// The system denies this process what it asked for.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self.errno(), Some(Errno::EACCES | Errno::EPERM))
    }

    /// What was named, or what is found there, is wrong: to be mended by whoever configured it.
    #[must_use]
    pub fn is_input(&self) -> bool {
        match self {
            Self::Io { .. } => {
                matches!(self.errno(), Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG))
            }
            Self::NotRegular { .. }
            | Self::Symlink { .. }
            | Self::TooLarge { .. }
            | Self::Empty { .. }
            | Self::NotUtf8 { .. }
            | Self::BadName { .. }
            | Self::NotASet { .. } => true,
            Self::Exists { .. } | Self::Unsettled { .. } | Self::NotReadBack { .. } => false,
        }
    }

    fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io { cause, .. } => cause.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }
}

/// For `map_err`: the system's word, with what was being done to `path`.
pub(crate) fn failed<E: Into<io::Error>>(operation: Operation, path: &Path) -> impl FnOnce(E) -> FileError {
    let path = path.to_owned();
    move |cause| {
        let cause = cause.into();
        match cause.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ELOOP) => FileError::Symlink { operation, path },
            Some(Errno::ENXIO) => {
                FileError::NotRegular { operation, path, found: "a socket or an absent device" }
            }
            _ => FileError::Io { operation, path, cause },
        }
    }
}

/// What to do about it, for those causes that somebody can do something about.
fn advice(cause: &io::Error) -> String {
    let advice = match cause.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC) => "free space or inodes on its filesystem",
        Some(Errno::EDQUOT) => "raise the quota, or free some of it",
        Some(Errno::EROFS) => "mount its filesystem writable",
        Some(Errno::EACCES | Errno::EPERM) => {
            return format!(
                " (this process is uid {}, gid {}: see the owner and mode of it and of the directories above)",
                nix::unistd::geteuid(),
                nix::unistd::getegid(),
            );
        }
        Some(Errno::EIO) => "the disk may be failing: see the kernel's log",
        _ => return String::new(),
    };
    format!(" ({advice})")
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Inspect => "inspect",
            Self::List => "list",
            Self::Read => "read",
            Self::Create => "create",
            Self::Write => "write",
            Self::SetOwner => "set the owner of",
            Self::SetMode => "set the mode of",
            Self::Sync => "sync",
            Self::Rename => "rename a new file to",
            Self::Link => "link",
            Self::Remove => "remove",
        })
    }
}
