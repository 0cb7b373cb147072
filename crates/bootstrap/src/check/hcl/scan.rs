//! From text to tokens.

use super::NotUnderstood;

/// A token and where it begins, in bytes.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) offset: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Word(String),
    Quoted(String),
    Heredoc(String),
    Number,
    /// One of `{}[],=`; JSON's `:` is a `=`.
    Punctuation(char),
    End,
}

pub(super) struct Scanner<'a> {
    text: &'a str,
    json: bool,
    offset: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, json: bool) -> Self {
        Self { text, json, offset: 0 }
    }

    pub(super) fn next(&mut self) -> Result<Token, NotUnderstood> {
        self.skip_blanks_and_comments()?;
        let offset = self.offset;
        let Some(first) = self.rest().chars().next() else { return Ok(Token { kind: Kind::End, offset }) };
        let kind = match first {
            '"' => self.quoted()?,
            '<' if !self.json => self.heredoc()?,
            '{' | '}' | '[' | ']' | ',' => self.punctuation(first),
            '=' if !self.json => self.punctuation('='),
            ':' if self.json => self.punctuation('='),
            '-' | '0'..='9' => {
                self.skip_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'));
                Kind::Number
            }
            c if c == '_' || c.is_alphabetic() => Kind::Word(
                self.skip_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')).to_owned(),
            ),
            _ => return Err(NotUnderstood { offset, wanted: "another character" }),
        };
        Ok(Token { kind, offset })
    }

    fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    fn skip_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let skipped = &rest[..rest.find(|c| !belongs(c)).unwrap_or(rest.len())];
        self.offset += skipped.len();
        skipped
    }

    fn punctuation(&mut self, mark: char) -> Kind {
        self.offset += 1;
        Kind::Punctuation(mark)
    }

    fn skip_blanks_and_comments(&mut self) -> Result<(), NotUnderstood> {
        loop {
            self.skip_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
            let rest = self.rest();
            // JSON has none.
            if self.json {
                return Ok(());
            }
            if let Some(comment) = rest.strip_prefix("/*") {
                let unended = NotUnderstood { offset: self.offset, wanted: "`*/` behind this" };
                self.offset += 2 + comment.find("*/").ok_or(unended)? + 2;
            } else if rest.starts_with('#') || rest.starts_with("//") {
                self.skip_while(|c| c != '\n');
            } else {
                return Ok(());
            }
        }
    }

    /// A text in quotes. Within `${…}`, which servers leave as it stands, quotes end nothing.
    fn quoted(&mut self) -> Result<Kind, NotUnderstood> {
        let start = self.offset;
        let unended = NotUnderstood { offset: start, wanted: "a text that ends on its line" };
        let mut text = String::new();
        let mut braces = 0_usize;
        let mut chars = self.text[start + 1..].char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let opens = c == '$' && braces == 0 && chars.peek().is_some_and(|(_, next)| *next == '{');
            match c {
                '"' if braces == 0 => {
                    self.offset = start + 1 + at + 1;
                    return Ok(Kind::Quoted(text));
                }
                '\n' if braces == 0 => return Err(unended),
                '\\' => {
                    let mut escaped = || chars.next().map(|(_, c)| c);
                    let wanted = "another escape";
                    let offset = start + 1 + at;
                    text.push(escape(&mut escaped).ok_or(NotUnderstood { offset, wanted })?);
                    continue;
                }
                '{' if braces > 0 => braces += 1,
                '}' if braces > 0 => braces -= 1,
                _ => {}
            }
            text.push(c);
            if opens {
                chars.next();
                text.push('{');
                braces = 1;
            }
        }
        Err(unended)
    }

    /// `<<ANCHOR`, lines, and a line with nothing but the anchor.
    fn heredoc(&mut self) -> Result<Kind, NotUnderstood> {
        let unended =
            NotUnderstood { offset: self.offset, wanted: "`<<NAME`, lines and a line with NAME alone" };
        let behind = self.rest().strip_prefix("<<").ok_or(unended)?;
        let (head, lines) = behind.split_once('\n').ok_or(unended)?;
        let head = head.trim_end_matches('\r');
        let anchor = head.strip_prefix('-').unwrap_or(head);
        if anchor.is_empty() || !anchor.chars().all(|c| c == '_' || c.is_alphanumeric()) {
            return Err(unended);
        }
        let mut length = 0;
        for line in lines.split_inclusive('\n') {
            if line.trim() == anchor {
                let text = lines[..length].to_owned();
                self.offset = self.text.len() - lines.len() + length + line.trim_end().len();
                return Ok(Kind::Heredoc(text));
            }
            length += line.len();
        }
        Err(unended)
    }
}

/// What follows a backslash.
fn escape(next: &mut dyn FnMut() -> Option<char>) -> Option<char> {
    let first = next()?;
    let (mut code, radix, more) = match first {
        'a' => return Some('\u{7}'),
        'b' => return Some('\u{8}'),
        'f' => return Some('\u{c}'),
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'v' => return Some('\u{b}'),
        '\\' | '"' => return Some(first),
        '0'..='7' => (first.to_digit(8)?, 8, 2),
        'x' => (0, 16, 2),
        'u' => (0, 16, 4),
        'U' => (0, 16, 8),
        _ => return None,
    };
    for _ in 0..more {
        code = code.checked_mul(radix)?.checked_add(next()?.to_digit(radix)?)?;
    }
    char::from_u32(code)
}
