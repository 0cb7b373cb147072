//! The key store: the directories of the key shares, and the file of the root token.
//!
//! What lies in the first keys directory tells how far an earlier run came, so that a start after any kill can
//! finish what that one began:
//!
//! | file | means |
//! |---|---|
//! | `init-requested` | `sys/init` is about to be sent, or was; no keys are here yet |
//! | `init-response.json` | the server's answer as it came, to be split into the files below |
//! | `unseal-key-1` … `-5` | the key shares, one a file, as Vault's base64 |
//! | `recovery-key-1` … | the same for a server that unseals itself |
//! | `rekey-requested`, `rekey-response.json` | the same for a rekey |
//! | `rekeyed/` | a rekey's new shares, until the server is known to have taken them |
//! | `before-rekey/` | the shares before the last rekey, until the new ones have unsealed |
//! | `earlier-1/` … | what `adopt-keys` replaced: nothing here uses it any more, and it is kept |
//! | `hold` | an operator sealed Vault, or ordered so: nothing is unsealed until that is taken back |
//! | `break-glass/` | `role_id` and `secret_id` of the break-glass role |
//!
//! With several keys directories the shares lie in them by turns. An answer ends in `.half` then, and is worth nothing
//! without what ends in `.pad` in another directory. A file that is encrypted ends in `.age`.

mod answer;
mod break_glass;
mod envelope;
mod error;
mod response;
mod shares;
#[cfg(test)]
mod tests;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use secret_file::{Attrs, Changed, DirLock, SecretDir};

use self::answer::Answer;
pub(crate) use self::break_glass::Credential;
pub(crate) use self::envelope::Envelope;
pub(crate) use self::error::KeyStoreError;
pub(crate) use self::shares::{Place, Shares};

const INIT_REQUESTED: &str = "init-requested";
const INIT_RESPONSE: &str = "init-response.json";
const REKEY_REQUESTED: &str = "rekey-requested";
const REKEY_RESPONSE: &str = "rekey-response.json";
const HOLD: &str = "hold";
const BREAK_GLASS: &str = "break-glass";
const EARLIER: &str = "earlier-";

/// The largest file that is read: an answer with the shares of the largest number there is, encrypted.
const MAX_FILE: usize = 1024 * 1024;

const KEY_MODE: Attrs = Attrs::mode(0o400);
const ROOT_TOKEN_MODE: Attrs = Attrs::mode(0o440);

/// Room that an initialisation wants: the answer, five shares, the break-glass credential, and what is on its way.
const FILES: usize = 12;

/// The keys directories and the root token's file.
#[derive(Debug)]
pub(crate) struct KeyStore {
    /// The first holds everything but the shares that the others have.
    dirs: Vec<SecretDir>,
    root: SecretDir,
    root_token: String,
    envelope: Envelope,
}

/// How far an earlier run came with the initialisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// There is nothing: the server may be initialised.
    Nothing,
    /// An init was, or was about to be, requested, and its answer never came.
    Requested,
    /// The answer is here and has yet to be split.
    Received,
    /// The keys are here.
    Keys,
}

/// How far an earlier run came with a rekey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rekey {
    /// There is none under way.
    None,
    /// It was begun, and its answer never came: nothing has changed, whatever the server still waits for.
    Requested,
    /// The answer with the new shares is here, and has yet to be split.
    Received,
    /// The new shares are here; whether the server has taken them is for the server to say.
    Staged,
}

impl KeyStore {
    /// Opens the store; directories that are missing are made.
    pub(crate) fn open(
        keys_dirs: &[PathBuf],
        root_token_file: &Path,
        envelope: Envelope,
    ) -> Result<Self, KeyStoreError> {
        if keys_dirs.len() == 2 {
            return Err(KeyStoreError::TwoDirectories);
        }
        let mut dirs = Vec::new();
        let mut known = Vec::new();
        for path in keys_dirs {
            let dir = SecretDir::create(path, 0o700)?;
            let mode = dir.mode()? & 0o777;
            if mode & 0o077 != 0 {
                return Err(KeyStoreError::TooOpen { path: path.clone(), mode });
            }
            let identity = fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
            if identity.is_some() && known.contains(&identity) {
                return Err(KeyStoreError::SameDirectory(path.clone()));
            }
            known.push(identity);
            dirs.push(dir);
        }
        let parent = root_token_file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let root = SecretDir::create(parent.unwrap_or(Path::new(".")), 0o750)?;
        let name = root_token_file.file_name().and_then(|name| name.to_str()).unwrap_or("root-token");
        Ok(Self { dirs, root, root_token: name.to_owned(), envelope })
    }

