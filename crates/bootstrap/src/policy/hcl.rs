//! The syntax of policies, as servers read it: HCL 1, or JSON where the text begins with `{`.
//!
//! HCL 2 is another language: its parsers refuse `,` between attributes, `["read",,]` and JSON, all of which
//! servers take. What is read here follows `hashicorp/hcl` 1.0: its `parser`, `scanner` and `json`.

mod scan;

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
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) offset: usize,
}

/// A place that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(crate) struct SyntaxError {
    /// In bytes.
    pub(crate) offset: usize,
    /// What is there, and what could be.
    pub(crate) what: String,
}

impl SyntaxError {
    pub(super) fn new(offset: usize, what: impl Into<String>) -> Self {
        Self { offset, what: what.into() }
    }
}

/// Whether `text` is read as JSON.
pub(crate) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// The items of `text`, JSON's outermost braces aside.
pub(super) fn parse(text: &str) -> Result<Vec<Item>, SyntaxError> {
    let json = is_json(text);
    let mut parser = Parser { scanner: Scanner::new(text, json), json, depth: 0 };
    if !json {
        return parser.items(&Kind::End, None);
    }
    let open = parser.next()?;
    // Servers take no notice of what follows the brace that closes it all.
    parser.items(&Kind::Punctuation('}'), Some(&open))
}

/// Objects and lists may go this deep; what is deeper is no policy.
const DEEPEST: usize = 32;

