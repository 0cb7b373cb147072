//! What the database and its role are to be like, and what is not taken over.

use harness::{Postgres, PostgresVersion, on_every_version, run};

use super::db_init;
use crate::crew::{Crew, PASSWORD};

on_every_version!(
    they_are_made_and_mended_as_asked_for,
    a_reader_reads_what_there_is_and_what_comes_and_changes_nothing,
    another_owner_leaves_the_service_all_it_needs,
    a_schema_that_all_may_create_in_is_closed,
    a_database_as_servers_up_to_14_make_it_is_the_services_own,
    it_is_copied_from_the_template_that_is_named,
    a_role_that_was_here_before_is_not_taken_over,
);

fn they_are_made_and_mended_as_asked_for(version: PostgresVersion) {
    let (crew, postgres) = (Crew::applied(), Postgres::start(version));
    let like = |limit: &'static str| {
        let mut command = db_init(&crew, &postgres);
        command.args(["--db-encoding", "SQL_ASCII", "--db-locale", "POSIX", "--connection-limit", limit]);
        command.args(["--valid-until", "2099-01-31 12:00+01", "--extension", "plpgsql"]);
        command
    };
    run(&mut like("3")).success();
    let role =
        "SELECT rolconnlimit, rolvaliduntil = '2099-01-31 11:00+00' FROM pg_roles WHERE rolname = 'user_svc'";
    assert_eq!(postgres.sql("postgres", role), "3|t");
    let database =
        "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = 'users'";
    assert_eq!(postgres.sql("postgres", database), "SQL_ASCII|C");
    let second = run(&mut like("3")).success();
    assert!(second.stdout.starts_with("user_db: nothing to change"), "{}", second.stdout);

    let mended = run(&mut like("-1")).success();
    assert!(mended.stderr.contains("set the connection limit of the role user_svc"), "{}", mended.stderr);
    assert_eq!(postgres.sql("postgres", role), "-1|t");
    let fixed = run(db_init(&crew, &postgres).args(["--db-encoding", "UTF8"])).expect_code(78);
    assert!(fixed.stderr.contains("has the encoding SQL_ASCII, not UTF8"), "{}", fixed.stderr);
}

#[test]
fn an_extension_of_debians_is_made_and_an_unknown_one_named() {
    let (crew, postgres) = (Crew::applied(), Postgres::start(PostgresVersion::V15));
    let with = |names: &str| {
        let mut command = db_init(&crew, &postgres);
        command.args(["--extension", names]);
        command
    };
    run(&mut with("citext,pgcrypto")).success();
    postgres
        .psql(
            "user_svc",
            PASSWORD,
            "users",
            "CREATE TABLE t (name citext, hash bytea DEFAULT digest('x', 'sha256'))",
        )
        .unwrap();
    assert!(run(&mut with("pgcrypto")).success().stdout.starts_with("user_db: nothing to change"));
    let unknown = run(&mut with("no_such_thing")).expect_code(1);
    assert!(
        unknown.stderr.contains("CREATE EXTENSION IF NOT EXISTS \"no_such_thing\""),
        "{}",
        unknown.stderr
    );
}

fn a_reader_reads_what_there_is_and_what_comes_and_changes_nothing(version: PostgresVersion) {
    let (crew, postgres) = (Crew::applied(), Postgres::start(version));
    run(&mut db_init(&crew, &postgres)).success();
    let as_user = |sql: &str| postgres.psql("user_svc", PASSWORD, "users", sql).unwrap();
    as_user("CREATE TABLE before (n int); INSERT INTO before VALUES (1)");
    let with_reader = || run(db_init(&crew, &postgres).args(["--read-only-role", "reporting"])).success();
    with_reader();
    assert!(with_reader().stdout.starts_with("user_db: nothing to change"));
    as_user("CREATE TABLE later (n int); INSERT INTO later VALUES (2)");
    postgres.sql("postgres", "CREATE ROLE analyst LOGIN PASSWORD 'x' IN ROLE reporting");
    let as_reader = |sql: &str| postgres.psql("analyst", "x", "users", sql);
    assert_eq!(as_reader("SELECT before.n + later.n FROM before, later").unwrap(), "3");
    for change in ["INSERT INTO before VALUES (9)", "DROP TABLE before", "CREATE TABLE mine (n int)"] {
        let refused = as_reader(change).unwrap_err();
        assert!(refused.contains("permission denied") || refused.contains("must be owner"), "{refused}");
    }
    assert!(with_reader().stdout.starts_with("user_db: nothing to change"));
}

