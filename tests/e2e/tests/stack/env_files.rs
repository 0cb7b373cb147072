//! Whatever stands in the place of the `.env` file: an answer that says what and where, at once, and shows no value.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

use harness::run;
use serde_json::Value;

use crate::crew::Crew;

/// Part of every value here.
const CANARY: &str = "canary-7c1e";

/// `check`, `plan` and `apply`: each must refuse the file, and say this of this place.
fn refused_by_all(crew: &Crew, place: &str, reason: &str) {
    for mut command in [check(crew), crew.bootstrap("plan"), crew.bootstrap("apply")] {
        let outcome = run(&mut command).expect_code(78);
        let told = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(told.contains(place) && told.contains(reason), "not {place} {reason}:\n{told}");
        assert!(!told.contains(CANARY), "{told}");
    }
}

fn check(crew: &Crew) -> Command {
    let mut command = crew.programs.bootstrap();
    command.arg("check").current_dir(crew.path(""));
    command
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let crew = Crew::new();
    let env_file = crew.path(".env");
    fs::remove_file(&env_file).unwrap();
    refused_by_all(&crew, ".env", "No such file or directory");
    for (target, said) in [
        ("nowhere", "No such file or directory"),
        (".env", "symbolic link"),
        ("/dev/zero", "it is a device, not a regular file"),
        ("/dev/null", "it is a device, not a regular file"),
        ("policies", "it is a directory, not a regular file"),
    ] {
        symlink(target, &env_file).unwrap();
        refused_by_all(&crew, ".env", said);
        fs::remove_file(&env_file).unwrap();
    }
    // Nobody writes into it: who waits for that waits for ever.
    assert!(Command::new("mkfifo").arg(&env_file).status().unwrap().success());
    refused_by_all(&crew, ".env", "it is a FIFO, not a regular file");
    fs::remove_file(&env_file).unwrap();
    let _socket = UnixListener::bind(&env_file).unwrap();
    refused_by_all(&crew, ".env", "it is a socket or an absent device, not a regular file");
}

#[test]
fn what_is_wrong_within_is_told_by_line_and_column() {
    let crew = Crew::new();
    for (content, place, reason) in [
        (&b"A=1\nUSER_X=canary-7c1e\0\n"[..], ":2:19", "a NUL character"),
        (b"A=1\nUSER_X=canary-7c1e\xff\n", ":2:19", "not UTF-8 text"),
        (b"\xff\xfeA\0=\0c\0", ":1:1", "not UTF-8 text"),
        (b"\xef\xbb\xbfUSER_X=canary-7c1e\n", ":1:1", "a byte order mark"),
        (b"A=1\rUSER_X=canary-7c1e\n", ":1:4", "a carriage return in the middle"),
        (b"USER_X=canary-7c1e-1\nUSER_X=canary-7c1e-2\n", ":2:1", "USER_X: set before, on line 1"),
        (b"USER_X=\"canary-7c1e\n", ":1:8", "USER_X: the quote that opens the value is never closed"),
        (b"USER_X='canary-7c1e' more-canary-7c1e\n", ":1:21", "USER_X: text after the closing quote"),
        (b"USER_X=canary-7c1e$HOME\n", ":1:19", "USER_X: some readers expand a `$` here"),
        (b"USER_X=\"${canary-7c1e}\"\n", ":1:9", "USER_X: `${` here is filled in"),
        (b"USER_X={\"key\":\"canary-7c1e\"}\n", ":1:9", "USER_X: dotenvy takes away a quote"),
        (b"A=1\n\ncanary-7c1e\n", ":3:1", "no `=` on this line"),
        (b"-----BEGIN canary-7c1e-----\n", ":1:1", "no `=` on this line"),
        (b"canary 7c1e canary-7c1e=1\n", ":1:1", "the name before `=` may hold only"),
    ] {
        fs::write(crew.path(".env"), content).unwrap();
        fs::set_permissions(crew.path(".env"), fs::Permissions::from_mode(0o600)).unwrap();
        refused_by_all(&crew, &format!(".env{place}"), reason);
    }
    // More than any .env file has; nothing of it is read.
    fs::File::create(crew.path(".env")).unwrap().set_len(64 * 1024 * 1024 + 1).unwrap();
    refused_by_all(&crew, ".env", "it is larger than 67108864 bytes");
}

