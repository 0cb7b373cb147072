//! Manifest, services and `.env` file together.

use std::collections::{BTreeMap, BTreeSet};

use env_file::EnvFile;
use secrecy::ExposeSecret;

use super::error::{Fault, ManifestError, ManifestErrors, Place, suggest};
use super::file::{KeyRule, Manifest, ServiceRules};
use super::pattern::{Closeness, Pattern};
use super::{GenerateSpec, Resolved, Service, Source};

/// Decides what each service's secret holds. `service_names` are those of the policies, each once; the services
/// come back in their order.
pub fn resolve(
    manifest: &Manifest,
    service_names: &[String],
    env: &EnvFile,
) -> Result<Resolved, ManifestErrors> {
    let (resolved, errors) = resolve_past_faults(manifest, service_names, env);
    if errors.is_empty() { Ok(resolved) } else { Err(ManifestErrors(errors)) }
}

/// Decides as [`resolve`] does; what is at fault is left out.
#[must_use]
pub fn resolve_past_faults(
    manifest: &Manifest,
    service_names: &[String],
    env: &EnvFile,
) -> (Resolved, Vec<ManifestError>) {
    let mut resolution = Resolution::new(manifest, service_names);
    resolution.check_names();
    resolution.check_policies();
    let mut resolved = Resolved::default();
    for entry in env.entries() {
        if entry.value.expose_secret().is_empty() && manifest.generates(&entry.key) {
            continue;
        }
        match resolution.owners(&entry.key) {
            Owners::Services(services) => {
                let value = Source::Env(entry.value.clone());
                resolution.give(&services, &entry.key, &value);
            }
            Owners::Ignored => resolved.ignored.push(entry.key.clone()),
            Owners::Nobody => resolved.unclaimed.push((entry.key.clone(), entry.line)),
        }
    }
    for (place, spec) in &manifest.generate {
        let missing = env.entry(&spec.env_key).is_none_or(|entry| entry.value.expose_secret().is_empty());
        if missing {
            resolution.generate(*place, spec);
        }
    }
    resolution.check_rules_used(env);
    resolved.services = resolution.services();
    (resolved, resolution.errors)
}

impl Manifest {
    fn generates(&self, key: &str) -> bool {
        self.generate.iter().any(|(_, spec)| spec.env_key == key)
    }
}

enum Owners<'a> {
    Services(Vec<&'a str>),
    Ignored,
    Nobody,
}

struct Resolution<'a> {
    manifest: &'a Manifest,
    names: &'a [String],
    /// What keys begin with, by convention, and the service that gets them.
    beginnings: BTreeMap<String, &'a str>,
    /// Service → key in `.env` → value.
    given: BTreeMap<&'a str, BTreeMap<String, Source>>,
    /// Which of the manifest's `[keys]` decided about a key.
    used: BTreeSet<usize>,
    errors: Vec<ManifestError>,
}

impl<'a> Resolution<'a> {
    fn new(manifest: &'a Manifest, names: &'a [String]) -> Self {
        let beginnings = names.iter().map(|name| (beginning(name), name.as_str())).collect();
        let given = names.iter().map(|name| (name.as_str(), BTreeMap::new())).collect();
        Self { manifest, names, beginnings, given, used: BTreeSet::new(), errors: Vec::new() }
    }

    fn refuse(&mut self, place: Place, fault: Fault) {
        self.errors.push(ManifestError { path: self.manifest.path.clone(), place: Some(place), fault });
    }

    fn check_names(&mut self) {
        let mut holders: BTreeMap<String, &str> = BTreeMap::new();
        for name in self.names {
            let fault = if !is_service_name(name) {
                Fault::ServiceName(name.clone())
            } else if let Some(other) = holders.insert(beginning(name), name) {
                Fault::SamePrefix { one: other.to_owned(), other: name.clone(), prefix: beginning(name) }
            } else {
                continue;
            };
            self.errors.push(ManifestError { path: format!("{name}-policy.hcl").into(), place: None, fault });
        }
    }

    /// Every service that the manifest names must have a policy.
    fn check_policies(&mut self) {
        let in_keys = self.manifest.keys.iter().flat_map(|rule| &rule.services);
        let in_keys = in_keys.map(|(place, name)| (*place, name));
        let tables = self.manifest.services.iter().map(|(name, rules)| (rules.place, name));
        for (place, name) in in_keys.chain(tables) {
            if !self.given.contains_key(name.as_str()) {
                let suggestion = suggest(name, self.names.iter().map(String::as_str));
                self.refuse(place, Fault::NoPolicy { service: name.clone(), suggestion });
            }
        }
    }

