//! What can be wrong with a file or a value, and how to mend it. No text here holds a byte of a value.

use std::fmt;
use std::path::PathBuf;

use crate::Dialect;

/// Everything that is wrong with a file, in the order of its lines.
#[derive(Debug, PartialEq, Eq)]
pub struct ParseErrors(pub(crate) Vec<ParseError>);

impl ParseErrors {
    /// The errors, at least one.
    pub fn iter(&self) -> impl Iterator<Item = &ParseError> {
        self.0.iter()
    }
}

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ParseErrors {}

/// One fault and where it lies.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {}{fault}", path.display(), key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
pub struct ParseError {
    /// The file, as the caller named it.
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The key whose value it is. Absent where what stands in its place may be part of a value.
    pub key: Option<String>,
    /// Why, and how to write it instead.
    pub fault: Fault,
}

/// Why a place in a file is refused, and how to write it instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Bytes that are no UTF-8.
    #[error("not UTF-8 text; save the file as UTF-8")]
    NotUtf8,
    /// U+0000, which no environment variable can hold.
    #[error("a NUL character, which no environment variable can hold; remove it, or save the file as UTF-8")]
    Nul,
    /// U+FEFF at the start, which python-dotenv before 1.2 takes into the first name.
    #[error(
        "a byte order mark, which some readers take for a part of the first name; save the file as UTF-8 without it"
    )]
    ByteOrderMark,
    /// A carriage return that ends no line: Compose takes it into the value, python-dotenv ends the line there.
    #[error("a carriage return in the middle of a line; end lines with LF or CRLF")]
    LoneCarriageReturn,
    /// A line without `=`. Compose would look such a key up in its own environment.
    #[error(
        "no `=` on this line; write KEY=value, put `#` before a comment, and quote a value of several lines"
    )]
    NoEquals,
    /// Nothing before `=`.
    #[error("no name before `=`; write KEY=value")]
    NoKey,
    /// A name with other characters than the readers take.
    #[error("the name before `=` may hold only ASCII letters, digits, `_`, `.` and `-`; write KEY=value")]
    InvalidKey,
    /// `KEY: value`, which Compose alone reads.
    #[error("Compose alone reads `KEY: value`; write KEY=value")]
    YamlStyle,
    /// The same key twice.
    #[error("set before, on line {first}; keep one of the two")]
    Duplicate {
        /// The line of the earlier one.
        first: usize,
    },
    /// A quote that is never closed.
    #[error(
        "the quote that opens the value is never closed; close it, and inside single quotes write \\' for '"
    )]
    Unterminated,
    /// Text after the closing quote.
    #[error(
        "text after the closing quote; quote the whole value, and inside double quotes write \\\" for \""
    )]
    TextAfterQuote,
    /// A PEM block over several unquoted lines.
    #[error("a value of several lines without quotes; put the whole block in double quotes")]
    UnquotedBlock,
    /// A tab before `#`: Compose takes the comment into the value.
    #[error("Compose knows no comment after a tab; put a space before `#`, or the value in quotes")]
    TabBeforeComment,
    /// `KEY=#text`: dotenvy takes the text as a comment, and python-dotenv does where a blank precedes it.
    #[error(
        "`#` right after `=`: a value to some readers, a comment to others; quote the value, or write KEY=''"
    )]
    LeadingHash,
    /// `KEY="value"#text`: dotenvy takes the text into the value.
    #[error("dotenvy knows no comment right behind a closing quote; put a space before `#`")]
    CommentTouchesQuote,
    /// Control characters and blanks beyond ASCII, trimmed by some readers and kept by others.
    #[error("a control character or an unusual blank outside quotes; put the value in quotes")]
    UnusualBlank,
    /// Quotes and backslashes within a value without quotes, as in JSON: dotenvy takes them for syntax.
    #[error(
        "dotenvy takes away a quote or a backslash in a value without quotes; put the whole value in quotes"
    )]
    UnquotedSyntax,
    /// `$` outside single quotes: Compose and dotenvy expand it, python-dotenv does not.
    #[error("some readers expand a `$` here and some do not; put the value in single quotes")]
    Dollar,
    /// `${…}` outside single quotes: expanded, from different environments.
    #[error(
        "`${{` here is filled in from the reader's own environment; write the value out, or read the file with --dialect compose"
    )]
    Reference,
    /// `${…}` in single quotes: python-dotenv expands even there.
    #[error(
        "python-dotenv fills in `${{…}}` even in single quotes and Compose does not; no way to write it is read alike by both: read the file with --dialect compose"
    )]
    QuotedReference,
    /// `\\` in single quotes: two backslashes to Compose, one to python-dotenv.
    #[error(
        "two backslashes in single quotes are two to Compose and one to python-dotenv; use double quotes and write \\\\ for each"
    )]
    SingleQuotedBackslashes,
    /// `\'` in single quotes with one of `#`, `$` or a line break behind it: dotenvy ends the value there.
    #[error(
        "dotenvy ends a value in single quotes at \\'; use double quotes, or for a value with `$` besides, --dialect compose"
    )]
    EscapedQuoteInSingle,
    /// `\'` in double quotes: Compose keeps the backslash.
    #[error("Compose keeps the backslash of \\' in double quotes; write ' alone there")]
    EscapedSingleQuote,
    /// `\$` in double quotes: python-dotenv keeps the backslash.
    #[error("python-dotenv keeps the backslash of \\$ in double quotes; put the value in single quotes")]
    EscapedDollar,
    /// A backslash before a space in double quotes: dotenvy drops it.
    #[error("dotenvy drops a backslash before a space in double quotes; for a backslash write \\\\")]
    EscapedSpace,
    /// `\0` in double quotes, which every reader takes in its own way.
    #[error("`\\0` in double quotes is read differently by every reader; for a backslash write \\\\")]
    OctalEscape,
    /// A backslash before the closing quote: python-dotenv up to 1.1 reads past it.
    #[error(
        "python-dotenv before 1.2 may read on past a closing quote after a backslash; no way to write such a value is read alike by all: read the file with --dialect compose"
    )]
    BackslashBeforeQuote,
    /// CRLF inside quotes: Compose keeps the carriage return, python-dotenv does not.
    #[error(
        "a line end of CRLF inside quotes, whose carriage return Compose keeps and python-dotenv drops; save the file with LF"
    )]
    CrlfInQuotes,
    /// A reference to a key that no earlier line sets. The name is told only where it is in braces: what
    /// follows a bare `$` may be a piece of a password.
    #[error(
        "{} no earlier line of this file sets, and the process environment is never read; set it above, or put the value in single quotes",
        .name.as_ref().map_or_else(|| "`$` is followed by a name that".to_owned(), |name| format!("`{name}`, which"))
    )]
    Undefined {
        /// The name between the braces.
        name: Option<String>,
    },
    /// `${NAME:?…}` or `${NAME?…}` of a key that no earlier line sets, or sets to nothing.
    #[error(
        "`{name}` has to be set here, and no earlier line of this file does that; the process environment is never read; set it above"
    )]
    Missing {
        /// The name between the braces.
        name: String,
    },
    /// A `${` that is not closed, or is followed by no name or an unknown operator.
    #[error(
        "`${{` that Compose cannot expand; close it with `}}` on the same line, after a name, or put the value in single quotes"
    )]
    InvalidReference,
    /// References that make a value longer than Vault can hold.
    #[error("references expand to more than 1 MiB; write the value out")]
    ExpandsTooFar,
    /// `${A:-${B:-…}}`, deeper than any file needs.
    #[error("references nested too deeply; write the value out")]
    NestedTooDeep,
}

/// A value that a dialect cannot carry to its reader unchanged, or a key that it has no name for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The dialect has no way to write this value.
    #[error(
        "the value of `{key}` cannot be written in the {dialect} dialect: {why}; use another dialect, or a file of its own"
    )]
    Uncarriable {
        /// Its key.
        key: String,
        /// The dialect asked for.
        dialect: Dialect,
        /// What stands in the way.
        why: &'static str,
    },
    /// The dialect's reader would not take this name.
    #[error("`{key}` cannot be a name in the {dialect} dialect: {why}; rename the key")]
    InvalidKey {
        /// The key.
        key: String,
        /// The dialect asked for.
        dialect: Dialect,
        /// What a name must be.
        why: &'static str,
    },
    /// One key with two values.
    #[error("`{key}` is given twice; rename or leave out one of them")]
    Duplicate {
        /// The key.
        key: String,
    },
}

/// A word that names no dialect.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown dialect; expected one of: {}", expected.join(", "))]
pub struct UnknownDialect {
    pub(crate) expected: &'static [&'static str],
}
