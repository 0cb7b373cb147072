//! The rules: their names, and how much each weighs.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::manifest::suggest;

/// Whether a finding fails the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Error,
    Warning,
}

/// What is looked for; `docs/check.md` says of each why it matters and how it is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    FileUnreadable,
    EnvPermissions,
    EnvSyntax,
    EnvDialect,
    EnvDuplicate,
    EnvUnclaimed,
    EnvEmptyValue,
    ValuePlaceholder,
    ValueShort,
    ValueReused,
    KeyName,
    SecretEmpty,
    SecretTooManyKeys,
    SecretTooLarge,
    ManifestSyntax,
    ManifestEntry,
    ManifestUnknownService,
    ManifestMatchesNothing,
    IgnoreMatchesNothing,
    RenameCollision,
    GenerateWeak,
    GenerateForNobody,
    GenerateUnused,
    TtlInvalid,
    TtlOrder,
    TtlShort,
    TtlBeyondSystem,
    FileMode,
    Cidr,
    NoPolicies,
    ServiceName,
    ServicePrefix,
    PolicyFileName,
    PolicySyntax,
    PolicyEmpty,
    PolicyUnknownKey,
    PolicyUnknownCapability,
    PolicyNoCapability,
    PolicyDeprecated,
    PolicyDuplicatePath,
    PolicyConditional,
    PolicyWildcard,
    PolicySystemPath,
    PolicyOtherMount,
    PolicyKv2Data,
    PolicyUnknownSecret,
    PolicyWrite,
    PolicySudo,
    PolicyList,
    PolicyOwnSecret,
    RotationCopy,
}

use Severity::{Error, Warning};

/// In the order of [`Rule`].
pub(crate) const RULES: &[(Rule, &str, Severity)] = &[
    (Rule::FileUnreadable, "file-unreadable", Error),
    (Rule::EnvPermissions, "env-permissions", Error),
    (Rule::EnvSyntax, "env-syntax", Error),
    (Rule::EnvDialect, "env-dialect", Error),
    (Rule::EnvDuplicate, "env-duplicate", Error),
    (Rule::EnvUnclaimed, "env-unclaimed", Warning),
    (Rule::EnvEmptyValue, "env-empty-value", Warning),
    (Rule::ValuePlaceholder, "value-placeholder", Error),
    (Rule::ValueShort, "value-short", Warning),
    (Rule::ValueReused, "value-reused", Warning),
    (Rule::KeyName, "key-name", Warning),
    (Rule::SecretEmpty, "secret-empty", Warning),
    (Rule::SecretTooManyKeys, "secret-too-many-keys", Error),
    (Rule::SecretTooLarge, "secret-too-large", Error),
    (Rule::ManifestSyntax, "manifest-syntax", Error),
    (Rule::ManifestEntry, "manifest-entry", Error),
    (Rule::ManifestUnknownService, "manifest-unknown-service", Error),
    (Rule::ManifestMatchesNothing, "manifest-matches-nothing", Error),
    (Rule::IgnoreMatchesNothing, "ignore-matches-nothing", Warning),
    (Rule::RenameCollision, "rename-collision", Error),
    (Rule::GenerateWeak, "generate-weak", Error),
    (Rule::GenerateForNobody, "generate-for-nobody", Error),
    (Rule::GenerateUnused, "generate-unused", Warning),
    (Rule::TtlInvalid, "ttl-invalid", Error),
    (Rule::TtlOrder, "ttl-order", Error),
    (Rule::TtlShort, "ttl-short", Warning),
    (Rule::TtlBeyondSystem, "ttl-beyond-system", Warning),
    (Rule::FileMode, "file-mode", Error),
    (Rule::Cidr, "cidr", Error),
    (Rule::NoPolicies, "no-policies", Error),
    (Rule::ServiceName, "service-name", Error),
    (Rule::ServicePrefix, "service-prefix", Error),
    (Rule::PolicyFileName, "policy-file-name", Warning),
    (Rule::PolicySyntax, "policy-syntax", Warning),
    (Rule::PolicyEmpty, "policy-empty", Error),
    (Rule::PolicyUnknownKey, "policy-unknown-key", Warning),
    (Rule::PolicyUnknownCapability, "policy-unknown-capability", Error),
    (Rule::PolicyNoCapability, "policy-no-capability", Warning),
    (Rule::PolicyDeprecated, "policy-deprecated", Warning),
    (Rule::PolicyDuplicatePath, "policy-duplicate-path", Warning),
    (Rule::PolicyConditional, "policy-conditional", Warning),
    (Rule::PolicyWildcard, "policy-wildcard", Error),
    (Rule::PolicySystemPath, "policy-system-path", Error),
    (Rule::PolicyOtherMount, "policy-other-mount", Warning),
    (Rule::PolicyKv2Data, "policy-kv2-data", Error),
    (Rule::PolicyUnknownSecret, "policy-unknown-secret", Error),
    (Rule::PolicyWrite, "policy-write", Error),
    (Rule::PolicySudo, "policy-sudo", Error),
    (Rule::PolicyList, "policy-list", Warning),
    (Rule::PolicyOwnSecret, "policy-own-secret", Error),
    (Rule::RotationCopy, "rotation-copy", Error),
];

impl Rule {
    /// The name that never changes.
    pub(crate) fn id(self) -> &'static str {
        RULES[self as usize].1
    }

    pub(crate) fn severity(self) -> Severity {
        RULES[self as usize].2
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A word that names no rule.
#[derive(Debug, thiserror::Error)]
#[error("there is no such rule{}", .0.map(|id| format!("; did you mean {id}?")).unwrap_or_default())]
pub(crate) struct UnknownRule(Option<&'static str>);

impl FromStr for Rule {
    type Err = UnknownRule;

    fn from_str(id: &str) -> Result<Self, UnknownRule> {
        let named = |id: &str| RULES.iter().find(|(_, known, _)| *known == id).copied();
        if let Some((rule, ..)) = named(id) {
            return Ok(rule);
        }
        let like = suggest(id, RULES.iter().map(|(_, known, _)| *known));
        Err(UnknownRule(like.and_then(|like| named(&like)).map(|(_, known, _)| known)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_rules() {
        for (index, (rule, id, _)) in RULES.iter().enumerate() {
            assert_eq!((*rule as usize, id.parse().ok()), (index, Some(*rule)));
        }
    }

    #[test]
    fn a_slip_is_told() {
        let error = "policy-wildcart".parse::<Rule>().unwrap_err();
        assert_eq!(error.to_string(), "there is no such rule; did you mean policy-wildcard?");
    }
}
