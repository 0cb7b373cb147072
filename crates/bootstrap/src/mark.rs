//! The mark that bootstrap leaves on what it makes. By it the next apply knows its own, and `--prune` what may go.
//!
//! Where the manifest names the stack, the mark does too: of two stacks in one Vault namespace neither touches, or
//! takes for left over, what is the other's. What was made before a stack had a name is taken by the one that declares
//! it.

use std::collections::BTreeMap;

use crate::desired::POLICY_FILE;
use crate::policy;

/// What it begins with, everywhere.
pub(crate) const MARK: &str = "vaultcrew";

/// The entry of a secret's custom metadata that names its stack.
const STACK: &str = "vaultcrew-stack";

/// Whose something is: bootstrap's, for this stack or for one without a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) stack: Option<String>,
}

impl Mark {
    /// That of a policy of this service; `None` where there is none.
    pub(crate) fn of_policy(service: &str, text: &str) -> Option<Self> {
        let lines = [text.lines().next(), text.lines().next_back()];
        let line =
            lines.into_iter().flatten().find_map(|line| line.strip_prefix("# ")?.strip_prefix(MARK))?;
        let (stack, rest) = line.split_once(": ")?;
        let is_from_its_file = rest.strip_prefix(&origin(service)).is_some_and(|rest| rest.starts_with(';'));
        let stack = match stack {
            "" => None,
            named => Some(named.strip_prefix(" of ")?.to_owned()),
        };
        is_from_its_file.then_some(Self { stack })
    }

    /// A policy's text with the mark, which tells whoever reads it in Vault where to change it. It stands before the
    /// text, or behind one in JSON, where no comment may come first.
    pub(crate) fn on_policy(&self, service: &str, text: &str) -> String {
        let of = self.stack.as_ref().map(|stack| format!(" of {stack}")).unwrap_or_default();
        let mark = format!("# {MARK}{of}: {}; change it there.", origin(service));
        if policy::is_json(text) { format!("{text}\n{mark}\n") } else { format!("{mark}\n{text}\n") }
    }

    /// The stack's name in a secret's custom metadata.
    pub(crate) fn of_secret(custom_metadata: &BTreeMap<String, String>) -> Self {
        Self { stack: custom_metadata.get(STACK).cloned() }
    }

    /// Puts it there.
    pub(crate) fn on_secret(&self, custom_metadata: &mut BTreeMap<String, String>) {
        match &self.stack {
            Some(stack) => custom_metadata.insert(STACK.to_owned(), stack.clone()),
            None => custom_metadata.remove(STACK),
        };
    }

    /// Whether this stack may go on with what carries `found`.
    pub(crate) fn takes(&self, found: &Self) -> bool {
        self == found || found.stack.is_none()
    }

    /// A name of which each stack has its own.
    pub(crate) fn name(&self, base: &str) -> String {
        self.stack.as_ref().map_or_else(|| base.to_owned(), |stack| format!("{base}-{stack}"))
    }
}

fn origin(service: &str) -> String {
    format!("written by bootstrap from {service}{POLICY_FILE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(stack: &str) -> Mark {
        Mark { stack: Some(stack.to_owned()) }
    }

    #[test]
    fn a_policy_says_whose_it_is() {
        let unnamed = Mark::default();
        for mark in [&unnamed, &of("blue")] {
            for text in ["path \"a\" {}", "{\"path\": {}}", " {\n}\n"] {
                let marked = mark.on_policy("chat", text);
                assert_eq!(Mark::of_policy("chat", &marked).as_ref(), Some(mark), "{marked}");
                assert_eq!(Mark::of_policy("user", &marked), None);
                assert!(policy::parse(&marked).is_ok(), "{marked}");
            }
        }
        // What earlier versions wrote.
        let text =
            "# vaultcrew: written by bootstrap from chat-policy.hcl; change it there.\npath \"a\" {}\n\n";
        assert_eq!(unnamed.on_policy("chat", "path \"a\" {}\n"), text);
        for theirs in [
            "",
            "# vaultcrew\n",
            "# vaultcrew: by hand\n",
            "# vaultcrews: written by bootstrap from chat-policy.hcl;",
        ] {
            assert_eq!(Mark::of_policy("chat", theirs), None, "{theirs}");
        }
    }

    #[test]
    fn what_was_made_without_a_name_is_taken_and_what_is_anothers_is_not() {
        assert!(of("blue").takes(&Mark::default()));
        assert!(of("blue").takes(&of("blue")));
        assert!(!of("blue").takes(&of("green")));
        assert!(!Mark::default().takes(&of("green")));
    }

    #[test]
    fn a_secret_says_it_in_its_custom_metadata() {
        let mut custom = BTreeMap::new();
        of("blue").on_secret(&mut custom);
        assert_eq!(Mark::of_secret(&custom), of("blue"));
        Mark::default().on_secret(&mut custom);
        assert_eq!(Mark::of_secret(&custom), Mark::default());
    }
}
