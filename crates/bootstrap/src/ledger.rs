//! bootstrap's own record of the secrets it wrote, in its state directory: which version, and a keyed digest of each
//! value in it.
//!
//! It is written before the secrets are. A version that is in Vault without a note, since an apply was killed between
//! the two, is then known for ours by its values. And where Vault's metadata say that the version on record is still
//! the newest, the digests say whether the files want anything else: no value has to be read. Losing the record costs
//! that, and nothing more.
//!
//! The digests are keyed (HMAC-SHA256, with a random key that lies beside them), and all of it is in a file that
//! nobody else can read: no digest of a value is ever in Vault's metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use ring::hmac;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use secret_file::{Attrs, FileError, SecretDir};
use serde::{Deserialize, Serialize};
use vault_client::kv2::{Metadata, Secret, Written};

use crate::applied::Applied;
use crate::merge::Values;

const DIRECTORY: &str = "ledger";
const FILE: &str = "secrets.json";

/// Above this it is no record of ours: some ten thousand services.
const MAX_FILE: usize = 64 * 1024 * 1024;

/// Bytes of a digest that are kept: nobody finds another value with the same.
const DIGEST: usize = 16;

/// The record of all secrets, by mount and path.
#[derive(Default, Deserialize, Serialize)]
pub(crate) struct Ledger {
    /// Of the digests, in hexadecimal. It opens nothing without the file that it lies in.
    key: String,
    secrets: BTreeMap<String, Entry>,
    #[serde(skip)]
    is_changed: bool,
}

/// One version of a secret.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    /// When Vault wrote it; `None` where nothing is known but that it was about to.
    created: Option<String>,
    /// The keys whose values are not the files'.
    pub(crate) foreign: BTreeSet<String>,
    /// Key → digest.
    values: BTreeMap<String, String>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Ledger({} secrets)", self.secrets.len())
    }
}

impl Ledger {
    /// Reads the record; an empty one with a new key where there is none that can be read.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, getrandom::Error> {
        let read = || {
            let content = SecretDir::open(&state_dir.join(DIRECTORY))?.read(FILE, MAX_FILE)?;
            Ok::<_, FileError>(serde_json::from_slice::<Self>(content.expose_secret()).ok())
        };
        match read() {
            Ok(Some(ledger)) if ledger.key.len() >= 64 => return Ok(ledger),
            Err(error) if !error.is_not_found() => {
                tracing::debug!("the record of earlier applies is not used: {error}");
            }
            _ => {}
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self { key: hexadecimal(&key), ..Self::default() })
    }

    /// Writes the record, where it has changed.
    pub(crate) fn save(&mut self, state_dir: &Path) -> Result<(), FileError> {
        if !self.is_changed {
            return Ok(());
        }
        // Maps of strings are always JSON.
        let content = SecretSlice::from(serde_json::to_vec(self).unwrap_or_default());
        SecretDir::create(&state_dir.join(DIRECTORY), 0o700)?.replace(FILE, &content, Attrs::mode(0o400))?;
        self.is_changed = false;
        Ok(())
    }

    /// Notes the version that is about to be written, or was found to be right.
    pub(crate) fn record(&mut self, path: &str, found: Option<&Written>, values: &Values, note: &Applied) {
        let key = self.hmac_key();
        let entry = Entry {
            version: note.version,
            created: found.map(|found| found.created.clone()).filter(|created| !created.is_empty()),
            foreign: note.foreign.clone(),
            values: values.iter().map(|(name, value)| (name.clone(), digest(&key, value))).collect(),
        };
        if self.secrets.get(path) != Some(&entry) {
            self.secrets.insert(path.to_owned(), entry);
            self.is_changed = true;
        }
    }

    /// Notes that it has been written.
    pub(crate) fn written(&mut self, path: &str, written: &Written) {
        if let Some(entry) = self.secrets.get_mut(path).filter(|entry| entry.version == written.version) {
            entry.created = Some(written.created.clone()).filter(|created| !created.is_empty());
            self.is_changed = true;
        }
    }

    /// Forgets all secrets but these.
    pub(crate) fn keep_only(&mut self, is_kept: impl Fn(&str) -> bool) {
        let before = self.secrets.len();
        self.secrets.retain(|path, _| is_kept(path));
        self.is_changed |= self.secrets.len() != before;
    }

    /// The version on record where no note in Vault tells of it: newer than the noted one, and there.
    pub(crate) fn unnoted(&self, path: &str, metadata: &Metadata, noted: Option<u64>) -> Option<u64> {
        let version = self.secrets.get(path)?.version;
        let is_there = version > noted.unwrap_or(0) && version <= metadata.current_version;
        is_there.then_some(version)
    }

    /// The record of this very version with these very values.
    pub(crate) fn recognised(&self, path: &str, secret: &Secret) -> Option<&Entry> {
        let entry = self.secrets.get(path).filter(|entry| entry.version == secret.version)?;
        let key = self.hmac_key();
        let same = |(name, value)| entry.values.get(name).is_some_and(|kept| *kept == digest(&key, value));
        (entry.values.len() == secret.values.len() && secret.values.iter().all(same)).then_some(entry)
    }

    /// Whether nothing is to be written or told, known without reading a value: Vault's newest version is the one
    /// on record and the one that the note names, and the files want what is in it.
    pub(crate) fn settles(
        &self,
        path: &str,
        metadata: &Metadata,
        applied: &Applied,
        wanted: &BTreeMap<String, Option<SecretString>>,
    ) -> bool {
        let Some(entry) = self.secrets.get(path) else { return false };
        let key = self.hmac_key();
        let is_newest = entry.version == metadata.current_version
            && entry.created.is_some()
            && entry.created.as_deref() == metadata.created();
        is_newest
            && entry.version == applied.version
            && entry.foreign == applied.foreign
            && entry.values.keys().all(|name| wanted.contains_key(name) != entry.foreign.contains(name))
            && wanted.iter().all(|(name, value)| {
                let kept = entry.values.get(name);
                // A value that is generated stays, whatever it is.
                kept.is_some_and(|kept| value.as_ref().is_none_or(|value| *kept == digest(&key, value)))
            })
    }

    fn hmac_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.key.as_bytes())
    }
}

