//! What a policy's text grants: its rules as the server reads them, and the evaluation of a path by them.

mod acl;
mod capability;
mod hcl;
#[cfg(test)]
mod tests;

pub use acl::Acl;
pub use capability::{Capabilities, Capability};
pub use hcl::SyntaxError;

use hcl::{Item, Value};

/// One `path` stanza of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// Without the leading slash that the server drops: `secret/data/user`, `secret/data/*`, `secret/+/user`.
    pub path: String,
    /// What it grants; nothing where it denies.
    pub capabilities: Capabilities,
    /// Whether it denies, against whatever else grants the same path.
    pub denies: bool,
    /// Whether it holds for a time alone (`OpenBao`'s `expiration`).
    pub expires: bool,
    /// In the text, from 1.
    pub line: usize,
}

/// Why a policy's text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is no HCL of the dialect that the servers read.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// Something that is known to no server, or whose meaning is not known here.
    #[error("line {line}: {what} is not known; what it grants cannot be told")]
    Unknown {
        /// Where.
        line: usize,
        /// What.
        what: String,
    },
    /// A known thing in another shape.
    #[error("line {line}: {what} must be {wanted}")]
    Shape {
        /// Where.
        line: usize,
        /// What.
        what: String,
        /// The shape it has to have.
        wanted: &'static str,
    },
    /// The server refuses it.
    #[error("line {line}: the path {path:?} has +* in it, which the servers refuse; write +/*")]
    Wildcards {
        /// Where.
        line: usize,
        /// The path.
        path: String,
    },
}

impl PathRule {
    /// Whether the server fills something in that depends on who asks, such as `{{identity.entity.id}}`.
    #[must_use]
    pub fn is_templated(&self) -> bool {
        self.path.contains("{{")
    }
}

/// Reads a policy's text: HCL as the servers read it, which is its first version. A policy in JSON is refused,
/// as the servers do once a comment stands before it.
pub fn parse(text: &str) -> Result<Vec<PathRule>, PolicyError> {
    let mut rules = Vec::new();
    for item in hcl::parse(text)? {
        match item.keys[0].as_str() {
            "path" => rules.push(path_rule(item)?),
            "name" => {}
            other => return Err(unknown(item.line, format!("{other:?}"))),
        }
    }
    Ok(rules)
}

fn path_rule(item: Item) -> Result<PathRule, PolicyError> {
    let shape = |wanted| PolicyError::Shape { line: item.line, what: "a path stanza".to_owned(), wanted };
    let path = item.keys.get(1).ok_or_else(|| shape("path \"…\" { … }"))?;
    let path = path.strip_prefix('/').unwrap_or(path).to_owned();
    if path.contains("+*") {
        return Err(PolicyError::Wildcards { line: item.line, path });
    }
    let Value::Object(settings) = item.value else { return Err(shape("path \"…\" { … }")) };
    let mut rule =
        PathRule { path, capabilities: Capabilities::NONE, denies: false, expires: false, line: item.line };
    for setting in settings {
        rule.take(&setting)?;
    }
    if rule.denies {
        rule.capabilities = Capabilities::NONE;
    }
    Ok(rule)
}

impl PathRule {
    fn take(&mut self, setting: &Item) -> Result<(), PolicyError> {
        let line = setting.line;
        let shape = |what: &str, wanted| PolicyError::Shape { line, what: what.to_owned(), wanted };
        match setting.keys[0].as_str() {
            "capabilities" => {
                let wanted = "a list of strings";
                let Value::List(names) = &setting.value else { return Err(shape("capabilities", wanted)) };
                for name in names {
                    let Value::Text(name) = name else { return Err(shape("capabilities", wanted)) };
                    self.grant(name, line)?;
                }
            }
            // The form before capabilities, which the servers still read.
            "policy" => {
                let Value::Text(level) = &setting.value else { return Err(shape("policy", "a string")) };
                let names: &[&str] = match level.as_str() {
                    "deny" => &["deny"],
                    "read" => &["read", "list"],
                    "write" => &["create", "read", "update", "delete", "list"],
                    "sudo" => &["create", "read", "update", "delete", "list", "sudo"],
                    _ => return Err(unknown(line, format!("policy = {level:?}"))),
                };
                names.iter().try_for_each(|name| self.grant(name, line))?;
            }
            "expiration" => self.expires = true,
            // What bounds a request, and not which kinds of it there may be.
            "comment"
            | "allowed_parameters"
            | "denied_parameters"
            | "required_parameters"
            | "min_wrapping_ttl"
            | "max_wrapping_ttl"
            | "control_group"
            | "mfa_methods"
            | "pagination_limit"
            | "list_scan_response_keys_filter_path"
            | "subscribe_event_types" => {}
            other => return Err(unknown(line, format!("{other:?}"))),
        }
        Ok(())
    }

    fn grant(&mut self, name: &str, line: usize) -> Result<(), PolicyError> {
        if name == "deny" {
            self.denies = true;
            return Ok(());
        }
        let capability = Capability::parse(name)
            .filter(|capability| *capability != Capability::Root)
            .ok_or_else(|| unknown(line, format!("the capability {name:?}")))?;
        self.capabilities.insert(capability);
        Ok(())
    }
}

fn unknown(line: usize, what: String) -> PolicyError {
    PolicyError::Unknown { line, what }
}
