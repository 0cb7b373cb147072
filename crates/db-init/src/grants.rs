//! The SQL from what there is to what there is to be. Pure.

use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::password::scram_sha_256;
use secrecy::ExposeSecret as _;

use crate::DbInitError;
use crate::observed::{FIRST_WITH_GRANT_OPTIONS, Observed};
use crate::target::Target;

/// One statement.
pub(crate) struct Statement {
    /// What is sent. May hold a password verifier.
    pub(crate) sql: String,
    /// The same for people: without the verifier.
    pub(crate) shown: String,
    /// What it has done, for the log.
    pub(crate) done: String,
    /// Whether it makes something that another session may have made meanwhile.
    pub(crate) creates: bool,
}

/// Not `Debug` by derive: `sql` may hold a verifier.
impl std::fmt::Debug for Statement {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.shown)
    }
}

/// The statements that are needed, in their order; none where all is as it should be.
///
/// Fails where something of that name is there and not ours to change, unless `adopt`.
pub(crate) fn statements(
    target: &Target,
    observed: &Observed,
    adopt: bool,
) -> Result<Vec<Statement>, DbInitError> {
    let mut statements = role(target, observed, adopt)?;
    let database = database(target, observed, adopt)?;
    if !database.is_empty() {
        statements.extend(membership(target, observed));
    }
    statements.extend(database);
    Ok(statements)
}

/// Only who acts as a role may hand it a database and change the rights on it; from 16 on, having created the
/// role is not enough. Nothing for a superuser.
fn membership(target: &Target, observed: &Observed) -> Option<Statement> {
    let administrator = observed.administrator;
    if administrator.is_superuser || administrator.acts_as_role {
        return None;
    }
    let has_options = administrator.server_version >= FIRST_WITH_GRANT_OPTIONS;
    let options = if has_options { " WITH INHERIT TRUE, SET TRUE" } else { "" };
    let sql = format!("GRANT {} TO CURRENT_USER{options}", escape_identifier(&target.user));
    Some(plain(sql, format!("made the administrator a member of the role {}", target.user)))
}

fn plain(sql: String, done: String) -> Statement {
    Statement { shown: sql.clone(), sql, done, creates: false }
}

fn role(target: &Target, observed: &Observed, adopt: bool) -> Result<Vec<Statement>, DbInitError> {
    let user = escape_identifier(&target.user);
    let with_password = |verb: &str, done: String, creates| {
        let verifier = scram_sha_256(target.password.expose_secret().as_bytes());
        let statement = |password: &str| format!("{verb} ROLE {user} WITH LOGIN PASSWORD {password}");
        Statement { sql: statement(&escape_literal(&verifier)), shown: statement("'…'"), done, creates }
    };
    match &observed.role {
        None => Ok(vec![with_password("CREATE", format!("created the role {}", target.user), true)]),
        Some(role) if role.is_powerful && !adopt => {
            Err(DbInitError::PowerfulRole { user: target.user.clone() })
        }
        Some(role) if !role.can_log_in || !role.password_is_right => {
            let done = format!("set the password of the role {}", target.user);
            Ok(vec![with_password("ALTER", done, false)])
        }
        Some(_) => Ok(Vec::new()),
    }
}

