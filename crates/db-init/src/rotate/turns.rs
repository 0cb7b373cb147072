//! The two roles that take turns: one owns the database, the other stands in for it.

use postgres_protocol::escape::{escape_identifier, escape_literal};
use secrecy::SecretString;

use super::secrets::Secrets;
use crate::DbInitError;
use crate::args::ObjectArgs;
use crate::grants::{Statement, create_role, plain, set_password};
use crate::observed::{FIRST_WITH_GRANT_OPTIONS, Observed};
use crate::target::{MAX_NAME, Target};

/// What the one's name has behind the other's.
const SUFFIX: &str = "_alt";

/// The login of the role whose turn it is next.
pub(super) fn next(
    secrets: &Secrets<'_>,
    target: &Target,
    password: SecretString,
) -> Result<Target, DbInitError> {
    let user = other(&target.user).ok_or_else(|| DbInitError::Value {
        path: format!("{}/{}", secrets.mount, secrets.service),
        key: target.user_key.clone(),
        why: "with _alt behind it, it is longer than the 63 bytes that PostgreSQL keeps of a name",
    })?;
    Ok(Target { user, password, ..target.clone() })
}

fn other(user: &str) -> Option<String> {
    let shorter = user.strip_suffix(SUFFIX).filter(|shorter| !shorter.is_empty());
    let other = shorter.map_or_else(|| format!("{user}{SUFFIX}"), str::to_owned);
    (other.len() <= MAX_NAME).then_some(other)
}

/// Gives `next` its password, and makes it where it is missing: a member of the role `acting`, as which its sessions
/// act, so that whatever they make is that one's.
pub(super) fn statements(
    next: &Target,
    acting: &str,
    objects: &ObjectArgs,
    observed: &Observed,
) -> Result<Vec<Statement>, DbInitError> {
    let user = &next.user;
    let Some(role) = &observed.role else {
        let (name, of) = (escape_identifier(user), escape_identifier(acting));
        let has_options = observed.administrator.server_version >= FIRST_WITH_GRANT_OPTIONS;
        let options = if has_options { " WITH INHERIT TRUE, SET TRUE" } else { "" };
        let joins = format!("GRANT {of} TO {name}{options}");
        let acts = format!("ALTER ROLE {name} SET role = {}", escape_literal(acting).trim());
        return Ok(vec![
            create_role(next, objects),
            plain(joins, format!("made the role {user} a member of {acting}")),
            plain(acts, format!("had the sessions of {user} act as {acting}")),
        ]);
    };
    let takes_turns = user == acting || role.stands_in_for.as_deref() == Some(acting);
    if !takes_turns {
        return Err(DbInitError::ForeignTurn { user: user.clone(), with: acting.to_owned() });
    }
    if role.is_powerful && !objects.adopt {
        return Err(DbInitError::PowerfulRole { user: user.clone() });
    }
    Ok(vec![set_password(next, &next.password)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::{Administrator, Password, Reader, Role};

    fn shown(acting: &str, server_version: i32, role: Option<Role>) -> Result<Vec<String>, String> {
        let administrator = Administrator { is_superuser: true, acts_as_owner: true, server_version };
        let reader = Reader { exists: false, may_connect: false };
        let observed = Observed { administrator, role, database: None, reader };
        let statements = statements(&Target::example(), acting, &ObjectArgs::default(), &observed);
        let statements = statements.map_err(|error| error.to_string())?;
        Ok(statements.into_iter().map(|statement| statement.shown).collect())
    }

    fn standing_in_for(other: Option<&str>) -> Role {
        Role {
            can_log_in: true,
            is_powerful: false,
            password: Password::Wrong,
            connection_limit: -1,
            ends_as_asked: true,
            stands_in_for: other.map(str::to_owned),
        }
    }

    #[test]
    fn each_is_the_others_other() {
        assert_eq!(other("user_svc").as_deref(), Some("user_svc_alt"));
        assert_eq!(other("user_svc_alt").as_deref(), Some("user_svc"));
        assert_eq!(other("_alt").as_deref(), Some("_alt_alt"));
        assert_eq!(other(&"x".repeat(59)).unwrap().len(), 63);
        assert_eq!(other(&"x".repeat(60)), None);
    }

    #[test]
    fn the_second_role_is_made_and_acts_as_the_first() {
        assert_eq!(
            shown("the 'owner\"", 160_000, None).unwrap(),
            [
                r#"CREATE ROLE "o'brien" WITH LOGIN PASSWORD '…'"#,
                r#"GRANT "the 'owner""" TO "o'brien" WITH INHERIT TRUE, SET TRUE"#,
                r#"ALTER ROLE "o'brien" SET role = 'the ''owner"'"#,
            ]
        );
        assert!(shown("x", 150_000, None).unwrap()[1].ends_with(r#"TO "o'brien""#));
    }

    #[test]
    fn later_its_password_alone_is_set_and_a_strangers_never() {
        let set = r#"ALTER ROLE "o'brien" WITH LOGIN PASSWORD '…'"#;
        assert_eq!(shown("x", 160_000, Some(standing_in_for(Some("x")))).unwrap(), [set]);
        assert_eq!(shown("o'brien", 160_000, Some(standing_in_for(None))).unwrap(), [set]);
        for stranger in [None, Some("y")] {
            let error = shown("x", 160_000, Some(standing_in_for(stranger))).unwrap_err();
            assert!(error.contains("not one that takes turns with x"), "{error}");
        }
    }
}