#[test]
fn an_open_file_is_warned_of_and_taken() {
    let crew = Crew::new();
    crew.initialise();
    let plan = |mode: u32| {
        fs::set_permissions(crew.path(".env"), fs::Permissions::from_mode(mode)).unwrap();
        run(&mut crew.bootstrap("plan")).success()
    };
    assert!(!plan(0o600).stderr.contains("chmod"));
    for (mode, told) in [
        (
            0o644,
            ".env: its mode is 0644: every user of this machine gets at all the secrets in it; chmod 600 .env",
        ),
        (0o640, ".env: its mode is 0640: its group gets at all the secrets in it; chmod 600 .env"),
    ] {
        assert!(plan(mode).stderr.contains(told), "{}", plan(mode).stderr);
    }
    let applied = crew.apply().success();
    assert!(applied.stderr.contains("chmod 600 .env"), "{}", applied.stderr);
}

#[test]
fn line_ends_make_no_difference_and_an_empty_file_is_one_without_keys() {
    let crew = Crew::new();
    crew.initialise();
    let lines = "# a stack\nUSER_DB_USER=user_svc  # made by db-init\nUSER_NAME='canary-7c1e é'\nCHAT_KEY=\"canary-7c1e\\n\"\n";
    crew.write_env(lines);
    crew.apply().success();
    crew.write_env(&lines.replace('\n', "\r\n"));
    assert_eq!(crew.apply().success().stdout, "nothing to change: 3 services\n");

    crew.write_env("");
    let plan = run(&mut crew.bootstrap("plan")).success();
    assert!(plan.stdout.contains("USER_NAME") && plan.stdout.contains("CHAT_KEY"), "{}", plan.stdout);
    let checked = run(&mut check(&crew)).success();
    assert_eq!(checked.stdout.matches("secret-empty").count(), 3, "{}", checked.stdout);
}

#[test]
fn two_thousand_keys_and_a_value_of_a_mebibyte_are_read_in_full() {
    let crew = Crew::new();
    for service in ["a", "b", "c", "d", "e"] {
        crew.write_policy(
            service,
            &format!("path \"secret/data/{service}\" {{\n  capabilities = [\"read\"]\n}}\n"),
        );
    }
    crew.initialise();
    let mut env = String::new();
    for number in 0..2000 {
        let service = ["A", "B", "C", "D", "E"][number % 5];
        writeln!(env, "{service}_KEY_{number}='{CANARY} \" # {number}'").unwrap();
    }
    crew.write_env(&env);
    crew.apply().success();
    let (_, read) = crew.vault.api("GET", "/v1/secret/data/c", &crew.root_token(), &Value::Null);
    let read = read["data"]["data"].as_object().unwrap();
    assert_eq!(read.len(), 400);
    assert_eq!(read["C_KEY_1997"], format!("{CANARY} \" # 1997"));
    assert_eq!(crew.apply().success().stdout, "nothing to change: 8 services\n");

    // As one value a mebibyte is more than the server takes; with a fault at its end it is told where that is.
    let long = format!("{CANARY} ").repeat((1 << 20) / (CANARY.len() + 1) + 1);
    crew.write_env(&format!("USER_LONG='{long}'\n"));
    refused_by_all(&crew, "secret", "USER_LONG");
    crew.write_env(&format!("USER_OK=1\nUSER_LONG='{long}' x\n"));
    let column = "USER_LONG=''".len() + long.len() + 1;
    refused_by_all(&crew, &format!(".env:2:{column}"), "USER_LONG: text after the closing quote");
}

#[test]
fn a_fault_in_each_of_two_thousand_lines_is_told_in_each() {
    let crew = Crew::new();
    let env: String = (0..2000).fold(String::new(), |mut env, number| {
        writeln!(env, "USER_{number}={CANARY}$x").unwrap();
        env
    });
    crew.write_env(&env);
    let refused = run(&mut crew.bootstrap("plan")).expect_code(78);
    assert_eq!(refused.stderr.matches("some readers expand").count(), 2000);
    let checked = run(check(&crew).arg("--json")).expect_code(78);
    let findings: Vec<Value> = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(findings.iter().filter(|finding| finding["rule"] == "env-dialect").count(), 2000);
    assert!(!refused.stderr.contains(CANARY) && !checked.stdout.contains(CANARY));
}
