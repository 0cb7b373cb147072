//! What was delivered to a directory, as it lies there now.

use std::path::Path;

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use secret_file::{FileError, SecretDir};

const ROLE_ID: &str = "role_id";
const SECRET_ID: &str = "secret_id";
const ACCESSOR: &str = "accessor";
/// In the order in which they are read and put.
pub(super) const FILES: [&str; 3] = [ROLE_ID, SECRET_ID, ACCESSOR];

const MAX_FILE: usize = 4096;

/// The files in a directory, of one delivery.
pub(super) struct Delivered {
    pub(super) role_id: SecretString,
    pub(super) accessor: String,
    /// In the order of [`FILES`].
    pub(super) files: Vec<SecretSlice<u8>>,
}

/// What lies in a directory.
pub(super) enum Found {
    /// Nothing, or not all of it.
    Nothing,
    /// Somebody put another file in the place of one.
    Altered,
    Whole(Delivered),
}

impl Found {
    /// What lies there now.
    pub(super) fn read(directory: &Path) -> Result<Self, FileError> {
        let directory = SecretDir::open(directory)?;
        let files = directory.read_set(&FILES, MAX_FILE)?;
        // The set may be whole while there is another file, or none, at the name that the service reads.
        for (name, value) in FILES.iter().zip(&files) {
            if directory.read(name, MAX_FILE)?.expose_secret() != value.expose_secret() {
                return Ok(Self::Altered);
            }
        }
        let text =
            |index: usize| Some(std::str::from_utf8(files.get(index)?.expose_secret()).ok()?.to_owned());
        let (Some(role_id), Some(accessor)) = (text(0), text(2)) else { return Ok(Self::Altered) };
        Ok(Self::Whole(Delivered { role_id: role_id.into(), accessor, files }))
    }
}

/// Whether credentials that bootstrap delivered lie in a directory.
pub(crate) fn is_delivered(directory: &Path) -> bool {
    accessor(directory).is_ok_and(|accessor| accessor.is_some())
}

/// The accessor of the credentials that lie in a directory, undisturbed; `None` where there are none.
pub(crate) fn accessor(directory: &Path) -> Result<Option<String>, FileError> {
    match Found::read(directory) {
        Ok(Found::Whole(delivered)) => Ok(Some(delivered.accessor)),
        Ok(Found::Nothing | Found::Altered) => Ok(None),
        Err(error) if error.is_input() => Ok(None),
        Err(error) => Err(error),
    }
}
