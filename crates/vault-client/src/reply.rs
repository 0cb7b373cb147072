//! An answer, and how a failed one becomes a [`VaultError`].

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{Connection, RequestLine, VaultError};

/// A successful answer. The body may hold secrets: it is wiped when dropped, and never shown.
pub struct Reply {
    /// The HTTP status, 200 to 299.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came, empty for 204.
    pub body: Zeroizing<Vec<u8>>,
    /// The connection that it came by, where that is known.
    pub connection: Option<Connection>,
    pub(crate) request: Box<RequestLine>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}, {} bytes", self.request, self.status, self.body.len())
    }
}

impl Reply {
    /// The body as JSON of the shape `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, VaultError> {
        // serde_json's own words may quote the body: only the place is told.
        serde_json::from_slice(&self.body).map_err(|error| {
            self.unexpected(format!(
                "the body is not the JSON that this path answers with (line {}, column {})",
                error.line(),
                error.column()
            ))
        })
    }

    /// The `data` object that most of the API wraps its answers in.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, VaultError> {
        #[derive(Deserialize)]
        struct Wrapped<T> {
            data: T,
        }
        self.json::<Wrapped<T>>().map(|wrapped| wrapped.data)
    }

    /// The answer's fields, wherever this server's generation has them: under `data`, or flat.
    pub(crate) fn data_or_flat<T: DeserializeOwned>(&self) -> Result<T, VaultError> {
        self.data().or_else(|_| self.json())
    }

    /// The server's word that it has done what it was told: no content, or an answer of its own with warnings.
    /// Something else, such as the page of a proxy, is no such word.
    pub(crate) fn done(self) -> Result<(), VaultError> {
        #[derive(Deserialize)]
        struct Own {
            #[serde(rename = "request_id")]
            _request_id: String,
        }
        if self.body.is_empty() { Ok(()) } else { self.json::<Own>().map(drop) }
    }

    /// The error for an answer whose content cannot be what the API gives.
    pub(crate) fn unexpected(&self, why: String) -> VaultError {
        VaultError::Unexpected {
            request: self.request.clone(),
            status: self.status.as_u16(),
            messages: vec![why],
            transient: false,
        }
    }
}

/// What Go's HTTP server answers on a port that speaks TLS to who does not (`net/http`, with status 400).
const SPEAKS_TLS: &[u8] = b"Client sent an HTTP request to an HTTPS server.";

/// A failed answer, before it is judged.
pub(crate) struct Failure<'a> {
    pub(crate) request: Box<RequestLine>,
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// What was sent and must not come back in an error's text.
    pub(crate) sent_body: &'a [u8],
    pub(crate) token: Option<&'a SecretString>,
}

impl Failure<'_> {
    pub(crate) fn into_error(self) -> VaultError {
        let messages = self.messages();
        let Self { request, status, headers, body, .. } = self;
        let says = |text: &str| messages.iter().any(|message| message.contains(text));
        match status.as_u16() {
            503 if says("sealed") => VaultError::Sealed { request },
            403 => VaultError::Denied { request, messages },
            404 => VaultError::NotFound { request, messages },
            429 => VaultError::RateLimited { request, retry_after: retry_after(headers), messages },
            // Nobody has read the request, so that it says nothing about what was asked, credentials above all.
            400 if body.trim_ascii_end() == SPEAKS_TLS => VaultError::Unreachable {
                request,
                reason: "the server speaks TLS here: the address has to begin with https://".to_owned(),
                transient: false,
                sent: false,
            },
            // A KV v2 mount answers so for up to 100 ms after it was made.
            400 if says("Upgrading from non-versioned") => {
                VaultError::Unexpected { request, status: 400, messages, transient: true }
            }
            // 412: a standby that has not caught up with the write it is asked about.
            412 => VaultError::Unexpected { request, status: 412, messages, transient: true },
            status @ 400..=499 => VaultError::Refused { request, status, messages },
            // A standby sends writes on to the active node; the call finds that one by itself.
            status @ 300..=399 => VaultError::Unexpected {
                request,
                status,
                messages: vec![
                    "a redirect, which is never followed: it would carry the token along".to_owned(),
                ],
                transient: true,
            },
            status => VaultError::Unexpected { request, status, messages, transient: status >= 500 },
        }
    }

    /// The server's words: at most eight of at most 400 characters, without control characters.
    fn messages(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<String>,
        }
        let sent: Option<Value> = serde_json::from_slice(self.sent_body).ok();
        let mut secrets = Vec::new();
        if let Some(body) = &sent {
            collect_strings(body, &mut secrets);
        }
        secrets.extend(self.token.map(ExposeSecret::expose_secret));
        serde_json::from_slice::<Errors>(self.body)
            .map(|answer| answer.errors)
            .unwrap_or_default()
            .iter()
            .take(8)
            .map(|message| presentable(message, &secrets))
            .collect()
    }
}

fn collect_strings<'a>(value: &'a Value, strings: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => strings.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect_strings(value, strings)),
        Value::Object(fields) => fields.values().for_each(|value| collect_strings(value, strings)),
        _ => {}
    }
}

fn presentable(message: &str, secrets: &[&str]) -> String {
    let mut text = Cow::Borrowed(message);
    // Shorter strings are settings such as "1h"; cutting those out would cripple the message.
    for secret in secrets.iter().filter(|secret| secret.len() >= 8) {
        if text.contains(secret) {
            text = Cow::Owned(text.replace(secret, "[redacted]"));
        }
    }
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // How the server lists what it has only one of.
    let words = words.strip_prefix("1 error occurred: * ").unwrap_or(&words);
    words.chars().filter(|letter| !letter.is_control()).take(400).collect()
}

/// RFC 9110, section 10.2.3, in its form in seconds; the date form is not used by Vault.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    // A server that asks for more than an hour is taken for one that is wrong.
    Some(Duration::from_secs(seconds).min(Duration::from_hours(1)))
}
