//! Rules about policies: the least that a service needs is to read its own secret.

mod capabilities;
mod paths;

use std::collections::HashMap;
use std::path::Path;

use super::finding::Finding;
use super::inputs::{Inputs, PolicyFile};
use super::manifest::Claims;
use super::rule::Rule;
use crate::desired::POLICY_FILE;
use crate::manifest::{Place, suggest};
use crate::policy::{Acl, Capability, Stanza, Stanzas, Text};

/// Looks at every policy, and at what else is in their directory.
pub(super) fn check(inputs: &Inputs, claims: &Claims, findings: &mut Vec<Finding>) {
    let is_listed = inputs.policies_dir.is_dir();
    if inputs.policies.is_empty() && is_listed {
        let why = "holds no <service>-policy.hcl, so that there is no service";
        let mend =
            "write one <service>-policy.hcl for each service, or name another directory with --policies-dir";
        findings.push(Finding::of_file(Rule::NoPolicies, &inputs.policies_dir, why, mend));
    }
    findings.extend(inputs.other_files.iter().filter_map(|name| file_name(name, inputs)));
    let services = inputs.services();
    for file in &inputs.policies {
        if let Some(text) = &file.text {
            let rotates = claims.rotates(&file.service);
            Checking { file, text, services: &services, rotates, mount: &inputs.kv_mount, findings }.run();
        }
    }
}

/// A file that looks like a policy and is taken for none.
fn file_name(name: &str, inputs: &Inputs) -> Option<Finding> {
    let extension = Path::new(name).extension().is_some_and(|found| found == "hcl" || found == "json");
    let looks_like_one = extension || name.contains("policy");
    if !looks_like_one || name.starts_with('.') {
        return None;
    }
    let stem = name.split('.').next().unwrap_or(name);
    let service = stem.strip_suffix("policy").unwrap_or(stem).trim_end_matches(['-', '_']);
    let service = if service.is_empty() { "<service>" } else { service };
    let path = inputs.policies_dir.join(name);
    let why = "is no policy by its name, and is left alone: a policy's is <service>-policy.hcl";
    let mend = format!(
        "mv {} {}, or move it to another directory",
        path.display(),
        inputs.policies_dir.join(format!("{service}{POLICY_FILE}")).display()
    );
    Some(Finding::of_file(Rule::PolicyFileName, &path, why, mend))
}

