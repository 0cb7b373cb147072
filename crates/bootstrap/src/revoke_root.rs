//! `--revoke-root-token`: root goes when nobody needs it any more, and not before it can be had again.

use std::path::Path;

use approle_session::Credentials;
use secret_file::{FileError, SecretDir};
use vault_client::{VaultClient, VaultError, approle, mounts, token};

use crate::BootstrapError;
use crate::args::Stack;
use crate::own;

/// The mount of the break-glass role that unsealer makes, below `auth/`, and what unsealer writes about it once a login
/// has proven the credential that it keeps.
const BREAK_GLASS: &str = "vaultcrew-break-glass/";
const PROVEN: &str = "vaultcrew: break-glass credential of unsealer, proven by a login";

/// Whether the root token is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Root {
    Revoked,
    /// It is still needed, for this reason.
    Stays(&'static str),
}

/// Revokes the token that `root` speaks with, and removes its file, if that can be done without regret.
pub(crate) async fn revoke(root: &VaultClient, stack: &Stack) -> Result<Root, BootstrapError> {
    let doing = || BootstrapError::vault("revoking the root token");
    let by = root.soon();
    let methods = mounts::auth_methods(root, by).await.map_err(doing())?;
    if methods.get(BREAK_GLASS).is_none_or(|mount| mount.description != PROVEN) {
        return Ok(Root::Stays(
            "there is no break-glass credential that unsealer has proven by a login, so that root could not be had again; \
             unsealer run makes it and proves it while there is a root token",
        ));
    }
    if !own_login_works(root, stack).await.map_err(doing())? {
        return Ok(Root::Stays("bootstrap cannot log in with its own credential yet"));
    }
    token::revoke_self(root, by).await.map_err(doing())?;
    match remove(&stack.token_file) {
        Ok(()) => tracing::info!("the root token is revoked, and its file removed"),
        Err(error) => tracing::warn!(
            "the root token is revoked; its file stays, and is of no use to anybody: {}",
            agent_runtime::with_causes(&error)
        ),
    }
    Ok(Root::Revoked)
}

async fn own_login_works(client: &VaultClient, stack: &Stack) -> Result<bool, VaultError> {
    let Ok(Credentials { role_id, secret_id }) = Credentials::read(&stack.state_dir) else {
        return Ok(false);
    };
    match approle::login(client, own::MOUNT, &role_id, &secret_id, client.soon()).await {
        Ok(auth) => {
            let own = client.with_token(auth.client_token);
            token::revoke_self(&own, own.soon()).await.map(|()| true)
        }
        Err(VaultError::Refused { .. } | VaultError::Denied { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove(file: &Path) -> Result<(), FileError> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    SecretDir::open(directory)?.remove(&name).map(drop)
}
