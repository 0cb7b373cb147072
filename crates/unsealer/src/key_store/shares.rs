//! Sets of key shares: where they lie, how they are written, and how a new set takes the place of an old one.

use std::path::{Path, PathBuf};

use agent_runtime::with_causes;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use secret_file::{Attrs, SecretDir};

use super::envelope::AGE;
use super::{KEY_MODE, KeyStore, KeyStoreError, MAX_FILE};
use crate::shamir::{self, Candidate};

const KEY_SHARE: &str = "unseal-key-";
const RECOVERY_SHARE: &str = "recovery-key-";

/// Which set of shares: the directory below each keys directory that it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The one that unseals.
    Current,
    /// A rekey's new one, until the server is known to have taken it.
    Rekeyed,
    /// The one before the last rekey, until the new one has unsealed.
    BeforeRekey,
}

/// One key share.
#[derive(Clone, Debug)]
pub(crate) struct KeyShare {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Vault's base64.
    pub(crate) value: SecretString,
}

/// The shares of one place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    pub(crate) found: Vec<KeyShare>,
    /// Files that could not be read or decrypted, and why.
    pub(crate) unreadable: Vec<(PathBuf, String)>,
}

impl Place {
    pub(super) const fn directory(self) -> Option<&'static str> {
        match self {
            Self::Current => None,
            Self::Rekeyed => Some("rekeyed"),
            Self::BeforeRekey => Some("before-rekey"),
        }
    }
}

impl Shares {
    /// The ways to choose `threshold` of them, the best first.
    pub(crate) fn candidates(&self, threshold: usize) -> Vec<Candidate> {
        shamir::candidates(&self.found.iter().map(|share| &share.value).collect::<Vec<_>>(), threshold)
    }

    /// Warns of those that are not good, given that the server took this candidate.
    pub(crate) fn warn_of_damage(&self, taken: &Candidate) {
        for (index, share) in self.found.iter().enumerate() {
            if !taken.agreeing.contains(&index) {
                tracing::warn!("{} is damaged or of another Vault", share.path.display());
            }
        }
        for (path, why) in &self.unreadable {
            tracing::warn!("{} cannot be used: {why}", path.display());
        }
    }

    /// A number that differs where any share does, under a key of this process.
    pub(crate) fn fingerprint(&self, key: &impl std::hash::BuildHasher) -> u64 {
        key.hash_one(self.found.iter().map(|share| share.value.expose_secret()).collect::<Vec<_>>())
    }

    /// Whether nothing that could be a share was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether these are the same shares in the same order.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        let values = |shares: &Self| -> Vec<String> {
            shares.found.iter().map(|share| share.value.expose_secret().to_owned()).collect()
        };
        values(self) == values(other)
    }

    fn has(&self, value: &SecretString) -> bool {
        self.found.iter().any(|share| share.value.expose_secret() == value.expose_secret())
    }
}

impl KeyStore {
    /// The shares of this place, in the order of their numbers.
    pub(crate) fn shares(&self, place: Place) -> Result<Shares, KeyStoreError> {
        self.read_shares(place, KEY_SHARE)
    }

    /// The recovery keys of a server that unseals itself: they make root tokens, and unseal nothing.
    pub(crate) fn recovery_keys(&self) -> Result<Shares, KeyStoreError> {
        self.read_shares(Place::Current, RECOVERY_SHARE)
    }

    fn read_shares(&self, place: Place, prefix: &str) -> Result<Shares, KeyStoreError> {
        let mut numbered = Vec::new();
        let mut shares = Shares::default();
        for dir in self.opened(place)?.into_iter().flatten() {
            for (number, name) in share_files(&dir, prefix)? {
                let path = dir.path().join(&name);
                match self.read_value(&dir, &name) {
                    Ok(value) => numbered.push((number, KeyShare { path, value })),
                    Err(error) => shares.unreadable.push((path, with_causes(&error))),
                }
            }
        }
        numbered.sort_by_key(|(number, _)| *number);
        shares.found = numbered.into_iter().map(|(_, share)| share).collect();
        Ok(shares)
    }

