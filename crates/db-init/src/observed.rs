//! What there is.

use secrecy::SecretString;

use crate::DbInitError;
use crate::server::{Admin, Server};
use crate::target::Target;
use crate::verifier;

/// The first `server_version_num` where a grant of a role says what the member may do with it.
pub(crate) const FIRST_WITH_GRANT_OPTIONS: i32 = 160_000;

/// What there is of the target, and who is to change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) administrator: Administrator,
    pub(crate) role: Option<Role>,
    pub(crate) database: Option<Database>,
}

/// The administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Administrator {
    pub(crate) is_superuser: bool,
    /// Whether it has the target role's rights and may SET ROLE to it; false while that role is missing.
    pub(crate) acts_as_role: bool,
    /// `server_version_num`: 160004 is 16.4.
    pub(crate) server_version: i32,
}

/// The login role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) can_log_in: bool,
    /// More than db-init gives: superuser, createrole, createdb, replication, bypassrls, or a predefined role,
    /// its own or by a membership, however indirect.
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
    /// Looks, by the administrator's session and, where that may not see the password's verifier, by a login
    /// as the user.
    pub(crate) async fn look(admin: &Admin, server: &Server, target: &Target) -> Result<Self, DbInitError> {
        const ADMINISTRATOR: &str = "SELECT rolsuper, current_setting('server_version_num')::int, \
            has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT') \
            FROM pg_roles WHERE rolname = current_user";
        const ROLE: &str = "WITH RECURSIVE reached AS ( \
                SELECT oid FROM pg_roles WHERE rolname = $1 \
                UNION SELECT roleid FROM pg_auth_members JOIN reached ON member = reached.oid \
            ) SELECT rolcanlogin, ( \
                SELECT bool_or(rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls \
                    OR (rolname ^@ 'pg_' AND rolname <> 'pg_database_owner')) \
                FROM pg_roles JOIN reached USING (oid) \
            ), pg_has_role(oid, $2::text) AND pg_has_role(oid, 'USAGE') \
            FROM pg_roles WHERE rolname = $1";
        const DATABASE: &str = "SELECT pg_get_userbyid(datdba)::text, \
            EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0) \
            FROM pg_database WHERE datname = $1";
        const GRANTED: &str = "SELECT count(DISTINCT privilege_type) = 3 FROM pg_database, \
            aclexplode(coalesce(datacl, acldefault('d', datdba))) \
            WHERE datname = $1 AND grantee = (SELECT oid FROM pg_roles WHERE rolname = $2)";
        let client = &admin.client;
        let looking =
            |error: tokio_postgres::Error| admin.failed("looking at the roles and databases", &error);

        let administrator = client.query_one(ADMINISTRATOR, &[]).await.map_err(looking)?;
        let (is_superuser, server_version, sees_verifiers) =
            (administrator.get(0), administrator.get(1), administrator.get(2));
        // Before 16, every member may SET ROLE.
        let settable = if server_version < FIRST_WITH_GRANT_OPTIONS { "MEMBER" } else { "SET" };
        let role = client.query_opt(ROLE, &[&target.user, &settable]).await.map_err(looking)?;
        let database = client.query_opt(DATABASE, &[&target.database]).await.map_err(looking)?;
        let granted = client.query_one(GRANTED, &[&target.database, &target.user]).await.map_err(looking)?;

        let acts_as_role = role.as_ref().is_some_and(|row| row.get(2));
        let database = database.map(|row| Database {
            owner: row.get(0),
            public_may_connect: row.get(1),
            is_granted: granted.get(0),
        });
        let role = match role {
            None => None,
            Some(row) => {
                let password_is_right = if sees_verifiers {
                    fits_verifier(admin, target).await?
                } else {
                    let entrance = if database.is_some() { target.database.as_str() } else { "postgres" };
                    logs_in(server, target, entrance).await?
                };
                Some(Role { can_log_in: row.get(0), is_powerful: row.get(1), password_is_right })
            }
        };
        let administrator = Administrator { is_superuser, acts_as_role, server_version };
        Ok(Self { administrator, role, database })
    }
}

/// Whether the password is the one that the server keeps a SCRAM verifier of.
async fn fits_verifier(admin: &Admin, target: &Target) -> Result<bool, DbInitError> {
    let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
    let row = admin.client.query_opt(sql, &[&target.user]).await;
    let row = row.map_err(|error| admin.failed("reading the verifier of the role's password", &error))?;
    let verifier = row.and_then(|row| row.get::<_, Option<String>>(0)).map(SecretString::from);
    Ok(verifier.is_some_and(|verifier| verifier::fits(&target.password, &verifier)))
}

/// Whether the role can log in with its password, and could not with another: where the server asks for no
/// password at all, a login says nothing.
async fn logs_in(server: &Server, target: &Target, database: &str) -> Result<bool, DbInitError> {
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
        Err(error) if error.is_refusal() => Ok(false),
        Err(error) => Err(DbInitError::Login {
            place: server.place(),
            user: target.user.clone(),
            database: database.to_owned(),
            why: error.reason(),
        }),
    }
}
