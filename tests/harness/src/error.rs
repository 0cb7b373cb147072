//! What can go wrong on the test bed.

use std::io;
use std::time::Duration;

/// What can go wrong on the test bed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, a directory or a process would not do as told.
    #[error("cannot {doing}")]
    Io {
        /// What was being done, on what.
        doing: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Something that the test bed needs is not installed.
    #[error("{what} is missing: {remedy}")]
    Missing {
        /// What.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// A program ended where it should have stayed or succeeded.
    #[error("{program} ended ({status}); its last words:\n{log}")]
    Ended {
        /// Which.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        log: String,
    },
    /// A program runs, but is not where it should be.
    #[error("{program} did not {goal} within {limit:?}; its last words:\n{log}")]
    Late {
        /// Which.
        program: String,
        /// What was waited for, as a verb.
        goal: String,
        /// How long.
        limit: Duration,
        /// The end of what it wrote.
        log: String,
    },
    /// A request got no answer.
    #[error("{method} {url} got no answer")]
    Request {
        /// The method.
        method: String,
        /// The whole address.
        url: String,
        /// Why.
        #[source]
        cause: Box<ureq::Error>,
    },
    /// A request got an answer that ends the story.
    #[error("{method} {url} answered {status}: {body}")]
    Answer {
        /// The method.
        method: String,
        /// The whole address.
        url: String,
        /// The status code.
        status: u16,
        /// The server's errors.
        body: String,
    },
}

/// A result on the test bed.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |cause| Self::Io { doing, cause }
    }
}

/// The error's text followed by those of its causes.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The value, or the end of the test, told with all causes.
#[track_caller]
pub(crate) fn or_panic<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{}", with_causes(&error)),
    }
}
