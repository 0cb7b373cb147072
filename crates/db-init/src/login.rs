//! Logging in to PostgreSQL: one attempt, and what its failure means.

use std::error::Error;
use std::io;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use crate::error::{chain, reason};

/// For the whole of one attempt.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a login failed.
#[derive(Debug)]
pub(crate) enum LoginFailure {
    /// There was no answer in time.
    Silent,
    /// The server's refusal, or the driver's.
    Refused(tokio_postgres::Error),
}

/// Logs in, within [`TIMEOUT`].
pub(crate) async fn log_in(config: &Config) -> Result<Client, LoginFailure> {
    // The driver's own limit is on the way to the server alone, and not on its answers.
    let attempt = tokio::time::timeout(TIMEOUT, config.connect(NoTls)).await;
    let (client, connection) = attempt.map_err(|_| LoginFailure::Silent)?.map_err(LoginFailure::Refused)?;
    // The connection's own end is the client's next error.
    tokio::spawn(async move { connection.await.ok() });
    Ok(client)
}

impl LoginFailure {
    /// Whether it may pass without anyone doing anything.
    pub(crate) fn passes(&self) -> bool {
        let Self::Refused(error) = self else { return true };
        match error.code() {
            Some(code) => is_passing(code),
            None => error.is_closed() || is_of_the_network(error),
        }
    }

    /// Whether the server refuses this login, for as long as nobody changes something.
    pub(crate) fn is_refusal(&self) -> bool {
        [
            &SqlState::INVALID_PASSWORD,
            &SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            &SqlState::INSUFFICIENT_PRIVILEGE,
        ]
        .iter()
        .any(|code| self.is(code))
    }

    /// Whether this is the server's SQLSTATE.
    pub(crate) fn is(&self, code: &SqlState) -> bool {
        matches!(self, Self::Refused(error) if error.code() == Some(code))
    }

    /// In the server's words, or the driver's.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Silent => format!("it does not answer within {} s", TIMEOUT.as_secs()),
            Self::Refused(error) => reason(error),
        }
    }
}

fn is_passing(code: &SqlState) -> bool {
    [
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
    ]
    .contains(code)
}

/// The driver reports its own refusals, too, as I/O errors, but of the kind of an invalid input: an answer
/// that it does not understand, a server that does not know the password.
fn is_of_the_network(error: &(dyn Error + 'static)) -> bool {
    chain(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() != io::ErrorKind::InvalidInput)
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
        assert!(!is_of_the_network(&std::fmt::Error));
    }

    #[test]
    fn a_server_that_starts_or_stops_is_waited_for() {
        for code in ["57P03", "53300", "57P01", "57P02"] {
            assert!(is_passing(&SqlState::from_code(code)), "{code}");
        }
        for code in ["28P01", "28000", "3D000"] {
            assert!(!is_passing(&SqlState::from_code(code)), "{code}");
        }
    }

    #[tokio::test]
    async fn nobody_there_passes_and_a_missing_host_does_not() {
        let mut config = Config::new();
        config.user("u");
        assert!(!log_in(&config).await.unwrap_err().passes());
        let nobody = log_in(config.host("/nonexistent")).await.unwrap_err();
        assert!(nobody.passes() && !nobody.is_refusal(), "{}", nobody.reason());
    }
}
