//! `unsealer rekey`: new key shares for the same Vault.
//!
//! The server takes the new shares only once they were given back to it, and until then the old ones stay good. So
//! they are on the disk, read back and compared, before the server is asked to take them; the old ones stay there
//! until the new ones have unsealed. A kill anywhere leaves both sets, and the server says which one counts.

use agent_runtime::{Exit, Failure};
use serde_json::json;
use vault_client::rekey::{self, Verification};
use vault_client::{Reply, VaultClient, VaultError, sys};

use crate::init::{SHARES, THRESHOLD};
use crate::key_store::{KeyStore, KeyStoreError, Place, Rekey, Shares};
use crate::output::answer;
use crate::root::{self, Authority, RootError};
use crate::unseal::KeySets;
use crate::{UnsealerError, lock};

/// Why there are no new shares.
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    /// There is nothing to replace.
    #[error("there are no key shares in {0} to be replaced")]
    NoKeys(String),
    /// A rekey needs a Vault that runs.
    #[error("no node is unsealed: unseal Vault first, by unsealer unseal")]
    Sealed,
    /// Another seal than by shares.
    #[error(
        "this Vault unseals itself (seal type {0}): what it has are recovery keys, which are replaced by its own \
         command: operator rotate-keys -target=recovery"
    )]
    OtherSeal(String),
    /// Somebody else is at it.
    #[error(
        "Vault is in the middle of a rekey that somebody else began; end that one first: operator rotate-keys -cancel"
    )]
    UnderWay(#[source] VaultError),
    /// The current shares are not this Vault's.
    #[error("every combination of the key shares that are here was refused: nothing has changed")]
    AllRefused,
    /// The server does not take back what it gave.
    #[error("Vault does not take its own new shares back: the old ones stay good, and nothing has changed")]
    NotTakenBack,
    /// No right to do that.
    #[error("no token that may rekey can be had")]
    Root(#[from] RootError),
    /// The key store cannot be used.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
    /// A request failed.
    #[error("{doing}")]
    Vault {
        /// What for.
        doing: &'static str,
        /// Vault's answer.
        #[source]
        cause: VaultError,
    },
}

impl Failure for RekeyError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoKeys(_) | Self::OtherSeal(_) | Self::AllRefused => Exit::Config,
            Self::Sealed => Exit::Unavailable,
            Self::UnderWay(_) | Self::NotTakenBack => Exit::Failed,
            Self::Root(error) => error.exit(),
            Self::KeyStore(error) => error.exit(),
            Self::Vault { cause, .. } => cause.exit(),
        }
    }
}

impl RekeyError {
    fn vault(doing: &'static str) -> impl FnOnce(VaultError) -> Self {
        move |cause| Self::Vault { doing, cause }
    }
}

/// `unsealer rekey`. Not to be stopped: it takes a moment, and a kill loses nothing.
pub(crate) async fn command(
    client: &VaultClient,
    store: &KeyStore,
    json: bool,
) -> Result<Exit, UnsealerError> {
    let _lock = lock::exclusively(store).await?;
    check(client, store).await?;
    let authority = Authority::obtain(client, store).await.map_err(RekeyError::Root)?;
    let finished = match finish(&authority.client, store).await {
        Ok(false) => begin(&authority.client, store).await.map(|()| false),
        finished => finished,
    };
    authority.release().await;
    let what = if finished? { "the rekey that was cut off is finished" } else { "rekeyed" };
    let keys = store.path().display();
    let text = format!(
        "{what}: {SHARES} new key shares are in {keys}; the old ones stay beside them until the new ones have unsealed\n"
    );
    answer(json, &json!({ "rekeyed": true, "shares": SHARES, "threshold": THRESHOLD }), &text, Exit::Done)
}

/// What a daemon does about a rekey that was cut off; gives whether there is none any more.
pub(crate) async fn resume(client: &VaultClient, store: &KeyStore) -> Result<bool, UnsealerError> {
    if store.rekey()? == Rekey::None {
        return Ok(true);
    }
    // Somebody is just at it.
    let Some(_lock) = store.try_lock()? else { return Ok(false) };
    let authority = Authority::obtain(client, store).await.map_err(RekeyError::Root)?;
    let finished = finish(&authority.client, store).await;
    authority.release().await;
    let text = if finished? { "finished" } else { "ended, and the old shares stay" };
    tracing::info!("a rekey that was cut off is {text}");
    Ok(true)
}

/// Takes in which shares unsealed nodes, and whether now all are: the old ones are dropped once the new ones did.
///
/// Not before all are: a node that was away during the rekey is still unsealed by the old ones.
pub(crate) fn note_unsealed_by(store: &KeyStore, places: &[Place], all: bool) -> Result<(), KeyStoreError> {
    if places.contains(&Place::Rekeyed) {
        // Only a server that has taken them is unsealed by them.
        store.promote()?;
        store.settle_rekey()?;
        tracing::info!("Vault has taken the new key shares of a rekey that was cut off");
    }
    let by_new = places.iter().any(|place| matches!(place, Place::Current | Place::Rekeyed));
    if by_new && all && store.rekey()? == Rekey::None && store.has_shares(Place::BeforeRekey)? {
        store.drop_shares(Place::BeforeRekey)?;
        tracing::info!("the new key shares have unsealed Vault: those from before the rekey are removed");
    }
    Ok(())
}

