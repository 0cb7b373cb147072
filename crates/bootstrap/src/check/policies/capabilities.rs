//! What a stanza lets do.

use super::Checking;
use crate::check::rule::Rule;
use crate::manifest::suggest;
use crate::policy::{Capability, Stanza};

impl Checking<'_> {
    pub(super) fn capabilities(&mut self, stanza: &Stanza) {
        self.unknown_capabilities(stanza);
        self.old_form(stanza);
        if !stanza.rule.denies {
            self.wide_capabilities(stanza);
        }
        if stanza.is_silent() {
            let why =
                format!("grants nothing on `{}`: a stanza without capabilities denies", stanza.path.text);
            let mend = "write capabilities = [\"read\"], or remove the stanza";
            self.note(Rule::PolicyNoCapability, stanza.path.offset, why, mend);
        }
    }

    fn unknown_capabilities(&mut self, stanza: &Stanza) {
        for capability in stanza.unknown_capabilities() {
            let word = capability.text.trim();
            let why = format!("there is no capability `{word}`: the server refuses the whole policy");
            let like = suggest(&word.to_lowercase(), Capability::policy_names());
            let mend = like.map_or_else(
                || "write \"read\", which is all that a service needs".to_owned(),
                |like| format!("write \"{like}\""),
            );
            self.note(Rule::PolicyUnknownCapability, capability.offset, why, mend);
        }
    }

    fn old_form(&mut self, stanza: &Stanza) {
        let Some(word) = &stanza.old_form else { return };
        let text = word.text.as_str();
        if stanza.unknown_old_form().is_some() {
            let why = format!("there is no policy `{text}`: the server refuses the whole policy");
            return self.note(
                Rule::PolicyUnknownCapability,
                word.offset,
                why,
                "write capabilities = [\"read\"]",
            );
        }
        let why = format!(
            "`policy = \"{text}\"` is the old form, {}",
            match text {
                "read" => "which grants list besides read",
                "write" => "which grants create, update, delete and list besides read",
                "sudo" => "which grants all there is, and the paths that are root's",
                _ => "which servers take for compatibility",
            }
        );
        let granted = if text == "deny" { "deny" } else { "read" };
        let mend = format!("write capabilities = [\"{granted}\"]");
        self.note(Rule::PolicyDeprecated, word.offset, why, mend);
    }

    /// Capabilities beyond reading. What other mounts than that of the secrets need is not known here, except
    /// that it is nothing of root's.
    fn wide_capabilities(&mut self, stanza: &Stanza) {
        if let Some((place, _)) = placed(stanza).find(|(_, capability)| *capability == "sudo") {
            let why = "`sudo` opens paths that are root's alone, and no secret needs it";
            self.note(Rule::PolicySudo, place, why, "write capabilities = [\"read\"]");
        }
        if !self.may_open_secrets(&stanza.rule.path) {
            return;
        }
        for (place, capability) in placed(stanza) {
            let (rule, why) = match capability {
                "update" if self.is_to_write(stanza.rule.path.as_str()) => continue,
                "create" | "update" | "patch" => (
                    Rule::PolicyWrite,
                    format!(
                        "`{capability}` lets whoever takes this service over change the secret under all that share it"
                    ),
                ),
                "delete" | "recover" => (
                    Rule::PolicyWrite,
                    format!("`{capability}` lets whoever takes this service over undo what is in the secret"),
                ),
                "list" | "scan" | "subscribe" => (
                    Rule::PolicyList,
                    format!(
                        "`{capability}` shows the names or the changes of secrets, which no service needs"
                    ),
                ),
                _ => continue,
            };
            self.note(rule, place, why, "write capabilities = [\"read\"]");
        }
    }
}

/// Every capability and where it is written. What the old form's `read` brings along is that form's fault.
fn placed(stanza: &Stanza) -> impl Iterator<Item = (usize, &str)> {
    let listed = stanza.capabilities.iter().map(|capability| (capability.offset, capability.text.as_str()));
    let old = stanza.old_form.iter().filter_map(|word| match word.text.as_str() {
        "write" => Some((word.offset, "update")),
        "sudo" => Some((word.offset, "sudo")),
        _ => None,
    });
    listed.chain(old)
}
