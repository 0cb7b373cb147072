//! Random values, for keys that nobody has to know.

use secrecy::SecretString;
use zeroize::Zeroize as _;

use crate::manifest::GenerateSpec;

/// A value as `spec` says, each character of the alphabet as likely as any other.
pub(crate) fn value(spec: &GenerateSpec) -> Result<SecretString, getrandom::Error> {
    let alphabet: Vec<char> = spec.alphabet.chars().collect();
    let mut value = String::with_capacity(spec.length);
    while value.len() < spec.length {
        let Some(letter) = alphabet.get(index_below(alphabet.len())?) else { break };
        value.push(*letter);
    }
    let secret = SecretString::from(value.as_str());
    value.zeroize();
    Ok(secret)
}

/// A random number below `count`, at most 256. What lies beyond the last whole multiple is drawn again:
/// taking the remainder would favour the first letters.
fn index_below(count: usize) -> Result<usize, getrandom::Error> {
    let fair = 256 - 256 % count.clamp(1, 256);
    loop {
        let mut byte = [0];
        getrandom::fill(&mut byte)?;
        if usize::from(byte[0]) < fair {
            return Ok(usize::from(byte[0]) % count.max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn as_long_as_told_and_every_letter_alike() {
        let spec = GenerateSpec { env_key: "K".to_owned(), length: 30_000, alphabet: "abc".to_owned() };
        let value = value(&spec).unwrap();
        let mut counts = BTreeMap::new();
        for letter in value.expose_secret().chars() {
            *counts.entry(letter).or_insert(0) += 1;
        }
        assert_eq!(value.expose_secret().len(), 30_000);
        // Ten standard deviations around the mean.
        assert!(
            counts.len() == 3 && counts.values().all(|count| (9_180..10_820).contains(count)),
            "{counts:?}"
        );
    }
}
