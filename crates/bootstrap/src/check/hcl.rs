//! The syntax of policies, as servers read it: HCL 1, or JSON where the text begins with `{`.
//!
//! HCL 2 is another language: its parsers refuse `,` between attributes, `["read",,]` and JSON, all of which
//! servers take. What is not understood here is therefore not wrong: the server decides.

mod scan;

use std::fmt;

use scan::{Kind, Scanner, Token};

/// One `key "label" … = value` or `key "label" … { … }`.
#[derive(Debug)]
pub(super) struct Item {
    /// At least one; the second and those behind it are labels.
    pub(super) keys: Vec<Text>,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Text(Text),
    List(Vec<Value>),
    Object(Vec<Item>),
    /// A number, a truth value or nothing.
    Other,
}

/// A name or a text, unquoted, and where it begins, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) offset: usize,
}

/// A place that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotUnderstood {
    /// In bytes.
    pub(super) offset: usize,
    pub(super) wanted: &'static str,
}

impl fmt::Display for NotUnderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was expected here", self.wanted)
    }
}

/// Whether `text` is read as JSON.
pub(super) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// The items of `text`, JSON's outermost braces aside.
pub(super) fn parse(text: &str) -> Result<Vec<Item>, NotUnderstood> {
    let json = is_json(text);
    let mut parser = Parser { scanner: Scanner::new(text, json), json, depth: 0 };
    if !json {
        return parser.items(&Kind::End);
    }
    parser.expect(&Kind::Punctuation('{'), "`{`")?;
    // Servers take no notice of what follows the brace that closes it all.
    parser.items(&Kind::Punctuation('}'))
}

/// Objects and lists may go this deep; what is deeper is no policy.
const DEEPEST: usize = 32;

