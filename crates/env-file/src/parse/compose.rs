//! Values as Docker Compose reads them (compose-go, `dotenv/parser.go` and `template/template.go`).

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::EnvFile;
use super::lex::{Quote, Written};
use super::strict::push_escape;
use crate::error::Fault;

/// `${A:-${B:-…}}` may go this deep.
const DEEPEST: usize = 16;

/// What references may make of a value, in bytes: a few lines that double each other would fill the memory.
const LONGEST: usize = 1 << 20;

/// The value, or the offset within `written.text` of what cannot be read. References are filled in from `earlier`.
pub(super) fn value(written: &Written<'_>, earlier: &EnvFile) -> Result<SecretString, (usize, Fault)> {
    let text = written.text;
    match written.quote {
        Quote::None => {
            let before_comment = text.split(" #").next().unwrap_or_default();
            expand(before_comment.trim_end(), earlier)
        }
        Quote::Single => {
            let pieces: Vec<&str> = intersperse(text.split(r"\'"), "'");
            Ok(joined(&pieces))
        }
        Quote::Double => expand(&unescape(text)?, earlier).map_err(|(_, fault)| (0, fault)),
    }
}

fn intersperse<'a>(pieces: impl Iterator<Item = &'a str>, between: &'a str) -> Vec<&'a str> {
    pieces.flat_map(|piece| [between, piece]).skip(1).collect()
}

/// Resolves escapes; `\$` becomes `$$`, which is how an expansion spells a dollar sign.
fn unescape(text: &str) -> Result<Zeroizing<String>, (usize, Fault)> {
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some(backslash) = rest.find('\\') {
        value.push_str(&rest[..backslash]);
        let behind = &rest[backslash + 1..];
        let escaped = behind.chars().next();
        let length = match escaped {
            Some('0') => {
                let digits = behind[1..].bytes().take(3).take_while(u8::is_ascii_digit).count();
                if !push_octal(&mut value, &behind[1..=digits]) {
                    return Err((text.len() - behind.len() - 1, Fault::Nul));
                }
                1 + digits
            }
            Some('$') => {
                value.push_str("$$");
                1
            }
            escaped => {
                push_escape(&mut value, escaped);
                escaped.map_or(0, char::len_utf8)
            }
        };
        rest = &behind[length..];
    }
    value.push_str(rest);
    Ok(value)
}

/// Appends what `\0` and these digits stand for: the character of three octal ones, else the text without
/// the `0`. False for NUL.
fn push_octal(value: &mut String, digits: &str) -> bool {
    let code = if digits.len() == 3 { u8::from_str_radix(digits, 8).ok() } else { None };
    if let Some(code) = code {
        value.push(char::from(code));
    } else {
        value.push('\\');
        value.push_str(digits);
    }
    code != Some(0)
}

fn expand(text: &str, earlier: &EnvFile) -> Result<SecretString, (usize, Fault)> {
    let mut pieces = Vec::new();
    Expansion { text, earlier }.run(0..text.len(), 0, &mut pieces)?;
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    if length > text.len().max(LONGEST) {
        return Err((0, Fault::ExpandsTooFar));
    }
    Ok(joined(&pieces))
}

/// In one allocation, so that no copy of a value is left behind.
fn joined(pieces: &[&str]) -> SecretString {
    SecretString::from(Zeroizing::new(pieces.concat()).as_str())
}

struct Expansion<'a> {
    text: &'a str,
    earlier: &'a EnvFile,
}

impl<'a> Expansion<'a> {
    /// Appends what the part of the text in `range` stands for.
    fn run(
        &self,
        range: std::ops::Range<usize>,
        depth: usize,
        pieces: &mut Vec<&'a str>,
    ) -> Result<(), (usize, Fault)> {
        if depth > DEEPEST {
            return Err((range.start, Fault::NestedTooDeep));
        }
        let (mut at, end) = (range.start, range.end);
        while let Some(found) = self.text[at..end].find('$') {
            let dollar = at + found;
            pieces.push(&self.text[at..dollar]);
            let rest = &self.text[dollar + 1..end];
            at = match rest.as_bytes().first() {
                Some(b'$') => {
                    pieces.push("$");
                    dollar + 2
                }
                Some(b'{') => {
                    let close = closing_brace(rest).ok_or((dollar, Fault::InvalidReference))?;
                    self.reference(dollar, dollar + 2..dollar + 1 + close, depth, pieces)?;
                    dollar + 1 + close + 1
                }
                _ => {
                    let name = name_at_start(rest);
                    let undefined = (dollar, Fault::Undefined { name: None });
                    pieces.push(match name {
                        "" => "$",
                        name => self.lookup(name).ok_or(undefined)?,
                    });
                    dollar + 1 + name.len()
                }
            };
        }
        pieces.push(&self.text[at..end]);
        Ok(())
    }

    /// Appends what `${inner}` stands for: a name, and perhaps an operator and its word.
    fn reference(
        &self,
        dollar: usize,
        inner: std::ops::Range<usize>,
        depth: usize,
        pieces: &mut Vec<&'a str>,
    ) -> Result<(), (usize, Fault)> {
        let text = &self.text[inner.clone()];
        let name = name_at_start(text);
        let behind = &text[name.len()..];
        let operator = [":-", ":?", ":+", "-", "?", "+"].into_iter().find(|known| behind.starts_with(known));
        // Compose finds a reference by a pattern that ends with the line.
        if name.is_empty() || operator.is_none() && !behind.is_empty() || behind.contains('\n') {
            return Err((dollar, Fault::InvalidReference));
        }
        let word = inner.end - behind.len() + operator.map_or(0, str::len)..inner.end;
        let set = self.lookup(name);
        let filled = set.filter(|value| !value.is_empty());
        let undefined = || (dollar, Fault::Undefined { name: Some(name.to_owned()) });
        let missing = || (dollar, Fault::Missing { name: name.to_owned() });
        let value = match operator {
            None => Some(set.ok_or_else(undefined)?),
            Some("?") => Some(set.ok_or_else(missing)?),
            Some(":?") => Some(filled.ok_or_else(missing)?),
            Some("-") => set,
            Some(":-") => filled,
            Some("+") if set.is_none() => Some(""),
            Some(":+") if filled.is_none() => Some(""),
            Some(_) => None,
        };
        let Some(value) = value else { return self.run(word, depth + 1, pieces) };
        pieces.push(value);
        // Compose expands the word even where it has no use for it. What is merely not set is blank to it.
        match self.run(word, depth + 1, &mut Vec::new()) {
            Err((_, Fault::Undefined { .. })) => Ok(()),
            unused => unused,
        }
    }

    fn lookup(&self, name: &str) -> Option<&'a str> {
        self.earlier.entry(name).map(|entry| entry.value.expose_secret())
    }
}

/// The name that `text` begins with, perhaps none.
fn name_at_start(text: &str) -> &str {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let name = &text[..text.find(ends).unwrap_or(text.len())];
    if name.starts_with(|c: char| c.is_ascii_digit()) { "" } else { name }
}

/// Where the brace that opens at the start of `text` closes, others within it being skipped.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    text.bytes().enumerate().position(|(at, byte)| {
        match byte {
            b'{' if at == 0 || text.as_bytes()[at - 1] == b'$' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        depth == 0
    })
}
