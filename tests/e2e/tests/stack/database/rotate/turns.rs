//! Two roles that take turns: at no moment is a login refused that was taken from Vault.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use harness::{Postgres, PostgresVersion, on_every_version, run, spawn, wait_until};
use serde_json::Value;

use super::super::db_init;
use super::{agreed, login, rotate, secret, stack};
use crate::crew::{PASSWORD, SOON};

on_every_version!(
    a_client_with_what_its_agent_has_rendered_is_never_refused,
    the_one_makes_and_uses_the_tables_of_the_other,
    an_administrator_who_is_no_superuser_suffices_for_it,
);

/// One login with what is in the file at that moment.
fn log_in(postgres: &Postgres, file: &Path) -> Result<String, String> {
    let values: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let value = |key: &str| values[key].as_str().unwrap();
    postgres.psql(value("USER_DB_USER"), value("USER_DB_PASSWORD"), "users", "SELECT 1")
}

fn a_client_with_what_its_agent_has_rendered_is_never_refused(version: PostgresVersion) {
    let (crew, postgres) = stack(version);
    let mut agent = crew.agent("run", "user");
    agent.args(["--secret", "user", "--env-file", "out/user.json", "--format", "json", "--refresh", "1s"]);
    let agent = spawn(&mut agent);
    let file = crew.path("out/user.json");
    assert!(wait_until(SOON, || file.exists()), "{}", agent.log());
    fs::copy(&file, crew.path("first.json")).unwrap();

    let (stop, logins) = (AtomicBool::new(false), AtomicUsize::new(0));
    let again_and_again = || {
        let mut refusals = Vec::new();
        // An end even where nobody is left to stop it.
        let end = Instant::now() + 4 * SOON;
        while !stop.load(Ordering::SeqCst) && Instant::now() < end {
            refusals.extend(log_in(&postgres, &file).err());
            logins.fetch_add(1, Ordering::SeqCst);
        }
        refusals
    };
    let refusals = thread::scope(|scope| {
        let client = scope.spawn(again_and_again);
        for _ in 0..3 {
            run(rotate(&crew, &postgres).arg("--alternate")).success();
            let (_, password) = login(&crew, "user");
            let is_rendered = || fs::read_to_string(&file).unwrap().contains(&password);
            assert!(wait_until(SOON, is_rendered), "{}", agent.log());
            // One that has read the file before is done, and the next has used the new login.
            let before = logins.load(Ordering::SeqCst);
            assert!(wait_until(SOON, || logins.load(Ordering::SeqCst) > before + 1));
        }
        stop.store(true, Ordering::SeqCst);
        client.join().unwrap()
    });
    assert!(refusals.is_empty(), "{refusals:?}");
    agent.terminate().success();
    // It would have been told: the login before the last one is worth nothing.
    let refused = log_in(&postgres, &crew.path("first.json")).unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");
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

    // And bootstrap keeps what was changed in Vault.
    crew.apply().success();
    assert_eq!(login(&crew, "user_db").0, "user_svc_alt");

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
