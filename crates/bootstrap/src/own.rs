//! bootstrap's own credential: what it keeps the services' credentials fresh by, without root.
//!
//! An AppRole on a mount of its own, under a policy that is generated for the services there are: it may read
//! their `role_id`s, and issue, list, look up and destroy their secret IDs, and its own. Nothing else: no policy,
//! no role, no secret. Whoever takes it can become any service.
//!
//! Of many services the policy is divided into [`parts`].

mod parts;

use std::collections::BTreeMap;
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

pub(crate) use parts::Hands;

/// The mount, below `auth/`.
pub(crate) const MOUNT: &str = "vaultcrew";
/// Role and policy; those of a stack that has a name end in it.
pub(crate) const ROLE: &str = "bootstrap";
pub(crate) const POLICY: &str = "vaultcrew-bootstrap";

/// Where, in the state directory, the credential lies that the current one replaced: Vault knows it again after a
/// snapshot of that time was restored, and the current one no more.
pub(crate) const PREVIOUS: &str = "previous";

const HEAD: &str = "# Made by vaultcrew's bootstrap for the services that it keeps fresh.\n";

/// How long a token lives without renewal and with it, and so often at least within the life of the secret ID.
const TOKEN_TTL: Duration = Duration::from_mins(20);
const TOKEN_MAX_TTL: Duration = Duration::from_hours(1);
const TOKENS_IN_A_LIFE: u32 = 24;
const LOGINS_IN_A_LIFE: u32 = 8;

/// The credential's files.
pub(crate) fn delivery(stack: &Stack, mark: &Mark) -> Delivery {
    Delivery {
        mount: MOUNT.to_owned(),
        role: mark.name(ROLE),
        directory: stack.state_dir.clone(),
        attrs: Attrs::mode(0o400),
        directory_mode: 0o700,
        previous: Some(stack.state_dir.join(PREVIOUS)),
    }
}

/// What is to be done about the mount, policies and role.
#[derive(Debug)]
pub(crate) struct OwnPlan {
    mark: Mark,
    enable: bool,
    disable_lockout: bool,
    /// Those whose text differs, by name.
    policies: BTreeMap<String, String>,
    /// Those that the role has had, and that are of no use any more.
    surplus: Vec<String>,
    role: Option<Role>,
}

impl OwnPlan {
    /// Asks Vault what there is, and computes what differs.
    pub(crate) async fn ask(
        root: &VaultClient,
        stack: &Stack,
        desired: &Desired,
    ) -> Result<Self, BootstrapError> {
        let mark = desired.mark.clone();
        let wanted = policies(&stack.approle_mount, &mark, desired.names());
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
        let role = role(wanted.keys().cloned().collect(), stack.own_secret_id_ttl);
        let mut policies = BTreeMap::new();
        for (name, text) in wanted {
            if policy::read(root, &name, by).await.map_err(asking())?.as_ref() != Some(&text) {
                policies.insert(name, text);
            }
        }
        let found = if enable {
            None
        } else {
            approle::read_role(root, MOUNT, &mark.name(ROLE), by).await.map_err(asking())?
        };
        let had = found.as_ref().map_or(&[][..], |found| &found.token_policies);
        let is_surplus = |name: &&String| parts::is_part(&mark, name) && !role.token_policies.contains(*name);
        let surplus = had.iter().filter(is_surplus).cloned().collect();
        let role = Some(role).filter(|role| found.as_ref() != Some(role));
        Ok(Self { mark, enable, disable_lockout, policies, surplus, role })
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        !self.enable && !self.disable_lockout && self.policies.is_empty() && self.role.is_none()
    }

    /// The plan in a line for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let sign = if self.enable { '+' } else { '~' };
        let changed = [
            (self.enable, "mount"),
            (self.disable_lockout, "user lockout off"),
            (!self.policies.is_empty(), "policy"),
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
        for (name, text) in &self.policies {
            policy::write(root, name, text, root.soon()).await?;
        }
        // Before the role forgets them: a kill in between leaves nothing that nobody knows of.
        for name in &self.surplus {
            policy::delete(root, name, root.soon()).await?;
        }
        if let Some(role) = self.role {
            approle::write_role(root, MOUNT, &self.mark.name(ROLE), &role, by).await?;
        }
        Ok(())
    }
}

fn role(token_policies: Vec<String>, secret_id_ttl: Duration) -> Role {
    let in_seconds = |span: Duration| Duration::from_secs(span.as_secs());
    Role {
        token_policies,
        token_ttl: TOKEN_TTL.min(in_seconds(secret_id_ttl / TOKENS_IN_A_LIFE)),
        token_max_ttl: TOKEN_MAX_TTL.min(in_seconds(secret_id_ttl / LOGINS_IN_A_LIFE)),
        secret_id_ttl,
        token_no_default_policy: true,
        ..Role::default()
    }
}

/// The policies by their names: each role by its name, never a wildcard, which would take in roles of others.
fn policies<'a>(
    approle_mount: &str,
    mark: &Mark,
    services: impl Iterator<Item = &'a str>,
) -> BTreeMap<String, String> {
    let services: Vec<&str> = services.collect();
    let is_divided = parts::is_divided(services.len());
    let mut own = String::from(HEAD);
    let mut policies = BTreeMap::new();
    for service in services {
        let rules = role_rules(approle_mount, service);
        if is_divided {
            let part = policies.entry(parts::policy_of(mark, service)).or_insert_with(|| HEAD.to_owned());
            part.push_str(&rules);
        } else {
            own.push_str(&rules);
        }
    }
    own.push_str(&role_rules(MOUNT, &mark.name(ROLE)));
    for path in ["auth/token/renew-self", "auth/token/revoke-self"] {
        own.push_str(&rule(path, r#""update""#, ""));
    }
    if is_divided {
        own.push_str(&parts::rules());
    }
    policies.insert(mark.name(POLICY), own);
    policies
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
    fn tokens_end_well_before_the_secret_id() {
        let lives = |secret_id_ttl| {
            let role = role(Vec::new(), secret_id_ttl);
            (role.token_ttl, role.token_max_ttl)
        };
        assert_eq!(lives(Duration::from_hours(30 * 24)), (TOKEN_TTL, TOKEN_MAX_TTL));
        assert_eq!(lives(Duration::from_mins(4)), (Duration::from_secs(10), Duration::from_secs(30)));
    }

    #[test]
    fn the_policy_names_each_role_and_has_no_wildcard() {
        let policies = policies("approle", &Mark::default(), ["user", "user_db"].into_iter());
        let text = &policies[POLICY];
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
        assert_eq!(policies.len(), 1);
    }

    #[test]
    fn of_many_services_the_policy_is_divided() {
        let names: Vec<String> = (0..1000).map(|number| format!("s{number}")).collect();
        let mark = Mark { stack: Some("blue".to_owned()) };
        let mut policies = policies("approle", &mark, names.iter().map(String::as_str));
        let own = policies.remove("vaultcrew-bootstrap-blue").unwrap();
        assert_eq!(own.matches("path ").count(), 4 + 3, "{own}");
        assert_eq!(policies.len(), 16);
        for (name, text) in &policies {
            assert!(name.starts_with("vaultcrew-bootstrap-blue.") && !text.contains(['*', '+']));
            assert!(text.matches("path ").count() < 400, "{name}");
        }
        for service in &names {
            let part = &policies[&parts::policy_of(&mark, service)];
            assert_eq!(part.matches(&format!("role/{service}/")).count(), 4);
        }
    }
}
