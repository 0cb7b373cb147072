//! Sets of files that change together, by the scheme of Kubernetes' `AtomicWriter`: each `name` is a link to
//! `..data/name`, and `..data` a link to the directory of one generation. One rename of `..data` changes all.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use secrecy::SecretSlice;

use crate::at::{self, Entry};
use crate::attrs::{Attrs, Changed};
use crate::dir::SecretDir;
use crate::error::{FileError, Operation, failed};
use crate::name::{self, CURRENT, GENERATION};
use crate::stray;
use crate::write::{fill, open_if_same};

/// How often the current generation is looked up anew because it was removed between its name and its opening.
const TRIES: usize = 32;
/// A link on its way to its place. It is made in a generation, and so cleared with it.
const NEW_LINK: &str = "..link";

/// One file of a set.
#[derive(Clone, Copy, Debug)]
pub struct SetFile<'a> {
    /// Its name in the directory.
    pub name: &'a str,
    /// Its content.
    pub value: &'a SecretSlice<u8>,
    /// Who may read it.
    pub attrs: Attrs,
}

impl SecretDir {
    /// Makes `files`, and no others, the set of this directory, all at one instant, atomically and durably.
    ///
    /// Whoever opens a name of the set sees the old one, or nothing if there was none, before the instant and the
    /// new one after it; whoever wants several files of one generation uses [`read_set`](Self::read_set). Links
    /// of names that are no longer in the set are removed. A plain file or a foreign link in the way becomes the
    /// link of the set, each by a rename of its own after that instant; a directory, FIFO, socket or device is
    /// an error before anything is written. A set that is right already is left alone.
    ///
    /// A generation's directory has mode 0755, as with Kubernetes: this directory guards the way into it.
    pub fn replace_set(&self, files: &[SetFile<'_>]) -> Result<Changed, FileError> {
        let names = self.checked_names(files)?;
        self.clear_strays();
        let current = match self.generation() {
            // Somebody removed the directory that `..data` leads to.
            Err(error) if error.is_not_found() => None,
            current => current?,
        };
        if let Some(current) = current.as_ref().filter(|current| current.holds(files)) {
            let settled = self.settle_links(&names, &current.dir)?;
            self.sync()?;
            return Ok(settled);
        }
        let mut new = NewGeneration::write(self, files)?;
        self.link_missing(&names)?;
        // The rename must not reach the disk before what it leads to.
        self.sync()?;
        new.make_current()?;
        self.settle_links(&names, &new.dir)?;
        self.sync()?;
        if let Some(old) = current.filter(|old| old.name.starts_with(GENERATION)) {
            self.remove_generation(&old.name, &old.dir);
        }
        Ok(Changed::Yes)
    }

    /// Removes the set: all its names at one instant, then what they were. What else lies in the directory stays.
    pub fn remove_set(&self) -> Result<Changed, FileError> {
        self.clear_strays();
        let current = match self.generation() {
            Err(error) if error.is_not_found() => None,
            current => current?,
        };
        let path = self.path().join(CURRENT);
        let is_set = self.current()?.is_some();
        let removed = is_set && at::unlink(&self.file, CURRENT).map_err(failed(Operation::Remove, &path))?;
        let mut changed = if removed { Changed::Yes } else { Changed::No };
        for name in self.names()? {
            if self.is_set_link(&name)? {
                at::unlink(&self.file, &name).map_err(failed(Operation::Remove, &self.path().join(&name)))?;
                changed = Changed::Yes;
            }
        }
        self.sync()?;
        if let Some(old) = current.filter(|old| old.name.starts_with(GENERATION)) {
            self.remove_generation(&old.name, &old.dir);
        }
        Ok(changed)
    }

    /// The current generation, opened; `None` where the directory holds no set.
    pub(crate) fn generation(&self) -> Result<Option<Generation>, FileError> {
        let path = self.path().join(CURRENT);
        let mut gone = Errno::ENOENT;
        for _ in 0..TRIES {
            let Some(name) = self.current()? else { return Ok(None) };
            match at::open_dir(&self.file, name.as_str()) {
                Ok(dir) => return Ok(Some(Generation { name, dir })),
                Err(errno @ Errno::ENOENT) => gone = errno,
                Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(FileError::NotASet { path }),
                Err(errno) => return Err(failed(Operation::Open, &path)(errno)),
            }
        }
        Err(failed(Operation::Open, &path)(gone))
    }

    /// The name of the current generation.
    pub(crate) fn current(&self) -> Result<Option<String>, FileError> {
        let path = self.path().join(CURRENT);
        let Some(target) = at::read_link(&self.file, CURRENT).map_err(failed(Operation::Inspect, &path))?
        else {
            return match self.entry(CURRENT)? {
                // Absent at the first look, and a set since: as good as absent still.
                Entry::Absent | Entry::Symlink => Ok(None),
                Entry::Regular | Entry::Other(_) => Err(FileError::NotASet { path }),
            };
        };
        match target.into_string() {
            Ok(name) if name.starts_with("..") && name != ".." && name != CURRENT && !name.contains('/') => {
                Ok(Some(name))
            }
            _ => Err(FileError::NotASet { path }),
        }
    }

    fn checked_names<'a>(&self, files: &[SetFile<'a>]) -> Result<BTreeSet<&'a str>, FileError> {
        let mut names = BTreeSet::new();
        for file in files {
            name::check(self.path(), file.name)?;
            if !names.insert(file.name) {
                let (path, name) = (self.path().to_owned(), file.name.to_owned());
                return Err(FileError::BadName { path, name, why: "it is in the set twice" });
            }
            if let Entry::Other(found) = self.entry(file.name)? {
                let path = self.path().join(file.name);
                return Err(FileError::NotRegular { operation: Operation::Link, path, found });
            }
        }
        Ok(names)
    }

    /// Links for names where there is nothing. Until `..data` leads to a generation that has the name there is
    /// still nothing for a reader: so the names of a set appear together too.
    fn link_missing(&self, names: &BTreeSet<&str>) -> Result<(), FileError> {
        for name in names {
            match symlinkat(name::link_target(name).as_str(), &self.file, *name) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(failed(Operation::Link, &self.path().join(name))(errno)),
            }
        }
        Ok(())
    }

    /// Links for names where there is something else, and none for names that are not in the set.
    fn settle_links(&self, names: &BTreeSet<&str>, current: &File) -> Result<Changed, FileError> {
        let mut changed = Changed::No;
        for name in names {
            if !self.is_set_link(name)? {
                self.place_link(current, &name::link_target(name), name)?;
                changed = Changed::Yes;
            }
        }
        for name in self.names()? {
            if !names.contains(name.as_str()) && self.is_set_link(&name)? {
                at::unlink(&self.file, &name).map_err(failed(Operation::Remove, &self.path().join(&name)))?;
                changed = Changed::Yes;
            }
        }
        Ok(changed)
    }

    /// Puts a link to `target` at `name`, whatever file or link is there.
    fn place_link(&self, generation: &File, target: &str, name: &str) -> Result<(), FileError> {
        let path = self.path().join(name);
        // Left by a writer that was killed before its rename.
        at::unlink(generation, NEW_LINK).map_err(failed(Operation::Remove, &path))?;
        symlinkat(target, generation, NEW_LINK).map_err(failed(Operation::Link, &path))?;
        renameat(generation, NEW_LINK, &self.file, name).map_err(failed(Operation::Rename, &path))
    }
}

