//! Two roles that take turns: at no moment is a login refused that was taken from Vault.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Postgres, PostgresVersion, on_every_version, run, spawn, wait_until};
use serde_json::Value;

use super::super::db_init;
use super::{agreed, login, rotate, secret, stack};
use crate::crew::{Crew, PASSWORD, SOON};

on_every_version!(
    a_client_with_what_its_agent_has_rendered_is_never_refused,
    the_one_makes_and_uses_the_tables_of_the_other,
    an_administrator_who_is_no_superuser_suffices_for_it,
);

/// What a client met that logged in again and again.
#[derive(Debug, Default)]
struct Met {
    logins: usize,
    refusals: Vec<String>,
    /// From the first refusal to the last.
    for_so_long: Duration,
}

/// Logs in with what is in the file at that moment, until told to stop.
fn log_in_again_and_again(postgres: &Postgres, file: &std::path::Path, stop: &AtomicBool) -> Met {
    let (mut met, mut first_refusal) = (Met::default(), None);
    while !stop.load(Ordering::SeqCst) {
        let values: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let value = |key: &str| values[key].as_str().unwrap();
        let answer = postgres.psql(value("USER_DB_USER"), value("USER_DB_PASSWORD"), "users", "SELECT 1");
        met.logins += 1;
        if let Err(error) = answer {
            met.for_so_long = first_refusal.get_or_insert_with(Instant::now).elapsed();
            met.refusals.push(error);
        }
    }
    met
}

/// Rotates twice, while an agent renders the secret of `user` and a client logs in with that.
fn met_in_two_rotations(crew: &Crew, postgres: &Postgres, options: &[&str]) -> Met {
    let mut agent = crew.agent("run", "user");
    agent.args(["--secret", "user", "--env-file", "out/user.json", "--format", "json", "--refresh", "1s"]);
    let agent = spawn(&mut agent);
    let file = crew.path("out/user.json");
    assert!(wait_until(SOON, || file.exists()), "{}", agent.log());
    let stop = AtomicBool::new(false);
    let met = thread::scope(|scope| {
        let client = scope.spawn(|| log_in_again_and_again(postgres, &file, &stop));
        for _ in 0..2 {
            run(rotate(crew, postgres).args(options)).success();
            let (_, password) = login(crew, "user");
            let is_rendered = || fs::read_to_string(&file).unwrap().contains(&password);
            assert!(wait_until(SOON, is_rendered), "{}", agent.log());
        }
        stop.store(true, Ordering::SeqCst);
        client.join().unwrap()
    });
    agent.terminate().success();
    met
}

fn a_client_with_what_its_agent_has_rendered_is_never_refused(version: PostgresVersion) {
    let (crew, postgres) = stack(version);
    let met = met_in_two_rotations(&crew, &postgres, &["--alternate"]);
    assert!(met.refusals.is_empty() && met.logins > 10, "{met:?}");
    // With one role it is, until the agent has rendered the new password: so the client does see what it should.
    let met = met_in_two_rotations(&crew, &postgres, &[]);
    println!("with one role: {} of {} refused, for {:?}", met.refusals.len(), met.logins, met.for_so_long);
    assert!(met.refusals.iter().all(|why| why.contains("password authentication failed")), "{met:?}");
    assert!(!met.refusals.is_empty(), "{met:?}");
}

