//! A new password, without a moment when nobody could find out which one it is.

use std::process::Command;

use harness::{Outcome, Postgres, PostgresVersion, on_every_version, run, spawn};
use serde_json::{Value, json};

use super::db_init;
use crate::crew::{Crew, PASSWORD};

mod killed;
mod turns;

on_every_version!(vault_and_postgresql_have_a_new_password_and_open_sessions_stay);

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

/// With the credentials of the rotation.
const BY_ITSELF: [&str; 3] = ["rotate", "--credentials-dir", "approle/user_db_rotate"];

fn rotate(crew: &Crew, postgres: &Postgres) -> Command {
    let mut command = db_init(crew, postgres);
    command.args(BY_ITSELF);
    command
}

fn secret(crew: &Crew, name: &str) -> Value {
    let (_, body) =
        crew.vault.api("GET", &format!("/v1/secret/data/{name}"), &crew.root_token(), &Value::Null);
    body["data"].clone()
}

/// As somebody with all rights changes it.
fn write_key(crew: &Crew, name: &str, key: &str, value: &str) {
    let mut data = secret(crew, name)["data"].clone();
    data[key] = value.into();
    let path = format!("/v1/secret/data/{name}");
    assert_eq!(crew.vault.api("POST", &path, &crew.root_token(), &json!({ "data": data })).0, 200);
}

fn password(crew: &Crew, name: &str) -> String {
    secret(crew, name)["data"]["USER_DB_PASSWORD"].as_str().unwrap().to_owned()
}

/// User and password, as a service finds them in this secret.
fn login(crew: &Crew, name: &str) -> (String, String) {
    let values = secret(crew, name)["data"].clone();
    let value = |key: &str| values[key].as_str().unwrap().to_owned();
    (value("USER_DB_USER"), value("USER_DB_PASSWORD"))
}

fn assert_logs_in(postgres: &Postgres, (user, password): &(String, String), when: &str) {
    let answer = postgres.psql(user, password, "users", "SELECT 1");
    answer.unwrap_or_else(|error| panic!("{when}: {error}"));
}

/// Vault's two secrets and PostgreSQL agree; gives the password.
fn agreed(crew: &Crew, postgres: &Postgres, when: &str) -> String {
    let login = login(crew, "user_db");
    assert_eq!(self::login(crew, "user"), login, "{when}");
    assert_logs_in(postgres, &login, when);
    login.1
}

fn assert_silent(outcome: &Outcome, postgres: &Postgres, password: &str) {
    for text in [&outcome.stdout, &outcome.stderr, &postgres.log()] {
        assert!(!text.contains(password), "{text}");
    }
}

fn vault_and_postgresql_have_a_new_password_and_open_sessions_stay(version: PostgresVersion) {
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

#[test]
fn killed_between_vault_and_postgresql_the_rotation_is_finished_and_not_begun_anew() {
    let (crew, postgres) = stack(PostgresVersion::V18);
    // As such a kill leaves it: Vault has the new password, PostgreSQL and the copy have the old one.
    let write = |name: &str, password: &str| write_key(&crew, name, "USER_DB_PASSWORD", password);
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
    // What would be left behind is told before anything is changed.
    let more = |key: &str, value: &str| write_key(&crew, "user", key, value);
    more("DB_URL", &format!("postgres://user_svc:{PASSWORD}@db/users"));
    with(&own, 78, "DB_URL of the secret secret/user has the password in it too");
    more("DB_URL", PASSWORD);
    with(&own, 78, "name it with --also user:DB_URL");
    let rotated = run(rotate(&crew, &postgres).args(["--also", "user:DB_URL"])).success();
    assert!(rotated.stdout.contains("in secret/user_db and secret/user,"), "{}", rotated.stdout);
    let new = agreed(&crew, &postgres, "a copy under another key");
    assert_eq!(secret(&crew, "user")["data"]["DB_URL"], new.as_str());
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
