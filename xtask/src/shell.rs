//! The environment, and other people's programs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{Error, Result};

/// The longest that a program in the open may take.
const LONGEST: Duration = Duration::from_hours(2);

/// The variable; empty counts as unset.
#[expect(clippy::disallowed_methods, reason = "the tasks' one reader of variables")]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

pub(crate) fn search_path() -> OsString {
    variable("PATH").unwrap_or_default()
}

pub(crate) fn is_on_path(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|dir| dir.join(program).is_file())
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Runs a program whose output is of interest only where it fails, or to the caller.
pub(crate) fn output(doing: &str, command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(Error::io(doing))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Err(Error::Failed { doing: doing.to_owned(), said })
}

/// Runs a program in the open; whether it succeeded. An interruption ends it.
pub(crate) fn show(command: &mut Command) -> Result<bool> {
    let doing = format!("run {}", command.get_program().display());
    let mut child = command.spawn().map_err(Error::io(&doing))?;
    let _ = harness::wait_until(LONGEST, || !matches!(child.try_wait(), Ok(None)));
    match child.try_wait().map_err(Error::io(&doing))? {
        Some(status) => Ok(status.success()),
        None => child.kill().and_then(|()| child.wait()).map(|_| false).map_err(Error::io(doing)),
    }
}
