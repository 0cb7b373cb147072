//! Every path there is.

use std::collections::BTreeSet;

use crate::desired::policy_name;
use crate::own;
use crate::policy::{PathRule, has_segments, matches};

/// How many questions about secrets of others are asked by all services together, and by each at least: every one costs
/// the server half a millisecond.
const QUESTIONS: usize = 20_000;
const LEAST_OTHERS: usize = 40;

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

/// Where things are mounted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mounts<'a> {
    pub(super) kv: &'a str,
    pub(super) approle: &'a str,
}

/// Every path that a service may have access to: all that the crew makes in Vault, for every service; what root
/// rules Vault by; and whatever any of the policies names. In order.
pub(super) fn all(services: &[String], rules: &[&PathRule], mounts: Mounts<'_>) -> Vec<String> {
    let mut paths = common(mounts);
    paths.extend(services.iter().flat_map(|service| of_service(service, mounts)));
    paths.extend(rules.iter().flat_map(|rule| instances(&rule.path)));
    askable(paths)
}

/// Those of all paths that the service is asked about though the server tells the rules for them: what is common to
/// all, its own, what its policy names, and the secrets of those that come after it, so that each secret is asked
/// about.
pub(super) fn chosen(
    services: &[String],
    index: usize,
    rules: &[PathRule],
    mounts: Mounts<'_>,
) -> Vec<String> {
    let mut paths = common(mounts);
    paths.extend(of_service(&services[index], mounts));
    let most = (QUESTIONS / services.len()).max(LEAST_OTHERS).min(services.len() - 1);
    let others = services.iter().cycle().skip(index + 1).take(most);
    paths.extend(others.map(|other| format!("{}/data/{other}", mounts.kv)));
    paths.extend(rules.iter().flat_map(|rule| instances(&rule.path)));
    askable(paths)
}

/// What there is whichever services there are, and a name that none of them has.
fn common(mounts: Mounts<'_>) -> BTreeSet<String> {
    let Mounts { kv, approle } = mounts;
    let mut paths: BTreeSet<String> = SYSTEM.iter().map(|path| (*path).to_owned()).collect();
    paths.extend([format!("{kv}/config"), format!("{kv}/metadata/")]);
    paths.extend([format!("sys/mounts/{kv}"), format!("sys/mounts/{kv}/tune")]);
    for mount in [approle, own::MOUNT, "vaultcrew-break-glass"] {
        paths.extend(["login", "role", "tidy/secret-id"].map(|below| format!("auth/{mount}/{below}")));
        paths.extend([format!("sys/auth/{mount}"), format!("sys/auth/{mount}/tune")]);
    }
    for policy in ["default", own::POLICY, "vaultcrew-break-glass", ANY] {
        paths.extend(of_policy(policy));
    }
    paths.extend(of_service(ANY, mounts));
    for (mount, role) in
        [(own::MOUNT, own::ROLE), (own::MOUNT, ANY), ("vaultcrew-break-glass", "break-glass")]
    {
        paths.extend(of_role(mount, role));
    }
    paths
}

fn of_service(name: &str, mounts: Mounts<'_>) -> impl Iterator<Item = String> {
    let Mounts { kv, approle } = mounts;
    let secret = KV_FORMS.map(|form| format!("{kv}/{form}/{name}"));
    let below = [format!("{kv}/data/{name}/{ANY}"), format!("{kv}/metadata/{name}/")];
    secret.into_iter().chain(below).chain(of_policy(&policy_name(name))).chain(of_role(approle, name))
}

fn of_policy(name: &str) -> [String; 2] {
    [format!("sys/policies/acl/{name}"), format!("sys/policy/{name}")]
}

fn of_role(mount: &str, role: &str) -> [String; ROLE_PATHS.len()] {
    ROLE_PATHS.map(|below| format!("auth/{mount}/role/{role}{below}"))
}

/// Without what the server cannot be asked about: it trims, and knows no empty path.
fn askable(paths: BTreeSet<String>) -> Vec<String> {
    let is_askable = |path: &String| !path.is_empty() && path.trim() == path && !path.starts_with('/');
    paths.into_iter().filter(is_askable).collect()
}

