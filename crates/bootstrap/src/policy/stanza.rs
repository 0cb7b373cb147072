//! What a policy says: its stanzas, of whatever form, with the places of what they say.

use super::hcl::{self, Item, SyntaxError, Text, Value};
use super::{Capabilities, Capability, PathRule};
use crate::manifest::Place;

/// What a text says.
#[derive(Debug)]
pub(crate) struct Stanzas<'a> {
    text: &'a str,
    pub(crate) all: Vec<Stanza>,
    /// Names at the top and in stanzas that no server is known to take, and what may have been meant.
    pub(crate) unknown_keys: Vec<(Text, &'static [&'static str])>,
}

/// One `path "…" { … }`.
#[derive(Debug)]
pub(crate) struct Stanza {
    /// As written.
    pub(crate) path: Text,
    /// All that are listed, in their order, wherever.
    pub(crate) capabilities: Vec<Text>,
    /// The word of the old form, `policy = "read"`; of several the last.
    pub(crate) old_form: Option<Text>,
    /// What comes of them; nothing of what is not known.
    pub(crate) rule: PathRule,
}

/// At the top.
const TOP_KEYS: &[&str] = &["name", "path"];

/// In a stanza: `OpenBao`'s, and those of Vault Enterprise. What is not looked at bounds a request, and not which
/// kinds of it there may be.
const STANZA_KEYS: &[&str] = &[
    "allowed_parameters",
    "capabilities",
    "comment",
    "control_group",
    "denied_parameters",
    "expiration",
    "list_scan_response_keys_filter_path",
    "max_wrapping_ttl",
    "mfa_methods",
    "min_wrapping_ttl",
    "pagination_limit",
    "policy",
    "required_parameters",
    "subscribe_event_types",
];

/// The form before capabilities, which the servers still read, and what its words grant.
const OLD_FORMS: [(&str, &[&str]); 5] = [
    ("", &[]),
    ("deny", &["deny"]),
    ("read", &["read", "list"]),
    ("write", &["create", "read", "update", "delete", "list"]),
    ("sudo", &["create", "read", "update", "delete", "list", "sudo"]),
];

impl<'a> Stanzas<'a> {
    /// Reads `text` as servers do.
    pub(crate) fn read(text: &'a str) -> Result<Self, SyntaxError> {
        let mut stanzas = Self { text, all: Vec::new(), unknown_keys: Vec::new() };
        for item in hcl::parse(text)? {
            // There is at least one.
            let name = item.keys[0].clone();
            match (name.text.as_str(), hcl::is_json(text)) {
                ("path", false) => stanzas.labelled(item)?,
                ("path", true) => stanzas.json_paths(&name, item.value)?,
                ("name", _) => {}
                _ => stanzas.unknown_keys.push((name, TOP_KEYS)),
            }
        }
        Ok(stanzas)
    }

    /// `path "…" { … }`. Labels behind the first say nothing; without one the path is `path` itself.
    fn labelled(&mut self, mut item: Item) -> Result<(), SyntaxError> {
        let path = item.keys.swap_remove(item.keys.len().min(2) - 1);
        match item.value {
            Value::Object(items) => self.stanza(path, items),
            _ => Err(SyntaxError::new(path.offset, "a path stanza must be path \"…\" { … }")),
        }
    }

    /// `"path": {"…": {…}, …}`, or several such objects in a list.
    fn json_paths(&mut self, name: &Text, value: Value) -> Result<(), SyntaxError> {
        let objects = match value {
            Value::List(values) => values,
            value => vec![value],
        };
        for object in objects {
            let Value::Object(items) = object else {
                return Err(SyntaxError::new(name.offset, "behind \"path\" must be an object of paths"));
            };
            if !are_objects(&items) {
                self.stanza(name.clone(), items)?;
                continue;
            }
            for Item { mut keys, value } in items {
                // JSON has one key to a value.
                self.json_stanza(&keys.swap_remove(0), value)?;
            }
        }
        Ok(())
    }

    /// Objects in nothing but objects are labels to a server, which say nothing.
    fn json_stanza(&mut self, path: &Text, value: Value) -> Result<(), SyntaxError> {
        match value {
            Value::Object(items) if !items.is_empty() && are_objects(&items) => {
                items.into_iter().try_for_each(|item| self.json_stanza(path, item.value))
            }
            Value::Object(items) => self.stanza(path.clone(), items),
            _ => Ok(()),
        }
    }

    fn stanza(&mut self, path: Text, items: Vec<Item>) -> Result<(), SyntaxError> {
        let rule = PathRule {
            path: path.text.strip_prefix('/').unwrap_or(&path.text).to_owned(),
            capabilities: Capabilities::NONE,
            denies: false,
            expires: false,
            line: Place::of(self.text, path.offset).line,
        };
        let mut stanza = Stanza { path, capabilities: Vec::new(), old_form: None, rule };
        for item in items {
            let key = item.keys[0].clone();
            let must_be = |what| Err(SyntaxError::new(key.offset, format!("{} must be {what}", key.text)));
            match (key.text.as_str(), item.value) {
                ("capabilities", Value::List(values)) => {
                    for value in values {
                        let Value::Text(capability) = value else { return must_be("a list of strings") };
                        stanza.capabilities.push(capability);
                    }
                }
                ("policy", Value::Text(word)) => stanza.old_form = Some(word),
                ("capabilities", _) => return must_be("a list of strings"),
                ("policy", _) => return must_be("a string"),
                ("expiration", _) => stanza.rule.expires = true,
                (name, _) if STANZA_KEYS.contains(&name) => {}
                _ => self.unknown_keys.push((key, STANZA_KEYS)),
            }
        }
        stanza.weigh();
        self.all.push(stanza);
        Ok(())
    }
}

fn are_objects(items: &[Item]) -> bool {
    items.iter().all(|item| matches!(item.value, Value::Object(_)))
}

impl Stanza {
    /// The capabilities that no server is known to have. At what stands behind a deny servers do not look.
    pub(crate) fn unknown_capabilities(&self) -> impl Iterator<Item = &Text> {
        let before_deny = self.capabilities.iter().take_while(|capability| capability.text != "deny");
        before_deny.filter(|capability| Capability::of_policy(&capability.text).is_none())
    }

    /// A word of the old form that there is not.
    pub(crate) fn unknown_old_form(&self) -> Option<&Text> {
        self.old_form.as_ref().filter(|word| old_form(&word.text).is_none())
    }

    /// Whether it says nothing of what may be done, which denies.
    pub(crate) fn is_silent(&self) -> bool {
        self.capabilities.is_empty() && self.old_form.as_ref().is_none_or(|word| word.text.is_empty())
    }

    /// Makes the rule of what is written. One `deny` outweighs everything that stands beside it.
    fn weigh(&mut self) {
        let old = self.old_form.as_ref().and_then(|word| old_form(&word.text)).unwrap_or_default();
        let names = self.capabilities.iter().map(|capability| capability.text.as_str());
        let names: Vec<&str> = names.chain(old.iter().copied()).collect();
        self.rule.denies = names.contains(&"deny");
        if !self.rule.denies {
            self.rule.capabilities = names.into_iter().filter_map(Capability::of_policy).collect();
        }
    }
}

fn old_form(word: &str) -> Option<&'static [&'static str]> {
    OLD_FORMS.into_iter().find(|(known, _)| *known == word).map(|(_, grants)| grants)
}
