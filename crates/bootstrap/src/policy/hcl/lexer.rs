//! Characters into tokens.

use std::iter::Peekable;
use std::str::Chars;

use super::SyntaxError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `path`, `capabilities`.
    Name(String),
    /// In double quotes.
    Text(String),
    /// `<<END` and the lines until `END`.
    Heredoc(String),
    /// A number, `true` or `false`.
    Literal,
    Equals,
    Comma,
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
    column: usize,
}

impl Token {
    pub(super) fn instead_of(&self, wanted: &str) -> SyntaxError {
        let found = match &self.kind {
            Kind::Name(name) => name.clone(),
            Kind::Text(text) => format!("{text:?}"),
            Kind::Heredoc(_) => "<<".to_owned(),
            Kind::Literal => "a number or truth value".to_owned(),
            Kind::Equals => "=".to_owned(),
            Kind::Comma => "a comma".to_owned(),
            Kind::OpenBrace => "{".to_owned(),
            Kind::CloseBrace => "}".to_owned(),
            Kind::OpenBracket => "[".to_owned(),
            Kind::CloseBracket => "]".to_owned(),
            Kind::End => "the end of the text".to_owned(),
        };
        self.error(format!("{found} where {wanted} belongs"))
    }

    pub(super) fn error(&self, what: String) -> SyntaxError {
        SyntaxError { line: self.line, column: self.column, what }
    }
}

pub(super) struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
    column: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.chars().peekable(), line: 1, column: 1 }
    }

    pub(super) fn token(&mut self) -> Result<Token, SyntaxError> {
        self.skip_blanks_and_comments()?;
        let (line, column) = (self.line, self.column);
        let kind = self.kind()?;
        Ok(Token { kind, line, column })
    }

    fn kind(&mut self) -> Result<Kind, SyntaxError> {
        let start = Token { kind: Kind::End, line: self.line, column: self.column };
        let Some(letter) = self.rest.peek().copied() else { return Ok(Kind::End) };
        if begins_name(letter) {
            let name =
                self.take_while(|letter| begins_name(letter) || is_digit(letter) || "-.".contains(letter));
            return Ok(if matches!(name.as_str(), "true" | "false") {
                Kind::Literal
            } else {
                Kind::Name(name)
            });
        }
        if is_digit(letter) || letter == '-' {
            self.take_while(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
            return Ok(Kind::Literal);
        }
        self.take();
        match letter {
            '"' => self.text(&start).map(Kind::Text),
            '<' if self.rest.peek() == Some(&'<') => self.heredoc(&start).map(Kind::Heredoc),
            '=' => Ok(Kind::Equals),
            ',' => Ok(Kind::Comma),
            '{' => Ok(Kind::OpenBrace),
            '}' => Ok(Kind::CloseBrace),
            '[' => Ok(Kind::OpenBracket),
            ']' => Ok(Kind::CloseBracket),
            '\'' => Err(start.error("a single quote; texts stand in double quotes".to_owned())),
            other => Err(start.error(format!("{other:?} has no meaning here"))),
        }
    }

    /// The rest of a text whose opening quote is taken. Within `${…}` it goes on past quotes and line ends, and
    /// nothing is an escape.
    fn text(&mut self, start: &Token) -> Result<String, SyntaxError> {
        let (mut text, mut braces, mut dollar) = (String::new(), 0_usize, false);
        loop {
            let (line, column) = (self.line, self.column);
            let at = |what: &str| SyntaxError { line, column, what: what.to_owned() };
            let letter = match self.take() {
                None => return Err(start.error("a text without its closing quote".to_owned())),
                Some('\n') if braces == 0 => return Err(at("a line end within a text")),
                Some('"') if braces == 0 => return Ok(text),
                Some('\\') if braces == 0 => {
                    text.push(self.escape().ok_or_else(|| at("an escape that is not known"))?);
                    dollar = false;
                    continue;
                }
                Some(letter) => letter,
            };
            match letter {
                '{' if braces > 0 || dollar => braces += 1,
                '}' if braces > 0 => braces -= 1,
                _ => {}
            }
            dollar = letter == '$';
            text.push(letter);
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Option<char> {
        let letter = self.take()?;
        let (digits, radix) = match letter {
            'a' => return Some('\x07'),
            'b' => return Some('\x08'),
            'f' => return Some('\x0c'),
            'n' => return Some('\n'),
            'r' => return Some('\r'),
            't' => return Some('\t'),
            'v' => return Some('\x0b'),
            '\\' | '"' => return Some(letter),
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (2, 8),
            _ => return None,
        };
        let mut code = if radix == 8 { letter.to_digit(8)? } else { 0 };
        for _ in 0..digits {
            code = code.checked_mul(radix)?.checked_add(self.take()?.to_digit(radix)?)?;
        }
        char::from_u32(code)
    }

    /// Behind the first `<`: another, perhaps a dash, a word, and the lines until one that is that word alone.
    fn heredoc(&mut self, start: &Token) -> Result<String, SyntaxError> {
        self.take();
        if self.rest.peek() == Some(&'-') {
            self.take();
        }
        let word = self.take_while(|letter| begins_name(letter) || is_digit(letter));
        let rest = self.take_line();
        if word.is_empty() || rest.is_none_or(|rest| !rest.trim_end_matches('\r').is_empty()) {
            return Err(start.error("<< without a word that stands alone behind it".to_owned()));
        }
        let mut text = String::new();
        while let Some(line) = self.take_line() {
            if line.trim_start().trim_end_matches('\r') == word {
                return Ok(text);
            }
            text.push_str(&line);
            text.push('\n');
        }
        Err(start.error(format!("<<{word} without a line that ends it")))
    }

    fn skip_blanks_and_comments(&mut self) -> Result<(), SyntaxError> {
        loop {
            let start = Token { kind: Kind::End, line: self.line, column: self.column };
            match self.rest.peek() {
                Some(' ' | '\t' | '\r' | '\n') => {
                    self.take();
                }
                Some('#') => {
                    self.take_line();
                }
                Some('/') => {
                    self.take();
                    match self.take() {
                        Some('/') => {
                            self.take_line();
                        }
                        Some('*') => self.skip_block_comment(&start)?,
                        _ => return Err(start.error("a slash that begins no comment".to_owned())),
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn skip_block_comment(&mut self, start: &Token) -> Result<(), SyntaxError> {
        while let Some(letter) = self.take() {
            if letter == '*' && self.rest.peek() == Some(&'/') {
                self.take();
                return Ok(());
            }
        }
        Err(start.error("/* without its */".to_owned()))
    }

    /// The rest of the line without its end, which is taken too; `None` at the end of the text.
    fn take_line(&mut self) -> Option<String> {
        self.rest.peek()?;
        let line = self.take_while(|letter| letter != '\n');
        self.take();
        Some(line)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(letter) = self.rest.peek().copied().filter(|letter| wanted(*letter)) {
            taken.push(letter);
            self.take();
        }
        taken
    }

    fn take(&mut self) -> Option<char> {
        let letter = self.rest.next()?;
        if letter == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(letter)
    }
}

fn begins_name(letter: char) -> bool {
    letter == '_' || letter.is_alphabetic()
}

fn is_digit(letter: char) -> bool {
    letter.is_numeric()
}
