use proptest::prelude::*;

use super::*;
use crate::observed::{Administrator, Database, Reader, Role};

const GOOD_ROLE: Role = Role {
    can_log_in: true,
    is_powerful: false,
    password: Password::Right,
    connection_limit: -1,
    ends_as_asked: true,
    stands_in_for: None,
};

const SUPERUSER: Administrator =
    Administrator { is_superuser: true, acts_as_owner: true, server_version: 180_000 };

const NOTHING: Observed = Observed {
    administrator: SUPERUSER,
    role: None,
    database: None,
    reader: Reader { exists: false, may_connect: false },
};

fn good_database() -> Database {
    Database {
        owner: "o'brien".to_owned(),
        public_may_connect: false,
        is_granted: true,
        encoding: "UTF8".to_owned(),
        locale: "C.utf8".to_owned(),
    }
}

fn good() -> Observed {
    Observed { role: Some(GOOD_ROLE), database: Some(good_database()), ..NOTHING }
}

fn adopting() -> ObjectArgs {
    ObjectArgs { adopt: true, ..ObjectArgs::default() }
}

fn shown_with(objects: &ObjectArgs, observed: &Observed) -> Vec<String> {
    let statements = statements(&Target::example(), objects, observed).unwrap();
    for statement in &statements {
        assert!(!format!("{statement:?} {} {}", statement.sql, statement.done).contains("canary"));
    }
    statements.into_iter().map(|statement| statement.shown).collect()
}

fn shown(observed: &Observed) -> Vec<String> {
    shown_with(&ObjectArgs::default(), observed)
}

fn refused(observed: &Observed) -> String {
    statements(&Target::example(), &ObjectArgs::default(), observed).unwrap_err().to_string()
}

#[test]
fn makes_everything_where_there_is_nothing() {
    assert_eq!(
        shown(&NOTHING),
        [
            r#"CREATE ROLE "o'brien" WITH LOGIN PASSWORD '…'"#,
            r#"CREATE DATABASE "users""db" OWNER "o'brien""#,
            r#"REVOKE ALL ON DATABASE "users""db" FROM PUBLIC"#,
            r#"GRANT ALL PRIVILEGES ON DATABASE "users""db" TO "o'brien""#,
        ]
    );
}

#[test]
fn changes_nothing_where_all_is_well() {
    assert!(shown(&good()).is_empty());
}

