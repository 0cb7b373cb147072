//! bootstrap's own credential: what it keeps the services' credentials fresh by, without root.
//!
//! An AppRole on a mount of its own, under a policy that is generated for the services there are: it may read
//! their `role_id`s, and issue, list, look up and destroy their secret IDs, and its own. Nothing else: no policy,
//! no role, no secret. Whoever takes it can become any service.

use std::time::Duration;

use secret_file::Attrs;
use vault_client::approle::Role;
use vault_client::{VaultClient, VaultError, approle, mounts, policy};

use crate::BootstrapError;
use crate::args::Stack;
use crate::carry_out::enabling;
use crate::deliver::Delivery;
use crate::desired::Desired;
use crate::mark::{MARK, Mark};

/// The mount, below `auth/`.
pub(crate) const MOUNT: &str = "vaultcrew";
/// Role and policy; those of a stack that has a name end in it.
pub(crate) const ROLE: &str = "bootstrap";
pub(crate) const POLICY: &str = "vaultcrew-bootstrap";

const SECRET_ID_TTL: Duration = Duration::from_hours(30 * 24);

/// The credential's files.
pub(crate) fn delivery(stack: &Stack, mark: &Mark) -> Delivery {
    Delivery {
        mount: MOUNT.to_owned(),
        role: mark.name(ROLE),
        directory: stack.state_dir.clone(),
        attrs: Attrs::mode(0o400),
        directory_mode: 0o700,
    }
}

/// What is to be done about the mount, policy and role.
#[derive(Debug)]
pub(crate) struct OwnPlan {
    mark: Mark,
    enable: bool,
    disable_lockout: bool,
    policy: Option<String>,
    role: Option<Role>,
}

impl OwnPlan {
    /// Asks Vault what there is, and computes what differs.
    pub(crate) async fn ask(
        root: &VaultClient,
        approle_mount: &str,
        desired: &Desired,
    ) -> Result<Self, BootstrapError> {
        let mark = desired.mark.clone();
        let text = policy_text(approle_mount, &mark, desired.names());
        let asking = || BootstrapError::vault("asking Vault for bootstrap's own AppRole");
        let by = root.soon();
        let mount = mounts::auth_methods(root, by).await.map_err(asking())?.remove(&format!("{MOUNT}/"));
        if let Some(mount) =
            mount.as_ref().filter(|mount| mount.mount_type != "approle" || !mount.is_marked(MARK))
        {
            let found = format!("{} of somebody else ({:?})", mount.mount_type, mount.description);
            return Err(BootstrapError::OtherMount {
                mount: format!("auth/{MOUNT}/"),
                found,
                wanted: "bootstrap's own",
            });
        }
        let enable = mount.is_none();
        let disable_lockout = enable || mounts::lockout_enabled(root, MOUNT, by).await.map_err(asking())?;
        let found = policy::read(root, &mark.name(POLICY), by).await.map_err(asking())?;
        let policy = (found.as_ref() != Some(&text)).then_some(text);
        let found = if enable {
            None
        } else {
            approle::read_role(root, MOUNT, &mark.name(ROLE), by).await.map_err(asking())?
        };
        let role = Some(role(&mark)).filter(|role| found.as_ref() != Some(role));
        Ok(Self { mark, enable, disable_lockout, policy, role })
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        !self.enable && !self.disable_lockout && self.policy.is_none() && self.role.is_none()
    }

    /// The plan in a line for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let sign = if self.enable { '+' } else { '~' };
        let changed = [
            (self.enable, "mount"),
            (self.disable_lockout, "user lockout off"),
            (self.policy.is_some(), "policy"),
            (self.role.is_some(), "role"),
        ];
        let changed: Vec<&str> = changed.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
        if self.is_empty() {
            return Vec::new();
        }
        vec![format!("{sign} auth/{MOUNT}/, the AppRole of bootstrap itself: {}", changed.join(", "))]
    }

    /// Does it.
    pub(crate) async fn carry_out(self, root: &VaultClient) -> Result<(), BootstrapError> {
        if self.enable {
            mounts::enable_approle(root, MOUNT, &format!("{MARK}: credential of bootstrap"), root.soon())
                .await
                .map_err(enabling(format!("the auth method auth/{MOUNT}/")))?;
        }
        self.make(root).await.map_err(BootstrapError::vault("making the AppRole of bootstrap itself"))
    }

    async fn make(self, root: &VaultClient) -> Result<(), VaultError> {
        let by = root.soon();
        if self.disable_lockout {
            mounts::disable_lockout(root, MOUNT, by).await?;
        }
        if let Some(text) = self.policy {
            policy::write(root, &self.mark.name(POLICY), &text, by).await?;
        }
        if let Some(role) = self.role {
            approle::write_role(root, MOUNT, &self.mark.name(ROLE), &role, by).await?;
        }
        Ok(())
    }
}

fn role(mark: &Mark) -> Role {
    Role {
        token_policies: vec![mark.name(POLICY)],
        token_ttl: Duration::from_mins(20),
        token_max_ttl: Duration::from_hours(1),
        secret_id_ttl: SECRET_ID_TTL,
        token_no_default_policy: true,
        ..Role::default()
    }
}

/// The policy: each role by its name, never a wildcard, which would take in roles of others.
fn policy_text<'a>(approle_mount: &str, mark: &Mark, services: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::from("# Made by vaultcrew's bootstrap for the services that it keeps fresh.\n");
    for service in services {
        text.push_str(&role_rules(approle_mount, service));
    }
    text.push_str(&role_rules(MOUNT, &mark.name(ROLE)));
    for path in ["auth/token/renew-self", "auth/token/revoke-self"] {
        text.push_str(&rule(path, r#""update""#, ""));
    }
    text
}

fn role_rules(mount: &str, role: &str) -> String {
    let role = format!("auth/{mount}/role/{role}");
    // Metadata and nothing else: no TTL, use count or CIDR list of the caller's choice.
    let only_metadata = "  allowed_parameters = {\n    \"metadata\" = []\n  }\n";
    rule(&format!("{role}/role-id"), r#""read""#, "")
        + &rule(&format!("{role}/secret-id"), r#""update", "list""#, only_metadata)
        + &rule(&format!("{role}/secret-id-accessor/lookup"), r#""update""#, "")
        + &rule(&format!("{role}/secret-id-accessor/destroy"), r#""update""#, "")
}

fn rule(path: &str, capabilities: &str, more: &str) -> String {
    format!("path \"{path}\" {{\n  capabilities = [{capabilities}]\n{more}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_each_role_and_has_no_wildcard() {
        let text = policy_text("approle", &Mark::default(), ["user", "user_db"].into_iter());
        for path in [
            "auth/approle/role/user/secret-id\"",
            "auth/approle/role/user_db/role-id\"",
            "auth/vaultcrew/role/bootstrap/secret-id\"",
            "auth/token/renew-self\"",
        ] {
            assert!(text.contains(path), "{path} in {text}");
        }
        assert!(!text.contains(['*', '+']));
        assert_eq!(text.matches("path ").count(), 3 * 4 + 2);
    }
}
