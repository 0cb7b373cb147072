//! A new password, without a moment when nobody could find out which one it is.

use std::process::Command;

use harness::{Outcome, Postgres, PostgresVersion, run, spawn, under_strace};
use serde_json::{Value, json};

use super::db_init;
use crate::crew::{Crew, PASSWORD};

/// The same command, with a fault in its `number`th call of `effect`.
fn with_fault(command: &Command, effect: &str, fault: &str, number: usize) -> Command {
    let (traced, injected) = (format!("trace={effect}"), format!("inject={effect}:{fault}:when={number}"));
    let dir = command.get_current_dir().expect("the crew's directory");
    under_strace(command, &["-e", &traced, "-e", &injected], &dir.join("trace"))
}

/// A crew whose `user` and `user_db` share the password, and a role that may write both.
fn stack(version: PostgresVersion) -> (Crew, Postgres) {
    let crew = Crew::new();
    crew.initialise();
    crew.write("vaultcrew.toml", "[keys]\n\"USER_DB_*\" = [\"user\", \"user_db\"]\n[services.user_db_rotate]\nrotates = [\"user\", \"user_db\"]\n");
    let both = ["user", "user_db"]
        .map(|name| format!("path \"secret/data/{name}\" {{\n  capabilities = [\"read\", \"update\"]\n}}\n"));
    crew.write_policy("user_db_rotate", &both.concat());
    let checked = ["check", "--env-file", ".env", "--policies-dir", "policies"];
    run(crew.programs.bootstrap().args(checked).current_dir(crew.path(""))).success();
    crew.apply().success();
    run(&mut crew.bootstrap("verify")).success();
    let postgres = Postgres::start(version);
    run(&mut db_init(&crew, &postgres)).success();
    (crew, postgres)
}

fn rotate(crew: &Crew, postgres: &Postgres) -> Command {
    let mut command = db_init(crew, postgres);
    command.args(["rotate", "--also", "user", "--credentials-dir", "approle/user_db_rotate"]);
    command
}

fn secret(crew: &Crew, name: &str) -> Value {
    let (_, body) =
        crew.vault.api("GET", &format!("/v1/secret/data/{name}"), &crew.root_token(), &Value::Null);
    body["data"].clone()
}

fn password(crew: &Crew, name: &str) -> String {
    secret(crew, name)["data"]["USER_DB_PASSWORD"].as_str().unwrap().to_owned()
}

/// Vault's two secrets and PostgreSQL agree; gives the password.
fn agreed(crew: &Crew, postgres: &Postgres, when: &str) -> String {
    let password = password(crew, "user_db");
    assert_eq!(self::password(crew, "user"), password, "{when}");
    postgres
        .psql("user_svc", &password, "users", "SELECT 1")
        .unwrap_or_else(|error| panic!("{when}: {error}"));
    password
}

fn assert_silent(outcome: &Outcome, postgres: &Postgres, password: &str) {
    for text in [&outcome.stdout, &outcome.stderr, &postgres.log()] {
        assert!(!text.contains(password), "{text}");
    }
}

#[test]
fn vault_and_postgresql_have_a_new_password_and_open_sessions_stay() {
    for version in [PostgresVersion::V15, PostgresVersion::V16, PostgresVersion::V18] {
        let (crew, postgres) = stack(version);
        let sql = "SELECT pg_sleep(3); SELECT 'still here'";
        let open = spawn(&mut postgres.psql_command("user_svc", PASSWORD, "users", sql));
        let active = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'user_svc' AND state = 'active'";
        assert!(harness::wait_until(crate::crew::SOON, || postgres.sql("postgres", active) == "1"));
        let others = secret(&crew, "user")["data"].clone();

        let rotated = run(&mut rotate(&crew, &postgres)).success();
        assert!(
            rotated.stdout.starts_with("user_db: rotated: role user_svc has a new password"),
            "{}",
            rotated.stdout
        );
        assert!(rotated.stdout.contains("in secret/user_db and secret/user"), "{}", rotated.stdout);
        let new = agreed(&crew, &postgres, "rotated");
        assert!(new != PASSWORD && new.len() == 32);
        assert!(postgres.psql("user_svc", PASSWORD, "users", "SELECT 1").is_err());
        assert_silent(&rotated, &postgres, &new);
        assert!(open.wait(crate::crew::SOON).success().stdout.contains("still here"));
        let mut same = secret(&crew, "user")["data"].clone();
        same["USER_DB_PASSWORD"] = PASSWORD.into();
        assert_eq!(same, others);

        // db-init has nothing to do, and bootstrap keeps what was changed in Vault.
        assert!(run(&mut db_init(&crew, &postgres)).success().stdout.contains("nothing to change"));
        crew.apply().success();
        assert_eq!(agreed(&crew, &postgres, "applied"), new);
        run(&mut rotate(&crew, &postgres)).success();
        assert_ne!(agreed(&crew, &postgres, "rotated again"), new);
    }
}

