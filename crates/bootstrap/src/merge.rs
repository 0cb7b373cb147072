//! One secret, three ways: what the last apply wrote, what the files want, and what Vault holds now. Pure.
//!
//! A value that was changed in Vault since the last apply is its owner's: it stays, and is reported.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret, SecretString};

/// The values of a secret by key.
pub(crate) type Values = BTreeMap<String, SecretString>;

/// What becomes of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyChange {
    /// It is new in Vault.
    Added,
    /// It is new in Vault, with a random value.
    Generated,
    /// Its value changes.
    Changed,
    /// It is gone from the files, and goes.
    Removed,
    /// It was changed in Vault, and stays as it is there.
    Kept,
}

/// The secret as it is to be, and what that changes.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    pub(crate) values: Values,
    pub(crate) changes: BTreeMap<String, KeyChange>,
    /// The keys whose values are not the files': somebody else's keys, and those that are kept.
    pub(crate) foreign: BTreeSet<String>,
}

impl Merged {
    /// Whether Vault must be written to.
    pub(crate) fn writes(&self) -> bool {
        self.changes.values().any(|change| *change != KeyChange::Kept)
    }
}

/// Merges. `wanted` holds `None` for a key whose value is to be generated; `generate` makes one.
///
/// `written` is what the last apply left as the files' own; `None` where there was none, or it is gone.
pub(crate) fn merge<E>(
    written: Option<&Values>,
    wanted: &BTreeMap<String, Option<SecretString>>,
    now: Option<&Values>,
    overwrite: bool,
    mut generate: impl FnMut(&str) -> Result<SecretString, E>,
) -> Result<Merged, E> {
    let empty = Values::new();
    let (base, now) = (written.unwrap_or(&empty), now.unwrap_or(&empty));
    let mut merged = Merged { values: Values::new(), changes: BTreeMap::new(), foreign: BTreeSet::new() };
    let keys: BTreeSet<&String> = wanted.keys().chain(now.keys()).collect();
    for key in keys {
        let changed_in_vault = !same(base.get(key), now.get(key));
        let (value, change) = match (wanted.get(key), now.get(key)) {
            (Some(None), None) => (Some(generate(key)?), Some(KeyChange::Generated)),
            // A generated value is kept once it is made.
            (Some(None), Some(held)) => (Some(held.clone()), None),
            (Some(Some(value)), None) => (Some(value.clone()), Some(KeyChange::Added)),
            (Some(Some(value)), Some(held)) if same(Some(value), Some(held)) => (Some(held.clone()), None),
            (Some(Some(value)), Some(_)) if overwrite || !changed_in_vault => {
                (Some(value.clone()), Some(KeyChange::Changed))
            }
            (Some(Some(_)), Some(held)) => (Some(held.clone()), Some(KeyChange::Kept)),
            // Not from us: nothing to report.
            (None, Some(held)) if !base.contains_key(key) => (Some(held.clone()), None),
            (None, Some(held)) if changed_in_vault && !overwrite => {
                (Some(held.clone()), Some(KeyChange::Kept))
            }
            (None, _) => (None, Some(KeyChange::Removed)),
        };
        if change == Some(KeyChange::Kept) || (value.is_some() && !wanted.contains_key(key)) {
            merged.foreign.insert(key.clone());
        }
        if let Some(value) = value {
            merged.values.insert(key.clone(), value);
        }
        if let Some(change) = change {
            merged.changes.insert(key.clone(), change);
        }
    }
    Ok(merged)
}

fn same(one: Option<&SecretString>, other: Option<&SecretString>) -> bool {
    one.map(ExposeSecret::expose_secret) == other.map(ExposeSecret::expose_secret)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect()
    }

    fn wanted(pairs: &[(&str, &str)]) -> BTreeMap<String, Option<SecretString>> {
        let value = |text: &str| (text != "?").then(|| text.into());
        pairs.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect()
    }

    /// One key `K` in each of the three; "" for absent, "?" for a value to be generated.
    fn one(base: &str, want: &str, now: &str, overwrite: bool) -> (Option<String>, Option<KeyChange>) {
        let pair = |text: &'static str| [("K", text)];
        let leak = |text: &str| Box::leak(text.to_owned().into_boxed_str());
        let of = |text: &str| if text.is_empty() { Values::new() } else { values(&pair(leak(text))) };
        let want = if want.is_empty() { BTreeMap::new() } else { wanted(&pair(leak(want))) };
        let generate = |_: &str| Ok::<_, ()>("random".into());
        let merged = merge(Some(&of(base)), &want, Some(&of(now)), overwrite, generate).unwrap();
        let value = merged.values.get("K").map(|value| value.expose_secret().to_owned());
        (value, merged.changes.get("K").copied())
    }

    #[test]
    fn every_case_of_one_key() {
        use KeyChange::{Added, Changed, Generated, Kept, Removed};
        let some = |value: &str| Some(value.to_owned());
        // last written, wanted, in Vault now → value, change
        assert_eq!(one("", "a", "", false), (some("a"), Some(Added)));
        assert_eq!(one("a", "a", "a", false), (some("a"), None));
        assert_eq!(one("a", "b", "a", false), (some("b"), Some(Changed)));
        assert_eq!(one("a", "a", "v", false), (some("v"), Some(Kept)));
        assert_eq!(one("a", "b", "v", false), (some("v"), Some(Kept)));
        assert_eq!(one("a", "b", "v", true), (some("b"), Some(Changed)));
        assert_eq!(one("a", "b", "b", false), (some("b"), None));
        assert_eq!(one("", "b", "v", false), (some("v"), Some(Kept)));
        assert_eq!(one("a", "a", "", false), (some("a"), Some(Added)));
        assert_eq!(one("a", "", "a", false), (None, Some(Removed)));
        assert_eq!(one("a", "", "v", false), (some("v"), Some(Kept)));
        assert_eq!(one("", "", "v", false), (some("v"), None));
        assert_eq!(one("", "", "v", true), (some("v"), None));
        assert_eq!(one("", "?", "", false), (some("random"), Some(Generated)));
        assert_eq!(one("random", "?", "random", false), (some("random"), None));
        assert_eq!(one("random", "?", "v", true), (some("v"), None));
    }

    fn some_values() -> impl Strategy<Value = Values> {
        proptest::collection::btree_map("[A-D]", "[ab]", 0..4)
            .prop_map(|map| map.into_iter().map(|(key, value)| (key, value.into())).collect())
    }

    proptest! {
        #[test]
        fn what_was_applied_is_not_applied_again(
            base in some_values(), want in some_values(), now in some_values(), overwrite in any::<bool>(),
        ) {
            let want: BTreeMap<_, _> = want.into_iter().map(|(key, value)| (key, Some(value))).collect();
            let generate = |_: &str| Ok::<_, ()>("".into());
            let first = merge(Some(&base), &want, Some(&now), overwrite, generate).unwrap();
            let mut written = first.values.clone();
            written.retain(|key, _| !first.foreign.contains(key));
            let second = merge(Some(&written), &want, Some(&first.values), false, generate).unwrap();
            prop_assert!(!second.writes());
            // A key that the files dropped and Vault keeps is reported once; then it is somebody else's.
            let mut kept = first.changes;
            kept.retain(|key, change| *change == KeyChange::Kept && want.contains_key(key));
            prop_assert_eq!((second.changes, second.foreign), (kept, first.foreign));
        }
    }
}
