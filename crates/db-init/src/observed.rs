//! What there is.

use secrecy::SecretString;
use tokio_postgres::Row;

use crate::DbInitError;
use crate::args::ObjectArgs;
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
    /// Of `--read-only-role`.
    pub(crate) reader: Reader,
}

/// The administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Administrator {
    pub(crate) is_superuser: bool,
    /// Whether it has the rights of the role that is to own the database, and may SET ROLE to it; false while
    /// that role is missing.
    pub(crate) acts_as_owner: bool,
    /// `server_version_num`: 160004 is 16.4.
    pub(crate) server_version: i32,
}

/// The login role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) can_log_in: bool,
    /// More than db-init gives: superuser, createrole, createdb, replication, bypassrls, or a predefined role,
    /// its own or by a membership, however indirect.
    pub(crate) is_powerful: bool,
    pub(crate) password: Password,
    /// -1 where there is none.
    pub(crate) connection_limit: i32,
    /// Whether its password ends when it was asked to; true where nothing was asked.
    pub(crate) ends_as_asked: bool,
    /// Another role, of which it is a member and as which its sessions act: they make that one's tables.
    pub(crate) stands_in_for: Option<String>,
}

/// The password that the role has, beside the one that is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Password {
    /// The same.
    Right,
    /// Another, or none.
    Wrong,
    /// The administrator may not see the verifier, and the server asks for no password.
    Unknown,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) owner: String,
    /// Whether every role may connect.
    pub(crate) public_may_connect: bool,
    /// Whether the role holds all privileges on it.
    pub(crate) is_granted: bool,
    pub(crate) encoding: String,
    /// `LC_COLLATE`.
    pub(crate) locale: String,
}

/// The role that may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reader {
    pub(crate) exists: bool,
    pub(crate) may_connect: bool,
}

const ADMINISTRATOR: &str = "SELECT rolsuper, current_setting('server_version_num')::int, \
        has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT'), \
        coalesce((SELECT pg_has_role(oid, 'USAGE') AND pg_has_role(oid, \
            CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END) \
            FROM pg_roles WHERE rolname = $1), false) \
    FROM pg_roles WHERE rolname = current_user";

const ROLE: &str = "WITH RECURSIVE reached AS ( \
        SELECT oid FROM pg_roles WHERE rolname = $1 \
        UNION SELECT roleid FROM pg_auth_members JOIN reached ON member = reached.oid \
    ) SELECT rolcanlogin, ( \
        SELECT bool_or(rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls \
            OR (rolname ^@ 'pg_' AND rolname <> 'pg_database_owner')) \
        FROM pg_roles JOIN reached USING (oid) \
    ), rolconnlimit, \
    $2::text IS NULL OR coalesce(rolvaliduntil, 'infinity') = $2::text::timestamptz, \
    (SELECT acted.rolname::text FROM pg_roles acted JOIN reached USING (oid) \
        WHERE 'role=' || acted.rolname = ANY (pg_roles.rolconfig) AND acted.rolname <> $1) \
    FROM pg_roles WHERE rolname = $1";

const DATABASE: &str = "SELECT pg_get_userbyid(datdba)::text, \
    EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0), \
    (SELECT count(DISTINCT privilege_type) = 3 FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) \
        WHERE grantee = (SELECT oid FROM pg_roles WHERE rolname = $2)), \
    pg_encoding_to_char(encoding)::text, datcollate::text \
    FROM pg_database WHERE datname = $1";

const READER: &str = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1), \
    EXISTS (SELECT FROM pg_database, aclexplode(datacl) WHERE datname = $2 AND privilege_type = 'CONNECT' \
        AND grantee = (SELECT oid FROM pg_roles WHERE rolname = $1))";

impl Observed {
    /// Looks, by the administrator's session and, where that may not see the password's verifier, by a login
    /// as the user.
    pub(crate) async fn look(
        admin: &Admin,
        server: &Server,
        target: &Target,
        objects: &ObjectArgs,
    ) -> Result<Self, DbInitError> {
        let looking = "looking at the roles and databases";
        let (user, database) = (&target.user, &target.database);
        let rows = admin.rows(looking, ROLE, &[user, &objects.valid_until]).await?;
        let role = rows.first();
        let acting = role.and_then(|row| row.get::<_, Option<String>>(4)).unwrap_or_else(|| user.clone());
        let owner = objects.db_owner.as_ref().unwrap_or(&acting);

        let row = admin.row(looking, ADMINISTRATOR, &[owner]).await?;
        let sees_verifiers = row.get(2);
        let administrator =
            Administrator { is_superuser: row.get(0), server_version: row.get(1), acts_as_owner: row.get(3) };
        let found = admin.rows(looking, DATABASE, &[database, &acting]).await?;
        let found = found.first().map(|row| Database {
            owner: row.get(0),
            public_may_connect: row.get(1),
            is_granted: row.get(2),
            encoding: row.get(3),
            locale: row.get(4),
        });
        let role = match role {
            None => None,
            Some(row) => {
                let password = if sees_verifiers {
                    fits_verifier(admin, target).await?
                } else {
                    logs_in(server, target, if found.is_some() { database } else { "postgres" }).await?
                };
                Some(role_of(row, password))
            }
        };
        let row = admin.row(looking, READER, &[&objects.read_only_role, database]).await?;
        let reader = Reader { exists: row.get(0), may_connect: row.get(1) };
        Ok(Self { administrator, role, database: found, reader })
    }

    /// The role whose rights the user's sessions have, and whose tables they make: the user itself, or the one that
    /// it stands in for.
    pub(crate) fn acting<'a>(&'a self, target: &'a Target) -> &'a str {
        self.role.as_ref().and_then(|role| role.stands_in_for.as_ref()).unwrap_or(&target.user)
    }
}

fn role_of(row: &Row, password: Password) -> Role {
    Role {
        can_log_in: row.get(0),
        is_powerful: row.get(1),
        password,
        connection_limit: row.get(2),
        ends_as_asked: row.get(3),
        stands_in_for: row.get(4),
    }
}

/// Whether the password is the one that the server keeps a SCRAM verifier of.
async fn fits_verifier(admin: &Admin, target: &Target) -> Result<Password, DbInitError> {
    let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
    let rows = admin.rows("reading the verifier of the role's password", sql, &[&target.user]).await?;
    let verifier = rows.first().and_then(|row| row.get::<_, Option<String>>(0)).map(SecretString::from);
    let fits = verifier.is_some_and(|verifier| verifier::fits(&target.password, &verifier));
    Ok(if fits { Password::Right } else { Password::Wrong })
}

/// Whether the role can log in with its password, and could not with another: where the server asks for no
/// password at all, a login says nothing.
async fn logs_in(server: &Server, target: &Target, database: &str) -> Result<Password, DbInitError> {
    let wrong = SecretString::from(format!("{:016x}", getrandom::u64().unwrap_or_default()));
    if !accepts(server, target, &target.password, database).await? {
        return Ok(Password::Wrong);
    }
    let takes_any = accepts(server, target, &wrong, database).await?;
    Ok(if takes_any { Password::Unknown } else { Password::Right })
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
        Err(error) => Err(server.user_refused(target, database, &error)),
    }
}
