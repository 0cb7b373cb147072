//! The SQL from what there is to what there is to be, outside the database itself. Pure.

use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::password::scram_sha_256;
use secrecy::{ExposeSecret as _, SecretString};

use crate::DbInitError;
use crate::args::ObjectArgs;
use crate::observed::{FIRST_WITH_GRANT_OPTIONS, Observed, Password};
use crate::target::Target;

/// One statement.
pub(crate) struct Statement {
    /// What is sent. May hold a password verifier.
    pub(crate) sql: String,
    /// The same for people: without the verifier.
    pub(crate) shown: String,
    /// What it has done, for the log.
    pub(crate) done: String,
}

/// Not `Debug` by derive: `sql` may hold a verifier.
impl std::fmt::Debug for Statement {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.shown)
    }
}

/// A statement that holds nothing secret.
pub(crate) fn plain(sql: String, done: String) -> Statement {
    Statement { shown: sql.clone(), sql, done }
}

/// Sets the password, by a verifier with a salt of its own.
pub(crate) fn set_password(target: &Target, password: &SecretString) -> Statement {
    let alter = format!("ALTER ROLE {} WITH LOGIN", escape_identifier(&target.user));
    with_password(&alter, password, format!("set the password of the role {}", target.user))
}

fn with_password(beginning: &str, password: &SecretString, done: String) -> Statement {
    let verifier = scram_sha_256(password.expose_secret().as_bytes());
    let statement = |literal: &str| format!("{beginning} PASSWORD {literal}");
    Statement { sql: statement(&escape_literal(&verifier)), shown: statement("'…'"), done }
}

/// The statements that are needed, in their order; none where all is as it should be.
///
/// Fails where something of that name is there and not ours to change, unless it is to be adopted.
pub(crate) fn statements(
    target: &Target,
    objects: &ObjectArgs,
    observed: &Observed,
) -> Result<Vec<Statement>, DbInitError> {
    let mut statements = role(target, objects, observed)?;
    let database = database(target, objects, observed)?;
    let reader = reader(target, objects, observed)?;
    if !database.is_empty() || !reader.is_empty() {
        statements.extend(membership(owner(target, objects, observed), observed));
    }
    statements.extend(database);
    statements.extend(reader);
    Ok(statements)
}

fn owner<'a>(target: &'a Target, objects: &'a ObjectArgs, observed: &'a Observed) -> &'a str {
    objects.db_owner.as_deref().unwrap_or_else(|| observed.acting(target))
}

/// Only who acts as a role may hand it a database and change the rights on it; from 16 on, having created the
/// role is not enough. Nothing for a superuser.
fn membership(owner: &str, observed: &Observed) -> Option<Statement> {
    let administrator = observed.administrator;
    if administrator.is_superuser || administrator.acts_as_owner {
        return None;
    }
    let has_options = administrator.server_version >= FIRST_WITH_GRANT_OPTIONS;
    let options = if has_options { " WITH INHERIT TRUE, SET TRUE" } else { "" };
    let sql = format!("GRANT {} TO CURRENT_USER{options}", escape_identifier(owner));
    Some(plain(sql, format!("made the administrator a member of the role {owner}")))
}

/// Makes the login role.
pub(crate) fn create_role(target: &Target, objects: &ObjectArgs) -> Statement {
    let name = escape_identifier(&target.user);
    let options = [connection_limit(objects), valid_until(objects)].map(Option::unwrap_or_default).concat();
    let create = format!("CREATE ROLE {name} WITH LOGIN{options}");
    with_password(&create, &target.password, format!("created the role {}", target.user))
}

fn connection_limit(objects: &ObjectArgs) -> Option<String> {
    objects.connection_limit.map(|limit| format!(" CONNECTION LIMIT {limit}"))
}

fn valid_until(objects: &ObjectArgs) -> Option<String> {
    objects.valid_until.as_ref().map(|time| format!(" VALID UNTIL {}", escape_literal(time).trim()))
}

fn role(target: &Target, objects: &ObjectArgs, observed: &Observed) -> Result<Vec<Statement>, DbInitError> {
    let user = &target.user;
    let name = escape_identifier(user);
    let Some(role) = &observed.role else { return Ok(vec![create_role(target, objects)]) };
    if role.is_powerful && !objects.adopt {
        return Err(DbInitError::PowerfulRole { user: user.clone() });
    }
    let acting = observed.acting(target);
    let owns_database = observed.database.as_ref().is_some_and(|database| database.owner == acting);
    if role.password == Password::Wrong && !owns_database && !objects.adopt {
        return Err(DbInitError::ForeignRole { user: user.clone(), database: target.database.clone() });
    }
    let mut statements = Vec::new();
    if !role.can_log_in || role.password != Password::Right {
        statements.push(set_password(target, &target.password));
    }
    if let Some(limit) =
        connection_limit(objects).filter(|_| objects.connection_limit != Some(role.connection_limit))
    {
        let done = format!("set the connection limit of the role {user}");
        statements.push(plain(format!("ALTER ROLE {name}{limit}"), done));
    }
    if let Some(end) = valid_until(objects).filter(|_| !role.ends_as_asked) {
        let done = format!("set the end of the password of the role {user}");
        statements.push(plain(format!("ALTER ROLE {name}{end}"), done));
    }
    Ok(statements)
}

