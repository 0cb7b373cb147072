//! `bootstrap access`: who may read which secret, and which keys are in it. From the files alone.

mod page;
mod picture;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use agent_runtime::Exit;
use serde::Serialize;

use crate::BootstrapError;
use crate::args::{AccessFormat, Sources};
use crate::desired::{Desired, POLICY_FILE, policy_texts};
use crate::policy::{self, Acl, Capabilities, Capability, PathRule};

/// Who may read what. Everything in it is in the order of the names.
#[derive(Debug, Serialize)]
pub(crate) struct Access {
    kv_mount: String,
    services: Vec<Reader>,
    secrets: Vec<Secret>,
    /// Key → the secrets that hold it, for those that several do.
    shared_keys: BTreeMap<String, Vec<String>>,
}

/// A service and what its policy opens to it.
#[derive(Debug, Serialize)]
struct Reader {
    service: String,
    secrets: Vec<Reach>,
    /// What it may do to paths that are no secrets of this mount.
    elsewhere: Vec<Elsewhere>,
}

#[derive(Debug, Serialize)]
struct Reach {
    secret: String,
    capabilities: Capabilities,
}

#[derive(Debug, Serialize)]
struct Elsewhere {
    path: String,
    capabilities: Capabilities,
}

/// A secret, or with a wildcard in its name whatever fits it.
#[derive(Debug, Serialize)]
struct Secret {
    #[serde(rename = "secret")]
    name: String,
    /// Names of keys; none are known of a secret that the files do not fill.
    keys: Vec<String>,
    /// Whether the files fill it.
    in_files: bool,
    readers: Vec<String>,
}

/// Prints it.
pub(crate) fn command(sources: &Sources, kv: &str, format: AccessFormat) -> Result<Exit, BootstrapError> {
    let desired = Desired::load(sources)?;
    let mut rules = BTreeMap::new();
    for (service, text) in policy_texts(&sources.policies_dir)? {
        let path = sources.policies_dir.join(format!("{service}{POLICY_FILE}"));
        let read = policy::parse(&text).map_err(|cause| BootstrapError::PolicyText { path, cause })?;
        rules.insert(service, read);
    }
    let keys = |service: &crate::desired::DesiredService| {
        (service.name.clone(), service.secret.keys().cloned().collect())
    };
    let access = Access::new(kv, &rules, &desired.services.iter().map(keys).collect());
    agent_runtime::print(&match format {
        AccessFormat::Text => text::table(&access),
        // Strings and lists are always JSON.
        AccessFormat::Json => serde_json::to_string_pretty(&access).unwrap_or_default() + "\n",
        AccessFormat::Html => page::html(&access),
    })?;
    Ok(Exit::Done)
}

impl Access {
    /// By the services' policies and the keys of their secrets.
    fn new(kv: &str, rules: &BTreeMap<String, Vec<PathRule>>, keys: &BTreeMap<String, Vec<String>>) -> Self {
        let services: Vec<Reader> =
            rules.iter().map(|(service, rules)| Reader::new(service, kv, rules, keys)).collect();
        let reached = services.iter().flat_map(|reader| reader.secrets.iter().map(|reach| &reach.secret));
        let names: BTreeSet<&String> = keys.keys().chain(reached).collect();
        let secret = |name: &String| Secret {
            name: name.clone(),
            keys: keys.get(name).cloned().unwrap_or_default(),
            in_files: keys.contains_key(name),
            readers: services
                .iter()
                .filter(|reader| reader.reads(name))
                .map(|reader| reader.service.clone())
                .collect(),
        };
        // Those that the files do not fill come last.
        let (known, foreign): (Vec<_>, Vec<_>) =
            names.into_iter().map(secret).partition(|secret| secret.in_files);
        let mut holders: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (secret, keys) in keys {
            for key in keys {
                holders.entry(key.clone()).or_default().push(secret.clone());
            }
        }
        holders.retain(|_, secrets| secrets.len() > 1);
        let secrets = known.into_iter().chain(foreign).collect();
        Self { kv_mount: kv.to_owned(), services, secrets, shared_keys: holders }
    }
}

