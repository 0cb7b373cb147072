//! The Vault API as Vaultcrew uses it: addresses, leader and failover, TLS, deadlines, retry, errors.
//!
//! The request and response types are vaultrs'; they travel by our own [transport](VaultClient::call),
//! which follows no redirect (one would carry the token to another host), bounds every body and every wait,
//! and turns each failure into a [`VaultError`] that says what was asked of whom, in the server's own words,
//! without a secret in it. No other crate of the workspace knows vaultrs.
//!
//! One module for each part of the API: [`sys`], [`audit`], [`generate_root`], [`rekey`], [`policy`], [`mounts`],
//! [`approle`], [`kv2`], [`token`], [`capabilities`].

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

mod address;
mod call;
mod clock;
mod endpoint;
mod error;
mod reply;
mod settings;
mod tls;
mod transport;

pub mod approle;
pub mod audit;
pub mod capabilities;
pub mod generate_root;
pub mod kv2;
pub mod mounts;
pub mod policy;
pub mod rekey;
pub mod sys;
pub mod token;

pub use address::{Address, AddressError};
pub use call::{Retry, Target, VaultClient};
pub use error::{RequestLine, VaultError};
pub use reply::Reply;
pub use settings::{ClientIdentity, Settings, SettingsError};
pub use transport::Connection;

/// Tells "nothing there" apart from failure.
fn found(result: Result<Reply, VaultError>) -> Result<Option<Reply>, VaultError> {
    match result {
        Ok(reply) => Ok(Some(reply)),
        Err(VaultError::NotFound { messages, .. }) if messages.is_empty() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The answer of a path that not every server has, and not every token may ask: `None` where that is so, or the
/// answer is beyond all bounds.
fn offered(result: Result<Reply, VaultError>) -> Result<Option<Reply>, VaultError> {
    match result {
        Ok(reply) => Ok(Some(reply)),
        Err(error) if error.is_transient() => Err(error),
        Err(_) => Ok(None),
    }
}

/// What a list says about each of its keys; `None` where it is no such list.
fn listing<T: DeserializeOwned>(reply: &Reply) -> Result<Option<BTreeMap<String, T>>, VaultError> {
    #[derive(Deserialize)]
    struct Listing<T> {
        key_info: Option<BTreeMap<String, T>>,
    }
    // Some paths that a server does not know are answered with warnings and without data.
    Ok(reply.data::<Option<Listing<T>>>()?.and_then(|listing| listing.key_info))
}

/// The keys of a list; none where nothing is there.
fn keys(result: Result<Reply, VaultError>) -> Result<Vec<String>, VaultError> {
    #[derive(Deserialize)]
    struct Keys {
        keys: Vec<String>,
    }
    found(result)?.map_or(Ok(Vec::new()), |reply| reply.data::<Keys>().map(|data| data.keys))
}
