//! `unsealer status`: how every node is.

use agent_runtime::{Exit, Failure as _};
use serde::Serialize;
use vault_client::sys::SealStatus;
use vault_client::{Connection, VaultClient, sys};

use crate::UnsealerError;

/// How one node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NodeStatus {
    pub(crate) address: String,
    /// `unsealed`, `sealed`, `not initialised` or `unreachable`.
    pub(crate) state: &'static str,
    /// How many shares of an attempt the node holds, and how many unseal it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<[usize; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(skip)]
    pub(crate) connection: Option<Connection>,
}

impl NodeStatus {
    pub(crate) fn of(address: String, status: &SealStatus) -> Self {
        let state = match (status.initialized, status.sealed) {
            (false, _) => "not initialised",
            (true, true) => "sealed",
            (true, false) => "unsealed",
        };
        let progress = (status.initialized && status.sealed).then_some([status.progress, status.threshold]);
        Self {
            address,
            state,
            progress,
            version: Some(status.version.clone()),
            error: None,
            connection: status.connection,
        }
    }

    pub(crate) fn unreachable(address: String, error: String) -> Self {
        Self {
            address,
            state: "unreachable",
            progress: None,
            version: None,
            error: Some(error),
            connection: None,
        }
    }

    /// Whether this node, unsealed `before`, was sealed while it ran: by the same connection, so that its
    /// server did not restart in between. Servers do not do that by themselves.
    pub(crate) fn was_sealed_by_hand(&self, before: &Self) -> bool {
        before.is_unsealed()
            && self.state == "sealed"
            && self.connection.is_some()
            && self.connection == before.connection
    }

    pub(crate) fn is_unsealed(&self) -> bool {
        self.state == "unsealed"
    }
}

/// Shows every node; the exit code says whether all are unsealed.
pub(crate) async fn command(client: &VaultClient, json: bool) -> Result<Exit, UnsealerError> {
    let mut nodes = Vec::new();
    let mut exit = Exit::Done;
    for (index, address) in client.nodes().enumerate() {
        nodes.push(match sys::seal_status(client, index, client.soon()).await {
            Ok(status) => NodeStatus::of(address.to_string(), &status),
            Err(error) => {
                exit = error.exit();
                NodeStatus::unreachable(address.to_string(), error.to_string())
            }
        });
    }
    if exit == Exit::Done && !nodes.iter().all(NodeStatus::is_unsealed) {
        exit = Exit::Failed;
    }
    agent_runtime::print(&if json { as_json(&nodes) } else { as_text(&nodes) })?;
    Ok(exit)
}

fn as_json(nodes: &[NodeStatus]) -> String {
    // Strings and numbers alone: nothing that JSON cannot say.
    serde_json::to_string_pretty(&serde_json::json!({ "nodes": nodes })).unwrap_or_default() + "\n"
}

fn as_text(nodes: &[NodeStatus]) -> String {
    let line = |node: &NodeStatus| {
        let progress = node.progress.map_or(String::new(), |[held, of]| format!(", {held} of {of} shares"));
        let error = node.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
        format!("{}  {}{progress}{error}\n", node.address, node.state)
    };
    nodes.iter().map(line).collect()
}
