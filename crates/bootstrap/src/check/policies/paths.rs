//! What a stanza's path leads to.

use super::Checking;
use crate::check::rule::Rule;
use crate::manifest::suggest;
use crate::policy::Stanza;

/// What stands before a secret's name in the paths of KV v2.
const KV2_FORMS: &[&str] = &["data", "metadata", "delete", "undelete", "destroy", "subkeys"];

/// What every token may do by the server's own policy, and may as well be written out.
const SELF_PATHS: &[&str] =
    &["auth/token/lookup-self", "auth/token/renew-self", "auth/token/revoke-self", "sys/capabilities-self"];

/// Where the server itself is ruled.
const SYSTEM_MOUNTS: &[&str] = &["auth", "cubbyhole", "identity", "sys"];

impl Checking<'_> {
    pub(super) fn path(&mut self, stanza: &Stanza) {
        let (path, offset) = (stanza.rule.path.as_str(), stanza.path.offset);
        if SELF_PATHS.contains(&path) {
            return;
        }
        let first = path.split('/').next().unwrap_or_default();
        if SYSTEM_MOUNTS.contains(&first) {
            let why = format!(
                "`{path}` rules the server itself, or who may log in, which is no service's business"
            );
            self.note(
                Rule::PolicySystemPath,
                offset,
                why,
                "remove the stanza; what an operator needs goes into a policy of its own, elsewhere",
            );
        } else if is_wildcard(path) || path.contains('*') {
            self.wildcard(path, offset);
        } else if let Some(below) = path.strip_prefix(self.mount).and_then(|rest| rest.strip_prefix('/')) {
            self.secret(below, offset);
        } else {
            self.other_mount(path, first, offset);
        }
    }

    /// Whether there are paths on the mount of the secrets among those that `pattern` stands for.
    pub(super) fn may_open_secrets(&self, pattern: &str) -> bool {
        let first = pattern.split('/').next().unwrap_or_default();
        let below = pattern.strip_prefix(self.mount);
        below.is_some_and(|rest| rest.starts_with('/'))
            || first == "+"
            || first.strip_suffix('*').is_some_and(|beginning| self.mount.starts_with(beginning))
    }

    fn wildcard(&mut self, path: &str, offset: usize) {
        let why = if is_wildcard(path) {
            format!("`{path}` opens every secret that fits it, those of services to come too")
        } else {
            format!("`{path}`: a `*` that is not at the end stands for itself, so that this path is nobody's")
        };
        let mend = format!("name each secret, as in {}", self.own_stanza());
        self.note(Rule::PolicyWildcard, offset, why, mend);
    }

    /// A path on the mount of the secrets; `below` is what follows the mount.
    fn secret(&mut self, below: &str, offset: usize) {
        let mount = self.mount;
        let form = below.split_once('/').filter(|(form, _)| KV2_FORMS.contains(form));
        let Some((form, name)) = form else {
            let why =
                format!("`{mount}/{below}` is no path of KV v2, where secrets are read below {mount}/data/");
            let name = below.trim_matches('/');
            let known = self.known(name).unwrap_or_else(|| name.to_owned());
            let mend = if KV2_FORMS.contains(&below) {
                format!("name a secret: {}", self.own_stanza())
            } else {
                format!("write path \"{mount}/data/{known}\"")
            };
            return self.note(Rule::PolicyKv2Data, offset, why, mend);
        };
        if self.services.iter().any(|service| service == name) {
            return;
        }
        let why = format!("no service holds the secret {mount}/{name}: there is no {name}-policy.hcl");
        let mend = self.known(name).map_or_else(
            || format!("name a service's secret, as in {}", self.own_stanza()),
            |known| format!("write path \"{mount}/{form}/{known}\""),
        );
        self.note(Rule::PolicyUnknownSecret, offset, why, mend);
    }

    /// The service that `name` may be a slip for.
    fn known(&self, name: &str) -> Option<String> {
        suggest(name.trim_matches('/'), self.services.iter().map(String::as_str))
    }

    fn other_mount(&mut self, path: &str, first: &str, offset: usize) {
        let mount = self.mount;
        let why = format!(
            "`{path}` is not on the mount {mount}/: bootstrap makes nothing there, and what it opens cannot be judged here"
        );
        let rest = path.strip_prefix(first).unwrap_or_default();
        let mend = if KV2_FORMS.contains(&first) {
            format!("write path \"{mount}/{path}\"")
        } else if suggest(first, [mount].into_iter()).is_some() {
            format!("write path \"{mount}{rest}\"")
        } else {
            "see to it yourself that the mount and the path are there; or remove the stanza".to_owned()
        };
        self.note(Rule::PolicyOtherMount, offset, why, mend);
    }
}

/// Whether it stands for more than one path: a `*` at the end, a `+` that is all of a segment.
fn is_wildcard(pattern: &str) -> bool {
    pattern.ends_with('*') || pattern.split('/').any(|segment| segment == "+")
}
