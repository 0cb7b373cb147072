//! Unsealing one node with any good shares among those that are here.

use std::time::Duration;

use agent_runtime::{Exit, Failure};
use boot_clock::{BootTime, sleep_until};
use vault_client::sys::SealStatus;
use vault_client::{VaultClient, VaultError, sys};

use crate::key_store::{KeyShare, KeyStore, Stored};
use crate::{UnsealerError, nodes};

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
    #[error("{found} key shares are here, but this Vault is unsealed by {threshold}")]
    TooFew {
        /// How many are in the key store.
        found: usize,
        /// How many are needed.
        threshold: usize,
    },
    /// No combination of the shares unseals.
    #[error(
        "every combination of the {shares} key shares was refused: they belong to another Vault, or too many are \
         damaged. Nothing was changed; put this Vault's own shares in their place and start again"
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

/// `unsealer unseal`: every node is tried, and the first failure told at the end. Who orders that means it: a
/// hold is over.
pub(crate) async fn command(client: &VaultClient, store: &KeyStore) -> Result<Exit, UnsealerError> {
    let shares = match store.stored()? {
        Stored::Keys(shares) => shares,
        Stored::Nothing | Stored::Requested | Stored::Received => Vec::new(),
    };
    if store.hold(false)? {
        tracing::info!("the hold is over");
    }
    let mut failure = None;
    for node in 0..client.nodes().len() {
        if let Err(error) = ensure(client, node, &shares).await {
            failure = failure.or(Some(error));
        }
    }
    let exit = nodes::command(client, false).await;
    failure.map_or(exit, |error| Err(error.into()))
}

/// Unseals a node, if it has anything to unseal and shares are what does it.
pub(crate) async fn ensure(
    client: &VaultClient,
    node: usize,
    shares: &[KeyShare],
) -> Result<(), UnsealError> {
    let status = sys::seal_status(client, node, client.soon()).await.map_err(UnsealError::Vault)?;
    if !status.initialized {
        return Err(UnsealError::NotInitialised);
    }
    if !status.sealed || !status.is_unsealed_by_shares() {
        return Ok(());
    }
    unseal(client, node, shares, &status).await
}

async fn unseal(
    client: &VaultClient,
    node: usize,
    shares: &[KeyShare],
    status: &SealStatus,
) -> Result<(), UnsealError> {
    let threshold = status.threshold;
    if shares.len() < threshold {
        return Err(UnsealError::TooFew { found: shares.len(), threshold });
    }
    if status.progress > 0 {
        // Shares of an unfinished attempt would be counted in.
        reset(client, node).await?;
    }
    let mut refused = Vec::new();
    for combination in combinations(shares.len(), threshold) {
        if offer(client, node, shares, &combination).await? {
            for index in damaged(&refused, &combination) {
                tracing::warn!("unseal-key-{} is damaged or of another Vault", shares[index].number);
            }
            return Ok(());
        }
        refused.push(combination);
    }
    Err(UnsealError::AllRefused { shares: shares.len() })
}

/// Offers the shares with these indices; `false` where the server refuses them.
async fn offer(
    client: &VaultClient,
    node: usize,
    shares: &[KeyShare],
    combination: &[usize],
) -> Result<bool, UnsealError> {
    for &index in combination {
        match sys::unseal(client, node, &shares[index].value, client.soon()).await {
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
        let status = sys::seal_status(client, node, client.soon()).await.map_err(UnsealError::Vault)?;
        if !status.sealed {
            return Ok(true);
        }
        if BootTime::now() >= end {
            reset(client, node).await?;
            return Err(UnsealError::Unsettled);
        }
        sleep_until(BootTime::now() + LOOK_EVERY).await;
    }
}

async fn reset(client: &VaultClient, node: usize) -> Result<(), UnsealError> {
    sys::reset_unseal(client, node, client.soon()).await.map(drop).map_err(UnsealError::Vault)
}

/// Every way to take `size` of `count`, the first ones first.
pub(crate) fn combinations(count: usize, size: usize) -> impl Iterator<Item = Vec<usize>> {
    let mut next = (size <= count).then(|| (0..size).collect::<Vec<_>>());
    std::iter::from_fn(move || {
        let current = next.take()?;
        // The last index that can still move on does, and the ones behind it follow close up.
        if let Some(place) = (0..size).rev().find(|&place| current[place] < count - size + place) {
            let mut following = current.clone();
            following[place] += 1;
            for behind in place + 1..size {
                following[behind] = following[behind - 1] + 1;
            }
            next = Some(following);
        }
        Some(current)
    })
}

/// The shares that must be damaged, given that `good` ones unsealed: those that are the only other one in a
/// refused combination.
fn damaged(refused: &[Vec<usize>], good: &[usize]) -> Vec<usize> {
    let mut found: Vec<usize> = refused
        .iter()
        .filter_map(|combination| {
            let mut others = combination.iter().filter(|index| !good.contains(index));
            others.next().filter(|_| others.next().is_none()).copied()
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn three_of_five_in_ten_ways() {
        let all: Vec<_> = combinations(5, 3).collect();
        assert_eq!(all.len(), 10);
        assert_eq!(
            (all[0].as_slice(), all[1].as_slice(), all[9].as_slice()),
            (&[0, 1, 2][..], &[0, 1, 3][..], &[2, 3, 4][..])
        );
        assert_eq!(combinations(3, 3).count(), 1);
        assert_eq!(combinations(2, 3).count(), 0);
        assert_eq!(combinations(4, 1).count(), 4);
    }

    proptest! {
        #[test]
        fn up_to_two_damaged_shares_still_unseal_and_none_is_blamed_wrongly(
            bad in proptest::collection::btree_set(0_usize..5, 0..=2),
        ) {
            let mut refused = Vec::new();
            for combination in combinations(5, 3) {
                if combination.iter().any(|index| bad.contains(index)) {
                    refused.push(combination);
                    continue;
                }
                let blamed = damaged(&refused, &combination);
                prop_assert!(blamed.iter().all(|index| bad.contains(index)));
                // A single damaged share that was in the way is always found.
                if bad.len() == 1 && !refused.is_empty() {
                    prop_assert_eq!(blamed, bad.iter().copied().collect::<Vec<_>>());
                }
                return Ok(());
            }
            prop_assert!(false, "three good shares did not unseal");
        }
    }
}
