//! What may be done to a path.

use std::fmt;

use serde::{Serialize, Serializer};

/// A kind of request that a policy grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the API's own words")]
pub enum Capability {
    Create,
    Read,
    Update,
    Patch,
    Delete,
    List,
    /// `OpenBao`'s: to list all that is below.
    Scan,
    /// On the paths that root alone may use otherwise.
    Sudo,
    /// Vault's: to be told of events.
    Subscribe,
    /// Vault's: to read from a snapshot.
    Recover,
    /// Everything; the server says so of root tokens, and no policy can.
    Root,
}

impl Capability {
    const ALL: [(Self, &str); 11] = [
        (Self::Create, "create"),
        (Self::Read, "read"),
        (Self::Update, "update"),
        (Self::Patch, "patch"),
        (Self::Delete, "delete"),
        (Self::List, "list"),
        (Self::Scan, "scan"),
        (Self::Sudo, "sudo"),
        (Self::Subscribe, "subscribe"),
        (Self::Recover, "recover"),
        (Self::Root, "root"),
    ];

    /// The capability of this name; `None` for `deny`, which is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(capability, _)| capability)
    }

    /// That of this name which a policy can grant.
    pub(crate) fn of_policy(name: &str) -> Option<Self> {
        Self::parse(name).filter(|capability| *capability != Self::Root)
    }

    /// The names that a policy can hold.
    pub(crate) fn policy_names() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(|(_, name)| name).filter(|name| *name != "root").chain(["deny"])
    }
}

/// Some capabilities, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u16);

impl Capabilities {
    /// None: what a path has that no rule grants, or that one denies.
    pub const NONE: Self = Self(0);

    /// Adds one.
    pub fn insert(&mut self, capability: Capability) {
        self.0 |= 1 << capability as u16;
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u16) != 0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those that `others` has not.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Their names, always in the same order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Capability::ALL.into_iter().filter(move |(capability, _)| self.has(*capability)).map(|(_, name)| name)
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        let mut all = Self::NONE;
        capabilities.into_iter().for_each(|capability| all.insert(capability));
        all
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return out.write_str("nothing");
        }
        for (index, name) in self.names().enumerate() {
            write!(out, "{}{name}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Serialize for Capabilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}
