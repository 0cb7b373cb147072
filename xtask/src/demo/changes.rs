//! What a run altered: what there is, compared before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use harness::{Postgres, Vault};
use serde_json::Value;

use super::proof::root_token;
use super::stage::Stage;
use crate::error::{Error, Result};

/// A kind of thing, in the plural, and one thing's name.
type Name = (&'static str, String);

/// Everything that the crew made, by name. It holds secrets, and is never shown.
pub(super) struct Snapshot(BTreeMap<Name, String>);

/// The most changes that are named one by one.
const MOST: usize = 6;

impl Snapshot {
    /// The files of keys and credentials.
    pub(super) fn of_files(stage: &Stage) -> Result<Self> {
        let mut things = BTreeMap::new();
        for dir in [stage.keys(), stage.approle(), stage.bootstrap_state()] {
            add_files(&mut things, &dir)?;
        }
        Ok(Self(things))
    }

    /// The same, with what the servers hold.
    pub(super) fn and_servers(
        self,
        stage: &Stage,
        vault: &Vault,
        postgres: &Postgres,
        services: &[String],
    ) -> Result<Self> {
        let Self(mut things) = self;
        let token = root_token(stage)?;
        let mut ask = |kind, name: &str, path: &str, part: &str| -> Result<()> {
            let (status, answer) = vault.client().send("GET", path, &token, &Value::Null)?;
            if status == 200 {
                things.insert(
                    (kind, name.to_owned()),
                    answer["data"].pointer(part).unwrap_or(&answer["data"]).to_string(),
                );
            }
            Ok(())
        };
        for service in services {
            let policy = format!("{service}-policy");
            ask("secrets", service, &format!("/v1/secret/metadata/{service}"), "/current_version")?;
            ask("policies", &policy, &format!("/v1/sys/policies/acl/{policy}"), "")?;
            ask("AppRoles", service, &format!("/v1/auth/approle/role/{service}"), "")?;
        }
        ask("mounts", "secrets engines", "/v1/sys/mounts", "")?;
        ask("mounts", "auth methods", "/v1/sys/auth", "")?;
        let rows = "SELECT rolname || ' ' || coalesce(rolpassword, '') FROM pg_authid UNION ALL \
                    SELECT datname || ' ' || datdba || ' ' || coalesce(datacl::text, '') FROM pg_database";
        let sql = postgres.psql("postgres", postgres.password(), "postgres", rows);
        let rows = sql.map_err(|said| Error::Failed { doing: "look at the databases".to_owned(), said })?;
        for row in rows.lines() {
            let name = row.split(' ').next().unwrap_or_default();
            things.entry(("databases and roles", name.to_owned())).or_default().push_str(row);
        }
        Ok(Self(things))
    }

    /// What differs, or is there in one only: by name where it is little, else by number.
    pub(super) fn changes(&self, after: &Self) -> Vec<String> {
        let names: BTreeSet<&Name> = self.0.keys().chain(after.0.keys()).collect();
        let differs = |name: &&Name| self.0.get(*name) != after.0.get(*name);
        let changed: Vec<&Name> = names.into_iter().filter(differs).collect();
        if changed.len() <= MOST {
            return changed.into_iter().map(|(kind, name)| format!("{name} ({kind})")).collect();
        }
        let mut numbers = BTreeMap::<&str, usize>::new();
        for (kind, _) in changed {
            *numbers.entry(kind).or_default() += 1;
        }
        numbers.into_iter().map(|(kind, number)| format!("{number} {kind}")).collect()
    }
}

fn add_files(things: &mut BTreeMap<Name, String>, path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let reading = || Error::io(format!("read {}", path.display()));
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(reading())? {
            let entry = entry.map_err(reading())?;
            // The generations behind a directory's links: their files are seen through the links.
            if !entry.file_name().as_encoded_bytes().starts_with(b"..") {
                add_files(things, &entry.path())?;
            }
        }
        return Ok(());
    }
    let content = fs::read(path).map_err(reading())?;
    things.insert(("files", path.display().to_string()), String::from_utf8_lossy(&content).into_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(kind: &'static str, things: &[(&str, &str)]) -> Snapshot {
        let thing = |(name, value): &(&str, &str)| ((kind, (*name).to_owned()), (*value).to_owned());
        Snapshot(things.iter().map(thing).collect())
    }

    #[test]
    fn what_is_new_gone_or_different_is_named_and_the_rest_is_not() {
        let before = snapshot("files", &[("gone", "1"), ("same", "1"), ("different", "1")]);
        let after = snapshot("files", &[("same", "1"), ("different", "2"), ("new", "1")]);
        assert_eq!(before.changes(&after), ["different (files)", "gone (files)", "new (files)"]);
        assert!(after.changes(&after).is_empty());
    }

    #[test]
    fn many_changes_are_counted() {
        let names = ["1", "2", "3", "4", "5", "6", "7"].map(|name| (name, ""));
        assert_eq!(snapshot("files", &[]).changes(&snapshot("files", &names)), ["7 files"]);
    }
}
