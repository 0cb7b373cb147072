//! What a program does to the world, system call by system call.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, or_panic};
use crate::run::{Outcome, run};
use crate::settings;

/// The calls that may change something outside of the process, or make a change durable.
const CALLS: &[&str] = &[
    "open",
    "creat",
    "openat",
    "write",
    "pwrite64",
    "writev",
    "sendto",
    "sendmsg",
    "fchown",
    "fchownat",
    "chmod",
    "fchmod",
    "fchmodat",
    "ftruncate",
    "fsync",
    "fdatasync",
    "mkdir",
    "mkdirat",
    "symlinkat",
    "linkat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "rmdir",
    "unlinkat",
];

/// A program's calls, in order.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// One after another.
    pub calls: Vec<Call>,
}

/// One system call that has ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// Which.
    pub name: String,
    /// How many of that name its thread has made, this one included: what `strace -e inject` counts.
    pub number: usize,
    /// Its arguments; behind a descriptor stands what it is, as in `7</tmp/keys>`.
    pub arguments: String,
    /// What it returned, and more where something was done to it: `0`, `-1 ENOSPC (…) (INJECTED)`.
    pub result: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the rest: a write's content may be a secret.
        match self.target() {
            Some(path) => write!(f, "{} {} ({})", self.name, self.number, path.display()),
            None => write!(f, "{} {}", self.name, self.number),
        }
    }
}

/// Runs the program to its end: how that was, and what it did.
#[track_caller]
pub fn trace(command: &Command) -> (Outcome, Trace) {
    // Not every machine has all of them.
    let calls: Vec<String> = CALLS.iter().map(|call| format!("?{call}")).collect();
    traced(command, &["-e", &format!("trace={}", calls.join(","))])
}

/// The same with these options of strace.
#[track_caller]
pub(crate) fn traced(command: &Command, options: &[&str]) -> (Outcome, Trace) {
    let dir = or_panic(tempfile::tempdir().map_err(Error::io("make a directory for a trace")));
    let file = dir.path().join("trace");
    let outcome = run(&mut under_strace(command, options, &file));
    let text =
        or_panic(fs::read_to_string(&file).map_err(Error::io("read the trace (is strace installed?)")));
    (outcome, Trace::parse(&text))
}

/// The same program, arguments, variables and directory, traced into `file`. Of this process's environment it has
/// `PATH` alone.
#[must_use]
pub fn under_strace(command: &Command, options: &[&str], file: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-y", "-s", "96", "-o"]).arg(file).args(options);
    strace.arg(command.get_program()).args(command.get_args());
    strace.env_clear().env("PATH", settings::search_path());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    if let Some(dir) = command.get_current_dir() {
        strace.current_dir(dir);
    }
    strace
}

impl Trace {
    /// Reads what `strace -f -y -o` has written.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut begun: HashMap<&str, &str> = HashMap::new();
        let mut counts: HashMap<(&str, String), usize> = HashMap::new();
        let mut calls = Vec::new();
        for line in text.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let rest = rest.trim_start();
            if let Some(first) = rest.strip_suffix(" <unfinished ...>") {
                begun.insert(thread, first);
                continue;
            }
            let whole = match rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
                Some((_, end)) => begun.remove(thread).unwrap_or_default().to_owned() + end,
                None => rest.to_owned(),
            };
            // A signal's line, or the end of the process, has no parenthesis; a killed call no result.
            let Some((name, rest)) = whole.split_once('(') else { continue };
            let Some((arguments, result)) = rest.rsplit_once(") ").or_else(|| rest.rsplit_once(')')) else {
                continue;
            };
            let (arguments, result) = match rest.rfind(" = ") {
                Some(at) => (rest[..at].trim_end().trim_end_matches(')'), &rest[at + 3..]),
                None => (arguments, result),
            };
            let count = counts.entry((thread, name.to_owned())).or_default();
            *count += 1;
            calls.push(Call {
                name: name.to_owned(),
                number: *count,
                arguments: arguments.to_owned(),
                result: result.trim_start_matches("= ").to_owned(),
            });
        }
        Self { calls }
    }

    /// Those that had an effect on files, or on others: each is a point at which a program can be hurt.
    pub fn effects(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.is_effect())
    }

    /// How many requests went out.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.calls.iter().filter(|call| call.is_request()).count()
    }
}

impl Call {
    /// The `number`th call of this name, to be hurt where no trace tells of it.
    #[must_use]
    pub fn nth(name: &str, number: usize) -> Self {
        Self { name: name.to_owned(), number, arguments: String::new(), result: String::new() }
    }

