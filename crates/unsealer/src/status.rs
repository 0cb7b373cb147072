//! `unsealer status`: how every node is, and what is here to unseal it.

use std::fmt::Write as _;

use agent_runtime::{Exit, Failure as _, StatusArgs};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use vault_client::sys::SealStatus;
use vault_client::{Connection, VaultClient, sys};

use crate::UnsealerError;
use crate::args::Store;
use crate::key_store::{KeyStore, KeyStoreError, Place, Rekey};
use crate::output::answer;

/// How one node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NodeStatus {
    pub(crate) address: String,
    pub(crate) state: NodeState,
    /// `shamir` where shares unseal it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seal_type: Option<String>,
    /// How many shares of an attempt the node holds, and how many unseal it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<[usize; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// When `unsealer run` last unsealed it, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_unseal: Option<String>,
    #[serde(skip)]
    pub(crate) connection: Option<Connection>,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) enum NodeState {
    /// It was not asked yet.
    #[default]
    #[serde(rename = "unknown")]
    Unknown,
    #[serde(rename = "unsealed")]
    Unsealed,
    #[serde(rename = "sealed")]
    Sealed,
    /// Fresh, or a raft node that has yet to join.
    #[serde(rename = "not initialised")]
    NotInitialised,
    #[serde(rename = "unreachable")]
    Unreachable,
}

/// What is on this side.
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the answer's JSON")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Local {
    pub(crate) shares: SharesStatus,
    /// How many keys of a server that unseals itself: they make root tokens, and unseal nothing.
    pub(crate) recovery_keys: usize,
    /// Nothing is unsealed until `unsealer hold off`.
    pub(crate) held: bool,
    /// There is a break-glass credential.
    pub(crate) break_glass: bool,
    /// There is a root token.
    pub(crate) root_token: bool,
    pub(crate) rekey_unfinished: bool,
}

/// How many share files there are, and how many of them can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SharesStatus {
    pub(crate) found: usize,
    pub(crate) readable: usize,
}

impl std::fmt::Display for NodeState {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Unknown => "unknown",
            Self::Unsealed => "unsealed",
            Self::Sealed => "sealed",
            Self::NotInitialised => "not initialised",
            Self::Unreachable => "unreachable",
        })
    }
}

impl NodeStatus {
    pub(crate) fn unknown(address: String) -> Self {
        Self {
            address,
            state: NodeState::Unknown,
            seal_type: None,
            progress: None,
            version: None,
            error: None,
            last_unseal: None,
            connection: None,
        }
    }

    pub(crate) fn of(address: String, status: &SealStatus) -> Self {
        let state = match (status.initialized, status.sealed) {
            (false, _) => NodeState::NotInitialised,
            (true, true) => NodeState::Sealed,
            (true, false) => NodeState::Unsealed,
        };
        Self {
            state,
            seal_type: Some(status.seal_type.clone()),
            progress: (state == NodeState::Sealed).then_some([status.progress, status.threshold]),
            version: Some(status.version.clone()),
            connection: status.connection,
            ..Self::unknown(address)
        }
    }

    pub(crate) fn unreachable(address: String, error: String) -> Self {
        Self { state: NodeState::Unreachable, error: Some(error), ..Self::unknown(address) }
    }

    /// Whether this node, unsealed `before`, was sealed while it ran: by the same connection, so that its
    /// server did not restart in between. Servers do not do that by themselves.
    pub(crate) fn was_sealed_by_hand(&self, before: &Self) -> bool {
        before.is_unsealed()
            && self.state == NodeState::Sealed
            && self.connection.is_some()
            && self.connection == before.connection
    }

    pub(crate) fn is_unsealed(&self) -> bool {
        self.state == NodeState::Unsealed
    }

    /// Whether shares unseal it, as far as that is known.
    pub(crate) fn is_unsealed_by_shares(&self) -> bool {
        self.seal_type.as_deref().is_none_or(|seal_type| seal_type == "shamir")
    }
}

impl Local {
    /// Whether any keys of this Vault are here, recovery keys included.
    pub(crate) fn has_keys(&self) -> bool {
        self.shares.found > 0 || self.recovery_keys > 0
    }

