//! What is in the database itself: the schema `public`, extensions, the reader's rights. What is missing is
//! computed as SQL by a pure function of what was seen.

use postgres_protocol::escape::escape_identifier;

use crate::DbInitError;
use crate::args::ObjectArgs;
use crate::grants::{Statement, plain};
use crate::server::Admin;
use crate::target::Target;

/// What is in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inside {
    /// None where there is no schema `public`: somebody has removed it, and knows why.
    pub(crate) public: Option<Public>,
    pub(crate) extensions: Vec<String>,
    /// Whether the reader may read every table there is, and will every later one.
    pub(crate) reads_tables: bool,
}

/// The schema `public`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one answer of the server's, and any may go with any"
)]
pub(crate) struct Public {
    /// Whether the administrator has the rights of its owner.
    pub(crate) is_ours: bool,
    /// Whether every role may create in it, as up to PostgreSQL 14.
    pub(crate) all_may_create: bool,
    /// Whether the service's role may, by more than what every role may.
    pub(crate) user_may_create: bool,
    pub(crate) reader_may_use: bool,
}

const PUBLIC: &str = "WITH granted AS ( \
        SELECT (aclexplode(coalesce(nspacl, acldefault('n', nspowner)))).* FROM pg_namespace \
        WHERE nspname = 'public' \
    ) SELECT pg_has_role(nspowner, 'USAGE'), \
        EXISTS (SELECT FROM granted WHERE grantee = 0 AND privilege_type = 'CREATE'), \
        EXISTS (SELECT FROM granted WHERE grantee <> 0 AND privilege_type = 'CREATE' \
            AND pg_has_role($1::text::name, grantee, 'USAGE')), \
        $2::text IS NULL OR EXISTS (SELECT FROM granted WHERE privilege_type = 'USAGE' \
            AND grantee = (SELECT oid FROM pg_roles WHERE rolname = $2)) \
    FROM pg_namespace WHERE nspname = 'public'";

impl Inside {
    /// A database that is yet to be made, as it comes since PostgreSQL 15.
    pub(crate) fn new() -> Self {
        let public =
            Public { is_ours: true, all_may_create: false, user_may_create: true, reader_may_use: false };
        Self { public: Some(public), extensions: Vec::new(), reads_tables: false }
    }

    /// Looks, by an administrator's session in the database.
    pub(crate) async fn look(
        admin: &Admin,
        target: &Target,
        objects: &ObjectArgs,
    ) -> Result<Self, DbInitError> {
        let looking = "looking into the database";
        let reader = &objects.read_only_role;
        let public = admin.rows(looking, PUBLIC, &[&target.user, reader]).await?;
        let public = public.first().map(|row| Public {
            is_ours: row.get(0),
            all_may_create: row.get(1),
            user_may_create: row.get(2),
            reader_may_use: row.get(3),
        });
        let extensions = admin.rows(looking, "SELECT extname::text FROM pg_extension", &[]).await?;
        let extensions = extensions.iter().map(|row| row.get(0)).collect();
        let reads_tables = match reader {
            None => true,
            Some(reader) => admin.row(looking, READS, &[&target.user, reader]).await?.get(0),
        };
        Ok(Self { public, extensions, reads_tables })
    }
}

const READS: &str = "SELECT \
    EXISTS (SELECT FROM pg_default_acl, aclexplode(defaclacl) \
        WHERE defaclrole = (SELECT oid FROM pg_roles WHERE rolname = $1) \
        AND defaclnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public') AND defaclobjtype = 'r' \
        AND privilege_type = 'SELECT' AND grantee = (SELECT oid FROM pg_roles WHERE rolname = $2)) \
    AND NOT EXISTS (SELECT FROM pg_class \
        WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public') \
        AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT has_table_privilege($2::text::name, oid, 'SELECT'))";

/// The statements that are needed inside the database, in their order.
pub(crate) fn statements(target: &Target, objects: &ObjectArgs, inside: &Inside) -> Vec<Statement> {
    let mut statements = Vec::new();
    let database = &target.database;
    let user = escape_identifier(&target.user);
    if let Some(public) = inside.public {
        // The owner's alone to say; where the administrator is not, the database is closed to others anyway.
        if public.all_may_create && public.is_ours {
            let done = format!("closed the schema public of {database} to other roles");
            statements.push(plain("REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned(), done));
        }
        if !public.user_may_create && (public.is_ours || !public.all_may_create) {
            let done = format!("granted the schema public of {database} to {}", target.user);
            statements.push(plain(format!("GRANT ALL ON SCHEMA public TO {user}"), done));
        }
    }
    for extension in objects.extensions.iter().filter(|extension| !inside.extensions.contains(extension)) {
        let sql = format!("CREATE EXTENSION IF NOT EXISTS {}", escape_identifier(extension));
        statements.push(plain(sql, format!("made the extension {extension} in {database}")));
    }
    if let (Some(reader), Some(public)) = (&objects.read_only_role, inside.public) {
        let name = escape_identifier(reader);
        if !public.reader_may_use {
            let done = format!("let {reader} into the schema public of {database}");
            statements.push(plain(format!("GRANT USAGE ON SCHEMA public TO {name}"), done));
        }
        if !inside.reads_tables {
            let now = format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}");
            statements.push(plain(now, format!("let {reader} read the tables of {database}")));
            let later = format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {user} IN SCHEMA public GRANT SELECT ON TABLES TO {name}"
            );
            statements.push(plain(later, format!("let {reader} read the later tables of {database}")));
        }
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(objects: &ObjectArgs, inside: &Inside) -> Vec<String> {
        let target = Target::example();
        statements(&target, objects, inside).into_iter().map(|statement| statement.shown).collect()
    }

    #[test]
    fn a_new_database_needs_nothing() {
        assert!(shown(&ObjectArgs::default(), &Inside::new()).is_empty());
    }

    #[test]
    fn the_schema_is_the_services_alone_where_that_is_ours_to_say() {
        let old = |is_ours| {
            let public =
                Public { is_ours, all_may_create: true, user_may_create: false, reader_may_use: true };
            shown(&ObjectArgs::default(), &Inside { public: Some(public), ..Inside::new() })
        };
        assert_eq!(
            old(true),
            ["REVOKE CREATE ON SCHEMA public FROM PUBLIC", r#"GRANT ALL ON SCHEMA public TO "o'brien""#]
        );
        assert!(old(false).is_empty());
        let none = Inside { public: None, ..Inside::new() };
        assert!(shown(&ObjectArgs::default(), &none).is_empty());
    }

    #[test]
    fn extensions_and_a_reader_are_made_once() {
        let objects = ObjectArgs {
            extensions: vec!["citext".to_owned()],
            read_only_role: Some("re\"ader".to_owned()),
            ..ObjectArgs::default()
        };
        let all = shown(&objects, &Inside::new());
        assert_eq!(
            all,
            [
                r#"CREATE EXTENSION IF NOT EXISTS "citext""#,
                r#"GRANT USAGE ON SCHEMA public TO "re""ader""#,
                r#"GRANT SELECT ON ALL TABLES IN SCHEMA public TO "re""ader""#,
                r#"ALTER DEFAULT PRIVILEGES FOR ROLE "o'brien" IN SCHEMA public GRANT SELECT ON TABLES TO "re""ader""#,
            ]
        );
        let public = Inside::new().public.map(|public| Public { reader_may_use: true, ..public });
        let done = Inside { public, extensions: objects.extensions.clone(), reads_tables: true };
        assert!(shown(&objects, &done).is_empty());
    }
}
