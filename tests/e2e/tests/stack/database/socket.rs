//! Beside an official postgres image, over its socket.

use std::fs;

use harness::{Postgres, PostgresVersion, on_every_version, run, spawn};

use super::{db_init, db_init_at, db_init_on_a_socket};
use crate::crew::{Crew, PASSWORD, SOON};

on_every_version!(
    the_administrator_is_known_by_the_peer_and_needs_no_password,
    the_first_of_the_two_servers_of_an_official_image_is_good_enough,
);

/// As with `POSTGRES_INITDB_ARGS=--auth-local=peer`: whoever runs db-init is the superuser by that alone.
fn the_administrator_is_known_by_the_peer_and_needs_no_password(version: PostgresVersion) {
    let (crew, mut postgres) = (Crew::applied(), Postgres::start(version));
    let me = run(std::process::Command::new("id").arg("-un")).success().stdout;
    let data = postgres.dir().join("data");
    fs::write(data.join("pg_ident.conf"), format!("me {} postgres\n", me.trim())).unwrap();
    let rules = "local all all peer map=me\nhost all all all scram-sha-256\n";
    fs::write(data.join("pg_hba.conf"), rules).unwrap();
    postgres.restart();
    let socket = postgres.socket_dir();
    let on_socket = || db_init_at(&crew, socket.to_str().unwrap(), postgres.address().port());
    // TLS is for TCP: a mode that is set for it is no hindrance here.
    let made = run(on_socket().env("PGSSLMODE", "require")).success();
    assert!(made.stdout.contains("the password itself was not exercised"), "{}", made.stdout);
    postgres.psql("user_svc", PASSWORD, "users", "CREATE TABLE t (n int)").unwrap();
    let second = run(&mut on_socket()).success();
    assert!(second.stdout.starts_with("user_db: nothing to change"), "{}", second.stdout);

    let stranger = run(on_socket().args(["--admin-user", "somebody"])).expect_code(77);
    assert!(stranger.stderr.contains("refuses the administrator somebody"), "{}", stranger.stderr);
}

/// The official image's first start: its server listens on the socket alone, and stops again before it listens to
/// all. What was made in between stays, and a run that is cut off by the stop finishes with the real one.
fn the_first_of_the_two_servers_of_an_official_image_is_good_enough(version: PostgresVersion) {
    let (crew, mut postgres) = (Crew::applied(), Postgres::start(version));
    let over_tcp = db_init(&crew, &postgres);
    let address = postgres.address();
    let mut on_socket = db_init_on_a_socket(&crew, &mut postgres, "trust");
    postgres.set("listen_addresses", "");
    let mut waiting = spawn(&mut { over_tcp });
    run(&mut on_socket).success();
    // Ready by the socket is not ready by TCP.
    waiting.wait_for_log(&format!("waiting for PostgreSQL at {address}"), SOON);
    assert!(waiting.is_running());
    postgres.set("listen_addresses", &address.ip().to_string());
    let outcome = waiting.wait(SOON).success();
    assert!(outcome.stdout.starts_with("user_db: nothing to change"), "{}", outcome.stdout);
}
