//! What must hold all the time.

mod agents;
mod credentials;

pub(super) use self::agents::{Requests, Tokens};
pub(super) use self::credentials::{SecretIds, Validity};

use super::outages::Outages;
use super::stack::Stack;

/// Something that must hold.
pub(super) trait Rule {
    /// Looks once; gives what is broken.
    fn look(&mut self, stack: &Stack, outages: &Outages) -> Vec<String>;

    /// What never came about, and would have to for this to have seen anything.
    fn missed(&self) -> Option<String> {
        None
    }

    /// What it saw, in a sentence.
    fn says(&self) -> String;
}