fn database(
    target: &Target,
    objects: &ObjectArgs,
    observed: &Observed,
) -> Result<Vec<Statement>, DbInitError> {
    let (acting, owner) = (observed.acting(target), owner(target, objects, observed));
    let (acting_name, owner_name) = (escape_identifier(acting), escape_identifier(owner));
    let name = escape_identifier(&target.database);
    let mut statements = Vec::new();
    match &observed.database {
        None => {
            let done = format!("created the database {}, owned by {owner}", target.database);
            let options = creation(objects);
            statements.push(plain(format!("CREATE DATABASE {name} OWNER {owner_name}{options}"), done));
        }
        Some(database) if database.owner == owner => {}
        // The service's own, which is to be handed to another owner, or back.
        Some(database) if objects.adopt || (objects.db_owner.is_some() && database.owner == acting) => {
            let done = format!("gave the database {} of {} to {owner}", target.database, database.owner);
            statements.push(plain(format!("ALTER DATABASE {name} OWNER TO {owner_name}"), done));
        }
        Some(database) => {
            return Err(DbInitError::ForeignDatabase {
                database: target.database.clone(),
                owner: database.owner.clone(),
                user: owner.to_owned(),
            });
        }
    }
    if let Some(database) = &observed.database {
        let wanted = [
            ("encoding", &database.encoding, &objects.db_encoding),
            ("locale", &database.locale, &objects.db_locale),
        ];
        for (what, has, wanted) in wanted {
            if let Some(wanted) = wanted.as_ref().filter(|wanted| !is_same_name(has, wanted)) {
                let (database, has, wanted) = (target.database.clone(), has.clone(), wanted.clone());
                return Err(DbInitError::Fixed { database, what, has, wanted });
            }
        }
    }
    // By default every role of the server may connect to every database.
    if observed.database.as_ref().is_none_or(|database| database.public_may_connect) {
        let done = format!("closed the database {} to other roles", target.database);
        statements.push(plain(format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"), done));
    }
    if observed.database.as_ref().is_none_or(|database| database.owner != owner || !database.is_granted) {
        let done = format!("granted all privileges on {} to {acting}", target.database);
        statements.push(plain(format!("GRANT ALL PRIVILEGES ON DATABASE {name} TO {acting_name}"), done));
    }
    Ok(statements)
}

/// The options of `CREATE DATABASE`. Only `template0` may be copied into another encoding or locale.
fn creation(objects: &ObjectArgs) -> String {
    let differs = objects.db_encoding.is_some() || objects.db_locale.is_some();
    let template = objects.db_template.as_deref().or(differs.then_some("template0"));
    let template = template.map(|template| format!(" TEMPLATE {}", escape_identifier(template)));
    let option = |word: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!(" {word} {}", escape_literal(value).trim()))
    };
    let options = [template, option("ENCODING", &objects.db_encoding), option("LOCALE", &objects.db_locale)];
    options.into_iter().flatten().collect()
}

/// `UTF8` and `utf-8`, `C.UTF-8` and `C.utf8` are the same to PostgreSQL and to the C library, `POSIX` is `C`.
fn is_same_name(one: &str, other: &str) -> bool {
    let plain = |name: &str| {
        let name = if name == "POSIX" { "C" } else { name };
        let letters = name.chars().filter(|letter| *letter != '-');
        letters.map(|letter| letter.to_ascii_lowercase()).collect::<String>()
    };
    plain(one) == plain(other)
}

fn reader(target: &Target, objects: &ObjectArgs, observed: &Observed) -> Result<Vec<Statement>, DbInitError> {
    let Some(reader) = &objects.read_only_role else { return Ok(Vec::new()) };
    if *reader == target.user {
        return Err(DbInitError::ReaderIsUser(reader.clone()));
    }
    let name = escape_identifier(reader);
    let mut statements = Vec::new();
    if !observed.reader.exists {
        statements.push(plain(format!("CREATE ROLE {name} NOLOGIN"), format!("created the role {reader}")));
    }
    if !observed.reader.may_connect {
        let sql = format!("GRANT CONNECT ON DATABASE {} TO {name}", escape_identifier(&target.database));
        statements.push(plain(sql, format!("let {reader} connect to {}", target.database)));
    }
    Ok(statements)
}

#[cfg(test)]
mod tests;
