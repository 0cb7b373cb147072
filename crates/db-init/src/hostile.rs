//! Thousands of hostile names and passwords against a real server: the right objects, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use boot_clock::BootTime;
use harness::{Postgres, PostgresVersion, on_every_version};
use proptest::prelude::{Strategy, prop_oneof};
use proptest::strategy::{Just, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use secrecy::ExposeSecret as _;

use crate::args::{ObjectArgs, ServerArgs};
use crate::observed::Observed;
use crate::server::{Admin, Server};
use crate::target::Target;
use crate::tls::Tls;
use crate::{grants, make, verifier};

/// So many roles in each of the tests, and of these so many whole databases, which cost the server a hundred times as
/// much.
const ROLES: usize = 300;
const DATABASES: usize = 12;

/// Pieces that end quotes, statements and comments, or that somebody might change on the way.
const PIECES: [&str; 42] = [
    "'",
    "\"",
    "''",
    "\"\"",
    ";",
    "$$",
    "$body$",
    "\\",
    "\\'",
    "--",
    "/*",
    "*/",
    "\n",
    "\r\n",
    "\t",
    " ",
    "%s",
    "$1",
    ":x",
    "E'",
    "U&\"",
    "DROP ROLE victim",
    "'; DROP ROLE victim; --",
    "\"; DROP DATABASE victim; --",
    "user",
    "CURRENT_USER",
    "NULL",
    "é",
    "e\u{301}",
    "\u{ad}",
    "\u{2168}",
    "\u{a0}",
    "ª",
    "\u{200b}",
    "\u{202e}",
    "ß",
    "İ",
    "漢字",
    "🦀",
    "\u{7}",
    "\u{1b}[31m",
    "😀😀😀",
];

/// Texts of such pieces, of at most so many bytes, and at least one.
fn texts(most: usize) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => proptest::sample::select(PIECES.to_vec()).prop_map(str::to_owned),
        2 => "[a-zA-Z0-9_]{1,8}",
        1 => proptest::char::any().prop_filter("no NUL", |letter| *letter != '\0').prop_map(String::from),
        // At the limit of a name.
        1 => Just("x".repeat(40)),
    ];
    let text = proptest::collection::vec(piece, 1..12).prop_map(String::from_iter);
    text.prop_map(move |text: String| {
        let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text[..end].to_owned()
    })
    .prop_filter("an empty one", |text| !text.is_empty())
}

/// Random ones, the same in every run. Names differ from each other.
fn targets(seed: u8) -> Vec<Target> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let is_invisible = |text: &String| text.chars().all(stringprep::tables::commonly_mapped_to_nothing);
    let passwords = texts(200).prop_filter("a password that is refused", move |text| !is_invisible(text));
    let strategy = (texts(63), passwords, texts(63));
    let (mut users, mut databases, mut targets) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    while targets.len() < ROLES {
        let (user, password, database) = strategy.new_tree(&mut runner).unwrap().current();
        // Names that PostgreSQL keeps for itself.
        let is_reserved = user.starts_with("pg_") || ["public", "none"].contains(&user.as_str());
        if !is_reserved && users.insert(user.clone()) && databases.insert(database.clone()) {
            let password = password.as_str().into();
            targets.push(Target { user, password, database, ..Target::example() });
        }
    }
    targets
}

fn server(postgres: &Postgres, target: &Target) -> Server {
    let args = ServerArgs {
        db_host: Some(postgres.address().ip().to_string()),
        db_port: Some(postgres.address().port()),
        ..ServerArgs::of_nothing()
    };
    let tls = Tls::new(&args).unwrap();
    Server::new(&args, target, &tls, Some(postgres.password().into())).unwrap()
}

async fn names(admin: &Admin, sql: &str) -> BTreeSet<String> {
    admin.client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

const ALL_ROLES: &str = "SELECT rolname::text FROM pg_roles";
const ALL_DATABASES: &str = "SELECT datname::text FROM pg_database";

/// Hostile names and passwords make the right objects and nothing else.
async fn make_the_right_objects(version: PostgresVersion, seed: u8) {
    let postgres = Postgres::start(version);
    postgres.sql("postgres", "CREATE ROLE victim");
    postgres.sql("postgres", "CREATE DATABASE victim");
    let targets = targets(seed);
    let give_up = || BootTime::now() + Duration::from_mins(5);
    let admin = server(&postgres, &targets[0]).wait(give_up()).await.unwrap();
    let (mut roles, mut databases) = (names(&admin, ALL_ROLES).await, names(&admin, ALL_DATABASES).await);
    let objects = ObjectArgs::default();
    let nothing =
        Observed::look(&admin, &server(&postgres, &targets[0]), &targets[0], &objects).await.unwrap();
    for (index, target) in targets.iter().enumerate() {
        let password = target.password.expose_secret();
        if index % (ROLES / DATABASES) == 0 {
            let made = make::make(&server(&postgres, target), target, &objects, give_up()).await;
            let made = made.unwrap_or_else(|error| panic!("{target:?} {password:?}: {error}"));
            assert_eq!(made.changes.len(), 4, "{target:?}");
            // libpq prepares the password in its own way, and comes to the same.
            let sql =
                "CREATE TABLE t (n int); DROP TABLE t; SELECT current_user || ' ' || current_database()";
            let login = postgres.psql(&target.user, password, &target.database, sql);
            let answer = login.unwrap_or_else(|error| panic!("{target:?} {password:?}: {error}"));
            assert_eq!(answer, format!("{} {}", target.user, target.database).trim_end(), "{target:?}");
            databases.insert(target.database.clone());
        } else {
            let statements = grants::statements(target, &objects, &nothing).unwrap();
            admin.execute(&statements[0]).await.unwrap_or_else(|error| panic!("{target:?}: {error}"));
            let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = $1 AND rolcanlogin AND NOT rolsuper";
            let row = admin.client.query_opt(sql, &[&target.user]).await.unwrap();
            let stored = row.unwrap_or_else(|| panic!("{target:?}")).get::<_, Option<String>>(0);
            let stored = stored.unwrap_or_else(|| panic!("{target:?} {password:?}"));
            assert!(verifier::fits(&target.password, &stored.into()), "{target:?} {password:?}");
        }
        roles.insert(target.user.clone());
    }
    assert_eq!(names(&admin, ALL_ROLES).await, roles);
    assert_eq!(names(&admin, ALL_DATABASES).await, databases);
}

// More than a thousand for each version, in tests that run side by side.
macro_rules! hostile_names_and_passwords {
    ($($story:ident: $seed:literal,)*) => {
        on_every_version!($($story),*);

        $(
            fn $story(version: PostgresVersion) {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(make_the_right_objects(version, $seed));
            }
        )*
    };
}

hostile_names_and_passwords! {
    are_taken_literally_0: 0,
    are_taken_literally_1: 1,
    are_taken_literally_2: 2,
    are_taken_literally_3: 3,
}