    /// Who gets `key`: the closest pattern decides, the manifest's before the convention's.
    fn owners(&mut self, key: &str) -> Owners<'a> {
        let manifest = self.manifest;
        let rule = closest(manifest.keys.iter().map(|rule| &rule.pattern), key);
        let ignored =
            closest(manifest.ignore.iter().map(|(_, pattern)| pattern), key).map(|(closeness, _)| closeness);
        let convention = self.convention(key);
        let by_convention = convention.map(|(closeness, _)| closeness);
        match rule {
            Some((closeness, index)) if Some(closeness) >= ignored && Some(closeness) >= by_convention => {
                self.used.insert(index);
                let KeyRule { services, .. } = &manifest.keys[index];
                Owners::Services(services.iter().map(|(_, name)| name.as_str()).collect())
            }
            _ if ignored.is_some() && ignored >= by_convention => Owners::Ignored,
            _ => convention.map_or(Owners::Nobody, |(_, service)| Owners::Services(vec![service])),
        }
    }

    /// The service whose beginning is the longest that `key` has.
    fn convention(&self, key: &str) -> Option<(Closeness, &'a str)> {
        key.rmatch_indices('_').find_map(|(underscore, _)| {
            let beginning = &key[..=underscore];
            Some((Closeness::Beginning(beginning.len()), *self.beginnings.get(beginning)?))
        })
    }

    fn give(&mut self, services: &[&'a str], key: &str, value: &Source) {
        for service in services {
            // A service without a policy is refused elsewhere.
            if let Some(keys) = self.given.get_mut(service) {
                keys.insert(key.to_owned(), value.clone());
            }
        }
    }

    fn generate(&mut self, place: Place, spec: &GenerateSpec) {
        match self.owners(&spec.env_key) {
            Owners::Services(services) => {
                self.give(&services, &spec.env_key, &Source::Generate(spec.clone()));
            }
            Owners::Ignored | Owners::Nobody => {
                self.refuse(place, Fault::GeneratedForNobody(spec.env_key.clone()));
            }
        }
    }

    fn check_rules_used(&mut self, env: &EnvFile) {
        let manifest = self.manifest;
        for (index, rule) in manifest.keys.iter().enumerate() {
            if !self.used.contains(&index) {
                let pattern = rule.pattern.to_string();
                let suggestion = suggest(&pattern, env.entries().iter().map(|entry| entry.key.as_str()));
                self.refuse(rule.place, Fault::MatchesNothing { pattern, suggestion });
            }
        }
    }

    fn services(&mut self) -> Vec<Service> {
        let names = self.names;
        names.iter().map(|name| self.service(name)).collect()
    }

    fn service(&mut self, name: &'a str) -> Service {
        let keys = self.given.remove(name).unwrap_or_default();
        let rules = self.manifest.services.get(name);
        let settings = rules.map(|rules| rules.settings).unwrap_or_default().or(self.manifest.defaults);
        let secret = match rules {
            Some(rules) => self.renamed(name, rules, keys),
            None => keys,
        };
        let cidrs = rules.map(|rules| rules.cidrs.clone()).unwrap_or_default();
        Service { name: name.to_owned(), secret, ttls: settings.ttls(), cidrs, files: settings.files() }
    }

    fn renamed(
        &mut self,
        service: &str,
        rules: &ServiceRules,
        mut keys: BTreeMap<String, Source>,
    ) -> BTreeMap<String, Source> {
        let mut renamed = Vec::new();
        for (place, key, name) in &rules.rename {
            if let Some(source) = keys.remove(key) {
                renamed.push((*place, name, source));
            } else {
                let suggestion = suggest(key, keys.keys().map(String::as_str));
                let (service, key) = (service.to_owned(), key.clone());
                self.refuse(*place, Fault::RenamesNothing { service, key, suggestion });
            }
        }
        for (place, name, source) in renamed {
            if keys.insert(name.clone(), source).is_some() {
                let (service, name) = (service.to_owned(), name.clone());
                self.refuse(place, Fault::SameName { service, name });
            }
        }
        keys
    }
}

/// The index of the pattern that fits `key` closest, and how closely.
fn closest<'p>(patterns: impl Iterator<Item = &'p Pattern>, key: &str) -> Option<(Closeness, usize)> {
    patterns.enumerate().filter_map(|(index, pattern)| Some((pattern.fits(key)?, index))).max()
}

/// What the keys of a service begin with, by convention.
fn beginning(service: &str) -> String {
    format!("{}_", service.to_uppercase().replace('-', "_"))
}

/// Whether this can be a service: a name that means nothing else in a path.
pub(crate) fn is_service_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(plain) && name.chars().all(|c| plain(c) || matches!(c, '-' | '_'))
}