    /// One below `dir`, as tests have it.
    #[cfg(test)]
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self::open(&[dir.join("keys")], &dir.join("root/root-token"), Envelope::default()).unwrap()
    }

    /// The store's lock, which whoever makes or replaces keys holds; `None` while another process does.
    pub(crate) fn try_lock(&self) -> Result<Option<DirLock>, KeyStoreError> {
        Ok(self.first().try_lock()?)
    }

    /// How far an earlier run came with the initialisation.
    pub(crate) fn stored(&self) -> Result<Stored, KeyStoreError> {
        let names = self.first().names()?;
        Ok(if response::is_here(&names, INIT_RESPONSE) {
            Stored::Received
        } else if self.has_shares(Place::Current)? {
            Stored::Keys
        } else if names.iter().any(|name| name == INIT_REQUESTED) {
            Stored::Requested
        } else {
            Stored::Nothing
        })
    }

    /// Proves that keys can be kept here and read again, and notes that they are about to be asked for.
    ///
    /// After this, and before [`keep_init_response`](Self::keep_init_response), `sys/init` may be sent.
    pub(crate) fn prepare_init(&self) -> Result<(), KeyStoreError> {
        let staged = [Place::Rekeyed, Place::BeforeRekey].map(|place| place.directory().unwrap_or_default());
        for (dir, name) in [(self.first(), BREAK_GLASS), (&self.root, self.root_token.as_str())]
            .into_iter()
            .chain(staged.map(|name| (self.first(), name)))
        {
            if dir.names()?.iter().any(|found| found == name) {
                return Err(KeyStoreError::Occupied { path: dir.path().join(name) });
            }
        }
        self.prove()?;
        self.root.prove_writable()?;
        self.root.prove_room(2)?;
        self.expect(INIT_RESPONSE)?;
        self.note(INIT_REQUESTED, "sys/init was, or was about to be, sent; see the documentation of unsealer")
    }

    /// Takes the note of [`prepare_init`](Self::prepare_init) back: the server has certainly made no keys.
    pub(crate) fn withdraw_init(&self) -> Result<(), KeyStoreError> {
        self.drop_response(INIT_RESPONSE)?;
        self.first().remove(INIT_REQUESTED)?;
        Ok(())
    }

    /// Puts the answer to `sys/init` on the disk as it came, before anything else is done with it.
    pub(crate) fn keep_init_response(&self, body: &[u8]) -> Result<(), KeyStoreError> {
        self.keep(INIT_RESPONSE, body)
    }

    /// Finds an answer to `sys/init` that a start had written and was killed before it could give it its name, and
    /// does that; `false` where there is none that is whole.
    pub(crate) fn recover_init_response(&self) -> Result<bool, KeyStoreError> {
        self.recover(INIT_RESPONSE, |body| Answer::of_init(body.expose_secret()).is_ok())
    }

    /// Splits the stored answer into its files, and removes it once each was read back and compared.
    ///
    /// Can be repeated after a kill anywhere within.
    pub(crate) fn split_init_response(&self) -> Result<(), KeyStoreError> {
        let (path, body) = self.kept(INIT_RESPONSE)?;
        let (answer, root_token) = Answer::of_init(body.expose_secret())
            .map_err(|why| KeyStoreError::Response { path: path.clone(), why })?;
        self.write_shares(Place::Current, answer.shares(), answer.recovery_shares(), &path)?;
        let token = SecretSlice::from(root_token.expose_secret().as_bytes().to_vec());
        self.root.replace(&self.root_token, &token, ROOT_TOKEN_MODE)?;
        if self.root.read(&self.root_token, MAX_FILE)?.expose_secret() != token.expose_secret() {
            return Err(KeyStoreError::NotReadBack { path: self.root_token_path(), response: path });
        }
        self.withdraw_init()
    }

    /// Clears what a kill between the last two steps of a split leaves.
    pub(crate) fn settle_init(&self) -> Result<(), KeyStoreError> {
        if self.first().names()?.iter().any(|name| name == INIT_REQUESTED) {
            self.withdraw_init()?;
        }
        Ok(())
    }

    /// The note that an init was requested, for messages.
    pub(crate) fn init_journal(&self) -> PathBuf {
        self.path().join(INIT_REQUESTED)
    }

    /// How far an earlier run came with a rekey.
    pub(crate) fn rekey(&self) -> Result<Rekey, KeyStoreError> {
        let names = self.first().names()?;
        Ok(if response::is_here(&names, REKEY_RESPONSE) {
            Rekey::Received
        } else if self.has_shares(Place::Rekeyed)? {
            Rekey::Staged
        } else if names.iter().any(|name| name == REKEY_REQUESTED) {
            Rekey::Requested
        } else {
            Rekey::None
        })
    }

    /// As [`prepare_init`](Self::prepare_init), for a rekey.
    pub(crate) fn prepare_rekey(&self) -> Result<(), KeyStoreError> {
        self.prove()?;
        self.expect(REKEY_RESPONSE)?;
        self.note(REKEY_REQUESTED, "a rekey was begun; unsealer rekey finishes it, or begins anew")
    }

    /// The rekey is over, one way or the other.
    pub(crate) fn settle_rekey(&self) -> Result<(), KeyStoreError> {
        self.drop_response(REKEY_RESPONSE)?;
        self.first().remove(REKEY_REQUESTED)?;
        Ok(())
    }

    /// Puts the answer with the new shares on the disk.
    pub(crate) fn keep_rekey_response(&self, body: &[u8]) -> Result<(), KeyStoreError> {
        self.keep(REKEY_RESPONSE, body)
    }

    /// Splits it into [`Place::Rekeyed`]. Can be repeated after a kill.
    pub(crate) fn split_rekey_response(&self) -> Result<(), KeyStoreError> {
        let (path, body) = self.kept(REKEY_RESPONSE)?;
        let answer = Answer::parse(body.expose_secret())
            .map_err(|why| KeyStoreError::Response { path: path.clone(), why })?;
        self.write_shares(Place::Rekeyed, answer.shares(), &[], &path)?;
        self.drop_response(REKEY_RESPONSE)
    }

    /// Makes the shares and the break-glass credential of `source` the current ones; what they replace is kept in
    /// a directory of its own, which is given. Repeated after a kill it finishes.
    pub(crate) fn adopt(
        &self,
        source: &Shares,
        break_glass: Option<&Credential>,
    ) -> Result<PathBuf, KeyStoreError> {
        self.prove()?;
        let names = self.first().names()?;
        let numbers = names.iter().filter_map(|name| name.strip_prefix(EARLIER)?.parse::<usize>().ok());
        let earlier = format!("{EARLIER}{}", numbers.max().unwrap_or(0) + 1);
        let directories = self.subdirectories(&earlier)?;
        self.copy_shares(Place::Current, &directories)?;
        for place in [Place::Rekeyed, Place::BeforeRekey] {
            let Some(name) = place.directory() else { continue };
            if self.has_shares(place)? {
                self.copy_shares(place, &self.subdirectories(&format!("{earlier}-{name}"))?)?;
            }
        }
        self.copy_break_glass_credential(&directories[0])?;
        match break_glass {
            Some(credential) => self.keep_break_glass_credential(credential)?,
            // That of another life opens nothing here.
            None => self.drop_break_glass_credential()?,
        }
        self.drop_shares(Place::Rekeyed)?;
        self.drop_shares(Place::BeforeRekey)?;
        self.settle_rekey()?;
        // Last: once the shares are these, nothing is left to be done.
        self.take_in(source)?;
        Ok(directories[0].path().to_owned())
    }

    /// Reads the `unseal-key-*` and the `break-glass/` in `path`, which is not changed.
    pub(crate) fn read_other(&self, path: &Path) -> Result<OtherKeys, KeyStoreError> {
        let there = Self {
            dirs: vec![SecretDir::open(path)?],
            root: SecretDir::open(path)?,
            root_token: String::new(),
            envelope: self.envelope.clone(),
        };
        let break_glass = there.break_glass_credential()?;
        Ok(OtherKeys { shares: there.shares(Place::Current)?, break_glass })
    }

    /// The root token; `None` once it was revoked and its file removed, which is the normal state.
    pub(crate) fn root_token(&self) -> Result<Option<SecretString>, KeyStoreError> {
        match secret_file::read_text(&self.root_token_path(), MAX_FILE) {
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

    /// Whether nothing is to be unsealed.
    pub(crate) fn is_held(&self) -> Result<bool, KeyStoreError> {
        Ok(self.first().names()?.iter().any(|name| name == HOLD))
    }

    /// Orders that nothing is unsealed, or takes that back; gives whether that changed anything.
    pub(crate) fn hold(&self, on: bool) -> Result<bool, KeyStoreError> {
        if !on {
            return Ok(self.first().remove(HOLD)?);
        }
        if self.stored()? == Stored::Requested {
            // Writing the note would clear away an answer that a killed start had not given its name yet.
            self.recover_init_response()?;
        }
        let note = b"Vault stays sealed until: unsealer hold off\n".to_vec();
        Ok(self.first().replace(HOLD, &SecretSlice::from(note), KEY_MODE)? == Changed::Yes)
    }

    /// The first keys directory, for messages.
    pub(crate) fn path(&self) -> &Path {
        self.first().path()
    }

    /// The directory of everything but the other directories' shares.
    fn first(&self) -> &SecretDir {
        &self.dirs[0]
    }

    /// Proves that files can be written durably, that there is room, and that shares can be read again.
    fn prove(&self) -> Result<(), KeyStoreError> {
        self.envelope.prove()?;
        for dir in &self.dirs {
            dir.prove_writable()?;
            dir.prove_room(FILES)?;
        }
        Ok(())
    }

    fn note(&self, name: &str, text: &str) -> Result<(), KeyStoreError> {
        self.first().replace(name, &SecretSlice::from(format!("{text}\n").into_bytes()), KEY_MODE)?;
        Ok(())
    }
}

/// Keys that lie in a directory which is not this store's: a backup, or those of another life.
#[derive(Debug)]
pub(crate) struct OtherKeys {
    pub(crate) shares: Shares,
    pub(crate) break_glass: Option<Credential>,
}
