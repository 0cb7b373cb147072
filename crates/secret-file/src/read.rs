use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::fcntl::AT_FDCWD;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use zeroize::Zeroizing;

use crate::at::{self, Entry};
use crate::dir::SecretDir;
use crate::error::{FileError, Operation, failed};
use crate::name;

/// How often a set is read anew because its writer replaced it meanwhile. Twice in a row is bad luck.
const TRIES: usize = 32;

/// Reads a regular file of at most `limit` bytes. Symbolic links are followed: this is for paths that the
/// operator names, such as Docker's `/run/secrets/…`.
pub fn read_file(path: &Path, limit: usize) -> Result<SecretSlice<u8>, FileError> {
    let file = at::open_file_following(AT_FDCWD, path).map_err(failed(Operation::Open, path))?;
    content(&file, path, limit)
}

/// Reads UTF-8 text of at most `limit` bytes as [`read_file`] does, without the one newline (`\n` or `\r\n`) that
/// an editor leaves at the end. Nothing else is trimmed. Empty text is an error.
pub fn read_text(path: &Path, limit: usize) -> Result<SecretString, FileError> {
    let content = read_file(path, limit)?;
    let text = std::str::from_utf8(content.expose_secret())
        .map_err(|_| FileError::NotUtf8 { path: path.to_owned() })?;
    let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(FileError::Empty { path: path.to_owned() });
    }
    Ok(SecretString::from(line))
}

impl SecretDir {
    /// Reads a regular file of at most `limit` bytes. The only symbolic link that is followed is that of a set.
    pub fn read(&self, name: &str, limit: usize) -> Result<SecretSlice<u8>, FileError> {
        name::check(self.path(), name)?;
        match self.read_in(&self.file, name, limit) {
            Err(FileError::Symlink { .. }) if self.is_set_link(name)? => {
                let mut values = self.read_set(&[name], limit)?;
                // One name, one value.
                Ok(values.swap_remove(0))
            }
            read => read,
        }
    }

    /// Reads files, each of at most `limit` bytes, that belong together, in the order of `names`.
    ///
    /// From a directory written by [`replace_set`](Self::replace_set), or by Kubernetes, all are of one
    /// generation; from any other the plain files are read one by one.
    pub fn read_set(&self, names: &[&str], limit: usize) -> Result<Vec<SecretSlice<u8>>, FileError> {
        names.iter().try_for_each(|name| name::check(self.path(), name))?;
        for _ in 0..TRIES {
            let current = self.generation()?;
            let dir = current.as_ref().map_or(&self.file, |current| &current.dir);
            let values = names.iter().map(|name| self.read_in(dir, name, limit)).collect();
            match values {
                // The writer removes a generation once it is replaced, and plain files once they are links.
                Err(FileError::Io { .. } | FileError::Symlink { .. })
                    if self.current()? != current.as_ref().map(|current| current.name.clone()) => {}
                values => return values,
            }
        }
        Err(FileError::Unsettled { path: self.path().to_owned() })
    }

    /// `dir` is this directory or a generation in it; messages name the file as the caller does.
    pub(crate) fn read_in(&self, dir: &File, name: &str, limit: usize) -> Result<SecretSlice<u8>, FileError> {
        let path = self.path().join(name);
        let file = at::open_file(dir, name).map_err(failed(Operation::Open, &path))?;
        content(&file, &path, limit)
    }
}

pub(crate) fn content(file: &File, path: &Path, limit: usize) -> Result<SecretSlice<u8>, FileError> {
    let found = file.metadata().map_err(failed(Operation::Inspect, path))?;
    if let Entry::Other(found) = at::of_mode(found.mode()) {
        return Err(FileError::NotRegular { operation: Operation::Read, path: path.to_owned(), found });
    }
    let size = usize::try_from(found.len()).unwrap_or(usize::MAX);
    let too_large = || FileError::TooLarge { path: path.to_owned(), limit };
    if size > limit {
        return Err(too_large());
    }
    bounded(file, size, limit).map_err(failed(Operation::Read, path))?.ok_or_else(too_large)
}

/// All of `file`, or `None` if it has more than `limit` bytes. `expected` is a good guess of how many it has.
pub(crate) fn bounded(mut file: &File, expected: usize, limit: usize) -> io::Result<Option<SecretSlice<u8>>> {
    // One more than is wanted, so that the end is seen.
    let room = |size: usize| Zeroizing::new(vec![0_u8; size.min(limit).saturating_add(1)]);
    let mut buffer = room(expected);
    let mut filled = 0;
    loop {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(Some(buffer[..filled].to_vec().into())),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if filled > limit {
            return Ok(None);
        }
        if filled == buffer.len() {
            // A Vec that grows by itself leaves the bytes behind in the old place.
            let mut larger = room(filled.saturating_mul(2));
            larger[..filled].copy_from_slice(&buffer);
            buffer = larger;
        }
    }
}
