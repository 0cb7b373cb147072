//! What a key share is put into on the disk: nothing, or [age](https://age-encryption.org/v1) for one or more
//! recipients.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use age::x25519::{Identity, Recipient};
use age::{Decryptor, Encryptor};
use secrecy::{ExposeSecret as _, SecretSlice};
use secret_file::FileError;
use zeroize::Zeroizing;

/// What an encrypted file's name ends in.
pub(crate) const AGE: &str = ".age";

/// The largest identity file that is read.
const MAX_IDENTITIES: usize = 64 * 1024;

/// What is encrypted and decrypted to prove that both can be done.
const PROBE: &[u8] = b"can this be read again?";

/// For whom shares are encrypted, and by what they are decrypted. Without recipients they are stored as they are.
#[derive(Clone, Default)]
pub(crate) struct Envelope {
    recipients: Vec<Recipient>,
    identities: Vec<Identity>,
}

/// Why shares cannot be encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// An `--age-recipient` is none.
    #[error(
        "recipient {position} of --age-recipient is no X25519 recipient ({why}); it begins with age1, as age-keygen prints it"
    )]
    Recipient {
        /// Its place, from 1.
        position: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// The identity file cannot be read.
    #[error("the file of --age-identity-file cannot be read")]
    IdentityFile(#[source] FileError),
    /// A line of it is no identity.
    #[error("{}:{line}: no X25519 identity; it begins with AGE-SECRET-KEY-1, as age-keygen writes it", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Shares that nobody here could read again would keep Vault sealed.
    #[error(
        "key shares are to be encrypted to --age-recipient, but none of the identities here can decrypt that: give \
         the file with a fitting one as --age-identity-file (as a Docker secret, say)"
    )]
    NoIdentity,
    /// There is an encrypted file and no identity.
    #[error("it is encrypted; give the file with the identity as --age-identity-file")]
    IdentityMissing,
    /// It is encrypted to somebody else.
    #[error("it is encrypted to none of the identities in --age-identity-file")]
    Foreign,
    /// It is not a whole age file.
    #[error("it is damaged, or no age file")]
    Damaged,
    /// The library failed.
    #[error("age cannot encrypt")]
    Encrypt,
}

/// Without the identities.
impl std::fmt::Debug for Envelope {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Envelope({} recipients, {} identities)", self.recipients.len(), self.identities.len())
    }
}

impl Envelope {
    pub(crate) fn new(recipients: &[String], identity_file: Option<&Path>) -> Result<Self, EnvelopeError> {
        let recipients = recipients.iter().enumerate().map(|(index, text)| {
            text.trim().parse().map_err(|why| EnvelopeError::Recipient { position: index + 1, why })
        });
        Ok(Self {
            recipients: recipients.collect::<Result<_, _>>()?,
            identities: identity_file.map(identities).transpose()?.unwrap_or_default(),
        })
    }

    /// What the name of a file that is written now ends in.
    pub(crate) fn suffix(&self) -> &'static str {
        if self.recipients.is_empty() { "" } else { AGE }
    }

    /// The bytes to be stored.
    pub(crate) fn seal(&self, value: &[u8]) -> Result<SecretSlice<u8>, EnvelopeError> {
        if self.recipients.is_empty() {
            return Ok(SecretSlice::from(value.to_vec()));
        }
        let recipients = self.recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(recipients).map_err(|_| EnvelopeError::Encrypt)?;
        let mut sealed = Vec::new();
        // Only the sink has errors, and a vector has none.
        encryptor
            .wrap_output(&mut sealed)
            .and_then(|mut writer| {
                writer.write_all(value)?;
                writer.finish().map(drop)
            })
            .map_err(|_| EnvelopeError::Encrypt)?;
        Ok(SecretSlice::from(sealed))
    }

    /// What is in a file whose name ends in [`AGE`].
    pub(crate) fn open(&self, sealed: &[u8]) -> Result<SecretSlice<u8>, EnvelopeError> {
        if self.identities.is_empty() {
            return Err(EnvelopeError::IdentityMissing);
        }
        let decryptor = Decryptor::new_buffered(sealed).map_err(|_| EnvelopeError::Damaged)?;
        let identities = self.identities.iter().map(|identity| identity as &dyn age::Identity);
        let mut reader = decryptor.decrypt(identities).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => EnvelopeError::Foreign,
            _ => EnvelopeError::Damaged,
        })?;
        let mut value = Zeroizing::new(Vec::new());
        reader.read_to_end(&mut value).map_err(|_| EnvelopeError::Damaged)?;
        Ok(SecretSlice::from(std::mem::take(&mut *value)))
    }

    /// Proves that what is stored now can be read by the next start.
    pub(crate) fn prove(&self) -> Result<(), EnvelopeError> {
        if self.recipients.is_empty() {
            return Ok(());
        }
        match self.open(self.seal(PROBE)?.expose_secret()) {
            Ok(read) if read.expose_secret() == PROBE => Ok(()),
            _ => Err(EnvelopeError::NoIdentity),
        }
    }
}

