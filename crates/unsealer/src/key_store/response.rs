//! The server's answer with the keys, as it lies on the disk from its arrival until it is split.
//!
//! With one keys directory it is one file. With several it would put all shares on one volume, so it is cut into two
//! halves that are worth nothing alone: random bytes of its length in the second directory, and the answer XOR those
//! in the first, which is written last and whose presence says that the answer is here.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretSlice};
use secret_file::SecretDir;
use zeroize::Zeroizing;

use super::envelope::AGE;
use super::{KEY_MODE, KeyStore, KeyStoreError, MAX_FILE};

/// What the name of a half ends in.
const HALF: &str = ".half";

/// Whether the answer of this name is here, among the names of the first directory.
pub(super) fn is_here(names: &[String], wanted: &str) -> bool {
    find(names, wanted).is_some()
}

/// Its file among these, in whichever form.
fn find<'a>(names: &'a [String], wanted: &str) -> Option<&'a String> {
    let plain = |name: &'a str| {
        let name = name.strip_suffix(HALF).unwrap_or(name);
        name.strip_suffix(AGE).unwrap_or(name)
    };
    names.iter().find(|name| plain(name) == wanted)
}

impl KeyStore {
    /// Stores an answer where there is none. After a failure it can be tried again with the same: what is in place
    /// already is made durable.
    pub(super) fn keep(&self, name: &str, body: &[u8]) -> Result<(), KeyStoreError> {
        if find(&self.first().names()?, name).is_some() {
            let (path, stored) = self.kept(name)?;
            if stored.expose_secret() != body {
                return Err(KeyStoreError::Occupied { path });
            }
            return self.make_durable(&path);
        }
        let sealed = self.envelope.seal(body)?;
        let name = format!("{name}{}", self.envelope.suffix());
        let Some(second) = self.second() else {
            return Ok(self.first().create_new(&name, &sealed, KEY_MODE)?);
        };
        let mut pad = vec![0; sealed.expose_secret().len()];
        getrandom::fill(&mut pad).map_err(KeyStoreError::Random)?;
        let pad = SecretSlice::from(pad);
        let name = format!("{name}{HALF}");
        second.replace(&name, &pad, KEY_MODE)?;
        Ok(self.first().create_new(&name, &xor(&sealed, &pad), KEY_MODE)?)
    }

    /// Where the answer lies, and what it says.
    pub(super) fn kept(&self, name: &str) -> Result<(PathBuf, SecretSlice<u8>), KeyStoreError> {
        let names = self.first().names()?;
        let file = find(&names, name).map_or(name, String::as_str);
        let path = self.path().join(file);
        let Some(whole) = file.strip_suffix(HALF) else {
            return Ok((path, self.read_bytes(self.first(), file)?));
        };
        let half = self.first().read(file, MAX_FILE)?;
        let mut pads = self.dirs[1..].iter().filter_map(|dir| match dir.read(file, MAX_FILE) {
            Err(error) if error.is_not_found() => None,
            read => Some(read),
        });
        let pad = match pads.next().transpose()? {
            Some(pad) if pad.expose_secret().len() == half.expose_secret().len() => pad,
            _ => return Err(KeyStoreError::HalfMissing { path }),
        };
        let answer = self.opened_up(&path, whole, xor(&half, &pad))?;
        Ok((path, answer))
    }

    /// Removes it, its first half first: what that leaves is worth nothing, and goes with it at the next chance.
    pub(super) fn drop_response(&self, name: &str) -> Result<(), KeyStoreError> {
        for dir in &self.dirs {
            if let Some(file) = find(&dir.names()?, name) {
                dir.remove(file)?;
            }
        }
        Ok(())
    }

    fn make_durable(&self, path: &std::path::Path) -> Result<(), KeyStoreError> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
        for dir in std::iter::once(self.first()).chain(self.second().filter(|_| name.ends_with(HALF))) {
            let stored = dir.read(name, MAX_FILE)?;
            dir.replace(name, &stored, KEY_MODE)?;
        }
        Ok(())
    }

    fn second(&self) -> Option<&SecretDir> {
        self.dirs.get(1)
    }
}

fn xor(one: &SecretSlice<u8>, other: &SecretSlice<u8>) -> SecretSlice<u8> {
    let bytes = one.expose_secret().iter().zip(other.expose_secret()).map(|(one, other)| one ^ other);
    // Of the right size from the start: a vector that grows leaves copies behind.
    let mut mixed = Zeroizing::new(Vec::with_capacity(one.expose_secret().len()));
    mixed.extend(bytes);
    SecretSlice::from(std::mem::take(&mut *mixed))
}
