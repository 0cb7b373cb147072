//! By whose token the credentials are looked after.

use approle_session::Credentials;
use vault_client::{VaultClient, approle, token};

use super::Keeper;
use crate::{apply, own};

/// Whose token the credentials are looked after by.
pub(super) enum Hand {
    Own(VaultClient),
    Root(VaultClient),
    /// For one look.
    Previous(VaultClient),
}

impl Keeper<'_> {
    /// By whose hand the credentials are looked after. Where bootstrap cannot log in with its own, by root's, or else by
    /// that of the credential before it, which Vault knows again after a snapshot was restored.
    pub(super) async fn hand(&mut self) -> Option<Hand> {
        if let Some(client) = self.approle.client() {
            self.is_idle_told = false;
            return Some(Hand::Own(client));
        }
        if let Ok(root) = apply::token(self.stack) {
            let root = self.client.with_token(root);
            if matches!(token::is_valid(&root, root.soon()).await, Ok(true)) {
                return Some(Hand::Root(root));
            }
        }
        if !self.approle.is_refused() {
            return None;
        }
        let previous = self.stack.state_dir.join(own::PREVIOUS);
        if let Ok(Credentials { role_id, secret_id }) = Credentials::read(&previous) {
            let client = &self.client;
            if let Ok(auth) = approle::login(client, own::MOUNT, &role_id, &secret_id, client.soon()).await {
                tracing::warn!(
                    "Vault does not know bootstrap's own credential, but the one before it, as after a snapshot was \
                     restored: by that one another is made"
                );
                return Some(Hand::Previous(client.with_token(auth.client_token)));
            }
        }
        if self.looks.succeeded && !std::mem::replace(&mut self.is_idle_told, true) {
            tracing::error!(
                "Vault does not take bootstrap's own credential in {}: nobody replaces the services' credentials, which \
                 end one by one. Run unsealer generate-root: bootstrap then makes another within a minute, or at once \
                 by SIGHUP",
                self.stack.state_dir.display()
            );
        }
        None
    }
}
