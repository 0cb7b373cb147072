//! The proof: the new user logs in, creates a table and drops it.

use crate::DbInitError;
use crate::error::reason;
use crate::server::Server;
use crate::target::Target;

/// Uses the database as the service will. Nothing is left behind: a rolled back transaction drops the table
/// even where the connection is cut.
pub(crate) async fn prove(server: &Server, target: &Target) -> Result<(), DbInitError> {
    let login = |why| DbInitError::Login {
        place: server.place(),
        user: target.user.clone(),
        database: target.database.clone(),
        why,
    };
    let client = server
        .connect(&target.user, Some(&target.password), &target.database)
        .await
        .map_err(|error| login(reason(&error)))?;
    let script = "BEGIN; CREATE TABLE vaultcrew_db_init_proof (n int); \
        INSERT INTO vaultcrew_db_init_proof VALUES (1); DROP TABLE vaultcrew_db_init_proof; ROLLBACK";
    client.batch_execute(script).await.map_err(|error| DbInitError::Unusable {
        user: target.user.clone(),
        database: target.database.clone(),
        why: reason(&error),
    })
}
