//! Killed, cut off or refused in the midst: the next run finishes, or this one does.

use std::process::Command;

use harness::{
    Moment, Postgres, PostgresOptions, PostgresVersion, Proxy, Trouble, on_every_version, run, run_killed_at,
    spawn, wait_until,
};

use super::{db_init, db_init_through};
use crate::crew::{Crew, PASSWORD, SOON};

on_every_version!(
    killed_between_any_two_statements_the_next_run_finishes,
    cut_off_between_any_two_statements_the_run_finishes,
    a_server_that_is_restarted_in_the_midst_is_waited_for,
    a_server_without_a_free_connection_is_waited_for,
    a_full_disk_is_told_and_the_next_run_finishes,
);

fn forget(postgres: &Postgres) {
    postgres.sql("postgres", "DROP DATABASE IF EXISTS users WITH (FORCE)");
    postgres.sql("postgres", "DROP ROLE IF EXISTS user_svc");
}

/// Nothing but what is to be, and that whole.
fn assert_whole(postgres: &Postgres, when: &str) {
    let script = "CREATE TABLE t (n int); DROP TABLE t; SELECT current_user";
    let used = postgres.psql("user_svc", PASSWORD, "users", script);
    assert_eq!(used.as_deref(), Ok("user_svc"), "{when}");
    let there = "SELECT (SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database), \
        (SELECT count(*) FROM pg_database, aclexplode(datacl) WHERE datname = 'users' AND grantee = 0)";
    assert_eq!(postgres.sql("postgres", there), "postgres template0 template1 users|0", "{when}");
}

/// Whether it leaves something behind, as no question, step of a login, setting or proof does.
fn is_change(request: &str) -> bool {
    ["CREATE", "ALTER", "GRANT", "REVOKE"].iter().any(|word| request.starts_with(word))
}

/// Every conversation that makes everything: so many requests at least, with three logins and four changes.
const REQUESTS: usize = 25;

/// The requests of a run that is left alone, of which nothing stays.
fn requests(crew: &Crew, postgres: &Postgres, proxy: &Proxy) -> Vec<String> {
    run(&mut db_init_through(crew, postgres, proxy)).success();
    forget(postgres);
    let requests = proxy.requests();
    assert!(requests.len() > REQUESTS, "{requests:?}");
    assert_eq!(requests.iter().filter(|request| is_change(request)).count(), 4, "{requests:?}");
    requests
}

/// Between two changes it is all the same to the server when.
fn killed_between_any_two_statements_the_next_run_finishes(version: PostgresVersion) {
    let (crew, postgres) = (Crew::applied(), Postgres::start(version));
    let proxy = Proxy::start(postgres.address());
    let requests = requests(&crew, &postgres, &proxy);
    for number in (1..=requests.len()).filter(|number| *number == 1 || is_change(&requests[number - 2])) {
        let mut command = db_init_through(&crew, &postgres, &proxy);
        let killed = run_killed_at(&mut command, &proxy, Moment::BeforeRequest, number);
        assert_eq!(killed.code(), 137, "{number}: {}", killed.stderr);
        run(&mut db_init(&crew, &postgres)).success();
        assert_whole(&postgres, &format!("killed before {:?}", requests[number - 1]));
        forget(&postgres);
    }
}

/// Cut off as by a server that goes away, before any request and after any change: the same run begins again.
fn cut_off_between_any_two_statements_the_run_finishes(version: PostgresVersion) {
    let (crew, postgres) = (Crew::applied(), Postgres::start(version));
    let proxy = Proxy::start(postgres.address());
    let mut begun_again = 0;
    for (index, request) in requests(&crew, &postgres, &proxy).iter().enumerate() {
        for moment in [Moment::BeforeRequest, Moment::BeforeAnswer] {
            if moment == Moment::BeforeAnswer && !is_change(request) {
                continue;
            }
            let number = proxy.requests().len() + index + 1;
            proxy.at(moment, number, || Trouble::Reset(0));
            let outcome = run(&mut db_init_through(&crew, &postgres, &proxy)).success();
            assert!(proxy.requests().len() >= number, "it was not cut off before {request}");
            begun_again += usize::from(outcome.stderr.contains("beginning again"));
            assert_whole(&postgres, &format!("cut off: {moment:?} {request}"));
            forget(&postgres);
        }
    }
    // The others hit the administrator's first login, who tries again.
    assert!(begun_again > REQUESTS / 2, "{begun_again}");
}