async fn check(client: &VaultClient, store: &KeyStore) -> Result<(), UnsealerError> {
    if !store.has_shares(Place::Current)? {
        return Err(RekeyError::NoKeys(store.path().display().to_string()).into());
    }
    let mut answered = Err(RekeyError::Sealed.into());
    for node in 0..client.nodes().len() {
        match sys::seal_status(client, node, client.soon()).await {
            Ok(status) if !status.is_unsealed_by_shares() => {
                return Err(RekeyError::OtherSeal(status.seal_type).into());
            }
            Ok(status) if !status.sealed => return Ok(()),
            Ok(_) => {}
            Err(error) => answered = Err(error.into()),
        }
    }
    answered
}

/// Ends what an earlier run began: `true` where its new shares are the current ones now.
async fn finish(root: &VaultClient, store: &KeyStore) -> Result<bool, RekeyError> {
    match store.rekey()? {
        Rekey::None => return Ok(false),
        Rekey::Requested => {
            cancel(root).await?;
            store.settle_rekey()?;
            return Ok(false);
        }
        Rekey::Received => store.split_rekey_response()?,
        Rekey::Staged => {}
    }
    let new = store.shares(Place::Rekeyed)?;
    let taken = match pending(root).await? {
        Some(verification) if give_back(root, &verification, &new).await? => true,
        // Its answer was lost, or the server was restarted and has forgotten the rekey.
        _ => root::prove(root, &new).await?.is_some(),
    };
    if taken {
        store.promote()?;
    } else {
        cancel(root).await?;
        store.drop_shares(Place::Rekeyed)?;
    }
    store.settle_rekey()?;
    Ok(taken)
}

async fn begin(root: &VaultClient, store: &KeyStore) -> Result<(), RekeyError> {
    store.prepare_rekey()?;
    let reply = match new_shares(root, store).await {
        Ok(reply) => reply,
        Err(error) => {
            if !matches!(error, RekeyError::UnderWay(_)) {
                cancel(root).await?;
            }
            store.settle_rekey()?;
            return Err(error);
        }
    };
    // From here on the next start can finish it.
    store.keep_rekey_response(&reply.body)?;
    store.split_rekey_response()?;
    let new = store.shares(Place::Rekeyed)?;
    let verification = pending(root).await?.ok_or(RekeyError::NotTakenBack)?;
    if !give_back(root, &verification, &new).await? {
        return Err(RekeyError::NotTakenBack);
    }
    store.promote()?;
    Ok(store.settle_rekey()?)
}

/// The server's answer with the new shares, for the current ones.
async fn new_shares(root: &VaultClient, store: &KeyStore) -> Result<Reply, RekeyError> {
    let attempt = match rekey::start(root, SHARES, THRESHOLD, root.soon()).await {
        Err(error @ VaultError::Refused { status: 400, .. }) => return Err(RekeyError::UnderWay(error)),
        started => started.map_err(RekeyError::vault("beginning a rekey"))?,
    };
    for (_, shares) in KeySets::read(store)?.0 {
        for candidate in shares.candidates(attempt.required) {
            match offer(root, &attempt, &shares, &candidate.offer).await {
                Ok(Some(reply)) => {
                    shares.warn_of_damage(&candidate);
                    return Ok(reply);
                }
                // A wrong combination: the attempt waits for all of them again.
                Ok(None) | Err(VaultError::Refused { .. }) => {}
                Err(cause) => return Err(RekeyError::vault("providing a key share")(cause)),
            }
        }
    }
    Err(RekeyError::AllRefused)
}

/// The answer to the last share; `None` where the server is not content with as many as it asked for.
async fn offer(
    root: &VaultClient,
    attempt: &rekey::Attempt,
    shares: &Shares,
    offer: &[usize],
) -> Result<Option<Reply>, VaultError> {
    let mut answer = None;
    for &index in offer {
        answer = rekey::provide(root, attempt, &shares.found[index].value, root.soon()).await?;
    }
    Ok(answer)
}

/// Gives the new shares back to the server, which takes them by that; `false` where it refuses them.
async fn give_back(
    root: &VaultClient,
    verification: &Verification,
    new: &Shares,
) -> Result<bool, RekeyError> {
    let Some(candidate) = new.candidates(verification.required).into_iter().next() else { return Ok(false) };
    for &index in &candidate.offer {
        match rekey::verify(root, verification, &new.found[index].value, root.soon()).await {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(VaultError::Refused { .. }) => return Ok(false),
            Err(cause) => return Err(RekeyError::vault("giving a new key share back")(cause)),
        }
    }
    Ok(false)
}

async fn pending(root: &VaultClient) -> Result<Option<Verification>, RekeyError> {
    rekey::pending(root, root.soon())
        .await
        .map_err(RekeyError::vault("asking whether Vault waits for new key shares"))
}

async fn cancel(root: &VaultClient) -> Result<(), RekeyError> {
    rekey::cancel(root, root.soon()).await.map_err(RekeyError::vault("ending the rekey"))
}
