//! One node, as it is watched: how it was found, when it is looked at next, and what it refused.

use std::time::Duration;

use agent_runtime::with_causes;
use backoff::{Jitter, Policy};
use boot_clock::BootTime;

use crate::UnsealerError;
use crate::status::{NodeState, NodeStatus};

/// Between two looks at a node. A restart is noticed within this, and unsealed at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two looks while a node is away: soon at first, since most restarts are short.
const AWAY_DELAYS: Policy = match Policy::new(Duration::from_millis(250), Duration::from_millis(1500)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

#[derive(Debug)]
pub(super) struct Node {
    pub(super) status: NodeStatus,
    pub(super) due: BootTime,
    /// A request of ours to it is under way.
    pub(super) is_busy: bool,
    /// The fingerprint of shares that it refused: they are not tried again.
    pub(super) refused: Option<u64>,
    /// Times in a row that something was amiss.
    failures: u32,
}

impl Node {
    pub(super) fn new(address: String) -> Self {
        Self {
            status: NodeStatus::unknown(address),
            due: BootTime::default(),
            is_busy: false,
            refused: None,
            failures: 0,
        }
    }

    /// Takes in how it is: a line where its state changed, and none in between.
    pub(super) fn note(&mut self, found: NodeStatus) {
        if self.status.state != found.state {
            if let Some(error) = &found.error {
                tracing::warn!("{} is {}: {error}", found.address, found.state);
            } else {
                tracing::info!("{} is {}", found.address, found.state);
            }
        }
        // Another server, or one unsealed by hand, may stand there now.
        if found.state != NodeState::Sealed {
            self.refused = None;
        }
        if found.is_unsealed() {
            self.failures = 0;
        }
        let last_unseal = self.status.last_unseal.take();
        self.status = NodeStatus { last_unseal, ..found };
    }

    pub(super) fn look_again(&mut self) {
        self.due = BootTime::now() + LOOK_EVERY;
    }

    pub(super) fn back_off(&mut self) {
        self.due = BootTime::now() + AWAY_DELAYS.delay(self.failures, Jitter::draw());
        self.failures = self.failures.saturating_add(1);
    }

    /// Says what is amiss with it, once while it lasts.
    pub(super) fn complain(&self, error: &UnsealerError) {
        let (address, text) = (&self.status.address, with_causes(error));
        if self.failures == 0 {
            tracing::warn!("{address}: {text}");
        } else {
            tracing::debug!("{address}: {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NodeState::{Sealed, Unreachable, Unsealed};
    use super::*;

    #[test]
    fn a_refusal_is_forgotten_when_the_node_was_away_or_unsealed() {
        let found = |state| NodeStatus { state, ..NodeStatus::unknown("http://vault".to_owned()) };
        for between in [Unreachable, Unsealed] {
            let mut node = Node::new("http://vault".to_owned());
            node.refused = Some(7);
            node.note(found(Sealed));
            assert_eq!(node.refused, Some(7));
            node.note(found(between));
            assert_eq!(node.refused, None);
        }
    }
}