fn digest(key: &hmac::Key, value: &SecretString) -> String {
    let tag = hmac::sign(key, value.expose_secret().as_bytes());
    hexadecimal(&tag.as_ref()[..DIGEST])
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use vault_client::kv2::VersionState;

    use super::*;

    const PATH: &str = "secret/chat";

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect()
    }

    fn wanted(pairs: &[(&str, &str)]) -> BTreeMap<String, Option<SecretString>> {
        let value = |text: &str| (text != "?").then(|| text.into());
        pairs.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect()
    }

    fn note(version: u64, foreign: &[&str]) -> Applied {
        let foreign = foreign.iter().map(|key| (*key).to_owned()).collect();
        Applied { version, foreign, ..Applied::default() }
    }

    fn metadata(version: u64, created_time: &str) -> Metadata {
        let state = VersionState {
            created_time: created_time.to_owned(),
            deletion_time: String::new(),
            destroyed: false,
        };
        let versions = [(version, state)].into();
        Metadata { current_version: version, custom_metadata: BTreeMap::new(), versions }
    }

    fn recorded(dir: &Path) -> Ledger {
        let mut ledger = Ledger::open(dir).unwrap();
        let written = Written { version: 2, created: "noon".to_owned() };
        ledger.record(PATH, None, &values(&[("A", "1"), ("G", "r"), ("F", "x")]), &note(2, &["F"]));
        ledger.written(PATH, &written);
        ledger.save(dir).unwrap();
        Ledger::open(dir).unwrap()
    }

    #[test]
    fn what_is_on_record_and_wanted_needs_no_look() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = recorded(dir.path());
        let settles = |version, created: &str, want: &[(&str, &str)]| {
            ledger.settles(PATH, &metadata(version, created), &note(version, &["F"]), &wanted(want))
        };
        assert!(settles(2, "noon", &[("A", "1"), ("G", "?")]));
        assert!(!settles(2, "noon", &[("A", "2"), ("G", "?")]), "a value differs");
        assert!(!settles(2, "noon", &[("A", "1")]), "a key goes");
        assert!(!settles(2, "noon", &[("A", "1"), ("G", "?"), ("N", "?")]), "a key is to be generated");
        assert!(
            !settles(2, "noon", &[("A", "1"), ("G", "?"), ("F", "x")]),
            "a key that was kept is to be told"
        );
        assert!(!settles(3, "noon", &[("A", "1"), ("G", "?")]), "there is a newer version");
        assert!(!settles(2, "midnight", &[("A", "1"), ("G", "?")]), "it is another secret at the same path");
        let other = ledger.settles("secret/user", &metadata(2, "noon"), &note(2, &["F"]), &wanted(&[]));
        assert!(!other);
    }

    #[test]
    fn a_version_without_a_note_is_known_by_its_values() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = recorded(dir.path());
        assert_eq!(ledger.unnoted(PATH, &metadata(2, "noon"), Some(1)), Some(2));
        assert_eq!(ledger.unnoted(PATH, &metadata(1, "noon"), Some(1)), None, "it was never written");
        assert_eq!(ledger.unnoted(PATH, &metadata(2, "noon"), Some(2)), None, "it is noted");
        let secret = |version, pairs| Secret { values: values(pairs), version, created: String::new() };
        assert!(ledger.recognised(PATH, &secret(2, &[("A", "1"), ("G", "r"), ("F", "x")])).is_some());
        assert!(ledger.recognised(PATH, &secret(2, &[("A", "1"), ("G", "r")])).is_none());
        assert!(ledger.recognised(PATH, &secret(2, &[("A", "2"), ("G", "r"), ("F", "x")])).is_none());
        assert!(ledger.recognised(PATH, &secret(1, &[("A", "1"), ("G", "r"), ("F", "x")])).is_none());
    }

    #[test]
    fn the_record_is_private_holds_no_value_and_can_be_lost() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.record(PATH, None, &values(&[("A", "c4n4ry")]), &note(1, &[]));
        ledger.save(dir.path()).unwrap();
        let file = dir.path().join(DIRECTORY).join(FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o400);
        assert!(!std::fs::read_to_string(&file).unwrap().contains("c4n4ry"));
        assert!(!format!("{ledger:?}").contains(ledger.key.as_str()));

        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, "{").unwrap();
        assert!(Ledger::open(dir.path()).unwrap().secrets.is_empty());
    }
}