fn another_owner_leaves_the_service_all_it_needs(version: PostgresVersion) {
    let (crew, postgres) = (Crew::applied(), Postgres::start(version));
    postgres.sql("postgres", "CREATE ROLE boss");
    let owned = || run(db_init(&crew, &postgres).args(["--db-owner", "boss"]));
    owned().success();
    postgres.psql("user_svc", PASSWORD, "users", "CREATE TABLE t (n int)").unwrap();
    assert!(owned().success().stdout.starts_with("user_db: nothing to change"));
    let nobody = run(db_init(&crew, &postgres).args(["--db-owner", "nobody", "--adopt"])).expect_code(1);
    assert!(nobody.stderr.contains("role \"nobody\" does not exist"), "{}", nobody.stderr);
}

/// As servers up to 14 make it, and as it stays in a database that was upgraded from them.
fn a_schema_that_all_may_create_in_is_closed(version: PostgresVersion) {
    let (crew, postgres) = (Crew::applied(), Postgres::start(version));
    run(&mut db_init(&crew, &postgres)).success();
    postgres.sql("users", "ALTER SCHEMA public OWNER TO postgres; GRANT ALL ON SCHEMA public TO PUBLIC");
    let mended = run(&mut db_init(&crew, &postgres)).success();
    assert!(mended.stderr.contains("closed the schema public of users to other roles"), "{}", mended.stderr);
    assert!(mended.stderr.contains("granted the schema public of users to user_svc"), "{}", mended.stderr);
    assert!(run(&mut db_init(&crew, &postgres)).success().stdout.starts_with("user_db: nothing to change"));
}

/// Its schema `public` is the superuser's there, and everybody's to create in.
fn a_database_as_servers_up_to_14_make_it_is_the_services_own(version: PostgresVersion) {
    let (crew, postgres) = (Crew::applied(), Postgres::start(version));
    let as_14 = "ALTER SCHEMA public OWNER TO postgres; GRANT CREATE ON SCHEMA public TO PUBLIC";
    postgres.sql("template1", as_14);
    postgres.sql("postgres", "CREATE ROLE neighbour LOGIN PASSWORD 'x'");
    let made = run(&mut db_init(&crew, &postgres)).success();
    assert!(made.stderr.contains("closed the schema public of users to other roles"), "{}", made.stderr);
    let may = "SELECT has_schema_privilege('neighbour', 'public', 'CREATE'), has_schema_privilege('user_svc', 'public', 'CREATE')";
    assert_eq!(postgres.sql("users", may), "f|t");
    assert!(run(&mut db_init(&crew, &postgres)).success().stdout.starts_with("user_db: nothing to change"));

    // By somebody to whom the schema does not belong: it is used as it is, and the database is closed all the same.
    postgres.sql("postgres", "DROP DATABASE users");
    postgres.sql("postgres", "DROP ROLE user_svc");
    postgres.sql("postgres", "CREATE ROLE maker LOGIN CREATEROLE CREATEDB PASSWORD 'maker'");
    crew.write("superuser-password", "maker");
    let by_maker = || run(db_init(&crew, &postgres).args(["--admin-user", "maker"])).success();
    by_maker();
    postgres.psql("user_svc", PASSWORD, "users", "CREATE TABLE t (n int)").unwrap();
    let closed = postgres.psql("neighbour", "x", "users", "SELECT 1").unwrap_err();
    assert!(closed.contains("permission denied for database"), "{closed}");
    assert!(by_maker().stdout.starts_with("user_db: nothing to change"));
}

fn it_is_copied_from_the_template_that_is_named(version: PostgresVersion) {
    let (crew, postgres) = (Crew::applied(), Postgres::start(version));
    postgres.sql("postgres", "CREATE DATABASE model");
    postgres.sql("model", "CREATE TABLE brought (n int)");
    let like = || run(db_init(&crew, &postgres).args(["--db-template", "model"])).success();
    like();
    assert_eq!(postgres.sql("users", "SELECT to_regclass('brought')"), "brought");
    assert!(like().stdout.starts_with("user_db: nothing to change"));
}

fn a_role_that_was_here_before_is_not_taken_over(version: PostgresVersion) {
    let (crew, postgres) = (Crew::applied(), Postgres::start(version));
    postgres.sql("postgres", "CREATE ROLE user_svc LOGIN PASSWORD 'somebody''s'");
    let refused = run(&mut db_init(&crew, &postgres)).expect_code(78);
    assert!(refused.stderr.contains("the role user_svc exists"), "{}", refused.stderr);
    postgres.psql("user_svc", "somebody's", "postgres", "SELECT 1").unwrap();
    assert_eq!(postgres.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'users'"), "0");
    run(db_init(&crew, &postgres).arg("--adopt")).success();
    postgres.psql("user_svc", PASSWORD, "users", "SELECT 1").unwrap();
}
