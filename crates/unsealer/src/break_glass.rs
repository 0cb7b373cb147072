//! The break-glass role: what is left to regain root with, once the root token is revoked.
//!
//! The endpoints that made a root token from key shares alone are off by default in newer servers. What they
//! want besides the shares is a token that may use them: this role's. It can do that and take snapshots, and
//! nothing else; its secret ID lies beside the shares and never expires.

use std::collections::BTreeMap;
use std::time::Duration;

use vault_client::approle::Role;
use vault_client::{VaultClient, VaultError, approle, mounts, policy, token};

use crate::error::UnsealerError;
use crate::key_store::{Credential, KeyStore};

/// A mount of its own: a change to the services' AppRole mount must not reach it.
const MOUNT: &str = "vaultcrew-break-glass";
const ROLE: &str = "break-glass";
const POLICY_NAME: &str = "vaultcrew-break-glass";

/// What is written about the mount, before and after the credential that is kept was proven: by that `bootstrap` knows
/// when the root token is no longer needed.
const UNPROVEN: &str = "vaultcrew: break-glass credential of unsealer";
const PROVEN: &str = "vaultcrew: break-glass credential of unsealer, proven by a login";

/// Both generations of endpoints, each with the 3 shares on top, and snapshots.
const POLICY: &str = r#"# Made by vaultcrew's unsealer: regains root together with 3 key shares, and takes snapshots.
path "sys/generate-root-token/attempt" {
  capabilities = ["create", "read", "update", "delete"]
}
path "sys/generate-root-token/update" {
  capabilities = ["create", "update"]
}
path "sys/generate-root/attempt" {
  capabilities = ["create", "read", "update", "delete", "sudo"]
}
path "sys/generate-root/update" {
  capabilities = ["create", "update", "sudo"]
}
path "sys/storage/raft/snapshot" {
  capabilities = ["read"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
"#;

/// Makes the break-glass role and proves it by a login, if that has not been done and a root token is here.
///
/// Gives whether there is a credential afterwards.
pub(crate) async fn ensure(client: &VaultClient, store: &KeyStore) -> Result<bool, UnsealerError> {
    let root = store.root_token()?.map(|token| client.with_token(token));
    if store.has_break_glass_credential()? {
        if let Some(root) = root {
            note_proven(client, &root, store).await?;
        }
        return Ok(true);
    }
    let Some(root) = root else { return Ok(false) };
    make_role(&root).await?;

    let by = client.soon();
    // A kill between issuing and storing leaves a secret ID that nobody has.
    for accessor in approle::secret_id_accessors(&root, MOUNT, ROLE, by).await? {
        approle::destroy_accessor(&root, MOUNT, ROLE, &accessor, by).await?;
    }
    let role_id = approle::role_id(&root, MOUNT, ROLE, by).await?;
    let secret_id = approle::issue_secret_id(&root, MOUNT, ROLE, &BTreeMap::new(), by).await?.secret_id;
    let credential = Credential { role_id, secret_id };
    prove(client, &credential).await?;
    store.keep_break_glass_credential(&credential)?;
    mounts::describe(&root, MOUNT, PROVEN, root.soon()).await?;
    tracing::info!(
        "the break-glass credential is in {}, proven by a login",
        store.break_glass_path().display()
    );
    Ok(true)
}

/// Notes what an earlier run proved and was killed before it could note it. A root token that is no longer good, and a
/// credential that is encrypted to somebody else, leave it at that.
async fn note_proven(
    client: &VaultClient,
    root: &VaultClient,
    store: &KeyStore,
) -> Result<(), UnsealerError> {
    let mounts = match mounts::auth_methods(root, root.soon()).await {
        Err(VaultError::Denied { .. }) => return Ok(()),
        mounts => mounts?,
    };
    if mounts.get(&format!("{MOUNT}/")).is_some_and(|mount| mount.description == PROVEN) {
        return Ok(());
    }
    if let Ok(Some(credential)) = store.break_glass_credential() {
        prove(client, &credential).await?;
        mounts::describe(root, MOUNT, PROVEN, root.soon()).await?;
    }
    Ok(())
}

async fn prove(client: &VaultClient, credential: &Credential) -> Result<(), VaultError> {
    let break_glass = log_in(client, credential).await?;
    token::revoke_self(&break_glass, break_glass.soon()).await
}

async fn make_role(root: &VaultClient) -> Result<(), VaultError> {
    let by = root.soon();
    if !mounts::auth_methods(root, by).await?.contains_key(&format!("{MOUNT}/")) {
        mounts::enable_approle(root, MOUNT, UNPROVEN, by).await?;
    }
    // One that was proven is lost, or it would not be made anew.
    mounts::describe(root, MOUNT, UNPROVEN, by).await?;
    mounts::disable_lockout(root, MOUNT, by).await?;
    policy::write(root, POLICY_NAME, POLICY, by).await?;
    let role = Role {
        token_policies: vec![POLICY_NAME.to_owned()],
        token_ttl: Duration::from_mins(10),
        token_max_ttl: Duration::from_mins(30),
        token_no_default_policy: true,
        ..Role::default()
    };
    approle::write_role(root, MOUNT, ROLE, &role, by).await
}

/// A client that speaks with a token of the break-glass role.
pub(crate) async fn log_in(client: &VaultClient, credential: &Credential) -> Result<VaultClient, VaultError> {
    let Credential { role_id, secret_id } = credential;
    let auth = approle::login(client, MOUNT, role_id, secret_id, client.soon()).await?;
    Ok(client.with_token(auth.client_token))
}
