//! The command line.
#![allow(clippy::doc_markdown, reason = "these doc comments are the help text, which has no backticks")]

use std::path::PathBuf;

use agent_runtime::{ConnectionArgs, HealthArgs, LogArgs, StatusArgs};
use clap::{Parser, Subcommand, ValueEnum};

use crate::key_store::{Envelope, KeyStore, KeyStoreError};

/// Initialises Vault once, keeps its key shares safe, and keeps every node unsealed
///
/// On a Vault that was never initialised, unsealer makes 5 key shares of which any 3 unseal it, and stores
/// them and the root token before it goes on. On every later start it unseals with the stored shares. A Vault
/// that was sealed while it ran stays sealed: that is how operators stop everything. Nothing is ever overwritten: where the keys directory and the server do not fit together, it says so and stops.
#[derive(Debug, Parser)]
#[command(name = "unsealer", version, after_help = EXAMPLES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Answer on stdout in JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) vault: ConnectionArgs,

    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

const EXAMPLES: &str = "\
Examples:
  unsealer run --vault-addr http://vault:8200
  unsealer run --vault-addr http://vault-1:8200,http://vault-2:8200,http://vault-3:8200
  unsealer status --json

Exit codes: 0 done, 1 failed, 2 usage, 69 Vault unavailable, 77 permission denied,
78 the keys directory or the configuration is wrong.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Initialise if needed, unseal, and keep unsealed until told to stop
    Run {
        #[command(flatten)]
        store: Store,
        #[command(flatten)]
        status: StatusArgs,

        /// What to do with a node that was sealed while it ran, which is how operators stop everything
        #[arg(long, env = "VAULTCREW_RESEAL_POLICY", value_name = "POLICY", hide_env_values = true)]
        #[arg(value_enum, default_value_t = ResealPolicy::Hold)]
        reseal_policy: ResealPolicy,
    },
    /// Initialise if needed, store the keys, and end
    Init {
        #[command(flatten)]
        store: Store,
    },
    /// Unseal every node with the stored keys, and end; a hold is over then
    Unseal {
        #[command(flatten)]
        store: Store,
    },
    /// Order that Vault stays sealed across restarts, or take that back
    Hold {
        /// on: a running unsealer unseals nothing; off: it does again
        #[arg(value_enum)]
        state: HoldState,

        #[command(flatten)]
        store: Store,
    },
    /// Make a root token from the key shares and the break-glass credential, into the root token's file
    GenerateRoot {
        #[command(flatten)]
        store: Store,
    },
    /// Revoke the root token and remove its file
    RevokeRoot {
        #[command(flatten)]
        store: Store,
    },
    /// Tell good key shares from damaged ones, by the shares themselves
    CheckKeys {
        /// How many shares unseal, where unsealer did not make them
        #[arg(long, value_name = "NUMBER")]
        threshold: Option<usize>,

        /// Ask Vault too: a root token is made of the shares and revoked at once
        #[arg(long)]
        prove: bool,

        #[command(flatten)]
        store: Store,
    },
    /// Take in other key shares of this Vault, such as those of a restored snapshot, once it has taken them
    AdoptKeys {
        /// Directory with unseal-key-1 and so on, and break-glass/ where there is one; it is not changed
        #[arg(value_name = "DIR")]
        from: PathBuf,

        #[command(flatten)]
        store: Store,
    },
    /// Make 5 new key shares in the place of those that are here, which are of no use afterwards
    Rekey {
        #[command(flatten)]
        store: Store,
    },
    /// Show every node's seal status, and what is here to unseal it
    Status {
        #[command(flatten)]
        store: Store,
        #[command(flatten)]
        status: StatusArgs,
    },
    /// Say whether a running `unsealer run` keeps every node unsealed; for the container's HEALTHCHECK
    Healthcheck {
        #[command(flatten)]
        health: HealthArgs,
    },
}

/// What to do with a node that was sealed while it ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResealPolicy {
    #[default]
    /// Keep it sealed, and everything else that is sealed later, until `unsealer hold off`
    Hold,
    /// Unseal it like any other
    Always,
}

/// Whether Vault is to stay sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HoldState {
    /// Nothing is unsealed
    On,
    /// Everything is
    Off,
}

/// Where keys and root token are kept.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Store {
    /// Directory of the key shares, mode 0700, that only unsealer mounts; made where it is missing. Given three
    /// times or more, each holds a part of the shares, and none enough to unseal
    #[arg(long = "keys-dir", env = "VAULTCREW_KEYS_DIR", value_name = "DIR", hide_env_values = true)]
    #[arg(default_value = "/vault/keys", value_delimiter = ',')]
    keys_dirs: Vec<PathBuf>,

    /// File for the root token, in a directory of its own that bootstrap mounts too
    #[arg(long, env = "VAULTCREW_ROOT_TOKEN_FILE", value_name = "FILE", hide_env_values = true)]
    #[arg(default_value = "/vault/root/root-token")]
    root_token_file: PathBuf,

    /// Encrypt the key shares by age to this recipient (age1…), and to others where it is given again
    #[arg(
        long = "age-recipient",
        env = "VAULTCREW_AGE_RECIPIENT",
        value_name = "RECIPIENT",
        hide_env_values = true
    )]
    #[arg(value_delimiter = ',')]
    age_recipients: Vec<String>,

    /// File with the age identity that decrypts them, such as a Docker secret
    #[arg(long, env = "VAULTCREW_AGE_IDENTITY_FILE", value_name = "FILE", hide_env_values = true)]
    age_identity_file: Option<PathBuf>,
}

impl Store {
    /// Whether it was made already.
    pub(crate) fn exists(&self) -> bool {
        self.keys_dirs.iter().all(|dir| dir.is_dir())
    }

    pub(crate) fn open(&self) -> Result<KeyStore, KeyStoreError> {
        let envelope = Envelope::new(&self.age_recipients, self.age_identity_file.as_deref())?;
        KeyStore::open(&self.keys_dirs, &self.root_token_file, envelope)
    }
}
