//! From text to tokens.

use super::SyntaxError;

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
    /// A number or a truth value.
    Literal,
    /// JSON's.
    Null,
    /// One of `{}[],=`; JSON's `:` is a `=`.
    Punctuation(char),
    End,
}

impl Token {
    /// An opening brace.
    pub(super) fn open(offset: usize) -> Self {
        Self { kind: Kind::Punctuation('{'), offset }
    }

    pub(super) fn instead_of(&self, wanted: &str) -> SyntaxError {
        let found = match &self.kind {
            Kind::Word(name) => name.clone(),
            Kind::Quoted(text) => format!("{text:?}"),
            Kind::Heredoc(_) => "<<".to_owned(),
            Kind::Literal => "a number or truth value".to_owned(),
            Kind::Null => "null".to_owned(),
            Kind::Punctuation(',') => "a comma".to_owned(),
            Kind::Punctuation(mark) => mark.to_string(),
            Kind::End => "the end of the text".to_owned(),
        };
        SyntaxError::new(self.offset, format!("{found} where {wanted} belongs"))
    }
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

    pub(super) fn next(&mut self) -> Result<Token, SyntaxError> {
        self.skip_blanks_and_comments()?;
        let offset = self.offset;
        let Some(first) = self.rest().chars().next() else { return Ok(Token { kind: Kind::End, offset }) };
        let kind = match first {
            '"' => Kind::Quoted(self.quoted()?),
            '<' if !self.json && self.rest().starts_with("<<") => Kind::Heredoc(self.heredoc()?),
            '{' | '}' | '[' | ']' | ',' => self.punctuation(first),
            '=' if !self.json => self.punctuation('='),
            ':' if self.json => self.punctuation('='),
            '-' | '0'..='9' => {
                self.skip_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'));
                Kind::Literal
            }
            c if begins_name(c) => {
                match self.skip_while(|c| begins_name(c) || c.is_numeric() || matches!(c, '-' | '.')) {
                    "true" | "false" => Kind::Literal,
                    "null" if self.json => Kind::Null,
                    word => Kind::Word(word.to_owned()),
                }
            }
            '\'' => {
                return Err(SyntaxError::new(offset, "a single quote; texts stand in double quotes"));
            }
            other => return Err(SyntaxError::new(offset, format!("{other:?} has no meaning here"))),
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

    fn skip_blanks_and_comments(&mut self) -> Result<(), SyntaxError> {
        loop {
            self.skip_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
            let rest = self.rest();
            // JSON has none.
            if self.json {
                return Ok(());
            }
            if let Some(comment) = rest.strip_prefix("/*") {
                let unended = || SyntaxError::new(self.offset, "/* without its */");
                self.offset += 2 + comment.find("*/").ok_or_else(unended)? + 2;
            } else if rest.starts_with('#') || rest.starts_with("//") {
                self.skip_while(|c| c != '\n');
            } else {
                return Ok(());
            }
        }
    }

    /// A text in quotes. Within `${…}`, which servers leave as it stands, quotes and line ends end nothing.
    fn quoted(&mut self) -> Result<String, SyntaxError> {
        let start = self.offset;
        let (mut text, mut braces, mut dollar) = (String::new(), 0_usize, false);
        let mut chars = self.text[start + 1..].char_indices();
        while let Some((at, c)) = chars.next() {
            let at = start + 1 + at;
            match c {
                '"' if braces == 0 => {
                    self.offset = at + 1;
                    return Ok(text);
                }
                '\n' if braces == 0 => return Err(SyntaxError::new(at, "a line end within a text")),
                '\\' => {
                    let meant = escape(&mut || chars.next().map(|(_, c)| c))
                        .ok_or_else(|| SyntaxError::new(at, "an escape that is not known"))?;
                    if braces == 0 {
                        text.push(meant);
                    } else {
                        text.push_str(&self.text[at..self.text.len() - chars.as_str().len()]);
                    }
                    dollar = false;
                    continue;
                }
                '{' if braces > 0 || dollar => braces += 1,
                '}' if braces > 0 => braces -= 1,
                _ => {}
            }
            dollar = c == '$';
            text.push(c);
        }
        Err(SyntaxError::new(start, "a text without its closing quote"))
    }

    /// `<<ANCHOR`, lines, and a line with nothing but the anchor.
    fn heredoc(&mut self) -> Result<String, SyntaxError> {
        let unnamed = || SyntaxError::new(self.offset, "<< without a word that stands alone behind it");
        let (head, lines) = self.rest()[2..].split_once('\n').ok_or_else(unnamed)?;
        let head = head.strip_suffix('\r').unwrap_or(head);
        let anchor = head.strip_prefix('-').unwrap_or(head);
        if anchor.is_empty() || !anchor.chars().all(|c| begins_name(c) || c.is_numeric()) {
            return Err(unnamed());
        }
        let mut length = 0;
        for line in lines.split_inclusive('\n') {
            let Some(content) = line.strip_suffix('\n') else { break };
            // Servers pass over a line that is shorter than all that stands behind the `<<`, the dash included.
            if content.len() >= head.len() && content.trim_start().trim_end_matches('\r') == anchor {
                self.offset = self.text.len() - lines.len() + length + content.len();
                return Ok(lines[..length].to_owned());
            }
            length += line.len();
        }
        Err(SyntaxError::new(self.offset, format!("<<{anchor} without a line that is {anchor} alone")))
    }
}

fn begins_name(letter: char) -> bool {
    letter == '_' || letter.is_alphabetic()
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
