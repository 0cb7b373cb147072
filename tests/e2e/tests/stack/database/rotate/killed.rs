//! A rotation that is killed or cut off anywhere: the next one finishes it.

use std::process::Command;

use harness::{
    Moment, Outcome, Postgres, PostgresVersion, Proxy, Trouble, on_every_version, run, run_killed_at,
};

use super::super::db_init;
use super::{BY_ITSELF, agreed, assert_logs_in, login, rotate, stack};
use crate::crew::Crew;

on_every_version!(
    killed_between_any_two_statements_the_next_rotation_finishes,
    killed_between_any_two_requests_the_next_rotation_finishes,
    killed_between_any_two_requests_a_plain_run_lets_the_service_in,
    killed_while_two_roles_take_turns_every_secret_has_a_login_that_works,
);

/// Which of its conversations is hit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum With {
    Vault,
    Postgres,
}

/// The two servers, one of them behind a proxy.
struct Wire<'a> {
    crew: &'a Crew,
    postgres: &'a Postgres,
    with: With,
    proxy: Proxy,
    options: &'a [&'a str],
}

impl<'a> Wire<'a> {
    fn to(crew: &'a Crew, postgres: &'a Postgres, with: With, options: &'a [&'a str]) -> Self {
        let proxy = Proxy::start(match with {
            With::Vault => crew.vault.addresses()[0],
            With::Postgres => postgres.address(),
        });
        Self { crew, postgres, with, proxy, options }
    }

    /// A rotation through the proxy.
    fn rotate(&self) -> Command {
        let mut command = match self.with {
            With::Vault => db_init(self.crew, self.postgres),
            With::Postgres => super::super::db_init_through(self.crew, self.postgres, &self.proxy),
        };
        if self.with == With::Vault {
            command.env("VAULT_ADDR", self.proxy.addr());
        }
        command.args(BY_ITSELF).args(self.options);
        command
    }

    /// The number of the first request that may change something: what is killed before it has only looked.
    fn first_change(&self) -> usize {
        run(&mut self.rotate()).success();
        let is_change = |request: &String| match self.with {
            With::Vault => {
                request.starts_with("POST /v1/secret/data/") || request.starts_with("PUT /v1/secret/")
            }
            With::Postgres => request == "BEGIN",
        };
        let requests = self.proxy.requests();
        let first = requests.iter().position(is_change);
        first.unwrap_or_else(|| panic!("no change among {requests:?}")) + 1
    }
}

/// Killed before each request from the first change on, and `next` is what is run then: how often that finished a
/// rotation.
fn killed_anywhere(wire: &Wire<'_>, always_works: bool, next: impl Fn() -> Outcome) -> usize {
    let (first, mut finished) = (wire.first_change(), 0);
    for number in first.. {
        let killed = run_killed_at(&mut wire.rotate(), &wire.proxy, Moment::BeforeRequest, number);
        if killed.code() == 0 {
            assert!(number > first + 2, "{:?}", wire.proxy.requests());
            break;
        }
        let when = format!("killed before {:?}", wire.proxy.requests().last());
        assert_eq!(killed.code(), 137, "{when}: {}", killed.stderr);
        if always_works {
            for name in ["user", "user_db"] {
                assert_logs_in(wire.postgres, &login(wire.crew, name), &format!("{when}: {name}"));
            }
        }
        let before = login(wire.crew, "user_db");
        let next = next().success();
        if next.stdout.contains("finished the rotation that was begun") {
            finished += 1;
            assert_eq!(login(wire.crew, "user_db"), before, "{when}: it is finished, not begun anew");
        }
        // Whatever was run next, a service can log in with what is in its database's secret.
        assert_logs_in(wire.postgres, &login(wire.crew, "user_db"), &when);
        if !next.stdout.contains("rotat") {
            run(&mut rotate(wire.crew, wire.postgres)).success();
        }
        agreed(wire.crew, wire.postgres, &when);
    }
    finished
}

fn killed_between_any_two_statements_the_next_rotation_finishes(version: PostgresVersion) {
    let (crew, postgres) = stack(version);
    let wire = Wire::to(&crew, &postgres, With::Postgres, &[]);
    let finished = killed_anywhere(&wire, false, || run(&mut rotate(&crew, &postgres)));
    assert!(finished > 0, "none was killed between Vault's write and the end of the transaction");
}

fn killed_between_any_two_requests_the_next_rotation_finishes(version: PostgresVersion) {
    let (crew, postgres) = stack(version);
    let wire = Wire::to(&crew, &postgres, With::Vault, &[]);
    let finished = killed_anywhere(&wire, false, || run(&mut rotate(&crew, &postgres)));
    assert!(finished > 0, "none was killed between the two secrets");
}

fn killed_between_any_two_requests_a_plain_run_lets_the_service_in(version: PostgresVersion) {
    let (crew, postgres) = stack(version);
    let wire = Wire::to(&crew, &postgres, With::Vault, &[]);
    killed_anywhere(&wire, false, || run(&mut db_init(&crew, &postgres)));
}

fn killed_while_two_roles_take_turns_every_secret_has_a_login_that_works(version: PostgresVersion) {
    let (crew, postgres) = stack(version);
    for with in [With::Postgres, With::Vault] {
        let wire = Wire::to(&crew, &postgres, with, &["--alternate"]);
        killed_anywhere(&wire, true, || run(rotate(&crew, &postgres).arg("--alternate")));
    }
}

/// What becomes of a write whose answer is lost is asked, and not guessed.
#[test]
fn cut_off_from_vault_anywhere_it_ends_by_itself_or_by_the_next() {
    let (crew, postgres) = stack(PostgresVersion::V18);
    for options in [&[][..], &["--alternate"]] {
        let wire = Wire::to(&crew, &postgres, With::Vault, options);
        let first = wire.first_change();
        for number in first.. {
            let before = wire.proxy.requests().len();
            wire.proxy.at(Moment::BeforeAnswer, before + number, || Trouble::Reset(0));
            let outcome = run(&mut wire.rotate());
            let seen = wire.proxy.requests().split_off(before);
            let Some(hit) = seen.get(number - 1) else {
                assert!(number > first + 2, "{seen:?}");
                break;
            };
            let when = format!("{options:?}: no answer to {hit}");
            assert!([0, 69].contains(&outcome.code()), "{when}: {}", outcome.stderr);
            if outcome.code() != 0 {
                run(rotate(&crew, &postgres).args(options)).success();
            }
            agreed(&crew, &postgres, &when);
        }
    }
}
