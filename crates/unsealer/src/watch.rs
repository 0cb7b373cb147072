//! `unsealer run`: initialise, unseal, and keep unsealed.
//!
//! Every node has a clock of its own: one that hangs or is away holds up none of the others. What is to be done
//! about a node is decided by [`decide`](decide::decide), from what is known of all.

mod decide;
mod mend;
mod node;

use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agent_runtime::{Exit, Shutdown, StatusFile, with_causes};
use boot_clock::BootTime;
use serde::Serialize;
use tokio::task::JoinSet;
use vault_client::sys::SealStatus;
use vault_client::{VaultClient, VaultError, sys};

use self::decide::{Action, Oddity, decide, may_pass};
use self::mend::Mending;
use self::node::Node;
use crate::args::ResealPolicy;
use crate::init::{self, InitError, Initialised};
use crate::key_store::{KeyStore, KeyStoreError, Stored};
use crate::status::{Local, NodeState, NodeStatus};
use crate::unseal::{self, KeySets, UnsealError, Unsealed};
use crate::{UnsealerError, rekey};

/// How long keys and server may not fit together before that is final: another unsealer may be at work.
const GRACE: Duration = Duration::from_secs(10);

/// How long the status file can be believed: a look may wait for a time-out.
const FRESH_FOR: Duration = Duration::from_mins(1);

struct Watch {
    /// Looks at the nodes and does nothing else, so that each look comes by the connection of the one before.
    looker: VaultClient,
    client: VaultClient,
    store: Arc<KeyStore>,
    reseal_policy: ResealPolicy,
    nodes: Vec<Node>,
    /// Nothing is to be unsealed.
    held: bool,
    local: Option<Local>,
    /// One look went well: what fails later may pass.
    succeeded: bool,
    /// Since when keys and server have not fitted together.
    odd_since: Option<BootTime>,
    mending: Mending,
    fingerprint_key: RandomState,
}

enum Event {
    Looked(usize, Result<SealStatus, VaultError>),
    Tried(usize, u64, Result<Unsealed, UnsealError>),
    Mended(Result<(), UnsealerError>),
}

#[derive(Serialize)]
struct Details<'a> {
    nodes: Vec<&'a NodeStatus>,
    #[serde(flatten)]
    local: Option<&'a Local>,
}

/// Looks at the nodes and does what is needed, until told to stop. Ends by itself only where no later look
/// can do better.
///
/// `looker` is a client of the same nodes with connections of its own.
pub(crate) async fn watch(
    looker: VaultClient,
    client: VaultClient,
    store: Arc<KeyStore>,
    reseal_policy: ResealPolicy,
    mut status: StatusFile,
    shutdown: &Shutdown,
) -> Result<Exit, UnsealerError> {
    let mut watch = Watch::new(looker, client, store, reseal_policy);
    let mut tasks = JoinSet::new();
    init::finish(&watch.store)?;
    loop {
        watch.report(&mut status);
        watch.begin_what_is_due(&mut tasks);
        let wake = watch.next_due();
        tokio::select! {
            biased;
            _ = shutdown.ordered() => return Ok(Exit::Done),
            Some(event) = tasks.join_next() => match event {
                Ok(event) => watch.take_in(event, &mut tasks, shutdown).await?,
                Err(panicked) => tracing::error!("an attempt ended early: {panicked}"),
            },
            () = boot_clock::sleep_until(wake) => {}
        }
        if shutdown.is_ordered() {
            return Ok(Exit::Done);
        }
    }
}

impl Watch {
    fn new(
        looker: VaultClient,
        client: VaultClient,
        store: Arc<KeyStore>,
        reseal_policy: ResealPolicy,
    ) -> Self {
        let nodes = client.nodes().map(|address| Node::new(address.to_string())).collect();
        Self {
            looker,
            client,
            store,
            reseal_policy,
            nodes,
            held: false,
            local: None,
            succeeded: false,
            odd_since: None,
            mending: Mending::default(),
            fingerprint_key: RandomState::new(),
        }
    }

