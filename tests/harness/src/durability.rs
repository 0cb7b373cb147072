//! Whether a program's trace would survive a power cut anywhere.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::trace::{Call, Trace};

/// What a program did to a directory tree and to the world, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// A file, directory or link came to this name, which may have been another's.
    Appears(PathBuf),
    /// What had this name has none any more.
    Goes(PathBuf),
    /// A request went out: its first line.
    Asks(String),
    /// Something was told on standard output.
    Tells,
}

/// Where a power cut could undo what somebody relies on.
#[derive(Debug)]
pub struct NotDurable {
    /// What was done too early.
    before: String,
    /// What a power cut at that moment may take.
    pending: BTreeSet<PathBuf>,
}

impl fmt::Display for NotDurable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} these were not synced: {:?}", self.before, self.pending)
    }
}

impl Trace {
    /// The steps below `root`, relative to it, once it is proven that before each of them, before anything new is
    /// written, and at the end, everything earlier had been made durable: the content and mode of files by their
    /// fsync, names by that of their directory.
    ///
    /// Names that nobody reads and the next writer clears (`..tmp-…`, what is in `..gen-…` before it is current)
    /// may be lost.
    pub fn durable_steps(&self, root: &Path) -> Result<Vec<Step>, NotDurable> {
        // The kernel names files by their real paths.
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let mut disk = Disk { root, unsynced: BTreeSet::new() };
        let mut steps = Vec::new();
        for call in self.calls.iter().filter(|call| call.is_effect() || call.is_output()) {
            if let Some(step) = disk.take_in(call)? {
                steps.push(step);
            }
        }
        disk.barrier("the end")?;
        Ok(steps)
    }
}

/// What is not known to be on the disk yet.
struct Disk {
    root: PathBuf,
    unsynced: BTreeSet<PathBuf>,
}

impl Disk {
    fn take_in(&mut self, call: &Call) -> Result<Option<Step>, NotDurable> {
        if call.is_request() {
            let line = call.arguments.split('"').nth(1).unwrap_or_default();
            let line = line.split(" HTTP/").next().unwrap_or_default().to_owned();
            self.barrier(&line)?;
            return Ok(Some(Step::Asks(line)));
        }
        if call.is_output() {
            let is_answer = call.arguments.starts_with("1<");
            return if is_answer { self.barrier("the answer").map(|()| Some(Step::Tells)) } else { Ok(None) };
        }
        let paths = call.paths();
        let Some(path) = paths.last().filter(|path| path.starts_with(&self.root)) else { return Ok(None) };
        match call.name.as_str() {
            "fsync" | "fdatasync" => {
                self.unsynced.remove(path);
                Ok(None)
            }
            "write" | "pwrite64" | "ftruncate" | "fchmod" | "fchown" | "fchownat" | "fchmodat" => {
                self.unsynced.insert(path.clone());
                Ok(None)
            }
            "openat" | "mkdirat" | "symlinkat" => self.appears(call, path, true),
            "linkat" | "renameat" | "renameat2" => {
                let from = paths.first().cloned().unwrap_or_default();
                self.barrier(&call.to_string())?;
                if !is_private(&from) {
                    self.changes_directory_of(&from);
                }
                self.appears(call, path, false)
            }
            "unlinkat" if is_private(path) => {
                self.unsynced.remove(path);
                Ok(None)
            }
            "unlinkat" => {
                self.barrier(&call.to_string())?;
                self.changes_directory_of(path);
                Ok(Some(Step::Goes(self.relative(path))))
            }
            other => panic!("{other} below {} is not known here", self.root.display()),
        }
    }

    fn appears(&mut self, call: &Call, path: &Path, is_new: bool) -> Result<Option<Step>, NotDurable> {
        if is_new && !is_in_generation(path) && !is_link_of_set(call) {
            self.barrier(&call.to_string())?;
        }
        // Those are on their way to another name, and may be lost.
        if !has_prefix(path, &["..tmp-", "..link"]) {
            self.changes_directory_of(path);
        }
        Ok((!is_private(path)).then(|| Step::Appears(self.relative(path))))
    }

    fn changes_directory_of(&mut self, path: &Path) {
        if let Some(parent) = path.parent().filter(|parent| parent.starts_with(&self.root)) {
            self.unsynced.insert(parent.to_owned());
        }
    }

