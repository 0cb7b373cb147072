//! Root when it is needed: made from key shares and the break-glass credential, and revoked again.

use std::path::PathBuf;

use agent_runtime::{Exit, Failure};
use secrecy::SecretString;
use serde_json::json;
use vault_client::{VaultClient, VaultError, generate_root, token};

use crate::key_store::{Credential, KeyStore, KeyStoreError, Place, Shares};
use crate::output::answer;
use crate::shamir::Candidate;
use crate::unseal::KeySets;
use crate::{UnsealerError, break_glass, lock};

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

    /// Whether the server has said no, rather than nothing that can be understood.
    pub(crate) fn is_denial(&self) -> bool {
        let Self::Vault { cause, .. } = self else { return false };
        matches!(cause, VaultError::Denied { .. } | VaultError::Refused { .. } | VaultError::NotFound { .. })
    }
}

/// A token that may do everything, for one command.
pub(crate) struct Authority {
    /// Speaks with it.
    pub(crate) client: VaultClient,
    /// It was made for this command, and ends with it.
    is_borrowed: bool,
}

/// `unsealer generate-root`. Not to be stopped between the token and its file.
pub(crate) async fn generate(
    client: &VaultClient,
    store: &KeyStore,
    json: bool,
) -> Result<Exit, UnsealerError> {
    let _lock = lock::exclusively(store).await?;
    if store.root_token()?.is_some() {
        return Err(RootError::Present(store.root_token_path()).into());
    }
    let (token, _) = by_break_glass(client, store).await?;
    store.keep_root_token(&token)?;
    let file = store.root_token_path();
    let text = format!(
        "a new root token is in {}; when you are done with it: unsealer revoke-root\n",
        file.display()
    );
    answer(json, &json!({ "root_token_file": file }), &text, Exit::Done)
}

/// `unsealer revoke-root`: the token is revoked, and its file removed.
pub(crate) async fn revoke(
    client: &VaultClient,
    store: &KeyStore,
    json: bool,
) -> Result<Exit, UnsealerError> {
    let Some(root_token) = store.root_token()? else {
        return answer(json, &json!({ "revoked": false }), "there is no root token here\n", Exit::Done);
    };
    let root = client.with_token(root_token);
    match token::revoke_self(&root, root.soon()).await {
        // It was revoked before.
        Ok(()) | Err(VaultError::Denied { .. }) => {}
        Err(cause) => return Err(RootError::vault("revoking the root token")(cause).into()),
    }
    store.remove_root_token()?;
    let text = "the root token is revoked, and its file removed\n";
    answer(json, &json!({ "revoked": true }), text, Exit::Done)
}

impl Authority {
    /// The root token that is here, or else one that is made from the shares for as long as it is needed.
    pub(crate) async fn obtain(client: &VaultClient, store: &KeyStore) -> Result<Self, RootError> {
        if let Some(token) = store.root_token()? {
            let client = client.with_token(token);
            let is_valid = token::is_valid(&client, client.soon()).await;
            if is_valid.map_err(RootError::vault("looking the root token up"))? {
                return Ok(Self { client, is_borrowed: false });
            }
            tracing::info!("the root token in {} is no longer good", store.root_token_path().display());
        }
        let (token, _) = by_break_glass(client, store).await?;
        Ok(Self { client: client.with_token(token), is_borrowed: true })
    }

    /// Ends a token that was made for this command.
    pub(crate) async fn release(self) {
        if self.is_borrowed {
            revoke_quietly(&self.client, "the root token of this command").await;
        }
    }
}

