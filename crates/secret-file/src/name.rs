//! Names in a secret directory. Those that begin with `..` are the crate's own (as they are Kubernetes' own in
//! a volume), all others the caller's.

use std::io;
use std::path::Path;

use crate::error::FileError;

/// The link to the generation of a set that is valid now.
pub(crate) const CURRENT: &str = "..data";
/// A file that is about to be renamed to its name.
pub(crate) const TEMPORARY: &str = "..tmp-";
/// A directory with the files of one generation of a set.
pub(crate) const GENERATION: &str = "..gen-";

/// Refuses what is no plain name of the caller's.
pub(crate) fn check(directory: &Path, name: &str) -> Result<(), FileError> {
    let why = match name {
        "" => "it is empty",
        "." => "it is the directory itself",
        _ if name.starts_with("..") => "names that begin with \"..\" are reserved",
        _ if name.contains('/') => "it contains a slash",
        _ if name.contains('\0') => "it contains a NUL",
        _ => return Ok(()),
    };
    Err(FileError::BadName { path: directory.to_owned(), name: name.to_owned(), why })
}

/// A name that nobody can foresee, so that nobody can put something there first.
pub(crate) fn fresh(prefix: &str) -> io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    Ok(format!("{prefix}{:032x}", u128::from_ne_bytes(random)))
}

/// What the link `name` of a set leads to.
pub(crate) fn link_target(name: &str) -> String {
    format!("{CURRENT}/{name}")
}
