//! From text to statements: where a key ends, where its value begins, which quotes hold it.
//!
//! The readers agree on all of this except where a [`Fault`] says otherwise.

use super::{ReadDialect, Refusal};
use crate::error::Fault;

/// One `KEY=value`, the value as written.
pub(super) struct Statement<'a> {
    pub(super) key: &'a str,
    /// Where the key begins.
    pub(super) offset: usize,
    pub(super) value: Written<'a>,
}

/// A value as written: what stands between its quotes, or without quotes the rest of the line.
pub(super) struct Written<'a> {
    pub(super) quote: Quote,
    pub(super) text: &'a str,
    /// Where `text` begins.
    pub(super) offset: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quote {
    None,
    Single,
    Double,
}

/// A certificate or the longest key in use is half as long.
const LONGEST_BLOCK: usize = 16 * 1024;

/// The statements of a text and the places that are none, each once and in order.
pub(super) struct Lexer<'a> {
    text: &'a str,
    dialect: ReadDialect,
    /// What may follow a key and precede a value; in strict reading, the blanks that all readers trim there.
    blanks: &'static [char],
    offset: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, dialect: ReadDialect) -> Self {
        let blanks: &[char] = match dialect {
            ReadDialect::Compose => &[' ', '\t', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{a0}'],
            ReadDialect::Strict | ReadDialect::Literal => &[' ', '\t'],
        };
        Self { text, dialect, blanks, offset: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    /// Moves behind the next `separator` at or after `from`, or to the end.
    fn skip_past(&mut self, from: usize, separator: &str) {
        self.offset =
            self.text[from..].find(separator).map_or(self.text.len(), |found| from + found + separator.len());
    }

    fn skip_blank_lines_and_comments(&mut self) {
        loop {
            self.offset = self.text.len() - self.rest().trim_start().len();
            if !self.rest().starts_with('#') {
                return;
            }
            self.skip_past(self.offset, "\n");
        }
    }

    /// Reads the statement that begins here, and moves behind the lines that it takes.
    fn statement(&mut self) -> Result<Statement<'a>, Refusal> {
        let begin = self.offset;
        let line = self.rest().split('\n').next().unwrap_or_default();
        self.skip_past(begin, "\n");
        let name_at = begin + export_prefix(line, self.blanks);
        let separator = line[name_at - begin..]
            .find(['=', ':'])
            .map(|found| found + name_at)
            .ok_or(Refusal::of_file(begin, Fault::NoEquals))?;
        let key = self.text[name_at..separator].trim_end_matches(self.blanks);
        check_key(key, self.dialect).map_err(|fault| Refusal::of_file(name_at, fault))?;
        let refuse = |offset, fault| Refusal { offset, key: Some(key.to_owned()), fault };
        if self.text[separator..].starts_with(':') && self.dialect != ReadDialect::Compose {
            return Err(refuse(separator, Fault::YamlStyle));
        }
        let value = self.value(separator + 1).map_err(|(offset, fault)| refuse(offset, fault))?;
        Ok(Statement { key, offset: name_at, value })
    }

    /// Reads the value that follows the separator, `from` being the place behind it.
    fn value(&mut self, from: usize) -> Result<Written<'a>, (usize, Fault)> {
        let trimmed = self.text[from..].trim_start_matches(self.blanks);
        let at = self.text.len() - trimmed.len();
        let quote = match trimmed.as_bytes().first() {
            Some(b'\'') => Quote::Single,
            Some(b'"') => Quote::Double,
            _ => {
                let text = trimmed.split('\n').next().unwrap_or_default();
                if text.starts_with("-----BEGIN ") && begins_block(trimmed) {
                    self.skip_block(at);
                    return Err((at, Fault::UnquotedBlock));
                }
                return Ok(Written { quote: Quote::None, text, offset: at });
            }
        };
        let text = &trimmed[1..];
        let closing = closing_quote(text, trimmed.as_bytes()[0]).ok_or((at, Fault::Unterminated))?;
        let behind = at + 1 + closing + 1;
        self.skip_past(behind, "\n");
        let tail = &self.text[behind..self.offset];
        if !tail.trim_start().is_empty() && !tail.trim_start().starts_with('#') {
            return Err((behind, Fault::TextAfterQuote));
        }
        if tail.starts_with('#') && self.dialect == ReadDialect::Strict {
            return Err((behind, Fault::CommentTouchesQuote));
        }
        Ok(Written { quote, text: &text[..closing], offset: at + 1 })
    }

    /// Moves behind a PEM block, so that its lines are not taken for statements.
    fn skip_block(&mut self, from: usize) {
        self.skip_past(from, "\n-----END ");
        self.skip_past(self.offset, "\n");
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Result<Statement<'a>, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_blank_lines_and_comments();
        (!self.rest().is_empty()).then(|| self.statement())
    }
}

/// Whether the line at the start of `text` is followed by the body and the end of a PEM block; else it is a value
/// like any other.
fn begins_block(text: &str) -> bool {
    let second = text.lines().nth(1).unwrap_or_default();
    let is_base64 = |line: &str| line.bytes().all(|c| c.is_ascii_alphanumeric() || b"+/=".contains(&c));
    let is_body = !second.is_empty() && (is_base64(second) || second.contains(": "));
    is_body && text[..text.floor_char_boundary(LONGEST_BLOCK)].contains("\n-----END ")
}

/// The length of `export` and the blanks after it, or 0 where the line has no such prefix.
fn export_prefix(line: &str, blanks: &[char]) -> usize {
    match line.strip_prefix("export") {
        Some(rest) if rest.starts_with(blanks) => line.len() - rest.trim_start_matches(blanks).len(),
        _ => 0,
    }
}

/// Compose takes brackets as well; python-dotenv takes nearly anything.
fn check_key(key: &str, dialect: ReadDialect) -> Result<(), Fault> {
    let bracket = |c| dialect == ReadDialect::Compose && matches!(c, '[' | ']');
    if key.is_empty() {
        Err(Fault::NoKey)
    } else if key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') || bracket(c)) {
        Ok(())
    } else {
        Err(Fault::InvalidKey)
    }
}

/// Where the first `quote` stands that no backslash escapes.
fn closing_quote(text: &str, quote: u8) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == quote && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}
