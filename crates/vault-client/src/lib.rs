//! The Vault API as Vaultcrew uses it: addresses, leader and failover, TLS, deadlines, retry, errors.
//!
//! The request and response types are vaultrs'; they travel by our own [transport](VaultClient::call),
//! which follows no redirect (one would carry the token to another host), bounds every body and every wait,
//! and turns each failure into a [`VaultError`] that says what was asked of whom, in the server's own words,
//! without a secret in it. No other crate of the workspace knows vaultrs.
//!
//! One module for each part of the API: [`sys`], [`generate_root`], [`rekey`], [`policy`], [`mounts`], [`approle`], [`kv2`],
//! [`token`], [`capabilities`].

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
