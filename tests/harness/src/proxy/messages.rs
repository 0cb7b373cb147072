//! What a client of PostgreSQL asks.

/// Reads one connection's messages. A request is what the server answers as one: a step of the login, a simple
/// statement, or everything up to a `Sync`.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// What has come of the next message.
    rest: Vec<u8>,
    /// The login: the messages before it have no type, and all after it one.
    has_begun: bool,
    /// TLS.
    is_opaque: bool,
    /// What was prepared since the last `Sync`.
    prepared: Option<String>,
}

/// Asks for TLS: a number in the place of a version.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

impl Messages {
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(bytes);
        let mut found = Vec::new();
        while let Some((kind, body)) = self.next() {
            found.extend(self.request(kind, &body));
        }
        found
    }

    /// The next whole message.
    fn next(&mut self) -> Option<(Option<u8>, Vec<u8>)> {
        self.is_opaque |= !self.has_begun && self.rest.first().is_some_and(|first| *first != 0);
        if self.is_opaque {
            self.rest.clear();
            return None;
        }
        let kind_length = usize::from(self.has_begun);
        let length = self.rest.get(kind_length..kind_length + 4)?.try_into().ok().map(u32::from_be_bytes)?;
        let end = kind_length + usize::try_from(length).ok()?.max(4);
        let body = self.rest.get(kind_length + 4..end)?.to_vec();
        let kind = self.has_begun.then(|| self.rest[0]);
        self.rest.drain(..end);
        Some((kind, body))
    }

    fn request(&mut self, kind: Option<u8>, body: &[u8]) -> Option<String> {
        let text = |field: usize| {
            String::from_utf8_lossy(body.split(|byte| *byte == 0).nth(field).unwrap_or_default()).into_owned()
        };
        match kind {
            None if body.starts_with(&SSL_REQUEST) => Some("(TLS?)".to_owned()),
            None => {
                self.has_begun = true;
                Some("(login)".to_owned())
            }
            Some(b'p') => Some("(password)".to_owned()),
            Some(b'Q') => Some(text(0)),
            Some(b'P') => {
                // After the name of the statement.
                self.prepared = Some(text(1));
                None
            }
            Some(b'S') => Some(self.prepared.take().unwrap_or_else(|| "(sync)".to_owned())),
            Some(_) => None,
        }
    }
}