#[test]
fn makes_them_as_they_were_asked_for() {
    let objects = ObjectArgs {
        db_owner: Some("own\"er".to_owned()),
        db_encoding: Some("UTF8".to_owned()),
        db_locale: Some("C'; --".to_owned()),
        connection_limit: Some(7),
        valid_until: Some("infinity".to_owned()),
        read_only_role: Some("reader".to_owned()),
        ..ObjectArgs::default()
    };
    let all = shown_with(&objects, &NOTHING);
    assert_eq!(
        all[..2],
        [
            r#"CREATE ROLE "o'brien" WITH LOGIN CONNECTION LIMIT 7 VALID UNTIL 'infinity' PASSWORD '…'"#,
            r#"CREATE DATABASE "users""db" OWNER "own""er" TEMPLATE "template0" ENCODING 'UTF8' LOCALE 'C''; --'"#,
        ]
    );
    assert_eq!(
        all[4..],
        [r#"CREATE ROLE "reader" NOLOGIN"#, r#"GRANT CONNECT ON DATABASE "users""db" TO "reader""#]
    );
}

#[test]
fn options_are_mended_where_they_can_be() {
    let objects = ObjectArgs {
        connection_limit: Some(7),
        valid_until: Some("2027-01-01".to_owned()),
        db_locale: Some("C.UTF-8".to_owned()),
        ..ObjectArgs::default()
    };
    let role = Some(Role { ends_as_asked: false, ..GOOD_ROLE });
    assert_eq!(
        shown_with(&objects, &Observed { role, ..good() }),
        [r#"ALTER ROLE "o'brien" CONNECTION LIMIT 7"#, r#"ALTER ROLE "o'brien" VALID UNTIL '2027-01-01'"#]
    );
    let other = ObjectArgs { db_encoding: Some("LATIN1".to_owned()), ..ObjectArgs::default() };
    let error = statements(&Target::example(), &other, &good()).unwrap_err().to_string();
    assert!(error.contains("has the encoding UTF8, not LATIN1"), "{error}");
}

const CREATOR: Administrator =
    Administrator { is_superuser: false, acts_as_owner: false, server_version: 160_004 };

#[test]
fn an_administrator_who_is_no_superuser_joins_the_role_to_hand_it_a_database() {
    let by = |administrator| shown(&Observed { administrator, ..NOTHING })[1].clone();
    assert_eq!(by(CREATOR), r#"GRANT "o'brien" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE"#);
    let before_16 = Administrator { server_version: 150_007, ..CREATOR };
    assert_eq!(by(before_16), r#"GRANT "o'brien" TO CURRENT_USER"#);
    let member = Administrator { acts_as_owner: true, ..CREATOR };
    assert!(by(member).starts_with("CREATE DATABASE"));

    let role = Some(Role { password: Password::Unknown, ..GOOD_ROLE });
    assert_eq!(shown(&Observed { administrator: CREATOR, role, ..good() }).len(), 1);
}

#[test]
fn mends_what_differs() {
    let role = Some(Role { password: Password::Wrong, ..GOOD_ROLE });
    let database = Some(Database { public_may_connect: true, ..good_database() });
    assert_eq!(
        shown(&Observed { role, database, ..NOTHING }),
        [
            r#"ALTER ROLE "o'brien" WITH LOGIN PASSWORD '…'"#,
            r#"REVOKE ALL ON DATABASE "users""db" FROM PUBLIC"#,
        ]
    );
}

#[test]
fn takes_nothing_over_unless_told() {
    let database = Some(Database { owner: "postgres".to_owned(), ..good_database() });
    let foreign = Observed { database, ..good() };
    let error = refused(&foreign);
    assert!(error.contains("postgres") && error.contains("--adopt"), "{error}");
    assert!(shown_with(&adopting(), &foreign)[0].starts_with("ALTER DATABASE"));

    let powerful = Observed { role: Some(Role { is_powerful: true, ..GOOD_ROLE }), ..good() };
    assert!(refused(&powerful).contains("rights that no service needs"));
    assert!(shown_with(&adopting(), &powerful).is_empty());
}

#[test]
fn who_stands_in_for_the_owner_needs_no_database_of_its_own() {
    let stands_in_for = Some("the owner".to_owned());
    let database = Some(Database { owner: "the owner".to_owned(), ..good_database() });
    let role = Some(Role { stands_in_for, ..GOOD_ROLE });
    let rotated = Observed { role: role.clone(), database, ..NOTHING };
    assert!(shown(&rotated).is_empty());
    // Its database is made for the one that it stands in for, who has the rights.
    let all = shown(&Observed { role: role.clone(), ..NOTHING });
    assert!(all[0].ends_with(r#"OWNER "the owner""#) && all[2].ends_with(r#"TO "the owner""#), "{all:?}");
    // And no other's is taken over.
    let database = Some(Database { owner: "another".to_owned(), ..good_database() });
    assert!(refused(&Observed { role, database, ..NOTHING }).contains("not to the owner"));
}

#[test]
fn a_role_with_another_password_is_ours_by_its_database_alone() {
    let role = Some(Role { password: Password::Wrong, ..GOOD_ROLE });
    let somebodys = Observed { role: role.clone(), ..NOTHING };
    assert!(refused(&somebodys).contains("may be somebody else's"));
    assert!(shown_with(&adopting(), &somebodys)[0].starts_with("ALTER ROLE"));
    assert!(shown(&Observed { role, ..good() })[0].starts_with("ALTER ROLE"));
    // A run that ended after it had made the role.
    let begun = Observed { role: Some(GOOD_ROLE), ..NOTHING };
    assert!(shown(&begun)[0].starts_with("CREATE DATABASE"));
}

proptest! {
    #[test]
    fn no_name_breaks_out_of_its_quotes(user in "[^\0]{1,20}", database in "[^\0]{1,20}") {
        let target = Target { user, database, ..Target::example() };
        let observed = Observed { administrator: CREATOR, ..NOTHING };
        for statement in statements(&target, &ObjectArgs::default(), &observed).unwrap() {
            let outside: String = statement.shown.split('"').step_by(2).collect();
            prop_assert!(outside.chars().all(|letter| letter.is_ascii_alphabetic() || " '…_,".contains(letter)));
        }
    }
}
