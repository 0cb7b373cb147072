//! Which keys an entry of the manifest speaks of.

use std::fmt;

/// A key's whole name, or what keys begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Name(String),
    Beginning(String),
}

/// How closely a pattern fits a key: a whole name closest, then the longer beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Closeness {
    Beginning(usize),
    Name,
}

impl Pattern {
    /// `KEY` or `KEY_*`; `None` where a `*` stands elsewhere, or the text is empty.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, is_beginning) = match text.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (text, false),
        };
        let valid = !text.is_empty() && !name.contains(|c: char| c == '*' || c.is_whitespace());
        let pattern = if is_beginning { Self::Beginning } else { Self::Name };
        valid.then(|| pattern(name.to_owned()))
    }

    /// How closely it fits `key`, or `None` where it does not.
    pub(super) fn fits(&self, key: &str) -> Option<Closeness> {
        match self {
            Self::Name(name) => (name == key).then_some(Closeness::Name),
            Self::Beginning(beginning) => {
                key.starts_with(beginning).then_some(Closeness::Beginning(beginning.len()))
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Beginning(beginning) => write!(f, "{beginning}*"),
        }
    }
}
