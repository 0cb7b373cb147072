//! The proof: the new user logs in, creates a table and drops it.

use std::fmt;

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::error::SqlState;

use crate::DbInitError;
use crate::failure::{FailureKind, reason};
use crate::login::LoginFailure;
use crate::server::Server;
use crate::target::Target;

/// What was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The user logged in and used the database.
    Login,
    /// The administrator used the database with the user's rights.
    SetRole,
}

impl fmt::Display for Proof {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Login => "proven by a login",
            Self::SetRole => {
                "proven by the administrator with SET ROLE: over this socket the user has no login by \
                 password, so the password itself was not exercised"
            }
        })
    }
}

/// Uses the database as the service will. Nothing is left behind: a rolled back transaction drops the table
/// even where the connection is cut.
pub(crate) async fn prove(server: &Server, target: &Target) -> Result<Proof, DbInitError> {
    let login = |error: LoginFailure| server.user_refused(target, &target.database, &error);
    let unusable = |error: tokio_postgres::Error| DbInitError::Unusable {
        user: target.user.clone(),
        database: target.database.clone(),
        why: reason(&error),
        kind: FailureKind::of(&error),
    };
    let as_user = server.connect(&target.user, Some(&target.password), &target.database).await;
    let (client, proof) = match as_user {
        Ok(client) => (client, Proof::Login),
        Err(error) if is_by_peer(server, &error) => {
            let client = server.admin(&target.database).await.map_err(login)?.client;
            let set_role = format!("SET ROLE {}", escape_identifier(&target.user));
            client.batch_execute(&set_role).await.map_err(unusable)?;
            (client, Proof::SetRole)
        }
        Err(error) => return Err(login(error)),
    };
    let script = "BEGIN; CREATE TABLE vaultcrew_db_init_proof (n int); \
        INSERT INTO vaultcrew_db_init_proof VALUES (1); DROP TABLE vaultcrew_db_init_proof; ROLLBACK";
    client.batch_execute(script).await.map_err(unusable)?;
    Ok(proof)
}

/// Whether the server goes by who is at the other end of the socket, and not by a password (`peer`). It
/// refuses everybody else with 28000, and a wrong password with 28P01.
fn is_by_peer(server: &Server, error: &LoginFailure) -> bool {
    server.is_on_a_socket() && error.is(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}