    fn barrier(&self, before: &str) -> Result<(), NotDurable> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        Err(NotDurable { before: before.to_owned(), pending: self.unsynced.clone() })
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }
}

/// Links to the files of a set lead nowhere until its directory is there: they need not come one by one.
fn is_link_of_set(call: &Call) -> bool {
    call.name == "symlinkat" && call.arguments.starts_with("\"..data/")
}

/// Whether nobody looks at this name.
fn is_private(path: &Path) -> bool {
    has_prefix(path, &["..tmp-", "..gen-", "..link"]) || is_in_generation(path)
}

fn is_in_generation(path: &Path) -> bool {
    path.parent().is_some_and(|parent| has_prefix(parent, &["..gen-"]))
}

fn has_prefix(path: &Path, prefixes: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 13] = [
        r#"7 mkdirat(AT_FDCWD</k>, "d", 0700) = 0"#,
        r"7 fsync(10</k>) = 0",
        r#"7 openat(11</k/d>, "..tmp-1", O_WRONLY|O_CREAT|O_EXCL, 0600) = 15</k/d/..tmp-1>"#,
        r#"7 write(15</k/d/..tmp-1>, "x", 1) = 1"#,
        r"7 fchmod(15</k/d/..tmp-1>, 0400) = 0",
        r"7 fsync(15</k/d/..tmp-1>) = 0",
        r#"7 renameat(11</k/d>, "..tmp-1", 11</k/d>, "a") = 0"#,
        r"7 fsync(11</k/d>) = 0",
        r#"7 writev(13<socket:[1]>, [{iov_base="PUT /v1/x HTTP/1.1\r\n", iov_len=9}], 1) = 9"#,
        r#"7 unlinkat(11</k/d>, "a", 0) = 0"#,
        r"7 fsync(11</k/d>) = 0",
        r#"7 write(2</dev/null>, "log", 3) = 3"#,
        r#"7 write(1</dev/null>, "done", 4) = 4"#,
    ];

    fn steps(lines: &[&str]) -> Result<Vec<Step>, NotDurable> {
        Trace::parse(&lines.join("\n")).durable_steps(Path::new("/k"))
    }

    #[test]
    fn what_is_synced_in_time_is_durable() {
        let expected = [
            Step::Appears("d".into()),
            Step::Appears("d/a".into()),
            Step::Asks("PUT /v1/x".to_owned()),
            Step::Goes("d/a".into()),
            Step::Tells,
        ];
        assert_eq!(steps(&GOOD).unwrap(), expected);
    }

    #[test]
    fn no_sync_can_be_left_out_or_come_later() {
        for (index, line) in GOOD.iter().enumerate().filter(|(_, line)| line.contains("fsync")) {
            let mut lines = GOOD.to_vec();
            lines.remove(index);
            assert!(steps(&lines).is_err(), "without {line}");
            // One later; the order of the last two alone says nothing.
            lines.insert(index + 1, line);
            assert!(steps(&lines).is_err() || lines[index].contains("write(2"), "late: {line}");
        }
    }

    #[test]
    fn a_set_is_whole_before_it_is_current() {
        const SET: [&str; 10] = [
            r#"7 mkdirat(5</k>, "..gen-1", 0700) = 0"#,
            r#"7 openat(6</k/..gen-1>, "a", O_WRONLY|O_CREAT|O_EXCL, 0600) = 7</k/..gen-1/a>"#,
            r#"7 write(7</k/..gen-1/a>, "x", 1) = 1"#,
            r"7 fsync(7</k/..gen-1/a>) = 0",
            r"7 fsync(6</k/..gen-1>) = 0",
            r#"7 symlinkat("..data/a", 5</k>, "a") = 0"#,
            r"7 fsync(5</k>) = 0",
            r#"7 symlinkat("..gen-1", 6</k/..gen-1>, "..link") = 0"#,
            r#"7 renameat(6</k/..gen-1>, "..link", 5</k>, "..data") = 0"#,
            r"7 fsync(5</k>) = 0",
        ];
        assert_eq!(steps(&SET).unwrap(), [Step::Appears("a".into()), Step::Appears("..data".into())]);
        for index in [3, 4, 6, 9] {
            let mut lines = SET.to_vec();
            lines.remove(index);
            assert!(steps(&lines).is_err(), "without {}", SET[index]);
        }
    }
}