fn the_one_makes_and_uses_the_tables_of_the_other(version: PostgresVersion) {
    let (crew, postgres) = stack(version);
    run(db_init(&crew, &postgres).args(["--read-only-role", "reporting"])).success();
    postgres.sql("postgres", "CREATE ROLE analyst LOGIN PASSWORD 'x' IN ROLE reporting");
    let by_turns = || run(rotate(&crew, &postgres).arg("--alternate")).success();
    let first = by_turns();
    assert!(first.stdout.contains("rotated: role user_svc_alt has a new password"), "{}", first.stdout);
    assert!(first.stdout.contains("the login of user_svc stays good until the next"), "{}", first.stdout);
    let as_now = |sql: &str| {
        let (user, password) = login(&crew, "user_db");
        postgres.psql(&user, &password, "users", sql).unwrap()
    };
    let new = agreed(&crew, &postgres, "rotated");
    assert_ne!(new, PASSWORD);
    postgres.psql("user_svc", PASSWORD, "users", "SELECT 1").unwrap();
    as_now("CREATE TABLE made (n int); INSERT INTO made VALUES (1)");
    assert_eq!(as_now("SELECT tableowner FROM pg_tables WHERE tablename = 'made'"), "user_svc");
    postgres.psql("user_svc", PASSWORD, "users", "ALTER TABLE made ADD m int").unwrap();
    assert_eq!(postgres.psql("analyst", "x", "users", "SELECT n FROM made").unwrap(), "1");

    // db-init knows the two for one, and mends what is theirs.
    let with_reader = || run(db_init(&crew, &postgres).args(["--read-only-role", "reporting"])).success();
    let unchanged = with_reader();
    assert!(
        unchanged
            .stdout
            .starts_with("user_db: nothing to change: role user_svc_alt may use user_svc's database"),
        "{}",
        unchanged.stdout
    );
    postgres
        .sql("postgres", "GRANT CONNECT ON DATABASE users TO PUBLIC; ALTER ROLE user_svc_alt PASSWORD 'x'");
    let mended = with_reader().stderr;
    assert!(mended.contains("closed the database users") && mended.contains("set the password"), "{mended}");

    let second = by_turns();
    assert!(second.stdout.contains("rotated: role user_svc has a new password"), "{}", second.stdout);
    assert!(postgres.psql("user_svc", PASSWORD, "users", "SELECT 1").is_err());
    postgres.psql("user_svc_alt", &new, "users", "SELECT n FROM made").unwrap();
    by_turns();
    assert!(postgres.psql("user_svc_alt", &new, "users", "SELECT 1").is_err());
    as_now("DROP TABLE made");
    // Without the option the one that is named now gets a new password, and the other's turn is over.
    let one = run(&mut rotate(&crew, &postgres)).success();
    assert!(one.stdout.contains("role user_svc_alt has a new password"), "{}", one.stdout);
    assert!(run(&mut db_init(&crew, &postgres)).success().stdout.contains("nothing to change"));
}

fn an_administrator_who_is_no_superuser_suffices_for_it(version: PostgresVersion) {
    let (crew, postgres) = stack(version);
    postgres.sql("postgres", "DROP DATABASE users");
    postgres.sql("postgres", "DROP ROLE user_svc");
    postgres.sql("postgres", "CREATE ROLE maker LOGIN CREATEROLE CREATEDB PASSWORD 'maker'");
    crew.write("superuser-password", "maker");
    run(db_init(&crew, &postgres).args(["--admin-user", "maker"])).success();
    for turn in ["user_svc_alt", "user_svc", "user_svc_alt"] {
        run(rotate(&crew, &postgres).args(["--alternate", "--admin-user", "maker"])).success();
        agreed(&crew, &postgres, turn);
        assert_eq!(login(&crew, "user").0, turn);
        let again = run(db_init(&crew, &postgres).args(["--admin-user", "maker"])).success();
        assert!(again.stdout.starts_with("user_db: nothing to change"), "{}", again.stdout);
    }
}

#[test]
fn a_strangers_role_and_a_copy_without_the_user_are_refused_before_anything_is_changed() {
    let (crew, postgres) = stack(PostgresVersion::V18);
    let refused = |why: &str| {
        let before = secret(&crew, "user_db")["metadata"]["version"].clone();
        let outcome = run(rotate(&crew, &postgres).arg("--alternate")).expect_code(78);
        assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
        assert_eq!(secret(&crew, "user_db")["metadata"]["version"], before);
        postgres.psql("user_svc", PASSWORD, "users", "SELECT 1").unwrap();
    };
    postgres.sql("postgres", "CREATE ROLE user_svc_alt LOGIN PASSWORD 'x'");
    refused("the role user_svc_alt exists, and is not one that takes turns with user_svc");
    postgres.psql("user_svc_alt", "x", "postgres", "SELECT 1").unwrap();
    postgres.sql("postgres", "DROP ROLE user_svc_alt");
    super::write_key(&crew, "user", "USER_DB_USER", "");
    refused("the secret secret/user has no USER_DB_USER");
}
