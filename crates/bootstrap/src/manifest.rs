//! Which service's secret holds which key of the `.env` file, and how each service's AppRole is bounded.
//!
//! By convention each `<service>-policy.hcl` declares a service, and its secret holds the keys that begin with
//! `<SERVICE>_` (in capitals, `-` as `_`). `vaultcrew.toml` says the exceptions; docs/manifest.md shows it whole.
//!
//! One rule decides about each key: a pattern that is its whole name, else the one with the longest beginning,
//! the manifest's before the convention's at equal length.

mod error;
mod file;
mod pattern;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;

pub(crate) use error::suggest;
pub use error::{Fault, ManifestError, ManifestErrors, Place};
pub use file::{Manifest, WrittenTtl};
pub(crate) use resolve::is_service_name;
pub use resolve::{resolve, resolve_past_faults};

/// What the manifest and the convention make of a `.env` file.
#[derive(Debug, Default)]
pub struct Resolved {
    /// In the order in which their names were given.
    pub services: Vec<Service>,
    /// Keys that no service gets and nobody said to ignore, with their lines, in the order of the file.
    pub unclaimed: Vec<(String, usize)>,
    /// Keys that the manifest says to ignore, in the order of the file.
    pub ignored: Vec<String>,
}

/// One service: what its secret holds and how its AppRole is bounded.
#[derive(Clone, Debug)]
pub struct Service {
    /// A lower-case letter or digit, then lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// Key in the secret → where its value comes from.
    pub secret: BTreeMap<String, Source>,
    /// How long its tokens and secret IDs live.
    pub ttls: Ttls,
    /// Networks from which its secret IDs and tokens may be used; everywhere where empty.
    pub cidrs: Vec<String>,
    /// Mode and owner of its delivered `role_id` and `secret_id`.
    pub files: FileAttrs,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The `.env` file has it.
    Env(SecretString),
    /// It is made up once, and stored in Vault alone.
    Generate(GenerateSpec),
}

/// How a value is made up. The same `.env` key given to several services is one value, made up once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerateSpec {
    /// The key as the `.env` file would have it.
    pub env_key: String,
    /// In characters.
    pub length: usize,
    /// At least two distinct ASCII characters; each is as likely as any other.
    pub alphabet: String,
}

/// How long a service's credentials live, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttls {
    /// A token, without renewal; at most `token_max_ttl`.
    pub token_ttl: Duration,
    /// A token, however often renewed.
    pub token_max_ttl: Duration,
    /// A secret ID.
    pub secret_id_ttl: Duration,
}

impl Default for Ttls {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_hours(1);
        Self { token_ttl: HOUR, token_max_ttl: 4 * HOUR, secret_id_ttl: HOUR }
    }
}

/// Mode and owner of a service's delivered files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileAttrs {
    /// Permission bits; none for others.
    pub mode: u32,
    /// User ID; `None` for bootstrap's own.
    pub owner: Option<u32>,
    /// Group ID; `None` for the one that new files get in the directory.
    pub group: Option<u32>,
}

impl Default for FileAttrs {
    fn default() -> Self {
        Self { mode: 0o440, owner: None, group: None }
    }
}
