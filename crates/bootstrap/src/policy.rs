//! What a policy's text grants: its rules as the server reads them, and the evaluation of a path by them.

mod acl;
mod capability;
mod hcl;
mod stanza;
#[cfg(test)]
mod tests;

pub use acl::Acl;
pub(crate) use acl::{has_segments, matches};
pub use capability::{Capabilities, Capability};
pub(crate) use hcl::{Text, is_json};
pub(crate) use stanza::{Stanza, Stanzas};

use crate::manifest::Place;

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
    /// It is no HCL of the dialect that the servers read, or no policy.
    #[error("line {line}, column {column}: {what}")]
    Syntax {
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// What is there, and what could be.
        what: String,
    },
    /// Something that is known to no server, or whose meaning is not known here.
    #[error("line {line}: {what} is not known; what it grants cannot be told")]
    Unknown {
        /// Where.
        line: usize,
        /// What.
        what: String,
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

/// Reads a policy's text as the servers do, HCL of its first version or JSON. What is not known is refused: nothing
/// is told of a policy that is only half understood.
pub fn parse(text: &str) -> Result<Vec<PathRule>, PolicyError> {
    let stanzas = Stanzas::read(text).map_err(|error| {
        let Place { line, column } = Place::of(text, error.offset);
        PolicyError::Syntax { line, column, what: error.what }
    })?;
    let unknown = |word: &Text, what: String| {
        Err(PolicyError::Unknown { line: Place::of(text, word.offset).line, what })
    };
    if let Some((key, _)) = stanzas.unknown_keys.first() {
        return unknown(key, format!("{:?}", key.text));
    }
    for stanza in &stanzas.all {
        let Stanza { rule, .. } = stanza;
        if rule.path.contains("+*") {
            return Err(PolicyError::Wildcards { line: rule.line, path: rule.path.clone() });
        }
        if let Some(capability) = stanza.unknown_capabilities().next() {
            return unknown(capability, format!("the capability {:?}", capability.text));
        }
        if let Some(word) = stanza.unknown_old_form() {
            return unknown(word, format!("policy = {:?}", word.text));
        }
    }
    Ok(stanzas.all.into_iter().map(|stanza| stanza.rule).collect())
}
