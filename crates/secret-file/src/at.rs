//! The system calls relative to a directory's descriptor.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt as _;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use nix::{NixPath, fcntl};

/// What is at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Absent,
    Regular,
    Symlink,
    /// In words.
    Other(&'static str),
}

pub(crate) fn entry(dir: &File, name: &str) -> io::Result<Entry> {
    let found = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::ENOENT) => return Ok(Entry::Absent),
        Err(errno) => return Err(errno.into()),
    };
    Ok(of_mode(found.st_mode))
}

pub(crate) fn of_mode(mode: u32) -> Entry {
    match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Entry::Regular,
        SFlag::S_IFLNK => Entry::Symlink,
        SFlag::S_IFDIR => Entry::Other("a directory"),
        SFlag::S_IFIFO => Entry::Other("a FIFO"),
        SFlag::S_IFSOCK => Entry::Other("a socket"),
        _ => Entry::Other("a device"),
    }
}

pub(crate) fn open_dir<P: NixPath + ?Sized>(dir: impl AsFd, path: &P) -> nix::Result<File> {
    open(dir, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)
}

/// As [`open_dir`], for the parents, which may be links.
pub(crate) fn open_dir_following<P: NixPath + ?Sized>(dir: impl AsFd, path: &P) -> nix::Result<File> {
    open(dir, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

/// Neither follows a link nor waits for a FIFO's writer.
pub(crate) fn open_file<P: NixPath + ?Sized>(dir: impl AsFd, path: &P) -> nix::Result<File> {
    open(dir, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW)
}

pub(crate) fn open_file_following<P: NixPath + ?Sized>(dir: impl AsFd, path: &P) -> nix::Result<File> {
    open(dir, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
}

/// Makes an empty file for its writer alone; fails where there is anything.
pub(crate) fn create_file(dir: &File, name: &str) -> nix::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
    openat(dir, name, flags | OFlag::O_CLOEXEC, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
}

fn open<P: NixPath + ?Sized>(dir: impl AsFd, path: &P, flags: OFlag) -> nix::Result<File> {
    openat(dir, path, flags | OFlag::O_CLOEXEC, Mode::empty()).map(File::from)
}

/// The target of a link; `None` where there is nothing at the name, or no link.
pub(crate) fn read_link(dir: &File, name: &str) -> io::Result<Option<OsString>> {
    match fcntl::readlinkat(dir, name) {
        Ok(target) => Ok(Some(target)),
        Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes what is no directory; `false` where there was nothing.
pub(crate) fn unlink(dir: &File, name: &str) -> io::Result<bool> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes an empty directory, if that can be done: what stays is a stray.
pub(crate) fn remove_dir(dir: &File, name: &str) {
    let _ = unlinkat(dir, name, UnlinkatFlags::RemoveDir);
}

/// All names but `.` and `..`, in order.
pub(crate) fn list(dir: &File) -> io::Result<Vec<OsString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut names = Vec::new();
    for found in Dir::openat(dir, ".", flags, Mode::empty())?.iter() {
        let name = found?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort();
    Ok(names)
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(dir: &File) -> io::Result<()> {
    match dir.sync_all() {
        // A filesystem that keeps nothing of its own for a directory says so; there is nothing to wait for.
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => Ok(()),
        result => result,
    }
}
