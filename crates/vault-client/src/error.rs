//! What can come of a request, told apart by what the caller does next.

use std::fmt;
use std::time::Duration;

use http::Method;

/// A request that failed. Its text names the request and quotes the server, and holds no secret: whatever
/// was sent is cut out of the server's words.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No answer: connection refused, name unknown, TLS failed, too slow, cut off.
    #[error("{request}: no answer: {reason}")]
    Unreachable {
        /// What was asked.
        request: Box<RequestLine>,
        /// The innermost cause.
        reason: String,
        /// Whether trying again can help; it does not where the server's certificate is refused, or an
        /// answer is beyond all bounds.
        transient: bool,
        /// Whether the server may have got the request: not where no connection came about.
        sent: bool,
    },
    /// The node is sealed (503).
    #[error("{request}: Vault is sealed")]
    Sealed {
        /// What was asked.
        request: Box<RequestLine>,
    },
    /// The token is missing, invalid or expired, or its policies do not allow this (403).
    #[error("{request}: permission denied{}", Quoted(.messages))]
    Denied {
        /// What was asked.
        request: Box<RequestLine>,
        /// The server's words.
        messages: Vec<String>,
    },
    /// The server understood and declines (another 4xx): asking again changes nothing.
    #[error("{request}: refused with status {status}{}", Quoted(.messages))]
    Refused {
        /// What was asked.
        request: Box<RequestLine>,
        /// The HTTP status.
        status: u16,
        /// The server's words.
        messages: Vec<String>,
    },
    /// Nothing is there (404).
    #[error("{request}: not found{}", Quoted(.messages))]
    NotFound {
        /// What was asked.
        request: Box<RequestLine>,
        /// The server's words; none where the path is merely empty.
        messages: Vec<String>,
    },
    /// A rate-limit quota is used up (429).
    #[error("{request}: rate limited{}", Quoted(.messages))]
    RateLimited {
        /// What was asked.
        request: Box<RequestLine>,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
        /// The server's words.
        messages: Vec<String>,
    },
    /// An answer that the API does not give: a server error, a redirect, a body that is not what was asked for.
    #[error("{request}: unexpected answer with status {status}{}{}", Quoted(.messages), cause_of(*.status, .messages))]
    Unexpected {
        /// What was asked.
        request: Box<RequestLine>,
        /// The HTTP status.
        status: u16,
        /// The server's words, or what is wrong with the body.
        messages: Vec<String>,
        /// Whether trying again can help.
        transient: bool,
    },
}

/// A request as errors and logs name it: method and URL, neither of which carries a secret in this API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// The HTTP method, `LIST` included.
    pub method: Method,
    /// The whole URL.
    pub url: String,
}

impl fmt::Display for RequestLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.method, self.url)
    }
}

impl VaultError {
    /// Whether the same request may succeed later without anyone doing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Sealed { .. } | Self::RateLimited { .. } => true,
            Self::Unreachable { transient, .. } | Self::Unexpected { transient, .. } => *transient,
            Self::Denied { .. } | Self::Refused { .. } | Self::NotFound { .. } => false,
        }
    }

    /// Whether the server certainly did not carry the request out: it never got it, or says so.
    #[must_use]
    pub const fn certainly_undone(&self) -> bool {
        match self {
            Self::Unreachable { sent, .. } => !*sent,
            Self::Unexpected { .. } => false,
            _ => true,
        }
    }

    /// Whether this server may not have the endpoint at all: an unknown path is denied to whoever is not root.
    pub(crate) const fn is_unknown_endpoint(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Denied { .. } | Self::Refused { status: 405, .. })
    }

    /// How long the server asked to be left alone.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        if let Self::RateLimited { retry_after, .. } = self { *retry_after } else { None }
    }

    /// The server's own words.
    #[must_use]
    pub fn messages(&self) -> &[String] {
        match self {
            Self::Unreachable { .. } | Self::Sealed { .. } => &[],
            Self::Denied { messages, .. }
            | Self::Refused { messages, .. }
            | Self::NotFound { messages, .. }
            | Self::RateLimited { messages, .. }
            | Self::Unexpected { messages, .. } => messages,
        }
    }
}

/// What these words mean, where a server says no more to anybody but its own log.
fn cause_of(status: u16, messages: &[String]) -> &'static str {
    match messages {
        [message] if status == 500 && message == "internal error" => {
            "; its own log says why: often an audit device that it cannot write to, as on a full disk"
        }
        _ => "",
    }
}

/// The server's words behind a colon, or nothing.
struct Quoted<'a>(&'a [String]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What the error's own text says already.
        let messages = self.0.iter().filter(|message| *message != "permission denied");
        for (index, message) in messages.enumerate() {
            write!(out, "{} {message}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}
