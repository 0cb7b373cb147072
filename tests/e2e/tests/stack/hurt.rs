//! A command hurt at each of its effects in turn: killed, or refused it by the system.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use harness::{Call, Fault, Outcome, run_hurt, trace};

use crate::crew::{Crew, files_below};

/// What happens at the effects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Faults {
    /// A kill after each, and before each request. Since all effects are known, after one is before the next.
    Kills,
    /// The system refuses each: the disk is full, or fails, or is read-only, or somebody else's.
    Refusals,
}

/// One fault at one effect of a run.
pub(crate) struct Point<'a> {
    /// Its place among the effects.
    pub(crate) index: usize,
    pub(crate) effects: &'a [Call],
    pub(crate) fault: Fault,
    pub(crate) outcome: Outcome,
}

impl fmt::Display for Point<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, effects, fault, outcome } = self;
        write!(f, "{fault:?} at effect {index}, {}, which ended so:\n{}", effects[*index], outcome.stderr)
    }
}

impl Faults {
    fn at(self, effect: &Call) -> Vec<Fault> {
        match self {
            Self::Kills if effect.is_request() => vec![Fault::KillBefore, Fault::KillAfter],
            Self::Kills => vec![Fault::KillAfter],
            Self::Refusals => vec![Fault::Error(match effect.name.as_str() {
                "openat" | "write" | "symlinkat" => "ENOSPC",
                "fchmod" | "fchown" => "EPERM",
                "fsync" | "fdatasync" => "EIO",
                "mkdirat" | "unlinkat" => "EROFS",
                "renameat" | "renameat2" | "linkat" => "EACCES",
                "writev" | "sendto" => "ECONNRESET",
                other => panic!("what refuses {other}?"),
            })],
        }
    }
}

/// Runs `command` once for each of its effects and hurts it there. `prepare` brings the state about that each run
/// begins with, and `finish` sees to it that all is well afterwards.
///
/// Of the runs that left the same behind, on the disk and by the requests they made, one is finished. The effects
/// are dealt to `parts.1` tests, of which this is number `parts.0`.
pub(crate) fn everywhere(
    crew: &mut Crew,
    faults: Faults,
    parts: (usize, usize),
    command: impl Fn(&Crew) -> Command,
    mut prepare: impl FnMut(&mut Crew),
    mut finish: impl FnMut(&mut Crew, &Point<'_>),
) {
    prepare(crew);
    let (outcome, whole) = trace(&command(crew));
    outcome.success();
    let effects: Vec<Call> = whole.effects().cloned().collect();
    assert!(effects.len() > 10, "only {} effects: are they known by other calls?", effects.len());
    let size = effects.len().div_ceil(parts.1);
    let mut known = HashSet::new();
    for (index, effect) in effects.iter().enumerate().skip(parts.0 * size).take(size) {
        for fault in faults.at(effect) {
            prepare(crew);
            let hurt = run_hurt(&command(crew), effect, fault);
            let point = Point { index, effects: &effects, fault, outcome: hurt.outcome };
            assert!(hurt.was_hit, "it was not reached: {point}");
            if faults == Faults::Refusals {
                let code = point.outcome.code();
                assert!([0, 1, 69, 77, 78].contains(&code), "exit code {code}: {point}");
            }
            assert_private(crew, &point);
            let left = (hurt.trace.requests(), point.outcome.code(), left_behind(crew));
            // The server may or may not have done what it was just asked.
            if known.insert(left) || effect.is_request() {
                finish(crew, &point);
            }
        }
    }
}

/// Names, kinds, modes and sizes of what is there; what is random in a name does not count.
fn left_behind(crew: &Crew) -> BTreeSet<String> {
    let mut left = BTreeSet::new();
    for dir in ["keys", "root"] {
        describe(&crew.path(dir), dir, &mut left);
    }
    left
}

fn describe(dir: &Path, shown: &str, left: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = ["..tmp-", "..gen-"].into_iter().find(|prefix| name.starts_with(prefix)).unwrap_or(&name);
        let shown = format!("{shown}/{name}");
        let found = entry.metadata().expect("metadata");
        let size = if found.is_file() { found.len() } else { 0 };
        left.insert(format!("{shown} {:o} {size}", found.permissions().mode()));
        if found.is_dir() {
            describe(&entry.path(), &shown, left);
        }
    }
}

/// Nobody else may read a share or the token: neither a file nor a way to it is open to others.
fn assert_private(crew: &Crew, point: &Point<'_>) {
    for (dir, not_for_it, not_below) in [("keys", 0o077, 0o077), ("root", 0o027, 0o137)] {
        let dir = crew.path(dir);
        for path in [dir.clone()].into_iter().chain(files_below(&dir)) {
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            let (mode, forbidden) =
                (found.permissions().mode(), if path == dir { not_for_it } else { not_below });
            let is_open = !found.is_symlink() && mode & forbidden != 0;
            assert!(!is_open, "{} has mode {mode:o}: {point}", path.display());
        }
    }
}

/// The content of all files that are anywhere among the keys.
pub(crate) fn all_there_is(crew: &Crew) -> BTreeSet<String> {
    let files = files_below(&crew.path("keys")).into_iter().filter(|path| !path.is_symlink());
    files.map(|path| String::from_utf8_lossy(&fs::read(path).expect("a file")).into_owned()).collect()
}

/// The state directories as they are now, to be put back.
pub(crate) struct Backup(tempfile::TempDir);

impl Backup {
    pub(crate) fn of(crew: &Crew) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["keys", "root"] {
            copy(&crew.path(name), dir.path());
        }
        Self(dir)
    }

    pub(crate) fn restore(&self, crew: &Crew) {
        for name in ["keys", "root"] {
            crew.remove(name);
            copy(&self.0.path().join(name), &crew.path(""));
        }
    }
}

fn copy(from: &Path, into: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(into).status().expect("cp");
    assert!(status.success(), "cp {}: {status}", from.display());
}
