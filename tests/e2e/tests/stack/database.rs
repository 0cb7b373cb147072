//! db-init against real PostgreSQL servers.

mod faults;
mod logs;
mod many;
mod objects;
mod rotate;
mod socket;
mod tls;
mod way;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use harness::{Postgres, PostgresOptions, PostgresVersion, Proxy, on_every_version, run};

use crate::crew::{Crew, PASSWORD, spawn};

on_every_version!(
    makes_a_database_that_is_ready,
    an_administrator_who_is_no_superuser_suffices,
    where_the_socket_goes_by_the_peer_the_administrator_proves_the_database,
    ten_at_once_make_one_database,
);

fn db_init(crew: &Crew, postgres: &Postgres) -> Command {
    db_init_to(crew, postgres, postgres.address())
}

/// Through a proxy before the server.
fn db_init_through(crew: &Crew, postgres: &Postgres, proxy: &Proxy) -> Command {
    assert_eq!(proxy.upstream(), postgres.address());
    db_init_to(crew, postgres, proxy.address())
}

fn db_init_to(crew: &Crew, postgres: &Postgres, address: SocketAddr) -> Command {
    if !crew.path("superuser-password").exists() {
        crew.write("superuser-password", postgres.password());
    }
    let mut command = db_init_at(crew, &address.ip().to_string(), address.port());
    command.args(["--admin-password-file", "superuser-password"]);
    command
}

/// Without a password of the administrator.
fn db_init_at(crew: &Crew, host: &str, port: u16) -> Command {
    let mut command = crew.programs.db_init();
    command
        .current_dir(crew.path(""))
        .env("VAULT_ADDR", crew.vault.addr())
        .args(["--service", "user_db", "--credentials-dir", "approle/user_db", "--wait", "10s"])
        .args(["--db-host", host, "--db-port", &port.to_string()]);
    command
}

/// Over the socket, where the administrator needs no password, and the others are let in by this method.
fn db_init_on_a_socket(crew: &Crew, postgres: &mut Postgres, method: &str) -> Command {
    let rules = format!("local all postgres trust\nlocal all all {method}\nhost all all all scram-sha-256\n");
    fs::write(postgres.dir().join("data/pg_hba.conf"), rules).unwrap();
    postgres.restart();
    db_init_at(crew, postgres.socket_dir().to_str().unwrap(), postgres.address().port())
}

