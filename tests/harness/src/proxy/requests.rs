//! Where requests begin in the bytes that a client sends: of HTTP, or of PostgreSQL.

use super::messages::Messages;

/// The longest head that a program sends.
const LONGEST_HEAD: usize = 64 * 1024;

/// Reads one connection's requests. Its first byte says in which protocol.
#[derive(Debug, Default)]
pub(super) enum Requests {
    /// Nothing came yet.
    #[default]
    Unknown,
    Http(Http),
    Postgres(Messages),
    /// TLS, or another protocol.
    Opaque,
}

impl Requests {
    /// The requests that are whole with these bytes, of HTTP their heads: `PUT /v1/sys/init`, `SELECT 1`.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        if let (Self::Unknown, Some(first)) = (&*self, bytes.first()) {
            *self = match first {
                b'A'..=b'Z' => Self::Http(Http::default()),
                // The length of the first message, in four bytes.
                0 => Self::Postgres(Messages::default()),
                _ => Self::Opaque,
            };
        }
        match self {
            Self::Http(http) => http.feed(bytes),
            Self::Postgres(messages) => messages.feed(bytes),
            Self::Unknown | Self::Opaque => Vec::new(),
        }
    }
}

/// Knows no chunked bodies, which none of the clients here sends.
#[derive(Debug, Default)]
pub(super) struct Http {
    head: Vec<u8>,
    /// So much of a body is still to come.
    body: usize,
    /// It is no HTTP after all.
    is_opaque: bool,
}

impl Http {
    fn feed(&mut self, mut bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        while !bytes.is_empty() && !self.is_opaque {
            let skipped = self.body.min(bytes.len());
            self.body -= skipped;
            bytes = &bytes[skipped..];
            if let Some((byte, rest)) = bytes.split_first() {
                self.head.push(*byte);
                bytes = rest;
            }
            self.is_opaque = self.head.len() > LONGEST_HEAD
                || self.head.first().is_some_and(|first| !first.is_ascii_uppercase());
            if self.head.ends_with(b"\r\n\r\n") {
                let head = std::mem::take(&mut self.head);
                let head = String::from_utf8_lossy(&head);
                self.body = content_length(&head);
                let mut words = head.split(' ');
                let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                found.push(format!("{method} {path}"));
            }
        }
        found
    }
}

fn content_length(head: &str) -> usize {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fed in pieces of every size, the requests are these.
    fn assert_found(sent: &[u8], expected: &[&str]) {
        for size in 1..=sent.len() {
            let mut requests = Requests::default();
            let found: Vec<String> = sent.chunks(size).flat_map(|chunk| requests.feed(chunk)).collect();
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn requests_are_found_however_they_are_cut_and_bodies_are_none() {
        let sent = "PUT /v1/a HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET /no HTTP/1\r\n\r\nGET /v1/b HTTP/1.1\r\n\r\n";
        assert_found(sent.as_bytes(), &["PUT /v1/a", "GET /v1/b"]);
    }

    #[test]
    fn another_protocol_has_no_requests() {
        assert_found(b"\x16\x03\x01GET / HTTP/1.1\r\n\r\n", &[]);
    }

    fn message(kind: &[u8], body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [kind, &length, body].concat()
    }

    #[test]
    fn what_postgresql_answers_as_one_is_one_request() {
        let login = [
            message(b"", &80_877_103_u32.to_be_bytes()),
            message(b"", b"\0\x03\0\0user\0u\0\0"),
            message(b"p", b"SCRAM-SHA-256\0"),
        ];
        let asked = [
            message(b"Q", b"BEGIN\0"),
            message(b"P", b"\0SELECT $1\0\0\0"),
            message(b"B", b"\0\0\0\0\0\0\0\0"),
            message(b"S", b""),
            message(b"B", b"\0\0\0\0\0\0\0\0"),
            message(b"S", b""),
            message(b"X", b""),
        ];
        let expected = ["(TLS?)", "(login)", "(password)", "BEGIN", "SELECT $1", "(sync)"];
        assert_found(&[login.concat(), asked.concat()].concat(), &expected);
    }

    #[test]
    fn tls_within_postgresql_has_no_requests() {
        let request = message(b"", &80_877_103_u32.to_be_bytes());
        assert_found(&[&request[..], b"\x16\x03\x01\0\0\0\0\0\0"].concat(), &["(TLS?)"]);
    }
}
