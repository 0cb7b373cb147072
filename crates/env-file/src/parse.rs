//! From the bytes of a .env file to its keys and values.

mod compose;
mod lex;
mod literal;
mod strict;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use secrecy::SecretString;

use crate::error::{Fault, ParseError, ParseErrors, UnknownDialect};
use lex::{Lexer, Statement};

/// By which reader's rules a file is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadDialect {
    /// What Docker Compose, python-dotenv and dotenvy read alike, in the versions in use; what one of them reads
    /// differently is refused.
    ///
    /// What dotenvy alone refuses, aloud, is taken: it knows no unquoted value with spaces, and no name with `-`.
    #[default]
    Strict,
    /// As Docker Compose reads it (compose-go's dotenv, 2.26 to 2.40), with one difference: references are filled
    /// in from earlier lines of the file alone, never from the process environment.
    Compose,
    /// `KEY=VALUE` lines, each value taken byte for byte: the format of `docker run --env-file`.
    Literal,
}

impl ReadDialect {
    /// The names, as `--dialect` takes them.
    pub const VALUES: &[&str] = &["strict", "compose", "literal"];
}

impl fmt::Display for ReadDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::VALUES[*self as usize])
    }
}

impl FromStr for ReadDialect {
    type Err = UnknownDialect;

    fn from_str(name: &str) -> Result<Self, UnknownDialect> {
        [Self::Strict, Self::Compose, Self::Literal]
            .into_iter()
            .find(|dialect| dialect.to_string() == name)
            .ok_or(UnknownDialect { expected: Self::VALUES })
    }
}

/// The keys and values of a file, in its order; no key occurs twice.
#[derive(Debug, Default)]
pub struct EnvFile {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

/// One key and its value.
#[derive(Debug)]
pub struct Entry {
    /// The name.
    pub key: String,
    /// The value, unquoted and unescaped.
    pub value: SecretString,
    /// The line of the key, from 1.
    pub line: usize,
}

impl EnvFile {
    /// The entries in the order of their lines.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of `key`.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.index.get(key).map(|&index| &self.entries[index])
    }

    /// Adds an entry, or gives back the line of the one that has its key already.
    fn insert(&mut self, entry: Entry) -> Result<(), usize> {
        if let Some(earlier) = self.entry(&entry.key) {
            return Err(earlier.line);
        }
        self.index.insert(entry.key.clone(), self.entries.len());
        self.entries.push(entry);
        Ok(())
    }

    /// Adds an entry, or puts it in the place of the one that has its key already.
    fn replace(&mut self, entry: Entry) {
        if let Some(&index) = self.index.get(&entry.key) {
            self.entries[index] = entry;
        } else {
            self.index.insert(entry.key.clone(), self.entries.len());
            self.entries.push(entry);
        }
    }
}

/// Reads `bytes` as `dialect` says. `path` only names the file in errors.
///
/// All faults are told at once. Lines that end in CRLF are accepted, and so is a leading byte order mark, save by
/// strict reading.
pub fn parse(bytes: &[u8], path: &Path, dialect: ReadDialect) -> Result<EnvFile, ParseErrors> {
    let (file, errors) = parse_past_faults(bytes, path, dialect);
    errors.map_or(Ok(file), Err)
}

/// Reads as [`parse`] does, and gives what can be read besides the faults: for one who looks on.
#[must_use]
pub fn parse_past_faults(bytes: &[u8], path: &Path, dialect: ReadDialect) -> (EnvFile, Option<ParseErrors>) {
    let unmarked = bytes.strip_prefix("\u{feff}".as_bytes());
    let mark = unmarked.filter(|_| dialect == ReadDialect::Strict);
    let mark = mark.map(|_| Refusal::of_file(0, Fault::ByteOrderMark));
    let bytes = unmarked.unwrap_or(bytes);
    let (text, whole) = match str::from_utf8(bytes) {
        Ok(text) => (text, unreadable(text, dialect)),
        Err(error) => {
            // What precedes the first bad byte is UTF-8: `valid_up_to` says so.
            let valid = str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            (valid, Some(Refusal::of_file(valid.len(), Fault::NotUtf8)))
        }
    };
    let lines = Lines::of(text);
    let mut file = EnvFile::default();
    let found = match whole {
        Some(refusal) => vec![refusal],
        None if dialect == ReadDialect::Literal => literal::read(text, &lines, &mut file),
        None => read(text, dialect, &lines, &mut file),
    };
    let errors: Vec<ParseError> =
        mark.into_iter().chain(found).map(|refusal| refusal.at(&lines, path)).collect();
    let errors = (!errors.is_empty()).then_some(ParseErrors(errors));
    (file, errors)
}

/// What makes a file unreadable as a whole, so that the rest of it is not looked at.
fn unreadable(text: &str, dialect: ReadDialect) -> Option<Refusal> {
    if let Some(offset) = text.find('\0') {
        return Some(Refusal::of_file(offset, Fault::Nul));
    }
    let ends_line = |offset: usize| matches!(text.as_bytes().get(offset + 1), None | Some(b'\n'));
    let (offset, _) = text.match_indices('\r').find(|&(offset, _)| !ends_line(offset))?;
    (dialect == ReadDialect::Strict).then(|| Refusal::of_file(offset, Fault::LoneCarriageReturn))
}

fn read(text: &str, dialect: ReadDialect, lines: &Lines<'_>, file: &mut EnvFile) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut astray = false;
    for statement in Lexer::new(text, dialect) {
        let taken = statement.and_then(|statement| take(&statement, dialect, lines, file));
        if let Err(mut refusal) = taken {
            if astray {
                refusal.key = None;
            }
            // From here on, what looks like a key may be a line of the value whose quotes are wrong.
            astray |=
                matches!(refusal.fault, Fault::Unterminated | Fault::TextAfterQuote | Fault::UnquotedBlock);
            refusals.push(refusal);
        }
    }
    refusals
}

fn take(
    statement: &Statement<'_>,
    dialect: ReadDialect,
    lines: &Lines<'_>,
    file: &mut EnvFile,
) -> Result<(), Refusal> {
    let refused = |offset, fault| Refusal { offset, key: Some(statement.key.to_owned()), fault };
    let value = match dialect {
        ReadDialect::Compose => compose::value(&statement.value, file),
        ReadDialect::Strict | ReadDialect::Literal => strict::value(&statement.value),
    };
    let value = value.map_err(|(offset, fault)| refused(statement.value.offset + offset, fault))?;
    let entry = Entry { key: statement.key.to_owned(), value, line: lines.line(statement.offset) };
    if dialect == ReadDialect::Compose {
        file.replace(entry);
        return Ok(());
    }
    file.insert(entry).map_err(|first| refused(statement.offset, Fault::Duplicate { first }))
}

/// A fault and its place, in bytes from the start of the text.
struct Refusal {
    offset: usize,
    key: Option<String>,
    fault: Fault,
}

impl Refusal {
    fn of_file(offset: usize, fault: Fault) -> Self {
        Self { offset, key: None, fault }
    }

    fn at(self, lines: &Lines<'_>, path: &Path) -> ParseError {
        let line = lines.line(self.offset);
        let column = lines.column(self.offset);
        ParseError { path: path.to_owned(), line, column, key: self.key, fault: self.fault }
    }
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(offset, _)| offset + 1);
        Self { text, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|&start| start <= offset)
    }

    fn column(&self, offset: usize) -> usize {
        self.text[self.starts[self.line(offset) - 1]..offset].chars().count() + 1
    }
}