/// The identities of a file as age-keygen writes it: one a line, and comments.
fn identities(path: &Path) -> Result<Vec<Identity>, EnvelopeError> {
    let text = secret_file::read_text(path, MAX_IDENTITIES).map_err(EnvelopeError::IdentityFile)?;
    let lines = text.expose_secret().lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let written = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    written
        .map(|(line, text)| text.parse().map_err(|_| EnvelopeError::Identity { path: path.to_owned(), line }))
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    /// An identity in a file of `dir`, and its recipient.
    pub(crate) fn key_pair(dir: &Path, name: &str) -> (PathBuf, String) {
        let identity = Identity::generate();
        let file = dir.join(name);
        let text = format!("# created: today\n\n{}\n", identity.to_string().expose_secret());
        std::fs::write(&file, text).unwrap();
        (file, identity.to_public().to_string())
    }

    #[test]
    fn one_of_several_recipients_suffices() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, recipient) = key_pair(dir.path(), "ours");
        let (_, other) = key_pair(dir.path(), "other");
        let envelope = Envelope::new(&[other, recipient], Some(&ours)).unwrap();
        envelope.prove().unwrap();
        let sealed = envelope.seal(b"canary").unwrap();
        assert!(!sealed.expose_secret().windows(6).any(|window| window == b"canary"));
        assert_eq!(envelope.open(sealed.expose_secret()).unwrap().expose_secret(), b"canary");
        assert!(!format!("{envelope:?}").contains("AGE"));
    }

    #[test]
    fn what_could_not_be_read_again_is_refused_beforehand() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, recipient) = key_pair(dir.path(), "ours");
        let (other, _) = key_pair(dir.path(), "other");
        for identity in [None, Some(other.as_path())] {
            let envelope = Envelope::new(std::slice::from_ref(&recipient), identity).unwrap();
            assert!(matches!(envelope.prove(), Err(EnvelopeError::NoIdentity)));
        }
        let sealed = Envelope::new(&[recipient], Some(&ours)).unwrap().seal(b"x").unwrap();
        let open = |file: Option<&Path>| Envelope::new(&[], file).unwrap().open(sealed.expose_secret());
        assert!(matches!(open(None), Err(EnvelopeError::IdentityMissing)));
        assert!(matches!(open(Some(&other)), Err(EnvelopeError::Foreign)));
        let ours = Envelope::new(&[], Some(&ours)).unwrap();
        let cut = &sealed.expose_secret()[..sealed.expose_secret().len() - 1];
        assert!(matches!(ours.open(cut), Err(EnvelopeError::Damaged)));
        assert!(matches!(ours.open(b""), Err(EnvelopeError::Damaged)));
    }

    #[test]
    fn a_wrong_key_is_told_by_its_place_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let error = Envelope::new(&["age1canary".to_owned()], None).unwrap_err();
        assert!(matches!(error, EnvelopeError::Recipient { position: 1, .. }));
        let file = dir.path().join("identity");
        std::fs::write(&file, "# ok\nAGE-SECRET-KEY-CANARY\n").unwrap();
        let error = Envelope::new(&[], Some(&file)).unwrap_err();
        assert!(
            error.to_string().contains("identity:2:") && !error.to_string().contains("CANARY"),
            "{error}"
        );
    }
}
