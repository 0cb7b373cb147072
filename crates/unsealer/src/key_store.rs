//! The key store: the directory of the key shares, and the file of the root token.
//!
//! What lies in the directory tells how far an earlier run came, so that a start after any kill can finish
//! what that one began ([`Stored`]):
//!
//! | file | means |
//! |---|---|
//! | `init-requested` | `sys/init` is about to be sent, or was; no keys are here yet |
//! | `init-response.json` | the server's answer as it came, to be split into the files below |
//! | `unseal-key-1` … `-5` | the key shares, one a file, as Vault's base64 |
//! | `recovery-key-1` … | the same for a server that unseals itself |
//! | `hold` | an operator sealed Vault, or ordered so: nothing is unsealed until that is taken back |
//! | `break-glass/` | `role_id` and `secret_id` of the break-glass role |

use std::path::{Path, PathBuf};

use agent_runtime::{Exit, Failure};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use secret_file::{Attrs, Changed, FileError, SecretDir};
use serde::Deserialize;

const JOURNAL: &str = "init-requested";
const RESPONSE: &str = "init-response.json";
const HOLD: &str = "hold";
const BREAK_GLASS: &str = "break-glass";
const KEY_SHARE: &str = "unseal-key-";
const RECOVERY_SHARE: &str = "recovery-key-";

const MAX_SHARE: usize = 16 * 1024;
const MAX_RESPONSE: usize = 1024 * 1024;

const KEY_MODE: Attrs = Attrs::mode(0o400);
const ROOT_TOKEN_MODE: Attrs = Attrs::mode(0o440);

/// The keys directory and the root token's file.
#[derive(Debug)]
pub(crate) struct KeyStore {
    keys: SecretDir,
    root: SecretDir,
    root_token: String,
}

/// How far an earlier run came.
#[derive(Debug)]
pub(crate) enum Stored {
    /// There is nothing: the server may be initialised.
    Nothing,
    /// An init was, or was about to be, requested, and its answer never came.
    Requested,
    /// The answer is here and has yet to be split.
    Received,
    /// The keys are here.
    Keys(Vec<KeyShare>),
}

/// One key share.
#[derive(Clone, Debug)]
pub(crate) struct KeyShare {
    /// The number in its file's name.
    pub(crate) number: usize,
    /// Vault's base64.
    pub(crate) value: SecretString,
}

/// Why the key store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// A file or directory cannot be used.
    #[error("the key store cannot be used")]
    File(#[from] FileError),
    /// Others than the owner may enter the keys directory.
    #[error("{path} has mode {mode:04o}, but the keys directory is for unsealer alone: run chmod 700 {path}")]
    TooOpen {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is something where the new keys would be.
    #[error(
        "{path} belongs to an earlier initialisation, while this Vault is not initialised: nothing is overwritten. \
         If that earlier Vault is gone for good, move the file away; if not, check --vault-addr and Vault's storage"
    )]
    Occupied {
        /// The file that is there.
        path: PathBuf,
    },
    /// The stored answer is not one that `sys/init` gives.
    #[error(
        "{path} holds the answer to the initialisation, but not in a form that can be read ({why}); \
         it is the only copy of the keys: keep it, and split it by hand"
    )]
    Response {
        /// The file.
        path: PathBuf,
        /// What is wrong, without its content.
        why: String,
    },
    /// What was written is not what is read.
    #[error("{path} reads back otherwise than it was written; the answer stays in {response}")]
    NotReadBack {
        /// The file.
        path: PathBuf,
        /// Where everything still is.
        response: PathBuf,
    },
}

impl Failure for KeyStoreError {
    fn exit(&self) -> Exit {
        match self {
            Self::File(error) => error.exit(),
            Self::NotReadBack { .. } => Exit::Failed,
            Self::TooOpen { .. } | Self::Occupied { .. } | Self::Response { .. } => Exit::Config,
        }
    }
}

