//! The note in a secret's custom metadata of what the last apply left there.

use std::collections::{BTreeMap, BTreeSet};

use vault_client::kv2::Metadata;

use crate::mark::Mark;

/// The KV version that the last apply wrote or found to be right.
const VERSION: &str = "vaultcrew-applied-version";

/// Which keys of that version are not the files', as JSON lists; several entries, each within Vault's limit.
const FOREIGN: &str = "vaultcrew-foreign-keys";

/// Present where the service's role was there before and is not bootstrap's.
const FOREIGN_ROLE: &str = "vaultcrew-foreign-role";

/// The longest value that Vault takes in custom metadata.
const MAX_VALUE: usize = 512;

/// What the last apply left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) version: u64,
    pub(crate) foreign: BTreeSet<String>,
    /// The service's role is somebody else's, and was left alone: a role cannot carry a mark itself.
    pub(crate) foreign_role: bool,
    /// Whose note it is.
    pub(crate) mark: Mark,
}

impl Applied {
    /// Reads the note; `None` where bootstrap has never been at this secret.
    pub(crate) fn read(metadata: &Metadata) -> Option<Self> {
        let version = metadata.custom_metadata.get(VERSION)?.parse().ok()?;
        let entries = metadata.custom_metadata.iter().filter(|(name, _)| name.starts_with(FOREIGN));
        let foreign =
            entries.flat_map(|(_, list)| serde_json::from_str::<Vec<String>>(list).unwrap_or_default());
        let foreign_role = metadata.custom_metadata.contains_key(FOREIGN_ROLE);
        let mark = Mark::of_secret(&metadata.custom_metadata);
        Some(Self { version, foreign: foreign.collect(), foreign_role, mark })
    }

    /// The custom metadata with this note in the place of an older one; what others wrote stays.
    pub(crate) fn write(&self, existing: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut custom = existing.clone();
        custom.retain(|name, _| name != VERSION && name != FOREIGN_ROLE && !name.starts_with(FOREIGN));
        custom.insert(VERSION.to_owned(), self.version.to_string());
        self.mark.on_secret(&mut custom);
        if self.foreign_role {
            custom.insert(FOREIGN_ROLE.to_owned(), "true".to_owned());
        }
        let mut list: Vec<&str> = Vec::new();
        let mut lists = Vec::new();
        for key in &self.foreign {
            list.push(key);
            if as_json(&list).len() > MAX_VALUE {
                list.pop();
                lists.push(as_json(&list));
                list = vec![key];
            }
        }
        if !list.is_empty() {
            lists.push(as_json(&list));
        }
        custom.extend(
            lists.into_iter().enumerate().map(|(index, list)| (format!("{FOREIGN}-{}", index + 1), list)),
        );
        custom
    }
}

fn as_json(list: &[&str]) -> String {
    // A list of strings is always JSON.
    serde_json::to_string(list).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote_and_leaves_the_rest() {
        let existing = BTreeMap::from([("owner".to_owned(), "team-a".to_owned())]);
        let many = Applied {
            version: 7,
            foreign: (0..100).map(|n| format!("SOMEBODY_ELSES_KEY_{n}")).collect(),
            foreign_role: true,
            mark: Mark { stack: Some("blue".to_owned()) },
        };
        let custom = many.write(&existing);
        assert_eq!(custom["owner"], "team-a");
        assert!(custom.values().all(|value| value.len() <= MAX_VALUE));
        let read = |custom_metadata| {
            Applied::read(&Metadata { current_version: 7, custom_metadata, versions: BTreeMap::new() })
        };
        assert_eq!(read(custom.clone()), Some(many));

        let none = Applied { version: 8, ..Applied::default() };
        assert_eq!(read(none.write(&custom)), Some(none));
        assert_eq!(read(existing), None);
    }
}
