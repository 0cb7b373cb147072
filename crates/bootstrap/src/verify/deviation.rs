//! What a service may do against what it should be able to do. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::desired::policy_name;
use crate::policy::{Acl, Capabilities, PathRule, has_segments, parse};

use super::login::Answers;
use super::paths::{covered, instances};

/// The `default` policy, as far as servers of different versions have it alike. What it grants to an entity's own
/// paths is left out: those are not asked about.
const DEFAULT_POLICY: &str = include_str!("default-policy.hcl");

/// What came of one service.
#[derive(Debug)]
pub(super) struct Judgement {
    /// Every path that is granted anything.
    pub(super) granted: BTreeMap<String, Capabilities>,
    pub(super) deviations: Vec<Deviation>,
    /// Policies that its token carries and no file gives it.
    pub(super) foreign_policies: Vec<String>,
}

/// One path that is not as the policy says.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Deviation {
    pub(super) path: String,
    pub(super) expected: Capabilities,
    pub(super) found: Capabilities,
    #[serde(rename = "do")]
    pub(super) remedy: String,
}

impl Judgement {
    pub(super) fn is_exact(&self) -> bool {
        self.deviations.is_empty() && self.foreign_policies.is_empty()
    }
}

/// What the `default` policy grants besides, depending on the server's version and on who asks.
const DEFAULT_TOO: [&str; 4] =
    ["identity/entity/id/", "identity/entity/name/", "identity/oidc/", "sys/control-group/request"];

/// Compares the server's rules and every answer with what the rules of the service's own policy and the `default` one
/// grant. `paths` are all there are, in order.
pub(super) fn judge(service: &str, rules: &[PathRule], answers: Answers, paths: &[String]) -> Judgement {
    let Answers { rules: told, granted: mut found, policies } = answers;
    // A test reads it.
    let default_rules = parse(DEFAULT_POLICY).unwrap_or_default();
    let expected_rules = rules.iter().chain(&default_rules);
    let expected = Acl::new(expected_rules.clone());
    if let Some(told) = told {
        // It does not tell those with a `+`: they are taken to be as expected, and what was asked about shows where
        // not.
        let untold = expected_rules.filter(|rule| has_segments(&rule.path));
        let server = Acl::new(told.iter().chain(untold));
        for path in decided(&expected, &server, paths) {
            found.entry(path.clone()).or_insert_with(|| server.capabilities(&path));
        }
    }
    let own = policy_name(service);
    let foreign_policies: Vec<String> =
        policies.iter().filter(|policy| **policy != own && *policy != "default").cloned().collect();
    let remedy = if !policies.contains(&own) {
        format!("its token lacks the policy {own}: see bootstrap plan, mend its role by bootstrap apply")
    } else if foreign_policies.is_empty() {
        format!(
            "in Vault, the policy {own} (or default) is not what the file says: see bootstrap plan, \
             mend it by bootstrap apply, with --overwrite where that keeps it"
        )
    } else {
        format!(
            "its token carries {} besides {own}: take that out of its role or its identity",
            foreign_policies.join(", ")
        )
    };
    let deviations = found.iter().filter_map(|(path, found)| {
        let expected = expected.capabilities(path);
        let deviation = || Deviation { path: path.clone(), expected, found: *found, remedy: remedy.clone() };
        (expected != *found).then(deviation)
    });
    let deviations = deviations.collect();
    let granted = found.into_iter().filter(|(_, found)| !found.is_none()).collect();
    Judgement { granted, deviations, foreign_policies }
}

