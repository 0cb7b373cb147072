//! Every path there is.

use std::collections::BTreeSet;

use crate::desired::policy_name;
use crate::own;
use crate::policy::PathRule;

/// Stands for whatever a wildcard may match, and for what no service has.
const ANY: &str = "any-other";

/// The forms in which KV v2 serves a secret.
pub(super) const KV_FORMS: [&str; 7] =
    ["data", "metadata", "delete", "undelete", "destroy", "subkeys", "detailed-metadata"];

/// Below a role of an AppRole mount.
const ROLE_PATHS: [&str; 10] = [
    "",
    "/role-id",
    "/secret-id",
    "/secret-id/lookup",
    "/secret-id/destroy",
    "/secret-id-accessor/lookup",
    "/secret-id-accessor/destroy",
    "/custom-secret-id",
    "/policies",
    "/token-policies",
];

/// What no service has anything to do with, and what the `default` policy grants everyone.
const SYSTEM: [&str; 62] = [
    "auth/token/create",
    "auth/token/create-orphan",
    "auth/token/create/any-other",
    "auth/token/accessors/",
    "auth/token/lookup",
    "auth/token/lookup-accessor",
    "auth/token/lookup-self",
    "auth/token/renew",
    "auth/token/renew-accessor",
    "auth/token/renew-self",
    "auth/token/revoke",
    "auth/token/revoke-accessor",
    "auth/token/revoke-orphan",
    "auth/token/revoke-self",
    "auth/token/roles/any-other",
    "cubbyhole/any-other",
    "identity/alias",
    "identity/entity",
    "identity/entity/id/",
    "identity/entity/id/any-other",
    "identity/entity-alias",
    "identity/group",
    "identity/group/id/any-other",
    "identity/oidc/key/any-other",
    "identity/oidc/role/any-other",
    "sys/audit",
    "sys/audit/any-other",
    "sys/auth",
    "sys/auth/any-other",
    "sys/capabilities",
    "sys/capabilities-accessor",
    "sys/capabilities-self",
    "sys/config/auditing/request-headers/any-other",
    "sys/config/cors",
    "sys/config/state/sanitized",
    "sys/generate-root/attempt",
    "sys/generate-root/update",
    "sys/generate-root-token/attempt",
    "sys/generate-root-token/update",
    "sys/key-status",
    "sys/leases/revoke",
    "sys/leases/revoke-force/any-other",
    "sys/leases/revoke-prefix/any-other",
    "sys/locked-users",
    "sys/mounts",
    "sys/mounts/any-other",
    "sys/namespaces/any-other",
    "sys/plugins/catalog/any-other",
    "sys/policies/acl",
    "sys/policies/password/any-other",
    "sys/policy",
    "sys/quotas/rate-limit/any-other",
    "sys/raw/any-other",
    "sys/rekey/init",
    "sys/remount",
    "sys/rotate",
    "sys/rotate/root/init",
    "sys/seal",
    "sys/step-down",
    "sys/storage/raft/configuration",
    "sys/storage/raft/snapshot",
    "sys/storage/raft/snapshot-force",
];

/// Every path that a service may have access to: all that the crew makes in Vault, for every service; what root
/// rules Vault by; and whatever any of the policies names.
pub(super) fn all(services: &[String], rules: &[&PathRule], kv: &str, approle: &str) -> Vec<String> {
    let mut paths: BTreeSet<String> = SYSTEM.iter().map(|path| (*path).to_owned()).collect();
    paths.insert(format!("{kv}/config"));
    paths.insert(format!("{kv}/metadata/"));
    for secret in services.iter().map(String::as_str).chain([ANY]) {
        for form in KV_FORMS {
            paths.insert(format!("{kv}/{form}/{secret}"));
        }
        paths.insert(format!("{kv}/data/{secret}/{ANY}"));
        paths.insert(format!("{kv}/metadata/{secret}/"));
    }
    let policies = services.iter().map(|service| policy_name(service));
    let policies = policies.chain(["default", own::POLICY, "vaultcrew-break-glass", ANY].map(str::to_owned));
    for policy in policies {
        paths.insert(format!("sys/policies/acl/{policy}"));
        paths.insert(format!("sys/policy/{policy}"));
    }
    for mount in [approle, own::MOUNT, "vaultcrew-break-glass"] {
        paths.insert(format!("auth/{mount}/login"));
        paths.insert(format!("auth/{mount}/role"));
        paths.insert(format!("auth/{mount}/tidy/secret-id"));
        paths.insert(format!("sys/auth/{mount}"));
        paths.insert(format!("sys/auth/{mount}/tune"));
    }
    paths.insert(format!("sys/mounts/{kv}"));
    paths.insert(format!("sys/mounts/{kv}/tune"));
    let holders = services.iter().map(|service| (approle, service.as_str()));
    let holders =
        holders.chain([(approle, ANY), (own::MOUNT, own::ROLE), ("vaultcrew-break-glass", "break-glass")]);
    for (mount, role) in holders {
        paths.extend(ROLE_PATHS.iter().map(|below| format!("auth/{mount}/role/{role}{below}")));
    }
    paths.extend(rules.iter().flat_map(|rule| instances(&rule.path)));
    // What the server cannot be asked about: it trims, and knows no empty path.
    paths.retain(|path| !path.is_empty() && path.trim() == path && !path.starts_with('/'));
    paths.into_iter().collect()
}

/// Paths that a rule matches: itself, or some for its wildcards.
fn instances(path: &str) -> Vec<String> {
    let filled: Vec<&str> =
        path.split('/').map(|segment| if segment == "+" { ANY } else { segment }).collect();
    let filled = filled.join("/");
    match filled.strip_suffix('*') {
        Some(prefix) => vec![prefix.to_owned(), format!("{prefix}{ANY}")],
        None => vec![filled],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse;

    #[test]
    fn what_is_made_for_the_services_what_root_rules_by_and_what_the_policies_name() {
        let rules =
            parse(r#"path "a/*" {} path "+/b/+/c*" {} path "d" {} path "*" {} path " e" {}"#).unwrap();
        let services = ["user".to_owned(), "user_db".to_owned()];
        let paths = all(&services, &rules.iter().collect::<Vec<_>>(), "kv", "roles");
        for path in [
            "kv/data/user",
            "kv/destroy/user_db",
            "kv/metadata/",
            "kv/data/any-other",
            "auth/roles/role/user_db/secret-id",
            "auth/vaultcrew/role/bootstrap/secret-id",
            "auth/vaultcrew-break-glass/role/break-glass/role-id",
            "sys/policies/acl/user-policy",
            "sys/storage/raft/snapshot",
            "a/",
            "a/any-other",
            "any-other/b/any-other/c",
            "any-other/b/any-other/cany-other",
            "d",
            "any-other",
        ] {
            assert!(paths.iter().any(|asked| asked == path), "{path}");
        }
        assert!(paths.iter().all(|path| !path.is_empty() && path.trim() == path));
        assert!(paths.is_sorted());
    }
}
