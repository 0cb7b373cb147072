//! `unsealer run`: initialise, unseal, and keep unsealed.
//!
//! Every node has a clock of its own: one that hangs or is away holds up none of the others. What is to be done
//! about a node is decided by [`decide`], from what is known of all.

use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agent_runtime::{Exit, Failure as _, Shutdown, StatusFile, with_causes};
use backoff::{Jitter, Policy};
use boot_clock::BootTime;
use serde::Serialize;
use tokio::task::JoinSet;
use vault_client::sys::SealStatus;
use vault_client::{VaultClient, VaultError, sys};

use crate::args::ResealPolicy;
use crate::init::{self, INIT_NODE, InitError, Initialised};
use crate::key_store::{KeyStore, KeyStoreError, Stored};
use crate::status::{Local, NodeState, NodeStatus};
use crate::unseal::{self, KeySets, UnsealError, Unsealed};
use crate::{UnsealerError, break_glass, rekey};

/// Between two looks at a node. A restart is noticed within this, and unsealed at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two looks while a node is away: soon at first, since most restarts are short.
const AWAY_DELAYS: Policy = match Policy::new(Duration::from_millis(250), Duration::from_millis(1500)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

/// Between two attempts at what wants a root token: a break-glass credential, the end of a rekey.
const MEND_AGAIN_AFTER: Duration = Duration::from_mins(5);

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
    mend_due: BootTime,
    is_mending: bool,
    fingerprint_key: RandomState,
}

struct Node {
    status: NodeStatus,
    due: BootTime,
    /// A request of ours to it is under way.
    is_busy: bool,
    /// Times in a row that something was amiss.
    failures: u32,
    /// The fingerprint of shares that it refused: they are not tried again.
    refused: Option<u64>,
}

enum Event {
    Looked(usize, Result<SealStatus, VaultError>),
    Tried(usize, u64, Result<Unsealed, UnsealError>),
    Mended(Result<(), UnsealerError>),
}