    /// The same of a store that is there; a look makes no directories, and says why it sees nothing.
    pub(crate) fn of_existing(store: &Store) -> Option<Self> {
        if !store.exists() {
            return None;
        }
        match store.open().and_then(|store| Self::of(&store)) {
            Ok(local) => Some(local),
            Err(error) => {
                tracing::warn!("{}", agent_runtime::with_causes(&error));
                None
            }
        }
    }

    pub(crate) fn of(store: &KeyStore) -> Result<Self, KeyStoreError> {
        let shares = store.shares(Place::Current)?;
        let readable = shares.found.len();
        Ok(Self {
            shares: SharesStatus { found: readable + shares.unreadable.len(), readable },
            recovery_keys: store.recovery_keys()?.found.len(),
            held: store.is_held()?,
            break_glass: store.has_break_glass_credential()?,
            root_token: store.root_token()?.is_some(),
            rekey_unfinished: store.rekey()? != Rekey::None,
        })
    }
}

/// Shows every node and this side; the exit code says whether all nodes are unsealed.
///
/// `local` may be an error: the nodes are shown all the same.
pub(crate) async fn show(
    client: &VaultClient,
    local: Option<Local>,
    daemon: Option<&StatusArgs>,
    json: bool,
) -> Result<Exit, UnsealerError> {
    let (mut nodes, exit) = ask_all(client).await;
    if let Some(report) = daemon.and_then(|file| file.last_report::<DaemonReport>("unsealer")) {
        for node in &mut nodes {
            node.last_unseal = report.last_unseal_of(&node.address);
        }
    }
    let text = as_text(&nodes, local.as_ref());
    answer(json, &Status { nodes: &nodes, local: local.as_ref() }, &text, exit)
}

#[derive(Serialize)]
struct Status<'a> {
    nodes: &'a [NodeStatus],
    #[serde(flatten)]
    local: Option<&'a Local>,
}

/// What the daemon's status file says that cannot be asked of the nodes.
#[derive(Deserialize)]
struct DaemonReport {
    #[serde(default)]
    nodes: Vec<DaemonNode>,
}

#[derive(Deserialize)]
struct DaemonNode {
    address: String,
    last_unseal: Option<String>,
}

impl DaemonReport {
    fn last_unseal_of(&self, address: &str) -> Option<String> {
        self.nodes.iter().find(|node| node.address == address)?.last_unseal.clone()
    }
}

/// Asks every node at once, so that one that is away does not hold up the others.
async fn ask_all(client: &VaultClient) -> (Vec<NodeStatus>, Exit) {
    let mut asked = JoinSet::new();
    for (index, address) in client.nodes().enumerate() {
        let (client, address) = (client.clone(), address.to_string());
        asked.spawn(async move {
            let answer = sys::seal_status(&client, index, client.soon()).await;
            (index, address, answer)
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(index, ..)| *index);
    let mut exit = Exit::Done;
    let nodes: Vec<_> = answers
        .into_iter()
        .map(|(_, address, answer)| match answer {
            Ok(status) => NodeStatus::of(address, &status),
            Err(error) => {
                exit = error.exit();
                NodeStatus::unreachable(address, error.to_string())
            }
        })
        .collect();
    if exit == Exit::Done && !nodes.iter().all(NodeStatus::is_unsealed) {
        exit = Exit::Failed;
    }
    (nodes, exit)
}

fn as_text(nodes: &[NodeStatus], local: Option<&Local>) -> String {
    let line = |node: &NodeStatus| {
        let progress = node.progress.map_or(String::new(), |[held, of]| format!(", {held} of {of} shares"));
        let since = node.last_unseal.as_ref().map_or(String::new(), |when| format!(", last unsealed {when}"));
        let error = node.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
        format!("{}  {}{progress}{since}{error}\n", node.address, node.state)
    };
    let mut text: String = nodes.iter().map(line).collect();
    if let Some(local) = local {
        let SharesStatus { found, readable } = local.shares;
        let _ = writeln!(text, "{found} key shares here, {readable} of them readable");
        if local.recovery_keys > 0 {
            let _ = writeln!(text, "{} recovery keys here: they make root tokens", local.recovery_keys);
        }
        if local.has_keys() && !local.break_glass {
            text += "no break-glass credential: unsealer run makes it while there is a root token\n";
        }
        if local.held {
            text += "held: nothing is unsealed until unsealer hold off\n";
        }
        if local.rekey_unfinished {
            text += "a rekey was cut off: unsealer rekey finishes it\n";
        }
    }
    text
}
