use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};

/// Who may read a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attrs {
    /// The permission bits, in `0o000..=0o777`; what lies above is ignored. The umask has no say.
    pub mode: u32,
    /// The owner's uid; `None` leaves it to the system: the writer's.
    pub owner: Option<u32>,
    /// The group's gid; `None` leaves it to the system: the directory's where that is setgid, else the
    /// writer's.
    pub group: Option<u32>,
}

/// Whether a write had anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Something was written.
    Yes,
    /// Content and attributes were there already: the file is still the same inode.
    No,
}

impl Attrs {
    /// Readable and writable by the writer alone.
    pub const PRIVATE: Self = Self::mode(0o600);

    /// The permission bits `mode`, the owner and group that the system gives.
    #[must_use]
    pub const fn mode(mode: u32) -> Self {
        Self { mode, owner: None, group: None }
    }

    /// The permission bits of a directory that is made for such files: whoever may read one must come to it.
    #[must_use]
    pub const fn directory_mode(self) -> u32 {
        match self {
            Self { owner: None, group: None, mode } if mode & 0o070 == 0 => 0o700,
            Self { owner: None, group: None, .. } => 0o750,
            Self { .. } => 0o755,
        }
    }

    pub(crate) fn permissions(self) -> Permissions {
        Permissions::from_mode(self.mode & 0o777)
    }

    /// Whether `file` has them.
    pub(crate) fn are_of(self, file: &File) -> io::Result<bool> {
        let found = file.metadata()?;
        Ok(found.mode() & 0o7777 == self.mode & 0o777 && !self.owner_differs(found.uid(), found.gid()))
    }

    /// Gives `file` its owner and group. Without the privilege to change them this is no error as long as they
    /// are right.
    pub(crate) fn give_owner(self, file: &File) -> io::Result<()> {
        let found = file.metadata()?;
        if self.owner_differs(found.uid(), found.gid()) {
            fchown(file, self.owner, self.group)
        } else {
            Ok(())
        }
    }

    fn owner_differs(self, uid: u32, gid: u32) -> bool {
        self.owner.is_some_and(|owner| owner != uid) || self.group.is_some_and(|group| group != gid)
    }
}
