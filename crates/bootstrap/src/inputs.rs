//! The files that say what there is to be, told from what they were by digests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ring::hmac;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use crate::args::Sources;
use crate::desired::{MANIFEST_FILE, MAX_ENV_FILE, MAX_TEXT_FILE, POLICY_FILE, manifest_path};
use crate::ledger::hexadecimal;

/// The .env file, by the name that people call it.
const ENV_FILE: &str = ".env";

/// Each file by a keyed digest of its content: a digest without a key could be tried against guessed values. Empty for
/// one that cannot be read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Inputs(BTreeMap<String, String>);

impl Inputs {
    /// Reads them all.
    pub(crate) fn read(sources: &Sources, key: &hmac::Key) -> Self {
        // Another dialect makes other values of the same bytes.
        let env = digest_of(&sources.env_file, MAX_ENV_FILE, key, &sources.dialect);
        let mut digests = BTreeMap::from([(ENV_FILE.to_owned(), env.unwrap_or_default())]);
        let mut files = vec![(MANIFEST_FILE.to_owned(), manifest_path(sources).0)];
        for entry in fs::read_dir(&sources.policies_dir).into_iter().flatten().flatten() {
            files.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
        for (name, path) in
            files.into_iter().filter(|(name, _)| name == MANIFEST_FILE || name.ends_with(POLICY_FILE))
        {
            if let Some(digest) = digest_of(&path, MAX_TEXT_FILE, key, "") {
                digests.insert(name, digest);
            }
        }
        Self(digests)
    }

    /// What differs, in words.
    pub(crate) fn changes_since(&self, earlier: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.0.keys().chain(earlier.0.keys()).collect();
        let change = |name: &String| match (earlier.0.get(name), self.0.get(name)) {
            (before, now) if before == now => None,
            (None, Some(_)) => Some(format!("{name} (new)")),
            (Some(_), None) => Some(format!("{name} (gone)")),
            (_, Some(now)) if now.is_empty() => Some(format!("{name} (cannot be read)")),
            _ => Some(name.clone()),
        };
        names.into_iter().filter_map(change).collect()
    }
}

/// `None` where there is no file.
fn digest_of(path: &Path, limit: usize, key: &hmac::Key, reading: &str) -> Option<String> {
    match secret_file::read_file(path, limit) {
        Ok(content) => {
            let mut hmac = hmac::Context::with_key(key);
            hmac.update(reading.as_bytes());
            hmac.update(content.expose_secret());
            Some(hexadecimal(hmac.sign().as_ref()))
        }
        Err(error) if error.is_not_found() => None,
        Err(_) => Some(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_seen_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("policies")).unwrap();
        let sources = Sources {
            env_file: path(".env"),
            dialect: "strict".to_owned(),
            policies_dir: path("policies"),
            manifest: None,
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let read = || Inputs::read(&sources, &key);
        let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
        write(".env", "A=canary");
        write("policies/chat-policy.hcl", "one");
        write("policies/README", "no policy");
        let first = read();
        assert_eq!(read(), first);
        assert!(!format!("{first:?}").contains("canary"));

        write(".env", "A=other");
        write("vaultcrew.toml", "");
        write("policies/user-policy.hcl", "");
        fs::remove_file(path("policies/chat-policy.hcl")).unwrap();
        let expected = [".env", "chat-policy.hcl (gone)", "user-policy.hcl (new)", "vaultcrew.toml (new)"];
        assert_eq!(read().changes_since(&first), expected);
        fs::remove_file(path(".env")).unwrap();
        assert!(read().changes_since(&first).contains(&".env (cannot be read)".to_owned()));

        write(".env", "A=canary");
        let literal = Inputs::read(&Sources { dialect: "literal".to_owned(), ..sources.clone() }, &key);
        assert!(literal.changes_since(&first).contains(&".env".to_owned()));
        assert_ne!(Inputs::read(&sources, &hmac::Key::new(hmac::HMAC_SHA256, b"other")), first);
    }
}