/// A root token made with the credential and the shares of this store, and where those shares lie.
async fn by_break_glass(client: &VaultClient, store: &KeyStore) -> Result<(SecretString, Place), RootError> {
    let credential =
        store.break_glass_credential()?.ok_or_else(|| RootError::NoBreakGlass(store.break_glass_path()))?;
    let break_glass = break_glass_login(client, &credential).await?;
    let mut result = Err(RootError::AllRefused { shares: 0 });
    let recovery_keys = store.recovery_keys()?;
    let of_a_seal = (!recovery_keys.is_empty()).then_some((Place::Current, recovery_keys));
    for (place, shares) in KeySets::read(store)?.0.into_iter().chain(of_a_seal) {
        result = from_shares(&break_glass, &shares).await.map(|(token, _)| (token, place));
        if !matches!(result, Err(RootError::AllRefused { .. })) {
            break;
        }
    }
    revoke_quietly(&break_glass, "the break-glass token").await;
    result
}

/// Whether the server takes these shares, and which: proven by a root token that is made and revoked at once.
/// `client` speaks with a token that may do that; `None` where all are refused.
pub(crate) async fn prove(client: &VaultClient, shares: &Shares) -> Result<Option<Candidate>, RootError> {
    match from_shares(client, shares).await {
        Ok((token, candidate)) => {
            let root = client.with_token(token);
            let revoked = token::revoke_self(&root, root.soon()).await;
            revoked.map_err(RootError::vault("revoking the root token that proved the shares"))?;
            Ok(Some(candidate))
        }
        Err(RootError::AllRefused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`prove`], by a login with this break-glass credential.
pub(crate) async fn prove_by(
    client: &VaultClient,
    credential: &Credential,
    shares: &Shares,
) -> Result<Option<Candidate>, RootError> {
    let break_glass = break_glass_login(client, credential).await?;
    let proven = prove(&break_glass, shares).await;
    revoke_quietly(&break_glass, "the break-glass token").await;
    proven
}

async fn break_glass_login(client: &VaultClient, credential: &Credential) -> Result<VaultClient, RootError> {
    break_glass::log_in(client, credential)
        .await
        .map_err(RootError::vault("logging in with the break-glass credential"))
}

async fn revoke_quietly(client: &VaultClient, what: &str) {
    if let Err(error) = token::revoke_self(client, client.soon()).await {
        tracing::warn!("{what} was not revoked and ends by its own TTL: {error}");
    }
}

/// Tries the ways to choose shares until one makes a token.
async fn from_shares(client: &VaultClient, shares: &Shares) -> Result<(SecretString, Candidate), RootError> {
    let mut attempt = start(client).await?;
    for candidate in shares.candidates(attempt.required) {
        match provide(client, &attempt, shares, &candidate).await {
            Ok(token) => {
                shares.warn_of_damage(&candidate);
                return Ok((token, candidate));
            }
            // The last share of a wrong combination.
            Err(error) if generate_root::is_refusal(&error) => {
                cancel(client).await?;
                attempt = start(client).await?;
            }
            Err(cause) => {
                cancel(client).await?;
                return Err(RootError::vault("providing a key share")(cause));
            }
        }
    }
    cancel(client).await?;
    Err(RootError::AllRefused { shares: shares.found.len() })
}

/// There is one generation at a time, and one that was killed goes on waiting for its shares.
async fn start(client: &VaultClient) -> Result<generate_root::Attempt, RootError> {
    let started = match generate_root::start(client, client.soon()).await {
        Err(VaultError::Refused { status: 400, .. }) => {
            tracing::warn!("an unfinished generation of a root token is ended, to begin another");
            cancel(client).await?;
            generate_root::start(client, client.soon()).await
        }
        started => started,
    };
    started.map_err(RootError::vault("starting to generate a root token"))
}

async fn cancel(client: &VaultClient) -> Result<(), RootError> {
    generate_root::cancel(client, client.soon())
        .await
        .map_err(RootError::vault("ending the generation of a root token"))
}

async fn provide(
    client: &VaultClient,
    attempt: &generate_root::Attempt,
    shares: &Shares,
    candidate: &Candidate,
) -> Result<SecretString, VaultError> {
    let mut token = None;
    for &index in &candidate.offer {
        token = generate_root::provide(client, attempt, &shares.found[index].value, client.soon()).await?;
    }
    // As many shares as the server asked for: the last one completes it, or is refused.
    Ok(token.unwrap_or_default())
}
