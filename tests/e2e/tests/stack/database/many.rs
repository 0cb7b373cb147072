//! Several services in one run.

use std::process::Command;

use harness::{Postgres, PostgresVersion, on_every_version, run};
use serde_json::Value;

use super::db_init;
use crate::crew::{Crew, own_secret_policy};

on_every_version!(every_user_connects_to_its_own_database_alone);

const SERVICES: [&str; 5] = ["user_db", "chat_db", "game_db", "auth_db", "mail_db"];

fn password(service: &str) -> String {
    format!("canary of {service}")
}

/// A crew with five services that have a database each.
fn crew_of_five() -> Crew {
    let crew = Crew::new();
    crew.initialise();
    let env = SERVICES.map(|service| {
        crew.write_policy(service, &own_secret_policy(service));
        let (key, password) = (service.to_uppercase(), password(service));
        format!("{key}_USER={service}_svc\n{key}_PASSWORD='{password}'\n{key}_NAME={service}\n")
    });
    crew.write_env(&env.concat());
    crew.apply().success();
    crew
}

fn for_all(crew: &Crew, postgres: &Postgres) -> Command {
    crew.write("superuser-password", postgres.password());
    let mut command = crew.programs.db_init();
    command.current_dir(crew.path("")).env("VAULT_ADDR", crew.vault.addr());
    command.args(SERVICES.iter().flat_map(|service| ["--service", service]));
    command.args([
        "--credentials-dir",
        "approle",
        "--wait",
        "30s",
        "--admin-password-file",
        "superuser-password",
    ]);
    command.args(["--db-host", &postgres.address().ip().to_string()]);
    command.args(["--db-port", &postgres.address().port().to_string()]);
    command
}

fn every_user_connects_to_its_own_database_alone(version: PostgresVersion) {
    let (crew, postgres) = (crew_of_five(), Postgres::start(version));
    let first = run(&mut for_all(&crew, &postgres)).success();
    for service in SERVICES {
        let line = format!("{service}: done: role {service}_svc owns database {service} on ");
        assert!(first.stdout.contains(&line), "{}", first.stdout);
    }
    assert!(first.stderr.contains("5 of 5 services"), "{}", first.stderr);
    for user in SERVICES {
        for database in SERVICES.iter().copied().chain(["postgres"]) {
            let login =
                postgres.psql(&format!("{user}_svc"), &password(user), database, "SELECT current_user");
            match login {
                Ok(_) => assert!(user == database || database == "postgres", "{user} connects to {database}"),
                Err(error) => assert!(
                    user != database && error.contains("permission denied for database"),
                    "{user} and {database}: {error}"
                ),
            }
        }
        let script = "CREATE TABLE t (n int); INSERT INTO t VALUES (1); DROP TABLE t";
        postgres.psql(&format!("{user}_svc"), &password(user), user, script).unwrap();
    }
    let second = run(for_all(&crew, &postgres).args(["--at-once", "1"])).success();
    assert_eq!(second.stdout.matches(": nothing to change: ").count(), 5, "{}", second.stdout);
}

#[test]
fn one_that_fails_keeps_no_other_from_its_database() {
    let (crew, postgres) = (crew_of_five(), Postgres::start(PostgresVersion::V18));
    postgres.sql("postgres", "CREATE DATABASE game_db");
    crew.write("approle/mail_db/secret_id", "no secret ID");
    let outcome = run(for_all(&crew, &postgres).args(["--json", "--wait", "3s"])).expect_code(78);
    let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let of = |service: &str| {
        let place = SERVICES.iter().position(|name| *name == service).unwrap();
        let report = answer["services"][place].clone();
        assert_eq!(report["service"], service);
        report
    };
    for service in ["user_db", "chat_db", "auth_db"] {
        let report = of(service);
        assert_eq!((&report["outcome"], &report["database"]), (&"changed".into(), &service.into()));
        assert_eq!(report["changes"].as_array().unwrap().len(), 4, "{report}");
    }
    for (service, why) in [("game_db", "belongs to postgres"), ("mail_db", "AppRole credentials")] {
        let report = of(service);
        assert_eq!(report["outcome"], "failed");
        assert!(report["error"].as_str().unwrap().contains(why), "{report}");
        assert!(outcome.stderr.contains(&format!("{service}: ")), "{}", outcome.stderr);
    }
}

#[test]
fn the_administrators_password_may_be_another_for_each_or_in_vault() {
    let crew = Crew::new();
    crew.initialise();
    let postgres = Postgres::start(PostgresVersion::V18);
    let env = crew.read(".env") + &format!("USER_DB_ADMIN_PASSWORD={}\n", postgres.password());
    crew.write_env(&env);
    crew.apply().success();
    crew.write("admin-of-user_db", postgres.password());
    let without = || {
        let mut command =
            super::db_init_at(&crew, &postgres.address().ip().to_string(), postgres.address().port());
        command.args(["--wait", "5s"]);
        command
    };
    run(without().args(["--admin-password-file", "admin-of-{service}"])).success();
    let by_vault =
        run(without().args(["--admin-password-secret", "user_db:USER_DB_ADMIN_PASSWORD"])).success();
    assert!(by_vault.stdout.contains("nothing to change"), "{}", by_vault.stdout);
    let nowhere = run(without().args(["--admin-password-secret", "user_db:NO_KEY"])).expect_code(78);
    assert!(nowhere.stderr.contains("the secret secret/user_db has no NO_KEY"), "{}", nowhere.stderr);
}

#[test]
fn a_health_check_is_the_services_own_login() {
    let (crew, postgres) = (Crew::applied(), Postgres::start(PostgresVersion::V18));
    let health = || run(db_init(&crew, &postgres).arg("healthcheck"));
    let before = health().expect_code(1);
    assert!(
        before.stderr.contains("the role user_svc cannot log in to the database users"),
        "{}",
        before.stderr
    );
    run(&mut db_init(&crew, &postgres)).success();
    assert!(health().success().stdout.starts_with("user_db: user_svc can use users on "));
    postgres.sql("postgres", "ALTER ROLE user_svc NOLOGIN");
    health().expect_code(1);
}
