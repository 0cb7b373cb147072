//! Killed, cut off or refused in the midst: the next run finishes, or this one does.

use std::process::Command;

use harness::{Postgres, PostgresOptions, PostgresVersion, run, spawn, under_strace, wait_until};

use super::db_init;
use crate::crew::{Crew, PASSWORD, SOON};

/// The same command, with a fault in its `number`th call of `effect`.
pub(super) fn with_fault(command: &Command, effect: &str, fault: &str, number: usize) -> Command {
    let (traced, injected) = (format!("trace={effect}"), format!("inject={effect}:{fault}:when={number}"));
    let dir = command.get_current_dir().expect("the crew's directory");
    under_strace(command, &["-e", &traced, "-e", &injected], &dir.join("trace"))
}

fn forget(postgres: &Postgres) {
    postgres.sql("postgres", "DROP DATABASE IF EXISTS users WITH (FORCE)");
    postgres.sql("postgres", "DROP ROLE IF EXISTS user_svc");
}

/// Nothing but what is to be, and that whole.
fn assert_whole(postgres: &Postgres, when: &str) {
    let script = "CREATE TABLE t (n int); DROP TABLE t; SELECT current_user";
    let used = postgres.psql("user_svc", PASSWORD, "users", script);
    assert_eq!(used.as_deref(), Ok("user_svc"), "{when}");
    let others = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database";
    assert_eq!(postgres.sql("postgres", others), "postgres template0 template1 users", "{when}");
    let acl = "SELECT count(*) FROM pg_database, aclexplode(datacl) WHERE datname = 'users' AND grantee = 0";
    assert_eq!(postgres.sql("postgres", acl), "0", "{when}");
}

#[test]
fn killed_before_any_statement_the_next_run_finishes() {
    let (crew, postgres) = (Crew::applied(), Postgres::start(PostgresVersion::V18));
    for number in 1.. {
        let killed = run(&mut with_fault(&db_init(&crew, &postgres), "sendto", "signal=KILL", number));
        if killed.code() == 0 {
            assert!(number > 20, "there were no statements to be hit");
            break;
        }
        assert_eq!(killed.code(), 137, "{number}: {}", killed.stderr);
        run(&mut db_init(&crew, &postgres)).success();
        assert_whole(&postgres, &format!("killed before {number}"));
        forget(&postgres);
    }
}

/// Cut off as a server that goes away does it: the same run begins again and finishes.
fn cut_off(effect: &str) {
    let (crew, postgres) = (Crew::applied(), Postgres::start(PostgresVersion::V18));
    let mut begun_again = 0;
    for number in 1.. {
        let fault = "error=ECONNRESET";
        let outcome = run(&mut with_fault(&db_init(&crew, &postgres), effect, fault, number)).success();
        begun_again += usize::from(outcome.stderr.contains("beginning again"));
        assert_whole(&postgres, &format!("{effect} {number} cut off"));
        forget(&postgres);
        if !crew.read("trace").contains("(INJECTED)") {
            assert!(number > 20, "there was nothing to be cut off");
            break;
        }
    }
    assert!(begun_again > 10, "{begun_again}");
}

#[test]
fn cut_off_before_any_statement_the_run_finishes() {
    cut_off("sendto");
}

#[test]
fn cut_off_before_any_answer_the_run_finishes() {
    cut_off("recvfrom");
}

#[test]
fn a_server_that_is_restarted_in_the_midst_is_waited_for() {
    let (crew, mut postgres) = (Crew::applied(), Postgres::start(PostgresVersion::V18));
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

#[test]
fn a_server_without_a_free_connection_is_waited_for() {
    let crew = Crew::applied();
    let options = [
        ("max_connections", "4"),
        ("superuser_reserved_connections", "0"),
        ("max_wal_senders", "0"),
        ("log_statement", "all"),
        // A session whose client is gone ends, asleep or not.
        ("client_connection_check_interval", "100ms"),
    ];
    let options =
        options.iter().fold(PostgresOptions::new(PostgresVersion::V18), |options, (name, value)| {
            options.setting(name, value)
        });
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

#[test]
fn a_full_disk_is_told_and_the_next_run_finishes() {
    let (crew, postgres) = (Crew::applied(), Postgres::start(PostgresVersion::V18));
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
