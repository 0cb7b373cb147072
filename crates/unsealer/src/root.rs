//! Root when it is needed: made from key shares and the break-glass credential, and revoked again.

use std::path::PathBuf;

use agent_runtime::{Exit, Failure};
use secrecy::SecretString;
use vault_client::{VaultClient, VaultError, generate_root, token};

use crate::key_store::{KeyShare, KeyStore, KeyStoreError, Stored};
use crate::unseal::combinations;
use crate::{UnsealerError, break_glass};

/// Why there is no root token, or why there still is one.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// There is one already.
    #[error("{} holds a root token already; if it is no longer good, revoke it: unsealer revoke-root", .0.display())]
    Present(PathBuf),
    /// The break-glass credential is missing.
    #[error("there is no break-glass credential in {}: it is made by unsealer run while there is a root token",
        .0.display())]
    NoBreakGlass(PathBuf),
    /// No combination of the shares will do.
    #[error("every combination of the {shares} key shares was refused: this Vault has other ones")]
    AllRefused {
        /// How many shares there are.
        shares: usize,
    },
    /// A request failed.
    #[error("{doing}")]
    Vault {
        /// What for.
        doing: &'static str,
        /// Vault's answer.
        #[source]
        cause: VaultError,
    },
    /// The key store cannot be used.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
}

impl Failure for RootError {
    fn exit(&self) -> Exit {
        match self {
            Self::Present(_) | Self::NoBreakGlass(_) | Self::AllRefused { .. } => Exit::Config,
            Self::Vault { cause, .. } => cause.exit(),
            Self::KeyStore(error) => error.exit(),
        }
    }
}

impl RootError {
    fn vault(doing: &'static str) -> impl FnOnce(VaultError) -> Self {
        move |cause| Self::Vault { doing, cause }
    }
}

/// `unsealer generate-root`. Not to be stopped between the token and its file.
pub(crate) async fn generate(client: &VaultClient, store: &KeyStore) -> Result<Exit, UnsealerError> {
    if store.root_token()?.is_some() {
        return Err(RootError::Present(store.root_token_path()).into());
    }
    let shares = match store.stored()? {
        Stored::Keys(shares) => shares,
        Stored::Nothing | Stored::Requested | Stored::Received => Vec::new(),
    };
    let (role_id, secret_id) = store
        .break_glass_credential()?
        .ok_or_else(|| RootError::NoBreakGlass(store.path().join("break-glass")))?;
    let break_glass = break_glass::log_in(client, &role_id, &secret_id)
        .await
        .map_err(RootError::vault("logging in with the break-glass credential"))?;
    let made = from_shares(&break_glass, &shares).await;
    if let Err(error) = token::revoke_self(&break_glass, break_glass.soon()).await {
        tracing::warn!("the break-glass token was not revoked and ends by its own TTL: {error}");
    }
    store.keep_root_token(&made?)?;
    let file = store.root_token_path();
    agent_runtime::print(&format!(
        "a new root token is in {}; when you are done with it: unsealer revoke-root\n",
        file.display()
    ))?;
    Ok(Exit::Done)
}

/// Tries the combinations of the shares until one makes a token; the damaged ones are in those before.
async fn from_shares(client: &VaultClient, shares: &[KeyShare]) -> Result<SecretString, RootError> {
    let mut attempt = start(client).await?;
    for combination in combinations(shares.len(), attempt.required) {
        match provide(client, &attempt, shares, &combination).await {
            Ok(token) => return Ok(token),
            // The last share of a wrong combination (400), or one that is no share (500).
            Err(VaultError::Refused { .. } | VaultError::Unexpected { .. }) => {
                cancel(client, &attempt).await?;
                attempt = start(client).await?;
            }
            Err(cause) => {
                cancel(client, &attempt).await?;
                return Err(RootError::vault("providing a key share")(cause));
            }
        }
    }
    cancel(client, &attempt).await?;
    Err(RootError::AllRefused { shares: shares.len() })
}

async fn start(client: &VaultClient) -> Result<generate_root::Attempt, RootError> {
    generate_root::start(client, client.soon())
        .await
        .map_err(RootError::vault("starting to generate a root token"))
}

async fn cancel(client: &VaultClient, attempt: &generate_root::Attempt) -> Result<(), RootError> {
    generate_root::cancel(client, attempt, client.soon())
        .await
        .map_err(RootError::vault("ending the generation of a root token"))
}

async fn provide(
    client: &VaultClient,
    attempt: &generate_root::Attempt,
    shares: &[KeyShare],
    combination: &[usize],
) -> Result<SecretString, VaultError> {
    let mut token = None;
    for &index in combination {
        token = generate_root::provide(client, attempt, &shares[index].value, client.soon()).await?;
    }
    // As many shares as the server asked for: the last one completes it, or is refused.
    Ok(token.unwrap_or_default())
}

/// `unsealer revoke-root`: the token is revoked, and its file removed.
pub(crate) async fn revoke(client: &VaultClient, store: &KeyStore) -> Result<Exit, UnsealerError> {
    let Some(root_token) = store.root_token()? else {
        agent_runtime::print("there is no root token here\n")?;
        return Ok(Exit::Done);
    };
    let root = client.with_token(root_token);
    match token::revoke_self(&root, root.soon()).await {
        // It was revoked before.
        Ok(()) | Err(VaultError::Denied { .. }) => {}
        Err(cause) => return Err(RootError::vault("revoking the root token")(cause).into()),
    }
    store.remove_root_token()?;
    agent_runtime::print("the root token is revoked, and its file removed\n")?;
    Ok(Exit::Done)
}
