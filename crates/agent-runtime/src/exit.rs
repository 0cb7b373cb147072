//! The exit codes, in their one place.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use secret_file::FileError;
use vault_client::VaultError;

/// How a program ends. The numbers are a contract with scripts; 69, 77 and 78 are those of `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed, for a reason that none of the others names.
    Failed,
    /// 69: a server is unavailable past the deadline.
    Unavailable,
    /// 77: permission denied, or credentials refused.
    Denied,
    /// 78: the configuration or the input is wrong.
    Config,
    /// The code of a wrapped command: its own, 128+n when a signal ended it, 126 or 127 when it could not
    /// be run or found.
    Command(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // 2, usage, is the argument parser's.
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Unavailable => 69,
            Exit::Denied => 77,
            Exit::Config => 78,
            Exit::Command(code) => code,
        })
    }
}

/// An error that ends a program, and with which code.
pub trait Failure: Error {
    /// The exit code.
    fn exit(&self) -> Exit;
}

impl Failure for VaultError {
    fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Sealed { .. } | Self::RateLimited { .. } => Exit::Unavailable,
            Self::Denied { .. } => Exit::Denied,
            Self::Refused { .. } | Self::NotFound { .. } => Exit::Failed,
            Self::Unexpected { transient, .. } => {
                if *transient {
                    Exit::Unavailable
                } else {
                    Exit::Failed
                }
            }
        }
    }
}

impl Failure for FileError {
    fn exit(&self) -> Exit {
        if self.is_permission() {
            Exit::Denied
        } else if self.is_input() {
            Exit::Config
        } else {
            Exit::Failed
        }
    }
}

/// An error and its causes in one line, each once.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String has no error.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading {path}")]
    struct Outer {
        path: &'static str,
        #[source]
        cause: std::num::ParseIntError,
    }

    #[test]
    fn each_cause_is_told_once() {
        let cause = "x".parse::<u8>().unwrap_err();
        let text = with_causes(&Outer { path: "a/b", cause });
        assert_eq!(text, "reading a/b: invalid digit found in string");
    }

    #[test]
    fn the_codes_are_the_contract() {
        let codes =
            [Exit::Done, Exit::Failed, Exit::Unavailable, Exit::Denied, Exit::Config, Exit::Command(127)]
                .map(|exit| format!("{:?}", ExitCode::from(exit)));
        let wanted = [0, 1, 69, 77, 78, 127].map(|code: u8| format!("{:?}", ExitCode::from(code)));
        assert_eq!(codes, wanted);
    }
}
