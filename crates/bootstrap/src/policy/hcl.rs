//! HCL as the servers read policies: its first version.
//!
//! The second, which the crates for it read, takes other texts: it refuses two settings on one line and a comma
//! behind one, which policies in use have. What is read here follows `hashicorp/hcl` 1.0, `parser` and `scanner`.

mod lexer;

use lexer::{Kind, Lexer, Token};

/// A key or several, and what stands behind: `path "secret/data/user" { … }`, `capabilities = […]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// At least one.
    pub(super) keys: Vec<String>,
    pub(super) value: Value,
    /// From 1.
    pub(super) line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Object(Vec<Item>),
    List(Vec<Value>),
    Text(String),
    /// A number or a truth value.
    Other,
}

/// A text that is no HCL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is there, and what could be.
    pub what: String,
}

/// How deep objects and lists may lie within each other: far deeper than in any policy.
const MAX_DEPTH: usize = 32;

/// Reads a whole text.
pub(super) fn parse(text: &str) -> Result<Vec<Item>, SyntaxError> {
    let mut parser = Parser { lexer: Lexer::new(text), next: None, depth: 0 };
    let items = parser.items()?;
    let token = parser.take()?;
    if token.kind == Kind::End { Ok(items) } else { Err(token.instead_of("a key, such as path")) }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    next: Option<Token>,
    depth: usize,
}

impl Parser<'_> {
    /// Items until the end or a closing brace, which is left; a comma may stand behind each.
    fn items(&mut self) -> Result<Vec<Item>, SyntaxError> {
        let mut items = Vec::new();
        while !matches!(self.peek()?.kind, Kind::End | Kind::CloseBrace) {
            items.push(self.item()?);
            if self.peek()?.kind == Kind::Comma {
                self.take()?;
            }
        }
        Ok(items)
    }

    fn item(&mut self) -> Result<Item, SyntaxError> {
        let line = self.peek()?.line;
        let mut keys = Vec::new();
        let value = loop {
            let token = self.take()?;
            match token.kind {
                Kind::Name(key) | Kind::Text(key) => keys.push(key),
                Kind::Equals if keys.len() == 1 => {
                    let token = self.take()?;
                    break self.value(token)?;
                }
                Kind::OpenBrace if !keys.is_empty() => break self.object(&token)?,
                _ if keys.is_empty() => return Err(token.instead_of("a key, such as path")),
                _ if keys.len() == 1 => return Err(token.instead_of("= or {")),
                _ => return Err(token.instead_of("{")),
            }
        };
        Ok(Item { keys, value, line })
    }

    fn value(&mut self, token: Token) -> Result<Value, SyntaxError> {
        match token.kind {
            Kind::Text(text) | Kind::Heredoc(text) => Ok(Value::Text(text)),
            Kind::Literal => Ok(Value::Other),
            Kind::OpenBrace => self.object(&token),
            Kind::OpenBracket => self.list(&token),
            _ => Err(token.instead_of("a value in double quotes, a list or a number")),
        }
    }

    /// An object behind its opening brace.
    fn object(&mut self, open: &Token) -> Result<Value, SyntaxError> {
        self.deeper(open)?;
        let items = self.items()?;
        let token = self.take()?;
        self.depth -= 1;
        if token.kind == Kind::CloseBrace {
            Ok(Value::Object(items))
        } else {
            Err(token.instead_of(&format!("}} for the {{ of line {}", open.line)))
        }
    }

    /// A list behind its opening bracket.
    fn list(&mut self, open: &Token) -> Result<Value, SyntaxError> {
        self.deeper(open)?;
        let (mut values, mut needs_comma) = (Vec::new(), false);
        loop {
            let token = self.take()?;
            match token.kind {
                Kind::CloseBracket => break,
                Kind::Comma => needs_comma = false,
                _ if needs_comma => return Err(token.instead_of("a comma or ]")),
                _ => {
                    values.push(self.value(token)?);
                    needs_comma = true;
                }
            }
        }
        self.depth -= 1;
        Ok(Value::List(values))
    }

    fn deeper(&mut self, open: &Token) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(open.error(format!("more than {MAX_DEPTH} braces and brackets within each other")));
        }
        Ok(())
    }

    fn peek(&mut self) -> Result<&Token, SyntaxError> {
        let token = match self.next.take() {
            Some(token) => token,
            None => self.lexer.token()?,
        };
        Ok(self.next.insert(token))
    }

    fn take(&mut self) -> Result<Token, SyntaxError> {
        match self.next.take() {
            Some(token) => Ok(token),
            None => self.lexer.token(),
        }
    }
}
