//! What there is.

use secrecy::SecretString;
use tokio_postgres::error::SqlState;

use crate::DbInitError;
use crate::server::{Admin, Server};
use crate::target::Target;

/// What there is of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) role: Option<Role>,
    pub(crate) database: Option<Database>,
}

/// The login role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) can_log_in: bool,
    /// Superuser, or may create roles or databases: more than db-init gives.
    pub(crate) is_powerful: bool,
    pub(crate) password_is_right: bool,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) owner: String,
    /// Whether every role may connect.
    pub(crate) public_may_connect: bool,
    /// Whether the role holds all privileges on it.
    pub(crate) is_granted: bool,
}

impl Observed {
    /// Looks, by the administrator's session and by a login as the user.
    pub(crate) async fn look(admin: &Admin, server: &Server, target: &Target) -> Result<Self, DbInitError> {
        const ROLE: &str = "SELECT rolcanlogin, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR \
            rolbypassrls FROM pg_roles WHERE rolname = $1";
        const DATABASE: &str = "SELECT pg_get_userbyid(datdba)::text, \
            EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0) \
            FROM pg_database WHERE datname = $1";
        const GRANTED: &str = "SELECT count(DISTINCT privilege_type) = 3 FROM pg_database, \
            aclexplode(coalesce(datacl, acldefault('d', datdba))) \
            WHERE datname = $1 AND grantee = (SELECT oid FROM pg_roles WHERE rolname = $2)";
        let client = &admin.client;
        let looking =
            |error: &tokio_postgres::Error| admin.failed("looking at the roles and databases", error);

        let role = client.query_opt(ROLE, &[&target.user]).await.map_err(|error| looking(&error))?;
        let database =
            client.query_opt(DATABASE, &[&target.database]).await.map_err(|error| looking(&error))?;
        let granted = client
            .query_one(GRANTED, &[&target.database, &target.user])
            .await
            .map_err(|error| looking(&error))?;

        let database = database.map(|row| Database {
            owner: row.get(0),
            public_may_connect: row.get(1),
            is_granted: granted.get(0),
        });
        let role = match role {
            None => None,
            Some(row) => {
                let entrance = if database.is_some() { target.database.as_str() } else { "postgres" };
                let password_is_right = password_is_right(server, target, entrance).await?;
                Some(Role { can_log_in: row.get(0), is_powerful: row.get(1), password_is_right })
            }
        };
        Ok(Self { role, database })
    }
}

/// Whether the role can log in with its password, and could not with another.
///
/// A verifier is salted anew each time, so that a login is the only comparison; where the server asks for no
/// password at all, that says nothing.
async fn password_is_right(server: &Server, target: &Target, database: &str) -> Result<bool, DbInitError> {
    let wrong = SecretString::from(format!("{:016x}", getrandom::u64().unwrap_or_default()));
    Ok(accepts(server, target, &target.password, database).await?
        && !accepts(server, target, &wrong, database).await?)
}

async fn accepts(
    server: &Server,
    target: &Target,
    password: &SecretString,
    database: &str,
) -> Result<bool, DbInitError> {
    match server.connect(&target.user, Some(password), database).await {
        Ok(_) => Ok(true),
        // Before the password is looked at: a role that may not log in, or not into this database.
        Err(error) if error.code().is_some_and(is_refusal) => Ok(false),
        Err(error) => Err(DbInitError::Login {
            place: server.place(),
            user: target.user.clone(),
            database: database.to_owned(),
            why: crate::error::reason(&error),
        }),
    }
}

fn is_refusal(code: &SqlState) -> bool {
    [
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        SqlState::INSUFFICIENT_PRIVILEGE,
    ]
    .contains(code)
}