struct Parser<'a> {
    scanner: Scanner<'a>,
    json: bool,
    depth: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Result<Token, NotUnderstood> {
        self.scanner.next()
    }

    fn expect(&mut self, kind: &Kind, wanted: &'static str) -> Result<(), NotUnderstood> {
        let token = self.next()?;
        if token.kind == *kind { Ok(()) } else { Err(NotUnderstood { offset: token.offset, wanted }) }
    }

    /// The items up to `end`, which is read too. A comma may follow each.
    fn items(&mut self, end: &Kind) -> Result<Vec<Item>, NotUnderstood> {
        let mut items = Vec::new();
        let mut token = self.next()?;
        while token.kind != *end {
            items.push(self.item(token)?);
            token = self.next()?;
            if token.kind == Kind::Punctuation(',') {
                token = self.next()?;
            }
        }
        Ok(items)
    }

    fn item(&mut self, first: Token) -> Result<Item, NotUnderstood> {
        let mut keys = Vec::new();
        let mut token = first;
        loop {
            match token.kind {
                Kind::Word(_) if self.json => {
                    return Err(NotUnderstood { offset: token.offset, wanted: "a name in quotes" });
                }
                Kind::Word(text) | Kind::Quoted(text) => {
                    keys.push(Text { text, offset: token.offset });
                }
                Kind::Punctuation('=') if keys.len() == 1 => {
                    let token = self.next()?;
                    return Ok(Item { keys, value: self.value(token)? });
                }
                Kind::Punctuation('{') if !keys.is_empty() && !self.json => {
                    return Ok(Item { keys, value: self.object(token.offset)? });
                }
                _ => return Err(NotUnderstood { offset: token.offset, wanted: "a name, `=` or `{`" }),
            }
            token = self.next()?;
        }
    }

    fn value(&mut self, token: Token) -> Result<Value, NotUnderstood> {
        match token.kind {
            Kind::Quoted(text) | Kind::Heredoc(text) => Ok(Value::Text(Text { text, offset: token.offset })),
            Kind::Number => Ok(Value::Other),
            Kind::Word(word) if ["true", "false"].contains(&word.as_str()) => Ok(Value::Other),
            Kind::Punctuation('{') => self.object(token.offset),
            Kind::Punctuation('[') => self.nested(token.offset, Self::list),
            _ => Err(NotUnderstood { offset: token.offset, wanted: "a value" }),
        }
    }

    fn object(&mut self, offset: usize) -> Result<Value, NotUnderstood> {
        self.nested(offset, |parser| parser.items(&Kind::Punctuation('}')).map(Value::Object))
    }

    fn list(&mut self) -> Result<Value, NotUnderstood> {
        let mut values = Vec::new();
        let mut separated = true;
        loop {
            let token = self.next()?;
            match token.kind {
                Kind::Punctuation(']') => return Ok(Value::List(values)),
                // Servers take several commas for one.
                Kind::Punctuation(',') => separated = true,
                _ if separated => {
                    values.push(self.value(token)?);
                    separated = false;
                }
                _ => return Err(NotUnderstood { offset: token.offset, wanted: "`,` or `]`" }),
            }
        }
    }

    fn nested(
        &mut self,
        offset: usize,
        read: impl FnOnce(&mut Self) -> Result<Value, NotUnderstood>,
    ) -> Result<Value, NotUnderstood> {
        if self.depth == DEEPEST {
            return Err(NotUnderstood { offset, wanted: "less depth" });
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Items in a form of their own.
    fn shown(items: &[Item]) -> String {
        let shown = items.iter().map(|item| {
            let keys: Vec<&str> = item.keys.iter().map(|key| key.text.as_str()).collect();
            format!("{}={}", keys.join("."), value(&item.value))
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    fn value(value: &Value) -> String {
        match value {
            Value::Text(text) => format!("{:?}", text.text),
            Value::List(values) => format!("[{}]", values.iter().map(self::value).collect::<String>()),
            Value::Object(items) => format!("{{{}}}", shown(items)),
            Value::Other => "_".to_owned(),
        }
    }

    #[test]
    fn what_servers_take_is_read() {
        let read = |text: &str| shown(&parse(text).unwrap());
        assert_eq!(
            read("path \"a/b\" { capabilities = [\"read\",,\"list\",], x = 1 }, y = 0x1f"),
            "path.a/b={capabilities=[\"read\"\"list\"] x=_} y=_"
        );
        assert_eq!(read("# {\na /* } */ = \"b\" // c\n"), "a=\"b\"");
        assert_eq!(read("a = <<E\none\n  E\nb = -1.5e3 c-d.e = true"), "a=\"one\\n\" b=_ c-d.e=_");
        assert_eq!(read(r#"a = "${f("x{}")} \" \x41 \u00e4 \101""#), r#"a="${f(\"x{}\")} \" A ä A""#);
        assert_eq!(read(r#"{"a": {"b": [1, {"c": "d"},]}, "e": false}"#), "a={b=[_{c=\"d\"}]} e=_");
        assert_eq!(read(" "), "");
    }

    #[test]
    fn a_place_is_told() {
        let refused = |text: &str| parse(text).map(|items| shown(&items)).unwrap_err();
        assert_eq!(refused("path \"a\" = {}").offset, 9);
        assert_eq!(refused("a = [\"b\" \"c\"]").offset, 9);
        assert_eq!(refused("a = 'b'").offset, 4);
        assert_eq!(refused("a = \"b").offset, 4);
        assert_eq!(refused("a = <<E\nb").offset, 4);
        assert_eq!(refused("a { b = 1").to_string(), "a name, `=` or `{` was expected here");
        assert_eq!(refused("a = ").wanted, "a value");
        assert_eq!(refused(&format!("a = {}", "[".repeat(1000))).wanted, "less depth");
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in r#"([a-z{}\[\]=,"$#/*<E \n\\]|path|é){0,60}"#) {
            if let Err(error) = parse(&text) {
                prop_assert!(text.is_char_boundary(error.offset), "{error:?}");
            }
        }
    }
}
