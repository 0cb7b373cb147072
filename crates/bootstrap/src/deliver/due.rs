//! When new credentials are due, and which secret IDs go for them. Pure.

use std::time::Duration;

use vault_client::approle::SecretIdStatus;

/// How long a replaced secret ID lives on beside the new one: a service that read it just before has that
/// long to log in.
const OVERLAP: Duration = Duration::from_mins(2);

/// Why a service needs new credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Missing,
    Altered,
    OtherRole,
    Gone,
    HalfOver,
}

impl std::fmt::Display for Due {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Missing => "there were none",
            Self::Altered => "somebody had put another file there",
            Self::OtherRole => "the role_id has changed",
            Self::Gone => "the secret ID had expired or was destroyed",
            Self::HalfOver => "half of the secret ID's life was over",
        })
    }
}

/// Whether new credentials are due where whole ones lie: by the role that they are of, and the server's look-up.
pub(super) fn of_whole(is_same_role: bool, status: Option<&SecretIdStatus>) -> Option<Due> {
    if !is_same_role {
        return Some(Due::OtherRole);
    }
    let Some(status) = status else { return Some(Due::Gone) };
    let half_over = status.remaining.is_some_and(|remaining| remaining <= status.ttl / 2);
    half_over.then_some(Due::HalfOver)
}

/// A living secret ID that is not the one in the service's directory.
pub(super) struct Other {
    pub(super) accessor: String,
    pub(super) status: SecretIdStatus,
}

/// Whether one more secret ID may be issued.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room<'a> {
    /// After these are destroyed.
    After(Vec<&'a str>),
    /// Not now: another run of bootstrap may be delivering one at this moment.
    Wait,
}

/// How there come to be no more than two once one more is issued. `current` is how long the one in the directory
/// still lives, where a service can log in with it.
pub(super) fn room(current: Option<Duration>, others: &[Other]) -> Room<'_> {
    let Some(remaining) = current else {
        // Whoever is about to log in read the youngest of them.
        let youngest = others.iter().max_by_key(|other| other.status.remaining.unwrap_or(Duration::MAX));
        let goes = |other: &&Other| youngest.is_none_or(|kept| kept.accessor != other.accessor);
        return Room::After(accessors(others.iter().filter(goes)));
    };
    let young = others.iter().find(|other| !is_past_overlap(&other.status));
    if young.is_some_and(|young| remaining > overlap(&young.status)) {
        return Room::Wait;
    }
    Room::After(accessors(others.iter()))
}

fn accessors<'a>(others: impl Iterator<Item = &'a Other>) -> Vec<&'a str> {
    others.map(|other| other.accessor.as_str()).collect()
}

/// Whether a secret ID has been there for so long that those before it are no longer needed.
pub(super) fn is_past_overlap(status: &SecretIdStatus) -> bool {
    status.remaining.is_none_or(|remaining| status.ttl.saturating_sub(remaining) > overlap(status))
}

/// A quarter of a life at most: half of it later there is the next one.
fn overlap(status: &SecretIdStatus) -> Duration {
    OVERLAP.min(status.ttl / 4)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn living(minutes: Option<u64>) -> SecretIdStatus {
        let remaining = minutes.map(Duration::from_mins);
        SecretIdStatus { ttl: Duration::from_hours(1), remaining, metadata: BTreeMap::new() }
    }

    fn others(minutes: &[(&str, u64)]) -> Vec<Other> {
        let other = |(accessor, minutes): &(&str, u64)| Other {
            accessor: (*accessor).to_owned(),
            status: living(Some(*minutes)),
        };
        minutes.iter().map(other).collect()
    }

    #[test]
    fn due_by_what_lies_there_and_what_the_server_says() {
        let due = |is_same_role, minutes| of_whole(is_same_role, Some(living(Some(minutes))).as_ref());
        assert_eq!(due(false, 60), Some(Due::OtherRole));
        assert_eq!(of_whole(true, None), Some(Due::Gone));
        assert_eq!(due(true, 30), Some(Due::HalfOver));
        assert_eq!(due(true, 31), None);
        assert_eq!(of_whole(true, Some(&living(None))), None);
    }

    #[test]
    fn what_is_replaced_lives_on_for_two_minutes() {
        assert!(!is_past_overlap(&living(Some(58))));
        assert!(is_past_overlap(&living(Some(57))));
        assert!(is_past_overlap(&living(None)));
    }

    #[test]
    fn beside_one_that_is_good_there_is_room_for_the_next_alone() {
        let half = Some(Duration::from_mins(30));
        assert_eq!(room(half, &[]), Room::After(vec![]));
        assert_eq!(room(half, &others(&[("old", 5)])), Room::After(vec!["old"]));
        // It was issued a minute ago: by a run that was killed then, or one that is at work.
        let young = others(&[("young", 59)]);
        assert_eq!(room(half, &young), Room::Wait);
        // But not until the good one ends.
        assert_eq!(room(Some(Duration::from_mins(1)), &young), Room::After(vec!["young"]));
    }

    #[test]
    fn where_none_is_good_the_youngest_stays() {
        assert_eq!(room(None, &[]), Room::After(vec![]));
        assert_eq!(room(None, &others(&[("one", 20)])), Room::After(vec![]));
        let three = others(&[("older", 20), ("youngest", 59), ("oldest", 5)]);
        assert_eq!(room(None, &three), Room::After(vec!["older", "oldest"]));
    }
}
