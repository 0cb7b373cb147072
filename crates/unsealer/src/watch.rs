//! `unsealer run`: initialise, unseal, and keep unsealed.

use std::time::Duration;

use agent_runtime::{Exit, Failure as _, StatusFile};
use backoff::{Jitter, Policy};
use boot_clock::{BootTime, sleep_until};
use serde::Serialize;
use tokio::task::JoinSet;
use vault_client::{VaultClient, sys};

use crate::init::{self, INIT_NODE, InitError, Initialised};
use crate::key_store::{KeyShare, KeyStore, Stored};
use crate::nodes::NodeStatus;
use crate::unseal::{self, UnsealError};
use crate::{UnsealerError, break_glass};

/// Between two looks at the nodes. A restart is noticed within this, and unsealed at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two looks while a node is away: soon at first, since most restarts are short.
const AWAY_DELAYS: Policy = match Policy::new(Duration::from_millis(250), Duration::from_secs(2)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

/// How long the status file can be believed: a look may wait for a time-out on every node.
const FRESH_FOR: Duration = Duration::from_mins(1);

/// What is known from one look to the next.
#[derive(Default)]
struct Watch {
    /// Looks in a row at which something was amiss that may pass.
    failures: u32,
    /// The shares were refused, all of them: not tried again in this life.
    refused: bool,
    break_glass: bool,
    last: Vec<NodeStatus>,
}

#[derive(Serialize)]
struct Details<'a> {
    nodes: &'a [NodeStatus],
    break_glass: bool,
}

/// Looks at the nodes and does what is needed, until dropped. Ends by itself only where no later look can
/// do better.
pub(crate) async fn watch(
    client: &VaultClient,
    store: &KeyStore,
    mut status: StatusFile,
) -> Result<Exit, UnsealerError> {
    let mut watch = Watch::default();
    status.report(false, "starting", FRESH_FOR, Details { nodes: &[], break_glass: false });
    loop {
        let pause = match look(client, store, &mut watch).await {
            Ok(()) => {
                watch.failures = 0;
                LOOK_EVERY
            }
            Err(error) if passes(&error) => {
                // That a node is away its own line has said; what else is amiss is said once.
                let text = agent_runtime::with_causes(&error);
                if watch.failures == 0 && watch.last.iter().all(|node| node.error.is_none()) {
                    tracing::warn!("{text}");
                } else {
                    tracing::debug!("{text}");
                }
                let pause = AWAY_DELAYS.delay(watch.failures, Jitter::draw());
                watch.failures = watch.failures.saturating_add(1);
                pause
            }
            Err(error) => return Err(error),
        };
        let unsealed = !watch.last.is_empty() && watch.last.iter().all(NodeStatus::is_unsealed);
        let state = if unsealed { "every node is unsealed" } else { "not every node is unsealed" };
        status.report(
            unsealed,
            state,
            FRESH_FOR,
            Details { nodes: &watch.last, break_glass: watch.break_glass },
        );
        sleep_until(BootTime::now() + pause).await;
    }
}

/// Whether a later look may find it better without anyone doing anything.
fn passes(error: &UnsealerError) -> bool {
    match error {
        UnsealerError::Init(InitError::Vault(error))
        | UnsealerError::Unseal(UnsealError::Vault(error))
        | UnsealerError::Vault(error) => {
            // Another init was first (400): the next look finds an initialised Vault and says what is missing.
            error.is_transient() || error.exit() != Exit::Denied
        }
        _ => false,
    }
}

async fn look(client: &VaultClient, store: &KeyStore, watch: &mut Watch) -> Result<(), UnsealerError> {
    let found = statuses(client).await;
    tell_changes(&watch.last, &found);
    watch.last = found;

    let init_node = &watch.last[INIT_NODE];
    let shares = match store.stored()? {
        Stored::Keys(shares) if init_node.state != "not initialised" => shares,
        _ if init_node.state == "unreachable" => {
            // Asks again for the error, which says what is the matter with it.
            sys::seal_status(client, INIT_NODE, client.soon()).await?;
            return Ok(());
        }
        _ => match init::ensure(client, store).await? {
            Initialised::ByItself => return Ok(()),
            Initialised::Now | Initialised::Before => match store.stored()? {
                Stored::Keys(shares) => shares,
                _ => return Ok(()),
            },
        },
    };
    if !watch.refused {
        unseal_all(client, &shares, watch).await?;
    }
    if !watch.break_glass && watch.last[INIT_NODE].is_unsealed() {
        watch.break_glass = break_glass::ensure(client, store).await?;
    }
    Ok(())
}

/// Asks every node at once: one that is away does not hold up the others.
async fn statuses(client: &VaultClient) -> Vec<NodeStatus> {
    let mut asked = JoinSet::new();
    for (index, address) in client.nodes().enumerate() {
        let (client, address) = (client.clone(), address.to_string());
        asked.spawn(async move {
            let status = match sys::seal_status(&client, index, client.soon()).await {
                Ok(status) => NodeStatus::of(address, &status),
                Err(error) => NodeStatus::unreachable(address, error.to_string()),
            };
            (index, status)
        });
    }
    let mut statuses = asked.join_all().await;
    statuses.sort_by_key(|(index, _)| *index);
    statuses.into_iter().map(|(_, status)| status).collect()
}

/// Unseals the sealed nodes side by side. A raft node that has yet to join says that it is not initialised,
/// and is left until it has.
async fn unseal_all(
    client: &VaultClient,
    shares: &[KeyShare],
    watch: &mut Watch,
) -> Result<(), UnsealerError> {
    let mut unsealing = JoinSet::new();
    for (index, _) in client.nodes().enumerate().filter(|(index, _)| watch.last[*index].state != "unsealed") {
        let (client, shares) = (client.clone(), shares.to_vec());
        unsealing.spawn(async move {
            let status = sys::seal_status(&client, index, client.soon()).await.map_err(UnsealError::Vault)?;
            if status.initialized && status.sealed {
                unseal::unseal(&client, index, &shares, &status).await?;
            }
            Ok::<_, UnsealError>(())
        });
    }
    let results = unsealing.join_all().await;
    let after = statuses(client).await;
    tell_changes(&watch.last, &after);
    watch.last = after;
    for result in results {
        match result {
            // Trying again would refuse again, and disturb a person at it by hand.
            Err(error @ (UnsealError::AllRefused { .. } | UnsealError::TooFew { .. })) => {
                tracing::error!("{error}");
                watch.refused = true;
            }
            other => other?,
        }
    }
    Ok(())
}

/// A line for each node whose state changed, and none in between.
fn tell_changes(before: &[NodeStatus], after: &[NodeStatus]) {
    for (index, node) in after.iter().enumerate() {
        if before.get(index).is_none_or(|before| before.state != node.state) {
            if let Some(error) = &node.error {
                tracing::warn!("{} is {}: {error}", node.address, node.state);
            } else {
                tracing::info!("{} is {}", node.address, node.state);
            }
        }
    }
}