/// Those of `paths`, which are in order, that the rule of this path is for, unless a closer one is.
pub(super) fn covered<'a>(
    rule_path: &'a str,
    paths: &'a [String],
) -> Box<dyn Iterator<Item = &'a String> + 'a> {
    if has_segments(rule_path) {
        let fits = |path: &str| {
            matches(rule_path, path) || path.strip_suffix('/').is_some_and(|path| matches(rule_path, path))
        };
        return Box::new(paths.iter().filter(move |path| fits(path)));
    }
    let from = |beginning: &str| paths.partition_point(|path| path.as_str() < beginning);
    match rule_path.strip_suffix('*') {
        Some(prefix) => {
            Box::new(paths[from(prefix)..].iter().take_while(move |path| path.starts_with(prefix)))
        }
        // As a list request names it, with a slash, comes behind it.
        None => Box::new(
            paths[from(rule_path)..].iter().take_while(move |path| path.starts_with(rule_path)).filter(
                move |path| path.strip_suffix('/').unwrap_or(path) == rule_path || *path == rule_path,
            ),
        ),
    }
}

/// Paths that a rule matches: itself, or some for its wildcards.
pub(super) fn instances(path: &str) -> Vec<String> {
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

    const MOUNTS: Mounts<'_> = Mounts { kv: "kv", approle: "roles" };

    #[test]
    fn what_is_made_for_the_services_what_root_rules_by_and_what_the_policies_name() {
        let rules =
            parse(r#"path "a/*" {} path "+/b/+/c*" {} path "d" {} path "*" {} path " e" {}"#).unwrap();
        let services = ["user".to_owned(), "user_db".to_owned()];
        let paths = all(&services, &rules.iter().collect::<Vec<_>>(), MOUNTS);
        for path in [
            "kv/data/user",
            "kv/destroy/user_db",
            "kv/metadata/",
            "kv/data/any-other",
            "auth/roles/role/user_db/secret-id",
            "auth/vaultcrew/role/bootstrap/secret-id",
            "auth/vaultcrew/role/any-other/secret-id",
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

    #[test]
    fn each_secret_is_asked_about_by_some_and_each_service_about_few() {
        let services: Vec<String> = (0..300).map(|number| format!("s{number}")).collect();
        let all = all(&services, &[], MOUNTS);
        let mut asked: BTreeSet<String> = BTreeSet::new();
        for index in 0..services.len() {
            let chosen = chosen(&services, index, &[], MOUNTS);
            assert!(chosen.len() < 270 && chosen.iter().all(|path| all.binary_search(path).is_ok()));
            assert!(chosen.contains(&format!("auth/roles/role/s{index}/secret-id")));
            let own = format!("kv/data/s{index}");
            asked.extend(chosen.into_iter().filter(|path| *path != own));
        }
        assert!(services.iter().all(|service| asked.contains(&format!("kv/data/{service}"))));
        assert!(chosen(&services[..1], 0, &[], MOUNTS).len() > 100);
        let of_all = chosen(&services[..140], 7, &[], MOUNTS);
        assert!(services[..140].iter().all(|other| of_all.contains(&format!("kv/data/{other}"))));
    }

    #[test]
    fn a_rule_covers_what_it_may_decide_about() {
        let paths: Vec<String> = ["a", "a/", "a/b", "a/b/", "ab", "b/c"].map(str::to_owned).to_vec();
        for (rule, covers) in [
            ("a", &["a", "a/"][..]),
            ("a/", &["a/"]),
            ("a*", &["a", "a/", "a/b", "a/b/", "ab"]),
            ("*", &["a", "a/", "a/b", "a/b/", "ab", "b/c"]),
            ("+/b", &["a/b", "a/b/"]),
            ("z", &[]),
        ] {
            let found: Vec<&str> = covered(rule, &paths).map(String::as_str).collect();
            assert_eq!(found, covers, "{rule}");
        }
    }
}
