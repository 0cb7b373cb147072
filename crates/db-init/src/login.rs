//! Logging in to PostgreSQL: one attempt, and what its failure means.

use std::io;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::failure::{chain, is_passing, reason};

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

/// Logs in, within [`TIMEOUT`]; `config` says whether with TLS.
pub(crate) async fn log_in(config: &Config, tls: MakeRustlsConnect) -> Result<Client, LoginFailure> {
    // The driver's own limit is on the way to the server alone, and not on its answers.
    let attempt = tokio::time::timeout(TIMEOUT, Box::pin(config.connect(tls))).await;
    let (client, connection) = attempt.map_err(|_| LoginFailure::Silent)?.map_err(LoginFailure::Refused)?;
    // The connection's own end is the client's next error.
    tokio::spawn(async move { connection.await.ok() });
    Ok(client)
}

impl LoginFailure {
    /// Whether it may pass without anyone doing anything.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Silent => true,
            Self::Refused(error) => is_passing(error),
        }
    }

    /// Whether both sides do not agree on TLS, or one of them does not take the other's certificate.
    pub(crate) fn is_about_tls(&self) -> bool {
        let Self::Refused(error) = self else { return false };
        // What the driver finds missing is a text alone.
        let missing = ["server does not support TLS", "server did not use channel binding"];
        chain(error).any(|cause| {
            let of_rustls = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            of_rustls.and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some()
                || missing.contains(&cause.to_string().as_str())
        })
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

    /// Whether the server said so, and not the driver.
    pub(crate) fn is_the_servers(&self) -> bool {
        matches!(self, Self::Refused(error) if error.code().is_some())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ServerArgs;
    use crate::tls::Tls;

    #[tokio::test]
    async fn nobody_there_passes_and_a_missing_host_does_not() {
        let mut config = Config::new();
        config.user("u");
        let tls = || Tls::new(&ServerArgs::of_nothing()).unwrap().connector;
        assert!(!log_in(&config, tls()).await.unwrap_err().passes());
        let nobody = log_in(config.host("/nonexistent"), tls()).await.unwrap_err();
        assert!(nobody.passes() && !nobody.is_refusal() && !nobody.is_about_tls(), "{}", nobody.reason());
    }
}
