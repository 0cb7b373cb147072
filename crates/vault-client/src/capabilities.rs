//! What the client's own token may do, to which paths (`sys/capabilities-self`) and by which rules.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::endpoint::Plain;
use crate::{Retry, Target, VaultClient, VaultError, offered};

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

/// The rules that the server has made of all policies of the token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct OwnRules {
    /// Whether it is a root token, which no rule bounds.
    pub root: bool,
    /// By whole paths, and in the server's words.
    #[serde(rename = "exact_paths")]
    pub exact: BTreeMap<String, Granted>,
    /// By what paths begin with.
    #[serde(rename = "glob_paths")]
    pub prefixes: BTreeMap<String, Granted>,
}

/// What one rule grants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Granted {
    /// `["deny"]` for one that denies.
    pub capabilities: Vec<String>,
}

/// Asks for the rules by which the server judges the client's own token (`sys/internal/ui/resultant-acl`, granted by
/// the `default` policy). Those with a `+` are not told.
///
/// `None` where they are not this token's to see, or are told in a form that is not known: the server calls the path
/// internal.
pub async fn rules_of_self(client: &VaultClient, by: Instant) -> Result<Option<OwnRules>, VaultError> {
    let request = Plain::get("sys/internal/ui/resultant-acl");
    let reply = offered(client.call(Target::Leader, request, Retry::Idempotent, by).await)?;
    Ok(reply.and_then(|reply| reply.data().ok()))
}
