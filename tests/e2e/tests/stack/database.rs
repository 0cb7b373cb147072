//! db-init against real PostgreSQL servers.

use std::process::Command;

use harness::{Postgres, PostgresOptions, PostgresVersion, run};

use crate::crew::{Crew, PASSWORD, spawn};

fn db_init(crew: &Crew, postgres: &Postgres) -> Command {
    if !crew.path("superuser-password").exists() {
        crew.write("superuser-password", postgres.password());
    }
    let mut command = crew.programs.db_init();
    command
        .current_dir(crew.path(""))
        .env("VAULT_ADDR", crew.vault.addr())
        .args(["--service", "user_db", "--credentials-dir", "approle/user_db", "--wait", "10s"])
        .args(["--db-host", &postgres.address().ip().to_string()])
        .args(["--db-port", &postgres.address().port().to_string()])
        .args(["--admin-password-file", "superuser-password"]);
    command
}

fn makes_a_database_that_is_ready(version: PostgresVersion) {
    let crew = Crew::applied();
    let postgres = PostgresOptions::new(version).setting("log_statement", "all").start().unwrap();
    let plan = run(db_init(&crew, &postgres).arg("plan")).success();
    assert!(plan.stdout.contains("CREATE ROLE \"user_svc\" WITH LOGIN PASSWORD '…';"), "{}", plan.stdout);
    let first = run(&mut db_init(&crew, &postgres)).success();
    assert!(first.stdout.starts_with("done: role user_svc owns database users"), "{}", first.stdout);

    let as_user = |sql| postgres.psql("user_svc", PASSWORD, "users", sql);
    assert_eq!(
        as_user("CREATE TABLE t (n int); DROP TABLE t; SELECT current_user").unwrap().lines().last(),
        Some("user_svc")
    );
    assert!(postgres.psql("user_svc", "another password", "users", "SELECT 1").is_err());
    postgres.sql("postgres", "CREATE ROLE neighbour LOGIN PASSWORD 'x'");
    let closed = postgres.psql("neighbour", "x", "users", "SELECT 1").unwrap_err();
    assert!(closed.contains("permission denied for database"), "{closed}");

    let second = run(&mut db_init(&crew, &postgres)).success();
    assert!(second.stdout.starts_with("nothing to change"), "{}", second.stdout);
    assert!(run(db_init(&crew, &postgres).arg("plan")).success().stdout.contains("nothing to change"));

    // A password that was changed behind its back is mended.
    postgres.sql("postgres", "ALTER ROLE user_svc PASSWORD 'changed'");
    let mended = run(&mut db_init(&crew, &postgres)).success();
    assert!(mended.stderr.contains("set the password of the role user_svc"), "{}", mended.stderr);
    as_user("SELECT 1").unwrap();

    assert_eq!(crew.canary().scan("the server's log", postgres.log().as_bytes()), None);
    assert_eq!(crew.canary().scan_runs(), None);
}

#[test]
fn makes_a_database_that_is_ready_on_postgresql_18() {
    makes_a_database_that_is_ready(PostgresVersion::V18);
}

#[test]
fn makes_a_database_that_is_ready_on_postgresql_16() {
    makes_a_database_that_is_ready(PostgresVersion::V16);
}

#[test]
fn a_wrong_password_of_the_administrator_is_77_at_once() {
    let crew = Crew::applied();
    let postgres = Postgres::start(PostgresVersion::V18);
    let mut command = db_init(&crew, &postgres);
    crew.write("superuser-password", "wrong");
    let refused = run(command.args(["--wait", "1h"])).expect_code(77);
    assert!(refused.stderr.contains("refuses the administrator postgres"), "{}", refused.stderr);
    assert!(refused.stderr.contains("28P01"), "{}", refused.stderr);
}

#[test]
fn a_server_that_is_away_is_waited_for_and_then_69() {
    let crew = Crew::applied();
    let mut postgres = Postgres::start(PostgresVersion::V18);
    let mut command = db_init(&crew, &postgres);
    postgres.stop();
    let away = run(command.args(["--wait", "1s"])).expect_code(69);
    assert!(away.stderr.contains("cannot be reached"), "{}", away.stderr);

    let mut waiting = spawn(db_init(&crew, &postgres));
    assert!(waiting.is_running());
    postgres.restart();
    assert_eq!(waiting.wait(crate::crew::SOON).code(), 0);
}

#[test]
fn a_database_of_somebody_else_is_not_taken_over() {
    let crew = Crew::applied();
    let postgres = Postgres::start(PostgresVersion::V18);
    postgres.sql("postgres", "CREATE DATABASE users");
    let refused = run(&mut db_init(&crew, &postgres)).expect_code(78);
    assert!(refused.stderr.contains("belongs to postgres, not to user_svc; --adopt"), "{}", refused.stderr);
    run(db_init(&crew, &postgres).arg("--adopt")).success();
}

#[test]
fn ten_at_once_make_one_database() {
    let crew = Crew::applied();
    let postgres = Postgres::start(PostgresVersion::V18);
    let started: Vec<_> = (0..10).map(|_| spawn(db_init(&crew, &postgres))).collect();
    for process in started {
        let outcome = process.wait(crate::crew::SOON);
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    }
    let owner =
        postgres.sql("postgres", "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'users'");
    assert_eq!(owner.trim(), "user_svc");
}

#[test]
fn names_and_passwords_full_of_quotes_are_taken_literally() {
    let crew = Crew::new();
    crew.initialise();
    crew.write_env(
        "USER_DB_USER='o\"brien; DROP'\nUSER_DB_PASSWORD='canary \"; DROP ROLE postgres; --'\nUSER_DB_NAME='us\"ers -- x'\n",
    );
    crew.apply().success();
    let postgres = Postgres::start(PostgresVersion::V18);
    run(&mut db_init(&crew, &postgres)).success();
    let found = postgres.psql(
        "o\"brien; DROP",
        "canary \"; DROP ROLE postgres; --",
        "us\"ers -- x",
        "SELECT current_database()",
    );
    assert_eq!(found.unwrap().trim(), "us\"ers -- x");
}