struct Parser<'a> {
    scanner: Scanner<'a>,
    json: bool,
    depth: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Result<Token, SyntaxError> {
        self.scanner.next()
    }

    /// The items up to `end`, which is read too. A comma may follow each.
    fn items(&mut self, end: &Kind, open: Option<&Token>) -> Result<Vec<Item>, SyntaxError> {
        let mut items = Vec::new();
        let mut token = self.next()?;
        // In JSON the end of the text closes what is open, to servers as well.
        while token.kind != *end && !(self.json && token.kind == Kind::End) {
            items.push(self.item(token, open)?);
            token = self.next()?;
            if token.kind == Kind::Punctuation(',') {
                token = self.next()?;
            }
        }
        Ok(items)
    }

    fn item(&mut self, first: Token, open: Option<&Token>) -> Result<Item, SyntaxError> {
        let mut keys = Vec::new();
        let mut token = first;
        loop {
            match (token.kind, keys.len()) {
                (Kind::Word(_), _) if self.json => {
                    return Err(SyntaxError::new(token.offset, "a name without its double quotes"));
                }
                (Kind::Word(text) | Kind::Quoted(text), _) => keys.push(Text { text, offset: token.offset }),
                (Kind::Punctuation('='), 1) => {
                    let token = self.next()?;
                    return Ok(Item { keys, value: self.value(token)? });
                }
                (Kind::Punctuation('{'), 1..) if !self.json => {
                    return Ok(Item { keys, value: self.object(&Token::open(token.offset))? });
                }
                (kind, count) => {
                    let token = Token { kind, offset: token.offset };
                    return Err(match (count, open) {
                        (0, Some(open)) if token.kind == Kind::End => {
                            SyntaxError::new(open.offset, "a { without its }")
                        }
                        (0, _) => token.instead_of("a key, such as path,"),
                        (1, _) if self.json => token.instead_of(":"),
                        (1, _) => token.instead_of("= or {"),
                        (_, _) => token.instead_of("{"),
                    });
                }
            }
            token = self.next()?;
        }
    }

    fn value(&mut self, token: Token) -> Result<Value, SyntaxError> {
        match token.kind {
            Kind::Quoted(text) | Kind::Heredoc(text) => Ok(Value::Text(Text { text, offset: token.offset })),
            Kind::Literal | Kind::Null => Ok(Value::Other),
            Kind::Punctuation('{') => self.object(&token),
            Kind::Punctuation('[') => self.nested(&token, Self::list),
            _ => Err(token.instead_of("a value in double quotes, a list or a number")),
        }
    }

    fn object(&mut self, open: &Token) -> Result<Value, SyntaxError> {
        self.nested(open, |parser| parser.items(&Kind::Punctuation('}'), Some(open)).map(Value::Object))
    }

    fn list(&mut self) -> Result<Value, SyntaxError> {
        let mut values = Vec::new();
        let mut separated = true;
        loop {
            let token = self.next()?;
            match token.kind {
                Kind::Punctuation(']') => return Ok(Value::List(values)),
                // Servers take several commas for one.
                Kind::Punctuation(',') => separated = true,
                // Which servers know behind a name alone.
                Kind::Null => return Err(token.instead_of("a value in double quotes, a list or a number")),
                _ if separated => {
                    values.push(self.value(token)?);
                    separated = false;
                }
                _ => return Err(token.instead_of("a comma or ]")),
            }
        }
    }

    fn nested(
        &mut self,
        open: &Token,
        read: impl FnOnce(&mut Self) -> Result<Value, SyntaxError>,
    ) -> Result<Value, SyntaxError> {
        if self.depth == DEEPEST {
            let what = format!("more than {DEEPEST} braces and brackets within each other");
            return Err(SyntaxError::new(open.offset, what));
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
        assert_eq!(read("a = <<-EE\nEE\n  EE\n"), "a=\"EE\\n\"");
        assert_eq!(read(r#"a = "${f("x{}")} \" \x41 \u00e4 \101""#), r#"a="${f(\"x{}\")} \" A ä A""#);
        assert_eq!(read(r#"a = "$${"\t"}\t""#), r#"a="$${\"\\t\"}\t""#);
        assert_eq!(read(r#"{"a": {"b": [1, {"c": "d"},]}, "e": null} more"#), "a={b=[_{c=\"d\"}]} e=_");
        assert_eq!(read(r#"{"a": {"b": {"c": 1,"#), "a={b={c=_}}");
        assert_eq!(read(" "), "");
    }

    #[test]
    fn a_place_is_told() {
        for (text, offset, what) in [
            ("path \"a\" = {}", 9, "= where { belongs"),
            ("a = [\"b\" \"c\"]", 9, "\"c\" where a comma or ] belongs"),
            ("a = 'b'", 4, "a single quote; texts stand in double quotes"),
            ("a = \"b", 4, "a text without its closing quote"),
            ("a = \"b\nc\"", 6, "a line end within a text"),
            ("a = \"\\q\"", 5, "an escape that is not known"),
            ("a = <<E\nb", 4, "<<E without a line that is E alone"),
            ("a = <<E f\nb", 4, "<< without a word that stands alone behind it"),
            ("a { b = 1", 2, "a { without its }"),
            ("a = ", 4, "the end of the text where a value in double quotes, a list or a number belongs"),
            ("a : b", 2, "':' has no meaning here"),
            ("a /* b", 2, "/* without its */"),
            ("a / b", 2, "'/' has no meaning here"),
            ("true = 1", 0, "a number or truth value where a key, such as path, belongs"),
            ("{\"a\" = 1}", 5, "'=' has no meaning here"),
            ("{a: 1}", 1, "a name without its double quotes"),
            ("{\"a\" {}}", 5, "{ where : belongs"),
            ("{\"a\": [null]}", 7, "null where a value in double quotes, a list or a number belongs"),
            ("{\"a\": [1", 8, "the end of the text where a comma or ] belongs"),
        ] {
            let error = parse(text).map(|items| shown(&items)).expect_err(text);
            assert_eq!((error.offset, error.what.as_str()), (offset, what), "{text}");
        }
        let deep = parse(&format!("a = {}", "[".repeat(100_000))).unwrap_err();
        assert_eq!(deep.what, "more than 32 braces and brackets within each other");
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in r#"([a-z{}\[\]=:,"$#/*<E \n\\]|path|é){0,60}"#) {
            if let Err(error) = parse(&text) {
                prop_assert!(text.is_char_boundary(error.offset), "{error:?}");
            }
        }
    }
}
