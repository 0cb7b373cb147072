//! A child process that never outlives its owner unless told to.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::wait::{wait_patiently, wait_until};

/// How long a process may take to end after it was asked to.
pub(crate) const GRACE: Duration = Duration::from_secs(15);

/// A running child; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .map_err(Error::io(format!("run {}", command.get_program().display())))?;
        Ok(Self { name: name.to_owned(), child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        // Only a child that was waited for elsewhere makes this fail, and nobody does.
        self.child.try_wait().ok().flatten()
    }

    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let _ = wait_until(limit, || self.ended().is_some());
        self.ended()
    }

    /// Sends the signal; nothing when it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let pid = i32::try_from(self.pid()).expect("the kernel's pids fit");
            // It may have ended in between: then there is nobody to tell.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Asks it to end, waits, and kills it where it will not.
    pub(crate) fn stop(&mut self, signal: Signal) -> Option<ExitStatus> {
        self.signal(signal);
        let _ = wait_patiently(GRACE, || self.ended().is_some());
        let status = self.ended();
        if status.is_none() {
            self.kill();
        }
        status
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The directory that a server keeps its state in.
#[derive(Debug)]
pub(crate) enum Home {
    /// Removed with its owner.
    Temporary(tempfile::TempDir),
    /// Somebody else's, and kept.
    Given(PathBuf),
}

impl Home {
    /// The given directory, made where it is missing; without one a new temporary one.
    pub(crate) fn open(given: Option<PathBuf>, prefix: &str) -> Result<Self> {
        match given {
            Some(path) => {
                let doing = format!("make {}", path.display());
                std::fs::create_dir_all(&path).map_err(Error::io(doing))?;
                Ok(Self::Given(path))
            }
            None => tempfile::Builder::new()
                .prefix(prefix)
                .tempdir()
                .map(Self::Temporary)
                .map_err(Error::io("make a temporary directory")),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Given(path) => path,
        }
    }
}

/// The end of a log, enough to see why a program is not there.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