    /// Whether any share lies there.
    pub(crate) fn has_shares(&self, place: Place) -> Result<bool, KeyStoreError> {
        for dir in self.opened(place)?.into_iter().flatten() {
            if !share_files(&dir, KEY_SHARE)?.is_empty() || !share_files(&dir, RECOVERY_SHARE)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the shares and reads each back; `response` is what they came from. Can be repeated after a kill.
    pub(super) fn write_shares(
        &self,
        place: Place,
        shares: &[SecretString],
        recovery_shares: &[SecretString],
        response: &Path,
    ) -> Result<(), KeyStoreError> {
        let dirs = self.made(place)?;
        let numbered = |prefix, values| numbered(prefix, values);
        let files: Vec<_> =
            numbered(KEY_SHARE, shares).chain(numbered(RECOVERY_SHARE, recovery_shares)).collect();
        for (number, name, value) in &files {
            self.write_value(&dirs[(number - 1) % dirs.len()], name, value, KEY_MODE)?;
        }
        for (number, name, value) in &files {
            let dir = &dirs[(number - 1) % dirs.len()];
            self.compare(dir, &format!("{name}{}", self.envelope.suffix()), value, response)?;
        }
        Ok(())
    }

    /// Puts the rekey's new shares in the place of the current ones, of which copies stay in
    /// [`Place::BeforeRekey`]. Can be repeated after a kill; at every moment both sets are whole somewhere.
    pub(crate) fn promote(&self) -> Result<(), KeyStoreError> {
        let new = self.shares(Place::Rekeyed)?;
        if let Some((path, why)) = new.unreadable.first() {
            return Err(KeyStoreError::Incomplete { path: path.clone(), why: why.clone() });
        }
        let current = self.shares(Place::Current)?;
        // Once a new share is among the current ones, the old ones are all in the other place already.
        if !current.found.iter().any(|share| new.has(&share.value)) {
            self.copy_shares(Place::Current, &self.made(Place::BeforeRekey)?)?;
        }
        self.take_in(&new)?;
        self.drop_shares(Place::Rekeyed).map(drop)
    }

    /// Makes copies of the share files that lie there, as they are.
    pub(super) fn copy_shares(&self, from: Place, to: &[SecretDir]) -> Result<(), KeyStoreError> {
        for (dir, to) in self.opened(from)?.iter().zip(to) {
            let Some(dir) = dir else { continue };
            for (_, name) in share_files(dir, KEY_SHARE)? {
                to.replace(&name, &dir.read(&name, MAX_FILE)?, KEY_MODE)?;
            }
        }
        Ok(())
    }

    /// Makes these the current shares, and no others.
    pub(super) fn take_in(&self, new: &Shares) -> Result<(), KeyStoreError> {
        let values: Vec<SecretString> = new.found.iter().map(|share| share.value.clone()).collect();
        let source = new.found.first().map_or_else(PathBuf::new, |share| share.path.clone());
        self.write_shares(Place::Current, &values, &[], &source)?;
        for dir in &self.dirs {
            for (number, name) in share_files(dir, KEY_SHARE)? {
                if number > values.len() || number == 0 {
                    dir.remove(&name)?;
                }
            }
        }
        Ok(())
    }

    /// Removes what lies there, which is not the current place, and the directory; `false` where there was none.
    pub(crate) fn drop_shares(&self, place: Place) -> Result<bool, KeyStoreError> {
        let Some(name) = place.directory() else { return Ok(false) };
        let mut dropped = false;
        for (parent, dir) in self.dirs.iter().zip(self.opened(place)?) {
            let Some(dir) = dir else { continue };
            for (_, share) in share_files(&dir, KEY_SHARE)? {
                dir.remove(&share)?;
            }
            parent.remove_directory(name)?;
            dropped = true;
        }
        Ok(dropped)
    }

    /// The value of a file, decrypted where its name says so.
    pub(super) fn read_value(&self, dir: &SecretDir, name: &str) -> Result<SecretString, KeyStoreError> {
        Ok(text(&self.read_bytes(dir, name)?))
    }

    pub(super) fn read_bytes(&self, dir: &SecretDir, name: &str) -> Result<SecretSlice<u8>, KeyStoreError> {
        self.opened_up(&dir.path().join(name), name, dir.read(name, MAX_FILE)?)
    }

    /// What is in this content, which is decrypted where its `name` says so.
    pub(super) fn opened_up(
        &self,
        path: &Path,
        name: &str,
        content: SecretSlice<u8>,
    ) -> Result<SecretSlice<u8>, KeyStoreError> {
        if !name.ends_with(AGE) {
            return Ok(content);
        }
        let encrypted = |cause| KeyStoreError::Encrypted { path: path.to_owned(), cause };
        self.envelope.open(content.expose_secret()).map_err(encrypted)
    }

    /// Writes `name`, encrypted where that was asked for; a file of the other form goes.
    fn write_value(
        &self,
        dir: &SecretDir,
        name: &str,
        value: &SecretString,
        attrs: Attrs,
    ) -> Result<(), KeyStoreError> {
        let sealed = self.envelope.seal(value.expose_secret().as_bytes())?;
        dir.replace(&format!("{name}{}", self.envelope.suffix()), &sealed, attrs)?;
        let other = if self.envelope.suffix().is_empty() { format!("{name}{AGE}") } else { name.to_owned() };
        if dir.names()?.contains(&other) {
            dir.remove(&other)?;
        }
        Ok(())
    }

    fn compare(
        &self,
        dir: &SecretDir,
        name: &str,
        value: &SecretString,
        response: &Path,
    ) -> Result<(), KeyStoreError> {
        if self.read_bytes(dir, name)?.expose_secret() == value.expose_secret().as_bytes() {
            return Ok(());
        }
        Err(KeyStoreError::NotReadBack { path: dir.path().join(name), response: response.to_owned() })
    }

    /// The place's directories, where they are there.
    fn opened(&self, place: Place) -> Result<Vec<Option<SecretDir>>, KeyStoreError> {
        let open = |dir: &SecretDir| match place.directory() {
            None => SecretDir::open(dir.path()).map(Some),
            Some(name) => match SecretDir::open(&dir.path().join(name)) {
                Err(error) if error.is_not_found() => Ok(None),
                opened => opened.map(Some),
            },
        };
        Ok(self.dirs.iter().map(open).collect::<Result<_, _>>()?)
    }

    /// The place's directories, made where they are missing.
    fn made(&self, place: Place) -> Result<Vec<SecretDir>, KeyStoreError> {
        self.subdirectories(place.directory().unwrap_or("."))
    }

    pub(super) fn subdirectories(&self, name: &str) -> Result<Vec<SecretDir>, KeyStoreError> {
        let made = self.dirs.iter().map(|dir| SecretDir::create(&dir.path().join(name), 0o700));
        Ok(made.collect::<Result<_, _>>()?)
    }
}

/// The text of a file. A damaged share is the server's to refuse: the others may do.
pub(super) fn text(content: &SecretSlice<u8>) -> SecretString {
    String::from_utf8_lossy(content.expose_secret()).trim().to_owned().into()
}

/// The files of key shares in a directory, and their numbers.
fn share_files(dir: &SecretDir, prefix: &str) -> Result<Vec<(usize, String)>, KeyStoreError> {
    let number = |name: &str| name.strip_suffix(AGE).unwrap_or(name).strip_prefix(prefix)?.parse().ok();
    let names = dir.names()?.into_iter();
    Ok(names.filter_map(|name| number(&name).map(|number| (number, name))).collect())
}

fn numbered<'a>(
    prefix: &'a str,
    values: &'a [SecretString],
) -> impl Iterator<Item = (usize, String, &'a SecretString)> {
    values.iter().enumerate().map(move |(index, value)| (index + 1, format!("{prefix}{}", index + 1), value))
}
