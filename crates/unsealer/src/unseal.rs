//! Unsealing one node with any good shares among those that are here.

use std::time::Duration;

use agent_runtime::{Exit, Failure};
use boot_clock::{BootTime, sleep_until};
use tokio::task::JoinSet;
use vault_client::sys::SealStatus;
use vault_client::{VaultClient, VaultError, sys};

use crate::key_store::{KeyStore, KeyStoreError, Place, Rekey, Shares};
use crate::{UnsealerError, rekey, status};

/// How long a raft follower may take from the last share to being unsealed (some 0.5 s).
const LATE_UNSEAL: Duration = Duration::from_secs(5);

/// Between two looks at a node that takes its time.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a node stays sealed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// A request failed.
    #[error("the node could not be unsealed")]
    Vault(#[source] VaultError),
    /// There is nothing to unseal yet.
    #[error("Vault is not initialised; run unsealer init, or unsealer run, which does both")]
    NotInitialised,
    /// The node took all the shares and is sealed still.
    #[error("the node took the shares and stays sealed; it is tried again")]
    Unsettled,
    /// There are fewer shares than the server wants.
    #[error("{found} usable key shares are here, but this Vault is unsealed by {threshold}{unreadable}")]
    TooFew {
        /// How many are in the key store.
        found: usize,
        /// How many are needed.
        threshold: usize,
        /// The first that could not be read, and why.
        unreadable: String,
    },
    /// No combination of the shares unseals.
    #[error(
        "every combination of the {shares} key shares was refused: they belong to another Vault, or too many are \
         damaged (unsealer check-keys tells which). Nothing was changed; put this Vault's own shares in their place, \
         by unsealer adopt-keys, and start again"
    )]
    AllRefused {
        /// How many shares there are.
        shares: usize,
    },
}

impl Failure for UnsealError {
    fn exit(&self) -> Exit {
        match self {
            Self::Vault(error) => error.exit(),
            Self::Unsettled => Exit::Unavailable,
            Self::NotInitialised | Self::TooFew { .. } | Self::AllRefused { .. } => Exit::Config,
        }
    }
}

/// What unsealed a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsealed {
    /// Nothing: it was unsealed, or does that itself.
    Before,
    /// The shares of this place.
    By(Place),
}

/// The sets of shares that may unseal, the likeliest first: more than one around a rekey.
#[derive(Clone, Debug)]
pub(crate) struct KeySets(pub(crate) Vec<(Place, Shares)>);

impl KeySets {
    pub(crate) fn read(store: &KeyStore) -> Result<Self, KeyStoreError> {
        let places = match store.rekey()? {
            Rekey::Staged => [Place::Rekeyed, Place::Current, Place::BeforeRekey],
            Rekey::None | Rekey::Requested | Rekey::Received => {
                [Place::Current, Place::BeforeRekey, Place::Rekeyed]
            }
        };
        let read = places.into_iter().map(|place| Ok((place, store.shares(place)?)));
        let sets = read.collect::<Result<Vec<_>, KeyStoreError>>()?;
        Ok(Self(sets.into_iter().filter(|(_, shares)| !shares.is_empty()).collect()))
    }

    /// A number that differs where any share does.
    pub(crate) fn fingerprint(&self, key: &impl std::hash::BuildHasher) -> u64 {
        key.hash_one(self.0.iter().map(|(_, shares)| shares.fingerprint(key)).collect::<Vec<_>>())
    }
}