/// Killed before each call of `effect`, and `finish` is what is run next: how often that finished a rotation.
fn killed_anywhere(effect: &str, finish: impl Fn(&Crew, &Postgres) -> Outcome) -> usize {
    let (crew, postgres) = stack(PostgresVersion::V18);
    let (mut finished, mut hits) = (0, 0);
    for number in 1.. {
        let killed = run(&mut with_fault(&rotate(&crew, &postgres), effect, "signal=KILL", number));
        if killed.code() == 0 {
            break;
        }
        assert_eq!(killed.code(), 137, "{effect} {number}: {}", killed.stderr);
        hits += 1;
        let when = format!("killed before {effect} {number}");
        let before = password(&crew, "user_db");
        let next = finish(&crew, &postgres).success();
        if next.stdout.contains("finished the rotation that was begun") {
            finished += 1;
            assert_eq!(password(&crew, "user_db"), before, "{when}: it is finished, not begun anew");
        }
        // Whatever was run next, a service can log in with what is in its database's secret.
        postgres
            .psql("user_svc", &password(&crew, "user_db"), "users", "SELECT 1")
            .unwrap_or_else(|error| panic!("{when}: {error}"));
        run(&mut rotate(&crew, &postgres)).success();
        agreed(&crew, &postgres, &when);
    }
    assert!(hits > 3, "{hits}");
    finished
}

#[test]
fn killed_before_any_statement_the_next_rotation_finishes() {
    let finished = killed_anywhere("sendto", |crew, postgres| run(&mut rotate(crew, postgres)));
    assert!(finished > 0, "none was killed between Vault's write and the end of the transaction");
}

#[test]
fn killed_before_any_request_the_next_rotation_finishes() {
    let finished = killed_anywhere("writev", |crew, postgres| run(&mut rotate(crew, postgres)));
    assert!(finished > 0, "none was killed between the two secrets");
}

#[test]
fn killed_before_any_request_a_plain_run_lets_the_service_in() {
    killed_anywhere("writev", |crew, postgres| run(&mut db_init(crew, postgres)));
}

#[test]
fn killed_between_vault_and_postgresql_the_rotation_is_finished_and_not_begun_anew() {
    let (crew, postgres) = stack(PostgresVersion::V18);
    // As such a kill leaves it: Vault has the new password, PostgreSQL and the copy have the old one.
    let write = |name: &str, password: &str| {
        let mut data = secret(&crew, name)["data"].clone();
        data["USER_DB_PASSWORD"] = password.into();
        let body = json!({ "data": data });
        let (status, _) =
            crew.vault.api("POST", &format!("/v1/secret/data/{name}"), &crew.root_token(), &body);
        assert_eq!(status, 200);
    };
    write("user_db", "canary-of-the-rotation");
    let finished = run(&mut rotate(&crew, &postgres)).success();
    assert!(finished.stdout.contains("finished the rotation that was begun"), "{}", finished.stdout);
    assert_eq!(agreed(&crew, &postgres, "finished"), "canary-of-the-rotation");
    // A copy alone that was not reached.
    write("user", PASSWORD);
    let finished = run(&mut rotate(&crew, &postgres)).success();
    assert!(finished.stdout.contains("finished the rotation that was begun"), "{}", finished.stdout);
    assert_eq!(agreed(&crew, &postgres, "copied"), "canary-of-the-rotation");
    assert_silent(&finished, &postgres, "canary-of-the-rotation");
}

#[test]
fn nothing_is_changed_where_the_policy_does_not_suffice() {
    let (crew, postgres) = stack(PostgresVersion::V18);
    let version = || secret(&crew, "user_db")["metadata"]["version"].clone();
    let before = version();
    let with = |args: &[&str], code: i32, why: &str| {
        let refused = run(db_init(&crew, &postgres).arg("rotate").args(args)).expect_code(code);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
        assert_eq!(version(), before);
        postgres.psql("user_svc", PASSWORD, "users", "SELECT 1").unwrap();
    };
    // The service's own credentials may read alone: rotation is off unless it was given a policy.
    with(&[], 77, "may not write the secret secret/user_db, as a rotation must");
    let own = ["--credentials-dir", "approle/user_db_rotate"];
    with(&[&own[..], &["--also", "chat"]].concat(), 77, "may not write the secret secret/chat");
    with(&[&own[..], &["--also", "user:NO_KEY"]].concat(), 78, "the secret secret/user has no NO_KEY");
    with(&[&own[..], &["--also", ":X"]].concat(), 78, "--also :X cannot be used");
}

#[test]
fn two_rotations_at_once_agree() {
    let (crew, postgres) = stack(PostgresVersion::V18);
    let both = [spawn(&mut rotate(&crew, &postgres)), spawn(&mut rotate(&crew, &postgres))];
    for rotation in both {
        rotation.wait(crate::crew::SOON).success();
    }
    assert_ne!(agreed(&crew, &postgres, "two at once"), PASSWORD);
}

#[test]
fn a_role_that_is_not_there_yet_is_not_rotated() {
    let (crew, postgres) = stack(PostgresVersion::V18);
    postgres.sql("postgres", "DROP DATABASE users");
    postgres.sql("postgres", "DROP ROLE user_svc");
    let refused = run(&mut rotate(&crew, &postgres)).expect_code(78);
    assert!(refused.stderr.contains("run db-init first"), "{}", refused.stderr);
    assert_eq!(password(&crew, "user_db"), PASSWORD);
}
