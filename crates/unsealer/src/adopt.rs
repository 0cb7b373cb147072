//! `unsealer adopt-keys`: shares from elsewhere take the place of those that are here, once Vault has taken them.
//!
//! After a snapshot of another life was restored only that life's shares unseal.

use std::path::{Path, PathBuf};

use agent_runtime::{Exit, Failure};
use serde_json::json;
use vault_client::{VaultClient, sys};

use crate::key_store::{KeyStore, OtherKeys, Place};
use crate::output::answer;
use crate::root::{self, RootError};
use crate::unseal::{self, KeySets, UnsealError, Unsealed};
use crate::{UnsealerError, lock};

/// Why the shares are not adopted. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// There are none.
    #[error("{} holds no key share that can be read: give the directory with unseal-key-1 and so on{unreadable}", path.display())]
    NoShares {
        /// The directory.
        path: PathBuf,
        /// The first that could not be read, and why.
        unreadable: String,
    },
    /// Proving them would unseal.
    #[error(
        "Vault is held sealed, and the shares can only be proven by unsealing it: run unsealer hold off first"
    )]
    Held,
    /// The server has others.
    #[error("Vault refuses the key shares in {}: they stay where they are, and nothing has changed", .0.display())]
    Refused(PathBuf),
    /// The server is unsealed, so that shares say nothing, and there is no credential to prove them by.
    #[error(
        "Vault is unsealed, and there is no break-glass credential that it takes, by which the shares could be \
         proven: restart or seal Vault, and adopt them then"
    )]
    Unprovable(#[source] Option<Box<RootError>>),
}

impl Failure for AdoptError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoShares { .. } | Self::Held | Self::Refused(_) | Self::Unprovable(_) => Exit::Config,
        }
    }
}

/// Proves the shares of `from` and makes them the current ones; those that were are kept aside.
pub(crate) async fn command(
    client: &VaultClient,
    store: &KeyStore,
    from: &Path,
    json: bool,
) -> Result<Exit, UnsealerError> {
    let _lock = lock::exclusively(store).await?;
    let other = store.read_other(from)?;
    if other.shares.is_empty() {
        let unreadable = other.shares.unreadable.first();
        let unreadable =
            unreadable.map_or(String::new(), |(path, why)| format!(" ({}: {why})", path.display()));
        return Err(AdoptError::NoShares { path: from.to_owned(), unreadable }.into());
    }
    let keys = store.path().display();
    if store.shares(Place::Current)?.is_same_as(&other.shares) {
        return answer(
            json,
            &json!({ "adopted": false }),
            &format!("{keys} holds these key shares already\n"),
            Exit::Done,
        );
    }
    prove(client, store, from, &other).await?;
    let aside = store.adopt(&other.shares, other.break_glass.as_ref())?;
    let text = format!(
        "the {} key shares of {} are now in {keys}; what was there before is in {}\n",
        other.shares.found.len(),
        from.display(),
        aside.display()
    );
    answer(json, &json!({ "adopted": true, "aside": aside }), &text, Exit::Done)
}

/// Unseals the sealed nodes with the shares; where none is sealed, a root token made of them is the proof.
async fn prove(
    client: &VaultClient,
    store: &KeyStore,
    from: &Path,
    other: &OtherKeys,
) -> Result<(), UnsealerError> {
    let sets = KeySets(vec![(Place::Current, other.shares.clone())]);
    let mut failure = None;
    let mut proven = false;
    for node in 0..client.nodes().len() {
        match sys::seal_status(client, node, client.soon()).await {
            Ok(status) if status.sealed && status.initialized => {
                if store.is_held()? {
                    return Err(AdoptError::Held.into());
                }
                match unseal::ensure(client, node, &sets).await {
                    Ok(Unsealed::By(_)) => proven = true,
                    // Somebody was faster, which says nothing about these shares.
                    Ok(Unsealed::Before) => {}
                    Err(UnsealError::AllRefused { .. }) => {
                        return Err(AdoptError::Refused(from.to_owned()).into());
                    }
                    Err(error) => failure = failure.or(Some(UnsealerError::from(error))),
                }
            }
            Ok(_) => {}
            Err(error) => failure = failure.or(Some(error.into())),
        }
    }
    match (proven, failure) {
        (true, _) => Ok(()),
        (false, Some(error)) => Err(error),
        (false, None) => prove_by_root(client, store, from, other).await,
    }
}

async fn prove_by_root(
    client: &VaultClient,
    store: &KeyStore,
    from: &Path,
    other: &OtherKeys,
) -> Result<(), UnsealerError> {
    let mut failure = None;
    for credential in [other.break_glass.clone(), store.break_glass_credential()?].into_iter().flatten() {
        match root::prove_by(client, &credential, &other.shares).await {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => return Err(AdoptError::Refused(from.to_owned()).into()),
            Err(error) if error.is_denial() => failure = failure.or(Some(Box::new(error))),
            Err(error) => return Err(error.into()),
        }
    }
    Err(AdoptError::Unprovable(failure).into())
}