fn database(target: &Target, observed: &Observed, adopt: bool) -> Result<Vec<Statement>, DbInitError> {
    let (user, name) = (escape_identifier(&target.user), escape_identifier(&target.database));
    let mut statements = Vec::new();
    match &observed.database {
        None => {
            let done = format!("created the database {}, owned by {}", target.database, target.user);
            statements.push(Statement {
                creates: true,
                ..plain(format!("CREATE DATABASE {name} OWNER {user}"), done)
            });
        }
        Some(database) if database.owner == target.user => {}
        Some(database) if adopt => {
            let done = format!("took the database {} over from {}", target.database, database.owner);
            statements.push(plain(format!("ALTER DATABASE {name} OWNER TO {user}"), done));
        }
        Some(database) => {
            return Err(DbInitError::ForeignDatabase {
                database: target.database.clone(),
                owner: database.owner.clone(),
                user: target.user.clone(),
            });
        }
    }
    // By default every role of the server may connect to every database.
    if observed.database.as_ref().is_none_or(|database| database.public_may_connect) {
        let done = format!("closed the database {} to other roles", target.database);
        statements.push(plain(format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"), done));
    }
    if observed.database.as_ref().is_none_or(|database| database.owner != target.user || !database.is_granted)
    {
        let done = format!("granted all privileges on {} to {}", target.database, target.user);
        statements.push(plain(format!("GRANT ALL PRIVILEGES ON DATABASE {name} TO {user}"), done));
    }
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observed::{Administrator, Database, Role};

    fn target() -> Target {
        Target {
            user: "o'brien".to_owned(),
            password: "canary'; DROP TABLE x; --".into(),
            database: "users\"db".to_owned(),
            host: None,
            port: None,
        }
    }

    const GOOD_ROLE: Role = Role { can_log_in: true, is_powerful: false, password_is_right: true };

    const SUPERUSER: Administrator =
        Administrator { is_superuser: true, acts_as_role: true, server_version: 180_000 };

    const NOTHING: Observed = Observed { administrator: SUPERUSER, role: None, database: None };

    fn good_database() -> Database {
        Database { owner: "o'brien".to_owned(), public_may_connect: false, is_granted: true }
    }

    fn shown(observed: &Observed, adopt: bool) -> Vec<String> {
        let statements = statements(&target(), observed, adopt).unwrap();
        for statement in &statements {
            assert!(!format!("{statement:?} {} {}", statement.sql, statement.done).contains("canary"));
        }
        statements.into_iter().map(|statement| statement.shown).collect()
    }

    #[test]
    fn makes_everything_where_there_is_nothing() {
        assert_eq!(
            shown(&NOTHING, false),
            [
                r#"CREATE ROLE "o'brien" WITH LOGIN PASSWORD '…'"#,
                r#"CREATE DATABASE "users""db" OWNER "o'brien""#,
                r#"REVOKE ALL ON DATABASE "users""db" FROM PUBLIC"#,
                r#"GRANT ALL PRIVILEGES ON DATABASE "users""db" TO "o'brien""#,
            ]
        );
    }

    #[test]
    fn changes_nothing_where_all_is_well() {
        let observed = Observed { role: Some(GOOD_ROLE), database: Some(good_database()), ..NOTHING };
        assert!(shown(&observed, false).is_empty());
    }

    const CREATOR: Administrator =
        Administrator { is_superuser: false, acts_as_role: false, server_version: 160_004 };

    #[test]
    fn an_administrator_who_is_no_superuser_joins_the_role_to_hand_it_a_database() {
        let by = |administrator| shown(&Observed { administrator, ..NOTHING }, false)[1].clone();
        assert_eq!(by(CREATOR), r#"GRANT "o'brien" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE"#);
        let before_16 = Administrator { server_version: 150_007, ..CREATOR };
        assert_eq!(by(before_16), r#"GRANT "o'brien" TO CURRENT_USER"#);
        let member = Administrator { acts_as_role: true, ..CREATOR };
        assert!(by(member).starts_with("CREATE DATABASE"));

        let role = Some(Role { password_is_right: false, ..GOOD_ROLE });
        let database = Some(good_database());
        assert_eq!(shown(&Observed { administrator: CREATOR, role, database }, false).len(), 1);
    }

    #[test]
    fn mends_what_differs() {
        let role = Some(Role { password_is_right: false, ..GOOD_ROLE });
        let database = Some(Database { public_may_connect: true, ..good_database() });
        assert_eq!(
            shown(&Observed { role, database, ..NOTHING }, false),
            [
                r#"ALTER ROLE "o'brien" WITH LOGIN PASSWORD '…'"#,
                r#"REVOKE ALL ON DATABASE "users""db" FROM PUBLIC"#,
            ]
        );
    }

    #[test]
    fn takes_nothing_over_unless_told() {
        let foreign = Observed {
            role: Some(GOOD_ROLE),
            database: Some(Database { owner: "postgres".to_owned(), ..good_database() }),
            ..NOTHING
        };
        let error = statements(&target(), &foreign, false).unwrap_err().to_string();
        assert!(error.contains("postgres") && error.contains("--adopt"), "{error}");
        assert!(shown(&foreign, true)[0].starts_with("ALTER DATABASE"));

        let powerful = Observed {
            role: Some(Role { is_powerful: true, ..GOOD_ROLE }),
            database: Some(good_database()),
            ..NOTHING
        };
        assert!(statements(&target(), &powerful, false).is_err());
        assert!(shown(&powerful, true).is_empty());
    }

    proptest! {
        #[test]
        fn no_name_breaks_out_of_its_quotes(user in "[^\0]{1,20}", database in "[^\0]{1,20}") {
            let target = Target { user, database, ..target() };
            let observed = Observed { administrator: CREATOR, ..NOTHING };
            for statement in statements(&target, &observed, false).unwrap() {
                let outside: String = statement.shown.split('"').step_by(2).collect();
                prop_assert!(outside.chars().all(|letter| letter.is_ascii_alphabetic() || " '…_,".contains(letter)));
            }
        }
    }
}