/// `unsealer unseal`: every node is tried, and the first failure told at the end. Who orders that means it: a
/// hold is over.
pub(crate) async fn command(
    client: &VaultClient,
    store: &KeyStore,
    json: bool,
) -> Result<Exit, UnsealerError> {
    let sets = KeySets::read(store)?;
    if store.hold(false)? {
        tracing::info!("the hold is over");
    }
    let mut unsealing = JoinSet::new();
    for node in 0..client.nodes().len() {
        let (client, sets) = (client.clone(), sets.clone());
        unsealing.spawn(async move { ensure(&client, node, &sets).await });
    }
    let (mut by, mut failure) = (Vec::new(), None);
    for result in unsealing.join_all().await {
        match result {
            Ok(Unsealed::By(place)) => by.push(place),
            Ok(Unsealed::Before) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    for place in by {
        rekey::note_unsealed(store, place, failure.is_none())?;
    }
    let exit = status::show(client, Some(status::Local::of(store)?), None, json).await;
    failure.map_or(exit, |error| Err(error.into()))
}

/// Unseals a node, if it has anything to unseal and shares are what does it.
pub(crate) async fn ensure(
    client: &VaultClient,
    node: usize,
    sets: &KeySets,
) -> Result<Unsealed, UnsealError> {
    let status = seal_status(client, node).await?;
    if !status.initialized {
        return Err(UnsealError::NotInitialised);
    }
    if !status.sealed || !status.is_unsealed_by_shares() {
        return Ok(Unsealed::Before);
    }
    if status.progress > 0 {
        // Shares of an unfinished attempt would be counted in.
        reset(client, node).await?;
    }
    let mut error = UnsealError::too_few(&Shares::default(), status.threshold);
    for (place, shares) in &sets.0 {
        match unseal(client, node, shares, status.threshold).await {
            Ok(()) => return Ok(Unsealed::By(*place)),
            Err(refused @ (UnsealError::AllRefused { .. } | UnsealError::TooFew { .. })) => error = refused,
            Err(other) => return Err(other),
        }
    }
    // Somebody else may have been faster, with shares of their own between ours.
    if seal_status(client, node).await?.sealed { Err(error) } else { Ok(Unsealed::Before) }
}

async fn unseal(
    client: &VaultClient,
    node: usize,
    shares: &Shares,
    threshold: usize,
) -> Result<(), UnsealError> {
    let candidates = shares.candidates(threshold);
    if candidates.is_empty() {
        return Err(UnsealError::too_few(shares, threshold));
    }
    for candidate in candidates {
        if offer(client, node, shares, &candidate.offer).await? {
            shares.warn_of_damage(&candidate);
            return Ok(());
        }
    }
    Err(UnsealError::AllRefused { shares: shares.found.len() })
}

/// Offers the shares with these indices; `false` where the server refuses them.
async fn offer(
    client: &VaultClient,
    node: usize,
    shares: &Shares,
    offer: &[usize],
) -> Result<bool, UnsealError> {
    for &index in offer {
        match sys::unseal(client, node, &shares.found[index].value, client.soon()).await {
            Ok(status) if !status.sealed => return Ok(true),
            Ok(_) => {}
            // The last share of a wrong combination, or one that is no share at all.
            Err(VaultError::Refused { .. }) => {
                reset(client, node).await?;
                return Ok(false);
            }
            Err(error) => return Err(UnsealError::Vault(error)),
        }
    }
    settle(client, node).await
}

/// Waits for a node that took all shares and is sealed still, as a raft follower is for a moment.
///
/// One that stays so has not refused them: somebody else may be unsealing it too, or its leader be away.
async fn settle(client: &VaultClient, node: usize) -> Result<bool, UnsealError> {
    let end = BootTime::now() + LATE_UNSEAL;
    loop {
        if !seal_status(client, node).await?.sealed {
            return Ok(true);
        }
        if BootTime::now() >= end {
            reset(client, node).await?;
            return Err(UnsealError::Unsettled);
        }
        sleep_until(BootTime::now() + LOOK_EVERY).await;
    }
}

async fn seal_status(client: &VaultClient, node: usize) -> Result<SealStatus, UnsealError> {
    sys::seal_status(client, node, client.soon()).await.map_err(UnsealError::Vault)
}

async fn reset(client: &VaultClient, node: usize) -> Result<(), UnsealError> {
    sys::reset_unseal(client, node, client.soon()).await.map(drop).map_err(UnsealError::Vault)
}

impl UnsealError {
    fn too_few(shares: &Shares, threshold: usize) -> Self {
        let unreadable = shares.unreadable.first();
        let unreadable =
            unreadable.map_or(String::new(), |(path, why)| format!("; {}: {why}", path.display()));
        Self::TooFew { found: shares.candidates(1).len(), threshold, unreadable }
    }
}
