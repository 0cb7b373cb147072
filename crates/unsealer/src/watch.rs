//! `unsealer run`: initialise, unseal, and keep unsealed.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use agent_runtime::{Exit, Failure as _, Shutdown, StatusFile};
use backoff::{Jitter, Policy};
use boot_clock::BootTime;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use tokio::task::JoinSet;
use vault_client::{VaultClient, VaultError, sys};

use crate::args::ResealPolicy;
use crate::init::{self, INIT_NODE, InitError, Initialised};
use crate::key_store::{KeyShare, KeyStore, KeyStoreError, Stored};
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

/// Between two attempts at a break-glass credential that could not be made.
const BREAK_GLASS_AGAIN_AFTER: Duration = Duration::from_mins(5);

/// How long the status file can be believed: a look may wait for a time-out on every node.
const FRESH_FOR: Duration = Duration::from_mins(1);

/// What is known from one look to the next.
#[derive(Default)]
struct Watch {
    reseal_policy: ResealPolicy,
    /// Nothing is to be unsealed.
    held: bool,
    /// Looks in a row at which something was amiss that may pass.
    failures: u32,
    /// One look went well: what fails later may pass.
    succeeded: bool,
    /// The nodes that refused all shares, and the fingerprint of those: not tried again with the same.
    refused: BTreeMap<usize, u64>,
    fingerprint_key: RandomState,
    has_break_glass: bool,
    break_glass_due: BootTime,
    last: Vec<NodeStatus>,
}

#[derive(Serialize)]
struct Details<'a> {
    nodes: &'a [NodeStatus],
    held: bool,
    break_glass: bool,
}

/// Looks at the nodes and does what is needed, until told to stop. Ends by itself only where no later look
/// can do better.
pub(crate) async fn watch(
    client: &VaultClient,
    store: &KeyStore,
    reseal_policy: ResealPolicy,
    mut status: StatusFile,
    shutdown: &Shutdown,
) -> Result<Exit, UnsealerError> {
    let mut watch = Watch { reseal_policy, ..Watch::default() };
    watch.report(&mut status);
    loop {
        let pause = match look(client, store, &mut watch, shutdown).await {
            Ok(()) => {
                watch.failures = 0;
                watch.succeeded = true;
                LOOK_EVERY
            }
            Err(UnsealerError::Stopped(_)) => return Ok(Exit::Done),
            Err(error) if watch.may_pass(&error) => watch.fail(&error),
            Err(error) => return Err(error),
        };
        watch.report(&mut status);
        if shutdown.sleep_until(BootTime::now() + pause).await.is_err() {
            return Ok(Exit::Done);
        }
    }
}

