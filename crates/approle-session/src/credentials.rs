//! The credentials directory: `role_id` and `secret_id`, delivered by `bootstrap`.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use secret_file::{FileError, SecretDir};

/// Far above what Vault makes (36 characters) and what operators set themselves.
const MAX_FILE: usize = 4096;

/// A `role_id` and a `secret_id` that belong together.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The role's ID.
    pub role_id: SecretString,
    /// A secret ID of it.
    pub secret_id: SecretString,
}

/// Tells one pair of credentials from another and betrays nothing of them: a hash under a random key that
/// lives as long as the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub(crate) u64);

/// Why a directory holds no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The directory or a file cannot be read.
    #[error("the AppRole credentials cannot be read")]
    File(#[source] FileError),
    /// A file holds something else.
    #[error("{0} does not hold an AppRole credential: it must be one line of printable characters")]
    NotACredential(String),
}

impl Credentials {
    /// Reads `role_id` and `secret_id` of one delivery: never one of each.
    pub fn read(directory: &Path) -> Result<Self, CredentialsError> {
        const NAMES: [&str; 2] = ["role_id", "secret_id"];
        let files = SecretDir::open(directory)
            .and_then(|directory| directory.read_set(&NAMES, MAX_FILE))
            .map_err(CredentialsError::File)?;
        let mut values = NAMES.iter().zip(&files).map(|(name, content)| {
            one_line(content)
                .ok_or_else(|| CredentialsError::NotACredential(directory.join(name).display().to_string()))
        });
        let mut value =
            || values.next().unwrap_or_else(|| Err(CredentialsError::NotACredential(String::new())));
        Ok(Self { role_id: value()?, secret_id: value()? })
    }

    /// Their fingerprint under `key`.
    #[must_use]
    pub fn fingerprint(&self, key: &RandomState) -> Fingerprint {
        Fingerprint(key.hash_one((self.role_id.expose_secret(), self.secret_id.expose_secret())))
    }
}

/// The text without the newline that an editor or `vault write -field` may have left.
fn one_line(content: &SecretSlice<u8>) -> Option<SecretString> {
    let text = std::str::from_utf8(content.expose_secret()).ok()?.trim_end_matches(['\r', '\n']);
    let printable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    printable.then(|| SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn directory(role_id: &str, secret_id: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("role_id"), role_id).unwrap();
        fs::write(dir.path().join("secret_id"), secret_id).unwrap();
        dir
    }

    #[test]
    fn reads_what_was_delivered_or_written_by_hand() {
        for (role_id, secret_id) in [("role-1", "canary"), ("role-1\n", "canary\r\n")] {
            let read = Credentials::read(directory(role_id, secret_id).path()).unwrap();
            assert_eq!(read.role_id.expose_secret(), "role-1");
            assert_eq!(read.secret_id.expose_secret(), "canary");
            assert!(!format!("{read:?}").contains("canary"));
        }
    }

    #[test]
    fn refuses_the_rest_by_its_path() {
        for secret_id in ["", "\n", "two\nlines-canary", "nul\0canary", "sp ace-canary"] {
            let dir = directory("role-1", secret_id);
            let error = Credentials::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains("secret_id") && !error.contains("canary"), "{error}");
        }
        assert!(matches!(Credentials::read(Path::new("/nonexistent")), Err(CredentialsError::File(_))));
    }

    #[test]
    fn fingerprints_follow_the_content() {
        let key = RandomState::new();
        let read = |dir: &tempfile::TempDir| Credentials::read(dir.path()).unwrap().fingerprint(&key);
        let first = directory("role-1", "one");
        assert_eq!(read(&first), read(&directory("role-1\n", "one")));
        assert_ne!(read(&first), read(&directory("role-1", "two")));
        assert_ne!(read(&first), read(&directory("role-2", "one")));
    }
}
