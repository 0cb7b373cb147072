//! Killed before every file effect and request of the initialisation: the next start knows how far it came.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use harness::run;

use crate::crew::Crew;

/// `unsealer init`, killed before its `number`th `effect`; `false` where it has no more of them.
fn killed_before(crew: &Crew, effect: &str, number: usize) -> bool {
    let init = crew.unsealer("init");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={effect}")])
        .args(["-e", &format!("inject={effect}:signal=KILL:when={number}")])
        .arg(init.get_program())
        .args(init.get_args())
        .current_dir(crew.path(""))
        .env("VAULT_ADDR", crew.vault.addr());
    match run(&mut strace).code() {
        0 => false,
        137 => true,
        code => panic!("{effect} {number}: exit code {code}"),
    }
}

/// Nothing below `directory` may be entered or read by others than its owner.
fn assert_private(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", entry.path().display());
    }
}

fn every_kill_is_finished_or_recognised(effect: &str) {
    let mut lost = 0;
    for number in 1.. {
        let crew = Crew::new();
        let was_killed = killed_before(&crew, effect, number);
        assert_private(&crew.path("keys"));
        let had_answer =
            crew.path("keys/init-response.json").exists() || crew.path("keys/unseal-key-1").exists();
        let next = run(&mut crew.unsealer("init"));
        if next.code() == 78 {
            // The one window that no client can close: the server has committed, its answer is not stored yet.
            assert!(
                next.stderr.contains("its keys were never received"),
                "{effect} {number}: {}",
                next.stderr
            );
            assert!(!had_answer, "{effect} {number}: the answer was here, and is lost");
            lost += 1;
        } else {
            next.success();
            run(&mut crew.unsealer("unseal")).success();
            let (status, _) = crew.vault.api(
                "GET",
                "/v1/auth/token/lookup-self",
                &crew.root_token(),
                &serde_json::Value::Null,
            );
            assert_eq!(status, 200, "{effect} {number}: the root token does not work");
            let names: Vec<_> = fs::read_dir(crew.path("keys")).expect("the keys").flatten().collect();
            assert_eq!(names.len(), 5, "{effect} {number}: {names:?}");
        }
        if !was_killed {
            assert!(number > 1, "there was no {effect} to be killed before");
            break;
        }
    }
    assert!(lost <= 3, "{effect}: {lost} kills lost the answer");
}

#[test]
fn before_every_directory_and_name_that_appears_or_goes() {
    for effect in ["mkdirat", "renameat2", "unlinkat"] {
        every_kill_is_finished_or_recognised(effect);
    }
}

#[test]
fn before_every_sync() {
    every_kill_is_finished_or_recognised("fsync");
}

#[test]
fn before_every_request() {
    every_kill_is_finished_or_recognised("writev");
}