/// The paths that the server's rules decide about: those that it grants, and those of rules that are not as expected.
/// About all others both are silent.
fn decided(expected: &Acl, server: &Acl, paths: &[String]) -> BTreeSet<String> {
    let mut decided = BTreeSet::new();
    for rule_path in server.rule_paths().chain(expected.differing(server)) {
        decided.extend(covered(&rule_path, paths).cloned());
    }
    // A rule that nobody thought of may be for paths that nobody thought of.
    for rule_path in expected.differing(server) {
        let is_default = DEFAULT_TOO.iter().any(|beginning| rule_path.starts_with(beginning));
        if server.granted_by(&rule_path).is_some() && !is_default {
            decided.extend(instances(&rule_path));
        }
    }
    decided
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Capability;

    fn judged(found: &[(&str, &[Capability])], policies: &[&str]) -> Judgement {
        let rules = parse(r#"path "secret/data/user" { capabilities = ["read"] }"#).unwrap();
        let granted = found.iter().map(|(path, found)| ((*path).to_owned(), found.iter().copied().collect()));
        let policies = policies.iter().map(|policy| (*policy).to_owned()).collect();
        judge("user", &rules, Answers { rules: None, granted: granted.collect(), policies }, &[])
    }

    /// By the rules that the server tells, in a policy's form.
    fn judged_by(told: &str) -> Vec<String> {
        let own = r#"path "kv/data/user" { capabilities = ["read"] } path "kv/+/shared" { capabilities = ["read"] }"#;
        let told = parse(&format!("{DEFAULT_POLICY}{told}")).unwrap().into_iter();
        let told: Vec<PathRule> = told.filter(|rule| !has_segments(&rule.path)).collect();
        let paths = ["kv/data/chat", "kv/data/shared", "kv/data/user", "kv/metadata/user", "sys/seal"];
        let answers = Answers {
            rules: Some(told),
            granted: BTreeMap::new(),
            policies: vec!["default".to_owned(), "user-policy".to_owned()],
        };
        let judgement = judge("user", &parse(own).unwrap(), answers, &paths.map(str::to_owned));
        let deviations = judgement.deviations.iter();
        deviations.map(|found| format!("{} {} {}", found.path, found.expected, found.found)).collect()
    }

    #[test]
    fn the_servers_rules_are_compared_for_all_paths() {
        let own = r#"path "kv/data/user" { capabilities = ["read"] }"#;
        assert_eq!(judged_by(own), [""; 0]);
        assert_eq!(judged_by(""), ["kv/data/user read nothing"]);
        let more = |rule: &str| judged_by(&format!("{own} {rule}"));
        assert_eq!(
            more(r#"path "kv/data/c*" { capabilities = ["list"] }"#),
            ["kv/data/c nothing list", "kv/data/cany-other nothing list", "kv/data/chat nothing list"]
        );
        assert_eq!(more(r#"path "pki/issue" { capabilities = ["update"] }"#), ["pki/issue nothing update"]);
        assert_eq!(more(r#"path "sys/seal" { capabilities = ["sudo"] }"#), ["sys/seal nothing sudo"]);
        assert_eq!(more(r#"path "identity/entity/id/7" { capabilities = ["read"] }"#), [""; 0]);
        // What denies is nothing, as what is not there.
        assert_eq!(more(r#"path "kv/data/chat" { capabilities = ["deny"] }"#), [""; 0]);
        assert_eq!(
            more(r#"path "kv/data/shared" { capabilities = ["deny"] }"#),
            ["kv/data/shared read nothing"]
        );
    }

    #[test]
    fn the_default_policy_is_expected() {
        assert_eq!(parse(DEFAULT_POLICY).unwrap().len(), 15);
        let exact = judged(
            &[
                ("secret/data/user", &[Capability::Read]),
                ("secret/data/user_db", &[]),
                ("auth/token/lookup-self", &[Capability::Read]),
            ],
            &["default", "user-policy"],
        );
        assert!(exact.is_exact(), "{exact:?}");
        assert_eq!(exact.granted.len(), 2);
    }

    #[test]
    fn more_and_less_deviate_and_the_remedy_follows_the_cause() {
        let found: &[(&str, &[Capability])] =
            &[("secret/data/user", &[]), ("secret/data/chat", &[Capability::Root])];
        let judgement = judged(found, &["default", "user-policy"]);
        let seen: Vec<String> = judgement
            .deviations
            .iter()
            .map(|deviation| format!("{} {} {}", deviation.path, deviation.expected, deviation.found))
            .collect();
        assert_eq!(seen, ["secret/data/chat nothing root", "secret/data/user read nothing"]);
        assert!(judgement.deviations[0].remedy.contains("bootstrap apply"));

        let judgement = judged(found, &["admin", "default", "user-policy"]);
        assert_eq!(judgement.foreign_policies, ["admin"]);
        assert!(judgement.deviations[0].remedy.contains("carries admin"));
        let judgement = judged(found, &["default"]);
        assert!(judgement.deviations[0].remedy.contains("lacks the policy user-policy"));
        assert!(!judged(&[], &["admin"]).is_exact());
    }
}