fn makes_a_database_that_is_ready(version: PostgresVersion) {
    let crew = Crew::applied();
    let postgres = PostgresOptions::new(version).setting("log_statement", "all").start().unwrap();
    let plan = run(db_init(&crew, &postgres).arg("plan")).success();
    assert!(plan.stdout.contains("CREATE ROLE \"user_svc\" WITH LOGIN PASSWORD '…';"), "{}", plan.stdout);
    let first = run(&mut db_init(&crew, &postgres)).success();
    assert!(first.stdout.starts_with("user_db: done: role user_svc owns database users"), "{}", first.stdout);

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
    assert!(second.stdout.starts_with("user_db: nothing to change"), "{}", second.stdout);
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
fn a_server_that_takes_connections_and_stays_silent_is_69_after_the_wait() {
    let crew = Crew::applied();
    // Never accepted from: the kernel completes the handshakes.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let away = run(db_init_at(&crew, "127.0.0.1", port).args(["--wait", "1s"])).expect_code(69);
    assert!(away.stderr.contains("does not answer within 5 s"), "{}", away.stderr);
}

#[test]
fn a_password_of_the_administrator_that_is_not_given_is_77_at_once() {
    let crew = Crew::applied();
    let postgres = Postgres::start(PostgresVersion::V18);
    let (host, port) = (postgres.address().ip().to_string(), postgres.address().port());
    let refused = run(db_init_at(&crew, &host, port).args(["--wait", "1h"])).expect_code(77);
    assert!(refused.stderr.contains("password missing"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--admin-password-file"), "{}", refused.stderr);
}

fn an_administrator_who_is_no_superuser_suffices(version: PostgresVersion) {
    let crew = Crew::applied();
    let postgres = Postgres::start(version);
    postgres.sql("postgres", "CREATE ROLE maker LOGIN CREATEROLE CREATEDB PASSWORD 'maker'");
    crew.write("superuser-password", "maker");
    let as_maker = || {
        let mut command = db_init(&crew, &postgres);
        command.args(["--admin-user", "maker"]);
        command
    };
    let first = run(&mut as_maker()).success();
    assert!(
        first.stderr.contains("made the administrator a member of the role user_svc"),
        "{}",
        first.stderr
    );
    assert!(first.stdout.contains("user_svc owns database users"), "{}", first.stdout);
    let second = run(&mut as_maker()).success();
    assert!(second.stdout.starts_with("user_db: nothing to change"), "{}", second.stdout);
    // What another has opened is closed again, with the role's rights.
    postgres.sql("postgres", "GRANT CONNECT ON DATABASE users TO PUBLIC");
    run(&mut as_maker()).success();
    let third = run(&mut as_maker()).success();
    assert!(third.stdout.starts_with("user_db: nothing to change"), "{}", third.stdout);
}

#[test]
fn a_server_that_asks_for_no_password_keeps_the_one_it_has() {
    let crew = Crew::applied();
    let mut postgres = Postgres::start(PostgresVersion::V18);
    let verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'user_svc'";
    run(&mut db_init_on_a_socket(&crew, &mut postgres, "trust")).success();
    let kept = postgres.sql("postgres", verifier);
    let second = run(&mut db_init_on_a_socket(&crew, &mut postgres, "trust")).success();
    assert!(second.stdout.starts_with("user_db: nothing to change"), "{}", second.stdout);
    assert_eq!(postgres.sql("postgres", verifier), kept);

    postgres.sql("postgres", "ALTER ROLE user_svc PASSWORD 'changed'");
    run(&mut db_init_on_a_socket(&crew, &mut postgres, "trust")).success();
    postgres.psql("user_svc", PASSWORD, "users", "SELECT 1").unwrap();
}

fn where_the_socket_goes_by_the_peer_the_administrator_proves_the_database(version: PostgresVersion) {
    let crew = Crew::applied();
    let mut postgres = Postgres::start(version);
    let first = run(&mut db_init_on_a_socket(&crew, &mut postgres, "peer")).success();
    assert!(first.stdout.contains("the password itself was not exercised"), "{}", first.stdout);
    postgres.psql("user_svc", PASSWORD, "users", "SELECT 1").unwrap();
    let second = run(&mut db_init_on_a_socket(&crew, &mut postgres, "peer")).success();
    assert!(second.stdout.starts_with("user_db: nothing to change"), "{}", second.stdout);

    // With the user's rights, not with the administrator's.
    postgres.sql("users", "DROP SCHEMA public");
    let unusable = run(&mut db_init_on_a_socket(&crew, &mut postgres, "peer")).expect_code(1);
    assert!(unusable.stderr.contains("the role user_svc cannot create a table"), "{}", unusable.stderr);
}

#[test]
fn a_role_that_has_more_rights_by_a_membership_is_refused() {
    let crew = Crew::applied();
    let postgres = Postgres::start(PostgresVersion::V18);
    for sql in ["CREATE ROLE user_svc LOGIN", "CREATE DATABASE users OWNER user_svc"] {
        postgres.sql("postgres", sql);
    }
    postgres.sql("postgres", "CREATE ROLE middle IN ROLE pg_read_all_data");
    postgres.sql("postgres", "CREATE ROLE maker CREATEDB; CREATE ROLE harmless ROLE user_svc");
    for (group, code) in [("middle", 78), ("maker", 78), ("harmless", 0)] {
        postgres.sql("postgres", &format!("GRANT {group} TO user_svc"));
        let outcome = run(db_init(&crew, &postgres).arg("plan")).expect_code(code);
        assert_eq!(outcome.stderr.contains("or by a membership"), code == 78, "{}", outcome.stderr);
        postgres.sql("postgres", &format!("REVOKE {group} FROM user_svc"));
    }
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

fn ten_at_once_make_one_database(version: PostgresVersion) {
    let crew = Crew::applied();
    let postgres = Postgres::start(version);
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
