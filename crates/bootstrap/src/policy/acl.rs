//! Which rule decides about a path, as the servers' own access control does it (`vault/acl.go` in both).
//!
//! A rule whose path is the whole path; else the most specific of those with wildcards. Nothing is added up but
//! rules for the very same path, of which one that denies wins.

use std::collections::{BTreeMap, BTreeSet};

use super::{Capabilities, PathRule};

/// The rules of all policies of a token.
#[derive(Clone, Debug, Default)]
pub struct Acl {
    exact: BTreeMap<String, Grant>,
    /// By what comes before the `*` at the end.
    prefixes: BTreeMap<String, Grant>,
    /// With a `+` for a whole segment, and perhaps a `*` at the end.
    segments: BTreeMap<String, Grant>,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    capabilities: Capabilities,
    denies: bool,
}

impl Acl {
    /// The access that these rules make together.
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a PathRule>) -> Self {
        let mut acl = Self::default();
        for rule in rules {
            let (rules, path) = match rule.path.strip_suffix('*') {
                _ if has_segments(&rule.path) => (&mut acl.segments, rule.path.as_str()),
                Some(prefix) => (&mut acl.prefixes, prefix),
                None => (&mut acl.exact, rule.path.as_str()),
            };
            let grant = Grant { capabilities: rule.capabilities, denies: rule.denies };
            rules.entry(path.to_owned()).and_modify(|known| known.join(grant)).or_insert(grant);
        }
        acl
    }

    /// What may be done to `path`, which is one below `/v1/`.
    ///
    /// For one that ends in a slash, as that of a list request does, the rules for it without the slash stand in
    /// where there are none for it with.
    #[must_use]
    pub fn capabilities(&self, path: &str) -> Capabilities {
        let path = path.trim_start_matches('/');
        let short = path.strip_suffix('/').unwrap_or(path);
        let grant = self.exact.get(path).or_else(|| self.exact.get(short));
        let grant = grant.or_else(|| self.closest(path)).or_else(|| self.closest(short));
        grant.map_or(Capabilities::NONE, |grant| grant.effective())
    }

    /// The paths of the rules, a `*` at the end of those that are beginnings.
    pub(crate) fn rule_paths(&self) -> impl Iterator<Item = String> {
        let whole = self.exact.keys().chain(self.segments.keys()).cloned();
        whole.chain(self.prefixes.keys().map(|prefix| format!("{prefix}*")))
    }

    /// The paths of the rules that are not the same in both.
    pub(crate) fn differing(&self, other: &Self) -> Vec<String> {
        let paths: BTreeSet<String> = self.rule_paths().chain(other.rule_paths()).collect();
        paths.into_iter().filter(|path| self.granted_by(path) != other.granted_by(path)).collect()
    }

    /// What the rule of this very path grants; `None` where there is none.
    pub(crate) fn granted_by(&self, rule_path: &str) -> Option<Capabilities> {
        let prefix = rule_path.strip_suffix('*').and_then(|prefix| self.prefixes.get(prefix));
        let grant = self.exact.get(rule_path).or_else(|| self.segments.get(rule_path)).or(prefix)?;
        Some(grant.effective())
    }

    /// The most specific rule with a wildcard that matches.
    fn closest(&self, path: &str) -> Option<&Grant> {
        let prefixes = self.prefixes.iter().filter(|(prefix, _)| path.starts_with(prefix.as_str()));
        let prefixes = prefixes.map(|(prefix, grant)| (Closeness::of_prefix(prefix), grant));
        let segments = self.segments.iter().filter(|(pattern, _)| matches(pattern, path));
        let segments = segments.map(|(pattern, grant)| (Closeness::of_pattern(pattern), grant));
        prefixes.chain(segments).max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, grant)| grant)
    }
}

impl Grant {
    fn effective(self) -> Capabilities {
        if self.denies { Capabilities::NONE } else { self.capabilities }
    }

    fn join(&mut self, other: Self) {
        self.denies |= other.denies;
        self.capabilities = self.capabilities.and(other.capabilities);
    }
}

/// The order among rules with wildcards, the closest the greatest: where the first wildcard is; no `*` at the
/// end before one; the fewer `+`; the longer; the later in the alphabet.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Closeness<'a> {
    first_wildcard: usize,
    is_whole: bool,
    plusses: std::cmp::Reverse<usize>,
    length: usize,
    path: &'a str,
}

impl<'a> Closeness<'a> {
    fn of_prefix(prefix: &'a str) -> Self {
        let plusses = std::cmp::Reverse(0);
        Self { first_wildcard: prefix.len(), is_whole: false, plusses, length: prefix.len(), path: prefix }
    }

    fn of_pattern(pattern: &'a str) -> Self {
        let path = pattern.strip_suffix('*').unwrap_or(pattern);
        Self {
            first_wildcard: pattern.find('+').unwrap_or(pattern.len()),
            is_whole: path.len() == pattern.len(),
            plusses: std::cmp::Reverse(path.split('/').filter(|segment| *segment == "+").count()),
            length: path.len(),
            path,
        }
    }
}

/// Whether a rule is one with `+`. A segment that only begins with it counts too, and matches as it stands.
pub(crate) fn has_segments(rule_path: &str) -> bool {
    rule_path == "+" || rule_path.starts_with("+/") || rule_path.contains("/+")
}

/// Whether a pattern with `+` segments matches: each stands for one segment, a `*` at the end for all the rest.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, is_prefix) = match pattern.strip_suffix('*') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let (wanted, found): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    if found.len() < wanted.len() || (!is_prefix && found.len() != wanted.len()) {
        return false;
    }
    let last = wanted.len() - 1;
    wanted.iter().zip(&found).enumerate().all(|(index, (wanted, found))| {
        let is_open = is_prefix && index == last;
        *wanted == "+" || wanted == found || (is_open && found.starts_with(wanted))
    })
}
