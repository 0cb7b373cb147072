//! The server's answer with the keys, as it lies on the disk from its arrival until it is split.
//!
//! With one keys directory it is one file. With several it would put all shares on one volume, so it is worth nothing
//! without what lies on another: random bytes, the pad, which are in the second directory before anything is asked for.
//! The first gets the answer XOR the pad.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretSlice};
use zeroize::Zeroizing;

use super::envelope::AGE;
use super::{KEY_MODE, KeyStore, KeyStoreError, MAX_FILE};

/// What the name of an answer ends in that has to be put together with its pad.
const HALF: &str = ".half";
/// What the pad's name ends in.
const PAD: &str = ".pad";
/// Longer than an answer for five shares is, encrypted too. A longer answer gets a longer one.
const PAD_LENGTH: usize = 64 * 1024;

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
    /// Makes ready for an answer, so that one write is all that is left to do once it is here.
    pub(super) fn expect(&self, name: &str) -> Result<(), KeyStoreError> {
        if self.dirs.len() > 1 { self.make_pad(name, PAD_LENGTH).map(drop) } else { Ok(()) }
    }

    /// Stores an answer where there is none. After a failure it can be tried again with the same: what is in place
    /// already is made durable.
    pub(super) fn keep(&self, name: &str, body: &[u8]) -> Result<(), KeyStoreError> {
        if let Some(file) = find(&self.first().names()?, name) {
            let (path, stored) = self.kept(name)?;
            if stored.expose_secret() != body {
                return Err(KeyStoreError::Occupied { path });
            }
            let stored = self.first().read(file, MAX_FILE)?;
            return Ok(self.first().replace(file, &stored, KEY_MODE).map(drop)?);
        }
        let sealed = self.envelope.seal(body)?;
        let file = format!("{name}{}", self.envelope.suffix());
        if self.dirs.len() == 1 {
            return Ok(self.first().create_new(&file, &sealed, KEY_MODE)?);
        }
        let length = sealed.expose_secret().len();
        let pad = match self.pad(name)? {
            Some(pad) if pad.expose_secret().len() >= length => pad,
            _ => self.make_pad(name, length)?,
        };
        Ok(self.first().create_new(&format!("{file}{HALF}"), &xor(&sealed, &pad), KEY_MODE)?)
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
        match self.pad(name)? {
            Some(pad) if pad.expose_secret().len() >= half.expose_secret().len() => {
                let answer = self.opened_up(&path, whole, xor(&half, &pad))?;
                Ok((path, answer))
            }
            _ => Err(KeyStoreError::PadMissing { path, pad: format!("{name}{PAD}") }),
        }
    }

    /// Finds an answer that a start had written and was killed before it could give it its name, and does that; `false`
    /// where there is none that is whole.
    pub(super) fn recover(
        &self,
        name: &str,
        is_answer: impl Fn(&SecretSlice<u8>) -> bool,
    ) -> Result<bool, KeyStoreError> {
        let pad = self.pad(name)?;
        for stray in self.first().strays()? {
            let Ok(content) = stray.read(MAX_FILE) else { continue };
            let padded = pad.as_ref().map(|pad| (xor(&content, pad), HALF));
            let found = std::iter::once((content, "")).chain(padded).find_map(|(content, half)| {
                if is_answer(&content) {
                    return Some(format!("{name}{half}"));
                }
                let opened = self.envelope.open(content.expose_secret());
                opened.is_ok_and(|body| is_answer(&body)).then(|| format!("{name}{AGE}{half}"))
            });
            if let Some(file) = found {
                stray.rename(&file, KEY_MODE)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the answer and its pad.
    pub(super) fn drop_response(&self, name: &str) -> Result<(), KeyStoreError> {
        if let Some(file) = find(&self.first().names()?, name) {
            self.first().remove(file)?;
        }
        for dir in &self.dirs {
            dir.remove(&format!("{name}{PAD}"))?;
        }
        Ok(())
    }

    fn pad(&self, name: &str) -> Result<Option<SecretSlice<u8>>, KeyStoreError> {
        for dir in &self.dirs {
            match dir.read(&format!("{name}{PAD}"), MAX_FILE) {
                Err(error) if error.is_not_found() => {}
                read => return Ok(Some(read?)),
            }
        }
        Ok(None)
    }

    fn make_pad(&self, name: &str, length: usize) -> Result<SecretSlice<u8>, KeyStoreError> {
        let mut bytes = vec![0; length];
        getrandom::fill(&mut bytes).map_err(KeyStoreError::Random)?;
        let pad = SecretSlice::from(bytes);
        self.dirs[1].replace(&format!("{name}{PAD}"), &pad, KEY_MODE)?;
        Ok(pad)
    }
}

/// As long as the shorter of both.
fn xor(one: &SecretSlice<u8>, other: &SecretSlice<u8>) -> SecretSlice<u8> {
    let bytes = one.expose_secret().iter().zip(other.expose_secret()).map(|(one, other)| one ^ other);
    // Of the right size from the start: a vector that grows leaves copies behind.
    let mut mixed = Zeroizing::new(Vec::with_capacity(one.expose_secret().len()));
    mixed.extend(bytes);
    SecretSlice::from(std::mem::take(&mut *mixed))
}