    /// Starts a look at every node whose time has come, and what wants a root token.
    fn begin_what_is_due(&mut self, tasks: &mut JoinSet<Event>) {
        let now = BootTime::now();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if !node.is_busy && node.due <= now {
                node.is_busy = true;
                let client = self.looker.clone();
                tasks.spawn(async move {
                    Event::Looked(index, sys::seal_status(&client, index, client.soon()).await)
                });
            }
        }
        if self.mending_due().is_some_and(|due| due <= now) {
            self.mending.begin();
            let (client, store) = (self.client.clone(), Arc::clone(&self.store));
            tasks.spawn(async move { Event::Mended(mend::mend(&client, &store).await) });
        }
    }

    fn next_due(&self) -> BootTime {
        let nodes = self.nodes.iter().filter(|node| !node.is_busy).map(|node| node.due);
        nodes.chain(self.mending_due()).min().unwrap_or(BootTime::at(Duration::MAX))
    }

    fn mending_due(&self) -> Option<BootTime> {
        self.mending.due(self.any_unsealed(), self.local.as_ref())
    }

    fn any_unsealed(&self) -> bool {
        self.nodes.iter().any(|node| node.status.is_unsealed())
    }

    async fn take_in(
        &mut self,
        event: Event,
        tasks: &mut JoinSet<Event>,
        shutdown: &Shutdown,
    ) -> Result<(), UnsealerError> {
        let (index, done) = match event {
            Event::Mended(result) => {
                self.mending.end(result, self.local.as_ref());
                return self.tolerate(Self::refresh_local);
            }
            Event::Looked(index, Err(error)) => {
                let node = &mut self.nodes[index];
                node.is_busy = false;
                node.note(NodeStatus::unreachable(node.status.address.clone(), error.to_string()));
                node.back_off();
                return Ok(());
            }
            Event::Looked(index, Ok(status)) => (index, self.looked(index, &status, tasks, shutdown).await),
            Event::Tried(index, fingerprint, result) => (index, self.tried(index, fingerprint, result)),
        };
        match done {
            Ok(()) => {
                self.succeeded = true;
                Ok(())
            }
            Err(UnsealerError::Stopped(_)) => Ok(()),
            Err(error) if may_pass(&error, self.succeeded) => {
                let node = &mut self.nodes[index];
                node.is_busy = false;
                node.complain(&error);
                node.back_off();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn looked(
        &mut self,
        index: usize,
        status: &SealStatus,
        tasks: &mut JoinSet<Event>,
        shutdown: &Shutdown,
    ) -> Result<(), UnsealerError> {
        let node = &mut self.nodes[index];
        node.is_busy = false;
        node.look_again();
        let found = NodeStatus::of(node.status.address.clone(), status);
        self.hold_if_sealed_by_hand(index, &found)?;
        self.nodes[index].note(found);
        self.note_hold()?;
        let all: Vec<NodeState> = self.nodes.iter().map(|node| node.status.state).collect();
        let mut stored = self.store.stored()?;
        if stored == Stored::Received && self.store.try_lock()?.is_some() {
            // The disk failed in the middle of the split: it is done again.
            init::finish(&self.store)?;
            stored = self.store.stored()?;
        }
        match decide(index, &all, status.is_unsealed_by_shares(), stored, self.held) {
            Action::Wait => self.odd_since = None,
            Action::Unseal => self.begin_to_unseal(index, tasks)?,
            Action::Initialise => self.initialise(index, shutdown).await?,
            Action::Odd(oddity) => self.note_oddity(oddity)?,
        }
        if self.local.is_none() {
            self.refresh_local()?;
            self.warn_of_missing_keys(index);
        }
        Ok(())
    }

    fn begin_to_unseal(&mut self, index: usize, tasks: &mut JoinSet<Event>) -> Result<(), UnsealerError> {
        self.odd_since = None;
        let sets = KeySets::read(&self.store)?;
        let fingerprint = sets.fingerprint(&self.fingerprint_key);
        let node = &mut self.nodes[index];
        if node.refused == Some(fingerprint) {
            return Ok(());
        }
        node.is_busy = true;
        let client = self.client.clone();
        tasks.spawn(
            async move { Event::Tried(index, fingerprint, unseal::ensure(&client, index, &sets).await) },
        );
        Ok(())
    }

    async fn initialise(&mut self, index: usize, shutdown: &Shutdown) -> Result<(), UnsealerError> {
        // Another one may be at it: that is waited for, and can be stopped. The initialisation itself cannot.
        drop(shutdown.or_stop(crate::lock::exclusively(&self.store)).await??);
        match init::ensure(&self.client, &self.store).await {
            Ok(Initialised::Now | Initialised::Before | Initialised::UnsealsItself) => {}
            Err(InitError::Vault(error)) if matches!(error, VaultError::Refused { .. }) => {
                tracing::warn!("Vault was initialised by another one just now, who has its keys: {error}");
            }
            Err(InitError::KeysElsewhere { .. }) => self.note_oddity(Oddity::KeysElsewhere)?,
            Err(error) => return Err(error.into()),
        }
        self.nodes[index].due = BootTime::now();
        Ok(self.refresh_local()?)
    }

    fn tried(
        &mut self,
        index: usize,
        fingerprint: u64,
        result: Result<Unsealed, UnsealError>,
    ) -> Result<(), UnsealerError> {
        let node = &mut self.nodes[index];
        node.is_busy = false;
        match result {
            Ok(unsealed) => {
                node.due = BootTime::now();
                if let Unsealed::By(place) = unsealed {
                    node.status.last_unseal = Some(rfc3339_now());
                    node.status.state = NodeState::Unsealed;
                    tracing::info!("{} is unsealed", node.status.address);
                    let all = self.nodes.iter().all(|node| node.status.is_unsealed());
                    rekey::note_unsealed(&self.store, place, all)?;
                }
                Ok(self.refresh_local()?)
            }
            // Trying again would refuse again, and disturb a person at it by hand.
            Err(error @ (UnsealError::AllRefused { .. } | UnsealError::TooFew { .. })) => {
                tracing::error!("{}: {error}", node.status.address);
                node.refused = Some(fingerprint);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A seal that came without a restart is an operator's order to everything: it is kept, across restarts too.
    fn hold_if_sealed_by_hand(&self, index: usize, found: &NodeStatus) -> Result<(), KeyStoreError> {
        if self.reseal_policy == ResealPolicy::Hold && found.was_sealed_by_hand(&self.nodes[index].status) {
            tracing::warn!(
                "{} was sealed while it ran, which only an operator does: it stays sealed, until unsealer hold off",
                found.address
            );
            self.store.hold(true)?;
        }
        Ok(())
    }

    fn note_hold(&mut self) -> Result<(), KeyStoreError> {
        let held = self.store.is_held()?;
        match (self.held, held) {
            (false, true) => tracing::warn!("held: nothing is unsealed until unsealer hold off"),
            (true, false) => tracing::info!("the hold is over"),
            _ => return Ok(()),
        }
        self.held = held;
        self.refresh_local()
    }

    /// Keys and server do not fit together: final once that has lasted.
    fn note_oddity(&mut self, oddity: Oddity) -> Result<(), UnsealerError> {
        let now = BootTime::now();
        let since = *self.odd_since.get_or_insert(now);
        if now.saturating_since(since) < GRACE || self.store.try_lock()?.is_none() {
            return Ok(());
        }
        Err(match oddity {
            Oddity::KeysElsewhere => InitError::keys_elsewhere(&self.store),
            Oddity::AnswerLost => InitError::answer_lost(&self.store),
            Oddity::Occupied => InitError::occupied(&self.store)?,
        }
        .into())
    }

    fn warn_of_missing_keys(&self, index: usize) {
        let has_none = self.local.as_ref().is_some_and(|local| local.shares.found == 0);
        let status = &self.nodes[index].status;
        if has_none && status.is_unsealed() && status.is_unsealed_by_shares() {
            let keys = self.store.path().display();
            tracing::warn!(
                "Vault is unsealed and its keys are not in {keys}: once it is sealed, it stays so"
            );
        }
    }

    fn refresh_local(&mut self) -> Result<(), KeyStoreError> {
        self.local = Some(Local::of(&self.store)?);
        Ok(())
    }

    /// A disk that fails while nodes are looked after ends nothing.
    fn tolerate(
        &mut self,
        effect: impl FnOnce(&mut Self) -> Result<(), KeyStoreError>,
    ) -> Result<(), UnsealerError> {
        match effect(self) {
            Err(error) if self.succeeded => {
                tracing::warn!("{}", with_causes(&error));
                Ok(())
            }
            result => Ok(result?),
        }
    }

    fn report(&self, status: &mut StatusFile) {
        let unsealed = self.nodes.iter().all(|node| node.status.is_unsealed());
        let is_settling = self.mending.is_settling(self.any_unsealed(), self.local.as_ref());
        let state = if self.nodes.iter().any(|node| node.status.state == NodeState::Unknown) {
            "starting"
        } else if unsealed && is_settling {
            "every node is unsealed, and the break-glass credential is being seen to"
        } else if unsealed {
            "every node is unsealed"
        } else if self.held {
            "held: nothing is unsealed until unsealer hold off"
        } else if self.nodes.iter().any(|node| node.refused.is_some()) {
            "a node refuses the key shares that are here"
        } else {
            "not every node is unsealed"
        };
        let nodes = self.nodes.iter().map(|node| &node.status).collect();
        status.report(
            unsealed && !is_settling,
            state,
            FRESH_FOR,
            Details { nodes, local: self.local.as_ref() },
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "people are told the time by the clock on their wall")]
fn rfc3339_now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(dir: &tempfile::TempDir) -> Watch {
        let settings = vault_client::Settings {
            addresses: vec!["http://127.0.0.1:1".parse().unwrap()],
            ca_certificates: None,
            client_identity: None,
            tls_server_name: None,
            namespace: None,
            timeout: Duration::from_secs(1),
        };
        let store = Arc::new(KeyStore::in_dir(dir.path()));
        let client = VaultClient::new(&settings).unwrap();
        Watch::new(client.clone(), client, store, ResealPolicy::Hold)
    }

    #[test]
    fn only_a_seal_without_a_restart_is_an_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = watch(&dir);
        let found = |state| NodeStatus { state, ..NodeStatus::unknown("http://vault".to_owned()) };
        // No connection that is known: the server may have restarted.
        for before in [NodeState::Unsealed, NodeState::Sealed] {
            watch.nodes[0].note(found(before));
            watch.hold_if_sealed_by_hand(0, &found(NodeState::Sealed)).unwrap();
        }
        assert!(!watch.store.is_held().unwrap());
    }

    #[test]
    fn keys_that_do_not_fit_are_final_only_after_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = watch(&dir);
        watch.note_oddity(Oddity::KeysElsewhere).unwrap();
        watch.odd_since = Some(BootTime::now() - GRACE);
        let lock = watch.store.try_lock().unwrap();
        watch.note_oddity(Oddity::KeysElsewhere).unwrap();
        drop(lock);
        assert!(watch.note_oddity(Oddity::KeysElsewhere).is_err());
    }
}