/// What is to be done about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// To look again.
    Wait,
    /// To unseal it by the shares that are here.
    Unseal,
    /// To initialise it.
    Initialise,
    /// Keys and server do not fit together.
    Odd(Oddity),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oddity {
    KeysElsewhere,
    AnswerLost,
    Occupied,
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

/// What is to be done about the node with this index, given how all of them are.
fn decide(index: usize, nodes: &[NodeState], by_shares: bool, stored: Stored, held: bool) -> Action {
    let others = || nodes.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, state)| *state);
    match nodes[index] {
        NodeState::Unknown | NodeState::Unreachable | NodeState::Unsealed => Action::Wait,
        NodeState::Sealed if held || !by_shares => Action::Wait,
        NodeState::Sealed => match stored {
            Stored::Keys => Action::Unseal,
            // Its owner is at it.
            Stored::Received => Action::Wait,
            Stored::Requested => Action::Odd(Oddity::AnswerLost),
            Stored::Nothing => Action::Odd(Oddity::KeysElsewhere),
        },
        // A raft node that has yet to join says that it is not initialised, and is left until it has.
        NodeState::NotInitialised if index != INIT_NODE => Action::Wait,
        NodeState::NotInitialised => {
            let any_initialised =
                others().any(|state| matches!(state, NodeState::Sealed | NodeState::Unsealed));
            match stored {
                _ if others().any(|state| state == NodeState::Unknown) => Action::Wait,
                Stored::Keys | Stored::Received if any_initialised => Action::Wait,
                Stored::Keys | Stored::Received => Action::Odd(Oddity::Occupied),
                Stored::Nothing | Stored::Requested if any_initialised => Action::Odd(Oddity::KeysElsewhere),
                Stored::Nothing | Stored::Requested => Action::Initialise,
            }
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
        let node = |address: String| Node {
            status: NodeStatus::unknown(address),
            due: BootTime::default(),
            is_busy: false,
            failures: 0,
            refused: None,
        };
        let nodes = client.nodes().map(|address| node(address.to_string())).collect();
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
            mend_due: BootTime::default(),
            is_mending: false,
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
        if self.wants_mending() && self.mend_due <= now {
            self.is_mending = true;
            let (client, store) = (self.client.clone(), Arc::clone(&self.store));
            tasks.spawn(async move { Event::Mended(mend(&client, &store).await) });
        }
    }

    fn next_due(&self) -> BootTime {
        let nodes = self.nodes.iter().filter(|node| !node.is_busy).map(|node| node.due);
        let mending = self.wants_mending().then_some(self.mend_due);
        nodes.chain(mending).min().unwrap_or(BootTime::at(Duration::MAX))
    }

    fn wants_mending(&self) -> bool {
        // Once at each start while there is root: what was proven may not have been noted.
        let is_first = self.mend_due == BootTime::default();
        let lacks =
            |local: &Local| !local.break_glass || local.rekey_unfinished || (is_first && local.root_token);
        !self.is_mending
            && self.nodes.iter().any(|node| node.status.is_unsealed() && node.status.is_unsealed_by_shares())
            && self.local.as_ref().is_some_and(|local| local.shares.found > 0 && lacks(local))
    }

    /// What wants a root token has not been tried yet: whoever waits for readiness may revoke that token next.
    fn is_settling(&self) -> bool {
        let is_first = self.mend_due == BootTime::default();
        is_first && (self.local.is_none() || self.is_mending || self.wants_mending())
    }

    async fn take_in(
        &mut self,
        event: Event,
        tasks: &mut JoinSet<Event>,
        shutdown: &Shutdown,
    ) -> Result<(), UnsealerError> {
        let (index, done) = match event {
            Event::Mended(result) => {
                self.note_mended(result);
                return self.tolerate(Self::refresh_local);
            }
            Event::Looked(index, Err(error)) => {
                self.nodes[index].is_busy = false;
                let address = self.nodes[index].status.address.clone();
                self.note(index, NodeStatus::unreachable(address, error.to_string()));
                self.back_off(index);
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
            Err(error) if self.may_pass(&error) => {
                self.nodes[index].is_busy = false;
                self.complain(index, &error);
                self.back_off(index);
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
        node.due = BootTime::now() + LOOK_EVERY;
        let found = NodeStatus::of(node.status.address.clone(), status);
        self.hold_if_sealed_by_hand(index, &found)?;
        let was_unsealed = found.is_unsealed();
        self.note(index, found);
        self.note_hold()?;
        if was_unsealed {
            self.nodes[index].failures = 0;
        }
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

    /// Takes in how a node is: a line where its state changed, and none in between.
    fn note(&mut self, index: usize, found: NodeStatus) {
        let node = &mut self.nodes[index];
        if node.status.state != found.state {
            if let Some(error) = &found.error {
                tracing::warn!("{} is {}: {error}", found.address, found.state);
            } else {
                tracing::info!("{} is {}", found.address, found.state);
            }
        }
        // Another server, or one unsealed by hand, may stand there now.
        if found.state != NodeState::Sealed {
            node.refused = None;
        }
        let last_unseal = node.status.last_unseal.take();
        node.status = NodeStatus { last_unseal, ..found };
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

    fn note_mended(&mut self, result: Result<(), UnsealerError>) {
        self.is_mending = false;
        // Without a root token there is nothing to do it with; one may be put there later.
        self.mend_due = BootTime::now() + MEND_AGAIN_AFTER;
        if let Err(error) = result {
            let what = if self.local.as_ref().is_some_and(|local| local.rekey_unfinished) {
                "a rekey was cut off, and cannot be finished now; unsealer rekey tries it again"
            } else {
                "there is no break-glass credential that was proven, and none could be with the root token that is here"
            };
            tracing::warn!("{what}: {}", with_causes(&error));
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

    /// Says what is amiss with a node, once while it lasts.
    fn complain(&self, index: usize, error: &UnsealerError) {
        let (address, text) = (&self.nodes[index].status.address, with_causes(error));
        if self.nodes[index].failures == 0 {
            tracing::warn!("{address}: {text}");
        } else {
            tracing::debug!("{address}: {text}");
        }
    }

    fn back_off(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.due = BootTime::now() + AWAY_DELAYS.delay(node.failures, Jitter::draw());
        node.failures = node.failures.saturating_add(1);
    }

    fn report(&self, status: &mut StatusFile) {
        let unsealed = self.nodes.iter().all(|node| node.status.is_unsealed());
        let state = if self.nodes.iter().any(|node| node.status.state == NodeState::Unknown) {
            "starting"
        } else if unsealed && self.is_settling() {
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
            unsealed && !self.is_settling(),
            state,
            FRESH_FOR,
            Details { nodes, local: self.local.as_ref() },
        );
    }
}

/// What wants a root token: the end of a rekey that was cut off, and the break-glass credential.
async fn mend(client: &VaultClient, store: &KeyStore) -> Result<(), UnsealerError> {
    rekey::resume(client, store).await?;
    break_glass::ensure(client, store).await.map(drop)
}

fn rfc3339_now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::NodeState::{NotInitialised, Sealed, Unknown, Unreachable, Unsealed as Open};
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

    fn node(state: NodeState) -> NodeStatus {
        NodeStatus { state, ..NodeStatus::unknown("http://vault".to_owned()) }
    }

    #[test]
    fn one_named_node_is_initialised_and_only_where_no_other_is() {
        let at = |nodes: &[NodeState], stored| decide(0, nodes, true, stored, false);
        assert_eq!(at(&[NotInitialised], Stored::Nothing), Action::Initialise);
        assert_eq!(at(&[NotInitialised, Unreachable], Stored::Requested), Action::Initialise);
        assert_eq!(at(&[NotInitialised, Unknown], Stored::Nothing), Action::Wait);
        assert_eq!(at(&[NotInitialised, Open], Stored::Nothing), Action::Odd(Oddity::KeysElsewhere));
        assert_eq!(at(&[NotInitialised, Open], Stored::Keys), Action::Wait);
        assert_eq!(at(&[NotInitialised], Stored::Keys), Action::Odd(Oddity::Occupied));
        assert_eq!(decide(1, &[Open, NotInitialised], true, Stored::Nothing, false), Action::Wait);
    }

    #[test]
    fn a_sealed_node_is_unsealed_unless_it_is_held_or_does_so_itself() {
        let at = |by_shares, stored, held| decide(0, &[Sealed], by_shares, stored, held);
        assert_eq!(at(true, Stored::Keys, false), Action::Unseal);
        assert_eq!(at(true, Stored::Keys, true), Action::Wait);
        assert_eq!(at(false, Stored::Nothing, false), Action::Wait);
        assert_eq!(at(true, Stored::Nothing, false), Action::Odd(Oddity::KeysElsewhere));
        assert_eq!(at(true, Stored::Requested, false), Action::Odd(Oddity::AnswerLost));
        assert_eq!(decide(0, &[Open], true, Stored::Nothing, false), Action::Wait);
    }

    #[test]
    fn a_refusal_is_forgotten_when_the_node_was_away_or_unsealed() {
        let dir = tempfile::tempdir().unwrap();
        for between in [Unreachable, Open] {
            let mut watch = watch(&dir);
            watch.nodes[0].refused = Some(7);
            watch.note(0, node(Sealed));
            assert_eq!(watch.nodes[0].refused, Some(7));
            watch.note(0, node(between));
            assert_eq!(watch.nodes[0].refused, None);
        }
    }

    #[test]
    fn only_a_seal_without_a_restart_is_an_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = watch(&dir);
        // No connection that is known: the server may have restarted.
        for before in [Open, Sealed] {
            watch.note(0, node(before));
            watch.hold_if_sealed_by_hand(0, &node(Sealed)).unwrap();
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

    #[test]
    fn what_may_pass_is_told_from_what_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = watch(&dir);
        let store_error = || {
            let missing = secret_file::read_text(std::path::Path::new("/nonexistent"), 1).unwrap_err();
            UnsealerError::KeyStore(missing.into())
        };
        assert!(!watch.may_pass(&store_error()));
        watch.succeeded = true;
        assert!(watch.may_pass(&store_error()));
        assert!(watch.may_pass(&UnsealError::Unsettled.into()));
        assert!(!watch.may_pass(&InitError::KeysElsewhere { keys_dir: String::new() }.into()));
    }
}
