//! `sys/audit`: the devices that record every request.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::endpoint::Plain;
use crate::{Reply, Retry, Target, VaultClient, VaultError};

/// An audit device. A server that cannot write to any of its devices answers no request at all.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Device {
    /// `file`, `socket`, `syslog`, …
    #[serde(rename = "type")]
    pub device_type: String,
    /// Such as `file_path`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl Device {
    /// Whether what it records is to be found somewhere. A file may be one that keeps nothing: `discard`, as the
    /// servers name it, and `/dev/null`.
    #[must_use]
    pub fn keeps(&self) -> bool {
        let path = self.options.get("file_path").or_else(|| self.options.get("path"));
        self.device_type != "file" || !path.is_some_and(|path| path == "discard" || path == "/dev/null")
    }
}

/// The devices by their path, which ends in `/`; `None` where this token may not see them.
pub async fn devices(
    client: &VaultClient,
    by: Instant,
) -> Result<Option<BTreeMap<String, Device>>, VaultError> {
    match client.call(Target::Leader, Plain::get("sys/audit"), Retry::Idempotent, by).await {
        Ok(reply) => reply.data().map(Some),
        Err(VaultError::Denied { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Enables a device `name` that appends to a file on the server's side. OpenBao refuses: there devices stand in the
/// server's configuration alone.
pub async fn enable_file(
    client: &VaultClient,
    name: &str,
    file_path: &str,
    description: &str,
    by: Instant,
) -> Result<(), VaultError> {
    let options = json!({ "file_path": file_path });
    let body = json!({ "type": "file", "description": description, "options": options });
    client
        .call(Target::Leader, Plain::post(format!("sys/audit/{name}"), body), Retry::Never, by)
        .await
        .and_then(Reply::done)
}
