//! What a server takes of one secret, so that what is too much is refused before anything is written.

use std::fmt;

use secrecy::ExposeSecret as _;

use crate::merge::Values;

/// A server refuses a write with a thousand strings in it. Key and value are two, and the check-and-set takes some.
pub(crate) const MOST_KEYS: usize = 498;

/// Integrated storage takes an entry below 1 MiB; beside the values, less than half a KiB of that is used.
pub(crate) const MOST_BYTES: usize = 1024 * 1024 - 512;

/// A secret that is too much.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMuch {
    /// Mount and path.
    path: String,
    keys: usize,
    bytes: usize,
    /// The key with the longest value, and that one's bytes.
    longest: Option<(String, usize)>,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, keys, bytes, longest } = self;
        if *keys > MOST_KEYS {
            return write!(
                out,
                "the secret {path} would hold {keys} keys, and a server takes {MOST_KEYS} in one write; give some of \
                 them to another service in vaultcrew.toml, or ignore them"
            );
        }
        write!(out, "the secret {path} would take {bytes} bytes as JSON, and a server stores {MOST_BYTES}")?;
        match longest {
            Some((key, bytes)) => write!(out, "; its longest value is that of {key}, with {bytes}"),
            None => Ok(()),
        }
    }
}

/// Says where a secret is too much.
pub(crate) fn check(path: &str, values: &Values) -> Option<TooMuch> {
    let size = |text: &str| 2 + text.chars().map(escaped).sum::<usize>();
    let pair = |(key, value): (&String, &secrecy::SecretString)| size(key) + size(value.expose_secret()) + 2;
    let (keys, bytes) = (values.len(), 1 + values.iter().map(pair).sum::<usize>());
    if keys <= MOST_KEYS && bytes <= MOST_BYTES {
        return None;
    }
    let lengths = values.iter().map(|(key, value)| (key.clone(), value.expose_secret().len()));
    Some(TooMuch { path: path.to_owned(), keys, bytes, longest: lengths.max_by_key(|(_, length)| *length) })
}

/// How many bytes a character takes in the JSON that the server stores, which is Go's: with `<`, `>` and `&` escaped.
fn escaped(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => 6,
        other => other.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(values: &Values) -> Option<String> {
        check("secret/chat", values).map(|excess| excess.to_string())
    }

    #[test]
    fn keys_are_counted() {
        let values =
            |count: usize| (0..count).map(|number| (format!("K{number}"), "v".into())).collect::<Values>();
        assert_eq!(told(&values(498)), None);
        assert!(
            told(&values(499))
                .unwrap()
                .starts_with("the secret secret/chat would hold 499 keys, and a server takes 498")
        );
    }

    #[test]
    fn bytes_are_counted_as_the_server_stores_them() {
        let one = |text: String| Values::from([("K".to_owned(), text.into())]);
        // {"K":"…"} is eight bytes beside the value.
        assert_eq!(told(&one("v".repeat(MOST_BYTES - 8))), None);
        let told_of = told(&one("v".repeat(MOST_BYTES - 7))).unwrap();
        assert!(
            told_of.contains("would take 1048065 bytes") && told_of.ends_with("that of K, with 1048057"),
            "{told_of}"
        );
        assert!(told(&one("<".repeat(MOST_BYTES / 6))).is_some());
        assert!(told(&one("\n".repeat(MOST_BYTES / 2))).is_some());
        assert!(!told_of.contains("vvv"));
    }
}
