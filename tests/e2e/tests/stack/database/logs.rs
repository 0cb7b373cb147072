//! Everything that a server can be made to write about statements: no password is in it, and where the
//! administrator's rights allow no verifier either.

use harness::{PostgresOptions, PostgresVersion, on_every_version, run};

use super::db_init;
use crate::crew::{Crew, PASSWORD};

on_every_version!(
    neither_password_nor_verifier_is_said_where_the_administrator_is_a_superuser,
    no_password_is_said_where_the_administrator_may_not_silence_the_server,
    an_administrator_who_was_let_silence_the_server_does_so,
);

/// Whether the modules are there that tell of statements besides.
fn has_modules(version: PostgresVersion) -> bool {
    version == PostgresVersion::V15
}

fn a_server_that_tells_everything(version: PostgresVersion) -> PostgresOptions {
    let modules = if has_modules(version) { "pg_stat_statements,auto_explain" } else { "" };
    [
        ("log_statement", "all"),
        ("log_min_duration_statement", "0"),
        ("log_duration", "on"),
        ("log_min_messages", "debug1"),
        ("log_min_error_statement", "debug5"),
        ("log_error_verbosity", "verbose"),
        ("log_parameter_max_length", "-1"),
        ("log_connections", "on"),
        ("shared_preload_libraries", modules),
        ("pg_stat_statements.track", "all"),
        ("pg_stat_statements.track_utility", "on"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_nested_statements", "on"),
        ("track_activities", "on"),
    ]
    .iter()
    .fold(PostgresOptions::new(version), |options, (name, value)| options.setting(name, value))
}

fn said_by(version: PostgresVersion, admin: Option<&str>) -> String {
    let crew = Crew::applied();
    let postgres = a_server_that_tells_everything(version).start().unwrap();
    if has_modules(version) {
        postgres.sql("postgres", "CREATE EXTENSION pg_stat_statements");
    }
    let command = || {
        let mut command = db_init(&crew, &postgres);
        if let Some(admin) = admin {
            command.args(["--admin-user", admin]);
        }
        command
    };
    if let Some(admin) = admin {
        postgres.sql("postgres", &format!("CREATE ROLE {admin} LOGIN CREATEROLE CREATEDB PASSWORD 'maker'"));
        drop(command());
        crew.write("superuser-password", "maker");
    }
    run(&mut command()).success();
    run(&mut command()).success();
    // A changed password, a statement that fails after it was sent, and a login that is refused.
    postgres.sql("postgres", "ALTER ROLE user_svc PASSWORD 'changed'");
    run(&mut command()).success();
    run(command().args(["--valid-until", "no time"])).expect_code(1);
    run(command().arg("healthcheck")).success();

    let mut said = postgres.log();
    // They do write: what others do is all there.
    assert!(said.contains("ALTER ROLE user_svc PASSWORD 'changed'"), "{said}");
    if has_modules(version) {
        let statements = postgres.sql("postgres", "SELECT string_agg(query, E'\\n') FROM pg_stat_statements");
        assert!(said.contains("Query Text:") && statements.contains("ALTER ROLE user_svc"), "{said}");
        said += &statements;
    }
    assert_eq!(crew.canary().scan("what the server says", said.as_bytes()), None);
    assert!(!said.contains(PASSWORD));
    said
}

fn neither_password_nor_verifier_is_said_where_the_administrator_is_a_superuser(version: PostgresVersion) {
    let said = said_by(version, None);
    assert!(!said.contains("SCRAM-SHA-256$"), "{said}");
}

fn no_password_is_said_where_the_administrator_may_not_silence_the_server(version: PostgresVersion) {
    let said = said_by(version, Some("maker"));
    // PostgreSQL keeps that to superusers: it is why the password itself is never sent.
    assert!(said.contains("SCRAM-SHA-256$"), "{said}");
    // And asking for it is not held against him.
    assert!(!said.contains("permission denied to set parameter"), "{said}");
}

fn an_administrator_who_was_let_silence_the_server_does_so(version: PostgresVersion) {
    let crew = Crew::applied();
    let postgres = a_server_that_tells_everything(version).start().unwrap();
    postgres.sql("postgres", "CREATE ROLE maker LOGIN CREATEROLE CREATEDB PASSWORD 'maker'");
    for setting in [
        "log_statement",
        "log_min_duration_statement",
        "log_min_duration_sample",
        "log_duration",
        "log_min_error_statement",
        "track_activities",
        "pg_stat_statements.track",
    ] {
        // One of a module is known where that is loaded.
        if setting.contains('.') && !has_modules(version) {
            continue;
        }
        postgres.sql("postgres", &format!("GRANT SET ON PARAMETER {setting} TO maker"));
    }
    drop(db_init(&crew, &postgres));
    crew.write("superuser-password", "maker");
    run(db_init(&crew, &postgres).args(["--admin-user", "maker"])).success();
    assert!(!postgres.log().contains("SCRAM-SHA-256$"), "{}", postgres.log());
}
