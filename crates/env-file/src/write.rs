//! From keys and values to a file whose reader sees exactly the same bytes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretSlice, SecretString};
use zeroize::Zeroizing;

use crate::error::{UnknownDialect, WriteError};

/// For which reader a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `env_file:` of Docker Compose. Single quotes wherever they can hold the value.
    Compose,
    /// `docker run --env-file`: raw lines, no quoting, no way to write a line break.
    Docker,
    /// Any POSIX shell, by `set -a; . FILE`.
    Sh,
    /// `EnvironmentFile=` of systemd.
    Systemd,
    /// One JSON object of strings.
    Json,
}

impl Dialect {
    /// The names, as `--format` takes them.
    pub const VALUES: &[&str] = &["compose", "docker", "sh", "systemd", "json"];
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::VALUES[*self as usize])
    }
}

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(name: &str) -> Result<Self, UnknownDialect> {
        [Self::Compose, Self::Docker, Self::Sh, Self::Systemd, Self::Json]
            .into_iter()
            .find(|dialect| dialect.to_string() == name)
            .ok_or(UnknownDialect { expected: Self::VALUES })
    }
}

/// Writes `entries` in their order, as a file that ends in a line feed.
pub fn write<'a>(
    dialect: Dialect,
    entries: impl IntoIterator<Item = (&'a str, &'a SecretString)>,
) -> Result<SecretSlice<u8>, WriteError> {
    let entries: Vec<(&str, &str)> =
        entries.into_iter().map(|(key, value)| (key, value.expose_secret())).collect();
    let mut seen = BTreeSet::new();
    for (key, value) in &entries {
        check_key(dialect, key)?;
        check_value(dialect, key, value)?;
        if !seen.insert(*key) {
            return Err(WriteError::Duplicate { key: (*key).to_owned() });
        }
    }
    let longest = entries.iter().map(|(key, value)| LONGEST_ESCAPE * (key.len() + value.len()) + 8).sum();
    // Room for everything at once: a buffer that grows leaves copies of secrets behind.
    let mut out = Zeroizing::new(String::with_capacity(longest));
    if dialect == Dialect::Json {
        write_json(&mut out, &entries);
    } else {
        for (key, value) in entries {
            write_line(&mut out, dialect, key, value);
        }
    }
    Ok(SecretSlice::from(out.as_bytes().to_vec()))
}

/// What one byte grows to at most: `\u0001` in JSON.
const LONGEST_ESCAPE: usize = 6;

/// Docker reads lines with a buffer of this size, line feed included (Go's `bufio.MaxScanTokenSize`).
const DOCKER_LONGEST_LINE: usize = 64 * 1024;

fn check_key(dialect: Dialect, key: &str) -> Result<(), WriteError> {
    let name = |first_digit: bool, more: &str| {
        !key.is_empty()
            && (first_digit || !key.starts_with(|c: char| c.is_ascii_digit()))
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || more.contains(c))
    };
    let (valid, why) = match dialect {
        Dialect::Json => (true, ""),
        Dialect::Compose | Dialect::Docker => {
            (name(true, ".-"), "it takes only ASCII letters, digits, `_`, `.` and `-`")
        }
        Dialect::Sh | Dialect::Systemd => {
            (name(false, ""), "it takes only ASCII letters, digits and `_`, no digit first")
        }
    };
    let invalid = || WriteError::InvalidKey { key: key.to_owned(), dialect, why };
    if valid { Ok(()) } else { Err(invalid()) }
}

fn check_value(dialect: Dialect, key: &str, value: &str) -> Result<(), WriteError> {
    let why = match dialect {
        Dialect::Json => None,
        _ if value.contains('\0') => Some("no environment variable can hold a NUL character"),
        Dialect::Docker if value.contains('\n') => Some("it has no way to write a line break"),
        Dialect::Docker if value.ends_with('\r') => Some("its reader drops a carriage return at the end"),
        Dialect::Docker if key.len() + value.len() + 2 > DOCKER_LONGEST_LINE => {
            Some("its reader takes no line of more than 64 KiB")
        }
        Dialect::Systemd if value.contains(is_noncharacter) => {
            Some("its reader refuses byte order marks and Unicode noncharacters")
        }
        _ => None,
    };
    match why {
        Some(why) => Err(WriteError::Uncarriable { key: key.to_owned(), dialect, why }),
        None => Ok(()),
    }
}

/// What systemd.exec(5) excludes from an `EnvironmentFile=`.
fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{feff}' | '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

fn write_line(out: &mut String, dialect: Dialect, key: &str, value: &str) {
    out.push_str(key);
    out.push('=');
    match dialect {
        Dialect::Compose if fits_single_quotes(value) => {
            out.push('\'');
            out.push_str(value);
            out.push('\'');
        }
        // Single quotes escape nothing in systemd's reader, and did in older ones: double quotes in all.
        Dialect::Compose => write_quoted(out, value, |c| match c {
            '\\' => Some(r"\\"),
            '"' => Some(r#"\""#),
            '$' => Some(r"\$"),
            '\r' => Some(r"\r"),
            _ => None,
        }),
        Dialect::Systemd => write_quoted(out, value, |c| match c {
            '\\' => Some(r"\\"),
            '"' => Some(r#"\""#),
            '$' => Some(r"\$"),
            '`' => Some(r"\`"),
            _ => None,
        }),
        Dialect::Sh => {
            out.push('\'');
            push_escaped(out, value, |c| (c == '\'').then_some(r"'\''"));
            out.push('\'');
        }
        Dialect::Docker | Dialect::Json => out.push_str(value),
    }
    out.push('\n');
}

/// Whether Compose and python-dotenv both take the value from between single quotes as it stands.
///
/// Both know `\'` there, and an odd backslash before the closing quote would escape it.
fn fits_single_quotes(value: &str) -> bool {
    !value.contains(['\'', '\r']) && !value.contains(r"\\") && !value.ends_with('\\')
}

fn write_quoted(out: &mut String, value: &str, escape: impl Fn(char) -> Option<&'static str>) {
    out.push('"');
    push_escaped(out, value, escape);
    out.push('"');
}

fn push_escaped(out: &mut String, value: &str, escape: impl Fn(char) -> Option<&'static str>) {
    let mut plain = 0;
    for (at, c) in value.char_indices() {
        if let Some(escaped) = escape(c) {
            out.push_str(&value[plain..at]);
            out.push_str(escaped);
            plain = at + c.len_utf8();
        }
    }
    out.push_str(&value[plain..]);
}

/// RFC 8259; everything beyond ASCII stands for itself.
fn write_json(out: &mut String, entries: &[(&str, &str)]) {
    out.push('{');
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_json_string(out, key);
        out.push(':');
        push_json_string(out, value);
    }
    out.push_str("}\n");
}

fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str(r#"\""#),
            '\\' => out.push_str(r"\\"),
            '\n' => out.push_str(r"\n"),
            '\r' => out.push_str(r"\r"),
            '\t' => out.push_str(r"\t"),
            c if c < ' ' => {
                out.push_str(r"\u00");
                out.extend(
                    [c as u32 >> 4, c as u32 & 0xf].map(|nibble| char::from_digit(nibble, 16).unwrap_or('0')),
                );
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
