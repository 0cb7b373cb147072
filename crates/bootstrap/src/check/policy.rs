//! What a policy says: its stanzas, of whatever form, with the places of what they say.

use super::hcl::{self, Item, NotUnderstood, Text, Value};

/// What is known of a policy.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub(super) stanzas: Vec<Stanza>,
    /// Names at the top and in stanzas that no server is known to take, and what may have been meant.
    pub(super) unknown_keys: Vec<(Text, &'static [&'static str])>,
}

/// One `path "…" { … }`.
#[derive(Debug)]
pub(super) struct Stanza {
    /// As written.
    pub(super) path: Text,
    /// All that are listed, in their order, wherever.
    pub(super) capabilities: Vec<Text>,
    /// The word of the old form, `policy = "read"`.
    pub(super) old_form: Option<Text>,
    /// Whether it grants anything before a day that it names.
    pub(super) expires: bool,
}

/// At the top.
const TOP_KEYS: &[&str] = &["name", "path"];

/// In a stanza: OpenBao's, and those of Vault Enterprise.
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

/// Reads `text` as servers do.
pub(super) fn parse(text: &str) -> Result<Policy, NotUnderstood> {
    let mut policy = Policy::default();
    for item in hcl::parse(text)? {
        // There is at least one.
        let name = item.keys[0].clone();
        match (name.text.as_str(), hcl::is_json(text)) {
            ("path", false) => policy.labelled(item, name.offset)?,
            ("path", true) => policy.json_paths(item.value, name.offset)?,
            ("name", _) => {}
            _ => policy.unknown_keys.push((name, TOP_KEYS)),
        }
    }
    Ok(policy)
}

impl Policy {
    /// `path "…" { … }`. Labels behind the first say nothing.
    fn labelled(&mut self, item: Item, offset: usize) -> Result<(), NotUnderstood> {
        let wanted = "`path \"…\" {`";
        match (item.keys.into_iter().nth(1), item.value) {
            (Some(path), Value::Object(items)) => self.stanza(path, items),
            _ => Err(NotUnderstood { offset, wanted }),
        }
    }

    /// `"path": {"…": {…}, …}`, or several such objects in a list.
    fn json_paths(&mut self, value: Value, offset: usize) -> Result<(), NotUnderstood> {
        let wanted = "an object of paths behind \"path\"";
        let objects = match value {
            Value::List(values) => values,
            value => vec![value],
        };
        for object in objects {
            let Value::Object(items) = object else { return Err(NotUnderstood { offset, wanted }) };
            for item in items {
                // JSON has one key to a value.
                let path = item.keys[0].clone();
                let Value::Object(items) = item.value else {
                    return Err(NotUnderstood { offset: path.offset, wanted: "an object behind the path" });
                };
                self.stanza(path, items)?;
            }
        }
        Ok(())
    }

    fn stanza(&mut self, path: Text, items: Vec<Item>) -> Result<(), NotUnderstood> {
        let mut stanza = Stanza { path, capabilities: Vec::new(), old_form: None, expires: false };
        for item in items {
            let key = item.keys[0].clone();
            match (key.text.as_str(), item.value) {
                ("capabilities", Value::List(values)) => {
                    for value in values {
                        let wanted = "a list of texts behind `capabilities`";
                        let Value::Text(capability) = value else {
                            return Err(NotUnderstood { offset: key.offset, wanted });
                        };
                        stanza.capabilities.push(capability);
                    }
                }
                ("policy", Value::Text(word)) => stanza.old_form = Some(word),
                ("capabilities" | "policy", _) => {
                    let wanted = "a list behind `capabilities`, a text behind `policy`";
                    return Err(NotUnderstood { offset: key.offset, wanted });
                }
                ("expiration", _) => stanza.expires = true,
                (name, _) if STANZA_KEYS.contains(&name) => {}
                _ => self.unknown_keys.push((key, STANZA_KEYS)),
            }
        }
        self.stanzas.push(stanza);
        Ok(())
    }
}

impl Stanza {
    /// The path as servers keep it: without a slash at its beginning.
    pub(super) fn pattern(&self) -> &str {
        self.path.text.strip_prefix('/').unwrap_or(&self.path.text)
    }

    /// Whether the server fills in names in its path for each token.
    pub(super) fn is_templated(&self) -> bool {
        self.path.text.contains("{{")
    }

    /// Whether it denies all: one `deny` outweighs everything that stands beside it.
    pub(super) fn denies(&self) -> bool {
        self.grants().any(|capability| capability == "deny")
    }

    /// The capabilities' names, those of the old form included.
    pub(super) fn grants(&self) -> impl Iterator<Item = &str> {
        let old: &[&str] = match self.old_form.as_ref().map(|word| word.text.as_str()) {
            Some("deny") => &["deny"],
            Some("read") => &["read", "list"],
            Some("write") => &["create", "read", "update", "delete", "list"],
            Some("sudo") => &["create", "read", "update", "delete", "list", "sudo"],
            _ => &[],
        };
        self.capabilities.iter().map(|capability| capability.text.as_str()).chain(old.iter().copied())
    }
}
