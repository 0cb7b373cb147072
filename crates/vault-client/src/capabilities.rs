//! `sys/capabilities-self`: what the client's own token may do to which paths.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::time::Instant;

use crate::endpoint::Plain;
use crate::{Retry, Target, VaultClient, VaultError};

/// How many paths one request asks for: `OpenBao` refuses a body of more than a thousand strings.
const AT_ONCE: usize = 500;

/// What the client's token may do to each of `paths`, in the server's words, each path in one of as many
/// requests as it takes. `["deny"]` stands for nothing, and `["root"]` for everything.
///
/// An answer that lacks a path that was asked for is an error. The server trims paths and knows no empty one.
pub async fn of_self(
    client: &VaultClient,
    paths: &[String],
    by: Instant,
) -> Result<BTreeMap<String, Vec<String>>, VaultError> {
    let mut all = BTreeMap::new();
    for paths in paths.chunks(AT_ONCE) {
        let request = Plain::post("sys/capabilities-self", json!({ "paths": paths }));
        // It is a question, though it is posted.
        let reply = client.call(Target::Leader, request, Retry::Idempotent, by).await?;
        let mut answers: BTreeMap<String, Vec<String>> = reply.data()?;
        for path in paths {
            let answer = answers
                .remove(path)
                .ok_or_else(|| reply.unexpected(format!("the answer says nothing about {path}")))?;
            all.insert(path.clone(), answer);
        }
    }
    Ok(all)
}
