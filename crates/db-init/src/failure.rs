//! What PostgreSQL's and its driver's errors mean.

use std::error::Error;
use std::io;
use std::iter;

use agent_runtime::Exit;
use tokio_postgres::error::SqlState;

/// What can be done about a failure in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Nothing: it passes, and another attempt from the beginning may succeed.
    Passing,
    /// Rights are missing.
    Denied,
    /// Whatever the message says.
    Other,
}

impl FailureKind {
    pub(crate) fn of(error: &tokio_postgres::Error) -> Self {
        if is_passing(error) {
            Self::Passing
        } else if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            Self::Denied
        } else {
            Self::Other
        }
    }

    pub(crate) const fn exit(self) -> Exit {
        match self {
            Self::Passing => Exit::Unavailable,
            Self::Denied => Exit::Denied,
            Self::Other => Exit::Failed,
        }
    }
}

/// Whether it passes by itself: the connection or the server went away, or others were in the way.
pub(crate) fn is_passing(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => is_passing_code(code),
        None => error.is_closed() || is_of_the_network(error),
    }
}

fn is_passing_code(code: &SqlState) -> bool {
    [
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::T_R_DEADLOCK_DETECTED,
        // The template is being copied from, or connected to.
        SqlState::OBJECT_IN_USE,
        // Somebody without our lock made the same at this instant; the next look sees it.
        SqlState::DUPLICATE_DATABASE,
        SqlState::DUPLICATE_OBJECT,
        SqlState::UNIQUE_VIOLATION,
    ]
    .contains(code)
}

/// The driver reports its own refusals, too, as I/O errors, but of the kind of an invalid input: an answer
/// that it does not understand, a server that does not know the password. TLS' own are of invalid data.
fn is_of_the_network(error: &(dyn Error + 'static)) -> bool {
    chain(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| !matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

/// What the server said, or what the innermost cause was: tokio-postgres' own words are "db error".
pub(crate) fn reason(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", server.message(), server.code().code());
    }
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// The error and its causes, the innermost last.
pub(crate) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn the_network_may_recover() {
        for kind in [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::NotFound,
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::TimedOut,
        ] {
            assert!(is_of_the_network(&Outer(kind.into())), "{kind}");
        }
        assert!(!is_of_the_network(&Outer(io::ErrorKind::InvalidInput.into())));
        assert!(!is_of_the_network(&Outer(io::ErrorKind::InvalidData.into())));
        assert!(!is_of_the_network(&std::fmt::Error));
    }

    #[test]
    fn a_server_that_starts_or_stops_is_waited_for() {
        for code in ["57P03", "53300", "57P01", "57P02"] {
            assert!(is_passing_code(&SqlState::from_code(code)), "{code}");
        }
        // A full disk stays full until somebody acts.
        for code in ["28P01", "28000", "3D000", "53100", "42501"] {
            assert!(!is_passing_code(&SqlState::from_code(code)), "{code}");
        }
    }
}
