//! Killed before every file effect and request of the initialisation, or refused it by the system: the next start
//! knows how far it came.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use harness::run;

use crate::crew::Crew;

/// What happens to the `n`th effect of a run.
#[derive(Clone, Copy)]
enum Fault {
    /// The process is killed before it.
    Kill,
    /// The system refuses it, with this word.
    Error(&'static str),
}

/// `unsealer init` with this fault at its `number`th `effect`; `false` where it has no more of them.
fn init_with(fault: Fault, crew: &Crew, effect: &str, number: usize) -> bool {
    let injection = match fault {
        Fault::Kill => "signal=KILL".to_owned(),
        Fault::Error(word) => format!("error={word}"),
    };
    let init = crew.unsealer("init");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-o", "trace", "-e", &format!("trace={effect}")])
        .args(["-e", &format!("inject={effect}:{injection}:when={number}")])
        .arg(init.get_program())
        .args(init.get_args())
        .current_dir(crew.path(""))
        .env("VAULT_ADDR", crew.vault.addr());
    let ended = run(&mut strace);
    assert!([0, 1, 77, 78, 137].contains(&ended.code()), "{effect} {number}: {}", ended.stderr);
    match fault {
        Fault::Kill => ended.code() == 137,
        Fault::Error(_) => crew.read("trace").contains("(INJECTED)"),
    }
}

/// Nothing below `directory` may be entered or read by others than its owner.
fn assert_private(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", entry.path().display());
    }
}

fn every_fault_is_finished_or_recognised(fault: Fault, effect: &str) {
    let mut lost = 0;
    for number in 1.. {
        let crew = Crew::new();
        let was_hit = init_with(fault, &crew, effect, number);
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
        if !was_hit {
            assert!(number > 1, "there was no {effect} to be hit");
            break;
        }
    }
    // A failure is no kill: whatever the system refuses, the answer is kept until it does not.
    let may_be_lost = if matches!(fault, Fault::Kill) { 3 } else { 0 };
    assert!(lost <= may_be_lost, "{effect}: {lost} times the answer was lost");
}

#[test]
fn before_every_directory_and_name_that_appears_or_goes() {
    for effect in ["mkdirat", "renameat2", "unlinkat"] {
        every_fault_is_finished_or_recognised(Fault::Kill, effect);
    }
}

#[test]
fn before_every_sync() {
    every_fault_is_finished_or_recognised(Fault::Kill, "fsync");
}

#[test]
fn before_every_request() {
    every_fault_is_finished_or_recognised(Fault::Kill, "writev");
}

#[test]
fn a_disk_that_is_full_at_any_sync_loses_nothing() {
    every_fault_is_finished_or_recognised(Fault::Error("ENOSPC"), "fsync");
}

#[test]
fn a_file_system_that_refuses_any_change_loses_nothing() {
    for effect in ["mkdirat", "fchmod", "unlinkat"] {
        every_fault_is_finished_or_recognised(Fault::Error("EROFS"), effect);
    }
    for effect in ["renameat", "renameat2"] {
        every_fault_is_finished_or_recognised(Fault::Error("EACCES"), effect);
    }
}

#[test]
fn a_link_planted_among_the_keys_is_not_followed() {
    for name in ["init-requested", "init-response.json", "unseal-key-1", "break-glass", "rekeyed", "hold"] {
        let crew = Crew::new();
        crew.write("elsewhere/target", "untouched");
        fs::create_dir(crew.path("keys")).unwrap();
        fs::set_permissions(crew.path("keys"), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(crew.path("elsewhere/target"), crew.path("keys").join(name)).unwrap();
        let init = run(&mut crew.unsealer("init"));
        assert_eq!(crew.read("elsewhere/target"), "untouched", "{name}");
        let made: Vec<_> = fs::read_dir(crew.path("elsewhere")).unwrap().collect();
        assert_eq!(made.len(), 1, "{name}");
        // The note is replaced, and a hold says nothing about it; what could hold keys is refused before the init.
        let is_refused = !["init-requested", "hold"].contains(&name);
        assert_eq!(init.code() == 78, is_refused, "{name}: {} {}", init.code(), init.stderr);
        assert_eq!(crew.vault.health(), Some(if is_refused { 501 } else { 503 }), "{name}: {}", init.stderr);
    }
}
