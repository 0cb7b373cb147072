//! What is to be done about a node, and what of a failure may pass: decided from what is known, without doing it.

use agent_runtime::{Exit, Failure as _};
use vault_client::VaultError;

use crate::UnsealerError;
use crate::init::{INIT_NODE, InitError};
use crate::key_store::{KeyStoreError, Stored};
use crate::status::NodeState;
use crate::unseal::UnsealError;

/// What is to be done about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// To look again.
    Wait,
    /// To unseal it by the shares that are here.
    Unseal,
    /// To initialise it.
    Initialise,
    /// Keys and server do not fit together.
    Odd(Oddity),
}

/// In which way they do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oddity {
    /// The server is initialised, and its keys are not here.
    KeysElsewhere,
    /// The same, and an earlier start asked for them.
    AnswerLost,
    /// There are keys here, and the server is not initialised.
    Occupied,
}

/// What is to be done about the node with this index, given how all of them are.
pub(super) fn decide(
    index: usize,
    nodes: &[NodeState],
    by_shares: bool,
    stored: Stored,
    held: bool,
) -> Action {
    let others = || nodes.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, state)| *state);
    match nodes[index] {
        NodeState::Unknown | NodeState::Unreachable | NodeState::Unsealed => Action::Wait,
        NodeState::Sealed if held || !by_shares => Action::Wait,
        NodeState::Sealed => match stored {
            Stored::Keys => Action::Unseal,
            // Its owner is at it.
            Stored::Received => Action::Wait,
            Stored::Requested => Action::Odd(Oddity::AnswerLost),
            Stored::Nothing => Action::Odd(Oddity::KeysElsewhere),
        },
        // A raft node that has yet to join says that it is not initialised, and is left until it has.
        NodeState::NotInitialised if index != INIT_NODE => Action::Wait,
        NodeState::NotInitialised => {
            let any_initialised =
                others().any(|state| matches!(state, NodeState::Sealed | NodeState::Unsealed));
            match stored {
                _ if others().any(|state| state == NodeState::Unknown) => Action::Wait,
                Stored::Keys | Stored::Received if any_initialised => Action::Wait,
                Stored::Keys | Stored::Received => Action::Odd(Oddity::Occupied),
                Stored::Nothing | Stored::Requested if any_initialised => Action::Odd(Oddity::KeysElsewhere),
                Stored::Nothing | Stored::Requested => Action::Initialise,
            }
        }
    }
}

/// Whether a later look may find it better without anyone doing anything; `succeeded` where an earlier one went well.
pub(super) fn may_pass(error: &UnsealerError, succeeded: bool) -> bool {
    let passes = |error: &VaultError| error.is_transient() || error.exit() != Exit::Denied;
    match error {
        UnsealerError::Init(InitError::Vault(error))
        | UnsealerError::Unseal(UnsealError::Vault(error))
        | UnsealerError::Vault(error) => passes(error),
        UnsealerError::Unseal(UnsealError::Unsettled | UnsealError::NotInitialised) => true,
        // A disk that was good once.
        UnsealerError::KeyStore(KeyStoreError::File(_)) => succeeded,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::NodeState::{NotInitialised, Sealed, Unknown, Unreachable, Unsealed as Open};
    use super::*;

    #[test]
    fn one_named_node_is_initialised_and_only_where_no_other_is() {
        let at = |nodes: &[NodeState], stored| decide(0, nodes, true, stored, false);
        assert_eq!(at(&[NotInitialised], Stored::Nothing), Action::Initialise);
        assert_eq!(at(&[NotInitialised, Unreachable], Stored::Requested), Action::Initialise);
        assert_eq!(at(&[NotInitialised, Unknown], Stored::Nothing), Action::Wait);
        assert_eq!(at(&[NotInitialised, Open], Stored::Nothing), Action::Odd(Oddity::KeysElsewhere));
        assert_eq!(at(&[NotInitialised, Open], Stored::Keys), Action::Wait);
        assert_eq!(at(&[NotInitialised], Stored::Keys), Action::Odd(Oddity::Occupied));
        assert_eq!(decide(1, &[Open, NotInitialised], true, Stored::Nothing, false), Action::Wait);
    }

    #[test]
    fn a_sealed_node_is_unsealed_unless_it_is_held_or_does_so_itself() {
        let at = |by_shares, stored, held| decide(0, &[Sealed], by_shares, stored, held);
        assert_eq!(at(true, Stored::Keys, false), Action::Unseal);
        assert_eq!(at(true, Stored::Keys, true), Action::Wait);
        assert_eq!(at(false, Stored::Nothing, false), Action::Wait);
        assert_eq!(at(true, Stored::Nothing, false), Action::Odd(Oddity::KeysElsewhere));
        assert_eq!(at(true, Stored::Requested, false), Action::Odd(Oddity::AnswerLost));
        assert_eq!(decide(0, &[Open], true, Stored::Nothing, false), Action::Wait);
    }

    #[test]
    fn what_may_pass_is_told_from_what_does_not() {
        let missing = secret_file::read_text(std::path::Path::new("/nonexistent"), 1).unwrap_err();
        let store_error = UnsealerError::KeyStore(missing.into());
        assert!(!may_pass(&store_error, false));
        assert!(may_pass(&store_error, true));
        assert!(may_pass(&UnsealError::Unsettled.into(), true));
        assert!(!may_pass(&InitError::KeysElsewhere { keys_dir: String::new() }.into(), true));
    }
}
