//! The flags that say whose credentials to log in with.
#![allow(clippy::doc_markdown, reason = "these doc comments are the help text, which has no backticks")]

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// With which AppRole to log in, and how long to wait for that.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "AppRole login")]
pub struct LoginArgs {
    /// Directory with the files role_id and secret_id, delivered by bootstrap
    #[arg(
        long,
        env = "VAULTCREW_CREDENTIALS_DIR",
        value_name = "DIR",
        global = true,
        hide_env_values = true
    )]
    #[arg(default_value = "/vault/approle")]
    pub credentials_dir: PathBuf,

    /// Mount of the AppRole auth method, below auth/
    #[arg(
        long,
        env = "VAULTCREW_APPROLE_MOUNT",
        value_name = "MOUNT",
        global = true,
        hide_env_values = true
    )]
    #[arg(default_value = "approle")]
    pub approle_mount: String,

    /// How long to wait at start for Vault, the credentials and a login
    #[arg(long, env = "VAULTCREW_WAIT", value_name = "DURATION", global = true, hide_env_values = true)]
    #[arg(default_value = "10m", value_parser = agent_runtime::duration)]
    pub wait: Duration,
}