/// One look. A stop can come at every step but the initialisation, whose answer nobody can ask for again.
async fn look(
    client: &VaultClient,
    store: &KeyStore,
    watch: &mut Watch,
    shutdown: &Shutdown,
) -> Result<(), UnsealerError> {
    let found = shutdown.or_stop(statuses(client)).await?;
    watch.hold_what_was_sealed_by_hand(store, &found)?;
    watch.note(found);
    watch.note_hold(store.is_held()?);
    let init_node = &watch.last[INIT_NODE];
    let shares = match store.stored()? {
        Stored::Keys(shares) if init_node.state != "not initialised" => shares,
        _ if init_node.state == "unreachable" => {
            // Asks again for the error, which says what is the matter with it.
            shutdown.or_stop(sys::seal_status(client, INIT_NODE, client.soon())).await??;
            return Ok(());
        }
        _ => match init::ensure(client, store).await? {
            Initialised::Elsewhere { needs_keys } => return watch.without_keys(store, needs_keys),
            Initialised::Now | Initialised::Before => match store.stored()? {
                Stored::Keys(shares) => shares,
                _ => return Ok(()),
            },
        },
    };
    if watch.held {
        return Ok(());
    }
    unseal_all(client, &shares, watch, shutdown).await?;
    if !watch.has_break_glass
        && watch.last[INIT_NODE].is_unsealed()
        && BootTime::now() >= watch.break_glass_due
    {
        let made = shutdown.or_stop(break_glass::ensure(client, store)).await?;
        watch.note_break_glass(made);
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
    shutdown: &Shutdown,
) -> Result<(), UnsealerError> {
    let fingerprint = watch.fingerprint(shares);
    let mut unsealing = JoinSet::new();
    for (index, node) in watch.last.iter().enumerate() {
        if node.state == "sealed" && watch.refused.get(&index) != Some(&fingerprint) {
            let (client, shares) = (client.clone(), shares.to_vec());
            unsealing.spawn(async move { (index, unseal::ensure(&client, index, &shares).await) });
        }
    }
    if unsealing.is_empty() {
        return Ok(());
    }
    let results = shutdown.or_stop(unsealing.join_all()).await?;
    watch.note(shutdown.or_stop(statuses(client)).await?);
    let mut passing = Ok(());
    for (index, result) in results {
        match result {
            Ok(()) => {}
            // Trying again would refuse again, and disturb a person at it by hand.
            Err(error @ (UnsealError::AllRefused { .. } | UnsealError::TooFew { .. })) => {
                tracing::error!("{}: {error}", watch.last[index].address);
                watch.refused.insert(index, fingerprint);
            }
            Err(error) => passing = Err(error.into()),
        }
    }
    passing
}

impl Watch {
    /// Takes in how the nodes are: a line for each whose state changed, and none in between.
    fn note(&mut self, found: Vec<NodeStatus>) {
        for (index, node) in found.iter().enumerate() {
            if self.last.get(index).is_some_and(|before| before.state == node.state) {
                continue;
            }
            if let Some(error) = &node.error {
                tracing::warn!("{} is {}: {error}", node.address, node.state);
            } else {
                tracing::info!("{} is {}", node.address, node.state);
            }
            // Another server, or one unsealed by hand, may stand there now.
            if node.state != "sealed" {
                self.refused.remove(&index);
            }
        }
        self.last = found;
    }

    /// A seal that came without a restart is an operator's order to everything: it is kept, across restarts too.
    fn hold_what_was_sealed_by_hand(
        &self,
        store: &KeyStore,
        found: &[NodeStatus],
    ) -> Result<(), KeyStoreError> {
        let mut pairs = self.last.iter().zip(found);
        let by_hand = pairs.find(|(before, now)| now.was_sealed_by_hand(before));
        if let Some((_, node)) = by_hand.filter(|_| self.reseal_policy == ResealPolicy::Hold) {
            tracing::warn!(
                "{} was sealed while it ran, which only an operator does: it stays sealed, until unsealer hold off",
                node.address
            );
            store.hold(true)?;
        }
        Ok(())
    }

    fn note_hold(&mut self, held: bool) {
        match (self.held, held) {
            (false, true) => tracing::warn!("held: nothing is unsealed until unsealer hold off"),
            (true, false) => tracing::info!("the hold is over"),
            _ => {}
        }
        self.held = held;
    }

    /// A server that is unsealed leaves nothing to do, with or without keys; one that unseals itself is left to.
    fn without_keys(&mut self, store: &KeyStore, needs_keys: bool) -> Result<(), UnsealerError> {
        if needs_keys && !self.last[INIT_NODE].is_unsealed() {
            return Err(InitError::keys_elsewhere(store).into());
        }
        if needs_keys && !self.succeeded {
            let keys = store.path().display();
            tracing::warn!(
                "Vault is unsealed and its keys are not in {keys}: once it is sealed, it stays so"
            );
        }
        Ok(())
    }

    fn note_break_glass(&mut self, made: Result<bool, UnsealerError>) {
        match made {
            Ok(made) => self.has_break_glass = made,
            Err(error) => {
                tracing::warn!(
                    "there is no break-glass credential, and none could be made with the root token that is here: {}",
                    agent_runtime::with_causes(&error)
                );
            }
        }
        // Without a root token there is nothing to make it with; one may be put there later.
        self.break_glass_due = BootTime::now() + BREAK_GLASS_AGAIN_AFTER;
    }

    /// Whether a later look may find it better without anyone doing anything.
    fn may_pass(&self, error: &UnsealerError) -> bool {
        let passes = |error: &VaultError| error.is_transient() || error.exit() != Exit::Denied;
        match error {
            UnsealerError::Init(InitError::Vault(error))
            | UnsealerError::Unseal(UnsealError::Vault(error))
            | UnsealerError::Vault(error) => passes(error),
            UnsealerError::Unseal(UnsealError::Unsettled | UnsealError::NotInitialised) => true,
            // A disk that was good once.
            UnsealerError::KeyStore(KeyStoreError::File(_)) => self.succeeded,
            _ => false,
        }
    }

    /// Says what is amiss, once while it lasts; that a node is away its own line has said. Gives the pause.
    fn fail(&mut self, error: &UnsealerError) -> Duration {
        let text = agent_runtime::with_causes(error);
        if self.failures == 0 && self.last.iter().all(|node| node.error.is_none()) {
            tracing::warn!("{text}");
        } else {
            tracing::debug!("{text}");
        }
        let pause = AWAY_DELAYS.delay(self.failures, Jitter::draw());
        self.failures = self.failures.saturating_add(1);
        pause
    }

    fn report(&self, status: &mut StatusFile) {
        let unsealed = !self.last.is_empty() && self.last.iter().all(NodeStatus::is_unsealed);
        let state = if self.last.is_empty() {
            "starting"
        } else if unsealed {
            "every node is unsealed"
        } else if self.held {
            "held: nothing is unsealed until unsealer hold off"
        } else if self.refused.is_empty() {
            "not every node is unsealed"
        } else {
            "a node refuses the key shares that are here"
        };
        let details = Details { nodes: &self.last, held: self.held, break_glass: self.has_break_glass };
        status.report(unsealed, state, FRESH_FOR, details);
    }

    fn fingerprint(&self, shares: &[KeyShare]) -> u64 {
        let values: Vec<&str> = shares.iter().map(|share| share.value.expose_secret()).collect();
        self.fingerprint_key.hash_one(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(state: &'static str) -> NodeStatus {
        let error = (state == "unreachable").then(|| "gone".to_owned());
        NodeStatus {
            address: "http://vault".to_owned(),
            state,
            progress: None,
            version: None,
            error,
            connection: None,
        }
    }

    #[test]
    fn a_refusal_is_forgotten_when_the_node_was_away_or_unsealed() {
        for between in ["unreachable", "unsealed"] {
            let mut watch =
                Watch { last: vec![node("sealed")], refused: [(0, 7)].into(), ..Watch::default() };
            watch.note(vec![node("sealed")]);
            assert!(watch.refused.contains_key(&0));
            watch.note(vec![node(between)]);
            assert!(watch.refused.is_empty());
        }
    }

    #[test]
    fn only_a_seal_without_a_restart_is_an_order() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::open(&dir.path().join("keys"), &dir.path().join("root/root-token")).unwrap();
        let by = |connection| NodeStatus { connection, ..node("unsealed") };
        let watch = |before, reseal_policy| Watch { last: vec![before], reseal_policy, ..Watch::default() };
        // Another connection, or none that is known: the server may have restarted.
        watch(by(None), ResealPolicy::Hold).hold_what_was_sealed_by_hand(&store, &[node("sealed")]).unwrap();
        watch(node("sealed"), ResealPolicy::Hold)
            .hold_what_was_sealed_by_hand(&store, &[node("sealed")])
            .unwrap();
        assert!(!store.is_held().unwrap());
    }

    #[test]
    fn other_shares_have_another_fingerprint() {
        let watch = Watch::default();
        let share = |value: &str| KeyShare { number: 1, value: value.into() };
        assert_eq!(watch.fingerprint(&[share("a")]), watch.fingerprint(&[share("a")]));
        assert_ne!(watch.fingerprint(&[share("a")]), watch.fingerprint(&[share("b")]));
    }

    #[test]
    fn what_may_pass_is_told_from_what_does_not() {
        let store_error = || {
            let missing = secret_file::read_text(std::path::Path::new("/nonexistent"), 1).unwrap_err();
            UnsealerError::KeyStore(missing.into())
        };
        let mut watch = Watch::default();
        assert!(!watch.may_pass(&store_error()));
        watch.succeeded = true;
        assert!(watch.may_pass(&store_error()));
        assert!(watch.may_pass(&UnsealError::Unsettled.into()));
        assert!(!watch.may_pass(&InitError::KeysElsewhere { keys_dir: String::new() }.into()));
    }
}