    /// Whether it has changed anything outside of the process, or made a change durable. What goes to the terminal
    /// or the log is no such thing.
    #[must_use]
    pub fn is_effect(&self) -> bool {
        !self.has_failed()
            && match self.name.as_str() {
                "open" | "openat" => self.arguments.contains("O_CREAT"),
                "write" | "pwrite64" => self.is_request() || (self.is_to_file() && !self.is_output()),
                "writev" | "sendto" | "sendmsg" => self.is_request(),
                name => CALLS.contains(&name),
            }
    }

    /// Whether it sends something to a server.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.name.as_str(), "write" | "writev" | "sendto" | "sendmsg")
            && self.descriptor().is_some_and(|what| what.starts_with("socket:") || what.starts_with("TCP"))
    }

    /// Whether it writes to standard output or standard error.
    #[must_use]
    pub fn is_output(&self) -> bool {
        matches!(self.name.as_str(), "write" | "writev")
            && (self.arguments.starts_with("1<") || self.arguments.starts_with("2<"))
    }

    /// Whether the system has refused it.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.result.starts_with("-1 ")
    }

    /// The file or directory that it is about: the last one, where it names two.
    #[must_use]
    pub fn target(&self) -> Option<PathBuf> {
        self.paths().pop()
    }

    /// All files and directories that it names, whole.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        if !self.name.ends_with("at") && !self.name.ends_with("at2") {
            return self
                .descriptor()
                .filter(|what| what.starts_with('/'))
                .map(PathBuf::from)
                .into_iter()
                .collect();
        }
        // `7</tmp/keys>, "name"`, once or twice; of a symbolic link the text comes first.
        let mut rest = self.arguments.as_str();
        let mut paths = Vec::new();
        while let Some((dir, after)) = rest.split_once('<').and_then(|(_, rest)| rest.split_once(">, \"")) {
            let Some((name, after)) = after.split_once('"') else { break };
            paths.push(Path::new(dir).join(name));
            rest = after;
        }
        paths
    }

    /// What stands behind its first descriptor.
    fn descriptor(&self) -> Option<&str> {
        Some(self.arguments.split_once('<')?.1.split_once('>')?.0)
    }

    fn is_to_file(&self) -> bool {
        self.descriptor().is_some_and(|what| what.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"7 openat(AT_FDCWD</>, "/etc/x", O_RDONLY) = 3</etc/x>
7 openat(11</k>, "..tmp-1", O_WRONLY|O_CREAT|O_EXCL, 0600) = 15</k/..tmp-1>
7 write(15</k/..tmp-1>, "a) = b", 6)    = 6
7 write(2</dev/pts/0>, "log", 3)        = 3
7 renameat(11</k>, "..tmp-1", 11</k>, "a" <unfinished ...>
8 fsync(12</k/b>)                       = -1 EIO (Input/output error) (INJECTED)
7 <... renameat resumed>)               = 0
7 writev(13<socket:[72383]>, [{iov_base="POST /v1/sys/init HTTP/1.1\r\n", iov_len=138}], 1) = 138
7 symlinkat("..data/a", 11</k>, "a")    = 0
7 unlinkat(11</k>, "a", 0)              = ?
7 +++ killed by SIGKILL +++
"#;

    #[test]
    fn calls_are_read_with_their_numbers_files_and_results() {
        let trace = Trace::parse(TEXT);
        let told: Vec<String> = trace.calls.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "openat 1 (/etc/x)",
                "openat 2 (/k/..tmp-1)",
                "write 1 (/k/..tmp-1)",
                "write 2 (/dev/pts/0)",
                "fsync 1 (/k/b)",
                "renameat 1 (/k/a)",
                "writev 1",
                "symlinkat 1 (/k/a)",
                "unlinkat 1 (/k/a)",
            ]
        );
        assert!(trace.calls[4].has_failed() && trace.calls[4].result.ends_with("(INJECTED)"));
        let effects: Vec<&str> = trace.effects().map(|call| call.name.as_str()).collect();
        assert_eq!(effects, ["openat", "write", "renameat", "writev", "symlinkat", "unlinkat"]);
        assert_eq!(trace.requests(), 1);
    }

    #[test]
    fn a_program_is_traced_in_its_directory_and_with_its_variables_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo \"$HERE$HOME\" > made; exit 7"]).env("HERE", "yes").current_dir(dir.path());
        let (outcome, trace) = trace(command.env_remove("HOME"));
        assert_eq!(outcome.code(), 7, "{}", outcome.stderr);
        assert_eq!(fs::read_to_string(dir.path().join("made")).unwrap(), "yes\n");
        let made = dir.path().canonicalize().unwrap().join("made");
        assert!(trace.effects().any(|call| call.name == "openat" && call.target() == Some(made.clone())));
    }
}