/// One policy being looked at.
struct Checking<'a> {
    file: &'a PolicyFile,
    text: &'a str,
    services: &'a [String],
    /// Those whose secrets it is there to write.
    rotates: &'a [String],
    mount: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl Checking<'_> {
    fn note(&mut self, rule: Rule, offset: usize, why: impl Into<String>, mend: impl Into<String>) {
        let place = Place::of(self.text, offset);
        self.findings.push(Finding::of_file(rule, &self.file.path, why, mend).at(place));
    }

    /// What is to be written so that the service can read its secret.
    fn own_stanza(&self) -> String {
        format!("path \"{}\" {{ capabilities = [\"read\"] }}", self.own_path())
    }

    /// Whether the manifest says that this service is there to write this one secret.
    fn is_to_write(&self, pattern: &str) -> bool {
        self.rotates.iter().any(|service| pattern == format!("{}/data/{service}", self.mount))
    }

    fn own_path(&self) -> String {
        format!("{}/data/{}", self.mount, self.file.service)
    }

    fn run(mut self) {
        let policy = match Stanzas::read(self.text) {
            Ok(policy) => policy,
            Err(error) => {
                let why = format!(
                    "cannot be judged here: {error}; a server may take it all the same, and decides at the apply"
                );
                let mend = format!("write it in the usual form, {}", self.own_stanza());
                return self.note(Rule::PolicySyntax, error.offset, why, mend);
            }
        };
        self.unknown_keys(&policy);
        if policy.all.is_empty() {
            let why =
                format!("grants nothing, so that {} cannot even read its own secret", self.file.service);
            let mend = format!("write {}", self.own_stanza());
            self.findings.push(Finding::of_file(Rule::PolicyEmpty, &self.file.path, why, mend));
            return;
        }
        self.duplicates(&policy.all);
        for stanza in &policy.all {
            self.stanza(stanza);
        }
        self.own_secret(&policy.all);
    }

    fn unknown_keys(&mut self, policy: &Stanzas<'_>) {
        for (Text { text, offset }, known) in &policy.unknown_keys {
            let why = format!("no server is known to take `{text}` here; OpenBao refuses the whole policy");
            let mend = match suggest(text, known.iter().copied()) {
                Some(like) => format!("write `{like}`"),
                None => "remove it; for people there is `comment = \"…\"` in a stanza".to_owned(),
            };
            self.note(Rule::PolicyUnknownKey, *offset, why, mend);
        }
    }

    fn duplicates(&mut self, stanzas: &[Stanza]) {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for stanza in stanzas {
            let offset = stanza.path.offset;
            if let Some(first) = seen.get(stanza.rule.path.as_str()) {
                let line = Place::of(self.text, *first).line;
                let why = format!(
                    "`{}` has a stanza on line {line} already; the server adds their capabilities up, and one deny \
                     outweighs all",
                    stanza.rule.path.as_str()
                );
                self.note(Rule::PolicyDuplicatePath, offset, why, "write one stanza with what both grant");
            }
            seen.entry(stanza.rule.path.as_str()).or_insert(offset);
        }
    }

    fn stanza(&mut self, stanza: &Stanza) {
        self.capabilities(stanza);
        // What denies takes nothing too much, wherever.
        if stanza.rule.denies {
            return;
        }
        if !(stanza.rule.is_templated() || stanza.rule.expires) {
            return self.path(stanza);
        }
        let why = if stanza.rule.is_templated() {
            "the server fills in this path for each token: whose secrets it opens cannot be judged here"
        } else {
            "this stanza ends on a day: what it opens cannot be judged here"
        };
        let mend = format!("where it is for one service, name its secret: {}", self.own_stanza());
        self.note(Rule::PolicyConditional, stanza.path.offset, why, mend);
    }

    fn secrets_to_write(&mut self, stanzas: &[Stanza]) {
        let acl = Acl::new(stanzas.iter().map(|stanza| &stanza.rule));
        for service in self.rotates {
            let path = format!("{}/data/{service}", self.mount);
            let granted = acl.capabilities(&path);
            if granted.has(Capability::Read) && granted.has(Capability::Update) {
                continue;
            }
            let why = format!("{} is to rotate what is in {path}, and may not", self.file.service);
            let mend = format!("write path \"{path}\" {{ capabilities = [\"read\", \"update\"] }}");
            self.findings.push(Finding::of_file(Rule::RotationCopy, &self.file.path, why, mend));
        }
    }

    fn own_secret(&mut self, stanzas: &[Stanza]) {
        if !self.rotates.is_empty() {
            return self.secrets_to_write(stanzas);
        }
        let path = self.own_path();
        let certain: Vec<&Stanza> =
            stanzas.iter().filter(|stanza| !stanza.rule.is_templated() && !stanza.rule.expires).collect();
        let denied = certain.iter().any(|stanza| stanza.rule.path.as_str() == path && stanza.rule.denies);
        let reads =
            Acl::new(certain.iter().map(|stanza| &stanza.rule)).capabilities(&path).has(Capability::Read);
        if reads || certain.len() < stanzas.len() && !denied {
            return;
        }
        let why = format!("{} cannot read its own secret, {path}", self.file.service);
        let mend =
            if denied { format!("remove the deny of {path}") } else { format!("add {}", self.own_stanza()) };
        self.findings.push(Finding::of_file(Rule::PolicyOwnSecret, &self.file.path, why, mend));
    }
}