/// The directory of one generation of a set.
pub(crate) struct Generation {
    pub(crate) name: String,
    pub(crate) dir: File,
}

impl Generation {
    /// Whether it has just these files.
    fn holds(&self, files: &[SetFile<'_>]) -> bool {
        let names = at::list(&self.dir).unwrap_or_default();
        let count = names.iter().filter(|name| *name != NEW_LINK).count();
        count == files.len()
            && files.iter().all(|file| open_if_same(&self.dir, file.name, file.value, file.attrs).is_some())
    }
}

/// A generation that is not the current one yet. Removed when dropped, unless it became so.
struct NewGeneration<'a> {
    parent: &'a SecretDir,
    name: String,
    /// Locked as long as it is open, so that no other writer takes the generation for a stray.
    dir: File,
    is_current: bool,
}

impl<'a> NewGeneration<'a> {
    /// Complete and synced.
    fn write(parent: &'a SecretDir, files: &[SetFile<'_>]) -> Result<Self, FileError> {
        let new = Self::make(parent)?;
        for file in files {
            let path = parent.path().join(file.name);
            let made = at::create_file(&new.dir, file.name).map_err(failed(Operation::Create, &path))?;
            fill(&made, &path, file.value, file.attrs)?;
        }
        // Last: for a process outside of the directory's group this drops the setgid bit, by which the files got
        // their group.
        let mode = Permissions::from_mode(0o755);
        new.dir.set_permissions(mode).map_err(failed(Operation::SetMode, parent.path()))?;
        at::sync_dir(&new.dir).map_err(failed(Operation::Sync, parent.path()))?;
        Ok(new)
    }

    /// Empty.
    fn make(parent: &'a SecretDir) -> Result<Self, FileError> {
        let path = parent.path();
        loop {
            let name = name::fresh(GENERATION).map_err(failed(Operation::Create, path))?;
            mkdirat(&parent.file, name.as_str(), Mode::S_IRWXU).map_err(failed(Operation::Create, path))?;
            match at::open_dir(&parent.file, name.as_str()) {
                Ok(dir) => {
                    let new = Self { parent, name, dir, is_current: false };
                    if stray::claim(&new.dir).map_err(failed(Operation::Inspect, path))? {
                        return Ok(new);
                    }
                }
                // Another writer cleared it before it was locked: once more, under another name.
                Err(Errno::ENOENT) => {}
                Err(errno) => {
                    at::remove_dir(&parent.file, &name);
                    return Err(failed(Operation::Open, path)(errno));
                }
            }
        }
    }

    fn make_current(&mut self) -> Result<(), FileError> {
        self.parent.place_link(&self.dir, &self.name, CURRENT)?;
        self.is_current = true;
        Ok(())
    }
}

impl Drop for NewGeneration<'_> {
    fn drop(&mut self) {
        if !self.is_current {
            self.parent.remove_generation(&self.name, &self.dir);
        }
    }
}
