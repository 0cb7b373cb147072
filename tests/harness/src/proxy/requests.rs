//! Where HTTP requests begin in the bytes that a client sends.

/// The longest head that a program sends.
const LONGEST_HEAD: usize = 64 * 1024;

/// Reads one connection's requests; knows no chunked bodies, which none of the clients here sends.
#[derive(Debug, Default)]
pub(super) struct Requests {
    head: Vec<u8>,
    /// So much of a body is still to come.
    body: usize,
    /// This is TLS, or another protocol.
    is_opaque: bool,
}

impl Requests {
    /// The requests whose heads end in these bytes, such as `PUT /v1/sys/init`.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        while !bytes.is_empty() && !self.is_opaque {
            let skipped = self.body.min(bytes.len());
            self.body -= skipped;
            bytes = &bytes[skipped..];
            if let Some((byte, rest)) = bytes.split_first() {
                self.head.push(*byte);
                bytes = rest;
            }
            // The first byte of TLS and of PostgreSQL's messages is no letter.
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

    #[test]
    fn requests_are_found_however_they_are_cut_and_bodies_are_none() {
        let sent = "PUT /v1/a HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET /no HTTP/1\r\n\r\nGET /v1/b HTTP/1.1\r\n\r\n";
        for size in 1..sent.len() {
            let mut requests = Requests::default();
            let found: Vec<String> =
                sent.as_bytes().chunks(size).flat_map(|chunk| requests.feed(chunk)).collect();
            assert_eq!(found, ["PUT /v1/a", "GET /v1/b"], "in pieces of {size}");
        }
    }

    #[test]
    fn another_protocol_has_no_requests() {
        let mut requests = Requests::default();
        assert!(requests.feed(b"\0\0\0\x08GET / HTTP/1.1\r\n\r\n").is_empty());
        assert!(requests.feed(b"GET / HTTP/1.1\r\n\r\n").is_empty());
    }
}
