//! Where the server is, and the way to it.

use harness::{Postgres, PostgresVersion, run, spawn};
use serde_json::Value;

use super::db_init;
use crate::crew::{Crew, SOON};

#[test]
fn waiting_ends_when_the_administrator_is_let_in_and_makes_nothing() {
    let (crew, mut postgres) = (Crew::applied(), Postgres::start(PostgresVersion::V18));
    postgres.stop();
    run(db_init(&crew, &postgres).args(["wait", "--wait", "1s"])).expect_code(69);
    let mut waiting = spawn(db_init(&crew, &postgres).args(["wait", "--wait", "10m"]));
    assert!(waiting.is_running());
    postgres.restart();
    let outcome = waiting.wait(SOON).success();
    assert_eq!(outcome.stdout, format!("user_db: {} is ready\n", postgres.address()));
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname = 'user_svc'";
    assert_eq!(postgres.sql("postgres", roles), "0");
}

#[test]
fn host_and_port_are_those_of_the_secret_where_no_flag_says_otherwise() {
    let (crew, postgres) = (Crew::new(), Postgres::start(PostgresVersion::V18));
    crew.initialise();
    let address = postgres.address();
    let place = format!("USER_DB_HOST={}\nUSER_DB_PORT={}\n", address.ip(), address.port());
    let env = crew.read(".env");
    crew.write_env(&env);
    crew.apply().success();
    // As a Docker secret is that was written by an editor: with a newline.
    crew.write("superuser-password", &format!("{}\n", postgres.password()));
    let command = || {
        let mut command = crew.programs.db_init();
        command.current_dir(crew.path("")).env("VAULT_ADDR", crew.vault.addr());
        command.args(["--service", "user_db", "--credentials-dir", "approle/user_db", "--wait", "10s"]);
        command.args(["--admin-password-file", "superuser-password"]);
        command
    };
    let nowhere = run(&mut command()).expect_code(78);
    assert!(nowhere.stderr.contains("give --db-host, or a _DB_HOST in the secret"), "{}", nowhere.stderr);
    crew.write_env(&(env + &place));
    crew.apply().success();
    let made = run(&mut command()).success();
    assert!(made.stdout.contains(&format!("on {address}")), "{}", made.stdout);
    let elsewhere = run(command().args(["--db-port", "1", "--wait", "1s"])).expect_code(69);
    assert!(
        elsewhere.stderr.contains(&format!("{}:1 cannot be reached", address.ip())),
        "{}",
        elsewhere.stderr
    );
}

#[test]
fn a_plan_for_programs_is_a_list_of_statements_without_a_password() {
    let (crew, postgres) = (Crew::applied(), Postgres::start(PostgresVersion::V18));
    let plan = || {
        let outcome = run(db_init(&crew, &postgres).args(["plan", "--json"])).success();
        let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
        answer["services"][0].clone()
    };
    let planned = plan();
    assert_eq!(planned["outcome"], "planned");
    assert_eq!(planned["changes"][0], "CREATE ROLE \"user_svc\" WITH LOGIN PASSWORD '…';");
    assert_eq!(planned["changes"].as_array().unwrap().len(), 4, "{planned}");
    run(&mut db_init(&crew, &postgres)).success();
    assert_eq!(plan()["changes"], serde_json::json!([]));
}
