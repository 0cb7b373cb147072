//! Kills and failures at each system call, by `strace` into the example `write-secret`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use harness::{Step, Trace, under_strace};
use secrecy::ExposeSecret as _;
use secret_file::SecretDir;
use tempfile::TempDir;

/// Every call that changes something on the disk, or makes a change durable.
const EFFECTS: &[&str] = &[
    "openat",
    "write",
    "fchown",
    "fchmod",
    "fsync",
    "flock",
    "mkdirat",
    "symlinkat",
    "linkat",
    "renameat",
    "renameat2",
    "unlinkat",
];
const SIGKILL: i32 = 9;

/// A directory that others may enter.
fn empty_directory() -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    temp
}

/// With what `job` writes there.
fn directory(job: &[&str], value: &str) -> TempDir {
    let temp = empty_directory();
    let written = finish(arguments(Command::new(example()), job, temp.path()), value);
    assert!(written.status.success(), "{written:?}");
    temp
}

fn example() -> PathBuf {
    // target/<triple>/debug/deps/<this test>
    let deps = env::current_exe().unwrap();
    let path = deps.parent().unwrap().with_file_name("examples").join("write-secret");
    assert!(path.exists(), "{} is missing: build the examples", path.display());
    path
}

/// `job` is a job of the example and the names for it.
fn arguments(mut command: Command, job: &[&str], dir: &Path) -> Command {
    command.arg(job[0]).arg(dir).args(&job[1..]);
    command
}

fn finish(mut command: Command, value: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("{command:?} (is strace installed?): {error}"));
    // A child that was killed before it read has closed its end.
    let _ = child.stdin.take().unwrap().write_all(value.as_bytes());
    child.wait_with_output().unwrap()
}

fn traced(options: &[&str], job: &[&str], dir: &Path, value: &str) -> Output {
    let command = arguments(Command::new(example()), job, dir);
    finish(under_strace(&command, options, &dir.with_extension("trace")), value)
}

/// The calls since the start of the job, one a line.
fn trace(dir: &Path) -> Vec<String> {
    let path = dir.with_extension("trace");
    let lines = fs::read_to_string(&path).unwrap();
    fs::remove_file(path).unwrap();
    let here = dir.to_str().unwrap();
    lines.lines().filter(|line| line.contains(here)).map(str::to_owned).collect()
}

fn inject(call: &str, what: &str, number: usize) -> String {
    format!("inject=?{call}:{what}:when={number}")
}

/// What a program reads that knows nothing of sets, and what `read_set` reads.
fn values(dir: &Path, names: &[&str]) -> (BTreeSet<Option<String>>, Option<BTreeSet<String>>) {
    let plain = names.iter().map(|name| fs::read_to_string(dir.join(name)).ok()).collect();
    let set = SecretDir::open(dir).unwrap().read_set(names, 99).map(|values| {
        values.iter().map(|value| String::from_utf8_lossy(value.expose_secret()).into_owned()).collect()
    });
    (plain, set.ok())
}

fn internal(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("..") && name != "..data").collect()
}

/// Runs the job again and again, killed at the first, second, … call of each kind, and looks what is left.
fn kill_everywhere(before: Option<(&[&str], &str)>, job: &[&str], generations: usize) {
    let names = &job[1..];
    let mut kills = 0;
    for call in EFFECTS {
        for number in 1.. {
            let temp = match before {
                Some((job, value)) => directory(job, value),
                None => empty_directory(),
            };
            let dir = temp.path();
            let output = traced(&["-e", &inject(call, "signal=KILL", number)], job, dir, "new");
            let _ = trace(dir);
            let killed = output.status.signal() == Some(SIGKILL);
            kills += usize::from(killed);

            let old = before.map(|(_, value)| value.to_owned());
            let new = Some("new".to_owned());
            let (plain, set) = values(dir, names);
            assert_eq!(plain.len(), 1, "{call} {number}: half a set: {plain:?}");
            let found = plain.into_iter().next().unwrap();
            assert!(found == old || found == new, "{call} {number}: {found:?}");
            assert!(killed || found == new, "{call} {number}: {output:?}");
            assert_eq!(set, found.map(|value| BTreeSet::from([value])), "{call} {number}");

            let again = finish(arguments(Command::new(example()), job, dir), "new");
            let exists = job[0] == "create-new" && !again.status.success();
            assert!(again.status.success() || exists, "{call} {number}: {again:?}");
            assert_eq!(values(dir, names).0, BTreeSet::from([new]), "{call} {number}");
            assert_eq!(internal(dir).len(), generations, "{call} {number}: {:?}", internal(dir));
            if !killed {
                break;
            }
        }
    }
    assert!(kills >= 6, "only {kills} kills: is the example still written with these calls?");
}

#[test]
fn a_kill_anywhere_in_replace_leaves_the_old_or_the_new_file() {
    kill_everywhere(Some((&["replace", "key"], "old")), &["replace", "key"], 0);
}

#[test]
fn a_kill_anywhere_in_create_new_leaves_nothing_or_the_file() {
    kill_everywhere(None, &["create-new", "key"], 0);
}

#[test]
fn a_kill_anywhere_in_the_first_replace_set_leaves_nothing_or_the_set() {
    kill_everywhere(None, &["set", "a", "b"], 1);
}

#[test]
fn a_kill_anywhere_in_replace_set_leaves_the_old_or_the_new_set() {
    kill_everywhere(Some((&["set", "a", "b", "c"], "old")), &["set", "a", "b"], 1);
}