fn a_server_that_is_restarted_in_the_midst_is_waited_for(version: PostgresVersion) {
    let (crew, mut postgres) = (Crew::applied(), Postgres::start(version));
    // The template is not copied while somebody is connected to it.
    let mut holding = spawn(&mut postgres.psql_command(
        "postgres",
        postgres.password(),
        "template1",
        "SELECT pg_sleep(600)",
    ));
    let in_template =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'template1' AND state = 'active'";
    assert!(wait_until(SOON, || postgres.sql("postgres", in_template) == "1"));
    let mut made = spawn(db_init(&crew, &postgres).args(["--wait", "10m"]));
    made.wait_for_log("created the role user_svc", SOON);
    assert!(made.is_running() && holding.is_running());
    postgres.restart();
    made.wait(SOON).success();
    assert_whole(&postgres, "restarted");
}

fn a_server_without_a_free_connection_is_waited_for(version: PostgresVersion) {
    let crew = Crew::applied();
    let options = [
        ("max_connections", "4"),
        ("superuser_reserved_connections", "0"),
        ("max_wal_senders", "0"),
        ("log_statement", "all"),
        // A session whose client is gone ends, asleep or not.
        ("client_connection_check_interval", "100ms"),
    ];
    let options = options
        .iter()
        .fold(PostgresOptions::new(version), |options, (name, value)| options.setting(name, value));
    let postgres = options.start().unwrap();
    let hold = |()| {
        let sql = "SELECT pg_sleep(600)";
        spawn(&mut postgres.psql_command("postgres", postgres.password(), "postgres", sql))
    };
    let are_held =
        |number| wait_until(SOON, || postgres.log().matches("statement: SELECT pg_sleep").count() == number);

    let holding = [(); 4].map(hold);
    assert!(are_held(4));
    let full = run(db_init(&crew, &postgres).args(["--wait", "1s"])).expect_code(69);
    assert!(full.stderr.contains("too many clients already (SQLSTATE 53300)"), "{}", full.stderr);
    let mut waiting = spawn(db_init(&crew, &postgres).args(["--wait", "10m"]));
    waiting.wait_for_log("waiting for PostgreSQL", SOON);
    drop(holding);
    waiting.wait(SOON).success();

    // One is left: the administrator is in, and no second session beside him.
    let _holding = [(); 3].map(hold);
    assert!(are_held(7));
    let short = run(db_init(&crew, &postgres).args(["--wait", "3s"])).expect_code(69);
    assert!(short.stderr.contains("beginning again"), "{}", short.stderr);
    assert!(short.stderr.contains("SQLSTATE 53300"), "{}", short.stderr);
}

fn a_full_disk_is_told_and_the_next_run_finishes(version: PostgresVersion) {
    let (crew, postgres) = (Crew::applied(), Postgres::start(version));
    // The first session in a database leaves a file of its own behind.
    postgres.sql("postgres", "SELECT 1");
    // Whatever a new session writes into files: a new database's, not the log of transactions, which is written
    // by another call.
    let server = postgres.pid().unwrap().to_string();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=write", "-e", "inject=write:error=ENOSPC"]);
    let full = spawn(strace.args(["-p", &server]));
    let tracer = || std::fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    assert!(wait_until(SOON, || tracer()
        .lines()
        .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))));
    let told = run(&mut db_init(&crew, &postgres)).expect_code(1);
    assert!(told.stderr.contains("No space left on device (SQLSTATE 53100)"), "{}", told.stderr);
    assert!(told.stderr.contains("CREATE DATABASE \"users\""), "{}", told.stderr);
    full.terminate();
    run(&mut db_init(&crew, &postgres)).success();
    assert_whole(&postgres, "after a full disk");
}
