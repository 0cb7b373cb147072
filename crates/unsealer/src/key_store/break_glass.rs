//! The credential of the break-glass role, beside the shares and encrypted as they are.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use secret_file::{SecretDir, SetFile};

use super::envelope::AGE;
use super::shares::text;
use super::{BREAK_GLASS, KEY_MODE, KeyStore, KeyStoreError, MAX_FILE};

const FILES: [&str; 2] = ["role_id", "secret_id"];

/// What the break-glass role logs in with.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) role_id: SecretString,
    pub(crate) secret_id: SecretString,
}

impl KeyStore {
    /// The credential of the break-glass role; `None` where it was not made yet.
    pub(crate) fn break_glass_credential(&self) -> Result<Option<Credential>, KeyStoreError> {
        let Some((dir, names)) = self.break_glass_files()? else { return Ok(None) };
        let mut values = Vec::new();
        for (name, content) in names.iter().zip(read(&dir, &names)?) {
            values.push(text(&self.opened_up(&dir.path().join(name), name, content)?));
        }
        let mut values = values.into_iter();
        Ok(values.next().zip(values.next()).map(|(role_id, secret_id)| Credential { role_id, secret_id }))
    }

    /// Whether there is one, which may be encrypted to somebody else.
    pub(crate) fn has_break_glass_credential(&self) -> Result<bool, KeyStoreError> {
        Ok(self.break_glass_files()?.is_some())
    }

    /// Stores the credential of the break-glass role.
    pub(crate) fn keep_break_glass_credential(&self, credential: &Credential) -> Result<(), KeyStoreError> {
        let seal = |value: &SecretString| self.envelope.seal(value.expose_secret().as_bytes());
        let values = [seal(&credential.role_id)?, seal(&credential.secret_id)?];
        let names = FILES.map(|name| format!("{name}{}", self.envelope.suffix()));
        let files = [0, 1].map(|file| SetFile { name: &names[file], value: &values[file], attrs: KEY_MODE });
        SecretDir::create(&self.break_glass_path(), 0o700)?.replace_set(&files)?;
        Ok(())
    }

    /// Makes a copy of it in `to`, as it is.
    pub(super) fn copy_break_glass_credential(&self, to: &SecretDir) -> Result<(), KeyStoreError> {
        let Some((dir, names)) = self.break_glass_files()? else { return Ok(()) };
        let values = read(&dir, &names)?;
        let files: Vec<_> =
            names.iter().zip(&values).map(|(name, value)| SetFile { name, value, attrs: KEY_MODE }).collect();
        SecretDir::create(&to.path().join(BREAK_GLASS), 0o700)?.replace_set(&files)?;
        Ok(())
    }

    /// Removes it.
    pub(super) fn drop_break_glass_credential(&self) -> Result<(), KeyStoreError> {
        SecretDir::create(&self.break_glass_path(), 0o700)?.replace_set(&[])?;
        Ok(())
    }

    /// The directory of the break-glass credential, for messages.
    pub(crate) fn break_glass_path(&self) -> PathBuf {
        self.first().path().join(BREAK_GLASS)
    }

    /// Its directory, and the names of its files there.
    fn break_glass_files(&self) -> Result<Option<(SecretDir, [String; 2])>, KeyStoreError> {
        // A look makes no directory: it would belong to an initialisation that never was.
        let dir = match SecretDir::open(&self.break_glass_path()) {
            Err(error) if error.is_not_found() => return Ok(None),
            opened => opened?,
        };
        let there = dir.names()?;
        let forms = [AGE, ""].map(|suffix| FILES.map(|name| format!("{name}{suffix}")));
        let found = forms.into_iter().find(|names| names.iter().all(|name| there.contains(name)));
        Ok(found.map(|names| (dir, names)))
    }
}

fn read(dir: &SecretDir, names: &[String; 2]) -> Result<Vec<SecretSlice<u8>>, KeyStoreError> {
    Ok(dir.read_set(&names.each_ref().map(String::as_str), MAX_FILE)?)
}