#[test]
fn a_failure_leaves_the_old_content_and_nothing_else_and_says_what_to_do() {
    let cases = [
        ("openat", "ENOSPC", "free space"),
        ("write", "ENOSPC", "free space"),
        ("write", "EDQUOT", "quota"),
        ("fchmod", "EPERM", "this process is uid"),
        ("fsync", "EIO", "the disk may be failing"),
        ("renameat", "EROFS", "mount its filesystem writable"),
    ];
    for (job, generations) in [(&["replace", "key"][..], 0), (&["set", "a", "b"][..], 1)] {
        for (call, errno, advice) in cases {
            // The first openat that makes something is not the first one.
            let (mut failures, name) = (0, job[1]);
            for number in 1..40 {
                let temp = directory(job, "old");
                let injected = inject(call, &format!("error={errno}"), number);
                let output = traced(&["-e", &injected], job, temp.path(), "new");
                let calls = trace(temp.path()).join("\n");
                let stderr = String::from_utf8(output.stderr).unwrap();
                let at = format!("{job:?} {call} {number} {errno}: {stderr}{calls}");
                // Calls that are let fail: the loader's, and those that only look for strays.
                if output.status.success() || !stderr.contains("cannot") {
                    if !calls.contains("(INJECTED)") && number > 20 {
                        break;
                    }
                    continue;
                }
                assert!(stderr.contains(advice) && !stderr.contains("new\n"), "{at}");
                assert!(stderr.contains(temp.path().to_str().unwrap()), "{at}");
                let swapped = calls.lines().any(|line| is_swap(line) && !line.contains("INJECTED"));
                let expected = if swapped { "new" } else { "old" };
                assert_eq!(fs::read_to_string(temp.path().join(name)).unwrap(), expected, "{at}");
                if !swapped {
                    assert_eq!(internal(temp.path()).len(), generations, "{at}");
                    failures += 1;
                }
            }
            assert!(failures > 0, "{job:?} {call} {errno} never failed");
        }
    }
}

/// The rename that makes the new content visible.
fn is_swap(line: &str) -> bool {
    line.contains("renameat") && (line.contains("\"key\"") || line.contains("\"..data\""))
}

fn position(calls: &[String], what: &str, from: usize, matches: impl Fn(&str) -> bool) -> usize {
    let found = calls.iter().skip(from).position(|call| matches(call));
    from + found.unwrap_or_else(|| panic!("no {what} after line {from} of\n{}", calls.join("\n")))
}

/// What the job does to the directory, proven to be durable step by step.
fn durable_steps(job: &[&str]) -> Vec<Step> {
    let temp = directory(job, "old");
    let output = traced(&[], job, temp.path(), "new");
    assert!(output.status.success(), "{output:?}");
    let trace = Trace::parse(&trace(temp.path()).join("\n"));
    trace.durable_steps(temp.path()).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn what_is_renamed_is_synced_before_and_its_directory_after() {
    assert_eq!(durable_steps(&["replace", "key"]), [Step::Appears("key".into())]);
}

#[test]
fn a_set_is_synced_whole_before_it_is_swapped_and_the_old_one_goes_after() {
    assert_eq!(durable_steps(&["set", "a", "b"]), [Step::Appears("..data".into())]);
}

#[test]
fn what_is_unchanged_is_synced_and_not_written() {
    for job in [&["replace", "key"][..], &["set", "a", "b"]] {
        let temp = directory(job, "same");
        let output = traced(&[], job, temp.path(), "same");
        assert!(output.status.success(), "{output:?}");
        let calls = trace(temp.path());
        let synced = format!("<{}>)", temp.path().display());
        position(&calls, "fsync(directory)", 0, |call| call.contains("fsync(") && call.contains(&synced));
        for call in ["write(", "rename", "O_CREAT", "mkdirat(", "symlinkat(", "unlinkat("] {
            assert!(!calls.iter().any(|line| line.contains(call)), "{call} in\n{}", calls.join("\n"));
        }
    }
}

#[test]
fn create_new_does_without_the_flags_of_rename() {
    let temp = empty_directory();
    let output =
        traced(&["-e", &inject("renameat2", "error=EINVAL", 1)], &["create-new", "key"], temp.path(), "new");
    assert!(output.status.success(), "{output:?}");
    let calls = trace(temp.path());
    position(&calls, "link", 0, |call| call.contains("linkat(") && call.contains("\"key\""));
    assert_eq!(fs::read_to_string(temp.path().join("key")).unwrap(), "new");
    assert!(internal(temp.path()).is_empty());
}

#[test]
fn another_user_is_told_who_they_are() {
    const NOBODY: u32 = 65_534;
    let temp = directory(&["replace", "key"], "old");
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o555)).unwrap();
    // The example lies where only its builder may go.
    let program = tempfile::tempdir().unwrap();
    fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = program.path().join("write-secret");
    fs::copy(example(), &copy).unwrap();
    let mut command = Command::new(copy);
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = finish(arguments(command, &["replace", "key"], temp.path()), "new");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let uid = if nix::unistd::geteuid().is_root() { NOBODY } else { nix::unistd::geteuid().as_raw() };
    assert!(stderr.contains(&format!("uid {uid}")) && stderr.contains("Permission denied"), "{stderr}");
    assert!(!output.status.success());
    assert_eq!(fs::read_to_string(temp.path().join("key")).unwrap(), "old");
}