impl Reader {
    fn new(service: &str, kv: &str, rules: &[PathRule], keys: &BTreeMap<String, Vec<String>>) -> Self {
        let acl = Acl::new(rules);
        let data = format!("{kv}/data/");
        let mut reached: BTreeMap<String, Capabilities> =
            keys.keys().map(|name| (name.clone(), acl.capabilities(&format!("{data}{name}")))).collect();
        let mut elsewhere = BTreeMap::new();
        for rule in rules {
            match rule.path.strip_prefix(&data) {
                Some(name) if keys.contains_key(name) => {}
                Some(name) => {
                    let known = reached.entry(name.to_owned()).or_default();
                    *known = known.and(rule.capabilities);
                }
                None => {
                    let known: &mut Capabilities = elsewhere.entry(rule.path.clone()).or_default();
                    *known = known.and(rule.capabilities);
                }
            }
        }
        let open = |capabilities: &Capabilities| !capabilities.is_none();
        let secrets = reached.into_iter().filter(|(_, capabilities)| open(capabilities));
        let elsewhere = elsewhere.into_iter().filter(|(_, capabilities)| open(capabilities));
        Self {
            service: service.to_owned(),
            secrets: secrets.map(|(secret, capabilities)| Reach { secret, capabilities }).collect(),
            elsewhere: elsewhere.map(|(path, capabilities)| Elsewhere { path, capabilities }).collect(),
        }
    }

    fn reads(&self, secret: &str) -> bool {
        self.secrets.iter().any(|reach| reach.secret == secret && reach.capabilities.has(Capability::Read))
    }
}

impl Reach {
    /// Whether it may do more than read.
    fn is_wider(&self) -> bool {
        !self.capabilities.without([Capability::Read].into_iter().collect()).is_none()
    }
}

impl Secret {
    /// What a person is told about who reads it.
    fn read_by(&self) -> String {
        match self.readers.as_slice() {
            [] => "read by nobody".to_owned(),
            [one] => format!("read by {one} alone"),
            [others @ .., last] if others.len() < 3 => format!("read by {} and {last}", others.join(", ")),
            several => format!("read by {} services", several.len()),
        }
    }
}

/// What the crew itself can reach, which is in no service's policy.
const CREW: [&str; 2] = [
    "bootstrap fills the secrets and hands every service its credentials: while it has the root token it can read \
     and change everything, and afterwards whatever any service can read.",
    "unsealer keeps the key shares: with them it can make a new root token, and so reach everything.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_keys_become_who_reads_what() {
        let rules = |text: &str| policy::parse(text).unwrap();
        let policies = BTreeMap::from([
            (
                "a".to_owned(),
                rules(
                    r#"path "kv/data/a" { capabilities = ["read"] } path "kv/data/b" { capabilities = ["read", "update"] }"#,
                ),
            ),
            (
                "b".to_owned(),
                rules(
                    r#"path "kv/data/*" { capabilities = ["read"] } path "kv/data/a" { capabilities = ["deny"] }"#,
                ),
            ),
            (
                "c".to_owned(),
                rules(
                    r#"path "kv/data/old" { capabilities = ["read"] } path "transit/x" { capabilities = ["update"] }"#,
                ),
            ),
        ]);
        let keys = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let secrets = BTreeMap::from([
            ("a".to_owned(), keys(&["A_KEY", "SHARED"])),
            ("b".to_owned(), keys(&["SHARED"])),
            ("c".to_owned(), keys(&[])),
        ]);
        let access = Access::new("kv", &policies, &secrets);
        let seen: Vec<_> =
            access.secrets.iter().map(|secret| (secret.name.as_str(), secret.read_by())).collect();
        let wanted = [
            ("a", "read by a alone"),
            ("b", "read by a and b"),
            ("c", "read by b alone"),
            ("*", "read by b alone"),
            ("old", "read by c alone"),
        ];
        assert_eq!(seen, wanted.map(|(secret, told)| (secret, told.to_owned())));
        assert_eq!(access.shared_keys["SHARED"], ["a", "b"]);
        assert!(access.services[0].secrets[1].is_wider());
        assert_eq!(access.services[2].elsewhere[0].path, "transit/x");
    }
}
