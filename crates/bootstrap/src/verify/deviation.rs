//! What a service may do against what it should be able to do. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::desired::policy_name;
use crate::policy::{Acl, Capabilities, PathRule, parse};

use super::login::Answers;

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

/// Compares every answer with what the rules of the service's own policy and the `default` one grant.
pub(super) fn judge(service: &str, rules: &[PathRule], answers: Answers) -> Judgement {
    let Answers { granted, policies } = answers;
    // A test reads it.
    let default_rules = parse(DEFAULT_POLICY).unwrap_or_default();
    let acl = Acl::new(rules.iter().chain(&default_rules));
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
    let deviations = granted.iter().filter_map(|(path, found)| {
        let expected = acl.capabilities(path);
        let deviation = || Deviation { path: path.clone(), expected, found: *found, remedy: remedy.clone() };
        (expected != *found).then(deviation)
    });
    let deviations = deviations.collect();
    let granted = granted.into_iter().filter(|(_, found)| !found.is_none()).collect();
    Judgement { granted, deviations, foreign_policies }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Capability;

    fn judged(found: &[(&str, &[Capability])], policies: &[&str]) -> Judgement {
        let rules = parse(r#"path "secret/data/user" { capabilities = ["read"] }"#).unwrap();
        let granted = found.iter().map(|(path, found)| ((*path).to_owned(), found.iter().copied().collect()));
        let policies = policies.iter().map(|policy| (*policy).to_owned()).collect();
        judge("user", &rules, Answers { granted: granted.collect(), policies })
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