impl KeyStore {
    /// Opens the store; directories that are missing are made.
    pub(crate) fn open(keys_dir: &Path, root_token_file: &Path) -> Result<Self, KeyStoreError> {
        let keys = SecretDir::create(keys_dir, 0o700)?;
        let mode = keys.mode()? & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyStoreError::TooOpen { path: keys_dir.to_owned(), mode });
        }
        let parent = root_token_file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let root = SecretDir::create(parent.unwrap_or(Path::new(".")), 0o750)?;
        let name = root_token_file.file_name().and_then(|name| name.to_str()).unwrap_or("root-token");
        Ok(Self { keys, root, root_token: name.to_owned() })
    }

    /// How far an earlier run came.
    pub(crate) fn stored(&self) -> Result<Stored, KeyStoreError> {
        let names = self.keys.names()?;
        let has = |name: &str| names.iter().any(|found| found == name);
        if has(RESPONSE) {
            return Ok(Stored::Received);
        }
        if names.iter().any(|name| number_of(name, KEY_SHARE).or(number_of(name, RECOVERY_SHARE)).is_some()) {
            if has(JOURNAL) {
                // Killed between the last two steps of `split`.
                self.keys.remove(JOURNAL)?;
            }
            return self.key_shares(&names).map(Stored::Keys);
        }
        Ok(if has(JOURNAL) { Stored::Requested } else { Stored::Nothing })
    }

    fn key_shares(&self, names: &[String]) -> Result<Vec<KeyShare>, KeyStoreError> {
        let mut shares = Vec::new();
        for name in names {
            let Some(number) = number_of(name, KEY_SHARE) else { continue };
            let content = self.keys.read(name, MAX_SHARE)?;
            // A damaged share is the server's to refuse: the others may do.
            let value = String::from_utf8_lossy(content.expose_secret()).trim().to_owned().into();
            shares.push(KeyShare { number, value });
        }
        shares.sort_by_key(|share| share.number);
        Ok(shares)
    }

    /// Proves that keys can be kept here, and notes that they are about to be asked for.
    ///
    /// After this, and before [`keep_response`](Self::keep_response), `sys/init` may be sent.
    pub(crate) fn prepare(&self) -> Result<(), KeyStoreError> {
        for (dir, name) in [(&self.keys, BREAK_GLASS), (&self.root, self.root_token.as_str())] {
            if dir.names()?.iter().any(|found| found == name) {
                return Err(KeyStoreError::Occupied { path: dir.path().join(name) });
            }
        }
        self.keys.prove_writable()?;
        self.root.prove_writable()?;
        let note = b"sys/init was, or was about to be, sent; see the documentation of unsealer\n".to_vec();
        self.keys.replace(JOURNAL, &SecretSlice::from(note), KEY_MODE)?;
        Ok(())
    }

    /// Takes the note of [`prepare`](Self::prepare) back: the server has certainly not carried the init out.
    pub(crate) fn withdraw(&self) -> Result<(), KeyStoreError> {
        self.keys.remove(JOURNAL)?;
        Ok(())
    }

    /// Puts the answer to `sys/init` on the disk as it came, before anything else is done with it.
    pub(crate) fn keep_response(&self, body: &[u8]) -> Result<(), KeyStoreError> {
        self.keys.create_new(RESPONSE, &SecretSlice::from(body.to_vec()), KEY_MODE)?;
        Ok(())
    }

    /// Splits the stored answer into its files, and removes it once each was read back and compared.
    ///
    /// Can be repeated after a kill anywhere within.
    pub(crate) fn split(&self) -> Result<(), KeyStoreError> {
        let response = self.keys.path().join(RESPONSE);
        let content = self.keys.read(RESPONSE, MAX_RESPONSE)?;
        let answer = Answer::parse(content.expose_secret())
            .map_err(|why| KeyStoreError::Response { path: response.clone(), why })?;
        let shares = numbered(KEY_SHARE, answer.shares());
        let recovery_shares = numbered(RECOVERY_SHARE, answer.recovery_shares());
        let files: Vec<_> = shares
            .chain(recovery_shares)
            .map(|(name, value)| (&self.keys, name, value, KEY_MODE))
            .chain([(&self.root, self.root_token.clone(), &answer.root_token, ROOT_TOKEN_MODE)])
            .collect();
        for (dir, name, value, attrs) in &files {
            dir.replace(name, &SecretSlice::from(value.expose_secret().as_bytes().to_vec()), *attrs)?;
        }
        for (dir, name, value, _) in &files {
            if dir.read(name, MAX_SHARE)?.expose_secret() != value.expose_secret().as_bytes() {
                return Err(KeyStoreError::NotReadBack { path: dir.path().join(name), response });
            }
        }
        self.keys.remove(RESPONSE)?;
        self.keys.remove(JOURNAL)?;
        Ok(())
    }

    /// The root token; `None` once it was revoked and its file removed, which is the normal state.
    pub(crate) fn root_token(&self) -> Result<Option<SecretString>, KeyStoreError> {
        match secret_file::read_text(&self.root_token_path(), MAX_SHARE) {
            Ok(token) => Ok(Some(token)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the root token is, or would be.
    pub(crate) fn root_token_path(&self) -> PathBuf {
        self.root.path().join(&self.root_token)
    }

    /// Puts a new root token into its file, where there is none.
    pub(crate) fn keep_root_token(&self, token: &SecretString) -> Result<(), KeyStoreError> {
        let content = SecretSlice::from(token.expose_secret().as_bytes().to_vec());
        Ok(self.root.create_new(&self.root_token, &content, ROOT_TOKEN_MODE)?)
    }

    /// Removes the root token's file.
    pub(crate) fn remove_root_token(&self) -> Result<(), KeyStoreError> {
        self.root.remove(&self.root_token)?;
        Ok(())
    }

    /// The `role_id` and `secret_id` of the break-glass role; `None` where it was not made yet.
    pub(crate) fn break_glass_credential(
        &self,
    ) -> Result<Option<(SecretString, SecretString)>, KeyStoreError> {
        let files = match self.break_glass()?.read_set(&["role_id", "secret_id"], MAX_SHARE) {
            Ok(files) => files,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut values = files.iter().map(|file| String::from_utf8_lossy(file.expose_secret()).trim().into());
        Ok(values.next().zip(values.next()))
    }

    /// Whether nothing is to be unsealed.
    pub(crate) fn is_held(&self) -> Result<bool, KeyStoreError> {
        Ok(self.keys.names()?.iter().any(|name| name == HOLD))
    }

    /// Orders that nothing is unsealed, or takes that back; gives whether that changed anything.
    pub(crate) fn hold(&self, on: bool) -> Result<bool, KeyStoreError> {
        if !on {
            return Ok(self.keys.remove(HOLD)?);
        }
        let note = b"Vault stays sealed until: unsealer hold off\n".to_vec();
        Ok(self.keys.replace(HOLD, &SecretSlice::from(note), KEY_MODE)? == Changed::Yes)
    }

    /// The directory of the break-glass credential, made where it is missing.
    pub(crate) fn break_glass(&self) -> Result<SecretDir, KeyStoreError> {
        Ok(SecretDir::create(&self.keys.path().join(BREAK_GLASS), 0o700)?)
    }

    /// The keys directory, for messages.
    pub(crate) fn path(&self) -> &Path {
        self.keys.path()
    }
}

/// The answer of `sys/init`, as far as it is kept.
#[derive(Deserialize)]
struct Answer {
    keys_base64: Option<Vec<SecretString>>,
    recovery_keys_base64: Option<Vec<SecretString>>,
    root_token: SecretString,
}

impl Answer {
    fn parse(body: &[u8]) -> Result<Self, String> {
        // serde_json's own words may quote a key.
        let answer: Self = serde_json::from_slice(body)
            .map_err(|error| format!("line {}, column {}", error.line(), error.column()))?;
        if answer.shares().is_empty() && answer.recovery_shares().is_empty() {
            return Err("it holds no keys".to_owned());
        }
        if answer.root_token.expose_secret().is_empty() {
            return Err("it holds no root token".to_owned());
        }
        Ok(answer)
    }

    fn shares(&self) -> &[SecretString] {
        self.keys_base64.as_deref().unwrap_or_default()
    }

    fn recovery_shares(&self) -> &[SecretString] {
        self.recovery_keys_base64.as_deref().unwrap_or_default()
    }
}

fn numbered<'a>(
    prefix: &'a str,
    values: &'a [SecretString],
) -> impl Iterator<Item = (String, &'a SecretString)> {
    values.iter().enumerate().map(move |(index, value)| (format!("{prefix}{}", index + 1), value))
}

fn number_of(name: &str, prefix: &str) -> Option<usize> {
    name.strip_prefix(prefix)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ANSWER: &[u8] =
        br#"{"keys":["00"],"keys_base64":["share-1","share-2","share-3","share-4","share-5"],
        "root_token":"s.root","recovery_keys":null}"#;

    fn store() -> (tempfile::TempDir, KeyStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::open(&dir.path().join("keys"), &dir.path().join("root/root-token")).unwrap();
        (dir, store)
    }

    fn shares(store: &KeyStore) -> Vec<(usize, String)> {
        let Stored::Keys(shares) = store.stored().unwrap() else { panic!("{:?}", store.stored()) };
        shares.into_iter().map(|share| (share.number, share.value.expose_secret().to_owned())).collect()
    }

    #[test]
    fn keeps_an_answer_and_splits_it() {
        let (dir, store) = store();
        assert!(matches!(store.stored().unwrap(), Stored::Nothing));
        store.prepare().unwrap();
        assert!(matches!(store.stored().unwrap(), Stored::Requested));
        store.keep_response(ANSWER).unwrap();
        assert!(matches!(store.stored().unwrap(), Stored::Received));
        store.split().unwrap();

        assert_eq!(shares(&store).len(), 5);
        assert_eq!(shares(&store)[4], (5, "share-5".to_owned()));
        assert_eq!(store.root_token().unwrap().unwrap().expose_secret(), "s.root");
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("keys"), mode("keys/unseal-key-1")), (0o700, 0o400));
        assert_eq!(mode("root/root-token"), 0o440);
        assert!(!dir.path().join("keys/init-response.json").exists());
        assert!(!dir.path().join("keys/init-requested").exists());
    }

    #[test]
    fn a_split_that_was_interrupted_is_done_again() {
        let (dir, store) = store();
        store.prepare().unwrap();
        store.keep_response(ANSWER).unwrap();
        fs::write(dir.path().join("keys/unseal-key-1"), "share-1").unwrap();
        assert!(matches!(store.stored().unwrap(), Stored::Received));
        store.split().unwrap();
        fs::write(dir.path().join("keys/init-requested"), "").unwrap();
        assert_eq!(shares(&store).len(), 5);
        assert!(!dir.path().join("keys/init-requested").exists());
    }

    #[test]
    fn recovery_keys_are_kept_too() {
        let (dir, store) = store();
        store.prepare().unwrap();
        let answer = br#"{"keys_base64":[],"recovery_keys_base64":["r1","r2"],"root_token":"s.root"}"#;
        store.keep_response(answer).unwrap();
        store.split().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("keys/recovery-key-2")).unwrap(), "r2");
        assert!(shares(&store).is_empty());
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_kept_and_not_quoted() {
        for body in ["", "{", r#"{"root_token":"s.canary"}"#, r#"{"keys_base64":["canary"],"root_token":""}"#]
        {
            let (dir, store) = store();
            store.prepare().unwrap();
            store.keep_response(body.as_bytes()).unwrap();
            let error = store.split().unwrap_err();
            assert!(matches!(error, KeyStoreError::Response { .. }), "{error}");
            assert!(!format!("{error} {error:?}").contains("canary"));
            assert_eq!(fs::read_to_string(dir.path().join("keys/init-response.json")).unwrap(), body);
        }
    }

    #[test]
    fn nothing_of_an_earlier_life_is_overwritten() {
        let (dir, store) = store();
        fs::write(dir.path().join("root/root-token"), "s.other").unwrap();
        assert!(matches!(store.prepare().unwrap_err(), KeyStoreError::Occupied { .. }));
        fs::remove_file(dir.path().join("root/root-token")).unwrap();
        fs::create_dir(dir.path().join("keys/break-glass")).unwrap();
        assert!(matches!(store.prepare().unwrap_err(), KeyStoreError::Occupied { .. }));

        fs::remove_dir(dir.path().join("keys/break-glass")).unwrap();
        store.prepare().unwrap();
        store.keep_response(ANSWER).unwrap();
        assert!(store.keep_response(b"{}").is_err());
        assert_eq!(fs::read(dir.path().join("keys/init-response.json")).unwrap(), ANSWER);
    }

    #[test]
    fn a_hold_outlives_the_process_and_ends_by_order() {
        let (dir, store) = store();
        assert!(!store.is_held().unwrap() && !store.hold(false).unwrap());
        assert!(store.hold(true).unwrap() && !store.hold(true).unwrap());
        let next_start =
            KeyStore::open(&dir.path().join("keys"), &dir.path().join("root/root-token")).unwrap();
        assert!(next_start.is_held().unwrap());
        assert!(matches!(next_start.stored().unwrap(), Stored::Nothing));
        assert!(store.hold(false).unwrap() && !store.is_held().unwrap());
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        let (dir, _) = store();
        let keys = dir.path().join("keys");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o755)).unwrap();
        let error = KeyStore::open(&keys, &dir.path().join("root/root-token")).unwrap_err().to_string();
        assert!(error.contains("0755") && error.contains("chmod 700"), "{error}");
    }
}
