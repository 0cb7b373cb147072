//! What bootstrap made for services that the files no longer declare, and its removal.
//!
//! A policy says in its first line which file it is from, and a secret is ours by its note. A role cannot carry a mark:
//! it is ours where its policy is, unless the note remembers that it was there before. So the role and the
//! credentials go first, the policy behind them, and the secret last: a removal that is interrupted anywhere leaves
//! the marks by which the next one goes on.

use std::path::Path;

use vault_client::{VaultClient, approle, kv2, policy};

use crate::BootstrapError;
use crate::args::{Prune, Stack};
use crate::deliver::{self, Delivery};
use crate::desired::policy_name;
use crate::plan::Mounts;

/// What there is of a service that no file declares.
#[expect(clippy::struct_excessive_bools, reason = "four things, each there or not")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub(crate) service: String,
    pub(crate) policy: bool,
    pub(crate) role: bool,
    /// Whether credentials that bootstrap delivered lie in its directory.
    pub(crate) credentials: bool,
    pub(crate) secret: bool,
}

impl Leftover {
    /// Whether a removal that goes as far as `prune` finds anything.
    pub(crate) fn is_pruned(&self, prune: Prune) -> bool {
        (prune.prune && (self.policy || self.role || self.credentials))
            || (prune.prune_secrets && self.secret)
    }

    /// Looks for the credentials.
    pub(crate) fn look(&mut self, approle_dir: &Path) {
        let directory = approle_dir.join(&self.service);
        // Where the policy is not ours, neither is what lies there.
        self.credentials = self.policy && deliver::is_delivered(&directory);
    }

    /// The plan in lines for people.
    pub(crate) fn lines(&self, prune: Prune, mounts: Mounts<'_>) -> Vec<String> {
        let Self { service, policy, role, credentials, secret } = self;
        let parts = [
            (*role, format!("role auth/{}/role/{service}", mounts.approle)),
            (*credentials, format!("credentials of {service}")),
            (*policy, format!("policy {}", policy_name(service))),
        ];
        let parts = parts.into_iter().filter(|(is_there, _)| *is_there).map(|(_, part)| part);
        let mut lines: Vec<String> = if prune.prune {
            parts.map(|part| format!("- {part}")).collect()
        } else {
            let parts: Vec<String> = parts.collect();
            let left = format!(
                "! {service}: no policy file declares it any more, and left over are: {}; --prune removes them",
                parts.join(", ")
            );
            if parts.is_empty() { Vec::new() } else { vec![left] }
        };
        if *secret && prune.prune_secrets {
            lines.push(format!("- secret {}/{service}: every version, for good", mounts.kv));
        } else if *secret {
            lines.push(format!(
                "! secret {}/{service}: no policy file declares its service any more, and it stays; \
                 --prune --prune-secrets removes every version of it, for good",
                mounts.kv
            ));
        }
        lines
    }

    /// Removes it, as far as `prune` goes.
    pub(crate) async fn remove(
        self,
        root: &VaultClient,
        stack: &Stack,
        prune: Prune,
    ) -> Result<(), BootstrapError> {
        let Self { service, policy, role, secret, .. } = self;
        let doing = |what: &str| BootstrapError::vault(format!("removing the {what} of {service}"));
        if prune.prune && role {
            approle::delete_role(root, &stack.approle_mount, &service, root.soon())
                .await
                .map_err(doing("role"))?;
        }
        if prune.prune && policy {
            // Where an earlier removal was interrupted there may be links that lead nowhere.
            Delivery::remove(&stack.approle_dir.join(&service))
                .map_err(|cause| BootstrapError::Removal { service: service.clone(), cause })?;
            policy::delete(root, &policy_name(&service), root.soon()).await.map_err(doing("policy"))?;
        }
        if prune.prune_secrets && secret {
            kv2::delete_for_good(root, &stack.kv_mount, &service, root.soon())
                .await
                .map_err(doing("secret"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: Mounts<'_> = Mounts { kv: "secret", approle: "approle" };

    fn lines(leftover: &Leftover, prune: bool, prune_secrets: bool) -> String {
        leftover.lines(Prune { prune, prune_secrets }, MOUNTS).join("\n")
    }

    #[test]
    fn what_is_left_over_is_told_and_what_goes_is_shown() {
        let service = "chat".to_owned();
        let all = Leftover { service, policy: true, role: true, credentials: true, secret: true };
        assert_eq!(
            lines(&all, false, false),
            "! chat: no policy file declares it any more, and left over are: role auth/approle/role/chat, \
             credentials of chat, policy chat-policy; --prune removes them\n\
             ! secret secret/chat: no policy file declares its service any more, and it stays; --prune \
             --prune-secrets removes every version of it, for good"
        );
        assert_eq!(
            lines(&all, true, true),
            "- role auth/approle/role/chat\n- credentials of chat\n- policy chat-policy\n\
             - secret secret/chat: every version, for good"
        );
        assert!(
            lines(&all, true, false)
                .ends_with("--prune --prune-secrets removes every version of it, for good")
        );
        let secret = Leftover { service: "chat".to_owned(), secret: true, ..Leftover::default() };
        assert!(!lines(&secret, false, false).contains("left over"));
        assert!(!secret.is_pruned(Prune { prune: true, prune_secrets: false }));
        assert!(secret.is_pruned(Prune { prune: true, prune_secrets: true }));
        assert!(!all.is_pruned(Prune::default()));
    }
}
