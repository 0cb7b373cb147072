//! What a server takes of one secret, so that what is too much is refused before anything is written.

use std::fmt;

/// A server refuses a write with a thousand strings in it. Key and value are two, and the check-and-set takes some:
/// one without it may have one key more.
pub(crate) const MOST_KEYS: usize = 498;

/// Integrated storage takes an entry below 1 MiB. Beside the values 218 bytes of that were measured on `OpenBao`; a
/// server that also keeps who wrote takes more.
pub(crate) const MOST_BYTES: usize = 1024 * 1024 - 512;

/// A secret that is too much. Its text is what and why, a semicolon, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMuch {
    /// Mount and path.
    path: String,
    keys: usize,
    bytes: usize,
    /// The key with the longest value, and that one's bytes.
    longest: Option<(String, usize)>,
}

impl TooMuch {
    /// Whether it is the number of keys, rather than their size.
    pub(crate) fn has_too_many_keys(&self) -> bool {
        self.keys > MOST_KEYS
    }
}

impl fmt::Display for TooMuch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, keys, bytes, longest } = self;
        if self.has_too_many_keys() {
            return write!(
                out,
                "the secret {path} would hold {keys} keys, and a server takes {MOST_KEYS} in one write; give some of \
                 them to another service in vaultcrew.toml, put what is no secret under ignore, or several into one \
                 JSON value"
            );
        }
        write!(out, "the secret {path} would take {bytes} bytes as JSON, and a server stores {MOST_BYTES}")?;
        if let Some((key, bytes)) = longest {
            write!(out, ": its longest value is that of {key}, with {bytes}")?;
        }
        out.write_str(
            "; keep large values in files of their own, outside of Vault, and a key to decrypt them in it",
        )
    }
}

/// Says where a secret is too much, by the [`stored`] size of each key's value.
pub(crate) fn check<'a>(path: &str, values: impl Iterator<Item = (&'a str, usize)>) -> Option<TooMuch> {
    let (mut keys, mut bytes, mut longest) = (0, 1, None);
    for (key, size) in values {
        keys += 1;
        // A colon and a comma.
        bytes += stored(key) + size + 2;
        longest = longest.max(Some((size, key)));
    }
    let longest = longest.map(|(size, key)| (key.to_owned(), size - 2));
    (keys > MOST_KEYS || bytes > MOST_BYTES).then(|| TooMuch { path: path.to_owned(), keys, bytes, longest })
}

/// How many bytes a text takes in the JSON that the server stores, its quotes included.
pub(crate) fn stored(text: &str) -> usize {
    2 + text.chars().map(escaped).sum::<usize>()
}

/// How many a character takes there. The JSON is Go's: with `<`, `>` and `&` escaped.
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

    #[test]
    fn keys_are_counted() {
        let told = |count: usize| {
            let keys: Vec<String> = (0..count).map(|number| format!("K{number}")).collect();
            check("secret/chat", keys.iter().map(|key| (key.as_str(), 3)))
        };
        assert_eq!(told(498), None);
        let told = told(499).unwrap();
        assert!(told.has_too_many_keys());
        assert!(
            told.to_string()
                .starts_with("the secret secret/chat would hold 499 keys, and a server takes 498")
        );
    }

    #[test]
    fn bytes_are_counted_as_the_server_stores_them() {
        let told = |text: &str| check("secret/chat", std::iter::once(("K", stored(text))));
        // {"K":"…"} is eight bytes beside the value.
        assert_eq!(told(&"v".repeat(MOST_BYTES - 8)), None);
        let told_of = told(&"v".repeat(MOST_BYTES - 7)).unwrap().to_string();
        assert!(
            told_of.contains("would take 1048065 bytes") && told_of.contains("that of K, with 1048057;"),
            "{told_of}"
        );
        // As many of each fill 1048320 bytes of the value that OpenBao takes at the most.
        for (text, count) in
            [("x", 1_048_320), ("<", 174_720), ("\u{2028}", 174_720), ("\n", 524_160), ("é", 524_160)]
        {
            assert_eq!(stored(&text.repeat(count)), 1_048_322, "{text:?}");
        }
    }
}
